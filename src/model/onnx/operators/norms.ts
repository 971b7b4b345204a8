/** Normalization of layers, instances and neighboring channels. */
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { normalizeAxis, sizeOf } from '../../../tensor/shape.ts';
import { full, type Tensor, zeros } from '../../../tensor/tensor.ts';
import { attribute, CONSUMED, type Context, float, int, type Operators, plain } from '../operator.ts';
import type { Value } from '../values.ts';

/** Ba et al. 2016, over the axes from `axis` on. Scale and bias have the shape of these axes, or one that repeats to it. */
function layerNormalization(c: Context): (Value | null)[] {
  const x = c.plain(0);
  const axis = normalizeAxis(c.number('axis', -1), x.shape, 'LayerNormalization');
  if (c.number('stash_type', 1) !== 1) c.unsupported(`stash_type ${c.number('stash_type', 1)}; statistics are float32`);
  const [outer, inner] = [x.shape.slice(0, axis), x.shape.slice(axis)];
  const eps = c.number('epsilon', 1e-5);
  c.model.budget.expect(inner); // scale and bias are made as wide, also beside an extent of 0
  const rows = ops.reshape(x, [sizeOf(outer), sizeOf(inner)]);
  const whole = (i: number): Tensor => ops.reshape(ops.broadcastTo(c.plain(i), inner), [sizeOf(inner)]);
  const scale = whole(1);
  const bias = c.has(2) ? whole(2) : zeros([sizeOf(inner)]);
  const out = plain(ops.reshape(ops.layerNorm(rows, scale, bias, eps), x.shape));
  if (!c.wants(1) && !c.wants(2)) return [out];
  const mean = ops.mean(rows, 1, true);
  const centered = ops.sub(rows, mean);
  const deviation = ops.reciprocal(ops.sqrt(ops.addScalar(ops.mean(ops.square(centered), 1, true), eps)));
  const shape = [...outer, ...inner.map(() => 1)];
  return [out, plain(ops.reshape(mean, shape)), plain(ops.reshape(deviation, shape))];
}

/** Wu & He 2018: each group of channels of an instance has its own mean and variance. Scale and bias are those of a channel. */
function byGroups(c: Context, groups: number, x: Tensor, scale: Tensor, bias: Tensor): Value {
  const channels = x.shape[1];
  if (x.rank < 3) throw new GlimpseError(`[${x.shape}] has no places after its axis of channels`);
  if (!(groups >= 1) || channels % groups !== 0) throw new GlimpseError(`${groups} groups do not divide the ${channels} channels`);
  return plain(ops.groupNorm(x, scale, bias, groups, c.number('epsilon', 1e-5)));
}

function groupNormalization(c: Context): Value {
  const [x, scale, bias] = [c.plain(0), c.plain(1), c.plain(2)];
  const groups = c.number('num_groups', 1);
  const channels = x.shape[1];
  // Before opset 21 there is one scale a group.
  const spread = (each: Tensor): Tensor =>
    c.opset < 21 ? ops.reshape(ops.broadcastTo(ops.reshape(each, [each.size, 1]), [each.size, channels / each.size]), [channels]) : each;
  if (c.opset < 21 && (scale.size !== groups || bias.size !== groups))
    throw new GlimpseError(`scale [${scale.shape}] and bias [${bias.shape}] for ${groups} groups`);
  return byGroups(c, groups, x, spread(scale), spread(bias));
}

