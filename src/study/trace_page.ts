/**
 * A trace as one self-contained page. It has the picture with attention at each word, and the equations as a column of boxes. Beside
 * them stands the kernel of the chosen equation with its line, and its gradients. Equations are MathML, which browsers draw themselves.
 */
import escapeHtml from 'escape-html';
import temml from 'temml';
import { short, type TensorReport } from './numbers.ts';
import type { Trace, TraceNode } from './trace.ts';

export interface CaptionedWord {
  word: string;
  /** The picture with its attention, as a data URL. */
  map: string | null;
}

export interface PageParts {
  title: string;
  trace: Trace;
  words: readonly CaptionedWord[];
  picture: string | null;
  /** Shader texts by file. */
  sources: Readonly<Record<string, string>>;
}

const math = (tex: string, displayMode = false) => temml.renderToString(tex, { displayMode });

const PHASES: Readonly<Record<TraceNode['phase'], string>> = {
  picture: 'Once per picture',
  words: 'All words at once',
  step: 'The recurrent loop',
  loss: 'Words and loss',
  'step gradient': 'Back through time',
  'weight gradient': 'One product per weight',
  'picture gradient': 'Into the picture',
};

function tensorRow({ name, role, shape, min, max, mean, std, norm, saturated, values }: TensorReport): string {
  const cells = [
    role === 'in' ? '→' : '←',
    math(name),
    `[${shape.join(', ')}]`,
    ...[min, max, mean, std, norm].map(short),
    saturated === null ? '' : `${(100 * saturated).toFixed(0)} %`,
    values.slice(0, 4).map(short).join(', '),
  ];
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
}

function details(n: TraceNode, i: number, sources: Readonly<Record<string, string>>, of: (key: string, step: number | null) => number): string {
  const source = (sources[n.shader] ?? '').split('\n');
  const code = source.map((line, at) => `<span${at + 1 === n.line ? ' class="line"' : ''}>${escapeHtml(line)}\n</span>`).join('');
  const facts = [
    `${n.kernel}.wgsl${n.version && n.version !== 'invocation' ? `, version ${n.version}` : ''}: ${n.why}`,
    `${n.workgroups.join(' × ')} workgroups${
      Object.keys(n.constants).length > 0
        ? `; ${Object.entries(n.constants)
            .map(([name, value]) => `${name} = ${value}`)
            .join(', ')}`
        : ''
    }`,
    `${n.ms === null ? '' : `${n.ms.toFixed(3)} ms, `}${(n.flops / 1e6).toFixed(2)} MFLOP, ${(n.bytes / 1e6).toFixed(3)} MB${n.roofline ? `; ${n.roofline.intensity.toFixed(2)} operations a byte, ${n.roofline.gflops.toFixed(2)} GFLOP/s, ${(100 * n.roofline.share).toFixed(0)} % of the roof there` : ''}`,
    n.local && n.accumulated
      ? `error against float64: its own ${n.local.maxAbs.toExponential(1)} (${n.local.ulp.toFixed(1)} ulp), since the start ${n.accumulated.maxAbs.toExponential(1)} (${n.accumulated.ulp.toFixed(1)} ulp)`
      : 'error: float64 does not know this kernel',
  ];
  const gradients = n.gradients.flatMap((key) => {
    const at = of(key, n.step);
    return at < 0 ? [] : [`<button data-to="${at}">${escapeHtml(key)}</button>`];
  });
  return `<article id="n${i}" hidden><h2>${math(n.tex, true)}</h2><p>${escapeHtml(n.says)}${n.step === null ? '' : `, t = ${n.step}`}</p>
<p class="facts">${facts.map(escapeHtml).join('<br>')}</p>
${gradients.length > 0 ? `<p>Its gradient: ${gradients.join(' ')}</p>` : ''}
<table><tr><th></th><th>tensor</th><th>shape</th><th>min</th><th>max</th><th>mean</th><th>std</th><th>norm</th><th>saturated</th><th>first values</th></tr>${n.tensors.map(tensorRow).join('')}</table>
<pre>${code}</pre></article>`;
}

/** Parts of a sum over steps as bars, in the order in which backpropagation makes them. */
function sums({ weightSums }: Trace): string {
  if (weightSums.length === 0) return '';
  const rows = weightSums.map(({ tex, parts, norm, difference }) => {
    const most = Math.max(...parts.map((part) => part.norm), norm);
    const bar = (label: string, value: number, kind: string) =>
      `<i class="${kind}" style="height:${Math.max(1, (70 * value) / most).toFixed(0)}px" title="${label}: ${short(value)}"></i>`;
    const bars = [...parts.map(({ step, norm: part }) => bar(`t = ${step}`, part, 'part')), bar('the product', norm, 'whole')].join('');
    return `<figure><div class="bars">${bars}</div><figcaption>${math(tex)}<br><small>t = ${parts[0].step} … ${parts[parts.length - 1].step}, then the one product; the sum differs from it by ${difference.toExponential(1)}</small></figcaption></figure>`;
  });
  return `<section><h3>Σ over the steps beside the one product</h3><div class="sums">${rows.join('')}</div></section>`;
}

