/** What convolution and pooling say of their windows: the order of axes, and numbers that stand for all axes. */
import { ShapeError } from '../../errors.ts';
import type { Shape } from '../../tensor/shape.ts';

/** The order of the axes of pictures: channels before height and width, or last. */
export type Layout = 'nchw' | 'nhwc';

/** [N, H, W, C] of a picture tensor in either layout. */
export function picture(shape: Shape, layout: Layout): [number, number, number, number] {
  const [n, a, b, c] = shape;
  return layout === 'nchw' ? [n, b, c, a] : [n, a, b, c];
}

export function pictureShape(n: number, h: number, w: number, c: number, layout: Layout): number[] {
  return layout === 'nchw' ? [n, c, h, w] : [n, h, w, c];
}

export const pair = (value: number | readonly [number, number]): readonly [number, number] => (typeof value === 'number' ? [value, value] : value);
export const sides = (value: number | readonly [number, number, number, number]): readonly [number, number, number, number] =>
  typeof value === 'number' ? [value, value, value, value] : value;

/** One number per axis; a single one stands for all. Throws a ShapeError if they are not as many, or no whole numbers ≥ `least`. */
export function perAxis(op: string, what: string, value: number | readonly number[], count: number, least: number): number[] {
  const list = typeof value === 'number' ? new Array<number>(count).fill(value) : [...value];
  if (list.length !== count) throw new ShapeError(`${op}: ${what} [${list}] has ${list.length} numbers, ${count} are expected`);
  if (!list.every((each) => Number.isSafeInteger(each) && each >= least)) throw new ShapeError(`${op}: ${what} [${list}] is not of whole numbers ≥ ${least}`);
  return list;
}

/** A tensor of sequences [N, C, L] or [N, L, C] as pictures of height 1. */
export function asPictures(op: string, shape: Shape, layout: Layout): number[] {
  if (shape.length !== 3) throw new ShapeError(`${op}: x [${shape}] has ${shape.length} axes, 3 are expected`);
  return layout === 'nchw' ? [shape[0], shape[1], 1, shape[2]] : [shape[0], 1, shape[1], shape[2]];
}

/** Pictures of height 1 as sequences again. */
export function asSequences([n, a, b, c]: Shape, layout: Layout): number[] {
  return layout === 'nchw' ? [n, a, c] : [n, b, c];
}
