/**
 * Pictures with captions as large collections come: tar shards of WebDataset, and Parquet files with a picture and its captions in
 * a row. Captions are read, and each picture's place is noted; it stays where it is. What is passed over is counted.
 */
import { lstatSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { z } from 'zod';
import { type Counted, Tally } from '../counted.ts';
import { FileError, GlimpseError, UsageError } from '../errors.ts';
import { onFile } from './atomic_file.ts';
import { PerhapsSplit, SPLITS, type TableOptions, type TableRow, tableImages } from './caption_sources.ts';
import { type CaptionedImage, MOST_PICTURES, type Split, safeName } from './captions.ts';
import { openFile } from './file_source.ts';
import { MAX_BYTES } from './images.ts';
import { type ColumnKind, columnOf, columnsText, type ParquetColumn, ParquetFile } from './parquet.ts';
import { picturePath } from './picture_folder.ts';
import type { Shard } from './picture_places.ts';
import { type Columns, plainName } from './table_columns.ts';
import { readTar, type TarMember } from './tar.ts';
import { textOf } from './text.ts';
import { checkedBy, parseJson, quoted } from './validation.ts';

/** Captions, and the JSON beside a picture, are read up to this many bytes. */
const MAX_CAPTION = 1 << 16;
const MAX_JSON = 1 << 20;

const PICTURE = /(^|\.)(jpe?g|jfif|png|webp|gif|tiff?|avif)$/;
const TEXTS = ['txt', 'caption', 'text'];
const FIELDS = ['caption', 'captions', 'text'];
const SHARD = /\.(tar|parquet)$/i;
const PACKED = /\.(tar\.(gz|bz2|xz|zst)|tgz|tar\.lz4)$/i;

export interface ShardReport {
  shards: number;
  /** Files of the given folders that are no shards. */
  otherFiles: Counted;
  /** Members of tars that are no ordinary files, or belong to no sample. */
  otherMembers: Counted;
  /** Samples without a picture. */
  samplesWithoutPicture: Counted;
  /** Keys that stand in more than one shard. */
  repeatedKeys: Counted;
  /** Shards, row groups and samples that cannot be read, with the cause; they are left out with --skip-bad. */
  damaged: Counted;
}

export interface ShardOptions {
  /** Columns of Parquet; in a tar, extensions of members or fields of the JSON. */
  columns?: Columns;
  encoding?: string | undefined;
  followLinks?: boolean;
  /** Leave out what is damaged, instead of failing. */
  skipBad?: boolean;
  /** Called after each shard. */
  onShard?(done: number, total: number): void;
}

/** Shards with the split that they were given for; null where their names or columns tell. */
export interface GivenShards {
  split: Split | null;
  paths: readonly string[];
}

/** The shards under a path, and what else is in the folder. A folder of tars may have Parquet files beside them that only describe them. */
function shardsUnder(path: string, other: Tally): string[] {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    if (PACKED.test(path))
      throw new FileError(
        path,
        'is a compressed tar. A picture is read from its place in the tar, so unpack it to .tar first, e.g. with gunzip; pictures are compressed already',
      );
    if (/\.(arrow|feather)$/i.test(path)) throw new FileError(path, 'is an Arrow file, which is not read; save its table as Parquet');
    if (!SHARD.test(path)) throw new FileError(path, 'is no shard by its ending: .tar and .parquet are read');
    return [path];
  }
  const files = onFile(path, () => readdirSync(path, { recursive: true, encoding: 'utf8' }))
    .map((name) => join(path, name))
    .filter((file) => !lstatSync(file, { throwIfNoEntry: false })?.isDirectory())
    .sort();
  const tars = files.filter((file) => /\.tar$/i.test(file));
  const taken = tars.length > 0 ? tars : files.filter((file) => /\.parquet$/i.test(file));
  if (taken.length === 0) throw new FileError(path, 'holds no shard: .tar and .parquet are read');
  const known = new Set(taken);
  for (const file of files) if (!known.has(file)) other.add(file);
  return taken;
}

/** The folder that all files are in. */
function folderOf(paths: readonly string[]): string {
  let folder = dirname(paths[0]);
  for (const path of paths) while (!path.startsWith(folder.endsWith(sep) ? folder : folder + sep)) folder = dirname(folder);
  return folder;
}

