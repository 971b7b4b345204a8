/** Mistakes that students make in the exercises: each changes one place of a solution, and must be called wrong. */
export interface Mutant {
  /** The file of the exercise. */
  file: string;
  name: string;
  find: string;
  replace: string;
  /** Why no case can notice it; without it the mutant must be called wrong. */
  survives?: string;
}

const row = (file: string, name: string, find: string, replace: string, survives?: string): Mutant => ({
  file,
  name,
  find,
  replace,
  ...(survives ? { survives } : {}),
});

export const MUTANTS: readonly Mutant[] = [
  row('01_axpby.wgsl', 'the old y is added without beta', 'params.beta * y[i]', 'y[i]'),
  row('01_axpby.wgsl', 'alpha and beta change places', 'params.alpha * x[i] + params.beta * y[i]', 'params.beta * x[i] + params.alpha * y[i]'),
  row('01_axpby.wgsl', 'the last number is left out', 'i < params.count', 'i + 1u < params.count'),
  row('01_axpby.wgsl', 'only the first workgroup', 'i < params.count', 'i < min(params.count, 64u)'),
  row('01_axpby.wgsl', 'no guard', 'if (i < params.count) {', '{', 'what lies behind a binding is not written on a robust device; the lesson says so'),
  row('02_bias_over_rows.wgsl', 'the bias goes by row', 'b_in[column]', 'b_in[row]'),
  row('02_bias_over_rows.wgsl', 'rows are as long as there are rows', 'row * params.n + column', 'row * params.rows + column'),
  row('02_bias_over_rows.wgsl', 'a row too few', 'row >= params.rows', 'row + 1u >= params.rows'),
  row('02_bias_over_rows.wgsl', 'a column too few', 'column >= params.n', 'column + 1u >= params.n'),
  row('02_bias_over_rows.wgsl', 'a and b change places', 'f(vec4f(a_in[at]), vec4f(b_in[column]))', 'f(vec4f(b_in[column]), vec4f(a_in[at]))'),
  row('03_row_sum_tree.wgsl', 'the first round is left out', 'half = LANES / 2u; half', 'half = LANES / 4u; half'),
  row('03_row_sum_tree.wgsl', 'the last round is left out', 'half > 0u', 'half > 1u'),
  row('03_row_sum_tree.wgsl', 'always a sum', 'join(partial[lane], partial[lane + half])', 'partial[lane] + partial[lane + half]'),
  row('03_row_sum_tree.wgsl', 'the neighbor instead of the other half', 'partial[lane + half]', 'partial[lane + 1u]'),
  row('03_row_sum_tree.wgsl', 'no scale', 'params.scale * partial[0]', 'partial[0]'),
  row('04_log_softmax.wgsl', 'the largest number is not subtracted', 'largest = max(largest, x[base + j])', 'largest = 0.0'),
  row('04_log_softmax.wgsl', 'no logarithm', 'let log_sum = log(sum)', 'let log_sum = sum'),
  row('04_log_softmax.wgsl', 'LOG the wrong way round', 'select(exp(value) / sum, value - log_sum, LOG)', 'select(value - log_sum, exp(value) / sum, LOG)'),
  row(
    '04_log_softmax.wgsl',
    'the first number is not in the sum',
    'for (var j = 0u; j < params.n; j++) {\n    sum',
    'for (var j = 1u; j < params.n; j++) {\n    sum',
  ),
  row('04_log_softmax.wgsl', 'the maximum is added again after the logarithm, which loses digits', 'value - log_sum', 'x[base + j] - (largest + log_sum)'),
  row('05_log_softmax_gradient.wgsl', 'the sum is always of dy y', 'select(y[j], 1.0, LOG)', 'y[j]'),
  row('05_log_softmax_gradient.wgsl', 'a sign', 'dy[j] - exp(y[j]) * sum', 'dy[j] + exp(y[j]) * sum'),
  row('05_log_softmax_gradient.wgsl', 'y instead of the probability', 'exp(y[j]) * sum', 'y[j] * sum'),
  row('05_log_softmax_gradient.wgsl', 'the softmax forgets y', 'y[j] * (dy[j] - sum)', 'dy[j] - sum'),
  row('06_matmul_naive.wgsl', 'the last k is left out', 'k < params.k', 'k + 1u < params.k'),
  row('06_matmul_naive.wgsl', 'A is never transposed', 'select(row * params.k + k, k * params.m + row, TRANS_A)', 'row * params.k + k'),
  row('06_matmul_naive.wgsl', 'the wrong row length', 'column * params.k + k, TRANS_B', 'column * params.n + k, TRANS_B'),
  row('06_matmul_naive.wgsl', 'the batch shares one A', 'params.a_start + z * params.a_stride', 'params.a_start'),
  row('07_matmul_register.wgsl', 'every row takes the first of A', 'min(row0 + r, params.m - 1u)', 'min(row0, params.m - 1u)'),
  row('07_matmul_register.wgsl', 'three rows of four', 'for (var r = 0u; r < 4u; r++) { // @unroll', 'for (var r = 0u; r < 3u; r++) { // @unroll'),
  row('07_matmul_register.wgsl', 'no sum', 'acc[r] = acc[r] + ', 'acc[r] = '),
  row(
    '07_matmul_register.wgsl',
    'rows beyond the last are not held back',
    'min(row0 + r, params.m - 1u)',
    'row0 + r',
    'what they make is not stored, and reading behind a buffer does no harm on a robust device',
  ),
  row('08_matmul_workgroup.wgsl', 'A is loaded from another k', 'a_at(z, row, k0 + local.x)', 'a_at(z, row, k0 + local.y)'),
  row('08_matmul_workgroup.wgsl', 'B is read transposed from its tile', 'b_tile[k][local.x]', 'b_tile[local.x][k]'),
  row('08_matmul_workgroup.wgsl', 'no barrier after loading', 'workgroupBarrier();\n    for (', 'for ('),
  row('08_matmul_workgroup.wgsl', 'no guard of k in A', ' && k0 + local.x < params.k', ''),
  row('08_matmul_workgroup.wgsl', 'half of each tile', 'k < TILE; k++', 'k < TILE / 2u; k++'),
  row('09_lstm_cell.wgsl', 'the gates are in the order i, f, o, g', 'let g = safe_tanh(gx[x_at + 2u * h]', 'let g = safe_tanh(gx[x_at + 3u * h]'),
  row('09_lstm_cell.wgsl', 'a sigmoid for g', 'let g = safe_tanh(', 'let g = sigmoid('),
  row('09_lstm_cell.wgsl', 'the old cell is forgotten altogether', 'f * c[at] + i * g', 'i * g'),
  row('09_lstm_cell.wgsl', 'the state without the tanh', 'o * safe_tanh(cell)', 'o * cell'),
  row('09_lstm_cell.wgsl', 'only 64 units', 'unit >= h)', 'unit >= min(h, 64u))'),
  row('09_lstm_cell.wgsl', 'the gates are kept before the start', 'params.gates_start + first', 'first'),
  row('10_lstm_cell_gradient.wgsl', 'the carry is not added', 'dc_carry[at] + d_hidden', 'd_hidden'),
  row('10_lstm_cell_gradient.wgsl', 'the carry goes on without f', 'dc_carry[at] = d_cell * f', 'dc_carry[at] = d_cell'),
  row('10_lstm_cell_gradient.wgsl', 'the cell after instead of before', 'd_cell * c[at] * f', 'd_cell * c_new[at] * f'),
  row('10_lstm_cell_gradient.wgsl', 'the slope of a sigmoid for g', '(1.0 - g * g)', 'g * (1.0 - g)'),
  row('10_lstm_cell_gradient.wgsl', 'do takes dc′', 'd_hidden * squashed * o', 'd_cell * squashed * o'),
  row('11a_attention_scores_gradient.wgsl', 'the mean is added', 'd_alpha(b, i) - sum', 'd_alpha(b, i) + sum'),
  row('11a_attention_scores_gradient.wgsl', 'dalpha from outside is forgotten', 'if (params.has_dalpha != 0u) {', 'if (false) {'),
  row('11a_attention_scores_gradient.wgsl', 'the mean is not weighted', 'sum += alpha[first + i] * d_alpha(b, i)', 'sum += d_alpha(b, i)'),
  row('11b_attention_keys_gradient.wgsl', 'only the last word stays', 'dkeys[at] += dk', 'dkeys[at] = dk'),
  row('11b_attention_keys_gradient.wgsl', 'dv without what the other words gave', 'dv_rows[index] += dv', 'dv_rows[index] = dv'),
  row('11b_attention_keys_gradient.wgsl', 'dquery gathers', 'dquery[params.query_start + index] = dq', 'dquery[params.query_start + index] += dq'),
  row('11b_attention_keys_gradient.wgsl', 'v is forgotten', 'd * v[a] * slope(u)', 'd * slope(u)'),
  row('12_bptt_one_product.ts', 'the states after the steps', 'ops.slice(h, [0, 0, 0]', 'ops.slice(h, [1, 0, 0]'),
  row(
    '12_bptt_one_product.ts',
    'half of the result',
    '{ transA: true });',
    '{ transA: true }) && ops.scale(ops.matmul(before, ops.reshape(dp, [T * B, width]), { transA: true }), 0.5);',
  ),
  row('12_bptt_one_product.ts', 'not transposed', 'width]), { transA: true });', 'width]));'),
  row(
    '12_bptt_one_product.ts',
    'twice',
    'return ops.matmul(before, ops.reshape(dp, [T * B, width]), { transA: true });',
    'const once = ops.matmul(before, ops.reshape(dp, [T * B, width]), { transA: true });\n  return ops.scale(ops.add(once, ops.matmul(before, ops.reshape(dp, [T * B, width]), { transA: true })), 0.5);',
  ),
];
