/** Ops on rows: softmax, log-softmax, fused masked cross-entropy, top-k, argmax, sampling, one-hot. The last ones also along other axes. */
import { ShapeError } from '../../errors.ts';
import { present } from '../../kernels/elementwise.ts';
import { gatherRowsGrad } from '../../kernels/gather.ts';
import { reduce } from '../../kernels/reduce.ts';
import {
  argmax as argmaxKernel,
  argmaxToken as argmaxTokenKernel,
  crossEntropy as crossEntropyKernel,
  type Lines,
  type MixAttrs,
  mixTokens as mixTokensKernel,
  oneHot as oneHotKernel,
  type SampleAttrs,
  sample as sampleKernel,
  softmaxGrad,
  softmax as softmaxKernel,
  topK as topKKernel,
  topKSorted,
} from '../../kernels/rows.ts';
import { pcg4d, uniformFromBits } from '../../random.ts';
import { normalizeAxis, type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { expectRank, type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { binaryOf } from './elementwise.ts';
import { elementSelection } from './gather.ts';
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

/** A tensor as [outer, n, inner] around one axis. */
function linesOf(shape: Shape, axis: number): Lines {
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis], inner: sizeOf(shape.slice(axis + 1)) };
}

/** Rows of which so few are wanted are looked through once for each; more are sorted. */
const FEW = 64;

export interface TopKAttrs {
  k: number;
  /** Ids below this are never taken. */
  skipBelow: number;
  /** Left out: the last axis. */
  axis?: number;
  /** Takes the smallest. */
  smallest?: boolean;
}

export const topKOp: Op<TopKAttrs> = {
  name: 'topK',
  doc: {
    equation: 'the k largest x of each line in falling order, or the smallest in rising order, and where they stand; of equal ones the lower index first',
    gradient: 'dx = dvalues at the elements taken, 0 elsewhere',
    tensors: {
      x: '[…, n, …]; a NaN comes before all numbers, whichever end is taken from',
      values: '[…, k, …]',
      indices: '[…, k, …], none below skipBelow',
    },
    example: 'ops.topK(tensor([3, 1, 4, 1, 5], [1, 5]), 2)',
    refused: ['ops.topK(zeros([2, 3]), 4)', 'ops.topK(zeros([2, 3]), 1, 0, { axis: 2 })'],
  },
  inputs: ['x'],
  outputs: ['values', 'indices'],
  outputTypes: ['f32', 'u32'],
  shape: ([x], { k, skipBelow, axis = x.length - 1 }) => {
    const n = x[axis] ?? 1;
    if (!(k >= 1 && k + skipBelow <= n)) throw new ShapeError(`topK: ${k} of the ${n - skipBelow} allowed columns of [${x}]`);
    const shape = x.with(axis, k);
    return [shape, shape];
  },
  forward: ({ gpu, inputs: [x], outputs: [values, indices], attrs: { k, skipBelow, axis = x.rank - 1, smallest = false }, label }) => {
    const lines = linesOf(x.shape, axis);
    if (lines.inner === 1 && !smallest && k <= FEW) topKKernel(gpu, x.slice, values.slice, indices.slice, lines.outer, lines.n, k, skipBelow, label);
    else topKSorted(gpu, x.slice, values.slice, indices.slice, lines, { k, skipBelow, smallest }, label);
  },
  saves: ['indices'],
  routes: true,
  backward: ({ gpu, saved: { indices }, grads: [dvalues], inputShapes: [x], attrs: { axis = x.length - 1 }, label }) => [
    () => {
      const dx = empty(x, 'f32', label);
      gatherRowsGrad(gpu, dvalues.slice, indices.slice, dx.slice, elementSelection(x, indices.shape, axis), label);
      return dx;
    },
  ],
  reference: ([x], { k, skipBelow, axis = x.shape.length - 1, smallest = false }) => {
    const { n, inner } = linesOf(x.shape, axis);
    const shape = x.shape.with(axis, k);
    const at = (line: number, j: number) => x.data[(Math.floor(line / inner) * n + j) * inner + (line % inner)];
    const rising = (a: number, b: number) => Number(Number.isNaN(b)) - Number(Number.isNaN(a)) || a - b;
    const order = Array.from({ length: sizeOf(x.shape) / n }, (_, line) =>
      Array.from({ length: n - skipBelow }, (_unused, j) => j + skipBelow)
        .sort((a, b) => (smallest ? rising : falling)(at(line, a), at(line, b)) || a - b)
        .slice(0, k),
    );
    const lineOf = (i: number) => Math.floor(i / inner / k) * inner + (i % inner);
    const indices = reference(shape, (i) => order[lineOf(i)][Math.floor(i / inner) % k]);
    return [reference(shape, (i) => at(lineOf(i), indices.data[i])), indices];
  },
  cost: (shapes, outputs, { k }) => ({ flops: Math.min(k, FEW) * sizeOf(shapes[0]), bytes: streamingCost(shapes, outputs).bytes }),
  cases: [
    { name: 'argmax', shapes: [[67, 113]], attrs: { k: 1, skipBelow: 0 } },
    { name: 'ties', shapes: [[11, 41]], attrs: { k: 5, skipBelow: 2 }, draw: ['ids:4'] },
    { name: 'all, with −∞', shapes: [[3, 7]], attrs: { k: 7, skipBelow: 0 }, draw: ['normal with -Infinity'] },
    { name: 'ties in long rows', shapes: [[9, 300]], attrs: { k: 6, skipBelow: 4 }, draw: ['ids:60'] },
    { name: 'the smallest of a middle axis', shapes: [[3, 37, 5]], attrs: { k: 7, skipBelow: 0, axis: 1, smallest: true }, draw: ['distinct'] },
    { name: 'the largest of the first axis, ties', shapes: [[41, 13]], attrs: { k: 11, skipBelow: 3, axis: 0 }, draw: ['ids:9'] },
    { name: 'more than few, longer than a block sorts', shapes: [[3, 1031]], attrs: { k: 131, skipBelow: 5 }, draw: ['distinct'] },
  ],
  family: 'top_k',
};

