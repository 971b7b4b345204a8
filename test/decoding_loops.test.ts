/** Decoding loops are captured once per shape and replayed: same words, flat memory, and weights that change between runs. */
import { expect, test } from 'vitest';
import type { Captioner } from '../src/model/captioner/captioner.ts';
import { Decoding } from '../src/model/captioner/decoding.ts';
import { memory, scope, tensor } from '../src/tensor/tensor.ts';
import { BEAM } from './decoder_checks.ts';
import { greedySearch } from './plain_search.ts';
import { oracleOf } from './plain_variants.ts';
import { LENGTH, lively, PICTURES, TRANSFORMER } from './small_captioner.ts';
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

const LONG = 17;
const SAMPLE = { suppress: true, temperature: 1, topK: 0, topP: 1, perPicture: 2 };

/** Everything that decoding gives, with loops cut into parts. */
async function decoded(model: Captioner, parts: { first: number; others: number }, features: Parameters<Decoding['greedy']>[0]) {
  const decoding = new Decoding(model, parts);
  const once = async () => [
    await decoding.greedy(features, LONG, { suppress: true, noRepeat: 2, minLength: 4 }, true),
    await decoding.sample(features, LONG, { ...SAMPLE, seed: 5 }, true),
    await decoding.beam(features, LONG, BEAM, true),
    await decoding.beam(features, LONG, { ...BEAM, width: 4, groups: 2, diversity: 0.5 }, true),
  ];
  const found = [await once(), await once()];
  decoding.dispose();
  return found;
}

test.each<[string, Parameters<typeof lively>[1]]>([
  ['stacked', {}],
  ['up-down', { decoder: 'up-down' }],
  ['transformer', TRANSFORMER],
])('%s: a loop cut into parts gives what the whole loop gives, again and again', async (_, change) => {
  using _s = scope();
  const { model, pictures } = lively('recommended', change);
  const [whole] = await decoded(model, { first: LONG, others: 1 }, pictures.all);
  for (const found of await decoded(model, { first: 2, others: 3 }, pictures.all)) expect(found).toEqual(whole);
  model.dispose();
});

test('steps after the last end are left out', async () => {
  using _s = scope();
  const { model, pictures } = lively('recommended');
  const bias = model.parameters.get('out_b');
  bias.write(((await bias.data()) as Float32Array).map((value, word) => value + (word === 3 ? 1.5 : 0))); // endseq comes soon
  const count = async (parts: { first: number; others: number }) => {
    const decoding = new Decoding(model, parts);
    const captions = await decoding.greedy(pictures.all, 40, { suppress: true });
    const before = device.gpu.dispatches;
    expect(await decoding.greedy(pictures.all, 40, { suppress: true })).toEqual(captions);
    const dispatches = device.gpu.dispatches - before;
    decoding.dispose();
    return { dispatches, longest: Math.max(...captions.map(({ logProbs }) => logProbs.length)) };
  };
  const [whole, cut] = [await count({ first: 40, others: 1 }), await count({ first: 1, others: 1 })];
  expect(cut.longest).toBeGreaterThan(3);
  expect(cut.dispatches / whole.dispatches).toBeLessThan((cut.longest + 3) / 40);
  model.dispose();
});

test('calls that overlap, of one model and of two, keep apart', async () => {
  using _s = scope();
  const [one, two] = [lively('recommended'), lively('basic')];
  const negated = tensor((await one.pictures.all.data()).map((value) => -value) as Float32Array, one.pictures.all.shape);
  const loops = [one, two].map(({ model }) => new Decoding(model, { first: 1, others: 1 }));
  const calls = loops.flatMap((decoding) => [
    () => decoding.greedy(one.pictures.all, LONG, { suppress: true }, true),
    () => decoding.greedy(negated, LONG, { suppress: true }, true),
    () => decoding.sample(negated, LONG, { ...SAMPLE, seed: 1 }, true),
    () => decoding.sample(negated, LONG, { ...SAMPLE, seed: 2 }, true),
    () => decoding.beam(negated, LONG, BEAM, true),
  ]);
  const alone: unknown[] = [];
  for (const call of calls) alone.push(await call());
  expect(await Promise.all(calls.map((call) => call()))).toEqual(alone);
  for (const decoding of loops) decoding.dispose();
  for (const { model } of [one, two]) model.dispose();
});

test('the features may go with the scope of the call', async () => {
  const { model, pictures } = lively('recommended');
  const values = (await pictures.all.data()) as Float32Array;
  const kept = await model.decoding.greedy(pictures.all, LENGTH, { suppress: true });
  const call = () => {
    using _s = scope();
    return model.decoding.greedy(tensor(values, pictures.all.shape), LENGTH, { suppress: true });
  };
  expect(await Promise.all([call(), call()])).toEqual([kept, kept]);
  pictures.all.dispose();
  model.dispose();
});
