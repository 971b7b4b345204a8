/** `glimpse prepare`: captions and splits → one dataset file. */
import { resolve } from 'node:path';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { type CaptionedImage, prepareDataset, readCoco, readFlickr } from '../data/captions.ts';
import { UsageError } from '../errors.ts';
import { type CommonOptions, result } from './output.ts';

interface PrepareCommand extends CommonOptions {
  images: string;
  out: string;
  flickr?: string;
  trainList?: string;
  valList?: string;
  testList?: string;
  cocoTrain?: string;
  cocoVal?: string;
  vocabulary: number;
  minCount: number;
  maxLength: number;
  skipBad?: boolean;
}

function readCaptions(o: PrepareCommand): CaptionedImage[] {
  if (o.flickr) {
    if (o.cocoTrain || o.cocoVal) throw new UsageError('give either --flickr or --coco-train / --coco-val');
    if (!o.trainList) throw new UsageError('--flickr needs --train-list (and usually --val-list)');
    return readFlickr(o.flickr, { train: o.trainList, ...(o.valList ? { val: o.valList } : {}), ...(o.testList ? { test: o.testList } : {}) });
  }
  if (o.trainList || o.valList || o.testList) throw new UsageError('split lists go with --flickr; COCO files name their own splits');
  if (!o.cocoTrain && !o.cocoVal) throw new UsageError('give --flickr with split lists, or --coco-train and --coco-val');
  return [...(o.cocoTrain ? readCoco(o.cocoTrain, 'train') : []), ...(o.cocoVal ? readCoco(o.cocoVal, 'val') : [])];
}

export async function prepare(o: PrepareCommand): Promise<number> {
  const options = { imageFolder: resolve(o.images), vocabularySize: o.vocabulary, minCount: o.minCount, maxLength: o.maxLength, skipBad: o.skipBad ?? false };
  const { dataset, report } = prepareDataset(readCaptions(o), options);
  writeFileAtomic(o.out, [JSON.stringify(dataset)]);
  result(o, { out: o.out, ...report }, () =>
    [
      `${o.out}: ${report.images.train} training, ${report.images.val} validation, ${report.images.test} test pictures, ${report.captions} captions`,
      `vocabulary ${report.vocabulary} words, ${(100 * report.unknownRate).toFixed(2)} % of words unknown; captions of ${report.meanLength.toFixed(1)} words on average, ${report.longest} at most, ${report.cut} cut`,
      `${report.duplicateCaptions} captions repeat another of the same picture; left out: ${report.withoutPicture.length} without picture, ${report.withoutCaption.length} without caption`,
    ].join('\n'),
  );
  return 0;
}
