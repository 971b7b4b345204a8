/** Passes over a graph: what they fuse, what they must leave alone, and that the numbers stay. */
import { expect, test } from 'vitest';
import { floatTensor, intTensor, node, type OnnxParts, onnxBytes, rawTensor } from '../bench/peers/onnx_writer.ts';
import { compare } from '../src/autograd/check.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { PASS_NAMES } from '../src/model/onnx/passes/index.ts';
import { type Given, OnnxModel } from '../src/model/onnx/run.ts';
import { type Chunks, graphMessage, nodeMessage } from '../src/model/onnx/writer.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { scope, Tensor, tensor } from '../src/tensor/tensor.ts';
import { numbers, resultsOf } from './onnx_graphs.ts';
import { useGpu } from './support.ts';

useGpu();

interface Case {
  parts: OnnxParts;
  /** The operators after all passes. */
  fused: string[];
  /** Where long sums are added in another order; 1e-5 if not said. */
  atol?: number;
}

const scalar = (name: string, value: number) => floatTensor(name, [], [value]);
const weight = (name: string, ...shape: number[]) => floatTensor(name, shape, numbers(name, sizeOf(shape)));
const x = (...shape: number[]) => ({ name: 'x', shape });

const MEAN = { axes: [-1], keepdims: 1 };
/** A layer normalization as exporters write it before opset 17. */
const layerNorm = (change: Partial<Record<'mean' | 'square' | 'bias' | 'end', Buffer[]>> = {}): Buffer[] => [
  ...(change.mean ?? [node('ReduceMean', ['x'], ['m'], MEAN)]),
  node('Sub', ['x', 'm'], ['d']),
  ...(change.square ?? [node('Pow', ['d', 'two'], ['s'])]),
  node('ReduceMean', ['s'], ['v'], MEAN),
  node('Add', ['v', 'eps'], ['e']),
  node('Sqrt', ['e'], ['r']),
  node('Div', ['d', 'r'], ['n']),
  node('Mul', ['n', 'gamma'], ['g']),
  ...(change.bias ?? [node('Add', ['g', 'beta'], ['y'])]),
  ...(change.end ?? []),
];
const LAYER_CONSTANTS = [scalar('two', 2), scalar('eps', 1e-3), weight('gamma', 7), weight('beta', 7)];
const layerParts = (nodes: Buffer[], outputs = ['y']): OnnxParts => ({ nodes, initializers: LAYER_CONSTANTS, inputs: [x(2, 5, 7)], outputs });

const GELU_CONSTANTS = [scalar('root', Math.SQRT2), scalar('one', 1), scalar('half', 0.5)];
const erf = (before: Buffer[], after: Buffer[]): OnnxParts => ({
  nodes: [...before, node('Div', ['x', 'root'], ['a']), node('Erf', ['a'], ['f']), node('Add', ['f', 'one'], ['p']), ...after],
  initializers: GELU_CONSTANTS,
  inputs: [x(3, 11)],
  outputs: ['y'],
});

/** q, k, v are parts of x [2, 5, 3 · 8] with two heads. */
const heads = (name: string, perm: number[]): Buffer[] => [
  node('Slice', ['x', `${name}_from`, `${name}_to`, 'last'], [`${name}_flat`]),
  node('Reshape', [`${name}_flat`, 'split'], [`${name}_heads`]),
  node('Transpose', [`${name}_heads`], [name], { perm }),
];
const intConstant = (name: string, ...values: number[]) => intTensor(name, [values.length], values);
const attention = (keys: number[], middle: Buffer[], softmax: Record<string, number> = { axis: -1 }): OnnxParts => ({
  nodes: [
    ...heads('q', [0, 2, 1, 3]),
    ...heads('k', keys),
    ...heads('v', [0, 2, 1, 3]),
    node('MatMul', ['q', 'k'], ['scores']),
    ...middle,
    node('Softmax', ['s'], ['w'], softmax),
    node('MatMul', ['w', 'v'], ['y']),
  ],
  initializers: [
    ...[intConstant('split', 2, 5, 2, 4), intConstant('last', 2)],
    ...[
      intConstant('q_from', 0),
      intConstant('q_to', 8),
      intConstant('k_from', 8),
      intConstant('k_to', 16),
      intConstant('v_from', 16),
      intConstant('v_to', 24),
    ],
    ...[scalar('scale', 0.5), weight('mask', 1, 1, 5, 5)],
  ],
  inputs: [x(2, 5, 24)],
  outputs: ['y'],
});
const SCALED = [node('Mul', ['scores', 'scale'], ['s'])];
const TURNED = [0, 2, 3, 1];
const PARTS = ['Slice', 'Reshape', 'Transpose'];