/** The split that a file's name tells, as train-00000.tar or val/0.parquet do; null if it tells none, or two. */
function splitOfName(name: string): Split | null {
  const found = new Set(
    name
      .toLowerCase()
      .split(/[^a-z]+/)
      .flatMap((word) => (Object.hasOwn(SPLITS, word) ? [SPLITS[word]] : [])),
  );
  return found.size === 1 ? [...found][0] : null;
}

/** `images/00.tar/a/0001.left.jpg` → key `a/0001`, extension `left.jpg`. Null for a name without a key or an extension. */
function keyOf(name: string): { key: string; extension: string } | null {
  const [, key, extension] = /^((?:.*\/)?[^./][^./]*)\.([^/]+)$/.exec(name) ?? [];
  return key === undefined ? null : { key, extension: extension.toLowerCase() };
}

const Texts = z.union([z.string(), z.array(z.string())]).nullish();

interface Reading {
  folder: string;
  found: CaptionedImage[];
  shards: Shard[];
  report: Record<Exclude<keyof ShardReport, 'shards'>, Tally>;
  keys: Set<string>;
  o: ShardOptions;
}

/** Does work on a part of a shard. What is damaged ends the command, or is counted. */
function onPart({ o, report }: Reading, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof FileError) || !o.skipBad) throw error;
    report.damaged.add(error.message);
  }
}

function readTarShard(reading: Reading, name: string, given: Split | null): void {
  const { folder, found, report, keys, o } = reading;
  const path = picturePath(folder, name, o.followLinks ?? false);
  const asked = o.columns ?? {};
  const shard = reading.shards.push({ tar: name }) - 1;
  const byName = splitOfName(name);
  const file = openFile(path);
  const source = { path };
  const own = new Set<string>();
  const passOver = (member: string, why: string) => report.otherMembers.add(`${name}/${member}: ${why}`);
  const { members, bytes } = readTar(file, passOver);
  const text = (member: TarMember, most: number) => textOf(`${path}/${member.name}`, bytes(member, most), o.encoding);

  const sample = (key: string, parts: ReadonlyMap<string, TarMember>) =>
    onPart(reading, () => {
      const pictures = [...parts].filter(([extension]) => (asked.image === undefined ? PICTURE.test(extension) : extension === asked.image.toLowerCase()));
      if (pictures.length === 0) return report.samplesWithoutPicture.add(`${name}/${key}`);
      if (pictures.length > 1)
        throw new FileError(
          path,
          `the sample ${quoted(key)} has several pictures: ${pictures.map(([each]) => each).join(', ')}; choose one, as --columns image=${pictures[0][0]}`,
        );
      const [[extension, picture]] = pictures;
      if (picture.size > MAX_BYTES) throw new FileError(path, `${quoted(picture.name)} has ${picture.size} bytes; ${MAX_BYTES} are the most that is read`);
      const about = parts.get('json');
      const json = about ? parseJson(`${path}/${about.name}`, text(about, MAX_JSON), z.record(z.string(), z.unknown()), 'is no JSON of a sample') : {};
      const written = (asked.caption === undefined ? TEXTS : [asked.caption.toLowerCase()]).map((each) => parts.get(each)).find((each) => each !== undefined);
      const field = asked.caption ?? FIELDS.find((each) => json[each] !== undefined && json[each] !== null) ?? 'caption';
      const told = written ? text(written, MAX_CAPTION) : (checkedBy(`${path}/${about?.name ?? key}`, Texts, json[field], quoted(field)) ?? []);
      const captions = [told].flat().map((caption) => caption.trim());
      const long = captions.find((caption) => caption.length > MAX_CAPTION);
      if (long) throw new FileError(path, `a caption of ${quoted(key)} has ${long.length} characters; ${MAX_CAPTION} are the most that is read`);
      const splitField = asked.split ?? 'split';
      const member = parts.get(splitField.toLowerCase());
      const split = checkedBy(`${path}/${about?.name ?? key}`, PerhapsSplit, member ? text(member, MAX_CAPTION) : json[splitField], quoted(splitField));
      found.push({
        file: `${name}/${picture.name}`,
        split: given ?? split ?? byName,
        captions,
        source,
        at: { shard, offset: picture.offset, size: picture.size, header: picture.header },
      });
      for (const [other, { name: unused }] of parts)
        if (other !== extension && other !== 'json' && !TEXTS.includes(other) && other !== asked.caption?.toLowerCase() && other !== splitField.toLowerCase())
          passOver(unused, 'neither a picture nor a caption');
    });

  let key: string | null = null;
  let parts = new Map<string, TarMember>();
  const finish = () => {
    if (key !== null) sample(key, parts);
  };
  // What stands before damage is sound: the last sample ends there.
  const untilDamage = (work: () => void) => {
    try {
      work();
    } catch (error) {
      if (o.skipBad) finish();
      throw error;
    }
  };
  try {
    onPart(reading, () => {
      untilDamage(() => {
        for (const member of members) {
          const named = /^__[^/]*__$/.test(member.name) ? null : keyOf(member.name);
          if (named === null) {
            passOver(member.name, 'its name has no key and extension');
            continue;
          }
          if (named.key !== key) {
            finish();
            [key, parts] = [named.key, new Map()];
            if (own.has(key))
              throw new FileError(
                path,
                `the members of the sample ${quoted(key)} do not stand together, or it is there twice; write the tar again, sorted by name`,
              );
            if (keys.size >= MOST_PICTURES)
              throw new GlimpseError(
                `${path}: with the shards before it there are more than ${MOST_PICTURES} samples, the most of one dataset; name fewer shards`,
              );
            own.add(key);
            if (keys.has(key)) report.repeatedKeys.add(`${name}/${key}`);
            else keys.add(key);
          }
          if (parts.has(named.extension)) throw new FileError(path, `the sample ${quoted(named.key)} has ${quoted(named.extension)} twice`);
          parts.set(named.extension, member);
        }
      });
      finish();
    });
  } finally {
    file.close();
  }
}

