/** Numbers in half precision, to and from. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromHalf, toHalf } from '../src/data/half.ts';

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
