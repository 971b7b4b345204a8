/**
 * `glimpse bench`: times kernels and models on this adapter. Versions and, with --peers, other engines in processes of their own
 * take turns on the same work; what each one wrote in a last, equal run is compared with what it must be.
 *
 * Wall time is from the first line of JavaScript until the device is idle, caches flushed on the device before each sample. GPU
 * time comes from timestamp queries in runs of their own, one pass per dispatch; the two are never mixed in one number.
 */
import { appendFileSync } from 'node:fs';
import type { BenchOptions } from '../src/cli/commands/bench.ts';
import { progress, result, say } from '../src/cli/output.ts';
import { withGpu } from '../src/cli/session.ts';
import { againOnSave, failureLine, judge, readShaders, useShaders } from '../src/cli/shaders.ts';
import { onFile, writeFileAtomic } from '../src/data/atomic_file.ts';
import { GlimpseError, UsageError } from '../src/errors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { FAMILIES, useShader } from '../src/kernels/families.ts';
import { tunedFirsts } from '../src/kernels/tuning.ts';
import { chartPage } from '../src/plot/chart.ts';
import { type Benchmark, customBenchmark, KERNELS, type ModelFile, NAMES, type Selection, select } from './catalog.ts';
import { firstCaption } from './first_caption.ts';
import { deviceFlush } from './flush.ts';
import { measure, WrongResult } from './measure.ts';
import { recognizedModels } from './model_files.ts';
import { openOurs } from './ours.ts';
import { onnxruntimeLogits } from './peers/onnxruntime.ts';
import { Peers } from './peers/turns.ts';
import { oraclesInstalled } from './peers/untyped.ts';
import { newReport, type Report } from './record.ts';
import { hostHere } from './record_files.ts';
import { markdown, table } from './report.ts';
import { resnet } from './resnet.ts';
import { roofline } from './roofline.ts';
import { measureRoofs } from './roofs.ts';
import type { Engine } from './work.ts';
import { worklog } from './worklog.ts';

/** Which versions are timed: all; or, beside a shader of the user's, the plainest and those that the tuning table puts first; or the one that is chosen. */
function versionsFor(gpu: Gpu, { family }: Benchmark, o: BenchOptions): (string | null)[] {
  if (!family) return [null];
  const { names } = FAMILIES[family];
  if (o.versions || o.worklog) return names;
  const own = names.find((name) => name.startsWith('user:'));
  return own ? [...new Set([names[0], ...tunedFirsts(gpu, family).filter((name) => names.includes(name)), own])] : [null];
}

/** Every benchmark, one after the other; its versions and peers in turn. Wrong results are told at once and have no row. */
async function timeAll(gpu: Gpu, engine: Engine, list: readonly Benchmark[], o: BenchOptions, report: Report): Promise<void> {
  const peers = o.peers ? new Peers(o.adapter ?? '') : null;
  const bar = progress(o, 'bench', list.length, 'benchmarks');
  const flush = deviceFlush(gpu.device, gpu.host.shaderSource('roof_copy'));
  const modelOracle = oraclesInstalled() ? onnxruntimeLogits : undefined;
  let { roofs } = report;
  try {
    for (const [i, benchmark] of list.entries()) {
      const note = (text: string) => bar.update(i, `${benchmark.name} ${benchmark.shape}${text ? `, ${text}` : ''}`);
      const sampling = { minSamples: o.samples, maxSeconds: o.seconds };
      const measured = await measure(gpu, engine, { benchmark, versions: versionsFor(gpu, benchmark, o), sampling, flush, roofs, peers, note, modelOracle });
      report.rows.push(...measured.rows);
      for (const wrong of measured.wrong) refuse(wrong, report);
      roofs = measured.roofs;
    }
    bar.update(list.length);
  } finally {
    bar.stop();
    peers?.close();
  }
}

function refuse({ row, problem, message }: WrongResult, report: Report): void {
  report.wrong.push({ ...row, problem });
  process.stderr.write(`glimpse: ${message}\n`);
}

/** What is asked for, before a device is opened. Throws a UsageError for what there is not. */
function selection(o: BenchOptions, names: readonly string[], files: readonly ModelFile[]): Selection {
  for (const name of names) if (!NAMES.includes(name) && name !== 'all') throw new UsageError(`there is no benchmark "${name}" (${NAMES.join(', ')}, all)`);
  if (o.peers && !oraclesInstalled()) throw new GlimpseError('the peers are not installed\n  Install them with `npm run oracles`.');
  if (names.includes('first-caption') && !(o.run && o.picture)) throw new UsageError('first-caption needs --run FOLDER and --picture FILE');
  if (o.worklog && names.join() !== 'matmul') throw new UsageError('--worklog is of the matrix product: npx glimpse bench matmul --worklog FILE');
  if (o.shape) {
    if (names.length !== 1 || !KERNELS.includes(names[0])) throw new UsageError(`--shape needs the name of one benchmark: ${KERNELS.join(', ')}`);
    if (o.layout !== 'NN' && names[0] !== 'matmul') throw new UsageError(`--layout is of the matrix product, not of ${names[0]}`);
  }
  const selected = o.shape
    ? { benchmarks: [customBenchmark(names[0], o.shape, o.layout)], firstCaption: false, leftOut: [] }
    : select(names, o.only, files, Boolean(o.run && o.picture));
  const families = readShaders(o.shader).map(({ family }) => family);
  if (families.length === 0) return selected;
  const benchmarks = selected.benchmarks.filter(({ family }) => family !== null && families.includes(family));
  for (const family of families)
    if (!benchmarks.some((each) => each.family === family))
      throw new UsageError(`no benchmark that is asked for runs ${family}; there are ${KERNELS.join(', ')}`);
  return { ...selected, benchmarks, firstCaption: false };
}

