/** References and results: joined by ids with all their digits, by file names, by the longest matching path. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { joinResults, readReferencesByFile, reportedId, resultsText } from '../src/data/coco_results.ts';
import { exactJson } from '../src/data/validation.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const write = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

/** A COCO file of pictures, each with a caption that names it. */
const references = (pictures: Record<string, string>) =>
  write(
    'references.json',
    `{"images": [${Object.entries(pictures).map(([file, id]) => `{"id": ${id}, "file_name": ${JSON.stringify(file)}}`)}],
      "annotations": [${Object.entries(pictures).map(([file, id]) => `{"image_id": ${id}, "caption": ${JSON.stringify(`of ${file}`)}}`)}]}`,
  );

test('ids are written as they are, and come back', () => {
  const text = resultsText([
    { id: '9007199254740993', caption: 'a "dog"' },
    { id: '"007"', caption: 'x' },
    { id: '790', caption: 'y' },
  ]);
  expect(text).toBe('[{"image_id":9007199254740993,"caption":"a \\"dog\\""},{"image_id":"007","caption":"x"},{"image_id":790,"caption":"y"}]');
  expect(exactJson(text)).toMatchObject([{ image_id: 9007199254740993n }, { image_id: '007' }, { image_id: 790 }]);
  expect(['790', '"a.jpg"', '9007199254740993', '1.5'].map(reportedId)).toEqual([790, 'a.jpg', '9007199254740993', 1.5]);
});

describe('candidates find their references', () => {
  const join_ = (results: string, pictures: Record<string, string>) => joinResults(references(pictures), write('results.json', results));

  test('by id, also where two ids are one number', () => {
    const { joined } = join_('[{"image_id": 9007199254740993, "caption": "x"}, {"image_id": 9007199254740992, "caption": "y"}]', {
      'a.jpg': '9007199254740993',
      'b.jpg': '9007199254740992',
    });
    expect(joined.map(({ image_id, references: own }) => [image_id, ...own])).toEqual([
      ['9007199254740993', 'of a.jpg'],
      ['9007199254740992', 'of b.jpg'],
    ]);
  });

  test('by file name, as older results have it; what has no candidate is counted', () => {
    const { joined, pictures, withoutCandidate } = join_('[{"image_id": "000790.jpg", "caption": "x"}, {"image_id": "val/2.jpg", "caption": "y"}]', {
      '000790.jpg': '790',
      'train/2.jpg': '1',
      'val/2.jpg': '2',
      'c.jpg': '3',
    });
    expect(joined.map(({ references: own }) => own)).toEqual([['of 000790.jpg'], ['of val/2.jpg']]);
    expect([pictures, withoutCandidate]).toEqual([4, { count: 2, examples: ['1', '3'] }]);
  });

  test.each([
    [
      'a picture without reference',
      '[{"image_id": 9, "caption": "x"}]',
      /has captions of pictures for which .*references\.json has no reference: 1 of 1 \(picture 9\)/,
    ],
    ['two captions, one by id and one by name', '[{"image_id": 1, "caption": "x"}, {"image_id": "a.jpg", "caption": "x"}]', /two captions for picture "a.jpg"/],
    ['a name that fits two', '[{"image_id": "p.jpg", "caption": "x"}]', /"p.jpg" may be "train\/p.jpg" or "val\/p.jpg"/],
    ['no list', '{"1": "a man"}', /results\.json: is no COCO results file .*: expected list, received an object$/],
    ['no caption', '[{"image_id": 1, "caption": null}]', /: 0\.caption: expected string, received null$/],
  ])('%s is refused', (_what, results, message) => {
    expect(() => join_(results, { 'a.jpg': '1', 'train/p.jpg': '2', 'val/p.jpg': '3' })).toThrow(message);
  });
  test('two owners of an id among the references are refused', () => {
    expect(() => join_('[]', { 'a.jpg': '1', 'b.jpg': '1' })).toThrow(/the id 1 belongs to two pictures: "a.jpg" and "b.jpg"/);
  });
});

describe('pictures find their references by the longest path', () => {
  test.each([
    ['two folders', ['train/p.jpg', 'val/p.jpg'], ['/x/train/p.jpg', 'val/p.jpg'], [['of train/p.jpg'], ['of val/p.jpg']]],
    ['a folder that the references do not have', ['p.jpg'], ['photographs/p.jpg'], [['of p.jpg']]],
    ['a folder that the pictures do not have', ['val2014/p.jpg'], ['p.jpg'], [['of val2014/p.jpg']]],
    ['a whole path before part of one', ['p.jpg', 'val/p.jpg'], ['train/p.jpg'], [['of p.jpg']]],
    ['the other picture is nearer', ['val/p.jpg'], ['train/p.jpg', 'val/p.jpg'], [[], ['of val/p.jpg']]],
    ['no name in common', ['a.jpg'], ['b.jpg'], [[]]],
    ['two forms of an accent', ['é.jpg'], ['e\u0301.jpg'], [['of é.jpg']]],
    ['one picture twice', ['p.jpg'], ['x/p.jpg', 'x/../x/p.jpg'], [['of p.jpg'], ['of p.jpg']]],
  ])('%s', (_what, files, pictures, captions) => {
    const path = references(Object.fromEntries(files.map((file, i) => [file, String(i)])));
    expect(readReferencesByFile(path).captionsOf(pictures)).toEqual(captions);
  });

  test.each([
    ['two references fit a picture', ['train/p.jpg', 'val/p.jpg'], ['p.jpg'], /p\.jpg" may be "train\/p\.jpg" or "val\/p\.jpg"/],
    [
      'two pictures fit a reference',
      ['p.jpg'],
      ['train/p.jpg', 'val/p.jpg'],
      /the references of "p\.jpg" may belong to ".*train\/p\.jpg" or to ".*val\/p\.jpg"/,
    ],
  ])('refused where %s', (_what, files, pictures, message) => {
    const path = references(Object.fromEntries(files.map((file, i) => [file, String(i)])));
    expect(() => readReferencesByFile(path).captionsOf(pictures)).toThrow(message);
  });
});

test('glimpse score says on one line what is wrong, and counts what has no candidate', async () => {
  const own = references({ 'a.jpg': '1', 'b.jpg': '2' });
  const bad = await glimpse('score', '--references', own, '--candidates', write('null.json', '[{"image_id": 1, "caption": null}]'));
  expect(bad).toMatchObject({ code: 1, stdout: '' });
  expect(bad.stderr).toMatch(/^glimpse: .*null\.json: .*0\.caption: expected string, received null\n$/);
  const good = await glimpse('score', '--references', own, '--candidates', write('good.json', '[{"image_id": "a.jpg", "caption": "of a"}]'), '--json');
  expect(JSON.parse(good.stdout)).toMatchObject({ images: 1, withoutCandidate: { count: 1, examples: ['2'] } });
  expect(readFileSync(own, 'utf8')).toContain('a.jpg');
  expect(await glimpse('score', '--references', own, '--candidates', own, '--encoding', 'klingon')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--encoding'),
  });
});
