/**
 * The decoders of recurrence.ts and transformer.ts as ONNX graphs, with the same parameters, for inference: no dropout, and hard
 * attention looks at the likeliest region. A decoder has two parts. `start` makes of a picture's features what every step reads, and
 * the states before the first word. `step` makes of the word before, and of the states, the scores of the next word.
 *
 * Dimensions: rows (pictures, or captions of them), regions, words. The bias `bv` of the scores cancels in the softmax and is left out.
 */
import { GlimpseError } from '../../errors.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import type { CaptionerOptions, CaptionerSizes } from '../captioner/captioner.ts';
import { GATES, layerCount, stateCount, wordRows } from '../captioner/recurrence.ts';
import { hasPrefix, isLanguageModel, isTransformer, MASKED } from '../captioner/transformer.ts';
import type { GraphBuilder, Port, Value } from './graph.ts';

export interface ExportedModel {
  sizes: CaptionerSizes;
  options: CaptionerOptions;
  weights: ReadonlyMap<string, NamedArray>;
}

export interface Stepped {
  /** [rows, V] */
  logits: Value;
  /** The attention weights, [rows, regions]. */
  alpha: Value;
  states: Value[];
}

export interface DecoderGraphs {
  /** What a step reads of the picture, and the states, as `start` gives them. */
  picture: readonly Port[];
  states: readonly Port[];
  /** The states after a step, without names: they differ from `states` where a step adds a word. */
  after: readonly Omit<Port, 'name'>[];
  /** features [rows, regions, F] → the values of `picture` and `states`. */
  start(g: GraphBuilder, features: Value): { picture: Value[]; states: Value[] };
  /** The words before, int64 [rows] → the scores of the next words. */
  step(g: GraphBuilder, picture: readonly Value[], states: readonly Value[], words: Value): Stepped;
}

/** Looks weights up by name, and adds them to a graph. */
class Weights {
  constructor(private readonly all: ReadonlyMap<string, NamedArray>) {}

  private get(name: string): NamedArray {
    const found = this.all.get(name);
    if (!found) throw new GlimpseError(`the weights have no "${name}"`);
    return found;
  }

  in(g: GraphBuilder, name: string): Value {
    const { shape, data } = this.get(name);
    return g.weight(name, shape, data);
  }

  /** Some rows of a matrix; `part` says which. */
  rows(g: GraphBuilder, name: string, part: string, first: number, count: number): Value {
    const { shape, data } = this.get(name);
    return g.weight(`${name}.${part}`, [count, shape[1]], data.subarray(first * shape[1], (first + count) * shape[1]));
  }

  /** x W + b. */
  linear(g: GraphBuilder, x: Value, name: string): Value {
    return g.add(g.matmul(x, this.in(g, `${name}_w`)), this.in(g, `${name}_b`));
  }
}

const port = (name: string, shape: Port['shape'], doc: string): Port => ({ name, type: 'float', shape, doc });

/** a = ReLU(X We + be), [rows, regions, D]; without ReLU for a language model. */
const projected = (g: GraphBuilder, w: Weights, features: Value, options: CaptionerOptions): Value => {
  const a = w.linear(g, features, 'enc');
  return isLanguageModel(options) ? a : g.relu(a);
};

// ── Attention and recurrent layers ──

