/** ONNX's training preview: derivatives of a part of the graph, and one update of optimizers, for tensors X with gradients G and states. */
import * as ops from '../../../autograd/ops/index.ts';
import { gradientsOf, isRecording, isTracked, NoGradient, noGrad, recorded, variable } from '../../../autograd/tape.ts';
import { GlimpseError, messageOf } from '../../../errors.ts';
import { sizeOf } from '../../../tensor/shape.ts';
import { scope, type Tensor, zeros } from '../../../tensor/tensor.ts';
import { BODY, GRADIENT } from '../gradients.ts';
import {
  attribute,
  type Context,
  fail,
  float,
  NEWEST,
  type Operator,
  type Operators,
  plain,
  type Reading,
  type Results,
  type RunGraph,
  text,
  wordOf,
} from '../operator.ts';
import type { OnnxGraph } from '../proto.ts';
import { type Device, isDevice, isHost, shared, tensorsOf, typeName, typeOf, type Value } from '../values.ts';
import { shown } from '../wire.ts';

/** An update of one tensor: X, its gradient with the penalty, its states, the rate R and the count T. Returns X and the states after it. */
type Update = (c: Context, x: Tensor, gradient: Tensor, states: readonly Tensor[], rate: number, count: number) => Tensor[];

const mixed = (a: number, x: Tensor, b: number, y: Tensor): Tensor => ops.add(ops.scale(x, a), ops.scale(y, b));

/** Duchi et al. 2011. */
const adagrad: Update = (c, x, g, [h], rate, count) => {
  const squares = ops.add(h, ops.square(g));
  const step = ops.div(g, ops.addScalar(ops.sqrt(squares), c.number('epsilon', 1e-6)));
  return [ops.sub(x, ops.scale(step, rate / (1 + count * c.number('decay_factor', 0)))), squares];
};

/** Kingma & Ba 2015; alpha and beta are what is called β₁ and β₂ elsewhere. */
const adam: Update = (c, x, g, [v, h], rate, count) => {
  const [alpha, beta] = [c.number('alpha', 0.9), c.number('beta', 0.999)];
  const first = mixed(alpha, v, 1 - alpha, g);
  const second = mixed(beta, h, 1 - beta, ops.square(g));
  const corrected = count > 0 ? (rate * Math.sqrt(1 - beta ** count)) / (1 - alpha ** count) : rate;
  const step = ops.div(first, ops.addScalar(ops.sqrt(second), c.number('epsilon', 1e-6)));
  return [ops.scale(ops.sub(x, ops.scale(step, corrected)), 1 - c.number('norm_coefficient_post', 0)), first, second];
};

/** Polyak 1964, or Nesterov's form of it. */
const momentum: Update = (c, x, g, [v], rate, count) => {
  const alpha = c.number('alpha', 0);
  const velocity = mixed(alpha, v, count > 0 ? c.number('beta', 0) : 1, g);
  const mode = wordOf(c.node, 'mode', 'standard');
  if (mode !== 'standard' && mode !== 'nesterov') throw new GlimpseError(`mode is "${shown(mode)}", standard or nesterov is expected`);
  const step = mode === 'nesterov' ? ops.add(g, ops.scale(velocity, alpha)) : velocity;
  return [ops.sub(x, ops.scale(step, rate)), velocity];
};

