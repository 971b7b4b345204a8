/** What this adapter can do at most, measured by our own kernels before and after each benchmark: multiply-adds, and memory traffic. */
import { type AdapterRoofs, measureRoofs } from '../src/study/profile.ts';

export { measureRoofs };
export type Roofs = AdapterRoofs;

/** A roof that moves by more than this within a benchmark tells of a machine that is not at rest. */
const MOST_MOVE = 0.1;

/** Which roofs moved between two measurements, and by how much; null if they stayed. */
export function roofsMoved(before: Roofs, after: Roofs): string | null {
  const moves = [
    ['multiply-adds', after.fmaGflops / before.fmaGflops - 1],
    ['copy', after.copyGBs / before.copyGBs - 1],
  ] as const;
  const told = moves
    .filter(([, move]) => Math.abs(move) > MOST_MOVE)
    .map(([name, move]) => `${name} ${move > 0 ? '+' : '−'}${(100 * Math.abs(move)).toFixed(0)} %`);
  return told.length > 0 ? told.join(', ') : null;
}
