/**
 * Image features of a whole collection in one packed file of float32 records, with a JSON index beside it. Records are
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

const Index = z.object({
  version: z.literal(1),
  encoder: z.object({ path: z.string(), sha256: z.string(), featureMap: z.string(), preprocessing: z.string() }),
  places: z.number().int().positive(),
  width: z.number().int().positive(),
  files: z.array(z.string()),
  /** First 16 digits of each record's SHA-256. */
  checksums: z.array(z.string()),
});
export type FeatureIndex = z.infer<typeof Index>;

const DATA = 'features.f32';
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

export class FeatureWriter {
  private readonly file: number;
  readonly index: FeatureIndex;
  private journaled = performance.now();

  private constructor(
    private readonly folder: string,
    index: FeatureIndex,
  ) {
    this.index = index;
    const path = join(folder, DATA + PARTIAL);
    this.file = onFile(path, () => openSync(path, existsSync(path) ? 'r+' : 'w+'));
    ftruncateSync(this.file, this.recordBytes * index.files.length); // what came after the last journal entry is not to be trusted
  }

  /** Starts a store, or goes on with one that was interrupted or that more pictures are to join. */
  static open(folder: string, start: Omit<FeatureIndex, 'version' | 'files' | 'checksums'>): FeatureWriter {
    onFile(folder, () => mkdirSync(folder, { recursive: true }));
    const journal = join(folder, INDEX + PARTIAL);
    const fresh: FeatureIndex = { version: 1, ...start, files: [], checksums: [] };
    const finished = !existsSync(journal) && existsSync(join(folder, INDEX));
    if (!finished && !existsSync(journal)) return new FeatureWriter(folder, fresh);
    const old = readIndex(finished ? join(folder, INDEX) : journal);
    const differing = (['sha256', 'featureMap', 'preprocessing'] as const).filter((key) => old.encoder[key] !== start.encoder[key]);
    if (differing.length > 0 || old.places !== start.places || old.width !== start.width) {
      throw new GlimpseError(`${folder} holds features of another encoder (${differing.join(', ') || 'size'} differ); choose another folder or delete it`);
    }
    if (finished) renameSync(join(folder, INDEX), journal);
    const path = join(folder, DATA + PARTIAL);
    if (!existsSync(path) && existsSync(join(folder, DATA))) renameSync(join(folder, DATA), path); // killed while finishing
    if (!existsSync(path) || statSync(path).size < old.files.length * old.places * old.width * 4)
      throw new FileError(path, `is shorter than its journal says; delete ${folder} and start anew`);
    return new FeatureWriter(folder, old);
  }

  private get recordBytes(): number {
    return this.index.places * this.index.width * 4;
  }

  append(files: readonly string[], records: readonly Float32Array[]): void {
    try {
      records.forEach((record, i) => {
        const bytes = new Uint8Array(record.buffer, record.byteOffset, record.byteLength);
        const start = this.recordBytes * this.index.files.length;
        for (let at = 0; at < bytes.length; ) at += writeSync(this.file, bytes, at, bytes.length - at, start + at);
        this.index.files.push(files[i]);
        this.index.checksums.push(checksum(bytes));
      });
      if (performance.now() - this.journaled > JOURNAL_MS) this.journal();
    } catch (error) {
      throw new FileError(join(this.folder, DATA), `cannot be written: ${messageOf(error)}`);
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
    renameSync(join(this.folder, DATA + PARTIAL), join(this.folder, DATA));
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
    const path = join(folder, DATA);
    const expected = index.files.length * index.places * index.width * 4;
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
  requireEncoder(sha256: string): void {
    if (this.index.encoder.sha256 !== sha256)
      throw new GlimpseError(`the features in ${dirname(this.path)} are of another encoder than the model was trained with`);
  }

  has(file: string): boolean {
    return this.rows.has(file);
  }

  /** Features of the pictures, [files, places, width], their checksums verified. */
  async read(files: readonly string[]): Promise<Float32Array> {
    const words = this.index.places * this.index.width;
    const out = new Float32Array(files.length * words);
    await Promise.all(
      files.map(async (file, i) => {
        const row = this.rows.get(file);
        if (row === undefined) throw new FileError(this.path, `has no features of ${file}`);
        const bytes = new Uint8Array(out.buffer, i * words * 4, words * 4);
        await this.handle.read(bytes, 0, bytes.length, row * words * 4);
        if (checksum(bytes) !== this.index.checksums[row]) throw new FileError(this.path, `the features of ${file} are damaged (checksum); extract them again`);
      }),
    );
    return out;
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}
