/** Runs a model on its own test data, `test_data_set_*` folders of input and output tensors, and compares the results. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { compare } from '../../autograd/check.ts';
import { openFile } from '../../data/file_source.ts';
import { FileError, messageOf } from '../../errors.ts';
import { MAX_RANK } from '../../tensor/shape.ts';
import { readTensors, scope, Tensor, tensor } from '../../tensor/tensor.ts';
import { EXACT } from './elements.ts';
import { type OnnxGraph, readTensorFile } from './proto.ts';
import { type Given, OnnxModel, UnsupportedOnnx } from './run.ts';
import { type HostTensor, type HostText, isHost, typeName } from './values.ts';

export interface OnnxCase {
  name: string;
  status: 'passed' | 'failed' | 'unsupported';
  reason?: string;
  /** The largest differences; Infinity where an infinity or a NaN stands against another number. Null if nothing was compared. */
  maxAbs: number | null;
  maxRel: number | null;
}

type NamedTensor = (HostTensor | HostText) & { name: string };

/** The files `input_0.pb`, `input_1.pb`, … of a data set: all of them, in order. */
function tensorsOf(folder: string, kind: 'input' | 'output'): NamedTensor[] {
  const numbers = readdirSync(folder).flatMap((name) => new RegExp(`^${kind}_(\\d+)\\.pb$`).exec(name)?.[1] ?? []);
  const sorted = numbers.sort((a, b) => Number(a) - Number(b));
  const gap = sorted.findIndex((number, i) => Number(number) !== i);
  if (gap >= 0) throw new FileError(folder, `has ${kind}_${sorted[gap]}.pb, but no ${kind}_${gap}.pb`);
  return sorted.map((number) => readTensorFile(openFile(join(folder, `${kind}_${number}.pb`))));
}

/** The tensors by the input that each belongs to: by their own names if all have one, else in the order of the inputs. */
function byInput(graph: OnnxGraph, given: readonly NamedTensor[], folder: string): Map<string, NamedTensor> {
  const needed = graph.inputs.map(({ name }) => name);
  const all = new Set([...needed, ...graph.defaults.map(({ name }) => name)]);
  const names = given.map(({ name }) => name);
  const isNamed = new Set(names).size === names.length && names.every((name) => all.has(name)) && needed.every((name) => names.includes(name));
  if (isNamed) return new Map(given.map((tensor) => [tensor.name, tensor]));
  const missing = needed[given.length];
  if (missing !== undefined) throw new FileError(folder, `has no input_${given.length}.pb for "${missing}"`);
  if (given.length > needed.length)
    throw new FileError(folder, `has ${given.length} inputs, the model has ${needed.length} without a value: ${needed.join(', ')}`);
  return new Map(needed.map((name, i) => [name, given[i]]));
}

interface Outcome {
  ok: boolean;
  maxAbs: number;
  maxRel: number;
  reason?: string;
}

/** Whether a tensor is computed with on the GPU: floats, but for doubles, which keep their digits on the host. */
const isOnGpu = (value: HostTensor | HostText): value is HostTensor => value.kind === 'float' && value.type !== 'double' && value.shape.length <= MAX_RANK;

const WRONG = { ok: false, maxAbs: Number.POSITIVE_INFINITY, maxRel: Number.POSITIVE_INFINITY };

/** Compares one output. Whole numbers and texts must be equal. */
function compareOutput(i: number, came: HostTensor | HostText, expected: HostTensor | HostText, rtol: number, atol: number): Outcome {
  if (came.kind !== expected.kind) return { ...WRONG, reason: `output ${i} holds ${came.kind}s, expected ${expected.kind}s` };
  if (came.kind === 'text' || expected.kind === 'text') {
    const at = (expected.data as string[]).findIndex((text, k) => text !== came.data[k]);
    return at < 0
      ? { ok: true, maxAbs: 0, maxRel: 0 }
      : { ...WRONG, reason: `output ${i} is "${came.data[at]}" at place ${at}, expected "${expected.data[at]}"` };
  }
  const exact = expected.kind === 'int';
  if (exact && Array.from(expected.data).some((value) => Math.abs(value) >= EXACT))
    throw new FileError(`output ${i}`, 'holds whole numbers beyond 2^53, which cannot be compared');
  const found = compare(came.data, expected.data, exact ? 0 : rtol, exact ? 0 : atol);
  const { first } = found;
  const reason = first
    ? `output ${i} is ${first.came} at place ${first.index}, expected ${first.mustCome} (${exact ? 'exactly' : `rtol ${rtol}, atol ${atol}`})`
    : undefined;
  return { ...found, ...(reason ? { reason } : {}) };
}

async function runCase(path: string, folder: string, rtol: number, atol: number, shared: OnnxModel): Promise<Omit<OnnxCase, 'name'>> {
  using _case = scope();
  const given = byInput(shared.graph, tensorsOf(folder, 'input'), folder);
  const expected = tensorsOf(folder, 'output');
  const replaced = shared.graph.defaults.filter(({ name }) => given.has(name)).map(({ name }) => name);
  const model = replaced.length > 0 ? OnnxModel.load(openFile(path), { given: replaced }) : shared;
  try {
    const { outputs } = model.graph;
    if (expected.length !== outputs.length) throw new FileError(folder, `has ${expected.length} outputs, the model has ${outputs.length}`);
    const inputs = Object.fromEntries(
      Array.from(given, ([name, host]) => [name, isOnGpu(host) ? tensor(Float32Array.from(host.data), host.shape) : host] as const),
    );
    const results = await model.computeAsync(inputs);
    const onDevice = results.filter((result) => result instanceof Tensor);
    const read = new Map((await readTensors(onDevice)).map((values, i) => [onDevice[i] as Given, values]));
    const worst: Outcome = { ok: true, maxAbs: 0, maxRel: 0 };
    for (const [i, result] of results.entries()) {
      const { shape } = expected[i];
      if (!(result instanceof Tensor) && result.kind !== 'text' && !isHost(result))
        throw new FileError(folder, `output ${i} is ${typeName(result)}, which cannot be compared`);
      if (result.shape.join() !== shape.join() || result.shape.length !== shape.length)
        return { status: 'failed', reason: `output ${i} is [${result.shape}], expected [${shape}]`, maxAbs: null, maxRel: null };
      const came: HostTensor | HostText =
        result instanceof Tensor ? { kind: 'float', shape: [...result.shape], data: (read.get(result) ?? []) as Float32Array } : result;
      const found = compareOutput(i, came, expected[i], rtol, atol);
      worst.ok &&= found.ok;
      worst.maxAbs = Math.max(worst.maxAbs, found.maxAbs);
      worst.maxRel = Math.max(worst.maxRel, found.maxRel);
      worst.reason ??= found.reason;
    }
    const { ok, ...rest } = worst;
    return { status: ok ? 'passed' : 'failed', ...rest };
  } finally {
    if (model !== shared) model.dispose();
  }
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
  let sets: string[];
  try {
    sets = readdirSync(folder)
      .filter((name) => name.startsWith('test_data_set_'))
      .sort();
  } catch (error) {
    return [failure(folder, error)];
  }
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
      cases.push({ name, ...(await runCase(path, name, rtol, atol, model)) });
    } catch (error) {
      cases.push(failure(name, error));
    }
  }
  model.dispose();
  return cases;
}
