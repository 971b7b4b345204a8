/**
 * The part of a captioner that runs step by step: attention and the recurrent layers, in one of three orders.
 *
 *   stacked            query h2_{t−1}: z_t = attend(h2_{t−1});  h1_t = LSTM1([z_t ; e_t]);  h2_t = LSTM2(h1_t)
 *   show-attend-tell   one LSTM (Xu and others 2015):  z_t = β_t attend(h_{t−1});  h_t = LSTM([z_t ; e_t])
 *   up-down            Anderson and others 2018:  h1_t = LSTM1([h2_{t−1} ; mean a ; e_t]);  z_t = attend(h1_t);
 *                      h2_t = LSTM2([z_t ; h1_t])
 *
 * e_t is the embedding of the previous word. GRUs can replace the LSTMs. The stacked order with soft attention and LSTMs is one op
 * with its own gradient (autograd/ops/attention_lstm.ts). All others are composed of ops, step by step, and the tape computes
 * their gradients.
 *
 * Hard attention (Xu and others 2015, section 4.1) looks at one region: sampled from α in training, the likeliest otherwise. The
 * log-probability of that region is kept here. captioner.ts has the objective that hard attention learns from.
 */
import * as ops from '../../autograd/ops/index.ts';
import { noGrad } from '../../autograd/tape.ts';
import { GlimpseError } from '../../errors.ts';
import type { Live } from '../../kernels/elementwise.ts';
import { streamOf } from '../../random.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { CaptionerOptions } from '../training/options.ts';

export type DecoderKind = CaptionerOptions['decoder'];
export type CellKind = CaptionerOptions['cell'];

/** How a recurrent decoder is built. */
export type RecurrentOptions = Pick<CaptionerOptions, 'decoder' | 'gate' | 'cell' | 'score' | 'query' | 'attention'>;

/** Selects the random numbers of a training step. If `step` is a function, every replay of a capture calls it again. */
export interface RandomStep {
  seed: number;
  step: Live;
}

export interface Encoded {
  /** a [B, P, D] and K [B, P, A]. */
  values: Tensor;
  keys: Tensor;
  /** The first states: h and c of each LSTM, or h of each GRU, in order, [B, H] each. None for a transformer. */
  start: Tensor[];
}

/** [N, …] → [N · captions, …]: repeats each row. The gradient sums over the captions. */
function share(x: Tensor, captions: number): Tensor {
  if (captions === 1) return x;
  const [n, ...rest] = x.shape;
  const width = rest.reduce((product, extent) => product * extent, 1);
  return ops.reshape(ops.broadcastTo(ops.reshape(x, [n, 1, width]), [n, captions, width]), [n * captions, ...rest]);
}

/**
 * Captions that are sorted by length, so that a step computes only the first ones of them: those that go on (see the op
 * attentionLstm). Each names its picture.
 */
export interface Packing {
  /** Captions of each step. */
  active: readonly number[];
  /** u32 [active[0]] */
  pictureOf: Tensor;
}

/** Whether the recurrence computes packed captions. */
export const isFused = ({ decoder, cell, attention }: Pick<CaptionerOptions, 'decoder' | 'cell' | 'attention'>) =>
  decoder === 'stacked' && cell === 'lstm' && attention === 'soft';

/** The values, keys and states of each caption's picture. */
export function shareByPicture({ values, keys, start }: Encoded, { pictureOf }: Packing): Encoded {
  const of = (x: Tensor) => ops.gather(x, pictureOf, 0);
  return { values: of(values), keys: of(keys), start: start.map(of) };
}

/** Repeats the values, keys and states of each picture for its captions, which follow one another. */
export function shareAll({ values, keys, start }: Encoded, captions: number): Encoded {
  return { values: share(values, captions), keys: share(keys, captions), start: start.map((x) => share(x, captions)) };
}

export interface Recurrence {
  /** The h of the uppermost layer, from which words are predicted, [T, B, H]. */
  output: Tensor;
  /** [T, B, P] */
  alpha: Tensor;
  /** The context z, after the gate if there is one, [T, B, D]. */
  context: Tensor;
  /** The states after the last step, in the order of `start`. For decoding by single steps; they have no gradient. */
  states: Tensor[];
  /** log α of the region that hard attention looked at, [T, B]; else null. */
  regionLogProb: Tensor | null;
}

type Widths = { project: number; hidden: number };

export const layerCount = (decoder: DecoderKind): number => (decoder === 'show-attend-tell' ? 1 : 2);
/** Number of gates of a cell. */
export const GATES: Record<CellKind, number> = { lstm: 4, gru: 3 };
/** Number of states of a cell: h and c, or h. */
const STATES: Record<CellKind, number> = { lstm: 2, gru: 1 };

