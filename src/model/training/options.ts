/**
 * All options of training, in one place. From these rows come the options of `glimpse train`, the fields of checkpoints
 * (checkpoint.ts), the types of both, the presets, and the table in docs/captioner.md (scripts/options_table.ts).
 */
import { FEATURES } from '../../data/feature_options.ts';
import {
  type Condition,
  choice,
  FLAG,
  fixedDefaults,
  grouped,
  list,
  number,
  type OptionsOf,
  type Row,
  SWITCH,
  settled,
  text,
  type Values,
  whenOption,
  whole,
  withOption,
} from '../../options.ts';

/** A row whose value is stored in checkpoints. */
export interface TrainingRow<T = unknown> extends Row<T> {
  /** The name in the checkpoint, if it is not the option's. */
  field?: string;
  /** The value of checkpoints that were written before this field existed. */
  absent?: T;
}

type TrainingRows = Readonly<Record<string, TrainingRow>>;

type ValueOf<R> = R extends { values: Values<infer T> } ? T : never;

/** The fields of a checkpoint for some rows. */
export type FieldsOf<R extends TrainingRows> = {
  -readonly [K in keyof R as R[K] extends { field: infer F extends string } ? F : K]: ValueOf<R[K]>;
};

/** A preset and a decoder had the name "seed" once. Now only a random seed has it. */
const CALLED_SEED = (what: string, name: string) => ({ what, names: { seed: name } });

const CROSS_ENTROPY = whenOption('objective', 'cross-entropy');
const SELF_CRITICAL_ONLY = whenOption('objective', 'scst');
const RECURRENT: Condition = {
  to: 'recurrent decoders',
  why: 'a transformer has no place for it',
  holds: ({ decoder }) => decoder !== 'transformer' && decoder !== 'gpt2',
};
const TRANSFORMER = whenOption('decoder', 'transformer');
const GPT2 = whenOption('decoder', 'gpt2');
const OWN_WORDS: Condition = { to: 'decoders other than gpt2', why: 'a language model brings its own', holds: ({ decoder }) => decoder !== 'gpt2' };
/** A started model may be of any kind; only its checkpoint tells. */
const OF_GPT2: Condition = { to: '--decoder gpt2', holds: ({ decoder, start }) => decoder === 'gpt2' || start !== undefined };
const STACKED: Condition = {
  to: '--decoder stacked',
  why: 'in the other orders one state alone can be the query',
  holds: ({ decoder }) => decoder === 'stacked',
};
const NEW_MODEL: Condition = {
  to: 'a new model',
  holds: ({ start }) => start === undefined,
  refusal: 'builds a new model: leave it out, --start brings one that is built',
};
const VALIDATED: Condition = { to: '--validation above 0', why: 'it counts epochs without a better CIDEr-D', holds: ({ validation }) => validation !== 0 };
const SEVERAL_BATCHES: Condition = {
  to: '--accumulate above 1',
  why: 'the gradient of a single batch is added to none',
  holds: ({ accumulate }) => accumulate !== 1,
};
const HALVES: Condition = {
  to: '--patience and --validation above 0 if it is plateau',
  holds: ({ schedule, patience, validation }) => schedule !== 'plateau' || (patience !== 0 && validation !== 0),
  refusal: 'plateau belongs to --patience and --validation above 0: it halves the rate after epochs without a better CIDEr-D',
};

