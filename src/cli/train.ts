/** `glimpse train`: presets and options → a training run. */
import { createHash } from 'node:crypto';
import { type Dataset, readDataset } from '../data/captions.ts';
import { FeatureStore } from '../data/feature_store.ts';
import { readWordVectors } from '../data/word_vectors.ts';
import { GlimpseError, UsageError } from '../errors.ts';
import { type CaptionerOptions, DEFAULT_WIDTHS, PRESETS } from '../model/captioner/captioner.ts';
import type { CellKind, DecoderKind } from '../model/captioner/recurrence.ts';
import { type Checkpoint, holdsCheckpoint, loadCheckpoint, resolveCheckpoint, type TrainingConfig } from '../model/training/checkpoint.ts';
import { type StepReport, train } from '../model/training/trainer.ts';
import { weightsHash } from '../model/training/weights_hash.ts';
import { memory } from '../tensor/tensor.ts';
import { type CommonOptions, duration, progress, result, say } from './output.ts';
import { withGpu } from './session.ts';

interface TrainCommand extends CommonOptions {
  data: string;
  features: string;
  out: string;
  preset: 'basic' | 'recommended';
  objective: 'cross-entropy' | 'scst';
  start?: string;
  epochs?: number;
  rate?: number;
  schedule?: TrainingConfig['schedule'];
  warmup: number;
  patience?: number;
  maxNorm?: number;
  dropout?: number;
  labelSmoothing: number;
  scheduledSampling: number;
  attentionPenalty?: number;
  gate?: boolean;
  learnedStart?: boolean;
  decoder?: DecoderKind;
  cell?: CellKind;
  score?: CaptionerOptions['score'];
  query?: CaptionerOptions['query'];
  attention?: CaptionerOptions['attention'];
  contextToOutput?: boolean;
  layers?: number;
  heads?: number;
  wordVectors?: string;
  fineTune?: string[];
  encoderRate: number;
  encoder?: string;
  batchImages?: number;
  captions?: number;
  accumulate: number;
  samples: number;
  sampleLength?: number;
  temperature: number;
  baseline: 'greedy' | 'others';
  mix: number;
  normalizeAdvantage?: boolean;
  seed: number;
  keep: number;
  saveEvery: number;
  validation: number;
  resume?: boolean;
}

/** What a preset trains with, besides the model's own options. */
const TRAINING = {
  basic: { epochs: 10, rate: 1e-3, maxNorm: 0, images: 64, captions: 1, objective: 'caption-mean', patience: 0 },
  recommended: { epochs: 20, rate: 4e-4, maxNorm: 5, images: 16, captions: 5, objective: 'token-mean', patience: 2 },
} as const;
/** Self-critical training starts from weights that are trained already, and takes small steps. */
const SELF_CRITICAL = { epochs: 5, rate: 5e-5, maxNorm: 5, images: 10, captions: 5, objective: 'scst', patience: 0 } as const;

/** Names the pictures and captions trained on, in their order. */
function hashOf(images: Dataset['images']): string {
  const hash = createHash('sha256');
  for (const { file, ids } of images) hash.update(JSON.stringify([file, ids]));
  return hash.digest('hex').slice(0, 16);
}

/** Refuses what the decoder has no place for. */
function checkDecoder(o: TrainCommand): void {
  const { gate, learnedStart, cell, score, query, attention, contextToOutput, layers, heads, decoder = 'stacked' } = o;
  const refuse = (options: Record<string, unknown>, why: string) => {
    for (const [name, value] of Object.entries(options)) if (value !== undefined && value !== false) throw new UsageError(`${name} ${why}`);
  };
  const built = { '--decoder': o.decoder, '--gate': gate, '--learned-start': learnedStart, '--cell': cell, '--score': score, '--query': query };
  const more = { '--attention': attention, '--context-to-output': contextToOutput, '--layers': layers, '--heads': heads };
  if (o.start) {
    for (const [name, value] of Object.entries({ ...built, ...more }))
      if (value !== undefined)
        throw new UsageError(`${value === false ? name.replace('--', '--no-') : name} builds a new model: leave it out, --start brings one that is built`);
    return;
  }
  const { '--decoder': _decoder, ...recurrent } = built;
  if (decoder === 'transformer')
    refuse({ ...recurrent, '--attention': attention, '--context-to-output': contextToOutput }, 'belongs to recurrent decoders, not to a transformer');
  else refuse({ '--layers': layers, '--heads': heads }, 'belongs to --decoder transformer');
  if (decoder !== 'stacked') refuse({ '--query': query }, 'belongs to --decoder stacked: the other orders say themselves which state asks');
  if (decoder === 'transformer' && DEFAULT_WIDTHS.hidden % (heads ?? PRESETS.basic.heads) !== 0)
    throw new UsageError(`--heads must divide the width of ${DEFAULT_WIDTHS.hidden}, got ${heads}`);
}

