/** CIDEr-D, from tokens. */
import { expect, test } from 'vitest';
import { ciderD } from '../src/metrics/cider.ts';
import { fixture, hasFixtures, split } from './coco_caption.ts';

test.skipIf(!hasFixtures)('CIDEr-D equals coco-caption on 200 pictures, given its tokens', () => {
  const { tokens, corpus, per_image } = fixture('coco200_scores.json');
  const { mean, perImage } = ciderD(
    tokens.cands.map(([text]: string[]) => split(text)),
    tokens.refs.map((list: string[]) => list.map(split)),
  );
  expect(mean).toBeCloseTo(corpus.CIDEr, 6);
  perImage.forEach((score, i) => {
    expect(score).toBeCloseTo(per_image.CIDEr[i], 6);
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
