/**
 * Computes what follows from constants and shapes once, at import. Exporters write `x.view(x.size(0), -1)` as five nodes, which
 * become one Reshape to [0, −1]; ONNX's 0 copies an extent. Arithmetic on extents that only a run knows stays in the graph,
 * unless it only copies an extent. The run then computes it on the host.
 */
import { FileError, messageOf } from '../../../errors.ts';
import { type Shape, sizeOf } from '../../../tensor/shape.ts';
import { freshName, labelOf, listOf, MAX_HOST_ELEMENTS, TooLargeForHost } from '../operator.ts';
import { runOnHost, runsOnHost } from '../operators/index.ts';
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../proto.ts';
import { capturedBy } from '../subgraphs.ts';
import { type HostTensor, isHost, type Value } from '../values.ts';

/** An extent: a known number, or the extent of a tensor's axis. */
type Extent = number | { of: string; axis: number };
/** A list of extents, or a single one if `scalar`; or the whole shape of a tensor whose rank is unknown. */
type Known = { extents: Extent[]; scalar: boolean } | { shapeOf: string };

/** Longest list that counts as a shape or as indices. Longer ones are data. */
const MAX_LENGTH = 64;

const numbersOf = (known: Known | null): number[] | null =>
  known && 'extents' in known && known.extents.every((extent) => typeof extent === 'number') ? (known.extents as number[]) : null;

/** Whether a list only names extents of tensors: it holds for pictures of any size. */
const isCopied = (known: Known): boolean => 'shapeOf' in known || known.extents.every((extent) => typeof extent !== 'number');

const isScalar = (known: Known | null): boolean => known !== null && 'scalar' in known && known.scalar;

function constant(graph: OnnxGraph, name: string): Known | null {
  const initializer = graph.initializers.get(name);
  if (initializer?.kind !== 'int' || initializer.shape.length > 1 || (initializer.shape[0] ?? 1) > MAX_LENGTH) return null;
  const host = initializer.load();
  return { extents: Array.from(host.data), scalar: host.shape.length === 0 };
}

function values(node: OnnxNode, attribute: string, input: number, read: (name: string) => Known | null): number[] | null {
  const value = listOf(node, attribute);
  if (value) return value;
  return node.inputs[input] ? numbersOf(read(node.inputs[input])) : null;
}

function pick(from: Known, indices: readonly number[]): Extent[] | null {
  if ('shapeOf' in from) return indices.every((i) => i >= 0) ? indices.map((axis) => ({ of: from.shapeOf, axis })) : null;
  const picked = indices.map((i) => from.extents[i < 0 ? i + from.extents.length : i]);
  return picked.includes(undefined as never) ? null : picked;
}

/** The result of a node that reads extents, if it only moves them; else null. */
function evaluate(node: OnnxNode, read: (name: string) => Known | null): Known | null {
  const inputs = node.inputs.map((name) => (name ? read(name) : null));
  const [first] = inputs;
  if (!first) return null;
  switch (node.op) {
    case 'Identity':
      return first;
    case 'Cast':
      return node.attributes.get('to') === 7 ? first : null;
    case 'Gather': {
      const indices = numbersOf(inputs[1]);
      const picked = indices && (node.attributes.get('axis') ?? 0) === 0 ? pick(first, indices) : null;
      return picked && { extents: picked, scalar: isScalar(inputs[1]) };
    }
    case 'Slice': {
      const [starts, ends] = [values(node, 'starts', 1, read), values(node, 'ends', 2, read)];
      const axes = node.attributes.has('axes') || node.inputs[3] ? values(node, 'axes', 3, read) : [0];
      const steps = node.inputs[4] ? numbersOf(inputs[4]) : [1];
      const length = 'extents' in first ? first.extents.length : null;
      const isAxis = axes?.length === 1 && (axes[0] === 0 || axes[0] === -1);
      if (isScalar(first) || starts?.length !== 1 || ends?.length !== 1 || !isAxis || steps?.join() !== '1') return null;
      const place = (value: number) => (length === null ? value : Math.max(0, Math.min(length, value < 0 ? value + length : value)));
      const [from, to] = [place(starts[0]), place(ends[0])];
      if (from < 0 || to < from || to - from > MAX_LENGTH) return null;
      if (length === null && to - from !== 1) return null; // there may be fewer axes
      const picked = pick(
        first,
        Array.from({ length: to - from }, (_, i) => from + i),
      );
      return picked && { extents: picked, scalar: false };
    }
    case 'Unsqueeze':
      return isScalar(first) && 'extents' in first && ['0', '-1'].includes(values(node, 'axes', 1, read)?.join() ?? '') ? { ...first, scalar: false } : null;
    case 'Squeeze': {
      const isAll = !node.attributes.has('axes') && !node.inputs[1];
      const isOne = 'extents' in first && !first.scalar && first.extents.length === 1;
      return isOne && (isAll || ['0', '-1'].includes(values(node, 'axes', 1, read)?.join() ?? '')) ? { ...first, scalar: true } : null;
    }
    case 'Concat': {
      const lists = inputs.map((known) => (known && 'extents' in known && !known.scalar ? known.extents : null));
      const length = lists.reduce((sum, list) => sum + (list?.length ?? MAX_LENGTH + 1), 0);
      return length > MAX_LENGTH || ![0, -1].includes(node.attributes.get('axis') as number) ? null : { extents: (lists as Extent[][]).flat(), scalar: false };
    }
    default:
      return null;
  }
}

