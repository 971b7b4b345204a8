/** Batch normalization (Ioffe and Szegedy 2015), training and evaluation; layer normalization (Ba, Kiros and Hinton 2016), by the root mean square, and by groups. */
import { ShapeError } from '../../errors.ts';
import type { Gpu } from '../../gpu/gpu.ts';
import type { BufferSlice } from '../../gpu/pool.ts';
import { type BatchNormGeometry, batchNormApply, batchNormGrad, batchNormStatistics } from '../../kernels/batchnorm.ts';
import { binaryBroadcast } from '../../kernels/elementwise.ts';
import { reduce } from '../../kernels/reduce.ts';
import { layerNormGrad, layerNorm as layerNormKernel } from '../../kernels/rows.ts';
import { type Shape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, full, type Tensor, zeros } from '../../tensor/tensor.ts';
import { type BackwardContext, type Op, type Reference, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { binaryOf } from './elementwise.ts';
import { reduceOf } from './reduce.ts';
import type { Layout } from './windows.ts';

export interface BatchNormAttrs {
  eps: number;
  layout: Layout;
}

function geometry(shapes: readonly Shape[], { eps, layout }: BatchNormAttrs): BatchNormGeometry {
  const [x, ...perChannel] = shapes;
  if (x.length < 2) throw new ShapeError(`batchNorm: x [${x}] needs at least two axes`);
  const axis = layout === 'nchw' ? 1 : x.length - 1;
  for (const shape of perChannel)
    if (shape.length !== 1 || shape[0] !== x[axis]) throw new ShapeError(`batchNorm: x [${x}] has ${x[axis]} channels, a parameter has [${shape}]`);
  return { outer: sizeOf(x.slice(0, axis)), channels: x[axis], inner: sizeOf(x.slice(axis + 1)), eps };
}

function normalize(
  x: Reference,
  mean: (c: number) => number,
  variance: (c: number) => number,
  gamma: Reference,
  beta: Reference,
  g: BatchNormGeometry,
): Reference {
  return reference(x.shape, (i) => {
    const c = Math.floor(i / g.inner) % g.channels;
    return (gamma.data[c] * (x.data[i] - mean(c))) / Math.sqrt(variance(c) + g.eps) + beta.data[c];
  });
}

function gradThunks(
  { gpu, saved, grads: [dy], label }: BackwardContext<BatchNormAttrs>,
  g: BatchNormGeometry,
  training: boolean,
  mean: Tensor,
  variance: Tensor,
): [() => Tensor, () => Tensor, () => Tensor] {
  let results: [Tensor, Tensor, Tensor] | null = null;
  const all = () => {
    if (!results) {
      results = [empty(dy.shape, 'f32', label), empty([g.channels], 'f32', label), empty([g.channels], 'f32', label)];
      const [dx, dgamma, dbeta] = results.map((t) => t.slice);
      batchNormGrad(
        gpu,
        g,
        { x: saved.x.slice, dy: dy.slice, mean: mean.slice, variance: variance.slice, gamma: saved.gamma.slice, dx, dgamma, dbeta, training },
        label,
      );
    }
    return results;
  };
  return [() => all()[0], () => all()[1], () => all()[2]];
}

const CASES = [
  { name: 'NCHW', shape: [5, 7, 3, 11], attrs: { eps: 1e-5, layout: 'nchw' as const } },
  { name: 'NCHW, more channels than lanes', shape: [3, 71, 8, 9], attrs: { eps: 1e-5, layout: 'nchw' as const } },
  { name: 'NHWC', shape: [3, 7, 5, 13], attrs: { eps: 1e-3, layout: 'nhwc' as const } },
  { name: 'rows, in twenty pieces', shape: [1301, 4], attrs: { eps: 1e-5, layout: 'nhwc' as const } },
];

export const batchNormTrainOp: Op<BatchNormAttrs> = {
  name: 'batchNormTrain',
  doc: {
    equation: 'y = gamma (x − mean) / √(variance + ε) + beta, mean and variance over all but the channels, the variance divided by n',
    gradient:
      'with x̂ = (x − mean) / √(variance + ε): dgamma = Σ dy x̂, dbeta = Σ dy, dx = gamma / √(variance + ε) (dy − dbeta / n − x̂ dgamma / n). mean and variance carry none.',
    tensors: {
      x: '[N, C, …] (layout nchw), or […, C] (nhwc)',
      gamma: '[C], the scale',
      beta: '[C], the shift',
      y: 'as x',
      mean: '[C], of this batch',
      variance: '[C], of this batch',
    },
    example: 'ops.batchNormTrain(tensor([1, 2, 3, 6], [4, 1]), tensor([1]), tensor([0]))',
    refused: ['ops.batchNormTrain(zeros([2, 3, 4, 4]), zeros([4]), zeros([4]))', 'ops.batchNormTrain(zeros([3]), zeros([3]), zeros([3]))'],
  },
  inputs: ['x', 'gamma', 'beta'],
  outputs: ['y', 'mean', 'variance'],
  shape: (shapes, attrs) => {
    const { channels } = geometry(shapes, attrs);
    return [shapes[0], [channels], [channels]];
  },
  forward: ({ gpu, inputs: [x, gamma, beta], outputs: [y, mean, variance], attrs, label }) => {
    const g = geometry([x.shape], attrs);
    batchNormStatistics(gpu, g, x.slice, mean.slice, variance.slice, label);
    batchNormApply(gpu, g, x.slice, mean.slice, variance.slice, gamma.slice, beta.slice, y.slice, label);
  },
  saves: ['x', 'gamma', 'mean', 'variance'],
  backward: (context) => {
    if (context.flowed[1] || context.flowed[2]) throw new ShapeError('batchNormTrain: the statistics carry no gradient of their own');
    return gradThunks(context, geometry([context.inputShapes[0]], context.attrs), true, context.saved.mean, context.saved.variance);
  },
  reference: ([x, gamma, beta], attrs) => {
    const g = geometry([x.shape], attrs);
    const n = g.outer * g.inner;
    const mean = reference([g.channels]);
    const variance = reference([g.channels]);
    const channel = (i: number) => Math.floor(i / g.inner) % g.channels;
    x.data.forEach((value, i) => {
      mean.data[channel(i)] += value / n;
    });
    x.data.forEach((value, i) => {
      variance.data[channel(i)] += (value - mean.data[channel(i)]) ** 2 / n;
    });
    return [
      normalize(
        x,
        (c) => mean.data[c],
        (c) => variance.data[c],
        gamma,
        beta,
        g,
      ),
      mean,
      variance,
    ];
  },
  cost: (shapes, outputs) => ({ flops: 8 * sizeOf(shapes[0]), bytes: 3 * streamingCost([shapes[0]], [outputs[0]]).bytes }),
  cases: CASES.map(({ name, shape, attrs }) => {
    const c = attrs.layout === 'nchw' ? shape[1] : shape[shape.length - 1];
    return { name, shapes: [shape, [c], [c]], attrs };
  }),
};

export const batchNormEvalOp: Op<BatchNormAttrs> = {
  name: 'batchNormEval',
  doc: {
    equation: 'y = gamma (x − mean) / √(variance + ε) + beta with statistics that are given',
    gradient: 'dx = dy gamma / √(variance + ε), dgamma = Σ dy (x − mean) / √(variance + ε), dbeta = Σ dy; none for mean and variance',
    tensors: {
      x: '[N, C, …] (layout nchw), or […, C] (nhwc)',
      gamma: '[C], the scale',
      beta: '[C], the shift',
      mean: '[C], the running mean',
      variance: '[C], the running variance',
      y: 'as x',
    },
    example: 'ops.batchNormEval(tensor([1, 2, 3, 6], [4, 1]), tensor([1]), tensor([0]), tensor([2]), tensor([4]))',
    refused: ['ops.batchNormEval(zeros([2, 3, 4, 4]), zeros([4]), zeros([4]), zeros([4]), zeros([4]))'],
  },
  inputs: ['x', 'gamma', 'beta', 'mean', 'variance'],
  outputs: ['y'],
  constants: ['mean', 'variance'],
  shape: (shapes, attrs) => {
    geometry(shapes, attrs);
    return [shapes[0]];
  },
  forward: ({ gpu, inputs: [x, gamma, beta, mean, variance], outputs: [y], attrs, label }) =>
    batchNormApply(gpu, geometry([x.shape], attrs), x.slice, mean.slice, variance.slice, gamma.slice, beta.slice, y.slice, label),
  saves: ['x', 'gamma', 'mean', 'variance'],
  backward: (context) => [
    ...gradThunks(context, geometry([context.inputShapes[0]], context.attrs), false, context.saved.mean, context.saved.variance),
    null,
    null,
  ],
  reference: ([x, gamma, beta, mean, variance], attrs) => [
    normalize(
      x,
      (c) => mean.data[c],
      (c) => variance.data[c],
      gamma,
      beta,
      geometry([x.shape], attrs),
    ),
  ],
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 4),
  cases: CASES.map(({ name, shape, attrs }) => {
    const c = attrs.layout === 'nchw' ? shape[1] : shape[shape.length - 1];
    return { name, shapes: [shape, [c], [c], [c], [c]], attrs, draw: ['normal', 'normal', 'normal', 'normal', 'positive'] };
  }),
};

