/**
 * Writes the tables of versions in docs/kernels.md from the families' rows: `npx tsx scripts/kernels_table.ts`. A test compares
 * the two, so that the docs cannot fall behind.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { OPS } from '../src/autograd/ops/index.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import type { Family, Version } from '../src/kernels/family.ts';
import { withPart } from './page_part.ts';

export const KERNELS_PAGE = new URL('../docs/kernels.md', import.meta.url);
const [FIRST, LAST] = ['<!-- made by scripts/kernels_table.ts: do not edit -->', '<!-- end of the tables -->'];

const shaderLink = (file: string) => `[\`${file}.wgsl\`](../src/kernels/wgsl/${file}.wgsl)`;

/** The ops that run a family, forward or for their gradients. */
function usersOf(family: string): string {
  const forward = OPS.filter((op) => op.family === family).map(({ name }) => `\`${name}\``);
  const gradients = OPS.filter(({ gradientFamilies }) => gradientFamilies?.includes(family)).map(({ name }) => `the gradient of \`${name}\``);
  return [...forward, ...gradients].join(', ');
}

function section({ name, versions }: Family<never>): string {
  const row = (version: Version<never>) =>
    `| \`${version.name}\` | ${[version.shader, ...(version.uses ?? [])].map(shaderLink).join(', ')} | ${version.idea} |`;
  return [`### ${name}`, '', `Ops: ${usersOf(name)}.`, '', '| version | shaders | idea |', '|---|---|---|', ...versions.map(row)].join('\n');
}

/** The page with the tables as they should be. */
export const withTables = (page: string): string => withPart(page, FIRST, LAST, Object.values(FAMILIES).map(section).join('\n\n'));

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(KERNELS_PAGE, withTables(readFileSync(KERNELS_PAGE, 'utf8')));
