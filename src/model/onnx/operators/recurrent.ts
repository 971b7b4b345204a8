/**
 * Recurrent layers: RNN, GRU and LSTM as ONNX defines them. The products with the inputs are hoisted out of the loop over time; a step
 * is one product with the state, and elementwise work. Shapes: X [T, N, I], state [N, H], one direction at a time.
 */
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { scope, type Tensor, tensor, zeros } from '../../../tensor/tensor.ts';
import { attribute, type Context, flag, float, int, type Operator, type Operators, plain, text, wordOf } from '../operator.ts';
import type { Value } from '../values.ts';
import { shown } from '../wire.ts';

type Activation = (x: Tensor) => Tensor;

const scalar = (value: number): Tensor => tensor([value], []);

/** Activations by their name in lower case, with ONNX's values of the constants that they take. */
const ACTIVATIONS: Readonly<Record<string, { constants: readonly number[]; of: (x: Tensor, alpha: number, beta: number) => Tensor }>> = {
  sigmoid: { constants: [], of: ops.sigmoid },
  tanh: { constants: [], of: ops.tanh },
  relu: { constants: [], of: ops.relu },
  affine: { constants: [1, 0], of: (x, alpha, beta) => ops.addScalar(ops.scale(x, alpha), beta) },
  leakyrelu: { constants: [0.01], of: ops.leakyRelu },
  thresholdedrelu: { constants: [1], of: ops.thresholdedRelu },
  scaledtanh: { constants: [1, 1], of: (x, alpha, beta) => ops.scale(ops.tanh(ops.scale(x, beta)), alpha) },
  hardsigmoid: { constants: [0.2, 0.5], of: ops.hardSigmoid },
  elu: { constants: [1], of: ops.elu },
  softsign: { constants: [], of: ops.softsign },
  softplus: { constants: [], of: ops.softplus },
};

/** The activations of a direction: `count` of them, from the node's lists, which go on from direction to direction. */
function activationsOf(c: Context, direction: number, otherwise: readonly string[]): Activation[] {
  const named = c.node.attributes.get('activations') as string[] | undefined;
  const [alphas, betas] = [[...(c.list('activation_alpha') ?? [])], [...(c.list('activation_beta') ?? [])]];
  const count = otherwise.length;
  const directions = wordOf(c.node, 'direction', 'forward') === 'bidirectional' ? 2 : 1;
  if (named && named.length !== count * directions) throw new GlimpseError(`${named.length} activations, ${count * directions} are expected`);
  const all = (named ?? [...otherwise, ...otherwise].slice(0, count * directions)).map((name) => {
    const found = ACTIVATIONS[name.toLowerCase()];
    if (!found || !Object.hasOwn(ACTIVATIONS, name.toLowerCase()))
      return c.unsupported(`the activation "${shown(name)}" (${Object.keys(ACTIVATIONS).join(', ')} are known)`);
    // Each list holds constants only of the activations that take one there.
    const [first = 0, second = 0] = found.constants;
    const alpha = found.constants.length > 0 ? (alphas.shift() ?? first) : 0;
    const beta = found.constants.length > 1 ? (betas.shift() ?? second) : 0;
    return (x: Tensor) => found.of(x, alpha, beta);
  });
  return all.slice(direction * count, (direction + 1) * count);
}

/** A step of a cell: the products with the inputs [N, G·H], and the states before it; returns the states after it. */
type Step = (x: Tensor, states: readonly Tensor[]) => Tensor[];

interface Cell {
  gates: number;
  states: number;
  activations: readonly string[];
  /** Prepares a direction: r [G·H, H], biases of inputs and states [G·H], peepholes [3·H] or null. */
  step(c: Context, parts: { r: Tensor; wb: Tensor; rb: Tensor; p: Tensor | null; f: Activation[]; hidden: number }): Step;
}

/** Columns k·H … (k + 1)·H of the gates. */
const gate = (x: Tensor, k: number, hidden: number): Tensor => ops.slice(x, [0, k * hidden], [x.shape[0], hidden]);
const part = (x: Tensor, k: number, hidden: number): Tensor => ops.slice(x, [k * hidden], [hidden]);
const one = (x: Tensor): Tensor => ops.addScalar(ops.neg(x), 1);

