/**
 * `glimpse bench`: times kernels and models on this adapter, each first checked against a float64 reference, beside the roofs
 * of the adapter and, with --peers, beside other engines in processes of their own, in turn, on the same work.
 *
 * Wall time is from the first line of JavaScript until the device is idle, caches flushed before each sample. GPU time comes
 * from timestamp queries in runs of their own, one pass per dispatch; the two are never mixed in one number.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type CommonOptions, progress, result, say } from '../src/cli/output.ts';
import { withGpu } from '../src/cli/session.ts';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { GlimpseError, UsageError } from '../src/errors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { Profiler } from '../src/gpu/profiler.ts';
import { chosenVersion, FAMILIES, forceVersion } from '../src/kernels/families.ts';
import { VersionNotApplicable } from '../src/kernels/family.ts';
import { chartPage, chartSvg } from '../src/plot/chart.ts';
import { memory } from '../src/tensor/tensor.ts';
import { type Benchmark, catalog, NAMES } from './catalog.ts';
import { openOurs } from './ours.ts';
import { CPU_PEERS, type PeerAnswer, PeerProcess, WEBGPU_PEERS } from './peers/process.ts';
import { oraclesInstalled } from './peers/untyped.ts';
import { checkSample, expectedSample } from './reference.ts';
import { markdown } from './report.ts';
import { measureRoofs, type Roofs } from './roofs.ts';
import { median, summary, type Timing, timeWork } from './sampling.ts';
import type { Engine, Prepared } from './work.ts';

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

interface PeerRow {
  name: string;
  /** With the polling treatment that our engine gives itself; null when the peer cannot do it or failed. */
  medianMs: number | null;
  minMs: number | null;
  /** As it comes. */
  stockMedianMs: number | null;
  /** Its time over ours. */
  ratio: number | null;
  peakBytes: number | null;
  note?: string;
}

export interface Row extends Timing {
  name: string;
  shape: string;
  version: string;
  /** Until every command is handed to the driver: JavaScript's share. */
  hostMs: number | null;
  gpuMedianMs: number | null;
  gflops: number | null;
  gigabytesPerSecond: number | null;
  /** Floating-point operations per byte. */
  intensity: number | null;
  /** Share of what the roofs allow at this intensity. */
  roofShare: number | null;
  peakBytes: number | null;
  peers: PeerRow[];
}

export interface Report {
  adapter: string;
  driver: string;
  software: boolean;
  roofs: Roofs;
  rows: Row[];
}

function roofOf(roofs: Roofs, b: Benchmark): number {
  return Math.min(roofs.fmaGflops, (roofs.copyGBs * b.flops) / b.bytes);
}

/** Median over runs of the GPU time summed over their dispatches. */
async function gpuTime(gpu: Gpu, prepared: Prepared): Promise<number | null> {
  if (!gpu.device.features.has('timestamp-query')) return null;
  const totals: number[] = [];
  for (let i = 0; i < 3; i++) {
    gpu.profiler = new Profiler(gpu.device);
    await prepared.run();
    const table = await gpu.profiler.table();
    gpu.profiler = null;
    totals.push(table.reduce((sum, { totalMs }) => sum + totalMs, 0));
  }
  return median(totals);
}

/** Median time until control comes back from recording, before waiting. */
async function hostTime(prepared: Prepared): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    const done = prepared.run();
    times.push(performance.now() - start);
    await done;
  }
  return median(times);
}

class Peers {
  private readonly processes: { throttled: PeerProcess; stock: PeerProcess | null }[];

  constructor(adapter: string) {
    this.processes = [...WEBGPU_PEERS, ...CPU_PEERS].map((name) => ({
      throttled: new PeerProcess(name, adapter, false),
      // Native code does not poll through JavaScript, nor does WebAssembly: there is no second way to run them.
      stock: ['tfjs-webgpu', 'onnxruntime-web', 'jax-js'].includes(name) ? new PeerProcess(name, adapter, true) : null,
    }));
  }

  /** `between` is called after each peer, for our own turn. */
  async time(
    b: Benchmark,
    o: BenchOptions,
    expected: readonly number[] | null,
    note: (name: string) => void,
    between: () => Promise<void>,
  ): Promise<PeerRow[]> {
    const rows: PeerRow[] = [];
    for (const { throttled, stock } of this.processes) {
      note(throttled.name);
      const answer = await this.ask(throttled, b, o, expected);
      if (answer === null) continue;
      const as = stock && 'timing' in answer ? await this.ask(stock, b, o, expected) : answer;
      const timing = 'timing' in answer ? answer.timing : null;
      rows.push({
        name: throttled.name,
        medianMs: timing?.medianMs ?? null,
        minMs: timing?.minMs ?? null,
        stockMedianMs: as && 'timing' in as ? as.timing.medianMs : null,
        ratio: null,
        peakBytes: 'peakBytes' in answer ? answer.peakBytes : null,
        ...('error' in answer ? { note: answer.error.split('\n')[0].slice(0, 200) } : {}),
      });
      await between();
    }
    return rows;
  }