function recurrentGraphs({ sizes, options, weights: all }: ExportedModel): DecoderGraphs {
  const { project, attention, hidden, embedding } = sizes;
  const { decoder, cell } = options;
  const w = new Weights(all);
  const count = stateCount(options);
  const perLayer = count / layerCount(decoder);
  const names = ['h1', 'c1', 'h2', 'c2'].filter((name) => cell === 'lstm' || name.startsWith('h')).slice(0, count);
  const states = names.map((name) => port(name, ['rows', hidden], `state ${name} of layer ${name[1]}`));
  const picture = [
    port('values', ['rows', 'regions', project], 'projected features'),
    port('keys', ['rows', 'regions', attention], 'keys of the attention'),
    ...(decoder === 'up-down' ? [port('picture_gates', ['rows', GATES[cell] * hidden], 'the picture’s part in the gates of layer 1')] : []),
  ];

  const attend = (g: GraphBuilder, [values, keys]: readonly Value[], state: Value): { context: Value; alpha: Value } => {
    const query = g.add(g.matmul(state, w.in(g, 'w2')), w.in(g, 'b2'));
    const sum = g.add(keys, g.unsqueeze(query, 1));
    const scores = g.squeeze(g.matmul(options.score === 'relu' ? g.relu(sum) : g.tanh(sum), w.in(g, 'v')), 2);
    const alpha = g.softmax(scores);
    const context =
      options.attention === 'hard'
        ? g.node('GatherND', [values, g.node('ArgMax', [alpha], { axis: 1, keepdims: 1 })], { batch_dims: 1 })
        : g.squeeze(g.matmul(g.unsqueeze(alpha, 1), values), 1);
    if (!options.gate) return { context, alpha };
    return { context: g.mul(context, g.sigmoid(w.linear(g, state, 'gate'))), alpha };
  };

  /** A layer's next states, from x W + b and its states. */
  const advance = (g: GraphBuilder, layer: 1 | 2, input: Value, before: readonly Value[]): Value[] => {
    const product = g.matmul(before[0], w.in(g, `${cell}${layer}_u`));
    if (cell === 'lstm') {
      const [i, f, c, o] = g.parts(g.add(input, product), ['input_gate', 'forget_gate', 'candidate', 'output_gate'], hidden);
      const next = g.add(g.mul(g.sigmoid(f), before[1]), g.mul(g.sigmoid(i), g.tanh(c)));
      return [g.mul(g.sigmoid(o), g.tanh(next)), next];
    }
    const [rx, zx, nx] = g.parts(input, ['reset_gate_x', 'update_gate_x', 'candidate_x'], hidden);
    const [rh, zh, nh] = g.parts(product, ['reset_gate_h', 'update_gate_h', 'candidate_h'], hidden);
    const z = g.sigmoid(g.add(zx, zh));
    const candidate = g.tanh(g.add(nx, g.mul(g.sigmoid(g.add(rx, rh)), nh)));
    // h' = (1 − z) n + z h
    return [g.add(g.mul(g.node('Sub', [g.float(1), z]), candidate), g.mul(z, before[0]))];
  };

  /** The word's part in the gates of layer 1, its bias included. */
  const wordGates = (g: GraphBuilder, words: Value): Value => {
    const embedded = g.node('Gather', [w.in(g, 'emb'), words], { axis: 0 });
    const product = g.matmul(embedded, w.rows(g, `${cell}1_w`, 'word', wordRows(sizes, options), embedding));
    return g.add(product, w.in(g, `${cell}1_b`));
  };

  const stacked = (g: GraphBuilder, seen: readonly Value[], before: readonly Value[], word: Value) => {
    const [first, second] = [before.slice(0, perLayer), before.slice(perLayer)];
    const attended = attend(g, seen, options.query === 'h1' ? first[0] : second[0]);
    const lower = advance(g, 1, g.add(word, g.matmul(attended.context, w.rows(g, `${cell}1_w`, 'context', 0, project))), first);
    return { states: [...lower, ...advance(g, 2, w.linear(g, lower[0], `${cell}2`), second)], attended };
  };

  const showAttendTell = (g: GraphBuilder, seen: readonly Value[], before: readonly Value[], word: Value) => {
    const attended = attend(g, seen, before[0]);
    return { states: advance(g, 1, g.add(word, g.matmul(attended.context, w.rows(g, `${cell}1_w`, 'context', 0, project))), before), attended };
  };

  const upDown = (g: GraphBuilder, seen: readonly Value[], before: readonly Value[], word: Value) => {
    const [first, second] = [before.slice(0, perLayer), before.slice(perLayer)];
    const upper = g.matmul(second[0], w.rows(g, `${cell}1_w`, 'upper', 0, hidden));
    const lower = advance(g, 1, g.add(g.add(word, seen[2]), upper), first);
    const attended = attend(g, seen, lower[0]);
    const ofLower = g.add(g.matmul(lower[0], w.rows(g, `${cell}2_w`, 'lower', project, hidden)), w.in(g, `${cell}2_b`));
    const input = g.add(g.matmul(attended.context, w.rows(g, `${cell}2_w`, 'context', 0, project)), ofLower);
    return { states: [...lower, ...advance(g, 2, input, second)], attended };
  };

  const orders: Partial<Record<CaptionerOptions['decoder'], typeof stacked>> = { stacked, 'show-attend-tell': showAttendTell, 'up-down': upDown };
  const order = orders[decoder];
  if (!order)
    throw new GlimpseError(`a decoder of the kind "${decoder}" cannot be exported as ONNX (${Object.keys(orders).join(', ')}, transformer, gpt2 can)`);

  return {
    ...{ picture, states, after: states },
    start(g, features) {
      const values = projected(g, w, features, options);
      const keys = g.add(g.matmul(values, w.in(g, 'w1')), w.in(g, 'b1'));
      const pictureGates = decoder === 'up-down' ? [g.matmul(g.mean(values, 1), w.rows(g, `${cell}1_w`, 'picture', hidden, project))] : [];
      if (options.learnedStart) {
        const first = g.tanh(w.linear(g, g.mean(values, 1), 'start'));
        return { picture: [values, keys, ...pictureGates], states: names.length > 1 ? g.parts(first, names, hidden) : [first] };
      }
      const zero = g.filled(g.concat([g.extent(features, 0), g.wholes([hidden])], 0), 'float', 0);
      return { picture: [values, keys, ...pictureGates], states: names.map(() => zero) };
    },
    step(g, seen, before, words) {
      const { states: next, attended } = order(g, seen, before, wordGates(g, words));
      const output = next[next.length - perLayer]; // the h of the uppermost layer
      const logits = w.linear(g, options.contextToOutput ? g.concat([output, attended.context], 1) : output, 'out');
      return { logits, alpha: attended.alpha, states: next };
    },
  };
}