const RUN = grouped('The run', {
  data: { values: text('file'), required: true, help: 'dataset made by prepare' },
  features: { ...FEATURES.features, required: true },
  allowMissing: FEATURES.allowMissing,
  out: { values: text('folder'), required: true, help: 'folder of the run, for its log and checkpoints' },
  preset: {
    values: choice('name', ['basic', 'recommended'], CALLED_SEED('preset', 'basic')),
    default: 'recommended',
    belongsTo: [{ ...NEW_MODEL, refusal: 'belongs to a new model: leave it out, --start brings the preset of its model' }],
    help: 'set of defaults for the other options',
  },
  objective: {
    values: choice('name', ['cross-entropy', 'scst']),
    default: 'cross-entropy',
    help: 'what to train for: the cross-entropy of the captions, or scst, the self-critical training of a trained model',
  },
  start: { values: text('model'), help: 'a run or a checkpoint file whose weights to start from' },
  epochs: { values: whole('count', { atLeast: 1 }), defaults: { recommended: 8, basic: 10, scst: 5 }, help: 'epochs at most' },
  resume: { values: FLAG, help: 'go on from the last checkpoint' },
});

/** How a model is built. */
const ARCHITECTURE = grouped('The model', {
  decoder: {
    values: choice('name', ['stacked', 'show-attend-tell', 'up-down', 'transformer', 'gpt2'], CALLED_SEED('decoder', 'stacked')),
    ...{ default: 'stacked', absent: 'stacked' },
    belongsTo: [NEW_MODEL],
    help: 'order of attention and recurrent layers, or a transformer without recurrence: a new one, or gpt2, a language model that was trained before',
  },
  cell: {
    values: choice('name', ['lstm', 'gru']),
    ...{ default: 'lstm', absent: 'lstm' },
    belongsTo: [NEW_MODEL, RECURRENT],
    help: 'cell of the recurrent layers',
  },
  score: {
    values: choice('name', ['tanh', 'relu']),
    ...{ default: 'tanh', absent: 'tanh' },
    belongsTo: [NEW_MODEL, RECURRENT],
    help: 'function of key + query in additive attention',
  },
  query: {
    values: choice('state', ['h1', 'h2']),
    ...{ default: 'h2', absent: 'h2' },
    belongsTo: [NEW_MODEL, STACKED],
    help: 'layer whose state is the query of attention',
  },
  attention: {
    values: choice('kind', ['soft', 'hard']),
    ...{ default: 'soft', absent: 'soft' },
    belongsTo: [NEW_MODEL, RECURRENT],
    help: 'weigh all regions, or draw one region by its weight',
  },
  contextToOutput: {
    values: FLAG,
    absent: false,
    belongsTo: [NEW_MODEL, RECURRENT],
    help: 'predict words from the state and the attention context, not from the state alone',
  },
  gate: {
    values: SWITCH,
    defaults: { recommended: true, basic: false, transformer: false, gpt2: false },
    belongsTo: [NEW_MODEL, RECURRENT],
    help: 'multiply the attention context by a learned scalar gate',
  },
  learnedStart: {
    values: SWITCH,
    defaults: { recommended: true, basic: false, transformer: false, gpt2: false },
    belongsTo: [NEW_MODEL, RECURRENT],
    help: 'compute the first states from the picture; without it they are zero',
  },
  initialization: {
    values: choice('name', ['glorot', 'scaled']),
    ...{ defaults: { recommended: 'scaled', basic: 'glorot', transformer: 'glorot', gpt2: 'glorot' }, absent: 'glorot' },
    belongsTo: [NEW_MODEL, RECURRENT],
    help: 'size of the initial weights: by Glorot’s rule, or larger, so that words and picture reach the output from the first update on',
  },
  layers: {
    values: whole('count', { atLeast: 1 }),
    ...{ default: 2, absent: 2 },
    belongsTo: [NEW_MODEL, TRANSFORMER],
    help: 'layers of the transformer',
  },
  heads: {
    values: whole('count', { atLeast: 1 }),
    ...{ default: 8, absent: 8 },
    belongsTo: [NEW_MODEL, TRANSFORMER],
    help: 'attention heads of the transformer',
  },
  pictureAs: {
    values: choice('way', ['cross-attention', 'prefix']),
    ...{ default: 'cross-attention', absent: 'cross-attention' },
    belongsTo: [NEW_MODEL, GPT2],
    help: 'how gpt2 sees the picture: each layer attends to its regions, or the regions stand before the words',
  },
});

