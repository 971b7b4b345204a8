/**
 * Reads image features that `glimpse features` made: one store, or several side by side as one, such as the shards of several machines
 * or disks. The names of all pictures are in memory, compactly (FeatureEntries); records are read from disk when they are asked for.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { FileError, GlimpseError } from '../errors.ts';
import type { EncoderIdentity } from './encoder_identity.ts';
import type { FeatureEntries } from './feature_entries.ts';
import {
  dataName,
  encoderDifferences,
  entriesFor,
  type FeatureKind,
  finishedHeader,
  kindDifferences,
  readEntries,
  recordSize,
  recordSum,
  storeFolders,
} from './feature_index.ts';
import { notesOf, notesOfOne, together } from './feature_parts.ts';
import { openFile } from './file_source.ts';
import { nonFiniteFault } from './finite.ts';
import { floatsOf, type StoredNumbers } from './half.ts';
import { problemOf, quoted } from './validation.ts';

/** Files of records that are open at a time. */
const MOST_OPEN = 64;
/** Bytes and records that are read at a time where all records are read in order. */
const PIECE = 8 << 20;
const MOST_RECORDS = 1 << 14;

/** A store among those that are read together: its rows are `first` to below `end` of all. */
interface Place {
  folder: string;
  path: string;
  first: number;
  end: number;
  /** Whether it says which part it holds. */
  told: boolean;
  handle: Promise<FileHandle> | null;
  /** Reads that go on. */
  readers: number;
}

async function openData(path: string, expected: number): Promise<FileHandle> {
  openFile(path).close(); // a pipe would wait for ever
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    throw new FileError(path, problemOf(error));
  }
  const { size } = await handle.stat();
  if (size >= expected) return handle; // more bytes are those of an addition that is not finished
  await handle.close();
  throw new FileError(path, `has ${size} bytes, its index says ${expected}`);
}

/** Throws a GlimpseError if stores differ in what all records of one store have in common. */
export function requireOneKind(stores: readonly { folder: string; header: FeatureKind }[]): void {
  for (const { folder, header } of stores) {
    const differing = kindDifferences(stores[0].header, header);
    if (differing.length > 0) throw new GlimpseError(`${folder} and ${stores[0].folder} are not of one kind: ${differing.join(', ')} differ`);
  }
}

/** How several stores are opened. */
export interface OpenOptions {
  /** Read shards of which some are missing. */
  allowMissing?: boolean;
}

/** Reads finished stores of image features. */
export class FeatureStore {
  /** The records that were read before: their checksum was right, and their numbers are numbers. Training reads each many times. */
  private readonly looked: Uint8Array;
  private readonly recent = new Set<Place>();

  private constructor(
    /** The encoder, and the size and type of a record. */
    readonly index: FeatureKind,
    /** What a reader must know of the stores: what is missing, what could not be checked. */
    readonly notes: readonly string[],
    private readonly places: readonly Place[],
    private readonly entries: FeatureEntries,
  ) {
    this.looked = new Uint8Array(entries.rows);
  }

  /**
   * Opens a folder that a FeatureWriter finished, or a folder in which several lie side by side, or a list of such folders. Throws an
   * error that names the store if one is unfinished or damaged, or of another kind than the others. The stores must be all parts of one
   * cut, or `allowMissing` must be given. A store that is given alone may be one part of several; `notes` tells it.
   */
  static async open(folders: string | readonly string[], { allowMissing = false }: OpenOptions = {}): Promise<FeatureStore> {
    const given = typeof folders === 'string' ? [folders] : folders;
    const found = storeFolders(given);
    const stores = found.map((folder) => ({ folder, header: finishedHeader(folder) }));
    requireOneKind(stores);
    const held = stores.map(({ folder, header: { parts } }) => ({ folder, parts }));
    const alone = found.length === 1 && found[0] === given[0];
    const notes = alone ? notesOfOne(held[0]) : notesOf(together(held, allowMissing));
    const { encoder, regions, width, type } = stores[0].header;
    const entries = entriesFor(stores);
    const places: Place[] = [];
    for (const { folder, header } of stores) {
      const place = { folder, path: join(folder, dataName(type)), first: entries.rows, told: header.parts !== null, handle: null, readers: 0 };
      readEntries(folder, header, entries, (row, earlier) => {
        const other = places.find(({ end }) => earlier < end) as Place;
        if (place.told && other.told) throw new GlimpseError(`${other.folder} and ${folder} both have features of ${quoted(entries.nameOf(row))}`);
        if (!entries.hasSum(earlier, entries.sumOf(row))) throw otherFeatures(folder, entries.nameOf(row));
      });
      places.push({ ...place, end: entries.rows });
    }
    const store = new FeatureStore({ encoder, regions, width, type }, notes, places, entries);
    try {
      for (const place of places) await store.using([place], () => Promise.resolve());
    } catch (error) {
      await store.close();
      throw error;
    }
    return store;
  }

