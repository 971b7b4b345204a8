/** Results as text: a table for the terminal; a page with every row beside the best WebGPU peer and the goals that were set. */
import { WEBGPU_PEERS } from './peers/process.ts';
import type { PeerRow } from './peers/row.ts';
import { ratioText } from './ratio.ts';
import type { Report } from './record.ts';
import { isTimed, type Row, type TimedRow } from './rows.ts';

/** Times faster than the best WebGPU peer that each benchmark was meant to be. */
const GOALS: Record<string, number> = { 'train-step': 10, greedy: 10 };
const GOAL = 5;

const COLUMNS = [
  ...['work', 'version', 'ms', 'p95', 'GPU ms', 'GFLOP/s', 'of FMA', 'of roof', 'best WebGPU peer, ms', 'ratio', 'tfjs-wasm', 'onnxruntime CPU, 2 threads'],
  ...['max error', 'checked'],
];

const ms = (value: number | null | undefined): string => (value == null ? '–' : value >= 100 ? value.toFixed(0) : value.toFixed(2));

function bestPeer(row: TimedRow): { name: string; medianMs: number; stockMedianMs: number | null; ratio: PeerRow['ratio'] } | null {
  const able = row.peers.filter((p) => (WEBGPU_PEERS as readonly string[]).includes(p.name) && p.medianMs !== null);
  able.sort((a, b) => (a.medianMs as number) - (b.medianMs as number));
  const [best] = able;
  return best ? { name: best.name, medianMs: best.medianMs as number, stockMedianMs: best.stockMedianMs, ratio: best.ratio } : null;
}

const peerOf = (row: TimedRow, name: string) => row.peers.find((p) => p.name === name)?.medianMs;

const number = (value: number | null, digits = 2): string => (value === null ? '–' : value.toFixed(value >= 100 ? Math.min(digits, 1) : digits));
const error = (value: number | null): string => (value === null ? '–' : value.toExponential(1));

/** For the terminal. A version that cannot run has its reason where the numbers would stand. */
export function table(rows: readonly Row[]): string {
  const head = [
    ...['name', 'shape', 'version', 'median ms', 'p95', '± %', 'cold', 'runs', 'host', 'GPU ms', 'GFLOP/s', 'GB/s', 'flop/B', '% roof', 'max error', 'checked'],
    'times as long as the fastest',
  ];
  const cells = rows.map((r) => {
    const names = [r.name, r.shape, r.version];
    if (!isTimed(r)) return names;
    return [
      ...names,
      number(r.medianMs),
      number(r.p95Ms),
      number(100 * r.spread, 0),
      number(r.coldMs, 0),
      String(r.runsPerSample),
      number(r.hostMs),
      number(r.gpuMedianMs),
      number(r.gflops, 1),
      number(r.gigabytesPerSecond, 1),
      number(r.intensity, 1),
      number(r.roofShare === null ? null : 100 * r.roofShare, 0),
      error(r.maxError),
      String(r.checked),
      r.ratio ? ratioText(r.ratio) : '–',
    ];
  });
  const widths = head.map((title, i) => Math.max(title.length, ...cells.map((row) => row[i]?.length ?? 0)));
  const line = (row: readonly string[], i?: number) => {
    const padded = row.map((cell, column) => (column < 3 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])));
    const r = i === undefined ? null : rows[i];
    const notes = r
      ? [
          isTimed(r) ? `against ${r.checkedAgainst}` : `cannot run: ${r.skipped}`,
          ...(isTimed(r) && r.includes ? [`with ${r.includes}`] : []),
          ...(isTimed(r) && r.roofsMoved ? [`ROOFS MOVED: ${r.roofsMoved}`] : []),
        ]
      : [];
    return [...padded, notes.join('; ')].join('  ').trimEnd();
  };
  const peers = rows.filter(isTimed).flatMap((r) =>
    r.peers.map((p) => {
      const outcome =
        p.ratio === null ? (p.note ?? '') : `${ratioText(p.ratio)} of ours, max error ${error(p.maxError)}${p.includes ? `, with ${p.includes}` : ''}`;
      return `  ${`${r.name} ${r.shape}`.padEnd(40)} ${p.name.padEnd(24)} ${number(p.medianMs).padStart(9)} ms  stock ${number(p.stockMedianMs).padStart(9)} ms  ${outcome}`;
    }),
  );
  return [line(head), ...cells.map(line), ...(peers.length > 0 ? ['', 'peers', ...peers] : [])].join('\n');
}

