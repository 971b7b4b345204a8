/**
 * The trainer: teacher forcing or self-critical training on stored features, with Adam. After each epoch it validates (loss per
 * token, and CIDEr-D of greedy captions). It writes logs and checkpoints. A resumed run goes on as if it had never stopped.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { gradOf, noGrad } from '../../autograd/tape.ts';
import { AppendFile, wholeLines } from '../../data/append_file.ts';
import { copyFileAtomic, makeFolder, onFile, removeTemporaries } from '../../data/atomic_file.ts';
import { bytesAsSource } from '../../data/bytes.ts';
import type { Dataset } from '../../data/captions.ts';
import { EventFile } from '../../data/event_file.ts';
import { encoderDifferences } from '../../data/feature_index.ts';
import type { FeatureStore } from '../../data/feature_store.ts';
import { nonFinite } from '../../data/finite.ts';
import { floatsOf, type StoredNumbers } from '../../data/half.ts';
import type { PictureFile } from '../../data/images.ts';
import { lockFolder } from '../../data/lock.ts';
import { pictureOf } from '../../data/picture_places.ts';
import { SPECIAL_WORDS, sameWords, Vocabulary } from '../../data/words.ts';
import { GlimpseError } from '../../errors.ts';
import { currentGpu } from '../../gpu/gpu.ts';
import { ciderD } from '../../metrics/cider.ts';
import { Optimizer } from '../../nn/optimizer.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import { featureTensor } from '../../nn/stored_features.ts';
import { VERSION } from '../../platform/node/version.ts';
import { empty, readTensors, Scope, scope, type Tensor, type TypedArray, tensor } from '../../tensor/tensor.ts';
import { Captioner, embeddingInit, packsCaptions } from '../captioner/captioner.ts';
import { isLanguageModel, isOfLanguageModel } from '../captioner/transformer.ts';
import { ImageEncoder } from '../encoder/encoder.ts';
import { packed } from '../encoder/network.ts';
import { type Batch, epochBatches } from './batches.ts';
import {
  type Checkpoint,
  checkpointFrom,
  checkpointPath,
  differingFields,
  newestCheckpoint,
  type Progress,
  pausedPath,
  pruneCheckpoints,
  saveCheckpoint,
  type TrainedOn,
  type TrainingConfig,
} from './checkpoint.ts';
import { type ExchangeTimes, type GradientSum, LocalSum, type Reduction, WorldSum } from './gradient_sum.ts';
import { shapeOfWords } from './packing.ts';
import { afterEpoch, encoderRateAt, hasStalled, languageRateAt, rateAt, samplingProbability } from './schedule.ts';
import { type Rollout, SelfCritical } from './self_critical.ts';
import { type EncoderStep, type StepInputs, TrainingStep } from './step.ts';
import { weightsHash } from './weights_hash.ts';
import { World } from './world.ts';

/** Slots of a caption in the original course project, padding included. It printed the loss per slot. */
const SLOTS = 35;

/** What a training step reports: losses in nats, the gradient norm before clipping, tokens per second. */
export interface StepReport {
  epoch: number;
  batch: number;
  batches: number;
  lossPerToken: number;
  lossPerSlot: number;
  gradNorm: number;
  rate: number;
  tokensPerSecond: number;
  /** Only with self-critical training. lossPerToken is then its surrogate loss, and lossPerSlot is 0. */
  rollout?: Rollout;
}

/** What an epoch reports; the validation is null where there was none. */
export interface EpochReport {
  epoch: number;
  /** Nats per token; with self-critical training, minus the mean reward. */
  trainLoss: number;
  valLoss: number | null;
  perplexity: number | null;
  cider: number | null;
  rate: number;
  seconds: number;
  tokensPerSecond: number;
  /** Of several processes: milliseconds of an update on average, and where they went in the first process. */
  exchange?: ExchangeTimes & { update: number };
}

/** Called as training goes on. */
export interface TrainerHooks {
  onStep(report: StepReport): void;
  onEpoch(report: EpochReport): void;
  /** What a user should know: what differs from the run before, what a file lacks. */
  onNote?(note: string): void;
}

/** What `train` needs. The command `glimpse train` makes it from its options. */
export interface TrainerOptions {
  dataset: Dataset;
  store: FeatureStore;
  config: TrainingConfig;
  run: string;
  epochs: number;
  resume: boolean;
  keep: number;
  /** Updates between checkpoints within an epoch; 0 saves only at its end or on an interrupt. */
  saveEvery: number;
  /** The model that a new run starts from. */
  start?: Checkpoint;
  /** Pictures may be links out of the picture folder. */
  followLinks?: boolean;
  /** Path of the encoder to train, if it has moved. */
  encoderPath?: string;
  /** Rows of the embedding to start from, by word id. */
  wordVectors?: ReadonlyMap<number, Float32Array>;
  /** Weights of a language model to start from, by the names of the captioner's parameters. */
  languageWeights?: ReadonlyMap<string, NamedArray>;
  /** Number of validation pictures to decode and score; 0 skips the validation. */
  validationImages: number;
  hooks: TrainerHooks;
  /** The processes that train this run together (default: this one alone), and how they sum their gradients. */
  world?: World;
  reduce?: Reduction;
  /** Asked between updates; true saves a checkpoint and stops. */
  shouldStop?: () => boolean;
}

