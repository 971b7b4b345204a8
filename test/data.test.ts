/** Everything that comes from files: captions, vocabulary, pictures, feature stores, safetensors; and faults in each. */
import { existsSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { readCoco, readFlickr, readKarpathy, readTable } from '../src/data/caption_sources.ts';
import { assignSplits, prepareDataset, readDataset } from '../src/data/captions.ts';
import { FeatureStore, FeatureWriter, mergeStores } from '../src/data/feature_store.ts';
import { fromHalf, toHalf } from '../src/data/half.ts';
import { loadImage, PREPROCESSINGS, preprocessingOf } from '../src/data/images.ts';
import { readSafetensors, writeSafetensors } from '../src/data/safetensors.ts';
import { Vocabulary, wordsOf } from '../src/data/words.ts';
import { FileError } from '../src/errors.ts';
import { ciderD } from '../src/metrics/cider.ts';
import { epochBatches } from '../src/model/training/batches.ts';
import { dataFolder, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const write = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

describe('captions', () => {
  test('the seed’s words', () => {
    expect(wordsOf("A man's dog, 2 cats -- RUN!", 'ascii')).toEqual(['a', 'mans', 'dog', '2', 'cats', 'run']);
    expect(wordsOf(' … ', 'ascii')).toEqual([]);
    expect(wordsOf("A man's dog, 2 cats -- RUN!", 'ptb')).toEqual(['a', 'man', "'s", 'dog', '2', 'cats', 'run']);
    expect(wordsOf('Größe: 2 Ку\u0301бика — 猫, cafe\u0301!', 'unicode')).toEqual(['größe', '2', 'ку\u0301бика', '猫', 'café']);
  });

  test('a vocabulary is ordered by frequency, ties by appearance, special words first', () => {
    const v = Vocabulary.build(
      [
        ['b', 'a', 'c'],
        ['a', 'b', 'a', 'rare'],
      ],
      7,
      1,
    );
    expect(v.words).toEqual(['<pad>', '<unk>', 'startseq', 'endseq', 'a', 'b', 'c']);
    expect(v.encode(['a', 'zebra', 'b'], 35)).toEqual([2, 4, 1, 5, 3]);
    expect(v.encode(['a', 'b', 'c', 'a'], 4)).toEqual([2, 4, 5, 3]); // cut at the end, endseq kept
    expect(v.decode([4, 1, 5])).toBe('a <unk> b');
    expect(Vocabulary.build([['a', 'a', 'b']], 10, 2).words).toHaveLength(5);
  });

  test('Flickr files: faults carry file and line', () => {
    const list = write('train.txt', 'a.jpg\nb.jpg\n');
    const tokens = write('tokens.txt', 'a.jpg#0\tA cat .\na.jpg#1\tOne cat\nb.jpg#0\tA dog\nother.jpg#0\tNot listed\n');
    const unlisted: string[] = [];
    expect(readFlickr(tokens, { train: list }, (file) => unlisted.push(file))).toEqual([
      { file: 'a.jpg', split: 'train', captions: ['A cat .', 'One cat'] },
      { file: 'b.jpg', split: 'train', captions: ['A dog'] },
    ]);
    expect(unlisted).toEqual(['other.jpg']);
    expect(() => readFlickr(write('bad.txt', 'a.jpg#0\tfine\nno tab here\n'), { train: list })).toThrow(/bad\.txt: line 2/);
    expect(() => readFlickr(tokens, { train: list, val: list })).toThrow(/"a\.jpg" is also in the train list/);
    expect(() => readFlickr(join(folder, 'absent'), { train: list })).toThrow(FileError);
    expect(() => readFlickr(tokens, { train: write('evil.txt', '../../etc/passwd\n') })).toThrow(/no plain file name/);
  });

  test('COCO files: faults carry the file', () => {
    const coco = { images: [{ id: 1, file_name: 'a.jpg' }], annotations: [{ image_id: 1, caption: 'A cat' }] };
    expect(readCoco(write('coco.json', JSON.stringify(coco)), 'val')).toEqual([{ file: 'a.jpg', split: 'val', captions: ['A cat'] }]);
    expect(() => readCoco(write('cut.json', '{"images": ['), 'val')).toThrow(/cut\.json: is no JSON/);
    expect(() => readCoco(write('other.json', '{"images": 3}'), 'val')).toThrow(/other\.json: is no COCO caption file: images/);
    expect(() => readCoco(write('stray.json', JSON.stringify({ ...coco, annotations: [{ image_id: 9, caption: 'x' }] })), 'val')).toThrow(
      /picture 9, which the file does not list/,
    );
    expect(() => readCoco(write('path.json', JSON.stringify({ ...coco, images: [{ id: 1, file_name: '../a.jpg' }] })), 'val')).toThrow(/no plain file name/);
  });

  test('Karpathy’s splits: restval is trained on, folders are kept within', () => {
    const sentences = [{ raw: 'A cat.' }, { raw: 'One cat' }];
    const file = (images: unknown[]) => write('karpathy.json', JSON.stringify({ dataset: 'coco', images }));
    const found = readKarpathy(
      file([
        { filename: 'a.jpg', filepath: 'val2014', split: 'restval', sentences },
        { filename: 'b.jpg', split: 'test', sentences },
      ]),
    );
    expect(found).toEqual([
      { file: 'val2014/a.jpg', split: 'train', captions: ['A cat.', 'One cat'] },
      { file: 'b.jpg', split: 'test', captions: ['A cat.', 'One cat'] },
    ]);
    expect(() => readKarpathy(file([{ filename: 'a.jpg', filepath: '../..', split: 'val', sentences }]))).toThrow(/no plain file name/);
    expect(() => readKarpathy(file([{ filename: 'a.jpg', split: 'dev', sentences }]))).toThrow(/karpathy\.json: is no Karpathy split file: images\.0\.split/);
  });

  test('tables: CSV with quotes and a byte order mark, JSON lines; faults carry the line', () => {
    const csv = write('own.csv', '\uFEFFimage,caption,split\na.jpg,"A cat, ""red""\nand big",train\na.jpg,Eine Katze,train\nb.jpg,Hund,val\n');
    expect(readTable(csv)).toEqual([
      { file: 'a.jpg', split: 'train', captions: ['A cat, "red"\nand big', 'Eine Katze'] },
      { file: 'b.jpg', split: 'val', captions: ['Hund'] },
    ]);
    const lines = write('own.jsonl', '{"image": "a.jpg", "caption": "x"}\n\n{"image": "b.jpg", "caption": "y"}\n');
    expect(readTable(lines).map(({ file, split }) => [file, split])).toEqual([
      ['a.jpg', null],
      ['b.jpg', null],
    ]);
    expect(() => readTable(write('own.csv', 'image,text\na.jpg,x\n'))).toThrow(/own\.csv: line 2: caption/);
    expect(() => readTable(write('own.csv', 'image,caption\n"a.jpg,x\n'))).toThrow(/own\.csv: is no CSV/);
    expect(() => readTable(write('own.csv', 'image,caption,split\na.jpg,x,train\na.jpg,y,val\n'))).toThrow(/line 3: "a\.jpg" is in the splits train and val/);
    expect(() => readTable(write('own.jsonl', '{"image": "a.jpg", "caption": "x"}\n{"image": '))).toThrow(/line 2 is no JSON/);
    expect(() => readTable(write('own.jsonl', '{"image": "/etc/passwd", "caption": "x"}'))).toThrow(/no plain file name/);
    expect(() => readTable(write('own.txt', ''))).toThrow(/neither \.csv nor \.jsonl/);
  });

  test('splits by seed: shares as asked, the same whatever the order, other splits untouched', () => {
    const open = Array.from({ length: 50 }, (_, i) => ({ file: `${i}.jpg`, split: i === 0 ? ('test' as const) : null, captions: ['x'] }));
    const shares = { valShare: 0.2, testShare: 0.1, seed: 1 };
    const count = (list: ReturnType<typeof assignSplits>, name: string) => list.filter(({ split }) => split === name).length;
    const made = assignSplits(open, shares);
    expect([count(made, 'train'), count(made, 'val'), count(made, 'test')]).toEqual([34, 10, 6]);
    const byFile = (list: ReturnType<typeof assignSplits>) => [...list].sort((a, b) => (a.file < b.file ? -1 : 1)).map(({ split }) => split);
    expect(byFile(assignSplits([...open].reverse(), shares))).toEqual(byFile(made));
    expect(byFile(assignSplits(open, { ...shares, seed: 2 }))).not.toEqual(byFile(made));
  });

  test('missing, unreadable and uncaptioned pictures fail by name, or are reported', async () => {
    const images = join(folder, 'pictures');
    mkdirSync(images, { recursive: true });
    const blank = await sharp({ create: { width: 4, height: 4, channels: 3, background: '#000' } })
      .png()
      .toBuffer();
    for (const name of ['a.jpg', 'b.jpg', 'c.jpg']) writeFileSync(join(images, name), blank);
    writeFileSync(join(images, 'broken.jpg'), 'no picture');
    const found = [
      { file: 'a.jpg', split: 'train' as const, captions: ['a cat', 'a cat'] },
      { file: 'gone.jpg', split: 'train' as const, captions: ['a dog'] },
      { file: 'broken.jpg', split: 'train' as const, captions: ['a dog'] },
      { file: 'b.jpg', split: 'train' as const, captions: ['…'] },
      { file: 'c.jpg', split: 'val' as const, captions: ['a cat', 'a yak'] },
    ];
    const shares = { fraction: 1, valShare: 0, testShare: 0, seed: 1 };
    const options = { imageFolder: images, words: 'ascii' as const, vocabularySize: 100, minCount: 1, maxLength: 35, ...shares, skipBad: false };
    await expect(prepareDataset(found, options)).rejects.toThrow(/1 pictures have captions but no picture .*gone\.jpg[\s\S]*--skip-bad/);
    await expect(prepareDataset(found.slice(2, 3), options)).rejects.toThrow(/1 pictures cannot be read as pictures: broken\.jpg/);
    const { dataset, report } = await prepareDataset(found, { ...options, skipBad: true });
    expect(report).toMatchObject({
      ...{ images: { train: 1, val: 1, test: 0 }, captions: 4, duplicateCaptions: 1, sharedCaptions: 1 },
      ...{ withoutPicture: ['gone.jpg'], withoutCaption: ['b.jpg'], unreadable: ['broken.jpg'] },
      unknownRate: { train: 0, val: 0.25, test: 0 },
    });
    const many = Array.from({ length: 10 }, () => found[0]).map((image, i) => ({ ...image, file: i % 2 ? 'a.jpg' : 'c.jpg' }));
    expect((await prepareDataset(many, { ...options, fraction: 0.5 })).report.images.train).toBe(5);
    const path = join(folder, 'dataset.json');
    writeFileAtomic(path, [JSON.stringify(dataset)]);
    expect(readDataset(path)).toEqual(dataset);
    writeFileSync(path, JSON.stringify({ ...dataset, images: [{ ...dataset.images[0], ids: [[2, 99, 3]] }] }));
    expect(() => readDataset(path)).toThrow(/word id beyond/);
  });

  test('the same seed and epoch give the same batches; every caption comes once', () => {
    const images = Array.from({ length: 11 }, (_, i) => ({
      file: `${i}`,
      split: 'train' as const,
      captions: ['x'],
      ids: [
        [2, 4 + i, 3],
        [2, 4 + i, 5, 3],
      ],
    }));
    const dataset = { imageFolder: '', words: 'ascii' as const, vocabulary: [], maxLength: 9, images };
    const at = (epoch: number, captionsPerImage: number) => epochBatches(dataset, 'train', { images: 4, captionsPerImage }, () => true, 1, epoch);
    expect(at(1, 1)).toEqual(at(1, 1));
    expect(at(1, 1)).not.toEqual(at(2, 1));
    expect(at(1, 1).flatMap((b) => b.files)).toHaveLength(22);
    expect(new Set(at(1, 2).flatMap((b) => b.files)).size).toBe(11);
    expect(at(1, 2)[0]).toMatchObject({ captionsPerImage: 2, length: 3, tokens: 4 * (2 + 3) });
  });
});

describe('pictures', () => {
  test('EXIF orientation, transparency and gray are all turned into upright RGB', async () => {
    const p = { ...PREPROCESSINGS.imagenet, size: 8, mean: [0, 0, 0] as const, deviation: [1, 1, 1] as const };
    const half = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#000' } })
      .composite([{ input: { create: { width: 8, height: 4, channels: 3, background: '#fff' } }, top: 0, left: 0 }])
      .jpeg({ quality: 100 })
      .withMetadata({ orientation: 3 })
      .toBuffer();
    writeFileSync(join(folder, 'turned.jpg'), half);
    const turned = await loadImage(join(folder, 'turned.jpg'), p);
    expect(turned[0]).toBeLessThan(0.1); // white half is at the bottom after a turn of 180°
    expect(turned[63]).toBeGreaterThan(0.9);
    await sharp({ create: { width: 4, height: 4, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })
      .png()
      .toFile(join(folder, 'clear.png'));
    expect((await loadImage(join(folder, 'clear.png'), p))[0]).toBeCloseTo(1);
    await sharp({ create: { width: 4, height: 4, channels: 3, background: '#808080' } })
      .grayscale()
      .png()
      .toFile(join(folder, 'gray.png'));
    expect(await loadImage(join(folder, 'gray.png'), p)).toHaveLength(192);
  });

  test('a corrupt, truncated or missing picture is refused with its name', async () => {
    const good = await sharp({ create: { width: 64, height: 64, channels: 3, background: '#c33' } })
      .jpeg()
      .toBuffer();
    writeFileSync(join(folder, 'cut.jpg'), good.subarray(0, good.length / 2));
    writeFileSync(join(folder, 'text.jpg'), 'this is no picture');
    for (const name of ['cut.jpg', 'text.jpg', 'absent.jpg'])
      await expect(loadImage(join(folder, name), PREPROCESSINGS.imagenet)).rejects.toThrow(
        new RegExp(`${name.replace('.', '\\.')}: cannot be read as a picture`),
      );
  });
});

describe('feature store', () => {
  const start = {
    encoder: { path: '/m.onnx', sha256: 'abc', featureMap: 'y', preprocessing: 'imagenet', tuned: null },
    regions: 2,
    width: 3,
    type: 'f32' as const,
  };
  const record = (value: number) => new Float32Array(6).fill(value);

  test('interrupted at any point it goes on; whole it reads back', async () => {
    const path = join(folder, 'store');
    const first = FeatureWriter.open(path, start);
    first.append(['a', 'b'], [record(1), record(2)]);
    first.close();
    writeFileSync(join(path, 'features.f32.partial'), 'torn write', { flag: 'a' }); // what a kill may leave behind
    await expect(FeatureStore.open(path)).rejects.toThrow(/not finished; run `glimpse features` again/);
    const second = FeatureWriter.open(path, start);
    expect(second.index.files).toEqual(['a', 'b']);
    second.append(['c'], [record(3)]);
    second.finish();
    const store = await FeatureStore.open(path);
    expect([...(await store.read(['c', 'a']))]).toEqual([3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1]);
    await expect(store.read(['z'])).rejects.toThrow(/no features of z/);
    await store.close();
    const third = FeatureWriter.open(path, start); // more pictures join a finished store
    third.append(['d'], [record(4)]);
    third.finish();
    const more = await FeatureStore.open(path);
    expect([...(await more.read(['d', 'b']))]).toEqual([4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2]);
    await more.close();
    const other = { ...start, encoder: { ...start.encoder, sha256: 'other' } };
    expect(() => FeatureWriter.open(path, other)).toThrow(/features of another encoder/);
    expect((await FeatureStore.open(path)).has('d')).toBe(true); // and is as it was
  });

  test('another encoder, a flipped byte and a short file are refused', async () => {
    const path = join(folder, 'store2');
    const writer = FeatureWriter.open(path, start);
    writer.append(['a'], [record(1)]);
    writer.close();
    expect(() => FeatureWriter.open(path, { ...start, encoder: { ...start.encoder, sha256: 'other' } })).toThrow(
      /features of another encoder or kind \(sha256 differ\)/,
    );
    const again = FeatureWriter.open(path, start);
    again.finish();
    const data = join(path, 'features.f32');
    const bytes = readFileSync(data);
    bytes[5] ^= 1;
    writeFileSync(data, bytes);
    const store = await FeatureStore.open(path);
    await expect(store.read(['a'])).rejects.toThrow(/damaged \(checksum\)/);
    await store.close();
    truncateSync(data, 8);
    await expect(FeatureStore.open(path)).rejects.toThrow(/has 8 bytes, its index says 24/);
  });
});

describe('half precision', () => {
  test('all halves come back as they were; what lies between rounds to the nearest, ties to even', () => {
    const bits = Uint16Array.from({ length: 1 << 16 }, (_, i) => i).filter((b) => (b & 0x7c00) !== 0x7c00 || (b & 1023) === 0);
    const values = new Float32Array(bits.length);
    fromHalf(bits, values);
    expect(toHalf(values)).toEqual(bits);
    expect([1, 65504, 2 ** -24, 2 ** -14, 0.1].map((v) => toHalf(Float32Array.of(v))[0])).toEqual([0x3c00, 0x7bff, 1, 0x0400, 0x2e66]);
    expect([1 + 2 ** -11, 1 + 3 * 2 ** -11, 65520, 2 ** -25, 3 * 2 ** -25, -1e9].map((v) => toHalf(Float32Array.of(v))[0])).toEqual([
      0x3c00, 0x3c02, 0x7c00, 0, 2, 0xfc00,
    ]);
    expect(toHalf(Float32Array.of(Number.NaN))[0]).toBe(0x7e00);
  });

  test('is within half a step of the number', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -60000, max: 60000 }), (value) => {
        const back = new Float32Array(1);
        fromHalf(toHalf(Float32Array.of(value)), back);
        expect(Math.abs(back[0] - value)).toBeLessThanOrEqual(Math.max(2 ** -25, Math.abs(value) * 2 ** -11));
      }),
    );
  });
});

