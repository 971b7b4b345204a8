/** Every op: its equation, the kernels that compute it and its gradient, version beside version, run and edited on this device. */
import shaders from 'virtual:wgsl';
import { OP_EQUATIONS } from '../../../src/study/op_equations.ts';
import kernels from '../../data/kernels.json';
import type { FamilyFacts, OpFacts, RunWhat, VersionFacts } from '../../engine/protocol.ts';
import { code, el, fill, table as makeTable, textsOf } from '../dom.ts';
import { math } from '../math.ts';
import { exercisePanel } from '../parts/exercise.ts';
import { ownKernel } from '../parts/own_kernel.ts';
import { resultChart, resultNote, resultTable } from '../parts/results.ts';
import { type Table, tableOf } from '../parts/table.ts';
import { keep, linkTo, packed, type Route, route, unpacked } from '../route.ts';
import type { Session } from '../session.ts';

type Which = 'forward' | 'gradient';
const DRAWN: Readonly<Record<string, { forward: string[]; gradient: string[] }>> = kernels;

/** A kernel of an op: a family with versions, or a shader that stands alone. */
interface Kernel {
  family: FamilyFacts | null;
  versions: VersionFacts[];
}

function kernelsOf(op: OpFacts, which: Which, families: readonly FamilyFacts[]): Kernel[] {
  const found = (DRAWN[op.name]?.[which] ?? []).map((name): Kernel => {
    const [kind, rest] = name.split(':');
    const family = kind === 'family' ? families.find((each) => each.name === rest) : undefined;
    if (family) return { family, versions: family.versions };
    return { family: null, versions: [{ name: rest, idea: 'the only version', shader: rest, composed: false }] };
  });
  const own = which === 'forward' ? [op.family] : op.gradientFamilies;
  return found.sort((a, b) => Number(own.includes(b.family?.name ?? '')) - Number(own.includes(a.family?.name ?? '')));
}

/** The numbers of a shape as they are typed: 3, 5. An empty text is a single number. */
function shapeOf(text: string): number[] {
  const words = text.split(/[\s,×x]+/).filter(Boolean);
  if (!words.every((word) => /^[1-9]\d{0,8}$/.test(word))) throw new Error(`"${text}" is no shape: whole numbers from 1, with commas between them`);
  return words.map(Number);
}

/** Sizes to run an op on: those of a case, which the visitor may change. */
function runPanel(op: OpFacts, session: Session, at: Route): { root: HTMLElement; what(): RunWhat } {
  const chosen = Math.max(
    0,
    op.cases.findIndex(({ name }) => name === at.values.get('case')),
  );
  const given = at.values.get('shapes')?.split(';');
  const shapes = el('div', { class: 'row' });
  const attrs = el('input', { type: 'text', size: 40, 'aria-label': 'attributes as JSON', change: () => keep({ attrs: attrs.value }) });
  let draw: string[] | null = null;
  const inputs = () => [...shapes.querySelectorAll('input')];
  const take = (index: number, texts?: readonly string[], text: string | null = null) => {
    const c = op.cases[index];
    draw = c.draw;
    attrs.value = text ?? (c.attrs === null ? '' : JSON.stringify(c.attrs));
    fill(
      shapes,
      c.shapes.map((shape, i) =>
        el(
          'label',
          {},
          `${op.inputs[i] ?? `input ${i}`}`,
          el('input', {
            type: 'text',
            size: 14,
            value: texts?.[i] ?? shape.join(', '),
            change: () =>
              keep({
                shapes: inputs()
                  .map(({ value }) => value)
                  .join(';'),
              }),
          }),
        ),
      ),
    );
  };
  const cases = el(
    'select',
    {
      'aria-label': 'case',
      change: () => {
        take(cases.selectedIndex);
        keep({ case: op.cases[cases.selectedIndex].name, shapes: null, attrs: null });
      },
    },
    op.cases.map(({ name }, i) => el('option', { selected: i === chosen }, name)),
  );
  take(chosen, given, at.values.get('attrs'));
  const what = (): RunWhat => ({
    kind: 'op',
    op: op.name,
    shapes: inputs().map(({ value }) => shapeOf(value)),
    attrs: attrs.value.trim() === '' ? null : (JSON.parse(attrs.value) as Record<string, unknown>),
    draw,
  });
  const out = el('div', { class: 'timing', role: 'status' });
  const run = async () => {
    button.disabled = true;
    fill(out, el('p', { class: 'dim' }, 'running …'));
    const begun = performance.now();
    try {
      const report = await session.engine.run('bench', { what: what(), versions: true, own: null, samples: 9, seconds: 0.4 }, ({ text }) =>
        fill(out, el('p', { class: 'dim' }, text)),
      );
      const seconds = ((performance.now() - begun) / 1000).toFixed(1);
      fill(
        out,
        resultTable(report),
        el('p', { class: 'dim' }, `Every number was compared with float64. ${resultNote(report)} ${seconds} s in all.`),
        el('div', { class: 'chart' }, resultChart(report)),
      );
    } catch (error) {
      fill(out, el('pre', { class: 'error' }, (error as Error).message));
    } finally {
      button.disabled = false;
    }
  };
  const checkAll = async () => {
    check.disabled = true;
    fill(out, el('p', { class: 'dim' }, 'checking …'));
    try {
      const results = await session.engine.run('check', { op: op.name });
      const count = (status: string) => results.filter((each) => each.status === status).length;
      const rows = results.map((r) =>
        el(
          'tr',
          {},
          el('td', { class: r.status === 'passed' ? 'right' : r.status === 'failed' ? 'wrong' : 'dim' }, r.status),
          el('td', {}, r.version),
          el('td', {}, r.case),
          el('td', {}, r.status === 'skipped' ? '' : r.maxAbs.toExponential(1)),
          el('td', {}, r.reason ?? ''),
        ),
      );
      fill(
        out,
        el('p', { 'data-failed': count('failed') }, `${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} cannot run here.`),
        makeTable(['', 'version', 'case', 'largest error', 'reason'], rows),
      );
    } catch (error) {
      fill(out, el('pre', { class: 'error' }, (error as Error).message));
    } finally {
      check.disabled = false;
    }
  };
  const button = el('button', { class: 'primary', id: 'run', click: () => void run() }, 'Run');
  const check = el('button', { id: 'check', click: () => void checkAll() }, 'Check every case, and the gradient');
  const root = el(
    'section',
    { class: 'panel' },
    el('h2', {}, 'Run it on this device'),
    el('div', { class: 'row' }, el('label', {}, 'sizes of', cases), shapes, el('label', {}, 'attributes', attrs)),
    el('div', { class: 'row' }, button, check),
    out,
  );
  return { root, what };
}