/** The weight of each target word. `tokens` and `rows` are the totals of all micro-batches of an update. */
function rowWeights(batch: Batch, objective: TrainingConfig['objective'], { tokens, rows }: { tokens: number; rows: number }): Float32Array {
  const each = objective === 'caption-mean' ? 1 / rows : 1 / tokens;
  return Float32Array.from(batch.targets, (id) => (id === 0 ? 0 : each));
}

const rowsOf = (batch: Batch) => batch.active[0];

/** Pictures that the encoder processes at a time outside training steps. */
const ENCODED_TOGETHER = 8;
/** Pictures that a validation captions at a time. */
const DECODED_TOGETHER = 32;

const FRESH = {
  ...{ epoch: 0, batch: 0, nats: 0, tokens: 0, updates: 0, gradNorm: 0, seconds: 0, logBytes: 0, eventBytes: 0 },
  ...{ bestScore: null, scoredOn: null, epochsSinceBest: 0 },
};

/** The loss or a gradient is no number, in every process. What was trained until then is of no use, so it is not saved. */
export class Diverged extends GlimpseError {
  override name = 'Diverged';
}

const worldOf = ({ world = World.ALONE }: TrainerOptions) => world;

/** What trains here and now. */
function trainedOn(o: TrainerOptions): TrainedOn {
  const { size } = worldOf(o);
  return { adapter: currentGpu().description, version: VERSION, ...(size > 1 ? { processes: size, reduce: o.reduce ?? 'ordered' } : {}) };
}

/** The newest checkpoint of the run. The first process alone reads it, so the others need no disk in common with it. */
async function sharedCheckpoint(o: TrainerOptions): Promise<Checkpoint | null> {
  const world = worldOf(o);
  const own = await world.agreed(() => (world.isFirst ? newestCheckpoint(o.run, (note) => o.hooks.onNote?.(note)) : null));
  if (world.size === 1) return own?.checkpoint ?? null;
  const bytes = await world.shareBytes(own ? readFileSync(own.path) : null);
  if (!bytes || own) return own?.checkpoint ?? null;
  return checkpointFrom(bytesAsSource(`the checkpoint of ${o.run} as ${world.nameOf(0)} has it`, bytes));
}

/** Throws a GlimpseError if a checkpoint to resume from belongs to another configuration. */
function checkResumed(o: TrainerOptions, before: Checkpoint | null): void {
  const { dataset, store, config, run, resume, hooks } = o;
  if (before && !resume) throw new GlimpseError(`${run} already holds a run of ${before.progress.epoch} epochs; go on with --resume or choose another --out`);
  if (!before) return;
  const differing = differingFields(before.config, config);
  if (!sameWords(before.vocabulary, dataset.vocabulary)) differing.push('the vocabulary');
  const made = { ...before.encoder, tuned: config.encoderRate > 0 ? store.index.encoder.tuned : before.encoder.tuned }; // this run changes its own encoder
  if (encoderDifferences(made, store.index.encoder).length > 0) differing.push('the encoder of the features');
  if (differing.length > 0)
    throw new GlimpseError(
      `the checkpoint in ${run} was made with another configuration (before, now):\n    ${differing.join('\n    ')}${
        before.config.horizon === config.horizon || before.config.horizon === 0
          ? ''
          : `\n  the horizon is --epochs, over which the learning rate falls; go on with --epochs ${before.config.horizon}`
      }`,
    );
  const now = trainedOn(o);
  for (const [what, name] of [
    ['adapter', 'adapter'],
    ['version', 'version of glimpse'],
  ] as const) {
    const was = before.trainedOn?.[what];
    if (was !== undefined && was !== now[what])
      hooks.onNote?.(`the run was trained with the ${name} ${was}; it goes on with ${now[what]}, so the last bits of numbers may differ`);
  }
  const processes = ({ processes: count = 1, reduce = 'ordered' }: TrainedOn) =>
    `${count} process${count === 1 ? '' : 'es'}${reduce === 'fast' ? ' and --reduce fast' : ''}`;
  const [was, is] = [before.trainedOn, now].map((each) => each && processes(each));
  if (was && was !== is && (before.trainedOn?.reduce === 'fast' || now.reduce === 'fast'))
    hooks.onNote?.(`the run was trained by ${was}; it goes on with ${is}, so the last bits of numbers may differ`);
}

/** The pictures that an epoch is scored on. */
function validationImages({ dataset, store, validationImages: count }: TrainerOptions): Dataset['images'] {
  return dataset.images.filter(({ split, file }) => split === 'val' && store.has(file)).slice(0, count);
}

/** Names the pictures and captions that an epoch is scored on, in their order. */
function scoredOn(o: TrainerOptions): string {
  const hash = createHash('sha256');
  for (const { file, ids, captions } of validationImages(o)) hash.update(JSON.stringify([file, ids, captions]));
  return hash.digest('hex').slice(0, 16);
}

