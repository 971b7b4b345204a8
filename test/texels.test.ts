/** Copies that kernels read as texels: their layouts, and that none is read once its buffer has other values. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { forceVersion } from '../src/kernels/families.ts';
import { full, memory, scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();
const WITHOUT_SUBGROUPS = 'no version reads texels on an adapter without subgroups';

test('a copy kept for reading as texels gives way when its buffer is written, however that happens', async () => {
  const { gpu } = device;
  const version = ['subgroup_texels', 'naive'].find((name) => name === 'naive' || gpu.subgroupWidth > 0) as string;
  using _s = scope();
  const a = full([32, 32], 1);
  const b = tensor(new Float32Array(32 * 32).fill(1), [32, 32]);
  const first = async () => {
    using _once = scope();
    forceVersion('matmul', version);
    const [value] = await ops.matmul(a, b).data();
    forceVersion('matmul', null);
    return value;
  };
  for (let i = 0; i < 4; i++) expect(await first()).toBe(32); // from the third time on with a kept copy
  b.write(new Float32Array(32 * 32).fill(2));
  expect(await first()).toBe(64);
  expect(await first()).toBe(64);
  gpu.clear(b.slice);
  expect(await first()).toBe(0);
  gpu.copy(a.slice, b.slice, 32 * 32 * 4);
  expect(await first()).toBe(32);
  gpu.dispatch(gpu.kernel({ file: 'axpby' }), [a.slice, b.slice], { count: 32 * 32, alpha: 3, beta: 0 }, [16, 1, 1]);
  expect(await first()).toBe(96);
  gpu.pool.trim();
  expect(memory().texelBytes).toBe(0);
  expect(await first()).toBe(96);
});

test('making room in the midst of a dispatch loses neither its copies nor its parameters', async ({ skip }) => {
  const { gpu } = device;
  skip(gpu.subgroupWidth === 0, WITHOUT_SUBGROUPS);
  using _s = scope();
  const [a, b] = [full([52, 36], 1), full([36, 20], 2)];
  const { reserve } = gpu.pool;
  let trims = 0;
  gpu.pool.trim();
  gpu.pool.reserve = (bytes, label) => {
    if (label.startsWith('copy of') && trims++ < 4) gpu.pool.trim(); // as when the budget is short
    reserve.call(gpu.pool, bytes, label);
  };
  forceVersion('matmul', 'subgroup_texels');
  try {
    const product = await ops.matmul(a, b).data();
    expect(new Set(product)).toEqual(new Set([72]));
    expect(trims).toBeGreaterThan(1);
  } finally {
    forceVersion('matmul', null);
    gpu.pool.reserve = reserve;
  }
});

test('a copy for one dispatch takes the texture of a taller one; copies that are kept waste no more than half', async ({ skip }) => {
  const { gpu } = device;
  skip(gpu.subgroupWidth === 0, WITHOUT_SUBGROUPS);
  using _s = scope();
  const b = full([64, 64], 1);
  const bytesAfter = async (rows: number, times: number) => {
    using _once = scope();
    const a = full([rows, 64], 1);
    forceVersion('matmul', 'subgroup_texels');
    try {
      for (let i = 0; i < times; i++) expect((await ops.matmul(a, b).data())[0]).toBe(64);
    } finally {
      forceVersion('matmul', null);
    }
    return memory().texelBytes;
  };
  gpu.pool.trim();
  for (let i = 0; i < 2; i++) await bytesAfter(8, 1); // b is kept from its second copy on
  const tall = await bytesAfter(512, 1);
  expect(await bytesAfter(64, 1)).toBe(tall);
  expect(await bytesAfter(80, 1)).toBe(tall);
  expect(await bytesAfter(64, 2)).toBeGreaterThan(tall);
});

/** The last number: rows of a matrix that a row of the texture holds; 0 where the texels follow one another whatever the rows. */
test.for([
  [40, 64, 32, 'NN', 1],
  [40, 32, 32, 'NN', 2],
  [40, 36, 36, 'NN', 16],
  [8200, 64, 8, 'NN', 2],
  [12, 8, 2052, 'NN', 0],
  [12, 2052, 8, 'NT', 0],
  [2052, 8, 12, 'TN', 0],
] as const)('%d×%d×%d %s is read as texels whatever their layout', async ([m, k, n, order, together], { skip }) => {
  const { gpu } = device;
  skip(gpu.subgroupWidth === 0, WITHOUT_SUBGROUPS);
  using _s = scope();
  const [transA, transB] = [order[0] === 'T', order[1] === 'T'];
  const values = (rows: number, columns: number, from: number) =>
    tensor(
      new Float32Array(rows * columns).map((_, i) => ((i * 37 + from) % 101) / 50 - 1),
      [rows, columns],
    );
  const a = transA ? values(k, m, 3) : values(m, k, 3);
  const b = transB ? values(n, k, 5) : values(k, n, 5);
  const layouts = [a, b].map(({ shape: [rows, columns] }) => gpu.texelLayout(rows, columns)?.together);
  expect(layouts).toContain(together);
  const product = async (version: string) => {
    forceVersion('matmul', version);
    const result = await ops.matmul(a, b, { transA, transB }).data();
    forceVersion('matmul', null);
    return result;
  };
  const expected = await product('naive');
  const panels = order === 'NN' ? ['subgroup_panels', 'subgroup_panels_half'] : [];
  for (const version of ['subgroup_texels', 'subgroup_texels_half', 'subgroup_texels_wide', ...panels]) {
    const result = await product(version);
    expect(
      result.findIndex((value, i) => !(Math.abs(value - expected[i]) < 1e-3)),
      version,
    ).toBe(-1);
  }
});
