/**
 * The equations of a step of the captioner, in the order of the model. Each has its TeX, the tensors that it reads and writes, and the
 * equations that are its gradient. A trace hangs its numbers on them.
 */

export interface Equation {
  /** As the command's label names it in the recurrent loop; elsewhere a name of ours. */
  key: string;
  /** TeX. */
  tex: string;
  /** What it is for, in a few words. */
  says: string;
  phase: 'picture' | 'words' | 'step' | 'loss' | 'step gradient' | 'weight gradient' | 'picture gradient';
  /** Names (TeX) and roles of the operands, in the order in which its kernel binds them; what has no name is not shown. */
  names: readonly (string | null)[];
  /** Keys of the equations that are its gradient. */
  gradients?: readonly string[];
  /** The gates of a cell, whose saturation is counted. */
  gates?: true;
}

const row = (
  phase: Equation['phase'],
  key: string,
  tex: string,
  says: string,
  names: readonly (string | null)[],
  more: Pick<Equation, 'gradients' | 'gates'> = {},
): Equation => ({ key, tex, says, phase, names, ...more });

export const EQUATIONS: readonly Equation[] = [
  row('picture', 'a', String.raw`a = \mathrm{ReLU}(X W_e + b_e)`, 'features of the regions, projected', ['X', 'W_e', 'b_e', 'a'], {
    gradients: ['dWe', 'dbe'],
  }),
  row('picture', 'K', 'K = a W_1 + b_1', 'keys of the regions, once for all words', ['a', 'W_1', 'b_1', 'K'], {
    gradients: ['dW1', 'da by K', 'db1'],
  }),
  row('picture', 'mean', String.raw`\bar a = \tfrac1P \sum_i a_i`, 'the mean of the regions', ['a', String.raw`\bar a`]),
  row(
    'picture',
    'start',
    String.raw`[h^1_0|c^1_0|h^2_0|c^2_0] = \tanh(\bar a W_s + b_s)`,
    'the states before the first word',
    [String.raw`\bar a`, 'W_s', 'b_s', null],
    {
      gradients: ['dWs', 'dmean', 'dbs'],
    },
  ),
  row('words', 'Emb', String.raw`E_t = \mathrm{Emb}[y_{t-1}]`, 'the words before, embedded', ['\\mathrm{Emb}', null, 'E'], { gradients: ['dEmb'] }),
  row(
    'words',
    'xe',
    String.raw`\mathrm{xe} = E W_E + b`,
    'what the words add to the gates of LSTM 1, for all steps at once',
    ['E', 'W_E', 'b', '\\mathrm{xe}'],
    {
      gradients: ['dWE', 'dE', 'db1L'],
    },
  ),
  row('step', 'q = s W2 + b2', 'q_t = h^2_{t-1} W_2 + b_2', 'the query: what the state looks for', ['h^2_{t-1}', 'W_2', 'b_2', 'q_t'], {
    gradients: ['ds += dq W2ᵀ', 'dW2 = sᵀ dq', 'db2 = Σ dq'],
  }),
  row(
    'step',
    'α = softmax(vᵀ f(K + q)), z = Σ α a',
    String.raw`\alpha_t = \mathrm{softmax}_i\!\left(v^\top \tanh(K_i + q_t)\right), \quad z_t = \sum_i \alpha_{t,i}\, a_i`,
    'where to look, and what is seen there',
    ['K', 'q_t', 'v', 'a', 'z_t', String.raw`\alpha_t`],
    { gradients: ['de', 'dK += de v f′, dq = Σ dK, dv', 'da = Σ α dz'] },
  ),
  row(
    'step',
    'β = σ(s w + b), ẑ = β z',
    String.raw`\beta_t = \sigma(h^2_{t-1} \cdot w_g + b_g), \quad \hat z_t = \beta_t z_t`,
    'how much of it to use',
    ['h^2_{t-1}', 'w_g', 'b_g', 'z_t', String.raw`\hat z_t`, String.raw`\beta_t`],
    { gradients: ['dπ, dz, ds += dπ w', 'dw = sᵀ dπ', 'dbg = Σ dπ'] },
  ),
  row('step', 'p = ẑ Wz', String.raw`p_t = \hat z_t W_z`, 'what the picture adds to the gates of LSTM 1', [String.raw`\hat z_t`, 'W_z', null, 'p_t'], {
    gradients: ['dẑ = dp Wzᵀ', 'dWz = ẑᵀ dp'],
  }),
  row('step', 'p += h1 U1', String.raw`p_t \mathrel{+}= h^1_{t-1} U_1`, 'and what its own state adds', ['h^1_{t-1}', 'U_1', null, 'p_t'], {
    gradients: ['dh1 += dp U1ᵀ', 'dU1 = h1ᵀ dp'],
  }),
  row(
    'step',
    'h1, c1 = cell(xe + p, c1)',
    String.raw`[i|f|g|o] = (\sigma|\sigma|\tanh|\sigma)(\mathrm{xe}_t + p_t), \quad c^1_t = f c^1_{t-1} + i g, \quad h^1_t = o \tanh c^1_t`,
    'LSTM 1',
    [String.raw`\mathrm{xe}_t`, 'p_t', 'c^1_{t-1}', '[i|f|g|o]', 'c^1_t', 'h^1_t'],
    { gradients: ['dp, dc1'], gates: true },
  ),
  row('step', 'r = h1 W + b', 'r_t = h^1_t W + b', 'what LSTM 1 adds to the gates of LSTM 2', ['h^1_t', 'W', 'b', 'r_t'], {
    gradients: ['dh1 += dr Wᵀ', 'dW = h1ᵀ dr', 'db = Σ dr'],
  }),
  row('step', 'r2 = h2 U2', "r'_t = h^2_{t-1} U_2", 'and what its own state adds', ['h^2_{t-1}', 'U_2', null, "r'_t"], {
    gradients: ['dh2 += dr U2ᵀ', 'dU2 = h2ᵀ dr'],
  }),
  row(
    'step',
    'h2, c2 = cell(r + r2, c2)',
    String.raw`[i|f|g|o] = (\sigma|\sigma|\tanh|\sigma)(r_t + r'_t), \quad c^2_t = f c^2_{t-1} + i g, \quad h^2_t = o \tanh c^2_t`,
    'LSTM 2',
    ['r_t', "r'_t", 'c^2_{t-1}', '[i|f|g|o]', 'c^2_t', 'h^2_t'],
    { gradients: ['dr, dc2'], gates: true },
  ),
  row('loss', 'logits', String.raw`\ell = h^2 W_o + b_o`, 'scores of all words, for all steps at once', ['h^2', 'W_o', 'b_o', String.raw`\ell`], {
    gradients: ['dh2 by logits', 'dWo', 'dbo'],
  }),
  row(
    'loss',
    'L',
    String.raw`L = -\sum_t w_t \log \mathrm{softmax}(\ell_t)_{y_t}, \quad d\ell_t = w_t(\mathrm{softmax}(\ell_t) - \mathbf 1_{y_t})`,
    'the loss of every word, and its gradient at once',
    [String.raw`\ell`, null, 'w', 'L_t', String.raw`d\ell`],
  ),
  row('loss', 'dh2 by logits', String.raw`dh^2 = d\ell\, W_o^\top`, 'into the states, for all steps', [String.raw`d\ell`, 'W_o', null, 'dh^2']),
  row('weight gradient', 'dWo', String.raw`dW_o = (h^2)^\top d\ell`, 'one product over all steps', ['h^2', String.raw`d\ell`, null, 'dW_o']),
  row('weight gradient', 'dbo', String.raw`db_o = \sum_t d\ell_t`, 'sum over the steps', [String.raw`d\ell`, 'db_o']),
  row(
    'step gradient',
    'dr, dc2',
    String.raw`dc^2_t \mathrel{+}= dh^2_t\, o\,(1-\tanh^2 c^2_t), \quad dr_t = [dc\,g\,i(1-i)\,|\,dc\,c\,f(1-f)\,|\,dc\,i(1-g^2)\,|\,dh\tanh(c)\,o(1-o)], \quad dc^2_{t-1} = dc^2_t f`,
    'LSTM 2, backward',
    ['dh^2_t', '[i|f|g|o]', 'c^2_{t-1}', 'c^2_t', 'dc^2', 'dr_t'],
  ),
  row('step gradient', 'dh1 += dr Wᵀ', String.raw`dh^1_t \mathrel{+}= dr_t W^\top`, 'down to LSTM 1', ['dr_t', 'W', null, 'dh^1_t']),
  row('step gradient', 'dh2 += dr U2ᵀ', String.raw`dh^2_{t-1} \mathrel{+}= dr_t U_2^\top`, 'back in time', ['dr_t', 'U_2', null, 'dh^2_{t-1}']),
  row(
    'step gradient',
    'dp, dc1',
    String.raw`dc^1_t \mathrel{+}= dh^1_t\, o\,(1-\tanh^2 c^1_t), \quad dp_t = [\dots], \quad dc^1_{t-1} = dc^1_t f`,
    'LSTM 1, backward',
    ['dh^1_t', '[i|f|g|o]', 'c^1_{t-1}', 'c^1_t', 'dc^1', 'dp_t'],
  ),
  row('step gradient', 'dh1 += dp U1ᵀ', String.raw`dh^1_{t-1} \mathrel{+}= dp_t U_1^\top`, 'back in time', ['dp_t', 'U_1', null, 'dh^1_{t-1}']),
  row('step gradient', 'dẑ = dp Wzᵀ', String.raw`d\hat z_t = dp_t W_z^\top`, 'into what was seen', ['dp_t', 'W_z', null, String.raw`d\hat z_t`]),
  row(
    'step gradient',
    'dπ, dz, ds += dπ w',
    String.raw`d\pi_t = (d\hat z_t \cdot z_t)\,\beta_t(1-\beta_t), \quad dz_t = \beta_t\, d\hat z_t, \quad dh^2_{t-1} \mathrel{+}= d\pi_t w_g`,
    'the gate, backward',
    [String.raw`d\hat z_t`, 'z_t', String.raw`\beta_t`, 'w_g', 'dz_t', 'dh^2_{t-1}', String.raw`d\pi_t`],
  ),
  row(
    'step gradient',
    'de',
    String.raw`d\alpha_i = dz_t \cdot a_i, \quad de_i = \alpha_i\Big(d\alpha_i - \sum_j \alpha_j\, d\alpha_j\Big)`,
    'into the scores',
    ['dz_t', 'a', String.raw`\alpha_t`, null, 'de_t'],
  ),
  row(
    'step gradient',
    'dK += de v f′, dq = Σ dK, dv',
    String.raw`dK_i \mathrel{+}= de_i\, v\,(1-\tanh^2(K_i+q_t)), \quad dq_t = \sum_i \dots, \quad dv \mathrel{+}= \sum_i de_i \tanh(K_i+q_t)`,
    'into keys, query and v',
    ['K', 'q_t', 'v', 'de_t', 'dK', 'dq_t', 'dv'],
  ),
  row('step gradient', 'ds += dq W2ᵀ', String.raw`dh^2_{t-1} \mathrel{+}= dq_t W_2^\top`, 'back in time, through where to look', [
    'dq_t',
    'W_2',
    null,
    'dh^2_{t-1}',
  ]),
  row('weight gradient', 'da = Σ α dz', String.raw`da_i = \sum_t \alpha_{t,i}\, dz_t`, 'one product per picture, over all steps', [
    String.raw`\alpha`,
    'dz',
    null,
    'da',
  ]),
  row('weight gradient', 'dW2 = sᵀ dq', String.raw`dW_2 = \sum_t (h^2_{t-1})^\top dq_t`, 'one product over all steps', ['h^2_{t-1}', 'dq', null, 'dW_2']),
  row('weight gradient', 'db2 = Σ dq', String.raw`db_2 = \sum_t dq_t`, 'sum over the steps', ['dq', 'db_2']),
  row('weight gradient', 'dv = Σ', String.raw`dv = \sum_b dv_b`, 'sum over the pictures', ['dv_b', 'dv']),
  row('weight gradient', 'dWz = ẑᵀ dp', String.raw`dW_z = \sum_t \hat z_t^\top dp_t`, 'one product over all steps', [String.raw`\hat z`, 'dp', null, 'dW_z']),
  row('weight gradient', 'dU1 = h1ᵀ dp', String.raw`dU_1 = \sum_t (h^1_{t-1})^\top dp_t`, 'one product over all steps', ['h^1_{t-1}', 'dp', null, 'dU_1']),
  row('weight gradient', 'dW = h1ᵀ dr', String.raw`dW = \sum_t (h^1_t)^\top dr_t`, 'one product over all steps', ['h^1_t', 'dr', null, 'dW']),
  row('weight gradient', 'dU2 = h2ᵀ dr', String.raw`dU_2 = \sum_t (h^2_{t-1})^\top dr_t`, 'one product over all steps', ['h^2_{t-1}', 'dr', null, 'dU_2']),
  row('weight gradient', 'db = Σ dr', String.raw`db = \sum_t dr_t`, 'sum over the steps', ['dr', 'db']),
  row('weight gradient', 'dw = sᵀ dπ', String.raw`dw_g = \sum_t (h^2_{t-1})^\top d\pi_t`, 'one product over all steps', [
    'h^2_{t-1}',
    String.raw`d\pi`,
    null,
    'dw_g',
  ]),
  row('weight gradient', 'dbg = Σ dπ', String.raw`db_g = \sum_t d\pi_t`, 'sum over the steps', [String.raw`d\pi`, 'db_g']),
  row('weight gradient', 'dE', String.raw`dE = dp\, W_E^\top`, 'into the embedded words', ['dp', 'W_E', null, 'dE']),
  row('weight gradient', 'dWE', String.raw`dW_E = E^\top dp`, 'one product over all steps', ['E', 'dp', null, 'dW_E']),
  row('weight gradient', 'db1L', String.raw`db = \sum_t dp_t`, 'sum over the steps', ['dp', 'db']),
  row('weight gradient', 'dEmb', String.raw`d\mathrm{Emb}[y_{t-1}] \mathrel{+}= dE_t`, 'rows of the words that were there', [
    'dE',
    null,
    null,
    null,
    String.raw`d\mathrm{Emb}`,
  ]),
  row('picture gradient', 'dmean', String.raw`d\bar a = ds_0 W_s^\top`, 'the start, backward', ['ds_0', 'W_s', null, String.raw`d\bar a`]),
  row('picture gradient', 'dWs', String.raw`dW_s = \bar a^\top ds_0`, 'the start, backward', [String.raw`\bar a`, 'ds_0', null, 'dW_s']),
  row('picture gradient', 'dbs', String.raw`db_s = \sum ds_0`, 'the start, backward', ['ds_0', 'db_s']),
  row('picture gradient', 'da by K', String.raw`da \mathrel{+}= dK\, W_1^\top`, 'through the keys', ['dK', 'W_1', null, 'da']),
  row('picture gradient', 'dW1', String.raw`dW_1 = a^\top dK`, 'one product over all regions', ['a', 'dK', null, 'dW_1']),
  row('picture gradient', 'db1', String.raw`db_1 = \sum_i dK_i`, 'sum over the regions', ['dK', 'db_1']),
  row('picture gradient', 'dWe', String.raw`dW_e = X^\top (da \odot [a > 0])`, 'one product over all regions', ['X', 'da', null, 'dW_e']),
  row('picture gradient', 'dbe', String.raw`db_e = \sum_i da_i \odot [a_i > 0]`, 'sum over the regions', ['da', 'db_e']),
];

