/** Adam, AdamW and SGD against their formulas, over several arenas. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward } from '../src/autograd/tape.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Parameters } from '../src/nn/parameters.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

test('Adam over several arenas, SGD, AdamW and clipping match their formulas', async () => {
  for (const kind of ['adam', 'adamw', 'sgd'] as const) {
    using _s = scope();
    const parameters = new Parameters();
    parameters.add('a', [3], new Float32Array([1, 2, 3]));
    parameters.add('b', [65], new Float32Array(65).fill(0.5));
    const optimizer = new Optimizer(parameters, { kind, rate: 0.1, momentum: 0, maxNorm: 1, weightDecay: kind === 'adamw' ? 0.1 : 0 });
    optimizer.zeroGrad();
    backward(ops.add(ops.sum(ops.scale(parameters.get('a'), 3)), ops.sum(parameters.get('b'))));
    optimizer.step();
    const norm = Math.sqrt(3 * 9 + 65);
    expect(await optimizer.norm.item()).toBeCloseTo(norm, 4);
    const [a] = await parameters.get('a').data();
    const decayed = kind === 'adamw' ? 1 - 0.1 * 0.1 : 1;
    expect(a).toBeCloseTo(kind === 'sgd' ? 1 - (0.1 * 3) / norm : decayed - 0.1, 4); // Adam's first step is the rate
    optimizer.dispose();
    parameters.dispose();
  }
});

test('accumulated gradients of odd sizes leave the padding between parameters alone', async () => {
  using _s = scope();
  const parameters = new Parameters();
  parameters.add('a', [5], new Float32Array(5).fill(1));
  parameters.add('b', [3], new Float32Array(3).fill(1));
  const optimizer = new Optimizer(parameters, { kind: 'sgd', rate: 0.1 });
  tensor(new Float32Array(64).fill(1e6)).dispose(); // what the pool may hand out next
  optimizer.zeroGrad();
  for (let i = 0; i < 2; i++) backward(ops.add(ops.sum(parameters.get('a')), ops.sum(parameters.get('b'))));
  optimizer.step();
  expect(await optimizer.norm.item()).toBeCloseTo(Math.sqrt(8 * 4), 4);
  optimizer.dispose();
  parameters.dispose();
});
