/**
 * Numbers as whole numbers of a few bits, with a scale and a zero point, and products of such numbers. On the GPU whole numbers of 8 and
 * 16 bits are f32, which holds each of them.
 */
import * as ops from '../../../autograd/ops/index.ts';
import { FileError, messageOf } from '../../../errors.ts';
import { broadcastShapes, broadcastStrides, normalizeAxis, type Shape, sameShape, sizeOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { ELEMENT_TYPES, type ElementType, elementType } from '../elements.ts';
import { bounded, fitted, mapped, places, rounded } from '../host.ts';
import {
  attribute,
  type Context,
  fail,
  type HostCall,
  int,
  ints,
  labelOf,
  listOf,
  NotOnDevice,
  numberOf,
  type Operators,
  plain,
  TO_FILE,
  TooLargeForHost,
  text,
} from '../operator.ts';
import type { OnnxNode, OnnxTensor } from '../proto.ts';
import { type Device, type HostTensor, isDevice, isHost, type Numbers, typeOf, type Value } from '../values.ts';
import { floating, MAX_HOST_PRODUCTS } from './arithmetic.ts';
import { checkPadding, padsOf } from './windows.ts';

const halfToEven = (x: number): number => {
  const down = Math.floor(x);
  return x - down === 0.5 ? 2 * Math.round(down / 2) : Math.round(x);
};

/** A whole number of the type that is nearest to x. */
function saturated(x: number, { range, name }: ElementType): number {
  const [low, high] = range ?? [0, 0];
  if (Number.isNaN(x)) fail(`NaN has no ${name}`);
  return Math.min(Math.max(x, low), high) + 0;
}

/** Which scale an element has: that at o · outer + ⌊i / block⌋ · along + k · inner, if the element is i of the axis, between o and k. */
interface Scaling {
  count: number;
  extent: number;
  width: number;
  block: number;
  outer: number;
  along: number;
  inner: number;
}

function scalingOf(node: OnnxNode, shape: Shape, scale: Shape): Scaling {
  const size = sizeOf(shape);
  if (sizeOf(scale) === 1 && scale.length <= 1) return { count: 1, extent: 1, width: size, block: 1, outer: 0, along: 0, inner: 0 };
  const axis = normalizeAxis(numberOf(node, 'axis', 1), shape, node.op);
  const [count, extent, width] = [sizeOf(shape.slice(0, axis)), shape[axis], sizeOf(shape.slice(axis + 1))];
  const block = numberOf(node, 'block_size', 0);
  if (block === 0) {
    if (scale.length !== 1 || scale[0] !== extent) fail(`the scales are [${scale}], one number or [${extent}] is expected for axis ${axis} of [${shape}]`);
    return { count, extent, width, block: 1, outer: 0, along: 1, inner: 0 };
  }
  const wanted = shape.map((each, i) => (i === axis ? Math.ceil(each / block) : each));
  if (!(block > 0) || !sameShape(scale, wanted)) fail(`the scales are [${scale}], [${wanted}] is expected for blocks of ${block}`);
  return { count, extent, width, block, outer: wanted[axis] * width, along: width, inner: 1 };
}

/** Calls f for every element, with its place and that of its scale. */
function scaled({ count, extent, width, block, outer, along, inner }: Scaling, f: (at: number, scale: number) => void): void {
  for (let o = 0, at = 0; o < count; o++)
    for (let i = 0; i < extent; i++) {
      const base = o * outer + Math.floor(i / block) * along;
      for (let k = 0; k < width; k++) f(at++, base + k * inner);
    }
}

/** Scales are floats, and there is a zero point for each, or none. */
function checkScales(scale: HostTensor, zero: HostTensor | null | undefined, of: ElementType): void {
  floating(scale);
  if (!zero) return;
  if (zero.data.length !== scale.data.length) fail(`the zero points are [${zero.shape}], the scales [${scale.shape}]`);
  if (typeOf(zero) !== of) fail(`the zero points are ${typeOf(zero).name}, ${of.name} is expected`);
}

function dequantized(node: OnnxNode, x: HostTensor, scale: HostTensor, zero: HostTensor | null | undefined): HostTensor {
  if (x.kind !== 'int' || typeOf(x).name === 'bool') fail(`${typeOf(x).name} is given, quantized whole numbers are expected`);
  checkScales(scale, zero, typeOf(x));
  const data = new Float32Array(x.data.length);
  const [from, by, zeros] = [x.data, scale.data, zero?.data];
  scaled(scalingOf(node, x.shape, scale.shape), (at, k) => {
    data[at] = Math.fround(from[at] - (zeros ? zeros[k] : 0)) * by[k];
  });
  return { kind: 'float', type: typeOf(scale).name, shape: x.shape, data: rounded(typeOf(scale), data) };
}

/** The type that a QuantizeLinear makes. */
function quantizedType(node: OnnxNode, zero: string | undefined): ElementType {
  const number = numberOf(node, 'output_dtype', 0);
  const type = number === 0 ? null : (ELEMENT_TYPES[number] ?? fail(`output_dtype ${number} is not supported`));
  if (type && zero && type.name !== zero) fail(`output_dtype is ${type.name}, the zero points are ${zero}`);
  return narrow(type?.name ?? zero ?? 'uint8');
}

/** A type of quantized numbers. */
function narrow(name: string): ElementType {
  const type = elementType(name);
  return type?.kind === 'int' && type.bytes <= 2 && type.name !== 'bool' ? type : fail(`${name} is no type of quantized numbers`);
}

const ROOM: Record<string, (count: number) => Int8Array | Uint8Array> = { int8: (count) => new Int8Array(count), uint8: (count) => new Uint8Array(count) };

function quantized(node: OnnxNode, x: HostTensor, scale: HostTensor, zero: HostTensor | null | undefined): HostTensor {
  if (x.kind === 'int' && typeOf(x).name !== 'int32') fail(`${typeOf(x).name} is given, floats or int32 are expected`);
  const type = quantizedType(node, zero ? typeOf(zero).name : undefined);
  checkScales(scale, zero, type);
  const data = ROOM[type.name]?.(x.data.length) ?? new Array<number>(x.data.length);
  scaled(scalingOf(node, x.shape, scale.shape), (at, k) => {
    data[at] = saturated(halfToEven(Math.fround(x.data[at] / scale.data[k])) + (zero ? zero.data[k] : 0), type);
  });
  return { kind: 'int', type: type.name, shape: x.shape, data };
}

/** The scale and the zero point of numbers between these: 0 has a whole number of its own. */
function dynamicOnHost({ inputs }: HostCall): HostTensor[] {
  const x = floating(inputs[0] as HostTensor);
  bounded(x.shape);
  const values = Array.from(x.data);
  const low = values.reduce((least, value) => Math.min(least, value), 0);
  const high = values.reduce((most, value) => Math.max(most, value), 0);
  const scale = high === low ? 1 : Math.fround(Math.fround(high - low) / 255);
  const type = ELEMENT_TYPES[2];
  const zero = saturated(halfToEven(Math.fround(-low / scale)), type);
  const data = Uint8Array.from(x.data, (value) => saturated(halfToEven(Math.fround(value / scale)) + zero, type));
  return [
    { kind: 'int', type: type.name, shape: x.shape, data },
    { kind: 'float', type: 'float', shape: [], data: Float32Array.of(scale) },
    { kind: 'int', type: type.name, shape: [], data: [zero] },
  ];
}

/** Whole numbers as f32 on the GPU. Throws NotOnDevice for what f32 does not hold. */
function wholes(c: Context, i: number): Tensor {
  const value = c.value(i);
  if (isDevice(value)) {
    if (value.tensor.dtype !== 'f32') throw new NotOnDevice(`${c.what(i)} holds ${typeOf(value).name}`);
    return value.tensor;
  }
  if (!isHost(value)) return fail(`${c.what(i)} holds no numbers`);
  const large = typeOf(value).bytes > 2 && Array.from(value.data).some((each) => each !== Math.fround(each));
  if (large) throw new NotOnDevice(`${c.what(i)} holds numbers that are no float32`);
  return tensor(Float32Array.from(value.data), value.shape);
}

/** A scale or a zero point, in the shape in which it repeats to x; and x, in blocks if scales are for blocks. */
function besides(c: Context, shape: Shape, scale: Shape): { x: number[]; scale: number[] } {
  const { count, extent, width, block, along, inner } = scalingOf(c.node, shape, scale);
  if (along === 0) return { x: [...shape], scale: [] };
  if (inner === 0) return { x: [count, extent, width], scale: [extent, 1] };
  if (extent % block !== 0) throw new NotOnDevice(`blocks of ${block} do not fill ${extent} places`);
  return { x: [count, extent / block, block, width], scale: [count, extent / block, 1, width] };
}

/** f of x, scales and zero points on the GPU, brought to shapes that fit. */
function withScales(c: Context, x: Device, type: string, f: (x: Tensor, scale: Tensor, zero: Tensor | null) => Tensor): Value {
  const shape = c.shape(0);
  c.model.budget.expect(shape);
  const to = besides(c, shape, c.shape(1));
  const scale = ops.reshape(c.plain(1), to.scale);
  const zero = c.has(2) ? ops.reshape(wholes(c, 2), to.scale) : null;
  return plain(ops.reshape(f(ops.reshape(x.tensor, to.x), scale, zero), shape), type);
}

/** Within the ends of the type. */
const cut = (x: Tensor, { range: [low, high] = [0, 0] }: ElementType): Tensor => ops.minimum(ops.maximum(x, tensor([low], [])), tensor([high], []));

function nearest(x: Tensor, scale: Tensor, zero: Tensor | null, type: ElementType): Tensor {
  const steps = ops.round(ops.div(x, scale));
  return cut(zero ? ops.add(steps, zero) : steps, type);
}

function quantizing(c: Context): Value {
  const value = c.value(0);
  const x: Device = isDevice(value) && typeOf(value).kind === 'float' ? value : plain(c.plain(0));
  const zero = c.inputs[2];
  const type = quantizedType(c.node, zero && (isDevice(zero) || isHost(zero)) ? typeOf(zero).name : undefined);
  return withScales(c, x, type.name, (each, scale, offset) => nearest(each, scale, offset, type));
}

function dequantizing(c: Context): Value {
  const value = c.value(0);
  if ((!isDevice(value) && !isHost(value)) || typeOf(value).kind === 'float' || typeOf(value).name === 'bool') fail('quantized whole numbers are expected');
  const scale = c.inputs[1];
  const type = scale && (isDevice(scale) || isHost(scale)) ? typeOf(scale).name : 'float';
  const x: Device = isDevice(value) && value.tensor.dtype === 'f32' ? value : plain(wholes(c, 0));
  return withScales(c, x, type, (each, by, zero) => ops.mul(zero ? ops.sub(each, zero) : each, by));
}

function dynamic(c: Context): Value[] {
  const x = c.plain(0);
  if (x.size === 0) throw new NotOnDevice('nothing has no extremes');
  c.model.budget.expect(x.shape);
  const nothing = tensor([0], []);
  const low = ops.minimum(ops.min(x), nothing);
  const range = ops.sub(ops.maximum(ops.max(x), nothing), low);
  const scale = ops.where(range, ops.div(range, tensor([255], [])), tensor([1], []));
  const type = ELEMENT_TYPES[2];
  const zero = cut(ops.round(ops.neg(ops.div(low, scale))), type);
  return [plain(nearest(x, scale, zero, type), type.name), plain(scale, 'float'), plain(zero, type.name)];
}

/** Whole numbers, less their zero points. */
interface Centered {
  shape: number[];
  data: Int32Array;
}

/** The tensor less its zero points, which repeat to it in this shape. */
function centered(x: HostTensor, zero: HostTensor | null | undefined, shape: number[] = []): Centered {
  if (x.kind !== 'int' || typeOf(x).bytes !== 1 || typeOf(x).name === 'bool') fail(`${typeOf(x).name} is given, int8 or uint8 is expected`);
  if (zero && typeOf(zero) !== typeOf(x)) fail(`the zero points are ${typeOf(zero).name}, ${typeOf(x).name} is expected`);
  const data = Int32Array.from(x.data);
  if (!zero) return { shape: x.shape, data };
  if (!sameShape(broadcastShapes(shape, x.shape, 'the zero points'), x.shape)) fail(`the zero points [${zero.shape}] do not repeat to [${x.shape}]`);
  if (zero.data.length === 1) for (let i = 0; i < data.length; i++) data[i] -= zero.data[0];
  else for (const [i, at] of places(x.shape, broadcastStrides(shape, x.shape)).entries()) data[i] -= zero.data[at];
  return { shape: x.shape, data };
}

/** The shape in which one number, or one a row, repeats to [..., rows, columns]. */
const ofRows = ({ shape }: { shape: Shape }): number[] => (sizeOf(shape) === 1 ? [] : shape.length === 1 ? [...shape, 1] : [...shape]);
const ofColumns = ({ shape }: { shape: Shape }): number[] => (sizeOf(shape) === 1 ? [] : [...shape]);

interface Product {
  batch: number[];
  m: number;
  k: number;
  n: number;
}

function productOf(a: Shape, b: Shape): Product {
  if (a.length < 2 || b.length < 2) fail(`[${a}] and [${b}]: matrices are expected`);
  const [m, k, n] = [a[a.length - 2], a[a.length - 1], b[b.length - 1]];
  if (b[b.length - 2] !== k) fail(`[${a}] and [${b}]: the inner extents ${k} and ${b[b.length - 2]} differ`);
  return { batch: broadcastShapes(a.slice(0, -2), b.slice(0, -2), 'the product'), m, k, n };
}

/** The product of matrices of whole numbers. */
function multiplied({ spend }: HostCall, a: Centered, b: Centered): { shape: number[]; data: Float64Array } {
  const { batch, m, k, n } = productOf(a.shape, b.shape);
  const shape = bounded([...batch, m, n]);
  const count = sizeOf(batch);
  const products = count * m * Math.max(1, n) * k;
  if (products > MAX_HOST_PRODUCTS) throw new TooLargeForHost(`[${shape}], each of ${k} products, is too much for the host`);
  spend?.(products);
  const strides = (each: Shape): number[] => {
    const own = each.slice(0, -2);
    let stride = each[each.length - 2] * each[each.length - 1];
    const out = new Array<number>(batch.length).fill(0);
    for (let axis = own.length - 1; axis >= 0; axis--) {
      if (own[axis] > 1) out[axis + batch.length - own.length] = stride;
      stride *= own[axis];
    }
    return out;
  };
  const [startA, startB] = [places(batch, strides(a.shape)), places(batch, strides(b.shape))];
  const data = new Float64Array(sizeOf(shape));
  for (let each = 0; each < count; each++)
    for (let i = 0; i < m; i++) {
      const row = (each * m + i) * n;
      for (let l = 0; l < k; l++) {
        const factor = a.data[startA[each] + i * k + l];
        const from = startB[each] + l * n;
        if (factor !== 0) for (let j = 0; j < n; j++) data[row + j] += factor * b.data[from + j];
      }
    }
  return { shape, data };
}

const INT32 = ELEMENT_TYPES[6];

function matmulInteger(call: HostCall): HostTensor {
  const [a, b, zeroA, zeroB] = call.inputs as HostTensor[];
  const { shape, data } = multiplied(call, centered(a, zeroA, zeroA && ofRows(zeroA)), centered(b, zeroB, zeroB && ofColumns(zeroB)));
  return { kind: 'int', type: 'int32', shape, data: fitted(INT32, data) };
}

/** Sums of products with the scales of both operands become whole numbers with the scale of the result. */
function rescaled(
  sums: { shape: number[]; data: Numbers },
  scales: readonly HostTensor[],
  shapes: readonly number[][],
  zero: HostTensor,
  zeroShape: number[],
): HostTensor {
  for (const each of scales) floating(each);
  const type = narrow(typeOf(zero).name);
  const inputs: HostTensor[] = [
    { kind: 'float', shape: sums.shape, data: sums.data },
    ...scales.map((each, i): HostTensor => ({ ...each, shape: shapes[i] })),
    { ...zero, shape: zeroShape },
  ];
  const { data } = mapped(
    inputs,
    (sum, a, b, y, offset) => saturated(halfToEven(Math.fround(Math.fround(sum) * Math.fround(Math.fround(a * b) / y))) + offset, type),
    sums.shape,
  );
  return { kind: 'int', type: type.name, shape: sums.shape, data: Array.from(data) };
}

function qlinearMatmul(call: HostCall): HostTensor {
  const [a, scaleA, zeroA, b, scaleB, zeroB, scaleY, zeroY] = call.inputs as HostTensor[];
  const sums = multiplied(call, centered(a, zeroA, ofRows(zeroA)), centered(b, zeroB, ofColumns(zeroB)));
  return rescaled(sums, [scaleA, scaleB, scaleY], [ofRows(scaleA), ofColumns(scaleB), ofRows(scaleY)], zeroY, ofRows(zeroY));
}

/** How a window moves over [N, C, d1, d2, …]. */
interface Window {
  out: number[];
  kernel: number[];
  stride: number[];
  dilation: number[];
  /** Padding before the first place of each axis, and behind the last. */
  before: number[];
  behind: number[];
  groups: number;
}

function windowOf(node: OnnxNode, x: Shape, w: Shape): Window {
  const axes = x.length - 2;
  if (axes < 1 || w.length !== x.length) fail(`[${x}] and the weight [${w}]: as many axes are expected, 3 at least`);
  const kernel = w.slice(2);
  const groups = numberOf(node, 'group', 1);
  if (!(groups >= 1) || x[1] !== w[1] * groups || w[0] % groups !== 0) fail(`[${x}] and the weight [${w}] do not fit ${groups} groups`);
  const list = (name: string, otherwise: number, count = axes): number[] => {
    const given = listOf(node, name) ?? new Array<number>(count).fill(otherwise);
    return given.length === count && given.every((each) => each >= otherwise) ? given : fail(`${name} [${given}] for ${axes} axes`);
  };
  const [stride, dilation] = [list('strides', 1), list('dilations', 1)];
  list('pads', 0, 2 * axes);
  const stated = listOf(node, 'kernel_shape');
  if (stated && !sameShape(stated, kernel)) fail(`kernel_shape [${stated}] contradicts the weight's [${kernel}]`);
  const pads = padsOf(node, x.slice(2), kernel, stride, dilation);
  const [before, behind] = [pads.slice(0, axes), pads.slice(axes)];
  const spatial = kernel.map((extent, axis) => {
    const span = (extent - 1) * dilation[axis] + 1;
    const padded = x[2 + axis] + before[axis] + behind[axis];
    const places = Math.floor((padded - span) / stride[axis]) + 1;
    return places >= 0 ? places : fail(`windows of ${span} do not fit ${padded} places`);
  });
  return { out: [x[0], w[0], ...spatial], kernel, stride, dilation, before, behind, groups };
}

/** Where the products of each place of the result read their picture, −1 for padding: [places, taps]. */
function tapsOf({ out, kernel, stride, dilation, before }: Window, x: Shape): Int32Array {
  const spatial = out.slice(2);
  const taps = sizeOf(kernel);
  const at = new Int32Array(sizeOf(spatial) * taps);
  const decoded = (index: number, shape: Shape): number[] => {
    const places: number[] = [];
    for (let axis = shape.length - 1, rest = index; axis >= 0; axis--) {
      places[axis] = rest % shape[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    return places;
  };
  const offsets = Array.from({ length: taps }, (_, tap) => decoded(tap, kernel).map((place, axis) => place * dilation[axis]));
  for (let o = 0, i = 0; i < at.length; o++) {
    const start = decoded(o, spatial).map((place, axis) => place * stride[axis] - before[axis]);
    for (const offset of offsets) {
      let place = 0;
      for (let axis = 0; axis < spatial.length && place >= 0; axis++) {
        const here = start[axis] + offset[axis];
        place = here >= 0 && here < x[2 + axis] ? place * x[2 + axis] + here : -1;
      }
      at[i++] = place;
    }
  }
  return at;
}

/** The convolution of whole numbers. What is padded is a 0: the zero point, less itself. */
function convolved({ node, spend }: HostCall, x: Centered, w: Centered): { shape: number[]; data: Float64Array } {
  const window = windowOf(node, x.shape, w.shape);
  const shape = bounded(window.out);
  const [taps, channels] = [sizeOf(window.kernel), w.shape[1]];
  const [area, from] = [sizeOf(shape.slice(2)), sizeOf(x.shape.slice(2))];
  const products = shape[0] * shape[1] * channels * Math.max(1, area * taps);
  if (products > MAX_HOST_PRODUCTS || area * taps > 1 << 24)
    throw new TooLargeForHost(`[${shape}], each of ${channels * taps} products, is too much for the host`);
  spend?.(products);
  const at = tapsOf(window, x.shape);
  const data = new Float64Array(sizeOf(shape));
  const per = w.shape[0] / window.groups;
  for (let i = 0; i < shape[0] * shape[1]; i++) {
    const [picture, kernel] = [Math.floor(i / shape[1]), i % shape[1]];
    const group = Math.floor(kernel / per);
    for (let c = 0; c < channels; c++) {
      const base = (picture * x.shape[1] + group * channels + c) * from;
      for (let place = 0; place < area; place++) {
        let sum = 0;
        for (let tap = 0; tap < taps; tap++) {
          const pixel = at[place * taps + tap];
          if (pixel >= 0) sum += x.data[base + pixel] * w.data[(kernel * channels + c) * taps + tap];
        }
        data[i * area + place] += sum;
      }
    }
  }
  return { shape, data };
}

/** The shape in which one number, or one an output channel, repeats along an axis of so many. */
const ofChannels = ({ shape }: { shape: Shape }, after: number): number[] => (sizeOf(shape) === 1 ? [] : [...shape, ...new Array<number>(after).fill(1)]);

const one = (zero: HostTensor | null | undefined): void => {
  if (zero && zero.data.length !== 1) fail(`the zero point of pictures is [${zero.shape}], one number is expected`);
};

function convInteger(call: HostCall): HostTensor {
  const [x, w, zeroX, zeroW] = call.inputs as HostTensor[];
  one(zeroX);
  const { shape, data } = convolved(call, centered(x, zeroX), centered(w, zeroW, zeroW && ofChannels(zeroW, w.shape.length - 1)));
  return { kind: 'int', type: 'int32', shape, data: fitted(INT32, data) };
}

function qlinearConv(call: HostCall): HostTensor {
  const [x, scaleX, zeroX, w, scaleW, zeroW, scaleY, zeroY, bias] = call.inputs as HostTensor[];
  for (const each of [zeroX, scaleX, zeroY, scaleY]) one(each);
  const sums = convolved(call, centered(x, zeroX), centered(w, zeroW, ofChannels(zeroW, w.shape.length - 1)));
  const axes = x.shape.length - 2;
  if (bias) {
    if (typeOf(bias).name !== 'int32' || !sameShape(bias.shape, [w.shape[0]]))
      fail(`the bias is ${typeOf(bias).name} [${bias.shape}], int32 [${w.shape[0]}] is expected`);
    const area = sizeOf(sums.shape.slice(2));
    for (let i = 0; i < sums.data.length; i++) sums.data[i] += bias.data[Math.floor(i / area) % w.shape[0]];
  }
  return rescaled(sums, [scaleX, scaleW, scaleY], [[], ofChannels(scaleW, axes), []], zeroY, []);
}

/** The largest number that a value of 8 bits can be, without its sign, when its zero point is taken off. */
function mostOf(c: Context, i: number, zero: number): number {
  const value = c.value(i);
  const type = isDevice(value) || isHost(value) ? typeOf(value) : null;
  if (type?.kind !== 'int' || type.bytes !== 1 || type.name === 'bool') return fail(`${type?.name ?? 'something else'} is given, int8 or uint8 is expected`);
  const [low, high] = type.range ?? [0, 0];
  const offset = c.inputs[zero] ?? null;
  if (!offset) return Math.max(-low, high);
  if ((isDevice(offset) || isHost(offset)) && typeOf(offset) !== type) fail(`the zero points are ${typeOf(offset).name}, ${type.name} is expected`);
  return isHost(offset) ? Array.from(offset.data).reduce((most, each) => Math.max(most, high - each, each - low), 0) : high - low;
}

/** Whole numbers up to here are all float32. */
const EXACT_FLOAT = 2 ** 24;

/**
 * A sum of k products of whole numbers on the GPU, f being the sum's function of one factor. If float32 does not hold all such sums,
 * this factor is taken in two parts, of which it does: the result is rounded once. Throws NotOnDevice for still longer sums.
 */
function summed(a: Tensor, k: number, mostA: number, mostB: number, f: (a: Tensor) => Tensor): Tensor {
  if (k * mostA * mostB <= EXACT_FLOAT) return f(a);
  if (k * 16 * mostB > EXACT_FLOAT) throw new NotOnDevice(`sums of ${k} products`);
  const high = ops.round(ops.scale(a, 1 / 16));
  return ops.add(ops.scale(f(high), 16), f(ops.sub(a, ops.scale(high, 16))));
}

/** Less its zero points, which repeat to it in this shape. */
const offsetBy = (c: Context, x: Tensor, zero: number, shape: readonly number[]): Tensor => (c.has(zero) ? ops.sub(x, ops.reshape(wholes(c, zero), shape)) : x);

/** Whole numbers as the sums of products on the GPU; refused if float32 may not hold the sums, unless floats are asked for. */
function asInteger(c: Context, sums: Device, k: number, mostA: number, mostB: number): Value {
  if (c.number('asFloat', 0) === 1) return { ...sums, type: 'float' };
  if (k * mostA * mostB > EXACT_FLOAT) throw new NotOnDevice(`sums of ${k} products as int32`);
  return { ...sums, type: 'int32' };
}

interface Factors {
  sums: Device;
  k: number;
  mostA: number;
  mostB: number;
}

/** The product of inputs a and b, less zero points. */
function matmulOnDevice(c: Context, [a, zeroA, b, zeroB]: readonly number[]): Factors {
  const [mostA, mostB] = [mostOf(c, a, zeroA), mostOf(c, b, zeroB)];
  const { batch, m, k, n } = productOf(c.shape(a), c.shape(b));
  c.model.budget.expect([...batch, m, n], 2 * k);
  const shape = (zero: number, of: typeof ofRows): number[] => (c.has(zero) ? of({ shape: c.shape(zero) }) : []);
  const right = offsetBy(c, wholes(c, b), zeroB, shape(zeroB, ofColumns));
  const left = offsetBy(c, wholes(c, a), zeroA, shape(zeroA, ofRows));
  if (left.size === 0 || right.size === 0) throw new NotOnDevice('products of nothing');
  return { sums: plain(summed(left, k, mostA, mostB, (part) => ops.matmul(part, right))), k, mostA, mostB };
}

/** The convolution of inputs x and w, less zero points. The sums are [N, H, W, C]. */
function convOnDevice(c: Context, [x, zeroX, w, zeroW]: readonly number[]): Factors {
  const [mostX, mostW] = [mostOf(c, x, zeroX), mostOf(c, w, zeroW)];
  const [given, weight] = [wholes(c, x), c.shape(w)];
  const shape = c.layout === 'nhwc' ? TO_FILE.nhwc.map((axis) => given.shape[axis]) : given.shape;
  const { out, stride, dilation, before, behind, groups } = windowOf(c.node, shape, weight);
  if (shape.length !== 4 || sizeOf(shape) === 0 || sizeOf(out) === 0) throw new NotOnDevice(`convolutions of [${shape}]`);
  const k = sizeOf(weight.slice(1));
  c.model.budget.expect(out, 2 * k);
  const kernel = offsetBy(c, ops.transpose(wholes(c, w), [2, 3, 1, 0]), zeroW, c.has(zeroW) && sizeOf(c.shape(zeroW)) > 1 ? c.shape(zeroW) : []);
  const pictures = offsetBy(c, c.layout === 'nhwc' ? given : ops.transpose(given, [0, 2, 3, 1]), zeroX, []);
  const geometry = {
    ...{ stride: [stride[0], stride[1]] as const, dilation: [dilation[0], dilation[1]] as const, groups, layout: 'nhwc' as const },
    pad: [before[0], before[1], behind[0], behind[1]] as const,
  };
  return { sums: plain(summed(pictures, k, mostX, mostW, (part) => ops.conv2d(part, kernel, null, geometry))), k, mostA: mostX, mostB: mostW };
}

/** Pictures [N, H, W, C] in the order that the node gives. */
const asAsked = (c: Context, x: Tensor): Tensor => (c.layout === 'nhwc' ? x : ops.transpose(x, TO_FILE.nhwc));

/** Sums of products with the scales of both operands, as whole numbers with the scale of the result. Inputs by their place. */
function rescaling(
  c: Context,
  sums: Tensor,
  scales: readonly [number, readonly number[]][],
  zero: number,
  zeroShape: readonly number[],
): { x: Tensor; type: string } {
  const offset = c.value(zero);
  const type = narrow(isDevice(offset) || isHost(offset) ? typeOf(offset).name : '');
  const [a, b, y] = scales.map(([i, shape]) => ops.reshape(c.plain(i), shape));
  const steps = ops.round(ops.mul(sums, ops.div(ops.mul(a, b), y)));
  return { x: cut(ops.add(steps, ops.reshape(wholes(c, zero), zeroShape)), type), type: type.name };
}

function qlinearMatmulOnDevice(c: Context): Value {
  const { sums } = matmulOnDevice(c, [0, 2, 3, 5]);
  const rows = (i: number): [number, number[]] => [i, ofRows({ shape: c.shape(i) })];
  const { x, type } = rescaling(c, sums.tensor, [rows(1), [4, ofColumns({ shape: c.shape(4) })], rows(6)], 7, rows(7)[1]);
  return plain(x, type);
}

function qlinearConvOnDevice(c: Context): Value {
  for (const i of [1, 2, 6, 7]) if (sizeOf(c.shape(i)) !== 1) fail(`${c.what(i)} is [${c.shape(i)}], one number is expected`);
  const { sums } = convOnDevice(c, [0, 2, 3, 5]);
  if (c.has(8) && !sameShape(c.shape(8), [c.shape(3)[0]])) fail(`the bias is [${c.shape(8)}], [${c.shape(3)[0]}] is expected`);
  const whole = c.has(8) ? ops.add(sums.tensor, wholes(c, 8)) : sums.tensor;
  const channels = sizeOf(c.shape(4)) === 1 ? [] : c.shape(4);
  const { x, type } = rescaling(
    c,
    whole,
    [
      [1, []],
      [4, channels],
      [6, []],
    ],
    7,
    [],
  );
  return plain(asAsked(c, x), type);
}

const asFloats = (node: OnnxNode, x: HostTensor): HostTensor =>
  numberOf(node, 'asFloat', 0) === 1 ? { kind: 'float', type: 'float', shape: x.shape, data: Float32Array.from(x.data) } : x;

const WINDOW = { auto_pad: text, pads: ints, strides: ints, dilations: ints, kernel_shape: ints, group: int };

const SCALES = { axis: attribute('int', { since: 13 }), block_size: attribute('int', { since: 21 }) };

/** A constant that a node makes of constants of the file when it is loaded, and not before: weights may be large. */
export function linearOf(path: string, node: OnnxNode, [x, scale, zero]: readonly (OnnxTensor | undefined)[]): OnnxTensor | null {
  if (!x || !scale) return null;
  const isQuantizing = node.op === 'QuantizeLinear';
  const type = isQuantizing ? (zero?.type ?? (node.attributes.has('output_dtype') ? '' : 'uint8')) : (scale.type ?? 'float');
  if (isQuantizing && !(type in ROOM)) return null;
  const load = (): HostTensor => {
    try {
      return (isQuantizing ? quantized : dequantized)(node, x.load(), scale.load(), zero?.load());
    } catch (error) {
      throw error instanceof FileError ? error : new FileError(path, `${labelOf(node)}: ${messageOf(error)}`);
    }
  };
  return { name: node.outputs[0], kind: isQuantizing ? 'int' : 'float', type, shape: x.shape, load };
}

export const QUANTIZE: Operators = {
  QuantizeLinear: {
    inputs: [2, 3],
    attributes: { ...SCALES, saturate: attribute('flag', { since: 19 }), output_dtype: attribute('int', { since: 21 }) },
    layout: { axis: 1 },
    host: ({ node, inputs: [x, scale, zero] }) => {
      bounded((x as HostTensor).shape);
      return quantized(node, x as HostTensor, scale as HostTensor, zero);
    },
    device: quantizing,
  },
  DequantizeLinear: {
    inputs: [2, 3],
    attributes: SCALES,
    layout: { axis: 1 },
    host: ({ node, inputs: [x, scale, zero] }) => {
      bounded((x as HostTensor).shape);
      return dequantized(node, x as HostTensor, scale as HostTensor, zero);
    },
    device: dequantizing,
  },
  DynamicQuantizeLinear: { inputs: [1, 1], outputs: [1, 3], attributes: {}, layout: 'channels', host: dynamicOnHost, device: dynamic },
  MatMulInteger: {
    inputs: [2, 4],
    attributes: {},
    host: (call) => asFloats(call.node, matmulInteger(call)),
    device: (c) => {
      const { sums, k, mostA, mostB } = matmulOnDevice(c, [0, 2, 1, 3]);
      return asInteger(c, sums, k, mostA, mostB);
    },
  },
  QLinearMatMul: { inputs: [8, 8], attributes: {}, host: qlinearMatmul, device: qlinearMatmulOnDevice },
  ConvInteger: {
    inputs: [2, 4],
    attributes: WINDOW,
    layout: 'windows',
    check: checkPadding,
    host: (call) => asFloats(call.node, convInteger(call)),
    device: (c) => {
      if (c.has(2) && sizeOf(c.shape(2)) !== 1) fail(`${c.what(2)} is [${c.shape(2)}], one number is expected`);
      const { sums, k, mostA, mostB } = convOnDevice(c, [0, 2, 1, 3]);
      return asInteger(c, plain(asAsked(c, sums.tensor)), k, mostA, mostB);
    },
  },
  QLinearConv: { inputs: [8, 9], attributes: WINDOW, layout: 'windows', check: checkPadding, host: qlinearConv, device: qlinearConvOnDevice },
};
