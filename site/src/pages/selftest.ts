/** The self-test of this adapter: every version of every kernel and every gradient against float64. */
import type { SelftestProgress } from '../../engine/protocol.ts';
import { el, fill } from '../dom.ts';
import { linkTo, type Route } from '../route.ts';
import type { Session } from '../session.ts';

export function show(root: HTMLElement, _at: Route, session: Session): () => void {
  const bar = el('progress', { max: 1, value: 0, hidden: true, 'aria-label': 'self-test' });
  const status = el('p', { class: 'status', role: 'status' });
  const out = el('div', { id: 'outcome' });
  let cancel = () => {};
  const told = ({ op, done, total }: SelftestProgress) => {
    bar.max = total;
    bar.value = done;
    fill(status, `${done} of ${total}: ${op}`);
  };
  const run = async () => {
    go.disabled = true;
    end.hidden = bar.hidden = false;
    const begun = performance.now();
    const running = session.engine.begin('selftest', null, told);
    cancel = running.cancel;
    try {
      const { passed, skipped, failed } = await running.result;
      fill(status, `${((performance.now() - begun) / 1000).toFixed(0)} s`);
      fill(
        out,
        el(
          'p',
          { 'data-passed': passed, 'data-failed': failed.length, 'data-skipped': skipped, class: failed.length === 0 ? 'right' : 'wrong' },
          `${passed} passed, ${failed.length} failed, ${skipped} cannot run here.`,
        ),
        failed.map((each) =>
          el('pre', { class: 'error' }, `${each.op} ${each.version}, ${each.case}: ${each.reason ?? `off by ${each.maxAbs.toExponential(1)}`}`),
        ),
      );
    } catch (error) {
      fill(status, el('span', { class: 'wrong' }, (error as Error).message));
    } finally {
      go.disabled = false;
      end.hidden = bar.hidden = true;
    }
  };
  const go = el('button', { class: 'primary', id: 'run', click: () => void run() }, 'Run the self-test');
  const end = el('button', { hidden: true, click: () => cancel() }, 'End');
  fill(
    root,
    el('h1', {}, 'Is this adapter right?'),
    el(
      'p',
      {},
      'The checks of `glimpse selftest`: every version of every kernel against float64 on awkward sizes, and every gradient against central differences. With ',
      el('a', { href: `?limits=guaranteed${linkTo('selftest')}` }, 'no more than the standard guarantees'),
      ', versions that need more are left out, and everything else must pass.',
    ),
    el('div', { class: 'row' }, go, end, bar),
    status,
    out,
  );
  return () => cancel();
}
