/** Checkpoint files that are damaged, changed, or claim what they do not hold. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Captioner, PRESETS } from '../src/model/captioner/captioner.ts';
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from '../src/model/training/checkpoint.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Random } from '../src/random.ts';
import { SIZES, TRANSFORMER } from './small_captioner.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();
const folder = temporaryFolder();
const path = join(folder, 'a.safetensors');

const CONFIG = {
  ...{ preset: 'recommended', seed: 1, rate: 0.001, schedule: 'constant', warmup: 0, patience: 0, maxNorm: 5, accumulate: 1 },
  ...{ sizes: SIZES, options: { ...PRESETS.recommended, ...TRANSFORMER }, batch: { images: 2, captionsPerImage: 1 } },
  ...{ objective: 'token-mean', selfCritical: null, horizon: 0, maxLength: 12, start: null, wordVectors: null, encoderLayers: [], encoderRate: 0 },
} as unknown as Checkpoint['config'];

async function save(): Promise<Buffer> {
  const model = Captioner.create(CONFIG.sizes, CONFIG.options, 1);
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: 0.001 });
  await saveCheckpoint(path, model, [optimizer], {
    config: CONFIG,
    progress: {
      ...{ epoch: 1, batch: 0, nats: 0, tokens: 0, updates: 3, rate: 0.001, bestScore: null, epochsSinceBest: 0, logBytes: 0, eventBytes: 0 },
      ...{ gradNorm: 0.5, seconds: 0, scoredOn: null },
    },
    vocabulary: Array.from({ length: SIZES.vocabulary }, (_, i) => `w${i}`),
    encoder: { path: '/m.onnx', sha256: 'abc', featureMap: 'y', preprocessing: 'imagenet', tuned: null },
    encoderWeights: new Map(),
    trainedOn: { adapter: 'here', version: '1' },
  });
  optimizer.dispose();
  model.dispose();
  return readFileSync(path);
}

const headerLength = (file: Buffer) => Number(file.readBigUInt64LE(0));

/** The file with another header, as a program of other people would write it. */
function withHeader(file: Buffer, change: (header: Record<string, Record<string, string>>) => void): string {
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength(file)));
  change(header);
  const text = Buffer.from(JSON.stringify(header, null, 1));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const changed = join(folder, 'changed.safetensors');
  writeFileSync(changed, Buffer.concat([length, text, file.subarray(8 + headerLength(file))]));
  return changed;
}

const withField = (file: Buffer, part: 'config' | 'progress' | 'vocabulary', change: (value: never) => void) =>
  withHeader(file, ({ __metadata__: metadata }) => {
    const value = JSON.parse(metadata[part]);
    change(value as never);
    metadata[part] = JSON.stringify(value);
  });

test('one bit turned over anywhere in the tensors is refused, and the tensor is named', async () => {
  const file = await save();
  expect(loadCheckpoint(path).notes).toEqual([]);
  const start = 8 + headerLength(file);
  const random = new Random(1, 'flips');
  for (let i = 0; i < 200; i++) {
    const at = start + Math.floor(random.uniform(0, file.length - start));
    const flipped = Buffer.from(file);
    flipped[at] ^= 1 << (i % 8);
    writeFileSync(path, flipped);
    expect(() => loadCheckpoint(path), `byte ${at}`).toThrow(/a\.safetensors: tensor "[\w.]+" is damaged: its checksum differs/);
  }
});

test('weights that are no numbers are named, with and without checksums', async () => {
  const file = await save();
  for (let at = 8 + headerLength(file); at < file.length; at += 4) file.writeFloatLE(Number.NaN, at);
  const unsigned = withHeader(file, ({ __metadata__: metadata }) => delete metadata.checksums);
  expect(() => loadCheckpoint(unsigned)).toThrow(/"weight\.\w+" cannot be used: (\d+) of \1 numbers are NaN or infinite, first number 1/);
  writeFileSync(path, file);
  expect(() => loadCheckpoint(path)).toThrow(/is damaged: its checksum differs; (\d+) of \1 numbers are NaN or infinite/);
});

test('files without checksums load and say so; a changed header is told of', async () => {
  const file = await save();
  const notes: string[] = [];
  loadCheckpoint(
    withHeader(file, ({ __metadata__: metadata }) => delete metadata.checksums),
    (note) => notes.push(note),
  );
  expect(notes).toEqual([expect.stringMatching(/changed\.safetensors has no checksums/)]);
  const renamed = withField(file, 'vocabulary', (words: string[]) => words.splice(5, 1, 'another'));
  expect(loadCheckpoint(renamed).notes).toEqual([expect.stringMatching(/its header was changed/)]);
  expect(loadCheckpoint(withHeader(file, () => {})).notes).toEqual([]); // only spaces differ
});

test.each([
  ['layers', (config: Checkpoint['config']) => Object.assign(config.options, { layers: 1e9 }), /claims 1000000000 layers/],
  ['hidden', (config: Checkpoint['config']) => Object.assign(config.sizes, { hidden: 1e8 }), /claims a size "hidden" of 100000000/],
  ['regions', (config: Checkpoint['config']) => Object.assign(config.sizes, { regions: 1e8 }), /claims 100000000 regions/],
  ['half a row', (config: Checkpoint['config']) => Object.assign(config.sizes, { embedding: 1.5 }), /damaged "config"/],
  ['words', (config: Checkpoint['config']) => Object.assign(config, { maxLength: 1e9 }), /claims captions of 1000000000 words/],
  ['vocabulary', (config: Checkpoint['config']) => Object.assign(config.sizes, { vocabulary: 18 }), /has 17 words, its sizes say 18/],
])('a claim that the file does not bear out is refused at once: %s', async (_, change, message) => {
  const claimed = withField(await save(), 'config', change as (value: never) => void);
  expect(() => loadCheckpoint(claimed)).toThrow(message);
});