export function tracePage({ title, trace, words, picture, sources }: PageParts): string {
  const { nodes } = trace;
  const of = (key: string, step: number | null): number => {
    const exact = nodes.findIndex((n) => n.key === key && n.step === step);
    return exact >= 0 ? exact : nodes.findIndex((n) => n.key === key);
  };
  const steps = [...new Set(nodes.flatMap(({ step }) => (step === null ? [] : [step])))].sort((a, b) => a - b);
  const figures = words.map(
    ({ word, map }, i) =>
      `<button class="word" data-step="${i + 1}"${steps.includes(i + 1) ? '' : ' disabled'}>${map ? `<img src="${map}" alt="attention at ${escapeHtml(word)}">` : ''}<span>${escapeHtml(word)}</span></button>`,
  );
  const groups = [...new Set(nodes.map(({ phase }) => phase))].map((phase) => {
    const boxes = nodes.flatMap((n, i) =>
      n.phase === phase
        ? [
            `<button class="box${n.ok ? '' : ' off'}" data-to="${i}"${n.step === null ? '' : ` data-of="${n.step}"`}>${math(n.tex.split(String.raw`, \quad `)[0])}<small>${escapeHtml(n.says)}${n.ms === null ? '' : `, ${n.ms.toFixed(2)} ms`}</small></button>`,
          ]
        : [],
    );
    return `<h3>${PHASES[phase]}</h3>${boxes.join('')}`;
  });
  const first = Math.max(
    0,
    nodes.findIndex(({ step }) => step !== null),
  );
  const wrong = trace.wrong.length > 0 ? `<p class="warning">Off: ${trace.wrong.map(escapeHtml).join('; ')}</p>` : '';
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeHtml(title)}</title>
<style>
body{font:15px/1.45 system-ui,sans-serif;margin:1rem auto;max-width:1400px;padding:0 1rem;color:#222}button{font:inherit;color:inherit;background:#fff;border:1px solid #ccc;border-radius:6px;cursor:pointer}
.words{display:flex;flex-wrap:wrap;gap:.4rem}.word{padding:.3rem;text-align:center}.word img,.words>img{display:block;height:120px}.word.on,.box.on{border-color:#0072b2;box-shadow:0 0 0 2px #0072b2}
main{display:grid;grid-template-columns:minmax(320px,440px) minmax(0,1fr);gap:1.2rem;align-items:start}.column{max-height:88vh;overflow:auto;padding:4px}.box{display:block;width:100%;text-align:left;padding:.35rem .6rem;margin:.25rem 0;overflow-x:auto}
.box small{display:block;color:#666}.box.off{border-color:#d55e00;background:#fff1e6}.warning{color:#d55e00;font-weight:600}
article{position:sticky;top:.5rem}article h2{font-weight:400;font-size:1.15rem;overflow-x:auto}.facts{color:#444;font-size:.9rem}table{border-collapse:collapse;font-size:.82rem;display:block;overflow-x:auto}td,th{padding:.1rem .5rem;text-align:right;white-space:nowrap}td:nth-child(2),th:nth-child(2){text-align:left}
pre{background:#f7f7f7;padding:.8rem;overflow:auto;max-height:52vh;font-size:12px;line-height:1.4}pre .line{background:#ffe9a8;display:inline-block;min-width:100%}
.sums{display:flex;flex-wrap:wrap;gap:1.4rem}figure{margin:0}.bars{display:flex;gap:2px;align-items:flex-end;height:72px}.bars i{width:9px;background:#56b4e9}.bars i.whole{background:#0072b2;margin-left:6px}figcaption{max-width:260px}
@media(max-width:900px){main{grid-template-columns:1fr}.column{max-height:none}article{position:static}}
</style></head>
<body><h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(trace.adapter)}. Roofs: ${trace.roofs.fmaGflops.toFixed(0)} GFLOP/s, ${trace.roofs.copyGBs.toFixed(1)} GB/s. ${trace.loss === null ? '' : `Loss ${trace.loss.toFixed(4)}. `}A click on a word chooses its step; a click on an equation shows its kernel, a second one its gradient.</p>
${wrong}
<div class="words">${picture ? `<img src="${picture}" alt="the picture">` : ''}${figures.join('')}</div>
<main><div class="column">${groups.join('\n')}</div><div>${nodes.map((n, i) => details(n, i, sources, of)).join('\n')}</div></main>
${sums(trace)}
<script>
const all = (selector) => [...document.querySelectorAll(selector)];
let shown = -1;
function show(i) {
  for (const article of all('article')) article.hidden = article.id !== 'n' + i;
  for (const box of all('.box')) box.classList.toggle('on', box.dataset.to === String(i));
  const line = document.querySelector('#n' + i + ' .line');
  const pre = line?.closest('pre');
  if (pre) pre.scrollTop = line.offsetTop - pre.offsetTop - 80;
  shown = i;
}
function choose(step) {
  for (const word of all('.word')) word.classList.toggle('on', word.dataset.step === String(step));
  for (const box of all('.box[data-of]')) box.style.display = box.dataset.of === String(step) ? '' : 'none';
}
addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.step) return choose(button.dataset.step);
  const to = Number(button.dataset.to);
  const gradient = document.querySelector('#n' + to + ' button[data-to]');
  show(to === shown && gradient ? Number(gradient.dataset.to) : to); // a second click goes to the gradient
});
choose(${steps[0] ?? 1});
show(${first});
shown = -1; // the first click shows the kernel, also of this one
</script>
</body></html>
`;
}
