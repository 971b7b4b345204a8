/** The commands that caption, score and show what a model says. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { captionerRun } from './captioner_run.ts';
import { node, writeOnnx } from './onnx_writer.ts';
import { glimpse, shownByBrowser, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test('eval: greedy and beam, scored, COCO results written', async () => {
  const { data, store, run } = await made.trained();
  const out = join(folder, 'results.json');
  const documents = join(folder, 'documents.json');
  writeFileSync(documents, JSON.stringify({ annotations: ['a square', 'a circle'].map((caption, image_id) => ({ image_id, caption })) }));
  for (const [beam, split, images, missing] of [
    ['1', 'val', 3, 0],
    ['3', 'train', 14, 1], // one is damaged and has no features
  ] as const) {
    const args = ['eval', run, '--data', data, '--features', store, '--split', split, '--beam', beam, '--document-frequencies', documents];
    args.push('--out', out, '--bootstrap', '20', '--json');
    const { code, stdout, stderr } = await glimpse(...args);
    expect(stderr).not.toMatch(/unexpected/);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ images, split, withoutFeatures: { count: missing }, decoding: { beam: Number(beam) } });
    expect(report.documentFrequencies).toEqual({ collection: documents, images: 2 });
    expect(report.Bleu_1).toBeGreaterThan(0.3);
    expect(JSON.parse(readFileSync(out, 'utf8'))).toHaveLength(images);
  }
});

test('gallery: a page that a browser shows, with a map per word', async () => {
  const { images, data, store, run } = await made.trained();
  const out = join(folder, 'gallery');
  const args = ['gallery', run, '--data', data, '--features', store, '--split', 'train', '--count', '2', '--out', out];
  const { code, stdout } = await glimpse(...args, '--json');
  expect(code).toBe(0);
  const report = JSON.parse(stdout);
  expect(report.pictures).toHaveLength(14); // one is damaged and has no features
  for (const { attention } of report.pictures) expect(attention).toMatchObject({ entropy: expect.any(Number), dead: expect.any(Boolean) });
  const page = readFileSync(join(out, 'index.html'), 'utf8');
  expect(page).toMatch(/The best by CIDEr-D.*At random.*The worst by CIDEr-D/s);
  expect(page).not.toMatch(/(src|href)="(?!data:)/); // self-contained
  const sheets = readdirSync(out).filter((name) => name.endsWith('.png'));
  expect(sheets.length).toBe(6);
  for (const name of sheets) expect((await sharp(join(out, name)).metadata()).format).toBe('png');
  const files = ['15.jpg', '16.jpg'].map((name) => join(images, name));
  const named = await glimpse('gallery', run, ...files, '--references', join(folder, 'coco.json'), '--out', join(folder, 'named'), '--groups', '3', '--json');
  expect(JSON.parse(named.stdout).pictures.map(({ scores }: { scores: unknown }) => scores)).not.toContain(null);
  expect(await glimpse('gallery', run, '--out', out)).toMatchObject({ code: 2 });
  await shownByBrowser(join(out, 'index.html'), folder);
});

test('caption by beam search and by drawing', async () => {
  const { images, run } = await made.trained();
  const picture = join(images, '15.jpg');
  const [beam] = JSON.parse((await glimpse('caption', run, picture, '--beam', '4', '--json')).stdout);
  expect(beam.caption.length).toBeGreaterThan(0);
  const draw = async (seed: string) => JSON.parse((await glimpse('caption', run, picture, '--sample', '--seed', seed, '--json')).stdout)[0];
  expect(await draw('3')).toEqual(await draw('3'));
  expect(await glimpse('caption', run, picture, '--sample', '--beam', '2')).toMatchObject({ code: 2 });
});

test('caption', async () => {
  const { images, run } = await made.trained();
  const pictures = ['15.jpg', '16.jpg', '17.jpg'].map((name) => join(images, name));
  const { code, stdout } = await glimpse('caption', run, ...pictures, '--json');
  expect(code).toBe(0);
  const captions = JSON.parse(stdout);
  expect(captions.map(({ image }: { image: string }) => image)).toEqual(pictures);
  for (const { caption, tokens, logProb } of captions) {
    expect(caption).toBe(tokens.join(' '));
    expect(logProb).toBeLessThanOrEqual(0);
    expect(tokens).not.toContain('startseq');
  }
  const bad = await glimpse('caption', run, join(images, '9.jpg'));
  expect(bad.code).toBe(1);
  const whole = await glimpse('caption', run, images, '--skip-bad', '--batch', '5', '--json');
  expect(JSON.parse(whole.stdout)).toHaveLength(17);
  expect(whole.stderr).toMatch(/17 pictures in .* pictures\/s/);
  expect(bad.stderr).toMatch(/9\.jpg: cannot be read as a picture/);
  writeOnnx(join(folder, 'other', 'model.onnx'), { nodes: [node('Relu', ['x'], ['y'])], inputs: [{ name: 'x', shape: [1] }], outputs: ['y'] });
  const wrong = await glimpse('caption', run, pictures[0], '--encoder', join(folder, 'other', 'model.onnx'));
  expect(wrong.code).toBe(1);
  expect(wrong.stderr).toMatch(/model\.onnx/);
});