describe('shards', () => {
  const kind = {
    encoder: { path: '/m.onnx', sha256: 'abc', featureMap: 'y', preprocessing: 'imagenet', tuned: null },
    regions: 2,
    width: 3,
    type: 'f16' as const,
  };
  const shard = (name: string, values: Record<string, number>, change = {}): string => {
    const writer = FeatureWriter.open(join(folder, name), { ...kind, ...change });
    for (const [file, value] of Object.entries(values)) writer.append([file], [new Float32Array(6).fill(value)]);
    writer.finish();
    return join(folder, name);
  };

  test('merged they are one store; a picture in two is taken once, contradictions are refused', async () => {
    const [a, b] = [shard('shard1', { x: 1, y: 0.1 }), shard('shard2', { z: 3, x: 1 })];
    const out = join(folder, 'merged');
    expect((await mergeStores(out, [a, b], () => {})).files).toEqual(['x', 'y', 'z']);
    const store = await FeatureStore.open(out);
    expect((await store.read(['z', 'y'])).map((v) => Math.round(v * 1000) / 1000)).toEqual(Float32Array.from([3, 3, 3, 3, 3, 3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]));
    await store.close();
    expect(existsSync(join(out, 'features.f16'))).toBe(true);
    await expect(mergeStores(join(folder, 'm2'), [a, shard('shard3', { x: 2 })], () => {})).rejects.toThrow(/other features of x/);
    await expect(mergeStores(join(folder, 'm3'), [a, shard('shard4', { x: 1 }, { type: 'f32' })], () => {})).rejects.toThrow(/type differ/);
    await expect(mergeStores(join(folder, 'm4'), [a, join(folder, 'absent')], () => {})).rejects.toThrow(/absent/);
  });

  test('preprocessings by name and size', () => {
    expect(preprocessingOf('imagenet@448')).toEqual({ ...PREPROCESSINGS.imagenet, size: 448 });
    for (const bad of ['imagenet@', 'imagenet@7', 'imagenet@99999', 'toString', 'imagenet@x']) expect(() => preprocessingOf(bad)).toThrow();
  });
});

