/** A language model as the decoder: against transformers and PyTorch (goldens/gpt2/make.py), float64 loops and finite differences. */
import { beforeAll, describe, expect, test } from 'vitest';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { openFile } from '../src/data/file_source.ts';
import { parseSafetensors } from '../src/data/safetensors_format.ts';
import { readTokenIds } from '../src/data/tokenizer_files.ts';
import { END, SPECIAL_WORDS, START } from '../src/data/words.ts';
import { Captioner, type CaptionerOptions, type CaptionerSizes, PRESETS } from '../src/model/captioner/captioner.ts';
import { readLanguageModel } from '../src/model/captioner/language_model.ts';
import type { NamedArray } from '../src/nn/parameters.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { decodesAsInFloat64, gradientsEqualDifferences, learnsByHeart } from './decoder_checks.ts';
import { LANGUAGE_MODEL } from './small_captioner.ts';
import { useGpu } from './support.ts';

const FOLDER = 'test/goldens/gpt2';
const [BATCH, STEPS, REGIONS, WIDTH] = [3, 6, 5, 16];

useGpu();

const tokens = readTokenIds(FOLDER);
/** All tokens are words, but for the end of a text, which is endseq. So the scores are those of transformers, over the same words. */
const words = [...SPECIAL_WORDS, ...[...tokens].sort((a, b) => a[1] - b[1]).flatMap(([token, id]) => (id === 0 ? [] : [token]))];
/** The id here of a token of the language model. */
const wordOf = (token: number, end: number) => (token === 0 ? end : SPECIAL_WORDS.length - 1 + token);

type Golden = ReadonlyMap<string, { shape: readonly number[]; data: Float32Array | Int32Array | Uint32Array }>;
let golden: Golden;
beforeAll(() => {
  const file = openFile(`${FOLDER}/golden.safetensors`);
  golden = parseSafetensors(file).tensors;
  file.close();
});
const get = (name: string) => {
  const found = golden.get(name);
  if (!found) throw new Error(`the golden has no "${name}"`);
  return found.data;
};

/** [B, T] → [T, B] */
const timeMajor = (values: ArrayLike<number>): number[] => Array.from({ length: BATCH * STEPS }, (_, i) => values[(i % BATCH) * STEPS + Math.floor(i / BATCH)]);

/** A captioner with the weights of the golden's model. The features come as they are: their projection is the identity. */
function languageCaptioner(pictureAs: CaptionerOptions['pictureAs']): Captioner {
  const { weights, layers, heads, positions } = readLanguageModel(FOLDER, words, pictureAs === 'cross-attention');
  const sizes: CaptionerSizes = {
    features: WIDTH,
    regions: REGIONS,
    project: WIDTH,
    attention: 1,
    hidden: WIDTH,
    embedding: WIDTH,
    vocabulary: words.length,
    positions,
  };
  const options: CaptionerOptions = { ...PRESETS.recommended, ...LANGUAGE_MODEL, dropout: 0, labelSmoothing: 0, attentionPenalty: 0, layers, heads, pictureAs };
  const model = Captioner.create(sizes, options, 1);
  for (const [name, { data }] of weights) model.parameters.get(name).write(data);
  const identity = Float32Array.from({ length: WIDTH * WIDTH }, (_, i) => Number(i % WIDTH === Math.floor(i / WIDTH)));
  model.parameters.get('enc_w').write(identity);
  return model;
}

const features = () => tensor(get('hidden') as Float32Array, [BATCH, REGIONS, WIDTH]);
const inputs = () => ({
  ids: tensor(
    Uint32Array.from(timeMajor(get('ids')), (id) => wordOf(id, START)),
    [STEPS, BATCH],
  ),
  targets: tensor(
    Uint32Array.from(timeMajor(get('targets')), (id) => wordOf(id, END)),
    [STEPS, BATCH],
  ),
  weights: tensor(Float32Array.from(timeMajor(get('weights'))), [STEPS, BATCH]),
});

