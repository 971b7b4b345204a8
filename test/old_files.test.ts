/**
 * Files of earlier versions are read with the names of today. The texts are those that version e6fa756 of 25 November 2026 wrote
 * with `--words seed` and `--preset seed`, with shorter lists and smaller tensors.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readDataset } from '../src/data/captions.ts';
import { FeatureStore } from '../src/data/feature_store.ts';
import { FeatureWriter } from '../src/data/feature_writer.ts';
import { readSafetensors, writeSafetensors } from '../src/data/safetensors.ts';
import { loadCheckpoint } from '../src/model/training/checkpoint.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const ENCODER = { path: '/models/model.onnx', sha256: 'ea3a3841eabad74c', featureMap: 'y', preprocessing: 'imagenet', tuned: null };

test('a dataset: the word rule "seed" is ascii', () => {
  const path = join(folder, 'dataset.json');
  const text =
    '{"imageFolder":"/pictures","words":"seed","vocabulary":["<pad>","<unk>","startseq","endseq","a","picture","blue","red"],"maxLength":35,"images":[{"file":"0.jpg","split":"train","captions":["A blue picture"],"ids":[[2,4,6,5,3]]}]}';
  writeFileSync(path, text);
  expect(readDataset(path)).toMatchObject({ words: 'ascii', maxLength: 35, images: [{ file: '0.jpg', ids: [[2, 4, 6, 5, 3]] }] });
  writeFileSync(path, text.replace('"seed"', '"nonsense"'));
  expect(() => readDataset(path)).toThrow(/is no prepared dataset: words/);
});

test('a feature store: places are regions, in a finished store and in one that goes on', async () => {
  const record = Float32Array.of(1, 2, 3, 4);
  const bytes = new Uint8Array(record.buffer);
  const checksum = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
  const index = { version: 1, encoder: ENCODER, places: 2, width: 2, type: 'f32', files: ['0.jpg'], checksums: [checksum] };
  const [finished, stopped] = [join(folder, 'finished'), join(folder, 'stopped')];
  for (const [store, ending] of [
    [finished, ''],
    [stopped, '.partial'],
  ]) {
    mkdirSync(store);
    writeFileSync(join(store, `features.f32${ending}`), bytes);
    writeFileSync(join(store, `features.json${ending}`), JSON.stringify(index));
  }
  const writer = FeatureWriter.open(stopped, { encoder: ENCODER, regions: 2, width: 2, type: 'f32' });
  writer.append(['1.jpg'], [record]);
  writer.finish();
  for (const [path, files] of [
    [finished, ['0.jpg']],
    [stopped, ['0.jpg', '1.jpg']],
  ] as const) {
    const store = await FeatureStore.open(path);
    expect(store.index).toMatchObject({ regions: 2, width: 2 });
    expect([...store.files()]).toEqual(files);
    expect(store.index).not.toHaveProperty('places');
    expect(await store.read(['0.jpg'])).toEqual(record);
    await store.close();
  }
});

const CHECKPOINT = {
  format: 'glimpse checkpoint 1',
  config:
    '{"preset":"seed","sizes":{"features":8,"places":49,"project":256,"attention":512,"hidden":512,"embedding":256,"vocabulary":8},"options":{"dropout":0,"gate":false,"learnedStart":false,"attentionPenalty":0,"decoder":"seed","cell":"lstm","score":"tanh","query":"h2","attention":"soft","contextToOutput":false,"layers":2,"heads":8,"labelSmoothing":0,"scheduledSampling":0},"seed":42,"rate":0.001,"maxNorm":0,"batch":{"images":64,"captionsPerImage":1},"accumulate":1,"objective":"seed-sum","selfCritical":null,"schedule":"plateau","warmup":0,"horizon":0,"patience":0,"maxLength":35,"trainingSet":"4d7ceccb402d8b6b","start":null,"wordVectors":null,"encoderLayers":[],"encoderRate":0}',
  progress: '{"epoch":1,"batch":0,"nats":0,"tokens":0,"optimizerSteps":1,"bestScore":0,"epochsSinceBest":0,"logBytes":398,"eventBytes":253,"rate":0.001}',
  vocabulary: '["<pad>","<unk>","startseq","endseq","a","picture","blue","red"]',
  encoder: JSON.stringify(ENCODER),
};

function oldCheckpoint(name: string, change: Partial<typeof CHECKPOINT> = {}): string {
  const path = join(folder, `${name}.safetensors`);
  const data = (value: number) => ({ shape: [2], data: Float32Array.of(value, value) });
  const matrix = { shape: [32, 32], data: new Float32Array(1024) }; // a file must hold as many numbers as its sizes claim
  const tensors = {
    'weight.v': data(1),
    'weight.w': matrix,
    'moment1.v': data(2),
    'moment2.v': data(3),
    'moment1.lstm1_w': data(4),
    'moment2.lstm1_w': data(5),
  };
  writeSafetensors(path, new Map(Object.entries(tensors)), { ...CHECKPOINT, ...change });
  return path;
}

test('a checkpoint: preset, decoder, objective, regions, progress and moments have the names of today', () => {
  const path = oldCheckpoint('whole');
  expect(readSafetensors(path).metadata.config).toContain('"places":49');
  const { config, progress, weights, moments, vocabulary } = loadCheckpoint(path);
  expect(config).toMatchObject({
    preset: 'basic',
    objective: 'caption-mean',
    sizes: { regions: 49, hidden: 512 },
    options: { decoder: 'stacked', cell: 'lstm' },
    trainingSet: '4d7ceccb402d8b6b',
  });
  expect(config.sizes).not.toHaveProperty('places');
  expect(progress).toEqual({
    epoch: 1,
    batch: 0,
    nats: 0,
    tokens: 0,
    updates: 1,
    bestScore: 0,
    epochsSinceBest: 0,
    logBytes: 398,
    eventBytes: 253,
    rate: 0.001,
    ...{ gradNorm: 0, seconds: 0, scoredOn: null },
  });
  expect([...moments.keys()].sort()).toEqual(['m.lstm1_w', 'm.v', 'v.lstm1_w', 'v.v']);
  expect([moments.get('m.v'), moments.get('v.v'), weights.get('v')].map((each) => each?.data[0])).toEqual([2, 3, 1]);
  expect(vocabulary).toHaveLength(8);
});

test('a checkpoint from before an option was there means what its version did', () => {
  const { options, ...config } = JSON.parse(CHECKPOINT.config);
  const { dropout, gate, learnedStart, attentionPenalty } = options;
  const { accumulate: _a, schedule: _s, warmup: _w, selfCritical: _c, encoderLayers: _l, encoderRate: _r, ...rest } = config;
  const path = oldCheckpoint('first', { config: JSON.stringify({ ...rest, options: { dropout, gate, learnedStart, attentionPenalty } }) });
  expect(loadCheckpoint(path).config).toEqual(loadCheckpoint(oldCheckpoint('again')).config);
});

test('a field out of the range of its option is damage, and is named', () => {
  const broken = (from: string, to: string) => oldCheckpoint('broken', { config: CHECKPOINT.config.replace(from, to) });
  expect(() => loadCheckpoint(broken('"dropout":0', '"dropout":1'))).toThrow(/damaged "config".*dropout/s);
  expect(() => loadCheckpoint(broken('"cell":"lstm"', '"cell":"rnn"'))).toThrow(/damaged "config".*cell/s);
  expect(() => loadCheckpoint(broken('"rate":0.001', '"rate":0'))).toThrow(/damaged "config".*rate/s);
  expect(() => loadCheckpoint(broken('"maxNorm":0,', ''))).toThrow(/damaged "config".*maxNorm/s);
});

test('the log of a run that an earlier version began is drawn', async () => {
  const run = join(folder, 'run');
  mkdirSync(run);
  const [step, epoch] = [
    '{"kind":"step","epoch":1,"batch":1,"batches":1,"lossPerToken":2.079000473022461,"seedLoss":0.23760005405970983,"gradNorm":1.9374371767044067,"rate":0.001,"tokensPerSecond":10.415597189621122}',
    '{"kind":"epoch","epoch":1,"trainLoss":2.079000473022461,"valLoss":1.9541425704956055,"perplexity":7.057864807016555,"cider":0,"rate":0.001,"seconds":1.5406470960000005,"tokensPerSecond":10.385246589917303}',
  ];
  writeFileSync(join(run, 'log.jsonl'), `${step}\n${epoch}\n${step.replace('seedLoss', 'lossPerSlot').replace('"epoch":1', '"epoch":2')}\n`);
  const { code, stdout } = await glimpse('plot', run, '--json');
  expect([code, JSON.parse(stdout)]).toMatchObject([0, { steps: 2, epochs: 1 }]);
});
