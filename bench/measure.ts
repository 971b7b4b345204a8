/**
 * One row of the results: a benchmark is timed, and what its last timed run wrote is compared with what it must be. A row
 * exists only for work that ran and was right.
 */
import { GlimpseError } from '../src/errors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { Profiler } from '../src/gpu/profiler.ts';
import { chosenVersion } from '../src/kernels/families.ts';
import { memory } from '../src/tensor/tensor.ts';
import type { Benchmark } from './catalog.ts';
import { onnxruntimeLogits } from './peers/onnxruntime.ts';
import type { PeerRow } from './peers/turns.ts';
import { oraclesInstalled } from './peers/untyped.ts';
import { type Check, compare, type Expected, expectedResult } from './reference.ts';
import type { Roofs } from './roofs.ts';
import { median, type SamplingOptions, summary, type Timing, timeWork } from './sampling.ts';
import type { Engine, InputSet, Prepared, Work } from './work.ts';

interface Named {
  name: string;
  shape: string;
  version: string;
}

export interface TimedRow extends Named, Timing {
  /** Largest error of the last timed run, as a share of the largest number; null where only words were compared. */
  maxError: number | null;
  /** How many numbers or words were compared, and with what. */
  checked: number;
  checkedAgainst: string;
  /** Until every command is handed to the driver: JavaScript's share. */
  hostMs: number | null;
  gpuMedianMs: number | null;
  gflops: number | null;
  gigabytesPerSecond: number | null;
  /** Floating-point operations per byte. */
  intensity: number | null;
  /** Share of what the roofs allow at this intensity. */
  roofShare: number | null;
  peakBytes: number | null;
  peers: PeerRow[];
}

/** A version that cannot run here, and why. */
export interface SkippedRow extends Named {
  skipped: string;
}

export type Row = TimedRow | SkippedRow;

export const isTimed = (row: Row): row is TimedRow => !('skipped' in row);

export interface Report {
  adapter: string;
  driver: string;
  software: boolean;
  roofs: Roofs;
  rows: Row[];
  /** What gave a wrong result and therefore has no row. */
  wrong: (Named & { problem: string })[];
}

/** A timed run gave a wrong result: there is no row for it. */
export class WrongResult extends GlimpseError {
  override name = 'WrongResult';
  constructor(
    readonly row: Named,
    readonly problem: string,
  ) {
    super(`the result of ${row.name} ${row.shape} (${row.version}) ${problem}; its time is not reported`);
  }
}

/** Results that work must have, each computed once; null for models that are checked in another way. */
export type Expectations = (set: InputSet) => Promise<Expected | null>;

export function expectations(work: Work): Expectations {
  const known = new Map<InputSet, Promise<Expected | null>>();
  const compute = async (set: InputSet) => (work.kind === 'resnet50' && oraclesInstalled() ? onnxruntimeLogits(work, set) : expectedResult(work, set));
  return (set) => {
    const expected = known.get(set) ?? compute(set);
    known.set(set, expected);
    return expected;
  };
}

/** Compares what the last timed run wrote. */
async function checkLast(prepared: Prepared, expected: Expectations): Promise<Check> {
  const values = await expected(prepared.load ? 1 : 0);
  if (values && prepared.result) return compare(await prepared.result(), values);
  if (prepared.check) return prepared.check();
  throw new GlimpseError('nothing says what the result must be');
}

function roofOf(roofs: Roofs, b: Benchmark): number {
  return Math.min(roofs.fmaGflops, (roofs.copyGBs * b.flops) / b.bytes);
}

/** Median over runs of the GPU time summed over their dispatches. */
async function gpuTime(gpu: Gpu, prepared: Prepared): Promise<number | null> {
  if (!gpu.device.features.has('timestamp-query')) return null;
  const totals: number[] = [];
  for (let i = 0; i < 3; i++) {
    gpu.profiler = new Profiler(gpu.device);
    await prepared.run();
    const table = await gpu.profiler.table();
    gpu.profiler = null;
    totals.push(table.reduce((sum, { totalMs }) => sum + totalMs, 0));
  }
  return median(totals);
}

/** Median time until control comes back from recording, before waiting. */
async function hostTime(prepared: Prepared): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    const done = prepared.run();
    times.push(performance.now() - start);
    await done;
  }
  return median(times);
}

export interface Measurement {
  benchmark: Benchmark;
  sampling: SamplingOptions;
  roofs: Roofs;
  expected: Expectations;
  /** The version that is forced, if one is. */
  forced: string | null;
  /** Lets peers have their turns; `again` is our own turn, once more after each, so that a slow phase of the machine shows in both. */
  peers(again: () => Promise<void>): Promise<PeerRow[]>;
}

/** Throws `WrongResult` where a timed run was wrong, and `VersionNotApplicable` where the forced version cannot run. */
export async function measure(gpu: Gpu, engine: Engine, m: Measurement): Promise<TimedRow> {
  const { benchmark: b, roofs } = m;
  const prepared = await engine.prepare(b.work);
  if (!prepared) throw new GlimpseError(`${b.name} ${b.shape} cannot be prepared`);
  try {
    gpu.pool.trim();
    gpu.pool.resetPeak();
    const times: number[] = [];
    const checks: Check[] = [];
    let row: Named = { name: b.name, shape: b.shape, version: 'model' };
    let peakBytes = 0;
    const turn = async (): Promise<number> => {
      const { sample, coldMs } = await timeWork(prepared, m.sampling);
      // Before the check, which may launch kernels and make tensors of its own.
      if (b.family) row = { ...row, version: chosenVersion(b.family) ?? 'only' };
      if (m.forced && row.version !== m.forced) throw new GlimpseError(`${b.name} ${b.shape}: ${row.version} ran instead of ${m.forced}`);
      if (checks.length === 0) peakBytes = memory().peakBytes + memory().texelBytes;
      const check = await checkLast(prepared, m.expected);
      if (check.wrong !== null) throw new WrongResult(row, check.wrong);
      checks.push(check);
      times.push(...sample);
      return coldMs;
    };
    const coldMs = await turn();
    const [hostMs, gpuMedianMs] = [await hostTime(prepared), await gpuTime(gpu, prepared)];
    const peers = await m.peers(async () => void (await turn()));
    const timing = summary(times, coldMs);
    const gflops = b.flops / timing.medianMs / 1e6;
    return {
      ...row,
      ...timing,
      maxError: Math.max(...checks.map(({ maxError }) => maxError)),
      ...{ checked: checks[0].checked, checkedAgainst: checks[0].against },
      ...{ hostMs, gpuMedianMs, gflops, gigabytesPerSecond: b.bytes / timing.medianMs / 1e6 },
      ...{ intensity: b.flops / b.bytes, roofShare: gflops / roofOf(roofs, b), peakBytes },
      peers: peers.map((peer) => ({ ...peer, ratio: peer.medianMs === null ? null : peer.medianMs / timing.medianMs })),
    };
  } finally {
    prepared.dispose();
    gpu.pool.trim();
  }
}
