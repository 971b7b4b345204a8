/**
 * Convolution of volumes [N, C, D, H, W]. The taps along the depth become channels: slices are gathered, and one convolution of
 * pictures does the rest with the fast kernels that it has. Gradients go the same way back.
 */
import { ShapeError } from '../../errors.ts';
import type { ConvGeometry } from '../../kernels/conv.ts';
import { resample, type TapTable, transposed } from '../../kernels/resample.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { expectRank, type Op, type Reference, reference, streamingCost } from '../op.ts';
import { apply, noGrad } from '../tape.ts';
import { convolved, pictureGradient, weightGradient } from './conv.ts';
import { reduceOf } from './reduce.ts';
import { transpose } from './shape.ts';
import { perAxis } from './windows.ts';

/** Along depth, height and width. */
export type Triple = readonly [number, number, number];

export interface VolumeGeometry {
  images: number;
  channels: number;
  outChannels: number;
  groups: number;
  size: Triple;
  out: Triple;
  kernel: Triple;
  stride: Triple;
  /** Before each axis. */
  pad: Triple;
  dilation: Triple;
}

/** The convolution of pictures that does the work: the taps along the depth are channels. */
function flat(g: VolumeGeometry): ConvGeometry {
  const [, height, width] = g.size;
  const [depth, outHeight, outWidth] = g.out;
  const pair = ([, y, x]: Triple) => [y, x] as const;
  return {
    ...{ images: g.images * depth, height, width, channels: g.kernel[0] * g.channels, outHeight, outWidth, outChannels: g.outChannels },
    ...{ kernel: pair(g.kernel), stride: pair(g.stride), pad: pair(g.pad), dilation: pair(g.dilation), groups: g.groups },
  };
}

/** Which slice each tap of each slice of the result takes; none in the padding. */
const slices = ({ size, out, kernel, stride, pad, dilation }: VolumeGeometry): TapTable =>
  Array.from({ length: out[0] * kernel[0] }, (_, i) => {
    const slice = Math.floor(i / kernel[0]) * stride[0] + (i % kernel[0]) * dilation[0] - pad[0];
    return slice >= 0 && slice < size[0] ? { sources: [slice], weights: [1] } : { sources: [], weights: [] };
  });

const CHANNELS_LAST = [0, 2, 3, 4, 1];
const CHANNELS_FIRST = [0, 4, 1, 2, 3];

/** x [N, C, D, H, W] as pictures [N OD, H, W, G KD C/G] whose channels are those of all slices that a tap takes. */
function gathered(g: VolumeGeometry, x: Tensor, label: string): Tensor {
  const [depth, height, width] = g.size;
  const [rows, kernel, group] = [g.out[0] * g.kernel[0], g.kernel[0], g.channels / g.groups];
  const last = transpose(x, CHANNELS_LAST);
  const all = empty([g.images * g.out[0], kernel, height * width, g.groups, group], 'f32', label, x.gpu);
  resample(x.gpu, slices(g), last.slice, all.slice, [g.images, depth, sizeOf(last.shape.slice(2))], 0, label);
  return transpose(all, [0, 2, 3, 1, 4]).alias([(g.images * rows) / kernel, height, width, kernel * g.channels]);
}

const flatWeights = (g: VolumeGeometry, w: Tensor): Tensor =>
  transpose(w, [3, 4, 2, 1, 0]).alias([...flat(g).kernel, (g.kernel[0] * g.channels) / g.groups, g.outChannels]);

/** [N, O, OD, OH, OW] as pictures [N OD, OH, OW, O]. */
const flatResult = (g: VolumeGeometry, y: Tensor): Tensor => transpose(y, CHANNELS_LAST).alias([g.images * g.out[0], g.out[1], g.out[2], g.outChannels]);

/** y [N, O, OD, OH, OW]. */
export function convolvedVolume(g: VolumeGeometry, x: Tensor, w: Tensor, bias: Tensor | null, label: string): Tensor {
  const y = convolved(flat(g), gathered(g, x, label), flatWeights(g, w), bias, 'nhwc', label);
  return transpose(y.alias([g.images, ...g.out, g.outChannels]), CHANNELS_FIRST);
}

