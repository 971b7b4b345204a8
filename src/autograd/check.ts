/**
 * Checks the op table: every version of every kernel against the entry's f64 reference, and every gradient against central
 * differences of that reference. Tests, `glimpse selftest` and the tuner run this.
 */
import { GlimpseError, GpuError, messageOf } from '../errors.ts';
import { currentGpu } from '../gpu/gpu.ts';
import { familyOf, forceVersion } from '../kernels/families.ts';
import { VersionNotApplicable } from '../kernels/family.ts';
import { Random } from '../random.ts';
import { placeOf, type Shape, sizeOf } from '../tensor/shape.ts';
import { empty, full, readTensors, scope, type Tensor, tensor } from '../tensor/tensor.ts';
import { drawn } from './draw.ts';
import type { Op, OpCase, Reference } from './op.ts';
import { binaryOf } from './ops/elementwise.ts';
import { OPS, opsOf } from './ops/index.ts';
import { reduceOf } from './ops/reduce.ts';
import { apply, backward, gradOf, variable } from './tape.ts';

/** What came of one case of an op with one version: how far it was off, what was wrong first, or why it was skipped. */
export interface CaseResult {
  op: string;
  /** The kernel family whose version was forced; null if the kernels have one version only. */
  family: string | null;
  version: string;
  case: string;
  status: 'passed' | 'failed' | 'skipped';
  maxAbs: number;
  maxRel: number;
  reason?: string;
}

const DEFAULT = { rtol: 1e-5, atol: 1e-6 };
/** Relative to the largest element of the gradient. It is looser because gradients chain several float32 operations. */
const GRADIENT_TOLERANCE = 1e-4;
/** Elements per input whose gradient is compared with a central difference of its own, the first and the last among them. */
const SAMPLES = 8;

/** An input on the device. Ids go through a copy there: those that `apply` would refuse from the host must be right, too. */
function upload(op: Op, input: number, value: Reference): Tensor {
  const dtype = op.inputTypes?.[input] ?? 'f32';
  const name = op.inputs[input] ?? `input ${input}`;
  const written = tensor(dtype === 'f32' ? new Float32Array(value.data) : Array.from(value.data), value.shape, dtype, name);
  if (!op.ids?.[name]) return written;
  const ids = empty(value.shape, dtype, name);
  ids.gpu.copy(written.slice, ids.slice, ids.size * 4);
  return ids;
}

/** An element that is wrong: its place in the tensor, what came, and what must come. */
interface WrongElement {
  index: number;
  came: number;
  mustCome: number;
}

/**
 * The largest absolute and relative difference, and the first element that is not within atol + rtol · |expected|. An infinity
 * equals itself only, and so does a NaN: against a finite number the difference is infinite. `ok` is false also if the numbers of
 * elements differ.
 */
export function compare(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  rtol: number,
  atol: number,
): { ok: boolean; maxAbs: number; maxRel: number; first: WrongElement | null } {
  let first: WrongElement | null = null;
  let maxAbs = 0;
  let maxRel = 0;
  for (let i = 0; i < expected.length; i++) {
    const came = actual[i];
    const mustCome = expected[i];
    if (came === mustCome || (Number.isNaN(came) && Number.isNaN(mustCome))) continue;
    const error = Math.abs(came - mustCome);
    const hasEnd = Number.isFinite(error);
    if (!hasEnd || error > atol + rtol * Math.abs(mustCome)) first ??= { index: i, came, mustCome };
    maxAbs = Math.max(maxAbs, hasEnd ? error : Number.POSITIVE_INFINITY);
    maxRel = Math.max(maxRel, hasEnd ? error / Math.max(Math.abs(mustCome), 1e-3) : Number.POSITIVE_INFINITY);
  }
  return { ok: first === null && actual.length === expected.length, maxAbs, maxRel, first };
}

