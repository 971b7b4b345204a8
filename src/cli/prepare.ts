/** `glimpse prepare`: captions and splits → one dataset file. */
import { resolve } from 'node:path';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { readCoco, readFlickr, readKarpathy, readTable } from '../data/caption_sources.ts';
import { type CaptionedImage, prepareDataset, type Split } from '../data/captions.ts';
import { UsageError } from '../errors.ts';
import type { PrepareOptions } from './commands/prepare.ts';
import { progress, result } from './output.ts';

function readCaptions(o: PrepareOptions, onUnlisted: (file: string) => void): CaptionedImage[] {
  const given = [o.flickr, o.cocoTrain ?? o.cocoVal, o.karpathy, o.table].filter((path) => path !== undefined);
  if (given.length !== 1) throw new UsageError('give one of --flickr with split lists, --coco-train and --coco-val, --karpathy, --table');
  if (o.flickr) {
    if (!o.trainList) throw new UsageError('--flickr needs --train-list (and usually --val-list)');
    return readFlickr(o.flickr, { train: o.trainList, ...(o.valList ? { val: o.valList } : {}), ...(o.testList ? { test: o.testList } : {}) }, onUnlisted);
  }
  if (o.karpathy) return readKarpathy(o.karpathy);
  if (o.table) return readTable(o.table);
  const openSplit = o.valShare > 0 || o.testShare > 0; // without them all of --coco-train is for training
  return [...(o.cocoTrain ? readCoco(o.cocoTrain, openSplit ? null : 'train') : []), ...(o.cocoVal ? readCoco(o.cocoVal, 'val') : [])];
}

export async function prepare(o: PrepareOptions): Promise<number> {
  if (o.valShare + o.testShare >= 1) throw new UsageError(`--val-share ${o.valShare} and --test-share ${o.testShare} leave nothing to train on`);
  const unlisted = new Map<string, number>();
  const found = readCaptions(o, (file) => unlisted.set(file, (unlisted.get(file) ?? 0) + 1));
  const bar = progress(o, 'prepare', found.length, 'pictures');
  const { dataset, report } = await prepareDataset(found, {
    imageFolder: resolve(o.images),
    ...{ words: o.words, vocabularySize: o.vocabulary, minCount: o.minCount, maxLength: o.maxLength },
    ...{ fraction: o.fraction, valShare: o.valShare, testShare: o.testShare, seed: o.seed, skipBad: o.skipBad },
    onChecked: (done) => bar.update(done),
  });
  bar.stop();
  writeFileAtomic(o.out, [JSON.stringify(dataset)]);
  const percent = (value: number) => `${(100 * value).toFixed(2)} %`;
  const { lengths, captionsPerImage: per } = report;
  const unknown = (['train', 'val', 'test'] as Split[])
    .filter((name) => report.images[name] > 0)
    .map((name) => `${percent(report.unknownRate[name])} of ${name}`);
  const unlistedCaptions = [...unlisted.values()].reduce((sum, count) => sum + count, 0);
  result(o, { out: o.out, ...report, unlistedCaptions }, () =>
    [
      `${o.out}: ${report.images.train} training, ${report.images.val} validation, ${report.images.test} test pictures, ${report.captions} captions (${per.least} to ${per.most} per picture, ${per.mean.toFixed(1)} on average)`,
      `words by the ${o.words} rule: ${report.vocabulary} in the vocabulary; not in it ${unknown.join(', ')}`,
      `captions of ${lengths.mean.toFixed(1)} words on average, half at most ${lengths.median}, 95 % at most ${lengths.p95}, ${lengths.longest} at most; ${report.cut} cut`,
      `${report.duplicateCaptions} captions repeat another of the same picture, ${report.sharedCaptions} stand with several pictures`,
      `left out: ${report.withoutPicture.length} without picture, ${report.withoutCaption.length} without caption, ${report.unreadable.length} unreadable; ${unlistedCaptions} captions of ${unlisted.size} pictures in no list`,
    ].join('\n'),
  );
  return 0;
}
