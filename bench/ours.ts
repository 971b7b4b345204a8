/** This engine, through the same door as its peers. */
import * as ops from '../src/autograd/ops/index.ts';
import { backward, noGrad } from '../src/autograd/tape.ts';
import { START } from '../src/data/words.ts';
import type { Gpu } from '../src/gpu/device.ts';
import { type ConvGeometry, conv2dGradInput, conv2dGradWeight } from '../src/kernels/conv.ts';
import { crossEntropy } from '../src/kernels/rows.ts';
import { Captioner, DEFAULT_WIDTHS, PRESETS } from '../src/model/captioner/captioner.ts';
import { unpackedModel } from '../src/model/encoder/encoder.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { TrainingStep } from '../src/model/training/step.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { empty, full, Scope, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { type ConvShape, type DecoderShape, type Engine, numbers, outSize, type Prepared, SAMPLE, type Work, words } from './work.ts';

const keep = (values: Float32Array | Uint32Array, shape: number[]): Tensor => Scope.release(tensor(values, shape));
const kept = (shape: number[]): Tensor => Scope.release(empty(shape));

export function openOurs(gpu: Gpu): Engine {
  /**
   * `work` may return its result for comparison. `fresh` inputs are activations, which every run of a model finds newly
   * written: no copy of them that was kept for reading as texels may serve. Weights stay what they were.
   */
  function repeat(work: () => Tensor, inputs: readonly Tensor[], fresh: readonly Tensor[], order?: readonly number[]): Prepared {
    return {
      async run() {
        for (const { slice } of fresh) slice.buffer.writes++;
        using _run = scope();
        noGrad(work);
        await gpu.idle();
      },
      async sample() {
        using _run = scope();
        const result = noGrad(() => (order ? ops.transpose(work(), order) : work()));
        return Array.from((await result.data()).subarray(0, SAMPLE));
      },
      dispose: () => {
        for (const input of inputs) input.dispose();
      },
    };
  }

  function convolution(kind: 'conv' | 'convGradInput' | 'convGradWeight', s: ConvShape): Prepared {
    const [outHeight, outWidth] = [outSize(s.height, s), outSize(s.width, s)];
    const arranged = (values: Float32Array, shape: number[], order: number[]): Tensor => {
      using _once = scope();
      return Scope.release(ops.transpose(tensor(values, shape), order));
    };
    const x = arranged(numbers(s.images * s.channels * s.height * s.width, 1), [s.images, s.channels, s.height, s.width], [0, 2, 3, 1]);
    const w = arranged(numbers(s.outChannels * s.channels * s.kernel ** 2, 2), [s.outChannels, s.channels, s.kernel, s.kernel], [2, 3, 1, 0]);
    const options = { stride: s.stride, pad: s.pad, layout: 'nhwc' as const };
    if (kind === 'conv') return repeat(() => ops.conv2d(x, w, null, options), [x, w], [x], [0, 3, 1, 2]);
    const dy = arranged(numbers(s.images * s.outChannels * outHeight * outWidth, 3), [s.images, s.outChannels, outHeight, outWidth], [0, 2, 3, 1]);
    const geometry: ConvGeometry = {
      ...{ images: s.images, height: s.height, width: s.width, channels: s.channels, outHeight, outWidth, outChannels: s.outChannels, groups: 1 },
      kernel: [s.kernel, s.kernel],
      stride: [s.stride, s.stride],
      pad: [s.pad, s.pad],
      dilation: [1, 1],
    };
    const out = kept(kind === 'convGradInput' ? [...x.shape] : [...w.shape]);
    const work = () => {
      if (kind === 'convGradInput') conv2dGradInput(gpu, geometry, dy.slice, w.slice, out.slice, 'bench');
      else conv2dGradWeight(gpu, geometry, x.slice, dy.slice, out.slice, 'bench');
      return out;
    };
    return repeat(work, [x, w, dy, out], [x, dy], kind === 'convGradInput' ? [0, 3, 1, 2] : [3, 2, 0, 1]);
  }

  async function resnet(images: number, path: string): Promise<Prepared> {
    const model = OnnxModel.load(await unpackedModel(path));
    const [{ name }] = model.graph.inputs;
    const x = keep(numbers(images * 3 * 224 * 224, 1), [images, 3, 224, 224]);
    const forward = repeat(() => model.run({ [name]: x })[0], [x], [x]);
    return {
      run: forward.run,
      dispose() {
        forward.dispose();
        model.dispose();
      },
    };
  }

  function decoder(s: DecoderShape): { model: Captioner; features: Tensor } {
    const sizes = { ...DEFAULT_WIDTHS, features: s.features, regions: s.regions, vocabulary: s.vocabulary };
    const features = keep(numbers(s.batch * s.regions * s.features, 1), [s.batch, s.regions, s.features]);
    return { model: Captioner.create(sizes, PRESETS.basic, 1), features };
  }

  function trainStep(s: DecoderShape): Prepared {
    const { model, features } = decoder(s);
    const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: 4e-4 });
    const step = new TrainingStep(model, optimizer, 1);
    const rows = [s.steps, s.batch];
    const [idValues, targetValues] = [words(s.steps * s.batch, 5, s.vocabulary), words(s.steps * s.batch, 6, s.vocabulary)];
    const ones = new Float32Array(s.steps * s.batch).fill(1 / (s.steps * s.batch));
    const values = numbers(s.batch * s.regions * s.features, 1);
    const [ids, targets, weights] = [keep(idValues, rows), keep(targetValues, rows), keep(ones, rows)];
    return {
      async run() {
        if (s.replayed) {
          await step.run({ features: values, pictures: s.batch, ids: idValues, targets: targetValues, weights: ones, length: s.steps }).crossEntropy.item();
          return;
        }
        using _step = scope();
        optimizer.zeroGrad();
        const { loss } = model.loss(features, ids, targets, weights);
        backward(loss);
        optimizer.step();
        await loss.item();
      },
      dispose() {
        step.dispose();
        optimizer.dispose();
        model.dispose();
        for (const t of [features, ids, targets, weights]) t.dispose();
      },
    };
  }

  /** As a plain loop decodes: every word comes back to the host, which sends it in again. */
  async function wordByWord(model: Captioner, features: Tensor, steps: number): Promise<void> {
    using _all = scope();
    const encoded = noGrad(() => model.encode(features));
    let words = new Uint32Array(features.shape[0]).fill(START);
    let { start } = encoded;
    for (let t = 0; t < steps; t++) {
      const { logits, states } = noGrad(() => model.decodeStep({ ...encoded, start }, tensor(words, [1, words.length])));
      words = (await ops.argmaxToken(logits).token.data()) as Uint32Array<ArrayBuffer>;
      start = states;
    }
  }

  function greedy(s: DecoderShape): Prepared {
    const { model, features } = decoder(s);
    return {
      run: async () => void (await (s.replayed ? model.decoding.greedy(features, s.steps, { suppress: false }) : wordByWord(model, features, s.steps))),
      dispose() {
        model.dispose();
        features.dispose();
      },
    };
  }

  async function prepare(work: Work): Promise<Prepared | null> {
    switch (work.kind) {
      case 'matmul': {
        const { m, n, k, transA, transB } = work;
        const a = keep(numbers(m * k, 1), transA ? [k, m] : [m, k]);
        const b = keep(numbers(k * n, 2), transB ? [n, k] : [k, n]);
        return repeat(() => ops.matmul(a, b, { transA, transB }), [a, b], transA ? [a, b] : [a]); // a weight gradient has no weights
      }
      case 'conv':
      case 'convGradInput':
      case 'convGradWeight':
        return convolution(work.kind, work);
      case 'softmax': {
        const x = keep(numbers(work.rows * work.columns, 1, 4), [work.rows, work.columns]);
        return repeat(() => ops.softmax(x), [x], [x]);
      }
      case 'crossEntropyGrad': {
        const logits = keep(numbers(work.rows * work.columns, 1, 4), [work.rows, work.columns]);
        const targets = keep(words(work.rows, 2, work.columns), [work.rows]);
        const [weights, rowLoss, dlogits] = [Scope.release(full([work.rows], 1)), kept([work.rows]), kept([work.rows, work.columns])];
        const slices = { logits: logits.slice, targets: targets.slice, weights: weights.slice, rowLoss: rowLoss.slice, dlogits: dlogits.slice };
        const launch = () => {
          crossEntropy(gpu, { ...slices, unused: rowLoss.slice, rows: work.rows, n: work.columns, label: 'bench' });
          return dlogits;
        };
        return repeat(launch, [logits, targets, weights, rowLoss, dlogits], [logits]);
      }
      case 'resnet50':
        return resnet(work.images, work.model);
      case 'trainStep':
        return trainStep(work);
      case 'greedy':
        return greedy(work);
    }
  }
  return { name: 'glimpse', prepare };
}
