/** The check of a model on its own test data. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { floatTensor, intTensor, node, type OnnxParts, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { FileError } from '../src/errors.ts';
import { checkModelFolder, type OnnxCase } from '../src/model/onnx/check.ts';
import { UnsupportedOnnx } from '../src/model/onnx/run.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();

const folder = temporaryFolder();

interface Check {
  parts: OnnxParts;
  inputs: Buffer[];
  outputs: Buffer[];
}

/** A folder with a model and one data set. */
function write(name: string, { parts, inputs, outputs }: Check): string {
  const base = join(folder, name);
  writeOnnx(join(base, 'model.onnx'), parts);
  const set = join(base, 'test_data_set_0');
  mkdirSync(set, { recursive: true });
  inputs.forEach((bytes, i) => {
    writeFileSync(join(set, `input_${i}.pb`), bytes);
  });
  outputs.forEach((bytes, i) => {
    writeFileSync(join(set, `output_${i}.pb`), bytes);
  });
  return base;
}

const check = async (base: string) => (await checkModelFolder(base, 1e-3, 1e-5))[0];

const ofFloats = (op: string, input: number[], output: number[]): Check => ({
  parts: { nodes: [node(op, ['x'], ['y'])], inputs: [{ name: 'x', shape: [input.length] }], outputs: ['y'] },
  inputs: [floatTensor('x', [input.length], input)],
  outputs: [floatTensor('y', [output.length], output)],
});

const ofWhole = (input: number[], output: number[]): Check => ({
  parts: { nodes: [node('Identity', ['x'], ['y'])], inputs: [{ name: 'x', shape: [input.length], type: 7 }], outputs: ['y'] },
  inputs: [intTensor('x', [input.length], input)],
  outputs: [intTensor('y', [output.length], output)],
});

const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];

const CASES: Record<string, [Check, Partial<OnnxCase>]> = {
  'right numbers': [ofFloats('Relu', [-1, 0, 2], [0, 0, 2]), { status: 'passed', maxAbs: 0 }],
  'numbers within the tolerance': [ofFloats('Identity', [1000], [1000.5]), { status: 'passed', maxAbs: 0.5 }],
  'a wrong number': [
    ofFloats('Relu', [-1, 0, 2], [0, 0, 3]),
    { status: 'failed', maxAbs: 1, reason: expect.stringMatching(/output 0 is 2 at place 2, expected 3/) },
  ],
  'another shape': [ofFloats('Relu', [-1, 0, 2], [0, 0]), { status: 'failed', maxAbs: null }],
  'an unknown operator': [ofFloats('NoSuch', [-1, 0, 2], [0, 0, 1]), { status: 'unsupported', maxAbs: null }],
  'infinities and NaN equal themselves': [ofFloats('Identity', [inf, -inf, nan, 1], [inf, -inf, nan, 1]), { status: 'passed', maxAbs: 0 }],
  'a number for an infinity': [ofFloats('Identity', [3e38], [inf]), { status: 'failed', maxAbs: inf, maxRel: inf }],
  'an infinity for a number': [ofFloats('Identity', [inf], [3e38]), { status: 'failed', maxAbs: inf }],
  'the other infinity': [ofFloats('Identity', [-inf], [inf]), { status: 'failed', maxAbs: inf }],
  'a number for a NaN': [ofFloats('Identity', [0], [nan]), { status: 'failed', maxAbs: inf }],
  'a NaN for a number': [ofFloats('Identity', [nan], [0]), { status: 'failed', maxAbs: inf }],
  'whole numbers': [ofWhole([16_777_217, -3], [16_777_217, -3]), { status: 'passed', maxAbs: 0 }],
  'whole numbers that differ by one': [ofWhole([16_777_217, -3], [16_777_216, -3]), { status: 'failed', maxAbs: 1 }],
  'whole numbers beyond 2^53': [ofWhole([Number.MAX_SAFE_INTEGER], [Number.MAX_SAFE_INTEGER]), { status: 'failed', maxAbs: null }],
  'floats for whole numbers': [
    { ...ofWhole([1], [1]), outputs: [floatTensor('y', [1], [1])] },
    { status: 'failed', maxAbs: inf },
  ],
  'an output too many': [
    { ...ofFloats('Relu', [1], [1]), outputs: [floatTensor('y', [1], [1]), floatTensor('z', [1], [1])] },
    { status: 'failed', maxAbs: null },
  ],
  'an input too many': [
    { ...ofFloats('Relu', [1], [1]), inputs: [floatTensor('', [1], [1]), floatTensor('', [1], [1])] },
    { status: 'failed', maxAbs: null },
  ],
  'no input': [
    { ...ofFloats('Relu', [1], [1]), inputs: [] },
    { status: 'failed', reason: expect.stringMatching(/no input_0.pb for "x"/) },
  ],
};

test.each(Object.entries(CASES))('%s', async (name, [given, expected]) => {
  expect(await check(write(name, given))).toMatchObject(expected);
});

test('an initializer that is an input too is replaced by what the data set gives', async () => {
  const parts = {
    nodes: [node('Conv', ['x', 'w'], ['y'])],
    initializers: [floatTensor('w', [1, 1, 1, 1], [3])],
    inputs: [
      { name: 'x', shape: [1, 1, 1, 2] },
      { name: 'w', shape: [1, 1, 1, 1] },
    ],
    outputs: ['y'],
  };
  const x = floatTensor('x', [1, 1, 1, 2], [1, 2]);
  const y = (...values: number[]) => [floatTensor('y', [1, 1, 1, 2], values)];
  expect(await check(write('default', { parts, inputs: [x], outputs: y(3, 6) }))).toMatchObject({ status: 'passed' });
  expect(await check(write('replaced', { parts, inputs: [x, floatTensor('w', [1, 1, 1, 1], [10])], outputs: y(10, 20) }))).toMatchObject({ status: 'passed' });
  expect(await check(write('nameless', { parts, inputs: [x, floatTensor('', [1, 1, 1, 1], [10])], outputs: y(10, 20) }))).toMatchObject({ status: 'failed' });
});

test('what is no model is told in one line, and the other cases are checked', async () => {
  expect((await check(join(folder, 'absent'))).reason).toMatch(/no such file$/);
  const base = write('a folder instead', ofFloats('Relu', [1], [1]));
  rmSync(join(base, 'model.onnx'));
  mkdirSync(join(base, 'model.onnx'));
  expect((await check(base)).reason).toMatch(/model.onnx: is a folder, not an ordinary file$/);
  const two = write('two', ofFloats('Relu', [1], [1]));
  mkdirSync(join(two, 'test_data_set_1'));
  expect((await checkModelFolder(two, 1e-3, 1e-5)).map(({ status }) => status)).toEqual(['passed', 'failed']);
  expect(new UnsupportedOnnx('a', 'b')).toBeInstanceOf(FileError);
});
