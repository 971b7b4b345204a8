import { join } from 'node:path';
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { floatTensor, intTensor, node, type OnnxParts, writeOnnx } from './onnx_writer.ts';
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

test('folded and fused, a residual block gives what its parts give', async () => {
  using _s = scope();
  const path = save(residualBlock());
  const fused = OnnxModel.load(path);
  const plain = OnnxModel.load(path, { trainable: (name) => /^w\d|^n\d/.test(name) });
  expect(fused.graph.nodes.map((n) => n.op)).toEqual(['FusedConv', 'FusedConv', 'GlobalAveragePool', 'Reshape', 'Gemm']);
  expect(plain.graph.nodes.map((n) => n.op)).toContain('BatchNormalization');
  expect(fused.featureMapName).toBe('y');
  const x = tensor(numbers(2 * 8 * 7 * 5), [2, 8, 7, 5]);
  const [a, map] = fused.run({ x }, ['out', 'y']);
  const [b] = noGrad(() => plain.run({ x }));
  expect(map.shape).toEqual([2, 8, 7, 5]);
  expect(fused.run({ x }, ['y'], true)[0].shape).toEqual([2, 7, 5, 8]);
  const [left, right] = [await a.data(), await b.data()];
  left.forEach((value, i) => {
    expect(value).toBeCloseTo(right[i], 4);
  });
  fused.dispose();
  plain.dispose();
});

test.each([false, true])('gradients flow through a residual block (training %s)', async (training) => {
  using _s = scope();
  const model = OnnxModel.load(save(residualBlock()), { trainable: (name) => /^w\d|^n\d\.(gamma|beta)$/.test(name) });
  model.training = training;
  const x = tensor(numbers(4 * 8 * 7 * 5), [4, 8, 7, 5]);
  const weights = tensor(numbers(20), [4, 5]);
  const loss = (): Tensor => ops.sum(ops.mul(model.run({ x })[0], weights));
  backward(loss());
  expect([...model.parameters.all.keys()].sort()).toEqual(['n1.beta', 'n1.gamma', 'n2.beta', 'n2.gamma', 'w1', 'w2']);
  for (const [name, parameter] of model.parameters.all) {
    const gradient = (await (gradOf(parameter) as Tensor).data()) as Float32Array;
    const before = (await parameter.data()) as Float32Array;
    // Along the gradient itself the change of the loss is largest against float32's noise.
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    const h = 2e-3;
    const at = async (sign: number) => {
      parameter.write(before.map((value, i) => value + (sign * h * gradient[i]) / norm));
      return noGrad(() => loss()).item();
    };
    const slope = ((await at(1)) - (await at(-1))) / (2 * h);
    parameter.write(before);
    expect(Math.abs(slope - norm), name).toBeLessThan(0.02 * norm + 2e-3);
  }
  model.dispose();
});

test('what is trained may lie before what is frozen', async () => {
  using _s = scope();
  const model = OnnxModel.load(save(residualBlock()), { trainable: (name) => name === 'w1' });
  backward(ops.sum(model.run({ x: tensor(numbers(280), [1, 8, 7, 5]) })[0]));
  const gradient = (await (gradOf(model.parameters.get('w1')) as Tensor).data()) as Float32Array;
  expect(gradient.some((g) => g !== 0)).toBe(true);
  model.dispose();
});

test('in training the running statistics move towards the batch, in evaluation they stay', async () => {
  using _s = scope();
  const model = OnnxModel.load(save(residualBlock()), { trainable: (name) => name.startsWith('n1') || name.startsWith('w') });
  const x = tensor(numbers(4 * 8 * 7 * 5), [4, 8, 7, 5]);
  const before = await model.weight('n2.mean', 'plain').data();
  noGrad(() => model.run({ x }));
  expect(await model.weight('n2.mean', 'plain').data()).toEqual(before);
  model.training = true;
  noGrad(() => model.run({ x }));
  expect(await model.weight('n2.mean', 'plain').data()).not.toEqual(before);
  model.dispose();
});
