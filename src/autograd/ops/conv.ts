/** Convolution, in NCHW with OIHW weights (as ONNX) or NHWC with HWIO weights (as the kernels work). */
import { ShapeError } from '../../errors.ts';
import { type ConvGeometry, conv2dGradInput, conv2dGradWeight, conv2d as convKernel } from '../../kernels/conv.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { expectRank, type Op, type Reference, reference, streamingCost } from '../op.ts';
import { apply, noGrad } from '../tape.ts';
import { reduceOf } from './reduce.ts';
import { reshape, transpose } from './shape.ts';
import { asPictures, asSequences, type Layout, pair, perAxis, picture, pictureShape, sides } from './windows.ts';

export interface ConvAttrs {
  stride: readonly [number, number];
  /** Top, left, bottom, right. */
  pad: readonly [number, number, number, number];
  dilation: readonly [number, number];
  groups: number;
  layout: Layout;
  relu: boolean;
}

const TO_NHWC = [0, 2, 3, 1];
const TO_NCHW = [0, 3, 1, 2];
const OIHW_TO_HWIO = [2, 3, 1, 0];
const HWIO_TO_OIHW = [3, 2, 0, 1];

function convGeometry(shapes: readonly Shape[], a: ConvAttrs): ConvGeometry {
  const [x, w, bias, residual] = shapes;
  expectRank('conv2d', 'x', x, 4);
  expectRank('conv2d', 'w', w, 4);
  const [images, height, width, channels] = picture(x, a.layout);
  const [kh, kw, groupChannels, outChannels] = a.layout === 'nchw' ? [w[2], w[3], w[1], w[0]] : w;
  perAxis('conv2d', 'stride', a.stride, 2, 1);
  perAxis('conv2d', 'dilation', a.dilation, 2, 1);
  perAxis('conv2d', 'groups', a.groups, 1, 1);
  if (channels !== groupChannels * a.groups)
    throw new ShapeError(`conv2d: x [${x}] has ${channels} channels, w [${w}] with ${a.groups} groups expects ${groupChannels * a.groups}`);
  if (outChannels % a.groups !== 0) throw new ShapeError(`conv2d: w [${w}] gives ${outChannels} channels, which ${a.groups} groups do not divide`);
  if (bias && (bias.length !== 1 || bias[0] !== outChannels)) throw new ShapeError(`conv2d: bias [${bias}] does not fit ${outChannels} channels`);
  const span = [(kh - 1) * a.dilation[0] + 1, (kw - 1) * a.dilation[1] + 1];
  const outHeight = Math.floor((height + a.pad[0] + a.pad[2] - span[0]) / a.stride[0]) + 1;
  const outWidth = Math.floor((width + a.pad[1] + a.pad[3] - span[1]) / a.stride[1]) + 1;
  if (outHeight < 1 || outWidth < 1) throw new ShapeError(`conv2d: w [${w}] spans ${span.join('×')}, more than x [${x}] with padding [${a.pad}]`);
  const out = pictureShape(images, outHeight, outWidth, outChannels, a.layout);
  if (residual && (residual.length !== 4 || residual.some((extent, i) => extent !== out[i])))
    throw new ShapeError(`conv2d: residual [${residual}] is added to [${out}]`);
  return {
    images,
    height,
    width,
    channels,
    outHeight,
    outWidth,
    outChannels,
    kernel: [kh, kw],
    stride: a.stride,
    pad: [a.pad[0], a.pad[1]],
    dilation: a.dilation,
    groups: a.groups,
  };
}

function toNhwc(x: Tensor, layout: Layout): Tensor {
  return layout === 'nhwc' ? x.alias() : transpose(x, TO_NHWC);
}

function toHwio(w: Tensor, layout: Layout): Tensor {
  return layout === 'nhwc' ? w.alias() : transpose(w, OIHW_TO_HWIO);
}

/** Runs `work`, then frees the tensors it was given. */
function releasing<T>(tensors: Tensor[], work: () => T): T {
  try {
    return work();
  } finally {
    for (const tensor of tensors) tensor.dispose();
  }
}

/** dx of a convolution, in the layout given. It is also the transposed convolution of dy. */
export function pictureGradient(g: ConvGeometry, dy: Tensor, w: Tensor, layout: Layout, label: string): Tensor {
  const [dys, ws] = [toNhwc(dy, layout), toHwio(w, layout)];
  const dx = empty([g.images, g.height, g.width, g.channels], 'f32', label, dy.gpu);
  conv2dGradInput(dy.gpu, g, dys.slice, ws.slice, dx.slice, label);
  return layout === 'nhwc' ? dx : transpose(dx, TO_NCHW);
}

