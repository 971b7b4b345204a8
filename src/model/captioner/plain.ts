/**
 * The whole captioner in loops over float64 numbers: the first file to read, and the oracle of the tests.
 *
 * It has the equations and parameters of captioner.ts for the presets basic and recommended. Nothing is batched, fused or moved
 * out of a loop. Dropout and scheduled sampling are left out, because they need random numbers.
 *
 * N pictures of P regions with F features each; B captions of T words; V words in the vocabulary. Widths: D of the projected
 * features, A of attention, H of a state, E of the embedding. A matrix [n, m] lies row after row: (i, j) is element i · m + j.
 */
import { END, PAD, START } from '../../data/words.ts';
import { GlimpseError } from '../../errors.ts';
import type { CaptionerOptions, CaptionerSizes } from './captioner.ts';

/** Input numbers, in either precision. Sums and results are float64. */
export type Vector = Float64Array | Float32Array;

/** Row i of a matrix whose rows are `width` numbers each. */
export const row = (x: Vector, i: number, width: number): Vector => x.subarray(i * width, (i + 1) * width);

// ── Linear layer ──

/** y_j ← y_j + Σ_i x_i W_ij.   x [n], W [n, m], y [m]. */
export function addProduct(y: Float64Array, x: Vector, w: Vector): void {
  const m = y.length;
  for (let i = 0; i < x.length; i++) {
    for (let j = 0; j < m; j++) y[j] += x[i] * w[i * m + j];
  }
}

/** y = x W + b.   x [n], W [n, m], b [m] → y [m]. */
export function linear(x: Vector, w: Vector, b: Vector): Float64Array {
  const y = Float64Array.from(b);
  addProduct(y, x, w);
  return y;
}

// ── Softmax ──

/** log p_j = x_j − max − log Σ_k exp(x_k − max). The maximum cancels; without it exp could overflow. */
export function logSoftmax(x: Vector): Float64Array {
  let max = Number.NEGATIVE_INFINITY;
  for (const value of x) max = Math.max(max, value);
  let sum = 0;
  for (const value of x) sum += Math.exp(value - max);
  return Float64Array.from(x, (value) => value - max - Math.log(sum));
}

/** p_j = exp(x_j) / Σ_k exp(x_k). */
export const softmax = (x: Vector): Float64Array => logSoftmax(x).map(Math.exp);

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

// ── Additive attention (Bahdanau, Cho and Bengio 2015) ──

/** Values computed once per picture: projected features a [P, D] and keys K [P, A]. */
export interface Picture {
  values: Float64Array;
  keys: Float64Array;
}

/**
 * e_i = vᵀ tanh(K_i + q) + bv;   α = softmax(e);   z = Σ_i α_i a_i.   query q [A], v [A], bv [1] → α [P], context z [D].
 * bv is the same for all regions, so it cancels in the softmax.
 */
export function attend({ values, keys }: Picture, query: Vector, v: Vector, bv: Vector, squash = Math.tanh): { alpha: Float64Array; context: Float64Array } {
  const A = query.length;
  const P = keys.length / A;
  const e = new Float64Array(P).fill(bv[0]);
  for (let i = 0; i < P; i++) {
    for (let k = 0; k < A; k++) e[i] += v[k] * squash(keys[i * A + k] + query[k]);
  }
  const alpha = softmax(e);
  const context = new Float64Array(values.length / P);
  addProduct(context, alpha, values);
  return { alpha, context };
}

// ── LSTM cell (Hochreiter and Schmidhuber 1997) ──

/** Output h and cell c of one LSTM between two steps, [H] each. */
export interface CellState {
  h: Vector;
  c: Vector;
}

/** [i|f|g|o] = x W + h U + b;   c ← σ(f) c + σ(i) tanh(g);   h ← σ(o) tanh(c).   x [n], W [n, 4H], U [H, 4H], b [4H]. */
export function lstmCell(x: Vector, { h, c }: CellState, w: Vector, u: Vector, b: Vector): CellState {
  const H = h.length;
  const gates = linear(x, w, b);
  addProduct(gates, h, u);
  const next = { h: new Float64Array(H), c: new Float64Array(H) };
  for (let j = 0; j < H; j++) {
    const [i, f, o] = [sigmoid(gates[j]), sigmoid(gates[H + j]), sigmoid(gates[3 * H + j])];
    next.c[j] = f * c[j] + i * Math.tanh(gates[2 * H + j]);
    next.h[j] = o * Math.tanh(next.c[j]);
  }
  return next;
}

