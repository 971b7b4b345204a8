/** Decoding against a plain float64 decoder that follows the equations word by word. */
import { describe, expect, test } from 'vitest';
import { type Reference, reference } from '../src/autograd/op.ts';
import { attentionLstmOp } from '../src/autograd/ops/attention_lstm.ts';
import { END, START } from '../src/data/captions.ts';
import { type BeamOptions, Captioner, type CaptionerSizes, PRESETS } from '../src/model/captioner.ts';
import { Random } from '../src/tensor/random.ts';
import { memory, scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();
const sizes: CaptionerSizes = { features: 12, places: 5, project: 8, attention: 8, hidden: 12, embedding: 8, vocabulary: 17 };
const BATCH = 3;
const LENGTH = 7;

function product(x: Reference, w: Reference, bias: Reference | null, relu = false): Reference {
  const [k, n] = w.shape;
  return reference([x.data.length / k, n], (i) => {
    let sum = bias ? bias.data[i % n] : 0;
    for (let p = 0; p < k; p++) sum += x.data[Math.floor(i / n) * k + p] * w.data[p * n + (i % n)];
    return relu ? Math.max(0, sum) : sum;
  });
}

const rowsOf = (x: Reference, first: number, count: number): Reference => {
  const width = x.data.length / x.shape[0];
  return { shape: [count, ...x.shape.slice(1)], data: x.data.slice(first * width, (first + count) * width) };
};

interface State {
  h1: Reference;
  c1: Reference;
  h2: Reference;
  c2: Reference;
}

/** One picture's model in float64: the starting state, and one step from a state and a word. */
class Plain {
  private constructor(
    private readonly w: Map<string, Reference>,
    private readonly gate: boolean,
  ) {}

  static async of(model: Captioner): Promise<Plain> {
    const weights = await model.parameters.read();
    return new Plain(new Map([...weights].map(([name, { shape, data }]) => [name, { shape: [...shape], data: Float64Array.from(data) }])), model.options.gate);
  }

  private p(name: string): Reference {
    return this.w.get(name) as Reference;
  }

  encode(features: Float32Array): { values: Reference; keys: Reference; state: State } {
    const x = { shape: [sizes.places, sizes.features], data: Float64Array.from(features) };
    const a = product(x, this.p('enc_w'), this.p('enc_b'), true);
    const keys = product(a, this.p('w1'), this.p('b1'));
    const mean = reference([1, sizes.project], (i) => {
      let sum = 0;
      for (let p = 0; p < sizes.places; p++) sum += a.data[p * sizes.project + i] / sizes.places;
      return sum;
    });
    const all = this.w.has('start_w') ? product(mean, this.p('start_w'), this.p('start_b')).data.map(Math.tanh) : new Float64Array(4 * sizes.hidden);
    const part = (i: number): Reference => ({ shape: [1, sizes.hidden], data: all.slice(i * sizes.hidden, (i + 1) * sizes.hidden) });
    return {
      values: { shape: [1, sizes.places, sizes.project], data: a.data },
      keys: { shape: [1, sizes.places, sizes.attention], data: keys.data },
      state: { h1: part(0), c1: part(1), h2: part(2), c2: part(3) },
    };
  }

  step({ values, keys }: { values: Reference; keys: Reference }, s: State, word: number): { logProbs: Float64Array; state: State } {
    const lstm1 = this.p('lstm1_w');
    const xe = product(rowsOf(this.p('emb'), word, 1), rowsOf(lstm1, sizes.project, sizes.embedding), this.p('lstm1_b'));
    xe.shape = [1, 1, 4 * sizes.hidden];
    const weights = ['w2', 'b2', 'v'].map((name) => this.p(name));
    const cells = [rowsOf(lstm1, 0, sizes.project), ...['lstm1_u', 'lstm2_w', 'lstm2_u', 'lstm2_b'].map((name) => this.p(name))];
    const gate = this.gate ? [this.p('gate_w'), this.p('gate_b')] : [];
    const [h2, , h1, c1, c2] = attentionLstmOp.reference([values, keys, xe, ...weights, ...cells, s.h1, s.c1, s.h2, s.c2, ...gate], { gate: this.gate });
    const flat = (x: Reference): Reference => ({ shape: [1, sizes.hidden], data: x.data });
    const logits = product(flat(h2), this.p('out_w'), this.p('out_b')).data;
    const largest = Math.max(...logits);
    const total = Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0)) + largest;
    return { logProbs: logits.map((value) => value - total), state: { h1: flat(h1), c1: flat(c1), h2: flat(h2), c2: flat(c2) } };
  }

  /** Beam search as beam_select.wgsl has it. */
  search(features: Float32Array, o: BeamOptions): { tokens: number[]; score: number; logProb: number; ended: boolean }[] {
    const encoded = this.encode(features);
    let alive = [{ tokens: [] as number[], logProb: 0, length: 0, state: encoded.state }];
    const scoreOf = (logProb: number, length: number) =>
      o.penalty === 'average' ? logProb / length : o.penalty === 'wu' ? logProb / ((5 + length) / 6) ** o.alpha : logProb;
    let ranked: { hypothesis: (typeof alive)[0]; score: number }[] = [];
    for (let t = 1; t <= LENGTH; t++) {
      const candidates: typeof ranked = [];
      for (const hypothesis of alive) {
        if (hypothesis.length > 0) {
          candidates.push({ hypothesis, score: scoreOf(hypothesis.logProb, hypothesis.length) });
          continue;
        }
        const last = hypothesis.tokens[hypothesis.tokens.length - 1] ?? START;
        const { logProbs, state } = this.step(encoded, hypothesis.state, last);
        const words = Array.from(logProbs.keys())
          .filter((id) => !o.suppress || id >= END)
          .sort((a, b) => logProbs[b] - logProbs[a] || a - b)
          .slice(0, o.width + 1);
        for (const word of words) {
          if (word === END && t < o.minLength) continue;
          const logProb = hypothesis.logProb + logProbs[word];
          const tokens = word === END ? hypothesis.tokens : [...hypothesis.tokens, word];
          candidates.push({ hypothesis: { tokens, logProb, length: word === END ? t : 0, state }, score: scoreOf(logProb, t) });
        }
      }
      ranked = candidates.sort((a, b) => b.score - a.score).slice(0, o.width);
      alive = ranked.map(({ hypothesis }) => hypothesis);
    }
    return ranked.map(({ hypothesis: { tokens, logProb, length }, score }) => ({ tokens, logProb, score, ended: length > 0 }));
  }
}

