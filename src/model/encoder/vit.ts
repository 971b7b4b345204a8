/**
 * Vision transformers with the weights of Hugging Face: ViT (Dosovitskiy and others 2021; DINO has its layers), DeiT, DINOv2, and the
 * image encoder of CLIP. A picture is cut into patches, each is projected to a token, and layers mix the tokens:
 *
 *   x = [class token; patches · W + b] + positions          (CLIP normalizes x once more here)
 *   x ← x + s1 · Attention(LN(x));   x ← x + s2 · (act(LN(x) W1 + b1) W2 + b2)     (s1 and s2 are 1 but for DINOv2)
 *   features = LN(x), without the tokens before the patches  (CLIP does not normalize them)
 *
 * Names of parameters are those of the file, without the model's prefix. Weights of products are kept as [in, out], the transpose
 * of the file's.
 */
import * as ops from '../../autograd/ops/index.ts';
import { FileError, UsageError } from '../../errors.ts';
import { Parameters } from '../../nn/parameters.ts';
import { printable } from '../../printable.ts';
import { Scope, type Tensor, tensor } from '../../tensor/tensor.ts';
import type { Backbone, FeaturePlace } from './backbone.ts';

/** What differs between the families: the names of their tensors, and which there are. */
export interface Family {
  /** What stands before the names in files that hold more than this model. */
  prefix: string;
  /** Tokens before the patches, by their tensors. */
  leading: readonly string[];
  positions: string;
  /** Whether position embeddings are interpolated for pictures of other sizes, as the model itself does. */
  interpolated: boolean;
  patches: string;
  patchBias: boolean;
  /** Layer norm of the embedded tokens, and of the result; null if there is none. */
  normBefore: string | null;
  normAfter: string | null;
  layers: string;
  block: Readonly<Record<'norm1' | 'query' | 'key' | 'value' | 'out' | 'norm2' | 'inner' | 'outer', string>>;
  /** Factors of the two parts of a layer. */
  scales: readonly [string, string] | null;
  /** Parts of a file that features do not need. */
  unused: RegExp;
}

const VIT: Family = {
  ...{ prefix: 'vit.', leading: ['embeddings.cls_token'], positions: 'embeddings.position_embeddings', interpolated: false },
  ...{ patches: 'embeddings.patch_embeddings.projection', patchBias: true, normBefore: null, normAfter: 'layernorm', layers: 'encoder.layer' },
  block: {
    ...{ norm1: 'layernorm_before', query: 'attention.attention.query', key: 'attention.attention.key', value: 'attention.attention.value' },
    ...{ out: 'attention.output.dense', norm2: 'layernorm_after', inner: 'intermediate.dense', outer: 'output.dense' },
  },
  scales: null,
  unused: /^(pooler|classifier|cls_classifier|distillation_classifier|decoder|embeddings\.mask_token)(\.|$)/,
};

const FAMILIES = {
  vit: VIT,
  deit: { ...VIT, prefix: 'deit.', leading: ['embeddings.cls_token', 'embeddings.distillation_token'] },
  dinov2: {
    ...VIT,
    ...{ prefix: 'dinov2.', interpolated: true },
    block: { ...VIT.block, norm1: 'norm1', norm2: 'norm2', inner: 'mlp.fc1', outer: 'mlp.fc2' },
    scales: ['layer_scale1.lambda1', 'layer_scale2.lambda1'],
  },
  clip: {
    ...{ prefix: 'vision_model.', leading: ['embeddings.class_embedding'], positions: 'embeddings.position_embedding.weight', interpolated: false },
    ...{ patches: 'embeddings.patch_embedding', patchBias: false, normBefore: 'pre_layrnorm', normAfter: null, layers: 'encoder.layers' },
    block: {
      ...{ norm1: 'layer_norm1', query: 'self_attn.q_proj', key: 'self_attn.k_proj', value: 'self_attn.v_proj', out: 'self_attn.out_proj' },
      ...{ norm2: 'layer_norm2', inner: 'mlp.fc1', outer: 'mlp.fc2' },
    },
    scales: null,
    unused: /^(text_model|text_projection|visual_projection|logit_scale|post_layernorm|embeddings\.position_ids)(\.|$)/,
  },
} satisfies Record<string, Family>;

