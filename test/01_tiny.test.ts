/** The first file to run and to read: from opening a device to learning, in rising difficulty. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, noGrad, variable } from '../src/autograd/tape.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Parameters } from '../src/nn/parameters.ts';
import { full, memory, scope, scoped, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test('an adapter is found and says what it is', () => {
  expect(device.gpu.adapterName).not.toBe('');
  expect(device.gpu.description).toContain(device.gpu.software ? 'software adapter' : device.gpu.adapterName);
});

test('values go up and come back', async () => {
  using _s = scope();
  expect([...(await tensor([1, 2, 3]).data())]).toEqual([1, 2, 3]);
});

test('two and two make four', async () => {
  using _s = scope();
  expect(await ops.add(full([1], 2), full([1], 2)).item()).toBe(4);
});

test('broadcasting adds a row to a matrix', async () => {
  using _s = scope();
  expect([...(await ops.add(tensor([1, 2, 3, 4], [2, 2]), tensor([10, 20])).data())]).toEqual([11, 22, 13, 24]);
});

test('a matrix product', async () => {
  using _s = scope();
  expect([...(await ops.matmul(tensor([1, 2, 3, 4], [2, 2]), tensor([5, 6, 7, 8], [2, 2])).data())]).toEqual([19, 22, 43, 50]);
});

test('the gradient of x² is 2x', async () => {
  using _s = scope();
  const x = variable(tensor([3]));
  backward(ops.sum(ops.square(x)));
  expect(await gradOf(x)?.item()).toBe(6);
});

test('a gradient through two paths adds up', async () => {
  using _s = scope();
  const x = variable(tensor([3]));
  backward(ops.sum(ops.add(ops.mul(x, x), x)));
  expect(await gradOf(x)?.item()).toBe(7);
});

test('noGrad records nothing', () => {
  using _s = scope();
  const x = variable(tensor([3]));
  const y = noGrad(() => ops.sum(ops.square(x)));
  expect(() => backward(y)).toThrow(/depends on no variable/);
});

test('a scope spans awaits and frees what was not kept', async () => {
  const before = memory().tensors;
  const kept = await (async () => {
    using s = scope();
    const a = tensor([1, 2]);
    await a.data();
    const b = ops.add(a, a);
    await b.data();
    return s.keep(b);
  })();
  expect(memory().tensors).toBe(before + 1);
  expect([...(await kept.data())]).toEqual([2, 4]);
  kept.dispose();
  expect(memory().tensors).toBe(before);
});

test('scopes of concurrent functions do not see each other', async () => {
  const work = async (value: number, waits: number) => {
    using _s = scope();
    let x = tensor([value]);
    for (let i = 0; i < waits; i++) {
      await x.data();
      x = ops.addScalar(x, 1);
    }
    return x.item();
  };
  expect(await Promise.all([work(0, 5), work(100, 2), work(1000, 7)])).toEqual([5, 102, 1007]);
});

test('scoped does so without `using`, for waiting work and failing work, and what stands beside it is not in its scope', async () => {
  const before = memory().tensors;
  expect(scoped(() => tensor([1]).size)).toBe(1);
  expect(() =>
    scoped(() => {
      tensor([1]);
      throw new Error('of the work');
    }),
  ).toThrow('of the work');
  expect(memory().tensors).toBe(before);
  const waiting = scoped(async (s) => {
    const a = tensor([1, 2]);
    await a.data();
    const b = ops.add(a, a);
    await b.data();
    return s.keep(b);
  });
  const beside = tensor([7]); // made while the work waits, by its caller
  const kept = await waiting;
  expect(memory().tensors).toBe(before + 2);
  expect([...(await kept.data()), await beside.item()]).toEqual([2, 4, 7]);
  kept.dispose();
  beside.dispose();
  await expect(
    scoped(async () => {
      await tensor([1]).data();
      throw new Error('later');
    }),
  ).rejects.toThrow('later');
  expect(memory().tensors).toBe(before);
});

test('gradient descent finds the line', async () => {
  using _s = scope();
  const parameters = new Parameters();
  const w = parameters.add('w', [1], new Float32Array([0]));
  const b = parameters.add('b', [1], new Float32Array([0]));
  const optimizer = new Optimizer(parameters, { kind: 'adam', rate: 0.1 });
  const x = tensor([-1, 0, 1, 2]);
  const y = tensor([-1, 1, 3, 5]);
  for (let step = 0; step < 200; step++) {
    using _step = scope();
    optimizer.zeroGrad();
    backward(ops.mean(ops.square(ops.sub(ops.add(ops.mul(x, w), b), y))));
    optimizer.step();
  }
  expect(await w.item()).toBeCloseTo(2, 2);
  expect(await b.item()).toBeCloseTo(1, 2);
  optimizer.dispose();
  parameters.dispose();
});
