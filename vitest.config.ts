import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/longest_first.ts';

// Two workers: a test keeps one core busy on average, because it compiles, computes references and starts commands by turns with the
// software driver's threads. Forks, because Dawn's bindings do not share a process well.
export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    include: ['test/**/*.test.ts'],
    sequence: { sequencer: LongestFirst },
    testTimeout: 180_000,
    hookTimeout: 180_000,
    reporters: ['default'],
  },
});
