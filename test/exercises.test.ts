/** The exercises: with holes none is right, with solutions all are; and the mistakes that students make are called wrong. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FAMILIES } from '../src/kernels/families.ts';
import { BUGS, EXERCISES, judgePart, solved, withHoles } from '../src/study/exercises.ts';
import { MUTANTS } from './exercise_mutants.ts';
import { glimpse, temporaryFolder, useGpu } from './support.ts';

const folder = temporaryFolder();
const textOf = (file: string) => readFileSync(new URL(`../src/study/exercises/${file}`, import.meta.url), 'utf8');
const parts = EXERCISES.flatMap(({ number, parts: list }) => list.map((part) => ({ number, ...part })));

test('twelve exercises; every file has a hole with a task, and nothing but the hole differs between sheet and solution', () => {
  expect(EXERCISES.map(({ number }) => Number(number))).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
  for (const { file } of parts) {
    const [sheet, solution] = [withHoles(textOf(file)), solved(textOf(file))];
    expect(sheet, file).toMatch(/\/\/ Your lines here: \S/);
    expect(sheet, file).not.toContain('@hole');
    expect(solution, file).not.toMatch(/@hole|@end|Your lines/);
    for (const line of sheet.split('\n').filter((each) => !each.includes('Your lines here'))) expect(solution.split('\n'), file).toContain(line);
  }
});

test.each([
  ['lavapipe', []],
  ['swiftshader', []],
])('on %s: with holes 0 of 12, with solutions 12 of 12', async (adapter) => {
  const empty = join(folder, 'none');
  const holes = await glimpse('exercise', '--all', '--folder', empty, '--adapter', adapter, '--json', '--quiet');
  if (/found only|none works/.test(holes.stderr)) return console.warn(`SKIPPED: no ${adapter} here`);
  expect([holes.code, JSON.parse(holes.stdout).right]).toEqual([1, 0]);
  const solutions = await glimpse('exercise', '--all', '--solutions', '--adapter', adapter, '--json', '--quiet');
  expect([solutions.code, JSON.parse(solutions.stdout).right, JSON.parse(solutions.stdout).of]).toEqual([0, 12, 12]);
}, 120_000);

describe('mistakes', () => {
  const device = useGpu();

  test('there are at least 40, of every exercise, and nineteen of twenty must be called wrong', () => {
    expect(MUTANTS.length).toBeGreaterThanOrEqual(40);
    expect(new Set(MUTANTS.map(({ file }) => file))).toEqual(new Set(parts.map(({ file }) => file)));
    expect(MUTANTS.filter(({ survives }) => survives).length / MUTANTS.length).toBeLessThanOrEqual(0.05);
  });

  test.each(MUTANTS.map((mutant) => [`${mutant.file}: ${mutant.name}`, mutant] as const))('%s', async (_name, { file, find, replace, survives }) => {
    const solution = solved(textOf(file));
    expect(solution.split(find), `"${find}" stands once in ${file}`).toHaveLength(2);
    const part = parts.find((each) => each.file === file);
    if (!part) throw new Error(`no exercise has ${file}`);
    const verdict = await judgePart(
      device.gpu,
      part,
      file,
      solution.replace(find, () => replace),
    );
    expect(verdict.right).toBe(survives !== undefined);
    // A verdict names an element, a case, or the line that does not compile.
    if (!survives) expect(verdict.says).toMatch(/\[.*\] (of \[.*\] )?is |sum with random signs|\d+:\d+: |products with K|it gives|T = \d+/);
  });

  test.each(BUGS.map((bug) => [bug.number, bug] as const))('the bug of %s is called wrong, and its kernel without the bug is right', async (_number, {
    family,
    version,
    find,
    replace,
  }) => {
    const shader = device.gpu.host.shaderSource(FAMILIES[family].named(version).shader);
    expect(shader.split(find)).toHaveLength(2);
    const text = `// @like ${version}\n${shader}`;
    const part = { file: 'bug.wgsl', family };
    expect(await judgePart(device.gpu, part, 'bug.wgsl', text)).toMatchObject({ right: true });
    expect(
      await judgePart(
        device.gpu,
        part,
        'bug.wgsl',
        text.replace(find, () => replace),
      ),
    ).toMatchObject({ right: false });
  });
});

describe('glimpse exercise', () => {
  const own = join(folder, 'mine');

  test('lists, writes a sheet once, judges it with a hint, then says right and gives its place', async () => {
    const list = await glimpse('exercise');
    for (const { number, title } of EXERCISES) expect(list.stdout).toContain(`${number} ${title}`);
    for (const { number } of BUGS) expect(list.stdout).toContain(`${number} find the bug`);
    const begun = await glimpse('exercise', '9', '--folder', own);
    const file = join(own, '09_lstm_cell.wgsl');
    expect(begun).toMatchObject({ code: 0, stdout: expect.stringContaining(file) });
    expect(readFileSync(file, 'utf8')).toBe(withHoles(textOf('09_lstm_cell.wgsl')));
    const wrong = await glimpse('exercise', '09', '--folder', own, '--quiet');
    expect(wrong.code).toBe(1);
    expect(wrong.stdout).toMatch(
      /^wrong: .*09_lstm_cell\.wgsl: \d+ of \d+ cases are wrong; lstmCell, .*: hNew\[0, 0\] of \[5, 71\] is .*, must be .*\nhint: The order is i, f, g, o/,
    );
    const shown = await glimpse('exercise', '9', '--show');
    expect(`${shown.stdout.trimEnd()}\n`).toBe(solved(textOf('09_lstm_cell.wgsl')));
    writeFileSync(file, shown.stdout);
    const right = await glimpse('exercise', '9', '--folder', own, '--time', '--quiet');
    expect(right.code).toBe(0);
    expect(right.stdout).toMatch(/^right: 30 cases passed\n.*09_lstm_cell\.wgsl: place [12] of 2 on .*\n {2}1\. .* ms\n {2}2\. .* ms\n$/);
    writeFileSync(file, shown.stdout.replace('let cell =', 'let cell = nothing +'));
    const broken = await glimpse('exercise', '9', '--folder', own, '--json', '--quiet');
    expect([broken.code, JSON.parse(broken.stdout)]).toMatchObject([
      1,
      { right: false, says: expect.stringMatching(/\d+:\d+: unresolved value 'nothing'/), hint: expect.any(String) },
    ]);
  }, 60_000);

  test('the exercise of TypeScript: the right numbers by too many products are not enough', async () => {
    expect((await glimpse('exercise', '12', '--folder', own)).code).toBe(0);
    const file = join(own, '12_bptt_one_product.ts');
    const loop = `let sum = null;
      for (let t = 0; t < T; t++) {
        const part = ops.matmul(ops.reshape(ops.slice(h, [t, 0, 0], [1, B, H]), [B, H]), ops.reshape(ops.slice(dp, [t, 0, 0], [1, B, width]), [B, width]), { transA: true });
        sum = sum ? ops.add(sum, part) : part;
      }
      return sum;`;
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replace(/^.*Your lines here.*$/m, () => loop),
    );
    const many = await glimpse('exercise', '12', '--folder', own, '--quiet');
    expect(many).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('the numbers are right, by 5 products with K = 3, 3, 3, 3, 3; one with K = 15 does it'),
    });
  }, 60_000);

  test('what there is not, and what has no effect, is refused', async () => {
    for (const [args, message] of [
      [['13'], 'there is no exercise "13"; there are 1 to 12 and b1 to b6'],
      [['3', '--all'], '--all judges every exercise'],
      [['3', '--show', '--time'], '--time belongs to a file that is judged'],
      [['--all', '--show'], '--show belongs to one exercise'],
      [['3', '--solutions'], '--solutions belongs to --all'],
    ] as const)
      expect(await glimpse('exercise', ...args, '--folder', join(folder, 'never'))).toMatchObject({ code: 2, stderr: expect.stringContaining(message) });
    expect(existsSync(join(folder, 'never'))).toBe(false);
  });
});
