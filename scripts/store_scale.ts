/**
 * Measures a feature store at scale: how fast records are appended, and how long an index of many pictures takes to write, to open and to
 * merge, with the memory that the process then has. Nothing of it needs a GPU.
 *
 *   npx tsx scripts/store_scale.ts --pictures 10000000 [--folder FOLDER] [--append-gb 4]
 *
 * The folder should lie on the disk in question. About 8 bytes and 70 bytes more a picture are written there, twice, and the records of
 * the append.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { partOf } from '../src/data/feature_parts.ts';
import { FeatureStore } from '../src/data/feature_store.ts';
import { FeatureWriter } from '../src/data/feature_writer.ts';
import { mergeStores } from '../src/data/merge_stores.ts';

const { values } = parseArgs({
  options: { pictures: { type: 'string', default: '1000000' }, folder: { type: 'string', default: tmpdir() }, 'append-gb': { type: 'string', default: '2' } },
});
const pictures = Number(values.pictures);
const appendBytes = Number(values['append-gb']) * 1e9;
const folder = mkdtempSync(join(values.folder, 'glimpse-store-'));
const encoder = { path: 'none', sha256: '0', featureMap: 'none', preprocessing: 'imagenet', tuned: null };

const nameOf = (i: number) => `train2017/${String(i).padStart(12, '0')}.jpg`;
const memory = () => {
  const { rss, arrayBuffers, heapUsed } = process.memoryUsage();
  const text = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
  return `${text(rss)} resident, of which arrays ${text(arrayBuffers)}, heap ${text(heapUsed)}; at most ${text(process.resourceUsage().maxRSS * 1024)}`;
};

async function timed<T>(what: string, work: () => T | Promise<T>, rate: (seconds: number) => string = () => ''): Promise<T> {
  const started = performance.now();
  const found = await work();
  const seconds = (performance.now() - started) / 1000;
  console.log(`${what}: ${seconds.toFixed(2)} s${rate(seconds)}`);
  return found;
}

/** Records of a ResNet-50, in batches of 8. */
async function append(type: 'f16' | 'f32'): Promise<void> {
  const [regions, width] = [49, 2048];
  const records = Array.from({ length: 8 }, (_, k) =>
    Float32Array.from({ length: regions * width }, (_each, i) => ((i * 7919 + k * 104729) % 3 === 0 ? 0 : ((i * 2654435761) % 65536) / 16384)),
  );
  const size = regions * width * (type === 'f16' ? 2 : 4);
  const batches = Math.ceil(appendBytes / (8 * size));
  const writer = FeatureWriter.open(join(folder, type), { encoder, regions, width, type });
  const started = performance.now();
  let inAppend = 0;
  for (let batch = 0; batch < batches; batch++) {
    const files = records.map((_, k) => nameOf(8 * batch + k));
    const before = performance.now();
    writer.append(files, records);
    inAppend += performance.now() - before;
  }
  writer.finish();
  const seconds = (performance.now() - started) / 1000;
  const megabytes = (8 * batches * size) / 1e6;
  console.log(
    `append ${type}: ${(megabytes / seconds).toFixed(0)} MB/s with the syncs of its journal and its end; ${megabytes.toFixed(0)} MB in ${seconds.toFixed(1)} s, ${(inAppend / 1000).toFixed(1)} s of it in append`,
  );
  rmSync(join(folder, type), { recursive: true });
}

async function shard(number: number, of: number): Promise<string> {
  const path = join(folder, `shard-${number}-of-${of}`);
  const files = Array.from({ length: pictures }, (_, i) => nameOf(i));
  const part = partOf({ dataset: 'none', splits: ['train'], limit: null, files, number, of, pathOf: () => '' });
  const own = files.filter((_, i) => i % of === number - 1);
  const writer = FeatureWriter.open(path, { encoder, regions: 1, width: 2, type: 'f16' }, { parts: [part], refuse: () => {} });
  const values = Array.from({ length: 1000 }, (_, i) => Float32Array.of(i, 1));
  for (let first = 0; first < own.length; first += 1000) {
    const batch = own.slice(first, first + 1000);
    writer.append(batch, values.slice(0, batch.length));
  }
  writer.finish();
  return path;
}

try {
  for (const type of ['f16', 'f32'] as const) await append(type);
  const perSecond = (seconds: number) => `, ${Math.round(pictures / seconds)} pictures/s`;
  const stores = await timed(`write ${pictures} pictures in 2 shards`, async () => [await shard(1, 2), await shard(2, 2)], perSecond);
  console.log(`  index: ${Math.round(stores.reduce((sum, path) => sum + statSync(join(path, 'features.index')).size, 0) / 2 ** 20)} MiB; ${memory()}`);
  globalThis.gc?.();
  const merged = join(folder, 'merged');
  await timed(`merge them`, () => mergeStores(merged, stores), perSecond);
  console.log(`  ${memory()}`);
  globalThis.gc?.();
  for (const [what, path] of [
    ['the merged store', merged],
    ['the 2 shards side by side', folder],
  ] as const) {
    if (path === folder) rmSync(merged, { recursive: true });
    const store = await timed(`open ${what}`, () => FeatureStore.open(path), perSecond);
    console.log(`  ${store.pictures} pictures; ${memory()}`);
    const count = Math.min(1_000_000, pictures);
    await timed(
      `  look up ${count} names`,
      () => {
        for (let i = 0; i < count; i++) if (!store.has(nameOf((i * 7919) % pictures))) throw new Error('a picture is not found');
      },
      (seconds) => `, ${Math.round(count / seconds)} names/s`,
    );
    await store.close();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
