/** Comparisons, truth values, and choices by them. On the GPU truth values are f32 of 0 and 1. */
import * as ops from '../../../autograd/ops/index.ts';
import { broadcastShapes, broadcastStrides, sameShape } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { bools, bounded, broadcastOf, mapped, oneType, places, roomFor } from '../host.ts';
import { type Context, fail, flag, type HostCall, NotOnDevice, type Operator, type Operators, plain } from '../operator.ts';
import { type HostTensor, type HostText, isDevice, typeOf, type Value } from '../values.ts';
import { aligned, alignedOnHost, elementwise, floating, LEGACY, unary } from './arithmetic.ts';

type Comparison = (a: number, b: number) => boolean;

const isText = (value: Value | null): value is HostText => value !== null && !isDevice(value) && value.kind === 'text';

/** What two tensors are compared by, element by element. A NaN is equal to nothing. */
function compared(call: HostCall, holds: Comparison): HostTensor {
  const { a, b, out } = alignedOnHost(call);
  oneType([a, b]);
  const { shape, data } = mapped([a, b], (x, y) => Number(holds(x, y)), out);
  return bools(shape, Array.from(data));
}

/** A comparison of the engine is NaN beside a NaN; here it does not hold. */
const asTruth = (x: Tensor): Tensor => ops.where(ops.isNan(x), tensor([0], []), x);

const comparison = (holds: Comparison, f: (a: Tensor, b: Tensor) => Tensor): Operator => ({
  inputs: [2, 2],
  attributes: LEGACY,
  layout: 'elementwise',
  host: (call) => compared(call, holds),
  device: (c) => elementwise(c, (a, b) => asTruth(f(a, b)), 'bool'),
});

/** Where texts are equal. */
function equalTexts(c: Context, a: HostText, b: HostText): HostTensor {
  const { second, out } = aligned(c.node, a.shape, b.shape);
  const shape = bounded(out);
  const [atA, atB] = [places(shape, broadcastStrides(a.shape, shape)), places(shape, broadcastStrides(second, shape))];
  return bools(
    shape,
    Array.from(atA, (at, i) => Number(a.data[at] === b.data[atB[i]])),
  );
}

function equal(c: Context): Value {
  const [a, b] = [c.value(0), c.value(1)];
  if (isText(a) && isText(b)) return equalTexts(c, a, b);
  // Truth values are numbers here, which compare as such.
  if (isDevice(a) && isDevice(b) && typeOf(a).name === 'bool' && typeOf(b).name === 'bool') return paired(c, ops.equal);
  return elementwise(c, (x, y) => asTruth(ops.equal(x, y)), 'bool');
}

const isTruth = (x: HostTensor): HostTensor => (typeOf(x).name === 'bool' ? x : fail(`${typeOf(x).name} is given, truth values are expected`));

/** Two tensors of truth values on the GPU. */
function paired(c: Context, f: (a: Tensor, b: Tensor) => Tensor): Value {
  const { second, out } = aligned(c.node, c.shape(0), c.shape(1));
  c.model.budget.expect(out);
  const [a, b] = [c.truth(0), c.truth(1)];
  return plain(f(a, sameShape(second, b.shape) ? b : ops.reshape(b, second)), 'bool');
}

const logical = (holds: Comparison, f: (a: Tensor, b: Tensor) => Tensor): Operator => ({
  inputs: [2, 2],
  attributes: LEGACY,
  layout: 'elementwise',
  host: (call) => {
    for (const each of call.inputs) isTruth(each as HostTensor);
    return compared(call, holds);
  },
  device: (c) => paired(c, f),
});

function chosenOnHost({ inputs }: HostCall): HostTensor {
  const [condition, a, b] = inputs as HostTensor[];
  isTruth(condition);
  oneType([a, b]);
  const shape = bounded(broadcastOf([condition, a, b]));
  const [atCondition, atA, atB] = [condition, a, b].map((each) => places(shape, broadcastStrides(each.shape, shape)));
  const data = roomFor(a, atA.length);
  for (let i = 0; i < data.length; i++) data[i] = condition.data[atCondition[i]] ? a.data[atA[i]] : b.data[atB[i]];
  return { ...a, shape, data };
}

