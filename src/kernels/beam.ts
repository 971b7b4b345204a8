/** Launcher of a beam search's choice. */
import type { Gpu } from '../gpu/device.ts';
import type { BufferSlice } from '../gpu/pool.ts';

export const LENGTH_PENALTIES = ['none', 'average', 'wu'] as const;
export type LengthPenalty = (typeof LENGTH_PENALTIES)[number];

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
