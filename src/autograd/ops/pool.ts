/** Pooling over windows of sequences, pictures and volumes: the largest element, the mean or a norm; and unpooling. */
import { ShapeError } from '../../errors.ts';
import { type PoolGeometry, type PoolKind, poolGrad, pool as poolKernel, poolLargest, unpoolGrad, unpool as unpoolKernel } from '../../kernels/pool.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { reduceOf } from './reduce.ts';
import { reshape } from './shape.ts';
import { asPictures, asSequences, type Layout, perAxis } from './windows.ts';

/** Windows over two or three axes: as many as `kernel` has numbers. */
export interface PoolAttrs {
  kernel: readonly number[];
  stride: readonly number[];
  /** Before each axis, then behind each axis: top, left, bottom, right. */
  pad: readonly number[];
  /** Elements between cells of a window (default 1). */
  dilation?: readonly number[];
  layout: Layout;
  /** Average over the padding too (ONNX count_include_pad), but never over what a window covers beyond it, as PyTorch. */
  countPadding: boolean;
  /** Round the output size up (ONNX ceil_mode). */
  ceil: boolean;
  /** The power of a norm. */
  power?: number;
}

function poolGeometry(name: string, x: Shape, a: PoolAttrs): PoolGeometry {
  const axes = a.kernel.length;
  if (x.length !== axes + 2) throw new ShapeError(`${name}: x [${x}] has ${x.length} axes, ${axes + 2} are expected`);
  const kernel = perAxis(name, 'kernel', a.kernel, axes, 1);
  const stride = perAxis(name, 'stride', a.stride, axes, 1);
  const dilation = perAxis(name, 'dilation', a.dilation ?? 1, axes, 1);
  const pad = perAxis(name, 'pad', a.pad, 2 * axes, 0);
  const size = a.layout === 'nchw' ? x.slice(2) : x.slice(1, -1);
  const out = size.map((extent, axis) => {
    const room = (extent + pad[axis] + pad[axis + axes] - (kernel[axis] - 1) * dilation[axis] - 1) / stride[axis];
    const count = (a.ceil ? Math.ceil(room) : Math.floor(room)) + 1;
    return a.ceil && (count - 1) * stride[axis] >= extent + pad[axis] ? count - 1 : count; // a window must start inside
  });
  if (out.some((extent) => extent < 1)) throw new ShapeError(`${name}: windows of ${kernel.join('×')} do not fit in [${x}]`);
  const triple = (values: readonly number[], flat: number) =>
    (axes === 2 ? [flat, values[0], values[1]] : values) as unknown as readonly [number, number, number];
  return {
    ...{ images: x[0], channels: a.layout === 'nchw' ? x[1] : x[axes + 1], size: triple(size, 1), out: triple(out, 1) },
    ...{ kernel: triple(kernel, 1), stride: triple(stride, 1), dilation: triple(dilation, 1), pad: triple(pad.slice(0, axes), 0) },
    ...{ padEnd: triple(pad.slice(axes), 0), channelsLast: a.layout === 'nhwc', countPadding: a.countPadding },
  };
}

function poolShape(g: PoolGeometry, axes: number): number[] {
  const out = g.out.slice(3 - axes);
  return g.channelsLast ? [g.images, ...out, g.channels] : [g.images, g.channels, ...out];
}

/** The cells of a window: where each lies in x as it is stored, and in x with the channels first. */
function cellsOf(g: PoolGeometry, index: number): { at: number; first: number }[] {
  const [d, h, w] = g.size;
  const [od, oh, ow] = g.out;
  const spot = g.channelsLast ? Math.floor(index / g.channels) : index;
  const [oz, oy, ox] = [Math.floor(spot / ow / oh) % od, Math.floor(spot / ow) % oh, spot % ow];
  const [n, c] = g.channelsLast
    ? [Math.floor(index / g.channels / ow / oh / od), index % g.channels]
    : [Math.floor(index / ow / oh / od / g.channels), Math.floor(index / ow / oh / od) % g.channels];
  const along = (axis: 0 | 1 | 2, at: number) =>
    Array.from({ length: g.kernel[axis] }, (_, k) => at * g.stride[axis] + k * g.dilation[axis] - g.pad[axis]).filter((i) => i >= 0 && i < g.size[axis]);
  return along(0, oz).flatMap((z) =>
    along(1, oy).flatMap((y) =>
      along(2, ox).map((x) => {
        const first = (((n * g.channels + c) * d + z) * h + y) * w + x;
        return { at: g.channelsLast ? (((n * d + z) * h + y) * w + x) * g.channels + c : first, first };
      }),
    ),
  );
}

