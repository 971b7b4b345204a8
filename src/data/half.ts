/** IEEE 754 half precision on the host: Node 20 has no Float16Array. */

/** The largest half, and the smallest magnitude that rounds to infinity instead. */
export const MAX_HALF = 65504;
export const HALF_OVERFLOW = 65520;

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** Rounds to the nearest half, ties to even. Values that are too large become infinite. */
export function toHalf(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, (value) => {
    float[0] = value;
    const bits = word[0];
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00; // not a number
    if (magnitude >= 0x477ff000) return sign | 0x7c00;
    if (magnitude < 0x38800000) {
      // Below the least normal half, values are multiples of 2⁻²⁴. Adding 0.5 makes the float's own rounding do this.
      float[0] = Math.abs(value) + 0.5;
      return sign | (word[0] - 0x3f000000);
    }
    const odd = (magnitude >>> 13) & 1;
    return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
  });
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