const optimizer = (states: number, update: Update, attributes: Operator['attributes']): Operator => ({
  inputs: [4, NEWEST],
  outputs: [1, NEWEST],
  attributes: { norm_coefficient: float, ...attributes },
  read: [0, 1],
  device: (c) => {
    const [rate, count] = [c.numbers(0)?.data[0] ?? Number.NaN, c.numbers(1)?.data[0] ?? Number.NaN];
    const kinds = 2 + states;
    const tensors = (c.inputs.length - 2) / kinds;
    if (!Number.isInteger(tensors)) throw new GlimpseError(`${c.inputs.length - 2} tensors, a multiple of ${kinds} is expected`);
    const at = (kind: number, i: number): Tensor => c.plain(2 + kind * tensors + i);
    const results: Value[] = [];
    for (let i = 0; i < tensors; i++) {
      const x = at(0, i);
      const kept = Array.from({ length: states }, (_, k) => at(2 + k, i));
      const odd = [at(1, i), ...kept].find((each) => each.shape.join() !== x.shape.join());
      if (odd) throw new GlimpseError(`[${odd.shape}] belongs to a tensor of [${x.shape}]`);
      const penalty = c.number('norm_coefficient', 0);
      const gradient = penalty === 0 ? at(1, i) : ops.add(at(1, i), ops.scale(x, penalty));
      update(c, x, gradient, kept, rate, count).forEach((each, kind) => {
        results[kind * tensors + i] = plain(each);
      });
    }
    return results;
  },
});

/**
 * The derivatives of the sum of y by each x, at the values that are given. It runs the graph that `takeGradients` gave the node, on the
 * tape. Zeros where y does not depend on x.
 */
function* gradient(c: Context, run: RunGraph): Reading<Results> {
  const body = c.node.attributes.get(BODY) as OnnxGraph;
  const count = (c.node.attributes.get('xs') as string[]).length;
  const alone = isRecording();
  if (alone && c.inputs.some((value) => value && tensorsOf(value).some(isTracked))) c.unsupported(SECOND);
  const wanted = c.node.outputs.flatMap((name, i) => (name === '' ? [] : [i]));
  for (let i = 0; i < count; i++) {
    const value = c.value(i);
    if (!isDevice(value) && !isHost(value)) fail(`${c.what(i)} is ${typeName(value)}, floats are expected`);
    else if (typeOf(value).kind === 'int') fail(`${c.what(i)} holds ${typeName(value)}, of which nothing can be differentiated; floats are expected`);
    else if (typeOf(value).name === 'double') c.unsupported(`${c.what(i)} holds double; derivatives are computed in float32`);
  }
  c.model.budget.expect([wanted.reduce((sum, i) => sum + sizeOf(c.shape(i)), 0)]);
  using own = scope();
  const given = noGrad(() =>
    c.inputs.map((_, i): Value => {
      const value = c.value(i);
      return i < count ? shared(plain(c.plain(i), (isDevice(value) || isHost(value) ? value.type : undefined) ?? 'float')) : shared(value);
    }),
  );
  const variables = wanted.map((i) => variable(tensorsOf(given[i])[0]));
  const [y] = yield* recorded(run(body, given, true));
  if ((!isDevice(y) && !isHost(y)) || typeOf(y).kind === 'int') fail(`y is ${typeName(y)}, floats are expected`);
  let found: (Tensor | null)[];
  try {
    found = isDevice(y) ? gradientsOf(y.tensor, variables, alone) : variables.map(() => null);
  } catch (error) {
    if (error instanceof NoGradient) c.unsupported(messageOf(error));
    throw error;
  }
  const results: (Value | null)[] = c.node.outputs.map(() => null);
  for (const [k, i] of wanted.entries()) results[i] = plain(own.keep(found[k] ?? zeros(c.shape(i))), typeOf(given[i] as Device).name);
  return results;
}

const SECOND = 'a derivative of a derivative, which is not computed; a model with trained parameters can run it under noGrad';

const DOMAIN = 'ai.onnx.preview.training';

const names = attribute('strings', { required: true });

export const TRAINING: Operators = {
  [GRADIENT]: {
    inputs: [1, NEWEST],
    outputs: [1, NEWEST],
    attributes: { xs: names, zs: attribute('strings'), y: attribute('string', { required: true }) },
    control: gradient,
  },
  [`${DOMAIN}.Adagrad`]: optimizer(1, adagrad, { decay_factor: float, epsilon: float }),
  [`${DOMAIN}.Adam`]: optimizer(2, adam, { alpha: float, beta: float, epsilon: float, norm_coefficient_post: float }),
  [`${DOMAIN}.Momentum`]: optimizer(1, momentum, { alpha: float, beta: float, mode: text }),
};
