/** Launchers of the two kernels that measure the most an adapter can do. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';

/** Accumulators × unrolled rounds × loops of roof_fma.wgsl. */
const FMAS_PER_INVOCATION = 12 * 16 * 128;

/** Runs `count` invocations. Returns the number of floating-point operations. y [count]. */
export function fmaRoof(gpu: Gpu, y: BufferSlice, count: number): number {
  gpu.dispatch(gpu.kernel({ file: 'roof_fma' }), [y], { count, start: 0.25 }, grid(count), 'roof: multiply-adds');
  return 2 * FMAS_PER_INVOCATION * Math.ceil(count / 64) * 64;
}

/** y = x + 1 over `count` numbers (a multiple of 4). Returns the bytes moved. */
export function copyRoof(gpu: Gpu, x: BufferSlice, y: BufferSlice, count: number): number {
  gpu.dispatch(gpu.kernel({ file: 'roof_copy' }), [x, y], { count4: count / 4 }, grid(count / 4, 256), 'roof: copy');
  return 8 * count;
}
