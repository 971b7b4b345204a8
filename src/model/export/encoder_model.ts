/**
 * The encoder as an ONNX model that ends with its feature map, in the layout that the decoder takes. It is the encoder's own file: its
 * bytes are copied, except what comes after the map. Trained weights take the place of the file's.
 *
 *   x [pictures, 3, side, side] → … → feature map [pictures, F, height, width] → features [pictures, regions, F]
 */
import type { ByteSource } from '../../data/bytes.ts';
import type { Layout } from '../../data/feature_layout.ts';
import { FileError } from '../../errors.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import { ELEMENT_TYPES } from '../onnx/elements.ts';
import { ByteFile, type Field, Message, shown } from '../onnx/wire.ts';
import { type Chunks, ELEMENT, field, lengthOf, MAX_MESSAGE, nodeMessage, tensorMessage, valueMessage } from '../onnx/writer.ts';

export interface EncoderExport {
  /** The value of the file that is the feature map. */
  featureMap: string;
  /** Order of its axes, and the tokens before those of the regions. */
  layout: Layout;
  dropped: number;
  /** Channels of the feature map. */
  features: number;
  /** Side of the pictures, in pixels. */
  side: number;
  /** Trained weights by the names of their initializers, as Parameters hold them: kernels of convolutions are HWIO. */
  tuned: ReadonlyMap<string, NamedArray>;
}

export interface EncoderModel {
  bytes: Chunks;
  input: string;
  output: string;
  opset: number;
}

/** A node, with every name that it reads: inputs, and what the graphs within its attributes read. */
interface RawNode {
  field: Field;
  op: string;
  inputs: string[];
  outputs: string[];
  reads: string[];
}

interface RawTensor {
  field: Field;
  name: string;
  type: number;
  shape: number[];
  /** Entries that say where the values lie, if they lie in another file. */
  external: ReadonlyMap<string, string> | null;
}

interface RawGraph {
  nodes: RawNode[];
  tensors: RawTensor[];
  inputs: { field: Field; name: string; type: number }[];
  /** Fields that stay as they are: name, texts, sparse initializers, annotations. */
  others: Field[];
}

/** Fields of a GraphProto. Declared shapes of inner values (13) are left out: they may be those of other picture sizes. */
const [NODE, NAME, INITIALIZER, INPUT, OUTPUT, VALUE_INFO] = [1, 2, 5, 11, 12, 13];

function readNode(message: Message): Omit<RawNode, 'field'> {
  const node = { op: '', inputs: [] as string[], outputs: [] as string[], reads: [] as string[] };
  let domain = '';
  for (const part of message.fields()) {
    if (part.number === 1) node.inputs.push(message.text(part));
    else if (part.number === 2) node.outputs.push(message.text(part));
    else if (part.number === 4) node.op = message.text(part);
    else if (part.number === 7) domain = message.text(part);
    else if (part.number === 5) {
      const attribute = message.child(part);
      for (const each of attribute.fields())
        if (each.number === 6 || each.number === 11) for (const name of readsOf(attribute.child(each))) node.reads.push(name);
    }
  }
  for (const name of node.inputs) node.reads.push(name);
  if (domain !== '' && domain !== 'ai.onnx') node.op = `${domain}.${node.op}`;
  return node;
}

/** What the nodes of an inner graph read; names of its own are among them and do no harm. */
function readsOf(graph: Message): string[] {
  const names: string[] = [];
  for (const part of graph.fields()) if (part.number === NODE) for (const name of readNode(graph.child(part)).reads) names.push(name);
  return names;
}

