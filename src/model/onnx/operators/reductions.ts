/** Reductions over axes, and where the extremes are. */
import * as ops from '../../../autograd/ops/index.ts';
import { normalizeAxis, type Shape, sizeOf, stridesOf } from '../../../tensor/shape.ts';
import type { ElementType } from '../elements.ts';
import { bounded, exact, fitted, ints, like, places } from '../host.ts';
import { attribute, type Context, fail, flag, type HostCall, int, numberOf, type Operator, type Operators, plain } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { type HostTensor, typeOf, type Value } from '../values.ts';
import { passed, typeOfFirst } from './arithmetic.ts';
import { axesOf } from './moves.ts';

/** What a node reduces: which axes, and the shape that is left. */
interface Plan {
  /** In order; none if the node leaves its input as it is. */
  axes: readonly number[];
  kept: number[];
  out: number[];
}

function planOf(node: OnnxNode, given: HostTensor | null | undefined, shape: Shape): Plan {
  const named = axesOf(node, given, shape.length) ?? [];
  const none = named.length === 0 && numberOf(node, 'noop_with_empty_axes', 0) === 1;
  const axes = none ? [] : named.length > 0 ? named : shape.map((_, axis) => axis);
  const kept = shape.map((extent, axis) => (axes.includes(axis) ? 1 : extent));
  const out = none || numberOf(node, 'keepdims', 1) === 1 ? kept : shape.filter((_, axis) => !axes.includes(axis));
  return { axes, kept, out };
}

/** How numbers are reduced one by one, in float64. */
interface Fold {
  start: number;
  step(sum: number, x: number): number;
  /** From the sum of so many to the result. */
  end?(sum: number, count: number): number;
  /** Integers of 4 bytes wrap round at each step: products grow beyond what a double holds. */
  wraps?: (sum: number, x: number) => number;
}

const [HIGHEST, LOWEST] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
const SUM: Fold = { start: 0, step: (sum, x) => sum + x };
const SQUARES: Fold = { start: 0, step: (sum, x) => sum + x * x };

const FOLDS: Record<string, Fold> = {
  ReduceSum: SUM,
  ReduceMean: { ...SUM, end: (sum, count) => sum / count },
  ReduceMax: { start: LOWEST, step: Math.max },
  ReduceMin: { start: HIGHEST, step: Math.min },
  ReduceProd: { start: 1, step: (sum, x) => sum * x, wraps: Math.imul },
  ReduceL1: { start: 0, step: (sum, x) => sum + Math.abs(x) },
  ReduceL2: { ...SQUARES, end: Math.sqrt },
  ReduceSumSquare: { ...SQUARES, wraps: (sum, x) => (sum + Math.imul(x, x)) | 0 },
  ReduceLogSum: { ...SUM, end: Math.log },
};

/** Σ of each group of elements: `at` says to which group an element belongs. */
function grouped(x: HostTensor, at: Int32Array, groups: number, { start, step }: Fold): Float64Array {
  const sums = new Float64Array(groups).fill(start);
  for (let i = 0; i < at.length; i++) sums[at[i]] = step(sums[at[i]], x.data[i]);
  return sums;
}

/** ln Σ eˣ, of which the largest x is taken out first. */
function logSumExp(x: HostTensor, at: Int32Array, groups: number): Float64Array {
  const largest = grouped(x, at, groups, FOLDS.ReduceMax).map((value) => (Math.abs(value) === HIGHEST ? 0 : value));
  const sums = new Float64Array(groups);
  for (let i = 0; i < at.length; i++) sums[at[i]] += Math.exp(x.data[i] - largest[at[i]]);
  return sums.map((sum, group) => Math.log(sum) + largest[group]);
}

/** The results of a reduction of whole numbers. Of nothing the extremes are the ends of the type. */
function wholes(type: ElementType, values: Float64Array): number[] {
  const [low, high] = type.range ?? [0, 0];
  const ends = values.map((value) => (value === LOWEST ? low : value === HIGHEST ? high : value));
  return type.name === 'bool' ? Array.from(ends) : fitted(type, ends);
}

