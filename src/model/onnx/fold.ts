/**
 * Rewrites a graph for inference. Batch normalization folds into the convolution before it. Convolution, residual sum and ReLU
 * become one node ("FusedConv"), which is one kernel. Constants and arithmetic on shapes are computed here too.
 */
import { consumers, foldShapes } from './fold_shapes.ts';
import { freshName } from './operator.ts';
import { tensorOfConstant } from './operators/moves.ts';
import type { OnnxGraph, OnnxNode, OnnxTensor } from './proto.ts';
import { renamedWithin } from './subgraphs.ts';

function producer(graph: OnnxGraph): Map<string, OnnxNode> {
  return new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
}

function floats(tensor: OnnxTensor): Float32Array {
  const { data } = tensor.load();
  return data instanceof Float32Array ? data : Float32Array.from(data);
}

/** Whether a Dropout passes its input on, whatever a run says; nobody reads its mask. */
const isInferenceDropout = ({ op, inputs, outputs }: OnnxNode): boolean => op === 'Dropout' && !inputs[2] && !outputs[1];

/** Constants become initializers. Identity and inference Dropout disappear; nodes that read their outputs read their inputs. */
function resolvePassThrough(graph: OnnxGraph): void {
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
}

/** w' = w · γ/√(σ²+ε), b' = β + (b − μ) · γ/√(σ²+ε), per output channel, in float64. */
function foldBatchNorm(graph: OnnxGraph, keep: (name: string) => boolean): void {
  const uses = consumers(graph);
  const made = producer(graph);
  const dropped = new Set<OnnxNode>();
  for (const norm of graph.nodes) {
    if (norm.op !== 'BatchNormalization') continue;
    const conv = made.get(norm.inputs[0]);
    if (conv?.op !== 'Conv' || uses.get(conv.outputs[0])?.length !== 1) continue;
    const names = [conv.inputs[1], conv.inputs[2], ...norm.inputs.slice(1)].filter(Boolean);
    if (names.some((name) => graph.initializers.get(name)?.kind !== 'float' || keep(name))) continue;
    if (uses.get(conv.inputs[1])?.length !== 1) continue; // a weight that others read too would be held once for each
    const initializer = (name: string) => graph.initializers.get(name) as OnnxTensor;
    const weight = initializer(conv.inputs[1]);
    const oldBias = conv.inputs[2] ? initializer(conv.inputs[2]) : null;
    const [gamma, beta, mean, variance] = norm.inputs.slice(1).map(initializer);
    if ([gamma, beta, mean, variance].some(({ shape }) => shape.join() !== String(weight.shape[0]))) continue; // the run will report this error
    const epsilon = (norm.attributes.get('epsilon') as number | undefined) ?? 1e-5;
    const factors = (): Float64Array => {
      const [g, v] = [floats(gamma), floats(variance)];
      return Float64Array.from(g, (value, c) => value / Math.sqrt(v[c] + epsilon));
    };
    const [weightName, biasName] = ['weight', 'bias'].map((what) => freshName(graph, `${norm.outputs[0]}/folded ${what}`)); // node names need not be unique
    graph.initializers.set(weightName, {
      name: weightName,
      kind: 'float',
      shape: weight.shape,
      load: () => {
        const scale = factors();
        const per = weight.shape.slice(1).reduce((product, extent) => product * extent, 1);
        const data = floats(weight).slice();
        for (const [channel, factor] of scale.entries()) {
          const end = (channel + 1) * per;
          for (let i = channel * per; i < end; i++) data[i] *= factor; // a ResNet-50 has 25 million of these: no call, no division
        }
        return { kind: 'float', shape: weight.shape, data };
      },
    });
    graph.initializers.set(biasName, {
      name: biasName,
      kind: 'float',
      shape: gamma.shape,
      load: () => {
        const scale = factors();
        const [b, m, before] = [floats(beta), floats(mean), oldBias ? floats(oldBias) : null];
        return { kind: 'float', shape: gamma.shape, data: Float32Array.from(scale, (factor, c) => b[c] + ((before?.[c] ?? 0) - m[c]) * factor) };
      },
    });
    conv.inputs = [conv.inputs[0], weightName, biasName];
    conv.outputs = [norm.outputs[0]];
    dropped.add(norm);
  }
  graph.nodes = graph.nodes.filter((node) => !dropped.has(node));
}

/** Conv (+ Add) (+ Relu) → FusedConv, in the place of the last of them. */
function fuseConv(graph: OnnxGraph): void {
  const uses = consumers(graph);
  const made = producer(graph);
  const isPlainConv = (node: OnnxNode | undefined): node is OnnxNode => node?.op === 'Conv' && uses.get(node.outputs[0])?.length === 1;
  const result: OnnxNode[] = [];
  const dropped = new Set<OnnxNode>();
  const fused = new Map<string, OnnxNode>();
  for (const node of graph.nodes) {
    let current = node;
    if (node.op === 'Add' && graph.opset >= 7) {
      const index = node.inputs.findIndex((name) => isPlainConv(made.get(name)) && !fused.has(name));
      const other = node.inputs[1 - index];
      if (index >= 0 && !graph.initializers.has(other)) {
        const conv = made.get(node.inputs[index]) as OnnxNode;
        dropped.add(conv);
        current = {
          ...conv,
          op: 'FusedConv',
          inputs: [conv.inputs[0], conv.inputs[1], conv.inputs[2] ?? '', other],
          outputs: node.outputs,
          attributes: new Map(conv.attributes),
        };
        fused.set(current.outputs[0], current);
      }
    } else if (node.op === 'Relu') {
      const before = fused.get(node.inputs[0]) ?? made.get(node.inputs[0]);
      if (before && uses.get(node.inputs[0])?.length === 1 && (before.op === 'FusedConv' || isPlainConv(before))) {
        dropped.add(before);
        current = { ...before, op: 'FusedConv', outputs: node.outputs, attributes: new Map([...before.attributes, ['relu', 1]]) };
        fused.set(current.outputs[0], current);
      }
    }
    result.push(current);
  }
  graph.nodes = result.filter((node) => !dropped.has(node));
}

/**
 * Rewrites a graph for inference. Parameters for which `keep` is true stay as they are and can be trained. Returns the names of
 * constants that hold extents which the file states of its inputs.
 */
export function foldForInference(graph: OnnxGraph, keep: (name: string) => boolean = () => false): Set<string> {
  resolvePassThrough(graph);
  const stated = foldShapes(graph, keep);
  foldBatchNorm(graph, keep);
  // The fused kernel has no gradient, but trained parameters may lie before it. So nothing is fused if any are trained.
  if (![...graph.initializers.keys()].some(keep)) fuseConv(graph);
  return stated;
}
