/** A language model as the decoder, by the commands: tokens, training, resuming, captions, scores, self-critical training, export. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readSafetensors, writeSafetensors } from '../src/data/safetensors.ts';
import type { StoredTensor } from '../src/data/safetensors_format.ts';
import { SPECIAL_WORDS } from '../src/data/words.ts';
import { readLanguageModel } from '../src/model/captioner/language_model.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);
const MODEL = join(import.meta.dirname, 'goldens/gpt2');
const data = join(folder, 'tokens.json');

/** The model with positions for the 49 regions of a picture and its words. */
const LONG = join(folder, 'long');
cpSync(MODEL, LONG, { recursive: true });
const { tensors: stored } = readSafetensors(join(MODEL, 'model.safetensors'));
const positions = { shape: [70, 16], data: Float32Array.from({ length: 70 * 16 }, (_, i) => Math.sin(i)) };
writeSafetensors(
  join(LONG, 'model.safetensors'),
  new Map<string, { shape: readonly number[]; data: StoredTensor['data'] }>([...stored, ['transformer.wpe.weight', positions]]),
);
writeFileSync(join(LONG, 'config.json'), JSON.stringify({ ...JSON.parse(readFileSync(join(MODEL, 'config.json'), 'utf8')), n_positions: 70 }));

/** The pictures' captions as tokens. */
let prepared: Promise<void> | null = null;
const tokens = () => {
  prepared ??= (async () => {
    const { images } = await made.features();
    const outcome = await glimpse(
      ...['prepare', '--coco-train', join(folder, 'coco.json'), '--images', images, '--out', data, '--skip-bad'],
      ...['--words', 'byte-pairs', '--tokenizer', MODEL, '--max-length', '18'],
    );
    expect(outcome).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/words by the byte-pairs rule: 303 in the vocabulary; not in it 0\.00 % of train/),
    });
  })();
  return prepared;
};
const training = async (...own: string[]) => {
  await tokens();
  return [
    'train',
    '--data',
    data,
    '--features',
    join(folder, 'features'),
    '--batch-images',
    '5',
    '--captions',
    '2',
    '--rate',
    '0.01',
    '--schedule',
    'constant',
    '--quiet',
    ...own,
  ];
};
const weightsOf = (run: string, epoch = 1) => readSafetensors(join(run, 'checkpoints', `epoch-00${epoch}.safetensors`)).tensors;

test.each([
  'cross-attention',
  'prefix',
])('with the picture as %s it trains, stops, goes on bit for bit, and captions with spaces where they belong', async (way) => {
  const [out, halves] = [join(folder, way), join(folder, `${way} in halves`)];
  const args = await training('--decoder', 'gpt2', '--language-model', LONG, '--picture-as', way, '--language-rate', '0.003', '--dropout', '0');
  const whole = await glimpse(...args, '--out', out, '--epochs', '4', '--json');
  expect(whole).toMatchObject({ code: 0 });
  const { config, epochs } = JSON.parse(whole.stdout);
  expect(config).toMatchObject({ options: { decoder: 'gpt2', layers: 2, heads: 2, pictureAs: way, gate: false }, languageRate: 0.003, words: 'byte-pairs' });
  expect(config.sizes).toMatchObject({ project: 16, hidden: 16, embedding: 16, positions: 70 });
  expect(epochs.at(-1).trainLoss).toBeLessThan(0.9 * epochs[0].trainLoss);
  for (const [count, own] of [
    ['2', []],
    ['4', ['--resume']],
  ] as const)
    expect((await glimpse(...args, '--out', halves, '--epochs', count, ...own)).code).toBe(0);
  for (const [name, { data: values }] of weightsOf(halves, 4)) expect(values, name).toEqual(weightsOf(out, 4).get(name)?.data);

  const [said] = JSON.parse((await glimpse('caption', out, join(folder, 'images', '15.jpg'), '--beam', '2', '--json')).stdout);
  expect(said.caption).toMatch(/^\S+( \S+)*$/);
  for (const text of [said.caption, ...said.tokens]) expect(text).not.toMatch(/Ġ|startseq|endseq/);
  const results = join(folder, `${way}.json`);
  const scored = ['--data', data, '--features', join(folder, 'features'), '--split', 'val', '--beam', '1', '--out', results];
  expect(await glimpse('eval', out, ...scored)).toMatchObject({ code: 0, stdout: expect.stringContaining('CIDEr-D') });
  const captions = JSON.parse(readFileSync(results, 'utf8')) as { caption: string }[];
  expect(captions).toHaveLength(3);
  for (const { caption } of captions) expect(caption).not.toMatch(/Ġ|startseq|endseq/);
});