/** dw of a convolution, in the layout given. */
export function weightGradient(g: ConvGeometry, x: Tensor, dy: Tensor, layout: Layout, label: string): Tensor {
  const [xs, dys] = [toNhwc(x, layout), toNhwc(dy, layout)];
  const dw = empty([...g.kernel, g.channels / g.groups, g.outChannels], 'f32', label, x.gpu);
  conv2dGradWeight(x.gpu, g, xs.slice, dys.slice, dw.slice, label);
  return layout === 'nhwc' ? dw : transpose(dw, HWIO_TO_OIHW);
}

/** Convolution where the size of the result is given by `g`, not by the shapes. */
export function convolved(g: ConvGeometry, x: Tensor, w: Tensor, bias: Tensor | null, layout: Layout, label: string): Tensor {
  const [xs, ws] = [toNhwc(x, layout), toHwio(w, layout)];
  const y = empty([g.images, g.outHeight, g.outWidth, g.outChannels], 'f32', label, x.gpu);
  convKernel(x.gpu, { geometry: g, x: xs.slice, w: ws.slice, bias: bias?.slice, y: y.slice, label });
  return layout === 'nhwc' ? y : transpose(y, TO_NCHW);
}

function runConv(x: Tensor, w: Tensor, bias: Tensor | undefined, residual: Tensor | undefined, y: Tensor, attrs: ConvAttrs, label: string): void {
  const geometry = convGeometry([x.shape, w.shape], attrs);
  noGrad(() => {
    const [xs, ws] = [toNhwc(x, attrs.layout), toHwio(w, attrs.layout)];
    const added = residual && toNhwc(residual, attrs.layout);
    releasing([xs, ws, ...(added ? [added] : [])], () => {
      const common = { geometry, x: xs.slice, w: ws.slice, bias: bias?.slice, residual: added?.slice, relu: attrs.relu, label };
      if (attrs.layout === 'nhwc') {
        convKernel(x.gpu, { ...common, y: y.slice });
        return;
      }
      const out = empty([geometry.images, geometry.outHeight, geometry.outWidth, geometry.outChannels], 'f32', label, x.gpu);
      convKernel(x.gpu, { ...common, y: out.slice });
      const turned = transpose(out, TO_NCHW);
      x.gpu.copy(turned.slice, y.slice, y.size * 4);
      out.dispose();
      turned.dispose();
    });
  });
}

function convReference([x, w, bias, residual]: readonly Reference[], attrs: ConvAttrs): Reference[] {
  const g = convGeometry([x.shape, w.shape], attrs);
  const nhwc = attrs.layout === 'nhwc';
  const group = g.channels / g.groups;
  const [kh, kw] = g.kernel;
  const xAt = (n: number, h: number, i: number, c: number) =>
    nhwc ? ((n * g.height + h) * g.width + i) * g.channels + c : ((n * g.channels + c) * g.height + h) * g.width + i;
  const wAt = (ky: number, kx: number, c: number, o: number) =>
    nhwc ? ((ky * kw + kx) * group + c) * g.outChannels + o : ((o * group + c) * kh + ky) * kw + kx;
  const shape = pictureShape(g.images, g.outHeight, g.outWidth, g.outChannels, attrs.layout);
  return [
    reference(shape, (index) => {
      const [n, oy, ox, o] = nhwc
        ? [
            Math.floor(index / g.outChannels / g.outWidth / g.outHeight),
            Math.floor(index / g.outChannels / g.outWidth) % g.outHeight,
            Math.floor(index / g.outChannels) % g.outWidth,
            index % g.outChannels,
          ]
        : [
            Math.floor(index / g.outWidth / g.outHeight / g.outChannels),
            Math.floor(index / g.outWidth) % g.outHeight,
            index % g.outWidth,
            Math.floor(index / g.outWidth / g.outHeight) % g.outChannels,
          ];
      const first = Math.floor(o / (g.outChannels / g.groups)) * group;
      let sum = bias ? bias.data[o] : 0;
      for (let ky = 0; ky < kh; ky++) {
        const iy = oy * g.stride[0] + ky * g.dilation[0] - g.pad[0];
        if (iy < 0 || iy >= g.height) continue;
        for (let kx = 0; kx < kw; kx++) {
          const ix = ox * g.stride[1] + kx * g.dilation[1] - g.pad[1];
          if (ix < 0 || ix >= g.width) continue;
          for (let c = 0; c < group; c++) sum += x.data[xAt(n, iy, ix, first + c)] * w.data[wAt(ky, kx, c, o)];
        }
      }
      if (residual) sum += residual.data[index];
      return attrs.relu ? Math.max(sum, 0) : sum;
    }),
  ];
}

