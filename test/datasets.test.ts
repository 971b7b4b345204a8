/** Prepared datasets: splits, what is left out, what is refused. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { assignSplits, prepareDataset, readDataset } from '../src/data/captions.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();

test('splits by seed: shares as asked, the same whatever the order, other splits untouched', () => {
  const open = Array.from({ length: 50 }, (_, i) => ({ file: `${i}.jpg`, split: i === 0 ? ('test' as const) : null, captions: ['x'] }));
  const shares = { valShare: 0.2, testShare: 0.1, seed: 1 };
  const count = (list: ReturnType<typeof assignSplits>, name: string) => list.filter(({ split }) => split === name).length;
  const made = assignSplits(open, shares);
  expect([count(made, 'train'), count(made, 'val'), count(made, 'test')]).toEqual([34, 10, 6]);
  const byFile = (list: ReturnType<typeof assignSplits>) => [...list].sort((a, b) => (a.file < b.file ? -1 : 1)).map(({ split }) => split);
  expect(byFile(assignSplits([...open].reverse(), shares))).toEqual(byFile(made));
  expect(byFile(assignSplits(open, { ...shares, seed: 2 }))).not.toEqual(byFile(made));
});

test('missing, unreadable and uncaptioned pictures fail by name, or are reported', async () => {
  const images = join(folder, 'pictures');
  mkdirSync(images, { recursive: true });
  const blank = await sharp({ create: { width: 4, height: 4, channels: 3, background: '#000' } })
    .png()
    .toBuffer();
  for (const name of ['a.jpg', 'b.jpg', 'c.jpg']) writeFileSync(join(images, name), blank);
  writeFileSync(join(images, 'broken.jpg'), 'no picture');
  const found = [
    { file: 'a.jpg', split: 'train' as const, captions: ['a cat', 'a cat'] },
    { file: 'gone.jpg', split: 'train' as const, captions: ['a dog'] },
    { file: 'broken.jpg', split: 'train' as const, captions: ['a dog'] },
    { file: 'b.jpg', split: 'train' as const, captions: ['…'] },
    { file: 'c.jpg', split: 'val' as const, captions: ['a cat', 'a yak'] },
  ];
  const shares = { fraction: 1, valShare: 0, testShare: 0, seed: 1 };
  const options = { imageFolder: images, words: 'ascii' as const, vocabularySize: 100, minCount: 1, maxLength: 35, ...shares, skipBad: false };
  await expect(prepareDataset(found, options)).rejects.toThrow(/1 pictures have captions but no picture .*gone\.jpg[\s\S]*--skip-bad/);
  await expect(prepareDataset(found.slice(2, 3), options)).rejects.toThrow(/1 pictures cannot be read as pictures: broken\.jpg/);
  const { dataset, report } = await prepareDataset(found, { ...options, skipBad: true });
  expect(report).toMatchObject({
    ...{ images: { train: 1, val: 1, test: 0 }, captions: 4, duplicateCaptions: 1, sharedCaptions: 1 },
    ...{ withoutPicture: ['gone.jpg'], withoutCaption: ['b.jpg'], unreadable: ['broken.jpg'] },
    unknownRate: { train: 0, val: 0.25, test: 0 },
  });
  const many = Array.from({ length: 10 }, () => found[0]).map((image, i) => ({ ...image, file: i % 2 ? 'a.jpg' : 'c.jpg' }));
  expect((await prepareDataset(many, { ...options, fraction: 0.5 })).report.images.train).toBe(5);
  const path = join(folder, 'dataset.json');
  writeFileAtomic(path, [JSON.stringify(dataset)]);
  expect(readDataset(path)).toEqual(dataset);
  writeFileSync(path, JSON.stringify({ ...dataset, images: [{ ...dataset.images[0], ids: [[2, 99, 3]] }] }));
  expect(() => readDataset(path)).toThrow(/word id beyond/);
});
