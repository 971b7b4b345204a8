/**
 * The pictures of a feature store by the million: no string is kept for a picture. The bytes of the index file lie in one buffer, and a
 * hash table in typed arrays finds the row of a name. An entry is the first 8 bytes of the record's SHA-256, the length of the name as
 * 2 bytes (little-endian), and the name in UTF-8. The row of an entry is the place of its record.
 */
import { isUtf8 } from 'node:buffer';
import { randomFillSync } from 'node:crypto';
import { FileError, GlimpseError } from '../errors.ts';
import { quoted } from './validation.ts';

/** Bytes of a record's checksum that an entry holds. */
export const SUM_BYTES = 8;
const HEAD = SUM_BYTES + 2;
/** Most bytes of a name, as those of a path on Linux. */
const MAX_NAME = 4096;
/** Offsets are numbers of 32 bits. */
const MAX_BYTES = 2 ** 32 - 1;
/** The share of the hash table's slots that is filled at most. */
const MOST_FILLED = 0.7;

const DOT = 0x2e;
const SLASH = 0x2f;

/** One random number for each byte, other ones in each process: nobody can choose names that all fall on one slot. */
const RANDOM = randomFillSync(new Uint32Array(256));

function hashOf(bytes: Uint8Array, from: number, end: number): number {
  let hash = 0x9e3779b1;
  for (let i = from; i < end; i++) {
    hash = Math.imul(hash ^ RANDOM[bytes[i]], 0x85ebca6b);
    hash ^= hash >>> 15;
  }
  return Math.imul(hash, 0x9e3779b1) >>> 0;
}

