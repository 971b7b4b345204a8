/** ONNX's operators of single elements: each on the host and on the GPU, beside numbers that are known and beside onnxruntime. */
import { expect, test } from 'vitest';
import { compare } from '../src/autograd/check.ts';
import { Random } from '../src/random.ts';
import { type Call, expectedOf, floats, type Operand, of, ort, outputsOf } from './onnx_operator.ts';
import { useGpu } from './support.ts';

useGpu();

const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
const random = new Random(20261126, 'elementwise');
const drawn = (count: number, low: number, high: number) => Array.from({ length: count }, () => Math.fround(random.uniform(low, high)));

/** Unary functions of floats: where to draw from, and edges. */
const UNARY: Record<string, { low?: number; high?: number; edges?: number[]; attributes?: Call['attributes']; opset?: number; unknown?: true }> = {
  Abs: { edges: [-inf, inf, nan, -0] },
  Neg: { edges: [-inf, inf, nan] },
  Sign: { edges: [-inf, inf, 0] },
  Floor: { edges: [-1.5, 2.5, -inf, nan] },
  Ceil: { edges: [-1.5, 2.5, inf, nan] },
  Round: { edges: [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, inf, nan] },
  Sqrt: { low: 0, high: 9, edges: [0, inf, nan] },
  Exp: { edges: [-inf, inf, nan] },
  Log: { low: 0.01, high: 9, edges: [0, inf, nan] },
  Reciprocal: { low: 0.1, high: 9, edges: [inf, nan] },
  Erf: { edges: [-inf, inf, nan, 0] },
  ...Object.fromEntries(['Sin', 'Cos', 'Atan', 'Sinh', 'Cosh', 'Tanh', 'Asinh'].map((op) => [op, { edges: [0, nan] }])),
  Tan: { low: -1.4, high: 1.4 },
  Asin: { low: -1, high: 1, edges: [1, -1, 2] },
  Acos: { low: -1, high: 1, edges: [1, -1, 2] },
  Acosh: { low: 1, high: 20, edges: [1] },
  Atanh: { low: -0.99, high: 0.99 },
  Relu: { edges: [-inf, inf] },
  LeakyRelu: { attributes: { alpha: { float: 0.3 } }, edges: [-inf, inf] },
  Sigmoid: { edges: [-inf, inf, nan, 100, -100] },
  Elu: { attributes: { alpha: { float: 0.7 } }, edges: [-inf, inf] },
  Selu: { edges: [-inf, inf] },
  Celu: { attributes: { alpha: { float: 2 } }, edges: [-inf] },
  HardSigmoid: { attributes: { alpha: { float: 0.4 }, beta: { float: 0.3 } }, edges: [-inf, inf] },
  HardSwish: { edges: [3, -3, 100] },
  Softplus: { edges: [100, -100] },
  Softsign: { edges: [1e30] },
  Mish: { edges: [50, -50] },
  Gelu: { opset: 20, edges: [10, -10] },
  ThresholdedRelu: { attributes: { alpha: { float: 0.8 } }, edges: [0.8, -inf, inf] },
  Shrink: { attributes: { lambd: { float: 1 }, bias: { float: 0.25 } }, edges: [1, -1, inf, -inf] },
  Swish: { opset: 24, attributes: { alpha: { float: 1.5 } }, unknown: true },
  'Gelu, tanh': { opset: 20, attributes: { approximate: 'tanh' }, edges: [10, -10] },
  Softmax: {},
  LogSoftmax: {},
  'Softmax, axis 0': { attributes: { axis: 0 } },
  'Softmax of many axes': { opset: 11, attributes: { axis: 0 } },
  Hardmax: { attributes: { axis: 0 } },
  'Hardmax of many axes': { opset: 11, attributes: { axis: 0 } },
  'Hardmax of the last axis': {},
  IsNaN: { edges: [nan, inf] },
  IsInf: { edges: [nan, inf, -inf] },
  'IsInf, negative': { attributes: { detect_positive: 0 }, edges: [nan, inf, -inf] },
};

