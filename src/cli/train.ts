/** `glimpse train`: presets and options → a training run. */
import { createHash } from 'node:crypto';
import { type Dataset, readDataset } from '../data/captions.ts';
import { FeatureStore } from '../data/feature_store.ts';
import { UsageError } from '../errors.ts';
import { PRESETS, SEED_WIDTHS } from '../model/captioner.ts';
import { epochsSaved, type TrainingConfig } from '../model/checkpoint.ts';
import { train } from '../model/training.ts';
import { memory } from '../tensor/tensor.ts';
import { type CommonOptions, duration, progress, result, say } from './output.ts';
import { withGpu } from './session.ts';

interface TrainCommand extends CommonOptions {
  data: string;
  features: string;
  out: string;
  preset: 'seed' | 'recommended';
  epochs?: number;
  rate?: number;
  maxNorm?: number;
  dropout?: number;
  batchImages?: number;
  captions?: number;
  seed: number;
  keep: number;
  validation: number;
  resume?: boolean;
}

/** What a preset trains with, besides the model's own options. */
const TRAINING = {
  seed: { epochs: 10, rate: 1e-3, maxNorm: 0, images: 64, captions: 1, objective: 'seed-sum', patience: 0 },
  recommended: { epochs: 20, rate: 4e-4, maxNorm: 5, images: 16, captions: 5, objective: 'token-mean', patience: 2 },
} as const;

/** Names the pictures and captions trained on, in their order. */
function hashOf(images: Dataset['images']): string {
  const hash = createHash('sha256');
  for (const { file, ids } of images) hash.update(JSON.stringify([file, ids]));
  return hash.digest('hex').slice(0, 16);
}

export async function trainCommand(o: TrainCommand): Promise<number> {
  const dataset = readDataset(o.data);
  const defaults = TRAINING[o.preset];
  const dropout = o.dropout ?? PRESETS[o.preset].dropout;
  if (dropout >= 1) throw new UsageError(`--dropout must be below 1, got ${dropout}`);
  if (o.rate === 0) throw new UsageError('--rate must be positive');
  const store = await FeatureStore.open(o.features);
  const trainable = dataset.images.filter(({ split }) => split === 'train');
  const config: TrainingConfig = {
    preset: o.preset,
    sizes: { features: store.index.width, places: store.index.places, ...SEED_WIDTHS, vocabulary: dataset.vocabulary.length },
    options: { ...PRESETS[o.preset], dropout },
    seed: o.seed,
    rate: o.rate ?? defaults.rate,
    maxNorm: o.maxNorm ?? defaults.maxNorm,
    batch: { images: o.batchImages ?? defaults.images, captionsPerImage: o.captions ?? defaults.captions },
    objective: defaults.objective,
    patience: defaults.patience,
    maxLength: dataset.maxLength,
    trainingSet: hashOf(trainable.filter(({ file }) => store.has(file))),
  };
  const without = trainable.filter(({ file }) => !store.has(file)).length;
  if (without > 0) say(o, `${without} of ${trainable.length} training pictures have no features and are left out`);
  if (o.resume && epochsSaved(o.out).length === 0) say(o, `${o.out} holds no checkpoint yet: this is a new run`);
  let stopping = false;
  const onInterrupt = () => {
    stopping = true;
    say(o, 'stopping after this batch; go on later with --resume');
  };
  process.once('SIGINT', onInterrupt);
  try {
    return await withGpu(o, async (gpu) => {
      let bar: ReturnType<typeof progress> | null = null;
      const epochs = o.epochs ?? defaults.epochs;
      const reports = await train({
        dataset,
        store,
        config,
        run: o.out,
        epochs,
        resume: o.resume ?? false,
        keep: o.keep,
        validationImages: o.validation,
        shouldStop: () => stopping,
        hooks: {
          onStep: (s) => {
            bar ??= progress(o, 'train', epochs * s.batches, 'batches');
            bar.update(
              (s.epoch - 1) * s.batches + s.batch,
              `epoch ${s.epoch}, loss ${s.lossPerToken.toFixed(3)} per token (seed's ${s.seedLoss.toFixed(3)}), ${Math.round(s.tokensPerSecond)} tokens/s, ${Math.round(memory().peakBytes / 2 ** 20)} MiB`,
            );
          },
          onEpoch: (e) =>
            say(
              o,
              `epoch ${e.epoch}: loss ${e.trainLoss.toFixed(4)}${e.valLoss === null ? '' : `, validation ${e.valLoss.toFixed(4)} (perplexity ${e.perplexity?.toFixed(1)}), CIDEr-D ${e.cider?.toFixed(3)}`}, ${Math.round(e.tokensPerSecond)} tokens/s, ${duration(e.seconds)}`,
            ),
        },
      });
      (bar as ReturnType<typeof progress> | null)?.stop();
      const last = reports[reports.length - 1];
      result(o, { run: o.out, adapter: gpu.description, config, stopped: stopping, epochs: reports }, () =>
        last
          ? `${o.out}: ${reports.length} epochs, loss ${last.trainLoss.toFixed(4)} per token on ${gpu.description}\nCaption with: glimpse caption ${o.out} PICTURE…`
          : stopping
            ? `${o.out}: stopped within its first epoch, nothing to keep`
            : `${o.out}: nothing left to do`,
      );
      return 0;
    });
  } finally {
    process.off('SIGINT', onInterrupt);
    await store.close();
  }
}
