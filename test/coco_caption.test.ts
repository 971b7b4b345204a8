/** All scores against fixtures of coco-caption. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bleu, bleuOf } from '../src/metrics/bleu.ts';
import { METEOR_FUNCTION_WORDS } from '../src/metrics/meteor.ts';
import { captionTokens, ptbTokens } from '../src/metrics/ptb.ts';
import { rougeL } from '../src/metrics/rouge.ts';
import { scoreCaptions } from '../src/metrics/score.ts';
import { WordNet } from '../src/metrics/wordnet.ts';
import { dataFolder, glimpse, temporaryFolder } from './support.ts';

const root = dataFolder('the fixtures of coco-caption');

const data = root && join(root, 'metrics');

const read = (name: string) => JSON.parse(readFileSync(join(data as string, name), 'utf8'));

const folder = temporaryFolder();

const wordNet = WordNet.installed();

describe.skipIf(!data)('fixtures of coco-caption', () => {
  test('the tokenizer, on 2,500 captions', () => {
    const list: { caption: string; ptb: string }[] = read('ptb_tokens.json');
    const wrong = list.filter(({ caption, ptb }) => captionTokens(caption).join(' ') !== ptb);
    expect(wrong.length).toBeLessThanOrEqual(list.length / 1000);
    for (const { text, raw, tokens } of read('small.json').ptb) {
      expect(captionTokens(text).join(' '), text).toBe(tokens);
      expect(ptbTokens(text).join(' '), text).toBe(raw);
    }
  });

  test('200 pictures, from plain captions to every score', () => {
    const { references, candidates, corpus, per_image } = read('coco200_scores.json');
    const byImage = new Map<number, string[]>();
    for (const { image_id, caption } of references.annotations) byImage.set(image_id, [...(byImage.get(image_id) ?? []), caption]);
    const list = candidates.map((c: { image_id: number; caption: string }) => ({ ...c, references: byImage.get(c.image_id) as string[] }));
    const scores = scoreCaptions(list, { bootstrap: 50 });
    for (const name of ['Bleu_1', 'Bleu_2', 'Bleu_3', 'Bleu_4', 'ROUGE_L', 'CIDEr'] as const) {
      expect(Math.abs(scores[name] - corpus[name]), name).toBeLessThan(1e-6);
      const [low, high] = scores.intervals[name];
      expect(low).toBeLessThan(corpus[name]);
      expect(high).toBeGreaterThan(corpus[name]);
    }
    scores.perImage.forEach((row, i) => {
      for (let n = 0; n < 4; n++) expect(Math.abs(row[`Bleu_${(n + 1) as 1 | 2 | 3 | 4}`] - per_image.Bleu[n][i])).toBeLessThan(1e-6);
      expect(Math.abs(row.ROUGE_L - per_image.ROUGE_L[i])).toBeLessThan(1e-6);
      expect(Math.abs(row.CIDEr - per_image.CIDEr[i])).toBeLessThan(1e-6);
    });
    if (!wordNet) return console.warn('SKIPPED: METEOR against its fixture needs WordNet (npm run wordnet)');
    expect(scores.meteorModules).toEqual(['exact', 'stem', 'synonym']);
    expect(Math.abs(scores.METEOR - corpus.METEOR)).toBeLessThan(5e-4);
    const off = scores.perImage.filter(({ METEOR }, i) => Math.abs(METEOR - per_image.METEOR[i]) > 1e-4);
    expect(off.length).toBeLessThanOrEqual(0.02 * list.length);
  });

  test.runIf(data && existsSync(join(root as string, 'meteor')))('METEOR counts the same words as function words', () => {
    const theirs = readFileSync(join(root as string, 'meteor', 'english.words'), 'utf8')
      .split('\n')
      .filter(Boolean);
    expect(theirs.filter((word) => /^\p{L}+$/u.test(word) && !METEOR_FUNCTION_WORDS.has(word))).toEqual([]);
    expect([...METEOR_FUNCTION_WORDS].filter((word) => /^\p{L}+$/u.test(word) && !theirs.includes(word))).toEqual([]);
  });

  test('glimpse score reads and prints COCO’s formats', async () => {
    const { references, candidates, corpus } = read('coco200_scores.json');
    const [r, c] = [join(folder, 'references.json'), join(folder, 'candidates.json')];
    writeFileSync(r, JSON.stringify(references));
    writeFileSync(c, JSON.stringify(candidates));
    const { code, stdout } = await glimpse('score', '--references', r, '--candidates', c, '--bootstrap', '0', '--json');
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report.Bleu_4).toBeCloseTo(corpus.Bleu_4, 6);
    expect(report).toMatchObject({ images: 200, tokenizer: expect.any(String), meteorModules: expect.arrayContaining(['exact', 'stem']) });
    expect(report.perImage[0].image_id).toBe(candidates[0].image_id);
    writeFileSync(c, JSON.stringify([...candidates, { image_id: -1, caption: 'x' }]));
    expect(await glimpse('score', '--references', r, '--candidates', c)).toMatchObject({ code: 1, stderr: expect.stringContaining('picture -1') });
    writeFileSync(c, JSON.stringify([candidates[0], candidates[0]]));
    expect(await glimpse('score', '--references', r, '--candidates', c)).toMatchObject({ code: 1, stderr: expect.stringContaining('two captions') });
    writeFileSync(c, '{');
    expect(await glimpse('score', '--references', r, '--candidates', c)).toMatchObject({ code: 1, stderr: expect.stringContaining('candidates.json') });
    expect(existsSync(join(folder, 'nothing'))).toBe(false);
  });
});

test('a corpus is the sum of its pictures, in any order', () => {
  const sentence = fc.array(fc.constantFrom('a', 'b', 'c', 'dog', 'runs'), { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(fc.array(fc.tuple(sentence, fc.array(sentence, { minLength: 1, maxLength: 4 })), { minLength: 1, maxLength: 6 }), (pairs) => {
      const candidates = pairs.map(([candidate]) => candidate);
      const references = pairs.map(([, list]) => list);
      const { corpus, statistics } = bleu(candidates, references);
      bleuOf([...statistics].reverse()).forEach((value, n) => {
        expect(value).toBeCloseTo(corpus[n], 12);
      });
      const same = bleu(
        references.map(([first]) => first),
        references,
      );
      expect(same.corpus[0]).toBeCloseTo(1, 6);
      expect(
        rougeL(
          references.map(([first]) => first),
          references,
        ).mean,
      ).toBeCloseTo(1, 12);
    }),
  );
});