/** The progress to go on from. A best score of other pictures cannot be compared, so it starts anew. */
function progressOf(o: TrainerOptions, before: Checkpoint | null): Progress {
  if (!before) return { ...FRESH, rate: o.config.rate };
  const { progress } = before;
  if (progress.bestScore === null || progress.scoredOn === null || o.validationImages === 0 || progress.scoredOn === scoredOn(o)) return progress;
  o.hooks.onNote?.(
    `the validation pictures differ from those of the best CIDEr-D so far (${progress.bestScore.toFixed(3)}); the best epoch is looked for anew`,
  );
  return { ...progress, bestScore: null, epochsSinceBest: 0 };
}

function startModel({ dataset, config, start, wordVectors, languageWeights }: TrainerOptions): Captioner {
  if (start) return Captioner.fromWeights(config.sizes, config.options, start.weights);
  const model = Captioner.create(config.sizes, config.options, config.seed);
  for (const [name, { data }] of languageWeights ?? []) model.parameters.get(name).write(data);
  // A language model knows how frequent words are.
  if (config.preset === 'recommended' && !isLanguageModel(config.options)) setUnigramBias(model, dataset);
  if (wordVectors) {
    const table = model.parameters.get('emb');
    const values = embeddingInit(config.options)(table.shape, config.seed, 'emb');
    for (const [id, vector] of wordVectors) values.set(vector, id * table.shape[1]);
    table.write(values);
  }
  return model;
}

/** The encoder and its optimizer, if the run trains it; else null. Its weights come from the checkpoint, else `start`, else the file. */
async function openTuned(
  { config, store, encoderPath, start }: TrainerOptions,
  before: Checkpoint | null,
): Promise<{ encoder: ImageEncoder; step: EncoderStep } | null> {
  if (config.encoderRate === 0) return null;
  const weights = (before ?? start)?.encoderWeights;
  const { path } = store.index.encoder;
  const tuned = { layers: config.encoderLayers, ...(weights && weights.size > 0 ? { weights } : {}) };
  const otherwise = 'is not the encoder that made the features; give that file with --encoder';
  const encoder = await ImageEncoder.reopen(store.index.encoder, encoderPath ?? path, otherwise, tuned);
  const optimizer = new Optimizer(encoder.parameters, { kind: 'adam', rate: config.encoderRate, maxNorm: config.maxNorm });
  if (before) optimizer.write(before.moments, before.progress.updates);
  return { encoder, step: { shape: [3, encoder.size, encoder.size], encode: (pictures) => encoder.encode(pictures), optimizer } };
}

/** The state of a run while it trains. */
class Run {
  readonly model: Captioner;
  readonly optimizer: Optimizer;
  /** Updates the weights of a language model, if there is one and the run trains it. */
  readonly language: Optimizer | null;
  readonly step: TrainingStep;
  readonly critic: SelfCritical | null;
  /** The first process writes them. */
  readonly log: AppendFile | null;
  readonly events: EventFile | null;
  readonly world: World;
  /** Adds up the gradients of an update. */
  readonly sum: GradientSum;
  /** [accumulate]: the cross-entropies of an update's micro-batches. */
  readonly losses: Tensor;
  progress: Progress;
  /** The progress after the last whole update: what a checkpoint says when an error ends the run within the next one. */
  private boundary: Progress | null;
  /** When the present epoch was begun or resumed; null between epochs. */
  private begun: number | null = null;

  constructor(
    readonly o: TrainerOptions,
    private readonly before: Checkpoint | null,
    readonly tuned: Awaited<ReturnType<typeof openTuned>>,
  ) {
    const { config, dataset, store, run } = o;
    this.world = worldOf(o);
    this.model = before ? Captioner.fromWeights(config.sizes, config.options, before.weights) : startModel(o);
    const { languageRate = 0 } = config;
    const isSlow = (name: string) => isLanguageModel(config.options) && isOfLanguageModel(name);
    if (languageRate === 0) this.model.parameters.freeze(isSlow);
    const adam = { kind: 'adam', maxNorm: config.maxNorm } as const;
    this.optimizer = new Optimizer(
      this.model.parameters.trained((name) => !isSlow(name)),
      { ...adam, rate: config.rate },
    );
    this.language = languageRate > 0 ? new Optimizer(this.model.parameters.trained(isSlow), { ...adam, rate: languageRate }) : null;
    this.progress = progressOf(o, before);
    for (const optimizer of [this.optimizer, this.language]) if (before) optimizer?.write(before.moments, this.progress.updates);
    this.optimizer.norm.write(Float32Array.of(this.progress.gradNorm));
    this.optimizer.norm.gpu.pool.trim(); // the parameters have moved together; where they lay before is free
    this.step = new TrainingStep(this.model, this.optimizer, config.seed, tuned?.step ?? null, this.language);
    const training = dataset.images.filter(({ split, file }) => split === 'train' && store.has(file));
    this.critic = config.selfCritical
      ? new SelfCritical(this.model, new Vocabulary(dataset.vocabulary, dataset.words), training, config.selfCritical, config.seed)
      : null;
    const { optimizers } = this.step;
    const bits16 = config.gradientPrecision === 'bf16';
    const { mpi } = this.world;
    this.sum = mpi ? new WorldSum(mpi, optimizers, o.reduce ?? 'ordered', bits16) : new LocalSum(optimizers, config.accumulate, bits16);
    if (this.sum instanceof WorldSum && o.reduce !== 'fast') {
      const { sum } = this;
      this.step.onGradient = (gradient) => sum.complete(gradient);
    }
    this.losses = Scope.release(empty([config.accumulate], 'f32', 'cross-entropies of an update'));
    this.log = this.world.isFirst ? new AppendFile(join(run, 'log.jsonl'), this.progress.logBytes, wholeLines) : null;
    this.events = this.world.isFirst ? new EventFile(join(run, 'events.out.tfevents.0.glimpse'), this.progress.eventBytes) : null;
    for (const { path, missing } of this.log && this.events ? [this.log, this.events.file] : [])
      if (missing > 0) o.hooks.onNote?.(`${path} lacks ${missing} bytes that the checkpoint counts: its last entries are lost`);
    this.boundary = this.progress;
  }

