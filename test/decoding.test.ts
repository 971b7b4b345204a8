/** Decoding against a plain float64 decoder that follows the equations word by word. */
import { describe, expect, test } from 'vitest';
import { type Reference, reference } from '../src/autograd/op.ts';
import { layerNormOp } from '../src/autograd/ops/norm.ts';
import { additiveAttentionOp, gruCellOp, lstmCellOp } from '../src/autograd/ops/recurrent.ts';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { END, START } from '../src/data/words.ts';
import { Captioner, type CaptionerOptions, type CaptionerSizes, PRESETS } from '../src/model/captioner/captioner.ts';
import type { BeamOptions } from '../src/model/captioner/decoding.ts';
import { recur, stateCount } from '../src/model/captioner/recurrence.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Random } from '../src/random.ts';
import { memory, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();
const sizes: CaptionerSizes = { features: 12, regions: 5, project: 8, attention: 8, hidden: 12, embedding: 8, vocabulary: 17 };
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

/** h and c of each LSTM (h of each GRU), in order; for a transformer the words so far. */
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
    const x = { shape: [sizes.regions, sizes.features], data: Float64Array.from(features) };
    const a = product(x, this.p('enc_w'), this.p('enc_b'), true);
    const values = { shape: [1, sizes.regions, sizes.project], data: a.data };
    if (this.options.decoder === 'transformer') return { values, keys: values, state: [{ shape: [0, sizes.embedding], data: new Float64Array(0) }] };
    const keys = product(a, this.p('w1'), this.p('b1'));
    const mean = reference([1, sizes.project], (i) => {
      let sum = 0;
      for (let p = 0; p < sizes.regions; p++) sum += a.data[p * sizes.project + i] / sizes.regions;
      return sum;
    });
    const count = stateCount(this.options);
    const all = this.w.has('start_w') ? product(mean, this.p('start_w'), this.p('start_b')).data.map(Math.tanh) : new Float64Array(count * sizes.hidden);
    const part = (i: number): Reference => ({ shape: [1, sizes.hidden], data: all.slice(i * sizes.hidden, (i + 1) * sizes.hidden) });
    return {
      values,
      keys: { shape: [1, sizes.regions, sizes.attention], data: keys.data },
      state: Array.from({ length: count }, (_, i) => part(i)),
    };
  }

  /** Attention with a state as query, gated where the model is. */
  private attend(values: Reference, keys: Reference, state: Reference): Reference {
    const [soft, alpha] = additiveAttentionOp.reference([keys, product(state, this.p('w2'), this.p('b2')), this.p('v'), values], { score: this.options.score });
    const place = alpha.data.indexOf(Math.max(...alpha.data));
    const context = this.options.attention === 'hard' ? rowsOf({ shape: [sizes.regions, sizes.project], data: values.data }, place, 1) : soft;
    const beta = this.options.gate ? 1 / (1 + Math.exp(-product(state, this.p('gate_w'), this.p('gate_b')).data[0])) : 1;
    return { shape: context.shape, data: context.data.map((value) => beta * value) };
  }

  /** A layer's states after a step, from the parts of its input, stacked as the rows of its weight are, and its states before. */
  private cell(layer: 1 | 2, input: readonly Reference[], before: State): State {
    const name = `${this.options.cell}${layer}`;
    const stacked = reference([1, input.reduce((sum, { data }) => sum + data.length, 0)]);
    stacked.data.set(input.flatMap(({ data }) => [...data]));
    const gx = product(stacked, this.p(`${name}_w`), this.p(`${name}_b`));
    const gh = product(before[0], this.p(`${name}_u`), null);
    return this.options.cell === 'gru' ? gruCellOp.reference([gx, gh, before[0]], null) : lstmCellOp.reference([gx, gh, before[1]], null);
  }

  private advance(
    { values, keys }: { values: Reference; keys: Reference },
    s: State,
    word: Reference,
  ): { output: Reference; context?: Reference; state: State } {
    const half = s.length / 2;
    const { decoder, query } = this.options;
    if (decoder === 'transformer') return this.transform(values, s[0], word);
    if (decoder === 'show-attend-tell') {
      const context = this.attend(values, keys, s[0]);
      const state = this.cell(1, [context, word], s);
      return { output: state[0], context, state };
    }
    if (decoder === 'up-down') {
      const mean = reference([1, sizes.project], (i) => {
        let sum = 0;
        for (let p = 0; p < sizes.regions; p++) sum += values.data[p * sizes.project + i] / sizes.regions;
        return sum;
      });
      const lower = this.cell(1, [s[half], mean, word], s.slice(0, half));
      const context = this.attend(values, keys, lower[0]);
      const upper = this.cell(2, [context, lower[0]], s.slice(half));
      return { output: upper[0], context, state: [...lower, ...upper] };
    }
    const context = this.attend(values, keys, query === 'h1' ? s[0] : s[half]);
    const lower = this.cell(1, [context, word], s.slice(0, half));
    const upper = this.cell(2, [lower[0]], s.slice(half));
    return { output: upper[0], context, state: [...lower, ...upper] };
  }

  /** All words from the first on, without a cache: what `transform` does with one is to be the same. */
  private transform(values: Reference, before: Reference, word: Reference): { output: Reference; state: State } {
    const [count, width] = [before.shape[0] + 1, sizes.hidden];
    const words: Reference = { shape: [count, sizes.embedding], data: Float64Array.from([...before.data, ...word.data]) };
    const linear = (x: Reference, name: string, relu = false) => product(x, this.p(`${name}_w`), this.p(`${name}_b`), relu);
    const norm = (x: Reference, name: string) => layerNormOp.reference([x, this.p(`${name}_g`), this.p(`${name}_b`)], { eps: 1e-5 })[0];
    const columns = (x: Reference, first: number, n = width) => reference([x.shape[0], n], (i) => x.data[Math.floor(i / n) * x.shape[1] + first + (i % n)]);
    const { heads, layers } = this.options;
    const attention = (q: Reference, k: Reference, v: Reference, causal: boolean): Reference => {
      const out = reference(q.shape);
      const each = width / heads;
      for (let h = 0; h < heads; h++)
        for (let i = 0; i < q.shape[0]; i++) {
          const scores = Array.from({ length: causal ? i + 1 : k.shape[0] }, (_, j) => {
            let sum = 0;
            for (let d = h * each; d < (h + 1) * each; d++) sum += q.data[i * width + d] * k.data[j * width + d];
            return Math.exp(sum / Math.sqrt(each));
          });
          const total = scores.reduce((sum, score) => sum + score, 0);
          for (let d = h * each; d < (h + 1) * each; d++)
            out.data[i * width + d] = scores.reduce((sum, score, j) => sum + (score / total) * v.data[j * width + d], 0);
        }
      return out;
    };
    const plus = (x: Reference, y: Reference) => reference(x.shape, (i) => x.data[i] + y.data[i]);
    const embedded = linear(words, 'word');
    let x = reference(embedded.shape, (i) => {
      const [place, k] = [Math.floor(i / width), i % width];
      const angle = place / 10_000 ** ((2 * Math.floor(k / 2)) / width);
      return embedded.data[i] + (k % 2 === 0 ? Math.sin(angle) : Math.cos(angle));
    });
    const memory = linear({ shape: [sizes.regions, sizes.project], data: values.data }, 'memory');
    for (let l = 0; l < layers; l++) {
      const own = linear(norm(x, `layer${l}.norm1`), `layer${l}.self`);
      x = plus(x, linear(attention(columns(own, 0), columns(own, width), columns(own, 2 * width), true), `layer${l}.self_out`));
      const query = linear(norm(x, `layer${l}.norm2`), `layer${l}.query`);
      const [k, v] = [columns(memory, 2 * l * width), columns(memory, (2 * l + 1) * width)];
      x = plus(x, linear(attention(query, k, v, false), `layer${l}.cross_out`));
      x = plus(x, linear(linear(norm(x, `layer${l}.norm3`), `layer${l}.inner`, true), `layer${l}.outer`));
    }
    return { output: rowsOf(norm(x, 'final'), count - 1, 1), state: [words] };
  }

  step(encoded: { values: Reference; keys: Reference }, s: State, word: number): { logProbs: Float64Array; state: State } {
    const { output, context, state } = this.advance(encoded, s, rowsOf(this.p('emb'), word, 1));
    return { logProbs: this.logProbs(output, context), state };
  }

  private logProbs(output: Reference, context: Reference | undefined): Float64Array {
    const all = this.options.contextToOutput && context ? [...output.data, ...context.data] : [...output.data];
    const logits = product({ shape: [1, all.length], data: Float64Array.from(all) }, this.p('out_w'), this.p('out_b')).data;
    const largest = Math.max(...logits);
    const total = Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0)) + largest;
    return logits.map((value) => value - total);
  }

  /** What the first word costs on the average of all regions that hard attention may draw (Show, Attend and Tell's order). */
  expectedCost(features: Float32Array, word: number, target: number): number {
    const { values, keys, state } = this.encode(features);
    const [, alpha] = additiveAttentionOp.reference([keys, product(state[0], this.p('w2'), this.p('b2')), this.p('v'), values], { score: 'tanh' });
    return alpha.data.reduce((sum, share, place) => {
      const context = rowsOf({ shape: [sizes.regions, sizes.project], data: values.data }, place, 1);
      const [h] = this.cell(1, [context, rowsOf(this.p('emb'), word, 1)], state);
      return sum - share * this.logProbs(h, context)[target];
    }, 0);
  }

  /** Moves one number of a parameter. */
  nudge(name: string, index: number, by: number): void {
    this.p(name).data[index] += by;
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
function lively(preset: 'basic' | 'recommended', change: Partial<CaptionerOptions> = {}): { model: Captioner; features: Float32Array } {
  const model = Captioner.create(sizes, { ...PRESETS[preset], ...change }, 5);
  const random = new Random(3, 'weights');
  for (const [name, parameter] of model.parameters.all)
    parameter.write(
      Float32Array.from(
        { length: parameter.size },
        (_, i) => random.uniform(-1, 1) * (name.startsWith('out') ? 2 : 0.9) + (name === 'out_b' && i === END ? 1 : 0),
      ),
    );
  return { model, features: Float32Array.from({ length: BATCH * sizes.regions * sizes.features }, () => random.normal()) };
}

const options: BeamOptions = { width: 3, penalty: 'average', alpha: 0.65, minLength: 0, suppress: true };

describe.each(['basic', 'recommended'] as const)('%s', (preset) => {
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
    const per = sizes.regions * sizes.features;
    const x = tensor(features, [BATCH, sizes.regions, sizes.features]);
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
    const per = sizes.regions * sizes.features;
    const found = await model.decoding.greedy(tensor(features, [BATCH, sizes.regions, sizes.features]), LENGTH, { ...change, suppress: true });
    found.forEach(({ tokens }, b) => {
      expect(tokens).toEqual(plain.greedy(features.subarray(b * per, (b + 1) * per), o));
    });
    model.dispose();
  });

  test('one hypothesis is greedy decoding, and a replay gives what the first run gave', async () => {
    using _s = scope();
    const { model, features } = lively(preset);
    const x = tensor(features, [BATCH, sizes.regions, sizes.features]);
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

/** A transformer has neither gate nor starting states. */
const TRANSFORMER: Partial<CaptionerOptions> = { decoder: 'transformer', layers: 2, heads: 3, gate: false, learnedStart: false };

describe.each<[string, Partial<CaptionerOptions>]>([
  ['show-attend-tell', { decoder: 'show-attend-tell' }],
  ['up-down', { decoder: 'up-down' }],
  ['seed, asked by h1, rectified, context to the output', { query: 'h1', score: 'relu', contextToOutput: true }],
  ['seed of GRUs', { cell: 'gru' }],
  ['show-attend-tell of a GRU, context to the output', { decoder: 'show-attend-tell', cell: 'gru', contextToOutput: true }],
  ['up-down of GRUs, rectified', { decoder: 'up-down', cell: 'gru', score: 'relu' }],
  ['show-attend-tell with hard attention', { decoder: 'show-attend-tell', attention: 'hard' }],
  ['seed of GRUs with hard attention, asked by h1', { cell: 'gru', attention: 'hard', query: 'h1' }],
  ['transformer', TRANSFORMER],
])('decoder %s', (_name, change) => {
  test.each(['basic', 'recommended'] as const)('of preset %s: greedy and beam equal the float64 decoder', async (preset) => {
    using _s = scope();
    const { model, features } = lively(preset, { ...change, ...(change.decoder === 'transformer' ? TRANSFORMER : {}) });
    const plain = await Plain.of(model);
    const per = sizes.regions * sizes.features;
    const x = tensor(features, [BATCH, sizes.regions, sizes.features]);
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

  if (change.attention === 'hard') return; // what it looks at jumps: its gradient has a test of its own below
  test('gradients of the whole loss equal finite differences', async () => {
    using _s = scope();
    const model = Captioner.create(sizes, { ...PRESETS.recommended, dropout: 0, ...change }, 4);
    const random = new Random(6, 'inputs');
    const x = tensor(
      Float32Array.from({ length: 2 * sizes.regions * sizes.features }, () => random.normal()),
      [2, sizes.regions, sizes.features],
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
      const h = length > 0.05 ? 0.005 : 0.02; // a steep loss is also a curved one; a flat one needs a step that float32 shows
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

test.each<[string, Partial<CaptionerOptions>]>([
  ['a transformer', TRANSFORMER],
  ['hard attention', { decoder: 'show-attend-tell', attention: 'hard' }],
  ['GRUs', { cell: 'gru', contextToOutput: true }],
])('%s learns a few captions by heart', async (_name, change) => {
  using _s = scope();
  const model = Captioner.create(sizes, { ...PRESETS.recommended, dropout: 0, attentionPenalty: 0, ...change }, 4);
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: 0.005, maxNorm: 5 });
  const random = new Random(7, 'captions');
  const x = tensor(
    Float32Array.from({ length: BATCH * sizes.regions * sizes.features }, () => random.normal()),
    [BATCH, sizes.regions, sizes.features],
  );
  const captions = Uint32Array.from({ length: 6 * BATCH }, () => random.integer(sizes.vocabulary));
  const [ids, targets] = [captions.subarray(0, 5 * BATCH), captions.subarray(BATCH)].map((words) => tensor(words, [5, BATCH]));
  const weights = tensor(new Float32Array(5 * BATCH).fill(1 / (5 * BATCH)), [5, BATCH]);
  const losses: number[] = [];
  for (let step = 1; step <= 80; step++) {
    using _step = scope();
    optimizer.zeroGrad();
    const { loss, crossEntropy } = model.loss(x, ids, targets, weights, { step: { seed: 1, step } });
    backward(loss);
    optimizer.step();
    losses.push(await crossEntropy.item());
  }
  expect(losses[0]).toBeGreaterThan(2);
  expect(losses[79]).toBeLessThan(0.3 * losses[0]);
  optimizer.dispose();
  model.dispose();
});

test('the seed’s order from single ops equals the fused op', async () => {
  using _s = scope();
  for (const change of [{}, { query: 'h1', score: 'relu' }] as Partial<CaptionerOptions>[]) {
    const { model, features } = lively('recommended', change);
    const encoded = noGrad(() => model.encode(tensor(features, [BATCH, sizes.regions, sizes.features])));
    const random = new Random(8, 'words');
    const xe = tensor(
      Float32Array.from({ length: 4 * BATCH * 4 * sizes.hidden }, () => random.normal()),
      [4, BATCH, 4 * sizes.hidden],
    );
    const [fused, composed] = [false, true].map((apart) => recur(sizes, model.options, (name) => model.parameters.get(name), encoded, xe, null, apart));
    for (const name of ['output', 'alpha', 'context'] as const) {
      const [a, b] = [await fused[name].data(), await composed[name].data()];
      for (const [i, value] of a.entries()) expect(Math.abs(value - b[i])).toBeLessThan(2e-5);
    }
    model.dispose();
  }
});

test('hard attention learns from its draws what the average over all regions would teach', async () => {
  using _s = scope();
  const change: Partial<CaptionerOptions> = { decoder: 'show-attend-tell', attention: 'hard', gate: false, attentionPenalty: 0, dropout: 0 };
  const { model, features } = lively('recommended', change);
  const plain = await Plain.of(model);
  const per = sizes.regions * sizes.features;
  const [words, targetIds] = [
    [4, 7, 9],
    [5, 11, 3],
  ];
  const x = tensor(features, [BATCH, sizes.regions, sizes.features]);
  const [ids, targets, weights] = [
    tensor(Uint32Array.from(words), [1, BATCH]),
    tensor(Uint32Array.from(targetIds), [1, BATCH]),
    tensor(new Float32Array(BATCH).fill(1), [1, BATCH]),
  ];
  const cost = () => words.reduce((sum, word, b) => sum + plain.expectedCost(features.subarray(b * per, (b + 1) * per), word, targetIds[b]), 0);
  const expected = Array.from({ length: sizes.attention }, (_, i) => {
    const at = (by: number) => {
      plain.nudge('v', i, by);
      const value = cost();
      plain.nudge('v', i, -by);
      return value;
    };
    return (at(1e-5) - at(-1e-5)) / 2e-5;
  });
  const v = model.parameters.get('v');
  const draws = 600;
  for (let step = 0; step < draws; step++) {
    using _draw = scope();
    backward(model.loss(x, ids, targets, weights, { step: { seed: 1, step } }).loss); // gradients add up
  }
  const mean = (await (gradOf(v) as Tensor).data()).map((g) => g / draws);
  const norm = (list: ArrayLike<number>) => Math.hypot(...Array.from(list));
  expect(norm(expected)).toBeGreaterThan(0.1);
  expect(norm(expected.map((value, i) => value - mean[i])) / norm(expected)).toBeLessThan(0.2);
  model.dispose();
});

test('sampling: the same words for a seed, others for another, none that top-k or suppression forbid', async () => {
  using _s = scope();
  const { model, features } = lively('recommended');
  const x = tensor(features, [BATCH, sizes.regions, sizes.features]);
  const o = { temperature: 1, topK: 0, topP: 1, seed: 1, suppress: true };
  const first = await model.decoding.sample(x, LENGTH, o);
  expect(await model.decoding.sample(x, LENGTH, { ...o, seed: 2 })).not.toEqual(first);
  expect(await model.decoding.sample(x, LENGTH, o)).toEqual(first);
  const greedy = await model.decoding.greedy(x, LENGTH, { suppress: true });
  expect((await model.decoding.sample(x, LENGTH, { ...o, topK: 1 })).map(({ tokens }) => tokens)).toEqual(greedy.map(({ tokens }) => tokens));
  expect((await model.decoding.sample(x, LENGTH, { ...o, topP: 1e-6 })).map(({ tokens }) => tokens)).toEqual(greedy.map(({ tokens }) => tokens));
  // The first word's frequencies are those of the model.
  const plain = await Plain.of(model);
  const encoded = plain.encode(features.subarray(0, sizes.regions * sizes.features));
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
  const { model, features } = lively('basic');
  const bias = await model.parameters.get('out_b').data();
  bias[END] = -1000;
  model.parameters.get('out_b').write(bias);
  const found = await model.decoding.beam(tensor(features, [BATCH, sizes.regions, sizes.features]), LENGTH, options);
  for (const hypotheses of found) for (const { tokens, ended } of hypotheses) expect([tokens.length, ended]).toEqual([LENGTH, false]);
  await expect(model.decoding.beam(tensor(features, [BATCH, sizes.regions, sizes.features]), LENGTH, { ...options, width: 11 })).rejects.toThrow(
    /1 to 10 wide/,
  );
  model.dispose();
});

test('decoding many shapes keeps memory flat once the loops are let go', async () => {
  const before = memory();
  {
    using _s = scope();
    const { model, features } = lively('recommended');
    for (let batch = 1; batch <= BATCH; batch++) {
      const x = tensor(features.slice(0, batch * sizes.regions * sizes.features), [batch, sizes.regions, sizes.features]);
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

test('the table of the words’ shares, made after many words, follows the weights', async () => {
  using _s = scope();
  const { model, features } = lively('recommended');
  const x = tensor(features, [BATCH, sizes.regions, sizes.features]);
  const decode = async () =>
    (await model.decoding.greedy(x, LENGTH, { suppress: true })).map(({ tokens, logProb }) => ({ tokens, logProb: Math.fround(logProb).toFixed(4) }));
  const first = await decode(); // 21 words, of a vocabulary of 17: with the table from here on
  expect(model.prepareDecoding(1)).toBe('word table');
  expect(await decode()).toEqual(first);
  const embedding = model.parameters.get('emb');
  const before = await embedding.data();
  embedding.write(before.map((value) => -value));
  expect(model.prepareDecoding(1)).toBe(''); // the table is of other weights
  const plain = await Plain.of(model);
  const per = sizes.regions * sizes.features;
  for (let round = 0; round < 3; round++) {
    const found = await model.decoding.greedy(x, LENGTH, { suppress: true });
    for (const [b, { tokens }] of found.entries()) expect(tokens).toEqual(plain.greedy(features.subarray(b * per, (b + 1) * per), options));
  }
  expect(model.prepareDecoding(1)).toBe('word table');
  embedding.write(before);
  for (let round = 0; round < 3; round++) expect(await decode()).toEqual(first);
  model.dispose();
});
