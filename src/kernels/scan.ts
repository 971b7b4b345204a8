/** Launcher of running sums: blocks of a line side by side, then the sums of the blocks in the same way. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';
import { withScratch } from './scratch.ts';

/** Invocations of a workgroup that own a block together. */
const LANES = 64;
/** Numbers of a block that a workgroup owns, and of one that an invocation owns. */
const WORKGROUP_BLOCK = 1024;
const INVOCATION_BLOCK = 256;

export interface ScanOrder {
  /** Leave the element itself out of its sum. */
  exclusive: boolean;
  /** Sum from the end. */
  reverse: boolean;
}

/** y[o, p, i] = Σ x[o, q, i] over q ≤ p, or as `order` says. x, y [outer, n, inner]. */
export function scan(gpu: Gpu, x: BufferSlice, y: BufferSlice, outer: number, n: number, inner: number, order: ScanOrder, label: string): void {
  if (outer * n * inner === 0) return;
  const lanes = inner === 1 && n > LANES ? LANES : 1;
  const chunk = lanes * Math.ceil(Math.min(n, lanes > 1 ? WORKGROUP_BLOCK : INVOCATION_BLOCK) / lanes);
  const blocks = Math.ceil(n / chunk);
  const items = outer * blocks * inner;
  const [EXCLUSIVE, REVERSE] = [order.exclusive ? 1 : 0, order.reverse ? 1 : 0];
  const words = blocks > 1 ? [items, items] : [items];
  withScratch(gpu, words, `${label} (sums of blocks)`, ([totals, offsets]) => {
    const kernel = gpu.kernel({ file: 'scan', constants: { LANES: lanes, EXCLUSIVE, REVERSE } });
    gpu.dispatch(kernel, [x, y, totals], { items, n, inner, blocks, chunk }, grid(items, lanes > 1 ? 1 : LANES), label);
    if (blocks === 1) return;
    scan(gpu, totals, offsets, outer, blocks, inner, { exclusive: true, reverse: false }, label);
    const count = outer * n * inner;
    gpu.dispatch(gpu.kernel({ file: 'scan_add', constants: { REVERSE } }), [y, offsets], { count, n, inner, blocks, chunk }, grid(count), label);
  });
}
