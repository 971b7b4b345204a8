/** The tape: what backward refuses, what it frees, how gradients gather. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, noGrad, variable, zeroGrad } from '../src/autograd/tape.ts';
import { memory, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
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
  expect(() => backward(ops.sum(ops.argmaxToken(x).logProb))).toThrow(/argmaxToken \[1,3\] has no gradient: a choice is flat everywhere/);
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

test('backward tells of a gradient once, when all that is added to it was recorded', async () => {
  using _s = scope();
  const [w, v] = [variable(tensor([1, 2])), variable(tensor([3, 4]))];
  const first = ops.mul(w, v);
  const loss = ops.sum(ops.add(ops.mul(first, v), ops.mul(w, w))); // w v² + w²: each is read twice
  const told: Tensor[] = [];
  backward(loss, (gradient) => told.push(gradient));
  expect(told).toHaveLength(2);
  expect(new Set(told)).toEqual(new Set([gradOf(w), gradOf(v)]));
  expect([...((await gradOf(w)?.data()) ?? [])]).toEqual([9 + 2, 16 + 4]);
  expect([...((await gradOf(v)?.data()) ?? [])]).toEqual([6, 16]);
});