function readTensor(message: Message, of: Field): RawTensor {
  const tensor = { field: of, name: '', type: 0, shape: [] as number[] };
  const entries = new Map<string, string>();
  let isExternal = false;
  for (const part of message.fields()) {
    if (part.number === 1) for (const extent of message.numbers(part)) tensor.shape.push(extent);
    else if (part.number === 2) tensor.type = message.whole(part);
    else if (part.number === 8) tensor.name = message.text(part);
    else if (part.number === 14) isExternal = message.whole(part) === 1;
    else if (part.number === 13) {
      const entry = message.child(part);
      const [key, value] = [1, 2].map((number) => [...entry.fields()].find((each) => each.number === number)).map((each) => (each ? entry.text(each) : ''));
      entries.set(key, value);
    }
  }
  return { ...tensor, external: isExternal ? entries : null };
}

/** The first field of a number within messages in each other, or null. */
function within(message: Message, ...path: number[]): { message: Message; field: Field } | null {
  const [first, ...rest] = path;
  const found = [...message.fields()].find(({ number }) => number === first);
  if (!found) return null;
  return rest.length === 0 ? { message, field: found } : within(message.child(found), ...rest);
}

function readGraph(message: Message): RawGraph {
  const graph: RawGraph = { nodes: [], tensors: [], inputs: [], others: [] };
  for (const part of message.fields()) {
    if (part.number === NODE) graph.nodes.push({ field: part, ...readNode(message.child(part)) });
    else if (part.number === INITIALIZER) graph.tensors.push(readTensor(message.child(part), part));
    else if (part.number === INPUT) {
      const info = message.child(part);
      const [name, type] = [within(info, 1), within(info, 2, 1, 1)];
      graph.inputs.push({ field: part, name: name ? name.message.text(name.field) : '', type: type ? type.message.whole(type.field) : 0 });
    } else if (part.number !== OUTPUT && part.number !== VALUE_INFO) graph.others.push(part);
  }
  return graph;
}

/** The values of a tensor that lie in another file, as raw bytes. */
function externalBytes(file: ByteFile, { name, type, shape, external }: RawTensor): Uint8Array {
  const what = `its weights "${shown(name)}"`;
  const element = ELEMENT_TYPES[type];
  if (!element) throw new FileError(file.path, `${what} are of element type ${type}, which is not supported`);
  const location = external?.get('location') ?? '';
  const offset = Number(external?.get('offset') ?? 0);
  const length = element.bytes * shape.reduce((product, extent) => product * extent, 1);
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0)
    throw new FileError(file.path, `${what} [${shape}] are said to lie at ${shown(external?.get('offset') ?? '')} of "${shown(location)}"`);
  const other = new ByteFile(file.source.beside(location));
  try {
    return other.read(offset, length);
  } finally {
    other.close();
  }
}

/** HWIO → OIHW. */
function toOihw({ shape: [h, w, i, o], data }: NamedArray): { shape: number[]; data: Float32Array } {
  const out = new Float32Array(data.length);
  const taps = h * w;
  for (let tap = 0; tap < taps; tap++) for (let c = 0; c < i; c++) for (let k = 0; k < o; k++) out[(k * i + c) * taps + tap] = data[(tap * i + c) * o + k];
  return { shape: [o, i, h, w], data: out };
}

/** Initializers that convolutions read as kernels, also through nodes that only pass them on. */
function kernelsOf(nodes: readonly RawNode[]): Set<string> {
  const origin = new Map<string, string>();
  const kernels = new Set<string>();
  for (const { op, inputs, outputs } of nodes) {
    const [first, second] = inputs.map((name) => origin.get(name) ?? name);
    if (op === 'Identity' || op === 'Dropout') origin.set(outputs[0], first);
    else if (op === 'Conv') kernels.add(second);
  }
  return kernels;
}

/**
 * The model of an encoder's file. Reads and closes the source. Throws a FileError that names what the file lacks, or what would not
 * fit in one file.
 */
