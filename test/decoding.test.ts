/** Decoding against a plain float64 decoder that follows the equations word by word. */
import { describe, expect, test } from 'vitest';
import { type Reference, reference } from '../src/autograd/op.ts';
import { additiveAttentionOp, lstmCellOp } from '../src/autograd/ops/recurrent.ts';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { END, START } from '../src/data/captions.ts';
import { Captioner, type CaptionerOptions, type CaptionerSizes, PRESETS } from '../src/model/captioner.ts';
import type { BeamOptions } from '../src/model/decoding.ts';
import type { DecoderKind } from '../src/model/recurrence.ts';
import { Random } from '../src/random.ts';
import { memory, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
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

/** h and c of each LSTM, in order. */
type State = Reference[];

/** One picture's model in float64: the starting state, and one step from a state and a word. */
class Plain {
  private constructor(
    private readonly w: Map<string, Reference>,
    private readonly options: CaptionerOptions,
  ) {}

  static async of(model: Captioner): Promise<Plain> {
    const weights = await model.parameters.read();
    return new Plain(new Map([...weights].map(([name, { shape, data }]) => [name, { shape: [...shape], data: Float64Array.from(data) }])), model.options);
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
    const count = this.options.decoder === 'show-attend-tell' ? 2 : 4;
    const all = this.w.has('start_w') ? product(mean, this.p('start_w'), this.p('start_b')).data.map(Math.tanh) : new Float64Array(count * sizes.hidden);
    const part = (i: number): Reference => ({ shape: [1, sizes.hidden], data: all.slice(i * sizes.hidden, (i + 1) * sizes.hidden) });
    return {
      values: { shape: [1, sizes.places, sizes.project], data: a.data },
      keys: { shape: [1, sizes.places, sizes.attention], data: keys.data },
      state: Array.from({ length: count }, (_, i) => part(i)),
    };
  }

  /** Attention with a state as query, gated where the model is. */
  private attend(values: Reference, keys: Reference, state: Reference): Reference {
    const [context] = additiveAttentionOp.reference([keys, product(state, this.p('w2'), this.p('b2')), this.p('v'), values], null);
    const beta = this.options.gate ? 1 / (1 + Math.exp(-product(state, this.p('gate_w'), this.p('gate_b')).data[0])) : 1;
    return { shape: context.shape, data: context.data.map((value) => beta * value) };
  }

  /** The gates' input of an LSTM from the parts of its input, stacked as the rows of its weight are. */
  private cell(layer: 1 | 2, input: readonly Reference[], h: Reference, c: Reference): Reference[] {
    const stacked = { shape: [1, 0], data: Float64Array.from(input.flatMap(({ data }) => [...data])) };
    stacked.shape = [1, stacked.data.length];
    const gx = product(stacked, this.p(`lstm${layer}_w`), this.p(`lstm${layer}_b`));
    return lstmCellOp.reference([gx, product(h, this.p(`lstm${layer}_u`), null), c], null);
  }

  private advance({ values, keys }: { values: Reference; keys: Reference }, s: State, word: Reference): { output: Reference; state: State } {
    if (this.options.decoder === 'show-attend-tell') {
      const state = this.cell(1, [this.attend(values, keys, s[0]), word], s[0], s[1]);
      return { output: state[0], state };
    }
    if (this.options.decoder === 'up-down') {
      const mean = reference([1, sizes.project], (i) => {
        let sum = 0;
        for (let p = 0; p < sizes.places; p++) sum += values.data[p * sizes.project + i] / sizes.places;
        return sum;
      });
      const lower = this.cell(1, [s[2], mean, word], s[0], s[1]);
      const upper = this.cell(2, [this.attend(values, keys, lower[0]), lower[0]], s[2], s[3]);
      return { output: upper[0], state: [...lower, ...upper] };
    }
    const lower = this.cell(1, [this.attend(values, keys, s[2]), word], s[0], s[1]);
    const upper = this.cell(2, [lower[0]], s[2], s[3]);
    return { output: upper[0], state: [...lower, ...upper] };
  }

  step(encoded: { values: Reference; keys: Reference }, s: State, word: number): { logProbs: Float64Array; state: State } {
    const { output, state } = this.advance(encoded, s, rowsOf(this.p('emb'), word, 1));
    const logits = product(output, this.p('out_w'), this.p('out_b')).data;
    const largest = Math.max(...logits);
    const total = Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0)) + largest;
    return { logProbs: logits.map((value) => value - total), state };
  }

  /** Which words may come next, best first, by what each counts for the search. */
  private continuations(logProbs: Float64Array, tokens: readonly number[], taken: readonly number[], o: BeamOptions): { word: number; value: number }[] {
    const { noRepeat = 0, diversity = 0 } = o;
    const before = tokens.slice(tokens.length - noRepeat + 1).join();
    const repeats = (word: number) =>
      noRepeat > 0 && tokens.some((own, i) => own === word && i >= noRepeat - 1 && tokens.slice(i - noRepeat + 1, i).join() === before);
    return Array.from(logProbs, (value, word) => ({ word, value: value - diversity * taken.filter((id) => id === word).length }))
      .filter(({ word }) => (!o.suppress || word >= END) && !repeats(word))
      .sort((a, b) => b.value - a.value || a.word - b.word);
  }

  greedy(features: Float32Array, o: BeamOptions): number[] {
    const encoded = this.encode(features);
    const tokens: number[] = [];
    for (let { state } = encoded, last = START; tokens.length < LENGTH; last = tokens[tokens.length - 1]) {
      const step = this.step(encoded, state, last);
      const early = tokens.length + 1 < (o.minLength ?? 0);
      const [{ word }] = this.continuations(step.logProbs, tokens, [], o).filter((each) => !early || each.word !== END);
      if (word === END) break;
      tokens.push(word);
      state = step.state;
    }
    return tokens;
  }

  /** Beam search as beam_select.wgsl has it, in groups that know what earlier ones took. */
  search(features: Float32Array, o: BeamOptions): { tokens: number[]; score: number; logProb: number; ended: boolean }[] {
    const encoded = this.encode(features);
    const width = o.width / (o.groups ?? 1);
    const scoreOf = (logProb: number, length: number) =>
      o.penalty === 'average' ? logProb / length : o.penalty === 'wu' ? logProb / ((5 + length) / 6) ** o.alpha : logProb;
    const fresh = { tokens: [] as number[], sum: 0, logProb: 0, length: 0, state: encoded.state, word: 0 };
    const groups = Array.from({ length: o.groups ?? 1 }, () => [fresh]);
    for (let t = 1; t <= LENGTH; t++) {
      const taken: number[] = [];
      groups.forEach((alive, g) => {
        const candidates: { hypothesis: typeof fresh; score: number }[] = [];
        for (const hypothesis of alive) {
          if (hypothesis.length > 0) {
            candidates.push({ hypothesis: { ...hypothesis, word: 0 }, score: scoreOf(hypothesis.sum, hypothesis.length) });
            continue;
          }
          const last = hypothesis.tokens[hypothesis.tokens.length - 1] ?? START;
          const { logProbs, state } = this.step(encoded, hypothesis.state, last);
          for (const { word, value } of this.continuations(logProbs, hypothesis.tokens, taken, o).slice(0, width + 1)) {
            if (word === END && t < (o.minLength ?? 0)) continue;
            const [sum, logProb] = [hypothesis.sum + value, hypothesis.logProb + logProbs[word]];
            const tokens = word === END ? hypothesis.tokens : [...hypothesis.tokens, word];
            candidates.push({ hypothesis: { tokens, sum, logProb, length: word === END ? t : 0, state, word }, score: scoreOf(sum, t) });
          }
        }
        groups[g] = candidates
          .sort((a, b) => b.score - a.score)
          .slice(0, width)
          .map(({ hypothesis }) => hypothesis);
        taken.push(...groups[g].map(({ word }) => word).filter((word) => word !== 0));
      });
    }
    return groups
      .flat()
      .map(({ tokens, logProb, length }) => ({ tokens, logProb, score: scoreOf(logProb, length || LENGTH), ended: length > 0 }))
      .sort((a, b) => b.score - a.score);
  }
}

