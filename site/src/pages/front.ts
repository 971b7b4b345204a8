/** The front page: what this is, captions at once, and training before the visitor's eyes. */
import { chartSvg } from '../../../src/plot/chart.ts';
import { EngineError } from '../../engine/client.ts';
import { el, fill, percent, row, svg, table } from '../dom.ts';
import { sceneFigure } from '../parts/scene.ts';
import { keep, linkTo, type Route } from '../route.ts';
import type { Session, Training } from '../session.ts';

/** Scenes of the demo's test that are shown first. */
const SHOWN = 8;
const DEFAULTS = { scenes: 3072, epochs: 6, seed: 7 };
const LEAST = { scenes: 64, epochs: 1, seed: 0 };
const MOST = { scenes: 20_000, epochs: 50, seed: 2 ** 31 };

/** Loss per word by step, with as many points as a screen shows. */
function lossChart(losses: readonly number[]): Node {
  const every = Math.max(1, Math.floor(losses.length / 300));
  const points = losses.flatMap((loss, i) => (i % every === 0 || i === losses.length - 1 ? [[i + 1, loss] as const] : []));
  return svg(chartSvg({ title: 'Loss', xLabel: 'batch', yLabel: 'nats per word', series: [{ name: 'loss per word', points }] }));
}

/** A training as it goes on. Buttons and figures are made once and changed only when they must be, so that a click always meets its button. */
function trainingView(root: HTMLElement, session: Session): () => void {
  let shown: Training | null = null;
  let pictured: readonly unknown[] | null = null;
  const status = el('p', { class: 'status', role: 'status' });
  const bar = el('progress', { max: 1, value: 0, 'aria-label': 'training' });
  const pause = el(
    'button',
    {
      id: 'pause',
      click: () => {
        const { training } = session;
        if (!training) return;
        training.isPaused = !training.isPaused;
        training.running.pause(training.isPaused);
        update();
      },
    },
    'Pause',
  );
  const end = el('button', { id: 'end', click: () => session.training?.running.cancel() }, 'End');
  const chart = el('div', { class: 'chart', id: 'loss' });
  const epochTable = el('div', {});
  const pictures = el('div', {});

  function tell({ last, losses, outcome, isPaused }: Training): void {
    if (outcome instanceof EngineError) fill(status, outcome.isCancelled ? 'Ended.' : el('span', { class: 'wrong' }, outcome.message));
    else if (outcome) {
      const { report } = outcome;
      fill(
        status,
        el('strong', { class: 'right', id: 'exact', 'data-exact': report.exactMatch }, percent(report.exactMatch)),
        ` of ${report.testScenes} scenes never seen are right in every word. ${percent(report.pointing)} of naming words look at what they name (chance ${percent(report.pointingByChance)}). `,
        `${report.epochs} epochs in ${report.seconds.toFixed(0)} s. `,
        el('a', { href: linkTo('model', { model: 'trained' }) }, 'Look into this model'),
      );
    } else if (last) {
      const left = last.secondsLeft === null ? '' : `, ${last.secondsLeft.toFixed(0)} s left at most`;
      fill(
        status,
        `batch ${last.done} of ${last.total}, loss ${Number.isFinite(last.loss) ? last.loss.toFixed(3) : 'NaN'}, ${last.wordsPerSecond.toFixed(0)} words/s${isPaused ? ', paused' : left}`,
      );
    } else fill(status, 'making scenes and compiling kernels …');
    const broken = losses.findIndex((loss) => !Number.isFinite(loss));
    if (broken >= 0) status.append(el('strong', { class: 'wrong' }, ` The loss is no number from batch ${broken + 1} on.`));
  }

  function showEpochs({ epochs, outcome }: Training): void {
    const rows = epochs.map((e) => row([e.epoch, e.loss.toFixed(4), percent(e.exact), `${e.seconds.toFixed(0)} s`], 'epoch'));
    fill(epochTable, rows.length > 0 && table(['epoch', 'loss per word', 'validation captions right in every word', 'time'], rows));
    const described = outcome && !(outcome instanceof EngineError) ? outcome.described : epochs[epochs.length - 1]?.described;
    if (!described) {
      fill(pictures);
      return;
    }
    const title = outcome && !(outcome instanceof EngineError) ? 'Scenes that it never saw' : 'Scenes of validation, as it describes them now';
    const figures = described.slice(0, SHOWN).map((each) => sceneFigure(each));
    fill(pictures, el('h3', {}, title), el('div', { class: 'scenes' }, figures));
  }

  function update(): void {
    const { training } = session;
    if (!training) return;
    if (training !== shown) {
      shown = training;
      pictured = null;
      fill(root, el('div', { class: 'row' }, bar, pause, end), status, chart, epochTable, pictures);
    }
    const { last, losses, epochs, outcome } = training;
    bar.max = last?.total ?? 1;
    bar.value = last?.done ?? 0;
    const label = training.isPaused ? 'Go on' : 'Pause';
    if (pause.textContent !== label) pause.textContent = label;
    pause.hidden = end.hidden = outcome !== null;
    tell(training);
    if (losses.length > 1) fill(chart, lossChart(losses));
    const now = [epochs.length, outcome];
    if (pictured?.every((value, i) => value === now[i])) return;
    pictured = now;
    showEpochs(training);
  }
  return update;
}

