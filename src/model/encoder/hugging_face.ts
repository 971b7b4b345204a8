/**
 * Vision transformers as Hugging Face stores them: a folder with `config.json` and `model.safetensors`. What the configuration does not
 * say has the default of its class in transformers 4. A model that would be computed otherwise here is refused.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { openFile } from '../../data/file_source.ts';
import { CONFIG, Count, readModelConfig, WEIGHTS, Width } from '../../data/hugging_face.ts';
import { parseWeights } from '../../data/safetensors_format.ts';
import { checkedBy, listed, quoted } from '../../data/validation.ts';
import { FileError } from '../../errors.ts';
import type { EncoderOptions } from './network.ts';
import { ACTIVATION_NAMES, isActivation, type VisionConfig, VisionTransformer } from './vit.ts';

/** The files of a vision transformer. */
export interface VisionFiles {
  folder: string;
  config: string;
  weights: string;
}

const isFolder = (path: string) => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** What a folder without weights as safetensors holds instead. */
function faultOfFolder(folder: string): string {
  const names = readdirSync(folder).sort();
  const graphs = names.filter((name) => /\.onnx(\.gz)?$/.test(name));
  if (graphs.length > 0) return `holds no ${WEIGHTS}; give the ONNX file itself: ${listed(graphs)}`;
  if (names.includes(`${WEIGHTS}.index.json`)) return `its weights are split over several files; join them into one ${WEIGHTS}`;
  if (names.some((name) => /\.(bin|pth|pt|ckpt)$/.test(name))) return `its weights are a Python pickle, which is not read; save them as ${WEIGHTS}`;
  return `holds no ${WEIGHTS}; an encoder is an ONNX file, or a folder of Hugging Face with ${CONFIG} and ${WEIGHTS}`;
}

/** The files of a vision transformer, from its folder or its weights' file; null for a file of another kind. Throws a FileError if one is not there. */
export function visionFiles(path: string): VisionFiles | null {
  const folder = isFolder(path) ? path : path.endsWith('.safetensors') ? dirname(path) : null;
  if (folder === null) return null;
  const weights = folder === path ? join(folder, WEIGHTS) : path;
  if (folder === path && !existsSync(weights)) throw new FileError(path, faultOfFolder(path));
  const config = join(folder, CONFIG);
  if (!existsSync(config)) throw new FileError(path, `has no ${CONFIG} beside ${basename(weights)}, which says what kind of network it is`);
  return { folder, config, weights };
}

const withDefaults = (patch: number, epsilon: number, activation: string) => ({
  hidden_size: Width.default(768),
  num_hidden_layers: Count.default(12),
  num_attention_heads: Count.default(12),
  image_size: z.number().int().min(1).max(4096).default(224),
  patch_size: z.number().int().min(1).max(1024).default(patch),
  num_channels: z.literal(3).default(3),
  hidden_act: z.string().default(activation),
  layer_norm_eps: z.number().min(0).max(1).default(epsilon),
});

const Vit = z.object({ ...withDefaults(16, 1e-12, 'gelu'), intermediate_size: Width.default(3072), qkv_bias: z.boolean().default(true) });
const Dino = z.object({
  ...withDefaults(14, 1e-6, 'gelu'),
  mlp_ratio: z.number().positive().max(64).default(4),
  qkv_bias: z.boolean().default(true),
  use_swiglu_ffn: z.literal(false).default(false),
});
const Clip = z.object({ ...withDefaults(32, 1e-5, 'quick_gelu'), intermediate_size: Width.default(3072) });

const VERDICT = 'is no configuration of a vision transformer';
const MODEL_TYPES = ['vit', 'deit', 'dinov2', 'clip', 'clip_vision_model'] as const;

/** Other names of activations. */
const SYNONYMS: Readonly<Record<string, string>> = { gelu_pytorch_tanh: 'gelu_new' };

/** Reads a `config.json`. Throws a FileError that names the field. */
export function readVisionConfig(path: string): { config: VisionConfig; modelType: string } {
  const found = readModelConfig(path, VERDICT);
  const modelType = MODEL_TYPES.find((name) => name === found.model_type);
  if (!modelType)
    throw new FileError(path, `model_type ${quoted(found.model_type)} is not read directly (${MODEL_TYPES.join(', ')} are); export the model as ONNX`);
  const checked = <T>(schema: z.ZodType<T>, value: unknown = found) => checkedBy(path, schema, value, VERDICT);
  const inVision = modelType === 'clip' ? checked(z.looseObject({ vision_config: z.looseObject({}) })).vision_config : found;
  const read = (): z.infer<typeof Clip> & { qkv_bias: boolean; family: VisionConfig['family'] } => {
    if (modelType === 'vit' || modelType === 'deit') return { ...checked(Vit), family: modelType };
    if (modelType !== 'dinov2') return { ...checked(Clip, inVision), qkv_bias: true, family: 'clip' };
    const dino = checked(Dino);
    return { ...dino, intermediate_size: Math.trunc(dino.hidden_size * dino.mlp_ratio), family: 'dinov2' };
  };
  const { hidden_size: width, num_attention_heads: heads, image_size: side, patch_size: patch, hidden_act: act, ...rest } = read();
  const activation = SYNONYMS[act] ?? act;
  if (!isActivation(activation))
    throw new FileError(path, `hidden_act ${quoted(act)} is not known (${[...ACTIVATION_NAMES, ...Object.keys(SYNONYMS)].join(', ')})`);
  if (width % heads !== 0) throw new FileError(path, `${heads} attention heads do not share a width of ${width} evenly`);
  if (side % patch !== 0) throw new FileError(path, `patches of ${patch} pixels do not divide pictures of ${side}`);
  const { family, num_hidden_layers: layers, intermediate_size: inner, layer_norm_eps: epsilon, qkv_bias: qkvBias } = rest;
  return { config: { family, width, layers, heads, inner, side, patch, activation, epsilon, qkvBias }, modelType };
}

/** The network of these files, for pictures with sides of `side` pixels. Throws a FileError with the name of a tensor or field that does not fit. */
export function openVision({ weights }: VisionFiles, config: VisionConfig, { feature, tuned }: EncoderOptions, side: number): VisionTransformer {
  const file = openFile(weights);
  try {
    const network = new VisionTransformer(config, weights, parseWeights(file), feature, tuned?.layers, side);
    try {
      if (tuned?.weights) network.parameters.write(tuned.weights);
    } catch (error) {
      network.dispose();
      throw error;
    }
    return network;
  } finally {
    file.close();
  }
}