export function batchNormTrain(x: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-5, layout: Layout = 'nchw'): { y: Tensor; mean: Tensor; variance: Tensor } {
  const [y, mean, variance] = apply(batchNormTrainOp, [x, gamma, beta], { eps, layout });
  return { y, mean, variance };
}

export function batchNormEval(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps = 1e-5, layout: Layout = 'nchw'): Tensor {
  return apply(batchNormEvalOp, [x, gamma, beta, mean, variance], { eps, layout })[0];
}

export interface LayerNormAttrs {
  eps: number;
}

const rowsOf = (x: Shape) => ({ rows: sizeOf(x.slice(0, -1)), n: x[x.length - 1] });

/** The gradients of x, gamma and beta, of which the first two share a dispatch. */
function rowThunks({ gpu, saved, grads: [dy], label }: BackwardContext<LayerNormAttrs>, centered: boolean): [() => Tensor, () => Tensor, () => Tensor] {
  const { x, gamma, mean, inverse } = saved;
  const { rows, n } = rowsOf(x.shape);
  let results: { dx: Tensor; scaled: Tensor } | null = null;
  const both = () => {
    if (!results) {
      results = { dx: empty(x.shape, 'f32', label), scaled: empty(x.shape, 'f32', label) };
      const slices = { x: x.slice, gamma: gamma.slice, mean: mean.slice, inverse: inverse.slice, dy: dy.slice };
      layerNormGrad(gpu, { ...slices, dx: results.dx.slice, scaled: results.scaled.slice, rows, n, centered, label });
    }
    return results;
  };
  const overRows = (each: Tensor): Tensor => {
    const out = empty([n], 'f32', label);
    reduce(gpu, { kind: 'sum', x: each.slice, y: out.slice, outer: 1, n: rows, inner: n, label });
    return out;
  };
  return [() => both().dx, () => overRows(both().scaled), () => overRows(dy)];
}

