/**
 * Where the pictures of a dataset are: files of a folder, members of tar shards, or cells of Parquet shards. All commands get a
 * picture's bytes here, straight from its shard, and a shard that changed since it was listed is noticed.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { FileError } from '../errors.ts';
import { openFile } from './file_source.ts';
import { MAX_BYTES, type PictureFile } from './images.ts';
import { columnOf, ParquetFile } from './parquet.ts';
import { picturePath } from './picture_folder.ts';
import { memberAt } from './tar.ts';
import { quoted } from './validation.ts';

const whole = z.number().int().nonnegative();

/** A file that holds many pictures. Its name is within the picture folder. `footer` is the CRC-32C of a Parquet file's footer. */
export const Shard = z.union([z.strictObject({ tar: z.string() }), z.strictObject({ parquet: z.string(), column: z.string(), footer: whole })]);
export type Shard = z.infer<typeof Shard>;

/** Where in a shard a picture is. `shard` counts in the dataset's list. `header` is the CRC-32C of a tar member's header. */
export const Place = z.union([
  z.strictObject({ shard: whole, offset: whole, size: whole.max(MAX_BYTES), header: whole }),
  z.strictObject({ shard: whole, row: whole }),
]);
export type Place = z.infer<typeof Place>;

/** The name of a shard within the picture folder. */
export const shardName = (shard: Shard): string => ('tar' in shard ? shard.tar : shard.parquet);

/** Which picture this is, as the dataset lists it. */
export interface Placed {
  file: string;
  at?: Place | undefined;
}

/** Where the pictures of a list lie. */
export interface PictureFolderOf {
  imageFolder: string;
  shards?: readonly Shard[] | undefined;
}

/** Decoded row groups are kept up to this many bytes, and the last one whatever its size. */
const KEPT_BYTES = 512 * 2 ** 20;
const KEPT_FILES = 16;

interface Kept {
  rows: (Uint8Array | null)[][];
  bytes: number;
}

/** Row groups that were read last. Training draws pictures at random, extraction goes through them in order. */
class RowGroups {
  private readonly files = new Map<string, ParquetFile>();
  private readonly groups = new Map<string, Kept>();

  private file(path: string, footer: number): ParquetFile {
    const known = this.files.get(path);
    const file = known?.footer === footer ? known : ParquetFile.open(path);
    if (file.footer !== footer) throw new FileError(path, 'has changed since prepare listed its pictures; run prepare again');
    this.files.delete(path);
    this.files.set(path, file);
    for (const [oldest] of this.files) if (this.files.size > KEPT_FILES) this.files.delete(oldest);
    return file;
  }

  cell(path: string, { column: name, footer }: { column: string; footer: number }, row: number): Uint8Array | null {
    const file = this.file(path, footer);
    if (row >= file.rows) throw new FileError(path, `has ${file.rows} rows, and row ${row} is asked for, counted from 0`);
    const column = columnOf(file, name, ['bytes', 'picture']);
    const group = file.groupOf(row);
    const key = JSON.stringify([path, footer, name, group]);
    const kept = this.groups.get(key) ?? file.readSized(group, column);
    this.groups.delete(key);
    this.groups.set(key, kept);
    let bytes = [...this.groups.values()].reduce((sum, each) => sum + each.bytes, 0);
    for (const [oldest, each] of this.groups) {
      if (bytes <= KEPT_BYTES || oldest === key) break;
      this.groups.delete(oldest);
      bytes -= each.bytes;
    }
    const [found, ...more] = kept.rows[row - file.groups[group].start];
    return more.length === 0 ? (found ?? null) : null;
  }
}

const rowGroups = new RowGroups();

/**
 * A picture that a dataset lists: the path of its file, or its bytes out of a shard. Throws a FileError if the shard changed, ends too
 * early or holds no picture there. It also throws one for a link that leads out of the picture folder, unless such links are allowed.
 */
export async function placedPicture({ imageFolder, shards = [] }: PictureFolderOf, { file, at }: Placed, followLinks: boolean): Promise<PictureFile> {
  if (!at) return picturePath(imageFolder, file, followLinks);
  const name = join(imageFolder, file);
  const shard = shards[at.shard];
  const path = picturePath(imageFolder, shardName(shard), followLinks);
  if ('row' in at && 'parquet' in shard) {
    const bytes = rowGroups.cell(path, shard, at.row);
    if (bytes === null) throw new FileError(name, `cannot be read as a picture: the column ${quoted(shard.column)} is null in this row`);
    if (bytes.length > MAX_BYTES)
      throw new FileError(name, `cannot be read as a picture: it has ${bytes.length} bytes, and ${MAX_BYTES} are the most that is read`);
    return { name, bytes };
  }
  if ('row' in at || !('tar' in shard)) throw new FileError(name, `lies in another kind of shard than ${quoted(shardName(shard))}`);
  const tar = openFile(path);
  try {
    return { name, bytes: memberAt(tar, at, file) };
  } finally {
    tar.close();
  }
}

const places = new WeakMap<object, Map<string, Placed>>();

/** As `placedPicture`, by the name that the dataset calls the picture. */
export async function pictureOf(dataset: PictureFolderOf & { images: readonly Placed[] }, file: string, followLinks: boolean): Promise<PictureFile> {
  if (!dataset.shards) return placedPicture(dataset, { file }, followLinks);
  let known = places.get(dataset);
  if (!known) {
    known = new Map(dataset.images.map((image) => [image.file, image]));
    places.set(dataset, known);
  }
  const image = known.get(file);
  if (!image) throw new FileError(join(dataset.imageFolder, file), 'is no picture of the dataset');
  return placedPicture(dataset, image, followLinks);
}
