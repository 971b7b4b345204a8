/** Shards of pictures with captions: the conventions of WebDataset, columns of Parquet, splits, and what is counted or refused. */
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { prepareDataset, readDataset, writeDataset } from '../src/data/captions.ts';
import { columnOf, ParquetFile } from '../src/data/parquet.ts';
import { pictureOf, placedPicture } from '../src/data/picture_places.ts';
import { type GivenShards, readParquetTable, readShards, type ShardOptions } from '../src/data/shards.ts';
import { FileError } from '../src/errors.ts';
import { parquetOf, plainText } from './parquet_writer.ts';
import { temporaryFolder } from './support.ts';
import { type Member, patched, tarOf } from './tar_writer.ts';

const folder = temporaryFolder();
const FIXTURES = join(import.meta.dirname, 'parquet');
let folders = 0;

/** A new folder with these files. */
function folderOf(files: Record<string, Uint8Array>): string {
  const path = join(folder, String(folders++));
  mkdirSync(path);
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(join(path, name, '..'), { recursive: true });
    writeFileSync(join(path, name), bytes);
  }
  return path;
}

const all = (...paths: string[]): GivenShards[] => [{ split: null, paths }];
const pictures = async (members: Member[], o?: ShardOptions, name = 'a.tar') => readShards(all(folderOf({ [name]: await tarOf(members) })), o);
const json = (value: unknown) => JSON.stringify(value);

