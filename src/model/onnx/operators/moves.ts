/** Operators that move elements, or say where they are: shapes, slices, casts. */
import * as ops from '../../../autograd/ops/index.ts';
import type { PadMode } from '../../../autograd/ops/pad.ts';
import { broadcastShapes, broadcastStrides, MAX_RANK, normalizeAxis, type Shape, sizeOf, stridesOf } from '../../../tensor/shape.ts';
import { tensor } from '../../../tensor/tensor.ts';
import { type ElementType, EXACT, wrapped } from '../elements.ts';
import { bounded, chosen, fitted, ints as intsOf, like, movedTexts, oneType, places, roomFor, rounded, taken, transposed } from '../host.ts';
import {
  attribute,
  type Check,
  CONSUMED,
  type Context,
  type Count,
  fail,
  flag,
  type HostCall,
  int,
  ints as intList,
  listOf,
  NEWEST,
  NotOnDevice,
  numberOf,
  type Operators,
  plain,
  type Results,
  TO_FILE,
  wordOf,
} from '../operator.ts';
import { MAX_AXES, type OnnxNode, type OnnxTensor } from '../proto.ts';
import { type Device, type HostTensor, typeOf, type Value } from '../values.ts';
import { shown } from '../wire.ts';
import { passed } from './arithmetic.ts';