/** A weight with a mean of 0 and a variance of 1 in each output channel, as exporters write it. */
const standardized = (shape: number[], of = 'view', axes = [0, 2]): OnnxParts => {
  return {
    nodes: [
      node('Reshape', ['w', 'flat'], ['view']),
      node('ReduceMean', [of], ['mean'], { axes, keepdims: 0 }),
      node('ReduceMean', ['view'], ['center'], { axes, keepdims: 1 }),
      node('Sub', ['view', 'center'], ['d']),
      node('Mul', ['d', 'd'], ['s']),
      node('ReduceMean', ['s'], ['variance'], { axes, keepdims: 0 }),
      node('BatchNormalization', ['view', 'gamma', 'beta', 'mean', 'variance'], ['n'], { epsilon: { float: 1e-3 } }),
      node('Reshape', ['n', 'back'], ['k']),
      node('Conv', ['x', 'k'], ['y']),
    ],
    initializers: [
      ...[weight('w', ...shape), weight('other', 1, shape[0], sizeOf(shape) / shape[0]), weight('gamma', shape[0]), weight('beta', shape[0])],
      ...[intConstant('flat', 1, shape[0], -1), intConstant('back', ...shape)],
    ],
    inputs: [x(1, shape[1], shape[2] + 1, shape[3] + 1)],
    outputs: ['y'],
  };
};

const CASES: Record<string, Case> = {
  // Beyond 2²⁰ numbers a weight is no constant to compute with at import.
  'a standardized weight': { parts: standardized([1061, 997, 1, 1]), fused: ['Transpose', 'Conv'], atol: 1e-4 },
  'a small one, partly constant already': { parts: standardized([7, 5, 3, 2]), fused: ['Transpose', 'Conv'] },
  'a weight by the mean of another': {
    parts: standardized([1061, 997, 1, 1], 'other'),
    fused: ['Reshape', 'ReduceMean', 'ReduceMean', 'Sub', 'Mul', 'ReduceMean', 'BatchNormalization', 'Reshape', 'Transpose', 'Transpose', 'Conv'],
  },
  'layer norm': { parts: layerParts(layerNorm()), fused: ['LayerNormalization'] },
  'layer norm: the square as a product': { parts: layerParts(layerNorm({ square: [node('Mul', ['d', 'd'], ['s'])] })), fused: ['LayerNormalization'] },
  'layer norm: its middle is read elsewhere': {
    parts: layerParts(layerNorm(), ['y', 'n']),
    fused: ['ReduceMean', 'Sub', 'Pow', 'ReduceMean', 'Add', 'Sqrt', 'Div', 'Mul', 'Add'],
  },
  'layer norm: the mean of another axis': {
    parts: layerParts(layerNorm({ mean: [node('ReduceMean', ['x'], ['m'], { axes: [1], keepdims: 1 })] })),
    fused: ['ReduceMean', 'Sub', 'Pow', 'ReduceMean', 'Add', 'Sqrt', 'Div', 'Mul', 'Add'],
  },
  'gelu, halved at the end': { parts: erf([], [node('Mul', ['x', 'p'], ['q']), node('Mul', ['q', 'half'], ['y'])]), fused: ['Gelu'] },
  'gelu, halved before': { parts: erf([node('Mul', ['x', 'half'], ['h'])], [node('Mul', ['h', 'p'], ['y'])]), fused: ['Gelu'] },
  'gelu of another input': {
    parts: erf([node('Neg', ['x'], ['z'])], [node('Mul', ['z', 'p'], ['q']), node('Mul', ['q', 'half'], ['y'])]),
    fused: ['Neg', 'Div', 'Erf', 'Add', 'Mul', 'Mul'],
  },
  attention: { parts: attention(TURNED, SCALED), fused: [...PARTS, ...PARTS, ...PARTS, 'FusedAttention'] },
  'attention with a mask': {
    parts: attention(TURNED, [node('Mul', ['scores', 'scale'], ['t']), node('Add', ['t', 'mask'], ['s'])]),
    fused: [...PARTS, ...PARTS, ...PARTS, 'FusedAttention'],
  },
  'attention over the queries': { parts: attention(TURNED, SCALED, { axis: 2 }), fused: [...PARTS, ...PARTS, ...PARTS, 'MatMul', 'Mul', 'Softmax', 'MatMul'] },
  bias: {
    parts: {
      nodes: [node('MatMul', ['x', 'w'], ['p']), node('Add', ['b', 'p'], ['y'])],
      initializers: [weight('w', 7, 9), weight('b', 9)],
      inputs: [x(2, 5, 7)],
      outputs: ['y'],
    },
    fused: ['FusedMatMul'],
  },
  'a bias for rows': {
    parts: {
      nodes: [node('MatMul', ['x', 'w'], ['p']), node('Add', ['p', 'b'], ['y'])],
      initializers: [weight('w', 7, 9), weight('b', 5, 1)],
      inputs: [x(2, 5, 7)],
      outputs: ['y'],
    },
    fused: ['MatMul', 'Add'],
  },
};

