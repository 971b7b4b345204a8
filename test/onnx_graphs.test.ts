import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { field, floatTensor, intTensor, node, type OnnxParts, writeOnnx } from './onnx_writer.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();

const folder = temporaryFolder();

const random = new Random(3, 'onnx');

const numbers = (count: number, scale = 0.5) => Float32Array.from({ length: count }, () => scale * random.normal());

const positive = (count: number) => Float32Array.from({ length: count }, () => random.uniform(0.5, 2));

let files = 0;

function save(parts: OnnxParts): string {
  const path = join(folder, `${files++}`, 'model.onnx');
  writeOnnx(path, parts);
  return path;
}

/** A residual block as torchvision exports it: conv, norm, relu, conv, norm, add, relu, pool, classifier. */
function residualBlock(): OnnxParts {
  const conv = (name: string) => floatTensor(name, [8, 8, 3, 3], numbers(576, 0.2));
  const norm = (name: string) => [
    floatTensor(`${name}.gamma`, [8], positive(8)),
    floatTensor(`${name}.beta`, [8], numbers(8)),
    floatTensor(`${name}.mean`, [8], numbers(8)),
    floatTensor(`${name}.var`, [8], positive(8)),
  ];
  const same = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1], dilations: [1, 1], group: 1 };
  const normInputs = (x: string, name: string) => [x, `${name}.gamma`, `${name}.beta`, `${name}.mean`, `${name}.var`];
  return {
    nodes: [
      node('Conv', ['x', 'w1'], ['c1'], same),
      node('BatchNormalization', normInputs('c1', 'n1'), ['b1'], { epsilon: { float: 1e-5 } }),
      node('Relu', ['b1'], ['r1']),
      node('Conv', ['r1', 'w2'], ['c2'], same),
      node('BatchNormalization', normInputs('c2', 'n2'), ['b2'], { epsilon: { float: 1e-5 } }),
      node('Add', ['b2', 'x'], ['s']),
      node('Relu', ['s'], ['y']),
      node('GlobalAveragePool', ['y'], ['p']),
      node('Shape', ['p'], ['shape']),
      node('Gather', ['shape', 'zero'], ['n']),
      node('Unsqueeze', ['n', 'axis0'], ['n1d']),
      node('Concat', ['n1d', 'rest'], ['flat'], { axis: 0 }),
      node('Reshape', ['p', 'flat'], ['f']),
      node('Gemm', ['f', 'fc.w', 'fc.b'], ['out'], { transB: 1 }),
    ],
    initializers: [
      conv('w1'),
      conv('w2'),
      ...norm('n1'),
      ...norm('n2'),
      intTensor('zero', [], [0]),
      intTensor('axis0', [1], [0]),
      intTensor('rest', [1], [-1]),
      floatTensor('fc.w', [5, 8], numbers(40)),
      floatTensor('fc.b', [5], numbers(5)),
    ],
    inputs: [{ name: 'x', shape: [-1, 8, 7, 5] }],
    outputs: ['out'],
  };
}

describe('graphs', () => {
  const run = async (parts: OnnxParts, inputs: Record<string, Tensor>): Promise<number[]> => {
    const model = OnnxModel.load(save(parts));
    const [out] = model.run(inputs);
    const values = [...(await out.data())];
    model.dispose();
    return values;
  };

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
    const model = OnnxModel.load(save(parts));
    expect(model.featureMapName).toBe('y');
    expect(model.run({ x: tensor(numbers(280), [1, 8, 7, 5]) })[0].shape).toEqual([1, 5]);
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
    expect(await run(parts, { x: tensor([1, 2, 3, 4, -1, -2, -3, -4], [1, 2, 2, 2]) })).toEqual([3, 0]);
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
    expect(await run(parts, { x: tensor([1, 2, 3], [1, 3]) })).toEqual([0.5, 0.5, 0.5, 0.5]);
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
    const model = OnnxModel.load(save(parts));
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
    expect(model.graph.nodes.map(({ op }) => op)).toEqual(['Add', 'Conv', 'Reshape']);
    model.dispose();
  });

  test('norms without names fold apart', async () => {
    using _s = scope();
    const norm = (scale: number, i: number) => [floatTensor(`g${i}`, [1], [scale]), floatTensor(`zero${i}`, [1], [0]), floatTensor(`one${i}`, [1], [1])];
    const conv = { kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1], dilations: [1, 1], group: 1 };
    const unnamed = (buffer: Buffer, name: string) =>
      Buffer.from(buffer.toString('latin1').replace(`BatchNormalization of ${name}`, 'BatchNormalization of nn'), 'latin1');
    const parts = {
      nodes: [
        node('Conv', ['x', 'w1'], ['c1'], conv),
        unnamed(node('BatchNormalization', ['c1', 'g1', 'zero1', 'zero1', 'one1'], ['b1'], { epsilon: { float: 0 } }), 'b1'),
        node('Conv', ['b1', 'w2'], ['c2'], conv),
        unnamed(node('BatchNormalization', ['c2', 'g2', 'zero2', 'zero2', 'one2'], ['b2'], { epsilon: { float: 0 } }), 'b2'),
      ],
      initializers: [floatTensor('w1', [1, 1, 1, 1], [1]), floatTensor('w2', [1, 1, 1, 1], [1]), ...norm(2, 1), ...norm(5, 2)],
      inputs: [{ name: 'x', shape: [1, 1, 2, 2] }],
      outputs: ['b2'],
    };
    expect(await run(parts, { x: tensor([1, 2, 3, 4], [1, 1, 2, 2]) })).toEqual([10, 20, 30, 40]);
  });

  test('an unsupported operator is named with its node', () => {
    expect(() => OnnxModel.load(save({ nodes: [node('Einsum', ['x'], ['y'])], inputs: [{ name: 'x', shape: [1] }], outputs: ['y'] }))).toThrow(
      /node "Einsum of y": the operator Einsum is not supported/,
    );
  });

  test('an input of another shape is refused', () => {
    using _s = scope();
    const model = OnnxModel.load(save(residualBlock()));
    expect(() => model.run({ x: tensor(numbers(3), [1, 3]) })).toThrow(/input "x" expects \[-1,8,7,5\], got \[1,3\]/);
    expect(() => model.run({})).toThrow(/input "x".*was not given/);
    model.dispose();
  });
});
