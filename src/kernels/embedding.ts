/** Launchers of the embedding and its gradient. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid, rowGrid } from './elementwise.ts';

export function embedding(
  gpu: Gpu,
  table: BufferSlice,
  ids: BufferSlice,
  y: BufferSlice,
  rows: number,
  width: number,
  vocabulary: number,
  label: string,
): void {
  gpu.dispatch(gpu.kernel({ file: 'embedding' }), [table, ids, y], { rows, width, vocabulary }, rowGrid(rows, width), label);
}

/** Clears dtable, then adds the rows of dy with the same id in their order. */
export function embeddingGrad(
  gpu: Gpu,
  dy: BufferSlice,
  ids: BufferSlice,
  dtable: BufferSlice,
  rows: number,
  width: number,
  vocabulary: number,
  label: string,
): void {
  const links = [0, 1].map(() => ({ buffer: gpu.pool.acquire(rows * 4, `${label} (links)`), offset: 0, bytes: rows * 4 }));
  gpu.clear(dtable);
  gpu.dispatch(gpu.kernel({ file: 'embedding_links' }), [ids, links[0], links[1]], { rows }, grid(rows), label);
  gpu.dispatch(
    gpu.kernel({ file: 'embedding_grad' }),
    [dy, ids, links[0], links[1], dtable],
    { count: rows * width, rows, width, vocabulary },
    grid(rows * width),
    label,
  );
  for (const link of links) gpu.pool.release(link.buffer);
}