/** Weights large enough for choices to differ, and for captions to end at different lengths. */
function lively(preset: 'seed' | 'recommended', decoder: DecoderKind = 'seed'): { model: Captioner; features: Float32Array } {
  const model = Captioner.create(sizes, { ...PRESETS[preset], decoder }, 5);
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
    ['no word twice', { noRepeat: 1, width: 4 }],
    ['no pair of words twice', { noRepeat: 2, penalty: 'wu' }],
    ['in three diverse groups', { width: 6, groups: 3, diversity: 0.7 }],
    ['in groups of one, no pair twice', { width: 4, groups: 4, diversity: 1.5, noRepeat: 2, penalty: 'none' }],
  ])('beam search, %s, equals the float64 decoder', async (_name, change) => {
    using _s = scope();
    const { model, features } = lively(preset);
    const plain = await Plain.of(model);
    const o = { ...options, ...change };
    const per = sizes.places * sizes.features;
    const x = tensor(features, [BATCH, sizes.places, sizes.features]);
    const found = await model.decoding.beam(x, LENGTH, o, true);
    found.forEach((hypotheses, b) => {
      const expected = plain.search(features.subarray(b * per, (b + 1) * per), o);
      expect(hypotheses.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
      hypotheses.forEach((hypothesis, i) => {
        expect(hypothesis.score).toBeCloseTo(expected[i].score, 4);
        expect(hypothesis.logProb).toBeCloseTo(expected[i].logProb, 3);
        expect(hypothesis.ended).toBe(expected[i].ended);
        expect(hypothesis.alpha.length).toBe(hypothesis.tokens.length + (hypothesis.ended ? 1 : 0));
        for (const map of hypothesis.alpha) expect(map.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 4);
        if (hypothesis.ended) expect(hypothesis.tokens.length + 1).toBeGreaterThanOrEqual(o.minLength ?? 0);
      });
    });
    expect((await model.decoding.beam(x, LENGTH, o)).map((list) => list[0].tokens)).toEqual(found.map((list) => list[0].tokens)); // replayed
    model.dispose();
  });

  test.each<Partial<BeamOptions>>([
    {},
    { noRepeat: 1 },
    { noRepeat: 2, minLength: 6 },
  ])('greedy decoding with %j equals the float64 decoder', async (change) => {
    using _s = scope();
    const { model, features } = lively(preset);
    const plain = await Plain.of(model);
    const o = { ...options, ...change };
    const per = sizes.places * sizes.features;
    const found = await model.decoding.greedy(tensor(features, [BATCH, sizes.places, sizes.features]), LENGTH, { ...change, suppress: true });
    found.forEach(({ tokens }, b) => {
      expect(tokens).toEqual(plain.greedy(features.subarray(b * per, (b + 1) * per), o));
    });
    model.dispose();
  });

  test('one hypothesis is greedy decoding, and a replay gives what the first run gave', async () => {
    using _s = scope();
    const { model, features } = lively(preset);
    const x = tensor(features, [BATCH, sizes.places, sizes.features]);
    const greedy = await model.decoding.greedy(x, LENGTH, { suppress: true }, true);
    const beam = await model.decoding.beam(x, LENGTH, { ...options, width: 1, penalty: 'none' });
    expect(beam.map(([best]) => best.tokens)).toEqual(greedy.map(({ tokens }) => tokens));
    expect(await model.decoding.greedy(x, LENGTH, { suppress: true }, true)).toEqual(greedy);
    const other = tensor(
      features.map((value) => -value),
      x.shape,
    );
    expect(await model.decoding.greedy(other, LENGTH, { suppress: true }, true)).not.toEqual(greedy);
    model.dispose();
  });
});