/** The kernels of an op or of its gradient, with tabs for versions. */
function kernelPanel(op: OpFacts, which: Which, table: Table, session: Session, at: Route, runWhat: () => RunWhat): HTMLElement {
  const list = kernelsOf(op, which, table.families);
  const equation = OP_EQUATIONS[op.name]?.[which];
  const head = el('div', { class: 'equation' }, equation ? math(equation) : el('p', { class: 'dim' }, op.withoutGradient ?? ''));
  const root = el(
    'section',
    { class: `panel ${which}` },
    el('h2', {}, which === 'forward' ? 'Forward' : 'Gradient'),
    head,
    el('p', {}, el('small', {}, which === 'forward' ? op.doc.equation : (op.doc.gradient ?? ''))),
  );
  if (list.length === 0) {
    root.append(el('p', { class: 'dim' }, equation ? 'No kernel runs: the storage of another tensor serves.' : 'No gradient, so no kernel.'));
    return root;
  }
  const tabs = el('div', { class: 'tabs', role: 'tablist' });
  const body = el('div', {});
  root.append(tabs, body);
  const key = which === 'forward' ? 'version' : 'gradient';
  const all = list.flatMap(({ family, versions }) =>
    versions.map((version) => ({ family, version, id: family ? `${family.name}.${version.name}` : version.shader })),
  );
  const buttons = all.map(({ family, version, id }) =>
    el('button', { role: 'tab', title: version.idea, click: () => void choose(id) }, family ? `${family.name} ${version.name}` : version.shader),
  );
  fill(tabs, buttons);
  const choose = async (id: string, edit: string | null = null) => {
    const index = Math.max(
      0,
      all.findIndex((each) => each.id === id),
    );
    const { family, version } = all[index];
    buttons.forEach((button, i) => {
      button.classList.toggle('on', i === index);
      button.setAttribute('aria-selected', String(i === index));
    });
    if (route().values.get(key) !== all[index].id) keep({ [key]: all[index].id, ...(which === 'forward' ? { edit: null } : {}) });
    const lines = (await shaders[version.shader]()).default;
    const text = textsOf(lines).join('\n');
    const holder = el('div', {}, code(lines));
    const begin = (source: string) =>
      ownKernel(holder, session, {
        ...{ family: family?.name ?? null, name: 'yours.wgsl', text: source },
        timedIn: () =>
          which === 'forward' && family?.name === op.family
            ? runWhat()
            : family?.benchmark
              ? { kind: 'kernel', name: family.benchmark.name, shape: family.benchmark.example }
              : null,
        onChange: (now) => void packed(now).then((edited) => keep({ edit: edited, [key]: all[index].id, of: which })),
      });
    const begins = () => void begin(`// @like ${version.name}\n${text}\n`);
    const why = !family
      ? 'This kernel belongs to no family, so no shader can take its place.'
      : version.composed
        ? 'This version runs several kernels, so no single shader can take its place.'
        : null;
    fill(
      body,
      el('p', {}, el('small', {}, `${version.shader}.wgsl: ${version.idea}`)),
      el('div', { class: 'row' }, why === null ? el('button', { class: 'edit', click: begins }, 'Edit and run') : el('small', { class: 'dim' }, why)),
      holder,
    );
    if (edit !== null && why === null) {
      try {
        await begin(await unpacked(edit));
      } catch (error) {
        body.prepend(el('pre', { class: 'error' }, (error as Error).message));
      }
    }
  };
  const edited = at.values.get('of') === which ? at.values.get('edit') : null;
  void choose(at.values.get(key) ?? all[0].id, edited);
  return root;
}