/** Number of states of all layers. */
export function stateCount({ decoder, cell }: { decoder: DecoderKind; cell: CellKind }): number {
  return layerCount(decoder) * STATES[cell];
}

/** Rows of the weight of layer 1 that come before those of the words. */
export function wordRows({ project, hidden }: Widths, { decoder }: { decoder: DecoderKind }): number {
  return decoder === 'up-down' ? hidden + project : project;
}

type Lookup = (name: string) => Tensor;

/** The results of attention at a step: the context [B, D] after the gate, the weights α [B, P], and hard attention's log α [B]. */
interface Attended {
  context: Tensor;
  alpha: Tensor;
  regionLogProb: Tensor | null;
}

/** One step of an order: the states and the word's part in the gates of layer 1, [B, gates · H] → the next states. */
type Step = (states: readonly Tensor[], word: Tensor, t: number) => { states: Tensor[]; attended: Attended };

/** The values at one region of each picture. The region is sampled from alpha; without `random`, it is that of the largest alpha. */
function regionOf(alpha: Tensor, values: Tensor, t: number, random: RandomStep | null): { context: Tensor; regionLogProb: Tensor } {
  const [batch, regions, width] = values.shape;
  const logAlpha = ops.log(ops.addScalar(alpha, 1e-20));
  const region = noGrad(() =>
    random
      ? ops.sample(logAlpha, { ...{ skipBelow: 0, topK: 0, topP: 1, temperature: 1 }, seed: random.seed, step: random.step, stream: streamOf(`glimpse ${t}`) })
          .token
      : ops.topK(alpha, 1).indices.alias([batch]),
  );
  const there = ops.oneHot(region, regions);
  const context = ops.reshape(ops.matmul(ops.reshape(there, [batch, 1, regions]), values), [batch, width]);
  return { context, regionLogProb: ops.sum(ops.mul(there, logAlpha), 1) };
}

function attendWith(options: RecurrentOptions, p: Lookup, { values, keys }: Encoded, random: RandomStep | null): (state: Tensor, t: number) => Attended {
  return (state, t) => {
    const soft = ops.additiveAttention(keys, ops.matmul(state, p('w2'), { bias: p('b2') }), p('v'), values, options.score);
    const { context, regionLogProb } = options.attention === 'hard' ? regionOf(soft.alpha, values, t, random) : { ...soft, regionLogProb: null };
    if (!options.gate) return { context, alpha: soft.alpha, regionLogProb };
    const beta = ops.sigmoid(ops.matmul(state, p('gate_w'), { bias: p('gate_b') }));
    return { context: ops.mul(context, beta), alpha: soft.alpha, regionLogProb };
  };
}

/** A layer's next states, from x W + b and its states. The first state is h. */
function advance(cell: CellKind, input: Tensor, states: readonly Tensor[], u: Tensor): Tensor[] {
  const product = ops.matmul(states[0], u);
  if (cell === 'gru') return [ops.gruCell(input, product, states[0])];
  const { h, c } = ops.lstmCell(input, product, states[1]);
  return [h, c];
}

interface Parts {
  sizes: Widths;
  options: RecurrentOptions;
  /** A parameter of layer 1 or 2: `w`, `u` or `b`. */
  layer: (number: 1 | 2, name: string) => Tensor;
  /** Some rows of the parameter `w` of layer 1 or 2. */
  rows: (number: 1 | 2, start: number, count: number) => Tensor;
  attend: (state: Tensor, t: number) => Attended;
  encoded: Encoded;
}

function stackedOrder({ sizes: { project }, options: { cell, query }, layer, rows, attend }: Parts): Step {
  const ofContext = rows(1, 0, project);
  const count = STATES[cell];
  return (states, word, t) => {
    const [first, second] = [states.slice(0, count), states.slice(count)];
    const attended = attend(query === 'h1' ? first[0] : second[0], t);
    const lower = advance(cell, ops.add(word, ops.matmul(attended.context, ofContext)), first, layer(1, 'u'));
    const upper = advance(cell, ops.matmul(lower[0], layer(2, 'w'), { bias: layer(2, 'b') }), second, layer(2, 'u'));
    return { states: [...lower, ...upper], attended };
  };
}

function showAttendTell({ sizes: { project }, options: { cell }, layer, rows, attend }: Parts): Step {
  const ofContext = rows(1, 0, project);
  return (states, word, t) => {
    const attended = attend(states[0], t);
    return { states: advance(cell, ops.add(word, ops.matmul(attended.context, ofContext)), states, layer(1, 'u')), attended };
  };
}

