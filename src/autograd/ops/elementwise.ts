/**
 * Elementwise ops: a row holds the formula in WGSL, its derivative side by side, and the same formula in f64. Binary ops
 * broadcast; their gradients are built from other ops of the table and summed back to each operand's shape.
 */
import { ShapeError } from '../../errors.ts';
import {
  axpby as axpbyKernel,
  binary,
  binaryBroadcast,
  binaryRows,
  type DropoutKey,
  dropout as dropoutKernel,
  present,
  unary,
  unaryGrad,
} from '../../kernels/elementwise.ts';
import { pcg4d, uniformFromBits } from '../../random.ts';
import { broadcastShapes, broadcastStrides, type Shape, sameShape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type Op, type OpCase, reference, streamingCost, type Tolerance } from '../op.ts';
import { apply } from '../tape.ts';
import { sumTo } from './reduce.ts';

interface UnaryRow {
  /** y and dx in the field's notation. */
  says: string;
  slope?: string;
  /** WGSL over `x: vec4f` and `alpha: f32`. */
  f: string;
  /** WGSL over x, y, dy and alpha; a text without `(` or names of operands is the reason for having none. */
  g: string;
  reference: (x: number, alpha: number) => number;
  draw?: string;
  flops?: number;
  alpha?: number;
  tolerance?: Tolerance;
}

const EXP: Tolerance = { rtol: 1e-5, atol: 4e-6, why: 'exp of software drivers is good to 4e-6 relative' };

/** A comparison as a number; beside a NaN it is a NaN. */
const order = (a: number, b: number, holds: boolean): number => (Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : holds ? 1 : 0);

const UNARY: Record<string, UnaryRow> = {
  neg: { says: '−x', slope: '−dy', f: '-x', g: '-dy', reference: (x) => -x },
  exp: { says: 'eˣ', slope: 'dy y', f: 'exp(x)', g: 'dy * y', reference: Math.exp, tolerance: EXP },
  log: {
    says: 'ln x',
    slope: 'dy / x',
    f: 'log(x)',
    g: 'dy / x',
    reference: Math.log,
    draw: 'positive',
    tolerance: { ...EXP, why: 'log of software drivers is good to 4e-6 absolute' },
  },
  sqrt: { says: '√x', slope: 'dy / (2 y)', f: 'sqrt(x)', g: 'dy * 0.5 / y', reference: Math.sqrt, draw: 'positive' },
  square: { says: 'x²', slope: '2 x dy', f: 'x * x', g: 'dy * 2.0 * x', reference: (x) => x * x },
  abs: { says: '|x|', slope: 'dy sign(x), 0 at x = 0', f: 'abs(x)', g: 'dy * sign(x)', reference: Math.abs },
  reciprocal: { says: '1 / x', slope: '−dy y²', f: '1.0 / x', g: '-dy * y * y', reference: (x) => 1 / x, draw: 'positive' },
  relu: { says: 'max(x, 0)', slope: 'dy where y > 0, else 0', f: 'max(x, vec4f())', g: 'select(vec4f(), dy, y > vec4f())', reference: (x) => Math.max(x, 0) },
  leakyRelu: {
    says: 'x where x > 0, else slope x',
    slope: 'dy where x > 0, else slope dy',
    f: 'select(alpha * x, x, x > vec4f())',
    g: 'select(alpha * dy, dy, x > vec4f())',
    reference: (x, a) => (x > 0 ? x : a * x),
    alpha: 0.1,
  },
  sigmoid: {
    says: '1 / (1 + e⁻ˣ)',
    slope: 'dy y (1 − y)',
    f: '1.0 / (1.0 + exp(-x))',
    g: 'dy * y * (1.0 - y)',
    reference: (x) => 1 / (1 + Math.exp(-x)),
    tolerance: EXP,
  },
  // SwiftShader's tanh is NaN beyond 88, and 10 is already 1 in float32.
  tanh: {
    says: 'tanh x',
    slope: 'dy (1 − y²)',
    f: 'tanh(clamp(x, vec4f(-10.0), vec4f(10.0)))',
    g: 'dy * (1.0 - y * y)',
    reference: Math.tanh,
    tolerance: { ...EXP, why: 'tanh goes through exp' },
  },
  scale: { says: 'factor x', slope: 'factor dy', f: 'x * alpha', g: 'dy * alpha', reference: (x, a) => x * a, alpha: 0.37 },
  addScalar: { says: 'x + value', slope: 'dy', f: 'x + alpha', g: 'dy', reference: (x, a) => x + a, alpha: 1.7 },
  step: {
    says: '1 where x > threshold, else 0',
    f: 'select(vec4f(), vec4f(1.0), x > vec4f(alpha))',
    g: '',
    reference: (x, a) => order(x, a, x > a),
    alpha: 0.1,
  },
};

