/**
 * Writes a feature store: records are appended to one packed file, and a journal counts those that are synced. So a killed extraction
 * goes on where it stopped. The index comes when all are there. A store that gets more pictures keeps its index until the larger one
 * replaces it; readers do not see what is added meanwhile.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, existsSync, fdatasync, fstatSync, fsyncSync, ftruncateSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { FileError, GlimpseError } from '../errors.ts';
import { makeFolder, onFile, removeTemporaries } from './atomic_file.ts';
import { FeatureEntries } from './feature_entries.ts';
import {
  dataName,
  type FeatureKind,
  type FeatureType,
  HEADER,
  INDEX,
  kindDifferences,
  PARTIAL,
  readEntries,
  readHeader,
  recordSize,
  recordSum,
  type StoreHeader,
  writeHeader,
} from './feature_index.ts';
import type { Held, Part } from './feature_parts.ts';
import { nonFinite, nonFiniteFault } from './finite.ts';
import { HALF_OVERFLOW, MAX_HALF, roundToHalf } from './half.ts';
import { type Lock, lockFolder } from './lock.ts';
import { problemOf, quoted } from './validation.ts';

/** Time between journal entries. A kill loses at most that much work; an entry after every batch would cost more. */
const JOURNAL_MS = 5000;
/** Bytes after which the disk is asked to write in the background, so that a journal entry need not wait for all of them. */
const BEHIND = 128 << 20;
/** Records are gathered up to so many bytes before they are written. */
const STAGED = 4 << 20;

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
  const beyond = record.reduce((sum, value) => sum + (Math.abs(value) >= HALF_OVERFLOW ? 1 : 0), 0);
  if (beyond === 0) return null;
  return `${beyond} of its ${record.length} features are beyond ±${MAX_HALF}, the largest number of half precision; extract with --precision f32`;
}

/** What a folder holds already: a store, or the beginning of one. */
interface Existing {
  header: StoreHeader;
  entries: FeatureEntries;
  hash: Hash;
  finished: boolean;
}

/** Null if the folder holds none. Of a journal and an index the longer one counts: a kill at the end may leave both. */
function existingIn(folder: string): Existing | null {
  const known = ['', PARTIAL].map((ending) => ({ path: join(folder, HEADER + ending), finished: ending === '' })).filter(({ path }) => existsSync(path));
  if (known.length === 0) return null;
  const [longest] = known.map(({ path, finished }) => ({ header: readHeader(path), finished })).sort((a, b) => b.header.pictures - a.header.pictures);
  const entries = new FeatureEntries();
  const { hash } = readEntries(folder, longest.header, entries);
  return { ...longest, entries, hash };
}

function* namesOf({ rows }: FeatureEntries, nameOf: (row: number) => string, leftOut: Iterable<string>): Generator<string> {
  for (let row = 0; row < rows; row++) yield nameOf(row);
  yield* leftOut;
}

/** Which parts a writer makes. `refuse` throws if what a folder holds already is of others. */
export interface Claim {
  parts: Part[] | null;
  refuse(held: Held & { finished: boolean; pictures: number }, names: () => Iterable<string>): void;
}

function refuseOthers(folder: string, { header, entries, finished }: Existing, claim: Claim): void {
  claim.refuse({ folder, parts: header.parts, finished, pictures: header.pictures }, () => namesOf(entries, (row) => entries.nameOf(row), header.leftOut));
}

/**
 * Asks the disk to write while the work goes on. The file is opened once more for this. The system
 * tells an error once to each opened file, and the writer's own must get it when it syncs.
 */
class DiskBehind {
  private file = -1;
  private bytes = 0;
  private syncing = false;
  private closing = false;

  constructor(private readonly path: string) {}

  open(): void {
    this.file = onFile(this.path, () => openSync(this.path, 'r+'));
  }

  wrote(bytes: number): void {
    this.bytes += bytes;
    if (this.syncing || this.bytes < BEHIND) return;
    this.bytes = 0;
    this.syncing = true;
    fdatasync(this.file, () => {
      this.syncing = false;
      if (this.closing) closeSync(this.file);
    });
  }

  /** Closes the file, after a sync that goes on. */
  close(): void {
    this.closing = true;
    if (!this.syncing && this.file >= 0) closeSync(this.file);
  }
}

/** Writes image features into a folder, one record a picture. A writer that was killed goes on where it stopped. */
export class FeatureWriter {
  private readonly data: number;
  private readonly disk: DiskBehind;
  private readonly indexFile: number;
  private readonly path: string;
  private readonly kind: FeatureKind;
  private readonly entries: FeatureEntries;
  private readonly left: Set<string>;
  private readonly hash: Hash;
  private readonly size: number;
  private readonly staging: Uint8Array<ArrayBuffer>;
  private readonly halves: Uint16Array;
  private parts: Part[] | null;
  /** Rows whose records are written, and rows and bytes of the index that are. */
  private written: number;
  private indexed: number;
  private indexedBytes: number;
  private journaled = performance.now();

