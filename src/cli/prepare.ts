/** `glimpse prepare`: captions and splits → one dataset file. */
import { resolve } from 'node:path';
import { type Counted, counted, examplesOf } from '../counted.ts';
import { readCoco, readFlickr, readKarpathy, readTable } from '../data/caption_sources.ts';
import { type CaptionedImage, distinctPictures, prepareDataset, SPLITS, type Split, writeDataset } from '../data/captions.ts';
import { readParquetTable, readShards } from '../data/shards.ts';
import { separatorText, type TableForm } from '../data/table.ts';
import { parseColumns } from '../data/table_columns.ts';
import { readTokenizer } from '../data/tokenizer_files.ts';
import { SMALLEST_OF_TOKENS } from '../data/words.ts';
import { UsageError } from '../errors.ts';
import type { PrepareOptions } from './commands/prepare.ts';
import { progress, result, say } from './output.ts';

/** What was decided about a table's form, as a line. */
function formText(path: string, { separator, columns }: TableForm): string {
  return `${path}: ${isParquet(path) ? 'Parquet' : separatorText(separator)}; ${Object.entries(columns)
    .map(([column, name]) => `${column} from the column "${name}"`)
    .join(', ')}`;
}

const isParquet = (path: string) => /\.parquet$/i.test(path);

const columnsOf = ({ columns }: PrepareOptions) => (columns ? { columns: parseColumns(columns, '--columns') } : {});

/** Pictures with captions, and where they are. */
type Found = ReturnType<typeof readShards>;

function foundInShards(o: PrepareOptions): Found {
  const given = [
    // Shards of a split that is named apart leave the others to their names, their columns, or the draw.
    { split: null, paths: o.shards ?? [] },
    { split: 'val' as const, paths: o.valShards ?? [] },
    { split: 'test' as const, paths: o.testShards ?? [] },
  ];
  let bar: ReturnType<typeof progress> | null = null;
  const found = readShards(given, {
    ...{ ...columnsOf(o), encoding: o.encoding, followLinks: o.followLinks ?? false, skipBad: o.skipBad ?? false },
    onShard(done, total) {
      bar ??= progress(o, 'shards', total, 'shards');
      bar.update(done);
    },
  });
  (bar as ReturnType<typeof progress> | null)?.stop();
  return found;
}

function readCaptions(o: PrepareOptions, onUnlisted: (file: string) => void, onForm: (form: TableForm) => void): CaptionedImage[] {
  const { encoding } = o;
  if (o.flickr) {
    if (!o.trainList) throw new UsageError('--flickr needs --train-list (and usually --val-list)');
    return readFlickr(o.flickr, { train: o.trainList, ...(o.valList ? { val: o.valList } : {}), ...(o.testList ? { test: o.testList } : {}) }, onUnlisted, {
      encoding,
    });
  }
  if (o.karpathy) return readKarpathy(o.karpathy, { encoding });
  if (o.table) return (isParquet(o.table) ? readParquetTable : readTable)(o.table, { encoding, onForm, ...columnsOf(o) });
  const openSplit = o.valShare > 0 || o.testShare > 0; // without them all of --coco-train is for training
  const read = (path: string | undefined, split: Split | null) => (path ? readCoco(path, split, { encoding }) : []);
  return distinctPictures([...read(o.cocoTrain, openSplit ? null : 'train'), ...read(o.cocoVal, 'val')]);
}

