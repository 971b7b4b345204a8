/**
 * One step of training, captured and replayed. The first micro-batch of a shape runs through ops and tape and is captured.
 * Later ones of that shape only replay the commands on new inputs. How the gradients of an update's micro-batches are added up
 * is said in gradient_sum.ts.
 */
import { backward } from '../../autograd/tape.ts';
import type { StoredNumbers } from '../../data/half.ts';
import { CaptureCache, type Replay } from '../../gpu/capture.ts';
import type { Optimizer } from '../../nn/optimizer.ts';
import { writeFeatures } from '../../nn/stored_features.ts';
import { empty, Scope, scope, type Tensor } from '../../tensor/tensor.ts';
import type { Captioner } from '../captioner/captioner.ts';
import { shapeOfWords, type Words } from './packing.ts';

export interface StepInputs extends Words {
  /** Features [pictures, regions, width]. If the encoder is trained too, the prepared pictures instead. */
  features: StoredNumbers;
  pictures: number;
  /** Weights of the targets, in their order; 0 masks a target. */
  weights: Float32Array;
}

/** What the commands of a captured micro-batch depend on, besides what lies in buffers and what is given as a function. */
interface Baked {
  pictures: number;
  active: readonly number[];
  packed: boolean;
  /** Micro-batches of the update: penalties on the weights count a share of it in each. */
  of: number;
}

/** A micro-batch of one shape: its inputs, and its work, which is captured when it first runs. */
interface CapturedMicroBatch {
  features: Tensor;
  ids: Tensor;
  targets: Tensor;
  weights: Tensor;
  /** Null if the captions are not packed. */
  pictureOf: Tensor | null;
  run(): void;
  dispose(): void;
}

/** An encoder that is trained with the captioner: the shape of a picture, the encoder's function, and its optimizer. */
export interface EncoderStep {
  shape: readonly number[];
  encode(pictures: Tensor): Tensor;
  optimizer: Optimizer;
}

/** Most shapes that stay captured: more than captions usually have lengths. Their captures share buffers. */
const MAX_SHAPES = 48;

/** Which micro-batch it is, from 0, of those whose gradients make one update. */
export interface MicroBatch {
  index: number;
  of: number;
  /** Micro-batches of an update that is not the last of its epoch: random numbers are counted by it. */
  most: number;
}

const ONLY: MicroBatch = { index: 0, of: 1, most: 1 };

/** Gradients and updates of a captioner. `language` updates the weights that a language model brought, `optimizer` all others. */
export class TrainingStep {
  private readonly captured = new CaptureCache<Baked, CapturedMicroBatch>(MAX_SHAPES, (baked) => this.capture(baked));
  private updating: Replay | null = null;
  /** Inputs by the number of pictures. Captures of different lengths share them. */
  private readonly features = new Map<number, Tensor>();
  /** The weighted cross-entropy of the last micro-batch. It has its own buffer, because captures share theirs and may overwrite them. */
  private readonly crossEntropy = Scope.release(empty([], 'f32', 'cross-entropy of a training step'));
  /** With scheduled sampling: the probability that an input word is replaced by one that the model sampled. */
  samplingProbability = 0;
  /** Told of each gradient in replays, when the device was told to compute all of it. */
  onGradient: ((gradient: Tensor) => void) | null = null;
  /** The number of the micro-batch. It selects its random numbers. */
  private draws = 0;

  constructor(
    private readonly model: Captioner,
    private readonly optimizer: Optimizer,
    private readonly seed: number,
    private readonly encoder: EncoderStep | null = null,
    private readonly language: Optimizer | null = null,
  ) {}

  /** All that an update updates, the captioner's own first. */
  get optimizers(): readonly Optimizer[] {
    return [this.optimizer, ...(this.language ? [this.language] : []), ...(this.encoder ? [this.encoder.optimizer] : [])];
  }

