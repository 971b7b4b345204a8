/** Turns and intervals: everybody is timed alike, and a ratio says how sure it is. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { roofsMoved } from '../bench/roofs.ts';
import { bootstrapRatio, LocalTurns, median, type Participant, takeTurns } from '../bench/sampling.ts';
import type { Prepared } from '../bench/work.ts';
import { Random } from '../src/random.ts';

describe('turns', () => {
  const participant = (name: string, order: string[], ms: () => number): Participant => ({
    name,
    prepare: async () => ({ coldMs: 1, runsPerSample: 1 }),
    async sample() {
      order.push(name);
      return ms();
    },
  });

  test('are interleaved: A B C A B C', async () => {
    const order: string[] = [];
    const three = ['A', 'B', 'C'].map((name) => participant(name, order, () => 1));
    const samples = await takeTurns(three, { minSamples: 4, maxSeconds: 0.2 });
    expect(order.join('')).toBe('ABC'.repeat(4));
    expect(samples.map(({ length }) => length)).toEqual([4, 4, 4]);
  });

  test('are three at least, however little time there is', async () => {
    const samples = await takeTurns([participant('A', [], () => 1)], { minSamples: 50, maxSeconds: 0 });
    expect(samples[0].length).toBeGreaterThanOrEqual(3);
  });

  test('short work runs several times within a sample, at least 5 ms long; the caches are flushed before each', async () => {
    const calls: string[] = [];
    const wait = (ms: number) => {
      for (const until = performance.now() + ms; performance.now() < until; );
    };
    const work: Prepared = {
      async load(set) {
        calls.push(`load ${set}`);
      },
      async run(times = 1) {
        calls.push(`run ${times}`);
        wait(0.5 * times);
      },
      dispose() {},
    };
    const turns = new LocalTurns(work, async () => void calls.push('flush'));
    const { coldMs, runsPerSample } = await turns.prepare();
    expect(coldMs).toBeGreaterThan(0.4);
    expect(runsPerSample).toBeGreaterThanOrEqual(9);
    expect(calls.slice(0, 3)).toEqual(['load 0', 'run 1', 'run 1']);
    expect(calls).not.toContain('flush'); // warming up and the cold call are no samples
    calls.length = 0;
    expect(await turns.sample()).toBeGreaterThan(0.4);
    expect(await turns.finish()).toEqual({ set: 1 });
    expect(calls).toEqual(['flush', `run ${runsPerSample}`, 'load 1', 'flush', `run ${runsPerSample}`]);
    // Work in place is compared after one run.
    const once = new LocalTurns({ ...work, inPlace: true }, async () => {});
    await once.prepare();
    calls.length = 0;
    await once.finish();
    expect(calls).toEqual(['load 1', 'run 1']);
  });
});

describe('the interval of a ratio', () => {
  const random = new Random(5, 'samples');
  const noisy = (middle: number, spread: number, count = 25) => Array.from({ length: count }, () => middle * (1 + spread * random.normal()));

  test('holds the ratio, and says which differences are none', () => {
    const [a, b] = [noisy(10, 0.02), noisy(5, 0.02)];
    const twice = bootstrapRatio(a, b, true);
    expect(twice).toMatchObject({ ratio: median(a) / median(b), verdict: 'slower' });
    expect(twice.low).toBeLessThan(2.05);
    expect(twice.high).toBeGreaterThan(1.95);
    expect(bootstrapRatio(b, a, false).verdict).toBe('faster');
    expect(bootstrapRatio(noisy(10, 0.1), noisy(10, 0.1), false).verdict).toBe('not distinguishable');
  });

  test('a slow phase that met both cancels out in pairs of rounds, and not without', () => {
    const phase = Array.from({ length: 30 }, (_, i) => (i < 15 ? 1 : 2));
    const [a, b] = [phase.map((p) => 1.1 * p), phase.map((p) => p)];
    expect(bootstrapRatio(a, b, true)).toMatchObject({ verdict: 'slower' });
    expect(bootstrapRatio(a, b, false)).toMatchObject({ verdict: 'not distinguishable' });
  });

  test('covers the true ratio of two samples of one distribution in most draws', () => {
    const covered = Array.from({ length: 60 }, () => bootstrapRatio(noisy(1, 0.05), noisy(1, 0.05), false)).filter(({ low, high }) => low <= 1 && high >= 1);
    expect(covered.length).toBeGreaterThanOrEqual(51); // 57 of 60 are expected
  });

  test('bounds stand around the ratio, and the same samples give the same interval', () => {
    const times = fc.array(fc.double({ min: 0.1, max: 100, noNaN: true }), { minLength: 3, maxLength: 12 });
    fc.assert(
      fc.property(times, times, (a, b) => {
        const one = bootstrapRatio(a, b, false);
        expect(one.low).toBeLessThanOrEqual(one.high);
        expect(bootstrapRatio(a, b, false)).toEqual(one);
      }),
      { numRuns: 20 },
    );
  });
});

test('roofs that moved by more than a tenth are told', () => {
  expect(roofsMoved({ fmaGflops: 100, copyGBs: 10 }, { fmaGflops: 109, copyGBs: 9.1 })).toBeNull();
  expect(roofsMoved({ fmaGflops: 100, copyGBs: 10 }, { fmaGflops: 50, copyGBs: 10 })).toBe('multiply-adds −50 %');
  expect(roofsMoved({ fmaGflops: 100, copyGBs: 10 }, { fmaGflops: 130, copyGBs: 8 })).toBe('multiply-adds +30 %, copy −20 %');
});
