/**
 * Readers of pictures and their captions: Flickr8k/30k token files with split lists, COCO JSON, and Karpathy's split JSON.
 * For pictures of your own there are tables: CSV with any usual separator, or JSON lines. Every error names its file and place.
 */
import { z } from 'zod';
import { FileError } from '../errors.ts';
import { type CaptionedImage, distinctPictures, type Split, safeName } from './captions.ts';
import { type TableForm, tableRecords } from './table.ts';
import type { Columns } from './table_columns.ts';
import { readText } from './text.ts';
import { checkedBy, exactJson, parseJson, quoted } from './validation.ts';

/** How a source's text is read. */
export interface SourceOptions {
  /** Encoding of files without a byte-order mark; UTF-8 if absent. */
  encoding?: string | undefined;
}

/** Other names of the splits. Karpathy's `restval` is trained on, as is usual. */
export const SPLITS: Readonly<Record<string, Split>> = {
  ...{ train: 'train', training: 'train', restval: 'train' },
  ...{ val: 'val', valid: 'val', validation: 'val', dev: 'val' },
  ...{ test: 'test', testing: 'test' },
};

const SplitName = z
  .string()
  .transform((name) => name.trim().toLowerCase())
  .pipe(z.enum(Object.keys(SPLITS)))
  .transform((name) => SPLITS[name]);

/** Null where no split is named: the field is absent, null or empty. */
export const PerhapsSplit = z
  .preprocess((name) => (name === undefined || (typeof name === 'string' && name.trim() === '') ? null : name), SplitName.nullable())
  .default(null);

/**
 * Reads `name.jpg#0<TAB>caption` lines, and for each split a list of file names. Captions of pictures in no list are left out;
 * `onUnlisted` is called with the picture's name.
 */
export function readFlickr(
  tokenFile: string,
  lists: Partial<Record<Split, string>>,
  onUnlisted: (file: string) => void = () => {},
  { encoding }: SourceOptions = {},
): CaptionedImage[] {
  const listed = Object.entries(lists).flatMap(([split, path]) =>
    readText(path, encoding)
      .split(/\r?\n/)
      .flatMap((line, i): CaptionedImage[] =>
        line.trim() === '' ? [] : [{ file: safeName(path, line.trim()), split: split as Split, captions: [], source: { path, line: i + 1 } }],
      ),
  );
  const images = new Map(distinctPictures(listed).map((image) => [image.file.normalize('NFC'), image]));
  readText(tokenFile, encoding)
    .split(/\r?\n/)
    .forEach((line, i) => {
      if (!line.trim()) return;
      const match = /^(.+?)#\d+\t(.*)$/.exec(line);
      if (!match) throw new FileError(tokenFile, `line ${i + 1} is no "name#number<TAB>caption": ${quoted(line)}`);
      const image = images.get(safeName(tokenFile, match[1]).normalize('NFC'));
      if (image) image.captions.push(match[2].trim());
      else onUnlisted(match[1]);
    });
  return [...images.values()];
}

const Id = z.union([z.number(), z.string(), z.bigint()]);
/** The id as JSON, with all its digits. */
const idOf = (id: z.infer<typeof Id>): string => (typeof id === 'string' ? JSON.stringify(id) : String(id));

const Coco = z.object({
  images: z.array(z.object({ id: Id, file_name: z.string(), split: PerhapsSplit })),
  annotations: z.array(z.object({ image_id: Id, caption: z.string() })),
});

/** Reads a COCO caption file. A picture goes to the split that the file names for it, else to `split`. */
export function readCoco(path: string, split: Split | null, { encoding }: SourceOptions = {}): CaptionedImage[] {
  const { images, annotations } = parseJson(path, readText(path, encoding), Coco, 'is no COCO caption file', exactJson);
  const found = distinctPictures(
    images.map(({ id, file_name, split: own }) => ({ file: safeName(path, file_name), split: own ?? split, captions: [], id: idOf(id), source: { path } })),
  );
  const byId = new Map(images.map(({ id }, i) => [String(id), found[i]]));
  for (const { image_id, caption } of annotations) {
    const image = byId.get(String(image_id));
    if (!image) throw new FileError(path, `a caption belongs to picture ${quoted(String(image_id))}, which the file does not list`);
    image.captions.push(caption.trim());
  }
  return found;
}

const Karpathy = z.object({
  images: z.array(
    z.object({
      filename: z.string(),
      filepath: z.string().optional(),
      split: SplitName,
      cocoid: Id.optional(),
      imgid: Id.optional(),
      sentences: z.array(z.object({ raw: z.string() })),
    }),
  ),
});

/**
 * Reads Karpathy and Fei-Fei's splits (dataset_coco.json, dataset_flickr8k.json, …). `restval` becomes `train`, as is usual. The id of
 * a picture is COCO's, or else the number in the file.
 */
export function readKarpathy(path: string, { encoding }: SourceOptions = {}): CaptionedImage[] {
  const { images } = parseJson(path, readText(path, encoding), Karpathy, 'is no Karpathy split file', exactJson);
  return distinctPictures(
    images.map(({ filename, filepath, split, cocoid, imgid, sentences }) => {
      const id = cocoid ?? imgid;
      return {
        file: safeName(path, filepath ? `${filepath}/${filename}` : filename),
        split,
        captions: sentences.map(({ raw }) => raw.trim()),
        ...(id === undefined ? {} : { id: idOf(id) }),
        source: { path },
      };
    }),
  );
}

const Row = z.object({ image: z.string().min(1), caption: z.string(), split: PerhapsSplit });

/** How a table is read: its columns by their names in it, where these are not the usual ones. */
export interface TableOptions extends SourceOptions {
  columns?: Columns | undefined;
  /** Called with what was found out about the table's form. */
  onForm?(form: TableForm): void;
}

/**
 * Reads a table, one caption per record: CSV or another text with a separator and a header, or JSON lines. Its columns are image,
 * caption, and optionally split.
 */
export function readTable(path: string, { encoding, columns = {}, onForm = () => {} }: TableOptions = {}): CaptionedImage[] {
  const { form, records } = tableRecords(path, readText(path, encoding), columns);
  onForm(form);
  const row = ({ record, line }: (typeof records)[number]): TableRow => {
    const { caption, ...rest } = checkedBy(path, Row, record, `line ${line}`);
    return { ...rest, captions: [caption.trim()], line };
  };
  return tableImages(path, records.map(row));
}

/** A row of a table, whatever its form. */
export interface TableRow {
  image: string;
  captions: string[];
  split: Split | null;
  line: number;
}

/** The pictures of a table's rows, each with the captions of all of its rows. */
export function tableImages(path: string, rows: Iterable<TableRow>): CaptionedImage[] {
  // Rows that differ in the split stay apart, so that they are refused below.
  const images = new Map<string, CaptionedImage>();
  for (const { image, captions, split, line } of rows) {
    const file = safeName(path, image);
    const key = JSON.stringify([file.normalize('NFC'), split]);
    const known = images.get(key) ?? { file, split, captions: [], source: { path, line } };
    known.captions.push(...captions);
    images.set(key, known);
  }
  return distinctPictures([...images.values()]);
}