const convCost: Op<ConvAttrs>['cost'] = (shapes, outputs, attrs) => {
  const g = convGeometry(shapes, attrs);
  return { flops: (2 * sizeOf(outputs[0]) * g.kernel[0] * g.kernel[1] * g.channels) / g.groups, bytes: streamingCost(shapes, outputs).bytes };
};

const PLAIN: ConvAttrs = { stride: [1, 1], pad: [0, 0, 0, 0], dilation: [1, 1], groups: 1, layout: 'nchw', relu: false };
const SAME: ConvAttrs = { ...PLAIN, pad: [1, 1, 1, 1] };
const CONV_TOLERANCE = { rtol: 1e-5, atol: 2e-5, why: 'sums of up to 150 products that cancel' };

export const conv2dOp: Op<ConvAttrs> = {
  name: 'conv2d',
  doc: {
    equation:
      'y[n, o, i, j] = bias[o] + Σ over c, u, v of x[n, c, i stride + u dilation − pad, j stride + v dilation − pad] w[o, c, u, v], with zeros outside x',
    gradient:
      'dx = the transposed convolution of dy with w; dw[o, c, u, v] = Σ over n, i, j of dy[n, o, i, j] times the x that w[o, c, u, v] met; dbias = Σ dy per channel',
    tensors: {
      x: '[N, C, H, W] (layout nchw), or [N, H, W, C] (nhwc)',
      w: '[O, C / groups, KH, KW] (nchw), or [KH, KW, C / groups, O] (nhwc)',
      bias: '[O], or null',
      y: '[N, O, OH, OW] (nchw), or [N, OH, OW, O] (nhwc); OH = ⌊(H + padding − (KH − 1) dilation − 1) / stride⌋ + 1',
    },
    example: 'ops.conv2d(tensor([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 1, 3, 3]), tensor([1, 0, 0, -1], [1, 1, 2, 2]), null)',
    refused: [
      'ops.conv2d(zeros([1, 3, 8, 8]), zeros([4, 2, 3, 3]), null)',
      'ops.conv2d(zeros([1, 3, 2, 2]), zeros([4, 3, 3, 3]), null)',
      'ops.conv2d(zeros([1, 3, 8, 8]), zeros([4, 3, 3, 3]), zeros([3]))',
      'ops.conv2d(zeros([1, 4, 8, 8]), zeros([3, 2, 3, 3]), null, { groups: 2 })',
    ],
  },
  inputs: ['x', 'w', 'bias'],
  outputs: ['y'],
  shape: (shapes, attrs) => {
    if (attrs.relu) throw new ShapeError('conv2d: the ReLU epilogue belongs to convBlock; use relu() where a gradient is wanted');
    const g = convGeometry(shapes, attrs);
    return [pictureShape(g.images, g.outHeight, g.outWidth, g.outChannels, attrs.layout)];
  },
  forward: ({ inputs: [x, w, bias], outputs: [y], attrs, label }) => runConv(x, w, bias, undefined, y, attrs, label),
  saves: ['x', 'w'],
  backward: ({ saved: { x, w }, grads: [dy], attrs, label }) => {
    const g = convGeometry([x.shape, w.shape], attrs);
    const { layout } = attrs;
    return [
      () => pictureGradient(g, dy, w, layout, label),
      () => weightGradient(g, x, dy, layout, label),
      () => {
        const rows = toNhwc(dy, layout);
        return reduceOf('sum', rows.alias([rows.size / g.outChannels, g.outChannels]), 0);
      },
    ];
  },
  reference: convReference,
  cost: convCost,
  cases: [
    { name: '3×3 same', shapes: [[2, 5, 7, 11], [3, 5, 3, 3], [3]], attrs: SAME },
    { name: '3×3 same, NHWC, multiples of 4', shapes: [[2, 9, 7, 8], [3, 3, 8, 12], [12]], attrs: { ...SAME, layout: 'nhwc' } },
    { name: '3×3 same, NHWC, many tiles', shapes: [[1, 5, 7, 8], [3, 3, 8, 72], [72]], attrs: { ...SAME, layout: 'nhwc' } },
    { name: '3×3 same, NHWC, more than the largest tile', shapes: [[2, 9, 8, 12], [3, 3, 12, 136], [136]], attrs: { ...SAME, layout: 'nhwc' } },
    {
      name: '1×1',
      shapes: [
        [3, 8, 5, 7],
        [36, 8, 1, 1],
      ],
      attrs: PLAIN,
    },
    {
      name: '1×1 stride 2, NHWC',
      shapes: [
        [1, 7, 9, 4],
        [1, 1, 4, 8],
      ],
      attrs: { ...PLAIN, stride: [2, 2], layout: 'nhwc' },
    },
    { name: '7×7 stride 2', shapes: [[1, 3, 23, 19], [4, 3, 7, 7], [4]], attrs: { ...PLAIN, stride: [2, 2], pad: [3, 3, 3, 3] } },
    { name: '7×7 stride 2, whole blocks', shapes: [[2, 3, 22, 18], [8, 3, 7, 7], [8]], attrs: { ...PLAIN, stride: [2, 2], pad: [3, 3, 3, 3] } },
    {
      name: '5×4 stride 2, whole blocks, uneven padding, NHWC',
      shapes: [[1, 10, 6, 5], [5, 4, 5, 12], [12]],
      attrs: { ...PLAIN, stride: [2, 2], pad: [1, 2, 2, 0], layout: 'nhwc' },
    },
    { name: '2×2 stride 2, more blocks than lanes, NHWC', shapes: [[1, 4, 134, 3], [2, 2, 3, 4], [4]], attrs: { ...PLAIN, stride: [2, 2], layout: 'nhwc' } },
    { name: '4×4 stride 4, patches, NHWC', shapes: [[1, 8, 12, 3], [4, 4, 3, 4], [4]], attrs: { ...PLAIN, stride: [4, 4], layout: 'nhwc' } },
    {
      name: 'dilation 2, uneven padding',
      shapes: [
        [1, 4, 11, 13],
        [8, 4, 3, 3],
      ],
      attrs: { ...PLAIN, dilation: [2, 2], pad: [2, 1, 1, 3] },
    },
    {
      name: 'dilation 2 down, 3 across, 3 channels, NHWC',
      shapes: [
        [1, 9, 11, 3],
        [3, 3, 3, 5],
      ],
      attrs: { ...PLAIN, dilation: [2, 3], pad: [2, 3, 1, 0], layout: 'nhwc' },
    },
    { name: 'groups 3', shapes: [[2, 6, 7, 5], [9, 2, 3, 3], [9]], attrs: { ...SAME, groups: 3 } },
    {
      name: 'depthwise stride 2, NHWC',
      shapes: [
        [1, 9, 7, 5],
        [3, 3, 1, 5],
      ],
      attrs: { ...SAME, stride: [2, 2], groups: 5, layout: 'nhwc' },
    },
    {
      name: 'depthwise 7×7, NHWC, many quads',
      shapes: [[2, 5, 9, 20], [7, 7, 1, 20], [20]],
      attrs: { ...PLAIN, pad: [3, 3, 3, 3], groups: 20, layout: 'nhwc' },
    },
    {
      name: 'depthwise, three filters per channel, dilation, uneven padding, NHWC',
      shapes: [[1, 7, 11, 8], [3, 2, 1, 24], [24]],
      attrs: { ...PLAIN, stride: [1, 2], dilation: [2, 3], pad: [2, 0, 1, 3], groups: 8, layout: 'nhwc' },
    },
  ],
  family: 'conv2d',
  gradientFamilies: ['conv2d_grad_input', 'conv2d_grad_weight'],
  tolerance: CONV_TOLERANCE,
};

