/**
 * Transposed convolution: the gradient of a convolution with respect to its picture, as a layer of its own. So its forward pass runs
 * the kernels of that gradient, and its gradients are a convolution and that convolution's gradient for its weights.
 */
import { ShapeError } from '../../errors.ts';
import type { ConvGeometry } from '../../kernels/conv.ts';
import { binaryRows } from '../../kernels/elementwise.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Op, type Reference, reference, streamingCost } from '../op.ts';
import { apply, noGrad } from '../tape.ts';
import { convolved, flatKernel, pictureGradient, weightGradient } from './conv.ts';
import { convolvedVolume, type Triple, type VolumeGeometry, volumeGradient, volumeWeightGradient } from './conv_volume.ts';
import { binaryOf } from './elementwise.ts';
import { reduceOf } from './reduce.ts';
import { reshape } from './shape.ts';
import { asPictures, asSequences, type Layout, pair, perAxis } from './windows.ts';

export interface ConvTransposeAttrs {
  stride: readonly number[];
  /** What is cut off the result before each axis, then behind each axis. */
  pad: readonly number[];
  dilation: readonly number[];
  /** What is added to the result behind each axis. */
  outputPadding: readonly number[];
  groups: number;
  layout: Layout;
}

/** The convolution whose gradient it is: that convolution's picture is the result here. Pictures have a depth of 1. */
function geometryOf(name: string, axes: 2 | 3, [x, w, bias]: readonly Shape[], a: ConvTransposeAttrs): VolumeGeometry {
  for (const [what, shape] of [
    ['x', x],
    ['w', w],
  ] as const)
    if (shape.length !== axes + 2) throw new ShapeError(`${name}: ${what} [${shape}] has ${shape.length} axes, ${axes + 2} are expected`);
  const first = a.layout === 'nchw';
  const [channels, size] = first ? [x[1], x.slice(2)] : [x[axes + 1], x.slice(1, -1)];
  const [inChannels, group, kernel] = first ? [w[0], w[1], w.slice(2)] : [w[axes + 1], w[axes], w.slice(0, axes)];
  perAxis(name, 'groups', a.groups, 1, 1);
  if (channels !== inChannels) throw new ShapeError(`${name}: x [${x}] has ${channels} channels, w [${w}] expects ${inChannels}`);
  if (channels % a.groups !== 0) throw new ShapeError(`${name}: x [${x}] has ${channels} channels, which ${a.groups} groups do not divide`);
  const outChannels = group * a.groups;
  if (bias && (bias.length !== 1 || bias[0] !== outChannels)) throw new ShapeError(`${name}: bias [${bias}] does not fit ${outChannels} channels`);
  const [stride, dilation] = [perAxis(name, 'stride', a.stride, axes, 1), perAxis(name, 'dilation', a.dilation, axes, 1)];
  const [pad, more] = [perAxis(name, 'pad', a.pad, 2 * axes, 0), perAxis(name, 'outputPadding', a.outputPadding, axes, 0)];
  perAxis(name, 'kernel', kernel, axes, 1);
  more.forEach((each, axis) => {
    if (each >= Math.max(stride[axis], dilation[axis]))
      throw new ShapeError(`${name}: outputPadding [${more}] must be less than stride [${stride}] or dilation [${dilation}] along each axis`);
  });
  const out = size.map((n, axis) => (n - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1 + more[axis] - pad[axis] - pad[axis + axes]);
  if (out.some((extent) => extent < 1)) throw new ShapeError(`${name}: x [${x}] and w [${w}] with padding [${pad}] leave a result of ${out.join('×')}`);
  const triple = (values: readonly number[], missing: number) => (axes === 2 ? [missing, ...values] : values) as unknown as Triple;
  return {
    ...{ images: x[0], channels: outChannels, outChannels: channels, groups: a.groups, size: triple(out, 1), out: triple(size, 1) },
    ...{ kernel: triple(kernel, 1), stride: triple(stride, 1), dilation: triple(dilation, 1), pad: triple(pad.slice(0, axes), 0) },
  };
}

/** The convolution of pictures, from one of volumes of depth 1. */
function flat(g: VolumeGeometry): ConvGeometry {
  const two = ([, y, x]: Triple) => [y, x] as const;
  return {
    ...{ images: g.images, height: g.size[1], width: g.size[2], channels: g.channels, outHeight: g.out[1], outWidth: g.out[2], outChannels: g.outChannels },
    ...{ kernel: two(g.kernel), stride: two(g.stride), pad: two(g.pad), dilation: two(g.dilation), groups: g.groups },
  };
}

/** Adds every value where its taps put it. */
function scattered([x, w, bias]: readonly Reference[], g: VolumeGeometry, shape: Shape, layout: Layout): Reference {
  const last = layout === 'nhwc';
  const [[d, h, v], [od, oh, ow], [kd, kh, kw]] = [g.size, g.out, g.kernel];
  const [group, inputs] = [g.channels / g.groups, g.outChannels / g.groups];
  const y = reference(shape, (i) => (bias ? bias.data[last ? i % g.channels : Math.floor(i / v / h / d) % g.channels] : 0));
  const to = (at: number, k: number, axis: number) => at * g.stride[axis] + k * g.dilation[axis] - g.pad[axis];
  for (let i = 0; i < x.data.length; i++) {
    const spot = last ? Math.floor(i / g.outChannels) : i;
    const [iz, iy, ix] = [Math.floor(spot / ow / oh) % od, Math.floor(spot / ow) % oh, spot % ow];
    const c = last ? i % g.outChannels : Math.floor(i / ow / oh / od) % g.outChannels;
    const n = last ? Math.floor(spot / ow / oh / od) : Math.floor(i / ow / oh / od / g.outChannels);
    const output = Math.floor(c / inputs) * group;
    for (let kz = 0; kz < kd; kz++) {
      const z = to(iz, kz, 0);
      if (z < 0 || z >= d) continue;
      for (let ky = 0; ky < kh; ky++) {
        const row = to(iy, ky, 1);
        if (row < 0 || row >= h) continue;
        for (let kx = 0; kx < kw; kx++) {
          const column = to(ix, kx, 2);
          if (column < 0 || column >= v) continue;
          for (let o = 0; o < group; o++) {
            const at = last
              ? (((n * d + z) * h + row) * v + column) * g.channels + output + o
              : (((n * g.channels + output + o) * d + z) * h + row) * v + column;
            const tap = last ? ((ky * kw + kx) * group + o) * g.outChannels + c : (((c * group + o) * kd + kz) * kh + ky) * kw + kx;
            y.data[at] += x.data[i] * w.data[tap];
          }
        }
      }
    }
  }
  return y;
}

function convTransposeOp(name: string, axes: 2 | 3, cases: Op<ConvTransposeAttrs>['cases']): Op<ConvTransposeAttrs> {
  const geometry = (shapes: readonly Shape[], attrs: ConvTransposeAttrs) => geometryOf(name, axes, shapes, attrs);
  const shapeOf = (g: VolumeGeometry, { layout }: ConvTransposeAttrs) => {
    const size = g.size.slice(3 - axes);
    return layout === 'nchw' ? [g.images, g.channels, ...size] : [g.images, ...size, g.channels];
  };
  const [places, outPlaces, kernel, ones] = axes === 2 ? ['H, W', 'OH, OW', 'KH, KW', '1, 1'] : ['D, H, W', 'OD, OH, OW', 'KD, KH, KW', '1, 1, 1'];
  const last = (text: string) => (axes === 2 ? text : '');
  return {
    name,
    doc: {
      equation: 'y[n, o, i stride + u dilation − pad] = bias[o] + Σ over c, i, u that lead there of x[n, c, i] w[c, o, u]',
      gradient: 'dx = the convolution of dy with w; dw[c, o, u] = Σ over n, i of x[n, c, i] times the dy that it met; dbias = Σ dy per channel',
      tensors: {
        x: `[N, C, ${places}]${last(' (layout nchw), or [N, H, W, C] (nhwc)')}`,
        w: `[C, O / groups, ${kernel}]${last(' (nchw), or [KH, KW, O / groups, C] (nhwc)')}`,
        bias: '[O], or null',
        y: `[N, O, ${outPlaces}]${last(' (nchw), or [N, OH, OW, O] (nhwc)')}; OH = (H − 1) stride + (KH − 1) dilation + 1 + outputPadding − padding`,
      },
      example: `ops.${name}(tensor([1, 2, 3, 4], [${ones.slice(0, -1)}1, 2, 2]), tensor([1, 10], [${ones}, 1, 2]), null, { stride: 2 })`,
      refused: [
        `ops.${name}(zeros([1, 3, ${ones}]), zeros([4, 2, ${ones}]), null)`,
        `ops.${name}(zeros([1, 3, ${ones}]), zeros([3, 2, ${ones}]), null, { outputPadding: 1 })`,
      ],
    },
    inputs: ['x', 'w', 'bias'],
    outputs: ['y'],
    shape: (shapes, attrs) => [shapeOf(geometry(shapes, attrs), attrs)],
    forward: ({ gpu, inputs: [x, w, bias], outputs: [y], attrs, label }) => {
      const g = geometry([x.shape, w.shape], attrs);
      noGrad(() => {
        const plain = axes === 2 ? pictureGradient(flat(g), x, w, attrs.layout, label) : volumeGradient(g, x, w, label);
        if (!bias) gpu.copy(plain.slice, y.slice, y.size * 4);
        else if (attrs.layout === 'nhwc') binaryRows(gpu, 'a + b', plain.slice, bias.slice, y.slice, y.size / g.channels, g.channels, label);
        else {
          const sum = binaryOf('add', plain, bias.alias([g.channels, ...new Array<number>(axes).fill(1)]));
          gpu.copy(sum.slice, y.slice, y.size * 4);
        }
      });
    },
    saves: ['x', 'w'],
    backward: ({ saved: { x, w }, grads: [dy], attrs, label }) => {
      const g = geometry([x.shape, w.shape], attrs);
      const { layout } = attrs;
      return [
        () => (axes === 2 ? convolved(flat(g), dy, w, null, layout, label) : convolvedVolume(g, dy, w, null, label)),
        () => (axes === 2 ? weightGradient(flat(g), dy, x, layout, label) : volumeWeightGradient(g, dy, x, label)),
        () => {
          if (layout === 'nhwc') return reduceOf('sum', dy.alias([dy.size / g.channels, g.channels]), 0);
          const perPicture = reduceOf('sum', dy.alias([g.images, g.channels, sizeOf(g.size)]), 2);
          return reduceOf('sum', perPicture, 0);
        },
      ];
    },
    reference: (inputs, attrs) => {
      const g = geometry(
        inputs.slice(0, 2).map(({ shape }) => shape),
        attrs,
      );
      return [scattered(inputs, g, shapeOf(g, attrs), attrs.layout)];
    },
    cost: (shapes, outputs, attrs) => {
      const g = geometry(shapes, attrs);
      return { flops: (2 * sizeOf(shapes[0]) * sizeOf(g.kernel) * g.channels) / g.groups, bytes: streamingCost(shapes, outputs).bytes };
    },
    cases,
    ...(axes === 2 ? { family: 'conv2d_grad_input', runs: ['conv2d', 'conv2d_grad_weight'] } : { runs: ['conv2d_grad_input', 'conv2d', 'conv2d_grad_weight'] }),
    tolerance: { rtol: 1e-5, atol: 2e-5, why: 'sums of up to 100 products that cancel' },
  };
}

const PLAIN: ConvTransposeAttrs = { stride: [1, 1], pad: [0, 0, 0, 0], dilation: [1, 1], outputPadding: [0, 0], groups: 1, layout: 'nchw' };

export const convTransposeOps = {
  convTranspose2d: convTransposeOp('convTranspose2d', 2, [
    {
      name: '4×4 stride 2, as decoders have it',
      shapes: [[2, 5, 3, 7], [5, 3, 4, 4], [3]],
      attrs: { ...PLAIN, stride: [2, 2], pad: [1, 1, 1, 1] },
    },
    {
      name: 'more behind, uneven padding, NHWC',
      shapes: [[1, 5, 4, 8], [3, 3, 12, 8], [12]],
      attrs: { ...PLAIN, stride: [2, 3], pad: [0, 1, 1, 2], outputPadding: [1, 2], layout: 'nhwc' },
    },
    {
      name: 'groups 3, dilation, more behind than the stride',
      shapes: [
        [1, 6, 4, 5],
        [6, 2, 3, 2],
      ],
      attrs: { ...PLAIN, stride: [1, 2], dilation: [2, 3], pad: [1, 0, 0, 2], outputPadding: [1, 2], groups: 3 },
    },
    {
      name: 'stride 2, kernel 2',
      shapes: [[1, 4, 5, 3], [4, 7, 2, 2], [7]],
      attrs: { ...PLAIN, stride: [2, 2] },
    },
  ]),
  convTranspose3d: convTransposeOp('convTranspose3d', 3, [
    {
      name: 'strides, more behind',
      shapes: [[1, 4, 2, 3, 4], [4, 3, 3, 2, 3], [3]],
      attrs: { ...PLAIN, stride: [2, 2, 1], pad: [1, 0, 1, 0, 1, 0], dilation: [1, 1, 1], outputPadding: [1, 1, 0] },
    },
    {
      name: 'groups 2, dilation',
      shapes: [
        [2, 4, 2, 3, 3],
        [4, 1, 2, 3, 2],
      ],
      attrs: { ...PLAIN, stride: [1, 2, 2], pad: [0, 1, 0, 1, 0, 0], dilation: [2, 1, 3], outputPadding: [0, 1, 2], groups: 2 },
    },
  ]),
};

/** Options of `convTranspose1d`, `convTranspose2d` and `convTranspose3d`. A single number stands for all axes. */
export interface ConvTransposeOptions {
  /** Elements of the result from one element of x to the next (default 1). */
  stride?: number | readonly number[];
  /** What is cut off the result: before each axis, then behind each axis (default 0). */
  pad?: number | readonly number[];
  /** From one tap of the kernel to the next (default 1). */
  dilation?: number | readonly number[];
  /** What is added to the result behind each axis; less than the stride or the dilation (default 0). */
  outputPadding?: number | readonly number[];
  /** Groups of channels that do not see each other (default 1). */
  groups?: number;
  /** Order of the axes of sequences and pictures, and their weights (default `nchw`). */
  layout?: Layout;
}

function attrsOf(name: string, o: ConvTransposeOptions, axes: number): ConvTransposeAttrs {
  return {
    ...{ stride: perAxis(name, 'stride', o.stride ?? 1, axes, 1), pad: perAxis(name, 'pad', o.pad ?? 0, 2 * axes, 0) },
    ...{ dilation: perAxis(name, 'dilation', o.dilation ?? 1, axes, 1), outputPadding: perAxis(name, 'outputPadding', o.outputPadding ?? 0, axes, 0) },
    ...{ groups: o.groups ?? 1, layout: o.layout ?? 'nchw' },
  };
}

/** x [N, C, H, W], w [C, O/groups, KH, KW] as ONNX (or NHWC with w [KH, KW, O/groups, C]), bias [O]. */
export function convTranspose2d(x: Tensor, w: Tensor, bias: Tensor | null, options: ConvTransposeOptions = {}): Tensor {
  return apply(convTransposeOps.convTranspose2d, bias ? [x, w, bias] : [x, w], attrsOf('convTranspose2d', options, 2))[0];
}

/** x [N, C, D, H, W], w [C, O/groups, KD, KH, KW], bias [O]. */
export function convTranspose3d(x: Tensor, w: Tensor, bias: Tensor | null, options: Omit<ConvTransposeOptions, 'layout'> = {}): Tensor {
  return apply(convTransposeOps.convTranspose3d, bias ? [x, w, bias] : [x, w], attrsOf('convTranspose3d', options, 3))[0];
}

/** x [N, C, L], w [C, O/groups, K] (or [N, L, C] with w [K, O/groups, C]), bias [O]: pictures of height 1, nothing is copied. */
export function convTranspose1d(x: Tensor, w: Tensor, bias: Tensor | null, options: ConvTransposeOptions = {}): Tensor {
  const a = attrsOf('convTranspose1d', options, 1);
  const [before, behind] = pair(a.pad as readonly [number, number]);
  const y = convTranspose2d(reshape(x, asPictures('convTranspose1d', x.shape, a.layout)), flatKernel('convTranspose1d', w, a.layout), bias, {
    ...{ stride: [1, ...a.stride], dilation: [1, ...a.dilation], pad: [0, before, 0, behind], outputPadding: [0, ...a.outputPadding] },
    ...{ groups: a.groups, layout: a.layout },
  });
  return reshape(y, asSequences(y.shape, a.layout));
}
