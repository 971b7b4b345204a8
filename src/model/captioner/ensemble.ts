/**
 * Several captioners that decode as one: the probability of a word is the mean of theirs. Models that were trained from different
 * random seeds err in different places, so their mean errs less (Hansen and Salamon 1990). Each keeps its own states.
 *
 *   logits_t = log (1/M Σ_m softmax(logits_t of m))          softmax gives back the mean, and log-softmax its logarithm
 *   α_t = 1/M Σ_m α_t of m                                   for pictures of where they look
 */
import * as ops from '../../autograd/ops/index.ts';
import { GlimpseError } from '../../errors.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Captioner } from './captioner.ts';
import { type Begun, type DecodedModel, Decoding } from './decoding.ts';

/** Keeps the logarithm of a probability that underflowed to 0 finite. */
const TINY = 1e-30;

const mean = (list: readonly Tensor[]): Tensor => ops.scale(list.reduce(ops.add), 1 / list.length);

const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);

/** Captioners that decode together. `dispose` frees them all. */
export class Ensemble implements DecodedModel {
  /** Captions of features: `greedy`, `sample`, `beam`. */
  readonly decoding = new Decoding(this);

  /** Throws a GlimpseError if the models have not the same words, or read features of different shapes. */
  constructor(private readonly members: readonly Captioner[]) {
    const [first, ...others] = members.map(({ sizes: { vocabulary, features, regions } }) => ({ vocabulary, features, regions }));
    if (!first) throw new GlimpseError('an ensemble has one model at least');
    for (const [i, sizes] of others.entries())
      for (const name of ['vocabulary', 'features', 'regions'] as const)
        if (sizes[name] !== first[name])
          throw new GlimpseError(`models 1 and ${i + 2} cannot decode together: their ${name} are ${first[name]} and ${sizes[name]}`);
  }

  prepareDecoding(words: number): string {
    return this.members.map((member) => member.prepareDecoding(words)).join('; ');
  }

  begin(features: Tensor, captions: number, keep: (x: Tensor) => Tensor): Begun {
    const begun = this.members.map((member) => member.begin(features, captions, keep));
    const start = begun.flatMap((each) => each.start);
    const first = begun.map((each) => each.start.length);
    let counts = first;
    return {
      start,
      step: (states, previous) => {
        // A transformer begins without states and has some from its first step on.
        const given = states.length === start.length ? first : counts;
        const ends = given.map((_, i) => sum(given.slice(0, i + 1)));
        const steps = begun.map(({ step }, i) => step(states.slice(ends[i] - given[i], ends[i]), previous));
        counts = steps.map((each) => each.states.length);
        const probabilities = mean(steps.map(({ logits }) => ops.softmax(logits)));
        return {
          logits: ops.log(ops.addScalar(probabilities, TINY)),
          alpha: mean(steps.map(({ alpha }) => alpha)),
          states: steps.flatMap((each) => each.states),
        };
      },
    };
  }

  dispose(): void {
    this.decoding.dispose();
    for (const member of this.members) member.dispose();
  }
}
