/**
 * The product on matrix units, on an adapter without: its shader runs with the units' instructions spelled out, so its walk, its places
 * and its exponents are those of the real one. Where the adapter has the units, the self-test and the op's tests run the real one.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { type Gpu, makeCurrent } from '../src/gpu/gpu.ts';
import { forceVersion } from '../src/kernels/families.ts';
import { matmul as multiply } from '../src/kernels/matmul.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { shaderSource } from '../src/platform/node/shader_files.ts';
import { Random } from '../src/random.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

/** A block of an operand is where it begins. Of a block of sums, each of 32 invocations has 8. */
const SPELLED_OUT = `
var<private> lane_of: u32;
fn multiply_add(left: u32, right: u32, sums: array<f32, 8>) -> array<f32, 8> {
  var added = sums;
  for (var e = 0u; e < 8u; e++) {
    let at = 32u * e + lane_of;
    for (var k = 0u; k < 16u; k++) { added[e] += f32(a[left + at / 16u * 16u + k]) * f32(b[right + at % 16u * 16u + k]); }
  }
  return added;
}
fn store(at: u32, sums: array<f32, 8>) {
  var stored = sums;
  for (var e = 0u; e < 8u; e++) { block[at + 32u * e + lane_of] = stored[e]; }
}
`;

function spelledOut(source: string): string {
  const replaced: [string | RegExp, string][] = [
    ['enable subgroups;\nenable chromium_experimental_subgroup_matrix;\n', ''],
    [/ \/\/ @unroll/g, ''], // written out, they take long to compile
    [/alias (Left|Right) = subgroup_matrix_\w+<f16, 16, 16>;/g, 'alias $1 = u32;'],
    ['alias Sum = subgroup_matrix_result<f32, 16, 16>;', 'alias Sum = array<f32, 8>;'],
    [/subgroupMatrixLoad<Left, row_major>\(&a, (.*), 16u\)/g, '($1)'],
    [/subgroupMatrixLoad<Right, col_major>\(&b, (.*), 16u\)/g, '($1)'],
    [/subgroupMatrixMultiplyAccumulate/g, 'multiply_add'],
    [/subgroupMatrixStore<row_major>\(&block, (.*?), (acc.*), 16u\)/g, 'store($1, $2)'],
    ['  @builtin(subgroup_id) subgroup: u32,\n', ''],
    ['  let tile =', '  let subgroup = index / 32u;\n  lane_of = index % 32u;\n  let tile ='],
    ['@compute', `${SPELLED_OUT}\n@compute`],
  ];
  return replaced.reduce((text, [what, by]) => {
    expect(text).toMatch(what);
    return text.replace(what, by);
  }, source);
}

/** Lets a device run the version, with a shader changed if `fault` says so. */
function prepare(gpu: Gpu, fault?: Fault): void {
  const real = gpu.hasSubgroupMatrix;
  Object.defineProperty(gpu, 'hasSubgroupMatrix', { value: true });
  gpu.host.shaderSource = (file) => {
    const source = shaderSource(file);
    const changed = file === fault?.shader ? source.replace(fault.find, fault.by) : source;
    return file === 'matmul_subgroup_matrix' && !real ? spelledOut(changed) : changed;
  };
}

beforeAll(() => prepare(device.gpu));

/** Within a version, whatever happens. */
async function onMatrixUnits<T>(work: () => Promise<T>): Promise<T> {
  forceVersion('matmul', 'subgroup_matrix');
  try {
    return await work();
  } finally {
    forceVersion('matmul', null);
  }
}

interface Case {
  m: number;
  k: number;
  n: number;
  layout: 'NN' | 'NT' | 'TN' | 'TT';
  /** What numbers of a row of op(A) and of a column of op(B) are multiplied by. */
  rowScale?: (row: number) => number;
  columnScale?: (column: number) => number;
}

/** Largest error of an element of C, as a share of its Σ |a b|. */
async function worstError({ m, k, n, layout, rowScale = () => 1, columnScale = () => 1 }: Case): Promise<number> {
  using _s = scope();
  const [transA, transB] = [layout[0] === 'T', layout[1] === 'T'];
  const random = new Random(5, `${m} ${k} ${n}`);
  const drawn = (rows: number, scale: (row: number) => number) =>
    Array.from({ length: rows }, (_, r) => Float32Array.from({ length: k }, () => random.normal() * scale(r)));
  const [a, b] = [drawn(m, rowScale), drawn(n, columnScale)];
  const stored = (rows: Float32Array[], alongK: boolean) =>
    alongK
      ? tensor(
          rows.flatMap((row) => [...row]),
          [rows.length, k],
        )
      : tensor(Array.from({ length: k }, (_, i) => rows.map((row) => row[i])).flat(), [k, rows.length]);
  const [left, right] = [stored(a, !transA), stored(b, transB)];
  const c = await onMatrixUnits(() => ops.matmul(left, right, { transA, transB }).data());
  let worst = 0;
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let [sum, size] = [0, 0];
      for (let p = 0; p < k; p++) {
        sum += a[i][p] * b[j][p];
        size += Math.abs(a[i][p] * b[j][p]);
      }
      worst = Math.max(worst, Math.abs(c[i * n + j] - sum) / size);
    }
  return worst;
}

/** Two halves hold a number to 2^-22, and what is left out of a product is as much. float32 adds a little. */
const AS_FLOATS = 3 * 2 ** -22;

