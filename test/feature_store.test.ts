/** Feature stores: written in parts, merged, and refused when they are damaged or of another encoder. */
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FeatureStore } from '../src/data/feature_store.ts';
import { FeatureWriter } from '../src/data/feature_writer.ts';
import { mergeStores } from '../src/data/merge_stores.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const kind = {
  encoder: { path: '/m.onnx', sha256: 'abc', featureMap: 'y', preprocessing: 'imagenet', tuned: null },
  regions: 2,
  width: 3,
  type: 'f32' as const,
};
const record = (value: number) => new Float32Array(6).fill(value);

test('interrupted at any point it goes on; whole it reads back', async () => {
  const path = join(folder, 'store');
  const first = FeatureWriter.open(path, kind);
  first.append(['a', 'b'], [record(1), record(2)]);
  first.close();
  writeFileSync(join(path, 'features.f32.partial'), 'torn write', { flag: 'a' }); // what a kill may leave behind
  await expect(FeatureStore.open(path)).rejects.toThrow(/not finished; run `glimpse features` again/);
  const second = FeatureWriter.open(path, kind);
  expect([...second.files()]).toEqual(['a', 'b']);
  second.append(['c'], [record(3)]);
  second.finish();
  const store = await FeatureStore.open(path);
  expect([...(await store.read(['c', 'a']))]).toEqual([3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1]);
  await expect(store.read(['z'])).rejects.toThrow(/no features of z/);
  await store.close();
  const third = FeatureWriter.open(path, kind); // more pictures join a finished store
  third.append(['d'], [record(4)]);
  third.finish();
  const more = await FeatureStore.open(path);
  expect([...(await more.read(['d', 'b']))]).toEqual([4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2]);
  await more.close();
  const other = { ...kind, encoder: { ...kind.encoder, sha256: 'other' } };
  expect(() => FeatureWriter.open(path, other)).toThrow(/features of another encoder/);
  const same = await FeatureStore.open(path);
  expect(same.has('d')).toBe(true); // and is as it was
  await same.close();
});

