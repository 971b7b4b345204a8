/** Ops on rows: softmax, log-softmax, fused masked cross-entropy, top-k, argmax, sampling. */
import { ShapeError } from '../../errors.ts';
import { present } from '../../kernels/elementwise.ts';
import { reduce } from '../../kernels/reduce.ts';
import {
  argmaxToken as argmaxTokenKernel,
  crossEntropy as crossEntropyKernel,
  type MixAttrs,
  mixTokens as mixTokensKernel,
  oneHot as oneHotKernel,
  type SampleAttrs,
  sample as sampleKernel,
  softmaxGrad,
  softmax as softmaxKernel,
  topK as topKKernel,
} from '../../kernels/rows.ts';
import { pcg4d, uniformFromBits } from '../../random.ts';
import { normalizeAxis, type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { expectRank, type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { binaryOf } from './elementwise.ts';
import { reshape, transpose } from './shape.ts';

/** The last axis is the row. */
function rows(shape: Shape): { rows: number; n: number } {
  const n = shape[shape.length - 1] ?? 1;
  return { rows: sizeOf(shape) / Math.max(1, n), n };
}

/** For sorting numbers in falling order, a NaN first, as argmax and top-k of PyTorch have it. */
export const falling = (a: number, b: number): number => Number(Number.isNaN(b)) - Number(Number.isNaN(a)) || (b > a ? 1 : b < a ? -1 : 0);

const EXP = { rtol: 1e-5, atol: 5e-6, why: 'exp and log of software drivers are good to 4e-6' };

function softmaxOp(name: string, log: boolean): Op<null> {
  return {
    name,
    doc: {
      equation: log ? 'y = x − max x − ln Σ exp(x − max x), over the last axis' : 'y = exp(x − max x) / Σ exp(x − max x), over the last axis',
      gradient: log ? 'dx = dy − exp(y) Σ dy, the sum over the row' : 'dx = y (dy − Σ dy y), the sum over the row',
      tensors: { x: '[…, n]: scores', y: log ? 'as x: log-probabilities, in nats' : 'as x: probabilities' },
      example: `ops.softmax(tensor([1, 2, 3, 0, 0, 0], [2, 3])${log ? ', true' : ''})`,
      refused: [`ops.softmax(zeros([2, 0])${log ? ', true' : ''})`],
    },
    inputs: ['x'],
    outputs: ['y'],
    shape: ([x]) => {
      if (x.length === 0 || x[x.length - 1] === 0) throw new ShapeError(`${name}: [${x}] has no row`);
      return [x];
    },
    forward: ({ gpu, inputs: [x], outputs: [y], label }) => softmaxKernel(gpu, x.slice, y.slice, rows(x.shape).rows, rows(x.shape).n, log, label),
    saves: ['y'],
    backward: ({ gpu, saved: { y }, grads: [dy], label }) => [
      () => {
        const dx = empty(dy.shape, 'f32', label);
        softmaxGrad(gpu, y.slice, dy.slice, dx.slice, rows(y.shape).rows, rows(y.shape).n, log, label);
        return dx;
      },
    ],
    reference: ([x]) => {
      const { n } = rows(x.shape);
      const out = reference(x.shape);
      for (let base = 0; base < x.data.length; base += n) {
        const row = x.data.subarray(base, base + n);
        const largest = row.reduce((m, v) => Math.max(m, v), Number.NEGATIVE_INFINITY);
        const sum = row.reduce((s, v) => s + Math.exp(v - largest), 0);
        row.forEach((v, j) => {
          out.data[base + j] = log ? v - largest - Math.log(sum) : Math.exp(v - largest) / sum;
        });
      }
      return [out];
    },
    cost: (shapes, outputs) => streamingCost(shapes, outputs, 8),
    cases: [
      { name: 'primes', shapes: [[67, 113]], attrs: null },
      { name: 'multiple of 4', shapes: [[5, 14, 44]], attrs: null, draw: ['outliers'] },
      { name: 'one column', shapes: [[3, 1]], attrs: null },
      { name: 'long rows', shapes: [[3, 1228]], attrs: null },
      { name: 'a common offset', shapes: [[5, 148]], attrs: null, draw: ['normal plus 100000'] },
      { name: 'a logit of −∞', shapes: [[3, 44]], attrs: null, draw: ['normal with -Infinity'] },
      { name: 'a logit beyond the reach of exp', shapes: [[3, 148]], attrs: null, draw: ['normal with 200'] },
    ],
    family: 'softmax',
    gradientFamilies: ['softmax_grad'],
    tolerance: EXP,
  };
}

export const softmaxOps = { softmax: softmaxOp('softmax', false), logSoftmax: softmaxOp('logSoftmax', true) };

export interface CrossEntropyAttrs {
  /** ε of label smoothing (Szegedy and others 2016): the target shares ε of its weight with all words alike. */
  smoothing: number;
}

/**
 * loss = Σ_r weight[r] · (log Σ_j exp(logits[r, j]) − logits[r, target[r]]), in nats; its gradient is made in the same pass.
 * The mask is a weight of 0; means, and rewards, are weights too. A target from n on makes loss and gradient of its row NaN.
 */
export const crossEntropyOp: Op<CrossEntropyAttrs> = {
  name: 'crossEntropy',
  doc: {
    equation: 'rowLoss[r] = weights[r] (ln Σⱼ exp(logits[r, j]) − (1 − s) logits[r, targets[r]] − s meanⱼ logits[r, j]), with smoothing s; loss = Σ rowLoss',
    gradient:
      'dlogits[r, j] = dloss weights[r] (softmax(logits)[r, j] − (1 − s) [j = targets[r]] − s / n), made in the forward pass. Take it through loss: rowLoss is for reading. weights are constants.',
    tensors: {
      logits: '[rows, n]',
      targets: 'ids below n, as many as rows, in any shape; a larger one makes loss and gradient of its row NaN, unless its weight is 0',
      weights: 'as targets: what each row counts; 0 masks it, 1 / rows gives the mean',
      loss: '[], in nats',
      rowLoss: '[rows], in nats',
    },
    example: 'ops.crossEntropy(tensor([2, 0, 0, 0, 1, 0], [2, 3]), tensor(new Uint32Array([0, 2])), tensor([0.5, 0.5]))',
    refused: ['ops.crossEntropy(zeros([2, 3]), zeros([3], "u32"), zeros([2]))', 'ops.crossEntropy(zeros([2, 3, 4]), zeros([2], "u32"), zeros([2]))'],
  },
  inputs: ['logits', 'targets', 'weights'],
  inputTypes: ['f32', 'u32', 'f32'],
  ids: { targets: { below: ([logits]) => logits[1], masked: true } },
  outputs: ['loss', 'rowLoss'],
  constants: ['weights'],
  shape: ([logits, targets, weights]) => {
    expectRank('crossEntropy', 'logits', logits, 2);
    if (sizeOf(targets) !== logits[0] || sizeOf(weights) !== logits[0])
      throw new ShapeError(`crossEntropy: logits [${logits}] need ${logits[0]} targets and weights, got [${targets}] and [${weights}]`);
    return [[], [logits[0]]];
  },
  forward: ({ gpu, inputs: [logits, targets, weights], outputs: [loss, rowLoss], attrs, label, training, save }) => {
    const [count, n] = logits.shape;
    const dlogits = training ? empty(logits.shape, 'f32', label) : null;
    const unused = dlogits ? null : empty([4], 'f32', label);
    crossEntropyKernel(gpu, {
      logits: logits.slice,
      targets: targets.slice,
      weights: weights.slice,
      rowLoss: rowLoss.slice,
      dlogits: dlogits?.slice ?? null,
      unused: (unused ?? rowLoss).slice,
      rows: count,
      n,
      smoothing: attrs.smoothing,
      label,
    });
    reduce(gpu, { kind: 'sum', x: rowLoss.slice, y: loss.slice, outer: 1, n: count, inner: 1, label });
    unused?.dispose();
    if (dlogits) save('dlogits', dlogits);
  },
  backward: ({ saved: { dlogits }, grads: [dloss], flowed, unit }) => {
    if (flowed[1]) throw new ShapeError('crossEntropy: take the gradient through the loss; the rows are for reading');
    return [() => (unit ? dlogits.alias() : binaryOf('mul', dlogits, dloss)), null, null];
  },
  reference: ([logits, targets, weights], { smoothing }) => {
    const [count, n] = logits.shape;
    const rowLoss = reference([count], (r) => {
      if (weights.data[r] === 0) return 0;
      const row = logits.data.subarray(r * n, (r + 1) * n);
      const largest = row.reduce((m, v) => Math.max(m, v), Number.NEGATIVE_INFINITY);
      const sum = row.reduce((s, v) => s + Math.exp(v - largest), 0);
      const everywhere = smoothing > 0 ? (smoothing * row.reduce((s, v) => s + v, 0)) / n : 0; // 0 · (−∞) is no number
      return weights.data[r] * (largest + Math.log(sum) - (1 - smoothing) * row[targets.data[r]] - everywhere);
    });
    return [reference([], () => rowLoss.data.reduce((sum, v) => sum + v, 0)), rowLoss];
  },
  cost: ([logits]) => ({ flops: 8 * sizeOf(logits), bytes: 8 * sizeOf(logits) }),
  cases: [
    { name: 'primes', shapes: [[67, 113], [67], [67]], attrs: { smoothing: 0 }, draw: ['normal', 'ids:113', 'mask'] },
    { name: 'multiple of 4', shapes: [[67, 44], [67], [67]], attrs: { smoothing: 0 }, draw: ['outliers', 'ids:44', 'mask'] },
    { name: 'long rows', shapes: [[3, 1228], [3], [3]], attrs: { smoothing: 0 }, draw: ['normal', 'ids:1228', 'positive'] },
    { name: 'smoothed', shapes: [[31, 89], [31], [31]], attrs: { smoothing: 0.1 }, draw: ['normal', 'ids:89', 'mask'] },
    { name: 'smoothed, multiple of 4', shapes: [[7, 64], [7], [7]], attrs: { smoothing: 0.3 }, draw: ['normal', 'ids:64', 'mask'] },
    { name: 'smoothed, a common offset', shapes: [[5, 148], [5], [5]], attrs: { smoothing: 0.2 }, draw: ['normal plus 100000', 'ids:148', 'positive'] },
    { name: 'a logit beyond the reach of exp', shapes: [[3, 148], [3], [3]], attrs: { smoothing: 0 }, draw: ['normal with 200', 'ids:148', 'positive'] },
    { name: 'a logit of −∞', shapes: [[3, 148], [3], [3]], attrs: { smoothing: 0 }, draw: ['normal with -Infinity', 'ids:148', 'positive'] },
  ],
  family: 'cross_entropy',
  tolerance: { rtol: 1e-5, atol: 2e-5, why: 'sums of logarithms good to 4e-6 each' },
};

export interface TopKAttrs {
  k: number;
  /** Ids below this are never taken. */
  skipBelow: number;
}

export const topKOp: Op<TopKAttrs> = {
  name: 'topK',
  doc: {
    equation: 'the k largest x of each row in falling order, and where they stand; of equal ones the lower index first',
    tensors: {
      x: '[…, n]',
      values: '[…, k]',
      indices: '[…, k], none below skipBelow',
    },
    example: 'ops.topK(tensor([3, 1, 4, 1, 5], [1, 5]), 2)',
    refused: ['ops.topK(zeros([2, 3]), 4)'],
  },
  inputs: ['x'],
  outputs: ['values', 'indices'],
  outputTypes: ['f32', 'u32'],
  shape: ([x], { k, skipBelow }) => {
    const { n } = rows(x);
    if (!(k >= 1 && k + skipBelow <= n)) throw new ShapeError(`topK: ${k} of the ${n - skipBelow} allowed columns of [${x}]`);
    const shape = [...x.slice(0, -1), k];
    return [shape, shape];
  },
  forward: ({ gpu, inputs: [x], outputs: [values, indices], attrs, label }) =>
    topKKernel(gpu, x.slice, values.slice, indices.slice, rows(x.shape).rows, rows(x.shape).n, attrs.k, attrs.skipBelow, label),
  backward: 'a choice is flat everywhere',
  reference: ([x], { k, skipBelow }) => {
    const { rows: count, n } = rows(x.shape);
    const shape = [...x.shape.slice(0, -1), k];
    const order = Array.from({ length: count }, (_, r) =>
      Array.from({ length: n - skipBelow }, (_unused, j) => j + skipBelow)
        .sort((a, b) => falling(x.data[r * n + a], x.data[r * n + b]) || a - b)
        .slice(0, k),
    );
    const indices = reference(shape, (i) => order[Math.floor(i / k)][i % k]);
    return [reference(shape, (i) => x.data[Math.floor(i / k) * n + indices.data[i]]), indices];
  },
  cost: (shapes, outputs, { k }) => ({ flops: k * sizeOf(shapes[0]), bytes: streamingCost(shapes, outputs).bytes }),
  cases: [
    { name: 'argmax', shapes: [[67, 113]], attrs: { k: 1, skipBelow: 0 } },
    { name: 'ties', shapes: [[11, 41]], attrs: { k: 5, skipBelow: 2 }, draw: ['ids:4'] },
    { name: 'all, with −∞', shapes: [[3, 7]], attrs: { k: 7, skipBelow: 0 }, draw: ['normal with -Infinity'] },
    { name: 'ties in long rows', shapes: [[9, 300]], attrs: { k: 6, skipBelow: 4 }, draw: ['ids:60'] },
  ],
  family: 'top_k',
};

/** argmax over the words from id `skipBelow` on, and its log-probability among all: argmax_token.wgsl. logits [rows, n] → [rows], [rows]. */
export const argmaxTokenOp: Op<{ skipBelow: number }> = {
  name: 'argmaxToken',
  doc: {
    equation: 'token[r] = argmaxⱼ logits[r, j] over j ≥ skipBelow, the lower of equal ones; logProb[r] = ln softmax(logits)[r, token[r]], over all j',
    tensors: {
      logits: '[rows, n]',
      token: '[rows]',
      logProb: '[rows], in nats',
    },
    example: 'ops.argmaxToken(tensor([1, 3, 2], [1, 3]))',
    refused: ['ops.argmaxToken(zeros([2, 3]), 3)', 'ops.argmaxToken(zeros([3]))'],
  },
  inputs: ['logits'],
  outputs: ['token', 'logProb'],
  outputTypes: ['u32', 'f32'],
  shape: ([logits], { skipBelow }) => {
    expectRank('argmaxToken', 'logits', logits, 2);
    if (skipBelow >= logits[1]) throw new ShapeError(`argmaxToken: ids from ${skipBelow} on, of the ${logits[1]} columns of [${logits}]`);
    return [[logits[0]], [logits[0]]];
  },
  forward: ({ gpu, inputs: [logits], outputs: [token, logProb], attrs, label }) =>
    argmaxTokenKernel(gpu, logits.slice, token.slice, logProb.slice, logits.shape[0], logits.shape[1], attrs.skipBelow, label),
  backward: 'a choice is flat everywhere',
  reference: ([logits], { skipBelow }) => {
    const [{ data }] = softmaxOps.logSoftmax.reference([logits], null);
    const [count, n] = logits.shape;
    const token = reference([count], (r) => {
      let best = skipBelow;
      for (let j = skipBelow; j < n; j++) if (falling(logits.data[r * n + j], logits.data[r * n + best]) < 0) best = j;
      return best;
    });
    return [token, reference([count], (r) => data[r * n + token.data[r]])];
  },
  cost: ([logits]) => ({ flops: 5 * sizeOf(logits), bytes: 4 * sizeOf(logits) }),
  cases: [
    { name: 'primes', shapes: [[67, 113]], attrs: { skipBelow: 0 } },
    { name: 'multiple of 4, outliers', shapes: [[67, 44]], attrs: { skipBelow: 3 }, draw: ['outliers'] },
    { name: 'ties', shapes: [[13, 64]], attrs: { skipBelow: 5 }, draw: ['ids:3'] },
    { name: 'long rows', shapes: [[3, 1228]], attrs: { skipBelow: 4 } },
    { name: 'ties in long rows', shapes: [[9, 300]], attrs: { skipBelow: 4 }, draw: ['ids:3'] },
    { name: 'a logit beyond the reach of exp', shapes: [[3, 148]], attrs: { skipBelow: 0 }, draw: ['normal with 200'] },
    { name: 'a common offset, with −∞', shapes: [[5, 148]], attrs: { skipBelow: 1 }, draw: ['normal plus 100000 with -Infinity'] },
  ],
  family: 'argmax_token',
  tolerance: EXP,
};

const mix: MixAttrs = { probability: 0.4, seed: 3, step: 2, stream: 6, start: 2, end: 3 };

/** Words before each step, some replaced by the model's own: mix_tokens.wgsl. ids, own u32 [T, B] → [T, B]. */
export const mixTokensOp: Op<MixAttrs> = {
  name: 'mixTokens',
  doc: {
    equation:
      'mixed[t, b] = own[t − 1, b] with the probability given, else ids[t, b]. The first step, padding (0) and `start` stay; `end` is never put in. Scheduled sampling.',
    tensors: {
      ids: '[T, B]: the true token before each step',
      own: '[T, B]: the model’s token at each step',
      mixed: '[T, B]',
    },
    example:
      'ops.mixTokens(tensor(new Uint32Array([2, 5, 6]), [3, 1]), tensor(new Uint32Array([7, 8, 9]), [3, 1]), { probability: 1, seed: 1, step: 0, stream: 0, start: 2, end: 3 })',
    refused: ['ops.mixTokens(zeros([3, 2], "u32"), zeros([2, 2], "u32"), { probability: 1, seed: 1, step: 0, stream: 0, start: 2, end: 3 })'],
  },
  inputs: ['ids', 'own'],
  inputTypes: ['u32', 'u32'],
  outputs: ['mixed'],
  outputTypes: ['u32'],
  shape: ([ids, own]) => {
    expectRank('mixTokens', 'ids', ids, 2);
    if (own.join() !== ids.join()) throw new ShapeError(`mixTokens: the model's words are [${own}], the true ones [${ids}]`);
    return [ids];
  },
  forward: ({ gpu, inputs: [ids, own], outputs: [mixed], attrs, label }) =>
    mixTokensKernel(gpu, ids.slice, own.slice, mixed.slice, ids.shape[0], ids.shape[1], attrs, label),
  backward: 'words are chosen, not computed',
  reference: ([ids, own], { probability, seed, step, stream, start, end }) => [
    reference(ids.shape, (i) => {
      const rows = ids.shape[1];
      const word = ids.data[i];
      if (i < rows || word === 0 || word === start || own.data[i - rows] === end) return word;
      const u = uniformFromBits(pcg4d(seed, present(step), stream, i)[0]);
      return u < Math.fround(present(probability)) ? own.data[i - rows] : word;
    }),
  ],
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 30),
  cases: [
    {
      name: 'primes',
      shapes: [
        [13, 7],
        [13, 7],
      ],
      attrs: mix,
      draw: ['ids:29', 'ids:29'],
    },
    {
      name: 'few words, endseq often among them',
      shapes: [
        [13, 7],
        [13, 7],
      ],
      attrs: mix,
      draw: ['ids:5', 'ids:5'],
    },
    {
      name: 'always',
      shapes: [
        [5, 3],
        [5, 3],
      ],
      attrs: { ...mix, probability: 1 },
      draw: ['ids:7 plus 4', 'ids:7 plus 4'],
    },
    {
      name: 'never',
      shapes: [
        [3, 2],
        [3, 2],
      ],
      attrs: { ...mix, probability: 0 },
      draw: ['ids:5', 'ids:5'],
    },
  ],
};

const draw: SampleAttrs = { skipBelow: 0, topK: 0, topP: 1, temperature: 1, seed: 5, step: 2, stream: 9 };

/** One token per row, drawn from log-probabilities: sample.wgsl. */
export const sampleOp: Op<SampleAttrs> = {
  name: 'sample',
  doc: {
    equation:
      'token[r] is drawn with a probability proportional to exp(x[r, j] / temperature), among the topK likeliest and those that make up topP; logProb[r] = x[r, token[r]]',
    tensors: {
      x: '[rows, n]: log-probabilities',
      token: '[rows], none below skipBelow',
      logProb: '[rows], in nats',
    },
    example: 'ops.sample(ops.softmax(tensor([0, 1, 2, 3], [1, 4]), true), { skipBelow: 0, topK: 0, topP: 1, temperature: 1, seed: 1, step: 0, stream: 0 })',
    refused: [
      'ops.sample(zeros([1, 4]), { skipBelow: 4, topK: 0, topP: 1, temperature: 1, seed: 1, step: 0, stream: 0 })',
      'ops.sample(zeros([1, 4]), { skipBelow: 0, topK: 0, topP: 1, temperature: 0, seed: 1, step: 0, stream: 0 })',
    ],
  },
  inputs: ['x'],
  outputs: ['token', 'logProb'],
  outputTypes: ['u32', 'f32'],
  shape: ([x], { skipBelow, temperature, topP }) => {
    expectRank('sample', 'x', x, 2);
    if (skipBelow >= x[1]) throw new ShapeError(`sample: ids from ${skipBelow} on, of the ${x[1]} columns of [${x}]`);
    if (!(temperature > 0) || !(topP > 0)) throw new ShapeError(`sample: the temperature ${temperature} and the share ${topP} must be positive`);
    return [[x[0]], [x[0]]];
  },
  forward: ({ gpu, inputs: [x], outputs: [token, logProb], attrs, label }) =>
    sampleKernel(gpu, x.slice, token.slice, logProb.slice, x.shape[0], x.shape[1], attrs, label),
  backward: 'a choice is flat everywhere',
  reference: ([x], { skipBelow, topK: k, topP: p, temperature, seed, step, stream }) => {
    const [count, n] = x.shape;
    const token = reference([count], (r) => {
      const order = Array.from({ length: n - skipBelow }, (_, j) => j + skipBelow).sort((a, b) => falling(x.data[r * n + a], x.data[r * n + b]));
      if (Number.isNaN(x.data[r * n + order[0]])) return order[0];
      const kept = k > 0 ? order.filter((j) => x.data[r * n + j] >= x.data[r * n + order[Math.min(k, order.length) - 1]]) : order;
      const weights = kept.map((j) => Math.exp((x.data[r * n + j] - x.data[r * n + kept[0]]) / temperature));
      const wanted = p * weights.reduce((sum, value) => sum + value, 0);
      let sum = 0;
      const last = weights.findIndex((value) => {
        sum += value;
        return sum >= wanted;
      });
      const allowed = p < 1 ? kept.filter((j) => x.data[r * n + j] >= x.data[r * n + kept[last]]) : kept;
      const key = (j: number) => {
        const u = (Math.floor(pcg4d(seed, present(step), stream, r * n + j)[0] / 256) + 0.5) / 2 ** 24;
        return x.data[r * n + j] / temperature - Math.log(-Math.log(u));
      };
      return allowed.reduce((best, j) => (key(j) > key(best) ? j : best));
    });
    return [token, reference([count], (r) => x.data[r * n + token.data[r]])];
  },
  cost: ([x]) => ({ flops: 20 * sizeOf(x), bytes: 4 * sizeOf(x) }),
  cases: [
    { name: 'everything', shapes: [[67, 113]], attrs: draw },
    { name: 'few tokens', shapes: [[29, 3]], attrs: draw },
    { name: 'long rows', shapes: [[9, 1031]], attrs: draw },
    { name: 'cold, with −∞', shapes: [[11, 41]], attrs: { ...draw, temperature: 0.3, skipBelow: 3 }, draw: ['normal with -Infinity'] },
    { name: 'top 5', shapes: [[23, 67]], attrs: { ...draw, topK: 5 } },
    { name: 'top 0.6', shapes: [[23, 67]], attrs: { ...draw, topP: 0.6 } },
    { name: 'top 0.6, far below 0', shapes: [[11, 41]], attrs: { ...draw, topP: 0.6 }, draw: ['normal plus -300'] },
    { name: 'top 7 and 0.7, warm', shapes: [[13, 31]], attrs: { ...draw, topK: 7, topP: 0.7, temperature: 1.5 } },
  ],
};

/** 1 where the column is the row's id, else 0. ids u32 [rows] → [rows, n]. */
export const oneHotOp: Op<{ n: number }> = {
  name: 'oneHot',
  doc: {
    equation: 'y[r, j] = 1 where j = ids[r], else 0',
    tensors: {
      ids: '[rows], each below n. Ids from the host that are not are refused; one made on the device gives a row of NaN',
      y: '[rows, n]',
    },
    example: 'ops.oneHot(tensor(new Uint32Array([2, 0])), 3)',
    refused: ['ops.oneHot(zeros([2, 2], "u32"), 3)', 'ops.oneHot(tensor(new Uint32Array([3])), 3)'],
  },
  inputs: ['ids'],
  inputTypes: ['u32'],
  ids: { ids: { below: (_shapes, { n }) => n } },
  outputs: ['y'],
  outputTypes: ['f32'],
  shape: ([ids], { n }) => {
    expectRank('oneHot', 'ids', ids, 1);
    return [[ids[0], n]];
  },
  forward: ({ gpu, inputs: [ids], outputs: [y], attrs, label }) => oneHotKernel(gpu, ids.slice, y.slice, ids.shape[0], attrs.n, label),
  backward: 'whole numbers carry no gradient',
  reference: ([ids], { n }) => [
    reference([ids.shape[0], n], (i) => {
      const id = ids.data[Math.floor(i / n)];
      return id < n ? Number(i % n === id) : Number.NaN;
    }),
  ],
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 1),
  cases: [
    { name: 'primes', shapes: [[37]], attrs: { n: 41 }, draw: ['ids:41'] },
    { name: 'one column', shapes: [[5]], attrs: { n: 1 }, draw: ['ids:1'] },
    { name: 'more workgroups than fit in one dimension', shapes: [[2053]], attrs: { n: 2053 }, draw: ['ids:2053'] },
  ],
};

