/** Convolutions: the normalization after one folds into its weights; a residual sum and ReLU become one node with it, which is one kernel. */
import { freshName } from '../operator.ts';
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../proto.ts';
import { Pattern } from './pattern.ts';

function floats(tensor: OnnxTensor): Float32Array {
  const { data } = tensor.load();
  return data instanceof Float32Array ? data : Float32Array.from(data);
}

/** w' = w · γ/√(σ²+ε), b' = β + (b − μ) · γ/√(σ²+ε), per output channel, in float64. */
export function foldBatchNorm(graph: OnnxGraph, keep: (name: string) => boolean): void {
  const p = new Pattern(graph, keep);
  const dropped = new Set<OnnxNode>();
  for (const norm of graph.nodes) {
    if (norm.op !== 'BatchNormalization' || norm.attributes.get('training_mode') === 1) continue;
    const conv = p.only(norm.inputs[0], 'Conv');
    if (!conv) continue;
    const names = [conv.inputs[1], conv.inputs[2], ...norm.inputs.slice(1)].filter(Boolean);
    if (names.some((name) => graph.initializers.get(name)?.kind !== 'float' || keep(name))) continue;
    if (p.readers(conv.inputs[1]) !== 1) continue; // a weight that others read too would be held once for each
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
export function fuseConv(graph: OnnxGraph, keep: (name: string) => boolean): void {
  // The fused kernel has no gradient, but trained parameters may lie before it.
  if ([...graph.initializers.keys()].some(keep)) return;
  const p = new Pattern(graph, keep);
  /** The convolution that makes a value which nobody else reads. The fused kernel is for pictures. */
  const plainConv = (name: string): OnnxNode | null => {
    const conv = p.only(name, 'Conv');
    return conv && p.shape(conv.inputs[1])?.length === 4 ? conv : null;
  };
  const result: OnnxNode[] = [];
  const dropped = new Set<OnnxNode>();
  const fused = new Map<string, OnnxNode>();
  for (const node of graph.nodes) {
    let current = node;
    if (node.op === 'Add' && graph.opset >= 7) {
      const index = node.inputs.findIndex((name) => plainConv(name) && !fused.has(name));
      const other = node.inputs[1 - index];
      if (index >= 0 && !graph.initializers.has(other)) {
        const conv = plainConv(node.inputs[index]) as OnnxNode;
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
      const before = p.readers(node.inputs[0]) === 1 ? (fused.get(node.inputs[0]) ?? plainConv(node.inputs[0])) : null;
      if (before) {
        dropped.add(before);
        current = { ...before, op: 'FusedConv', outputs: node.outputs, attributes: new Map([...before.attributes, ['relu', 1]]) };
        fused.set(current.outputs[0], current);
      }
    }
    result.push(current);
  }
  graph.nodes = result.filter((node) => !dropped.has(node));
}
