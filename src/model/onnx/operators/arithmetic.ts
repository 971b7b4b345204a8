/** Arithmetic, element by element. Operands broadcast. */
import { unaryOf, unaryOps } from '../../../autograd/ops/elementwise.ts';
import * as ops from '../../../autograd/ops/index.ts';
import { broadcastShapes, normalizeAxis, type Shape, sameShape, sizeOf, stridesOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import type { ElementType } from '../elements.ts';
import { bounded, broadcastOf, exact, fitted, like, mapped, oneType } from '../host.ts';
import {
  type Attribute,
  attribute,
  CONSUMED,
  type Context,
  type Count,
  fail,
  flag,
  type HostCall,
  NEWEST,
  numberOf,
  type Operator,
  type Operators,
  plain,
  TooLargeForHost,
  wordOf,
} from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { type HostTensor, isDevice, isHost, shared, typeOf, type Value } from '../values.ts';

type Pair = (a: number, b: number) => number;

/** How two numbers of a type are combined. Results of whole numbers are exact, or beyond 2^53; they wrap round later. */
type Combining = (type: ElementType) => Pair;

/** The quotient of whole numbers, without what is behind its point. */
const quotient: Pair = (a, b) => (b === 0 ? fail('a whole number is divided by 0') : Math.trunc(a / b));

/** The sign of a remainder of whole numbers is that of the divisor. */
function modulo(a: number, b: number): number {
  if (b === 0) fail('a whole number is divided by 0');
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

/** A power of whole numbers, modulo 2^32 where the type holds no more. */
function wholePower(base: number, exponent: number, { bytes, name }: ElementType): number {
  if (exponent < 0) return Math.abs(base) === 1 ? base ** (exponent % 2) : base === 0 ? fail(`0 to the power ${exponent}`) : 0;
  if (bytes === 8 && Math.abs(base) > 1 && exponent * Math.log2(Math.abs(base)) >= 53.1)
    fail(`${base} to the power ${exponent}, which ${name} holds beyond 2^53 only`);
  const cut = (value: bigint): bigint => (bytes === 8 ? value : BigInt.asIntN(32, value));
  let result = 1n;
  for (let square = BigInt(base), rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = cut(result * square);
    if (rest > 1) square = cut(square * square);
  }
  return Number(result);
}

/** As in C: 1 to any power is 1, and so is −1 to an infinite one. */
const power: Pair = (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Number.POSITIVE_INFINITY) ? 1 : a ** b);

const COMBINE: Record<string, Combining> = {
  Add: () => (a, b) => a + b,
  Sub: () => (a, b) => a - b,
  Mul: ({ kind, bytes }) => (kind === 'int' && bytes === 4 ? Math.imul : (a, b) => a * b),
  Div: ({ kind }) => (kind === 'int' ? quotient : (a, b) => a / b),
  Max: () => Math.max,
  Min: () => Math.min,
};

/**
 * Shapes that two operands are brought to before they are combined. Before opset 7 only the second repeats, and only if asked; its
 * axes then lie at `axis` of the first. Throws a GlimpseError where they do not fit.
 */
export function aligned(node: OnnxNode, a: Shape, b: Shape): { second: number[]; out: number[] } {
  if (node.opset >= 7) return { second: [...b], out: broadcastShapes(a, b, node.op) };
  const same = a.join() === b.join();
  if (node.attributes.get('broadcast') !== 1) return same ? { second: [...b], out: [...a] } : fail(`[${a}] and [${b}] differ, and broadcast is not 1`);
  // A suffix unless an axis is given. One element fits any shape.
  const axis = sizeOf(b) === 1 ? a.length - b.length : normalizedStart(node, a, b);
  const second = axis < 0 ? [] : [...b, ...new Array<number>(a.length - axis - b.length).fill(1)];
  if (broadcastShapes(a, second, node.op).join() !== a.join()) fail(`[${b}] does not repeat to [${a}] from axis ${axis}`);
  return { second, out: [...a] };
}

function normalizedStart(node: OnnxNode, a: Shape, b: Shape): number {
  const given = node.attributes.get('axis') as number | undefined;
  const axis = given === undefined ? a.length - b.length : given < 0 ? given + a.length : given;
  if (!(axis >= 0 && axis + b.length <= a.length)) fail(`the axes of [${b}] do not lie in [${a}] from axis ${given ?? 'the last'} on`);
  return axis;
}

/** Elements of two tensors of one type, combined. */
function combined(f: Combining, a: HostTensor, b: HostTensor, out = broadcastOf([a, b])): HostTensor {
  const type = oneType([a, b]);
  if (type.name === 'bool') fail('truth values have no arithmetic');
  exact([a, b]);
  const { shape, data } = mapped([a, b], f(type), out);
  return like(a, shape, type.kind === 'int' ? fitted(type, data) : data);
}

/** Two inputs on the host, in shapes that broadcast to `out`. */
export function alignedOnHost({ node, inputs }: HostCall): { a: HostTensor; b: HostTensor; out: number[] } {
  const [a, b] = inputs as HostTensor[];
  const { second, out } = aligned(node, a.shape, b.shape);
  return { a, b: { ...b, shape: second }, out };
}

const combining =
  (f: (call: HostCall) => Combining) =>
  (call: HostCall): HostTensor => {
    const { a, b, out } = alignedOnHost(call);
    return combined(f(call), a, b, out);
  };

function powerOnHost(call: HostCall): HostTensor {
  const { a, b, out } = alignedOnHost(call);
  const type = typeOf(a);
  if ([a, b].some((each) => typeOf(each).name === 'bool')) fail('truth values have no arithmetic');
  exact([a, b]);
  const isWhole = type.kind === 'int';
  const { shape, data } = mapped([a, b], isWhole && b.kind === 'int' ? (x, y) => wholePower(x, y, type) : power, out);
  return like(a, shape, isWhole ? fitted(type, data) : data);
}

/** Many inputs of one type, two by two. */
const folded =
  (f: Combining, after: (x: HostTensor, count: number) => HostTensor = (x) => x) =>
  ({ opset, inputs }: HostCall): HostTensor => {
    const all = inputs as HostTensor[];
    const total = all.slice(1).reduce((sum, x) => {
      if (opset < 8 && x.shape.join() !== sum.shape.join()) fail(`[${sum.shape}] and [${x.shape}] differ`);
      return combined(f, sum, x);
    }, all[0]);
    return after(total, all.length);
  };

function averageOnHost(x: HostTensor, count: number): HostTensor {
  return like(
    floating(x),
    x.shape,
    Float64Array.from(x.data, (value) => value / count),
  );
}

/** The tensor, if it holds floats. */
export const floating = (x: HostTensor): HostTensor => (x.kind === 'float' ? x : fail(`${typeOf(x).name} is given, floats are expected`));

/** The type of the first input, if it is numbers. */
export function typeOfFirst(c: Context): string | undefined {
  const value = c.value(0);
  return isDevice(value) || isHost(value) ? typeOf(value).name : undefined;
}

/**
 * Two operands on the GPU; the result has the type of the first if none is given. `shapes`: the shape that the second is brought to,
 * and that of the result.
 */
export function elementwise(c: Context, f: (a: Tensor, b: Tensor) => Tensor, type = typeOfFirst(c), shapes = aligned(c.node, c.shape(0), c.shape(1))): Value {
  c.model.budget.expect(shapes.out);
  const [a, b] = [c.plain(0), c.plain(1)];
  return plain(f(a, sameShape(shapes.second, b.shape) ? b : ops.reshape(b, shapes.second)), type);
}

/** Many operands on the GPU, two by two. */
function foldedOnDevice(c: Context, f: (a: Tensor, b: Tensor) => Tensor, after: (x: Tensor, count: number) => Tensor = (x) => x): Value {
  const { length } = c.inputs;
  const shapes = c.inputs.map((_, i) => c.shape(i));
  const odd = shapes.find((shape) => !sameShape(shape, shapes[0]));
  if (c.opset < 8 && odd) fail(`[${shapes[0]}] and [${odd}] differ`);
  c.model.budget.expect(shapes.reduce((out, shape) => broadcastShapes(out, shape, c.node.op)));
  if (length === 1) {
    c.plain(0); // it is refused if it is no floats
    return passed(c);
  }
  let total = f(c.plain(0), c.plain(1));
  for (let i = 2; i < length; i++) {
    const before = total;
    total = f(before, c.plain(i));
    if (!total.attachment) before.dispose(); // a sum of thousands would hold all partial sums
  }
  return plain(after(total, length), typeOfFirst(c));
}

/** One operand on the GPU. */
export function unary(c: Context, f: (x: Tensor) => Tensor, type = typeOfFirst(c)): Value {
  return plain(f(c.plain(0)), type);
}

/** The input under a second name. */
export function passed(c: Context): Value {
  return shared(c.value(0));
}

/** Functions of one whole number. */
const OF_WHOLE: Record<string, (value: number) => number> = { Neg: (x) => -x, Abs: Math.abs, Sign: Math.sign, Relu: (x) => Math.max(0, x) };

function ofWhole(x: HostTensor, f: (value: number) => number): HostTensor {
  const type = typeOf(x);
  if (type.name === 'bool') fail('truth values have no arithmetic');
  exact([x]);
  return like(x, x.shape, fitted(type, Float64Array.from(x.data, f)));
}

const ONE: Count = [1, 1];

/** The constants of a function of the engine, alpha and beta, as a node gives them. */
type Constants = (node: OnnxNode) => readonly number[];

/** The elements of floats on the host by the definition of an op of the engine, in float64. */
export function definedOnHost(op: string, x: HostTensor, [alpha = 0, beta]: readonly number[] = []): HostTensor {
  const shape = bounded(floating(x).shape);
  const [y] = unaryOps[op].reference([{ shape, data: Float64Array.from(x.data) }], { alpha, beta });
  return like(x, shape, y.data);
}

/** A function of floats that is an op of the engine. */
export function ofFloats(op: string, constants: Constants = () => [], attributes: Record<string, Attribute> = {}): Operator {
  return {
    inputs: ONE,
    attributes: { ...CONSUMED, ...attributes },
    layout: 'first',
    host: ({ node, inputs }) => definedOnHost(op, inputs[0] as HostTensor, constants(node)),
    device: (c) => {
      const [alpha, beta] = constants(c.node);
      return unary(c, (x) => unaryOf(op, x, alpha, beta));
    },
  };
}

/** As `ofFloats`, and of whole numbers. */
export function ofNumbers(op: string): Operator {
  const floats = ofFloats(op);
  return {
    ...floats,
    host: ({ node, inputs }) => {
      const x = inputs[0] as HostTensor;
      return x.kind === 'int' ? ofWhole(x, OF_WHOLE[node.op]) : definedOnHost(op, x);
    },
  };
}

function clipOnHost({ node, inputs }: HostCall): HostTensor {
  const [x, low, high] = inputs as HostTensor[];
  if (typeOf(x).name === 'bool') fail('truth values have no arithmetic');
  oneType([x, low, high].filter((each) => each != null));
  const bound = (name: string, given: HostTensor | null | undefined, otherwise: number): number => {
    if (given && given.data.length !== 1) fail(`${name} is [${given.shape}], one number is expected`);
    return given ? given.data[0] : numberOf(node, name, otherwise);
  };
  const [least, most] = [bound('min', low, Number.NEGATIVE_INFINITY), bound('max', high, Number.POSITIVE_INFINITY)];
  const { shape, data } = mapped([x], (value) => Math.min(Math.max(value, least), most));
  return like(x, shape, data);
}

function clip(c: Context): Value {
  const bound = (name: string, i: number): Tensor | null => {
    if (c.node.attributes.has(name)) return tensor([c.number(name, 0)], []);
    if (!c.has(i)) return null;
    const given = c.plain(i);
    return given.size === 1 ? ops.reshape(given, []) : c.unsupported(`${name} is [${given.shape}], one number is expected`);
  };
  c.plain(0); // it is refused if it is no floats
  const [low, high] = [bound('min', 1), bound('max', 2)];
  if (!low && !high) return passed(c);
  return unary(c, (x) => {
    const raised = low ? ops.maximum(x, low) : x;
    return high ? ops.minimum(raised, high) : raised;
  });
}

/** Attributes by which the second operand repeats before opset 7. */
export const LEGACY = { axis: attribute('int', { until: 6 }), broadcast: attribute('flag', { until: 6 }) };

const arithmetic = (op: string, f: (a: Tensor, b: Tensor) => Tensor): Operator => ({
  inputs: [2, 2],
  attributes: { ...CONSUMED, ...LEGACY },
  layout: 'elementwise',
  host: combining(() => COMBINE[op]),
  device: (c) => elementwise(c, f),
});

/** Powers that a file states as one number, and that take no logarithm. */
const POWERS: Record<number, (x: Tensor) => Tensor> = { 2: ops.square, 3: (x) => ops.mul(ops.square(x), x), [-1]: ops.reciprocal };

function raising(c: Context): Value {
  const exponent = c.value(1);
  if (!isHost(exponent)) return elementwise(c, ops.pow);
  const isOne = exponent.data.length === 1 && exponent.shape.length <= c.shape(0).length;
  const f = isOne ? POWERS[exponent.data[0]] : undefined;
  if (f) return unary(c, f);
  if (exponent.kind === 'float') return elementwise(c, ops.pow);
  // Exponents may be whole numbers where the base is floats.
  const { second, out } = aligned(c.node, c.shape(0), exponent.shape);
  c.model.budget.expect(out);
  if (typeOf(exponent).name === 'bool') fail('truth values have no arithmetic');
  return plain(ops.pow(c.plain(0), tensor(Float32Array.from(exponent.data), second)), typeOfFirst(c));
}

/** Bits of a whole number, as its type holds them. */
function bitsOf({ bytes, name }: ElementType, f: (a: bigint, b: bigint) => bigint): Pair {
  const stored = name.startsWith('u') ? BigInt.asUintN : BigInt.asIntN;
  return (a, b) => Number(stored(8 * bytes, f(BigInt(a), BigInt(b))));
}

/** An operator on the bits of two whole numbers. */
const onBits = (f: (a: bigint, b: bigint, node: OnnxNode, type: ElementType) => bigint, attributes: Record<string, Attribute> = {}): Operator => ({
  inputs: [2, 2],
  attributes,
  host: (call) => {
    if (typeOf(call.inputs[0] as HostTensor).kind !== 'int') fail('floats have no bits here, whole numbers are expected');
    return combining(
      ({ node }) =>
        (type) =>
          bitsOf(type, (a, b) => f(a, b, node, type)),
    )(call);
  },
});

function shifted(a: bigint, b: bigint, node: OnnxNode, { name, bytes }: ElementType): bigint {
  if (!name.startsWith('u')) fail(`${name} is given, whole numbers without a sign are expected`);
  if (b >= 8 * bytes) return 0n;
  return wordOf(node, 'direction', '') === 'LEFT' ? a << b : a >> b;
}

function cumulative({ node, inputs }: HostCall): HostTensor {
  const [x, at] = inputs as HostTensor[];
  const type = typeOf(x);
  if (type.name === 'bool') fail('truth values have no arithmetic');
  if (at.data.length !== 1) fail(`the axis is [${at.shape}], one number is expected`);
  const shape = bounded(x.shape);
  const axis = normalizeAxis(at.data[0], shape, node.op);
  exact([x]);
  const [extent, inner] = [shape[axis], stridesOf(shape)[axis]];
  const [exclusive, reverse] = [numberOf(node, 'exclusive', 0) === 1, numberOf(node, 'reverse', 0) === 1];
  const data = new Float64Array(x.data.length);
  for (let row = 0; row < data.length / Math.max(1, extent); row++) {
    const base = Math.floor(row / inner) * extent * inner + (row % inner);
    let sum = 0;
    for (let i = 0; i < extent; i++) {
      const place = base + (reverse ? extent - 1 - i : i) * inner;
      if (exclusive) data[place] = sum;
      sum += x.data[place];
      if (!exclusive) data[place] = sum;
    }
  }
  return like(x, shape, type.kind === 'int' ? fitted(type, data) : data);
}

function cumulating(c: Context): Value {
  const x = c.plain(0);
  const at = c.host(1);
  if (at?.data.length !== 1) fail('one axis is expected');
  if (x.size === 0) return passed(c);
  return plain(ops.cumSum(x, at?.data[0] ?? 0, { exclusive: c.number('exclusive', 0) === 1, reverse: c.number('reverse', 0) === 1 }), typeOfFirst(c));
}

/** Most products that a node may take on the host. */
export const MAX_HOST_PRODUCTS = 2 ** 30;

/** The determinant of a matrix, by elimination with the largest pivots. It overwrites the matrix. */
function determinant(a: Float64Array, n: number): number {
  let result = 1;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(a[i * n + k]) > Math.abs(a[pivot * n + k])) pivot = i;
    if (pivot !== k) {
      result = -result;
      for (let j = 0; j < n; j++) [a[k * n + j], a[pivot * n + j]] = [a[pivot * n + j], a[k * n + j]];
    }
    const head = a[k * n + k];
    result *= head;
    if (head === 0) continue; // the column has no other number: the result is 0, or NaN if there is one further on
    for (let i = k + 1; i < n; i++) {
      const factor = a[i * n + k] / head;
      for (let j = k + 1; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
    }
  }
  return result;
}

