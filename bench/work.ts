/**
 * What is timed, as plain data: the same record goes to our kernels and, through a pipe, to every peer. Inputs are made by
 * one formula on both sides, so that results can be compared before anything is timed.
 */

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

export type Work =
  | { kind: 'matmul'; m: number; n: number; k: number; transA: boolean; transB: boolean }
  | ({ kind: 'conv' | 'convGradInput' | 'convGradWeight' } & ConvShape)
  | { kind: 'softmax' | 'crossEntropyGrad'; rows: number; columns: number }
  | { kind: 'resnet50'; images: number; model: string }
  | ({ kind: 'trainStep' | 'greedy' } & DecoderShape);

/** Numbers between −scale and scale, the same everywhere for a seed. */
export function numbers(count: number, seed: number, scale = 1): Float32Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * scale;
  });
}

/** Word ids, likewise. */
export function words(count: number, seed: number, vocabulary: number): Uint32Array {
  return Uint32Array.from(numbers(count, seed), (x) => 4 + Math.floor(((x + 1) / 2) * (vocabulary - 4)));
}

export const outSize = (size: number, { kernel, stride, pad }: ConvShape): number => Math.floor((size + 2 * pad - kernel) / stride) + 1;

/** A peer, or this engine, ready to do one piece of work again and again. */
export interface Prepared {
  /** Resolves when the device has done it. */
  run(): Promise<void>;
  /** The first numbers of the result, row-major, pictures as N, C, H, W, for comparison; null where it has no plain result. */
  sample?(): Promise<number[]>;
  dispose(): void;
}

export const SAMPLE = 64;

export interface Engine {
  name: string;
  /** Null when this engine cannot do such work. */
  prepare(work: Work): Promise<Prepared | null>;
}
