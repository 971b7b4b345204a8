/** Exported decoders: onnxruntime says the same words as we do, with the same scores; ONNX's own checker takes the files. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { noGrad } from '../src/autograd/tape.ts';
import { PAD, START } from '../src/data/words.ts';
import { Captioner, type CaptionerOptions, type CaptionerSizes, PRESETS } from '../src/model/captioner/captioner.ts';
import { decoderModels, type ExportedGraph } from '../src/model/export/decoder_models.ts';
import { decoderGraphs } from '../src/model/export/decoders.ts';
import { Random } from '../src/random.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { CHECKER, captionsOf, expectClose, feed, type OrtTensor, ort, pythonWithOnnx, sessionOf, wholes } from './exported.ts';
import { LANGUAGE_MODEL, LENGTH, lively, PICTURES, randomPictures, SIZES, TRANSFORMER } from './small_captioner.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();

const folder = temporaryFolder();

const python = pythonWithOnnx();

const KINDS: [string, Partial<CaptionerOptions>][] = [
  ['stacked', {}],
  ['stacked, query h1, ReLU score, context to the output', { query: 'h1', score: 'relu', contextToOutput: true }],
  ['stacked GRUs', { cell: 'gru' }],
  ['show-attend-tell', { decoder: 'show-attend-tell' }],
  ['show-attend-tell of a GRU, context to the output', { decoder: 'show-attend-tell', cell: 'gru', contextToOutput: true }],
  ['up-down', { decoder: 'up-down' }],
  ['up-down of GRUs, ReLU score', { decoder: 'up-down', cell: 'gru', score: 'relu' }],
  ['hard attention', { attention: 'hard' }],
  ['hard attention, show-attend-tell', { attention: 'hard', decoder: 'show-attend-tell' }],
  ['transformer', TRANSFORMER],
  ['transformer of one layer and one head', { ...TRANSFORMER, layers: 1, heads: 1 }],
  ['gpt2 with cross-attention', LANGUAGE_MODEL],
  ['gpt2 with a prefix', { ...LANGUAGE_MODEL, pictureAs: 'prefix' }],
];

async function modelsOf(model: Captioner, suppress: boolean): Promise<Record<string, ExportedGraph>> {
  const weights = await model.parameters.read();
  const models = decoderModels({ sizes: model.sizes, options: model.options, weights }, { suppress, version: '0' });
  return Object.fromEntries(models.map((each) => [each.name, each]));
}

const session = ({ bytes }: ExportedGraph) => sessionOf(bytes);

/** Every kind in both presets: with gate and learned states, and without. */
describe.skipIf(!ort).each(KINDS.flatMap(([name, change]) => (['basic', 'recommended'] as const).map((preset) => [name, preset, change] as const)))(
  '%s, %s',
  (_name, preset, change) => {
    const suppress = preset === 'recommended';

    test('decoder_greedy: the words, log-probabilities and attention of our own greedy decoding', async () => {
      using _s = scope();
      const { model, pictures } = lively(preset, change);
      const greedy = await session((await modelsOf(model, suppress)).decoder_greedy);
      // Not longer: random weights may be chaotic, so that rounding errors double every few words.
      for (const length of [1, 2, LENGTH, 20]) {
        const expected = await model.decoding.greedy(pictures.all, length, { suppress }, true);
        const features = feed((await pictures.all.data()) as Float32Array, pictures.all.shape);
        const { words, log_probs: logProbs, attention } = await greedy.run({ features, max_length: wholes([length], []) });
        expect(captionsOf(words)).toEqual(expected.map(({ tokens }) => tokens));
        const steps = words.dims[1];
        expect(steps).toBe(Math.max(...expected.map((each) => each.logProbs.length))); // it stops when the last caption has ended
        const rest = (values: readonly number[]) => [...values, ...new Array<number>(steps - values.length).fill(0)];
        expectClose(
          logProbs.data as Float32Array,
          expected.flatMap((each) => rest(each.logProbs)),
          'log-probabilities',
        );
        const none = new Array<number>(SIZES.regions).fill(0);
        expectClose(
          attention.data as Float32Array,
          expected.flatMap(({ alpha }) => Array.from({ length: steps }, (_, t) => [...(alpha[t] ?? none)]).flat()),
          'attention',
        );
      }
      model.dispose();
    });

    test('decoder_start and decoder_step: logits and attention within 1e-4 at every step, whatever the words', async () => {
      using _s = scope();
      const { model, pictures } = lively(preset, change);
      const models = await modelsOf(model, suppress);
      const [start, step] = [await session(models.decoder_start), await session(models.decoder_step)];
      let state: Record<string, OrtTensor> = await start.run({ features: feed((await pictures.all.data()) as Float32Array, pictures.all.shape) });
      const encoded = noGrad(() => model.encode(pictures.all));
      let own: Tensor[] = encoded.start;
      for (let t = 0; t < 6; t++) {
        const ids = Array.from({ length: PICTURES }, (_, n) => (t === 0 ? START : (5 * t + 3 * n) % SIZES.vocabulary));
        const expected = noGrad(() => model.decodeStep({ ...encoded, start: own }, tensor(Uint32Array.from(ids), [1, PICTURES])));
        const { logits, attention, ...next } = await step.run({ words: wholes(ids), ...state });
        expectClose(logits.data as Float32Array, await expected.logits.data(), `logits of step ${t}`);
        expectClose(attention.data as Float32Array, await expected.alpha.data(), `attention of step ${t}`);
        state = { ...state, ...Object.fromEntries(Object.entries(next).map(([name, value]) => [name.replace(/^next_/, ''), value])) };
        own = expected.states;
      }
      model.dispose();
    });

    test.skipIf(!python)('ONNX’s own checker takes the models', async () => {
      using _s = scope();
      const { model } = lively(preset, change);
      const paths = Object.values(await modelsOf(model, suppress)).map(({ name, bytes }) => {
        const path = join(folder, `${name}.onnx`);
        mkdirSync(folder, { recursive: true });
        writeFileSync(path, Buffer.concat(bytes));
        return path;
      });
      expect(
        execFileSync(python as string, ['-c', CHECKER, ...paths], { encoding: 'utf8' })
          .trim()
          .split('\n'),
      ).toEqual(paths);
      model.dispose();
    });
  },
);