  /** Times of the epoch's updates, for its report. */
  private readonly times: (ExchangeTimes & { update: number })[] = [];

  noteTimes(update: number, exchange: ExchangeTimes | null): void {
    if (exchange) this.times.push({ update, ...exchange });
  }

  /** When the update before was settled. */
  private settled = 0;

  /** Seconds that an update took which was begun at this time: updates overlap, so it counts from the end of the one before. */
  secondsSince(started: number): number {
    const now = performance.now();
    const seconds = (now - Math.max(started, this.settled)) / 1000;
    this.settled = now;
    return seconds;
  }

  /** Mean times of the updates since the last call; null in one process. */
  takeTimes(): EpochReport['exchange'] | null {
    const all = this.times.splice(0);
    if (all.length === 0) return null;
    const mean = { ...all[0] };
    for (const name of Object.keys(mean) as (keyof typeof mean)[]) mean[name] = sumOf(all, (each) => each[name]) / all.length;
    return mean;
  }

  /** Seconds of the present epoch, of this session and those before it. */
  get seconds(): number {
    return this.progress.seconds + (this.begun === null ? 0 : (performance.now() - this.begun) / 1000);
  }

  beginEpoch(): void {
    this.begun = performance.now();
  }

  /** Until `reached`, the state is that of no boundary: an error then leaves the last checkpoint. */
  leave(): void {
    this.boundary = null;
  }

  /** Notes that the batches before `batch` are done, with whole updates. */
  reached(batch: number): void {
    this.boundary = { ...this.now(), batch };
  }

  private now(): Progress {
    return { ...this.progress, updates: this.optimizer.steps, seconds: this.seconds, logBytes: this.log?.bytes ?? 0, eventBytes: this.events?.file.bytes ?? 0 };
  }

  endEpoch(progress: Progress): void {
    this.progress = { ...progress, seconds: 0 };
    this.begun = null;
  }

  /** Sets the learning rate of the next update, for the captioner, its language model and the encoder. */
  set rate(rate: number) {
    const { config } = this.o;
    this.optimizer.rate = rate;
    if (this.language) this.language.rate = languageRateAt(config, rate);
    if (this.tuned) this.tuned.step.optimizer.rate = encoderRateAt(config, rate);
  }

  private picture(file: string): Promise<PictureFile> {
    return pictureOf(this.o.dataset, file, this.o.followLinks ?? false);
  }

  /** The inputs of a training step for some pictures: stored features, or the pictures if the encoder is trained too. */
  async inputs(files: readonly string[]): Promise<StoredNumbers> {
    const { store } = this.o;
    if (!this.tuned) return store.readStored(files);
    const { encoder } = this.tuned;
    return packed(await Promise.all(files.map((file) => encoder.load(this.picture(file)))));
  }

  /** Features [files, P, F]: stored ones, or those of the encoder's present weights. */
  async features(files: readonly string[]): Promise<StoredNumbers> {
    const { store } = this.o;
    if (!this.tuned) return store.readStored(files);
    const { encoder } = this.tuned;
    const parts: Float32Array[] = [];
    for (let first = 0; first < files.length; first += ENCODED_TOGETHER) {
      const part = files.slice(first, first + ENCODED_TOGETHER);
      parts.push((await encoder.features(await Promise.all(part.map((file) => encoder.load(this.picture(file)))), part)).values);
    }
    return packed(parts);
  }

  /** Saves the state after the last whole update. The first process alone does. */
  async save(path: string): Promise<void> {
    if (!this.world.isFirst) return;
    this.boundary = this.now();
    this.log?.sync();
    this.events?.file.sync();
    await this.write(path, this.boundary);
  }

  /** Saves what was done before an error ended the run. Returns whether there was something to save. */
  async saveAfterError(path: string): Promise<boolean> {
    if (!this.world.isFirst || !this.boundary || this.boundary.updates === (this.before?.progress.updates ?? 0)) return false;
    await this.write(path, this.boundary);
    return true;
  }

