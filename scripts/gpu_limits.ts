/**
 * A first look at a real GPU, in a minute: its roofs, every version of the product at sizes that fill it, and how fast models run.
 * docs/gpu.md has what came of it. `glimpse bench` compares every number with float64 and takes peers along, but takes the host
 * minutes for these sizes; here some elements of each product are compared.
 *
 *   npx tsx scripts/gpu_limits.ts [RESNET.onnx]
 */
import { openOurs } from '../bench/ours.ts';
import { resnet } from '../bench/resnet.ts';
import { numbers, type Work } from '../bench/work.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { Profiler } from '../src/gpu/profiler.ts';
import { FAMILIES, forceVersion } from '../src/kernels/families.ts';
import { VersionNotApplicable } from '../src/kernels/family.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { measureRoofs } from '../src/study/profile.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';

const [model] = process.argv.slice(2);
const gpu = await openGpu();
console.log(gpu.description);
const { fmaGflops, copyGBs } = await measureRoofs(gpu);
console.log(`roofs: ${(fmaGflops / 1000).toFixed(1)} TFLOP/s multiply-adds, ${copyGBs.toFixed(0)} GB/s copy\n`);

/** Milliseconds of a run, of which `times` are submitted before the wait. */
async function perRun(run: () => void, times: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < times; i++) run();
  await gpu.idle();
  return (performance.now() - start) / times;
}

/** Products that take the plain versions longer than they are worth. */
const MUCH = 2 ** 31;
const OFF = 1e-2;

async function products(m: number, k: number, n: number, layout: 'NN' | 'NT' | 'TN'): Promise<void> {
  const [transA, transB] = [layout[0] === 'T', layout[1] === 'T'];
  const [a, b] = [numbers(m * k, 1), numbers(k * n, 2)];
  const [left, right] = [tensor(a, transA ? [k, m] : [m, k]), tensor(b, transB ? [n, k] : [k, n])];
  const at = (i: number, j: number) => {
    let sum = 0;
    for (let p = 0; p < k; p++) sum += a[transA ? p * m + i : i * k + p] * b[transB ? j * k + p : p * n + j];
    return sum;
  };
  const places = [0, Math.floor(m / 2), m - 1].flatMap((i) => [0, 1, Math.floor(n / 2), n - 1].map((j) => [i, j]));
  const wanted = places.map(([i, j]) => at(i, j));
  const found: { ms: number; text: string }[] = [];
  for (const version of FAMILIES.matmul.names) {
    if (m * n * k > MUCH && (version === 'naive' || version === 'register')) continue;
    forceVersion('matmul', version);
    try {
      const run = () => {
        using _run = scope();
        noGrad(() => ops.matmul(left, right, { transA, transB }));
      };
      for (let i = 0; i < 2; i++) await perRun(run, 1);
      const times = Math.max(2, Math.min(50, Math.round(60 / (await perRun(run, 2)))));
      const ms = Math.min(await perRun(run, times), await perRun(run, times));
      using _check = scope();
      const c = await noGrad(() => ops.matmul(left, right, { transA, transB })).data();
      const worst = Math.max(...places.map(([i, j], p) => Math.abs(c[i * n + j] - wanted[p])));
      found.push({ ms, text: `${version} ${ms.toFixed(3)} ms ${((2 * m * n * k) / ms / 1e9).toFixed(1)} TFLOP/s${worst <= OFF ? '' : ` WRONG by ${worst}`}` });
    } catch (error) {
      if (!(error instanceof VersionNotApplicable)) throw error;
    } finally {
      forceVersion('matmul', null);
    }
  }
  for (const each of [left, right]) each.dispose();
  console.log(
    `${m}×${k}×${n} ${layout}: ${found
      .sort((x, y) => x.ms - y.ms)
      .map(({ text }) => text)
      .join(', ')}`,
  );
}

for (const [m, k, n] of [
  [1024, 1024, 1024],
  [2048, 2048, 2048],
  [4096, 4096, 4096],
  [64, 512, 5000],
])
  for (const layout of ['NN', 'NT', 'TN'] as const) await products(m, k, n, layout);
console.log();

const decoder = (kind: 'trainStep' | 'greedy', batch: number): Work => ({
  kind,
  batch,
  steps: 20,
  regions: 49,
  features: 2048,
  vocabulary: 5000,
  replayed: true,
});
const models: { name: string; unit: string; units: number; work: Work; profiled?: true }[] = [
  ...(model
    ? [1, 8, 64].map((images) => ({ name: `resnet50, batch ${images}`, unit: 'pictures', units: images, work: { kind: 'resnet50', images, model } as Work }))
    : []),
  { name: 'train-step, 64 × 20 words', unit: 'tokens', units: 64 * 20, work: decoder('trainStep', 64), profiled: true },
  { name: 'train-step, 256 × 20 words', unit: 'tokens', units: 256 * 20, work: decoder('trainStep', 256) },
  { name: 'greedy, 64 pictures', unit: 'pictures', units: 64, work: decoder('greedy', 64) },
  { name: 'greedy, 512 pictures', unit: 'pictures', units: 512, work: decoder('greedy', 512) },
];
const MOST_KERNELS = 12;
const engine = openOurs(gpu, resnet);
for (const { name, unit, units, work, profiled } of models) {
  const prepared = await engine.prepare(work);
  if (!prepared) continue;
  await prepared.load?.(0);
  for (let i = 0; i < 3; i++) await prepared.run();
  const once = performance.now();
  await prepared.run();
  const times = Math.max(2, Math.min(30, Math.round(1500 / (performance.now() - once))));
  const start = performance.now();
  await prepared.run(times);
  const ms = (performance.now() - start) / times;
  console.log(`${name}: ${ms.toFixed(2)} ms, ${((1000 * units) / ms).toFixed(0)} ${unit}/s`);
  if (profiled && gpu.device.features.has('timestamp-query')) {
    gpu.profiler = new Profiler(gpu.device);
    await prepared.run();
    const rows = await gpu.profiler.table();
    gpu.profiler = null;
    for (const row of rows.sort((x, y) => y.totalMs - x.totalMs).slice(0, MOST_KERNELS))
      console.log(`  ${row.totalMs.toFixed(3)} ms, ${row.calls} × ${row.kernel} ${row.version ?? ''}, ${row.label.slice(0, 70)}`);
  }
  prepared.dispose();
}
await gpu.close();
