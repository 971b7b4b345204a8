/** Captions chosen by what people said of similar pictures: the nearest pictures and the scores against plain loops, the file, the commands. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { bytesAsSource } from '../src/data/bytes.ts';
import { floatsOf, toHalf } from '../src/data/half.ts';
import { type NeighborFile, neighborBytes, parseNeighbors } from '../src/data/neighbor_file.ts';
import { safetensorsBytes } from '../src/data/safetensors_format.ts';
import { Vocabulary } from '../src/data/words.ts';
import { agreement, CiderD } from '../src/metrics/cider.ts';
import { CaptionWords, WordRegression } from '../src/model/captioner/expected_words.ts';
import { Neighbors, pictureVectors } from '../src/model/captioner/neighbors.ts';
import { Random } from '../src/random.ts';
import { tensor } from '../src/tensor/tensor.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder, useGpu } from './support.ts';

useGpu();
const folder = temporaryFolder();
const made = captionerRun(folder);

const [PICTURES, REGIONS, WIDTH] = [131, 5, 37];
const NOUNS = ['a dog', 'two dogs', 'a boy', 'a girl in red', 'a man', 'people'];
const VERBS = ['runs', 'sits', 'jumps over a fence', 'plays in the snow', 'is wet'];
const random = new Random(5, 'neighbors');
const numbers = (count: number) => Float32Array.from({ length: count }, () => random.normal());
const pick = <T>(list: readonly T[]): T => list[random.integer(list.length)];
const saying = () => `${pick(NOUNS)} ${pick(VERBS)} .`;
const encoder = { path: 'encoder.onnx', sha256: 'a'.repeat(64), featureMap: 'y', preprocessing: 'imagenet', tuned: null };
const words = new Vocabulary(['<pad>', '<unk>', 'startseq', 'endseq', 'a'], 'ascii');

const length = (x: readonly number[]) => Math.hypot(...x) || 1;
const unit = (x: readonly number[]) => x.map((value) => value / length(x));

/** The vector of a picture by plain loops, before the mean is taken off. */
function vectorOf(features: Float32Array): number[] {
  const mean = Array.from(
    { length: WIDTH },
    (_, c) => Array.from({ length: REGIONS }, (_unused, p) => features[p * WIDTH + c]).reduce((a, b) => a + b) / REGIONS,
  );
  return unit(mean.map((value) => Math.sign(value) * Math.sqrt(Math.abs(value))));
}

const tokensOf = (text: string) => text.replace(' .', '').split(' ').filter(Boolean);

/** A file with weights for as many words as its captions have. */
function withWeights(file: Omit<NeighborFile, 'expected'>): NeighborFile {
  const { words: own } = new CaptionWords(file.captions.map((each) => each.map(tokensOf)));
  return { ...file, expected: toHalf(numbers(file.width * own.length)) };
}

function fileOf(): NeighborFile {
  const rows = Array.from({ length: PICTURES }, () => vectorOf(numbers(REGIONS * WIDTH)));
  const mean = Float32Array.from({ length: WIDTH }, (_, c) => rows.reduce((sum, row) => sum + row[c], 0) / PICTURES);
  const captions = rows.map(() => Array.from({ length: 1 + random.integer(4) }, saying));
  return withWeights({ encoder, width: WIDTH, vectors: toHalf(Float32Array.from(rows.flat())), mean, captions });
}
const file = fileOf();
const bytesOf = (of: NeighborFile) => Buffer.concat([...neighborBytes(of)]);
const parse = (bytes: Uint8Array) => parseNeighbors(bytesAsSource('some.safetensors', new Uint8Array(bytes)));

