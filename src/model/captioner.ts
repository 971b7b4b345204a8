/**
 * The captioner: image features → additive attention → a two-layer LSTM → words.
 *
 *   a = ReLU(X We + be)                 X [B,P,F] → a [B,P,D]
 *   K = a W1 + b1                       [B,P,A]
 *   xe_t = Emb[y_{t−1}] We₁ + b₁        [T,B,4H], We₁ = the lower E rows of the weight of LSTM 1 (context comes first)
 *   h2, α = recur(a, K, xe)             the only part that runs step by step (model/recurrence.ts)
 *   logits = h2 Wo + bo                 [T,B,V]
 *
 * Everything here is time-major. `recommended` adds dropout, the gate, a learned initial state, and the attention penalty.
 */
import * as ops from '../autograd/ops/index.ts';
import { noGrad } from '../autograd/tape.ts';
import { END, START } from '../data/captions.ts';
import { GlimpseError } from '../errors.ts';
import type { Live } from '../kernels/elementwise.ts';
import { constant, glorotUniform, type Initializer, orthogonalBlocks, uniform, zerosInit } from '../nn/initializers.ts';
import { type NamedArray, Parameters } from '../nn/parameters.ts';
import { streamOf } from '../random.ts';
import { type Tensor, zeros } from '../tensor/tensor.ts';
import { Decoding } from './decoding.ts';
import { type DecoderKind, type Encoded, type Recurrence, recur, shareAll, stateCount, wordRows } from './recurrence.ts';

export interface CaptionerSizes {
  /** Width of the image features (F) and number of places (P). */
  features: number;
  places: number;
  /** Projected features (D), attention (A), LSTM state (H), embedding (E), words (V). */
  project: number;
  attention: number;
  hidden: number;
  embedding: number;
  vocabulary: number;
}

export interface CaptionerOptions {
  /** On the embedding, the projected features, and h2 before the output. */
  dropout: number;
  /** Scalar gate β on the context. */
  gate: boolean;
  /** h, c of both LSTMs start at tanh(mean(a) W + b) instead of zero. */
  learnedStart: boolean;
  /** λ of λ · mean (1 − Σ_t α)². */
  attentionPenalty: number;
  /** Which states attend and in which order: model/recurrence.ts. */
  decoder: DecoderKind;
  /** ε of the mixture of the target with all words alike, in training. */
  labelSmoothing: number;
  /** Largest share of the model's own words among its inputs, in training. */
  scheduledSampling: number;
}

const PLAIN = { decoder: 'seed', labelSmoothing: 0, scheduledSampling: 0 } as const;

export const PRESETS: Record<'seed' | 'recommended', CaptionerOptions> = {
  seed: { dropout: 0, gate: false, learnedStart: false, attentionPenalty: 0, ...PLAIN },
  recommended: { dropout: 0.5, gate: true, learnedStart: true, attentionPenalty: 1, ...PLAIN },
};

/** The original course project: 8,962,697 parameters at F = 2048, V = 5000. */
export const SEED_WIDTHS = { project: 256, attention: 512, hidden: 512, embedding: 256 };

export const embeddingInit = uniform(-0.05, 0.05);

/** Every parameter with its shape and initializer, in order. Glorot kernels, orthogonal recurrent kernels, forget bias 1. */
export function parameterTable(s: CaptionerSizes, o: CaptionerOptions): [string, number[], Initializer][] {
  const forgetOne: Initializer = (shape) => Float32Array.from({ length: shape[0] }, (_, i) => (Math.floor(i / s.hidden) === 1 ? 1 : 0));
  type Row = [string, number[], Initializer];
  const second: Row[] =
    o.decoder === 'show-attend-tell'
      ? []
      : [
          ['lstm2_w', [(o.decoder === 'up-down' ? s.project : 0) + s.hidden, 4 * s.hidden], glorotUniform],
          ['lstm2_u', [s.hidden, 4 * s.hidden], orthogonalBlocks],
          ['lstm2_b', [4 * s.hidden], forgetOne],
        ];
  const table: Row[] = [
    ['enc_w', [s.features, s.project], glorotUniform],
    ['enc_b', [s.project], zerosInit],
    ['w1', [s.project, s.attention], glorotUniform],
    ['b1', [s.attention], zerosInit],
    ['w2', [s.hidden, s.attention], glorotUniform],
    ['b2', [s.attention], zerosInit],
    ['v', [s.attention, 1], glorotUniform],
    ['bv', [1], zerosInit], // cancels in the softmax: its gradient is exactly 0; kept so that weights can be exchanged
    ['emb', [s.vocabulary, s.embedding], embeddingInit],
    ['lstm1_w', [wordRows(s, o) + s.embedding, 4 * s.hidden], glorotUniform],
    ['lstm1_u', [s.hidden, 4 * s.hidden], orthogonalBlocks],
    ['lstm1_b', [4 * s.hidden], forgetOne],
    ...second,
    ['out_w', [s.hidden, s.vocabulary], glorotUniform],
    ['out_b', [s.vocabulary], zerosInit],
  ];
  if (o.gate) table.push(['gate_w', [s.hidden, 1], glorotUniform], ['gate_b', [1], constant(1)]);
  const states = stateCount(o.decoder) * s.hidden;
  if (o.learnedStart) table.push(['start_w', [s.project, states], glorotUniform], ['start_b', [states], zerosInit]);
  return table;
}

