/** Text that people saved: encodings, marks, line by line; what is no such text is refused by line and byte. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkEncoding, readText, textLines } from '../src/data/text.ts';
import { UsageError } from '../src/errors.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const write = (name: string, bytes: Uint8Array | string): string => {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
};

const utf16 = (text: string, big: boolean) => {
  const bytes = Buffer.from(text, 'utf16le');
  return big ? bytes.swap16() : bytes;
};

describe.each([
  ['readText', readText],
  ['textLines', (path: string, encoding?: string) => [...textLines(path, encoding)].join('\n')],
])('%s', (_name, read) => {
  const text = 'über\n猫 and 🐈\n\nlast';
  test.each([
    ['UTF-8', Buffer.from(text), undefined],
    ['UTF-8 with a mark', Buffer.from(`\uFEFF${text}`), undefined],
    ['UTF-16 little-endian with a mark', utf16(`\uFEFF${text}`, false), undefined],
    ['UTF-16 big-endian with a mark', utf16(`\uFEFF${text}`, true), undefined],
    ['UTF-16 without a mark, named', utf16(text, true), 'utf-16be'],
    ['a mark that tells another encoding than the one named', utf16(`\uFEFF${text}`, false), 'windows-1252'],
  ])('%s', (_what, bytes, encoding) => {
    expect(read(write('text', bytes), encoding)).toBe(text);
  });

  test('Windows-1252 by any of its names, with the characters that Latin-1 lacks', () => {
    const path = write('w', Buffer.from([0x93, 0x63, 0x61, 0x66, 0xe9, 0x94, 0x20, 0x80, 0x9f, 0x81]));
    for (const name of ['windows-1252', 'cp1252', 'latin1']) expect(read(path, name)).toBe('“café” €Ÿ\u0081');
  });

  test.each([
    ['a byte of Latin-1', Buffer.from('a\nb\nc caf\xe9 x\n', 'latin1'), /line 3 is not UTF-8 \(byte 10 of the file is 0xE9\).*--encoding/],
    ['a byte of Latin-1 behind a mark', Buffer.concat([Buffer.from('\uFEFFa\n'), Buffer.from([0xe9])]), /line 2 is not UTF-8 \(byte 6 of the file is 0xE9\)/],
    ['half a character at the end', Buffer.from('a\n猫').subarray(0, 4), /line 2 is not UTF-8 \(byte 3 /],
    ['a byte that begins nothing', Buffer.from([0x61, 0x80]), /byte 2 of the file is 0x80/],
    ['UTF-16 without a mark', utf16('ab\ncd', false), /line 1 has a zero byte.*utf-16le/],
    ['half a unit of UTF-16', utf16('\uFEFFab', false).subarray(0, 5), /is not UTF-16LE/],
    ['UTF-32', Buffer.from([0xff, 0xfe, 0, 0, 0x61, 0, 0, 0]), /is UTF-32/],
  ])('%s is refused', (_what, bytes, message) => {
    expect(() => read(write('bad', bytes))).toThrow(message);
  });

  test('a folder and an absent file are named', () => {
    mkdirSync(join(folder, 'own'), { recursive: true });
    expect(() => read(join(folder, 'own'))).toThrow(/own: .*folder/);
    expect(() => read(join(folder, 'absent'))).toThrow(/absent: no such file/);
  });
});

test('lines are the same whatever the chunks: characters and line feeds across the edges of 4 MiB', () => {
  const lines = Array.from({ length: 90_000 }, (_, i) => `${i} ${'猫é🐈'.repeat(5 + (i % 7))}`);
  for (const bytes of [Buffer.from(lines.join('\n')), utf16(`\uFEFF${lines.join('\n')}`, true)]) {
    expect(bytes.length).toBeGreaterThan(1 << 22);
    expect([...textLines(write('long', bytes))]).toEqual(lines);
  }
  const broken = Buffer.from(lines.join('\n'));
  broken[broken.length - 2] = 0xff;
  expect(() => [...textLines(write('long', broken))]).toThrow(new RegExp(`line 90000 is not UTF-8 \\(byte ${broken.length - 3} `));
  expect(() => [...textLines(write('endless', 'x'.repeat(1 << 17)))]).toThrow(/line 1 is longer/);
});

test('any text comes back', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.boolean(), (text, big) => {
      fc.pre(!text.includes('\0') && !text.startsWith('\uFEFF'));
      expect(readText(write('any', utf16(`\uFEFF${text}`, big)))).toBe(text);
      expect([...textLines(write('any', text))].join('\n')).toBe(text);
    }),
    { numRuns: 200 },
  );
});

test('an encoding that nobody has is refused', () => {
  for (const name of ['utf-8', 'UTF-16LE', 'windows-1252', 'shift_jis', 'gbk', 'macintosh']) expect(() => checkEncoding(name, '--encoding')).not.toThrow();
  expect(() => checkEncoding('klingon', '--encoding')).toThrow(UsageError);
});
