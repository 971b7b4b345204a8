/**
 * The captioner: image features → additive attention → a two-layer LSTM (or another decoder) → words.
 *
 *   a = ReLU(X We + be)                 X [B,P,F] → a [B,P,D]
 *   K = a W1 + b1                       [B,P,A]
 *   xe_t = Emb[y_{t−1}] We₁ + b₁        [T,B,4H], We₁ = the lower E rows of the weight of LSTM 1 (context comes first)
 *   h2, α = recur(a, K, xe)             the only part that runs step by step (recurrence.ts)
 *   logits = h2 Wo + bo                 [T,B,V], or [h2 ; z] Wo + bo
 *
 * A transformer (transformer.ts) takes the place of K, xe and recur; if it is a language model, a = X We + be, and it has no Wo.
 * plain.ts has the same equations in plain loops.
 *
 * Everything here is time-major. The preset `recommended` adds dropout, the gate, and a learned initial state.
 */
import * as ops from '../../autograd/ops/index.ts';
import { noGrad } from '../../autograd/tape.ts';
import { END, START } from '../../data/words.ts';
import { GlimpseError } from '../../errors.ts';
import type { Live } from '../../kernels/elementwise.ts';
import { constant, glorotUniform, type Initializer, orthogonalBlocks, scaled, uniform, zerosInit } from '../../nn/initializers.ts';
import { type NamedArray, Parameters } from '../../nn/parameters.ts';
import { streamOf } from '../../random.ts';
import { Scope, scope, type Tensor, zeros } from '../../tensor/tensor.ts';
import type { CaptionerOptions } from '../training/options.ts';
import { type Begun, Decoding } from './decoding.ts';
import {
  type Encoded,
  GATES,
  isFused,
  layerCount,
  type Packing,
  type RandomStep,
  type Recurrence,
  recur,
  shareAll,
  shareByPicture,
  stateCount,
  wordRows,
} from './recurrence.ts';
import {
  hasPrefix,
  isLanguageModel,
  isTransformer,
  languageScores,
  neverSpecial,
  prefixStates,
  transform,
  transformerMemory,
  transformerTable,
} from './transformer.ts';

export { type CaptionerOptions, PRESETS } from '../training/options.ts';

/** The widths of a captioner. */
export interface CaptionerSizes {
  /** Width of the image features (F) and number of regions (P). */
  features: number;
  regions: number;
  /** Projected features (D), attention (A), LSTM state (H), embedding (E), words (V). */
  project: number;
  attention: number;
  hidden: number;
  embedding: number;
  vocabulary: number;
  /** Learned positions of a language model. Others have none. */
  positions?: number | undefined;
}

/** Weight of the entropy of α in the objective of hard attention (Xu and others 2015, section 4.1). */
const ENTROPY_WEIGHT = 0.002;

/** The widths of the original course project: 8,962,697 parameters at F = 2048, V = 5000. */
export const DEFAULT_WIDTHS = { project: 256, attention: 512, hidden: 512, embedding: 256 };

/**
 * Factors on the initial weights of `--initialization scaled`; of `glorot` they are 1. Keras' embedding of ±0.05 and Glorot's kernels let
 * little through two LSTMs: another last word changes the first logits by 0.0008 (rms), another picture by 0.03. Words are learned only
 * once these weights have grown, after some 150 updates. Scaled, it is 0.07 and 0.14 from the start.
 */
const SCALES = { embedding: 20, enc_w: 2.5, layer1: 2, layer2: 3 };
const scaleOf = ({ initialization }: CaptionerOptions, weight: keyof typeof SCALES) => (initialization === 'scaled' ? SCALES[weight] : 1);

/** Initial values of the embedding. */
export const embeddingInit = (o: CaptionerOptions): Initializer => scaled(uniform(-0.05, 0.05), scaleOf(o, 'embedding'));

type Row = [string, number[], Initializer];

