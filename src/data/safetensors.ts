/** Safetensors files (safetensors_format.ts): read as far as they are asked for, written at once or not at all. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { FileError, messageOf } from '../errors.ts';
import { writeFileAtomic } from './atomic_file.ts';
import { parseSafetensors, type SafetensorsFile, safetensorsBytes } from './safetensors_format.ts';

export type { SafetensorsFile, StoredTensor } from './safetensors_format.ts';

export function readSafetensors(path: string): SafetensorsFile {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    throw new FileError(path, messageOf(error));
  }
  try {
    const read = (at: number, length: number): Uint8Array<ArrayBuffer> => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, readSync(file, bytes, 0, length, at));
    };
    return parseSafetensors({ name: path, size: fstatSync(file).size, read });
  } finally {
    closeSync(file);
  }
}

/** Writes the tensors atomically. */
export function writeSafetensors(path: string, ...content: Parameters<typeof safetensorsBytes>): void {
  writeFileAtomic(path, safetensorsBytes(...content));
}
