/** Sums, means and extremes over axes. */

import { ShapeError } from '../../errors.ts';
import type { Gpu } from '../../gpu/gpu.ts';
import { binary, binaryBroadcast, unary } from '../../kernels/elementwise.ts';
import { type Reduction, reduce } from '../../kernels/reduce.ts';
import { normalizeAxis, type Shape, sameShape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, full, type Tensor, zeros } from '../../tensor/tensor.ts';
import { type Op, type OpCase, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { binaryOf, unaryOf } from './elementwise.ts';
import { where } from './select.ts';
import { broadcastTo, reshape } from './shape.ts';

export interface ReduceAttrs {
  /** Axes from `first` up to, not including, `end` are reduced together. */
  first: number;
  end: number;
  keepDims: boolean;
}

function views(shape: Shape, { first, end }: ReduceAttrs): { outer: number; n: number; inner: number } {
  return { outer: sizeOf(shape.slice(0, first)), n: sizeOf(shape.slice(first, end)), inner: sizeOf(shape.slice(end)) };
}

function reducedShape(shape: Shape, { first, end, keepDims }: ReduceAttrs): number[] {
  return [...shape.slice(0, first), ...(keepDims ? shape.slice(first, end).map(() => 1) : []), ...shape.slice(end)];
}

type ReduceName = Reduction | 'mean' | 'norm' | 'logSumExp';

/** What a reduction runs, and how it is defined: from `start`, combined with one x after the other, then finished. */
interface ReduceRow {
  says: string;
  slope: string;
  kernel: Reduction;
  start: number;
  combine: (acc: number, value: number) => number;
  finish?: (acc: number, n: number) => number;
  /** Over nothing; null if there is no such value. */
  ofNothing: number | null;
  /** What reduces the results further, over axes that are no neighbors of the first. */
  after?: ReduceName;
  saves?: readonly ('x' | 'y')[];
  /** dx from dy, which is repeated over the axis. `again` reduces a tensor of the shape of x over the same axes, which it keeps. */
  gradient: (dy: Tensor, saved: { x: Tensor; y: Tensor }, n: number, again: (name: ReduceName, x: Tensor) => Tensor) => Tensor;
  /** How to draw x; the default is `normal`. */
  draw?: string;
}

/** Places that hold the extreme share the gradient evenly. */
const extremeGradient: ReduceRow['gradient'] = (dy, { x, y }, _n, again) => {
  const holds = binaryOf('equal', x, y);
  return binaryOf('mul', dy, binaryOf('div', holds, again('sum', holds)));
};

/** The product of all others: y / x, but at a 0, and beside one, where nothing can be divided. */
const productGradient: ReduceRow['gradient'] = (dy, { x }, _n, again) => {
  const [zero, one] = [zeros([]), full([], 1)];
  const zerosInRow = again('sum', binaryOf('equal', x, zero));
  const others = where(x, x, one);
  const product = again('prod', others);
  const [none, single] = [zero, one].map((count) => binaryOf('mul', product, binaryOf('equal', zerosInRow, count)));
  return binaryOf('mul', dy, where(x, binaryOf('div', none, others), single));
};

function logAddExp(a: number, b: number): number {
  const larger = Math.max(a, b);
  return Number.isFinite(larger) ? larger + Math.log1p(Math.exp(-Math.abs(a - b))) : larger;
}

/** By the distance from the largest x, which keeps its digits far from 0; a row of −∞ alone has no slope. */
const shareGradient: ReduceRow['gradient'] = (dy, { x }, _n, again) => {
  const powers = unaryOf('exp', binaryOf('sub', x, binaryOf('maximum', again('max', x), full([], -3.4028234e38))));
  const sum = again('sum', powers);
  return binaryOf('mul', dy, where(sum, binaryOf('div', powers, sum), zeros([])));
};

const REDUCTIONS: Record<ReduceName, ReduceRow> = {
  sum: {
    says: 'y = Σ x over the axis',
    slope: 'dx = dy, repeated over the axis',
    ...{ kernel: 'sum', start: 0, combine: (acc, value) => acc + value, ofNothing: 0 },
    gradient: (dy) => dy,
  },
  mean: {
    says: 'y = Σ x / n over the axis of n elements',
    slope: 'dx = dy / n, repeated over the axis',
    ...{ kernel: 'sum', start: 0, combine: (acc, value) => acc + value, finish: (acc, n) => acc / n, ofNothing: Number.NaN },
    gradient: (dy, _saved, n) => unaryOf('scale', dy, 1 / n),
  },
  sumSquares: {
    says: 'y = Σ x² over the axis',
    slope: 'dx = 2 x dy',
    ...{ kernel: 'sumSquares', start: 0, combine: (acc, value) => acc + value * value, ofNothing: 0, after: 'sum' },
    saves: ['x'],
    gradient: (dy, { x }) => binaryOf('mul', unaryOf('scale', dy, 2), x),
  },
  sumAbs: {
    says: 'y = Σ |x| over the axis, the L1 norm',
    slope: 'dx = dy sign(x)',
    ...{ kernel: 'sumAbs', start: 0, combine: (acc, value) => acc + Math.abs(value), ofNothing: 0, after: 'sum' },
    saves: ['x'],
    gradient: (dy, { x }) => binaryOf('mul', dy, unaryOf('sign', x)),
  },
  norm: {
    says: 'y = √Σ x² over the axis, the L2 norm',
    slope: 'dx = dy x / y, 0 where y = 0',
    ...{ kernel: 'sumSquares', start: 0, combine: (acc, value) => acc + value * value, finish: Math.sqrt, ofNothing: 0 },
    saves: ['x', 'y'],
    gradient: (dy, { x, y }) => binaryOf('mul', dy, where(y, binaryOf('div', x, y), zeros([]))),
  },
  logSumExp: {
    says: 'y = ln Σ eˣ over the axis, with the largest x taken out of the powers',
    slope: 'dx = dy exp(x − y)',
    ...{ kernel: 'sum', start: Number.NEGATIVE_INFINITY, combine: logAddExp, ofNothing: Number.NEGATIVE_INFINITY },
    saves: ['x'],
    gradient: shareGradient,
  },
  prod: {
    says: 'y = the product of x over the axis',
    slope: 'dx = dy times the product of all others',
    ...{ kernel: 'prod', start: 1, combine: (acc, value) => acc * value, ofNothing: 1 },
    saves: ['x'],
    gradient: productGradient,
    draw: 'unit plus 0.54',
  },
  max: {
    says: 'y = the largest x over the axis',
    slope: 'dx = dy where x = y, shared evenly if there are several; else 0',
    ...{ kernel: 'max', start: Number.NEGATIVE_INFINITY, combine: Math.max, ofNothing: null },
    saves: ['x', 'y'],
    gradient: extremeGradient,
  },
  min: {
    says: 'y = the smallest x over the axis',
    slope: 'dx = dy where x = y, shared evenly if there are several; else 0',
    ...{ kernel: 'min', start: Number.POSITIVE_INFINITY, combine: Math.min, ofNothing: null },
    saves: ['x', 'y'],
    gradient: extremeGradient,
  },
};

/** Reductions that are one dispatch of the kernel family. */
const PLAIN: readonly ReduceName[] = ['sum', 'mean', 'sumSquares', 'max', 'min'];

const LONG: OpCase<ReduceAttrs>[] = [
  { name: 'many long columns', shapes: [[1030, 513]], attrs: { first: 0, end: 1, keepDims: false } },
  { name: 'long rows, in two steps', shapes: [[3, 16501]], attrs: { first: 1, end: 2, keepDims: false } },
];

/** As long as it takes until every level of the partial sums is in use. */
const LONG_SUMS: OpCase<ReduceAttrs>[] = [
  { name: 'rows of 4,099', shapes: [[512, 4099]], attrs: { first: 1, end: 2, keepDims: false }, draw: ['positive'] },
  { name: 'a row of 524,291', shapes: [[524_291]], attrs: { first: 0, end: 1, keepDims: false }, draw: ['positive'] },
];

/** What is not the largest is taken to the power of its distance; where all are −∞, or one is +∞, there is no distance. */
const DISTANT = 'select(b, vec4f(), abs(b) > vec4f(3.4028234e38))';

function logSumExp(gpu: Gpu, x: Tensor, y: Tensor, view: { outer: number; n: number; inner: number }, label: string): void {
  const rows = [view.outer, view.n, view.inner];
  const [largest, powers, sum] = [y.shape, x.shape, y.shape].map((shape) => empty(shape, 'f32', label));
  reduce(gpu, { kind: 'max', x: x.slice, y: largest.slice, ...view, label });
  const repeated = { slice: largest.slice, strides: [view.inner, 0, 1] };
  binaryBroadcast(gpu, `exp(a - ${DISTANT})`, { slice: x.slice, strides: stridesOf(rows) }, repeated, powers.slice, rows, label);
  reduce(gpu, { kind: 'sum', x: powers.slice, y: sum.slice, ...view, label });
  // At least e⁰ is in the sum, unless all are −∞: SwiftShader's log(0) is a number.
  binary(gpu, `select(log(a) + ${DISTANT}, b, a == vec4f())`, sum.slice, largest.slice, y.slice, y.size, label);
  for (const temporary of [largest, powers, sum]) temporary.dispose();
}

function reduceOp(name: ReduceName): Op<ReduceAttrs> {
  const { says, slope, kernel, start, combine, finish = (acc) => acc, ofNothing, saves, gradient, draw = 'normal' } = REDUCTIONS[name];
  return {
    name,
    doc: {
      equation: says,
      gradient: slope,
      tensors: {
        x: 'any shape',
        y: 'without the reduced axes (with extent 1 in their place, if keepDims), or one number when no axis is given; several axes may be given',
      },
      example: `ops.${name}(tensor([1, 2, 3, 4, 5, 6], [2, 3]), 1)`,
      refused: [`ops.${name}(zeros([2, 3]), 2)`, ...(ofNothing === null ? [`ops.${name}(zeros([2, 0]), 1)`] : [])],
    },
    inputs: ['x'],
    outputs: ['y'],
    shape: ([x], attrs) => {
      if (attrs.first >= attrs.end && x.length > 0) throw new ShapeError(`${name}: [${x}] is reduced over no axis`);
      if (ofNothing === null && views(x, attrs).n === 0) throw new ShapeError(`${name}: [${x}] has nothing to take the ${name} of`);
      return [reducedShape(x, attrs)];
    },
    forward: ({ gpu, inputs: [x], outputs: [y], attrs, label }) => {
      const view = views(x.shape, attrs);
      if (view.n === 0 && ofNothing !== 0) gpu.upload(y.slice, new Float32Array(y.slice.bytes / 4).fill(ofNothing ?? Number.NaN));
      else if (view.n === 0) gpu.clear(y.slice);
      else if (name === 'logSumExp') logSumExp(gpu, x, y, view, label);
      else if (name === 'norm') {
        const squares = empty(y.shape, 'f32', label);
        reduce(gpu, { kind: kernel, x: x.slice, y: squares.slice, ...view, label });
        unary(gpu, 'sqrt(x)', squares.slice, y.slice, y.size, 0, label);
        squares.dispose();
      } else reduce(gpu, { kind: kernel, x: x.slice, y: y.slice, ...view, scale: name === 'mean' ? 1 / view.n : 1, label });
    },
    saves,
    backward: ({ grads: [dy], inputShapes: [shape], attrs, saved: { x, y } }) => [
      () => {
        const kept = reducedShape(shape, { ...attrs, keepDims: true });
        const again = (other: ReduceName, of: Tensor) => apply(reduceOps[other], [of], { ...attrs, keepDims: true })[0];
        return gradient(broadcastTo(dy.alias(kept), shape), { x, y: y?.alias(kept) }, views(shape, attrs).n, again);
      },
    ],
    reference: ([x], attrs) => {
      const { n, inner } = views(x.shape, attrs);
      return [
        reference(reducedShape(x.shape, attrs), (i) => {
          const base = Math.floor(i / inner) * n * inner + (i % inner);
          let acc = start;
          for (let j = 0; j < n; j++) acc = combine(acc, x.data[base + j * inner]);
          return finish(acc, n);
        }),
      ];
    },
    cost: (shapes, outputs) => ({ ...streamingCost(shapes, outputs), flops: sizeOf(shapes[0]) }),
    cases: [
      { name: 'rows', shapes: [[67, 113]], attrs: { first: 1, end: 2, keepDims: false }, draw: [draw] },
      { name: 'columns', shapes: [[113, 37]], attrs: { first: 0, end: 1, keepDims: true }, draw: [draw] },
      { name: 'middle', shapes: [[3, 41, 7]], attrs: { first: 1, end: 2, keepDims: false }, draw: [draw] },
      { name: 'all, in two steps', shapes: [[41, 97]], attrs: { first: 0, end: 2, keepDims: false }, draw: [draw] },
      { name: 'one element', shapes: [[1]], attrs: { first: 0, end: 1, keepDims: false }, draw: [draw] },
      ...(PLAIN.includes(name) && gradient !== extremeGradient ? LONG : []), // the gradients of extremes walk their cases often
      ...(name === 'sum' ? LONG_SUMS : []),
      ...(name === 'prod' ? [{ name: 'a 0', shapes: [[3, 7]], attrs: { first: 1, end: 2, keepDims: false }, draw: ['positive with 0'] }] : []),
      ...(name === 'logSumExp' ? [{ name: 'far from 0', shapes: [[5, 131]], attrs: { first: 1, end: 2, keepDims: false }, draw: ['normal plus 1000'] }] : []),
    ],
    // Products and absolute sums have one version; norms and logarithms also run others' kernels.
    ...(PLAIN.includes(name) ? { family: 'reduce' } : name === kernel ? {} : { runs: ['reduce'] }),
    tolerance: { rtol: 1e-5, atol: 2e-5, why: 'sums of up to 4,000 numbers that cancel' },
  };
}

export const reduceOps = Object.fromEntries((Object.keys(REDUCTIONS) as ReduceName[]).map((name) => [name, reduceOp(name)])) as Record<
  ReduceName,
  Op<ReduceAttrs>
>;

/** Runs of neighboring axes: first and end of each. */
function runsOf(axes: readonly number[]): { first: number; end: number }[] {
  const runs: { first: number; end: number }[] = [];
  for (const axis of [...axes].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last?.end === axis) last.end++;
    else runs.push({ first: axis, end: axis + 1 });
  }
  return runs;
}