test('another encoder, a flipped byte and a short file are refused', async () => {
  const path = join(folder, 'store2');
  const writer = FeatureWriter.open(path, kind);
  writer.append(['a'], [record(1)]);
  writer.close();
  expect(() => FeatureWriter.open(path, { ...kind, encoder: { ...kind.encoder, sha256: 'other' } })).toThrow(
    /features of another encoder or kind \(sha256 differ\)/,
  );
  const again = FeatureWriter.open(path, kind);
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

const shard = (name: string, values: Record<string, number>, change = {}): string => {
  const writer = FeatureWriter.open(join(folder, name), { ...kind, type: 'f16', ...change });
  for (const [file, value] of Object.entries(values)) writer.append([file], [new Float32Array(6).fill(value)]);
  writer.finish();
  return join(folder, name);
};

test('merged shards are one store; a picture in two is taken once, contradictions are refused', async () => {
  const [a, b] = [shard('shard1', { x: 1, y: 0.1 }), shard('shard2', { z: 3, x: 1 })];
  const out = join(folder, 'merged');
  expect((await mergeStores(out, [a, b]))?.pictures).toBe(3);
  const store = await FeatureStore.open(out);
  expect((await store.read(['z', 'y'])).map((v) => Math.round(v * 1000) / 1000)).toEqual(Float32Array.from([3, 3, 3, 3, 3, 3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]));
  await store.close();
  expect(existsSync(join(out, 'features.f16'))).toBe(true);
  await expect(mergeStores(join(folder, 'm2'), [a, shard('shard3', { x: 2 })])).rejects.toThrow(/other features of "x"/);
  await expect(mergeStores(join(folder, 'm3'), [a, shard('shard4', { x: 1 }, { type: 'f32' })])).rejects.toThrow(/type differ/);
  await expect(mergeStores(join(folder, 'm4'), [a, join(folder, 'absent')])).rejects.toThrow(/absent/);
});

test('a finished store stays finished while it grows, also when that fails or is killed', async () => {
  const path = join(folder, 'growing');
  const first = FeatureWriter.open(path, kind);
  first.append(['a'], [record(1)]);
  first.finish();
  const adding = FeatureWriter.open(path, kind);
  adding.append(['b'], [record(2)]);
  const during = await FeatureStore.open(path);
  expect([during.has('a'), during.has('b')]).toEqual([true, false]);
  expect(() => FeatureWriter.open(path, kind)).toThrow(new RegExp(`growing is in use by process ${process.pid} `));
  adding.close(); // as after an error
  expect((await during.read(['a']))[0]).toBe(1);
  await during.close();
  const after = await FeatureStore.open(path);
  expect(after.has('b')).toBe(false);
  await after.close();
  const again = FeatureWriter.open(path, kind);
  expect([...again.files()]).toEqual(['a', 'b']);
  again.finish();
  const grown = await FeatureStore.open(path);
  expect([...(await grown.read(['b', 'a']))].filter((_, i) => i % 6 === 0)).toEqual([2, 1]);
  await grown.close();
  expect(readdirSync(path).sort()).toEqual(['features.f32', 'features.index', 'features.json']);
});

test('a kill before the first journal entry, and stores as older versions left them', async () => {
  const path = join(folder, 'older');
  mkdirSync(path);
  writeFileSync(join(path, 'features.f32.partial'), '');
  await expect(FeatureStore.open(path)).rejects.toThrow(/not finished; run `glimpse features` again/);
  const { checksum: _sum, ...index } = { checksum: '', version: 1, ...kind, files: ['a'], checksums: ['0123456789abcdef'] };
  writeFileSync(join(path, 'features.json.partial'), JSON.stringify(index)); // no checksum of its own
  writeFileSync(join(path, 'features.f32.partial'), new Uint8Array(record(1).buffer));
  const writer = FeatureWriter.open(path, kind);
  expect([...writer.files()]).toEqual(['a']);
  writer.finish();
  expect(readdirSync(path).sort()).toEqual(['features.f32', 'features.index', 'features.json']);
});

test('a changed index is refused', async () => {
  const path = join(folder, 'index');
  const writer = FeatureWriter.open(path, kind);
  writer.append(['a', 'b'], [record(1), record(2)]);
  writer.finish();
  const change = (name: string, from: string, to: string) => {
    const file = join(path, name);
    const sound = readFileSync(file);
    writeFileSync(file, sound.toString('latin1').replace(from, to), 'latin1');
    expect(readFileSync(file)).not.toEqual(sound);
    return () => writeFileSync(file, sound);
  };
  let repair = change('features.json', '"pictures":2', '"pictures":1');
  await expect(FeatureStore.open(path)).rejects.toThrow(/features\.json: is no feature index: it is damaged: its checksum differs/);
  repair();
  repair = change('features.index', 'a', 'c');
  await expect(FeatureStore.open(path)).rejects.toThrow(/features\.index: is damaged: its checksum differs/);
  repair();
  truncateSync(join(path, 'features.index'), 20);
  await expect(FeatureStore.open(path)).rejects.toThrow(/features\.index: has 20 bytes, features\.json says 22/);
});

test('numbers that are none are refused with the name of the picture, when they are written and when they are read', async () => {
  const path = join(folder, 'numbers');
  const writer = FeatureWriter.open(path, { ...kind, type: 'f16' });
  const with_ = (value: number) => Float32Array.of(1, 2, value, 4, 5, 6);
  expect(() => writer.append(['p.jpg'], [with_(Number.NaN)])).toThrow(
    /p\.jpg: its features are no numbers: 1 of 6 numbers are NaN or infinite, first number 3 \(NaN\)/,
  );
  expect(() => writer.append(['p.jpg'], [with_(65520)])).toThrow(/p\.jpg: 1 of its 6 features are beyond ±65504.*--precision f32/);
  writer.append(['p.jpg'], [with_(-65504)]);
  writer.appendBytes(['old.jpg'], [new Uint8Array(Uint16Array.of(0, 0, 0x7c00, 0, 0, 0).buffer)]); // what older versions wrote for 70,000
  writer.finish();
  const store = await FeatureStore.open(path);
  expect((await store.read(['p.jpg']))[2]).toBe(-65504);
  await expect(store.read(['p.jpg', 'old.jpg'])).rejects.toThrow(/the features of old\.jpg are no numbers: .*first number 3 \(Infinity\); extract them again/);
  await store.close();
});

test('a journal that a kill left beside a longer index takes nothing away', async () => {
  const path = join(folder, 'stale');
  const first = FeatureWriter.open(path, kind);
  first.append(['a'], [record(1)]);
  first.close();
  const journal = readFileSync(join(path, 'features.json.partial'));
  const second = FeatureWriter.open(path, kind);
  second.append(['b'], [record(2)]);
  second.finish();
  writeFileSync(join(path, 'features.json.partial'), journal);
  const third = FeatureWriter.open(path, kind);
  expect([...third.files()]).toEqual(['a', 'b']);
  third.finish();
  const store = await FeatureStore.open(path);
  expect((await store.read(['b']))[0]).toBe(2);
  await store.close();
});