export async function prepare(o: PrepareOptions): Promise<number> {
  if (o.valShare + o.testShare >= 1) throw new UsageError(`--val-share ${o.valShare} and --test-share ${o.testShare} leave nothing to train on`);
  if (o.words === 'byte-pairs' && !o.tokenizer) throw new UsageError('--words byte-pairs needs the folder of a language model: name it with --tokenizer');
  if (o.words === 'byte-pairs' && o.vocabulary < SMALLEST_OF_TOKENS)
    throw new UsageError(`--vocabulary has room for the ${SMALLEST_OF_TOKENS} special words and bytes at least with --words byte-pairs, got ${o.vocabulary}`);
  const given = [o.flickr, o.cocoTrain ?? o.cocoVal, o.karpathy, o.table, o.shards].filter((source) => source !== undefined);
  if (given.length !== 1) throw new UsageError('give one of --flickr with split lists, --coco-train and --coco-val, --karpathy, --table, --shards');
  if (!o.shards && !o.images) throw new UsageError('--images is needed: the folder of the pictures');
  const tokenizer = o.tokenizer ? readTokenizer(o.tokenizer) : null;
  const unlisted = new Map<string, number>();
  let form: TableForm | null = null;
  const inShards = o.shards ? foundInShards(o) : null;
  const found =
    inShards?.found ??
    readCaptions(
      o,
      (file) => unlisted.set(file, (unlisted.get(file) ?? 0) + 1),
      (each) => {
        form = each;
        say(o, formText(o.table as string, each));
      },
    );
  const bar = progress(o, 'prepare', found.length, 'pictures');
  const { dataset, report } = await prepareDataset(found, {
    imageFolder: inShards?.imageFolder ?? resolve(o.images as string),
    ...(inShards ? { shards: inShards.shards } : {}),
    ...(tokenizer ? { bytePairs: tokenizer.bytePairs } : {}),
    ...{ words: o.words, vocabularySize: o.vocabulary, minCount: o.minCount, maxLength: o.maxLength },
    ...{ fraction: o.fraction, valShare: o.valShare, testShare: o.testShare, seed: o.seed, skipBad: o.skipBad, decode: o.decode, followLinks: o.followLinks },
    onChecked: (done) => bar.update(done),
  });
  bar.stop();
  writeDataset(o.out, dataset);
  const percent = (value: number) => `${(100 * value).toFixed(2)} %`;
  const { lengths, captionsPerImage: per } = report;
  const unknown = SPLITS.filter((name) => report.images[name] > 0).map((name) => `${percent(report.unknownRate[name])} of ${name}`);
  const unlistedCaptions = [...unlisted.values()].reduce((sum, count) => sum + count, 0);
  const told: [Counted, string][] = [
    [counted(report.withoutPicture), 'captioned pictures are missing'],
    [counted(report.withoutCaption), 'pictures have no caption'],
    [counted(report.unreadableBecause), 'pictures cannot be read'],
    [report.withoutWords, `captions have no word by the ${o.words} rule`],
    [report.framed, 'captions had a frame such as startseq … endseq, which was taken off'],
    [report.withControls, 'captions had control characters, which were dropped'],
    [report.sameContent ?? counted([]), `pictures are the same file as another, ${report.sameContent?.acrossSplits} of them in another split`],
    [report.withoutMention, 'files beside the pictures are named by no caption'],
    ...(inShards
      ? ([
          [inShards.report.otherFiles, 'files in the folders are no shards, or only describe them'],
          [inShards.report.otherMembers, 'members of tars were passed over'],
          [inShards.report.samplesWithoutPicture, 'samples have no picture'],
          [inShards.report.repeatedKeys, 'keys stand in more than one shard'],
          [inShards.report.damaged, 'shards, row groups or samples are damaged, and left out'],
        ] as [Counted, string][])
      : []),
  ];
  const unlistedPictures = counted([...unlisted.keys()]);
  const json = {
    out: o.out,
    ...report,
    unlistedCaptions,
    unlistedPictures,
    ...(form ? { table: form } : {}),
    ...(inShards ? { shards: inShards.report } : {}),
  };
  const undecoded = `pictures were not decoded${report.sameContent ? '' : ', nor compared'}: features will find the unsound ones`;
  result(o, json, () => [
    `${o.out}: ${report.images.train} training, ${report.images.val} validation, ${report.images.test} test pictures, ${report.captions} captions (${per.least} to ${per.most} per picture, ${per.mean.toFixed(1)} on average)`,
    `words by the ${o.words} rule: ${report.vocabulary} in the vocabulary; not in it ${unknown.join(', ')}`,
    `captions of ${lengths.mean.toFixed(1)} words on average, half at most ${lengths.median}, 95 % at most ${lengths.p95}, ${lengths.longest} at most; ${report.cut} cut`,
    `${report.duplicateCaptions} captions repeat another of the same picture, ${report.sharedCaptions} stand with several pictures`,
    `left out: ${report.withoutPicture.length} without picture, ${report.withoutCaption.length} without caption, ${report.unreadable.length} unreadable; ${unlistedCaptions} captions of ${unlisted.size} pictures in no list${examplesOf(unlistedPictures)}`,
    ...(o.decode ? [] : [undecoded]),
    ...told.filter(([{ count }]) => count > 0).map(([each, what]) => `${each.count} ${what}${examplesOf(each)}`),
  ]);
  return 0;
}