function onHost({ node, opset, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const type = typeOf(x);
  const { op } = node;
  const isExtreme = op === 'ReduceMax' || op === 'ReduceMin';
  if (type.name === 'bool' && !(isExtreme && opset >= 20)) fail('truth values have no arithmetic');
  bounded(x.shape);
  const { axes, kept, out } = planOf(node, inputs[1], x.shape);
  if (axes.length === 0 && x.shape.length > 0) return x;
  if (!isExtreme) exact([x]);
  const strides = stridesOf(kept).map((stride, axis) => (axes.includes(axis) ? 0 : stride));
  const [at, groups] = [places(x.shape, strides), sizeOf(kept)];
  bounded(out);
  const fold = FOLDS[op];
  const isWrapping = type.kind === 'int' && type.bytes <= 4;
  const sums = op === 'ReduceLogSumExp' ? logSumExp(x, at, groups) : grouped(x, at, groups, isWrapping && fold.wraps ? { ...fold, step: fold.wraps } : fold);
  const count = groups === 0 ? 0 : x.data.length / groups;
  const results = fold?.end ? sums.map((sum) => fold.end?.(sum, count) ?? sum) : sums;
  return like(x, out, type.kind === 'int' ? wholes(type, results) : results);
}

const DEVICE: Record<string, typeof ops.sum> = {
  ReduceSum: ops.sum,
  ReduceMean: ops.mean,
  ReduceMax: ops.max,
  ReduceMin: ops.min,
  ReduceProd: ops.prod,
  ReduceL1: ops.sumAbs,
  ReduceL2: ops.norm,
  ReduceSumSquare: ops.sumSquares,
  ReduceLogSum: (x, axes) => ops.log(ops.sum(x, axes)),
  ReduceLogSumExp: ops.logSumExp,
};

function onDevice(c: Context): Value {
  const { node } = c;
  const shape = c.shape(0);
  const { axes, out } = planOf(node, c.host(1), shape);
  if (axes.length === 0 && shape.length > 0) {
    c.plain(0); // it is refused if it is no floats
    return passed(c);
  }
  const x = c.plain(0);
  // What nothing gives is a matter of definitions.
  if (x.size === 0)
    return onHost({ node, opset: c.opset, inputs: [{ kind: 'float', type: typeOfFirst(c), shape: [...shape], data: new Float32Array(0) }, c.host(1)] });
  const reduced = shape.length === 0 ? DEVICE[node.op](ops.reshape(x, [1]), 0) : DEVICE[node.op](x, axes);
  return plain(ops.reshape(reduced, out), typeOfFirst(c));
}

/** `axesSince`: the opset from which on the axes are an input. */
const over = (axesSince = 18): Operator => ({
  inputs: (opset) => [1, opset >= axesSince ? 2 : 1],
  attributes: { axes: attribute('ints', { until: axesSince - 1 }), keepdims: flag, noop_with_empty_axes: attribute('flag', { since: axesSince }) },
  layout: 'axes',
  where: [1],
  host: onHost,
  device: onDevice,
});

/** The axis along which an extreme is looked for, and the shape of the places. */
function searchOf(node: OnnxNode, shape: Shape): { axis: number; out: number[]; takesLast: boolean } {
  const axis = normalizeAxis(numberOf(node, 'axis', 0), shape, node.op);
  if (shape[axis] === 0) fail(`[${shape}] has no places along axis ${axis}`);
  const out = shape.flatMap((extent, i) => (i === axis ? (numberOf(node, 'keepdims', 1) === 1 ? [1] : []) : [extent]));
  return { axis, out, takesLast: numberOf(node, 'select_last_index', 0) === 1 };
}

/** The first place of an extreme, or the last. A NaN is beyond all numbers. */
function placesOnHost({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  if (typeOf(x).name === 'bool') fail('truth values have no order');
  const { axis, out, takesLast } = searchOf(node, bounded(x.shape));
  const [n, inner] = [x.shape[axis], stridesOf(x.shape)[axis]];
  const sign = node.op === 'ArgMax' ? 1 : -1;
  const data = new Array<number>(sizeOf(out));
  for (let r = 0; r < data.length; r++) {
    const base = Math.floor(r / inner) * n * inner + (r % inner);
    let [at, best] = [0, x.data[base]];
    for (let i = 1; i < n; i++) {
      const value = x.data[base + i * inner];
      const isBetter = Number.isNaN(best) ? false : Number.isNaN(value) || sign * value > sign * best;
      const isEqual = value === best || (Number.isNaN(value) && Number.isNaN(best));
      if (isBetter || (isEqual && takesLast)) [at, best] = [i, value];
    }
    data[r] = at;
  }
  return ints(out, data);
}

function placesOnDevice(c: Context): Value {
  const x = c.plain(0);
  const { axis, out, takesLast } = searchOf(c.node, x.shape);
  if (x.size === 0) return ints(out, []);
  const search = c.node.op === 'ArgMax' ? ops.argmax : ops.argmin;
  return plain(ops.reshape(search(x, axis, { last: takesLast }), out), 'int64');
}

const extreme: Operator = {
  inputs: [1, 1],
  attributes: { axis: int, keepdims: flag, select_last_index: attribute('flag', { since: 12 }) },
  host: placesOnHost,
  device: placesOnDevice,
};

export const REDUCTIONS: Operators = {
  ...Object.fromEntries(Object.keys({ ...FOLDS, ReduceLogSumExp: null }).map((name) => [name, over(name === 'ReduceSum' ? 13 : 18)])),
  ArgMax: extreme,
  ArgMin: extreme,
};