/** "y[1, 2] of [3, 5] is 0.5, must be 0.25 (float64)". */
function wrongElement(name: string, shape: Shape, { index, came, mustCome }: WrongElement): string {
  return `${name}[${placeOf(index, shape).join(', ')}] of [${shape.join(', ')}] is ${came}, must be ${Math.fround(mustCome)}`;
}

/** The result of a check, before it has a name. */
interface Outcome {
  ok: boolean;
  maxAbs: number;
  maxRel: number;
  /** For a check that failed: the first wrong element. */
  reason?: string;
}

/** True for inputs that a gradient is expected for. */
function differentiable(op: Op, c: OpCase<unknown>, input: number): boolean {
  const kind = c.draw?.[input] ?? 'normal';
  return (op.inputTypes?.[input] ?? 'f32') === 'f32' && !kind.startsWith('ids') && !op.constants?.includes(op.inputs[input]);
}

/** False where all inputs are ids, as those that make ties are: the case has no gradient then, though the op has one. */
const isDifferentiable = (op: Op, c: OpCase<unknown>): boolean => c.shapes.some((_, input) => differentiable(op, c, input));

/** What the reference says of one input's gradient: slopes at some elements, and along a direction that moves all of them. */
interface Slopes {
  input: number;
  indices: number[];
  each: number[];
  direction: Float64Array;
  along: number;
}

/** A case with its values and what its reference says of them, worked out once for all versions. */
class Problem {
  readonly inputs: Reference[];
  readonly expected: Reference[];
  private readonly random: Random;
  private found: { weights: Reference[]; slopes: Slopes[] } | null = null;

  /** With `put`, one value of an input is replaced: by a NaN, or by an id that there is not. */
  constructor(
    readonly op: Op,
    readonly c: OpCase<unknown>,
    put: { input: number; value: number } | null = null,
  ) {
    this.random = new Random(20261122, `${op.name} ${c.name}${put === null ? '' : ', NaN'}`);
    this.inputs = c.shapes.map((shape, i) => drawn(c.draw?.[i] ?? 'normal', shape, this.random));
    if (put) {
      const { data } = this.inputs[put.input];
      data[this.random.integer(data.length)] = put.value;
    }
    this.expected = op.reference(this.inputs, c.attrs);
    if (!put && this.expected.some(({ data }) => data.some(Number.isNaN))) throw new Error(`${op.name}, ${c.name}: the reference makes a NaN`);
  }

  get isFinite(): boolean {
    return this.expected.every(({ data }) => data.every(Number.isFinite));
  }

  /** Weights that make a loss of the outputs, and the loss's slopes by central differences. */
  gradient(): { weights: Reference[]; slopes: Slopes[] } {
    this.found ??= this.differentiate();
    return this.found;
  }

  private differentiate(): { weights: Reference[]; slopes: Slopes[] } {
    const { op, c, inputs, random } = this;
    const weights = this.expected.slice(0, op.gradientOutputs ?? 1).map(({ shape }) => drawn('normal', shape, random));
    // An id that there is not makes outputs NaN, which take no gradient further.
    const counted = weights.map(({ shape, data }, k) => ({ shape, data: data.map((weight, i) => (Number.isNaN(this.expected[k].data[i]) ? 0 : weight)) }));
    const slope = (input: number, h: number, moved: (x: Float64Array, by: number) => Float64Array): number => {
      const at = (by: number) => lossOf(op, c, replaced(inputs, input, moved(inputs[input].data, by)), counted);
      return (at(h) - at(-h)) / (2 * h);
    };
    const slopes = inputs.flatMap(({ data }, input): Slopes[] => {
      if (!differentiable(op, c, input)) return [];
      const indices =
        data.length <= SAMPLES ? Array.from(data.keys()) : [0, ...Array.from({ length: SAMPLES - 2 }, () => random.integer(data.length)), data.length - 1];
      const direction = Float64Array.from(data, () => (random.uniform() < 0.5 ? -1 : 1));
      return [
        {
          input,
          indices,
          each: indices.map((index) => slope(input, 1e-5, (x, by) => x.with(index, x[index] + by))),
          direction,
          along: slope(input, 1e-6, (x, by) => x.map((value, i) => value + by * direction[i])),
        },
      ];
    });
    return { weights, slopes };
  }
}

