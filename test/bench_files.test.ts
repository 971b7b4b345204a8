/** What the benchmarks leave behind: JSON that says where it came from, comparisons, history, pages that a browser shows, a worklog. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { catalog, KERNELS } from '../bench/catalog.ts';
import { reportPage } from '../bench/page.ts';
import type { Report } from '../bench/record.ts';
import { readReport } from '../bench/record_files.ts';
import { isTimed } from '../bench/rows.ts';
import { loadsPerMultiplyAdd, REASONS } from '../bench/worklog.ts';
import { newKernelText } from '../src/cli/new_kernel.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { glimpse, shownByBrowser, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const path = (name: string) => join(folder, name);
const brief = ['--samples', '3', '--seconds', '0.05', '--quiet'];

describe('a run', () => {
  let report: Report;
  const shader = path('mine.wgsl');
  beforeAll(async () => {
    writeFileSync(shader, newKernelText(FAMILIES.softmax, 'workgroup', shader));
    const { code, stdout } = await glimpse(
      'bench',
      'softmax',
      '--shape',
      '37x131',
      '--versions',
      '--shader',
      `softmax=${shader}`,
      '--json',
      '--append',
      path('history.jsonl'),
      ...brief,
    );
    expect(code).toBe(0);
    writeFileSync(path('a.json'), stdout);
    report = readReport(path('a.json'));
  }, 120_000);

  test('tells with what it was made, sizes as numbers, every sample, and the shader of the user among the versions', () => {
    expect(report).toMatchObject({
      schema: 2,
      ...{ date: expect.stringMatching(/^\d{4}-.*Z$/), version: '0.2.0', node: process.version, dawn: '0.6.2' },
      ...{ cpu: expect.any(String), cores: expect.any(Number), adapter: expect.any(String), driver: expect.any(String), tuning: expect.any(String) },
      options: { names: ['softmax'], shape: '37x131', layout: 'NN', samples: 3, versions: true },
      wrong: [],
    });
    expect(Object.keys(report.shaders)).toEqual([...Object.keys(FAMILIES), 'user:softmax']);
    expect(report.rows.map(({ version }) => version)).toEqual([...FAMILIES.softmax.names, `user:${shader}`]);
    const timed = report.rows.filter(isTimed);
    for (const row of timed) {
      expect(row).toMatchObject({
        work: { kind: 'softmax', rows: 37, columns: 131 },
        checked: 37 * 131,
        checkedAgainst: 'float64',
        maxError: expect.any(Number),
      });
      expect(row.samplesMs.length).toBe(row.samples);
      expect(row.coldMs).toBeGreaterThan(row.medianMs); // a compilation
      expect(row.gpuMedianMs).not.toBe(0);
    }
    expect(timed.filter(({ ratio }) => ratio === null)).toHaveLength(1); // the fastest; all others are compared with it
    const [fastest] = timed.filter(({ ratio }) => ratio === null);
    for (const { ratio } of timed) if (ratio) expect(ratio).toMatchObject({ to: fastest.version, low: expect.any(Number), high: expect.any(Number) });
  });

  test('compared with itself is not slower; with one that takes longer, it is: exit 1', async () => {
    const same = await glimpse('bench', 'compare', path('a.json'), path('a.json'), '--json');
    expect([same.code, JSON.parse(same.stdout).changes.every(({ verdict }: { verdict: string }) => verdict === 'not distinguishable')]).toEqual([0, true]);
    const longer = structuredClone(report);
    for (const row of longer.rows.filter(isTimed)) Object.assign(row, { samplesMs: row.samplesMs.map((ms) => 100 * ms), medianMs: 100 * row.medianMs });
    writeFileSync(path('b.json'), JSON.stringify(longer));
    const slower = await glimpse('bench', 'compare', path('a.json'), path('b.json'));
    expect(slower.code).toBe(1);
    expect(slower.stdout).toMatch(/softmax 37×131, invocation .* ms .* ms {2}100\.000 \(.*–.*\) slower/);
    const faster = await glimpse('bench', 'compare', path('b.json'), path('a.json'), '--json');
    expect([faster.code, JSON.parse(faster.stdout).changes[0].verdict]).toEqual([0, 'faster']);
  });

  test.each([
    ['no JSON', '{', /is no JSON/],
    ['an older schema', '{"schema": 1}', /of schema 2: schema/],
    ['a sample that is no time', () => JSON.stringify(report).replace(/"samplesMs":\[[^,\]]+/, '"samplesMs":[-1'), /rows\.0/],
  ])('%s is refused by name', async (_name, text, message) => {
    writeFileSync(path('bad.json'), typeof text === 'string' ? text : text());
    for (const command of [
      ['compare', path('bad.json'), path('a.json')],
      ['report', path('bad.json')],
      ['plot', path('bad.json')],
    ])
      expect(await glimpse('bench', ...command)).toMatchObject({ code: 1, stderr: expect.stringMatching(message) });
  });

  test('gathered runs become charts, and a run becomes a page; a browser shows both', async () => {
    const again = readFileSync(path('history.jsonl'), 'utf8').trim();
    writeFileSync(
      path('history.jsonl'),
      `${[again, again.replace(/"date":"\d{4}/, '"date":"2027'), again.replace(/"date":"\d{4}/, '"date":"2028')].join('\n')}\n`,
    );
    const plotted = await glimpse('bench', 'plot', path('history.jsonl'), '--json');
    expect(JSON.parse(plotted.stdout)).toMatchObject({ runs: 3, charts: 1, page: path('history.html') });
    expect(readFileSync(path('history.html'), 'utf8').match(/<circle/g)?.length).toBe(3 * report.rows.filter(isTimed).length);
    const made = await glimpse('bench', 'report', path('a.json'), '--out', path('page.html'));
    expect(made).toMatchObject({ code: 0, stdout: `${path('page.html')}\n` });
    const page = readFileSync(path('page.html'), 'utf8');
    expect(page).not.toMatch(/(src|href)="?http/); // self-contained
    for (const { version } of report.rows.filter(isTimed)) expect(page).toContain(`</small>${version}</th>`);
    expect(page).toContain('the fastest of ours');
    await shownByBrowser(path('page.html'), folder, 'svg');
    await shownByBrowser(path('history.html'), folder, 'svg');
  }, 120_000);

  test('a page of two hundred rows hides no label behind another', () => {
    const timed = report.rows.filter(isTimed);
    const many = {
      ...report,
      rows: Array.from({ length: 200 }, (_, i) => ({ ...timed[i % timed.length], shape: `${i}`, intensity: 0.5 + (i % 20) / 10, gflops: 1 + i / 50 })),
    };
    const labels = [...reportPage(many).matchAll(/<text x="([\d.]+)" y="([\d.]+)" class="label">(\d+)</g)].map(([, x, y, text]) => ({
      x: Number(x),
      y: Number(y),
      width: 5.6 * text.length,
    }));
    expect(labels.length).toBeGreaterThan(60);
    for (const [i, a] of labels.entries())
      for (const b of labels.slice(i + 1)) expect(a.x < b.x + b.width - 0.2 && b.x < a.x + a.width - 0.2 && Math.abs(a.y - b.y) < 11).toBe(false);
  });
});

test('a wrong shader is told with its first wrong element, is not timed, and ends with 1', async () => {
  const shader = path('wrong.wgsl');
  writeFileSync(shader, newKernelText(FAMILIES.adam, 'invocation', shader).replace('sqrt(second', 'sqrt(1.01 * second'));
  const { code, stdout, stderr } = await glimpse('bench', 'adam', '--shape', '1000', '--shader', `adam=${shader}`, '--json', ...brief);
  expect(code).toBe(1);
  expect(stderr).toMatch(/wrong\.wgsl is wrong, so it is not timed: \d of 6 cases failed\n {2}FAILED adam .*: pNew\[\d+\] of \[331\] is .*, must be /);
  expect(JSON.parse(stdout)).toMatchObject({ rows: [], wrong: [{ name: 'adam', version: `user:${shader}`, problem: expect.stringMatching(/^pNew\[/) }] });
}, 60_000);

test.each([
  [['matmul', '--shape', '7x5'], 'matmul takes MxKxN'],
  [['matmul', '--shape', '7x5x0'], 'whole numbers from 1'],
  [['matmul', '--shape', '7x5x3', '--layout', 'TT'], '--layout takes NN, NT or TN'],
  [['softmax', '--shape', '7x5', '--layout', 'NT'], '--layout is of the matrix product'],
  [['softmax', 'matmul', '--shape', '7x5'], '--shape needs the name of one benchmark'],
  [['train-step', '--shape', '7x5'], '--shape belongs to benchmarks of kernels'],
  [['matmul', '--shape', '999999x999999x9'], 'more than a benchmark can check'],
  [['softmax', '--worklog', 'x.md'], '--worklog is of the matrix product'],
  [['softmax', '--shader', 'matmul=x.wgsl'], 'no such file'],
  [['softmax', '--layout', 'NN'], '--layout belongs to --shape'],
  [['softmax', '--shape', '3x4', '--shader', `matmul=${fileURLToPath(import.meta.url)}`], 'no benchmark that is asked for runs matmul'],
])('%j is refused', async (args, message) => {
  expect(await glimpse('bench', ...args)).toMatchObject({ code: 2, stderr: expect.stringContaining(message) });
});

test.each([
  ['matmul', '19x23x29'],
  ['conv', '5x9x7x3x2'],
  ['conv-grad-input', '5x9x7x3'],
  ['conv-grad-weight', '5x9x7x3'],
  ['softmax', '11x13'],
  ['cross-entropy', '11x13'],
  ['lstm-cell', '3x70'],
  ['lstm-cell-grad', '3x70'],
  ['attention', '2x7x11x5'],
  ['attention-grad', '2x7x11x5'],
  ['attention-scores-grad', '2x7x11x5'],
  ['adam', '101'],
  ['softmax-grad', '11x13'],
  ['scaled-dot-product', '1x2x5x7x3'],
  ['scaled-dot-product-grad-query', '1x2x5x7x3'],
  ['scaled-dot-product-grad-keys', '1x2x5x7x3'],
  ['reduce', '11x130'],
  ['bias-rows', '11x13'],
  ['axpby', '101'],
  ['argmax-token', '11x13'],
  ['top-k', '11x13x3'],
])(
  '%s takes a size of the user: %s',
  async (name, shape) => {
    const { code, stdout } = await glimpse('bench', name, '--shape', shape, '--json', ...brief);
    expect(code).toBe(0);
    const { rows } = JSON.parse(stdout) as Report;
    expect(rows).toMatchObject([{ name, maxError: expect.any(Number), samplesMs: expect.any(Array) }]);
  },
  60_000,
);

test('every family can be timed, at a ragged size too, and at a size of the user', () => {
  expect(KERNELS).toHaveLength(21);
  const rows = catalog();
  for (const family of Object.keys(FAMILIES)) {
    const own = rows.filter((each) => each.family === family);
    expect(own.length, family).toBeGreaterThanOrEqual(2);
    expect(
      own.some(({ work }) =>
        JSON.stringify(work)
          .match(/\d+/g)
          ?.some((text) => Number(text) > 40 && Number(text) % 4 !== 0),
      ),
      family,
    ).toBe(true);
  }
});

test('the worklog has every version, its one change, its reason, its loads, and ratios with intervals', async () => {
  const { code } = await glimpse('bench', 'matmul', '--shape', '64x32x128', '--worklog', path('worklog.md'), ...brief);
  expect(code).toBe(0);
  const text = readFileSync(path('worklog.md'), 'utf8');
  for (const { name, idea } of FAMILIES.matmul.versions) {
    expect(text).toContain(`**\`${name}\`**: ${idea}. ${REASONS[name]}`);
    expect(text).toMatch(new RegExp(`\\| \`${name}\` \\| \\S+ \\| `));
  }
  expect(loadsPerMultiplyAdd('naive', 8)).toBe(2);
  expect(loadsPerMultiplyAdd('register', 8)).toBe(12 / 32);
  expect(loadsPerMultiplyAdd('subgroup', 8)).toBe(64 / 1024);
  expect(text).toMatch(/\| `register` \| 0\.38 \| [\d.]+ \| [\d.]+ \| (not distinguishable \()?[\d.]+ ?\(?[\d.]*–[\d.]+\) \|/);
}, 120_000);

test('every version of the product has a reason in the worklog, and no header of a shader has a speed of its own', () => {
  expect(Object.keys(REASONS)).toEqual(FAMILIES.matmul.names);
  for (const { shaders } of Object.values(FAMILIES))
    for (const file of shaders) {
      const header = readFileSync(new URL(`../src/kernels/wgsl/${file}.wgsl`, import.meta.url), 'utf8').split('\n\n')[0];
      expect(header, file).not.toMatch(/\d\s*(GFLOP|GF\/s|GB\/s|ms\b|times faster|%)/);
    }
});
