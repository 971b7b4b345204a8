/** `glimpse train`: presets and options → a training run. */
import { createHash } from 'node:crypto';
import { availableParallelism, cpus } from 'node:os';
import { type Dataset, readDataset } from '../data/captions.ts';
import type { FeatureStore } from '../data/feature_store.ts';
import { readWordVectors, type WordVectors } from '../data/word_vectors.ts';
import { sameWords } from '../data/words.ts';
import { GlimpseError, messageOf, UsageError } from '../errors.ts';
import { type CaptionerOptions, type CaptionerSizes, DEFAULT_WIDTHS } from '../model/captioner/captioner.ts';
import { type LanguageModel, readLanguageModel } from '../model/captioner/language_model.ts';
import { isLanguageModel } from '../model/captioner/transformer.ts';
import { batchesOfEpoch } from '../model/training/batches.ts';
import { type Checkpoint, flatFields, holdsCheckpoint, type TrainingConfig } from '../model/training/checkpoint.ts';
import { LOSSES, modelOptions, settledOptions, TRAINING_OPTIONS } from '../model/training/options.ts';
import { Diverged, type EpochReport, type StepReport, train } from '../model/training/trainer.ts';
import { weightsHash } from '../model/training/weights_hash.ts';
import { NotAgreed, World } from '../model/training/world.ts';
import { refuseWithoutEffect } from '../options.ts';
import { VERSION } from '../platform/node/version.ts';
import { printableLines } from '../printable.ts';
import { memory } from '../tensor/tensor.ts';
import type { TrainOptions } from './commands/train.ts';
import { openFeatures } from './feature_stores.ts';
import { duration, progress, result, say } from './output.ts';
import { checkpointAt, withGpu } from './session.ts';
import { readShaders, useCheckedShaders } from './shaders.ts';
import { type EndRequest, endRequest } from './signals.ts';

/** Names the pictures and captions trained on, in their order. */
function hashOf(images: Dataset['images']): string {
  const hash = createHash('sha256');
  for (const { file, ids } of images) hash.update(JSON.stringify([file, ids]));
  return hash.digest('hex').slice(0, 16);
}

/** What no option says alone; all of it is known before a file is opened. */
function checkOptions({ decoder, heads, objective, start, baseline, samples, languageModel }: TrainOptions): void {
  if (decoder === 'gpt2' && !start && !languageModel)
    throw new UsageError('--decoder gpt2 goes on from a language model that was trained before: name its folder with --language-model');
  if (decoder === 'transformer' && DEFAULT_WIDTHS.hidden % heads !== 0)
    throw new UsageError(`--heads must divide the width of ${DEFAULT_WIDTHS.hidden}, got ${heads}`);
  if (objective !== 'scst') return;
  if (!start) throw new UsageError('--objective scst improves a trained model: name its run or checkpoint with --start');
  if (baseline === 'others' && samples < 2)
    throw new UsageError('--baseline others compares a sample with the others of its picture: --samples must be at least 2');
}

const stepNote = ({ lossPerToken, lossPerSlot, rollout }: StepReport) =>
  rollout
    ? `reward ${rollout.reward.toFixed(3)} over ${rollout.baseline.toFixed(3)}, entropy ${rollout.entropy.toFixed(2)}, ${rollout.meanLength.toFixed(1)} words`
    : `loss ${lossPerToken.toFixed(3)} per token (per slot ${lossPerSlot.toFixed(3)})`;

const trainingResult = ({ objective }: TrainingConfig, loss: number) =>
  objective === 'scst' ? `mean reward ${(-loss).toFixed(4)}` : `loss ${loss.toFixed(4)} per token`;

/** A warm-up that was not asked for takes this part of an epoch at most. A run with more epochs has the same, so it can be resumed. */
const WARMUP_PART = 4;

