/** Only ordinary files are opened, and data beside a model lies in the model's folder, whatever links say. */
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { insideFolder, openFile } from '../src/data/file_source.ts';
import { FileError } from '../src/errors.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const posix = process.platform !== 'win32';
if (!posix) console.warn('SKIPPED: pipes, devices and links are tested on POSIX systems');

const problem = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(FileError);
    expect(String(error)).not.toContain('\n');
    return String(error);
  }
  return 'nothing';
};

/** A file with one byte, in folders that are made for it. */
const write = (path: string, byte: number): string => {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, new Uint8Array([byte]));
  return path;
};

const link = (target: string, path: string): string => {
  mkdirSync(join(path, '..'), { recursive: true });
  symlinkSync(target, path);
  return path;
};

/** The byte of the file beside a model. */
const beside = (model: string, location: string): number => {
  const source = openFile(model);
  try {
    const other = source.beside(location);
    const [byte] = other.read(0, 1);
    other.close();
    return byte;
  } finally {
    source.close();
  }
};

test('what is no ordinary file is refused at once, by its kind', () => {
  expect(problem(() => openFile(folder))).toMatch(/: is a folder, not an ordinary file$/);
  expect(problem(() => openFile(join(folder, 'absent')))).toMatch(/absent: no such file$/);
  expect(problem(() => openFile(join(folder, 'a\0b')))).toMatch(/null bytes/);
  if (!posix) return;
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  expect(problem(() => openFile(join(folder, 'pipe')))).toMatch(/: is a pipe, not an ordinary file$/);
  expect(problem(() => openFile('/dev/zero'))).toMatch(/: is a device, not an ordinary file$/);
  expect(problem(() => openFile(link('/dev/zero', join(folder, 'zero'))))).toMatch(/: is a device, not an ordinary file$/);
  expect(problem(() => openFile(link('loop', join(folder, 'loop'))))).toMatch(/is a link that leads to itself/);
  expect(problem(() => openFile(join(write(join(folder, 'file'), 1), 'within')))).toMatch(/leads through a file as if it were a folder/);
});

test('a file that is refused is closed again', () => {
  const first = openFile(write(join(folder, 'counted'), 1));
  first.close();
  for (let i = 0; i < 3000; i++) problem(() => openFile(folder)); // more than a process may have open
});

test('external data may lie in the folder and below, and nowhere else', () => {
  const model = write(join(folder, 'plain', 'model.onnx'), 0);
  write(join(folder, 'plain', 'weights.bin'), 7);
  write(join(folder, 'plain', '..names', 'weights.bin'), 8);
  write(join(folder, 'plain2', 'weights.bin'), 9);
  expect(beside(model, 'weights.bin')).toBe(7);
  expect(beside(model, './..names/weights.bin')).toBe(8);
  for (const location of ['', '.', '..', '../plain2/weights.bin', '../plain', 'a/../../plain2/weights.bin', join(folder, 'plain', 'weights.bin')])
    expect(
      problem(() => beside(model, location)),
      location,
    ).toMatch(/lies outside the model's folder/);
  expect(problem(() => beside(model, '..names'))).toMatch(/is a folder/);
  expect(problem(() => beside(model, 'absent.bin'))).toMatch(/absent.bin: no such file/);
});

test.skipIf(!posix)('links: out of the folder they are refused, unless the model itself is a link there', () => {
  const model = write(join(folder, 'links', 'model.onnx'), 0);
  const secret = write(join(folder, 'secret', 'weights.bin'), 66);
  link(secret, join(folder, 'links', 'out.bin'));
  link('../secret', join(folder, 'links', 'out'));
  link('weights.bin', join(folder, 'links', 'within.bin'));
  write(join(folder, 'links', 'weights.bin'), 5);
  expect(beside(model, 'within.bin')).toBe(5);
  expect(problem(() => beside(model, 'out.bin'))).toMatch(/"out.bin" is a link that leads outside the model's folder, to .*secret.weights.bin/);
  expect(problem(() => beside(model, 'out/weights.bin'))).toMatch(/leads outside the model's folder/);
  execFileSync('mkfifo', [join(folder, 'links', 'pipe')]);
  expect(problem(() => beside(model, 'pipe'))).toMatch(/is a pipe/);
  link('/dev/zero', join(folder, 'links', 'zero'));
  expect(problem(() => beside(model, 'zero'))).toMatch(/leads outside the model's folder, to \/dev\/zero/);

  // Hugging Face's cache: every file is a link to a blob.
  const snapshot = join(folder, 'hub', 'snapshots', 'rev');
  write(join(folder, 'hub', 'blobs', 'aa'), 0);
  write(join(folder, 'hub', 'blobs', 'bb'), 3);
  for (const [place, up] of [
    [snapshot, '../..'],
    [join(snapshot, 'onnx'), '../../..'],
  ]) {
    link(`${up}/blobs/aa`, join(place, 'model.onnx'));
    link(`${up}/blobs/bb`, join(place, 'model.onnx_data'));
    link(secret, join(place, 'secret'));
    expect(beside(join(place, 'model.onnx'), 'model.onnx_data')).toBe(3);
    expect(problem(() => beside(join(place, 'model.onnx'), 'secret'))).toMatch(/leads outside/);
  }

  // A folder that is reached by a link is a folder like any other.
  link('links', join(folder, 'alias'));
  expect(beside(join(folder, 'alias', 'model.onnx'), 'weights.bin')).toBe(5);
});

test('insideFolder follows links in both, and a folder is not inside itself', () => {
  const inner = write(join(folder, 'tree', 'a', 'file'), 1);
  expect(insideFolder(join(folder, 'tree'), inner)).toBe(true);
  expect(insideFolder(join(folder, 'tree', 'a'), inner)).toBe(true);
  expect(insideFolder(inner, join(folder, 'tree'))).toBe(false);
  expect(insideFolder(join(folder, 'tree'), join(folder, 'tree'))).toBe(false);
  expect(insideFolder(join(folder, 'tree', 'a'), write(join(folder, 'tree', 'ab'), 1))).toBe(false);
  expect(problem(() => insideFolder(folder, join(folder, 'none')))).toMatch(/none: no such file/);
  linkSync(inner, join(folder, 'tree', 'hard'));
  expect(insideFolder(join(folder, 'tree'), join(folder, 'tree', 'hard'))).toBe(true);
  if (posix) expect(insideFolder(link('tree', join(folder, 'other')), inner)).toBe(true);
});