  private async write(path: string, progress: Progress): Promise<void> {
    const { config, dataset, store, start } = this.o;
    const encoderWeights = this.tuned ? await this.tuned.encoder.parameters.read() : ((this.before ?? start)?.encoderWeights ?? new Map<string, NamedArray>());
    const encoder = { ...store.index.encoder, tuned: encoderWeights.size > 0 ? weightsHash(encoderWeights) : null };
    const meta = { config, progress, vocabulary: dataset.vocabulary, encoder, encoderWeights, trainedOn: trainedOn(this.o) };
    await saveCheckpoint(path, this.model, this.step.optimizers, meta);
  }

  dispose(): void {
    this.log?.close();
    this.events?.file.close();
    this.losses.dispose();
    this.step.dispose();
    for (const optimizer of this.step.optimizers) optimizer.dispose();
    this.tuned?.encoder.dispose();
    this.model.dispose();
  }
}

/**
 * Trains a captioner, writes log and checkpoints into the folder of the run, and returns a report for each epoch.
 * Throws a GlimpseError if the loss is no number, or if the folder holds a run of another configuration or is in use. What was done
 * before any other error is saved, to go on from there.
 */
export async function train(o: TrainerOptions): Promise<EpochReport[]> {
  const { run } = o;
  const world = worldOf(o);
  world.requireEven(o.config.accumulate);
  const lock = await world.agreed(() => {
    if (!world.isFirst) return null;
    onFile(run, () => makeFolder(join(run, 'checkpoints')));
    return lockFolder(run);
  });
  try {
    const before = await sharedCheckpoint(o);
    const state = await world.agreed(async () => {
      checkResumed(o, before);
      if (world.isFirst) removeTemporaries(join(run, 'checkpoints'));
      return new Run(o, before, await openTuned(o, before));
    });
    try {
      return await trainEpochs(state, before);
    } catch (error) {
      if (!(error instanceof Diverged) && (await saved(state))) addNote(error, 'what was done until then is saved; go on with --resume');
      throw error;
    } finally {
      state.dispose();
    }
  } finally {
    lock?.release();
  }
}

/** Saves what was done before an error, if that is possible: a lost device or a full disk leaves the last checkpoint. */
async function saved(state: Run): Promise<boolean> {
  try {
    return await state.saveAfterError(pausedPath(state.o.run));
  } catch {
    return false;
  }
}

function addNote(error: unknown, note: string): void {
  if (error instanceof Error) error.message += `\n  ${note}`;
}

async function trainEpochs(state: Run, before: Checkpoint | null): Promise<EpochReport[]> {
  const { o } = state;
  const { config, run } = o;
  const best = join(run, 'checkpoints', 'best.safetensors');
  const paused = pausedPath(run);
  const { progress: p } = state;
  const { isFirst } = state.world;
  // A kill or an error may have come at the end of an epoch, before its checkpoint was written or copied as the best.
  if (isFirst && before && p.epoch > 0 && p.batch === 0) {
    const path = checkpointPath(run, p.epoch);
    if (!existsSync(path)) await state.save(path);
    if (p.epochsSinceBest === 0 && p.bestScore === before.progress.bestScore) copyFileAtomic(path, best);
    rmSync(paused, { force: true }); // the epoch's own checkpoint says the same
  }
  const reports: EpochReport[] = [];
  while (state.progress.epoch < o.epochs && !hasStalled(config, state.progress)) {
    state.beginEpoch();
    if (!(await trainEpoch(state))) {
      await state.save(paused);
      break;
    }
    await agreeOnWeights(state);
    const report = await endEpoch(state);
    reports.push(report);
    if (!isFirst) continue;
    const path = checkpointPath(run, report.epoch);
    await state.save(path);
    rmSync(paused, { force: true });
    if (state.progress.epochsSinceBest === 0) copyFileAtomic(path, best);
    pruneCheckpoints(run, o.keep);
    o.hooks.onEpoch(report);
  }
  return reports;
}

/**
 * Processes on one kind of adapter have the same weights, bit for bit. On several kinds, the last bits may drift apart. All then go
 * on with the weights and moments of the first process, and that is told.
 */
async function agreeOnWeights({ model, step, world, o, tuned }: Run): Promise<void> {
  if (world.size === 1) return;
  const weights = await model.parameters.read();
  for (const [name, value] of tuned ? await tuned.encoder.parameters.read() : []) weights.set(`encoder.${name}`, value);
  const hashes = await world.gather(weightsHash(weights));
  const differing = hashes.flatMap((hash, rank) => (hash === hashes[0] ? [] : [rank]));
  if (differing.length === 0) return;
  o.hooks.onNote?.(
    `the weights of ${differing.length} of ${world.size} processes differ from those of the first one (first ${world.nameOf(differing[0])}); all go on with the first one's`,
  );
  for (const parameters of [model.parameters, ...(tuned ? [tuned.encoder.parameters] : [])])
    for (const [, parameter] of parameters.all) parameter.write(await shared(world, (await readTensors([parameter]))[0] as Float32Array));
  for (const optimizer of step.optimizers) {
    const moments = await optimizer.read();
    for (const [name, { shape, data }] of moments) moments.set(name, { shape, data: await shared(world, data) });
    optimizer.write(moments, optimizer.steps);
  }
}

