/** The choice of a beam search as an entry of the table, with its definition in plain loops. */
import { ShapeError } from '../../errors.ts';
import { type BeamStep, beamSelect as beamSelectKernel, lengthPenalty } from '../../kernels/beam.ts';
import { sizeOf } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Op, reference } from '../op.ts';
import { apply } from '../tape.ts';

type BeamAttrs = Omit<BeamStep, 'pictures' | 'width' | 'k'>;

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
  draw: ['ids:5', 'ids:7', 'ids:4', 'ids:3'],
});

/** values, ids [pictures, width, k], sums, lengths [pictures, width] → sums, parents, words, lengths of those kept. */
export const beamSelectOp: Op<BeamAttrs> = {
  name: 'beamSelect',
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
      candidates.sort((a, b) => b.score - a.score); // stable: ties stay in the order of rows and ranks
      for (let w = 0; w < width; w++) for (let o = 0; o < 4; o++) out[o].data[p * width + w] = candidates[w].values[o];
    }
    return out;
  },
  cost: ([values]) => ({ flops: 4 * values[1] * sizeOf(values), bytes: 8 * sizeOf(values) }),
  cases: [
    beamCase('three wide', 5, 3, 4, {}),
    beamCase('average of lengths', 11, 4, 5, { penalty: 'average', step: 5 }),
    beamCase('Wu, with a least length', 3, 10, 11, { penalty: 'wu', minimum: 9 }),
    beamCase('one wide', 2, 1, 2, {}),
  ],
};

/** As the table's entry. */
export function beamSelect(values: Tensor, ids: Tensor, sums: Tensor, lengths: Tensor, attrs: BeamAttrs): Tensor[] {
  return apply(beamSelectOp, [values, ids, sums, lengths], attrs);
}
