/** How the learning rate moves over a run. It depends only on the configuration and on progress, so that a resumed run repeats it. */
import type { TrainingConfig } from './checkpoint.ts';

/** `step` multiplies by this after every three epochs (Anderson and others 2018 decay alike). */
const STEP_FACTOR = 0.8;
const STEP_EPOCHS = 3;

/**
 * The rate of the next update. `plateau` is what the last epochs left of the rate (halved when the score stands still);
 * `update` counts from 1; `place` is the epochs done, with the part of the one under way.
 */
export function rateAt(config: TrainingConfig, plateau: number, update: number, place: number): number {
  const warm = config.warmup > 0 ? Math.min(1, update / config.warmup) : 1;
  switch (config.schedule) {
    case 'plateau':
      return warm * plateau;
    case 'constant':
      return warm * config.rate;
    case 'step':
      return warm * config.rate * STEP_FACTOR ** Math.floor(place / STEP_EPOCHS);
    case 'cosine':
      // Loshchilov and Hutter 2017, one period; never quite 0, at which an update would do nothing.
      return warm * config.rate * Math.max(1e-3, 0.5 * (1 + Math.cos(Math.PI * Math.min(1, place / config.horizon))));
  }
}