describe.each(['show-attend-tell', 'up-down'] as const)('decoder %s', (decoder) => {
  test.each(['seed', 'recommended'] as const)('of preset %s: greedy and beam equal the float64 decoder', async (preset) => {
    using _s = scope();
    const { model, features } = lively(preset, decoder);
    const plain = await Plain.of(model);
    const per = sizes.places * sizes.features;
    const x = tensor(features, [BATCH, sizes.places, sizes.features]);
    const greedy = await model.decoding.greedy(x, LENGTH, { suppress: true }, true);
    const beams = await model.decoding.beam(x, LENGTH, options);
    for (let b = 0; b < BATCH; b++) {
      const own = features.subarray(b * per, (b + 1) * per);
      expect(greedy[b].tokens).toEqual(plain.greedy(own, options));
      expect(beams[b].map(({ tokens }) => tokens)).toEqual(plain.search(own, options).map(({ tokens }) => tokens));
      for (const map of greedy[b].alpha) expect(map.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 4);
    }
    model.dispose();
  });

  test('gradients of the whole loss equal finite differences', async () => {
    using _s = scope();
    const model = Captioner.create(sizes, { ...PRESETS.recommended, dropout: 0, decoder }, 4);
    const random = new Random(6, 'inputs');
    const x = tensor(
      Float32Array.from({ length: 2 * sizes.places * sizes.features }, () => random.normal()),
      [2, sizes.places, sizes.features],
    );
    const [steps, rows] = [4, 4];
    const words = () =>
      tensor(
        Uint32Array.from({ length: steps * rows }, () => Math.floor(random.uniform(1, sizes.vocabulary))),
        [steps, rows],
      );
    const [ids, targets, weights] = [words(), words(), tensor(new Float32Array(steps * rows).fill(1 / (steps * rows)), [steps, rows])];
    const value = async () => (await noGrad(() => model.loss(x, ids, targets, weights)).loss.data())[0];
    const { loss } = model.loss(x, ids, targets, weights);
    backward(loss);
    for (const [name, parameter] of model.parameters.all) {
      if (name === 'bv') continue; // cancels in the softmax
      const gradient = (await (gradOf(parameter) as Tensor).data()) as Float32Array;
      const before = (await parameter.data()) as Float32Array;
      // Along the gradient itself the loss falls by its squared norm: every element has its share, and float32 can show it.
      const squares = gradient.reduce((sum, g) => sum + g * g, 0);
      const length = Math.sqrt(squares);
      expect(length, name).toBeGreaterThan(0);
      const h = 0.02;
      const at = async (sign: number) => {
        parameter.write(before.map((v, i) => v + (sign * h * gradient[i]) / length));
        return value();
      };
      const slope = ((await at(1)) - (await at(-1))) / (2 * h);
      parameter.write(before);
      expect(Math.abs(slope - length), name).toBeLessThan(0.03 * length + 2e-5);
    }
    model.dispose();
  });
});

