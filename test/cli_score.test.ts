/** `glimpse score`: COCO’s files in, every score out. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fixture, hasFixtures } from './coco_caption.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

test.skipIf(!hasFixtures)('glimpse score reads and prints COCO’s formats', async () => {
  const { references, candidates, corpus } = fixture('coco200_scores.json');
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
  expect(readdirSync(folder).sort()).toEqual(['candidates.json', 'references.json']); // and nothing was written
});

describe('what the report tells, as text and as JSON', () => {
  const files = (references: Record<string, string[]>, candidates: Record<string, string>, collection: Record<string, string[]>) => {
    const annotations = (of: Record<string, string[]>) => ({
      annotations: Object.entries(of).flatMap(([image_id, texts]) => texts.map((caption) => ({ image_id, caption }))),
    });
    const contents = {
      r: annotations(references),
      c: Object.entries(candidates).map(([image_id, caption]) => ({ image_id, caption })),
      d: annotations(collection),
    };
    for (const [name, content] of Object.entries(contents)) writeFileSync(join(folder, `${name}.json`), JSON.stringify(content));
    return ['score', '--references', join(folder, 'r.json'), '--candidates', join(folder, 'c.json'), '--bootstrap', '0'];
  };
  const both = async (args: string[]) => {
    const [text, json] = [await glimpse(...args), await glimpse(...args, '--json')];
    expect([text.code, json.code]).toEqual([0, 0]);
    return { text: text.stdout, report: JSON.parse(json.stdout) };
  };

  test('one picture: CIDEr-D is 0, and why; with document frequencies of another file it is not', async () => {
    const args = files({ 1: ['a man rides a wave'] }, { 1: 'a man rides a wave' }, { 7: ['a man sits'], 8: ['two dogs', 'dogs'], 9: ['a cat'] });
    const alone = await both(args);
    expect(alone.text).toContain('document frequencies of 1 picture: CIDEr-D is 0 by definition');
    expect(alone.text).toContain('--document-frequencies takes those of another');
    expect(alone.report).toMatchObject({ CIDEr: 0, notes: [expect.stringContaining('0 by definition')], documentFrequencies: { collection: null, images: 1 } });
    const other = join(folder, 'd.json');
    const beside = await both([...args, '--document-frequencies', other]);
    expect(beside.text).toContain(`CIDEr-D by the document frequencies of ${other}: 3 pictures`);
    expect(beside.text).not.toContain('by definition');
    expect(beside.report.CIDEr).toBeCloseTo(10, 9);
    expect(beside.report).toMatchObject({ notes: [], documentFrequencies: { collection: other, images: 3 } });
    writeFileSync(other, JSON.stringify({ annotations: [] }));
    expect(await glimpse(...args, '--document-frequencies', other)).toMatchObject({ code: 1, stderr: expect.stringContaining('d.json has no captions') });
  });

  test('pictures without a caption, and captions without a word', async () => {
    const { text, report } = await both(files({ 1: ['a dog'], 2: ['a cat'], 3: ['two birds'] }, { 1: 'a dog', 2: '...' }, {}));
    expect(text).toContain('without a caption, so not counted: 1 of 3 pictures (3)');
    expect(text).toContain('caption without a word: 1 of 2 pictures (2)');
    expect(report).toMatchObject({
      withoutCandidate: { count: 1, examples: ['3'] },
      emptyCandidates: { count: 1, examples: ['2'] },
      emptyReferences: { count: 0 },
    });
  });

  test('captions without a reference are refused with their number, long ones with their picture', async () => {
    expect(await glimpse(...files({ 1: ['a'] }, { 1: 'a', 8: 'b', 9: 'c' }, {}))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/2 of 3 \(picture 8, picture 9\)/),
    });
    expect(await glimpse(...files({ 1: ['a'] }, { 1: 'a '.repeat(40_000) }, {}))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('the caption of picture 1: a caption has at most 10,000 words, got 40,000'),
    });
  });
});