const CELLS: Readonly<Record<string, Cell>> = {
  RNN: {
    ...{ gates: 1, states: 1, activations: ['Tanh'] },
    step:
      (_c, { r, wb, rb, f }) =>
      (x, [h]) => [f[0](ops.add(ops.add(x, ops.matmul(h, r, { transB: true })), ops.add(wb, rb)))],
  },
  // Cho et al. 2014; gates in ONNX's order: update z, reset r, hidden h.
  GRU: {
    ...{ gates: 3, states: 1, activations: ['Sigmoid', 'Tanh'] },
    step: (c, { r, wb, rb, f, hidden }) => {
      const resetFirst = c.number('linear_before_reset', 0) === 0;
      const rest = ops.slice(r, [2 * hidden, 0], [hidden, hidden]);
      return (x, [h]) => {
        const fromInput = ops.add(x, wb);
        const fromState = ops.add(ops.matmul(h, r, { transB: true }), rb);
        const both = ops.add(fromInput, fromState);
        const [z, reset] = [f[0](gate(both, 0, hidden)), f[0](gate(both, 1, hidden))];
        const carried = resetFirst
          ? ops.add(ops.matmul(ops.mul(reset, h), rest, { transB: true }), part(rb, 2, hidden))
          : ops.mul(reset, gate(fromState, 2, hidden));
        const candidate = f[1](ops.add(gate(fromInput, 2, hidden), carried));
        return [ops.add(ops.mul(one(z), candidate), ops.mul(z, h))];
      };
    },
  },
  // Hochreiter & Schmidhuber 1997, with peepholes; gates in ONNX's order: input i, output o, forget f, cell c.
  LSTM: {
    ...{ gates: 4, states: 2, activations: ['Sigmoid', 'Tanh', 'Tanh'] },
    step: (c, { r, wb, rb, p, f, hidden }) => {
      const bias = ops.add(wb, rb);
      const couples = c.number('input_forget', 0) === 1;
      const peep = (state: Tensor, k: number, x: Tensor): Tensor => (p ? ops.add(x, ops.mul(part(p, k, hidden), state)) : x);
      return (x, [h, before]) => {
        const all = ops.add(ops.add(x, ops.matmul(h, r, { transB: true })), bias);
        const i = f[0](peep(before, 0, gate(all, 0, hidden)));
        const forget = couples ? one(i) : f[0](peep(before, 2, gate(all, 2, hidden)));
        const cell = ops.add(ops.mul(forget, before), ops.mul(i, f[1](gate(all, 3, hidden))));
        const o = f[0](peep(cell, 1, gate(all, 1, hidden)));
        return [ops.mul(o, f[2](cell)), cell];
      };
    },
  },
};

/** A row of a tensor along its first axis. */
const row = (x: Tensor, i: number): Tensor => ops.reshape(ops.slice(x, [i, ...x.shape.slice(1).map(() => 0)], [1, ...x.shape.slice(1)]), x.shape.slice(1));

