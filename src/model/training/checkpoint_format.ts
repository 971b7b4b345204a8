/**
 * Checkpoints: one safetensors file with weights and optimizer moments. Its metadata has everything else that resuming or
 * captioning needs: configuration, vocabulary, progress, and the encoder.
 */
import { z } from 'zod';
import type { ByteSource } from '../../data/bytes.ts';
import { EncoderIdentity } from '../../data/encoder_identity.ts';
import { nonFiniteFault } from '../../data/finite.ts';
import { renamedKeys, renamedValue } from '../../data/renamed.ts';
import { parseSafetensors } from '../../data/safetensors_format.ts';
import { parseJson } from '../../data/validation.ts';
import { Vocabulary, WORD_RULES } from '../../data/words.ts';
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

const Size = z.number().int().positive();
const Sizes = z.preprocess(
  renamedKeys({ places: 'regions' }),
  z.object({
    ...{ features: Size, regions: Size, project: Size, attention: Size, hidden: Size, embedding: Size },
    vocabulary: Size,
    positions: Size.optional(),
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
  /** The rule that split the captions; absent in files of older versions. */
  words: z.enum(WORD_RULES).optional(),
  /** Hash of the training pictures and captions. A resumed run must draw the same mini-batches. */
  trainingSet: z.string().optional(),
  /** Precision and hash of the training pictures' features. A resumed run must read the same numbers. */
  featurePrecision: z.enum(['f32', 'f16']).optional(),
  featureHash: z.string().optional(),
  /** Hashes of the weights and word vectors that the run started from. */
  start: z.string().nullable().default(null),
  wordVectors: z.string().nullable().default(null),
  /** Hash of the language model that the run started from, and the learning rate of its own weights; 0 does not train them. */
  languageModel: z.string().optional(),
  languageRate: z.number().nonnegative().optional(),
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
    /** The gradient norm of the last update, which the log repeats until the next one. */
    gradNorm: z.number().nonnegative().default(0),
    /** Seconds of training in the present epoch, all sessions together. */
    seconds: z.number().nonnegative().default(0),
    /** Hash of the pictures and captions that the best score was measured on; null before the first validation. */
    scoredOn: z.string().nullable().default(null),
  }),
);
export type Progress = z.infer<typeof Progress>;

/** The adapter and the version of glimpse that trained. On others, the last bits of numbers may differ. */
const TrainedOn = z.object({
  adapter: z.string(),
  version: z.string(),
  /** Of several processes: how many, and how their gradients were summed. */
  processes: z.number().int().positive().optional(),
  reduce: z.enum(['ordered', 'fast']).optional(),
});
export type TrainedOn = z.infer<typeof TrainedOn>;

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
  /** What the run was trained on until now; null in files of older versions. */
  trainedOn: TrainedOn | null;
  /** What a reader should know of the file: no checksums, or a header that was changed. */
  notes: string[];
}

/** Words of the longest caption that a checkpoint may ask for. Decoding reserves memory for all of them. */
const MOST_WORDS = 4096;

/** What a header claims must fit what the file holds, before anything is allocated for it. */
function checkClaims({ config, vocabulary, weights }: Pick<Checkpoint, 'config' | 'vocabulary' | 'weights'>): string | null {
  const { sizes, options, maxLength } = config;
  const held = [...weights.values()].reduce((sum, { data }) => sum + data.length, 0);
  const beyond = Object.entries(sizes).find(([name, size]) => name !== 'regions' && size > held);
  if (beyond) return `claims a size "${beyond[0]}" of ${beyond[1]}; its weights hold ${held} numbers`;
  if (sizes.regions > MOST_REGIONS) return `claims ${sizes.regions} regions a picture; at most ${MOST_REGIONS} are taken`;
  if (options.layers > weights.size || options.heads > held) return `claims ${options.layers} layers of ${options.heads} heads; it has ${weights.size} weights`;
  if (maxLength > MOST_WORDS) return `claims captions of ${maxLength} words; at most ${MOST_WORDS} are taken`;
  if (vocabulary.length !== sizes.vocabulary) return `has ${vocabulary.length} words, its sizes say ${sizes.vocabulary}`;
  return null;
}

/** Regions of the largest feature map, 256 by 256. The weights do not tell their number. */
const MOST_REGIONS = 1 << 16;

/** The words of a checkpoint, with the rule that made them. */
export const vocabularyOf = ({ vocabulary, config }: Pick<Checkpoint, 'vocabulary' | 'config'>): Vocabulary => new Vocabulary(vocabulary, config.words);

const NOTES = {
  right: [],
  none: ['has no checksums (another program or an older version wrote it), so damage would not be noticed'],
  changed: ['its tensors are whole, but its header was changed after it was written'],
};

/** Reads a checkpoint. Throws a FileError that names the source and the damaged part. */
export function parseCheckpoint(source: ByteSource): Checkpoint {
  const { name: path } = source;
  const { metadata, tensors, checksums } = parseSafetensors(source);
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
    const fault = nonFiniteFault(data);
    if (fault) throw new FileError(path, `"${name}" cannot be used: ${fault}`);
    if (name.startsWith('encoder.')) encoderWeights.set(name.slice('encoder.'.length), { shape, data });
    else if (name.startsWith('weight.')) weights.set(name.slice('weight.'.length), { shape, data });
    else moments.set(name.replace(/^moment1\./, 'm.').replace(/^moment2\./, 'v.'), { shape, data }); // old names
  }
  const checkpoint = {
    config: read('config', TrainingConfig),
    progress: read('progress', Progress),
    vocabulary: read('vocabulary', z.array(z.string())),
    encoder: read('encoder', EncoderIdentity),
    trainedOn: metadata.trainedOn === undefined ? null : read('trainedOn', TrainedOn),
    ...{ encoderWeights, weights, moments },
    notes: NOTES[checksums],
  };
  const fault = checkClaims(checkpoint);
  if (fault) throw new FileError(path, fault);
  return checkpoint;
}