/** y = γ (x − mean) / √(variance + ε) + β over the last axis: layer_norm.wgsl. */
export const layerNormOp: Op<LayerNormAttrs> = {
  name: 'layerNorm',
  doc: {
    equation: 'y = gamma (x − mean) / √(variance + ε) + beta, mean and variance over the last axis',
    gradient:
      'with x̂ = (x − mean) / √(variance + ε), g = gamma dy: dx = (g − mean(g) − x̂ mean(g x̂)) / √(variance + ε); dgamma = Σ dy x̂ and dbeta = Σ dy over the rows',
    tensors: {
      x: '[…, n]',
      gamma: '[n], the scale',
      beta: '[n], the shift',
      y: 'as x',
    },
    example: 'ops.layerNorm(tensor([1, 2, 3, 6], [1, 4]), full([4], 1), zeros([4]))',
    refused: ['ops.layerNorm(zeros([2, 3]), zeros([2]), zeros([2]))'],
  },
  inputs: ['x', 'gamma', 'beta'],
  outputs: ['y'],
  shape: ([x, gamma, beta]) => {
    const n = x[x.length - 1];
    if (x.length === 0 || gamma.join() !== `${n}` || beta.join() !== `${n}`)
      throw new ShapeError(`layerNorm: x [${x}] takes gamma and beta as long as its last axis, got [${gamma}] and [${beta}]`);
    return [x];
  },
  forward: ({ gpu, inputs: [x, gamma, beta], outputs: [y], attrs, label, save }) => {
    const { rows, n } = rowsOf(x.shape);
    const [mean, inverse] = [empty([rows], 'f32', label), empty([rows], 'f32', label)];
    const slices = { x: x.slice, gamma: gamma.slice, beta: beta.slice, y: y.slice, mean: mean.slice, inverse: inverse.slice };
    layerNormKernel(gpu, { ...slices, rows, n, centered: true, eps: attrs.eps, label });
    save('mean', mean);
    save('inverse', inverse);
  },
  saves: ['x', 'gamma'],
  backward: (context) => rowThunks(context, true),
  reference: ([x, gamma, beta], { eps }) => {
    const n = x.shape[x.shape.length - 1];
    const out = reference(x.shape);
    for (let base = 0; base < x.data.length; base += n) {
      const row = x.data.subarray(base, base + n);
      const mean = row.reduce((sum, value) => sum + value, 0) / n;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n;
      row.forEach((value, j) => {
        out.data[base + j] = (gamma.data[j] * (value - mean)) / Math.sqrt(variance + eps) + beta.data[j];
      });
    }
    return [out];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 8),
  cases: [
    { name: 'primes', shapes: [[67, 113], [113], [113]], attrs: { eps: 1e-5 } },
    { name: 'three axes', shapes: [[3, 5, 44], [44], [44]], attrs: { eps: 1e-3 } },
    { name: 'long rows', shapes: [[5, 4099], [4099], [4099]], attrs: { eps: 1e-5 } },
    { name: 'far from 0', shapes: [[7, 113], [113], [113]], attrs: { eps: 1e-5 }, draw: ['normal plus 20', 'normal', 'normal'] },
    { name: 'outliers', shapes: [[7, 64], [64], [64]], attrs: { eps: 1e-5 }, draw: ['outliers', 'normal', 'normal'] },
  ],
  tolerance: { rtol: 1e-5, atol: 1e-5, why: 'inverse square roots of software drivers and sums over a row' },
};

