/** `glimpse onnx inspect`, `run` and `profile`, on small models. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { floatTensor, node, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { openFile } from '../src/data/file_source.ts';
import { readValueFile } from '../src/model/onnx/proto.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const model = join(folder, 'model.onnx');
writeOnnx(model, {
  nodes: [node('MatMul', ['x', 'w'], ['p']), node('Add', ['p', 'b'], ['s']), node('Relu', ['s'], ['y']), node('Shape', ['x'], ['n'])],
  initializers: [floatTensor('w', [2, 3], [1, 2, 3, 4, 5, 6]), floatTensor('b', [3], [-10, 0, 0])],
  inputs: [{ name: 'x', shape: [-1, 2] }],
  outputs: ['y', 'n'],
});
const odd = join(folder, 'odd.onnx');
writeOnnx(odd, { nodes: [node('NoSuch', ['x'], ['z']), node('Relu', ['z'], ['y'])], inputs: [{ name: 'x', shape: [2] }], outputs: ['y'] });
const wide = join(folder, 'wide.onnx');
writeOnnx(wide, { nodes: [node('Relu', ['x'], ['y'])], inputs: [{ name: 'x', shape: [2 ** 26 + 1] }], outputs: ['y'] });

test('inspect tells inputs, operators, shapes, work and memory', { timeout: 60_000 }, async () => {
  const { code, stdout } = await glimpse('onnx', 'inspect', model, '--json', '--nodes', '--dim', 'N=4');
  expect(code).toBe(0);
  const { opset, inputs, operators, weights, problem, ran } = JSON.parse(stdout);
  expect({ opset, weights, problem }).toMatchObject({ opset: 13, weights: { tensors: 2, numbers: 9, bytes: 36, types: { float: 9 } }, problem: null });
  expect(inputs).toMatchObject([{ name: 'x', shape: [-1, 2], type: 'float', open: ['N', null] }]);
  expect(operators).toEqual(['Add', 'MatMul', 'Relu', 'Shape'].map((op) => ({ op, nodes: 1, supported: true })));
  expect(ran.nodes.map(({ op, shapes }: { op: string; shapes: number[][] }) => [op, shapes])).toEqual([
    ['FusedMatMul', [[4, 3]]],
    ['Relu', [[4, 3]]],
    ['Shape', [[2]]],
  ]);
  expect(ran.flops).toBeGreaterThanOrEqual(2 * 4 * 2 * 3);
  const text = await glimpse('onnx', 'inspect', model);
  expect(text.stdout).toMatch(/input {4}x: float \[N, 2\]/);
  expect(text.stdout).toMatch(/3 nodes after fusing, \d+ dispatches/);
});

test('inspect tells what would not be supported, without a device', async () => {
  const { code, stdout } = await glimpse('onnx', 'inspect', odd, '--structure');
  expect(code).toBe(1);
  expect(stdout).toMatch(/not supported: NoSuch \(1\)/);
  expect(stdout).toMatch(/does not run: .*node "NoSuch of z": the operator NoSuch is not supported/);
});

test('run takes inputs from files, prints the outputs and writes them', { timeout: 60_000 }, async () => {
  const input = join(folder, 'input.pb');
  writeFileSync(input, floatTensor('x', [2, 2], [1, 2, 3, 4]));
  const out = join(folder, 'out');
  const { code, stdout } = await glimpse('onnx', 'run', model, '--input', `x=${input}`, '--out', out, '--json');
  expect(code).toBe(0);
  expect(JSON.parse(stdout).outputs).toEqual([
    { name: 'y', type: 'float', shape: [2, 3], data: [0, 12, 15, 9, 26, 33] },
    { name: 'n', type: 'int64', shape: [2], data: [2, 2] },
  ]);
  expect(readValueFile(openFile(join(out, 'output_0.pb')), 'float')).toMatchObject({
    name: 'y',
    value: { shape: [2, 3], data: Float32Array.from([0, 12, 15, 9, 26, 33]) },
  });
  expect(Array.from((readValueFile(openFile(join(out, 'output_1.pb')), 'int').value as { data: number[] }).data)).toEqual([2, 2]);
});

test.each([
  [['run', model, '--input', 'z=none.pb'], 2, /the model has no input "z" \(x\)/],
  [['run', model, '--dim', 'M=4'], 2, /no input has an open extent "M" \(N\)/],
  [['run', model, '--dim', 'N=0'], 2, /--dim N: "0" is no extent from 1/],
  [['run', wide], 2, /input "x" \[67108865\]: inputs of more than 67108864 numbers are not made up; give it with --input x=FILE\.pb/],
  [['run', model, '--input', 'x=none.pb'], 1, /none\.pb: no such file/],
  [['run', join(folder, 'none.onnx')], 1, /none\.onnx: no such file/],
  [['inspect', import.meta.filename], 1, /onnx_writer|at byte|holds no ONNX graph/],
] as const)('%j ends with exit %i', { timeout: 60_000 }, async (args, code, message) => {
  const outcome = await glimpse('onnx', ...args);
  expect(outcome.stderr).toMatch(message);
  expect(outcome.code).toBe(code);
  expect(outcome.stdout).toBe('');
});

test('profile counts kernels, and writes a trace', { timeout: 60_000 }, async () => {
  const chrome = join(folder, 'trace.json');
  const { code, stdout, stderr } = await glimpse('onnx', 'profile', model, '--json', '--chrome', chrome);
  if (/has no timestamps/.test(stderr)) return expect(existsSync(chrome)).toBe(false);
  expect(code).toBe(0);
  expect(
    JSON.parse(stdout)
      .rows.map(({ label }: { label: string }) => label)
      .join(),
  ).toMatch(/matmul/);
  expect(JSON.parse(readFileSync(chrome, 'utf8'))).toBeTruthy();
});
