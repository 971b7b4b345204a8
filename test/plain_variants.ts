/**
 * The decoders that plain.ts leaves out, in float64 loops from its pieces: the other orders, scores and queries, GRUs, hard
 * attention, the transformers.
 */
import type { Captioner, CaptionerOptions, CaptionerSizes } from '../src/model/captioner/captioner.ts';
import {
  addProduct,
  attend,
  linear,
  lstmCell,
  type Picture,
  PlainCaptioner,
  row,
  type State as StackedState,
  sigmoid,
  softmax,
  type Vector,
} from '../src/model/captioner/plain.ts';
import { stateCount } from '../src/model/captioner/recurrence.ts';

export type Weights = ReadonlyMap<string, { data: Vector }>;

/** What a step gives: logits [V] of the next word, and the attention weights α [P]. */
export interface Scores {
  logits: Float64Array;
  alpha: Float64Array;
}

/** A caption so far: the word just said leads to scores of the next one, and to the caption that is longer by it. */
export interface Prefix {
  say(word: number): Scores & { after: Prefix };
}

/** h and c of each LSTM (h of each GRU), in order; for a transformer the embedded words so far [words, E]. */
type State = Vector[];

const concat = (...parts: Vector[]): Float64Array => Float64Array.from(parts.flatMap((part) => [...part]));
const rows = (x: Vector, width: number): Vector[] => Array.from({ length: x.length / width }, (_, i) => row(x, i, width));
const meanOf = (list: Vector[]): Float64Array => Float64Array.from(list[0], (_, j) => list.reduce((sum, x) => sum + x[j] / list.length, 0));
const plus = (x: Vector, y: Vector): Float64Array => Float64Array.from(x, (value, i) => value + y[i]);
const total = (x: Iterable<number>): number => [...x].reduce((sum, value) => sum + value, 0);
const dot = (x: Vector, y: Vector): number => total(Float64Array.from(x, (value, i) => value * y[i]));

/** [r|z|n] of x W + b and of h U;  n = tanh(n_x + σ(r) n_h);   h ← (1 − σ(z)) n + σ(z) h. */
function gruCell(x: Vector, h: Vector, w: Vector, u: Vector, b: Vector): Float64Array {
  const H = h.length;
  const gx = linear(x, w, b);
  const gh = new Float64Array(3 * H);
  addProduct(gh, h, u);
  return Float64Array.from(h, (before, j) => {
    const r = sigmoid(gx[j] + gh[j]);
    const z = sigmoid(gx[H + j] + gh[H + j]);
    const n = Math.tanh(gx[2 * H + j] + r * gh[2 * H + j]);
    return (1 - z) * n + z * before;
  });
}

/** x ← g (x − mean) / √(variance + ε) + b. */
function layerNorm(x: Vector, gain: Vector, bias: Vector): Float64Array {
  const mean = total(x) / x.length;
  const variance = total(Float64Array.from(x, (value) => (value - mean) ** 2)) / x.length;
  return Float64Array.from(x, (value, j) => (gain[j] * (value - mean)) / Math.sqrt(variance + 1e-5) + bias[j]);
}

export class PlainVariant {
  constructor(
    private readonly sizes: CaptionerSizes,
    private readonly options: CaptionerOptions,
    private readonly weights: Weights,
  ) {}

  p(name: string): Vector {
    const found = this.weights.get(name);
    if (!found) throw new Error(`the weights have no "${name}"`);
    return found.data;
  }

  encode(features: Vector): { picture: Picture; start: State } {
    const { features: F, hidden: H } = this.sizes;
    const isLanguageModel = this.options.decoder === 'gpt2';
    const a = rows(features, F).map((x) => linear(x, this.p('enc_w'), this.p('enc_b')).map((value) => (isLanguageModel ? value : Math.max(0, value))));
    if (isLanguageModel || this.options.decoder === 'transformer')
      return { picture: { values: concat(...a), keys: new Float64Array(0) }, start: [new Float64Array(0)] };
    const keys = a.map((x) => linear(x, this.p('w1'), this.p('b1')));
    const count = stateCount(this.options);
    const all = this.options.learnedStart ? linear(meanOf(a), this.p('start_w'), this.p('start_b')).map(Math.tanh) : new Float64Array(count * H);
    return { picture: { values: concat(...a), keys: concat(...keys) }, start: rows(all, H) };
  }

