/** The prepared dataset: captioned pictures with their splits, as text and as word ids. Training, evaluation and scores read it. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { type Counted, counted, Tally } from '../counted.ts';
import { FileError, GlimpseError, messageOf } from '../errors.ts';
import { withoutControls } from '../printable.ts';
import { Random } from '../random.ts';
import { writeFileAtomic } from './atomic_file.ts';
import type { BytePairs } from './byte_pairs.ts';
import { openFile } from './file_source.ts';
import { inspectPicture } from './images.ts';
import { PictureFolder } from './picture_folder.ts';
import { Place, placedPicture, Shard, shardName } from './picture_places.ts';
import { renamedValue } from './renamed.ts';
import { digestOf, type SameContent, sameContent } from './same_content.ts';
import { readText, textLines } from './text.ts';
import { parseJson, quoted } from './validation.ts';
import {
  END,
  PAD,
  RENAMED_WORD_RULES,
  SMALLEST_OF_TOKENS,
  START,
  tokensOf,
  UNKNOWN,
  unframed,
  Vocabulary,
  WORD_RULES,
  type WordRule,
  wordsOf,
} from './words.ts';

/** The part of a dataset that a picture belongs to. */
export type Split = 'train' | 'val' | 'test';

/** A picture with its captions, as the source has them. */
export interface CaptionedImage {
  /** File name within the picture folder. */
  file: string;
  /** Null where the source names none. */
  split: Split | null;
  captions: string[];
  /**
   * What its source calls the picture, as JSON: `790` or `"790"`, with the digits that the source has. Absent where that is the
   * file's name.
   */
  id?: string;
  /** The file that lists it, and the line where lines tell more. */
  source?: { path: string; line?: number };
  /** Where in a shard it is; absent for a picture in a file of its own. */
  at?: Place;
}

/** The name within the picture folder, without parts `.`. Throws a FileError if it leads out of it. */
export function safeName(path: string, name: string): string {
  const parts = name.split('/').filter((part) => part !== '.');
  const safe = parts.length > 0 && !/[\\\0]/.test(name) && parts.every((part) => part !== '' && part !== '..');
  if (!safe) throw new FileError(path, `${quoted(name)} is no plain file name: a name within the folder of the pictures is expected, with / between its parts`);
  return parts.join('/');
}

/**
 * The pictures, if each is listed once, in one split, and no two of a source have one id. All readers of captions ask here, and
 * `prepareDataset` asks for all sources together. Throws a FileError that names the file or the id, and both places.
 */
export function distinctPictures(images: readonly CaptionedImage[]): CaptionedImage[] {
  const check = distinctness();
  for (const image of images) check(image);
  return [...images];
}

/** No map of V8 has more entries. */
export const MOST_PICTURES = 2 ** 24;

type Listed = Omit<CaptionedImage, 'captions'>;

/** Takes one picture after the other, and throws at the first that is not distinct from those before it. */
function distinctness(listedIn?: string): (image: Listed) => void {
  const [files, ids] = [new Map<string, Listed>(), new Map<string, Listed>()];
  const placeOf = ({ source }: Listed) => {
    const path = source?.path ?? listedIn;
    return path === undefined ? 'the list' : `${path}${source?.line === undefined ? '' : ` line ${source.line}`}`;
  };
  return (image) => {
    const path = image.source?.path ?? listedIn ?? image.file;
    const file = image.file.normalize('NFC');
    const other = files.get(file);
    if (other && other.split !== image.split)
      throw new FileError(
        path,
        `${quoted(file)} is in two splits: ${other.split ?? 'none'} (${placeOf(other)}) and ${image.split ?? 'none'} (${placeOf(image)})`,
      );
    if (other) {
      const which = image.id !== undefined && other.id !== undefined ? `, with the ids ${other.id} and ${image.id}` : ` (${placeOf(other)}, ${placeOf(image)})`;
      throw new FileError(path, `${quoted(file)} is listed twice${which}`);
    }
    if (files.size >= MOST_PICTURES) throw new FileError(path, `lists picture ${files.size + 1}; ${MOST_PICTURES} are the most of one dataset`);
    files.set(file, image);
    if (image.id === undefined) return;
    // Each source counts its ids for itself.
    const id = `${idText(image.id)} ${path}`;
    const owner = ids.get(id);
    if (owner) throw new FileError(path, `the id ${idText(image.id)} belongs to two pictures: ${quoted(owner.file)} and ${quoted(image.file)}`);
    ids.set(id, image);
  };
}

