/** Ops that move elements: reshape and slices of whole rows (both free), transpose, other slices, concat, broadcast (strided copies). */
import { ShapeError } from '../../errors.ts';
import { stridedCopy } from '../../kernels/elementwise.ts';
import { broadcastShapes, broadcastStrides, normalizeAxis, type Shape, sameShape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { startsPart, type Tensor, zeros } from '../../tensor/tensor.ts';
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
}

function offset(shape: Shape, start: readonly number[]): number {
  const strides = stridesOf(shape);
  return start.reduce((sum, index, axis) => sum + index * strides[axis], 0);
}

export const sliceOp: Op<SliceAttrs> = {
  name: 'slice',
  doc: {
    equation: 'y[i] = x[start + i]',
    gradient: 'dx = dy within the block, 0 elsewhere',
    tensors: {
      x: 'any shape, any type',
      y: 'the size given, one extent per axis; whole rows share the storage of x where they begin at a multiple of 64 elements',
    },
    example: 'ops.slice(tensor([1, 2, 3, 4, 5, 6], [2, 3]), [0, 1], [2, 2])',
    refused: ['ops.slice(zeros([2, 3]), [0, 2], [2, 2])'],
  },
  anyType: true,
  inputs: ['x'],
  outputs: ['y'],
  // Whole rows of the outermost axis that is cut lie together: rows of a weight are no copy, step after step.
  view: ([x], { start, size }) => {
    const cut = size.findIndex((extent) => extent !== 1);
    const together = size.every((extent, axis) => axis <= cut || extent === x[axis] || cut < 0);
    const first = offset(x, start);
    return together && sizeOf(size) > 0 && startsPart(first) ? first : null;
  },
  shape: ([x], { start, size }) => {
    const inside = start.length === x.length && size.length === x.length && start.every((s, axis) => s >= 0 && size[axis] >= 0 && s + size[axis] <= x[axis]);
    if (!inside) throw new ShapeError(`slice: start [${start}] and size [${size}] do not fit in [${x}]`);
    return [size];
  },
  forward: ({ gpu, inputs: [x], outputs: [y], attrs, label }) => {
    stridedCopy(
      gpu,
      { slice: x.slice, strides: stridesOf(x.shape), start: offset(x.shape, attrs.start) },
      { slice: y.slice, strides: stridesOf(y.shape) },
      y.shape,
      label,
    );
  },
  backward: ({ gpu, grads: [dy], inputShapes: [x], attrs, label }) => [
    () => {
      const dx = zeros(x);
      stridedCopy(
        gpu,
        { slice: dy.slice, strides: stridesOf(dy.shape) },
        { slice: dx.slice, strides: stridesOf(x), start: offset(x, attrs.start) },
        dy.shape,
        label,
      );
      return dx;
    },
  ],
  reference: ([x], { start, size }) => {
    const strides = stridesOf(x.shape);
    const own = stridesOf(size);
    return [reference(size, (i) => x.data[size.reduce((at, extent, axis) => at + (start[axis] + (Math.floor(i / own[axis]) % extent)) * strides[axis], 0)])];
  },
  cost: (_shapes, outputs) => moved(outputs, outputs),
  cases: [
    { name: 'inner block', shapes: [[7, 11, 9]], attrs: { start: [2, 3, 1], size: [3, 7, 5] } },
    { name: 'rows', shapes: [[13, 3]], attrs: { start: [4, 0], size: [5, 3] } },
  ],
};

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

export function reshape(x: Tensor, shape: Shape): Tensor {
  return apply(reshapeOp, [x], { shape })[0];
}

export function transpose(x: Tensor, order: readonly number[] = [1, 0]): Tensor {
  return apply(transposeOp, [x], { order })[0];
}

export function slice(x: Tensor, start: readonly number[], size: readonly number[]): Tensor {
  return apply(sliceOp, [x], { start, size })[0];
}

export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  return apply(concatOp, tensors, { axis: normalizeAxis(axis, tensors[0].shape, 'concat') })[0];
}

export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return apply(broadcastOp, [x], { shape })[0];
}
