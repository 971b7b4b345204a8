/**
 * Transformer decoders in place of the recurrent layers, normalized before each part (Xiong and others 2020). Each layer does
 *
 *   x ← x + Self(LN(x));   x ← x + Cross(LN(x), a);   x ← x + act(LN(x) W1 + b1) W2 + b2
 *
 *   attention with h heads of width d:  softmax(Q Kᵀ / √d) V;  Self sees the words so far, Cross the picture's regions
 *
 * There are two kinds. They differ in what x is at first, in act, and in how words are scored:
 *
 *   transformer (Vaswani and others 2017)   x = e Ww + bw + sines and cosines of the positions;  act = ReLU;  logits = x Wo + bo
 *   gpt2 (Radford and others 2019)          x = e + learned vectors of the positions;  act = GELU;  logits = x Embᵀ + bo
 *
 * `gpt2` has the weights of a language model (language_model.ts). It sees the picture in one of two ways. With `cross-attention`, its
 * layers have the part Cross, whose last product starts at zero: at first the model says what the language model says. With `prefix`,
 * layers have no part Cross. The projected regions stand before the words, as words do (Mokady and others 2021, ClipCap).
 *
 * One function serves training and decoding. In training, all words of a caption go through at once, behind a causal mask. In
 * decoding, one word goes through; the keys and values of the words before it are its states. A prefix has keys and values like words,
 * which are computed once per picture.
 */
import * as ops from '../../autograd/ops/index.ts';
import { END } from '../../data/words.ts';
import { GlimpseError } from '../../errors.ts';
import { constant, glorotUniform, type Initializer, uniform, zerosInit } from '../../nn/initializers.ts';
import { type Tensor, tensor } from '../../tensor/tensor.ts';
import type { CaptionerOptions } from '../training/options.ts';
import type { CaptionerSizes } from './captioner.ts';
import type { Encoded } from './recurrence.ts';

export type TransformerOptions = Pick<CaptionerOptions, 'decoder' | 'layers' | 'heads' | 'pictureAs'>;

type Widths = Pick<CaptionerSizes, 'project' | 'hidden' | 'embedding' | 'positions'>;
type Row = [string, number[], Initializer];

/** Inner width of the feed-forward part, in widths of the layer. */
const FEED_FORWARD = 4;
/** Added to a masked score. It is far below any other score, and sums stay finite. */
export const MASKED = -1e30;

/** Whether the decoder goes on from a language model. */
export const isLanguageModel = ({ decoder }: Pick<CaptionerOptions, 'decoder'>): boolean => decoder === 'gpt2';

/** Whether a decoder has layers of attention in place of the recurrence. */
export const isTransformer = (options: Pick<CaptionerOptions, 'decoder'>): boolean => options.decoder === 'transformer' || isLanguageModel(options);

/** Whether the regions stand before the words. */
export const hasPrefix = (options: Pick<CaptionerOptions, 'decoder' | 'pictureAs'>): boolean => isLanguageModel(options) && options.pictureAs === 'prefix';

const LANGUAGE = /^(emb|positions|final_[gb]|layer\d+\.(norm1|self|self_out|norm3|inner|outer)_[gwb])$/;
/** Whether a parameter of `gpt2` is of the language model itself, and not of what shows it the picture. */
export const isOfLanguageModel = (name: string): boolean => LANGUAGE.test(name);

/** The special words but endseq are never said: their scores are this far below all others. It is a number in float16, too. */
const NEVER = -1e4;
export const neverSpecial: Initializer = ([words]) => Float32Array.from({ length: words }, (_, id) => (id < END ? NEVER : 0));

/**
 * Parameters with shapes and initializers, but for those of the features, the words and the transformer's scores. One product with
 * `memory_w` gives the picture's keys and values for all layers.
 */
