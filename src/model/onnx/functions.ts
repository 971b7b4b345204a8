/** Functions of a model: operators that other operators define. Each node of such an operator is replaced by the nodes of its function. */
import { FileError } from '../../errors.ts';
import { GRADIENT } from './gradients.ts';
import { labelOf } from './operator.ts';
import { allNodes, type OnnxFunction, type OnnxGraph, type OnnxNode } from './proto.ts';

/** Most nodes that functions may become, and names that these may read and make, and how deep functions may call each other. */
const MOST_NODES = 1 << 17;
const MOST_NAMES = 1 << 21;
const MOST_DEPTH = 16;

/** Replaces the nodes of functions, also in the graphs within nodes. Throws a FileError for functions that call themselves or grow too large. */
export function inlineFunctions(graph: OnnxGraph): void {
  if (graph.functions.size === 0) return;
  let [count, names] = [0, 0];
  const expand = (nodes: readonly OnnxNode[], depth: number): OnnxNode[] =>
    nodes.flatMap((node) => {
      for (const value of node.attributes.values()) if (typeof value === 'object' && 'nodes' in value) value.nodes = expand(value.nodes, depth);
      const called = graph.functions.get(node.op);
      if (!called) return [node];
      if (depth >= MOST_DEPTH) throw new FileError(graph.path, `${labelOf(node)}: functions call each other more than ${MOST_DEPTH} deep`);
      const body = bodyOf(graph, called, node);
      // Graphs within its nodes count, also those that the calling node gives.
      for (const each of allNodes(body)) {
        names += each.inputs.length + each.outputs.length;
        if (++count > MOST_NODES || names > MOST_NAMES)
          throw new FileError(graph.path, `${labelOf(node)}: its functions become more than ${MOST_NODES} nodes, or ${MOST_NAMES} names`);
      }
      return expand(body, depth + 1);
    });
  graph.nodes = expand(graph.nodes, 0);
}

/** The nodes of a function, with the names and the attributes of a node that calls it. */
function bodyOf(graph: OnnxGraph, called: OnnxFunction, node: OnnxNode): OnnxNode[] {
  const prefix = `${node.outputs.find(Boolean) ?? node.name}/`;
  if (node.inputs.length > called.inputs.length || node.outputs.length > called.outputs.length)
    throw new FileError(
      graph.path,
      `${labelOf(node)}: has ${node.inputs.length} inputs and ${node.outputs.length} outputs, its function ${called.inputs.length} and ${called.outputs.length}`,
    );
  const names = new Map<string, string>();
  for (const [i, name] of called.inputs.entries()) names.set(name, node.inputs[i] ?? '');
  called.outputs.forEach((name, i) => {
    if (node.outputs[i]) names.set(name, node.outputs[i]);
  });
  const renamed = (name: string): string => (name === '' ? '' : (names.get(name) ?? prefix + name));
  const within = (inner: OnnxGraph): OnnxGraph => ({
    ...inner,
    nodes: inner.nodes.map(copied),
    initializers: new Map(Array.from(inner.initializers, ([name, tensor]) => [renamed(name), { ...tensor, name: renamed(name) }])),
    inputs: inner.inputs.map((input) => ({ ...input, name: renamed(input.name) })),
    outputs: inner.outputs.map(renamed),
  });
  const copied = (each: OnnxNode): OnnxNode => {
    const [attributes, kinds] = [new Map(each.attributes), new Map(each.kinds)];
    for (const [name, value] of attributes) if (typeof value === 'object' && 'nodes' in value) attributes.set(name, within(value));
    for (const [name, source] of each.references ?? []) {
      const kind = node.kinds.get(source);
      const given = kind ? { value: node.attributes.get(source), kind } : called.defaults.get(source);
      if (given?.value !== undefined) {
        attributes.set(name, given.value);
        kinds.set(name, given.kind);
      } else {
        attributes.delete(name);
        kinds.delete(name);
      }
    }
    if (each.op === GRADIENT)
      for (const [name, value] of attributes) {
        // Its attributes are names, too.
        if (Array.isArray(value) && kinds.get(name) === 'strings') attributes.set(name, value.map(String).map(renamed));
        else if (typeof value === 'string') attributes.set(name, renamed(value));
      }
    return {
      ...each,
      name: `${node.name}/${each.name}`,
      inputs: each.inputs.map(renamed),
      outputs: each.outputs.map(renamed),
      attributes,
      kinds,
      references: undefined,
    };
  };
  return called.nodes.map(copied);
}
