/** The profiler: time per kernel, and a trace that Chrome reads. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { formatProfile, Profiler } from '../src/gpu/profiler.ts';
import { full, scope } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test('the profiler names kernels, sums their time, and gives a Chrome trace', async ({ skip }) => {
  using _s = scope();
  skip(!device.gpu.device.features.has('timestamp-query'), 'the adapter has no timestamps');
  const profiler = new Profiler(device.gpu.device);
  device.gpu.profiler = profiler;
  await ops.softmax(ops.matmul(full([64, 64], 1), full([64, 64], 1))).data();
  device.gpu.profiler = null;
  const table = await profiler.table();
  expect(table.map((row) => row.kernel).join()).toMatch(/matmul.*|softmax.*/);
  expect(table.reduce((sum, row) => sum + row.share, 0)).toBeCloseTo(1);
  expect(formatProfile(table)).toContain('GPU ms');
  expect(JSON.parse(await profiler.chromeTrace()).traceEvents.length).toBe(table.reduce((sum, row) => sum + row.calls, 0));
});
