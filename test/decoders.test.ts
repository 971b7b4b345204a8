/** The recurrent decoders: the orders of attention and layers, LSTMs and GRUs, the queries and scores. */
import { describe, expect, test } from 'vitest';
import { noGrad } from '../src/autograd/tape.ts';
import type { CaptionerOptions } from '../src/model/captioner/captioner.ts';
import { recur } from '../src/model/captioner/recurrence.ts';
import { Random } from '../src/random.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { decodesAsInFloat64, gradientsEqualDifferences, learnsByHeart } from './decoder_checks.ts';
import { lively, PICTURES, SIZES } from './small_captioner.ts';
import { useGpu } from './support.ts';

useGpu();

describe.each<[string, Partial<CaptionerOptions>]>([
  ['show-attend-tell', { decoder: 'show-attend-tell' }],
  ['up-down', { decoder: 'up-down' }],
  ['stacked, query h1, ReLU score, context to the output', { query: 'h1', score: 'relu', contextToOutput: true }],
  ['stacked GRUs', { cell: 'gru' }],
  ['show-attend-tell of a GRU, context to the output', { decoder: 'show-attend-tell', cell: 'gru', contextToOutput: true }],
  ['up-down of GRUs, ReLU score', { decoder: 'up-down', cell: 'gru', score: 'relu' }],
])('%s', (_name, change) => {
  test.each(['basic', 'recommended'] as const)('of preset %s: greedy and beam equal the float64 captioner', (preset) => decodesAsInFloat64(preset, change));
  test('gradients of the whole loss equal finite differences', () => gradientsEqualDifferences(change));
});

test('GRUs learn a few captions by heart', () => learnsByHeart({ cell: 'gru', contextToOutput: true }));

test.each<Partial<CaptionerOptions>>([{}, { query: 'h1', score: 'relu' }])('the stacked order from single ops equals the fused op, with %j', async (change) => {
  using _s = scope();
  const { model, pictures } = lively('recommended', change);
  const encoded = noGrad(() => model.encode(pictures.all));
  const random = new Random(8, 'words');
  const xe = tensor(
    Float32Array.from({ length: 4 * PICTURES * 4 * SIZES.hidden }, () => random.normal()),
    [4, PICTURES, 4 * SIZES.hidden],
  );
  const [fused, composed] = [false, true].map((apart) => recur(SIZES, model.options, (name) => model.parameters.get(name), encoded, xe, { composed: apart }));
  for (const name of ['output', 'alpha', 'context'] as const) {
    const [a, b] = [await fused[name].data(), await composed[name].data()];
    for (const [i, value] of a.entries()) expect(Math.abs(value - b[i])).toBeLessThan(2e-5);
  }
  model.dispose();
});
