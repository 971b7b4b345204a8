/** Scaled dot-product attention and its gradients: the tables of their versions, and the launchers. No version stores the scores. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';
import { always, Family, sizeRange, type Version, withoutFixedSubgroup } from './family.ts';

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
  /** Rows (queries, or keys in their gradient) that a workgroup owns, for subgroups of this width. */
  rows(width: number): number;
  /** A workgroup's rows may belong to several matrices of the batch. */
  throughBatch?: true;
  /** Values of the shader's `@tune` constants for subgroups of this width. */
  tune?(width: number, p: ScaledDotProductSizes): Record<string, number>;
}

/** Blocks of columns that versions in tiles have registers for. Few numbers, so that few shaders are compiled. */
const PARTS = [2, 4, 8];
const partsOf = (columns: number, block: number) => PARTS.find((parts) => parts * block >= columns);

/** The widths along which a kernel keeps sums: those of its results. */
type Widths = (p: ScaledDotProductSizes) => number;
const outputs: Widths = (p) => p.valuesWidth;
const inputs: Widths = (p) => p.width;
const widest: Widths = (p) => Math.max(p.width, p.valuesWidth);

const plain = (shader: string, owns: string): AttentionVersion => ({
  ...{ name: 'invocation', shader, rows: () => 64, throughBatch: true, unable: always },
  idea: `one invocation owns one ${owns}; its sums lie in memory`,
});

/** One subgroup owns a tile of `rows` rows. */
const subgroup = (name: string, shader: string, columns: Widths, rows: (width: number) => number, idea: string): AttentionVersion => ({
  ...{ name, shader, rows, idea },
  tune: (width, p) => ({ WIDTH: width, ROWS: rows(width), PARTS: partsOf(columns(p), 4 * width) as number }),
  unable: (gpu, p) =>
    withoutFixedSubgroup(gpu) ??
    (p.width % 4 === 0 && p.valuesWidth % 4 === 0 ? null : `widths of ${p.width} and ${p.valuesWidth} are not both multiples of 4`) ??
    (partsOf(columns(p), 4 * gpu.subgroupWidth) ? null : `sums of ${columns(p)} columns do not fit the registers of a subgroup`),
});

/** One workgroup owns 32 rows. */
const workgroup = (shader: string, columns: Widths, owns: string): AttentionVersion => ({
  ...{ name: 'workgroup', shader, rows: () => 32 },
  idea: `one workgroup owns 32 ${owns}; tiles of all operands pass through workgroup memory`,
  tune: (_width, p) => ({ PARTS: partsOf(columns(p), 32) as number }),
  unable: (_gpu, p) => (partsOf(columns(p), 32) ? null : `sums of ${columns(p)} columns do not fit the registers of a workgroup`),
});

const queryClass = ({ queries }: ScaledDotProductSizes): string => sizeRange(queries, 8);

const TILED = 'lanes exchange them by shuffles, and scores and sums stay in registers';

export const scaledDotProductFamily = new Family(
  'scaled_dot_product',
  [
    plain('scaled_dot_product', 'query'),
    subgroup('subgroup', 'scaled_dot_product_subgroup', outputs, (width) => 2 * width, `one subgroup owns a tile of queries; ${TILED}`),
    subgroup('subgroup_few', 'scaled_dot_product_subgroup', outputs, () => 4, 'as `subgroup`, with four queries a tile; for a word at a time'),
    workgroup('scaled_dot_product_workgroup', outputs, 'queries'),
  ],
  queryClass,
);
export const scaledDotProductGradQueryFamily = new Family(
  'scaled_dot_product_grad_query',
  [
    plain('scaled_dot_product_grad_query', 'query'),
    subgroup('subgroup', 'scaled_dot_product_grad_query_subgroup', inputs, (width) => width, `one subgroup owns a tile of queries; ${TILED}`),
    workgroup('scaled_dot_product_grad_query_workgroup', inputs, 'queries'),
  ],
  queryClass,
);
export const scaledDotProductGradKeysFamily = new Family(
  'scaled_dot_product_grad_keys',
  [
    plain('scaled_dot_product_grad_keys', 'key and its value'),
    subgroup('subgroup', 'scaled_dot_product_grad_keys_subgroup', widest, (width) => width, `one subgroup owns a tile of keys; ${TILED}`),
    workgroup('scaled_dot_product_grad_keys_workgroup', widest, 'keys'),
  ],
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
  const owned = version.rows(gpu.subgroupWidth);
  const tiles = version.throughBatch ? Math.ceil((p.batch * rows) / owned) : p.batch * Math.ceil(rows / owned);
  const params = {
    ...{ batch: p.batch, heads: p.heads, queries: p.queries, keys: p.keys, width: p.width, values_width: p.valuesWidth, scale: p.scale },
    ...{ mask_b: b, mask_h: h, mask_q: q, mask_k: k },
    ...more,
  };
  const variant = {
    ...(version.tune ? { tune: version.tune(gpu.subgroupWidth, p) } : {}),
    constants: { MASK: p.mask ? 1 : 0, CAUSAL: p.causal ? 1 : 0 },
  };
  family.launch(gpu, variant, [p.q, p.k, p.v, p.mask?.slice ?? p.q, ...others], params, grid(tiles, 1), p.label);
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
