/** The benchmarks run, their report keeps its contract, and no wrong result has a row. No test asserts a time. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type Benchmark, catalog, MODELS } from '../bench/catalog.ts';
import { bench } from '../bench/command.ts';
import { type Measured, type Measurement, measure } from '../bench/measure.ts';
import { compareWords } from '../bench/models.ts';
import { openOurs } from '../bench/ours.ts';
import { PeerProcess } from '../bench/peers/process.ts';
import { oraclesInstalled } from '../bench/peers/untyped.ts';
import type { Report } from '../bench/record.ts';
import { compare, type Expected, expectedResult } from '../bench/reference.ts';
import { markdown, table } from '../bench/report.ts';
import { isTimed } from '../bench/rows.ts';
import { LocalTurns } from '../bench/sampling.ts';
import type { Engine, Prepared, Work } from '../bench/work.ts';
import type { Declaration } from '../src/cli/command.ts';
import type { BenchOptions } from '../src/cli/commands/bench.ts';
import { COMMANDS } from '../src/cli/commands.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { tunedOrder, tuningOf } from '../src/kernels/tuning.ts';
import { fixedDefaults } from '../src/options.ts';
import { PROBLEMS } from '../src/tuning/problems.ts';
import { glimpse, temporaryFolder, useGpu } from './support.ts';

const small: Work[] = [
  ...[false, true].flatMap((transA) => [false, true].map((transB) => ({ kind: 'matmul' as const, m: 36, n: 44, k: 53, transA, transB }))),
  ...(['conv', 'convGradInput', 'convGradWeight'] as const).map((kind) => ({
    kind,
    ...{ images: 2, height: 9, width: 11, channels: 8, outChannels: 12, kernel: 3, stride: 2, pad: 1 },
  })),
  { kind: 'softmax', rows: 7, columns: 100 },
  { kind: 'crossEntropyGrad', rows: 7, columns: 100 },
  { kind: 'lstmCell', rows: 5, hidden: 13 },
  { kind: 'lstmCellGrad', rows: 5, hidden: 13 },
  { kind: 'attention', batch: 5, regions: 17, keys: 11, values: 5 },
  { kind: 'attentionGrad', batch: 5, regions: 17, keys: 11, values: 5 },
  { kind: 'adam', count: 103 },
  { kind: 'softmaxGrad', rows: 7, columns: 100 },
  ...(['query', 'keys'] as const).map((of) => ({ kind: 'scaledDotProductGrad' as const, of, batch: 2, heads: 2, queries: 5, keys: 7, width: 5 })),
  { kind: 'op', op: 'sum', shapes: [[73, 70]], attrs: { first: 1, end: 2, keepDims: false } },
  { kind: 'op', op: 'add', shapes: [[7, 33], [33]], attrs: null },
  { kind: 'op', op: 'axpby', shapes: [[131], [131]], attrs: { alpha: 0.5, beta: 0.25 } },
  { kind: 'op', op: 'topK', shapes: [[71, 40]], attrs: { k: 3, skipBelow: 0 } },
];
const named = small.map((work) => [JSON.stringify(work), work] as const);
const briefly = { minSamples: 3, maxSeconds: 0.001 };
const noFlush = async () => {};

/** An engine whose work differs from that of ours. */
function changed(engine: Engine, change: (prepared: Prepared) => Partial<Prepared>): Engine {
  return {
    name: 'changed',
    async prepare(work) {
      const prepared = await engine.prepare(work);
      return prepared && { ...prepared, ...change(prepared) };
    },
  };
}

/** Right in the first 64 numbers, zero in the others. */
const rightInTheFirst64 = (prepared: Prepared): Partial<Prepared> => ({
  result: async () => Array.from((await prepared.result?.()) ?? [], (value, i) => (i < 64 ? value : 0)),
});

/** Its first run works; later ones leave what that run wrote. */
function rightInTheFirstRun(prepared: Prepared): Partial<Prepared> {
  let runs = 0;
  return { run: async () => void (runs++ === 0 && (await prepared.run())) };
}

function measurement(work: Work, family: string | null, version: string | null = null): Measurement {
  const benchmark: Benchmark = { name: work.kind, shape: 'small', work, family, peers: false, flops: 1, bytes: 1 };
  return { benchmark, versions: [version], sampling: briefly, flush: noFlush, roofs: { fmaGflops: 1, copyGBs: 1 }, peers: null, note: () => {} };
}