/**
 * Over one axis, several, or over all when none is given. Neighboring axes are reduced at once, others one run after the other, from
 * the last. Throws a ShapeError for an axis that there is not, or that is named twice, and for an empty list of axes.
 */
export function reduceOf(name: ReduceName, x: Tensor, axis?: number | readonly number[], keepDims = false): Tensor {
  if (axis === undefined) return apply(reduceOps[name], [x], { first: 0, end: x.rank, keepDims })[0];
  const axes = [axis].flat().map((each) => normalizeAxis(each, x.shape, name));
  if (new Set(axes).size !== axes.length) throw new ShapeError(`${name}: axes [${axis}] of [${x.shape}] name an axis twice`);
  const runs = runsOf(axes);
  if (runs.length < 2) return apply(reduceOps[name], [x], { ...(runs[0] ?? { first: 0, end: 0 }), keepDims })[0];
  const [last, ...before] = runs.reverse();
  let y = apply(reduceOps[name], [x], { ...last, keepDims: true })[0];
  for (const run of before) y = apply(reduceOps[REDUCTIONS[name].after ?? name], [y], { ...run, keepDims: true })[0];
  return keepDims
    ? y
    : reshape(
        y,
        x.shape.filter((_, i) => !axes.includes(i)),
      );
}

/** Sums over the axes along which `shape` was broadcast; the gradient of broadcasting. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  let current = x;
  const extra = x.rank - shape.length;
  if (extra > 0) current = apply(reduceOps.sum, [current], { first: 0, end: extra, keepDims: false })[0];
  for (let axis = 0; axis < shape.length; axis++) {
    if (shape[axis] === 1 && current.shape[axis] !== 1) current = reduceOf('sum', current, axis, true);
  }
  return current;
}
