/** The commands that caption, score and show what a model says. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { node, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { readSafetensors, writeSafetensors } from '../src/data/safetensors.ts';
import { averaged } from '../src/model/training/average.ts';
import { loadCheckpoint, resolveCheckpoint } from '../src/model/training/checkpoint.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, shownByBrowser, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test('eval: greedy and beam, scored, COCO results written', async () => {
  const { data, store, run } = await made.trained();
  const out = join(folder, 'results.json');
  for (const beam of ['1', '3']) {
    const args = ['eval', run, '--data', data, '--features', store, '--beam', beam, '--out', out, '--bootstrap', '20', '--json'];
    const { code, stdout, stderr } = await glimpse(...args);
    expect(stderr).not.toMatch(/unexpected/);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ images: 3, split: 'val', decoding: { beam: Number(beam) } });
    expect(report.Bleu_1).toBeGreaterThan(0.3);
    expect(JSON.parse(readFileSync(out, 'utf8')).map(({ image_id }: { image_id: unknown }) => image_id)).toEqual([15, 16, 17]); // as its source has them
    expect(report.perImage.map(({ image_id }: { image_id: unknown }) => image_id)).toEqual([15, 16, 17]);
    expect(report.withoutFeatures).toEqual({ count: 0, examples: [] });
    const scored = await glimpse('score', '--references', join(folder, 'coco.json'), '--candidates', out, '--bootstrap', '0', '--json');
    expect(scored.code).toBe(0);
    const again = JSON.parse(scored.stdout);
    for (const name of ['Bleu_4', 'METEOR', 'CIDEr']) expect(again[name]).toBeCloseTo(report[name], 10);
    expect(again.withoutCandidate.count).toBe(15);
  }
  const documents = ['--document-frequencies', join(folder, 'coco.json')];
  const train = await glimpse('eval', run, '--data', data, '--features', store, '--split', 'train', '--beam', '1', '--bootstrap', '0', '--json', ...documents);
  expect(JSON.parse(train.stdout)).toMatchObject({
    documentFrequencies: { collection: documents[1], images: 18 },
    images: 14,
    withoutFeatures: { count: 1, examples: ['9.jpg'] },
  });
});

test('average: a model of means, which eval and caption take', async () => {
  const { images, data, store, run } = await made.trained();
  const checkpoints = join(run, 'checkpoints');
  const paths = readdirSync(checkpoints)
    .filter((name) => name.startsWith('epoch-'))
    .map((name) => join(checkpoints, name));
  expect(paths.length).toBeGreaterThan(1);
  const out = join(folder, 'mean.safetensors');
  expect(await glimpse('average', out, ...paths, '--json')).toMatchObject({ code: 0, stdout: expect.stringContaining('"models"') });
  const loaded = paths.map((path) => loadCheckpoint(path));
  const mean = loadCheckpoint(out);
  expect(mean.moments.size).toBe(0);
  expect([...mean.weights.keys()]).toEqual([...loaded[0].weights.keys()]);
  for (const [name, { data: values }] of mean.weights)
    for (let i = 0; i < values.length; i += 7) {
      const each = loaded.map(({ weights }) => (weights.get(name) as { data: Float32Array }).data[i]);
      expect(values[i]).toBe(Math.fround(each.reduce((sum, value) => sum + value, 0) / each.length));
    }
  const both = await glimpse('eval', out, run, '--data', data, '--features', store, '--bootstrap', '0', '--json');
  expect(JSON.parse(both.stdout)).toMatchObject({ images: 3, decoding: { models: [out, run] } });
  expect(await glimpse('caption', out, join(images, '15.jpg'), '--json')).toMatchObject({ code: 0 });
  expect(await glimpse('average', out, ...paths)).toMatchObject({ code: 2, stderr: expect.stringContaining('is there already') });
  expect(await glimpse('average', join(folder, 'mean'), ...paths)).toMatchObject({ code: 2, stderr: expect.stringContaining('ends in .safetensors') });
  const alone = join(folder, 'alone.safetensors');
  expect(await glimpse('average', alone, run)).toMatchObject({ code: 1, stderr: expect.stringContaining('two models at least, got 1') });
  expect(existsSync(alone)).toBe(false);
});

test('models that are built in different ways have no mean', async () => {
  const { run } = await made.trained();
  const own = () => structuredClone(loadCheckpoint(join(run, 'checkpoints', 'best.safetensors')));
  const changed = (change: (model: ReturnType<typeof own>) => void) => {
    const model = own();
    change(model);
    return () => averaged([own(), own(), model]);
  };
  expect(
    changed((model) => {
      model.config.options.score = 'relu';
    }),
  ).toThrow('models 1 and 3 have no mean: score is tanh and relu');
  expect(
    changed((model) => {
      model.vocabulary = model.vocabulary.toReversed();
    }),
  ).toThrow('models 1 and 3 have no mean: their words differ');
  expect(
    changed((model) => {
      model.encoder.preprocessing = 'caffe';
    }),
  ).toThrow(/models 1 and 3 have no mean: encoder\.preprocessing/);
  expect(
    changed((model) => {
      model.weights.delete('v');
    }),
  ).toThrow('models 1 and 3 have no mean: their weights have other names or shapes');
  // Regularization belongs to training: the mean of a run with and one without it is a model.
  expect(
    changed((model) => {
      model.config.options.dropout = 0.125;
    })().config.options.dropout,
  ).toBe(0.125);
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

test('gallery: references by the longest path, bad pictures left out when that is asked', async () => {
  const { images, run } = await made.trained();
  const pair = ['train', 'val'].map((name) => join(folder, 'two', name, 'p.jpg'));
  for (const [i, path] of pair.entries()) {
    mkdirSync(dirname(path), { recursive: true });
    copyFileSync(join(images, `${15 + i}.jpg`), path);
  }
  const listed = [
    { id: 1, file_name: 'train/p.jpg' },
    { id: 2, file_name: 'val/p.jpg' },
  ];
  const references = join(folder, 'two.json');
  const annotations = listed.map(({ id, file_name }) => ({ image_id: id, caption: `caption of ${file_name}` }));
  writeFileSync(references, JSON.stringify({ images: listed, annotations }));
  const out = join(folder, 'joined');
  const bad = join(folder, 'bad.jpg');
  writeFileSync(bad, 'no picture');
  expect(await glimpse('gallery', run, ...pair, bad, '--out', out)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/bad\.jpg: cannot be read.*\n {2}.*--skip-bad/),
  });
  const { code, stdout, stderr } = await glimpse('gallery', run, ...pair, bad, '--references', references, '--skip-bad', '--out', out, '--json');
  expect({ code, stderr }).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/left out: 1 file: .*bad\.jpg: cannot be read as a picture: it is no picture/),
  });
  expect(JSON.parse(stdout)).toMatchObject({ pictures: [{ image: pair[0] }, { image: pair[1] }], leftOut: { count: 1 } });
  const page = readFileSync(join(out, 'index.html'), 'utf8');
  for (const { file_name } of listed) expect(page.match(new RegExp(`caption of ${file_name}`, 'g'))).toHaveLength(1);
  const undecided = await glimpse('gallery', run, join(images, '15.jpg'), pair[0], '--references', writeOne('p.jpg'), '--out', out);
  expect(undecided.code).toBe(0);
  const two = await glimpse('gallery', run, ...pair, '--references', writeOne('p.jpg'), '--out', out);
  expect(two).toMatchObject({ code: 1, stderr: expect.stringMatching(/references of "p\.jpg" may belong to ".*train\/p\.jpg" or to ".*val\/p\.jpg"/) });
});

/** References of one picture. */
function writeOne(file_name: string): string {
  const path = join(folder, 'one.json');
  writeFileSync(path, JSON.stringify({ images: [{ id: 1, file_name }], annotations: [{ image_id: 1, caption: 'x' }] }));
  return path;
}