/** The divisor of a mean over a window: its cells within the picture or, with `countPadding`, within the padding. */
function divisor(g: PoolGeometry, index: number): number {
  const spot = g.channelsLast ? Math.floor(index / g.channels) : index;
  const places = [Math.floor(spot / g.out[2] / g.out[1]) % g.out[0], Math.floor(spot / g.out[2]) % g.out[1], spot % g.out[2]];
  return places.reduce((product, at, axis) => {
    const [before, end] = g.countPadding ? [-g.pad[axis], g.size[axis] + g.padEnd[axis]] : [0, g.size[axis]];
    let cells = 0;
    for (let k = 0; k < g.kernel[axis]; k++) {
      const i = at * g.stride[axis] + k * g.dilation[axis] - g.pad[axis];
      if (i >= before && i < end) cells++;
    }
    return product * cells;
  }, 1);
}

const DRAWN = ['distinct'];
const PICTURE: PoolAttrs = { kernel: [3, 3], stride: [2, 2], pad: [1, 1, 1, 1], layout: 'nchw', countPadding: false, ceil: false };
const VOLUME: PoolAttrs = { kernel: [2, 3, 2], stride: [1, 2, 2], pad: [1, 1, 0, 0, 1, 1], layout: 'nchw', countPadding: false, ceil: false };

const PICTURE_CASES: Op<PoolAttrs>['cases'] = [
  { name: '3×3 stride 2', shapes: [[2, 3, 11, 7]], attrs: PICTURE, draw: DRAWN },
  { name: '3×3 stride 2, NHWC', shapes: [[1, 7, 9, 5]], attrs: { ...PICTURE, layout: 'nhwc' }, draw: DRAWN },
  { name: '2×2', shapes: [[1, 4, 6, 8]], attrs: { ...PICTURE, kernel: [2, 2], pad: [0, 0, 0, 0], countPadding: true }, draw: DRAWN },
  {
    name: '3×2 stride 1, counting the padding',
    shapes: [[1, 2, 5, 5]],
    attrs: { ...PICTURE, kernel: [3, 2], stride: [1, 1], pad: [1, 0, 1, 1], countPadding: true },
    draw: DRAWN,
  },
  { name: 'rounded up', shapes: [[1, 2, 6, 8]], attrs: { ...PICTURE, pad: [0, 0, 0, 0], ceil: true }, draw: DRAWN },
  {
    name: 'rounded up beyond a padding that counts, dilation 2 down',
    shapes: [[1, 2, 8, 11]],
    attrs: { ...PICTURE, stride: [3, 2], dilation: [2, 1], pad: [1, 0, 2, 1], ceil: true, countPadding: true },
    draw: DRAWN,
  },
  {
    name: 'dilation 3 across, NHWC',
    shapes: [[1, 5, 13, 3]],
    attrs: { ...PICTURE, stride: [1, 2], dilation: [1, 3], pad: [0, 2, 1, 3], layout: 'nhwc' },
    draw: DRAWN,
  },
];

const VOLUME_CASES: Op<PoolAttrs>['cases'] = [
  { name: '2×3×2', shapes: [[2, 3, 5, 7, 3]], attrs: VOLUME, draw: DRAWN },
  {
    name: 'dilation, rounded up, counting the padding, channels last',
    shapes: [[1, 7, 6, 5, 3]],
    attrs: { ...VOLUME, dilation: [2, 1, 2], stride: [2, 2, 3], ceil: true, countPadding: true, layout: 'nhwc' },
    draw: DRAWN,
  },
];

