/**
 * A small convolutional encoder that is trained from scratch: 4 × 4 patches, then stages of convolution, batch normalization
 * and ReLU. Input [N, 16, 16, 52], 64 × 64 pixels as patches with their positions → features [N, 64, C]. With patches, the first
 * stage is a plain product of 52 inputs. Three channels would be a bad width for every kernel.
 */
import * as ops from '../../autograd/ops/index.ts';
import { GlimpseError } from '../../errors.ts';
import { constant, heNormal, zerosInit } from '../../nn/initializers.ts';
import type { NamedArray, Parameters } from '../../nn/parameters.ts';
import { readTensors, Scope, type Tensor, tensor } from '../../tensor/tensor.ts';

const MOMENTUM = 0.9;

interface Stage {
  w: Tensor;
  gamma: Tensor;
  beta: Tensor;
  runningMean: Tensor;
  runningVariance: Tensor;
  stride: number;
}

export const PATCH = 4;
/** Channels of a patch: its colors and its position. */
export const PATCH_CHANNELS = 3 * PATCH * PATCH + 4;
const STAGES = [
  { kernel: 1, stride: 1, out: 32 },
  { kernel: 3, stride: 2, out: 64 },
  { kernel: 3, stride: 1, out: 48 },
];

export class ConvEncoder {
  private readonly stages: Stage[] = [];
  readonly width: number;

  constructor(parameters: Parameters, seed: number, stages: readonly { kernel: number; stride: number; out: number }[] = STAGES) {
    let channels = PATCH_CHANNELS;
    stages.forEach(({ kernel, stride, out }, i) => {
      this.stages.push({
        w: parameters.init(`conv${i + 1}_w`, [kernel, kernel, channels, out], heNormal, seed),
        gamma: parameters.init(`conv${i + 1}_gamma`, [out], constant(1), seed),
        beta: parameters.init(`conv${i + 1}_beta`, [out], zerosInit, seed),
        runningMean: Scope.release(tensor(new Float32Array(out), [out], 'f32', 'running mean')),
        runningVariance: Scope.release(tensor(new Float32Array(out).fill(1), [out], 'f32', 'running variance')),
        stride,
      });
      channels = out;
    });
    this.width = channels;
  }

  /** Channels-last pictures → one feature row per region. Training uses the batch's statistics and updates the running ones. */
  forward(x: Tensor, training: boolean): Tensor {
    let y = x;
    for (const { w, gamma, beta, runningMean, runningVariance, stride } of this.stages) {
      const pad = (w.shape[0] - 1) / 2;
      const z = ops.conv2d(y, w, null, { stride, pad, layout: 'nhwc' });
      if (training) {
        const norm = ops.batchNormTrain(z, gamma, beta, 1e-5, 'nhwc');
        const n = z.size / gamma.size;
        ops.blendInto(runningMean, norm.mean, 1 - MOMENTUM, MOMENTUM);
        ops.blendInto(runningVariance, norm.variance, ((1 - MOMENTUM) * n) / (n - 1), MOMENTUM);
        y = ops.relu(norm.y);
      } else {
        y = ops.relu(ops.batchNormEval(z, gamma, beta, runningMean, runningVariance, 1e-5, 'nhwc'));
      }
    }
    const [n, h, w, c] = y.shape;
    return ops.reshape(y, [n, h * w, c]);
  }

  /** The running statistics by name. No gradient reaches them, so they are no parameters. */
  private get statistics(): Map<string, Tensor> {
    return new Map(
      this.stages.flatMap(({ runningMean, runningVariance }, i) => [
        [`conv${i + 1}_running_mean`, runningMean] as const,
        [`conv${i + 1}_running_variance`, runningVariance] as const,
      ]),
    );
  }

  async readStatistics(): Promise<Map<string, NamedArray>> {
    const { statistics } = this;
    const arrays = await readTensors([...statistics.values()]);
    return new Map([...statistics].map(([name, { shape }], i) => [name, { shape, data: arrays[i] as Float32Array }]));
  }

  /** Throws a GlimpseError if one is missing or has another shape. */
  writeStatistics(values: ReadonlyMap<string, NamedArray>): void {
    for (const [name, tensor] of this.statistics) {
      const value = values.get(name);
      if (value?.shape.join() !== tensor.shape.join()) throw new GlimpseError(`the weights have no "${name}" of [${tensor.shape}]`);
      tensor.write(value.data);
    }
  }

  dispose(): void {
    for (const { runningMean, runningVariance } of this.stages) {
      runningMean.dispose();
      runningVariance.dispose();
    }
  }
}