test.each(Object.entries(CASES))('%s', async (_name, { parts, fused, atol = 1e-5 }) => {
  const [plain, after] = [await resultsOf(parts, PASS_NAMES), await resultsOf(parts, [])];
  expect(after.ops.sort()).toEqual([...fused].sort());
  expect(after.shapes).toEqual(plain.shapes);
  for (const [i, values] of after.values.entries()) expect(compare(values, plain.values[i], 1e-5, atol)).toMatchObject({ ok: true });
});

const SAME = { kernel_shape: [3, 3], pads: [1, 1, 1, 1] };
const PICTURES = x(2, 3, 9, 7);
/** c = the convolution of x, five channels. */
const FIRST = node('Conv', ['x', 'w'], ['c'], SAME);
const FIRST_WEIGHT = weight('w', 5, 3, 3, 3);
const inner = (nodes: Chunks[], inputs: string[], outputs: string[]): { graph: Chunks } => ({
  graph: graphMessage({
    ...{ name: 'inner', nodes, initializers: [] },
    inputs: inputs.map((name) => ({ name, type: 1 })),
    outputs: outputs.map((name) => ({ name, type: 1 })),
  }),
});

interface Layout {
  nodes: Buffer[];
  initializers?: Buffer[];
  /** Inputs beside x: pictures of five channels whose rank the file does not tell. */
  more?: string[];
  outputs?: string[];
  outputTypes?: number[];
  opset?: number;
  /** Values that are channels-last. */
  last: string[];
  /** Transpose nodes that move elements. */
  moving: number;
}

