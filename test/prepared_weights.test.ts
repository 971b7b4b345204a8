/** Weights put in another order for a kernel are made again when they were written, and go with their buffer. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { forceVersion } from '../src/kernels/families.ts';
import { matmulFamily } from '../src/kernels/matmul.ts';
import { empty, full, memory, Scope, scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();
const WITHOUT_SUBGROUPS = 'no version prepares weights on an adapter without subgroups';

test('prepared weights are made anew when the weights were written, in a replay too, and go with them', async ({ skip }) => {
  const { gpu } = device;
  skip(gpu.subgroupWidth === 0, WITHOUT_SUBGROUPS);
  using _s = scope();
  const x = full([1, 6, 6, 3], 1); // three channels: weights are put in another order for versions that want them by fours
  const { buffersInUse } = memory();
  const w = tensor(new Float32Array(2 * 2 * 3 * 4).fill(1), [2, 2, 3, 4]);
  const convolve = () => {
    forceVersion('conv2d', 'subgroup_texels');
    const y = Scope.release(ops.conv2d(x, w, null, { stride: 2, layout: 'nhwc' }));
    forceVersion('conv2d', null);
    return y;
  };
  const { result, replay } = gpu.capture(convolve);
  const values = async () => new Set(await result.data());
  expect(await values()).toEqual(new Set([12]));
  const { dispatches } = gpu;
  replay.run();
  const unchanged = gpu.dispatches - dispatches;
  w.write(new Float32Array(2 * 2 * 3 * 4).fill(2));
  replay.run();
  expect(await values()).toEqual(new Set([24]));
  expect(unchanged).toBeLessThanOrEqual(2);
  const again = convolve();
  expect(new Set(await again.data())).toEqual(new Set([24]));
  for (const each of [again, result, w]) each.dispose();
  replay.dispose();
  expect(memory().buffersInUse).toBe(buffersInUse);
});

test('weights lie in panels once they are used again unchanged; a replay puts them so anew only after they were written', async ({ skip }) => {
  const { gpu } = device;
  skip(gpu.subgroupWidth === 0, WITHOUT_SUBGROUPS);
  using _s = scope();
  const [m, k, n] = [40, 8, 36];
  const a = full([m, k], 1);
  const w = tensor(new Float32Array(k * n).fill(1), [k, n]);
  const panels = matmulFamily.versions.find(({ name }) => name === 'subgroup_panels') as (typeof matmulFamily.versions)[number];
  const mayUsePanels = () => panels.unable(gpu, { a: a.slice, b: w.slice, c: a.slice, m, n, k, label: 'test' }) === null;
  expect([mayUsePanels(), mayUsePanels()], 'asking changes nothing').toEqual([false, false]);
  ops.matmul(a, w);
  expect(mayUsePanels()).toBe(true);
  w.write(new Float32Array(k * n).fill(2));
  expect(mayUsePanels()).toBe(false);

  const recorded: string[] = [];
  gpu.trace = ({ kernel }) => recorded.push(kernel.name);
  forceVersion('matmul', 'subgroup_panels');
  const { result, replay } = gpu.capture(() => Scope.release(ops.matmul(a, w)));
  forceVersion('matmul', null);
  replay.run();
  expect(recorded).toEqual(['column_panels', 'matmul_subgroup_texels', 'matmul_subgroup_texels']);
  expect(new Set(await result.data())).toEqual(new Set([16]));
  w.write(new Float32Array(k * n).fill(3));
  replay.run();
  gpu.trace = null;
  expect(recorded.slice(3)).toEqual(['column_panels', 'matmul_subgroup_texels']);
  expect(new Set(await result.data())).toEqual(new Set([24]));
  replay.dispose();
  result.dispose();
});

test('what is prepared within a capture lasts: the replay of another capture does not write there', async () => {
  using _s = scope();
  const { gpu } = device;
  const [x, w] = [tensor([1, 2, 3, 4]), tensor([5, 6, 7, 8])];
  const first = gpu.capture(() => {
    using _inner = scope();
    return Scope.release(ops.addScalar(ops.addScalar(x, 100), 1)); // the sum within is free for other captures afterwards
  });
  const second = gpu.capture(() => {
    const out = empty([4]);
    gpu.prepare(
      w.slice,
      'copy',
      16,
      (to) => gpu.copy(w.slice, to),
      (copied) => gpu.copy(copied, out.slice),
    );
    return Scope.release(out);
  });
  for (let round = 0; round < 3; round++) {
    first.replay.run();
    second.replay.run();
    expect([...(await first.result.data())]).toEqual([102, 103, 104, 105]);
    expect([...(await second.result.data())]).toEqual([5, 6, 7, 8]);
  }
  for (const { result, replay } of [first, second]) {
    result.dispose();
    replay.dispose();
  }
});

test('a replay writes no panels where others live: what a capture computes is not prepared', async ({ skip }) => {
  const { gpu } = device;
  skip(gpu.subgroupWidth === 0, WITHOUT_SUBGROUPS);
  using _s = scope();
  const [m, k, n] = [256, 1100, 132];
  const [a, x] = [full([k, m], 1), full([k, n], 1)];
  const { result, replay } = gpu.capture(() => {
    using _inner = scope();
    const b = ops.scale(x, 2); // lives in the capture only, and two products read it
    return [0, 1].map(() => Scope.release(ops.matmul(a, b, { transA: true })));
  });
  const others = Array.from({ length: 12 }, (_, i) => full([k, 32 * (4 + (i % 3))], 7)); // as large as the panels
  replay.run();
  for (const each of others) expect(new Set(await each.data())).toEqual(new Set([7]));
  for (const each of result) expect(new Set(await each.data())).toEqual(new Set([2 * k]));
  for (const each of result) each.dispose();
  replay.dispose();
});