/** Parameters of attention, recurrent layers, gate and start. Glorot kernels, orthogonal recurrent kernels, forget bias 1. */
function recurrentTable(s: CaptionerSizes, o: CaptionerOptions): { attention: Row[]; layers: Row[]; extras: Row[] } {
  const width = GATES[o.cell] * s.hidden;
  const forgetOne: Initializer = (shape) => Float32Array.from({ length: shape[0] }, (_, i) => (Math.floor(i / s.hidden) === 1 ? 1 : 0));
  const layer = (number: 1 | 2, rows: number): Row[] => [
    [`${o.cell}${number}_w`, [rows, width], scaled(glorotUniform, scaleOf(o, `layer${number}`))],
    [`${o.cell}${number}_u`, [s.hidden, width], orthogonalBlocks],
    [`${o.cell}${number}_b`, [width], o.cell === 'lstm' ? forgetOne : zerosInit],
  ];
  const extras: Row[] = o.gate
    ? [
        ['gate_w', [s.hidden, 1], glorotUniform],
        ['gate_b', [1], constant(1)],
      ]
    : [];
  const states = stateCount(o) * s.hidden;
  if (o.learnedStart) extras.push(['start_w', [s.project, states], glorotUniform], ['start_b', [states], zerosInit]);
  return {
    attention: [
      ['w1', [s.project, s.attention], glorotUniform],
      ['b1', [s.attention], zerosInit],
      ['w2', [s.hidden, s.attention], glorotUniform],
      ['b2', [s.attention], zerosInit],
      ['v', [s.attention, 1], glorotUniform],
      ['bv', [1], zerosInit], // cancels in the softmax, so its gradient is exactly 0; kept so that weights can be exchanged
    ],
    layers: [...layer(1, wordRows(s, o) + s.embedding), ...(layerCount(o.decoder) === 2 ? layer(2, (o.decoder === 'up-down' ? s.project : 0) + s.hidden) : [])],
    extras,
  };
}

/** Every parameter with its shape and initializer, in order. */
export function parameterTable(s: CaptionerSizes, o: CaptionerOptions): Row[] {
  if (isTransformer(o) && o.contextToOutput) throw new GlimpseError('a transformer has no single context to give to the output');
  const { attention, layers, extras } = isTransformer(o) ? { attention: [], layers: transformerTable(s, o), extras: [] } : recurrentTable(s, o);
  const scores: Row[] = isLanguageModel(o)
    ? [['out_b', [s.vocabulary], neverSpecial]]
    : [
        ['out_w', [s.hidden + (o.contextToOutput ? s.project : 0), s.vocabulary], glorotUniform],
        ['out_b', [s.vocabulary], zerosInit],
      ];
  return [
    ['enc_w', [s.features, s.project], scaled(glorotUniform, scaleOf(o, 'enc_w'))],
    ['enc_b', [s.project], zerosInit],
    ...attention,
    ['emb', [s.vocabulary, s.embedding], embeddingInit(o)],
    ...layers,
    ...scores,
    ...extras,
  ];
}

/** Whether the captions of a batch can be packed: the loss then has no term that needs all steps of a caption side by side. */
export const packsCaptions = (o: CaptionerOptions) => isFused(o) && o.attentionPenalty === 0 && o.scheduledSampling === 0;

/** Throws a GlimpseError that names a weight that is missing or misshaped. */
export function checkWeights(sizes: CaptionerSizes, options: CaptionerOptions, weights: ReadonlyMap<string, NamedArray>): void {
  for (const [name, shape] of parameterTable(sizes, options)) {
    const value = weights.get(name);
    if (!value) throw new GlimpseError(`the weights have no "${name}"`);
    if (value.shape.join() !== shape.join()) throw new GlimpseError(`"${name}" is [${value.shape}] in the weights, [${shape}] in this configuration`);
  }
}

export interface ForwardResult {
  /** [T·B, V], time-major. */
  logits: Tensor;
  /** [T, B, P] */
  alpha: Tensor;
  /** log α of the regions that hard attention looked at, [T, B]; else null. */
  regionLogProb: Tensor | null;
}

/** Selects the random numbers of one training step. */
export interface DropoutStep extends RandomStep {
  /** With scheduled sampling: the probability that an input word is replaced by one that the model sampled. */
  ownWords?: Live;
}

/** The captioning model: parameters, loss for training, and decoding. `dispose` frees all of it. */
export class Captioner {
  /** Captions of features: `greedy`, `sample`, `beam`. */
  readonly decoding = new Decoding(this);

  constructor(
    readonly sizes: CaptionerSizes,
    readonly options: CaptionerOptions,
    readonly parameters: Parameters,
  ) {}

  /** A new captioner with initial weights drawn by the random seed. */
  static create(sizes: CaptionerSizes, options: CaptionerOptions, seed: number): Captioner {
    const parameters = new Parameters();
    for (const [name, shape, initializer] of parameterTable(sizes, options)) parameters.init(name, shape, initializer, seed);
    return new Captioner(sizes, options, parameters);
  }

