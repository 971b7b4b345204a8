/** A file is written whole or not at all. */
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
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

test.runIf(process.platform === 'linux')('where the system makes no folders, that is said, and soon', () => {
  expect(() => writeFileAtomic('/proc/none/of/this', ['y'])).toThrow(/\/proc\/none\/of\/this: cannot be written: no such file or folder/);
});

test('a link at the name of a file is replaced, not followed; a folder is refused', () => {
  const target = write('target', 'kept');
  const link = join(folder, 'link');
  symlinkSync(target, link);
  writeFileAtomic(link, ['new']);
  expect([readFileSync(target, 'utf8'), readFileSync(link, 'utf8')]).toEqual(['kept', 'new']);
  mkdirSync(join(folder, 'a folder'));
  expect(() => writeFileAtomic(join(folder, 'a folder'), ['y'])).toThrow(/a folder: cannot be written: is a folder/);
});
