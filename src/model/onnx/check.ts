/** Runs a model on its own test data, `test_data_set_*` folders of input and output tensors, and compares the results. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { compare } from '../../autograd/check.ts';
import { openFile } from '../../data/file_source.ts';
import { FileError, messageOf } from '../../errors.ts';
import { MAX_RANK } from '../../tensor/shape.ts';
import { readTensors, scope, Tensor, tensor } from '../../tensor/tensor.ts';
import { EXACT, fromBits } from './elements.ts';
import { type FileValue, type OnnxGraph, type OnnxInput, readValueFile } from './proto.ts';
import { type Given, OnnxModel, UnsupportedOnnx } from './run.ts';
import { isDevice, onHost, shapeOfValue, typeName, type Value } from './values.ts';

export interface OnnxCase {
  name: string;
  status: 'passed' | 'failed' | 'unsupported';
  reason?: string;
  /** The largest differences; Infinity where an infinity or a NaN stands against another number. Null if nothing was compared. */
  maxAbs: number | null;
  maxRel: number | null;
}

interface Named {
  name: string;
  value: FileValue;
}

/** The files `input_0.pb`, `input_1.pb`, … of a data set: all of them, in order. `declared` says what each holds. */
function valuesOf(folder: string, kind: 'input' | 'output', declared: readonly OnnxInput[]): Named[] {
  const numbers = readdirSync(folder).flatMap((name) => new RegExp(`^${kind}_(\\d+)\\.pb$`).exec(name)?.[1] ?? []);
  const sorted = numbers.sort((a, b) => Number(a) - Number(b));
  const gap = sorted.findIndex((number, i) => Number(number) !== i);
  if (gap >= 0) throw new FileError(folder, `has ${kind}_${sorted[gap]}.pb, but no ${kind}_${gap}.pb`);
  return sorted.map((number, i) => {
    const { name, value } = readValueFile(openFile(join(folder, `${kind}_${number}.pb`)), declared[i]?.kind ?? 'float');
    return { name, value: declared[i]?.type === 'bfloat16' ? fromWords(value) : value };
  });
}

/** ONNX's own test data has bfloat16 as uint16 of the same bits, because NumPy has no such type. */
function fromWords(value: FileValue): FileValue {
  return value.kind === 'int' && value.type === 'uint16'
    ? { ...value, kind: 'float', type: 'bfloat16', data: fromBits('bfloat16', Uint16Array.from(value.data)) }
    : value;
}

/** The values by the input that each belongs to: by their own names if all have one, else in the order of the inputs. */
function byInput(graph: OnnxGraph, given: readonly Named[], folder: string): Map<string, FileValue> {
  const needed = graph.inputs.map(({ name }) => name);
  const all = new Set([...needed, ...graph.defaults.map(({ name }) => name)]);
  const names = given.map(({ name }) => name);
  const isNamed = new Set(names).size === names.length && names.every((name) => all.has(name)) && needed.every((name) => names.includes(name));
  if (isNamed) return new Map(given.map(({ name, value }) => [name, value]));
  const missing = needed[given.length];
  if (missing !== undefined) throw new FileError(folder, `has no input_${given.length}.pb for "${missing}"`);
  if (given.length > needed.length)
    throw new FileError(folder, `has ${given.length} inputs, the model has ${needed.length} without a value: ${needed.join(', ')}`);
  return new Map(needed.map((name, i) => [name, given[i].value]));
}

interface Outcome {
  ok: boolean;
  /** Null if nothing was compared. */
  maxAbs: number | null;
  maxRel: number | null;
  reason?: string;
}

/** A value as a run takes it: floats on the GPU, but for doubles, which keep their digits on the host. */
function asGiven(value: FileValue): Given {
  const isOnGpu = value.kind === 'float' && value.type !== 'double' && value.shape.length <= MAX_RANK;
  return isOnGpu ? tensor(Float32Array.from(value.data), value.shape) : value;
}

const WRONG = { ok: false, maxAbs: Number.POSITIVE_INFINITY, maxRel: Number.POSITIVE_INFINITY };
const SAME: Outcome = { ok: true, maxAbs: 0, maxRel: 0 };

