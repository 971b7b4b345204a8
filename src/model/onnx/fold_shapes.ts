/**
 * Computes arithmetic on shapes (Shape, Gather, Concat, …) once, at import. Exporters write `x.view(x.size(0), -1)` as five
 * nodes, which become one Reshape to [0, −1]; ONNX's 0 copies an extent. Arithmetic on extents that only a run knows stays in
 * the graph, unless it only copies an extent. The run then computes it on the host.
 */
import type { HostTensor, OnnxGraph, OnnxNode } from './proto.ts';

/** Every name with the nodes that read it. An extra node "Output" reads each output of the graph. */
export function consumers(graph: OnnxGraph): Map<string, OnnxNode[]> {
  const map = new Map<string, OnnxNode[]>();
  for (const node of graph.nodes) for (const input of node.inputs) map.set(input, [...(map.get(input) ?? []), node]);
  for (const output of graph.outputs)
    map.set(output, [...(map.get(output) ?? []), { op: 'Output', name: output, inputs: [output], outputs: [], attributes: new Map() }]);
  return map;
}

/** An extent: a known number, or the extent of a tensor's axis. */
type Extent = number | { of: string; axis: number };
/** A list of extents, or a single one if `scalar`; or the whole shape of a tensor whose rank is unknown. */
type Known = { extents: Extent[]; scalar: boolean } | { shapeOf: string };

/** Longest constant that counts as a shape or as indices. Longer ones are data. */
const MAX_LENGTH = 64;

const numbersOf = (known: Known | null): number[] | null =>
  known && 'extents' in known && known.extents.every((extent) => typeof extent === 'number') ? (known.extents as number[]) : null;

const isScalar = (known: Known | null): boolean => known !== null && 'scalar' in known && known.scalar;

function constant(graph: OnnxGraph, name: string): Known | null {
  const initializer = graph.initializers.get(name);
  if (!initializer || initializer.shape.length > 1 || (initializer.shape[0] ?? 1) > MAX_LENGTH) return null;
  const host = initializer.load();
  return host.kind === 'int' ? { extents: Array.from(host.data), scalar: host.shape.length === 0 } : null;
}

function ints(node: OnnxNode, attribute: string, input: number, read: (name: string) => Known | null): number[] | null {
  const value = node.attributes.get(attribute);
  if (Array.isArray(value)) return value;
  return node.inputs[input] ? numbersOf(read(node.inputs[input])) : null;
}

const ARITHMETIC: Record<string, (a: number, b: number) => number> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => Math.trunc(a / b),
};

function pick(from: Known, indices: readonly number[]): Extent[] | null {
  if ('shapeOf' in from) return indices.every((i) => i >= 0) ? indices.map((axis) => ({ of: from.shapeOf, axis })) : null;
  const picked = indices.map((i) => from.extents[i < 0 ? i + from.extents.length : i]);
  return picked.includes(undefined as never) ? null : picked;
}

