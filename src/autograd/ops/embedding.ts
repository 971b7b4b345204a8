/** Rows of a table by id. */
import { embeddingGrad, embedding as embeddingKernel } from '../../kernels/embedding.ts';
import { sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { expectRank, type Op, reference } from '../op.ts';
import { apply } from '../tape.ts';

export const embeddingOp: Op<null> = {
  name: 'embedding',
  doc: {
    equation: 'y[…] = table[ids[…]]',
    gradient: 'dtable[v] = Σ dy over the places whose id is v',
    tensors: {
      table: '[V, E]',
      ids: 'any shape, each below V. Ids from the host that are not are refused; one made on the device gives a row of NaN and no gradient',
      y: '[…ids, E]',
    },
    example: 'ops.embedding(tensor([1, 2, 3, 4, 5, 6], [3, 2]), tensor(new Uint32Array([2, 0])))',
    refused: ['ops.embedding(zeros([6]), zeros([2], "u32"))', 'ops.embedding(zeros([3, 2]), tensor(new Uint32Array([0, 3])))'],
  },
  inputs: ['table', 'ids'],
  inputTypes: ['f32', 'u32'],
  ids: { ids: { below: ([table]) => table[0] } },
  outputs: ['y'],
  shape: ([table, ids]) => {
    expectRank('embedding', 'table', table, 2);
    return [[...ids, table[1]]];
  },
  forward: ({ gpu, inputs: [table, ids], outputs: [y], label }) =>
    embeddingKernel(gpu, table.slice, ids.slice, y.slice, ids.size, table.shape[1], table.shape[0], label),
  saves: ['ids'],
  backward: ({ gpu, saved: { ids }, grads: [dy], inputShapes: [table], label }) => [
    () => {
      const dtable = empty(table, 'f32', label);
      embeddingGrad(gpu, dy.slice, ids.slice, dtable.slice, ids.size, table[1], table[0], label);
      return dtable;
    },
    null,
  ],
  reference: ([table, ids]) => [
    reference([...ids.shape, table.shape[1]], (i) => table.data[ids.data[Math.floor(i / table.shape[1])] * table.shape[1] + (i % table.shape[1])]),
  ],
  cost: ([table, ids]) => ({ flops: 0, bytes: 8 * sizeOf(ids) * table[1] }),
  cases: [
    {
      name: 'repeated ids',
      shapes: [
        [11, 70],
        [7, 19],
      ],
      attrs: null,
      draw: ['normal', 'ids:11'],
    },
    { name: 'more rows than fit in one dimension of the grid', shapes: [[3, 1], [70_001]], attrs: null, draw: ['normal', 'ids:3'] },
    { name: 'one id', shapes: [[3, 5], [1]], attrs: null, draw: ['normal', 'ids:3'] },
  ],
};

/**
 * table [V, E], ids u32 of any shape → [...ids, E]. Throws a GlimpseError for an id from the host that is not below V. Ids made on
 * the device are not looked at. One that is too large gives a row of NaN, and adds to no row of the gradient.
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  return apply(embeddingOp, [table, ids], null)[0];
}