/** Numbers as another type holds them. Whole numbers wrap round; floats lose what is behind the point, and must fit then. */
export function castTo(x: HostTensor, to: ElementType): HostTensor {
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
function reshapedTo(shape: Shape, wanted: readonly number[], allowZero: boolean): number[] {
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
function resizedTo(node: OnnxNode, axes: HostTensor | null | undefined, shape: Shape): number[] {
  if (node.op === 'Squeeze') {
    const named = axesOf(node, axes, shape.length) ?? [];
    const gone = named.length > 0 ? named : shape.flatMap((extent, axis) => (extent === 1 ? [axis] : []));
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
function flattenedTo(node: OnnxNode, shape: Shape): number[] {
  const axis = (node.attributes.get('axis') as number | undefined) ?? 1;
  const at = axis < 0 ? axis + shape.length : axis;
  if (!(at >= 0 && at <= shape.length)) fail(`axis ${axis} of [${shape}]`);
  return [sizeOf(shape.slice(0, at)), sizeOf(shape.slice(at))];
}

/** The order of axes that a Transpose asks for. */
function orderOf(node: OnnxNode, rank: number): number[] {
  const order = listOf(node, 'perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  return order.length === rank ? order : fail(`perm [${order}] for ${rank} axes`);
}

function transpose({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const order = orderOf(node, x.shape.length);
  bounded(order.map((axis) => x.shape[axis]));
  return transposed(x, order);
}

/** What a Slice takes along every axis. */
export interface Range {
  start: number;
  count: number;
  step: number;
}

/** What a Slice takes of a shape: from attributes in older opsets, from inputs in newer ones. */
function rangesOf(node: OnnxNode, inputs: readonly (HostTensor | null)[], shape: Shape): Range[] {
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
function concatenatedTo(node: OnnxNode, shapes: readonly Shape[]): { axis: number; shape: number[] } {
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
  return intsOf([part.length], part);
}

const moved =
  (to: (call: HostCall, x: HostTensor) => number[]) =>
  (call: HostCall): HostTensor => {
    const x = call.inputs[0] as HostTensor;
    return { ...x, shape: to(call, x) };
  };

/** Numbers on the GPU that are f32, truth values too. Throws NotOnDevice for whole numbers. */
export function floatWords(c: Context, i: number): Device {
  const words = c.words(i);
  if (words.tensor.dtype !== 'f32') throw new NotOnDevice(`${c.what(i)} holds ${typeOf(words).name}; floats are supported`);
  return words;
}

function slicing(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  const inputs = c.inputs.map((_, i) => (i === 0 ? null : c.host(i)));
  const ranges = rangesOf(c.node, inputs, x.shape);
  const isEmpty = ranges.some(({ count }) => count === 0);
  const size = ranges.map(({ count }) => count);
  const start = ranges.map((range) => (isEmpty ? 0 : range.start));
  const step = ranges.map((range) => (isEmpty ? 1 : range.step));
  return plain(ops.slice(x, start, size, step), type);
}

function joining(c: Context): Value {
  const { axis, shape } = concatenatedTo(
    c.node,
    c.inputs.map((_, i) => c.shape(i)),
  );
  c.model.budget.expect(shape);
  if (c.inputs.length === 1) return passed(c);
  const parts = c.inputs.map((_, i) => c.words(i));
  const odd = parts.find((part) => typeOf(part).kind !== typeOf(parts[0]).kind);
  if (odd) fail(`${typeOf(parts[0]).name} and ${typeOf(odd).name} differ in type`);
  return plain(
    ops.concat(
      parts.map((part) => part.tensor),
      axis,
    ),
    parts[0].type,
  );
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
  const order = orderOf(c.node, x.rank);
  const wide = order.filter((axis) => x.shape[axis] !== 1);
  // Axes of one place move freely: no element does.
  const isView = wide.every((axis, i) => i === 0 || axis > wide[i - 1]);
  const shape = order.map((axis) => x.shape[axis]);
  return plain(isView ? ops.reshape(x, shape) : ops.transpose(x, order), type);
}

/** The shape of any tensor is known on the host. */
function shaping(c: Context): Value {
  const shape = c.shape(0);
  return shapeOf(c.node, c.layout === 'nhwc' ? TO_FILE.nhwc.map((axis) => shape[axis]) : shape);
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

const TRAINING = 'training: which elements are dropped differs from one program to the next';

/** Training is refused here if the file says so, else when a run asks for it. */
function checkDropout({ opset, attributes, inputs }: OnnxNode, c: Check): void {
  if (opset < 7 && attributes.get('is_test') !== 1) c.unsupported('training (is_test 0)');
  const [mode, ratio] = [inputs[2], inputs[1]].map((name) => c.constant(name));
  const isConstant = mode && sizeOf(mode.shape) === 1 && (!inputs[1] || (ratio && sizeOf(ratio.shape) === 1));
  if (isConstant && mode.load().data[0] !== 0 && ratio?.load().data[0] !== 0) c.unsupported(TRAINING);
}

/** Inference, or a ratio of 0: the input, and a mask of ones. */
function dropout(c: Context): Results {
  const training = c.numbers(2)?.data[0] ?? 0;
  const ratio = c.numbers(1)?.data[0] ?? 0.5;
  if (training !== 0 && ratio !== 0) c.unsupported(TRAINING);
  if (!c.wants(1)) return passed(c);
  // Before opset 10 the mask has the type of the input.
  const type = c.opset < 10 ? undefined : 'bool';
  const shape = [...c.shape(0)];
  c.model.budget.expect(shape);
  return [passed(c), plain(ops.broadcastTo(tensor([1], []), shape), type)];
}

/** The extents of the parts of a Split. */
function partsOf({ node, inputs }: HostCall, extent: number): number[] {
  const given = listOf(node, 'split') ?? (inputs[1] ? Array.from(inputs[1].data) : null);
  const count = node.outputs.length;
  if (given) {
    if (given.length !== count || given.some((size) => !(size >= 0)) || given.reduce((sum, size) => sum + size, 0) !== extent)
      fail(`parts of [${given}] do not divide ${extent} places among ${count} outputs`);
    return given;
  }
  const said = numberOf(node, 'num_outputs', count);
  if (said !== count) fail(`num_outputs is ${said}, but it has ${count} outputs`);
  if (node.opset < 18 && extent % count !== 0) fail(`${extent} places are not divided by ${count} outputs`);
  const size = Math.ceil(extent / count);
  const last = extent - (count - 1) * size;
  return last >= 0 ? [...new Array<number>(count - 1).fill(size), last] : fail(`${extent} places do not fill ${count} parts of ${size}`);
}

/** Where each part of a Split begins, and how long it is, along its axis. */
function cutsOf(call: HostCall, shape: Shape): { axis: number; cuts: { start: number; size: number }[] } {
  const axis = normalizeAxis(numberOf(call.node, 'axis', 0), shape, 'Split');
  let start = 0;
  return {
    axis,
    cuts: partsOf(call, shape[axis]).map((size) => {
      start += size;
      return { start: start - size, size };
    }),
  };
}

function split(call: HostCall): HostTensor[] {
  const x = call.inputs[0] as HostTensor;
  const { axis, cuts } = cutsOf(call, x.shape);
  return cuts.map(({ start, size }) => chosen(x, x.shape.with(axis, size), (each, i) => (each === axis ? start + i : i)));
}

function splitting(c: Context): Results {
  const { tensor: x, type } = c.words(0);
  const { axis, cuts } = cutsOf({ node: c.node, opset: c.opset, inputs: [null, c.host(1)] }, x.shape);
  return cuts.map(({ start, size }, k) =>
    c.wants(k)
      ? plain(
          ops.slice(
            x,
            x.shape.map((_, i) => (i === axis ? start : 0)),
            x.shape.with(axis, size),
          ),
          type,
        )
      : null,
  );
}

/** A list of whole numbers that an input holds. */
function listIn(given: HostTensor | null | undefined, what: string): number[] {
  if (!given || given.shape.length > 1) return fail(`${what} is ${given ? `[${given.shape}], one axis is expected` : 'missing'}`);
  return Array.from(given.data);
}

/** The shape that an Expand makes: a 1 on either side takes the other's extent. */
function expandedTo(shape: Shape, given: HostTensor | null | undefined): number[] {
  const wanted = listIn(given, 'the shape');
  if (wanted.length > MAX_AXES || wanted.some((extent) => !(extent >= 0))) fail(`a shape of [${wanted}]`);
  return broadcastShapes(shape, wanted, 'Expand');
}

function expand({ inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const shape = bounded(expandedTo(x.shape, inputs[1]));
  return taken(x, shape, places(shape, broadcastStrides(x.shape, shape)));
}

function expanding(c: Context): Value {
  const shape = expandedTo(c.shape(0), c.host(1));
  c.model.budget.expect(shape);
  if (shape.length > MAX_RANK) throw new NotOnDevice(`[${shape}] has ${shape.length} axes; at most ${MAX_RANK} are supported`);
  const { tensor: x, type } = floatWords(c, 0);
  return plain(ops.broadcastTo(x, shape), type);
}

/** How often a Tile repeats each axis. In opset 1 it repeats one axis. */
function repeatsOf(node: OnnxNode, inputs: readonly (HostTensor | null)[], shape: Shape): number[] {
  let repeats = listIn(inputs[1], 'the repeats');
  if (node.opset < 6) {
    const axis = normalizeAxis(inputs[2]?.data[0] ?? fail('its axis is missing'), shape, 'Tile');
    if (repeats.length !== 1) fail(`${repeats.length} tiles, one is expected`);
    repeats = shape.map((_, i) => (i === axis ? repeats[0] : 1));
  }
  if (repeats.length !== shape.length || repeats.some((count) => !(count >= 0))) fail(`repeats [${repeats}] for [${shape}]`);
  return repeats;
}

function tile({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const repeats = repeatsOf(node, inputs, x.shape);
  return chosen(
    x,
    x.shape.map((extent, axis) => extent * repeats[axis]),
    (axis, i) => i % x.shape[axis],
  );
}

function tiling(c: Context): Value {
  const shape = c.shape(0);
  const repeats = repeatsOf(c.node, [null, c.host(1), c.host(2)], shape);
  c.model.budget.expect(shape.map((extent, axis) => extent * repeats[axis]));
  const { tensor: x, type } = floatWords(c, 0);
  return plain(ops.tile(x, repeats), type);
}

interface Padding {
  before: number[];
  after: number[];
  mode: PadMode;
  shape: number[];
}

/** What a Pad adds to a shape, and in which way. Negative amounts crop. */
function paddingOf(node: OnnxNode, inputs: readonly (HostTensor | null)[], shape: Shape): Padding {
  const amounts = listOf(node, 'pads') ?? listOf(node, 'paddings') ?? listIn(inputs[1], 'the padding');
  const axes = inputs[3] ? listIn(inputs[3], 'the axes').map((axis) => normalizeAxis(axis, shape, 'Pad')) : shape.map((_, axis) => axis);
  if (amounts.length !== 2 * axes.length || new Set(axes).size !== axes.length) fail(`padding [${amounts}] for axes [${axes}] of [${shape}]`);
  const [before, after] = [shape.map(() => 0), shape.map(() => 0)];
  for (const [i, axis] of axes.entries()) {
    before[axis] = amounts[i];
    after[axis] = amounts[axes.length + i];
  }
  const mode = wordOf(node, 'mode', 'constant') as PadMode;
  const padded = shape.map((extent, axis) => extent + before[axis] + after[axis]);
  const negative = padded.findIndex((extent, axis) => extent < 0 || shape[axis] + Math.min(0, before[axis]) + Math.min(0, after[axis]) < 0);
  if (negative >= 0) fail(`padding [${amounts}] leaves less than nothing of [${shape}]`);
  const empty = shape.findIndex(
    (extent, axis) => mode !== 'constant' && extent + Math.min(0, before[axis]) + Math.min(0, after[axis]) === 0 && padded[axis] > 0,
  );
  if (empty >= 0) fail(`mode ${mode} has nothing to repeat along axis ${empty} of [${shape}]`);
  return { before, after, mode, shape: padded };
}

/** The value of the padding. */
const fillOf = (node: OnnxNode, given: HostTensor | null | undefined): number => given?.data[0] ?? numberOf(node, 'value', 0);

/** Where an element of a padded axis comes from, of `extent` places from `from` on; −1 for the fill. */
function source(mode: PadMode, i: number, extent: number): number {
  if (i >= 0 && i < extent) return i;
  if (mode === 'constant') return -1;
  if (mode === 'edge') return i < 0 ? 0 : extent - 1;
  const period = mode === 'wrap' ? extent : Math.max(1, 2 * (extent - 1));
  const at = ((i % period) + period) % period;
  return at < extent ? at : period - at;
}

function pad({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const { before, after, mode, shape } = paddingOf(node, inputs, x.shape);
  if (inputs[2]) oneType([x, inputs[2]]);
  const start = before.map((amount) => Math.max(0, -amount)); // what is cropped is not repeated
  const kept = x.shape.map((extent, axis) => extent - start[axis] - Math.max(0, -after[axis]));
  const place = (axis: number, i: number) => {
    const at = source(mode, i - Math.max(0, before[axis]), kept[axis]);
    return at < 0 ? -1 : start[axis] + at;
  };
  return chosen(x, shape, place, fillOf(node, inputs[2]));
}

function padding(c: Context): Value {
  const inputs = c.inputs.map((_, i) => (i === 0 ? null : i === 2 ? c.numbers(i) : c.host(i)));
  const { before, after, mode, shape } = paddingOf(c.node, inputs, c.shape(0));
  c.model.budget.expect(shape);
  const { tensor: x, type } = floatWords(c, 0);
  if (!before.some(Boolean) && !after.some(Boolean)) return passed(c);
  const value = fillOf(c.node, inputs[2]);
  if (mode === 'constant') return plain(ops.pad(x, before, after, mode, value), type);
  const start = before.map((amount) => Math.max(0, -amount));
  const kept = x.shape.map((extent, axis) => extent - start[axis] - Math.max(0, -after[axis]));
  const [more, behind] = [before, after].map((amounts) => amounts.map((amount) => Math.max(0, amount)));
  if (mode === 'reflect' && kept.some((extent, axis) => Math.max(more[axis], behind[axis]) > Math.max(0, extent - 1)))
    throw new NotOnDevice(`a reflection of [${kept}] beyond its other end`);
  const cropped = kept.every((extent, axis) => extent === x.shape[axis]) ? x : ops.slice(x, start, kept);
  return plain(ops.pad(cropped, more, behind, mode), type);
}

function checkPad(node: OnnxNode, c: Check): void {
  const mode = wordOf(node, 'mode', 'constant');
  const known = ['constant', 'reflect', 'edge', ...(node.opset >= 19 ? ['wrap'] : [])];
  if (!known.includes(mode)) c.unsupported(`mode "${shown(mode)}" in opset ${node.opset}; ${known.join(', ')} are supported`);
}

/** A crop or padding by CenterCropPad: the extents, and where the first element of each axis lies in the input. */
function centeredOf(node: OnnxNode, given: HostTensor | null | undefined, shape: Shape): { to: number[]; first: number[] } {
  const wanted = listIn(given, 'the shape');
  const axes = listOf(node, 'axes')?.map((axis) => normalizeAxis(axis, shape, node.op)) ?? shape.map((_, axis) => axis);
  if (wanted.length !== axes.length || new Set(axes).size !== axes.length || wanted.some((extent) => !(extent >= 0)))
    fail(`a shape of [${wanted}] for axes [${axes}] of [${shape}]`);
  const to = [...shape];
  for (const [i, axis] of axes.entries()) to[axis] = wanted[i];
  return { to, first: shape.map((extent, axis) => (extent >= to[axis] ? Math.floor((extent - to[axis]) / 2) : -Math.floor((to[axis] - extent) / 2))) };
}

function centered({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const { to, first } = centeredOf(node, inputs[1], x.shape);
  return chosen(x, to, (axis, i) => (i + first[axis] >= 0 && i + first[axis] < x.shape[axis] ? i + first[axis] : -1));
}

function centering(c: Context): Value {
  const { to, first } = centeredOf(c.node, c.host(1), c.shape(0));
  c.model.budget.expect(to);
  const { tensor: x, type } = floatWords(c, 0);
  const before = first.map((at) => -at);
  return plain(
    ops.pad(
      x,
      before,
      to.map((extent, axis) => extent - x.shape[axis] - before[axis]),
    ),
    type,
  );
}

/** The shapes between which DepthToSpace and SpaceToDepth turn axes: [N, C, H, W] with its blocks apart. */
function blocksOf(node: OnnxNode, shape: Shape): { apart: number[]; order: number[]; to: number[] } {
  if (shape.length !== 4) fail(`[${shape}]; pictures of 4 axes are expected`);
  const block = numberOf(node, 'blocksize', 0);
  const [n, c, h, w] = shape;
  if (node.op === 'SpaceToDepth') {
    if (!(block > 0) || h % block !== 0 || w % block !== 0) fail(`blocks of ${block} do not divide [${shape}]`);
    const [rows, columns] = [h / block, w / block];
    return { apart: [n, c, rows, block, columns, block], order: [0, 3, 5, 1, 2, 4], to: [n, c * block * block, rows, columns] };
  }
  const depth = c / (block * block);
  if (!(block > 0) || !Number.isInteger(depth)) fail(`blocks of ${block} do not divide the channels of [${shape}]`);
  const isDcr = wordOf(node, 'mode', 'DCR') === 'DCR';
  const apart = isDcr ? [n, block, block, depth, h, w] : [n, depth, block, block, h, w];
  return { apart, order: isDcr ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3], to: [n, depth, h * block, w * block] };
}

function blocks({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const { apart, order, to } = blocksOf(node, x.shape);
  const strides = stridesOf(apart);
  return taken(
    x,
    bounded(to),
    places(
      order.map((axis) => apart[axis]),
      order.map((axis) => strides[axis]),
    ),
  );
}

function blocking(c: Context): Value {
  const { apart, order, to } = blocksOf(c.node, c.shape(0));
  const { tensor: x, type } = c.words(0);
  return plain(ops.reshape(ops.transpose(ops.reshape(x, apart), order), to), type);
}

function checkDepth(node: OnnxNode, c: Check): void {
  const mode = wordOf(node, 'mode', 'DCR');
  if (mode !== 'DCR' && mode !== 'CRD') c.fail(`mode "${shown(mode)}", DCR or CRD is expected`);
}

/** The upper or the lower triangle of matrices; 0 elsewhere. */
function trilu({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  if (x.shape.length < 2) fail(`[${x.shape}]; matrices are expected`);
  const [rows, columns] = x.shape.slice(-2);
  const k = inputs[1]?.data[0] ?? 0;
  const isUpper = numberOf(node, 'upper', 1) === 1;
  bounded(x.shape);
  const at = Int32Array.from({ length: x.data.length }, (_, i) => {
    const [row, column] = [Math.floor(i / columns) % rows, i % columns];
    return (isUpper ? column - row >= k : column - row <= k) ? i : -1;
  });
  return taken(x, x.shape, at);
}

function triangle(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  if (x.rank < 2) fail(`[${x.shape}]; matrices are expected`);
  return plain(ops.trilu(x, c.host(1)?.data[0] ?? 0, c.number('upper', 1) === 1), type);
}

/** For each place of the first two axes, in order, the place that ReverseSequence takes: the first elements of each sequence turned. */
function turnedOf({ node, inputs }: HostCall, shape: Shape): number[] {
  const [time, batch] = [numberOf(node, 'time_axis', 0), numberOf(node, 'batch_axis', 1)];
  if (shape.length < 2 || time + batch !== 1 || time * batch !== 0) fail(`time axis ${time} and batch axis ${batch} of [${shape}]; 0 and 1 are expected`);
  const lengths = listIn(inputs[1], 'the lengths');
  if (lengths.length !== shape[batch] || lengths.some((length) => !(length >= 0 && length <= shape[time])))
    fail(`lengths [${lengths.slice(0, 10)}] for ${shape[batch]} sequences of ${shape[time]} places`);
  const at: number[] = [];
  for (let i = 0; i < shape[0]; i++)
    for (let j = 0; j < shape[1]; j++) {
      const [t, b] = time === 0 ? [i, j] : [j, i];
      const from = t < lengths[b] ? lengths[b] - 1 - t : t;
      at.push(time === 0 ? from * shape[1] + b : b * shape[1] + from);
    }
  return at;
}

function reverseSequence(call: HostCall): HostTensor {
  const x = call.inputs[0] as HostTensor;
  bounded(x.shape);
  const inner = sizeOf(x.shape.slice(2));
  const rows = inner === 0 ? [] : turnedOf(call, x.shape);
  return taken(
    x,
    x.shape,
    rows.flatMap((row) => Array.from({ length: inner }, (_, k) => row * inner + k)),
  );
}

function reversing(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  const rows = turnedOf({ node: c.node, opset: c.opset, inputs: [null, c.host(1)] }, x.shape);
  const flat = ops.reshape(x, [rows.length, sizeOf(x.shape.slice(2))]);
  return plain(ops.reshape(ops.gather(flat, tensor(Uint32Array.from(rows))), x.shape), type);
}

/** Columns of windows summed into pictures of any number of axes: the reverse of taking the windows out. */
function col2Im({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const [image, block] = [listIn(inputs[1], 'the shape of the picture'), listIn(inputs[2], 'the shape of the block')];
  const rank = image.length;
  const ones = image.map(() => 1);
  const [dilations, strides] = [listOf(node, 'dilations') ?? ones, listOf(node, 'strides') ?? ones];
  const pads = listOf(node, 'pads') ?? [...ones, ...ones].map(() => 0);
  const lengths = [block.length, dilations.length, strides.length, pads.length / 2];
  const all = [...image, ...block, ...dilations, ...strides];
  if (rank === 0 || lengths.some((length) => length !== rank) || all.some((value) => !(value >= 1)) || pads.some((value) => !(value >= 0)))
    fail(`a picture of [${image}], blocks of [${block}], dilations [${dilations}], strides [${strides}] and padding [${pads}]`);
  const counts = image.map((extent, i) => Math.floor((extent + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1) / strides[i]) + 1);
  const [taps, windows] = [sizeOf(block), sizeOf(counts)];
  const [n, columns, found] = x.shape;
  if (x.shape.length !== 3 || counts.some((count) => count < 1) || columns % taps !== 0 || found !== windows)
    fail(`[${x.shape}] for a picture of [${image}] in blocks of [${block}]: [N, C × ${taps}, ${windows}] is expected`);
  const shape = bounded([n, columns / taps, ...image]);
  bounded(x.shape);
  const data = new Float64Array(sizeOf(shape));
  const [imageStrides, blockStrides, countStrides] = [stridesOf(image), stridesOf(block), stridesOf(counts)];
  const size = sizeOf(image);
  for (let i = 0; i < x.data.length; i++) {
    const window = i % windows;
    const row = Math.floor(i / windows);
    const tap = row % taps;
    let to = Math.floor(row / taps) * size;
    let isInside = true;
    for (let axis = 0; axis < rank && isInside; axis++) {
      const at =
        (Math.floor(window / countStrides[axis]) % counts[axis]) * strides[axis] -
        pads[axis] +
        (Math.floor(tap / blockStrides[axis]) % block[axis]) * dilations[axis];
      isInside = at >= 0 && at < image[axis];
      to += at * imageStrides[axis];
    }
    if (isInside) data[to] += x.data[i];
  }
  return like(x, shape, x.kind === 'int' ? fitted(typeOf(x), data) : data);
}

const ONE: Count = [1, 1];
const resized = moved(({ node, inputs }, x) => resizedTo(node, inputs[1], x.shape));
const resizing = { where: [1], any: movedTexts(resized), host: resized, device: (c: Context) => reshaped(c, (shape) => resizedTo(c.node, c.host(1), shape)) };
const reshape = moved(({ node, inputs }, x) =>
  reshapedTo(x.shape, listOf(node, 'shape') ?? Array.from(inputs[1]?.data ?? []), numberOf(node, 'allowzero', 0) === 1),
);
const flatten = moved(({ node }, x) => flattenedTo(node, x.shape));

/** An operator that moves elements of any type, texts too. */
const moving = (host: (call: HostCall) => HostTensor | HostTensor[], device?: (c: Context) => Results) => ({
  any: movedTexts(host),
  host,
  ...(device ? { device } : {}),
});

export const MOVES: Operators = {
  Identity: { inputs: ONE, attributes: {}, layout: 'first', any: passed },
  Dropout: {
    inputs: (opset) => [1, opset >= 12 ? 3 : 1],
    outputs: [1, 2],
    attributes: { ...CONSUMED, ratio: attribute('float', { until: 11 }), is_test: attribute('flag', { until: 6 }), seed: attribute('int', { since: 12 }) },
    layout: 'first',
    read: [1, 2],
    check: checkDropout,
    any: dropout,
  },
  Reshape: {
    inputs: (opset) => (opset >= 5 ? [2, 2] : ONE),
    attributes: { ...CONSUMED, shape: attribute('ints', { until: 4, required: true }), allowzero: attribute('flag', { since: 14 }) },
    where: [1],
    ...moving(reshape, (c) => reshaped(c, (shape) => reshapedTo(shape, c.list('shape') ?? Array.from(c.host(1)?.data ?? []), c.number('allowzero', 0) === 1))),
  },
  Flatten: {
    inputs: ONE,
    attributes: { axis: int },
    ...moving(flatten, (c) => reshaped(c, (shape) => flattenedTo(c.node, shape))),
  },
  Squeeze: { inputs: (opset) => [1, opset >= 13 ? 2 : 1], attributes: { axes: attribute('ints', { until: 12 }) }, ...resizing },
  Unsqueeze: { inputs: (opset) => (opset >= 13 ? [2, 2] : ONE), attributes: { axes: attribute('ints', { until: 12, required: true }) }, ...resizing },
  Transpose: { inputs: ONE, attributes: { perm: intList }, check: checkPermutation, ...moving(transpose, transposing) },
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
    layout: 'shape',
    host: ({ node, inputs }) => shapeOf(node, (inputs[0] as HostTensor).shape),
    any: shaping,
  },
  Size: {
    inputs: ONE,
    attributes: {},
    layout: 'shape',
    host: ({ inputs }) => intsOf([], [inputs[0]?.data.length ?? 0]),
    any: (c) => intsOf([], [sizeOf(c.shape(0))]),
  },
  Slice: {
    inputs: (opset) => (opset >= 10 ? [3, 5] : ONE),
    attributes: {
      axes: attribute('ints', { until: 9 }),
      starts: attribute('ints', { until: 9, required: true }),
      ends: attribute('ints', { until: 9, required: true }),
    },
    where: [1, 2, 3, 4],
    ...moving(slice, slicing),
  },
  Concat: {
    inputs: [1, NEWEST],
    attributes: { axis: int },
    layout: { axis: 1 },
    check: (node, c) => (node.opset >= 4 && !node.attributes.has('axis') ? c.fail('attribute axis is missing') : undefined),
    ...moving(concat, joining),
  },
  Split: {
    inputs: (opset) => [1, opset === 1 || opset >= 13 ? 2 : 1],
    outputs: [1, NEWEST],
    attributes: { axis: int, split: attribute('ints', { until: 12 }), num_outputs: attribute('int', { since: 18 }) },
    layout: { axis: 0 },
    where: [1],
    ...moving(split, splitting),
  },
  Expand: { inputs: [2, 2], attributes: {}, where: [1], ...moving(expand, expanding) },
  Tile: { inputs: (opset) => (opset >= 6 ? [2, 2] : [3, 3]), attributes: {}, where: [1, 2], ...moving(tile, tiling) },
  Pad: {
    inputs: (opset) => (opset >= 11 ? [2, opset >= 18 ? 4 : 3] : ONE),
    attributes: {
      mode: attribute('string'),
      paddings: attribute('ints', { until: 1, required: true }),
      pads: attribute('ints', { since: 2, until: 10, required: true }),
      value: attribute('float', { until: 10 }),
    },
    layout: 'pads',
    where: [1, 3],
    read: [2],
    check: checkPad,
    ...moving(pad, padding),
  },
  CenterCropPad: { inputs: [2, 2], attributes: { axes: intList }, where: [1], ...moving(centered, centering) },
  DepthToSpace: {
    inputs: ONE,
    attributes: { blocksize: attribute('int', { required: true }), mode: attribute('string', { since: 11 }) },
    check: checkDepth,
    ...moving(blocks, blocking),
  },
  SpaceToDepth: { inputs: ONE, attributes: { blocksize: attribute('int', { required: true }) }, ...moving(blocks, blocking) },
  Trilu: { inputs: [1, 2], attributes: { upper: flag }, where: [1], host: trilu, device: triangle },
  ReverseSequence: { inputs: [2, 2], attributes: { batch_axis: int, time_axis: int }, where: [1], ...moving(reverseSequence, reversing) },
  Col2Im: { inputs: [3, 3], attributes: { dilations: intList, pads: intList, strides: intList }, where: [1, 2], host: col2Im },
};
