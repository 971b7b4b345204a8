/** Launchers of elementwise work: unary and binary tables, strided copies, scaled sums, dropout. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import type { ParamValues } from '../gpu/uniforms.ts';
import { soleVersion } from './family.ts';

const MAX_GROUPS = 65535;

/**
 * Workgroups of `size` invocations for `count` of them, in two dimensions if one cannot hold them. Why 64 is the default:
 * docs/architecture.md, Workgroup sizes.
 */
export function grid(count: number, size = 64): [number, number, number] {
  const groups = Math.ceil(count / size);
  if (groups <= MAX_GROUPS) return [groups, 1, 1];
  const rows = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / rows), rows, 1];
}

/** Workgroups of 64 columns for `rows` rows: x counts columns, y and z rows. */
export function rowGrid(rows: number, columns: number): [number, number, number] {
  const [y, z] = grid(rows, 1);
  return [Math.ceil(columns / 64), y, z];
}

/** Shaders of unary functions: over what WGSL has, over functions that it lacks, over the sine and cosine, over bits. */
export type UnaryShader = 'unary' | 'unary_special' | 'unary_turns' | 'classify';

/** y = f(x) for a WGSL expression `f` over `x: vec4f`, `alpha: f32` and `beta: f32`, and over the functions of the shader. */
export function unary(
  gpu: Gpu,
  f: string,
  x: BufferSlice,
  y: BufferSlice,
  count: number,
  alpha: number,
  label: string,
  beta = 0,
  file: UnaryShader = 'unary',
): void {
  const count4 = Math.ceil(count / 4);
  const params: ParamValues = file === 'unary_turns' ? { count4 } : { count4, alpha, beta };
  gpu.dispatch(gpu.kernel({ file, expressions: { f } }), [x, y], params, grid(count4), label);
}

/** dx = g(x, y, dy). x or y may be null if the expression does not name it. */
export function unaryGrad(
  gpu: Gpu,
  g: string,
  x: BufferSlice | null,
  y: BufferSlice | null,
  dy: BufferSlice,
  dx: BufferSlice,
  count: number,
  alpha: number,
  label: string,
  beta = 0,
): void {
  const count4 = Math.ceil(count / 4);
  gpu.dispatch(gpu.kernel({ file: 'unary_grad', expressions: { g } }), [x ?? dy, y ?? dy, dy, dx], { count4, alpha, beta }, grid(count4), label);
}

/** c = f(a, b); each has `count` elements. */
export function binary(gpu: Gpu, f: string, a: BufferSlice, b: BufferSlice, c: BufferSlice, count: number, label: string): void {
  const count4 = Math.ceil(count / 4);
  gpu.dispatch(gpu.kernel({ file: 'binary', expressions: { f } }), [a, b, c], { count4 }, grid(count4), label);
}

export const binaryRowsFamily = soleVersion('binary_rows', 'one invocation owns one element; no index is divided');

/** c[r, j] = f(a[r, j], b[j]): a and c [rows, n], b [n]. */
export function binaryRows(gpu: Gpu, f: string, a: BufferSlice, b: BufferSlice, c: BufferSlice, rows: number, n: number, label: string): void {
  binaryRowsFamily.choose(gpu, null);
  binaryRowsFamily.launch(gpu, { expressions: { f } }, [a, b, c], { rows, n }, rowGrid(rows, n), label);
}

export interface StridedView {
  slice: BufferSlice;
  strides: readonly number[];
  /** First element. */
  start?: number;
}

/** c[index] = f(a[index · strides], b[index · strides]) for every index of `shape`; c is dense. */
export function binaryBroadcast(
  gpu: Gpu,
  f: string,
  a: StridedView,
  b: StridedView,
  c: BufferSlice,
  shape: readonly number[],
  label: string,
  file: 'binary_broadcast' | 'binary_special' = 'binary_broadcast',
): void {
  const count = shape.reduce((size, extent) => size * extent, 1);
  gpu.dispatch(
    gpu.kernel({ file, expressions: { f } }),
    [a.slice, b.slice, c],
    { count, rank: shape.length, shape, a_strides: a.strides, b_strides: b.strides },
    grid(count),
    label,
  );
}

