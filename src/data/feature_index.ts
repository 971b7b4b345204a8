/**
 * What stands beside the records of a feature store. `features.json` is small: the encoder, the kind of the records, which part of which
 * pictures they are. `features.index` has an entry for each picture (FeatureEntries) and is only appended to. The small file says how
 * many of its bytes count, and their SHA-256. `features.json.partial` says the same of a store that is not finished: its journal.
 * Version 1 had the names and checksums as JSON in the small file.
 */
import { createHash, type Hash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { FileError, GlimpseError } from '../errors.ts';
import { onFile, writeFileAtomic } from './atomic_file.ts';
import { EncoderIdentity } from './encoder_identity.ts';
import { FeatureEntries, SUM_BYTES } from './feature_entries.ts';
import { Part } from './feature_parts.ts';
import { openFile } from './file_source.ts';
import { renamedKeys } from './renamed.ts';
import { readText } from './text.ts';
import { parseJson } from './validation.ts';

/** Numbers of a record at most. */
const MOST_NUMBERS = 2 ** 28;
const PIECE = 16 << 20;

const Kind = {
  encoder: EncoderIdentity,
  regions: z.number().int().positive().max(MOST_NUMBERS),
  width: z.number().int().positive().max(MOST_NUMBERS),
  type: z.enum(['f32', 'f16']).default('f32'),
};
const count = z.number().int().nonnegative();
const Version1 = z.object({
  version: z.literal(1),
  ...Kind,
  files: z.array(z.string()),
  /** First 16 digits of each record's SHA-256. */
  checksums: z.array(z.string().regex(/^[0-9a-f]{16}$/, 'expected 16 hexadecimal digits')),
});
const Version2 = z.object({
  version: z.literal(2),
  ...Kind,
  /** How the checksums of records are made: the first 8 bytes of this. */
  checksums: z.literal('sha256'),
  pictures: count,
  /** The bytes of `features.index` that count, and their SHA-256. */
  index: z.object({ bytes: count, sha256: z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits') }),
  /** Which parts of which pictures the store holds; null if it was not told. */
  parts: z.array(Part).nullable(),
  /** Pictures of these parts that have no features since they cannot be read, sorted. */
  leftOut: z.array(z.string()),
});
const AnyVersion = z.preprocess(renamedKeys({ places: 'regions' }), z.discriminatedUnion('version', [Version1, Version2]));

/** The fields that must be the same in two stores to read or merge them together. */
export type FeatureKind = Pick<z.infer<typeof Version2>, 'encoder' | 'regions' | 'width' | 'type'>;
export type FeatureType = FeatureKind['type'];

/** What `features.json` or its journal says, of any version. */
export interface StoreHeader extends FeatureKind {
  pictures: number;
  parts: Part[] | null;
  leftOut: string[];
  /** Null in version 1, which has `old` instead. */
  index: { bytes: number; sha256: string } | null;
  old: { files: string[]; checksums: string[] } | null;
}

export const HEADER = 'features.json';
export const INDEX = 'features.index';
export const PARTIAL = '.partial';
export const dataName = (type: FeatureType) => `features.${type}`;
export const recordSize = ({ regions, width, type }: FeatureKind) => regions * width * (type === 'f16' ? 2 : 4);

/** Names of the fields in which two encoders differ. The path of the file does not count. */
export function encoderDifferences(a: EncoderIdentity, b: EncoderIdentity): string[] {
  return (['sha256', 'featureMap', 'layout', 'dropped', 'preprocessing', 'tuned'] as const).filter((key) => a[key] !== b[key]);
}

/** Names of the fields in which two stores differ. */
export function kindDifferences(a: FeatureKind, b: FeatureKind): string[] {
  return [...encoderDifferences(a.encoder, b.encoder), ...(['regions', 'width', 'type'] as const).filter((key) => a[key] !== b[key])];
}

const shortSum = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 16);

/** Writes a header, with a checksum of its text as the first field. */
export function writeHeader(path: string, header: Omit<z.infer<typeof Version2>, 'version' | 'checksums'>): void {
  const { encoder, regions, width, type, pictures, index, parts, leftOut } = header;
  const text = JSON.stringify({ version: 2, encoder, regions, width, type, checksums: 'sha256', pictures, index, parts, leftOut });
  writeFileAtomic(path, [`{"checksum":"${shortSum(text)}",${text.slice(1)}`]);
}

/** The first indices had no checksum. */
const CHECKSUM = /^\{"checksum":"([0-9a-f]{16})",/;

/** Throws a FileError if the file is no header, or damaged. */
export function readHeader(path: string): StoreHeader {
  const verdict = 'is no feature index';
  const text = readText(path);
  const [beginning, sum] = CHECKSUM.exec(text) ?? [];
  if (beginning !== undefined && shortSum(`{${text.slice(beginning.length)}`) !== sum)
    throw new FileError(path, `${verdict}: it is damaged: its checksum differs`);
  const header = parseJson(path, text, AnyVersion, verdict);
  const { encoder, regions, width, type } = header;
  if (regions * width > MOST_NUMBERS) throw new FileError(path, `${verdict}: a record of ${regions} × ${width} numbers is too large`);
  if (header.version === 2) {
    const { pictures, parts, leftOut, index } = header;
    if (beginning === undefined) throw new FileError(path, `${verdict}: it has no checksum`);
    return { encoder, regions, width, type, pictures, parts, leftOut, index, old: null };
  }
  const { files, checksums } = header;
  if (files.length !== checksums.length) throw new FileError(path, `${verdict}: it has ${files.length} pictures and ${checksums.length} checksums`);
  return { encoder, regions, width, type, pictures: files.length, parts: null, leftOut: [], index: null, old: { files, checksums } };
}

/** Entries with space for those of several stores. Files of an index that are shorter than their header says are refused later. */
export function entriesFor(stores: readonly { folder: string; header: StoreHeader }[]): FeatureEntries {
  const bytes = stores.map(({ folder, header: { index } }) =>
    index ? Math.min(index.bytes, statSync(join(folder, INDEX), { throwIfNoEntry: false })?.size ?? 0) : 0,
  );
  const rows = stores.map(({ header: { pictures } }, i) => Math.min(pictures, bytes[i]));
  return new FeatureEntries(total(rows), total(bytes));
}

const total = (list: readonly number[]) => list.reduce((sum, each) => sum + each, 0);

/** What `readEntries` found besides the entries that it adds. */
interface Found {
  /** The SHA-256 of the bytes of the index so far, to go on with. */
  hash: Hash;
}

/**
 * Adds a store's pictures to `entries`. `onRepeated` gets a row whose name an earlier row has; within one store of version 2 there must
 * be none. Throws a FileError if the index is damaged.
 */
export function readEntries(
  folder: string,
  header: StoreHeader,
  entries: FeatureEntries,
  onRepeated: (row: number, earlier: number) => void = () => {},
): Found {
  const hash = createHash('sha256');
  const first = entries.rows;
  if (header.old) {
    const { files, checksums } = header.old;
    entries.reserve(files.length, 0);
    for (const [i, file] of files.entries()) {
      const earlier = onFile(join(folder, HEADER), () => entries.append(file, Buffer.from(checksums[i], 'hex')));
      if (earlier >= first) entries.prefer(entries.rows - 1);
      else if (earlier >= 0) onRepeated(entries.rows - 1, earlier);
    }
    return { hash };
  }
  const path = join(folder, INDEX);
  const { bytes, sha256 } = header.index as { bytes: number; sha256: string };
  const file = openFile(path);
  try {
    if (file.size < bytes) throw new FileError(path, `has ${file.size} bytes, ${HEADER} says ${bytes}`);
    const pieces = function* () {
      for (let at = 0; at < bytes; at += PIECE) {
        const piece = file.read(at, Math.min(PIECE, bytes - at));
        hash.update(piece);
        yield piece;
      }
      if (hash.copy().digest('hex') !== sha256) throw new FileError(path, 'is damaged: its checksum differs');
    };
    entries.load(path, pieces(), bytes, header.pictures, (row, earlier) => {
      if (earlier >= first) throw new FileError(path, `is damaged: it has the picture ${entries.nameOf(row)} twice`);
      onRepeated(row, earlier);
    });
  } finally {
    file.close();
  }
  return { hash };
}

/** Bytes of checksum that a record's entry keeps. */
export function recordSum(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest().subarray(0, SUM_BYTES);
}

const BEGUN = [HEADER, INDEX, ...(['f32', 'f16'] as const).map(dataName)].flatMap((name) => [name, name + PARTIAL]);
/** The folder of part i of n below the one that a launcher's processes share. */
export const shardFolder = (number: number, of: number) => `shard-${number}-of-${of}`;
const SHARD_FOLDER = /^shard-(\d+)-of-(\d+)$/;
const LOCK = /^writer\.[0-9a-f]{12}\.lock/; // or what a kill left of one that was just made

/** Whether a store lies in a folder, or the beginning of one. */
const isStore = (folder: string) => BEGUN.some((name) => existsSync(join(folder, name)));

const names = (folder: string): string[] => (statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? readdirSync(folder) : []);

/** The stores that lie side by side in a folder, by name; numbers in names count as numbers. */
function storesIn(folder: string): string[] {
  return names(folder)
    .filter((name) => (SHARD_FOLDER.test(name) && statSync(join(folder, name), { throwIfNoEntry: false })?.isDirectory()) || isStore(join(folder, name)))
    .sort(new Intl.Collator('en', { numeric: true }).compare)
    .map((name) => join(folder, name));
}

/** The folders of stores; one that holds no store itself, but several side by side, stands for those. */
export function storeFolders(given: readonly string[]): string[] {
  return given.flatMap((folder) => {
    if (isStore(folder)) return [folder];
    const inside = storesIn(folder);
    return inside.length > 0 ? inside : [folder];
  });
}

/** The header of a finished store. Throws a GlimpseError that says what to do if there is none, or it is not finished. */
export function finishedHeader(folder: string): StoreHeader {
  const path = join(folder, HEADER);
  if (existsSync(path)) {
    const header = readHeader(path);
    const [has, said] = [header.pictures + header.leftOut.length, header.parts && total(header.parts.map(({ pictures }) => pictures))];
    if (said !== null && said !== has) throw new FileError(path, `is damaged: its parts have ${said} pictures, and it tells of ${has}`);
    return header;
  }
  const isBegun = isStore(folder) || SHARD_FOLDER.test(basename(folder)) || names(folder).some((name) => LOCK.test(name));
  if (isBegun && existsSync(folder)) throw new GlimpseError(`the features in ${folder} are not finished; run \`glimpse features\` again to complete them`);
  throw new FileError(folder, existsSync(folder) ? `holds no features: there is no ${HEADER} in it` : 'no such folder; a feature store is expected');
}

/** Throws a GlimpseError if a folder holds shards side by side: a store in the same folder would hide them. */
export function refuseShards(out: string): void {
  if (isStore(out)) return;
  const [first] = storesIn(out);
  if (first) throw new GlimpseError(`${out} holds shards side by side, such as ${first}; name another folder with --out`);
}

/**
 * Where a process that a launcher started writes its part: a folder of its own below `out`, which can be given to `train` and `merge`.
 * Throws a GlimpseError if other shards or a store lie there.
 */
export function ownFolder(out: string, number: number, of: number): string {
  if (isStore(out)) throw new GlimpseError(`${out} holds a feature store; the ${of} processes need another folder, below which each makes its own`);
  const other = names(out).find((name) => SHARD_FOLDER.test(name) && Number(SHARD_FOLDER.exec(name)?.[2]) !== of);
  if (other) throw new GlimpseError(`${out} holds ${other}, and this is shard ${number}/${of}: start as many processes as before, or name another folder`);
  return join(out, shardFolder(number, of));
}
