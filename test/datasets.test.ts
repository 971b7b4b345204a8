/** Prepared datasets: splits, what is left out, what is refused. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { assignSplits, type Dataset, pictureIds, prepareDataset, readDataset, writeDataset } from '../src/data/captions.ts';
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
  for (const name of ['a.jpg', 'b.jpg', 'c.jpg', ...Array.from({ length: 10 }, (_, i) => `${i}.jpg`)]) writeFileSync(join(images, name), blank);
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
  await expect(prepareDataset(found.slice(2, 3), options)).rejects.toThrow(
    /1 pictures cannot be read as pictures: broken\.jpg \(it is no picture in a format that is known here/,
  );
  const { dataset, report } = await prepareDataset(found, { ...options, skipBad: true });
  expect(report).toMatchObject({
    ...{ images: { train: 1, val: 1, test: 0 }, captions: 4, duplicateCaptions: 1, sharedCaptions: 1 },
    ...{ withoutPicture: ['gone.jpg'], withoutCaption: ['b.jpg'], unreadable: ['broken.jpg'] },
    unreadableBecause: [expect.stringMatching(/broken\.jpg: cannot be read as a picture: it is no picture/)],
    withoutWords: { count: 1, examples: ['b.jpg: "…"'] },
    sameContent: { count: 1, examples: ['c.jpg (val) is a.jpg (train)'], acrossSplits: 1 },
    withoutMention: { count: 10, examples: ['0.jpg', '1.jpg', '2.jpg'] },
    unknownRate: { train: 0, val: 0.25, test: 0 },
  });
  await expect(prepareDataset([found[0], found[0]], options)).rejects.toThrow(/"a\.jpg" is listed twice/);
  const many = Array.from({ length: 10 }, () => found[0]).map((image, i) => ({ ...image, file: `${i}.jpg` }));
  expect((await prepareDataset(many, { ...options, fraction: 0.5 })).report.images.train).toBe(5);
  const path = join(folder, 'dataset.json');
  writeFileAtomic(path, [JSON.stringify(dataset)]);
  expect(readDataset(path)).toEqual(dataset);
  writeFileSync(path, JSON.stringify({ ...dataset, images: [{ ...dataset.images[0], ids: [[2, 99, 3]] }] }));
  expect(() => readDataset(path)).toThrow(/word id beyond/);
});

const blank = (color: string) =>
  sharp({ create: { width: 4, height: 4, channels: 3, background: color } })
    .png()
    .toBuffer();

const OPTIONS = { words: 'ascii' as const, vocabularySize: 100, minCount: 1, maxLength: 6, fraction: 1, valShare: 0, testShare: 0, seed: 1, skipBad: false };

test('frames and control characters are taken off and counted, and <unk> is counted as it is encoded', async () => {
  const imageFolder = join(folder, 'framed');
  mkdirSync(imageFolder);
  for (const [i, name] of ['a.png', 'b.png'].entries()) writeFileSync(join(imageFolder, name), await blank(`#00${i}`));
  const train = ['startseq a dog endseq', '<start> a dog <end>', 'a dog', 'a startseq dog', 'a\u0001 d\u001bog'];
  const found = [
    { file: 'a.png', split: 'train' as const, captions: train },
    { file: 'b.png', split: 'val' as const, captions: ['a yak', 'a dog and two yaks run away'] },
  ];
  const { dataset, report } = await prepareDataset(found, { ...OPTIONS, imageFolder });
  expect(dataset.images[0].captions).toEqual(['a dog', 'a dog', 'a dog', 'a startseq dog', 'a\u0001 d\u001bog']);
  expect(dataset.images[0].ids).toEqual([...Array.from({ length: 3 }, () => [2, 4, 5, 3]), [2, 4, 1, 5, 3], [2, 4, 5, 3]]);
  expect(report).toMatchObject({
    framed: { count: 2, examples: ['a.png: "a dog"', 'a.png: "a dog"'] },
    withControls: { count: 1, examples: ['a.png: "a\ufffd d\ufffdog"'] },
    unknownRate: { train: 1 / 11, val: 3 / 6 }, // of the caption that is cut, only four words are encoded
    cut: 1,
  });
});

test('pictures are found under either form of their name, and called as their source calls them', async () => {
  const imageFolder = join(folder, 'forms');
  mkdirSync(join(imageFolder, 'sub'), { recursive: true });
  const [composed, decomposed] = ['caf\u00e9.png', 'cafe\u0301.png'];
  writeFileSync(join(imageFolder, decomposed), await blank('#111'));
  writeFileSync(join(imageFolder, 'sub', 'b.png'), await blank('#222'));
  const found = [
    { file: composed, split: 'train' as const, captions: ['a cup'] },
    { file: 'sub/b.png', split: 'train' as const, captions: ['a cup'], id: '9007199254740993' },
  ];
  const { dataset, report } = await prepareDataset(found, { ...OPTIONS, imageFolder });
  expect(dataset.images.map(({ file, id }) => [file, id])).toEqual([
    [decomposed, JSON.stringify(composed)],
    ['sub/b.png', '9007199254740993'],
  ]);
  expect(report.withoutMention).toEqual({ count: 0, examples: [] });
  const path = join(folder, 'forms.json');
  writeFileAtomic(path, [JSON.stringify(dataset)]);
  const read = readDataset(path);
  expect(read).toEqual(dataset);
  expect(pictureIds(read.images)).toEqual([JSON.stringify(composed), '9007199254740993']);
  expect(pictureIds([{ file: 'old.jpg' }, { file: 'b', id: '1' }])).toEqual(['"old.jpg"', '1']);
  expect(
    pictureIds([
      { file: 'a', id: '1' },
      { file: 'b', id: '1' },
    ]),
  ).toEqual(['"a"', '"b"']); // of two sources
});

describe('a dataset in lines', () => {
  const VOCABULARY = ['<pad>', '<unk>', 'startseq', 'endseq', 'dog'];
  const image = (file: string): Dataset['images'][number] => ({ file, split: 'train', captions: ['dog'], ids: [[2, 4, 3]] });
  const of = (images: Dataset['images'], rest: Partial<Dataset> = {}): Dataset => ({
    imageFolder: 'i',
    words: 'ascii',
    vocabulary: VOCABULARY,
    maxLength: 8,
    ...rest,
    images,
  });
  const path = join(folder, 'lines.json');
  const placed = { ...image('a.tar/1.jpg'), at: { shard: 0, offset: 512, size: 7, header: 1 } };
  const row = { ...image('a.parquet/3'), at: { shard: 0, row: 3 } };
  const [tars, parquets] = [[{ tar: 'a.tar' }], [{ parquet: 'a.parquet', column: 'image', footer: 5 }]];

  test.each<[string, Dataset]>([
    ['of no picture', of([])],
    ['of one', of([image('1.jpg')])],
    ['of a thousand, which are written at once', of(Array.from({ length: 1000 }, (_, i) => image(`${i}.jpg`)))],
    ['of more', of(Array.from({ length: 50_000 }, (_, i) => ({ ...image(`${i}.jpg`), captions: [`dog – ${'é'.repeat(i % 7)}`], id: String(i) })))],
    ['with tar shards', of([placed], { shards: tars })],
    ['with Parquet shards', of([row], { shards: parquets })],
  ])('%s comes back, and is JSON as a whole', (_, dataset) => {
    writeDataset(path, dataset);
    expect(readDataset(path)).toEqual(dataset);
    const text = readFileSync(path, 'utf8');
    expect(JSON.parse(text)).toEqual({ version: 2, ...dataset });
    expect(text.split('\n')).toHaveLength(dataset.images.length + 3);
    writeFileSync(path, text.replaceAll('\n', '\r\n')); // as some editors save it
    expect(readDataset(path)).toEqual(dataset);
    for (const indent of [0, 2]) {
      writeFileSync(path, JSON.stringify(JSON.parse(text), null, indent)); // as tools for JSON write it
      expect(readDataset(path)).toEqual(dataset);
    }
  });

  const three = () => {
    writeDataset(path, of([image('1.jpg'), image('2.jpg'), image('3.jpg')]));
    return readFileSync(path, 'utf8');
  };
  const lines = (change: (lines: string[]) => string[]) => change(three().split('\n')).join('\n');
  test.each<[string, () => string, RegExp]>([
    ['cut within a picture', () => three().slice(0, -30), /is no prepared dataset: line 4: it is no JSON/],
    ['cut between pictures', () => lines((all) => all.slice(0, 3)), /its list of pictures has no end after line 3: it may be cut off/],
    ['without its end', () => lines((all) => all.slice(0, 4)), /its list of pictures has no end after line 4: it may be cut off/],
    ['cut within its first line', () => three().slice(0, 60), /is no prepared dataset: it is no JSON/],
    ['with more behind its end', () => lines((all) => [...all.slice(0, 5), all[1]]), /line 6 stands behind the end of its list/],
    ['joined from two', () => lines((all) => [all[0], all[3], ...all.slice(1)]), /line 2 has no comma at its end, and pictures follow/],
    ['with a comma before its end', () => lines((all) => all.map((line, i) => (i === 3 ? `${line},` : line))), /line 5: it is no JSON/],
    [
      'with a line that is no picture',
      () => lines((all) => all.map((line, i) => (i === 2 ? '{"file":3},' : line))),
      /is no prepared dataset: line 3: file: expected string, received 3/,
    ],
    ['with a picture twice', () => lines((all) => all.map((line) => line.replace('2.jpg', '1.jpg'))), /"1\.jpg" is listed twice/],
    [
      'with a word id beyond',
      () => lines((all) => all.map((line) => line.replace('[2,4,3]', '[2,9,3]'))),
      /1\.jpg has a word id beyond the 5 of the vocabulary/,
    ],
    ['with a name that leads out', () => lines((all) => all.map((line) => line.replace('2.jpg', '../2.jpg'))), /"\.\.\/2\.jpg" is no plain file name/],
  ])('%s is refused', (_, text, message) => {
    writeFileSync(path, text());
    expect(() => readDataset(path)).toThrow(message);
  });

  test.each<[string, Dataset, RegExp]>([
    ['a shard that is not listed', of([{ ...placed, at: { ...placed.at, shard: 1 } }], { shards: tars }), /"a\.tar\/1\.jpg" is in shard 1, and 1 are listed/],
    ['a shard where none is', of([placed]), /is in shard 0, and 0 are listed/],
    [
      'a shard of another kind',
      of([{ ...placed, file: 'a.parquet/1' }], { shards: parquets }),
      /is no picture of the shard "a\.parquet", in which it is placed/,
    ],
    ['a row of a tar', of([{ ...row, file: 'a.tar/3' }], { shards: tars }), /is no picture of the shard "a\.tar"/],
    ['another name', of([{ ...placed, file: 'b.tar/1.jpg' }], { shards: tars }), /"b\.tar\/1\.jpg" is no picture of the shard "a\.tar"/],
    ['a shard that leads out', of([placed], { shards: [{ tar: '../a.tar' }] }), /"\.\.\/a\.tar" is no plain file name/],
    ['a negative offset', of([{ ...placed, at: { ...placed.at, offset: -1 } }], { shards: tars }), /line 2: at/],
    ['a picture of a terabyte', of([{ ...placed, at: { ...placed.at, size: 1e12 } }], { shards: tars }), /line 2: at/],
  ])('%s is refused', (_, dataset, message) => {
    writeDataset(path, dataset);
    expect(() => readDataset(path)).toThrow(message);
  });
});
