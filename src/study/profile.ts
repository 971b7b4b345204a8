/**
 * Where the time of a step goes: kernel by version by operation on the device, copies and uploads, and JavaScript's share. The
 * command `profile` and the lessons use it.
 */
import { GpuError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { type ProfileRow, Profiler } from '../gpu/profiler.ts';
import { costOf } from '../kernels/costs.ts';
import { copyRoof, fmaRoof } from '../kernels/roofs.ts';
import { empty } from '../tensor/tensor.ts';

/** What an adapter can do at most: multiply-adds in GFLOP/s, memory traffic in GB/s. */
export interface AdapterRoofs {
  fmaGflops: number;
  copyGBs: number;
}

async function best(gpu: Gpu, work: () => number): Promise<number> {
  let most = 0;
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    const done = work();
    await gpu.idle();
    most = Math.max(most, done / (performance.now() - start) / 1e6); // 1e9 per second
  }
  return most;
}

/** Measures the roofs of the adapter. The best of several runs: a roof is what can be reached, not what is usual. */
export async function measureRoofs(gpu: Gpu): Promise<AdapterRoofs> {
  const invocations = gpu.software ? 1 << 16 : 1 << 22;
  using y = empty([invocations]);
  const fmaGflops = await best(gpu, () => fmaRoof(gpu, y.slice, invocations));
  const count = gpu.software ? 1 << 24 : 1 << 26;
  using x = empty([count]);
  using z = empty([count]);
  gpu.clear(x.slice);
  const copyGBs = await best(gpu, () => copyRoof(gpu, x.slice, z.slice, count));
  return { fmaGflops, copyGBs };
}

/** A row of a profile, with its rates. */
export interface StepRow extends ProfileRow {
  gflops: number | null;
  gigabytesPerSecond: number | null;
  /** What was reached of the roof at this arithmetic intensity; null for uploads, and where nothing is computed or moved. */
  roofShare: number | null;
}

export interface StepProfile {
  adapter: string;
  software: boolean;
  roofs: AdapterRoofs;
  rows: StepRow[];
  /** The sum of all rows. */
  totalMs: number;
  /** Dispatches of kernels, as the device counts them. */
  dispatches: number;
  /** A step without the profiler, median: until the device is idle, and until JavaScript has recorded everything. */
  wallMs: number;
  javascriptMs: number;
  /** Chrome's trace format. */
  chrome: string;
}

const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** The share of what the roofs allow that a span of work reached. */
export function roofShareOf({ flops, bytes }: { flops: number; bytes: number }, ms: number, roofs: AdapterRoofs): number | null {
  if (ms <= 0 || flops + bytes === 0) return null;
  return Math.max(flops / roofs.fmaGflops, bytes / roofs.copyGBs) / 1e6 / ms;
}

/** Runs a step a few times, then once with the profiler. `step` records all of its work before its first await. */
export async function profileStep(gpu: Gpu, step: () => Promise<unknown>): Promise<StepProfile> {
  if (!gpu.device.features.has('timestamp-query'))
    throw new GpuError('limit', 'profile', `${gpu.description} has no timestamps`, 'Choose another adapter with --adapter; `glimpse doctor` lists features.');
  const roofs = await measureRoofs(gpu);
  for (let i = 0; i < 2; i++) await step(); // compiles, and makes what is kept
  const [walls, scripts]: [number[], number[]] = [[], []];
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    const done = step();
    scripts.push(performance.now() - start);
    await done;
    await gpu.idle();
    walls.push(performance.now() - start);
  }
  const before = gpu.dispatches;
  const profiler = new Profiler(gpu.device, costOf);
  gpu.profiler = profiler;
  try {
    await step();
    await gpu.idle();
  } finally {
    gpu.profiler = null;
  }
  const table = await profiler.table();
  const rows = table.map(
    (row): StepRow => ({
      ...row,
      gflops: row.flops > 0 ? row.flops / row.totalMs / 1e6 : null,
      gigabytesPerSecond: row.bytes > 0 ? row.bytes / row.totalMs / 1e6 : null,
      roofShare: row.kind === 'upload' ? null : roofShareOf(row, row.totalMs, roofs),
    }),
  );
  return {
    ...{ adapter: gpu.description, software: gpu.software, roofs, rows },
    totalMs: rows.reduce((sum, { totalMs }) => sum + totalMs, 0),
    dispatches: gpu.dispatches - before,
    ...{ wallMs: median(walls), javascriptMs: median(scripts) },
    chrome: await profiler.chromeTrace(),
  };
}
