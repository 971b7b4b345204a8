/**
 * The safetensors format: 8 bytes of header length, a JSON header, then raw little-endian tensors. Bytes come from
 * outside, so every offset is checked against their number before anything is read. Nothing is executed, and no file is opened here.
 * The format has no checksums. Ours stand in its metadata: the CRC-32C of every tensor and of all else that the header says.
 */
import { z } from 'zod';
import { FileError } from '../errors.ts';
import { printable } from '../printable.ts';
import type { ByteSource } from './bytes.ts';
import { crc32c } from './crc32c.ts';
import { nonFiniteFault } from './finite.ts';
import { fromHalf } from './half.ts';
import { parseJson, problemOf, quoted } from './validation.ts';

const MAX_HEADER_BYTES = 100 << 20;

const Header = z.record(z.string(), z.unknown());
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

/** The metadata key of the checksums, and the name of the header's own checksum among those of the tensors. */
const CHECKSUMS = 'checksums';
const HEADER = '__header__';

export interface SafetensorsFile {
  metadata: Record<string, string>;
  /** `none` in files of other writers. `changed`: the tensors are whole, but somebody changed the header since it was written. */
  checksums: 'right' | 'changed' | 'none';
  tensors: Map<string, StoredTensor>;
}

/** Where a tensor lies in its source; all of it was checked against the source's size. */
interface Claim {
  dtype: string;
  shape: readonly number[];
  at: number;
  bytes: number;
}

interface Opened {
  metadata: Record<string, string>;
  claims: Map<string, Claim>;
  checksums: Record<string, number> | null;
  read(claim: Claim): Uint8Array<ArrayBuffer>;
}

/** Reads the header, and checks each of its claims. `widths` has the bytes of an element for every type that is taken. */
function openHeader({ name: path, size, read: readBytes }: ByteSource, widths: Readonly<Record<string, number>>, taken: string): Opened {
  const read = (at: number, length: number): Uint8Array<ArrayBuffer> => {
    const bytes = readBytes(at, length);
    if (bytes.length !== length) throw new FileError(path, `ends before byte ${at + length}`);
    return bytes;
  };
  if (size < 8) throw new FileError(path, `is no safetensors file: ${size} bytes`);
  const headerBytes = Number(new DataView(read(0, 8).buffer).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > size) throw new FileError(path, `claims a header of ${headerBytes} bytes in a file of ${size}`);
  const header = parseJson(path, new TextDecoder().decode(read(8, headerBytes)), Header, 'has a damaged header');
  const metadata = z
    .record(z.string(), z.string())
    .catch({})
    .parse(header.__metadata__ ?? {});
  const claims = new Map<string, Claim>();
  let claimed = 0;
  for (const [name, raw] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const parsed = Entry.safeParse(raw);
    if (!parsed.success) throw new FileError(path, `tensor ${quoted(name)} has a damaged entry: ${problemOf(parsed.error, raw)}`);
    const { dtype, shape, data_offsets: offsets } = parsed.data;
    if (!Object.hasOwn(widths, dtype)) throw new FileError(path, `tensor ${quoted(name)} is ${printable(dtype)}; ${taken} are supported`);
    const bytes = widths[dtype] * shape.reduce((product, extent) => product * extent, 1);
    if (offsets[1] - offsets[0] !== bytes || 8 + headerBytes + offsets[1] > size)
      throw new FileError(path, `tensor ${quoted(name)} [${shape}] claims bytes ${offsets.join('…')} of ${size - 8 - headerBytes}`);
    claimed += bytes;
    if (claimed > size) throw new FileError(path, 'its tensors claim the same bytes twice');
    claims.set(name, { dtype, shape, at: 8 + headerBytes + offsets[0], bytes });
  }
  return { metadata, claims, checksums: checksumsOf(path, metadata), read: ({ at, bytes }) => read(at, bytes) };
}

const damaged = (path: string, name: string, values: Float32Array | null): FileError => {
  const fault = values && nonFiniteFault(values);
  return new FileError(path, `tensor ${quoted(name)} is damaged: its checksum differs${fault ? `; ${fault}` : ''}`);
};

/** Throws a FileError that names the source and what is wrong. */
export function parseSafetensors(source: ByteSource): SafetensorsFile {
  const { name: path } = source;
  const { metadata, claims, checksums, read } = openHeader(source, { F32: 4, I32: 4, U32: 4 }, 'F32, I32 and U32');
  const tensors = new Map<string, StoredTensor>();
  for (const [name, claim] of claims) {
    const dtype = claim.dtype as StoredTensor['dtype'];
    const stored = read(claim);
    const data = new ARRAYS[dtype](stored.buffer, 0, claim.bytes / 4);
    tensors.set(name, { dtype, shape: claim.shape, data });
    if (checksums && checksums[name] !== crc32c(stored)) throw damaged(path, name, data instanceof Float32Array ? data : null);
  }
  const lost = Object.keys(checksums ?? {}).find((name) => name !== HEADER && !tensors.has(name));
  if (lost !== undefined) throw new FileError(path, `tensor ${quoted(lost)} is missing`);
  const { [CHECKSUMS]: _sums, ...said } = metadata;
  return { metadata: said, tensors, checksums: checksums ? (checksums[HEADER] === headerChecksum(said, tensors) ? 'right' : 'changed') : 'none' };
}

