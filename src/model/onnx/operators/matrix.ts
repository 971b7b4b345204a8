/** Products of matrices, and what normalizes rows and channels. */
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { broadcastShapes, type Shape, sameShape, sizeOf } from '../../../tensor/shape.ts';
import type { Tensor } from '../../../tensor/tensor.ts';
import { attribute, type Check, CONSUMED, type Context, flag, float, ints, NEWEST, type Operators, plain, type Results, wordOf } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import type { Value } from '../values.ts';
import { shown } from '../wire.ts';

function checkBatchNorm(node: OnnxNode, c: Check): void {
  if (node.attributes.get('training_mode') !== 1 && node.outputs.slice(1).some((name) => name !== '')) c.unsupported('statistics as outputs');
  if (node.attributes.get('spatial') === 0) c.unsupported('spatial 0');
  const shapes = node.inputs.slice(1).map((name) => c.constant(name)?.shape ?? null);
  const first = shapes.find((shape) => shape !== null);
  shapes.forEach((shape, i) => {
    if (shape && (shape.length !== 1 || shape.join() !== first?.join()))
      c.fail(`"${shown(node.inputs[i + 1])}" is [${shape}], every parameter has one number a channel, here [${first}]`);
  });
}

function gemm(c: Context): Value {
  const [transA, transB] = [c.number('transA', 0) === 1, c.number('transB', 0) === 1];
  const [alpha, beta] = [c.number('alpha', 1), c.number('beta', 1)];
  const [a, b] = [c.plain(0), c.plain(1)];
  if (a.rank !== 2 || b.rank !== 2) throw new GlimpseError(`[${a.shape}] and [${b.shape}]; two axes each are expected`);
  const out = [a.shape[transA ? 1 : 0], b.shape[transB ? 0 : 1]];
  c.model.budget.expect(out, a.shape[transA ? 0 : 1]);
  let product = ops.matmul(a, b, { transA, transB });
  if (alpha !== 1) product = ops.scale(product, alpha);
  if (!c.has(2)) return plain(product);
  const addend = c.plain(2);
  const fits = c.opset >= 7 || c.number('broadcast', 0) === 1 ? sameShape(broadcastShapes(addend.shape, out, 'Gemm'), out) : sameShape(addend.shape, out);
  if (!fits) throw new GlimpseError(`C [${addend.shape}] does not repeat to [${out}]`);
  return plain(ops.add(product, beta === 1 ? addend : ops.scale(addend, beta)));
}

/** NumPy's matmul: an operand of one axis is a row or a column, axes before the last two are batches that broadcast. */
function matmul(c: Context): Value {
  const [a, b] = [c.plain(0), c.plain(1)];
  if (a.rank === 0 || b.rank === 0) throw new GlimpseError(`[${a.shape}] and [${b.shape}]: a single number is no matrix`);
  const [inner, rows] = [a.shape[a.rank - 1], b.rank === 1 ? 0 : b.rank - 2];
  if (b.shape[rows] !== inner) throw new GlimpseError(`[${a.shape}] and [${b.shape}]: the inner extents ${inner} and ${b.shape[rows]} differ`);
  const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2), 'MatMul');
  c.model.budget.expect([...batch, ...a.shape.slice(-2, -1), ...(b.rank === 1 ? [] : b.shape.slice(-1))], inner);
  if (!c.has(2)) return plain(ops.matmul(a, b));
  // A bias for the columns of a constant matrix: all axes but the last are rows.
  const product = ops.matmul(ops.reshape(a, [sizeOf(a.shape.slice(0, -1)), inner]), b, { bias: c.plain(2) });
  return plain(ops.reshape(product, [...a.shape.slice(0, -1), b.shape[1]]));
}

/** Scores as matrices, for batches that broadcast: q kᵀ · scale + mask. */
function scoresOf(q: Tensor, k: Tensor, scale: number, mask: Tensor | undefined): Tensor {
  const turned = ops.transpose(k, [...k.shape.slice(0, -2).map((_, i) => i), k.rank - 1, k.rank - 2]);
  const scores = ops.scale(ops.matmul(q, turned), scale);
  return mask ? ops.add(scores, mask) : scores;
}