/** The result of a node, if it follows from known values; else null. */
function evaluate(graph: OnnxGraph, node: OnnxNode, read: (name: string) => Known | null): Known | null {
  if (node.op === 'Shape') {
    if (node.attributes.has('start') || node.attributes.has('end')) return null;
    const input = graph.inputs.find(({ name }) => name === node.inputs[0]);
    if (!input || input.shape.length === 0) return { shapeOf: node.inputs[0] };
    // A run may have another number of pictures than the file says. It also decides the extents that the file leaves open.
    return { extents: input.shape.map((extent, axis) => (axis > 0 && extent >= 0 ? extent : { of: input.name, axis })), scalar: false };
  }
  const inputs = node.inputs.map((name) => (name ? read(name) : null));
  const [first] = inputs;
  if (!first) return null;
  switch (node.op) {
    case 'Identity':
      return first;
    case 'Cast':
      return [6, 7].includes(node.attributes.get('to') as number) ? first : null;
    case 'Gather': {
      const indices = numbersOf(inputs[1]);
      const picked = indices && (node.attributes.get('axis') ?? 0) === 0 ? pick(first, indices) : null;
      return picked && { extents: picked, scalar: isScalar(inputs[1]) };
    }
    case 'Slice': {
      const [starts, ends] = [ints(node, 'starts', 1, read), ints(node, 'ends', 2, read)];
      const steps = node.inputs[4] ? numbersOf(inputs[4]) : [1];
      if (starts?.length !== 1 || ends?.length !== 1 || steps?.join() !== '1') return null;
      const length = 'extents' in first ? first.extents.length : null;
      const place = (value: number) => (length === null ? value : Math.max(0, Math.min(length, value < 0 ? value + length : value)));
      const [from, to] = [place(starts[0]), place(ends[0])];
      if (from < 0 || to < from || to - from > MAX_LENGTH) return null;
      const picked = pick(
        first,
        Array.from({ length: to - from }, (_, i) => from + i),
      );
      return picked && { extents: picked, scalar: false };
    }
    case 'Unsqueeze':
      return isScalar(first) && 'extents' in first ? { ...first, scalar: false } : null;
    case 'Squeeze':
      return 'extents' in first && first.extents.length === 1 ? { ...first, scalar: true } : null;
    case 'Concat': {
      const lists = inputs.map((known) => (known && 'extents' in known && !known.scalar ? known.extents : null));
      return lists.includes(null) ? null : { extents: (lists as Extent[][]).flat(), scalar: false };
    }
    default: {
      const f = ARITHMETIC[node.op];
      const [a, b] = [numbersOf(first), numbersOf(inputs[1] ?? null)];
      if (!f || !a || !b || (a.length !== b.length && a.length !== 1 && b.length !== 1)) return null;
      const result = Array.from({ length: Math.max(a.length, b.length) }, (_, i) => f(a[a.length === 1 ? 0 : i], b[b.length === 1 ? 0 : i]));
      const scalar = isScalar(first) && isScalar(inputs[1]);
      return result.every(Number.isSafeInteger) ? { extents: result, scalar } : null;
    }
  }
}

/** Computes what can be computed at import. Nodes that were needed only for that are removed from the graph. */
export function foldShapes(graph: OnnxGraph): void {
  const computed = new Map<string, Known>();
  const read = (name: string) => computed.get(name) ?? constant(graph, name);
  const arithmetic = new Set<OnnxNode>();
  const define = (name: string, shape: number[], data: number[]) => {
    const host: HostTensor = { kind: 'int', shape, data };
    graph.initializers.set(name, { name, shape, load: () => host });
  };
  for (const node of graph.nodes) {
    const shape = node.op === 'Reshape' ? computed.get(node.inputs[1]) : undefined;
    if (shape && 'extents' in shape && node.attributes.get('allowzero') !== 1) {
      // An extent that is copied from the same axis of the reshaped tensor is ONNX's 0.
      const extents = shape.extents.map((extent, i) => (typeof extent === 'number' ? extent : extent.of === node.inputs[0] && extent.axis === i ? 0 : null));
      if (!extents.includes(null)) {
        const name = `${node.outputs[0]}/shape`;
        define(name, [extents.length], extents as number[]);
        node.inputs = [node.inputs[0], name];
      }
    }
    const known = evaluate(graph, node, read);
    if (!known) continue;
    arithmetic.add(node);
    computed.set(node.outputs[0], known);
    const numbers = numbersOf(known);
    if (numbers) define(node.outputs[0], isScalar(known) ? [] : [numbers.length], numbers);
  }
  for (;;) {
    const uses = consumers(graph);
    const unused = (node: OnnxNode) =>
      arithmetic.has(node) && !graph.outputs.includes(node.outputs[0]) && (!uses.has(node.outputs[0]) || graph.initializers.has(node.outputs[0]));
    const left = graph.nodes.filter((node) => !unused(node));
    if (left.length === graph.nodes.length) return;
    graph.nodes = left;
  }
}
