/** Scaled dot-product attention, fused: scores, mask, softmax and weighted sum in one pass that keeps no matrix of scores. */
import { ShapeError } from '../../errors.ts';
import {
  scaledDotProduct as attentionKernel,
  type ScaledDotProductProblem,
  type ScaledDotProductSizes,
  scaledDotProductGradKeys,
  scaledDotProductGradQuery,
  scaledDotProductRows,
} from '../../kernels/attention.ts';
import { broadcastShapes, broadcastStrides, type Shape, sameShape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor, zeros } from '../../tensor/tensor.ts';
import { expectRank, type Op, type OpCase, reference } from '../op.ts';
import { apply } from '../tape.ts';

/** How scores become weights. */
export interface ScaledDotProductAttrs {
  /** The scores are multiplied by it, before the mask is added. */
  scale: number;
  /** Query i sees the keys up to i + S − T, so the last query sees all. */
  causal: boolean;
}

const NAME = 'scaledDotProductAttention';

function sizes([q, k, v, mask]: readonly Shape[]): ScaledDotProductSizes {
  for (const [name, shape] of Object.entries({ q, k, v })) expectRank(NAME, name, shape, 4);
  const [pictures, heads, queries, width] = q;
  const [keys, valuesWidth] = [k[2], v[3]];
  const told = `${NAME}: q [${q}], k [${k}], v [${v}]`;
  for (const other of [k, v])
    if (!sameShape(other.slice(0, 2), q.slice(0, 2))) throw new ShapeError(`${told}: all need the same batch and heads, [${q.slice(0, 2)}, …]`);
  if (k[3] !== width) throw new ShapeError(`${told}: a query is ${width} wide, a key ${k[3]}`);
  if (v[2] !== keys) throw new ShapeError(`${told}: there are ${keys} keys and ${v[2]} values`);
  const scores = [pictures, heads, queries, keys];
  if (mask && (mask.length > 4 || !sameShape(broadcastShapes(mask, scores, `${NAME}: mask and scores`), scores)))
    throw new ShapeError(`${NAME}: mask [${mask}] does not broadcast to the scores [${scores}]`);
  return { batch: pictures * heads, heads, queries, keys, width, valuesWidth };
}

/** Keys that query i sees, counted from the first. */
const seenBy = (i: number, { queries, keys }: ScaledDotProductSizes, causal: boolean): number =>
  causal ? Math.max(0, Math.min(keys, i + 1 + keys - queries)) : keys;

function problem(inputs: readonly Tensor[], attrs: ScaledDotProductAttrs, label: string): ScaledDotProductProblem {
  const [q, k, v, mask] = inputs;
  const found = sizes(inputs.map(({ shape }) => shape));
  return {
    ...found,
    ...attrs,
    ...{ q: q.slice, k: k.slice, v: v.slice, label },
    mask: mask ? { slice: mask.slice, strides: broadcastStrides(mask.shape, [...q.shape.slice(0, 3), k.shape[2]]) } : null,
  };
}

const SCALE = { scale: 0.4, causal: false };
const CAUSAL = { scale: 0.5, causal: true };

/** [B, H] = [1, 2] or [2, 2]; T, S, D, E; the shape of the mask. */
const sized = (name: string, [b, h, t, s, d, e]: number[], attrs: ScaledDotProductAttrs, mask?: Shape, draw = 'normal'): OpCase<ScaledDotProductAttrs> => ({
  name,
  shapes: [[b, h, t, d], [b, h, s, d], [b, h, s, e], ...(mask ? [mask] : [])],
  attrs,
  ...(mask ? { draw: ['normal', 'normal', 'normal', draw] } : {}),
});

