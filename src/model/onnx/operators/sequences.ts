/** Sequences of tensors, and optional values. A sequence holds the values themselves: nothing is copied when it is taken apart. */
import { normalizeAxis } from '../../../tensor/shape.ts';
import { ELEMENT_TYPES } from '../elements.ts';
import { bools, ints } from '../host.ts';
import { attribute, type Check, type Context, fail, flag, int, NEWEST, numberOf, type Operators } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { isDevice, isHost, type Sequence, shapeOfValue, shared, sizeOfValue, typeName, typeOf, type Value } from '../values.ts';
import { joined, partOf, placeOf, stacked } from './composed.ts';

/** Most parts that a tensor is split into. */
const MOST_PARTS = 1 << 16;

/** The number of texts among element types. */
const STRING = 8;

function sequenceIn(c: Context, i: number): Sequence {
  const value = c.value(i);
  return !isDevice(value) && value.kind === 'sequence' ? value : fail(`${c.what(i)} is ${typeName(value)}, a sequence is expected`);
}

/** What a message calls the tensors that may lie in one sequence: the GPU holds all floats as float32. */
const sortOf = (value: Value): string => {
  if (!isDevice(value) && !isHost(value)) return typeName(value);
  const { name, kind } = typeOf(value);
  return kind === 'float' ? kind : name;
};

function made(c: Context, elements: readonly Value[]): Sequence {
  for (const each of elements) {
    if (!isDevice(each) && (each.kind === 'sequence' || each.kind === 'optional')) fail(`a sequence of ${each.kind}s; tensors are expected`);
    if (sortOf(each) !== sortOf(elements[0])) fail(`${sortOf(elements[0])} and ${sortOf(each)} in one sequence`);
  }
  c.model.budget.expect([elements.reduce((sum, each) => sum + sizeOfValue(each), 0)]);
  return { kind: 'sequence', elements: elements.map(shared) };
}

/** A place in a sequence; a negative one counts from the end. */
function positionIn(c: Context, i: number, length: number, most: number, otherwise: number): number {
  const given = c.host(i);
  if (!given) return otherwise;
  const value = given.data.length === 1 ? given.data[0] : fail(`${c.what(i)} is [${given.shape}], one place is expected`);
  const at = value < 0 ? value + length : value;
  return at >= 0 && at <= most ? at : fail(`place ${value} of a sequence of ${length}`);
}

function insert(c: Context): Value {
  const { elements } = sequenceIn(c, 0);
  return made(c, elements.toSpliced(positionIn(c, 2, elements.length, elements.length, elements.length), 0, c.value(1)));
}

function erase(c: Context): Value {
  const { elements } = sequenceIn(c, 0);
  return made(c, elements.toSpliced(positionIn(c, 1, elements.length, elements.length - 1, elements.length - 1), 1));
}

function at(c: Context): Value {
  const { elements } = sequenceIn(c, 0);
  return shared(elements[positionIn(c, 1, elements.length, elements.length - 1, 0)]);
}

function checkEmpty(node: OnnxNode, c: Check): void {
  const type = numberOf(node, 'dtype', 1);
  if (type !== STRING && !ELEMENT_TYPES[type]) c.unsupported(`a sequence of element type ${type}`);
}

function split(c: Context): Value {
  const x = c.value(0);
  const shape = shapeOfValue(x);
  const axis = normalizeAxis(c.number('axis', 0), shape, c.node.op);
  const extent = shape[axis];
  const given = c.host(1);
  const each = given && given.shape.length === 0 ? given.data[0] : 1;
  if (!(each >= 1)) fail(`parts of ${each} places`);
  const count = given && given.shape.length > 0 ? given.data.length : Math.ceil(extent / each);
  if (count > MOST_PARTS) fail(`${count} parts, at most ${MOST_PARTS} are supported`);
  const sizes = given && given.shape.length > 0 ? Array.from(given.data) : Array.from({ length: count }, (_, i) => Math.min(each, extent - i * each));
  if (sizes.some((size) => !(size >= 0)) || sizes.reduce((sum, size) => sum + size, 0) !== extent)
    fail(`parts of [${sizes.slice(0, 20)}] for ${extent} places`);
  const isDropped = !given && c.number('keepdims', 1) === 0;
  let start = 0;
  return {
    kind: 'sequence',
    elements: sizes.map((size) => {
      start += size;
      return isDropped ? placeOf(c, x, axis, start - 1) : partOf(c, x, axis, start - size, start);
    }),
  };
}

function concat(c: Context): Value {
  const { elements } = sequenceIn(c, 0);
  if (elements.length === 0) fail('an empty sequence has nothing to join');
  const rank = shapeOfValue(elements[0]).length;
  const isNew = c.number('new_axis', 0) === 1;
  const axis = normalizeAxis(c.number('axis', 0), isNew ? new Array(rank + 1).fill(1) : shapeOfValue(elements[0]), c.node.op);
  return isNew ? stacked(c, elements, axis) : joined(c, elements, axis);
}

function optional(c: Context): Value {
  const given = c.inputs[0] ?? null;
  if (given && !isDevice(given) && given.kind === 'optional') fail(`${c.what(0)} is an optional value; a tensor or a sequence is expected`);
  return { kind: 'optional', value: c.has(0) ? shared(c.value(0)) : null };
}

function hasElement(c: Context): Value {
  const value = c.inputs[0] ?? null;
  const isThere = value !== null && (isDevice(value) || value.kind !== 'optional' || value.value !== null);
  return bools([], [Number(isThere)]);
}

function getElement(c: Context): Value {
  const value = c.value(0);
  if (isDevice(value) || value.kind !== 'optional') return shared(value);
  return value.value ? shared(value.value) : fail(`${c.what(0)} holds no value`);
}

const PLACE = { where: [1] };

export const SEQUENCES: Operators = {
  SequenceEmpty: { inputs: [0, 0], attributes: { dtype: int }, check: checkEmpty, any: () => ({ kind: 'sequence', elements: [] }) },
  SequenceConstruct: {
    inputs: [1, NEWEST],
    attributes: {},
    any: (c) =>
      made(
        c,
        c.inputs.map((_, i) => c.value(i)),
      ),
  },
  SequenceInsert: { inputs: [2, 3], attributes: {}, where: [2], any: insert },
  SequenceErase: { inputs: [1, 2], attributes: {}, ...PLACE, any: erase },
  SequenceAt: { inputs: [2, 2], attributes: {}, ...PLACE, any: at },
  SequenceLength: { inputs: [1, 1], attributes: {}, any: (c) => ints([], [sequenceIn(c, 0).elements.length]) },
  SplitToSequence: { inputs: [1, 2], attributes: { axis: int, keepdims: flag }, ...PLACE, any: split },
  ConcatFromSequence: { inputs: [1, 1], attributes: { axis: attribute('int', { required: true }), new_axis: flag }, any: concat },
  Optional: { inputs: [0, 1], attributes: { type: attribute('other') }, any: optional },
  OptionalHasElement: { inputs: (opset) => [opset >= 18 ? 0 : 1, 1], attributes: {}, any: hasElement },
  OptionalGetElement: { inputs: [1, 1], attributes: {}, any: getElement },
};