  /** A captioner with these weights, as `parameters.read()` gave them. Throws a GlimpseError that names a weight that is missing or misshaped. */
  static fromWeights(sizes: CaptionerSizes, options: CaptionerOptions, weights: ReadonlyMap<string, NamedArray>): Captioner {
    checkWeights(sizes, options, weights);
    const parameters = new Parameters();
    for (const [name, shape] of parameterTable(sizes, options)) parameters.add(name, shape, (weights.get(name) as NamedArray).data);
    return new Captioner(sizes, options, parameters);
  }

  /** Words decoded since the weights behind `wordTable` were last written. `writes` tells these weights' numbers of writes. */
  private decoded = { words: 0, writes: '' };
  /** The part of every word in the gates of layer 1, [V, gates · H]. `current` tells whether it fits the present weights. */
  private wordTable: { rows: Tensor; current: boolean } | null = null;

  private p(name: string): Tensor {
    return this.parameters.get(name);
  }

  private drop(x: Tensor, name: string, step: DropoutStep | null): Tensor {
    if (!step || this.options.dropout === 0) return x;
    return ops.dropout(x, { rate: this.options.dropout, seed: step.seed, step: step.step, stream: streamOf(name) });
  }

  /** Computes what is needed once per picture: projected features a [B, P, D], keys K [B, P, A], and the starting states. */
  encode(features: Tensor, step: DropoutStep | null = null): Encoded {
    const { project, attention, hidden } = this.sizes;
    const [batch, regions, width] = features.shape;
    if (width !== this.sizes.features) throw new GlimpseError(`the features are ${width} wide, this model was made for ${this.sizes.features}`);
    const rows = ops.reshape(features, [batch * regions, width]);
    const projected = ops.matmul(rows, this.p('enc_w'), { bias: this.p('enc_b'), relu: !isLanguageModel(this.options) });
    const a = this.drop(projected, 'projected features', step);
    const values = ops.reshape(a, [batch, regions, project]);
    const p = (name: string) => this.p(name);
    if (hasPrefix(this.options))
      return { values, keys: values, start: prefixStates(this.sizes, this.options, p, values, (x, name) => this.drop(x, name, step)) };
    if (isTransformer(this.options)) return { values, keys: transformerMemory(p, a, batch), start: [] };
    const keys = ops.reshape(ops.matmul(a, this.p('w1'), { bias: this.p('b1') }), [batch, regions, attention]);
    const count = stateCount(this.options);
    if (!this.options.learnedStart) {
      const zero = zeros([batch, hidden]);
      return { values, keys, start: Array.from({ length: count }, () => zero) };
    }
    const all = ops.tanh(ops.matmul(ops.mean(values, 1), this.p('start_w'), { bias: this.p('start_b') }));
    return { values, keys, start: Array.from({ length: count }, (_, i) => ops.slice(all, [0, i * hidden], [batch, hidden])) };
  }

  /** The decoder's outputs and attention weights for the input words ids [T, B], from the states in `encoded` on. */
  private decode(
    encoded: Encoded,
    ids: Tensor,
    step: DropoutStep | null,
    packing: Packing | null = null,
  ): Omit<Recurrence, 'context'> & { context: Tensor | null } {
    const words = this.drop(ops.embedding(this.p('emb'), ids), 'embedding', step);
    const p = (name: string) => this.p(name);
    if (!isTransformer(this.options)) return recur(this.sizes, this.options, p, encoded, this.wordGates(words), { random: step, packing });
    return { ...transform(this.sizes, this.options, p, encoded, words, (x, name) => this.drop(x, name, step)), context: null, regionLogProb: null };
  }

  /** The words' part in the gates of layer 1, its bias included: […, E] → […, gates · H]. */
  private wordGates(words: Tensor): Tensor {
    const { embedding, hidden } = this.sizes;
    const { cell } = this.options;
    const width = GATES[cell] * hidden;
    const lower = ops.slice(this.p(`${cell}1_w`), [wordRows(this.sizes, this.options), 0], [embedding, width]);
    const product = ops.matmul(ops.reshape(words, [words.size / embedding, embedding]), lower, { bias: this.p(`${cell}1_b`) });
    return ops.reshape(product, [...words.shape.slice(0, -1), width]);
  }

