/** Reductions over axes. */
import * as ops from '../../../autograd/ops/index.ts';
import type { Tensor } from '../../../tensor/tensor.ts';
import { attribute, type Context, flag, type Operator, type Operators, plain } from '../operator.ts';
import type { Value } from '../values.ts';
import { passed } from './arithmetic.ts';
import { axesOf } from './moves.ts';
import { averaged } from './windows.ts';

type Reduction = (x: Tensor, axis: number, keepDims: boolean) => Tensor;

function reduction(c: Context, reduce: Reduction): Value {
  const shape = c.shape(0);
  const named = axesOf(c.node, c.host(1), shape.length) ?? [];
  if (named.length === 0 && c.number('noop_with_empty_axes', 0) === 1) return passed(c);
  const axes = named.length > 0 ? named : shape.map((_, axis) => axis);
  if (axes.length === 0) return passed(c);
  const keep = c.number('keepdims', 1) === 1;
  if (reduce === ops.mean && shape.length === 4 && axes.join() === '2,3') return averaged(c, keep);
  return plain(axes.toReversed().reduce((x, axis) => reduce(x, axis, keep), c.plain(0)));
}

const over = (axesSince: number, reduce: Reduction): Operator => ({
  inputs: (opset) => [1, opset >= axesSince ? 2 : 1],
  attributes: { axes: attribute('ints', { until: axesSince - 1 }), keepdims: flag, noop_with_empty_axes: attribute('flag', { since: axesSince }) },
  where: [1],
  device: (c) => reduction(c, reduce),
});

export const REDUCTIONS: Operators = {
  ReduceMean: over(18, ops.mean),
  ReduceMax: over(18, ops.max),
  ReduceMin: over(18, ops.min),
  ReduceSum: over(13, ops.sum),
};
