/** Arithmetic, element by element. Operands broadcast. */
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { broadcastShapes, type Shape, sameShape, sizeOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { type ElementType, wrapped } from '../elements.ts';
import { broadcastOf, exact, like, mapped, oneType } from '../host.ts';
import { attribute, CONSUMED, type Context, type Count, fail, type HostCall, last, NEWEST, type Operator, type Operators, plain } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { type HostTensor, shared, typeOf, type Value } from '../values.ts';

const COMPUTE: Record<string, (a: number, b: number) => number> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
};

/** The sum, product, … of two whole numbers of a type. */
function whole(op: string, a: number, b: number, type: ElementType): number {
  if (op === 'Div' && b === 0) fail('a whole number is divided by 0');
  const exactly = op === 'Mul' && type.bytes === 4 ? Math.imul(a, b) : Math.trunc(COMPUTE[op](a, b));
  const result = wrapped(type, exactly + 0); // no −0
  return result ?? fail(`${a} and ${b} give ${exactly}, which ${type.name} holds beyond 2^53 only`);
}

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

function combined(op: string, a: HostTensor, b: HostTensor, out = broadcastOf([a, b])): HostTensor {
  const type = oneType([a, b]);
  if (type.name === 'bool') fail('truth values have no arithmetic');
  exact([a, b]);
  const { shape, data } = mapped([a, b], type.kind === 'float' ? COMPUTE[op] : (x, y) => whole(op, x, y, type), out);
  return like(a, shape, data);
}

function onHost({ node, inputs }: HostCall): HostTensor {
  const [a, b] = inputs as HostTensor[];
  const { second, out } = aligned(node, a.shape, b.shape);
  return combined(node.op, a, { ...b, shape: second }, out);
}

function sumOnHost({ opset, inputs }: HostCall): HostTensor {
  return (inputs as HostTensor[]).reduce((total, x) => {
    if (opset < 8 && x.shape.join() !== total.shape.join()) fail(`[${total.shape}] and [${x.shape}] differ`);
    return combined('Add', total, x);
  });
}

/** Two operands on the GPU. Pictures stay channels-last where both are so, or where the other is one number. */
export function elementwise(c: Context, f: (a: Tensor, b: Tensor) => Tensor, type?: string): Value {
  const { node, model } = c;
  const [first, second] = [c.shape(0), c.shape(1)];
  const { second: shape, out } = aligned(node, first, second);
  model.budget.expect(out);
  if (c.isNhwc(0) && c.isNhwc(1)) return last(f(c.channelsLast(0), c.channelsLast(1)), type);
  // One number fits in any order of axes.
  if (c.isNhwc(0) && sizeOf(second) === 1 && out.length === 4) return last(f(c.channelsLast(0), ops.reshape(c.plain(1), [])), type);
  if (c.isNhwc(1) && sizeOf(first) === 1 && out.length === 4 && sameShape(second, out)) return last(f(ops.reshape(c.plain(0), []), c.channelsLast(1)), type);
  return plain(f(c.plain(0), sameShape(shape, second) ? c.plain(1) : ops.reshape(c.plain(1), shape)), type);
}

function sum(c: Context): Value {
  const shapes = c.inputs.map((_, i) => c.shape(i));
  const odd = shapes.find((shape) => !sameShape(shape, shapes[0]));
  if (c.opset < 8 && odd) throw new GlimpseError(`[${shapes[0]}] and [${odd}] differ`);
  c.model.budget.expect(shapes.reduce((out, shape) => broadcastShapes(out, shape, 'Sum')));
  if (c.inputs.length === 1) return passed(c);
  const nhwc = c.inputs.every((_, i) => c.isNhwc(i));
  const term = (i: number) => (nhwc ? c.channelsLast(i) : c.plain(i));
  let total = ops.add(term(0), term(1));
  for (let i = 2; i < c.inputs.length; i++) {
    const before = total;
    total = ops.add(before, term(i));
    if (!total.attachment) before.dispose(); // a sum of thousands would hold all partial sums
  }
  return nhwc ? last(total) : plain(total);
}

