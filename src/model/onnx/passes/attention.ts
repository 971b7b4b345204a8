/**
 * Scaled dot-product attention: softmax(q kᵀ · scale + mask) v, Vaswani et al. 2017, as one node. Exporters write it in many ways.
 * The scale is on the queries, on the keys, or on the scores. Some models have one for each head, or a mask for each window (Liu et al.
 * 2021).
 */
import { freshName } from '../operator.ts';
import type { OnnxGraph, OnnxNode } from '../proto.ts';
import { fusedNode } from './layers.ts';
import { Pattern, rewritten } from './pattern.ts';

/** Keys as rows [.., S, D], with the nodes that make them so. */
interface Keys {
  name: string;
  nodes: OnnxNode[];
}

/** Scores as a graph computes them: products of queries and keys, times a factor, plus masks. */
interface Scores {
  q: string;
  keys: Keys;
  factor: number;
  /** Other nodes that are needed, before the attention. */
  nodes: OnnxNode[];
  /** Added to the scores. */
  masks: string[];
  /** Added to the scores as [N, W, H, T, S], where the attention has N · W pictures. */
  windows: { mask: string; extents: number[] } | null;
}

const intsConstant = (graph: OnnxGraph, wish: string, data: number[]): string => {
  const name = freshName(graph, wish);
  graph.initializers.set(name, { ...{ name, kind: 'int', shape: [data.length] }, load: () => ({ kind: 'int', shape: [data.length], data }) });
  return name;
};

/** A constant list of whole numbers; null for anything else. */
function listIn(graph: OnnxGraph, name: string | undefined): number[] | null {
  const constant = graph.initializers.get(name ?? '');
  return constant?.kind === 'int' && constant.shape.length === 1 && constant.shape[0] <= 8 ? Array.from(constant.load().data) : null;
}

/** An extent in the target of a Reshape: a number, or the name of a list that holds one. */
type Extent = number | string;

/** Whether a value is at most one extent of a shape, by the bounds of its Slice. */
function isOneExtent(p: Pattern, name: string): boolean {
  const slice = p.maker(name, 'Slice');
  const [start, end] = [1, 2].map((i) => (slice?.inputs[3] || slice?.inputs[4] ? null : listIn(p.graph, slice?.inputs[i])));
  if (!slice || !p.maker(slice.inputs[0], 'Shape') || start?.length !== 1 || end?.length !== 1) return false;
  return start[0] === -1 ? end[0] >= 0 : Math.sign(start[0]) === Math.sign(end[0]) && end[0] - start[0] === 1;
}

/** The target of a Reshape, extent by extent; lists of unknown length are names too. Null where it copies extents, or is no list. */
function targetOf(p: Pattern, reshape: OnnxNode): Extent[] | null {
  const known = listIn(p.graph, reshape.inputs[1]);
  const joined = p.maker(reshape.inputs[1], 'Concat');
  const parts: Extent[] | undefined = known ?? joined?.inputs.flatMap((name): Extent[] => listIn(p.graph, name) ?? [name]);
  return parts && !parts.includes(0) ? parts : null;
}

