/** The ONNX messages that inference needs, as plain objects. Tensor data stays in the file until `load` reads it. */
import type { ByteSource } from '../../data/bytes.ts';
import { FileError } from '../../errors.ts';
import { sizeOf } from '../../tensor/shape.ts';
import { claimOf, ELEMENT_TYPES, type ElementType, EXACT, fromBits, fromRaw, MAX_ELEMENTS } from './elements.ts';
import type { HostTensor, HostText, Numbers, Optional, Sequence, Value } from './values.ts';
import { ByteFile, type Field, Message, shown } from './wire.ts';

/** Thrown for an operator or attribute that this importer does not know. `glimpse onnx check` counts these apart from failures. */
export class UnsupportedOnnx extends FileError {}

/** A tensor of the file. */
export interface OnnxTensor {
  name: string;
  kind: 'float' | 'int' | 'text';
  shape: number[];
  /** The element type's name. */
  type?: string;
  /** Its numbers. Throws a FileError for texts. */
  load(): HostTensor;
  /** Its texts, if it holds such. */
  texts?(): HostText;
}

export type AttributeValue = number | string | number[] | string[] | OnnxTensor | OnnxGraph;
/** What an attribute holds, as its message says. */
export type AttributeKind = 'float' | 'int' | 'string' | 'tensor' | 'graph' | 'floats' | 'ints' | 'strings' | 'other';

export interface OnnxNode {
  op: string;
  name: string;
  inputs: string[];
  outputs: string[];
  attributes: Map<string, AttributeValue>;
  kinds: Map<string, AttributeKind>;
  /** The version of the operators that it means. */
  opset: number;
  /** Its pictures are [N, H, W, C], in the place of [N, C, H, W]. Only a pass says so. */
  isChannelsLast?: boolean;
  /** Attributes that take the value of an attribute of the function that the node stands in, by name. */
  references?: Map<string, string>;
}

/** What a run gives to a graph. An extent of −1 is open; without a shape, [], all of them are. */
export interface OnnxInput {
  name: string;
  shape: number[];
  kind: 'float' | 'int' | 'text' | 'sequence' | 'optional';
  /** The element type's name. */
  type?: string;
  /** What the file calls each extent that it leaves open; null for others. */
  open: (string | null)[];
}

/** A function of the model: an operator that other operators define. */
export interface OnnxFunction {
  /** The operator's name, with its domain before it if that is not the standard's. */
  op: string;
  inputs: string[];
  outputs: string[];
  /** Values of attributes where a node does not say. */
  defaults: Map<string, { value: AttributeValue; kind: AttributeKind }>;
  nodes: OnnxNode[];
}

/** The order of axes: pictures as N, H, W, C, not N, C, H, W; weights of convolutions as H, W, I, O, not O, I, H, W. */
export type AxisOrder = 'nhwc' | 'hwio';

export interface OnnxGraph {
  path: string;
  /** Bytes of the file. */
  size: number;
  opset: number;
  nodes: OnnxNode[];
  initializers: Map<string, OnnxTensor>;
  inputs: OnnxInput[];
  /** Inputs that have an initializer: a run may replace its values, if they were named when the model was loaded. */
  defaults: OnnxInput[];
  outputs: string[];
  /** What the file says of the outputs, in their order. */
  declared: OnnxInput[];
  /** Every name that is taken. */
  names: Set<string>;
  /** Values whose axes lie in another order than the file says, since a pass found it better. */
  orders: Map<string, AxisOrder>;
  /** Values that a pass made of others, which differ in the order of their axes only. */
  turned: Map<string, string>;
  functions: Map<string, OnnxFunction>;
}

/** Tensors may share the bytes of another file, as tied weights do; on average no byte is claimed more often. */
const MAX_SHARING = 4;
/** Bounds on what a file may hold. No known model comes near them. */
const MAX_WHOLE_NUMBERS = 1 << 22;
const MAX_NODES = 1 << 17;
const MAX_NAMES = 1 << 20;
const MAX_LIST = 1 << 20;
export const MAX_AXES = 8;
/** A protobuf message is no longer. */
const MAX_FILE = 2 ** 31;