const LAYOUTS: Record<string, Layout> = {
  'a block of ConvNeXt: its own Transposes move nothing': {
    opset: 20,
    nodes: [
      FIRST,
      node('Transpose', ['c'], ['t'], { perm: [0, 2, 3, 1] }),
      node('LayerNormalization', ['t', 'gamma'], ['n'], { axis: -1 }),
      node('MatMul', ['n', 'm'], ['p']),
      node('Gelu', ['p'], ['g']),
      node('Transpose', ['g'], ['u'], { perm: [0, 3, 1, 2] }),
      node('Mul', ['u', 'layer'], ['s']),
      node('Add', ['s', 'c'], ['y']),
    ],
    initializers: [weight('gamma', 5), weight('m', 5, 5), weight('layer', 5, 1, 1)],
    last: ['c', 'u', 's', 'y'],
    moving: 1,
  },
  'another Transpose of pictures moves once': {
    nodes: [FIRST, node('Transpose', ['c'], ['y'], { perm: [3, 1, 0, 2] })],
    last: ['c'],
    moving: 2,
  },
  'squeeze and excitation': {
    nodes: [
      FIRST,
      node('ReduceMean', ['c'], ['m'], { axes: [2, 3], keepdims: 1 }),
      node('Conv', ['m', 'v'], ['s'], { kernel_shape: [1, 1] }),
      node('Sigmoid', ['s'], ['g']),
      node('Mul', ['c', 'g'], ['y']),
    ],
    initializers: [weight('v', 5, 5, 1, 1)],
    last: ['c', 'm', 's', 'g', 'y'],
    moving: 1,
  },
  'squeeze and excitation with shapes that only a run knows': {
    nodes: [
      FIRST,
      node('Shape', ['c'], ['shape']),
      node('Gather', ['shape', 'zero'], ['pictures']),
      node('Unsqueeze', ['pictures', 'one'], ['first']),
      node('Slice', ['shape', 'from', 'to'], ['second']),
      node('GlobalAveragePool', ['c'], ['m']),
      node('Flatten', ['m'], ['flat']),
      node('Gemm', ['flat', 'v'], ['g']),
      node('Reshape', ['second', 'list'], ['channels']),
      node('Concat', ['first', 'any', 'ones'], ['to4'], { axis: 0 }),
      node('Reshape', ['g', 'to4'], ['s']),
      node('Mul', ['s', 'c'], ['scaled']),
      node('Expand', ['s', 'shape'], ['wide']),
      node('Add', ['scaled', 'wide'], ['y']),
    ],
    initializers: [
      ...[weight('v', 5, 5), intTensor('zero', [], [0]), intConstant('one', 0), intConstant('any', -1), intConstant('ones', 1, 1)],
      ...[intConstant('from', 1), intConstant('to', 2), intConstant('list', -1)],
    ],
    outputs: ['y', 'channels'],
    outputTypes: [1, 7],
    last: ['c', 'm', 'scaled', 'y'],
    moving: 4,
  },
  'reduced over the channels, and over rows and channels': {
    opset: 18,
    nodes: [
      FIRST,
      node('ReduceMax', ['c', 'channels'], ['y'], { keepdims: 0 }),
      node('ReduceL2', ['c', 'both'], ['z'], { keepdims: 0 }),
      node('ReduceSum', ['c', 'first'], ['u'], { keepdims: 0 }), // what is left would lie in another order
    ],
    initializers: [intConstant('channels', -3), intConstant('both', 1, 2), intConstant('first', 0)],
    outputs: ['y', 'z', 'u'],
    last: ['c'],
    moving: 2,
  },
  'padding, parts, a slope, joined': {
    nodes: [
      FIRST,
      node('Pad', ['c', 'amounts', 'half'], ['p']),
      node('Split', ['p', 'sizes'], ['a', 'b'], { axis: 1 }),
      node('PRelu', ['a', 'slope'], ['r']),
      node('Clip', ['b', 'zero', 'half'], ['q']),
      node('Concat', ['r', 'q', 'p'], ['j'], { axis: -3 }),
      node('MaxPool', ['j'], ['y'], { kernel_shape: [2, 2] }),
    ],
    initializers: [
      intConstant('amounts', 0, 0, 1, 2, 0, 1, 3, 0),
      intConstant('sizes', 2, 4),
      weight('slope', 2, 1, 1),
      scalar('zero', 0),
      scalar('half', 0.5),
    ],
    last: ['c', 'p', 'a', 'b', 'r', 'q', 'j', 'y'],
    moving: 1,
  },
  'a larger picture beside one: what the next convolution reads is channels-last': {
    nodes: [
      FIRST,
      node('AveragePool', ['c'], ['a'], { kernel_shape: [3, 1], strides: [3, 1] }),
      node('Resize', ['a', '', 'scales'], ['r'], { mode: 'linear' }),
      node('Concat', ['c', 'r'], ['j'], { axis: 1 }),
      node('Conv', ['j', 'v'], ['y'], SAME),
    ],
    initializers: [floatTensor('scales', [4], [1, 1, 3, 1]), weight('v', 2, 10, 3, 3)],
    last: ['c', 'a', 'j', 'y'],
    moving: 3,
  },
  'parts that are read in the order of the file are joined so': {
    nodes: [FIRST, node('Softmax', ['c'], ['s'], { axis: 1 }), node('Concat', ['s', 'c'], ['j'], { axis: 2 }), node('Flatten', ['j'], ['y'])],
    last: ['c'],
    moving: 2,
  },
  'a sum with a value of unknown rank': {
    nodes: [FIRST, node('Add', ['c', 'r'], ['s']), node('Relu', ['s'], ['y'])],
    more: ['r'],
    last: ['y/convolution'],
    moving: 2,
  },
  'a fused sum with a picture of the file': {
    nodes: [
      node('Conv', ['x', 'v'], ['a'], SAME),
      node('Slice', ['x', 'from', 'to', 'batch'], ['part']),
      node('Add', ['part', 'a'], ['s']), // it repeats
      node('Relu', ['s'], ['y']),
    ],
    initializers: [weight('v', 3, 3, 3, 3), intConstant('from', 1), intConstant('to', 2), intConstant('batch', 0)],
    last: ['y'],
    moving: 2,
  },
  'operands of older opsets': {
    opset: 6,
    nodes: [
      FIRST,
      node('Mul', ['c', 'scale'], ['m'], { broadcast: 1, axis: 1 }),
      node('Add', ['m', 'row'], ['a'], { broadcast: 1 }),
      node('Sub', ['a', 'one'], ['b'], { broadcast: 1 }),
      node('PRelu', ['b', 'slope'], ['y']),
    ],
    initializers: [weight('scale', 5), weight('row', 9, 7), weight('one', 1), weight('slope', 5)],
    last: ['c', 'm', 'a', 'b', 'y'],
    moving: 1,
  },
  'norms, classes and truth values': {
    opset: 16,
    nodes: [
      FIRST,
      node('BatchNormalization', ['c', 'gamma', 'beta', 'mean', 'variance'], ['n']),
      node('Relu', ['n'], ['p']),
      node('BatchNormalization', ['p', 'gamma', 'beta', 'mean', 'variance'], ['q']),
      node('Greater', ['q', 'field'], ['t']),
      node('Where', ['t', 'q', 'field'], ['f']),
      node('GlobalMaxPool', ['f'], ['g']),
      node('Sub', ['f', 'g'], ['y']),
    ],
    initializers: [weight('gamma', 5), weight('beta', 5), weight('mean', 5), floatTensor('variance', [5], [1, 2, 3, 1, 0.5]), weight('field', 9, 1)],
    last: ['p', 'q', 't', 'f', 'g', 'y'],
    moving: 1,
  },
  'a shape is that of the file': {
    nodes: [FIRST, node('Shape', ['c'], ['s']), node('Reshape', ['x', 's2'], ['r']), node('Size', ['c'], ['n'])],
    initializers: [intConstant('s2', -1)],
    outputs: ['s', 'n'],
    outputTypes: [7, 7],
    last: ['c'],
    moving: 1,
  },
  'places of the largest count in the order of the file': {
    nodes: [
      FIRST,
      node('MaxPool', ['c'], ['p', 'at'], { kernel_shape: [2, 2], strides: [2, 2] }),
      node('MaxUnpool', ['p', 'at'], ['y'], { kernel_shape: [2, 2], strides: [2, 2] }),
    ],
    last: ['c'],
    moving: 2,
  },
  'quantized by channel, and pooled as whole numbers': {
    nodes: [
      FIRST,
      node('QuantizeLinear', ['c', 'scales', 'zeros'], ['q'], { axis: 1 }),
      node('DequantizeLinear', ['q', 'scales', 'zeros'], ['y'], { axis: 1 }),
      node('QuantizeLinear', ['c', 'scale', 'zero'], ['r']),
      node('MaxPool', ['r'], ['m'], { kernel_shape: [2, 3] }),
      node('DequantizeLinear', ['m', 'scale', 'zero'], ['z']),
    ],
    initializers: [
      ...[floatTensor('scales', [5], [0.01, 0.02, 0.03, 0.04, 0.05]), rawTensor('zeros', 2, [5], Uint8Array.of(100, 110, 120, 130, 140))],
      ...[floatTensor('scale', [], [0.02]), rawTensor('zero', 2, [], Uint8Array.of(128))],
    ],
    outputs: ['y', 'z'],
    last: ['c', 'q', 'y', 'r', 'm', 'z'],
    moving: 1,
  },
  'a weight that is read as a weight and as a number': {
    nodes: [FIRST, node('ReduceSum', ['x'], ['sum'], { keepdims: 0 }), node('Mul', ['w', 'sum'], ['y'])],
    outputs: ['c', 'y', 'w'],
    last: ['c'],
    moving: 2,
  },
  'branches read pictures and weights in the order of the file': {
    opset: 16,
    nodes: [
      FIRST,
      node('ReduceSum', ['x'], ['sum'], { keepdims: 0 }),
      node('Cast', ['sum'], ['ask'], { to: 9 }),
      node('If', ['ask'], ['y'], {
        then_branch: inner(
          [
            nodeMessage('Conv', ['x', 'w'], ['d'], SAME),
            nodeMessage('Add', ['d', 'c'], ['e']),
            nodeMessage('Relu', ['e'], ['f']),
            nodeMessage('Conv', ['f', 'v'], ['g'], SAME),
          ],
          [],
          ['g'],
        ),
        else_branch: inner([nodeMessage('Identity', ['c'], ['same'])], [], ['same']),
      }),
    ],
    initializers: [weight('v', 5, 5, 3, 3)],
    last: ['c'],
    moving: 3,
  },
};