export async function show(root: HTMLElement, at: Route, session: Session): Promise<() => void> {
  const captions = el('div', { class: 'scenes', id: 'captions' }, el('p', { class: 'dim' }, 'The captioner looks at its first scenes …'));
  const firstResult = el('small', { class: 'dim', id: 'first' });
  let first = Number(at.values.get('first') ?? 0) || 0;
  const describe = async () => {
    const begun = performance.now();
    try {
      const described = await session.engine.run('describe', { model: session.bestModel, seed: DEFAULTS.seed, first, count: SHOWN });
      fill(
        captions,
        described.map((each) => sceneFigure(each)),
      );
      fill(
        firstResult,
        `${described.length} captions in ${((performance.now() - begun) / 1000).toFixed(2)} s, by the model ${session.bestModel === 'trained' ? 'that was trained in this tab' : 'that comes with the site'}`,
      );
    } catch (error) {
      if (error instanceof EngineError && error.kind === 'no-adapter') await recorded(captions, firstResult);
      else fill(captions, el('pre', { class: 'error' }, (error as Error).message));
    }
  };
  const others = el(
    'button',
    {
      click: () => {
        first += SHOWN;
        keep({ first });
        void describe();
      },
    },
    'Other scenes',
  );
  const given = (name: keyof typeof DEFAULTS) => {
    const value = Number(at.values.get(name) ?? DEFAULTS[name]);
    return Number.isInteger(value) && value >= LEAST[name] && value <= MOST[name] ? value : DEFAULTS[name];
  };
  const field = (name: keyof typeof DEFAULTS, label: string) => {
    const input = el('input', {
      type: 'number',
      id: name,
      name,
      min: LEAST[name],
      max: MOST[name],
      step: 1,
      required: true,
      value: given(name),
      change: () => input.checkValidity() && keep({ [name]: input.value }),
    });
    return el('label', {}, label, input);
  };
  const fields = [field('scenes', 'training scenes'), field('epochs', 'epochs at most'), field('seed', 'seed')];
  const view = el('div', { id: 'training' });
  const update = trainingView(view, session);
  const refresh = () => {
    go.disabled = session.isTraining;
    update();
  };
  const form = el('form', {
    class: 'row',
    submit: (event) => {
      event.preventDefault();
      const input = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, Number(value)])) as unknown as typeof DEFAULTS;
      session.train(input);
      refresh();
    },
  });
  const go = el('button', { class: 'primary', id: 'train', type: 'submit' }, 'Train it now');
  form.append(...fields, go);
  fill(
    root,
    el('h1', {}, 'See attention and LSTM run on your own GPU'),
    el(
      'p',
      { class: 'lead' },
      'Glimpse is a tensor engine with hand-written WGSL kernels, and an image captioner that trains on it. This page runs the same engine and the same kernel files as the terminal. Nothing leaves your machine.',
    ),
    el('div', { class: 'row' }, el('h2', {}, 'Scenes, described word by word'), others),
    captions,
    firstResult,
    el('h2', {}, 'Train it'),
    el(
      'p',
      {},
      'A convolutional encoder and an attention decoder begin with random weights. They learn to describe made-up scenes; then they describe scenes that they never saw.',
    ),
    form,
    view,
    el(
      'p',
      { class: 'ways' },
      el('a', { href: linkTo('kernels', { op: 'softmax' }) }, 'Every equation, its kernel and its gradient'),
      el('a', { href: linkTo('model') }, 'The model, equation by equation'),
      el('a', { href: linkTo('course') }, 'The course'),
      el('a', { href: linkTo('bench') }, 'How fast is this adapter?'),
    ),
  );
  let asked = false;
  session.onTraining = () => {
    if (asked) return;
    asked = true; // once a frame is enough; a hidden tab draws when it is seen again
    requestAnimationFrame(() => {
      asked = false;
      refresh();
    });
  };
  refresh();
  void describe();
  return () => {};
}

/** What was recorded on another machine, for browsers without WebGPU. */
async function recorded(captions: HTMLElement, note: HTMLElement): Promise<void> {
  const { recordedScenes } = await import('../parts/recorded.ts');
  const { described, adapter, date } = recordedScenes();
  fill(
    captions,
    described.map((each) => sceneFigure(each)),
  );
  fill(note, el('strong', {}, 'Recorded'), ` on ${date} on ${adapter}, because there is no WebGPU here.`);
}
