/** Launcher of the matrix product, in twelve versions. */
import type { Gpu } from '../gpu/device.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { inStorage, type TexelLayout, type TexelSlice, texelParams } from '../gpu/texels.ts';
import { grid } from './elementwise.ts';
import { columnPanels, panelsServe, type WeightsRead } from './panels.ts';
import { sizeRange } from './tuning.ts';
import { chooseVersion, hasFixedSubgroup } from './versions.ts';

export interface MatmulProblem {
  a: BufferSlice;
  b: BufferSlice;
  c: BufferSlice;
  m: number;
  n: number;
  k: number;
  transA?: boolean;
  transB?: boolean;
  /** Per column, added before the ReLU. */
  bias?: BufferSlice | null;
  relu?: boolean;
  addToC?: boolean;
  batch?: number;
  /** Elements between the matrices of a batch; 0 shares one. Default: dense. */
  aStride?: number;
  bStride?: number;
  /** First element of the first matrix. */
  aStart?: number;
  bStart?: number;
  cStart?: number;
  label: string;
}

const FILES: Record<string, string> = {
  v1_naive: 'matmul_naive',
  v2_register: 'matmul_register',
  v3_subgroup: 'matmul_subgroup',
  v4_subgroup_pairs: 'matmul_subgroup_pairs',
  v5_workgroup: 'matmul_workgroup',
  v8_subgroup_rows: 'matmul_subgroup_rows',
};

/**
 * Versions in matmul_subgroup_texels.wgsl: rows of a tile, in subgroup widths; blocks of columns side by side in it; and how B
 * is read.
 */
const TEXEL_VERSIONS: Record<string, { rows: number; parts: number; b: WeightsRead }> = {
  v6_subgroup_texels: { rows: 4, parts: 1, b: 'texels' },
  v7_subgroup_texels_a: { rows: 4, parts: 1, b: 'storage' },
  v9_subgroup_texels_half: { rows: 2, parts: 2, b: 'texels' },
  v10_subgroup_texels_wide: { rows: 4, parts: 2, b: 'texels' },
  v11_subgroup_panels: { rows: 4, parts: 2, b: 'panels' },
  v12_subgroup_panels_half: { rows: 2, parts: 2, b: 'panels' },
};

/** Widths that version 8 can be compiled for. */
const SUBGROUP_WIDTHS = [4, 8, 16, 32, 64];

/** Rows and columns of C that one workgroup makes, where it does not depend on the adapter. */
const TILES: Record<string, readonly [number, number]> = { v1_naive: [8, 8], v2_register: [64, 32], v5_workgroup: [64, 64] };

function multiplesOf4(...numbers: number[]): boolean {
  return numbers.every((value) => value % 4 === 0);
}

/** Operands turned or not, and the smaller side of C: how often each number that is loaded, or copied, is used. */
function matmulClass(p: MatmulProblem): string {
  return `${p.transA ? 'T' : 'N'}${p.transB ? 'T' : 'N'} ${sizeRange(Math.min(p.m, p.n), 8, 32, 128)}`;
}

/** Versions that can serve the problem; where no table says otherwise the first is taken. */
export function matmulVersions(gpu: Gpu, p: MatmulProblem): string[] {
  const portable = gpu.software ? ['v2_register', 'v5_workgroup', 'v1_naive'] : ['v5_workgroup', 'v2_register', 'v1_naive'];
  const aligned = multiplesOf4(p.transA ? p.m : p.k, p.transB ? p.k : p.n, p.n, p.aStart ?? 0, p.bStart ?? 0, p.cStart ?? 0, p.aStride ?? 0, p.bStride ?? 0);
  if (!SUBGROUP_WIDTHS.includes(gpu.subgroupWidth) || !aligned || !(p.transA || p.k % 4 === 0)) return portable;
  if (!hasFixedSubgroup(gpu)) return [...portable, 'v8_subgroup_rows'];
  return ['v3_subgroup', 'v4_subgroup_pairs', ...texelVersions(gpu, p), 'v8_subgroup_rows', ...portable];
}

function texelVersions(gpu: Gpu, p: MatmulProblem): string[] {
  if (!storedLayout(gpu, p, 'a') || !storedLayout(gpu, p, 'b')) return [];
  const panels = panelsServe(gpu, 'matmul', p.b, p.k, p.n) && !p.transA && !p.transB && (p.batch ?? 1) === 1;
  return Object.keys(TEXEL_VERSIONS).filter((name) => panels || TEXEL_VERSIONS[name].b !== 'panels');
}

