/** `glimpse export`: what comes out says the same captions, in onnxruntime, in glimpse and in the page's loader. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import type { Jobs, RunFiles } from '../site/engine/protocol.ts';
import { FeatureStore } from '../src/data/feature_store.ts';
import { loadImage } from '../src/data/images.ts';
import { preprocessingOf } from '../src/data/preprocessing.ts';
import { readSafetensors, type StoredTensor, writeSafetensors } from '../src/data/safetensors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { packed } from '../src/model/encoder/network.ts';
import { captionerRun, writeTinyEncoder } from './captioner_run.ts';
import { captionsOf, feed, ort, sessionOf, wholes } from './exported.ts';
import { glimpse, temporaryFolder, useGpu } from './support.ts';

const device = useGpu();
const folder = temporaryFolder();
const made = captionerRun(folder);

interface Report {
  out: string;
  format: string;
  files: { name: string; bytes: number }[];
}

let exports = 0;
async function exported(format: string, model: string, ...args: string[]): Promise<Report> {
  const { code, stdout, stderr } = await glimpse('export', model, '--format', format, '--out', join(folder, `${format}${exports++}`), '--json', ...args);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Report;
}

async function captioned(model: string, pictures: readonly string[], ...args: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await glimpse('caption', model, ...pictures, '--json', ...args);
  if (code !== 0) throw new Error(stderr);
  return (JSON.parse(stdout) as { caption: string }[]).map(({ caption }) => caption);
}

const json = <T>(...path: string[]): T => JSON.parse(readFileSync(join(...path), 'utf8')) as T;
const NAMES = ['0.jpg', '1.jpg', '2.jpg', '15.jpg', '16.jpg', '17.jpg'];

/** No path of this machine may go along with a model. */
function expectNoPaths({ out, files }: Report): void {
  for (const { name, bytes } of files) {
    expect(statSync(join(out, name)).size).toBe(bytes);
    expect(readFileSync(join(out, name)).includes(folder), name).toBe(false);
  }
  expect(readdirSync(out).sort()).toEqual(files.map(({ name }) => name).sort());
}

/** The captions of pictures by the ONNX models of a folder. */
async function captionedByOrt(out: string, pictures: readonly string[]): Promise<string[]> {
  const config = json<{ maxLength: number }>(out, 'config.json');
  const { name } = json<{ name: string }>(out, 'preprocessing.json');
  const vocabulary = json<string[]>(out, 'vocabulary.json');
  const preprocessing = preprocessingOf(name);
  const pixels = packed(await Promise.all(pictures.map((each) => loadImage(each, preprocessing))));
  const [encoder, decoder] = await Promise.all(['encoder', 'decoder_greedy'].map((each) => sessionOf([readFileSync(join(out, `${each}.onnx`))])));
  const { features } = await encoder.run({ x: feed(pixels, [pictures.length, 3, preprocessing.size, preprocessing.size]) });
  const { words } = await decoder.run({ features, max_length: wholes([config.maxLength], []) });
  return captionsOf(words).map((ids) => ids.map((id) => vocabulary[id]).join(' '));
}

test('onnx: onnxruntime captions pictures with the words of `glimpse caption`; the encoder can be imported again', async () => {
  const { run, images, data, store } = await made.trained();
  const pictures = NAMES.map((name) => join(images, name));
  const report = await exported('onnx', run);
  expect(report.files.map(({ name }) => name)).toEqual([
    ...['encoder.onnx', 'decoder_start.onnx', 'decoder_step.onnx', 'decoder_greedy.onnx'],
    ...['vocabulary.json', 'preprocessing.json', 'config.json', 'README.md'],
  ]);
  expectNoPaths(report);
  const { out } = report;
  const expected = await captioned(run, pictures);
  expect(new Set(expected).size).toBeGreaterThan(1);
  if (ort) expect(await captionedByOrt(out, pictures)).toEqual(expected);
  expect(json(out, 'preprocessing.json')).toMatchObject({ name: 'imagenet', size: 224, order: 'rgb', divisor: 255, mean: [0.485, 0.456, 0.406] });
  const config = json<{ models: Record<string, { inputs: { name: string }[] }> }>(out, 'config.json');
  expect(config).toMatchObject({
    architecture: { decoder: 'stacked', cell: 'lstm', gate: true },
    specialWords: { pad: 0, unknown: 1, start: 2, end: 3 },
    encoder: { file: 'model.onnx', featureMap: 'y', trainedWeights: null, trainedLayers: [] },
  });
  expect(config.models['decoder_step.onnx'].inputs.map(({ name }) => name)).toEqual(['words', 'values', 'keys', 'h1', 'c1', 'h2', 'c2']);

  const again = join(folder, 'features-again');
  const encoder = join(out, 'encoder.onnx');
  const made2 = await glimpse('features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--out', again, '--skip-bad', '--quiet');
  expect(made2.code, made2.stderr).toBe(0);
  const [before, after] = await Promise.all([store, again].map((path) => FeatureStore.open(path)));
  const files = [...before.files()];
  expect([...after.files()]).toEqual(files);
  expect(after.hashOf(files)).toBe(before.hashOf(files)); // the same features, bit for bit
});

