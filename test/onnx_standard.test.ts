/** Graphs on which a reading of the standard was wrong once: what onnxruntime says is said here, too. */
import { expect, test } from 'vitest';
import { floatTensor, intTensor, node, type OnnxParts, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { scoped, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { numbers } from './onnx_graphs.ts';
import { agrees, type Numbers, ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

const weight = (name: string, ...shape: number[]) =>
  floatTensor(
    name,
    shape,
    numbers(
      name,
      shape.reduce((product, extent) => product * extent, 1),
    ),
  );
const given = (...shape: number[]): Numbers => ({
  shape,
  data: numbers(
    'x',
    shape.reduce((product, extent) => product * extent, 1),
    1,
  ),
});
const x = (...shape: number[]) => [{ name: 'x', shape }];

const CASES: Record<string, [OnnxParts, Numbers]> = {
  'statistics of the batch after a convolution': [
    {
      nodes: [
        node('Conv', ['x', 'w'], ['c']),
        node('BatchNormalization', ['c', 'one', 'zero', 'zero', 'one'], ['y', 'mean', 'variance'], { training_mode: 1 }),
      ],
      initializers: [weight('w', 2, 1, 1, 1), floatTensor('one', [2], [1, 1]), floatTensor('zero', [2], [0, 0])],
      ...{ inputs: x(1, 1, 3, 3), outputs: ['y', 'mean', 'variance'], opset: 15 },
    },
    given(1, 1, 3, 3),
  ],
  'weights over another axis than the last': [
    {
      nodes: [
        node('Transpose', ['x'], ['k'], { perm: [0, 1, 2, 4, 3] }),
        node('MatMul', ['x', 'k'], ['s']),
        node('Softmax', ['s'], ['w'], { axis: 3 }),
        node('MatMul', ['w', 'x'], ['y']),
      ],
      ...{ inputs: x(1, 1, 1, 3, 2), outputs: ['y'] },
    },
    given(1, 1, 1, 3, 2),
  ],
  'a mask with more batches than the scores': [
    {
      nodes: [
        node('Transpose', ['x'], ['k'], { perm: [0, 1, 3, 2] }),
        node('MatMul', ['x', 'k'], ['s']),
        node('Mul', ['s', 'scale'], ['t']),
        node('Add', ['t', 'mask'], ['m']),
        node('Softmax', ['m'], ['w'], { axis: -1 }),
        node('MatMul', ['w', 'x'], ['y']),
      ],
      initializers: [floatTensor('scale', [], [0.5]), weight('mask', 2, 1, 1, 3)],
      ...{ inputs: x(1, 2, 3, 4), outputs: ['y'] },
    },
    given(1, 2, 3, 4),
  ],
  'a factor of more axes than what it scales': [
    {
      nodes: [
        node('Div', ['x', 'root'], ['a']),
        node('Erf', ['a'], ['f']),
        node('Add', ['f', 'one'], ['p']),
        node('Mul', ['x', 'p'], ['q']),
        node('Mul', ['q', 'half'], ['y']),
      ],
      initializers: [floatTensor('root', [1, 1, 1], [Math.SQRT2]), floatTensor('one', [1, 1, 1], [1]), floatTensor('half', [1, 1, 1], [0.5])],
      ...{ inputs: x(7), outputs: ['y'] },
    },
    given(7),
  ],
  'a code of an index that is outside': [
    {
      nodes: [node('ArgMax', ['x'], ['i'], { axis: 1, keepdims: 0 }), node('OneHot', ['i', 'depth', 'values'], ['y'])],
      initializers: [intTensor('depth', [], [2]), floatTensor('values', [2], [0, 1])],
      ...{ inputs: x(5, 4), outputs: ['y'] },
    },
    given(5, 4),
  ],
  'a sequence: convolution, then ReLU': [
    { nodes: [node('Conv', ['x', 'w'], ['c']), node('Relu', ['c'], ['y'])], initializers: [weight('w', 3, 2, 2)], inputs: x(1, 2, 6), outputs: ['y'] },
    given(1, 2, 6),
  ],
  'a slice of a shape that goes beyond it': [
    {
      nodes: [node('Relu', ['x'], ['r']), node('Shape', ['r'], ['s']), node('Slice', ['s', 'from', 'to'], ['p']), node('Reshape', ['r', 'p'], ['y'])],
      initializers: [intTensor('from', [1], [0]), intTensor('to', [1], [10])],
      ...{ inputs: x(2, 3), outputs: ['y'] },
    },
    given(2, 3),
  ],
  'a constant that is cast, and read again': [
    {
      nodes: [node('CastLike', ['w', 'x'], ['v']), node('Add', ['x', 'v'], ['a']), node('Add', ['a', 'w'], ['y'])],
      initializers: [weight('w', 2)],
      ...{ inputs: x(1000, 2), outputs: ['y'], opset: 15 },
    },
    given(1000, 2),
  ],
  'squeezing without axes': [
    { nodes: [node('Squeeze', ['x', 'none'], ['y'])], initializers: [intTensor('none', [0], [])], inputs: x(1, 3, 1), outputs: ['y'] },
    given(1, 3, 1),
  ],
  'the root of an infinity': [
    { nodes: [node('Pow', ['x', 'half'], ['y'])], initializers: [floatTensor('half', [], [0.5])], inputs: x(3), outputs: ['y'] },
    { shape: [3], data: [Number.NEGATIVE_INFINITY, 4, Number.POSITIVE_INFINITY] },
  ],
};

test.skipIf(!ort).each(Object.entries(CASES))('%s', async (name, [parts, values]) => agrees(name, parts, { x: values }));

test('an affine activation takes both of its constants', async () => {
  await scoped(async () => {
    const parts: OnnxParts = {
      nodes: [node('RNN', ['x', 'w', 'r'], ['', 'y'], { hidden_size: 1, activation_alpha: { floats: [0.5] }, activation_beta: { floats: [0.25] } })],
      initializers: [floatTensor('w', [1, 1, 1], [1]), floatTensor('r', [1, 1, 1], [0])],
      inputs: x(1, 1, 1),
      outputs: ['y'],
    };
    // The writer knows no lists of texts: "activations" [Affine] is put in by hand.
    const bytes = onnxBytes(parts);
    const model = OnnxModel.load(bytesAsSource('model', bytes));
    model.graph.nodes[0].attributes.set('activations', ['Affine']);
    const [y] = model.run({ x: tensor([2], [1, 1, 1]) }) as Tensor[];
    expect([...(await y.data())]).toEqual([1.25]);
    model.dispose();
  });
});
