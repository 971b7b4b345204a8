/** Launchers of pooling over windows of up to three axes, in either layout, and of unpooling. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';

/** Down into the volume, down, across; pictures have a depth of 1. */
type Triple = readonly [number, number, number];

export interface PoolGeometry {
  images: number;
  channels: number;
  size: Triple;
  out: Triple;
  kernel: Triple;
  stride: Triple;
  /** Padding before and behind. */
  pad: Triple;
  padEnd: Triple;
  dilation: Triple;
  channelsLast: boolean;
  countPadding: boolean;
}

/** What a window gives. A norm has a whole power. */
export type PoolKind = { kind: 'largest' } | { kind: 'mean' } | { kind: 'norm'; power: number };

const KINDS = ['largest', 'mean', 'norm'] as const;

/** `names` with the numbers along z, y and x. */
const along = (names: (axis: 0 | 1 | 2) => string, values: Triple): Record<string, number> =>
  Object.fromEntries(values.map((value, axis) => [names(axis as 0 | 1 | 2), value]));

const EXTENTS = ['depth', 'height', 'width'] as const;
const LETTERS = ['z', 'y', 'x'] as const;

function strides(of: 'x' | 'y', [d, h, w]: Triple, { channels, channelsLast }: PoolGeometry): Record<string, number> {
  const [image, plane, row, pixel, channel] = channelsLast
    ? [d * h * w * channels, h * w * channels, w * channels, channels, 1]
    : [channels * d * h * w, h * w, w, 1, d * h * w];
  return { [`${of}_image`]: image, [`${of}_plane`]: plane, [`${of}_row`]: row, [`${of}_pixel`]: pixel, [`${of}_channel`]: channel };
}

function windowParams(g: PoolGeometry, count: number): Record<string, number> {
  return {
    count,
    channels: g.channels,
    ...along((axis) => EXTENTS[axis], g.size),
    ...along((axis) => `out_${EXTENTS[axis]}`, g.out),
    ...along((axis) => `kernel_${EXTENTS[axis]}`, g.kernel),
    ...along((axis) => `stride_${LETTERS[axis]}`, g.stride),
    ...along((axis) => `pad_${LETTERS[axis]}`, g.pad),
    ...along((axis) => `dilation_${LETTERS[axis]}`, g.dilation),
    ...strides('x', g.size, g),
    ...strides('y', g.out, g),
  };
}

/** With the cells that count in a mean: those of the picture or, with `countPadding`, of the padding too, but none beyond it. */
function poolParams(g: PoolGeometry, kind: PoolKind, count: number): Record<string, number> {
  const end = (axis: 0 | 1 | 2) => g.pad[axis] + g.size[axis] + (g.countPadding ? g.padEnd[axis] : 0);
  return {
    ...windowParams(g, count),
    ...along((axis) => `count_before_${LETTERS[axis]}`, g.countPadding ? [0, 0, 0] : g.pad),
    ...along((axis) => `count_end_${LETTERS[axis]}`, [end(0), end(1), end(2)]),
    power: kind.kind === 'norm' ? kind.power : 1,
  };
}

const outputs = ({ images, channels, out }: PoolGeometry): number => images * channels * out[0] * out[1] * out[2];
/** Pictures are volumes of depth 1; their shaders have no loop over the depth. */
const volume = ({ size, kernel, pad, padEnd }: PoolGeometry) => ({ VOLUME: size[0] * kernel[0] === 1 && pad[0] + padEnd[0] === 0 ? 0 : 1 });
const constants = (g: PoolGeometry, { kind }: PoolKind) => ({ KIND: KINDS.indexOf(kind), ...volume(g) });

export function pool(gpu: Gpu, g: PoolGeometry, kind: PoolKind, x: BufferSlice, y: BufferSlice, label: string): void {
  const count = outputs(g);
  gpu.dispatch(gpu.kernel({ file: 'pool', constants: constants(g, kind) }), [x, y], poolParams(g, kind, count), grid(count), label);
}

/** The place of each window's largest element in x as [N, C, D, H, W], u32. */
export function poolLargest(gpu: Gpu, g: PoolGeometry, x: BufferSlice, index: BufferSlice, label: string): void {
  const count = outputs(g);
  gpu.dispatch(gpu.kernel({ file: 'pool_largest', constants: volume(g) }), [x, index], windowParams(g, count), grid(count), label);
}

/** What the gradient reads beside dy: the places of the largest elements, or x and y of a norm. */
export interface PoolGradOperands {
  dy: BufferSlice;
  index?: BufferSlice;
  x?: BufferSlice;
  y?: BufferSlice;
}

export function poolGrad(
  gpu: Gpu,
  g: PoolGeometry,
  kind: PoolKind,
  { dy, index = dy, x = dy, y = dy }: PoolGradOperands,
  dx: BufferSlice,
  label: string,
): void {
  const count = g.images * g.channels * g.size[0] * g.size[1] * g.size[2];
  gpu.dispatch(gpu.kernel({ file: 'pool_grad', constants: constants(g, kind) }), [x, y, index, dy, dx], poolParams(g, kind, count), grid(count), label);
}

/** y [size] = 0 but for y[index[i]] = x[i]; the last of several wins. Fills `owner` [size + 1], which the gradient reads. */
export function unpool(gpu: Gpu, x: BufferSlice, index: BufferSlice, owner: BufferSlice, y: BufferSlice, count: number, size: number, label: string): void {
  gpu.clear(owner);
  gpu.dispatch(gpu.kernel({ file: 'unpool_owners' }), [index, owner], { count, size }, grid(count), label);
  gpu.dispatch(gpu.kernel({ file: 'unpool' }), [x, owner, y], { count: size }, grid(size), label);
}

export function unpoolGrad(
  gpu: Gpu,
  dy: BufferSlice,
  index: BufferSlice,
  owner: BufferSlice,
  dx: BufferSlice,
  count: number,
  size: number,
  label: string,
): void {
  gpu.dispatch(gpu.kernel({ file: 'unpool_grad' }), [index, owner, dy, dx], { count, size }, grid(count), label);
}