async function agrees(call: Call, at: 'host' | 'gpu', expected: { shape: number[]; data: (number | string)[] }[], tolerance: number): Promise<void> {
  const found = await outputsOf(call, at);
  for (const [i, each] of expected.entries()) {
    expect(found[i].shape, `${call.op}, ${at}`).toEqual(each.shape);
    expect(
      compare(found[i].data as number[], each.data as number[], tolerance, tolerance),
      `${call.op}, ${at}: ${found[i].data} for ${each.data}`,
    ).toMatchObject({
      ok: true,
    });
  }
}

test.skipIf(!ort).each(Object.entries(UNARY))('%s of floats as onnxruntime has it', async (name, { low = -4, high = 4, edges = [], unknown, ...rest }) => {
  const op = name.split(/,| of/)[0];
  const data = [...drawn(35 - edges.length, low, high), ...edges];
  const call = (type: string): Call => ({ op, ...rest, inputs: [of(type, data, [5, 7])] });
  if (unknown) {
    // onnxruntime does not have it yet.
    const expected = [{ shape: [5, 7], data: data.map((x) => x / (1 + Math.exp(-1.5 * x))) }];
    await agrees(call('float'), 'host', expected, 1e-6);
    await agrees(call('float'), 'gpu', expected, 2e-5);
    return;
  }
  const expected = await expectedOf(call('float'));
  await agrees(call('float'), 'host', expected, 2e-6);
  await agrees(call('float'), 'gpu', expected, 2e-5);
  expect((await outputsOf(call('float'), 'gpu'))[0].onGpu).toBe(true);
});

/** Pairs that broadcast, as onnxruntime has them. */
const PAIRS: [string, Operand, Operand, Call['attributes']?][] = [];
const whole = (type: string, count: number, low: number, high: number, shape = [count]) =>
  of(
    type,
    Array.from({ length: count }, () => low + random.integer(high - low + 1)),
    shape,
  );
for (const type of ['int32', 'int64', 'uint8', 'int8', 'uint32']) {
  const low = type.startsWith('u') ? 0 : -20;
  for (const op of ['Add', 'Sub', 'Mul', 'Max', 'Min', 'Equal', 'Greater', 'Less', 'GreaterOrEqual', 'LessOrEqual', 'BitwiseAnd', 'BitwiseOr', 'BitwiseXor'])
    if (!(op === 'Sub' && low === 0)) PAIRS.push([op, whole(type, 12, low, 20, [3, 4]), whole(type, 4, low, 20)]);
  for (const op of ['Div', 'Mod']) PAIRS.push([op, whole(type, 12, low, 20, [3, 4]), whole(type, 4, 1, 9)]);
}
for (const op of ['Add', 'Sub', 'Mul', 'Max', 'Min', 'Equal', 'Greater', 'Less', 'GreaterOrEqual', 'LessOrEqual'])
  PAIRS.push([op, floats([1, 2, inf, -inf, nan, 0, 3, 3], [2, 4]), floats([1, 5, inf, 1])]);
for (const op of ['Add', 'Div', 'Pow', 'Max']) {
  PAIRS.push([op, floats(drawn(30, 0.5, 4), [2, 3, 5]), floats(drawn(6, -2, 2), [2, 3, 1])]);
  PAIRS.push([op, of('double', drawn(6, 0.5, 4), [2, 3]), of('double', drawn(3, -2, 2))]);
}
PAIRS.push(
  ['Pow', floats([-2, -2, 0, 4, 1, 1, 3]), of('int64', [2, 3, 0, -1, 5, 7, 2])],
  ['Pow', floats([2, 3, 4]), floats([2])],
  ['Pow', floats([2, 3, 4]), floats([0.5], [])],
  ['Pow', floats([2, 3, 4]), floats([3])],
  ['Pow', of('int32', [2, 3, -3]), of('int32', [10, 4, 3])],
  ['Pow', of('int32', [2, 3, -3]), floats([3, 0.5, 2])],
  ['Mod', of('int32', [-7, 7, -7, 7]), of('int32', [3, -3, -3, 3])],
  ['Mod', of('int32', [-7, 7, -7, 7]), of('int32', [3, -3, -3, 3]), { fmod: 1 }],
  ['Mod', floats([-7.5, 7.5, -7.5, 5]), floats([2, -2, -2, 2.5]), { fmod: 1 }],
  ['And', of('bool', [0, 0, 1, 1]), of('bool', [0, 1, 0, 1])],
  ['Or', of('bool', [0, 0, 1, 1]), of('bool', [0, 1, 0, 1])],
  ['Xor', of('bool', [0, 0, 1, 1]), of('bool', [0, 1, 0, 1])],
  ['Equal', of('bool', [0, 0, 1, 1]), of('bool', [0, 1, 0, 1])],
  ['PRelu', floats(drawn(24, -2, 2), [2, 3, 4]), floats([0.1, -0.5, 2], [3, 1])],
  ['BitShift', of('uint8', [1, 200, 255]), of('uint8', [1, 2, 7]), { direction: 'LEFT' }],
  ['BitShift', of('uint32', [1, 200, 2 ** 31]), of('uint32', [1, 2, 31]), { direction: 'RIGHT' }],
);

