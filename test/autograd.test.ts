/** The tape: errors, accumulation, and no leaks. */
import { expect, test } from 'vitest';
import { gradcheck } from '../src/autograd/gradcheck.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, noGrad, variable, zeroGrad } from '../src/autograd/tape.ts';
import { Captioner, PRESETS } from '../src/model/captioner/captioner.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Parameters } from '../src/nn/parameters.ts';
import { Random } from '../src/random.ts';
import { memory, scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

test('a second backward is refused by name', () => {
  using _s = scope();
  const x = variable(tensor([2]));
  const y = ops.sum(ops.square(x));
  backward(y);
  expect(() => backward(y)).toThrow(/already ran through .*run the forward pass again/);
});

test('an op without a gradient says why', () => {
  using _s = scope();
  const x = variable(tensor([1, 2, 3], [1, 3]));
  expect(() => backward(ops.sum(ops.topK(x, 1).values))).toThrow(/topK \[1,3\] has no gradient: a choice is flat everywhere/);
});

test('a loss must be one number, alive, and depend on a variable', () => {
  using _s = scope();
  const x = variable(tensor([1, 2]));
  expect(() => backward(ops.square(x))).toThrow(/loss \[2\] has 2 elements/);
  expect(() => backward(ops.sum(tensor([1])))).toThrow(/depends on no variable/);
  const loss = ops.sum(x);
  loss.dispose();
  expect(() => backward(loss)).toThrow(/used after dispose/);
});

test('gradients accumulate until they are zeroed', async () => {
  using _s = scope();
  const x = variable(tensor([3]));
  for (let i = 0; i < 3; i++) backward(ops.sum(ops.scale(x, 2)));
  expect(await gradOf(x)?.item()).toBe(6);
  zeroGrad([x]);
  expect(await gradOf(x)?.item()).toBe(0);
  backward(ops.sum(ops.scale(x, 5)));
  expect(await gradOf(x)?.item()).toBe(5);
});

test('intermediate tensors may be disposed before backward', async () => {
  using _s = scope();
  const x = variable(tensor([3]));
  const y = ops.square(x);
  const z = ops.sum(y);
  y.dispose();
  backward(z);
  expect(await gradOf(x)?.item()).toBe(6);
});

test('a graph that is never walked is freed with its tensors', async () => {
  const x = variable(tensor([1, 2, 3]));
  const before = memory();
  {
    using _s = scope();
    let y = x;
    for (let i = 0; i < 5000; i++) y = ops.tanh(y); // deep: freeing must not recurse
  }
  expect(memory().tensors).toBe(before.tensors);
  expect(memory().bytesInUse).toBe(before.bytesInUse);
  x.dispose();
});

test('a deep graph is walked without recursion', async () => {
  using _s = scope();
  const x = variable(tensor([1]));
  let y = x;
  for (let i = 0; i < 5000; i++) y = ops.addScalar(y, 0);
  backward(ops.sum(y));
  expect(await gradOf(x)?.item()).toBe(1);
});

test('noGrad ends when its work throws', async () => {
  using _s = scope();
  expect(() => noGrad(() => ops.matmul(tensor([1], [1, 1]), tensor([1, 2], [2, 1])))).toThrow();
  await expect(noGrad(async () => Promise.reject(new Error('x')))).rejects.toThrow('x');
  const x = variable(tensor([1]));
  backward(ops.sum(ops.scale(x, 1)));
  expect(await gradOf(x)?.item()).toBe(1);
});

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

test('gradcheck accepts a right gradient and refuses a wrong one', async () => {
  const random = new Random(4, 'gradcheck');
  const numbers = (count: number) => Float32Array.from({ length: count }, () => random.normal());
  const inputs = [
    { shape: [3, 5], data: numbers(15) },
    { shape: [5, 4], data: numbers(20) },
    { shape: [4], data: numbers(4) },
  ];
  const right = await gradcheck((x, w, b) => ops.mean(ops.square(ops.tanh(ops.matmul(x, w, { bias: b })))), inputs);
  expect(right).toMatchObject({ ok: true });
  // A constant copy of x on the way hides half of its influence from the tape.
  const wrong = await gradcheck(
    (x) =>
      ops.sum(
        ops.mul(
          x,
          noGrad(() => ops.scale(x, 1)),
        ),
      ),
    inputs.slice(0, 1),
  );
  expect(wrong.ok).toBe(false);
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

test('200 training steps: flat memory, no tensor leaks', async () => {
  const before = memory();
  const sizes = { features: 12, regions: 9, project: 8, attention: 8, hidden: 12, embedding: 8, vocabulary: 20 };
  const model = Captioner.create(sizes, { ...PRESETS.recommended, dropout: 0.3 }, 1);
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: 1e-3, maxNorm: 5 });
  const features = tensor(new Float32Array(2 * 9 * 12).fill(0.3), [2, 9, 12]);
  const ids = tensor(new Uint32Array([2, 2, 5, 6, 7, 8]), [3, 2]);
  const targets = tensor(new Uint32Array([5, 6, 7, 8, 3, 3]), [3, 2]);
  const weights = tensor(new Float32Array(6).fill(1 / 6), [3, 2]);
  const losses: number[] = [];
  const seen: { tensors: number; bytesInUse: number; bytesAllocated: number; peakBytes: number }[] = [];
  for (let step = 1; step <= 200; step++) {
    using _s = scope();
    optimizer.zeroGrad();
    const { loss } = model.loss(features, ids, targets, weights, { step: { seed: 1, step } });
    backward(loss);
    optimizer.step();
    losses.push(await loss.item());
    const { tensors, bytesInUse, bytesAllocated, peakBytes } = memory();
    seen.push({ tensors, bytesInUse, bytesAllocated, peakBytes });
  }
  expect(seen[199]).toEqual(seen[2]);
  expect(losses[199]).toBeLessThan(losses[0]);
  optimizer.dispose();
  model.dispose();
  for (const t of [features, ids, targets, weights]) t.dispose();
  expect(memory().tensors).toBe(before.tensors);
  expect(memory().bytesInUse).toBe(before.bytesInUse);
});
