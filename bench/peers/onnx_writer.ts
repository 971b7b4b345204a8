/** Writes small ONNX files for peers and tests, with what the exporter writes with; and tensors in forms that the exporter does not use. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  type Attributes,
  type Chunks,
  nodeMessage,
  tensorMessage,
  valueMessage,
  field as wireField,
  varint as wireVarint,
} from '../../src/model/onnx/writer.ts';

export type { Attributes } from '../../src/model/onnx/writer.ts';

export const varint = (value: number): Buffer => Buffer.from(wireVarint(value));

export const field = (number: number, body: Uint8Array | string | number): Buffer => Buffer.concat(wireField(number, body));

export function floatTensor(name: string, shape: number[], values: ArrayLike<number>): Buffer {
  return rawTensor(name, 1, shape, Float32Array.from(values));
}

export function intTensor(name: string, shape: number[], values: number[]): Buffer {
  return Buffer.concat([...shape.map((extent) => field(1, extent)), field(2, 7), ...values.map((value) => field(7, value)), field(8, name)]);
}

/** A tensor of any element type, by the type's number, from its bytes. */
export function rawTensor(name: string, type: number, shape: number[], values: ArrayBufferView): Buffer {
  return Buffer.concat(tensorMessage(name, type, shape, values));
}

/** A float tensor whose values lie in another file, from a byte on. */
export function externalTensor(name: string, shape: number[], location: string, offset = 0): Buffer {
  const entry = (key: string, value: string) => field(13, Buffer.concat([field(1, key), field(2, value)]));
  return Buffer.concat([
    ...[...shape.map((extent) => field(1, extent)), field(2, 1), field(8, name)],
    ...[entry('location', location), entry('offset', String(offset)), field(14, 1)],
  ]);
}

export function node(op: string, inputs: string[], outputs: string[], attributes: Attributes = {}): Buffer {
  return Buffer.concat(nodeMessage(op, inputs, outputs, attributes));
}

/** A Constant node that holds a tensor. */
export function constantNode(output: string, tensor: Buffer): Buffer {
  return node('Constant', [], [output], { value: { tensor: [tensor] as Chunks } });
}

/** Without a shape only the element type is declared, float if not said. An extent below 0 is open. */
function valueInfo(name: string, shape: number[] | null, type = 1): Buffer {
  return Buffer.concat(valueMessage({ name, type, shape: shape?.map((extent) => (extent < 0 ? 'N' : extent)) }));
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
