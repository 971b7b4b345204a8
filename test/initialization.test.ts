/**
 * Orthogonal weights are orthogonal. And what `--initialization scaled` is for: at the first update, another word or another picture must change the logits visibly. By
 * Glorot's rule and an embedding of ±0.05, both are lost in two LSTMs.
 */
import { expect, test } from 'vitest';
import { START } from '../src/data/words.ts';
import { type CaptionerOptions, PRESETS, parameterTable } from '../src/model/captioner/captioner.ts';
import { PlainCaptioner } from '../src/model/captioner/plain.ts';
import { orthogonalBlocks } from '../src/nn/initializers.ts';
import { Random } from '../src/random.ts';

/** A quarter of the default widths, because the plain captioner is slow. */
const SIZES = { project: 64, attention: 128, hidden: 128, embedding: 64, features: 512, regions: 9, vocabulary: 300 };

/** Features like those of ResNet-50's layer4: a sixth is above 0, with an rms of 0.46 over all. */
function picture(seed: number): Float32Array {
  const random = new Random(seed, 'picture');
  return Float32Array.from({ length: SIZES.regions * SIZES.features }, () => (random.uniform(0, 1) < 1 / 6 ? Math.abs(1.12 * random.normal()) : 0));
}

const rms = (a: Float64Array, b: Float64Array) => Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0) / a.length);

/** How much the logits behind three words change with another last word, and with another picture. */
function changes(options: CaptionerOptions): { word: number; picture: number } {
  const weights = new Map(parameterTable(SIZES, options).map(([name, shape, initial]) => [name, { data: initial(shape, 1, name) }]));
  const model = new PlainCaptioner(SIZES, options, weights);
  const say = (features: Float32Array, words: readonly number[]) => {
    let { picture: seen, start: state } = model.encode(features);
    let logits: Float64Array = new Float64Array();
    for (const word of [START, ...words]) ({ logits, state } = model.step(seen, state, word));
    return logits;
  };
  const [one, other] = [picture(1), picture(2)];
  const logits = say(one, [10, 20, 30]);
  return { word: rms(logits, say(one, [10, 20, 31])), picture: rms(logits, say(other, [10, 20, 30])) };
}

test.each([
  [1, 4],
  [5, 20],
  [131, 524],
])('orthogonal weights [%i, %i]: the rows of every block have length 1 and are at right angles', (rows, columns) => {
  const weights = orthogonalBlocks([rows, columns], 3, 'recurrent');
  for (let first = 0; first < columns; first += rows)
    for (let i = 0; i < rows; i++)
      for (let j = 0; j <= i; j++) {
        let dot = 0;
        for (let k = 0; k < rows; k++) dot += weights[i * columns + first + k] * weights[j * columns + first + k];
        if (!(Math.abs(dot - (i === j ? 1 : 0)) < 1e-6)) throw new Error(`block ${first / rows}, rows ${i} and ${j}: ${dot}`);
      }
  expect(orthogonalBlocks([rows, columns], 3, 'recurrent')).toEqual(weights);
  if (rows > 1) expect(orthogonalBlocks([rows, columns], 4, 'recurrent')).not.toEqual(weights);
});

test('scaled: another word changes the logits 20 times as much as with glorot, another picture 3 times', () => {
  const glorot = changes({ ...PRESETS.recommended, initialization: 'glorot' });
  const scaled = changes({ ...PRESETS.recommended, initialization: 'scaled' });
  expect(glorot.word).toBeLessThan(0.002);
  expect(scaled.word).toBeGreaterThan(0.02);
  expect(scaled.word / glorot.word).toBeGreaterThan(20);
  expect(scaled.picture / glorot.picture).toBeGreaterThan(3);
});

test('the presets: recommended is scaled, basic and transformers are not', () => {
  expect([PRESETS.recommended.initialization, PRESETS.basic.initialization]).toEqual(['scaled', 'glorot']);
  const embedding = (options: CaptionerOptions) => {
    const [, shape, initial] = parameterTable(SIZES, options).find(([name]) => name === 'emb') as ReturnType<typeof parameterTable>[number];
    return Math.max(...initial(shape, 1, 'emb'));
  };
  expect(embedding(PRESETS.basic)).toBeCloseTo(0.05, 3);
  expect(embedding(PRESETS.recommended)).toBeCloseTo(1, 2);
});
