/** Word vectors: spaces within words, the width of the first lines, marks and encodings; what is odd is refused by line or noted. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readWordVectors } from '../src/data/word_vectors.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const write = (bytes: string | Uint8Array): string => {
  const path = join(folder, 'vectors.txt');
  writeFileSync(path, bytes);
  return path;
};
const VOCABULARY = ['<pad>', '<unk>', 'startseq', 'endseq', 'the', 'man', 'café', '2007'];
const read = (bytes: string | Uint8Array, encoding?: string) => {
  const { width, rows, notes } = readWordVectors(write(bytes), VOCABULARY, encoding);
  return { width, rows: Object.fromEntries([...rows].map(([id, row]) => [VOCABULARY[id], [...row]])), notes };
};
const LINES = ['the 1 2 3', 'man 4 5 6'];
const both = { the: [1, 2, 3], man: [4, 5, 6] };

describe('are read', () => {
  test.each([
    ['as they are', LINES, both],
    ['with a word of two words in the middle', [LINES[0], 'at name@domain.com 7 8 9', LINES[1]], both],
    ['with one in the first line', ['. . 7 8 9', ...LINES], both],
    ['with a word that ends in a number in the first line', ['in 1984 7 8 9', ...LINES], both],
    ['with a word that is a number', ['2007 7 8 9', ...LINES], { ...both, 2007: [7, 8, 9] }],
    ['with a first line of count and width', ['2 3', ...LINES], both],
    ['with blanks at the ends of lines', LINES.map((line) => `${line} \r`), both],
    ['behind a mark', [`\uFEFF${LINES[0]}`, LINES[1]], both],
    ['with an accent in another form', [...LINES, 'cafe\u0301 7 8 9'], { ...both, café: [7, 8, 9] }],
    ['when one line alone is there', [LINES[0]], { the: [1, 2, 3] }],
  ])('%s', (_what, lines, rows) => {
    expect(read(`${lines.join('\n')}\n`)).toEqual({ width: 3, rows, notes: [] });
  });

  test('in UTF-16 with a mark, and in the encoding that is named', () => {
    expect(read(Buffer.from(`\uFEFF${LINES.join('\n')}`, 'utf16le')).rows).toEqual(both);
    expect(read(Buffer.from('café 7 8 9\n', 'latin1'), 'windows-1252').rows).toEqual({ café: [7, 8, 9] });
  });

  test('far into the file, where the first lines have settled the width', () => {
    const many = Array.from({ length: 500 }, (_, i) => `word${i} ${i} 0 1`);
    expect(read([...many, ' . . 1 2 3'.trim(), ...LINES].join('\n'))).toEqual({ width: 3, rows: both, notes: [] });
  });
});

test('a word that comes again and a file that is cut are told', () => {
  expect(read([...LINES, 'the 7 8 9'].join('\n'))).toEqual({
    width: 3,
    rows: both,
    notes: [expect.stringMatching(/has 1 words of the vocabulary again.*"the" in line 3/)],
  });
  expect(read(['4 3', ...LINES].join('\n')).notes).toEqual([expect.stringMatching(/says 4 words and has 2/)]);
});

test.each([
  ['two blanks in a row', ['the 1 2 3', 'man  4 5 6'], /line 2 begins with a space, or has two in a row/],
  ['a blank at the beginning', [' 1 2 3', ...LINES], /line 1 begins with a space/],
  ['too few numbers', [...LINES, 'a 1 2'], /line 3 has 2 numbers, 3 are expected/],
  ['too few numbers behind two words', [...LINES, 'a b 1 2'], /line 3 \("a"\) holds "b", which is no number; 3 numbers are expected/],
  ['a number that is none', [LINES[0], 'man 4 x 6'], /line 2 \("man"\) holds "x", which is no number/],
  ['a width other than the first line says', ['2 5', ...LINES], /line 2 has 3 numbers, 5 are expected/],
  ['tabs', ['the\t1\t2', 'man\t3\t4'], /line 1 is no word with numbers behind it, separated by single spaces/],
  ['none of the words', ['x 1 2 3', 'y 1 2 3'], /none of the words of the vocabulary, among its 2/],
  ['nothing', [], /none of the words/],
])('%s is refused', (_what, lines, message) => expect(() => read(lines.join('\n'))).toThrow(message));

test('bytes that are no UTF-8 are refused by their line', () => {
  expect(() => read(Buffer.from('the 1 2 3\ncaf\xe9 7 8 9\n', 'latin1'))).toThrow(/line 2 is not UTF-8/);
});
