/**
 * TensorBoard's event files. A record is a length, its masked CRC-32C, a protobuf `Event`, and the CRC of that. Only scalars
 * are written. Sources: tensorflow/core/util/event.proto and summary.proto; the framing is that of TFRecord files.
 */
import { AppendFile } from './append_file.ts';
import { crc32c } from './crc32c.ts';

/** CRC-32C, rotated and offset as records want it. */
export function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

/** Protobuf field `number` of wire type 2 (length-delimited). */
function block(number: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

function fixed(number: number, value: number, width: 4 | 8): Buffer {
  const out = Buffer.alloc(1 + width);
  out[0] = number * 8 + (width === 8 ? 1 : 5);
  if (width === 8) out.writeDoubleLE(value, 1);
  else out.writeFloatLE(value, 1);
  return out;
}

function record(event: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(event.length));
  const crc = (bytes: Uint8Array) => {
    const out = Buffer.alloc(4);
    out.writeUInt32LE(maskedCrc(bytes));
    return out;
  };
  return Buffer.concat([length, crc(length), event, crc(event)]);
}

/** Where the last whole record ends. */
function wholeEvents(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  for (;;) {
    const end = at + 12 < bytes.length ? at + 16 + Number(view.getBigUint64(at, true)) : Number.POSITIVE_INFINITY;
    if (end > bytes.length) return at;
    at = end;
  }
}

/** Appends scalars to one file. The constructor cuts the file at `keepBytes`, so that a resumed run goes on from there. */
export class EventFile {
  readonly file: AppendFile;

  constructor(path: string, keepBytes: number) {
    this.file = new AppendFile(path, keepBytes, wholeEvents);
    if (this.file.bytes === 0) this.append(Buffer.concat([fixed(1, Date.now() / 1000, 8), block(3, Buffer.from('brain.Event:2'))]));
  }

  private append(event: Buffer): void {
    this.file.write(record(event));
  }

  /** Writes numbers under their names at a step. Values that are null or not finite are left out. */
  scalars(step: number, values: Readonly<Record<string, number | null>>): void {
    const summary = Object.entries(values).flatMap(([tag, value]) =>
      value === null || !Number.isFinite(value) ? [] : [block(1, Buffer.concat([block(1, Buffer.from(tag)), fixed(2, value, 4)]))],
    );
    if (summary.length === 0) return;
    this.append(Buffer.concat([fixed(1, Date.now() / 1000, 8), varint(2 * 8), varint(step), block(5, Buffer.concat(summary))]));
  }
}
