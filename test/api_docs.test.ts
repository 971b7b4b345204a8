/** The pages that are made from the source, or must name all of it, say what the source says. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { API_PAGE, apiPage, undocumented } from '../scripts/api_docs.ts';
import { ROOT } from '../scripts/exported.ts';
import { KERNELS_PAGE, withTables } from '../scripts/kernels_table.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { useGpu } from './support.ts';

useGpu();

describe('docs/api.md', () => {
  test.each(OPS.map((op) => [op.name, op] as const))('the table says of %s what a reader needs', (_name, { doc, inputs, outputs, backward }) => {
    expect(doc).toBeDefined();
    expect(Object.keys(doc?.tensors ?? {}).sort()).toEqual([...new Set([...inputs, ...outputs])].sort());
    expect(doc?.gradient === undefined, 'a gradient, or the reason for none').toBe(typeof backward === 'string');
  });

  test('everything exported has a docstring', () => {
    expect(undocumented()).toEqual([]);
  });

  test('is what scripts/api_docs.ts writes now, but for the last digit of numbers', async () => {
    // Of the printed numbers other adapters may round the last digit otherwise.
    const NUMBER = /-?\d+\.\d+(?:e[+-]?\d+)?/g;
    const [kept, made] = [readFileSync(API_PAGE, 'utf8'), await apiPage()];
    const lines = (text: string) => text.replace(NUMBER, '#').split('\n');
    const before = lines(kept);
    const changed = lines(made).filter((line, i) => line !== before[i]);
    expect(changed.slice(0, 3), 'run `npx tsx scripts/api_docs.ts`').toEqual([]);
    expect(made.split('\n').length).toBe(before.length);
    const numbers = (text: string) => (text.match(NUMBER) ?? []).map(Number);
    const wanted = numbers(kept);
    numbers(made).forEach((value, i) => {
      expect(Math.abs(value - wanted[i])).toBeLessThanOrEqual(2e-3 * Math.abs(wanted[i]));
    });
  });
});

test('docs/kernels.md shows the rows of every family', () => {
  const page = readFileSync(KERNELS_PAGE, 'utf8');
  expect(page, 'run `npx tsx scripts/kernels_table.ts`').toBe(withTables(page));
});

test('rows of families say an idea of their own', () => {
  for (const { name, versions } of Object.values(FAMILIES)) {
    const ideas = versions.map(({ idea }: { idea: string }) => idea);
    expect(new Set(ideas).size, name).toBe(versions.length);
    for (const idea of ideas) expect(idea.length, name).toBeGreaterThan(15);
    for (const [, told] of ideas.join(' ').matchAll(/as `(\w+)`/g))
      expect(
        versions.map((each: { name: string }) => each.name),
        name,
      ).toContain(told);
  }
});

/** Pages that a reader of the repository may open. */
const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'bench/RESULTS.md',
  ...readdirSync(join(ROOT, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : [])),
];

test.each(PAGES)('links of %s lead somewhere', (page) => {
  const text = readFileSync(join(ROOT, page), 'utf8').replace(/```[\s\S]*?```/g, '');
  const anchors = (path: string) =>
    [...readFileSync(path, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      title
        .toLowerCase()
        .replace(/[^\p{L}\p{N}_ -]/gu, '')
        .replace(/ /g, '-'),
    );
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target)) continue;
    const [file, anchor] = target.split('#');
    const path = file === '' ? join(ROOT, page) : join(ROOT, page, '..', file);
    expect(existsSync(path), `${page} links to ${target}`).toBe(true);
    if (anchor) expect(anchors(path), `${page} links to ${target}`).toContain(anchor);
  }
});
