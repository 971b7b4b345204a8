/** The tests of the site, in a real browser. One file after the other, because the software driver uses every core. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { root: import.meta.dirname, include: ['test/**/*.test.ts'], pool: 'forks', maxWorkers: 1, testTimeout: 300_000, hookTimeout: 120_000 },
});
