/** Half-precision numbers from the host, as float32: half of the bytes travel. */
import { halfOf } from '../../data/half.ts';
import { ShapeError } from '../../errors.ts';
import { fromHalves as fromHalvesKernel } from '../../kernels/halves.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Op, reference } from '../op.ts';
import { apply } from '../tape.ts';

export const fromHalvesOp: Op<{ shape: Shape }> = {
  name: 'fromHalves',
  doc: {
    equation: 'y[2 i] = the half in the low 16 bits of x[i], y[2 i + 1] = the half in the high ones. Each is exact',
    tensors: { x: '[⌈n / 2⌉] u32: n numbers of IEEE 754 binary16, two to a word', y: 'the shape that is given, of n elements' },
    example: 'ops.fromHalves(tensor(new Uint32Array([0x40003c00, 0x0000b800])), [3])',
    refused: ['ops.fromHalves(zeros([2], "u32"), [5])'],
  },
  inputs: ['x'],
  inputTypes: ['u32'],
  outputs: ['y'],
  outputTypes: ['f32'],
  shape: ([x], { shape }) => {
    if (x.length !== 1 || x[0] !== Math.ceil(sizeOf(shape) / 2))
      throw new ShapeError(`fromHalves: x [${x}] does not hold the ${sizeOf(shape)} halves of [${shape}], two to a word`);
    return [shape];
  },
  forward: ({ gpu, inputs: [x], outputs: [y], label }) => fromHalvesKernel(gpu, x.slice, y.slice, y.size, label),
  backward: 'the words are whole numbers',
  reference: ([x], { shape }) => [reference(shape, (i) => halfOf((x.data[i >> 1] / (i % 2 === 0 ? 1 : 0x10000)) & 0xffff))],
  cost: ([x], [y]) => ({ flops: 0, bytes: 4 * (sizeOf(x) + sizeOf(y)) }),
  cases: [
    { name: 'primes', shapes: [[1009]], attrs: { shape: [2017] }, draw: ['halves'] },
    { name: 'an even count', shapes: [[420]], attrs: { shape: [3, 7, 40] }, draw: ['halves'] },
    { name: 'one', shapes: [[1]], attrs: { shape: [] }, draw: ['halves'] },
  ],
};

/** Words [⌈n / 2⌉] of u32, two halves in each → float32 of a shape with n elements. Throws a ShapeError if the counts do not fit. */
export function fromHalves(x: Tensor, shape: Shape): Tensor {
  return apply(fromHalvesOp, [x], { shape })[0];
}
