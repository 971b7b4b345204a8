/**
 * The operator Gradient names values of the graph around it: `y`, and `xs` and `zs` that decide it. Before a graph is checked, each
 * such node gets a graph of its own: a copy of the nodes between these names and `y`. So the node can be given other values than
 * the named ones, and no pass can take away what it names.
 */
import { FileError } from '../../errors.ts';
import { sizeOf } from '../../tensor/shape.ts';
import { freshName, labelOf } from './operator.ts';
import { allNodes, type OnnxGraph, type OnnxInput, type OnnxNode, UnsupportedOnnx } from './proto.ts';
import { capturedBy, graphsOf } from './subgraphs.ts';
import { reasonShown, shown } from './wire.ts';

export const GRADIENT = 'ai.onnx.preview.training.Gradient';
/** The attribute that holds the graph. No file may give it. */
export const BODY = 'body';

/** Most nodes and names that all nodes Gradient together may look at and copy, and how deep one may lie within the copy of another. */
const MOST_NODES = 1 << 18;
const MOST_NAMES = 1 << 21;
const MOST_DEPTH = 16;
/** Bytes of constants within copied nodes, beyond the size of the file. */
const ALLOWANCE = 16 << 20;

/** A graph around a node, and where in it the node lies. */
interface Level {
  graph: OnnxGraph;
  at: number;
  /** Which node makes a value. */
  makers: ReadonlyMap<string, number>;
  /** Inputs and constants. */
  given: ReadonlySet<string>;
}

/** A node of a level. */
interface Place {
  level: Level;
  at: number;
}

/** Names of an attribute. */
const namesOf = (node: OnnxNode, attribute: string): string[] => {
  const value = node.attributes.get(attribute);
  return Array.isArray(value) ? value.map(String) : [];
};

const readBy = (node: OnnxNode): string[] => [...node.inputs, ...capturedBy(node)].filter(Boolean);

/** Gives every node Gradient its graph. Throws a FileError for one whose names contradict the graph, and where the copies grow too large. */
export function takeGradients(graph: OnnxGraph): void {
  let isAny = false;
  for (const { op } of allNodes(graph.nodes)) isAny ||= op === GRADIENT;
  if (isAny) new Gradients(graph).within(graph, []);
}

class Gradients {
  private nodes = 0;
  private names = 0;
  private bytes = 0;
  /** How deep graphs of nodes Gradient lie within each other, by the node. */
  private readonly depths = new WeakMap<OnnxGraph, number>();

  /** Nodes that are a Gradient, or hold one. */
  private readonly holders = new Set<OnnxNode>();
  /** What the names of the graphs so far begin with. */
  private readonly prefixes = new Set<string>();

  constructor(private readonly whole: OnnxGraph) {
    this.mark(whole.nodes);
    const { names } = whole;
    for (const each of [whole, ...Array.from(allNodes(whole.nodes), graphsOf).flat()]) {
      for (const { name } of each.inputs) names.add(name);
      for (const name of each.initializers.keys()) names.add(name);
      for (const node of each.nodes) for (const name of node.outputs) names.add(name);
    }
  }

  private mark(nodes: readonly OnnxNode[]): boolean {
    let isAny = false;
    for (const node of nodes) {
      const isHolder =
        graphsOf(node)
          .map((graph) => this.mark(graph.nodes))
          .includes(true) || node.op === GRADIENT;
      if (isHolder) this.holders.add(node);
      isAny ||= isHolder;
    }
    return isAny;
  }

  /** Goes through a graph, and through the graphs within its nodes. */
  within(graph: OnnxGraph, outer: readonly Level[]): void {
    const makers = new Map<string, number>();
    for (const [i, node] of graph.nodes.entries()) for (const name of node.outputs) if (name !== '') makers.set(name, i);
    const given = new Set([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys()]);
    const level: Level = { graph, at: 0, makers, given };
    for (const [i, node] of graph.nodes.entries()) {
      level.at = i;
      for (const inner of graphsOf(node)) this.within(inner, [...outer, level]);
      if (node.op === GRADIENT && node.kinds.get('xs') === 'strings' && (node.kinds.get('zs') ?? 'strings') === 'strings' && node.kinds.get('y') === 'string')
        node.attributes.set(BODY, this.bodyOf(node, [...outer, level]));
    }
  }

