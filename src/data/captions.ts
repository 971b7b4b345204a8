/**
 * Captions and their pictures, from the files people have: Flickr8k/30k token files with split lists, and COCO JSON. Words
 * are those of the seed system: lower-case, everything but letters, digits and spaces dropped ("man's" becomes "mans").
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { FileError, GlimpseError, messageOf } from '../errors.ts';

export type Split = 'train' | 'val' | 'test';

export interface CaptionedImage {
  /** File name within the picture folder. */
  file: string;
  split: Split;
  captions: string[];
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new FileError(path, messageOf(error));
  }
}

function safeName(path: string, name: string): string {
  if (name === '' || basename(name) !== name || name === '..') throw new FileError(path, `"${name}" is no plain file name`);
  return name;
}

/** `name.jpg#0<TAB>caption` lines, and for each split a list of file names. */
export function readFlickr(tokenFile: string, lists: Partial<Record<Split, string>>): CaptionedImage[] {
  const images = new Map<string, CaptionedImage>();
  for (const [split, path] of Object.entries(lists) as [Split, string][]) {
    for (const line of readText(path).split(/\r?\n/)) {
      const file = line.trim();
      if (!file) continue;
      if (images.has(file)) throw new FileError(path, `"${file}" is also in the ${images.get(file)?.split} list`);
      images.set(safeName(path, file), { file, split, captions: [] });
    }
  }
  readText(tokenFile)
    .split(/\r?\n/)
    .forEach((line, i) => {
      if (!line.trim()) return;
      const match = /^(.+?)#\d+\t(.*)$/.exec(line);
      if (!match) throw new FileError(tokenFile, `line ${i + 1} is no "name#number<TAB>caption"`);
      images.get(match[1])?.captions.push(match[2].trim());
    });
  return [...images.values()];
}

const Coco = z.object({
  images: z.array(z.object({ id: z.union([z.number(), z.string()]), file_name: z.string(), split: z.string().optional() })),
  annotations: z.array(z.object({ image_id: z.union([z.number(), z.string()]), caption: z.string() })),
});

/** A COCO caption file. Every picture goes to `split`, or to the split that the file itself names for it. */
export function readCoco(path: string, split: Split): CaptionedImage[] {
  let json: unknown;
  try {
    json = JSON.parse(readText(path));
  } catch (error) {
    throw error instanceof FileError ? error : new FileError(path, `is no JSON: ${messageOf(error)}`);
  }
  const parsed = Coco.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new FileError(path, `is no COCO caption file: ${issue.path.join('.') || 'top level'}: ${issue.message}`);
  }
  const byId = new Map<string, CaptionedImage>();
  for (const { id, file_name, split: own } of parsed.data.images) {
    byId.set(String(id), { file: safeName(path, file_name), split: own === 'train' || own === 'val' || own === 'test' ? own : split, captions: [] });
  }
  for (const { image_id, caption } of parsed.data.annotations) {
    const image = byId.get(String(image_id));
    if (!image) throw new FileError(path, `a caption belongs to picture ${image_id}, which the file does not list`);
    image.captions.push(caption.trim());
  }
  return [...byId.values()];
}

export function wordsOf(caption: string): string[] {
  return caption
    .toLowerCase()
    .replace(/[^a-z0-9\s]/g, '')
    .split(/\s+/)
    .filter(Boolean);
}

/** Words by falling frequency, ties by first appearance. The special words come first, so that suppressing them is one comparison. */
export const SPECIAL_WORDS = ['<pad>', '<unk>', 'startseq', 'endseq'];
export const [PAD, UNKNOWN, START, END] = [0, 1, 2, 3];

export class Vocabulary {
  private readonly ids: Map<string, number>;

  constructor(readonly words: readonly string[]) {
    if (SPECIAL_WORDS.some((word, i) => words[i] !== word)) throw new GlimpseError(`a vocabulary starts with ${SPECIAL_WORDS.join(', ')}`);
    this.ids = new Map(words.map((word, id) => [word, id]));
    if (this.ids.size !== words.length) throw new GlimpseError('the vocabulary lists a word twice');
  }

  static build(captions: Iterable<readonly string[]>, size: number, minCount: number): Vocabulary {
    const counts = new Map<string, number>();
    for (const words of captions) for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
    const kept = [...counts].filter(([word, count]) => count >= minCount && !SPECIAL_WORDS.includes(word)).sort((a, b) => b[1] - a[1]);
    return new Vocabulary([...SPECIAL_WORDS, ...kept.slice(0, Math.max(0, size - SPECIAL_WORDS.length)).map(([word]) => word)]);
  }

