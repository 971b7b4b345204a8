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
  type UnaryShader,
  unary,
  unaryGrad,
} from '../../kernels/elementwise.ts';
import { pcg4d, uniformFromBits } from '../../random.ts';
import { broadcastShapes, broadcastStrides, type Shape, sameShape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, type Tensor, zeros } from '../../tensor/tensor.ts';
import { FLAT, type Op, type OpCase, reference, streamingCost, type Tolerance } from '../op.ts';
import { apply } from '../tape.ts';
import { sumTo } from './reduce.ts';
import { where } from './select.ts';

interface UnaryRow {
  /** y and dx in the field's notation. */
  says: string;
  slope?: string;
  /** WGSL over `x: vec4f`, `alpha: f32` and `beta: f32`, and over the functions of the row's shader. */
  f: string;
  /** The shader whose functions `f` needs; unary.wgsl if there is none. */
  shader?: UnaryShader;
  /** WGSL over x, y, dy, alpha and beta. Empty: the function is flat. */
  g?: string;
  /** The slope by other ops, in place of `g`. */
  slopeAt?: (x: Tensor) => Tensor;
  reference: (x: number, alpha: number, beta: number) => number;
  draw?: string;
  /** Further ways to draw x, beyond those that the docs show: other parts of the function. */
  draws?: readonly string[];
  flops?: number;
  alpha?: number;
  beta?: number;
  tolerance?: Tolerance;
}

const EXP: Tolerance = { rtol: 1e-5, atol: 4e-6, why: 'exp of software drivers is good to 4e-6 relative' };

/** A comparison as a number; beside a NaN it is a NaN. */
const order = (a: number, b: number, holds: boolean): number => (Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : holds ? 1 : 0);

const INVERSE: Tolerance = { rtol: 1e-5, atol: 1e-6, why: 'a quotient, a root or a polynomial of a few float32 operations' };

