/**
 * Operators on the host: constants, shapes and whole numbers, of any number of axes, computed as ONNX says, element by element. The
 * fold runs them at import, the run where no GPU is needed. Sizes are bounded before memory is taken.
 */

import { toHalf } from '../../data/half.ts';
import { GlimpseError } from '../../errors.ts';
import { broadcastShapes, broadcastStrides, normalizeAxis, type Shape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { ELEMENT_TYPES, type ElementType, EXACT, elementType, fromBits, wrapped } from './elements.ts';
import { type HostTensor, MAX_AXES, type OnnxNode } from './proto.ts';

/** Most elements that a node may make on the host. */
export const MAX_HOST_ELEMENTS = 1 << 20;

/** Thrown for a result that is too large for the host. Floats may go to the GPU. */
export class TooLargeForHost extends GlimpseError {}

/** A node with its inputs, all of them on the host; null for one that is left out. */
export interface HostCall {
  node: OnnxNode;
  opset: number;
  inputs: readonly (HostTensor | null)[];
}

const fail = (reason: string): never => {
  throw new GlimpseError(reason);
};

export const typeOf = ({ kind, type }: HostTensor): ElementType => elementType(type ?? (kind === 'int' ? 'int64' : 'float')) ?? ELEMENT_TYPES[7];

/** Whole numbers of 64 bits, as shapes are. */
export const ints = (shape: number[], data: number[]): HostTensor => ({ kind: 'int', shape, data });

/** The same kind of tensor with other elements. */
const like = (x: HostTensor, shape: number[], data: ArrayLike<number>): HostTensor =>
  x.kind === 'float'
    ? { kind: 'float', shape, data: data instanceof Float32Array ? data : Float32Array.from(data) }
    : { ...x, shape, data: Array.isArray(data) ? data : Array.from(data) };

/** The shape, if a tensor on the host may have it. */
function bounded(shape: number[]): number[] {
  if (shape.length > MAX_AXES) fail(`[${shape}] has ${shape.length} axes, at most ${MAX_AXES} are supported`);
  if (!(sizeOf(shape) <= MAX_HOST_ELEMENTS))
    throw new TooLargeForHost(`[${shape}] has more than ${MAX_HOST_ELEMENTS} elements, the most that are computed on the host`);
  return shape;
}

/** Where the elements of `shape`, in order, lie in a tensor that is walked with the strides. */
function places(shape: Shape, strides: readonly number[], start = 0): Int32Array {
  let at = Int32Array.of(start);
  shape.forEach((extent, axis) => {
    const next = new Int32Array(at.length * extent);
    for (let i = 0, k = 0; i < at.length; i++) for (let j = 0; j < extent; j++) next[k++] = at[i] + j * strides[axis];
    at = next;
  });
  return at;
}

/** The elements at places of x, as a tensor of that shape. */
function taken(x: HostTensor, shape: number[], at: Int32Array): HostTensor {
  const data = x.kind === 'float' ? new Float32Array(at.length) : new Array<number>(at.length);
  for (let i = 0; i < at.length; i++) data[i] = x.data[at[i]];
  return like(x, shape, data);
}

const COMPUTE: Record<string, (a: number, b: number) => number> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
};

/** The sum, product, … of two whole numbers of a type. */
function whole(op: string, a: number, b: number, type: ElementType): number {
  if (Math.abs(a) >= EXACT || Math.abs(b) >= EXACT) fail('arithmetic with whole numbers beyond 2^53 is not supported');
  if (op === 'Div' && b === 0) fail('a whole number is divided by 0');
  const exact = op === 'Mul' && type.bytes === 4 ? Math.imul(a, b) : Math.trunc(COMPUTE[op](a, b));
  const result = wrapped(type, exact + 0); // no −0
  return result ?? fail(`${a} and ${b} give ${exact}, which ${type.name} holds beyond 2^53 only`);
}

/**
 * Shapes that two operands are brought to before they are combined. Before opset 7 only the second repeats, and only if asked; its
 * axes then lie at `axis` of the first. Throws a GlimpseError where they do not fit.
 */
