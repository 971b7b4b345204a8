/** Captions as others write them: Flickr, COCO, Karpathy, tables. Every fault names its file and line. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readCoco, readFlickr, readKarpathy, readTable, type TableOptions } from '../src/data/caption_sources.ts';
import { type CaptionedImage, distinctPictures } from '../src/data/captions.ts';
import type { TableForm } from '../src/data/table.ts';
import { parseColumns } from '../src/data/table_columns.ts';
import { FileError } from '../src/errors.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();

/** What was found, without where it is listed. */
const plain = (images: CaptionedImage[]) => images.map(({ source: _, ...image }) => image);

const write = (name: string, text: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

test('Flickr files: faults carry file and line', () => {
  const list = write('train.txt', 'a.jpg\nb.jpg\n');
  const tokens = write('tokens.txt', 'a.jpg#0\tA cat .\na.jpg#1\tOne cat\nb.jpg#0\tA dog\nother.jpg#0\tNot listed\n');
  const unlisted: string[] = [];
  expect(plain(readFlickr(tokens, { train: list }, (file) => unlisted.push(file)))).toEqual([
    { file: 'a.jpg', split: 'train', captions: ['A cat .', 'One cat'] },
    { file: 'b.jpg', split: 'train', captions: ['A dog'] },
  ]);
  expect(unlisted).toEqual(['other.jpg']);
  expect(() => readFlickr(write('bad.txt', 'a.jpg#0\tfine\nno tab here\n'), { train: list })).toThrow(/bad\.txt: line 2/);
  expect(() => readFlickr(tokens, { train: list, val: list })).toThrow(/"a\.jpg" is in two splits: train \(.*train\.txt line 1\) and val/);
  expect(() => readFlickr(join(folder, 'absent'), { train: list })).toThrow(FileError);
  expect(() => readFlickr(tokens, { train: write('evil.txt', '../../etc/passwd\n') })).toThrow(/no plain file name/);
});

test('COCO files: faults carry the file', () => {
  const coco = { images: [{ id: 1, file_name: 'a.jpg' }], annotations: [{ image_id: 1, caption: 'A cat' }] };
  expect(plain(readCoco(write('coco.json', JSON.stringify(coco)), 'val'))).toEqual([{ file: 'a.jpg', split: 'val', captions: ['A cat'], id: '1' }]);
  expect(() => readCoco(write('cut.json', '{"images": ['), 'val')).toThrow(/cut\.json: is no COCO caption file: it is no JSON/);
  expect(() => readCoco(write('other.json', '{"images": 3}'), 'val')).toThrow(/other\.json: is no COCO caption file: images/);
  expect(() => readCoco(write('stray.json', JSON.stringify({ ...coco, annotations: [{ image_id: 9, caption: 'x' }] })), 'val')).toThrow(
    /picture "9", which the file does not list/,
  );
  expect(() => readCoco(write('path.json', JSON.stringify({ ...coco, images: [{ id: 1, file_name: '../a.jpg' }] })), 'val')).toThrow(/no plain file name/);
});

test('Karpathy’s splits: restval is trained on, folders are kept within', () => {
  const sentences = [{ raw: 'A cat.' }, { raw: 'One cat' }];
  const file = (images: unknown[]) => write('karpathy.json', JSON.stringify({ dataset: 'coco', images }));
  const found = readKarpathy(
    file([
      { filename: 'a.jpg', filepath: 'val2014', split: 'restval', cocoid: 42, imgid: 0, sentences },
      { filename: 'b.jpg', split: 'test', sentences },
    ]),
  );
  expect(plain(found)).toEqual([
    { file: 'val2014/a.jpg', split: 'train', captions: ['A cat.', 'One cat'], id: '42' },
    { file: 'b.jpg', split: 'test', captions: ['A cat.', 'One cat'] },
  ]);
  expect(() => readKarpathy(file([{ filename: 'a.jpg', filepath: '../..', split: 'val', sentences }]))).toThrow(/no plain file name/);
  expect(() => readKarpathy(file([{ filename: 'a.jpg', split: 'devel', sentences }]))).toThrow(
    /karpathy\.json: is no Karpathy split file: images\.0\.split: expected train, .*val.* or testing, received "devel"/,
  );
});

test('tables: CSV with quotes and a byte order mark, JSON lines; faults carry the line', () => {
  const csv = write('own.csv', '\uFEFFimage,caption,split\na.jpg,"A cat, ""red""\nand big",train\na.jpg,Eine Katze,train\nb.jpg,Hund,val\n');
  expect(plain(readTable(csv))).toEqual([
    { file: 'a.jpg', split: 'train', captions: ['A cat, "red"\nand big', 'Eine Katze'] },
    { file: 'b.jpg', split: 'val', captions: ['Hund'] },
  ]);
  const lines = write('own.jsonl', '{"image": "a.jpg", "caption": "x"}\n\n{"image": "b.jpg", "caption": "y"}\n');
  expect(readTable(lines).map(({ file, split }) => [file, split])).toEqual([
    ['a.jpg', null],
    ['b.jpg', null],
  ]);
  expect(() => readTable(write('own.csv', 'image,txt\na.jpg,x\n'))).toThrow(
    /own\.csv: the header: there is no column caption; the columns there are "image", "txt", separated by commas/,
  );
  expect(() => readTable(write('own.csv', 'image,caption\n"a.jpg,x\n'))).toThrow(
    /own\.csv: is no table separated by commas: the quote that opens in line 2 is never closed/,
  );
  expect(() => readTable(write('own.csv', 'image,caption,split\na.jpg,x,train\na.jpg,y,val\n'))).toThrow(
    /"a\.jpg" is in two splits: train \(.*line 2\) and val \(.*line 3\)/,
  );
  expect(() => readTable(write('own.jsonl', '{"image": "a.jpg", "caption": "x"}\n{"image": '))).toThrow(/line 2 is no JSON/);
  expect(() => readTable(write('own.jsonl', '{"image": "/etc/passwd", "caption": "x"}'))).toThrow(/no plain file name/);
  expect(() => readTable(write('own.xls', ''))).toThrow(/no table by its ending/);
  expect(() => readTable(write('own.txt', ''))).toThrow(/is empty/);
});

describe('tables as people have them', () => {
  const rows = (text: string | Uint8Array, name = 'own.csv', options: TableOptions = {}) => {
    let form: TableForm | null = null;
    const found = readTable(write(name, text), { ...options, onForm: (each) => (form = each) });
    return { found: found.map(({ file, captions, split }) => [file, split, ...captions]), form: form as TableForm | null };
  };
  const wanted = [['a.jpg', null, 'a dog']];

  test.each([
    ['semicolons', 'image;caption\na.jpg;a dog\n', 'own.csv', ';'],
    ['tabs', 'image\tcaption\na.jpg\ta dog\n', 'own.tsv', '\t'],
    ['Excel’s hint', 'sep=;\r\nimage;caption\r\na.jpg;a dog\r\n', 'own.csv', ';'],
    ['capitals', 'Image,Caption\na.jpg,a dog\n', 'OWN.CSV', ','],
    ['Kaggle’s Flickr8k', 'image,caption\na.jpg,a dog\n', 'captions.txt', ','],
    ['Kaggle’s Flickr30k', 'image_name| comment_number| comment\na.jpg| 0| a dog\n', 'results.csv', '|'],
    ['other separators within captions', 'image;n;caption\na.jpg;1;a dog\n', 'own.csv', ';'],
  ])('%s', (_what, text, name, separator) => {
    const { found, form } = rows(text, name);
    expect(found).toEqual(wanted);
    expect(form?.separator).toBe(separator);
  });

  test('columns of other names, as they are given; JSON lines, too', () => {
    const columns = parseColumns('image=photo url,caption=Beschreibung', '--columns');
    expect(rows('photo url;x;Beschreibung\na.jpg;;a dog\n', 'own.csv', { columns })).toEqual({
      found: wanted,
      form: { separator: ';', columns: { image: 'photo url', caption: 'Beschreibung' } },
    });
    expect(rows('{"photo url": "a.jpg", "beschreibung": "a dog"}\n', 'own.jsonl', { columns }).found).toEqual(wanted);
    expect(rows('caption,comment,image\na dog,no,a.jpg\n').found).toEqual(wanted);
    for (const bad of ['photo', 'picture=x', 'image=']) expect(() => parseColumns(bad, '--columns')).toThrow(/--columns takes image=NAME/);
  });

  test('quotes are text where bars separate', () => {
    expect(rows('image|caption\na.jpg| a "dog\n', 'own.csv').found).toEqual([['a.jpg', null, 'a "dog']]);
  });

  test.each([
    ['a column twice', 'image,caption,Caption\na.jpg,x,y\n', /the column "Caption" is there twice/],
    ['a header that is none', 'a.jpg,a dog\n', /no column image; the columns there are "a.jpg", "a dog", separated by commas.*--columns image=NAME/],
    ['a slip', 'image;captoin\na.jpg;x\n', /no column caption.*separated by semicolons \(did you mean "captoin"\?\)/],
    ['a caption with the separator', 'image,caption\na.jpg,a dog, running\n', /line 2: 3 fields, 2 are expected; .*quotes/],
    ['an unknown split', 'image,caption,split\na.jpg,x,trian\n', /line 2: split: expected train, .*received "trian" \(did you mean "train"\?\)/],
    ['Windows-1252', Buffer.from('image,caption\na.jpg,caf\xe9\n', 'latin1'), /line 2 is not UTF-8/],
  ])('%s is refused', (_what, text, message) => expect(() => rows(text)).toThrow(message));

  test('in Windows-1252, when it is named', () => {
    expect(rows(Buffer.from('image,caption\na.jpg,caf\xe9 \x93x\x94\n', 'latin1'), 'own.csv', { encoding: 'windows-1252' }).found).toEqual([
      ['a.jpg', null, 'café “x”'],
    ]);
  });
});

test.each(['validation', 'Dev', ' valid ', 'VAL'])('the split may be called "%s"', (split) => {
  const table = write('own.csv', `image,caption,split\na.jpg,x,${split}\nb.jpg,x,\n`);
  expect(readTable(table).map((image) => image.split)).toEqual(['val', null]);
  const coco = { images: [{ id: 1, file_name: 'a.jpg', split }], annotations: [] };
  expect(readCoco(write('coco.json', JSON.stringify(coco)), 'train')[0].split).toBe('val');
  const images = [{ filename: 'a.jpg', split, sentences: [] }];
  expect(readKarpathy(write('k.json', JSON.stringify({ images })))[0].split).toBe('val');
});

describe('a picture is one picture', () => {
  const coco = (images: string, annotations = '[]') => write('coco.json', `{"images": ${images}, "annotations": ${annotations}}`);

  test('ids keep their digits and their type', () => {
    const path = coco(
      '[{"id": 9007199254740993, "file_name": "a.jpg"}, {"id": 9007199254740992, "file_name": "b.jpg"}, {"id": "007", "file_name": "c.jpg"}]',
      '[{"image_id": 9007199254740993, "caption": "a"}, {"image_id": 9007199254740992, "caption": "b"}, {"image_id": "007", "caption": "c"}]',
    );
    expect(readCoco(path, 'train').map(({ id, captions }) => [id, ...captions])).toEqual([
      ['9007199254740993', 'a'],
      ['9007199254740992', 'b'],
      ['"007"', 'c'],
    ]);
  });

  test.each([
    ['a second owner of an id', '[{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]', /the id 1 belongs to two pictures: "a.jpg" and "b.jpg"/],
    ['an id as number and text', '[{"id": 1, "file_name": "a.jpg"}, {"id": "1", "file_name": "b.jpg"}]', /the id 1 belongs to two pictures/],
    ['a file twice', '[{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "./a.jpg"}]', /"a.jpg" is listed twice, with the ids 1 and 2/],
    ['two forms of one name', '[{"id": 1, "file_name": "\u00e9.jpg"}, {"id": 2, "file_name": "e\u0301.jpg"}]', /is listed twice/],
    [
      'two splits',
      '[{"id": 1, "file_name": "a.jpg", "split": "train"}, {"id": 2, "file_name": "a.jpg", "split": "dev"}]',
      /"a.jpg" is in two splits: train .* and val/,
    ],
  ])('%s is refused', (_what, images, message) => expect(() => readCoco(coco(images), null)).toThrow(message));

  test('by all readers: Karpathy’s, lists, and sources together', () => {
    const twice = [1, 2].map((imgid) => ({ filename: 'a.jpg', split: 'val', imgid, sentences: [] }));
    expect(() => readKarpathy(write('k.json', JSON.stringify({ images: twice })))).toThrow(/"a.jpg" is listed twice, with the ids 1 and 2/);
    const list = write('train.txt', 'a.jpg\n./a.jpg\n');
    expect(() => readFlickr(write('tokens.txt', ''), { train: list })).toThrow(/"a.jpg" is listed twice \(.*line 1, .*line 2\)/);
    const one = (file: string, split: 'train' | 'val') =>
      readCoco(write(`${split}.json`, `{"images": [{"id": 1, "file_name": "${file}"}], "annotations": []}`), split);
    expect(() => distinctPictures([...one('a.jpg', 'train'), ...one('a.jpg', 'val')])).toThrow(
      /"a.jpg" is in two splits: train \(.*train.json\) and val \(.*val.json\)/,
    );
    expect(distinctPictures([...one('a.jpg', 'train'), ...one('b.jpg', 'val')])).toHaveLength(2); // each file counts for itself
  });

  test('names within the folder: ./ and marks of bytes are no part of them', () => {
    const list = write('train.txt', '\uFEFF./a.jpg\r\ne\u0301.jpg\n');
    const tokens = write('tokens.txt', '\uFEFFa.jpg#0\tfirst\na.jpg#1\tsecond\n\u00e9.jpg#0\tthird\n');
    expect(readFlickr(tokens, { train: list }).map(({ captions }) => captions)).toEqual([['first', 'second'], ['third']]);
  });
});
