#!/usr/bin/env node
// Runs the command line: what was built, if that is newer than the sources; else straight from the TypeScript sources, so that
// `npx glimpse` works right after `npm ci`. In the project the benchmarks always run from the sources, as their peers do.
import { fileURLToPath } from 'node:url';
import { hasSources, isBuilt } from './built.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const peersNeedSources = process.argv[2] === 'bench' && hasSources(root);
if (!peersNeedSources && isBuilt(root)) {
  await import('../dist/src/cli/main.js');
} else {
  const { register } = await import('tsx/esm/api');
  register();
  await import('../src/cli/main.ts');
}