export interface ForwardResult {
  /** [T·B, V], time-major. */
  logits: Tensor;
  /** [T, B, P] */
  alpha: Tensor;
}

/** Names the random streams of one training step. */
export interface DropoutStep {
  seed: number;
  /** A function is asked anew at every replay of a capture. */
  step: Live;
  /** Share of the words before each step that are the model's own, with scheduled sampling. */
  ownWords?: Live;
}

export class Captioner {
  readonly decoding = new Decoding(this);

  constructor(
    readonly sizes: CaptionerSizes,
    readonly options: CaptionerOptions,
    readonly parameters: Parameters,
  ) {}

  static create(sizes: CaptionerSizes, options: CaptionerOptions, seed: number): Captioner {
    const parameters = new Parameters();
    for (const [name, shape, initializer] of parameterTable(sizes, options)) parameters.init(name, shape, initializer, seed);
    return new Captioner(sizes, options, parameters);
  }

  static fromWeights(sizes: CaptionerSizes, options: CaptionerOptions, weights: ReadonlyMap<string, NamedArray>): Captioner {
    const parameters = new Parameters();
    for (const [name, shape] of parameterTable(sizes, options)) {
      const value = weights.get(name);
      if (!value) throw new GlimpseError(`the weights have no "${name}"`);
      if (value.shape.join() !== shape.join()) throw new GlimpseError(`"${name}" is [${value.shape}] in the weights, [${shape}] in this configuration`);
      parameters.add(name, shape, value.data);
    }
    return new Captioner(sizes, options, parameters);
  }

  private p(name: string): Tensor {
    return this.parameters.get(name);
  }

  private drop(x: Tensor, name: string, step: DropoutStep | null): Tensor {
    if (!step || this.options.dropout === 0) return x;
    return ops.dropout(x, { rate: this.options.dropout, seed: step.seed, step: step.step, stream: streamOf(name) });
  }

  /** What is computed once per picture: projected features a [B, P, D], keys K [B, P, A], and the starting states. */
  encode(features: Tensor, step: DropoutStep | null = null): Encoded {
    const { project, attention, hidden } = this.sizes;
    const [batch, places, width] = features.shape;
    if (width !== this.sizes.features) throw new GlimpseError(`the features are ${width} wide, this model was made for ${this.sizes.features}`);
    const rows = ops.reshape(features, [batch * places, width]);
    const projected = ops.matmul(rows, this.p('enc_w'), { bias: this.p('enc_b'), relu: true });
    const a = this.drop(projected, 'projected features', step);
    const keys = ops.reshape(ops.matmul(a, this.p('w1'), { bias: this.p('b1') }), [batch, places, attention]);
    const values = ops.reshape(a, [batch, places, project]);
    const count = stateCount(this.options.decoder);
    if (!this.options.learnedStart) {
      const zero = zeros([batch, hidden]);
      return { values, keys, start: Array.from({ length: count }, () => zero) };
    }
    const all = ops.tanh(ops.matmul(ops.mean(values, 1), this.p('start_w'), { bias: this.p('start_b') }));
    return { values, keys, start: Array.from({ length: count }, (_, i) => ops.slice(all, [0, i * hidden], [batch, hidden])) };
  }

