/** Parts of training that a whole run does not show: schedules, accumulation, event files, advantages. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EventFile, maskedCrc } from '../src/data/event_file.ts';
import { Vocabulary } from '../src/data/words.ts';
import { attentionReport } from '../src/metrics/attention.ts';
import { Captioner, type CaptionerSizes, PRESETS } from '../src/model/captioner/captioner.ts';
import type { Progress, TrainingConfig } from '../src/model/training/checkpoint.ts';
import { afterEpoch, encoderRateAt, hasStalled, rateAt, samplingProbability } from '../src/model/training/schedule.ts';
import { SelfCritical } from '../src/model/training/self_critical.ts';
import { type StepInputs, TrainingStep } from '../src/model/training/step.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Random } from '../src/random.ts';
import { readTensors } from '../src/tensor/tensor.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();
const folder = temporaryFolder();
const sizes: CaptionerSizes = { features: 12, regions: 4, project: 8, attention: 8, hidden: 12, embedding: 8, vocabulary: 11 };

describe('the rate', () => {
  const config = { rate: 0.01, warmup: 0, horizon: 10, schedule: 'cosine' } as TrainingConfig;

  test('follows its schedule', () => {
    expect(rateAt(config, 1, 1, 0)).toBeCloseTo(0.01, 12);
    expect(rateAt(config, 1, 1, 5)).toBeCloseTo(0.005, 12);
    expect(rateAt(config, 1, 1, 10)).toBeCloseTo(0.00001, 12);
    expect(rateAt({ ...config, warmup: 4 }, 1, 1, 0)).toBeCloseTo(0.0025, 12);
    expect(rateAt({ ...config, schedule: 'step' }, 1, 1, 6.5)).toBeCloseTo(0.0064, 12);
    expect(rateAt({ ...config, schedule: 'constant' }, 1, 99, 6.5)).toBe(0.01);
    expect(rateAt({ ...config, schedule: 'plateau' }, 0.003, 99, 6.5)).toBe(0.003);
  });

  /** Rate, best score and epochs since then, after each of the scores. */
  function course(own: Partial<TrainingConfig>, scores: readonly (number | null)[]) {
    let progress = { rate: 0.01, bestScore: null, epochsSinceBest: 0 } as Progress;
    const seen = scores.map((score) => {
      progress = { ...progress, ...afterEpoch({ ...config, ...own }, progress, score) };
      return [progress.rate, progress.bestScore, progress.epochsSinceBest];
    });
    return { seen, stalled: hasStalled({ ...config, ...own }, progress) };
  }

  test('is halved after each patience without a better score, and the run ends after twice as long', () => {
    const plateau = { schedule: 'plateau', patience: 2 } as const;
    expect(course(plateau, [0.5, 0.4, 0.5, 0.6, 0.1])).toEqual({
      seen: [
        [0.01, 0.5, 0],
        [0.01, 0.5, 1],
        [0.005, 0.5, 2],
        [0.005, 0.6, 0],
        [0.005, 0.6, 1],
      ],
      stalled: false,
    });
    expect(course(plateau, [0.5, 0.4, 0.4, 0.4]).stalled).toBe(false);
    const stalled = course(plateau, [0.5, 0.4, 0.4, 0.4, 0.4]);
    expect([stalled.seen[4][0], stalled.stalled]).toEqual([0.0025, true]);
  });

  test('another schedule is not halved, but ends; patience 0 and no validation do neither', () => {
    const scores = [0.5, 0.4, 0.4, 0.4, 0.4];
    const last = (own: Partial<TrainingConfig>, list: readonly (number | null)[] = scores) => {
      const { seen, stalled } = course(own, list);
      return [...seen[list.length - 1], stalled];
    };
    expect(last({ schedule: 'cosine', patience: 2 })).toEqual([0.01, 0.5, 4, true]);
    expect(last({ schedule: 'plateau', patience: 0 })).toEqual([0.01, 0.5, 4, false]);
    expect(last({ schedule: 'plateau', patience: 1 }, [null, null, null])).toEqual([0.01, null, 0, false]);
  });

  test('takes the encoder’s rate and scheduled sampling along', () => {
    expect(encoderRateAt({ ...config, encoderRate: 1e-4 }, 0.0025)).toBeCloseTo(2.5e-5, 12);
    const sampled = { ...config, options: { ...PRESETS.basic, scheduledSampling: 0.4 } };
    expect([0, 5, 10].map((epochs) => samplingProbability(sampled, epochs))).toEqual([0, 0.2, 0.4]);
    expect(samplingProbability({ ...config, options: PRESETS.basic, horizon: 0 }, 3)).toBe(0);
  });

  test('is never above its height and never 0', () => {
    const schedule = fc.constantFrom('plateau', 'constant', 'cosine', 'step') as fc.Arbitrary<TrainingConfig['schedule']>;
    fc.assert(
      fc.property(
        schedule,
        fc.integer({ min: 0, max: 50 }),
        fc.integer({ min: 1, max: 1000 }),
        fc.double({ min: 0, max: 100, noNaN: true }),
        (name, warmup, update, place) => {
          const rate = rateAt({ ...config, schedule: name, warmup }, 0.01, update, place);
          expect(rate).toBeGreaterThan(0);
          expect(rate).toBeLessThanOrEqual(0.01);
        },
      ),
    );
  });
});

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
    length: steps,
  };
}

async function weightsAfter(updates: (step: TrainingStep) => void, options = PRESETS.basic): Promise<Map<string, Float32Array>> {
  const model = Captioner.create(sizes, options, 3);
  const optimizer = new Optimizer(model.parameters, { kind: 'sgd', rate: 0.1, maxNorm: 0 });
  const step = new TrainingStep(model, optimizer, 1);
  updates(step);
  const weights = await model.parameters.read();
  step.dispose();
  optimizer.dispose();
  model.dispose();
  return new Map([...weights].map(([name, { data }]) => [name, data]));
}

