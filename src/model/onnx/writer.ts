/**
 * Writes ONNX models: the protobuf wire format of wire.ts from the other side. A message is a list of byte arrays that are never
 * joined. So weights are not copied on their way to a file.
 */

/** A message, or part of one: its bytes in order. */
export type Chunks = readonly Uint8Array[];

/** A protobuf message is no longer. */
export const MAX_MESSAGE = 2 ** 31 - 1;

const utf8 = new TextEncoder();

export const lengthOf = (chunks: Chunks): number => chunks.reduce((sum, { length }) => sum + length, 0);

/** Negative numbers take ten bytes, as 64-bit numbers in two's complement. */
export function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

/** A field: a whole number, a text, or bytes, which may be a message. */
export function field(number: number, body: number | string | Uint8Array | Chunks): Chunks {
  if (typeof body === 'number') return [varint(number * 8), varint(body)];
  const chunks = typeof body === 'string' ? [utf8.encode(body)] : body instanceof Uint8Array ? [body] : body;
  return [varint(number * 8 + 2), varint(lengthOf(chunks)), ...chunks];
}

function floatField(number: number, value: number): Chunks {
  return [varint(number * 8 + 5), new Uint8Array(Float32Array.of(value).buffer)]; // WebGPU runs on little-endian machines only
}

const fields = (number: number, bodies: readonly (number | string | Uint8Array | Chunks)[]): Chunks => bodies.flatMap((body) => field(number, body));

/** Element types by their numbers in a TensorProto. */
export const ELEMENT = { float: 1, int64: 7, bool: 9, double: 11 } as const;
export type ElementName = keyof typeof ELEMENT;

/** A tensor of any element type, by the type's number, from its bytes in the order of ONNX. */
export function tensorMessage(name: string, type: number, shape: readonly number[], values: ArrayBufferView): Chunks {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return [...fields(1, shape), ...field(2, type), ...field(8, name), ...field(9, bytes)];
}

/** What an attribute may hold. A number is an int; a list of numbers are ints. */
export type Attribute = number | readonly number[] | string | { float: number } | { floats: readonly number[] } | { tensor: Chunks } | { graph: Chunks };
export type Attributes = Readonly<Record<string, Attribute>>;

function attributeMessage(name: string, value: Attribute): Chunks {
  const named = (type: number, body: Chunks): Chunks => [...field(1, name), ...body, ...field(20, type)];
  if (typeof value === 'number') return named(2, field(3, value));
  if (typeof value === 'string') return named(3, field(4, value));
  if ('float' in value) return named(1, floatField(2, value.float));
  if ('floats' in value)
    return named(
      6,
      value.floats.flatMap((each) => floatField(7, each)),
    );
  if ('tensor' in value) return named(4, field(5, value.tensor));
  if ('graph' in value) return named(5, field(6, value.graph));
  return named(7, fields(8, value));
}

/** A node. An input that is left out is ''. */
export function nodeMessage(op: string, inputs: readonly string[], outputs: readonly string[], attributes: Attributes = {}): Chunks {
  return [
    ...fields(1, inputs),
    ...fields(2, outputs),
    ...field(3, `${op} of ${outputs[0]}`),
    ...field(4, op),
    ...Object.entries(attributes).flatMap(([name, value]) => field(5, attributeMessage(name, value))),
  ];
}

/** An extent: a number, or the name of one that a run decides. */
export type Extent = number | string;

/** A declared value. Without a shape, only its element type is declared. */
export interface ValueInfo {
  name: string;
  type: number;
  shape?: readonly Extent[];
  /** What it is, for readers. */
  doc?: string;
}

export function valueMessage({ name, type, shape, doc }: ValueInfo): Chunks {
  const extents = shape?.flatMap((extent) => field(1, typeof extent === 'number' ? field(1, extent) : field(2, extent)));
  return [...field(1, name), ...field(2, field(1, [...field(1, type), ...(extents ? field(2, extents) : [])])), ...(doc === undefined ? [] : field(3, doc))];
}

export interface GraphParts {
  name: string;
  nodes: readonly Chunks[];
  initializers: readonly Chunks[];
  inputs: readonly ValueInfo[];
  outputs: readonly ValueInfo[];
}

export function graphMessage({ name, nodes, initializers, inputs, outputs }: GraphParts): Chunks {
  return [
    ...fields(1, nodes),
    ...field(2, name),
    ...fields(5, initializers),
    ...fields(11, inputs.map(valueMessage)),
    ...fields(12, outputs.map(valueMessage)),
  ];
}

export interface ModelParts {
  graph: Chunks;
  irVersion: number;
  opset: number;
  producer: { name: string; version: string };
  /** What the model is, for readers. */
  doc: string;
}

export function modelMessage({ graph, irVersion, opset, producer, doc }: ModelParts): Chunks {
  return [
    ...field(1, irVersion),
    ...field(2, producer.name),
    ...field(3, producer.version),
    ...field(6, doc),
    ...field(7, graph),
    ...field(8, [...field(1, ''), ...field(2, opset)]),
  ];
}