/** A picture's captions, as they were written and as word ids. */
export interface CaptionedWords {
  file: string;
  /** As in CaptionedImage. */
  id?: string;
  captions: string[];
  ids: number[][];
  /** As in CaptionedImage. */
  at?: Place;
}

/** Captioned pictures with their splits, as text and as word ids. */
export interface Dataset {
  imageFolder: string;
  /** Files that hold many pictures. Absent where each picture has a file of its own. */
  shards?: Shard[];
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
  /** Share of each split's word ids that are <unk>. */
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
  /** For each unreadable picture its error. */
  unreadableBecause: string[];
  /** Captions that the word rule leaves no word of; they are left out. */
  withoutWords: Counted;
  /** Captions whose frame (startseq … endseq and the like) was taken off. */
  framed: Counted;
  /** Captions with control characters, which are dropped from their words. */
  withControls: Counted;
  /** Pictures whose file has the same bytes as an earlier one; null if the pictures are in shards and were not read. */
  sameContent: SameContent | null;
  /** Files beside the pictures that no caption names. */
  withoutMention: Counted;
}

/** Options of `prepareDataset`; the command `glimpse prepare` explains each. */
export interface PrepareOptions {
  imageFolder: string;
  /** What the places of the pictures count in. */
  shards?: readonly Shard[];
  words: WordRule;
  /** The merges of the tokenizer, with the rule `byte-pairs`. */
  bytePairs?: BytePairs;
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
  /** Whether each picture is decoded, to know that it is sound; true if absent. */
  decode?: boolean;
  /** Pictures may be links out of the picture folder. */
  followLinks?: boolean;
  /** Called as pictures are checked. */
  onChecked?: (done: number, total: number) => void;
}

/** An id without the quotes of JSON. A whole number has all its digits. */
export const idText = (id: string): string => (id.startsWith('"') ? String(JSON.parse(id)) : id);

/**
 * What the pictures are called in results, as JSON: the ids of their source, or the names of their files. Two sources may count
 * from the same number; then all are called by their files.
 */
export function pictureIds(images: readonly { file: string; id?: string | undefined }[]): string[] {
  const ids = images.map(({ file, id }) => id ?? JSON.stringify(file));
  return new Set(ids.map(idText)).size === ids.length ? ids : images.map(({ file }) => JSON.stringify(file));
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
  return found.map((image) => {
    const { split: own } = image;
    return own === null ? { ...image, split: split.get(image.file) as Split } : (image as CaptionedImage & { split: Split });
  });
}

/** Keeps a share of the training pictures, drawn by the seed. The other splits stay whole. */
function sampled<T extends CaptionedImage>(images: readonly T[], fraction: number, seed: number): T[] {
  if (fraction >= 1) return [...images];
  const training = images.filter(({ split }) => split === 'train');
  const kept = Math.max(1, Math.floor(fraction * training.length));
  const chosen = new Set(Array.from(new Random(seed, 'fraction').permutation(training.length).slice(0, kept), (at) => training[at]));
  return images.filter((image) => image.split !== 'train' || chosen.has(image));
}