describe('the pictures that are near', () => {
  const query = numbers(3 * REGIONS * WIDTH);

  test('a vector per picture; one of zeros stays one', async () => {
    const got = await pictureVectors(tensor(query, [3, REGIONS, WIDTH])).data();
    const expected = [0, 1, 2].flatMap((b) => vectorOf(query.subarray(b * REGIONS * WIDTH, (b + 1) * REGIONS * WIDTH)));
    for (const [i, value] of expected.entries()) expect(Math.abs(got[i] - value)).toBeLessThan(2e-6);
    expect([...(await pictureVectors(tensor(new Float32Array(12), [1, 3, 4])).data())]).toEqual([0, 0, 0, 0]);
  });

  test.each([
    ['in one buffer', undefined],
    ['in buffers of 50 pictures', 50 * WIDTH * 4],
    ['in a buffer each', 1],
  ])('and their weights, as plain loops say, %s', async (_, bytes) => {
    const neighbors = new Neighbors(file, WIDTH, words, bytes);
    const near = await neighbors.nearest(tensor(query, [3, REGIONS, WIDTH]));
    const all = floatsOf(file.vectors);
    const centered = (x: readonly number[]) => unit(x.map((value, c) => value - file.mean[c]));
    for (const [b, found] of near.entries()) {
      const x = centered(vectorOf(query.subarray(b * REGIONS * WIDTH, (b + 1) * REGIONS * WIDTH)));
      const cosines = Array.from({ length: PICTURES }, (_unused, n) =>
        centered([...all.subarray(n * WIDTH, (n + 1) * WIDTH)]).reduce((sum, value, c) => sum + value * x[c], 0),
      );
      const order = cosines.map((_unused, n) => n).sort((i, j) => cosines[j] - cosines[i]);
      expect(found.map(({ picture }) => picture)).toEqual(order.slice(0, 60));
      const shares = order.slice(0, 60).map((n) => Math.exp((cosines[n] - cosines[order[0]]) / 0.04));
      const sum = shares.reduce((p, q) => p + q);
      for (const [i, { weight }] of found.entries()) expect(weight).toBeCloseTo(shares[i] / sum, 4);
    }
    neighbors.dispose();
  });

  test('fewer pictures than neighbors', async () => {
    const few = withWeights({ ...file, captions: file.captions.slice(0, 3), vectors: file.vectors.subarray(0, 3 * WIDTH) });
    const neighbors = new Neighbors(few, WIDTH, words);
    const [found] = await neighbors.nearest(tensor(query.subarray(0, REGIONS * WIDTH), [1, REGIONS, WIDTH]));
    expect(found.map(({ picture }) => picture).sort()).toEqual([0, 1, 2]);
    expect(found.reduce((sum, { weight }) => sum + weight, 0)).toBeCloseTo(1, 6);
    neighbors.dispose();
  });

  test('a training picture is not its own neighbor, nor is a copy of it', async () => {
    const own = numbers(REGIONS * WIDTH);
    const vector = toHalf(Float32Array.from(vectorOf(own)));
    const vectors = file.vectors.slice();
    for (const place of [7, 100]) vectors.set(vector, place * WIDTH);
    const neighbors = new Neighbors({ ...file, vectors }, WIDTH, words, 50 * WIDTH * 4);
    const [found] = await neighbors.nearest(tensor(own, [1, REGIONS, WIDTH]));
    expect(found).toHaveLength(60);
    expect(found.filter(({ picture }) => picture === 7 || picture === 100)).toEqual([]);
    neighbors.dispose();
  });

  test('of other features than the model reads are refused', () => {
    expect(() => new Neighbors(file, 8, words)).toThrow('the vectors of the neighbors have 37 numbers, the model reads features of 8');
  });
});

test('what a hypothesis is worth: its likeness to the captions of the neighbors, to the other hypotheses, and to the expected words', () => {
  const neighbors = new Neighbors(file, WIDTH, words);
  const hypotheses = ['a dog runs', 'two dogs play in the snow', 'a boy jumps over a fence', ''];
  const near = [
    { picture: 3, weight: 0.75 },
    { picture: 90, weight: 0.25 },
  ];
  const captions = file.captions.map((each) => each.map(tokensOf));
  const cider = new CiderD(captions);
  const own = agreement(hypotheses.map(tokensOf));
  const known = new CaptionWords(captions);
  const expected = numbers(known.words.length);
  const got = neighbors.support(hypotheses, near, expected);
  for (const [h, text] of hypotheses.entries()) {
    const [one, other] = near.map(({ picture }) => cider.scores([tokensOf(text)], captions[picture])[0]);
    expect(got[h]).toBeCloseTo((0.75 * one + 0.25 * other) / 10 + 0.15 * own[h] + 0.15 * known.likeness(tokensOf(text), expected), 10);
  }
  neighbors.dispose();
});

