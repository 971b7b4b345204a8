/** IEEE 754 half precision on the host: Node 20 has no Float16Array. */

/** The largest half, and the smallest magnitude that rounds to infinity instead. */
export const MAX_HALF = 65504;
export const HALF_OVERFLOW = 65520;

/** HALF_OVERFLOW and the least normal half, as the bits of floats. */
const OVERFLOW = 0x477ff000;
const LEAST_NORMAL = 0x38800000;

/** The half of the bits of a magnitude below the least normal half: a multiple of 2⁻²⁴, ties to even. */
function subnormal(magnitude: number): number {
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return 0; // below 2⁻²⁵, half of the least half
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  return (fraction + (1 << (shift - 1)) - 1 + ((fraction >>> shift) & 1)) >>> shift;
}

/** Values that are rounded before it is asked whether one of them was special. */
const BLOCK = 256;

/** Negative where the half of a magnitude's bits is subnormal and not 0, or not finite. */
const special = (magnitude: number) => ((magnitude - LEAST_NORMAL) & -magnitude) | (OVERFLOW - 1 - magnitude);

/**
 * Rounds to the nearest half, ties to even, into `out`. Values that are too large become infinite. Gives whether all halves are finite.
 * Values are read as the bits of their floats. The loop over a block has no branch. Half of the features of a ReLU are 0, and the
 * processor guesses a branch on that wrong too often. Special values are rare; a block that has one is gone through again.
 */
export function roundToHalf(values: Float32Array, out: Uint16Array): boolean {
  const words = new Int32Array(values.buffer, values.byteOffset, values.length);
  let finite = true;
  for (let first = 0; first < words.length; first += BLOCK) {
    const end = Math.min(words.length, first + BLOCK);
    let rare = 0;
    for (let i = first; i < end; i++) {
      const magnitude = words[i] & 0x7fffffff;
      rare |= special(magnitude);
      // Another bias of the exponent, and half a step, less one bit unless the half is odd. The mask is 0 below the least normal half.
      const half = ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >> 13) & ((LEAST_NORMAL - 1 - magnitude) >> 31);
      out[i] = ((words[i] >>> 16) & 0x8000) | half;
    }
    if (rare >= 0) continue;
    for (let i = first; i < end; i++) {
      const magnitude = words[i] & 0x7fffffff;
      if (special(magnitude) >= 0) continue;
      const isLarge = magnitude >= OVERFLOW;
      if (isLarge) finite = false;
      out[i] = ((words[i] >>> 16) & 0x8000) | (isLarge ? (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00) : subnormal(magnitude));
    }
  }
  return finite;
}

/** The values as halves, rounded as `roundToHalf` does. */
export function toHalf(values: Float32Array): Uint16Array {
  const halves = new Uint16Array(values.length);
  roundToHalf(values, halves);
  return halves;
}

let table: Float32Array | null = null;

/** The number that the 16 bits of a half stand for. */
export function halfOf(bits: number): number {
  const [sign, exponent, fraction] = [bits >>> 15 ? -1 : 1, (bits >>> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** Halves, two to a word, the first in the low bits. An odd one is followed by a 0. Shares the memory where it can. */
export function wordsOfHalves(halves: Uint16Array): Uint32Array<ArrayBuffer> {
  const fits = halves.length % 2 === 0 && halves.byteOffset % 4 === 0;
  const { buffer, byteOffset, length } = fits ? halves : Uint16Array.from({ length: halves.length + (halves.length % 2) }, (_, i) => halves[i] ?? 0);
  return new Uint32Array(buffer as ArrayBuffer, byteOffset, length / 2);
}

/** Numbers as they are stored: float32, or the 16 bits of each half. */
export type StoredNumbers = Float32Array | Uint16Array;

/** Halves as float32; numbers of float32 as they are. */
export function floatsOf(stored: StoredNumbers): Float32Array {
  if (stored instanceof Float32Array) return stored;
  const floats = new Float32Array(stored.length);
  fromHalf(stored, floats);
  return floats;
}

export function fromHalf(values: Uint16Array, out: Float32Array): void {
  table ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => halfOf(bits));
  for (let i = 0; i < values.length; i++) out[i] = table[values[i]];
}