interface ArgmaxAttrs {
  axis: number;
  /** Of equal ones the last. */
  last: boolean;
  keepDims: boolean;
}

function argmaxOp(name: string, smallest: boolean): Op<ArgmaxAttrs> {
  const size = smallest ? 'smallest' : 'largest';
  const shapeOf = (x: Shape, { axis, keepDims }: ArgmaxAttrs) => (keepDims ? x.with(axis, 1) : x.toSpliced(axis, 1));
  return {
    name,
    doc: {
      equation: `y = where the ${size} x of the axis stands, the first of equal ones (with last, the last). A NaN counts as the ${size}.`,
      tensors: { x: 'any shape', y: 'without the axis (with extent 1 in its place, if keepDims)' },
      example: `ops.${name}(tensor([3, 1, 4, 4, 1, 5], [2, 3]), 1)`,
      refused: [`ops.${name}(zeros([2, 0]), 1)`, `ops.${name}(zeros([2, 3]), 2)`],
    },
    inputs: ['x'],
    outputs: ['y'],
    outputTypes: ['u32'],
    shape: ([x], attrs) => {
      if (x[attrs.axis] === 0) throw new ShapeError(`${name}: axis ${attrs.axis} of [${x}] has no element`);
      return [shapeOf(x, attrs)];
    },
    forward: ({ gpu, inputs: [x], outputs: [y], attrs: { axis, last }, label }) =>
      argmaxKernel(gpu, x.slice, y.slice, linesOf(x.shape, axis), { smallest, last }, label),
    backward: 'a choice is flat everywhere',
    reference: ([x], attrs) => {
      const { n, inner } = linesOf(x.shape, attrs.axis);
      return [
        reference(shapeOf(x.shape, attrs), (i) => {
          let best = 0;
          const at = (j: number) => x.data[(Math.floor(i / inner) * n + j) * inner + (i % inner)];
          for (let j = 1; j < n; j++) {
            const before = smallest && !Number.isNaN(at(j)) && !Number.isNaN(at(best)) ? falling(at(best), at(j)) : falling(at(j), at(best));
            if (before < 0 || (before === 0 && attrs.last)) best = j;
          }
          return best;
        }),
      ];
    },
    cost: (shapes, outputs) => ({ ...streamingCost(shapes, outputs), flops: sizeOf(shapes[0]) }),
    cases: [
      { name: 'rows', shapes: [[67, 113]], attrs: { axis: 1, last: false, keepDims: false } },
      { name: 'columns, the last of ties', shapes: [[113, 37]], attrs: { axis: 0, last: true, keepDims: true }, draw: ['ids:7'] },
      { name: 'short middle axis, ties', shapes: [[7, 5, 67]], attrs: { axis: 1, last: false, keepDims: false }, draw: ['ids:3'] },
      { name: 'long rows, the last of ties', shapes: [[3, 1031]], attrs: { axis: 1, last: true, keepDims: false }, draw: ['ids:60'] },
      { name: 'infinities', shapes: [[5, 11]], attrs: { axis: 1, last: false, keepDims: false }, draw: [`normal with ${smallest ? '-' : ''}Infinity`] },
    ],
  };
}

export const argmaxOps = { argmax: argmaxOp('argmax', false), argmin: argmaxOp('argmin', true) };

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

