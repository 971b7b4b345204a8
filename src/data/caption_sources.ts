/**
 * Readers of pictures and their captions: Flickr8k/30k token files with split lists, COCO JSON, and Karpathy's split JSON.
 * For pictures of your own there are tables, as CSV or JSON lines. Every error names its file and place.
 */
import { readFileSync } from 'node:fs';
import { CsvError, parse } from 'csv-parse/sync';
import { z } from 'zod';
import { FileError, messageOf } from '../errors.ts';
import { type CaptionedImage, type Split, safeName } from './captions.ts';

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new FileError(path, messageOf(error));
  }
}

/**
 * Reads `name.jpg#0<TAB>caption` lines, and for each split a list of file names. Captions of pictures in no list are left out;
 * `onUnlisted` is called with the picture's name.
 */
export function readFlickr(tokenFile: string, lists: Partial<Record<Split, string>>, onUnlisted: (file: string) => void = () => {}): CaptionedImage[] {
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
      const image = images.get(match[1]);
      if (image) image.captions.push(match[2].trim());
      else onUnlisted(match[1]);
    });
  return [...images.values()];
}

const Coco = z.object({
  images: z.array(z.object({ id: z.union([z.number(), z.string()]), file_name: z.string(), split: z.string().optional() })),
  annotations: z.array(z.object({ image_id: z.union([z.number(), z.string()]), caption: z.string() })),
});

/** Reads JSON of a schema. Throws a FileError with the place of the first difference. */
function parseJson<T>(path: string, schema: z.ZodType<T>, what: string): T {
  let json: unknown;
  try {
    json = JSON.parse(readText(path));
  } catch (error) {
    throw error instanceof FileError ? error : new FileError(path, `is no JSON: ${messageOf(error)}`);
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new FileError(path, `is no ${what}: ${issue.path.join('.') || 'top level'}: ${issue.message}`);
}

/** Reads a COCO caption file. A picture goes to the split that the file names for it, else to `split`. */
export function readCoco(path: string, split: Split | null): CaptionedImage[] {
  const { images, annotations } = parseJson(path, Coco, 'COCO caption file');
  const byId = new Map<string, CaptionedImage>();
  for (const { id, file_name, split: own } of images) {
    byId.set(String(id), { file: safeName(path, file_name), split: own === 'train' || own === 'val' || own === 'test' ? own : split, captions: [] });
  }
  for (const { image_id, caption } of annotations) {
    const image = byId.get(String(image_id));
    if (!image) throw new FileError(path, `a caption belongs to picture ${image_id}, which the file does not list`);
    image.captions.push(caption.trim());
  }
  return [...byId.values()];
}

const Karpathy = z.object({
  images: z.array(
    z.object({
      filename: z.string(),
      filepath: z.string().optional(),
      split: z.enum(['train', 'restval', 'val', 'test']),
      sentences: z.array(z.object({ raw: z.string() })),
    }),
  ),
});

/** Reads Karpathy and Fei-Fei's splits (dataset_coco.json, dataset_flickr8k.json, …). `restval` becomes `train`, as is usual. */
export function readKarpathy(path: string): CaptionedImage[] {
  return parseJson(path, Karpathy, 'Karpathy split file').images.map(({ filename, filepath, split, sentences }) => ({
    file: safeName(path, filepath ? `${filepath}/${filename}` : filename),
    split: split === 'restval' ? 'train' : split,
    captions: sentences.map(({ raw }) => raw.trim()),
  }));
}

const Row = z.object({
  image: z.string().min(1),
  caption: z.string(),
  split: z.enum(['train', 'val', 'test']).optional(),
});

/** Records of a CSV file with a header, or of a file of JSON lines, each with its line number. */
function records(path: string): { record: unknown; line: number }[] {
  const text = readText(path).replace(/^\uFEFF/, '');
  if (path.endsWith('.jsonl')) {
    return text.split(/\r?\n/).flatMap((line, i) => {
      if (line.trim() === '') return [];
      try {
        return [{ record: JSON.parse(line), line: i + 1 }];
      } catch (error) {
        throw new FileError(path, `line ${i + 1} is no JSON: ${messageOf(error)}`);
      }
    });
  }
  try {
    const rows = parse(text, { columns: true, info: true, skip_empty_lines: true, trim: true }) as unknown as {
      record: Record<string, string>;
      info: { lines: number };
    }[];
    return rows.map(({ record, info }) => ({ record: record.split === '' ? { ...record, split: undefined } : record, line: info.lines }));
  } catch (error) {
    if (error instanceof CsvError) throw new FileError(path, `is no CSV with a header: ${error.message}`);
    throw error;
  }
}

/** Reads a table, one caption per record: .csv with a header, or .jsonl. Its columns are image, caption, and optionally split. */
export function readTable(path: string): CaptionedImage[] {
  if (!/\.(csv|jsonl)$/.test(path)) throw new FileError(path, 'is neither .csv nor .jsonl');
  const images = new Map<string, CaptionedImage>();
  for (const { record, line } of records(path)) {
    const row = Row.safeParse(record);
    if (!row.success) {
      const [issue] = row.error.issues;
      throw new FileError(
        path,
        `line ${line}: ${issue.path.join('.') || 'the record'}: ${issue.message}; image, caption and perhaps split (train, val, test) are expected`,
      );
    }
    const { image: file, caption, split = null } = row.data;
    const known = images.get(file) ?? { file: safeName(path, file), split, captions: [] };
    if (known.split !== split) throw new FileError(path, `line ${line}: "${file}" is in the splits ${known.split ?? 'none'} and ${split ?? 'none'}`);
    known.captions.push(caption.trim());
    images.set(file, known);
  }
  return [...images.values()];
}
