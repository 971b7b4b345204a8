/** The check of a model on its own test data. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FileError } from '../src/errors.ts';
import { checkModelFolder } from '../src/model/onnx/check.ts';
import { UnsupportedOnnx } from '../src/model/onnx/run.ts';
import { floatTensor, node, writeOnnx } from './onnx_writer.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();

const folder = temporaryFolder();

test('onnx check counts passes, failures and unsupported cases apart', async () => {
  const base = join(folder, 'check');
  const write = (name: string, op: string, output: number[]) => {
    writeOnnx(join(base, name, 'model.onnx'), { nodes: [node(op, ['x'], ['y'])], inputs: [{ name: 'x', shape: [3] }], outputs: ['y'] });
    mkdirSync(join(base, name, 'test_data_set_0'), { recursive: true });
    writeFileSync(join(base, name, 'test_data_set_0', 'input_0.pb'), floatTensor('x', [3], [-1, 0, 2]));
    writeFileSync(join(base, name, 'test_data_set_0', 'output_0.pb'), floatTensor('y', [output.length], output));
  };
  write('good', 'Relu', [0, 0, 2]);
  write('wrong', 'Relu', [0, 0, 3]);
  write('shape', 'Relu', [0, 0]);
  write('unknown', 'Hardmax', [0, 0, 1]);
  const status = async (name: string) => (await checkModelFolder(join(base, name), 1e-3, 1e-5)).map((c) => c.status);
  expect(await status('good')).toEqual(['passed']);
  expect(await status('wrong')).toEqual(['failed']);
  expect(await status('shape')).toEqual(['failed']);
  expect(await status('unknown')).toEqual(['unsupported']);
  expect(await status('absent')).toEqual(['failed']);
  expect(new UnsupportedOnnx('a', 'b')).toBeInstanceOf(FileError);
});
