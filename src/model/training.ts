/**
 * The trainer: teacher forcing on stored features, Adam, a validation after each epoch (loss per token, and CIDEr-D of greedy
 * captions), a JSONL log, and a checkpoint per epoch from which `resume` goes on with the same order of batches.
 */
import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, renameSync, statSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { noGrad } from '../autograd/tape.ts';
import { onFile } from '../data/atomic_file.ts';
import { type Dataset, SPECIAL_WORDS, Vocabulary, wordsOf } from '../data/captions.ts';
import type { FeatureStore } from '../data/feature_store.ts';
import { GlimpseError } from '../errors.ts';
import { ciderD } from '../metrics/cider.ts';
import { Optimizer } from '../nn/optimizer.ts';
import { readTensors, scope, tensor } from '../tensor/tensor.ts';
import { type Batch, epochBatches } from './batches.ts';
import { Captioner } from './captioner.ts';
import {
  checkpointPath,
  differingFields,
  epochsSaved,
  loadCheckpoint,
  type Progress,
  pruneCheckpoints,
  saveCheckpoint,
  type TrainingConfig,
} from './checkpoint.ts';
import { TrainingStep } from './training_step.ts';

/** The seed's printed loss divides the sum over its 34 steps by its caption length of 35. */
const SEED_LENGTH = 35;

export interface StepReport {
  epoch: number;
  batch: number;
  batches: number;
  lossPerToken: number;
  seedLoss: number;
  gradNorm: number;
  tokensPerSecond: number;
}

export interface EpochReport {
  epoch: number;
  trainLoss: number;
  valLoss: number | null;
  perplexity: number | null;
  cider: number | null;
  rate: number;
  seconds: number;
  tokensPerSecond: number;
}

export interface TrainerHooks {
  onStep(report: StepReport): void;
  onEpoch(report: EpochReport): void;
}

export interface TrainerOptions {
  dataset: Dataset;
  store: FeatureStore;
  config: TrainingConfig;
  run: string;
  epochs: number;
  resume: boolean;
  keep: number;
  /** Validation pictures to decode and score; 0 skips the validation. */
  validationImages: number;
  hooks: TrainerHooks;
  /** Checked between batches; true stops after saving. */
  shouldStop?: () => boolean;
}

/** Sum of losses over tokens, for the log: nats per token, and the seed's number for the same batch. */
function rowWeights(batch: Batch, objective: TrainingConfig['objective']): Float32Array {
  const rows = batch.targets.length / batch.steps;
  const each = objective === 'token-mean' ? 1 / batch.tokens : 1 / rows;
  return Float32Array.from(batch.targets, (id) => (id === 0 ? 0 : each));
}

/** Loss of one batch per token, whatever the objective weighs. */
function perToken(sum: number, batch: Batch, objective: TrainingConfig['objective']): { token: number; seed: number } {
  const rows = batch.targets.length / batch.steps;
  const nats = objective === 'token-mean' ? sum * batch.tokens : sum * rows;
  return { token: nats / batch.tokens, seed: nats / rows / SEED_LENGTH };
}

class Log {
  private readonly file: number;
  constructor(readonly path: string) {
    this.file = onFile(path, () => openSync(path, 'a'));
  }
  write(record: Record<string, unknown>): void {
    onFile(this.path, () => writeSync(this.file, `${JSON.stringify(record)}\n`));
  }
  get bytes(): number {
    return statSync(this.path).size;
  }
  close(): void {
    closeSync(this.file);
  }
}

