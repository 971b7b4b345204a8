/**
 * What is timed, as plain data: the same record goes to our kernels and, through a pipe, to every peer. Inputs are made by
 * one formula on both sides, so that the results of the timed runs can be compared.
 */
import { drawn } from '../src/autograd/draw.ts';
import { Random } from '../src/random.ts';
import type { Check } from './reference.ts';

export interface ConvShape {
  images: number;
  height: number;
  width: number;
  channels: number;
  outChannels: number;
  kernel: number;
  stride: number;
  pad: number;
}

/** Pictures, regions, and the widths of keys and values. */
export interface AttentionShape {
  batch: number;
  regions: number;
  keys: number;
  values: number;
}

/** Pictures, heads, queries and keys of each, and their width, which values have too. */
export interface DotProductShape {
  batch: number;
  heads: number;
  queries: number;
  keys: number;
  width: number;
}

/** Any op of the table, forward, by its name. */
export interface OpWork {
  kind: 'op';
  op: string;
  shapes: number[][];
  attrs: Record<string, unknown> | null;
  /** How operands are drawn, as in the op's cases; without it they are the numbers that peers get. */
  draw?: string[];
}

export interface DecoderShape {
  batch: number;
  /** Words per caption. */
  steps: number;
  regions: number;
  features: number;
  vocabulary: number;
  /** Ours only: replay captured commands instead of going through the ops each time, and decode with one readback, not one per word. */
  replayed: boolean;
}

/** A vision transformer: blocks, width of a token, heads, width within the perceptron of a block, classes. */
export interface VitShape {
  blocks: number;
  width: number;
  heads: number;
  hidden: number;
  classes: number;
}

export type Work =
  | { kind: 'matmul'; m: number; n: number; k: number; transA: boolean; transB: boolean }
  | ({ kind: 'conv' | 'convGradInput' | 'convGradWeight' } & ConvShape)
  | { kind: 'softmax' | 'crossEntropyGrad'; rows: number; columns: number }
  | { kind: 'lstmCell' | 'lstmCellGrad'; rows: number; hidden: number }
  | ({ kind: 'attention' | 'attentionGrad' } & AttentionShape)
  | { kind: 'adam'; count: number }
  | { kind: 'softmaxGrad'; rows: number; columns: number }
  | ({ kind: 'scaledDotProductGrad'; of: 'query' | 'keys' } & DotProductShape)
  | OpWork
  | { kind: 'resnet50'; images: number; model: string }
  | ({ kind: 'vit'; images: number; model: string } & VitShape)
  | ({ kind: 'trainStep' | 'greedy' } & DecoderShape);

/** Work on a model from a file. */
export type FileWork = Extract<Work, { model: string }>;
export type VitWork = Extract<Work, { kind: 'vit' }>;

/** Sides of a picture and of a patch, and the patches of a picture. */
export const PICTURE = 224;
export const PATCH = 16;
export const PATCHES = (PICTURE / PATCH) ** 2;

/** Numbers between −scale and scale, the same everywhere for a seed. */
export function numbers(count: number, seed: number, scale = 1): Float32Array<ArrayBuffer> {
  let state = (seed * 2654435761 + 1) >>> 0;
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state / 2 ** 31 - 1) * scale;
  }
  return values;
}

/** Word ids, likewise. */
export function words(count: number, seed: number, vocabulary: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(numbers(count, seed), (x) => 4 + Math.floor(((x + 1) / 2) * (vocabulary - 4)));
}

/**
 * Which activations go in. All timed runs but the last work on set 0, the last on set 1: what an earlier run left behind
 * cannot pass for its result. Weights are the same in both sets, for engines may keep copies of them.
 */
export type InputSet = 0 | 1;

const fresh = (seed: number, set: InputSet): number => seed + 100 * set;

type MatmulWork = Extract<Work, { kind: 'matmul' }>;
/** What every engine's update uses: Kingma and Ba 2015, update number 3. */
export const ADAM = { rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 3 };

/** The operands of an op, in order. */
export function opInputs({ op, shapes, draw }: OpWork, set: InputSet): Float32Array[] {
  if (draw) return shapes.map((shape, i) => Float32Array.from(drawn(draw[i] ?? 'normal', shape, new Random(fresh(i + 1, set), op)).data));
  return shapes.map((shape, i) =>
    numbers(
      shape.reduce((size, extent) => size * extent, 1),
      fresh(i + 1, set),
    ),
  );
}

type RowWork = Extract<Work, { kind: 'softmax' | 'crossEntropyGrad' }>;

/** a [m, k] or, transposed, [k, m]; b [k, n] or [n, k]. b is a weight, but not beside a transposed a: those make a gradient of weights. */
export function matmulInputs({ m, n, k, transA }: MatmulWork, set: InputSet): { a: Float32Array; b: Float32Array } {
  return { a: numbers(m * k, fresh(1, set)), b: numbers(k * n, transA ? fresh(2, set) : 2) };
}