  /** Work on the open files of some places. Files that nobody reads are closed when too many are open, those first that were not used for longest. */
  private async using<T>(places: readonly Place[], work: (handles: FileHandle[]) => Promise<T>): Promise<T> {
    for (const place of places) place.readers++;
    try {
      const handles: FileHandle[] = [];
      for (const place of places) {
        this.recent.delete(place);
        this.recent.add(place);
        place.handle ??= openData(place.path, (place.end - place.first) * recordSize(this.index));
        handles.push(await place.handle);
      }
      return await work(handles);
    } finally {
      for (const place of places) place.readers--;
      for (const place of this.recent) {
        if (this.recent.size <= MOST_OPEN) break;
        if (place.readers === 0) await this.shut(place);
      }
    }
  }

  private async shut(place: Place): Promise<void> {
    this.recent.delete(place);
    const { handle } = place;
    place.handle = null;
    await (await handle?.catch(() => null))?.close(); // one that could not be opened was told before
  }

  private placeOf(row: number): Place {
    let [low, high] = [0, this.places.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.places[middle].first <= row) low = middle;
      else high = middle - 1;
    }
    return this.places[low];
  }

  /** Throws a GlimpseError if a model was trained with another encoder than that of these features. */
  requireEncoder(encoder: EncoderIdentity): void {
    const differing = encoderDifferences(this.index.encoder, encoder);
    if (differing.length === 0) return;
    const advice = differing.join() === 'tuned' ? '; its encoder was trained on: extract features with `glimpse features --model`' : '';
    throw new GlimpseError(
      `the features in ${this.places[0].folder} are of another encoder than the model was trained with (${differing.join(', ')} differ)${advice}`,
    );
  }

  /** How many pictures have features. */
  get pictures(): number {
    return this.entries.names;
  }

  /** Whether it holds the features of this picture. */
  has(file: string): boolean {
    return this.entries.rowOf(file) >= 0;
  }

  /** The pictures that have features, in the order of their records. */
  *files(): Generator<string> {
    for (let row = 0; row < this.entries.rows; row++) {
      const file = this.entries.nameOf(row);
      if (this.pictures === this.entries.rows || this.entries.rowOf(file) === row) yield file;
    }
  }

  /** Names the features of these pictures, by their checksums in this order. Pictures without features are passed over. */
  hashOf(files: readonly string[]): string {
    const hash = createHash('sha256');
    for (let first = 0; first < files.length; first += 4096) {
      const rows = files.slice(first, first + 4096).map((file) => this.entries.rowOf(file));
      const sums = rows.filter((row) => row >= 0).map((row) => this.entries.sumOf(row));
      hash.update(Buffer.concat(sums).toString('hex')); // as text, which keeps the hashes of earlier versions
    }
    return hash.digest('hex').slice(0, 16);
  }

  /** Where the records of these pictures lie, in the order of the disk. */
  private ordered(files: readonly string[]): { file: string; i: number; row: number; place: Place }[] {
    return files
      .map((file, i) => {
        const row = this.entries.rowOf(file);
        if (row < 0) throw new FileError(this.places[0].path, `has no features of ${file}`);
        return { file, i, row, place: this.placeOf(row) };
      })
      .sort((a, b) => a.row - b.row);
  }

  /** Calls `take` with each record as it is stored, in the order of the disk. Throws a FileError if a checksum is wrong at its first reading. */
  private async each(
    files: readonly string[],
    take: (bytes: Uint8Array<ArrayBuffer>, at: { file: string; i: number; row: number; place: Place }) => void,
  ): Promise<void> {
    const ordered = this.ordered(files);
    const size = recordSize(this.index);
    // No more files are used at a time than stay open.
    for (let first = 0; first < ordered.length; first += MOST_OPEN / 2) {
      const part = ordered.slice(first, first + MOST_OPEN / 2);
      await this.using(
        part.map(({ place }) => place),
        async (handles) => {
          const reads = part.map(async (at, k) => {
            const bytes = new Uint8Array(size);
            await readWhole(handles[k], bytes, (at.row - at.place.first) * size, at.place.path);
            if (!this.looked[at.row] && !this.entries.hasSum(at.row, recordSum(bytes)))
              throw new FileError(at.place.path, `the features of ${at.file} are damaged (checksum); extract them again`);
            take(bytes, at);
          });
          await settled(reads);
        },
      );
    }
  }

  /** A picture's record as it is stored. Throws a FileError if its checksum is wrong. */
  async readBytes(file: string): Promise<Uint8Array> {
    let found = new Uint8Array(0);
    await this.each([file], (bytes) => {
      found = bytes;
    });
    return found;
  }

  /** Features of the pictures, [files, regions, width], as float32. Throws a FileError if a checksum is wrong, or a number is none. */
  async read(files: readonly string[]): Promise<Float32Array> {
    return floatsOf(await this.readStored(files));
  }

  /** The same as they are stored: as float32, or the bits of halves. */
  async readStored(files: readonly string[]): Promise<StoredNumbers> {
    const count = this.index.regions * this.index.width;
    const Numbers = this.index.type === 'f16' ? Uint16Array : Float32Array;
    const out = new Numbers(files.length * count);
    await this.each(files, (bytes, { file, i, row, place }) => {
      const record = new Numbers(bytes.buffer);
      out.set(record, i * count);
      if (this.looked[row]) return;
      const fault = nonFiniteFault(floatsOf(record));
      if (fault)
        throw new FileError(place.path, `the features of ${file} are no numbers: ${fault}; extract them again, with --precision f32 if they were halved`);
      this.looked[row] = 1;
    });
    return out;
  }

  /** All records as they are stored, in order, some megabytes at a time. Throws a FileError if a checksum is wrong. */
  async *records(): AsyncGenerator<{ files: string[]; records: Uint8Array[]; sums: Uint8Array[] }> {
    const size = recordSize(this.index);
    const most = Math.min(MOST_RECORDS, Math.max(1, Math.floor(PIECE / size)));
    for (const place of this.places)
      for (let first = place.first; first < place.end; first += most) {
        const rows = Array.from({ length: Math.min(most, place.end - first) }, (_, i) => first + i);
        const bytes = new Uint8Array(rows.length * size);
        await this.using([place], ([handle]) => readWhole(handle, bytes, (first - place.first) * size, place.path));
        const records = rows.map((_, i) => bytes.subarray(i * size, (i + 1) * size));
        const files = rows.map((row) => this.entries.nameOf(row));
        rows.forEach((row, i) => {
          if (!this.entries.hasSum(row, recordSum(records[i])))
            throw new FileError(place.path, `the features of ${files[i]} are damaged (checksum); extract them again`);
        });
        yield { files, records, sums: rows.map((row) => this.entries.sumOf(row)) };
      }
  }

  /** Closes the files. */
  async close(): Promise<void> {
    for (const place of this.recent) await this.shut(place);
  }
}

/** Waits for all, so that no file is closed while it is read; then throws the first error. */
async function settled(work: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(work);
  await Promise.all(work);
}

export const otherFeatures = (folder: string, file: string) => new GlimpseError(`${folder} has other features of ${quoted(file)} than the stores before it`);

async function readWhole(handle: FileHandle, bytes: Uint8Array, position: number, path: string): Promise<void> {
  try {
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await handle.read(bytes, at, bytes.length - at, position + at);
      if (bytesRead === 0) throw new Error('ends too early');
      at += bytesRead;
    }
  } catch (error) {
    throw new FileError(path, `cannot be read: ${problemOf(error)}`);
  }
}
