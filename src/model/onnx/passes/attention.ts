/** Scaled dot-product attention: softmax(q kᵀ · scale + mask) v, Vaswani et al. 2017, as one node. */
import { freshName } from '../operator.ts';
import type { OnnxGraph, OnnxNode } from '../proto.ts';
import { fusedNode } from './layers.ts';
import { Pattern, rewritten } from './pattern.ts';

/** The keys as rows, from the node that turns them: its order of axes with the last two exchanged. */
function keysOf(graph: OnnxGraph, turned: OnnxNode): { name: string; nodes: OnnxNode[] } | null {
  const order = turned.attributes.get('perm');
  if (!Array.isArray(order) || order.length < 3) return null;
  const rows = [...(order as number[])];
  const rank = rows.length;
  [rows[rank - 1], rows[rank - 2]] = [rows[rank - 2], rows[rank - 1]];
  if (rows.every((axis, i) => axis === i)) return { name: turned.inputs[0], nodes: [] };
  const name = freshName(graph, `${turned.outputs[0]}/rows`);
  const node = fusedNode(turned, 'Transpose', turned.opset, [turned.inputs[0]], { perm: ['ints', rows] });
  return { name, nodes: [{ ...node, outputs: [name] }] };
}

/** Whether a softmax is over the last axis, whatever the rank. */
const isOverLast = (node: OnnxNode): boolean => node.opset >= 13 && (node.attributes.get('axis') ?? -1) === -1;

export function fuseAttention(graph: OnnxGraph, keep: (name: string) => boolean): void {
  const p = new Pattern(graph, keep);
  const replaced = new Map<OnnxNode, readonly OnnxNode[]>();
  for (const out of graph.nodes) {
    if (out.op !== 'MatMul') continue;
    const weights = p.only(out.inputs[0], 'Softmax');
    if (!weights || !isOverLast(weights)) continue;
    let scores = weights.inputs[0];
    const masked = p.only(scores, 'Add');
    let mask: string | null = null;
    const isScore = (name: string): boolean => p.only(name, 'MatMul', 'Mul', 'Div') !== null;
    if (masked) {
      const [a, b] = masked.inputs;
      if (isScore(a) === isScore(b)) continue; // which of them is the mask?
      [scores, mask] = isScore(a) ? [a, b] : [b, a];
    }
    let factor = 1;
    const times = p.only(scores, 'Mul', 'Div');
    const scaled = times && p.scaled(times);
    if (times && !scaled) continue;
    if (scaled) {
      factor = scaled.factor;
      scores = scaled.x;
    }
    const product = p.only(scores, 'MatMul');
    const turned = product && p.maker(product.inputs[1], 'Transpose');
    const keys = turned && keysOf(graph, turned);
    if (!product || !keys) continue;
    const inputs = [product.inputs[0], keys.name, out.inputs[1], ...(mask ? [mask] : [])];
    replaced.set(out, [...keys.nodes, fusedNode(out, 'FusedAttention', out.opset, inputs, { scale: ['float', factor] })]);
  }
  rewritten(graph, replaced);
}
