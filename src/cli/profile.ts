/** `glimpse profile`: a training step, greedy decoding, or the captioning of a picture, by kernel, version and operation. */
import { existsSync } from 'node:fs';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { FileError, UsageError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { formatProfile } from '../gpu/profiler.ts';
import { Captioner, type CaptionerOptions, type CaptionerSizes, DEFAULT_WIDTHS, PRESETS, packsCaptions } from '../model/captioner/captioner.ts';
import { openEncoderOf } from '../model/encoder/encoder.ts';
import type { Checkpoint } from '../model/training/checkpoint.ts';
import { layOut } from '../model/training/packing.ts';
import { TrainingStep } from '../model/training/step.ts';
import { Optimizer } from '../nn/optimizer.ts';
import { Random } from '../random.ts';
import { profileStep, type StepProfile } from '../study/profile.ts';
import { Scope, scope, tensor } from '../tensor/tensor.ts';
import type { ProfileOptions } from './commands/profile.ts';
import { result, say } from './output.ts';
import { checkpointAt, withGpu } from './session.ts';
import { readShaders, useCheckedShaders } from './shaders.ts';

/** The widths of the course project: features of ResNet-50, 5,000 words. */
const SIZES: CaptionerSizes = { ...DEFAULT_WIDTHS, features: 2048, regions: 49, vocabulary: 5000 };

/** Something to profile, and how to be rid of it. */
interface Work {
  step(): Promise<unknown>;
  dispose(): void;
}

function randomNumbers(count: number, name: string): Float32Array<ArrayBuffer> {
  const random = new Random(1, name);
  return Float32Array.from({ length: count }, () => Math.max(0, random.normal()));
}

function trainStep(model: Captioner, o: ProfileOptions): Work {
  const { regions, features: width, vocabulary } = model.sizes;
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: 1e-4 });
  const step = new TrainingStep(model, optimizer, 1);
  const random = new Random(2, 'words');
  const word = () => 4 + random.integer(Math.max(1, vocabulary - 4));
  // Lengths of a picture's captions lie evenly between half of the words and all of them.
  const lengthOf = (caption: number) => Math.ceil(o.words * (o.captions === 1 ? 1 : 0.5 + (0.5 * caption) / (o.captions - 1)));
  const captions = Array.from({ length: o.pictures * o.captions }, (_, i) => ({
    words: Array.from({ length: lengthOf(i % o.captions) + 1 }, word),
    picture: Math.floor(i / o.captions),
  }));
  const { words } = layOut(captions, o.captions > 1 && packsCaptions(model.options));
  const count = words.targets.reduce((sum, id) => sum + (id === 0 ? 0 : 1), 0);
  const weights = Float32Array.from(words.targets, (id) => (id === 0 ? 0 : 1 / count));
  const batch = { ...words, weights, features: randomNumbers(o.pictures * regions * width, 'features'), pictures: o.pictures };
  return {
    step: () => step.run(batch).crossEntropy.item(),
    dispose() {
      step.dispose();
      optimizer.dispose();
    },
  };
}

function greedy(model: Captioner, o: ProfileOptions): Work {
  const { regions, features: width } = model.sizes;
  const features = Scope.release(tensor(randomNumbers(o.pictures * regions * width, 'features'), [o.pictures, regions, width]));
  return { step: () => model.decoding.greedy(features, o.words, { suppress: false }), dispose: () => features.dispose() };
}

async function captioning(model: Captioner, checkpoint: Checkpoint, picture: string): Promise<Work> {
  const encoder = await openEncoderOf(checkpoint);
  const pixels = await encoder.load(picture);
  return {
    async step() {
      using _step = scope();
      const { values, regions, width } = await encoder.features([pixels], [picture]);
      return model.decoding.greedy(tensor(values, [1, regions, width]), checkpoint.config.maxLength, { suppress: checkpoint.config.preset === 'recommended' });
    },
    dispose: () => encoder.dispose(),
  };
}

/** A profile as lines: roofs, rows, sums. */
export function formatStepProfile(p: StepProfile): string {
  const copies = p.rows.filter(({ kind }) => kind !== 'kernel').reduce((sum, { totalMs }) => sum + totalMs, 0);
  return [
    p.adapter,
    `roofs: ${p.roofs.fmaGflops.toFixed(1)} GFLOP/s multiply-adds, ${p.roofs.copyGBs.toFixed(1)} GB/s copy`,
    '',
    formatProfile(p.rows),
    '',
    `sum of all rows ${p.totalMs.toFixed(2)} ms, of which copies, clears and uploads ${copies.toFixed(2)} ms; ${p.dispatches} dispatches`,
    `a step without the profiler: ${p.wallMs.toFixed(2)} ms; JavaScript records it in ${p.javascriptMs.toFixed(2)} ms (${((100 * p.javascriptMs) / p.wallMs).toFixed(0)} %)`,
  ].join('\n');
}

export async function profileCommand(o: ProfileOptions, what: string, picture: string | undefined): Promise<number> {
  const shaders = readShaders(o.shader);
  const named = what === 'train-step' || what === 'greedy';
  if (named && picture) throw new UsageError(`${what} takes no picture; name a run to profile the captioning of ${picture}`);
  if (!named && !existsSync(what)) throw new UsageError(`${what} is neither train-step nor greedy, nor a run`);
  if (picture && !existsSync(picture)) throw new FileError(picture, 'no such file');
  const checkpoint = named ? null : checkpointAt(o, what);
  return withGpu(o, async (gpu: Gpu) => {
    await useCheckedShaders(gpu, o, shaders);
    const options: CaptionerOptions = { ...(checkpoint?.config.options ?? PRESETS.basic) };
    const model = checkpoint ? Captioner.fromWeights(checkpoint.config.sizes, options, checkpoint.weights) : Captioner.create(SIZES, options, 1);
    const work = checkpoint && picture ? await captioning(model, checkpoint, picture) : what === 'greedy' ? greedy(model, o) : trainStep(model, o);
    try {
      const { chrome, ...profile } = await profileStep(gpu, work.step);
      if (o.chrome) {
        writeFileAtomic(o.chrome, [chrome]);
        say(o, `trace: ${o.chrome}; open it in chrome://tracing or https://ui.perfetto.dev`);
      }
      result(o, profile, () => formatStepProfile({ ...profile, chrome }));
      return 0;
    } finally {
      work.dispose();
      model.dispose();
    }
  });
}
