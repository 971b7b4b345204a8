/** Operators that move elements, or say where they are: shapes, slices, casts. */
import * as ops from '../../../autograd/ops/index.ts';
import { MAX_RANK, normalizeAxis, type Shape, sizeOf, stridesOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { ELEMENT_TYPES, type ElementType, EXACT, wrapped } from '../elements.ts';
import { bounded, ints, oneType, places, roomFor, rounded, taken } from '../host.ts';
import {
  attribute,
  type Check,
  CONSUMED,
  type Context,
  type Count,
  fail,
  type HostCall,
  indicesOf,
  int,
  ints as intList,
  last,
  listOf,
  NEWEST,
  NotOnDevice,
  numberOf,
  type Operators,
  plain,
} from '../operator.ts';
import { MAX_AXES, type OnnxNode, type OnnxTensor } from '../proto.ts';
import type { Device, HostTensor, Value } from '../values.ts';
import { shown } from '../wire.ts';
import { passed } from './arithmetic.ts';

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
  if (to.kind === 'float') return { kind: 'float', type: to.name, shape: x.shape, data: rounded(to, x.data) };
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
  const axes = listOf(node, 'axes') ?? (given ? Array.from(given.data) : null);
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
  const count = listOf(node, 'axes')?.length ?? axes?.data.length ?? 0;
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
  const order = listOf(node, 'perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
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
    const given = inputs[i];
    return listOf(node, name) ?? (given ? Array.from(given.data) : null);
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
  oneType(parts);
  bounded(shape);
  const data = roomFor(parts[0], sizeOf(shape));
  const row = sizeOf(shape.slice(axis));
  let from = 0;
  for (const part of parts) {
    const width = sizeOf(part.shape.slice(axis));
    for (let outer = 0, i = 0; i < part.data.length; outer++) for (let k = 0; k < width; k++) data[outer * row + from + k] = part.data[i++];
    from += width;
  }
  return { ...parts[0], shape, data };
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

/** The places of an axis that have these indices, in their order. */
function picked(c: Context, x: Tensor, axis: number, indices: Tensor): Tensor {
  const front = x.shape.map((_, i) => (i === 0 ? axis : i <= axis ? i - 1 : i));
  const first = axis === 0 ? x : ops.transpose(x, front);
  const rest = first.shape.slice(1);
  c.model.budget.expect([indices.size, ...rest]);
  const rows = ops.embedding(ops.reshape(first, [x.shape[axis], sizeOf(rest)]), ops.reshape(indices, [indices.size]));
  const out = ops.reshape(rows, [indices.size, ...rest]);
  const back = x.shape.map((_, i) => (i === axis ? 0 : i < axis ? i + 1 : i));
  const turned = axis === 0 ? out : ops.transpose(out, back);
  return ops.reshape(turned, [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)]);
}

function picking(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  const axis = normalizeAxis(c.number('axis', 0), x.shape, 'Gather');
  return plain(picked(c, x, axis, c.indices(1, x.shape[axis])), type);
}

function slicing(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  const inputs = c.inputs.map((_, i) => (i === 0 ? null : c.host(i)));
  const ranges = rangesOf(c.node, inputs, x.shape);
  const isWhole = ({ step }: { step: number }) => step === 1;
  const start = ranges.map((range) => (isWhole(range) ? range.start : 0));
  const size = ranges.map((range, axis) => (isWhole(range) ? range.count : x.shape[axis]));
  return plain(
    ranges.reduce(
      (part, range, axis) => {
        if (isWhole(range)) return part;
        const indices = Array.from({ length: range.count }, (_, i) => range.start + i * range.step);
        return picked(c, part, axis, tensor(Uint32Array.from(indices)));
      },
      ops.slice(x, start, size),
    ),
    type,
  );
}

function joining(c: Context): Value {
  const { axis, shape } = concatenatedTo(
    c.node,
    c.inputs.map((_, i) => c.shape(i)),
  );
  c.model.budget.expect(shape);
  if (c.inputs.length === 1) return passed(c);
  if (c.inputs.every((_, i) => c.isNhwc(i))) {
    const parts = c.inputs.map((_, i) => c.channelsLast(i));
    return last(ops.concat(parts, [0, 3, 1, 2][axis]));
  }
  const parts = c.inputs.map((_, i) => c.words(i));
  return plain(
    ops.concat(
      parts.map((part) => part.tensor),
      axis,
    ),
    parts[0].type,
  );
}

/** Floats on the GPU are float32: wider and narrower types are computed in it, so that only a type's name changes. */
function casting(c: Context): Value {
  const to = castTarget(c.node);
  if (to?.name === 'float' || to?.name === 'double') return { ...(passed(c) as Device), type: to.name };
  throw new NotOnDevice(`casts to ${to?.name} on the GPU`);
}

/** A view of the same elements in another shape. */
function reshaped(c: Context, to: (shape: Shape) => number[]): Value {
  const shape = to(c.shape(0));
  const { tensor: x, type } = c.words(0);
  if (shape.length > MAX_RANK) throw new NotOnDevice(`[${shape}] has ${shape.length} axes; at most ${MAX_RANK} are supported`);
  return plain(ops.reshape(x, shape), type);
}

function transposing(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  return plain(ops.transpose(x, orderOf(c.node, x.rank)), type);
}

/** The shape of any tensor is known on the host. */
function shaping(c: Context): Value {
  return shapeOf(c.node, c.shape(0));
}

const CONSTANTS = ['value', 'sparse_value', 'value_int', 'value_ints', 'value_float', 'value_floats', 'value_string', 'value_strings'];

function checkConstant(node: OnnxNode, c: Check): void {
  const given = CONSTANTS.filter((name) => node.attributes.has(name));
  if (given.length !== 1) c.fail(`has ${given.length === 0 ? 'no value' : `the values ${given.join(' and ')}, one is expected`}`);
  if (given[0] === 'sparse_value') c.unsupported(`a constant by ${given[0]}`);
}

/** What a Constant node holds, as a constant like any other. */
export function tensorOfConstant(node: OnnxNode): OnnxTensor {
  const [[kind, value]] = node.attributes;
  const name = node.outputs[0];
  if (typeof value === 'object' && 'load' in value) return { ...value, name };
  const shape = Array.isArray(value) ? [value.length] : [];
  if (kind.startsWith('value_string')) {
    const texts = (Array.isArray(value) ? value : [value]).map(String);
    return { ...{ name, kind: 'text', shape }, load: () => fail('holds texts, numbers are expected'), texts: () => ({ kind: 'text', shape, data: texts }) };
  }
  const values = (Array.isArray(value) ? value : [value]).map(Number);
  if (kind.startsWith('value_float')) return { ...{ name, kind: 'float', shape }, load: () => ({ kind: 'float', shape, data: Float32Array.from(values) }) };
  return { ...{ name, kind: 'int', shape }, load: () => ({ kind: 'int', shape, data: values }) };
}

function checkPermutation(node: OnnxNode, c: Check): void {
  const order = listOf(node, 'perm');
  if (order && [...order].sort((a, b) => a - b).some((axis, i) => axis !== i)) c.fail(`perm [${order}] is no permutation of axes`);
}

function checkDropout(node: OnnxNode, c: Check): void {
  const { opset } = node;
  if (opset < 7 && node.attributes.get('is_test') !== 1) c.unsupported('training (is_test 0)');
  const mode = node.inputs[2];
  if (!mode) return;
  const constant = c.constant(mode);
  if (!constant || constant.shape.length > 1 || (constant.shape[0] ?? 1) !== 1) c.unsupported(`training_mode "${shown(mode)}" is no constant of the file`);
  else if (constant.load().data[0] !== 0) c.unsupported('training');
}

const ONE: Count = [1, 1];
const resizing = {
  where: [1],
  host: moved(({ node, inputs }, x) => resizedTo(node, inputs[1], x.shape)),
  device: (c: Context) => reshaped(c, (shape) => resizedTo(c.node, c.host(1), shape)),
};

export const MOVES: Operators = {
  Identity: { inputs: ONE, attributes: {}, any: passed },
  Dropout: {
    inputs: (opset) => [1, opset >= 12 ? 3 : 1],
    outputs: [1, 2],
    attributes: { ...CONSUMED, ratio: attribute('float', { until: 11 }), is_test: attribute('flag', { until: 6 }), seed: attribute('int', { since: 12 }) },
    check: checkDropout,
    any: (c) => (c.wants(1) ? c.unsupported('the mask of a dropout') : passed(c)),
  },
  Cast: {
    inputs: ONE,
    attributes: { to: attribute('int', { required: true }), saturate: attribute('flag', { since: 19 }), round_mode: attribute('string', { since: 24 }) },
    host: cast,
    device: casting,
  },
  Reshape: {
    inputs: (opset) => (opset >= 5 ? [2, 2] : ONE),
    attributes: { ...CONSUMED, shape: attribute('ints', { until: 4, required: true }), allowzero: attribute('flag', { since: 14 }) },
    where: [1],
    host: moved(({ node, inputs }, x) => reshapedTo(x.shape, listOf(node, 'shape') ?? Array.from(inputs[1]?.data ?? []), numberOf(node, 'allowzero', 0) === 1)),
    device: (c) => reshaped(c, (shape) => reshapedTo(shape, c.list('shape') ?? Array.from(c.host(1)?.data ?? []), c.number('allowzero', 0) === 1)),
  },
  Flatten: {
    inputs: ONE,
    attributes: { axis: int },
    host: moved(({ node }, x) => flattenedTo(node, x.shape)),
    device: (c) => reshaped(c, (shape) => flattenedTo(c.node, shape)),
  },
  Squeeze: { inputs: (opset) => [1, opset >= 13 ? 2 : 1], attributes: { axes: attribute('ints', { until: 12 }) }, ...resizing },
  Unsqueeze: { inputs: (opset) => (opset >= 13 ? [2, 2] : ONE), attributes: { axes: attribute('ints', { until: 12, required: true }) }, ...resizing },
  Transpose: { inputs: ONE, attributes: { perm: intList }, check: checkPermutation, host: transpose, device: transposing },
  Constant: {
    inputs: [0, 0],
    attributes: {
      value: attribute('tensor'),
      sparse_value: attribute('other', { since: 11 }),
      value_int: attribute('int', { since: 12 }),
      value_ints: attribute('ints', { since: 12 }),
      value_float: attribute('float', { since: 12 }),
      value_floats: attribute('floats', { since: 12 }),
      value_string: attribute('string', { since: 12 }),
      value_strings: attribute('strings', { since: 12 }),
    },
    check: checkConstant,
    any: ({ node }) => {
      const constant = tensorOfConstant(node);
      return constant.texts?.() ?? constant.load();
    },
  },
  Shape: {
    inputs: ONE,
    attributes: { start: attribute('int', { since: 15 }), end: attribute('int', { since: 15 }) },
    host: ({ node, inputs }) => shapeOf(node, (inputs[0] as HostTensor).shape),
    any: shaping,
  },
  Gather: { inputs: [2, 2], attributes: { axis: int }, host: gather, device: picking },
  Slice: {
    inputs: (opset) => (opset >= 10 ? [3, 5] : ONE),
    attributes: {
      axes: attribute('ints', { until: 9 }),
      starts: attribute('ints', { until: 9, required: true }),
      ends: attribute('ints', { until: 9, required: true }),
    },
    where: [1, 2, 3, 4],
    host: slice,
    device: slicing,
  },
  Concat: { inputs: [1, NEWEST], attributes: { axis: attribute('int', { since: 4, required: true }) }, host: concat, device: joining },
};
