/** One training step: batches added up, the loss that is reported, scheduled sampling. */
import { expect, test } from 'vitest';
import { floatsOf, toHalf } from '../src/data/half.ts';
import { Captioner, type CaptionerSizes, PRESETS } from '../src/model/captioner/captioner.ts';
import { LocalSum } from '../src/model/training/gradient_sum.ts';
import { type StepInputs, TrainingStep } from '../src/model/training/step.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Random } from '../src/random.ts';
import { readTensors } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const sizes: CaptionerSizes = { features: 12, regions: 4, project: 8, attention: 8, hidden: 12, embedding: 8, vocabulary: 11 };

function batch(rows: number, pictures: number, seed: number): StepInputs {
  const random = new Random(seed, 'batch');
  const steps = 5;
  const word = () => 1 + Math.floor(random.uniform(0, sizes.vocabulary - 1));
  return {
    features: Float32Array.from({ length: pictures * sizes.regions * sizes.features }, () => random.normal()),
    pictures,
    ids: Uint32Array.from({ length: steps * rows }, word),
    targets: Uint32Array.from({ length: steps * rows }, word),
    weights: new Float32Array(steps * rows).fill(1 / (steps * rows)),
    active: new Array<number>(steps).fill(rows),
    pictureOf: null,
  };
}

/** One update with the gradients of several micro-batches. */
function updateOf(step: TrainingStep, micros: readonly StepInputs[], most = micros.length): void {
  const sum = new LocalSum(step.optimizers, most, false);
  micros.forEach((inputs, index) => {
    step.add(inputs, { index, of: micros.length, most });
    sum.add(index, micros.length);
  });
  step.update();
}

async function weightsAfter(updates: (step: TrainingStep, another: TrainingStep) => void, options = PRESETS.basic): Promise<Map<string, Float32Array>> {
  const model = Captioner.create(sizes, options, 3);
  const optimizer = new Optimizer(model.parameters, { kind: 'sgd', rate: 0.1, maxNorm: 0 });
  const [step, another] = [new TrainingStep(model, optimizer, 1), new TrainingStep(model, optimizer, 1)];
  updates(step, another);
  const weights = await model.parameters.read();
  step.dispose();
  another.dispose();
  optimizer.dispose();
  model.dispose();
  return new Map([...weights].map(([name, { data }]) => [name, data]));
}

/** Rows of two batches of one picture each, one after the other at every step. */
function joined(a: StepInputs, b: StepInputs): StepInputs {
  const rows = a.active[0];
  const weave = <T extends Uint32Array | Float32Array>(x: T, y: T, made: T): T => {
    for (let t = 0; t < a.active.length; t++) {
      made.set(x.subarray(t * rows, (t + 1) * rows), 2 * t * rows);
      made.set(y.subarray(t * rows, (t + 1) * rows), (2 * t + 1) * rows);
    }
    return made;
  };
  const size = 2 * a.ids.length;
  const weights = weave(a.weights, b.weights, new Float32Array(size));
  return {
    features: Float32Array.from([...a.features, ...b.features]),
    pictures: a.pictures + b.pictures,
    ids: weave(a.ids, b.ids, new Uint32Array(size)),
    targets: weave(a.targets, b.targets, new Uint32Array(size)),
    weights: weights.map((weight) => weight / 2),
    active: a.active.map((count) => 2 * count),
    pictureOf: null,
  };
}

test('features as halves make the same update as their numbers in float32, bit for bit', async () => {
  const inputs = batch(4, 2, 1);
  const halves = toHalf(inputs.features as Float32Array);
  const weightsOf = (features: Uint16Array | Float32Array) => weightsAfter((step) => void step.run({ ...inputs, features }));
  expect(await weightsOf(halves)).toEqual(await weightsOf(floatsOf(halves)));
});

test.each([
  ['basic', PRESETS.basic],
  ['recommended', { ...PRESETS.recommended, dropout: 0 }],
])('two batches added up make the update of both at once, preset %s', async (_, options) => {
  const [a, b] = [batch(3, 1, 1), batch(3, 1, 2)];
  const half = (inputs: StepInputs) => ({ ...inputs, weights: inputs.weights.map((weight) => weight / 2) });
  const together = await weightsAfter((step) => {
    for (let i = 0; i < 3; i++) step.run(joined(a, b));
  }, options);
  const apart = await weightsAfter((step) => {
    for (let i = 0; i < 3; i++) {
      updateOf(step, [half(a), half(b)]);
    }
  }, options);
  for (const [name, values] of together) {
    const other = apart.get(name) as Float32Array;
    expect(
      values.every((value, i) => Math.abs(value - other[i]) < 2e-5),
      name,
    ).toBe(true);
  }
});

test('the loss that is reported is that of its batch, whatever was captured in between', async () => {
  const model = Captioner.create(sizes, PRESETS.recommended, 3);
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: 1e-3, maxNorm: 5 });
  const step = new TrainingStep(model, optimizer, 1);
  for (let i = 0; i < 12; i++) {
    const { crossEntropy, norm } = step.run(batch(2 + (i % 5), 1, i));
    const [[loss], [length]] = await readTensors([crossEntropy, norm]);
    expect(loss).toBeGreaterThan(1.5); // ln 11 = 2.4
    expect(loss).not.toBe(length);
  }
  step.dispose();
  optimizer.dispose();
  model.dispose();
});

test('scheduled sampling at probability 0 changes nothing, above it does', async () => {
  const run = (share: number, options = PRESETS.basic) =>
    weightsAfter((step) => {
      step.samplingProbability = share;
      for (let i = 0; i < 3; i++) step.run(batch(3, 1, 7));
    }, options);
  const plain = await run(0);
  const mixing = { ...PRESETS.basic, scheduledSampling: 0.5 };
  expect(await run(0, mixing)).toEqual(plain);
  expect(await run(0.5, mixing)).not.toEqual(plain);
});

test('a shorter last update weighs its penalty on attention fully, whatever was captured before', async () => {
  const [a, b] = [batch(3, 1, 1), batch(3, 1, 2)];
  const penalized = { ...PRESETS.basic, attentionPenalty: 1 };
  const withLast = (last: (step: TrainingStep, another: TrainingStep) => TrainingStep) =>
    weightsAfter((step, another) => {
      updateOf(step, [a, a, a], 3);
      updateOf(last(step, another), [b], 3); // of the same shape, alone in its update
    }, penalized);
  expect(await withLast((step) => step)).toEqual(await withLast((_, another) => another));
});