test('the README’s Python captions a picture', async () => {
  const python = process.env.GLIMPSE_PYTHON ?? 'python3';
  try {
    execFileSync(python, ['-c', 'import onnxruntime, PIL, numpy'], { stdio: 'ignore' });
  } catch {
    console.warn(`SKIPPED: the Python of an exported model’s README; ${python} has no onnxruntime, numpy and Pillow (GLIMPSE_PYTHON names another)`);
    return;
  }
  const { run, images } = await made.trained();
  const { out } = await exported('onnx', run);
  const [, code] = /```python\n([\s\S]*?)```/.exec(readFileSync(join(out, 'README.md'), 'utf8')) ?? [];
  copyFileSync(join(images, '15.jpg'), join(out, 'photograph.jpg'));
  const said = execFileSync(python, ['-c', code], { cwd: out, encoding: 'utf8' }).trim();
  expect([said]).toEqual(await captioned(run, [join(images, '15.jpg')]));
});

test('onnx of a model that trained its encoder: the trained weights are in the file', async () => {
  const { images, trainArgs } = await made.features();
  const run = join(folder, 'tuned');
  const train = await glimpse(...trainArgs, '--fine-tune', 'w', '--encoder-rate', '0.01', '--epochs', '4', '--out', run, '--quiet');
  expect(train.code, train.stderr).toBe(0);
  const pictures = NAMES.map((name) => join(images, name));
  const { out } = await exported('onnx', run);
  if (ort) expect(await captionedByOrt(out, pictures)).toEqual(await captioned(run, pictures));
  expect(json(out, 'config.json')).toMatchObject({ encoder: { trainedLayers: ['w'], trainedWeights: expect.stringMatching(/^[0-9a-f]{16}$/) } });
  const tensors = await exported('safetensors', run);
  expect([...readSafetensors(join(tensors.out, 'model.safetensors')).tensors.keys()]).toContain('encoder.w');
  copyFileSync(join(folder, 'encoder', 'model.onnx'), join(tensors.out, 'model.onnx'));
  expect(await captioned(tensors.out, pictures)).toEqual(await captioned(run, pictures));
});

