/** The choice between two tensors, element by element. */
import { where as whereKernel } from '../../kernels/elementwise.ts';
import { broadcastShapes, broadcastStrides, type Shape } from '../../tensor/shape.ts';
import { type Tensor, zeros } from '../../tensor/tensor.ts';
import { type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { offsetsOf } from './elementwise.ts';
import { sumTo } from './reduce.ts';

const shapeOf = ([condition, a, b]: readonly Shape[]): Shape => broadcastShapes(condition, broadcastShapes(a, b, 'where'), 'where');

export const whereOp: Op<null> = {
  name: 'where',
  doc: {
    equation: 'c = a where condition ≠ 0, else b, element by element; an axis of extent 1, or none, repeats. A NaN is true.',
    gradient: 'da = dc where condition ≠ 0, else 0; db = dc where condition = 0, else 0; each summed over the axes along which its operand repeats',
    tensors: {
      condition: 'any shape; what is not 0 is true. It carries no gradient.',
      a: 'a shape that broadcasts with the others; what is not chosen does not matter, even if it is a NaN',
      b: 'as a',
      c: 'the shape of all three, broadcast',
    },
    example: 'ops.where(tensor([1, 0, 2]), tensor([10, 20, 30]), tensor([-1]))',
    refused: ['ops.where(zeros([2, 3]), zeros([3]), zeros([2]))'],
  },
  inputs: ['condition', 'a', 'b'],
  outputs: ['c'],
  constants: ['condition'],
  routes: true,
  shape: (shapes) => [shapeOf(shapes)],
  forward: ({ gpu, inputs, outputs: [c], label }) => {
    const [condition, a, b] = inputs.map(({ slice, shape }) => ({ slice, strides: broadcastStrides(shape, c.shape) }));
    whereKernel(gpu, condition, a, b, c.slice, c.shape, label);
  },
  saves: ['condition'],
  backward: ({ saved: { condition }, grads: [dc], inputShapes: [, a, b] }) => [
    null,
    () => sumTo(where(condition, dc, zeros([])), a),
    () => sumTo(where(condition, zeros([]), dc), b),
  ],
  reference: (inputs) => {
    const [condition, a, b] = inputs;
    const shape = shapeOf(inputs.map((x) => x.shape));
    const [atCondition, atA, atB] = inputs.map((x) => offsetsOf(x.shape, shape));
    return [reference(shape, (i) => (condition.data[atCondition(i)] !== 0 ? a.data[atA(i)] : b.data[atB(i)]))];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs),
  cases: (
    [
      [[1], [1], [1]],
      [[331], [331], [331]],
      [[7, 11], [11], []],
      [
        [13, 1],
        [1, 131],
        [13, 131],
      ],
      [
        [2, 1, 3, 1, 5, 2],
        [3, 3, 2, 1, 2],
        [1, 5, 1],
      ],
    ] as Shape[][]
  ).map((shapes) => ({ name: shapes.map((shape) => `[${shape}]`).join(' '), shapes, attrs: null, draw: ['mask', 'normal', 'normal'] })),
};

/** Broadcasts all three. What is not 0 is true, a NaN too; a NaN that is not chosen does not come through. */
export function where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  return apply(whereOp, [condition, a, b], null)[0];
}
