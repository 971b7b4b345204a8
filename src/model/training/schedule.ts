/**
 * The learning rate of a run: warm-up, schedule, halving, and the end of a run that no longer improves. The rate of the encoder
 * and scheduled sampling follow the same course. All depends on configuration and progress alone, so a resumed run repeats it.
 */
import type { Progress, TrainingConfig } from './checkpoint.ts';

/** `step` multiplies the rate by this after every three epochs, similar to Anderson and others (2018). */
const STEP_FACTOR = 0.8;
const STEP_EPOCHS = 3;

/**
 * The learning rate of the next update. `plateau` is the rate after the halvings so far. `update` counts from 1. `epochs` is the
 * number of epochs done, with the fraction of the present one.
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
      // One period (Loshchilov and Hutter 2017). It never reaches 0, because an update would then do nothing.
      return warm * config.rate * Math.max(1e-3, 0.5 * (1 + Math.cos(Math.PI * Math.min(1, epochs / config.horizon))));
  }
}

/** The learning rate of the encoder's layers, in proportion to that of the captioner. */
export function encoderRateAt(config: TrainingConfig, rate: number): number {
  return config.encoderRate * (rate / config.rate);
}

/** The learning rate of the language model's own weights, likewise. */
export function languageRateAt(config: TrainingConfig, rate: number): number {
  return (config.languageRate ?? 0) * (rate / config.rate);
}

/** The probability that scheduled sampling replaces a word. It grows linearly from 0 to its share at the last epoch. */
export function samplingProbability(config: TrainingConfig, epochs: number): number {
  return (config.options.scheduledSampling * epochs) / Math.max(1, config.horizon);
}

/**
 * The progress after an epoch with this score. `plateau` halves the rate after each `patience` epochs without a better score. An
 * epoch without a score (null) does not count as one without a better score.
 */
export function afterEpoch(config: TrainingConfig, progress: Progress, score: number | null): Pick<Progress, 'rate' | 'bestScore' | 'epochsSinceBest'> {
  const better = score !== null && score > (progress.bestScore ?? Number.NEGATIVE_INFINITY);
  const epochsSinceBest = better || score === null ? 0 : progress.epochsSinceBest + 1;
  const halves = config.schedule === 'plateau' && config.patience > 0 && epochsSinceBest > 0 && epochsSinceBest % config.patience === 0;
  return { epochsSinceBest, rate: halves ? progress.rate / 2 : progress.rate, bestScore: better ? score : progress.bestScore };
}

/** Whether a run ends early: after twice `patience` epochs without a better score, with any schedule. */
export function hasStalled(config: TrainingConfig, progress: Progress): boolean {
  return config.patience > 0 && progress.epochsSinceBest >= 2 * config.patience;
}
