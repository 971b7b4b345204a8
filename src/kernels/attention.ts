/** Scaled dot-product attention and its gradients: the tables of their versions, and the launchers. No version stores the scores. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';
import { always, Family, sizeRange, type Version } from './family.ts';

/** Sizes of q [batch, queries, width], k [batch, keys, width] and v [batch, keys, valuesWidth]. */
export interface ScaledDotProductSizes {
  /** Pictures times heads. */
  batch: number;
  heads: number;
  queries: number;
  keys: number;
  width: number;
  valuesWidth: number;
}

export interface ScaledDotProductProblem extends ScaledDotProductSizes {
  q: BufferSlice;
  k: BufferSlice;
  v: BufferSlice;
  /** Added to the scores, with its strides along pictures, heads, queries and keys; null for none. */
  mask: { slice: BufferSlice; strides: readonly number[] } | null;
  scale: number;
  /** Query i sees the keys up to i + keys − queries. */
  causal: boolean;
  label: string;
}

/** A version of attention or of one of its gradients. */
interface AttentionVersion extends Version<ScaledDotProductSizes> {
  /** Rows (queries, or keys for the gradient by the keys) that a workgroup owns. It counts rows through the batch if `throughBatch`. */
  rows: number;
  throughBatch?: true;
}

const plain = (shader: string, owns: string): AttentionVersion => ({
  ...{ name: 'invocation', shader, rows: 64, throughBatch: true, unable: always },
  idea: `one invocation owns one ${owns}; its sums lie in memory`,
});

const queryClass = ({ queries }: ScaledDotProductSizes): string => sizeRange(queries, 8);

export const scaledDotProductFamily = new Family('scaled_dot_product', [plain('scaled_dot_product', 'query')], queryClass);
export const scaledDotProductGradQueryFamily = new Family('scaled_dot_product_grad_query', [plain('scaled_dot_product_grad_query', 'query')], queryClass);
export const scaledDotProductGradKeysFamily = new Family(
  'scaled_dot_product_grad_keys',
  [plain('scaled_dot_product_grad_keys', 'key and its value')],
  queryClass,
);

/** Launches the version that the family chooses, over `rows` rows of each matrix of the batch. */
function launch(
  gpu: Gpu,
  family: Family<ScaledDotProductSizes, AttentionVersion>,
  p: ScaledDotProductProblem,
  rows: number,
  others: readonly BufferSlice[],
  more: Record<string, number>,
): void {
  const version = family.choose(gpu, p);
  const [b, h, q, k] = p.mask?.strides ?? [0, 0, 0, 0];
  const tiles = version.throughBatch ? Math.ceil((p.batch * rows) / version.rows) : p.batch * Math.ceil(rows / version.rows);
  const params = {
    ...{ batch: p.batch, heads: p.heads, queries: p.queries, keys: p.keys, width: p.width, values_width: p.valuesWidth, scale: p.scale },
    ...{ mask_b: b, mask_h: h, mask_q: q, mask_k: k },
    ...more,
  };
  const constants = { MASK: p.mask ? 1 : 0, CAUSAL: p.causal ? 1 : 0 };
  family.launch(gpu, { constants }, [p.q, p.k, p.v, p.mask?.slice ?? p.q, ...others], params, grid(tiles, 1), p.label);
}

/** y [batch, queries, valuesWidth] and, where they are wanted, the stats [batch, queries, 2]: maximum and sum of each row's softmax. */
export function scaledDotProduct(gpu: Gpu, p: ScaledDotProductProblem, y: BufferSlice, stats: BufferSlice, keepStats: boolean): void {
  launch(gpu, scaledDotProductFamily, p, p.queries, [y, stats], { keep: keepStats ? 1 : 0 });
}

/** What both gradients need of each query, [batch, queries, 4]: scaled_dot_product_rows.wgsl. */
export function scaledDotProductRows(
  gpu: Gpu,
  y: BufferSlice,
  dy: BufferSlice,
  stats: BufferSlice,
  rows: BufferSlice,
  count: number,
  valuesWidth: number,
  label: string,
): void {
  gpu.dispatch(gpu.kernel({ file: 'scaled_dot_product_rows' }), [y, dy, stats, rows], { rows: count, values_width: valuesWidth }, grid(count), label);
}

export function scaledDotProductGradQuery(gpu: Gpu, p: ScaledDotProductProblem, dy: BufferSlice, rows: BufferSlice, dq: BufferSlice): void {
  launch(gpu, scaledDotProductGradQueryFamily, p, p.queries, [dy, rows, dq], {});
}

export function scaledDotProductGradKeys(gpu: Gpu, p: ScaledDotProductProblem, dy: BufferSlice, rows: BufferSlice, dk: BufferSlice, dv: BufferSlice): void {
  launch(gpu, scaledDotProductGradKeysFamily, p, p.keys, [dy, rows, dk, dv], {});
}