test('--language-rate 0 leaves the language model as it is, and stores no moments of it', async () => {
  const out = join(folder, 'frozen');
  const args = await training('--decoder', 'gpt2', '--language-model', MODEL, '--language-rate', '0', '--epochs', '1');
  expect(await glimpse(...args, '--out', out)).toMatchObject({ code: 0 });
  const found = weightsOf(out);
  const before = readSafetensors(join(MODEL, 'model.safetensors')).tensors;
  expect(found.get('weight.layer0.self_w')?.data).toEqual(before.get('transformer.h.0.attn.c_attn.weight')?.data);
  expect(found.get('weight.positions')?.data).toEqual(before.get('transformer.wpe.weight')?.data);
  expect(found.has('m.layer0.self_w')).toBe(false);
  expect(found.has('m.enc_w')).toBe(true);
  expect(found.get('weight.layer0.query_w')?.data).not.toEqual(before.get('transformer.h.0.crossattention.q_attn.weight')?.data);
  expect(await glimpse(...args, '--out', out, '--epochs', '2', '--resume')).toMatchObject({ code: 0 });
});

test('self-critical training goes on from it, and it is exported as ONNX and for the browser', async () => {
  const [out, critical] = [join(folder, 'to go on'), join(folder, 'critical')];
  const args = await training('--decoder', 'gpt2', '--language-model', MODEL, '--epochs', '1');
  expect(await glimpse(...args, '--out', out)).toMatchObject({ code: 0 });
  const scst = await glimpse(
    ...['train', '--data', data, '--features', join(folder, 'features'), '--objective', 'scst', '--start', out, '--out', critical],
    ...['--epochs', '1', '--samples', '2', '--json', '--quiet'],
  );
  expect(scst).toMatchObject({ code: 0 });
  expect(JSON.parse(scst.stdout).config).toMatchObject({ languageRate: 2e-5, objective: 'scst', options: { dropout: 0 } });
  // What only the started model tells: whether an option has an effect.
  const { run, data: words } = await made.trained();
  const going = (start: string, dataset: string, ...own: string[]) =>
    glimpse('train', '--data', dataset, '--features', join(folder, 'features'), '--start', start, '--out', join(folder, 'none'), ...own);
  expect(await going(run, words, '--language-rate', '0.1')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--language-rate belongs to --decoder gpt2'),
  });
  expect(await going(out, data, '--label-smoothing', '0.1')).toMatchObject({ code: 2, stderr: expect.stringContaining('which a language model never says') });
  for (const format of ['onnx', 'web', 'safetensors']) {
    const exported = join(folder, `exported ${format}`);
    expect(await glimpse('export', out, '--format', format, '--out', exported, '--quiet')).toMatchObject({ code: 0 });
    const card = readFileSync(join(exported, 'README.md'), 'utf8');
    expect(card).toMatch(/GPT-2 \(Radford and others 2019\) of 2 layers with 2 heads, which sees the picture by cross-attention/);
    if (format === 'onnx') expect(card).toContain("print(bytes(byte[character] for character in text).decode(errors='replace'))");
  }
});

