/**
 * Products of whole numbers whose sums are only read as floats. Such a sum may be rounded to float32 where it is made: on the GPU,
 * which knows no long whole numbers. Dynamically quantized models have one in every layer.
 */
import type { OnnxGraph, OnnxNode } from '../proto.ts';
import { Pattern } from './pattern.ts';

const FLOAT = 1;

/** MatMulInteger or ConvInteger, then a Cast to float: one node, with the attribute "asFloat". */
export function castProducts(graph: OnnxGraph, keep: (name: string) => boolean): void {
  const pattern = new Pattern(graph, keep);
  const dropped = new Set<OnnxNode>();
  for (const node of graph.nodes) {
    if (node.op !== 'Cast' || node.attributes.get('to') !== FLOAT) continue;
    const product = pattern.only(node.inputs[0], 'MatMulInteger', 'ConvInteger');
    if (!product) continue;
    product.attributes = new Map([...product.attributes, ['asFloat', 1]]);
    product.outputs = node.outputs;
    dropped.add(node);
  }
  graph.nodes = graph.nodes.filter((node) => !dropped.has(node));
}