/** Σ weights · outputs, over the outputs that may have a gradient. With a weight of 0, an output counts nothing, even if it is NaN. */
function lossOf(op: Op, c: OpCase<unknown>, inputs: readonly Reference[], weights: readonly Reference[]): number {
  const outputs = op.reference(inputs, c.attrs);
  return weights.reduce((sum, weight, k) => sum + outputs[k].data.reduce((s, value, i) => s + (weight.data[i] === 0 ? 0 : value * weight.data[i]), 0), 0);
}

/** The inputs with other values for one of them. */
function replaced(inputs: readonly Reference[], input: number, data: Float64Array): Reference[] {
  return inputs.map((x, i) => (i === input ? { shape: x.shape, data } : x));
}

/**
 * Buffers that are reused hold the results of the version checked before, which are right. They are freed, and NaNs lie where
 * the next version's tensors will: what it does not write cannot pass.
 */
function forgetResults({ inputs, expected }: Problem): void {
  currentGpu().pool.trim();
  using _scope = scope();
  for (const { data } of [...inputs, ...expected]) for (let copy = 0; copy < 2; copy++) full([data.length], Number.NaN);
}

async function checkForward(problem: Problem, mayBeNaN = false): Promise<Outcome> {
  using _scope = scope();
  const { op, c, inputs, expected } = problem;
  forgetResults(problem);
  const outputs = apply(
    op,
    inputs.map((value, i) => upload(op, i, value)),
    c.attrs,
  );
  const actual = await readTensors(outputs);
  const { rtol, atol } = op.tolerance ?? DEFAULT;
  const wanted = expected.map(({ data }, i) => (mayBeNaN ? data.map((value, k) => (Number.isNaN(actual[i][k]) ? Number.NaN : value)) : data));
  const results = wanted.map((values, i) => compare(actual[i], values, rtol, atol));
  const bad = results.findIndex(({ ok }) => !ok);
  const { first = null } = results[bad] ?? {};
  return {
    ok: bad < 0,
    maxAbs: Math.max(...results.map((r) => r.maxAbs)),
    maxRel: Math.max(...results.map((r) => r.maxRel)),
    ...(first ? { reason: wrongElement(op.outputs[bad] ?? `output ${bad}`, expected[bad].shape, first) } : {}),
  };
}

/** The gradients of Σ weights · outputs on the device, by the input. */
function gradientsOf(
  op: Op,
  c: OpCase<unknown>,
  inputs: readonly Reference[],
  weights: readonly Reference[],
  wanted: readonly number[],
): Map<number, Tensor | null> {
  const tensors = inputs.map((value, i) => upload(op, i, value));
  for (const input of wanted) variable(tensors[input]);
  const outputs = apply(op, tensors, c.attrs);
  const parts = weights.map((weight, k) => reduceOf('sum', binaryOf('mul', outputs[k], tensor(Array.from(weight.data), weight.shape))));
  backward(parts.reduce((sum, part) => binaryOf('add', sum, part)));
  return new Map(wanted.map((input) => [input, gradOf(tensors[input])]));
}