export function encoderModel(source: ByteSource, { featureMap, layout, dropped, features, side, tuned }: EncoderExport): EncoderModel {
  const file = new ByteFile(source);
  try {
    const model = new Message(file, 0, file.size);
    const top = [...model.fields()];
    const graphs = top.filter(({ number }) => number === 7);
    if (graphs.length !== 1) throw new FileError(file.path, `holds ${graphs.length} ONNX graphs, 1 is expected`);
    const message = model.child(graphs[0]);
    const graph = readGraph(message);
    const opset = opsetOf(model, top);
    const kept = nodesFor(graph, featureMap);
    if (kept.length === 0) throw new FileError(file.path, `has no node that makes "${shown(featureMap)}", the feature map of the model`);
    const read = new Set(kept.flatMap(({ reads }) => reads));
    const initializers = new Map(graph.tensors.map((tensor) => [tensor.name, tensor]));
    const [input, ...more] = graph.inputs.filter(({ name }) => !initializers.has(name) && read.has(name));
    if (!input || more.length > 0) throw new FileError(file.path, `takes ${more.length + (input ? 1 : 0)} inputs, one is expected: pictures`);
    if (input.type !== ELEMENT.float)
      throw new FileError(
        file.path,
        `takes pictures of element type ${ELEMENT_TYPES[input.type]?.name ?? input.type}; only encoders of float pictures are exported`,
      );

    const raw = ({ start, end }: Field): Uint8Array => file.read(start, end - start);
    const kernels = kernelsOf(graph.nodes);
    const trained = new Map([...tuned].map(([name, value]) => [name, kernels.has(name) && value.shape.length === 4 ? toOihw(value) : value]));
    const replaced = new Set<string>();
    const trainedTensor = (name: string, type: number, shape: readonly number[] | null): Chunks => {
      const value = trained.get(name) as NamedArray;
      if (type !== ELEMENT.float || (shape && shape.join() !== value.shape.join()))
        throw new FileError(file.path, `has weights "${shown(name)}" [${shape}] of element type ${type}, the trained ones are float [${value.shape}]`);
      replaced.add(name);
      return tensorMessage(name, type, value.shape, value.data);
    };
    const tensors = graph.tensors
      .filter(({ name }) => read.has(name))
      .map((tensor) => {
        const { name, type, shape, external } = tensor;
        if (trained.has(name)) return field(INITIALIZER, trainedTensor(name, type, shape));
        return field(INITIALIZER, external ? tensorMessage(name, type, shape, externalBytes(file, tensor)) : raw(tensor.field));
      });
    const nodes = kept.map(({ op, outputs, field: of }) => {
      if (op !== 'Constant' || !trained.has(outputs[0])) return field(NODE, raw(of));
      return field(NODE, nodeMessage(op, [], outputs, { value: { tensor: trainedTensor(outputs[0], ELEMENT.float, null) } }));
    });
    const lost = [...trained.keys()].find((name) => !replaced.has(name));
    if (lost !== undefined) throw new FileError(file.path, `has no weights "${shown(lost)}" before its feature map, which the model trained`);

    const taken = new Set([...graph.inputs.map(({ name }) => name), ...kept.flatMap(({ outputs, reads }) => [...outputs, ...reads])]);
    const fresh = (name: string): string => {
      let free = name;
      for (let i = 1; taken.has(free); i++) free = `${name}_${i}`;
      taken.add(free);
      return free;
    };
    const output = fresh('features');
    const declared = graph.inputs.filter(({ name }) => initializers.has(name) && read.has(name)).map((each) => field(INPUT, raw(each.field))); // as in old files
    const body: Chunks = [
      ...nodes.flat(),
      ...inRegions(opset, featureMap, { layout, dropped, features }, output, fresh).flatMap((node) => field(NODE, node)),
      ...graph.others.flatMap((each) => field(each.number, raw(each))),
      ...(graph.others.some(({ number }) => number === NAME) ? [] : field(NAME, 'encoder')),
      ...tensors.flat(),
      ...field(INPUT, valueMessage({ name: input.name, type: ELEMENT.float, shape: ['pictures', 3, side, side], doc: 'prepared pictures' })),
      ...declared.flat(),
      ...field(OUTPUT, valueMessage({ name: output, type: ELEMENT.float, shape: ['pictures', 'regions', features], doc: 'feature maps' })),
    ];
    const bytes = top.flatMap((each) =>
      each.wire === 0 ? field(each.number, each.value) : each === graphs[0] ? field(each.number, body) : field(each.number, raw(each)),
    );
    const length = lengthOf(bytes);
    if (length > MAX_MESSAGE) throw new FileError(file.path, `would be a model of ${length} bytes in one file; an ONNX file has at most ${MAX_MESSAGE}`);
    return { bytes, input: input.name, output, opset };
  } finally {
    file.close();
  }
}

