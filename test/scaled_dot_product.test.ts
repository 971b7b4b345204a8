/** Scaled dot-product attention beside its composition of products and softmax; masks, huge scores, extents of 0, refusals. */
import { describe, expect, test } from 'vitest';
import { gradcheck } from '../src/autograd/gradcheck.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, variable } from '../src/autograd/tape.ts';
import { FAMILIES, forceVersion } from '../src/kernels/families.ts';
import { VersionNotApplicable } from '../src/kernels/family.ts';
import { Random } from '../src/random.ts';
import { type Shape, sizeOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

const FAMILY = ['scaled_dot_product', 'scaled_dot_product_grad_query', 'scaled_dot_product_grad_keys'] as const;

/** Runs `work` with each version of a family that can serve it; gives their names. */
async function withEachVersion(family: string, work: (version: string) => Promise<void>): Promise<string[]> {
  const served: string[] = [];
  for (const version of FAMILIES[family].names) {
    forceVersion(family, version);
    try {
      await work(version);
      served.push(version);
    } catch (error) {
      if (!(error instanceof VersionNotApplicable)) throw error;
    } finally {
      forceVersion(family, null);
    }
  }
  return served;
}

function drawn(shape: Shape, name: string): Tensor {
  const random = new Random(5, name);
  return variable(
    tensor(
      Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
      shape,
    ),
  );
}

const values = async (x: Tensor | null | undefined) => [...((await x?.data()) ?? [])];

/** Results and gradients of Σ y², by name. */
async function all(attend: (q: Tensor, k: Tensor, v: Tensor) => Tensor, shapes: readonly Shape[]): Promise<Record<string, number[]>> {
  using _s = scope();
  const [q, k, v] = shapes.map((shape, i) => drawn(shape, `input ${i}`));
  const y = attend(q, k, v);
  backward(ops.sum(ops.square(y)));
  return { y: await values(y), dq: await values(gradOf(q)), dk: await values(gradOf(k)), dv: await values(gradOf(v)) };
}

describe.each<[string, Shape[], boolean]>([
  [
    'by fours',
    [
      [2, 2, 37, 12],
      [2, 2, 41, 12],
      [2, 2, 41, 8],
    ],
    true,
  ],
  [
    'primes',
    [
      [1, 3, 13, 7],
      [1, 3, 17, 7],
      [1, 3, 17, 5],
    ],
    false,
  ],
])('equals products and softmax: %s', (_name, shapes, isByFours) => {
  const [[b, h, t], [, , s]] = shapes;
  const causal = () =>
    tensor(
      Float32Array.from({ length: t * s }, (_, at) => (at % s <= Math.floor(at / s) + s - t ? 0 : -1e30)),
      [t, s],
    );
  const bias = (shape: Shape) => drawn(shape, 'mask').alias();
  test.each<[string, () => { fused: ops.ScaledDotProductOptions; mask?: Tensor }]>([
    ['no mask', () => ({ fused: {} })],
    ['causal', () => ({ fused: { causal: true }, mask: causal() })],
    ...[
      [t, s],
      [b, 1, 1, s],
      [1, 1, t, 1],
      [h, 1, s],
      [b, h, t, s],
    ].map((shape): [string, () => { fused: ops.ScaledDotProductOptions; mask?: Tensor }] => [
      `a mask [${shape}]`,
      () => {
        const mask = bias(shape);
        return { fused: { mask }, mask };
      },
    ]),
  ])('%s', async (_mask, make) => {
    using _s = scope();
    const { fused, mask } = make();
    const wanted = await all((q, k, v) => {
      const scores = ops.scale(ops.matmul(q, k, { transB: true }), 1 / Math.sqrt(q.shape[3]));
      return ops.matmul(ops.softmax(mask ? ops.add(scores, mask) : scores), v);
    }, shapes);
    for (const family of FAMILY) {
      const served = await withEachVersion(family, async (version) => {
        const found = await all((q, k, v) => ops.scaledDotProductAttention(q, k, v, fused), shapes);
        for (const [name, expected] of Object.entries(wanted))
          expect(Math.max(...found[name].map((x, i) => Math.abs(x - expected[i]) / (1 + Math.abs(expected[i])))), `${name}, ${version}`).toBeLessThan(3e-5);
      });
      expect(served).toContain('invocation');
      if (isByFours && [4, 8].includes(device.gpu.subgroupWidth)) expect(served).toContain('subgroup');
    }
  });
});

test('gradients equal central differences', async () => {
  using _s = scope();
  const random = new Random(5, 'gradcheck');
  const inputs = [5, 7, 7].map((count) => ({ shape: [1, 2, count, 4], data: Float32Array.from({ length: 8 * count }, () => random.normal()) }));
  for (const causal of [false, true])
    expect(await gradcheck((q, k, v) => ops.mean(ops.square(ops.scaledDotProductAttention(q, k, v, { causal }))), inputs)).toMatchObject({ ok: true });
});

test.each([1e4, -1e4])('scores about %f keep their differences, in results and gradients', async (offset) => {
  // Whole numbers and powers of two: every score is exact in float32, and differs from its neighbors by less than 1.
  const [T, S, D] = [5, 37, 4];
  const q = Float32Array.from({ length: T * D }, (_, i) => (i % D === 0 ? 1 : 0));
  const k = Float32Array.from({ length: S * D }, (_, i) => (i % D === 0 ? offset + ((Math.floor(i / D) * 7) % S) / 16 : 0));
  const v = Float32Array.from({ length: S * D }, (_, i) => ((i * 5) % 11) - 5);
  const scores = Array.from({ length: S }, (_, j) => k[j * D]);
  const most = Math.max(...scores);
  const weights = scores.map((s) => Math.exp(s - most));
  const total = weights.reduce((sum, w) => sum + w, 0);
  const mean = (e: number) => weights.reduce((sum, w, j) => sum + (w / total) * v[j * D + e], 0);
  for (const family of FAMILY)
    await withEachVersion(family, async (version) => {
      using _s = scope();
      const [a, b, c] = [tensor(q, [1, 1, T, D]), tensor(k, [1, 1, S, D]), tensor(v, [1, 1, S, D])].map(variable);
      const y = ops.scaledDotProductAttention(a, b, c, { scale: 1 });
      (await values(y)).forEach((value, i) => {
        expect(Math.abs(value - mean(i % D)), version).toBeLessThan(1e-4);
      });
      backward(ops.sum(ops.slice(y, [0, 0, 0, 1], [1, 1, T, 1])));
      const [dk, dv] = [await values(gradOf(b)), await values(gradOf(c))];
      weights.forEach((w, j) => {
        const p = w / total;
        expect(Math.abs(dv[j * D + 1] - T * p), version).toBeLessThan(1e-4);
        expect(Math.abs(dk[j * D] - T * p * (v[j * D + 1] - mean(1))), version).toBeLessThan(1e-4);
      });
    });
});

test.each<[string, () => ops.ScaledDotProductOptions, number[]]>([
  ['causal, with 6 queries and 3 keys', () => ({ causal: true }), [0, 1, 2]],
  ['hidden by a mask', () => ({ mask: tensor([0, 0, Number.NEGATIVE_INFINITY, 0, 0, Number.NEGATIVE_INFINITY], [6, 1]) }), [2, 5]],
])('a query that sees no key gets zeros, and gives no gradient: %s', async (_name, options, blind) => {
  for (const family of FAMILY)
    await withEachVersion(family, async (version) => {
      using _s = scope();
      const [q, k, v] = [
        [1, 1, 6, 4],
        [1, 1, 3, 4],
        [1, 1, 3, 4],
      ].map((shape, i) => drawn(shape, `${i}`));
      const y = ops.scaledDotProductAttention(q, k, v, options());
      backward(ops.sum(y));
      const [found, dq] = [await values(y), await values(gradOf(q))];
      const isZero = (row: number, of: number[]) => of.slice(4 * row, 4 * row + 4).every((value) => value === 0);
      expect(
        [0, 1, 2, 3, 4, 5].filter((row) => isZero(row, found)),
        version,
      ).toEqual(blind);
      for (const row of blind) expect(isZero(row, dq), version).toBe(true);
      for (const gradient of [dq, await values(gradOf(k)), await values(gradOf(v))]) expect(gradient.every(Number.isFinite), version).toBe(true);
    });
});

test.each<[string, Shape[]]>([
  [
    'no queries',
    [
      [2, 2, 0, 4],
      [2, 2, 3, 4],
      [2, 2, 3, 4],
    ],
  ],
  [
    'no keys',
    [
      [2, 2, 3, 4],
      [2, 2, 0, 4],
      [2, 2, 0, 4],
    ],
  ],
  [
    'no pictures',
    [
      [0, 2, 3, 4],
      [0, 2, 3, 4],
      [0, 2, 3, 4],
    ],
  ],
  [
    'no columns of values',
    [
      [1, 2, 3, 4],
      [1, 2, 3, 4],
      [1, 2, 3, 0],
    ],
  ],
])('extents of 0: %s', async (_name, shapes) => {
  const found = await all((q, k, v) => ops.scaledDotProductAttention(q, k, v), shapes);
  expect(found.y).toEqual(new Array(sizeOf([...shapes[0].slice(0, 3), shapes[2][3]])).fill(0));
  expect([found.dq, found.dk, found.dv]).toEqual(shapes.map((shape) => new Array(sizeOf(shape)).fill(0)));
});

test('queries and keys without columns: all keys count alike', async () => {
  using _s = scope();
  const y = ops.scaledDotProductAttention(zeros([1, 1, 2, 0]), zeros([1, 1, 4, 0]), tensor([1, 2, 3, 6], [1, 1, 4, 1]));
  expect(await values(y)).toEqual([3, 3]);
});

test.each<[Shape[], string]>([
  [
    [
      [2, 3, 4],
      [2, 3, 4],
      [2, 3, 4],
    ],
    'q [2,3,4] has 3 axes, 4 are expected',
  ],
  [
    [
      [1, 2, 3, 4],
      [1, 2, 5, 8],
      [1, 2, 5, 4],
    ],
    'a query is 4 wide, a key 8',
  ],
  [
    [
      [1, 2, 3, 4],
      [1, 2, 5, 4],
      [1, 2, 6, 4],
    ],
    'there are 5 keys and 6 values',
  ],
  [
    [
      [1, 2, 3, 4],
      [1, 1, 5, 4],
      [1, 2, 5, 4],
    ],
    'all need the same batch and heads',
  ],
  [
    [
      [1, 2, 3, 4],
      [1, 2, 5, 4],
      [1, 2, 5, 4],
      [3, 4],
    ],
    'mask and scores: [3,4] and [1,2,3,5] do not broadcast',
  ],
  [
    [
      [1, 2, 3, 4],
      [1, 2, 5, 4],
      [1, 2, 5, 4],
      [7, 2, 3, 5],
    ],
    'mask [7,2,3,5] does not broadcast to the scores [1,2,3,5]',
  ],
])('refused: %j', (shapes, message) => {
  using _s = scope();
  const [q, k, v, mask] = shapes.map((shape) => zeros(shape));
  expect(() => ops.scaledDotProductAttention(q, k, v, mask ? { mask } : {})).toThrow(message);
});
