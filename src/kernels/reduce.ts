/** Launcher of reductions over one axis. Long rows with few results are reduced in two steps. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';
import { always, Family, sizeRange, type Version } from './family.ts';

export type Reduction = 'sum' | 'sumSquares' | 'sumAbs' | 'max' | 'min' | 'prod';
const KINDS: Record<Reduction, number> = { sum: 0, sumSquares: 1, max: 2, min: 3, sumAbs: 4, prod: 5 };
/** What joins the results of pieces of a row. */
export const JOINED: Record<Reduction, Reduction> = { sum: 'sum', sumSquares: 'sum', sumAbs: 'sum', max: 'max', min: 'min', prod: 'prod' };
/** A reduction with fewer results than this is cut into pieces. */
const ENOUGH_RESULTS = 512;
/** The fewest elements of a piece. */
const LEAST_PIECE = 64;

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

/** `rows`: a workgroup owns a row of the last axis, and one dispatch does it all. */
export const reduceFamily = new Family<ReduceProblem, Version<ReduceProblem> & { rows: boolean }>(
  'reduce',
  [
    {
      ...{ name: 'invocation', shader: 'reduce', rows: false, unable: always },
      idea: 'one invocation owns one result; long rows with few results are cut into pieces and reduced twice',
    },
    {
      ...{ name: 'workgroup', shader: 'reduce_workgroup', rows: true },
      idea: 'one workgroup owns one row; its lanes join in a tree in workgroup memory',
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
  const constants = { KIND: KINDS[p.kind] };
  if (rows) {
    reduceFamily.launch(gpu, { constants }, [p.x, p.y], { outer, n, scale }, grid(outer, 1), label);
    return;
  }
  const pieces = Math.min(Math.ceil(ENOUGH_RESULTS / Math.max(1, results)), Math.floor(n / LEAST_PIECE));
  if (pieces <= 1) {
    reduceFamily.launch(gpu, { constants }, [p.x, p.y], { outer, n, inner, chunk: Math.max(1, n), scale }, grid(results), label);
    return;
  }
  const chunk = Math.ceil(n / pieces);
  const count = Math.ceil(n / chunk);
  const bytes = outer * count * inner * 4;
  const partial = { buffer: gpu.pool.acquire(bytes, `${label} (pieces)`), offset: 0, bytes };
  reduceFamily.launch(gpu, { constants }, [p.x, partial], { outer, n, inner, chunk, scale: 1 }, grid(outer * count * inner), label);
  const second = { constants: { KIND: KINDS[JOINED[p.kind]] } };
  reduceFamily.launch(gpu, second, [partial, p.y], { outer, n: count, inner, chunk: count, scale }, grid(results), label);
  gpu.pool.release(partial.buffer);
}