  private constructor(
    private readonly folder: string,
    private readonly lock: Lock,
    start: FeatureKind,
    existing: Existing | null,
    private readonly claim: Claim | null,
  ) {
    const { encoder, regions, width, type } = existing?.header ?? start;
    this.kind = { encoder, regions, width, type };
    this.entries = existing?.entries ?? new FeatureEntries();
    this.left = new Set(existing?.header.leftOut);
    this.parts = claim ? claim.parts : (existing?.header.parts ?? null);
    this.hash = existing?.hash ?? createHash('sha256');
    this.path = join(folder, dataName(type));
    this.size = recordSize(this.kind);
    this.staging = new Uint8Array(Math.max(1, Math.floor(STAGED / this.size)) * this.size);
    this.halves = new Uint16Array(this.staging.buffer);
    this.written = this.entries.rows;
    const { bytes } = existing?.header.index ?? { bytes: 0 }; // an index of version 1 is written anew
    [this.indexed, this.indexedBytes] = bytes > 0 ? [this.entries.rows, bytes] : [0, 0];
    const old = this.path + PARTIAL; // where older versions wrote
    this.data = onFile(this.path, () => {
      if (!existsSync(this.path) && existsSync(old)) renameSync(old, this.path);
      return openSync(this.path, this.written > 0 ? 'r+' : 'w+');
    });
    try {
      const expected = this.size * this.written;
      if (fstatSync(this.data).size < expected)
        throw new FileError(this.path, `is shorter than its journal says; delete ${folder} and extract the features again`);
      onFile(this.path, () => ftruncateSync(this.data, expected)); // records after the last journal entry cannot be trusted
      const indexPath = join(folder, INDEX);
      this.indexFile = onFile(indexPath, () => openSync(indexPath, this.indexedBytes > 0 ? 'r+' : 'w+'));
    } catch (error) {
      closeSync(this.data);
      throw error;
    }
    this.disk = new DiskBehind(this.path);
    try {
      this.disk.open();
      onFile(join(folder, INDEX), () => ftruncateSync(this.indexFile, this.indexedBytes));
      this.journal(); // so that what this store is for is known from now on
    } catch (error) {
      this.closeFiles();
      throw error;
    }
  }

