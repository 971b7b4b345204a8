/** The element types of ONNX tensors: how they lie in a file, and what whole numbers of a type can be. */
import { fromBfloat } from '../../data/bfloat.ts';
import { fromHalf } from '../../data/half.ts';
import type { Numbers } from './values.ts';

export interface ElementType {
  name: string;
  bytes: number;
  kind: 'float' | 'int';
  /** The field of TensorProto that holds elements of this type where they are no raw bytes. */
  field: 4 | 5 | 7 | 10 | 11;
  /** For whole numbers: the least and the largest. */
  range?: readonly [number, number];
}

const int = (name: string, bytes: number, field: 5 | 7 | 11, low: number, high: number): ElementType => ({
  name,
  bytes,
  kind: 'int',
  field,
  range: [low, high],
});

/** Whole numbers are doubles here. Those beyond ±(2⁵³ − 1) are clamped to it: slices write "to the end" as the largest 64-bit number. */
export const EXACT = Number.MAX_SAFE_INTEGER;

/** By their number in a TensorProto. */
export const ELEMENT_TYPES: Readonly<Record<number, ElementType>> = {
  1: { name: 'float', bytes: 4, kind: 'float', field: 4 },
  2: int('uint8', 1, 5, 0, 255),
  3: int('int8', 1, 5, -128, 127),
  4: int('uint16', 2, 5, 0, 65535),
  5: int('int16', 2, 5, -32768, 32767),
  6: int('int32', 4, 5, -(2 ** 31), 2 ** 31 - 1),
  7: int('int64', 8, 7, -EXACT, EXACT),
  9: int('bool', 1, 5, 0, 1),
  10: { name: 'float16', bytes: 2, kind: 'float', field: 5 },
  11: { name: 'double', bytes: 8, kind: 'float', field: 10 },
  12: int('uint32', 4, 11, 0, 2 ** 32 - 1),
  13: int('uint64', 8, 11, 0, EXACT),
  16: { name: 'bfloat16', bytes: 2, kind: 'float', field: 5 },
};

/** What stands for texts where they are moved as numbers are: their places in a list. */
const TEXT_PLACES = int('string', 8, 7, 0, EXACT);

/** The type by its name. */
export const elementType = (name: string): ElementType | undefined =>
  name === TEXT_PLACES.name ? TEXT_PLACES : Object.values(ELEMENT_TYPES).find((type) => type.name === name);

const clamped = (value: bigint): number => (value > BigInt(EXACT) ? EXACT : value < BigInt(-EXACT) ? -EXACT : Number(value));

const READERS: Record<string, (view: DataView, i: number) => number> = {
  uint8: (view, i) => view.getUint8(i),
  int8: (view, i) => view.getInt8(i),
  uint16: (view, i) => view.getUint16(2 * i, true),
  int16: (view, i) => view.getInt16(2 * i, true),
  int32: (view, i) => view.getInt32(4 * i, true),
  int64: (view, i) => clamped(view.getBigInt64(8 * i, true)),
  bool: (view, i) => Number(view.getUint8(i) !== 0),
  uint32: (view, i) => view.getUint32(4 * i, true),
  uint64: (view, i) => clamped(view.getBigUint64(8 * i, true)),
  double: (view, i) => view.getFloat64(8 * i, true),
};

/** Halves, or the upper halves of floats (bfloat16), as floats. */
export function fromBits(name: string, bits: Uint16Array): Float32Array {
  const out = new Float32Array(bits.length);
  if (name === 'float16') fromHalf(bits, out);
  else fromBfloat(bits, out);
  return out;
}

/** The elements of raw bytes, which begin at the beginning of their buffer. Doubles come as doubles. */
export function fromRaw({ name, kind }: ElementType, bytes: Uint8Array<ArrayBuffer>, count: number): Numbers {
  if (name === 'float') return new Float32Array(bytes.buffer, 0, count); // WebGPU runs on little-endian machines only
  if (kind === 'float' && name !== 'double') return fromBits(name, new Uint16Array(bytes.buffer, 0, count));
  if (name === 'uint8') return new Uint8Array(bytes.buffer, 0, count);
  if (name === 'int8') return new Int8Array(bytes.buffer, 0, count);
  const view = new DataView(bytes.buffer);
  const read = READERS[name];
  return Array.from({ length: count }, (_, i) => read(view, i));
}

/** A whole number as the type stores it: it wraps round, as in two's complement. Null where 64 bits would hold more than a double can. */
export function wrapped({ name, bytes }: ElementType, value: number): number | null {
  if (bytes === 8) return Math.abs(value) < EXACT && (name === 'int64' || value >= 0) ? value : null;
  return Number(name.startsWith('u') ? BigInt.asUintN(8 * bytes, BigInt(value)) : BigInt.asIntN(8 * bytes, BigInt(value)));
}

/** Most elements that a tensor may have. No known model comes near it. */
export const MAX_ELEMENTS = 2 ** 29;

/**
 * What a shape claims: its elements, where an extent of 0 counts as 1, because loops over the extents beside it run all the same. Not
 * a number where an extent is none from 0 on.
 */
export const claimOf = (shape: readonly number[]): number =>
  shape.reduce((product, extent) => (Number.isSafeInteger(extent) && extent >= 0 ? product * Math.max(1, extent) : Number.NaN), 1);
