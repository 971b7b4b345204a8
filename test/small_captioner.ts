/** A captioner small enough to follow in float64, with weights large enough for its choices to differ. */
import { END } from '../src/data/words.ts';
import { Captioner, type CaptionerOptions, type CaptionerSizes, PRESETS } from '../src/model/captioner/captioner.ts';
import { Random } from '../src/random.ts';
import { type Tensor, tensor } from '../src/tensor/tensor.ts';

export const SIZES: CaptionerSizes = { features: 12, regions: 5, project: 8, attention: 8, hidden: 12, embedding: 8, vocabulary: 17 };
/** Pictures, and the longest caption. */
export const PICTURES = 3;
export const LENGTH = 7;

/** A transformer has neither gate nor starting states. */
export const TRANSFORMER: Partial<CaptionerOptions> = { decoder: 'transformer', layers: 2, heads: 3, gate: false, learnedStart: false };

/** A language model has widths that fit its embedding, and positions for the regions before its words. */
export const LANGUAGE_MODEL: Partial<CaptionerOptions> = { ...TRANSFORMER, decoder: 'gpt2' };
const LANGUAGE_SIZES: CaptionerSizes = { ...SIZES, project: 12, embedding: 12, positions: 26 };
export const sizesFor = ({ decoder }: Partial<CaptionerOptions>): CaptionerSizes => (decoder === 'gpt2' ? LANGUAGE_SIZES : SIZES);

/** Pictures as a tensor [N, P, F], and each one's own features. */
export interface Pictures {
  all: Tensor;
  each: Float32Array[];
}

/** Random features, the same for a seed. */
export function randomPictures(count: number, seed: number, stream: string, { regions, features }: CaptionerSizes = SIZES): Pictures {
  const random = new Random(seed, stream);
  return picturesOf(
    Float32Array.from({ length: count * regions * features }, () => random.normal()),
    { regions, features },
  );
}

export function picturesOf(data: Float32Array, { regions, features }: Pick<CaptionerSizes, 'regions' | 'features'> = SIZES): Pictures {
  const per = regions * features;
  const count = data.length / per;
  return { all: tensor(data, [count, regions, features]), each: Array.from({ length: count }, (_, n) => data.subarray(n * per, (n + 1) * per)) };
}

/** Choices differ from word to word and from picture to picture, and captions end at different lengths. */
export function lively(preset: 'basic' | 'recommended', change: Partial<CaptionerOptions> = {}): { model: Captioner; pictures: Pictures } {
  const model = Captioner.create(sizesFor(change), { ...PRESETS[preset], ...change }, 5);
  const random = new Random(3, 'weights');
  for (const [name, parameter] of model.parameters.all)
    parameter.write(
      Float32Array.from(
        { length: parameter.size },
        (_, i) => random.uniform(-1, 1) * (name.startsWith('out') ? 2 : 0.9) + (name === 'out_b' && i === END ? 1 : 0),
      ),
    );
  return { model, pictures: picturesOf(Float32Array.from({ length: PICTURES * SIZES.regions * SIZES.features }, () => random.normal())) };
}
