/** The captioner in plain loops against goldens made elsewhere in float64, and the captioner on the GPU against it. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { backward, gradOf } from '../src/autograd/tape.ts';
import { readSafetensors } from '../src/data/safetensors.ts';
import { Captioner, type CaptionerOptions, type CaptionerSizes, PRESETS } from '../src/model/captioner/captioner.ts';
import { type Batch, PlainCaptioner, type Vector } from '../src/model/captioner/plain.ts';
import { Random } from '../src/random.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { oracleOf, PlainVariant } from './plain_variants.ts';
import { LENGTH, lively, randomPictures } from './small_captioner.ts';
import { dataFolder, useGpu } from './support.ts';

useGpu();

/** The norm of the difference, in norms of what was expected. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  const norm = Math.hypot(...Array.from(expected));
  expect(norm).toBeGreaterThan(0);
  return Math.hypot(...Array.from(expected, (value, i) => value - actual[i])) / norm;
}

const data = dataFolder('the captioner’s goldens');
const goldens = data ? readdirSync(join(data, 'goldens')).filter((name) => /^captioner_.*\.safetensors$/.test(name)) : [];

describe.skipIf(!data)('goldens of PyTorch autograd in float64', () => {
  test('there are goldens', () => expect(goldens.length).toBeGreaterThan(0));

  test.each(goldens)('%s: logits, attention weights and losses', (name) => {
    const { metadata, tensors } = readSafetensors(join(data as string, 'goldens', name));
    const scalars = JSON.parse(metadata.scalars);
    const { B, P, F, D, A, H, E, V, T: words } = scalars.dims;
    const sizes: CaptionerSizes = { features: F, regions: P, project: D, attention: A, hidden: H, embedding: E, vocabulary: V };
    const get = (key: string) => (tensors.get(key) as { data: Float32Array }).data;
    const weights = new Map([...tensors.keys()].flatMap((key) => (key.startsWith('w.') ? [[key.slice(2), { data: get(key) }]] : [])));
    const plain = new PlainCaptioner(sizes, PRESETS.basic, weights);

    // Tokens are [B, words]: each but the last is a word before, each but the first a word to be said.
    const tokens = get('in.tokens');
    const steps = words - 1;
    const timeMajor = (offset: number) => Array.from({ length: steps * B }, (_, at) => tokens[(at % B) * words + Math.floor(at / B) + offset]);
    const [ids, targets] = [timeMajor(0), timeMajor(1)];
    const features = get('in.features');

    const { logits, alpha } = plain.forward({ features, ids, steps });
    const batchMajor = (x: Vector, width: number) =>
      Float64Array.from(x, (_, i) => {
        const [b, t] = [Math.floor(i / (width * steps)), Math.floor(i / width) % steps];
        return x[(t * B + b) * width + (i % width)];
      });
    // Weights and results were float64 when the golden was made, and were stored in float32: half a unit of it is 6e-8.
    expect(relativeError(batchMajor(logits, V), get('logits'))).toBeLessThan(2e-7);
    expect(relativeError(batchMajor(alpha, P), get('alpha'))).toBeLessThan(2e-7);

    // The losses were stored in float64. Rounding the weights moves them by 5e-10 and 3e-9.
    const counted = targets.filter((id) => id !== 0).length;
    const lossOf = (each: number) => plain.loss({ features, ids, targets, steps, weights: targets.map((id) => (id === 0 ? 0 : each)) }).loss;
    expect(Math.abs(lossOf(1 / counted) / scalars.loss_token_mean - 1)).toBeLessThan(1e-8);
    expect(Math.abs(lossOf(1 / B) / scalars.loss_seed_sum - 1)).toBeLessThan(1e-8);
  });
});

/** Nothing here is a multiple of 4, and units, attention and regions are more than one workgroup of 64 has. */
const RAGGED: CaptionerSizes = { features: 31, regions: 67, project: 37, attention: 71, hidden: 73, embedding: 19, vocabulary: 101 };
const [PICTURES, CAPTIONS, STEPS] = [3, 6, 5];

/** A model of these sizes whose biases are not zero, and two captions for each of three pictures; some rows masked. */
function ragged(preset: 'basic' | 'recommended', change: Partial<CaptionerOptions> = {}): { model: Captioner; features: Tensor; batch: Batch } {
  const model = Captioner.create(RAGGED, { ...PRESETS[preset], dropout: 0, ...change }, 11);
  const random = new Random(12, 'ragged');
  for (const [name, parameter] of model.parameters.all)
    parameter.write(Float32Array.from({ length: parameter.size }, () => random.uniform(-1, 1) * (name === 'emb' ? 1 : 0.4)));
  const pictures = randomPictures(PICTURES, 13, 'pictures', RAGGED);
  const words = () => Uint32Array.from({ length: STEPS * CAPTIONS }, () => random.integer(RAGGED.vocabulary));
  const weights = Float32Array.from({ length: STEPS * CAPTIONS }, (_, at) => (at % 7 === 3 ? 0 : random.uniform(0.1, 1)));
  const features = Float32Array.from(pictures.each.flatMap((each) => [...each]));
  return { model, features: pictures.all, batch: { features, steps: STEPS, ids: words(), targets: words(), weights } };
}

/** ids, targets and weights on the GPU. */
const onGpu = ({ ids, targets, weights }: Batch): [Tensor, Tensor, Tensor] => [
  tensor(ids as Uint32Array, [STEPS, CAPTIONS]),
  tensor(targets as Uint32Array, [STEPS, CAPTIONS]),
  tensor(weights as Float32Array, [STEPS, CAPTIONS]),
];

/** One of the two has the penalty on uneven attention, so that its gradient is checked. */
const PENALIZED = { basic: {}, recommended: { attentionPenalty: 1 } };

