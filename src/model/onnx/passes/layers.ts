/** Layers that exporters write as many nodes: layer normalization, GELU, and products with a bias. */

import type { AttributeKind, AttributeValue, OnnxGraph, OnnxNode } from '../proto.ts';
import { isClose, Pattern, rewritten } from './pattern.ts';

type Keep = (name: string) => boolean;

/** A node in the place of others: it has the name and the output of the last of them. */
export function fusedNode(
  last: OnnxNode,
  op: string,
  opset: number,
  inputs: string[],
  attributes: Record<string, [AttributeKind, AttributeValue]> = {},
): OnnxNode {
  return {
    ...{ op, name: last.name, inputs, outputs: [last.outputs[0]], opset },
    attributes: new Map(Object.entries(attributes).map(([name, [, value]]) => [name, value])),
    kinds: new Map(Object.entries(attributes).map(([name, [kind]]) => [name, kind])),
  };
}

/** Whether a node takes the mean over the last axis and keeps it. */
function isRowMean(p: Pattern, node: OnnxNode): boolean {
  const axes = node.attributes.get('axes') ?? (node.inputs[1] ? p.graph.initializers.get(node.inputs[1])?.load().data : null);
  const [first, ...rest] = Array.isArray(axes) ? axes : [];
  return first === -1 && rest.length === 0 && node.attributes.get('keepdims') !== 0;
}

/** (x − mean) / √(mean (x − mean)² + ε) · γ + β over the last axis. */
export function fuseLayerNorm(graph: OnnxGraph, keep: Keep): void {
  const p = new Pattern(graph, keep);
  const replaced = new Map<OnnxNode, readonly OnnxNode[]>();
  for (const add of graph.nodes) {
    if (add.op !== 'Add' || add.opset < 7) continue;
    const scaled = add.inputs.map((name) => p.only(name, 'Mul')).find((node) => node !== null);
    const bias = scaled && p.beside(add, scaled.outputs[0]);
    const quotient = scaled?.inputs.map((name) => p.only(name, 'Div')).find((node) => node !== null);
    const gamma = scaled && quotient && p.beside(scaled, quotient.outputs[0]);
    if (!bias || !gamma || !quotient) continue;
    const [width] = p.shape(gamma) ?? [];
    if (p.shape(gamma)?.length !== 1 || p.shape(bias)?.join() !== String(width)) continue;
    const centered = p.maker(quotient.inputs[0], 'Sub');
    const root = p.only(quotient.inputs[1], 'Sqrt');
    const sum = root && p.only(root.inputs[0], 'Add');
    const variance = sum?.inputs.map((name) => p.only(name, 'ReduceMean')).find((node) => node !== null);
    if (!centered || p.readers(centered.outputs[0]) > 3 || !sum || !variance || !isRowMean(p, variance)) continue;
    const epsilon = p.scalar(p.beside(sum, variance.outputs[0]) ?? undefined);
    const square = p.only(variance.inputs[0], 'Pow', 'Mul');
    const isSquare =
      square && square.inputs[0] === centered.outputs[0] && (square.op === 'Mul' ? square.inputs[1] === square.inputs[0] : p.scalar(square.inputs[1]) === 2);
    const mean = p.only(centered.inputs[1], 'ReduceMean');
    const x = centered.inputs[0];
    if (epsilon === null || !isSquare || !mean || mean.inputs[0] !== x || !isRowMean(p, mean)) continue;
    replaced.set(add, [fusedNode(add, 'LayerNormalization', 17, [x, gamma, bias], { axis: ['int', -1], epsilon: ['float', epsilon] })]);
  }
  rewritten(graph, replaced);
}

/** x Φ(x), as x · 0.5 · (1 + erf(x / √2)) in any order; Hendrycks & Gimpel 2016. */
export function fuseGelu(graph: OnnxGraph, keep: Keep): void {
  const p = new Pattern(graph, keep);
  const replaced = new Map<OnnxNode, readonly OnnxNode[]>();
  for (const last of graph.nodes) {
    if (last.op !== 'Mul' || last.opset < 7) continue;
    // Either 0.5 · (x · (1 + erf)), or (0.5 · x) · (1 + erf).
    const outer = p.scaled(last);
    const product = outer && isClose(outer.factor, 0.5) ? p.only(outer.x, 'Mul') : outer ? null : last;
    const one = product?.inputs.map((name) => p.only(name, 'Add')).find((node) => node !== null);
    const other = product && one && p.beside(product, one.outputs[0]);
    const erf = one?.inputs.map((name) => p.only(name, 'Erf')).find((node) => node !== null);
    if (!one || !other || !erf || p.scalar(p.beside(one, erf.outputs[0]) ?? undefined) !== 1) continue;
    const inner = p.only(erf.inputs[0], 'Mul', 'Div');
    const argument = inner && p.scaled(inner);
    if (!argument || !isClose(argument.factor, Math.SQRT1_2)) continue;
    const half = outer ? null : p.only(other, 'Mul', 'Div');
    const halved = half && p.scaled(half);
    const x = outer ? other : halved && isClose(halved.factor, 0.5) ? halved.x : null;
    if (x === argument.x) replaced.set(last, [fusedNode(last, 'Gelu', 20, [x])]);
  }
  rewritten(graph, replaced);
}

/** A product with a constant matrix, and a bias for its columns. */
export function fuseMatmulBias(graph: OnnxGraph, keep: Keep): void {
  const p = new Pattern(graph, keep);
  const replaced = new Map<OnnxNode, readonly OnnxNode[]>();
  for (const add of graph.nodes) {
    if (add.op !== 'Add' || add.opset < 7) continue;
    const product = add.inputs.map((name) => p.only(name, 'MatMul')).find((node) => node !== null);
    const bias = product && p.beside(add, product.outputs[0]);
    if (!product || !bias) continue;
    const [weight, columns] = [p.shape(product.inputs[1]), p.shape(bias)];
    if (weight?.length !== 2 || columns?.length !== 1 || columns[0] !== weight[1]) continue;
    replaced.set(add, [fusedNode(add, 'FusedMatMul', add.opset, [...product.inputs, bias])]);
  }
  rewritten(graph, replaced);
}
