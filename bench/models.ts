/**
 * Whole models of this engine as work to time. Each is checked by another way to the same result: op by op instead of
 * replayed, all steps at once instead of word by word, and through the plain version of every kernel.
 */
import * as ops from '../src/autograd/ops/index.ts';
import { backward, noGrad } from '../src/autograd/tape.ts';
import { END, PAD, START } from '../src/data/words.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { FAMILIES, forceVersion } from '../src/kernels/families.ts';
import { Captioner, type CaptionerSizes, DEFAULT_WIDTHS, PRESETS, parameterTable } from '../src/model/captioner/captioner.ts';
import { TrainingStep } from '../src/model/training/step.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import type { NamedArray } from '../src/nn/parameters.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { Scope, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { type Check, compare } from './reference.ts';
import { type DecoderShape, decoderInputs, type InputSet, numbers, type Prepared } from './work.ts';

/** What float32 sums through all layers may be off by, as a share of the largest number. */
export const TOLERANCE = 1e-4;

/** Records `work` with the first, plain version of every kernel. */
export function withPlainVersions<T>(work: () => T): T {
  for (const [family, { names }] of Object.entries(FAMILIES)) forceVersion(family, names[0]);
  try {
    return work();
  } finally {
    for (const family of Object.keys(FAMILIES)) forceVersion(family, null);
  }
}

const sizesOf = (s: DecoderShape): CaptionerSizes => ({ ...DEFAULT_WIDTHS, features: s.features, regions: s.regions, vocabulary: s.vocabulary });

/** Weights as the peers have them. Orthogonal ones, which training starts from, take seconds to make, and no kernel is slower or faster for them. */
function weightsOf(sizes: CaptionerSizes): Map<string, NamedArray> {
  const rows = parameterTable(sizes, PRESETS.basic);
  return new Map(rows.map(([name, shape], i) => [name, { shape, data: numbers(sizeOf(shape), 20 + i, 0.08) }]));
}

function captioner(s: DecoderShape): Captioner {
  const sizes = sizesOf(s);
  return Captioner.fromWeights(sizes, PRESETS.basic, weightsOf(sizes));
}

/** The inputs of a training step, on the host. */
interface Batch {
  features: Float32Array;
  ids: Uint32Array;
  targets: Uint32Array;
  weights: Float32Array;
}

/** A captioner with its optimizer, and a step of its training as plain code writes it. */
class Trainer {
  readonly model: Captioner;
  readonly optimizer: Optimizer;

  constructor(shape: DecoderShape) {
    this.model = captioner(shape);
    this.optimizer = new Optimizer(this.model.parameters, { kind: 'adam', rate: 4e-4 });
  }

  /** Returns the loss, which belongs to the scope around it. */
  opByOp(features: Tensor, ids: Tensor, targets: Tensor, weights: Tensor): Tensor {
    this.optimizer.zeroGrad();
    const { loss } = this.model.loss(features, ids, targets, weights);
    backward(loss);
    this.optimizer.step();
    return loss;
  }

  dispose(): void {
    this.optimizer.dispose();
    this.model.dispose();
  }
}

function tensorsOf(s: DecoderShape, batch: Batch): [Tensor, Tensor, Tensor, Tensor] {
  const rows = [s.steps, s.batch];
  return [tensor(batch.features, [s.batch, s.regions, s.features]), tensor(batch.ids, rows), tensor(batch.targets, rows), tensor(batch.weights, rows)];
}

/** Every timing starts from the same weights, so that what came out can be computed again. */
export async function trainStep(s: DecoderShape): Promise<Prepared> {
  const batchOf = (set: InputSet): Batch => ({ ...decoderInputs(s, set), weights: new Float32Array(s.steps * s.batch).fill(1 / (s.steps * s.batch)) });
  const trainer = new Trainer(s);
  const { model, optimizer } = trainer;
  const step = new TrainingStep(model, optimizer, 1);
  const [weights, moments] = [weightsOf(model.sizes), await optimizer.read()];
  let batch = batchOf(0);
  let inputs: Tensor[] = [];
  let [loss, steps]: [number, Batch[]] = [0, []];

  async function load(set: InputSet): Promise<void> {
    batch = batchOf(set);
    for (const input of inputs) input.dispose();
    inputs = tensorsOf(s, batch).map((input) => Scope.release(input));
    if (set === 0) {
      model.parameters.write(weights);
      optimizer.write(moments, 0);
      steps = [];
    }
    await optimizer.norm.gpu.idle();
  }
  await load(0);
  return {
    load,
    async run(times = 1) {
      for (let i = 0; i < times; i++) {
        steps.push(batch);
        using _step = scope();
        const [features, ids, targets, weightOfRows] = inputs;
        const made = s.replayed
          ? step.run({ ...batch, pictures: s.batch, active: new Array<number>(s.steps).fill(s.batch), pictureOf: null }).crossEntropy
          : trainer.opByOp(features, ids, targets, weightOfRows);
        loss = await made.item();
      }
    },
    /** The same steps op by op, the last of them through plain versions: its loss, and the norm of its gradient. */
    async check() {
      const other = new Trainer(s);
      const norm = await optimizer.norm.item();
      const values: number[] = [];
      for (const [i, each] of steps.entries()) {
        using _step = scope();
        const once = () => other.opByOp(...tensorsOf(s, each));
        if (i < steps.length - 1) once();
        else values.push(await withPlainVersions(once).item(), await other.optimizer.norm.item());
      }
      other.dispose();
      const against = `loss and gradient norm op by op, step ${steps.length} through plain versions`;
      return compare([loss, norm], { values, shape: [2], tolerance: TOLERANCE, against });
    },
    dispose() {
      step.dispose();
      trainer.dispose();
      for (const input of inputs) input.dispose();
    },
  };
}

/** As a plain loop decodes: every word comes back to the host, which sends it in again. Returns the words of each step. */
async function wordByWord(model: Captioner, features: Tensor, steps: number): Promise<Uint32Array[]> {
  using _all = scope();
  const encoded = noGrad(() => model.encode(features));
  const all: Uint32Array[] = [];
  let { start } = encoded;
  for (let t = 0; t < steps; t++) {
    const previous = tensor(all.at(-1) ?? new Uint32Array(features.shape[0]).fill(START), [1, features.shape[0]]);
    const { logits, states } = noGrad(() => model.decodeStep({ ...encoded, start }, previous));
    all.push((await ops.argmaxToken(logits).token.data()) as Uint32Array);
    start = states;
  }
  return all;
}

/** No word may be less likely than another, after the words before it, by more than this share of the largest logit. */
const TIE = 1e-5;

/**
 * Whether each word is the likeliest after the words before it. `captions` hold one list of words per picture; `logits`
 * [T, B, V] are those of a pass over all of these words; words below `skipBelow` may not be said. Words whose logits are
 * equal but for rounding may stand for each other.
 */
export function compareWords(captions: readonly (readonly number[])[], logits: ArrayLike<number>, vocabulary: number, skipBelow: number): Check {
  const against = 'one pass over all words, plain versions';
  let [largest, checked, worst, wrong]: [number, number, number, string | null] = [0, 0, 0, null];
  for (let i = 0; i < logits.length; i++) largest = Math.max(largest, Math.abs(logits[i]));
  for (const [b, caption] of captions.entries())
    for (const [t, word] of caption.entries()) {
      const row = (t * captions.length + b) * vocabulary;
      let best = skipBelow;
      for (let v = skipBelow; v < vocabulary; v++) if (logits[row + v] > logits[row + best]) best = v;
      const error = (logits[row + best] - logits[row + word]) / largest;
      worst = Math.max(worst, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
      if (!(error <= TIE)) wrong ??= `has words that are not the likeliest: word ${t + 1} of caption ${b + 1} is ${word}, must be ${best} (${against})`;
      checked++;
    }
  return { against, checked, maxError: worst, wrong };
}

/** Features [B, P, F] and the words found for each picture. */
export async function checkWords(model: Captioner, features: Tensor, captions: readonly (readonly number[])[], skipBelow: number): Promise<Check> {
  using _check = scope();
  const [batch, steps] = [captions.length, Math.max(...captions.map(({ length }) => length))];
  const before = Uint32Array.from({ length: steps * batch }, (_, i) => {
    const [t, b] = [Math.floor(i / batch), i % batch];
    return t === 0 ? START : (captions[b][t - 1] ?? PAD);
  });
  const ids = tensor(before, [steps, batch]);
  const { logits } = noGrad(() => withPlainVersions(() => model.forward(features, ids)));
  return compareWords(captions, await logits.data(), model.sizes.vocabulary, skipBelow);
}

export async function greedy(gpu: Gpu, s: DecoderShape): Promise<Prepared> {
  const model = captioner(s);
  const features = Scope.release(tensor(decoderInputs(s, 0).features, [s.batch, s.regions, s.features]));
  let captions: number[][] = [];
  return {
    async load(set) {
      features.write(decoderInputs(s, set).features);
      await gpu.idle();
    },
    async run(times = 1) {
      for (let i = 0; i < times; i++) {
        if (s.replayed) {
          const found = await model.decoding.greedy(features, s.steps, { suppress: false });
          captions = found.map(({ tokens, ended }) => (ended ? [...tokens, END] : tokens));
        } else {
          const words = await wordByWord(model, features, s.steps);
          captions = Array.from({ length: s.batch }, (_, b) => words.map((step) => step[b]));
        }
      }
    },
    check: () => checkWords(model, features, captions, PAD),
    dispose() {
      model.dispose();
      features.dispose();
    },
  };
}
