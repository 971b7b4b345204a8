/**
 * The matrix product: the table of its versions, and the launcher that reads it. The fast versions read four numbers at a time. Where
 * rows are no multiple of 4 long, as with 2,541 words, the launcher copies them to rows that are, and runs the product on the copies.
 */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { type TexelLayout, type TexelSlice, texelParams } from '../gpu/texels.ts';
import { grid } from './elementwise.ts';
import { always, Family, sizeRange, type Version, withoutFixedSubgroup } from './family.ts';
import { type ByFours, endingParams, roundUp4, rowsFromFours, rowsToFours, sizeByFours } from './fours.ts';
import { type WeightsRead, withoutPanels, withPanels } from './panels.ts';
import { withScratch } from './scratch.ts';
import { partsOf, type SplitProblem, splitHalves, splitWords } from './split_halves.ts';

export interface MatmulProblem {
  a: BufferSlice;
  b: BufferSlice;
  c: BufferSlice;
  m: number;
  n: number;
  k: number;
  transA?: boolean;
  transB?: boolean;
  /** [n], added to every row before the ReLU. */
  bias?: BufferSlice | null;
  relu?: boolean;
  addToC?: boolean;
  batch?: number;
  /** Elements from one matrix of a batch to the next; 0 shares one matrix. Default: dense. */
  aStride?: number;
  bStride?: number;
  cStride?: number;
  /** First element of the first matrix. */
  aStart?: number;
  bStart?: number;
  cStart?: number;
  label: string;
}

/** A version of the product. */
interface MatmulVersion extends Version<MatmulProblem> {
  /** Rows and columns of C that one workgroup owns, for subgroups of this width. */
  tile(width: number): readonly [number, number];
  /** Rows and columns of the block that shares what is loaded, where that is not the tile. A number serves all of its row or column. */
  shares?(width: number): readonly [number, number];
  /** Values of the shader's `@tune` constants for subgroups of this width. */
  tune?(width: number): Record<string, number>;
  /** Numbers per unit, in which the shader counts starts and strides. */
  unit: 1 | 4;
  /** How B is read; only in versions that read texels. */
  b?: WeightsRead;
  /** In how many pieces K is cut; only in versions of `matmul_workgroup_vec4`. */
  pieces?(p: MatmulProblem): number;
  /** Whether both operands are read as pairs of halves. */
  halves?: true;
}

/** Widths that `subgroup_rows` can be compiled for. */
const ROWS_WIDTHS = [4, 8, 16, 32, 64];
const MOST_SHARED_ROWS = 16;

/** Why operands cannot be read four numbers at a time; null if they can. */
function notByFours(p: MatmulProblem): string | null {
  const extents = [p.transA ? p.m : p.k, p.transB ? p.k : p.n, p.n, ...(p.transA ? [] : [p.k])];
  const starts = [p.aStart ?? 0, p.bStart ?? 0, p.cStart ?? 0, p.aStride ?? 0, p.bStride ?? 0, p.cStride ?? 0];
  return [...extents, ...starts].every((value) => value % 4 === 0) ? null : 'row lengths and starts of its operands are not all multiples of 4';
}

const withoutSubgroup = (gpu: Gpu, p: MatmulProblem) => withoutFixedSubgroup(gpu) ?? notByFours(p);

function withoutTexels(gpu: Gpu, p: MatmulProblem): string | null {
  return withoutSubgroup(gpu, p) ?? (storedLayout(gpu, p, 'a') && storedLayout(gpu, p, 'b') ? null : 'its operands cannot be read as texels here');
}

/** A version that reads texels. Each subgroup makes a tile of `rows` × `4 · parts` subgroup widths. */
function texelVersion(name: string, rows: number, parts: number, b: WeightsRead, idea: string): MatmulVersion {
  return {
    ...{ name, idea, b, unit: 4, shader: 'matmul_subgroup_texels' },
    ...(b === 'panels' ? { uses: ['column_panels'] } : {}),
    tile: (width) => [rows * width, 4 * parts * width],
    tune: (width) => ({ WIDTH: width, ROWS: rows * width, PARTS: parts }),
    unable: (gpu, p) => withoutTexels(gpu, p) ?? (b === 'panels' ? withoutWeights(gpu, p, name) : null),
  };
}

