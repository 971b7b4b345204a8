/** Imported graphs train: gradients, frozen parts, and the running statistics of norms. */

import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { openFile } from '../src/data/file_source.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { graphSaver, numbers, residualBlock } from './onnx_graphs.ts';
import { useGpu } from './support.ts';

useGpu();
const save = graphSaver();

test.each([false, true])('gradients flow through a residual block, training %s', async (training) => {
  using _s = scope();
  const model = OnnxModel.load(openFile(save(residualBlock())), { trainable: (name) => /^w\d|^n\d\.(gamma|beta)$/.test(name) });
  model.training = training;
  const x = tensor(numbers('x', 4 * 8 * 7 * 5), [4, 8, 7, 5]);
  const weights = tensor(numbers('weights', 20), [4, 5]);
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
  const model = OnnxModel.load(openFile(save(residualBlock())), { trainable: (name) => name === 'w1' });
  backward(ops.sum(model.run({ x: tensor(numbers('x', 280), [1, 8, 7, 5]) })[0]));
  const gradient = (await (gradOf(model.parameters.get('w1')) as Tensor).data()) as Float32Array;
  expect(gradient.some((g) => g !== 0)).toBe(true);
  model.dispose();
});

test('in training the running statistics move towards the batch, in evaluation they stay', async () => {
  using _s = scope();
  const model = OnnxModel.load(openFile(save(residualBlock())), { trainable: (name) => name.startsWith('n1') || name.startsWith('w') });
  const x = tensor(numbers('x', 4 * 8 * 7 * 5), [4, 8, 7, 5]);
  const before = await model.weight('n2.mean').data();
  noGrad(() => model.run({ x }));
  expect(await model.weight('n2.mean').data()).toEqual(before);
  model.training = true;
  noGrad(() => model.run({ x }));
  expect(await model.weight('n2.mean').data()).not.toEqual(before);
  model.dispose();
});
