/**
 * Measures a feature store at scale: how fast records are appended, and how long an index of many pictures takes to write, to open and to
 * merge, with the memory that the process then has. Nothing of it needs a GPU.
 *
 *   npx tsx scripts/store_scale.ts --pictures 10000000 [--folder FOLDER] [--append-gb 4]
 *
 * The folder should lie on the disk in question. About 8 bytes and 70 bytes more a picture are written there, twice, and the records of
 * the append.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { partOf } from '../src/data/feature_parts.ts';
import { FeatureStore } from '../src/data/feature_store.ts';
import { FeatureWriter } from '../src/data/feature_writer.ts';
import { mergeStores } from '../src/data/merge_stores.ts';

const { values } = parseArgs({
  options: {
    pictures: { type: 'string', default: '1000000' },
    folder: { type: 'string', default: tmpdir() },
    'append-gb': { type: 'string', default: '2' },
    phase: { type: 'string' },
  },
});
const pictures = Number(values.pictures);
const appendBytes = Number(values['append-gb']) * 1e9;
const folder = values.phase === undefined ? mkdtempSync(join(values.folder, 'glimpse-store-')) : values.folder;
const encoder = { path: 'none', sha256: '0', featureMap: 'none', preprocessing: 'imagenet', tuned: null };

const nameOf = (i: number) => `train2017/${String(i).padStart(12, '0')}.jpg`;
const memory = () => {
  const { rss, arrayBuffers, heapUsed } = process.memoryUsage();
  const text = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
  return `${text(rss)} resident, of which arrays ${text(arrayBuffers)}, heap ${text(heapUsed)}; at most ${text(process.resourceUsage().maxRSS * 1024)}`;
};

/** Seconds that the processor worked since. Unlike the time of day, they leave out what else the machine does. */
function computed(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

async function timed<T>(what: string, work: () => T | Promise<T>, rate: (seconds: number) => string = () => ''): Promise<T> {
  const [started, used] = [performance.now(), process.cpuUsage()];
  const found = await work();
  const seconds = (performance.now() - started) / 1000;
  console.log(`${what}: ${seconds.toFixed(2)} s${rate(seconds)}; ${computed(used).toFixed(2)} s of the processor`);
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
  const used = process.cpuUsage();
  for (let batch = 0; batch < batches; batch++) {
    const files = records.map((_, k) => nameOf(8 * batch + k));
    writer.append(files, records);
    await new Promise(setImmediate); // as the work that makes the records does
  }
  writer.finish();
  const seconds = (performance.now() - started) / 1000;
  const megabytes = (8 * batches * size) / 1e6;
  const rate = (time: number) => `${(megabytes / time).toFixed(0)} MB/s`;
  console.log(
    `append ${type}: ${rate(seconds)} with all syncs, ${rate(computed(used))} of the processor's time; ${megabytes.toFixed(0)} MB in ${seconds.toFixed(1)} s`,
  );
  rmSync(join(folder, type), { recursive: true });
}

async function shard(number: number, of: number): Promise<void> {
  const files = Array.from({ length: pictures }, (_, i) => nameOf(i));
  const part = partOf({ dataset: 'none', splits: ['train'], limit: null, files, number, of, sample: [] });
  const own = files.filter((_, i) => i % of === number - 1);
  const writer = FeatureWriter.open(shards[number - 1], { encoder, regions: 1, width: 2, type: 'f16' }, { parts: [part], refuse: () => {} });
  const values = Array.from({ length: 1000 }, (_, i) => Float32Array.of(i, 1));
  for (let first = 0; first < own.length; first += 1000) {
    const batch = own.slice(first, first + 1000);
    writer.append(batch, values.slice(0, batch.length));
  }
  writer.finish();
}

const perSecond = (seconds: number) => `, ${Math.round(pictures / seconds)} pictures/s`;
const merged = join(folder, 'merged');
const shards = [1, 2].map((number) => join(folder, `shard-${number}-of-2`));

/** Opens a store, or several, and looks up a part of the names. */
async function open(what: string, paths: string | string[]): Promise<void> {
  const store = await timed(`open ${what}`, () => FeatureStore.open(paths), perSecond);
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

/** Each runs in a process of its own, so that its memory is told alone. */
const PHASES: Record<string, () => Promise<void>> = {
  'append f16': () => append('f16'),
  'append f32': () => append('f32'),
  async write() {
    await timed(
      `write ${pictures} pictures in 2 shards`,
      async () => {
        for (const number of [1, 2]) await shard(number, 2);
      },
      perSecond,
    );
    console.log(`  index: ${Math.round(shards.reduce((sum, path) => sum + statSync(join(path, 'features.index')).size, 0) / 2 ** 20)} MiB`);
  },
  async merge() {
    await timed('merge them', () => mergeStores(merged, shards), perSecond);
  },
  'open one': () => open('the merged store', merged),
  'open two': () => open('the 2 shards side by side', shards),
};

if (values.phase !== undefined) {
  await PHASES[values.phase]();
  console.log(`  memory: ${memory()}`);
} else
  try {
    console.log(`${cpus()[0].model}, ${cpus().length} processors, load ${loadavg()[0].toFixed(1)}`);
    for (const phase of Object.keys(PHASES)) {
      const args = ['--phase', phase, '--folder', folder, '--pictures', values.pictures, '--append-gb', values['append-gb']];
      execFileSync(process.execPath, [...process.execArgv, process.argv[1], ...args], { stdio: 'inherit' });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
