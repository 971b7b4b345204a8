/** What this adapter can do at most, measured by our own kernels before and after each benchmark: multiply-adds, and memory traffic. */
import type { Gpu } from '../src/gpu/gpu.ts';
import { copyRoof, fmaRoof } from '../src/kernels/roofs.ts';
import { empty } from '../src/tensor/tensor.ts';

export interface Roofs {
  fmaGflops: number;
  copyGBs: number;
}

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

async function best(gpu: Gpu, rounds: number, work: () => number): Promise<number> {
  let most = 0;
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    const done = work();
    await gpu.idle();
    most = Math.max(most, done / (performance.now() - start) / 1e6); // 1e9 per second
  }
  return most;
}

/** Best of several runs: a roof is what can be reached, not what is usual. */
export async function measureRoofs(gpu: Gpu): Promise<Roofs> {
  const invocations = gpu.software ? 1 << 16 : 1 << 22;
  using y = empty([invocations]);
  const fmaGflops = await best(gpu, 5, () => fmaRoof(gpu, y.slice, invocations));
  const count = gpu.software ? 1 << 24 : 1 << 26;
  using x = empty([count]);
  using z = empty([count]);
  gpu.clear(x.slice);
  const copyGBs = await best(gpu, 5, () => copyRoof(gpu, x.slice, z.slice, count));
  return { fmaGflops, copyGBs };
}