  private fail(node: OnnxNode, reason: string): never {
    throw new FileError(this.whole.path, `${labelOf(node)}: ${reasonShown(reason)}`);
  }

  private unsupported(node: OnnxNode, reason: string): never {
    throw new UnsupportedOnnx(this.whole.path, `${labelOf(node)}: ${reasonShown(reason)}`);
  }

  private count(node: OnnxNode, nodes: number, names: number, bytes = 0): void {
    this.nodes += nodes;
    this.names += names;
    this.bytes += bytes;
    if (this.nodes > MOST_NODES || this.names > MOST_NAMES || this.bytes > this.whole.size + ALLOWANCE)
      this.fail(node, `more than ${MOST_NODES} nodes, ${MOST_NAMES} names or ${this.whole.size + ALLOWANCE} bytes of constants lie between what is named`);
  }

  private bodyOf(node: OnnxNode, levels: readonly Level[]): OnnxGraph {
    const [xs, zs, y] = [namesOf(node, 'xs'), namesOf(node, 'zs'), String(node.attributes.get('y'))];
    const named = [...xs, ...zs];
    this.count(node, 1, named.length);
    if (xs.length === 0) this.fail(node, 'xs names no value');
    if (named.length !== node.inputs.length || node.inputs.includes(''))
      this.fail(node, `has ${node.inputs.filter(Boolean).length} inputs, but xs and zs name ${named.length} values`);
    if (node.outputs.length > xs.length) this.fail(node, `has ${node.outputs.length} outputs, but xs names ${xs.length} values`);
    const held = new Set<string>();
    for (const name of named) {
      if (held.has(name)) this.fail(node, `xs and zs name "${shown(name)}" twice`);
      held.add(name);
    }
    const makerOf = (name: string): Place | null => {
      for (const level of levels.toReversed()) {
        const at = level.makers.get(name);
        if (at !== undefined) return { level, at };
        if (level.given.has(name)) return null;
      }
      return this.fail(node, `no node makes "${shown(name)}", and no input or constant is called so`);
    };
    this.refuseBound(node, held, makerOf);
    const found = this.ancestors(node, y, held, makerOf);
    return this.copyOf(node, this.dependent(found, held, levels), named, y);
  }

  /** What a node on the way reads. What a Gradient behind this one reads is not known yet. */
  private readBy(node: OnnxNode, { level, at }: Place, maker: OnnxNode): string[] {
    if (at > level.at && this.holders.has(maker)) this.unsupported(node, `what it names follows from ${labelOf(maker)}, a Gradient that stands behind it`);
    return readBy(maker);
  }

  /** Refuses a named value that follows from another one, as ONNX does: it would not be free. */
  private refuseBound(node: OnnxNode, held: ReadonlySet<string>, makerOf: (name: string) => Place | null): void {
    const seen = new Set<OnnxNode>();
    const open = [...held];
    for (let name = open.pop(); name !== undefined; name = open.pop()) {
      const place = makerOf(name);
      const maker = place?.level.graph.nodes[place.at];
      if (!place || !maker || seen.has(maker)) continue;
      seen.add(maker);
      const read = this.readBy(node, place, maker);
      const other = read.find((each) => held.has(each));
      if (other !== undefined) this.fail(node, `of the values that xs and zs name, "${shown(name)}" follows from "${shown(other)}"; none may`);
      this.count(node, 1, read.length);
      for (const each of read) open.push(each);
    }
  }

  /** The nodes that y follows from, down to the named values, from the first one to the last. */
  private ancestors(node: OnnxNode, y: string, held: ReadonlySet<string>, makerOf: (name: string) => Place | null): Place[] {
    const seen = new Map<OnnxNode, Place>();
    const open = [y];
    for (let name = open.pop(); name !== undefined; name = open.pop()) {
      if (held.has(name)) continue;
      const place = makerOf(name);
      const maker = place?.level.graph.nodes[place.at];
      if (!place || !maker || seen.has(maker)) continue;
      if (place.at === place.level.at) this.fail(node, `y "${shown(y)}" follows from the node itself, or from one that holds it`);
      seen.set(maker, place);
      const read = this.readBy(node, place, maker);
      this.count(node, 1, read.length);
      for (const each of read) open.push(each);
    }
    return [...seen.values()];
  }

