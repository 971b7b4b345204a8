/** Self-critical training: the weights that rewards give. */
import { expect, test } from 'vitest';
import { Vocabulary } from '../src/data/words.ts';
import { Captioner, type CaptionerSizes, PRESETS } from '../src/model/captioner/captioner.ts';
import { SelfCritical } from '../src/model/training/self_critical.ts';
import { Random } from '../src/random.ts';
import { useGpu } from './support.ts';

useGpu();

const sizes: CaptionerSizes = { features: 12, regions: 4, project: 8, attention: 8, hidden: 12, embedding: 8, vocabulary: 11 };

test('self-critical weights: rewards above the others’ mean raise, below lower, and they add up to nothing', async () => {
  const vocabulary = new Vocabulary(['<pad>', '<unk>', 'startseq', 'endseq', 'a', 'dog', 'cat', 'runs', 'sits', 'red', 'blue']);
  const training = ['a dog runs', 'a cat sits', 'a red cat'].map((caption, i) => ({
    file: `${i}.jpg`,
    captions: [caption, `${caption} red`],
    ids: [vocabulary.encode(caption.split(' '), 12), vocabulary.encode(`${caption} red`.split(' '), 12)],
  }));
  const model = Captioner.create(sizes, PRESETS.basic, 3);
  const config = { samples: 6, maxLength: 9, temperature: 1, baseline: 'others', mix: 0, normalize: false } as const;
  const critic = new SelfCritical(model, vocabulary, training, config, 1);
  const random = new Random(4, 'features');
  const features = Float32Array.from({ length: 2 * sizes.regions * sizes.features }, () => random.normal());
  const { inputs, rollout } = await critic.rollout(['0.jpg', '2.jpg'], features, 1);
  expect(inputs.active[0]).toBe(12);
  const pictureOf = Array.from(inputs.pictureOf ?? []);
  expect([...pictureOf].sort()).toEqual([...new Array(6).fill(0), ...new Array(6).fill(1)]);
  const ofPicture = (picture: number) => pictureOf.reduce((sum, each, r) => sum + (each === picture ? inputs.weights[r] : 0), 0); // the first word's weight is the row's
  for (const picture of [0, 1]) expect(ofPicture(picture)).toBeCloseTo(0, 6);
  expect(rollout.reward).toBeCloseTo(rollout.baseline, 9);
  let ended = 0;
  let place = 0;
  for (let t = 0; t + 1 < inputs.active.length; t++) {
    const next = place + inputs.active[t];
    for (let r = 0; r < inputs.active[t + 1]; r++)
      if (inputs.targets[place + r] === 3) {
        expect([inputs.targets[next + r], inputs.weights[next + r]]).toEqual([0, 0]); // nothing after the end
        ended++;
      }
    place = next;
  }
  expect(ended).toBeGreaterThan(0);
  const again = await critic.rollout(['0.jpg', '2.jpg'], features, 1);
  expect(again.inputs.targets).toEqual(inputs.targets);
  expect((await critic.rollout(['0.jpg', '2.jpg'], features, 2)).inputs.targets).not.toEqual(inputs.targets);
  const mixed = new SelfCritical(model, vocabulary, training, { ...config, mix: 0.25 }, 1);
  const both = (await mixed.rollout(['0.jpg', '2.jpg'], features, 1)).inputs;
  expect(both.active[0]).toBe(14);
  expect(both.weights.filter((weight) => Math.abs(weight - 0.25 / 10) < 1e-8)).toHaveLength(10); // the words of two references, 5 each
  const many = Array.from({ length: 16 }, (_, i) => `${i % 3}.jpg`);
  const large = (
    await mixed.rollout(
      many,
      Float32Array.from({ length: 8 * features.length }, (_, i) => features[i % features.length]),
      1,
    )
  ).inputs;
  expect(large.active[0]).toBe(16 * 6 + 4); // one reference for four pictures
  model.dispose();
});
