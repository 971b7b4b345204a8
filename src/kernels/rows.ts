/** Launchers of work on rows: softmax, cross-entropy, layer normalization, one-hot rows, the likeliest token, argmax, top-k, sampling. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import type { ParamValues } from '../gpu/uniforms.ts';
import { grid, type Live } from './elementwise.ts';
import { always, Family, sizeRange, soleVersion, type Version, withoutFixedSubgroup } from './family.ts';
import { withScratch } from './scratch.ts';
import { sortCapacity, sortRows } from './sort.ts';

/** Rows [rows, n] of logits, scores or probabilities. */
interface RowsProblem {
  rows: number;
  n: number;
}

/** A version of a kernel on rows. */
interface RowsVersion extends Version<RowsProblem> {
  /** Constants of the shader: invocations that share a row, and rows of a workgroup. */
  constants?: { LANES: number; ROWS: number };
}

const rowClass = ({ n }: RowsProblem): string => sizeRange(n, 256, 2048);

/** One invocation per row: no barrier, and `rows` rows per workgroup. */
const invocation = (shader: string, rows = 64): RowsVersion => ({
  ...{ name: 'invocation', shader, constants: { LANES: 1, ROWS: rows }, unable: always },
  idea: 'one invocation owns one row; no barrier, but lanes read far apart',
});
/** One workgroup per row: lanes read neighboring numbers, which is fast on GPUs. */
const workgroup = (shader: string): RowsVersion => ({
  ...{ name: 'workgroup', shader, constants: { LANES: 128, ROWS: 1 }, unable: always },
  idea: 'one workgroup owns one row; lanes read side by side and join in a tree in workgroup memory',
});
/** One subgroup per row: as one workgroup per row, but without barriers. */
const subgroup = (shader: string): RowsVersion => ({
  name: 'subgroup',
  idea: 'one subgroup owns one row and joins by subgroup operations, without workgroup memory or barrier; four numbers a load',
  shader,
  unable: (gpu, { n }) => withoutFixedSubgroup(gpu) ?? (n % 4 === 0 ? null : `rows of ${n} numbers are not a multiple of 4 long`),
});

export const softmaxFamily = new Family('softmax', [invocation('softmax'), subgroup('softmax_subgroup'), workgroup('softmax')], rowClass);
export const crossEntropyFamily = new Family(
  'cross_entropy',
  [invocation('cross_entropy'), subgroup('cross_entropy_subgroup'), workgroup('cross_entropy')],
  rowClass,
);
export const argmaxTokenFamily = new Family(
  'argmax_token',
  [invocation('argmax_token', 8), subgroup('argmax_token_subgroup'), workgroup('argmax_token')],
  rowClass,
);
export const softmaxGradFamily = soleVersion('softmax_grad', 'one invocation owns one row');
export const topKFamily = new Family('top_k', [invocation('top_k', 8), workgroup('top_k')], rowClass);

/** Launches the version that the family chooses: one dispatch over all rows. */
function launchRows(
  gpu: Gpu,
  family: Family<RowsProblem, RowsVersion>,
  problem: RowsProblem,
  slices: readonly BufferSlice[],
  params: ParamValues,
  label: string,
  more: Record<string, number> = {},
): void {
  const { constants } = family.choose(gpu, problem);
  const variant = constants
    ? { constants: { ...constants, ...more } }
    : { tune: { WIDTH: gpu.subgroupWidth }, ...(Object.keys(more).length > 0 ? { constants: more } : {}) };
  family.launch(gpu, variant, slices, params, grid(problem.rows, constants?.ROWS ?? 1), label);
}

export function softmax(gpu: Gpu, x: BufferSlice, y: BufferSlice, rows: number, n: number, log: boolean, label: string): void {
  launchRows(gpu, softmaxFamily, { rows, n }, [x, y], { rows, n }, label, { LOG: log ? 1 : 0 });
}

export function softmaxGrad(gpu: Gpu, y: BufferSlice, dy: BufferSlice, dx: BufferSlice, rows: number, n: number, log: boolean, label: string): void {
  softmaxGradFamily.choose(gpu, null);
  softmaxGradFamily.launch(gpu, { constants: { LOG: log ? 1 : 0 } }, [y, dy, dx], { rows, n }, grid(rows), label);
}