/** Bytes of constants that folding may read and make beyond the size of the file. What is more is computed in every run. */
const ALLOWANCE = 16 << 20;

/** Numbers that folding may read and multiply, all nodes together. */
const MOST_WORK = 2 ** 27;

/** Bytes that a value takes on the host, at most. */
const BYTES = 8;

/** The most elements that a node can make of inputs of these shapes. */
function mostOf(node: OnnxNode, shapes: readonly Shape[]): number {
  const sizes = shapes.map(sizeOf);
  if (node.op === 'Gather') return sizes[0] * sizes[1];
  if (node.op === 'Concat') return sizes.reduce((sum, size) => sum + size, 0);
  if (node.inputs.length < 2 || !['Add', 'Sub', 'Mul', 'Div', 'Sum'].includes(node.op)) return sizes[0];
  // An axis is as long as the longest of the inputs, counted from the last.
  const longest: number[] = [];
  for (const shape of shapes) for (const [i, extent] of shape.toReversed().entries()) longest[i] = Math.max(longest[i] ?? 1, extent);
  return sizeOf(longest);
}

const isNumbers = (value: Value | null): value is HostTensor | null => value === null || isHost(value);

/** Constants that nodes make of constants, within a budget. */
class Constants {
  private left: number;
  private work = MOST_WORK;
  private readonly hosts = new Map<string, HostTensor>();

  constructor(
    private readonly graph: OnnxGraph,
    /** Parameters that are trained: what follows from them changes. */
    private readonly keep: (name: string) => boolean,
  ) {
    this.left = graph.size + ALLOWANCE;
  }

  /** What a node makes of constants, if it reads nothing else and the budget allows it. */
  of(node: OnnxNode): readonly (HostTensor | null)[] | null {
    const { initializers, path } = this.graph;
    const names = node.inputs.filter(Boolean);
    if (names.length === 0 || names.some((name) => !initializers.has(name) || this.keep(name))) return null;
    const tensors = names.map((name) => initializers.get(name) as OnnxTensor);
    if (tensors.some(({ kind }) => kind === 'text')) return null;
    const makes = mostOf(
      node,
      tensors.map(({ shape }) => shape),
    );
    const reads = tensors.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    if (makes > MAX_HOST_ELEMENTS || BYTES * (makes + reads) > this.left || makes + reads > this.work) return null;
    this.work -= makes + reads;
    const inputs = node.inputs.map((name) => (name ? this.load(name) : null));
    const spend = (products: number): void => {
      if (products > this.work) throw new TooLargeForHost(`${products} products`);
      this.work -= products;
    };
    const call = { node, opset: node.opset, inputs, spend };
    if (!runsOnHost(call)) return null;
    try {
      const made = runOnHost(call);
      if (!made.every(isNumbers)) return null;
      for (const each of made) this.left -= BYTES * ((each?.data.length ?? 0) + 8);
      return made;
    } catch (error) {
      if (error instanceof TooLargeForHost) return null;
      throw new FileError(path, `${labelOf(node)}: ${messageOf(error)}`);
    }
  }