/** The configuration of a run, as its checkpoints keep it. */
function configOf(
  o: TrainOptions,
  dataset: Dataset,
  store: FeatureStore,
  { start, vectors, language }: { start: Checkpoint | null; vectors: WordVectors | null; language: LanguageModel | null },
): TrainingConfig {
  const preset = start ? start.config.preset : o.preset;
  const settled = settledOptions(o, preset);
  const { epochs, seed, rate, maxNorm, batchImages, captions, accumulate, gradientPrecision, schedule, patience } = settled;
  const batch = { images: batchImages, captionsPerImage: captions };
  const updates = Math.ceil(batchesOfEpoch(dataset, 'train', batch, (file) => store.has(file)) / accumulate);
  const warmup = o.warmup ?? Math.min(settled.warmup, Math.floor(updates / WARMUP_PART));
  // With --start, only the checkpoint tells the preset, with it the patience, and the decoder.
  if (start) {
    const given = { schedule: o.schedule, languageRate: o.languageRate, labelSmoothing: o.labelSmoothing || undefined };
    const names = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [name]));
    refuseWithoutEffect(TRAINING_OPTIONS, new Set(names), { ...settled, decoder: start.config.options.decoder, start: undefined });
  }
  const own = language ? { project: language.width, hidden: language.width, embedding: language.width, positions: language.positions } : {};
  const widths = { ...DEFAULT_WIDTHS, ...(vectors ? { embedding: vectors.width } : {}), ...own };
  const sizes = { features: store.index.width, regions: store.index.regions, ...widths, vocabulary: dataset.vocabulary.length };
  const options = {
    ...modelOptions(o, preset, start ? start.config.options : null),
    ...(language ? { layers: language.layers, heads: language.heads } : {}),
  };
  if (isLanguageModel(options)) checkPositions(options, start?.config.sizes ?? sizes, dataset);
  const languageRate = isLanguageModel(options) ? { languageRate: settled.languageRate ?? start?.config.languageRate ?? 0 } : {};
  const trainable = dataset.images.filter(({ split, file }) => split === 'train' && store.has(file));
  return {
    ...{ preset, seed, rate, schedule, warmup, patience, maxNorm, accumulate, gradientPrecision },
    sizes: start ? start.config.sizes : sizes,
    options,
    batch,
    objective: o.objective === 'scst' ? 'scst' : LOSSES[preset],
    selfCritical:
      o.objective === 'scst'
        ? {
            ...{ samples: o.samples, maxLength: o.sampleLength ?? dataset.maxLength - 1, temperature: o.temperature },
            ...{ baseline: o.baseline, mix: o.mix, normalize: o.normalizeAdvantage },
          }
        : null,
    horizon: schedule === 'cosine' || o.scheduledSampling > 0 ? epochs : 0,
    ...{ maxLength: dataset.maxLength, words: dataset.words },
    trainingSet: hashOf(trainable),
    // A run that trains its encoder reads pictures instead.
    ...(o.fineTune ? {} : { featurePrecision: store.index.type, featureHash: store.hashOf(trainable.map(({ file }) => file)) }),
    start: start ? weightsHash(start.weights) : null,
    wordVectors: vectors ? vectors.sha256 : null,
    ...(language ? { languageModel: weightsHash(language.weights) } : {}),
    ...languageRate,
    encoderLayers: o.fineTune ?? start?.config.encoderLayers ?? [],
    encoderRate: o.fineTune ? o.encoderRate : 0,
  };
}

/** The language model to start from. Its tokens must be the dataset's words. */
function languageModelOf(o: TrainOptions, folder: string, { words, vocabulary }: Dataset): LanguageModel {
  if (words !== 'byte-pairs')
    throw new GlimpseError(
      `the words of ${o.data} are by the rule ${words}; a language model needs its own tokens: glimpse prepare --words byte-pairs --tokenizer ${folder}`,
    );
  return readLanguageModel(folder, vocabulary, o.pictureAs === 'cross-attention');
}

/** Regions of a prefix and words must fit into the positions that the language model has. */
function checkPositions({ pictureAs }: CaptionerOptions, sizes: CaptionerSizes, { maxLength }: Dataset): void {
  const needed = maxLength - 1 + (pictureAs === 'prefix' ? sizes.regions : 0);
  if (needed > (sizes.positions ?? 0)) {
    const what = pictureAs === 'prefix' ? `${sizes.regions} regions and captions of up to ${maxLength - 1} words` : `captions of up to ${maxLength - 1} words`;
    throw new GlimpseError(`the language model has ${sizes.positions} positions, ${what} need ${needed}`);
  }
}

/** All that a run needs besides a device. Each process of a world prepares it on its own. */
async function prepare(o: TrainOptions) {
  const shaders = readShaders(o.shader);
  const dataset = readDataset(o.data);
  const start = o.start ? checkpointAt(o, o.start) : null;
  const store = await openFeatures(o, o.features);
  const vectors = o.wordVectors ? readWordVectors(o.wordVectors, dataset.vocabulary, o.encoding) : null;
  if (o.objective === 'scst' && start?.config.options.attention === 'hard')
    throw new UsageError(
      '--objective scst needs a model of soft attention: in the replay of a sample, hard attention would draw other regions than when it was sampled',
    );
  if (start) {
    if (!sameWords(start.vocabulary, dataset.vocabulary)) throw new GlimpseError(`${o.start} was trained with another vocabulary than that of ${o.data}`);
    store.requireEncoder(start.encoder);
  }
  const language = o.languageModel ? languageModelOf(o, o.languageModel, dataset) : null;
  const config = configOf(o, dataset, store, { start, vectors, language });
  return { shaders, dataset, start, store, vectors, language, config };
}

