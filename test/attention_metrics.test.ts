/** Measures of attention: what moves, what stays, how sharp it is. */
import { expect, test } from 'vitest';
import { attentionReport } from '../src/metrics/attention.ts';

test('attention: a map that stays is dead, one that moves is not', () => {
  const uniform = new Float32Array(4).fill(0.25);
  const [left, right] = [Float32Array.of(1, 0, 0, 0), Float32Array.of(0, 0, 0, 1)];
  expect(attentionReport([uniform, uniform, uniform])).toMatchObject({ entropy: 1, coverage: 0.75, change: 0, dead: true });
  expect(attentionReport([left, right, left])).toEqual({ entropy: 0, coverage: 0.5, change: 1, dead: false });
  expect(attentionReport([left]).dead).toBe(false); // one word shows nothing
});
