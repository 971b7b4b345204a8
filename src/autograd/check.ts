/**
 * Checks the table: every version of every kernel against the entry's f64 reference, every gradient against central
 * differences of that reference. Tests and `glimpse selftest` both run this.
 */
import { messageOf } from '../errors.ts';
import { FAMILIES, forceVersion } from '../kernels/families.ts';
import { VersionNotApplicable } from '../kernels/family.ts';
import { Random } from '../random.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import { readTensors, scope, type Tensor, tensor } from '../tensor/tensor.ts';
import { type Op, type OpCase, type Reference, reference } from './op.ts';
import { binaryOf } from './ops/elementwise.ts';
import { reduceOf } from './ops/reduce.ts';
import { apply, backward, gradOf, variable } from './tape.ts';

export interface CaseResult {
  op: string;
  /** The kernel family whose version was forced; null where there is only one way. */
  family: string | null;
  version: string;
  case: string;
  status: 'passed' | 'failed' | 'skipped';
  maxAbs: number;
  maxRel: number;
  reason?: string;
}

const DEFAULT = { rtol: 1e-5, atol: 1e-6 };
/** Gradients chain several float32 operations; relative to the largest element of the tensor. */
const GRADIENT_TOLERANCE = 1e-4;
/** Elements per input whose gradient is compared with a central difference. */
const SAMPLES = 16;

function draw(kind: string, shape: Shape, random: Random): Reference {
  const [name, argument] = kind.split(':');
  switch (name) {
    case 'normal':
      return reference(shape, () => Math.fround(random.normal()));
    case 'positive':
      return reference(shape, () => Math.fround(random.uniform(0.5, 2)));
    case 'unit':
      return reference(shape, () => Math.fround(random.uniform()));
    case 'mask':
      return reference(shape, () => (random.uniform() < 0.3 ? 0 : Math.fround(random.uniform(0.1, 2))));
    case 'outliers':
      return reference(shape, () => Math.fround(random.uniform() < 0.05 ? 30 * Math.sign(random.uniform(-1, 1)) : random.normal()));
    case 'distinct': {
      const order = random.permutation(sizeOf(shape));
      return reference(shape, (i) => Math.fround(0.01 * (order[i] - order.length / 2)));
    }
    case 'ids':
      return reference(shape, () => random.integer(Number(argument)));
    default:
      throw new Error(`no way to draw "${kind}"`);
  }
}

function upload(op: Op, input: number, value: Reference): Tensor {
  const dtype = op.inputTypes?.[input] ?? 'f32';
  return tensor(Array.from(value.data), value.shape, dtype, op.inputs[input] ?? `input ${input}`);
}

/** Largest absolute and relative difference, and whether each element is within atol + rtol · |expected|. */
export function compare(actual: ArrayLike<number>, expected: ArrayLike<number>, rtol: number, atol: number): { ok: boolean; maxAbs: number; maxRel: number } {
  let ok = actual.length === expected.length;
  let maxAbs = 0;
  let maxRel = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]);
    if (!(error <= atol + rtol * Math.abs(expected[i]))) ok = false;
    maxAbs = Math.max(maxAbs, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
    maxRel = Math.max(maxRel, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / Math.max(Math.abs(expected[i]), 1e-3));
  }
  return { ok, maxAbs, maxRel };
}

async function checkForward(op: Op, c: OpCase<unknown>, inputs: readonly Reference[]): Promise<{ ok: boolean; maxAbs: number; maxRel: number }> {
  using _scope = scope();
  const outputs = apply(
    op,
    inputs.map((value, i) => upload(op, i, value)),
    c.attrs,
  );
  const actual = await readTensors(outputs);
  const expected = op.reference(inputs, c.attrs);
  const { rtol, atol } = op.tolerance ?? DEFAULT;
  const results = expected.map((value, i) => compare(actual[i], value.data, rtol, atol));
  return { ok: results.every((r) => r.ok), maxAbs: Math.max(...results.map((r) => r.maxAbs)), maxRel: Math.max(...results.map((r) => r.maxRel)) };
}

/** True for inputs that a gradient is expected for. */
function differentiable(op: Op, c: OpCase<unknown>, input: number): boolean {
  const kind = c.draw?.[input] ?? 'normal';
  return (op.inputTypes?.[input] ?? 'f32') === 'f32' && !kind.startsWith('ids') && !op.constants?.includes(op.inputs[input]);
}