  /**
   * Starts a store, or goes on with one that was interrupted or gets more pictures. Throws, before anything is written, if the folder
   * holds features of another kind, or others than `claim` takes; and if it is in use.
   */
  static open(folder: string, start: FeatureKind, claim: Claim | null = null): FeatureWriter {
    onFile(folder, () => makeFolder(folder));
    const lock = lockFolder(folder);
    try {
      const existing = existingIn(folder);
      if (existing) {
        const differing = kindDifferences(existing.header, start);
        if (differing.length > 0)
          throw new GlimpseError(`${folder} holds features of another encoder or kind (${differing.join(', ')} differ); choose another folder or delete it`);
        if (claim) refuseOthers(folder, existing, claim);
      }
      removeTemporaries(folder, 'features.'); // others may just be making locks here
      return new FeatureWriter(folder, lock, start, existing, claim);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** Throws as `open` does if the folder holds others than `claim` takes; quick to ask before an encoder is opened. */
  static refuse(folder: string, claim: Claim): void {
    const existing = existingIn(folder);
    if (!existing) return;
    try {
      refuseOthers(folder, existing, claim);
    } catch (error) {
      lockFolder(folder).release(); // if another process writes there, that says more
      throw error;
    }
  }

  /** Makes room in memory for more pictures, whose entries have so many bytes. Without it, room is made as it is needed, with copies. */
  expect(pictures: number, bytes: number): void {
    this.entries.reserve(pictures, bytes);
  }

  /** How many pictures it has. */
  get pictures(): number {
    return this.entries.rows;
  }

  /** Whether it has the features of a picture. */
  has(file: string): boolean {
    return this.entries.rowOf(file) >= 0;
  }

  /** The pictures that it has, in the order of their records. */
  *files(): Generator<string> {
    yield* namesOf(this.entries, (row) => this.entries.nameOf(row), []);
  }

  /** The row of a picture's record, or -1. */
  rowOf(file: string): number {
    return this.entries.rowOf(file);
  }

  /** Whether `sum` is the checksum of a row's record. */
  hasSum(row: number, sum: Uint8Array): boolean {
    return this.entries.hasSum(row, sum);
  }

  /** Counts pictures that have no features since they cannot be read. */
  leaveOut(files: Iterable<string>): void {
    for (const file of files) this.left.add(file);
  }

  /** The pictures that were left out, sorted. */
  get leftOut(): string[] {
    return [...this.left].filter((file) => !this.has(file)).sort();
  }

  /** Space in `staging` for the next record. */
  private next(): number {
    const staged = this.entries.rows - this.written;
    if ((staged + 1) * this.size > this.staging.length) this.flush();
    return (this.entries.rows - this.written) * this.size;
  }

  private add(file: string, sum: Uint8Array): void {
    if (this.entries.rowOf(file) >= 0) throw new GlimpseError(`${this.folder} has features of ${quoted(file)} already`);
    this.entries.append(file, sum);
    if (!this.claim) this.parts = null; // nobody says what this picture belongs to
  }

  /**
   * Adds records [P · F], one a picture, in the order of the files. Throws a FileError if they cannot be written, BadFeatures if one cannot
   * be stored; those before it are added.
   */
  append(files: readonly string[], records: readonly Float32Array[]): void {
    this.saving(() => {
      for (const [i, record] of records.entries()) {
        if (record.length !== this.kind.regions * this.kind.width)
          throw new GlimpseError(`${files[i]}: ${record.length} features; records of ${this.kind.regions} × ${this.kind.width} are expected`);
        const at = this.next();
        const place = this.staging.subarray(at, at + this.size);
        if (this.kind.type === 'f16') {
          if (!roundToHalf(record, this.halves.subarray(at / 2, (at + this.size) / 2))) throw new BadFeatures(files[i], recordFault(record, 'f16') as string);
        } else {
          if (nonFinite(record)) throw new BadFeatures(files[i], recordFault(record, 'f32') as string);
          place.set(new Uint8Array(record.buffer, record.byteOffset, record.byteLength));
        }
        this.add(files[i], recordSum(place));
      }
    });
  }

  /** Appends records as they are stored; `sums` are their checksums, where they are known. */
  appendBytes(files: readonly string[], records: readonly Uint8Array[], sums?: readonly Uint8Array[]): void {
    this.saving(() => {
      for (const [i, bytes] of records.entries()) {
        if (bytes.length !== this.size) throw new GlimpseError(`${files[i]}: a record of ${bytes.length} bytes; ${this.size} are expected`);
        const at = this.next();
        this.staging.set(bytes, at);
        this.add(files[i], sums?.[i] ?? recordSum(bytes));
      }
    });
  }

  /** Work that appends, and a journal entry when it is time. */
  private saving(work: () => void): void {
    try {
      work();
      if (performance.now() - this.journaled > JOURNAL_MS) this.journal();
    } catch (error) {
      throw error instanceof GlimpseError ? error : new FileError(this.path, `cannot be written: ${problemOf(error)}`);
    }
  }

  /** Writes what is staged. */
  private flush(): void {
    const bytes = this.staging.subarray(0, (this.entries.rows - this.written) * this.size);
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.data, bytes, at, bytes.length - at, this.written * this.size + at);
    } catch (error) {
      this.entries.cut(this.written);
      throw error;
    }
    this.written = this.entries.rows;
    this.disk.wrote(bytes.length);
  }

  /** Syncs the records to disk, then the index's new entries; then the journal, or the index of a finished store, counts them. */
  private journal(finished = false): void {
    onFile(this.path, () => {
      this.flush();
      fsyncSync(this.data);
    });
    const path = join(this.folder, INDEX);
    onFile(path, () => {
      const bytes = this.entries.from(this.indexedBytes);
      for (let at = 0; at < bytes.length; ) at += writeSync(this.indexFile, bytes, at, bytes.length - at, this.indexedBytes + at);
      fsyncSync(this.indexFile);
      this.hash.update(bytes);
      this.indexedBytes += bytes.length;
    });
    this.indexed = this.entries.rows;
    writeHeader(join(this.folder, HEADER + (finished ? '' : PARTIAL)), {
      ...this.kind,
      pictures: this.indexed,
      index: { bytes: this.indexedBytes, sha256: this.hash.copy().digest('hex') },
      parts: this.parts,
      leftOut: this.leftOut,
    });
    this.journaled = performance.now();
  }

  /** Writes the index, which makes the store finished, and closes it. */
  finish(): void {
    try {
      this.journal(true);
      rmSync(join(this.folder, HEADER + PARTIAL), { force: true });
    } finally {
      this.end();
    }
  }

  /** Closes an unfinished store; another writer may go on with it. */
  close(): void {
    try {
      this.journal();
    } finally {
      this.end();
    }
  }

  private end(): void {
    this.closeFiles();
    this.lock.release();
  }

  private closeFiles(): void {
    closeSync(this.data);
    closeSync(this.indexFile);
    this.disk.close();
  }
}
