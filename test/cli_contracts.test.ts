/** The command line as programs meet it: JSON contracts, exit codes, reasons; and when what was built runs. */
import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { floatTensor, node, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { isBuilt } from '../bin/built.js';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

test('what was built runs only while no source is newer', () => {
  const root = join(folder, 'built');
  const source = join(root, 'src', 'kernels', 'add.wgsl');
  mkdirSync(join(root, 'src', 'kernels'), { recursive: true });
  mkdirSync(join(root, 'dist'));
  writeFileSync(source, '');
  expect(isBuilt(root)).toBe(false);
  writeFileSync(join(root, 'dist', 'built'), '');
  expect(isBuilt(root)).toBe(true);
  const later = new Date(Date.now() + 5000);
  utimesSync(source, later, later);
  expect(isBuilt(root)).toBe(false);
});

describe('contracts', () => {
  test('doctor', async () => {
    const { code, stdout } = await glimpse('doctor', '--json');
    expect(code).toBe(0);
    const report = JSON.parse(stdout); // JSON alone on stdout
    expect(report).toMatchObject({
      adapter: expect.any(String),
      driver: expect.any(String),
      software: expect.any(Boolean),
      features: expect.any(Array),
      limits: expect.any(Object),
      advice: expect.any(Array),
      works: true,
    });
    const text = await glimpse('doctor');
    expect(text.stdout).toContain(report.adapter);
  });

  test('selftest', async () => {
    const { code, stdout } = await glimpse('selftest', '--op', 'add', 'softmax', '--json');
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ failed: 0, adapter: expect.any(String), passed: expect.any(Number), skipped: expect.any(Number) });
    expect(report.passed + report.skipped).toBe(report.cases.length);
    expect(report.cases[0]).toMatchObject({
      op: 'add',
      version: 'v1',
      case: expect.any(String),
      status: 'passed',
      maxAbs: expect.any(Number),
      maxRel: expect.any(Number),
    });
  });

  test('onnx check', async () => {
    const base = join(folder, 'relu');
    writeOnnx(join(base, 'model.onnx'), { nodes: [node('Relu', ['x'], ['y'])], inputs: [{ name: 'x', shape: [2] }], outputs: ['y'] });
    mkdirSync(join(base, 'test_data_set_0'));
    writeFileSync(join(base, 'test_data_set_0', 'input_0.pb'), floatTensor('x', [2], [-1, 2]));
    writeFileSync(join(base, 'test_data_set_0', 'output_0.pb'), floatTensor('y', [2], [0, 2]));
    const good = await glimpse('onnx', 'check', base, '--json');
    expect(good.code).toBe(0);
    expect(JSON.parse(good.stdout)).toEqual({
      passed: 1,
      failed: 0,
      unsupported: 0,
      cases: [{ name: join(base, 'test_data_set_0'), status: 'passed', maxAbs: 0, maxRel: 0 }],
    });
    writeFileSync(join(base, 'test_data_set_0', 'output_0.pb'), floatTensor('y', [2], [0, 3]));
    expect((await glimpse('onnx', 'check', base)).code).toBe(1);
    expect((await glimpse('onnx', 'check', base, '--rtol', '1')).code).toBe(0);
  });
});

describe('bad usage ends with 2, failed work with 1, both with a reason', () => {
  test.each([
    [['nonsense'], 2, /unknown command/],
    [['selftest', '--op', 'nonsense'], 2, /the ops are/],
    [['selftest', '--nonsense'], 2, /unknown option/],
    [['caption'], 2, /missing required argument/],
    [['train', '--data', 'x'], 2, /required option/],
    [['demo', '--epochs', 'many'], 2, /--epochs takes a whole number of at least 1, got "many"/],
    [['doctor', '--adapter', 'null'], 2, /null backend executes nothing/],
    [['selftest', '--adapter', 'no-such-card'], 1, /an adapter named like "no-such-card"/],
    [['selftest', '--golden', '/no/such/file'], 1, /\/no\/such\/file/],
    [['caption', '/no/such/run', '/no/such/picture.jpg'], 1, /picture\.jpg: no such file/],
    [['prepare', '--images', '.', '--out', '/tmp/x.json'], 2, /give one of --flickr with split lists, --coco-train/],
  ])('%j', async (args, code, message) => {
    const outcome = await glimpse(...args);
    expect(outcome.stderr).toMatch(message);
    expect(outcome.code).toBe(code);
    expect(outcome.stdout).toBe('');
    expect(outcome.stderr).not.toMatch(/at .*\.ts:\d+/); // no stack for a user's mistake
  });
});
