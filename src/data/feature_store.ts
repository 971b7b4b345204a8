/**
 * Image features of a whole collection in one packed file of records, single or half precision, with a JSON index beside it. Records are
 * appended and synced in runs; the journal counts them, so a killed extraction goes on where it stopped, and the store only
 * gets its final name when it is whole. The index knows the encoder's hash and preprocessing; a mismatch is refused.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { FileError, GlimpseError, messageOf } from '../errors.ts';
import { onFile, writeFileAtomic } from './atomic_file.ts';
import { fromHalf, toHalf } from './half.ts';
import { renamedKeys } from './renamed.ts';

/** Which network made features, and how its pictures were prepared. */
export const EncoderIdentity = z.object({
  path: z.string(),
  sha256: z.string(),
  featureMap: z.string(),
  preprocessing: z.string(),
  /** Hash of weights that were trained on since; null for those of the file. */
  tuned: z.string().nullable().default(null),
});
export type EncoderIdentity = z.infer<typeof EncoderIdentity>;

/** Names of what differs between two encoders, wherever their files lie. */
export function encoderDifferences(a: EncoderIdentity, b: EncoderIdentity): string[] {
  return (['sha256', 'featureMap', 'preprocessing', 'tuned'] as const).filter((key) => a[key] !== b[key]);
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
/** What two stores must share to be one. */
type FeatureKind = Pick<FeatureIndex, 'encoder' | 'regions' | 'width' | 'type'>;

const dataName = (type: FeatureType) => `features.${type}`;
const recordSize = ({ regions, width, type }: FeatureKind) => regions * width * (type === 'f16' ? 2 : 4);
const INDEX = 'features.json';
const PARTIAL = '.partial';
/** A kill loses at most what came since the last journal entry; writing it after every batch would cost more than that. */
const JOURNAL_MS = 5000;

function checksum(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

function readIndex(path: string): FeatureIndex {
  try {
    return Index.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new FileError(path, `is no feature index: ${messageOf(error)}`);
  }
}

/** Names of what differs between two stores' contents. */
function differences(a: FeatureKind, b: FeatureKind): string[] {
  return [...encoderDifferences(a.encoder, b.encoder), ...(['regions', 'width', 'type'] as const).filter((key) => a[key] !== b[key])];
}

export class FeatureWriter {
  private readonly file: number;
  readonly index: FeatureIndex;
  private journaled = performance.now();

  private constructor(
    private readonly folder: string,
    index: FeatureIndex,
  ) {
    this.index = index;
    const path = join(folder, dataName(index.type) + PARTIAL);
    this.file = onFile(path, () => openSync(path, existsSync(path) ? 'r+' : 'w+'));
    ftruncateSync(this.file, recordSize(index) * index.files.length); // what came after the last journal entry is not to be trusted
  }

  /** Starts a store, or goes on with one that was interrupted or that more pictures are to join. */
  static open(folder: string, start: FeatureKind): FeatureWriter {
    onFile(folder, () => mkdirSync(folder, { recursive: true }));
    const journal = join(folder, INDEX + PARTIAL);
    const fresh: FeatureIndex = { version: 1, ...start, files: [], checksums: [] };
    const finished = !existsSync(journal) && existsSync(join(folder, INDEX));
    if (!finished && !existsSync(journal)) return new FeatureWriter(folder, fresh);
    const old = readIndex(finished ? join(folder, INDEX) : journal);
    const differing = differences(old, start);
    if (differing.length > 0)
      throw new GlimpseError(`${folder} holds features of another encoder or kind (${differing.join(', ')} differ); choose another folder or delete it`);
    if (finished) renameSync(join(folder, INDEX), journal);
    const data = join(folder, dataName(old.type));
    const path = data + PARTIAL;
    if (!existsSync(path) && existsSync(data)) renameSync(data, path); // killed while finishing
    if (!existsSync(path) || statSync(path).size < old.files.length * recordSize(old))
      throw new FileError(path, `is shorter than its journal says; delete ${folder} and start anew`);
    return new FeatureWriter(folder, old);
  }

  append(files: readonly string[], records: readonly Float32Array[]): void {
    this.appendBytes(
      files,
      records.map((record) => {
        const stored = this.index.type === 'f16' ? toHalf(record) : record;
        return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
      }),
    );
  }

  /** Records as they are stored. */
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
      throw new FileError(join(this.folder, dataName(this.index.type)), `cannot be written: ${messageOf(error)}`);
    }
  }

  /** Records are on disk before the journal counts them. */
  private journal(): void {
    fsyncSync(this.file);
    writeFileAtomic(join(this.folder, INDEX + PARTIAL), [JSON.stringify(this.index)]);
    this.journaled = performance.now();
  }

  /** Gives the store its final names. */
  finish(): void {
    this.close();
    // The index comes last: until it is there the store is unfinished, and `open` takes a renamed data file back.
    const data = join(this.folder, dataName(this.index.type));
    renameSync(data + PARTIAL, data);
    writeFileAtomic(join(this.folder, INDEX), [JSON.stringify(this.index)]);
    rmSync(join(this.folder, INDEX + PARTIAL), { force: true });
  }

  close(): void {
    this.journal();
    closeSync(this.file);
  }
}

