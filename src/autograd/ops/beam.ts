/** The choice of a beam search and what limits it as entries of the table, with their definitions in plain loops. */
import { ShapeError } from '../../errors.ts';
import {
  type BeamStep,
  beamSelect as beamSelectKernel,
  type LimitAttrs,
  LONGEST_LIMITED,
  lengthPenalty,
  limitTokens as limitTokensKernel,
} from '../../kernels/beam.ts';
import { sizeOf } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { falling } from './rows.ts';

/** Options of `beamSelect`. */
export type BeamAttrs = Omit<BeamStep, 'pictures' | 'width' | 'k'>;

const base: BeamAttrs = { step: 4, end: 3, minimum: 0, penalty: 'none', alpha: 0.65 };
const beamCase = (name: string, pictures: number, width: number, k: number, attrs: Partial<BeamAttrs>) => ({
  name,
  shapes: [
    [pictures, width, k],
    [pictures, width, k],
    [pictures, width],
    [pictures, width],
  ],
  attrs: { ...base, ...attrs },
  draw: ['ids:5 plus -2', 'ids:7', 'ids:4 plus -2', 'ids:3'],
});

/** values, ids [pictures, width, k], sums, lengths [pictures, width] → sums, parents, words, lengths of those kept. */
export const beamSelectOp: Op<BeamAttrs> = {
  name: 'beamSelect',
  doc: {
    equation: 'of all continuations (sums + values) and all ended hypotheses of a picture, the `width` best by sum / penalty(length), best first',
    tensors: {
      values: '[pictures, width, k], k > width: log-probabilities of the continuations',
      ids: '[pictures, width, k]: their tokens',
      sums: '[pictures, width]: log-probability of each hypothesis so far',
      lengths: '[pictures, width]: tokens of an ended hypothesis, 0 while it goes on',
      newSums: '[pictures, width]',
      parents: '[pictures, width]: the row, over all pictures, that is continued',
      words: '[pictures, width]: the token taken, 0 for an ended hypothesis',
      newLengths: '[pictures, width]',
    },
    example:
      'ops.beamSelect(tensor([-1, -2, -3], [1, 1, 3]), tensor(new Uint32Array([5, 3, 6]), [1, 1, 3]), tensor([-0.5], [1, 1]), zeros([1, 1], "u32"), { step: 1, end: 3, minimum: 0, penalty: "none", alpha: 0 })',
    refused: [
      'ops.beamSelect(zeros([1, 2, 2]), zeros([1, 2, 2], "u32"), zeros([1, 2]), zeros([1, 2], "u32"), { step: 1, end: 3, minimum: 0, penalty: "none", alpha: 0 })',
    ],
  },
  inputs: ['values', 'ids', 'sums', 'lengths'],
  inputTypes: ['f32', 'u32', 'f32', 'u32'],
  outputs: ['newSums', 'parents', 'words', 'newLengths'],
  outputTypes: ['f32', 'u32', 'u32', 'u32'],
  shape: ([values, ids, sums, lengths]) => {
    const [pictures, width, k] = values;
    if (values.length !== 3 || sizeOf(ids) !== sizeOf(values) || sizeOf(sums) !== pictures * width || sizeOf(lengths) !== pictures * width)
      throw new ShapeError(`beamSelect: values [${values}], ids [${ids}], sums [${sums}] and lengths [${lengths}] do not belong together`);
    if (k <= width) throw new ShapeError(`beamSelect: ${width} hypotheses need more than ${width} continuations each, got ${k}`);
    return Array.from({ length: 4 }, () => [pictures, width]);
  },
  forward: ({ gpu, inputs, outputs, attrs, label }) => {
    const [pictures, width, k] = inputs[0].shape;
    beamSelectKernel(
      gpu,
      [...inputs, ...outputs].map((t) => t.slice),
      { ...attrs, pictures, width, k },
      label,
    );
  },
  backward: 'a choice is flat everywhere',
  reference: ([values, ids, sums, lengths], { step, end, minimum, penalty, alpha }) => {
    const [pictures, width, k] = values.shape;
    const out = Array.from({ length: 4 }, () => reference([pictures, width]));
    for (let p = 0; p < pictures; p++) {
      const candidates: { score: number; values: number[] }[] = [];
      for (let row = p * width; row < (p + 1) * width; row++) {
        if (lengths.data[row] > 0) {
          const score = sums.data[row] / lengthPenalty(lengths.data[row], penalty, alpha);
          candidates.push({ score, values: [sums.data[row], row, 0, lengths.data[row]] });
          continue;
        }
        for (let at = row * k; at < (row + 1) * k; at++) {
          if (ids.data[at] === end && step < minimum) continue;
          const sum = sums.data[row] + values.data[at];
          const score = sum / lengthPenalty(step, penalty, alpha);
          candidates.push({ score, values: [sum, row, ids.data[at], ids.data[at] === end ? step : 0] });
        }
      }
      candidates.sort((a, b) => falling(a.score, b.score)); // stable: ties stay in the order of rows and ranks
      for (let w = 0; w < width; w++) for (let o = 0; o < 4; o++) out[o].data[p * width + w] = candidates[w].values[o];
    }
    return out;
  },
  cost: ([values]) => ({ flops: 4 * values[1] * sizeOf(values), bytes: 8 * sizeOf(values) }),
  cases: [
    beamCase('three wide', 67, 3, 4, {}),
    beamCase('average of lengths', 11, 4, 5, { penalty: 'average', step: 5 }),
    beamCase('Wu, with a least length', 9, 10, 11, { penalty: 'wu', minimum: 9 }),
    { ...beamCase('Wu, by the scores', 67, 4, 5, { penalty: 'wu' }), draw: ['normal', 'ids:7', 'normal', 'ids:3'] },
    beamCase('endseq a token too early', 9, 3, 4, { minimum: 5 }),
    beamCase('one wide', 2, 1, 2, {}),
  ],
};