describe('safetensors', () => {
  test('what is written reads back', () => {
    const path = join(folder, 'x.safetensors');
    writeSafetensors(
      path,
      new Map([
        ['a', { shape: [2, 2], data: new Float32Array([1, 2, 3, 4]) }],
        ['b', { shape: [1], data: new Uint32Array([7]) }],
      ]),
      { note: 'hi' },
    );
    const { metadata, tensors } = readSafetensors(path);
    expect(metadata).toEqual({ note: 'hi' });
    expect(tensors.get('a')).toEqual({ dtype: 'F32', shape: [2, 2], data: new Float32Array([1, 2, 3, 4]) });
    expect([...(tensors.get('b')?.data ?? [])]).toEqual([7]);
  });

  test('hostile headers are refused with the file’s name', () => {
    const file = (header: string, length = BigInt(header.length)): string => {
      const head = Buffer.alloc(8);
      head.writeBigUInt64LE(length);
      const path = join(folder, 'hostile.safetensors');
      writeFileSync(path, Buffer.concat([head, Buffer.from(header), Buffer.alloc(16)]));
      return path;
    };
    expect(() => readSafetensors(file('{}', 1n << 60n))).toThrow(/claims a header of/);
    expect(() => readSafetensors(file('{"a":'))).toThrow(/damaged header/);
    expect(() => readSafetensors(file('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'))).toThrow(/tensor "a" \[2\] claims bytes 0…4/);
    expect(() => readSafetensors(file('{"a":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}'))).toThrow(/claims bytes/);
    expect(() => readSafetensors(file('{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}'))).toThrow(/is F16/);
    expect(() => readSafetensors(file('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'))).toThrow(/damaged entry/);
    writeFileSync(join(folder, 'short.safetensors'), 'abc');
    expect(() => readSafetensors(join(folder, 'short.safetensors'))).toThrow(/no safetensors file: 3 bytes/);
  });

  test('a write that fails leaves the old file and nothing else', () => {
    const path = join(folder, 'kept.txt');
    writeFileAtomic(path, ['old']);
    const failing = (function* () {
      yield 'new';
      throw new Error('disk full');
    })();
    expect(() => writeFileAtomic(path, failing)).toThrow(/kept\.txt: cannot be written: disk full/);
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(existsSync(`${path}.${process.pid}.tmp`)).toBe(false);
    expect(statSync(path).size).toBe(3);
  });
});

