/** The prepared dataset: captioned pictures with their splits, as text and as word ids. Training, evaluation and scores read it. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { z } from 'zod';
import { FileError, GlimpseError, messageOf } from '../errors.ts';
import { Random } from '../random.ts';
import { renamedValue } from './renamed.ts';
import { END, PAD, RENAMED_WORD_RULES, START, Vocabulary, WORD_RULES, type WordRule, wordsOf } from './words.ts';

/** The part of a dataset that a picture belongs to. */
export type Split = 'train' | 'val' | 'test';

/** A picture with its captions, as the source has them. */
export interface CaptionedImage {
  /** File name within the picture folder. */
  file: string;
  /** Null where the source names none. */
  split: Split | null;
  captions: string[];
}

/** Returns the name if it stays within the picture folder. Throws a FileError if not. */
export function safeName(path: string, name: string): string {
  const safe = name !== '' && !/[\\\0]/.test(name) && name.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
  if (!safe) throw new FileError(path, `"${name}" is no plain file name`);
  return name;
}

/** A picture's captions, as they were written and as word ids. */
export interface CaptionedWords {
  file: string;
  captions: string[];
  ids: number[][];
}

/** Captioned pictures with their splits, as text and as word ids. */
export interface Dataset {
  imageFolder: string;
  /** The rule that split captions into words. */
  words: WordRule;
  vocabulary: string[];
  /** Most ids of a caption, startseq and endseq included. */
  maxLength: number;
  images: (CaptionedWords & { split: Split })[];
}

/** What `prepareDataset` found. */
export interface DatasetReport {
  images: Record<Split, number>;
  captions: number;
  captionsPerImage: { least: number; mean: number; most: number };
  vocabulary: number;
  /** Share of each split's words that are not in the vocabulary. */
  unknownRate: Record<Split, number>;
  /** Words of a caption: mean, median, 95th percentile, longest. */
  lengths: { mean: number; median: number; p95: number; longest: number };
  /** Captions that were cut to `maxLength`. */
  cut: number;
  /** Captions that repeat one of the same picture, and captions that another picture has too. */
  duplicateCaptions: number;
  sharedCaptions: number;
  withoutPicture: string[];
  withoutCaption: string[];
  unreadable: string[];
}

/** Options of `prepareDataset`; the command `glimpse prepare` explains each. */
export interface PrepareOptions {
  imageFolder: string;
  words: WordRule;
  vocabularySize: number;
  minCount: number;
  maxLength: number;
  /** The share of the training pictures to take, after shuffling. */
  fraction: number;
  /** Shares of the pictures without a split that become validation and test. */
  valShare: number;
  testShare: number;
  seed: number;
  /** Leave out pictures that are missing, cannot be read, or have no caption, instead of failing. */
  skipBad: boolean;
  /** Called as pictures are checked. */
  onChecked?: (done: number, total: number) => void;
}

/** Gives a split to the pictures that have none, drawn by the seed. The order of the list does not matter. */
export function assignSplits(
  found: readonly CaptionedImage[],
  o: Pick<PrepareOptions, 'valShare' | 'testShare' | 'seed'>,
): (CaptionedImage & { split: Split })[] {
  const open = found.filter(({ split }) => split === null).sort((a, b) => (a.file < b.file ? -1 : 1));
  const order = new Random(o.seed, 'splits').permutation(open.length);
  const split = new Map<string, Split>();
  const [val, test] = [Math.round(o.valShare * open.length), Math.round(o.testShare * open.length)];
  order.forEach((at, i) => {
    split.set(open[at].file, i < val ? 'val' : i < val + test ? 'test' : 'train');
  });
  return found.map((image) => ({ ...image, split: image.split ?? (split.get(image.file) as Split) }));
}

/** Keeps a share of the training pictures, drawn by the seed. The other splits stay whole. */
function sampled<T extends CaptionedImage>(images: readonly T[], fraction: number, seed: number): T[] {
  if (fraction >= 1) return [...images];
  const training = images.filter(({ split }) => split === 'train');
  const kept = Math.max(1, Math.floor(fraction * training.length));
  const chosen = new Set(Array.from(new Random(seed, 'fraction').permutation(training.length).slice(0, kept), (at) => training[at]));
  return images.filter((image) => image.split !== 'train' || chosen.has(image));
}

/** The pictures whose header cannot be read. Damage after the header shows only when features are extracted. */
async function unreadablePictures(paths: readonly { file: string; path: string }[], onChecked: PrepareOptions['onChecked']): Promise<string[]> {
  const bad: string[] = [];
  const together = 16;
  for (let first = 0; first < paths.length; first += together) {
    const part = paths.slice(first, first + together);
    const faults = await Promise.all(
      part.map(async ({ path }) => {
        try {
          const { width, height } = await sharp(path).metadata();
          return !(width && height);
        } catch {
          return true;
        }
      }),
    );
    bad.push(...part.filter((_, i) => faults[i]).map(({ file }) => file));
    onChecked?.(first + part.length, paths.length);
  }
  return bad;
}

