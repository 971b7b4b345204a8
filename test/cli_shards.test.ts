/** Pictures in tar and Parquet shards by the commands: what comes out is what comes of the same pictures in a folder, bit for bit. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { columnOf, ParquetFile } from '../src/data/parquet.ts';
import { readSafetensors } from '../src/data/safetensors.ts';
import { writeTinyEncoder } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';
import { type Member, tarOf } from './tar_writer.ts';

const folder = temporaryFolder();
const fixture = join(import.meta.dirname, 'parquet', 'snappy.parquet');
const encoder = join(folder, 'encoder.onnx');
const data = (source: string) => join(folder, `${source}.json`);
const store = (source: string) => join(folder, `${source}-features`);
const SOURCES = ['folder', 'tar', 'parquet'] as const;
/** The same pictures for `prepare`, in the same order. */
const PREPARED = {
  folder: ['--table', join(folder, 'captions.csv'), '--images', join(folder, 'images')],
  tar: ['--shards', join(folder, 'tars', 'train-00000.tar'), join(folder, 'tars', '00001.tar')],
  parquet: ['--shards', join(folder, 'parquets')],
};

async function succeed(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await glimpse(...args, '--quiet');
  expect(code, stderr).toBe(0);
  return stdout;
}

beforeAll(async () => {
  writeTinyEncoder(encoder);
  const parquet = ParquetFile.open(fixture);
  const column = (name: string) =>
    parquet.groups.flatMap((_, group) => parquet.read(group, columnOf(parquet, name, ['picture', 'text'])).map(([value]) => value as Uint8Array));
  const [pictures, captions, splits] = [
    column('image'),
    column('caption').map((each) => String(Buffer.from(each))),
    column('split').map((each) => String(Buffer.from(each))),
  ];
  for (const name of ['images', 'tars', 'parquets']) mkdirSync(join(folder, name));
  pictures.forEach((bytes, i) => {
    writeFileSync(join(folder, 'images', `${i}.png`), bytes);
  });
  writeFileSync(join(folder, 'captions.csv'), ['image,caption,split', ...captions.map((caption, i) => `${i}.png,${caption},${splits[i]}`)].join('\n'));
  copyFileSync(fixture, join(folder, 'parquets', 'all.parquet'));
  // Captions as texts and as JSON, splits in the JSON and in the names of the shards.
  const members = (from: number, to: number, inJson: boolean) =>
    Array.from({ length: to - from }, (_, k) => from + k).flatMap((i): Member[] => [
      { name: `${i}.png`, data: pictures[i] },
      inJson ? { name: `${i}.json`, data: JSON.stringify({ caption: captions[i], split: splits[i] }) } : { name: `${i}.txt`, data: `${captions[i]}\n` },
    ]);
  writeFileSync(join(folder, 'tars', 'train-00000.tar'), await tarOf(members(0, 3, false)));
  writeFileSync(join(folder, 'tars', '00001.tar'), await tarOf(members(3, 8, true)));
  for (const source of SOURCES) {
    await succeed('prepare', ...PREPARED[source], '--out', data(source));
    await succeed('features', '--data', data(source), '--encoder', encoder, '--preprocess', 'imagenet', '--batch', '3', '--out', store(source));
  }
});

const images = (source: string) => JSON.parse(readFileSync(data(source), 'utf8')).images as { split: string; captions: string[]; ids: number[][] }[];

test('the datasets differ in nothing but the places of their pictures', () => {
  const plain = (source: string) => images(source).map(({ split, captions, ids }) => ({ split, captions, ids }));
  expect(plain('folder')).toHaveLength(8);
  expect(plain('tar')).toEqual(plain('folder'));
  expect(plain('parquet')).toEqual(plain('folder'));
});

test('features are the same, bit for bit', () => {
  const features = (source: string) => readFileSync(join(store(source), 'features.f32'));
  expect(features('folder').length).toBeGreaterThan(0);
  expect(features('tar').equals(features('folder'))).toBe(true);
  expect(features('parquet').equals(features('folder'))).toBe(true);
});

test('an update trains the same captioner and the same encoder, bit for bit', async () => {
  const weights = async (source: (typeof SOURCES)[number]) => {
    const [out, few] = [join(folder, `${source}-run`), join(folder, `${source}-few.json`)];
    // Two pictures are enough, and encoders train slowly on a software GPU.
    await succeed('prepare', ...PREPARED[source], '--fraction', '0.4', '--out', few);
    const shape = [
      '--batch-images',
      '6',
      '--captions',
      '1',
      '--dropout',
      '0',
      '--epochs',
      '1',
      '--validation',
      '1',
      '--fine-tune',
      'w',
      '--encoder-rate',
      '0.001',
    ];
    await succeed('train', '--data', few, '--features', store(source), ...shape, '--out', out);
    return readSafetensors(join(out, 'checkpoints', 'epoch-001.safetensors')).tensors;
  };
  const expected = await weights('folder');
  expect([...expected.keys()]).toContain('encoder.w');
  for (const source of ['tar', 'parquet'] as const) {
    const found = await weights(source);
    // As bytes: a comparison number by number takes a minute.
    const bytes = ({ data: { buffer, byteOffset, byteLength } }: { data: ArrayBufferView }) => Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
    const differing = [...expected].filter(([name, values]) => !bytes(found.get(name) ?? { data: new Uint8Array() }).equals(bytes(values)));
    expect(
      differing.map(([name]) => name),
      source,
    ).toEqual([]);
  }
}, 600_000);

test('a gallery shows pictures out of shards', async () => {
  const run = join(folder, 'plain-run');
  await succeed('train', '--data', data('tar'), '--features', store('tar'), '--batch-images', '6', '--captions', '1', '--epochs', '1', '--out', run);
  for (const source of ['tar', 'parquet']) {
    const out = join(folder, `${source}-gallery`);
    await succeed('gallery', run, '--data', data(source), '--features', store(source), '--split', 'val', '--out', out);
    const page = readFileSync(join(out, 'index.html'), 'utf8');
    expect(page).toMatch(/<img src="data:image\/jpeg;base64,/);
    expect(page).toContain(source === 'tar' ? '3.png' : '<p class="dim">3;');
  }
});

test('a shard that changed is noticed, and the pictures are counted', async () => {
  const copy = join(folder, 'changing');
  mkdirSync(copy);
  const members = (captions: string[]): Member[] =>
    captions.flatMap((caption, i) => [
      { name: `${i}.txt`, data: caption },
      { name: `${i}.png`, data: readFileSync(join(folder, 'images', `${i}.png`)) },
    ]);
  writeFileSync(join(copy, 'a.tar'), await tarOf(members(['red', 'green', 'blue'])));
  await succeed('prepare', '--shards', copy, '--out', data('changing'));
  const long = 'red '.repeat(200);
  writeFileSync(join(copy, 'a.tar'), await tarOf(members(['red', long, 'blue'])));
  const args = ['features', '--data', data('changing'), '--encoder', encoder, '--preprocess', 'imagenet', '--out', store('changing')];
  const refused = await glimpse(...args);
  expect(refused).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/a\.tar: has changed: "a\.tar\/1\.png" is no longer at byte \d+; run prepare again/),
  });
  const rest = await glimpse(...args, '--skip-bad', '--json');
  expect(rest.code, rest.stderr).toBe(0);
  expect(JSON.parse(rest.stdout)).toMatchObject({ pictures: 1, skipped: ['a.tar/1.png', 'a.tar/2.png'] });
});
