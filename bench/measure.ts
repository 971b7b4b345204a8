/**
 * One benchmark: versions of ours and peers take turns, round after round, and what each one's last timed run wrote is compared
 * with what it must be. A row exists only for work that ran and was right.
 */
import { GlimpseError, GpuError } from '../src/errors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { Profiler } from '../src/gpu/profiler.ts';
import { chosenVersion, forceVersion } from '../src/kernels/families.ts';
import { VersionNotApplicable } from '../src/kernels/family.ts';
import { memory } from '../src/tensor/tensor.ts';
import type { Benchmark } from './catalog.ts';
import { type PeerRow, peerRow } from './peers/row.ts';
import type { Peers } from './peers/turns.ts';
import { type Check, compare, type Expected, expectedResult } from './reference.ts';
import { measureRoofs, type Roofs, roofsMoved } from './roofs.ts';
import type { Named, Row } from './rows.ts';
import { bootstrapRatio, type Flush, LocalTurns, median, type Participant, type SamplingOptions, summary, takeTurns } from './sampling.ts';
import type { Engine, FileWork, InputSet, Prepared, Work } from './work.ts';

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

/** Another engine that says what a model from a file must give. */
export type ModelOracle = (work: FileWork, set: InputSet) => Promise<Expected>;

/** Results that work must have, each computed once; null for models that are checked in another way. */
export type Expectations = (set: InputSet) => Promise<Expected | null>;

export function expectations(work: Work, logitsOf?: ModelOracle): Expectations {
  const known = new Map<InputSet, Promise<Expected | null>>();
  const compute = async (set: InputSet) => ('model' in work && logitsOf ? logitsOf(work, set) : expectedResult(work, set));
  return (set) => {
    const expected = known.get(set) ?? compute(set);
    known.set(set, expected);
    return expected;
  };
}

/** Compares what the last timed run wrote. */
async function checkLast(prepared: Prepared, set: InputSet, expected: Expectations): Promise<Check> {
  const values = await expected(set);
  if (values && prepared.result) return compare(await prepared.result(), values);
  if (prepared.check) return prepared.check();
  throw new GlimpseError('nothing says what the result must be');
}

function roofOf(roofs: Roofs, b: Benchmark): number {
  return Math.min(roofs.fmaGflops, (roofs.copyGBs * b.flops) / b.bytes);
}