test('sampling: the same words for a seed, others for another, none that top-k or suppression forbid', async () => {
  using _s = scope();
  const { model, features } = lively('recommended');
  const x = tensor(features, [BATCH, sizes.places, sizes.features]);
  const o = { temperature: 1, topK: 0, topP: 1, seed: 1, suppress: true };
  const first = await model.decoding.sample(x, LENGTH, o);
  expect(await model.decoding.sample(x, LENGTH, { ...o, seed: 2 })).not.toEqual(first);
  expect(await model.decoding.sample(x, LENGTH, o)).toEqual(first);
  const greedy = await model.decoding.greedy(x, LENGTH, { suppress: true });
  expect((await model.decoding.sample(x, LENGTH, { ...o, topK: 1 })).map(({ tokens }) => tokens)).toEqual(greedy.map(({ tokens }) => tokens));
  expect((await model.decoding.sample(x, LENGTH, { ...o, topP: 1e-6 })).map(({ tokens }) => tokens)).toEqual(greedy.map(({ tokens }) => tokens));
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
    const [caption] = await model.decoding.sample(x, 1, { ...o, seed });
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
  const found = await model.decoding.beam(tensor(features, [BATCH, sizes.places, sizes.features]), LENGTH, options);
  for (const hypotheses of found) for (const { tokens, ended } of hypotheses) expect([tokens.length, ended]).toEqual([LENGTH, false]);
  await expect(model.decoding.beam(tensor(features, [BATCH, sizes.places, sizes.features]), LENGTH, { ...options, width: 11 })).rejects.toThrow(/1 to 10 wide/);
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
        await model.decoding.greedy(x, length, { suppress: true });
        await model.decoding.beam(x, length, options);
      }
    }
    model.dispose();
  }
  expect(memory()).toMatchObject({ tensors: before.tensors, bytesInUse: before.bytesInUse });
  expect(device.gpu.isLost).toBe(false);
});
