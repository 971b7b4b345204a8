/** The slowed polling of pending work leaves other users of the event loop alone. */
import { expect, test } from 'vitest';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

test('other users of setImmediate are not delayed or broken', async () => {
  using _s = scope();
  const pending = tensor([1]).data();
  const order: number[] = [];
  await new Promise<void>((resolve) => {
    setImmediate((a: number, b: number) => order.push(a + b), 1, 2);
    const cancelled = setImmediate(() => order.push(-1));
    clearImmediate(cancelled);
    setImmediate(() => resolve());
  });
  expect(order).toEqual([3]);
  await pending;
});