export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-5): Tensor {
  return apply(layerNormOp, [x, gamma, beta], { eps })[0];
}

/** y = γ x / √(mean x² + ε) over the last axis (Zhang and Sennrich 2019): layer_norm.wgsl, not centered. */
export const rmsNormOp: Op<LayerNormAttrs> = {
  name: 'rmsNorm',
  doc: {
    equation: 'y = gamma x / √(mean(x²) + ε), the mean over the last axis',
    gradient: 'with x̂ = x / √(mean(x²) + ε), g = gamma dy: dx = (g − x̂ mean(g x̂)) / √(mean(x²) + ε); dgamma = Σ dy x̂ over the rows',
    tensors: { x: '[…, n]', gamma: '[n], the scale', y: 'as x' },
    example: 'ops.rmsNorm(tensor([1, 2, 3, 6], [1, 4]), full([4], 1))',
    refused: ['ops.rmsNorm(zeros([2, 3]), zeros([2]))'],
  },
  inputs: ['x', 'gamma'],
  outputs: ['y'],
  shape: ([x, gamma]) => {
    if (x.length === 0 || gamma.join() !== `${x[x.length - 1]}`)
      throw new ShapeError(`rmsNorm: x [${x}] takes a gamma as long as its last axis, got [${gamma}]`);
    return [x];
  },
  forward: ({ gpu, inputs: [x, gamma], outputs: [y], attrs, label, save }) => {
    const { rows, n } = rowsOf(x.shape);
    const [mean, inverse] = [empty([rows], 'f32', label), empty([rows], 'f32', label)];
    const slices = { x: x.slice, gamma: gamma.slice, beta: gamma.slice, y: y.slice, mean: mean.slice, inverse: inverse.slice };
    layerNormKernel(gpu, { ...slices, rows, n, centered: false, eps: attrs.eps, label });
    save('mean', mean);
    save('inverse', inverse);
  },
  saves: ['x', 'gamma'],
  backward: (context) => rowThunks(context, false).slice(0, 2),
  reference: ([x, gamma], { eps }) => {
    const n = x.shape[x.shape.length - 1];
    const out = reference(x.shape);
    for (let base = 0; base < x.data.length; base += n) {
      const row = x.data.subarray(base, base + n);
      const root = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / n + eps);
      row.forEach((value, j) => {
        out.data[base + j] = (gamma.data[j] * value) / root;
      });
    }
    return [out];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 6),
  cases: [
    { name: 'primes', shapes: [[67, 113], [113]], attrs: { eps: 1e-5 } },
    { name: 'three axes', shapes: [[3, 5, 44], [44]], attrs: { eps: 1e-3 } },
    { name: 'long rows', shapes: [[5, 1031], [1031]], attrs: { eps: 1e-5 } },
    { name: 'outliers', shapes: [[7, 64], [64]], attrs: { eps: 1e-5 }, draw: ['outliers', 'normal'] },
  ],
  tolerance: { rtol: 1e-5, atol: 1e-5, why: 'inverse square roots of software drivers and sums over a row' },
};

