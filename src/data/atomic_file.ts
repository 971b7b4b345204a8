/** Files that are either whole or absent: written under a temporary name, synced, renamed. */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { FileError } from '../errors.ts';
import { problemOf } from './validation.ts';

/** Runs work on a file or folder. An error of the system becomes a FileError that names it. */
export function onFile<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof FileError ? error : new FileError(path, problemOf(error));
  }
}

/** Removes what processes left behind in a folder that were killed while they wrote. Only for folders that one process writes to. */
export function removeTemporaries(folder: string): void {
  onFile(folder, () => {
    for (const name of readdirSync(folder)) if (/\.tmp$/.test(name)) rmSync(join(folder, name), { force: true });
  });
}

/** Writes the chunks as one file. Throws a FileError (no space, no permission, …) and leaves nothing behind. */
export function writeFileAtomic(path: string, chunks: Iterable<string | Uint8Array>): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    const file = openSync(temporary, 'w');
    try {
      for (const chunk of chunks) {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
        for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    const folder = openSync(dirname(path), 'r');
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  } catch (error) {
    try {
      rmSync(temporary, { force: true });
    } catch {
      // Nothing was written, so there is nothing to remove.
    }
    throw new FileError(path, `cannot be written: ${problemOf(error)}`);
  }
}