/** Bytes of an element, for every type that other programs write. */
const WIDTHS = {
  ...{ F64: 8, F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1 },
  ...{ I64: 8, U64: 8, I32: 4, U32: 4, I16: 2, U16: 2, I8: 1, U8: 1, BOOL: 1 },
};

/** How the floats of a type become float32: exactly, but for F64, which is rounded. */
const AS_FLOATS: Readonly<Record<string, (bytes: ArrayBuffer) => Float32Array>> = {
  F32: (bytes) => new Float32Array(bytes),
  F64: (bytes) => new Float32Array(new Float64Array(bytes)),
  F16: (bytes) => {
    const out = new Float32Array(bytes.byteLength / 2);
    fromHalf(new Uint16Array(bytes), out);
    return out;
  },
  BF16: (bytes) => new Float32Array(Uint32Array.from(new Uint16Array(bytes), (bits) => bits << 16).buffer),
};

/** A tensor of another program's file. Its values are read when they are asked for. */
export interface StoredWeight {
  dtype: string;
  shape: readonly number[];
  /** The values as float32. Throws a FileError if they are no floats, or one of them is NaN or infinite. */
  load(): Float32Array;
}

/**
 * The weights in another program's file, by name: F64, F32, F16 and BF16. Tensors of other types may be there as well. Throws a
 * FileError that names the source and what is wrong. The source stays open for as long as weights are loaded.
 */
export function parseWeights(source: ByteSource): Map<string, StoredWeight> {
  const { name: path } = source;
  const { claims, checksums, read } = openHeader(source, WIDTHS, Object.keys(WIDTHS).join(', '));
  const weight = (name: string, claim: Claim): StoredWeight => ({
    dtype: claim.dtype,
    shape: claim.shape,
    load() {
      const floats = Object.hasOwn(AS_FLOATS, claim.dtype) ? AS_FLOATS[claim.dtype] : null;
      if (!floats) throw new FileError(path, `tensor ${quoted(name)} is ${claim.dtype}; weights are ${Object.keys(AS_FLOATS).join(', ')}`);
      const stored = read(claim);
      const values = floats(stored.buffer);
      if (checksums && checksums[name] !== crc32c(stored)) throw damaged(path, name, values);
      const fault = nonFiniteFault(values);
      if (fault) throw new FileError(path, `tensor ${quoted(name)} cannot be used: ${fault}`);
      return values;
    },
  });
  return new Map([...claims].map(([name, claim]) => [name, weight(name, claim)]));
}

function checksumsOf(path: string, metadata: Record<string, string>): Record<string, number> | null {
  if (metadata[CHECKSUMS] === undefined) return null;
  return parseJson(path, metadata[CHECKSUMS], z.record(z.string(), z.number()), 'has damaged checksums');
}

/** Of the metadata, and of names, types and shapes of the tensors, in an order that does not depend on the writer of the JSON. */
function headerChecksum(metadata: Record<string, string>, tensors: ReadonlyMap<string, Pick<StoredTensor, 'shape' | 'data'>>): number {
  const held = [...tensors].map(([name, { shape, data }]) => [name, dtypeOf(data), ...shape]);
  return crc32c(new TextEncoder().encode(JSON.stringify([...Object.entries(metadata), ...held].map((each) => JSON.stringify(each)).sort())));
}

const dtypeOf = (data: StoredTensor['data']): StoredTensor['dtype'] => (data instanceof Float32Array ? 'F32' : data instanceof Int32Array ? 'I32' : 'U32');
const bytesOf = (data: StoredTensor['data']) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** The bytes of a file with these tensors and their checksums, piece by piece. */
export function* safetensorsBytes(
  tensors: ReadonlyMap<string, Pick<StoredTensor, 'shape' | 'data'>>,
  metadata: Record<string, string> = {},
): Generator<Uint8Array> {
  const sums = Object.fromEntries([[HEADER, headerChecksum(metadata, tensors)], ...[...tensors].map(([name, { data }]) => [name, crc32c(bytesOf(data))])]);
  const header: Record<string, unknown> = { __metadata__: { ...metadata, [CHECKSUMS]: JSON.stringify(sums) } };
  let offset = 0;
  for (const [name, { shape, data }] of tensors) {
    header[name] = { dtype: dtypeOf(data), shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const text = new Uint8Array(8 * Math.floor(json.length / 8 + 1)).fill(32); // spaces, so that tensors are aligned
  text.set(json);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  yield length;
  yield text;
  for (const { data } of tensors.values()) yield bytesOf(data);
}