// ── The captioner ──

export interface State {
  lstm1: CellState;
  lstm2: CellState;
}

/** The inputs of a loss. A weight of 0 masks its row. */
export interface Batch {
  /** [N, P, F] */
  features: Vector;
  /** T */
  steps: number;
  /** The input word of each step, the word to predict, and the weight of its loss, [T, B] each. */
  ids: ArrayLike<number>;
  targets: ArrayLike<number>;
  weights: ArrayLike<number>;
}

export class PlainCaptioner {
  /** `weights` has the names of `parameterTable` in captioner.ts. Throws a GlimpseError for a decoder that this file does not have. */
  constructor(
    readonly sizes: CaptionerSizes,
    readonly options: CaptionerOptions,
    private readonly weights: ReadonlyMap<string, { data: Vector }>,
  ) {
    const { decoder, cell, score, query, attention, contextToOutput } = options;
    const found = `${decoder} ${cell} ${score} ${query} ${attention} ${contextToOutput}`;
    if (found !== 'stacked lstm tanh h2 soft false') throw new GlimpseError(`the plain captioner is "stacked lstm tanh h2 soft false", got "${found}"`);
  }

  private p(name: string): Vector {
    const found = this.weights.get(name);
    if (!found) throw new GlimpseError(`the weights have no "${name}"`);
    return found.data;
  }

  /** One picture: features X [P, F] → a, K and the states before the first word. */
  encode(features: Vector): { picture: Picture; start: State } {
    const { regions: P, features: F, project: D, attention: A, hidden: H } = this.sizes;
    if (features.length !== P * F) throw new GlimpseError(`a picture has ${P} × ${F} features, got ${features.length}`);
    const picture = { values: new Float64Array(P * D), keys: new Float64Array(P * A) };
    const mean = new Float64Array(D);
    for (let i = 0; i < P; i++) {
      // a_i = ReLU(X_i We + be);   K_i = a_i W1 + b1
      const a = linear(row(features, i, F), this.p('enc_w'), this.p('enc_b')).map((x) => Math.max(0, x));
      picture.values.set(a, i * D);
      picture.keys.set(linear(a, this.p('w1'), this.p('b1')), i * A);
      for (let d = 0; d < D; d++) mean[d] += a[d] / P;
    }
    // [h1 | c1 | h2 | c2]_0 = tanh(mean(a) Ws + bs) with a learned start, else 0
    const all = this.options.learnedStart ? linear(mean, this.p('start_w'), this.p('start_b')).map(Math.tanh) : new Float64Array(4 * H);
    return { picture, start: { lstm1: { h: row(all, 0, H), c: row(all, 1, H) }, lstm2: { h: row(all, 2, H), c: row(all, 3, H) } } };
  }

  /** One step: the previous word and states → logits [V] of the next word, α [P], and the next states. */
  step(picture: Picture, { lstm1, lstm2 }: State, word: number): { logits: Float64Array; alpha: Float64Array; state: State } {
    const { project: D, embedding: E, vocabulary: V } = this.sizes;
    if (!(word >= 0 && word < V)) throw new GlimpseError(`a word is 0 to ${V - 1}, got ${word}`);
    // q_t = h2_{t−1} W2 + b2;   α_t, z_t = attend(q_t)
    const query = linear(lstm2.h, this.p('w2'), this.p('b2'));
    const { alpha, context } = attend(picture, query, this.p('v'), this.p('bv'));
    // β_t = σ(h2_{t−1} · w_g + b_g) with the gate, else 1
    const beta = this.options.gate ? sigmoid(linear(lstm2.h, this.p('gate_w'), this.p('gate_b'))[0]) : 1;
    // x_t = [β_t z_t | Emb[y_{t−1}]]
    const x = new Float64Array(D + E);
    for (let d = 0; d < D; d++) x[d] = beta * context[d];
    x.set(row(this.p('emb'), word, E), D);
    // h1_t = LSTM1(x_t);   h2_t = LSTM2(h1_t);   logits_t = h2_t Wo + bo
    const next1 = lstmCell(x, lstm1, this.p('lstm1_w'), this.p('lstm1_u'), this.p('lstm1_b'));
    const next2 = lstmCell(next1.h, lstm2, this.p('lstm2_w'), this.p('lstm2_u'), this.p('lstm2_b'));
    const logits = linear(next2.h, this.p('out_w'), this.p('out_b'));
    return { logits, alpha, state: { lstm1: next1, lstm2: next2 } };
  }

