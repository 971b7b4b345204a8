/** A file as a source of bytes: only what is asked for is read. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { dirname, isAbsolute, normalize, resolve, sep } from 'node:path';
import { FileError } from '../errors.ts';
import type { ByteSource } from './bytes.ts';
import { problemOf } from './validation.ts';

/** Opens a file. Throws a FileError if that is impossible. */
export function openFile(path: string): ByteSource {
  let file: number;
  let size: number;
  try {
    file = openSync(path, 'r');
    size = fstatSync(file).size;
  } catch (error) {
    throw new FileError(path, problemOf(error));
  }
  return {
    ...{ name: path, size },
    read(at, length) {
      const bytes = new Uint8Array(length);
      let done = 0;
      for (let count = 1; done < length && count > 0; done += count) count = readSync(file, bytes, done, length - done, at + done);
      return bytes.subarray(0, done);
    },
    beside(location) {
      const folder = resolve(dirname(path));
      const other = resolve(folder, normalize(location));
      if (!location || isAbsolute(location) || !other.startsWith(folder + sep))
        throw new FileError(path, `external data at "${location}" lies outside the model's folder`);
      return openFile(other);
    },
    close: () => closeSync(file),
  };
}