/** Prime sizes, a single element, and several workgroups. */
const UNARY_SHAPES: Shape[] = [[1], [7], [113], [3, 5, 7, 11]];

export interface UnaryAttrs {
  alpha: number;
}

function unaryOp(name: string, row: UnaryRow): Op<UnaryAttrs> {
  const uses = (operand: string) => new RegExp(`\\b${operand}\\b`).test(row.g);
  const saves = ['x', 'y'].filter(uses);
  return {
    name,
    doc: {
      equation: `y = ${row.says}`,
      ...(row.slope ? { gradient: `dx = ${row.slope}` } : {}),
      tensors: { x: 'any shape', y: 'that of x' },
      example: `ops.${name}(tensor([${row.draw === 'positive' ? '0.5, 1, 4' : '-2, 0, 0.5'}])${row.alpha === undefined ? '' : `, ${row.alpha}`})`,
    },
    inputs: ['x'],
    outputs: ['y'],
    shape: ([x]) => [x],
    forward: ({ gpu, inputs: [x], outputs: [y], attrs, label }) => unary(gpu, row.f, x.slice, y.slice, x.size, attrs.alpha, label),
    saves,
    backward: row.g
      ? ({ gpu, saved, grads: [dy], attrs, label }) => [
          () => {
            const dx = empty(dy.shape, 'f32', label);
            unaryGrad(gpu, row.g, saved.x?.slice ?? null, saved.y?.slice ?? null, dy.slice, dx.slice, dy.size, attrs.alpha, label);
            return dx;
          },
        ]
      : 'a step is flat everywhere',
    reference: ([x], { alpha }) => [reference(x.shape, (i) => row.reference(x.data[i], alpha))],
    cost: (shapes, outputs) => streamingCost(shapes, outputs, row.flops ?? 1),
    cases: UNARY_SHAPES.map((shape) => ({ name: `[${shape}]`, shapes: [shape], attrs: { alpha: row.alpha ?? 0 }, draw: [row.draw ?? 'normal'] })),
    tolerance: row.tolerance,
  };
}

interface BinaryRow {
  /** c, and the gradients of both operands, in the field's notation. */
  says: string;
  slopes?: string;
  f: string;
  reference: (a: number, b: number) => number;
  /** Gradients of both operands, not yet summed to their shapes. */
  gradient: ((dy: Tensor, a: Tensor, b: Tensor, y: Tensor) => [() => Tensor, () => Tensor]) | string;
  saves?: readonly string[];
  draw?: string;
}

const BINARY: Record<string, BinaryRow> = {
  add: { says: 'a + b', slopes: 'da = dc, db = dc', f: 'a + b', reference: (a, b) => a + b, gradient: (dy) => [() => dy.alias(), () => dy.alias()] },
  sub: { says: 'a − b', slopes: 'da = dc, db = −dc', f: 'a - b', reference: (a, b) => a - b, gradient: (dy) => [() => dy.alias(), () => unaryOf('neg', dy)] },
  mul: {
    says: 'a b',
    slopes: 'da = dc b, db = dc a',
    f: 'a * b',
    reference: (a, b) => a * b,
    gradient: (dy, a, b) => [() => binaryOf('mul', dy, b), () => binaryOf('mul', dy, a)],
    saves: ['a', 'b'],
  },
  div: {
    says: 'a / b',
    slopes: 'da = dc / b, db = −dc c / b',
    f: 'a / b',
    reference: (a, b) => a / b,
    gradient: (dy, _a, b, y) => [() => binaryOf('div', dy, b), () => unaryOf('neg', binaryOf('div', binaryOf('mul', dy, y), b))],
    saves: ['b', 'c'],
    draw: 'positive',
  },
  maximum: {
    says: 'max(a, b)',
    slopes: 'da = dc where a ≥ b, db = dc where b > a, else 0',
    f: 'max(a, b)',
    reference: Math.max,
    gradient: (dy, a, b) => [() => binaryOf('mul', dy, binaryOf('greaterEqual', a, b)), () => binaryOf('mul', dy, binaryOf('greater', b, a))],
    saves: ['a', 'b'],
  },
  minimum: {
    says: 'min(a, b)',
    slopes: 'da = dc where b ≥ a, db = dc where a > b, else 0',
    f: 'min(a, b)',
    reference: Math.min,
    gradient: (dy, a, b) => [() => binaryOf('mul', dy, binaryOf('greaterEqual', b, a)), () => binaryOf('mul', dy, binaryOf('greater', a, b))],
    saves: ['a', 'b'],
  },
  greater: {
    says: '1 where a > b, else 0',
    f: 'select(vec4f(), vec4f(1.0), a > b)',
    reference: (a, b) => order(a, b, a > b),
    gradient: 'a comparison is flat everywhere',
  },
  greaterEqual: {
    says: '1 where a ≥ b, else 0',
    f: 'select(vec4f(), vec4f(1.0), a >= b)',
    reference: (a, b) => order(a, b, a >= b),
    gradient: 'a comparison is flat everywhere',
  },
};