/** Rows of two batches of one picture each, one after the other at every step. */
function joined(a: StepInputs, b: StepInputs): StepInputs {
  const rows = a.ids.length / a.length;
  const weave = <T extends Uint32Array | Float32Array>(x: T, y: T, made: T): T => {
    for (let t = 0; t < a.length; t++) {
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
    length: a.length,
  };
}

test.each([PRESETS.basic, { ...PRESETS.recommended, dropout: 0 }])('two batches added up make the update of both at once', async (options) => {
  const [a, b] = [batch(3, 1, 1), batch(3, 1, 2)];
  const half = (inputs: StepInputs) => ({ ...inputs, weights: inputs.weights.map((weight) => weight / 2) });
  const together = await weightsAfter((step) => {
    for (let i = 0; i < 3; i++) step.run(joined(a, b));
  }, options);
  const apart = await weightsAfter((step) => {
    for (let i = 0; i < 3; i++) {
      step.run(half(a), { index: 0, of: 2 });
      step.run(half(b), { index: 1, of: 2 });
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

test('an event file holds what was written, record by record, and goes on where it was cut', () => {
  // CRC-32C of "123456789" is e3069283 (RFC 3720, B.4); records rotate it right by 15 and add a constant.
  expect(maskedCrc(Buffer.from('123456789'))).toBe(Number(((0xe3069283n >> 15n) + ((0xe3069283n << 17n) & 0xffffffffn) + 0xa282ead8n) & 0xffffffffn));
  const path = join(folder, 'events');
  const first = new EventFile(path, 0);
  first.scalars(1, { loss: 2.5, nothing: null });
  const cut = first.bytes;
  first.scalars(2, { loss: 99 });
  first.close();
  const second = new EventFile(path, cut);
  second.scalars(2, { loss: 1.5 });
  second.close();
  const bytes = readFileSync(path);
  const found: { tag: string; value: number; step: number }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc(bytes.subarray(at, at + 8)));
    const event = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedCrc(event));
    at += length + 16;
    if (event[9] !== 16) continue; // field 2, the step; the first record names the version
    // 9 bytes of wall time, 2 of step, 2 of summary, 2 of value, then the tag with its key and length, and the number with its key.
    const tag = event.subarray(17, 17 + event[16]).toString();
    found.push({ tag, value: event.readFloatLE(event.length - 4), step: event[10] });
  }
  expect(found).toEqual([
    { tag: 'loss', value: 2.5, step: 1 },
    { tag: 'loss', value: 1.5, step: 2 },
  ]);
});

test('self-critical weights: rewards above the others’ mean raise, below lower, and they add up to nothing', async () => {
  const vocabulary = new Vocabulary(['<pad>', '<unk>', 'startseq', 'endseq', 'a', 'dog', 'cat', 'runs', 'sits', 'red', 'blue']);
  const training = ['a dog runs', 'a cat sits', 'a red cat'].map((caption, i) => ({
    file: `${i}.jpg`,
    captions: [caption, `${caption} red`],
    ids: [vocabulary.encode(caption.split(' '), 12), vocabulary.encode(`${caption} red`.split(' '), 12)],
  }));
  const model = Captioner.create(sizes, PRESETS.basic, 3);
  const config = { samples: 6, maxLength: 9, temperature: 1, baseline: 'others', mix: 0, normalize: false } as const;
  const critic = new SelfCritical(model, vocabulary, training, config, 1, 'ascii');
  const features = batch(2, 2, 4).features;
  const { inputs, rollout } = await critic.rollout(['0.jpg', '2.jpg'], features, 1);
  const rows = inputs.ids.length / inputs.length;
  expect(rows).toBe(12);
  const advantage = Float64Array.from({ length: rows }, (_, r) => inputs.weights[r]); // the first word's weight is the row's
  for (const first of [0, 6]) expect(advantage.slice(first, first + 6).reduce((sum, value) => sum + value, 0)).toBeCloseTo(0, 6);
  expect(rollout.reward).toBeCloseTo(rollout.baseline, 9);
  inputs.targets.forEach((target, at) => {
    if (at >= rows && inputs.targets[at - rows] === 3) expect([target, inputs.weights[at]]).toEqual([0, 0]); // nothing after the end
  });
  const again = await critic.rollout(['0.jpg', '2.jpg'], features, 1);
  expect(again.inputs.targets).toEqual(inputs.targets);
  expect((await critic.rollout(['0.jpg', '2.jpg'], features, 2)).inputs.targets).not.toEqual(inputs.targets);
  const mixed = new SelfCritical(model, vocabulary, training, { ...config, mix: 0.25 }, 1, 'ascii');
  const both = (await mixed.rollout(['0.jpg', '2.jpg'], features, 1)).inputs;
  expect(both.ids.length / both.length).toBe(14);
  const ofReferences = Array.from(both.weights).filter((_, at) => at % 7 === 6);
  expect(ofReferences.reduce((sum, value) => sum + value, 0)).toBeCloseTo(0.25, 6);
  model.dispose();
});

test('attention: a map that stays is dead, one that moves is not', () => {
  const uniform = new Float32Array(4).fill(0.25);
  const [left, right] = [Float32Array.of(1, 0, 0, 0), Float32Array.of(0, 0, 0, 1)];
  expect(attentionReport([uniform, uniform, uniform])).toMatchObject({ entropy: 1, coverage: 0.75, change: 0, dead: true });
  expect(attentionReport([left, right, left])).toEqual({ entropy: 0, coverage: 0.5, change: 1, dead: false });
  expect(attentionReport([left]).dead).toBe(false); // one word shows nothing
});
