/** The frame of the site: the page that the URL names, the adapter, and what went wrong with it. */
import type { EngineError } from '../engine/client.ts';
import { type Child, el, fill } from './dom.ts';
import { linkTo, type Route, route } from './route.ts';
import { Session } from './session.ts';

/** What a page has to do when it is left; nothing, for most. */
type Left = (() => void) | undefined;

/** A page draws itself into a root; what it gives back is called before the next page. */
export interface Page {
  show(root: HTMLElement, at: Route, session: Session): Left | Promise<Left>;
}

const PAGES: Readonly<Record<string, { title: string; load(): Promise<Page> }>> = {
  front: { title: 'Train it', load: () => import('./pages/front.ts') },
  kernels: { title: 'Kernels', load: () => import('./pages/kernels.ts') },
  model: { title: 'The model', load: () => import('./pages/model.ts') },
  caption: { title: 'Caption a picture', load: () => import('./pages/caption.ts') },
  bench: { title: 'Benchmark', load: () => import('./pages/bench.ts') },
  selftest: { title: 'Self-test', load: () => import('./pages/selftest.ts') },
  course: { title: 'Course', load: () => import('./pages/course.ts') },
};

const part = (id: string) => document.getElementById(id) as HTMLElement;
const [header, notice, main] = [part('header'), part('notice'), part('main')];

part('skip').addEventListener('click', (event) => {
  event.preventDefault(); // the address names the page, so it must not become #main
  main.focus();
});

/** ?limits=guaranteed opens the device with no more than the standard promises. */
const session = new Session(new URLSearchParams(location.search).get('limits') === 'guaranteed');

function drawHeader(current: string): void {
  const links = Object.entries(PAGES).map(([name, { title }]) => el('a', { href: linkTo(name), 'aria-current': name === current ? 'page' : null }, title));
  const adapter = el('span', { class: 'adapter', title: 'the adapter that everything here runs on' }, 'opening the device …');
  fill(header, el('a', { class: 'home', href: linkTo('front') }, 'Glimpse'), el('nav', { 'aria-label': 'pages' }, links), adapter);
  session.adapter.then(
    ({ description, guaranteed }) => fill(adapter, description, guaranteed && ', guaranteed limits'),
    () => fill(adapter, 'no device'),
  );
}

/** Tells at the head of every page what went wrong with the engine or its device, instead of what was told before. */
function notify(id: string, title: string, ...says: Child[]): void {
  fill(notice, el('section', { class: 'notice', id }, el('h2', {}, title), says));
}

/** Where there is no WebGPU: which part is missing, and how to switch it on. */
function withoutDevice(message: string): void {
  const missing = !('gpu' in navigator)
    ? isSecureContext
      ? 'navigator.gpu is missing: this browser has no WebGPU, or it is switched off.'
      : 'This page was not served over https or from localhost, and browsers give WebGPU to such pages only.'
    : 'The browser has WebGPU but offers no adapter: its driver may be on a blocklist.';
  notify(
    'no-webgpu',
    'No WebGPU here',
    el('p', {}, missing, ' ', el('small', {}, message)),
    el(
      'ul',
      {},
      el(
        'li',
        {},
        'Chrome and Edge have it from 113 on; on Linux open chrome://flags/#enable-unsafe-webgpu, or start the browser with --enable-unsafe-webgpu.',
      ),
      el('li', {}, 'Firefox has it from 141 on (Windows) and 145 on (macOS); elsewhere set dom.webgpu.enabled in about:config.'),
      el('li', {}, 'Safari has it from 26 on; before that, under Develop, Feature Flags, WebGPU.'),
    ),
    el('p', {}, 'Everything that needs no device is here all the same. Recorded runs are marked as recorded.'),
  );
}

/** The engine's own script is missing, which is no matter of WebGPU. */
function engineMissing(message: string): void {
  notify('no-engine', 'The engine did not start', el('p', {}, message));
}

function lost(reason: string): void {
  const again = el('button', { class: 'primary', click: () => void reopen() }, 'Open the device again');
  notify('lost', 'The device was lost', el('p', {}, `The browser says: ${reason}. What ran on it has ended.`), again);
}

async function reopen(): Promise<void> {
  fill(notice);
  try {
    await session.open();
  } catch (error) {
    withoutDevice((error as Error).message);
  }
  await draw();
}

session.engine.onLost = lost;
session.adapter.catch((error: EngineError) => (error.kind === undefined ? engineMissing(error.message) : withoutDevice(error.message)));

let leave: () => void = () => {};
let drawn = 0;

async function draw(): Promise<void> {
  const mine = ++drawn;
  leave();
  leave = () => {};
  session.onTraining = () => {};
  const at = route();
  const known = Object.hasOwn(PAGES, at.page) ? PAGES[at.page] : null;
  const name = known ? at.page : 'front';
  document.title = name === 'front' ? 'Glimpse' : `${PAGES[name].title} – Glimpse`;
  drawHeader(name);
  if (!known) {
    fill(
      main,
      el('h1', {}, 'No such page'),
      el('p', {}, 'There is no page called ', el('code', {}, at.page), '. ', el('a', { href: linkTo('front') }, 'Go to the front page.')),
    );
    return;
  }
  const root = el('div', { class: `page ${name}` });
  try {
    const page = await known.load();
    if (mine !== drawn) return; // the visitor went on while it loaded
    fill(main, root);
    const left = await page.show(root, at, session);
    if (mine !== drawn) left?.();
    else if (left) leave = left;
  } catch (error) {
    if (mine !== drawn) return; // the visitor went on
    fill(main, el('h1', {}, 'This page failed'), el('pre', { class: 'error' }, error instanceof Error ? error.message : String(error)));
    throw error;
  }
}

addEventListener('hashchange', () => {
  void draw().then(() => {
    if (!location.hash.includes('?')) scrollTo(0, 0);
  });
});

const title = () => document.title.replace(/^\d+ %, /, '');
/** A tab in the background says how far its training is, and afterwards that it was in the background. */
let hiddenSince: number | null = null;
setInterval(() => {
  const { training } = session;
  if (session.isTraining && training?.last) document.title = `${((100 * training.last.done) / training.last.total).toFixed(0)} %, ${title()}`;
  else document.title = title();
}, 1000);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) hiddenSince = session.isTraining ? performance.now() : null;
  else if (hiddenSince !== null) {
    const seconds = ((performance.now() - hiddenSince) / 1000).toFixed(0);
    if (notice.childElementCount === 0)
      fill(
        notice,
        el('p', { class: 'note' }, `This tab was in the background for ${seconds} s. Training went on there, but browsers may slow such tabs down.`),
      );
    hiddenSince = null;
  }
});

void draw();