export async function train(o: TrainerOptions): Promise<EpochReport[]> {
  const { dataset, store, config, run, hooks } = o;
  onFile(run, () => mkdirSync(join(run, 'checkpoints'), { recursive: true }));
  const logPath = join(run, 'log.jsonl');
  const saved = epochsSaved(run);
  if (saved.length > 0 && !o.resume)
    throw new GlimpseError(`${run} already holds a run of ${saved[saved.length - 1]} epochs; go on with --resume or choose another --out`);
  const before = o.resume && saved.length > 0 ? loadCheckpoint(checkpointPath(run, saved[saved.length - 1])) : null;
  if (before) {
    const differing = differingFields(before.config, config);
    if (before.vocabulary.join('\n') !== dataset.vocabulary.join('\n')) differing.push('the vocabulary');
    if (before.encoder.sha256 !== store.index.encoder.sha256) differing.push('the encoder of the features');
    if (differing.length > 0) throw new GlimpseError(`the checkpoint in ${run} was made with another configuration:\n    ${differing.join('\n    ')}`);
    if (existsSync(logPath)) truncateSync(logPath, Math.min(before.progress.logBytes, statSync(logPath).size));
  }
  const model = before ? Captioner.fromWeights(config.sizes, config.options, before.weights) : Captioner.create(config.sizes, config.options, config.seed);
  if (!before && config.preset === 'recommended') setUnigramBias(model, dataset);
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: config.rate, maxNorm: config.maxNorm });
  let progress: Progress = before?.progress ?? { epoch: 0, optimizerSteps: 0, rate: config.rate, bestScore: null, epochsSinceBest: 0, logBytes: 0 };
  if (before) optimizer.write(before.moments, progress.optimizerSteps);
  optimizer.rate = progress.rate;
  const step = new TrainingStep(model, optimizer, config.seed);
  if (!before && existsSync(logPath)) truncateSync(logPath, 0);
  if (before && progress.epochsSinceBest === 0) replaceCopy(checkpointPath(run, progress.epoch), join(run, 'checkpoints', 'best.safetensors')); // a kill may have come between the two
  const enough = () => config.patience > 0 && progress.epochsSinceBest >= 2 * config.patience;
  const log = new Log(logPath);
  const reports: EpochReport[] = [];
  try {
    for (let epoch = progress.epoch + 1; epoch <= o.epochs && !enough(); epoch++) {
      const started = performance.now();
      const { loss, tokens, stopped } = await trainEpoch(o, step, optimizer, epoch, log);
      const seconds = (performance.now() - started) / 1000;
      if (stopped) break; // the checkpoint of the last whole epoch stands; resuming repeats this one in the same order
      const validation = o.validationImages > 0 ? await validate(model, o) : null;
      const report: EpochReport = {
        epoch,
        trainLoss: loss,
        valLoss: validation?.loss ?? null,
        perplexity: validation ? Math.exp(validation.loss) : null,
        cider: validation?.cider ?? null,
        rate: optimizer.rate,
        seconds,
        tokensPerSecond: tokens / seconds,
      };
      log.write({ kind: 'epoch', ...report });
      reports.push(report);
      const score = validation ? validation.cider : null;
      const better = score !== null && score > (progress.bestScore ?? Number.NEGATIVE_INFINITY);
      progress = {
        ...progress,
        epoch,
        optimizerSteps: optimizer.steps,
        bestScore: better ? score : progress.bestScore,
        epochsSinceBest: better || score === null ? 0 : progress.epochsSinceBest + 1,
        logBytes: log.bytes,
      };
      if (config.patience > 0 && progress.epochsSinceBest > 0 && progress.epochsSinceBest % config.patience === 0) optimizer.rate /= 2;
      progress.rate = optimizer.rate;
      const path = checkpointPath(run, epoch);
      await saveCheckpoint(path, model, optimizer, { config, progress, vocabulary: dataset.vocabulary, encoder: store.index.encoder });
      if (better || score === null) replaceCopy(path, join(run, 'checkpoints', 'best.safetensors'));
      pruneCheckpoints(run, o.keep);
      hooks.onEpoch(report);
    }
    return reports;
  } finally {
    log.close();
    step.dispose();
    optimizer.dispose();
    model.dispose();
  }
}

function replaceCopy(from: string, to: string): void {
  onFile(to, () => {
    copyFileSync(from, `${to}.tmp`);
    renameSync(`${to}.tmp`, to);
  });
}

/** Output bias = log unigram frequency of the training captions, so that learning starts from the right marginals. */
function setUnigramBias(model: Captioner, dataset: Dataset): void {
  const counts = new Float64Array(dataset.vocabulary.length).fill(0.1);
  for (const { split, ids } of dataset.images) if (split === 'train') for (const caption of ids) for (const id of caption.slice(1)) counts[id]++;
  const total = counts.reduce((sum, count) => sum + count, 0);
  model.parameters.get('out_b').write(Float32Array.from(counts, (count) => Math.log(count / total)));
}