/** Rows of C from which panels pay within one product: each number of B is then used that often. */
const ROWS_WORTH_PANELS = 256;

/** Why B cannot or should not be read from panels; null if it should. */
function withoutWeights(gpu: Gpu, p: MatmulProblem, name: string): string | null {
  if (p.transB || (p.batch ?? 1) !== 1) return 'panels are made of one matrix that is not transposed';
  return withoutPanels(gpu, 'matmul', matmulFamily.isForced(name) || p.m >= ROWS_WORTH_PANELS, p.b, p.k, p.n);
}

/** Workgroups from which a real GPU is busy: some two for each of its cores. WebGPU does not tell how many cores there are. */
export const BUSY_WORKGROUPS = 256;
/** K of a piece at least: what a piece costs besides its multiply-adds is one more number written and read for each of C. */
const SHORTEST_PIECE = 64;
/** A piece is a multiple of this, so that a step of the shader is in one piece. */
const PIECE_STEP = 16;

/** Square tiles that cover all matrices of a product. */
export const tilesOf = ({ m, n, batch = 1 }: Pick<MatmulProblem, 'm' | 'n' | 'batch'>, tile: number): number =>
  Math.ceil(m / tile) * Math.ceil(n / tile) * batch;

/** In how many pieces K must be cut to keep a GPU busy with tiles of 64 × 64. */
const busyPieces = (p: MatmulProblem): number => Math.min(Math.ceil(BUSY_WORKGROUPS / tilesOf(p, 64)), Math.floor(p.k / SHORTEST_PIECE));

/** A version for real GPUs. A workgroup owns 64 · parts rows and columns. */
function workgroupVersion(name: string, parts: number, idea: string, pieces: (p: MatmulProblem) => number = () => 1): MatmulVersion {
  return {
    ...{ name, idea, unit: 4, shader: 'matmul_workgroup_vec4', pieces },
    tile: () => [64 * parts, 64 * parts],
    tune: () => ({ PARTS: parts }),
    unable: (_gpu, p) => notByFours(p),
  };
}

/** Rows and columns of C that a workgroup of `subgroup_matrix` owns. */
const MATRIX_TILE = [128, 64] as const;

/** The operands of a product, as rows along k that are split into pairs of halves. */
function splitOperands(p: MatmulProblem): { a: SplitProblem; b: SplitProblem } {
  const { m, n, k, batch = 1, aStride = m * k, bStride = k * n } = p;
  const of = (rows: number, turned: boolean | undefined, start: number | undefined, matrixStride: number, tileRows: number): SplitProblem => ({
    ...{ matrices: matrixStride === 0 ? 1 : batch, rows, k, start: start ?? 0, matrixStride, tileRows },
    ...(turned ? { rowStride: 1, kStride: rows } : { rowStride: k, kStride: 1 }),
  });
  return { a: of(m, p.transA, p.aStart, aStride, MATRIX_TILE[0]), b: of(n, !p.transB, p.bStart, bStride, MATRIX_TILE[1]) };
}

function withoutSubgroupMatrix(gpu: Gpu, p: MatmulProblem): string | null {
  if (!gpu.hasSubgroupMatrix) return 'the device was not opened with subgroup matrices of halves, 16 × 16, for subgroups of 32';
  const { a, b } = splitOperands(p);
  return 4 * Math.max(splitWords(a), splitWords(b)) > gpu.pool.largest ? 'the halves of an operand do not fit one buffer' : null;
}

