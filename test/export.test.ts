/** Exported decoders: onnxruntime says the same words as we do, with the same scores; ONNX's own checker takes the files. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { oracle } from '../scripts/third_party.js';
import { noGrad } from '../src/autograd/tape.ts';
import { END, PAD, START } from '../src/data/words.ts';
import { type Captioner, type CaptionerOptions, PRESETS } from '../src/model/captioner/captioner.ts';
import { decoderModels, type ExportedGraph } from '../src/model/export/decoder_models.ts';
import { decoderGraphs } from '../src/model/export/decoders.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { LENGTH, lively, PICTURES, randomPictures, SIZES, TRANSFORMER } from './small_captioner.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();

type Values = Float32Array | BigInt64Array;
interface OrtTensor {
  data: Values;
  dims: readonly number[];
}
interface Ort {
  InferenceSession: { create(bytes: Uint8Array, options: object): Promise<{ run(feeds: object): Promise<Record<string, OrtTensor>> }> };
  Tensor: new (type: string, data: Values, shape: readonly number[]) => OrtTensor;
}

const ort = oracle('onnxruntime-node') as Ort | null;
if (!ort) console.warn('SKIPPED: exported models in onnxruntime; install it with `npm run oracles`');

const folder = temporaryFolder();

const CHECKER = `
import sys, onnx
for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    print(path)
`;

/** A Python that has ONNX, or null; says aloud that the checker is skipped. */
function pythonWithOnnx(): string | null {
  const python = process.env.GLIMPSE_PYTHON ?? 'python3';
  try {
    execFileSync(python, ['-c', 'import onnx'], { stdio: 'ignore' });
    return python;
  } catch {
    console.warn(`SKIPPED: onnx.checker; ${python} has no module onnx (GLIMPSE_PYTHON names another Python)`);
    return null;
  }
}
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
];

async function modelsOf(model: Captioner, suppress: boolean): Promise<Record<string, ExportedGraph>> {
  const weights = await model.parameters.read();
  const models = decoderModels({ sizes: model.sizes, options: model.options, weights }, { suppress, version: '0' });
  return Object.fromEntries(models.map((each) => [each.name, each]));
}

const feed = (data: Values, shape: readonly number[]): OrtTensor => new (ort as Ort).Tensor(data instanceof Float32Array ? 'float32' : 'int64', data, shape);

async function session({ bytes }: ExportedGraph) {
  return (ort as Ort).InferenceSession.create(Buffer.concat(bytes), { logSeverityLevel: 3 });
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  expect(actual.length, what).toBe(expected.length);
  let most = 0;
  for (let i = 0; i < expected.length; i++) most = Math.max(most, Math.abs(actual[i] - expected[i]));
  expect(most, what).toBeLessThanOrEqual(1e-4);
}

/** The captions in the words of decoder_greedy: those before endseq. */
function captionsOf({ data, dims: [rows, steps] }: OrtTensor): number[][] {
  return Array.from({ length: rows }, (_, n) => {
    const ids = [...(data as BigInt64Array).subarray(n * steps, (n + 1) * steps)].map(Number);
    const end = ids.indexOf(END);
    if (end < 0) return ids;
    expect(ids.slice(end + 1).every((id) => id === PAD)).toBe(true);
    return ids.slice(0, end);
  });
}

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
        const { words, log_probs: logProbs, attention } = await greedy.run({ features, max_length: feed(BigInt64Array.of(BigInt(length)), []) });
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
        const words = feed(BigInt64Array.from(ids, BigInt), [PICTURES]);
        const { logits, attention, ...next } = await step.run({ words, ...state });
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
    const { words } = await greedy.run({ features, max_length: feed(BigInt64Array.of(BigInt(LENGTH)), []) });
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
    const { words } = await greedy.run({ features: feed(features, pictures.all.shape), max_length: feed(BigInt64Array.of(5n), []) });
    expect(captionsOf(words)).toEqual(expected.map(({ tokens }) => tokens));
  }
  model.dispose();
});

test('a decoder of another kind is refused by its name; a missing weight too', () => {
  const options = { ...PRESETS.basic, decoder: 'mamba' as CaptionerOptions['decoder'] };
  expect(() => decoderGraphs({ sizes: SIZES, options, weights: new Map() })).toThrow(
    /kind "mamba" cannot be exported as ONNX \(stacked, show-attend-tell, up-down, transformer can\)/,
  );
  expect(() => decoderModels({ sizes: SIZES, options: PRESETS.basic, weights: new Map() }, { suppress: false, version: '0' })).toThrow(/have no "enc_w"/);
});
