/**
 * What runs step by step in a captioner: attention and the LSTMs, in one of three orders.
 *
 *   seed               query h2_{t−1}: z_t = attend(h2_{t−1});  h1_t = LSTM1([z_t ; e_t]);  h2_t = LSTM2(h1_t)
 *   show-attend-tell   one LSTM (Xu and others 2015):  z_t = β_t attend(h_{t−1});  h_t = LSTM([z_t ; e_t])
 *   up-down            Anderson and others 2018:  h1_t = LSTM1([h2_{t−1} ; mean a ; e_t]);  z_t = attend(h1_t);
 *                      h2_t = LSTM2([z_t ; h1_t])
 *
 * e_t is the embedding of the word before. The seed's order is one op with gradients by hand (autograd/ops/attention_lstm.ts);
 * the other two are put together from ops, one step after the other, and the tape finds their gradients.
 */
import * as ops from '../autograd/ops/index.ts';
import type { Tensor } from '../tensor/tensor.ts';

export const DECODERS = ['seed', 'show-attend-tell', 'up-down'] as const;
export type DecoderKind = (typeof DECODERS)[number];

export interface Encoded {
  /** a [B, P, D] and K [B, P, A]. */
  values: Tensor;
  keys: Tensor;
  /** h and c of each LSTM, in order, [B, H] each. */
  start: Tensor[];
}

/** [N, …] → [N · captions, …]: each row repeated; the gradient sums over the captions. */
function share(x: Tensor, captions: number): Tensor {
  if (captions === 1) return x;
  const [n, ...rest] = x.shape;
  const width = rest.reduce((product, extent) => product * extent, 1);
  return ops.reshape(ops.broadcastTo(ops.reshape(x, [n, 1, width]), [n, captions, width]), [n * captions, ...rest]);
}

/** Everything of a picture for several captions, which follow one another. */
export function shareAll({ values, keys, start }: Encoded, captions: number): Encoded {
  return { values: share(values, captions), keys: share(keys, captions), start: start.map((x) => share(x, captions)) };
}

export interface Recurrence {
  /** What the words are predicted from, [T, B, H]. */
  output: Tensor;
  /** [T, B, P] */
  alpha: Tensor;
  /** As `start`, after the step; only for decoding by single steps, no gradient flows. */
  states: Tensor[];
}

type Widths = { project: number; hidden: number };
type Options = { decoder: DecoderKind; gate: boolean };

/** h and c of each LSTM. */
export function stateCount(decoder: DecoderKind): number {
  return decoder === 'show-attend-tell' ? 2 : 4;
}

/** Rows of the weight of LSTM 1 that stand above those of the words. */
export function wordRows({ project, hidden }: Widths, { decoder }: { decoder: DecoderKind }): number {
  return decoder === 'up-down' ? hidden + project : project;
}

/** One step of an order: the states before and the word's share of LSTM 1 [B, 4H] → the states after, and the map. */
type Step = (states: readonly Tensor[], word: Tensor) => { states: Tensor[]; alpha: Tensor };
type Lookup = (name: string) => Tensor;

const last = (list: readonly Tensor[]) => list[list.length - 2]; // the h of the uppermost LSTM

function attendWith(options: Options, p: Lookup, { values, keys }: Encoded): (state: Tensor) => { context: Tensor; alpha: Tensor } {
  return (state) => {
    const { context, alpha } = ops.additiveAttention(keys, ops.matmul(state, p('w2'), { bias: p('b2') }), p('v'), values);
    if (!options.gate) return { context, alpha };
    const beta = ops.sigmoid(ops.matmul(state, p('gate_w'), { bias: p('gate_b') }));
    return { context: ops.mul(context, beta), alpha };
  };
}

function showAttendTell({ project, hidden }: Widths, options: Options, p: Lookup, encoded: Encoded): Step {
  const attend = attendWith(options, p, encoded);
  const ofContext = ops.slice(p('lstm1_w'), [0, 0], [project, 4 * hidden]);
  return ([h, c], word) => {
    const { context, alpha } = attend(h);
    const next = ops.lstmCell(word, ops.add(ops.matmul(context, ofContext), ops.matmul(h, p('lstm1_u'))), c);
    return { states: [next.h, next.c], alpha };
  };
}

function upDown({ project, hidden }: Widths, options: Options, p: Lookup, encoded: Encoded): Step {
  const attend = attendWith(options, p, encoded);
  const rows = (name: string, start: number, count: number) => ops.slice(p(name), [start, 0], [count, 4 * hidden]);
  const ofUpper = rows('lstm1_w', 0, hidden);
  const ofPicture = ops.matmul(ops.mean(encoded.values, 1), rows('lstm1_w', hidden, project)); // the same at every step
  const ofContext = rows('lstm2_w', 0, project);
  const ofLower = rows('lstm2_w', project, hidden);
  return ([h1, c1, h2, c2], word) => {
    const lower = ops.lstmCell(ops.add(word, ofPicture), ops.add(ops.matmul(h2, ofUpper), ops.matmul(h1, p('lstm1_u'))), c1);
    const { context, alpha } = attend(lower.h);
    const input = ops.add(ops.matmul(context, ofContext), ops.matmul(lower.h, ofLower, { bias: p('lstm2_b') }));
    const upper = ops.lstmCell(input, ops.matmul(h2, p('lstm2_u')), c2);
    return { states: [lower.h, lower.c, upper.h, upper.c], alpha };
  };
}

/** xe [T, B, 4H]: the words' share of LSTM 1, its bias included. `p` gives the parameters of captioner.ts by name. */
export function recur(sizes: Widths, options: Options, p: Lookup, encoded: Encoded, xe: Tensor): Recurrence {
  const { project, hidden } = sizes;
  const [steps, batch] = xe.shape;
  if (options.decoder === 'seed') {
    const [h1Start, c1Start, h2Start, c2Start] = encoded.start;
    const { h2, alpha, h1, c1, c2 } = ops.attentionLstm({
      ...{ values: encoded.values, keys: encoded.keys, xe, w2: p('w2'), b2: p('b2'), v: p('v'), u1: p('lstm1_u') },
      ...{ wz: ops.slice(p('lstm1_w'), [0, 0], [project, 4 * hidden]), lstm2W: p('lstm2_w'), lstm2U: p('lstm2_u'), lstm2B: p('lstm2_b') },
      ...{ h1Start, c1Start, h2Start, c2Start },
      ...(options.gate ? { gateW: p('gate_w'), gateB: p('gate_b') } : {}),
    });
    return { output: h2, alpha, states: steps === 1 ? [h1, c1, h2, c2].map((x) => x.alias([batch, hidden])) : [] };
  }
  const step = (options.decoder === 'up-down' ? upDown : showAttendTell)(sizes, options, p, encoded);
  const outputs: Tensor[] = [];
  const maps: Tensor[] = [];
  let states = encoded.start;
  for (let t = 0; t < steps; t++) {
    const word = ops.reshape(ops.slice(xe, [t, 0, 0], [1, batch, 4 * hidden]), [batch, 4 * hidden]);
    const next = step(states, word);
    states = next.states;
    outputs.push(last(states));
    maps.push(next.alpha);
  }
  const stack = (list: Tensor[]) => ops.reshape(ops.concat(list, 0), [steps, ...list[0].shape]);
  return { output: stack(outputs), alpha: stack(maps), states };
}