  /**
   * Teacher forcing: the input word of each step is the true one, not the model's own. The B / N captions of a picture follow one
   * another. Returns logits [T, B, V] and α [T, B, P].
   */
  forward({ features, ids, steps: T }: Pick<Batch, 'features' | 'ids' | 'steps'>): { logits: Float64Array; alpha: Float64Array } {
    const { regions: P, features: F, vocabulary: V } = this.sizes;
    const [N, B] = [features.length / (P * F), ids.length / T];
    if (!Number.isInteger(B / N)) throw new GlimpseError(`${B} captions cannot share the features of ${N} pictures evenly`);
    const [logits, alpha] = [new Float64Array(T * B * V), new Float64Array(T * B * P)];
    for (let b = 0; b < B; b++) {
      let { picture, start: state } = this.encode(row(features, Math.floor(b / (B / N)), P * F));
      for (let t = 0; t < T; t++) {
        const next = this.step(picture, state, ids[t * B + b]);
        logits.set(next.logits, (t * B + b) * V);
        alpha.set(next.alpha, (t * B + b) * P);
        state = next.state;
      }
    }
    return { logits, alpha };
  }

  /**
   * crossEntropy = − Σ_{t,b} w_{t,b} [(1 − ε) log p(target_{t,b}) + ε / V Σ_j log p(j)],   ε the label smoothing of training
   * penalty = λ / (B P) Σ_{b,i} (1 − Σ_t α_{t,b,i})², masked steps left out;   loss = crossEntropy + penalty
   */
  loss(batch: Batch, smoothing = 0): { loss: number; crossEntropy: number; penalty: number } {
    const { regions: P, vocabulary: V } = this.sizes;
    const { steps: T, targets, weights } = batch;
    const B = batch.ids.length / T;
    const { logits, alpha } = this.forward(batch);
    let crossEntropy = 0;
    const coverage = new Float64Array(B * P); // Σ_t α_{t,b,i}
    for (let t = 0; t < T; t++) {
      for (let b = 0; b < B; b++) {
        const at = t * B + b;
        if (weights[at] === 0) continue;
        const logP = logSoftmax(row(logits, at, V));
        let mean = 0;
        for (let j = 0; j < V; j++) mean += logP[j] / V;
        crossEntropy -= weights[at] * ((1 - smoothing) * logP[targets[at]] + smoothing * mean);
        for (let i = 0; i < P; i++) coverage[b * P + i] += alpha[at * P + i];
      }
    }
    let penalty = 0;
    for (const sum of coverage) penalty += (this.options.attentionPenalty * (1 - sum) ** 2) / (B * P);
    return { loss: crossEntropy + penalty, crossEntropy, penalty };
  }

  /**
   * Greedy decoding of one picture: the likeliest word at each step, until endseq or `length` words. The result has no endseq.
   * With `suppress`, pad, unknown and startseq are never taken; their ids are below that of endseq.
   */
  greedy(features: Vector, length: number, suppress: boolean): number[] {
    let { picture, start: state } = this.encode(features);
    const words: number[] = [];
    while (words.length < length) {
      const next = this.step(picture, state, words.at(-1) ?? START);
      let best = suppress ? END : PAD;
      for (let j = best; j < next.logits.length; j++) if (next.logits[j] > next.logits[best]) best = j;
      if (best === END) break;
      words.push(best);
      state = next.state;
    }
    return words;
  }
}
