/** Launchers of a beam search: choosing hypotheses, and limiting their tokens. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';

export const LENGTH_PENALTIES = ['none', 'average', 'wu'] as const;
/** What divides the sum of log-probabilities of a hypothesis: nothing, its length, or the penalty of Wu and others (2016). */
export type LengthPenalty = (typeof LENGTH_PENALTIES)[number];

/** The default exponent of the penalty of Wu and others (2016). */
export const WU_ALPHA = 0.65;

/** The divisor of a sum of log-probabilities: 1, the length, or ((5 + length) / 6)^alpha (Wu and others 2016). */
export function lengthPenalty(length: number, kind: LengthPenalty, alpha: number): number {
  if (kind === 'average') return length;
  return kind === 'wu' ? ((5 + length) / 6) ** alpha : 1;
}

/** One step of a beam search: its sizes and its rules. */
export interface BeamStep {
  pictures: number;
  width: number;
  /** Continuations given for each hypothesis. */
  k: number;
  /** Number of words in every unfinished hypothesis, with this step's. */
  step: number;
  /** The token that ends a hypothesis. */
  end: number;
  /** Fewest words of a hypothesis that may end, its end included. */
  minimum: number;
  penalty: LengthPenalty;
  /** Exponent of Wu's penalty. */
  alpha: number;
}

/** Buffers in the order of beam_select.wgsl. */
export function beamSelect(gpu: Gpu, slices: readonly BufferSlice[], s: BeamStep, label: string): void {
  const { pictures, width, k, step, end, minimum, alpha } = s;
  const params = { pictures, width, k, step, end, minimum, penalty: LENGTH_PENALTIES.indexOf(s.penalty), alpha };
  gpu.dispatch(gpu.kernel({ file: 'beam_select' }), slices, params, [Math.ceil(pictures / 8), 1, 1], label);
}

/** Most words that limit_tokens.wgsl can trace back. */
export const LONGEST_LIMITED = 128;

/** Options of `limitTokens`. */
export interface LimitAttrs {
  /** Words chosen so far. */
  step: number;
  /** 0 allows every repetition. */
  noRepeat: number;
  /** The token that ends a caption. */
  end: number;
  /** Forbid `end`: the caption is too short yet. */
  blockEnd: boolean;
  /** Number of earlier groups, and of hypotheses in each. */
  groups: number;
  width: number;
  /** What a token loses, in nats, for each hypothesis of an earlier group that took it. */
  diversity: number;
}

/** Lowers forbidden tokens in place. y must hold a copy of the log-probabilities [rows, n]. */
export function limitTokens(
  gpu: Gpu,
  words: BufferSlice,
  parents: BufferSlice,
  taken: BufferSlice,
  y: BufferSlice,
  rows: number,
  n: number,
  a: LimitAttrs,
  label: string,
): void {
  const { step, noRepeat, end, blockEnd, groups, width, diversity } = a;
  const params = { rows, n, step, no_repeat: noRepeat, end, block_end: blockEnd ? 1 : 0, groups, width, diversity };
  gpu.dispatch(gpu.kernel({ file: 'limit_tokens' }), [words, parents, taken, y], params, [Math.ceil(rows / 8), 1, 1], label);
}