  /** Those that must be copied: they follow from the named values, or stand behind the node. Others are not computed again. */
  private dependent(found: readonly Place[], held: ReadonlySet<string>, levels: readonly Level[]): OnnxNode[] {
    const order = [...found].sort((a, b) => levels.indexOf(a.level) - levels.indexOf(b.level) || a.at - b.at);
    const moved = new Set(held);
    const copied: OnnxNode[] = [];
    for (const { level, at } of order) {
      const each = level.graph.nodes[at];
      if (at < level.at && !readBy(each).some((name) => moved.has(name))) continue;
      for (const name of each.outputs) moved.add(name);
      copied.push(each);
    }
    return copied;
  }

  private copyOf(node: OnnxNode, nodes: readonly OnnxNode[], named: readonly string[], y: string): OnnxGraph {
    const output = node.outputs.find(Boolean) ?? node.name;
    const prefix = this.prefixes.has(output) ? `${output}/${this.prefixes.size}` : output; // branches may have the same names
    this.prefixes.add(prefix);
    const fresh = (name: string) => freshName(this.whole, `${prefix}/${name}`);
    const to = new Map(named.map((name) => [name, fresh(name)]));
    let depth = 0;
    for (const each of allNodes(nodes)) {
      const graphs = graphsOf(each);
      this.count(node, 1, each.inputs.length + each.outputs.length, bytesWithin(each));
      for (const graph of graphs) depth = Math.max(depth, this.depths.get(graph) ?? 0);
    }
    if (depth >= MOST_DEPTH) this.unsupported(node, `nodes Gradient follow from each other more than ${MOST_DEPTH} deep`);
    for (const each of nodes) for (const name of each.outputs) if (name !== '' && !to.has(name)) to.set(name, fresh(name));
    const inputs = named.map((name): OnnxInput => ({ name: to.get(name) ?? name, shape: [], kind: 'float', open: [] }));
    const { path, opset, functions } = this.whole;
    const body: OnnxGraph = {
      ...{ path, opset, functions, size: 0, inputs, outputs: [to.get(y) ?? y], initializers: new Map(), defaults: [], declared: [] },
      ...{ nodes: nodes.map((each) => this.copied(each, to, new Set(named))), names: new Set(), orders: new Map(), turned: new Map() },
    };
    this.depths.set(body, depth + 1);
    return body;
  }

  /** A copy of a node that reads and makes other names. An output that is a named value is not made: its value is given. */
  private copied(node: OnnxNode, to: ReadonlyMap<string, string>, held: ReadonlySet<string>): OnnxNode {
    const attributes = new Map(node.attributes);
    for (const [key, value] of attributes) {
      if (typeof value !== 'object' || !('nodes' in value)) continue;
      const copy: OnnxGraph = {
        ...{ ...value, inputs: [...value.inputs], initializers: new Map(value.initializers), outputs: value.outputs.map((name) => to.get(name) ?? name) },
        ...{ nodes: value.nodes.map((each) => this.copied(each, to, held)), names: new Set(), orders: new Map(), turned: new Map() },
      };
      this.depths.set(copy, this.depths.get(value) ?? 0);
      attributes.set(key, copy);
    }
    const outputs = node.outputs.map((name) => (held.has(name) ? '' : (to.get(name) ?? name)));
    return { ...node, attributes, inputs: node.inputs.map((name) => to.get(name) ?? name), outputs };
  }
}

/** Bytes of the constants that a node and the graphs within it hold: those that a copy loads once more. */
function bytesWithin(node: OnnxNode): number {
  let count = 0;
  for (const value of node.attributes.values()) {
    if (typeof value !== 'object') continue;
    if ('load' in value) count += sizeOf(value.shape);
    else if ('nodes' in value) for (const { shape } of value.initializers.values()) count += sizeOf(shape);
  }
  return 4 * count;
}