const expanded = (name: string) => ({ name, shape: [] });

async function layoutOf({ nodes, initializers = [], more = [], outputs = ['y'], outputTypes, opset = 13 }: Layout, without: readonly string[]) {
  const parts: OnnxParts = {
    ...{ nodes, initializers: [FIRST_WEIGHT, ...initializers], inputs: [PICTURES, ...more.map(expanded)], outputs, opset },
    ...(outputTypes ? { outputTypes } : {}),
  };
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)), { without });
  const given: Record<string, Given> = { x: tensor(numbers('x', 2 * 3 * 9 * 7, 1), PICTURES.shape) };
  for (const name of more) given[name] = tensor(numbers(name, 2 * 5 * 9 * 7, 1), [2, 5, 9, 7]);
  const results = await model.computeAsync(given);
  const shapes = results.map((result) => ('shape' in result ? [...result.shape] : []));
  const values = await Promise.all(results.map((result) => (result instanceof Tensor ? result.data() : 'data' in result ? (result.data as number[]) : [])));
  const moving = model.graph.nodes.filter(({ op, attributes }) => op === 'Transpose' && (attributes.get('perm') as number[]).some((axis, i) => axis !== i));
  const last = [...model.graph.orders].flatMap(([name, order]) => (order === 'nhwc' ? [name] : []));
  model.dispose();
  return { shapes, values, moving: moving.length, last };
}

