/**
 * One step of training, captured and replayed. The first micro-batch of a shape runs through ops and tape and is captured.
 * Later ones of that shape only replay the commands on new inputs. The last micro-batch of a mini-batch brings the update.
 */
import { backward } from '../../autograd/tape.ts';
import type { Replay } from '../../gpu/capture.ts';
import type { Optimizer } from '../../nn/optimizer.ts';
import { empty, Scope, scope, type Tensor } from '../../tensor/tensor.ts';
import type { Captioner } from '../captioner/captioner.ts';

export interface StepInputs {
  /** Features [pictures, regions, width]. If the encoder is trained too, the prepared pictures instead. */
  features: Float32Array;
  pictures: number;
  /** Input words and target words, [length, rows]. */
  ids: Uint32Array;
  targets: Uint32Array;
  /** Weights of the targets, [length, rows]; 0 masks a target. */
  weights: Float32Array;
  /** Number of words to predict in the longest caption. */
  length: number;
}

interface Captured {
  features: Tensor;
  ids: Tensor;
  targets: Tensor;
  weights: Tensor;
  replay: Replay;
}

/** An encoder that is trained with the captioner: the shape of a picture, the encoder's function, and its optimizer. */
export interface EncoderStep {
  shape: readonly number[];
  encode(pictures: Tensor): Tensor;
  optimizer: Optimizer;
}

/** Most shapes that stay captured. Each one costs the buffers that it does not share with the others. */
const MAX_SHAPES = 12;

/** Which micro-batch it is, from 0, of those whose gradients are accumulated for one update. */
export interface MicroBatch {
  index: number;
  of: number;
}

export class TrainingStep {
  private readonly captured = new Map<string, Captured>();
  private updating: Replay | null = null;
  /** The weighted cross-entropy of the last micro-batch. It has its own buffer, because captures share theirs and may overwrite them. */
  private readonly crossEntropy = Scope.release(empty([], 'f32', 'cross-entropy of a training step'));
  /** With scheduled sampling: the probability that an input word is replaced by one that the model sampled. */
  samplingProbability = 0;
  /** The number of the micro-batch. It selects its random numbers. */
  private draws = 0;

  constructor(
    private readonly model: Captioner,
    private readonly optimizer: Optimizer,
    private readonly seed: number,
    private readonly encoder: EncoderStep | null = null,
  ) {}

  private get optimizers(): Optimizer[] {
    return this.encoder ? [this.optimizer, this.encoder.optimizer] : [this.optimizer];
  }

  /**
   * Accumulates a micro-batch's gradient and, with the last one of a mini-batch, updates the model. Read the results before the
   * next call, which overwrites them. `norm` is the gradient norm of the last update.
   */
  run(inputs: StepInputs, microBatch: MicroBatch = { index: 0, of: 1 }): { crossEntropy: Tensor; norm: Tensor } {
    this.draws = this.optimizer.steps * microBatch.of + microBatch.index + 1;
    this.gradient(inputs, microBatch);
    if (microBatch.index === microBatch.of - 1) {
      for (const optimizer of this.optimizers) optimizer.steps++;
      if (this.updating) this.updating.run();
      else
        this.updating = this.crossEntropy.gpu.capture(() => {
          for (const optimizer of this.optimizers) optimizer.update();
        }).replay;
    }
    return { crossEntropy: this.crossEntropy, norm: this.optimizer.norm };
  }

  private gradient(inputs: StepInputs, microBatch: MicroBatch): void {
    const { features, pictures, ids, targets, weights, length } = inputs;
    const rows = ids.length / length;
    const first = microBatch.index === 0; // the first micro-batch overwrites the gradients, later ones add to them
    const key = `${pictures} ${rows} ${length} ${first}`;
    const known = this.captured.get(key);
    if (known) {
      this.captured.delete(key); // moves to the end, so that the first key is the least recently used
      this.captured.set(key, known);
      known.features.write(features);
      known.ids.write(ids);
      known.targets.write(targets);
      known.weights.write(weights);
      known.replay.run();
      return;
    }
    if (this.captured.size >= MAX_SHAPES) this.forget(this.captured.keys().next().value as string);
    const { regions, features: width } = this.model.sizes;
    const input = (values: Float32Array | Uint32Array, shape: number[]): Tensor => {
      const made = Scope.release(empty(shape, values instanceof Float32Array ? 'f32' : 'u32', 'input of a training step'));
      made.write(values);
      return made;
    };
    const made = {
      features: input(features, [pictures, ...(this.encoder?.shape ?? [regions, width])]),
      ids: input(ids, [length, rows]),
      targets: input(targets, [length, rows]),
      weights: input(weights, [length, rows]),
    };
    const { gpu } = made.features;
    const { replay } = gpu.capture(() => {
      using _step = scope();
      if (first) for (const optimizer of this.optimizers) optimizer.zeroGrad();
      const values = this.encoder ? this.encoder.encode(made.features) : made.features;
      const step = { seed: this.seed, step: () => this.draws, ownWords: () => this.samplingProbability };
      const { loss, crossEntropy } = this.model.loss(values, made.ids, made.targets, made.weights, { step, share: 1 / microBatch.of });
      backward(loss);
      gpu.copy(crossEntropy.slice, this.crossEntropy.slice, 4);
    });
    this.captured.set(key, { ...made, replay });
  }

  private forget(key: string): void {
    const known = this.captured.get(key);
    if (!known) return;
    this.captured.delete(key);
    for (const tensor of [known.features, known.ids, known.targets, known.weights]) tensor.dispose();
    known.replay.dispose();
  }

  dispose(): void {
    for (const key of [...this.captured.keys()]) this.forget(key);
    this.updating?.dispose();
    this.updating = null;
    this.crossEntropy.dispose();
  }
}