/** c[index] = a[index · strides] where condition[index · strides] is not 0, else b[index · strides]; c is dense. */
export function where(gpu: Gpu, condition: StridedView, a: StridedView, b: StridedView, c: BufferSlice, shape: readonly number[], label: string): void {
  const count = shape.reduce((size, extent) => size * extent, 1);
  gpu.dispatch(
    gpu.kernel({ file: 'where' }),
    [condition.slice, a.slice, b.slice, c],
    { count, rank: shape.length, shape, condition_strides: condition.strides, a_strides: a.strides, b_strides: b.strides },
    grid(count),
    label,
  );
}

/** Merges neighboring axes that both views walk without a gap, and drops axes of extent 1. This saves index arithmetic. */
function mergeAxes(shape: readonly number[], from: readonly number[], to: readonly number[]): { shape: number[]; from: number[]; to: number[] } {
  const out = { shape: [] as number[], from: [] as number[], to: [] as number[] };
  for (let axis = 0; axis < shape.length; axis++) {
    if (shape[axis] === 1) continue;
    const last = out.shape.length - 1;
    if (last >= 0 && out.from[last] === from[axis] * shape[axis] && out.to[last] === to[axis] * shape[axis]) {
      out.shape[last] *= shape[axis];
      out.from[last] = from[axis];
      out.to[last] = to[axis];
    } else {
      out.shape.push(shape[axis]);
      out.from.push(from[axis]);
      out.to.push(to[axis]);
    }
  }
  return out;
}

/** to[to.start + index · to.strides] = from[from.start + index · from.strides] for every index of `shape`; any 32-bit type. */
export function stridedCopy(gpu: Gpu, from: StridedView, to: StridedView, shape: readonly number[], label: string): void {
  const count = shape.reduce((size, extent) => size * extent, 1);
  if (count === 0) return;
  const merged = mergeAxes(shape, from.strides, to.strides);
  const dense = merged.shape.length === 0 || (merged.shape.length === 1 && merged.from[0] === 1 && merged.to[0] === 1);
  if (dense) {
    gpu.copy(from.slice, to.slice, count * 4, (from.start ?? 0) * 4, (to.start ?? 0) * 4);
    return;
  }
  gpu.dispatch(
    gpu.kernel({ file: 'strided_copy' }),
    [from.slice, to.slice],
    {
      count,
      rank: merged.shape.length,
      from_start: from.start ?? 0,
      to_start: to.start ?? 0,
      shape: merged.shape,
      from_strides: merged.from,
      to_strides: merged.to,
    },
    grid(count),
    label,
  );
}

/** y = the upper or the lower triangle of each matrix of x [batch, rows, columns], from a diagonal on; words of any type. */
export function trilu(
  gpu: Gpu,
  x: BufferSlice,
  y: BufferSlice,
  count: number,
  rows: number,
  columns: number,
  diagonal: number,
  upper: boolean,
  label: string,
): void {
  const kernel = gpu.kernel({ file: 'trilu', constants: { LOWER: upper ? 0 : 1 } });
  gpu.dispatch(kernel, [x, y], { count, rows, columns, diagonal }, grid(count), label);
}

export const axpbyFamily = soleVersion('axpby', 'one invocation owns four numbers');

/** y = alpha x + beta y in place. */
export function axpby(gpu: Gpu, alpha: number, x: BufferSlice, beta: number, y: BufferSlice, count: number, label = 'axpby'): void {
  axpbyFamily.choose(gpu, null);
  axpbyFamily.launch(gpu, {}, [x, y], { count, alpha, beta }, grid(Math.ceil(count / 4)), label);
}

/** A number, or a function that is called again at every replay of a capture. */
export type Live = number | (() => number);
export const present = (live: Live): number => (typeof live === 'number' ? live : live());

/** The rate of `dropout`, a share from 0 to below 1, and the names of its random numbers. */
export interface DropoutKey {
  rate: number;
  seed: number;
  step: Live;
  stream: number;
}

export function dropout(gpu: Gpu, x: BufferSlice, y: BufferSlice, count: number, key: DropoutKey, label: string): void {
  gpu.dispatch(gpu.kernel({ file: 'dropout' }), [x, y], { count, seed: key.seed, step: key.step, stream: key.stream, rate: key.rate }, grid(count), label);
}