  /** The decoder's output (and context) […, H] → logits [rows, V]. */
  private logits({ output, context }: { output: Tensor; context: Tensor | null }, step: DropoutStep | null): Tensor {
    const all = this.options.contextToOutput && context ? ops.concat([output, context], -1) : output;
    const width = all.shape[all.shape.length - 1];
    const rows = ops.reshape(this.drop(all, 'output', step), [all.size / width, width]);
    if (isLanguageModel(this.options)) return languageScores((name) => this.p(name), rows);
    return ops.matmul(rows, this.p('out_w'), { bias: this.p('out_b') });
  }

  /**
   * Teacher forcing: features [N, P, F] and the input words ids u32 [T, B] → logits and α. Each picture has B / N captions, which
   * follow one another. With `packing`, ids are [R], the logits [R, V] and α [R, P].
   */
  forward(features: Tensor, ids: Tensor, step: DropoutStep | null = null, packing: Packing | null = null): ForwardResult {
    if (packing) {
      const decoded = this.decode(shareByPicture(this.encode(features, step), packing), ids, step, packing);
      return { logits: this.logits(decoded, step), alpha: decoded.alpha, regionLogProb: null };
    }
    const captions = ids.shape[1] / features.shape[0];
    if (!Number.isInteger(captions)) throw new GlimpseError(`${ids.shape[1]} captions cannot share the features of ${features.shape[0]} pictures evenly`);
    const decoded = this.decode(shareAll(this.encode(features, step), captions), ids, step);
    return { logits: this.logits(decoded, step), alpha: decoded.alpha, regionLogProb: decoded.regionLogProb };
  }

  /**
   * The loss: the weighted sum of the cross-entropies of all rows, plus the attention penalty. `ids` and `targets` are u32 [T, B];
   * `weights` is f32 [T, B], and 0 masks a row. `crossEntropy` is the loss without the penalty, for the log. `step` selects the
   * random numbers of a training step. Without it there is no dropout, label smoothing or scheduled sampling. `share` is this
   * batch's share of an update. With `packing`, which `packsCaptions` must allow, the words are [R].
   */
  loss(
    features: Tensor,
    ids: Tensor,
    targets: Tensor,
    weights: Tensor,
    { step = null, share: part = 1, packing = null }: { step?: DropoutStep | null; share?: number; packing?: Packing | null } = {},
  ): { loss: Tensor; crossEntropy: Tensor; rowLoss: Tensor } {
    using inner = scope(); // what the tape does not keep, such as the logits, is freed before the gradients are computed
    const { attentionPenalty: lambda, labelSmoothing, scheduledSampling } = this.options;
    if (packing && !packsCaptions(this.options)) throw new GlimpseError('the loss of these options needs captions that are not packed');
    const words = step && scheduledSampling > 0 ? this.withSampledWords(features, ids, step) : ids;
    const { logits, alpha, regionLogProb } = this.forward(features, words, step, packing);
    const { loss: crossEntropy, rowLoss } = ops.crossEntropy(logits, targets, weights, step ? labelSmoothing : 0);
    let loss = crossEntropy;
    const kept = () => {
      for (const each of new Set([loss, crossEntropy, rowLoss])) inner.keep(each);
      return { loss, crossEntropy, rowLoss };
    };
    if (packing) return kept();
    const [steps, batch] = ids.shape;
    const valid = ops.step(ops.square(ops.reshape(weights, [steps, batch, 1])));
    if (lambda > 0) {
      const coverage = ops.sum(ops.mul(alpha, valid), 0);
      const penalty = ops.mean(ops.square(ops.addScalar(ops.neg(coverage), 1)));
      loss = ops.add(loss, ops.scale(penalty, lambda * part));
    }
    if (step && regionLogProb) loss = ops.add(loss, hardAttentionLoss(regionLogProb, alpha, ops.reshape(valid, [steps, batch]), weights, rowLoss));
    return kept();
  }

  /**
   * Scheduled sampling (Bengio and others 2015) without a loop over steps (Duckworth and others 2019). A first pass on the true
   * words samples a word of the model for every position. It replaces the true word with the probability `step.ownWords`.
   */
  private withSampledWords(features: Tensor, ids: Tensor, step: DropoutStep): Tensor {
    return noGrad(() => {
      const [steps, batch] = ids.shape;
      const logProbs = ops.softmax(this.forward(features, ids, step).logits, true);
      const { seed } = step;
      const { token: word } = ops.sample(logProbs, {
        ...{ skipBelow: END, topK: 0, topP: 1, temperature: 1, seed },
        step: step.step,
        stream: streamOf('own words'),
      });
      return ops.mixTokens(ids, ops.reshape(word, [steps, batch]), {
        probability: step.ownWords ?? 0,
        ...{ seed, step: step.step, stream: streamOf('which words are own'), start: START, end: END },
      });
    });
  }