/** In the best order to read them: each changes one thing of an earlier one. */
const VERSIONS: readonly MatmulVersion[] = [
  {
    ...{ name: 'naive', shader: 'matmul_naive', unit: 1, tile: () => [8, 8], shares: () => [1, 1], unable: always },
    idea: 'one invocation owns one element; each multiply-add costs two loads',
  },
  {
    ...{ name: 'register', shader: 'matmul_register', unit: 1, tile: () => [64, 32], shares: () => [8, 4], unable: always },
    idea: 'one invocation owns a block in registers; each number loaded serves a row or a column of it',
  },
  {
    ...{ name: 'workgroup', shader: 'matmul_workgroup', unit: 1, tile: () => [64, 64], unable: always },
    idea: 'as `register`; tiles of both operands pass through workgroup memory, so that 256 invocations share each load',
  },
  workgroupVersion('workgroup_vec4', 1, 'as `workgroup`, with four numbers a load, and the next tile on its way while one is computed with'),
  workgroupVersion('workgroup_wide', 2, 'as `workgroup_vec4`, with 16 × 8 numbers of C an invocation: a third of the loads for each multiply-add'),
  {
    ...workgroupVersion('workgroup_split', 1, 'as `workgroup_vec4`; K is cut into pieces that are added up, so that few tiles keep a GPU busy', busyPieces),
    ...{ uses: ['matmul_splits'], composed: true },
    unable: (_gpu, p) => notByFours(p) ?? (busyPieces(p) < 2 ? 'its tiles are many enough, or its inner axis too short to be cut' : null),
  },
  {
    ...{ name: 'subgroup', shader: 'matmul_subgroup', unit: 4 },
    idea: 'as `workgroup`; lanes of a subgroup pass rows of A to one another, without workgroup memory or barrier',
    tile: (width) => [4 * width, 4 * width],
    tune: (width) => ({ WIDTH: width }),
    unable: withoutSubgroup,
  },
  {
    ...{ name: 'subgroup_pairs', shader: 'matmul_subgroup_pairs', unit: 4 },
    idea: 'as `subgroup`, in steps of 2 k instead of 4; shorter loop bodies for narrow subgroups',
    tile: (width) => [4 * width, 4 * width],
    tune: (width) => ({ WIDTH: width }),
    unable: withoutSubgroup,
  },
  {
    ...{ name: 'subgroup_rows', shader: 'matmul_subgroup_rows', unit: 4 },
    idea: 'as `subgroup`, with a tile of at most 16 rows that fits the registers of wide subgroups',
    tile: (width) => [Math.min(MOST_SHARED_ROWS, width), 4 * width],
    tune: (width) => ({ WIDTH: width, ROWS: Math.min(MOST_SHARED_ROWS, width) }),
    unable: (gpu, p) => (ROWS_WIDTHS.includes(gpu.subgroupWidth) ? notByFours(p) : 'the adapter has no subgroups of one known width'),
  },
  texelVersion('subgroup_texels', 4, 1, 'texels', 'as `subgroup`; A and B are read as texels, which some drivers fetch for all lanes at once'),
  texelVersion(
    'subgroup_texels_wide',
    4,
    2,
    'texels',
    'as `subgroup_texels`, with two blocks of columns; what is loaded and shuffled of A serves twice as often',
  ),
  texelVersion('subgroup_texels_half', 2, 2, 'texels', 'as `subgroup_texels_wide`, with half the rows; for products of few rows'),
  texelVersion('subgroup_panels', 4, 2, 'panels', 'as `subgroup_texels_wide`; B lies in panels of columns, so that a tile reads it in the order of memory'),
  texelVersion('subgroup_panels_half', 2, 2, 'panels', 'as `subgroup_panels`, with half the rows; for products of few rows'),
  {
    ...{ name: 'subgroup_matrix', shader: 'matmul_subgroup_matrix', uses: ['split_halves'], composed: true, halves: true, unit: 1 },
    idea: 'the matrix units of a GPU multiply blocks of halves; each number is the sum of two halves, and three products of them stand for one',
    tile: () => MATRIX_TILE,
    unable: withoutSubgroupMatrix,
  },
];

/** An inner axis from which rows of B lie on more pages than a processor remembers, so panels pay. Operands split into halves pay, too. */
const DEEP = 1024;

/**
 * The class: which operands are transposed, and the smaller side of C. That side says how often a loaded number is used. `many` has
 * tiles of 128 × 128 enough to keep a real GPU busy. Both are transposed so seldom that the versions for TN serve TT.
 */
