/** The matrix product of any rank: NumPy's rules for batch axes and for operands of one axis, without copies, down to extents of 0. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, variable } from '../src/autograd/tape.ts';
import { familyOf } from '../src/kernels/families.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

/** Whole numbers from −3 to 3: sums of their products are exact in float32. */
const whole = (shape: readonly number[], seed: number) => Float32Array.from({ length: sizeOf(shape) }, (_, i) => (((i + 1) * (seed * 2 + 7919)) % 7) - 3);

/** A nested array of numbers, for a reference that follows NumPy's rule by recursion and knows no strides. */
type Nested = number | Nested[];
const nested = (data: ArrayLike<number>, shape: readonly number[], at = 0): Nested =>
  shape.length === 0 ? data[at] : Array.from({ length: shape[0] }, (_, i) => nested(data, shape.slice(1), at + i * sizeOf(shape.slice(1))));
const depth = (x: Nested): number => (Array.isArray(x) ? 1 + (x.length > 0 ? depth(x[0]) : 0) : 0);
const turned = (x: Nested): Nested => (depth(x) > 2 ? (x as Nested[]).map(turned) : (x as Nested[][])[0].map((_, j) => (x as Nested[][]).map((row) => row[j])));

function product(a: Nested, b: Nested): Nested {
  const [deepA, deepB] = [depth(a), depth(b)];
  const rows = a as number[][];
  const columns = b as number[][];
  if (deepA === 2 && deepB === 2) return rows.map((row) => columns[0].map((_, j) => row.reduce((sum, x, k) => sum + x * columns[k][j], 0)));
  if (deepA < deepB) return (b as Nested[]).map((each) => product(a, each));
  if (deepA > deepB) return (a as Nested[]).map((each) => product(each, b));
  const [left, right] = [a as Nested[], b as Nested[]];
  return Array.from({ length: Math.max(left.length, right.length) }, (_, i) => product(left[left.length === 1 ? 0 : i], right[right.length === 1 ? 0 : i]));
}

const flat = (x: Nested): number[] => (Array.isArray(x) ? x.flatMap(flat) : [x]);

test('property: batch axes broadcast as in NumPy', async () => {
  const extent = fc.constantFrom(1, 2, 3);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(extent, fc.constantFrom('both', 'a', 'b')), { maxLength: 4 }),
      fc.tuple(fc.nat(4), fc.nat(4)),
      fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 })),
      fc.tuple(fc.boolean(), fc.boolean()),
      async (axes, [dropA, dropB], [m, k, n], [transA, transB]) => {
        using _s = scope();
        // An operand may lack leading axes along which it has extent 1.
        const batchOf = (other: string, drop: number) => {
          const all = axes.map(([size, who]) => (who === other ? 1 : size));
          const leading = all.findIndex((size) => size !== 1);
          return all.slice(Math.min(drop, leading < 0 ? all.length : leading));
        };
        const a = [...batchOf('b', dropA), ...(transA ? [k, m] : [m, k])];
        const b = [...batchOf('a', dropB), ...(transB ? [n, k] : [k, n])];
        const [x, y] = [whole(a, 1), whole(b, 2)];
        const c = ops.matmul(tensor(x, a), tensor(y, b), { transA, transB });
        const [left, right] = [nested(x, a), nested(y, b)];
        const wanted = product(transA ? turned(left) : left, transB ? turned(right) : right);
        expect([...(await c.data())]).toEqual(flat(wanted).map((value) => value + 0));
        expect(c.rank).toBe(Math.max(a.length, b.length));
        expect(c.shape.slice(-2)).toEqual([m, n]);
      },
    ),
    { numRuns: 60, seed: 3 },
  );
});

test.each<[number[], number[], number[], number[]]>([
  [[3], [3], [], [14]],
  [[3], [3, 2], [2], [22, 28]],
  [[2, 3], [3], [2], [14, 32]],
  [[3], [2, 3, 2], [2, 2], [22, 28, 58, 64]],
  [[2, 1, 3], [3], [2, 1], [14, 32]],
])('[%j] times [%j] is [%j], as in NumPy', async (a, b, shape, values) => {
  using _s = scope();
  const counted = (each: number[]) =>
    tensor(
      Float32Array.from({ length: sizeOf(each) }, (_, i) => i + 1),
      each,
    );
  const c = ops.matmul(counted(a), counted(b));
  expect(c.shape).toEqual(shape);
  expect([...(await c.data())]).toEqual(values);
});

