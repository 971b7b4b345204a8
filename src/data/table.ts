/**
 * Tables of captions as people have them. The header tells the separator, and the columns by their usual names or the given
 * ones. What is decided so is returned, to be stated; what cannot be decided is refused with the columns that are there.
 */
import { CsvError, parse } from 'csv-parse/sync';
import { FileError } from '../errors.ts';
import { type Column, type Columns, columnsAmong, plainName } from './table_columns.ts';
import { didYouMean, listed, problemOf, quoted } from './validation.ts';

/** What was found out about a table. */
export interface TableForm {
  /** Null for JSON lines. */
  separator: string | null;
  /** The names of the columns in the table; split may be missing. */
  columns: Columns;
}

const SEPARATORS = [',', ';', '\t', '|'];
const NAMES: Readonly<Record<string, string>> = { ',': 'commas', ';': 'semicolons', '\t': 'tabs', '|': 'bars (|)' };

/** The separator in words. */
export const separatorText = (separator: string | null): string =>
  separator === null ? 'JSON lines' : `separated by ${NAMES[separator] ?? quoted(separator)}`;

/** Throws a FileError for a column that is missing or there twice. */
function checkColumns(path: string, where: string, names: readonly string[], columns: Columns, asked: Columns, separator: string | null): void {
  const named = names.filter((name) => name.trim() !== '');
  const twice = named.find((name, i) => named.findIndex((other) => plainName(other) === plainName(name)) < i);
  if (twice !== undefined) throw new FileError(path, `${where}: the column ${quoted(twice)} is there twice: which one counts is not decided`);
  for (const column of ['image', 'caption', ...(asked.split === undefined ? [] : ['split'])] as Column[]) {
    if (columns[column] !== undefined) continue;
    const near = didYouMean(asked[column] ?? column, named);
    const wanted = asked[column] === undefined ? `no column ${column}` : `no column ${quoted(asked[column])} for ${column}`;
    const form = separator === null ? '' : `, ${separatorText(separator)}`;
    throw new FileError(path, `${where}: there is ${wanted}; the columns there are ${listed(named)}${form}${near}; name it, as --columns ${column}=NAME`);
  }
}

/** The fields of a header, quotes taken off, so far as one line tells them. */
function headerFields(line: string, separator: string): string[] {
  try {
    return (parse(line, { delimiter: separator, trim: true, relax_quotes: true, quote: separator === '|' ? null : '"' }) as string[][])[0] ?? [];
  } catch {
    return [];
  }
}

/** Excel writes `sep=;` as a first line. Else the separator is the one that gives the columns, or the most fields. */
function separatorOf(path: string, text: string, asked: Columns): { separator: string; from: number } {
  const [, told] = /^sep=(.)\r?\n/i.exec(text) ?? [];
  const from = told ? 2 : 1;
  if (told) return { separator: told, from };
  const header = text.split(/\r\n|\n|\r/).find((line) => line.trim() !== '') ?? '';
  if (header === '') throw new FileError(path, 'is empty: a header with the columns image and caption is expected');
  const tried = SEPARATORS.map((separator) => {
    const names = headerFields(header, separator);
    const { image, caption } = columnsAmong(names, asked);
    return { separator, fits: image !== undefined && caption !== undefined, fields: names.length };
  });
  return { separator: (tried.find(({ fits }) => fits) ?? tried.reduce((a, b) => (b.fields > a.fields ? b : a))).separator, from };
}

interface Found {
  record: Partial<Record<Column, unknown>>;
  line: number;
}

const pick = (columns: Columns, value: (name: string) => unknown): Found['record'] =>
  Object.fromEntries(Object.entries(columns).map(([column, name]) => [column, value(name)]));

function jsonLines(path: string, text: string, asked: Columns): { form: TableForm; records: Found[] } {
  let form: TableForm = { separator: null, columns: {} };
  const records = text.split(/\r?\n/).flatMap((line, i): Found[] => {
    if (line.trim() === '') return [];
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch (error) {
      throw new FileError(path, `line ${i + 1} is no JSON: ${problemOf(error, line).replace(/^line 1, /, '')}`);
    }
    if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new FileError(path, `line ${i + 1} is no JSON object`);
    const names = Object.keys(json);
    const columns = columnsAmong(names, asked);
    checkColumns(path, `line ${i + 1}`, names, columns, asked, null);
    form = { separator: null, columns: { ...columns, ...form.columns } };
    return [{ record: pick(columns, (name) => (json as Record<string, unknown>)[name]), line: i + 1 }];
  });
  return { form, records };
}

function separated(path: string, text: string, asked: Columns): { form: TableForm; records: Found[] } {
  const { separator, from } = separatorOf(path, text, asked);
  let rows: { record: string[]; info: { lines: number } }[];
  try {
    rows = parse(text, {
      delimiter: separator,
      from_line: from,
      ...{ info: true, skip_empty_lines: true, trim: true },
      // Tables with bars, such as Flickr30k's, quote nothing, and captions hold quotes.
      quote: separator === '|' ? null : '"',
    }) as unknown as typeof rows;
  } catch (error) {
    if (error instanceof CsvError) throw new FileError(path, `is no table ${separatorText(separator)}: ${problemOf(error)}`);
    throw error;
  }
  const [header, ...body] = rows;
  if (!header) throw new FileError(path, 'is empty: a header with the columns image and caption is expected');
  const names = header.record;
  const columns = columnsAmong(names, asked);
  checkColumns(path, 'the header', names, columns, asked, separator);
  const at = new Map(names.map((name, i) => [name, i]));
  return {
    form: { separator, columns },
    records: body.map(({ record, info }) => ({ record: pick(columns, (name) => record[at.get(name) ?? -1]), line: info.lines })),
  };
}

/** The records of a table with their lines. Throws a FileError that names the line, or the columns that are there. */
export function tableRecords(path: string, text: string, asked: Columns): { form: TableForm; records: Found[] } {
  if (/\.(jsonl|ndjson)$/i.test(path)) return jsonLines(path, text, asked);
  if (/\.(csv|tsv|tab|txt|psv)$/i.test(path)) return separated(path, text, asked);
  throw new FileError(path, 'is no table by its ending: .csv, .tsv, .txt and .jsonl are read');
}