/** The errors of the pictures that cannot be read, by file. A picture in a shard gets a digest, as its bytes are there anyway. */
async function unreadablePictures(
  pictures: readonly { file: string; name: string; at?: Place | undefined; digest?: string }[],
  { imageFolder, shards, followLinks = false, onChecked }: PrepareOptions,
): Promise<Map<string, FileError>> {
  const inspect = async (picture: (typeof pictures)[number]) => {
    try {
      const source = await placedPicture({ imageFolder, shards }, { file: picture.name, at: picture.at }, followLinks);
      if (typeof source !== 'string') picture.digest = digestOf(source.bytes);
      return await inspectPicture(source);
    } catch (error) {
      if (error instanceof FileError) return error;
      throw error;
    }
  };
  const bad = new Map<string, FileError>();
  const together = 16;
  for (let first = 0; first < pictures.length; first += together) {
    const part = pictures.slice(first, first + together);
    const faults = await Promise.all(part.map(inspect));
    for (const [i, fault] of faults.entries()) if (fault) bad.set(part[i].file, fault);
    onChecked?.(first + part.length, pictures.length);
  }
  return bad;
}

/** What was done to captions, counted. */
class Heard {
  readonly withoutWords = new Tally();
  readonly framed = new Tally();
  readonly withControls = new Tally();

  /** The captions of a picture that have a word, without frames. */
  spokenOf({ file, captions }: CaptionedImage, split: (caption: string) => string[]): string[] {
    let changed = false;
    const spoken = captions.flatMap((given) => {
      const caption = unframed(given);
      const example = () => `${file}: ${quoted(caption)}`;
      const hasWords = split(caption).length > 0;
      if (!hasWords) this.withoutWords.add(example());
      if (caption !== given) this.framed.add(example());
      if (withoutControls(caption) !== caption) this.withControls.add(example());
      changed ||= !hasWords || caption !== given;
      return hasWords ? [caption] : [];
    });
    return changed ? spoken : captions;
  }
}

/** How captions become words. Throws a GlimpseError for options that do not fit together. */
function splitterOf({ words, bytePairs, vocabularySize }: PrepareOptions): (caption: string) => string[] {
  if (words !== 'byte-pairs') return (caption) => wordsOf(caption, words);
  if (!bytePairs) throw new GlimpseError('the rule byte-pairs needs the merges of a tokenizer');
  if (vocabularySize < SMALLEST_OF_TOKENS)
    throw new GlimpseError(`a vocabulary of byte pairs has at least ${SMALLEST_OF_TOKENS} tokens (special ones and bytes), got ${vocabularySize}`);
  return (caption) => tokensOf(caption, bytePairs);
}

/** Whole numbers by how often they come, so that millions of them need no list. */
class Histogram {
  private readonly counts: number[] = [];
  count = 0;
  private sum = 0;

  add(value: number): void {
    this.counts[value] = (this.counts[value] ?? 0) + 1;
    this.count++;
    this.sum += value;
  }

  get mean(): number {
    return this.sum / Math.max(1, this.count);
  }

  /** The value at this share of all, in rising order; 0 where there is none. */
  quantile(share: number): number {
    let rest = Math.min(this.count - 1, Math.floor(share * this.count));
    const found = this.counts.findIndex((count = 0) => (rest -= count) < 0);
    return Math.max(0, found);
  }

  /** How many are above a value. */
  above(value: number): number {
    return this.counts.slice(value + 1).reduce((sum, count = 0) => sum + count, 0);
  }
}

/** What a dataset's captions come to, from one picture after the other. */
class CaptionCounts {
  readonly pictures: Record<Split, number> = { train: 0, val: 0, test: 0 };
  readonly perPicture = new Histogram();
  readonly lengths = new Histogram();
  readonly ids: Record<Split, number> = { train: 0, val: 0, test: 0 };
  readonly unknown: Record<Split, number> = { train: 0, val: 0, test: 0 };
  private readonly owners: BigUint64Array;
  private distinct = 0;

  constructor(captions: number) {
    this.owners = new BigUint64Array(captions);
  }