  /** Attention with a state as query: soft, or at the likeliest region; gated where the model is. */
  attend(picture: Picture, state: Vector): { alpha: Float64Array; context: Float64Array } {
    const squash = this.options.score === 'relu' ? (x: number) => Math.max(0, x) : Math.tanh;
    const { alpha, context: soft } = attend(picture, linear(state, this.p('w2'), this.p('b2')), this.p('v'), this.p('bv'), squash);
    const likeliest = alpha.indexOf(Math.max(...alpha));
    const context = this.options.attention === 'hard' ? row(picture.values, likeliest, this.sizes.project) : soft;
    const beta = this.options.gate ? sigmoid(linear(state, this.p('gate_w'), this.p('gate_b'))[0]) : 1;
    return { alpha, context: Float64Array.from(context, (value) => beta * value) };
  }

  /** A layer's states after a step, from its input and its states before. */
  cell(layer: 1 | 2, x: Vector, before: State): State {
    const [w, u, b] = ['w', 'u', 'b'].map((name) => this.p(`${this.options.cell}${layer}_${name}`));
    if (this.options.cell === 'gru') return [gruCell(x, before[0], w, u, b)];
    const { h, c } = lstmCell(x, { h: before[0], c: before[1] }, w, u, b);
    return [h, c];
  }

  logits(output: Vector, context: Vector): Float64Array {
    return linear(this.options.contextToOutput ? concat(output, context) : output, this.p('out_w'), this.p('out_b'));
  }

  step(picture: Picture, state: State, id: number): Scores & { state: State } {
    const { decoder, query } = this.options;
    const word = row(this.p('emb'), id, this.sizes.embedding);
    if (decoder === 'transformer' || decoder === 'gpt2') return this.transform(picture.values, state[0], word);
    const [first, second] = [state.slice(0, state.length / 2), state.slice(state.length / 2)];
    if (decoder === 'show-attend-tell') {
      const { alpha, context } = this.attend(picture, state[0]);
      const next = this.cell(1, concat(context, word), state);
      return { logits: this.logits(next[0], context), alpha, state: next };
    }
    if (decoder === 'up-down') {
      const lower = this.cell(1, concat(second[0], meanOf(rows(picture.values, this.sizes.project)), word), first);
      const { alpha, context } = this.attend(picture, lower[0]);
      const upper = this.cell(2, concat(context, lower[0]), second);
      return { logits: this.logits(upper[0], context), alpha, state: [...lower, ...upper] };
    }
    const { alpha, context } = this.attend(picture, query === 'h1' ? first[0] : second[0]);
    const lower = this.cell(1, concat(context, word), first);
    const upper = this.cell(2, lower[0], second);
    return { logits: this.logits(upper[0], context), alpha, state: [...lower, ...upper] };
  }