/**
 * ids u32 [rows] → [rows, n]. Throws a GlimpseError for an id from the host that is not below n; one made on the device gives a row
 * of NaN.
 */
export function oneHot(ids: Tensor, n: number): Tensor {
  return apply(oneHotOp, [ids], { n })[0];
}

/** Over the last axis, or over another, which is moved there and back. Throws a ShapeError for an axis that there is not. */
export function softmax(x: Tensor, log = false, axis = -1): Tensor {
  const op = log ? softmaxOps.logSoftmax : softmaxOps.softmax;
  if (axis === -1 || axis === x.rank - 1) return apply(op, [x], null)[0];
  const at = normalizeAxis(axis, x.shape, op.name);
  const columns = reshape(x, [sizeOf(x.shape.slice(0, at)), x.shape[at], sizeOf(x.shape.slice(at + 1))]);
  const [y] = apply(op, [transpose(columns, [0, 2, 1])], null);
  return reshape(transpose(y, [0, 2, 1]), x.shape);
}

/**
 * logits [rows, n], targets u32 [rows], weights [rows] → the weighted sum, and each row's part of it. A row of weight 0 is left out,
 * whatever its target and logits are. In any other row, a target that is not below n makes loss and gradient NaN.
 */
export function crossEntropy(logits: Tensor, targets: Tensor, weights: Tensor, smoothing = 0): { loss: Tensor; rowLoss: Tensor } {
  const [loss, rowLoss] = apply(crossEntropyOp, [logits, targets, weights], { smoothing });
  return { loss, rowLoss };
}

export function argmaxToken(logits: Tensor, skipBelow = 0): { token: Tensor; logProb: Tensor } {
  const [token, logProb] = apply(argmaxTokenOp, [logits], { skipBelow });
  return { token, logProb };
}

export function topK(x: Tensor, k: number, skipBelow = 0): { values: Tensor; indices: Tensor } {
  const [values, indices] = apply(topKOp, [x], { k, skipBelow });
  return { values, indices };
}

/** log-probabilities [rows, n] → a token for each row, and its log-probability. */
export function sample(x: Tensor, attrs: SampleAttrs): { token: Tensor; logProb: Tensor } {
  const [token, logProb] = apply(sampleOp, [x], attrs);
  return { token, logProb };
}

/** As the table's entry. */
export function mixTokens(ids: Tensor, own: Tensor, attrs: MixAttrs): Tensor {
  return apply(mixTokensOp, [ids, own], attrs)[0];
}
