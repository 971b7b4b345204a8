/** Launchers of work on rows: softmax, cross-entropy, layer normalization, one-hot rows, the likeliest token, top-k, sampling. */
import type { Gpu } from '../gpu/device.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid, type Live } from './elementwise.ts';
import { sizeRange } from './tuning.ts';
import { chooseVersion, hasFixedSubgroup } from './versions.ts';

/** Constants of the two general versions: how many invocations share a row, and how many rows a workgroup owns. */
const ROW_PER_INVOCATION = { LANES: 1, ROWS: 64 };
const ROW_PER_WORKGROUP = { LANES: 128, ROWS: 1 };

const rowClass = (n: number): string => sizeRange(n, 256, 2048);

function rowVersions(gpu: Gpu, n: number, hasSubgroupVersion: boolean): string[] {
  const versions = gpu.software ? ['v1_invocation', 'v3_workgroup'] : ['v3_workgroup', 'v1_invocation'];
  if (hasSubgroupVersion && hasFixedSubgroup(gpu) && n % 4 === 0) versions.unshift('v2_subgroup');
  return versions;
}

export function softmax(gpu: Gpu, x: BufferSlice, y: BufferSlice, rows: number, n: number, log: boolean, label: string): void {
  const version = chooseVersion(gpu, 'softmax', rowClass(n), rowVersions(gpu, n, true));
  const LOG = log ? 1 : 0;
  if (version === 'v2_subgroup') {
    gpu.dispatch(gpu.kernel({ file: 'softmax_subgroup', tune: { WIDTH: gpu.subgroupWidth }, constants: { LOG } }), [x, y], { rows, n }, grid(rows, 1), label);
    return;
  }
  const constants = { ...(version === 'v1_invocation' ? ROW_PER_INVOCATION : ROW_PER_WORKGROUP), LOG };
  gpu.dispatch(gpu.kernel({ file: 'softmax', constants }), [x, y], { rows, n }, grid(rows, constants.ROWS), label);
}

export function softmaxGrad(gpu: Gpu, y: BufferSlice, dy: BufferSlice, dx: BufferSlice, rows: number, n: number, log: boolean, label: string): void {
  gpu.dispatch(gpu.kernel({ file: 'softmax_grad', constants: { LOG: log ? 1 : 0 } }), [y, dy, dx], { rows, n }, grid(rows), label);
}

export interface CrossEntropyProblem {
  /** ε of label smoothing; 0 where it is left out. */
  smoothing?: number;
  logits: BufferSlice;
  targets: BufferSlice;
  weights: BufferSlice;
  rowLoss: BufferSlice;
  /** Null: only the loss. */
  dlogits: BufferSlice | null;
  /** A buffer to bind where the gradient is not wanted. */
  unused: BufferSlice;
  rows: number;
  n: number;
  label: string;
}

export function crossEntropy(gpu: Gpu, p: CrossEntropyProblem): void {
  const { rows, n } = p;
  const version = chooseVersion(gpu, 'cross_entropy', rowClass(n), rowVersions(gpu, n, true));
  const slices = [p.logits, p.targets, p.weights, p.rowLoss, p.dlogits ?? p.unused];
  const params = { rows, n, with_gradient: p.dlogits ? 1 : 0, smoothing: p.smoothing ?? 0 };
  if (version === 'v2_subgroup') {
    gpu.dispatch(gpu.kernel({ file: 'cross_entropy_subgroup', tune: { WIDTH: gpu.subgroupWidth } }), slices, params, grid(rows, 1), p.label);
    return;
  }
  const constants = version === 'v1_invocation' ? ROW_PER_INVOCATION : ROW_PER_WORKGROUP;
  gpu.dispatch(gpu.kernel({ file: 'cross_entropy', constants }), slices, params, grid(rows, constants.ROWS), p.label);
}

/** The k largest per row, falling; ties to the lower index; ids below `skipBelow` are never taken. */
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
  const version = chooseVersion(gpu, 'top_k', rowClass(n), gpu.software ? ['v1_invocation', 'v2_workgroup'] : ['v2_workgroup', 'v1_invocation']);
  const constants = version === 'v1_invocation' ? { LANES: 1, ROWS: 8 } : ROW_PER_WORKGROUP;
  gpu.dispatch(gpu.kernel({ file: 'top_k', constants }), [x, values, indices], { rows, n, k, skip_below: skipBelow }, grid(rows, constants.ROWS), label);
}

