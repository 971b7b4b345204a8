/**
 * `glimpse bench`: times kernels and models on this adapter and compares what the last timed run of each wrote, beside the
 * roofs of the adapter and, with --peers, beside other engines in processes of their own, in turn, on the same work.
 *
 * Wall time is from the first line of JavaScript until the device is idle, caches flushed before each sample. GPU time comes
 * from timestamp queries in runs of their own, one pass per dispatch; the two are never mixed in one number.
 */
import { existsSync } from 'node:fs';
import { type CommonOptions, progress, result, say } from '../src/cli/output.ts';
import { withGpu } from '../src/cli/session.ts';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { GlimpseError, GpuError, UsageError } from '../src/errors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { FAMILIES, forceVersion } from '../src/kernels/families.ts';
import { VersionNotApplicable } from '../src/kernels/family.ts';
import { chartPage } from '../src/plot/chart.ts';
import { type Benchmark, NAMES, select } from './catalog.ts';
import { firstCaption } from './first_caption.ts';
import { expectations, measure, type Report, WrongResult } from './measure.ts';
import { openOurs } from './ours.ts';
import { Peers } from './peers/turns.ts';
import { oraclesInstalled } from './peers/untyped.ts';
import { markdown, table } from './report.ts';
import { roofline } from './roofline.ts';
import { measureRoofs } from './roofs.ts';
import type { Engine } from './work.ts';

interface BenchOptions extends CommonOptions {
  peers?: boolean;
  versions?: boolean;
  model?: string;
  run?: string;
  picture?: string;
  samples: number;
  seconds: number;
  only?: string;
  chart?: string;
  report?: string;
}

/** Every benchmark in turn: a row for each, or for each version of its kernel family. Wrong results are told at once and have none. */
async function timeAll(gpu: Gpu, engine: Engine, list: readonly Benchmark[], o: BenchOptions, report: Report): Promise<void> {
  const peers = o.peers ? new Peers(o.adapter ?? '') : null;
  const sampling = { minSamples: o.samples, maxSeconds: o.seconds };
  const bar = progress(o, 'bench', list.length, 'benchmarks');
  try {
    for (const [i, b] of list.entries()) {
      const note = (text = '') => bar.update(i, `${b.name} ${b.shape}${text}`);
      const expected = expectations(b.work);
      const turns = async (again: () => Promise<void>) => (peers && b.peers ? peers.time(b, sampling, expected, (name) => note(`, ${name}`), again) : []);
      const { family } = b;
      for (const forced of o.versions && family ? FAMILIES[family].names : [null]) {
        note();
        if (forced && family) forceVersion(family, forced);
        try {
          report.rows.push(await measure(gpu, engine, { benchmark: b, sampling, roofs: report.roofs, expected, forced, peers: turns }));
        } catch (error) {
          if (error instanceof WrongResult) refuse(error, report);
          else if (forced && error instanceof GpuError && error.kind === 'limit')
            report.rows.push({ name: b.name, shape: b.shape, version: forced, skipped: error instanceof VersionNotApplicable ? error.reason : error.message });
          else throw error;
        } finally {
          if (forced && family) forceVersion(family, null);
        }
      }
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

/** Exit status 1 when a result was wrong. `open` makes the engine that is timed. */
export async function bench(o: BenchOptions, names: string[], open: (gpu: Gpu) => Engine = openOurs): Promise<number> {
  for (const name of names) if (!NAMES.includes(name) && name !== 'all') throw new UsageError(`there is no benchmark "${name}" (${NAMES.join(', ')}, all)`);
  if (o.peers && !oraclesInstalled()) throw new GlimpseError('the peers are not installed\n  Install them with `npm run oracles`.');
  if (o.model && !existsSync(o.model)) throw new UsageError(`--model ${o.model}: no such file`);
  if (names.includes('resnet50') && !o.model) throw new UsageError('resnet50 needs --model FILE (.onnx or .onnx.gz)');
  if (names.includes('first-caption') && !(o.run && o.picture)) throw new UsageError('first-caption needs --run FOLDER and --picture FILE');
  const selected = select(names, o.only, o.model ?? null, Boolean(o.run && o.picture));
  return withGpu(o, async (gpu) => {
    for (const reason of selected.leftOut) say(o, `left out: ${reason}`);
    const report: Report = { adapter: gpu.adapterName, driver: gpu.driverName, software: gpu.software, roofs: await measureRoofs(gpu), rows: [], wrong: [] };
    const { roofs, rows, wrong } = report;
    if (selected.firstCaption && o.run && o.picture) {
      try {
        rows.push(await firstCaption(o.run, o.picture, o.adapter));
      } catch (error) {
        if (!(error instanceof WrongResult)) throw error;
        refuse(error, report);
      }
    }
    await timeAll(gpu, open(gpu), selected.benchmarks, o, report);
    if (o.chart) {
      const lead = `${gpu.description}. Wall time, caches flushed; the roofs were measured in the same run.`;
      writeFileAtomic(o.chart, [
        o.chart.endsWith('.svg') ? roofline(rows, roofs, gpu.adapterName) : chartPage('Roofline', lead, [roofline(rows, roofs, gpu.adapterName)]),
      ]);
      say(o, `chart: ${o.chart}`);
    }
    if (o.report) {
      writeFileAtomic(o.report, [markdown(report, `npx glimpse ${process.argv.slice(2).join(' ')}`)]);
      say(o, `report: ${o.report}`);
    }
    result(o, report, () =>
      [
        `${gpu.description}`,
        `roofs, measured now: ${roofs.fmaGflops.toFixed(1)} GFLOP/s multiply-adds, ${roofs.copyGBs.toFixed(1)} GB/s copy`,
        '',
        ...(rows.length > 0 ? [table(rows)] : []),
      ].join('\n'),
    );
    return wrong.length > 0 ? 1 : 0;
  });
}
