/**
 * Lays the words of captions out for the recurrent layers, time-major. Captions differ in length, and padding costs as much as words. So
 * they may be packed: sorted by length, each step with those only that go on.
 */
import { sizeOf } from '../../tensor/shape.ts';

/**
 * The words of captions, step after step. Packed, the captions are sorted by length, and a step has only the first ones of them:
 * those that go on. Else each step has all captions, and those of a picture are neighbors.
 */
export interface Words {
  /** Captions of each step; T steps. */
  active: readonly number[];
  /** The picture of each caption, [active[0]]; null if they are not packed. */
  pictureOf: Uint32Array | null;
  /** Input words and target words, [Σ active]; padding is 0. */
  ids: Uint32Array;
  targets: Uint32Array;
}

/** The shape of words as a tensor: [R], or [T, B] if they are not packed. */
export const shapeOfWords = (active: readonly number[], packed: boolean): number[] =>
  packed ? [active.reduce((sum, count) => sum + count, 0)] : [active.length, active[0]];

/**
 * A packed batch is cut into this many blocks of captions. A block is as long as its longest caption, in whole steps of `of`. Few
 * shapes have to be captured so: on Flickr8k, 121 for the 375 batches of 16 × 5 captions. 10 % of their words are padding, where
 * batches that are not packed have 40 %.
 */
const BLOCKS = 8;
const ROUNDED_TO = { longest: 4, others: 2 };

/** Lengths of captions in falling order → captions of each step, rounded up. */
function packedSteps(lengths: readonly number[]): number[] {
  const block = Math.ceil(lengths.length / BLOCKS);
  const active: number[] = [];
  for (let first = 0; first < lengths.length; first += block) {
    const multiple = first === 0 ? ROUNDED_TO.longest : ROUNDED_TO.others;
    const length = Math.min(Math.ceil(lengths[first] / multiple) * multiple, active.length || Number.POSITIVE_INFINITY);
    for (let t = 0; t < length; t++) active[t] = Math.min(first + block, lengths.length);
  }
  return active;
}

/** Captions from startseq on, each with its picture → their words, and the caption of each row. */
export function layOut(captions: readonly { words: readonly number[]; picture: number }[], packed: boolean): { words: Words; order: readonly number[] } {
  const lengths = captions.map(({ words }) => words.length - 1);
  const order = captions.map((_, i) => i);
  if (packed) order.sort((a, b) => lengths[b] - lengths[a]);
  const longest = lengths.reduce((most, length) => Math.max(most, length), 1);
  const active = packed ? packedSteps(order.map((i) => Math.max(1, lengths[i]))) : new Array<number>(longest).fill(captions.length);
  const size = sizeOf(shapeOfWords(active, packed));
  const ids = new Uint32Array(size);
  const targets = new Uint32Array(size);
  let place = 0;
  for (const [t, count] of active.entries()) {
    for (let r = 0; r < count; r++) {
      if (t >= lengths[order[r]]) continue;
      const { words } = captions[order[r]];
      ids[place + r] = words[t];
      targets[place + r] = words[t + 1];
    }
    place += count;
  }
  return { words: { active, pictureOf: packed ? Uint32Array.from(order, (i) => captions[i].picture) : null, ids, targets }, order };
}
