/** Ops that move elements: reshape and slices of whole rows (both free), transpose, other slices, concat, broadcast (strided copies). */
import { ShapeError } from '../../errors.ts';
import type { Gpu } from '../../gpu/gpu.ts';
import { stridedCopy, trilu as triluKernel } from '../../kernels/elementwise.ts';
import { broadcastShapes, broadcastStrides, normalizeAxis, type Shape, sameShape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, startsPart, type Tensor, zeros } from '../../tensor/tensor.ts';
import { type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { sumTo } from './reduce.ts';

const moved = (shapes: readonly Shape[], outputs: readonly Shape[]) => streamingCost(shapes, outputs, 0);

export const reshapeOp: Op<{ shape: Shape }> = {
  name: 'reshape',
  doc: {
    equation: 'y = x in row-major order, on the same storage',
    gradient: 'dx = dy in the shape of x',
    tensors: {
      x: 'any shape',
      y: 'a shape of as many elements',
    },
    example: 'ops.reshape(tensor([1, 2, 3, 4, 5, 6], [2, 3]), [3, 2])',
    refused: ['ops.reshape(zeros([2, 3]), [4])'],
  },
  inputs: ['x'],
  outputs: ['y'],
  view: () => 0,
  shape: ([x], { shape }) => {
    if (sizeOf(x) !== sizeOf(shape)) throw new ShapeError(`reshape: [${x}] has ${sizeOf(x)} elements, [${shape}] would have ${sizeOf(shape)}`);
    return [shape];
  },
  forward: () => {},
  backward: ({ grads: [dy], inputShapes: [x] }) => [() => dy.alias(x)],
  reference: ([x], { shape }) => [reference(shape, (i) => x.data[i])],
  cost: () => ({ flops: 0, bytes: 0 }),
  cases: [{ name: '[3,5,7] to [7,15]', shapes: [[3, 5, 7]], attrs: { shape: [7, 15] } }],
};

function inverse(order: readonly number[]): number[] {
  const back = new Array<number>(order.length);
  order.forEach((axis, i) => {
    back[axis] = i;
  });
  return back;
}

export const transposeOp: Op<{ order: readonly number[] }> = {
  name: 'transpose',
  doc: {
    equation: 'axis k of y is axis order[k] of x',
    gradient: 'dx = dy with the axes put back',
    tensors: {
      x: 'any shape, any type',
      y: 'the extents of x in the order given; the default exchanges two axes',
    },
    example: 'ops.transpose(tensor([1, 2, 3, 4, 5, 6], [2, 3]))',
    refused: ['ops.transpose(zeros([2, 3, 4]))'],
  },
  anyType: true,
  inputs: ['x'],
  outputs: ['y'],
  shape: ([x], { order }) => {
    if (order.length !== x.length || new Set(order).size !== x.length || order.some((axis) => !(axis in x)))
      throw new ShapeError(`transpose: order [${order}] is no permutation of the axes of [${x}]`);
    return [order.map((axis) => x[axis])];
  },
  forward: ({ gpu, inputs: [x], outputs: [y], attrs: { order }, label }) => {
    const strides = stridesOf(x.shape);
    stridedCopy(gpu, { slice: x.slice, strides: order.map((axis) => strides[axis]) }, { slice: y.slice, strides: stridesOf(y.shape) }, y.shape, label);
  },
  backward: ({ grads: [dy], attrs: { order } }) => [() => transpose(dy, inverse(order))],
  reference: ([x], { order }) => {
    const strides = stridesOf(x.shape);
    const shape = order.map((axis) => x.shape[axis]);
    const own = stridesOf(shape);
    return [reference(shape, (i) => x.data[order.reduce((at, axis, k) => at + (Math.floor(i / own[k]) % shape[k]) * strides[axis], 0)])];
  },
  cost: moved,
  cases: [
    { name: 'matrix', shapes: [[37, 11]], attrs: { order: [1, 0] } },
    { name: 'NCHW to NHWC', shapes: [[2, 5, 7, 3]], attrs: { order: [0, 2, 3, 1] } },
    { name: 'six axes', shapes: [[2, 3, 2, 2, 3, 5]], attrs: { order: [5, 3, 1, 0, 4, 2] } },
    { name: 'nothing moves', shapes: [[3, 5]], attrs: { order: [0, 1] } },
  ],
};

export interface SliceAttrs {
  start: readonly number[];
  size: readonly number[];
  /** Places of x from one element of y to the next, per axis; a negative step walks backwards. Left out: 1 everywhere. */
  step?: readonly number[];
}

function offset(shape: Shape, start: readonly number[]): number {
  const strides = stridesOf(shape);
  return start.reduce((sum, index, axis) => sum + index * strides[axis], 0);
}

/** How the elements of a slice lie in the storage of x. */
function sliced(x: Shape, { start, size, step }: SliceAttrs): { start: number; strides: number[] } {
  // A slice of nothing may start behind the last element.
  return { start: sizeOf(size) === 0 ? 0 : offset(x, start), strides: stridesOf(x).map((stride, axis) => stride * (step?.[axis] ?? 1)) };
}

/** Whether a slice of one axis lies within its extent. */
function liesWithin(extent: number, start: number, size: number, step: number): boolean {
  const last = start + (size - 1) * step;
  const isWhole = [start, size, step].every(Number.isSafeInteger) && step !== 0 && start >= 0 && size >= 0;
  return isWhole && (size === 0 ? start <= extent : start < extent && last >= 0 && last < extent);
}

export const sliceOp: Op<SliceAttrs> = {
  name: 'slice',
  doc: {
    equation: 'y[i] = x[start + i step]',
    gradient: 'dx = dy at the elements taken, 0 elsewhere',
    tensors: {
      x: 'any shape, any type',
      y: 'the size given, one extent per axis; whole rows share the storage of x where they begin at a multiple of 64 elements',
    },
    example: 'ops.slice(tensor([1, 2, 3, 4, 5, 6], [2, 3]), [0, 2], [2, 2], [1, -2])',
    refused: ['ops.slice(zeros([2, 3]), [0, 2], [2, 2])', 'ops.slice(zeros([2, 3]), [0, 0], [2, 2], [1, 3])'],
  },
  anyType: true,
  inputs: ['x'],
  outputs: ['y'],
  // Whole rows of the outermost axis that is cut lie together: rows of a weight are no copy, step after step.
  view: ([x], { start, size, step }) => {
    const cut = size.findIndex((extent) => extent !== 1);
    const together = size.every((extent, axis) => axis <= cut || extent === x[axis] || cut < 0);
    const steady = size.every((extent, axis) => extent === 1 || (step?.[axis] ?? 1) === 1);
    const first = offset(x, start);
    return together && steady && sizeOf(size) > 0 && startsPart(first) ? first : null;
  },
  shape: ([x], { start, size, step }) => {
    const isRank = [start, size, step ?? x].every((list) => list.length === x.length);
    if (!isRank || !x.every((extent, axis) => liesWithin(extent, start[axis], size[axis], step?.[axis] ?? 1)))
      throw new ShapeError(`slice: start [${start}]${step ? `, step [${step}]` : ''} and size [${size}] do not fit in [${x}]`);
    return [size];
  },
  forward: ({ gpu, inputs: [x], outputs: [y], attrs, label }) => {
    stridedCopy(gpu, { slice: x.slice, ...sliced(x.shape, attrs) }, { slice: y.slice, strides: stridesOf(y.shape) }, y.shape, label);
  },
  backward: ({ gpu, grads: [dy], inputShapes: [x], attrs, label }) => [
    () => {
      const dx = zeros(x);
      stridedCopy(gpu, { slice: dy.slice, strides: stridesOf(dy.shape) }, { slice: dx.slice, ...sliced(x, attrs) }, dy.shape, label);
      return dx;
    },
  ],
  reference: ([x], { start, size, step }) => {
    const strides = stridesOf(x.shape);
    const own = stridesOf(size);
    const along = (i: number, axis: number) => start[axis] + (Math.floor(i / own[axis]) % size[axis]) * (step?.[axis] ?? 1);
    return [reference(size, (i) => x.data[size.reduce((at, _extent, axis) => at + along(i, axis) * strides[axis], 0)])];
  },
  cost: (_shapes, outputs) => moved(outputs, outputs),
  cases: [
    { name: 'inner block', shapes: [[7, 11, 9]], attrs: { start: [2, 3, 1], size: [3, 7, 5] } },
    { name: 'rows', shapes: [[13, 3]], attrs: { start: [4, 0], size: [5, 3] } },
    { name: 'every third, backwards', shapes: [[7, 37, 5]], attrs: { start: [1, 36, 4], size: [3, 12, 5], step: [2, -3, -1] } },
    {
      name: 'six axes turned around',
      shapes: [[2, 3, 2, 3, 2, 5]],
      attrs: { start: [1, 2, 1, 0, 1, 4], size: [2, 3, 2, 3, 2, 2], step: [-1, -1, -1, 1, -1, -3] },
    },
  ],
};

/** The axes as numbers from 0, each once. Throws a ShapeError for one that there is not, or that comes twice. */
function distinctAxes(axes: readonly number[], shape: Shape, op: string): Set<number> {
  const found = new Set(axes.map((axis) => normalizeAxis(axis, shape, op)));
  if (found.size !== axes.length) throw new ShapeError(`${op}: an axis comes twice among [${axes}]`);
  return found;
}

export const concatOp: Op<{ axis: number }> = {
  name: 'concat',
  doc: {
    equation: 'y = the tensors one after the other along the axis',
    gradient: 'da, db, … = the blocks of dy',
    tensors: {
      a: 'any shape, any type',
      b: 'as a, but for the extent along the axis; more may follow',
      y: 'as a, the extents along the axis added',
    },
    example: 'ops.concat([tensor([1, 2], [1, 2]), tensor([3, 4, 5, 6], [2, 2])], 0)',
    refused: ['ops.concat([zeros([1, 2]), zeros([2, 3])], 0)'],
  },
  anyType: true,
  inputs: ['a', 'b'],
  outputs: ['y'],
  shape: (shapes, { axis }) => {
    const [first] = shapes;
    for (const shape of shapes) {
      if (shape.length !== first.length || shape.some((extent, i) => i !== axis && extent !== first[i]))
        throw new ShapeError(`concat along axis ${axis}: ${shapes.map((s) => `[${s}]`).join(' ')} differ elsewhere`);
    }
    return [first.map((extent, i) => (i === axis ? shapes.reduce((sum, shape) => sum + shape[axis], 0) : extent))];
  },
  forward: ({ gpu, inputs, outputs: [y], attrs: { axis }, label }) => {
    const strides = stridesOf(y.shape);
    let at = 0;
    for (const x of inputs) {
      stridedCopy(gpu, { slice: x.slice, strides: stridesOf(x.shape) }, { slice: y.slice, strides, start: at * strides[axis] }, x.shape, label);
      at += x.shape[axis];
    }
  },
  backward: ({ grads: [dy], inputShapes, attrs: { axis } }) => {
    let at = 0;
    return inputShapes.map((shape) => {
      const start = shape.map((_, i) => (i === axis ? at : 0));
      at += shape[axis];
      return () => slice(dy, start, shape);
    });
  },
  reference: (inputs, { axis }) => {
    const shape = concatOp.shape(
      inputs.map((x) => x.shape),
      { axis },
    )[0];
    const inner = sizeOf(shape.slice(axis + 1));
    return [
      reference(shape, (i) => {
        const outer = Math.floor(i / inner / shape[axis]);
        let along = Math.floor(i / inner) % shape[axis];
        for (const x of inputs) {
          if (along < x.shape[axis]) return x.data[(outer * x.shape[axis] + along) * inner + (i % inner)];
          along -= x.shape[axis];
        }
        return Number.NaN;
      }),
    ];
  },
  cost: moved,
  cases: [
    {
      name: 'last axis',
      shapes: [
        [17, 5],
        [17, 11],
      ],
      attrs: { axis: 1 },
    },
    {
      name: 'first axis',
      shapes: [
        [2, 3, 5],
        [7, 3, 5],
      ],
      attrs: { axis: 0 },
    },
  ],
};

export const broadcastOp: Op<{ shape: Shape }> = {
  name: 'broadcastTo',
  doc: {
    equation: 'y = x, repeated along axes where it has extent 1 or that it lacks',
    gradient: 'dx = dy, summed over the axes along which x repeats',
    tensors: {
      x: 'any type; a shape that broadcasts to the one given',
      y: 'the shape given',
    },
    example: 'ops.broadcastTo(tensor([1, 2, 3]), [2, 3])',
    refused: ['ops.broadcastTo(zeros([2]), [2, 3])'],
  },
  anyType: true,
  inputs: ['x'],
  outputs: ['y'],
  shape: ([x], { shape }) => {
    if (!sameShape(broadcastShapes(x, shape, 'broadcastTo'), shape)) throw new ShapeError(`broadcastTo: [${x}] does not broadcast to [${shape}]`);
    return [shape];
  },
  forward: ({ gpu, inputs: [x], outputs: [y], label }) => {
    stridedCopy(gpu, { slice: x.slice, strides: broadcastStrides(x.shape, y.shape) }, { slice: y.slice, strides: stridesOf(y.shape) }, y.shape, label);
  },
  backward: ({ grads: [dy], inputShapes: [x] }) => [() => sumTo(dy, x)],
  reference: ([x], { shape }) => {
    const strides = broadcastStrides(x.shape, shape);
    const own = stridesOf(shape);
    return [reference(shape, (i) => x.data[shape.reduce((at, extent, axis) => at + (Math.floor(i / own[axis]) % extent) * strides[axis], 0)])];
  },
  cost: moved,
  cases: [
    { name: 'a row', shapes: [[7]], attrs: { shape: [23, 7] } },
    { name: 'a column', shapes: [[3, 1]], attrs: { shape: [2, 3, 11] } },
  ],
};

export interface TriluAttrs {
  /** The columns that the triangle begins behind the main diagonal; negative before it. */
  diagonal: number;
  upper: boolean;
}

export const triluOp: Op<TriluAttrs> = {
  name: 'trilu',
  doc: {
    equation: 'y[…, r, c] = x[…, r, c] where c − r ≥ diagonal (of the lower triangle: ≤), else 0',
    gradient: 'dx = dy within the triangle, 0 elsewhere',
    tensors: { x: '[…, rows, columns], any type', y: 'as x; 0 also where x is NaN outside the triangle' },
    example: 'ops.trilu(tensor([1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 3]), 1)',
    refused: ['ops.trilu(zeros([3]))', 'ops.trilu(zeros([3, 3]), 0.5)'],
  },
  anyType: true,
  inputs: ['x'],
  outputs: ['y'],
  shape: ([x], { diagonal }) => {
    if (x.length < 2) throw new ShapeError(`trilu: x [${x}] has ${x.length} axes, at least 2 are expected`);
    if (!Number.isSafeInteger(diagonal)) throw new ShapeError(`trilu: the diagonal ${diagonal} is no whole number`);
    return [x];
  },
  forward: ({ gpu, inputs: [x], outputs: [y], attrs, label }) => triangle(gpu, x, y, attrs, label),
  backward: ({ gpu, grads: [dy], attrs, label }) => [
    () => {
      const dx = empty(dy.shape, 'f32', label);
      triangle(gpu, dy, dx, attrs, label);
      return dx;
    },
  ],
  reference: ([x], { diagonal, upper }) => {
    const [rows, columns] = x.shape.slice(-2);
    const offset = (i: number) => (i % columns) - (Math.floor(i / columns) % rows);
    return [reference(x.shape, (i) => ((upper ? offset(i) >= diagonal : offset(i) <= diagonal) ? x.data[i] : 0))];
  },
  cost: moved,
  cases: [
    { name: 'upper', shapes: [[3, 13, 11]], attrs: { diagonal: 0, upper: true } },
    { name: 'lower, beyond the diagonal', shapes: [[37, 41]], attrs: { diagonal: 5, upper: false } },
    { name: 'upper, before the diagonal', shapes: [[7, 3]], attrs: { diagonal: -2, upper: true } },
    { name: 'nothing is left', shapes: [[3, 5]], attrs: { diagonal: -9, upper: false } },
  ],
};

function triangle(gpu: Gpu, x: Tensor, y: Tensor, { diagonal, upper }: TriluAttrs, label: string): void {
  const [rows, columns] = x.shape.slice(-2);
  // Beyond the corners every diagonal is alike; it must fit in 32 bits.
  const within = Math.max(-rows - columns, Math.min(rows + columns, diagonal));
  triluKernel(gpu, x.slice, y.slice, x.size, rows, columns, within, upper, label);
}

/** The upper triangle of each matrix of x [..., rows, columns], from a diagonal on, or the lower one; the rest is 0. Any type. */
export function trilu(x: Tensor, diagonal = 0, upper = true): Tensor {
  return apply(triluOp, [x], { diagonal, upper })[0];
}

export function reshape(x: Tensor, shape: Shape): Tensor {
  return apply(reshapeOp, [x], { shape })[0];
}

export function transpose(x: Tensor, order: readonly number[] = [1, 0]): Tensor {
  return apply(transposeOp, [x], { order })[0];
}

/** size elements per axis, from `start` on, `step` places from one to the next. A negative step walks backwards. */
export function slice(x: Tensor, start: readonly number[], size: readonly number[], step?: readonly number[]): Tensor {
  return apply(sliceOp, [x], { start, size, ...(step ? { step } : {}) })[0];
}

/** x with the elements along the axes in reversed order; any type. Throws a ShapeError for an axis that there is not. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  const turned = distinctAxes(typeof axes === 'number' ? [axes] : axes, x.shape, 'flip');
  const start = x.shape.map((extent, axis) => (turned.has(axis) ? Math.max(0, extent - 1) : 0));
  return slice(
    x,
    start,
    x.shape,
    x.shape.map((_, axis) => (turned.has(axis) ? -1 : 1)),
  );
}

/** The parts of x with these extents along the axis, one after the other. Throws a ShapeError if they do not add up to its extent. */
export function split(x: Tensor, sizes: readonly number[], axis = 0): Tensor[] {
  const along = normalizeAxis(axis, x.shape, 'split');
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (total !== x.shape[along] || !sizes.every((size) => Number.isSafeInteger(size) && size >= 0))
    throw new ShapeError(`split: sizes [${sizes}] do not divide axis ${along} of [${x.shape}], which has ${x.shape[along]}`);
  let at = 0;
  return sizes.map((size) => {
    const start = x.shape.map((_, i) => (i === along ? at : 0));
    at += size;
    return slice(x, start, x.shape.with(along, size));
  });
}

/** x laid side by side `repeats[axis]` times along each axis; any type. Its gradient is the sum over the copies. */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  if (repeats.length !== x.rank || !repeats.every((count) => Number.isSafeInteger(count) && count >= 0))
    throw new ShapeError(`tile: repeats [${repeats}] are not one whole number ≥ 0 for each axis of [${x.shape}]`);
  // Also where nothing repeats, the result is a tensor of its own: whoever disposes it must not dispose x.
  return repeats.reduceRight(
    (y, count, axis) => {
      if (count === 1) return y;
      const [outer, inner] = [sizeOf(y.shape.slice(0, axis)), sizeOf(y.shape.slice(axis))];
      return reshape(broadcastTo(reshape(y, [outer, 1, inner]), [outer, count, inner]), y.shape.with(axis, count * y.shape[axis]));
    },
    reshape(x, x.shape),
  );
}