/** x [..., n], gamma [n] → y as x. */
export function rmsNorm(x: Tensor, gamma: Tensor, eps = 1e-5): Tensor {
  return apply(rmsNormOp, [x, gamma], { eps })[0];
}

export interface GroupNormAttrs {
  groups: number;
  eps: number;
}

/** Statistics are those of a batch whose channels are the groups of every picture; scale and shift are per channel. */
function groupsOf([x, gamma, beta]: readonly Shape[], { groups, eps }: GroupNormAttrs): { view: [number, number, number]; g: BatchNormGeometry } {
  const [images, channels] = x;
  if (x.length < 2 || gamma.join() !== `${channels}` || beta.join() !== `${channels}`)
    throw new ShapeError(`groupNorm: x [${x}] is [N, C, …] and takes gamma and beta of C numbers, got [${gamma}] and [${beta}]`);
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0)
    throw new ShapeError(`groupNorm: the ${channels} channels of [${x}] are not shared evenly by ${groups} groups`);
  const inner = sizeOf(x.slice(2));
  return { view: [images, channels, inner], g: { outer: 1, channels: images * groups, inner: (channels / groups) * inner, eps } };
}

/** x̂ = (x − mean) / √(variance + ε), each group with its own. */
function normalized(gpu: Gpu, g: BatchNormGeometry, x: Tensor, mean: Tensor, variance: Tensor, label: string): Tensor {
  const out = empty(x.shape, 'f32', label);
  const [ones, none] = [full([g.channels], 1), zeros([g.channels])];
  batchNormApply(gpu, g, x.slice, mean.slice, variance.slice, ones.slice, none.slice, out.slice, label);
  for (const temporary of [ones, none]) temporary.dispose();
  return out;
}

