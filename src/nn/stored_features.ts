/**
 * Features as a store has them, brought to the device. Those of half precision travel as halves and become float32 there. So half of
 * the bytes are read, checked and uploaded, and JavaScript does not loop over them.
 */
import * as ops from '../autograd/ops/index.ts';
import { type StoredNumbers, wordsOfHalves } from '../data/half.ts';
import { fromHalves } from '../kernels/halves.ts';
import type { Shape } from '../tensor/shape.ts';
import { empty, scope, type Tensor, tensor } from '../tensor/tensor.ts';

/** The words of halves. They are no ids, so nobody asks for the largest of them, which `tensor` would look for. */
function wordsTensor(halves: Uint16Array): Tensor {
  const words = wordsOfHalves(halves);
  const out = empty([words.length], 'u32', 'halves of features');
  out.gpu.upload(out.slice, words);
  return out;
}

/** A tensor of these features, f32. */
export function featureTensor(features: StoredNumbers, shape: Shape): Tensor {
  if (features instanceof Float32Array) return tensor(features, shape);
  const words = wordsTensor(features);
  const numbers = ops.fromHalves(words, shape);
  words.dispose();
  return numbers;
}

/** Writes features into a tensor, f32, of as many elements. */
export function writeFeatures(features: StoredNumbers, to: Tensor): void {
  if (features instanceof Float32Array) {
    to.write(features);
    return;
  }
  using _words = scope();
  fromHalves(to.gpu, wordsTensor(features).slice, to.slice, to.size, 'features of a training step');
}
