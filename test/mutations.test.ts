/** The rows of the mutation test fit the shaders of today. The faults themselves are run by `npm run mutation`. */
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mutated, staleRows } from '../scripts/mutate_shaders.ts';
import { MUTATIONS, type Mutation } from '../scripts/mutations.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { temporaryFolder } from './support.ts';

const ROOT = join(import.meta.dirname, '..');
const SHADERS = readdirSync(join(ROOT, 'src/kernels/wgsl')).map((file) => file.replace(/\.wgsl$/, ''));

test('every row finds its text once, and names ops that there are', () => {
  expect(staleRows(ROOT, MUTATIONS)).toEqual([]);
  const names = new Set(OPS.map(({ name }) => name));
  expect(MUTATIONS.flatMap(({ ops }) => ops).filter((name) => !names.has(name))).toEqual([]);
});

test('every shader has a fault, but for the roofs, which no op runs, and what subgroup_matrix.test.ts has faults of', () => {
  const faulty = new Set([...MUTATIONS.map(({ shader }) => shader), 'matmul_subgroup_matrix', 'split_halves']);
  expect(SHADERS.filter((shader) => !faulty.has(shader)).sort()).toEqual(['roof_copy', 'roof_fma']);
});

test('a row that does not fit is told', () => {
  const root = temporaryFolder();
  const folder = join(root, 'src/kernels/wgsl');
  mkdirSync(folder, { recursive: true });
  cpSync(join(ROOT, 'src/kernels/wgsl/unary.wgsl'), join(folder, 'unary.wgsl'));
  const row: Mutation = { name: 'a fault', shader: 'unary', find: 'i < params.count4', replace: 'i + 1u < params.count4', ops: ['square'] };
  expect(staleRows(root, [row])).toEqual([]);
  expect(mutated(root, row)).toContain('if (i + 1u < params.count4) {');
  expect(staleRows(root, [row, row])).toEqual(['unary: a fault: two rows have this name']);
  expect(staleRows(root, [{ ...row, find: 'params' }]).join()).toMatch(/expected its text once in the shader, found it \d+ times/);
  expect(staleRows(root, [{ ...row, shader: 'gone' }]).join()).toContain('there is no shader');
  expect(staleRows(root, [{ ...row, replace: row.find }]).join()).toContain('changes nothing');
  const path = join(folder, 'unary.wgsl');
  writeFileSync(path, readFileSync(path, 'utf8').replace('i < params.count4', 'i >= params.count4'));
  expect(staleRows(root, [row]).join()).toContain('found it 0 times');
});