export interface CrossEntropyProblem {
  /** ε of label smoothing; 0 if it is left out. */
  smoothing?: number;
  logits: BufferSlice;
  targets: BufferSlice;
  weights: BufferSlice;
  rowLoss: BufferSlice;
  /** Null computes the loss only. */
  dlogits: BufferSlice | null;
  /** A buffer to bind in place of `dlogits` if that is null. */
  unused: BufferSlice;
  rows: number;
  n: number;
  label: string;
}

export function crossEntropy(gpu: Gpu, p: CrossEntropyProblem): void {
  const { rows, n } = p;
  const slices = [p.logits, p.targets, p.weights, p.rowLoss, p.dlogits ?? p.unused];
  const params = { rows, n, with_gradient: p.dlogits ? 1 : 0, smoothing: p.smoothing ?? 0 };
  launchRows(gpu, crossEntropyFamily, { rows, n }, slices, params, p.label);
}

/** The k largest values of each row, largest first. Ties go to the lower index. Ids below `skipBelow` are never taken. */
export function topK(
  gpu: Gpu,
  x: BufferSlice,
  values: BufferSlice,
  indices: BufferSlice,
  rows: number,
  n: number,
  k: number,
  skipBelow: number,
  label: string,
): void {
  launchRows(gpu, topKFamily, { rows, n }, [x, values, indices], { rows, n, k, skip_below: skipBelow }, label);
}

/** Words that the sorted rows of one batch may take: more rows are sorted in several batches. */
const SORTED_WORDS = 1 << 22;

/** A tensor [outer, n, inner], of whose middle axis something is chosen. */
export interface Lines {
  outer: number;
  n: number;
  inner: number;
}

/** As `topK`, along the middle axis and for any k: the lines are sorted, in n log² n compared pairs each. `smallest` takes from the other end. */
export function topKSorted(
  gpu: Gpu,
  x: BufferSlice,
  values: BufferSlice,
  indices: BufferSlice,
  { outer, n, inner }: Lines,
  { k, skipBelow, smallest }: { k: number; skipBelow: number; smallest: boolean },
  label: string,
): void {
  const capacity = sortCapacity(n);
  const batch = Math.max(1, Math.floor(SORTED_WORDS / capacity));
  for (let first = 0; first < outer * inner; first += batch) {
    const rows = Math.min(batch, outer * inner - first);
    withScratch(gpu, [rows * capacity, rows * capacity], `${label} (sorted rows)`, ([keys, places]) => {
      const kernel = gpu.kernel({ file: 'top_k_keys', constants: { SMALLEST: smallest ? 1 : 0 } });
      gpu.dispatch(kernel, [x, keys], { count: rows * capacity, first, n, inner, capacity, skip_below: skipBelow }, grid(rows * capacity), label);
      sortRows(gpu, keys, places, rows, capacity, label);
      gpu.dispatch(gpu.kernel({ file: 'top_k_take' }), [x, places, values, indices], { count: rows * k, first, n, inner, capacity, k }, grid(rows * k), label);
    });
  }
}

/** Where the largest, or the smallest, of the middle axis stands: the first of equal ones, or the last. A NaN is the extreme. */
export function argmax(
  gpu: Gpu,
  x: BufferSlice,
  y: BufferSlice,
  { outer, n, inner }: Lines,
  { smallest, last }: { smallest: boolean; last: boolean },
  label: string,
): void {
  const lines = outer * inner;
  // Neighboring lines lie side by side if inner > 1. Then a workgroup for each is worth it only where there are few.
  const LANES = n >= 64 && (inner === 1 || lines < 512) ? 64 : 1;
  const kernel = gpu.kernel({ file: 'argmax', constants: { LANES, SMALLEST: smallest ? 1 : 0, LAST: last ? 1 : 0 } });
  gpu.dispatch(kernel, [x, y], { lines, n, inner }, grid(lines, LANES > 1 ? 1 : 64), label);
}

