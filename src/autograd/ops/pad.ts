/** Padding of any axes: by a value, a mirror image, the last element or the tensor itself again. Negative amounts crop. */
import { ShapeError } from '../../errors.ts';
import { type PadMode, pad as padKernel, resample, type TapTable, transposed } from '../../kernels/resample.ts';
import { type Shape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';

export type { PadMode };

export interface PadAttrs {
  before: readonly number[];
  after: readonly number[];
  mode: PadMode;
  value: number;
}

/** The place of x that place i of y takes, along one axis of n elements; −1 for the value. */
function placeOf(i: number, before: number, n: number, mode: PadMode): number {
  const at = i - before;
  if (at >= 0 && at < n) return at;
  if (mode === 'constant') return -1;
  if (mode === 'edge') return at < 0 ? 0 : n - 1;
  if (mode === 'wrap') return ((at % n) + n) % n;
  return at < 0 ? -at : 2 * (n - 1) - at;
}

function padShape(x: Shape, { before, after, mode }: PadAttrs): number[] {
  if (before.length !== x.length || after.length !== x.length)
    throw new ShapeError(`pad: [${before}] before and [${after}] after do not have the ${x.length} axes of [${x}]`);
  if (![...before, ...after].every(Number.isInteger)) throw new ShapeError(`pad: [${before}] before and [${after}] after are not whole numbers`);
  return x.map((n, axis) => {
    const [first, last] = [before[axis], after[axis]];
    const at = `axis ${axis} of [${x}]`;
    if (mode !== 'constant' && Math.min(first, last) < 0)
      throw new ShapeError(`pad: ${mode} padding of ${at} by ${first} and ${last}; only constant padding crops`);
    if (mode === 'reflect' && Math.max(first, last) > Math.max(n - 1, 0))
      throw new ShapeError(`pad: ${at} has ${Math.max(n - 1, 0)} elements beside its end to reflect, not ${Math.max(first, last)}`);
    if (mode !== 'constant' && n === 0 && first + last > 0) throw new ShapeError(`pad: ${at} has no element for ${mode} padding`);
    if (n + first + last < 0 || n + first < 0 || n + last < 0) throw new ShapeError(`pad: ${at} cannot be cropped by ${-first} and ${-last}`);
    return n + first + last;
  });
}

/** dx of a padding that repeats elements: each axis that was padded is folded back by the transposed table. */
function folded(dy: Tensor, x: Shape, { before, mode }: PadAttrs, label: string): Tensor {
  let at = dy.alias();
  x.forEach((n, axis) => {
    const { shape } = at;
    if (shape[axis] === n) return;
    const table: TapTable = Array.from({ length: shape[axis] }, (_, i) => ({ sources: [placeOf(i, before[axis], n, mode)], weights: [1] }));
    const next = empty(shape.with(axis, n), 'f32', label, dy.gpu);
    resample(dy.gpu, transposed(table, n), at.slice, next.slice, [sizeOf(shape.slice(0, axis)), shape[axis], sizeOf(shape.slice(axis + 1))], 0, label);
    at = next;
  });
  return at;
}

const reversed = (amounts: readonly number[]) => amounts.map((amount) => 0 - amount);

export const padOp: Op<PadAttrs> = {
  name: 'pad',
  doc: {
    equation: 'y[i] = x[i − before]; outside x the value (constant), x mirrored (reflect), its nearest element (edge) or x repeated (wrap)',
    gradient: 'dx = Σ of the dy of all places that show the element',
    tensors: {
      x: 'up to six axes',
      y: 'extents of x plus before and after, per axis; negative amounts crop, for constant padding only',
    },
    example: "ops.pad(tensor([1, 2, 3], [1, 3]), [0, 1], [0, 2], 'reflect')",
    refused: ["ops.pad(zeros([2, 3]), [0, 3], [0, 0], 'reflect')", 'ops.pad(zeros([2, 3]), [0], [0])', "ops.pad(zeros([2, 3]), [0, -1], [0, 0], 'edge')"],
  },
  inputs: ['x'],
  outputs: ['y'],
  shape: ([x], attrs) => [padShape(x, attrs)],
  forward: ({ gpu, inputs: [x], outputs: [y], attrs: { before, mode, value }, label }) =>
    padKernel(gpu, { xShape: x.shape, shape: y.shape, before, mode, value }, x.slice, y.slice, label),
  backward: ({ gpu, grads: [dy], inputShapes: [x], attrs, label }) => [
    () => {
      if (attrs.mode !== 'constant') return folded(dy, x, attrs, label);
      const dx = empty(x, 'f32', label);
      padKernel(gpu, { xShape: dy.shape, shape: x, before: reversed(attrs.before), mode: 'constant', value: 0 }, dy.slice, dx.slice, label);
      return dx;
    },
  ],
  reference: ([x], attrs) => {
    const shape = padShape(x.shape, attrs);
    const [own, strides] = [stridesOf(shape), stridesOf(x.shape)];
    return [
      reference(shape, (i) => {
        const places = shape.map((extent, axis) => placeOf(Math.floor(i / own[axis]) % extent, attrs.before[axis], x.shape[axis], attrs.mode));
        return places.includes(-1) ? attrs.value : x.data[places.reduce((at, place, axis) => at + place * strides[axis], 0)];
      }),
    ];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 0),
  cases: [
    { name: 'constant, one end cropped', shapes: [[3, 7, 11]], attrs: { before: [1, -2, 0], after: [0, 3, 5], mode: 'constant', value: -1.5 } },
    { name: 'six axes', shapes: [[2, 1, 3, 2, 2, 3]], attrs: { before: [0, 1, 0, 1, -1, 0], after: [1, 0, 0, 0, 0, 2], mode: 'constant', value: 0 } },
    { name: 'reflect, up to the other end', shapes: [[2, 7, 11]], attrs: { before: [1, 6, 2], after: [0, 5, 10], mode: 'reflect', value: 0 } },
    { name: 'edge', shapes: [[2, 3, 5, 7]], attrs: { before: [0, 0, 1, 9], after: [1, 0, 4, 0], mode: 'edge', value: 0 } },
    { name: 'wrap, several times', shapes: [[3, 5, 7]], attrs: { before: [1, 11, 0], after: [0, 3, 15], mode: 'wrap', value: 0 } },
  ],
};

/** x with `before` and `after` elements more along each axis; negative amounts crop (constant mode only). `value` is used by `constant`. */
export function pad(x: Tensor, before: readonly number[], after: readonly number[], mode: PadMode = 'constant', value = 0): Tensor {
  return apply(padOp, [x], { before, after, mode, value })[0];
}
