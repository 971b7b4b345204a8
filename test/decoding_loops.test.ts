/** Decoding loops are captured once per shape and replayed: same words, flat memory, and weights that change between runs. */
import { expect, test } from 'vitest';
import { memory, scope, tensor } from '../src/tensor/tensor.ts';
import { BEAM } from './decoder_checks.ts';
import { greedySearch } from './plain_search.ts';
import { oracleOf } from './plain_variants.ts';
import { LENGTH, lively, PICTURES } from './small_captioner.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test.each(['basic', 'recommended'] as const)('%s: a replay gives what the first run gave, and reads the pictures anew', async (preset) => {
  using _s = scope();
  const { model, pictures } = lively(preset);
  const greedy = await model.decoding.greedy(pictures.all, LENGTH, { suppress: true }, true);
  expect(await model.decoding.greedy(pictures.all, LENGTH, { suppress: true }, true)).toEqual(greedy);
  const negated = tensor((await pictures.all.data()).map((value) => -value) as Float32Array, pictures.all.shape);
  expect(await model.decoding.greedy(negated, LENGTH, { suppress: true }, true)).not.toEqual(greedy);
  model.dispose();
});

test('decoding many shapes keeps memory flat once the loops are let go', async () => {
  const before = memory();
  {
    using _s = scope();
    const { model, pictures } = lively('recommended');
    const features = (await pictures.all.data()) as Float32Array;
    const [, regions, width] = pictures.all.shape;
    for (let batch = 1; batch <= PICTURES; batch++) {
      const x = tensor(features.slice(0, batch * regions * width), [batch, regions, width]);
      for (const length of [3, 5]) {
        await model.decoding.greedy(x, length, { suppress: true });
        await model.decoding.beam(x, length, BEAM);
      }
    }
    model.dispose();
  }
  expect(memory()).toMatchObject({ tensors: before.tensors, bytesInUse: before.bytesInUse });
  expect(device.gpu.isLost).toBe(false);
});

test('the table of the words’ shares, made after many words, follows the weights', async () => {
  using _s = scope();
  const { model, pictures } = lively('recommended');
  const decode = async () =>
    (await model.decoding.greedy(pictures.all, LENGTH, { suppress: true })).map(({ tokens, logProb }) => ({
      tokens,
      logProb: Math.fround(logProb).toFixed(4),
    }));
  const first = await decode(); // 21 words, of a vocabulary of 17: with the table from here on
  expect(model.prepareDecoding(1)).toBe('word table');
  expect(await decode()).toEqual(first);
  const embedding = model.parameters.get('emb');
  const before = await embedding.data();
  embedding.write(before.map((value) => -value));
  expect(model.prepareDecoding(1)).toBe(''); // the table is of other weights
  const oracle = await oracleOf(model);
  for (let round = 0; round < 3; round++) {
    const found = await model.decoding.greedy(pictures.all, LENGTH, { suppress: true });
    for (const [n, { tokens }] of found.entries()) expect(tokens).toEqual(greedySearch(oracle(pictures.each[n]), LENGTH, BEAM).tokens);
  }
  expect(model.prepareDecoding(1)).toBe('word table');
  embedding.write(before);
  for (let round = 0; round < 3; round++) expect(await decode()).toEqual(first);
  model.dispose();
});

test('a loop that is refused within its capture leaves nothing behind', async () => {
  using _s = scope();
  const { model, pictures } = lively('recommended');
  const refused = (i: number) => expect(model.decoding.greedy(pictures.all, 1e9 + i, { suppress: true })).rejects.toThrow(/binds at most|of the budget/);
  for (let i = 0; i < 3; i++) await refused(i); // the table of words and prepared weights stay
  const before = memory();
  for (let i = 3; i < 8; i++) await refused(i);
  expect(memory()).toMatchObject({ tensors: before.tensors, bytesInUse: before.bytesInUse });
  model.dispose();
});
