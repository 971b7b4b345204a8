/**
 * Arithmetic on the host, element by element, for whole numbers, shapes, short lists and types that the GPU does not have. Results
 * are as ONNX says: whole numbers wrap round in their type, floats are rounded to theirs. Sizes are bounded before memory is taken.
 */
import { bfloatOf } from '../../data/bfloat.ts';
import { toHalf } from '../../data/half.ts';
import { broadcastShapes, broadcastStrides, type Shape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { claimOf, type ElementType, EXACT, fromBits, MAX_ELEMENTS, wrapped } from './elements.ts';
import { type Context, fail, MAX_HOST_ELEMENTS, type Operator, type Results, TooLargeForHost } from './operator.ts';
import { MAX_AXES } from './proto.ts';
import { type HostTensor, type HostText, isDevice, type Numbers, typeOf } from './values.ts';

/** Whole numbers of 64 bits, as shapes are. */
export const ints = (shape: number[], data: number[]): HostTensor => ({ kind: 'int', shape, data });

/** Truth values. */
export const bools = (shape: number[], data: number[]): HostTensor => ({ kind: 'int', type: 'bool', shape, data });

/** Upper halves of floats, rounded to the nearest, ties to even. */
function toBfloat(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(bits, bfloatOf);
}

/** Numbers as a float type holds them. */
export function rounded(type: ElementType, data: ArrayLike<number>): Numbers {
  if (type.name === 'double') return data instanceof Float64Array ? data : Float64Array.from(data);
  const floats = data instanceof Float32Array ? data : Float32Array.from(data);
  if (type.name === 'float16') return fromBits(type.name, toHalf(floats));
  return type.name === 'bfloat16' ? fromBits(type.name, toBfloat(floats)) : floats;
}

/** The same type of tensor with other elements, rounded to it. Whole numbers must fit. */
export const like = (x: HostTensor, shape: number[], data: ArrayLike<number>): HostTensor =>
  x.kind === 'float' ? { ...x, shape, data: rounded(typeOf(x), data) } : { ...x, shape, data: Array.isArray(data) ? data : Array.from(data) };

/** The shape, if a tensor on the host may have it. Throws TooLargeForHost, or a GlimpseError for a shape that no tensor may have. */
export function bounded(shape: number[]): number[] {
  if (shape.length > MAX_AXES) fail(`[${shape}] has ${shape.length} axes, at most ${MAX_AXES} are supported`);
  const odd = shape.find((extent) => !(extent >= 0));
  if (odd !== undefined) fail(`[${shape}] has an extent of ${odd}`);
  if (sizeOf(shape) === 0 && !(claimOf(shape) <= MAX_ELEMENTS)) fail(`[${shape}] has more than ${MAX_ELEMENTS} elements, its extents of 0 aside`);
  if (!(sizeOf(shape) <= MAX_HOST_ELEMENTS))
    throw new TooLargeForHost(`[${shape}] has more than ${MAX_HOST_ELEMENTS} elements, the most that are computed on the host`);
  return shape;
}

/** Room for elements of a tensor like x, before they are rounded. */
export const roomFor = (x: HostTensor, count: number): Float64Array | Float32Array | number[] =>
  x.kind === 'int' ? new Array<number>(count).fill(0) : x.data instanceof Float64Array ? new Float64Array(count) : new Float32Array(count);

/** Where the elements of `shape`, in order, lie in a tensor that is walked with the strides. */
export function places(shape: Shape, strides: readonly number[], start = 0): Int32Array {
  if (sizeOf(shape) === 0) return new Int32Array(0); // the extents before a 0 may be any
  let at = Int32Array.of(start);
  shape.forEach((extent, axis) => {
    const next = new Int32Array(at.length * extent);
    for (let i = 0, k = 0; i < at.length; i++) for (let j = 0; j < extent; j++) next[k++] = at[i] + j * strides[axis];
    at = next;
  });
  return at;
}

/** The elements at places of x, as a tensor of that shape. A place below 0 stands for `otherwise`. */
export function taken(x: HostTensor, shape: number[], at: ArrayLike<number>, otherwise = 0): HostTensor {
  const data = roomFor(x, at.length);
  for (let i = 0; i < at.length; i++) data[i] = at[i] < 0 ? otherwise : x.data[at[i]];
  return { ...x, shape, data };
}

/** x with its axes in this order. */
export function transposed<T extends HostTensor | HostText>(x: T, order: readonly number[]): T {
  const strides = stridesOf(x.shape);
  const shape = order.map((axis) => x.shape[axis]);
  const at = places(
    shape,
    order.map((axis) => strides[axis]),
  );
  return { ...x, ...(x.kind === 'text' ? { shape, data: Array.from(at, (i) => x.data[i]) } : taken(x, shape, at)) };
}

/**
 * x with other places along each axis: element [i, j, …] is taken from [place(0, i), place(1, j), …]. A place below 0 stands for
 * `otherwise`.
 */
export function chosen(x: HostTensor, to: number[], place: (axis: number, i: number) => number, otherwise = 0): HostTensor {
  const shape = bounded(to);
  if (sizeOf(shape) === 0) return taken(x, shape, []);
  const strides = stridesOf(x.shape);
  let at = Int32Array.of(0);
  shape.forEach((extent, axis) => {
    const next = new Int32Array(at.length * extent);
    const own = Int32Array.from({ length: extent }, (_, i) => place(axis, i));
    for (let i = 0, k = 0; i < at.length; i++) for (let j = 0; j < extent; j++) next[k++] = at[i] < 0 || own[j] < 0 ? -1 : at[i] + own[j] * strides[axis];
    at = next;
  });
  return taken(x, shape, at, otherwise);
}

/** Moves texts as `host` moves numbers: it is given their places. Null if none of the inputs is text, or one is on the GPU still. */
export const movedTexts =
  (host: NonNullable<Operator['host']>) =>
  (c: Context): Results | null => {
    if (!c.inputs.some((value) => value && !isDevice(value) && value.kind === 'text') || c.inputs.some((value) => value && isDevice(value))) return null;
    const texts = ['']; // what has no place is empty
    const inputs = c.inputs.map((value, i): HostTensor | null => {
      if (!value || isDevice(value) || value.kind !== 'text') return c.numbers(i);
      const from = texts.length;
      for (const text of value.data) texts.push(text);
      return { kind: 'int', type: 'string', shape: value.shape, data: value.data.map((_, k) => from + k) };
    });
    const made = host({ node: c.node, opset: c.opset, inputs });
    const listed = (Array.isArray(made) ? made : [made]) as readonly (HostTensor | null)[];
    return listed.map((value) => value && { kind: 'text', shape: value.shape, data: Array.from(value.data, (place) => texts[place]) });
  };

/** Throws a GlimpseError unless all are of one type, which it returns. */
export function oneType(inputs: readonly HostTensor[]): ElementType {
  const type = typeOf(inputs[0]);
  const odd = inputs.find((each) => typeOf(each) !== type);
  return odd ? fail(`${type.name} and ${typeOf(odd).name} differ in type`) : type;
}

/** f of elements at the same place, after broadcasting. It returns plain numbers: the caller says of which type. */
export function mapped(inputs: readonly HostTensor[], f: (...values: number[]) => number, out = broadcastOf(inputs)): { shape: number[]; data: Float64Array } {
  bounded(out);
  const at = inputs.map((each) => places(out, broadcastStrides(each.shape, out)));
  const data = new Float64Array(sizeOf(out));
  if (inputs.length === 1) for (let i = 0; i < data.length; i++) data[i] = f(inputs[0].data[at[0][i]]);
  else if (inputs.length === 2) for (let i = 0; i < data.length; i++) data[i] = f(inputs[0].data[at[0][i]], inputs[1].data[at[1][i]]);
  else for (let i = 0; i < data.length; i++) data[i] = f(...inputs.map((each, k) => each.data[at[k][i]]));
  return { shape: out, data };
}

/** The shape that tensors broadcast to. */
export const broadcastOf = (inputs: readonly { shape: Shape }[]): number[] =>
  inputs.reduce((out, { shape }) => broadcastShapes(out, shape, 'the inputs'), [] as number[]);

/**
 * Whole numbers as a type holds them: they wrap round, and what is behind a point is dropped. Throws a GlimpseError for what is no
 * number, and where 64 bits would hold more than a double can.
 */
export function fitted(type: ElementType, data: ArrayLike<number>): number[] {
  return Array.from(data, (value) => {
    if (!Number.isFinite(value)) fail(`${value} is no ${type.name}`);
    return wrapped(type, Math.trunc(value) + 0) ?? fail(`${value}, which ${type.name} holds beyond 2^53 only`);
  });
}

/** Refuses whole numbers that a double cannot tell apart. */
export function exact(inputs: readonly (HostTensor | null)[]): void {
  for (const each of inputs)
    if (each?.kind === 'int' && typeOf(each).bytes === 8)
      for (let i = 0; i < each.data.length; i++) if (Math.abs(each.data[i]) >= EXACT) fail('arithmetic with whole numbers beyond 2^53 is not supported');
}