export class FeatureStore {
  private readonly rows: Map<string, number>;

  private constructor(
    readonly index: FeatureIndex,
    private readonly handle: FileHandle,
    private readonly path: string,
  ) {
    this.rows = new Map(index.files.map((file, row) => [file, row]));
  }

  static async open(folder: string): Promise<FeatureStore> {
    if (!existsSync(join(folder, INDEX)) && existsSync(join(folder, INDEX + PARTIAL)))
      throw new GlimpseError(`the features in ${folder} are not finished; run \`glimpse features\` again to complete them`);
    const index = readIndex(join(folder, INDEX));
    const path = join(folder, dataName(index.type));
    const expected = index.files.length * recordSize(index);
    let handle: FileHandle;
    try {
      handle = await open(path, 'r');
    } catch (error) {
      throw new FileError(path, messageOf(error));
    }
    const { size } = await handle.stat();
    if (size !== expected) {
      await handle.close();
      throw new FileError(path, `has ${size} bytes, its index says ${expected}`);
    }
    return new FeatureStore(index, handle, path);
  }

  /** Refuses features of another encoder than a model was trained with. */
  requireEncoder(encoder: EncoderIdentity): void {
    const differing = encoderDifferences(this.index.encoder, encoder);
    if (differing.length === 0) return;
    const advice = differing.join() === 'tuned' ? '; its encoder was trained on: extract features with `glimpse features --model`' : '';
    throw new GlimpseError(
      `the features in ${dirname(this.path)} are of another encoder than the model was trained with (${differing.join(', ')} differ)${advice}`,
    );
  }

  has(file: string): boolean {
    return this.rows.has(file);
  }

  /** A picture's record as it is stored, its checksum verified. */
  async readBytes(file: string): Promise<Uint8Array> {
    const row = this.rows.get(file);
    if (row === undefined) throw new FileError(this.path, `has no features of ${file}`);
    const bytes = new Uint8Array(recordSize(this.index));
    await this.handle.read(bytes, 0, bytes.length, row * bytes.length);
    if (checksum(bytes) !== this.index.checksums[row]) throw new FileError(this.path, `the features of ${file} are damaged (checksum); extract them again`);
    return bytes;
  }

  /** Features of the pictures, [files, regions, width], their checksums verified. */
  async read(files: readonly string[]): Promise<Float32Array> {
    const words = this.index.regions * this.index.width;
    const out = new Float32Array(files.length * words);
    await Promise.all(
      files.map(async (file, i) => {
        const bytes = await this.readBytes(file);
        const record = out.subarray(i * words, (i + 1) * words);
        if (this.index.type === 'f16') fromHalf(new Uint16Array(bytes.buffer), record);
        else record.set(new Float32Array(bytes.buffer));
      }),
    );
    return out;
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** Several stores of the same kind as one, record by record; a picture that several have is taken once, if its records agree. */
export async function mergeStores(out: string, folders: readonly string[], onMerged: (done: number, total: number) => void): Promise<FeatureIndex> {
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
    for (const [i, store] of stores.entries()) {
      for (const [row, file] of store.index.files.entries()) {
        const sum = store.index.checksums[row];
        const own = known.get(file);
        if (own !== undefined && own !== sum) throw new GlimpseError(`${folders[i]} has other features of ${file} than the stores before it`);
        if (own === undefined) writer.appendBytes([file], [await store.readBytes(file)]);
        known.set(file, sum);
        onMerged(++done, total);
      }
    }
    writer.finish();
    return writer.index;
  } finally {
    for (const store of stores) await store.close();
  }
}
