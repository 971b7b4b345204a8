/** Beam search and diverse beam search, with every limit and penalty, against the same search in float64. */
import { describe, expect, test } from 'vitest';
import { END } from '../src/data/words.ts';
import { agreement } from '../src/metrics/cider.ts';
import type { BeamOptions } from '../src/model/captioner/decoding.ts';
import { scope } from '../src/tensor/tensor.ts';
import { BEAM } from './decoder_checks.ts';
import { beamSearch } from './plain_search.ts';
import { oracleOf } from './plain_variants.ts';
import { LENGTH, lively } from './small_captioner.ts';
import { useGpu } from './support.ts';

useGpu();

describe.each(['basic', 'recommended'] as const)('%s', (preset) => {
  test.each<[string, Partial<BeamOptions>]>([
    ['as it is', {}],
    ['without a penalty', { penalty: 'none' }],
    ['Wu', { penalty: 'wu', width: 5 }],
    ['ten wide, everything allowed', { width: 10, suppress: false }],
    ['of at least 5 words', { minLength: 5 }],
    ['no word twice', { noRepeat: 1, width: 4 }],
    ['no pair of words twice', { noRepeat: 2, penalty: 'wu' }],
    ['in three diverse groups', { width: 6, groups: 3, diversity: 0.7 }],
    ['in groups of one, no pair twice', { width: 4, groups: 4, diversity: 1.5, noRepeat: 2, penalty: 'none' }],
  ])('beam search, %s, equals the float64 search', async (_name, change) => {
    using _s = scope();
    const { model, pictures } = lively(preset);
    const oracle = await oracleOf(model);
    const o = { ...BEAM, ...change };
    const found = await model.decoding.beam(pictures.all, LENGTH, o, true);
    found.forEach((hypotheses, n) => {
      const expected = beamSearch(oracle(pictures.each[n]), LENGTH, o);
      expect(hypotheses.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
      hypotheses.forEach((hypothesis, i) => {
        expect(hypothesis.score).toBeCloseTo(expected[i].score, 4);
        expect(hypothesis.logProb).toBeCloseTo(expected[i].logProb, 3);
        expect(hypothesis.ended).toBe(expected[i].ended);
        expect(hypothesis.alpha.length).toBe(hypothesis.tokens.length + (hypothesis.ended ? 1 : 0));
        for (const weights of hypothesis.alpha) expect(weights.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 4);
        if (hypothesis.ended) expect(hypothesis.tokens.length + 1).toBeGreaterThanOrEqual(o.minLength ?? 0);
      });
    });
    const replayed = await model.decoding.beam(pictures.all, LENGTH, o);
    expect(replayed.map((list) => list[0].tokens)).toEqual(found.map((list) => list[0].tokens));
    model.dispose();
  });

  test('with consensus, the hypotheses that agree most with all come first', async () => {
    using _s = scope();
    const { model, pictures } = lively(preset);
    const search = { ...BEAM, width: 6, noRepeat: 1 };
    const found = await model.decoding.beam(pictures.all, LENGTH, { ...search, consensus: true }, true);
    const plain = await model.decoding.beam(pictures.all, LENGTH, search, true);
    found.forEach((hypotheses, n) => {
      const agreements = hypotheses.map(({ agreement: own }) => own as number);
      expect(agreements).toEqual([...agreements].sort((x, y) => y - x));
      agreement(hypotheses.map(({ tokens }) => tokens.map(String))).forEach((expected, i) => {
        expect(agreements[i]).toBeCloseTo(expected, 12);
      });
      const without = hypotheses.map(({ agreement: _, ...rest }) => rest).sort((x, y) => y.score - x.score);
      expect(without).toEqual(plain[n]);
    });
    model.dispose();
  });

  test('one hypothesis is greedy decoding', async () => {
    using _s = scope();
    const { model, pictures } = lively(preset);
    const greedy = await model.decoding.greedy(pictures.all, LENGTH, { suppress: true }, true);
    const beam = await model.decoding.beam(pictures.all, LENGTH, { ...BEAM, width: 1, penalty: 'none' });
    expect(beam.map(([best]) => best.tokens)).toEqual(greedy.map(({ tokens }) => tokens));
    model.dispose();
  });
});

test('when nothing has ended there are captions all the same', async () => {
  using _s = scope();
  const { model, pictures } = lively('basic');
  const bias = await model.parameters.get('out_b').data();
  bias[END] = -1000;
  model.parameters.get('out_b').write(bias);
  const found = await model.decoding.beam(pictures.all, LENGTH, BEAM);
  for (const hypotheses of found) for (const { tokens, ended } of hypotheses) expect([tokens.length, ended]).toEqual([LENGTH, false]);
  model.dispose();
});

test.each<[string, Partial<BeamOptions>, RegExp]>([
  ['too wide', { width: 11 }, /1 to 10 wide, got 11/],
  ['in uneven groups', { width: 6, groups: 4 }, /6 hypotheses do not make 4 groups of the same size/],
  ['longer than the longest', { minLength: LENGTH + 1 }, /at least 8 words does not fit in 7 words/],
])('a beam %s is refused', async (_name, change, message) => {
  using _s = scope();
  const { model, pictures } = lively('basic');
  await expect(model.decoding.beam(pictures.all, LENGTH, { ...BEAM, ...change })).rejects.toThrow(message);
  model.dispose();
});
