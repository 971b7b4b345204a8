/** What must hold of every decoder, whatever it is made of; the tests of each kind call these. */
import { expect } from 'vitest';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { END } from '../src/data/words.ts';
import { Captioner, type CaptionerOptions, PRESETS } from '../src/model/captioner/captioner.ts';
import type { BeamOptions } from '../src/model/captioner/decoding.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Random } from '../src/random.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { beamSearch, greedySearch } from './plain_search.ts';
import { oracleOf } from './plain_variants.ts';
import { LENGTH, lively, PICTURES, SIZES, sizesFor } from './small_captioner.ts';

export const BEAM: BeamOptions = { width: 3, penalty: 'average', alpha: 0.65, minLength: 0, suppress: true };

/** Greedy decoding and beam search find what the float64 captioner finds, and look where it looks. */
export async function decodesAsInFloat64(preset: 'basic' | 'recommended', change: Partial<CaptionerOptions>): Promise<void> {
  using _s = scope();
  const { model, pictures } = lively(preset, change);
  const oracle = await oracleOf(model);
  const greedy = await model.decoding.greedy(pictures.all, LENGTH, { suppress: true }, true);
  const beams = await model.decoding.beam(pictures.all, LENGTH, BEAM);
  pictures.each.forEach((features, n) => {
    const expected = greedySearch(oracle(features), LENGTH, BEAM);
    expect(greedy[n].tokens).toEqual(expected.tokens);
    expect(beams[n].map(({ tokens }) => tokens)).toEqual(beamSearch(oracle(features), LENGTH, BEAM).map(({ tokens }) => tokens));
    expect(greedy[n].alpha.length).toBe(expected.alpha.length);
    greedy[n].alpha.forEach((weights, t) => {
      expect(weights.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 4);
      weights.forEach((value, i) => {
        expect(value).toBeCloseTo(expected.alpha[t][i], 4);
      });
    });
  });
  model.dispose();
}

/** A language model never says special words but endseq, so none of them is a target. */
const sayable = (id: number, { decoder }: Partial<CaptionerOptions>): number => (decoder === 'gpt2' ? Math.max(END, id) : id);

/** The gradient of the whole loss, for every parameter, against central differences along it. */
export async function gradientsEqualDifferences(change: Partial<CaptionerOptions>): Promise<void> {
  using _s = scope();
  const model = Captioner.create(sizesFor(change), { ...PRESETS.recommended, dropout: 0, attentionPenalty: 1, ...change }, 4);
  const random = new Random(6, 'inputs');
  const x = tensor(
    Float32Array.from({ length: 2 * SIZES.regions * SIZES.features }, () => random.normal()),
    [2, SIZES.regions, SIZES.features],
  );
  // A product that starts at zero would hide the gradients of what comes before it.
  for (const [name, parameter] of model.parameters.all)
    if (name.endsWith('cross_out_w')) parameter.write(Float32Array.from({ length: parameter.size }, () => random.uniform(-0.5, 0.5)));
  const [steps, rows] = [4, 4];
  const words = () =>
    tensor(
      Uint32Array.from({ length: steps * rows }, () => sayable(Math.floor(random.uniform(1, SIZES.vocabulary)), change)),
      [steps, rows],
    );
  const [ids, targets, weights] = [words(), words(), tensor(new Float32Array(steps * rows).fill(1 / (steps * rows)), [steps, rows])];
  const value = async () => (await noGrad(() => model.loss(x, ids, targets, weights)).loss.data())[0];
  const { loss } = model.loss(x, ids, targets, weights);
  backward(loss);
  for (const [name, parameter] of model.parameters.all) {
    if (name === 'bv') continue; // cancels in the softmax
    const gradient = (await (gradOf(parameter) as Tensor).data()) as Float32Array;
    const before = (await parameter.data()) as Float32Array;
    // Along the gradient itself the loss falls by its squared norm: every element has its share, and float32 can show it.
    const squares = gradient.reduce((sum, g) => sum + g * g, 0);
    const length = Math.sqrt(squares);
    expect(length, name).toBeGreaterThan(0);
    const h = length > 0.05 ? 0.005 : 0.02; // a steep loss is also a curved one; a flat one needs a step that float32 shows
    const at = async (sign: number) => {
      parameter.write(before.map((v, i) => v + (sign * h * gradient[i]) / length));
      return value();
    };
    const slope = ((await at(1)) - (await at(-1))) / (2 * h);
    parameter.write(before);
    expect(Math.abs(slope - length), name).toBeLessThan(0.03 * length + 2e-5);
  }
  model.dispose();
}

/** 80 steps of Adam on three captions: the cross-entropy falls below 0.3 of what it was. */
export async function learnsByHeart(change: Partial<CaptionerOptions>): Promise<void> {
  using _s = scope();
  const model = Captioner.create(sizesFor(change), { ...PRESETS.recommended, dropout: 0, labelSmoothing: 0, attentionPenalty: 0, ...change }, 4);
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: 0.005, maxNorm: 5 });
  const random = new Random(7, 'captions');
  const x = tensor(
    Float32Array.from({ length: PICTURES * SIZES.regions * SIZES.features }, () => random.normal()),
    [PICTURES, SIZES.regions, SIZES.features],
  );
  const captions = Uint32Array.from({ length: 6 * PICTURES }, () => sayable(random.integer(SIZES.vocabulary), change));
  const [ids, targets] = [captions.subarray(0, 5 * PICTURES), captions.subarray(PICTURES)].map((words) => tensor(words, [5, PICTURES]));
  const weights = tensor(new Float32Array(5 * PICTURES).fill(1 / (5 * PICTURES)), [5, PICTURES]);
  const losses: number[] = [];
  for (let step = 1; step <= 80; step++) {
    using _step = scope();
    optimizer.zeroGrad();
    const { loss, crossEntropy } = model.loss(x, ids, targets, weights, { step: { seed: 1, step } });
    backward(loss);
    optimizer.step();
    losses.push(await crossEntropy.item());
  }
  expect(losses[0]).toBeGreaterThan(2);
  expect(losses[79]).toBeLessThan(0.3 * losses[0]);
  optimizer.dispose();
  model.dispose();
}
