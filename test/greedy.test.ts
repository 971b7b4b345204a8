/** Greedy decoding: the likeliest allowed word at each step. */
import { describe, expect, test } from 'vitest';
import type { WordLimits } from '../src/model/captioner/decoding.ts';
import { scope } from '../src/tensor/tensor.ts';
import { BEAM } from './decoder_checks.ts';
import { greedySearch } from './plain_search.ts';
import { oracleOf } from './plain_variants.ts';
import { LENGTH, lively } from './small_captioner.ts';
import { useGpu } from './support.ts';

useGpu();

describe.each(['basic', 'recommended'] as const)('%s', (preset) => {
  test.each<Partial<WordLimits>>([
    {},
    { suppress: false },
    { noRepeat: 1 },
    { noRepeat: 2, minLength: 6 },
  ])('greedy decoding with %j equals the float64 captioner', async (change) => {
    using _s = scope();
    const { model, pictures } = lively(preset);
    const oracle = await oracleOf(model);
    const found = await model.decoding.greedy(pictures.all, LENGTH, { suppress: true, ...change });
    pictures.each.forEach((features, n) => {
      expect(found[n].tokens).toEqual(greedySearch(oracle(features), LENGTH, { ...BEAM, ...change }).tokens);
    });
    model.dispose();
  });
});
