/** The course: chapters as they stand in docs/course, with their exercises in place. */
import chapters from 'virtual:course';
import { el, fill } from '../dom.ts';
import { exercisePanel } from '../parts/exercise.ts';
import { tableOf } from '../parts/table.ts';
import { linkTo, type Route } from '../route.ts';
import type { Session } from '../session.ts';

export async function show(root: HTMLElement, at: Route, session: Session): Promise<undefined> {
  const slug = at.part || chapters[0].slug;
  const index = chapters.findIndex((each) => each.slug === slug);
  const body = el('div', {});
  const side = el(
    'nav',
    { class: 'side', 'aria-label': 'chapters' },
    chapters.map((each) => el('a', { href: linkTo('course', {}, each.slug), 'aria-current': each.slug === slug ? 'page' : null }, each.title)),
  );
  fill(root, el('div', { class: 'split' }, side, body));
  if (index < 0) {
    fill(body, el('p', { class: 'wrong' }, `There is no chapter called "${slug}".`));
    return;
  }
  const article = el('article', { class: 'chapter' });
  article.innerHTML = (await chapters[index].load()).default; // made from docs/course when the site was built
  const exercises = el('div', {});
  const next = chapters[index + 1];
  fill(body, article, exercises, next && el('p', {}, 'Next: ', el('a', { href: linkTo('course', {}, next.slug) }, next.title)));
  const chapter = Number(slug.split('-')[0]);
  const { exercises: all } = await tableOf(session.engine);
  const mine = all.filter((each) => each.chapter === chapter);
  if (mine.length > 0) exercises.append(el('h2', {}, 'Exercises, in place'));
  for (const { number } of mine) {
    const panel = el('section', { class: 'panel', id: `exercise-${number}` });
    exercises.append(panel);
    await exercisePanel(panel, session, number);
  }
}
