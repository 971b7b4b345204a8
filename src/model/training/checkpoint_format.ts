/**
 * Checkpoints: one safetensors file with weights and optimizer moments. Its metadata has everything else that resuming or
 * captioning needs: configuration, vocabulary, progress, and the encoder.
 */
import { z } from 'zod';
import type { ByteSource } from '../../data/bytes.ts';
import { EncoderIdentity } from '../../data/encoder_identity.ts';
import { renamedKeys, renamedValue } from '../../data/renamed.ts';
import { parseSafetensors } from '../../data/safetensors_format.ts';
import { parseJson } from '../../data/validation.ts';
import { FileError } from '../../errors.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import type { Kind } from '../../options.ts';
import { CHECKPOINTED, type FieldsOf, LOSSES, type TrainingRow } from './options.ts';

/** What the metadata of a checkpoint says it is. */
export const FORMAT = 'glimpse checkpoint 1';

/** The schema of a field, from the values of its option. Old names of values are read as the new ones. */
function fieldSchema({ values: { kind, choices = [], range = {}, renamed }, absent }: TrainingRow): z.ZodType {
  const numeric = () => {
    let schema = kind === 'whole' ? z.number().int() : z.number();
    if (range.atLeast !== undefined) schema = schema.min(range.atLeast);
    if (range.above !== undefined) schema = schema.gt(range.above);
    if (range.atMost !== undefined) schema = schema.max(range.atMost);
    if (range.below !== undefined) schema = schema.lt(range.below);
    return schema;
  };
  const schemas: Partial<Record<Kind, () => z.ZodType>> = {
    ...{ whole: numeric, number: numeric, flag: z.boolean, switch: z.boolean },
    choice: () => z.preprocess(renamedValue(renamed?.names ?? {}), z.enum(choices)),
  };
  const schema = schemas[kind]?.();
  if (!schema) throw new Error(`an option of the kind "${kind}" is no field of a checkpoint`);
  return absent === undefined ? schema : schema.default(absent);
}

type SchemasOf<R extends Readonly<Record<string, TrainingRow>>> = { [K in keyof FieldsOf<R>]: z.ZodType<FieldsOf<R>[K]> };

function fieldSchemas<R extends Readonly<Record<string, TrainingRow>>>(rows: R): SchemasOf<R> {
  return Object.fromEntries(Object.entries(rows).map(([name, row]) => [row.field ?? name, fieldSchema(row)])) as SchemasOf<R>;
}

const Sizes = z.preprocess(
  renamedKeys({ places: 'regions' }),
  z.object({
    features: z.number(),
    regions: z.number(),
    project: z.number(),
    attention: z.number(),
    hidden: z.number(),
    embedding: z.number(),
    vocabulary: z.number(),
  }),
);

const SelfCriticalConfig = z.object(fieldSchemas(CHECKPOINTED.selfCritical));
export type SelfCriticalConfig = z.infer<typeof SelfCriticalConfig>;

/** The configuration of a run: the settled values of its options, and hashes of the weights and vectors that it starts from. */
export const TrainingConfig = z.object({
  ...fieldSchemas(CHECKPOINTED.preset),
  sizes: Sizes,
  options: z.object(fieldSchemas(CHECKPOINTED.options)),
  batch: z.object(fieldSchemas(CHECKPOINTED.batch)),
  ...fieldSchemas(CHECKPOINTED.updates),
  /** The loss: see LOSSES. */
  objective: z.preprocess(renamedValue({ 'seed-sum': 'caption-mean' }), z.enum([...Object.values(LOSSES), 'scst'])),
  selfCritical: SelfCriticalConfig.nullable().default(null),
  /** Epochs until `cosine` reaches its lowest rate and scheduled sampling its share; 0 without them. */
  horizon: z.number().int().nonnegative().default(0),
  maxLength: z.number().int().min(3),
  /** Hash of the training pictures and captions. A resumed run must draw the same mini-batches. */
  trainingSet: z.string().optional(),
  /** Hashes of the weights and word vectors that the run started from. */
  start: z.string().nullable().default(null),
  wordVectors: z.string().nullable().default(null),
  /** Layers of the encoder that were trained, in this run or before, and their learning rate in this run; 0 does not train them. */
  encoderLayers: z.array(z.string()).default([]),
  encoderRate: z.number().nonnegative().default(0),
});
export type TrainingConfig = z.infer<typeof TrainingConfig>;

const Progress = z.preprocess(
  renamedKeys({ optimizerSteps: 'updates' }),
  z.object({
    /** Number of whole epochs done. */
    epoch: z.number().int().nonnegative(),
    /** Mini-batches done in the present epoch, and the sums of their losses and tokens, for the epoch's report. */
    batch: z.number().int().nonnegative().default(0),
    nats: z.number().default(0),
    tokens: z.number().int().nonnegative().default(0),
    updates: z.number().int().nonnegative(),
    /** The learning rate after the halvings of `plateau`. */
    rate: z.number().positive(),
    bestScore: z.number().nullable(),
    epochsSinceBest: z.number().int().nonnegative(),
    logBytes: z.number().int().nonnegative(),
    eventBytes: z.number().int().nonnegative().default(0),
  }),
);
export type Progress = z.infer<typeof Progress>;

/** All that a run needs to go on, or to caption. */
export interface Checkpoint {
  config: TrainingConfig;
  progress: Progress;
  vocabulary: string[];
  encoder: EncoderIdentity;
  /** Trained weights of the encoder, which replace those of its file. */
  encoderWeights: Map<string, NamedArray>;
  weights: Map<string, NamedArray>;
  /** Moments of Adam, by the names `m.NAME` and `v.NAME`. */
  moments: Map<string, NamedArray>;
}

/** Reads a checkpoint. Throws a FileError that names the source and the damaged part. */
export function parseCheckpoint(source: ByteSource): Checkpoint {
  const { name: path } = source;
  const { metadata, tensors } = parseSafetensors(source);
  if (metadata.format !== FORMAT) throw new FileError(path, 'is no checkpoint of this version of glimpse');
  const read = <T>(key: string, schema: z.ZodType<T>): T => {
    if (metadata[key] === undefined) throw new FileError(path, `has no "${key}" in its metadata`);
    return parseJson(path, metadata[key], schema, `has a damaged "${key}"`);
  };
  const weights = new Map<string, NamedArray>();
  const encoderWeights = new Map<string, NamedArray>();
  const moments = new Map<string, NamedArray>();
  for (const [name, { shape, data }] of tensors) {
    if (!(data instanceof Float32Array)) throw new FileError(path, `"${name}" is no float tensor`);
    if (name.startsWith('encoder.')) encoderWeights.set(name.slice('encoder.'.length), { shape, data });
    else if (name.startsWith('weight.')) weights.set(name.slice('weight.'.length), { shape, data });
    else moments.set(name.replace(/^moment1\./, 'm.').replace(/^moment2\./, 'v.'), { shape, data }); // old names
  }
  return {
    config: read('config', TrainingConfig),
    progress: read('progress', Progress),
    vocabulary: read('vocabulary', z.array(z.string())),
    encoder: read('encoder', EncoderIdentity),
    encoderWeights,
    weights,
    moments,
  };
}
