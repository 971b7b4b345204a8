/**
 * Features as a store has them, brought to the device. Those of half precision travel as halves and become float32 there. So half of
 * the bytes are read, checked and uploaded, and JavaScript does not loop over them.
 */
import * as ops from '../autograd/ops/index.ts';
import type { StoredNumbers } from '../data/half.ts';
import { fromHalves } from '../kernels/halves.ts';
import type { Shape } from '../tensor/shape.ts';
import { scope, type Tensor, tensor } from '../tensor/tensor.ts';

/** Halves, two to a word. An odd one is followed by a 0. */
function wordsOf(halves: Uint16Array): Uint32Array {
  const even = halves.length % 2 === 0 && halves.byteOffset % 4 === 0;
  const { buffer, byteOffset, length } = even ? halves : Uint16Array.from({ length: halves.length + (halves.length % 2) }, (_, i) => halves[i] ?? 0);
  return new Uint32Array(buffer, byteOffset, length / 2);
}

/** A tensor of these features, f32. */
export function featureTensor(features: StoredNumbers, shape: Shape): Tensor {
  if (features instanceof Float32Array) return tensor(features, shape);
  const words = tensor(wordsOf(features));
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
  fromHalves(to.gpu, tensor(wordsOf(features)).slice, to.slice, to.size, 'features of a training step');
}
