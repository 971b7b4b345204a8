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

/** q [B, T, H], k and v [B, S, H] → [B, T, H], and the weights [B, heads, T, S]. */
function attention(q: Tensor, k: Tensor, v: Tensor, heads: number, mask: Tensor | null): { out: Tensor; weights: Tensor } {
  const [batch, steps, width] = q.shape;
  const each = width / heads;
  const split = (x: Tensor) => {
    const count = x.shape[1];
    return ops.reshape(ops.transpose(ops.reshape(x, [batch, count, heads, each]), [0, 2, 1, 3]), [batch * heads, count, each]);
  };
  const scores = ops.scale(ops.matmul(split(q), split(k), { transB: true }), 1 / Math.sqrt(each));
  const weights = ops.softmax(mask ? ops.add(scores, mask) : scores);
  const joined = ops.transpose(ops.reshape(ops.matmul(weights, split(v)), [batch, heads, steps, each]), [0, 2, 1, 3]);
  return { out: ops.reshape(joined, [batch, steps, width]), weights: ops.reshape(weights, [batch, heads, steps, k.shape[1]]) };
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
    x = ops.add(x, drop(linear(attention(part(own, 0), k, v, heads, mask).out, `layer${i}.self_out`), `layer ${i}, words`));
    const query = linear(norm(x, `layer${i}.norm2`), `layer${i}.query`);
    const seen = attention(query, part(encoded.keys, 2 * i), part(encoded.keys, 2 * i + 1), heads, null);
    x = ops.add(x, drop(linear(seen.out, `layer${i}.cross_out`), `layer ${i}, picture`));
    x = ops.add(x, drop(linear(linear(norm(x, `layer${i}.norm3`), `layer${i}.inner`, true), `layer${i}.outer`), `layer ${i}, feed-forward`));
    alpha = seen.weights;
  }
  if (!alpha) throw new GlimpseError('a transformer has at least one layer');
  return { output: ops.transpose(norm(x, 'final'), [1, 0, 2]), alpha: ops.transpose(ops.mean(alpha, 1), [1, 0, 2]), states };
}