/** One workgroup and several, of equal shapes and of shapes that broadcast, with up to six axes. */
const BINARY_SHAPES: [Shape, Shape][] = [
  [[1], [1]],
  [[331], [331]],
  [[7, 11], [11]],
  [[13, 131], [131]],
  [
    [2, 3, 5, 7],
    [1, 1, 5, 7],
  ],
  [
    [5, 1, 3],
    [1, 7, 3],
  ],
  [[], [3, 5]],
  [
    [2, 3, 5, 7],
    [3, 1, 7],
  ],
  [
    [2, 1, 3, 1, 5, 2],
    [3, 3, 2, 1, 2],
  ],
];

export function offsetsOf(shape: Shape, out: Shape): (index: number) => number {
  const strides = broadcastStrides(shape, out);
  const own = stridesOf(out);
  return (index) => {
    let at = 0;
    for (let axis = 0; axis < out.length; axis++) at += (Math.floor(index / own[axis]) % out[axis]) * strides[axis];
    return at;
  };
}

/** Whether a tensor is one row that all rows of another share: its shape is the other's last axes. */
function isSharedRow(row: Shape, all: Shape): boolean {
  const axes = row.slice(row.findIndex((extent) => extent !== 1));
  return axes.length < all.length && sizeOf(row) > 1 && axes.every((extent, i) => extent === all[all.length - axes.length + i]);
}

function binaryOp(name: string, row: BinaryRow): Op<null> {
  const { gradient } = row;
  return {
    name,
    doc: {
      equation: `c = ${row.says}, element by element; an axis of extent 1, or none, repeats`,
      ...(row.slopes ? { gradient: `${row.slopes}, each summed over the axes along which its operand repeats` } : {}),
      tensors: { a: 'any shape', b: 'one that broadcasts with that of a (aligned at the last axis)', c: 'the shape of both, broadcast' },
      example: `ops.${name}(tensor([1, 2, 3, 4, 5, 6], [2, 3]), tensor([2, 2, 4]))`,
      refused: [`ops.${name}(zeros([2, 3]), zeros([2]))`],
    },
    inputs: ['a', 'b'],
    outputs: ['c'],
    shape: ([a, b]) => [broadcastShapes(a, b, name)],
    forward: ({ gpu, inputs: [a, b], outputs: [c], label }) => {
      if (sameShape(a.shape, b.shape)) binary(gpu, row.f, a.slice, b.slice, c.slice, c.size, label);
      else if (isSharedRow(b.shape, a.shape)) binaryRows(gpu, row.f, a.slice, b.slice, c.slice, c.size / b.size, b.size, label);
      else
        binaryBroadcast(
          gpu,
          row.f,
          { slice: a.slice, strides: broadcastStrides(a.shape, c.shape) },
          { slice: b.slice, strides: broadcastStrides(b.shape, c.shape) },
          c.slice,
          c.shape,
          label,
        );
    },
    saves: row.saves,
    backward:
      typeof gradient === 'string'
        ? gradient
        : ({ saved, grads: [dy], inputShapes }) => gradient(dy, saved.a, saved.b, saved.c).map((thunk, i) => () => sumTo(thunk(), inputShapes[i])),
    reference: ([a, b]) => {
      const shape = broadcastShapes(a.shape, b.shape, name);
      const [atA, atB] = [offsetsOf(a.shape, shape), offsetsOf(b.shape, shape)];
      return [reference(shape, (i) => row.reference(a.data[atA(i)], b.data[atB(i)]))];
    },
    cost: (shapes, outputs) => streamingCost(shapes, outputs),
    family: 'binary_rows',
    cases: BINARY_SHAPES.map(
      ([a, b]): OpCase<null> => ({ name: `[${a}] [${b}]`, shapes: [a, b], attrs: null, draw: [row.draw ?? 'normal', row.draw ?? 'normal'] }),
    ),
  };
}

