/** One engine, any host: what it may reach, what a host hands in, and how faults are told where they are reported late. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { globals } from 'webgpu';
import { Context } from '../src/context.ts';
import { GlimpseError } from '../src/errors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';

const SOURCE = resolve(import.meta.dirname, '../src');

/** Every file of src that an entry reaches by imports that are not of types alone, and the packages it names. */
function reached(entry: string): { files: string[]; packages: string[] } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const open = [join(SOURCE, entry)];
  for (let file = open.pop(); file; file = open.pop()) {
    if (files.has(file)) continue;
    files.add(file);
    const text = readFileSync(file, 'utf8');
    for (const [, clause = '', target] of text.matchAll(/^(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)';/gms)) {
      if (clause.trim() === 'type') continue;
      if (target.startsWith('.')) open.push(resolve(dirname(file), target));
      else packages.add(target);
    }
  }
  return { files: [...files].map((file) => relative(SOURCE, file)), packages: [...packages] };
}

describe.each(['index.ts', 'web.ts'])('%s', (entry) => {
  const { files, packages } = reached(entry);

  test('reaches the whole engine', () => {
    for (const file of ['autograd/ops/conv.ts', 'gpu/recorder.ts', 'kernels/matmul.ts', 'model/captioner/captioner.ts', 'nn/optimizer.ts'])
      expect(files).toContain(file);
  });

  test('imports no package and nothing of Node', () => {
    expect(packages).toEqual([]);
    expect(files.filter((file) => file.startsWith('platform/node'))).toEqual([]);
  });

  test.each(files.filter((file) => file.endsWith('.ts')))('%s uses no global of Node', (file) => {
    const code = readFileSync(join(SOURCE, file), 'utf8')
      .replace(/\/\*[\s\S]*?\*\//g, '')
      .replace(/\/\/.*$/gm, '');
    expect(code).not.toMatch(/\bprocess\.|\bBuffer\.|\brequire\(|\bimport\('node:|__dirname|setImmediate/);
  });
});

test('node.ts is the engine and more', () => {
  expect(reached('node.ts').files).toContain('platform/node/open.ts');
});

/** Nothing in this file loads Node's store, so contexts are what browsers get. */
describe('a context in a host that cannot tell flows apart', () => {
  test('nests', () => {
    const context = new Context<string | null>();
    context.enter('outer');
    context.enter('inner');
    context.leave('inner', 'outer');
    expect(context.get()).toBe('outer');
  });

  test('refuses what interleaves, and says what to do', () => {
    const context = new Context<string | null>();
    context.enter('first job');
    context.enter('second job');
    expect(() => context.leave('first job', null)).toThrow(GlimpseError);
    expect(context.get()).toBeNull();
  });

  test('holds a value across awaits, and goes back', async () => {
    const context = new Context<string>();
    const seen = await context.run('within', async () => {
      await null;
      return context.get();
    });
    expect([seen, context.get()]).toEqual(['within', undefined]);
  });

  test('refuses a second run that begins within the first and outlives it', async () => {
    const context = new Context<string>();
    const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));
    const results = await Promise.allSettled([context.run('first', () => wait(5)), context.run('second', () => wait(20))]);
    expect(results.map(({ status }) => status)).toContain('rejected');
    expect(String((results.find(({ status }) => status === 'rejected') as PromiseRejectedResult).reason)).toMatch(/Await one before the next makes tensors/);
  });
});

/** The web entry on Dawn's own WebGPU: all but the browser. Loaded last, since both entries share one engine. */
describe.skipIf(!existsSync(join(SOURCE, 'platform/web/bundle.js')))('the web platform', () => {
  let gpu: Gpu | null = null;
  afterEach(async () => {
    await gpu?.close();
    gpu = null;
  });

  async function openWeb(options: { guaranteedLimits?: boolean } = {}): Promise<Gpu> {
    Object.assign(globalThis, globals);
    const { findAdapter } = await import('../src/platform/node/driver.ts');
    const { openGpu } = await import('../src/platform/web/open.ts');
    const found = await findAdapter(undefined, false, async () => null);
    gpu = await openGpu({ ...options, gpu: found.gpu });
    return gpu;
  }

  test('computes, with shaders and tuning from the bundle', async () => {
    const opened = await openWeb();
    const { ops, tensor, scope } = await import('../src/index.ts');
    const { tuningOf } = await import('../src/kernels/tuning.ts');
    using _s = scope();
    expect([...(await ops.matmul(tensor([1, 2], [1, 2]), tensor([3, 4], [2, 1])).data())]).toEqual([11]);
    expect(tuningOf(opened).source).toContain('committed defaults');
  });

  test('scoped work may wait, one piece after the other; two at the same time are refused', async () => {
    await openWeb();
    const { ops, memory, tensor, scoped } = await import('../src/index.ts');
    const work = () => scoped(async () => ops.addScalar(tensor([1]), 1).item());
    expect([await work(), await work()]).toEqual([2, 2]);
    expect(memory().tensors).toBe(0);
    const [first, second] = await Promise.allSettled([work(), work()]);
    expect([first.status, second.status]).toContain('rejected');
  });

  test('scopes and noGrad work, and scopes of two jobs at once are refused', async () => {
    await openWeb();
    const { backward, gradOf, noGrad, ops, scope, tensor, variable } = await import('../src/index.ts');
    {
      using _s = scope();
      const x = variable(tensor([2]));
      const outside = await noGrad(async () => {
        await tensor([1]).data();
        return ops.square(x);
      });
      expect(() => backward(outside)).toThrow(/no variable/);
      backward(ops.square(x));
      expect(await gradOf(x)?.item()).toBe(4);
    }
    const job = async (reads: number) => {
      using _s = scope();
      for (let i = 0; i < reads; i++) await tensor([i]).data();
    };
    const results = await Promise.allSettled([job(1), job(5)]);
    expect(results.some((each) => each.status === 'rejected' && /Await one before the next/.test(String(each.reason)))).toBe(true);
  });

  test('at the guaranteed limits and without features, ops run on versions that need no more', async () => {
    const opened = await openWeb({ guaranteedLimits: true });
    expect([...opened.device.features]).not.toContain('subgroups');
    const { checkOp } = await import('../src/autograd/check.ts');
    const { OPS } = await import('../src/index.ts');
    for (const name of ['matmul', 'softmax', 'lstmCell', 'batchNormTrain']) {
      const op = OPS.find((each) => each.name === name) as (typeof OPS)[number];
      expect(op, name).toBeDefined();
      const results = await checkOp(op);
      expect(
        results.filter(({ status }) => status === 'failed'),
        name,
      ).toEqual([]);
      expect(results.filter(({ status }) => status === 'passed').length, name).toBeGreaterThan(0);
    }
  });

  test('a shader that does not compile is named with its line, and the next work is not blamed', async () => {
    const opened = await openWeb();
    const { ops, tensor, scope } = await import('../src/index.ts');
    using _s = scope();
    const kernel = opened.kernel({ file: 'unary', expressions: { f: 'no_such_function(x)' } });
    const [x, y] = [tensor([1, 2, 3, 4]), tensor([0, 0, 0, 0])];
    opened.dispatch(kernel, [x.slice, y.slice], { count4: 1, alpha: 0, beta: 0 }, [1, 1, 1], 'broken');
    await expect(y.data()).rejects.toThrow(/compiling unary: [\s\S]*no_such_function[\s\S]*\d+ \| fn f\(x: vec4f/);
    expect([...(await ops.addScalar(x, 1).data())]).toEqual([2, 3, 4, 5]);
    expect([...(await ops.addScalar(x, 2).data())]).toEqual([3, 4, 5, 6]);
  });

  test('a copy that does not fit is named in the readback that waits for it', async () => {
    const opened = await openWeb();
    const { tensor, full, scope } = await import('../src/index.ts');
    using _s = scope();
    const [small, large] = [tensor([1, 2], undefined, 'f32', 'small'), full([700, 11], 1)];
    opened.copy(large.slice, small.slice, 700 * 11 * 4);
    await expect(large.data()).rejects.toThrow(/submitting .*copy of 30800 bytes from full \[700,11\] to small \[2\]/);
    expect([...(await full([2], 1).data())]).toEqual([1, 1]);
  });
});
