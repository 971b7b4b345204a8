/** Gather and scatter: whole numbers, order of repeated updates, long chains, indices that there are not, nothing at all, errors. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, variable } from '../src/autograd/tape.ts';
import { Random } from '../src/random.ts';
import { type Shape, sizeOf } from '../src/tensor/shape.ts';
import { empty, scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const ids = (values: number[], shape: Shape = [values.length]) => tensor(Uint32Array.from(values), shape);
/** Ids that only the device knows. */
const onDevice = (values: number[], shape: Shape = [values.length]) => {
  const written = ids(values, shape);
  const copy = empty(shape, 'u32');
  copy.gpu.copy(written.slice, copy.slice, 4 * values.length);
  return copy;
};
const valuesOf = async (x: Tensor | null) => [...((await x?.data()) ?? [])];

test('whole numbers are moved as they are, and their NaN is its bits', async () => {
  using _s = scope();
  const x = tensor(Uint32Array.of(1, 2, 3, 4_000_000_000), [2, 2]);
  expect(await valuesOf(ops.gather(x, ids([1, 1, 0])))).toEqual([3, 4_000_000_000, 3, 4_000_000_000, 1, 2]);
  expect(await valuesOf(ops.gatherElements(tensor(Int32Array.of(-1, 2, -3, 4), [2, 2]), ids([1, 0], [2, 1]), 1))).toEqual([2, -3]);
  expect(await valuesOf(ops.gatherNd(x, onDevice([1, 1, 2, 0], [2, 2])))).toEqual([4_000_000_000, 0x7fc00000]);
  expect(await valuesOf(ops.scatterNd(x, ids([1], [1, 1]), tensor(Uint32Array.of(7, 8), [1, 2])))).toEqual([1, 2, 7, 8]);
  expect(() => ops.scatterNd(x, ids([1], [1, 1]), tensor(Uint32Array.of(7, 8), [1, 2]), 'add')).toThrow('scatterNd: add joins f32, x is u32');
  expect(() => ops.scatterNd(x, ids([1], [1, 1]), tensor([7, 8], [1, 2]))).toThrow('scatterNd: updates is f32, expected u32');
  expect(() => ops.gather(x, tensor([1, 0]))).toThrow('gather: indices is f32, expected u32');
});

test('property: of repeated updates the last one wins, or the largest', async () => {
  const update = fc.tuple(
    fc.nat({ max: 6 }),
    fc.integer({ min: -64, max: 64 }).map((eighths) => eighths / 8),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(update, { minLength: 1, maxLength: 40 }), async (updates) => {
      using _s = scope();
      const places = ids(
        updates.map(([id]) => id),
        [updates.length],
      );
      const values = tensor(
        updates.map(([, value]) => value),
        [updates.length],
      );
      const last = new Float32Array(7);
      for (const [id, value] of updates) last[id] = value;
      expect((await valuesOf(ops.scatterElements(zeros([7]), places, values))).map((value) => value + 0)).toEqual([...last].map((value) => value + 0));
      const largest = new Float32Array(7);
      for (const [id, value] of updates) largest[id] = Math.max(largest[id], value);
      expect((await valuesOf(ops.scatterElements(zeros([7]), places, values, 0, 'max'))).map((value) => value + 0)).toEqual(
        [...largest].map((value) => value + 0),
      );
    }),
    { numRuns: 25, seed: 3 },
  );
});

describe('100,003 updates', () => {
  const n = 100_003;
  const random = new Random(5, 'updates');
  const chosen = Array.from({ length: n }, () => random.integer(1009));
  const values = Float32Array.from({ length: n }, () => Math.fround(random.normal()));

  test('go where they belong, the same bits every time', async () => {
    using _s = scope();
    const run = async () => new Uint32Array((await ops.scatterElements(zeros([1009]), ids(chosen), tensor(values), 0, 'add').data()).buffer);
    const [first, second] = [await run(), await run()];
    expect(second).toEqual(first);
    const wanted = new Float64Array(1009);
    chosen.forEach((id, i) => {
      wanted[id] += values[i];
    });
    new Float32Array(first.buffer).forEach((value, i) => {
      expect(Math.abs(value - wanted[i])).toBeLessThan(2e-5);
    });
  });

  test('the gradient of a gather counts each of them, with the digits of a sum of equal values', async () => {
    using _s = scope();
    const x = variable(zeros([3]));
    backward(ops.sum(ops.scale(ops.gather(x, ids(chosen.map((id) => (id === 5 ? 2 : 1)))), 0.1)));
    const twos = chosen.filter((id) => id === 5).length;
    const [none, ones, some] = await valuesOf(gradOf(x));
    expect(none).toBe(0);
    expect(Math.abs(ones / ((n - twos) * Math.fround(0.1)) - 1)).toBeLessThan(1e-6);
    expect(Math.abs(some / (twos * Math.fround(0.1)) - 1)).toBeLessThan(1e-6);
  });
});

