/** Launchers of a beam search's choice, and of what limits it. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';

export const LENGTH_PENALTIES = ['none', 'average', 'wu'] as const;
export type LengthPenalty = (typeof LENGTH_PENALTIES)[number];

/** Wu and others' exponent where none is asked for. */
export const WU_ALPHA = 0.65;

/** What a sum of log-probabilities is divided by: 1, the length, or Wu and others' ((5 + length) / 6)^alpha. */
export function lengthPenalty(length: number, kind: LengthPenalty, alpha: number): number {
  if (kind === 'average') return length;
  return kind === 'wu' ? ((5 + length) / 6) ** alpha : 1;
}

export interface BeamStep {
  pictures: number;
  width: number;
  /** Continuations given per hypothesis. */
  k: number;
  /** Words of every hypothesis that goes on, this one included. */
  step: number;
  end: number;
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

/** Longest caption that limit_tokens.wgsl can follow back. */
export const LONGEST_LIMITED = 128;

export interface LimitAttrs {
  /** Words chosen so far. */
  step: number;
  /** 0 allows every repetition. */
  noRepeat: number;
  end: number;
  blockEnd: boolean;
  /** Earlier groups, and hypotheses of each. */
  groups: number;
  width: number;
  diversity: number;
}

/** y holds a copy of the log-probabilities [rows, n]. */
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