function determinants({ inputs, spend }: HostCall): HostTensor {
  const x = floating(inputs[0] as HostTensor);
  const [m, n] = x.shape.slice(-2);
  if (x.shape.length < 2 || m !== n) fail(`[${x.shape}]: square matrices are expected`);
  bounded(x.shape);
  const shape = bounded(x.shape.slice(0, -2));
  if (sizeOf(shape) * n ** 3 > MAX_HOST_PRODUCTS) throw new TooLargeForHost(`determinants of [${x.shape}] take more than ${MAX_HOST_PRODUCTS} products`);
  spend?.(sizeOf(shape) * n ** 3);
  const data = Float64Array.from({ length: sizeOf(shape) }, (_, i) => determinant(Float64Array.from(x.data.slice(i * n * n, (i + 1) * n * n)), n));
  return like(x, shape, data);
}

const OF_FLOATS = 'fmod is 0, which is for whole numbers only';

const many = { inputs: [1, NEWEST] as const, attributes: CONSUMED, layout: 'elementwise' as const };

/** Functions of floats: their names here. */
const FLOATS = { Sqrt: 'sqrt', Exp: 'exp', Log: 'log', Reciprocal: 'reciprocal', Floor: 'floor', Ceil: 'ceil', Round: 'round', Erf: 'erf' };
const ANGLES = ['Sin', 'Cos', 'Tan', 'Asin', 'Acos', 'Atan', 'Sinh', 'Cosh', 'Tanh', 'Asinh', 'Acosh', 'Atanh'];