export function transformerTable({ project, hidden, embedding, positions = 0 }: Widths, options: TransformerOptions): Row[] {
  const { layers, heads } = options;
  if (hidden % heads !== 0) throw new GlimpseError(`${heads} heads do not share a width of ${hidden} evenly`);
  const linear = (name: string, from: number, to: number, initializer: Initializer = glorotUniform): Row[] => [
    [`${name}_w`, [from, to], initializer],
    [`${name}_b`, [to], zerosInit],
  ];
  const norm = (name: string): Row[] => [
    [`${name}_g`, [hidden], constant(1)],
    [`${name}_b`, [hidden], zerosInit],
  ];
  const isPretrained = isLanguageModel(options);
  const crosses = !hasPrefix(options);
  const cross = (i: number): Row[] => [
    ...norm(`layer${i}.norm2`),
    ...linear(`layer${i}.query`, hidden, hidden),
    ...linear(`layer${i}.cross_out`, hidden, hidden, isPretrained ? zerosInit : glorotUniform),
  ];
  return [
    ...(isPretrained ? [['positions', [positions, hidden], uniform(-0.05, 0.05)] as Row] : linear('word', embedding, hidden)),
    ...(crosses ? linear('memory', project, layers * 2 * hidden) : []),
    ...Array.from({ length: layers }, (_, i) => [
      ...norm(`layer${i}.norm1`),
      ...linear(`layer${i}.self`, hidden, 3 * hidden),
      ...linear(`layer${i}.self_out`, hidden, hidden),
      ...(crosses ? cross(i) : []),
      ...norm(`layer${i}.norm3`),
      ...linear(`layer${i}.inner`, hidden, FEED_FORWARD * hidden),
      ...linear(`layer${i}.outer`, FEED_FORWARD * hidden, hidden),
    ]).flat(),
    ...norm('final'),
  ];
}

/** Sines and cosines of the positions first … first + count − 1, [count, width]. */
function positionalEncoding(first: number, count: number, width: number): Tensor {
  const values = Float32Array.from({ length: count * width }, (_, i) => {
    const [position, k] = [first + Math.floor(i / width), i % width];
    const angle = position / 10_000 ** ((2 * Math.floor(k / 2)) / width);
    return k % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
  });
  return tensor(values, [count, width]);
}

/** Row i sees the columns up to past + i: 0 there, else `MASKED`. [count, past + count]. */
function causalMask(count: number, past: number): Tensor {
  const columns = past + count;
  return tensor(
    Float32Array.from({ length: count * columns }, (_, i) => (i % columns <= past + Math.floor(i / columns) ? 0 : MASKED)),
    [count, columns],
  );
}

/** The heads apart: [B, S, H] → [B, heads, S, H / heads]. */
function apart(x: Tensor, heads: number): Tensor {
  const [batch, count, width] = x.shape;
  return ops.transpose(ops.reshape(x, [batch, count, heads, width / heads]), [0, 2, 1, 3]);
}

/** The heads side by side again: [B, heads, T, H / heads] → [B, T, H]. */
function together(x: Tensor): Tensor {
  const [batch, heads, steps, each] = x.shape;
  return ops.reshape(ops.transpose(x, [0, 2, 1, 3]), [batch, steps, heads * each]);
}

/** q [B, T, H], k and v [B, S, H] → [B, T, H], and the weights [B, heads, T, S], which pictures of the attention show. */
function attention(q: Tensor, k: Tensor, v: Tensor, heads: number, mask: Tensor | null): { out: Tensor; weights: Tensor } {
  const [a, b, c] = [q, k, v].map((x) => apart(x, heads));
  const scores = ops.scale(ops.matmul(a, b, { transB: true }), 1 / Math.sqrt(a.shape[3]));
  const weights = ops.softmax(mask ? ops.add(scores, mask) : scores);
  return { out: together(ops.matmul(weights, c)), weights };
}

/** As `attention`, where nobody looks at the weights: they are never stored. */
function attentionOnly(q: Tensor, k: Tensor, v: Tensor, heads: number): Tensor {
  const [a, b, c] = [q, k, v].map((x) => apart(x, heads));
  return together(ops.scaledDotProductAttention(a, b, c));
}

