/** The ONNX messages that inference needs, as plain objects. Tensor data stays in the file until `load` reads it. */
import type { ByteSource } from '../../data/bytes.ts';
import { FileError } from '../../errors.ts';
import { ByteFile, type Field, Message } from './wire.ts';

/** A tensor on the host: float32 values, or whole numbers (shapes, axes). */
export interface HostTensor {
  kind: 'float' | 'int';
  shape: number[];
  data: Float32Array | number[];
}

export interface OnnxTensor {
  name: string;
  shape: number[];
  load(): HostTensor;
}

export type AttributeValue = number | string | number[] | OnnxTensor;

export interface OnnxNode {
  op: string;
  name: string;
  inputs: string[];
  outputs: string[];
  attributes: Map<string, AttributeValue>;
}

export interface OnnxGraph {
  path: string;
  opset: number;
  nodes: OnnxNode[];
  initializers: Map<string, OnnxTensor>;
  /** Graph inputs that are not initializers. An extent of −1 is open. */
  inputs: { name: string; shape: number[] }[];
  outputs: string[];
}

const MAX_ELEMENTS = 1 << 29;
const TYPES: Record<number, { name: string; bytes: number }> = {
  1: { name: 'float', bytes: 4 },
  2: { name: 'uint8', bytes: 1 },
  3: { name: 'int8', bytes: 1 },
  6: { name: 'int32', bytes: 4 },
  7: { name: 'int64', bytes: 8 },
  9: { name: 'bool', bytes: 1 },
  10: { name: 'float16', bytes: 2 },
  11: { name: 'double', bytes: 8 },
};

function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function readRaw(type: number, bytes: Uint8Array<ArrayBuffer>, count: number): Float32Array | number[] {
  const view = new DataView(bytes.buffer);
  switch (type) {
    case 1:
      return new Float32Array(bytes.buffer, 0, count); // WebGPU runs on little-endian machines only
    case 10:
      return Float32Array.from({ length: count }, (_, i) => halfToFloat(view.getUint16(2 * i, true)));
    case 11:
      return Float32Array.from({ length: count }, (_, i) => view.getFloat64(8 * i, true));
    case 6:
      return Array.from({ length: count }, (_, i) => view.getInt32(4 * i, true));
    case 7:
      return Array.from({ length: count }, (_, i) => {
        const value = view.getBigInt64(8 * i, true);
        return value > BigInt(Number.MAX_SAFE_INTEGER)
          ? Number.MAX_SAFE_INTEGER
          : value < BigInt(Number.MIN_SAFE_INTEGER)
            ? Number.MIN_SAFE_INTEGER
            : Number(value);
      });
    case 3:
      return Array.from({ length: count }, (_, i) => view.getInt8(i));
    default:
      return Array.from(bytes.subarray(0, count));
  }
}

function externalData(message: Message, entries: Map<string, string>): { location: string; offset: number; length: number | null } {
  const whole = (key: string): number | null => {
    const text = entries.get(key);
    if (text === undefined) return null;
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < 0) message.file.fail(message.start, `external data has ${key} "${text}"`);
    return value;
  };
  return { location: entries.get('location') ?? '', offset: whole('offset') ?? 0, length: whole('length') };
}

export function parseTensor(message: Message): OnnxTensor {
  let name = '';
  let type = 0;
  let location = 0;
  let raw: Field | null = null;
  const shape: number[] = [];
  const floatRuns: Field[] = [];
  const intRuns: Field[] = [];
  const doubleRuns: Field[] = [];
  const external = new Map<string, string>();
  for (const field of message.fields()) {
    if (field.number === 1) {
      for (const extent of message.numbers(field)) shape.push(extent);
      if (shape.length > 8) message.file.fail(field.start, 'a tensor of more than 8 axes');
    } else if (field.number === 2) type = field.value;
    else if (field.number === 4) floatRuns.push(field);
    else if (field.number === 5 || field.number === 7) intRuns.push(field);
    else if (field.number === 8) name = message.text(field);
    else if (field.number === 9) raw = field;
    else if (field.number === 10) doubleRuns.push(field);
    else if (field.number === 13) {
      const entry = message.child(field);
      let key = '';
      let value = '';
      for (const part of entry.fields()) {
        if (part.number === 1) key = entry.text(part);
        else if (part.number === 2) value = entry.text(part);
      }
      external.set(key, value);
    } else if (field.number === 14) location = field.value;
  }
  const known = TYPES[type];
  if (!known) message.file.fail(message.start, `tensor "${name}" has element type ${type}, which is not supported`);
  let count = 1;
  for (const extent of shape) {
    if (!(extent >= 0)) message.file.fail(message.start, `tensor "${name}" has an extent of ${extent}`);
    count *= extent;
    if (count > MAX_ELEMENTS) message.file.fail(message.start, `tensor "${name}" [${shape}] has more than ${MAX_ELEMENTS} elements`);
  }
  const kind = type === 1 || type === 10 || type === 11 ? 'float' : 'int';
  return {
    name,
    shape,
    load: () => {
      const expected = count * known.bytes;
      if (location === 1) {
        const source = externalData(message, external);
        if (source.length !== null && source.length !== expected)
          message.file.fail(message.start, `tensor "${name}" needs ${expected} bytes, its external data claims ${source.length}`);
        const file = new ByteFile(message.file.source.beside(source.location));
        try {
          return { kind, shape, data: readRaw(type, file.read(source.offset, expected), count) };
        } finally {
          file.close();
        }
      }
      if (raw) {
        if (raw.end - raw.start !== expected)
          message.file.fail(raw.start, `tensor "${name}" [${shape}] of ${known.name} needs ${expected} bytes, it has ${raw.end - raw.start}`);
        return { kind, shape, data: readRaw(type, message.file.read(raw.start, expected), count) };
      }
      const data: number[] = [];
      for (const run of floatRuns) for (const value of message.floats(run)) data.push(value);
      for (const run of doubleRuns) {
        const bytes = message.file.view(run.start, run.end - run.start);
        for (let i = 0; i + 8 <= bytes.byteLength; i += 8) data.push(bytes.getFloat64(i, true));
      }
      for (const run of intRuns) for (const value of message.numbers(run)) data.push(type === 10 ? halfToFloat(value) : value);
      if (data.length !== count) message.file.fail(message.start, `tensor "${name}" [${shape}] needs ${count} values, it has ${data.length}`);
      return { kind, shape, data: kind === 'float' ? Float32Array.from(data) : data };
    },
  };
}