/** No two widths are the same, so that none can stand in for another. */
const DISTINCT: CaptionerSizes = { features: 7, regions: 5, project: 9, attention: 11, hidden: 12, embedding: 10, vocabulary: 19 };

/** A language model has one width throughout. */
const distinctFor = ({ decoder }: Partial<CaptionerOptions>): CaptionerSizes =>
  decoder === 'gpt2' ? { ...DISTINCT, project: 12, embedding: 12, positions: 17 } : DISTINCT;

test.skipIf(!ort).each(KINDS)('widths that all differ: %s', async (_name, change) => {
  using _s = scope();
  const model = Captioner.create(distinctFor(change), { ...PRESETS.recommended, ...change }, 6);
  const random = new Random(7, 'weights');
  for (const parameter of model.parameters.all.values()) parameter.write(Float32Array.from({ length: parameter.size }, () => random.uniform(-0.9, 0.9)));
  const pictures = randomPictures(3, 2, 'distinct', DISTINCT);
  const expected = await model.decoding.greedy(pictures.all, LENGTH, { suppress: true });
  const greedy = await session((await modelsOf(model, true)).decoder_greedy);
  const features = feed((await pictures.all.data()) as Float32Array, pictures.all.shape);
  const { words, log_probs: logProbs } = await greedy.run({ features, max_length: wholes([LENGTH], []) });
  expect(captionsOf(words)).toEqual(expected.map(({ tokens }) => tokens));
  const [, steps] = words.dims;
  for (const [n, { logProbs: own }] of expected.entries())
    expectClose((logProbs.data as Float32Array).subarray(n * steps, n * steps + own.length), own, 'log-probabilities');
  model.dispose();
});

test.skipIf(!ort)('one picture, and pictures of more regions than those trained on', async () => {
  using _s = scope();
  const { model } = lively('recommended');
  const greedy = await session((await modelsOf(model, true)).decoder_greedy);
  for (const [count, regions] of [
    [1, SIZES.regions],
    [2, 11],
    [4, 1],
  ]) {
    const pictures = randomPictures(count, 4, 'grids', { ...SIZES, regions });
    const expected = await model.decoding.greedy(pictures.all, LENGTH, { suppress: true });
    const features = feed((await pictures.all.data()) as Float32Array, pictures.all.shape);
    const { words } = await greedy.run({ features, max_length: wholes([LENGTH], []) });
    expect(captionsOf(words)).toEqual(expected.map(({ tokens }) => tokens));
  }
  model.dispose();
});

test('no word below endseq is chosen only with `suppress`', async () => {
  using _s = scope();
  const { model } = lively('basic');
  model.parameters.get('out_b').write(Float32Array.from({ length: SIZES.vocabulary }, (_, i) => (i === PAD ? 50 : 0)));
  const pictures = randomPictures(2, 1, 'suppressed');
  const features = (await pictures.all.data()) as Float32Array;
  for (const suppress of [false, true]) {
    const expected = await model.decoding.greedy(pictures.all, 5, { suppress });
    expect(expected.every(({ tokens }) => tokens.includes(PAD))).toBe(!suppress);
    if (!ort) continue;
    const greedy = await session((await modelsOf(model, suppress)).decoder_greedy);
    const { words } = await greedy.run({ features: feed(features, pictures.all.shape), max_length: wholes([5], []) });
    expect(captionsOf(words)).toEqual(expected.map(({ tokens }) => tokens));
  }
  model.dispose();
});

test('a decoder of another kind is refused by its name; a missing weight too', () => {
  const options = { ...PRESETS.basic, decoder: 'mamba' as CaptionerOptions['decoder'] };
  expect(() => decoderGraphs({ sizes: SIZES, options, weights: new Map() })).toThrow(
    /kind "mamba" cannot be exported as ONNX \(stacked, show-attend-tell, up-down, transformer, gpt2 can\)/,
  );
  expect(() => decoderModels({ sizes: SIZES, options: PRESETS.basic, weights: new Map() }, { suppress: false, version: '0' })).toThrow(/have no "enc_w"/);
});
