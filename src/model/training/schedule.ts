/**
 * All about the learning rate of a run: warm-up, schedule, halving, the end of a run that no longer improves, and what follows
 * the rate's course. Everything depends on configuration and progress alone, so that a resumed run repeats it.
 */
import type { Progress, TrainingConfig } from './checkpoint.ts';

/** `step` multiplies by this after every three epochs (Anderson and others 2018 decay alike). */
const STEP_FACTOR = 0.8;
const STEP_EPOCHS = 3;

/**
 * The rate of the next update. `plateau` is what halving has left of the rate; `update` counts from 1; `epochs` are those
 * done, with the part of the one under way.
 */
export function rateAt(config: TrainingConfig, plateau: number, update: number, epochs: number): number {
  const warm = config.warmup > 0 ? Math.min(1, update / config.warmup) : 1;
  switch (config.schedule) {
    case 'plateau':
      return warm * plateau;
    case 'constant':
      return warm * config.rate;
    case 'step':
      return warm * config.rate * STEP_FACTOR ** Math.floor(epochs / STEP_EPOCHS);
    case 'cosine':
      // Loshchilov and Hutter 2017, one period; never quite 0, at which an update would do nothing.
      return warm * config.rate * Math.max(1e-3, 0.5 * (1 + Math.cos(Math.PI * Math.min(1, epochs / config.horizon))));
  }
}

/** The rate of the encoder's layers, which moves in proportion to that of the captioner. */
export function encoderRateAt(config: TrainingConfig, rate: number): number {
  return config.encoderRate * (rate / config.rate);
}

/** The probability that scheduled sampling replaces a word: from 0, linearly, to its share at the last epoch. */
export function samplingProbability(config: TrainingConfig, epochs: number): number {
  return (config.options.scheduledSampling * epochs) / Math.max(1, config.horizon);
}

/** What the CIDEr-D after an epoch changes: `plateau` halves the rate after every `patience` epochs without a better one. Without a validation nothing changes. */
export function afterEpoch(config: TrainingConfig, progress: Progress, score: number | null): Pick<Progress, 'rate' | 'bestScore' | 'epochsSinceBest'> {
  const better = score !== null && score > (progress.bestScore ?? Number.NEGATIVE_INFINITY);
  const epochsSinceBest = better || score === null ? 0 : progress.epochsSinceBest + 1;
  const halves = config.schedule === 'plateau' && config.patience > 0 && epochsSinceBest > 0 && epochsSinceBest % config.patience === 0;
  return { epochsSinceBest, rate: halves ? progress.rate / 2 : progress.rate, bestScore: better ? score : progress.bestScore };
}

/** Whether a run ends before its last epoch: twice `patience` epochs without a better score, by any schedule. */
export function hasStalled(config: TrainingConfig, progress: Progress): boolean {
  return config.patience > 0 && progress.epochsSinceBest >= 2 * config.patience;
}
