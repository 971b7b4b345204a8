/**
 * Text files that people wrote or saved: captions, tables, lists, results, word vectors. A byte-order mark tells UTF-8 and UTF-16;
 * without one a file is UTF-8, or what the caller names. Bytes that are no such text are refused by line and byte, never replaced.
 */
import { FileError, UsageError } from '../errors.ts';
import { openFile } from './file_source.ts';

const CHUNK = 1 << 22;
const MAX_LINE = 1 << 16;
/** No text of JavaScript is longer. */
const MAX_TEXT = 2 ** 29 - 24;

/** Marks at the beginning of a file, the longer ones first. */
const MARKS: readonly (readonly [encoding: string, bytes: readonly number[]])[] = [
  ['utf-32le', [0xff, 0xfe, 0, 0]],
  ['utf-32be', [0, 0, 0xfe, 0xff]],
  ['utf-8', [0xef, 0xbb, 0xbf]],
  ['utf-16le', [0xff, 0xfe]],
  ['utf-16be', [0xfe, 0xff]],
];

/** Windows-1252 between 0x80 and 0x9f; five of the bytes stand for control characters. Some versions of Node decode these as Latin-1. */
const WINDOWS_1252 = '€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ';

/** Throws a UsageError for a name that no encoding of the WHATWG's standard has. */
export function checkEncoding(name: string, flag: string): void {
  try {
    new TextDecoder(name);
  } catch {
    throw new UsageError(`${flag} takes the name of an encoding, such as utf-8, utf-16le, windows-1252, shift_jis or gbk; got "${name}"`);
  }
}

function decoderOf(encoding: string): (bytes: Uint8Array) => string {
  const decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: true });
  if (decoder.encoding !== 'windows-1252') return (bytes) => decoder.decode(bytes);
  return (bytes) =>
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
      .toString('latin1')
      .replace(/[\x80-\x9f]/g, (c) => WINDOWS_1252[c.charCodeAt(0) - 0x80]);
}

/** The encoding that a mark tells, else the one named, else UTF-8; and the length of the mark. Throws a FileError for UTF-32. */
function encodingOf(path: string, head: Uint8Array, named: string | undefined): { encoding: string; mark: number } {
  const [marked, bytes] = MARKS.find(([, mark]) => mark.every((byte, i) => head[i] === byte)) ?? [null, []];
  if (marked?.startsWith('utf-32')) throw new FileError(path, 'is UTF-32, which is not read; save it as UTF-8');
  return { encoding: marked ?? new TextDecoder(named ?? 'utf-8').encoding, mark: bytes.length };
}

/** The first byte that begins no character of the encoding. What stands before it is sound, so halving finds it. */
function firstFault(bytes: Uint8Array, encoding: string): number {
  const isSound = (length: number, stream = true) => {
    try {
      new TextDecoder(encoding, { fatal: true }).decode(bytes.subarray(0, length), { stream });
      return true;
    } catch {
      return false;
    }
  };
  let [sound, faulty] = [0, bytes.length + 1];
  while (faulty - sound > 1) {
    const middle = (sound + faulty) >> 1;
    if (isSound(middle)) sound = middle;
    else faulty = middle;
  }
  // A character may have begun before the byte that breaks it.
  const begun = [0, 1, 2, 3].find((back) => sound >= back && isSound(sound - back, false)) ?? 0;
  return Math.min(sound - begun, bytes.length - 1);
}

/** Decodes whole lines that begin at a line and a byte of the file, both counted from 0. */
function decode(path: string, bytes: Uint8Array, encoding: string, line: number, start: number): string {
  const linesBefore = (text: string) => line + text.split('\n').length;
  const told = encoding.toUpperCase();
  let text: string;
  try {
    text = decoderOf(encoding)(bytes);
  } catch {
    const at = firstFault(bytes, encoding);
    const before = new TextDecoder(encoding).decode(bytes.subarray(0, at));
    const byte = `0x${bytes[at].toString(16).padStart(2, '0').toUpperCase()}`;
    throw new FileError(
      path,
      `line ${linesBefore(before)} is not ${told} (byte ${start + at + 1} of the file is ${byte}); name its encoding, as --encoding windows-1252, or save it as UTF-8`,
    );
  }
  const zero = text.indexOf('\0');
  if (zero >= 0)
    throw new FileError(
      path,
      `line ${linesBefore(text.slice(0, zero))} has a zero byte: it is no text, or UTF-16 without a byte-order mark (--encoding utf-16le reads that)`,
    );
  return text;
}

/** The whole text of a file. Throws a FileError if it cannot be read or decoded. */
export function readText(path: string, encoding?: string): string {
  const file = openFile(path);
  let bytes: Uint8Array;
  try {
    if (file.size > MAX_TEXT)
      throw new FileError(path, `has ${Math.ceil(file.size / 2 ** 20)} MiB; ${Math.floor(MAX_TEXT / 2 ** 20)} are the most that is read as one text`);
    bytes = file.read(0, file.size);
  } finally {
    file.close();
  }
  return textOf(path, bytes, encoding);
}

/** The text of a file whose bytes are in memory, as `readText` gives it. */
export function textOf(path: string, bytes: Uint8Array, encoding?: string): string {
  const { encoding: own, mark } = encodingOf(path, bytes, encoding);
  return decode(path, bytes.subarray(mark), own, 0, mark);
}

/** One past the last line feed among the bytes; 0 if there is none. */
function endOfLines(bytes: Uint8Array, encoding: string): number {
  if (!encoding.startsWith('utf-16')) return bytes.lastIndexOf(0x0a) + 1;
  const low = encoding === 'utf-16le' ? 0 : 1;
  for (let at = bytes.length - (bytes.length % 2) - 2; at >= 0; at -= 2) if (bytes[at + low] === 0x0a && bytes[at + 1 - low] === 0) return at + 2;
  return 0;
}

/**
 * The lines of a file of any size, a few megabytes in memory at a time. Throws a FileError as `readText` does, and for lines that are
 * longer than `longest` bytes.
 */
export function* textLines(path: string, encoding?: string, longest = MAX_LINE): Generator<string> {
  const file = openFile(path);
  try {
    const { encoding: own, mark } = encodingOf(path, file.read(0, 4), encoding);
    let rest: Uint8Array = new Uint8Array(0);
    let [line, start, at] = [0, mark, mark];
    for (;;) {
      const chunk = file.read(at, CHUNK);
      at += chunk.length;
      rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
      const isLast = chunk.length === 0;
      const end = isLast ? rest.length : endOfLines(rest, own);
      const lines = decode(path, rest.subarray(0, end), own, line, start).split('\n');
      if (!isLast) lines.pop(); // what stands behind the last line feed is not read yet
      const long = lines.findIndex(({ length }) => length > longest);
      if (long >= 0) throw new FileError(path, `line ${line + long + 1} is longer than ${longest} bytes`);
      yield* lines;
      if (isLast) return;
      line += lines.length;
      start += end;
      rest = rest.subarray(end);
      if (rest.length > longest) throw new FileError(path, `line ${line + 1} is longer than ${longest} bytes`);
    }
  } finally {
    file.close();
  }
}
