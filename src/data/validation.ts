/**
 * One text for every fault that a validator, a parser, the system or a library finds. It tells the field, what came, what was
 * expected, and what is there instead. It knows errors by their form and imports no library, so that pages can use it too.
 */
import { FileError, GlimpseError, messageOf } from '../errors.ts';
import { printable } from '../printable.ts';

/** What this file needs of a schema of zod's. */
interface Schema<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: { issues: readonly unknown[] } };
}

/** What zod says of one fault; which fields there are depends on `code`. */
interface Issue {
  code: string;
  path: readonly PropertyKey[];
  message: string;
  expected?: string;
  values?: readonly unknown[];
  options?: readonly unknown[];
  discriminator?: string;
  origin?: string;
  minimum?: number | bigint;
  maximum?: number | bigint;
  inclusive?: boolean;
  keys?: readonly string[];
  errors?: readonly (readonly Issue[])[];
}

const MOST_LISTED = 12;
const MOST_SHOWN = 60;

/** Edits that turn one word into another: a character more, less, other, or two swapped. */
function edits(a: string, b: string): number {
  let [before, row] = [[] as number[], Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? before[j - 2] + 1 : Infinity;
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1), swapped);
    }
    [before, row] = [row, next];
  }
  return row[b.length];
}

/** ` (did you mean "caption"?)`, or nothing where no name is near. Capitals do not count. */
export function didYouMean(word: string, names: readonly string[]): string {
  if (word.length > MOST_SHOWN) return '';
  const near = names
    .filter((name) => name.length <= MOST_SHOWN)
    .map((name) => ({ name, distance: edits(word.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  return near && near.distance <= Math.max(1, Math.floor(word.length / 3)) ? ` (did you mean ${quoted(near.name)}?)` : '';
}

/** A text from outside between quotes: short, and on one line. */
export function quoted(text: string): string {
  return `"${printable(text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text)}"`;
}

/** Names from outside, one after the other; a count stands for what is beyond the first. */
export function listed(names: readonly string[]): string {
  const rest = names.length - MOST_LISTED;
  return names.slice(0, MOST_LISTED).map(quoted).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : `a list of ${value.length}`;
  if (typeof value === 'string') return quoted(value);
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

const either = (names: readonly string[]) => names.join(names.length === 2 ? ' or ' : ', ').replace(/, ([^,]*)$/, ' or $1');
const NAMES: Readonly<Record<string, string>> = { int: 'whole number', array: 'list', record: 'object' };

function valueAt(given: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value && typeof value === 'object' ? (value as Record<PropertyKey, unknown>)[key] : undefined), given);
}

/** What was expected, for each kind of fault. */
function expectation(issue: Issue): string {
  const { code, expected = '', values = [], options = [], origin, minimum, maximum, inclusive, keys = [] } = issue;
  const size = origin === 'array' ? ' entries' : origin === 'string' ? ' characters' : '';
  switch (code) {
    case 'invalid_type':
      return `expected ${NAMES[expected] ?? expected}`;
    case 'invalid_value':
      return `expected ${either(values.map(String))}`;
    case 'invalid_union':
      return `expected ${either(options.map(String))}`;
    case 'too_small':
      return `expected ${inclusive ? 'at least' : 'more than'} ${minimum}${size}`;
    case 'too_big':
      return `expected ${inclusive ? 'at most' : 'less than'} ${maximum}${size}`;
    case 'unrecognized_keys':
      return `has fields that are not known: ${listed(keys)}`;
    default:
      return issue.message;
  }
}

/** A union's fault: the types of all its members, or the first fault of the member that fits furthest. */
function ofUnion(issue: Issue, given: unknown): string | null {
  const members = issue.errors ?? [];
  if (issue.code !== 'invalid_union' || members.length === 0) return null;
  const firsts = members.map(([first]) => first);
  if (firsts.every(({ code, path }) => code === 'invalid_type' && path.length === 0)) {
    const types = firsts.map(({ expected = '' }) => NAMES[expected] ?? expected);
    return `${placeOf(issue.path)}expected ${either(types)}, received ${shown(valueAt(given, issue.path))}`;
  }
  const furthest = firsts.reduce((a, b) => (b.path.length > a.path.length ? b : a));
  return issueText({ ...furthest, path: [...issue.path, ...furthest.path] }, given);
}

const placeOf = (path: readonly PropertyKey[]) => (path.length > 0 ? `${printable(path.map(String).join('.'))}: ` : '');

function issueText(issue: Issue, given: unknown): string {
  const union = ofUnion(issue, given);
  if (union !== null) return union;
  const { code, path, values = [], options = [] } = issue;
  const place = placeOf(path);
  if (code === 'unrecognized_keys') return `${place}${expectation(issue)}`;
  const value = valueAt(given, path);
  const near = typeof value === 'string' ? didYouMean(value, [...values, ...options].map(String)) : '';
  if (value !== undefined || path.length === 0) return `${place}${expectation(issue)}, received ${shown(value)}${near}`;
  const around = valueAt(given, path.slice(0, -1));
  const fields = around && typeof around === 'object' && !Array.isArray(around) ? Object.keys(around) : [];
  const there = fields.length > 0 ? `; the fields there are ${listed(fields)}` : '';
  return `${place}${expectation(issue)}, received nothing${there}${didYouMean(String(path[path.length - 1]), fields)}`;
}

/** Where JSON is broken, by line and column; V8 tells an offset, or only what it met. */
function jsonProblem(text: string, error: unknown): string {
  const message = messageOf(error).replace(/ \(line \d+ column \d+\)$/, '');
  if (/^Unexpected end of JSON input/.test(message)) return `ends too early, in line ${text.split('\n').length}: it may be cut off`;
  const [, what, offset] = /^(.*?) in JSON at position (\d+)/s.exec(message) ?? [];
  if (offset === undefined) return printable(message);
  const before = text.slice(0, Number(offset)).split('\n');
  return `line ${before.length}, column ${before[before.length - 1].length + 1}: ${printable(what)}`;
}

/** What the system says, in words. */
const SYSTEM: Readonly<Record<string, string>> = {
  ...{ ENOENT: 'no such file or folder', EISDIR: 'is a folder; a file is expected', ENOTDIR: 'leads through a file as if it were a folder' },
  ...{ EACCES: 'permission is denied', EPERM: 'the system does not permit it', EROFS: 'lies on a disk that is read-only' },
  ...{
    ENOSPC: 'no space is left on the disk',
    EMFILE: 'too many files are open',
    ELOOP: 'is a link that leads to itself',
    ENAMETOOLONG: 'the name is too long',
  },
  ...{ EEXIST: 'is there already', ENOTEMPTY: 'is a folder that is not empty', EIO: 'the disk fails to read or write' },
};

/** What csv-parse says, in words. */
function csvProblem({ code, message, lines, record }: { code: string; message: string; lines?: number; record?: unknown }): string {
  const fields = Array.isArray(record) ? record.length : 0;
  const expected = /expect (\d+)/.exec(message)?.[1];
  if (code === 'CSV_RECORD_INCONSISTENT_FIELDS_LENGTH' && expected)
    return `line ${lines}: ${fields} fields, ${expected} are expected; a separator within a caption needs quotes around the caption`;
  if (code === 'CSV_QUOTE_NOT_CLOSED') return `the quote that opens in line ${/at line (\d+)/.exec(message)?.[1]} is never closed`;
  return `line ${lines}: ${printable(message)}`;
}

/** What went wrong, in one line, whatever threw it. `given` is what was checked, or the text that was parsed. */
export function problemOf(error: unknown, given?: unknown): string {
  const known = error as { issues?: readonly Issue[]; code?: unknown; syscall?: unknown; message: string } | null;
  if (Array.isArray(known?.issues) && known.issues.length > 0) {
    const rest = known.issues.length - 1;
    return `${issueText(known.issues[0], given)}${rest > 0 ? ` (and ${rest} more faults)` : ''}`;
  }
  if (error instanceof SyntaxError && typeof given === 'string') return jsonProblem(given, error);
  if (typeof known?.code === 'string' && known.syscall !== undefined && Object.hasOwn(SYSTEM, known.code)) return SYSTEM[known.code];
  if (typeof known?.code === 'string' && known.code.startsWith('CSV_')) return csvProblem(known as Parameters<typeof csvProblem>[0]);
  if (error instanceof GlimpseError) return error.message;
  return printable(
    messageOf(error)
      .trim()
      .replace(/\s*\n\s*/g, '; '),
  );
}

/** The value by a schema. Throws a FileError: the path, `verdict` (as "is no dataset"), the field and what is wrong with it. */
export function checkedBy<T>(path: string, schema: Schema<T>, value: unknown, verdict: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new FileError(path, `${verdict}: ${problemOf(parsed.error, value)}`);
}

/**
 * JSON by a schema. Throws a FileError as `checkedBy` does, or one that says where the text is no JSON. `parse` is exactJson for files
 * with ids of other people.
 */
export function parseJson<T>(path: string, text: string, schema: Schema<T>, verdict: string, parse: (text: string) => unknown = JSON.parse): T {
  let json: unknown;
  try {
    json = parse(text);
  } catch (error) {
    throw new FileError(path, `${verdict}: it is no JSON: ${problemOf(error, text)}`);
  }
  return checkedBy(path, schema, json, verdict);
}

const LONG_NUMBER = /\d{16}/;
const STRING_OR_NUMBER = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/gs;
const MARK = '\u0000whole number ';

/** As JSON.parse, but whole numbers beyond 2^53 come as bigint, so that ids keep their digits. */
export function exactJson(text: string): unknown {
  const plain: unknown = JSON.parse(text);
  if (!LONG_NUMBER.test(text)) return plain;
  let long = 0;
  const marked = text.replace(STRING_OR_NUMBER, (token) => {
    if (!/^-?\d{16,}$/.test(token) || Number.isSafeInteger(Number(token))) return token;
    long++;
    return JSON.stringify(MARK + token);
  });
  return long === 0
    ? plain
    : JSON.parse(marked, (_key, value) => (typeof value === 'string' && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value));
}