/** Krizhevsky et al. 2012: y = x / (bias + alpha / size Σ x²)^beta over `size` neighboring channels. */
function localResponse(c: Context): Value {
  const x = c.plain(0);
  if (x.rank < 3) throw new GlimpseError(`[${x.shape}] has no axis of channels and places`);
  const size = c.number('size', 0);
  if (!(size >= 1)) throw new GlimpseError(`size ${size}, at least 1 is expected`);
  if (x.size === 0) return plain(ops.reshape(x, x.shape));
  const channels = x.shape[1];
  const [before, after] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)];
  c.model.budget.expect(x.shape, Math.min(size, channels));
  const squares = ops.reshape(ops.square(x), [x.shape[0], channels, sizeOf(x.shape.slice(2))]);
  const [count, , places] = squares.shape;
  const padding = (extent: number): Tensor => zeros([count, extent, places]);
  let sum: Tensor | null = null;
  for (let offset = -Math.min(before, channels - 1); offset <= Math.min(after, channels - 1); offset++) {
    const kept = channels - Math.abs(offset);
    const part = ops.slice(squares, [0, Math.max(0, offset), 0], [count, kept, places]);
    const shifted = offset === 0 ? part : ops.concat(offset > 0 ? [part, padding(offset)] : [padding(-offset), part], 1);
    sum = sum ? ops.add(sum, shifted) : shifted;
  }
  const inner = ops.addScalar(ops.scale(ops.reshape(sum as Tensor, x.shape), c.number('alpha', 1e-4) / size), c.number('bias', 1));
  // inner^(−beta) by logarithms: it is positive for every bias above 0.
  return plain(ops.mul(x, ops.exp(ops.scale(ops.log(inner), -c.number('beta', 0.75)))));
}

/** (x − mean) / √variance over axes, without a constant beneath the root but 1e-9, as the function of the standard has it. */
function meanVariance(c: Context): Value {
  const x = c.plain(0);
  const axes = (c.list('axes') ?? [0, 2, 3]).map((axis) => normalizeAxis(axis, x.shape, 'MeanVarianceNormalization')).sort((a, b) => b - a);
  const mean = (of: Tensor): Tensor => axes.reduce((sum, axis) => ops.mean(sum, axis, true), of);
  const centered = ops.sub(x, mean(x));
  return plain(ops.div(centered, ops.addScalar(ops.sqrt(mean(ops.square(centered))), 1e-9)));
}

/** Zhang & Sennrich 2019: x / √(mean x² + ε) · scale, over the axes from `axis` on. */
function rootMeanSquare(c: Context): Value {
  const x = c.plain(0);
  const axis = normalizeAxis(c.number('axis', -1), x.shape, 'RMSNormalization');
  const inner = x.shape.slice(axis);
  const scale = ops.reshape(ops.broadcastTo(c.plain(1), inner), [sizeOf(inner)]);
  const rows = ops.reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(inner)]);
  return plain(ops.reshape(ops.rmsNorm(rows, scale, c.number('epsilon', 1e-5)), x.shape));
}

/** x / ‖x‖ of norm 1 or 2 along an axis; 0 where the norm is 0. */
function lpNormalization(c: Context): Value {
  const x = c.plain(0);
  const axis = normalizeAxis(c.number('axis', -1), x.shape, 'LpNormalization');
  const p = c.number('p', 2);
  if (p !== 1 && p !== 2) throw new GlimpseError(`p is ${p}, 1 or 2 is expected`);
  const norm = p === 1 ? ops.sum(ops.abs(x), axis, true) : ops.sqrt(ops.sum(ops.square(x), axis, true));
  const isZero = ops.sub(full([], 1), ops.step(norm, 0));
  return plain(ops.div(x, ops.add(norm, isZero)));
}

export const NORMS: Operators = {
  LayerNormalization: { inputs: [2, 3], outputs: [1, 3], attributes: { axis: int, epsilon: float, stash_type: int }, device: layerNormalization },
  InstanceNormalization: {
    inputs: [3, 3],
    attributes: { ...CONSUMED, epsilon: float },
    device: (c) => byGroups(c, c.shape(0)[1], c.plain(0), c.plain(1), c.plain(2)),
  },
  GroupNormalization: {
    inputs: [3, 3],
    attributes: { epsilon: float, num_groups: attribute('int', { required: true }), stash_type: int },
    device: groupNormalization,
  },
  RMSNormalization: { inputs: [2, 2], attributes: { axis: int, epsilon: float, stash_type: int }, device: rootMeanSquare },
  LRN: { inputs: [1, 1], attributes: { alpha: float, beta: float, bias: float, size: attribute('int', { required: true }) }, device: localResponse },
  MeanVarianceNormalization: { inputs: [1, 1], attributes: { axes: attribute('ints') }, device: meanVariance },
  LpNormalization: { inputs: [1, 1], attributes: { axis: int, p: int }, device: lpNormalization },
};
