/** Shapes: the sizes of a tensor's axes, row-major. All that the floors above need to know about them, without buffers. */
import { ShapeError } from '../errors.ts';

/** Extents of the axes; [] is a single number. */
export type Shape = readonly number[];

/** The most axes that a tensor may have. */
export const MAX_RANK = 6;

/** Elements of a shape. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const extent of shape) size *= extent;
  return size;
}

export function checkShape(shape: Shape, what: string): void {
  if (shape.length > MAX_RANK) throw new ShapeError(`${what}: [${shape}] has ${shape.length} axes, at most ${MAX_RANK} are supported`);
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) throw new ShapeError(`${what}: [${shape}] has an extent that is no whole number ≥ 0`);
  }
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((extent, axis) => extent === b[axis]);
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

/** The place of an element, counted along each axis. */
export function placeOf(index: number, shape: Shape): number[] {
  return stridesOf(shape).map((stride, axis) => Math.floor(index / stride) % shape[axis]);
}

/** The result shape by NumPy's rule: shapes are aligned at the last axis, and an extent of 1 or none repeats. Throws a ShapeError. */
export function broadcastShapes(a: Shape, b: Shape, op: string): number[] {
  const rank = Math.max(a.length, b.length);
  const out: number[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) throw new ShapeError(`${op}: [${a}] and [${b}] do not broadcast, axis ${i} is ${x} against ${y}`);
    out.push(x === 1 ? y : x);
  }
  return out;
}

/** Strides, in elements, for reading `shape` as if it had the shape `out`: 0 along repeated axes. */
export function broadcastStrides(shape: Shape, out: Shape): number[] {
  const strides = stridesOf(shape);
  return out.map((_, axis) => {
    const own = axis - (out.length - shape.length);
    return own < 0 || shape[own] === 1 ? 0 : strides[own];
  });
}

/** The axis as a number from 0; a negative one counts from the end. Throws a ShapeError if there is no such axis. */
export function normalizeAxis(axis: number, shape: Shape, op: string): number {
  const positive = axis < 0 ? axis + shape.length : axis;
  if (!Number.isInteger(axis) || positive < 0 || positive >= shape.length)
    throw new ShapeError(`${op}: axis ${axis} is not among the ${shape.length} of [${shape}]`);
  return positive;
}