describe.each(['basic', 'recommended'] as const)('preset %s at ragged sizes', (preset) => {
  test('logits and attention weights equal the plain captioner’s', async () => {
    using _s = scope();
    const { model, features, batch } = ragged(preset);
    const plain = new PlainCaptioner(RAGGED, model.options, await model.parameters.read());
    const expected = plain.forward(batch);
    const { logits, alpha } = model.forward(features, onGpu(batch)[0]);
    expect(relativeError(await logits.data(), expected.logits)).toBeLessThan(1e-5);
    expect(relativeError(await alpha.data(), expected.alpha)).toBeLessThan(1e-5);
    model.dispose();
  });

  test.each([0, 0.1])('cross-entropy, penalty and loss equal the plain captioner’s, label smoothing %d', async (labelSmoothing) => {
    using _s = scope();
    const { model, features, batch } = ragged(preset, { labelSmoothing, ...PENALIZED[preset] });
    const plain = new PlainCaptioner(RAGGED, model.options, await model.parameters.read());
    const expected = plain.loss(batch, labelSmoothing);
    const { loss, crossEntropy } = model.loss(features, ...onGpu(batch), { step: { seed: 1, step: 1 } });
    const [whole, ce] = [await loss.item(), await crossEntropy.item()];
    expect(Math.abs(ce / expected.crossEntropy - 1)).toBeLessThan(1e-5);
    expect(Math.abs(whole / expected.loss - 1)).toBeLessThan(1e-5);
    if (preset === 'basic') expect(expected.penalty).toBe(0);
    else expect(Math.abs((whole - ce) / expected.penalty - 1)).toBeLessThan(1e-4);
    model.dispose();
  });

  test('gradients equal central differences of the plain captioner’s loss', async () => {
    using _s = scope();
    const { model, features, batch } = ragged(preset, PENALIZED[preset]);
    const weights = new Map([...(await model.parameters.read())].map(([name, { data: values }]) => [name, { data: Float64Array.from(values) }]));
    const plain = new PlainCaptioner(RAGGED, model.options, weights);
    backward(model.loss(features, ...onGpu(batch)).loss);
    const random = new Random(14, 'elements');
    for (const [name, parameter] of model.parameters.all) {
      if (name === 'bv') continue; // cancels in the softmax: its gradient is 0
      const gradient = await (gradOf(parameter) as Tensor).data();
      const values = (weights.get(name) as { data: Float64Array }).data;
      // The last element, which a bound that is off by one forgets, and some others.
      for (const i of [values.length - 1, random.integer(values.length), random.integer(values.length)]) {
        const before = values[i];
        const at = (value: number) => {
          values[i] = value;
          return plain.loss(batch).loss;
        };
        const slope = (at(before + 1e-5) - at(before - 1e-5)) / 2e-5;
        values[i] = before;
        expect(Math.abs(slope - gradient[i]), `${name}[${i}]: ${gradient[i]}, expected ${slope}`).toBeLessThan(1e-4 * Math.abs(slope) + 2e-6);
      }
    }
    model.dispose();
  });

  test.each([true, false])('greedy words equal the plain captioner’s, suppress %s', async (suppress) => {
    using _s = scope();
    const { model, pictures } = lively(preset);
    const plain = new PlainCaptioner(model.sizes, model.options, await model.parameters.read());
    const found = await model.decoding.greedy(pictures.all, LENGTH, { suppress });
    expect(found.map(({ tokens }) => tokens)).toEqual(pictures.each.map((features) => plain.greedy(features, LENGTH, suppress)));
    model.dispose();
  });
});

test('the oracle of other decoders, built as the stacked one, gives what the plain captioner gives', async () => {
  using _s = scope();
  const { model, pictures } = lively('recommended');
  const variant = new PlainVariant(model.sizes, model.options, await model.parameters.read());
  const { picture, start } = variant.encode(pictures.each[0]);
  const { logits, alpha } = variant.step(picture, start, 5);
  const expected = (await oracleOf(model))(pictures.each[0]).say(5);
  expect(relativeError(logits, expected.logits)).toBeLessThan(1e-12);
  expect(relativeError(alpha, expected.alpha)).toBeLessThan(1e-12);
  model.dispose();
});

describe('bad input to the plain captioner', () => {
  const sizes: CaptionerSizes = { features: 2, regions: 3, project: 2, attention: 2, hidden: 2, embedding: 2, vocabulary: 5 };
  const plain = new PlainCaptioner(sizes, PRESETS.basic, new Map());

  test('another decoder', () => {
    const options: CaptionerOptions = { ...PRESETS.basic, cell: 'gru' };
    expect(() => new PlainCaptioner(sizes, options, new Map())).toThrow(/is "stacked lstm tanh h2 soft false", got "stacked gru tanh h2 soft false"/);
  });

  test('features of another size', () => expect(() => plain.encode(new Float64Array(7))).toThrow('a picture has 3 × 2 features, got 7'));

  test('a parameter that is absent', () => expect(() => plain.encode(new Float64Array(6))).toThrow('the weights have no "enc_w"'));

  test('captions that pictures cannot share', () =>
    expect(() => plain.forward({ features: new Float64Array(12), ids: [2, 2, 2], steps: 1 })).toThrow(
      '3 captions cannot share the features of 2 pictures evenly',
    ));

  test('a word that is not in the vocabulary', () => {
    const picture = { values: new Float64Array(6), keys: new Float64Array(6) };
    const cell = { h: new Float64Array(2), c: new Float64Array(2) };
    expect(() => plain.step(picture, { lstm1: cell, lstm2: cell }, 5)).toThrow('a word is 0 to 4, got 5');
  });
});