const ACTIVATIONS = {
  gelu: ops.gelu,
  gelu_new: ops.geluTanh,
  quick_gelu: (x: Tensor) => ops.mul(x, ops.sigmoid(ops.scale(x, 1.702))),
  relu: ops.relu,
};
export type Activation = keyof typeof ACTIVATIONS;

/** What a model's `config.json` says. */
export interface VisionConfig {
  family: keyof typeof FAMILIES;
  /** Numbers of a token. */
  width: number;
  layers: number;
  heads: number;
  /** Width inside the feed-forward part. */
  inner: number;
  /** Sides of the picture and of a patch, in pixels. */
  side: number;
  patch: number;
  activation: Activation;
  /** Added to variances by layer norm. */
  epsilon: number;
  /** Whether query, key and value have biases. */
  qkvBias: boolean;
}

export const isActivation = (name: string): name is Activation => Object.hasOwn(ACTIVATIONS, name);
export const ACTIVATION_NAMES = Object.keys(ACTIVATIONS);

/** A weight of the file. */
export interface FileWeight {
  shape: readonly number[];
  load(): Float32Array;
}

type Kind = 'as it is' | 'product';

/** Every tensor that the features need, with its shape in the file. */
function tensorsOf(config: VisionConfig): Map<string, { shape: number[]; kind: Kind }> {
  const { width, layers, inner, side, patch, qkvBias } = config;
  const family: Family = FAMILIES[config.family];
  const isFlat = config.family === 'clip';
  const table = new Map<string, { shape: number[]; kind: Kind }>();
  const add = (name: string, shape: number[], kind: Kind = 'as it is') => table.set(name, { shape, kind });
  const norm = (name: string) => ['weight', 'bias'].forEach((part) => void add(`${name}.${part}`, [width]));
  const product = (name: string, from: number, to: number, bias = true) => {
    add(`${name}.weight`, [to, from], 'product');
    if (bias) add(`${name}.bias`, [to]);
  };
  const tokens = (side / patch) ** 2 + family.leading.length;
  for (const name of family.leading) add(name, isFlat ? [width] : [1, 1, width]);
  add(family.positions, isFlat ? [tokens, width] : [1, tokens, width]);
  add(`${family.patches}.weight`, [width, 3, patch, patch]);
  if (family.patchBias) add(`${family.patches}.bias`, [width]);
  if (family.normBefore) norm(family.normBefore);
  for (let i = 0; i < layers; i++) {
    const at = (part: keyof Family['block']) => `${family.layers}.${i}.${family.block[part]}`;
    norm(at('norm1'));
    for (const part of ['query', 'key', 'value'] as const) product(at(part), width, width, qkvBias);
    product(at('out'), width, width);
    norm(at('norm2'));
    product(at('inner'), width, inner);
    product(at('outer'), inner, width);
    for (const scale of family.scales ?? []) add(`${family.layers}.${i}.${scale}`, [width]);
  }
  if (family.normAfter) norm(family.normAfter);
  return table;
}

/** [to, from] → [from, to] */
export function transposed(data: Float32Array, [to, from]: readonly number[]): Float32Array {
  const out = new Float32Array(data.length);
  for (let j = 0; j < to; j++) for (let i = 0; i < from; i++) out[i * to + j] = data[j * from + i];
  return out;
}

/** Weights of the four neighbors of a place that lies the share t behind the second, by cubic convolution with a = −0.75, as in PyTorch. */
function cubicWeights(t: number): number[] {
  const near = (x: number) => (1.25 * x - 2.25) * x * x + 1;
  const far = (x: number) => -0.75 * (((x - 5) * x + 8) * x - 4);
  return [far(t + 1), near(t), near(1 - t), far(2 - t)];
}