/**
 * softmax(q kᵀ · scale + mask) v over the last two axes, q [.., T, D], k [.., S, D], v [.., S, E]. With windows [W, H, T, S], input 4
 * is added to the scores as [N, W, H, T, S].
 */
function attention(c: Context): Value {
  const [q, k, v] = [c.plain(0), c.plain(1), c.plain(2)];
  const mask = c.has(3) ? c.plain(3) : undefined;
  const scale = c.number('scale', 1);
  const batch = q.shape.slice(0, -2);
  const [length, width] = q.shape.slice(-2);
  const scoresShape = [...batch, length, k.shape[k.rank - 2]];
  if (q.rank >= 2) c.model.budget.expect(scoresShape, width + v.shape[v.rank - 1]);
  const isPlain = (q.rank === 3 || q.rank === 4) && [k, v].every((x) => x.rank === q.rank && sameShape(x.shape.slice(0, -2), batch));
  if (c.has(4)) return plain(windowAttention(c, q, k, v, mask, c.plain(4), isPlain));
  const isMask = !mask || (mask.rank <= q.rank && isPlain && sameShape(broadcastShapes(mask.shape, scoresShape, 'the mask'), scoresShape));
  if (!isPlain || !isMask) return plain(ops.matmul(ops.softmax(scoresOf(q, k, scale, mask)), v)); // batches that broadcast
  const fourAxes = (x: Tensor): Tensor => (q.rank === 4 ? x : ops.reshape(x, [x.shape[0], 1, ...x.shape.slice(1)]));
  const spread = mask && (q.rank === 4 || mask.rank < 3 ? mask : fourAxes(mask));
  const out = ops.scaledDotProductAttention(fourAxes(q), fourAxes(k), fourAxes(v), { scale, ...(spread ? { mask: spread } : {}) });
  return plain(ops.reshape(out, [...batch, length, v.shape[v.rank - 1]]));
}

/** The heads of all windows of a picture count as its heads: so a mask of each window is one of each head. */
function windowAttention(c: Context, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | undefined, mask: Tensor, isPlain: boolean): Tensor {
  const scale = c.number('scale', 1);
  const [windows, heads, queries, keys] = c.list('windows') as number[];
  const [batch] = q.shape;
  const isOf = isPlain && sameShape(q.shape, [batch, heads, queries, q.shape[3]]) && k.shape[2] === keys && batch % windows === 0;
  const known = [windows, heads, queries, keys];
  const repeats = ({ shape }: Tensor): boolean => {
    const own = shape.slice(-known.length);
    return (
      shape.slice(0, -known.length).every((extent) => extent === 1) && own.every((extent, i) => extent === 1 || extent === known[i + known.length - own.length])
    );
  };
  // A bias has no axis of windows, so one of four axes is of all pictures only if its first extent is 1.
  const fits = isOf && repeats(mask) && (!bias || (repeats(bias) && (bias.rank < 4 || bias.shape[0] === 1)));
  if (!fits) {
    const pictures = (x: Tensor, each: Shape): Tensor => ops.reshape(x, [x.size / sizeOf(each), ...each]);
    const scores = ops.add(pictures(scoresOf(q, k, scale, bias), known), mask);
    return ops.matmul(ops.softmax(pictures(scores, known.slice(1))), v);
  }
  const ofWindow = ops.reshape(mask, mask.shape.slice(-known.length));
  const sum = ops.broadcastTo(bias ? ops.add(ofWindow, bias) : ofWindow, known);
  const apart = (x: Tensor): Tensor => ops.reshape(x, [batch / windows, windows * heads, ...x.shape.slice(2)]);
  const out = ops.scaledDotProductAttention(apart(q), apart(k), apart(v), { scale, mask: ops.reshape(sum, [1, windows * heads, queries, keys]) });
  return ops.reshape(out, [...q.shape.slice(0, 3), v.shape[3]]);
}

