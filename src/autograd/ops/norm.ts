/** Batch normalization (Ioffe and Szegedy 2015), training and evaluation, and layer normalization (Ba, Kiros and Hinton 2016). */
import { ShapeError } from '../../errors.ts';
import { type BatchNormGeometry, batchNormApply, batchNormGrad, batchNormStatistics } from '../../kernels/batchnorm.ts';
import { reduce } from '../../kernels/reduce.ts';
import { layerNormGrad, layerNorm as layerNormKernel } from '../../kernels/rows.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type BackwardContext, type Op, type Reference, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
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
    layerNormKernel(gpu, { ...slices, rows, n, eps: attrs.eps, label });
    save('mean', mean);
    save('inverse', inverse);
  },
  saves: ['x', 'gamma'],
  backward: ({ gpu, saved: { x, gamma, mean, inverse }, grads: [dy], label }) => {
    const { rows, n } = rowsOf(x.shape);
    let results: { dx: Tensor; scaled: Tensor } | null = null;
    const both = () => {
      if (!results) {
        results = { dx: empty(x.shape, 'f32', label), scaled: empty(x.shape, 'f32', label) };
        const slices = { x: x.slice, gamma: gamma.slice, mean: mean.slice, inverse: inverse.slice, dy: dy.slice };
        layerNormGrad(gpu, { ...slices, dx: results.dx.slice, scaled: results.scaled.slice, rows, n, label });
      }
      return results;
    };
    const overRows = (each: Tensor): Tensor => {
      const out = empty([n], 'f32', label);
      reduce(gpu, { kind: 'sum', x: each.slice, y: out.slice, outer: 1, n: rows, inner: n, label });
      return out;
    };
    return [() => both().dx, () => overRows(both().scaled), () => overRows(dy)];
  },
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
