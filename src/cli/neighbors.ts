/** `glimpse neighbors`: the training pictures of a dataset as vectors, with their captions, in one file. */

import { counted, examplesOf } from '../counted.ts';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { readDataset } from '../data/captions.ts';
import { roundToHalf } from '../data/half.ts';
import { neighborBytes } from '../data/neighbor_file.ts';
import { GlimpseError } from '../errors.ts';
import { pictureVectors } from '../model/captioner/neighbors.ts';
import { featureTensor } from '../nn/stored_features.ts';
import { scope } from '../tensor/tensor.ts';
import type { NeighborsOptions } from './commands/neighbors.ts';
import { openFeatures } from './feature_stores.ts';
import { progress, result, say } from './output.ts';
import { withGpu } from './session.ts';

/** Pictures whose vectors are made at a time. */
const BATCH = 32;

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
    writeFileAtomic(o.out, neighborBytes({ encoder, width, vectors, mean: Float32Array.from(mean), captions: images.map(({ captions }) => [...captions]) }));
    const captions = images.reduce((sum, image) => sum + image.captions.length, 0);
    result(o, { out: o.out, pictures: images.length, captions, width, withoutFeatures: withoutFeatures.count }, () => [
      `${o.out}: ${images.length} pictures as vectors of ${width} numbers, with ${captions} captions`,
      `Caption with: glimpse caption RUN PICTURE… --beam 10 --neighbors ${o.out}`,
    ]);
    return 0;
  });
}
