/** Benchmarks on the visitor's adapter, tuning, and results that others sent. */
import type { Report } from '../../../bench/record.ts';
import { isTimed } from '../../../bench/rows.ts';
import { download, el, fill, milliseconds, row, table } from '../dom.ts';
import { resultChart, resultNote, resultTable } from '../parts/results.ts';
import { tableOf } from '../parts/table.ts';
import { keep, type Route } from '../route.ts';
import type { Session } from '../session.ts';

/** Files that were sent; a test checks each by the schema. */
const SENT = import.meta.glob<Report>('../../../bench/results/*.json', { import: 'default' });

async function sentTable(): Promise<HTMLElement> {
  const reports = await Promise.all(Object.values(SENT).map((load) => load()));
  const best = ({ rows }: Report, name: string) =>
    rows
      .filter(isTimed)
      .filter((row) => row.name === name)
      .sort((a, b) => (b.gflops ?? 0) - (a.gflops ?? 0))[0];
  const line = (report: Report) => {
    const product = best(report, 'matmul');
    return row([
      `${report.adapter}${report.software ? ' (software adapter)' : ''}`,
      report.node.startsWith('v') ? `Node ${report.node}` : 'a browser',
      report.date.slice(0, 10),
      report.roofs.fmaGflops.toFixed(0),
      report.roofs.copyGBs.toFixed(1),
      product ? `${(product.gflops ?? 0).toFixed(1)} (${product.version}, ${product.shape}, ${milliseconds(product.medianMs)} ms)` : '–',
      report.rows.filter(isTimed).length,
    ]);
  };
  return table(['adapter', 'in', 'date', 'roof GFLOP/s', 'roof GB/s', 'matrix product GFLOP/s', 'rows'], reports.map(line));
}

export async function show(root: HTMLElement, at: Route, session: Session): Promise<() => void> {
  fill(root, el('p', { class: 'dim' }, 'The engine lists its benchmarks …'));
  const { benchmarks } = await tableOf(session.engine);
  const wanted = new Set((at.values.get('names') ?? 'matmul,softmax').split(','));
  const boxes = benchmarks.map((name) => {
    const box = el('input', { type: 'checkbox', name: 'benchmark', checked: wanted.has(name), change: () => keep({ names: names().join(',') }) });
    box.value = name;
    return el('label', { class: 'check' }, box, name);
  });
  const names = () => boxes.flatMap((label) => (label.querySelector('input')?.checked ? [label.textContent ?? ''] : []));
  const versions = el('input', { type: 'checkbox', checked: at.values.get('versions') === '1', change: () => keep({ versions: versions.checked ? 1 : null }) });
  const bar = el('progress', { max: 1, value: 0, 'aria-label': 'benchmarks' });
  const status = el('p', { class: 'status', role: 'status' });
  const out = el('div', { id: 'results' });
  let cancel: () => void = () => {};
  const working = (on: boolean) => {
    for (const button of [run, tuneButton]) button.disabled = on;
    end.hidden = !on;
    bar.hidden = !on;
  };
  const told = ({ text, done, total }: { text: string; done: number; total: number }) => {
    fill(status, `${done} of ${total}: ${text}`);
    bar.max = total;
    bar.value = done;
  };
  const runAll = async () => {
    working(true);
    fill(out);
    const running = session.engine.begin(
      'bench',
      { what: { kind: 'catalog', names: names() }, versions: versions.checked, own: null, samples: 9, seconds: 1 },
      told,
    );
    cancel = running.cancel;
    try {
      const report = await running.result;
      fill(status, resultNote(report));
      fill(
        out,
        el(
          'div',
          { class: 'row' },
          el('button', { id: 'save', click: () => download(`glimpse-bench-${report.date.slice(0, 10)}.json`, JSON.stringify(report)) }, 'Download as JSON'),
          el('small', { class: 'dim' }, '`glimpse bench compare` takes this file. To have it in the table below, add it to bench/results of the project.'),
        ),
        resultTable(report, true),
        el('div', { class: 'chart' }, resultChart(report)),
      );
    } catch (error) {
      fill(status, el('span', { class: 'wrong' }, (error as Error).message));
    } finally {
      working(false);
    }
  };
  const tune = async () => {
    working(true);
    const running = session.engine.begin('tune', null, told);
    cancel = running.cancel;
    try {
      const { table: tuned, kept } = await running.result;
      fill(
        status,
        `${tuned.problems.length} problems were tuned. ${kept === null ? 'This browser keeps the table and uses it from the next opening of the page on. ' : `${kept}. `}`,
        el('button', { click: () => download(`glimpse-tuning-${tuned.date}.json`, JSON.stringify(tuned)) }, 'Download the table'),
      );
    } catch (error) {
      fill(status, el('span', { class: 'wrong' }, (error as Error).message));
    } finally {
      working(false);
    }
  };
  const run = el('button', { class: 'primary', id: 'run', click: () => void runAll() }, 'Run');
  const tuneButton = el('button', { id: 'tune', click: () => void tune() }, 'Tune this adapter');
  const end = el('button', { hidden: true, click: () => cancel() }, 'End');
  bar.hidden = true;
  const adapter = el('p', { class: 'dim' });
  session.adapter.then(
    ({ description, features, limits, tuning }) =>
      fill(
        adapter,
        `${description}. Features: ${features.join(', ') || 'none'}. Limits: ${Object.entries(limits)
          .map(([name, value]) => `${name} ${value}`)
          .join(', ')}. Order of versions: ${tuning}.`,
      ),
    () => fill(adapter, 'There is no device here, so nothing can be timed. The results below were recorded elsewhere.'),
  );
  const sent = el('div', {});
  fill(
    root,
    el('h1', {}, 'How fast is this adapter?'),
    el(
      'p',
      {},
      'The benchmarks of `glimpse bench`: versions take turns, every number of a last run is compared with float64, and the limits of the adapter are measured in the same run.',
    ),
    adapter,
    el('div', { class: 'checks' }, boxes),
    el('div', { class: 'row' }, el('label', { class: 'check' }, versions, 'all versions side by side'), run, tuneButton, end),
    bar,
    status,
    out,
    el('h2', {}, 'Results that were sent'),
    sent,
  );
  void sentTable().then((made) => fill(sent, made));
  return () => cancel();
}
