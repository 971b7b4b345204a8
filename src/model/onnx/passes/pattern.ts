/** What passes over a graph ask of it: who makes a value, who reads it, and which constant it is. */
import { sizeOf } from '../../../tensor/shape.ts';
import type { OnnxGraph, OnnxNode } from '../proto.ts';
import { capturedBy } from '../subgraphs.ts';

const OUTPUT: OnnxNode = { op: 'Output', name: '', inputs: [], outputs: [], attributes: new Map(), kinds: new Map(), opset: 1 };

/** Every name with the nodes that read it. An extra node "Output" reads each output of the graph. */
function consumers(graph: OnnxGraph): Map<string, OnnxNode[]> {
  const map = new Map<string, OnnxNode[]>();
  const add = (name: string, node: OnnxNode) => {
    const list = map.get(name);
    if (list) list.push(node);
    else map.set(name, [node]);
  };
  for (const node of graph.nodes) for (const input of [...node.inputs, ...capturedBy(node)]) add(input, node);
  for (const output of graph.outputs) add(output, OUTPUT);
  return map;
}

/** A graph, seen from its values. It is taken once: a pass that changes nodes looks at what was there before. */
export class Pattern {
  private readonly uses: Map<string, OnnxNode[]>;
  private readonly made: Map<string, OnnxNode>;

  constructor(
    readonly graph: OnnxGraph,
    /** Parameters that are trained: they are no constants. */
    private readonly keep: (name: string) => boolean,
  ) {
    this.uses = consumers(graph);
    this.made = new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  }

  /** The node that makes a value, if it is of one of these operators. */
  maker(name: string | undefined, ...ops: string[]): OnnxNode | null {
    const node = this.made.get(name ?? '');
    return node && ops.includes(node.op) ? node : null;
  }

  /** As `maker`, if nobody but one node reads the value. */
  only(name: string | undefined, ...ops: string[]): OnnxNode | null {
    return this.readers(name) === 1 ? this.maker(name, ...ops) : null;
  }

  /** How many nodes read a value; an output of the graph counts as one. */
  readers(name: string | undefined): number {
    return this.uses.get(name ?? '')?.length ?? 0;
  }

  /** A constant that is one number; null for anything else. */
  scalar(name: string | undefined): number | null {
    const constant = this.graph.initializers.get(name ?? '');
    if (!constant || constant.kind === 'text' || constant.shape.length > 1 || sizeOf(constant.shape) !== 1 || this.keep(constant.name)) return null;
    return constant.load().data[0];
  }

  /** The shape of a constant; null for anything else. */
  shape(name: string | undefined): readonly number[] | null {
    return this.graph.initializers.get(name ?? '')?.shape ?? null;
  }

  /** The operand beside another of a node with two; null if the other is none of them, or both. */
  beside(node: OnnxNode, operand: string): string | null {
    const [a, b] = node.inputs;
    return a === operand && b !== operand ? b : b === operand && a !== operand ? a : null;
  }

  /** The number in a product or quotient of a value and a constant, and the value: x · factor. Null for anything else. */
  scaled(node: OnnxNode): { x: string; factor: number } | null {
    const [a, b] = node.inputs;
    const [left, right] = [this.scalar(a), this.scalar(b)];
    if (node.op === 'Mul' && left !== null && right === null) return { x: b, factor: left };
    if (node.op === 'Mul' && right !== null && left === null) return { x: a, factor: right };
    return node.op === 'Div' && right !== null && right !== 0 && left === null ? { x: a, factor: 1 / right } : null;
  }
}

/** Whether two numbers are the same to float32's digits: exporters write constants in many ways. */
export const isClose = (a: number | null, b: number): boolean => a !== null && Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(b));

/** Puts nodes in the places of others, and drops those that nobody reads any more. */
export function rewritten(graph: OnnxGraph, replaced: ReadonlyMap<OnnxNode, readonly OnnxNode[]>): void {
  if (replaced.size === 0) return;
  const nodes = graph.nodes.flatMap((node) => replaced.get(node) ?? [node]);
  const needed = new Set(graph.outputs);
  const kept: OnnxNode[] = [];
  for (const node of nodes.reverse()) {
    if (!node.outputs.some((output) => output !== '' && needed.has(output))) continue;
    for (const name of [...node.inputs, ...capturedBy(node)]) needed.add(name);
    kept.push(node);
  }
  graph.nodes = kept.reverse();
}