export function aligned(node: OnnxNode, opset: number, a: Shape, b: Shape): { second: number[]; out: number[] } {
  if (opset >= 7) return { second: [...b], out: broadcastShapes(a, b, node.op) };
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

function combined(op: string, a: HostTensor, b: HostTensor, second: Shape, out: number[]): HostTensor {
  const type = typeOf(a);
  if (a.kind !== b.kind || (a.kind === 'int' && type !== typeOf(b))) fail(`${type.name} and ${typeOf(b).name} differ in type`);
  if (type.name === 'bool') fail('truth values have no arithmetic');
  bounded(out);
  const [at, bt] = [places(out, broadcastStrides(a.shape, out)), places(out, broadcastStrides(second, out))];
  const f = a.kind === 'float' ? COMPUTE[op] : (x: number, y: number) => whole(op, x, y, type);
  const data = a.kind === 'float' ? new Float32Array(at.length) : new Array<number>(at.length);
  for (let i = 0; i < at.length; i++) data[i] = f(a.data[at[i]], b.data[bt[i]]);
  return like(a, out, data);
}

function elementwise({ node, opset, inputs }: HostCall): HostTensor {
  const [a, b] = inputs as HostTensor[];
  const { second, out } = aligned(node, opset, a.shape, b.shape);
  return combined(node.op, a, b, second, out);
}

function sum({ opset, inputs }: HostCall): HostTensor {
  return (inputs as HostTensor[]).reduce((total, x) => {
    if (opset < 8 && x.shape.join() !== total.shape.join()) fail(`[${total.shape}] and [${x.shape}] differ`);
    return combined('Add', total, x, x.shape, broadcastShapes(total.shape, x.shape, 'Sum'));
  });
}

/** Functions of one whole number. Those of floats run on the GPU. */
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
  const f = OF_WHOLE[call.node.op];
  return like(
    x,
    x.shape,
    Array.from(x.data, (value) => {
      if (Math.abs(value) >= EXACT && call.node.op === 'Neg') fail('arithmetic with whole numbers beyond 2^53 is not supported');
      return wrapped(type, f(value, call) + 0) ?? f(value, call);
    }),
  );
}

/** Cast's target by its name, as models before opset 6 give it. */
const OLD_NAMES: Record<string, number> = { FLOAT: 1, UINT8: 2, INT8: 3, UINT16: 4, INT16: 5, INT32: 6, INT64: 7, BOOL: 9, FLOAT16: 10, DOUBLE: 11 };

/** The type that a Cast asks for, or null if it is not known here. */
export function castTarget(node: OnnxNode): ElementType | null {
  const to = node.attributes.get('to');
  return ELEMENT_TYPES[typeof to === 'string' ? (OLD_NAMES[to] ?? 0) : Number(to)] ?? null;
}

