/** Running sums along an axis. */
import { type ScanOrder, scan } from '../../kernels/scan.ts';
import { normalizeAxis, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';

export interface CumSumAttrs extends ScanOrder {
  axis: number;
}

export const cumSumOp: Op<CumSumAttrs> = {
  name: 'cumSum',
  doc: {
    equation: 'y[p] = Σ x[q] over q ≤ p along the axis; exclusive: over q < p; reverse: over q ≥ p, or q > p',
    gradient: 'dx = the running sum of dy from the other end',
    tensors: { x: 'any shape', y: 'as x' },
    example: 'ops.cumSum(tensor([1, 2, 3, 4, 5, 6], [2, 3]), 1)',
    refused: ['ops.cumSum(zeros([2, 3]), 2)'],
  },
  inputs: ['x'],
  outputs: ['y'],
  shape: ([x]) => [x],
  forward: ({ gpu, inputs: [x], outputs: [y], attrs: { axis, ...order }, label }) =>
    scan(gpu, x.slice, y.slice, sizeOf(x.shape.slice(0, axis)), x.shape[axis], sizeOf(x.shape.slice(axis + 1)), order, label),
  backward: ({ gpu, grads: [dy], attrs: { axis, exclusive, reverse }, label }) => [
    () => {
      const dx = empty(dy.shape, 'f32', label);
      const [outer, inner] = [sizeOf(dy.shape.slice(0, axis)), sizeOf(dy.shape.slice(axis + 1))];
      scan(gpu, dy.slice, dx.slice, outer, dy.shape[axis], inner, { exclusive, reverse: !reverse }, label);
      return dx;
    },
  ],
  reference: ([x], { axis, exclusive, reverse }) => {
    const [n, inner] = [x.shape[axis], sizeOf(x.shape.slice(axis + 1))];
    const y = reference(x.shape);
    for (let base = 0; base < x.data.length; base += n * inner)
      for (let i = 0; i < inner; i++) {
        let sum = 0;
        for (let p = 0; p < n; p++) {
          const at = base + (reverse ? n - 1 - p : p) * inner + i;
          y.data[at] = exclusive ? sum : sum + x.data[at];
          sum += x.data[at];
        }
      }
    return [y];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs),
  cases: [
    { name: 'rows', shapes: [[67, 113]], attrs: { axis: 1, exclusive: false, reverse: false } },
    { name: 'short rows, exclusive', shapes: [[131, 5]], attrs: { axis: 1, exclusive: true, reverse: false } },
    { name: 'columns, reverse', shapes: [[113, 37]], attrs: { axis: 0, exclusive: false, reverse: true } },
    { name: 'middle axis in blocks, exclusive and reverse', shapes: [[2, 521, 7]], attrs: { axis: 1, exclusive: true, reverse: true } },
    { name: 'rows in blocks, reverse', shapes: [[3, 2503]], attrs: { axis: 1, exclusive: false, reverse: true } },
    { name: 'rows in blocks, exclusive', shapes: [[2, 1031]], attrs: { axis: 1, exclusive: true, reverse: false } },
  ],
  tolerance: { rtol: 1e-5, atol: 2e-5, why: 'sums of up to 2,503 numbers that cancel' },
};

/** Options of `cumSum`. */
export interface CumSumOptions {
  /** Leave the element itself out of its sum. */
  exclusive?: boolean;
  /** Sum from the end. */
  reverse?: boolean;
}

/** The sum of all elements up to each one along the axis, itself included. Throws a ShapeError if there is no such axis. */
export function cumSum(x: Tensor, axis: number, { exclusive = false, reverse = false }: CumSumOptions = {}): Tensor {
  return apply(cumSumOp, [x], { axis: normalizeAxis(axis, x.shape, 'cumSum'), exclusive, reverse })[0];
}