test('safetensors: parameters alone; glimpse takes the folder in place of a run, and trains on from it', async () => {
  const { run, images, encoder, trainArgs } = await made.trained();
  const pictures = NAMES.map((name) => join(images, name));
  const report = await exported('safetensors', run);
  const { out } = report;
  expect(report.files.map(({ name }) => name)).toEqual(['model.safetensors', 'vocabulary.json', 'preprocessing.json', 'config.json', 'README.md']);
  expectNoPaths(report);
  const [ours, theirs] = [join(run, 'checkpoints', 'best.safetensors'), join(out, 'model.safetensors')].map(readSafetensors);
  const weights = [...ours.tensors].filter(([name]) => name.startsWith('weight.'));
  expect([...theirs.tensors.keys()]).toEqual(weights.map(([name]) => name));
  for (const [name, { data, shape }] of weights) {
    const found = theirs.tensors.get(name);
    expect(found?.shape, name).toEqual(shape);
    expect(
      data.every((value, i) => value === found?.data[i]),
      name,
    ).toBe(true);
  }
  expect(theirs.checksums).toBe('right');

  const absent = await glimpse('caption', out, pictures[0]);
  expect(absent).toMatchObject({ code: 1, stderr: expect.stringContaining(`${join(out, 'model.onnx')}: no such file`) });
  const expected = await captioned(run, pictures, '--beam', '3');
  expect(await captioned(out, pictures, '--beam', '3', '--encoder', encoder)).toEqual(expected);
  copyFileSync(encoder, join(out, 'model.onnx'));
  expect(await captioned(out, pictures, '--beam', '3')).toEqual(expected); // it lies beside
  const twice = await exported('safetensors', out);
  expect(readFileSync(join(twice.out, 'model.safetensors')).equals(readFileSync(join(out, 'model.safetensors')))).toBe(true);
  const onward = await glimpse(...trainArgs, '--start', out, '--epochs', '1', '--out', join(folder, 'onward'), '--quiet');
  expect(onward.code, onward.stderr).toBe(0);
});

test('the card tells the scores of the log, and invents none', async () => {
  const { run } = await made.trained();
  const log = readFileSync(join(run, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const card = async (model: string) => readFileSync(join((await exported('safetensors', model)).out, 'README.md'), 'utf8');
  const path = join(run, 'checkpoints', 'epoch-005.safetensors');
  const entry = log.find(({ kind, epoch }) => kind === 'epoch' && epoch === 5);
  const text = await card(path);
  expect(text).toContain(`| loss of the training in epoch 5 | ${entry.trainLoss.toFixed(4)} |`);
  expect(text).toContain(`| CIDEr-D of greedy captions, validation | ${entry.cider.toFixed(4)} |`);
  expect(text).toContain('states its license here');
  const alone = join(folder, 'alone.safetensors');
  copyFileSync(path, alone);
  const without = await card(alone);
  expect(without).toContain('best CIDEr-D of greedy captions in the run until then');
  expect(without).not.toContain('loss of the training');
});

test('web: the page’s own loader takes the files, and `caption` takes the folder', async () => {
  const { run, images, encoder } = await made.trained();
  const pictures = NAMES.map((name) => join(images, name));
  const report = await exported('web', run);
  const { out } = report;
  expect(report.files.map(({ name }) => name)).toEqual(['model.safetensors', 'encoder.onnx', 'README.md']);
  expectNoPaths(report);
  expect(readFileSync(join(out, 'encoder.onnx')).equals(readFileSync(encoder))).toBe(true);
  expect(await captioned(out, pictures)).toEqual(await captioned(run, pictures));

  const packedEncoder = join(folder, 'packed.onnx.gz');
  writeFileSync(packedEncoder, gzipSync(readFileSync(encoder)));
  const zipped = await exported('web', run, '--encoder', packedEncoder);
  expect(zipped.files.map(({ name }) => name)).toContain('encoder.onnx.gz');
  expect(await captioned(zipped.out, pictures)).toEqual(await captioned(run, pictures));

  if (!existsSync(join(import.meta.dirname, '../site/node_modules/pica'))) {
    console.warn('SKIPPED: the loader of the caption page; `npm run site` installs its packages');
    return;
  }
  type LoadRun = (gpu: Gpu, files: RunFiles, context: { tell(progress: { text: string }): void }) => Promise<Jobs['loadRun']['result']>;
  const loader = pathToFileURL(join(import.meta.dirname, '../site/engine/jobs/caption.ts')).href;
  const { loadRun } = (await import(loader)) as { loadRun: LoadRun };
  for (const [path, name] of [
    [out, 'encoder.onnx'],
    [zipped.out, 'encoder.onnx.gz'],
  ]) {
    const [checkpoint, network] = ['model.safetensors', name].map((each) => new Blob([readFileSync(join(path, each))]));
    const files = { checkpoint, encoder: network, names: { checkpoint: 'model.safetensors', encoder: name } };
    const facts = await loadRun(device.gpu, files, { tell: () => {} });
    expect(facts).toMatchObject({ vocabulary: json<string[]>((await exported('safetensors', run)).out, 'vocabulary.json').length, preprocessing: 'imagenet' });
  }
});

test('a folder that is not empty is kept; --force replaces files of the same names', async () => {
  const { run } = await made.trained();
  const out = join(folder, 'taken');
  mkdirSync(out);
  expect((await glimpse('export', run, '--format', 'safetensors', '--out', out)).code).toBe(0); // an empty one is taken
  writeFileSync(join(out, 'notes.txt'), 'mine');
  writeFileSync(join(out, 'config.json'), 'old');
  const refused = await glimpse('export', run, '--format', 'safetensors', '--out', out);
  expect(refused).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('is there already and not empty; name another folder, or write into it with --force'),
  });
  expect(readFileSync(join(out, 'config.json'), 'utf8')).toBe('old');
  const forced = await glimpse('export', run, '--format', 'safetensors', '--out', out, '--force');
  expect(forced).toMatchObject({ code: 0, stdout: expect.stringContaining('stacked as safetensors') });
  expect(json(out, 'config.json')).toMatchObject({ format: 'glimpse model 1' });
  expect(readFileSync(join(out, 'notes.txt'), 'utf8')).toBe('mine');
  expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
});