  add(split: Split, words: readonly (readonly string[])[], ids: readonly (readonly number[])[]): void {
    this.pictures[split]++;
    this.perPicture.add(words.length);
    for (const list of words) this.lengths.add(list.length);
    for (const list of ids) {
      this.ids[split] += list.length - 2;
      for (const id of list) if (id === UNKNOWN) this.unknown[split]++;
    }
    // 64 bits of a digest stand for a text: of a billion texts, two would agree by chance in one of 37 datasets.
    for (const text of new Set(words.map((list) => list.join(' '))))
      this.owners[this.distinct++] = createHash('sha256').update(text).digest().readBigUInt64LE();
  }

  /** Captions that repeat one of the same picture. */
  get duplicates(): number {
    return this.lengths.count - this.distinct;
  }

  /** Texts that stand with several pictures. */
  shared(): number {
    const sorted = this.owners.subarray(0, this.distinct).sort();
    let shared = 0;
    for (let i = 1; i < sorted.length; i++) if (sorted[i] === sorted[i - 1] && (i === 1 || sorted[i - 2] !== sorted[i])) shared++;
    return shared;
  }
}

/** All splits, in the order in which they are told. */
export const SPLITS = ['train', 'val', 'test'] as const;

/**
 * Makes a dataset of captioned pictures: splits, vocabulary, word ids. It decodes every picture once, to know that all are sound,
 * unless it is told not to.
 * Throws a FileError for a picture that is listed twice. Throws a GlimpseError that lists pictures which are missing, cannot be
 * read, or have no caption, unless `skipBad`.
 */
export async function prepareDataset(found: readonly CaptionedImage[], o: PrepareOptions): Promise<{ dataset: Dataset; report: DatasetReport }> {
  const folder = new PictureFolder(o.imageFolder);
  const split = sampled(assignSplits(distinctPictures(found), o), o.fraction, o.seed);
  const splitter = splitterOf(o);
  const { decode = true, bytePairs = null } = o;
  // Words are made anew where they are needed: those of millions of captions would fill the memory.
  const heard = new Heard();
  const spoken = split.map((image) => heard.spokenOf(image, splitter));
  const names = split.map(({ file, at }) => (at ? file : folder.find(file)));
  const withoutPicture = split.filter((_, i) => names[i] === null).map(({ file }) => file);
  const withoutCaption = split.filter((_, i) => spoken[i].length === 0).map(({ file }) => file);
  const there = split.flatMap(({ file, split: own, at }, i) => {
    const name = names[i];
    return name === null ? [] : [{ file, split: own, name, path: at ? name : join(o.imageFolder, name), at }];
  });
  const faults = decode ? await unreadablePictures(there, o) : new Map<string, FileError>();
  const unreadable = [...faults.keys()];
  const unreadableBecause = [...faults.values()].map(({ message }) => message);
  const anyCaption = split.some(({ captions }) => captions.length > 0);
  for (const [list, fault, texts] of [
    [withoutPicture, `have captions but no picture in ${o.imageFolder}`, withoutPicture],
    [withoutCaption, `have no caption${anyCaption ? ` with a word by the rule ${o.words}` : ''}`, withoutCaption],
    [unreadable, 'cannot be read as pictures', unreadable.map((file, i) => `${file} (${unreadableBecause[i].split('as a picture: ').pop()})`)],
  ] as const) {
    if (list.length > 0 && !o.skipBad)
      throw new GlimpseError(
        `${list.length} pictures ${fault}: ${texts.slice(0, 3).join(', ')}${list.length > 3 ? ', …' : ''}\n  Correct the files, or leave them out with --skip-bad.`,
      );
  }
  const bad = new Set([...withoutPicture, ...withoutCaption, ...unreadable]);
  const kept = [...split.keys()].filter((i) => !bad.has(split[i].file));
  function* trainingWords(): Generator<string[]> {
    for (const i of kept) if (split[i].split === 'train') for (const caption of spoken[i]) yield splitter(caption);
  }
  if (!kept.some((i) => split[i].split === 'train')) throw new GlimpseError('no training picture is left: check the split list and the picture folder');
  const vocabulary = Vocabulary.build(trainingWords(), o.vocabularySize, o.minCount, bytePairs);
  // A token that is not in the vocabulary is said by the tokens that it was merged from, so none is unknown.
  const inVocabulary = (words: string[]) => (bytePairs ? words.flatMap((token) => bytePairs.within(token, (each) => vocabulary.has(each))) : words);
  const counts = new CaptionCounts(kept.reduce((sum, i) => sum + spoken[i].length, 0));
  const images = kept.map((i) => {
    const { file, id, split: own, at } = split[i];
    const name = names[i] ?? file;
    const called = id ?? (name === file ? undefined : JSON.stringify(file));
    const words = spoken[i].map((caption) => inVocabulary(splitter(caption)));
    const ids = words.map((list) => vocabulary.encode(list, o.maxLength));
    counts.add(own, words, ids);
    return { file: name, ...(called === undefined ? {} : { id: called }), split: own, ...(at ? { at } : {}), captions: spoken[i], ids };
  });
  const { perPicture, lengths } = counts;
  const { withoutWords, framed, withControls } = heard;
  return {
    dataset: {
      imageFolder: o.imageFolder,
      ...(o.shards ? { shards: [...o.shards] } : {}),
      words: o.words,
      vocabulary: [...vocabulary.words],
      maxLength: o.maxLength,
      images,
    },
    report: {
      images: counts.pictures,
      captions: lengths.count,
      captionsPerImage: { least: perPicture.quantile(0), mean: perPicture.mean, most: perPicture.quantile(1) },
      vocabulary: vocabulary.size,
      unknownRate: Object.fromEntries(SPLITS.map((name) => [name, counts.unknown[name] / Math.max(1, counts.ids[name])])) as Record<Split, number>,
      lengths: { mean: lengths.mean, median: lengths.quantile(0.5), p95: lengths.quantile(0.95), longest: lengths.quantile(1) },
      cut: lengths.above(o.maxLength - 2),
      duplicateCaptions: counts.duplicates,
      sharedCaptions: counts.shared(),
      ...{ withoutPicture, withoutCaption, unreadable, unreadableBecause },
      ...{ withoutWords, framed, withControls },
      sameContent: o.shards && !decode ? null : await sameContent(there.filter(({ file }) => !bad.has(file))),
      withoutMention: counted(o.shards ? [] : folder.others(found.map(({ file }) => file))),
    },
  };
}