  /** All words from the first on, without a cache: decoding with one is to give the same. α is the mean of the last layer's heads. */
  private transform(values: Vector, before: Vector, word: Vector): Scores & { state: State } {
    const { project: D, hidden: H, embedding: E } = this.sizes;
    const { heads, layers, decoder, pictureAs } = this.options;
    const isLanguageModel = decoder === 'gpt2';
    const crosses = !isLanguageModel || pictureAs === 'cross-attention';
    const words = concat(before, word);
    const layer = (x: Vector, name: string) => linear(x, this.p(`${name}_w`), this.p(`${name}_b`));
    const norm = (x: Vector, name: string) => layerNorm(x, this.p(`${name}_g`), this.p(`${name}_b`));
    let alpha: Float64Array = new Float64Array(values.length / D);

    /** softmax(q Kᵀ / √d) V for each head, the heads' outputs next to each other; and the mean of the heads' weights. */
    const attention = (q: Vector, keys: Vector[], vals: Vector[]): { out: Float64Array; weights: Float64Array } => {
      const d = H / heads;
      const out: Vector[] = [];
      const weights: Float64Array[] = [];
      for (let h = 0; h < heads; h++) {
        const share = softmax(Float64Array.from(keys, (key) => dot(row(q, h, d), row(key, h, d)) / Math.sqrt(d)));
        const mixed = new Float64Array(d);
        addProduct(mixed, share, concat(...vals.map((value) => row(value, h, d))));
        out.push(mixed);
        weights.push(share);
      }
      return { out: concat(...out), weights: meanOf(weights) };
    };

    const inPlace = (each: Vector, place: number): Float64Array => {
      if (isLanguageModel) return plus(each, row(this.p('positions'), place, H));
      return layer(each, 'word').map((value, k) => {
        const angle = place / 10_000 ** ((2 * Math.floor(k / 2)) / H);
        return value + (k % 2 === 0 ? Math.sin(angle) : Math.cos(angle));
      });
    };
    const regions = values.length / D;
    let x: Float64Array[] = [...(crosses ? [] : rows(values, D)), ...rows(words, E)].map(inPlace);
    const memory = crosses ? rows(values, D).map((a) => rows(layer(a, 'memory'), H)) : [];
    const gelu = (value: number) => 0.5 * value * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (value + 0.044715 * value ** 3)));
    for (let l = 0; l < layers; l++) {
      const own = x.map((each) => rows(layer(norm(each, `layer${l}.norm1`), `layer${l}.self`), H)); // [q, k, v] of every word
      x = x.map((each, i) => {
        const seen = own.slice(0, i + 1); // a word sees itself and those before
        const { out, weights } = attention(
          own[i][0],
          seen.map((parts) => parts[1]),
          seen.map((parts) => parts[2]),
        );
        const ofRegions = weights.slice(0, regions);
        if (!crosses) alpha = ofRegions.map((value) => value / total(ofRegions));
        return plus(each, layer(out, `layer${l}.self_out`));
      });
      if (crosses)
        x = x.map((each) => {
          const { out, weights } = attention(
            layer(norm(each, `layer${l}.norm2`), `layer${l}.query`),
            memory.map((parts) => parts[2 * l]),
            memory.map((parts) => parts[2 * l + 1]),
          );
          alpha = weights;
          return plus(each, layer(out, `layer${l}.cross_out`));
        });
      x = x.map((each) => {
        const inner = layer(norm(each, `layer${l}.norm3`), `layer${l}.inner`).map((value) => (isLanguageModel ? gelu(value) : Math.max(0, value)));
        return plus(each, layer(inner, `layer${l}.outer`));
      });
    }
    const output = norm(x[x.length - 1], 'final');
    const scores = () =>
      plus(
        Float64Array.from(rows(this.p('emb'), E), (each) => dot(each, output)),
        this.p('out_b'),
      );
    return { logits: isLanguageModel ? scores() : layer(output, 'out'), alpha, state: [words] };
  }
}

/** The model in float64, of the weights that it has now: what begins the caption of a picture with these features. */
export async function oracleOf(model: Captioner): Promise<(features: Vector) => Prefix> {
  const { sizes, options } = model;
  const weights: Weights = await model.parameters.read();
  const { decoder, cell, score, query, attention, contextToOutput } = options;
  const isPlain = decoder === 'stacked' && cell === 'lstm' && score === 'tanh' && query === 'h2' && attention === 'soft' && !contextToOutput;
  const start = <S>(
    plain: { encode(x: Vector): { picture: Picture; start: S }; step(picture: Picture, state: S, word: number): Scores & { state: S } },
    x: Vector,
  ) => {
    const { picture, start: first } = plain.encode(x);
    const prefix = (before: S): Prefix => ({
      say: (word) => {
        const { logits, alpha, state } = plain.step(picture, before, word);
        return { logits, alpha, after: prefix(state) };
      },
    });
    return prefix(first);
  };
  if (!isPlain) return (features) => start<State>(new PlainVariant(sizes, options, weights), features);
  return (features) => start<StackedState>(new PlainCaptioner(sizes, options, weights), features);
}