function chosenTexts(c: Context, a: HostText, b: HostText): HostText {
  const condition = isTruth(c.numbers(0) ?? fail('the condition is missing'));
  const shape = bounded(broadcastOf([condition, a, b]));
  const [atCondition, atA, atB] = [condition, a, b].map((each) => places(shape, broadcastStrides(each.shape, shape)));
  return { kind: 'text', shape, data: Array.from(atA, (at, i) => (condition.data[atCondition[i]] ? a.data[at] : b.data[atB[i]])) };
}

/** Anything that lies on the GPU as f32 can be chosen: floats and truth values. */
function chosen(c: Context): Value {
  const [a, b] = [c.value(1), c.value(2)];
  if (isText(a) && isText(b)) return chosenTexts(c, a, b);
  const condition = c.truth(0);
  const [first, second] = [c.words(1), c.words(2)];
  const [type, other] = [first, second].map((each) => typeOf(each).name);
  // Floats of every width are float32 on the GPU.
  if (type !== other && [first, second].some((each) => typeOf(each).kind !== 'float')) fail(`${type} and ${other} differ in type`);
  if (first.tensor.dtype !== 'f32' || second.tensor.dtype !== 'f32') throw new NotOnDevice(`a choice of ${type}`);
  c.model.budget.expect(broadcastShapes(condition.shape, broadcastShapes(first.tensor.shape, second.tensor.shape, 'Where'), 'Where'));
  return plain(ops.where(condition, first.tensor, second.tensor), type);
}

/** Whether floats are of a kind; the answer is a truth value. */
function classified({ inputs }: HostCall, holds: (x: number) => boolean): HostTensor {
  const x = floating(inputs[0] as HostTensor);
  return bools(
    bounded(x.shape),
    Array.from(x.data, (value) => Number(holds(value))),
  );
}

const signs = (has: (name: string, otherwise: number) => number): { positive: boolean; negative: boolean } => ({
  positive: has('detect_positive', 1) === 1,
  negative: has('detect_negative', 1) === 1,
});

export const LOGIC: Operators = {
  Equal: { ...comparison((a, b) => a === b, ops.equal), device: equal },
  Greater: comparison((a, b) => a > b, ops.greater),
  Less: comparison((a, b) => a < b, ops.less),
  GreaterOrEqual: comparison((a, b) => a >= b, ops.greaterEqual),
  LessOrEqual: comparison((a, b) => a <= b, ops.lessEqual),
  And: logical((a, b) => a === 1 && b === 1, ops.mul),
  Or: logical((a, b) => a === 1 || b === 1, ops.maximum),
  Xor: logical((a, b) => a !== b, ops.notEqual),
  Not: {
    inputs: [1, 1],
    attributes: {},
    layout: 'first',
    host: ({ inputs }) => {
      const x = isTruth(inputs[0] as HostTensor);
      return bools(
        bounded(x.shape),
        Array.from(x.data, (value) => 1 - value),
      );
    },
    device: (c) => plain(ops.addScalar(ops.neg(c.truth(0)), 1), 'bool'),
  },
  Where: { inputs: [3, 3], attributes: {}, layout: 'elementwise', host: chosenOnHost, device: chosen },
  IsNaN: { inputs: [1, 1], attributes: {}, layout: 'first', host: (call) => classified(call, Number.isNaN), device: (c) => unary(c, ops.isNan, 'bool') },
  IsInf: {
    inputs: [1, 1],
    attributes: { detect_negative: flag, detect_positive: flag },
    layout: 'first',
    host: (call) => {
      const { positive, negative } = signs((name, otherwise) => (call.node.attributes.get(name) as number | undefined) ?? otherwise);
      return classified(call, (x) => (positive && x === Number.POSITIVE_INFINITY) || (negative && x === Number.NEGATIVE_INFINITY));
    },
    device: (c) =>
      unary(
        c,
        (x) =>
          ops.isInf(
            x,
            signs((name, otherwise) => c.number(name, otherwise)),
          ),
        'bool',
      ),
  },
};