/** Keys and values of the picture for every layer: a [N, P, D] → [N, P, layers · 2H]. */
export function transformerMemory(p: (name: string) => Tensor, rows: Tensor, pictures: number): Tensor {
  const memory = ops.matmul(rows, p('memory_w'), { bias: p('memory_b') });
  return ops.reshape(memory, [pictures, rows.shape[0] / pictures, memory.shape[1]]);
}

export interface Transformed {
  /** [T, B, H] */
  output: Tensor;
  /** The last layer's attention to the picture, averaged over its heads, [T, B, P]. With a prefix, its share of the attention is left out. */
  alpha: Tensor;
  /** Keys and values of the words so far: two tensors [B, words · H] for each layer. */
  states: Tensor[];
}

/** Applies the dropout of a name, or does nothing. */
type Drop = (x: Tensor, name: string) => Tensor;
type Lookup = (name: string) => Tensor;

/** Scores of the words for rows [n, H] of a language model, [n, V]: the embedding says words as it hears them. */
export const languageScores = (p: Lookup, rows: Tensor): Tensor => ops.matmul(rows, p('emb'), { transB: true, bias: p('out_b') });

/** x [B, T, H] plus the learned vectors of the positions from `past` on. Throws a GlimpseError if there are fewer. */
function inLearnedPlace(p: Lookup, x: Tensor, past: number): Tensor {
  const [, steps, hidden] = x.shape;
  const positions = p('positions');
  if (past + steps > positions.shape[0])
    throw new GlimpseError(`the language model has ${positions.shape[0]} positions; a picture and its caption need ${past + steps}`);
  return ops.add(x, ops.reshape(ops.slice(positions, [past, 0], [steps, hidden]), [1, steps, hidden]));
}

type Layered = Omit<Transformed, 'alpha'> & { seen: Tensor | null; heard: Tensor | null };

/**
 * The layers on x [B, T, H], which follows the words whose keys and values are `before`. `memory` has the picture's keys and values
 * [B, P, layers · 2H], or is null. Returns the sum x [B, T, H], the states, and the last layer's weights: of the regions `seen` and
 * of the words `heard`, [B, heads, T, …]. With `statesOnly`, the last layer stops once it has its keys and values.
 */
function layered(
  { hidden }: Pick<Widths, 'hidden'>,
  options: TransformerOptions,
  p: Lookup,
  { before, memory }: { before: readonly Tensor[]; memory: Tensor | null },
  first: Tensor,
  drop: Drop,
  statesOnly = false,
): Layered {
  const { layers, heads } = options;
  const [batch, steps] = first.shape;
  const past = before.length > 0 ? before[0].shape[1] / hidden : 0;
  const rows = batch * steps;
  const linear = (x: Tensor, name: string, relu = false) =>
    ops.reshape(ops.matmul(ops.reshape(x, [rows, x.shape[2]]), p(`${name}_w`), { bias: p(`${name}_b`), relu }), [batch, steps, p(`${name}_b`).size]);
  const norm = (x: Tensor, name: string) => ops.layerNorm(x, p(`${name}_g`), p(`${name}_b`));
  const part = (x: Tensor, which: number) => ops.slice(x, [0, 0, which * hidden], [x.shape[0], x.shape[1], hidden]);
  const after = (state: Tensor | undefined, x: Tensor) => (state ? ops.concat([ops.reshape(state, [batch, past, hidden]), x], 1) : x);
  const mask = steps > 1 ? causalMask(steps, past) : null;

  let x = first;
  const states: Tensor[] = [];
  let [seen, heard]: (Tensor | null)[] = [null, null];
  for (let i = 0; i < layers; i++) {
    const isLast = i === layers - 1;
    const own = linear(norm(x, `layer${i}.norm1`), `layer${i}.self`);
    const [k, v] = [after(before[2 * i], part(own, 1)), after(before[2 * i + 1], part(own, 2))];
    states.push(...[k, v].map((each) => ops.reshape(each, [batch, (past + steps) * hidden])));
    if (isLast && statesOnly) break;
    // With a mask, as in training, the gradient of the fused op is slower than that of the products on software drivers.
    const shown = mask || (isLast && !memory) ? attention(part(own, 0), k, v, heads, mask) : null;
    heard = shown?.weights ?? null;
    x = ops.add(x, drop(linear(shown?.out ?? attentionOnly(part(own, 0), k, v, heads), `layer${i}.self_out`), `layer ${i}, words`));
    if (memory) {
      const query = linear(norm(x, `layer${i}.norm2`), `layer${i}.query`);
      const [keys, values] = [part(memory, 2 * i), part(memory, 2 * i + 1)];
      const looked = isLast ? attention(query, keys, values, heads, null) : null; // only the last layer's weights are shown
      seen = looked?.weights ?? null;
      x = ops.add(x, drop(linear(looked?.out ?? attentionOnly(query, keys, values, heads), `layer${i}.cross_out`), `layer ${i}, picture`));
    }
    const inner = norm(x, `layer${i}.norm3`);
    const active = isLanguageModel(options) ? ops.geluTanh(linear(inner, `layer${i}.inner`)) : linear(inner, `layer${i}.inner`, true);
    x = ops.add(x, drop(linear(active, `layer${i}.outer`), `layer ${i}, feed-forward`));
  }
  return { output: x, states, seen, heard };
}

