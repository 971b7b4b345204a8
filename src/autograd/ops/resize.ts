/**
 * Resizing of any axes as ONNX Resize: nearest, linear and cubic, with all its ways to lay the new grid over the old one. Axes are
 * resampled one after the other. What each place takes of the old axis is a small table, worked out here in float64.
 */
import { ShapeError } from '../../errors.ts';
import { resample, type Taps, type TapTable, transposed } from '../../kernels/resample.ts';
import { normalizeAxis, type Shape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';

/** How a new value comes of the old ones around its place. */
export type ResizeMode = 'nearest' | 'linear' | 'cubic';
/** Where a place of the new axis lies on the old one, by ONNX's names. */
export type ResizeCoordinates =
  | 'half_pixel'
  | 'half_pixel_symmetric'
  | 'pytorch_half_pixel'
  | 'align_corners'
  | 'asymmetric'
  | 'tf_half_pixel_for_nn'
  | 'tf_crop_and_resize';
/** Which neighbor `nearest` takes, by ONNX's names. */
export type ResizeRounding = 'round_prefer_floor' | 'round_prefer_ceil' | 'floor' | 'ceil';

/** One axis that is resized. */
export interface ResizedAxis {
  axis: number;
  size: number;
  /** New extent by old one, where it is not just size / extent. */
  scale?: number;
  /** Begin and end of what `tf_crop_and_resize` takes, as shares of the axis. */
  roi?: readonly [number, number];
}

export interface ResizeAttrs {
  axes: readonly ResizedAxis[];
  mode: ResizeMode;
  coordinates: ResizeCoordinates;
  rounding: ResizeRounding;
  cubicA: number;
  excludeOutside: boolean;
  antialias: boolean;
  extrapolation: number;
}

/** Where place i of the new axis lies on the old one of n places. */
function placeOnOld(i: number, n: number, { size, scale, roi = [0, 1] }: ResizedAxis, coordinates: ResizeCoordinates): number {
  const shrunk = (at: number) => (scale === undefined ? (at * n) / size : at / scale);
  switch (coordinates) {
    case 'half_pixel':
      return shrunk(i + 0.5) - 0.5;
    case 'half_pixel_symmetric': {
      const adjusted = scale === undefined ? 1 : size / (scale * n);
      return (n / 2) * (1 - adjusted) + shrunk(i + 0.5) - 0.5;
    }
    case 'pytorch_half_pixel':
      return size > 1 ? shrunk(i + 0.5) - 0.5 : 0;
    case 'align_corners':
      return size > 1 ? (i * (n - 1)) / (size - 1) : 0;
    case 'asymmetric':
      return shrunk(i);
    case 'tf_half_pixel_for_nn':
      return shrunk(i + 0.5);
    case 'tf_crop_and_resize':
      return size > 1 ? roi[0] * (n - 1) + (i * (roi[1] - roi[0]) * (n - 1)) / (size - 1) : 0.5 * (roi[0] + roi[1]) * (n - 1);
  }
}

function nearest(at: number, rounding: ResizeRounding): number {
  switch (rounding) {
    case 'floor':
      return Math.floor(at);
    case 'ceil':
      return Math.ceil(at);
    case 'round_prefer_floor':
      return Math.ceil(at - 0.5);
    case 'round_prefer_ceil':
      return Math.floor(at + 0.5);
  }
}

/** The weight of a pixel at a distance, as ONNX and PyTorch define it; `a` shapes the cubic one (Keys, 1981). */
function kernelOf(mode: ResizeMode, a: number): { reach: number; weight(distance: number): number } {
  if (mode === 'linear') return { reach: 1, weight: (d) => Math.max(0, 1 - Math.abs(d)) };
  return {
    reach: 2,
    weight: (distance) => {
      const d = Math.abs(distance);
      if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
    },
  };
}

/** What place i of the new axis takes of the old one; nothing where it is filled. */
function tapsOf(i: number, n: number, axis: ResizedAxis, attrs: ResizeAttrs): Taps {
  const at = placeOnOld(i, n, axis, attrs.coordinates);
  const inside = (place: number) => Math.min(Math.max(place, 0), n - 1);
  if (attrs.coordinates === 'tf_crop_and_resize' && (at < 0 || at > n - 1)) return { sources: [], weights: [] };
  if (attrs.mode === 'nearest') return { sources: [inside(nearest(at, attrs.rounding))], weights: [1] };
  const { reach, weight } = kernelOf(attrs.mode, attrs.cubicA);
  const narrow = attrs.antialias ? Math.min(1, axis.scale ?? axis.size / n) : 1; // a smaller picture: the kernel grows over all that it stands for
  const found = new Map<number, number>();
  let total = 0;
  for (let place = Math.ceil(at - reach / narrow); place <= Math.floor(at + reach / narrow); place++) {
    const value = weight(narrow * (place - at));
    if (value === 0 || (attrs.excludeOutside && inside(place) !== place)) continue;
    found.set(inside(place), (found.get(inside(place)) ?? 0) + value);
    total += value;
  }
  if (total === 0) return { sources: [inside(Math.round(at))], weights: [1] }; // all that it would take is excluded
  return { sources: [...found.keys()], weights: [...found.values()].map((value) => value / total) };
}

const tableOf = (n: number, axis: ResizedAxis, attrs: ResizeAttrs): TapTable => Array.from({ length: axis.size }, (_, i) => tapsOf(i, n, axis, attrs));

function resizedShape(x: Shape, { axes, mode, coordinates, cubicA, antialias, extrapolation }: ResizeAttrs): number[] {
  const shape = [...x];
  if (mode === 'nearest' && antialias) throw new ShapeError('resize: antialias is for linear and cubic, not for nearest');
  if (!Number.isFinite(cubicA)) throw new ShapeError(`resize: cubicA is ${cubicA}, a finite number is expected`);
  if (Number.isNaN(extrapolation)) throw new ShapeError('resize: the value for extrapolation is NaN');
  for (const [k, { axis, size, scale, roi }] of axes.entries()) {
    const at = `axis ${axis} of [${x}]`;
    if (!(axis in x)) throw new ShapeError(`resize: there is no ${at}`);
    if (axes.findIndex((each) => each.axis === axis) !== k) throw new ShapeError(`resize: ${at} is named twice`);
    if (!Number.isSafeInteger(size) || size < 0) throw new ShapeError(`resize: the size ${size} for ${at} is no whole number ≥ 0`);
    if (scale !== undefined && !(scale > 0 && scale < Number.POSITIVE_INFINITY)) throw new ShapeError(`resize: the scale ${scale} for ${at} is not above 0`);
    if (antialias && scale !== undefined && scale * x[axis] < 0.5) throw new ShapeError(`resize: the scale ${scale} leaves no place of ${at}`);
    if (coordinates === 'tf_crop_and_resize' && !roi?.every(Number.isFinite))
      throw new ShapeError(`resize: tf_crop_and_resize needs roi, begin and end, for ${at}`);
    if (x[axis] === 0 && size > 0) throw new ShapeError(`resize: ${at} has no element to make ${size} of`);
    shape[axis] = size;
  }
  return shape;
}

/** Runs `pass` from tensor to tensor along the axes; those that shrink first, so that less is left to do. */
function alongAxes(x: Tensor, y: Tensor, extents: readonly ResizedAxis[], pass: (axis: number) => TapTable, fill: number, label: string): void {
  const order = extents.filter(({ axis, size }) => size !== x.shape[axis] || pass(axis).some(({ sources: [s, more] }, i) => s !== i || more !== undefined));
  const sorted = [...order].sort((a, b) => a.size / x.shape[a.axis] - b.size / x.shape[b.axis]);
  if (sorted.length === 0) y.gpu.copy(x.slice, y.slice, y.size * 4);
  sorted.reduce((from, { axis, size }, k) => {
    const shape = from.shape.with(axis, size);
    const to = k === sorted.length - 1 ? y : empty(shape, 'f32', label, y.gpu);
    resample(y.gpu, pass(axis), from.slice, to.slice, [sizeOf(shape.slice(0, axis)), from.shape[axis], sizeOf(shape.slice(axis + 1))], fill, label);
    if (from !== x) from.dispose();
    return to;
  }, x);
}

const plain: ResizeAttrs = {
  ...{ axes: [], mode: 'linear', coordinates: 'half_pixel', rounding: 'round_prefer_floor', cubicA: -0.75, excludeOutside: false, antialias: false },
  extrapolation: 0,
};

export const resizeOp: Op<ResizeAttrs> = {
  name: 'resize',
  doc: {
    equation: 'y[…, i, …] = Σ over k of w(k − place(i)) x[…, k, …], one axis after the other; beyond an end stands the last element',
    gradient: 'dx[…, k, …] = Σ over i of w(k − place(i)) dy[…, i, …]',
    tensors: {
      x: 'any shape; pictures [N, C, H, W] (layout nchw) or [N, H, W, C] (nhwc)',
      y: 'as x, but for the axes that are resized: the sizes given, or ⌊extent · scale⌋ in float32',
    },
    example: "ops.resize(tensor([1, 2, 3, 4], [1, 1, 2, 2]), { sizes: [2, 4], mode: 'linear' })",
    refused: [
      'ops.resize(zeros([1, 1, 2, 2]), { sizes: [4], mode: "linear" })',
      'ops.resize(zeros([1, 1, 2, 2]), { scales: [0, 2], mode: "nearest" })',
      'ops.resize(zeros([1, 1, 2, 2]), { sizes: [4, 4], mode: "linear", coordinates: "tf_crop_and_resize" })',
      'ops.resize(zeros([1, 1, 2, 2]), { sizes: [4, 4], mode: "nearest", antialias: true })',
    ],
  },
  inputs: ['x'],
  outputs: ['y'],
  shape: ([x], attrs) => [resizedShape(x, attrs)],
  forward: ({ inputs: [x], outputs: [y], attrs, label }) => {
    const tables = new Map(attrs.axes.map((each) => [each.axis, tableOf(x.shape[each.axis], each, attrs)]));
    alongAxes(x, y, attrs.axes, (axis) => tables.get(axis) as TapTable, attrs.extrapolation, label);
  },
  backward: ({ gpu, grads: [dy], inputShapes: [x], attrs, label }) => [
    () => {
      const dx = empty(x, 'f32', label, gpu);
      const tables = new Map(attrs.axes.map((each) => [each.axis, transposed(tableOf(x[each.axis], each, attrs), x[each.axis])]));
      const back = attrs.axes.map(({ axis }) => ({ axis, size: x[axis] }));
      alongAxes(dy, dx, back, (axis) => tables.get(axis) as TapTable, 0, label);
      return dx;
    },
  ],
  reference: ([x], attrs) => {
    const shape = resizedShape(x.shape, attrs);
    const [own, strides] = [stridesOf(shape), stridesOf(x.shape)];
    const tables = shape.map((extent, axis): TapTable => {
      const resized = attrs.axes.find((each) => each.axis === axis);
      return resized ? tableOf(x.shape[axis], resized, attrs) : Array.from({ length: extent }, (_, i) => ({ sources: [i], weights: [1] }));
    });
    return [
      reference(shape, (index) => {
        const taps = tables.map((table, axis) => table[Math.floor(index / own[axis]) % shape[axis]]);
        if (taps.some(({ sources }) => sources.length === 0)) return attrs.extrapolation;
        const sum = (axis: number, at: number): number =>
          axis === taps.length
            ? x.data[at]
            : taps[axis].sources.reduce((total, source, t) => total + taps[axis].weights[t] * sum(axis + 1, at + source * strides[axis]), 0);
        return sum(0, 0);
      }),
    ];
  },
  cost: (shapes, outputs, { mode }) => streamingCost(shapes, outputs, mode === 'nearest' ? 0 : mode === 'linear' ? 8 : 16),
  cases: [
    {
      name: 'linear, larger and smaller',
      shapes: [[2, 3, 5, 13]],
      attrs: {
        ...plain,
        axes: [
          { axis: 2, size: 11 },
          { axis: 3, size: 7 },
        ],
      },
    },
    {
      name: 'nearest, NHWC, scales apart from sizes',
      shapes: [[1, 7, 5, 3]],
      attrs: {
        ...plain,
        ...{ mode: 'nearest', coordinates: 'asymmetric', rounding: 'floor' },
        axes: [
          { axis: 1, size: 16, scale: 2.3 },
          { axis: 2, size: 3, scale: 0.7 },
        ],
      },
    },
    {
      name: 'cubic without what lies outside',
      shapes: [[1, 2, 5, 7]],
      attrs: {
        ...plain,
        ...{ mode: 'cubic', coordinates: 'align_corners', excludeOutside: true, cubicA: -0.5 },
        axes: [
          { axis: 2, size: 9 },
          { axis: 3, size: 11 },
        ],
      },
    },
    {
      name: 'cubic, antialias, three axes',
      shapes: [[3, 17, 11, 5]],
      attrs: {
        ...plain,
        ...{ mode: 'cubic', antialias: true },
        axes: [
          { axis: 0, size: 2 },
          { axis: 1, size: 5 },
          { axis: 2, size: 13 },
        ],
      },
    },
    {
      name: 'a crop that reaches outside',
      shapes: [[1, 3, 7, 9]],
      attrs: {
        ...plain,
        ...{ coordinates: 'tf_crop_and_resize', extrapolation: 2.5 },
        axes: [
          { axis: 2, size: 5, roi: [-0.2, 0.9] },
          { axis: 3, size: 11, roi: [0.8, 0.3] },
        ],
      },
    },
    {
      name: 'nearest to the middle of many, and to one',
      shapes: [[2, 101, 3]],
      attrs: {
        ...plain,
        ...{ mode: 'nearest', coordinates: 'pytorch_half_pixel', rounding: 'round_prefer_ceil' },
        axes: [
          { axis: 1, size: 1 },
          { axis: 2, size: 40 },
        ],
      },
    },
  ],
};

/** Options of `resize`. Give `sizes` or `scales`, one per axis. */
export interface ResizeOptions {
  /** New extents. */
  sizes?: readonly number[];
  /** New extent by old one, as float32: the size is ⌊extent · scale⌋. With `sizes` too, sizes are those, and scales lay the grid. */
  scales?: readonly number[];
  mode: ResizeMode;
  /** Axes that are resized (default: height and width of `layout`). */
  axes?: readonly number[];
  /** Order of the axes of pictures (default `nchw`). */
  layout?: 'nchw' | 'nhwc';
  /** Where new places lie on the old axis (default `half_pixel`). */
  coordinates?: ResizeCoordinates;
  /** Which neighbor `nearest` takes (default `round_prefer_floor`). */
  rounding?: ResizeRounding;
  /** The shape of the cubic kernel (default −0.75). */
  cubicA?: number;
  /** Weights outside x count nothing, instead of counting for the last element; the others are scaled to a sum of 1. */
  excludeOutside?: boolean;
  /** Smaller pictures take means over all that a new pixel stands for (linear and cubic). */
  antialias?: boolean;
  /** Begins of all axes, then ends, as shares of the axes, for `tf_crop_and_resize`. */
  roi?: readonly number[];
  /** The value outside x for `tf_crop_and_resize` (default 0). */
  extrapolation?: number;
}

/** x on another grid, as ONNX Resize. Throws a ShapeError where options do not fit. */
export function resize(x: Tensor, o: ResizeOptions): Tensor {
  const axes = (o.axes ?? (o.layout === 'nhwc' ? [1, 2] : [2, 3])).map((axis) => normalizeAxis(axis, x.shape, 'resize'));
  for (const [name, list, count] of [
    ['sizes', o.sizes, axes.length],
    ['scales', o.scales, axes.length],
    ['roi', o.roi, 2 * axes.length],
  ] as const)
    if (list && list.length !== count) throw new ShapeError(`resize: ${name} [${list}] for the axes [${axes}], ${count} numbers are expected`);
  if (!o.sizes && !o.scales) throw new ShapeError('resize: neither sizes nor scales are given');
  const attrs: ResizeAttrs = {
    axes: axes.map((axis, k) => {
      const scale = o.scales && Math.fround(o.scales[k]);
      if (scale !== undefined && !(scale > 0)) throw new ShapeError(`resize: the scale ${scale} for axis ${axis} of [${x.shape}] is not above 0`);
      const size = o.sizes?.[k] ?? Math.floor(Math.fround(x.shape[axis] * (scale as number)));
      return { axis, size, ...(scale === undefined ? {} : { scale }), ...(o.roi ? { roi: [o.roi[k], o.roi[axes.length + k]] as const } : {}) };
    }),
    ...{ mode: o.mode, coordinates: o.coordinates ?? plain.coordinates, rounding: o.rounding ?? plain.rounding, cubicA: o.cubicA ?? plain.cubicA },
    ...{ excludeOutside: o.excludeOutside ?? false, antialias: o.antialias ?? false, extrapolation: o.extrapolation ?? 0 },
  };
  return apply(resizeOp, [x], attrs)[0];
}