/** How `depthToSpace` and `spaceToDepth` number the channels: DCR, the place in the block first; CRD, the channel first. */
export type DepthMode = 'DCR' | 'CRD';

/** The extents of x [N, C, H, W] and of a block. Throws a ShapeError if x is no picture, or the block is no whole number ≥ 1. */
function picture(x: Tensor, block: number, op: string): readonly number[] {
  if (x.rank !== 4) throw new ShapeError(`${op}: x [${x.shape}] has ${x.rank} axes, [N, C, H, W] is expected`);
  if (!(Number.isSafeInteger(block) && block >= 1)) throw new ShapeError(`${op}: the block ${block} is no whole number ≥ 1`);
  return x.shape;
}

/**
 * x [N, C, H, W] → [N, C / block², H block, W block]: channels become blocks of block × block pixels, as ONNX DepthToSpace. Any
 * type. Throws a ShapeError if the channels are no multiple of block².
 */
export function depthToSpace(x: Tensor, block: number, mode: DepthMode = 'DCR'): Tensor {
  const [n, c, h, w] = picture(x, block, 'depthToSpace');
  const depth = c / block ** 2;
  if (!Number.isInteger(depth)) throw new ShapeError(`depthToSpace: the ${c} channels of [${x.shape}] are no multiple of ${block}²`);
  const [shape, order] =
    mode === 'DCR'
      ? [
          [n, block, block, depth, h, w],
          [0, 3, 4, 1, 5, 2],
        ]
      : [
          [n, depth, block, block, h, w],
          [0, 1, 4, 2, 5, 3],
        ];
  return reshape(transpose(reshape(x, shape), order), [n, depth, h * block, w * block]);
}

/**
 * x [N, C, H, W] → [N, C block², H / block, W / block]: blocks of pixels become channels. It undoes `depthToSpace` of the same mode;
 * ONNX SpaceToDepth is DCR. Any type. Throws a ShapeError if a side is no multiple of the block.
 */
export function spaceToDepth(x: Tensor, block: number, mode: DepthMode = 'DCR'): Tensor {
  const [n, c, h, w] = picture(x, block, 'spaceToDepth');
  if (h % block !== 0 || w % block !== 0) throw new ShapeError(`spaceToDepth: the sides of [${x.shape}] are no multiples of ${block}`);
  const order = mode === 'DCR' ? [0, 3, 5, 1, 2, 4] : [0, 1, 3, 5, 2, 4];
  return reshape(transpose(reshape(x, [n, c, h / block, block, w / block, block]), order), [n, c * block ** 2, h / block, w / block]);
}

export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  return apply(concatOp, tensors, { axis: normalizeAxis(axis, tensors[0].shape, 'concat') })[0];
}

export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return apply(broadcastOp, [x], { shape })[0];
}