function opsetOf(model: Message, top: readonly Field[]): number {
  const versions = top
    .filter(({ number }) => number === 8)
    .map((each) => model.child(each))
    .filter((opset) => {
      const domain = within(opset, 1);
      return !domain || ['', 'ai.onnx'].includes(domain.message.text(domain.field));
    })
    .map((opset) => within(opset, 2));
  const [first] = versions;
  return first ? first.message.whole(first.field) : 1;
}

/** Names of other files in which weights of the model lie. Closes the source. */
export function otherFilesOf(source: ByteSource): string[] {
  const file = new ByteFile(source);
  try {
    const found = within(new Message(file, 0, file.size), 7);
    if (!found) throw new FileError(file.path, 'holds no ONNX graph');
    const { tensors } = readGraph(found.message.child(found.field));
    return [...new Set(tensors.flatMap(({ external }) => (external ? [external.get('location') ?? ''] : [])))];
  } finally {
    file.close();
  }
}

/** The nodes that a value needs, in their order. */
function nodesFor({ nodes }: RawGraph, wanted: string): RawNode[] {
  const need = new Set([wanted]);
  const kept: RawNode[] = [];
  for (let i = nodes.length - 1; i >= 0; i--) {
    if (!nodes[i].outputs.some((name) => name !== '' && need.has(name))) continue;
    for (const name of nodes[i].reads) need.add(name);
    kept.push(nodes[i]);
  }
  return kept.reverse();
}

/**
 * A feature map → [pictures, regions, F]. Of [pictures, F, height, width], the regions come first, so that importers find the map before
 * a Reshape. Of tokens, those before the regions are cut off.
 */
function inRegions(
  opset: number,
  map: string,
  { layout, dropped, features }: Pick<EncoderExport, 'layout' | 'dropped' | 'features'>,
  output: string,
  fresh: (name: string) => string,
): Chunks[] {
  const list = (hint: string, values: readonly number[]): { name: string; node: Chunks } => {
    const name = fresh(hint);
    const value = tensorMessage(name, ELEMENT.int64, [values.length], BigInt64Array.from(values, BigInt));
    return { name, node: nodeMessage('Constant', [], [name], { value: { tensor: value } }) };
  };
  const reshaped = (shape: readonly number[], rows: string): Chunks[] => {
    if (opset < 5) return [nodeMessage('Reshape', [map], [rows], { shape })];
    const extents = list('feature_rows_shape', shape);
    return [extents.node, nodeMessage('Reshape', [map, extents.name], [rows])];
  };
  if (layout === 'NHWC') return reshaped([0, -1, features], output);
  if (layout === 'NTC') {
    if (dropped === 0) return [nodeMessage('Identity', [map], [output])];
    if (opset < 10) return [nodeMessage('Slice', [map], [output], { starts: [dropped], ends: [LAST_TOKEN], axes: [1] })];
    const [starts, ends, axes] = [list('first_region', [dropped]), list('last_region', [LAST_TOKEN]), list('token_axis', [1])];
    return [starts.node, ends.node, axes.node, nodeMessage('Slice', [map, starts.name, ends.name, axes.name], [output])];
  }
  const rows = fresh('feature_rows');
  return [...reshaped([0, features, -1], rows), nodeMessage('Transpose', [rows], [output], { perm: [0, 2, 1] })];
}

/** Slice stops at the end of an axis, wherever it is. */
const LAST_TOKEN = 2 ** 31 - 1;
