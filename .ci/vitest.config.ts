/** All tests in one run, so that each worker has work to the end: those of the engine, and those of the site, which must be built. */
import { defineConfig } from 'vitest/config';
import { LongestFirst } from '../test/longest_first.ts';

export default defineConfig({
  test: { projects: ['vitest.config.ts', 'site/vitest.config.ts'], maxWorkers: 2, sequence: { sequencer: LongestFirst } },
});
