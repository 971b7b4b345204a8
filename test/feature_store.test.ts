/** Feature stores: written in parts, merged, and refused when they are damaged or of another encoder. */
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FeatureStore, FeatureWriter, mergeStores } from '../src/data/feature_store.ts';
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
  expect(second.index.files).toEqual(['a', 'b']);
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
  expect((await mergeStores(out, [a, b]))?.files).toEqual(['x', 'y', 'z']);
  const store = await FeatureStore.open(out);
  expect((await store.read(['z', 'y'])).map((v) => Math.round(v * 1000) / 1000)).toEqual(Float32Array.from([3, 3, 3, 3, 3, 3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]));
  await store.close();
  expect(existsSync(join(out, 'features.f16'))).toBe(true);
  await expect(mergeStores(join(folder, 'm2'), [a, shard('shard3', { x: 2 })])).rejects.toThrow(/other features of x/);
  await expect(mergeStores(join(folder, 'm3'), [a, shard('shard4', { x: 1 }, { type: 'f32' })])).rejects.toThrow(/type differ/);
  await expect(mergeStores(join(folder, 'm4'), [a, join(folder, 'absent')])).rejects.toThrow(/absent/);
});
