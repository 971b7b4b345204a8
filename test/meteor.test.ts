/** METEOR: by hand, with WordNet, its bounds, its search against a plain one, and long captions. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { newStemmer } from 'snowball-stemmers';
import { describe, expect, test } from 'vitest';
import { align, type Candidates, type Match, METEOR_FUNCTION_WORDS, Meteor, meteorWords } from '../src/metrics/meteor.ts';
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

const BUILT = join(import.meta.dirname, '../dist/src/metrics/wordnet.js');

test.runIf(wordNet && existsSync(BUILT))('what was built of the sources finds WordNet, too', async () => {
  const built = await import(pathToFileURL(BUILT).href);
  expect(built.WordNet.installed()).not.toBeNull();
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

interface PlainPath {
  chosen: (Match | null)[];
  exact: number;
  chunks: number;
  distance: number;
}

/** METEOR's search as it is told: every path is written out, all are sorted, and the best `width` are kept. */
function plainAlign(candidates: readonly (readonly Match[])[], width: number): Match[] {
  const rank = (a: PlainPath, b: PlainPath) => b.exact - a.exact || a.chunks - b.chunks || a.distance - b.distance;
  const wanted = (position: number) => candidates.flat().filter(({ hypothesis }) => hypothesis === position).length;
  let paths: PlainPath[] = [{ chosen: [], exact: 0, chunks: 0, distance: 0 }];
  candidates.forEach((list, place) => {
    const certain = list.length === 1 && wanted(list[0].hypothesis) === 1;
    paths = paths.flatMap((path) => {
      const before = path.chosen.at(-1);
      let { distance } = path;
      const grown: PlainPath[] = [];
      for (const match of list) {
        if (path.chosen.some((each) => each?.hypothesis === match.hypothesis)) continue;
        const away = Math.abs(place - match.hypothesis);
        const chunks = path.chunks + (before && match.hypothesis !== before.hypothesis + 1 ? 1 : 0);
        grown.push({ chosen: [...path.chosen, match], exact: path.exact + (match.module === 0 ? 2 : 0), chunks, distance: distance + (certain ? away : 0) });
        distance += away;
      }
      return certain ? grown : [...grown, { ...path, chosen: [...path.chosen, null], chunks: path.chunks + (before ? 1 : 0), distance }];
    });
    if (place === candidates.length - 1) paths = paths.map((path) => ({ ...path, chunks: path.chunks + (path.chosen.at(-1) ? 1 : 0) }));
    paths = paths.sort(rank).slice(0, width);
  });
  return paths[0].chosen.filter((match) => match !== null);
}

const plainly = (matches: readonly Match[]) => matches.map(({ hypothesis, reference, module }) => ({ hypothesis, reference, module }));

test('the search finds what a plain search finds, whatever may match, in beams of any width', () => {
  const lists = fc.integer({ min: 1, max: 9 }).chain((length) => {
    const modules = fc.tuple(...[0, 1, 2].map(() => fc.subarray(Array.from({ length }, (_, i) => i))));
    return fc.record({ length: fc.constant(length), byPlace: fc.array(modules, { maxLength: 7 }) });
  });
  fc.assert(
    fc.property(lists, fc.constantFrom(1, 2, 3, 5, 40), ({ length, byPlace }, width) => {
      const matches = byPlace.map((modules, reference) => modules.flatMap((list, module) => list.map((hypothesis) => ({ hypothesis, reference, module }))));
      const candidates = matches.map(
        (list): Candidates => ({ positions: Int32Array.from(list, ({ hypothesis }) => hypothesis), modules: Uint8Array.from(list, ({ module }) => module) }),
      );
      expect(plainly(align(candidates, length, width))).toEqual(plainly(plainAlign(matches, width)));
    }),
    { numRuns: 1000 },
  );
});

test('words match as a plain comparison of all pairs says', () => {
  const stemmer = newStemmer('english');
  const words = ['a', 'the', 'dog', 'dogs', 'runs', 'running', 'ran', 'bike', 'bicycle', 'cycle', 'man', 'men', 'guy'];
  const sentence = fc.array(fc.constantFrom(...words), { maxLength: 12 });
  const synonyms = (a: string, b: string) => [...(wordNet?.synsetsOf(a) ?? [])].some((synset) => wordNet?.synsetsOf(b).has(synset));
  const tests = [
    (a: string, b: string) => a === b,
    (a: string, b: string) => a !== b && stemmer.stem(a) === stemmer.stem(b),
    (a: string, b: string) => a !== b && synonyms(a, b),
  ];
  fc.assert(
    fc.property(sentence, sentence, (candidate, reference) => {
      const modules = candidate.join() === reference.join() ? tests.slice(0, 1) : tests;
      const matches = reference.map((word, place) =>
        modules.flatMap((matched, module) => candidate.flatMap((own, hypothesis) => (matched(own, word) ? [{ hypothesis, reference: place, module }] : []))),
      );
      const expected = plainAlign(matches, 40);
      const [{ matches: found, chunks, matched }] = meteor.score([candidate], [[reference]]).statistics;
      const starts = expected.filter(({ hypothesis, reference: at }, i) => {
        const before = expected[i - 1];
        return before?.hypothesis !== hypothesis - 1 || before?.reference !== at - 1;
      });
      const weight = (word: string, module: number) => [1, 0.6, 0.8][module] * (METEOR_FUNCTION_WORDS.has(word) ? 0.25 : 0.75);
      expect({ found, chunks }).toEqual({ found: expected.length, chunks: starts.length });
      expect(matched[0]).toBeCloseTo(
        expected.reduce((sum, { hypothesis, module }) => sum + weight(candidate[hypothesis], module), 0),
        9,
      );
      expect(matched[1]).toBeCloseTo(
        expected.reduce((sum, { reference: at, module }) => sum + weight(reference[at], module), 0),
        9,
      );
    }),
    { numRuns: 300 },
  );
});

// With a path's matches and positions copied for each path, 1,500 words took 82 s and 880 MB.
describe('captions of thousands of words', () => {
  const words = (count: number) => Array.from({ length: count }, (_, i) => (i % 3 ? ['the', 'dog', 'runs', 'a', 'red'][(i * 7) % 5] : `w${(i * 31) % 400}`));
  const statisticsOf = (candidate: string[], reference: string[]) => meteor.score([candidate], [[reference]]).statistics[0];

  test('equal ones, and ones with everything in reverse', () => {
    const long = words(3000);
    expect(meteor.score([long], [[long]]).corpus).toBe(1);
    expect(statisticsOf([...long].reverse(), long)).toMatchObject({ matches: 3000, words: [3000, 3000] });
  });

  test('one word again and again, and forms of one word', () => {
    expect(statisticsOf(new Array(3000).fill('dog'), new Array(2000).fill('dog'))).toMatchObject({ matches: 2000, chunks: 1 });
    expect(statisticsOf(new Array(2000).fill('dog'), new Array(3000).fill('dog'))).toMatchObject({ matches: 2000, chunks: 1 });
    expect(statisticsOf(new Array(3000).fill('dogs'), new Array(3000).fill('dog'))).toMatchObject({ matches: 3000, chunks: 1 });
  });

  test('a word of a million letters', () => {
    const endless = 'ya'.repeat(500_000); // where the stemmer takes time by the square of the length
    expect(one(endless, endless)).toBe(1);
    expect(one(`${endless} dogs`, `${endless} dog`)).toBeGreaterThan(0.5);
  });
});