type Prepared = Awaited<ReturnType<typeof prepare>>;

/** What the processes of a world must have in common, by names that a message can say. */
function factsOf(o: TrainOptions, { dataset, store, config }: Prepared): Record<string, string> {
  const short = (value: unknown) => createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 12);
  const { trainingSet, featureHash = 'none', start, wordVectors, languageModel, ...options } = config;
  const { out, resume, validation, keep, saveEvery, reduce, epochs } = o;
  const others = hashOf(dataset.images.filter(({ split, file }) => split !== 'train' && store.has(file)));
  return {
    'version of glimpse': VERSION,
    dataset: short([trainingSet, others, dataset.vocabulary]),
    'feature store': short([featureHash, store.index.encoder.sha256, store.index.type]),
    'model to start from': short([start, wordVectors, languageModel]),
    ...Object.fromEntries(flatFields({ ...options, out, resume, validation, keep, saveEvery, reduce, epochs })),
  };
}

/** Says what each process computes on, and what slows a world down. */
async function sayWorld(o: TrainOptions, world: World, description: string): Promise<void> {
  const all = await world.gather({ description, cores: availableParallelism(), of: cpus().length });
  say(o, `${world.size} processes train together, started by ${world.by}; updates of ${o.accumulate} micro-batches are shared out among them`);
  for (const [rank, each] of all.entries()) say(o, `${world.nameOf(rank)}: adapter ${each.description}`);
  const bound = all.findIndex(({ cores, of }) => cores < of);
  if (bound >= 0)
    say(
      o,
      `${world.nameOf(bound)} may only use ${all[bound].cores} of ${all[bound].of} processor cores: the launcher bound it; \`mpirun --bind-to none\` lets it use all, \`srun --cpus-per-task\` more`,
    );
}

/** "an update of 1.20 s: 1.1 s computing, …": where the time of several processes goes. */
function exchangeText({ update, compute, wait, read, reduce, upload, exposed }: NonNullable<EpochReport['exchange']>): string {
  const ms = (time: number) => `${Math.round(time)} ms`;
  const all = wait + read + reduce + upload;
  const hidden = all > 0 ? Math.max(0, Math.round(100 * (1 - exposed / all))) : 0;
  return `an update takes ${ms(update)} on average: ${ms(compute)} computing gradients, ${ms(exposed)} after that for their exchange (waiting for others ${ms(wait)}, reading ${ms(read)}, summing ${ms(reduce)}, writing ${ms(upload)}; ${hidden} % hidden behind the computation)`;
}

/** "a,b": the adapters of a machine's processes, in turn. */
function adapterOf({ adapter }: TrainOptions, world: World): string | undefined {
  const names = adapter?.split(',');
  if (names && names.length > 1 && world.size === 1)
    throw new UsageError(`--adapter names ${names.length} adapters for one process; several processes take one each: start them with mpirun`);
  return names?.[world.localRank % names.length];
}

export async function trainCommand(given: TrainOptions): Promise<number> {
  checkOptions(given);
  const world = await World.open((text) => say({}, text));
  if (given.reduce && world.size === 1) throw new UsageError('--reduce is for several processes: start them with mpirun, or leave it out');
  const o = world.isFirst ? given : { ...given, quiet: true };
  try {
    world.requireEven(given.accumulate);
    const code = await trainIn(world, { ...o, adapter: adapterOf(o, world) });
    await world.close();
    return code;
  } catch (error) {
    if (world.size === 1) throw error;
    if (error instanceof NotAgreed || error instanceof Diverged) {
      await world.close();
      if (world.isFirst) throw error;
      return error.exitCode;
    }
    process.stderr.write(`glimpse: ${printableLines(`${world.nameOf(world.rank)}: ${messageOf(error)}\n  All processes end; go on with --resume.`)}\n`);
    world.abort(1);
    throw error;
  }
}

