/**
 * Writes the table of training options in docs/captioner.md from their schema (src/model/training/options.ts):
 * `npx tsx scripts/options_table.ts`. A test compares the two, so that the docs cannot fall behind.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { TRAINING_OPTIONS } from '../src/model/training/options.ts';
import { defaultText, flagOf, type Row } from '../src/options.ts';
import { withPart } from './page_part.ts';

export const OPTIONS_PAGE = new URL('../docs/captioner.md', import.meta.url);
const [FIRST, LAST] = ['<!-- made by scripts/options_table.ts: do not edit -->', '<!-- end of the table -->'];

function line(name: string, row: Row): string {
  const { values, help, required, belongsTo = [] } = row;
  const { kind, placeholder, choices } = values;
  const flag = `${flagOf(name)}${placeholder ? ` <${placeholder}${kind === 'list' ? '...' : ''}>` : ''}`;
  const options = kind === 'switch' ? `\`${flag}\`, \`${flagOf(name, false)}\`` : `\`${flag}\``;
  const conditions = belongsTo.map(({ to }) => to).join(', ');
  const does = choices ? `${help} (${choices.map((each) => `\`${each}\``).join(', ')})` : help;
  return `| ${options} | ${required ? 'required' : defaultText(row)} | ${conditions} | ${does} |`;
}

function table(): string {
  const groups = new Map<string, string[]>();
  for (const [name, row] of Object.entries<Row>(TRAINING_OPTIONS)) {
    const group = row.group as string;
    groups.set(group, [...(groups.get(group) ?? [`**${group}**`, '', '| option | default | only with | |', '|---|---|---|---|']), line(name, row)]);
  }
  return [...groups.values()].map((lines) => lines.join('\n')).join('\n\n');
}

/** The page with the table as it should be. */
export const withTable = (page: string): string => withPart(page, FIRST, LAST, table());

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(OPTIONS_PAGE, withTable(readFileSync(OPTIONS_PAGE, 'utf8')));
