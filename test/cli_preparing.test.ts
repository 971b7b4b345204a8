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
  });
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
    const args = ['features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--skip-bad', '--grid', '14', '--precision', 'f16'];
    expect((await glimpse(...args, '--shard', shard, '--out', out, '--quiet')).code).toBe(0);
    expect(await glimpse(...args, '--shard', '3/2', '--out', out)).toMatchObject({ code: 2, stderr: expect.stringContaining('--shard') });
  }
  const merged = await glimpse('merge', join(folder, 'merged'), ...shards.map(({ out }) => out), '--json');
  expect(JSON.parse(merged.stdout)).toMatchObject({ pictures: 17, regions: 196, width: 8, type: 'f16' });
  const small = ['--data', data, '--features', join(folder, 'merged'), '--batch-images', '5', '--captions', '2', '--epochs', '1'];
  expect((await glimpse('train', ...small, '--out', join(folder, 'fine'), '--quiet')).code).toBe(0);
  const [caption] = JSON.parse((await glimpse('caption', join(folder, 'fine'), join(images, '15.jpg'), '--json')).stdout);
  expect(caption.caption).toEqual(expect.any(String)); // pictures are encoded at the size that the model was trained with
});