  /** Each constant is read once, and counts once. */
  private load(name: string): HostTensor {
    let host = this.hosts.get(name);
    if (!host) {
      host = (this.graph.initializers.get(name) as OnnxTensor).load();
      this.left -= BYTES * host.data.length;
      this.hosts.set(name, host);
    }
    return host;
  }
}

/**
 * Computes what can be computed at import, in one walk over the nodes. Nodes that were needed only for that are removed from the
 * graph. Adds to `stated` the names of constants that hold extents that the file states: a run with pictures of another size
 * contradicts them.
 */
export function foldShapes(graph: OnnxGraph, keep: (name: string) => boolean, stated: Set<string>): void {
  const constants = new Constants(graph, keep);
  const inputs = new Map(graph.inputs.map((input) => [input.name, input]));
  const computed = new Map<string, Known>();
  const read = (name: string) => computed.get(name) ?? constant(graph, name);
  const arithmetic = new Set<OnnxNode>();
  const define = (name: string, host: HostTensor, of: OnnxNode) => {
    graph.initializers.set(name, { ...{ name, kind: host.kind, shape: host.shape }, load: () => host });
    if (of.inputs.some((input) => stated.has(input))) stated.add(name);
  };
  for (const node of graph.nodes) {
    const [output] = node.outputs;
    const made = constants.of(node);
    if (made) {
      arithmetic.add(node);
      made.forEach((host, i) => {
        if (host && node.outputs[i]) define(node.outputs[i], host, node);
      });
      continue;
    }
    const shape = node.op === 'Reshape' ? computed.get(node.inputs[1]) : undefined;
    if (shape && 'extents' in shape && node.attributes.get('allowzero') !== 1) {
      // An extent that is copied from the same axis of the reshaped tensor is ONNX's 0.
      const extents = shape.extents.map((extent, i) => (typeof extent === 'number' ? extent : extent.of === node.inputs[0] && extent.axis === i ? 0 : null));
      if (!extents.includes(null)) {
        const name = freshName(graph, `${output}/shape`);
        define(name, { kind: 'int', shape: [extents.length], data: extents as number[] }, node);
        node.inputs = [node.inputs[0], name];
      }
    }
    let known: Known | null;
    if (node.op === 'Shape') {
      if (node.attributes.has('start') || node.attributes.has('end')) continue;
      const input = inputs.get(node.inputs[0]);
      // A run may have another number of pictures than the file says. It also decides the extents that the file leaves open.
      if (input && input.shape.length > 0)
        known = { extents: input.shape.map((extent, axis) => (axis > 0 && extent >= 0 ? extent : { of: input.name, axis })), scalar: false };
      else known = { shapeOf: node.inputs[0] };
    } else known = evaluate(node, read);
    if (!known) continue;
    if (!isCopied(known) && (node.op === 'Shape' || node.inputs.some((name) => stated.has(name)))) stated.add(output);
    arithmetic.add(node);
    computed.set(output, known);
    const numbers = numbersOf(known);
    if (numbers) define(output, { kind: 'int', shape: isScalar(known) ? [] : [numbers.length], data: numbers }, node);
  }
  dropUnread(graph, arithmetic);
}

/** Removes nodes among `candidates` whose result nobody reads, or is a constant now; then those that only they read, and so on. */
function dropUnread(graph: OnnxGraph, candidates: ReadonlySet<OnnxNode>): void {
  const readers = new Map<string, number>();
  const count = (name: string, by: number): number => {
    const left = (readers.get(name) ?? 0) + by;
    readers.set(name, left);
    return left;
  };
  for (const node of graph.nodes) for (const input of [...node.inputs, ...capturedBy(node)]) count(input, 1);
  for (const output of graph.outputs) count(output, 1);
  const kept: OnnxNode[] = [];
  for (const node of graph.nodes.toReversed()) {
    const isNeeded = (output: string) => output !== '' && !graph.initializers.has(output) && count(output, 0) > 0;
    if (candidates.has(node) && !node.outputs.some(isNeeded)) for (const input of node.inputs) count(input, -1);
    else kept.push(node);
  }
  graph.nodes = kept.reverse();
}