/**
 * Position embeddings [1, leading + from², width] for a grid of another side: those of the grid are interpolated as PyTorch does (bicubic,
 * align_corners false), the leading ones stay.
 */
function interpolatedPositions(data: Float32Array, leading: number, from: number, to: number, width: number): Float32Array {
  const places = Array.from({ length: to }, (_, i) => {
    const at = ((i + 0.5) * from) / to - 0.5;
    const first = Math.floor(at);
    return cubicWeights(at - first).map((weight, k) => ({ weight, index: Math.min(from - 1, Math.max(0, first - 1 + k)) }));
  });
  const out = new Float32Array((leading + to * to) * width);
  out.set(data.subarray(0, leading * width));
  for (const [y, rows] of places.entries())
    for (const [x, columns] of places.entries())
      for (let c = 0; c < width; c++) {
        let sum = 0;
        for (const row of rows) for (const column of columns) sum += row.weight * column.weight * data[(leading + row.index * from + column.index) * width + c];
        out[(leading + y * to + x) * width + c] = sum;
      }
  return out;
}

/** "pooler (2), text_model (196)": parts of a file with their tensors counted. */
function partsOf(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) {
    const part = /^embeddings\./.test(name) ? name : name.split('.')[0];
    counts.set(part, (counts.get(part) ?? 0) + 1);
  }
  return [...counts].map(([part, count]) => `${printable(part)} (${count})`).join(', ');
}

/** The name of the features after all layers, and of those after the first n. */
const LAST = 'last_hidden_state';
const AFTER = /^hidden_states\.(\d{1,4})$/;

function layersUpTo(path: string, feature: string, layers: number): number {
  if (feature === LAST) return layers;
  const count = Number(AFTER.exec(feature)?.[1] ?? Number.NaN);
  if (count <= layers) return count;
  throw new UsageError(`${path}: --feature ${feature}: its features are ${LAST}, and hidden_states.0 to hidden_states.${layers}`);
}

/** Layers to train → beginnings of names: `last:N` stands for the last N layers. */
function layersToTrain(layers: readonly string[], { family }: VisionConfig, run: number, path: string): string[] {
  return layers.flatMap((layer) => {
    const count = /^last:(\d{1,4})$/.exec(layer)?.[1];
    if (count === undefined) return [layer];
    if (Number(count) < 1 || Number(count) > run) throw new UsageError(`${path}: its features pass ${run} layers; "${layer}" asks for ${count} of them`);
    return Array.from({ length: Number(count) }, (_, i) => `${FAMILIES[family].layers}.${run - 1 - i}`);
  });
}

/** The weights of a vision transformer that its features need, by the names of the file without the model's prefix. */
export interface VisionWeights {
  family: Family;
  /** Layers that the features pass. */
  run: number;
  /** Side of the pictures, in pixels. */
  side: number;
  /** Whether the features are normalized at the end. */
  isNormed: boolean;
  /** What each weight is here, with its values: products are [in, out]. */
  weights: ReadonlyMap<string, { shape: readonly number[]; load(): Float32Array }>;
  notes: string[];
}

/**
 * `path` is that of the weights, for errors. `side` is that of the pictures, which only DINOv2 lets be another than its own. Throws a
 * FileError with the tensor's name if one is missing, of another shape, or not known.
 */
