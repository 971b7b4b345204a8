/** IEEE 754 half precision on the host: Node 20 has no Float16Array. */

/** The largest half, and the smallest magnitude that rounds to infinity instead. */
export const MAX_HALF = 65504;
export const HALF_OVERFLOW = 65520;

/** HALF_OVERFLOW and the least normal half, as the bits of floats. */
const OVERFLOW_BITS = 0x477ff000;
const LEAST_NORMAL_BITS = 0x38800000;

/** The half of a magnitude's bits below the least normal half: a multiple of 2⁻²⁴, ties to even. */
function subnormal(magnitude: number): number {
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return 0; // at most 2⁻²⁵, whose tie goes to the even 0
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const half = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return rest > tie || (rest === tie && (half & 1) === 1) ? half + 1 : half;
}

/**
 * Rounds to the nearest half, ties to even, into `out`. Values that are too large become infinite. Gives whether all halves are finite.
 * The values are read as the bits of their floats, which is several times quicker than as numbers.
 */
export function roundToHalf(values: Float32Array, out: Uint16Array): boolean {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let finite = true;
  for (let i = 0; i < words.length; i++) {
    const bits = words[i];
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude >= OVERFLOW_BITS) {
      finite = false;
      out[i] = sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
    } else if (magnitude >= LEAST_NORMAL_BITS) out[i] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
    else out[i] = magnitude === 0 ? sign : sign | subnormal(magnitude);
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

/** All 65,536 halves as floats. */
function halves(): Float32Array {
  return Float32Array.from({ length: 1 << 16 }, (_, bits) => {
    const [sign, exponent, fraction] = [bits >>> 15 ? -1 : 1, (bits >>> 10) & 31, bits & 1023];
    if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
  });
}

export function fromHalf(values: Uint16Array, out: Float32Array): void {
  table ??= halves();
  for (let i = 0; i < values.length; i++) out[i] = table[values[i]];
}