/** Usual names of columns in Parquet files, the likeliest first. */
const PARQUET = {
  image: ['image', 'jpg', 'jpeg', 'png', 'webp', 'img', 'image_bytes', 'picture', 'bytes'],
  caption: ['caption', 'captions', 'text', 'txt', 'sentence', 'sentences', 'comment'],
  file: ['image', 'image_name', 'file_name', 'filename', 'file', 'image_path', 'path'],
} as const;

/** A column by the name that was asked for, or else by a usual one; else the only one of these kinds if `only`. */
function chosenColumn(
  file: ParquetFile,
  asked: string | undefined,
  usual: readonly string[],
  kinds: readonly ColumnKind[],
  only = false,
): ParquetColumn | null {
  if (asked !== undefined) return columnOf(file, asked, kinds);
  const fitting = file.columns.filter(({ kind }) => kinds.includes(kind));
  const named = usual.map((name) => fitting.find((column) => plainName(column.name) === name)).find((column) => column !== undefined);
  return named ?? (only && fitting.length === 1 ? fitting[0] : null);
}

function neededColumn(file: ParquetFile, column: ParquetColumn | null, what: 'image' | 'caption', hint = ''): ParquetColumn {
  if (column) return column;
  throw new FileError(file.path, `there is no column ${what}; the columns there are ${columnsText(file)}; name it, as --columns ${what}=NAME${hint}`);
}

/** Captions and split of the rows of a group. What is wrong with one row is thrown by `of`. */
function captionRows(file: ParquetFile, group: number, columns: { caption: ParquetColumn; split: ParquetColumn | null }, encoding?: string) {
  const captions = file.read(group, columns.caption);
  const splits = columns.split && file.read(group, columns.split);
  const { start, rows } = file.groups[group];
  return {
    ...{ start, rows },
    of(i: number): { captions: string[]; split: Split | null } {
      const place = `${file.path} row ${start + i}`;
      const texts = captions[i].flatMap((bytes) => {
        if (bytes === null) return [];
        if (bytes.length > MAX_CAPTION) throw new FileError(place, `its caption has ${bytes.length} bytes; ${MAX_CAPTION} are the most that is read`);
        return [textOf(place, bytes, encoding).trim()];
      });
      const [split] = splits?.[i] ?? [];
      return { captions: texts, split: checkedBy(place, PerhapsSplit, split ? textOf(place, split, encoding) : null, 'its split') };
    },
  };
}

const SPLIT_KINDS: readonly ColumnKind[] = ['text', 'bytes'];
const splitColumn = (file: ParquetFile, { split }: Columns) => chosenColumn(file, split, ['split'], SPLIT_KINDS);