export function visionWeights(
  config: VisionConfig,
  path: string,
  weights: ReadonlyMap<string, FileWeight>,
  feature: string = LAST,
  pictureSide: number = config.side,
): VisionWeights {
  const family: Family = FAMILIES[config.family];
  const table = tensorsOf(config);
  const notes: string[] = [];
  const run = layersUpTo(path, feature, config.layers);
  const side = family.interpolated ? pictureSide : config.side;
  if (side % config.patch !== 0) throw new UsageError(`${path}: patches of ${config.patch} pixels do not divide pictures of ${side}`);
  const prefix = weights.has(`${family.prefix}${family.positions}`) ? family.prefix : '';
  const bare = (name: string) => (prefix && name.startsWith(prefix) ? name.slice(prefix.length) : name);
  const others = [...weights.keys()].filter((name) => !table.has(bare(name)));
  for (const [name, { shape }] of table) {
    const found = weights.get(prefix + name);
    if (!found) throw new FileError(path, `has no tensor "${prefix}${name}" [${shape}], which a ${config.family} of ${config.layers} layers has`);
    if (found.shape.join() !== shape.join()) throw new FileError(path, `tensor "${prefix}${name}" is [${found.shape}]; by the configuration it is [${shape}]`);
  }
  const unknown = others.find((name) => !family.unused.test(bare(name)));
  if (unknown !== undefined) throw new FileError(path, `has a tensor "${printable(unknown)}", which a ${config.family} of ${config.layers} layers has not`);
  if (others.length > 0)
    notes.push(`${others.length === 1 ? '1 tensor of the file is' : `${others.length} tensors of the file are`} not used: ${partsOf(others.map(bare))}`);

  const passed = Array.from({ length: config.layers - run }, (_, i) => `${family.layers}.${run + i}`);
  const skipped = [...passed, ...(feature === LAST || !family.normAfter ? [] : [family.normAfter])];
  const used = [...table].filter(([name]) => !skipped.some((layer) => isIn(layer, name)));
  if (skipped.length > 0) notes.push(`${table.size - used.length} tensors behind ${feature} are not used`);

  const [from, to] = [config.side / config.patch, side / config.patch];
  const isPlaced = side !== config.side;
  if (isPlaced) notes.push(`position embeddings of ${from} × ${from} patches are interpolated to ${to} × ${to}`);
  const leading = family.leading.length;
  const held = (name: string, shape: number[], kind: Kind) => {
    const load = () => (weights.get(prefix + name) as FileWeight).load();
    if (kind === 'product') return { shape: [shape[1], shape[0]], load: () => transposed(load(), shape) };
    if (name !== family.positions || !isPlaced) return { shape, load };
    return { shape: [1, leading + to * to, config.width], load: () => interpolatedPositions(load(), leading, from, to, config.width) };
  };
  return {
    ...{ family, run, side, notes, isNormed: family.normAfter !== null && feature === LAST },
    weights: new Map(used.map(([name, { shape, kind }]) => [name, held(name, shape, kind)])),
  };
}

const isIn = (layer: string, name: string) => name === layer || name.startsWith(`${layer}.`);

/** A vision transformer with its weights on the device. */
export class VisionTransformer implements Backbone {
  readonly parameters = new Parameters();
  readonly place: FeaturePlace;
  readonly side: number;
  readonly notes: string[];
  private readonly weights = new Map<string, Tensor>();
  private readonly run: number;
  private readonly isNormed: boolean;