  /**
   * Must be called before `words` words are decoded. A word's part in the gates of layer 1 depends on the word alone. Once more
   * words were decoded than the vocabulary has, a table of all words costs less than a product at each step. Returns "word table"
   * if decoding uses the table, else an empty text. Captures are told apart by this.
   */
  prepareDecoding(words: number): string {
    const { cell } = this.options;
    if (isTransformer(this.options)) return '';
    const writes = ['emb', `${cell}1_w`, `${cell}1_b`]
      .map((name) => this.p(name).slice.buffer)
      .map(({ id, writes: count }) => `${id}:${count}`)
      .join();
    if (writes !== this.decoded.writes) {
      this.decoded = { words: 0, writes };
      if (this.wordTable) this.wordTable.current = false;
    }
    this.decoded.words += words;
    if (this.wordTable?.current) return 'word table';
    if (this.decoded.words <= this.sizes.vocabulary) return '';
    using _table = scope();
    const { vocabulary, embedding } = this.sizes;
    const rows = noGrad(() => this.wordGates(ops.reshape(this.p('emb'), [1, vocabulary, embedding])));
    this.wordTable ??= { rows: Scope.release(zeros(rows.shape.slice(1), 'f32', 'word table')), current: false };
    rows.gpu.copy(rows.slice, this.wordTable.rows.slice, 4 * rows.size);
    this.wordTable.current = true;
    return 'word table';
  }

  /** Begins captions of features [N, P, F], after `prepareDecoding`: their states, and `decodeStep` on them. */
  begin(features: Tensor, captions: number, keep: (x: Tensor) => Tensor): Begun {
    const { start: first, values, keys } = shareAll(this.encode(features), captions);
    const kept = keep(values);
    const encoded = { values: kept, keys: keys === values ? kept : keep(keys) };
    return { start: first, step: (start, previous) => this.decodeStep({ ...encoded, start }, previous) };
  }

  /** One step of decoding, after `prepareDecoding`: the previous words [1, B] and the states → logits [B, V], α [1, B, P], states. */
  decodeStep(encoded: Encoded, previous: Tensor): { logits: Tensor; alpha: Tensor; states: Tensor[] } {
    const decoded = this.wordTable?.current
      ? recur(this.sizes, this.options, (name) => this.p(name), encoded, ops.embedding(this.wordTable.rows, previous))
      : this.decode(encoded, previous, null);
    return { logits: this.logits(decoded, null), alpha: decoded.alpha, states: decoded.states };
  }

  dispose(): void {
    this.decoding.dispose();
    this.wordTable?.rows.dispose();
    this.parameters.dispose();
  }
}

/**
 * The term that teaches hard attention where to look: REINFORCE on the caption's log-likelihood (Xu and others 2015, equation 12),
 * plus the entropy of α. The baseline is the mean of the batch's other captions. Only the gradient has a meaning, not the value.
 *
 *   − Σ_b (R_b − mean of the other R) Σ_t log α_{t,b}(region) − λ Σ_{t,b} w_{t,b} H(α_{t,b}),     R_b = − the caption's part of the loss
 *
 * regionLogProb, valid, weights [T, B]; alpha [T, B, P]; rowLoss [T · B].
 */
function hardAttentionLoss(regionLogProb: Tensor, alpha: Tensor, valid: Tensor, weights: Tensor, rowLoss: Tensor): Tensor {
  const advantage = noGrad(() => {
    const reward = ops.neg(ops.sum(ops.reshape(rowLoss, valid.shape), 0));
    return reward.size > 1 ? ops.scale(ops.sub(reward, ops.mean(reward)), reward.size / (reward.size - 1)) : reward;
  });
  const reinforce = ops.sum(ops.mul(ops.sum(ops.mul(regionLogProb, valid), 0), advantage));
  const entropy = ops.neg(ops.sum(ops.mul(alpha, ops.log(ops.addScalar(alpha, 1e-20))), 2));
  return ops.neg(ops.add(reinforce, ops.scale(ops.sum(ops.mul(entropy, weights)), ENTROPY_WEIGHT)));
}