/** The numbers of the first process. */
async function shared(world: World, data: Float32Array): Promise<Float32Array> {
  const bytes = (await world.shareBytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))) as Uint8Array;
  return new Float32Array(bytes.buffer, bytes.byteOffset, data.length);
}

/** Validates, logs, and updates progress and rate for the next epoch. */
async function endEpoch(state: Run): Promise<EpochReport> {
  const { o, progress, optimizer, seconds } = state;
  const { config } = o;
  const validation = o.validationImages > 0 ? await validate(state) : null;
  if (validation) {
    state.model.decoding.dispose(); // training does not use what the validation needed
    optimizer.norm.gpu.pool.trim();
  }
  const epoch = progress.epoch + 1;
  const exchange = state.takeTimes();
  const report: EpochReport = {
    epoch,
    trainLoss: progress.nats / progress.tokens,
    valLoss: validation?.loss ?? null,
    perplexity: validation ? Math.exp(validation.loss) : null,
    cider: validation?.cider ?? null,
    rate: optimizer.rate,
    seconds,
    tokensPerSecond: progress.tokens / seconds,
    ...(exchange ? { exchange } : {}),
  };
  writeLog(state.log, { kind: 'epoch', ...report });
  const { trainLoss, valLoss, cider, rate } = report;
  state.events?.scalars(optimizer.steps, { 'epoch/train_loss': trainLoss, 'epoch/validation_loss': valLoss, 'epoch/cider_d': cider, 'epoch/rate': rate });
  const scored = validation ? scoredOn(o) : progress.scoredOn;
  state.endEpoch({ ...progress, ...{ epoch, batch: 0, nats: 0, tokens: 0 }, ...afterEpoch(config, progress, cider), scoredOn: scored });
  return report;
}

function writeLog(log: AppendFile | null, entry: Record<string, unknown>): void {
  log?.write(`${JSON.stringify(entry)}\n`);
}

/** Sets the output bias to the log frequency of each word in the training captions. Learning then starts from the right frequencies. */
function setUnigramBias(model: Captioner, dataset: Dataset): void {
  const counts = new Float64Array(dataset.vocabulary.length).fill(0.1);
  for (const { split, ids } of dataset.images) if (split === 'train') for (const caption of ids) for (const id of caption.slice(1)) counts[id]++;
  const total = counts.reduce((sum, count) => sum + count, 0);
  model.parameters.get('out_b').write(Float32Array.from(counts, (count) => Math.log(count / total)));
}

const ROLLOUT = ['reward', 'baseline', 'entropy', 'meanLength', 'endInFunctionWord', 'distinctWords', 'tokens'] as const satisfies readonly (keyof Rollout)[];
/** Numbers that processes tell each other of a micro-batch: its loss, and those of a rollout. */
const TOLD = 1 + ROLLOUT.length;

const rolloutFrom = (told: Float64Array) => Object.fromEntries(ROLLOUT.map((name, i) => [name, told[i]])) as unknown as Rollout;

/** An update that was submitted. Its results are on their way to the host while the next one is recorded. */
interface SubmittedUpdate {
  /** Place of its first micro-batch among those of the epoch. */
  at: number;
  group: readonly Batch[];
  batches: number;
  /** Losses and rollouts of the micro-batches, and whether a process was asked to stop. */
  told: Float64Array;
  /** Inputs of its last micro-batch. */
  features: StoredNumbers;
  steps: number;
  rate: number;
  exchange: ExchangeTimes | null;
  started: number;
  results: Promise<TypedArray[]>;
}