function expectClose(found: ArrayLike<number>, expected: ArrayLike<number>, what: string, tolerance = 2e-5): void {
  expect(found.length, what).toBe(expected.length);
  const largest = Array.from(expected).reduce((most, value) => Math.max(most, Math.abs(value)), 1e-3);
  for (let i = 0; i < expected.length; i++)
    expect(Math.abs(found[i] - expected[i]) / largest, `${what} ${i}: ${found[i]}, ${expected[i]}`).toBeLessThan(tolerance);
}

/** Logits [T · B, V] here → [B, T, tokens] as in the golden. */
function asTokens(logits: ArrayLike<number>): number[] {
  const V = words.length;
  return Array.from({ length: BATCH * STEPS * tokens.size }, (_, i) => {
    const [b, t, token] = [Math.floor(i / tokens.size / STEPS), Math.floor(i / tokens.size) % STEPS, i % tokens.size];
    return logits[(t * BATCH + b) * V + wordOf(token, END)];
  });
}

const WAYS = [
  ['cross-attention', 'cross'],
  ['prefix', 'prefix'],
] as const;

describe.each(WAYS)('with the picture as %s', (pictureAs, name) => {
  test('the scores of all tokens and the attention are those of transformers', async () => {
    using _s = scope();
    const model = languageCaptioner(pictureAs);
    const { logits, alpha } = noGrad(() => model.forward(features(), inputs().ids));
    const found = await logits.data();
    expectClose(asTokens(found), get(`${name}.logits`), 'logits');
    for (const special of [0, 1, START]) expect(found[special]).toBeLessThan(-9000);
    const attention = get(`${name}.attention`);
    const places = attention.length / BATCH / STEPS;
    const expected = Array.from({ length: STEPS * BATCH }, (_, i) => {
      const first = ((i % BATCH) * STEPS + Math.floor(i / BATCH)) * places;
      const own = Array.from(attention.subarray(first, first + REGIONS));
      const total = own.reduce((sum, value) => sum + value, 0);
      return own.map((value) => value / total);
    }).flat();
    expectClose(await alpha.data(), expected, 'attention');
    model.dispose();
  });

  test('greedy decoding with the cache finds the tokens that transformers finds with its cache', async () => {
    using _s = scope();
    const model = languageCaptioner(pictureAs);
    const captions = await model.decoding.greedy(features(), 8, { suppress: true });
    const expected = get(`${name}.greedy`);
    captions.forEach(({ tokens: ids, ended }, b) => {
      const own = Array.from(expected.subarray(b * 8, b * 8 + 8), (id) => wordOf(id, END));
      expect([...ids, ...(ended ? [END] : [])]).toEqual(own.slice(0, own.indexOf(END) + 1 || 8));
    });
    model.dispose();
  });

  test('the gradients of the loss are those of PyTorch, for every weight', async () => {
    using _s = scope();
    const model = languageCaptioner(pictureAs);
    const { ids, targets, weights } = inputs();
    const { crossEntropy } = model.loss(features(), ids, targets, weights);
    backward(crossEntropy);
    const gradient = async (parameter: string) => (await (gradOf(model.parameters.get(parameter)) as Tensor).data()) as Float32Array;
    const emb = await gradient('emb');
    const ofTokens = Array.from({ length: tokens.size * WIDTH }, (_, i) => {
      const [token, k] = [Math.floor(i / WIDTH), i % WIDTH];
      return emb[wordOf(token, END) * WIDTH + k] + (token === 0 ? emb[START * WIDTH + k] : 0);
    });
    expectClose(ofTokens, get(`${name}.grad.transformer.wte.weight`), 'emb', 1e-4);
    expectClose(await gradient('positions'), get(`${name}.grad.transformer.wpe.weight`), 'positions', 1e-4);
    const names: [string, string][] = ['ln_1 norm1', 'attn.c_attn self', 'attn.c_proj self_out', 'ln_2 norm3', 'mlp.c_fc inner', 'mlp.c_proj outer']
      .concat(name === 'cross' ? ['ln_cross_attn norm2', 'crossattention.q_attn query', 'crossattention.c_proj cross_out'] : [])
      .flatMap((pair) => [0, 1].map((i): [string, string] => [`transformer.h.${i}.${pair.split(' ')[0]}`, `layer${i}.${pair.split(' ')[1]}`]))
      .concat([['transformer.ln_f', 'final']]);
    for (const [theirs, ours] of names) {
      const isNorm = model.parameters.all.has(`${ours}_g`);
      expectClose(await gradient(`${ours}_${isNorm ? 'g' : 'w'}`), get(`${name}.grad.${theirs}.weight`), ours, 1e-4);
      expectClose(await gradient(`${ours}_b`), get(`${name}.grad.${theirs}.bias`), `bias of ${ours}`, 1e-4);
    }
    if (name === 'cross') {
      const memory = await gradient('memory_w');
      for (const i of [0, 1]) {
        const own = Array.from({ length: WIDTH }, (_, r) => Array.from(memory.subarray((r * 2 + i) * 2 * WIDTH, (r * 2 + i + 1) * 2 * WIDTH))).flat();
        expectClose(own, get(`cross.grad.transformer.h.${i}.crossattention.c_attn.weight`), `memory of layer ${i}`, 1e-4);
      }
    }
    // The features' gradient, seen through the bias of their projection.
    const hidden = get(`${name}.grad.hidden`);
    const sums = Array.from({ length: WIDTH }, (_, k) =>
      Array.from({ length: BATCH * REGIONS }, (_unused, r) => hidden[r * WIDTH + k]).reduce((sum, x) => sum + x, 0),
    );
    expectClose(await gradient('enc_b'), sums, 'projection', 1e-4);
    model.dispose();
  });

  test.each(['basic', 'recommended'] as const)('of preset %s: greedy and beam equal the float64 captioner, which keeps no cache', (preset) =>
    decodesAsInFloat64(preset, { ...LANGUAGE_MODEL, pictureAs }));

  test('gradients of the whole loss equal finite differences', () => gradientsEqualDifferences({ ...LANGUAGE_MODEL, pictureAs }));

  test('it learns a few captions by heart', () => learnsByHeart({ ...LANGUAGE_MODEL, pictureAs }));
});

