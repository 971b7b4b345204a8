/** The benchmarks run, their report keeps its contract, and nothing wrong is timed. No test asserts a time. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { catalog } from '../bench/catalog.ts';
import { openOurs } from '../bench/ours.ts';
import { PeerProcess } from '../bench/peers/process.ts';
import { oraclesInstalled } from '../bench/peers/untyped.ts';
import { checkSample, expectedSample } from '../bench/reference.ts';
import type { Work } from '../bench/work.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { tuningOf } from '../src/kernels/tuning.ts';
import { PROBLEMS } from '../src/tuning/problems.ts';
import { glimpse, temporaryFolder, useGpu } from './support.ts';

const device = useGpu();
const folder = temporaryFolder();

const small: Work[] = [
  ...[false, true].flatMap((transA) => [false, true].map((transB) => ({ kind: 'matmul' as const, m: 36, n: 44, k: 52, transA, transB }))),
  ...(['conv', 'convGradInput', 'convGradWeight'] as const).map((kind) => ({
    kind,
    ...{ images: 1, height: 9, width: 9, channels: 8, outChannels: 12, kernel: 3, stride: 2, pad: 1 },
  })),
  { kind: 'softmax', rows: 7, columns: 100 },
  { kind: 'crossEntropyGrad', rows: 7, columns: 100 },
];

test.each(small.map((work) => [JSON.stringify(work), work] as const))('%s is checked before it is timed', async (_name, work) => {
  const prepared = await openOurs(device.gpu).prepare(work);
  const expected = expectedSample(work) as number[];
  const sample = (await prepared?.sample?.()) ?? [];
  checkSample('glimpse', work.kind, sample, expected);
  expect(() => checkSample('glimpse', work.kind, [sample[0] + 1 + Math.abs(expected[1]), ...sample.slice(1)], expected)).toThrow(/is not timed/);
  expect(() => checkSample('glimpse', work.kind, [], expected)).toThrow(/is not timed/);
  await prepared?.run();
  prepared?.dispose();
});

test.skipIf(!oraclesInstalled())(
  'a peer in its own process answers with a result that agrees, or says what it cannot do',
  async () => {
    const peer = new PeerProcess('tfjs-wasm', '', false);
    const answer = await peer.time(small[0], 3, 0.05);
    expect(answer).toMatchObject({ timing: { samples: expect.any(Number) } });
    if ('timing' in answer) checkSample(peer.name, 'matmul', answer.sample ?? [], expectedSample(small[0]) as number[]);
    const other = new PeerProcess('onnxruntime-cpu', '', false);
    expect(await other.time(small[8], 3, 0.05)).toEqual({ unable: true });
    peer.close();
    other.close();
  },
  60_000,
);
if (!oraclesInstalled()) console.warn('SKIPPED: the peers; install them with `npm run oracles`');

describe('glimpse bench', () => {
  test('reports every version by its contract, and draws a roofline', async () => {
    const chart = join(folder, 'roofline.svg');
    const { code, stdout } = await glimpse(
      'bench',
      'matmul',
      '--only',
      '64×512×5000 NN',
      '--versions',
      '--samples',
      '3',
      '--seconds',
      '0.01',
      '--json',
      '--chart',
      chart,
    );
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      adapter: expect.any(String),
      driver: expect.any(String),
      roofs: { fmaGflops: expect.any(Number), copyGBs: expect.any(Number) },
    });
    expect(report.rows.length).toBeGreaterThanOrEqual(3);
    for (const row of report.rows) {
      expect(row).toMatchObject({ name: 'matmul', shape: '64×512×5000 NN', peers: [] });
      for (const key of ['medianMs', 'p95Ms', 'gflops', 'roofShare']) expect(row[key], key).toBeGreaterThan(0);
      expect(FAMILIES.matmul.names).toContain(row.version);
    }
    const svg = readFileSync(chart, 'utf8');
    expect(svg).toMatch(/^<svg .*GFLOP\/s, .* GB\/s, measured.*<\/svg>$/s);
    for (const { version } of report.rows) expect(svg).toContain(`64×512×5000 NN, ${version}`);
  }, 120_000);

  test('refuses what it does not know', async () => {
    expect(await glimpse('bench', 'matmull')).toMatchObject({ code: 2, stderr: expect.stringContaining('there is no benchmark "matmull"') });
    expect(await glimpse('bench', 'resnet50')).toMatchObject({ code: 2, stderr: expect.stringContaining('--model') });
    expect(await glimpse('bench', 'first-caption')).toMatchObject({ code: 2, stderr: expect.stringContaining('--run') });
  });
});

describe('tuning', () => {
  test('glimpse tune times the versions that agree and writes a table of its own', async () => {
    const out = join(folder, 'tuning', 'table.json');
    const { code } = await glimpse('tune', '--family', 'top_k', 'attention', '--out', out, '--quiet');
    expect(code).toBe(0);
    const table = JSON.parse(readFileSync(out, 'utf8'));
    expect(Object.keys(table.shaders)).toEqual(['top_k', 'attention']);
    for (const { family, medianMs } of table.problems) {
      expect(['top_k', 'attention']).toContain(family);
      for (const [version, ms] of Object.entries(medianMs)) {
        expect(FAMILIES[family].names).toContain(version);
        expect(ms).toBeGreaterThan(0);
      }
    }
    expect(await glimpse('tune', '--family', 'nothing')).toMatchObject({ code: 2 });
  }, 120_000);

  test('every class of problems has a place in the table of this adapter, with known versions', () => {
    const { source, order } = tuningOf(device.gpu);
    expect(source).toBeTruthy();
    for (const { family, key } of PROBLEMS) {
      const versions = order.get(`${family} ${key}`) ?? order.get(`${family} *`);
      expect(versions, `${family} ${key}`).toBeDefined();
      for (const version of versions ?? []) expect(FAMILIES[family].names).toContain(version);
    }
  });
});

test('the catalog holds the sizes of the results page', () => {
  const names = catalog('model.onnx').map(({ name, shape }) => `${name} ${shape}`);
  expect(new Set(names).size).toBe(names.length);
  for (const wanted of ['matmul 320×512×5000 TN', 'conv 7×7 s2 3→64 @224', 'conv-grad-weight 3×3 512→512 @7', 'softmax 2240×5000', 'resnet50 batch 8'])
    expect(names).toContain(wanted);
});
