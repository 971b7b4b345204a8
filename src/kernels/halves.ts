/** Launcher of the change from half precision to float32. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';

/** y f32 [count] = the halves x, two to a word. */
export function fromHalves(gpu: Gpu, x: BufferSlice, y: BufferSlice, count: number, label: string): void {
  gpu.dispatch(gpu.kernel({ file: 'from_halves' }), [x, y], { count }, grid(Math.ceil(count / 2)), label);
}