  /** The share of the words in LSTM 1: ids [T, B] → [T, B, 4H]. */
  private embed(ids: Tensor, step: DropoutStep | null): Tensor {
    const { hidden, embedding } = this.sizes;
    const [steps, batch] = ids.shape;
    const words = this.drop(ops.embedding(this.p('emb'), ids), 'embedding', step);
    const lower = ops.slice(this.p('lstm1_w'), [wordRows(this.sizes, this.options), 0], [embedding, 4 * hidden]);
    const product = ops.matmul(ops.reshape(words, [steps * batch, embedding]), lower, { bias: this.p('lstm1_b') });
    return ops.reshape(product, [steps, batch, 4 * hidden]);
  }

  private recur(encoded: Encoded, xe: Tensor): Recurrence {
    return recur(this.sizes, this.options, (name) => this.p(name), encoded, xe);
  }

  private project(output: Tensor, step: DropoutStep | null): Tensor {
    const [steps, batch, hidden] = output.shape;
    const rows = ops.reshape(this.drop(output, 'output', step), [steps * batch, hidden]);
    return ops.matmul(rows, this.p('out_w'), { bias: this.p('out_b') });
  }

  /** Teacher forcing: features [N, P, F] and the words before each step, ids u32 [T, B]; B / N captions share a picture. */
  forward(features: Tensor, ids: Tensor, step: DropoutStep | null = null): ForwardResult {
    const captions = ids.shape[1] / features.shape[0];
    if (!Number.isInteger(captions)) throw new GlimpseError(`${ids.shape[1]} captions cannot share the features of ${features.shape[0]} pictures evenly`);
    const { output, alpha } = this.recur(shareAll(this.encode(features, step), captions), this.embed(ids, step));
    return { logits: this.project(output, step), alpha };
  }

  /**
   * The weighted sum of the cross-entropies of all rows, plus the attention penalty. targets u32 and weights f32 [T, B];
   * a weight of 0 masks a row. Returns the part without the penalty for the log. `step` names the random streams of a
   * training step (none: no dropout, smoothing, or words of the model's own); `share` is this batch's part of an update.
   */
  loss(
    features: Tensor,
    ids: Tensor,
    targets: Tensor,
    weights: Tensor,
    { step = null, share: part = 1 }: { step?: DropoutStep | null; share?: number } = {},
  ): { loss: Tensor; crossEntropy: Tensor; rowLoss: Tensor } {
    const { attentionPenalty: lambda, labelSmoothing, scheduledSampling } = this.options;
    const words = step && scheduledSampling > 0 ? this.withOwnWords(features, ids, step) : ids;
    const { logits, alpha } = this.forward(features, words, step);
    const { loss, rowLoss } = ops.crossEntropy(logits, targets, weights, step ? labelSmoothing : 0);
    if (lambda === 0) return { loss, crossEntropy: loss, rowLoss };
    const [steps, batch] = ids.shape;
    const valid = ops.step(ops.square(ops.reshape(weights, [steps, batch, 1])));
    const coverage = ops.sum(ops.mul(alpha, valid), 0);
    const penalty = ops.mean(ops.square(ops.addScalar(ops.neg(coverage), 1)));
    return { loss: ops.add(loss, ops.scale(penalty, lambda * part)), crossEntropy: loss, rowLoss };
  }

  /**
   * Scheduled sampling (Bengio and others 2015) without a loop over steps, as Duckworth and others 2019: a first pass on the
   * true words draws the model's word for every place; each true word gives way to it with the step's probability.
   */
  private withOwnWords(features: Tensor, ids: Tensor, step: DropoutStep): Tensor {
    return noGrad(() => {
      const [steps, batch] = ids.shape;
      const logProbs = ops.softmax(this.forward(features, ids, step).logits, true);
      const { seed } = step;
      const { word } = ops.sample(logProbs, { ...{ skipBelow: END, topK: 0, topP: 1, temperature: 1, seed }, step: step.step, stream: streamOf('own words') });
      return ops.mixWords(ids, ops.reshape(word, [steps, batch]), {
        probability: step.ownWords ?? 0,
        ...{ seed, step: step.step, stream: streamOf('which words are own'), start: START, end: END },
      });
    });
  }

  /** One step of decoding: the words before [1, B] and the states → log-probabilities [B, V], maps [1, B, P], states. */
  decodeStep(encoded: Encoded, previous: Tensor): { logProbs: Tensor; alpha: Tensor; states: Tensor[] } {
    const { output, alpha, states } = this.recur(encoded, this.embed(previous, null));
    return { logProbs: ops.softmax(this.project(output, null), true), alpha, states };
  }

  dispose(): void {
    this.decoding.dispose();
    this.parameters.dispose();
  }
}