/** The only row, or the only wrong result. */
const only = ({ rows, wrong }: Measured) => wrong[0]?.message ?? rows[0];

describe('what the last timed run wrote', () => {
  const device = useGpu();

  test.each(named)('is compared in every number: %s', async (_name, work) => {
    const prepared = (await openOurs(device.gpu).prepare(work)) as Prepared;
    const turns = new LocalTurns(prepared, noFlush);
    await turns.prepare();
    await turns.sample();
    await turns.finish();
    const got = Float32Array.from((await prepared.result?.()) ?? []);
    prepared.dispose();
    const expected = expectedResult(work, 1) as Expected;
    const size = expected.shape.reduce((product, extent) => product * extent, 1);
    expect(compare(got, expected)).toEqual({ against: 'float64', checked: size, maxError: expect.any(Number), wrong: null });
    // Whichever number is wrong, it is found; and so is a run on the other activations.
    const largest = Math.max(...Array.from(expected.values, Math.abs));
    for (let i = 0; i < size; i++) {
      const right = got[i];
      got[i] += 0.01 * largest;
      expect(compare(got, expected).wrong).toContain(`1 of ${size} numbers differ`);
      got[i] = right;
    }
    got[size - 1] = Number.NaN;
    const last = expected.shape.map((extent) => extent - 1).join(', ');
    expect(compare(got, expected).wrong).toContain(
      `the first at [${last}] of [${expected.shape.join(', ')}], where NaN came and ${expected.values[size - 1]} must come`,
    );
    expect(compare(got.subarray(1), expected).wrong).toBe(`has ${size - 1} numbers, not ${size}`);
    expect(compare(Float32Array.from(expectedResult(work, 0)?.values ?? []), expected).wrong).not.toBeNull();
  });

  test.each([
    ['a product', { kind: 'matmul', m: 1200, k: 1100, n: 1000, transA: false, transB: false }],
    ['a product of rows that lie as columns', { kind: 'matmul', m: 1200, k: 1100, n: 1000, transA: true, transB: true }],
    ['pictures', { kind: 'conv', images: 40, height: 28, width: 28, channels: 61, outChannels: 67, kernel: 3, stride: 1, pad: 1 }],
  ] as [string, Work][])('of a size for real GPUs, whole rows of %s are compared, the first and the last among them', (_name, work) => {
    const expected = expectedResult(work, 1) as Expected;
    const { rows = [], shape } = expected;
    const [count, ...rest] = shape;
    const width = rest.reduce((product, extent) => product * extent, 1);
    expect([rows[0], rows.at(-1), rows.length < count, rows.length > 10]).toEqual([0, count - 1, true, true]);
    expect(expected.values).toHaveLength(rows.length * width);
    const got = new Float32Array(count * width).fill(7); // what is not computed is not compared
    for (const [i, row] of rows.entries()) got.set(Float32Array.from(expected.values).subarray(i * width, (i + 1) * width), row * width);
    expect(compare(got, expected)).toMatchObject({ checked: rows.length * width, wrong: null });
    got[(count - 1) * width + 5] += 100;
    const place = [count - 1, ...rest.map((extent, axis) => Math.floor(5 / rest.slice(axis + 1).reduce((product, each) => product * each, 1)) % extent)];
    expect(compare(got, expected).wrong).toContain(`the first at [${place.join(', ')}] of [${shape.join(', ')}]`);
  });

  test('a result that is right has its largest error and what it was compared with in the row', async () => {
    const { rows, wrong } = await measure(device.gpu, openOurs(device.gpu), measurement(small[0], 'matmul'));
    expect([rows.length, wrong]).toEqual([1, []]);
    const [row] = rows.filter(isTimed);
    expect(row).toMatchObject({ version: expect.any(String), checked: 36 * 44, checkedAgainst: 'float64' });
    expect(FAMILIES.matmul.names).toContain(row.version);
    expect(row.maxError).toBeGreaterThan(0);
    expect(row.maxError).toBeLessThan(1e-5);
  });

  test.each([
    ['right in the first 64 numbers only', rightInTheFirst64],
    ['right in its first run only', rightInTheFirstRun],
  ])('a kernel that is %s has no row', async (_name, change) => {
    for (const work of small) {
      const measured = await measure(device.gpu, changed(openOurs(device.gpu), change), measurement(work, null));
      expect(measured.rows).toEqual([]);
      expect(only(measured), work.kind).toMatch(
        new RegExp(
          `^the result of ${work.kind} small \\(model\\) is off by .* the first at \\[.*\\] of \\[.*\\], where \\S+ came and \\S+ must come; its time is not reported$`,
        ),
      );
    }
  });

  test('a version that did not run is not reported under its name', async () => {
    const other = FAMILIES.matmul.names.find((name) => name !== 'naive') as string;
    try {
      const deaf = changed(openOurs(device.gpu), (prepared) => ({
        run: (times) => {
          FAMILIES.matmul.force('naive'); // whatever was forced
          return prepared.run(times);
        },
      }));
      await expect(measure(device.gpu, deaf, measurement(small[0], 'matmul', other))).rejects.toThrow(`naive ran instead of ${other}`);
    } finally {
      FAMILIES.matmul.force(null);
    }
  });

  const decoder = { batch: 2, steps: 4, regions: 6, features: 32, vocabulary: 200 };

  test.each([true, false])('a training step is compared with steps op by op (replayed: %s)', async (replayed) => {
    const m = measurement({ kind: 'trainStep', ...decoder, replayed }, null);
    expect(only(await measure(device.gpu, openOurs(device.gpu), m))).toMatchObject({ checked: 2, checkedAgainst: expect.stringContaining('op by op') });
    // An update that is lost after the first, in the timed runs only.
    let runs = 0;
    const forgetful = changed(openOurs(device.gpu), (prepared) => ({
      async run(times) {
        const { gpu } = device;
        const { dispatch } = gpu;
        const first = runs++ === 0;
        gpu.dispatch = (kernel, ...rest) => void ((first || kernel.name !== 'adam') && dispatch.call(gpu, kernel, ...rest));
        try {
          await prepared.run(times);
        } finally {
          gpu.dispatch = dispatch;
        }
      },
    }));
    expect(only(await measure(device.gpu, forgetful, m))).toMatch(/the result of trainStep small \(model\) is off by/);
  }, 60_000);

  test.each([true, false])('greedy words are compared with one pass over all words (replayed: %s)', async (replayed) => {
    const m = measurement({ kind: 'greedy', ...decoder, replayed }, null);
    expect(only(await measure(device.gpu, openOurs(device.gpu), m))).toMatchObject({
      checked: expect.any(Number),
      checkedAgainst: expect.stringContaining('one pass over all words'),
    });
    // The features of the last run never arrive.
    const deaf = changed(openOurs(device.gpu), (prepared) => ({
      async check() {
        await prepared.load?.(0);
        return (await prepared.check?.()) ?? Promise.reject();
      },
    }));
    expect(only(await measure(device.gpu, deaf, m))).toMatch(/has words that are not the likeliest: word \d+ of caption \d+ is \d+, must be \d+/);
  });

  test('a word is wrong unless it is the likeliest, or as likely but for rounding', () => {
    // Two captions of two words, time-major, four words in the vocabulary.
    const logits = [0, 9, 1, 2, 0, 1, 9, 2, 0, 1, 2, 8, 9, 1, 2, 9];
    const check = (first: number[], second: number[], skipBelow = 0) => compareWords([first, second], logits, 4, skipBelow);
    expect(check([1, 3], [2, 0])).toMatchObject({ checked: 4, maxError: 0, wrong: null });
    expect(check([1, 3], [2, 3], 1)).toMatchObject({ checked: 4, wrong: null });
    expect(check([1, 3], [2])).toMatchObject({ checked: 3, wrong: null });
    expect(check([1, 2], [2, 0]).wrong).toContain('word 2 of caption 1 is 2, must be 3');
    expect(check([1, 3], [2, -1]).wrong).toContain('word 2 of caption 2 is -1, must be 0');
  });

  test('a reference that is no number allows nothing', () => {
    expect(compare([Number.NaN, 1], { values: [Number.NaN, 1], shape: [2], tolerance: 1e-4, against: 'NaN' }).wrong).toContain('2 of 2 numbers differ');
    expect(compareWords([[1]], [0, Number.NaN], 2, 0).wrong).toContain('word 1 of caption 1 is 1');
  });
});

