/** Products whose rows are no multiple of 4 long: large ones run by way of copies, with the same results, and weights are copied once. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { matmulIntoOp } from '../src/autograd/ops/matmul.ts';
import { apply } from '../src/autograd/tape.ts';
import { memory, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

/** Whole numbers from −3 to 3: sums of their products are exact in float32. */
const whole = (size: number, seed: number) => Float32Array.from({ length: size }, (_, i) => (((i + 1) * (seed * 2 + 7919)) % 7) - 3);

/** The kernels that work records. */
function kernelsOf(work: () => void): string[] {
  const recorded: string[] = [];
  device.gpu.trace = ({ kernel }) => recorded.push(kernel.name);
  try {
    work();
  } finally {
    device.gpu.trace = null;
  }
  return recorded;
}

const copies = (kernels: readonly string[]) => kernels.filter((name) => name.startsWith('rows_'));

/** C of one matrix of a batch in plain loops. */
function plain(a: ArrayLike<number>, b: ArrayLike<number>, [m, k, n]: readonly number[], transA: boolean, transB: boolean, z = 0): number[] {
  return Array.from({ length: m * n }, (_, i) => {
    const [row, column] = [Math.floor(i / n), i % n];
    let sum = 0;
    for (let p = 0; p < k; p++) sum += a[z * m * k + (transA ? p * m + row : row * k + p)] * b[z * k * n + (transB ? column * k + p : p * n + column)];
    return sum;
  });
}

const SIZES = [
  [67, 101, 103],
  [68, 103, 131],
  [131, 96, 101],
  [101, 131, 68],
];

test.each(
  SIZES.flatMap((size) => [false, true].flatMap((transA) => [false, true].map((transB) => [size, transA, transB] as const))),
)('%j, op(A) transposed %s, op(B) transposed %s', async (size, transA, transB) => {
  using _s = scope();
  const [m, k, n] = size;
  const [a, b, bias] = [whole(m * k, 1), whole(k * n, 2), whole(n, 3)];
  let c = null as Tensor | null;
  const kernels = kernelsOf(() => {
    c = ops.matmul(tensor(a, transA ? [k, m] : [m, k]), tensor(b, transB ? [n, k] : [k, n]), { transA, transB, bias: tensor(bias), relu: true });
  });
  if (device.gpu.kind === 'lavapipe') expect(copies(kernels)).toContain('rows_from_fours');
  const expected = plain(a, b, size, transA, transB).map((value, i) => Math.max(0, value + bias[i % n]));
  expect(Array.from(await (c as Tensor).data())).toEqual(expected);
});

test('a batch, and one matrix for the whole batch', async () => {
  using _s = scope();
  const [m, k, n] = [61, 67, 71];
  const [a, b] = [whole(3 * m * k, 1), whole(3 * k * n, 2)];
  const each = ops.matmul(tensor(a, [3, m, k]), tensor(b, [3, k, n]));
  expect(Array.from(await each.data())).toEqual([0, 1, 2].flatMap((z) => plain(a, b, [m, k, n], false, false, z)));
  const one = ops.matmul(tensor(a, [3, m, k]), tensor(b.slice(0, k * n), [k, n]));
  expect(Array.from(await one.data())).toEqual([0, 1, 2].flatMap((z) => plain(a.slice(z * m * k), b, [m, k, n], false, false)));
});

test('added to C, from starts that are no multiples of 4', async () => {
  using _s = scope();
  const attrs = { m: 61, n: 67, k: 73, transA: false, transB: true, aStart: 3, bStart: 5, cStart: 1 };
  const { m, n, k } = attrs;
  const [a, b, c] = [whole(3 + m * k, 1), whole(5 + k * n, 2), whole(1 + m * n + 2, 3)];
  const [out] = apply(matmulIntoOp, [tensor(a), tensor(b), tensor(c)], attrs);
  const added = plain(a.subarray(3), b.subarray(5), [m, k, n], false, true);
  expect(Array.from(await out.data())).toEqual(Array.from(c, (value, i) => value + (added[i - 1] ?? 0)));
});

test('a NaN stays in its row and column, and infinity is no NaN elsewhere', async () => {
  using _s = scope();
  const [m, k, n] = [67, 101, 103];
  const [a, b] = [whole(m * k, 1), whole(k * n, 2)];
  a[5 * k + 100] = Number.NaN;
  b[100 * n + 102] = Number.POSITIVE_INFINITY;
  const c = await ops.matmul(tensor(a, [m, k]), tensor(b, [k, n])).data();
  c.forEach((value, i) => {
    const [row, column] = [Math.floor(i / n), i % n];
    if (row === 5) expect(value).toBeNaN();
    else if (column < 102) expect(Number.isFinite(value)).toBe(true);
    else expect(Number.isFinite(value)).toBe(false);
  });
});

test('weights that are used again are copied once, until they are written; small products are not copied', async ({ skip }) => {
  skip(device.gpu.kind !== 'lavapipe', 'other adapters choose other versions');
  using _s = scope();
  const before = memory().buffersInUse;
  const [m, k, n] = [67, 100, 103];
  const [a, b] = [tensor(whole(m * k, 1), [m, k]), tensor(whole(k * n, 2), [k, n])];
  const run = () => copies(kernelsOf(() => ops.matmul(a, b).dispose()));
  expect(run()).toEqual(['rows_to_fours', 'rows_from_fours']);
  for (let i = 0; i < 3; i++) expect(run()).toEqual(['rows_from_fours']);
  b.write(whole(k * n, 4));
  expect(run()).toEqual(['rows_to_fours', 'rows_from_fours']);
  const c = ops.matmul(a, b);
  expect(Array.from(await c.data())).toEqual(plain(whole(m * k, 1), whole(k * n, 4), [m, k, n], false, false));
  expect(copies(kernelsOf(() => ops.matmul(tensor(whole(15, 1), [3, 5]), tensor(whole(35, 1), [5, 7]))))).toEqual([]);
  for (const each of [a, b, c]) each.dispose();
  expect(memory().buffersInUse).toBe(before + 3); // the operands and the result of the small product
});
