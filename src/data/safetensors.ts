/**
 * The safetensors format: 8 bytes of header length, a JSON header, then raw little-endian tensors. Files come from
 * outside, so every offset is checked against the file before anything is read. Nothing is executed.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { z } from 'zod';
import { FileError, messageOf } from '../errors.ts';
import { writeFileAtomic } from './atomic_file.ts';

const MAX_HEADER_BYTES = 100 << 20;

const Entry = z.object({
  dtype: z.string(),
  shape: z.array(z.number().int().nonnegative()),
  data_offsets: z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()]),
});

export interface StoredTensor {
  dtype: 'F32' | 'I32' | 'U32';
  shape: readonly number[];
  data: Float32Array | Int32Array | Uint32Array;
}

const ARRAYS = { F32: Float32Array, I32: Int32Array, U32: Uint32Array };

export interface SafetensorsFile {
  metadata: Record<string, string>;
  tensors: Map<string, StoredTensor>;
}

export function readSafetensors(path: string): SafetensorsFile {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    throw new FileError(path, messageOf(error));
  }
  try {
    const { size } = fstatSync(file);
    const read = (at: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length);
      if (readSync(file, bytes, 0, length, at) !== length) throw new FileError(path, `ends before byte ${at + length}`);
      return bytes;
    };
    if (size < 8) throw new FileError(path, `is no safetensors file: ${size} bytes`);
    const headerBytes = Number(read(0, 8).readBigUInt64LE());
    if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > size) throw new FileError(path, `claims a header of ${headerBytes} bytes in a file of ${size}`);
    let header: Record<string, unknown>;
    try {
      header = z.record(z.string(), z.unknown()).parse(JSON.parse(read(8, headerBytes).toString('utf8')));
    } catch (error) {
      throw new FileError(path, `has a damaged header: ${messageOf(error)}`);
    }
    const metadata = z
      .record(z.string(), z.string())
      .catch({})
      .parse(header.__metadata__ ?? {});
    const tensors = new Map<string, StoredTensor>();
    let claimed = 0;
    for (const [name, raw] of Object.entries(header)) {
      if (name === '__metadata__') continue;
      const parsed = Entry.safeParse(raw);
      if (!parsed.success) throw new FileError(path, `tensor "${name}" has a damaged entry`);
      const { dtype, shape, data_offsets: offsets } = parsed.data;
      if (dtype !== 'F32' && dtype !== 'I32' && dtype !== 'U32') throw new FileError(path, `tensor "${name}" is ${dtype}; F32, I32 and U32 are supported`);
      const bytes = 4 * shape.reduce((product, extent) => product * extent, 1);
      if (offsets[1] - offsets[0] !== bytes || 8 + headerBytes + offsets[1] > size)
        throw new FileError(path, `tensor "${name}" [${shape}] claims bytes ${offsets.join('…')} of ${size - 8 - headerBytes}`);
      claimed += bytes;
      if (claimed > size) throw new FileError(path, 'its tensors claim the same bytes twice');
      const body = read(8 + headerBytes + offsets[0], bytes);
      tensors.set(name, { dtype, shape, data: new ARRAYS[dtype](body.buffer as ArrayBuffer, body.byteOffset, bytes / 4) });
    }
    return { metadata, tensors };
  } finally {
    closeSync(file);
  }
}

/** Writes the tensors atomically. */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, { shape: readonly number[]; data: Float32Array | Int32Array | Uint32Array }>,
  metadata: Record<string, string> = {},
): void {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, data }] of tensors) {
    const dtype = data instanceof Float32Array ? 'F32' : data instanceof Int32Array ? 'I32' : 'U32';
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(json + ' '.repeat((8 - (Buffer.byteLength(json) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  function* chunks(): Generator<Uint8Array> {
    yield length;
    yield text;
    for (const { data } of tensors.values()) yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
  writeFileAtomic(path, chunks());
}