test.skipIf(!oraclesInstalled())(
  'a peer in its own process answers with a result that agrees, or says what it cannot do',
  async () => {
    const peer = new PeerProcess('tfjs-wasm', '', false);
    const works = small.filter(({ kind }, i) => i < 2 || (kind !== 'matmul' && kind !== 'convGradInput' && kind !== 'convGradWeight'));
    for (const work of works) {
      if (work.kind === 'scaledDotProductGrad' || (work.kind === 'op' && (work.op === 'axpby' || work.op === 'topK'))) {
        expect(await peer.ask({ kind: 'prepare', work })).toEqual({ kind: 'unable' });
        continue;
      }
      expect(await peer.ask({ kind: 'prepare', work }), work.kind).toMatchObject({ kind: 'prepared', coldMs: expect.any(Number) });
      expect(await peer.ask({ kind: 'sample' })).toMatchObject({ kind: 'sampled', ms: expect.any(Number) });
      const answer = await peer.ask({ kind: 'finish' });
      expect(answer).toMatchObject({ kind: 'finished', set: 0 });
      if (answer.kind === 'finished') expect(compare(answer.result ?? [], expectedResult(work, 0) as Expected), work.kind).toMatchObject({ wrong: null });
    }
    const other = new PeerProcess('onnxruntime-cpu', '', false);
    expect(await other.ask({ kind: 'prepare', work: small[8] })).toEqual({ kind: 'unable' });
    for (const work of [small[0], small[1], small[4]]) {
      // Weights are initializers of the model; the result is the same.
      expect(await other.ask({ kind: 'prepare', work })).toMatchObject({ kind: 'prepared' });
      const answer = await other.ask({ kind: 'finish' });
      if (answer.kind === 'finished') expect(compare(answer.result ?? [], expectedResult(work, 0) as Expected), work.kind).toMatchObject({ wrong: null });
      else throw new Error(JSON.stringify(answer));
    }
    peer.close();
    other.close();
  },
  60_000,
);
if (!oraclesInstalled()) console.warn('SKIPPED: the peers; install them with `npm run oracles`');

