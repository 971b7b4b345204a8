/** Several captioners that decode as one: what greedy decoding and beam search find is what the mean of their float64 probabilities gives. */
import { expect, test } from 'vitest';
import type { Captioner, CaptionerOptions } from '../src/model/captioner/captioner.ts';
import type { BeamOptions } from '../src/model/captioner/decoding.ts';
import { Ensemble } from '../src/model/captioner/ensemble.ts';
import { logSoftmax } from '../src/model/captioner/plain.ts';
import { Random } from '../src/random.ts';
import { memory, scope } from '../src/tensor/tensor.ts';
import { BEAM } from './decoder_checks.ts';
import { beamSearch, greedySearch } from './plain_search.ts';
import { oracleOf, type Prefix } from './plain_variants.ts';
import { LENGTH, lively, type Pictures, TRANSFORMER } from './small_captioner.ts';
import { useGpu } from './support.ts';

useGpu();

/** A lively captioner whose weights differ by the seed. */
function member(change: Partial<CaptionerOptions>, seed: number): { model: Captioner; pictures: Pictures } {
  const { model, pictures } = lively('recommended', change);
  const random = new Random(seed, 'member');
  for (const [, parameter] of model.parameters.all) parameter.write(Float32Array.from({ length: parameter.size }, () => random.uniform(-1, 1)));
  return { model, pictures };
}

/** What all say together of a caption: the logarithm of the mean probability. */
function together(prefixes: readonly Prefix[]): Prefix {
  const mean = (list: readonly ArrayLike<number>[]) => Float64Array.from(list[0], (_, i) => list.reduce((sum, each) => sum + each[i], 0) / list.length);
  return {
    say(word) {
      const all = prefixes.map((prefix) => prefix.say(word));
      const probabilities = mean(all.map(({ logits }) => logSoftmax(logits).map(Math.exp)));
      return { logits: probabilities.map(Math.log), alpha: mean(all.map(({ alpha }) => alpha)), after: together(all.map(({ after }) => after)) };
    },
  };
}

const MEMBERS: [string, Partial<CaptionerOptions>[]][] = [
  ['two of a kind', [{}, {}]],
  ['an LSTM, a GRU and up-down', [{}, { cell: 'gru' }, { decoder: 'up-down' }]],
  ['transformers, which begin without states, and an LSTM between them', [TRANSFORMER, {}, TRANSFORMER]],
];

test.each(MEMBERS)('%s', async (_name, changes) => {
  using _s = scope();
  const before = memory();
  const made = changes.map((change, i) => member(change, 10 + i));
  const [{ pictures }] = made;
  const oracles = await Promise.all(made.map(({ model }) => oracleOf(model)));
  const ensemble = new Ensemble(made.map(({ model }) => model));
  const greedy = await ensemble.decoding.greedy(pictures.all, LENGTH, { suppress: true }, true);
  const ways: BeamOptions[] = [BEAM, { ...BEAM, width: 4, groups: 2, diversity: 0.4 }];
  const beams = await Promise.all(ways.map((way) => ensemble.decoding.beam(pictures.all, LENGTH, way)));
  for (const [n, features] of pictures.each.entries()) {
    const start = () => together(oracles.map((oracle) => oracle(features)));
    const expected = greedySearch(start(), LENGTH, BEAM);
    expect(greedy[n].tokens).toEqual(expected.tokens);
    for (const [t, alpha] of expected.alpha.entries()) for (const [i, value] of alpha.entries()) expect(greedy[n].alpha[t][i]).toBeCloseTo(value, 4);
    for (const [w, way] of ways.entries()) {
      const found = beamSearch(start(), LENGTH, way);
      expect(beams[w][n].map(({ tokens }) => tokens)).toEqual(found.map(({ tokens }) => tokens));
      for (const [i, { logProb }] of beams[w][n].entries()) expect(logProb).toBeCloseTo(found[i].logProb, 3);
    }
  }
  ensemble.dispose();
  for (const { pictures: own } of made) own.all.dispose();
  expect(memory().bytesInUse).toBe(before.bytesInUse);
});

test('models of other words or features are refused by name', () => {
  using _s = scope();
  const { model } = lively('basic');
  const other = (sizes: object) => ({ ...model, sizes: { ...model.sizes, ...sizes } }) as unknown as Captioner;
  expect(() => new Ensemble([])).toThrow('an ensemble has one model at least');
  expect(() => new Ensemble([model, model, other({ vocabulary: 5 })])).toThrow('models 1 and 3 cannot decode together: their vocabulary are 17 and 5');
  expect(() => new Ensemble([model, other({ regions: 6 })])).toThrow('their regions are 5 and 6');
  model.dispose();
});