/** dx [N, C, D, H, W], which is also the transposed convolution of dy. */
export function volumeGradient(g: VolumeGeometry, dy: Tensor, w: Tensor, label: string): Tensor {
  const [depth, height, width] = g.size;
  const [kernel, group] = [g.kernel[0], g.channels / g.groups];
  const all = pictureGradient(flat(g), flatResult(g, dy), flatWeights(g, w), 'nhwc', label);
  const rows = transpose(all.alias([g.images * g.out[0], height * width, g.groups, kernel, group]), [0, 3, 1, 2, 4]);
  const dx = empty([g.images, depth, height, width, g.channels], 'f32', label, dy.gpu);
  resample(dy.gpu, transposed(slices(g), depth), rows.slice, dx.slice, [g.images, g.out[0] * kernel, height * width * g.channels], 0, label);
  return transpose(dx, CHANNELS_FIRST);
}

/** dw [O, C/G, KD, KH, KW]. */
export function volumeWeightGradient(g: VolumeGeometry, x: Tensor, dy: Tensor, label: string): Tensor {
  const dw = weightGradient(flat(g), gathered(g, x, label), flatResult(g, dy), 'nhwc', label);
  return transpose(dw.alias([g.kernel[1], g.kernel[2], g.kernel[0], g.channels / g.groups, g.outChannels]), [4, 3, 2, 0, 1]);
}

export interface VolumeConvAttrs {
  stride: readonly number[];
  /** Front, top, left, back, bottom, right. */
  pad: readonly number[];
  dilation: readonly number[];
  groups: number;
}

const triple = (op: string, what: string, value: readonly number[]) => perAxis(op, what, value, 3, 1) as unknown as Triple;

function volumeGeometry([x, w, bias]: readonly Shape[], a: VolumeConvAttrs): VolumeGeometry {
  expectRank('conv3d', 'x', x, 5);
  expectRank('conv3d', 'w', w, 5);
  const [images, channels, ...size] = x;
  const [outChannels, group, ...kernel] = w;
  perAxis('conv3d', 'groups', a.groups, 1, 1);
  if (channels !== group * a.groups)
    throw new ShapeError(`conv3d: x [${x}] has ${channels} channels, w [${w}] with ${a.groups} groups expects ${group * a.groups}`);
  if (outChannels % a.groups !== 0) throw new ShapeError(`conv3d: w [${w}] gives ${outChannels} channels, which ${a.groups} groups do not divide`);
  if (bias && (bias.length !== 1 || bias[0] !== outChannels)) throw new ShapeError(`conv3d: bias [${bias}] does not fit ${outChannels} channels`);
  const [stride, dilation] = [triple('conv3d', 'stride', a.stride), triple('conv3d', 'dilation', a.dilation)];
  const pad = perAxis('conv3d', 'pad', a.pad, 6, 0);
  const out = size.map((extent, axis) => Math.floor((extent + pad[axis] + pad[axis + 3] - (kernel[axis] - 1) * dilation[axis] - 1) / stride[axis]) + 1);
  if (out.some((extent) => extent < 1) || kernel.some((extent) => extent < 1))
    throw new ShapeError(`conv3d: w [${w}] does not fit in x [${x}] with padding [${pad}]`);
  return {
    ...{ images, channels, outChannels, groups: a.groups, stride, dilation, pad: pad.slice(0, 3) as unknown as Triple },
    ...{ size: size as unknown as Triple, out: out as unknown as Triple, kernel: triple('conv3d', 'kernel', kernel) },
  };
}

function volumeReference([x, w, bias]: readonly Reference[], attrs: VolumeConvAttrs): Reference[] {
  const g = volumeGeometry([x.shape, w.shape], attrs);
  const [[d, h, v], [od, oh, ow], [kd, kh, kw]] = [g.size, g.out, g.kernel];
  const group = g.channels / g.groups;
  return [
    reference([g.images, g.outChannels, od, oh, ow], (index) => {
      const [oz, oy, ox] = [Math.floor(index / ow / oh) % od, Math.floor(index / ow) % oh, index % ow];
      const [n, o] = [Math.floor(index / ow / oh / od / g.outChannels), Math.floor(index / ow / oh / od) % g.outChannels];
      const first = Math.floor(o / (g.outChannels / g.groups)) * group;
      let sum = bias ? bias.data[o] : 0;
      for (let kz = 0; kz < kd; kz++) {
        const iz = oz * g.stride[0] + kz * g.dilation[0] - g.pad[0];
        if (iz < 0 || iz >= d) continue;
        for (let ky = 0; ky < kh; ky++) {
          const iy = oy * g.stride[1] + ky * g.dilation[1] - g.pad[1];
          if (iy < 0 || iy >= h) continue;
          for (let kx = 0; kx < kw; kx++) {
            const ix = ox * g.stride[2] + kx * g.dilation[2] - g.pad[2];
            if (ix < 0 || ix >= v) continue;
            for (let c = 0; c < group; c++)
              sum += x.data[(((n * g.channels + first + c) * d + iz) * h + iy) * v + ix] * w.data[(((o * group + c) * kd + kz) * kh + ky) * kw + kx];
          }
        }
      }
      return sum;
    }),
  ];
}

