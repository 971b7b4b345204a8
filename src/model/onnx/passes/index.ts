/**
 * Rewrites a graph for inference, pass by pass: what constants and shapes decide is computed once, and what one kernel can do becomes
 * one node. No pass changes a result, but for the order in which floats are added, and for attention to nothing: 0, not NaN.
 */
import { tensorOfConstant } from '../operators/moves.ts';
import { linearOf } from '../operators/quantize.ts';
import { allNodes, type OnnxGraph, type OnnxNode } from '../proto.ts';
import { graphsOf, renamedWithin } from '../subgraphs.ts';
import { fuseAttention } from './attention.ts';
import { takeBranches } from './branches.ts';
import { foldBatchNorm, fuseConv } from './convolution.ts';
import { splitLargeProducts } from './large.ts';
import { fuseGelu, fuseLayerNorm, fuseMatmulBias } from './layers.ts';
import { layOut } from './layouts.ts';
import { castProducts } from './products.ts';
import { foldShapes } from './shapes.ts';
import { foldStandardization } from './standardization.ts';

/** Whether a Dropout passes its input on, whatever a run says; nobody reads its mask. */
const isInferenceDropout = ({ op, inputs, outputs }: OnnxNode): boolean => op === 'Dropout' && !inputs[2] && !outputs[1];

/** Constants become initializers. Identity and inference Dropout disappear; nodes that read their outputs read their inputs. */
export function resolvePassThrough(graph: OnnxGraph): void {
  const outputs = new Set(graph.outputs);
  const alias = new Map<string, string>();
  const nodes: OnnxNode[] = [];
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((name) => alias.get(name) ?? name);
    const [output] = node.outputs;
    if (node.op === 'Constant') graph.initializers.set(output, tensorOfConstant(node));
    else if ((node.op === 'Identity' || isInferenceDropout(node)) && !outputs.has(output)) alias.set(output, inputs[0]);
    else nodes.push({ ...renamedWithin(node, alias), inputs });
  }
  graph.nodes = nodes;
  for (const node of allNodes(nodes)) for (const inner of graphsOf(node)) resolveConstants(inner);
}

/** Constants of a graph within a node become its initializers. */
function resolveConstants(graph: OnnxGraph): void {
  for (const node of graph.nodes) if (node.op === 'Constant') graph.initializers.set(node.outputs[0], tensorOfConstant(node));
  graph.nodes = graph.nodes.filter(({ op }) => op !== 'Constant');
}

/**
 * Weights that a file holds as whole numbers with a scale become floats when they are loaded, and not in every run. Each does so once:
 * otherwise a small file could ask for any memory.
 */
function dequantizeWeights(graph: OnnxGraph, keep: (name: string) => boolean): void {
  const done = new Set<string>();
  graph.nodes = graph.nodes.filter((node) => {
    if (node.op !== 'DequantizeLinear' && node.op !== 'QuantizeLinear') return true;
    const [name] = node.inputs;
    const inputs = node.inputs.filter(Boolean);
    if (done.has(name) || inputs.some((each) => keep(each) || !graph.initializers.has(each))) return true;
    const made = linearOf(
      graph.path,
      node,
      node.inputs.map((each) => graph.initializers.get(each)),
    );
    if (!made) return true;
    done.add(name);
    graph.initializers.set(made.name, made);
    return false;
  });
}

/** A pass; `keep` tells which parameters are trained and must stay as they are. */
type Pass = (graph: OnnxGraph, keep: (name: string) => boolean) => void;

/** The passes that may be left out, in their order. */
const PASSES: Readonly<Record<string, Pass>> = {
  'weight standardization': foldStandardization,
  'batch norm': foldBatchNorm,
  convolution: fuseConv,
  'layer norm': fuseLayerNorm,
  gelu: fuseGelu,
  attention: fuseAttention,
  bias: fuseMatmulBias,
  'integer product': castProducts,
  layouts: layOut,
};

/** How often branches are taken and folded: one may decide the next, but a file may hold many thousands. The rest is decided in a run. */
const MOST_ROUNDS = 8;

export const PASS_NAMES: readonly string[] = Object.keys(PASSES);

/**
 * Rewrites a graph for inference, without the passes that are named. `limit`: bytes that a kernel may bind. Parameters for which `keep` is true stay as they are
 * and can be trained. Returns the names of constants that hold extents which the file states of its inputs.
 */
export function rewriteForInference(graph: OnnxGraph, keep: (name: string) => boolean, without: readonly string[], limit: number): Set<string> {
  const stated = new Set<string>();
  resolvePassThrough(graph);
  dequantizeWeights(graph, keep);
  foldShapes(graph, keep, stated);
  for (let round = 0; round < MOST_ROUNDS && takeBranches(graph, stated); round++) {
    resolvePassThrough(graph);
    foldShapes(graph, keep, stated);
  }
  for (const [name, pass] of Object.entries(PASSES)) if (!without.includes(name)) pass(graph, keep);
  splitLargeProducts(graph, keep, limit);
  return stated;
}
