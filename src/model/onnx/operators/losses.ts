/** Losses of classifiers: the negative logarithm of what a model gives to the right classes. */
import * as ops from '../../../autograd/ops/index.ts';
import { type Shape, sameShape, sizeOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { bounded, like, oneType } from '../host.ts';
import { attribute, type Check, type Context, fail, type HostCall, type Operator, type Operators, plain, text, wordOf } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import type { HostTensor, Value } from '../values.ts';
import { shown } from '../wire.ts';
import { softmaxOf } from './activations.ts';
import { floating, typeOfFirst } from './arithmetic.ts';

const REDUCTIONS = ['none', 'mean', 'sum'];

/** The right class of each place, or null for one that does not count. */
interface Targets {
  classes: (number | null)[];
  /** [N, d1, d2, …]; the scores have the axis of classes after the first. */
  shape: number[];
  /** Classes, and places of one of N. */
  count: number;
  inner: number;
}

function targetsOf(node: OnnxNode, scores: Shape, targets: HostTensor): Targets {
  const [n, count, ...rest] = scores;
  if (scores.length < 2) fail(`[${scores}] has no axis of classes`);
  const shape = [n, ...rest];
  if (targets.kind !== 'int') fail('the classes are whole numbers');
  if (!sameShape(targets.shape, shape)) fail(`[${targets.shape}] are not the classes of [${scores}], [${shape}] is expected`);
  const ignored = node.attributes.get('ignore_index');
  const classes = Array.from(targets.data, (id) => (id === ignored ? null : id >= 0 && id < count ? id : fail(`class ${id} of ${count}`)));
  return { classes, shape, count, inner: sizeOf(rest) };
}

function checkWeights(weights: Shape, count: number): void {
  if (weights.length !== 1 || weights[0] !== count) fail(`the weights are [${weights}], [${count}] is expected`);
}

const hasSoftmax = ({ op }: OnnxNode): boolean => op === 'SoftmaxCrossEntropyLoss';

/** ln of the softmax over the axis of classes. */
function logSoftmaxOnHost(x: HostTensor, { count, inner }: Targets): Float64Array {
  const out = new Float64Array(x.data.length);
  const row = new Float64Array(count);
  for (let r = 0; r < out.length / Math.max(1, count); r++) {
    const base = Math.floor(r / inner) * count * inner + (r % inner);
    for (let i = 0; i < count; i++) row[i] = x.data[base + i * inner];
    for (const [i, value] of softmaxOf(row, true).entries()) out[base + i * inner] = value;
  }
  return out;
}

function onHost({ node, inputs }: HostCall): HostTensor[] {
  const [x, given, weights] = inputs as HostTensor[];
  oneType(weights ? [floating(x), weights] : [floating(x)]);
  const targets = targetsOf(node, bounded(x.shape), given);
  const { classes, count, inner } = targets;
  if (weights) checkWeights(weights.shape, count);
  const logs = hasSoftmax(node) ? logSoftmaxOnHost(x, targets) : Float64Array.from(x.data);
  let total = 0;
  const losses = Float64Array.from(classes, (id, i) => {
    if (id === null) return 0;
    const weight = weights?.data[id] ?? 1;
    total += weight;
    return -weight * logs[(Math.floor(i / inner) * count + id) * inner + (i % inner)];
  });
  const reduction = wordOf(node, 'reduction', 'mean');
  const sum = losses.reduce((whole, loss) => whole + loss, 0);
  const loss = reduction === 'none' ? like(x, targets.shape, losses) : like(x, [], [reduction === 'sum' ? sum : sum / total]);
  return hasSoftmax(node) ? [loss, like(x, x.shape, logs)] : [loss];
}

function onDevice(c: Context): Value[] {
  const { node } = c;
  const x = c.plain(0);
  const type = typeOfFirst(c);
  const { classes, shape, count, inner } = targetsOf(node, x.shape, c.host(1) ?? fail('the classes are missing'));
  if (c.has(2)) checkWeights(c.shape(2), count);
  const logs = !hasSoftmax(node) ? x : x.size > 0 ? ops.softmax(x, true, 1) : ops.scale(x, 1);
  // What does not count reads a 0 behind the last score, and behind the last weight.
  const flat = ops.concat([ops.reshape(logs, [logs.size]), tensor([0])], 0);
  const at = classes.map((id, i) => (id === null ? logs.size : (Math.floor(i / inner) * count + id) * inner + (i % inner)));
  const chosen = ops.neg(ops.gather(flat, tensor(Uint32Array.from(at))));
  const weights = c.has(2) ? ops.gather(ops.concat([c.plain(2), tensor([0])], 0), tensor(Uint32Array.from(classes, (id) => id ?? count))) : null;
  const losses = weights ? ops.mul(chosen, weights) : chosen;
  const counted = classes.filter((id) => id !== null).length;
  const reduction = wordOf(node, 'reduction', 'mean');
  const loss = (): Tensor => {
    if (reduction === 'none') return ops.reshape(losses, shape);
    const sum = ops.sum(losses);
    if (reduction === 'sum') return sum;
    return ops.div(sum, weights ? ops.sum(weights) : tensor([counted], []));
  };
  return [plain(loss(), type), ...(c.wants(1) ? [plain(logs, type)] : [])];
}

function checkReduction(node: OnnxNode, c: Check): void {
  const reduction = wordOf(node, 'reduction', 'mean');
  if (!REDUCTIONS.includes(reduction)) c.fail(`reduction is "${shown(reduction)}", one of ${REDUCTIONS.join(', ')} is expected`);
}

const loss: Operator = {
  inputs: [2, 3],
  attributes: { ignore_index: attribute('int'), reduction: text },
  check: checkReduction,
  where: [1],
  host: onHost,
  device: onDevice,
};

export const LOSSES: Operators = { NegativeLogLikelihoodLoss: loss, SoftmaxCrossEntropyLoss: { ...loss, outputs: [1, 2] } };
