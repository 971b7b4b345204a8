/** The op table, and the functions that models call. An op that is not listed here does not exist. */

import { ShapeError } from '../../errors.ts';
import { axpby, type DropoutKey } from '../../kernels/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Op } from '../op.ts';
import { apply } from '../tape.ts';
import { scaledDotProductOp } from './attention.ts';
import { attentionLstmOp } from './attention_lstm.ts';
import { beamSelectOp, limitTokensOp } from './beam.ts';
import { conv2dOp, convBlockOp } from './conv.ts';
import { convTransposeOps } from './conv_transpose.ts';
import { conv3dOp } from './conv_volume.ts';
import { axpbyOp, binaryOf, binaryOps, dropoutOp, unaryOf, unaryOps } from './elementwise.ts';
import { embeddingOp } from './embedding.ts';
import { gatherOps, scatterOps } from './gather.ts';
import { fromHalvesOp } from './halves.ts';
import { matmulIntoOp, matmulOp } from './matmul.ts';
import { batchNormEvalOp, batchNormTrainOp, groupNormOp, layerNormOp, rmsNormOp } from './norm.ts';
import { adamOp, globalNormOp, gradientSumOp, sgdOp } from './optimizer.ts';
import { padOp } from './pad.ts';
import { maxPoolWithIndicesOp, maxUnpoolOp, poolOps } from './pool.ts';
import { additiveAttentionOp, gruCellOp, lstmCellOp } from './recurrent.ts';
import { reduceOf, reduceOps } from './reduce.ts';
import { resizeOp } from './resize.ts';
import { argmaxOps, argmaxTokenOp, crossEntropyOp, mixTokensOp, oneHotOp, sampleOp, softmaxOps, topKOp } from './rows.ts';
import { cumSumOp } from './scan.ts';
import { whereOp } from './select.ts';
import { broadcastOp, concatOp, reshapeOp, sliceOp, transposeOp, triluOp } from './shape.ts';

/** Every op. Self-test, tests and docs walk this table. */
export const OPS: readonly Op[] = [
  ...Object.values(unaryOps),
  ...Object.values(binaryOps),
  whereOp,
  axpbyOp,
  dropoutOp,
  ...Object.values(reduceOps),
  reshapeOp,
  transposeOp,
  sliceOp,
  concatOp,
  broadcastOp,
  ...Object.values(gatherOps),
  ...Object.values(scatterOps),
  triluOp,
  cumSumOp,
  matmulOp,
  matmulIntoOp,
  conv2dOp,
  convBlockOp,
  ...Object.values(poolOps),
  conv3dOp,
  ...Object.values(convTransposeOps),
  maxPoolWithIndicesOp,
  maxUnpoolOp,
  padOp,
  resizeOp,
  batchNormTrainOp,
  batchNormEvalOp,
  layerNormOp,
  rmsNormOp,
  groupNormOp,
  ...Object.values(softmaxOps),
  crossEntropyOp,
  mixTokensOp,
  argmaxTokenOp,
  ...Object.values(argmaxOps),
  topKOp,
  sampleOp,
  oneHotOp,
  beamSelectOp,
  limitTokensOp,
  embeddingOp,
  fromHalvesOp,
  lstmCellOp,
  gruCellOp,
  additiveAttentionOp,
  scaledDotProductOp,
  attentionLstmOp,
  adamOp,
  sgdOp,
  gradientSumOp,
  globalNormOp,
];

/** The ops that run a kernel family, forward or for their gradients. */
export function opsOf(family: string): Op[] {
  return OPS.filter((op) => op.family === family || op.gradientFamilies?.includes(family));
}