  get size(): number {
    return this.words.length;
  }

  /** startseq … endseq, at most `maxLength` ids in all: cut at the end, endseq kept. */
  encode(words: readonly string[], maxLength: number): number[] {
    const ids = words.slice(0, maxLength - 2).map((word) => (SPECIAL_WORDS.includes(word) ? UNKNOWN : (this.ids.get(word) ?? UNKNOWN)));
    return [START, ...ids, END];
  }

  decode(ids: readonly number[]): string {
    return ids.map((id) => this.words[id] ?? '<unk>').join(' ');
  }
}

/** A picture's captions, as they were written and as word ids. */
export interface CaptionedWords {
  file: string;
  captions: string[];
  ids: number[][];
}

export interface Dataset {
  imageFolder: string;
  vocabulary: string[];
  /** startseq and endseq included. */
  maxLength: number;
  images: (CaptionedWords & { split: Split })[];
}

export interface DatasetReport {
  images: Record<Split, number>;
  captions: number;
  vocabulary: number;
  unknownRate: number;
  meanLength: number;
  longest: number;
  cut: number;
  duplicateCaptions: number;
  withoutPicture: string[];
  withoutCaption: string[];
}

export interface PrepareOptions {
  imageFolder: string;
  vocabularySize: number;
  minCount: number;
  maxLength: number;
  /** Leave out pictures that are missing or have no caption, instead of failing. */
  skipBad: boolean;
}

export function prepareDataset(found: readonly CaptionedImage[], o: PrepareOptions): { dataset: Dataset; report: DatasetReport } {
  const withoutPicture = found.filter(({ file }) => !existsSync(join(o.imageFolder, file))).map(({ file }) => file);
  const withoutCaption = found.filter(({ captions }) => captions.every((caption) => wordsOf(caption).length === 0)).map(({ file }) => file);
  for (const [list, fault] of [
    [withoutPicture, `have captions but no picture in ${o.imageFolder}`],
    [withoutCaption, 'have no caption'],
  ] as const) {
    if (list.length > 0 && !o.skipBad)
      throw new GlimpseError(
        `${list.length} pictures ${fault}: ${list.slice(0, 3).join(', ')}${list.length > 3 ? ', …' : ''}\n  Correct the files, or leave them out with --skip-bad.`,
      );
  }
  const bad = new Set([...withoutPicture, ...withoutCaption]);
  const images = found.filter(({ file }) => !bad.has(file));
  if (!images.some(({ split }) => split === 'train')) throw new GlimpseError('no training picture is left: check the split list and the picture folder');
  const words = images.map(({ captions }) => captions.map(wordsOf).filter((list) => list.length > 0));
  const vocabulary = Vocabulary.build(words.filter((_, i) => images[i].split === 'train').flat(), o.vocabularySize, o.minCount);
  const flat = words.flat();
  const tokens = flat.reduce((sum, list) => sum + list.length, 0);
  const ids = words.map((lists) => lists.map((list) => vocabulary.encode(list, o.maxLength)));
  const unknown = ids.flat(2).filter((id) => id === UNKNOWN).length;
  return {
    dataset: {
      imageFolder: o.imageFolder,
      vocabulary: [...vocabulary.words],
      maxLength: o.maxLength,
      images: images.map(({ file, split, captions }, i) => ({ file, split, captions: captions.filter((caption) => wordsOf(caption).length > 0), ids: ids[i] })),
    },
    report: {
      images: {
        train: 0,
        val: 0,
        test: 0,
        ...Object.fromEntries((['train', 'val', 'test'] as const).map((split) => [split, images.filter((image) => image.split === split).length])),
      },
      captions: flat.length,
      vocabulary: vocabulary.size,
      unknownRate: unknown / Math.max(1, tokens),
      meanLength: tokens / Math.max(1, flat.length),
      longest: flat.reduce((longest, list) => Math.max(longest, list.length), 0),
      cut: flat.filter((list) => list.length > o.maxLength - 2).length,
      duplicateCaptions: flat.length - new Set(words.flatMap((lists, i) => lists.map((list) => `${i} ${list.join(' ')}`))).size,
      withoutPicture,
      withoutCaption,
    },
  };
}

const DatasetFile = z.object({
  imageFolder: z.string(),
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

/** A `dataset.json` written by `glimpse prepare`. */
export function readDataset(path: string): Dataset {
  let parsed: ReturnType<typeof DatasetFile.safeParse>;
  try {
    parsed = DatasetFile.safeParse(JSON.parse(readText(path)));
  } catch (error) {
    throw error instanceof FileError ? error : new FileError(path, `is no JSON: ${messageOf(error)}`);
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
