/** METEOR: by hand, with WordNet, and its bounds. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { METEOR_FUNCTION_WORDS, Meteor, meteorWords } from '../src/metrics/meteor.ts';
import { WordNet } from '../src/metrics/wordnet.ts';
import { functionWords, split } from './coco_caption.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const wordNet = WordNet.installed();

const meteor = new Meteor(wordNet);
const one = (candidate: string, ...references: string[]) => meteor.score([split(candidate)], [references.map(split)]).perImage[0];

test('METEOR by hand', () => {
  expect(one('a dog runs', 'a dog runs')).toBe(1); // no penalty for what is identical
  expect(one('birds', 'dog')).toBe(0);
  // "a" counts 0.25, "dog" and "runs" 0.75: exact a and dog, runs ~ running by its stem at 0.6; one chunk of three.
  const matched = 0.25 + 0.75 + 0.6 * 0.75;
  expect(one('a dog runs', 'a dog running')).toBeCloseTo(matched / 1.75, 12); // nothing is out of place
  const mean = 1 / (0.15 / (matched / 1.75) + 0.85 / (matched / 2.5));
  expect(one('a dog runs', 'a dog running fast')).toBeCloseTo(mean * (1 - 0.6 * (1 / 3) ** 0.2), 12);
  expect(one('a dog', 'a cat', 'a dog')).toBe(1); // the best reference counts
  expect(meteorWords(split("a 5,000 ten-speed bike it 's u.s. no ."))).toEqual(split('a 5,000 ten speed bike it s u.s no'));
});

test.runIf(wordNet)('METEOR knows synonyms by WordNet, irregular and regular forms', () => {
  expect(one('bike', 'bicycle')).toBeCloseTo(0.8, 12);
  expect(one('man', 'men')).toBeGreaterThan(0);
  expect(wordNet?.synsetsOf('geese')).toEqual(wordNet?.synsetsOf('goose'));
  expect(wordNet?.synsetsOf('boxes').size).toBeGreaterThan(0);
  expect(wordNet?.synsetsOf('qqq').size).toBe(0);
});

test('a damaged WordNet is named', () => {
  writeFileSync(join(folder, 'index.noun'), 'dog n x\n');
  expect(() => WordNet.read(folder)).toThrow(/index\.noun.*dog n x/s);
});

test('METEOR never leaves 0 to 1, and never falls for another reference', () => {
  const sentence = fc.array(fc.constantFrom('a', 'the', 'dog', 'dogs', 'runs', 'running', 'sit'), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(sentence, sentence, sentence, (candidate, reference, other) => {
      const alone = meteor.score([candidate], [[reference]]).corpus;
      const both = meteor.score([candidate], [[reference, other]]).corpus;
      expect(alone).toBeGreaterThanOrEqual(0);
      expect(both).toBeGreaterThanOrEqual(alone);
      expect(both).toBeLessThanOrEqual(1);
    }),
  );
});

test.runIf(functionWords && existsSync(functionWords))('METEOR counts the same words as function words', () => {
  const theirs = readFileSync(functionWords as string, 'utf8')
    .split('\n')
    .filter(Boolean);
  expect(theirs.filter((word) => /^\p{L}+$/u.test(word) && !METEOR_FUNCTION_WORDS.has(word))).toEqual([]);
  expect([...METEOR_FUNCTION_WORDS].filter((word) => /^\p{L}+$/u.test(word) && !theirs.includes(word))).toEqual([]);
});