export const scaledDotProductOp: Op<ScaledDotProductAttrs> = {
  name: NAME,
  doc: {
    equation:
      's[i, j] = scale Σ_d q[i, d] k[j, d] + mask[i, j]; y[i] = Σⱼ softmax(s[i])[j] v[j], for each picture and head. With causal, i sees only the keys j ≤ i + S − T. A query that sees no key, or scores of −∞ only, gets zeros.',
    gradient:
      'with p = softmax(s): dv[j] = Σᵢ p[i, j] dy[i]; ds[i, j] = p[i, j] (dy[i] · v[j] − dy[i] · y[i]); dq = scale ds k, dk = scale dsᵀ q. mask is constant.',
    tensors: {
      q: '[B, H, T, D]: queries',
      k: '[B, H, S, D]: keys',
      v: '[B, H, S, E]: values',
      mask: 'broadcasts to [B, H, T, S], and is added to the scores: 0 or −∞, or any bias; may be left out',
      y: '[B, H, T, E]',
    },
    example:
      'ops.scaledDotProductAttention(tensor([1, 0, 0, 1], [1, 1, 2, 2]), tensor([1, 0, 0, 1], [1, 1, 2, 2]), tensor([10, 20], [1, 1, 2, 1]), { causal: true })',
    refused: [
      'ops.scaledDotProductAttention(zeros([2, 3, 4]), zeros([2, 3, 4]), zeros([2, 3, 4]))',
      'ops.scaledDotProductAttention(zeros([1, 2, 3, 4]), zeros([1, 2, 5, 8]), zeros([1, 2, 5, 4]))',
      'ops.scaledDotProductAttention(zeros([1, 2, 3, 4]), zeros([1, 2, 5, 4]), zeros([1, 2, 6, 4]))',
      'ops.scaledDotProductAttention(zeros([1, 2, 3, 4]), zeros([1, 2, 5, 4]), zeros([1, 2, 5, 4]), { mask: zeros([3, 4]) })',
    ],
  },
  inputs: ['q', 'k', 'v', 'mask'],
  outputs: ['y'],
  constants: ['mask'],
  shape: (shapes) => {
    sizes(shapes);
    const [q, , v] = shapes;
    return [[...q.slice(0, 3), v[3]]];
  },
  forward: ({ gpu, inputs, outputs: [y], attrs, label, training, save }) => {
    const stats = empty(training ? [...y.shape.slice(0, 3), 2] : [2], 'f32', label);
    if (y.size > 0) attentionKernel(gpu, problem(inputs, attrs, label), y.slice, stats.slice, training);
    save('stats', stats);
  },
  saves: ['q', 'k', 'v', 'mask', 'y'],
  backward: ({ gpu, attrs, saved, grads: [dy], label }) => {
    const { q, k, v, mask, y, stats } = saved;
    const given = problem(mask ? [q, k, v, mask] : [q, k, v], attrs, label);
    let rows: Tensor | null = null;
    const known = () => {
      if (!rows) {
        rows = empty([...q.shape.slice(0, 3), 4], 'f32', label);
        scaledDotProductRows(gpu, y.slice, dy.slice, stats.slice, rows.slice, given.batch * given.queries, given.valuesWidth, label);
      }
      return rows;
    };
    let ofKeys: [Tensor, Tensor] | null = null;
    const both = () => {
      if (!ofKeys) {
        ofKeys = y.size > 0 && k.size + v.size > 0 ? [empty(k.shape, 'f32', label), empty(v.shape, 'f32', label)] : [zeros(k.shape), zeros(v.shape)];
        const [dk, dv] = ofKeys;
        if (y.size > 0 && k.size + v.size > 0) scaledDotProductGradKeys(gpu, given, dy.slice, known().slice, dk.slice, dv.slice);
      }
      return ofKeys;
    };
    const query = () => {
      if (y.size === 0 || q.size === 0) return zeros(q.shape);
      const dq = empty(q.shape, 'f32', label);
      scaledDotProductGradQuery(gpu, given, dy.slice, known().slice, dq.slice);
      return dq;
    };
    return [query, () => both()[0], () => both()[1], null];
  },
  reference: ([q, k, v, mask], { scale, causal }) => {
    const found = sizes([q, k, v, ...(mask ? [mask] : [])].map(({ shape }) => shape));
    const { batch, heads, queries, keys, width, valuesWidth } = found;
    const strides = mask ? broadcastStrides(mask.shape, [...q.shape.slice(0, 3), keys]) : [];
    const y = reference([...q.shape.slice(0, 3), valuesWidth]);
    for (let z = 0; z < batch; z++)
      for (let i = 0; i < queries; i++) {
        const row = (z * queries + i) * width;
        const ofMask = Math.floor(z / heads) * strides[0] + (z % heads) * strides[1] + i * strides[2];
        const scores = Array.from({ length: seenBy(i, found, causal) }, (_, j) => {
          const key = (z * keys + j) * width;
          let sum = 0;
          for (let d = 0; d < width; d++) sum += q.data[row + d] * k.data[key + d];
          return scale * sum + (mask ? mask.data[ofMask + j * strides[3]] : 0);
        });
        const most = scores.reduce((largest, s) => Math.max(largest, s), Number.NEGATIVE_INFINITY);
        if (most === Number.NEGATIVE_INFINITY) continue; // nothing is seen: zeros
        const weights = scores.map((s) => Math.exp(s - most));
        const total = weights.reduce((sum, p) => sum + p, 0);
        weights.forEach((p, j) => {
          for (let e = 0; e < valuesWidth; e++) y.data[(z * queries + i) * valuesWidth + e] += (p / total) * v.data[(z * keys + j) * valuesWidth + e];
        });
      }
    return [y];
  },
  cost: (shapes, outputs, { causal }) => {
    const found = sizes(shapes);
    const { batch, queries, width, valuesWidth } = found;
    const seen = Array.from({ length: queries }, (_, i) => seenBy(i, found, causal)).reduce((sum, count) => sum + count, 0);
    return { flops: batch * seen * (2 * width + 2 * valuesWidth + 5), bytes: 4 * [...shapes, ...outputs].reduce((sum, shape) => sum + sizeOf(shape), 0) };
  },
  cases: [
    sized('primes', [1, 2, 13, 11, 7, 5], SCALE),
    sized('one query, one key', [2, 1, 1, 1, 4, 4], SCALE),
    sized('primes, several tiles', [1, 1, 37, 67, 3, 5], SCALE),
    sized('by fours, several tiles', [1, 2, 37, 41, 12, 8], SCALE),
    sized('by fours, several blocks of columns', [2, 1, 5, 35, 36, 40], SCALE),
    sized('causal, by fours', [1, 2, 37, 37, 4, 8], CAUSAL),
    sized('causal, after others, primes', [1, 1, 7, 41, 3, 5], CAUSAL),
    sized('causal, after others, by fours', [1, 2, 7, 41, 8, 4], CAUSAL),
    sized('causal, the first queries see no key', [1, 1, 41, 35, 4, 4], CAUSAL),
    sized('a mask of each picture, a value of −∞', [2, 2, 5, 9, 4, 4], SCALE, [2, 1, 1, 9], 'normal with -Infinity'),
    sized('a mask of queries and keys, a value of −∞', [1, 2, 35, 38, 8, 4], SCALE, [35, 38], 'normal with -Infinity'),
    sized('a mask of queries: all scores of one are −∞', [1, 2, 6, 35, 4, 8], SCALE, [1, 1, 6, 1], 'normal with -Infinity'),
    sized('a mask of all, causal, primes', [2, 2, 7, 5, 3, 5], CAUSAL, [2, 2, 7, 5]),
    sized('one score is far above all others', [1, 1, 3, 37, 4, 4], SCALE, [37], 'normal with 10000'),
  ],
  family: 'scaled_dot_product',
  gradientFamilies: ['scaled_dot_product_grad_query', 'scaled_dot_product_grad_keys'],
  tolerance: { rtol: 1e-5, atol: 5e-6, why: 'exp of software drivers is good to 4e-6' },
};

/** Options of `scaledDotProductAttention`. */
export interface ScaledDotProductOptions {
  /** Added to the scores: a tensor that broadcasts to [B, H, T, S]. It gets no gradient. */
  mask?: Tensor;
  /** The scores are multiplied by it, before the mask is added; 1 / √D if left out. */
  scale?: number;
  /** Query i sees only the keys up to i + S − T: the last query sees all keys, so those of earlier words may be in a cache. */
  causal?: boolean;
}

/**
 * softmax(scale q kᵀ + mask) v for each picture and head, without a matrix of scores: q [B, H, T, D], k [B, H, S, D], v [B, H, S, E] →
 * [B, H, T, E]. A query that sees no key gets zeros: a caption of padding alone must not turn a whole batch into NaN.
 */
export function scaledDotProductAttention(q: Tensor, k: Tensor, v: Tensor, options: ScaledDotProductOptions = {}): Tensor {
  const { mask, scale = 1 / Math.sqrt(Math.max(1, q.shape[q.rank - 1] ?? 1)), causal = false } = options;
  return apply(scaledDotProductOp, mask ? [q, k, v, mask] : [q, k, v], { scale, causal })[0];
}
