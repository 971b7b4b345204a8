/**
 * What a dispatch costs at the least, from its own parameters: floating-point operations, and bytes read and written once each.
 * Profiles, traces and rooflines use it. Every shader has a row; exp, tanh and division count as one operation each.
 */
import type { Dispatch } from '../gpu/recorder.ts';
import { scalarParams } from '../gpu/uniforms.ts';

/** Floating-point operations and bytes of one dispatch. */
export interface DispatchCost {
  flops: number;
  bytes: number;
}

/** Parameters by name, and the workgroups, which tell the number of pictures where a workgroup owns one. */
type Given = Record<string, number> & { groups_x: number; groups_y: number };
type Rule = (p: Given) => readonly [flops: number, words: number];

/** `flops` per element, and numbers read and written per element; elements are counted by `count` or, by fours, by `count4`. */
const each = (flops: number, words: number): Rule => {
  return (p) => {
    const count = p.count ?? 4 * p.count4;
    return [flops * count, words * count];
  };
};
const perRow = (flops: number, words: number, ofRow = 0): Rule => {
  return ({ rows, n }) => [flops * rows * n, words * rows * n + ofRow * rows];
};

const matrices = (p: Given): number => p.tiles / (p.column_tiles * p.row_tiles);
const matmul: Rule = (p) => {
  const { m, n, k } = p;
  return [2 * m * n * k * matrices(p), (m * k + k * n + (p.add_to_c ? 2 : 1) * m * n) * matrices(p) + (p.has_bias ? n : 0)];
};

const taps = (p: Given): number => p.kernel_height * p.kernel_width * (p.channels / (p.groups || 1));
const pictureWords = (p: Given): number => p.images * p.height * p.width * p.channels;
const convolution: Rule = (p) => {
  const outputs = p.images * p.out_height * p.out_width * p.out_channels;
  return [2 * outputs * taps(p), pictureWords(p) + taps(p) * p.out_channels + (p.has_residual ? 2 : 1) * outputs + (p.has_bias ? p.out_channels : 0)];
};
const unfold = (per: number): Rule => {
  return (p) => [0, per * p.count + (per * p.count) / (p.kernel_height * p.kernel_width)]; // count: numbers of the columns
};
const fold = (per: number): Rule => {
  return (p) => {
    const numbers = per * p.count;
    return [numbers * p.kernel_height * p.kernel_width, numbers + numbers * p.kernel_height * p.kernel_width];
  };
};

const attention: Rule = ({ groups_x: batch, regions, keys_width: a, values_width: d }) => [
  batch * regions * (4 * a + 2 * d + 5),
  batch * (regions * (a + d + 1) + a + d) + a,
];
/** `per`: columns of the keys that the version counts as one. */
const attentionGrad = (per: number): Rule => {
  return ({ count, regions, keys_width: a }) => {
    const columns = per * count;
    return [9 * columns * regions, 3 * columns * regions + 4 * columns + (columns / a) * regions + a];
  };
};
const places = (p: Given, of: '' | 'out_' | 'kernel_'): number => p[`${of}depth`] * p[`${of}height`] * p[`${of}width`];
/** `count`: outputs. */
const pooling: Rule = (p) => [p.count * places(p, 'kernel_'), p.count + (p.count / places(p, 'out_')) * places(p, '')];
/** `count`: elements of x. */
const poolingGrad: Rule = (p) => {
  const outputs = (p.count / places(p, '')) * places(p, 'out_');
  return [outputs * places(p, 'kernel_'), p.count + 2 * outputs];
};
/** Matrices of each size that are read or written once, and products along both widths for each query and key. */
const dotProduct = (ofQueries: number, ofKeys: number, ofValues: number, ofOutputs: number, alongWidth: number, alongValues: number): Rule => {
  return ({ queries, keys, width: d, values_width: e, batch }) => [
    batch * queries * keys * (2 * alongWidth * d + 2 * alongValues * e + 5),
    batch * (ofQueries * queries * d + ofKeys * keys * d + ofValues * keys * e + ofOutputs * queries * e),
  ];
};
const dotProductForward = dotProduct(1, 1, 1, 1, 1, 1);
const dotProductGradQuery = dotProduct(2, 1, 1, 1, 2, 1);
const dotProductGradKeys = dotProduct(1, 2, 2, 1, 2, 2);

