/** Launchers of the embedding and its gradient. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid, rowGrid } from './elementwise.ts';
import { withScratch } from './scratch.ts';

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
  gpu.clear(dtable);
  withScratch(gpu, [rows, rows], `${label} (links)`, (links) => {
    gpu.dispatch(gpu.kernel({ file: 'embedding_links' }), [ids, ...links], { rows }, grid(rows), label);
    const params = { count: rows * width, rows, width, vocabulary };
    gpu.dispatch(gpu.kernel({ file: 'embedding_grad' }), [dy, ids, ...links, dtable], params, grid(rows * width), label);
  });
}
