/**
 * The protobuf wire format, read from a source one window at a time. A model of 100 MB is therefore never in memory twice, and the
 * bytes of a large tensor stay on disk until they are needed. Everything read is checked. An error names source and offset.
 */
import type { ByteSource } from '../../data/bytes.ts';
import { FileError } from '../../errors.ts';

const WINDOW = 1 << 16;
const utf8 = new TextDecoder();

/** A name from a file as messages show it: short, on one line. */
export const shown = (name: string, most = 100): string => (name.length > most ? `${name.slice(0, most)}…` : name).replace(/\p{Cc}/gu, '?');

/** What is wrong with a node, whose lists and texts may be of any length: as `shown`, but longer. */
export const reasonShown = (reason: string): string => shown(reason, 1000);

export class ByteFile {
  private open = true;
  private window: Uint8Array = new Uint8Array(0);
  private windowStart = 0;
  /** Bytes that tensors have claimed of other files, by the names that their locations lead to. */
  readonly claimed = new Map<string, number>();
  /** Elements that its sparse tensors have when they are written out. */
  sparse = 0;

  constructor(readonly source: ByteSource) {}

  get path(): string {
    return this.source.name;
  }

  get size(): number {
    return this.source.size;
  }

  fail(offset: number, reason: string): never {
    throw new FileError(this.path, `at byte ${offset}: ${reason}`);
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    if (!this.open) this.fail(offset, 'the file was closed before it was read');
    if (offset < 0 || length < 0 || offset + length > this.size) this.fail(offset, `${length} bytes are claimed, the file has ${this.size}`);
    const bytes = this.source.read(offset, length);
    if (bytes.length < length) this.fail(offset + bytes.length, 'the file ends early');
    return bytes;
  }

  /** As `read`, to take numbers out of. */
  view(offset: number, length: number): DataView {
    return new DataView(this.read(offset, length).buffer);
  }

  byte(offset: number): number {
    if (offset < this.windowStart || offset >= this.windowStart + this.window.length) {
      if (offset >= this.size) this.fail(offset, 'the file ends within a field');
      this.windowStart = offset;
      this.window = this.read(offset, Math.min(WINDOW, this.size - offset));
    }
    return this.window[offset - this.windowStart];
  }

  /** As `read`, for a few bytes: they come from the window where they lie in it, and are not to be kept. */
  glance(offset: number, length: number): Uint8Array {
    if (length === 0 || length > WINDOW) return this.read(offset, length);
    this.byte(offset);
    const at = offset - this.windowStart;
    return at + length <= this.window.length ? this.window.subarray(at, at + length) : this.read(offset, length);
  }

  close(): void {
    this.open = false;
    this.source.close();
  }
}

export interface Field {
  number: number;
  wire: 0 | 1 | 2 | 5;
  /** The value of a varint, as a signed 64-bit number that is clamped to exact doubles. */
  value: number;
  /** First byte of the body, and the byte after its last, for length-delimited and fixed fields. */
  start: number;
  end: number;
}

const MAX_DEPTH = 32;

/** A message: bytes [start, end) of a file. */
export class Message {
  constructor(
    readonly file: ByteFile,
    readonly start: number,
    readonly end: number,
    private readonly depth = 0,
  ) {
    if (depth > MAX_DEPTH) file.fail(start, `messages nest deeper than ${MAX_DEPTH}`);
    if (end > file.size) file.fail(start, `a message of ${end - start} bytes does not fit in the file`);
  }

  private varint(at: number): { value: bigint; next: number } {
    let value = 0n;
    for (let i = 0; i < 10; i++) {
      if (at + i >= this.end) this.file.fail(at, 'a number runs past its message');
      const byte = this.file.byte(at + i);
      value |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if (byte < 0x80) return { value: BigInt.asIntN(64, value), next: at + i + 1 };
    }
    return this.file.fail(at, 'a number has more than ten bytes');
  }

  private number(at: number): { value: number; next: number } {
    let small = 0;
    for (let i = 0; i < 7 && at + i < this.end; i++) {
      const byte = this.file.byte(at + i);
      small += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return { value: small, next: at + i + 1 };
    }
    const { value, next } = this.varint(at);
    const exact = Number(value);
    // Slices write "to the end" as the largest 64-bit number. It means the same when it is clamped.
    return { value: Number.isSafeInteger(exact) ? exact : value > 0n ? Number.MAX_SAFE_INTEGER : Number.MIN_SAFE_INTEGER, next };
  }

  *fields(): Generator<Field> {
    for (let at = this.start; at < this.end; ) {
      const tag = this.number(at);
      const wire = tag.value & 7;
      const number = Math.floor(tag.value / 8);
      if (number < 1) this.file.fail(at, `field number ${number}`);
      if (wire === 0) {
        const { value, next } = this.number(tag.next);
        yield { number, wire, value, start: tag.next, end: next };
        at = next;
      } else if (wire === 1 || wire === 5) {
        const end = tag.next + (wire === 1 ? 8 : 4);
        if (end > this.end) this.file.fail(at, 'a fixed field runs past its message');
        yield { number, wire, value: 0, start: tag.next, end };
        at = end;
      } else if (wire === 2) {
        const { value: length, next } = this.number(tag.next);
        if (length < 0 || next + length > this.end) this.file.fail(at, `field ${number} claims ${length} bytes, ${this.end - next} are left`);
        yield { number, wire, value: 0, start: next, end: next + length };
        at = next + length;
      } else {
        this.file.fail(at, `wire type ${wire} does not exist in ONNX`);
      }
    }
  }

  child(field: Field): Message {
    if (field.wire !== 2) this.file.fail(field.start, `field ${field.number} is no message`);
    return new Message(this.file, field.start, field.end, this.depth + 1);
  }

  text(field: Field): string {
    if (field.wire !== 2) this.file.fail(field.start, `field ${field.number} is no text`);
    if (field.end - field.start > 1 << 20) this.file.fail(field.start, 'a text of more than a megabyte');
    return utf8.decode(this.file.glance(field.start, field.end - field.start));
  }

  whole(field: Field): number {
    if (field.wire !== 0) this.file.fail(field.start, `field ${field.number} is no number`);
    return field.value;
  }

  float(field: Field): number {
    if (field.wire !== 5) this.file.fail(field.start, `field ${field.number} is no float`);
    return this.file.view(field.start, 4).getFloat32(0, true);
  }

  /** The values of a repeated number: one varint, or a packed run of them. No value takes less than a byte of the file. */
  numbers(field: Field): number[] {
    if (field.wire === 0) return [field.value];
    if (field.wire !== 2) this.file.fail(field.start, `field ${field.number} is no number`);
    const run = new Message(this.file, field.start, field.end, this.depth + 1);
    const values: number[] = [];
    for (let at = field.start; at < field.end; ) {
      const { value, next } = run.number(at);
      values.push(value);
      at = next;
    }
    return values;
  }

  /** The values of a repeated float: one float, or a packed run of them. */
  floats(field: Field): Float32Array {
    const length = field.end - field.start;
    if ((field.wire !== 2 && field.wire !== 5) || length % 4 !== 0) this.file.fail(field.start, `field ${field.number} holds no floats`);
    const bytes = this.file.view(field.start, length);
    return Float32Array.from({ length: length / 4 }, (_, i) => bytes.getFloat32(4 * i, true));
  }
}
