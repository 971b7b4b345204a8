/** Graphs within nodes: branches, and the bodies of loops. They read values of the graphs around them by name. */
import { allNodes, type OnnxGraph, type OnnxNode } from './proto.ts';

/** The graphs that a node holds. */
export const graphsOf = (node: OnnxNode): OnnxGraph[] =>
  [...node.attributes.values()].filter((value) => typeof value === 'object' && 'nodes' in value) as OnnxGraph[];

const captured = new WeakMap<OnnxNode, readonly string[]>();

/** The names that the graphs within a node read, but do not make. */
export function capturedBy(node: OnnxNode): readonly string[] {
  const known = captured.get(node);
  if (known) return known;
  const names = new Set<string>();
  for (const graph of graphsOf(node)) {
    const own = new Set([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys(), ...graph.nodes.flatMap(({ outputs }) => outputs)]);
    for (const name of [...graph.nodes.flatMap((each) => [...each.inputs, ...capturedBy(each)]), ...graph.outputs])
      if (name !== '' && !own.has(name)) names.add(name);
  }
  const found = [...names];
  captured.set(node, found);
  return found;
}

/** What the nodes of a graph read, and its outputs; also those of the graphs within it. */
export function readsOf(graph: OnnxGraph): Set<string> {
  const reads = new Set(graph.outputs);
  for (const node of allNodes(graph.nodes)) {
    for (const name of node.inputs) reads.add(name);
    for (const inner of graphsOf(node)) for (const name of inner.outputs) reads.add(name);
  }
  return reads;
}

/** A node whose inner graphs read other names in the place of some. */
export function renamedWithin(node: OnnxNode, to: ReadonlyMap<string, string>): OnnxNode {
  if (graphsOf(node).length === 0) return node;
  const attributes = new Map(node.attributes);
  for (const [key, value] of attributes) {
    if (typeof value !== 'object' || !('nodes' in value)) continue;
    const nodes = value.nodes.map((each) => ({ ...renamedWithin(each, to), inputs: each.inputs.map((name) => to.get(name) ?? name) }));
    attributes.set(key, { ...value, nodes, outputs: value.outputs.map((name) => to.get(name) ?? name) });
  }
  return { ...node, attributes };
}