async function run(gpu: Gpu, o: BenchOptions, names: readonly string[], selected: Selection, open: (gpu: Gpu) => Engine): Promise<number> {
  const { benchmarks, firstCaption: first, leftOut } = selected;
  for (const reason of leftOut) say(o, `left out: ${reason}`);
  const isTooLarge = (each: Benchmark) => each.large === true && gpu.software && each.shape !== o.only;
  const tooLarge = benchmarks.filter(isTooLarge);
  if (tooLarge.length > 0)
    say(o, `left out: ${tooLarge.length} sizes for real GPUs, such as ${tooLarge[0].name} ${tooLarge[0].shape}; --only takes one by its whole shape`);
  const shaders = readShaders(o.shader);
  await useShaders(gpu, shaders);
  const { shape, layout, only } = o;
  const asked = { names, shape, layout: shape ? layout : undefined, only, samples: o.samples, seconds: o.seconds, versions: o.versions, peers: o.peers };
  const report = newReport(gpu, hostHere(), asked, await measureRoofs(gpu), shaders);
  const { roofs, rows, wrong } = report;
  const refused = new Set<string>();
  for (const { family, version, passed, failed } of await judge(shaders)) {
    if (failed.length === 0) {
      say(o, `${family} ${version}: ${passed} cases passed`);
      continue;
    }
    refused.add(family);
    await useShader(gpu, family, null);
    wrong.push({ name: family, shape: failed[0].case, version, problem: failed[0].reason ?? 'is wrong' });
    process.stderr.write(
      `glimpse: ${version} is wrong, so it is not timed: ${failed.length} of ${passed + failed.length} cases failed\n  ${failureLine(failed[0])}\n`,
    );
  }
  if (first && o.run && o.picture) {
    try {
      rows.push(await firstCaption(o.run, o.picture, o.adapter));
    } catch (error) {
      if (!(error instanceof WrongResult)) throw error;
      refuse(error, report);
    }
  }
  const able = benchmarks.filter((each) => (each.family === null || !refused.has(each.family)) && !isTooLarge(each));
  await timeAll(gpu, open(gpu), able, o, report);
  const command = `npx glimpse ${process.argv.slice(2).join(' ')}`;
  if (o.chart) {
    const lead = `${gpu.description}. Wall time, caches flushed; the roofs were measured in the same run.`;
    const chart = roofline(rows, roofs, gpu.adapterName);
    writeFileAtomic(o.chart, [o.chart.endsWith('.svg') ? chart : chartPage('Roofline', lead, [chart])]);
    say(o, `chart: ${o.chart}`);
  }
  if (o.report) {
    writeFileAtomic(o.report, [markdown(report, command)]);
    say(o, `report: ${o.report}`);
  }
  if (o.worklog) {
    writeFileAtomic(o.worklog, [worklog(report, command, gpu.subgroupWidth)]);
    say(o, `worklog: ${o.worklog}`);
  }
  const { append } = o;
  if (append) onFile(append, () => appendFileSync(append, `${JSON.stringify(report)}\n`, { flush: true }));
  result(o, report, () =>
    [
      `${gpu.description}`,
      `roofs, measured now: ${roofs.fmaGflops.toFixed(1)} GFLOP/s multiply-adds, ${roofs.copyGBs.toFixed(1)} GB/s copy`,
      '',
      ...(rows.length > 0 ? [table(rows)] : []),
    ].join('\n'),
  );
  return wrong.length > 0 ? 1 : 0;
}

/** Exit status 1 when a result was wrong. `open` makes the engine that is timed. */
export async function bench(o: BenchOptions, names: string[], open: (gpu: Gpu) => Engine = (gpu) => openOurs(gpu, resnet)): Promise<number> {
  const selected = selection(o, names, await recognizedModels(o.model ?? [])); // what is wrong with the question is told before a device opens
  process.env.MESA_SHADER_CACHE_DISABLE = 'true'; // a cold call compiles
  return withGpu(o, (gpu) => againOnSave(o, () => run(gpu, o, names, selected, open)));
}
