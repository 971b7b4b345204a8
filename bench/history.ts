/** Runs beside one another: `bench compare` two of them, `bench plot` many. */
import { result, say } from '../src/cli/output.ts';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { UsageError } from '../src/errors.ts';
import { chartPage, chartSvg } from '../src/plot/chart.ts';
import type { Ratio } from './ratio.ts';
import type { Report } from './record.ts';
import { readHistory, readReport } from './record_files.ts';
import { isTimed, type TimedRow } from './rows.ts';
import { bootstrapRatio } from './sampling.ts';

interface CompareOptions {
  json: boolean;
  quiet: boolean;
}

const keyOf = ({ name, shape, version }: TimedRow) => `${name} ${shape}, ${version}`;
const hostOf = ({ adapter, driver, cpu }: Report) => `${adapter}, ${driver}, ${cpu}`;

/** A benchmark in both runs: how long the second takes, as a multiple of the first. */
export interface Change extends Ratio {
  key: string;
  beforeMs: number;
  afterMs: number;
}

/** Rows of both runs, and rows of one of them alone. */
export function changes(before: Report, after: Report): { changes: Change[]; alone: string[] } {
  const [first, second] = [before, after].map(({ rows }) => new Map(rows.filter(isTimed).map((row) => [keyOf(row), row])));
  const both = [...first.keys()].filter((key) => second.has(key));
  return {
    changes: both.map((key) => {
      const [a, b] = [first.get(key) as TimedRow, second.get(key) as TimedRow];
      return { key, beforeMs: a.medianMs, afterMs: b.medianMs, ...bootstrapRatio(b.samplesMs, a.samplesMs, false) };
    }),
    alone: [...[...first.keys()].filter((key) => !second.has(key)), ...[...second.keys()].filter((key) => !first.has(key))],
  };
}

const asText = ({ ratio, low, high, verdict }: Ratio) => `${ratio.toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)}) ${verdict}`;

/** `glimpse bench compare`: exit 1 if anything is slower beyond its interval. */
export async function compareRuns(o: CompareOptions, before: string, after: string): Promise<number> {
  const [a, b] = [readReport(before), readReport(after)];
  const { changes: all, alone } = changes(a, b);
  if (all.length === 0) throw new UsageError(`${before} and ${after} have no benchmark in common`);
  if (hostOf(a) !== hostOf(b)) say(o, `these runs are of two machines: ${hostOf(a)}; ${hostOf(b)}`);
  for (const key of alone) say(o, `in one run only: ${key}`);
  const slower = all.filter(({ verdict }) => verdict === 'slower');
  result(o, { before: a.commit, after: b.commit, changes: all, alone, slower: slower.length }, () => {
    const width = Math.max(...all.map(({ key }) => key.length));
    const lines = all.map((c) => `${c.key.padEnd(width)}  ${c.beforeMs.toFixed(3).padStart(10)} ms  ${c.afterMs.toFixed(3).padStart(10)} ms  ${asText(c)}`);
    return [`${'benchmark'.padEnd(width)}  ${'before'.padStart(13)}  ${'after'.padStart(13)}  after / before (95 %)`, ...lines].join('\n');
  });
  return slower.length > 0 ? 1 : 0;
}

/** Charts of at most this many lines each stay legible. */
const LINES = 6;

/** `glimpse bench plot`: the medians of every benchmark over the runs, as a page. */
export async function plotHistory(o: CompareOptions & { out?: string }, path: string): Promise<number> {
  const history = readHistory(path);
  const hosts = [...new Set(history.map(hostOf))];
  const out = o.out ?? `${path.replace(/\.jsonl$/, '')}.html`;
  const charts: string[] = [];
  for (const host of hosts) {
    const runs = history.filter((report) => hostOf(report) === host);
    const names = [...new Set(runs.flatMap(({ rows }) => rows.filter(isTimed).map(({ name }) => name)))];
    for (const name of names) {
      const keys = [
        ...new Set(
          runs.flatMap(({ rows }) =>
            rows
              .filter(isTimed)
              .filter((row) => row.name === name)
              .map(keyOf),
          ),
        ),
      ];
      for (let from = 0; from < keys.length; from += LINES) {
        const series = keys.slice(from, from + LINES).map((key) => ({
          name: key,
          points: runs.flatMap((report, i) => {
            const row = report.rows.filter(isTimed).find((each) => keyOf(each) === key);
            return row ? [[i + 1, row.medianMs] as const] : [];
          }),
        }));
        const last = runs[runs.length - 1];
        const title = hosts.length > 1 ? `${name}: ${host}` : name;
        charts.push(
          chartSvg({
            title,
            xLabel: `run, of ${runs.length}; the last: ${last.date.slice(0, 10)}, ${last.commit ?? 'no commit'}`,
            yLabel: 'median ms',
            yLog: true,
            series,
            dots: true,
          }),
        );
      }
    }
  }
  writeFileAtomic(out, [
    chartPage(
      'Benchmarks over time',
      `${history.length} runs, ${history[0].date.slice(0, 10)} to ${history[history.length - 1].date.slice(0, 10)}. ${hosts.join('; ')}.`,
      charts,
    ),
  ]);
  result(o, { page: out, runs: history.length, charts: charts.length }, () => `${out}: ${charts.length} charts of ${history.length} runs`);
  return 0;
}