/** The likeliest token of each row of logits [rows, n] from id `skipBelow` on, and its log-probability. */
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
  const version = chooseVersion(gpu, 'argmax_token', rowClass(n), rowVersions(gpu, n, true));
  const params = { rows, n, skip_below: skipBelow };
  if (version === 'v2_subgroup') {
    gpu.dispatch(gpu.kernel({ file: 'argmax_token_subgroup', tune: { WIDTH: gpu.subgroupWidth } }), [x, token, logProb], params, grid(rows, 1), label);
    return;
  }
  const constants = version === 'v1_invocation' ? { LANES: 1, ROWS: 8 } : ROW_PER_WORKGROUP;
  gpu.dispatch(gpu.kernel({ file: 'argmax_token', constants }), [x, token, logProb], params, grid(rows, constants.ROWS), label);
}

export interface SampleAttrs {
  /** Ids below this are never taken. */
  skipBelow: number;
  /** Only the k likeliest; 0 for all. */
  topK: number;
  /** Only the likeliest that make up this probability together; 1 for all. */
  topP: number;
  temperature: number;
  seed: number;
  step: Live;
  stream: number;
}

/** One token per row, drawn from the log-probabilities x [rows, n]. */
export function sample(gpu: Gpu, x: BufferSlice, token: BufferSlice, logProb: BufferSlice, rows: number, n: number, a: SampleAttrs, label: string): void {
  const { skipBelow, topK: k, topP: p, temperature, seed, step, stream } = a;
  const params = { rows, n, skip_below: skipBelow, k, p, temperature, seed, step, stream };
  gpu.dispatch(gpu.kernel({ file: 'sample' }), [x, token, logProb], params, grid(rows, 8), label);
}

export interface MixAttrs {
  /** With which each word gives way. */
  probability: Live;
  seed: number;
  step: Live;
  stream: number;
  /** Words never replaced: the first of a caption, and padding, which is 0. */
  start: number;
  /** Never put in, for no word follows it. */
  end: number;
}

/** Words before each step, ids [steps, rows], some of them replaced by the model's own for the step before. */
export function mixTokens(gpu: Gpu, ids: BufferSlice, own: BufferSlice, mixed: BufferSlice, steps: number, rows: number, a: MixAttrs, label: string): void {
  const { probability, seed, step, stream, start, end } = a;
  const params = { count: steps * rows, rows, probability, seed, step, stream, start, end };
  gpu.dispatch(gpu.kernel({ file: 'mix_tokens' }), [ids, own, mixed], params, grid(steps * rows, 64), label);
}

export function oneHot(gpu: Gpu, ids: BufferSlice, y: BufferSlice, rows: number, n: number, label: string): void {
  gpu.dispatch(gpu.kernel({ file: 'one_hot' }), [ids, y], { count: rows * n, n }, grid(rows * n, 64), label);
}

export interface LayerNormProblem {
  x: BufferSlice;
  gamma: BufferSlice;
  mean: BufferSlice;
  inverse: BufferSlice;
  rows: number;
  n: number;
  label: string;
}

export function layerNorm(gpu: Gpu, p: LayerNormProblem & { beta: BufferSlice; y: BufferSlice; eps: number }): void {
  const { rows, n, eps } = p;
  gpu.dispatch(gpu.kernel({ file: 'layer_norm' }), [p.x, p.gamma, p.beta, p.y, p.mean, p.inverse], { rows, n, eps }, grid(rows, 64), p.label);
}

export function layerNormGrad(gpu: Gpu, p: LayerNormProblem & { dy: BufferSlice; dx: BufferSlice; scaled: BufferSlice }): void {
  const { rows, n } = p;
  gpu.dispatch(gpu.kernel({ file: 'layer_norm_grad' }), [p.dy, p.x, p.gamma, p.mean, p.inverse, p.dx, p.scaled], { rows, n }, grid(rows, 64), p.label);
}
