/** The matrix product, plain or transposed, batched, with bias and ReLU in its epilogue. */
import { ShapeError } from '../../errors.ts';
import { matmul as matmulKernel } from '../../kernels/matmul.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type Op, type Reference, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { binaryOf, unaryOf } from './elementwise.ts';
import { reduceOf } from './reduce.ts';

export interface MatmulAttrs {
  transA: boolean;
  transB: boolean;
  /** ReLU after the bias. */
  relu: boolean;
}

interface Sizes {
  batch: number;
  m: number;
  n: number;
  k: number;
  sharedA: boolean;
  sharedB: boolean;
}

function sizes(shapes: readonly Shape[], { transA, transB }: MatmulAttrs): Sizes {
  const [a, b, bias] = shapes;
  const told = `matmul: a [${a}]${transA ? 'ᵀ' : ''} times b [${b}]${transB ? 'ᵀ' : ''}`;
  if (a.length < 2 || b.length < 2 || a.length > 3 || b.length > 3) throw new ShapeError(`${told}: each needs two axes, or three with a batch`);
  const [ar, ac] = a.slice(-2);
  const [br, bc] = b.slice(-2);
  const [m, k] = transA ? [ac, ar] : [ar, ac];
  const [k2, n] = transB ? [bc, br] : [br, bc];
  if (k !== k2) throw new ShapeError(`${told}: inner extents are ${k} and ${k2}`);
  const batchA = a.length === 3 ? a[0] : 1;
  const batchB = b.length === 3 ? b[0] : 1;
  if (batchA !== batchB && batchA !== 1 && batchB !== 1) throw new ShapeError(`${told}: batches are ${batchA} and ${batchB}`);
  if (bias && (bias.length !== 1 || bias[0] !== n)) throw new ShapeError(`${told}: bias [${bias}] does not fit ${n} columns`);
  return { batch: Math.max(batchA, batchB), m, n, k, sharedA: batchA === 1, sharedB: batchB === 1 };
}

function launch(a: Tensor, b: Tensor, bias: Tensor | null, c: Tensor, attrs: MatmulAttrs, label: string): void {
  const { batch, m, n, k, sharedA, sharedB } = sizes([a.shape, b.shape], attrs);
  matmulKernel(c.gpu, {
    a: a.slice,
    b: b.slice,
    c: c.slice,
    bias: bias?.slice,
    ...{ m, n, k, batch, label },
    transA: attrs.transA,
    transB: attrs.transB,
    relu: attrs.relu,
    aStride: sharedA ? 0 : m * k,
    bStride: sharedB ? 0 : k * n,
  });
}

/** The product of two gradients' operands, summed over the batch when the wanted tensor has none. */
function gradProduct(a: Tensor, b: Tensor, transA: boolean, transB: boolean, shape: Shape, label: string): Tensor {
  const attrs = { transA, transB, relu: false };
  const { batch, m, n } = sizes([a.shape, b.shape], attrs);
  const batched = a.rank === 3 || b.rank === 3;
  const out = empty(batched ? [batch, m, n] : [m, n], 'f32', label);
  launch(a, b, null, out, attrs, label);
  if (sizeOf(shape) === out.size) return out.alias(shape);
  return reduceOf('sum', out, 0, shape.length === 3);
}