  /**
   * Captures a shape before any other that no step of these micro-batches exceeds, since theirs then fit into its buffers. It
   * computes a gradient that nobody reads.
   */
  reserve(batches: readonly (Words & { files: readonly string[] })[], of: number): void {
    if (!this.captured.isEmpty) return;
    let pictures = 0;
    const active: number[] = [];
    for (const batch of batches) {
      pictures = Math.max(pictures, batch.files.length);
      for (const [t, count] of batch.active.entries()) active[t] = Math.max(active[t] ?? 0, count);
    }
    this.captured.use({ pictures, active, packed: batches[0].pictureOf !== null, of }, (micro) => {
      for (const tensor of [micro.ids, micro.targets, micro.pictureOf]) tensor?.write(new Uint32Array(tensor.size));
      for (const tensor of [micro.features, micro.weights]) tensor.write(new Float32Array(tensor.size));
      micro.run();
    });
  }

  /** The gradient of a micro-batch, in the place of the one before. Its cross-entropy is overwritten by the next call. */
  add({ features, pictures, active, pictureOf, ids, targets, weights }: StepInputs, { index, of, most }: MicroBatch = ONLY): Tensor {
    this.draws = this.optimizer.steps * most + index + 1;
    this.captured.use({ pictures, active, packed: pictureOf !== null, of }, (micro) => {
      if (pictureOf) micro.pictureOf?.write(pictureOf);
      writeFeatures(features, micro.features);
      micro.ids.write(ids);
      micro.targets.write(targets);
      micro.weights.write(weights);
      micro.run();
    });
    return this.crossEntropy;
  }

  /** Updates the model with the gradients, or with their sums. Gives the norm, which the next update overwrites. */
  update(): Tensor {
    for (const optimizer of this.optimizers) optimizer.steps++;
    if (this.updating) this.updating.run();
    else
      this.updating = this.crossEntropy.gpu.capture(() => {
        for (const optimizer of this.optimizers) optimizer.update();
      }).replay;
    return this.optimizer.norm;
  }

  /** A step of one micro-batch. Read the results before the next one, which overwrites them. */
  run(inputs: StepInputs): { crossEntropy: Tensor; norm: Tensor } {
    return { crossEntropy: this.add(inputs), norm: this.update() };
  }

  private capture({ pictures, active, packed, of }: Baked): CapturedMicroBatch {
    const { regions, features: width } = this.model.sizes;
    const input = (shape: number[], type: 'f32' | 'u32' = 'f32') => Scope.release(empty(shape, type, 'input of a training step'));
    const features = this.features.get(pictures) ?? input([pictures, ...(this.encoder?.shape ?? [regions, width])]);
    this.features.set(pictures, features);
    const shape = shapeOfWords(active, packed);
    const ids = input(shape, 'u32');
    const targets = input(shape, 'u32');
    const weights = input(shape);
    const pictureOf = packed ? input([active[0]], 'u32') : null;
    const { gpu } = features;
    const work = () => {
      using _step = scope();
      for (const optimizer of this.optimizers) optimizer.zeroGrad();
      const values = this.encoder ? this.encoder.encode(features) : features;
      const step = { seed: this.seed, step: () => this.draws, ownWords: () => this.samplingProbability };
      const { loss, crossEntropy } = this.model.loss(values, ids, targets, weights, { step, share: 1 / of, packing: pictureOf && { active, pictureOf } });
      backward(loss, (gradient) => gpu.atReplay(() => this.onGradient?.(gradient)));
      gpu.copy(crossEntropy.slice, this.crossEntropy.slice, 4);
    };
    let replay: Replay | null = null;
    return {
      ...{ features, ids, targets, weights, pictureOf },
      run: () => {
        if (replay) replay.run();
        else replay = gpu.capture(work).replay;
      },
      dispose: () => {
        for (const tensor of [ids, targets, weights, pictureOf]) tensor?.dispose();
        replay?.dispose();
      },
    };
  }

  dispose(): void {
    this.captured.dispose();
    for (const features of this.features.values()) features.dispose();
    this.features.clear();
    this.updating?.dispose();
    this.updating = null;
    this.crossEntropy.dispose();
  }
}