export const ARITHMETIC: Operators = {
  Add: arithmetic('Add', ops.add),
  Sub: arithmetic('Sub', ops.sub),
  Mul: arithmetic('Mul', ops.mul),
  Div: arithmetic('Div', ops.div),
  Pow: { inputs: [2, 2], attributes: LEGACY, layout: 'elementwise', host: powerOnHost, device: raising },
  Mod: {
    inputs: [2, 2],
    attributes: { fmod: flag },
    layout: 'elementwise',
    host: combining(({ node }) => ({ kind }) => {
      const isC = numberOf(node, 'fmod', 0) === 1;
      if (kind === 'float' && !isC) fail(OF_FLOATS);
      return kind === 'int' ? (a, b) => (b === 0 ? quotient(a, b) : isC ? a % b : modulo(a, b)) : (a, b) => a % b;
    }),
    device: (c) => {
      c.plain(0); // whole numbers are refused, and go to the host
      return c.number('fmod', 0) === 1 ? elementwise(c, ops.fmod) : fail(OF_FLOATS);
    },
  },
  Sum: { ...many, host: folded(COMBINE.Add), device: (c) => foldedOnDevice(c, ops.add) },
  Max: { ...many, host: folded(COMBINE.Max), device: (c) => foldedOnDevice(c, ops.maximum) },
  Min: { ...many, host: folded(COMBINE.Min), device: (c) => foldedOnDevice(c, ops.minimum) },
  Mean: { ...many, host: folded(COMBINE.Add, averageOnHost), device: (c) => foldedOnDevice(c, ops.add, (x, count) => ops.scale(x, 1 / count)) },
  BitShift: {
    ...onBits(shifted, { direction: attribute('string', { required: true }) }),
    check: (node, c) => {
      const direction = wordOf(node, 'direction', '');
      if (direction !== 'LEFT' && direction !== 'RIGHT') c.fail(`direction is "${direction}", LEFT or RIGHT is expected`);
    },
  },
  BitwiseAnd: onBits((a, b) => a & b),
  BitwiseOr: onBits((a, b) => a | b),
  BitwiseXor: onBits((a, b) => a ^ b),
  BitwiseNot: {
    inputs: ONE,
    attributes: {},
    host: ({ inputs }) => {
      const x = inputs[0] as HostTensor;
      const type = typeOf(x);
      if (type.kind !== 'int') fail('floats have no bits here, whole numbers are expected');
      const not = bitsOf(type, (a) => ~a);
      return ofWhole(x, (value) => not(value, 0));
    },
  },
  ...Object.fromEntries(Object.entries(FLOATS).map(([name, op]) => [name, ofFloats(op)])),
  ...Object.fromEntries(ANGLES.map((name) => [name, ofFloats(name.toLowerCase())])),
  Neg: ofNumbers('neg'),
  Abs: ofNumbers('abs'),
  Sign: ofNumbers('sign'),
  Clip: {
    inputs: (opset) => [1, opset >= 11 ? 3 : 1],
    attributes: { ...CONSUMED, min: attribute('float', { until: 10 }), max: attribute('float', { until: 10 }) },
    layout: 'first',
    host: clipOnHost,
    device: clip,
  },
  CumSum: { inputs: [2, 2], attributes: { exclusive: flag, reverse: flag }, where: [1], host: cumulative, device: cumulating },
  Det: { inputs: ONE, attributes: {}, host: determinants },
};
