/**
 * A file as a source of bytes: only what is asked for is read. Names of files come from outside too (in a model, a checkpoint, a
 * list of pictures). So files of others are opened here, and only ordinary ones: a pipe would wait for ever, a device has no end.
 */
import { closeSync, constants, fstatSync, openSync, readSync, realpathSync, type Stats, statSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, sep } from 'node:path';
import { FileError } from '../errors.ts';
import type { ByteSource } from './bytes.ts';
import { problemOf } from './validation.ts';

/** What a path leads to, where that is no ordinary file. */
function otherKind(stats: Stats): string | null {
  if (stats.isFile()) return null;
  return stats.isDirectory() ? 'a folder' : stats.isFIFO() ? 'a pipe' : stats.isSocket() ? 'a socket' : 'a device';
}

/** Why a file could not be opened, in one line. */
function faultOf(path: string, error: unknown): FileError {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new FileError(path, 'no such file');
  try {
    const kind = otherKind(statSync(path)); // a socket, and a folder on Windows, cannot be opened at all
    if (kind) return new FileError(path, `is ${kind}, not an ordinary file`);
  } catch {} // the first error says more
  return new FileError(path, problemOf(error));
}

/** Whether a way from a folder leads out of it, or nowhere. */
const isOutside = (way: string): boolean => way === '' || way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way);

/**
 * True if `path` lies inside `folder`, at any depth, once every link in both is followed. The folder is not inside itself. Throws a
 * FileError that names `path` if there is no such file.
 */
export function insideFolder(folder: string, path: string): boolean {
  let way: string;
  try {
    way = relative(realpathSync(folder), realpathSync(path));
  } catch (error) {
    throw faultOf(path, error);
  }
  return !isOutside(way);
}

/**
 * Opens an ordinary file. Throws a FileError if there is none, and at once if the path leads to a folder, a device, a pipe or a
 * socket. `beside` follows links as insideFolder does. Where the file itself is a link, another file may also lie where that link
 * leads. In the cache of Hugging Face every file of a model is a link to a folder of blobs.
 */
export function openFile(path: string): ByteSource {
  let file = -1;
  let size: number;
  try {
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)); // a pipe that nobody writes opens at once, too
    const stats = fstatSync(file);
    if (otherKind(stats)) throw new Error('not an ordinary file');
    size = stats.size;
  } catch (error) {
    if (file >= 0) closeSync(file);
    throw faultOf(path, error);
  }
  return {
    ...{ name: path, size },
    read(at, length) {
      const bytes = new Uint8Array(length);
      let done = 0;
      try {
        for (let count = 1; done < length && count > 0; done += count) count = readSync(file, bytes, done, length - done, at + done);
      } catch (error) {
        throw new FileError(path, `cannot be read at byte ${at + done}: ${problemOf(error)}`);
      }
      return bytes.subarray(0, done);
    },
    beside(location) {
      const folder = dirname(path);
      const other = join(folder, location);
      if (!location || isAbsolute(location) || isOutside(relative(folder, other)))
        throw new FileError(path, `external data at "${location}" lies outside the model's folder`);
      if (!insideFolder(folder, other) && !insideFolder(dirname(realpathSync(path)), other))
        throw new FileError(path, `external data at "${location}" is a link that leads outside the model's folder, to ${realpathSync(other)}`);
      return openFile(other);
    },
    close: () => closeSync(file),
  };
}