/** The keys as rows, from what turns them: a Transpose of the last two axes, alone or between two Reshapes. Null for anything else. */
function keysOf(p: Pattern, name: string): Keys | null {
  const { graph } = p;
  const turned = p.maker(name, 'Transpose');
  if (turned) {
    const order = turned.attributes.get('perm');
    if (!Array.isArray(order) || order.length < 3) return null;
    const rows = [...(order as number[])];
    const rank = rows.length;
    [rows[rank - 1], rows[rank - 2]] = [rows[rank - 2], rows[rank - 1]];
    if (rows.every((axis, i) => axis === i)) return { name: turned.inputs[0], nodes: [] };
    const made = freshName(graph, `${turned.outputs[0]}/rows`);
    return { name: made, nodes: [{ ...fusedNode(turned, 'Transpose', turned.opset, [turned.inputs[0]], { perm: ['ints', rows] }), outputs: [made] }] };
  }
  // [.., S, D] → [X, S, D] → [X, D, S] → [.., D, S]: the last two axes stay together, so the rows are the input as [.., S, D].
  const outer = p.maker(name, 'Reshape');
  const inner = p.maker(outer?.inputs[0], 'Transpose');
  const flat = p.maker(inner?.inputs[0], 'Reshape');
  if (!outer || !inner || !flat || String(inner.attributes.get('perm')) !== '0,2,1') return null;
  const [before, after] = [targetOf(p, flat), targetOf(p, outer)];
  if (before?.length !== 3 || !after || after.length < 3) return null;
  const [first, s, d] = before;
  const isSound = [s, d].every((each) => (typeof each === 'number' ? each > 0 : isOneExtent(p, each))) && (typeof first === 'number' || isOneExtent(p, first));
  if (!isSound || after.at(-1) !== s || after.at(-2) !== d) return null;
  const rows = [...after.slice(0, -2), s, d];
  const made = freshName(graph, `${outer.outputs[0]}/rows`);
  const nodes: OnnxNode[] = [];
  let shape: string;
  if (rows.every((each) => typeof each === 'number')) shape = intsConstant(graph, `${made}/shape`, rows);
  else {
    shape = freshName(graph, `${made}/shape`);
    const parts = rows.map((each) => (typeof each === 'number' ? intsConstant(graph, `${made}/extent`, [each]) : each));
    nodes.push({ ...fusedNode(outer, 'Concat', 13, parts, { axis: ['int', 0] }), outputs: [shape] });
  }
  nodes.push({ ...fusedNode(outer, 'Reshape', 13, [flat.inputs[0], shape]), outputs: [made] });
  return { name: made, nodes };
}

/** Nodes in a row that are looked at: exporters write a few, a hostile file as many as it likes. */
const DEEPEST = 8;

/** Whether a value is one number, though it may only be known in a run: a scale that an exporter computes from a shape. */
function isOneNumber(p: Pattern, name: string, depth = 0): boolean {
  if (p.scalar(name) !== null) return true;
  const node = depth < DEEPEST ? p.maker(name, 'Sqrt', 'Cast', 'Div', 'Mul', 'Reciprocal') : null;
  return node ? node.inputs.every((input) => isOneNumber(p, input, depth + 1)) : isOneExtent(p, name);
}

/** Whether a constant has one number for each matrix, so that it may as well be multiplied with the queries. */
function isOfMatrices(p: Pattern, name: string): boolean {
  const shape = p.shape(name);
  return shape !== null && shape.length >= 2 && shape.slice(-2).every((extent) => extent === 1);
}

/** A value without the numbers that it is multiplied by. */
function withoutFactor(p: Pattern, name: string, depth = 0): { name: string; factor: number } {
  const times = depth < DEEPEST ? p.maker(name, 'Mul', 'Div') : null;
  const scaled = times && p.scaled(times);
  if (!scaled) return { name, factor: 1 };
  const rest = withoutFactor(p, scaled.x, depth + 1);
  return { name: rest.name, factor: rest.factor * scaled.factor };
}

/** Queries times keys. */
function productOf(p: Pattern, product: OnnxNode): Scores | null {
  const q = withoutFactor(p, product.inputs[0]);
  const k = withoutFactor(p, product.inputs[1]);
  const direct = keysOf(p, k.name);
  const scores = { q: q.name, nodes: [], masks: [], windows: null };
  if (direct) return { ...scores, keys: direct, factor: q.factor * k.factor };
  // A number that a run computes stays with the keys: it is multiplied with their rows.
  const times = p.maker(k.name, 'Mul');
  if (!times) return null;
  for (const [x, by] of [times.inputs, times.inputs.toReversed()]) {
    const rows = isOneNumber(p, by) ? keysOf(p, x) : null;
    if (!rows) continue;
    const made = freshName(p.graph, `${k.name}/rows`);
    const node = { ...fusedNode(times, 'Mul', times.opset, [rows.name, by]), outputs: [made] };
    return { ...scores, keys: { name: made, nodes: [...rows.nodes, node] }, factor: q.factor * k.factor };
  }
  return null;
}

