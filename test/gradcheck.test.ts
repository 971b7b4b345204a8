/** The check of a gradient by the slope along it. */
import { expect, test } from 'vitest';
import { gradcheck } from '../src/autograd/gradcheck.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { Random } from '../src/random.ts';
import { useGpu } from './support.ts';

useGpu();

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
