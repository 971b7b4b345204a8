/** An exercise of the course in place: the file with its hole, the judge of the terminal, a hint, the solution on request. */
import { el, fill } from '../dom.ts';
import type { Session } from '../session.ts';
import { ownKernel } from './own_kernel.ts';
import { tableOf } from './table.ts';

/** What the visitor wrote is kept in this tab. Code of theirs is never put into a link unasked. */
const keyOf = (file: string) => `exercise ${file}`;

export async function exercisePanel(root: HTMLElement, session: Session, number: string): Promise<void> {
  const { exercises, families } = await tableOf(session.engine);
  const exercise = exercises.find((each) => each.number === number);
  if (!exercise) {
    fill(root, el('p', { class: 'wrong' }, `There is no exercise ${number}; there are ${exercises.map((each) => each.number).join(', ')}.`));
    return;
  }
  const parts = exercise.parts.map(({ file, family, start, solution }) => {
    const holder = el('div', {});
    const benchmark = families.find((each) => each.name === family)?.benchmark ?? null;
    const open = async (text: string) => {
      await ownKernel(holder, session, {
        ...{ family, name: file, text, hint: exercise.hint },
        timedIn: () => (benchmark ? { kind: 'kernel', name: benchmark.name, shape: benchmark.example } : null),
        onChange: (now) => sessionStorage.setItem(keyOf(file), now),
      });
    };
    const kept = sessionStorage.getItem(keyOf(file));
    const begin = el('button', { class: 'begin', click: () => void open(kept ?? start) }, kept === null ? 'Begin' : 'Go on with yours');
    fill(holder, begin);
    const restart = () => {
      sessionStorage.removeItem(keyOf(file));
      void open(start);
    };
    const again = el('button', { click: restart }, 'From the start');
    const show = el('button', { click: () => void open(solution) }, 'Show the solution');
    return el(
      'div',
      {},
      el('p', {}, el('code', {}, file), family ? ` stands in for every version of ${family}.` : ' is JavaScript; it runs in this tab only.'),
      holder,
      el('div', { class: 'row' }, again, show),
    );
  });
  fill(root, el('h3', {}, `Exercise ${exercise.number}: ${exercise.title}`), parts);
}