function readParquetShard(reading: Reading, name: string, given: Split | null): void {
  const { folder, found, o } = reading;
  const path = picturePath(folder, name, o.followLinks ?? false);
  const asked = o.columns ?? {};
  onPart(reading, () => {
    const file = ParquetFile.open(path);
    const image = neededColumn(
      file,
      chosenColumn(file, asked.image, PARQUET.image, ['picture', 'bytes'], true),
      'image',
      '; if the pictures are files of a folder, give this file as --table, with --images',
    );
    const columns = {
      caption: neededColumn(file, chosenColumn(file, asked.caption, PARQUET.caption, ['text', 'texts', 'bytes']), 'caption'),
      split: splitColumn(file, asked),
    };
    const shard = reading.shards.push({ parquet: name, column: image.name, footer: file.footer }) - 1;
    const byName = splitOfName(name);
    const source = { path };
    file.groups.forEach((_, group) => {
      onPart(reading, () => {
        const { start, rows, of } = captionRows(file, group, columns, o.encoding);
        for (let i = 0; i < rows; i++)
          onPart(reading, () => {
            const { captions, split } = of(i);
            found.push({
              file: `${name}/${start + i}`,
              split: given ?? split ?? byName,
              captions,
              source,
              at: { shard, row: start + i },
            });
          });
      });
    });
  });
}

/**
 * Reads the captions of shards, and notes where each picture is. The shards lie in one folder, at any depth, and are named within
 * it. Throws a FileError for a shard, a sample or a row that is damaged, unless `skipBad`.
 */
export function readShards(
  given: readonly GivenShards[],
  o: ShardOptions = {},
): { found: CaptionedImage[]; imageFolder: string; shards: Shard[]; report: ShardReport } {
  const report = Object.fromEntries(
    (['otherFiles', 'otherMembers', 'samplesWithoutPicture', 'repeatedKeys', 'damaged'] as const).map((name) => [name, new Tally()]),
  ) as Reading['report'];
  const all = given.flatMap(({ split, paths }) => paths.flatMap((path) => shardsUnder(resolve(path), report.otherFiles)).map((path) => ({ split, path })));
  if (all.length === 0) throw new UsageError('no shard is given');
  const known = new Set<string>();
  for (const { path } of all) {
    if (known.has(path)) throw new FileError(path, 'is given twice');
    known.add(path);
  }
  const folder = folderOf(all.map(({ path }) => path));
  const reading: Reading = { ...{ folder, found: [], shards: [], report, o }, keys: new Set() };
  for (const [i, { split, path }] of all.entries()) {
    const name = safeName(path, relative(folder, path).split(sep).join('/'));
    if (/\.tar$/i.test(basename(path))) readTarShard(reading, name, split);
    else readParquetShard(reading, name, split);
    o.onShard?.(i + 1, all.length);
  }
  return { found: reading.found, imageFolder: folder, shards: reading.shards, report: { shards: all.length, ...report } };
}

/** Reads a Parquet file that names pictures of a folder, with the captions of each in one row or several. */
export function readParquetTable(path: string, { columns: asked = {}, encoding, onForm = () => {} }: TableOptions = {}): CaptionedImage[] {
  const file = ParquetFile.open(path);
  const image = neededColumn(file, chosenColumn(file, asked.image, PARQUET.file, ['text']), 'image', '; if the file holds the pictures, give it as --shards');
  const columns = {
    caption: neededColumn(file, chosenColumn(file, asked.caption, PARQUET.caption, ['text', 'texts']), 'caption'),
    split: splitColumn(file, asked),
  };
  onForm({ separator: null, columns: { image: image.name, caption: columns.caption.name, ...(columns.split ? { split: columns.split.name } : {}) } });
  function* rows(): Generator<TableRow> {
    for (let group = 0; group < file.groups.length; group++) {
      const names = file.read(group, image);
      const part = captionRows(file, group, columns, encoding);
      for (let i = 0; i < part.rows; i++) {
        const line = part.start + i; // rows count from 0, as the names of pictures do
        const [name] = names[i];
        if (!name) throw new FileError(`${path} row ${line}`, `the column ${quoted(image.name)} is null`);
        yield { image: textOf(`${path} row ${line}`, name, encoding), ...part.of(i), line };
      }
    }
  }
  return tableImages(path, rows());
}
