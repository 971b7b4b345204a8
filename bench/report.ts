/** The results page: every row beside the best WebGPU peer, its share of the roofs, and the goals that were set. */
import type { Report, Row } from './command.ts';
import { WEBGPU_PEERS } from './peers/process.ts';

/** Times faster than the best WebGPU peer that each benchmark was meant to be. */
const GOALS: Record<string, number> = { 'train-step': 10, greedy: 10 };
const GOAL = 5;

const ms = (value: number | null | undefined): string => (value == null ? '–' : value >= 100 ? value.toFixed(0) : value.toFixed(2));

function bestPeer(row: Row): { name: string; medianMs: number; stockMedianMs: number | null } | null {
  const able = row.peers.filter((p) => (WEBGPU_PEERS as readonly string[]).includes(p.name) && p.medianMs !== null);
  able.sort((a, b) => (a.medianMs as number) - (b.medianMs as number));
  const [best] = able;
  return best ? { name: best.name, medianMs: best.medianMs as number, stockMedianMs: best.stockMedianMs } : null;
}

const peerOf = (row: Row, name: string) => row.peers.find((p) => p.name === name)?.medianMs;

export function markdown(report: Report, command: string): string {
  const { rows, roofs } = report;
  const kernels = rows.map((row) => {
    const best = bestPeer(row);
    const ratio = best ? best.medianMs / row.medianMs : null;
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
      ratio === null ? '–' : `${ratio.toFixed(1)} ×${ratio >= goal ? '' : ` (goal ${goal})`}`,
      ms(peerOf(row, 'tfjs-wasm')),
      ms(peerOf(row, 'onnxruntime-cpu')),
    ];
    return `| ${cells.join(' | ')} |`;
  });
  const failures = rows.flatMap((row) => row.peers.filter((p) => p.note).map((p) => `- ${row.name} ${row.shape}, ${p.name}: ${p.note}`));
  const memory = rows
    .filter(({ name }) => name === 'train-step')
    .map((row) => {
      const peer = row.peers.find(({ name }) => name === 'tfjs-webgpu');
      const mib = (bytes: number | null | undefined) => (bytes == null ? '–' : `${(bytes / 2 ** 20).toFixed(0)} MiB`);
      return `- ${row.shape}: buffers, and copies of them for reading as texels, ${mib(row.peakBytes)} at their peak; JavaScript ${ms(row.hostMs)} ms of ${ms(row.medianMs)} ms; the process of tfjs-webgpu ${mib(peer?.peakBytes)}`;
    });
  return [
    `Adapter: ${report.adapter}${report.software ? ' (**a software adapter**: nothing here is a GPU’s speed)' : ''}; driver: ${report.driver}. ${new Date().toISOString().slice(0, 10)}, ${process.version}.`,
    '',
    '```sh',
    command,
    '```',
    '',
    `Roofs measured in the same run: ${roofs.fmaGflops.toFixed(1)} GFLOP/s multiply-adds, ${roofs.copyGBs.toFixed(1)} GB/s copy. Times are medians of wall time in milliseconds, caches flushed before each sample;`,
    'GPU ms come from timestamp queries in runs of their own. Peers ran in turn with ours, each in a process of its own, with the polling treatment that ours gives itself;',
    '"stock" is without it. "of FMA" is the share of the arithmetic roof, "of roof" of what both roofs allow at the arithmetic intensity.',
    '',
    '| work | version | ms | p95 | GPU ms | GFLOP/s | of FMA | of roof | best WebGPU peer, ms | ratio | tfjs-wasm | onnxruntime CPU, 2 threads |',
    '|---|---|---|---|---|---|---|---|---|---|---|---|',
    ...kernels,
    '',
    ...(memory.length > 0 ? ['Training step:', '', ...memory, ''] : []),
    ...(failures.length > 0 ? ['What peers could not do:', '', ...failures, ''] : []),
  ].join('\n');
}