const Image = z.object({
  file: z.string(),
  id: z.string().refine(isJsonId, 'expected a number or a text as JSON').optional(),
  split: z.enum(SPLITS),
  at: Place.optional(),
  captions: z.array(z.string()),
  ids: z.array(z.array(z.number().int().nonnegative()).min(2)),
});

const DatasetFile = z.object({
  imageFolder: z.string(),
  shards: z.array(Shard).optional(),
  words: z.preprocess(renamedValue(RENAMED_WORD_RULES), z.enum(WORD_RULES).default('ascii')),
  vocabulary: z.array(z.string()).min(5),
  maxLength: z.number().int().min(3),
  images: z.array(Image),
});

const JSON_NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

function isJsonId(id: string): boolean {
  if (JSON_NUMBER.test(id)) return true;
  try {
    return typeof JSON.parse(id) === 'string';
  } catch {
    return false;
  }
}

/** A dataset's first bytes where each picture has a line of its own. Older ones are one text. */
const IN_LINES = '{"version":2,';
const LIST = '"images":[';
/** The first line has the vocabulary and the shards. */
const MAX_DATASET_LINE = 256 * 2 ** 20;
const VERDICT = 'is no prepared dataset';

/** Writes a dataset as JSON. Each picture has a line of its own, so a reader needs no text of the whole. */
export function writeDataset(path: string, { images, ...head }: Dataset): void {
  function* lines(): Generator<string> {
    yield `${IN_LINES}${JSON.stringify(head).slice(1, -1)},${LIST}\n`;
    const together = 1000;
    for (let first = 0; first < images.length; first += together) {
      const part = images.slice(first, first + together).map((image) => JSON.stringify(image));
      yield `${part.join(',\n')}${first + together < images.length ? ',' : ''}\n`;
    }
    yield ']}\n';
  }
  writeFileAtomic(path, lines());
}

