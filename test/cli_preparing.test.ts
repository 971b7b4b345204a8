/** The commands that prepare training: datasets, features, shards of them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test('prepare', async () => {
  const { images, data } = await made.pictures();
  const { code, stdout } = await glimpse('prepare', '--coco-train', join(folder, 'coco.json'), '--images', images, '--out', data, '--json');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    images: { train: 15, val: 3, test: 0 },
    captions: 36,
    vocabulary: 11,
    unknownRate: { train: 0, val: 0 },
    unreadable: [],
    withoutMention: { count: 0 },
  });
  expect(JSON.parse(readFileSync(data, 'utf8')).images[3]).toMatchObject({ file: '3.jpg', id: '3' });
});

test('prepare tells what it drops and decides, in text and JSON', async () => {
  const { images } = await made.pictures();
  const table = join(folder, 'own.csv');
  const rows = ['Image;Caption', '0.jpg;startseq a red picture endseq', '0.jpg;…', '1.jpg;green', '2.jpg;blu\u0001e'];
  writeFileSync(table, `\uFEFF${rows.join('\r\n')}\r\n`);
  const args = ['prepare', '--table', table, '--images', images, '--out', join(folder, 'own.json')];
  const { code, stdout, stderr } = await glimpse(...args);
  expect(code).toBe(0);
  expect(stderr).toMatch(/own\.csv: separated by semicolons; image from the column "Image", caption from the column "Caption"/);
  expect(stdout).toMatch(/1 captions have no word by the ascii rule \(0\.jpg: "…"\)/);
  expect(stdout).toMatch(/1 captions had a frame .*\(0\.jpg: "a red picture"\)/);
  expect(stdout).toMatch(/1 captions had control characters/);
  expect(stdout).toMatch(/15 files beside the pictures are named by no caption \(/);
  expect(JSON.parse((await glimpse(...args, '--json')).stdout)).toMatchObject({
    ...{ withoutWords: { count: 1 }, framed: { count: 1 }, withControls: { count: 1 }, withoutMention: { count: 15 } },
    table: { separator: ';', columns: { image: 'Image', caption: 'Caption' } },
  });
  const coco = join(folder, 'coco.json');
  const twice = await glimpse('prepare', '--coco-train', coco, '--coco-val', coco, '--images', images, '--out', join(folder, 'no.json'));
  expect(twice).toMatchObject({ code: 1, stderr: expect.stringMatching(/"0\.jpg" is in two splits|"0\.jpg" is listed twice/) });
  expect(await glimpse(...args, '--columns', 'photo')).toMatchObject({ code: 2, stderr: expect.stringContaining('--columns takes image=NAME') });
  expect(await glimpse(...args, '--encoding', 'klingon')).toMatchObject({ code: 2, stderr: expect.stringContaining('windows-1252') });
});

test('features: the preprocessing must be said, a bad picture stops it, --skip-bad goes on from there', async () => {
  const { images, data, encoder } = await made.dataset();
  const args = ['features', '--data', data, '--encoder', encoder, '--out', join(folder, 'own features'), '--batch', '4'];
  const unsaid = await glimpse(...args);
  expect(unsaid.code).toBe(2);
  expect(unsaid.stderr).toMatch(/say how its pixels are prepared with --preprocess/);
  writeFileSync(join(images, '9.jpg'), readFileSync(join(images, '9.jpg')).subarray(0, 200));
  const stopped = await glimpse(...args, '--preprocess', 'imagenet');
  expect(stopped.code).toBe(1);
  expect(stopped.stderr).toMatch(/9\.jpg: cannot be read as a picture.*[\s\S]*--skip-bad/);
  const finished = await glimpse(...args, '--preprocess', 'imagenet', '--skip-bad', '--json');
  expect(finished.code).toBe(0);
  expect(finished.stderr).toMatch(/going on: 8 pictures are already done/);
  expect(JSON.parse(finished.stdout)).toMatchObject({ pictures: 17, regions: 49, width: 8, skipped: ['9.jpg'] });
});

test('shards of a finer grid in half precision, merged', async () => {
  const { images, data, encoder } = await made.features();
  const shards = ['1/2', '2/2'].map((shard) => ({ shard, out: join(folder, `shard${shard[0]}`) }));
  for (const { shard, out } of shards) {
    const args = ['features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--skip-bad', '--grid', '9', '--precision', 'f16'];
    expect((await glimpse(...args, '--shard', shard, '--out', out, '--quiet')).code).toBe(0);
    expect(await glimpse(...args, '--shard', '3/2', '--out', out)).toMatchObject({ code: 2, stderr: expect.stringContaining('--shard') });
  }
  const merged = await glimpse('merge', join(folder, 'merged'), ...shards.map(({ out }) => out), '--json');
  expect(JSON.parse(merged.stdout)).toMatchObject({ pictures: 17, regions: 81, width: 8, type: 'f16' });
  const small = ['--data', data, '--features', join(folder, 'merged'), '--batch-images', '5', '--captions', '2', '--epochs', '1'];
  expect((await glimpse('train', ...small, '--out', join(folder, 'fine'), '--quiet')).code).toBe(0);
  const [caption] = JSON.parse((await glimpse('caption', join(folder, 'fine'), join(images, '15.jpg'), '--json')).stdout);
  expect(caption.caption).toEqual(expect.any(String)); // pictures are encoded at the size that the model was trained with
});