function matmulClass(p: MatmulProblem): string {
  const layout = p.transA ? 'TN' : `N${p.transB ? 'T' : 'N'}`;
  const range = sizeRange(Math.min(p.m, p.n), 8, 32, 128);
  if (range !== '>128') return `${layout} ${range}`;
  const isMany = tilesOf(p, 128) >= BUSY_WORKGROUPS;
  const isDeep = p.k > DEEP && (isMany || p.transA);
  return `${layout} ${range}${isMany ? ' many' : ''}${isDeep ? ' deep' : ''}`;
}

export const matmulFamily: Family<MatmulProblem, MatmulVersion> = new Family('matmul', VERSIONS, matmulClass);

/** An operand's matrices as they are stored, one below the other: row length, rows from one matrix to the next, and all rows. */
function stored(p: MatmulProblem, operand: 'a' | 'b'): { columns: number; matrixRows: number; rows: number } {
  const { m, n, k, batch = 1 } = p;
  const [outer, inner, stride] =
    operand === 'a' ? [p.transA ? k : m, p.transA ? m : k, p.aStride ?? m * k] : [p.transB ? n : k, p.transB ? k : n, p.bStride ?? k * n];
  return { columns: inner, matrixRows: stride / inner, rows: (stride / inner) * (batch - 1) + outer };
}

/** How an operand is read as texels; null if it cannot be. */
function storedLayout(gpu: Gpu, p: MatmulProblem, operand: 'a' | 'b'): TexelLayout | null {
  const { columns, rows } = stored(p, operand);
  return Number.isInteger(rows) ? gpu.texelLayout(rows, columns) : null;
}

/** The part of a storage from element `start` on, to be read as texels. */
function texelsOf({ buffer, offset }: BufferSlice, start: number, layout: TexelLayout): TexelSlice {
  return { buffer, offset: offset + 4 * start, bytes: 16 * layout.rows * layout.row, layout };
}

/** The order of the tiles: along the shorter side first. */
export function tileOrder(rowTiles: number, columnTiles: number): { column_step: number; row_step: number } {
  return rowTiles <= columnTiles ? { column_step: rowTiles, row_step: 1 } : { column_step: 1, row_step: columnTiles };
}

/** Multiply-adds per copied number from which copies pay. A version that cannot read four numbers at a time takes 5 times as long. */
const WORTH_A_COPY = 16;

/** The copies that a product with ragged rows needs, so that it can be read four numbers at a time. Null where they do not pay. */
function copiesToFours(gpu: Gpu, p: MatmulProblem): { m: number; n: number; k: number; a: ByFours | null; b: ByFours | null; c: ByFours } | null {
  const { m, n, k, batch = 1, transA = false, transB = false } = p;
  // Only an extent along stored rows must be a multiple of 4.
  const wide = { m: transA ? roundUp4(m) : m, n: roundUp4(n), k: transA && !transB ? k : roundUp4(k) };
  const copied = (rows: 'm' | 'n' | 'k', columns: 'm' | 'n' | 'k', start = 0, stride = p[rows] * p[columns]): ByFours => {
    const from = { rows: p[rows], columns: p[columns], start, stride };
    return { rows: wide[rows], columns: wide[columns], from, matrices: stride === 0 ? 1 : batch };
  };
  const ifRagged = (x: ByFours) => (x.rows === x.from.rows && x.columns === x.from.columns && x.from.start % 4 === 0 && x.from.stride % 4 === 0 ? null : x);
  const a = ifRagged(transA ? copied('k', 'm', p.aStart, p.aStride) : copied('m', 'k', p.aStart, p.aStride));
  const b = ifRagged(transB ? copied('n', 'k', p.bStart, p.bStride) : copied('k', 'n', p.bStart, p.bStride));
  const c = copied('m', 'n', p.cStart, p.cStride);
  const size = (each: ByFours | null) => (each ? sizeByFours(each) : 0);
  if ([a, b, c].some((each) => 4 * size(each) > gpu.pool.largest)) return null; // the ragged matrix may just fit one buffer
  const numbers = size(a) + (gpu.isSteady(p.b, matmulFamily.name) ? 0 : size(b)) + size(c);
  return matmulFamily.bound !== null || m * n * k * batch > WORTH_A_COPY * numbers ? { ...wide, a, b, c } : null;
}