async function checkGradient(problem: Problem): Promise<Outcome> {
  using _scope = scope();
  forgetResults(problem);
  const { op, c, inputs } = problem;
  const { weights, slopes } = problem.gradient();
  const gradients = gradientsOf(
    op,
    c,
    inputs,
    weights,
    slopes.map(({ input }) => input),
  );
  let worst: Outcome = { ok: true, maxAbs: 0, maxRel: 0 };
  for (const { input, indices, each, direction, along } of slopes) {
    const gradient = gradients.get(input);
    if (!gradient) return { ok: false, maxAbs: Number.POSITIVE_INFINITY, maxRel: Number.POSITIVE_INFINITY, reason: `no gradient for ${op.inputs[input]}` };
    const actual = new Float64Array(await gradient.data());
    const check = (found: number[], wanted: number[], size: number, reasonOf: (first: WrongElement) => string) => {
      const { ok, maxAbs, first } = compare(found, wanted, GRADIENT_TOLERANCE, GRADIENT_TOLERANCE * size);
      const reason = worst.reason ?? (first ? reasonOf(first) : undefined);
      worst = { ok: worst.ok && ok, maxAbs: Math.max(worst.maxAbs, maxAbs), maxRel: Math.max(worst.maxRel, maxAbs / size), ...(reason ? { reason } : {}) };
    };
    const name = `d${op.inputs[input]}`;
    const chosen = indices.map((index) => actual[index]);
    const byIndex = (first: WrongElement) => wrongElement(name, inputs[input].shape, { ...first, index: indices[first.index] });
    check(chosen, each, Math.max(1e-2, ...each.map(Math.abs)), byIndex);
    // Moving all elements at once finds one that is wrong, or was never written, anywhere.
    const norm = Math.sqrt(actual.reduce((sum, value) => sum + (Number.isFinite(value) ? value * value : 0), 0));
    const missing = actual.findIndex((value) => !Number.isFinite(value));
    const bySum = ({ came, mustCome }: WrongElement) =>
      missing >= 0
        ? wrongElement(name, inputs[input].shape, { index: missing, came: actual[missing], mustCome: 0 }).replace(/, must be .*/, ', must be a number')
        : `${name} of [${inputs[input].shape.join(', ')}]: its sum with random signs is ${came}, must be ${mustCome}`;
    check([actual.reduce((sum, value, i) => sum + value * direction[i], 0)], [along], Math.max(1e-2, norm), bySum);
  }
  return worst;
}

/** What is checked with one version of a kernel family. */
export interface Check {
  /** Null if the op's kernels have one version only. */
  family: string | null;
  version: string | null;
  forward: boolean;
  gradient: boolean;
}

/** Runs the checks with one version forced. A check that the version cannot serve counts as skipped. */
async function withVersion(op: Op, { family, version }: Check, checks: readonly { name: string; work: () => Promise<Outcome> }[]): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  if (family) forceVersion(family, version);
  try {
    for (const { name, work } of checks) {
      const base = { op: op.name, family, version: version ?? 'v1', case: name };
      const before = family ? familyOf(family).launches : 0;
      try {
        const { ok, ...rest } = await work();
        if (isUsers(version) && family && familyOf(family).launches === before)
          results.push({ ...base, status: 'skipped', maxAbs: 0, maxRel: 0, reason: 'this case runs another kernel' });
        else results.push({ ...base, status: ok ? 'passed' : 'failed', ...rest });
      } catch (error) {
        if (error instanceof GpuError && error.kind === 'lost') throw error; // says nothing about the kernel
        const status = error instanceof VersionNotApplicable ? 'skipped' : 'failed';
        results.push({ ...base, status, maxAbs: 0, maxRel: 0, reason: messageOf(error).split('\n')[0] });
      }
    }
  } finally {
    if (family) forceVersion(family, null);
  }
  return results;
}

/** Checks one case with one version: the result, then the gradient if the result is finite. */
async function checkCase(problem: Problem, check: Check): Promise<CaseResult[]> {
  const { op, c } = problem;
  const checks: { name: string; work: () => Promise<Outcome> }[] = [];
  if (check.forward) checks.push({ name: c.name, work: () => checkForward(problem) });
  if (check.gradient && problem.isFinite && isDifferentiable(op, c)) checks.push({ name: `gradient of ${c.name}`, work: () => checkGradient(problem) });
  return withVersion(op, check, checks);
}