/** An operand's matrices as they are stored, one below the other: the length of a row, and the rows from one matrix to the next. */
function stored(p: MatmulProblem, operand: 'a' | 'b'): { columns: number; matrixRows: number; rows: number } {
  const { m, n, k, batch = 1 } = p;
  const [outer, inner, stride] =
    operand === 'a' ? [p.transA ? k : m, p.transA ? m : k, p.aStride ?? m * k] : [p.transB ? n : k, p.transB ? k : n, p.bStride ?? k * n];
  return { columns: inner, matrixRows: stride / inner, rows: (stride / inner) * (batch - 1) + outer };
}

/** How an operand is read as texels; null if it can't be. */
function storedLayout(gpu: Gpu, p: MatmulProblem, operand: 'a' | 'b'): TexelLayout | null {
  const { columns, rows } = stored(p, operand);
  return Number.isInteger(rows) ? gpu.texelLayout(rows, columns) : null;
}

/** The part of a storage from element `start` on, as texels. */
function texelsOf({ buffer, offset }: BufferSlice, start: number, layout: TexelLayout): TexelSlice {
  return { buffer, offset: offset + 4 * start, bytes: 16 * layout.rows * layout.row, layout };
}

/** The order in which tiles are made: along the shorter side first. */
export function tileOrder(rowTiles: number, columnTiles: number): { column_step: number; row_step: number } {
  return rowTiles <= columnTiles ? { column_step: rowTiles, row_step: 1 } : { column_step: 1, row_step: columnTiles };
}

/** C = op(A) op(B) (+ bias) (ReLU), per matrix of the batch; see the shaders for shapes and layouts. */
export function matmul(gpu: Gpu, p: MatmulProblem): void {
  const { m, n, k } = p;
  const batch = p.batch ?? 1;
  // Without an inner extent there is only the bias; the plain version needs no special case.
  const version = k === 0 ? 'v1_naive' : chooseVersion(gpu, 'matmul', matmulClass(p), matmulVersions(gpu, p));
  const bySubgroup = version.includes('subgroup');
  const per = bySubgroup ? 4 : 1; // those shaders count in vec4
  const width = gpu.subgroupWidth;
  const texels = TEXEL_VERSIONS[version];
  const rows = version === 'v8_subgroup_rows' ? Math.min(16, width) : (texels?.rows ?? 4) * width;
  const tile = TILES[version] ?? [rows, 4 * width * (texels?.parts ?? 1)];
  const [rowTiles, columnTiles] = [Math.ceil(m / tile[0]), Math.ceil(n / tile[1])];
  const tiles = rowTiles * columnTiles * batch;
  const params = {
    m,
    n,
    k,
    b_start: (p.bStart ?? 0) / per,
    c_start: (p.cStart ?? 0) / per,
    c_stride: (m * n) / per,
    has_bias: p.bias ? 1 : 0,
    relu: p.relu ? 1 : 0,
    add_to_c: p.addToC ? 1 : 0,
    column_tiles: columnTiles,
    row_tiles: rowTiles,
    ...tileOrder(rowTiles, columnTiles),
    tiles,
  };
  const constants = { TRANS_A: p.transA ? 1 : 0, TRANS_B: p.transB ? 1 : 0 };
  if (texels) {
    const a = texelsOf(p.a, p.aStart ?? 0, storedLayout(gpu, p, 'a') as TexelLayout);
    const start = p.bStart ?? 0;
    const b = texels.b === 'panels' ? columnPanels(gpu, p.b, start, k, n) : texelsOf(p.b, start, storedLayout(gpu, p, 'b') as TexelLayout);
    const fromStorage = texels.b === 'storage';
    const found = {
      ...texelParams('a', a.layout),
      ...texelParams('b', fromStorage ? inStorage(b.layout) : b.layout),
      a_rows: stored(p, 'a').matrixRows,
      b_rows: stored(p, 'b').matrixRows,
      b_panel: texels.b === 'panels' ? k : 0,
    };
    const tune = { WIDTH: width, ROWS: rows, PARTS: texels.parts };
    const kernel = gpu.kernel({ file: 'matmul_subgroup_texels', tune, constants: { ...constants, B_TEXELS: fromStorage ? 0 : 1 } });
    gpu.dispatch(kernel, [a, fromStorage ? a : b, p.b, p.bias ?? p.b, p.c], { ...params, ...found }, grid(tiles, 1), p.label);
    return;
  }
  const tune: Record<string, number> | undefined = version === 'v8_subgroup_rows' ? { WIDTH: width, ROWS: rows } : bySubgroup ? { WIDTH: width } : undefined;
  const starts = { a_start: (p.aStart ?? 0) / per, a_stride: (p.aStride ?? m * k) / per, b_stride: (p.bStride ?? k * n) / per };
  gpu.dispatch(gpu.kernel({ file: FILES[version], tune, constants }), [p.a, p.b, p.bias ?? p.b, p.c], { ...params, ...starts }, grid(tiles, 1), p.label);
}