describe('the words that are expected of a picture', () => {
  const captions = [
    [
      ['a', 'dog', 'runs'],
      ['a', 'dog', 'dog'],
    ],
    ...Array.from({ length: 5 }, () => [
      ['a', 'cat'],
      ['a', 'dog', 'sits'],
    ]),
    ...Array.from({ length: 4 }, () => [['a', 'bird']]),
  ];
  const known = new CaptionWords(captions);

  test('are those of five pictures or more, by how many; their shares and rarity', () => {
    expect(known.words).toEqual(['a', 'dog', 'cat', 'sits']);
    expect([...known.shares(captions[0])]).toEqual([
      [0, 1],
      [1, 1],
    ]);
    expect([...known.shares([['dog'], ['cat', 'cat'], []])]).toEqual([
      [1, 1 / 3],
      [2, 1 / 3],
    ]);
    for (const [i, mean] of [1, 3.5 / 10, 2.5 / 10, 2.5 / 10].entries()) expect(known.mean[i]).toBeCloseTo(mean, 6);
    for (const [i, pictures] of [10, 6, 5, 5].entries()) expect(known.rarity[i]).toBeCloseTo(Math.log(10 / pictures), 6);
  });

  test('a caption is like them by the cosine; shares are held between 0 and 1', () => {
    const [dog, cat, sits] = [6, 5, 5].map((pictures) => Math.log(10 / pictures));
    const expected = Float32Array.of(0.9, 2, -1, 0.5);
    const whole = Math.hypot(dog, 0.5 * sits);
    expect(known.likeness(['a', 'dog'], expected)).toBeCloseTo(dog / whole, 6);
    expect(known.likeness(['dog', 'cat', 'dog'], expected)).toBeCloseTo((dog * dog) / (Math.hypot(dog, cat) * whole), 6);
    expect(known.likeness(['bird'], expected)).toBe(0);
    expect(known.likeness(['dog'], new Float32Array(4))).toBe(0);
  });

  test('follow from the vectors as the normal equations say, whatever parts the pictures come in', async () => {
    const all = file.captions.map((each) => each.map(tokensOf));
    const own = new CaptionWords(all);
    const [count, width] = [own.words.length, WIDTH];
    expect(count).toBeGreaterThan(5);
    const x = numbers(PICTURES * width).map((value) => value / Math.sqrt(width));
    const regression = new WordRegression(own, width);
    for (const [first, end] of [
      [0, 50],
      [50, PICTURES],
    ])
      regression.add(tensor(x.subarray(first * width, end * width), [end - first, width]), all.slice(first, end));
    const steps: number[] = [];
    const got = await regression.solve((done, of) => steps.push(done / of));
    expect(steps).toHaveLength(20);
    expect(steps.at(-1)).toBe(1);
    regression.dispose();
    // (XᵀX + 3 I) W must give Xᵀ (Y − ȳ).
    const y = all.map((each) => own.mean.map((mean, j) => (own.shares(each).get(j) ?? 0) - mean));
    for (let j = 0; j < count; j++)
      for (let c = 0; c < width; c++) {
        let [left, right] = [3 * got[c * count + j], 0];
        for (let n = 0; n < PICTURES; n++) {
          let product = 0;
          for (let d = 0; d < width; d++) product += x[n * width + d] * got[d * count + j];
          left += x[n * width + c] * product;
          right += x[n * width + c] * y[n][j];
        }
        expect(Math.abs(left - right)).toBeLessThan(1e-4);
      }
  });

  test('of a picture are its vector times the weights', async () => {
    const neighbors = new Neighbors(file, WIDTH, words);
    const features = numbers(2 * REGIONS * WIDTH);
    const got = await neighbors.expectedWords(tensor(features, [2, REGIONS, WIDTH]));
    const own = new CaptionWords(file.captions.map((each) => each.map(tokensOf)));
    const weights = floatsOf(file.expected);
    for (const b of [0, 1]) {
      const x = unit(vectorOf(features.subarray(b * REGIONS * WIDTH, (b + 1) * REGIONS * WIDTH)).map((value, c) => value - file.mean[c]));
      for (const [j, mean] of own.mean.entries())
        expect(got[b][j]).toBeCloseTo(
          x.reduce((sum, value, c) => sum + value * weights[c * own.words.length + j], mean),
          4,
        );
    }
    neighbors.dispose();
  });

  test('a file with weights for other words is refused', () => {
    const other = { ...file, expected: file.expected.subarray(0, 3 * WIDTH) };
    expect(() => new Neighbors(other, WIDTH, words)).toThrow(/the neighbors have 3 expected words, their captions \d+: make the file anew/);
  });
});

