/** `glimpse neighbors`: the training pictures of a dataset as vectors, with their captions and the words that follow from a vector, in one file. */

import { counted, examplesOf } from '../counted.ts';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { readDataset } from '../data/captions.ts';
import { roundToHalf } from '../data/half.ts';
import { type NeighborFile, neighborBytes } from '../data/neighbor_file.ts';
import { GlimpseError } from '../errors.ts';
import { captionTokens } from '../metrics/ptb.ts';
import { CaptionWords, WordRegression } from '../model/captioner/expected_words.ts';
import { centered, pictureVectors } from '../model/captioner/neighbors.ts';
import { featureTensor } from '../nn/stored_features.ts';
import { scope, tensor } from '../tensor/tensor.ts';
import type { NeighborsOptions } from './commands/neighbors.ts';
import { openFeatures } from './feature_stores.ts';
import { progress, result, say } from './output.ts';
import { withGpu } from './session.ts';

/** Pictures whose vectors are made at a time. */
const BATCH = 32;
/** Pictures that are added to the regression of words at a time. */
const REGRESSED_TOGETHER = 1024;

/** The weights of the words that are expected of a picture, as halves, and how many words. */
async function regress(
  o: NeighborsOptions,
  { width, vectors, mean, captions }: Omit<NeighborFile, 'expected'>,
): Promise<{ expected: Uint16Array; words: number }> {
  const tokens = captions.map((each) => each.map(captionTokens));
  const known = new CaptionWords(tokens);
  const words = known.words.length;
  const expected = new Uint16Array(width * words);
  if (words === 0) return { expected, words };
  const regression = new WordRegression(known, width);
  for (let first = 0; first < captions.length; first += REGRESSED_TOGETHER) {
    using _part = scope();
    const part = tokens.slice(first, first + REGRESSED_TOGETHER);
    const x = centered(featureTensor(vectors.subarray(first * width, (first + part.length) * width), [part.length, width]), tensor(mean, [1, width]));
    regression.add(x, part);
  }
  let bar: ReturnType<typeof progress> | null = null;
  const weights = await regression.solve((done, all) => {
    bar ??= progress(o, 'words', all, 'steps');
    bar.update(done);
  });
  (bar as ReturnType<typeof progress> | null)?.stop();
  regression.dispose();
  roundToHalf(weights, expected);
  return { expected, words };
}

export async function neighbors(o: NeighborsOptions): Promise<number> {
  const dataset = readDataset(o.data);
  const store = await openFeatures(o, o.features);
  const ofTraining = dataset.images.filter(({ split, captions }) => split === 'train' && captions.length > 0);
  const images = ofTraining.filter(({ file }) => store.has(file));
  if (images.length === 0) throw new GlimpseError(`no training picture has features in ${o.features.join(', ')}`);
  const withoutFeatures = counted(ofTraining.filter(({ file }) => !store.has(file)).map(({ file }) => file));
  if (withoutFeatures.count > 0)
    say(o, `${withoutFeatures.count} of ${ofTraining.length} training pictures have no features and are left out${examplesOf(withoutFeatures)}`);
  const { regions, width, encoder } = store.index;
  return withGpu(o, async () => {
    const vectors = new Uint16Array(images.length * width);
    const mean = new Float64Array(width);
    const bar = progress(o, 'neighbors', images.length, 'pictures');
    for (let first = 0; first < images.length; first += BATCH) {
      using _batch = scope();
      const part = images.slice(first, first + BATCH);
      const stored = await store.readStored(part.map(({ file }) => file));
      const own = (await pictureVectors(featureTensor(stored, [part.length, regions, width])).data()) as Float32Array;
      roundToHalf(own, vectors.subarray(first * width, (first + part.length) * width));
      for (const [i, value] of own.entries()) mean[i % width] += value / images.length;
      bar.update(Math.min(images.length, first + BATCH));
    }
    bar.stop();
    await store.close();
    const captions = images.map((image) => [...image.captions]);
    const made = { encoder, width, vectors, mean: Float32Array.from(mean), captions };
    const { expected, words } = await regress(o, made);
    writeFileAtomic(o.out, neighborBytes({ ...made, expected }));
    const count = captions.flat().length;
    result(o, { out: o.out, pictures: images.length, captions: count, width, words, withoutFeatures: withoutFeatures.count }, () => [
      `${o.out}: ${images.length} pictures as vectors of ${width} numbers, with ${count} captions and the weights of ${words} words`,
      `Caption with: glimpse caption RUN PICTURE… --beam 10 --neighbors ${o.out}`,
    ]);
    return 0;
  });
}
