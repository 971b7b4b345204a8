/**
 * The equation of every op, and of its gradient, in TeX. The op table says the same in words that a terminal can print; pages typeset
 * these. Letters are those of the table: y of x, c of a and b, and d before a name for the gradient of the loss with respect to it.
 */

/** TeX of an op; without `gradient`, it has none, and the table says why. */
export interface OpEquation {
  forward: string;
  gradient?: string;
}

const r = String.raw;
const of = (forward: string, gradient?: string): OpEquation => ({ forward, ...(gradient === undefined ? {} : { gradient }) });
const normalized = r`\hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}`;

/** By the name of the op. */
export const OP_EQUATIONS: Readonly<Record<string, OpEquation>> = {
  neg: of('y = -x', 'dx = -dy'),
  exp: of('y = e^x', r`dx = dy\, y`),
  log: of(r`y = \ln x`, r`dx = dy / x`),
  sqrt: of(r`y = \sqrt x`, r`dx = \frac{dy}{2 y}`),
  square: of('y = x^2', r`dx = 2 x\, dy`),
  abs: of('y = |x|', r`dx = dy\, \mathrm{sign}(x)`),
  reciprocal: of(r`y = \frac 1 x`, r`dx = -dy\, y^2`),
  relu: of(r`y = \max(x, 0)`, r`dx = dy\, [y > 0]`),
  leakyRelu: of(r`y = \begin{cases} x & x > 0 \\ s x & \text{else} \end{cases}`, r`dx = \begin{cases} dy & x > 0 \\ s\, dy & \text{else} \end{cases}`),
  sigmoid: of(r`y = \sigma(x) = \frac{1}{1 + e^{-x}}`, r`dx = dy\, y (1 - y)`),
  tanh: of(r`y = \tanh x`, r`dx = dy\, (1 - y^2)`),
  scale: of(r`y = \alpha x`, r`dx = \alpha\, dy`),
  addScalar: of(r`y = x + \alpha`, 'dx = dy'),
  step: of(r`y = [x > \theta]`),
  add: of('c = a + b', r`da = dc, \quad db = dc`),
  sub: of('c = a - b', r`da = dc, \quad db = -dc`),
  mul: of(r`c = a \odot b`, r`da = dc \odot b, \quad db = dc \odot a`),
  div: of(r`c = a / b`, r`da = dc / b, \quad db = -dc\, c / b`),
  maximum: of(r`c = \max(a, b)`, r`da = dc\, [a \ge b], \quad db = dc\, [b > a]`),
  minimum: of(r`c = \min(a, b)`, r`da = dc\, [b \ge a], \quad db = dc\, [a > b]`),
  greater: of('c = [a > b]'),
  greaterEqual: of(r`c = [a \ge b]`),
  axpby: of(r`y \leftarrow \alpha x + \beta y`),
  dropout: of(r`y = \frac{x\, [u \ge p]}{1 - p}, \quad u \sim \mathrm{U}(0, 1)`, r`dx = \frac{dy\, [u \ge p]}{1 - p}`),
  sum: of(r`y = \sum_i x_i`, r`dx_i = dy`),
  mean: of(r`y = \frac 1 n \sum_i x_i`, r`dx_i = \frac{dy}{n}`),
  sumSquares: of(r`y = \sum_i x_i^2`, r`dx_i = 2 x_i\, dy`),
  max: of(r`y = \max_i x_i`),
  min: of(r`y = \min_i x_i`),
  reshape: of(r`y = \mathrm{reshape}(x)`, r`dx = \mathrm{reshape}(dy)`),
  transpose: of(r`y_{i_{\pi(1)} \dots i_{\pi(r)}} = x_{i_1 \dots i_r}`, r`dx = \pi^{-1}(dy)`),
  slice: of(r`y_i = x_{s + i t}`, r`dx_{s + i t} = dy_i, \quad 0 \text{ elsewhere}`),
  trilu: of(r`y_{rc} = x_{rc}\, [c - r \ge k]`, r`dx_{rc} = dy_{rc}\, [c - r \ge k]`),
  cumSum: of(r`y_p = \sum_{q \le p} x_q`, r`dx_q = \sum_{p \ge q} dy_p`),
  argmax: of(r`y = \operatorname{arg\,max}_j x_j`),
  argmin: of(r`y = \operatorname{arg\,min}_j x_j`),
  gather: of(r`y_{ajb} = x_{a\, i_j\, b}`, r`dx_{avb} = \sum_{j: i_j = v} dy_{ajb}`),
  gatherElements: of(r`y_{ajb} = x_{a\, i_{ajb}\, b}`, r`dx_{avb} = \sum_{j: i_{ajb} = v} dy_{ajb}`),
  gatherNd: of(r`y_{bj} = x_{b\, i_{bj}}`, r`dx_{bp} = \sum_{j: i_{bj} = p} dy_{bj}`),
  scatterElements: of(r`y_p = u_{\max\{j: i_j = p\}} \text{ or } x_p + \sum_{j: i_j = p} u_j`, r`du_j = dy_{i_j}\, [u_j \text{ shows}]`),
  scatterNd: of(r`y_p = u_{\max\{j: i_j = p\}} \text{ or } x_p + \sum_{j: i_j = p} u_j`, r`du_j = dy_{i_j}\, [u_j \text{ shows}]`),
  scatterElementsReduce: of(r`y_p = x_p \oplus u_{j_1} \oplus u_{j_2} \dots, \quad i_{j_k} = p`),
  scatterNdReduce: of(r`y_p = x_p \oplus u_{j_1} \oplus u_{j_2} \dots, \quad i_{j_k} = p`),
  concat: of(r`y = [\,a \,|\, b \,|\, \dots]`, r`[\,da \,|\, db \,|\, \dots] = dy`),
  broadcastTo: of(r`y_{ij} = x_j`, r`dx_j = \sum_i dy_{ij}`),
  matmul: of(r`C_{ij} = \sum_k \mathrm{op}(A)_{ik}\, \mathrm{op}(B)_{kj} + b_j`, r`dA = dC\, B^\top, \quad dB = A^\top dC, \quad db_j = \sum_i dC_{ij}`),
  matmulInto: of(r`C \leftarrow C + \mathrm{op}(A)\, \mathrm{op}(B)`),
  conv2d: of(
    r`y_{noij} = b_o + \sum_{c,u,v} w_{ocuv}\, x_{n,\,c,\,is+u-p,\,js+v-p}`,
    r`dw_{ocuv} = \sum_{n,i,j} dy_{noij}\, x_{n,\,c,\,is+u-p,\,js+v-p}, \quad dx_{nc} = \sum_{o} w_{oc} \star^\top dy_{no}, \quad db_o = \sum_{n,i,j} dy_{noij}`,
  ),
  convBlock: of(r`y = \max(w \star x + b + r,\ 0)`),
  maxPool2d: of(r`y_{ij} = \max_{(u,v) \in \text{window}} x_{is+u,\,js+v}`, r`dx_{uv} = \sum_{i,j} dy_{ij}\, [x_{uv} \text{ is the largest of window } ij]`),
  avgPool2d: of(r`y_{ij} = \frac{1}{|W|} \sum_{(u,v) \in W} x_{is+u,\,js+v}`, r`dx_{uv} = \sum_{ij\,:\,uv \in W_{ij}} \frac{dy_{ij}}{|W_{ij}|}`),
  lpPool2d: of(r`y = \Big(\sum_{u \in W} |x_u|^p\Big)^{1/p}`, r`dx_u = \sum_{W \ni u} dy_W\, \mathrm{sign}(x_u) \Big(\frac{|x_u|}{y_W}\Big)^{p-1}`),
  maxPool3d: of(r`y_o = \max_{u \in W_o} x_u`, r`dx_u = \sum_o dy_o\, [x_u \text{ is the largest of } W_o]`),
  avgPool3d: of(r`y_o = \frac{1}{|W_o|} \sum_{u \in W_o} x_u`, r`dx_u = \sum_{o\,:\,u \in W_o} \frac{dy_o}{|W_o|}`),
  maxPoolWithIndices: of(r`k_o = \arg\max_{u \in W_o} x_u, \quad y_o = x_{k_o}`, r`dx_u = \sum_{o\,:\,k_o = u} dy_o`),
  maxUnpool: of(r`y_{k_i} = x_i, \quad 0 \text{ elsewhere}`, r`dx_i = dy_{k_i}`),
  pad: of(
    r`y_i = x_{\pi(i - b)}, \quad \pi \text{ leads outside places back into } x, \text{ or to a value}`,
    r`dx_k = \sum_{i\,:\,\pi(i - b) = k} dy_i`,
  ),
  resize: of(r`y_i = \sum_k w(k - \rho(i))\, x_k, \quad \rho(i) = \frac{i + 1/2}{s} - \frac 1 2`, r`dx_k = \sum_i w(k - \rho(i))\, dy_i`),
  batchNormTrain: of(
    r`y = \gamma \hat x + \beta, \quad ${normalized}, \quad \mu, \sigma^2 \text{ of the batch}`,
    r`d\beta = \sum dy, \quad d\gamma = \sum dy\, \hat x, \quad dx = \frac{\gamma}{\sqrt{\sigma^2 + \varepsilon}} \Big(dy - \frac{d\beta}{n} - \hat x \frac{d\gamma}{n}\Big)`,
  ),
  batchNormEval: of(
    r`y = \gamma \hat x + \beta, \quad ${normalized}, \quad \mu, \sigma^2 \text{ given}`,
    r`d\beta = \sum dy, \quad d\gamma = \sum dy\, \hat x, \quad dx = \frac{\gamma\, dy}{\sqrt{\sigma^2 + \varepsilon}}`,
  ),
  layerNorm: of(
    r`y = \gamma \hat x + \beta, \quad ${normalized}, \quad \mu, \sigma^2 \text{ of the row}`,
    r`g = \gamma\, dy, \quad dx = \frac{g - \bar g - \hat x\, \overline{g \hat x}}{\sqrt{\sigma^2 + \varepsilon}}, \quad d\gamma = \sum dy\, \hat x, \quad d\beta = \sum dy`,
  ),
  softmax: of(r`y_i = \frac{e^{x_i - m}}{\sum_j e^{x_j - m}}, \quad m = \max_j x_j`, r`dx_i = y_i \Big(dy_i - \sum_j y_j\, dy_j\Big)`),
  logSoftmax: of(r`y_i = x_i - m - \ln \sum_j e^{x_j - m}, \quad m = \max_j x_j`, r`dx_i = dy_i - e^{y_i} \sum_j dy_j`),
  crossEntropy: of(
    r`L = \sum_r w_r \Big(\ln \sum_j e^{\ell_{rj}} - (1 - s)\, \ell_{r, y_r} - \frac s n \sum_j \ell_{rj}\Big)`,
    r`d\ell_{rj} = dL\, w_r \Big(\mathrm{softmax}(\ell_r)_j - (1 - s)\, [j = y_r] - \frac s n\Big)`,
  ),
  mixTokens: of(r`y'_{t} = \begin{cases} \mathrm{own}_{t-1} & u < p \\ y_t & \text{else} \end{cases}`),
  argmaxToken: of(r`k_r = \arg\max_j x_{rj}, \quad \log p_r = \ln \mathrm{softmax}(x_r)_{k_r}`),
  topK: of(r`x_{r,k_1} \ge x_{r,k_2} \ge \dots \ge x_{r,k_K} \ge x_{rj}`, r`dx_{r,k_i} = dv_{ri}, \quad 0 \text{ elsewhere}`),
  sample: of(r`P(k_r = j) \propto e^{x_{rj} / \tau}`),
  oneHot: of(r`y_{rj} = \begin{cases} \text{on} & j = k_r \\ \text{off} & \text{else} \end{cases}`),
  beamSelect: of(r`\text{the } W \text{ largest } \frac{\sum_t \log p_t}{\mathrm{penalty}(|y|)} \text{ over hypotheses and continuations}`),
  limitTokens: of(r`y_j = x_j - \lambda\, n_j, \quad -10^{30} \text{ if } j \text{ is not allowed}`),
  embedding: of(r`y_t = E_{k_t}`, r`dE_v = \sum_{t\,:\,k_t = v} dy_t`),
  lstmCell: of(
    r`[i|f|g|o] = (\sigma|\sigma|\tanh|\sigma)(g_x + g_h), \quad c' = f \odot c + i \odot g, \quad h' = o \odot \tanh c'`,
    r`dc' \mathrel{+}= dh'\, o\, (1 - \tanh^2 c'), \quad dg_x = [\,dc' g\, i(1-i) \,|\, dc' c\, f(1-f) \,|\, dc'\, i(1-g^2) \,|\, dh' \tanh(c')\, o(1-o)\,], \quad dc = dc' f`,
  ),
  gruCell: of(
    r`[r|z] = \sigma(g_x + g_h), \quad n = \tanh(g_x + r\, g_h), \quad h' = (1 - z)\, n + z\, h`,
    r`dn = dh' (1 - z)(1 - n^2), \quad dz = dh' (h - n)\, z (1 - z), \quad dr = dn\, g_h\, r (1 - r), \quad dh = dh' z`,
  ),
  additiveAttention: of(
    r`e_p = v^\top \tanh(K_p + q), \quad \alpha = \mathrm{softmax}(e), \quad z = \sum_p \alpha_p\, a_p`,
    r`d\alpha_p = dz \cdot a_p, \quad de_p = \alpha_p \Big(d\alpha_p - \sum_j \alpha_j\, d\alpha_j\Big), \quad dK_p = de_p\, v\, (1 - t_p^2), \quad dq = \sum_p dK_p, \quad dv = \sum_p de_p\, t_p, \quad da_p = \alpha_p\, dz`,
  ),
  attentionLstm: of(
    r`q_t = h^2_{t-1} W_2 + b_2, \quad z_t, \alpha_t = \mathrm{attend}(K, q_t, v, a), \quad h^1_t, c^1_t = \mathrm{cell}(\mathrm{xe}_t + z_t W_z + h^1_{t-1} U_1, c^1_{t-1}), \quad h^2_t, c^2_t = \mathrm{cell}(h^1_t W + b + h^2_{t-1} U_2, c^2_{t-1})`,
    r`dW = \sum_{t=1}^T x_t^\top\, dy_t = X^\top dY \quad \text{for each weight: one product over all steps}`,
  ),
  adam: of(
    r`m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad p \leftarrow p - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \varepsilon}`,
  ),
  sgd: of(r`m \leftarrow \mu m + g + \lambda p, \quad p \leftarrow p - \eta\, m`),
  globalNorm: of(r`\lVert g \rVert = \sqrt{\sum_k \lVert g_k \rVert^2}`),
};
