/** The op table: complete, and every version of every kernel right on prime and ragged sizes, with its gradient. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkOp } from '../src/autograd/check.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { pcg4d, Random, streamOf, uniformFromBits } from '../src/random.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

test.each(OPS.map((op) => [op.name, op] as const))('%s has all that an entry needs', (_name, op) => {
  expect(op.cases.length).toBeGreaterThan(0);
  if (typeof op.backward === 'string') expect(op.backward.length, 'the reason for having no gradient').toBeGreaterThan(10);
  if (op.tolerance) expect(op.tolerance.why.length).toBeGreaterThan(10);
  for (const { shapes, attrs } of op.cases) {
    const cost = op.cost(shapes, op.shape(shapes, attrs), attrs);
    expect(cost.flops).toBeGreaterThanOrEqual(0);
    expect(cost.bytes).toBeGreaterThanOrEqual(0);
  }
});

test('names are unique', () => {
  expect(new Set(OPS.map((op) => op.name)).size).toBe(OPS.length);
});

describe('against the float64 reference, gradients against central differences', () => {
  test.each(OPS.map((op) => [op.name, op] as const))('%s', async (_name, op) => {
    const results = await checkOp(op);
    expect(results.filter((r) => r.status === 'failed')).toEqual([]);
    expect(results.some((r) => r.status === 'passed')).toBe(true);
  });
});

test('errors carry the op and both shapes', () => {
  using _s = scope();
  const x = tensor(new Float32Array(2 * 3 * 8 * 8), [2, 3, 8, 8]);
  const w = tensor(new Float32Array(16 * 4 * 3 * 3), [16, 4, 3, 3]);
  expect(() => ops.conv2d(x, w, null)).toThrow('conv2d: x [2,3,8,8] has 3 channels, w [16,4,3,3] with 1 groups expects 4');
  expect(() => ops.matmul(tensor([1, 2], [1, 2]), tensor([1, 2, 3], [3, 1]))).toThrow('matmul: a [1,2] times b [3,1]: inner extents are 2 and 3');
  expect(() => ops.add(tensor([1, 2]), tensor([1, 2, 3]))).toThrow('add: [2] and [3] do not broadcast');
  expect(() => ops.embedding(tensor([1, 2], [1, 2]), tensor([0]))).toThrow('embedding: ids is f32, expected u32');
});

test('the GPU draws the same random numbers as the host', async () => {
  using _s = scope();
  const key = { rate: 0.3, seed: 12345, step: 678, stream: streamOf('test') };
  const values = await ops.dropout(tensor(new Float32Array(4001).fill(1)), key).data();
  values.forEach((value, i) => {
    const kept = uniformFromBits(pcg4d(key.seed, key.step, key.stream, i)[0]) >= Math.fround(key.rate);
    expect(value !== 0).toBe(kept);
  });
});

test('random numbers are uniform and uncorrelated between streams', () => {
  const [a, b] = [new Random(1, 'a'), new Random(1, 'b')];
  const n = 20_000;
  let [mean, product] = [0, 0];
  for (let i = 0; i < n; i++) {
    const [x, y] = [a.uniform() - 0.5, b.uniform() - 0.5];
    mean += x / n;
    product += (x * y) / n;
  }
  expect(Math.abs(mean)).toBeLessThan(0.01);
  expect(Math.abs(product)).toBeLessThan(0.003);
});

test('property: what is concatenated slices back', async () => {
  const extent = fc.integer({ min: 1, max: 5 });
  await fc.assert(
    fc.asyncProperty(fc.array(extent, { minLength: 1, maxLength: 4 }), extent, fc.nat(), async (shape, other, axisSeed) => {
      using _s = scope();
      const axis = axisSeed % shape.length;
      const second = shape.map((size, i) => (i === axis ? other : size));
      const values = Float32Array.from({ length: sizeOf(second) }, (_, i) => i + 0.5);
      const joined = ops.concat([tensor(new Float32Array(sizeOf(shape)), shape), tensor(values, second)], axis);
      const back = ops.slice(
        joined,
        shape.map((size, i) => (i === axis ? size : 0)),
        second,
      );
      expect([...(await back.data())]).toEqual([...values]);
    }),
    { numRuns: 25, seed: 1 },
  );
});

test('property: a transpose and its inverse are nothing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 2, maxLength: 5 }), fc.integer(), async (shape, seed) => {
      using _s = scope();
      const order = new Random(seed, 'order').permutation(shape.length);
      const values = Float32Array.from({ length: sizeOf(shape) }, (_, i) => i);
      const back = order.map((_, i) => order.indexOf(i));
      expect([...(await ops.transpose(ops.transpose(tensor(values, shape), order), back).data())]).toEqual([...values]);
    }),
    { numRuns: 25, seed: 2 },
  );
});

test('more workgroups than one dimension holds are folded into two', async () => {
  using _s = scope();
  const n = 65_536 * 64 + 77; // one workgroup of 64 each: beyond 65,535 groups
  const x = tensor(new Float32Array(n).fill(1), [n, 1]);
  const y = await ops.add(x, tensor([1], [1, 1])).data();
  expect(y[0]).toBe(2);
  expect(y[n - 1]).toBe(2);
  expect(y.every((value) => value === 2)).toBe(true);
});

test('a NaN stays one in every version of the matrix product', async () => {
  using _s = scope();
  for (const n of [4, 5]) {
    const c = await ops.matmul(tensor([Number.NaN, 1, 2, 3], [1, 4]), tensor(new Float32Array(4 * n).fill(1), [4, n])).data();
    expect([...c].every(Number.isNaN)).toBe(true);
  }
});

test('whole numbers are moved as they are', async () => {
  using _s = scope();
  const x = tensor(new Uint32Array([1, 2, 3, 4, 5, 4_000_000_000]), [2, 3]);
  expect([...(await ops.transpose(x).data())]).toEqual([1, 4, 2, 5, 3, 4_000_000_000]);
  expect([...(await ops.slice(x, [0, 1], [2, 2]).data())]).toEqual([2, 3, 5, 4_000_000_000]);
  expect([...(await ops.concat([x, x], 0).data())]).toHaveLength(12);
});

test('a product without an inner extent is its bias', async () => {
  using _s = scope();
  const c = ops.matmul(tensor(new Float32Array(0), [2, 0]), tensor(new Float32Array(0), [0, 3]), { bias: tensor([1, 2, 3]) });
  expect([...(await c.data())]).toEqual([1, 2, 3, 1, 2, 3]);
});

test('a 1×1 convolution with uneven padding is no plain product', async () => {
  using _s = scope();
  const y = ops.conv2d(tensor([1, 2, 3, 4], [1, 1, 2, 2]), tensor([1], [1, 1, 1, 1]), null, { pad: [0, 0, 1, 1] });
  expect([...(await y.data())]).toEqual([1, 2, 0, 3, 4, 0, 0, 0, 0]);
});

test('NaN and infinities: relu and tanh stay finite where they must', async () => {
  using _s = scope();
  expect([...(await ops.tanh(tensor([-1000, 1000, 89])).data())]).toEqual([-1, 1, 1]);
  expect([...(await ops.sigmoid(tensor([-1000, 1000])).data())]).toEqual([0, 1]);
  const soft = await ops.softmax(tensor([1e30, -1e30, 0, 1e30], [1, 4])).data();
  expect([...soft]).toEqual([0.5, 0, 0, 0.5]);
});
