/** Reductions over any set of axes, at their ends, and the gradients that the op table's cases do not reach. On both software drivers. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradcheck } from '../src/autograd/gradcheck.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, variable } from '../src/autograd/tape.ts';
import { Random } from '../src/random.ts';
import { sizeOf, stridesOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const { NaN: nan, POSITIVE_INFINITY: most, NEGATIVE_INFINITY: least } = Number;
const total = (values: number[]) => values.reduce((sum, value) => sum + value, 0);

/** Each reduction over a list of numbers, in float64. */
const REDUCTIONS = {
  sum: total,
  mean: (values: number[]) => total(values) / values.length,
  sumSquares: (values: number[]) => total(values.map((value) => value * value)),
  sumAbs: (values: number[]) => total(values.map(Math.abs)),
  norm: (values: number[]) => Math.hypot(...values),
  logSumExp: (values: number[]) => Math.log(total(values.map(Math.exp))),
  prod: (values: number[]) => values.reduce((product, value) => product * value, 1),
  max: (values: number[]) => Math.max(...values),
  min: (values: number[]) => Math.min(...values),
};
const { sum, mean, sumSquares, sumAbs, norm, logSumExp, prod, max, min } = ops;
const REDUCE = { sum, mean, sumSquares, sumAbs, norm, logSumExp, prod, max, min };
const NAMES = Object.keys(REDUCTIONS) as (keyof typeof REDUCTIONS)[];

/** The values that fall together when axes are taken away, by the place that is left. */
function grouped(values: ArrayLike<number>, shape: number[], axes: number[]): number[][] {
  const strides = stridesOf(shape);
  const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const own = stridesOf(kept.map((axis) => shape[axis]));
  const groups: number[][] = [];
  for (let i = 0; i < values.length; i++) {
    const place = kept.reduce((at, axis, k) => at + (Math.floor(i / strides[axis]) % shape[axis]) * own[k], 0);
    groups[place] ??= [];
    groups[place].push(values[i]);
  }
  return groups;
}

async function gradient(f: (x: Tensor) => Tensor, values: number[], shape: number[]): Promise<number[]> {
  using _s = scope();
  const x = variable(tensor(values, shape));
  backward(ops.sum(f(x)));
  return [...((await gradOf(x)?.data()) ?? [])];
}

