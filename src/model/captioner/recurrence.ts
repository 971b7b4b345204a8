/**
 * What runs step by step in a captioner: attention and the recurrent layers, in one of three orders.
 *
 *   stacked            query h2_{t−1}: z_t = attend(h2_{t−1});  h1_t = LSTM1([z_t ; e_t]);  h2_t = LSTM2(h1_t)
 *   show-attend-tell   one LSTM (Xu and others 2015):  z_t = β_t attend(h_{t−1});  h_t = LSTM([z_t ; e_t])
 *   up-down            Anderson and others 2018:  h1_t = LSTM1([h2_{t−1} ; mean a ; e_t]);  z_t = attend(h1_t);
 *                      h2_t = LSTM2([z_t ; h1_t])
 *
 * e_t is the embedding of the word before; GRUs can replace the LSTMs. The stacked order with soft attention and LSTMs is one op
 * with a gradient of its own (autograd/ops/attention_lstm.ts). Everything else is composed of ops, one step after the other, and
 * the tape finds the gradients.
 *
 * Hard attention (Xu and others 2015, section 4.1) looks at one region: sampled from α in training, the likeliest otherwise. The
 * log-probability of that region is kept here; the objective that it learns from is in captioner.ts.
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

/** Names the random numbers of a training step; a function is asked anew at every replay of a capture. */
export interface RandomStep {
  seed: number;
  step: Live;
}

export interface Encoded {
  /** a [B, P, D] and K [B, P, A]. */
  values: Tensor;
  keys: Tensor;
  /** h and c of each LSTM (h of each GRU), in order, [B, H] each; none for a transformer. */
  start: Tensor[];
}

/** [N, …] → [N · captions, …]: each row repeated; the gradient sums over the captions. */
function share(x: Tensor, captions: number): Tensor {
  if (captions === 1) return x;
  const [n, ...rest] = x.shape;
  const width = rest.reduce((product, extent) => product * extent, 1);
  return ops.reshape(ops.broadcastTo(ops.reshape(x, [n, 1, width]), [n, captions, width]), [n * captions, ...rest]);
}

/** Everything of a picture, repeated for its captions, which follow one another. */
export function shareAll({ values, keys, start }: Encoded, captions: number): Encoded {
  return { values: share(values, captions), keys: share(keys, captions), start: start.map((x) => share(x, captions)) };
}

export interface Recurrence {
  /** What the words are predicted from, [T, B, H]. */
  output: Tensor;
  /** [T, B, P] */
  alpha: Tensor;
  /** The context z, gated where there is a gate, [T, B, D]. */
  context: Tensor;
  /** As `start`, after the step; only for decoding by single steps, no gradient flows. */
  states: Tensor[];
  /** log α of the region that hard attention looked at, [T, B]; else null. */
  regionLogProb: Tensor | null;
}

type Widths = { project: number; hidden: number };

export const layerCount = (decoder: DecoderKind): number => (decoder === 'show-attend-tell' ? 1 : 2);
/** Gates of a cell, and the states it carries. */
export const GATES: Record<CellKind, number> = { lstm: 4, gru: 3 };
const STATES: Record<CellKind, number> = { lstm: 2, gru: 1 };

/** h and c of each LSTM, or h of each GRU. */
export function stateCount({ decoder, cell }: { decoder: DecoderKind; cell: CellKind }): number {
  return layerCount(decoder) * STATES[cell];
}

/** Rows of the weight of layer 1 that lie above those of the words. */
export function wordRows({ project, hidden }: Widths, { decoder }: { decoder: DecoderKind }): number {
  return decoder === 'up-down' ? hidden + project : project;
}

type Lookup = (name: string) => Tensor;

/** What attention gives at a step: the context [B, D] after the gate, the weights α [B, P], and hard attention's log α [B]. */
interface Attended {
  context: Tensor;
  alpha: Tensor;
  regionLogProb: Tensor | null;
}

/** One step of an order: the states before and what the word adds to the gates of layer 1, [B, gates · H] → the states after. */
type Step = (states: readonly Tensor[], word: Tensor, t: number) => { states: Tensor[]; attended: Attended };

/** The values at one region of each picture: sampled from alpha, or without `random` where alpha is largest. */
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

/** A layer's states after a step, from x W + b and its states before; the first of both is h. */
function advance(cell: CellKind, input: Tensor, states: readonly Tensor[], u: Tensor): Tensor[] {
  const product = ops.matmul(states[0], u);
  if (cell === 'gru') return [ops.gruCell(input, product, states[0])];
  const { h, c } = ops.lstmCell(input, product, states[1]);
  return [h, c];
}

interface Parts {
  sizes: Widths;
  options: RecurrentOptions;
  /** Parameters of layer 1 or 2: `w`, `u`, `b`; rows of `w`. */
  layer: (number: 1 | 2, name: string) => Tensor;
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
function fused({ project, hidden }: Widths, options: RecurrentOptions, p: Lookup, encoded: Encoded, xe: Tensor): Recurrence {
  const [steps, batch] = xe.shape;
  const [h1Start, c1Start, h2Start, c2Start] = encoded.start;
  const { h2, alpha, context, h1, c1, c2 } = ops.attentionLstm(
    {
      ...{ values: encoded.values, keys: encoded.keys, xe, w2: p('w2'), b2: p('b2'), v: p('v'), u1: p('lstm1_u') },
      ...{ wz: ops.slice(p('lstm1_w'), [0, 0], [project, 4 * hidden]), lstm2W: p('lstm2_w'), lstm2U: p('lstm2_u'), lstm2B: p('lstm2_b') },
      ...{ h1Start, c1Start, h2Start, c2Start },
      ...(options.gate ? { gateW: p('gate_w'), gateB: p('gate_b') } : {}),
    },
    { score: options.score, query: options.query },
  );
  return { output: h2, alpha, context, states: steps === 1 ? [h1, c1, h2, c2].map((x) => x.alias([batch, hidden])) : [], regionLogProb: null };
}

/**
 * xe [T, B, gates · H]: what the words add to the gates of layer 1, its bias included. `p` gives the parameters of captioner.ts by
 * name. `random` names the random numbers of hard attention in training. `composed` takes the ops one by one where one op could
 * do, for tests.
 */
export function recur(
  sizes: Widths,
  options: RecurrentOptions,
  p: Lookup,
  encoded: Encoded,
  xe: Tensor,
  random: RandomStep | null = null,
  composed = false,
): Recurrence {
  const { decoder, cell, attention } = options;
  if (decoder === 'transformer') throw new GlimpseError('a transformer does not recur');
  if (decoder === 'stacked' && cell === 'lstm' && attention === 'soft' && !composed) return fused(sizes, options, p, encoded, xe);
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