function cast({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const to = castTarget(node);
  if (!to) return fail(`cast to element type ${node.attributes.get('to')} is not supported`);
  if (to.name === 'bool') return { kind: 'int', type: 'bool', shape: x.shape, data: Array.from(x.data, (value) => Number(value !== 0)) };
  const lost = x.kind === 'int' && to.bytes < 8 ? Array.from(x.data).find((value) => Math.abs(value) >= EXACT) : undefined;
  if (lost !== undefined) fail('a cast of whole numbers beyond 2^53 is not supported');
  if (to.kind === 'float') {
    const data = Float32Array.from(x.data);
    if (to.name === 'float16') return { kind: 'float', shape: x.shape, data: fromBits(to.name, toHalf(data)) };
    if (to.name === 'bfloat16') return fail('cast to bfloat16 is not supported');
    return { kind: 'float', shape: x.shape, data };
  }
  const [low, high] = to.range ?? [0, 0];
  return {
    ...{ kind: 'int', type: to.name, shape: x.shape },
    data: Array.from(x.data, (value) => {
      if (x.kind === 'int') return Math.abs(value) >= EXACT ? value : (wrapped(to, value) ?? fail(`${value} is no ${to.name}`));
      const truncated = Math.trunc(value) + 0;
      return truncated >= low && truncated <= high ? truncated : fail(`a cast of ${value} to ${to.name}, which cannot hold it`);
    }),
  };
}

/** The shape that a Reshape asks for: 0 copies an extent, −1 takes what is left. */
export function reshapedTo(shape: Shape, wanted: readonly number[], allowZero: boolean): number[] {
  const said = `[${wanted}] for [${shape}]`;
  if (wanted.length > MAX_AXES) fail(`a shape of ${wanted.length} axes, at most ${MAX_AXES} are supported`);
  const out = wanted.map((extent, i) => (extent === 0 && !allowZero ? (shape[i] ?? fail(`${said}: 0 copies an extent that is not there`)) : extent));
  const open = wanted.flatMap((extent, i) => (extent === -1 ? [i] : []));
  if (open.length > 1 || out.some((extent) => extent < -1)) fail(`${said}: one extent may be −1, none below`);
  const size = sizeOf(shape);
  if (open.length === 1) {
    const rest = out.reduce((product, extent, i) => (i === open[0] ? product : product * extent), 1);
    if (rest === 0 || size % rest !== 0) fail(`${said}: −1 stands for no whole number`);
    out[open[0]] = size / rest;
  }
  if (sizeOf(out) !== size) fail(`${said}: ${size} elements do not fit`);
  return out;
}

/** The axes of a node, from 0, in order: attribute in older opsets, input in newer ones. Null if it names none. */
export function axesOf(node: OnnxNode, given: HostTensor | null | undefined, rank: number): number[] | null {
  const attribute = node.attributes.get('axes');
  const axes = Array.isArray(attribute) ? attribute : given ? Array.from(given.data) : null;
  if (!axes) return null;
  const positive = axes.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
  if (positive.some((axis, i) => !(axis >= 0 && axis < rank) || axis === positive[i - 1])) fail(`axes [${axes}] are not ${axes.length} of ${rank}`);
  return positive;
}

/** The shape after Squeeze or Unsqueeze. */
export function resizedTo(node: OnnxNode, axes: HostTensor | null | undefined, shape: Shape): number[] {
  if (node.op === 'Squeeze') {
    const gone = axesOf(node, axes, shape.length) ?? shape.flatMap((extent, axis) => (extent === 1 ? [axis] : []));
    const wide = gone.find((axis) => shape[axis] !== 1);
    if (wide !== undefined) fail(`axis ${wide} of [${shape}] has ${shape[wide]} places, 1 is expected`);
    return shape.filter((_, axis) => !gone.includes(axis));
  }
  const attribute = node.attributes.get('axes');
  const count = Array.isArray(attribute) ? attribute.length : (axes?.data.length ?? 0);
  if (shape.length + count > MAX_AXES) fail(`[${shape}] with ${count} axes more, at most ${MAX_AXES} are supported`);
  const out = [...shape];
  for (const axis of axesOf(node, axes, shape.length + count) ?? []) out.splice(axis, 0, 1);
  return out;
}

/** The axes at which Flatten cuts a shape in two. */
export function flattenedTo(node: OnnxNode, shape: Shape): number[] {
  const axis = (node.attributes.get('axis') as number | undefined) ?? 1;
  const at = axis < 0 ? axis + shape.length : axis;
  if (!(at >= 0 && at <= shape.length)) fail(`axis ${axis} of [${shape}]`);
  return [sizeOf(shape.slice(0, at)), sizeOf(shape.slice(at))];
}

/** The order of axes that a Transpose asks for. */
export function orderOf(node: OnnxNode, rank: number): number[] {
  const perm = node.attributes.get('perm');
  const order = Array.isArray(perm) ? perm : Array.from({ length: rank }, (_, i) => rank - 1 - i);
  return order.length === rank ? order : fail(`perm [${order}] for ${rank} axes`);
}

function transpose({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const order = orderOf(node, x.shape.length);
  const strides = stridesOf(x.shape);
  const shape = bounded(order.map((axis) => x.shape[axis]));
  return taken(
    x,
    shape,
    places(
      shape,
      order.map((axis) => strides[axis]),
    ),
  );
}

/** Indices from 0; a negative one counts from the end. */
export function indicesOf(indices: HostTensor, extent: number): number[] {
  if (indices.kind !== 'int') fail('indices are whole numbers');
  return Array.from(indices.data, (i) => {
    const at = i < 0 ? i + extent : i;
    return at >= 0 && at < extent ? at : fail(`index ${i} of ${extent} places`);
  });
}

function gather({ node, inputs }: HostCall): HostTensor {
  const [x, indices] = inputs as HostTensor[];
  const axis = normalizeAxis((node.attributes.get('axis') as number | undefined) ?? 0, x.shape, 'Gather');
  const chosen = indicesOf(indices, x.shape[axis]);
  const shape = bounded([...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)]);
  const inner = sizeOf(x.shape.slice(axis + 1));
  const at = new Int32Array(sizeOf(shape));
  for (let outer = 0, k = 0; k < at.length; outer++)
    for (const index of chosen) for (let i = 0; i < inner; i++) at[k++] = (outer * x.shape[axis] + index) * inner + i;
  return taken(x, shape, at);
}

/** What a Slice takes along every axis. */
export interface Range {
  start: number;
  count: number;
  step: number;
}

/** What a Slice takes of a shape: from attributes in older opsets, from inputs in newer ones. */
export function rangesOf(node: OnnxNode, inputs: readonly (HostTensor | null)[], shape: Shape): Range[] {
  const values = (name: string, i: number): number[] | null => {
    const attribute = node.attributes.get(name);
    if (Array.isArray(attribute)) return attribute;
    const given = inputs[i];
    return given ? Array.from(given.data) : null;
  };
  const [starts, ends] = [values('starts', 1) ?? [], values('ends', 2) ?? []];
  const axes = values('axes', 3) ?? starts.map((_, i) => i);
  const steps = values('steps', 4) ?? starts.map(() => 1);
  if ([ends, axes, steps].some(({ length }) => length !== starts.length))
    fail(`${starts.length} starts, ${ends.length} ends, ${axes.length} axes and ${steps.length} steps`);
  const ranges = shape.map((extent): Range => ({ start: 0, count: extent, step: 1 }));
  const seen = new Set<number>();
  axes.forEach((each, i) => {
    const axis = normalizeAxis(each, shape, 'Slice');
    const step = steps[i];
    if (seen.has(axis) || step === 0) fail(step === 0 ? 'a step of 0' : `axis ${axis} is sliced twice`);
    seen.add(axis);
    const extent = shape[axis];
    const place = (value: number) => (value < 0 ? value + extent : value);
    const [low, high] = step > 0 ? [0, extent] : [-1, extent - 1];
    const start = Math.max(step > 0 ? 0 : Math.min(0, extent - 1), Math.min(high, place(starts[i])));
    const end = Math.max(low, Math.min(high, place(ends[i])));
    ranges[axis] = { start, count: Math.max(0, Math.ceil((end - start) / step)), step };
  });
  return ranges;
}

function slice({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const ranges = rangesOf(node, inputs, x.shape);
  const strides = stridesOf(x.shape);
  const shape = bounded(ranges.map(({ count }) => count));
  const start = ranges.reduce((at, range, axis) => at + range.start * strides[axis], 0);
  return taken(
    x,
    shape,
    places(
      shape,
      ranges.map(({ step }, axis) => step * strides[axis]),
      start,
    ),
  );
}

/** The axis of a Concat and the shape that it makes. */
export function concatenatedTo(node: OnnxNode, shapes: readonly Shape[]): { axis: number; shape: number[] } {
  const axis = normalizeAxis((node.attributes.get('axis') as number | undefined) ?? 1, shapes[0], 'Concat');
  const odd = shapes.find((shape) => shape.length !== shapes[0].length || shape.some((extent, i) => i !== axis && extent !== shapes[0][i]));
  if (odd) fail(`[${shapes[0]}] and [${odd}] do not join along axis ${axis}`);
  return { axis, shape: shapes[0].map((extent, i) => (i === axis ? shapes.reduce((total, shape) => total + shape[axis], 0) : extent)) };
}

function concat({ node, inputs }: HostCall): HostTensor {
  const parts = inputs as HostTensor[];
  const { axis, shape } = concatenatedTo(
    node,
    parts.map((part) => part.shape),
  );
  if (parts.some((part) => part.kind !== parts[0].kind || (part.kind === 'int' && typeOf(part) !== typeOf(parts[0])))) fail('parts of different types');
  bounded(shape);
  const data = parts[0].kind === 'float' ? new Float32Array(sizeOf(shape)) : new Array<number>(sizeOf(shape));
  const row = sizeOf(shape.slice(axis));
  let from = 0;
  for (const part of parts) {
    const width = sizeOf(part.shape.slice(axis));
    for (let outer = 0, i = 0; i < part.data.length; outer++) for (let k = 0; k < width; k++) data[outer * row + from + k] = part.data[i++];
    from += width;
  }
  return like(parts[0], shape, data);
}

/** A part of a shape: Shape's start and end count from the end if negative, and are clamped. */
export function shapeOf(node: OnnxNode, shape: readonly number[]): HostTensor {
  const bound = (name: string, otherwise: number) => {
    const value = (node.attributes.get(name) as number | undefined) ?? otherwise;
    return Math.max(0, Math.min(shape.length, value < 0 ? value + shape.length : value));
  };
  const part = shape.slice(bound('start', 0), bound('end', shape.length));
  return ints([part.length], part);
}

const moved =
  (to: (call: HostCall, x: HostTensor) => number[]) =>
  (call: HostCall): HostTensor => {
    const x = call.inputs[0] as HostTensor;
    return { ...x, shape: to(call, x) };
  };

/** The operators that a node may run on the host, if all its inputs are there. Each throws a GlimpseError that says what is wrong. */
const HOST_OPERATORS: Readonly<Record<string, (call: HostCall) => HostTensor>> = {
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  Sum: sum,
  Cast: cast,
  Identity: moved((_, x) => x.shape),
  Dropout: moved((_, x) => x.shape),
  Reshape: moved(({ node, inputs }, x) => {
    const attribute = node.attributes.get('shape');
    return reshapedTo(x.shape, Array.isArray(attribute) ? attribute : Array.from(inputs[1]?.data ?? []), node.attributes.get('allowzero') === 1);
  }),
  Flatten: moved(({ node }, x) => flattenedTo(node, x.shape)),
  Squeeze: moved(({ node, inputs }, x) => resizedTo(node, inputs[1], x.shape)),
  Unsqueeze: moved(({ node, inputs }, x) => resizedTo(node, inputs[1], x.shape)),
  Transpose: transpose,
  Gather: gather,
  Slice: slice,
  Concat: concat,
  Shape: ({ node, inputs }) => shapeOf(node, (inputs[0] as HostTensor).shape),
};

/** Whether a node can run on the host: it has an operator there, and functions of one number are of whole numbers. */
export function runsOnHost(node: OnnxNode, inputs: readonly (HostTensor | null)[]): boolean {
  return Object.hasOwn(HOST_OPERATORS, node.op) || (Object.hasOwn(OF_WHOLE, node.op) && inputs[0]?.kind === 'int');
}

/** Operators whose inputs after the first say where, not what. */
const PLACED = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Gather', 'Slice']);

/** Runs a node of which `runsOnHost` is true. */
export function runOnHost(call: HostCall): HostTensor {
  const { node, inputs } = call;
  const odd = PLACED.has(node.op) ? inputs.findIndex((value, i) => i > 0 && value?.kind === 'float') : -1;
  if (odd > 0) fail(`input ${odd} holds floats, whole numbers are expected`);
  return (HOST_OPERATORS[node.op] ?? ofWhole)(call);
}
