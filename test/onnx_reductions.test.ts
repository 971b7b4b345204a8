/** ONNX's reductions, searches for extremes, and losses: on the host and on the GPU, beside known numbers and onnxruntime. */
import { expect, test } from 'vitest';
import { floatTensor, node, type OnnxParts, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { compare } from '../src/autograd/check.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { type Call, expectedOf, floats, type Operand, of, ort, outputsOf } from './onnx_operator.ts';
import { useGpu } from './support.ts';

useGpu();

const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
const random = new Random(20261126, 'reductions');
const drawn = (count: number, low = -2, high = 2) => Array.from({ length: count }, () => Math.fround(random.uniform(low, high)));

const NAMES = ['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'SumSquare', 'LogSum', 'LogSumExp'].map((name) => `Reduce${name}`);

/** Axes are an attribute before an opset, an input from then on. */
function reduction(op: string, x: Operand, axes: number[] | null, opset: number, attributes: Call['attributes'] = {}): Call {
  const isInput = opset >= (op === 'ReduceSum' ? 13 : 18);
  if (isInput) return { op, opset, inputs: axes ? [x, of('int64', axes)] : [x], attributes };
  return { op, opset, inputs: [x], attributes: axes ? { ...attributes, axes } : attributes };
}

async function agrees(call: Call, on: 'host' | 'gpu', expected: readonly { shape: number[]; data: (number | string)[] }[], tolerance: number): Promise<void> {
  const found = await outputsOf(call, on);
  expect(found.length).toBe(expected.length);
  for (const [i, each] of expected.entries()) {
    expect(found[i].shape, `${call.op}, ${on}`).toEqual(each.shape);
    const said = `${call.op}, ${on}: ${found[i].data} for ${each.data}`;
    expect(compare(found[i].data as number[], each.data as number[], tolerance, tolerance), said).toMatchObject({ ok: true });
  }
}

const FORMS: [number[] | null, Call['attributes']][] = [
  [null, {}],
  [[1], {}],
  [[-1, 0], { keepdims: 0 }],
  [[2, 1], {}],
  [null, { keepdims: 0 }],
];

test.skipIf(!ort).each(NAMES.flatMap((op) => [11, 18].map((opset) => [op, opset] as const)))('%s of opset %i as onnxruntime has it', async (op, opset) => {
  const x = floats(op === 'ReduceLogSum' ? drawn(60, 0.5, 3) : drawn(60), [3, 4, 5]);
  for (const [axes, attributes] of FORMS) {
    const call = reduction(op, x, axes, opset, attributes);
    const expected = await expectedOf(call);
    await agrees(call, 'host', expected, 5e-6);
    await agrees(call, 'gpu', expected, 3e-5);
    expect((await outputsOf(call, 'gpu'))[0].onGpu).toBe(true);
  }
});

test.skipIf(!ort).each(['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceProd', 'ReduceL1', 'ReduceSumSquare'])(
  '%s of whole numbers and doubles as onnxruntime has it',
  async (op) => {
    for (const x of [of('int32', [3, -4, 5, 1, 2, -7], [2, 3]), of('double', [0.1, 0.2, 0.3, -4, 5, 6], [2, 3])]) {
      const call = reduction(op, x, [1], 18);
      const expected = await expectedOf(call);
      await agrees(call, 'host', expected, 1e-14);
    }
  },
);

test.skipIf(!ort).each(['ArgMax', 'ArgMin'].flatMap((op) => [0, 1].map((last) => [op, last] as const)))(
  '%s, select_last_index %i, as onnxruntime has it',
  async (op, last) => {
    const x = floats(
      Array.from({ length: 60 }, () => random.integer(4)),
      [3, 4, 5],
    );
    for (const [axis, keepdims] of [
      [0, 1],
      [1, 0],
      [-1, 1],
    ]) {
      const call: Call = { op, inputs: [x], attributes: { axis, keepdims, select_last_index: last } };
      const expected = await expectedOf(call);
      await agrees(call, 'host', expected, 0);
      await agrees(call, 'gpu', expected, 0);
      await agrees({ ...call, inputs: [of('int32', x.data, x.shape)] }, 'host', expected, 0);
    }
  },
);

interface Known extends Call {
  shape: number[];
  data: number[];
}

const nothing = floats([], [2, 0]);

const KNOWN: Record<string, Known> = {
  'the sum of nothing': { ...reduction('ReduceSum', nothing, [1], 18), shape: [2, 1], data: [0, 0] },
  'the product of nothing': { ...reduction('ReduceProd', nothing, [1], 18), shape: [2, 1], data: [1, 1] },
  'the mean of nothing': { ...reduction('ReduceMean', nothing, [1], 18), shape: [2, 1], data: [nan, nan] },
  'the largest of nothing': { ...reduction('ReduceMax', nothing, [1], 20), shape: [2, 1], data: [-inf, -inf] },
  'the least of nothing': { ...reduction('ReduceMin', nothing, [1], 20, { keepdims: 0 }), shape: [2], data: [inf, inf] },
  'the logarithm of the sum of nothing': { ...reduction('ReduceLogSumExp', nothing, [1], 18), shape: [2, 1], data: [-inf, -inf] },
  'nothing of nothing': { ...reduction('ReduceSum', nothing, [0], 18), shape: [1, 0], data: [] },
  'the largest whole number of nothing': { ...reduction('ReduceMax', of('int8', [], [0]), null, 20), shape: [1], data: [-128] },
  'truth values from opset 20 on': { ...reduction('ReduceMax', of('bool', [0, 1, 0, 0], [2, 2]), [1], 20), shape: [2, 1], data: [1, 0] },
  'all of the truth values': { ...reduction('ReduceMin', of('bool', [0, 1, 1, 1], [2, 2]), [1], 20), shape: [2, 1], data: [0, 1] },
  'a sum of 32 bits that wraps': { ...reduction('ReduceSum', of('int32', [2 ** 31 - 1, 1]), null, 18), shape: [1], data: [-(2 ** 31)] },
  'a product of 32 bits that wraps': { ...reduction('ReduceProd', of('int32', [65537, 65537, 65537]), null, 18), shape: [1], data: [Math.imul(131073, 65537)] },
  'a mean of whole numbers': { ...reduction('ReduceMean', of('int64', [-3, -4]), null, 18), shape: [1], data: [-3] },
  'no axes, and nothing is to be done': { ...reduction('ReduceSum', floats([1, 2]), null, 18, { noop_with_empty_axes: 1 }), shape: [2], data: [1, 2] },
  'a single number': { ...reduction('ReduceSumSquare', floats([-3], []), null, 18), shape: [], data: [9] },
  'the norm of a single number': { ...reduction('ReduceL2', floats([-3], []), null, 18, { keepdims: 0 }), shape: [], data: [3] },
  'a NaN stays one': { ...reduction('ReduceMax', floats([1, nan, 3, 4, 5, 6], [2, 3]), [1], 18), shape: [2, 1], data: [nan, 6] },
  'exponentials beyond float32': {
    ...reduction('ReduceLogSumExp', floats([1000, 1000, -1000, -1000], [2, 2]), [1], 18),
    shape: [2, 1],
    data: [1000.6931, -999.3069],
  },
  'a logarithm of infinities': { ...reduction('ReduceLogSumExp', floats([inf, 1, -inf, -inf], [2, 2]), [1], 18), shape: [2, 1], data: [inf, -inf] },
  'the place of a NaN': { op: 'ArgMax', inputs: [floats([1, nan, 9, 3, 2, 1], [2, 3])], attributes: { axis: 1 }, shape: [2, 1], data: [1, 0] },
};

test.each(Object.entries(KNOWN))('%s', async (_name, { shape, data, ...call }) => {
  await agrees(call, 'host', [{ shape, data }], 1e-6);
  if (call.inputs[0]?.type === 'float') await agrees(call, 'gpu', [{ shape, data }], 1e-6);
});

interface Loss {
  op: 'NegativeLogLikelihoodLoss' | 'SoftmaxCrossEntropyLoss';
  shape: number[];
  weights: boolean;
  ignored: number | null;
  reduction: string;
}

const LOSSES: Loss[] = (['NegativeLogLikelihoodLoss', 'SoftmaxCrossEntropyLoss'] as const).flatMap((op) =>
  [
    [5, 3],
    [2, 3, 4],
    [2, 3, 2, 5],
  ].flatMap((shape) =>
    ['none', 'mean', 'sum'].flatMap((way) => [
      { op, shape, weights: false, ignored: null, reduction: way },
      { op, shape, weights: true, ignored: 1, reduction: way },
      { op, shape, weights: true, ignored: -7, reduction: way },
    ]),
  ),
);

test.skipIf(!ort).each(LOSSES.map((loss) => [JSON.stringify(loss), loss] as const))(
  '%s as onnxruntime has it',
  async (_name, { op, shape, weights, ignored, reduction: way }) => {
    const places = [shape[0], ...shape.slice(2)];
    const size = (extents: number[]) => extents.reduce((product, extent) => product * extent, 1);
    const classes = Array.from({ length: size(places) }, (_, i) => (ignored !== null && ignored < 0 && i % 3 === 0 ? ignored : random.integer(3)));
    const call: Call = {
      op,
      inputs: [floats(drawn(size(shape)), shape), of('int64', classes, places), ...(weights ? [floats([0.5, 2, 1])] : [])],
      attributes: { reduction: way, ...(ignored === null ? {} : { ignore_index: ignored }) },
      makes: op === 'SoftmaxCrossEntropyLoss' ? ['float', 'float'] : ['float'],
    };
    const expected = await expectedOf(call);
    await agrees(call, 'host', expected, 1e-5);
    await agrees(call, 'gpu', expected, 3e-5);
  },
);

const REFUSED: Record<string, [Call, RegExp]> = {
  'truth values before opset 20': [reduction('ReduceMax', of('bool', [1]), null, 18), /ReduceMax.*no arithmetic/],
  'an axis that there is not': [reduction('ReduceSum', floats([1, 2]), [1], 18), /ReduceSum.*axes \[1\]/],
  'an axis twice': [reduction('ReduceSum', floats([1], [1, 1]), [0, -2], 18), /ReduceSum.*axes/],
  'the place of the largest of nothing': [{ op: 'ArgMax', inputs: [nothing], attributes: { axis: 1 } }, /ArgMax.*no places/],
  'the mean of no whole numbers': [reduction('ReduceMean', of('int32', [], [0]), null, 18), /ReduceMean.*NaN is no int32/],
  'a class that there is not': [
    { op: 'NegativeLogLikelihoodLoss', inputs: [floats([1, 2], [1, 2]), of('int64', [2])] },
    /NegativeLogLikelihoodLoss.*class 2 of 2/,
  ],
  'classes for other places': [
    { op: 'SoftmaxCrossEntropyLoss', inputs: [floats([1, 2], [1, 2]), of('int64', [0, 1])] },
    /SoftmaxCrossEntropyLoss.*\[2\] are not the classes of \[1,2\]/,
  ],
  'weights for other classes': [
    { op: 'NegativeLogLikelihoodLoss', inputs: [floats([1, 2], [1, 2]), of('int64', [0]), floats([1])] },
    /NegativeLogLikelihoodLoss.*weights are \[1\], \[2\]/,
  ],
  'a reduction that there is not': [
    { op: 'NegativeLogLikelihoodLoss', inputs: [floats([1, 2], [1, 2]), of('int64', [0])], attributes: { reduction: 'max' } },
    /reduction is "max"/,
  ],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_name, [call, reason]) => {
  await expect(outputsOf(call, 'host')).rejects.toThrow(reason);
  if (call.inputs[0]?.type === 'float') await expect(outputsOf(call, 'gpu')).rejects.toThrow(reason);
});

test('a file that reduces a large constant again and again is not computed at import without end', () => {
  const count = 400;
  const names = Array.from({ length: count }, (_, i) => `s${i}`);
  const parts: OnnxParts = {
    nodes: [...names.map((name) => node('ReduceSum', ['c'], [name])), node('Sum', ['x', ...names], ['y'])],
    initializers: [floatTensor('c', [1 << 18], new Float32Array(1 << 18))],
    inputs: [{ name: 'x', shape: [1] }],
    outputs: ['y'],
  };
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
  const left = model.graph.nodes.length;
  model.dispose();
  expect(left).toBeGreaterThan(count / 7);
  expect(left).toBeLessThan(count);
});