/** Trains to the end of the epoch. False if `shouldStop` ended it before, in any of the processes. */
async function trainEpoch(state: Run): Promise<boolean> {
  const { o, step, optimizer, critic, world, sum, losses } = state;
  const { dataset, store, config } = o;
  const epoch = state.progress.epoch + 1;
  const shape = { ...config.batch, packed: packsCaptions(config.options) };
  const batches = epochBatches(dataset, 'train', shape, (file) => store.has(file), config.seed, epoch);
  if (batches.length === 0) throw new GlimpseError('no training picture has features; run `glimpse features` on the training split');
  if (!critic && !state.tuned) step.reserve(batches, Math.min(config.accumulate, batches.length));
  const isOwn = (i: number) => isOwnBatch(state, i);
  let next: Promise<StoredNumbers> = Promise.resolve(new Float32Array());
  const prefetch = (from: number) => {
    let i = from;
    while (i < batches.length && !isOwn(i)) i++;
    if (i === batches.length) return;
    next = state.inputs(batches[i].files);
    next.catch(() => {}); // an error is thrown where this is awaited
  };
  prefetch(state.progress.batch);
  const asked = new Float64Array([o.shouldStop?.() ? 1 : 0]);
  await world.sum(asked);
  let stop = asked[0] > 0;
  let submitted: SubmittedUpdate | null = null;
  const take = () => {
    const update = submitted;
    submitted = null;
    return update;
  };
  const settled = async (update: SubmittedUpdate | null, following: boolean) => {
    if (update) stop = (await settle(state, update, following)) || stop;
  };
  try {
    for (let i = state.progress.batch; i < batches.length; i += config.accumulate) {
      const group = batches.slice(i, i + config.accumulate);
      const of = group.length;
      state.progress.batch = i;
      const saves = o.saveEvery > 0 && i > 0 && i % (o.saveEvery * config.accumulate) === 0;
      if (stop || saves) await settled(take(), false);
      if (stop) return false;
      if (saves) await state.save(pausedPath(o.run));
      const started = performance.now();
      sum.begin();
      const epochs = epoch - 1 + i / batches.length;
      state.rate = rateAt(config, state.progress.rate, optimizer.steps + 1, epochs);
      step.samplingProbability = samplingProbability(config, epochs);
      const told = new Float64Array(of * TOLD + 1);
      let features: StoredNumbers = new Float32Array();
      for (const [index, batch] of group.entries()) {
        if (!isOwn(i + index)) continue;
        features = await next;
        prefetch(i + index + 1);
        const { inputs, rollout } = await stepInputs(critic, batch, group, features, config, optimizer.steps * config.accumulate + index);
        const crossEntropy = step.add(inputs, { index, of, most: config.accumulate });
        crossEntropy.gpu.copy(crossEntropy.slice, losses.slice, 4, 0, index * 4);
        sum.add(index, of);
        if (rollout)
          told.set(
            ROLLOUT.map((name) => rollout[name]),
            index * TOLD + 1,
          );
      }
      await sum.finish(of);
      state.leave(); // weights change before the log says so
      const before = take(); // an error from here on must not make a boundary of it
      const results = readTensors([losses, step.update()]);
      results.catch(() => {}); // an error is thrown where this is awaited
      await settled(before, true);
      submitted = {
        at: i,
        group,
        batches: batches.length,
        told,
        features,
        steps: optimizer.steps,
        rate: optimizer.rate,
        exchange: sum.times,
        started,
        results,
      };
    }
  } catch (error) {
    await settled(take(), false).catch(() => {}); // the first error is the one to tell
    throw error;
  }
  await settled(take(), false);
  return true;
}

/** Which random numbers a micro-batch draws depends on its place in the update, not on the process that computes it. */
const isOwnBatch = ({ o: { config }, world }: Run, i: number) => (i % config.accumulate) % world.size === world.rank;

/**
 * Waits for the results of an update, checks and logs them. `following` tells that the next update was submitted already, so that
 * nothing can be saved now. Returns whether a process was asked to stop.
 */
async function settle(state: Run, update: SubmittedUpdate, following: boolean): Promise<boolean> {
  const { o, critic, log, events, world } = state;
  const { config } = o;
  const { at, group, batches, told, steps, rate, exchange } = update;
  const epoch = state.progress.epoch + 1;
  const of = group.length;
  const [values, [norm]] = await update.results;
  for (const index of group.keys()) if (isOwnBatch(state, at + index)) told[index * TOLD] = values[index];
  told[of * TOLD] = o.shouldStop?.() ? 1 : 0;
  await world.sum(told);
  const seconds = state.secondsSince(update.started);
  const bad = group.findIndex((_, index) => !Number.isFinite(told[index * TOLD]));
  if (bad >= 0 || !Number.isFinite(norm))
    throw new Diverged(
      `epoch ${epoch}, batch ${at + Math.max(0, bad) + 1}: the loss is ${told[Math.max(0, bad) * TOLD]}, the gradient norm ${norm}${await causeOf(state, update.features)}; lower --rate (now ${rate}) or clip with --max-norm`,
    );
  state.progress.gradNorm = norm;
  state.noteTimes(seconds * 1000, exchange);
  const share = config.objective === 'caption-mean' ? sumOf(group, rowsOf) : sumOf(group, ({ tokens }) => tokens);
  const reports = group.map((batch, index): StepReport => {
    const value = told[index * TOLD];
    const rollout = critic ? rolloutFrom(told.subarray(index * TOLD + 1)) : null;
    const nats = value * share;
    const tokens = rollout?.tokens ?? batch.tokens;
    state.progress.nats += rollout ? -rollout.reward * tokens : nats;
    state.progress.tokens += tokens;
    return {
      epoch,
      batch: at + index + 1,
      batches,
      lossPerToken: rollout ? value : nats / batch.tokens,
      lossPerSlot: rollout ? 0 : nats / rowsOf(batch) / SLOTS,
      gradNorm: norm,
      rate,
      tokensPerSecond: 0,
      ...(rollout ? { rollout } : {}),
    };
  });
  const tokens = group.reduce((total, batch, index) => total + (reports[index].rollout?.tokens ?? batch.tokens), 0);
  for (const [index, report] of reports.entries()) {
    report.tokensPerSecond = tokens / seconds;
    const isLast = index === of - 1;
    writeLog(log, { kind: 'step', ...report, ...(isLast && exchange ? { exchange } : {}) });
    const { lossPerToken, gradNorm, rollout = null } = report;
    if (isLast) events?.scalars(steps, { 'step/loss': lossPerToken, 'step/grad_norm': gradNorm, 'step/rate': rate, ...tagged(rollout) });
    if (isLast && !following) state.reached(at + of);
    if (world.isFirst) o.hooks.onStep(report);
  }
  return told[of * TOLD] > 0;
}