/** Weights large enough for choices to differ, and for captions to end at different lengths. */
function lively(preset: 'seed' | 'recommended'): { model: Captioner; features: Float32Array } {
  const model = Captioner.create(sizes, PRESETS[preset], 5);
  const random = new Random(3, 'weights');
  for (const [name, parameter] of model.parameters.all)
    parameter.write(
      Float32Array.from(
        { length: parameter.size },
        (_, i) => random.uniform(-1, 1) * (name.startsWith('out') ? 2 : 0.9) + (name === 'out_b' && i === END ? 1 : 0),
      ),
    );
  return { model, features: Float32Array.from({ length: BATCH * sizes.places * sizes.features }, () => random.normal()) };
}

const options: BeamOptions = { width: 3, penalty: 'average', alpha: 0.65, minLength: 0, suppress: true };

describe.each(['seed', 'recommended'] as const)('%s', (preset) => {
  test.each<[string, Partial<BeamOptions>]>([
    ['as it is', {}],
    ['without a penalty', { penalty: 'none' }],
    ['Wu', { penalty: 'wu', width: 5 }],
    ['ten wide, everything allowed', { width: 10, suppress: false }],
    ['of at least 5 words', { minLength: 5 }],
  ])('beam search, %s, equals the float64 decoder', async (_name, change) => {
    using _s = scope();
    const { model, features } = lively(preset);
    const plain = await Plain.of(model);
    const o = { ...options, ...change };
    const per = sizes.places * sizes.features;
    const x = tensor(features, [BATCH, sizes.places, sizes.features]);
    const found = await model.beam(x, LENGTH, o, true);
    found.forEach((hypotheses, b) => {
      const expected = plain.search(features.subarray(b * per, (b + 1) * per), o);
      expect(hypotheses.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
      hypotheses.forEach((hypothesis, i) => {
        expect(hypothesis.score).toBeCloseTo(expected[i].score, 4);
        expect(hypothesis.logProb).toBeCloseTo(expected[i].logProb, 3);
        expect(hypothesis.ended).toBe(expected[i].ended);
        expect(hypothesis.alpha.length).toBe(hypothesis.tokens.length + (hypothesis.ended ? 1 : 0));
        for (const map of hypothesis.alpha) expect(map.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 4);
        if (hypothesis.ended) expect(hypothesis.tokens.length + 1).toBeGreaterThanOrEqual(o.minLength);
      });
    });
    expect((await model.beam(x, LENGTH, o)).map((list) => list[0].tokens)).toEqual(found.map((list) => list[0].tokens)); // replayed
    model.dispose();
  });

  test('one hypothesis is greedy decoding, and a replay gives what the first run gave', async () => {
    using _s = scope();
    const { model, features } = lively(preset);
    const x = tensor(features, [BATCH, sizes.places, sizes.features]);
    const greedy = await model.greedy(x, LENGTH, true, true);
    const beam = await model.beam(x, LENGTH, { ...options, width: 1, penalty: 'none' });
    expect(beam.map(([best]) => best.tokens)).toEqual(greedy.map(({ tokens }) => tokens));
    expect(await model.greedy(x, LENGTH, true, true)).toEqual(greedy);
    const other = tensor(
      features.map((value) => -value),
      x.shape,
    );
    expect(await model.greedy(other, LENGTH, true, true)).not.toEqual(greedy);
    model.dispose();
  });
});

test('sampling: the same words for a seed, others for another, none that top-k or suppression forbid', async () => {
  using _s = scope();
  const { model, features } = lively('recommended');
  const x = tensor(features, [BATCH, sizes.places, sizes.features]);
  const o = { temperature: 1, topK: 0, topP: 1, seed: 1, suppress: true };
  const first = await model.sample(x, LENGTH, o);
  expect(await model.sample(x, LENGTH, { ...o, seed: 2 })).not.toEqual(first);
  expect(await model.sample(x, LENGTH, o)).toEqual(first);
  const greedy = await model.greedy(x, LENGTH, true);
  expect((await model.sample(x, LENGTH, { ...o, topK: 1 })).map(({ tokens }) => tokens)).toEqual(greedy.map(({ tokens }) => tokens));
  expect((await model.sample(x, LENGTH, { ...o, topP: 1e-6 })).map(({ tokens }) => tokens)).toEqual(greedy.map(({ tokens }) => tokens));
  // The first word's frequencies are those of the model.
  const plain = await Plain.of(model);
  const encoded = plain.encode(features.subarray(0, sizes.places * sizes.features));
  const { logProbs } = plain.step(encoded, encoded.state, START);
  const allowed = Array.from(logProbs.keys()).filter((id) => id >= END);
  const total = allowed.reduce((sum, id) => sum + Math.exp(logProbs[id]), 0);
  const likeliest = allowed.reduce((best, id) => (logProbs[id] > logProbs[best] ? id : best));
  const expected = Math.exp(logProbs[likeliest]) / total;
  let hits = 0;
  const draws = 300;
  for (let seed = 0; seed < draws; seed++) {
    const [caption] = await model.sample(x, 1, { ...o, seed });
    if ((caption.tokens[0] ?? END) === likeliest) hits++;
  }
  expect(Math.abs(hits / draws - expected)).toBeLessThan(5 * Math.sqrt((expected * (1 - expected)) / draws));
  model.dispose();
});

test('when nothing has ended there are captions all the same', async () => {
  using _s = scope();
  const { model, features } = lively('seed');
  const bias = await model.parameters.get('out_b').data();
  bias[END] = -1000;
  model.parameters.get('out_b').write(bias);
  const found = await model.beam(tensor(features, [BATCH, sizes.places, sizes.features]), LENGTH, options);
  for (const hypotheses of found) for (const { tokens, ended } of hypotheses) expect([tokens.length, ended]).toEqual([LENGTH, false]);
  await expect(model.beam(tensor(features, [BATCH, sizes.places, sizes.features]), LENGTH, { ...options, width: 11 })).rejects.toThrow(/1 to 10 wide/);
  model.dispose();
});

test('decoding many shapes keeps memory flat once the loops are let go', async () => {
  const before = memory();
  {
    using _s = scope();
    const { model, features } = lively('recommended');
    for (let batch = 1; batch <= BATCH; batch++) {
      const x = tensor(features.slice(0, batch * sizes.places * sizes.features), [batch, sizes.places, sizes.features]);
      for (const length of [3, 5]) {
        await model.greedy(x, length, true);
        await model.beam(x, length, options);
      }
    }
    model.dispose();
  }
  expect(memory()).toMatchObject({ tensors: before.tensors, bytesInUse: before.bytesInUse });
  expect(device.gpu.isLost).toBe(false);
});