function checkOptions(o: TrainCommand): void {
  checkDecoder(o);
  const below1 = { '--dropout': o.dropout ?? 0, '--label-smoothing': o.labelSmoothing, '--scheduled-sampling': o.scheduledSampling };
  for (const [name, value] of Object.entries(below1)) if (value >= 1) throw new UsageError(`${name} must be below 1, got ${value}`);
  if (o.rate === 0) throw new UsageError('--rate must be positive');
  if (o.objective === 'scst') {
    if (!o.start) throw new UsageError('--objective scst improves a trained model: name its run or checkpoint with --start');
    if (o.mix > 1) throw new UsageError(`--mix is a share of the loss, at most 1, got ${o.mix}`);
    if (o.temperature === 0) throw new UsageError('--temperature must be above 0');
    if (o.baseline === 'others' && o.samples < 2)
      throw new UsageError('--baseline others compares a sample with the others of its picture: --samples must be at least 2');
    if (o.labelSmoothing > 0 || o.scheduledSampling > 0 || o.captions !== undefined)
      throw new UsageError('--label-smoothing, --scheduled-sampling and --captions belong to cross-entropy; with scst use --samples and --mix');
  }
  if (o.fineTune && o.objective === 'scst') throw new UsageError('--fine-tune belongs to cross-entropy: rollouts take stored features');
  if (o.fineTune && o.encoderRate === 0) throw new UsageError('--encoder-rate must be positive');
  if (o.start && o.wordVectors) throw new UsageError('--start brings its own word vectors: leave out --word-vectors');
}

/** What a transformer does without, and a rate of dropout that leaves its many small parts alive. */
const TRANSFORMER = { gate: false, learnedStart: false, attentionPenalty: 0, dropout: 0.1 };

/** The preset with what the command line changes; dropout and penalty have no place in a replay of the model's own samples. */
function modelOptions(o: TrainCommand, start: Checkpoint | null): CaptionerOptions {
  const preset = start ? start.config.options : { ...PRESETS[o.preset], ...(o.decoder === 'transformer' ? TRANSFORMER : {}) };
  const selfCritical = o.objective === 'scst' ? { dropout: 0, attentionPenalty: 0, labelSmoothing: 0, scheduledSampling: 0 } : {};
  const { dropout, attentionPenalty, gate, learnedStart, decoder, cell, score, query, attention, contextToOutput, layers, heads } = o;
  const built = { gate, learnedStart, decoder, cell, score, query, attention, contextToOutput, layers, heads };
  const given = { dropout, attentionPenalty, ...(start ? {} : built) };
  const changes = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const both = o.objective === 'scst' ? {} : { labelSmoothing: o.labelSmoothing, scheduledSampling: o.scheduledSampling };
  return { ...preset, ...selfCritical, ...both, ...changes };
}

const stepNote = ({ lossPerToken, lossPerSlot, rollout }: StepReport) =>
  rollout
    ? `reward ${rollout.reward.toFixed(3)} over ${rollout.baseline.toFixed(3)}, entropy ${rollout.entropy.toFixed(2)}, ${rollout.meanLength.toFixed(1)} words`
    : `loss ${lossPerToken.toFixed(3)} per token (per slot ${lossPerSlot.toFixed(3)})`;

const trainingResult = ({ objective }: TrainingConfig, loss: number) =>
  objective === 'scst' ? `mean reward ${(-loss).toFixed(4)}` : `loss ${loss.toFixed(4)} per token`;