const SAYS: Record<PoolKind['kind'], { equation: string; gradient: string }> = {
  largest: { equation: 'y = the largest x of each window', gradient: 'dx = Σ dy of the windows whose largest element it is' },
  mean: {
    equation: 'y = the mean of each window, over the padding too if countPadding, never over what lies beyond the padding',
    gradient: 'dx = Σ dy / count of the windows that hold it',
  },
  norm: { equation: 'y = (Σ |x|^power)^(1 / power) of each window', gradient: 'dx = Σ dy sign(x) (|x| / y)^(power − 1) of the windows that hold it' },
};

/** The shapes of pictures or volumes, in words. */
const shapesOf = (axes: number) => (axes === 2 ? ['[N, C, H, W]', '[N, H, W, C]', '[N, C, OH, OW]', '[N, OH, OW, C]'] : VOLUMES);
const VOLUMES = ['[N, C, D, H, W]', '[N, D, H, W, C]', '[N, C, OD, OH, OW]', '[N, OD, OH, OW, C]'];

function poolOp(name: string, kind: PoolKind['kind'], axes: 2 | 3): Op<PoolAttrs> {
  const kindOf = ({ power = 2 }: PoolAttrs): PoolKind => (kind === 'norm' ? { kind, power } : { kind });
  const [first, last, outFirst, outLast] = shapesOf(axes);
  const flat = axes === 2 ? '1, 1, 2' : '1, 1, 1, 2';
  const geometry = (x: Shape, a: PoolAttrs) => {
    if (kind === 'norm') perAxis(name, 'power', a.power ?? 2, 1, 1);
    return poolGeometry(name, x, a);
  };
  return {
    name,
    doc: {
      ...SAYS[kind],
      tensors: { x: `${first} (layout nchw), or ${last} (nhwc)`, y: `${outFirst}, or ${outLast}; the stride is the window unless given` },
      example: `ops.pool('${name}', tensor([1, 2, 3, 4, 5, 6, 7, 8], [${flat}, 4]), { kernel: ${axes === 2 ? '2' : '[1, 2, 2]'} })`,
      refused: [`ops.pool('${name}', zeros([${flat}, 2]), { kernel: 3 })`, `ops.pool('${name}', zeros([2, 2]), { kernel: 2 })`],
    },
    inputs: ['x'],
    outputs: ['y'],
    shape: ([x], a) => [poolShape(geometry(x, a), axes)],
    forward: ({ gpu, inputs: [x], outputs: [y], attrs: a, label }) => poolKernel(gpu, geometry(x.shape, a), kindOf(a), x.slice, y.slice, label),
    saves: kind === 'largest' ? ['x'] : kind === 'norm' ? ['x', 'y'] : [],
    routes: kind === 'largest',
    backward: ({ gpu, saved: { x, y }, grads: [dy], inputShapes: [shape], attrs: a, label }) => [
      () => {
        const g = geometry(shape, a);
        const dx = empty(shape, 'f32', label);
        const index = kind === 'largest' ? empty(dy.shape, 'u32', label) : null;
        if (index) poolLargest(gpu, g, x.slice, index.slice, label);
        poolGrad(gpu, g, kindOf(a), { dy: dy.slice, index: index?.slice, ...(kind === 'norm' ? { x: x.slice, y: y.slice } : {}) }, dx.slice, label);
        index?.dispose();
        return dx;
      },
    ],
    reference: ([x], a) => {
      const g = geometry(x.shape, a);
      const { power = 2 } = a;
      return [
        reference(poolShape(g, axes), (i) => {
          const cells = cellsOf(g, i).map(({ at }) => x.data[at]);
          if (kind === 'largest') return Math.max(...cells);
          if (kind === 'norm') return cells.reduce((sum, value) => sum + Math.abs(value) ** power, 0) ** (1 / power);
          return cells.reduce((sum, value) => sum + value, 0) / Math.max(1, divisor(g, i));
        }),
      ];
    },
    cost: (shapes, outputs, a) => streamingCost(shapes, outputs, sizeOf(a.kernel)),
    cases:
      kind === 'norm'
        ? [1, 2, 3].map((power) => ({
            ...PICTURE_CASES[[0, 5, 6][power - 1]],
            name: `power ${power}`,
            attrs: { ...PICTURE_CASES[[0, 5, 6][power - 1]].attrs, power },
          }))
        : axes === 2
          ? PICTURE_CASES
          : VOLUME_CASES,
    ...(kind === 'norm' ? { tolerance: { rtol: 2e-5, atol: 1e-6, why: 'powers and roots of software drivers' } } : {}),
  };
}