/** x [N, C, H, W], w [O, C, K, K], dy [N, O, OH, OW]. */
export function convInputs(s: ConvShape, set: InputSet): { x: Float32Array; w: Float32Array; dy: Float32Array } {
  return {
    x: numbers(s.images * s.channels * s.height * s.width, fresh(1, set)),
    w: numbers(s.outChannels * s.channels * s.kernel ** 2, 2),
    dy: numbers(s.images * s.outChannels * outSize(s.height, s) * outSize(s.width, s), fresh(3, set)),
  };
}

/** x [rows, columns] and, for cross-entropy, a target per row. */
export function rowInputs({ rows, columns }: RowWork, set: InputSet): { x: Float32Array; targets: Uint32Array } {
  return { x: numbers(rows * columns, fresh(1, set), 4), targets: words(rows, fresh(2, set), columns) };
}

type CellWork = Extract<Work, { kind: 'lstmCell' | 'lstmCellGrad' }>;

/** gx, gh [rows, 4H], c [rows, H]; for the gradient dh, dc [rows, H]. All of them are new at every step. */
export function cellInputs({ rows, hidden }: CellWork, set: InputSet): Record<'gx' | 'gh' | 'c' | 'dh' | 'dc', Float32Array> {
  const [gates, states] = [4 * rows * hidden, rows * hidden];
  const make = (count: number, seed: number) => numbers(count, fresh(seed, set), 2);
  return { gx: make(gates, 1), gh: make(gates, 2), c: make(states, 3), dh: make(states, 4), dc: make(states, 5) };
}

/** keys [B, P, A], query [B, A], v [A], values [B, P, D]; for the gradient dcontext [B, D]. v is a weight. */
export function attentionInputs(
  { batch, regions, keys, values }: AttentionShape,
  set: InputSet,
): Record<'keys' | 'query' | 'v' | 'values' | 'dcontext', Float32Array> {
  return {
    keys: numbers(batch * regions * keys, fresh(1, set)),
    query: numbers(batch * keys, fresh(2, set)),
    v: numbers(keys, 3),
    values: numbers(batch * regions * values, fresh(4, set)),
    dcontext: numbers(batch * values, fresh(5, set)),
  };
}

/** q, dy [B, H, T, D], k, v [B, H, S, D]; rows [B, H, T, 4]: what the gradient is given of each query, here any numbers. */
export function dotProductInputs(
  { batch, heads, queries, keys, width }: DotProductShape,
  set: InputSet,
): Record<'q' | 'k' | 'v' | 'dy' | 'rows', Float32Array> {
  const make = (count: number, columns: number, seed: number) => numbers(batch * heads * count * columns, fresh(seed, set));
  return { q: make(queries, width, 1), k: make(keys, width, 2), v: make(keys, width, 3), dy: make(queries, width, 4), rows: make(queries, 4, 5) };
}

/** y and dy [rows, columns] of a log-softmax. */
export function softmaxGradInputs({ rows, columns }: { rows: number; columns: number }, set: InputSet): { y: Float32Array; dy: Float32Array } {
  return { y: numbers(rows * columns, fresh(1, set)).map((value) => -Math.abs(value) - 2), dy: numbers(rows * columns, fresh(2, set)) };
}

/** Parameters, their gradient, and both moments; the second is positive. */
export function adamInputs({ count }: { count: number }, set: InputSet): Record<'p' | 'g' | 'm' | 'v', Float32Array> {
  const make = (seed: number) => numbers(count, fresh(seed, set));
  return { p: make(1), g: make(2), m: make(3), v: make(4).map((value) => value * value) };
}

/** [images, 3, 224, 224] */
export function pictureInputs(images: number, set: InputSet): Float32Array<ArrayBuffer> {
  return numbers(images * 3 * PICTURE * PICTURE, fresh(1, set));
}

/** features [batch, regions, width]; ids and targets [steps, batch]. */
export function decoderInputs(s: DecoderShape, set: InputSet): { features: Float32Array; ids: Uint32Array; targets: Uint32Array } {
  return {
    features: numbers(s.batch * s.regions * s.features, fresh(1, set)),
    ids: words(s.steps * s.batch, fresh(5, set), s.vocabulary),
    targets: words(s.steps * s.batch, fresh(6, set), s.vocabulary),
  };
}

export const outSize = (size: number, { kernel, stride, pad }: ConvShape): number => Math.floor((size + 2 * pad - kernel) / stride) + 1;

/** A peer, or this engine, ready to do one piece of work again and again; set 0 is loaded. */
export interface Prepared {
  /** Puts the activations of a set in; resolves when they are there. Without it the engine works on set 0 always. */
  load?(set: InputSet): Promise<void>;
  /** Does the work so many times, one after the other; resolves when the device has done all of it. */
  run(times?: number): Promise<void>;
  /** The work changes its own operands, so its result is compared after a single run. */
  inPlace?: true;
  /** What a run includes besides the kernel, such as reading the result back. */
  includes?: string;
  /** All of what the last run wrote, row-major, pictures as N, C, H, W. It reads that run's output and runs nothing. */
  result?(): Promise<ArrayLike<number>>;
  /** The last run beside another way to do the same, for models, whose result no formula gives. */
  check?(): Promise<Check>;
  dispose(): void;
}

export interface Engine {
  name: string;
  /** Null when this engine cannot do such work. */
  prepare(work: Work): Promise<Prepared | null>;
}