// ── Transformers ──

function transformerGraphs({ sizes, options, weights: all }: ExportedModel): DecoderGraphs {
  const { hidden, regions } = sizes;
  const { layers, heads } = options;
  const isPretrained = isLanguageModel(options);
  const crosses = !hasPrefix(options);
  const each = hidden / heads;
  const w = new Weights(all);
  const perLayer = (make: (i: number) => Port[]): Port[] => Array.from({ length: layers }, (_, i) => make(i)).flat();
  const state = (i: number, words: string) =>
    ['key', 'value'].map((what) => port(`layer${i}.${what}`, ['rows', heads, words, each], `${what}s of the words so far in layer ${i}`));

  /** [rows, n, H] → [rows, heads, n, d], or [rows, heads, d, n] for keys that are multiplied. */
  const split = (g: GraphBuilder, x: Value, asKeys = false) => g.transpose(g.reshape(x, [0, 0, heads, each]), asKeys ? [0, 2, 3, 1] : [0, 2, 1, 3]);

  /** q [rows, heads, m, d], transposed keys [rows, heads, d, n], values [rows, heads, n, d] → [rows, m, H], and the weights. */
  const attention = (g: GraphBuilder, q: Value, keys: Value, values: Value, mask: Value | null = null): { out: Value; weights: Value } => {
    const scores = g.mul(g.matmul(q, keys), g.float(1 / Math.sqrt(each)));
    const weights = g.softmax(mask ? g.add(scores, mask) : scores);
    return { out: g.reshape(g.transpose(g.matmul(weights, values), [0, 2, 1, 3]), [0, 0, hidden]), weights };
  };

  /**
   * sin and cos of the position times the frequency of each column, as sin(position · frequency + phase) in double precision, since the
   * captioner computes it so.
   */
  const positionalEncoding = (g: GraphBuilder, past: Value): Value => {
    const position = g.cast(g.extent(past, 2), 'double');
    const columns = Array.from({ length: hidden }, (_, k) => k);
    const frequencies = g.doubles(
      'position frequencies',
      columns.map((k) => 1 / 10_000 ** ((2 * Math.floor(k / 2)) / hidden)),
    );
    const phases = g.doubles(
      'position phases',
      columns.map((k) => (k % 2 === 0 ? 0 : Math.PI / 2)),
    );
    return g.cast(g.node('Sin', [g.add(g.mul(position, frequencies), phases)]), 'float');
  };

  const norm = (g: GraphBuilder, x: Value, name: string) => g.layerNorm(x, w.in(g, `${name}_g`), w.in(g, `${name}_b`));

  /** A layer of the words, without the picture: x and its keys and values so far → what it adds to x, the keys and values, the weights. */
  const hear = (g: GraphBuilder, x: Value, i: number, before: readonly Value[] | null, mask: Value | null) => {
    const own = g.parts(w.linear(g, norm(g, x, `layer${i}.norm1`), `layer${i}.self`), ['query', 'key', 'value'], hidden).map((part) => split(g, part));
    const [keys, values] = [0, 1].map((k) => (before ? g.concat([before[2 * i + k], own[1 + k]], 2) : own[1 + k]));
    const { out, weights } = attention(g, own[0], g.transpose(keys, [0, 1, 3, 2]), values, mask);
    return { heard: w.linear(g, out, `layer${i}.self_out`), states: [keys, values], weights };
  };

  const feedForward = (g: GraphBuilder, x: Value, i: number): Value => {
    const inner = w.linear(g, norm(g, x, `layer${i}.norm3`), `layer${i}.inner`);
    return w.linear(g, isPretrained ? g.geluTanh(inner) : g.relu(inner), `layer${i}.outer`);
  };

  /** The keys and values of the regions that stand before the words. */
  const prefix = (g: GraphBuilder, features: Value): Value[] => {
    let x = g.add(projected(g, w, features, options), w.rows(g, 'positions', 'of the regions', 0, regions));
    const mask = g.weight(
      'mask of the regions',
      [regions, regions],
      Float32Array.from({ length: regions * regions }, (_, k) => (k % regions <= Math.floor(k / regions) ? 0 : MASKED)),
    );
    const states: Value[] = [];
    for (let i = 0; i < layers; i++) {
      const { heard, states: own } = hear(g, x, i, null, mask);
      states.push(...own);
      x = g.add(x, heard);
      x = g.add(x, feedForward(g, x, i));
    }
    return states;
  };

  /** The share of each region in the attention to all that came before, [rows, regions]. */
  const regionsOf = (g: GraphBuilder, weights: Value): Value => {
    const mean = g.squeeze(g.mean(g.node('Slice', [weights, g.wholes([0]), g.wholes([regions]), g.wholes([3])]), 1), 1);
    return g.node('Div', [mean, g.node('ReduceSum', [mean, g.wholes([1])], { keepdims: 1 })]);
  };

  return {
    picture: !crosses
      ? []
      : perLayer((i) => [
          port(`layer${i}.memory_key`, ['rows', heads, each, 'regions'], `keys of the picture in layer ${i}, transposed`),
          port(`layer${i}.memory_value`, ['rows', heads, 'regions', each], `values of the picture in layer ${i}`),
        ]),
    states: perLayer((i) => state(i, 'words')),
    after: perLayer((i) => state(i, 'next_words')),
    start(g, features) {
      if (!crosses) return { picture: [], states: prefix(g, features) };
      const memory = w.linear(g, projected(g, w, features, options), 'memory');
      const parts = g.parts(
        memory,
        Array.from({ length: 2 * layers }, (_, i) => `memory_${i}`),
        hidden,
      );
      const none = g.filled(g.concat([g.extent(features, 0), g.wholes([heads, 0, each])], 0), 'float', 0);
      return { picture: parts.map((part, i) => split(g, part, i % 2 === 0)), states: parts.map(() => none) };
    },
    step(g, seen, before, words) {
      const embedded = g.unsqueeze(g.node('Gather', [w.in(g, 'emb'), words], { axis: 0 }), 1);
      let x = isPretrained
        ? g.add(embedded, g.node('Gather', [w.in(g, 'positions'), g.extent(before[0], 2)], { axis: 0 }))
        : g.add(w.linear(g, embedded, 'word'), positionalEncoding(g, before[0]));
      const states: Value[] = [];
      let alpha: Value = '';
      for (let i = 0; i < layers; i++) {
        const { heard, states: own, weights } = hear(g, x, i, before, null);
        states.push(...own);
        x = g.add(x, heard);
        if (crosses) {
          const query = split(g, w.linear(g, norm(g, x, `layer${i}.norm2`), `layer${i}.query`));
          const looked = attention(g, query, seen[2 * i], seen[2 * i + 1]);
          x = g.add(x, w.linear(g, looked.out, `layer${i}.cross_out`));
          alpha = g.squeeze(g.mean(looked.weights, 1), 1); // of the last layer, averaged over its heads
        } else if (i === layers - 1) alpha = regionsOf(g, weights);
        x = g.add(x, feedForward(g, x, i));
      }
      const output = g.squeeze(norm(g, x, 'final'), 1);
      const logits = isPretrained ? g.add(g.matmul(output, g.transpose(w.in(g, 'emb'), [1, 0])), w.in(g, 'out_b')) : w.linear(g, output, 'out');
      return { logits, alpha, states };
    },
  };
}

/** The graphs of a captioner's decoder. Throws a GlimpseError that names a kind of decoder which has none. */
export const decoderGraphs = (model: ExportedModel): DecoderGraphs => (isTransformer(model.options) ? transformerGraphs(model) : recurrentGraphs(model));