export const matmulOp: Op<MatmulAttrs> = {
  name: 'matmul',
  doc: {
    equation: 'c = op(a) op(b) + bias, then max(c, 0) if relu; op transposes the last two axes if asked',
    gradient: 'dA = dC Bᵀ, dB = Aᵀ dC, dbias = Σ dC over all rows; dC is 0 where a ReLU gave 0. A shared operand sums over the batch.',
    tensors: {
      a: '[m, k] or [batch, m, k]; with transA [k, m]',
      b: '[k, n] or [batch, k, n]; with transB [n, k]',
      bias: '[n], may be left out',
      c: '[m, n], or [batch, m, n] if an operand has a batch; a batch of 1 is shared',
    },
    example: 'ops.matmul(tensor([1, 2, 3, 4], [2, 2]), tensor([1, -1, 0, 1], [2, 2]), { bias: tensor([10, 20]) })',
    refused: [
      'ops.matmul(zeros([2, 3]), zeros([4, 5]))',
      'ops.matmul(zeros([3]), zeros([3, 5]))',
      'ops.matmul(zeros([2, 5, 3]), zeros([4, 3, 5]))',
      'ops.matmul(zeros([2, 3]), zeros([3, 5]), { bias: zeros([4]) })',
    ],
  },
  inputs: ['a', 'b', 'bias'],
  outputs: ['c'],
  shape: (shapes, attrs) => {
    const { batch, m, n } = sizes(shapes, attrs);
    return [shapes[0].length === 3 || shapes[1].length === 3 ? [batch, m, n] : [m, n]];
  },
  forward: ({ inputs: [a, b, bias], outputs: [c], attrs, label }) => launch(a, b, bias ?? null, c, attrs, label),
  saves: ['a', 'b', 'c'],
  // C = A B. dA = dC Bᵀ and dB = Aᵀ dC; with op = transposed the same two products, their operands exchanged.
  backward: ({ saved: { a, b, c }, grads: [dy], attrs: { transA, transB, relu }, inputShapes, label }) => {
    let masked: Tensor | null = null;
    const dc = () => {
      masked ??= relu ? binaryOf('mul', dy, unaryOf('step', c)) : dy;
      return masked;
    };
    return [
      () => (transA ? gradProduct(b, dc(), transB, true, inputShapes[0], label) : gradProduct(dc(), b, false, !transB, inputShapes[0], label)),
      () => (transB ? gradProduct(dc(), a, true, transA, inputShapes[1], label) : gradProduct(a, dc(), !transA, false, inputShapes[1], label)),
      () => reduceOf('sum', dc().alias([dc().size / inputShapes[2][0], inputShapes[2][0]]), 0),
    ];
  },
  reference: ([a, b, bias], attrs) => {
    const { batch, m, n, k, sharedA, sharedB } = sizes([a.shape, b.shape], attrs);
    const at = (x: Reference, z: number, row: number, column: number, rows: number, columns: number, turned: boolean) =>
      x.data[z * rows * columns + (turned ? column * rows + row : row * columns + column)];
    return [
      reference(a.shape.length === 3 || b.shape.length === 3 ? [batch, m, n] : [m, n], (i) => {
        const [z, row, column] = [Math.floor(i / m / n), Math.floor(i / n) % m, i % n];
        let sum = bias ? bias.data[column] : 0;
        for (let p = 0; p < k; p++) sum += at(a, sharedA ? 0 : z, row, p, m, k, attrs.transA) * at(b, sharedB ? 0 : z, p, column, k, n, attrs.transB);
        return attrs.relu ? Math.max(sum, 0) : sum;
      }),
    ];
  },
  cost: (shapes, outputs, attrs) => {
    const { batch, m, n, k } = sizes(shapes, attrs);
    return { flops: 2 * batch * m * n * k, bytes: 4 * [...shapes, ...outputs].reduce((sum, shape) => sum + sizeOf(shape), 0) };
  },
  cases: [
    {
      name: 'NN 1×1×1',
      shapes: [
        [1, 1],
        [1, 1],
      ],
      attrs: { transA: false, transB: false, relu: false },
    },
    {
      name: 'NN primes',
      shapes: [
        [41, 29],
        [29, 37],
      ],
      attrs: { transA: false, transB: false, relu: false },
    },
    {
      name: 'NN ragged tiles of 4',
      shapes: [
        [37, 44],
        [44, 52],
      ],
      attrs: { transA: false, transB: false, relu: false },
    },
    {
      name: 'NT',
      shapes: [
        [41, 44],
        [36, 44],
      ],
      attrs: { transA: false, transB: true, relu: false },
    },
    {
      name: 'NT primes',
      shapes: [
        [13, 31],
        [17, 31],
      ],
      attrs: { transA: false, transB: true, relu: false },
    },
    {
      name: 'TN',
      shapes: [
        [29, 44],
        [29, 36],
      ],
      attrs: { transA: true, transB: false, relu: false },
    },
    {
      name: 'TN, odd k',
      shapes: [
        [23, 36],
        [23, 44],
      ],
      attrs: { transA: true, transB: false, relu: false },
    },
    {
      name: 'TT',
      shapes: [
        [28, 40],
        [36, 28],
      ],
      attrs: { transA: true, transB: true, relu: false },
    },
    {
      name: 'outliers',
      shapes: [
        [9, 113],
        [113, 12],
      ],
      attrs: { transA: false, transB: false, relu: false },
      draw: ['outliers', 'normal'],
    },
    { name: 'many tiles, more columns', shapes: [[70, 36], [36, 140], [140]], attrs: { transA: false, transB: false, relu: true } },
    {
      name: 'many tiles, more rows',
      shapes: [
        [140, 20],
        [20, 72],
      ],
      attrs: { transA: false, transB: false, relu: false },
    },
    {
      name: 'NT, many tiles',
      shapes: [
        [67, 36],
        [132, 36],
      ],
      attrs: { transA: false, transB: true, relu: false },
    },
    {
      name: 'TN, many tiles',
      shapes: [
        [19, 132],
        [19, 68],
      ],
      attrs: { transA: true, transB: false, relu: false },
    },
    { name: 'bias and ReLU', shapes: [[19, 24], [24, 68], [68]], attrs: { transA: false, transB: false, relu: true } },
    {
      name: 'batch',
      shapes: [
        [3, 67, 12],
        [3, 12, 68],
      ],
      attrs: { transA: false, transB: false, relu: false },
    },
    {
      name: 'batch, one weight',
      shapes: [
        [3, 12, 8],
        [8, 20],
      ],
      attrs: { transA: false, transB: false, relu: false },
    },
    {
      name: 'batch TN',
      shapes: [
        [3, 7, 12],
        [3, 7, 16],
      ],
      attrs: { transA: true, transB: false, relu: false },
    },
  ],
  family: 'matmul',
  tolerance: { rtol: 1e-5, atol: 2e-5, why: 'sums of up to 113 products that cancel, with outliers of 30' },
};

