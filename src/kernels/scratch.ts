/** Buffers that a launcher needs between its own dispatches, and nobody else sees. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';

/** Calls `work` with buffers of so many words each, and releases them when it has recorded its dispatches. */
export function withScratch(gpu: Gpu, words: readonly number[], label: string, work: (slices: BufferSlice[]) => void): void {
  const slices = words.map((count) => ({ buffer: gpu.pool.acquire(Math.max(4, count * 4), label), offset: 0, bytes: Math.max(4, count * 4) }));
  work(slices);
  for (const { buffer } of slices) gpu.pool.release(buffer);
}