/** Elements of each input whose gradient is looked at when there is a NaN. */
const NAN_SAMPLES = 2;
/** A slope depends on a value if moving the value by one of these changes it. They are far enough to cross the kink of a ReLU. */
const MOVES = [3, 1000, -1000];
const NAN_STEP = 1e-3;

/** Places of an input, and whether the gradient must be NaN there. */
type NaNPlaces = Map<number, boolean>;

/** Inputs and weights, one of them with a NaN, and what must come of it, by the input. */
interface Poisoned {
  inputs: readonly Reference[];
  weights: readonly Reference[];
  wanted: ReadonlyMap<number, NaNPlaces>;
}

/** Whether the gradients are NaN where they must be, and at none of the other places. */
async function checkNaNPlaces(problem: Problem, { inputs, weights, wanted }: Poisoned): Promise<Outcome> {
  using _scope = scope();
  forgetResults(problem);
  const { op, c } = problem;
  const gradients = gradientsOf(op, c, inputs, weights, [...wanted.keys()]);
  for (const [input, places] of wanted) {
    const found = (await gradients.get(input)?.data()) ?? [];
    for (const [index, must] of places) {
      const came = found[index];
      if (Number.isNaN(came) === must) continue;
      const element = wrongElement(`d${op.inputs[input]}`, inputs[input].shape, { index, came, mustCome: Number.NaN });
      const reason = must ? element : element.replace(/must be NaN$/, 'must be a number');
      return { ok: false, maxAbs: Number.POSITIVE_INFINITY, maxRel: Number.POSITIVE_INFINITY, reason };
    }
  }
  return { ok: true, maxAbs: 0, maxRel: 0 };
}

/**
 * With a NaN in one input, the gradient must be NaN where it depends on that value. The reference shows where: the slope changes
 * there when the value is moved. It must be a number where no output depends on both. Elsewhere, or at a slope of 0, it may be either.
 */
function withNaN(problem: Problem, poisoned: number): Poisoned {
  const { op, c, inputs } = problem;
  const { weights } = problem.gradient();
  const random = new Random(20261122, `${op.name} ${c.name}, a NaN in ${poisoned}`);
  const { data } = inputs[poisoned];
  const at = random.integer(data.length);
  const moved = (by: number) => replaced(inputs, poisoned, data.with(at, data[at] + by));
  const noiseOf = (from: readonly Reference[]): number => 1e-7 * Math.max(1, Math.abs(lossOf(op, c, from, weights)));
  const noise = noiseOf(inputs);
  const moves = MOVES.map((by) => ({ from: moved(by), noise: noiseOf(moved(by)) }));
  const poison = moved(Number.NaN);
  const outputs = op.reference(poison, c.attrs);
  const slope = (from: readonly Reference[], input: number, index: number): number => {
    const { data: values } = from[input];
    const loss = (by: number) => lossOf(op, c, replaced(from, input, values.with(index, values[index] + by)), weights);
    return (loss(NAN_STEP) - loss(-NAN_STEP)) / (2 * NAN_STEP);
  };
  const sharesNaN = (input: number, index: number): boolean => {
    const own = op.reference(replaced(inputs, input, inputs[input].data.with(index, Number.NaN)), c.attrs);
    return weights.some((_, k) => outputs[k].data.some((value, i) => Number.isNaN(value) && Number.isNaN(own[k].data[i])));
  };
  const placesOf = ({ data: values }: Reference, input: number): NaNPlaces => {
    const places = Array.from({ length: NAN_SAMPLES }, () => random.integer(values.length));
    const found: NaNPlaces = new Map();
    for (const index of input === poisoned ? [at, ...places] : places) {
      const before = slope(inputs, input, index);
      const depends = !op.routes && moves.some((move) => Math.abs(slope(move.from, input, index) - before) > move.noise);
      if (depends || (Math.abs(before) > noise && !sharesNaN(input, index))) found.set(index, depends);
    }
    return found;
  };
  const wanted = new Map(inputs.flatMap((x, input) => (differentiable(op, c, input) ? [[input, placesOf(x, input)] as const] : [])));
  return { inputs: poison, weights, wanted };
}