function parseAttribute(message: Message): [string, AttributeValue] {
  let name = '';
  let value: AttributeValue | null = null;
  const list: number[] = [];
  let isList = false;
  for (const field of message.fields()) {
    if (field.number === 1) name = message.text(field);
    else if (field.number === 2) value = message.float(field);
    else if (field.number === 3) value = field.value;
    else if (field.number === 4) value = message.text(field);
    else if (field.number === 5) value = parseTensor(message.child(field));
    else if (field.number === 7) {
      for (const value of message.floats(field)) list.push(value);
      isList = true;
    } else if (field.number === 8) {
      for (const value of message.numbers(field)) list.push(value);
      isList = true;
    } else if (field.number === 20 && (field.value === 6 || field.value === 7)) isList = true;
  }
  return [name, isList ? list : (value ?? 0)];
}

function parseNode(message: Message): OnnxNode {
  const node: OnnxNode = { op: '', name: '', inputs: [], outputs: [], attributes: new Map() };
  for (const field of message.fields()) {
    if (field.number === 1) node.inputs.push(message.text(field));
    else if (field.number === 2) node.outputs.push(message.text(field));
    else if (field.number === 3) node.name = message.text(field);
    else if (field.number === 4) node.op = message.text(field);
    else if (field.number === 5) node.attributes.set(...parseAttribute(message.child(field)));
    else if (field.number === 7) {
      const domain = message.text(field);
      if (domain !== '' && domain !== 'ai.onnx') node.op = `${domain}.${node.op}`;
    }
  }
  node.name ||= node.outputs[0] ?? '';
  return node;
}

function parseValueInfo(message: Message): { name: string; shape: number[] } {
  const info = { name: '', shape: [] as number[] };
  for (const field of message.fields()) {
    if (field.number === 1) info.name = message.text(field);
    if (field.number !== 2) continue;
    const type = message.child(field);
    for (const tensorField of type.fields()) {
      if (tensorField.number !== 1) continue;
      const tensor = type.child(tensorField);
      for (const shapeField of tensor.fields()) {
        if (shapeField.number !== 2) continue;
        const shape = tensor.child(shapeField);
        for (const dimField of shape.fields()) {
          if (dimField.number !== 1) continue;
          let extent = -1;
          for (const part of shape.child(dimField).fields()) if (part.number === 1) extent = part.value;
          info.shape.push(extent);
        }
      }
    }
  }
  return info;
}

/** Reads the structure of a model. The source stays open for its tensors. Call `close` after they are loaded. */
export function readOnnx(source: ByteSource): { graph: OnnxGraph; close(): void } {
  const file = new ByteFile(source);
  const { path } = file;
  try {
    const model = new Message(file, 0, file.size);
    const graph: OnnxGraph = { path, opset: 0, nodes: [], initializers: new Map(), inputs: [], outputs: [] };
    let found = false;
    for (const field of model.fields()) {
      if (field.number === 8 && field.wire === 2) {
        const opset = model.child(field);
        let domain = '';
        let version = 0;
        for (const part of opset.fields()) {
          if (part.number === 1) domain = opset.text(part);
          else if (part.number === 2) version = part.value;
        }
        if (domain === '' || domain === 'ai.onnx') graph.opset = version;
      }
      if (field.number !== 7) continue;
      found = true;
      const message = model.child(field);
      for (const part of message.fields()) {
        if (part.number === 1) graph.nodes.push(parseNode(message.child(part)));
        else if (part.number === 5) {
          const tensor = parseTensor(message.child(part));
          graph.initializers.set(tensor.name, tensor);
        } else if (part.number === 11) graph.inputs.push(parseValueInfo(message.child(part)));
        else if (part.number === 12) graph.outputs.push(parseValueInfo(message.child(part)).name);
      }
    }
    if (!found || graph.nodes.length === 0) throw new FileError(path, 'holds no ONNX graph');
    graph.inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
    return { graph, close: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Reads a file with one tensor, as in ONNX test data (`input_0.pb`). */
export function readTensorFile(source: ByteSource): HostTensor {
  const file = new ByteFile(source);
  try {
    return parseTensor(new Message(file, 0, file.size)).load();
  } finally {
    file.close();
  }
}
