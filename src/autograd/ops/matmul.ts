/** The matrix product, plain or transposed, of any rank, with bias and ReLU in its epilogue. */
import { ShapeError } from '../../errors.ts';
import { matmul as matmulKernel } from '../../kernels/matmul.ts';
import { broadcastShapes, broadcastStrides, placeOf, type Shape, sameShape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type Op, type Reference, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { binaryOf, unaryOf } from './elementwise.ts';
import { reduceOf, sumTo } from './reduce.ts';

export interface MatmulAttrs {
  transA: boolean;
  transB: boolean;
  /** ReLU after the bias. */
  relu: boolean;
}

interface Sizes {
  /** Shapes of the operands with at least two axes: a row for a of one axis, a column for b. */
  a: Shape;
  b: Shape;
  /** The batch axes of c, by NumPy's rule. */
  batch: Shape;
  m: number;
  n: number;
  k: number;
  /** The shape of c: without the row or column that an operand of one axis stood for. */
  c: Shape;
}

function sizes(shapes: readonly Shape[], { transA, transB }: MatmulAttrs): Sizes {
  const [givenA, givenB, bias] = shapes;
  const told = `matmul: a [${givenA}]${transA ? 'ᵀ' : ''} times b [${givenB}]${transB ? 'ᵀ' : ''}`;
  if (givenA.length === 0 || givenB.length === 0) throw new ShapeError(`${told}: each needs an axis; use mul for a number`);
  if ((transA && givenA.length === 1) || (transB && givenB.length === 1)) throw new ShapeError(`${told}: one axis cannot be transposed`);
  const a = givenA.length === 1 ? [1, ...givenA] : givenA;
  const b = givenB.length === 1 ? [...givenB, 1] : givenB;
  const [ar, ac] = a.slice(-2);
  const [br, bc] = b.slice(-2);
  const [m, k] = transA ? [ac, ar] : [ar, ac];
  const [k2, n] = transB ? [bc, br] : [br, bc];
  if (k !== k2) throw new ShapeError(`${told}: inner extents are ${k} and ${k2}`);
  const batch = broadcastShapes(a.slice(0, -2), b.slice(0, -2), `${told}: batches`);
  if (bias && (bias.length !== 1 || bias[0] !== n)) throw new ShapeError(`${told}: bias [${bias}] does not fit ${n} columns`);
  return { a, b, batch, m, n, k, c: [...batch, ...(givenA.length === 1 ? [] : [m]), ...(givenB.length === 1 ? [] : [n])] };
}

/** Neighboring batch axes that the operands walk in the same way, as one: its extent, and the matrices that a step skips in each. */
interface BatchGroup {
  extent: number;
  a: number;
  b: number;
  c: number;
}

/** The batch in as few groups as its strides allow. One group is one dispatch: an operand that repeats has a stride of 0. */
function batchGroups({ a, b, batch }: Sizes): BatchGroup[] {
  const strides = [broadcastStrides(a.slice(0, -2), batch), broadcastStrides(b.slice(0, -2), batch), stridesOf(batch)];
  const groups: BatchGroup[] = [];
  batch.forEach((extent, axis) => {
    if (extent === 1) return;
    const next = { extent, a: strides[0][axis], b: strides[1][axis], c: strides[2][axis] };
    const last = groups[groups.length - 1];
    if (last && (['a', 'b', 'c'] as const).every((x) => last[x] === next[x] * extent)) groups[groups.length - 1] = { ...next, extent: last.extent * extent };
    else groups.push(next);
  });
  return groups;
}

/**
 * One dispatch for a batch that both operands walk in one stride, or in which one of them repeats. Trailing batch axes that b lacks
 * become rows of a, so that a weight meets one tall matrix. Where both operands repeat, along different axes, the longest group
 * goes into the dispatch, and there is a dispatch for each step of the others. Nothing is copied.
 */
function launch(a: Tensor, b: Tensor, bias: Tensor | null, c: Tensor, attrs: MatmulAttrs, label: string): void {
  const found = sizes([a.shape, b.shape], attrs);
  const { n, k } = found;
  let { m } = found;
  if (c.size === 0) return;
  const groups = batchGroups(found);
  const last = groups[groups.length - 1];
  if (last && last.b === 0 && last.a === 1 && !attrs.transA) {
    m *= last.extent;
    groups.pop();
    for (const group of groups) for (const x of ['a', 'c'] as const) group[x] /= last.extent;
  }
  const inner = groups.reduce<BatchGroup>((best, group) => (group.extent > best.extent ? group : best), { extent: 1, a: 0, b: 0, c: 0 });
  const outer = groups.filter((group) => group !== inner);
  const steps = outer.reduce((product, { extent }) => product * extent, 1);
  for (let step = 0; step < steps; step++) {
    const first = { a: 0, b: 0, c: 0 };
    let rest = step;
    for (const group of outer) {
      for (const x of ['a', 'b', 'c'] as const) first[x] += (rest % group.extent) * group[x];
      rest = Math.floor(rest / group.extent);
    }
    matmulKernel(c.gpu, {
      a: a.slice,
      b: b.slice,
      c: c.slice,
      bias: bias?.slice,
      ...{ m, n, k, batch: inner.extent, label },
      transA: attrs.transA,
      transB: attrs.transB,
      relu: attrs.relu,
      aStride: inner.a * m * k,
      bStride: inner.b * k * n,
      cStride: inner.c * m * n,
      aStart: first.a * m * k,
      bStart: first.b * k * n,
      cStart: first.c * m * n,
    });
  }
}

/** op(x) op(y) of two gradients' operands, summed over the batch axes along which the wanted tensor was repeated. */
function gradProduct(x: Tensor, y: Tensor, transA: boolean, transB: boolean, shape: Shape, label: string): Tensor {
  const attrs = { transA, transB, relu: false };
  const batch = sizeOf(x.shape.slice(0, -2));
  const isSummed = batch > 1 && sizeOf(shape.slice(0, -2)) === 1 && sameShape(x.shape.slice(0, -2), y.shape.slice(0, -2));
  // The sum over the batch of xᵀ y is one product, with the batch as rows of both.
  if (isSummed && transA && !transB) {
    const rows = (t: Tensor) => t.alias([batch * t.shape[t.rank - 2], t.shape[t.rank - 1]]);
    return gradProduct(rows(x), rows(y), true, false, shape.slice(-2), label).alias(shape);
  }
  const out = empty(sizes([x.shape, y.shape], attrs).c, 'f32', label);
  launch(x, y, null, out, attrs, label);
  return sumTo(out, shape);
}

/** Batches of every pattern: name, a, b, flags. */
const BATCHED: readonly (readonly [string, Shape, Shape, string?])[] = [
  ['two batch axes', [2, 3, 5, 12], [2, 3, 12, 8]],
  ['two batch axes NT, primes', [2, 3, 37, 7], [2, 3, 11, 7], 'transB'],
  ['two batch axes of a, one weight', [2, 3, 13, 8], [8, 36], 'bias relu'],
  ['two batch axes of a, one weight TN', [2, 3, 8, 12], [8, 4], 'transA'],
  ['two batch axes of b', [36, 8], [2, 3, 8, 4]],
  ['a repeats along the last batch axis', [2, 1, 4, 8], [2, 3, 8, 12]],
  ['b repeats along the last batch axis', [2, 3, 4, 8], [2, 1, 8, 12], 'bias'],
  ['b repeats along the first batch axis', [2, 3, 5, 7], [3, 11, 7], 'transB'],
  ['both repeat', [2, 1, 4, 8], [3, 8, 12]],
  ['both repeat, the longer batch first, primes', [5, 1, 3, 7], [2, 7, 11]],
  ['both repeat, four batch axes', [2, 1, 3, 1, 2, 4], [3, 1, 2, 4, 3]],
  ['batches of 1', [1, 1, 3, 4], [1, 4, 8]],
  ['a row', [12], [12, 36]],
  ['a column', [37, 5], [5], 'relu'],
  ['a row and a column', [29], [29]],
  ['a row, a batch', [7], [2, 3, 7, 5], 'bias'],
  ['a batch, a column', [2, 3, 5, 8], [8]],
];

export const matmulOp: Op<MatmulAttrs> = {
  name: 'matmul',
  doc: {
    equation: 'c = op(a) op(b) + bias, then max(c, 0) if relu; op transposes the last two axes if asked',
    gradient: 'dA = dC Bᵀ, dB = Aᵀ dC, dbias = Σ dC over all rows; dC is 0 where a ReLU gave 0. A shared operand sums over the batch.',
    tensors: {
      a: '[…, m, k]; with transA […, k, m]; [k] is a row',
      b: '[…, k, n]; with transB […, n, k]; [k] is a column',
      bias: '[n], may be left out',
      c: "[…, m, n]; batch axes broadcast by NumPy's rule; without m if a is [k], without n if b is [k]",
    },
    example: 'ops.matmul(tensor([1, 2, 3, 4], [2, 2]), tensor([1, -1, 0, 1], [2, 2]), { bias: tensor([10, 20]) })',
    refused: [
      'ops.matmul(zeros([2, 3]), zeros([4, 5]))',
      'ops.matmul(zeros([3]), zeros([4, 5]))',
      'ops.matmul(zeros([3]), zeros([3, 5]), { transA: true })',
      'ops.matmul(zeros([]), zeros([3, 5]))',
      'ops.matmul(zeros([2, 5, 3]), zeros([4, 3, 5]))',
      'ops.matmul(zeros([2, 3]), zeros([3, 5]), { bias: zeros([4]) })',
    ],
  },
  inputs: ['a', 'b', 'bias'],
  outputs: ['c'],
  shape: (shapes, attrs) => [[...sizes(shapes, attrs).c]],
  forward: ({ inputs: [a, b, bias], outputs: [c], attrs, label }) => launch(a, b, bias ?? null, c, attrs, label),
  saves: ['a', 'b', 'c'],
  // C = A B. dA = dC Bᵀ and dB = Aᵀ dC; with op = transposed the same two products, their operands exchanged.
  backward: ({ saved, grads: [dy], attrs, inputShapes, label }) => {
    const { transA, transB, relu } = attrs;
    const { a: shapeA, b: shapeB, batch, m, n } = sizes(inputShapes, attrs);
    const [a, b] = [saved.a.alias(shapeA), saved.b.alias(shapeB)];
    let masked: Tensor | null = null;
    const dc = () => {
      masked ??= (relu ? binaryOf('mul', dy, unaryOf('step', saved.c)) : dy).alias([...batch, m, n]);
      return masked;
    };
    const da = () => (transA ? gradProduct(b, dc(), transB, true, shapeA, label) : gradProduct(dc(), b, false, !transB, shapeA, label));
    const db = () => (transB ? gradProduct(dc(), a, true, transA, shapeB, label) : gradProduct(a, dc(), !transA, false, shapeB, label));
    return [() => da().alias(inputShapes[0]), () => db().alias(inputShapes[1]), () => reduceOf('sum', dc().alias([sizeOf(batch) * m, n]), 0)];
  },
  reference: ([a, b, bias], attrs) => {
    const found = sizes([a.shape, b.shape], attrs);
    const { batch, m, n, k } = found;
    const [matricesA, matricesB] = [found.a, found.b].map((shape) => broadcastStrides(shape.slice(0, -2), batch));
    const at = (x: Reference, z: number, row: number, column: number, rows: number, columns: number, turned: boolean) =>
      x.data[z * rows * columns + (turned ? column * rows + row : row * columns + column)];
    return [
      reference(found.c, (i) => {
        const [row, column] = [Math.floor(i / n) % m, i % n];
        const place = placeOf(Math.floor(i / m / n), batch);
        const [zA, zB] = [matricesA, matricesB].map((strides) => place.reduce((sum, index, axis) => sum + index * strides[axis], 0));
        let sum = bias ? bias.data[column] : 0;
        for (let p = 0; p < k; p++) sum += at(a, zA, row, p, m, k, attrs.transA) * at(b, zB, p, column, k, n, attrs.transB);
        return attrs.relu ? Math.max(sum, 0) : sum;
      }),
    ];
  },
  cost: (shapes, outputs, attrs) => {
    const { batch, m, n, k } = sizes(shapes, attrs);
    return { flops: 2 * sizeOf(batch) * m * n * k, bytes: 4 * [...shapes, ...outputs].reduce((sum, shape) => sum + sizeOf(shape), 0) };
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
    { name: 'few rows, a long inner axis, bias and ReLU', shapes: [[5, 196], [196, 72], [72]], attrs: { transA: false, transB: false, relu: true } },
    {
      name: 'TN with a long inner axis',
      shapes: [
        [139, 20],
        [139, 72],
      ],
      attrs: { transA: true, transB: false, relu: false },
    },
    {
      name: 'a batch of NT with a long inner axis',
      shapes: [
        [2, 9, 132],
        [2, 68, 132],
      ],
      attrs: { transA: false, transB: true, relu: false },
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
    ...BATCHED.map(([name, a, b, flags = '']) => ({
      name,
      shapes: [a, b, ...(flags.includes('bias') ? [[flags.includes('transB') ? b[b.length - 2] : b[b.length - 1]]] : [])],
      attrs: { transA: flags.includes('transA'), transB: flags.includes('transB'), relu: flags.includes('relu') },
    })),
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
    intoCase('few rows and a long inner axis', { m: 5, n: 68, k: 140, transA: false, transB: false, aStart: 4, bStart: 8, cStart: 12 }),
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

/**
 * op(a) op(b) (+ bias per column) (then ReLU). a […, m, k], b […, k, n]; batch axes broadcast by NumPy's rule. An operand of one axis
 * is a row (a) or a column (b), and the result lacks that axis.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const attrs = { transA: options.transA ?? false, transB: options.transB ?? false, relu: options.relu ?? false };
  return apply(matmulOp, options.bias ? [a, b, options.bias] : [a, b], attrs)[0];
}