/** The likeliest token of each row of logits [rows, n], and its log-probability. Ids below `skipBelow` are never taken. */
export function argmaxToken(
  gpu: Gpu,
  x: BufferSlice,
  token: BufferSlice,
  logProb: BufferSlice,
  rows: number,
  n: number,
  skipBelow: number,
  label: string,
): void {
  launchRows(gpu, argmaxTokenFamily, { rows, n }, [x, token, logProb], { rows, n, skip_below: skipBelow }, label);
}

/** Options of `sample`. The same seed, step and stream give the same tokens. */
export interface SampleAttrs {
  /** Ids below this are never taken. */
  skipBelow: number;
  /** Only the k likeliest tokens are drawn; 0 for all. */
  topK: number;
  /** Only the likeliest tokens that together have this probability are drawn; 1 for all. */
  topP: number;
  temperature: number;
  seed: number;
  step: Live;
  stream: number;
}

/** Draws one token per row from the log-probabilities x [rows, n]. */
export function sample(gpu: Gpu, x: BufferSlice, token: BufferSlice, logProb: BufferSlice, rows: number, n: number, a: SampleAttrs, label: string): void {
  const { skipBelow, topK: k, topP: p, temperature, seed, step, stream } = a;
  const params = { rows, n, skip_below: skipBelow, k, p, temperature, seed, step, stream };
  gpu.dispatch(gpu.kernel({ file: 'sample' }), [x, token, logProb], params, grid(rows, 8), label);
}

/** Options of `mixTokens`. The same seed, step and stream give the same tokens. */
export interface MixAttrs {
  /** The probability that a token is replaced. */
  probability: Live;
  seed: number;
  step: Live;
  stream: number;
  /** The first token of a caption. It is never replaced, nor is padding, which is 0. */
  start: number;
  /** The last token of a caption. It is never put in, because no word follows it. */
  end: number;
}

/** Replaces some of the input tokens ids [steps, rows] by the model's own choice at the step before. */
export function mixTokens(gpu: Gpu, ids: BufferSlice, own: BufferSlice, mixed: BufferSlice, steps: number, rows: number, a: MixAttrs, label: string): void {
  const { probability, seed, step, stream, start, end } = a;
  const params = { count: steps * rows, rows, probability, seed, step, stream, start, end };
  gpu.dispatch(gpu.kernel({ file: 'mix_tokens' }), [ids, own, mixed], params, grid(steps * rows, 64), label);
}

/** ids [outer, inner] → y [outer, n, inner]: `on` where the middle index is the id, else `off`. */
export function oneHot(gpu: Gpu, ids: BufferSlice, y: BufferSlice, { outer, n, inner }: Lines, on: number, off: number, label: string): void {
  const count = outer * n * inner;
  gpu.dispatch(gpu.kernel({ file: 'one_hot' }), [ids, y], { count, n, inner, on, off }, grid(count), label);
}

export interface LayerNormProblem {
  x: BufferSlice;
  gamma: BufferSlice;
  mean: BufferSlice;
  inverse: BufferSlice;
  rows: number;
  n: number;
  /** False: by the root mean square, without mean and shift; beta is bound, but not read. */
  centered: boolean;
  label: string;
}

const centering = (file: string, centered: boolean) => ({ file, constants: { CENTERED: centered ? 1 : 0 } });

export function layerNorm(gpu: Gpu, p: LayerNormProblem & { beta: BufferSlice; y: BufferSlice; eps: number }): void {
  const { rows, n, eps } = p;
  gpu.dispatch(gpu.kernel(centering('layer_norm', p.centered)), [p.x, p.gamma, p.beta, p.y, p.mean, p.inverse], { rows, n, eps }, grid(rows, 64), p.label);
}

export function layerNormGrad(gpu: Gpu, p: LayerNormProblem & { dy: BufferSlice; dx: BufferSlice; scaled: BufferSlice }): void {
  const { rows, n } = p;
  gpu.dispatch(
    gpu.kernel(centering('layer_norm_grad', p.centered)),
    [p.dy, p.x, p.gamma, p.mean, p.inverse, p.dx, p.scaled],
    { rows, n },
    grid(rows, 64),
    p.label,
  );
}
