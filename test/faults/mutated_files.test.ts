/**
 * Damaged and hostile files: every parser gets thousands of files that were sound and then mutated. Each is read or refused with an
 * error of ours. No other error, no hang, no file that takes memory without bound.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { floatTensor, node, writeOnnx } from '../../bench/peers/onnx_writer.ts';
import { readCoco, readFlickr, readKarpathy, readTable } from '../../src/data/caption_sources.ts';
import { readDataset, writeDataset } from '../../src/data/captions.ts';
import { readReferences, readResults } from '../../src/data/coco_results.ts';
import { FeatureStore } from '../../src/data/feature_store.ts';
import { FeatureWriter } from '../../src/data/feature_writer.ts';
import { openFile } from '../../src/data/file_source.ts';
import { loadImage } from '../../src/data/images.ts';
import { ParquetFile } from '../../src/data/parquet.ts';
import { placedPicture } from '../../src/data/picture_places.ts';
import { preprocessingOf } from '../../src/data/preprocessing.ts';
import { writeSafetensors } from '../../src/data/safetensors.ts';
import { readParquetTable, readShards } from '../../src/data/shards.ts';
import { readWordVectors } from '../../src/data/word_vectors.ts';
import { GlimpseError } from '../../src/errors.ts';
import { parseTuningTable } from '../../src/kernels/tuning.ts';
import { OnnxModel } from '../../src/model/onnx/run.ts';
import { loadCheckpoint } from '../../src/model/training/checkpoint.ts';
import type { Random } from '../../src/random.ts';
import { temporaryFolder, useGpu } from '../support.ts';
import { tarOf } from '../tar_writer.ts';
import { counted, randomFor, trial, trials, whole } from './trials.ts';

useGpu();
const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

const text = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
const CAPTION = { id: 1, image_id: 7, caption: 'a dog runs' };

/** A small encoder with most kinds of nodes. */
function encoder(): Buffer {
  writeOnnx(at('sound.onnx'), {
    nodes: [
      node('Conv', ['x', 'w', 'b'], ['c'], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1 }),
      node('Relu', ['c'], ['r']),
      node('MaxPool', ['r'], ['m'], { kernel_shape: [2, 2], strides: [2, 2] }),
      node('GlobalAveragePool', ['m'], ['p']),
      node('Flatten', ['p'], ['f'], { axis: 1 }),
      node('Gemm', ['f', 'g', 'h'], ['y'], { transB: 1 }),
    ],
    initializers: [
      floatTensor('w', [4, 3, 3, 3], new Float32Array(108).fill(0.1)),
      floatTensor('b', [4], new Float32Array(4)),
      floatTensor('g', [2, 4], new Float32Array(8).fill(1)),
      floatTensor('h', [2], new Float32Array(2)),
    ],
    inputs: [{ name: 'x', shape: [-1, 3, 16, 16] }],
    outputs: ['y'],
  });
  return readFileSync(at('sound.onnx'));
}

const picture = (format: 'jpeg' | 'png' | 'webp' | 'gif' | 'tiff') =>
  sharp({ create: { width: 24, height: 17, channels: 3, background: '#a51' } })
    .toFormat(format)
    .toBuffer();

function safetensors(): Buffer {
  writeSafetensors(at('sound.safetensors'), new Map([['weight.a', { shape: [2, 3], data: new Float32Array(6).fill(0.5) }]]), {
    format: 'glimpse checkpoint 1',
    ...{ config: JSON.stringify({ seed: 1 }), progress: '{}', vocabulary: '["a"]', encoder: '{}' },
  });
  return readFileSync(at('sound.safetensors'));
}

const parquet = (name: string) => readFileSync(new URL(`../parquet/${name}.parquet`, import.meta.url));

/** Captions of a shard, and the bytes of its pictures. */
async function readTarShard(path: string): Promise<void> {
  const { found, ...folders } = readShards([{ split: null, paths: [path] }]);
  for (const image of found) await placedPicture(folders, image, false);
}

/** Captions of a shard, and all of its columns. */
function readParquetShard(path: string): void {
  readShards([{ split: null, paths: [path] }]);
  const file = ParquetFile.open(path);
  for (const column of file.columns) for (let group = 0; group < file.groups.length; group++) file.read(group, column);
}

const KIND = {
  encoder: { path: '/m.onnx', sha256: 'abc', featureMap: 'y', preprocessing: 'imagenet', tuned: null },
  regions: 2,
  width: 3,
  type: 'f32' as const,
};

function featureStore(file: string): Buffer {
  const store = at('store');
  rmSync(store, { recursive: true, force: true });
  const writer = FeatureWriter.open(store, KIND);
  writer.append(['a', 'b'], [new Float32Array(6), new Float32Array(6).fill(1)]);
  writer.finish();
  return readFileSync(join(store, file));
}

async function readStore(): Promise<void> {
  const store = await FeatureStore.open(at('store'));
  await store.read([...store.files()].slice(0, 2)).finally(() => store.close());
}

