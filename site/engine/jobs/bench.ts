/** Benchmarks in the browser: what `glimpse bench` runs, with its schema. */
import './lodash_first.ts';
import { type Benchmark, catalog, customBenchmark } from '../../../bench/catalog.ts';
import { deviceFlush } from '../../../bench/flush.ts';
import { measure } from '../../../bench/measure.ts';
import { openOurs } from '../../../bench/ours.ts';
import { newReport } from '../../../bench/record.ts';
import { measureRoofs } from '../../../bench/roofs.ts';
import type { Flush } from '../../../bench/sampling.ts';
import { OPS } from '../../../src/autograd/ops/index.ts';
import { UsageError } from '../../../src/errors.ts';
import type { Gpu } from '../../../src/gpu/gpu.ts';
import { FAMILIES, useShader } from '../../../src/kernels/families.ts';
import { sizeOf } from '../../../src/tensor/shape.ts';
import type { Jobs, RunWhat } from '../protocol.ts';
import type { JobContext } from '../worker.ts';

/** Float64 on the host checks every number: beyond this many operations it would take minutes. */
const MOST_FLOPS = 2 ** 32;

/** One for each device: it holds 128 MiB. */
const flushes = new WeakMap<Gpu, Flush>();

function flushOf(gpu: Gpu): Flush {
  const flush = flushes.get(gpu) ?? deviceFlush(gpu.device, gpu.host.shaderSource('roof_copy'));
  flushes.set(gpu, flush);
  return flush;
}

function benchmarksOf(what: RunWhat): Benchmark[] {
  if (what.kind === 'catalog') return catalog().filter(({ name }) => what.names.includes(name));
  if (what.kind === 'kernel') return [customBenchmark(what.name, what.shape, 'NN')];
  const op = OPS.find(({ name }) => name === what.op);
  if (!op) throw new UsageError(`there is no op called "${what.op}"`);
  const { shapes, attrs, draw } = what;
  const outputs = op.shape(shapes, attrs); // throws with the shapes if they do not fit
  const cost = op.cost(shapes, outputs, attrs);
  if (cost.flops > MOST_FLOPS)
    throw new UsageError(`${op.name} of these shapes takes ${(cost.flops / 1e9).toFixed(1)} G operations, more than a page checks in float64`);
  return [
    {
      ...{ name: op.name, shape: shapes.map((shape) => shape.join('×') || '1').join(', '), family: op.family ?? null, peers: false },
      work: { kind: 'op', op: op.name, shapes, attrs, draw: draw ?? shapes.map(() => 'normal') },
      ...{ flops: Math.max(1, cost.flops), bytes: Math.max(4, cost.bytes, 4 * outputs.reduce((sum, shape) => sum + sizeOf(shape), 0)) },
    },
  ];
}

export async function bench(
  gpu: Gpu,
  { what, versions, own, samples, seconds }: Jobs['bench']['input'],
  context: JobContext<'bench'>,
): Promise<Jobs['bench']['result']> {
  const benchmarks = benchmarksOf(what);
  if (own) await useShader(gpu, own.family, own.text);
  try {
    const flush = flushOf(gpu);
    const host = {
      commit: null,
      version: __VERSION__,
      node: navigator.userAgent,
      dawn: '',
      cpu: 'unknown',
      cores: navigator.hardwareConcurrency,
      os: navigator.platform,
    };
    const asked = { names: benchmarks.map(({ name }) => name), samples, seconds, versions, page: true };
    const report = newReport(gpu, host, asked, await measureRoofs(gpu), own ? [own] : []);
    let { roofs } = report;
    for (const [i, benchmark] of benchmarks.entries()) {
      const note = (text: string) =>
        context.tell({ text: `${benchmark.name} ${benchmark.shape}${text ? `, ${text}` : ''}`, done: i, total: benchmarks.length });
      const { family } = benchmark;
      const chosen = family && versions ? FAMILIES[family].names : [null];
      const measured = await measure(gpu, openOurs(gpu), {
        benchmark,
        versions: chosen,
        sampling: { minSamples: samples, maxSeconds: seconds },
        flush,
        roofs,
        peers: null,
        note,
      });
      report.rows.push(...measured.rows);
      report.wrong.push(...measured.wrong.map(({ row, problem }) => ({ ...row, problem })));
      roofs = measured.roofs;
      if (!own) await context.turn(); // other jobs must not run with the visitor's shader
    }
    return report;
  } finally {
    if (own) await useShader(gpu, own.family, null); // also after a loss: families outlive the device
  }
}