/** Two versions beside each other; what only one of them has is marked. Null where no family of the op has two. */
function comparePanel(op: OpFacts, table: Table, at: Route): HTMLElement | null {
  const families = [...kernelsOf(op, 'forward', table.families), ...kernelsOf(op, 'gradient', table.families)].flatMap(({ family }) =>
    family && new Set(family.versions.map(({ shader }) => shader)).size > 1 ? [family] : [],
  );
  const all = [...new Set(families)].flatMap(({ name, versions }) => versions.map((version) => ({ id: `${name}.${version.name}`, ...version })));
  if (all.length === 0) return null;
  const body = el('div', { class: 'pair' });
  const draw = async () => {
    const chosen = [left, right].map(({ selectedIndex }) => all[selectedIndex]);
    const texts = await Promise.all(chosen.map(async ({ shader }) => (await shaders[shader]()).default));
    const plain = texts.map(textsOf);
    fill(
      body,
      chosen.map(({ idea, shader }, i) => {
        const other = new Set(plain[1 - i]);
        const shown = code(texts[i]);
        for (const [k, line] of [...shown.children].entries()) line.classList.toggle('marked', plain[i][k].trim() !== '' && !other.has(plain[i][k]));
        return el('div', {}, el('small', {}, `${shader}.wgsl: ${idea}`), shown);
      }),
    );
  };
  const select = (key: string, otherwise: number) => {
    const asked = all.findIndex(({ id }) => id === at.values.get(key));
    const chosen = asked < 0 ? Math.min(otherwise, all.length - 1) : asked;
    const options = all.map(({ id }, i) => el('option', { selected: i === chosen }, id.replace('.', ' ')));
    const change = (index: number) => {
      keep({ [key]: all[index].id });
      void draw();
    };
    const made = el('select', { 'aria-label': `${key} version`, change: () => change(made.selectedIndex) }, options);
    return made;
  };
  const [left, right] = [select('left', 0), select('right', 1)];
  void draw();
  return el('section', { class: 'panel compare' }, el('h2', {}, 'Versions side by side'), el('div', { class: 'pair' }, left, right), body);
}

async function shaderAlone(root: HTMLElement, name: string): Promise<void> {
  const load = Object.hasOwn(shaders, name) ? shaders[name] : null;
  if (!load) {
    fill(root, el('p', { class: 'wrong' }, `There is no shader called "${name}".`));
    return;
  }
  fill(root, el('h1', {}, `${name}.wgsl`), code((await load()).default));
}

export async function show(root: HTMLElement, at: Route, session: Session): Promise<undefined> {
  fill(root, el('p', { class: 'dim' }, 'The engine lists its ops …'));
  const table = await tableOf(session.engine);
  if (!root.isConnected) return; // the visitor went on
  const { ops, exercises } = table;
  const [shader, exercise] = [at.values.get('shader'), at.values.get('exercise')];
  const name = at.values.get('op') ?? 'softmax';
  const op = shader || exercise ? null : ops.find((each) => each.name === name);
  const body = el('div', {});
  const current = (here: boolean) => (here ? 'page' : null);
  const side = el(
    'nav',
    { class: 'side', 'aria-label': 'ops and exercises' },
    el('strong', {}, 'Ops'),
    ops.map((each) => el('a', { href: linkTo('kernels', { op: each.name }), 'aria-current': current(each === op) }, each.name)),
    el('strong', {}, 'Exercises'),
    exercises.map((each) =>
      el('a', { href: linkTo('kernels', { exercise: each.number }), 'aria-current': current(each.number === exercise) }, `${each.number} ${each.title}`),
    ),
  );
  fill(root, el('div', { class: 'split' }, side, body));
  if (shader) {
    await shaderAlone(body, shader);
    return;
  }
  if (exercise) {
    const panel = el('section', { class: 'panel' });
    fill(body, panel);
    await exercisePanel(panel, session, exercise);
    return;
  }
  if (!op) {
    fill(body, el('p', { class: 'wrong' }, `There is no op called "${name}".`));
    return;
  }
  const run = runPanel(op, session, at);
  const tensors = Object.entries(op.doc.tensors).map(([tensor, says]) => el('tr', {}, el('td', {}, el('code', {}, tensor)), el('td', {}, says)));
  fill(
    body,
    el('h1', {}, op.name),
    el('table', {}, el('tbody', {}, tensors)),
    el('div', { class: 'pair' }, kernelPanel(op, 'forward', table, session, at, run.what), kernelPanel(op, 'gradient', table, session, at, run.what)),
    comparePanel(op, table, at),
    run.root,
  );
}