/**
 * A product with ragged rows, by way of copies. False if it is better off without, or no version here reads four numbers at a time. A
 * forced version gets its copies whatever they cost.
 */
function matmulByFours(gpu: Gpu, p: MatmulProblem): boolean {
  const copies = copiesToFours(gpu, p);
  if (!copies) return false;
  const { m, n, k, a, b, c } = copies;
  const strideOf = (each: ByFours) => (each.matrices === 1 ? 0 : each.rows * each.columns);
  const { bias, relu, addToC, ...rest } = p;
  const inner: MatmulProblem = {
    ...{ ...rest, m, n, k, cStart: 0, cStride: c.rows * c.columns },
    ...(a ? { aStart: 0, aStride: strideOf(a) } : {}),
    ...(b ? { bStart: 0, bStride: strideOf(b) } : {}),
  };
  if (matmulFamily.choose(gpu, inner).unit === 1) return false;
  const make = (each: ByFours): BufferSlice => {
    const bytes = 4 * sizeByFours(each);
    return { buffer: gpu.pool.acquire(bytes, `${p.label} (rows of fours)`), offset: 0, bytes };
  };
  // B may be weights, which several products read until they are written.
  const bName = b && `rows of fours ${b.from.rows}×${b.from.columns}×${b.matrices} from ${b.from.start} in steps of ${b.from.stride}`;
  const multiply = (bRead: BufferSlice) => {
    gpu.noteRead(p.b, matmulFamily.name);
    const aRead = a ? make(a) : p.a;
    if (a) rowsToFours(gpu, p.a, aRead, a, p.label);
    const made = make(c);
    matmul(gpu, { ...inner, a: aRead, b: bRead, c: made });
    rowsFromFours(gpu, made, p.c, c, { bias, relu, addToC }, p.label);
    if (a) gpu.pool.release(aRead.buffer);
    gpu.pool.release(made.buffer);
  };
  if (b && bName) gpu.prepare(p.b, bName, 4 * sizeByFours(b), (to) => rowsToFours(gpu, p.b, to, b, p.label), multiply);
  else multiply(p.b);
  return true;
}

/** C = op(A) op(B) (+ bias) (ReLU) for each matrix of the batch. The shaders give shapes and layouts. */
export function matmul(gpu: Gpu, p: MatmulProblem): void {
  const { m, n, k, batch = 1 } = p;
  if (m * n * batch === 0) return;
  const { bound } = matmulFamily;
  if (k > 0 && !gpu.isTraced && notByFours(p) !== null && bound?.unable(gpu, p) !== null && matmulByFours(gpu, p)) return;
  // With k = 0 only the bias is left. The naive version handles that without a special case.
  const version = k === 0 ? matmulFamily.chooseFirst(p, 'nothing to sum') : matmulFamily.choose(gpu, p);
  gpu.noteRead(p.b, matmulFamily.name);
  const { unit } = version;
  const width = gpu.subgroupWidth;
  const [tileRows, tileColumns] = version.tile(width);
  const [rowTiles, columnTiles] = [Math.ceil(m / tileRows), Math.ceil(n / tileColumns)];
  const tiles = rowTiles * columnTiles * batch;
  const params = {
    ...{ m, n, k, tiles, column_tiles: columnTiles, row_tiles: rowTiles, ...tileOrder(rowTiles, columnTiles) },
    c_start: (p.cStart ?? 0) / unit,
    c_stride: (p.cStride ?? m * n) / unit,
    ...endingParams(p),
  };
  const constants = { TRANS_A: p.transA ? 1 : 0, TRANS_B: p.transB ? 1 : 0 };
  const variant = { ...(version.tune ? { tune: version.tune(width) } : {}), constants };
  if (version.b) {
    const a = texelsOf(p.a, p.aStart ?? 0, storedLayout(gpu, p, 'a') as TexelLayout);
    const start = p.bStart ?? 0;
    const launch = (b: TexelSlice) => {
      const found = {
        ...texelParams('a', a.layout),
        ...texelParams('b', b.layout),
        a_rows: stored(p, 'a').matrixRows,
        b_rows: stored(p, 'b').matrixRows,
        b_panel: version.b === 'panels' ? k : 0,
      };
      matmulFamily.launch(gpu, variant, [a, b, p.bias ?? p.b, p.c], { ...params, ...found }, grid(tiles, 1), p.label);
    };
    if (version.b === 'panels') withPanels(gpu, p.b, start, k, n, launch);
    else launch(texelsOf(p.b, start, storedLayout(gpu, p, 'b') as TexelLayout));
    return;
  }
  if (version.halves) {
    onHalves(gpu, p, (slices, parts) => matmulFamily.launch(gpu, {}, [...slices, p.bias ?? p.b, p.c], { ...params, ...parts }, grid(tiles, 1), p.label));
    return;
  }
  const starts = {
    a_start: (p.aStart ?? 0) / unit,
    b_start: (p.bStart ?? 0) / unit,
    a_stride: (p.aStride ?? m * k) / unit,
    b_stride: (p.bStride ?? k * n) / unit,
  };
  const launch = (c: BufferSlice, copies: number, more: Record<string, number>) =>
    matmulFamily.launch(gpu, variant, [p.a, p.b, p.bias ?? p.b, c], { ...params, ...starts, ...more }, grid(tiles * copies, 1), p.label);
  if (version.pieces) inPieces(gpu, p, version.pieces(p), tiles, launch);
  else launch(p.c, 1, {});
}

