/** Sums, means and extremes over axes. */

import { ShapeError } from '../../errors.ts';
import { type Reduction, reduce } from '../../kernels/reduce.ts';
import { normalizeAxis, type Shape, sameShape, sizeOf } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Op, type OpCase, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { binaryOf, unaryOf } from './elementwise.ts';
import { broadcastTo } from './shape.ts';

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

const START: Record<Reduction, number> = { sum: 0, sumSquares: 0, max: Number.NEGATIVE_INFINITY, min: Number.POSITIVE_INFINITY };
const COMBINE: Record<Reduction, (acc: number, value: number) => number> = {
  sum: (acc, value) => acc + value,
  sumSquares: (acc, value) => acc + value * value,
  max: Math.max,
  min: Math.min,
};

/** As long as it takes until every level of the partial sums is in use. */
const LONG_SUMS: OpCase<ReduceAttrs>[] = [
  { name: 'rows of 4,099', shapes: [[512, 4099]], attrs: { first: 1, end: 2, keepDims: false }, draw: ['positive'] },
  { name: 'a row of 524,291', shapes: [[524_291]], attrs: { first: 0, end: 1, keepDims: false }, draw: ['positive'] },
];

function reduceOp(name: string, kind: Reduction, says: { equation: string; gradient?: string }, mean = false): Op<ReduceAttrs> {
  return {
    name,
    doc: {
      ...says,
      tensors: { x: 'any shape', y: 'without the reduced axis (with extent 1 in its place, if keepDims), or one number when no axis is given' },
      example: `ops.${name}(tensor([1, 2, 3, 4, 5, 6], [2, 3]), 1)`,
      refused: [`ops.${name}(zeros([2, 3]), 2)`, ...(START[kind] === 0 ? [] : [`ops.${name}(zeros([2, 0]), 1)`])],
    },
    inputs: ['x'],
    outputs: ['y'],
    shape: ([x], attrs) => {
      if (attrs.first >= attrs.end && x.length > 0) throw new ShapeError(`${name}: [${x}] is reduced over no axis`);
      if (START[kind] !== 0 && views(x, attrs).n === 0) throw new ShapeError(`${name}: [${x}] has nothing to take the ${name} of`);
      return [reducedShape(x, attrs)];
    },
    forward: ({ gpu, inputs: [x], outputs: [y], attrs, label }) => {
      const view = views(x.shape, attrs);
      if (view.n === 0 && mean)
        gpu.upload(y.slice, new Float32Array(y.slice.bytes / 4).fill(Number.NaN)); // 0 / 0
      else if (view.n === 0) gpu.clear(y.slice);
      else reduce(gpu, { kind, x: x.slice, y: y.slice, ...view, scale: mean ? 1 / view.n : 1, label });
    },
    saves: kind === 'sumSquares' ? ['x'] : undefined,
    backward:
      kind === 'max' || kind === 'min'
        ? 'the extremes are used to look at values; take the gradient through maximum() or max pooling'
        : ({ grads: [dy], inputShapes: [x], attrs, saved }) => [
            () => {
              const kept = dy.alias(reducedShape(x, { ...attrs, keepDims: true }));
              const spread = broadcastTo(kept, x);
              if (kind === 'sumSquares') return binaryOf('mul', unaryOf('scale', spread, 2), saved.x);
              return mean ? unaryOf('scale', spread, 1 / views(x, attrs).n) : spread;
            },
          ],
    reference: ([x], attrs) => {
      const { n, inner } = views(x.shape, attrs);
      return [
        reference(reducedShape(x.shape, attrs), (i) => {
          const base = Math.floor(i / inner) * n * inner + (i % inner);
          let acc = START[kind];
          for (let j = 0; j < n; j++) acc = COMBINE[kind](acc, x.data[base + j * inner]);
          return mean ? acc / n : acc;
        }),
      ];
    },
    cost: (shapes, outputs) => ({ ...streamingCost(shapes, outputs), flops: sizeOf(shapes[0]) }),
    cases: [
      { name: 'rows', shapes: [[67, 113]], attrs: { first: 1, end: 2, keepDims: false } },
      { name: 'columns', shapes: [[113, 37]], attrs: { first: 0, end: 1, keepDims: true } },
      { name: 'middle', shapes: [[3, 41, 7]], attrs: { first: 1, end: 2, keepDims: false } },
      { name: 'all, in two steps', shapes: [[41, 97]], attrs: { first: 0, end: 2, keepDims: false } },
      { name: 'many long columns', shapes: [[1030, 513]], attrs: { first: 0, end: 1, keepDims: false } },
      { name: 'long rows, in two steps', shapes: [[3, 16501]], attrs: { first: 1, end: 2, keepDims: false } },
      { name: 'one element', shapes: [[1]], attrs: { first: 0, end: 1, keepDims: false } },
      ...(name === 'sum' ? LONG_SUMS : []),
    ],
    family: 'reduce',
    tolerance: { rtol: 1e-5, atol: 2e-5, why: 'sums of up to 4,000 numbers that cancel' },
  };
}

export const reduceOps = {
  sum: reduceOp('sum', 'sum', { equation: 'y = Σ x over the axis', gradient: 'dx = dy, repeated over the axis' }),
  mean: reduceOp('mean', 'sum', { equation: 'y = Σ x / n over the axis of n elements', gradient: 'dx = dy / n, repeated over the axis' }, true),
  sumSquares: reduceOp('sumSquares', 'sumSquares', { equation: 'y = Σ x² over the axis', gradient: 'dx = 2 x dy' }),
  max: reduceOp('max', 'max', { equation: 'y = the largest x over the axis' }),
  min: reduceOp('min', 'min', { equation: 'y = the smallest x over the axis' }),
};

/** Over one axis, or over all when none is given. */
export function reduceOf(name: keyof typeof reduceOps, x: Tensor, axis?: number, keepDims = false): Tensor {
  const first = axis === undefined ? 0 : normalizeAxis(axis, x.shape, name);
  return apply(reduceOps[name], [x], { first, end: axis === undefined ? x.rank : first + 1, keepDims })[0];
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