/** y = γ (x − mean) / √(variance + ε) + β over groups of channels of each picture (Wu and He 2018). */
export const groupNormOp: Op<GroupNormAttrs> = {
  name: 'groupNorm',
  doc: {
    equation: 'y = gamma (x − mean) / √(variance + ε) + beta, mean and variance over each group of C / groups neighboring channels of a picture',
    gradient:
      'with x̂ = (x − mean) / √(variance + ε), g = gamma dy: dx = (g − mean(g) − x̂ mean(g x̂)) / √(variance + ε), means over the group; dgamma = Σ dy x̂ and dbeta = Σ dy over all but the channels',
    tensors: { x: '[N, C, …]', gamma: '[C], the scale', beta: '[C], the shift', y: 'as x' },
    example: 'ops.groupNorm(tensor([1, 2, 3, 6], [1, 2, 2]), full([2], 1), zeros([2]), 2)',
    refused: ['ops.groupNorm(zeros([2, 3, 4]), zeros([3]), zeros([3]), 2)', 'ops.groupNorm(zeros([2, 3, 4]), zeros([2]), zeros([3]), 1)'],
  },
  inputs: ['x', 'gamma', 'beta'],
  outputs: ['y'],
  shape: (shapes, attrs) => {
    groupsOf(shapes, attrs);
    return [shapes[0]];
  },
  forward: ({ gpu, inputs: [x, gamma, beta], outputs: [y], attrs, label, save }) => {
    const { view, g } = groupsOf([x.shape, gamma.shape, beta.shape], attrs);
    const [mean, variance] = [empty([g.channels], 'f32', label), empty([g.channels], 'f32', label)];
    if (x.size > 0) {
      batchNormStatistics(gpu, g, x.slice, mean.slice, variance.slice, label);
      const [normal, scaled] = [normalized(gpu, g, x, mean, variance, label), empty(x.shape, 'f32', label)];
      const strides = stridesOf(view);
      const perChannel = (slice: BufferSlice) => ({ slice, strides: [0, 1, 0] });
      binaryBroadcast(gpu, 'a * b', { slice: normal.slice, strides }, perChannel(gamma.slice), scaled.slice, view, label);
      binaryBroadcast(gpu, 'a + b', { slice: scaled.slice, strides }, perChannel(beta.slice), y.slice, view, label);
      for (const temporary of [normal, scaled]) temporary.dispose();
    }
    save('mean', mean);
    save('variance', variance);
  },
  saves: ['x', 'gamma'],
  backward: ({ gpu, saved: { x, gamma, mean, variance }, grads: [dy], inputShapes, attrs, label }) => {
    const { view, g } = groupsOf(inputShapes, attrs);
    const overChannels = (each: Tensor) => reduceOf('sum', each.alias(view), [0, 2]);
    return [
      () => {
        const dx = empty(x.shape, 'f32', label);
        if (x.size === 0) return dx;
        const scaled = binaryOf('mul', dy.alias(view), gamma.alias([view[1], 1]));
        const [ones, dgamma, dbeta] = [full([g.channels], 1), empty([g.channels], 'f32', label), empty([g.channels], 'f32', label)];
        const statistics = { x: x.slice, mean: mean.slice, variance: variance.slice, gamma: ones.slice, training: true };
        batchNormGrad(gpu, g, { ...statistics, dy: scaled.slice, dx: dx.slice, dgamma: dgamma.slice, dbeta: dbeta.slice }, label);
        return dx;
      },
      () => overChannels(x.size === 0 ? dy : binaryOf('mul', dy, normalized(gpu, g, x, mean, variance, label))),
      () => overChannels(dy),
    ];
  },
  reference: ([x, gamma, beta], attrs) => {
    const { view, g } = groupsOf([x.shape, gamma.shape, beta.shape], attrs);
    const out = reference(x.shape);
    for (let base = 0; base < x.data.length; base += g.inner) {
      const group = x.data.subarray(base, base + g.inner);
      const mean = group.reduce((sum, value) => sum + value, 0) / g.inner;
      const variance = group.reduce((sum, value) => sum + (value - mean) ** 2, 0) / g.inner;
      group.forEach((value, j) => {
        const c = Math.floor((base + j) / view[2]) % view[1];
        out.data[base + j] = (gamma.data[c] * (value - mean)) / Math.sqrt(variance + attrs.eps) + beta.data[c];
      });
    }
    return [out];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 8),
  cases: [
    { name: 'three groups', shapes: [[3, 6, 5, 7], [6], [6]], attrs: { groups: 3, eps: 1e-5 } },
    { name: 'an instance each', shapes: [[2, 37, 11], [37], [37]], attrs: { groups: 37, eps: 1e-3 } },
    { name: 'one group, in pieces', shapes: [[3, 4, 331], [4], [4]], attrs: { groups: 1, eps: 1e-5 } },
    { name: 'no axis behind the channels', shapes: [[71, 10], [10], [10]], attrs: { groups: 2, eps: 1e-3 } },
    { name: 'far from 0', shapes: [[2, 4, 37], [4], [4]], attrs: { groups: 2, eps: 1e-5 }, draw: ['normal plus 100', 'normal', 'normal'] },
  ],
  tolerance: { rtol: 1e-5, atol: 2e-5, why: 'sums over a group, and means that float32 holds to 4e-6 where they are far from 0' },
};

/** x [N, C, …], gamma and beta [C] → y as x. With as many groups as channels it is instance normalization. */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, groups: number, eps = 1e-5): Tensor {
  return apply(groupNormOp, [x, gamma, beta], { groups, eps })[0];
}