describe('is as exact as float32', () => {
  test.each<Case>([
    { m: 5, k: 7, n: 11, layout: 'NN' },
    { m: 67, k: 37, n: 70, layout: 'NN' },
    { m: 131, k: 16, n: 67, layout: 'NT' },
    { m: 17, k: 33, n: 129, layout: 'TN' },
    { m: 3, k: 18, n: 5, layout: 'TT' },
  ])('$m × $k × $n $layout', async (each) => {
    expect(await worstError(each)).toBeLessThan(AS_FLOATS);
  });

  test('with rows and columns of all sizes that float32 has', async () => {
    const apart = {
      m: 21,
      k: 19,
      n: 23,
      layout: 'NN',
      rowScale: (row: number) => 10 ** (3 * (row - 10)),
      columnScale: (column: number) => 10 ** ((2 * (11 - column)) / 3),
    } as const;
    expect(await worstError(apart)).toBeLessThan(AS_FLOATS);
  });
});

test('a number far smaller than the largest of its row keeps 2^-28 of that', async () => {
  using _s = scope();
  const a = tensor([1, 2 ** -20, 2 ** -27, 0], [1, 4]);
  const one = (at: number) =>
    tensor(
      [0, 1, 2, 3].map((i) => (i === at ? 1 : 0)),
      [4, 1],
    );
  const got = await onMatrixUnits(() => Promise.all([0, 1, 2, 3].map(async (at) => (await ops.matmul(a, one(at)).data())[0])));
  expect(got).toEqual([1, 2 ** -20, 2 ** -27, 0]);
});

test('what is not finite makes its row NaN, and no other', async () => {
  using _s = scope();
  const a = tensor([1, 2, Number.NaN, 4, 5, Number.POSITIVE_INFINITY], [3, 2]);
  const b = tensor([1, 0, 0, 1], [2, 2]);
  const c = [...(await onMatrixUnits(() => ops.matmul(a, b).data()))];
  expect(c.map(Number.isFinite)).toEqual([true, true, false, false, false, false]);
  expect(c.slice(0, 2)).toEqual([1, 2]);
});

/** C of a product of whole numbers, with all that can follow it, and what it must be. */
async function wholeProduct(gpu: Gpu): Promise<{ got: number[]; expected: number[] }> {
  using _s = scope();
  const [m, k, n, batch] = [69, 20, 9, 3];
  const random = new Random(9, 'batch');
  const whole = (count: number) => Float32Array.from({ length: count }, () => Math.round(random.normal() * 20));
  const [a, b, bias, before] = [whole(m * k), whole(batch * k * n), whole(n), whole(batch * m * n)];
  const [x, y, z, c] = [tensor(a, [m, k]), tensor(b, [batch, k, n]), tensor(bias, [n]), tensor(before, [batch, m, n])];
  const got = await onMatrixUnits(async () => {
    const problem = { m, k, n, batch, aStride: 0, bias: z.slice, relu: true, addToC: true, label: 'test' };
    multiply(gpu, { a: x.slice, b: y.slice, c: c.slice, ...problem });
    return [...(await c.data())];
  });
  const expected = Array.from({ length: batch * m * n }, (_, at) => {
    const [matrix, i, j] = [Math.floor(at / (m * n)), Math.floor(at / n) % m, at % n];
    let sum = bias[j];
    for (let p = 0; p < k; p++) sum += a[i * k + p] * b[(matrix * k + p) * n + j];
    return Math.max(sum, 0) + before[at];
  });
  return { got, expected };
}

test('bias, ReLU, sums, and matrices of a batch that share an operand', async () => {
  const { got, expected } = await wholeProduct(device.gpu);
  expect(got).toEqual(expected);
});

/** What could be wrong with a shader. `npm run mutation` has those of the others, which need no such spelling out. */
interface Fault {
  name: string;
  shader: 'matmul_subgroup_matrix' | 'split_halves';
  find: string;
  by: string;
}

const FAULTS: readonly Fault[] = [
  { name: 'the low half is forgotten', shader: 'split_halves', find: 'y[to + part] = (even >> 16u) | (odd & 0xffff0000u);', by: 'y[to + part] = 0u;' },
  { name: 'an exponent is one too large', shader: 'split_halves', find: '127 - i32(biased)', by: '128 - i32(biased)' },
  {
    name: 'the largest number of a row is sought in a part of it',
    shader: 'split_halves',
    find: 'for (var i = 0u; i < 16u; i++)',
    by: 'for (var i = 0u; i < 1u; i++)',
  },
  { name: 'low · high is left out', shader: 'matmul_subgroup_matrix', find: 'var walk = 0u;', by: 'var walk = 1u;' },
  { name: 'both subgroups make the same rows', shader: 'matmul_subgroup_matrix', find: '+ subgroup * SIDE;', by: '+ 0u * subgroup * SIDE;' },
  { name: 'exponents of columns are forgotten', shader: 'matmul_subgroup_matrix', find: ' + b_exponent[z * params.b_exponents + column]', by: '' },
  { name: 'C is not added', shader: 'matmul_subgroup_matrix', find: 'value += c[to];', by: 'value += 0.0 * c[to];' },
];

test.each(FAULTS)('finds that $name', async (fault) => {
  expect(shaderSource(fault.shader).split(fault.find).length).toBe(2);
  const gpu = await openGpu();
  try {
    prepare(gpu, fault);
    const { got, expected } = await wholeProduct(gpu);
    const error = await worstError({ m: 9, k: 40, n: 6, layout: 'NN', rowScale: (row) => 10 ** row, columnScale: () => 1000 });
    expect(error > AS_FLOATS || Number.isNaN(error) || got.some((value, i) => value !== expected[i])).toBe(true);
  } finally {
    await gpu.close();
    makeCurrent(device.gpu);
  }
});
