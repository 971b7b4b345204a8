/** Functions of activations: what networks put between their layers. */
import { unaryOf } from '../../../autograd/ops/elementwise.ts';
import * as ops from '../../../autograd/ops/index.ts';
import { normalizeAxis, type Shape, sizeOf, stridesOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { bounded, fitted, like, mapped, oneType } from '../host.ts';
import {
  CONSUMED,
  type Context,
  type Count,
  fail,
  float,
  type HostCall,
  int,
  numberOf,
  type Operator,
  type Operators,
  plain,
  text,
  wordOf,
} from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { type HostTensor, typeOf, type Value } from '../values.ts';
import { definedOnHost, elementwise, floating, ofFloats, ofNumbers, passed, typeOfFirst, unary } from './arithmetic.ts';

const ONE: Count = [1, 1];

/** A function with constants that a node may give: attributes by name, with what they are else. */
function withConstants(op: string, defaults: Record<string, number>): Operator {
  return ofFloats(
    op,
    (node) => Object.entries(defaults).map(([name, value]) => numberOf(node, name, value)),
    Object.fromEntries(Object.keys(defaults).map((name) => [name, float])),
  );
}

/** Selu's constants before opset 6 had fewer digits. */
const selu = (node: OnnxNode): number[] => [
  numberOf(node, 'alpha', node.opset < 6 ? 1.6732 : 1.6732632423543772),
  numberOf(node, 'gamma', node.opset < 6 ? 1.0507 : 1.0507009873554805),
];

const geluOf = (node: OnnxNode): string => (wordOf(node, 'approximate', 'none') === 'tanh' ? 'geluTanh' : 'gelu');

/** The shape that a slope is brought to: it repeats to that of x. Before opset 7 one number a channel, in axis 1. */
function slopeShape(node: OnnxNode, x: Shape, slope: Shape): number[] {
  const channels = node.opset < 7 && slope.length === 1 && slope[0] !== 1;
  const shape = channels ? [...slope, ...new Array<number>(Math.max(0, x.length - 2)).fill(1)] : [...slope];
  const repeats = shape.length <= x.length && shape.toReversed().every((extent, i) => extent === 1 || extent === x[x.length - 1 - i]);
  return repeats ? shape : fail(`the slope [${slope}] does not repeat to [${x}]`);
}

function parametricOnHost({ node, inputs }: HostCall): HostTensor {
  const [x, slope] = inputs as HostTensor[];
  const type = oneType([x, slope]);
  if (type.name === 'bool') fail('truth values have no arithmetic');
  const { shape, data } = mapped([x, { ...slope, shape: slopeShape(node, x.shape, slope.shape) }], (value, by) => (value < 0 ? value * by : value), x.shape);
  return like(x, shape, type.kind === 'int' ? fitted(type, data) : data);
}

function parametric(c: Context): Value {
  const f = (x: Tensor, slope: Tensor): Tensor => {
    const zero = tensor([0], []);
    return ops.add(ops.maximum(x, zero), ops.mul(ops.minimum(x, zero), slope));
  };
  return elementwise(c, f, typeOfFirst(c), { second: slopeShape(c.node, c.shape(0), c.shape(1)), out: [...c.shape(0)] });
}

/** 0 for |x| ≤ lambd; what is beyond comes nearer to 0 by bias. */
function shrinkOnHost({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const type = typeOf(x);
  if (type.name === 'bool') fail('truth values have no arithmetic');
  const [bias, lambd] = [numberOf(node, 'bias', 0), numberOf(node, 'lambd', 0.5)];
  const { shape, data } = mapped([x], (value) => (value < -lambd ? value + bias : value > lambd ? value - bias : Number.isNaN(value) ? value : 0));
  return like(x, shape, type.kind === 'int' ? fitted(type, data) : data);
}

/** x times a step is NaN at infinities, so what is within lambd is cut out by thresholds on both sides. */
function shrink(c: Context): Value {
  const [bias, lambd] = [c.number('bias', 0), c.number('lambd', 0.5)];
  if (lambd < 0) c.unsupported(`lambd ${lambd} on the GPU; it is at least 0`);
  return unary(c, (x) => {
    const side = (part: Tensor): Tensor => {
      const beyond = unaryOf('thresholdedRelu', part, lambd);
      return bias === 0 ? beyond : ops.sub(beyond, ops.scale(ops.step(part, lambd), bias));
    };
    return ops.sub(side(x), side(ops.neg(x)));
  });
}

function swishOnHost({ node, inputs }: HostCall): HostTensor {
  const x = floating(inputs[0] as HostTensor);
  const alpha = numberOf(node, 'alpha', 1);
  const { shape, data } = mapped([x], (value) => (value === 0 ? 0 : alpha * value === Number.NEGATIVE_INFINITY ? 0 : value / (1 + Math.exp(-alpha * value))));
  return like(x, shape, data);
}

/** Rows of a tensor: before opset 13 all axes from `axis` on are one, later it is this axis alone. */
interface Rows {
  count: number;
  n: number;
  inner: number;
}

function rowsOf(node: OnnxNode, shape: Shape): Rows {
  const flat = node.opset < 13;
  const given = numberOf(node, 'axis', flat ? 1 : -1);
  const axis = flat && given === shape.length ? given : normalizeAxis(given, shape, node.op);
  const n = flat ? sizeOf(shape.slice(axis)) : shape[axis];
  const inner = flat ? 1 : stridesOf(shape)[axis];
  return { count: n === 0 ? 0 : sizeOf(shape) / n, n, inner };
}

/** Fills rows one by one: f is given a row as it lies in x. */
function byRow(call: HostCall, f: (row: Float64Array) => ArrayLike<number>): HostTensor {
  const x = floating(call.inputs[0] as HostTensor);
  const { count, n, inner } = rowsOf(call.node, bounded(x.shape));
  const data = new Float64Array(x.data.length);
  const row = new Float64Array(n);
  for (let r = 0; r < count; r++) {
    const base = Math.floor(r / inner) * n * inner + (r % inner);
    for (let i = 0; i < n; i++) row[i] = x.data[base + i * inner];
    const out = f(row);
    for (let i = 0; i < n; i++) data[base + i * inner] = out[i];
  }
  return like(x, x.shape, data);
}

/** Softmax of a row, or its logarithm. */
export function softmaxOf(row: Float64Array, log: boolean): Float64Array {
  const largest = row.reduce((most, value) => (value > most || Number.isNaN(value) ? value : most), Number.NEGATIVE_INFINITY);
  const total = row.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return row.map((value) => (log ? value - largest - Math.log(total) : Math.exp(value - largest) / total));
}

/** 1 at the first of the largest, 0 elsewhere. */
function hardest(row: Float64Array): Float64Array {
  let at = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[at] || (Number.isNaN(row[i]) && !Number.isNaN(row[at]))) at = i;
  return new Float64Array(row.length).fill(1, at, at + 1);
}

function softmaxOnDevice(c: Context, log: boolean): Value {
  const x = c.plain(0);
  const { count, n } = rowsOf(c.node, x.shape);
  if (x.size === 0) return passed(c);
  if (c.opset >= 13) return plain(ops.softmax(x, log, c.number('axis', -1)), typeOfFirst(c));
  return plain(ops.reshape(ops.softmax(ops.reshape(x, [count, n]), log), x.shape), typeOfFirst(c));
}

function hardmaxOnDevice(c: Context): Value {
  const x = c.plain(0);
  const { count, n } = rowsOf(c.node, x.shape);
  if (x.size === 0) return passed(c);
  if (c.opset < 13) return plain(ops.reshape(ops.oneHot(ops.argmax(ops.reshape(x, [count, n]), 1), n), x.shape), typeOfFirst(c));
  const axis = c.number('axis', -1);
  return plain(ops.oneHot(ops.argmax(x, axis), n, { axis }), typeOfFirst(c));
}

const softmax = (log: boolean): Operator => ({
  inputs: ONE,
  attributes: { axis: int },
  host: (call) => byRow(call, (row) => softmaxOf(row, log)),
  device: (c) => softmaxOnDevice(c, log),
});

export const ACTIVATIONS: Operators = {
  Relu: ofNumbers('relu'),
  LeakyRelu: withConstants('leakyRelu', { alpha: 0.01 }),
  Sigmoid: ofFloats('sigmoid'),
  Elu: withConstants('elu', { alpha: 1 }),
  Selu: ofFloats('selu', selu, { alpha: float, gamma: float }),
  Celu: withConstants('celu', { alpha: 1 }),
  HardSigmoid: withConstants('hardSigmoid', { alpha: 0.2, beta: 0.5 }),
  HardSwish: ofFloats('hardSwish'),
  Softplus: ofFloats('softplus'),
  Softsign: ofFloats('softsign'),
  Mish: ofFloats('mish'),
  ThresholdedRelu: withConstants('thresholdedRelu', { alpha: 1 }),
  Gelu: {
    inputs: ONE,
    attributes: { approximate: text },
    layout: 'first',
    check: (node, c) => {
      const approximate = wordOf(node, 'approximate', 'none');
      if (approximate !== 'none' && approximate !== 'tanh') c.fail(`approximate is "${approximate}", none or tanh is expected`);
    },
    host: ({ node, inputs }) => definedOnHost(geluOf(node), inputs[0] as HostTensor),
    device: (c) => unary(c, (x) => unaryOf(geluOf(c.node), x)),
  },
  Swish: {
    inputs: ONE,
    attributes: { alpha: float },
    layout: 'first',
    host: swishOnHost,
    device: (c) => {
      const alpha = c.number('alpha', 1);
      return unary(c, (x) => (alpha === 1 ? ops.silu(x) : ops.mul(x, ops.sigmoid(ops.scale(x, alpha)))));
    },
  },
  PRelu: { inputs: [2, 2], attributes: CONSUMED, layout: 'elementwise', host: parametricOnHost, device: parametric },
  Shrink: { inputs: ONE, attributes: { bias: float, lambd: float }, layout: 'first', host: shrinkOnHost, device: shrink },
  Hardmax: { inputs: ONE, attributes: { axis: int }, host: (call) => byRow(call, hardest), device: hardmaxOnDevice },
  Softmax: softmax(false),
  LogSoftmax: softmax(true),
};