export const poolOps = {
  maxPool2d: poolOp('maxPool2d', 'largest', 2),
  avgPool2d: poolOp('avgPool2d', 'mean', 2),
  lpPool2d: poolOp('lpPool2d', 'norm', 2),
  maxPool3d: poolOp('maxPool3d', 'largest', 3),
  avgPool3d: poolOp('avgPool3d', 'mean', 3),
};

export const maxPoolWithIndicesOp: Op<PoolAttrs> = {
  name: 'maxPoolWithIndices',
  doc: {
    equation: 'y = the largest x of each window; indices = where it stands in x, the first of several, as [N, C, …] in row-major order',
    gradient: 'dx = Σ dy of the windows whose largest element it is',
    tensors: {
      x: '[N, C, H, W], [N, C, D, H, W] (layout nchw), or [N, H, W, C], [N, D, H, W, C] (nhwc)',
      y: 'as of maxPool2d and maxPool3d',
      indices: 'u32, as y: numbered with the channels first in either layout; 2³² − 1 for a window that lies outside x',
    },
    example: 'ops.maxPoolWithIndices(tensor([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 2, 4]), { kernel: 2 })',
    refused: ['ops.maxPoolWithIndices(zeros([1, 1, 2, 2]), { kernel: 3 })', 'ops.maxPoolWithIndices(zeros([2, 2]), { kernel: 2 })'],
  },
  inputs: ['x'],
  outputs: ['y', 'indices'],
  outputTypes: ['f32', 'u32'],
  shape: ([x], a) => {
    const shape = poolShape(poolGeometry('maxPoolWithIndices', x, a), a.kernel.length);
    return [shape, shape];
  },
  forward: ({ gpu, inputs: [x], outputs: [y, indices], attrs, label }) => {
    const g = poolGeometry('maxPoolWithIndices', x.shape, attrs);
    poolKernel(gpu, g, { kind: 'largest' }, x.slice, y.slice, label);
    poolLargest(gpu, g, x.slice, indices.slice, label);
  },
  saves: ['indices'],
  routes: true,
  backward: ({ gpu, saved: { indices }, grads: [dy], inputShapes: [x], attrs, label }) => [
    () => {
      const dx = empty(x, 'f32', label);
      const operands = { dy: dy.slice, index: indices.slice };
      poolGrad(gpu, poolGeometry('maxPoolWithIndices', x, attrs), { kind: 'largest' }, operands, dx.slice, label);
      return dx;
    },
  ],
  reference: ([x], attrs) => {
    const g = poolGeometry('maxPoolWithIndices', x.shape, attrs);
    const best = (i: number) =>
      cellsOf(g, i).reduce<{ value: number; first: number }>(
        (found, { at, first }) => {
          const value = x.data[at];
          const wins = found.first === 2 ** 32 - 1 || value > found.value || (Number.isNaN(value) && !Number.isNaN(found.value));
          return wins ? { value, first } : found;
        },
        { value: Number.NEGATIVE_INFINITY, first: 2 ** 32 - 1 },
      );
    const shape = poolShape(g, attrs.kernel.length);
    return [reference(shape, (i) => best(i).value), reference(shape, (i) => best(i).first)];
  },
  cost: (shapes, outputs, a) => streamingCost(shapes, outputs, sizeOf(a.kernel)),
  cases: [PICTURE_CASES[0], PICTURE_CASES[6], VOLUME_CASES[0]],
};