describe('the file', () => {
  test('comes back as it was', () => {
    expect(parse(bytesOf(file))).toEqual(file);
  });

  const [width, pictures] = [4, 2];
  const small = {
    ...{ encoder, width, vectors: toHalf(numbers(pictures * width)), mean: numbers(width), captions: [['a dog'], ['a cat', 'two cats']] },
    expected: toHalf(numbers(3 * width)),
  };
  const text = new Uint32Array(new TextEncoder().encode('[["a"]] ').buffer);
  const tensorsOf = (more: Record<string, { shape: number[]; data: Float32Array | Uint32Array }>) =>
    new Map(
      Object.entries({
        vectors: { shape: [2], data: new Uint32Array(2) },
        mean: { shape: [4], data: numbers(4) },
        captions: { shape: [2], data: text },
        expected: { shape: [2], data: new Uint32Array(2) },
        ...more,
      }),
    );
  const said = { format: 'glimpse neighbors 2', encoder: JSON.stringify(encoder) };

  test.each([
    ['another file', () => safetensorsBytes(new Map(), {}), /is no file of neighbors of this version; `glimpse neighbors` makes one/],
    ['no encoder', () => safetensorsBytes(tensorsOf({}), { format: said.format }), /says no encoder/],
    ['too few captions', () => neighborBytes({ ...small, captions: [['a dog']] }), /1 pictures of 4 numbers, and 8 numbers/],
    ['a picture without captions', () => neighborBytes({ ...small, captions: [['a dog'], []] }), /has damaged captions/],
    ['an empty mean', () => neighborBytes({ ...small, width: 0, mean: new Float32Array(0) }), /2 pictures of 0 numbers/],
    [
      'an infinite mean',
      () => neighborBytes({ ...small, mean: Float32Array.of(0, Number.POSITIVE_INFINITY, 1, 2) }),
      /its mean, its vectors or its weights are no numbers/,
    ],
    [
      'a vector of NaN',
      () => neighborBytes({ ...small, vectors: small.vectors.map((half, i) => (i === 5 ? 0x7e00 : half)) }),
      /its mean, its vectors or its weights are no numbers/,
    ],
    ['a weight of NaN', () => neighborBytes({ ...small, expected: small.expected.map((half, i) => (i === 5 ? 0x7e00 : half)) }), /its weights are no numbers/],
    ['captions that are no JSON', () => safetensorsBytes(tensorsOf({ captions: { shape: [1], data: new Uint32Array(1) } }), said), /has damaged captions/],
    ['vectors of another type', () => safetensorsBytes(tensorsOf({ vectors: { shape: [2], data: numbers(2) } }), said), /missing, or of another type/],
  ])('%s is refused', (_, bytes, message) => {
    expect(() => parse(Buffer.concat([...bytes()]))).toThrow(message);
  });

  test('a flipped bit is noticed', () => {
    const bytes = bytesOf(file);
    bytes[bytes.length - 9] ^= 1;
    expect(() => parse(bytes)).toThrow(/"expected" is damaged: its checksum differs/);
  });
});

describe('the commands', () => {
  test('neighbors, then eval, caption and gallery with them; what does not fit is refused', async () => {
    const { data, store, run, images } = await made.trained();
    const out = join(folder, 'neighbors.safetensors');
    const gathered = await glimpse('neighbors', '--data', data, '--features', store, '--out', out, '--json');
    expect(gathered, gathered.stderr).toMatchObject({ code: 0 });
    const { pictures, captions, width } = JSON.parse(gathered.stdout);
    expect([pictures > 5, captions > pictures, width]).toEqual([true, true, 8]);
    const decoding = ['--beam', '3', '--neighbors', out, '--samples', '12'];
    const scored = await glimpse('eval', run, '--data', data, '--features', store, '--bootstrap', '0', ...decoding);
    expect(scored, scored.stderr).toMatchObject({ code: 0, stdout: expect.stringContaining('beam 3 (average, neighbors, 12 samples)') });
    const photograph = join(images, '15.jpg');
    const [said] = JSON.parse((await glimpse('caption', run, photograph, ...decoding, '--n-best', '3', '--json')).stdout);
    const all = [said.caption, ...said.others];
    expect(new Set(all).size).toBe(all.length);
    const again = JSON.parse((await glimpse('caption', run, photograph, ...decoding, '--json')).stdout);
    expect(again[0].caption).toBe(said.caption);
    const shown = await glimpse('gallery', run, photograph, ...decoding, '--out', join(folder, 'gallery'), '--quiet');
    expect(shown, shown.stderr).toMatchObject({ code: 0 });
    expect(readFileSync(join(folder, 'gallery', 'index.html'), 'utf8')).toContain(`<h3>${said.caption}</h3>`);

    expect(await glimpse('caption', run, photograph, '--neighbors', out)).toMatchObject({ code: 2, stderr: expect.stringContaining('--neighbors belongs to') });
    expect(await glimpse('caption', run, photograph, '--beam', '3', '--samples', '5')).toMatchObject({ code: 2, stderr: expect.stringContaining('--samples') });
    const other = join(folder, 'other.safetensors');
    writeFileSync(other, bytesOf(file));
    expect(await glimpse('caption', run, photograph, '--beam', '3', '--neighbors', other)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/other\.safetensors is of another encoder than the model was trained with \(sha256.* differ\); make it anew/),
    });
    copyFileSync(photograph, other);
    expect(await glimpse('caption', run, photograph, '--beam', '3', '--neighbors', other)).toMatchObject({ code: 1, stderr: expect.stringContaining(other) });
  });
});
