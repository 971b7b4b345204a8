/** Launchers of gather and scatter: which rows the indices select, the rows themselves, and updates joined row by row in their order. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';
import { withScratch } from './scratch.ts';
import { sortCapacity, sortRows } from './sort.ts';

/** The word that stands for no number in f32. */
const NOT_A_NUMBER = 0x7fc00000;

/** What an update does to the element that it selects. */
export type ScatterReduction = 'none' | 'add' | 'mul' | 'max' | 'min';
const KINDS: Record<ScatterReduction | 'zero', number> = { none: 0, add: 1, mul: 2, max: 3, min: 4, zero: 5 };

/** How ids select rows of x: row = base + Σ ids[at + k] steps[k], base and at through strides from a place in `shape`. */
export interface Selection {
  /** Places that select a row each. */
  shape: readonly number[];
  baseStrides: readonly number[];
  idStrides: readonly number[];
  /** What each id of a place must be below, and how far apart its rows are. */
  extents: readonly number[];
  steps: readonly number[];
  /** Elements of a row. */
  width: number;
}

const countOf = ({ shape }: Selection): number => shape.reduce((size, extent) => size * extent, 1);

function rowIds(gpu: Gpu, ids: BufferSlice, rows: BufferSlice, s: Selection, capacity: number, label: string): void {
  const { shape, extents, steps } = s;
  const params = { count: countOf(s), capacity, rank: shape.length, components: extents.length, shape, extents, steps };
  gpu.dispatch(gpu.kernel({ file: 'row_ids' }), [ids, rows], { ...params, base_strides: s.baseStrides, id_strides: s.idStrides }, grid(capacity), label);
}

/** y[place] = the row of x that the ids at the place select; NaN where there is none. Words of any type. */
export function gatherRows(gpu: Gpu, x: BufferSlice, ids: BufferSlice, y: BufferSlice, s: Selection, label: string): void {
  const count = countOf(s);
  withScratch(gpu, [count], `${label} (rows)`, ([rows]) => {
    rowIds(gpu, ids, rows, s, count, label);
    gpu.dispatch(gpu.kernel({ file: 'gather_rows' }), [x, rows, y], { count: count * s.width, width: s.width }, grid(count * s.width), label);
  });
}

/** Hands on the rows that the ids select, sorted, and for each the place that selects it. */
function withSorted(gpu: Gpu, ids: BufferSlice, s: Selection, label: string, work: (keys: BufferSlice, places: BufferSlice) => void): void {
  const capacity = sortCapacity(countOf(s));
  withScratch(gpu, [capacity, capacity], `${label} (sorted rows)`, ([keys, places]) => {
    rowIds(gpu, ids, keys, s, capacity, label);
    sortRows(gpu, keys, places, 1, capacity, label);
    work(keys, places);
  });
}

/** The gradient of `gatherRows`: dx is cleared, then the rows of dy are added to those that they came from, in their order. */
export function gatherRowsGrad(gpu: Gpu, dy: BufferSlice, ids: BufferSlice, dx: BufferSlice, s: Selection, label: string): void {
  gpu.clear(dx);
  const [updates, { width }] = [countOf(s), s];
  if (updates * width === 0) return;
  withSorted(gpu, ids, s, label, (keys, places) => {
    const kernel = gpu.kernel({ file: 'scatter_rows', constants: { KIND: KINDS.add } });
    gpu.dispatch(kernel, [dy, keys, places, dx], { count: updates * width, updates, width, strict: 0 }, grid(updates * width), label);
  });
}

/** y = x of `size` elements, whose rows are joined with the updates that select them. NaN everywhere if an id selects no row. */
export function scatterRows(
  gpu: Gpu,
  x: BufferSlice,
  ids: BufferSlice,
  updates: BufferSlice,
  y: BufferSlice,
  size: number,
  s: Selection,
  reduction: ScatterReduction,
  label: string,
): void {
  launchScatter(gpu, x, ids, updates, y, size, s, reduction, NOT_A_NUMBER, label);
}

/** dx of a scatter that overwrites: dy, but 0 where an update shows. All 0 if an id selects no row. */
export function scatterRowsGradX(
  gpu: Gpu,
  dy: BufferSlice,
  ids: BufferSlice,
  dx: BufferSlice,
  size: number,
  s: Selection,
  added: boolean,
  label: string,
): void {
  launchScatter(gpu, dy, ids, null, dx, size, s, added ? null : 'zero', 0, label);
}

function launchScatter(
  gpu: Gpu,
  x: BufferSlice,
  ids: BufferSlice,
  updates: BufferSlice | null,
  y: BufferSlice,
  size: number,
  s: Selection,
  kind: ScatterReduction | 'zero' | null,
  fill: number,
  label: string,
): void {
  const [count, { width }] = [countOf(s), s];
  if (size === 0) return;
  if (count * width === 0) {
    gpu.copy(x, y, size * 4);
    return;
  }
  withSorted(gpu, ids, s, label, (keys, places) => {
    gpu.dispatch(gpu.kernel({ file: 'scatter_start' }), [x, keys, y], { count: size, updates: count, fill }, grid(size), label);
    if (kind === null) return;
    const kernel = gpu.kernel({ file: 'scatter_rows', constants: { KIND: KINDS[kind] } });
    gpu.dispatch(kernel, [updates ?? keys, keys, places, y], { count: count * width, updates: count, width, strict: 1 }, grid(count * width), label);
  });
}

/** dupdates of a scatter: the rows of dy that they select, with `all` of every update, else of the last one of each row only. */
export function scatterRowsGradUpdates(gpu: Gpu, dy: BufferSlice, ids: BufferSlice, dupdates: BufferSlice, s: Selection, all: boolean, label: string): void {
  const [updates, { width }] = [countOf(s), s];
  if (updates * width === 0) return;
  withSorted(gpu, ids, s, label, (keys, places) => {
    const kernel = gpu.kernel({ file: 'scatter_grad', constants: { ALL: all ? 1 : 0 } });
    gpu.dispatch(kernel, [dy, keys, places, dupdates], { count: updates * width, updates, width }, grid(updates * width), label);
  });
}
