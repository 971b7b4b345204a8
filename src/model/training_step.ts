/**
 * One step of training as something to be repeated: the first batch of a shape goes through ops, tape and optimizer and is
 * captured on the way; later batches of that shape only replay the commands on new inputs.
 */
import { backward } from '../autograd/tape.ts';
import type { Replay } from '../gpu/device.ts';
import type { Optimizer } from '../nn/optimizer.ts';
import { empty, Scope, scope, type Tensor } from '../tensor/tensor.ts';
import type { Captioner } from './captioner.ts';

export interface StepInputs {
  /** [pictures, places, width] */
  features: Float32Array;
  pictures: number;
  /** [steps, rows], time-major. */
  ids: Uint32Array;
  targets: Uint32Array;
  /** A weight per row and step; 0 masks. */
  weights: Float32Array;
  steps: number;
}

interface Captured {
  features: Tensor;
  ids: Tensor;
  targets: Tensor;
  weights: Tensor;
  /** The weighted cross-entropy, without the penalty. */
  crossEntropy: Tensor;
  replay: Replay;
}

/** Shapes kept; a shape more costs the buffers that its sizes do not share with others. */
const MAX_SHAPES = 12;

export class TrainingStep {
  private readonly captured = new Map<string, Captured>();

  constructor(
    private readonly model: Captioner,
    private readonly optimizer: Optimizer,
    private readonly seed: number,
  ) {}

  /** Updates the model once; the results are for reading before the next step. */
  run(inputs: StepInputs): { crossEntropy: Tensor; norm: Tensor } {
    const { features, pictures, ids, targets, weights, steps } = inputs;
    const rows = ids.length / steps;
    const key = `${pictures} ${rows} ${steps}`;
    const known = this.captured.get(key);
    this.optimizer.steps++;
    if (known) {
      this.captured.delete(key); // to the end: the one used longest ago goes first
      this.captured.set(key, known);
      known.features.write(features);
      known.ids.write(ids);
      known.targets.write(targets);
      known.weights.write(weights);
      known.replay.run();
      return { crossEntropy: known.crossEntropy, norm: this.optimizer.norm };
    }
    if (this.captured.size >= MAX_SHAPES) this.forget(this.captured.keys().next().value as string);
    const { places, features: width } = this.model.sizes;
    const input = (values: Float32Array | Uint32Array, shape: number[]): Tensor => {
      const made = Scope.release(empty(shape, values instanceof Float32Array ? 'f32' : 'u32', 'input of a training step'));
      made.write(values);
      return made;
    };
    const made = {
      features: input(features, [pictures, places, width]),
      ids: input(ids, [steps, rows]),
      targets: input(targets, [steps, rows]),
      weights: input(weights, [steps, rows]),
    };
    const { gpu } = made.features;
    const { result, replay } = gpu.capture(() => {
      using _step = scope();
      this.optimizer.zeroGrad();
      const step = { seed: this.seed, step: () => this.optimizer.steps };
      const { loss, crossEntropy } = this.model.loss(made.features, made.ids, made.targets, made.weights, step);
      backward(loss);
      this.optimizer.update();
      return Scope.release(crossEntropy);
    });
    this.captured.set(key, { ...made, crossEntropy: result, replay });
    return { crossEntropy: result, norm: this.optimizer.norm };
  }

  private forget(key: string): void {
    const known = this.captured.get(key);
    if (!known) return;
    this.captured.delete(key);
    for (const tensor of [known.features, known.ids, known.targets, known.weights, known.crossEntropy]) tensor.dispose();
    known.replay.dispose();
  }

  dispose(): void {
    for (const key of [...this.captured.keys()]) this.forget(key);
  }
}