interface External {
  location: string;
  offset: number;
  length: number | null;
}

function externalData(message: Message, entries: ReadonlyMap<string, string>): External {
  const whole = (key: string): number | null => {
    const text = entries.get(key);
    if (text === undefined) return null;
    const value = Number(text);
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < 0) message.file.fail(message.start, `external data has ${key} "${shown(text)}"`);
    return value;
  };
  return { location: entries.get('location') ?? '', offset: whole('offset') ?? 0, length: whole('length') };
}

/** The elements that a shape claims. Refuses an extent below 0, and sizes that no memory holds. */
function countOf(message: Message, what: string, shape: readonly number[]): number {
  const odd = shape.find((extent) => !(extent >= 0));
  if (odd !== undefined) message.file.fail(message.start, `${what} has an extent of ${odd}`);
  if (!(claimOf(shape) <= MAX_ELEMENTS))
    message.file.fail(message.start, `${what} [${shape}] has more than ${MAX_ELEMENTS} elements${shape.includes(0) ? ', its extents of 0 aside' : ''}`);
  return sizeOf(shape);
}

function extentsOf(message: Message, field: Field, shape: number[]): void {
  for (const extent of message.numbers(field)) shape.push(extent);
  if (shape.length > MAX_AXES) message.file.fail(field.start, `a tensor of more than ${MAX_AXES} axes`);
}