const BY_KEY = new Map(EQUATIONS.map((equation) => [equation.key, equation]));

export function equationOf(key: string): Equation | null {
  return BY_KEY.get(key) ?? null;
}

/** Matrix products outside of the loop, by the parameter that they multiply with: the equation, and those of its gradient. */
export const PRODUCTS: Readonly<Record<string, { forward: string; input: string | null; weight: string; bias: string }>> = {
  enc_w: { forward: 'a', input: null, weight: 'dWe', bias: 'dbe' },
  w1: { forward: 'K', input: 'da by K', weight: 'dW1', bias: 'db1' },
  start_w: { forward: 'start', input: 'dmean', weight: 'dWs', bias: 'dbs' },
  lstm1_w: { forward: 'xe', input: 'dE', weight: 'dWE', bias: 'db1L' },
  out_w: { forward: 'logits', input: 'dh2 by logits', weight: 'dWo', bias: 'dbo' },
};

/** The line that computes the equation, in each shader that the captioner's step may run: a piece of its text, behind `fn main`. */
export const LINES: Readonly<Record<string, string>> = {
  matmul_naive: 'sum += a_at(z, row, k) * b_at(z, k, column);',
  matmul_register: 'acc[r',
  matmul_workgroup: 'acc[r',
  matmul_workgroup_vec4: 'acc[(4u * i + r) * PARTS + j] =',
  matmul_subgroup: 'acc[r',
  matmul_subgroup_matrix: 'acc[SIDE * i + j] =',
  matmul_subgroup_pairs: 'acc[r',
  matmul_subgroup_rows: 'acc[r',
  matmul_subgroup_texels: 'acc[r',
  additive_attention: 'squash(',
  additive_attention_vec4: 'squash(',
  additive_attention_subgroup: 'squash(',
  additive_attention_scores_grad: 'de[alpha_at + i] = share[i] - alpha[alpha_at + i] * sum;',
  additive_attention_grad: 'dkeys[at] += dk;',
  additive_attention_grad_vec4: 'dkeys[at] += dk;',
  lstm_cell: 'let cell = f * c[at] + i * g;',
  lstm_cell_grad: 'let d_cell = dc_carry[at] + d_hidden * o * (1.0 - squashed * squashed);',
  context_gate: 'gated[',
  context_gate_grad: 'dcontext[params.context_start + row] = value * dgated[row];',
  cross_entropy: 'dx[',
  cross_entropy_subgroup: 'dx[',
  embedding: 'y[',
  embedding_grad: 'dtable[',
  reduce: 'combine(',
  reduce_workgroup: 'combine(',
};
