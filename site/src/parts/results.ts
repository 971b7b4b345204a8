/** What a benchmark found, as a table and on the roofline of this adapter. */

import { ratioText } from '../../../bench/ratio.ts';
import type { Report } from '../../../bench/record.ts';
import { roofline } from '../../../bench/roofline.ts';
import { isTimed, type Row, type TimedRow } from '../../../bench/rows.ts';
import { el, milliseconds, svg, table } from '../dom.ts';

const HEAD = ['', 'version', 'median', '± %', 'first call', 'GPU ms', 'GFLOP/s', 'GB/s', '% of roof', 'max error', 'beside the fastest'];

function cells(r: TimedRow): (string | Node)[] {
  return [
    el('span', { class: 'right', title: `${r.checked} numbers compared with ${r.checkedAgainst}` }, '✓'),
    r.version,
    `${milliseconds(r.medianMs)} ms`,
    (100 * r.spread).toFixed(0),
    `${milliseconds(r.coldMs)} ms`,
    r.gpuMedianMs === null ? '–' : milliseconds(r.gpuMedianMs),
    r.gflops === null ? '–' : r.gflops.toFixed(1),
    r.gigabytesPerSecond === null ? '–' : r.gigabytesPerSecond.toFixed(1),
    r.roofShare === null ? '–' : (100 * r.roofShare).toFixed(0),
    r.maxError === null ? '–' : r.maxError.toExponential(1),
    r.ratio ? ratioText(r.ratio) : 'the fastest',
  ];
}

/** Rows of one report. `named` adds the benchmark's name and shape. */
export function resultTable({ rows, wrong }: Report, named = false): HTMLElement {
  const lead = (r: { name: string; shape: string }) => (named ? [el('td', {}, r.name), el('td', {}, r.shape)] : []);
  const line = (r: Row) => {
    if (!isTimed(r))
      return el(
        'tr',
        { class: 'dim' },
        lead(r),
        el('td', {}, '–'),
        el('td', {}, r.version),
        el('td', { colspan: HEAD.length - 2 }, `cannot run: ${r.skipped}`),
      );
    return el(
      'tr',
      { 'data-version': r.version },
      lead(r),
      cells(r).map((cell) => el('td', {}, cell)),
    );
  };
  const refused = wrong.map((r) =>
    el(
      'tr',
      {},
      lead(r),
      el('td', { class: 'wrong' }, '✗'),
      el('td', {}, r.version),
      el('td', { class: 'wrong', colspan: HEAD.length - 2 }, `the result ${r.problem}`),
    ),
  );
  return table([...(named ? ['benchmark', 'size'] : []), ...HEAD], [rows.map(line), refused], 'results');
}

/** The rows on the roofline that was measured in the same run. */
export function resultChart({ rows, roofs, adapter, software }: Report): Node {
  return svg(roofline(rows, roofs, `${adapter}${software ? ' (software adapter)' : ''}`, (row) => row.version));
}

/** What was measured, and how, in one sentence. */
export function resultNote({ roofs, software, rows }: Report): string {
  const samples = rows.filter(isTimed)[0]?.samples;
  const moved = rows.filter(isTimed).find((row) => row.roofsMoved)?.roofsMoved;
  return `Roofs of this adapter, measured in the same run: ${roofs.fmaGflops.toFixed(0)} GFLOP/s, ${roofs.copyGBs.toFixed(1)} GB/s. ${samples ? `Versions took turns, ${samples} samples each. ` : ''}${software ? 'This is a software adapter: nothing here is a GPU’s speed. ' : ''}${moved ? `The machine was not at rest: ${moved}.` : ''}`;
}