/** Gives `launch` both operands as pairs of halves. Those of B, which may be weights, are made again only when B was written. */
function onHalves(gpu: Gpu, p: MatmulProblem, launch: (slices: BufferSlice[], parts: Record<string, number>) => void): void {
  const { a, b } = splitOperands(p);
  const name = `halves of ${b.rows}×${b.k}×${b.matrices} from ${b.start} in steps of ${b.matrixStride}${p.transB ? '' : ', columns'}`;
  const fill = (to: BufferSlice) => splitHalves(gpu, p.b, to, b, p.label);
  gpu.prepare(p.b, name, 4 * splitWords(b), fill, (bMade) =>
    withScratch(gpu, [splitWords(a)], `${p.label} (halves)`, ([aMade]) => {
      splitHalves(gpu, p.a, aMade, a, p.label);
      const [left, right] = [partsOf(aMade, a), partsOf(bMade, b)];
      launch([left.halves, right.halves, left.exponents, right.exponents], {
        ...{ a_blocks: left.blocks, b_blocks: right.blocks, a_stride: left.stride, b_stride: right.stride },
        ...{ a_exponents: left.exponentStride, b_exponents: right.exponentStride },
      });
    }),
  );
}

/** Launches a version that can cut K into pieces, and what adds the pieces up. */
function inPieces(
  gpu: Gpu,
  p: MatmulProblem,
  wanted: number,
  tiles: number,
  launch: (c: BufferSlice, copies: number, params: Record<string, number>) => void,
): void {
  const { m, n, k, batch = 1, bias, label } = p;
  const piece = PIECE_STEP * Math.ceil(k / wanted / PIECE_STEP);
  const splits = Math.ceil(k / piece);
  if (splits === 1) {
    launch(p.c, 1, { splits, piece });
    return;
  }
  const [matrix, columns] = [(m * n) / 4, n / 4];
  const params = {
    ...{ count4: matrix * batch, matrix, columns, splits, c_start: (p.cStart ?? 0) / 4, c_stride: (p.cStride ?? m * n) / 4 },
    ...endingParams(p),
  };
  withScratch(gpu, [4 * matrix * batch * splits], `${label} (pieces)`, ([made]) => {
    launch(made, splits, { splits, piece, tiles: tiles * splits, c_start: 0, c_stride: matrix, ...endingParams({}) });
    gpu.dispatch(gpu.kernel({ file: 'matmul_splits' }), [made, bias ?? made, p.c], params, grid(params.count4), `${label} (sum of pieces)`);
  });
}