const larger = (a: number | null, b: number | null) => (a === null || b === null ? null : Math.max(a, b));

const worse = (a: Outcome, b: Outcome): Outcome => ({
  ...{ ok: a.ok && b.ok, maxAbs: larger(a.maxAbs, b.maxAbs), maxRel: larger(a.maxRel, b.maxRel) },
  ...((a.reason ?? b.reason) ? { reason: a.reason ?? b.reason } : {}),
});

/** A value of a run, with all of it on the host. */
async function onHostOf(value: Value): Promise<FileValue> {
  if (isDevice(value)) return onHost(value, await value.tensor.data(), shapeOfValue(value));
  if (value.kind === 'sequence') return { ...value, elements: await Promise.all(value.elements.map(onHostOf)) };
  if (value.kind === 'optional') return { ...value, value: value.value && (await onHostOf(value.value)) };
  return value;
}

/** Compares one output. Whole numbers and texts must be equal. */
function compareOutput(i: number | string, came: Value | null, expected: Value | null, rtol: number, atol: number): Outcome {
  const odd = (what: string, mustCome: string): Outcome => ({ ...WRONG, reason: `output ${i} ${what}, expected ${mustCome}` });
  if (!came || !expected) return came === expected ? SAME : odd(came ? 'is there' : 'is nothing', came ? 'nothing' : 'a value');
  if (isDevice(came) || isDevice(expected)) throw new FileError(`output ${i}`, 'was not read back');
  if (came.kind === 'optional' && expected.kind === 'optional') return compareOutput(i, came.value, expected.value, rtol, atol);
  if (came.kind === 'sequence' && expected.kind === 'sequence') {
    const { elements } = expected;
    if (came.elements.length !== elements.length) return odd(`has ${came.elements.length} elements`, String(elements.length));
    return came.elements.map((each, k) => compareOutput(`${i}[${k}]`, each, elements[k], rtol, atol)).reduce(worse, SAME);
  }
  if (came.kind === 'sequence' || came.kind === 'optional' || expected.kind === 'sequence' || expected.kind === 'optional')
    return odd(`is ${typeName(came)}`, typeName(expected));
  if (came.shape.join() !== expected.shape.join() || came.shape.length !== expected.shape.length)
    return { ok: false, maxAbs: null, maxRel: null, reason: `output ${i} is [${came.shape}], expected [${expected.shape}]` };
  if (came.kind !== expected.kind) return odd(`holds ${came.kind}s`, `${expected.kind}s`);
  if (came.kind === 'text' || expected.kind === 'text') {
    const at = (expected.data as string[]).findIndex((text, k) => text !== came.data[k]);
    return at < 0 ? SAME : odd(`is "${came.data[at]}" at place ${at}`, `"${expected.data[at]}"`);
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
  const given = byInput(shared.graph, valuesOf(folder, 'input', shared.graph.inputs), folder);
  const expected = valuesOf(folder, 'output', shared.graph.declared);
  const replaced = shared.graph.defaults.filter(({ name }) => given.has(name)).map(({ name }) => name);
  const model = replaced.length > 0 ? OnnxModel.load(openFile(path), { given: replaced }) : shared;
  try {
    const { outputs } = model.graph;
    if (expected.length !== outputs.length) throw new FileError(folder, `has ${expected.length} outputs, the model has ${outputs.length}`);
    const inputs = Object.fromEntries(Array.from(given, ([name, value]) => [name, asGiven(value)] as const));
    const results = await model.computeAsync(inputs);
    const onDevice = results.filter((result) => result instanceof Tensor);
    const read = new Map((await readTensors(onDevice)).map((values, i) => [onDevice[i] as Given, values]));
    let worst = SAME;
    for (const [i, result] of results.entries()) {
      const came: FileValue =
        result instanceof Tensor ? { kind: 'float', shape: [...result.shape], data: (read.get(result) ?? []) as Float32Array } : await onHostOf(result);
      worst = worse(worst, compareOutput(i, came, expected[i].value, rtol, atol));
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