export interface OneHotAttrs {
  n: number;
  /** Where the new axis stands in the result; left out: last. */
  axis?: number;
  /** 1 and 0, if left out. */
  on?: number;
  off?: number;
}

/** `on` where the index along the new axis is the id, else `off`. */
export const oneHotOp: Op<OneHotAttrs> = {
  name: 'oneHot',
  doc: {
    equation: 'y[…, j, …] = on where j = ids[…, …], else off',
    tensors: {
      ids: 'any shape, each below n. Ids from the host that are not are refused; one made on the device gives a line of NaN',
      y: 'as ids, with an axis of n more: the last one, or the one given',
    },
    example: 'ops.oneHot(tensor(new Uint32Array([2, 0])), 3)',
    refused: ['ops.oneHot(tensor(new Uint32Array([3])), 3)', 'ops.oneHot(zeros([2, 2], "u32"), 3, { axis: 3 })'],
  },
  inputs: ['ids'],
  inputTypes: ['u32'],
  ids: { ids: { below: (_shapes, { n }) => n } },
  outputs: ['y'],
  outputTypes: ['f32'],
  shape: ([ids], { n, axis = ids.length }) => [ids.toSpliced(axis, 0, n)],
  forward: ({ gpu, inputs: [ids], outputs: [y], attrs: { on = 1, off = 0, axis = ids.rank }, label }) =>
    oneHotKernel(gpu, ids.slice, y.slice, linesOf(y.shape, axis), on, off, label),
  backward: 'whole numbers carry no gradient',
  reference: ([ids], { n, on = 1, off = 0, axis = ids.shape.length }) => {
    const inner = sizeOf(ids.shape.slice(axis));
    return [
      reference(ids.shape.toSpliced(axis, 0, n), (i) => {
        const id = ids.data[Math.floor(i / inner / n) * inner + (i % inner)];
        return id >= n ? Number.NaN : Math.floor(i / inner) % n === id ? on : off;
      }),
    ];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 1),
  cases: [
    { name: 'primes', shapes: [[37]], attrs: { n: 41 }, draw: ['ids:41'] },
    { name: 'one column', shapes: [[5]], attrs: { n: 1 }, draw: ['ids:1'] },
    { name: 'a middle axis, other values', shapes: [[7, 11]], attrs: { n: 13, axis: 1, on: -2, off: 0.5 }, draw: ['ids:13'] },
    { name: 'more workgroups than fit in one dimension', shapes: [[2053]], attrs: { n: 2053 }, draw: ['ids:2053'] },
  ],
};

/**
 * ids u32 of any shape → the same with an axis of n more, the last one or `axis`: `on` (1) at the id, else `off` (0). Throws a
 * GlimpseError for an id from the host that is not below n; one made on the device gives a line of NaN.
 */
export function oneHot(ids: Tensor, n: number, { axis = -1, on = 1, off = 0 }: { axis?: number; on?: number; off?: number } = {}): Tensor {
  return apply(oneHotOp, [ids], { n, axis: normalizeAxis(axis, [...ids.shape, n], 'oneHot'), on, off })[0];
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

/**
 * The k largest of each line along an axis (the last one), sorted, and where they stand; or the smallest. Of equal ones the lower index
 * comes first, a NaN before all numbers. Indices below `skipBelow` are never taken. Throws a ShapeError if there are fewer than k.
 */
export function topK(
  x: Tensor,
  k: number,
  skipBelow = 0,
  { axis = -1, smallest = false }: { axis?: number; smallest?: boolean } = {},
): { values: Tensor; indices: Tensor } {
  const [values, indices] = apply(topKOp, [x], { k, skipBelow, axis: normalizeAxis(axis, x.shape, 'topK'), smallest });
  return { values, indices };
}

/** Options of `argmax` and `argmin`. */
export interface ArgmaxOptions {
  /** Take the last of equal ones, not the first. */
  last?: boolean;
  /** Leave the axis in place, with extent 1. */
  keepDims?: boolean;
}

/** Where the largest of the axis stands, u32. A NaN counts as the largest, as in NumPy. Throws a ShapeError for an axis of no element. */
export function argmax(x: Tensor, axis: number, { last = false, keepDims = false }: ArgmaxOptions = {}): Tensor {
  return apply(argmaxOps.argmax, [x], { axis: normalizeAxis(axis, x.shape, 'argmax'), last, keepDims })[0];
}

/** Where the smallest of the axis stands, u32. A NaN counts as the smallest, as in NumPy. Throws a ShapeError for an axis of no element. */
export function argmin(x: Tensor, axis: number, { last = false, keepDims = false }: ArgmaxOptions = {}): Tensor {
  return apply(argmaxOps.argmin, [x], { axis: normalizeAxis(axis, x.shape, 'argmin'), last, keepDims })[0];
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
