/** Launcher of reductions over one axis. Long rows with few results are reduced in two steps. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';
import { always, Family, sizeRange, type Version } from './family.ts';
import { withScratch } from './scratch.ts';

export type Reduction = 'sum' | 'sumSquares' | 'sumAbs' | 'max' | 'min' | 'prod';
const KINDS: Record<Reduction, number> = { sum: 0, sumSquares: 1, max: 2, min: 3, sumAbs: 4, prod: 5 };
/** What joins the results of pieces of a row. */
export const JOINED: Record<Reduction, Reduction> = { sum: 'sum', sumSquares: 'sum', sumAbs: 'sum', max: 'max', min: 'min', prod: 'prod' };
/** A reduction with fewer results than this is cut into pieces. */
const ENOUGH_RESULTS = 512;
/** The fewest elements of a piece: for one invocation, and for a workgroup. */
const LEAST_PIECE = { invocation: 64, workgroup: 4096 };

/** The longest row of which a workgroup's lanes keep the digits: their last level of partial sums has 64 terms then. */
const LONGEST_ROW = 1 << 25;

export interface ReduceProblem {
  kind: Reduction;
  x: BufferSlice;
  y: BufferSlice;
  /** x is [outer, n, inner], y is [outer, inner]. */
  outer: number;
  n: number;
  inner: number;
  scale?: number;
  label: string;
}

/** `rows`: workgroups own rows of the last axis, or pieces of them. */
export const reduceFamily = new Family<ReduceProblem, Version<ReduceProblem> & { rows: boolean }>(
  'reduce',
  [
    {
      ...{ name: 'invocation', shader: 'reduce', rows: false, unable: always },
      idea: 'one invocation owns one result; long rows with few results are cut into pieces and reduced twice',
    },
    {
      ...{ name: 'workgroup', shader: 'reduce_workgroup', rows: true },
      idea: 'one workgroup owns one row, or a piece of a long one; its lanes join in a tree in workgroup memory',
      unable: (_gpu, { n, inner }) =>
        inner !== 1 ? 'it reduces the last axis only' : n > LONGEST_ROW ? `a lane would add too many of ${n} numbers to keep their digits` : null,
    },
  ],
  ({ outer, inner }) => (inner === 1 ? `rows ${sizeRange(outer, 64)}` : 'columns'),
);

export function reduce(gpu: Gpu, p: ReduceProblem): void {
  const { outer, n, inner, label } = p;
  const scale = p.scale ?? 1;
  const results = outer * inner;
  if (results === 0) return;
  // Shaders of a program's own stand in for sums and extremes only.
  const isOfFamily = KINDS[p.kind] < KINDS.sumAbs;
  const { rows } = isOfFamily ? reduceFamily.choose(gpu, p) : reduceFamily.chooseFirst(p, 'the only version with products and absolute sums');
  const least = rows ? LEAST_PIECE.workgroup : LEAST_PIECE.invocation;
  const pieces = Math.max(1, Math.min(Math.ceil(ENOUGH_RESULTS / results), Math.floor(n / least)));
  const chunk = Math.max(1, Math.ceil(n / pieces));
  const count = Math.max(1, Math.ceil(n / chunk));
  /** Reduces rows of `length` numbers by pieces of `piece`. */
  const launch = (kind: Reduction, x: BufferSlice, y: BufferSlice, length: number, piece: number, factor: number) => {
    const made = outer * Math.max(1, Math.ceil(length / piece));
    const params = { outer, n: length, chunk: piece, scale: factor, ...(rows ? { pieces: made / outer } : { inner }) };
    reduceFamily.launch(gpu, { constants: { KIND: KINDS[kind] } }, [x, y], params, rows ? grid(made, 1) : grid(made * inner), label);
  };
  if (count === 1) {
    launch(p.kind, p.x, p.y, n, chunk, scale);
    return;
  }
  withScratch(gpu, [outer * count * inner], `${label} (pieces)`, ([partial]) => {
    launch(p.kind, p.x, partial, n, chunk, 1);
    launch(JOINED[p.kind], partial, p.y, count, count, scale);
  });
}
