/**
 * Elementwise functions at their ends and over their whole range, on both software drivers: infinities, zeros with a sign, halves,
 * what lies outside of a domain, and angles of any size.
 */
import { describe, expect, test } from 'vitest';
import type { Op } from '../src/autograd/op.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { apply, backward, gradOf, variable } from '../src/autograd/tape.ts';
import { Random } from '../src/random.ts';
import { readTensors, scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const { NaN: nan, POSITIVE_INFINITY: most, NEGATIVE_INFINITY: least } = Number;

/** Values of x, and what must come of them: NaN and infinities as they are, numbers to 6e-6 of them. */
const ENDS: [name: string, f: (x: Tensor) => Tensor, x: number[], y: number[]][] = [
  ['log', ops.log, [0, -0, -1, least, most, 1], [least, least, nan, nan, most, 0]],
  ['erf', ops.erf, [most, least, 0, 5, -5, 1e-20], [1, -1, 0, 1, -1, 1.1283792e-20]],
  ['gelu', ops.gelu, [most, least, 0, -3e38, 3e38], [most, 0, 0, 0, 3e38]],
  ['geluTanh', ops.geluTanh, [most, least, 0, -3e38, 3e38], [most, 0, 0, 0, 3e38]],
  ['silu', ops.silu, [most, least, 0, -3e38, 3e38], [most, 0, 0, 0, 3e38]],
  ['mish', ops.mish, [most, least, 0, -3e38, 3e38], [most, 0, 0, 0, 3e38]],
  ['softplus', ops.softplus, [most, least, -200, 200, 0, -15], [most, 0, 0, 200, Math.LN2, 3.059023205e-7]],
  ['hardSigmoid', (x) => ops.hardSigmoid(x), [most, least, 0, -2.5, 2.5], [1, 0, 0.5, 0, 1]],
  ['hardSwish', ops.hardSwish, [most, least, -3, 3, 1], [most, 0, 0, 3, 2 / 3]],
  ['elu', (x) => ops.elu(x), [most, least, 1e-7, -1e-7], [most, -1, 1e-7, -1e-7]],
  ['selu', (x) => ops.selu(x), [most, least, 1], [most, -1.7580993, 1.0507009873]],
  ['celu', (x) => ops.celu(x, 2), [most, least, -2], [most, -2, 2 * Math.expm1(-1)]],
  ['softsign', ops.softsign, [most, least, 1, 0], [1, -1, 0.5, 0]],
  ['thresholdedRelu', (x) => ops.thresholdedRelu(x), [most, least, 1, 1.5], [most, 0, 0, 1.5]],
  ['sign', ops.sign, [most, least, 0, -0, 1e-30], [1, -1, 0, 0, 1]],
  ['floor', ops.floor, [most, least, -0.5, 2.5, 3e9], [most, least, -1, 2, 3e9]],
  ['ceil', ops.ceil, [most, least, -0.5, 2.5, 3e9], [most, least, 0, 3, 3e9]],
  ['round', ops.round, [most, least, -0.5, 0.5, 1.5, 2.5, -1.5, -2.5, 3e9], [most, least, 0, 0, 2, 2, -2, -2, 3e9]],
  ['trunc', ops.trunc, [most, least, -0.5, -1.5, 2.5, 3e9], [most, least, 0, -1, 2, 3e9]],
  ['sin', ops.sin, [most, least, 0, 1e-20, Math.fround(Math.PI), 3e38], [nan, nan, 0, 1e-20, Math.sin(Math.fround(Math.PI)), Math.sin(Math.fround(3e38))]],
  ['cos', ops.cos, [most, least, 0, -3e38, Math.fround(Math.PI / 2)], [nan, nan, 1, Math.cos(Math.fround(3e38)), Math.cos(Math.fround(Math.PI / 2))]],
  ['tan', ops.tan, [most, least, 0, 1e10], [nan, nan, 0, Math.tan(1e10)]],
  ['asin', ops.asin, [1, -1, 1.0001, -2, most, 0], [Math.PI / 2, -Math.PI / 2, nan, nan, nan, 0]],
  ['acos', ops.acos, [1, -1, 1.0001, -2, least, 0, Math.fround(1 - 1e-6)], [0, Math.PI, nan, nan, nan, Math.PI / 2, Math.acos(Math.fround(1 - 1e-6))]],
  ['atan', ops.atan, [most, least, 0, 1e-20, -1], [Math.PI / 2, -Math.PI / 2, 0, 1e-20, -Math.PI / 4]],
  ['sinh', ops.sinh, [most, least, 89, 100, 1e-7, 0], [most, least, Math.sinh(89), most, 1e-7, 0]],
  ['cosh', ops.cosh, [most, least, 89, -89, 100, 0], [most, most, Math.cosh(89), Math.cosh(89), most, 1]],
  ['asinh', ops.asinh, [most, least, 3e38, 1e-7, 0], [most, least, Math.asinh(3e38), 1e-7, 0]],
  ['acosh', ops.acosh, [most, 1, 0.9, least, 3e38, 1.000001], [most, 0, nan, nan, Math.acosh(3e38), Math.acosh(Math.fround(1.000001))]],
  ['atanh', ops.atanh, [1, -1, 1.1, -1.1, most, 1e-7, 0], [most, least, nan, nan, nan, 1e-7, 0]],
  ['isNan', ops.isNan, [nan, most, least, 0, 3e38], [1, 0, 0, 0, 0]],
  ['isInf', (x) => ops.isInf(x), [nan, most, least, 0, 3e38], [0, 1, 1, 0, 0]],
  ['isInf, positive', (x) => ops.isInf(x, { negative: false }), [nan, most, least, 0], [0, 1, 0, 0]],
  ['isInf, negative', (x) => ops.isInf(x, { positive: false }), [nan, most, least, 0], [0, 0, 1, 0]],
];

/** Slopes that must be numbers where the function is flat or straight at its ends. */
const FLAT: [string, (x: Tensor) => Tensor, number, number][] = [
  ['erf', ops.erf, 0, 0],
  ['gelu', ops.gelu, 0, 1],
  ['geluTanh', ops.geluTanh, 0, 1],
  ['silu', ops.silu, 0, 1],
  ['mish', ops.mish, 0, 1],
  ['softplus', ops.softplus, 0, 1],
  ['hardSigmoid', (x) => ops.hardSigmoid(x), 0, 0],
  ['hardSwish', ops.hardSwish, 0, 1],
  ['elu', (x) => ops.elu(x), 0, 1],
  ['celu', (x) => ops.celu(x), 0, 1],
  ['softsign', ops.softsign, 0, 0],
  ['atan', ops.atan, 0, 0],
];

/** Where a function is compared with its float64 reference, and the largest difference, relative for values beyond 1. */
const RANGES: [name: string, low: number, high: number, tolerance: number][] = [
  ['erf', -5, 5, 6e-7],
  ['gelu', -8, 8, 1e-6],
  ['geluTanh', -8, 8, 1e-6],
  ['silu', -90, 90, 1e-6],
  ['mish', -90, 30, 1e-6],
  ['softplus', -100, 100, 5e-7],
  ['elu', -100, 1, 1e-6],
  ['log', 1e-6, 3, 2e-6],
  ['tan', -1.5, 1.5, 1e-6],
  ['asin', -1, 1, 5e-7],
  ['acos', -1, 1, 5e-7],
  ['atan', -20, 20, 5e-7],
  ['sinh', -89, 89, 6e-6],
  ['cosh', -89, 89, 6e-6],
  ['asinh', -1e4, 1e4, 1e-6],
  ['acosh', 1, 100, 1e-6],
  ['atanh', -0.999, 0.999, 1e-6],
];

/** Values of a and of b, and what must come of them; zeros with their sign. */
const PAIRS: [name: string, f: (a: Tensor, b: Tensor) => Tensor, a: number[], b: number[], c: number[]][] = [
  ['pow of 0', ops.pow, [0, 0, 0, -0, -0, -0, -0, 0, 0], [2, 0, -1, 3, 2, -3, -2, most, least], [0, 1, most, -0, 0, least, most, 0, most]],
  ['pow of negative numbers', ops.pow, [-2, -2, -2, -2, -2, -1, -1], [3, 2, -3, 0.5, 18, most, 1e30], [-8, 4, -0.125, nan, 262144, 1, 1]],
  [
    'pow of infinities',
    ops.pow,
    [most, most, least, least, least, least, 2, 0.5, 0.5],
    [2, -2, 3, 2, -3, 0.5, most, most, least],
    [most, 0, least, most, -0, most, most, 0, most],
  ],
  [
    'pow beyond float32',
    ops.pow,
    [10, 10, 3, 1.0001, 2, 7],
    [39, -60, 0.5, 30000, -160, 1 / 3],
    [most, 0, Math.sqrt(3), Math.fround(1.0001) ** 30000, 0, Math.cbrt(7)],
  ],
  ['pow of a NaN', ops.pow, [nan, 1, nan], [0, nan, nan], [nan, nan, nan]],
  [
    'fmod',
    ops.fmod,
    [5.5, -5.5, 5.5, -5.5, 1e38, 6, -6, 1, most, 1, 0.3],
    [2, 2, -2, -2, 3, 3, 3, 0, 2, most, 0.1],
    [1.5, -1.5, 1.5, -1.5, Math.fround(1e38) % 3, 0, -0, nan, nan, 1, Math.fround(0.3) % Math.fround(0.1)],
  ],
  ['mod', ops.mod, [5.5, -5.5, 5.5, -5.5, 6, 1, most, -1, 7], [2, 2, -2, -2, 3, 0, 2, most, -7], [1.5, 0.5, -0.5, -1.5, 0, nan, nan, most, 0]],
  ['equal', ops.equal, [1, 1, nan, 0, most, most], [1, 2, nan, -0, most, least], [1, 0, nan, 1, 1, 0]],
  ['notEqual', ops.notEqual, [1, 1, nan, 0, most, most], [1, 2, 1, -0, most, least], [0, 1, nan, 0, 0, 1]],
  ['less', ops.less, [1, 1, nan, least, most], [1, 2, 1, most, most], [0, 1, nan, 1, 0]],
  ['lessEqual', ops.lessEqual, [1, 3, nan, least, most], [1, 2, 1, most, most], [1, 0, nan, 1, 1]],
];

const entry = (name: string): Op => OPS.find((op) => op.name === name) as Op;

describe.each([undefined, 'swiftshader'])('on the driver %s', (adapter) => {
  useGpu(adapter);

  test.each(ENDS)('%s at its ends', async (_name, f, values, wanted) => {
    using _s = scope();
    const y = await f(tensor(values)).data();
    expect(y.length).toBe(wanted.length);
    values.forEach((x, i) => {
      const isEqual = Number.isFinite(wanted[i]) ? Math.abs(y[i] - wanted[i]) <= 6e-6 * Math.abs(wanted[i]) + 1e-44 : Object.is(y[i], wanted[i]);
      expect(isEqual, `of ${x}: came ${y[i]}, must be ${wanted[i]}`).toBe(true);
    });
  });

  test.each(FLAT)('the slope of %s is a number at both infinities', async (_name, f, below, above) => {
    using _s = scope();
    const x = variable(tensor([least, most, -3e38, 3e38]));
    backward(ops.sum(f(x)));
    const slopes = await gradOf(x)?.data();
    [below, above, below, above].forEach((slope, i) => {
      expect(slopes?.[i]).toBeCloseTo(slope, 6);
    });
  });

  test.each(RANGES)('%s from %f to %f is right to %f', async (name, low, high, tolerance) => {
    using _s = scope();
    const values = Float32Array.from({ length: 4001 }, (_, i) => low + ((high - low) * i) / 4000);
    const [x, op] = [tensor(values), entry(name)];
    const y = await apply(op, [x], { alpha: 1, beta: 1 })[0].data();
    const expected = op.reference([{ shape: [values.length], data: Float64Array.from(values) }], { alpha: 1, beta: 1 })[0].data;
    const errors = Array.from(y, (value, i) => Math.abs(value - expected[i]) / Math.max(1, Math.abs(expected[i])));
    const worst = errors.indexOf(Math.max(...errors));
    expect(errors[worst], `${name}(${values[worst]}) is ${y[worst]}, must be ${expected[worst]}`).toBeLessThan(tolerance);
  });

  test('sine and cosine of an angle of any size are right to 1.5e-7, about a rounding of a number near 1', async () => {
    using _s = scope();
    const random = new Random(7, 'angles');
    const values = Float32Array.from({ length: 4096 }, () => (random.uniform() < 0.5 ? -1 : 1) * 2 ** random.uniform(-20, 127.9));
    // The float32 that come closest to multiples of a right angle, the largest one, and both sides of π / 4.
    values.set([16367173 * 2 ** 72, 3.4028234663852886e38, 0.785398, 0.7853982, 201, 11, 710, 8388608]);
    const [sine, cosine] = await readTensors([ops.sin(tensor(values)), ops.cos(tensor(values))]);
    values.forEach((x, i) => {
      expect(Math.abs(sine[i] - Math.sin(x)), `sin ${x}`).toBeLessThan(1.5e-7);
      expect(Math.abs(cosine[i] - Math.cos(x)), `cos ${x}`).toBeLessThan(1.5e-7);
    });
  });

  test.each(PAIRS)('%s at its ends', async (_name, f, left, right, wanted) => {
    using _s = scope();
    const c = await f(tensor(left), tensor(right)).data();
    expect(c.length).toBe(wanted.length);
    wanted.forEach((value, i) => {
      const isEqual = Number.isFinite(value) && value !== 0 ? Math.abs(c[i] - value) <= 1e-5 * Math.abs(value) : Object.is(c[i], value);
      expect(isEqual, `of ${left[i]} and ${right[i]}: came ${c[i]}, must be ${value}`).toBe(true);
    });
  });

  test('remainders are exact, powers right to 1e-5, from tiny to huge numbers', async () => {
    using _s = scope();
    const random = new Random(9, 'pairs');
    const size = (low: number, high: number) => Float32Array.from({ length: 2000 }, () => (random.uniform() < 0.5 ? -1 : 1) * 2 ** random.uniform(low, high));
    const [a, b] = [size(-100, 100), size(-30, 30)];
    const rest = await ops.fmod(tensor(a), tensor(b)).data();
    rest.forEach((value, i) => {
      expect(value, `${a[i]} and ${b[i]}`).toBe(a[i] % b[i]);
    });
    const [base, exponent] = [size(-20, 20).map(Math.abs), size(-5, 3)];
    const powers = await ops.pow(tensor(base), tensor(exponent)).data();
    powers.forEach((value, i) => {
      const exact = base[i] ** exponent[i];
      if (exact > 1e-37 && exact < 3.4e38) expect(Math.abs(value / exact - 1), `${base[i]} to the ${exponent[i]}`).toBeLessThan(1e-5);
    });
  });

  test('the gradients of a power at 0, and of what is not chosen', async () => {
    using _s = scope();
    const [a, b] = [variable(tensor([0, 0, 2, -2])), variable(tensor([2, 0, 0, 3]))];
    backward(ops.sum(ops.pow(a, b)));
    expect([...((await gradOf(a)?.data()) ?? [])]).toEqual([0, 0, 0, 12]);
    const slopes = [...((await gradOf(b)?.data()) ?? [])];
    expect(slopes.slice(0, 2)).toEqual([0, 0]);
    expect(slopes[2]).toBeCloseTo(Math.LN2, 6);
    expect(slopes[3]).toBeNaN();
    const [x, y] = [variable(tensor([nan, 1, 2])), variable(tensor([5, nan]).alias([2, 1]))];
    const c = ops.where(tensor([0, nan, -0.5, 1, -0, 2], [2, 3]), x, y);
    expect([...(await c.data())]).toEqual([5, 1, 2, nan, nan, 2]);
    backward(ops.sum(ops.mul(c, tensor([1, 2, 3, 4, 5, 6], [2, 3]))));
    expect([...((await gradOf(x)?.data()) ?? [])]).toEqual([4, 2, 9]);
    expect([...((await gradOf(y)?.data()) ?? [])]).toEqual([1, 5]);
  });

  test('nothing gives nothing', async () => {
    using _s = scope();
    for (const f of [ops.erf, ops.sin, ops.isNan, ops.floor]) expect([...(await f(zeros([3, 0])).data())]).toEqual([]);
    for (const f of [ops.pow, ops.fmod, ops.equal]) expect(f(zeros([3, 0]), zeros([3, 1])).shape).toEqual([3, 0]);
    expect([...(await ops.where(zeros([1]), zeros([3, 0]), zeros([])).data())]).toEqual([]);
  });
});