export interface MatmulIntoAttrs {
  m: number;
  n: number;
  k: number;
  transA: boolean;
  transB: boolean;
  /** First elements of the three matrices. */
  aStart: number;
  bStart: number;
  cStart: number;
}

const intoCase = (name: string, attrs: MatmulIntoAttrs) => ({
  name,
  shapes: [[attrs.aStart + attrs.m * attrs.k + 4], [attrs.bStart + attrs.k * attrs.n + 4], [attrs.cStart + attrs.m * attrs.n + 4]],
  attrs,
});

/** A product of matrices that lie within longer storages, added to a third: what recurrent layers launch at every step. */
export const matmulIntoOp: Op<MatmulIntoAttrs> = {
  name: 'matmulInto',
  doc: {
    runBy: '[attentionLstm](#attentionlstm)',
    equation: 'cNew = c, with op(A) op(B) added to C; A, B and C begin at aStart, bStart and cStart of a, b and c',
    tensors: {
      a: 'any shape; A is [m, k], with transA [k, m]',
      b: 'any shape; B is [k, n], with transB [n, k]',
      c: 'any shape; C is [m, n]',
      cNew: 'as c',
    },
    example:
      "apply(entry('matmulInto'), [tensor([9, 1, 2]), tensor([3, 4]), tensor([7, 100])], { m: 1, n: 1, k: 2, transA: false, transB: false, aStart: 1, bStart: 0, cStart: 1 })",
    refused: [
      "apply(entry('matmulInto'), [zeros([4]), zeros([4]), zeros([4])], { m: 2, n: 2, k: 2, transA: false, transB: false, aStart: 0, bStart: 0, cStart: 1 })",
    ],
  },
  inputs: ['a', 'b', 'c'],
  outputs: ['cNew'],
  shape: ([a, b, c], { m, n, k, aStart, bStart, cStart }) => {
    if (aStart + m * k > sizeOf(a) || bStart + k * n > sizeOf(b) || cStart + m * n > sizeOf(c))
      throw new ShapeError(`matmulInto: [${m},${k}] from ${aStart} of [${a}], [${k},${n}] from ${bStart} of [${b}], [${m},${n}] from ${cStart} of [${c}]`);
    return [c];
  },
  forward: ({ gpu, inputs: [a, b, c], outputs: [cNew], attrs, label }) => {
    gpu.copy(c.slice, cNew.slice, c.size * 4);
    matmulKernel(gpu, { ...attrs, a: a.slice, b: b.slice, c: cNew.slice, addToC: true, label });
  },
  backward: 'a step of a larger op, which has a gradient of its own',
  reference: ([a, b, c], { m, n, k, transA, transB, aStart, bStart, cStart }) => {
    const out = reference(c.shape, (i) => c.data[i]);
    for (let row = 0; row < m; row++)
      for (let column = 0; column < n; column++)
        for (let p = 0; p < k; p++) {
          const left = a.data[aStart + (transA ? p * m + row : row * k + p)];
          out.data[cStart + row * n + column] += left * b.data[bStart + (transB ? column * k + p : p * n + column)];
        }
    return [out];
  },
  cost: (shapes, outputs, { m, n, k }) => ({ flops: 2 * m * n * k, bytes: streamingCost(shapes, outputs).bytes }),
  cases: [
    intoCase('NN', { m: 37, n: 68, k: 12, transA: false, transB: false, aStart: 12, bStart: 68, cStart: 8 }),
    intoCase('NT', { m: 6, n: 36, k: 20, transA: false, transB: true, aStart: 4, bStart: 20, cStart: 36 }),
    intoCase('TN, k = 26', { m: 20, n: 36, k: 26, transA: true, transB: false, aStart: 8, bStart: 4, cStart: 16 }),
    intoCase('starts that are no multiples of 4', { m: 5, n: 7, k: 3, transA: false, transB: false, aStart: 3, bStart: 5, cStart: 1 }),
  ],
  family: 'matmul',
  tolerance: { rtol: 1e-5, atol: 1e-5, why: 'sums of up to 26 products that cancel' },
};

/** Options of `matmul`. */
export interface MatmulOptions {
  /** a is given as [k, m]. */
  transA?: boolean;
  /** b is given as [n, k]. */
  transB?: boolean;
  /** [n], added to every row. */
  bias?: Tensor;
  /** max(c, 0) after the bias. */
  relu?: boolean;
}

/** op(a) op(b) (+ bias per column) (then ReLU). a [m, k] or [batch, m, k]; b [k, n] or [batch, k, n]; a batch of one is shared. */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const attrs = { transA: options.transA ?? false, transB: options.transB ?? false, relu: options.relu ?? false };
  return apply(matmulOp, options.bias ? [a, b, options.bias] : [a, b], attrs)[0];
}
