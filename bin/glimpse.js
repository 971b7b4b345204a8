#!/usr/bin/env node
// Runs the command line straight from its TypeScript sources, so that `npx glimpse` works right after `npm ci`.
import { register } from 'tsx/esm/api';

register();
await import('../src/cli/main.ts');
