/** `bench report`: a run of the benchmarks as one self-contained page: the roofline, then versions and peers of each benchmark as bars. */
import escapeHtml from 'escape-html';
import { result } from '../src/cli/output.ts';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { type Ratio, ratioText } from './ratio.ts';
import type { Report } from './record.ts';
import { readReport } from './record_files.ts';
import { roofline } from './roofline.ts';
import { isTimed, type TimedRow } from './rows.ts';

/** A bar: milliseconds of a version or a peer. */
interface Bar {
  label: string;
  ms: number;
  kind: 'ours' | 'yours' | 'peer' | 'cpu';
  ratio: Ratio | null;
  note: string;
}

const CPU = ['tfjs-wasm', 'onnxruntime-cpu'];

function barsOf(rows: readonly TimedRow[]): Bar[] {
  const bars: Bar[] = rows.map((row) => ({
    label: row.version,
    ms: row.medianMs,
    kind: row.version.startsWith('user:') ? 'yours' : 'ours',
    ratio: row.ratio,
    note: [
      row.gflops === null ? '' : `${row.gflops.toFixed(1)} GFLOP/s`,
      row.roofShare === null ? '' : `${(100 * row.roofShare).toFixed(0)} % of the roof`,
      row.includes ? `with ${row.includes}` : '',
    ]
      .filter(Boolean)
      .join(', '),
  }));
  const peers = rows
    .flatMap((row) => row.peers)
    .flatMap((peer): Bar[] => {
      if (peer.medianMs === null) return [];
      return [
        {
          label: peer.name,
          ms: peer.medianMs,
          kind: CPU.includes(peer.name) ? 'cpu' : 'peer',
          ratio: peer.ratio,
          note: peer.includes ? `with ${peer.includes}` : '',
        },
      ];
    });
  return [...bars, ...peers].sort((a, b) => a.ms - b.ms);
}

const milliseconds = (ms: number) => `${ms >= 100 ? ms.toFixed(0) : ms >= 1 ? ms.toFixed(2) : ms.toFixed(4)} ms`;

function section(title: string, rows: readonly TimedRow[], skipped: readonly string[], numbers: ReadonlyMap<TimedRow, number>): string {
  const bars = barsOf(rows);
  const most = Math.max(...bars.map(({ ms }) => ms));
  const lines = bars.map(({ label, ms, kind, ratio, note }) => {
    const number = rows.find((row) => row.version === label);
    const place = number ? `<small>${numbers.get(number)}</small>` : '';
    return `<tr><th>${place}${escapeHtml(label)}</th><td class="bar"><i class="${kind}" style="width:${Math.max(0.5, (100 * ms) / most).toFixed(1)}%"></i></td><td>${milliseconds(ms)}</td><td>${ratio ? escapeHtml(ratioText(ratio)) : 'the fastest of ours'}</td><td class="note">${escapeHtml(note)}</td></tr>`;
  });
  const [{ roofsMoved, checked, checkedAgainst, maxError }] = rows;
  const flags = [
    `checked: ${checked} against ${checkedAgainst}${maxError === null ? '' : `, largest error ${maxError.toExponential(1)} of the largest number`}`,
    ...(roofsMoved ? [`<b>the roofs moved while this ran: ${escapeHtml(roofsMoved)}</b>`] : []),
    ...(skipped.length > 0 ? [`cannot run here: ${escapeHtml(skipped.join('; '))}`] : []),
  ];
  return `<section><h3>${escapeHtml(title)}</h3><table>${lines.join('')}</table><p>${flags.join('. ')}.</p></section>`;
}

export function reportPage(report: Report): string {
  const timed = report.rows.filter(isTimed);
  const numbers = new Map(timed.map((row, i) => [row, i + 1]));
  const titles = [...new Set(report.rows.map(({ name, shape }) => `${name} ${shape}`))];
  const sections = titles.map((title) => {
    const of = report.rows.filter(({ name, shape }) => `${name} ${shape}` === title);
    const rows = of.filter(isTimed);
    const skipped = of.flatMap((row) => ('skipped' in row ? [`${row.version} (${row.skipped})`] : []));
    return rows.length > 0 ? section(title, rows, skipped, numbers) : '';
  });
  const wrong = report.wrong.map((row) => `<li>${escapeHtml(`${row.name} ${row.shape}, ${row.version}: the result ${row.problem}`)}</li>`);
  const facts = [
    `${report.adapter}${report.software ? ' (a software adapter: nothing here is a GPU’s speed)' : ''}`,
    ...[report.driver, `${report.cpu}, ${report.cores} cores`, report.os, `Node ${report.node}, webgpu ${report.dawn}`],
    `glimpse ${report.version}${report.commit ? `, commit ${report.commit}` : ''}`,
    ...[report.date, `tuning: ${report.tuning}`],
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Benchmarks</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}
svg{max-width:100%;height:auto}table{border-collapse:collapse;width:100%}h3{margin:1.6rem 0 .3rem}
th{text-align:left;font-weight:500;width:13rem;overflow-wrap:anywhere}th small{display:inline-block;min-width:1.8rem;color:#888}td{padding:.1rem .5rem;white-space:nowrap}
td.bar{width:34%;padding:.1rem 0}td.note{white-space:normal;color:#555;font-size:.85rem}i{display:block;height:.9rem}
.ours{background:#0072b2}.yours{background:#d55e00}.peer{background:#999}.cpu{background:#ccc}p{color:#555;margin:.2rem 0;font-size:.9rem}
ul.key{list-style:none;padding:0;display:flex;gap:1.2rem;flex-wrap:wrap}ul.key i{display:inline-block;width:1rem;margin-right:.4rem;vertical-align:-1px}
</style></head>
<body><h1>Benchmarks</h1><p>${facts.map(escapeHtml).join('<br>')}</p>
<p>Medians of wall time, all in turn, caches flushed on the device before each sample. A ratio is a time over that of our fastest version, with its
95 % bootstrap interval. Roofs before the first benchmark: ${report.roofs.fmaGflops.toFixed(1)} GFLOP/s of multiply-adds, ${report.roofs.copyGBs.toFixed(1)} GB/s copied.</p>
${wrong.length > 0 ? `<h2>Wrong, and therefore without a time</h2><ul>${wrong.join('')}</ul>` : ''}
<h2>Roofline</h2><p>Points have the numbers that stand before the versions below.</p>
${roofline(report.rows, report.roofs, report.adapter, (row) => String(numbers.get(row)))}
<h2>Versions and peers</h2><ul class="key"><li><i class="ours"></i>a version of ours</li><li><i class="yours"></i>your shader</li><li><i class="peer"></i>a WebGPU peer</li><li><i class="cpu"></i>a peer on the processor</li></ul>
${sections.join('\n')}
</body></html>
`;
}

/** `glimpse bench report`. */
export async function writeReport(o: { out?: string; json: boolean; quiet: boolean }, path: string): Promise<number> {
  const report = readReport(path);
  const out = o.out ?? `${path.replace(/\.json$/, '')}.html`;
  writeFileAtomic(out, [reportPage(report)]);
  result(o, { page: out, rows: report.rows.length }, () => out);
  return 0;
}