export const conv3dOp: Op<VolumeConvAttrs> = {
  name: 'conv3d',
  doc: {
    equation: 'y[n, o, i] = bias[o] + Σ over c and taps u of x[n, c, i stride + u dilation − pad] w[o, c, u], along depth, height and width',
    gradient:
      'dx = the transposed convolution of dy with w; dw[o, c, u] = Σ over n, i of dy[n, o, i] times the x that w[o, c, u] met; dbias = Σ dy per channel',
    tensors: {
      x: '[N, C, D, H, W]',
      w: '[O, C / groups, KD, KH, KW]',
      bias: '[O], or null',
      y: '[N, O, OD, OH, OW]; each extent as of conv2d',
    },
    example: 'ops.conv3d(tensor([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 2, 2, 2]), tensor([1, -1], [1, 1, 2, 1, 1]), null)',
    refused: ['ops.conv3d(zeros([1, 3, 4, 4, 4]), zeros([4, 2, 3, 3, 3]), null)', 'ops.conv3d(zeros([1, 3, 2, 2, 2]), zeros([4, 3, 3, 3, 3]), null)'],
  },
  inputs: ['x', 'w', 'bias'],
  outputs: ['y'],
  shape: (shapes, attrs) => {
    const g = volumeGeometry(shapes, attrs);
    return [[g.images, g.outChannels, ...g.out]];
  },
  forward: ({ gpu, inputs: [x, w, bias], outputs: [y], attrs, label }) => {
    noGrad(() => {
      const made = convolvedVolume(volumeGeometry([x.shape, w.shape], attrs), x, w, bias ?? null, label);
      gpu.copy(made.slice, y.slice, y.size * 4);
    });
  },
  saves: ['x', 'w'],
  backward: ({ saved: { x, w }, grads: [dy], attrs, label }) => {
    const g = volumeGeometry([x.shape, w.shape], attrs);
    return [
      () => volumeGradient(g, dy, w, label),
      () => volumeWeightGradient(g, x, dy, label),
      () => reduceOf('sum', flatResult(g, dy).alias([sizeOf(dy.shape) / g.outChannels, g.outChannels]), 0),
    ];
  },
  reference: volumeReference,
  cost: (shapes, outputs) => ({
    flops: 2 * sizeOf(outputs[0]) * sizeOf(shapes[1].slice(1)),
    bytes: streamingCost(shapes, outputs).bytes,
  }),
  cases: [
    {
      name: '3×3×3, uneven padding',
      shapes: [[2, 3, 3, 5, 4], [5, 3, 3, 3, 3], [5]],
      attrs: { stride: [1, 1, 1], pad: [1, 1, 0, 0, 1, 1], dilation: [1, 1, 1], groups: 1 },
    },
    {
      name: 'groups 2, strides and dilations',
      shapes: [
        [1, 4, 7, 6, 9],
        [6, 2, 2, 3, 2],
      ],
      attrs: { stride: [2, 1, 3], pad: [2, 0, 1, 1, 1, 0], dilation: [3, 2, 1], groups: 2 },
    },
  ],
  runs: ['conv2d', 'conv2d_grad_input', 'conv2d_grad_weight'],
  tolerance: { rtol: 1e-5, atol: 2e-5, why: 'sums of up to 81 products that cancel' },
};

/** Options of `conv3d`. A single number stands for all axes. */
export interface VolumeConvOptions {
  /** Along depth, height and width (default 1). */
  stride?: number | Triple;
  /** Zeros: front, top, left, back, bottom, right (default 0). */
  pad?: number | readonly number[];
  /** From one tap of the kernel to the next (default 1). */
  dilation?: number | Triple;
  /** Groups of channels that do not see each other (default 1). */
  groups?: number;
}

/** x [N, C, D, H, W], w [O, C/groups, KD, KH, KW], bias [O]. */
export function conv3d(x: Tensor, w: Tensor, bias: Tensor | null, o: VolumeConvOptions = {}): Tensor {
  const attrs = {
    ...{ stride: perAxis('conv3d', 'stride', o.stride ?? 1, 3, 1), dilation: perAxis('conv3d', 'dilation', o.dilation ?? 1, 3, 1) },
    ...{ pad: perAxis('conv3d', 'pad', o.pad ?? 0, 6, 0), groups: o.groups ?? 1 },
  };
  return apply(conv3dOp, bias ? [x, w, bias] : [x, w], attrs)[0];
}
