/** Launchers of resampling along one axis by a table, and of padding. Both move pictures onto another grid of pixels. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';

/** Places of the old axis, and their weights, that a place of the new axis takes. */
export interface Taps {
  sources: readonly number[];
  weights: readonly number[];
}

/** Per place of the new axis, what it takes; nothing where it is filled. */
export type TapTable = readonly Taps[];

/** The table of the gradient: per place of the old axis, the places of the new one that took it. */
export function transposed(table: TapTable, n: number): TapTable {
  const back = Array.from({ length: n }, () => ({ sources: [] as number[], weights: [] as number[] }));
  table.forEach(({ sources, weights }, i) => {
    sources.forEach((source, t) => {
      back[source].sources.push(i);
      back[source].weights.push(weights[t]);
    });
  });
  return back;
}

function packed(table: TapTable, taps: number): Uint32Array {
  const words = new Uint32Array(table.length + 1 + 2 * taps);
  const weights = new Float32Array(words.buffer, 4 * (table.length + 1 + taps), taps);
  let at = 0;
  table.forEach((each, i) => {
    words[i] = at;
    words.set(each.sources, table.length + 1 + at);
    weights.set(each.weights, at);
    at += each.sources.length;
  });
  words[table.length] = at;
  return words;
}

/** y [outer, table.length, inner] from x [outer, n, inner]. Places without taps are `fill`. */
export function resample(
  gpu: Gpu,
  table: TapTable,
  x: BufferSlice,
  y: BufferSlice,
  [outer, n, inner]: readonly [number, number, number],
  fill: number,
  label: string,
): void {
  const count = outer * table.length * inner;
  if (count === 0) return;
  const taps = table.reduce((sum, { sources }) => sum + sources.length, 0);
  const words = packed(table, taps);
  const slice = { buffer: gpu.pool.acquire(words.byteLength, `${label} (table)`), offset: 0, bytes: words.byteLength };
  gpu.upload(slice, words);
  gpu.dispatch(gpu.kernel({ file: 'resample' }), [x, slice, y], { count, n, size: table.length, inner, taps, fill }, grid(count), label);
  gpu.pool.release(slice.buffer);
}

/** What stands outside of a padded tensor: a value, its mirror image, its last element, or itself again. */
export type PadMode = 'constant' | 'reflect' | 'edge' | 'wrap';

const MODES: readonly PadMode[] = ['constant', 'reflect', 'edge', 'wrap'];

export interface PadGeometry {
  xShape: readonly number[];
  shape: readonly number[];
  /** Elements before x along each axis; negative ones are left out. */
  before: readonly number[];
  mode: PadMode;
  value: number;
}

export function pad(gpu: Gpu, g: PadGeometry, x: BufferSlice, y: BufferSlice, label: string): void {
  const count = g.shape.reduce((size, extent) => size * extent, 1);
  const { shape, xShape: x_shape, before, value } = g;
  gpu.dispatch(
    gpu.kernel({ file: 'pad' }),
    [x, y],
    { count, rank: shape.length, mode: MODES.indexOf(g.mode), value, shape, x_shape, before },
    grid(count),
    label,
  );
}
