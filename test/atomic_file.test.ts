/** A file is written whole or not at all. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const write = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

test('where nothing can be written, the file is named', () => {
  const path = join(write('a file', 'no folder'), 'x');
  expect(() => writeFileAtomic(path, ['y'])).toThrow(/a file\/x: cannot be written/);
});

test('a write that fails leaves the old file and nothing else', () => {
  const path = join(folder, 'kept.txt');
  writeFileAtomic(path, ['old']);
  const failing = (function* () {
    yield 'new';
    throw new Error('disk full');
  })();
  expect(() => writeFileAtomic(path, failing)).toThrow(/kept\.txt: cannot be written: disk full/);
  expect(readFileSync(path, 'utf8')).toBe('old');
  expect(existsSync(`${path}.${process.pid}.tmp`)).toBe(false);
  expect(statSync(path).size).toBe(3);
});