function recurrent(c: Context): (Value | null)[] {
  const cell = CELLS[c.node.op];
  const batchFirst = c.number('layout', 0) === 1;
  const swapped = (x: Tensor, order: readonly number[]): Tensor => (batchFirst ? ops.transpose(x, order) : x);
  const x = swapped(c.plain(0), [1, 0, 2]);
  const [w, r] = [c.plain(1), c.plain(2)];
  if (x.rank !== 3 || w.rank !== 3 || r.rank !== 3) throw new GlimpseError(`X [${x.shape}], W [${w.shape}] and R [${r.shape}]; three axes each are expected`);
  const [time, count, width] = x.shape;
  const hidden = r.shape[2];
  const way = wordOf(c.node, 'direction', 'forward');
  if (!['forward', 'reverse', 'bidirectional'].includes(way))
    throw new GlimpseError(`direction is "${shown(way)}", one of forward, reverse, bidirectional is expected`);
  const directions = way === 'bidirectional' ? 2 : 1;
  const stated = c.number('hidden_size', hidden);
  const rows = cell.gates * hidden;
  const expect = (what: string, shape: readonly number[], expected: readonly number[]): void => {
    if (shape.join() !== expected.join()) throw new GlimpseError(`${what} is [${shape}], [${expected}] is expected`);
  };
  if (stated !== hidden) throw new GlimpseError(`hidden_size ${stated} contradicts R [${r.shape}]`);
  expect('W', w.shape, [directions, rows, width]);
  expect('R', r.shape, [directions, rows, hidden]);
  if (c.has(3)) expect('B', c.shape(3), [directions, 2 * rows]);
  for (let i = 0; i < cell.states; i++)
    if (c.has(5 + i)) expect(`input ${5 + i}`, c.shape(5 + i), batchFirst ? [count, directions, hidden] : [directions, count, hidden]);
  if (c.has(7)) expect('P', c.shape(7), [directions, 3 * hidden]);
  c.model.budget.expect([time, count, rows, directions], width + hidden);
  const steps = count * hidden > 0 ? time : 0; // states of nothing have no steps
  c.model.budget.walk(0, steps * directions);
  const lengths = c.host(4);
  if (lengths) {
    expect('sequence_lens', lengths.shape, [count]);
    const wrong = Array.from(lengths.data).find((length) => !(length >= 0 && length <= time));
    if (wrong !== undefined) throw new GlimpseError(`a sequence of ${wrong} steps, 0 to ${time} are expected`);
  }
  const limit = c.node.attributes.has('clip') ? c.number('clip', 0) : null;
  const clipped = (value: Tensor): Tensor => (limit === null ? value : ops.maximum(ops.minimum(value, scalar(limit)), scalar(-limit)));
  const sequences: Tensor[] = [];
  const finals: Tensor[][] = [];
  for (let d = 0; d < directions; d++) {
    const isReverse = way === 'reverse' || d === 1;
    const bias = c.has(3) ? row(c.plain(3), d) : zeros([2 * rows]);
    const activations = activationsOf(c, d, cell.activations).map((f) => (value: Tensor) => f(clipped(value)));
    const step = cell.step(c, {
      ...{ r: row(r, d), wb: part(bias, 0, rows), rb: part(bias, 1, rows), p: c.has(7) ? row(c.plain(7), d) : null },
      ...{ f: activations, hidden },
    });
    const products = ops.reshape(ops.matmul(ops.reshape(x, [time * count, width]), row(w, d), { transB: true }), [time, count, rows]);
    let states = Array.from({ length: cell.states }, (_, i) => (c.has(5 + i) ? row(swapped(c.plain(5 + i), [1, 0, 2]), d) : zeros([count, hidden])));
    const outputs = new Array<Tensor>(steps);
    for (let s = 0; s < steps; s++) {
      const t = isReverse ? time - 1 - s : s;
      const before = states;
      // What only the step needs is disposed with it. What gradients need of it, the tape holds.
      using own = scope();
      const after = step(row(products, t), before);
      if (lengths) {
        // A sequence that is over keeps its states, and its outputs are 0.
        const runs = tensor(
          Float32Array.from(lengths.data, (length) => Number(t < length)),
          [count, 1],
        );
        states = after.map((each, i) => ops.add(ops.mul(each, runs), ops.mul(before[i], one(runs))));
        outputs[t] = own.keep(ops.mul(after[0], runs));
      } else {
        states = after;
        [outputs[t]] = after;
      }
      for (const each of states) own.keep(each);
      for (const each of lengths ? before : before.slice(1)) if (s > 0) each.dispose(); // without lengths the first one is an output
    }
    sequences.push(steps > 0 ? ops.reshape(ops.concat(outputs, 0), [time, 1, count, hidden]) : zeros([time, 1, count, hidden]));
    finals.push(states);
  }
  const all = directions === 1 ? sequences[0] : ops.concat(sequences, 1);
  const ends = Array.from({ length: cell.states }, (_, i) => {
    const stacked = finals.map((states) => ops.reshape(states[i], [1, count, hidden]));
    return plain(swapped(directions === 1 ? stacked[0] : ops.concat(stacked, 0), [1, 0, 2]));
  });
  return [plain(swapped(all, [2, 0, 1, 3])), ...ends];
}

const layer = (inputs: readonly [number, number], outputs: number, attributes: Operator['attributes'] = {}): Operator => ({
  inputs,
  outputs: [1, outputs],
  attributes: {
    activation_alpha: attribute('floats'),
    activation_beta: attribute('floats'),
    activations: attribute('strings'),
    clip: float,
    direction: text,
    hidden_size: int,
    layout: attribute('flag', { since: 14 }),
    output_sequence: attribute('flag', { until: 6 }),
    ...attributes,
  },
  where: [4],
  device: recurrent,
});

export const RECURRENT: Operators = {
  RNN: layer([3, 6], 2),
  GRU: layer([3, 6], 2, { linear_before_reset: attribute('flag', { since: 3 }) }),
  LSTM: layer([3, 8], 3, { input_forget: flag }),
};