export const maxUnpoolOp: Op<{ shape: Shape }> = {
  name: 'maxUnpool',
  doc: {
    equation: 'y[indices[i]] = x[i] in row-major order, 0 elsewhere; of several values for one place the last one counts',
    gradient: 'dx[i] = dy[indices[i]], or 0 for a value that another one replaced',
    tensors: {
      x: 'any shape',
      indices: 'u32, as x: places in y, as maxPoolWithIndices gives them. One from the host that is too large is refused; from the device it makes y NaN',
      y: 'the shape given',
    },
    example: 'ops.maxUnpool(tensor([6, 8], [1, 1, 1, 2]), tensor(new Uint32Array([5, 7]), [1, 1, 1, 2]), [1, 1, 2, 4])',
    refused: ['ops.maxUnpool(zeros([1, 1, 1, 2]), zeros([1, 1, 2, 2], "u32"), [1, 1, 2, 4])', 'ops.maxUnpool(zeros([1]), tensor(new Uint32Array([4])), [4])'],
  },
  inputs: ['x', 'indices'],
  inputTypes: ['f32', 'u32'],
  ids: { indices: { below: (_shapes, { shape }) => sizeOf(shape) } },
  outputs: ['y'],
  shape: ([x, indices], { shape }) => {
    if (x.join() !== indices.join()) throw new ShapeError(`maxUnpool: x [${x}] and indices [${indices}] differ`);
    return [shape];
  },
  forward: ({ gpu, inputs: [x, indices], outputs: [y], label, save }) => {
    const owner = empty([y.size + 1], 'u32', label, gpu);
    unpoolKernel(gpu, x.slice, indices.slice, owner.slice, y.slice, x.size, y.size, label);
    save('owner', owner);
  },
  saves: ['indices'],
  backward: ({ gpu, saved: { indices, owner }, grads: [dy], inputShapes: [x], label }) => [
    () => {
      const dx = empty(x, 'f32', label);
      unpoolGrad(gpu, dy.slice, indices.slice, owner.slice, dx.slice, sizeOf(x), dy.size, label);
      return dx;
    },
    null,
  ],
  reference: ([x, indices], { shape }) => {
    const y = reference(shape);
    const isWrong = indices.data.some((index) => index >= y.data.length);
    indices.data.forEach((index, i) => {
      y.data[index] = x.data[i];
    });
    return [isWrong ? reference(shape, () => Number.NaN) : y];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 0),
  cases: [
    {
      name: 'places met several times, and never',
      shapes: [
        [2, 3, 5, 7],
        [2, 3, 5, 7],
      ],
      attrs: { shape: [2, 3, 7, 9] },
      draw: ['normal', 'ids:378'],
    },
  ],
};

/** Options of `pool` and `maxPoolWithIndices`. A single number stands for all axes. */
export interface PoolOptions {
  /** Extents of the window. */
  kernel: number | readonly number[];
  /** Steps of the window, in elements (default: the window). */
  stride?: number | readonly number[];
  /** Before each axis, then behind each axis: top, left, bottom, right (default 0). A maximum never takes the padding. */
  pad?: number | readonly number[];
  /** Elements from one cell of the window to the next (default 1). */
  dilation?: number | readonly number[];
  /** Order of the axes (default `nchw`: channels first). */
  layout?: Layout;
  /** Average over the padding too (ONNX count_include_pad), but never over what a window covers beyond it, as PyTorch. */
  countPadding?: boolean;
  /** Round the output size up (ONNX ceil_mode). */
  ceil?: boolean;
  /** The whole power of a norm (lpPool; default 2). */
  power?: number;
}

function poolAttrs(name: string, o: PoolOptions, axes: number): PoolAttrs {
  const kernel = perAxis(name, 'kernel', o.kernel, axes, 1);
  return {
    ...{ kernel, stride: perAxis(name, 'stride', o.stride ?? kernel, axes, 1), pad: perAxis(name, 'pad', o.pad ?? 0, 2 * axes, 0) },
    ...{ dilation: perAxis(name, 'dilation', o.dilation ?? 1, axes, 1), layout: o.layout ?? 'nchw' },
    ...{ countPadding: o.countPadding ?? false, ceil: o.ceil ?? false, ...(o.power === undefined ? {} : { power: o.power }) },
  };
}

/** Attributes for sequences, as those of pictures of height 1. */
function flatAttrs(name: string, o: PoolOptions): PoolAttrs {
  const a = poolAttrs(name, o, 1);
  const flat = (list: readonly number[]) => [1, ...list];
  return { ...a, kernel: flat(a.kernel), stride: flat(a.stride), dilation: flat(a.dilation ?? [1]), pad: [0, a.pad[0], 0, a.pad[1]] };
}

