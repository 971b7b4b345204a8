/**
 * Image features of a whole collection: one packed file of records in single or half precision, with a JSON index beside it.
 * Records are appended, and a journal counts those that are synced, so a killed extraction goes on where it stopped. The index comes
 * when all are there. A store that gets more pictures keeps its index until the larger one replaces it; readers do not see what is
 * added meanwhile. The index holds the encoder's hash and preprocessing; a mismatch is refused.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, fsyncSync, ftruncateSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { FileError, GlimpseError } from '../errors.ts';
import { makeFolder, onFile, removeTemporaries, writeFileAtomic } from './atomic_file.ts';
import { EncoderIdentity } from './encoder_identity.ts';
import { openFile } from './file_source.ts';
import { nonFiniteFault } from './finite.ts';
import { fromHalf, HALF_OVERFLOW, MAX_HALF, toHalf } from './half.ts';
import { type Lock, lockFolder } from './lock.ts';
import { renamedKeys } from './renamed.ts';
import { readText } from './text.ts';
import { parseJson, problemOf } from './validation.ts';

/** Names of the fields in which two encoders differ. The path of the file does not count. */
export function encoderDifferences(a: EncoderIdentity, b: EncoderIdentity): string[] {
  return (['sha256', 'featureMap', 'layout', 'dropped', 'preprocessing', 'tuned'] as const).filter((key) => a[key] !== b[key]);
}

const Index = z.preprocess(
  renamedKeys({ places: 'regions' }),
  z.object({
    version: z.literal(1),
    encoder: EncoderIdentity,
    regions: z.number().int().positive(),
    width: z.number().int().positive(),
    type: z.enum(['f32', 'f16']).default('f32'),
    files: z.array(z.string()),
    /** First 16 digits of each record's SHA-256. */
    checksums: z.array(z.string()),
  }),
);
export type FeatureIndex = z.infer<typeof Index>;

export type FeatureType = FeatureIndex['type'];
/** The fields that must be the same in two stores to merge them. */
type FeatureKind = Pick<FeatureIndex, 'encoder' | 'regions' | 'width' | 'type'>;

const dataName = (type: FeatureType) => `features.${type}`;
const recordSize = ({ regions, width, type }: FeatureKind) => regions * width * (type === 'f16' ? 2 : 4);
const INDEX = 'features.json';
const PARTIAL = '.partial';
/** Time between journal entries. A kill loses at most that much work; an entry after every batch would cost more. */
const JOURNAL_MS = 5000;