test('a word with control characters breaks neither page, nor picture, nor terminal', async () => {
  const { images, run } = await made.trained();
  const { metadata, tensors } = readSafetensors(resolveCheckpoint(run));
  const words: string[] = JSON.parse(metadata.vocabulary).map((word: string, id: number) => (id < 4 ? word : `\u0001${word}\u001b[31m\n`));
  const evil = join(folder, 'evil.safetensors');
  writeSafetensors(evil, tensors, { ...metadata, vocabulary: JSON.stringify(words) });
  const picture = join(images, '15.jpg');
  const out = join(folder, 'evil');
  const shown = await glimpse('gallery', evil, picture, '--min-length', '4', '--out', out, '--json');
  expect(shown).toMatchObject({ code: 0 });
  expect(JSON.parse(shown.stdout).pictures[0].caption).toContain('\u0001');
  const page = readFileSync(join(out, 'index.html'), 'utf8');
  expect(page).toContain('\ufffd');
  for (const control of ['\u0001', '\u001b']) expect(page).not.toContain(control);
  const text = await glimpse('caption', evil, picture, '--min-length', '4');
  expect(text.code).toBe(0);
  expect(text.stdout.split('\n')).toHaveLength(2); // one line, and its end
  for (const control of ['\u0001', '\u001b']) expect(text.stdout + text.stderr).not.toContain(control);
  const json = await glimpse('caption', evil, picture, '--min-length', '4', '--json');
  const [word] = JSON.parse(json.stdout)[0].tokens;
  expect([word[0], word.slice(-6)]).toEqual(['\u0001', '\u001b[31m\n']);
});

