/** A shader of the user's in the place of a family's versions: what it must have, how it is launched, judged, and swapped in. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { checkUserShader } from '../src/autograd/check.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { newKernelText } from '../src/cli/new_kernel.ts';
import { FAMILIES, useShader } from '../src/kernels/families.ts';
import { full, scope, tensor } from '../src/tensor/tensor.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, program, temporaryFolder, useGpu } from './support.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);
const start = (family: string, like = FAMILIES[family].names[0]) => newKernelText(FAMILIES[family], like, `${family}.wgsl`);

/** The text with one place changed, which must be there. */
function changed(text: string, ...pairs: [string, string][]): string {
  return pairs.reduce((all, [find, replace]) => {
    if (!all.includes(find)) throw new Error(`no "${find}"`);
    return all.replace(find, replace);
  }, text);
}

describe('in the library', () => {
  const device = useGpu();
  afterEach(async () => {
    for (const family of Object.keys(FAMILIES)) await useShader(device.gpu, family, null);
  });
  const use = (family: string, source: string) => useShader(device.gpu, family, { name: 'mine.wgsl', source });
  const failures = async (family: string) => (await checkUserShader(family)).filter(({ status }) => status === 'failed');

  const versions = Object.values(FAMILIES).flatMap((family) =>
    family.versions.filter(({ composed }) => !composed).map((version) => [family.name, version.name] as const),
  );
  test.each(versions)('the start of %s like %s passes every case that it runs in', async (family, like) => {
    const before = FAMILIES[family].names;
    await use(family, start(family, like));
    expect(FAMILIES[family].names).toEqual([...before, 'user:mine.wgsl']);
    const cases = await checkUserShader(family);
    expect(cases.filter(({ status }) => status === 'failed')).toEqual([]);
    for (const { version, family: of } of cases) expect([of, version]).toEqual([family, 'user:mine.wgsl']);
    const runs = cases.filter(({ status }) => status === 'passed');
    const able = /subgroup/.test(like) ? device.gpu.subgroupWidth > 0 : true; // other versions need nothing
    if (able) expect(runs.length).toBeGreaterThan(0);
  });

  test('what is in place runs wherever the family runs, and is out of it again after null', async () => {
    using _s = scope();
    const one = () => ops.matmul(full([3, 5], 1), full([5, 2], 1)).data();
    await use('matmul', changed(start('matmul'), ['var sum = 0.0;', 'var sum = 100.0;']));
    expect([...(await one())]).toEqual(Array(6).fill(105));
    expect(FAMILIES.matmul.chosen).toBe('user:mine.wgsl');
    await useShader(device.gpu, 'matmul', null);
    expect([...(await one())]).toEqual(Array(6).fill(5));
    await expect(checkUserShader('matmul')).rejects.toThrow('no shader of yours is in use');
  });

  test('@tile: a workgroup owns other rows and columns', async () => {
    const text = start('matmul').replaceAll('8u', '16u');
    await use('matmul', changed(text, ['@tile 8 8', '@tile 16 16'], ['@workgroup_size(8, 8)', '@workgroup_size(16, 16)']));
    expect(await failures('matmul')).toEqual([]);
    await use('matmul', changed(text, ['@tile 8 8', '@tile 32 32'], ['@workgroup_size(8, 8)', '@workgroup_size(16, 16)'])); // three quarters of each tile are left out
    expect(await failures('matmul')).not.toEqual([]);
  });

  const byRow = changed(
    start('softmax_grad'),
    ['@workgroup_size(64)', '@workgroup_size(1)'],
    ['let index = id.x + id.y * groups.x * 64u;', 'let index = id.x + id.y * groups.x;'],
  );
  test.each(['rows', 'rows/1', 'rows*2/2', 'rows 1 1', 'X*64'])('@grid %s launches a workgroup per row', async (grid) => {
    await use('softmax_grad', `// @grid ${grid}\n${byRow}`);
    expect(await failures('softmax_grad')).toEqual([]);
  });

  test('@grid: a term is rounded up, and an x beyond the limit of a dimension is folded', async () => {
    using _s = scope();
    await use('axpby', changed(`// @grid count\n${start('axpby')}`, ['@workgroup_size(64)', '@workgroup_size(1)'], ['groups.x * 64u', 'groups.x']));
    expect(await failures('axpby')).toEqual([]);
    const [x, y] = [full([70_001], 1), full([70_001], 0)];
    ops.blendInto(y, x, 1, 0);
    expect((await y.data()).every((value) => value === 1)).toBe(true); // 70,001 workgroups
    await use('axpby', `// @grid count/512\n${start('axpby')}`); // an eighth of it
    expect((await failures('axpby'))[0].reason).toMatch(/^yNew\[\d+.*\] of \[.*\] is .*, must be /);
  });

  const matmul = start('matmul');
  test.each<[string, string, string, string | RegExp]>([
    [
      'a line that does not compile',
      'matmul',
      changed(matmul, ['b_at(z, k, column);', 'b_at(z, k, colum);']),
      /^mine\.wgsl:\d+:\d+: unresolved value 'colum'$/,
    ],
    [
      'a missing binding',
      'matmul',
      matmul.replace(/^@group\(0\) @binding\(3\).*\n/m, ''),
      'mine.wgsl: has no binding "c": @group(0) @binding(3), var<storage, read_write>; matmul naive binds a, b, bias, c',
    ],
    [
      'bindings in another order',
      'matmul',
      matmul.replace('binding(0) var<storage, read> a', 'binding(0) var<storage, read> z'),
      'binding 0 is "z", must be "a"',
    ],
    ['a binding that may not write', 'matmul', changed(matmul, ['read_write> c', 'read> c']), 'binding "c" is read, must be read_write'],
    [
      'a binding too many',
      'matmul',
      `${matmul}@group(0) @binding(4) var<storage, read> more: array<f32>;`,
      'has a binding "more" that matmul naive does not give',
    ],
    [
      'a missing parameter',
      'matmul',
      changed(matmul, ['  relu: u32,\n', '']),
      /^mine\.wgsl: Params has no parameter "relu" \(u32\); matmul naive gives m, n, /,
    ],
    ['a parameter of another type', 'matmul', changed(matmul, ['  relu: u32,', '  relu: f32,']), 'parameter "relu" is 1 × f32, must be 1 × u32'],
    [
      'a parameter too many',
      'matmul',
      changed(matmul, ['  relu: u32,', '  relu: u32, speed: f32,']),
      'has a parameter "speed" that matmul naive does not give',
    ],
    ['a missing constant', 'matmul', matmul.replace(/^override TRANS_A.*\n/m, ''), 'has no "override TRANS_A", which says what matmul naive computes'],
    ['a constant too many', 'matmul', `override FAST: bool = true;\n${matmul}`, 'has an "override FAST" that matmul naive does not give; write "const FAST"'],
    ['a missing expression', 'binary_rows', changed(start('binary_rows'), [' // @expression f', '']), 'has no line "return …; // @expression f"'],
    ['no entry point', 'matmul', changed(matmul, ['fn main(', 'fn other(']), 'has no entry point "fn main"'],
    ['a version that there is not', 'matmul', changed(matmul, ['@like naive', '@like fast']), '// @like fast: the versions of matmul are naive, register'],
    ['a version of several kernels', 'conv2d', changed(start('conv2d'), ['@like direct', '@like im2col']), 'it runs several kernels'],
    ['a tile of one number', 'matmul', changed(matmul, ['@tile 8 8', '@tile 8']), /^mine\.wgsl:\d+: "\/\/ @tile 8": expected \/\/ @tile ROWS COLUMNS/],
    ['a tile where none are counted', 'softmax', `// @tile 8 8\n${start('softmax')}`, '// @tile: softmax counts no tiles; give // @grid instead'],
    [
      'a grid of unknown fields',
      'softmax',
      `// @grid columns/4\n${start('softmax')}`,
      '// @grid has "columns", which is no field of Params (X, Y, Z, rows, n)',
    ],
    ['a grid that is no product', 'softmax', `// @grid rows+1\n${start('softmax')}`, '"rows+1" is no product or quotient'],
    [
      'a field of Params that cannot be laid out',
      'softmax',
      changed(start('softmax'), ['  n: u32,', '  n: vec3f,']),
      'cannot lay out this field of Params: n: vec3f',
    ],
  ])('refuses %s', async (_name, family, source, message) => {
    await expect(use(family, source)).rejects.toMatchObject({ name: 'UsageError', exitCode: 2 });
    await expect(use(family, source)).rejects.toThrow(message);
    expect(FAMILIES[family].names).not.toContain('user:mine.wgsl');
  });

  test('the first wrong element has its place, what came and what must come: in results and in gradients', async () => {
    await use('lstm_cell', changed(start('lstm_cell'), ['let cell = f * c[at] + i * g;', 'let cell = f * c[at] + i * g + select(0.0, 1.0, at == 70u);']));
    const [first, gradient] = await failures('lstm_cell');
    expect(first.reason).toMatch(/^hNew\[0, 70\] of \[5, 71\] is -?\d\S*, must be -?\d\S*$/);
    expect(gradient.reason).toMatch(/^d(gx|gh|c)(\[\d+, \d+\] of \[\d+, \d+\] is | of \[5, 284\]: its sum with random signs is )/);
    await use(
      'attention_scores_grad',
      changed(start('attention_scores_grad'), ['share[i] - alpha[alpha_at + i] * sum', 'share[i] + alpha[alpha_at + i] * sum']),
    );
    expect((await failures('attention_scores_grad'))[0]).toMatchObject({
      case: expect.stringMatching(/^gradient of /),
      reason: expect.stringMatching(/^dkeys|^dquery/),
    });
  });

  test('names, Params on one line and short vector types are read as WGSL reads them', async () => {
    using _s = scope();
    const { gpu } = device;
    const source = `struct Params { a: u32, /* not b: u32, */ c: vec4f, d: array<vec4u, 2>, } // e: u32
      @group(0)
      @binding(0) var < storage , read_write > y : array<f32>;
      @group(1) @binding(0) var<uniform> params: Params;
      @compute @workgroup_size(1) fn main() { y[0] = f32(params.a) + params.c.w + f32(params.d[1].y); }`;
    const kernel = gpu.kernel({ file: 'mine', source });
    expect(kernel.shader.params.map(({ name, offset }) => `${name} ${offset}`)).toEqual(['a 0', 'c 4', 'd 8']);
    const y = tensor([0]);
    gpu.dispatch(kernel, [y.slice], { a: 1, c: [0, 0, 0, 20], d: [0, 0, 0, 0, 0, 300] }, [1, 1, 1]);
    expect(await y.item()).toBe(321);
  });
});