function checksum(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

/** The text of an index, with its own checksum as the first field. */
function indexText(index: FeatureIndex): string {
  const text = JSON.stringify(index);
  return `{"checksum":"${checksum(Buffer.from(text))}",${text.slice(1)}`;
}

/** Older indices have no checksum. */
const CHECKSUM = /^\{"checksum":"([0-9a-f]{16})",/;

function readIndex(path: string): FeatureIndex {
  const verdict = 'is no feature index';
  const text = readText(path);
  const [beginning, sum] = CHECKSUM.exec(text) ?? [];
  if (beginning !== undefined && checksum(Buffer.from(`{${text.slice(beginning.length)}`)) !== sum)
    throw new FileError(path, `${verdict}: it is damaged: its checksum differs`);
  const index = parseJson(path, text, Index, verdict);
  if (index.files.length !== index.checksums.length)
    throw new FileError(path, `${verdict}: it has ${index.files.length} pictures and ${index.checksums.length} checksums`);
  return index;
}

/** The features of a picture cannot be stored. */
export class BadFeatures extends GlimpseError {
  override name = 'BadFeatures';

  constructor(
    file: string,
    readonly fault: string,
  ) {
    super(`${file}: ${fault}`);
  }
}

/** Why a record [P · F] cannot be stored; null if it can. */
function recordFault(record: Float32Array, type: FeatureType): string | null {
  const fault = nonFiniteFault(record);
  if (fault) return `its features are no numbers: ${fault}`;
  if (type === 'f32') return null;
  const beyond = record.reduce((count, value) => count + (Math.abs(value) >= HALF_OVERFLOW ? 1 : 0), 0);
  if (beyond === 0) return null;
  return `${beyond} of its ${record.length} features are beyond ±${MAX_HALF}, the largest number of half precision; extract with --precision f32`;
}

/** Names of the fields in which two stores differ. */
function differences(a: FeatureKind, b: FeatureKind): string[] {
  return [...encoderDifferences(a.encoder, b.encoder), ...(['regions', 'width', 'type'] as const).filter((key) => a[key] !== b[key])];
}

/** Writes image features into a folder, one record a picture. A writer that was killed goes on where it stopped. */
export class FeatureWriter {
  private readonly file: number;
  private readonly path: string;
  /** The pictures written so far, and of which encoder they are. */
  readonly index: FeatureIndex;
  private journaled = performance.now();

  private constructor(
    private readonly folder: string,
    private readonly lock: Lock,
    index: FeatureIndex,
  ) {
    this.index = index;
    this.path = join(folder, dataName(index.type));
    const old = this.path + PARTIAL; // where older versions wrote
    const started = index.files.length > 0;
    this.file = onFile(this.path, () => {
      if (!existsSync(this.path) && existsSync(old)) renameSync(old, this.path);
      return openSync(this.path, started ? 'r+' : 'w+');
    });
    const expected = recordSize(index) * index.files.length;
    try {
      if (fstatSync(this.file).size < expected)
        throw new FileError(this.path, `is shorter than its journal says; delete ${folder} and extract the features again`);
      onFile(this.path, () => ftruncateSync(this.file, expected)); // records after the last journal entry cannot be trusted
    } catch (error) {
      closeSync(this.file);
      throw error;
    }
  }

  /** Starts a store, or goes on with one that was interrupted or gets more pictures. Throws if it is of another kind, or in use. */
  static open(folder: string, start: FeatureKind): FeatureWriter {
    onFile(folder, () => makeFolder(folder));
    const lock = lockFolder(folder);
    try {
      removeTemporaries(folder, 'features.'); // others may just be making locks here
      // A kill at the end may leave the journal beside an index that has more: the longer one counts.
      const known = [INDEX, INDEX + PARTIAL].map((name) => join(folder, name)).filter((path) => existsSync(path));
      if (known.length === 0) return new FeatureWriter(folder, lock, { version: 1, ...start, files: [], checksums: [] });
      const [old] = known.map(readIndex).sort((a, b) => b.files.length - a.files.length);
      const differing = differences(old, start);
      if (differing.length > 0)
        throw new GlimpseError(`${folder} holds features of another encoder or kind (${differing.join(', ')} differ); choose another folder or delete it`);
      return new FeatureWriter(folder, lock, old);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** Adds records [P · F], one a picture, in the order of the files. Throws a FileError if they cannot be written, BadFeatures if one cannot be stored. */
  append(files: readonly string[], records: readonly Float32Array[]): void {
    records.forEach((record, i) => {
      const fault = recordFault(record, this.index.type);
      if (fault) throw new BadFeatures(files[i], fault);
    });
    this.appendBytes(
      files,
      records.map((record) => {
        const stored = this.index.type === 'f16' ? toHalf(record) : record;
        return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
      }),
    );
  }

  /** Appends records as they are stored. */
  appendBytes(files: readonly string[], records: readonly Uint8Array[]): void {
    try {
      records.forEach((bytes, i) => {
        const start = recordSize(this.index) * this.index.files.length;
        for (let at = 0; at < bytes.length; ) at += writeSync(this.file, bytes, at, bytes.length - at, start + at);
        this.index.files.push(files[i]);
        this.index.checksums.push(checksum(bytes));
      });
      if (performance.now() - this.journaled > JOURNAL_MS) this.journal();
    } catch (error) {
      throw new FileError(this.path, `cannot be written: ${problemOf(error)}`);
    }
  }

  /** Syncs the records to disk, then counts them in the journal. */
  private journal(): void {
    onFile(this.path, () => fsyncSync(this.file));
    writeFileAtomic(join(this.folder, INDEX + PARTIAL), [indexText(this.index)]);
    this.journaled = performance.now();
  }

  /** Writes the index, which makes the store finished, and closes it. */
  finish(): void {
    try {
      onFile(this.path, () => fsyncSync(this.file));
      writeFileAtomic(join(this.folder, INDEX), [indexText(this.index)]);
      rmSync(join(this.folder, INDEX + PARTIAL), { force: true });
    } finally {
      closeSync(this.file);
      this.lock.release();
    }
  }

  /** Closes an unfinished store; another writer may go on with it. */
  close(): void {
    try {
      this.journal();
    } finally {
      closeSync(this.file);
      this.lock.release();
    }
  }
}

/** Reads a finished store of image features. */
export class FeatureStore {
  private readonly rows: Map<string, number>;
  /** The records that were read before, whose numbers are known to be numbers. */
  private readonly looked: Uint8Array;

  private constructor(
    readonly index: FeatureIndex,
    private readonly handle: FileHandle,
    private readonly path: string,
  ) {
    this.rows = new Map(index.files.map((file, row) => [file, row]));
    this.looked = new Uint8Array(index.files.length);
  }

  /** Opens a folder that a FeatureWriter finished. Throws an error that names the file if it is unfinished or damaged. */
  static async open(folder: string): Promise<FeatureStore> {
    const begun = [INDEX, ...(['f32', 'f16'] as const).map(dataName)].flatMap((name) => [name, name + PARTIAL]);
    if (!existsSync(join(folder, INDEX)) && begun.some((name) => existsSync(join(folder, name))))
      throw new GlimpseError(`the features in ${folder} are not finished; run \`glimpse features\` again to complete them`);
    const index = readIndex(join(folder, INDEX));
    const path = join(folder, dataName(index.type));
    const expected = index.files.length * recordSize(index);
    openFile(path).close(); // a pipe would wait for ever
    let handle: FileHandle;
    try {
      handle = await open(path, 'r');
    } catch (error) {
      throw new FileError(path, problemOf(error));
    }
    const { size } = await handle.stat();
    if (size < expected) {
      await handle.close(); // more bytes are those of an addition that is not finished
      throw new FileError(path, `has ${size} bytes, its index says ${expected}`);
    }
    return new FeatureStore(index, handle, path);
  }

  /** Throws a GlimpseError if a model was trained with another encoder than that of these features. */
  requireEncoder(encoder: EncoderIdentity): void {
    const differing = encoderDifferences(this.index.encoder, encoder);
    if (differing.length === 0) return;
    const advice = differing.join() === 'tuned' ? '; its encoder was trained on: extract features with `glimpse features --model`' : '';
    throw new GlimpseError(
      `the features in ${dirname(this.path)} are of another encoder than the model was trained with (${differing.join(', ')} differ)${advice}`,
    );
  }

  /** Whether it holds the features of this picture. */
  has(file: string): boolean {
    return this.rows.has(file);
  }

  /** Names the features of these pictures, by their checksums in this order. Pictures without features are passed over. */
  hashOf(files: readonly string[]): string {
    const hash = createHash('sha256');
    for (const file of files) hash.update(this.index.checksums[this.rows.get(file) ?? -1] ?? '');
    return hash.digest('hex').slice(0, 16);
  }

  /** A picture's record as it is stored. Throws a FileError if its checksum is wrong. */
  async readBytes(file: string): Promise<Uint8Array> {
    const row = this.rows.get(file);
    if (row === undefined) throw new FileError(this.path, `has no features of ${file}`);
    const bytes = new Uint8Array(recordSize(this.index));
    await this.handle.read(bytes, 0, bytes.length, row * bytes.length);
    if (checksum(bytes) !== this.index.checksums[row]) throw new FileError(this.path, `the features of ${file} are damaged (checksum); extract them again`);
    return bytes;
  }

  /** Features of the pictures, [files, regions, width]. Throws a FileError if a checksum is wrong, or a number is none. */
  async read(files: readonly string[]): Promise<Float32Array> {
    const words = this.index.regions * this.index.width;
    const out = new Float32Array(files.length * words);
    await Promise.all(
      files.map(async (file, i) => {
        const bytes = await this.readBytes(file);
        const record = out.subarray(i * words, (i + 1) * words);
        if (this.index.type === 'f16') fromHalf(new Uint16Array(bytes.buffer), record);
        else record.set(new Float32Array(bytes.buffer));
        const row = this.rows.get(file) as number;
        const fault = this.looked[row] ? null : nonFiniteFault(record);
        if (fault)
          throw new FileError(this.path, `the features of ${file} are no numbers: ${fault}; extract them again, with --precision f32 if they were halved`);
        this.looked[row] = 1;
      }),
    );
    return out;
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.handle.close();
  }
}

/**
 * Merges stores of the same kind. A picture in several stores is taken once; throws if its records differ. Null if `shouldStop` ended it
 * before; another merge goes on from there.
 */
export async function mergeStores(
  out: string,
  folders: readonly string[],
  onMerged: (done: number, total: number) => void = () => {},
  shouldStop: () => boolean = () => false,
): Promise<FeatureIndex | null> {
  const stores: FeatureStore[] = [];
  try {
    for (const folder of folders) stores.push(await FeatureStore.open(folder));
    const [first] = stores;
    stores.forEach(({ index }, i) => {
      const differing = differences(first.index, index);
      if (differing.length > 0) throw new GlimpseError(`${folders[i]} and ${folders[0]} are not of one kind: ${differing.join(', ')} differ`);
    });
    const total = stores.reduce((sum, { index }) => sum + index.files.length, 0);
    const { encoder, regions, width, type } = first.index;
    const writer = FeatureWriter.open(out, { encoder, regions, width, type });
    const known = new Map(writer.index.files.map((file, row) => [file, writer.index.checksums[row]]));
    let done = 0;
    try {
      for (const [i, store] of stores.entries()) {
        for (const [row, file] of store.index.files.entries()) {
          if (shouldStop()) {
            writer.close();
            return null;
          }
          const sum = store.index.checksums[row];
          const own = known.get(file);
          if (own !== undefined && own !== sum) throw new GlimpseError(`${folders[i]} has other features of ${file} than the stores before it`);
          if (own === undefined) writer.appendBytes([file], [await store.readBytes(file)]);
          known.set(file, sum);
          onMerged(++done, total);
        }
      }
    } catch (error) {
      writer.close();
      throw error;
    }
    writer.finish();
    return writer.index;
  } finally {
    for (const store of stores) await store.close();
  }
}