export async function trainCommand(o: TrainCommand): Promise<number> {
  checkOptions(o);
  const dataset = readDataset(o.data);
  const start = o.start ? loadCheckpoint(resolveCheckpoint(o.start)) : null;
  const preset = start ? start.config.preset : o.preset;
  const defaults = o.objective === 'scst' ? SELF_CRITICAL : TRAINING[preset];
  const store = await FeatureStore.open(o.features);
  const trainable = dataset.images.filter(({ split }) => split === 'train');
  const vectors = o.wordVectors ? readWordVectors(o.wordVectors, dataset.vocabulary) : null;
  const widths = { ...DEFAULT_WIDTHS, ...(vectors ? { embedding: vectors.width } : {}) };
  const sizes = { features: store.index.width, regions: store.index.regions, ...widths, vocabulary: dataset.vocabulary.length };
  if (o.objective === 'scst' && start?.config.options.attention === 'hard')
    throw new UsageError(
      '--objective scst rewards captions of one way to decode, and hard attention draws another at each replay: start from a model of soft attention',
    );
  if (start) {
    if (start.vocabulary.join('\n') !== dataset.vocabulary.join('\n'))
      throw new GlimpseError(`${o.start} was trained with another vocabulary than that of ${o.data}`);
    store.requireEncoder(start.encoder);
  }
  const epochs = o.epochs ?? defaults.epochs;
  const schedule = o.schedule ?? (o.objective === 'scst' ? 'constant' : 'plateau');
  const config: TrainingConfig = {
    preset,
    sizes: start ? start.config.sizes : sizes,
    options: modelOptions(o, start),
    seed: o.seed,
    rate: o.rate ?? defaults.rate,
    maxNorm: o.maxNorm ?? defaults.maxNorm,
    batch: { images: o.batchImages ?? defaults.images, captionsPerImage: o.captions ?? defaults.captions },
    accumulate: o.accumulate,
    objective: defaults.objective,
    selfCritical:
      o.objective === 'scst'
        ? {
            ...{ samples: o.samples, maxLength: o.sampleLength ?? dataset.maxLength - 1, temperature: o.temperature },
            ...{ baseline: o.baseline, mix: o.mix, normalize: o.normalizeAdvantage ?? false },
          }
        : null,
    schedule,
    warmup: o.warmup,
    horizon: schedule === 'cosine' || o.scheduledSampling > 0 ? epochs : 0,
    patience: o.patience ?? defaults.patience,
    maxLength: dataset.maxLength,
    trainingSet: hashOf(trainable.filter(({ file }) => store.has(file))),
    start: start ? weightsHash(start.weights) : null,
    wordVectors: vectors ? vectors.sha256 : null,
    encoderLayers: o.fineTune ?? start?.config.encoderLayers ?? [],
    encoderRate: o.fineTune ? o.encoderRate : 0,
  };
  const without = trainable.filter(({ file }) => !store.has(file)).length;
  if (without > 0) say(o, `${without} of ${trainable.length} training pictures have no features and are left out`);
  if (vectors) say(o, `${o.wordVectors}: vectors of ${vectors.width} numbers for ${vectors.rows.size} of ${dataset.vocabulary.length} words`);
  if (o.resume && !holdsCheckpoint(o.out)) say(o, `${o.out} holds no checkpoint yet: this is a new run`);
  let stopping = false;
  const onInterrupt = () => {
    stopping = true;
    say(o, 'stopping after this batch; go on later with --resume');
  };
  process.once('SIGINT', onInterrupt);
  try {
    return await withGpu(o, async (gpu) => {
      let bar: ReturnType<typeof progress> | null = null;
      const reports = await train({
        dataset,
        store,
        config,
        run: o.out,
        epochs,
        resume: o.resume ?? false,
        keep: o.keep,
        saveEvery: o.saveEvery,
        ...(start ? { start } : {}),
        ...(o.encoder ? { encoderPath: o.encoder } : {}),
        ...(vectors ? { wordVectors: vectors.rows } : {}),
        validationImages: o.validation,
        shouldStop: () => stopping,
        hooks: {
          onStep: (s) => {
            bar ??= progress(o, 'train', epochs * s.batches, 'batches');
            bar.update(
              (s.epoch - 1) * s.batches + s.batch,
              `epoch ${s.epoch}, ${stepNote(s)}, ${Math.round(s.tokensPerSecond)} tokens/s, ${Math.round((memory().peakBytes + memory().texelBytes) / 2 ** 20)} MiB`,
            );
          },
          onEpoch: (e) =>
            say(
              o,
              `epoch ${e.epoch}: ${trainingResult(config, e.trainLoss)}${e.valLoss === null ? '' : `, validation ${e.valLoss.toFixed(4)} (perplexity ${e.perplexity?.toFixed(1)}), CIDEr-D ${e.cider?.toFixed(3)}`}, ${Math.round(e.tokensPerSecond)} tokens/s, ${duration(e.seconds)}`,
            ),
        },
      });
      (bar as ReturnType<typeof progress> | null)?.stop();
      const last = reports[reports.length - 1];
      result(o, { run: o.out, adapter: gpu.description, config, stopped: stopping, epochs: reports }, () =>
        last
          ? `${o.out}: ${reports.length} epochs, ${trainingResult(config, last.trainLoss)} on ${gpu.description}\nCaption with: glimpse caption ${o.out} PICTURE…`
          : stopping
            ? `${o.out}: stopped within its first epoch; go on with --resume`
            : `${o.out}: nothing left to do`,
      );
      return 0;
    });
  } finally {
    process.off('SIGINT', onInterrupt);
    await store.close();
  }
}