export const neg = (x: Tensor) => unaryOf('neg', x);
export const exp = (x: Tensor) => unaryOf('exp', x);
export const log = (x: Tensor) => unaryOf('log', x);
export const sqrt = (x: Tensor) => unaryOf('sqrt', x);
export const square = (x: Tensor) => unaryOf('square', x);
export const abs = (x: Tensor) => unaryOf('abs', x);
export const reciprocal = (x: Tensor) => unaryOf('reciprocal', x);
export const relu = (x: Tensor) => unaryOf('relu', x);
export const leakyRelu = (x: Tensor, slope = 0.01) => unaryOf('leakyRelu', x, slope);
export const sigmoid = (x: Tensor) => unaryOf('sigmoid', x);
export const tanh = (x: Tensor) => unaryOf('tanh', x);
export const scale = (x: Tensor, factor: number) => unaryOf('scale', x, factor);
export const addScalar = (x: Tensor, value: number) => unaryOf('addScalar', x, value);
/** 1 where x > threshold, else 0, and NaN for a NaN. */
export const step = (x: Tensor, threshold = 0) => unaryOf('step', x, threshold);
export const erf = (x: Tensor) => unaryOf('erf', x);
/** The exact one, with erf; `geluTanh` is its approximation (Hendrycks and Gimpel 2016). */
export const gelu = (x: Tensor) => unaryOf('gelu', x);
export const geluTanh = (x: Tensor) => unaryOf('geluTanh', x);
/** x sigmoid(x), also named swish. */
export const silu = (x: Tensor) => unaryOf('silu', x);
export const hardSigmoid = (x: Tensor, alpha = 0.2, beta = 0.5) => unaryOf('hardSigmoid', x, alpha, beta);
export const hardSwish = (x: Tensor) => unaryOf('hardSwish', x);
export const softplus = (x: Tensor) => unaryOf('softplus', x);
export const mish = (x: Tensor) => unaryOf('mish', x);
export const elu = (x: Tensor, alpha = 1) => unaryOf('elu', x, alpha);
/** Klambauer and others 2017, with their constants. */
export const selu = (x: Tensor, alpha = 1.6732632423543772, gamma = 1.0507009873554805) => unaryOf('selu', x, alpha, gamma);
export const celu = (x: Tensor, alpha = 1) => unaryOf('celu', x, alpha);
export const softsign = (x: Tensor) => unaryOf('softsign', x);
export const thresholdedRelu = (x: Tensor, threshold = 1) => unaryOf('thresholdedRelu', x, threshold);
export const sign = (x: Tensor) => unaryOf('sign', x);
export const floor = (x: Tensor) => unaryOf('floor', x);
export const ceil = (x: Tensor) => unaryOf('ceil', x);
/** To the nearest whole number; halves go to the even one. */
export const round = (x: Tensor) => unaryOf('round', x);
export const trunc = (x: Tensor) => unaryOf('trunc', x);
export const sin = (x: Tensor) => unaryOf('sin', x);
export const cos = (x: Tensor) => unaryOf('cos', x);
export const tan = (x: Tensor) => unaryOf('tan', x);
export const asin = (x: Tensor) => unaryOf('asin', x);
export const acos = (x: Tensor) => unaryOf('acos', x);
export const atan = (x: Tensor) => unaryOf('atan', x);
export const sinh = (x: Tensor) => unaryOf('sinh', x);
export const cosh = (x: Tensor) => unaryOf('cosh', x);
export const asinh = (x: Tensor) => unaryOf('asinh', x);
export const acosh = (x: Tensor) => unaryOf('acosh', x);
export const atanh = (x: Tensor) => unaryOf('atanh', x);
/** 1 where x is a NaN, else 0. */
export const isNan = (x: Tensor) => unaryOf('isNan', x);

