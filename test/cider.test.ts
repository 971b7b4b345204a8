/** CIDEr-D. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ciderD } from '../src/metrics/cider.ts';
import { dataFolder } from './support.ts';

const data = dataFolder('the CIDEr fixture');

test.skipIf(!data)('CIDEr-D equals coco-caption on 200 pictures, given its tokens', () => {
  const fixture = JSON.parse(readFileSync(join(data as string, 'metrics', 'coco200_scores.json'), 'utf8'));
  const split = (text: string) => text.split(' ');
  const { mean, perImage } = ciderD(
    fixture.tokens.cands.map(([text]: string[]) => split(text)),
    fixture.tokens.refs.map((list: string[]) => list.map(split)),
  );
  expect(mean).toBeCloseTo(fixture.corpus.CIDEr, 6);
  perImage.forEach((score, i) => {
    expect(score).toBeCloseTo(fixture.per_image.CIDEr[i], 6);
  });
});

test('CIDEr-D: the same caption scores high, another low', () => {
  const references = [
    [
      ['a', 'red', 'bus', 'in', 'town'],
      ['the', 'red', 'bus', 'stops'],
    ],
    [
      ['two', 'dogs', 'play', 'outside'],
      ['dogs', 'on', 'grass', 'there'],
    ],
  ];
  const { perImage } = ciderD(
    [
      ['a', 'red', 'bus', 'in', 'town'],
      ['a', 'cat'],
    ],
    references,
  );
  expect(perImage[0]).toBeGreaterThan(4);
  expect(perImage[1]).toBe(0);
});
