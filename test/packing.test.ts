/** Packed captions: laid out without loss, and the same loss and gradients as with every caption at every step. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { backward, gradOf } from '../src/autograd/tape.ts';
import { Captioner, type CaptionerOptions, type CaptionerSizes, PRESETS, packsCaptions } from '../src/model/captioner/captioner.ts';
import { layOut, shapeOfWords, type Words } from '../src/model/training/packing.ts';
import { Random } from '../src/random.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const sizes: CaptionerSizes = { features: 12, regions: 5, project: 8, attention: 12, hidden: 16, embedding: 8, vocabulary: 23 };

test('every word is there once, in the row of its caption; the rows are sorted, and little is padding', () => {
  const caption = fc.record({ words: fc.array(fc.integer({ min: 1, max: 99 }), { minLength: 2, maxLength: 40 }), picture: fc.nat(9) });
  fc.assert(
    fc.property(fc.array(caption, { minLength: 1, maxLength: 70 }), (captions) => {
      const { words, order } = layOut(captions, true);
      expect([...order].sort((a, b) => a - b)).toEqual(captions.map((_, i) => i));
      const { active, pictureOf, ids, targets } = words;
      expect(active[0]).toBe(captions.length);
      const rows: { words: number[]; next: number[] }[] = captions.map(() => ({ words: [], next: [] }));
      let place = 0;
      active.forEach((count, t) => {
        expect(count).toBeLessThanOrEqual(active[t - 1] ?? count);
        for (let r = 0; r < count; r++) {
          rows[r].words.push(ids[place + r]);
          rows[r].next.push(targets[place + r]);
        }
        place += count;
      });
      expect([ids.length, targets.length]).toEqual([place, place]);
      rows.forEach((row, r) => {
        const { words: said, picture } = captions[order[r]];
        const padding = new Array(row.words.length - said.length + 1).fill(0);
        expect(row).toEqual({ words: [...said.slice(0, -1), ...padding], next: [...said.slice(1), ...padding] });
        expect(pictureOf?.[r]).toBe(picture);
      });
    }),
  );
});

function batch(): { captions: { words: number[]; picture: number }[]; features: Float32Array } {
  const random = new Random(3, 'batch');
  const word = () => 4 + random.integer(sizes.vocabulary - 4);
  const captions = [7, 3, 9, 5, 2, 8].map((length, i) => ({ words: Array.from({ length }, word), picture: Math.floor(i / 3) }));
  return { captions, features: Float32Array.from({ length: 2 * sizes.regions * sizes.features }, () => random.normal()) };
}

async function lossAndGradients(options: CaptionerOptions, packed: boolean): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  using _s = scope();
  const model = Captioner.create(sizes, options, 5);
  const { captions, features } = batch();
  const { words } = layOut(captions, packed);
  const { active, pictureOf, ids, targets }: Words = words;
  const shape = shapeOfWords(active, packed);
  const count = targets.filter((id) => id !== 0).length;
  const weights = Float32Array.from(targets, (id) => (id === 0 ? 0 : 1 / count));
  const { loss } = model.loss(tensor(features, [2, sizes.regions, sizes.features]), tensor(ids, shape), tensor(targets, shape), tensor(weights, shape), {
    step: { seed: 1, step: 1 },
    packing: pictureOf && { active, pictureOf: tensor(pictureOf, [captions.length]) },
  });
  backward(loss);
  const gradients = new Map<string, Float32Array>();
  for (const [name, parameter] of model.parameters.all) if (name !== 'bv') gradients.set(name, (await (gradOf(parameter) as Tensor).data()) as Float32Array); // bv cancels in the softmax
  const value = await loss.item();
  model.dispose();
  return { loss: value, gradients };
}

const still = { ...PRESETS.recommended, dropout: 0 };

test.each<[string, CaptionerOptions]>([
  ['basic', PRESETS.basic],
  ['recommended', still],
  ['asked by h1, context to the output, smoothed labels', { ...still, query: 'h1', contextToOutput: true, labelSmoothing: 0.1 }],
])('packed captions have the same loss and gradients: %s', async (_, options) => {
  const [packed, padded] = [await lossAndGradients(options, true), await lossAndGradients(options, false)];
  expect(packed.loss).toBeCloseTo(padded.loss, 5);
  for (const [name, values] of padded.gradients) {
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(largest, name).toBeGreaterThan(0);
    const own = packed.gradients.get(name) as Float32Array;
    for (const [i, value] of values.entries()) expect(Math.abs(own[i] - value), name).toBeLessThan(1e-6 + 1e-4 * largest);
  }
});

test('captions are not packed for losses that need all steps of a caption', async () => {
  for (const change of [{ attentionPenalty: 1 }, { scheduledSampling: 0.2 }, { cell: 'gru' }, { decoder: 'up-down' }, { attention: 'hard' }] as const) {
    const options = { ...still, ...change };
    expect(packsCaptions(options)).toBe(false);
    await expect(lossAndGradients(options, true)).rejects.toThrow('captions that are not packed');
  }
});