export const unaryOps = Object.fromEntries(Object.entries(UNARY).map(([name, row]) => [name, unaryOp(name, row)]));
export const binaryOps = Object.fromEntries(Object.entries(BINARY).map(([name, row]) => [name, binaryOp(name, row)]));

export function unaryOf(name: string, x: Tensor, alpha = 0): Tensor {
  return apply(unaryOps[name], [x], { alpha })[0];
}

export function binaryOf(name: string, a: Tensor, b: Tensor): Tensor {
  return apply(binaryOps[name], [a, b], null)[0];
}

/** A weighted sum in place: gradients that add up, running statistics. */
export const axpbyOp: Op<{ alpha: number; beta: number }> = {
  name: 'axpby',
  family: 'axpby',
  doc: {
    runBy: '`blendInto`, and by [backward](#backward) where gradients add up',
    equation: 'yNew = alpha x + beta y',
    tensors: { x: 'any shape', y: 'as many elements', yNew: 'as y' },
    example: "apply(entry('axpby'), [tensor([1, 2]), tensor([10, 20])], { alpha: 0.5, beta: 2 })",
    refused: ["apply(entry('axpby'), [zeros([2]), zeros([3])], { alpha: 1, beta: 1 })"],
  },
  inputs: ['x', 'y'],
  outputs: ['yNew'],
  shape: ([x, y]) => {
    if (sizeOf(x) !== sizeOf(y)) throw new ShapeError(`axpby: [${x}] into [${y}]`);
    return [y];
  },
  forward: ({ gpu, inputs: [x, y], outputs: [yNew], attrs: { alpha, beta }, label }) => {
    gpu.copy(y.slice, yNew.slice, y.size * 4);
    axpbyKernel(gpu, alpha, x.slice, beta, yNew.slice, y.size, label);
  },
  backward: 'an update in place, not a function to be differentiated',
  reference: ([x, y], { alpha, beta }) => [reference(y.shape, (i) => alpha * x.data[i] + beta * y.data[i])],
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 3),
  cases: [
    { name: 'primes', shapes: [[331], [331]], attrs: { alpha: 0.3, beta: 0.7 } },
    { name: 'an element less than a vec4', shapes: [[7], [7]], attrs: { alpha: 1, beta: 1 } },
  ],
};

/** Srivastava et al. 2014, inverted: y = x / (1 − rate) where uniform(seed, step, stream, index) ≥ rate, else 0. */
export const dropoutOp: Op<DropoutKey> = {
  name: 'dropout',
  doc: {
    equation: 'y = x / (1 − rate) where u ≥ rate, else 0; u in [0, 1) is a function of seed, step, stream and the index',
    gradient: 'dx = dy / (1 − rate) where u ≥ rate, else 0',
    tensors: { x: 'any shape', y: 'that of x' },
    example: 'ops.dropout(full([8], 1), { rate: 0.5, seed: 1, step: 0, stream: 0 })',
  },
  inputs: ['x'],
  outputs: ['y'],
  shape: ([x]) => [x],
  forward: ({ gpu, inputs: [x], outputs: [y], attrs, label }) => dropoutKernel(gpu, x.slice, y.slice, x.size, attrs, label),
  backward: ({ gpu, grads: [dy], attrs, label }) => [
    () => {
      const dx = empty(dy.shape, 'f32', label);
      dropoutKernel(gpu, dy.slice, dx.slice, dy.size, attrs, label);
      return dx;
    },
  ],
  reference: ([x], { rate, seed, step, stream }) => [
    reference(x.shape, (i) =>
      uniformFromBits(pcg4d(seed, present(step), stream, i)[0]) >= Math.fround(rate) || Number.isNaN(x.data[i]) ? x.data[i] / (1 - rate) : 0,
    ),
  ],
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 40),
  cases: [0.1, 0.5].map((rate) => ({ name: `rate ${rate}`, shapes: [[37, 41]], attrs: { rate, seed: 7, step: 3, stream: 11 } })),
};