  /** As `visionWeights`. Of `tuned` layers, given by the beginnings of their names or as `last:N`, the parameters are trained. */
  constructor(
    readonly config: VisionConfig,
    path: string,
    weights: ReadonlyMap<string, FileWeight>,
    feature: string = LAST,
    tuned: readonly string[] = [],
    pictureSide: number = config.side,
  ) {
    const { family, run, side, isNormed, notes, weights: used } = visionWeights(config, path, weights, feature, pictureSide);
    [this.run, this.side, this.isNormed, this.notes] = [run, side, isNormed, notes];
    this.place = { featureMap: feature, layout: 'NTC', dropped: family.leading.length };
    const layers = layersToTrain(tuned, config, this.run, path);
    const unmatched = layers.find((layer) => ![...used.keys()].some((name) => isIn(layer, name)));
    if (unmatched !== undefined)
      throw new UsageError(
        `${path} has no layer called "${unmatched}" before its features (last:1, or ${family.layers}.0 to ${family.layers}.${this.run - 1})`,
      );
    try {
      for (const [name, { shape, load }] of used) {
        const isTrained = layers.some((layer) => isIn(layer, name));
        this.weights.set(name, isTrained ? this.parameters.add(name, shape, load()) : Scope.release(tensor(load(), shape, 'f32', name)));
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  private weight(name: string): Tensor {
    return this.weights.get(name) as Tensor; // all of the table are there
  }

  private linear(x: Tensor, name: string): Tensor {
    const weight = this.weight(`${name}.weight`);
    const bias = this.weights.get(`${name}.bias`);
    const rows = ops.reshape(x, [x.size / weight.shape[0], weight.shape[0]]);
    return ops.reshape(ops.matmul(rows, weight, bias ? { bias } : {}), [...x.shape.slice(0, -1), weight.shape[1]]);
  }

  private norm(x: Tensor, name: string): Tensor {
    return ops.layerNorm(x, this.weight(`${name}.weight`), this.weight(`${name}.bias`), this.config.epsilon);
  }

  /** softmax(Q Kᵀ / √d) V in each head. x [N, T, H] → [N, T, H]. */
  private attention(x: Tensor, at: (part: keyof Family['block']) => string): Tensor {
    const [count, tokens, width] = x.shape;
    const { heads } = this.config;
    const split = (part: 'query' | 'key' | 'value') =>
      ops.transpose(ops.reshape(this.linear(x, at(part)), [count, tokens, heads, width / heads]), [0, 2, 1, 3]);
    const mixed = ops.scaledDotProductAttention(split('query'), split('key'), split('value'));
    return this.linear(ops.reshape(ops.transpose(mixed, [0, 2, 1, 3]), [count, tokens, width]), at('out'));
  }

  private block(x: Tensor, i: number): Tensor {
    const family: Family = FAMILIES[this.config.family];
    const at = (part: keyof Family['block']) => `${family.layers}.${i}.${family.block[part]}`;
    const scaled = (part: Tensor, which: 0 | 1) => (family.scales ? ops.mul(part, this.weight(`${family.layers}.${i}.${family.scales[which]}`)) : part);
    const seen = ops.add(x, scaled(this.attention(this.norm(x, at('norm1')), at), 0));
    const inner = ACTIVATIONS[this.config.activation](this.linear(this.norm(seen, at('norm2')), at('inner')));
    return ops.add(seen, scaled(this.linear(inner, at('outer')), 1));
  }

  encode(pixels: Tensor): Tensor {
    const { width, patch } = this.config;
    const family: Family = FAMILIES[this.config.family];
    const count = pixels.shape[0];
    const grid = (this.side / patch) ** 2;
    const bias = family.patchBias ? this.weight(`${family.patches}.bias`) : null;
    const patches = ops.reshape(ops.conv2d(pixels, this.weight(`${family.patches}.weight`), bias, { stride: patch }), [count, width, grid]);
    const leading = family.leading.map((name) => ops.broadcastTo(ops.reshape(this.weight(name), [1, 1, width]), [count, 1, width]));
    let x = ops.concat([...leading, ops.transpose(patches, [0, 2, 1])], 1);
    x = ops.add(x, ops.reshape(this.weight(family.positions), [1, grid + leading.length, width]));
    if (family.normBefore) x = this.norm(x, family.normBefore);
    for (let i = 0; i < this.run; i++) x = this.block(x, i);
    if (family.normAfter && this.isNormed) x = this.norm(x, family.normAfter);
    return ops.slice(x, [0, leading.length, 0], [count, grid, width]);
  }

  dispose(): void {
    for (const weight of this.weights.values()) weight.dispose();
    this.weights.clear();
    this.parameters.dispose();
  }
}