async function trainEpoch(
  o: TrainerOptions,
  step: TrainingStep,
  optimizer: Optimizer,
  epoch: number,
  log: Log,
): Promise<{ loss: number; tokens: number; stopped: boolean }> {
  const { dataset, store, config } = o;
  const batches = epochBatches(dataset, 'train', config.batch, (file) => store.has(file), config.seed, epoch);
  if (batches.length === 0) throw new GlimpseError('no training picture has features; run `glimpse features` on the training split');
  let nats = 0;
  let tokens = 0;
  let next = store.read(batches[0].files);
  const prefetch = (files: readonly string[]) => {
    next = store.read(files);
    next.catch(() => {}); // a fault is thrown where it is awaited, not while the GPU works
  };
  for (let i = 0; i < batches.length; i++) {
    if (o.shouldStop?.()) return { loss: nats / Math.max(1, tokens), tokens, stopped: true };
    const started = performance.now();
    const batch = batches[i];
    const features = await next;
    if (i + 1 < batches.length) prefetch(batches[i + 1].files);
    const { ids, targets, steps } = batch;
    const results = step.run({ features, pictures: batch.files.length, ids, targets, weights: rowWeights(batch, config.objective), steps });
    const [value, norm] = await readTensors([results.crossEntropy, results.norm]);
    if (!Number.isFinite(value[0]) || !Number.isFinite(norm[0]))
      throw new GlimpseError(
        `epoch ${epoch}, batch ${i + 1}: the loss is ${value[0]}, the gradient norm ${norm[0]}; lower --rate (now ${optimizer.rate}) or clip with --max-norm`,
      );
    const { token, seed } = perToken(value[0], batch, config.objective);
    nats += token * batch.tokens;
    tokens += batch.tokens;
    const report: StepReport = {
      epoch,
      batch: i + 1,
      batches: batches.length,
      lossPerToken: token,
      seedLoss: seed,
      gradNorm: norm[0],
      tokensPerSecond: batch.tokens / ((performance.now() - started) / 1000),
    };
    log.write({ kind: 'step', ...report });
    o.hooks.onStep(report);
  }
  return { loss: nats / tokens, tokens, stopped: false };
}

/** Loss per token over all captions, and CIDEr-D of greedy captions against them, on the first validation pictures. */
async function validate(model: Captioner, o: TrainerOptions): Promise<{ loss: number; cider: number } | null> {
  const { dataset, store, config } = o;
  const images = dataset.images.filter(({ split, file }) => split === 'val' && store.has(file)).slice(0, o.validationImages);
  if (images.length === 0) return null;
  const vocabulary = new Vocabulary(dataset.vocabulary);
  const subset = { ...dataset, images };
  let nats = 0;
  let tokens = 0;
  for (const batch of epochBatches(subset, 'val', { images: 64, captionsPerImage: 1 }, () => true, 0, 0, false)) {
    using _batch = scope();
    const rows = batch.targets.length / batch.steps;
    const features = tensor(await store.read(batch.files), [batch.files.length, store.index.places, store.index.width]);
    const weights = tensor(rowWeights(batch, 'token-mean'), [batch.steps, rows]);
    const { crossEntropy } = noGrad(() => model.loss(features, tensor(batch.ids, [batch.steps, rows]), tensor(batch.targets, [batch.steps, rows]), weights));
    nats += (await crossEntropy.item()) * batch.tokens;
    tokens += batch.tokens;
  }
  const candidates: string[][] = [];
  for (let first = 0; first < images.length; first += 32) {
    using _batch = scope();
    const part = images.slice(first, first + 32);
    const features = tensor(await store.read(part.map(({ file }) => file)), [part.length, store.index.places, store.index.width]);
    const captions = await model.greedy(features, config.maxLength - 1, config.preset === 'recommended');
    candidates.push(
      ...captions.map(({ tokens: ids }) =>
        vocabulary
          .decode(ids)
          .split(' ')
          .filter((word) => !SPECIAL_WORDS.includes(word)),
      ),
    );
  }
  const { mean } = ciderD(
    candidates,
    images.map(({ captions }) => captions.map(wordsOf)),
  );
  return { loss: nats / tokens, cider: mean };
}
