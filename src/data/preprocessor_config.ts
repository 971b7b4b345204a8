/**
 * How pictures are prepared, from the `preprocessor_config.json` of Hugging Face. What is not in the file has the default of the
 * image processor that it names. What would be done otherwise here is refused.
 */
import { z } from 'zod';
import { FileError } from '../errors.ts';
import { preprocessingFault, type SaidPreprocessing } from './preprocessing.ts';
import type { Filter } from './resample.ts';
import { readText } from './text.ts';
import { listed, parseJson, quoted } from './validation.ts';

export const PREPROCESSOR_CONFIG = 'preprocessor_config.json';

/** Numbers of Pillow's filters. */
const FILTERS: Readonly<Record<number, Filter>> = { 1: 'lanczos', 2: 'bilinear', 3: 'bicubic' };
const OTHER_FILTERS: Readonly<Record<number, string>> = { 0: 'nearest', 4: 'box', 5: 'hamming' };

interface Defaults {
  resample: number;
  crop: boolean;
  /** What a size of one number says. */
  edge: 'both' | 'shortest';
}

/** Image processors by the beginning of their names, from the classes of transformers 4. */
const PROCESSORS: Readonly<Record<string, Defaults>> = {
  ViT: { resample: 2, crop: false, edge: 'both' },
  DeiT: { resample: 3, crop: true, edge: 'both' },
  CLIP: { resample: 3, crop: true, edge: 'shortest' },
  Bit: { resample: 3, crop: true, edge: 'shortest' },
  ConvNext: { resample: 2, crop: false, edge: 'shortest' },
};

/** The image processor of a `model_type`, for files that name none. */
const PROCESSOR_OF: Readonly<Record<string, string>> = {
  ...{ vit: 'ViT', deit: 'DeiT', clip: 'CLIP', clip_vision_model: 'CLIP', dinov2: 'Bit', swin: 'ViT', convnext: 'ConvNext' },
};

const Side = z.number().int().positive();
const Channels = z.tuple([z.number(), z.number(), z.number()]);
const Config = z
  .object({
    image_processor_type: z.string().optional(),
    feature_extractor_type: z.string().optional(),
    size: z.union([Side, z.object({ shortest_edge: Side }).strict(), z.object({ height: Side, width: Side }).strict()]),
    crop_size: z.union([Side, z.object({ height: Side, width: Side }).strict()]).nullish(),
    resample: z.number().int().nullish(),
    crop_pct: z.number().positive().max(1).nullish(),
    rescale_factor: z.number().positive().nullish(),
    image_mean: Channels.nullish(),
    image_std: Channels.nullish(),
  })
  .catchall(z.unknown());

/** Steps that are done here. Others that a file asks for are refused. */
const STEPS = ['do_resize', 'do_center_crop', 'do_rescale', 'do_normalize', 'do_convert_rgb', 'do_flip_channel_order'];

/** 0.00392156862745098 is 1/255 as far as a file can say it. */
function divisorOf(factor: number): number {
  const inverse = 1 / factor;
  return Math.abs(inverse - Math.round(inverse)) < 1e-9 * inverse ? Math.round(inverse) : inverse;
}

/** Reads a `preprocessor_config.json`. `modelType` is the `model_type` of its model, if known. Throws a FileError that names the field. */
export function readPreprocessorConfig(path: string, modelType?: string): SaidPreprocessing {
  const fail = (problem: string): never => {
    throw new FileError(path, problem);
  };
  const config = parseJson(path, readText(path), Config, 'is no configuration of an image processor');
  const unknown = Object.entries(config).flatMap(([name, value]) => (/^do_/.test(name) && value === true && !STEPS.includes(name) ? [name] : []));
  if (unknown.length > 0) fail(`asks for ${listed(unknown)}, which is not done here`);
  const type = config.image_processor_type ?? config.feature_extractor_type;
  const name = type === undefined ? (PROCESSOR_OF[modelType ?? ''] ?? '') : /^(\w+?)(ImageProcessor|FeatureExtractor)(Fast)?$/.exec(type)?.[1];
  const defaults = name !== undefined && Object.hasOwn(PROCESSORS, name) ? PROCESSORS[name] : null;
  const missing = (field: string): never =>
    fail(`has no ${field}, and ${type === undefined ? 'names no image processor' : `the default of ${quoted(type)} is not known here`}`);
  const flag = (field: string, otherwise: () => boolean): boolean => {
    const value = (config as Record<string, unknown>)[field];
    if (value === undefined || value === null) return otherwise();
    return typeof value === 'boolean' ? value : fail(`${field}: expected true or false, received ${quoted(String(value))}`);
  };
  if (!flag('do_resize', () => true)) fail('does not resize pictures (do_resize is false); the encoder needs pictures of one size');

  const number = config.resample ?? defaults?.resample ?? missing('resample');
  const filter = FILTERS[number] ?? fail(`resample ${number}${number in OTHER_FILTERS ? ` (${OTHER_FILTERS[number]})` : ''} is not done here; 1, 2 and 3 are`);
  const { size } = config;
  const square = (field: string, value: number | { height: number; width: number }): number => {
    if (typeof value === 'number') return value;
    return value.height === value.width ? value.height : fail(`${field}: ${value.height} × ${value.width} pixels; only squares are taken`);
  };
  const isShortest = typeof size === 'number' ? (defaults ?? missing('size as an object')).edge === 'shortest' : 'shortest_edge' in size;
  let to = typeof size === 'object' && 'shortest_edge' in size ? size.shortest_edge : square('size', size);
  let crop = to;
  const cropped = flag('do_center_crop', () =>
    defaults || config.crop_size === undefined || config.crop_size === null ? (defaults?.crop ?? false) : missing('do_center_crop'),
  );
  let edge: 'both' | 'shortest' = isShortest ? 'shortest' : 'both';
  if (name === 'ConvNext') {
    // Up to 384 pixels the shortest edge is scaled to more and the middle cut out; from 384 on the picture is warped.
    if (to < 384) to = Math.trunc(to / (config.crop_pct ?? 224 / 256));
    else edge = 'both';
  } else if (cropped) crop = square('crop_size', config.crop_size ?? missing('crop_size'));
  else if (isShortest) fail('scales the shortest edge and crops nothing, so pictures would differ in size; only squares are taken');

  const isNormalized = flag('do_normalize', () => true);
  const preprocessing: SaidPreprocessing = {
    ...{ size: crop, resize: { edge, to, filter }, order: flag('do_flip_channel_order', () => false) ? 'bgr' : 'rgb' },
    divisor: flag('do_rescale', () => true) ? divisorOf(config.rescale_factor ?? 1 / 255) : 1,
    mean: isNormalized ? (config.image_mean ?? fail('has no image_mean')) : [0, 0, 0],
    deviation: isNormalized ? (config.image_std ?? fail('has no image_std')) : [1, 1, 1],
  };
  const fault = preprocessingFault(preprocessing);
  return fault ? fail(fault) : preprocessing;
}