const quantile = (sorted: readonly number[], share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
const SPLITS = ['train', 'val', 'test'] as const;

/**
 * Makes a dataset of captioned pictures: splits, vocabulary, word ids. It looks at the header of every picture.
 * Throws a GlimpseError that lists pictures which are missing, cannot be read, or have no caption, unless `skipBad`.
 */
export async function prepareDataset(found: readonly CaptionedImage[], o: PrepareOptions): Promise<{ dataset: Dataset; report: DatasetReport }> {
  const split = sampled(assignSplits(found, o), o.fraction, o.seed);
  const spoken = split.map(({ captions }) =>
    captions.map((caption) => ({ caption, words: wordsOf(caption, o.words) })).filter(({ words }) => words.length > 0),
  );
  const withoutPicture = split.filter(({ file }) => !existsSync(join(o.imageFolder, file))).map(({ file }) => file);
  const withoutCaption = split.filter((_, i) => spoken[i].length === 0).map(({ file }) => file);
  const missing = new Set(withoutPicture);
  const there = split.filter(({ file }) => !missing.has(file)).map(({ file }) => ({ file, path: join(o.imageFolder, file) }));
  const unreadable = await unreadablePictures(there, o.onChecked);
  for (const [list, fault] of [
    [withoutPicture, `have captions but no picture in ${o.imageFolder}`],
    [withoutCaption, 'have no caption'],
    [unreadable, 'cannot be read as pictures'],
  ] as const) {
    if (list.length > 0 && !o.skipBad)
      throw new GlimpseError(
        `${list.length} pictures ${fault}: ${list.slice(0, 3).join(', ')}${list.length > 3 ? ', …' : ''}\n  Correct the files, or leave them out with --skip-bad.`,
      );
  }
  const bad = new Set([...withoutPicture, ...withoutCaption, ...unreadable]);
  const kept = split
    .map(({ file, split: own }, i) => ({ file, split: own, captions: spoken[i].map(({ caption }) => caption), words: spoken[i].map(({ words }) => words) }))
    .filter(({ file }) => !bad.has(file));
  const of = (name: Split) => kept.filter((image) => image.split === name);
  if (of('train').length === 0) throw new GlimpseError('no training picture is left: check the split list and the picture folder');
  const vocabulary = Vocabulary.build(
    of('train').flatMap(({ words }) => words),
    o.vocabularySize,
    o.minCount,
  );
  const images = kept.map(({ file, split: own, captions, words }) => ({
    ...{ file, split: own, captions },
    ids: words.map((list) => vocabulary.encode(list, o.maxLength)),
  }));
  const perSplit = <T>(value: (name: Split) => T) => Object.fromEntries(SPLITS.map((name) => [name, value(name)])) as Record<Split, T>;
  const flat = kept.flatMap(({ words }) => words);
  const lengths = flat.map((list) => list.length).sort((a, b) => a - b);
  const counts = kept.map(({ words }) => words.length).sort((a, b) => a - b);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  const texts = kept.map(({ words }) => new Set(words.map((list) => list.join(' '))));
  const owners = new Map<string, number>();
  for (const own of texts) for (const text of own) owners.set(text, (owners.get(text) ?? 0) + 1);
  const known = new Set(vocabulary.words);
  return {
    dataset: { imageFolder: o.imageFolder, words: o.words, vocabulary: [...vocabulary.words], maxLength: o.maxLength, images },
    report: {
      images: perSplit((name) => of(name).length),
      captions: flat.length,
      captionsPerImage: { least: counts[0] ?? 0, mean: mean(counts), most: counts[counts.length - 1] ?? 0 },
      vocabulary: vocabulary.size,
      unknownRate: perSplit((name) => {
        const words = of(name).flatMap((image) => image.words.flat());
        return words.filter((word) => !known.has(word)).length / Math.max(1, words.length);
      }),
      lengths: { mean: mean(lengths), median: quantile(lengths, 0.5), p95: quantile(lengths, 0.95), longest: lengths[lengths.length - 1] ?? 0 },
      cut: lengths.filter((length) => length > o.maxLength - 2).length,
      duplicateCaptions: flat.length - texts.reduce((sum, own) => sum + own.size, 0),
      sharedCaptions: [...owners.values()].filter((count) => count > 1).length,
      ...{ withoutPicture, withoutCaption, unreadable },
    },
  };
}

const DatasetFile = z.object({
  imageFolder: z.string(),
  words: z.preprocess(renamedValue(RENAMED_WORD_RULES), z.enum(WORD_RULES).default('ascii')),
  vocabulary: z.array(z.string()).min(5),
  maxLength: z.number().int().min(3),
  images: z.array(
    z.object({
      file: z.string(),
      split: z.enum(['train', 'val', 'test']),
      captions: z.array(z.string()),
      ids: z.array(z.array(z.number().int().nonnegative()).min(2)),
    }),
  ),
});

/** Reads a `dataset.json` written by `glimpse prepare`. Throws a FileError if it is damaged. */
export function readDataset(path: string): Dataset {
  let parsed: ReturnType<typeof DatasetFile.safeParse>;
  try {
    parsed = DatasetFile.safeParse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new FileError(path, error instanceof SyntaxError ? `is no JSON: ${messageOf(error)}` : messageOf(error));
  }
  if (!parsed.success) throw new FileError(path, `is no prepared dataset: ${parsed.error.issues[0].path.join('.')}: ${parsed.error.issues[0].message}`);
  const size = parsed.data.vocabulary.length;
  for (const { file, ids, captions } of parsed.data.images) {
    safeName(path, file);
    if (ids.some((list) => list.some((id) => id >= size))) throw new FileError(path, `${file} has a word id beyond the ${size} of the vocabulary`);
    const framed = (list: readonly number[]) =>
      list[0] === START && list[list.length - 1] === END && list.length <= parsed.data.maxLength && !list.includes(PAD);
    if (ids.length === 0 || ids.length !== captions.length || !ids.every(framed))
      throw new FileError(path, `${file}: every caption runs from startseq (${START}) to endseq (${END}) within ${parsed.data.maxLength} ids`);
  }
  return parsed.data;
}