/** Why bytes are no name of a picture; null if they are one. */
function nameFault(bytes: Uint8Array, from: number, end: number): string | null {
  if (end === from) return 'is empty';
  let [high, dots] = [0, false];
  for (let i = from; i < end; i++) {
    const byte = bytes[i];
    if (byte === 0) return 'has a NUL';
    if (byte === DOT && i > from && bytes[i - 1] === DOT) dots = true;
    high |= byte;
  }
  if (high >= 0x80 && !isUtf8(bytes.subarray(from, end))) return 'is no UTF-8';
  if (!dots) return null;
  const isEdge = (i: number) => i < from || i >= end || bytes[i] === SLASH;
  for (let i = from; i + 1 < end; i++)
    if (bytes[i] === DOT && bytes[i + 1] === DOT && isEdge(i - 1) && isEdge(i + 2)) return 'leads out of the folder of the pictures';
  return null;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const scratch = new Uint8Array(3 * MAX_NAME);

/** Pictures with the checksums of their records, in the order of the records. */
export class FeatureEntries {
  private buffer: Uint8Array<ArrayBuffer>;
  private starts: Uint32Array;
  /** Row + 1 of the name that fell there; 0 is an empty slot. Names that collide go to the next slots. */
  private slots!: Uint32Array;
  /** Bits of the hash of the name in a slot. They tell nearly all other names without a look into the buffer, which is far away. */
  private tags!: Uint8Array;
  private shift = 0;
  /** How many entries there are, and their bytes. */
  rows = 0;
  bytes = 0;
  private repeats = 0;

  /** Space for so many entries of so many bytes together; more space is made when it is needed. */
  constructor(rows = 0, bytes = 0) {
    this.buffer = new Uint8Array(Math.max(1024, bytes));
    this.starts = new Uint32Array(Math.max(64, rows));
    this.resize(this.starts.length);
  }

  private resize(rows: number): void {
    const bits = Math.max(7, Math.ceil(Math.log2(rows / MOST_FILLED)));
    this.shift = 32 - bits;
    this.slots = new Uint32Array(2 ** bits);
    this.tags = new Uint8Array(2 ** bits);
    this.repeats = 0;
    for (let row = 0; row < this.rows; row++) this.place(row);
  }

  /** Makes room for more entries. Sizes grow by half at least, so that appending copies each entry a few times at most. */
  reserve(rows: number, bytes: number): void {
    const [allRows, allBytes] = [this.rows + rows, this.bytes + bytes];
    if (allBytes > MAX_BYTES)
      throw new GlimpseError(`the names of the pictures have more than ${MAX_BYTES} bytes; one store, or several that are read together, cannot hold so many`);
    if (allBytes > this.buffer.length) {
      const grown = new Uint8Array(Math.min(MAX_BYTES, Math.max(allBytes, Math.ceil(1.5 * this.buffer.length))));
      grown.set(this.buffer.subarray(0, this.bytes));
      this.buffer = grown;
    }
    if (allRows > this.starts.length) {
      const grown = new Uint32Array(Math.max(allRows, Math.ceil(1.5 * this.starts.length)));
      grown.set(this.starts.subarray(0, this.rows));
      this.starts = grown;
    }
    if (allRows > MOST_FILLED * this.slots.length) this.resize(Math.max(allRows, Math.ceil(1.5 * this.rows)));
  }

  /** How many different names there are. */
  get names(): number {
    return this.rows - this.repeats;
  }

  private endOf(row: number): number {
    const start = this.starts[row];
    return start + HEAD + this.buffer[start + SUM_BYTES] + 256 * this.buffer[start + SUM_BYTES + 1];
  }

  /** The slot of a name: that which holds it, or the empty one where it would be put. */
  private slotOf(bytes: Uint8Array, from: number, end: number, hash = hashOf(bytes, from, end)): number {
    const mask = this.slots.length - 1;
    for (let slot = hash >>> this.shift; ; slot = (slot + 1) & mask) {
      const row = this.slots[slot] - 1;
      if (row < 0) return slot;
      if (this.tags[slot] !== (hash & 255)) continue;
      const start = this.starts[row] + HEAD;
      if (this.endOf(row) - start !== end - from) continue;
      let i = from;
      while (i < end && bytes[i] === this.buffer[start + i - from]) i++;
      if (i === end) return slot;
    }
  }

  /** Puts a row into the table. Gives the earlier row of the same name, if there is one; the table keeps that. */
  private place(row: number): number {
    const [from, end] = [this.starts[row] + HEAD, this.endOf(row)];
    const hash = hashOf(this.buffer, from, end);
    const slot = this.slotOf(this.buffer, from, end, hash);
    const earlier = this.slots[slot] - 1;
    if (earlier < 0) {
      this.slots[slot] = row + 1;
      this.tags[slot] = hash;
    } else this.repeats++;
    return earlier;
  }

  /** Adds a picture. Gives the row that had its name before, or -1. Throws a GlimpseError if the name is none. */
  append(name: string, sum: Uint8Array): number {
    const { read, written } = encoder.encodeInto(name, scratch);
    const fault = read < name.length || written > MAX_NAME ? `is longer than ${MAX_NAME} bytes` : nameFault(scratch, 0, written);
    if (fault) throw new GlimpseError(`the name of the picture ${quoted(name)} ${fault}`);
    this.reserve(1, HEAD + written);
    const start = this.bytes;
    this.buffer.set(sum.length === SUM_BYTES ? sum : sum.subarray(0, SUM_BYTES), start);
    this.buffer[start + SUM_BYTES] = written & 255;
    this.buffer[start + SUM_BYTES + 1] = written >>> 8;
    for (let i = 0; i < written; i++) this.buffer[start + HEAD + i] = scratch[i];
    this.starts[this.rows] = start;
    this.bytes += HEAD + written;
    return this.place(this.rows++);
  }

  /** Adds the bytes of an index file that hold entries. `path` is named if they do not; `onRepeated` gets a row whose name an earlier row has. */
  load(path: string, pieces: Iterable<Uint8Array>, bytes: number, rows: number, onRepeated: (row: number, earlier: number) => void): void {
    const damaged = (what: string) => new FileError(path, `is damaged: ${what}`);
    if (rows * (HEAD + 1) > bytes) throw damaged(`it has ${bytes} bytes for ${rows} pictures`);
    this.reserve(rows, bytes);
    let at = this.bytes;
    let end = at;
    for (const piece of pieces) {
      this.buffer.set(piece, end);
      end += piece.length;
    }
    const first = this.rows;
    while (at < end) {
      const row = this.rows;
      if (row - first === rows) throw damaged(`it has more than ${rows} pictures`);
      this.starts[row] = at;
      const nameEnd = at + HEAD <= end ? this.endOf(row) : end + 1;
      const fault = nameEnd > end ? 'it ends within a picture' : nameEnd - at - HEAD > MAX_NAME ? 'a name is too long' : null;
      if (fault) throw damaged(fault);
      const fallen = nameFault(this.buffer, at + HEAD, nameEnd);
      if (fallen) throw damaged(`the name of picture ${row - first + 1} ${fallen}`);
      this.rows++;
      this.bytes = nameEnd;
      const earlier = this.place(row);
      if (earlier >= 0) onRepeated(row, earlier);
      at = nameEnd;
    }
    if (this.rows - first !== rows) throw damaged(`it has ${this.rows - first} pictures; ${rows} are expected`);
  }

  /** Lets a name that several rows have mean this row. */
  prefer(row: number): void {
    this.slots[this.slotOf(this.buffer, this.starts[row] + HEAD, this.endOf(row))] = row + 1;
  }

  /** The row of a name, or -1. */
  rowOf(name: string): number {
    if (name.length > MAX_NAME) return -1;
    const { written } = encoder.encodeInto(name, scratch);
    return this.slots[this.slotOf(scratch, 0, written)] - 1;
  }

  nameOf(row: number): string {
    return decoder.decode(this.buffer.subarray(this.starts[row] + HEAD, this.endOf(row)));
  }

  /** The checksum of a row's record; a view of its 8 bytes. */
  sumOf(row: number): Uint8Array {
    return this.buffer.subarray(this.starts[row], this.starts[row] + SUM_BYTES);
  }

  /** Whether a row's checksum is the beginning of `sum`. */
  hasSum(row: number, sum: Uint8Array): boolean {
    const start = this.starts[row];
    for (let i = 0; i < SUM_BYTES; i++) if (this.buffer[start + i] !== sum[i]) return false;
    return true;
  }

  /** The bytes of the index file from one entry on; a view. */
  from(byte: number): Uint8Array<ArrayBuffer> {
    return this.buffer.subarray(byte, this.bytes);
  }

  /** Forgets the entries from a row on. They must not be looked up in the meantime. */
  cut(row: number): void {
    if (row >= this.rows) return;
    this.bytes = this.starts[row];
    this.rows = row;
    this.resize(this.starts.length);
  }
}
