/** The package as a stranger gets it: packed, installed in an empty TypeScript project, type-checked and run. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { isBuilt } from '../bin/built.js';
import { temporaryFolder } from './support.ts';

const ROOT = resolve(import.meta.dirname, '..');
const folder = temporaryFolder();
const project = join(folder, 'project');
let archive = '';

/** A program of a stranger: types, values, a gradient, an error by its class. */
const PROGRAM = `import { backward, GpuError, gradOf, openGpu, ops, ShaderError, ShapeError, tensor, variable } from 'glimpse';
const gpu = await openGpu();
const w = variable(tensor([1, 2, 3, 4], [2, 2]));
const y = ops.matmul(tensor([1, 1], [1, 2]), w);
console.log([...(await y.data())].join(' '));
backward(ops.sum(ops.square(y)));
console.log([...((await gradOf(w)?.data()) ?? [])].join(' '));
try {
  ops.matmul(y, tensor([1, 2, 3], [3, 1]));
} catch (error) {
  console.log(error instanceof ShapeError, error instanceof GpuError);
}
await gpu.close();
`.replace('ShaderError, ', '');

const run = (command: string, args: string[], cwd: string): string => execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** What is thrown by a command carries its output. */
function output(work: () => string): string {
  try {
    return work();
  } catch (error) {
    const { stdout, stderr, message } = error as { stdout?: string; stderr?: string; message: string };
    throw new Error(`${message}\n${stdout}\n${stderr}`);
  }
}

function typeCheck(compilerOptions: Record<string, unknown>): string {
  const config = join(project, 'tsconfig.json');
  writeFileSync(
    config,
    JSON.stringify({
      compilerOptions: { strict: true, skipLibCheck: false, noEmit: true, target: 'es2022', types: ['node'], ...compilerOptions },
      include: ['*.ts'],
    }),
  );
  return output(() => run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', config], project));
}

beforeAll(() => {
  // What is built is packed as it stands: a build would write files anew that commands of other tests are just loading.
  const asItStands = isBuilt(ROOT) && existsSync(join(ROOT, 'dist/site/index.html')) ? ['--ignore-scripts'] : [];
  const packed = output(() => run('npm', ['pack', '--json', ...asItStands, '--pack-destination', folder], ROOT));
  const [{ filename }] = JSON.parse(packed.replace(/^[^[{]*/s, ''));
  archive = join(folder, filename);
  const modules = join(project, 'node_modules');
  mkdirSync(join(modules, 'glimpse'), { recursive: true });
  run('tar', ['xzf', archive, '-C', join(modules, 'glimpse'), '--strip-components=1'], folder);
  // The dependencies as they are here: what the package names, and nothing that only its developers have.
  const { dependencies } = JSON.parse(readFileSync(join(modules, 'glimpse', 'package.json'), 'utf8'));
  for (const name of [...Object.keys(dependencies), '@types/node']) {
    const target = join(modules, name);
    mkdirSync(resolve(target, '..'), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules', name), target);
  }
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'stranger', type: 'module', private: true }));
  writeFileSync(join(project, 'program.ts'), PROGRAM);
}, 180_000);

describe('the packed package', () => {
  test('holds what it needs, no tests, and at most 2.6 MB', () => {
    const files = run('tar', ['tzf', archive], folder).trim().split('\n');
    for (const file of [
      'README.md',
      'LICENSE',
      'bin/glimpse.js',
      'dist/src/node.js',
      'dist/src/web.d.ts',
      'dist/src/kernels/wgsl/softmax.wgsl',
      'dist/bench/command.js',
    ])
      expect(files).toContain(`package/${file}`);
    expect(files.filter((file) => /\/(test|oracles|goldens)\/|\.ts$/.test(file) && !file.endsWith('.d.ts') && !file.includes('/study/exercises/'))).toEqual([]);
    expect(statSync(archive).size).toBeLessThanOrEqual(2_600_000);
  });

  test.each([
    ['nodenext', { module: 'nodenext' }],
    ['bundler', { module: 'esnext', moduleResolution: 'bundler' }],
  ])('type-checks in a strict project without skipLibCheck, resolution %s', (_name, options) => {
    expect(typeCheck(options)).toBe('');
  });

  test('runs there, and its command too', () => {
    const compiled = join(project, 'compiled');
    output(() =>
      run(
        process.execPath,
        [
          join(ROOT, 'node_modules/typescript/bin/tsc'),
          'program.ts',
          '--ignoreConfig',
          '--outDir',
          compiled,
          '--module',
          'nodenext',
          '--target',
          'es2022',
          '--types',
          'node',
        ],
        project,
      ),
    );
    const [product, gradient, classes] = output(() => run(process.execPath, [join(compiled, 'program.js')], project))
      .trim()
      .split('\n');
    expect(product).toBe('4 6');
    expect(gradient).toBe('8 12 8 12');
    expect(classes).toBe('true false');
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const glimpse = (...args: string[]) => output(() => run(process.execPath, [join(project, 'node_modules/glimpse/bin/glimpse.js'), ...args], project));
    expect(glimpse('--version').trim()).toBe(version);
    expect(JSON.parse(glimpse('selftest', '--op', 'add', '--json', '--quiet'))).toMatchObject({ failed: 0 });
    const timed = glimpse('bench', 'argmax-token', '--only', '61×4999', '--samples', '3', '--seconds', '0.1', '--json', '--quiet');
    expect(JSON.parse(timed)).toMatchObject({ version, rows: [{ name: 'argmax-token' }], wrong: [] });
  });
});