interface Parser {
  file: string;
  sound(): Buffer | Promise<Buffer>;
  read(path: string): unknown;
}

const pictures = preprocessingOf('imagenet');
const PARSERS: Record<string, Parser> = {
  'COCO captions': {
    file: 'coco.json',
    sound: () => text({ images: [{ id: 7, file_name: 'a.jpg', split: 'train' }], annotations: [CAPTION] }),
    read: (path) => readCoco(path, 'train'),
  },
  'Karpathy splits': {
    file: 'karpathy.json',
    sound: () => text({ images: [{ filename: 'a.jpg', filepath: 'train', split: 'restval', cocoid: 7, sentences: [{ raw: 'a dog' }] }] }),
    read: (path) => readKarpathy(path),
  },
  'Flickr tokens': {
    file: 'tokens.txt',
    sound: () => text('a.jpg#0\ta dog\na.jpg#1\ta cat\nb.jpg#0\tcafé\n'),
    read: (path) => {
      writeFileSync(at('list.txt'), 'a.jpg\n');
      return readFlickr(path, { train: at('list.txt') });
    },
  },
  'table, .csv': { file: 't.csv', sound: () => text('image,caption,split\na.jpg,"a dog, running",train\nb.jpg,a cat,val\n'), read: (path) => readTable(path) },
  'table, .jsonl': {
    file: 't.jsonl',
    sound: () => text('{"image":"a.jpg","caption":"a dog"}\n{"image":"b.jpg","caption":"x"}\n'),
    read: (path) => readTable(path),
  },
  'dataset.json': {
    file: 'dataset.json',
    sound: () =>
      text({
        ...{ imageFolder: 'i', words: 'ascii', vocabulary: ['<pad>', '<unk>', 'startseq', 'endseq', 'dog'], maxLength: 8 },
        images: [{ file: 'a.jpg', split: 'train', captions: ['dog'], ids: [[2, 4, 3]] }],
      }),
    read: (path) => readDataset(path),
  },
  'dataset.json, in lines': {
    file: 'lines.json',
    sound: () => {
      const image = (file: string) => ({ file, split: 'train' as const, captions: ['dog'], ids: [[2, 4, 3]] });
      const placed = { ...image('a.tar/1.jpg'), at: { shard: 0, offset: 512, size: 700, header: 12345 } };
      const head = { imageFolder: 'i', shards: [{ tar: 'a.tar' }], words: 'ascii' as const, vocabulary: ['<pad>', '<unk>', 'startseq', 'endseq', 'dog'] };
      writeDataset(at('sound.json'), { ...head, maxLength: 8, images: [placed, image('2.jpg'), image('3.jpg')] });
      return readFileSync(at('sound.json'));
    },
    read: (path) => readDataset(path),
  },
  'tar shard': {
    file: 'shard.tar',
    sound: async () => {
      const long = { name: `${'n'.repeat(120)}.json`, data: JSON.stringify({ captions: ['a dog', 'a cat'], split: 'val' }) };
      return tarOf([{ name: '1.png', data: await picture('png') }, { name: '1.txt', data: 'a dog' }, { name: `${'n'.repeat(120)}.png`, data: 'none' }, long]);
    },
    read: (path) => readTarShard(path),
  },
  'Parquet shard': { file: 'snappy.parquet', sound: () => parquet('snappy'), read: (path) => readParquetShard(path) },
  'Parquet shard, second version, with nulls': { file: 'nulls.parquet', sound: () => parquet('nulls'), read: (path) => readParquetShard(path) },
  'Parquet shard, ZSTD': { file: 'pages.parquet', sound: () => parquet('pages'), read: (path) => readParquetShard(path) },
  'Parquet shard, GZIP': { file: 'gzip.parquet', sound: () => parquet('gzip'), read: (path) => readParquetShard(path) },
  'Parquet shard, Brotli': { file: 'brotli.parquet', sound: () => parquet('brotli'), read: (path) => readParquetShard(path) },
  'Parquet shard, LZ4': { file: 'lz4.parquet', sound: () => parquet('lz4'), read: (path) => readParquetShard(path) },
  'Parquet shard, deltas': { file: 'delta.parquet', sound: () => parquet('delta'), read: (path) => readParquetShard(path) },
  'Parquet table': { file: 'names.parquet', sound: () => parquet('names'), read: (path) => readParquetTable(path) },
  'COCO references': { file: 'refs.json', sound: () => text({ images: [], annotations: [CAPTION] }), read: (path) => readReferences(path) },
  'COCO results': { file: 'results.json', sound: () => text([{ image_id: 7, caption: 'a dog' }]), read: (path) => readResults(path) },
  'word vectors': { file: 'glove.txt', sound: () => text('a 0.1 0.2 -3e-2\ndog 1 2 3\n. . 4 5 6\n'), read: (path) => readWordVectors(path, ['a', 'dog', 'x']) },
  safetensors: { file: 'c.safetensors', sound: safetensors, read: (path) => loadCheckpoint(path) },
  'feature index': { file: 'store/features.json', sound: () => featureStore('features.json'), read: readStore },
  'names of a feature index': { file: 'store/features.index', sound: () => featureStore('features.index'), read: readStore },
  ONNX: { file: 'm.onnx', sound: encoder, read: (path) => OnnxModel.load(openFile(path)).dispose() },
  'tuning table': {
    file: 'tuning.json',
    sound: () => text(JSON.parse(readFileSync(new URL('../../src/kernels/tuned/lavapipe.json', import.meta.url), 'utf8'))).subarray(0, 4000),
    read: (path) => {
      let json: unknown;
      try {
        json = JSON.parse(readFileSync(path, 'utf8'));
      } catch {
        return; // the reader says so, in test/tuning
      }
      return parseTuningTable(json);
    },
  },
  JPEG: { file: 'p.jpg', sound: () => picture('jpeg'), read: (path) => loadImage(path, pictures) },
  PNG: { file: 'p.png', sound: () => picture('png'), read: (path) => loadImage(path, pictures) },
  WebP: { file: 'p.webp', sound: () => picture('webp'), read: (path) => loadImage(path, pictures) },
  GIF: { file: 'p.gif', sound: () => picture('gif'), read: (path) => loadImage(path, pictures) },
  TIFF: { file: 'p.tif', sound: () => picture('tiff'), read: (path) => loadImage(path, pictures) },
};