test
  .skipIf(!ort)
  .each(
    PAIRS.map(([op, a, b, attributes]) => [
      `${op} of ${a.type} [${a.shape}] and ${b.type} [${b.shape}] ${JSON.stringify(attributes ?? '')}`,
      { op, inputs: [a, b], attributes } as Call,
    ]),
  )('%s as onnxruntime has it', async (_name, call) => {
  const expected = await expectedOf(call);
  const exact = call.inputs[0]?.type !== 'float';
  await agrees(call, 'host', expected, exact ? 1e-12 : 1e-6);
  if (call.inputs.every((each) => each?.type === 'float')) await agrees(call, 'gpu', expected, 2e-5);
});

interface Known extends Call {
  shape: number[];
  data: (number | string)[];
  /** Computed on the host only. */
  host?: true;
}

const KNOWN: Record<string, Known> = {
  'the largest of three, one of them a NaN': { op: 'Max', inputs: [floats([1, 5, nan]), floats([4], []), floats([2, 6, 3])], shape: [3], data: [4, 6, nan] },
  'the largest of one': { op: 'Max', inputs: [floats([1, 5])], shape: [2], data: [1, 5] },
  'the least of whole numbers': { op: 'Min', inputs: [of('int16', [1, -5]), of('int16', [0])], shape: [2], data: [0, -5] },
  'the mean of three': { op: 'Mean', inputs: [floats([1, 2]), floats([4, 5]), floats([4], [1])], shape: [2], data: [3, 11 / 3].map(Math.fround) },
  'a sum of nothing': { op: 'Sum', inputs: [floats([], [0, 3]), floats([1, 2, 3])], shape: [0, 3], data: [] },
  'products of 32 bits that wrap': { op: 'Mul', inputs: [of('int32', [65537, -1]), of('int32', [65537, 5])], shape: [2], data: [131073, -5] },
  'powers of 32 bits that wrap': { op: 'Pow', inputs: [of('int32', [3, 2]), of('int32', [21, 31])], shape: [2], data: [1870418611, -(2 ** 31)] },
  'a power of 8 bits that wraps': { op: 'Pow', inputs: [of('uint8', [3]), of('uint8', [6])], shape: [1], data: [729 % 256] },
  'powers below 1 of whole numbers': { op: 'Pow', inputs: [of('int64', [2, 1, -1]), of('int64', [-1, -3, -3])], shape: [3], data: [0, 1, -1] },
  'Abs of the least number of 8 bits': { op: 'Abs', inputs: [of('int8', [-128, -1, 5])], shape: [3], data: [-128, 1, 5] },
  'Neg of 16 bits': { op: 'Neg', inputs: [of('int16', [-32768, 5])], shape: [2], data: [-32768, -5] },
  'Sign of whole numbers': { op: 'Sign', inputs: [of('int64', [-9, 0, 4])], shape: [3], data: [-1, 0, 1] },
  'Relu of whole numbers': { op: 'Relu', inputs: [of('int32', [-9, 0, 4])], shape: [3], data: [0, 0, 4] },
  'Clip of whole numbers': { op: 'Clip', inputs: [of('int8', [-9, 0, 4]), of('int8', [-1], []), of('int8', [3], [])], shape: [3], data: [-1, 0, 3] },
  'Clip without a lower end': { op: 'Clip', inputs: [floats([-9, nan, 4]), null, floats([3], [])], shape: [3], data: [-9, nan, 3] },
  'Clip, ends that cross': { op: 'Clip', inputs: [floats([-9, 0, 4]), floats([3], []), floats([1], [])], shape: [3], data: [1, 1, 1] },
  'BitwiseNot of 8 bits': { op: 'BitwiseNot', inputs: [of('uint8', [0, 255, 5])], shape: [3], data: [255, 0, 250] },
  'BitwiseNot with a sign': { op: 'BitwiseNot', inputs: [of('int64', [0, -1, 5])], shape: [3], data: [-1, 0, -6] },
  'a shift beyond the bits': { op: 'BitShift', inputs: [of('uint8', [1]), of('uint8', [9])], attributes: { direction: 'LEFT' }, shape: [1], data: [0] },
  'running sums': { op: 'CumSum', inputs: [floats([1, 2, 3, 4, 5, 6], [2, 3]), of('int32', [-1], [])], shape: [2, 3], data: [1, 3, 6, 4, 9, 15] },
  'running sums from the end, without itself': {
    ...{ op: 'CumSum', inputs: [floats([1, 2, 3, 4, 5, 6], [2, 3]), of('int64', [1])], attributes: { exclusive: 1, reverse: 1 } },
    shape: [2, 3],
    data: [5, 3, 0, 11, 6, 0],
  },
  'running sums of whole numbers': { op: 'CumSum', inputs: [of('int32', [1, 2, 3, 4], [2, 2]), of('int32', [0], [])], shape: [2, 2], data: [1, 2, 4, 6] },
  'running sums of nothing': { op: 'CumSum', inputs: [floats([], [2, 0]), of('int32', [1], [])], shape: [2, 0], data: [] },
  determinants: { op: 'Det', inputs: [floats([1, 2, 3, 4, 0, 1, 1, 0, 2, 4, 1, 2], [3, 2, 2])], shape: [3], data: [-2, -1, 0], host: true },
  'a determinant of 3 rows': { op: 'Det', inputs: [of('double', [0, 2, 1, 1, 1, 0, 3, 0, 2], [3, 3])], shape: [], data: [-7], host: true },
  'Where of texts': { op: 'Where', inputs: [of('bool', [1, 0]), of('string', ['a', 'b']), of('string', ['c'], [])], shape: [2], data: ['a', 'c'] },
  'Equal of texts': { op: 'Equal', inputs: [of('string', ['a', 'b']), of('string', ['b'])], opset: 19, shape: [2], data: [0, 1] },
  'Where of whole numbers': { op: 'Where', inputs: [of('bool', [1, 0]), of('int64', [7], []), of('int64', [8, 9])], shape: [2], data: [7, 9] },
  'Where of floats: what is not chosen does not matter': {
    ...{ op: 'Where', inputs: [of('bool', [1, 0], [2, 1]), floats([1, nan, 3], [3]), floats([-inf], [])] },
    shape: [2, 3],
    data: [1, nan, 3, -inf, -inf, -inf],
  },
  'Not of truth values': { op: 'Not', inputs: [of('bool', [1, 0])], shape: [2], data: [0, 1] },
  'before opset 7 the second repeats from an axis': {
    ...{ op: 'Greater', opset: 6, inputs: [floats([1, 2, 3, 4], [2, 2]), floats([1, 3])], attributes: { broadcast: 1, axis: 0 } },
    shape: [2, 2],
    data: [0, 1, 0, 1],
  },
  'PRelu before opset 7: one slope a channel': {
    ...{ op: 'PRelu', opset: 6, inputs: [floats([-1, -2, -3, -4], [1, 2, 2]), floats([2, 3])] },
    shape: [1, 2, 2],
    data: [-2, -4, -9, -12],
  },
  'the axis of Softmax before opset 13 is where rows begin': {
    ...{ op: 'Softmax', opset: 11, inputs: [floats([0, 0, 0, 0], [1, 2, 2])] },
    shape: [1, 2, 2],
    data: [0.25, 0.25, 0.25, 0.25],
  },
  'Hardmax takes the first of the largest': {
    op: 'Hardmax',
    inputs: [floats([1, 3, 3, nan, 0, 5], [2, 3])],
    shape: [2, 3],
    data: [0, 1, 0, 1, 0, 0],
  },
  'a NaN stays one where onnxruntime says 0': { op: 'Shrink', inputs: [floats([nan, 2])], shape: [2], data: [nan, 2] },
  'Softmax of nothing': { op: 'Softmax', inputs: [floats([], [2, 0])], shape: [2, 0], data: [] },
};

