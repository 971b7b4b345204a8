/** Writes small ONNX files by hand, for tests: the wire format from the other side. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}

export function field(number: number, body: Buffer | string | number): Buffer {
  if (typeof body === 'number') return Buffer.concat([varint(number * 8), varint(body)]);
  const bytes = Buffer.from(body as Buffer);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

export function floatTensor(name: string, shape: number[], values: ArrayLike<number>): Buffer {
  return Buffer.concat([...shape.map((extent) => field(1, extent)), field(2, 1), field(8, name), field(9, Buffer.from(Float32Array.from(values).buffer))]);
}

export function intTensor(name: string, shape: number[], values: number[]): Buffer {
  return Buffer.concat([...shape.map((extent) => field(1, extent)), field(2, 7), ...values.map((value) => field(7, value)), field(8, name)]);
}

/** A tensor of any element type, by the type's number, from its bytes. */
export function rawTensor(name: string, type: number, shape: number[], values: ArrayBufferView): Buffer {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return Buffer.concat([...shape.map((extent) => field(1, extent)), field(2, type), field(8, name), field(9, bytes)]);
}

/** A float attribute, as a field of its own. */
function floatBytes(number: number, value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = number * 8 + 5;
  bytes.writeFloatLE(value, 1);
  return bytes;
}

export type Attributes = Record<string, number | number[] | string | { float: number } | { floats: number[] }>;

export function node(op: string, inputs: string[], outputs: string[], attributes: Attributes = {}): Buffer {
  const attribute = ([name, value]: [string, Attributes[string]]): Buffer => {
    if (Array.isArray(value)) return Buffer.concat([field(1, name), ...value.map((v) => field(8, v)), field(20, 7)]);
    if (typeof value === 'number') return Buffer.concat([field(1, name), field(3, value), field(20, 2)]);
    if (typeof value === 'string') return Buffer.concat([field(1, name), field(4, value), field(20, 3)]);
    if ('floats' in value) return Buffer.concat([field(1, name), ...value.floats.map((v) => floatBytes(7, v)), field(20, 6)]);
    return Buffer.concat([field(1, name), floatBytes(2, value.float), field(20, 1)]);
  };
  return Buffer.concat([
    ...inputs.map((i) => field(1, i)),
    ...outputs.map((o) => field(2, o)),
    field(3, `${op} of ${outputs[0]}`),
    field(4, op),
    ...Object.entries(attributes).map((a) => field(5, attribute(a))),
  ]);
}

/** A Constant node that holds a tensor. */
export function constantNode(output: string, tensor: Buffer): Buffer {
  return Buffer.concat([node('Constant', [], [output]), field(5, Buffer.concat([field(1, 'value'), field(5, tensor), field(20, 4)]))]);
}

/** Without a shape only the element type is declared, float if not said. */
function valueInfo(name: string, shape: number[] | null, type = 1): Buffer {
  if (!shape) return Buffer.concat([field(1, name), field(2, field(1, field(1, type)))]);
  const dims = shape.map((extent) => field(1, extent < 0 ? field(2, 'N') : field(1, extent)));
  return Buffer.concat([field(1, name), field(2, field(1, Buffer.concat([field(1, type), field(2, Buffer.concat(dims))])))]);
}

export interface OnnxParts {
  nodes: Buffer[];
  initializers?: Buffer[];
  /** Sparse initializers: values, indices and extents each. */
  sparse?: Buffer[];
  /** `type`: the number of the element type, 1 (float) if not said. */
  inputs: { name: string; shape: number[]; type?: number }[];
  outputs: string[];
  /** The numbers of their element types, 1 (float) if not said. */
  outputTypes?: number[];
  opset?: number;
}

export function onnxBytes({ nodes, initializers = [], sparse = [], inputs, outputs, outputTypes = [], opset = 13 }: OnnxParts): Buffer {
  const graph = Buffer.concat([
    ...nodes.map((n) => field(1, n)),
    field(2, 'test'),
    ...initializers.map((i) => field(5, i)),
    ...sparse.map((i) => field(15, i)),
    ...inputs.map(({ name, shape, type }) => field(11, valueInfo(name, shape, type))),
    ...outputs.map((name, i) => field(12, valueInfo(name, null, outputTypes[i]))),
  ]);
  return Buffer.concat([field(1, 8), field(8, Buffer.concat([field(1, ''), field(2, opset)])), field(7, graph)]);
}

export function writeOnnx(path: string, parts: OnnxParts): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, onnxBytes(parts));
}
