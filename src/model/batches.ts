/** Orders a dataset into batches, the same for a seed and epoch anywhere, and lays their words out time-major. */
import type { Dataset, Split } from '../data/captions.ts';
import { Random } from '../tensor/random.ts';

export interface Batch {
  /** One entry per picture. */
  files: string[];
  /** Captions per picture; rows are ordered picture by picture. */
  captionsPerImage: number;
  steps: number;
  /** Words before and at each step, [steps, rows]; padding is 0. */
  ids: Uint32Array;
  targets: Uint32Array;
  /** Words to be predicted. */
  tokens: number;
}

export interface BatchShape {
  images: number;
  captionsPerImage: number;
}

function layOut(files: string[], captionsPerImage: number, rows: readonly (readonly number[])[]): Batch {
  const steps = rows.reduce((longest, row) => Math.max(longest, row.length), 0) - 1;
  const ids = new Uint32Array(steps * rows.length);
  const targets = new Uint32Array(steps * rows.length);
  let tokens = 0;
  rows.forEach((row, r) => {
    for (let t = 0; t + 1 < row.length; t++) {
      ids[t * rows.length + r] = row[t];
      targets[t * rows.length + r] = row[t + 1];
      tokens++;
    }
  });
  return { files, captionsPerImage, steps, ids, targets, tokens };
}

/**
 * The batches of an epoch. With one caption per picture every (picture, caption) pair is a row of its own and pairs are
 * shuffled; with more, pictures are shuffled and share their features among that many captions (repeated when there are
 * fewer). Only pictures in `known` are used. `order` false keeps the file's order (validation).
 */
export function epochBatches(
  dataset: Dataset,
  split: Split,
  shape: BatchShape,
  known: (file: string) => boolean,
  seed: number,
  epoch: number,
  order = true,
): Batch[] {
  const images = dataset.images.filter((image) => image.split === split && known(image.file));
  const items =
    shape.captionsPerImage === 1
      ? images.flatMap(({ file, ids }) => ids.map((caption) => ({ file, captions: [caption] })))
      : images.map(({ file, ids }) => ({ file, captions: Array.from({ length: shape.captionsPerImage }, (_, i) => ids[i % ids.length]) }));
  const places = order ? new Random(seed, `order of ${split}`, epoch).permutation(items.length) : items.map((_, i) => i);
  const batches: Batch[] = [];
  for (let first = 0; first < items.length; first += shape.images) {
    const chosen = places.slice(first, first + shape.images).map((i) => items[i]);
    batches.push(
      layOut(
        chosen.map(({ file }) => file),
        shape.captionsPerImage,
        chosen.flatMap(({ captions }) => captions),
      ),
    );
  }
  return batches;
}