/** Keys and values of the regions that stand before the words: a [N, P, H] → two tensors [N, P · H] for each layer. */
export function prefixStates(sizes: Widths, options: TransformerOptions, p: Lookup, regions: Tensor, drop: Drop): Tensor[] {
  const x = drop(inLearnedPlace(p, regions, 0), 'regions in place');
  return layered(sizes, options, p, { before: [], memory: null }, x, (y, name) => drop(y, `regions, ${name}`), true).states;
}

/** The share of each region in the attention to a prefix: weights [B, heads, T, past + T] → [T, B, P]. */
function regionsOf(weights: Tensor, regions: number): Tensor {
  const [batch, heads, steps] = weights.shape;
  const mean = ops.mean(ops.slice(weights, [0, 0, 0, 0], [batch, heads, steps, regions]), 1);
  const total = ops.reshape(ops.sum(mean, 2), [batch, steps, 1]);
  return ops.transpose(ops.div(mean, total), [1, 0, 2]);
}

/** Runs the layers on embedded words [T, B, E]. They follow the words whose keys and values are in `encoded.start`. */
export function transform(sizes: Widths, options: TransformerOptions, p: Lookup, encoded: Encoded, words: Tensor, drop: Drop): Transformed {
  const { hidden } = sizes;
  const [steps, batch, embedding] = words.shape;
  const past = encoded.start.length > 0 ? encoded.start[0].shape[1] / hidden : 0;
  const byCaption = ops.transpose(words, [1, 0, 2]);
  const projected = () =>
    ops.reshape(ops.matmul(ops.reshape(byCaption, [batch * steps, embedding]), p('word_w'), { bias: p('word_b') }), [batch, steps, hidden]);
  const inPlace = isLanguageModel(options) ? inLearnedPlace(p, byCaption, past) : ops.add(projected(), positionalEncoding(past, steps, hidden));
  const memory = hasPrefix(options) ? null : encoded.keys;
  const { output, states, seen, heard } = layered(sizes, options, p, { before: encoded.start, memory }, drop(inPlace, 'words in place'), drop);
  const alpha = seen ? ops.transpose(ops.mean(seen, 1), [1, 0, 2]) : heard && regionsOf(heard, encoded.values.shape[1]);
  if (!alpha) throw new GlimpseError('a transformer has at least one layer');
  return { output: ops.transpose(ops.layerNorm(output, p('final_g'), p('final_b')), [1, 0, 2]), alpha, states };
}
