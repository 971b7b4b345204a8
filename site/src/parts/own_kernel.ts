/** A shader of the visitor's: edited, judged by the engine's own checks, and timed beside the built-in versions. */
import type { Jobs, RunWhat } from '../../engine/protocol.ts';
import { el, fill } from '../dom.ts';
import type { Session } from '../session.ts';
import type { Editor } from './editor.ts';
import { resultChart, resultNote, resultTable } from './results.ts';

/** A program of the visitor's that takes longer than this has an endless loop. */
const MOST_MS = 20_000;

export interface OwnKernel {
  family: string | null;
  /** What errors call it, such as mine.wgsl. */
  name: string;
  text: string;
  /** What to time it in once it is right; null for no timing. Asked when it runs; throws where sizes are wrong. */
  timedIn(): RunWhat | null;
  hint?: string;
  onChange(text: string): void;
}

/** Errors of the compiler, as the judge writes them: NAME:LINE:COLUMN: MESSAGE. */
export function faultsOf(says: string, name: string): { line: number; column: number; message: string }[] {
  return says.split('\n').flatMap((line) => {
    if (!line.startsWith(`${name}:`)) return [];
    const found = /^(\d+)(?::(\d+))?: (.*)$/.exec(line.slice(name.length + 1));
    return found ? [{ line: Number(found[1]), column: Number(found[2] ?? 1), message: found[3] }] : [];
  });
}

/** Draws the editor with its buttons; gives it back once it is loaded. */
export async function ownKernel(root: HTMLElement, session: Session, o: OwnKernel): Promise<Editor> {
  fill(root, el('p', { class: 'dim' }, 'The editor loads …'));
  const { openEditor } = await import('./editor.ts');
  const editor = openEditor(o.text, `the shader ${o.name}`, o.onChange);
  const verdict = el('div', { class: 'verdict', role: 'status' });
  const timing = el('div', { class: 'timing' });
  const judge = async () => {
    const text = { name: o.name, source: editor.text() };
    run.disabled = true;
    fill(timing);
    fill(verdict, el('p', { class: 'dim' }, session.isTraining ? 'waits for a place between two batches of the training …' : 'judging …'));
    const begun = performance.now();
    try {
      const { right, says } = await session.engine.run('judge', { family: o.family, text }, undefined, o.family === null ? MOST_MS : null);
      const faults = right ? [] : faultsOf(says, o.name);
      editor.mark(faults);
      const seconds = ((performance.now() - begun) / 1000).toFixed(2);
      fill(
        verdict,
        el(
          'p',
          { class: right ? 'right' : 'wrong', 'data-verdict': right ? 'right' : 'wrong' },
          el('strong', {}, right ? 'Right' : faults.length > 0 ? 'It does not compile' : 'Wrong'),
          `, in ${seconds} s: `,
        ),
        el('pre', { class: right ? 'says' : 'error says' }, says),
        !right && o.hint && el('p', {}, el('strong', {}, 'Hint: '), o.hint),
      );
      const timedIn = right && o.family ? o.timedIn() : null;
      if (timedIn && o.family) await time(timedIn, { family: o.family, text });
    } catch (error) {
      fill(verdict, el('pre', { class: 'error' }, (error as Error).message));
    } finally {
      run.disabled = false;
    }
  };
  const time = async (what: RunWhat, own: Jobs['bench']['input']['own']) => {
    fill(timing, el('p', { class: 'dim' }, 'timing it beside the built-in versions …'));
    const report = await session.engine.run('bench', { what, versions: true, own, samples: 9, seconds: 0.5 }, ({ text }) =>
      fill(timing, el('p', { class: 'dim' }, text)),
    );
    fill(timing, resultTable(report), el('p', { class: 'dim' }, resultNote(report)), el('div', { class: 'chart' }, resultChart(report)));
  };
  const run = el('button', { class: 'primary run-own', click: () => void judge() }, 'Run it');
  editor.root.addEventListener(
    'keydown',
    (event) => {
      if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      event.stopPropagation();
      void judge();
    },
    true,
  );
  fill(root, editor.root, el('div', { class: 'row' }, run, el('small', { class: 'dim' }, 'Ctrl+Enter runs it, too.')), verdict, timing);
  return editor;
}