/** The elements that lie in fields of their own, not in raw bytes. Their number is known before memory is taken for them. */
function elementsOf(message: Message, what: string, type: ElementType, runs: readonly Field[], count: number): Float32Array | number[] {
  const wrong = (found: number): never => message.file.fail(message.start, `${what} needs ${count} values, it has ${found}`);
  const held = runs.reduce((sum, { start, end }) => sum + end - start, 0);
  const width = type.name === 'float' ? 4 : type.name === 'double' ? 8 : 0;
  if (width > 0 ? held !== count * width : held < count) wrong(width > 0 ? Math.floor(held / width) : held);
  if (type.name === 'float') {
    const data = new Float32Array(count);
    let at = 0;
    for (const run of runs) {
      const part = message.floats(run);
      data.set(part, at);
      at += part.length;
    }
    return data;
  }
  const data: number[] = [];
  for (const run of runs) {
    if (type.name === 'double') {
      const bytes = message.file.view(run.start, run.end - run.start);
      for (let i = 0; i + 8 <= bytes.byteLength; i += 8) data.push(bytes.getFloat64(i, true));
    } else for (const value of message.numbers(run)) data.push(type.name === 'uint64' && value < 0 ? EXACT : value);
  }
  if (data.length !== count) wrong(data.length);
  const [low, high] = type.range ?? (type.kind === 'float' && width === 0 ? [0, 0xffff] : [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
  const outside = data.find((value) => value < low || value > high);
  if (outside !== undefined) message.file.fail(message.start, `${what} holds ${outside}, which is no ${type.name}`);
  return type.kind === 'float' && width === 0 ? fromBits(type.name, Uint16Array.from(data)) : data;
}

/** The number of texts in a TensorProto. */
const STRING = 8;

function textTensor(message: Message, name: string, shape: number[], count: number, fields: readonly Field[]): OnnxTensor {
  const what = `tensor "${shown(name)}"`;
  if (fields.length !== count) message.file.fail(message.start, `${what} [${shape}] needs ${count} texts, it has ${fields.length}`);
  if (count > MAX_NAMES) message.file.fail(message.start, `${what} has more than ${MAX_NAMES} texts`);
  const data = fields.map((field) => message.text(field));
  return {
    ...{ name, kind: 'text', type: 'string', shape },
    load: () => message.file.fail(message.start, `${what} holds texts, numbers are expected`),
    texts: () => ({ kind: 'text', shape, data }),
  };
}

export function parseTensor(message: Message): OnnxTensor {
  const { file } = message;
  let name = '';
  let number = 0;
  let location = 0;
  let raw: Field | null = null;
  const shape: number[] = [];
  const runs = new Map<number, Field[]>();
  const texts: Field[] = [];
  const entries = new Map<string, string>();
  for (const field of message.fields()) {
    if (field.number === 1) extentsOf(message, field, shape);
    else if (field.number === 2) number = message.whole(field);
    else if (field.number === 3) file.fail(field.start, 'a tensor that lies in segments, which are not supported');
    else if (field.number === 6) texts.push(field);
    else if ([4, 5, 7, 10, 11].includes(field.number)) {
      const list = runs.get(field.number);
      if (!list) runs.set(field.number, [field]);
      else if (list.push(field) > MAX_LIST) file.fail(field.start, `a tensor of more than ${MAX_LIST} values that are written one by one, not packed`);
    } else if (field.number === 8) name = message.text(field);
    else if (field.number === 9) raw = field;
    else if (field.number === 13) {
      const entry = message.child(field);
      let key = '';
      let value = '';
      for (const part of entry.fields()) {
        if (part.number === 1) key = entry.text(part);
        else if (part.number === 2) value = entry.text(part);
      }
      entries.set(key, value);
    } else if (field.number === 14) location = message.whole(field);
  }
  const what = `tensor "${shown(name)}"`;
  const count = countOf(message, what, shape);
  if (number === STRING) return textTensor(message, name, shape, count, texts);
  const type = ELEMENT_TYPES[number];
  if (!type) throw new UnsupportedOnnx(file.path, `at byte ${message.start}: ${what} has element type ${number}, which is not supported`);
  const { kind } = type;
  if (kind === 'int' && type.bytes > 1 && count > MAX_WHOLE_NUMBERS)
    throw new UnsupportedOnnx(file.path, `${what} [${shape}] has more than ${MAX_WHOLE_NUMBERS} whole numbers; they are computed on the host`);
  const expected = count * type.bytes;
  const external = location === 1 ? externalData(message, entries) : null;
  if (external && external.length !== null && external.length !== expected)
    file.fail(message.start, `${what} needs ${expected} bytes, its external data claims ${external.length}`);
  const rawBytes = raw as Field | null; // the loop above set it; the compiler does not see that
  if (rawBytes && rawBytes.end - rawBytes.start !== expected)
    file.fail(rawBytes.start, `${what} [${shape}] of ${type.name} needs ${expected} bytes, it has ${rawBytes.end - rawBytes.start}`);
  const fields = [...runs.keys()];
  if (Number(external !== null) + Number(rawBytes !== null) + fields.length > 1) file.fail(message.start, `${what} holds its values more than once`);
  if (fields.some((each) => each !== type.field)) file.fail(message.start, `${what} of ${type.name} holds values of another type`);
  const read = (): Numbers => {
    if (rawBytes) return fromRaw(type, file.read(rawBytes.start, expected), count);
    if (!external) return elementsOf(message, `${what} [${shape}]`, type, runs.get(type.field) ?? [], count);
    const other = new ByteFile(file.source.beside(external.location));
    try {
      const claimed = (file.claimed.get(other.path) ?? 0) + expected;
      file.claimed.set(other.path, claimed);
      if (claimed > MAX_SHARING * other.size)
        file.fail(message.start, `${what} and those before it claim ${claimed} bytes of "${shown(external.location)}", which has ${other.size}`);
      return fromRaw(type, other.read(external.offset, expected), count);
    } finally {
      other.close();
    }
  };
  return {
    ...{ name, kind, shape, type: type.name },
    load: () => {
      const data = read();
      return { kind, shape, data: type.name === 'double' ? Float64Array.from(data) : data, type: type.name };
    },
  };
}

/** Most elements that the sparse tensors of a file may have when they are written out: the file does not bound them. */
const MAX_SPARSE = MAX_WHOLE_NUMBERS;

/** A tensor of which the file holds the elements that are not 0. Its indices are places, or one coordinate an axis. */
function parseSparse(message: Message): OnnxTensor {
  let values: OnnxTensor | null = null;
  let indices: OnnxTensor | null = null;
  const shape: number[] = [];
  for (const field of message.fields()) {
    if (field.number === 1) values = parseTensor(message.child(field));
    else if (field.number === 2) indices = parseTensor(message.child(field));
    else if (field.number === 3) extentsOf(message, field, shape);
  }
  if (!values || !indices || values.shape.length !== 1) return message.file.fail(message.start, 'a sparse tensor without values and indices');
  const { name, kind, type } = values;
  if (kind === 'text') return message.file.fail(message.start, 'a sparse tensor of texts');
  const what = `sparse tensor "${shown(name)}"`;
  const count = countOf(message, what, shape);
  const [given, places] = [values, indices];
  const held = given.shape[0];
  const isLinear = places.shape.length === 1;
  if (places.kind !== 'int' || places.shape[0] !== held || !(isLinear || (places.shape.length === 2 && places.shape[1] === shape.length)))
    message.file.fail(message.start, `${what} [${shape}] has ${held} values, but indices [${places.shape}]`);
  return {
    ...{ name, kind, shape, type },
    load: () => {
      const [from, at] = [given.load(), places.load().data];
      const data = kind === 'int' ? new Array<number>(count).fill(0) : type === 'double' ? new Float64Array(count) : new Float32Array(count);
      for (let i = 0; i < held; i++) {
        const coordinates = isLinear ? [] : shape.map((_, axis) => at[i * shape.length + axis]);
        const outside = coordinates.some((value, axis) => !(value >= 0 && value < shape[axis]));
        const place = isLinear ? at[i] : coordinates.reduce((sum, value, axis) => sum * shape[axis] + value, 0);
        if (outside || !(place >= 0 && place < count)) message.file.fail(message.start, `${what} [${shape}] has a value outside`);
        data[place] = from.data[i];
      }
      return { ...from, shape, data };
    },
  };
}

/** The kinds by their number in AttributeProto.type, and the field that holds each. */
const KINDS: Record<number, AttributeKind> = { 1: 'float', 2: 'int', 3: 'string', 4: 'tensor', 5: 'graph', 6: 'floats', 7: 'ints', 8: 'strings' };
const FIELD_KINDS: Record<number, AttributeKind> = { 2: 'float', 3: 'int', 4: 'string', 5: 'tensor', 6: 'graph', 7: 'floats', 8: 'ints', 9: 'strings' };

interface ParsedAttribute {
  name: string;
  value: AttributeValue;
  kind: AttributeKind;
  /** The attribute of the function that gives the value. */
  reference: string;
}

function parseAttribute(message: Message, graph: OnnxGraph): ParsedAttribute {
  let name = '';
  let reference = '';
  let said: AttributeKind | null = null;
  let found: AttributeKind | null = null;
  let value: AttributeValue | null = null;
  const list: number[] = [];
  const texts: string[] = [];
  for (const field of message.fields()) {
    if (field.number === 1) name = message.text(field);
    else if (field.number === 20) said = KINDS[message.whole(field)] ?? 'other';
    else if (field.number === 21) reference = message.text(field);
    else if (field.number === 13)
      continue; // a text for readers
    else {
      const kind = FIELD_KINDS[field.number] ?? 'other';
      if (found && found !== kind) message.file.fail(message.start, `attribute "${shown(name)}" holds values of two kinds`);
      found = kind;
      if (kind === 'float') value = message.float(field);
      else if (kind === 'int') value = message.whole(field);
      else if (kind === 'string') value = message.text(field);
      else if (kind === 'tensor') value = parseTensor(message.child(field));
      else if (kind === 'graph') value = parseSubgraph(message.child(field), graph);
      else if (kind === 'floats') for (const each of message.floats(field)) list.push(each);
      else if (kind === 'ints') for (const each of message.numbers(field)) list.push(each);
      else if (kind === 'strings') texts.push(message.text(field));
      if (Math.max(list.length, texts.length) > MAX_LIST) message.file.fail(message.start, `attribute "${shown(name)}" has more than ${MAX_LIST} values`);
    }
  }
  const kind = said ?? found ?? (reference ? 'other' : null);
  if (!kind || (said && found && said !== found)) return message.file.fail(message.start, `attribute "${shown(name)}" says ${said}, holds ${found}`);
  if ((kind === 'tensor' || kind === 'graph') && value === null && !reference)
    return message.file.fail(message.start, `attribute "${shown(name)}" holds no ${kind}`);
  if (kind === 'strings') return { name, kind, value: texts, reference };
  if (kind === 'ints' || kind === 'floats') return { name, kind, value: list, reference };
  return { name, kind, value: value ?? (kind === 'string' ? '' : 0), reference }; // some writers leave out what is 0
}

function parseNode(message: Message, graph: OnnxGraph): OnnxNode {
  const node: OnnxNode = { op: '', name: '', inputs: [], outputs: [], attributes: new Map(), kinds: new Map(), opset: 0 };
  let domain = '';
  for (const field of message.fields()) {
    if (field.number === 1) node.inputs.push(message.text(field));
    else if (field.number === 2) node.outputs.push(message.text(field));
    else if (field.number === 3) node.name = message.text(field);
    else if (field.number === 4) node.op = message.text(field);
    else if (field.number === 5) {
      const { name, value, kind, reference } = parseAttribute(message.child(field), graph);
      if (node.kinds.has(name)) message.file.fail(field.start, `a node has two attributes "${shown(name)}"`);
      node.attributes.set(name, value);
      node.kinds.set(name, kind);
      if (reference) {
        node.references ??= new Map();
        node.references.set(name, reference);
      }
    } else if (field.number === 7) domain = message.text(field);
  }
  node.name ||= node.outputs[0] ?? '';
  if (node.op === '') message.file.fail(message.start, 'a node without an operator');
  if (domain !== '' && domain !== 'ai.onnx') node.op = `${domain}.${node.op}`;
  return node;
}

interface ValueInfo {
  name: string;
  shape: number[];
  open: (string | null)[];
  /** The number of the element type; 0 where it is no tensor. */
  type: number;
  holds: 'tensor' | 'sequence' | 'optional';
}

/** A declared value. */
function parseValueInfo(message: Message): ValueInfo {
  const info: ValueInfo = { name: '', shape: [], open: [], type: 0, holds: 'tensor' };
  for (const field of message.fields()) {
    if (field.number === 1) info.name = message.text(field);
    if (field.number !== 2) continue;
    const type = message.child(field);
    for (const tensorField of type.fields()) {
      if (tensorField.number === 4) info.holds = 'sequence';
      else if (tensorField.number === 9) info.holds = 'optional';
      if (tensorField.number !== 1) continue;
      const tensor = type.child(tensorField);
      for (const shapeField of tensor.fields()) {
        if (shapeField.number === 1) info.type = tensor.whole(shapeField);
        if (shapeField.number !== 2) continue;
        const shape = tensor.child(shapeField);
        for (const dimField of shape.fields()) {
          if (dimField.number !== 1) continue;
          let extent = -1;
          const dimension = shape.child(dimField);
          let name: string | null = null;
          for (const part of dimension.fields()) {
            if (part.number === 1) extent = Math.max(-1, dimension.whole(part));
            else if (part.number === 2) name = dimension.text(part);
          }
          info.shape.push(extent);
          info.open.push(extent < 0 ? name : null);
          if (info.shape.length > MAX_AXES) message.file.fail(dimField.start, `"${shown(info.name)}" has more than ${MAX_AXES} axes`);
        }
      }
    }
  }
  return info;
}

function parseInput(message: Message): OnnxInput {
  const { name, shape, open, type, holds } = parseValueInfo(message);
  if (holds !== 'tensor') return { name, shape, open, kind: holds };
  if (type === STRING) return { name, shape, open, kind: 'text', type: 'string' };
  const known = ELEMENT_TYPES[type || 1];
  if (!known) throw new UnsupportedOnnx(message.file.path, `input "${shown(name)}" has element type ${type}, which is not supported`);
  return { name, shape, open, kind: known.kind, type: known.name };
}

/** An output says less: its element type may be left out, or be one that is not known. */
function parseOutput(message: Message): OnnxInput {
  const { name, shape, open, type, holds } = parseValueInfo(message);
  const known = ELEMENT_TYPES[type];
  if (holds !== 'tensor' || !known) return { name, shape, open, kind: holds !== 'tensor' ? holds : type === STRING ? 'text' : 'float' };
  return { name, shape, open, kind: known.kind, type: known.name };
}

/** A graph within a node: the body of a loop, a branch. It reads values of the graphs around it by name. */
function parseSubgraph(message: Message, outer: OnnxGraph): OnnxGraph {
  const graph: OnnxGraph = {
    ...{ path: outer.path, size: 0, opset: outer.opset, nodes: [], initializers: new Map(), inputs: [], defaults: [], outputs: [] },
    ...{ declared: [], names: new Set<string>(), functions: outer.functions, orders: new Map(), turned: new Map() },
  };
  parseGraph(message, graph);
  return graph;
}

function parseGraph(message: Message, graph: OnnxGraph): void {
  const { file } = message;
  const inputs: OnnxInput[] = [];
  let names = 0;
  const addInitializer = (tensor: OnnxTensor) => {
    if (tensor.name === '' || graph.initializers.has(tensor.name)) file.fail(message.start, `two initializers are called "${shown(tensor.name)}"`);
    graph.initializers.set(tensor.name, tensor);
  };
  for (const field of message.fields()) {
    if (field.number === 1) {
      const node = parseNode(message.child(field), graph);
      names += node.inputs.length + node.outputs.length;
      graph.nodes.push(node);
    } else if (field.number === 5) addInitializer(parseTensor(message.child(field)));
    else if (field.number === 15) {
      const tensor = parseSparse(message.child(field));
      file.sparse += sizeOf(tensor.shape);
      if (file.sparse > MAX_SPARSE)
        throw new UnsupportedOnnx(file.path, `its sparse tensors have more than ${MAX_SPARSE} elements, "${shown(tensor.name)}" among them`);
      addInitializer(tensor);
    } else if (field.number === 11) inputs.push(parseInput(message.child(field)));
    else if (field.number === 12) {
      const output = parseOutput(message.child(field));
      graph.outputs.push(output.name);
      graph.declared.push(output);
    }
    if (Math.max(graph.nodes.length, graph.initializers.size, inputs.length, graph.outputs.length) > MAX_NODES || names > MAX_NAMES)
      file.fail(field.start, `a graph of more than ${MAX_NODES} nodes, or ${MAX_NAMES} names`);
  }
  graph.inputs = inputs.filter(({ name }) => !graph.initializers.has(name));
  graph.defaults = inputs.filter(({ name }) => graph.initializers.has(name));
}

function parseFunction(message: Message, graph: OnnxGraph): void {
  let [name, domain] = ['', ''];
  let opset = 0;
  const made: OnnxFunction = { op: '', inputs: [], outputs: [], defaults: new Map(), nodes: [] };
  for (const field of message.fields()) {
    if (field.number === 1) name = message.text(field);
    else if (field.number === 4) made.inputs.push(message.text(field));
    else if (field.number === 5) made.outputs.push(message.text(field));
    else if (field.number === 7) made.nodes.push(parseNode(message.child(field), graph));
    else if (field.number === 9) opset = opsetOf(message.child(field)) ?? opset;
    else if (field.number === 10) domain = message.text(field);
    else if (field.number === 11) {
      const { name: attribute, value, kind } = parseAttribute(message.child(field), graph);
      made.defaults.set(attribute, { value, kind });
    }
    if (Math.max(made.nodes.length, made.inputs.length, made.outputs.length) > MAX_NODES)
      message.file.fail(field.start, `a function of more than ${MAX_NODES} nodes`);
  }
  made.op = domain === '' || domain === 'ai.onnx' ? name : `${domain}.${name}`;
  if (graph.functions.has(made.op)) message.file.fail(message.start, `two functions are called "${shown(made.op)}"`);
  for (const node of allNodes(made.nodes)) node.opset = opset;
  graph.functions.set(made.op, made);
}

/** The version that the model asks of the standard's operators; null for another domain. */
function opsetOf(message: Message): number | null {
  let domain = '';
  let version = 0;
  for (const part of message.fields()) {
    if (part.number === 1) domain = message.text(part);
    else if (part.number === 2) version = message.whole(part);
  }
  return domain === '' || domain === 'ai.onnx' ? version : null;
}

/** Every node of a graph, those of the graphs within it too. */
export function* allNodes(nodes: readonly OnnxNode[]): Generator<OnnxNode> {
  for (const node of nodes) {
    yield node;
    for (const value of node.attributes.values()) if (typeof value === 'object' && 'nodes' in value) yield* allNodes(value.nodes);
  }
}

/** Reads the structure of a model. The source stays open for its tensors. Call `close` after they are loaded. */
export function readOnnx(source: ByteSource): { graph: OnnxGraph; close(): void } {
  const file = new ByteFile(source);
  const { path } = file;
  try {
    if (file.size > MAX_FILE) throw new FileError(path, `has ${file.size} bytes; an ONNX file has at most ${MAX_FILE}, larger weights lie beside it`);
    const model = new Message(file, 0, file.size);
    // A model without opsets is as old as ONNX itself.
    const graph: OnnxGraph = {
      ...{ path, size: file.size, opset: 0, nodes: [], initializers: new Map(), inputs: [], defaults: [], outputs: [] },
      ...{ declared: [], names: new Set<string>(), functions: new Map<string, OnnxFunction>(), orders: new Map(), turned: new Map() },
    };
    let found = 0;
    for (const field of model.fields()) {
      if (field.number === 8 && field.wire === 2) {
        const version = opsetOf(model.child(field));
        if (version === null) continue;
        if (graph.opset !== 0 && graph.opset !== version) throw new FileError(path, `names two opsets, ${graph.opset} and ${version}`);
        graph.opset = version;
      } else if (field.number === 7) {
        if (++found > 1) throw new FileError(path, 'holds two graphs');
        parseGraph(model.child(field), graph);
      } else if (field.number === 25) parseFunction(model.child(field), graph);
    }
    if (found === 0 || graph.outputs.length === 0) throw new FileError(path, 'holds no ONNX graph');
    graph.opset ||= 1;
    for (const nodes of [graph.nodes, ...Array.from(graph.functions.values(), (each) => each.nodes)])
      for (const node of allNodes(nodes)) node.opset ||= graph.opset;
    return { graph, close: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** A sequence of a file: tensors, or sequences of such. */
function parseSequence(message: Message): { name: string; value: Sequence } {
  let name = '';
  const elements: Value[] = [];
  for (const field of message.fields()) {
    if (field.number === 1) name = message.text(field);
    else if (field.number === 3) elements.push(tensorValue(message.child(field)));
    else if (field.number === 5) elements.push(parseSequence(message.child(field)).value);
    else if (field.number > 3) throw new UnsupportedOnnx(message.file.path, `at byte ${field.start}: a sequence that holds no tensors`);
    if (elements.length > MAX_LIST) message.file.fail(field.start, `a sequence of more than ${MAX_LIST} values`);
  }
  return { name, value: { kind: 'sequence', elements } };
}

/** An optional value of a file. */
function parseOptional(message: Message): { name: string; value: Optional } {
  let name = '';
  let value: Value | null = null;
  for (const field of message.fields()) {
    if (field.number === 1) name = message.text(field);
    else if (field.number === 3) value = tensorValue(message.child(field));
    else if (field.number === 5) value = parseSequence(message.child(field)).value;
    else if (field.number > 3) throw new UnsupportedOnnx(message.file.path, `at byte ${field.start}: an optional value that holds neither tensor nor sequence`);
  }
  return { name, value: { kind: 'optional', value } };
}

function tensorValue(message: Message): HostTensor | HostText {
  const tensor = parseTensor(message);
  return tensor.texts?.() ?? tensor.load();
}

/** What a file of ONNX test data holds. */
export type FileValue = HostTensor | HostText | Sequence | Optional;

/** Reads a file with one value, as in ONNX test data (`input_0.pb`). The file does not say what it holds: what the model declares does. */
export function readValueFile(source: ByteSource, kind: OnnxInput['kind']): { name: string; value: FileValue } {
  const file = new ByteFile(source);
  try {
    const message = new Message(file, 0, file.size);
    if (kind === 'sequence') return parseSequence(message);
    if (kind === 'optional') return parseOptional(message);
    const tensor = parseTensor(message);
    return { name: tensor.name, value: tensor.texts?.() ?? tensor.load() };
  } finally {
    file.close();
  }
}
