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

const DRAW = /^(?<name>\w+)(:(?<bound>\d+))?( plus (?<offset>\S+))?( with (?<guest>\S+))?$/;

/** Values of a kind as OpCase.draw names it. */
function draw(kind: string, shape: Shape, random: Random): Reference {
  const { name, bound, offset, guest } = DRAW.exec(kind)?.groups ?? {};
  const values = drawPlain(name ?? kind, Number(bound), shape, random);
  if (offset) values.data = values.data.map((value) => Math.fround(value + Number(offset)));
  if (guest) values.data[random.integer(values.data.length)] = Number(guest);
  return values;
}

function drawPlain(name: string, bound: number, shape: Shape, random: Random): Reference {
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
      return reference(shape, () => random.integer(bound));
    default:
      throw new Error(`no way to draw "${name}"`);
  }
}

function upload(op: Op, input: number, value: Reference): Tensor {
  const dtype = op.inputTypes?.[input] ?? 'f32';
  return tensor(Array.from(value.data), value.shape, dtype, op.inputs[input] ?? `input ${input}`);
}

/**
 * Largest absolute and relative difference, and whether each element is within atol + rtol · |expected|. An infinity equals
 * itself, and so does a NaN.
 */
export function compare(actual: ArrayLike<number>, expected: ArrayLike<number>, rtol: number, atol: number): { ok: boolean; maxAbs: number; maxRel: number } {
  let ok = actual.length === expected.length;
  let maxAbs = 0;
  let maxRel = 0;
  for (let i = 0; i < expected.length; i++) {
    const same = actual[i] === expected[i] || (Number.isNaN(actual[i]) && Number.isNaN(expected[i]));
    const error = same ? 0 : Math.abs(actual[i] - expected[i]);
    if (!same && !(error <= atol + rtol * Math.abs(expected[i]))) ok = false;
    maxAbs = Math.max(maxAbs, Number.isFinite(error) ? error : Number.POSITIVE_INFINITY);
    maxRel = Math.max(maxRel, Number.isFinite(error) ? error / Math.max(Math.abs(expected[i]), 1e-3) : Number.POSITIVE_INFINITY);
  }
  return { ok, maxAbs, maxRel };
}

/** What a check came to, before it has a name. */
interface Outcome {
  ok: boolean;
  maxAbs: number;
  maxRel: number;
  reason?: string;
}

async function checkForward(op: Op, c: OpCase<unknown>, inputs: readonly Reference[], expected: readonly Reference[], mayBeNaN = false): Promise<Outcome> {
  using _scope = scope();
  const outputs = apply(
    op,
    inputs.map((value, i) => upload(op, i, value)),
    c.attrs,
  );
  const actual = await readTensors(outputs);
  const { rtol, atol } = op.tolerance ?? DEFAULT;
  const wanted = expected.map(({ data }, i) => (mayBeNaN ? data.map((value, k) => (Number.isNaN(actual[i][k]) ? Number.NaN : value)) : data));
  const results = wanted.map((values, i) => compare(actual[i], values, rtol, atol));
  return { ok: results.every((r) => r.ok), maxAbs: Math.max(...results.map((r) => r.maxAbs)), maxRel: Math.max(...results.map((r) => r.maxRel)) };
}

/** True for inputs that a gradient is expected for. */
function differentiable(op: Op, c: OpCase<unknown>, input: number): boolean {
  const kind = c.draw?.[input] ?? 'normal';
  return (op.inputTypes?.[input] ?? 'f32') === 'f32' && !kind.startsWith('ids') && !op.constants?.includes(op.inputs[input]);
}

async function checkGradient(op: Op, c: OpCase<unknown>, inputs: readonly Reference[], random: Random): Promise<Outcome> {
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
export interface Check {
  /** Null where the op's kernels have one version only. */
  family: string | null;
  version: string | null;
  forward: boolean;
  gradient: boolean;
}

/** Runs the checks of one version, each under its name; a version that cannot serve counts as skipped. */
async function withVersion(op: Op, { family, version }: Check, checks: readonly { name: string; work: () => Promise<Outcome> }[]): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  if (family) forceVersion(family, version);
  try {
    for (const { name, work } of checks) {
      const base = { op: op.name, family, version: version ?? 'v1', case: name };
      try {
        const { ok, ...rest } = await work();
        results.push({ ...base, status: ok ? 'passed' : 'failed', ...rest });
      } catch (error) {
        const status = error instanceof VersionNotApplicable ? 'skipped' : 'failed';
        results.push({ ...base, status, maxAbs: 0, maxRel: 0, reason: messageOf(error).split('\n')[0] });
      }
    }
  } finally {
    if (family) forceVersion(family, null);
  }
  return results;
}

const drawInputs = (c: OpCase<unknown>, random: Random): Reference[] => c.shapes.map((shape, i) => draw(c.draw?.[i] ?? 'normal', shape, random));

/** Runs one case of an op through one version: the result, then its gradient where the result is finite. */
export async function checkCase(op: Op, c: OpCase<unknown>, check: Check): Promise<CaseResult[]> {
  const random = new Random(20261122, `${op.name} ${c.name}`);
  const inputs = drawInputs(c, random);
  const expected = op.reference(inputs, c.attrs);
  const checks: { name: string; work: () => Promise<Outcome> }[] = [];
  if (check.forward) checks.push({ name: c.name, work: () => checkForward(op, c, inputs, expected) });
  const finite = expected.every(({ data }) => data.every(Number.isFinite));
  if (check.gradient && finite) checks.push({ name: `gradient of ${c.name}`, work: () => checkGradient(op, c, inputs, random) });
  return withVersion(op, check, checks);
}

/**
 * Runs one case of an op through one version once for each of its float inputs, with a NaN among that input's values. It must
 * reach every result that depends on it, and no other. Convolutions may give more NaNs: most versions multiply padding, too.
 */
export async function checkNaN(op: Op, c: OpCase<unknown>, check: Check): Promise<CaseResult[]> {
  const random = new Random(20261122, `${op.name} ${c.name}, NaN`);
  const checks = op.inputs.slice(0, c.shapes.length).flatMap((input, i) => {
    if ((op.inputTypes?.[i] ?? 'f32') !== 'f32') return [];
    const inputs = drawInputs(c, random);
    inputs[i].data[random.integer(inputs[i].data.length)] = Number.NaN;
    return [{ name: `a NaN in ${input}, ${c.name}`, work: () => checkForward(op, c, inputs, op.reference(inputs, c.attrs), op.family === 'conv2d') }];
  });
  return withVersion(op, check, checks);
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