/** Σ 2ⁿ x²ⁿ⁺¹ / (2n + 1)!! has terms of one sign, so that it keeps its digits. */
function erfOf(x: number): number {
  if (!(Math.abs(x) < 6)) return Math.sign(x);
  let [sum, term] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const sigmoidOf = (x: number): number => 1 / (1 + Math.exp(-x));
const softplusOf = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
/** x f(x) where f tends to 0 at −∞ faster than x grows. */
const gated = (x: number, f: number): number => (x === Number.NEGATIVE_INFINITY ? 0 : x * f);
const halfToEven = (x: number): number => {
  const down = Math.floor(x);
  return x - down === 0.5 ? 2 * Math.round(down / 2) : Math.round(x);
};

/** WGSL: x within ends beyond which the gate is 0 or 1 in float32, so that no infinity meets a 0. */
const within = (low: number, high: number): string => `clamp(x, vec4f(${low.toFixed(1)}), vec4f(${high.toFixed(1)}))`;
const SILU = `(1.0 / (1.0 + exp(-${within(-100, 100)})))`;
const GELU_X = within(-11, 11);
const GELU_TANH = `(1.0 / (1.0 + exp(-1.5957691216 * (${GELU_X} + 0.044715 * ${GELU_X} * ${GELU_X} * ${GELU_X}))))`;
const MISH_X = within(-110, 20);
const MISH = `(exp(${MISH_X}) * (exp(${MISH_X}) + 2.0))`;

const UNARY: Record<string, UnaryRow> = {
  neg: { says: '−x', slope: '−dy', f: '-x', g: '-dy', reference: (x) => -x },
  exp: { says: 'eˣ', slope: 'dy y', f: 'exp(x)', g: 'dy * y', reference: Math.exp, tolerance: EXP },
  log: {
    says: 'ln x',
    slope: 'dy / x',
    f: 'ln(x)',
    shader: 'unary_special',
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
  erf: {
    says: 'erf x',
    slope: 'dy 2 exp(−x²) / √π',
    f: 'erf(x)',
    shader: 'unary_special',
    g: 'dy * 1.1283791671 * exp(-x * x)',
    reference: erfOf,
    draws: ['outliers'],
    tolerance: { rtol: 1e-6, atol: 1e-6, why: 'a quotient of polynomials good to 4.2e-7' },
  },
  gelu: {
    says: 'x (1 + erf(x / √2)) / 2',
    slope: 'dy ((1 + erf(x / √2)) / 2 + x exp(−x² / 2) / √(2π))',
    f: 'select(0.5 * x * (1.0 + erf(0.7071067812 * x)), vec4f(), x < vec4f(-6.0))',
    shader: 'unary_special',
    g: `dy * (0.5 + 0.5 * erf(0.7071067812 * x) + 0.3989422804 * ${within(-14, 14)} * exp(-0.5 * ${within(-14, 14)} * ${within(-14, 14)}))`,
    reference: (x) => gated(x, 0.5 * (1 + erfOf(x / Math.SQRT2))),
    draws: ['outliers'],
    tolerance: { rtol: 1e-6, atol: 1e-6, why: 'erf good to 4.2e-7' },
  },
  geluTanh: {
    says: 'x (1 + tanh(√(2 / π) (x + 0.044715 x³))) / 2',
    slope: 'dy (s + x s (1 − s) 2 √(2 / π) (1 + 0.134145 x²)), s = y / x',
    f: `max(x, vec4f(-11.0)) * ${GELU_TANH}`,
    g: `dy * ${GELU_TANH} * (1.0 + ${GELU_X} * (1.0 - ${GELU_TANH}) * 1.5957691216 * (1.0 + 0.134145 * ${GELU_X} * ${GELU_X}))`,
    reference: (x) => gated(x, sigmoidOf(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    draws: ['outliers'],
    tolerance: EXP,
  },
  silu: {
    says: 'x / (1 + e⁻ˣ)',
    slope: 'dy s (1 + x (1 − s)), s = y / x',
    f: `max(x, vec4f(-100.0)) * ${SILU}`,
    g: `dy * ${SILU} * (1.0 + ${within(-100, 100)} * (1.0 - ${SILU}))`,
    reference: (x) => gated(x, sigmoidOf(x)),
    draws: ['outliers'],
    tolerance: EXP,
  },
  hardSigmoid: {
    says: 'alpha x + beta, cut to 0 … 1',
    slope: 'alpha dy where 0 < y < 1, else 0',
    f: 'clamp(alpha * x + beta, vec4f(), vec4f(1.0))',
    g: 'select(vec4f(), alpha * dy, (y > vec4f()) & (y < vec4f(1.0)))',
    reference: (x, a, b) => (Number.isNaN(x) ? x : Math.min(Math.max(a * x + b, 0), 1)),
    alpha: 0.2,
    beta: 0.5,
    draws: ['outliers'],
  },
  hardSwish: {
    says: 'x times x / 6 + 1 / 2, cut to 0 … 1',
    slope: 'dy where x ≥ 3, 0 where x ≤ −3, else dy (x / 3 + 1 / 2)',
    f: 'max(x, vec4f(-3.0)) * clamp(x / 6.0 + 0.5, vec4f(), vec4f(1.0))',
    g: 'select(select(dy * (x / 3.0 + 0.5), vec4f(), x <= vec4f(-3.0)), dy, x >= vec4f(3.0))',
    reference: (x) => (x <= -3 ? 0 : x * Math.min(x / 6 + 0.5, 1)),
    draws: ['outliers'],
  },
  softplus: {
    says: 'ln(1 + eˣ)',
    slope: 'dy / (1 + e⁻ˣ)',
    f: 'max(x, vec4f()) + log1p(exp(-abs(x)))',
    shader: 'unary_special',
    g: 'dy / (1.0 + exp(-x))',
    reference: softplusOf,
    draws: ['outliers'],
    tolerance: EXP,
  },
  mish: {
    says: 'x tanh(ln(1 + eˣ))',
    slope: 'dy (t + x (1 − t²) / (1 + e⁻ˣ)), t = y / x',
    f: `max(x, vec4f(-110.0)) * (${MISH} / (${MISH} + 2.0))`,
    g: `dy * (${MISH} / (${MISH} + 2.0) + ${MISH_X} * 4.0 * (${MISH} + 1.0) / ((${MISH} + 2.0) * (${MISH} + 2.0)) / (1.0 + exp(-${MISH_X})))`,
    reference: (x) => gated(x, Math.tanh(softplusOf(x))),
    draws: ['outliers'],
    tolerance: EXP,
  },
  elu: {
    says: 'x where x > 0, else alpha (eˣ − 1)',
    slope: 'dy where x > 0, else dy alpha eˣ',
    f: 'select(alpha * expm1(x), x, x > vec4f())',
    shader: 'unary_special',
    g: 'select(dy * alpha * exp(x), dy, x > vec4f())',
    reference: (x, a) => (x > 0 ? x : a * Math.expm1(x)),
    alpha: 1.3,
    draws: ['outliers'],
    tolerance: EXP,
  },
  selu: {
    says: 'gamma x where x > 0, else gamma alpha (eˣ − 1)',
    slope: 'dy gamma where x > 0, else dy gamma alpha eˣ',
    f: 'beta * select(alpha * expm1(x), x, x > vec4f())',
    shader: 'unary_special',
    g: 'dy * beta * select(alpha * exp(x), vec4f(1.0), x > vec4f())',
    reference: (x, a, b) => b * (x > 0 ? x : a * Math.expm1(x)),
    alpha: 1.6,
    beta: 1.1,
    draws: ['outliers'],
    tolerance: EXP,
  },
  celu: {
    says: 'x where x > 0, else alpha (exp(x / alpha) − 1)',
    slope: 'dy where x > 0, else dy exp(x / alpha)',
    f: 'select(alpha * expm1(x / alpha), x, x > vec4f())',
    shader: 'unary_special',
    g: 'select(dy * exp(x / alpha), dy, x > vec4f())',
    reference: (x, a) => (x > 0 ? x : a * Math.expm1(x / a)),
    alpha: 0.7,
    draws: ['outliers'],
    tolerance: EXP,
  },
  softsign: {
    says: 'x / (1 + |x|)',
    slope: 'dy / (1 + |x|)²',
    f: `${within(-3e38, 3e38)} / (1.0 + abs(${within(-3e38, 3e38)}))`,
    g: 'dy / ((1.0 + abs(x)) * (1.0 + abs(x)))',
    reference: (x) => (Math.abs(x) === Number.POSITIVE_INFINITY ? Math.sign(x) : x / (1 + Math.abs(x))),
  },
  thresholdedRelu: {
    says: 'x where x > threshold, else 0',
    slope: 'dy where x > threshold, else 0',
    f: 'select(vec4f(), x, x > vec4f(alpha))',
    g: 'select(vec4f(), dy, x > vec4f(alpha))',
    reference: (x, a) => (Number.isNaN(x) || x > a ? x : 0),
    alpha: 0.3,
  },
  sign: { says: '1 where x > 0, −1 where x < 0, else 0', f: 'sign(x)', reference: Math.sign },
  floor: { says: 'the largest whole number ≤ x', f: 'floor(x)', reference: Math.floor },
  ceil: { says: 'the smallest whole number ≥ x', f: 'ceil(x)', reference: Math.ceil },
  round: { says: 'the nearest whole number, of two the even one', f: 'round(x)', reference: halfToEven },
  trunc: { says: 'x without what is behind its point', f: 'trunc(x)', reference: Math.trunc },
  sin: {
    says: 'sin x',
    slope: 'dy cos x',
    f: 's',
    shader: 'unary_turns',
    slopeAt: (x) => unaryOf('cos', x),
    reference: Math.sin,
    draws: ['outliers', 'outliers plus 100000'],
  },
  cos: {
    says: 'cos x',
    slope: '−dy sin x',
    f: 'c',
    shader: 'unary_turns',
    slopeAt: (x) => unaryOf('neg', unaryOf('sin', x)),
    reference: Math.cos,
    draws: ['outliers', 'outliers plus 100000'],
  },
  tan: { says: 'tan x', slope: 'dy (1 + y²)', f: 's / c', shader: 'unary_turns', g: 'dy * (1.0 + y * y)', reference: Math.tan, draw: 'unit' },
  asin: {
    says: 'arcsin x, no number where |x| > 1',
    slope: 'dy / √(1 − x²)',
    f: 'arc_sin(x)',
    shader: 'unary_special',
    g: 'dy / sqrt((1.0 - x) * (1.0 + x))',
    reference: Math.asin,
    draw: 'unit plus -0.5',
    draws: ['unit', 'unit plus -1'],
    tolerance: INVERSE,
  },
  acos: {
    says: 'arccos x, no number where |x| > 1',
    slope: '−dy / √(1 − x²)',
    f: 'arc_cos(x)',
    shader: 'unary_special',
    g: '-dy / sqrt((1.0 - x) * (1.0 + x))',
    reference: Math.acos,
    draw: 'unit plus -0.5',
    draws: ['unit', 'unit plus -1'],
    tolerance: INVERSE,
  },
  atan: {
    says: 'arctan x',
    slope: 'dy / (1 + x²)',
    f: 'arc_tan(x)',
    shader: 'unary_special',
    g: 'dy / (1.0 + x * x)',
    reference: Math.atan,
    draws: ['outliers'],
  },
  sinh: {
    says: '(eˣ − e⁻ˣ) / 2',
    slope: 'dy cosh x',
    f: 'sinh_exact(x)',
    shader: 'unary_special',
    slopeAt: (x) => unaryOf('cosh', x),
    reference: Math.sinh,
    draws: ['outliers'],
    tolerance: EXP,
  },
  cosh: {
    says: '(eˣ + e⁻ˣ) / 2',
    slope: 'dy sinh x',
    f: 'exp(x - 0.6931471806) + exp(-x - 0.6931471806)',
    slopeAt: (x) => unaryOf('sinh', x),
    reference: Math.cosh,
    draws: ['outliers'],
    tolerance: EXP,
  },
  asinh: {
    says: 'arsinh x',
    slope: 'dy / √(x² + 1)',
    f: 'area_sinh(x)',
    shader: 'unary_special',
    g: 'dy / sqrt(x * x + 1.0)',
    reference: Math.asinh,
    draws: ['outliers'],
    tolerance: INVERSE,
  },
  acosh: {
    says: 'arcosh x, no number where x < 1',
    slope: 'dy / √(x² − 1)',
    f: 'area_cosh(x)',
    shader: 'unary_special',
    g: 'dy / (sqrt(x - 1.0) * sqrt(x + 1.0))',
    reference: Math.acosh,
    draw: 'positive plus 1',
    tolerance: INVERSE,
  },
  atanh: {
    says: 'artanh x, no number where |x| > 1',
    slope: 'dy / (1 − x²)',
    f: 'area_tanh(x)',
    shader: 'unary_special',
    g: 'dy / ((1.0 - x) * (1.0 + x))',
    reference: Math.atanh,
    draw: 'unit plus -0.5',
    draws: ['unit', 'unit plus -1'],
    tolerance: INVERSE,
  },
  isNan: {
    says: '1 where x is a NaN, else 0',
    f: '(x & vec4u(0x7fffffffu)) > vec4u(0x7f800000u)',
    shader: 'classify',
    reference: (x) => (Number.isNaN(x) ? 1 : 0),
  },
  isInf: {
    says: '1 where x is +∞ (if positive is not 0) or −∞ (if negative is not 0), else 0, for a NaN too',
    f: '((x == vec4u(0x7f800000u)) & vec4<bool>(alpha != 0.0)) | ((x == vec4u(0xff800000u)) & vec4<bool>(beta != 0.0))',
    shader: 'classify',
    reference: (x, positive, negative) => ((x === Number.POSITIVE_INFINITY && positive !== 0) || (x === Number.NEGATIVE_INFINITY && negative !== 0) ? 1 : 0),
    alpha: 1,
    beta: 1,
    draws: ['normal with Infinity', 'normal with -Infinity'],
  },
};

/** Prime sizes, a single element, and several workgroups. */
const UNARY_SHAPES: Shape[] = [[1], [7], [113], [3, 5, 7, 11]];

/** What the docs call a row with, by how its cases are drawn. */
const EXAMPLES: Readonly<Record<string, string>> = {
  normal: '-2, 0, 0.5',
  positive: '0.5, 1, 4',
  'positive plus 1': '1, 1.5, 4',
  unit: '0, 0.5, 1',
  'unit plus -0.5': '-0.5, 0, 0.5',
};

/** A row's own constants; `beta` is 0 for rows with one. */
export interface UnaryAttrs {
  alpha: number;
  beta?: number;
}

function unaryOp(name: string, row: UnaryRow): Op<UnaryAttrs> {
  const { g = '', slopeAt, shader } = row;
  const uses = (operand: string) => new RegExp(`\\b${operand}\\b`).test(g);
  const saves = slopeAt ? ['x'] : ['x', 'y'].filter(uses);
  const constants = [row.alpha, row.beta].filter((value) => value !== undefined);
  const attrs: UnaryAttrs = { alpha: row.alpha ?? 0, ...(row.beta === undefined ? {} : { beta: row.beta }) };
  return {
    name,
    doc: {
      equation: `y = ${row.says}`,
      ...(row.slope ? { gradient: `dx = ${row.slope}` } : {}),
      tensors: { x: 'any shape', y: 'that of x' },
      example: `ops.${name}(tensor([${EXAMPLES[row.draw ?? 'normal']}])${name === 'isInf' ? '' : constants.map((value) => `, ${value}`).join('')})`,
    },
    inputs: ['x'],
    outputs: ['y'],
    shape: ([x]) => [x],
    forward: ({ gpu, inputs: [x], outputs: [y], attrs, label }) => unary(gpu, row.f, x.slice, y.slice, x.size, attrs.alpha, label, attrs.beta, shader),
    saves,
    backward: slopeAt
      ? ({ saved: { x }, grads: [dy] }) => [() => binaryOf('mul', dy, slopeAt(x))]
      : g
        ? ({ gpu, saved, grads: [dy], attrs, label }) => [
            () => {
              const dx = empty(dy.shape, 'f32', label);
              unaryGrad(gpu, g, saved.x?.slice ?? null, saved.y?.slice ?? null, dy.slice, dx.slice, dy.size, attrs.alpha, label, attrs.beta);
              return dx;
            },
          ]
        : FLAT.step,
    reference: ([x], { alpha, beta = 0 }) => [reference(x.shape, (i) => row.reference(x.data[i], alpha, beta))],
    cost: (shapes, outputs) => streamingCost(shapes, outputs, row.flops ?? 1),
    cases: [
      ...UNARY_SHAPES.map((shape) => ({ name: `[${shape}]`, shapes: [shape], attrs, draw: [row.draw ?? 'normal'] })),
      ...(row.draws ?? []).map((draw) => ({ name: draw, shapes: [[127]], attrs, draw: [draw] })),
    ],
    tolerance: row.tolerance,
  };
}

interface BinaryRow {
  /** c, and the gradients of both operands, in the field's notation. */
  says: string;
  slopes?: string;
  /** WGSL over `a` and `b`: vec4f, or with `special` f32 and over the functions of binary_special.wgsl. */
  f: string;
  special?: true;
  reference: (a: number, b: number) => number;
  /** Gradients of both operands, not yet summed to their shapes. */
  gradient: ((dy: Tensor, a: Tensor, b: Tensor, y: Tensor) => [() => Tensor, () => Tensor]) | string;
  saves?: readonly string[];
  draw?: string;
  /** How to draw b, if not as a. */
  drawB?: string;
}

/** a^b as C has it but for NaN, which stays one. JavaScript makes a NaN of 1 to an infinite power. */
const powerOf = (a: number, b: number): number => {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.NaN;
  return Math.abs(a) === 1 && Math.abs(b) === Number.POSITIVE_INFINITY ? 1 : a ** b;
};
const modulusOf = (a: number, b: number): number => {
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
};
/** The gradients of a remainder c = a − q b with a whole q, which is flat. */
const remainderGradient: BinaryRow['gradient'] = (dy, a, b, c) => [
  () => dy.alias(),
  () => unaryOf('neg', binaryOf('mul', dy, unaryOf('round', binaryOf('div', binaryOf('sub', a, c), b)))),
];

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
    gradient: FLAT.comparison,
  },
  greaterEqual: {
    says: '1 where a ≥ b, else 0',
    f: 'select(vec4f(), vec4f(1.0), a >= b)',
    reference: (a, b) => order(a, b, a >= b),
    gradient: FLAT.comparison,
  },
  less: {
    says: '1 where a < b, else 0',
    f: 'select(vec4f(), vec4f(1.0), a < b)',
    reference: (a, b) => order(a, b, a < b),
    gradient: FLAT.comparison,
    draw: 'ids:3',
  },
  lessEqual: {
    says: '1 where a ≤ b, else 0',
    f: 'select(vec4f(), vec4f(1.0), a <= b)',
    reference: (a, b) => order(a, b, a <= b),
    gradient: FLAT.comparison,
    draw: 'ids:3',
  },
  equal: {
    says: '1 where a = b, else 0',
    f: 'select(vec4f(), vec4f(1.0), a == b)',
    reference: (a, b) => order(a, b, a === b),
    gradient: FLAT.comparison,
    draw: 'ids:3',
  },
  notEqual: {
    says: '1 where a ≠ b, else 0',
    f: 'select(vec4f(), vec4f(1.0), a != b)',
    reference: (a, b) => order(a, b, a !== b),
    gradient: FLAT.comparison,
    draw: 'ids:3',
  },
  pow: {
    says: 'aᵇ; of a negative a, whole powers only',
    slopes: 'da = dc b aᵇ⁻¹, 0 where b = 0; db = dc c ln a, 0 where a = 0, no number where a < 0',
    f: 'power(a, b)',
    special: true,
    reference: powerOf,
    gradient: (dy, a, b, c) => [
      () => where(b, binaryOf('mul', binaryOf('mul', dy, b), binaryOf('pow', a, unaryOf('addScalar', b, -1))), zeros([])),
      () => where(a, binaryOf('mul', dy, binaryOf('mul', c, unaryOf('log', a))), zeros([])),
    ],
    saves: ['a', 'b', 'c'],
    draw: 'positive',
    drawB: 'normal',
  },
  mod: {
    says: 'a − b ⌊a / b⌋, with the sign of b, as in Python',
    slopes: 'da = dc, db = −dc ⌊a / b⌋',
    f: 'modulus(a, b)',
    special: true,
    reference: modulusOf,
    gradient: remainderGradient,
    saves: ['a', 'b', 'c'],
    draw: 'outliers',
    drawB: 'positive',
  },
  fmod: {
    says: 'a − b trunc(a / b), with the sign of a, as in C',
    slopes: 'da = dc, db = −dc trunc(a / b)',
    f: 'remainder(a, b)',
    special: true,
    reference: (a, b) => a % b,
    gradient: remainderGradient,
    saves: ['a', 'b', 'c'],
    draw: 'outliers',
    drawB: 'positive',
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
  const { gradient, special } = row;
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
      if (!special && sameShape(a.shape, b.shape)) binary(gpu, row.f, a.slice, b.slice, c.slice, c.size, label);
      else if (!special && isSharedRow(b.shape, a.shape)) binaryRows(gpu, row.f, a.slice, b.slice, c.slice, c.size / b.size, b.size, label);
      else
        binaryBroadcast(
          gpu,
          row.f,
          { slice: a.slice, strides: broadcastStrides(a.shape, c.shape) },
          { slice: b.slice, strides: broadcastStrides(b.shape, c.shape) },
          c.slice,
          c.shape,
          label,
          special ? 'binary_special' : 'binary_broadcast',
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
    ...(special ? { tolerance: { rtol: 1e-5, atol: 1e-6, why: 'powers are as good as a logarithm times an exponent in float32' } } : { family: 'binary_rows' }),
    cases: BINARY_SHAPES.map(
      ([a, b]): OpCase<null> => ({ name: `[${a}] [${b}]`, shapes: [a, b], attrs: null, draw: [row.draw ?? 'normal', row.drawB ?? row.draw ?? 'normal'] }),
    ),
  };
}

export const unaryOps = Object.fromEntries(Object.entries(UNARY).map(([name, row]) => [name, unaryOp(name, row)]));
export const binaryOps = Object.fromEntries(Object.entries(BINARY).map(([name, row]) => [name, binaryOp(name, row)]));

export function unaryOf(name: string, x: Tensor, alpha = 0, beta?: number): Tensor {
  return apply(unaryOps[name], [x], { alpha, ...(beta === undefined ? {} : { beta }) })[0];
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
