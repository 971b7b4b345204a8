/** Every shader file × variant compiles, on the null backend: needs no driver at all. And the loader's own rules. */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Gpu } from '../src/gpu/gpu.ts';
import { loadShader, type ShaderVariant } from '../src/gpu/shader.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { shaderSource } from '../src/platform/node/shader_files.ts';

const files = readdirSync(new URL('../src/kernels/wgsl', import.meta.url))
  .filter((name) => name.endsWith('.wgsl'))
  .map((name) => name.replace(/\.wgsl$/, ''));

const load = (variant: ShaderVariant) => loadShader(variant, shaderSource(variant.file));

/** Values an `override` is used with, beyond both truths of a bool. */
const OVERRIDES: Record<string, number[]> = { KIND: [0, 1, 2, 3, 4, 5], LANES: [1, 128], ROWS: [1], REGIONS: [64, 128] };

function product<T>(lists: Record<string, T[]>): Record<string, T>[] {
  return Object.entries(lists).reduce<Record<string, T>[]>(
    (all, [name, values]) => all.flatMap((one) => values.map((value) => ({ ...one, [name]: value }))),
    [{}],
  );
}

function variants(file: string): ShaderVariant[] {
  const source = shaderSource(file);
  const overrides: Record<string, number[]> = {};
  for (const [, name, type] of source.matchAll(/^override (\w+): (\w+)/gm)) {
    const values = type === 'bool' ? [0, 1] : OVERRIDES[name];
    if (!values) throw new Error(`${file}: say in this test which values ${name} takes`);
    overrides[name] = values;
  }
  return product(load({ file }).tunable).flatMap((tune) => product(overrides).map((constants) => ({ file, tune, constants })));
}

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu({ adapter: 'null', allowNull: true });
});
afterAll(async () => {
  await gpu.close();
});

/** Has workgroups of 64; the null backend says that its subgroups have up to 128, and makes no pipeline of it. */
const FOR_SUBGROUPS_OF_32 = ['matmul_subgroup_matrix'];

describe('compiles', () => {
  test.each(files)('%s', async (file) => {
    for (const variant of variants(file)) {
      expect(await gpu.compileMessages(variant)).toEqual([]);
      if (!FOR_SUBGROUPS_OF_32.includes(file)) expect(gpu.kernel(variant).name).toBe(file);
    }
  });
});

test.each(files)('%s is valid WGSL as it stands', async (file) => {
  const info = await gpu.device.createShaderModule({ code: shaderSource(file) }).getCompilationInfo();
  expect(info.messages.map((m) => m.message)).toEqual([]);
});

/** The comment lines that a file opens with, as one text. */
function headerOf(source: string): string {
  const lines = source.split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  return lines
    .slice(0, end)
    .map((line) => line.replace(/^\/\/ ?/, ''))
    .join('\n');
}

/** What a header lacks, or says though it changes with the machine. */
function faultsOfHeader(source: string): string[] {
  const header = headerOf(source);
  const words = header.replaceAll(/\s+/g, ' ');
  return [
    ...(/\b(invocation|workgroup|subgroup|lanes)\b[^.]*?\bowns\b/i.test(words) ? [] : ['says not what one invocation, workgroup or subgroup owns']),
    ...(/\[[^\]]+\]|\bshape\[\]|[Ss]hapes|bindings as in|through strides/i.test(header) ? [] : ['says not the shapes that it binds']),
    ...[...words.matchAll(/[\d.]+ ?(?:ms|µs|s|GF\/s|GB\/s|%|times)(?= |$|[.,;)])/g)].map(([found]) => `has a measured number: ${found}`),
    ...[...words.matchAll(/\bversions? \d+/gi)].map(([found]) => `names a version by its number: ${found}`),
  ];
}

test.each(files)('%s opens with what it computes, the shapes it binds, and who owns what', (file) => {
  expect(headerOf(shaderSource(file)).split('\n').length).toBeGreaterThanOrEqual(3);
  expect(faultsOfHeader(shaderSource(file))).toEqual([]);
});

test('a header that says nothing of who owns what is found, whatever follows it', () => {
  const source = `// Adds one.
//
// x [n]: 3.2 ms of 4, 1.2 times version 2
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
// One invocation owns one element.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  x[id.x] += 1.0;
}
`;
  expect(faultsOfHeader(source)).toEqual([
    'says not what one invocation, workgroup or subgroup owns',
    'has a measured number: 3.2 ms',
    'has a measured number: 1.2 times',
    'names a version by its number: version 2',
  ]);
});

test('the null backend is refused for real work', async () => {
  await expect(openGpu({ adapter: 'null' })).rejects.toThrow(/null backend executes nothing/);
});

test('a wrong tune value, constant, parameter or file is refused by name', () => {
  expect(() => load({ file: 'matmul_subgroup', tune: { WIDTH: 5 } })).toThrow('WIDTH = 5 is not among its @tune values 4 8');
  expect(() => load({ file: 'matmul_subgroup', tune: { DEPTH: 5 } })).toThrow('has no @tune constant DEPTH');
  expect(() => load({ file: '../x' })).toThrow(/letters, digits/);
  const kernel = gpu.kernel({ file: 'axpby' });
  expect(() => gpu.dispatch(kernel, [], {}, [1, 1, 1])).toThrow('axpby binds 2 buffers, got 0');
});

test('unrolled loops have literal indices', () => {
  const { code } = load({ file: 'matmul_subgroup_pairs', tune: { WIDTH: 4 } });
  expect(code).toContain('acc[15u] = fma(vec4f(subgroupBroadcast(a1[15u % 4u], 15u / 4u))');
  expect(code).not.toContain('acc[16u]');
  expect(code).not.toContain('// @unroll');
});

test('a compile error prints every message and the shader with line numbers', () => {
  expect(() => gpu.kernel({ file: 'unary', expressions: { f: 'no_such_function(x)' } })).toThrow(/no_such_function[\s\S]*\d+ \| fn f\(x: vec4f/);
});