test('what does not fit together is refused, and told what to do', async () => {
  await tokens();
  const words = join(folder, 'dataset.json');
  const train = async (...own: string[]) => glimpse(...(await training()), '--out', join(folder, 'none'), ...own);
  expect(await train('--decoder', 'gpt2')).toMatchObject({ code: 2, stderr: expect.stringContaining('name its folder with --language-model') });
  expect(await train('--language-model', MODEL)).toMatchObject({ code: 2, stderr: expect.stringContaining('--language-model belongs to --decoder gpt2') });
  expect(await train('--decoder', 'gpt2', '--language-model', MODEL, '--data', words)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/by the rule ascii; a language model needs its own tokens: glimpse prepare --words byte-pairs --tokenizer/),
  });
  expect(await train('--decoder', 'gpt2', '--language-model', MODEL, '--label-smoothing', '0.1')).toMatchObject({ code: 2 });
  expect(await train('--decoder', 'gpt2', '--language-model', MODEL, '--picture-as', 'prefix')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('the language model has 24 positions, 49 regions and captions of up to 17 words need 66'),
  });
  const prepare = (...own: string[]) => glimpse('prepare', '--table', 'none.csv', '--images', folder, '--out', join(folder, 'none.json'), ...own);
  expect(await prepare('--words', 'byte-pairs')).toMatchObject({ code: 2, stderr: expect.stringContaining('name it with --tokenizer') });
  expect(await prepare('--words', 'byte-pairs', '--tokenizer', MODEL, '--vocabulary', '200')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('260 special words and bytes at least'),
  });
  expect(await prepare('--words', 'byte-pairs', '--tokenizer', folder)).toMatchObject({ code: 1, stderr: expect.stringContaining('vocab.json') });
});

test.each<[string, (config: Record<string, unknown>) => void, RegExp]>([
  ['another kind of model', (config) => Object.assign(config, { model_type: 'opt' }), /model_type "opt" is not read; gpt2 is/],
  ['another activation', (config) => Object.assign(config, { activation_function: 'relu' }), /activation_function.*expected gelu_new or gelu_pytorch_tanh/],
  ['scores of their own', (config) => Object.assign(config, { tie_word_embeddings: false }), /tie_word_embeddings/],
  ['heads that do not fit', (config) => Object.assign(config, { n_head: 3 }), /3 attention heads do not share a width of 16/],
  ['another inner width', (config) => Object.assign(config, { n_inner: 17 }), /n_inner is 17; 64 or null/],
  ['more layers than the file has', (config) => Object.assign(config, { n_layer: 3 }), /has no tensor "transformer\.h\.2\.ln_1\.weight" \[16\]/],
  ['fewer layers than the file has', (config) => Object.assign(config, { n_layer: 1 }), /has a tensor "h\.1\./],
  [
    'fewer tokens than the file has',
    (config) => Object.assign(config, { vocab_size: 299 }),
    /"transformer\.wte\.weight" is \[300,16\]; by the configuration it is \[299,16\]/,
  ],
  ['an end of text beyond the tokens', (config) => Object.assign(config, { eos_token_id: 300 }), /eos_token_id is 300, but there are only 300 tokens/],
  ['too few positions', (config) => Object.assign(config, { n_positions: 23 }), /"transformer\.wpe\.weight" is \[24,16\]/],
])('a configuration with %s is refused', (what, change, message) => {
  const broken = join(folder, `with ${what}`);
  mkdirSync(broken);
  for (const name of ['vocab.json', 'merges.txt', 'model.safetensors']) cpSync(join(MODEL, name), join(broken, name));
  const config = JSON.parse(readFileSync(join(MODEL, 'config.json'), 'utf8'));
  change(config);
  writeFileSync(join(broken, 'config.json'), JSON.stringify(config));
  expect(() => readLanguageModel(broken, SPECIAL_WORDS, true)).toThrow(message);
});