/** Options that change the model's loss or inputs in training. Self-critical training does not use most of them by default. */
const REGULARIZATION = grouped('Regularization', {
  dropout: {
    values: number('rate', { atLeast: 0, below: 1 }),
    defaults: { recommended: 0.5, basic: 0, transformer: 0.1, gpt2: 0.1, scst: 0 },
    help: 'dropout of the embedding, the projected features and the output',
  },
  attentionPenalty: {
    values: number('number', { atLeast: 0 }),
    defaults: { recommended: 0, basic: 0, transformer: 0, gpt2: 0, scst: 0 },
    help: 'λ of the penalty λ · mean (1 − Σ α)², α summed over the words',
  },
  labelSmoothing: {
    values: number('share', { atLeast: 0, below: 1 }),
    ...{ defaults: { recommended: 0.1, basic: 0, transformer: 0, gpt2: 0, scst: 0 }, absent: 0 },
    belongsTo: [CROSS_ENTROPY, { ...OWN_WORDS, why: 'it would raise special words, which a language model never says' }],
    help: 'share of the target distribution that is spread over all words',
  },
  scheduledSampling: {
    values: number('share', { atLeast: 0, below: 1 }),
    ...{ default: 0, absent: 0 },
    belongsTo: [CROSS_ENTROPY],
    help: 'share of the input words that the model samples itself, growing from 0 to this at the last epoch',
  },
});

const BATCHES = grouped('Batches', {
  batchImages: {
    values: whole('count', { atLeast: 1 }),
    defaults: { 'fine-tune': 16, recommended: 64, basic: 64, scst: 64 },
    field: 'images',
    help: 'pictures per mini-batch, or per micro-batch with --accumulate',
  },
  captions: {
    values: whole('count', { atLeast: 1 }),
    defaults: { 'fine-tune': 5, recommended: 1, basic: 1, scst: 1 },
    field: 'captionsPerImage',
    belongsTo: [CROSS_ENTROPY],
    help: 'captions per picture in a batch',
  },
});

const UPDATES = grouped('Updates', {
  rate: {
    values: number('number', { above: 0 }),
    defaults: { recommended: 2e-3, basic: 1e-3, transformer: 4e-4, gpt2: 4e-4, scst: 1e-4 },
    help: 'learning rate of Adam',
  },
  schedule: {
    values: choice('name', ['plateau', 'constant', 'cosine', 'step']),
    defaults: { recommended: 'cosine', basic: 'constant', scst: 'constant' },
    absent: 'plateau',
    belongsTo: [HALVES],
    help: 'how the learning rate falls; plateau halves it when the validation’s CIDEr-D stops rising',
  },
  warmup: {
    values: whole('updates', { atLeast: 0 }),
    ...{ defaults: { recommended: 100, basic: 0, scst: 20 }, absent: 0 },
    help: 'updates over which the learning rate rises from 0; the default is a quarter of an epoch at most',
  },
  patience: {
    values: whole('epochs', { atLeast: 0 }),
    defaults: { plateau: 2, recommended: 0, basic: 0, scst: 0 },
    belongsTo: [VALIDATED],
    help: 'epochs without a better CIDEr-D before plateau halves the rate; twice as many end the run, whatever the schedule; 0 does neither',
  },
  maxNorm: {
    values: number('number', { atLeast: 0 }),
    defaults: { recommended: 5, basic: 0, scst: 5 },
    help: 'global gradient norm to clip at; 0 clips nothing',
  },
  accumulate: {
    values: whole('count', { atLeast: 1 }),
    ...{ default: 1, absent: 1 },
    help: 'micro-batches whose gradients are accumulated for one update; several processes share them out, so their number must divide it',
  },
  gradientPrecision: {
    values: choice('type', ['f32', 'bf16']),
    ...{ default: 'f32', absent: 'f32' },
    belongsTo: [SEVERAL_BATCHES],
    help: 'type in which the gradients of micro-batches are added up and travel between processes; bf16 halves what travels',
  },
  seed: { values: whole('number', { atLeast: 0 }), default: 42, help: 'random seed' },
});

