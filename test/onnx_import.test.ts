/** Graphs as exporters write them are imported, and what cannot be is refused by name. */

import { expect, test } from 'vitest';
import { field, floatTensor, intTensor, node } from '../bench/peers/onnx_writer.ts';
import { openFile } from '../src/data/file_source.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { graphSaver, numbers, outputOf, residualBlock } from './onnx_graphs.ts';
import { useGpu } from './support.ts';

useGpu();
const save = graphSaver();

test('an MXNet-style head: norm, pool, flatten, classifier', async () => {
  using _s = scope();
  const parts = residualBlock();
  parts.nodes = [
    ...parts.nodes.slice(0, 4),
    node('Add', ['c2', 'x'], ['s']),
    node('BatchNormalization', ['s', 'n2.gamma', 'n2.beta', 'n2.mean', 'n2.var'], ['bn'], {}),
    node('Relu', ['bn'], ['y']),
    node('GlobalAveragePool', ['y'], ['p']),
    node('Flatten', ['p'], ['f']),
    node('Gemm', ['f', 'fc.w', 'fc.b'], ['out'], { transB: 1 }),
  ];
  const model = OnnxModel.load(openFile(save(parts)));
  expect(model.featureMapName).toBe('y');
  expect(model.run({ x: tensor(numbers('x', 280), [1, 8, 7, 5]) })[0].shape).toEqual([1, 5]);
  model.dispose();
});

test('ReduceMean over places, Sub, Mul, Clip', async () => {
  using _s = scope();
  const parts = {
    nodes: [node('ReduceMean', ['x'], ['m'], { axes: [2, 3], keepdims: 0 }), node('Mul', ['m', 'two'], ['d']), node('Clip', ['d', 'low', 'high'], ['y'])],
    initializers: [floatTensor('two', [1], [2]), floatTensor('low', [], [0]), floatTensor('high', [], [3])],
    inputs: [{ name: 'x', shape: [1, 2, 2, 2] }],
    outputs: ['y'],
  };
  expect(await outputOf(save(parts), { x: tensor([1, 2, 3, 4, -1, -2, -3, -4], [1, 2, 2, 2]) })).toEqual([3, 0]);
});

test('Slice, Transpose, Concat and Softmax', async () => {
  using _s = scope();
  const parts = {
    nodes: [
      node('Slice', ['x', 'from', 'to', 'axis'], ['a']),
      node('Transpose', ['a'], ['t'], { perm: [1, 0] }),
      node('Concat', ['t', 't'], ['c'], { axis: 1 }),
      node('Softmax', ['c'], ['y'], { axis: -1 }),
    ],
    initializers: [intTensor('from', [1], [1]), intTensor('to', [1], [Number.MAX_SAFE_INTEGER]), intTensor('axis', [1], [1])],
    inputs: [{ name: 'x', shape: [1, 3] }],
    outputs: ['y'],
  };
  expect(await outputOf(save(parts), { x: tensor([1, 2, 3], [1, 3]) })).toEqual([0.5, 0.5, 0.5, 0.5]);
});

test('Constant, Identity and whole-number arithmetic, as exporters write them', async () => {
  using _s = scope();
  const constant = (output: string, body: Buffer) =>
    Buffer.concat([node('Constant', [], [output]), field(5, Buffer.concat([field(1, 'value'), field(5, body), field(20, 4)]))]);
  const parts = {
    nodes: [
      constant('two', intTensor('', [1], [2])),
      constant('weight', floatTensor('', [1, 2, 1, 1], [10, 1])),
      node('Identity', ['weight'], ['same weight']),
      node('Shape', ['x'], ['shape']),
      node('Slice', ['shape', 'from', 'to'], ['height']),
      node('Div', ['height', 'two'], ['half']), // 5 / 2 = 2
      node('Concat', ['minus one', 'half'], ['target'], { axis: 0 }),
      node('Identity', ['x'], ['again']),
      node('Add', ['x', 'again'], ['doubled']),
      node('Conv', ['doubled', 'same weight'], ['c'], { kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1], dilations: [1, 1], group: 1 }),
      node('Reshape', ['c', 'target'], ['y']),
    ],
    initializers: [intTensor('from', [1], [2]), intTensor('to', [1], [3]), intTensor('minus one', [1], [-1])],
    inputs: [{ name: 'x', shape: [1, 2, 5, 2] }],
    outputs: ['y'],
  };
  const model = OnnxModel.load(openFile(save(parts)));
  for (let i = 0; i < 2; i++) {
    const [y] = model.run({
      x: tensor(
        Float32Array.from({ length: 20 }, (_, k) => k),
        [1, 2, 5, 2],
      ),
    });
    expect(y.shape).toEqual([5, 2]);
    expect((await y.data())[0]).toBe(2 * (0 * 10 + 10));
  }
  // The file states the height, so the whole target is known at import.
  expect(model.graph.nodes.map(({ op }) => op)).toEqual(['Add', 'Transpose', 'Conv', 'Transpose', 'Reshape']);
  model.dispose();
});

test('an unsupported operator is named with its node', () => {
  expect(() => OnnxModel.load(openFile(save({ nodes: [node('NoSuch', ['x'], ['y'])], inputs: [{ name: 'x', shape: [1] }], outputs: ['y'] })))).toThrow(
    /node "NoSuch of y": the operator NoSuch is not supported/,
  );
});

test('an input of another shape is refused', () => {
  using _s = scope();
  const model = OnnxModel.load(openFile(save(residualBlock())));
  expect(() => model.run({ x: tensor(numbers('x', 3), [1, 3]) })).toThrow(/input "x" expects \[-1,8,7,5\], got \[1,3\]/);
  expect(() => model.run({})).toThrow(/input "x".*was not given/);
  model.dispose();
});