describe('glimpse bench', () => {
  const folder = temporaryFolder();
  afterEach(() => vi.restoreAllMocks());

  test('reports every version by its contract, and draws a roofline', async () => {
    const chart = join(folder, 'roofline.svg');
    const page = join(folder, 'results.md');
    const shape = '64×512×5000 NT';
    const options = ['--only', shape, '--versions', '--samples', '3', '--seconds', '0.01', '--json', '--chart', chart, '--report', page];
    const { code, stdout } = await glimpse('bench', 'matmul', ...options);
    expect(code).toBe(0);
    const report: Report = JSON.parse(stdout);
    expect(report).toMatchObject({
      adapter: expect.any(String),
      driver: expect.any(String),
      roofs: { fmaGflops: expect.any(Number), copyGBs: expect.any(Number) },
      wrong: [],
    });
    expect(report.rows.map(({ version }) => version)).toEqual(FAMILIES.matmul.names);
    const svg = readFileSync(chart, 'utf8');
    expect(svg).toMatch(/^<svg .*GFLOP\/s, .* GB\/s, measured.*<\/svg>$/s);
    for (const row of report.rows) {
      expect(row).toMatchObject({ name: 'matmul', shape });
      if ('skipped' in row) {
        // A version that cannot run has its reason where the numbers would stand.
        expect(Object.keys(row)).toEqual(['name', 'shape', 'version', 'skipped']);
        expect(table(report.rows)).toContain(`cannot run: ${row.skipped}`);
        expect(readFileSync(page, 'utf8')).toContain(`| ${row.version} | cannot run: ${row.skipped} |`);
        expect(svg).not.toContain(`${shape}, ${row.version}<`);
        continue;
      }
      for (const key of ['medianMs', 'p95Ms', 'gflops', 'roofShare'] as const) expect(row[key], key).toBeGreaterThan(0);
      expect(row).toMatchObject({ peers: [], maxError: expect.any(Number), checked: 64 * 5000, checkedAgainst: 'float64' });
      expect(svg).toContain(`${shape}, ${row.version}<`);
      expect(readFileSync(page, 'utf8')).toContain(`| ${row.maxError?.toExponential(1)} | ${64 * 5000}, float64 |`);
    }
    const skipped = report.rows.filter((row) => 'skipped' in row);
    expect(skipped.map(({ version }) => version)).toContain('subgroup_panels'); // which takes no transposed operand
    expect(skipped.length).toBeLessThan(report.rows.length);
  }, 120_000);

  test('exits with 1 after a wrong result, which has no row, and goes on', async () => {
    const printed = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const)
      vi.spyOn(process[stream], 'write').mockImplementation((text) => {
        printed[stream] += text;
        return true;
      });
    const defaults = fixedDefaults((COMMANDS.find(({ name }) => name === 'bench') as Declaration).options) as unknown as BenchOptions;
    const options: BenchOptions = { ...defaults, only: '1×1 512→2048', samples: 3, seconds: 0.001, json: true, quiet: true };
    const brokenForward = (gpu: Parameters<typeof openOurs>[0]): Engine => {
      const [ours, broken] = [openOurs(gpu), changed(openOurs(gpu), rightInTheFirst64)];
      return { name: 'half broken', prepare: (work) => (work.kind === 'conv' ? broken : ours).prepare(work) };
    };
    const code = await bench(options, ['conv', 'conv-grad-input'], brokenForward);
    const whole = await bench(options, ['conv-grad-input'], brokenForward);
    vi.restoreAllMocks();
    const [report] = printed.stdout.split('\n').map((line) => line && JSON.parse(line)) as [Report];
    expect(code).toBe(1);
    expect(report.rows).toMatchObject([{ name: 'conv-grad-input', shape: '1×1 512→2048 @7', maxError: expect.any(Number) }]);
    expect(report.wrong).toMatchObject([
      { name: 'conv', shape: '1×1 512→2048 @7', problem: expect.stringContaining('the first at [0, 1, 2, 1] of [1, 2048, 7, 7]') },
    ]);
    expect(printed.stderr).toContain(`the result of conv 1×1 512→2048 @7 (${report.wrong[0].version}) is off by`);
    expect(markdown(report, 'npx glimpse bench')).toContain(`- conv 1×1 512→2048 @7, ${report.wrong[0].version}: the result is off by`);
    expect(whole).toBe(0);
  }, 60_000);

  test('refuses what it does not know', async () => {
    expect(await glimpse('bench', 'matmull')).toMatchObject({ code: 2, stderr: expect.stringContaining('there is no benchmark "matmull"') });
    expect(await glimpse('bench', 'resnet50')).toMatchObject({ code: 2, stderr: expect.stringContaining('--model') });
    expect(await glimpse('bench', 'first-caption')).toMatchObject({ code: 2, stderr: expect.stringContaining('--run') });
  });

  test('a size that there is not: the sizes there are, before a device is opened', async () => {
    const { code, stdout, stderr } = await glimpse('bench', 'softmax', 'conv-grad-weight', '--only', '777');
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('no shape holds "777"');
    for (const { name, shape } of catalog()) expect(stderr.includes(`${name} ${shape}\n`), shape).toBe(['softmax', 'conv-grad-weight'].includes(name));
    expect(stderr).not.toContain('adapter:');
    expect(await glimpse('bench', '--only', '777')).toMatchObject({ code: 2, stderr: expect.stringContaining('left out: resnet50') });
  });
});

describe('tuning', () => {
  const device = useGpu();
  const folder = temporaryFolder();

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

  test('every class of problems, or a wider one, has a place in the table of this adapter, with known versions', () => {
    expect(tuningOf(device.gpu).source).toBeTruthy();
    for (const { family, key } of PROBLEMS) {
      const versions = tunedOrder(device.gpu, family, key);
      expect(versions.length, `${family} ${key}`).toBeGreaterThan(0);
      for (const version of versions) expect(FAMILIES[family].names).toContain(version);
    }
  });
});

test('the catalog holds the sizes of the results page, and families that there are', () => {
  const names = catalog(MODELS.map((name) => ({ name, path: 'model.onnx', images: null }))).map(({ name, shape }) => `${name} ${shape}`);
  expect(new Set(names).size).toBe(names.length);
  for (const wanted of ['matmul 320×512×5000 TN', 'conv 7×7 s2 3→64 @224', 'conv-grad-weight 3×3 512→512 @7', 'softmax 2240×5000', 'resnet50 batch 8'])
    expect(names).toContain(wanted);
  for (const { name, family } of catalog()) if (family !== null) expect(Object.keys(FAMILIES), name).toContain(family);
});