/** One operand on the GPU; pictures stay channels-last. */
export function unary(c: Context, f: (x: Tensor) => Tensor, type?: string): Value {
  return c.isNhwc(0) ? last(f(c.channelsLast(0)), type) : plain(f(c.plain(0)), type);
}

/** The input under a second name. */
export function passed(c: Context): Value {
  return shared(c.value(0));
}

/** Functions of one whole number. */
const OF_WHOLE: Record<string, (value: number, call: HostCall) => number> = {
  Neg: (value) => -value,
  Abs: Math.abs,
  Relu: (value) => Math.max(0, value),
  Clip: (value, { inputs }) => Math.min(Math.max(value, inputs[1]?.data[0] ?? Number.NEGATIVE_INFINITY), inputs[2]?.data[0] ?? Number.POSITIVE_INFINITY),
};

function ofWhole(call: HostCall): HostTensor {
  const x = call.inputs[0] as HostTensor;
  const type = typeOf(x);
  if (type.name === 'bool') fail('truth values have no arithmetic');
  if (call.inputs.some((each) => each && each.kind !== 'int')) fail('inputs of different types');
  if (call.node.op === 'Neg') exact([x]);
  const f = OF_WHOLE[call.node.op];
  return like(
    x,
    x.shape,
    Array.from(x.data, (value) => wrapped(type, f(value, call) + 0) ?? f(value, call)),
  );
}

const isWhole = ({ inputs }: HostCall): boolean => inputs[0]?.kind === 'int';

function clip(c: Context): Value {
  const bound = (name: string, i: number): Tensor | null => {
    if (c.node.attributes.has(name)) return tensor([c.number(name, 0)], []);
    if (!c.has(i)) return null;
    const given = c.plain(i);
    return given.size === 1 ? ops.reshape(given, []) : c.unsupported(`${name} is [${given.shape}], one number is expected`);
  };
  const [low, high] = [bound('min', 1), bound('max', 2)];
  if (!low && !high) return passed(c);
  return unary(c, (x) => {
    const raised = low ? ops.maximum(x, low) : x;
    return high ? ops.minimum(raised, high) : raised;
  });
}

const ONE: Count = [1, 1];

const arithmetic = (f: (a: Tensor, b: Tensor) => Tensor): Operator => ({
  inputs: [2, 2],
  attributes: { ...CONSUMED, axis: attribute('int', { until: 6 }), broadcast: attribute('flag', { until: 6 }) },
  host: onHost,
  device: (c) => elementwise(c, f),
});

/** A function of one float on the GPU. */
const ofFloat = (f: (x: Tensor) => Tensor): Operator => ({ inputs: ONE, attributes: CONSUMED, device: (c) => unary(c, f) });
/** As `ofFloat`, and of whole numbers on the host. */
const ofNumber = (f: (x: Tensor) => Tensor): Operator => ({ ...ofFloat(f), host: ofWhole, hosts: isWhole });

export const ARITHMETIC: Operators = {
  Add: arithmetic(ops.add),
  Sub: arithmetic(ops.sub),
  Mul: arithmetic(ops.mul),
  Div: arithmetic(ops.div),
  Sum: { inputs: [1, NEWEST], attributes: CONSUMED, host: sumOnHost, device: sum },
  Relu: ofNumber(ops.relu),
  LeakyRelu: { inputs: ONE, attributes: { ...CONSUMED, alpha: attribute('float') }, device: (c) => unary(c, (x) => ops.leakyRelu(x, c.number('alpha', 0.01))) },
  Sigmoid: ofFloat(ops.sigmoid),
  Tanh: ofFloat(ops.tanh),
  Exp: ofFloat(ops.exp),
  Log: ofFloat(ops.log),
  Sqrt: ofFloat(ops.sqrt),
  Neg: ofNumber(ops.neg),
  Abs: ofNumber(ops.abs),
  Reciprocal: ofFloat(ops.reciprocal),
  Clip: {
    inputs: (opset) => [1, opset >= 11 ? 3 : 1],
    attributes: { ...CONSUMED, min: attribute('float', { until: 10 }), max: attribute('float', { until: 10 }) },
    host: ofWhole,
    hosts: isWhole,
    device: clip,
  },
};