describe('samples of tar shards', () => {
  test.each<[string, Member[], ShardOptions['columns'], [string, string | null, string[]][]]>([
    [
      'a text',
      [
        { name: '1.jpg', data: 'p' },
        { name: '1.txt', data: 'A cat.\n' },
      ],
      {},
      [['1.jpg', null, ['A cat.']]],
    ],
    [
      'the text before the picture',
      [
        { name: '1.txt', data: 'A cat' },
        { name: '1.PNG', data: 'p' },
      ],
      {},
      [['1.PNG', null, ['A cat']]],
    ],
    [
      'a text, and JSON beside it',
      [
        { name: '1.jpg', data: 'p' },
        { name: '1.json', data: json({ caption: 'json', split: 'test' }) },
        { name: '1.txt', data: 'text' },
      ],
      {},
      [['1.jpg', 'test', ['text']]],
    ],
    [
      'a list in JSON',
      [
        { name: '1.webp', data: 'p' },
        { name: '1.json', data: json({ captions: ['A cat', 'Cat'], split: 'valid' }) },
      ],
      {},
      [['1.webp', 'val', ['A cat', 'Cat']]],
    ],
    [
      'JSON without caption',
      [
        { name: '1.jpg', data: 'p' },
        { name: '1.json', data: json({ caption: null }) },
      ],
      {},
      [['1.jpg', null, []]],
    ],
    [
      'folders and dots',
      [
        { name: './a.b/1.left.jpg', data: 'p' },
        { name: './a.b/1.txt', data: 'x' },
      ],
      {},
      [['a.b/1.left.jpg', null, ['x']]],
    ],
    [
      'names that are told',
      [
        { name: '1.a.jpg', data: 'p' },
        { name: '1.b.jpg', data: 'p' },
        { name: '1.json', data: json({ alt: 'told', set: 'dev' }) },
      ],
      { image: 'b.jpg', caption: 'alt', split: 'set' },
      [['1.b.jpg', 'val', ['told']]],
    ],
    [
      'an extension that is told',
      [
        { name: '1.jpg', data: 'p' },
        { name: '1.de', data: 'Katze' },
        { name: '1.txt', data: 'cat' },
        { name: '1.cls', data: 'test' },
      ],
      { caption: 'de', split: 'cls' },
      [['1.jpg', 'test', ['Katze']]],
    ],
  ])('%s', async (_, members, columns, expected) => {
    const { found, report } = await pictures(members, { columns });
    expect(found.map(({ file, split, captions }) => [file.replace(/^a\.tar\//, ''), split, captions])).toEqual(expected);
    expect(report.damaged.count).toBe(0);
  });

  test('what belongs to no sample is counted', async () => {
    const members: Member[] = [
      { name: '__meta__', data: 'x' },
      { name: 'no-extension', data: 'x' },
      { name: '.hidden', data: 'x' },
      { name: '1.txt', data: 'no picture' },
      { name: '2.jpg', data: 'p' },
      { name: '2.cls', data: '7' },
      { name: '2.txt', data: 'cat' },
      { name: '3.jpg', type: 'symlink', linkname: '/etc/passwd' },
    ];
    const { found, report } = readShards(
      all(
        folderOf({
          'a.tar': await tarOf(members),
          'b.tar': await tarOf(members.slice(4, 7)),
          'a.parquet': parquetOf({ page: plainText('x') }),
          'a_stats.json': Buffer.from('{}'),
        }),
      ),
    );
    expect(found.map(({ file }) => file)).toEqual(['a.tar/2.jpg', 'b.tar/2.jpg']);
    expect(report).toMatchObject({
      shards: 2,
      otherFiles: { count: 2, examples: [expect.stringMatching(/a\.parquet$/), expect.stringMatching(/a_stats\.json$/)] },
      otherMembers: {
        count: 6,
        examples: [
          'a.tar/__meta__: its name has no key and extension',
          'a.tar/no-extension: its name has no key and extension',
          'a.tar/.hidden: its name has no key and extension',
        ],
      },
      samplesWithoutPicture: { count: 1, examples: ['a.tar/1'] },
      repeatedKeys: { count: 1, examples: ['b.tar/2'] },
      damaged: { count: 0 },
    });
  });

  const sound: Member[] = [
    { name: '8.jpg', data: 'p' },
    { name: '8.txt', data: 'cat' },
  ];
  test.each<[string, Member[], RegExp, number]>([
    [
      'members apart',
      [{ name: '1.jpg', data: 'p' }, ...sound, { name: '1.txt', data: 'x' }],
      /the members of the sample "1" do not stand together, or it is there twice/,
      1,
    ],
    ['a member twice', [...sound, { name: '8.txt', data: 'y' }], /the sample "8" has "txt" twice/, 1],
    [
      'two pictures',
      [{ name: '1.a.jpg', data: 'p' }, { name: '1.b.jpg', data: 'p' }, { name: '1.txt', data: 'x' }, ...sound],
      /has several pictures: a\.jpg, b\.jpg; choose one, as --columns image=a\.jpg/,
      1,
    ],
    ['no JSON', [{ name: '1.jpg', data: 'p' }, { name: '1.json', data: '{' }, ...sound], /a\.tar\/1\.json: is no JSON of a sample: it is no JSON/, 1],
    ['JSON of another form', [{ name: '1.jpg', data: 'p' }, { name: '1.json', data: '[]' }, ...sound], /a\.tar\/1\.json: is no JSON of a sample/, 1],
    [
      'a caption of another type',
      [{ name: '1.jpg', data: 'p' }, { name: '1.json', data: json({ caption: 3 }) }, ...sound],
      /a\.tar\/1\.json: "caption": expected/,
      1,
    ],
    [
      'an unknown split',
      [{ name: '1.jpg', data: 'p' }, { name: '1.json', data: json({ caption: 'x', split: 'holdout' }) }, ...sound],
      /a\.tar\/1\.json: "split": expected train.* received "holdout"/,
      1,
    ],
    [
      'bytes that are no UTF-8',
      [{ name: '1.jpg', data: 'p' }, { name: '1.txt', data: Buffer.from([0x63, 0xe9]) }, ...sound],
      /a\.tar\/1\.txt: line 1 is not UTF-8 .*--encoding/,
      1,
    ],
    [
      'an endless caption',
      [{ name: '1.jpg', data: 'p' }, { name: '1.txt', data: 'x'.repeat(70_000) }, ...sound],
      /"1\.txt" has 70000 bytes; 65536 are the most that is read/,
      1,
    ],
    [
      'an endless caption in JSON',
      [{ name: '1.jpg', data: 'p' }, { name: '1.json', data: json({ caption: 'x'.repeat(70_000) }) }, ...sound],
      /a caption of "1" has 70000 characters/,
      1,
    ],
  ])('%s: refused, or counted with --skip-bad', async (_, members, message, kept) => {
    await expect(pictures(members)).rejects.toThrow(FileError);
    await expect(pictures(members)).rejects.toThrow(message);
    const { found, report } = await pictures(members, { skipBad: true });
    expect(found.filter(({ captions }) => captions.length > 0)).toHaveLength(kept);
    expect(report.damaged).toMatchObject({ count: 1, examples: [expect.stringMatching(message)] });
  });

  test('a tar that is cut off stops the command, or keeps what stands before', async () => {
    const whole = await tarOf([...sound, { name: '9.jpg', data: 'p'.repeat(2000) }, { name: '9.txt', data: 'dog' }]);
    const cut = folderOf({ 'a.tar': whole.subarray(0, 3200), 'b.tar': await tarOf(sound) });
    expect(() => readShards(all(cut))).toThrow(/a\.tar: is cut off within "9\.jpg": 2000 bytes are declared/);
    const { found, report } = readShards(all(cut), { skipBad: true });
    expect(found.map(({ file, captions }) => [file, captions])).toEqual([
      ['a.tar/8.jpg', ['cat']],
      ['b.tar/8.jpg', ['cat']],
    ]);
    expect(report.damaged).toMatchObject({ count: 1, examples: [expect.stringContaining('is cut off within')] });
  });

  test('a picture of a terabyte is refused before it is read', async () => {
    const huge = patched(await tarOf([{ name: '1.jpg', data: 'p' }]), 0, 124, '77777777777');
    expect(() => readShards(all(folderOf({ 'a.tar': huge })))).toThrow(/cut off within "1\.jpg"/);
  });
});

test('splits: as given, by a column, by the name of the shard, or none', async () => {
  const tar = (split?: string) =>
    tarOf([
      { name: '1.jpg', data: 'p' },
      { name: '1.json', data: json({ caption: 'x', ...(split ? { split } : {}) }) },
    ]);
  const names = ['train-0.tar', 'data/validation/0.tar', 'my_test_set.tar', 'latest.tar', 'train-test.tar'];
  const path = folderOf(Object.fromEntries(await Promise.all(names.map(async (name) => [name, await tar()] as const))));
  expect(Object.fromEntries(readShards(all(path)).found.map(({ file, split }) => [file.replace('/1.jpg', ''), split]))).toEqual({
    ...{ 'train-0.tar': 'train', 'data/validation/0.tar': 'val', 'my_test_set.tar': 'test', 'latest.tar': null, 'train-test.tar': null },
  });
  const other = folderOf({ 'train-0.tar': await tar('test'), 'x.tar': await tar('test') });
  const given: GivenShards[] = [
    { split: null, paths: [join(other, 'train-0.tar')] },
    { split: 'val', paths: [join(other, 'x.tar')] },
  ];
  expect(readShards(given).found.map(({ split }) => split)).toEqual(['test', 'val']);
  expect(() => readShards([...given, { split: 'test', paths: [other] }])).toThrow(/train-0\.tar: is given twice/);
});

test('files that are no shards are refused with what helps', async () => {
  const path = folderOf({ 'a.tar.gz': Buffer.from('x'), 'a.tgz': Buffer.from('x'), 'a.arrow': Buffer.from('x'), 'a.txt': Buffer.from('x') });
  expect(() => readShards(all(join(path, 'a.tar.gz')))).toThrow(/is a compressed tar\. .* unpack it to \.tar first/);
  expect(() => readShards(all(join(path, 'a.tgz')))).toThrow(/is a compressed tar/);
  expect(() => readShards(all(join(path, 'a.arrow')))).toThrow(/is an Arrow file, which is not read; save its table as Parquet/);
  expect(() => readShards(all(join(path, 'a.txt')))).toThrow(/is no shard by its ending/);
  expect(() => readShards(all(join(path, 'none.tar')))).toThrow(/no such file/);
  expect(() => readShards(all(path))).toThrow(/holds no shard: \.tar and \.parquet are read/);
  const outside = join(folderOf({ 'a.tar': await tarOf([{ name: '1.jpg', data: 'p' }]) }), 'a.tar');
  symlinkSync(outside, join(path, 'link.tar'));
  expect(() => readShards(all(path))).toThrow(/link\.tar: is a link that leads out of .*--follow-links/);
  expect(readShards(all(path), { followLinks: true }).found).toHaveLength(1);
});

describe('Parquet shards', () => {
  const captions = Array.from({ length: 8 }, (_, i) => `A ${['red', 'green', 'blue'][i % 3]} picture.`);
  test.each<[string, ShardOptions['columns'], (i: number) => string[]]>([
    ['snappy', {}, (i) => [captions[i]]],
    ['zstd', {}, (i) => [captions[i]]],
    ['gzip', {}, (i) => [captions[i], `${['red', 'green', 'blue'][i % 3]} all over`]],
    ['snappy', { image: 'image', caption: 'split' }, (i) => [i % 4 === 3 ? 'val' : 'train']],
  ])('%s %j', (name, columns, expected) => {
    const { found, imageFolder, shards } = readShards(all(join(FIXTURES, `${name}.parquet`)), { columns });
    expect(found.map(({ file, captions: own }) => [file, own])).toEqual(captions.map((_, i) => [`${name}.parquet/${i}`, expected(i)]));
    expect([imageFolder, shards]).toEqual([FIXTURES, [{ parquet: `${name}.parquet`, column: name === 'zstd' ? 'jpg' : 'image', footer: expect.any(Number) }]]);
  });

  test('nulls are no captions, and a null picture is told as such', async () => {
    const { found, ...rest } = readShards(all(join(FIXTURES, 'nulls.parquet')));
    expect(found.map(({ captions: own }) => own.length)).toEqual([2, 0, 0, 2, 2, 2, 2, 2]);
    const options = { words: 'ascii' as const, vocabularySize: 100, minCount: 1, maxLength: 9, fraction: 1, valShare: 0, testShare: 0, seed: 1 };
    const { dataset, report } = await prepareDataset(found, { ...options, imageFolder: rest.imageFolder, shards: rest.shards, skipBad: true });
    expect(report).toMatchObject({
      withoutCaption: ['nulls.parquet/1', 'nulls.parquet/2'],
      unreadable: ['nulls.parquet/2', 'nulls.parquet/3'],
      unreadableBecause: [expect.stringMatching(/nulls\.parquet\/2: cannot be read as a picture: the column "image" is null in this row/), expect.any(String)],
    });
    expect(dataset.images.map(({ file }) => file)).toEqual([0, 4, 5, 6, 7].map((row) => `nulls.parquet/${row}`));
  });

  test('columns that are missing or hold something else are refused with what is there', () => {
    const read = (name: string, columns?: ShardOptions['columns']) => () => readShards(all(join(FIXTURES, `${name}.parquet`)), { columns });
    expect(read('names')).toThrow(
      /names\.parquet: there is no column image; the columns there are "file_name \(text\)", .*--columns image=NAME; if the pictures are files of a folder, give this file as --table/,
    );
    expect(read('snappy', { image: 'width' })).toThrow(/the column "width" is neither text nor bytes; picture or bytes is expected/);
    expect(read('snappy', { caption: 'image' })).toThrow(/the column "image" holds picture; text or texts or bytes is expected/);
    expect(read('snappy', { split: 'caption' })).toThrow(/snappy\.parquet row 0: its split: expected train/);
    expect(() => readShards(all(join(FIXTURES, 'snappy.parquet')), { columns: { split: 'caption' }, skipBad: true }).report.damaged).not.toThrow();
    expect(readShards(all(join(FIXTURES, 'snappy.parquet')), { columns: { split: 'caption' }, skipBad: true }).report.damaged.count).toBe(8);
  });

  test('pictures come in any order, and many at once', async () => {
    const { found, ...folders } = readShards(all(join(FIXTURES, 'snappy.parquet'), join(FIXTURES, 'zstd.parquet')));
    const file = ParquetFile.open(join(FIXTURES, 'snappy.parquet'));
    const expected = file.groups.flatMap((_, group) =>
      file.read(group, columnOf(file, 'image', ['picture'])).map(([bytes]) => Buffer.from(bytes as Uint8Array)),
    );
    const order = [7, 8, 0, 15, 3, 11, 6, 2, 2, 14, 5, 9, 1, 13, 4, 12, 10];
    const read = await Promise.all(order.map((i) => placedPicture(folders, found[i], false)));
    read.forEach((picture, k) => {
      expect(picture).toEqual({ name: join(FIXTURES, found[order[k]].file), bytes: new Uint8Array(expected[order[k] % 8]) });
    });
    const beyond = { file: 'snappy.parquet/8', at: { shard: 0, row: 8 } };
    await expect(placedPicture(folders, beyond, false)).rejects.toThrow(/snappy\.parquet: has 8 rows, and row 8 is asked for, counted from 0/);
  });

  test('a table that names files of a folder', () => {
    const forms: unknown[] = [];
    const found = readParquetTable(join(FIXTURES, 'names.parquet'), { onForm: (form) => forms.push(form.columns) });
    expect(found.map(({ file, split, captions: own }) => [file, split, own.length])).toEqual(
      captions.map((_, i) => [`${i}.jpg`, i % 4 === 3 ? 'val' : 'train', 2]),
    );
    expect(forms).toEqual([{ image: 'file_name', caption: 'captions', split: 'split' }]);
    expect(() => readParquetTable(join(FIXTURES, 'snappy.parquet'))).toThrow(/there is no column image; .*if the file holds the pictures, give it as --shards/);
  });
});

test('the same picture is found in tars and in another split, and a changed Parquet file is noticed', async () => {
  const picture = await sharp({ create: { width: 4, height: 4, channels: 3, background: '#123' } })
    .png()
    .toBuffer();
  const tar = await tarOf([
    { name: '1.png', data: picture },
    { name: '1.txt', data: 'a cat' },
  ]);
  const { found, imageFolder, shards } = readShards(all(folderOf({ 'train.tar': tar, 'val.tar': tar })));
  const options = { words: 'ascii' as const, vocabularySize: 100, minCount: 1, maxLength: 9, fraction: 1, valShare: 0, testShare: 0, seed: 1, skipBad: false };
  const { dataset, report } = await prepareDataset(found, { ...options, imageFolder, shards });
  expect(report.sameContent).toEqual({ count: 1, examples: ['val.tar/1.png (val) is train.tar/1.png (train)'], acrossSplits: 1 });
  const unread = await prepareDataset(found, { ...options, imageFolder, shards, decode: false });
  expect([unread.report.sameContent, unread.dataset]).toEqual([null, dataset]);
  const path = join(folder, 'dataset.json');
  writeDataset(path, dataset);
  expect(readDataset(path)).toEqual(dataset);
  expect(await pictureOf(readDataset(path), 'val.tar/1.png', false)).toEqual({ name: join(imageFolder, 'val.tar/1.png'), bytes: new Uint8Array(picture) });
  await expect(pictureOf(dataset, 'other', false)).rejects.toThrow(/other: is no picture of the dataset/);

  const own = folderOf({});
  copyFileSync(join(FIXTURES, 'snappy.parquet'), join(own, 'a.parquet'));
  const first = readShards(all(own));
  const listed = { imageFolder: own, shards: first.shards, images: first.found };
  expect(await pictureOf(listed, 'a.parquet/5', false)).toMatchObject({ name: join(own, 'a.parquet/5') });
  copyFileSync(join(FIXTURES, 'gzip.parquet'), join(own, 'a.parquet'));
  const again = { ...listed, shards: [{ ...first.shards[0], footer: 7 }] };
  await expect(pictureOf(again as typeof listed, 'a.parquet/5', false)).rejects.toThrow(
    /a\.parquet: has changed since prepare listed its pictures; run prepare again/,
  );
});
