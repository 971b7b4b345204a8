/** Captions by sampling: reproducible for a seed, limited by top-k, top-p and suppression, with the model's frequencies. */
import { expect, test } from 'vitest';
import { END, START } from '../src/data/words.ts';
import type { Captioner } from '../src/model/captioner/captioner.ts';
import { logSoftmax } from '../src/model/captioner/plain.ts';
import { scope } from '../src/tensor/tensor.ts';
import { oracleOf } from './plain_variants.ts';
import { LENGTH, lively, type Pictures } from './small_captioner.ts';
import { useGpu } from './support.ts';

useGpu();

const OPTIONS = { temperature: 1, topK: 0, topP: 1, seed: 1, suppress: true };

async function withModel(work: (model: Captioner, pictures: Pictures) => Promise<void>): Promise<void> {
  using _s = scope();
  const { model, pictures } = lively('recommended');
  await work(model, pictures);
  model.dispose();
}

test('the same words for a seed, others for another', () =>
  withModel(async (model, { all }) => {
    const first = await model.decoding.sample(all, LENGTH, OPTIONS);
    expect(await model.decoding.sample(all, LENGTH, { ...OPTIONS, seed: 2 })).not.toEqual(first);
    expect(await model.decoding.sample(all, LENGTH, OPTIONS)).toEqual(first);
  }));

test.each([{ topK: 1 }, { topP: 1e-6 }])('with %j only the likeliest word is left', (limit) =>
  withModel(async (model, { all }) => {
    const greedy = await model.decoding.greedy(all, LENGTH, { suppress: true });
    const sampled = await model.decoding.sample(all, LENGTH, { ...OPTIONS, ...limit });
    expect(sampled.map(({ tokens }) => tokens)).toEqual(greedy.map(({ tokens }) => tokens));
  }));

test('the first word’s frequencies are those of the model, without the suppressed words', () =>
  withModel(async (model, { all, each }) => {
    const logProbs = logSoftmax((await oracleOf(model))(each[0]).say(START).logits);
    const allowed = Array.from(logProbs.keys()).filter((id) => id >= END);
    const total = allowed.reduce((sum, id) => sum + Math.exp(logProbs[id]), 0);
    const likeliest = allowed.reduce((best, id) => (logProbs[id] > logProbs[best] ? id : best));
    const expected = Math.exp(logProbs[likeliest]) / total;
    let hits = 0;
    const samples = 300;
    for (let seed = 0; seed < samples; seed++) {
      const [caption] = await model.decoding.sample(all, 1, { ...OPTIONS, seed });
      const word = caption.tokens[0] ?? END;
      expect(word).toBeGreaterThanOrEqual(END);
      if (word === likeliest) hits++;
    }
    expect(Math.abs(hits / samples - expected)).toBeLessThan(5 * Math.sqrt((expected * (1 - expected)) / samples));
  }));