test.each([3, 4_000_000_000])('an index of %i for three rows is refused from the host, and gives NaN on the device', async (id) => {
  using _s = scope();
  const x = variable(tensor([1, 2, 3, 4, 5, 6], [3, 2]));
  const refusal = `[1] is ${id}, ids are below 3 here`;
  expect(() => ops.gather(x, ids([0, id]))).toThrow(`gather: indices${refusal}`);
  expect(() => ops.scatterNd(x, ids([0, id], [2, 1]), zeros([2, 2]))).toThrow(`scatterNd: indices[1, 0] is ${id}, ids are below 3 here`);
  const y = ops.gather(x, onDevice([2, id, 2]));
  expect(await valuesOf(y)).toEqual([5, 6, Number.NaN, Number.NaN, 5, 6]);
  backward(ops.sum(y));
  expect(await valuesOf(gradOf(x))).toEqual([0, 0, 0, 0, 2, 2]);
  const updates = variable(tensor([7, 8, 9, 10], [2, 2]));
  for (const reduction of ['none', 'add'] as const) {
    const z = ops.scatterNd(x, onDevice([0, id], [2, 1]), updates, reduction);
    expect((await valuesOf(z)).every(Number.isNaN)).toBe(true);
    backward(ops.sum(z));
    expect(await valuesOf(gradOf(updates))).toEqual([0, 0, 0, 0]);
  }
  for (const reduction of ['mul', 'max', 'min'] as const)
    expect((await valuesOf(ops.scatterNd(x, onDevice([0, id], [2, 1]), updates, reduction))).every(Number.isNaN)).toBe(true);
});

test('an index of a place that is below the largest extent, but not below its own, gives NaN', async () => {
  using _s = scope();
  const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
  expect(await valuesOf(ops.gatherNd(x, ids([1, 2, 2, 1], [2, 2])))).toEqual([6, Number.NaN]);
  expect(() => ops.gatherNd(x, ids([1, 3], [1, 2]))).toThrow('gatherNd: indices[0, 1] is 3, ids are below 3 here');
});

test('nothing is gathered from nothing, and no update changes nothing', async () => {
  using _s = scope();
  const none = zeros([0], 'u32');
  expect(ops.gather(zeros([3, 2]), none).shape).toEqual([0, 2]);
  expect(ops.gather(zeros([3, 0]), ids([1, 2])).shape).toEqual([2, 0]);
  expect(await valuesOf(ops.gather(zeros([0, 2]), onDevice([0])))).toEqual([Number.NaN, Number.NaN]);
  const x = variable(tensor([1, 2, 3]));
  const y = ops.scatterElements(x, none, zeros([0]));
  expect(await valuesOf(y)).toEqual([1, 2, 3]);
  backward(ops.add(ops.sum(y), ops.sum(ops.gather(x, none))));
  expect(await valuesOf(gradOf(x))).toEqual([1, 1, 1]);
  expect(ops.scatterNd(zeros([0, 2]), zeros([0, 1], 'u32'), zeros([0, 2])).shape).toEqual([0, 2]);
});

test('shapes that do not fit are named, and what has no gradient says why', () => {
  using _s = scope();
  expect(() => ops.gatherElements(zeros([2, 3]), zeros([3, 3], 'u32'), 1)).toThrow(
    'gatherElements along axis 1: indices [3,3] have other axes than x [2,3], or reach beyond it elsewhere',
  );
  expect(() => ops.gatherNd(zeros([2, 3]), zeros([3, 1], 'u32'), 1)).toThrow('gatherNd: indices [3,1] are no places in x [2,3] behind 1 axes of both');
  expect(() => ops.scatterElements(zeros([2, 3]), zeros([2, 2], 'u32'), zeros([2, 3]), 1)).toThrow('scatterElements: indices [2,2] and updates [2,3] differ');
  expect(() => ops.scatterNd(zeros([2, 3]), zeros([4, 1], 'u32'), zeros([4, 2]))).toThrow('scatterNd: updates [4,2] of x [2,3] at indices [4,1] must be [4,3]');
  const x = variable(zeros([2, 3]));
  const y = ops.scatterElements(x, zeros([2, 2], 'u32'), zeros([2, 2]), 1, 'max');
  expect(() => backward(ops.sum(y))).toThrow(/scatterElementsReduce .* has no gradient: a product would need the product of all others/);
  expect(sizeOf(y.shape)).toBe(6);
});