/** By shader file. */
const RULES: Readonly<Record<string, Rule>> = {
  accumulate: each(1, 3),
  adam: each(14, 7),
  additive_attention: attention,
  additive_attention_context: ({ groups_y: batch, regions, values_width: d }) => [
    batch * regions * (2 * d + 5),
    batch * (regions * (d + 2) + d), // scores are counted once, although each workgroup reads them
  ],
  additive_attention_grad: attentionGrad(1),
  additive_attention_grad_vec4: attentionGrad(4),
  additive_attention_scores: ({ groups_y: batch, regions, keys_width: a }) => [batch * regions * 4 * a, batch * (regions * (a + 1) + a) + a],
  additive_attention_scores_grad: ({ groups_x: batch, regions, values_width: d, has_dalpha }) => [
    batch * regions * (2 * d + 4),
    batch * (regions * (d + 2 + has_dalpha) + d),
  ],
  additive_attention_shares: ({ groups_y: batch, regions, values_width: d, has_dalpha }) => [
    batch * regions * (2 * d + 2),
    batch * (regions * (d + 2 + has_dalpha) + d),
  ],
  additive_attention_shares_grad: ({ count }) => [3 * count, 3 * count],
  additive_attention_subgroup: attention,
  additive_attention_vec4: attention,
  argmax: ({ lines, n }) => [lines * n, lines * (n + 1)],
  argmax_token: perRow(3, 1, 2),
  argmax_token_subgroup: perRow(3, 1, 2),
  axpby: each(3, 3),
  batchnorm_apply: each(4, 2),
  batchnorm_combine: ({ channels, pieces }) => [8 * channels * pieces, channels * (2 * pieces + 2)],
  batchnorm_grad: each(9, 3),
  batchnorm_grad_sums: ({ channels, n, pieces }) => [5 * channels * n, channels * (2 * n + 2 * pieces + 2)],
  batchnorm_partial: ({ channels, n, pieces }) => [3 * channels * n, channels * (n + 2 * pieces)],
  beam_select: ({ pictures, width, k }) => [3 * pictures * width * k, pictures * width * (2 * k + 6)],
  binary: each(1, 3),
  binary_broadcast: each(1, 3),
  binary_rows: ({ rows, n }) => [rows * n, 2 * rows * n + n],
  binary_special: each(30, 3),
  classify: each(1, 2),
  col2im: fold(1),
  col2im_vec4: fold(4),
  column_panels: ({ rows, columns }) => [0, 8 * rows * columns],
  context_gate: ({ groups_x: batch, hidden, width }) => [batch * (2 * hidden + width + 3), batch * (hidden + 2 * width + 1) + hidden + 1],
  context_gate_grad: ({ groups_x: batch, hidden, width }) => [batch * (2 * hidden + 3 * width + 3), batch * (2 * hidden + 3 * width + 2) + hidden],
  conv2d_depthwise: convolution,
  conv2d_direct: convolution,
  conv2d_grad_input: convolution,
  conv2d_grad_weight: convolution,
  conv2d_subgroup: convolution,
  conv2d_subgroup_texels: convolution,
  conv2d_workgroup_vec4: convolution,
  cross_entropy: (p) => [(p.with_gradient ? 8 : 4) * p.rows * p.n, (p.with_gradient ? 2 : 1) * p.rows * p.n + 3 * p.rows],
  cross_entropy_subgroup: (p) => [(p.with_gradient ? 8 : 4) * p.rows * p.n, (p.with_gradient ? 2 : 1) * p.rows * p.n + 3 * p.rows],
  dropout: each(1, 2),
  embedding: ({ rows, width }) => [0, 2 * rows * width + rows],
  embedding_grad: ({ rows, width }) => [rows * width, 2 * rows * width + 3 * rows],
  embedding_links: ({ rows }) => [0, 3 * rows],
  from_halves: ({ count }) => [0, 1.5 * count],
  gather_rows: ({ count, width }) => [0, 2 * count + count / width],
  gru_cell: each(14, 12),
  gru_cell_grad: each(18, 16),
  im2col: unfold(1),
  im2col_vec4: unfold(4),
  layer_norm: ({ rows, n }) => [8 * rows * n, 2 * rows * n + 2 * n + 2 * rows],
  layer_norm_grad: ({ rows, n }) => [9 * rows * n, 4 * rows * n + n + 2 * rows],
  limit_tokens: ({ rows, n, step }) => [0, rows * (n + 2 * step)],
  lstm_cell: ({ rows, hidden }) => [30 * rows * hidden, 15 * rows * hidden],
  lstm_cell_grad: ({ rows, hidden }) => [27 * rows * hidden, 13 * rows * hidden],
  matmul_naive: matmul,
  matmul_register: matmul,
  matmul_subgroup: matmul,
  matmul_subgroup_matrix: matmul,
  matmul_subgroup_pairs: matmul,
  matmul_subgroup_rows: matmul,
  matmul_subgroup_texels: matmul,
  matmul_splits: ({ count4, splits, has_bias, add_to_c }) => [4 * count4 * splits, 4 * count4 * (splits + 1 + has_bias + add_to_c)],
  matmul_workgroup: matmul,
  matmul_workgroup_vec4: (p) => {
    const whole = { ...p, tiles: p.tiles / p.splits };
    const [flops, words] = matmul(whole);
    return [flops, words + (p.splits - 1) * p.m * p.n * matrices(whole)];
  },
  mix_tokens: each(0, 3),
  one_hot: each(0, 1),
  pad: each(0, 2),
  pool: pooling,
  pool_grad: poolingGrad,
  pool_largest: pooling,
  reduce: ({ outer, n, inner, chunk }) => [outer * n * inner, outer * inner * (n + Math.ceil(n / chunk))],
  reduce_workgroup: ({ outer, n }) => [outer * n, outer * (n + 1)],
  resample: ({ count, n, size, taps }) => [(2 * count * taps) / size, count + (count / size) * n + 2 * taps + size],
  roof_copy: each(1, 2),
  roof_fma: ({ count }) => [2 * 12 * 16 * 128 * count, count],
  rows_from_fours: ({ count, add_to_c: adds }) => [4 * count, 4 * count * (2 + adds)],
  rows_to_fours: ({ count }) => [0, 8 * count],
  row_ids: ({ count, capacity, components }) => [0, components * count + capacity],
  sample: perRow(6, 1, 2),
  scaled_dot_product: dotProductForward,
  scaled_dot_product_subgroup: dotProductForward,
  scaled_dot_product_workgroup: dotProductForward,
  scaled_dot_product_grad_keys: dotProductGradKeys,
  scaled_dot_product_grad_keys_subgroup: dotProductGradKeys,
  scaled_dot_product_grad_keys_workgroup: dotProductGradKeys,
  scaled_dot_product_grad_query: dotProductGradQuery,
  scaled_dot_product_grad_query_subgroup: dotProductGradQuery,
  scaled_dot_product_grad_query_workgroup: dotProductGradQuery,
  scaled_dot_product_rows: ({ rows, values_width: e }) => [2 * rows * e, rows * (2 * e + 6)],
  scan: ({ items, n, blocks }) => [(items / blocks) * n, 2 * (items / blocks) * n + items],
  scan_add: ({ count, n, blocks }) => [count, 2 * count + (count / n) * blocks],
  scatter_grad: ({ count, updates }) => [0, 2 * count + 2 * updates],
  scatter_rows: ({ count, updates }) => [count, count + 2 * updates],
  scatter_start: each(0, 2),
  sgd: each(4, 5),
  softmax: perRow(5, 2),
  softmax_grad: perRow(4, 3),
  softmax_subgroup: perRow(5, 2),
  sort_block: ({ total }) => [0, 4 * total],
  sort_step: ({ pairs }) => [0, 8 * pairs],
  space_to_depth: ({ rows, width, run }) => [0, 2 * rows * width * run],
  split_halves: ({ matrices, rows, k }) => [0, 3 * matrices * rows * k],
  strided_copy: each(0, 2),
  top_k: ({ rows, n, k }) => [rows * n * k, rows * (n + 2 * k)],
  top_k_keys: each(0, 2),
  top_k_take: each(0, 4),
  trilu: each(0, 2),
  unary: each(1, 2),
  unary_grad: each(2, 3),
  unary_special: each(15, 2),
  unary_turns: each(25, 2),
  where: each(1, 4),
  unpool: each(0, 3),
  unpool_grad: each(0, 3),
  unpool_owners: each(0, 2),
};

/** Shader files that have a row. */
export const COSTED: readonly string[] = Object.keys(RULES);

/** What a dispatch costs; null for a shader of a program's own, which is no file of kernels/wgsl. */
export function costOf({ kernel, params, groups, choice }: Dispatch): DispatchCost | null {
  const rule = RULES[choice?.shader ?? kernel.name];
  if (!rule) return null;
  const [groups_x, groups_y] = choice?.groups ?? groups;
  const given: Given = { ...scalarParams(params), groups_x, groups_y };
  const [flops, words] = rule(given);
  return { flops, bytes: 4 * words };
}
