/** Passes over a graph: what they fuse, what they must leave alone, and that the numbers stay. */
import { expect, test } from 'vitest';
import { compare } from '../src/autograd/check.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { PASS_NAMES } from '../src/model/onnx/passes/index.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { numbers } from './onnx_graphs.ts';
import { floatTensor, intTensor, node, type OnnxParts, onnxBytes } from './onnx_writer.ts';
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
  'a standardized weight': { parts: standardized([1061, 997, 1, 1]), fused: ['Conv'], atol: 1e-4 },
  'a small one, partly constant already': { parts: standardized([7, 5, 3, 2]), fused: ['Conv'] },
  'a weight by the mean of another': {
    parts: standardized([1061, 997, 1, 1], 'other'),
    fused: ['Reshape', 'ReduceMean', 'ReduceMean', 'Sub', 'Mul', 'ReduceMean', 'BatchNormalization', 'Reshape', 'Conv'],
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

async function resultsOf(parts: OnnxParts, without: readonly string[]): Promise<{ ops: string[]; values: ArrayLike<number>[]; shapes: (readonly number[])[] }> {
  using _s = scope();
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)), { without });
  const inputs = Object.fromEntries(parts.inputs.map(({ name, shape }) => [name, tensor(numbers(name, sizeOf(shape), 1), shape)]));
  const results = noGrad(() => model.run(inputs)) as Tensor[];
  const values = await Promise.all(results.map((result) => result.data()));
  const ops = model.graph.nodes.map(({ op }) => op);
  model.dispose();
  return { ops, values, shapes: results.map(({ shape }) => shape) };
}

test.each(Object.entries(CASES))('%s', async (_name, { parts, fused, atol = 1e-5 }) => {
  const [plain, after] = [await resultsOf(parts, PASS_NAMES), await resultsOf(parts, [])];
  expect(after.ops.sort()).toEqual([...fused].sort());
  expect(after.shapes).toEqual(plain.shapes);
  for (const [i, values] of after.values.entries()) expect(compare(values, plain.values[i], 1e-5, atol)).toMatchObject({ ok: true });
});
