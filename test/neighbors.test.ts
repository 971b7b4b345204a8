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

function fileOf(): NeighborFile {
  const rows = Array.from({ length: PICTURES }, () => vectorOf(numbers(REGIONS * WIDTH)));
  const mean = Float32Array.from({ length: WIDTH }, (_, c) => rows.reduce((sum, row) => sum + row[c], 0) / PICTURES);
  const captions = rows.map(() => Array.from({ length: 1 + random.integer(4) }, saying));
  return { encoder, width: WIDTH, vectors: toHalf(Float32Array.from(rows.flat())), mean, captions };
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
      const shares = order.slice(0, 60).map((n) => Math.exp((cosines[n] - cosines[order[0]]) / 0.07));
      const sum = shares.reduce((p, q) => p + q);
      for (const [i, { weight }] of found.entries()) expect(weight).toBeCloseTo(shares[i] / sum, 4);
    }
    neighbors.dispose();
  });

  test('fewer pictures than neighbors', async () => {
    const few = { ...file, captions: file.captions.slice(0, 3), vectors: file.vectors.subarray(0, 3 * WIDTH) };
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

test('what a hypothesis is worth: its likeness to the captions of the neighbors, and to the other hypotheses', () => {
  const neighbors = new Neighbors(file, WIDTH, words);
  const hypotheses = ['a dog runs', 'two dogs play in the snow', 'a boy jumps over a fence', ''];
  const near = [
    { picture: 3, weight: 0.75 },
    { picture: 90, weight: 0.25 },
  ];
  const tokens = (text: string) => text.replace(' .', '').split(' ').filter(Boolean);
  const cider = new CiderD(file.captions.map((each) => each.map(tokens)));
  const own = agreement(hypotheses.map(tokens));
  const got = neighbors.support(hypotheses, near);
  for (const [h, text] of hypotheses.entries()) {
    const [one, other] = near.map(({ picture }) => cider.scores([tokens(text)], file.captions[picture].map(tokens))[0]);
    expect(got[h]).toBeCloseTo((0.75 * one + 0.25 * other) / 10 + 0.05 * own[h], 10);
  }
  neighbors.dispose();
});

describe('the file', () => {
  test('comes back as it was', () => {
    expect(parse(bytesOf(file))).toEqual(file);
  });

  const [width, pictures] = [4, 2];
  const small = { encoder, width, vectors: toHalf(numbers(pictures * width)), mean: numbers(width), captions: [['a dog'], ['a cat', 'two cats']] };
  const text = new Uint32Array(new TextEncoder().encode('[["a"]] ').buffer);
  const tensorsOf = (more: Record<string, { shape: number[]; data: Float32Array | Uint32Array }>) =>
    new Map(
      Object.entries({
        vectors: { shape: [2], data: new Uint32Array(2) },
        mean: { shape: [4], data: numbers(4) },
        captions: { shape: [2], data: text },
        ...more,
      }),
    );
  const said = { format: 'glimpse neighbors 1', encoder: JSON.stringify(encoder) };

  test.each([
    ['another file', () => safetensorsBytes(new Map(), {}), /is no file of neighbors; `glimpse neighbors` makes one/],
    ['no encoder', () => safetensorsBytes(tensorsOf({}), { format: said.format }), /says no encoder/],
    ['too few captions', () => neighborBytes({ ...small, captions: [['a dog']] }), /1 pictures of 4 numbers, and 8 numbers/],
    ['a picture without captions', () => neighborBytes({ ...small, captions: [['a dog'], []] }), /has damaged captions/],
    ['an empty mean', () => neighborBytes({ ...small, width: 0, mean: new Float32Array(0) }), /2 pictures of 0 numbers/],
    ['an infinite mean', () => neighborBytes({ ...small, mean: Float32Array.of(0, Number.POSITIVE_INFINITY, 1, 2) }), /its mean or its vectors are no numbers/],
    [
      'a vector of NaN',
      () => neighborBytes({ ...small, vectors: small.vectors.map((half, i) => (i === 5 ? 0x7e00 : half)) }),
      /its mean or its vectors are no numbers/,
    ],
    ['captions that are no JSON', () => safetensorsBytes(tensorsOf({ captions: { shape: [1], data: new Uint32Array(1) } }), said), /has damaged captions/],
    ['vectors of another type', () => safetensorsBytes(tensorsOf({ vectors: { shape: [2], data: numbers(2) } }), said), /missing, or of another type/],
  ])('%s is refused', (_, bytes, message) => {
    expect(() => parse(Buffer.concat([...bytes()]))).toThrow(message);
  });

  test('a flipped bit is noticed', () => {
    const bytes = bytesOf(file);
    bytes[bytes.length - 9] ^= 1;
    expect(() => parse(bytes)).toThrow(/"captions" is damaged: its checksum differs/);
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