  private async ask(peer: PeerProcess, b: Benchmark, o: BenchOptions, expected: readonly number[] | null): Promise<PeerAnswer | null> {
    const answer = await peer.time(b.work, o.samples, o.seconds).catch((error: Error) => ({ error: error.message }));
    if ('unable' in answer) return null;
    if ('timing' in answer && answer.sample && expected) {
      try {
        checkSample(peer.name, `${b.name} ${b.shape}`, answer.sample, expected);
      } catch (error) {
        return { error: (error as Error).message };
      }
    }
    return answer;
  }

  close(): void {
    for (const { throttled, stock } of this.processes) {
      throttled.close();
      stock?.close();
    }
  }
}

async function measure(
  gpu: Gpu,
  engine: Engine,
  b: Benchmark,
  o: BenchOptions,
  roofs: Roofs,
  expected: readonly number[] | null,
): Promise<{ again: () => Promise<void>; finish: (peers: PeerRow[]) => Row }> {
  const prepared = await engine.prepare(b.work);
  if (!prepared) throw new GlimpseError(`${b.name} ${b.shape} cannot be prepared`);
  if (prepared.sample && expected) checkSample('glimpse', `${b.name} ${b.shape}`, await prepared.sample(), expected);
  gpu.pool.trim();
  gpu.pool.resetPeak();
  const sampling = { minSamples: o.samples, maxSeconds: o.seconds };
  const { sample, coldMs } = await timeWork(prepared, sampling);
  const once = {
    name: b.name,
    shape: b.shape,
    version: b.family ? (chosenVersion(b.family) ?? 'only') : 'model',
    hostMs: await hostTime(prepared),
    gpuMedianMs: await gpuTime(gpu, prepared),
    intensity: b.flops / b.bytes,
    peakBytes: memory().peakBytes + memory().texelBytes,
  };
  return {
    /** Once more after each peer, so that a slow phase of the machine shows in both. */
    async again() {
      sample.push(...(await timeWork(prepared, sampling)).sample);
    },
    finish(peers) {
      prepared.dispose();
      gpu.pool.trim();
      const timing = summary(sample, coldMs);
      const gflops = b.flops / timing.medianMs / 1e6;
      const rates = { gflops, gigabytesPerSecond: b.bytes / timing.medianMs / 1e6, roofShare: gflops / roofOf(roofs, b) };
      return {
        ...once,
        ...timing,
        ...rates,
        peers: peers.map((peer) => ({ ...peer, ratio: peer.medianMs === null ? null : peer.medianMs / timing.medianMs })),
      };
    },
  };
}

