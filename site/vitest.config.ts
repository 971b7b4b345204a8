/** The tests of the site, in a real browser. Two workers, as in the project's own configuration. */
import { defineConfig } from 'vitest/config';
import { LongestFirst } from '../test/longest_first.ts';

export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 300_000,
    hookTimeout: 120_000,
  },
});
