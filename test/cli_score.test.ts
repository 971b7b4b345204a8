/** `glimpse score`: COCO’s files in, every score out. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
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
