/** Which columns of a table are the image, the caption and the split. It reads nothing, so that options can be checked by it. */
import { UsageError } from '../errors.ts';

/** The columns that a table gives, and the names that count as theirs, the likeliest first. */
const USUAL = {
  image: ['image', 'image_name', 'file_name', 'filename', 'file', 'image_path'],
  caption: ['caption', 'comment', 'text', 'sentence'],
  split: ['split'],
} as const;

export type Column = keyof typeof USUAL;
/** Which column of the table is the image, the caption, the split, by its name there. */
export type Columns = Partial<Record<Column, string>>;

/** `image=photo,caption=text` → the columns by name. Throws a UsageError that names the flag. */
export function parseColumns(given: string, flag: string): Columns {
  const columns: Columns = {};
  for (const part of given.split(',')) {
    const [, column, name] = /^\s*(\w+)\s*=\s*(.+?)\s*$/.exec(part) ?? [];
    if (!column || !Object.hasOwn(USUAL, column)) throw new UsageError(`${flag} takes image=NAME,caption=NAME,split=NAME (one or more of them), got "${part}"`);
    columns[column as Column] = name;
  }
  return columns;
}

/** A column's name without capitals, its blanks as underscores. */
export const plainName = (name: string) =>
  name
    .trim()
    .toLowerCase()
    .replace(/[\s-]+/g, '_');

/** The columns among the names of a header: those asked for, else the usual ones, whatever their capitals. */
export function columnsAmong(names: readonly string[], asked: Columns): Columns {
  const entries = (Object.keys(USUAL) as Column[]).map((column) => {
    const wanted: readonly string[] = asked[column] === undefined ? USUAL[column] : [asked[column]];
    const exact = wanted.map((each) => names.find((name) => name === each)).find((name) => name !== undefined);
    return [column, exact ?? wanted.map((each) => names.find((name) => plainName(name) === plainName(each))).find((name) => name !== undefined)];
  });
  return Object.fromEntries(entries.filter(([, name]) => name !== undefined));
}