/** Self-critical sequence training: self_critical.ts. */
const SELF_CRITICAL = grouped('Self-critical training', {
  samples: { values: whole('count', { atLeast: 1 }), default: 5, belongsTo: [SELF_CRITICAL_ONLY], help: 'captions sampled per picture' },
  sampleLength: {
    values: whole('words', { atLeast: 1 }),
    defaultNote: 'that of the dataset',
    field: 'maxLength',
    belongsTo: [SELF_CRITICAL_ONLY],
    help: 'longest sampled caption, its end included',
  },
  temperature: { values: number('number', { above: 0 }), default: 1, belongsTo: [SELF_CRITICAL_ONLY], help: 'softmax temperature of the samples' },
  baseline: {
    values: choice('name', ['greedy', 'others']),
    default: 'others',
    belongsTo: [SELF_CRITICAL_ONLY],
    help: 'reward that a sample is compared with: the greedy caption’s, or the mean of the picture’s other samples',
  },
  mix: {
    values: number('share', { atLeast: 0, atMost: 1 }),
    default: 0.05,
    belongsTo: [SELF_CRITICAL_ONLY],
    help: 'share of the references’ cross-entropy in the loss',
  },
  normalizeAdvantage: {
    values: SWITCH,
    default: true,
    field: 'normalize',
    belongsTo: [SELF_CRITICAL_ONLY],
    help: 'divide the advantages, reward minus baseline, by their standard deviation',
  },
});

const ENCODER = grouped('Pretrained parts', {
  wordVectors: {
    values: text('file'),
    belongsTo: [{ ...NEW_MODEL, refusal: 'belongs to a new model: leave it out, --start brings its own word vectors' }, OWN_WORDS],
    help: 'GloVe text vectors to start the embedding from; they give it their width',
  },
  languageModel: {
    values: text('folder'),
    belongsTo: [{ ...NEW_MODEL, refusal: 'belongs to a new model: leave it out, --start brings its own weights' }, GPT2],
    help: 'language model to start from: a GPT-2 of Hugging Face, with config.json, model.safetensors, vocab.json and merges.txt',
  },
  languageRate: {
    values: number('number', { atLeast: 0 }),
    defaults: { gpt2: 2e-5 },
    belongsTo: [OF_GPT2],
    help: 'learning rate of the weights that the language model brought; 0 leaves them as they are',
  },
  fineTune: {
    values: list('layers'),
    belongsTo: [{ ...CROSS_ENTROPY, refusal: 'belongs to --objective cross-entropy: self-critical training samples from stored features' }],
    help: 'encoder layers to train as well, by the beginnings of their names, such as layer4, or last:2 for the last two of a vision transformer; pictures are then read for every batch',
  },
  encoderRate: { values: number('number', { above: 0 }), default: 1e-5, belongsTo: [withOption('fineTune')], help: 'learning rate of those layers' },
  followLinks: { values: FLAG, belongsTo: [withOption('fineTune')], help: 'take pictures, too, that are links out of the picture folder' },
  encoder: { values: text('file'), belongsTo: [withOption('fineTune')], help: 'the encoder’s file or folder, if it is no longer where the features were made' },
});

const KEEPING = grouped('Checkpoints and validation', {
  keep: { values: whole('count', { atLeast: 1 }), default: 3, help: 'checkpoints of epochs to keep besides the best' },
  saveEvery: {
    values: whole('updates', { atLeast: 0 }),
    default: 200,
    help: 'updates between checkpoints within an epoch; 0 writes one only on an interrupt',
  },
  validation: { values: whole('count', { atLeast: 0 }), default: 200, help: 'validation pictures to caption and score after each epoch; 0 skips that' },
});

