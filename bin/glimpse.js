#!/usr/bin/env node
// Runs the command line: what was built, if that is newer than the sources; else straight from the TypeScript sources, so that
// `npx glimpse` works right after `npm ci`. The benchmarks are no part of what is built.
import { fileURLToPath } from 'node:url';
import { isBuilt } from './built.js';

if (process.argv[2] !== 'bench' && isBuilt(fileURLToPath(new URL('..', import.meta.url)))) {
  await import('../dist/cli/main.js');
} else {
  const { register } = await import('tsx/esm/api');
  register();
  await import('../src/cli/main.ts');
}