test('where nothing can be written, the file is named', () => {
  const path = join(write('a file', 'no folder'), 'x');
  expect(() => writeFileAtomic(path, ['y'])).toThrow(/a file\/x: cannot be written/);
});

const data = dataFolder('the CIDEr fixture');
test.skipIf(!data)('CIDEr-D equals coco-caption on 200 pictures, given its tokens', () => {
  const fixture = JSON.parse(readFileSync(join(data as string, 'metrics', 'coco200_scores.json'), 'utf8'));
  const split = (text: string) => text.split(' ');
  const { mean, perImage } = ciderD(
    fixture.tokens.cands.map(([text]: string[]) => split(text)),
    fixture.tokens.refs.map((list: string[]) => list.map(split)),
  );
  expect(mean).toBeCloseTo(fixture.corpus.CIDEr, 6);
  perImage.forEach((score, i) => {
    expect(score).toBeCloseTo(fixture.per_image.CIDEr[i], 6);
  });
});

test('CIDEr-D: the same caption scores high, another low', () => {
  const references = [
    [
      ['a', 'red', 'bus', 'in', 'town'],
      ['the', 'red', 'bus', 'stops'],
    ],
    [
      ['two', 'dogs', 'play', 'outside'],
      ['dogs', 'on', 'grass', 'there'],
    ],
  ];
  const { perImage } = ciderD(
    [
      ['a', 'red', 'bus', 'in', 'town'],
      ['a', 'cat'],
    ],
    references,
  );
  expect(perImage[0]).toBeGreaterThan(4);
  expect(perImage[1]).toBe(0);
});