export function markdown(report: Report, command: string): string {
  const { rows, roofs, wrong } = report;
  const kernels = rows.map((row) => {
    if (!isTimed(row)) return `| ${row.name} ${row.shape} | ${row.version} | cannot run: ${row.skipped} |${' – |'.repeat(COLUMNS.length - 3)}`;
    const best = bestPeer(row);
    const goal = GOALS[row.name] ?? GOAL;
    const cells = [
      `${row.name} ${row.shape}`,
      row.version,
      ms(row.medianMs),
      ms(row.p95Ms),
      ms(row.gpuMedianMs),
      row.gflops === null ? '–' : row.gflops.toFixed(1),
      row.gflops === null ? '–' : `${((100 * row.gflops) / roofs.fmaGflops).toFixed(0)} %`,
      row.roofShare === null ? '–' : `${(100 * row.roofShare).toFixed(0)} %`,
      best ? `${best.name} ${ms(best.medianMs)} (stock ${ms(best.stockMedianMs)})` : '–',
      best?.ratio ? `${ratioText(best.ratio)}${best.ratio.ratio >= goal ? '' : ` (goal ${goal})`}` : '–',
      ms(peerOf(row, 'tfjs-wasm')),
      ms(peerOf(row, 'onnxruntime-cpu')),
      error(row.maxError),
      `${row.checked}, ${row.checkedAgainst}`,
    ];
    return `| ${cells.join(' | ')} |`;
  });
  const timed = rows.filter(isTimed);
  const failures = timed.flatMap((row) => row.peers.filter((p) => p.note).map((p) => `- ${row.name} ${row.shape}, ${p.name}: ${p.note}`));
  const memory = timed
    .filter(({ name }) => name === 'train-step')
    .map((row) => {
      const peer = row.peers.find(({ name }) => name === 'tfjs-webgpu');
      const mib = (bytes: number | null | undefined) => (bytes == null ? '–' : `${(bytes / 2 ** 20).toFixed(0)} MiB`);
      return `- ${row.shape}: buffers, and copies of them for reading as texels, ${mib(row.peakBytes)} at their peak; JavaScript ${ms(row.hostMs)} ms of ${ms(row.medianMs)} ms; the process of tfjs-webgpu ${mib(peer?.peakBytes)}`;
    });
  return [
    `Adapter: ${report.adapter}${report.software ? ' (**a software adapter**: nothing here is a GPU’s speed)' : ''}; driver: ${report.driver}; ${report.cpu}. ${report.date.slice(0, 10)}, ${report.node}${report.commit ? `, commit ${report.commit}` : ''}.`,
    '',
    '```sh',
    command,
    '```',
    '',
    `Roofs measured in the same run: ${roofs.fmaGflops.toFixed(1)} GFLOP/s multiply-adds, ${roofs.copyGBs.toFixed(1)} GB/s copy. Times are medians of wall time in milliseconds, caches flushed on the device before each sample;`,
    'GPU ms come from timestamp queries in runs of their own, copies included. Versions and peers took turns, each peer in a process of its own, with the polling treatment that ours gives itself;',
    '"stock" is without it. "of FMA" is the share of the arithmetic roof, "of roof" of what both roofs allow at the arithmetic intensity.',
    'The result of the last timed run was compared: "max error" is its largest error as a share of the largest number, "checked" how many numbers or words were compared, and with what.',
    '',
    `| ${COLUMNS.join(' | ')} |`,
    `|${'---|'.repeat(COLUMNS.length)}`,
    ...kernels,
    '',
    ...(memory.length > 0 ? ['Training step:', '', ...memory, ''] : []),
    ...(wrong.length > 0
      ? ['Wrong, and therefore without a row:', '', ...wrong.map((w) => `- ${w.name} ${w.shape}, ${w.version}: the result ${w.problem}`), '']
      : []),
    ...(failures.length > 0 ? ['What peers could not do:', '', ...failures, ''] : []),
  ].join('\n');
}