export const convBlockOp: Op<ConvAttrs> = {
  name: 'convBlock',
  doc: {
    equation: 'y = conv2d(x, w, bias) + residual, then max(y, 0) if relu, in one kernel',
    tensors: {
      x: '[N, C, H, W] (layout nchw), or [N, H, W, C] (nhwc)',
      w: '[O, C / groups, KH, KW] (nchw), or [KH, KW, C / groups, O] (nhwc)',
      bias: '[O]',
      residual: 'as y, or null',
      y: 'as of conv2d',
    },
    example: 'ops.convBlock(tensor([1, -2, 3, 4], [1, 1, 2, 2]), tensor([2], [1, 1, 1, 1]), tensor([1]), null, true)',
    refused: ['ops.convBlock(zeros([1, 3, 8, 8]), zeros([4, 3, 1, 1]), zeros([4]), zeros([1, 3, 8, 8]), true)'],
  },
  inputs: ['x', 'w', 'bias', 'residual'],
  outputs: ['y'],
  shape: (shapes, attrs) => {
    const g = convGeometry(shapes, attrs);
    return [pictureShape(g.images, g.outHeight, g.outWidth, g.outChannels, attrs.layout)];
  },
  forward: ({ inputs: [x, w, bias, residual], outputs: [y], attrs, label }) => runConv(x, w, bias, residual, y, attrs, label),
  backward: 'the fused block is for inference; train with conv2d, batchNorm, add and relu',
  reference: convReference,
  cost: convCost,
  cases: [
    { name: 'bias, residual and ReLU', shapes: [[2, 7, 5, 8], [3, 3, 8, 72], [72], [2, 7, 5, 72]], attrs: { ...SAME, layout: 'nhwc', relu: true } },
    {
      name: 'columns that are unfolded in two runs',
      shapes: [[2, 64, 64, 32], [7, 7, 32, 1], [1]],
      attrs: { ...PLAIN, pad: [3, 3, 3, 3], layout: 'nhwc' },
      draw: ['positive', 'positive', 'normal'],
    },
    {
      name: 'depthwise with bias, residual and ReLU',
      shapes: [[1, 6, 5, 8], [3, 3, 1, 8], [8], [1, 6, 5, 8]],
      attrs: { ...SAME, groups: 8, layout: 'nhwc', relu: true },
    },
    { name: 'bias and ReLU, NCHW', shapes: [[1, 5, 11, 7], [7, 5, 3, 3], [7]], attrs: { ...SAME, relu: true } },
  ],
  family: 'conv2d',
  tolerance: CONV_TOLERANCE,
};