/** A fresh process that captions one picture, with whatever caches the machine has warm. */
function firstCaption(o: BenchOptions, run: string, picture: string): Row {
  const program = new URL('../bin/glimpse.js', import.meta.url).pathname;
  const times: number[] = [];
  for (let i = 0; i < 6; i++) {
    const start = performance.now();
    const { status, stderr } = spawnSync(process.execPath, [program, 'caption', run, picture, '--json', ...(o.adapter ? ['--adapter', o.adapter] : [])], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new GlimpseError(`the first caption failed: ${stderr.trim()}`);
    times.push(performance.now() - start);
  }
  const nothing = { hostMs: null, gpuMedianMs: null, gflops: null, gigabytesPerSecond: null, intensity: null, roofShare: null, peakBytes: null, peers: [] };
  return { name: 'first-caption', shape: 'one picture, fresh process', version: 'model', ...summary(times.slice(1), times[0]), ...nothing };
}

const number = (value: number | null, digits = 2) => (value === null ? '–' : value.toFixed(value >= 100 ? Math.min(digits, 1) : digits));

function table(rows: readonly Row[]): string {
  const head = ['name', 'shape', 'version', 'median ms', 'p95', '± %', 'cold', 'host', 'GPU ms', 'GFLOP/s', 'GB/s', 'flop/B', '% roof'];
  const cells = rows.map((r) => [
    r.name,
    r.shape,
    r.version,
    number(r.medianMs),
    number(r.p95Ms),
    number(100 * r.spread, 0),
    number(r.coldMs, 0),
    number(r.hostMs),
    number(r.gpuMedianMs),
    number(r.gflops, 1),
    number(r.gigabytesPerSecond, 1),
    number(r.intensity, 1),
    number(r.roofShare === null ? null : 100 * r.roofShare, 0),
  ]);
  const widths = head.map((title, i) => Math.max(title.length, ...cells.map((row) => row[i].length)));
  const line = (row: readonly string[]) => row.map((cell, i) => (i < 3 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  const peers = rows.flatMap((r) =>
    r.peers.map(
      (p) =>
        `  ${`${r.name} ${r.shape}`.padEnd(40)} ${p.name.padEnd(24)} ${number(p.medianMs).padStart(9)} ms  stock ${number(p.stockMedianMs).padStart(9)} ms  ${p.ratio === null ? (p.note ?? '') : `${p.ratio.toFixed(2)} × ours`}`,
    ),
  );
  return [line(head), ...cells.map(line), ...(peers.length > 0 ? ['', 'peers', ...peers] : [])].join('\n');
}

function roofline(rows: readonly Row[], roofs: Roofs, adapter: string): string {
  const ridge = roofs.fmaGflops / roofs.copyGBs;
  const placed = rows.filter((r) => r.intensity !== null && r.gflops !== null);
  const low = Math.min(ridge / 4, ...placed.map((r) => r.intensity as number)) / 2;
  const high = Math.max(ridge * 4, ...placed.map((r) => r.intensity as number)) * 2;
  const names = [...new Set(placed.map((r) => r.name))];
  return chartSvg({
    title: `Roofline: ${adapter}`,
    xLabel: 'floating-point operations per byte',
    yLabel: 'GFLOP/s',
    xLog: true,
    yLog: true,
    series: [
      {
        name: `roof: ${roofs.fmaGflops.toFixed(0)} GFLOP/s, ${roofs.copyGBs.toFixed(1)} GB/s, measured`,
        points: [
          [low, low * roofs.copyGBs],
          [ridge, roofs.fmaGflops],
          [high, roofs.fmaGflops],
        ],
      },
      ...names.map((name) => {
        const list = placed.filter((r) => r.name === name);
        return {
          name,
          marks: true,
          points: list.map((r) => [r.intensity as number, r.gflops as number] as const),
          labels: list.map((r) => (list.filter((other) => other.shape === r.shape).length > 1 ? `${r.shape}, ${r.version}` : r.shape)),
        };
      }),
    ],
  });
}

export async function bench(o: BenchOptions, names: string[]): Promise<number> {
  for (const name of names) if (!NAMES.includes(name) && name !== 'all') throw new UsageError(`there is no benchmark "${name}" (${NAMES.join(', ')}, all)`);
  const wanted = (name: string) => names.length === 0 || names.includes('all') || names.includes(name);
  if (o.peers && !oraclesInstalled()) throw new GlimpseError('the peers are not installed\n  Install them with `npm run oracles`.');
  if (o.model && !existsSync(o.model)) throw new UsageError(`--model ${o.model}: no such file`);
  if (names.includes('resnet50') && !o.model) throw new UsageError('resnet50 needs --model FILE (.onnx or .onnx.gz)');
  if (names.includes('first-caption') && !(o.run && o.picture)) throw new UsageError('first-caption needs --run FOLDER and --picture FILE');
  const list = catalog(o.model ?? null).filter(({ name, shape }) => wanted(name) && (!o.only || shape.includes(o.only)));
  const rows: Row[] = [];
  return withGpu(o, async (gpu) => {
    if (!o.model && wanted('resnet50')) say(o, 'left out: resnet50 (it needs --model FILE)');
    if (!(o.run && o.picture) && wanted('first-caption')) say(o, 'left out: first-caption (it needs --run FOLDER and --picture FILE)');
    if (o.run && o.picture && wanted('first-caption')) rows.push(firstCaption(o, o.run, o.picture));
    const roofs = await measureRoofs(gpu);
    const engine = openOurs(gpu);
    const peers = o.peers ? new Peers(o.adapter ?? '') : null;
    const bar = progress(o, 'bench', list.length, 'benchmarks');
    try {
      for (const [i, b] of list.entries()) {
        bar.update(i, `${b.name} ${b.shape}`);
        const expected = expectedSample(b.work);
        const versions = o.versions && b.family ? FAMILIES[b.family].names : [null];
        for (const version of versions) {
          if (version && b.family) forceVersion(b.family, version);
          try {
            const { again, finish } = await measure(gpu, engine, b, o, roofs, expected);
            const note = (name: string) => bar.update(i, `${b.name} ${b.shape}, ${name}`);
            rows.push(finish(peers && b.peers ? await peers.time(b, o, expected, note, again) : []));
          } catch (error) {
            if (!(error instanceof VersionNotApplicable)) throw error;
          } finally {
            if (version && b.family) forceVersion(b.family, null);
          }
        }
      }
      bar.update(list.length);
    } finally {
      bar.stop();
      peers?.close();
    }
    if (o.chart) {
      const lead = `${gpu.description}. Wall time, caches flushed; the roofs were measured in the same run.`;
      writeFileAtomic(o.chart, [
        o.chart.endsWith('.svg') ? roofline(rows, roofs, gpu.adapterName) : chartPage('Roofline', lead, [roofline(rows, roofs, gpu.adapterName)]),
      ]);
      say(o, `chart: ${o.chart}`);
    }
    const report: Report = { adapter: gpu.adapterName, driver: gpu.driverName, software: gpu.software, roofs, rows };
    if (o.report) {
      writeFileAtomic(o.report, [markdown(report, `npx glimpse ${process.argv.slice(2).join(' ')}`)]);
      say(o, `report: ${o.report}`);
    }
    result(o, report, () =>
      [
        `${gpu.description}`,
        `roofs, measured now: ${roofs.fmaGflops.toFixed(1)} GFLOP/s multiply-adds, ${roofs.copyGBs.toFixed(1)} GB/s copy`,
        '',
        table(rows),
      ].join('\n'),
    );
    return 0;
  });
}