/** 1 where x is infinite, with the signs asked for, else 0; 0 for a NaN. */
export const isInf = (x: Tensor, { positive = true, negative = true } = {}) => unaryOf('isInf', x, Number(positive), Number(negative));
export const add = (a: Tensor, b: Tensor) => binaryOf('add', a, b);
export const sub = (a: Tensor, b: Tensor) => binaryOf('sub', a, b);
export const mul = (a: Tensor, b: Tensor) => binaryOf('mul', a, b);
export const div = (a: Tensor, b: Tensor) => binaryOf('div', a, b);
export const maximum = (a: Tensor, b: Tensor) => binaryOf('maximum', a, b);
export const minimum = (a: Tensor, b: Tensor) => binaryOf('minimum', a, b);
/** 1 where a > b, else 0, and NaN beside a NaN. */
export const greater = (a: Tensor, b: Tensor) => binaryOf('greater', a, b);
/** 1 where a ≥ b, else 0, and NaN beside a NaN. */
export const greaterEqual = (a: Tensor, b: Tensor) => binaryOf('greaterEqual', a, b);
/** 1 where a < b, else 0, and NaN beside a NaN. */
export const less = (a: Tensor, b: Tensor) => binaryOf('less', a, b);
/** 1 where a ≤ b, else 0, and NaN beside a NaN. */
export const lessEqual = (a: Tensor, b: Tensor) => binaryOf('lessEqual', a, b);
/** 1 where a = b, else 0, and NaN beside a NaN. */
export const equal = (a: Tensor, b: Tensor) => binaryOf('equal', a, b);
/** 1 where a ≠ b, else 0, and NaN beside a NaN. */
export const notEqual = (a: Tensor, b: Tensor) => binaryOf('notEqual', a, b);
/** As C has it, but a NaN stays one: 0 to the power of 0 is 1, a negative number takes whole powers only. */
export const pow = (a: Tensor, b: Tensor) => binaryOf('pow', a, b);
/** The remainder with the sign of the divisor b, as in Python. Exact. */
export const mod = (a: Tensor, b: Tensor) => binaryOf('mod', a, b);
/** The remainder with the sign of a, as in C. Exact. */
export const fmod = (a: Tensor, b: Tensor) => binaryOf('fmod', a, b);
/** One axis, several, or none for all. */
type Axes = number | readonly number[];
export const sum = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('sum', x, axis, keepDims);
export const mean = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('mean', x, axis, keepDims);
export const sumSquares = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('sumSquares', x, axis, keepDims);
/** The L1 norm. */
export const sumAbs = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('sumAbs', x, axis, keepDims);
/** The L2 norm. */
export const norm = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('norm', x, axis, keepDims);
/** Does not overflow; −∞ where all are −∞. */
export const logSumExp = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('logSumExp', x, axis, keepDims);
export const prod = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('prod', x, axis, keepDims);
/** Places that hold the largest share its gradient evenly. */
export const max = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('max', x, axis, keepDims);
/** Places that hold the smallest share its gradient evenly. */
export const min = (x: Tensor, axis?: Axes, keepDims = false) => reduceOf('min', x, axis, keepDims);
/** Inverted dropout; `key` names the random stream, so that a resumed run draws the same mask. */
export const dropout = (x: Tensor, key: DropoutKey) => (key.rate > 0 ? apply(dropoutOp, [x], key)[0] : x);

/** y ← alpha x + beta y in place, without a gradient: running statistics. */
export function blendInto(y: Tensor, x: Tensor, alpha: number, beta: number): void {
  if (y.size !== x.size) throw new ShapeError(`blendInto: [${x.shape}] into [${y.shape}]`);
  axpby(y.gpu, alpha, x.slice, beta, y.slice, y.size, 'blendInto');
}

export type { BeamStep, LengthPenalty, LimitAttrs } from '../../kernels/beam.ts';
export type { DropoutKey, Live } from '../../kernels/elementwise.ts';
export type { ScatterReduction } from '../../kernels/gather.ts';
export type { Score } from '../../kernels/recurrent.ts';
export type { MixAttrs, SampleAttrs } from '../../kernels/rows.ts';
export { einsum } from '../einsum.ts';
export { type ScaledDotProductAttrs, type ScaledDotProductOptions, scaledDotProductAttention } from './attention.ts';
export { type AttentionLstmAttrs, type AttentionLstmInputs, attentionLstm } from './attention_lstm.ts';
export { type BeamAttrs, beamSelect, limitTokens } from './beam.ts';
export { type ConvOptions, conv1d, conv2d, convBlock, type SequenceConvOptions } from './conv.ts';
export { type ConvTransposeOptions, convTranspose1d, convTranspose2d, convTranspose3d } from './conv_transpose.ts';
export { conv3d, type VolumeConvOptions } from './conv_volume.ts';
export { embedding } from './embedding.ts';
export { gather, gatherElements, gatherNd, scatterElements, scatterNd } from './gather.ts';
export { fromHalves } from './halves.ts';
export { type MatmulOptions, matmul } from './matmul.ts';
export { batchNormEval, batchNormTrain, groupNorm, layerNorm, rmsNorm } from './norm.ts';
export { type PadMode, pad } from './pad.ts';
export { globalAveragePool, globalLpPool, globalMaxPool, maxPoolWithIndices, maxUnpool, type PoolOptions, pool } from './pool.ts';
export { additiveAttention, gruCell, lstmCell } from './recurrent.ts';
export { type ResizeCoordinates, type ResizeMode, type ResizeOptions, type ResizeRounding, resize } from './resize.ts';
export { type ArgmaxOptions, argmax, argmaxToken, argmin, crossEntropy, mixTokens, oneHot, sample, softmax, topK } from './rows.ts';
export { type CumSumOptions, cumSum } from './scan.ts';
export { where } from './select.ts';
export { broadcastTo, concat, type DepthMode, depthToSpace, flip, reshape, slice, spaceToDepth, split, tile, transpose, trilu } from './shape.ts';
export type { Layout } from './windows.ts';