/** Which gradients are no numbers, and how large the inputs were. */
async function causeOf({ model, tuned }: Run, features: StoredNumbers): Promise<string> {
  const named = [...model.parameters.trained().all, ...(tuned ? tuned.encoder.parameters.all : [])].flatMap(([name, parameter]) => {
    const gradient = gradOf(parameter);
    return gradient ? [{ name, gradient }] : [];
  });
  const values = await readTensors(named.map(({ gradient }) => gradient));
  const bad = named.filter((_, i) => nonFinite(values[i] as Float32Array)).map(({ name }) => name);
  const largest = floatsOf(features).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const gradients = bad.length > 0 ? `, the gradients of ${bad.slice(0, 3).join(', ')}${bad.length > 3 ? ' and others' : ''} are NaN or infinite` : '';
  return `${gradients}, the largest input is ${largest.toPrecision(3)}`;
}

const sumOf = <T>(list: readonly T[], value: (each: T) => number) => list.reduce((sum, each) => sum + value(each), 0);

function tagged(rollout: Rollout | null): Record<string, number> {
  return rollout ? Object.fromEntries(Object.entries(rollout).map(([name, value]) => [`rollout/${name}`, value])) : {};
}

/** The inputs of a training step: the captions of the batch, or captions sampled for its pictures. */
async function stepInputs(
  critic: SelfCritical | null,
  batch: Batch,
  group: readonly Batch[],
  features: StoredNumbers,
  config: TrainingConfig,
  draw: number,
): Promise<{ inputs: StepInputs; rollout: Rollout | null }> {
  if (critic) {
    const { inputs, rollout } = await critic.rollout(batch.files, features, draw);
    inputs.weights.forEach((weight, at) => {
      inputs.weights[at] = weight / group.length;
    });
    return { inputs, rollout };
  }
  const all = { tokens: sumOf(group, ({ tokens }) => tokens), rows: sumOf(group, rowsOf) };
  return { inputs: { ...batch, features, pictures: batch.files.length, weights: rowWeights(batch, config.objective, all) }, rollout: null };
}

/** Loss per token over all captions, and CIDEr-D of greedy captions against them, on the first validation pictures. */
async function validate(state: Run): Promise<{ loss: number; cider: number } | null> {
  const { o, model } = state;
  const { dataset, store, config } = o;
  const images = validationImages(o);
  if (images.length === 0) return null;
  const vocabulary = new Vocabulary(dataset.vocabulary, dataset.words);
  const subset = { ...dataset, images };
  const { world } = state;
  const isOwn = (i: number) => i % world.size === world.rank;
  // Each process takes some of the parts. What they found is put together in the order of the parts, for the same bits.
  const losses: { nats: number; tokens: number }[] = [];
  const batches = epochBatches(subset, 'val', { images: 64, captionsPerImage: 1, packed: packsCaptions(config.options) }, () => true, 0, 0, false);
  for (const batch of batches.filter((_, i) => isOwn(i))) {
    using _batch = scope();
    const rows = batch.active[0];
    const shape = shapeOfWords(batch.active, batch.pictureOf !== null);
    const packing = batch.pictureOf && { active: batch.active, pictureOf: tensor(batch.pictureOf, [rows]) };
    const features = featureTensor(await state.features(batch.files), [batch.files.length, store.index.regions, store.index.width]);
    const weights = tensor(rowWeights(batch, 'token-mean', { tokens: batch.tokens, rows }), shape);
    const { crossEntropy } = noGrad(() => model.loss(features, tensor(batch.ids, shape), tensor(batch.targets, shape), weights, { packing }));
    losses.push({ nats: (await crossEntropy.item()) * batch.tokens, tokens: batch.tokens });
  }
  const said: string[][][] = [];
  for (let first = 0; first < images.length; first += DECODED_TOGETHER) {
    if (!isOwn(first / DECODED_TOGETHER)) continue;
    using _batch = scope();
    const part = images.slice(first, first + DECODED_TOGETHER);
    const features = featureTensor(await state.features(part.map(({ file }) => file)), [part.length, store.index.regions, store.index.width]);
    const captions = await model.decoding.greedy(features, config.maxLength - 1, { suppress: config.preset === 'recommended' });
    said.push(captions.map(({ tokens: ids }) => vocabulary.scoredWords(ids).filter((word) => !SPECIAL_WORDS.includes(word))));
  }
  const all = await world.gather({ losses, said });
  const inOrder = <T>(parts: readonly (readonly T[])[], count: number) =>
    Array.from({ length: count }, (_, i) => parts[i % world.size][Math.floor(i / world.size)]);
  const { nats, tokens } = inOrder(
    all.map((each) => each.losses),
    batches.length,
  ).reduce((total, each) => ({ nats: total.nats + each.nats, tokens: total.tokens + each.tokens }), { nats: 0, tokens: 0 });
  const candidates = inOrder(
    all.map((each) => each.said),
    Math.ceil(images.length / DECODED_TOGETHER),
  ).flat();
  const { mean } = ciderD(
    candidates,
    images.map(({ captions }) => captions.map((caption) => vocabulary.referenceWords(caption))),
  );
  return { loss: nats / tokens, cider: mean };
}
