/** Hard attention: the likeliest region in decoding, a sampled one in training, and what REINFORCE learns from the samples. */
import { expect, test } from 'vitest';
import { backward, gradOf } from '../src/autograd/tape.ts';
import type { CaptionerOptions } from '../src/model/captioner/captioner.ts';
import { attend, linear, logSoftmax, row } from '../src/model/captioner/plain.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { decodesAsInFloat64, learnsByHeart } from './decoder_checks.ts';
import { PlainVariant } from './plain_variants.ts';
import { lively, PICTURES, SIZES } from './small_captioner.ts';
import { useGpu } from './support.ts';

useGpu();

const HARD: Partial<CaptionerOptions> = { decoder: 'show-attend-tell', attention: 'hard' };

test.each<['basic' | 'recommended', string, Partial<CaptionerOptions>]>([
  ['basic', 'show-attend-tell', HARD],
  ['recommended', 'show-attend-tell', HARD],
  ['basic', 'stacked GRUs, query h1', { cell: 'gru', attention: 'hard', query: 'h1' }],
  ['recommended', 'stacked GRUs, query h1', { cell: 'gru', attention: 'hard', query: 'h1' }],
])('preset %s, %s: greedy and beam equal the float64 captioner', (preset, _name, change) => decodesAsInFloat64(preset, change));

test('hard attention learns a few captions by heart', () => learnsByHeart({ ...HARD, initialization: 'glorot' }));

test('hard attention learns from its samples what the average over all regions would teach', async () => {
  using _s = scope();
  const { model, pictures } = lively('recommended', { ...HARD, gate: false, attentionPenalty: 0, dropout: 0 });
  const [words, targetIds] = [
    [4, 7, 9],
    [5, 11, 3],
  ];
  const [ids, targets, weights] = [
    tensor(Uint32Array.from(words), [1, PICTURES]),
    tensor(Uint32Array.from(targetIds), [1, PICTURES]),
    tensor(new Float32Array(PICTURES).fill(1), [1, PICTURES]),
  ];

  // In float64: what the first words cost on the average of all regions, and its slope in each element of v.
  const own = new Map([...(await model.parameters.read())].map(([name, { data }]) => [name, { data: Float64Array.from(data) }]));
  const plain = new PlainVariant(model.sizes, model.options, own);
  const expectedCost = () =>
    pictures.each.reduce((sum, features, n) => {
      const { picture, start } = plain.encode(features);
      const { alpha } = attend(picture, linear(start[0], plain.p('w2'), plain.p('b2')), plain.p('v'), plain.p('bv'));
      return alpha.reduce((cost, probability, i) => {
        const context = row(picture.values, i, SIZES.project);
        const [h] = plain.cell(1, Float64Array.from([...context, ...row(plain.p('emb'), words[n], SIZES.embedding)]), start);
        return cost - probability * logSoftmax(plain.logits(h, context))[targetIds[n]];
      }, sum);
    }, 0);
  const v = plain.p('v');
  const expected = Array.from({ length: SIZES.attention }, (_, i) => {
    const before = v[i];
    const at = (value: number) => {
      v[i] = value;
      return expectedCost();
    };
    const slope = (at(before + 1e-5) - at(before - 1e-5)) / 2e-5;
    v[i] = before;
    return slope;
  });

  const samples = 600;
  for (let step = 0; step < samples; step++) {
    using _sample = scope();
    backward(model.loss(pictures.all, ids, targets, weights, { step: { seed: 1, step } }).loss); // gradients add up
  }
  const mean = (await (gradOf(model.parameters.get('v')) as Tensor).data()).map((g) => g / samples);
  const norm = (list: ArrayLike<number>) => Math.hypot(...Array.from(list));
  expect(norm(expected)).toBeGreaterThan(0.1);
  expect(norm(expected.map((value, i) => value - mean[i])) / norm(expected)).toBeLessThan(0.2);
  model.dispose();
});