test('web: an encoder with weights in another file becomes one file, and the words stay the same', async () => {
  const { images, data, trainArgs } = await made.features();
  const [encoder, store, run] = [join(folder, 'apart', 'model.onnx'), join(folder, 'apart features'), join(folder, 'apart run')];
  writeTinyEncoder(encoder, 'weights.data');
  const features = await glimpse('features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--out', store, '--skip-bad', '--quiet');
  expect(features).toMatchObject({ code: 0 });
  expect(await glimpse(...trainArgs, '--features', store, '--out', run, '--epochs', '2', '--quiet')).toMatchObject({ code: 0 });
  const pictures = NAMES.map((name) => join(images, name));
  const report = await exported('web', run);
  expect(report.files.map(({ name }) => name)).toEqual(['model.safetensors', 'encoder.onnx', 'README.md']);
  expectNoPaths(report);
  expect(await captioned(report.out, pictures)).toEqual(await captioned(run, pictures));
});

test('what is refused', async () => {
  const { run, images } = await made.trained();
  const attempt = (...args: string[]) => glimpse('export', run, '--out', join(folder, 'refused'), ...args);
  expect(await attempt('--format', 'tfjs')).toMatchObject({ code: 2, stderr: expect.stringContaining('--format takes onnx, safetensors or web, got "tfjs"') });
  expect(await attempt('--format', 'safetensors', '--encoder', 'x.onnx')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--encoder belongs to --format onnx or web: safetensors hold the captioner alone'),
  });
  const other = join(folder, 'other.onnx');
  writeFileSync(other, 'no model');
  expect(await attempt('--format', 'onnx', '--encoder', other)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('is not the encoder this model was trained with'),
  });
  expect(await attempt('--format', 'web', '--encoder', join(folder, 'none.onnx'))).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('none.onnx: no such file'),
  });
  const file = join(images, '0.jpg');
  expect(await glimpse('export', run, '--format', 'web', '--out', file, '--force')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('is a file; a folder is expected'),
  });
  expect(await glimpse('export', images, '--format', 'web', '--out', join(folder, 'refused'))).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('holds no checkpoint'),
  });
  const { metadata, tensors } = readSafetensors(join(run, 'checkpoints', 'best.safetensors'));
  const damaged = join(folder, 'damaged.safetensors');
  for (const [shape, message] of [
    [[512 * 512], '"w2" is [262144] in the weights, [512,512] in this configuration'],
    [null, 'the weights have no "w2"'],
  ] as const) {
    const all = new Map(tensors);
    if (shape) all.set('weight.w2', { ...(tensors.get('weight.w2') as StoredTensor), shape });
    else all.delete('weight.w2');
    writeSafetensors(damaged, all, metadata);
    for (const format of ['onnx', 'safetensors']) {
      const args = ['--format', format, '--out', join(folder, 'refused')];
      expect(await glimpse('export', damaged, ...args)).toMatchObject({ code: 1, stderr: expect.stringContaining(message) });
    }
  }
  expect(existsSync(join(folder, 'refused'))).toBe(false);
});
