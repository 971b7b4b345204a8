/** One text for every fault: field, what came, what was expected, what is there; and JSON whose numbers keep their digits. */
import { readFileSync } from 'node:fs';
import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { didYouMean, exactJson, parseJson, problemOf } from '../src/data/validation.ts';
import { FileError } from '../src/errors.ts';

const Thing = z.object({
  name: z.string().min(1).optional(),
  id: z.union([z.number(), z.string()]).optional(),
  count: z.number().int().min(3).optional(),
  split: z.enum(['train', 'val', 'test']).optional(),
  list: z.array(z.number()).min(2).optional(),
  boxes: z.array(z.object({ caption: z.string() })).optional(),
});
const Kinds = z.discriminatedUnion('kind', [z.object({ kind: z.literal('step'), loss: z.number() }), z.object({ kind: z.literal('epoch') })]);

describe('a fault of a schema is one line', () => {
  test.each([
    [Thing, { name: null }, 'name: expected string, received null'],
    [Thing, { name: '' }, 'name: expected at least 1 characters, received ""'],
    [Thing, { id: null }, 'id: expected number or string, received null'],
    [Thing, { count: 2.5 }, 'count: expected whole number, received 2.5'],
    [Thing, { count: 2 }, 'count: expected at least 3, received 2'],
    [Thing, { split: 'trian' }, 'split: expected train, val or test, received "trian" (did you mean "train"?)'],
    [Thing, { list: [1] }, 'list: expected at least 2 entries, received a list of 1'],
    [
      Thing,
      { boxes: [{ caption: 'x' }, { captoin: 'y' }] },
      'boxes.1.caption: expected string, received nothing; the fields there are "captoin" (did you mean "captoin"?)',
    ],
    [Thing, [1], 'expected object, received a list of 1'],
    [Thing, { name: 1, count: 1 }, 'name: expected string, received 1 (and 1 more faults)'],
    [Kinds, { kind: 'stop' }, 'kind: expected step or epoch, received "stop" (did you mean "step"?)'],
    [Kinds, { kind: 'step', loss: '\u001b[31m\n' }, 'loss: expected number, received "\ufffd[31m\ufffd"'],
    [z.strictObject({ a: z.number() }), { a: 1, b: 2 }, 'has fields that are not known: "b"'],
    [
      z.union([z.object({ a: z.number() }), z.object({ b: z.string() })]),
      { b: 1 },
      'a: expected number, received nothing; the fields there are "b" (did you mean "b"?)',
    ],
  ] as const)('%#: %j', (schema, value, text) => {
    const { error } = (schema as z.ZodType).safeParse(value);
    expect(problemOf(error, value)).toBe(text);
  });
});

describe('a fault of a parser or the system', () => {
  const caught = (work: () => unknown): unknown => {
    try {
      work();
    } catch (error) {
      return error;
    }
    throw new Error('nothing was thrown');
  };
  test.each([
    ['{"a": 1,\n "b" 2}', /^line 2, column 6: /],
    ['{"a": 1,\n', /^(ends too early, in line 2|line 2, column 1: )/],
    ['', /^ends too early, in line 1/],
    ['xyz', /"xyz"/],
  ])('JSON %j', (text, message) => {
    expect(
      problemOf(
        caught(() => JSON.parse(text)),
        text,
      ),
    ).toMatch(message);
    expect(() => parseJson('x.json', text, Thing, 'is no thing')).toThrow(/^x\.json: is no thing: it is no JSON: /);
  });
  test.each([
    ['a,b\n1,2,3\n', 'line 2: 3 fields, 2 are expected; a separator within a caption needs quotes around the caption'],
    ['a,b\n"1,2\n', 'the quote that opens in line 2 is never closed'],
  ])('CSV %j', (text, message) => expect(problemOf(caught(() => parse(text)))).toBe(message));
  test.each([
    ['/absent', 'no such file or folder'],
    ['/', 'is a folder; a file is expected'],
  ])('the system on %s', (path, message) => expect(problemOf(caught(() => readFileSync(path)))).toBe(message));
  test('an error of ours stays as it is, another is one line', () => {
    expect(problemOf(new FileError('a', 'b\n  c'))).toBe('a: b\n  c');
    expect(problemOf(new Error('a\n  b\u0007'))).toBe('a; b\ufffd');
  });
});

test('a near name is told, a far one is not', () => {
  const names = ['image', 'caption', 'split'];
  for (const word of ['captoin', 'Caption', 'captions', 'cption']) expect(didYouMean(word, names)).toBe(' (did you mean "caption"?)');
  for (const word of ['url', 'x', '']) expect(didYouMean(word, names)).toBe('');
});

describe('numbers beyond 2^53 keep their digits', () => {
  test.each([
    ['{"id": 9007199254740993, "s": "9007199254740993 \\" 1"}', { id: 9007199254740993n, s: '9007199254740993 " 1' }],
    [
      '[-12345678901234567890, 1234567890123456, 0.1234567890123456, 1234567890123456e3]',
      [-12345678901234567890n, 1234567890123456, 0.1234567890123456, 1234567890123456e3],
    ],
    ['{"9007199254740993": [1]}', { '9007199254740993': [1] }],
  ])('%s', (text, value) => expect(exactJson(text)).toEqual(value));
  test('any JSON is what JSON.parse makes of it, but for these', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        fc.pre(!/\d{16}/.test(text));
        expect(exactJson(text)).toEqual(JSON.parse(text));
      }),
    );
    fc.assert(
      fc.property(fc.bigInt(), fc.string(), (id, text) => {
        const { id: found, text: same } = exactJson(`{"text": ${JSON.stringify(text)}, "id" : ${id}}`) as { id: number | bigint; text: string };
        expect([String(found), same]).toEqual([String(id), text]);
      }),
    );
  });
});