test('without a picture it says what the language model says', async () => {
  using _s = scope();
  const model = languageCaptioner('cross-attention');
  for (const name of ['layer0.cross_out', 'layer1.cross_out'])
    for (const part of ['w', 'b']) {
      const parameter = model.parameters.get(`${name}_${part}`);
      parameter.write(new Float32Array(parameter.size));
    }
  const { logits } = noGrad(() => model.forward(features(), inputs().ids));
  expectClose(asTokens(await logits.data()), get('plain.logits'), 'logits');
  model.dispose();
});

test('a new model starts as the language model: what cross-attention adds is zero', async () => {
  using _s = scope();
  const { parameters } = Captioner.create(
    { features: 4, regions: 2, project: 8, attention: 1, hidden: 8, embedding: 8, vocabulary: 9, positions: 12 },
    { ...PRESETS.recommended, ...LANGUAGE_MODEL, heads: 2 },
    1,
  );
  const values: Map<string, NamedArray> = await parameters.read();
  for (const [name, { data }] of values)
    if (name.includes('cross_out'))
      expect(
        data.every((x) => x === 0),
        name,
      ).toBe(true);
  parameters.dispose();
});

test('captions beyond the learned positions are refused, and say how many are needed', async () => {
  using _s = scope();
  const model = languageCaptioner('prefix');
  await expect(model.decoding.greedy(features(), 24, { suppress: true })).rejects.toThrow(/24 positions.* 25/);
  model.dispose();
});
