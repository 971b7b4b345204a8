/**
 * A Transformer decoder (Vaswani and others 2017) in place of the recurrent layers, normalized before each part (Xiong and
 * others 2020). x is the embedded words plus the encodings of their positions. Each layer does
 *
 *   x ← x + Self(LN(x));   x ← x + Cross(LN(x), a);   x ← x + W2 ReLU(LN(x) W1 + b1) + b2
 *
 *   attention with h heads of width d:  softmax(Q Kᵀ / √d) V;  Self sees the words so far, Cross the picture's regions
 *
 * One function serves training and decoding. In training, all words of a caption go through at once, behind a causal mask. In
 * decoding, one word goes through; the keys and values of the words before it are its states.
 */
import * as ops from '../../autograd/ops/index.ts';
import { GlimpseError } from '../../errors.ts';
import { constant, glorotUniform, type Initializer, zerosInit } from '../../nn/initializers.ts';
import { type Tensor, tensor } from '../../tensor/tensor.ts';
import type { CaptionerOptions } from '../training/options.ts';
import type { Encoded } from './recurrence.ts';

export type TransformerOptions = Pick<CaptionerOptions, 'layers' | 'heads'>;

type Widths = { project: number; hidden: number; embedding: number };

/** Inner width of the feed-forward part, in widths of the layer. */
const FEED_FORWARD = 4;
/** Added to a masked score. It is far below any other score, and sums stay finite. */
const MASKED = -1e30;

/** Parameters with shapes and initializers. One product with `memory_w` gives the picture's keys and values for all layers. */
export function transformerTable({ project, hidden, embedding }: Widths, { layers, heads }: TransformerOptions): [string, number[], Initializer][] {
  if (hidden % heads !== 0) throw new GlimpseError(`${heads} heads do not share a width of ${hidden} evenly`);
  const linear = (name: string, from: number, to: number): [string, number[], Initializer][] => [
    [`${name}_w`, [from, to], glorotUniform],
    [`${name}_b`, [to], zerosInit],
  ];
  const norm = (name: string): [string, number[], Initializer][] => [
    [`${name}_g`, [hidden], constant(1)],
    [`${name}_b`, [hidden], zerosInit],
  ];
  return [
    ...linear('word', embedding, hidden),
    ...linear('memory', project, layers * 2 * hidden),
    ...Array.from({ length: layers }, (_, i) => [
      ...norm(`layer${i}.norm1`),
      ...linear(`layer${i}.self`, hidden, 3 * hidden),
      ...linear(`layer${i}.self_out`, hidden, hidden),
      ...norm(`layer${i}.norm2`),
      ...linear(`layer${i}.query`, hidden, hidden),
      ...linear(`layer${i}.cross_out`, hidden, hidden),
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
  /** The last layer's attention to the picture, averaged over its heads, [T, B, P]. */
  alpha: Tensor;
  /** Keys and values of the words so far: two tensors [B, words · H] for each layer. */
  states: Tensor[];
}

/**
 * Runs the layers on embedded words [T, B, E]. They follow the words whose keys and values are in `encoded.start`. `drop` applies
 * the dropout of a name, or does nothing.
 */
export function transform(
  { hidden }: Widths,
  { layers, heads }: TransformerOptions,
  p: (name: string) => Tensor,
  encoded: Encoded,
  words: Tensor,
  drop: (x: Tensor, name: string) => Tensor,
): Transformed {
  const [steps, batch] = words.shape;
  const past = encoded.start.length > 0 ? encoded.start[0].shape[1] / hidden : 0;
  const rows = batch * steps;
  const linear = (x: Tensor, name: string, relu = false) =>
    ops.reshape(ops.matmul(ops.reshape(x, [rows, x.shape[2]]), p(`${name}_w`), { bias: p(`${name}_b`), relu }), [batch, steps, p(`${name}_b`).size]);
  const norm = (x: Tensor, name: string) => ops.layerNorm(x, p(`${name}_g`), p(`${name}_b`));
  const part = (x: Tensor, which: number) => ops.slice(x, [0, 0, which * hidden], [x.shape[0], x.shape[1], hidden]);
  const after = (state: Tensor | undefined, x: Tensor) => (state ? ops.concat([ops.reshape(state, [batch, past, hidden]), x], 1) : x);
  const mask = steps > 1 ? causalMask(steps, past) : null;

  let x = ops.add(linear(ops.transpose(words, [1, 0, 2]), 'word'), positionalEncoding(past, steps, hidden));
  x = drop(x, 'words in place');
  const states: Tensor[] = [];
  let alpha: Tensor | null = null;
  for (let i = 0; i < layers; i++) {
    const own = linear(norm(x, `layer${i}.norm1`), `layer${i}.self`);
    const [k, v] = [after(encoded.start[2 * i], part(own, 1)), after(encoded.start[2 * i + 1], part(own, 2))];
    states.push(...[k, v].map((each) => ops.reshape(each, [batch, (past + steps) * hidden])));
    // With a mask, as in training, the gradient of the fused op is slower than that of the products on software drivers.
    const heard = mask ? attention(part(own, 0), k, v, heads, mask).out : attentionOnly(part(own, 0), k, v, heads);
    x = ops.add(x, drop(linear(heard, `layer${i}.self_out`), `layer ${i}, words`));
    const query = linear(norm(x, `layer${i}.norm2`), `layer${i}.query`);
    const [keys, memory] = [part(encoded.keys, 2 * i), part(encoded.keys, 2 * i + 1)];
    const isLast = i === layers - 1; // only its weights are shown
    const shown = isLast ? attention(query, keys, memory, heads, null) : null;
    const seen = shown?.out ?? attentionOnly(query, keys, memory, heads);
    x = ops.add(x, drop(linear(seen, `layer${i}.cross_out`), `layer ${i}, picture`));
    x = ops.add(x, drop(linear(linear(norm(x, `layer${i}.norm3`), `layer${i}.inner`, true), `layer${i}.outer`), `layer ${i}, feed-forward`));
    alpha = shown?.weights ?? null;
  }
  if (!alpha) throw new GlimpseError('a transformer has at least one layer');
  return { output: ops.transpose(norm(x, 'final'), [1, 0, 2]), alpha: ops.transpose(ops.mean(alpha, 1), [1, 0, 2]), states };
}