test('caption: a folder tells what it leaves out, and one bad picture ends nothing when that is asked', async () => {
  const { images, run } = await made.trained();
  const mixed = join(folder, 'mixed');
  mkdirSync(mixed);
  for (const [from, to] of [
    ['15.jpg', 'a.jpg'],
    ['16.jpg', 'd'],
  ])
    copyFileSync(join(images, from), join(mixed, to));
  writeFileSync(join(mixed, 'b.heic'), Buffer.concat([Buffer.from([0, 0, 0, 24]), Buffer.from('ftypheic'), Buffer.alloc(40)]));
  writeFileSync(join(mixed, 'z.jpg'), 'no picture');
  expect(await glimpse('caption', run, mixed)).toMatchObject({ code: 1, stderr: expect.stringMatching(/z\.jpg: cannot be read.*\n {2}.*--skip-bad/) });
  const { code, stdout, stderr } = await glimpse('caption', run, mixed, '--skip-bad', '--json');
  expect(code).toBe(0);
  expect(stderr).toMatch(/left out: 2 files: .*b\.heic: HEIC cannot be decoded here; convert it.*z\.jpg: cannot be read/);
  expect(JSON.parse(stdout)).toMatchObject([
    { image: join(mixed, 'a.jpg'), caption: expect.any(String) },
    { image: join(mixed, 'd'), caption: expect.any(String) },
    { image: join(mixed, 'b.heic'), leftOut: expect.stringContaining('HEIC') },
    { image: join(mixed, 'z.jpg'), leftOut: expect.stringContaining('cannot be read') },
  ]);
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
  expect(JSON.parse(whole.stdout).filter(({ caption }: { caption?: string }) => caption !== undefined)).toHaveLength(17);
  expect(whole.stderr).toMatch(/17 pictures in .* pictures\/s/);
  expect(bad.stderr).toMatch(/9\.jpg: cannot be read as a picture/);
  writeOnnx(join(folder, 'other', 'model.onnx'), { nodes: [node('Relu', ['x'], ['y'])], inputs: [{ name: 'x', shape: [1] }], outputs: ['y'] });
  const wrong = await glimpse('caption', run, pictures[0], '--encoder', join(folder, 'other', 'model.onnx'));
  expect(wrong.code).toBe(1);
  expect(wrong.stderr).toMatch(/model\.onnx/);
});