describe('on the command line', () => {
  const file = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };

  test('new-kernel writes a start that passes, once', async () => {
    const path = join(folder, 'begun.wgsl');
    expect(await glimpse('new-kernel', 'softmax', path)).toMatchObject({ code: 0, stdout: expect.stringContaining(`--shader softmax=${path}`) });
    expect(readFileSync(path, 'utf8')).toBe(newKernelText(FAMILIES.softmax, 'invocation', path));
    const judged = await glimpse('selftest', '--shader', `softmax=${path}`, '--json');
    expect(judged.code).toBe(0);
    const { passed, failed, cases } = JSON.parse(judged.stdout);
    expect([passed > 10, failed, cases[0].version]).toEqual([true, 0, `user:${path}`]);
    expect(await glimpse('new-kernel', 'softmax', path)).toMatchObject({ code: 2, stderr: expect.stringContaining('is there already') });
    expect(await glimpse('new-kernel', 'softmaxx')).toMatchObject({ code: 2, stderr: expect.stringContaining('the families are matmul') });
    expect(await glimpse('new-kernel', 'softmax', `${path}2`, '--like', 'quick')).toMatchObject({ code: 2 });
    expect(existsSync(`${path}2`)).toBe(false);
  });

  test('a wrong shader: exit 1 with the first wrong element; one that does not compile: exit 2 with its line', async () => {
    const wrong = file('wrong.wgsl', changed(start('axpby'), ['params.beta * y[i]', 'params.beta * y[0]']));
    const judged = await glimpse('selftest', '--shader', `axpby=${wrong}`);
    expect(judged.code).toBe(1);
    expect(judged.stdout).toMatch(new RegExp(`FAILED axpby user:${wrong}, .*: yNew\\[4.*\\] of \\[.*\\] is \\S+, must be \\S+; off by`));
    const broken = file('broken.wgsl', changed(start('axpby'), ['params.beta *', 'params.gamma *']));
    expect(await glimpse('selftest', '--shader', `axpby=${broken}`)).toMatchObject({ code: 2, stderr: expect.stringMatching(/broken\.wgsl:\d+:\d+: .*gamma/) });
    for (const [given, message] of [
      ['axpby', 'takes FAMILY=FILE'],
      ['axpbyy=a.wgsl', 'the kernel families are'],
      [`axpby=${folder}/none.wgsl`, 'no such file'],
    ])
      expect(await glimpse('selftest', '--shader', given)).toMatchObject({ code: 2, stderr: expect.stringContaining(message) });
    expect(await glimpse('selftest', '--watch')).toMatchObject({ code: 2, stderr: expect.stringContaining('--watch belongs to --shader') });
  });

  test('--watch runs again on saving, tells errors and goes on, and ends with Ctrl-C', async () => {
    const path = file('watched.wgsl', start('axpby'));
    const child = spawn(process.execPath, [program, 'selftest', '--shader', `axpby=${path}`, '--watch'], { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
    const ended = new Promise((resolve) => child.on('close', resolve));
    const shown = async (pattern: RegExp) => {
      for (const until = Date.now() + 30_000; !pattern.test(text); await new Promise((resolve) => setTimeout(resolve, 50)))
        if (Date.now() > until) throw new Error(`never came: ${pattern}\n${text}`);
      text = '';
    };
    await shown(/2 passed, 0 failed[\s\S]*watching/);
    writeFileSync(path, changed(start('axpby'), ['params.beta *', 'params.gamma *']));
    await shown(/watched\.wgsl:\d+:\d+: .*gamma[\s\S]*watching/);
    writeFileSync(path, changed(start('axpby'), ['params.alpha *', '2.0 *']));
    await shown(/FAILED axpby user:[\s\S]*watching/);
    child.kill('SIGINT');
    expect(await ended).toBe(1); // the last verdict
  }, 120_000);

  test('a training run and captions go through it: equal bits for an equal text; a wrong one is refused before a step', async () => {
    const { run, trainArgs } = await made.trained();
    const copy = file('copy.wgsl', start('lstm_cell_grad'));
    const out = join(folder, 'own');
    const trained = await glimpse(
      ...trainArgs,
      '--epochs',
      '6',
      '--out',
      out,
      '--shader',
      `lstm_cell_grad=${copy}`,
      '--shader',
      `axpby=${file('axpby.wgsl', start('axpby'))}`,
    );
    expect(trained).toMatchObject({ code: 0, stderr: expect.stringContaining(`lstm_cell_grad runs user:${copy}: 15 cases passed`) });
    expect(trained.stderr).toContain('axpby runs user:');
    const weights = (path: string) => readFileSync(join(path, 'checkpoints', 'epoch-006.safetensors')).subarray(-100_000);
    expect(weights(out).equals(weights(run))).toBe(true);
    const wrong = file('wrong_cell.wgsl', changed(start('lstm_cell_grad'), ['(1.0 - g * g)', '(1.0 + g * g)']));
    const refused = await glimpse(...trainArgs, '--out', join(folder, 'refused'), '--shader', `lstm_cell_grad=${wrong}`);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/wrong_cell\.wgsl is wrong, so it is not used: \d+ of \d+ cases failed\n {2}FAILED lstmCell/),
    });
    expect(existsSync(join(folder, 'refused', 'log.jsonl'))).toBe(false);
  }, 180_000);
});
