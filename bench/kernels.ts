/**
 * Times the versions of the matrix product on this adapter: each is first checked against version 1, then timed by the
 * `benchmark` package in deferred mode, eight dispatches a sample so that one wait is shared. Prints median and p95 of the
 * samples, then a profile by timestamp queries (a mode of its own: never mix its numbers with the times above).
 *
 *   npm run bench -- [SIZE]
 */
import Benchmark from 'benchmark';
import { compare } from '../src/autograd/check.ts';
import { openGpu } from '../src/gpu/device.ts';
import { formatProfile, Profiler } from '../src/gpu/profiler.ts';
import { matmul } from '../src/kernels/matmul.ts';
import { FAMILIES, forceVersion, VersionNotApplicable } from '../src/kernels/versions.ts';
import { Random } from '../src/tensor/random.ts';
import { empty, tensor } from '../src/tensor/tensor.ts';

const size = Number(process.argv[2] ?? 256);
if (!Number.isInteger(size) || size < 1) throw new Error(`the size is a whole number, got ${process.argv[2]}`);
const PER_SAMPLE = 8;

const gpu = await openGpu();
console.log(`${size}³ on ${gpu.description}`);
const random = new Random(1, 'bench');
const numbers = () => Float32Array.from({ length: size * size }, () => random.uniform(-1, 1));
const [a, b, c] = [tensor(numbers(), [size, size]), tensor(numbers(), [size, size]), empty([size, size])];
const run = () => matmul(gpu, { a: a.slice, b: b.slice, c: c.slice, m: size, n: size, k: size, label: 'bench' });

const quantile = (sorted: readonly number[], q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];

async function time(): Promise<number[]> {
  return new Promise((resolve, reject) => {
    new Benchmark('matmul', {
      defer: true,
      minSamples: 15,
      maxTime: 2,
      fn: (deferred: { resolve(): void }) => {
        for (let i = 0; i < PER_SAMPLE; i++) run();
        gpu.idle().then(() => deferred.resolve(), reject);
      },
      onComplete: (event: Benchmark.Event) =>
        resolve((event.target as unknown as Benchmark).stats?.sample.map((seconds) => (seconds * 1000) / PER_SAMPLE).sort((x, y) => x - y) ?? []),
    }).run({ async: true });
  });
}

forceVersion('matmul', 'v1_naive');
run();
const expected = await c.data();
console.log('version              median ms    p95 ms   GFLOP/s');
for (const version of FAMILIES.matmul) {
  forceVersion('matmul', version);
  try {
    run();
  } catch (error) {
    if (!(error instanceof VersionNotApplicable)) throw error;
    console.log(`${version.padEnd(20)} cannot run here`);
    continue;
  }
  if (!compare(await c.data(), expected, 1e-4, 1e-4).ok) throw new Error(`${version} disagrees with version 1`);
  const sample = await time();
  const median = quantile(sample, 0.5);
  console.log(
    `${version.padEnd(20)} ${median.toFixed(3).padStart(9)} ${quantile(sample, 0.95).toFixed(3).padStart(9)} ${((2 * size ** 3) / median / 1e6).toFixed(1).padStart(9)}`,
  );
}
forceVersion('matmul', null);
if (gpu.device.features.has('timestamp-query')) {
  gpu.profiler = new Profiler(gpu.device);
  for (let i = 0; i < PER_SAMPLE; i++) run();
  await gpu.idle();
  console.log(`\nprofile of the default version\n${formatProfile(await gpu.profiler.table())}`);
}
await gpu.close();
process.exit(0);
