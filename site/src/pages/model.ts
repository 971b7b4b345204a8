/** The captioner for one word of one scene: every equation with its numbers, its kernel, and the kernel of its gradient. */
import shaders from 'virtual:wgsl';
import { SCENE_SIZE } from '../../../src/model/demo/scenes.ts';
import type { TraceNode } from '../../../src/study/trace.ts';
import { EngineError } from '../../engine/client.ts';
import type { Jobs } from '../../engine/protocol.ts';
import { code, el, fill } from '../dom.ts';
import { math } from '../math.ts';
import { diagram } from '../parts/diagram.ts';
import { drawPicture } from '../parts/scene.ts';
import { tensorView } from '../parts/tensor_view.ts';
import { keep, linkTo, type Route } from '../route.ts';
import type { Session } from '../session.ts';

type Traced = Jobs['trace']['result'];

const SEED = 7;
const isBackward = ({ phase, key }: TraceNode) => phase.endsWith('gradient') || key === 'dh2 by logits';

/** The node of an equation at a step; without the step where it is outside of the loop. */
function find({ trace: { nodes } }: Traced, key: string, step: number): TraceNode | undefined {
  return nodes.find((n) => n.key === key && n.step === step) ?? nodes.find((n) => n.key === key && n.step === null);
}

async function details(root: HTMLElement, n: TraceNode, choose: (key: string) => void): Promise<void> {
  const facts = [
    `${n.shader}.wgsl${n.version ? `, version ${n.version}` : ''}: ${n.why}`,
    `${n.workgroups.join(' × ')} workgroups`,
    `${n.ms === null ? '' : `${n.ms.toFixed(3)} ms, `}${(n.flops / 1e3).toFixed(1)} k operations, ${(n.bytes / 1e3).toFixed(1)} kB${n.roofline ? `, ${n.roofline.gflops.toFixed(2)} GFLOP/s, ${(100 * n.roofline.share).toFixed(0)} % of the roof` : ''}`,
    n.local && n.accumulated
      ? `error against float64: its own ${n.local.maxAbs.toExponential(1)} (${n.local.ulp.toFixed(1)} ulp), since the start ${n.accumulated.maxAbs.toExponential(1)}`
      : 'float64 does not know this kernel',
  ];
  const load = shaders[n.shader];
  const lines = load ? (await load()).default : [];
  fill(
    root,
    el('div', { class: 'equation', id: 'equation', 'data-key': n.key }, math(n.tex)),
    el('p', {}, n.says, n.step === null ? '' : `, word ${n.step}`),
    n.gradients.length > 0 &&
      el(
        'div',
        { class: 'row', id: 'gradients' },
        'Its gradient: ',
        n.gradients.map((key) => el('button', { 'data-key': key, click: () => choose(key) }, key)),
      ),
    el('div', { class: 'tensors' }, n.tensors.map(tensorView)),
    el(
      'p',
      {},
      el(
        'small',
        {},
        facts.map((fact) => [fact, el('br')]),
      ),
    ),
    code(lines, n.line),
  );
}