/** Options of `conv2d` and `convBlock`. */
export interface ConvOptions {
  /** Down and across, in pixels (default 1). */
  stride?: number | readonly [number, number];
  /** Zeros around the picture: top, left, bottom, right (default 0). */
  pad?: number | readonly [number, number, number, number];
  /** Pixels between taps of the kernel, down and across (default 1). */
  dilation?: number | readonly [number, number];
  /** Groups of channels that do not see each other (default 1). */
  groups?: number;
  /** Order of the axes of pictures and weights (default `nchw`). Kernels work on `nhwc`: nothing is transposed then. */
  layout?: Layout;
}

function convAttrs(o: ConvOptions, relu: boolean): ConvAttrs {
  return { stride: pair(o.stride ?? 1), pad: sides(o.pad ?? 0), dilation: pair(o.dilation ?? 1), groups: o.groups ?? 1, layout: o.layout ?? 'nchw', relu };
}

/** x [N, C, H, W], w [O, C/groups, KH, KW] (or NHWC with w [KH, KW, C/groups, O]), bias [O]. */
export function conv2d(x: Tensor, w: Tensor, bias: Tensor | null, options: ConvOptions = {}): Tensor {
  return apply(conv2dOp, bias ? [x, w, bias] : [x, w], convAttrs(options, false))[0];
}

/** Options of `conv1d`. */
export interface SequenceConvOptions {
  /** In elements (default 1). */
  stride?: number;
  /** Zeros before and behind (default 0). */
  pad?: number | readonly [number, number];
  /** Elements between taps of the kernel (default 1). */
  dilation?: number;
  /** Groups of channels that do not see each other (default 1). */
  groups?: number;
  /** Order of the axes (default `nchw`: channels first). */
  layout?: Layout;
}

/** The kernel of a convolution of sequences, as one of pictures of height 1. */
export function flatKernel(op: string, w: Tensor, layout: Layout): Tensor {
  expectRank(op, 'w', w.shape, 3);
  return reshape(w, layout === 'nchw' ? [w.shape[0], w.shape[1], 1, w.shape[2]] : [1, ...w.shape]);
}

/** x [N, C, L], w [O, C/groups, K] (or [N, L, C] with w [K, C/groups, O]), bias [O]: conv2d of height 1, nothing is copied. */
export function conv1d(x: Tensor, w: Tensor, bias: Tensor | null, o: SequenceConvOptions = {}): Tensor {
  const { layout = 'nchw', stride = 1, dilation = 1, groups = 1, pad = 0 } = o;
  const [before, behind] = pair(pad);
  const options: ConvOptions = { stride: [1, stride], dilation: [1, dilation], groups, pad: [0, before, 0, behind], layout };
  const y = conv2d(reshape(x, asPictures('conv1d', x.shape, layout)), flatKernel('conv1d', w, layout), bias, options);
  return reshape(y, asSequences(y.shape, layout));
}

/** Inference only: convolution + bias (+ residual) (then ReLU) in one kernel. */
export function convBlock(x: Tensor, w: Tensor, bias: Tensor, residual: Tensor | null, relu: boolean, options: ConvOptions = {}): Tensor {
  return apply(convBlockOp, residual ? [x, w, bias, residual] : [x, w, bias], convAttrs(options, relu))[0];
}
