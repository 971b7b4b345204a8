/** Word vectors in GloVe's text format: a word and its numbers per line, separated by single spaces. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { FileError } from '../errors.ts';
import { onFile } from './atomic_file.ts';

const CHUNK = 1 << 22;
const MAX_LINE = 1 << 16;

export interface WordVectors {
  width: number;
  /** Vectors by the word's id in the vocabulary. */
  rows: Map<number, Float32Array>;
  /** First 16 digits of the hash of the vectors taken. */
  sha256: string;
}

/** Lines of a file of any size, one chunk in memory at a time. */
function* lines(path: string): Generator<string> {
  const file = onFile(path, () => openSync(path, 'r'));
  try {
    const buffer = Buffer.alloc(CHUNK);
    const decoder = new StringDecoder('utf8');
    let rest = '';
    for (;;) {
      const count = onFile(path, () => readSync(file, buffer));
      rest += count > 0 ? decoder.write(buffer.subarray(0, count)) : decoder.end();
      const parts = rest.split('\n');
      rest = count > 0 ? (parts.pop() ?? '') : '';
      yield* parts;
      if (count === 0) return;
      if (rest.length > MAX_LINE) throw new FileError(path, `has a line of more than ${MAX_LINE} characters`);
    }
  } finally {
    closeSync(file);
  }
}

/**
 * The vectors of the vocabulary's words. A first line "count width", as in word2vec's format, is skipped. Throws a FileError if
 * lines differ in width, a number is none, or no word of the vocabulary has a vector.
 */
export function readWordVectors(path: string, vocabulary: readonly string[]): WordVectors {
  const ids = new Map(vocabulary.map((word, id) => [word, id]));
  const rows = new Map<number, Float32Array>();
  const hash = createHash('sha256');
  let width = 0;
  let number = 0;
  for (const line of lines(path)) {
    number++;
    if (line.trim() === '') continue;
    const fields = line.trimEnd().split(' ');
    if (number === 1 && fields.length === 2 && fields.every((field) => /^\d+$/.test(field))) continue;
    width ||= fields.length - 1;
    if (width < 1 || fields.length !== width + 1)
      throw new FileError(path, `line ${number} has ${fields.length - 1} numbers, ${width || 'at least 1'} are expected`);
    const id = ids.get(fields[0]);
    if (id === undefined || rows.has(id)) continue;
    const vector = Float32Array.from(fields.slice(1), Number);
    if (!vector.every(Number.isFinite)) throw new FileError(path, `line ${number} ("${fields[0]}") holds something that is no number`);
    rows.set(id, vector);
    hash.update(line);
  }
  if (rows.size === 0) throw new FileError(path, 'has a vector for none of the words of the vocabulary');
  return { width, rows, sha256: hash.digest('hex').slice(0, 16) };
}
