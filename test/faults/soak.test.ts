/** Long work in one process: thousands of training steps and captions of changing shapes take no more memory at the end than at the beginning. */
import { expect, test } from 'vitest';
import { Captioner, PRESETS } from '../../src/model/captioner/captioner.ts';
import { TrainingStep } from '../../src/model/training/step.ts';
import { Optimizer } from '../../src/nn/optimizer.ts';
import { memory, readTensors, scope, tensor } from '../../src/tensor/tensor.ts';
import { SIZES } from '../small_captioner.ts';
import { useGpu } from '../support.ts';
import { counted, isWhole, randomFor, trial, trials, whole } from './trials.ts';

useGpu();

const COUNT = trials(150, 2000);
/** After so many, every shape that stays captured has come up. */
const WARM = COUNT / 2;

test('training steps and captions', async () => {
  const record = counted('long work in one process', `${COUNT} steps and ${COUNT} captions`);
  const random = randomFor('soak');
  const model = Captioner.create(SIZES, { ...PRESETS.recommended, dropout: 0.3 }, 1);
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: 1e-4, maxNorm: 5 });
  const step = new TrainingStep(model, optimizer, 1);
  const { regions, features: width, vocabulary } = SIZES;
  let warm: { tensors: number; bytes: number; rss: number } | null = null;
  const held = () => ({ tensors: memory().tensors, bytes: memory().bytesInUse, rss: process.memoryUsage().rss });
  await trial(record, async () => {
    for (let i = 0; i < COUNT; i++) {
      using _each = scope();
      const [pictures, length] = [whole(random, 1, 4), whole(random, 3, 9)];
      const word = () => whole(random, 4, vocabulary);
      const words = () => Uint32Array.from({ length: length * pictures }, word);
      const values = Float32Array.from({ length: pictures * regions * width }, () => random.normal());
      const weights = new Float32Array(length * pictures).fill(1 / (length * pictures));
      const { crossEntropy } = step.run({
        features: values,
        pictures,
        ids: words(),
        targets: words(),
        weights,
        active: new Array<number>(length).fill(pictures),
        pictureOf: null,
      });
      const [[loss]] = await readTensors([crossEntropy]);
      expect(loss).toBeGreaterThan(0);
      const [caption] = await model.decoding.greedy(tensor(values, [pictures, regions, width]), 3 + (i % 4), { suppress: true });
      expect(caption.tokens.length).toBeLessThan(8);
      if (i === WARM) warm = held();
    }
    const [before, after] = [warm as unknown as ReturnType<typeof held>, held()];
    expect(after.tensors).toBeLessThanOrEqual(before.tensors + 40); // shapes take turns among the captured ones
    expect(after.bytes).toBeLessThanOrEqual(before.bytes * 1.1);
    if (isWhole) expect(after.rss).toBeLessThan(before.rss + 64 * 2 ** 20);
  });
  step.dispose();
  optimizer.dispose();
  model.dispose();
});