function isInLines(path: string): boolean {
  const file = openFile(path);
  try {
    return Buffer.from(file.read(0, IN_LINES.length)).toString('latin1') === IN_LINES;
  } finally {
    file.close();
  }
}

/** The pictures of a dataset in lines; null if its lines were joined. What is said of the dataset is in `head`. */
function datasetLines(path: string): { head: z.infer<typeof DatasetFile>; images: Generator<z.infer<typeof Image>> } | null {
  const lines = textLines(path, undefined, MAX_DATASET_LINE);
  const first = (lines.next().value as string).replace(/\r$/, '');
  if (!first.endsWith(LIST)) {
    lines.return(undefined);
    return null;
  }
  const head = parseJson(path, `${first}]}`, DatasetFile, VERDICT);
  function* images(): Generator<z.infer<typeof Image>> {
    let [line, comma, ended] = [1, true, false];
    for (const text of lines) {
      line++;
      const given = text.trim();
      if (ended && given !== '') throw new FileError(path, `${VERDICT}: line ${line} stands behind the end of its list`);
      if (ended || (given === ']}' && (!comma || line === 2))) {
        ended = true;
        continue;
      }
      if (given === '') break;
      if (!comma) throw new FileError(path, `${VERDICT}: line ${line - 1} has no comma at its end, and pictures follow`);
      comma = given.endsWith(',');
      yield parseJson(path, comma ? given.slice(0, -1) : given, Image, `${VERDICT}: line ${line}`);
    }
    if (!ended) throw new FileError(path, `${VERDICT}: its list of pictures has no end after line ${line}: it may be cut off`);
  }
  return { head, images: images() };
}

/** Reads a `dataset.json` written by `glimpse prepare`, of this version or an older one. Throws a FileError if it is damaged. */
export function readDataset(path: string): Dataset {
  const inLines = isInLines(path) ? datasetLines(path) : null;
  const { images, ...head } = inLines?.head ?? parseJson(path, readText(path), DatasetFile, VERDICT);
  try {
    new Vocabulary(head.vocabulary, head.words);
  } catch (error) {
    throw new FileError(path, messageOf(error));
  }
  for (const shard of head.shards ?? []) safeName(path, shardName(shard));
  const dataset: Dataset = { ...head, images: [] };
  const check = distinctness(path);
  for (const image of inLines?.images ?? images) {
    check(image);
    checkImage(path, image, dataset);
    dataset.images.push(image);
  }
  return dataset;
}

/** Throws a FileError for a picture that does not fit its dataset: its name, its place, its word ids. */
function checkImage(path: string, { file, ids, captions, at }: z.infer<typeof Image>, { shards = [], vocabulary, maxLength }: Dataset): void {
  safeName(path, file);
  if (at) {
    const shard = shards[at.shard];
    if (!shard) throw new FileError(path, `${quoted(file)} is in shard ${at.shard}, and ${shards.length} are listed`);
    if ('row' in at !== 'parquet' in shard || !file.startsWith(`${shardName(shard)}/`))
      throw new FileError(path, `${quoted(file)} is no picture of the shard ${quoted(shardName(shard))}, in which it is placed`);
  }
  if (ids.some((list) => list.some((id) => id >= vocabulary.length)))
    throw new FileError(path, `${file} has a word id beyond the ${vocabulary.length} of the vocabulary`);
  const framed = (list: readonly number[]) => list[0] === START && list[list.length - 1] === END && list.length <= maxLength && !list.includes(PAD);
  if (ids.length === 0 || ids.length !== captions.length || !ids.every(framed))
    throw new FileError(path, `${file}: every caption runs from startseq (${START}) to endseq (${END}) within ${maxLength} ids`);
}
