/** CIDEr-D, from tokens, by the document frequencies of the references and of a collection. */
import { describe, expect, test } from 'vitest';
import { agreement, CiderD, ciderD } from '../src/metrics/cider.ts';
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

describe('agreement', () => {
  test('is the mean similarity to all captions, where every n-gram is as rare as any other', () => {
    // "a dog" and "a red dog": 2 of √2 · √3 unigrams in common, no bigram; one bigram against two. "a dog" and itself: 1- and 2-grams.
    const other = (2 / (Math.SQRT2 * Math.sqrt(3)) / 4) * Math.exp(-1 / 72);
    const [short, long, , none] = agreement([split('a dog'), split('a red dog'), split('a red dog'), split('birds')]);
    expect(short).toBeCloseTo((2 / 4 + 2 * other) / 4, 12);
    expect(long).toBeCloseTo((2 * (3 / 4) + other) / 4, 12);
    expect(none).toBeCloseTo(1 / 4 / 4, 12);
  });

  test('without a word is 0', () => {
    expect(agreement([[]])).toEqual([0]);
    expect(agreement([[], ['dog']])[0]).toBe(0);
    expect(agreement([])).toEqual([]);
  });
});

describe('document frequencies of a collection', () => {
  const collection = ['a dog', 'a cat', 'a red dog', 'birds'].map((text) => [split(text)]);

  test('n-grams weigh by the number of its pictures and by how many have them', () => {
    // Unigrams: a weighs log 4 − log 3, dog log 4 − log 2, red log 4; the bigrams "a dog", "a red" and "red dog" log 4 each.
    const [a, dog, one] = [Math.log(4 / 3), Math.log(2), Math.log(4)];
    const unigrams = (a * a + dog * dog) / (Math.hypot(a, dog) * Math.hypot(a, one, dog));
    const score = (10 / 4) * unigrams * Math.exp(-1 / 72); // no bigram in common; one bigram against two
    const { mean, perImage } = ciderD([split('a dog')], [[split('a red dog')]], new CiderD(collection));
    expect(mean).toBeCloseTo(score, 12);
    expect(perImage).toEqual([mean]);
  });

  test('a word that the collection lacks weighs as much as one of a single picture', () => {
    const scorer = new CiderD(collection);
    const [lacking, single] = [ciderD([['zebra', 'a']], [[['zebra']]], scorer).mean, ciderD([['birds', 'a']], [[['birds']]], scorer).mean];
    expect(lacking).toBe(single);
  });

  test('its own references as the collection change nothing', () => {
    const [candidates, references] = [
      [split('a dog'), split('two cats run')],
      [[split('a red dog')], [split('cats run'), split('a cat')]],
    ];
    expect(ciderD(candidates, references, new CiderD(references))).toEqual(ciderD(candidates, references));
  });

  test.each([
    ['one picture', [[split('a dog'), split('the dog')]], false],
    ['pictures that all have the same references', [[split('a dog')], [split('a dog')], [split('a dog'), split('a dog')]], false],
    ['pictures without words', [[[]], [[]]], false],
    ['pictures that differ in a word', [[split('a dog')], [split('a cat')]], true],
  ])('%s', (_, references, weighs) => {
    const scorer = new CiderD(references);
    expect(scorer.weighs(references.flat())).toBe(weighs);
    expect(
      ciderD(
        references.map(([first]) => first),
        references,
      ).mean > 0,
    ).toBe(weighs);
  });
});