function upDown({ sizes: { project, hidden }, options: { cell }, layer, rows, attend, encoded }: Parts): Step {
  const ofUpper = rows(1, 0, hidden);
  const ofPicture = ops.matmul(ops.mean(encoded.values, 1), rows(1, hidden, project)); // the same at every step
  const ofContext = rows(2, 0, project);
  const ofLower = rows(2, project, hidden);
  const count = STATES[cell];
  return (states, word, t) => {
    const [first, second] = [states.slice(0, count), states.slice(count)];
    const lower = advance(cell, ops.add(ops.add(word, ofPicture), ops.matmul(second[0], ofUpper)), first, layer(1, 'u'));
    const attended = attend(lower[0], t);
    const input = ops.add(ops.matmul(attended.context, ofContext), ops.matmul(lower[0], ofLower, { bias: layer(2, 'b') }));
    return { states: [...lower, ...advance(cell, input, second, layer(2, 'u'))], attended };
  };
}

const ORDERS = { stacked: stackedOrder, 'show-attend-tell': showAttendTell, 'up-down': upDown };

/** The stacked order as one op. */
function fused({ project, hidden }: Widths, options: RecurrentOptions, p: Lookup, encoded: Encoded, xe: Tensor, packing: Packing | null): Recurrence {
  const [steps, batch] = xe.shape;
  const [h1Start, c1Start, h2Start, c2Start] = encoded.start;
  const { h2, alpha, context, h1, c1, c2 } = ops.attentionLstm(
    {
      ...{ values: encoded.values, keys: encoded.keys, xe, w2: p('w2'), b2: p('b2'), v: p('v'), u1: p('lstm1_u') },
      ...{ wz: ops.slice(p('lstm1_w'), [0, 0], [project, 4 * hidden]), lstm2W: p('lstm2_w'), lstm2U: p('lstm2_u'), lstm2B: p('lstm2_b') },
      ...{ h1Start, c1Start, h2Start, c2Start },
      ...(options.gate ? { gateW: p('gate_w'), gateB: p('gate_b') } : {}),
    },
    { score: options.score, query: options.query, active: packing?.active ?? null },
  );
  return { output: h2, alpha, context, states: steps === 1 && !packing ? [h1, c1, h2, c2].map((x) => x.alias([batch, hidden])) : [], regionLogProb: null };
}

/**
 * Runs all steps of a recurrent decoder. xe [T, B, gates · H] is the words' part in the gates of layer 1, its bias included. `p`
 * gives the parameters of captioner.ts by name. `random` selects the random numbers of hard attention in training. With `composed`,
 * which is for tests, the single ops run even if one fused op could do it. With `packing`, xe and the results are [R, …].
 */
export function recur(
  sizes: Widths,
  options: RecurrentOptions,
  p: Lookup,
  encoded: Encoded,
  xe: Tensor,
  { random = null, composed = false, packing = null }: { random?: RandomStep | null; composed?: boolean; packing?: Packing | null } = {},
): Recurrence {
  const { decoder, cell } = options;
  if (decoder === 'transformer' || decoder === 'gpt2') throw new GlimpseError('a transformer has no recurrence');
  if (isFused(options) && !composed) return fused(sizes, options, p, encoded, xe, packing);
  if (packing) throw new GlimpseError('only the fused recurrence computes packed captions');
  const [steps, batch, width] = xe.shape;
  const layer = (number: 1 | 2, name: string) => p(`${cell}${number}_${name}`);
  const step = ORDERS[decoder]({
    ...{ sizes, options, layer, encoded },
    rows: (number, start, count) => ops.slice(layer(number, 'w'), [start, 0], [count, width]),
    attend: attendWith(options, p, encoded, random),
  });
  const outputs: Tensor[] = [];
  const attended: Attended[] = [];
  let states = encoded.start;
  for (let t = 0; t < steps; t++) {
    const word = ops.reshape(ops.slice(xe, [t, 0, 0], [1, batch, width]), [batch, width]);
    const next = step(states, word, t);
    states = next.states;
    outputs.push(states[states.length - STATES[cell]]); // the h of the uppermost layer
    attended.push(next.attended);
  }
  const stack = (list: Tensor[]) => ops.reshape(ops.concat(list, 0), [steps, ...list[0].shape]);
  const regionLogProbs = attended.flatMap(({ regionLogProb }) => (regionLogProb ? [regionLogProb] : []));
  return {
    output: stack(outputs),
    alpha: stack(attended.map(({ alpha }) => alpha)),
    context: stack(attended.map(({ context }) => context)),
    states,
    regionLogProb: regionLogProbs.length > 0 ? stack(regionLogProbs) : null,
  };
}