describe('what is launched', () => {
  /** Dispatches of the product, and all dispatches. */
  function launched(work: () => void): [number, number] {
    const family = familyOf('matmul');
    const [products, all] = [family.launches, device.gpu.dispatches];
    work();
    return [family.launches - products, device.gpu.dispatches - all];
  }

  test.each<[string, number[], number[], number]>([
    ['a batch', [2, 3, 4, 8], [2, 3, 8, 4], 1],
    ['a weight', [2, 3, 4, 8], [8, 4], 1],
    ['a weight per first axis', [2, 3, 4, 8], [2, 1, 8, 4], 1],
    ['one a for all', [4, 8], [2, 3, 8, 4], 1],
    ['one a per first axis', [2, 1, 4, 8], [2, 3, 8, 4], 2],
    ['both repeat: as many as the shorter of the two batches', [5, 1, 4, 8], [3, 8, 4], 3],
    ['nothing', [0, 3, 4, 8], [8, 4], 0],
  ])('%s: [%j] times [%j] takes %i, and no copy', (_name, a, b, dispatches) => {
    using _s = scope();
    const [x, y] = [zeros(a), zeros(b)];
    expect(launched(() => void ops.matmul(x, y))).toEqual([dispatches, dispatches]);
  });

  test('the gradient of a weight sums over the batch within one product', () => {
    using _s = scope();
    const w = variable(tensor(whole([8, 4], 1), [8, 4]));
    const c = ops.sum(ops.matmul(tensor(whole([2, 3, 5, 8], 2), [2, 3, 5, 8]), w));
    expect(launched(() => backward(c))[0]).toBe(1);
    expect(gradOf(w)?.shape).toEqual([8, 4]);
  });
});

describe('extents of 0', () => {
  const values = async (x: Tensor | null | undefined) => [...((await x?.data()) ?? [Number.NaN])];

  test.each<[number[], number[], number[]]>([
    [
      [2, 0],
      [0, 3],
      [2, 3],
    ],
    [
      [2, 3, 4, 0],
      [3, 0, 5],
      [2, 3, 4, 5],
    ],
    [
      [2, 1, 4, 0],
      [3, 0, 5],
      [2, 3, 4, 5],
    ],
    [[0], [0], []],
    [[0], [2, 0, 3], [2, 3]],
  ])('nothing to sum gives zeros: [%j] times [%j]', async (a, b, shape) => {
    using _s = scope();
    const [x, y] = [variable(zeros(a)), variable(zeros(b))];
    const c = ops.matmul(x, y);
    expect(c.shape).toEqual(shape);
    expect(await values(c)).toEqual(new Array(sizeOf(shape)).fill(0));
    backward(ops.sum(c));
    expect([gradOf(x)?.shape, gradOf(y)?.shape]).toEqual([a, b]);
  });

  test.each<[number[], number[], number[]]>([
    [
      [0, 3],
      [3, 4],
      [0, 4],
    ],
    [
      [3, 2],
      [2, 0],
      [3, 0],
    ],
    [
      [0, 5, 3],
      [3, 4],
      [0, 5, 4],
    ],
    [
      [2, 0, 4, 3],
      [1, 3, 4],
      [2, 0, 4, 4],
    ],
    [
      [0, 1, 2, 3],
      [5, 3, 4],
      [0, 5, 2, 4],
    ],
  ])('nothing to compute gives nothing, and gradients of zeros: [%j] times [%j]', async (a, b, shape) => {
    using _s = scope();
    const [x, y] = [variable(tensor(whole(a, 1), a)), variable(tensor(whole(b, 2), b))];
    const c = ops.matmul(x, y);
    expect(c.shape).toEqual(shape);
    expect(await values(c)).toEqual([]);
    backward(ops.sum(c));
    expect(await values(gradOf(x))).toEqual(new Array(sizeOf(a)).fill(0));
    expect(await values(gradOf(y))).toEqual(new Array(sizeOf(b)).fill(0));
  });
});

test.each<[string, () => unknown, string]>([
  ['a number', () => ops.matmul(zeros([]), zeros([3, 2])), 'matmul: a [] times b [3,2]: each needs an axis; use mul for a number'],
  ['a row turned', () => ops.matmul(zeros([3]), zeros([3, 2]), { transA: true }), 'matmul: a [3]ᵀ times b [3,2]: one axis cannot be transposed'],
  ['a column turned', () => ops.matmul(zeros([2, 3]), zeros([3]), { transB: true }), 'matmul: a [2,3] times b [3]ᵀ: one axis cannot be transposed'],
  ['a row that is too short', () => ops.matmul(zeros([2]), zeros([3, 2])), 'matmul: a [2] times b [3,2]: inner extents are 2 and 3'],
  ['batches that do not broadcast', () => ops.matmul(zeros([2, 3, 4, 5]), zeros([2, 5, 4])), 'batches: [2,3] and [2] do not broadcast, axis 1 is 3 against 2'],
  ['a bias of the wrong length', () => ops.matmul(zeros([2, 3]), zeros([3]), { bias: zeros([3]) }), 'bias [3] does not fit 1 columns'],
])('refused: %s', (_name, call, message) => {
  using _s = scope();
  expect(call).toThrow(message);
});
