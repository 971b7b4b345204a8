/** Where the extremes stand: argmax and argmin, sorted top-k along any axis, in long rows and of many; one-hot along any axis. */
import { describe, expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, variable } from '../src/autograd/tape.ts';
import { Random } from '../src/random.ts';
import { type Shape, sizeOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const { NaN: nan } = Number;
const most = Number.POSITIVE_INFINITY;
const valuesOf = async (x: Tensor | null | undefined) => [...((await x?.data()) ?? [])];
function drawn(shape: Shape, name: string, of = (random: Random) => random.normal()): Float32Array {
  const random = new Random(3, name);
  return Float32Array.from({ length: sizeOf(shape) }, () => of(random));
}

describe('argmax and argmin', () => {
  test('a NaN is the extreme, the first of several, or the last; zeros of both signs are equal', async () => {
    using _s = scope();
    const x = tensor([1, nan, most, nan, 0, -0, 0, -1, -most, 2, -most, 2], [3, 4]);
    expect(await valuesOf(ops.argmax(x, 1))).toEqual([1, 0, 1]);
    expect(await valuesOf(ops.argmax(x, 1, { last: true }))).toEqual([3, 2, 3]);
    expect(await valuesOf(ops.argmin(x, -1))).toEqual([1, 3, 0]);
    expect(await valuesOf(ops.argmin(x, 1, { last: true }))).toEqual([3, 3, 2]);
    const columns = ops.argmin(x, 0, { keepDims: true });
    expect([columns.shape, columns.dtype]).toEqual([[1, 4], 'u32']);
    expect(await valuesOf(columns)).toEqual([2, 0, 2, 0]);
  });

  test.each([
    [[1, 50_021], 1],
    [[50_021, 2], 0],
    [[2, 1031, 3], 1],
  ] as const)('of %j along axis %i', async (shape, axis) => {
    using _s = scope();
    const values = drawn(shape, 'long');
    const inner = sizeOf(shape.slice(axis + 1));
    const n = shape[axis];
    const line = (i: number) => Array.from({ length: n }, (_, j) => values[(Math.floor(i / inner) * n + j) * inner + (i % inner)]);
    const lines = Array.from({ length: values.length / n }, (_, i) => line(i));
    const x = tensor(values, shape);
    expect(await valuesOf(ops.argmax(x, axis))).toEqual(lines.map((row) => row.indexOf(row.reduce((a, b) => Math.max(a, b)))));
    expect(await valuesOf(ops.argmin(x, axis))).toEqual(lines.map((row) => row.indexOf(row.reduce((a, b) => Math.min(a, b)))));
  });

  test('nothing has no extreme, and no lines have no result', () => {
    using _s = scope();
    expect(() => ops.argmax(zeros([2, 0]), 1)).toThrow('argmax: axis 1 of [2,0] has no element');
    expect(() => ops.argmin(zeros([2, 3]), 2)).toThrow('argmin: axis 2 is not among the 2 of [2,3]');
    expect(ops.argmax(zeros([0, 3]), 1).shape).toEqual([0]);
  });
});

describe('top-k', () => {
  /** What must come of one row, by sorting it. */
  const sorted = (row: ArrayLike<number>, k: number, smallest: boolean) =>
    Array.from({ length: row.length }, (_, j) => j)
      .sort((a, b) => Number(Number.isNaN(row[b])) - Number(Number.isNaN(row[a])) || (smallest ? row[a] - row[b] : row[b] - row[a]) || a - b)
      .slice(0, k);

  test.each([
    [50_021, 1, false],
    [50_021, 100, false],
    [50_021, 3, true],
    [4096, 4096, false],
    [4093, 4093, true],
    [513, 65, false],
  ])('of a row of %i the first %i, smallest: %s', async (n, k, smallest) => {
    using _s = scope();
    const row = drawn([n], `top ${n}`, (random) => (random.uniform() < 0.3 ? random.integer(5) : random.normal())); // ties, too
    row[Math.floor(n / 3)] = nan;
    const { values, indices } = ops.topK(tensor(row, [1, n]), k, 0, { smallest });
    const wanted = sorted(row, k, smallest);
    expect(await valuesOf(indices)).toEqual(wanted);
    expect(await valuesOf(values)).toEqual(wanted.map((j) => row[j]));
  });

  test('many rows are sorted in several batches, along the first axis', async () => {
    using _s = scope();
    const [n, lines] = [9, 270_001]; // of 16 words while they are sorted
    const x = new Float32Array(n * lines);
    for (let i = 0; i < x.length; i++) x[i] = (i * 7919) % 1009;
    const { indices } = ops.topK(tensor(x, [n, lines]), 2, 0, { axis: 0 });
    const found = await indices.data();
    for (const line of [0, 1, 262_143, 262_144, lines - 1]) {
      const row = Array.from({ length: n }, (_, j) => x[j * lines + line]);
      expect([found[line], found[lines + line]]).toEqual(sorted(row, 2, false));
    }
  });

  test('the gradient goes to the elements taken', async () => {
    using _s = scope();
    const x = variable(tensor([3, 1, 4, 1, 5, nan], [2, 3]));
    const { values } = ops.topK(x, 2, 0, { axis: -1 });
    backward(ops.sum(ops.mul(values, tensor([1, 2, 3, 4], [2, 2]))));
    expect(await valuesOf(gradOf(x))).toEqual([2, 0, 1, 0, 4, 3]);
    expect(() => ops.topK(x, 4)).toThrow('topK: 4 of the 3 allowed columns of [2,3]');
    expect(() => ops.topK(x, 1, 0, { axis: 2 })).toThrow('topK: axis 2 is not among the 2 of [2,3]');
    expect(ops.topK(zeros([0, 3]), 2).indices.shape).toEqual([0, 2]);
  });
});

test('one-hot along the first axis, with other values', async () => {
  using _s = scope();
  const y = ops.oneHot(tensor(Uint32Array.of(2, 0)), 3, { axis: 0, on: 5, off: -1 });
  expect(y.shape).toEqual([3, 2]);
  expect(await valuesOf(y)).toEqual([-1, 5, -1, -1, 5, -1]);
  expect(ops.oneHot(zeros([2, 0], 'u32'), 3).shape).toEqual([2, 0, 3]);
  expect(() => ops.oneHot(zeros([2], 'u32'), 3, { axis: 2 })).toThrow('oneHot: axis 2 is not among the 2 of [2,3]');
});

test('a triangle has zeros outside, also where a NaN stood, and keeps whole numbers', async () => {
  using _s = scope();
  expect(await valuesOf(ops.trilu(tensor([1, 2, nan, 4], [2, 2])))).toEqual([1, 2, 0, 4]);
  expect(await valuesOf(ops.trilu(tensor(Int32Array.of(1, 2, 3, -4), [2, 2]), 0, false))).toEqual([1, 0, 3, -4]);
  expect(await valuesOf(ops.trilu(tensor([1, 2, 3, 4], [2, 2]), 2 ** 40))).toEqual([0, 0, 0, 0]);
  expect(ops.trilu(zeros([2, 0, 3])).shape).toEqual([2, 0, 3]);
});

describe('running sums', () => {
  test.each([
    [[100_003], 0],
    [[1, 1_050_011], 1],
    [[70_001, 2], 0],
  ] as const)('of %j keep their digits', async (shape, axis) => {
    using _s = scope();
    const value = Math.fround(0.1);
    const x = tensor(new Float32Array(sizeOf(shape)).fill(value), shape);
    const inner = sizeOf(shape.slice(axis + 1));
    const n = (shape as Shape)[axis];
    for (const [exclusive, reverse] of [
      [false, false],
      [true, true],
    ]) {
      const y = await ops.cumSum(x, axis, { exclusive, reverse }).data();
      let worst = 0;
      y.forEach((found, i) => {
        const p = Math.floor(i / inner) % n;
        const terms = (reverse ? n - p : p + 1) - (exclusive ? 1 : 0);
        worst = Math.max(worst, Math.abs(found - terms * value) / Math.max(1, terms * value));
      });
      expect(worst).toBeLessThan(4e-6);
    }
  });

  test('a NaN and an infinity count from where they stand, across blocks', async () => {
    using _s = scope();
    const values = new Float32Array(3000).fill(1);
    values[1500] = most;
    values[2600] = -most;
    const y = await valuesOf(ops.cumSum(tensor(values), 0));
    expect([y[1499], y[1500], y[2599]]).toEqual([1500, most, most]);
    expect(y.findIndex(Number.isNaN)).toBe(2600);
    expect(y.slice(2600).every(Number.isNaN)).toBe(true);
    values[10] = nan;
    const back = await valuesOf(ops.cumSum(tensor(values), 0, { exclusive: true, reverse: true }));
    expect([back[2999], back[2600], back[2599]]).toEqual([0, 399, -most]);
    expect(back.lastIndexOf(nan)).toBe(-1); // NaN equals nothing
    expect(back.map(Number.isNaN).lastIndexOf(true)).toBe(1499);
    expect(ops.cumSum(zeros([2, 0]), 1).shape).toEqual([2, 0]);
  });
});