/** Masks of windows: [N · W, H, T, S] → [N, W, H, T, S], a sum, and back. */
function windowsOf(p: Pattern, back: OnnxNode, depth: number): Scores | null {
  const sum = p.only(back.inputs[0], 'Add');
  const after = listIn(p.graph, back.inputs[1]);
  if (!sum || after?.length !== 4) return null;
  for (const [name, mask] of [sum.inputs, sum.inputs.toReversed()]) {
    const apart = p.only(name, 'Reshape');
    const extents = apart && listIn(p.graph, apart.inputs[1]);
    if (extents?.length !== 5 || extents.slice(1).some((extent) => extent <= 0) || extents.slice(2).join() !== after.slice(1).join()) continue;
    const scores = scoresOf(p, (apart as OnnxNode).inputs[0], depth + 1);
    if (scores && !scores.windows) return { ...scores, windows: { mask, extents: extents.slice(1) } };
  }
  return null;
}

/** What computes the scores, and nothing else reads; null if it is no attention. */
function scoresOf(p: Pattern, name: string, depth = 0): Scores | null {
  const node = depth < DEEPEST ? p.only(name, 'MatMul', 'Mul', 'Div', 'Add', 'Reshape') : null;
  if (!node) return null;
  if (node.op === 'MatMul') return productOf(p, node);
  if (node.op === 'Reshape') return windowsOf(p, node, depth);
  if (node.opset < 7) return null; // they did not broadcast as now
  if (node.op === 'Add') {
    for (const [x, mask] of [node.inputs, node.inputs.toReversed()]) {
      const scores = scoresOf(p, x, depth + 1);
      if (scores) return scores.windows ? null : { ...scores, masks: [...scores.masks, mask] };
    }
    return null;
  }
  const scaled = p.scaled(node);
  const index = node.op === 'Mul' ? node.inputs.findIndex((each) => isOfMatrices(p, each)) : -1;
  if (!scaled && index < 0) return null;
  const scores = scoresOf(p, scaled ? scaled.x : node.inputs[1 - index], depth + 1);
  if (!scores || scores.masks.length > 0 || scores.windows) return null;
  if (scaled) return { ...scores, factor: scores.factor * scaled.factor };
  const q = freshName(p.graph, `${node.outputs[0]}/queries`);
  return { ...scores, q, nodes: [...scores.nodes, { ...fusedNode(node, 'Mul', node.opset, [scores.q, node.inputs[index]]), outputs: [q] }] };
}

/** Whether a softmax is over the last axis, whatever the rank. */
const isOverLast = (node: OnnxNode): boolean => node.opset >= 13 && (node.attributes.get('axis') ?? -1) === -1;

/** The softmax that makes weights. A row of scores that are all −∞ has weights that are no number; exporters put zeros for them, as our op does. */
function softmaxOf(p: Pattern, name: string): OnnxNode | null {
  const plain = p.only(name, 'Softmax');
  if (plain) return plain;
  const where = p.only(name, 'Where');
  const test = where && p.only(where.inputs[0], 'IsNaN');
  const softmax = test && p.maker(test.inputs[0], 'Softmax');
  const isSafe = softmax && where.inputs[2] === softmax.outputs[0] && p.readers(where.inputs[2]) === 2 && p.scalar(where.inputs[1]) === 0;
  return isSafe ? softmax : null;
}

export function fuseAttention(graph: OnnxGraph, keep: (name: string) => boolean): void {
  const p = new Pattern(graph, keep);
  const replaced = new Map<OnnxNode, readonly OnnxNode[]>();
  for (const out of graph.nodes) {
    if (out.op !== 'MatMul') continue;
    const weights = softmaxOf(p, out.inputs[0]);
    const scores = weights && isOverLast(weights) && scoresOf(p, weights.inputs[0]);
    if (!scores) continue;
    const { q, keys, factor, nodes, windows } = scores;
    // Masks are added to each other before they are added to the scores.
    const sums: OnnxNode[] = [];
    const mask = scores.masks.reduce((sum: string, each) => {
      if (sum === '') return each;
      const made = freshName(graph, `${out.outputs[0]}/mask`);
      sums.push({ ...fusedNode(out, 'Add', out.opset, [sum, each]), outputs: [made] });
      return made;
    }, '');
    const inputs = [q, keys.name, out.inputs[1], ...(mask || windows ? [mask] : []), ...(windows ? [windows.mask] : [])];
    const fused = fusedNode(out, 'FusedAttention', out.opset, inputs, {
      scale: ['float', factor],
      ...(windows ? { windows: ['ints', windows.extents] } : {}),
    });
    replaced.set(out, [...keys.nodes, ...nodes, ...sums, fused]);
  }
  rewritten(graph, replaced);
}