test.each(Object.entries(KNOWN))('%s', async (_name, { shape, data, host, ...call }) => {
  await agrees(call, 'host', [{ shape, data }], 2e-7).catch(async (error) => {
    // Texts are compared as they are.
    if (typeof data[0] !== 'string') throw error;
    expect(await outputsOf(call, 'host')).toMatchObject([{ shape, data }]);
  });
  if (!host && call.inputs.some((each) => each?.type === 'float')) await agrees(call, 'gpu', [{ shape, data }], 1e-5);
});

const REFUSED: Record<string, [Call, RegExp]> = {
  'two types': [{ op: 'Max', inputs: [of('int32', [1]), of('int64', [1])] }, /Max.*int32 and int64 differ in type/],
  'truth values that are added': [{ op: 'Add', inputs: [of('bool', [1]), of('bool', [1])] }, /Add.*no arithmetic/],
  'whole numbers of which no root is taken': [{ op: 'Sqrt', inputs: [of('int32', [4])] }, /Sqrt.*int32 is given, floats are expected/],
  'a remainder of floats by whole numbers': [{ op: 'Mod', inputs: [floats([4]), floats([3])] }, /Mod.*fmod is 0/],
  'a division by 0': [{ op: 'Mod', inputs: [of('int32', [4]), of('int32', [0])] }, /Mod.*divided by 0/],
  'a shift with a sign': [{ op: 'BitShift', inputs: [of('int8', [4]), of('int8', [1])], attributes: { direction: 'LEFT' } }, /BitShift.*int8 is given/],
  'a shift to nowhere': [{ op: 'BitShift', inputs: [of('uint8', [4]), of('uint8', [1])], attributes: { direction: 'UP' } }, /direction is "UP"/],
  'bits of floats': [{ op: 'BitwiseAnd', inputs: [floats([1]), floats([1])] }, /BitwiseAnd.*floats have no bits/],
  'And of whole numbers': [{ op: 'And', inputs: [of('int32', [1]), of('int32', [1])] }, /And.*truth values are expected/],
  'a condition of floats': [{ op: 'Where', inputs: [floats([1]), floats([1]), floats([1])] }, /Where.*truth values are expected/],
  'a choice between two types': [{ op: 'Where', inputs: [of('bool', [1]), floats([1]), of('int64', [1])] }, /Where.*differ in type/],
  'a slope that does not repeat': [{ op: 'PRelu', inputs: [floats([1, 2]), floats([1, 2, 3])] }, /PRelu.*does not repeat/],
  'a determinant of no square': [{ op: 'Det', inputs: [floats([1, 2], [1, 2])] }, /Det.*square matrices/],
  'Gelu by a way that is not': [{ op: 'Gelu', opset: 20, inputs: [floats([1])], attributes: { approximate: 'erf' } }, /approximate is "erf"/],
  'whole numbers beyond 2^53': [{ op: 'Pow', inputs: [of('int64', [10]), of('int64', [19])] }, /Pow.*2\^53/],
  'shapes that do not fit': [{ op: 'Equal', inputs: [floats([1, 2]), floats([1, 2, 3])] }, /Equal/],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_name, [call, reason]) => {
  await expect(outputsOf(call, 'host')).rejects.toThrow(reason);
});