/** How processes that a launcher started work together. It changes no result, but for the last bits with `fast`. */
const PROCESSES = grouped('Several processes', {
  reduce: {
    values: choice('order', ['ordered', 'fast']),
    defaultNote: 'ordered',
    help: 'how several processes sum their gradients: in the order of the micro-batches, so that the bits do not depend on how many there are, or by MPI_Allreduce',
  },
});

const MODEL = { ...ARCHITECTURE, ...REGULARIZATION };

/** The options that tell how a model is built, in a checkpoint's configuration. */
export const BUILT_BY = Object.keys(ARCHITECTURE) as (keyof typeof ARCHITECTURE)[];

/** The rows in a checkpoint's configuration. Fields of `preset` and `updates` are in the object itself, the others in an object each. */
export const CHECKPOINTED = { preset: { preset: RUN.preset }, updates: UPDATES, options: MODEL, batch: BATCHES, selfCritical: SELF_CRITICAL };

/** Every option of `glimpse train`, except those that all commands have. */
export const TRAINING_OPTIONS = { ...RUN, ...ARCHITECTURE, ...REGULARIZATION, ...BATCHES, ...UPDATES, ...SELF_CRITICAL, ...ENCODER, ...KEEPING, ...PROCESSES };

/** The options as given, with the defaults that do not depend on other options. */
export type TrainingOptions = OptionsOf<typeof TRAINING_OPTIONS>;

/** How a captioner is built, and how training changes its loss or inputs. */
export type CaptionerOptions = FieldsOf<typeof MODEL>;

export type Preset = ValueOf<typeof RUN.preset>;

/** The loss of each preset: the sum over a mini-batch, divided by the number of captions or of words. */
export const LOSSES = { basic: 'caption-mean', recommended: 'token-mean' } as const satisfies Record<Preset, string>;

const presetOptions = (preset: Preset) => settled(MODEL, fixedDefaults(MODEL), [preset]) as CaptionerOptions;

/** The options of each preset. */
export const PRESETS: Record<Preset, CaptionerOptions> = { basic: presetOptions('basic'), recommended: presetOptions('recommended') };

/** The values that decide about defaults. With `--start`, the preset is known only after the model was read. */
export function decidingValues({ schedule, objective, decoder, start, fineTune }: Readonly<Record<string, unknown>>, preset: unknown): string[] {
  const given = { schedule, tuned: fineTune === undefined ? undefined : 'fine-tune', objective, decoder: start === undefined ? decoder : undefined, preset };
  return Object.values(given).flatMap((value) => (value === undefined ? [] : [String(value)]));
}

/** All options with their defaults, once the preset is known. */
export function settledOptions(o: TrainingOptions, preset: Preset): SettledOptions {
  return settled(TRAINING_OPTIONS, o, decidingValues(o, preset)) as unknown as SettledOptions;
}

type Dependent<R> = { [K in keyof R as R[K] extends { defaults: unknown } ? K : never]: ValueOf<R[K]> };
export type SettledOptions = TrainingOptions & Dependent<typeof TRAINING_OPTIONS>;

/** The model's options: those of the command line for a new model, else those of the `start` model with the changes of training. */
export function modelOptions(o: TrainingOptions, preset: Preset, start: CaptionerOptions | null): CaptionerOptions {
  const names = Object.keys(MODEL) as (keyof CaptionerOptions)[];
  const own = settledOptions(o, preset);
  if (!start) return Object.fromEntries(names.map((name) => [name, own[name]])) as CaptionerOptions;
  // Defaults of a preset are for new models. A started model keeps its own values, unless the objective has others.
  const changed = settled(REGULARIZATION, o, [o.objective]);
  const given = Object.keys(REGULARIZATION).flatMap((name) => (changed[name] === undefined ? [] : [[name, changed[name]]]));
  return { ...start, ...Object.fromEntries(given) };
}