describe.each([undefined, 'swiftshader'])('on the driver %s', (adapter) => {
  useGpu(adapter);

  test.each(NAMES)('property: %s over any set of axes', async (name) => {
    const shapes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(
        shapes.chain((shape) =>
          fc.tuple(
            fc.constant(shape),
            fc.shuffledSubarray(
              shape.map((_, axis) => axis),
              { minLength: 1 },
            ),
            fc.boolean(),
          ),
        ),
        async ([shape, axes, keepDims]) => {
          using _s = scope();
          const random = new Random(3, shape.join());
          const values = Float32Array.from({ length: sizeOf(shape) }, () => random.uniform(0.5, 1.5));
          const y = REDUCE[name](
            tensor(values, shape),
            axes.map((axis, i) => (i % 2 === 0 ? axis : axis - shape.length)),
            keepDims,
          );
          expect(y.shape).toEqual(shape.flatMap((extent, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [extent])));
          const wanted = grouped(values, shape, axes).map(REDUCTIONS[name]);
          (await y.data()).forEach((value, i) => {
            expect(Math.abs(value - wanted[i])).toBeLessThan(1e-5 * Math.max(1, Math.abs(wanted[i])));
          });
        },
      ),
      { numRuns: 20, seed: 5 },
    );
  });

  test.each(NAMES)('the gradient of %s over axes that are apart', async (name) => {
    const random = new Random(8, name);
    const data = Float32Array.from(random.permutation(3 * 4 * 5 * 2), (place) => 0.4 + 0.01 * place);
    const weights = Float32Array.from({ length: 4 }, () => random.normal());
    const found = await gradcheck((x) => ops.sum(ops.mul(REDUCE[name](x, [0, 2, 3]), tensor(weights))), [{ shape: [3, 4, 5, 2], data }], { h: 1e-3 });
    expect(found).toMatchObject({ ok: true });
  });

  test('axes that are not there, named twice, or none at all are refused', () => {
    using _s = scope();
    const x = zeros([2, 3, 4]);
    expect(() => ops.sum(x, [0, 3])).toThrow('sum: axis 3 is not among the 3 of [2,3,4]');
    expect(() => ops.mean(x, [1, -2])).toThrow('mean: axes [1,-2] of [2,3,4] name an axis twice');
    expect(() => ops.prod(x, [])).toThrow('prod: [2,3,4] is reduced over no axis');
  });

  test('over nothing', async () => {
    using _s = scope();
    const over = async (f: (x: Tensor) => Tensor) => [...(await f(zeros([2, 0])).data())];
    for (const name of ['sum', 'sumSquares', 'sumAbs', 'norm'] as const) expect(await over((x) => REDUCE[name](x, 1))).toEqual([0, 0]);
    expect(await over((x) => ops.prod(x, 1))).toEqual([1, 1]);
    expect(await over((x) => ops.mean(x, 1))).toEqual([nan, nan]);
    expect(await over((x) => ops.logSumExp(x, 1))).toEqual([least, least]);
    expect(() => ops.max(zeros([2, 0]), 1)).toThrow('max: [2,0] has nothing to take the max of');
    for (const name of NAMES) expect(await over((x) => REDUCE[name](x, 0))).toEqual([]);
    expect(ops.sum(zeros([0, 5000]), 1).shape).toEqual([0]);
    expect(await ops.sum(zeros([3, 0, 2]), [0, 2]).data()).toHaveLength(0);
    expect([...(await ops.sum(zeros([3, 0, 2]), [0, 1]).data())]).toEqual([0, 0]);
  });

  test('places that hold an extreme share its gradient', async () => {
    expect(await gradient((x) => ops.max(x, 1), [1, 3, 3, -1, 2, 0], [2, 3])).toEqual([0, 0.5, 0.5, 0, 1, 0]);
    expect(await gradient((x) => ops.min(x, 0), [1, 3, 3, 1, 2, 4], [2, 3])).toEqual([0.5, 0, 1, 0.5, 1, 0]);
    expect(await gradient((x) => ops.max(x, 1), [least, least, least, 1], [2, 2])).toEqual([0.5, 0.5, 0, 1]);
  });

  test('the gradient of a product beside one 0, and beside two', async () => {
    expect(await gradient((x) => ops.prod(x, 1), [2, 0, 5, 0, 3, 0, 2, 4, 5], [3, 3])).toEqual([0, 10, 0, 0, 0, 0, 20, 10, 8]);
  });

  test('the gradient of a norm of zeros is 0', async () => {
    expect(await gradient((x) => ops.norm(x, 1), [0, 0, 3, 4], [2, 2])).toEqual([0, 0, Math.fround(0.6), Math.fround(0.8)]);
  });

  test('log-sum-exp: rows of −∞, with an infinity, and far from 0', async () => {
    using _s = scope();
    const x = [least, least, least, 3, most, 1, 1000, 1000, -2000, -2000, nan, 1];
    const y = await ops.logSumExp(tensor(x, [6, 2]), 1).data();
    [least, 3, most, 1000 + Math.LN2, -2000 + Math.LN2, nan].forEach((wanted, i) => {
      if (Number.isFinite(wanted)) expect(y[i]).toBeCloseTo(wanted, 3);
      else expect(y[i]).toBe(wanted);
    });
    const slopes = await gradient((v) => ops.logSumExp(v, 1), [least, least, least, 3, 1000, 1000], [3, 2]);
    expect(slopes).toEqual([0, 0, 0, 1, 0.5, 0.5]);
  });

  test('softmax over any axis', async () => {
    using _s = scope();
    const random = new Random(2, 'softmax');
    const [shape, data] = [[3, 4, 5], Float32Array.from({ length: 60 }, () => random.normal())];
    for (const log of [false, true])
      for (const axis of [0, 1, 2, -1, -2]) {
        const own = (axis + 3) % 3;
        const y = await ops.softmax(tensor(data, shape), log, axis).data();
        const [powers, found] = [Array.from(data, Math.exp), Array.from(y, (value) => (log ? Math.exp(value) : value))];
        const sums = grouped(powers, shape, [own]).map(total);
        grouped(found, shape, [own]).forEach((group, place) => {
          const wanted = grouped(powers, shape, [own])[place].map((power) => power / sums[place]);
          group.forEach((value, i) => {
            expect(value).toBeCloseTo(wanted[i], 5);
          });
        });
        const checked = await gradcheck((x) => ops.sum(ops.mul(ops.softmax(x, log, axis), tensor(data, shape))), [{ shape, data }]);
        expect(checked).toMatchObject({ ok: true });
      }
    expect(() => ops.softmax(zeros([2, 3]), false, 2)).toThrow('softmax: axis 2 is not among the 2 of [2,3]');
    expect(await ops.softmax(zeros([0, 3]), false, 1).data()).toHaveLength(0);
  });
});
