/**
 * One way to time for everybody: the `benchmark` package in deferred mode, whose clock and cycle calibration it keeps, with
 * at least MIN_SAMPLES samples of one run each; the caller gets the sample itself, sorted.
 */
import Benchmark from 'benchmark';
import type { Prepared } from './work.ts';

export interface Timing {
  medianMs: number;
  p95Ms: number;
  minMs: number;
  /** Half of the interquartile range, as a share of the median. */
  spread: number;
  samples: number;
  /** The very first run: compiling, allocating, uploading. */
  coldMs: number;
}

const quantile = (sorted: readonly number[], q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];

export const median = (values: readonly number[]): number =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );

export function summary(milliseconds: readonly number[], coldMs: number): Timing {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const middle = quantile(sorted, 0.5);
  return {
    medianMs: middle,
    p95Ms: quantile(sorted, 0.95),
    minMs: sorted[0],
    spread: (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2 / middle,
    samples: sorted.length,
    coldMs,
  };
}

export interface SamplingOptions {
  minSamples: number;
  maxSeconds: number;
}

/** Bigger than the caches of the machines this runs on; written before each sample, for us and for peers. */
const FLUSH = new Float64Array(1 << 23);

/**
 * Runs twice to warm up (the first of them is the cold time), then samples, the last on other activations than all before:
 * its result is the one to check. `sample` is in the order of time, for `summary`.
 */
export async function timeWork(prepared: Prepared, { minSamples, maxSeconds }: SamplingOptions): Promise<{ sample: number[]; coldMs: number }> {
  await prepared.load?.(0);
  const cold = performance.now();
  await prepared.run();
  const coldMs = performance.now() - cold;
  const warm = performance.now();
  await prepared.run();
  const warmMs = performance.now() - warm;
  const sample: number[] = [];
  // Work of seconds gets few samples, but never fewer than three.
  const wanted = Math.max(3, Math.min(minSamples, Math.ceil((maxSeconds * 1000) / Math.max(warmMs, 0.01))));
  const takeSample = async () => {
    FLUSH.fill(FLUSH[0] + 1);
    const start = performance.now();
    await prepared.run();
    sample.push(performance.now() - start);
  };
  await new Promise<void>((resolve, reject) => {
    const bench = new Benchmark('work', {
      defer: true,
      initCount: 1,
      minTime: 1e-9, // one run is a sample: the package would else put runs together, and the quantiles would be of means
      minSamples: wanted - 1,
      maxTime: maxSeconds,
      fn: (deferred: { resolve(): void }) => void takeSample().then(() => deferred.resolve(), reject),
      onComplete: () => resolve(),
      onError: (event: Benchmark.Event) => reject((event.target as unknown as { error: unknown }).error),
    });
    bench.run({ async: true });
  });
  await prepared.load?.(1);
  await takeSample();
  return { sample, coldMs };
}
