/** An ONNX graph as an encoder: up to the last feature map of a convolutional network, or up to any value that is named. */
import * as ops from '../../autograd/ops/index.ts';
import { noGrad } from '../../autograd/tape.ts';
import type { ByteSource } from '../../data/bytes.ts';
import type { Layout } from '../../data/feature_layout.ts';
import { GlimpseError, UsageError } from '../../errors.ts';
import type { NamedArray, Parameters } from '../../nn/parameters.ts';
import { printable } from '../../printable.ts';
import { scope, type Tensor, zeros } from '../../tensor/tensor.ts';
import { PASS_NAMES } from '../onnx/passes/index.ts';
import type { OnnxGraph, OnnxNode } from '../onnx/proto.ts';
import { OnnxModel } from '../onnx/run.ts';
import { type Backbone, type FeaturePlace, leadingTokens } from './backbone.ts';

const isIn = (layers: readonly string[], name: string) => layers.some((layer) => name === layer || name.startsWith(`${layer}.`));

/** What a graph is opened with, as an encoder. */
export interface GraphOptions extends Partial<FeaturePlace> {
  /** Layers whose convolutions are trained, by the beginnings of their initializers' names. `weights` replace those of the file. */
  tuned?: { layers: readonly string[]; weights?: ReadonlyMap<string, NamedArray> } | undefined;
}

const CONVOLUTIONS = ['Conv', 'FusedConv'];
/** Operators of layers over tokens. Behind the last convolution they say that its map is not what the network sees at its end. */
const OVER_TOKENS = ['LayerNormalization', 'Erf', 'Gelu', 'Attention', 'FusedAttention', 'MultiHeadAttention'];
const POOLS = ['GlobalAveragePool', 'ReduceMean'];
/** Averages at the end of a graph that are looked at: pooling, and the means within the norms behind it. */
const LOOKED_AT = 8;

/** Whether layers over tokens follow the last convolution. */
function endsInTokens({ nodes }: OnnxGraph): boolean {
  const behind = nodes.slice(nodes.findLastIndex(({ op }) => CONVOLUTIONS.includes(op)) + 1);
  const feedsProduct = ([output]: readonly string[]) => behind.some(({ op, inputs }) => op === 'MatMul' && inputs.includes(output));
  return behind.some(({ op, outputs }) => OVER_TOKENS.includes(op) || (op === 'Softmax' && feedsProduct(outputs)));
}

/** Values that may be features: what the graph gives, and its last normalized tokens. */
function candidates({ outputs, nodes }: OnnxGraph): string {
  const normalized = nodes.filter(({ op }) => op === 'LayerNormalization').map((node) => node.outputs[0]);
  return [...new Set([...outputs, ...normalized.slice(-3)])].map((name) => `"${printable(name)}"`).join(', ');
}

/** The order of the axes of a map [N, …] that pooling turns into [N, C], told by which extents are left; null if it is no pooling. */
function pooledLayout(map: readonly number[], pooled: readonly number[]): Layout | null {
  const left = pooled.slice(1).filter((extent) => extent > 1);
  if (left.length !== 1) return null;
  const [channels] = left;
  const atEnd = pooled.length === 2 || pooled[pooled.length - 1] === channels;
  if (map.length === 3) return atEnd && map[1] > 1 && map[2] === channels ? 'NTC' : null;
  if (map.length !== 4) return null;
  if (map[1] === channels && map[2] * map[3] > 1 && map[2] === map[3] && (pooled.length === 2 || !atEnd)) return 'NCHW';
  return map[3] === channels && map[1] * map[2] > 1 && map[1] === map[2] && atEnd ? 'NHWC' : null;
}

/** An ONNX model up to its features. */
export class GraphBackbone implements Backbone {
  readonly place: FeaturePlace;
  readonly side = null;
  readonly notes: readonly string[] = [];

  private constructor(
    private readonly model: OnnxModel,
    { featureMap, layout, dropped }: Partial<FeaturePlace>,
    size: number,
  ) {
    if (featureMap === undefined) this.place = this.found(size);
    else if (layout === undefined || dropped === undefined) this.place = this.placed(featureMap, layout, size);
    else this.place = { featureMap, layout, ...(layout === 'NTC' ? { dropped } : {}) }; // known from before
  }

