/** Launchers of batch normalization: statistics in mergeable chunks, application, gradient. x is [outer, C, inner]. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';
import { reduce } from './reduce.ts';

export interface BatchNormGeometry {
  outer: number;
  channels: number;
  inner: number;
  eps: number;
}

/** Chunks per channel: enough invocations to fill the machine, each with at least 64 elements. */
function chunks(g: BatchNormGeometry): { n: number; chunk: number; pieces: number } {
  const n = g.outer * g.inner;
  const wanted = Math.max(1, Math.min(Math.ceil(2048 / g.channels), Math.floor(n / 64)));
  const chunk = Math.ceil(n / wanted);
  return { n, chunk, pieces: Math.ceil(n / chunk) };
}

function temporary(gpu: Gpu, words: number, label: string): BufferSlice {
  return { buffer: gpu.pool.acquire(words * 4, label), offset: 0, bytes: words * 4 };
}

/** mean[c] and biased variance[c] of the batch. */
export function batchNormStatistics(gpu: Gpu, g: BatchNormGeometry, x: BufferSlice, mean: BufferSlice, variance: BufferSlice, label: string): void {
  const { n, chunk, pieces } = chunks(g);
  const means = temporary(gpu, pieces * g.channels, label);
  const squares = temporary(gpu, pieces * g.channels, label);
  gpu.dispatch(
    gpu.kernel({ file: 'batchnorm_partial' }),
    [x, means, squares],
    { channels: g.channels, inner: g.inner, n, chunk, pieces },
    grid(pieces * g.channels),
    label,
  );
  gpu.dispatch(
    gpu.kernel({ file: 'batchnorm_combine' }),
    [means, squares, mean, variance],
    { channels: g.channels, n, chunk, pieces },
    grid(g.channels),
    label,
  );
  gpu.pool.release(means.buffer);
  gpu.pool.release(squares.buffer);
}

export function batchNormApply(
  gpu: Gpu,
  g: BatchNormGeometry,
  x: BufferSlice,
  mean: BufferSlice,
  variance: BufferSlice,
  gamma: BufferSlice,
  beta: BufferSlice,
  y: BufferSlice,
  label: string,
): void {
  const count = g.outer * g.channels * g.inner;
  gpu.dispatch(
    gpu.kernel({ file: 'batchnorm_apply' }),
    [x, mean, variance, gamma, beta, y],
    { count, channels: g.channels, inner: g.inner, eps: g.eps },
    grid(count),
    label,
  );
}

export interface BatchNormGrad {
  x: BufferSlice;
  dy: BufferSlice;
  mean: BufferSlice;
  variance: BufferSlice;
  gamma: BufferSlice;
  dx: BufferSlice;
  dgamma: BufferSlice;
  dbeta: BufferSlice;
  training: boolean;
}

export function batchNormGrad(gpu: Gpu, g: BatchNormGeometry, p: BatchNormGrad, label: string): void {
  const { n, chunk, pieces } = chunks(g);
  const { channels, inner, eps } = g;
  const plain = temporary(gpu, pieces * channels, label);
  const weighted = temporary(gpu, pieces * channels, label);
  gpu.dispatch(
    gpu.kernel({ file: 'batchnorm_grad_sums' }),
    [p.x, p.dy, p.mean, p.variance, plain, weighted],
    { channels, inner, n, chunk, pieces, eps },
    grid(pieces * channels),
    label,
  );
  reduce(gpu, { kind: 'sum', x: plain, y: p.dbeta, outer: 1, n: pieces, inner: channels, label });
  reduce(gpu, { kind: 'sum', x: weighted, y: p.dgamma, outer: 1, n: pieces, inner: channels, label });
  gpu.pool.release(plain.buffer);
  gpu.pool.release(weighted.buffer);
  const count = g.outer * channels * inner;
  gpu.dispatch(
    gpu.kernel({ file: 'batchnorm_grad' }),
    [p.x, p.dy, p.mean, p.variance, p.gamma, p.dgamma, p.dbeta, p.dx],
    { count, channels, inner, n, eps, training: p.training ? 1 : 0 },
    grid(count),
    label,
  );
}