test.each(Object.entries(LAYOUTS))('layouts: %s', async (_name, layout) => {
  using _s = scope();
  const plain = await layoutOf(layout, PASS_NAMES);
  const after = await layoutOf(layout, []);
  expect(after.last.sort()).toEqual([...layout.last].sort());
  expect(after.moving).toBe(layout.moving);
  expect(after.shapes).toEqual(plain.shapes);
  for (const [i, values] of after.values.entries()) expect(compare(values, plain.values[i], 1e-5, 1e-5)).toMatchObject({ ok: true });
  expect(plain.last).toEqual([]);
});

test('any value of a run comes in the order of the file, or channels-last', async () => {
  using _s = scope();
  const parts = { nodes: [FIRST, node('Relu', ['c'], ['r']), node('Abs', ['r'], ['y'])], initializers: [FIRST_WEIGHT], inputs: [PICTURES], outputs: ['y'] };
  const [plain, after] = [PASS_NAMES, []].map((without) => OnnxModel.load(bytesAsSource('model', onnxBytes(parts)), { without }));
  const given = { x: tensor(numbers('x', 2 * 3 * 9 * 7, 1), PICTURES.shape) };
  for (const channelsLast of [false, true]) {
    const [a, b] = [plain, after].map((model) => noGrad(() => model.run(given, ['r', 'x', 'w'], channelsLast)));
    expect(b.map(({ shape }) => shape)).toEqual(a.map(({ shape }) => shape));
    for (const [i, each] of b.entries()) expect(compare(await each.data(), await a[i].data(), 1e-5, 1e-5)).toMatchObject({ ok: true });
    expect(b[0].shape).toEqual(channelsLast ? [2, 9, 7, 5] : [2, 5, 9, 7]);
  }
  for (const model of [plain, after]) model.dispose();
});

