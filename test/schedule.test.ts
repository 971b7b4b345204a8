/** The learning rate: its schedule, its halving, and the end of a run that stalls. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PRESETS } from '../src/model/captioner/captioner.ts';
import type { Progress, TrainingConfig } from '../src/model/training/checkpoint.ts';
import { afterEpoch, encoderRateAt, hasStalled, rateAt, samplingProbability } from '../src/model/training/schedule.ts';

describe('the rate', () => {
  const config = { rate: 0.01, warmup: 0, horizon: 10, schedule: 'cosine' } as TrainingConfig;

  test('follows its schedule', () => {
    expect(rateAt(config, 1, 1, 0)).toBeCloseTo(0.01, 12);
    expect(rateAt(config, 1, 1, 5)).toBeCloseTo(0.005, 12);
    expect(rateAt(config, 1, 1, 10)).toBeCloseTo(0.00001, 12);
    expect(rateAt({ ...config, warmup: 4 }, 1, 1, 0)).toBeCloseTo(0.0025, 12);
    expect(rateAt({ ...config, schedule: 'step' }, 1, 1, 6.5)).toBeCloseTo(0.0064, 12);
    expect(rateAt({ ...config, schedule: 'constant' }, 1, 99, 6.5)).toBe(0.01);
    expect(rateAt({ ...config, schedule: 'plateau' }, 0.003, 99, 6.5)).toBe(0.003);
  });

  /** Rate, best score and epochs since then, after each of the scores. */
  function course(own: Partial<TrainingConfig>, scores: readonly (number | null)[]) {
    let progress = { rate: 0.01, bestScore: null, epochsSinceBest: 0 } as Progress;
    const seen = scores.map((score) => {
      progress = { ...progress, ...afterEpoch({ ...config, ...own }, progress, score) };
      return [progress.rate, progress.bestScore, progress.epochsSinceBest];
    });
    return { seen, stalled: hasStalled({ ...config, ...own }, progress) };
  }

  test('is halved after each patience without a better score, and the run ends after twice as long', () => {
    const plateau = { schedule: 'plateau', patience: 2 } as const;
    expect(course(plateau, [0.5, 0.4, 0.5, 0.6, 0.1])).toEqual({
      seen: [
        [0.01, 0.5, 0],
        [0.01, 0.5, 1],
        [0.005, 0.5, 2],
        [0.005, 0.6, 0],
        [0.005, 0.6, 1],
      ],
      stalled: false,
    });
    expect(course(plateau, [0.5, 0.4, 0.4, 0.4]).stalled).toBe(false);
    const stalled = course(plateau, [0.5, 0.4, 0.4, 0.4, 0.4]);
    expect([stalled.seen[4][0], stalled.stalled]).toEqual([0.0025, true]);
  });

  test('another schedule is not halved, but ends; patience 0 and no validation do neither', () => {
    const scores = [0.5, 0.4, 0.4, 0.4, 0.4];
    const last = (own: Partial<TrainingConfig>, list: readonly (number | null)[] = scores) => {
      const { seen, stalled } = course(own, list);
      return [...seen[list.length - 1], stalled];
    };
    expect(last({ schedule: 'cosine', patience: 2 })).toEqual([0.01, 0.5, 4, true]);
    expect(last({ schedule: 'plateau', patience: 0 })).toEqual([0.01, 0.5, 4, false]);
    expect(last({ schedule: 'plateau', patience: 1 }, [null, null, null])).toEqual([0.01, null, 0, false]);
  });

  test('takes the encoder’s rate and scheduled sampling along', () => {
    expect(encoderRateAt({ ...config, encoderRate: 1e-4 }, 0.0025)).toBeCloseTo(2.5e-5, 12);
    const sampled = { ...config, options: { ...PRESETS.basic, scheduledSampling: 0.4 } };
    expect([0, 5, 10].map((epochs) => samplingProbability(sampled, epochs))).toEqual([0, 0.2, 0.4]);
    expect(samplingProbability({ ...config, options: PRESETS.basic, horizon: 0 }, 3)).toBe(0);
  });

  test('is never above its height and never 0', () => {
    const schedule = fc.constantFrom('plateau', 'constant', 'cosine', 'step') as fc.Arbitrary<TrainingConfig['schedule']>;
    fc.assert(
      fc.property(
        schedule,
        fc.integer({ min: 0, max: 50 }),
        fc.integer({ min: 1, max: 1000 }),
        fc.double({ min: 0, max: 100, noNaN: true }),
        (name, warmup, update, place) => {
          const rate = rateAt({ ...config, schedule: name, warmup }, 0.01, update, place);
          expect(rate).toBeGreaterThan(0);
          expect(rate).toBeLessThanOrEqual(0.01);
        },
      ),
    );
  });
});
