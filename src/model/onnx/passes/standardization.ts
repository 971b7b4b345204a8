/**
 * Weight standardization (Qiao et al. 2019): NFNets and BiT's ResNets give each output channel of a convolution's weight a mean of 0 and a
 * variance of 1. Exporters write that as a batch normalization of the weight by its own statistics. It is computed once, when the weight is
 * read.
 */
import { sizeOf } from '../../../tensor/shape.ts';
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../proto.ts';
import { Pattern, rewritten } from './pattern.ts';

type Keep = (name: string) => boolean;

/** Whether a node takes the mean of [1, O, n] for each of the O channels. */
function isChannelMean(p: Pattern, node: OnnxNode | null, keepdims: boolean): node is OnnxNode {
  if (!node) return false;
  const axes = node.attributes.get('axes') ?? (node.inputs[1] ? p.graph.initializers.get(node.inputs[1])?.load().data : null);
  return Array.isArray(axes) && axes.join() === '0,2' && (node.attributes.get('keepdims') !== 0) === keepdims;
}

/** Whether two values are the mean and the variance of the channels of a value [1, O, n]. */
function isOwnStatistics(p: Pattern, view: string, mean: string, variance: string): boolean {
  const first = p.maker(mean, 'ReduceMean');
  const second = p.maker(variance, 'ReduceMean');
  if (!isChannelMean(p, first, false) || first.inputs[0] !== view || !isChannelMean(p, second, false)) return false;
  const square = p.maker(second.inputs[0], 'Mul');
  const centered = square && square.inputs[0] === square.inputs[1] ? p.maker(square.inputs[0], 'Sub') : null;
  const center = centered && p.maker(centered.inputs[1], 'ReduceMean');
  return centered?.inputs[0] === view && isChannelMean(p, center, true) && center.inputs[0] === view;
}

/** The mean and the variance of numbers, in float64. */
function statisticsOf(values: Float32Array): { mean: number; variance: number } {
  let [sum, squares] = [0, 0];
  for (const value of values) sum += value;
  const mean = sum / values.length;
  for (const value of values) squares += (value - mean) ** 2;
  return { mean, variance: squares / values.length };
}

/** (w − μ) / √(σ² + ε) · γ + β for each of the channels, by its own statistics or by those that are given. */
function standardized(weight: Float32Array, [gamma, beta, means, variances]: readonly Float32Array[], epsilon: number): Float32Array {
  const each = weight.length / gamma.length;
  const out = new Float32Array(weight.length);
  for (const [channel, scale] of gamma.entries()) {
    const own = weight.subarray(channel * each, (channel + 1) * each);
    const { mean, variance } = means ? { mean: means[channel], variance: variances[channel] } : statisticsOf(own);
    const factor = scale / Math.sqrt(variance + epsilon);
    for (const [i, value] of own.entries()) out[channel * each + i] = (value - mean) * factor + beta[channel];
  }
  return out;
}

export function foldStandardization(graph: OnnxGraph, keep: Keep): void {
  const p = new Pattern(graph, keep);
  const replaced = new Map<OnnxNode, readonly OnnxNode[]>();
  const floats = (name: string | undefined): OnnxTensor | null => {
    const tensor = graph.initializers.get(name ?? '');
    return tensor?.kind === 'float' && !keep(tensor.name) ? tensor : null;
  };
  const numbers = (tensor: OnnxTensor): Float32Array => {
    const { data } = tensor.load();
    return data instanceof Float32Array ? data : Float32Array.from(data);
  };
  for (const back of graph.nodes) {
    if (back.op !== 'Reshape') continue;
    const norm = p.only(back.inputs[0], 'BatchNormalization');
    if (!norm || norm.attributes.get('training_mode') === 1 || norm.outputs.slice(1).some((name) => name !== '')) continue;
    const [view, gammaName, betaName, mean, variance] = norm.inputs;
    // What is small is a constant already.
    const flat = p.maker(view, 'Reshape');
    const weight = floats(flat ? flat.inputs[0] : view);
    const target = flat ? Array.from(graph.initializers.get(flat.inputs[1])?.load().data ?? []) : weight?.shape;
    const gamma = floats(gammaName);
    if (!weight || !target || gamma?.shape.length !== 1) continue;
    const [channels] = gamma.shape;
    const given = [mean, variance].map(floats);
    const isKnown = given.every((each) => each !== null);
    const parameters = [gamma, floats(betaName), ...(isKnown ? given : [])];
    const isOfChannels = parameters.every((each) => each?.shape.join() === String(channels));
    const isFlat = target.length === 3 && target[0] === 1 && target[1] === channels && sizeOf(weight.shape) > 0 && sizeOf(weight.shape) % channels === 0;
    const shape = Array.from(graph.initializers.get(back.inputs[1])?.load().data ?? []);
    const isWhole = shape.length > 0 && shape.every((extent) => extent > 0) && sizeOf(shape) === sizeOf(weight.shape);
    if (!isOfChannels || !isFlat || !isWhole || !(isKnown || isOwnStatistics(p, view, mean, variance))) continue;
    const epsilon = (norm.attributes.get('epsilon') as number | undefined) ?? 1e-5;
    const [name] = back.outputs;
    const load = () => ({
      ...{ kind: 'float' as const, shape },
      data: standardized(
        numbers(weight),
        parameters.map((each) => numbers(each as OnnxTensor)),
        epsilon,
      ),
    });
    graph.initializers.set(name, { name, kind: 'float', shape, load });
    replaced.set(back, []);
  }
  rewritten(graph, replaced);
}