const FLAT = { maxPool1d: poolOps.maxPool2d, avgPool1d: poolOps.avgPool2d, lpPool1d: poolOps.lpPool2d };

/** Pooling over windows of x: sequences [N, C, L], pictures [N, C, H, W] or volumes [N, C, D, H, W], or with the channels last. */
export function pool(name: keyof typeof poolOps | keyof typeof FLAT, x: Tensor, o: PoolOptions): Tensor {
  if (o.power !== undefined && !name.startsWith('lp')) throw new ShapeError(`${name}: it takes no power; lpPool does`);
  const { layout = 'nchw' } = o;
  if (!(name in FLAT)) return apply(poolOps[name as keyof typeof poolOps], [x], poolAttrs(name, o, name.endsWith('3d') ? 3 : 2))[0];
  const y = apply(FLAT[name as keyof typeof FLAT], [reshape(x, asPictures(name, x.shape, layout))], flatAttrs(name, o))[0];
  return reshape(y, asSequences(y.shape, layout));
}

/** Max pooling of sequences, pictures or volumes, and where each maximum stands in x with the channels first (u32). */
export function maxPoolWithIndices(x: Tensor, o: PoolOptions): { y: Tensor; indices: Tensor } {
  const { layout = 'nchw' } = o;
  if (x.rank !== 3) {
    const [y, indices] = apply(maxPoolWithIndicesOp, [x], poolAttrs('maxPoolWithIndices', o, x.rank === 5 ? 3 : 2));
    return { y, indices };
  }
  const flat = reshape(x, asPictures('maxPoolWithIndices', x.shape, layout));
  const [y, indices] = apply(maxPoolWithIndicesOp, [flat], flatAttrs('maxPoolWithIndices', o));
  return { y: reshape(y, asSequences(y.shape, layout)), indices: reshape(indices, asSequences(indices.shape, layout)) };
}

/** Puts each value where `indices` (u32) say, into zeros of the shape given. Undoes max pooling, but for what was not the largest. */
export function maxUnpool(x: Tensor, indices: Tensor, shape: Shape): Tensor {
  return apply(maxUnpoolOp, [x, indices], { shape })[0];
}

/** [N, C, …] as [N, C, P], or [N, …, C] as [N, P, C]: all places in one row. */
function inOneRow(op: string, x: Tensor, layout: Layout): Tensor {
  if (x.rank < 3) throw new ShapeError(`${op}: x [${x.shape}] has ${x.rank} axes, at least 3 are expected`);
  const last = layout === 'nhwc';
  const places = sizeOf(last ? x.shape.slice(1, -1) : x.shape.slice(2));
  return reshape(x, last ? [x.shape[0], places, x.shape[x.rank - 1]] : [x.shape[0], x.shape[1], places]);
}

/** Mean over all places: [N, C, …] → [N, C], or [N, …, C] → [N, C]. */
export function globalAveragePool(x: Tensor, layout: Layout = 'nchw'): Tensor {
  return reduceOf('mean', inOneRow('globalAveragePool', x, layout), layout === 'nchw' ? 2 : 1);
}

function globalPool(name: 'maxPool1d' | 'lpPool1d', op: string, x: Tensor, layout: Layout, power?: number): Tensor {
  const row = inOneRow(op, x, layout);
  const y = pool(name, row, { kernel: row.shape[layout === 'nchw' ? 2 : 1], layout, ...(power === undefined ? {} : { power }) });
  return reshape(y, [x.shape[0], layout === 'nchw' ? y.shape[1] : y.shape[2]]);
}

/** The largest element over all places: [N, C, …] → [N, C], or [N, …, C] → [N, C]. */
export function globalMaxPool(x: Tensor, layout: Layout = 'nchw'): Tensor {
  return globalPool('maxPool1d', 'globalMaxPool', x, layout);
}

/** (Σ |x|^power)^(1 / power) over all places: [N, C, …] → [N, C], or [N, …, C] → [N, C]. */
export function globalLpPool(x: Tensor, power = 2, layout: Layout = 'nchw'): Tensor {
  return globalPool('lpPool1d', 'globalLpPool', x, layout, power);
}