const HOSTILE_NUMBERS = ['-1', '0', '1e999', '4294967296', '9007199254740993', '1.5', 'null', '[]', '"x"', '1e9'];

/** One to four changes: bits, bytes, cuts, doubled and swapped pieces, numbers in text, sizes in binary data. */
function mutated(sound: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(sound);
  const place = () => whole(random, 0, Math.max(1, bytes.length));
  const changes: (() => void)[] = [
    () => {
      const i = place();
      if (i < bytes.length) bytes[i] ^= 1 << whole(random, 0, 8);
    },
    () => {
      const i = place();
      if (i < bytes.length) bytes[i] = whole(random, 0, 256);
    },
    () => {
      bytes = bytes.subarray(0, place());
    },
    () => {
      const [a, b] = [place(), place()].sort((x, y) => x - y);
      bytes = Buffer.concat([bytes.subarray(0, b), bytes.subarray(a)]);
    },
    () => {
      const [a, b] = [place(), place()].sort((x, y) => x - y);
      bytes = Buffer.concat([bytes.subarray(0, a), bytes.subarray(b)]);
    },
    () => {
      const i = place();
      bytes = Buffer.concat([bytes.subarray(0, i), Buffer.from([0, 255, 0xc3, 10, 34, 0x5c].slice(0, whole(random, 1, 7))), bytes.subarray(i)]);
    },
    () => {
      const numbers = [...bytes.toString('latin1').matchAll(/-?\d+(\.\d+)?/g)];
      const number = numbers[whole(random, 0, Math.max(1, numbers.length))];
      if (!number) return;
      const other = Buffer.from(HOSTILE_NUMBERS[whole(random, 0, HOSTILE_NUMBERS.length)]);
      bytes = Buffer.concat([bytes.subarray(0, number.index), other, bytes.subarray(number.index + number[0].length)]);
    },
    () => {
      if (bytes.length < 8) return;
      bytes.writeUInt32LE([0xffffffff, 0x7fffffff, 0x80000000, 1 << 20][whole(random, 0, 4)], whole(random, 0, bytes.length - 3));
    },
  ];
  for (let i = whole(random, 1, 5); i > 0; i--) changes[whole(random, 0, changes.length)]();
  return bytes;
}

test.each(Object.entries(PARSERS))('%s', async (name, { file, sound, read }) => {
  const record = counted('mutated files', name);
  const random = randomFor(`mutated files, ${name}`);
  const path = at(file);
  const right = await sound();
  if (!existsSync(join(path, '..'))) mkdirSync(join(path, '..'));
  writeFileSync(path, right);
  if (name !== 'safetensors') await read(path); // ours is sound safetensors, but no whole checkpoint
  for (let i = 0; i < trials(100, 1200); i++) {
    const bytes = mutated(right, random);
    writeFileSync(path, bytes);
    const memory = process.memoryUsage().rss;
    await trial(record, async () => {
      try {
        await read(path);
      } catch (error) {
        if (!(error instanceof GlimpseError)) {
          writeFileSync(at('failing'), bytes);
          throw new Error(`file ${i}, ${bytes.length} bytes: ${error instanceof Error ? error.stack : error}\n${bytes.toString('latin1').slice(0, 600)}`);
        }
      }
      expect(process.memoryUsage().rss - memory, `file ${i}`).toBeLessThan(1 << 30);
    });
  }
});