/** A NaN in the gradient of an output must reach the gradient of what that output depends on. */
function withNaNAbove(problem: Problem, input: number): Poisoned {
  const { op, c, inputs } = problem;
  const { weights } = problem.gradient();
  const random = new Random(20261122, `${op.name} ${c.name}, a NaN above ${input}`);
  const { data } = inputs[input];
  const index = random.integer(data.length);
  const [lower, upper] = [-NAN_STEP, NAN_STEP].map((by) => op.reference(replaced(inputs, input, data.with(index, data[index] + by)), c.attrs));
  const changes = weights.map((_, k) => lower[k].data.map((value, i) => Math.abs(upper[k].data[i] - value)));
  const largest = changes.map((all) => all.reduce((best, value, i) => (value > all[best] ? i : best), 0));
  const output = largest.reduce((best, place, k) => (changes[k][place] > changes[best][largest[best]] ? k : best), 0);
  const depends = changes[output][largest[output]] > 0; // on a number that ReLU cuts, nothing does
  const poison = replaced(weights, output, weights[output].data.with(largest[output], Number.NaN));
  return { inputs, weights: poison, wanted: new Map([[input, new Map(depends ? [[index, true]] : [])]]) };
}

/** Keeps what `make` gives, and makes it when it is first wanted. */
function once<T>(make: () => T): () => T {
  let made: { value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** The checks of one case with NaNs, and with ids that there are not. What the reference says is worked out once for all versions. */
function nanChecks(op: Op, c: OpCase<unknown>): (check: Check) => { name: string; work: () => Promise<Outcome> }[] {
  const sound = new Problem(op, c);
  const all: { ofGradient: boolean; name: string; work: () => Promise<Outcome> }[] = [];
  const add = (ofGradient: boolean, name: string, work: () => Promise<Outcome>) => all.push({ ofGradient, name: `${name}, ${c.name}`, work });
  c.shapes.forEach((_, i) => {
    const input = op.inputs[i] ?? `input ${i}`;
    const put = (value: number) => once(() => new Problem(op, c, { input: i, value }));
    const { below, masked } = op.ids?.[input] ?? {};
    if (below) {
      const bound = below(c.shapes, c.attrs);
      for (const value of [bound, 2 ** 32 - 1]) {
        const problem = put(value);
        add(false, `${value} in ${input}`, () => checkForward(problem()));
        if (!masked) add(true, `gradient with ${value} in ${input}`, () => checkGradient(problem()));
      }
    }
    if ((op.inputTypes?.[i] ?? 'f32') !== 'f32') return;
    const problem = put(Number.NaN);
    add(false, `a NaN in ${input}`, () => checkForward(problem(), (op.family ?? op.runs?.[0]) === 'conv2d'));
    if (!sound.isFinite || !isDifferentiable(op, c)) return;
    const poisoned = once(() => withNaN(sound, i));
    add(true, `gradient with a NaN in ${input}`, () => checkNaNPlaces(sound, poisoned()));
    if (!differentiable(op, c, i)) return;
    const above = once(() => withNaNAbove(sound, i));
    add(true, `gradient of ${input} from a NaN`, () => checkNaNPlaces(sound, above()));
  });
  return (check) => all.filter(({ ofGradient }) => (ofGradient ? check.gradient : check.forward));
}

/**
 * Checks an op with NaNs: each version on the smallest case of each set of attributes that it serves, or with `all` on every case.
 * There is a NaN among the values of one float input at a time. It must reach every result that depends on it, and no other,
 * and likewise every gradient. Convolutions may give more, because most versions multiply padding, too. A NaN in the gradient of an
 * output must reach the gradients below. Ids that there are not must make NaNs.
 */
export async function checkNaNs(op: Op, checks: readonly Check[] = checksOf(op), all = false): Promise<CaseResult[]> {
  const size = ({ shapes }: OpCase<unknown>) => shapes.reduce((sum, shape) => sum + sizeOf(shape), 0);
  const results: CaseResult[] = [];
  const served = new Set<string>();
  for (const c of [...op.cases].sort((a, b) => size(a) - size(b))) {
    const checksWith = once(() => nanChecks(op, c));
    for (const check of checks) {
      const kind = JSON.stringify([check, c.attrs]);
      if (served.has(kind) && !all) continue;
      const found = await withVersion(op, check, checksWith()(check));
      if (found.some(({ status }) => status !== 'skipped')) served.add(kind);
      results.push(...found);
    }
  }
  return results;
}

const isUsers = (version: string | null) => version?.startsWith('user:') ?? false;

/**
 * The checks of an op: every version of its kernel family, and of its gradient's families if those are others. A shader of the
 * user's is checked in both, because a gradient also reads what the forward pass kept.
 */
export function checksOf(op: Op): Check[] {
  const differentiated = typeof op.backward === 'function';
  const versionsOf = (family: string): (string | null)[] => {
    const { names } = familyOf(family);
    return names.length > 1 ? [...(isUsers(names[1]) ? [null, names[1]] : names)] : [null];
  };
  const { family = null, gradientFamilies = [] } = op;
  const own = (family ? versionsOf(family) : [null]).map((version) => ({
    ...{ family: version === null ? null : family, version, forward: true },
    gradient: differentiated && (gradientFamilies.length === 0 || isUsers(version)),
  }));
  const ofGradients = gradientFamilies.flatMap((name) =>
    versionsOf(name).map((version) => ({ family: version === null ? null : name, version, forward: false, gradient: differentiated })),
  );
  const inside = (op.runs ?? []).flatMap((name) =>
    familyOf(name)
      .names.filter(isUsers)
      .map((version) => ({ family: name, version, forward: true, gradient: differentiated })),
  );
  // A gradient that a named version was checked with needs no check without one; families of one version share a check.
  const isNamed = ofGradients.some(({ version }) => version !== null && !isUsers(version));
  const first = ofGradients.findIndex(({ version }) => version === null);
  return [...own, ...inside, ...ofGradients.filter(({ version }, i) => version !== null || (!isNamed && i === first))];
}

/**
 * Checks every case of an op with every version of its kernel families, or with one version of one family. Without `only`, some
 * cases of each version are checked with NaNs, too.
 */
export async function checkOp(op: Op, only?: { family: string; version: string }): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  const checks = checksOf(op).filter(({ family, version }) => !only || (family === only.family && version === only.version));
  for (const c of op.cases) {
    const problem = new Problem(op, c);
    for (const check of checks) results.push(...(await checkCase(problem, check)));
  }
  if (!only) results.push(...(await checkNaNs(op, checks)));
  return results;
}

/** The problems of the family that was checked last: a shader is edited and checked again and again, and its references stay as they are. */
let kept: { family: string; problems: Map<Op, Problem[]> } | null = null;

function problemsOf(family: string, op: Op): Problem[] {
  if (kept?.family !== family) kept = { family, problems: new Map() };
  const problems = kept.problems.get(op) ?? op.cases.map((c) => new Problem(op, c));
  kept.problems.set(op, problems);
  return problems;
}

/** Checks a shader of the user's that is in use (kernels/user_shader.ts) on every case of every op that runs its family. */
export async function checkUserShader(family: string): Promise<CaseResult[]> {
  const version = familyOf(family).names.find(isUsers);
  if (!version) throw new GlimpseError(`${family}: no shader of yours is in use`);
  const results: CaseResult[] = [];
  for (const op of OPS.filter((each) => opsOf(family).includes(each) || each.runs?.includes(family))) {
    const checks = checksOf(op).filter((check) => check.family === family && check.version === version);
    for (const problem of problemsOf(family, op)) for (const check of checks) results.push(...(await checkCase(problem, check)));
  }
  return results;
}
