/**
 * One way to time for everybody: rounds, in each of which every participant takes one sample, so that a slow phase of the machine
 * meets all of them. The `benchmark` package in deferred mode drives the rounds; we keep the samples.
 */
import Benchmark from 'benchmark';
import { Random } from '../src/random.ts';
import type { Ratio } from './ratio.ts';
import type { InputSet, Prepared } from './work.ts';

export interface Timing {
  medianMs: number;
  p95Ms: number;
  minMs: number;
  /** Half of the interquartile range, as a share of the median. */
  spread: number;
  samples: number;
  /** The very first run: compiling, allocating, uploading. */
  coldMs: number;
  /** Runs of a sample: short work is run again and again until a sample is long enough. */
  runsPerSample: number;
  /** Milliseconds of a run, by round. */
  samplesMs: number[];
}

const quantile = (sorted: readonly number[], q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);

export const median = (values: readonly number[]): number => quantile(sorted(values), 0.5);

export function summary(milliseconds: readonly number[], coldMs: number, runsPerSample = 1): Timing {
  const all = sorted(milliseconds);
  const middle = quantile(all, 0.5);
  return {
    medianMs: middle,
    p95Ms: quantile(all, 0.95),
    minMs: all[0],
    spread: (quantile(all, 0.75) - quantile(all, 0.25)) / 2 / middle,
    samples: all.length,
    coldMs,
    runsPerSample,
    samplesMs: milliseconds.map((ms) => Number(ms.toPrecision(6))),
  };
}

const RESAMPLES = 2000;

/**
 * median(a) / median(b) with its bootstrap interval (Efron 1979): both lists are drawn again with replacement. `paired` draws
 * rounds, where both lists have a sample of each round: what a slow phase did to both then cancels out.
 */
export function bootstrapRatio(a: readonly number[], b: readonly number[], paired: boolean): Ratio {
  const random = new Random(20261125, 'bootstrap');
  const draw = (list: readonly number[], at: readonly number[]) => median(at.map((i) => list[i]));
  const ratios: number[] = [];
  const pairs = Math.min(a.length, b.length);
  const indices = (count: number) => Array.from({ length: count }, () => random.integer(count));
  for (let i = 0; i < RESAMPLES; i++) {
    const first = indices(paired ? pairs : a.length);
    ratios.push(draw(a, first) / draw(b, paired ? first : indices(b.length)));
  }
  const all = sorted(ratios);
  const [low, high] = [quantile(all, 0.025), quantile(all, 0.975)];
  return { ratio: median(a) / median(b), low, high, verdict: low > 1 ? 'slower' : high < 1 ? 'faster' : 'not distinguishable' };
}

export interface SamplingOptions {
  minSamples: number;
  /** For one participant. */
  maxSeconds: number;
}

/** Evicts what earlier runs left in the device's caches. */
export type Flush = () => Promise<void>;

/** A sample lasts at least this long: short work runs several times. */
const LEAST_SAMPLE_MS = 5;
const MOST_RUNS = 1000;
/** Warming up lasts this long at least, or two runs. */
const WARM_UP_MS = 100;

/** Someone who takes turns: a version of ours, or a peer in its process. */
export interface Participant {
  name: string;
  /** Milliseconds of the first run, compile included; warms up and settles the number of runs of a sample. */
  prepare(): Promise<{ coldMs: number; runsPerSample: number }>;
  /** Milliseconds of a run. */
  sample(): Promise<number>;
}

/** Work in this process as a participant's turns. `finish` runs it on other activations than all samples: that result is the one to check. */
export class LocalTurns {
  private runs = 1;

  constructor(
    private readonly work: Prepared,
    private readonly flush: Flush,
  ) {}

  async prepare(): Promise<{ coldMs: number; runsPerSample: number }> {
    await this.work.load?.(0);
    const cold = performance.now();
    await this.work.run();
    const coldMs = performance.now() - cold;
    let least = coldMs;
    for (const start = performance.now(), until = start + WARM_UP_MS; ; ) {
      const from = performance.now();
      await this.work.run();
      least = Math.min(least, performance.now() - from);
      if (performance.now() >= until) break;
    }
    this.runs = Math.max(1, Math.min(MOST_RUNS, Math.ceil(LEAST_SAMPLE_MS / Math.max(least, 1e-3))));
    return { coldMs, runsPerSample: this.runs };
  }

  async sample(): Promise<number> {
    await this.flush();
    const start = performance.now();
    await this.work.run(this.runs);
    return (performance.now() - start) / this.runs;
  }

  /**
   * One more sample, on other activations, whose result is compared. Its time does not count, because the host has just made and
   * sent its operands. Work that changes its own operands runs once.
   */
  async finish(): Promise<{ set: InputSet }> {
    await this.work.load?.(1);
    if (this.work.inPlace) this.runs = 1;
    await this.sample();
    return { set: this.work.load ? 1 : 0 };
  }
}

/** Rounds until each participant has its samples: at least three, `minSamples` if the time allows. Returns samples by participant. */
export async function takeTurns(participants: readonly Participant[], { minSamples, maxSeconds }: SamplingOptions): Promise<number[][]> {
  const samples: number[][] = participants.map(() => []);
  const spent = participants.map(() => 0);
  const hasEnough = (i: number) => samples[i].length >= 3 && (samples[i].length >= minSamples || spent[i] >= maxSeconds * 1000);
  const round = async () => {
    for (const [i, participant] of participants.entries()) {
      if (hasEnough(i)) continue;
      const start = performance.now();
      samples[i].push(await participant.sample());
      spent[i] += performance.now() - start;
    }
  };
  await new Promise<void>((resolve, reject) => {
    const bench = new Benchmark('rounds', {
      defer: true,
      initCount: 1,
      minTime: 1e-9, // one round is a sample: the package would else put rounds together
      minSamples: Math.max(3, minSamples) - 1,
      maxTime: maxSeconds * Math.max(1, participants.length),
      fn: (deferred: { resolve(): void }) => void round().then(() => deferred.resolve(), reject),
      onComplete: () => resolve(),
      onError: (event: Benchmark.Event) => reject((event.target as unknown as { error: unknown }).error),
    });
    bench.run({ async: true });
  });
  while (participants.some((_, i) => samples[i].length < 3)) await round(); // the package counts time, not samples
  return samples;
}
