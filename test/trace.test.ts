/** `glimpse trace`: the captioner equation by equation, against a golden of PyTorch, float64, an outside sum, and a broken sign. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { newKernelText } from '../src/cli/new_kernel.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { always, Family } from '../src/kernels/family.ts';
import { shaderSource } from '../src/platform/node/shader_files.ts';
import { EQUATIONS, LINES } from '../src/study/equations.ts';
import { lineOf, type Trace, type TraceNode } from '../src/study/trace.ts';
import { captionerRun } from './captioner_run.ts';
import { browserPath, dataFolder, glimpse, shownByBrowser, temporaryFolder, useGpu } from './support.ts';

const device = useGpu();
const folder = temporaryFolder();
const made = captionerRun(folder);
const data = dataFolder('the traces of goldens');
type Written = Omit<Trace, 'gradients' | 'logits'> & {
  words: string[];
  gradients: { name: string; shape: number[]; values: number[] }[];
  golden: { name: string; relative: number }[];
};
const read = (path: string): Written => JSON.parse(readFileSync(path, 'utf8'));

test('gradients of equations are equations, each key stands once, and every line that a page points at is there', () => {
  const keys = EQUATIONS.map(({ key }) => key);
  expect(new Set(keys).size).toBe(keys.length);
  for (const { gradients = [] } of EQUATIONS) for (const key of gradients) expect(keys).toContain(key);
  for (const shader of Object.keys(LINES)) expect(lineOf(shader, shaderSource(shader)), shader).toBeGreaterThan(10);
  for (const family of ['matmul', 'attention', 'attention_scores_grad', 'attention_grad', 'lstm_cell', 'lstm_cell_grad', 'cross_entropy'])
    for (const { shader, composed } of FAMILIES[family].versions) if (!composed) expect(Object.keys(LINES)).toContain(shader); // a trace takes none of those
});

// It compares each dispatch with its whole problem, and the first of several kernels does only a part.
test('a trace takes no version that runs several kernels', () => {
  const row = (name: string) => ({ name, idea: 'none', shader: name, unable: always });
  const family = new Family<null>('two', [{ ...row('pieces'), composed: true }, row('whole')], () => 'any');
  const { gpu } = device;
  expect(family.choose(gpu, null).name).toBe('pieces');
  gpu.isTraced = true;
  try {
    expect(family.choose(gpu, null).name).toBe('whole');
  } finally {
    gpu.isTraced = false;
  }
});

describe.skipIf(!data)('a golden', () => {
  test.each(['captioner_small', 'captioner_ragged'])('%s: traced tensors within 1e-5 of PyTorch, α sums to 1, every kernel near float64', async (name) => {
    const out = join(folder, `${name}.json`);
    const { code, stdout } = await glimpse('trace', '--golden', join(data ?? '', 'goldens', `${name}.safetensors`), '--json', out);
    expect(code).toBe(0);
    const t = read(out);
    expect(t.golden.length).toBeGreaterThan(15);
    for (const { name: of, relative } of t.golden) expect(relative, of).toBeLessThan(1e-5);
    for (const alpha of t.alpha)
      for (let b = 0; b < t.batch; b++) {
        const row = alpha.slice(b * t.sizes.regions, (b + 1) * t.sizes.regions);
        expect(Math.abs(row.reduce((sum, value) => sum + value, 0) - 1)).toBeLessThan(1e-6);
      }
    expect([t.wrong, t.unknown]).toEqual([[], []]);
    for (const node of t.nodes) {
      expect(node.local?.relative, node.key).toBeLessThan(1e-5);
      expect(node.accumulated?.relative, node.key).toBeLessThan(1e-4);
      expect(node.tensors.length, node.key).toBeGreaterThan(0);
    }
    for (const { key, difference } of t.weightSums) expect(difference, key).toBeLessThan(1e-6);
    expect(stdout).toContain('golden, relative errors:');
    // Backpropagation as it runs: t = T … 1.
    const order = t.nodes.filter(({ key }) => key === 'dr, dc2').map(({ step }) => step);
    expect(order).toEqual(Array.from({ length: t.steps }, (_, i) => t.steps - i));
  }, 60_000);
});

describe('a picture', () => {
  const out = join(folder, 'trace.json');
  const page = join(folder, 'trace.html');

  test('every equation of a step and of its gradient, with kernel, version, cost and error; dU2 by an outside script', async () => {
    const { run, images } = await made.trained();
    const { code, stdout } = await glimpse('trace', run, join(images, '0.jpg'), '--train', '--values', 'all', '--json', out, '--html', page);
    expect(code).toBe(0);
    const t = read(out);
    expect(t.words.at(-1)).toBe('endseq');
    expect(t.steps).toBe(t.words.length);
    const keys = new Set(t.nodes.map(({ key }) => key));
    for (const { key } of EQUATIONS) expect(keys, key).toContain(key); // the preset has a gate and a learned start: all of them ran
    for (const node of t.nodes) {
      expect(node.why, node.key).toBeTruthy();
      expect(node.workgroups, node.key).toHaveLength(3);
      expect(node.bytes, node.key).toBeGreaterThan(0);
      expect(node.line, `${node.key}, ${node.shader}`).toBeGreaterThan(0);
      expect(Object.keys(LINES), node.key).toContain(node.shader);
    }
    const cells = t.nodes.filter(({ key }) => key === 'h1, c1 = cell(xe + p, c1)');
    for (const { tensors } of cells) expect(tensors.find(({ saturated }) => saturated !== null)?.saturated).toBeGreaterThanOrEqual(0);
    expect(stdout).toMatch(/t = 1: q = s W2 \+ b2 {2}— {2}the query: what the state looks for/);
    // The sum over the steps of h2 and dr, as the file has them, in another program.
    const script = join(folder, 'outside.mjs');
    writeFileSync(
      script,
      `import { readFileSync } from 'node:fs';
      const t = JSON.parse(readFileSync(process.argv[2], 'utf8'));
      const of = (key, name) => new Map(t.nodes.filter((n) => n.key === key).map((n) => [n.step, n.tensors.find((x) => x.name === name).values]));
      const [h, dr] = [of('q = s W2 + b2', 'h^2_{t-1}'), of('dr, dc2', 'dr_t')];
      const wanted = t.gradients.find(({ name }) => name === 'lstm2_u').values;
      const sum = new Float64Array(wanted.length);
      for (const [step, x] of h) { const dy = dr.get(step); for (let i = 0; i < x.length; i++) for (let j = 0; j < dy.length; j++) sum[i * dy.length + j] += x[i] * dy[j]; }
      let [off, norm] = [0, 0];
      sum.forEach((value, i) => { off += (value - wanted[i]) ** 2; norm += wanted[i] ** 2; });
      console.log(Math.sqrt(off / norm));`,
    );
    expect(Number(execFileSync(process.execPath, [script, out], { encoding: 'utf8' }))).toBeLessThan(1e-5);
  }, 120_000);

  test('the page opens in a browser: a click shows the kernel with its line, a second its gradient', async () => {
    const { run, images } = await made.trained();
    if (!existsSync(page)) await glimpse('trace', run, join(images, '0.jpg'), '--train', '--html', page);
    const text = readFileSync(page, 'utf8');
    expect(text).not.toMatch(/(src|href)="?http/); // self-contained
    expect(text).toContain('<math');
    await shownByBrowser(page, folder);
    const browser = browserPath('the clicks were not tried');
    if (!browser) return;
    const probe = `<script>addEventListener('load', () => {
      const visible = () => document.querySelector('article:not([hidden])');
      const box = [...document.querySelectorAll('.box')].find((each) => each.textContent.includes('what the state looks for'));
      box.click();
      const first = [visible().textContent.includes('h^2') || visible().querySelector('math') !== null, visible().querySelector('.line').textContent.trim()];
      box.click();
      const second = visible().querySelector('h2').textContent;
      document.querySelector('.word[data-step="2"]').click();
      const steps = new Set([...document.querySelectorAll('.box[data-of]')].filter((each) => each.style.display !== 'none').map((each) => each.dataset.of));
      document.title = JSON.stringify({ first, second, steps: [...steps] });
    });</script>`;
    const copy = join(folder, 'clicked.html');
    writeFileSync(copy, text.replace('</body>', `${probe}</body>`));
    const options = ['--headless', '--no-sandbox', '--disable-gpu', `--user-data-dir=${join(folder, 'browser')}`, '--dump-dom', pathToFileURL(copy).href];
    const dom = execFileSync(browser, options, { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'ignore'] });
    const title = JSON.parse((/<title>(.*?)<\/title>/.exec(dom)?.[1] ?? '').replaceAll('&quot;', '"').replaceAll('&amp;', '&').replaceAll('&lt;', '<'));
    expect(title.first[0]).toBe(true);
    expect(title.first[1]).toMatch(/acc\[r|sum \+=/);
    expect(title.second).toMatch(/d/); // dh²_{t−1} += dq W2ᵀ
    expect(title.steps).toEqual(['2']);
  }, 120_000);

  test.each([
    ['attention_scores_grad', 'share[i] - alpha[alpha_at + i] * sum', 'share[i] + alpha[alpha_at + i] * sum', 'de'],
    ['lstm_cell', 'let cell = f * c[at] + i * g;', 'let cell = f * c[at] - i * g;', null],
    ['lstm_cell_grad', 'd_cell * i * (1.0 - g * g)', 'd_cell * i * (1.0 + g * g)', null],
  ])(
    'a sign that is broken in %s marks exactly its nodes, and ends with 1',
    async (family, find, replace, key) => {
      const { run, images } = await made.trained();
      const [shader, marked] = [join(folder, `${family}.wgsl`), join(folder, `${family}.json`)];
      const source = newKernelText(FAMILIES[family], FAMILIES[family].names[0], shader);
      expect(source).toContain(find);
      writeFileSync(shader, source.replace(find, replace));
      const { code, stderr } = await glimpse('trace', run, join(images, '0.jpg'), '--train', '--shader', `${family}=${shader}`, '--json', marked, '--quiet');
      expect(code).toBe(1);
      const t = read(marked);
      const off = t.nodes.filter(({ ok }) => !ok);
      const ofShader = (n: TraceNode) => n.version === `user:${shader}`;
      expect(off.length).toBeGreaterThan(0);
      expect(off.every(ofShader)).toBe(true);
      // Where the broken term is next to nothing it makes no error: all marked nodes are of the shader, and most of its nodes are marked.
      expect(off.length).toBeGreaterThan(0.6 * t.nodes.filter(ofShader).length);
      if (key) expect(new Set(off.map((n) => n.key))).toEqual(new Set([key]));
      expect(stderr).toMatch(/dispatches are off, the first: /);
    },
    60_000,
  );

  test('one word alone; words that there are not; what a trace cannot follow', async () => {
    const { run, images, trainArgs } = await made.trained();
    const picture = join(images, '0.jpg');
    const second = await glimpse('trace', run, picture, '--word', '2', '--json', '-', '--quiet');
    const { nodes } = JSON.parse(second.stdout) as Written;
    expect([...new Set(nodes.map(({ step }) => step))]).toEqual([null, 2]);
    expect(nodes.map(({ key }) => key)).not.toContain('dr, dc2'); // without --train no gradient
    expect(await glimpse('trace', run, picture, '--word', '99')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--word 99: the caption has \d+ words/),
    });
    expect(await glimpse('trace', run)).toMatchObject({ code: 2, stderr: expect.stringContaining('a run and a picture, or --golden FILE alone') });
    expect(await glimpse('trace', run, join(images, 'none.jpg'))).toMatchObject({ code: 1, stderr: expect.stringContaining('no such file') });
    expect(await glimpse('trace', '--golden', picture, '--train')).toMatchObject({ code: 2, stderr: expect.stringContaining('--train belongs to') });
    const gru = join(folder, 'gru');
    expect(await glimpse(...trainArgs, '--out', gru, '--cell', 'gru', '--epochs', '1')).toMatchObject({ code: 0 });
    expect(await glimpse('trace', gru, picture)).toMatchObject({ code: 1, stderr: expect.stringContaining('a trace follows the stacked LSTM decoder') });
  }, 120_000);
});
