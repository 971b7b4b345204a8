import { defineConfig } from 'vitest/config';

// One worker: the software drivers use every core already. Forks, because Dawn's bindings do not share a process well.
export default defineConfig({
  test: { pool: 'forks', maxWorkers: 1, include: ['test/**/*.test.ts'], testTimeout: 180_000, hookTimeout: 180_000, reporters: ['default'] },
});
