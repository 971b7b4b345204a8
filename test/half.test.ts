/** Numbers in half precision, to and from. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromHalf, roundToHalf, toHalf } from '../src/data/half.ts';

describe('half precision', () => {
  test('all halves come back as they were; what lies between rounds to the nearest, ties to even', () => {
    const bits = Uint16Array.from({ length: 1 << 16 }, (_, i) => i).filter((b) => (b & 0x7c00) !== 0x7c00 || (b & 1023) === 0);
    const values = new Float32Array(bits.length);
    fromHalf(bits, values);
    expect(toHalf(values)).toEqual(bits);
    expect([1, 65504, 2 ** -24, 2 ** -14, 0.1].map((v) => toHalf(Float32Array.of(v))[0])).toEqual([0x3c00, 0x7bff, 1, 0x0400, 0x2e66]);
    expect([1 + 2 ** -11, 1 + 3 * 2 ** -11, 65520, 2 ** -25, 3 * 2 ** -25, -1e9].map((v) => toHalf(Float32Array.of(v))[0])).toEqual([
      0x3c00, 0x3c02, 0x7c00, 0, 2, 0xfc00,
    ]);
    expect(toHalf(Float32Array.of(Number.NaN))[0]).toBe(0x7e00);
  });

  test('every sign and exponent of a float, at and around each tie, as the float64 says', () => {
    const halves = new Float32Array(1 << 15);
    fromHalf(
      Uint16Array.from(halves, (_, i) => i),
      halves,
    );
    const finite = halves.subarray(0, 0x7c00);
    const word = new Uint32Array(1);
    const near = (value: number) => {
      const float = new Float32Array(word.buffer);
      float[0] = value;
      const bits = word[0];
      return [-1, 0, 1].map((step) => {
        word[0] = bits + step;
        return float[0];
      });
    };
    const ties = [...finite.subarray(0, 0x7bff)].flatMap((value, i) => near((value + finite[i + 1]) / 2));
    const expected = [...finite.subarray(0, 0x7bff)].flatMap((_, i) => [i, i % 2 === 0 ? i : i + 1, i + 1]);
    for (const sign of [1, -1])
      expect(toHalf(Float32Array.from(ties, (value) => sign * value))).toEqual(Uint16Array.from(expected, (half) => half | (sign < 0 ? 0x8000 : 0)));
    const powers = Float32Array.from({ length: 277 }, (_, i) => 2 ** (i - 149));
    expect([...toHalf(powers)]).toEqual([...powers].map((value) => (value >= 65520 ? 0x7c00 : value <= 2 ** -25 ? 0 : finite.indexOf(value))));
  });

  test('says whether all halves are finite', () => {
    const out = new Uint16Array(5);
    const says = (value: number) => roundToHalf(Float32Array.of(1, -2, value, 0, 3), out);
    expect([65504, 65519, -65504, 2 ** -24, 2 ** -140, 0, -0].map(says)).toEqual(Array(7).fill(true));
    expect([65520, -65520, 1e9, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN].map(says)).toEqual(Array(6).fill(false));
    expect([...out.subarray(2)]).toEqual([0x7e00, 0, 0x4200]);
  });

  test('is within half a step of the number', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -60000, max: 60000 }), (value) => {
        const back = new Float32Array(1);
        fromHalf(toHalf(Float32Array.of(value)), back);
        expect(Math.abs(back[0] - value)).toBeLessThanOrEqual(Math.max(2 ** -25, Math.abs(value) * 2 ** -11));
      }),
    );
  });
});