async function checkGradient(
  op: Op,
  c: OpCase<unknown>,
  inputs: readonly Reference[],
  random: Random,
): Promise<{ ok: boolean; maxAbs: number; maxRel: number; reason?: string }> {
  using _scope = scope();
  const tensors = inputs.map((value, i) => upload(op, i, value));
  tensors.forEach((t, i) => {
    if (differentiable(op, c, i)) variable(t);
  });
  const outputs = apply(op, tensors, c.attrs).slice(0, op.gradientOutputs ?? 1);
  const weights = outputs.map((output) => draw('normal', output.shape, random));
  let loss: Tensor | null = null;
  outputs.forEach((output, k) => {
    const part = reduceOf('sum', binaryOf('mul', output, tensor(Array.from(weights[k].data), output.shape)));
    loss = loss ? binaryOf('add', loss, part) : part;
  });
  backward(loss as unknown as Tensor);
  const value = (at: readonly Reference[]): number =>
    op
      .reference(at, c.attrs)
      .slice(0, weights.length)
      .reduce((sum, out, k) => sum + out.data.reduce((s, v, i) => s + v * weights[k].data[i], 0), 0);
  let worst = { ok: true, maxAbs: 0, maxRel: 0 };
  for (let input = 0; input < inputs.length; input++) {
    if (!differentiable(op, c, input)) continue;
    const gradient = gradOf(tensors[input]);
    if (!gradient) return { ok: false, maxAbs: Number.POSITIVE_INFINITY, maxRel: Number.POSITIVE_INFINITY, reason: `no gradient for ${op.inputs[input]}` };
    const actual = await gradient.data();
    const count = Math.min(SAMPLES, actual.length);
    const chosen = Array.from({ length: count }, (_, i) => (actual.length <= SAMPLES ? i : random.integer(actual.length)));
    const expected = chosen.map((index) => {
      const h = 1e-5;
      const shifted = (by: number) => value(inputs.map((x, k) => (k === input ? { shape: x.shape, data: x.data.with(index, x.data[index] + by) } : x)));
      return (shifted(h) - shifted(-h)) / (2 * h);
    });
    const size = Math.max(1e-2, ...expected.map(Math.abs));
    const result = compare(
      chosen.map((index) => actual[index]),
      expected,
      GRADIENT_TOLERANCE,
      GRADIENT_TOLERANCE * size,
    );
    worst = { ok: worst.ok && result.ok, maxAbs: Math.max(worst.maxAbs, result.maxAbs), maxRel: Math.max(worst.maxRel, result.maxAbs / size) };
  }
  return worst;
}

/** What one version of a kernel family is checked on. */
interface Check {
  /** Null where the op's kernels have one version only. */
  family: string | null;
  version: string | null;
  forward: boolean;
  gradient: boolean;
}

/** Runs one case of an op through one version: the result, then its gradient. */
export async function checkCase(op: Op, c: OpCase<unknown>, { family, version, forward, gradient }: Check): Promise<CaseResult[]> {
  const random = new Random(20261122, `${op.name} ${c.name}`);
  const inputs = c.shapes.map((shape, i) => draw(c.draw?.[i] ?? 'normal', shape, random));
  const results: CaseResult[] = [];
  const run = async (name: string, work: () => Promise<{ ok: boolean; maxAbs: number; maxRel: number; reason?: string }>) => {
    const base = { op: op.name, family, version: version ?? 'v1', case: name };
    try {
      const { ok, ...rest } = await work();
      results.push({ ...base, status: ok ? 'passed' : 'failed', ...rest });
    } catch (error) {
      const status = error instanceof VersionNotApplicable ? 'skipped' : 'failed';
      results.push({ ...base, status, maxAbs: 0, maxRel: 0, reason: messageOf(error).split('\n')[0] });
    }
  };
  if (family) forceVersion(family, version);
  try {
    if (forward) await run(c.name, () => checkForward(op, c, inputs));
    if (gradient) await run(`gradient of ${c.name}`, () => checkGradient(op, c, inputs, random));
  } finally {
    if (family) forceVersion(family, null);
  }
  return results;
}

/** What an op is checked on: every version of its kernel family, and of its gradient's where that is another. */
export function checksOf(op: Op): Check[] {
  const differentiated = typeof op.backward === 'function';
  const own = op.family ? FAMILIES[op.family].names : [null];
  const checks: Check[] = own.map((version) => ({ family: op.family ?? null, version, forward: true, gradient: differentiated && !op.gradientFamily }));
  if (op.gradientFamily)
    for (const version of FAMILIES[op.gradientFamily].names) checks.push({ family: op.gradientFamily, version, forward: false, gradient: differentiated });
  return checks;
}

/** Every case of an op through every version of its kernel families. */
export async function checkOp(op: Op): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const check of checksOf(op)) for (const c of op.cases) results.push(...(await checkCase(op, c, check)));
  return results;
}