  /**
   * Reads the source and closes it. Its pictures have sides of `size` pixels. Throws a FileError or a UsageError
   * that names what to give, if the features or a layer to train cannot be found.
   */
  static open(source: ByteSource, size: number, { tuned, ...place }: GraphOptions = {}): GraphBackbone {
    const { name: path } = source;
    const layers = tuned?.layers ?? [];
    // Batch normalization keeps its parameters and statistics. Batches of a few pictures would only disturb it.
    const trainable = (weight: string, shape: readonly number[]) => shape.length === 4 && isIn(layers, weight);
    const load = (from: ByteSource, without: readonly string[] = []) =>
      OnnxModel.load(from, { refuseNaN: true, without, ...(layers.length > 0 ? { trainable } : {}) });
    const makes = (graph: OnnxGraph, name: string) => graph.nodes.some(({ outputs }) => outputs.includes(name));
    const { featureMap } = place;
    let model: OnnxModel;
    try {
      model = load({ ...source, close: () => {} });
      // A value within what was made one node is there only without that.
      if (featureMap !== undefined && !makes(model.graph, featureMap)) {
        model.dispose();
        model = load(
          { ...source, close: () => {} },
          PASS_NAMES.filter((name) => name !== 'layouts'),
        );
      }
    } finally {
      source.close();
    }
    try {
      const { graph } = model;
      const unknown = layers.find((layer) => ![...model.parameters.all.keys()].some((weight) => isIn([layer], weight)));
      if (unknown !== undefined) {
        const known = new Set([...graph.initializers.keys()].flatMap((weight) => (weight.includes('.') ? [weight.split('.')[0]] : [])));
        throw new UsageError(`${path} has no convolution in a layer called "${unknown}" (its weights begin with ${[...known].join(', ')})`);
      }
      if (tuned?.weights) model.parameters.write(tuned.weights);
      if (featureMap !== undefined && !makes(graph, featureMap))
        throw new UsageError(`${path} makes no value called "${printable(featureMap)}"; some of its values are ${candidates(graph)}`);
      return new GraphBackbone(model, place, size);
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  /** The parameters that are trained. */
  get parameters(): Parameters {
    return this.model.parameters;
  }

  private get path(): string {
    return this.model.graph.path;
  }

  /** Shapes of values for one picture of zeros, in the file's order of axes. */
  private shapes(names: readonly string[], size: number): (readonly number[])[] {
    using _probe = scope();
    const { model } = this;
    return noGrad(() => model.run({ [model.graph.inputs[0].name]: zeros([1, 3, size, size]) }, names).map(({ shape }) => shape));
  }

  /** The last feature map, where the graph tells it: what is pooled at the end. */
  private found(size: number): FeaturePlace {
    const { graph } = this.model;
    if (!endsInTokens(graph)) return { featureMap: this.lastMap(size) };
    const pools: OnnxNode[] = graph.nodes.filter(({ op }) => POOLS.includes(op)).slice(-LOOKED_AT);
    const shapes = pools.length > 0 ? this.shapes([...pools.map(({ inputs }) => inputs[0]), ...pools.map(({ outputs }) => outputs[0])], size) : [];
    for (let i = pools.length - 1; i >= 0; i--) {
      const layout = pooledLayout(shapes[i], shapes[pools.length + i]);
      if (!layout) continue;
      const [map] = pools[i].inputs;
      const featureMap = graph.turned.get(map) ?? map;
      return layout === 'NTC'
        ? { featureMap, layout, dropped: leadingTokens(`${this.path}: "${printable(featureMap)}"`, shapes[i][1]) }
        : { featureMap, layout };
    }
    throw new UsageError(
      `${this.path} has layers over tokens behind its last convolution, and no pooling of them: name its features with --feature; it has ${candidates(graph)}`,
    );
  }

  /**
   * What is pooled behind the last convolution. Some heads convolve what they pooled, as MobileNetV3's in timm: the last map has one place
   * then, and the features are what was pooled.
   */
  private lastMap(size: number): string {
    const { featureMapName: named, graph } = this.model;
    const pool = graph.nodes.findLast(({ op }) => POOLS.includes(op));
    if (!pool || graph.nodes.indexOf(pool) > graph.nodes.findLastIndex(({ op }) => CONVOLUTIONS.includes(op))) return named;
    const [last, map, pooled] = this.shapes([named, pool.inputs[0], pool.outputs[0]], size).map((shape) => shape.slice(2).join());
    return last === '1,1' && pooled === '1,1' && map !== '1,1' ? pool.inputs[0] : named;
  }

  /** The place of a named value, from its shape for one picture. */
  private placed(featureMap: string, given: Layout | undefined, size: number): FeaturePlace {
    const [shape] = this.shapes([featureMap], size);
    const name = `${this.path}: "${printable(featureMap)}" [${shape}]`;
    const [, a, b, c] = shape;
    if (shape.length === 3) {
      if (given !== undefined && given !== 'NTC') throw new UsageError(`${name} has three axes, [N, T, C]; --layout ${given} has four`);
      return { featureMap, layout: 'NTC', dropped: leadingTokens(name, a) };
    }
    if (shape.length !== 4 || given === 'NTC') throw new UsageError(`${name} is no feature map: [N, C, H, W], [N, H, W, C] or [N, T, C] is expected`);
    const able: Layout[] = [...(b === c ? ['NCHW' as const] : []), ...(a === b ? ['NHWC' as const] : [])];
    if (given !== undefined && !able.includes(given)) throw new UsageError(`${name} has no square of regions as ${given}`);
    if (able.length === 0) throw new UsageError(`${name} is no feature map with a square of regions`);
    if (given === undefined && able.length > 1) throw new UsageError(`${name} may be [N, C, H, W] or [N, H, W, C]: say which with --layout`);
    return { featureMap, layout: given ?? able[0] };
  }

  encode(pixels: Tensor): Tensor {
    const { featureMap, layout, dropped = 0 } = this.place;
    const channelsLast = layout === undefined || layout === 'NCHW';
    const [map] = this.model.run({ [this.model.graph.inputs[0].name]: pixels }, [featureMap], channelsLast);
    const rank = layout === 'NTC' ? 3 : 4;
    if (map.rank !== rank) throw new GlimpseError(`${this.path}: "${printable(featureMap)}" [${map.shape}] has ${map.rank} axes, ${rank} are expected`);
    if (layout !== 'NTC') return ops.reshape(map, [map.shape[0], map.shape[1] * map.shape[2], map.shape[3]]);
    const [count, tokens, width] = map.shape;
    if (!(tokens > dropped)) throw new GlimpseError(`${this.path}: "${printable(featureMap)}" has ${tokens} tokens, of which ${dropped} would be left out`);
    return dropped === 0 ? map : ops.slice(map, [0, dropped, 0], [count, tokens - dropped, width]);
  }

  dispose(): void {
    this.model.dispose();
  }
}
