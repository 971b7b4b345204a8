/** Captions as others write them: Flickr, COCO, Karpathy, tables. Every fault names its file and line. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readCoco, readFlickr, readKarpathy, readTable } from '../src/data/caption_sources.ts';
import { FileError } from '../src/errors.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const write = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

test('Flickr files: faults carry file and line', () => {
  const list = write('train.txt', 'a.jpg\nb.jpg\n');
  const tokens = write('tokens.txt', 'a.jpg#0\tA cat .\na.jpg#1\tOne cat\nb.jpg#0\tA dog\nother.jpg#0\tNot listed\n');
  const unlisted: string[] = [];
  expect(readFlickr(tokens, { train: list }, (file) => unlisted.push(file))).toEqual([
    { file: 'a.jpg', split: 'train', captions: ['A cat .', 'One cat'] },
    { file: 'b.jpg', split: 'train', captions: ['A dog'] },
  ]);
  expect(unlisted).toEqual(['other.jpg']);
  expect(() => readFlickr(write('bad.txt', 'a.jpg#0\tfine\nno tab here\n'), { train: list })).toThrow(/bad\.txt: line 2/);
  expect(() => readFlickr(tokens, { train: list, val: list })).toThrow(/"a\.jpg" is also in the train list/);
  expect(() => readFlickr(join(folder, 'absent'), { train: list })).toThrow(FileError);
  expect(() => readFlickr(tokens, { train: write('evil.txt', '../../etc/passwd\n') })).toThrow(/no plain file name/);
});

test('COCO files: faults carry the file', () => {
  const coco = { images: [{ id: 1, file_name: 'a.jpg' }], annotations: [{ image_id: 1, caption: 'A cat' }] };
  expect(readCoco(write('coco.json', JSON.stringify(coco)), 'val')).toEqual([{ file: 'a.jpg', split: 'val', captions: ['A cat'] }]);
  expect(() => readCoco(write('cut.json', '{"images": ['), 'val')).toThrow(/cut\.json: is no JSON/);
  expect(() => readCoco(write('other.json', '{"images": 3}'), 'val')).toThrow(/other\.json: is no COCO caption file: images/);
  expect(() => readCoco(write('stray.json', JSON.stringify({ ...coco, annotations: [{ image_id: 9, caption: 'x' }] })), 'val')).toThrow(
    /picture 9, which the file does not list/,
  );
  expect(() => readCoco(write('path.json', JSON.stringify({ ...coco, images: [{ id: 1, file_name: '../a.jpg' }] })), 'val')).toThrow(/no plain file name/);
});

test('Karpathy’s splits: restval is trained on, folders are kept within', () => {
  const sentences = [{ raw: 'A cat.' }, { raw: 'One cat' }];
  const file = (images: unknown[]) => write('karpathy.json', JSON.stringify({ dataset: 'coco', images }));
  const found = readKarpathy(
    file([
      { filename: 'a.jpg', filepath: 'val2014', split: 'restval', sentences },
      { filename: 'b.jpg', split: 'test', sentences },
    ]),
  );
  expect(found).toEqual([
    { file: 'val2014/a.jpg', split: 'train', captions: ['A cat.', 'One cat'] },
    { file: 'b.jpg', split: 'test', captions: ['A cat.', 'One cat'] },
  ]);
  expect(() => readKarpathy(file([{ filename: 'a.jpg', filepath: '../..', split: 'val', sentences }]))).toThrow(/no plain file name/);
  expect(() => readKarpathy(file([{ filename: 'a.jpg', split: 'dev', sentences }]))).toThrow(/karpathy\.json: is no Karpathy split file: images\.0\.split/);
});

test('tables: CSV with quotes and a byte order mark, JSON lines; faults carry the line', () => {
  const csv = write('own.csv', '\uFEFFimage,caption,split\na.jpg,"A cat, ""red""\nand big",train\na.jpg,Eine Katze,train\nb.jpg,Hund,val\n');
  expect(readTable(csv)).toEqual([
    { file: 'a.jpg', split: 'train', captions: ['A cat, "red"\nand big', 'Eine Katze'] },
    { file: 'b.jpg', split: 'val', captions: ['Hund'] },
  ]);
  const lines = write('own.jsonl', '{"image": "a.jpg", "caption": "x"}\n\n{"image": "b.jpg", "caption": "y"}\n');
  expect(readTable(lines).map(({ file, split }) => [file, split])).toEqual([
    ['a.jpg', null],
    ['b.jpg', null],
  ]);
  expect(() => readTable(write('own.csv', 'image,text\na.jpg,x\n'))).toThrow(/own\.csv: line 2: caption/);
  expect(() => readTable(write('own.csv', 'image,caption\n"a.jpg,x\n'))).toThrow(/own\.csv: is no CSV/);
  expect(() => readTable(write('own.csv', 'image,caption,split\na.jpg,x,train\na.jpg,y,val\n'))).toThrow(/line 3: "a\.jpg" is in the splits train and val/);
  expect(() => readTable(write('own.jsonl', '{"image": "a.jpg", "caption": "x"}\n{"image": '))).toThrow(/line 2 is no JSON/);
  expect(() => readTable(write('own.jsonl', '{"image": "/etc/passwd", "caption": "x"}'))).toThrow(/no plain file name/);
  expect(() => readTable(write('own.txt', ''))).toThrow(/neither \.csv nor \.jsonl/);
});
