/** Operands of a product as pairs of halves, for matrix units that multiply halves. split_halves.wgsl shows the layout. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';

/** Matrices [matrices, rows, k] as they are stored, and how many of their rows a tile of the product takes. */
export interface SplitProblem {
  matrices: number;
  rows: number;
  k: number;
  /** First element, and elements from one row, k and matrix to the next. */
  start: number;
  rowStride: number;
  kStride: number;
  matrixStride: number;
  /** A multiple of 16. */
  tileRows: number;
}

/** Blocks of 16 × 16, of the rows of whole tiles. */
const blocksOf = ({ rows, k, tileRows }: SplitProblem) => ({ row: (tileRows / 16) * Math.ceil(rows / tileRows), k: Math.ceil(k / 16) });

/** Words of all pairs of halves; the exponents follow. */
const halfWords = (p: SplitProblem): number => p.matrices * 2 * blocksOf(p).row * blocksOf(p).k * 128;

/** Words that the split matrices take. */
export const splitWords = (p: SplitProblem): number => halfWords(p) + p.matrices * 16 * blocksOf(p).row;

/** Where a product finds the parts of split matrices: the slices that it binds, and its parameters. Strides are 0 for one matrix. */
export interface SplitMatrices {
  halves: BufferSlice;
  exponents: BufferSlice;
  blocks: number;
  /** Halves, and exponents, from one matrix to the next. */
  stride: number;
  exponentStride: number;
}

/** The parts of matrices that `splitHalves` wrote to `y`. */
export function partsOf({ buffer, offset }: BufferSlice, p: SplitProblem): SplitMatrices {
  const { row, k } = blocksOf(p);
  const bytes = 4 * halfWords(p);
  const several = p.matrices > 1 ? 1 : 0;
  return {
    halves: { buffer, offset, bytes },
    exponents: { buffer, offset: offset + bytes, bytes: 4 * p.matrices * 16 * row },
    ...{ blocks: row, stride: several * 2 * row * k * 256, exponentStride: several * 16 * row },
  };
}

/** y, of `splitWords` words, = the matrices x as pairs of halves, and their exponents. */
export function splitHalves(gpu: Gpu, x: BufferSlice, y: BufferSlice, p: SplitProblem, label: string): void {
  const { row, k } = blocksOf(p);
  const params = {
    ...{ rows: p.rows, k: p.k, start: p.start, row_stride: p.rowStride, k_stride: p.kStride, matrix_stride: p.matrixStride },
    ...{ matrices: p.matrices, row_blocks: row, k_blocks: k, exponents: halfWords(p) },
  };
  const constants = { K_FIRST: p.kStride === 1 ? 1 : 0 };
  gpu.dispatch(gpu.kernel({ file: 'split_halves', constants }), [x, y], params, grid(p.matrices * row, 1), `${label} (halves)`);
}
