/** Memory stays flat over many training steps. */
import { expect, test } from 'vitest';
import { backward } from '../src/autograd/tape.ts';
import { Captioner, PRESETS } from '../src/model/captioner/captioner.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { memory, scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

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