/** Median over runs of the GPU time summed over their dispatches and copies. */
async function gpuTime(gpu: Gpu, prepared: Prepared): Promise<number | null> {
  if (!gpu.device.features.has('timestamp-query')) return null;
  const totals: number[] = [];
  for (let i = 0; i < 3; i++) {
    gpu.profiler = new Profiler(gpu.device);
    await prepared.run();
    const table = await gpu.profiler.table();
    gpu.profiler = null;
    totals.push(table.filter(({ kind }) => kind !== 'upload').reduce((sum, { totalMs }) => sum + totalMs, 0));
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

/** A version of ours, ready for its turns. It is forced while it works, so that what ran is what is named. */
class OurTurns implements Participant {
  coldMs = 0;
  runsPerSample = 1;
  peakBytes = 0;
  readonly row: Named;
  private readonly turns: LocalTurns;

  constructor(
    readonly benchmark: Benchmark,
    readonly version: string | null,
    readonly prepared: Prepared,
    flush: Flush,
  ) {
    this.row = { name: benchmark.name, shape: benchmark.shape, version: version ?? 'model' };
    this.turns = new LocalTurns(prepared, flush);
  }

  get name(): string {
    return this.row.version;
  }

  /** Does work with the version forced, and notes which one ran. */
  async forced<T>(work: () => Promise<T>): Promise<T> {
    const { family } = this.benchmark;
    if (!family) return work();
    if (this.version) forceVersion(family, this.version);
    try {
      const result = await work();
      const ran = chosenVersion(family) ?? 'only';
      if (this.version && ran !== this.version) throw new GlimpseError(`${this.row.name} ${this.row.shape}: ${ran} ran instead of ${this.version}`);
      this.row.version = ran;
      return result;
    } finally {
      if (this.version) forceVersion(family, null);
    }
  }

  async prepare(): Promise<{ coldMs: number; runsPerSample: number }> {
    const cold = await this.forced(() => this.turns.prepare());
    ({ coldMs: this.coldMs, runsPerSample: this.runsPerSample } = cold);
    return cold;
  }

  sample(): Promise<number> {
    return this.forced(() => this.turns.sample());
  }

  finish(): Promise<{ set: InputSet }> {
    return this.forced(() => this.turns.finish());
  }
}

export interface Measurement {
  benchmark: Benchmark;
  /** Versions to time; null for the one that would be chosen. */
  versions: readonly (string | null)[];
  sampling: SamplingOptions;
  flush: Flush;
  /** The roofs just before. */
  roofs: Roofs;
  peers: Peers | null;
  /** Where another engine is installed. */
  modelOracle?: ModelOracle;
  note(text: string): void;
}

export interface Measured {
  rows: Row[];
  wrong: WrongResult[];
  /** The roofs just after. */
  roofs: Roofs;
}

/** Times a benchmark. Versions that cannot run have a reason, wrong results have no row. */
export async function measure(gpu: Gpu, engine: Engine, m: Measurement): Promise<Measured> {
  const { benchmark: b } = m;
  const expected = expectations(b.work, m.modelOracle);
  const rows: Row[] = [];
  const wrong: WrongResult[] = [];
  const ours: OurTurns[] = [];
  try {
    for (const version of m.versions) {
      m.note(version ?? '');
      gpu.pool.trim();
      gpu.pool.resetPeak();
      const before = memory();
      const prepared = await engine.prepare(b.work);
      if (!prepared) throw new GlimpseError(`${b.name} ${b.shape} cannot be prepared`);
      const turns = new OurTurns(b, version, prepared, m.flush);
      const recall = gpu.forgetKernels(); // so that the first run compiles
      try {
        await turns.prepare();
        ours.push(turns);
        const { peakBytes, texelBytes } = memory();
        turns.peakBytes = Math.max(0, peakBytes + texelBytes - before.bytesInUse - before.texelBytes);
      } catch (error) {
        prepared.dispose();
        if (!(version && error instanceof GpuError && error.kind === 'limit')) throw error;
        rows.push({ ...turns.row, skipped: error instanceof VersionNotApplicable ? error.reason : error.message });
      } finally {
        recall(); // also behind a version that cannot run: those before it must not compile again in a sample
      }
    }
    const playing = m.peers && b.peers && ours.length > 0 ? await m.peers.start(b.work, m.note) : [];
    const participants: Participant[] = [...ours, ...playing.flatMap(({ throttled, stock }) => [throttled, ...(stock ? [stock] : [])])];
    m.note('in turn');
    const samples = await takeTurns(participants, m.sampling);
    const samplesOf = (participant: Participant | null) => (participant ? samples[participants.indexOf(participant)] : []);
    const timed: { turns: OurTurns; samples: number[]; check: Check }[] = [];
    for (const turns of ours) {
      const { set } = await turns.finish();
      const check = await checkLast(turns.prepared, set, expected);
      if (check.wrong !== null) {
        wrong.push(new WrongResult(turns.row, check.wrong));
        continue;
      }
      timed.push({ turns, samples: samplesOf(turns), check });
    }
    const best = [...timed].sort((x, y) => median(x.samples) - median(y.samples))[0];
    const peers: PeerRow[] = [];
    for (const each of playing) {
      const own = { throttled: samplesOf(each.throttled), stock: samplesOf(each.stock) };
      peers.push(await peerRow(each, own, best?.samples ?? [Number.NaN], expected));
    }
    const onDevice: [number, number | null][] = [];
    for (const { turns } of timed) onDevice.push(await turns.forced(async () => [await hostTime(turns.prepared), await gpuTime(gpu, turns.prepared)]));
    const roofs = await measureRoofs(gpu);
    const around = { fmaGflops: Math.max(m.roofs.fmaGflops, roofs.fmaGflops), copyGBs: Math.max(m.roofs.copyGBs, roofs.copyGBs) };
    for (const [i, each] of timed.entries()) {
      const { turns, check } = each;
      const timing = summary(each.samples, turns.coldMs, turns.runsPerSample);
      const [hostMs, gpuMedianMs] = onDevice[i];
      const gflops = b.flops / timing.medianMs / 1e6;
      rows.push({
        ...turns.row,
        work: b.work,
        ...timing,
        ...{ maxError: check.maxError, checked: check.checked, checkedAgainst: check.against },
        ...{ hostMs, gpuMedianMs, gflops, gigabytesPerSecond: b.bytes / timing.medianMs / 1e6 },
        ...{ intensity: b.flops / b.bytes, roofShare: gflops / roofOf(around, b), roofsMoved: roofsMoved(m.roofs, roofs) },
        ...{ peakBytes: turns.peakBytes, includes: turns.prepared.includes ?? null },
        ratio: each === best ? null : { to: best.turns.row.version, ...bootstrapRatio(each.samples, best.samples, true) },
        peers: each === best ? peers : [],
      });
    }
    // In the order of the versions, whether they ran or not.
    const place = ({ version }: Named) => m.versions.indexOf(version);
    rows.sort((x, y) => place(x) - place(y));
    return { rows, wrong, roofs };
  } finally {
    for (const { prepared } of ours) prepared.dispose();
    gpu.pool.trim();
  }
}
