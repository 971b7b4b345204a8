/** Launcher of the sort: rows of whole-number keys, in n log² n compared pairs, without atomics. Gather, scatter and top-k are made of it. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';

/** Elements that a workgroup keeps in its memory. */
const BLOCK = 512;

/** The elements that a row of n takes while it is sorted: a power of two. */
export function sortCapacity(n: number): number {
  let capacity = 1;
  while (capacity < n) capacity *= 2;
  return capacity;
}

/**
 * Sorts each row of keys u32 [rows, capacity] in place, in rising order. places u32 [rows, capacity] are where the keys stood
 * in their row; of equal keys the lower place comes first. The capacity is a power of two: pad a row with 0xffffffff.
 */
export function sortRows(gpu: Gpu, keys: BufferSlice, places: BufferSlice, rows: number, capacity: number, label: string): void {
  const total = rows * capacity;
  const block = (first: number, last: number, isNew: boolean) =>
    gpu.dispatch(
      gpu.kernel({ file: 'sort_block', constants: { NEW: isNew ? 1 : 0 } }),
      [keys, places],
      { total, capacity, first, last },
      grid(total, BLOCK),
      label,
    );
  block(2, Math.min(capacity, BLOCK), true);
  const step = gpu.kernel({ file: 'sort_step' });
  for (let stage = 2 * BLOCK; stage <= capacity; stage *= 2) {
    for (let apart = stage / 2; apart >= BLOCK; apart /= 2)
      gpu.dispatch(step, [keys, places], { pairs: total / 2, capacity, stage, apart }, grid(total / 2), label);
    block(stage, stage, false);
  }
}
