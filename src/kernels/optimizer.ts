/** Launchers of the optimizers' updates and of the global gradient norm, each over a whole buffer of parameters. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid, type Live, present, unary } from './elementwise.ts';
import { soleVersion } from './family.ts';
import { reduce } from './reduce.ts';

export interface AdamUpdate {
  rate: Live;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** Decay is applied to the parameter (AdamW), not to the gradient (Adam). */
  decoupled: boolean;
  /** The global gradient norm is clipped at this; 0 clips nothing. */
  maxNorm: number;
  /** The number of the update, from 1. */
  step: Live;
}

export const adamFamily = soleVersion('adam', 'one invocation owns four parameters');

export function adam(
  gpu: Gpu,
  p: BufferSlice,
  g: BufferSlice,
  m: BufferSlice,
  v: BufferSlice,
  norm: BufferSlice,
  count: number,
  u: AdamUpdate,
  label = 'adam',
): void {
  const count4 = Math.ceil(count / 4);
  const params = {
    count4,
    rate: u.rate,
    beta1: u.beta1,
    beta2: u.beta2,
    one_minus_beta1: 1 - u.beta1,
    one_minus_beta2: 1 - u.beta2,
    eps: u.eps,
    correction1: () => 1 - u.beta1 ** present(u.step),
    correction2: () => 1 - u.beta2 ** present(u.step),
    weight_decay: u.weightDecay,
    decoupled: u.decoupled ? 1 : 0,
    max_norm: u.maxNorm,
  };
  adamFamily.choose(gpu, null);
  adamFamily.launch(gpu, {}, [p, g, m, v, norm], params, grid(count4), label);
}

export interface SgdUpdate {
  rate: Live;
  momentum: number;
  weightDecay: number;
  maxNorm: number;
}

export function sgd(gpu: Gpu, p: BufferSlice, g: BufferSlice, m: BufferSlice, norm: BufferSlice, count: number, u: SgdUpdate, label = 'sgd'): void {
  const count4 = Math.ceil(count / 4);
  gpu.dispatch(
    gpu.kernel({ file: 'sgd' }),
    [p, g, m, norm],
    { count4, rate: u.rate, momentum: u.momentum, weight_decay: u.weightDecay, max_norm: u.maxNorm },
    grid(count4),
    label,
  );
}

/** Which part of a sum of gradients is added, and how: see accumulate.wgsl. */
export interface Accumulation {
  first: boolean;
  last: boolean;
  /** Parts and sum are rounded to bfloat16. */
  bits16: boolean;
}

/** sum ← sum + x over a whole buffer of gradients, with the same bits as additions on the host. */
export function accumulate(gpu: Gpu, sum: BufferSlice, x: BufferSlice, count: number, { first, last, bits16 }: Accumulation): void {
  const count4 = Math.ceil(count / 4);
  const params = { count4, bits16: bits16 ? 1 : 0, first: first ? 1 : 0, last: last ? 1 : 0 };
  gpu.dispatch(gpu.kernel({ file: 'accumulate' }), [sum, x], params, grid(count4), 'sum of gradients');
}

/** norm[0] = √ (the sum of the squares of all slices). */
export function globalNorm(gpu: Gpu, gradients: readonly { slice: BufferSlice; count: number }[], norm: BufferSlice): void {
  const squares = gradients.map(({ slice, count }) => {
    const y = { buffer: gpu.pool.acquire(4, 'global norm'), offset: 0, bytes: 4 };
    reduce(gpu, { kind: 'sumSquares', x: slice, y, outer: 1, n: count, inner: 1, label: 'global norm' });
    return y;
  });
  const all = { buffer: gpu.pool.acquire(squares.length * 4, 'global norm'), offset: 0, bytes: squares.length * 4 };
  squares.forEach((square, i) => {
    gpu.copy(square, all, 4, 0, i * 4);
    gpu.pool.release(square.buffer);
  });
  reduce(gpu, { kind: 'sum', x: all, y: norm, outer: 1, n: squares.length, inner: 1, label: 'global norm' });
  gpu.pool.release(all.buffer);
  const root = { buffer: gpu.pool.acquire(4, 'global norm'), offset: 0, bytes: 4 };
  unary(gpu, 'sqrt(x)', norm, root, 1, 0, 'global norm');
  gpu.copy(root, norm, 4);
  gpu.pool.release(root.buffer);
}