export async function show(root: HTMLElement, at: Route, session: Session): Promise<() => void> {
  let scene = Number(at.values.get('scene') ?? 0) || 0;
  const asked = at.values.get('model') === 'trained' ? 'trained' : at.values.get('model') === 'bundled' ? 'bundled' : session.bestModel;
  const model = asked === 'trained' && session.bestModel !== 'trained' ? 'bundled' : asked;
  let step = Math.max(1, Number(at.values.get('step') ?? 1) || 1);
  let key = at.values.get('eq') ?? 'α = softmax(vᵀ f(K + q)), z = Σ α a';
  let traced: Traced | null = null;
  let timer = 0;
  const head = el('div', {});
  const left = el('div', {});
  const right = el('section', { class: 'panel' });
  const stage = el('div', { class: 'stage' });
  const status = el('p', { class: 'status', role: 'status' });

  const choose = (next: string) => {
    key = next;
    keep({ eq: key });
    draw();
  };
  const toStep = (next: number) => {
    if (!traced) return;
    step = Math.max(1, Math.min(traced.trace.steps, next));
    keep({ step });
    draw();
  };
  const backward = () => traced?.trace.nodes.find((n) => n.key === key && isBackward(n)) !== undefined;
  const play = () => {
    if (timer) {
      clearInterval(timer);
      timer = 0;
    } else
      timer = window.setInterval(() => {
        if (!traced || !root.isConnected) return clearInterval(timer);
        const next = step + (backward() ? -1 : 1); // backpropagation goes from the last word to the first
        if (next < 1 || next > traced.trace.steps) play();
        else toStep(next);
      }, 900);
    draw();
  };

  function draw(): void {
    if (!traced) return;
    const { trace, words } = traced;
    step = Math.min(step, trace.steps);
    const now = find(traced, key, step) ?? trace.nodes[0];
    key = now.key;
    const back = isBackward(now);
    const canvas = el('canvas', { class: 'scene', role: 'img', 'aria-label': 'attention at this word' });
    drawPicture(canvas, traced.scene.pixels, SCENE_SIZE, SCENE_SIZE, trace.alpha[step - 1]);
    fill(
      head,
      el(
        'div',
        { class: 'row' },
        canvas,
        el(
          'div',
          {},
          el('p', {}, back ? 'Backward: from the last word to the first.' : 'Forward: word by word.'),
          el(
            'div',
            { class: 'timeline', role: 'group', 'aria-label': 'words' },
            words.map((word, i) => el('button', { class: i + 1 === step ? 'word on' : 'word', 'data-step': i + 1, click: () => toStep(i + 1) }, word)),
          ),
          el(
            'div',
            { class: 'row' },
            el('button', { id: 'earlier', click: () => toStep(step - 1), disabled: step === 1 }, '← a word back'),
            el('button', { id: 'later', click: () => toStep(step + 1), disabled: step === trace.steps }, 'a word on →'),
            el('button', { click: play }, timer ? 'Stop' : back ? 'Play back through time' : 'Play'),
          ),
        ),
      ),
    );
    const forward = (k: string) => find(traced as Traced, k, step) !== undefined;
    const box = trace.nodes.find((n) => n.gradients.includes(key))?.key ?? key;
    fill(
      stage,
      diagram(forward, box, back, (k) => {
        const gradient = back ? trace.nodes.find((n) => n.key === k)?.gradients[0] : undefined;
        choose(gradient ?? k);
      }),
    );
    const group = (title: string, phases: readonly string[]) => {
      const nodes = trace.nodes.filter((n) => phases.includes(n.phase) && isBackward(n) === back && (n.step === null || n.step === step));
      return nodes.length === 0
        ? null
        : [
            el('h3', {}, title),
            nodes.map((n) =>
              el(
                'button',
                { class: `box${n.key === key ? ' on' : ''}${n.ok ? '' : ' off'}`, 'data-key': n.key, click: () => choose(n.key) },
                math(n.tex),
                el('small', {}, n.says),
              ),
            ),
          ];
    };
    fill(
      left,
      back
        ? [
            group('From the loss', ['loss']),
            group('Back through time', ['step gradient']),
            group('One product per weight', ['weight gradient']),
            group('Into the picture', ['picture gradient']),
          ]
        : [
            group('The recurrent loop', ['step']),
            group('Once per picture', ['picture']),
            group('All words at once', ['words']),
            group('Words and loss', ['loss']),
          ],
      el(
        'button',
        { id: 'direction', click: () => choose(back ? 'α = softmax(vᵀ f(K + q)), z = Σ α a' : 'de') },
        back ? 'Show the forward pass' : 'Show the gradient',
      ),
    );
    void details(right, now, choose);
  }

  const load = async () => {
    fill(status, 'the engine follows a scene through the captioner …');
    const begun = performance.now();
    try {
      traced = await session.engine.run('trace', { model, seed: SEED, scene });
      const { trace } = traced;
      fill(
        status,
        `${((performance.now() - begun) / 1000).toFixed(1)} s: ${trace.nodes.length} dispatches with their equations, loss ${trace.loss?.toFixed(4)} nats a word. `,
        trace.wrong.length > 0
          ? el('span', { class: 'wrong' }, `${trace.wrong.length} are off, the first: ${trace.wrong[0]}`)
          : 'Every dispatch agrees with float64.',
      );
      draw();
    } catch (error) {
      const missing = error instanceof EngineError && error.kind === 'no-adapter';
      fill(
        status,
        missing ? 'The numbers need a device; there is none here. ' : el('span', { class: 'wrong' }, (error as Error).message),
        missing && el('a', { href: linkTo('kernels', { op: 'additiveAttention' }) }, 'Equations and kernels need none.'),
      );
    }
  };
  const another = (by: number) => {
    scene = Math.max(0, scene + by);
    keep({ scene });
    void load();
  };
  fill(
    root,
    el('h1', {}, 'The captioner, equation by equation'),
    el(
      'p',
      {},
      `The model ${model === 'trained' ? 'that was trained in this tab' : 'that comes with the site'} describes a scene. A click on an equation shows its tensors and its kernel; a second one, on its gradient, the kernel of that.`,
    ),
    el(
      'div',
      { class: 'row' },
      el('button', { click: () => another(-1) }, 'Scene before'),
      el('button', { click: () => another(1) }, 'Next scene'),
      session.bestModel === 'trained' &&
        el(
          'a',
          { href: linkTo('model', { model: model === 'trained' ? 'bundled' : 'trained', scene }) },
          model === 'trained' ? 'the model of the site' : 'the model of this tab',
        ),
    ),
    status,
    head,
    stage,
    el('div', { class: 'split wide' }, left, right),
  );
  void load();
  return () => clearInterval(timer);
}
