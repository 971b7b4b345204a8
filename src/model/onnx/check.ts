/** Runs a model on its own test data, `test_data_set_*` folders of input and output tensors, and compares the results. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { compare } from '../../autograd/check.ts';
import { noGrad } from '../../autograd/tape.ts';
import { openFile } from '../../data/file_source.ts';
import { FileError, messageOf } from '../../errors.ts';
import { readTensors, scope, type Tensor, tensor } from '../../tensor/tensor.ts';
import type { HostTensor } from './proto.ts';
import { readTensorFile } from './proto.ts';
import { OnnxModel, UnsupportedOnnx } from './run.ts';

export interface OnnxCase {
  name: string;
  status: 'passed' | 'failed' | 'unsupported';
  reason?: string;
  maxAbs: number | null;
  maxRel: number | null;
}

function tensorsOf(folder: string, kind: 'input' | 'output'): HostTensor[] {
  const files = readdirSync(folder).filter((name) => new RegExp(`^${kind}_\\d+\\.pb$`).test(name));
  return files.sort((a, b) => Number(a.match(/\d+/)?.[0]) - Number(b.match(/\d+/)?.[0])).map((name) => readTensorFile(openFile(join(folder, name))));
}

async function runCase(model: OnnxModel, folder: string, rtol: number, atol: number): Promise<Omit<OnnxCase, 'name'>> {
  using _case = scope();
  const inputs: Record<string, Tensor | HostTensor> = {};
  const given = tensorsOf(folder, 'input');
  model.graph.inputs.forEach(({ name }, i) => {
    const host = given[i];
    if (!host) throw new FileError(folder, `has no input_${i}.pb for "${name}"`);
    inputs[name] = host.kind === 'int' ? host : tensor(host.data as Float32Array, host.shape);
  });
  const expected = tensorsOf(folder, 'output');
  if (expected.length === 0) throw new FileError(folder, 'has no output_0.pb');
  const outputs = noGrad(() => model.run(inputs, model.graph.outputs.slice(0, expected.length)));
  const values = await readTensors(outputs);
  let worst = { ok: true, maxAbs: 0, maxRel: 0 };
  for (const [i, { data, shape }] of expected.entries()) {
    if (outputs[i].shape.join() !== shape.join())
      return { status: 'failed', reason: `output ${i} is [${outputs[i].shape}], expected [${shape}]`, maxAbs: null, maxRel: null };
    const found = compare(values[i], data, rtol, atol);
    worst = { ok: worst.ok && found.ok, maxAbs: Math.max(worst.maxAbs, found.maxAbs), maxRel: Math.max(worst.maxRel, found.maxRel) };
  }
  return {
    status: worst.ok ? 'passed' : 'failed',
    ...(worst.ok ? {} : { reason: `beyond rtol ${rtol}, atol ${atol}` }),
    maxAbs: worst.maxAbs,
    maxRel: worst.maxRel,
  };
}

/** Checks every data set of a model's folder. An error in one case does not hide the others. */
export async function checkModelFolder(folder: string, rtol: number, atol: number): Promise<OnnxCase[]> {
  const path = join(folder, 'model.onnx');
  const failure = (name: string, error: unknown): OnnxCase => ({
    name,
    status: error instanceof UnsupportedOnnx ? 'unsupported' : 'failed',
    reason: messageOf(error),
    maxAbs: null,
    maxRel: null,
  });
  if (!existsSync(path)) return [failure(folder, new FileError(path, 'no such file'))];
  const sets = readdirSync(folder)
    .filter((name) => name.startsWith('test_data_set_'))
    .sort();
  if (sets.length === 0) return [failure(folder, new FileError(folder, 'has no test_data_set_* folder'))];
  let model: OnnxModel;
  try {
    model = OnnxModel.load(openFile(path));
  } catch (error) {
    return sets.map((set) => failure(join(folder, set), error));
  }
  const cases: OnnxCase[] = [];
  for (const set of sets) {
    const name = join(folder, set);
    try {
      cases.push({ name, ...(await runCase(model, name, rtol, atol)) });
    } catch (error) {
      cases.push(failure(name, error));
    }
  }
  model.dispose();
  return cases;
}
