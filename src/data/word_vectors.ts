/**
 * Word vectors in GloVe's text format: a word and its numbers per line, separated by single spaces. Some of GloVe's words hold
 * spaces themselves, so the last numbers of a line are the vector, and what stands before them is the word.
 */
import { createHash } from 'node:crypto';
import { FileError } from '../errors.ts';
import { textLines } from './text.ts';
import { quoted } from './validation.ts';

/** Lines that tell the width together. */
const FIRST_LINES = 64;

export interface WordVectors {
  width: number;
  /** Vectors by the word's id in the vocabulary. */
  rows: Map<number, Float32Array>;
  /** First 16 digits of the hash of the vectors taken. */
  sha256: string;
  /** What is odd about the file and was passed over, as lines for people. */
  notes: string[];
}

interface Row {
  line: string;
  number: number;
  fields: string[];
}

const isNumber = (field: string) => field !== '' && Number.isFinite(Number(field));

/** Numbers at the end of a line. The first field is the word even if it is a number. */
function trailingNumbers({ fields }: Row): number {
  let count = 0;
  while (count < fields.length - 1 && isNumber(fields[fields.length - 1 - count])) count++;
  return count;
}

/**
 * The width on which most of the first lines agree, by their numbers and by their fields behind the first. A word may end in a
 * number, so of two widths the smaller counts.
 */
function widthOf(path: string, rows: readonly Row[]): number {
  const votes = new Map<number, number>();
  for (const row of rows) for (const width of [trailingNumbers(row), row.fields.length - 1]) votes.set(width, (votes.get(width) ?? 0) + 1);
  const [width = 0] = [...votes].sort(([a, x], [b, y]) => y - x || a - b)[0] ?? [];
  if (rows.length > 0 && (width === 0 || rows.every((row) => trailingNumbers(row) === 0)))
    throw new FileError(path, `line ${rows[0].number} is no word with numbers behind it, separated by single spaces`);
  return width;
}

/** Splits a line. Throws a FileError for two spaces in a row, which would make another word. */
function rowOf(path: string, line: string, number: number): Row {
  let end = line.length;
  while (end > 0 && (line[end - 1] === ' ' || line[end - 1] === '\r')) end--;
  const fields = line.slice(0, end).split(' ');
  if (fields.includes('')) throw new FileError(path, `line ${number} begins with a space, or has two in a row; single ones are expected`);
  return { line, number, fields };
}

/**
 * The vectors of the vocabulary's words. A first line "count width", as in word2vec's format, is checked against the others. Throws a
 * FileError if lines differ in width, a number is none, or no word of the vocabulary has a vector.
 */
export function readWordVectors(path: string, vocabulary: readonly string[], encoding?: string): WordVectors {
  const ids = new Map(vocabulary.map((word, id) => [word.normalize('NFC'), id]));
  const rows = new Map<number, Float32Array>();
  const hash = createHash('sha256');
  const repeated: string[] = [];
  const first: Row[] = [];
  let claimed: { count: number; width: number } | null = null;
  let [width, number, words] = [0, 0, 0];

  const take = ({ line, number: at, fields }: Row): void => {
    words++;
    const start = fields.length - width;
    if (start < 1) throw new FileError(path, `line ${at} has ${fields.length - 1} numbers, ${width} are expected`);
    const word = fields.slice(0, start).join(' ');
    const id = ids.get(word.normalize('NFC'));
    // All numbers of two million words would take minutes; the first one tells a line that is too short.
    const bad = (id === undefined ? [fields[start]] : fields.slice(start)).find((field) => !isNumber(field));
    if (bad !== undefined) throw new FileError(path, `line ${at} (${quoted(word)}) holds ${quoted(bad)}, which is no number; ${width} numbers are expected`);
    if (id === undefined) return;
    if (rows.has(id)) {
      repeated.push(`${quoted(word)} in line ${at}`);
      return;
    }
    rows.set(id, Float32Array.from(fields.slice(start), Number));
    hash.update(line);
  };
  const settle = () => {
    width = claimed?.width ?? widthOf(path, first);
    for (const row of first.splice(0)) take(row);
  };

  for (const raw of textLines(path, encoding)) {
    number++;
    if (raw.trim() === '') continue;
    const row = rowOf(path, raw, number);
    if (number === 1 && row.fields.length === 2 && row.fields.every((field) => /^\d+$/.test(field))) {
      claimed = { count: Number(row.fields[0]), width: Number(row.fields[1]) };
      continue;
    }
    if (width > 0) take(row);
    else if (first.push(row) === FIRST_LINES || claimed) settle();
  }
  if (width === 0) settle();
  if (rows.size === 0) throw new FileError(path, `has a vector for none of the words of the vocabulary, among its ${words}`);
  const notes = [
    ...(claimed && claimed.count !== words ? [`says ${claimed.count} words and has ${words}: it may be cut off`] : []),
    ...(repeated.length > 0 ? [`has ${repeated.length} words of the vocabulary again; the first vector counts (${repeated.slice(0, 3).join(', ')})`] : []),
  ];
  return { width, rows, sha256: hash.digest('hex').slice(0, 16), notes };
}