function batchNormalization(c: Context): Results {
  const [gamma, beta, mean, variance] = [1, 2, 3, 4].map((i) => c.plain(i));
  const eps = c.number('epsilon', 1e-5);
  const [input, layout] = [c.plain(0), c.layout];
  if (input.rank < 2) throw new GlimpseError(`[${input.shape}] has no axis of channels`);
  if (c.number('training_mode', 0) === 1) {
    // Ioffe & Szegedy 2015; the running statistics are outputs, with the variance of the batch itself.
    const { y, mean: batchMean, variance: batchVariance } = ops.batchNormTrain(input, gamma, beta, eps, layout);
    const momentum = c.number('momentum', 0.9);
    const blended = (running: Tensor, batch: Tensor): Value => plain(ops.add(ops.scale(running, momentum), ops.scale(batch, 1 - momentum)));
    return [plain(y), blended(mean, batchMean), blended(variance, batchVariance)];
  }
  if (!c.model.training) return plain(ops.batchNormEval(input, gamma, beta, mean, variance, eps, layout));
  const result = ops.batchNormTrain(input, gamma, beta, eps, layout);
  c.model.updateRunning(c.node, result.mean, result.variance, input.size / gamma.size);
  return plain(result.y);
}

/** The product over all labels bounds what the steps of an einsum add up, and the output's what it holds. */
function boundLabels(c: Context, equation: string, tensors: readonly Tensor[]): void {
  const [inputs, output] = equation.split('->');
  const extents = new Map<string, number>();
  inputs.split(',').forEach((labels, i) => {
    const shape = tensors[i]?.shape ?? [];
    const named = labels.replace('...', '');
    const before = labels.includes('...') ? labels.indexOf('...') : named.length;
    const dots = labels.includes('...') ? shape.length - named.length : 0;
    const meet = (label: string, extent = 1): void => {
      extents.set(label, Math.max(extents.get(label) ?? 1, extent));
    };
    for (const [k, label] of [...named].entries()) meet(label, shape[k < before ? k : k + dots]);
    for (let k = 0; k < dots; k++) meet(`.${dots - k}`, shape[before + k]);
  });
  const held = [...extents].filter(([label]) => output === undefined || label.startsWith('.') || output.includes(label)).map(([, extent]) => extent);
  c.model.budget.expect(held, sizeOf([...extents.values()]) / Math.max(1, sizeOf(held)));
}

export const MATRIX: Operators = {
  Gemm: {
    inputs: (opset) => [opset >= 11 ? 2 : 3, 3],
    attributes: { alpha: float, beta: float, transA: flag, transB: flag, broadcast: attribute('flag', { until: 6 }) },
    device: gemm,
  },
  MatMul: { inputs: [2, 2], attributes: {}, device: matmul },
  Einsum: {
    inputs: [1, NEWEST],
    attributes: { equation: attribute('string', { required: true }) },
    device: (c) => {
      const tensors = c.inputs.map((_, i) => c.plain(i));
      const equation = wordOf(c.node, 'equation', '').replaceAll(' ', '');
      boundLabels(c, equation, tensors);
      return plain(ops.einsum(equation, tensors));
    },
  },
  // Made by the passes, never read from a file.
  FusedMatMul: { inputs: [3, 3], attributes: {}, device: matmul },
  FusedAttention: { inputs: [3, 5], attributes: { scale: float, windows: ints }, device: attention },
  BatchNormalization: {
    inputs: [5, 5],
    outputs: [1, 3],
    attributes: {
      ...CONSUMED,
      epsilon: float,
      momentum: float,
      spatial: attribute('flag', { until: 8 }),
      is_test: attribute('flag', { until: 6 }),
      training_mode: attribute('flag', { since: 14 }),
    },
    layout: 'channels',
    check: checkBatchNorm,
    device: batchNormalization,
  },
};
