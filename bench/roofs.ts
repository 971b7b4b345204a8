/** What this adapter can do at most, measured by our own kernels just before the rest: multiply-adds, and memory traffic. */
import type { Gpu } from '../src/gpu/gpu.ts';
import { copyRoof, fmaRoof } from '../src/kernels/roofs.ts';
import { empty } from '../src/tensor/tensor.ts';

export interface Roofs {
  fmaGflops: number;
  copyGBs: number;
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
  const fmaGflops = await best(gpu, 8, () => fmaRoof(gpu, y.slice, invocations));
  const count = gpu.software ? 1 << 24 : 1 << 26;
  using x = empty([count]);
  using z = empty([count]);
  gpu.clear(x.slice);
  const copyGBs = await best(gpu, 8, () => copyRoof(gpu, x.slice, z.slice, count));
  return { fmaGflops, copyGBs };
}
