/**
 * Files that are either whole or absent: written under a temporary name, synced, renamed. A temporary name has a random part and is
 * opened only if it is new, so nobody can plant a link there. What killed processes left behind is removed at the next write.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, lstatSync, mkdirSync, openSync, readdirSync, readSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { FileError, GlimpseError } from '../errors.ts';
import { problemOf } from './validation.ts';

/** Runs work on a file or folder. An error of the system becomes a FileError that names it. */
export function onFile<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof GlimpseError ? error : new FileError(path, problemOf(error));
  }
}

/** Makes a folder and those above it. Node's own way to do so never ends where the system makes none, as in /proc. */
export function makeFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  if (dirname(path) !== path) makeFolder(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw error; // else another process was first
  }
}

/** Whether a process of this machine lives. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'; // it lives, and belongs to another user
  }
}

/** Tells temporary files of this machine from those of others that share the folder. */
const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 6);
const TEMPORARY = /\.(?:([0-9a-f]{6})-(\d+)-[0-9a-f]{12}|\d+)\.tmp$/;

/** A name beside `path` that nobody can guess. */
export function temporaryName(path: string): string {
  return `${path}.${HOST}-${process.pid}-${randomBytes(6).toString('hex')}.tmp`;
}

/**
 * Removes what processes left behind in a folder that were killed while they wrote. Only for files that one process writes: `beginning`
 * is that of their names.
 */
export function removeTemporaries(folder: string, beginning = ''): void {
  onFile(folder, () => {
    for (const name of readdirSync(folder))
      if (name.startsWith(beginning) && TEMPORARY.test(name)) rmSync(join(folder, name), { force: true, recursive: true });
  });
}

/** Removes the temporary files of one path whose processes are gone; `beginning` is that of their names. */
export function removeAbandoned(path: string, beginning = `${basename(path)}.`): void {
  for (const name of readdirSync(dirname(path))) {
    const [, host, pid] = (name.startsWith(beginning) && TEMPORARY.exec(name)) || [];
    if (host === HOST && !isAlive(Number(pid))) rmSync(join(dirname(path), name), { force: true, recursive: true });
  }
}

/** Syncs a file or a folder to disk. A folder must be synced for a rename in it to last. */
export function sync(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Gives a synced file or folder its final name, so that it also lasts through a loss of power. */
export function renameLasting(from: string, to: string): void {
  renameSync(from, to);
  sync(dirname(to));
}

/** Writes the chunks as one file. Throws a FileError (no space, no permission, …) and leaves nothing behind. */
export function writeFileAtomic(path: string, chunks: Iterable<string | Uint8Array>): void {
  const temporary = temporaryName(path);
  let made = false;
  try {
    makeFolder(dirname(path));
    removeAbandoned(path);
    if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new Error('is a folder');
    const file = openSync(temporary, 'wx');
    made = true;
    try {
      for (const chunk of chunks) {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
        for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameLasting(temporary, path);
  } catch (error) {
    if (made) rmSync(temporary, { force: true });
    throw new FileError(path, `cannot be written: ${problemOf(error)}`);
  }
}

/** Copies a file. The copy is whole or absent. */
export function copyFileAtomic(from: string, to: string): void {
  const file = onFile(from, () => openSync(from, 'r'));
  try {
    writeFileAtomic(to, piecesOf(file));
  } finally {
    closeSync(file);
  }
}

function* piecesOf(file: number): Generator<Uint8Array> {
  const piece = new Uint8Array(4 << 20);
  for (let count = readSync(file, piece); count > 0; count = readSync(file, piece)) yield piece.subarray(0, count);
}
