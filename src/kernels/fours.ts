/** Matrices copied to rows of a multiple of 4, for kernels that read four numbers at a time, and back. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';

export const roundUp4 = (count: number): number => 4 * Math.ceil(count / 4);

/** Matrices as they are stored, and the extents that their copies have: `columns` is a multiple of 4. */
export interface ByFours {
  matrices: number;
  rows: number;
  columns: number;
  from: {
    rows: number;
    columns: number;
    /** First element, and elements from one matrix to the next. */
    start: number;
    stride: number;
  };
}

/** Numbers of all copies. */
export const sizeByFours = ({ matrices, rows, columns }: ByFours): number => matrices * rows * columns;

/** Copies matrices to larger ones; what is beyond them is 0. */
export function rowsToFours(gpu: Gpu, x: BufferSlice, y: BufferSlice, p: ByFours, label: string): void {
  const count = sizeByFours(p) / 4;
  gpu.dispatch(gpu.kernel({ file: 'rows_to_fours' }), [x, y], { count, out_rows: p.rows, out_columns: p.columns / 4, ...p.from }, grid(count), label);
}

/** How a product ends: a bias per column, then ReLU, then the sum with what is there. */
export interface Ending {
  bias?: BufferSlice | null | undefined;
  relu?: boolean | undefined;
  addToC?: boolean | undefined;
}

/** The parameters that say how a product ends. */
export const endingParams = ({ bias, relu, addToC }: Ending): { has_bias: number; relu: number; add_to_c: number } => ({
  has_bias: bias ? 1 : 0,
  relu: relu ? 1 : 0,
  add_to_c: addToC ? 1 : 0,
});

/** Copies the larger matrices x back to c, and ends the product that made them. */
export function rowsFromFours(gpu: Gpu, x: BufferSlice, c: BufferSlice, p: ByFours, ending: Ending, label: string): void {
  const count = (p.matrices * p.from.rows * p.columns) / 4;
  const params = { count, in_rows: p.rows, in_columns: p.columns / 4, ...p.from, ...endingParams(ending) };
  gpu.dispatch(gpu.kernel({ file: 'rows_from_fours' }), [x, ending.bias ?? x, c], params, grid(count), label);
}