async function trainIn(world: World, o: TrainOptions): Promise<number> {
  const prepared = await world.agreed(() => prepare(o));
  const { shaders, dataset, start, store, vectors, language, config } = prepared;
  if (world.size > 1) await world.requireSame(factsOf(o, prepared));
  const trainable = dataset.images.filter(({ split }) => split === 'train');
  const { epochs } = settledOptions(o, config.preset);
  const without = trainable.filter(({ file }) => !store.has(file)).length;
  if (without > 0) say(o, `${without} of ${trainable.length} training pictures have no features and are left out`);
  for (const note of vectors?.notes ?? []) say(o, `${o.wordVectors}: ${note}`);
  if (vectors) say(o, `${o.wordVectors}: vectors of ${vectors.width} numbers for ${vectors.rows.size} of ${dataset.vocabulary.length} words`);
  for (const note of language?.notes ?? []) say(o, `${o.languageModel} ${note}`);
  if (language)
    say(o, `${o.languageModel}: ${language.layers} layers of width ${language.width}, rows of its embedding for ${dataset.vocabulary.length} words`);
  if (o.resume && !holdsCheckpoint(o.out)) say(o, `${o.out} holds no checkpoint yet: this is a new run`);
  using end = endRequest((signal) => say(o, `${signal}: stopping after this update; go on later with --resume`));
  try {
    return await withGpu(o, async (gpu) => {
      if (world.size > 1) await sayWorld(o, world, gpu.description);
      await world.agreed(() => useCheckedShaders(gpu, o, shaders));
      let bar: ReturnType<typeof progress> | null = null;
      const reports = await train({
        dataset,
        store,
        config,
        run: o.out,
        epochs,
        resume: o.resume,
        world,
        ...(o.reduce ? { reduce: o.reduce } : {}),
        keep: o.keep,
        saveEvery: o.saveEvery,
        ...(start ? { start } : {}),
        ...(o.encoder ? { encoderPath: o.encoder } : {}),
        ...(o.followLinks ? { followLinks: true } : {}),
        ...(vectors ? { wordVectors: vectors.rows } : {}),
        ...(language ? { languageWeights: language.weights } : {}),
        validationImages: o.validation,
        shouldStop: () => end.signal !== null,
        hooks: {
          onNote: (note) => say(o, note),
          onStep: (s) => {
            bar ??= progress(o, 'train', epochs * s.batches, 'batches');
            bar.update(
              (s.epoch - 1) * s.batches + s.batch,
              `epoch ${s.epoch}, ${stepNote(s)}, ${Math.round(s.tokensPerSecond)} tokens/s, ${Math.round((memory().peakBytes + memory().texelBytes) / 2 ** 20)} MiB`,
            );
          },
          onEpoch: (e) => {
            say(
              o,
              `epoch ${e.epoch}: ${trainingResult(config, e.trainLoss)}${e.valLoss === null ? '' : `, validation ${e.valLoss.toFixed(4)} (perplexity ${e.perplexity?.toFixed(1)}), CIDEr-D ${e.cider?.toFixed(3)}`}, ${Math.round(e.tokensPerSecond)} tokens/s, ${duration(e.seconds)}`,
            );
            if (e.exchange) say(o, exchangeText(e.exchange));
          },
        },
      });
      (bar as ReturnType<typeof progress> | null)?.stop();
      const last = reports[reports.length - 1];
      const [signal, exitCode] = await signalOf(world, end);
      const stopped = signal !== null && last?.epoch !== epochs; // it may have come in the last validation
      if (!world.isFirst) return 0; // the exit code of the first one is what counts
      result(o, { run: o.out, adapter: gpu.description, config, stopped, signal, epochs: reports }, () => {
        if (stopped) return `${o.out}: not finished, ${signal} stopped it ${last ? `after epoch ${last.epoch}` : 'within an epoch'}; go on with --resume`;
        if (!last) return `${o.out}: nothing left to do`;
        const done = `${last.epoch} epochs, ${trainingResult(config, last.trainLoss)} on ${gpu.description}`;
        return `${o.out}: ${done}\nCaption with: glimpse caption ${o.out} PICTURE…`;
      });
      return stopped ? exitCode : 0;
    });
  } finally {
    await store.close();
  }
}

/** The signal that came to any of the processes first, by rank, and the exit code that belongs to it. */
async function signalOf(world: World, { signal, exitCode }: EndRequest): Promise<readonly [string | null, number]> {
  const all = await world.gather([signal, exitCode] as const);
  return all.find(([each]) => each !== null) ?? [null, 0];
}