const limits: LimitAttrs = { step: 5, noRepeat: 2, end: 3, blockEnd: false, groups: 0, width: 1, diversity: 0 };
const limitCase = (name: string, pictures: number, width: number, n: number, attrs: Partial<LimitAttrs>, groups = 1) => ({
  name,
  shapes: [
    [pictures * width, n],
    [7, pictures * width],
    [7, pictures * width],
    [groups, pictures, width],
  ],
  attrs: { ...limits, width, ...attrs },
  draw: ['normal', `ids:${Math.min(n, 4)}`, `ids:${pictures * width}`, `ids:${n}`],
});

/** Log-probabilities as limit_tokens.wgsl changes them: x [rows, n], words and parents u32 [T, rows], taken u32 [groups, pictures, width]. */
export const limitTokensOp: Op<LimitAttrs> = {
  name: 'limitTokens',
  doc: {
    equation:
      'y = x − diversity times the hypotheses of earlier groups that took the token; −1e30 for `end` if blockEnd, and for tokens that would repeat a run of noRepeat',
    tensors: {
      x: '[rows, n]: log-probabilities',
      words: '[T, rows]: tokens of each step so far; one from n on limits nothing',
      parents: '[T, rows]: the row that each continues',
      taken: '[groups, pictures, width]: tokens that other groups took at this step',
      y: '[rows, n]',
    },
    example:
      'ops.limitTokens(zeros([1, 5]), tensor(new Uint32Array([4, 2]), [2, 1]), zeros([2, 1], "u32"), zeros([1, 1, 1], "u32"), { step: 2, noRepeat: 1, end: 3, blockEnd: true, groups: 0, width: 1, diversity: 0 })',
    refused: [
      'ops.limitTokens(zeros([2, 5]), zeros([2, 1], "u32"), zeros([2, 1], "u32"), zeros([1, 1, 1], "u32"), { step: 2, noRepeat: 1, end: 3, blockEnd: true, groups: 0, width: 1, diversity: 0 })',
    ],
  },
  inputs: ['x', 'words', 'parents', 'taken'],
  inputTypes: ['f32', 'u32', 'u32', 'u32'],
  outputs: ['y'],
  shape: ([x, words, parents, taken], attrs) => {
    const { step, groups, width } = attrs;
    const [rows] = x;
    if (x.length !== 2 || words[1] !== rows || parents.join() !== words.join() || step > words[0] || taken[1] * width !== rows || groups > taken[0])
      throw new ShapeError(`limitTokens: x [${x}], words [${words}], parents [${parents}] and taken [${taken}] do not belong together at step ${step}`);
    if (attrs.blockEnd && attrs.end >= x[1]) throw new ShapeError(`limitTokens: x [${x}] has no column for the token ${attrs.end} that ends a caption`);
    if (step > LONGEST_LIMITED) throw new ShapeError(`limitTokens: ${step} words, at most ${LONGEST_LIMITED} can be followed back`);
    return [x];
  },
  forward: ({ gpu, inputs: [x, words, parents, taken], outputs: [y], attrs, label }) => {
    gpu.copy(x.slice, y.slice, x.size * 4);
    limitTokensKernel(gpu, words.slice, parents.slice, taken.slice, y.slice, x.shape[0], x.shape[1], attrs, label);
  },
  backward: 'a choice is flat everywhere',
  reference: ([x, words, parents, taken], { step, noRepeat, end, blockEnd, groups, width, diversity }) => {
    const [rows, n] = x.shape;
    const out = reference(x.shape, (i) => x.data[i]);
    for (let row = 0; row < rows; row++) {
      if (blockEnd) out.data[row * n + end] = -1e30;
      const caption: number[] = [];
      for (let t = step - 1, at = row; t >= 0; t--) {
        caption.unshift(words.data[t * rows + at]);
        at = parents.data[t * rows + at];
      }
      if (noRepeat > 0 && step >= noRepeat) {
        const before = caption.slice(step - noRepeat + 1).join();
        for (let first = 0; first + noRepeat <= step; first++)
          if (caption.slice(first, first + noRepeat - 1).join() === before && caption[first + noRepeat - 1] < n)
            out.data[row * n + caption[first + noRepeat - 1]] = -1e30;
      }
      const first = Math.floor(row / width) * width;
      for (let g = 0; g < groups; g++)
        for (const word of taken.data.subarray(g * rows + first, g * rows + first + width)) if (word !== 0 && word < n) out.data[row * n + word] -= diversity;
    }
    return [out];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs),
  cases: [
    limitCase('no word twice', 9, 1, 7, { noRepeat: 1 }),
    limitCase('no pair twice, through the parents', 3, 3, 11, {}),
    limitCase('no run of three twice', 13, 1, 5, { noRepeat: 3, step: 7 }),
    limitCase('too short to end', 5, 2, 9, { blockEnd: true, noRepeat: 0 }),
    limitCase('what two groups took', 5, 2, 9, { noRepeat: 0, groups: 2, diversity: 0.5 }, 3),
  ],
};

/** As the table's entry. */
export function limitTokens(x: Tensor, words: Tensor, parents: Tensor, taken: Tensor, attrs: LimitAttrs): Tensor {
  return apply(limitTokensOp, [x, words, parents, taken], attrs)[0];
}

/** As the table's entry. */
export function beamSelect(values: Tensor, ids: Tensor, sums: Tensor, lengths: Tensor, attrs: BeamAttrs): Tensor[] {
  return apply(beamSelectOp, [values, ids, sums, lengths], attrs);
}