const TRUE = rawTensor('true', 9, [1], Uint8Array.of(1));
const FALSE = rawTensor('false', 9, [], Uint8Array.of(0));
/** y is x or |x|, times a constant of the branch, by `ask`; then z in the same way, by what follows from `ask`. */
const branching = (ask: string, inputs: OnnxParts['inputs']): OnnxParts => {
  const choice = (from: string, to: string, then: number): Buffer => {
    const times = (factor: number, of: string, made: string[]) => ({
      graph: graphMessage({
        ...{
          name: 'branch',
          inputs: [],
          outputs: [
            { name: 'out', type: 1 },
            { name: of, type: 1 },
          ],
        },
        nodes: [...(made.length > 0 ? [nodeMessage('Abs', [from], made)] : []), nodeMessage('Mul', [of, 'factor'], ['out'])],
        initializers: [[scalar('factor', factor)]],
      }),
    });
    return node('If', [to === 'y' ? ask : 'not'], [to, `${to}2`], { then_branch: times(then, from, []), else_branch: times(5, 'size', ['size']) });
  };
  return {
    nodes: [choice('x', 'y', 2), node('And', [ask, 'false'], ['not']), choice('y', 'z', 3), node('Sub', ['z', 'y2'], ['u'])],
    initializers: [TRUE, FALSE],
    ...{ inputs: [x(2, 3), ...inputs], outputs: ['y', 'u', 'z2'], opset: 16 },
  };
};

test('a branch that constants decide stands in the place of its If', async () => {
  using _s = scope();
  const asked = branching('ask', [{ name: 'ask', shape: [1], type: 9 }]);
  const models = [branching('true', []), branching('false', []), asked].map((parts) => OnnxModel.load(bytesAsSource('model', onnxBytes(parts))));
  const given = { x: tensor([1, -2, 3, -4, 5, -6], [2, 3]) };
  const numbersOf = async (model: OnnxModel, more: Record<string, Given> = {}) => {
    const results = (await model.computeAsync({ ...given, ...more })) as Tensor[];
    return Promise.all(results.map(async (result) => [...(await result.data())]));
  };
  expect(models.map(({ graph }) => graph.nodes.filter(({ op }) => op === 'If').length)).toEqual([0, 0, 2]);
  expect(models[1].graph.nodes.map(({ op }) => op).filter((op) => op !== 'Identity')).toEqual(['Abs', 'Mul', 'Abs', 'Mul', 'Sub']);
  for (const [i, data] of [
    [0, [1]],
    [1, [0]],
  ] as const)
    expect(await numbersOf(models[i])).toEqual(await numbersOf(models[2], { ask: { kind: 'int', type: 'bool', shape: [1], data: [...data] } }));
  expect((await numbersOf(models[0]))[0]).toEqual([2, -4, 6, -8, 10, -12]);
  for (const model of models) model.dispose();
});

test('a branch that the size of the pictures decides is left to the run', () => {
  using _s = scope();
  const parts: OnnxParts = {
    nodes: [
      ...[node('Shape', ['x'], ['shape']), node('Gather', ['shape', 'two'], ['height']), node('Equal', ['height', 'nine'], ['ask'])],
      node('If', ['ask'], ['y'], {
        then_branch: inner([nodeMessage('Abs', ['x'], ['a'])], [], ['a']),
        else_branch: inner([nodeMessage('Neg', ['x'], ['b'])], [], ['b']),
      }),
    ],
    initializers: [intTensor('two', [], [2]), intTensor('nine', [], [9])],
    ...{ inputs: [PICTURES], outputs: ['y'], opset: 16 },
  };
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
  expect(model.graph.nodes.map(({ op }) => op)).toEqual(['If']);
  model.dispose();
});
