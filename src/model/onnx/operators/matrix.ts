/** Products of matrices, and what normalizes rows and channels. */
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { broadcastShapes, normalizeAxis, sameShape, sizeOf } from '../../../tensor/shape.ts';
import type { Tensor } from '../../../tensor/tensor.ts';
import { attribute, type Check, CONSUMED, type Context, flag, float, int, type Operators, plain } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import type { Value } from '../values.ts';
import { shown } from '../wire.ts';

function checkBatchNorm(node: OnnxNode, c: Check): void {
  if (node.attributes.get('training_mode') === 1) c.unsupported('training_mode 1');
  if (node.outputs.slice(1).some((name) => name !== '')) c.unsupported('statistics as outputs');
  if (node.attributes.get('spatial') === 0) c.unsupported('spatial 0');
  const shapes = node.inputs.slice(1).map((name) => c.constant(name)?.shape ?? null);
  const first = shapes.find((shape) => shape !== null);
  shapes.forEach((shape, i) => {
    if (shape && (shape.length !== 1 || shape.join() !== first?.join()))
      c.fail(`"${shown(node.inputs[i + 1])}" is [${shape}], every parameter has one number a channel, here [${first}]`);
  });
}

function gemm(c: Context): Value {
  const [transA, transB] = [c.number('transA', 0) === 1, c.number('transB', 0) === 1];
  const [alpha, beta] = [c.number('alpha', 1), c.number('beta', 1)];
  const [a, b] = [c.plain(0), c.plain(1)];
  if (a.rank !== 2 || b.rank !== 2) throw new GlimpseError(`[${a.shape}] and [${b.shape}]; two axes each are expected`);
  const out = [a.shape[transA ? 1 : 0], b.shape[transB ? 0 : 1]];
  c.model.budget.expect(out, a.shape[transA ? 0 : 1]);
  let product = ops.matmul(a, b, { transA, transB });
  if (alpha !== 1) product = ops.scale(product, alpha);
  if (!c.has(2)) return plain(product);
  const addend = c.plain(2);
  const fits = c.opset >= 7 || c.number('broadcast', 0) === 1 ? sameShape(broadcastShapes(addend.shape, out, 'Gemm'), out) : sameShape(addend.shape, out);
  if (!fits) throw new GlimpseError(`C [${addend.shape}] does not repeat to [${out}]`);
  return plain(ops.add(product, beta === 1 ? addend : ops.scale(addend, beta)));
}

/** NumPy's matmul: an operand of one axis is a row or a column, axes before the last two are batches that broadcast. */
function matmul(c: Context): Value {
  let [a, b] = [c.plain(0), c.plain(1)];
  const [row, column] = [a.rank === 1, b.rank === 1];
  if (a.rank === 0 || b.rank === 0) throw new GlimpseError(`[${a.shape}] and [${b.shape}]: a single number is no matrix`);
  if (row) a = ops.reshape(a, [1, a.size]);
  if (column) b = ops.reshape(b, [b.size, 1]);
  const [m, k, n] = [a.shape[a.rank - 2], a.shape[a.rank - 1], b.shape[b.rank - 1]];
  if (b.shape[b.rank - 2] !== k) throw new GlimpseError(`[${a.shape}] and [${b.shape}]: the inner extents ${k} and ${b.shape[b.rank - 2]} differ`);
  const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2), 'MatMul');
  c.model.budget.expect([...batch, m, n], k);
  const count = sizeOf(batch);
  // A product knows one axis of batches, or none where all share the second operand.
  const flat = (x: Tensor): Tensor => {
    const own = sizeOf(x.shape.slice(0, -2));
    const whole = own === count || own === 1 ? x : ops.broadcastTo(x, [...batch, ...x.shape.slice(-2)]);
    return x.rank === 2 ? x : ops.reshape(whole, [own === 1 ? 1 : count, ...x.shape.slice(-2)]);
  };
  const product = b.rank === 2 ? ops.matmul(ops.reshape(a, [count * m, k]), b) : ops.matmul(flat(a), flat(b));
  return plain(ops.reshape(product, [...batch, ...(row ? [] : [m]), ...(column ? [] : [n])]));
}

function batchNormalization(c: Context): Value {
  const [gamma, beta, mean, variance] = [1, 2, 3, 4].map((i) => c.plain(i));
  const eps = c.number('epsilon', 1e-5);
  const nhwc = c.isNhwc(0);
  const input = nhwc ? c.channelsLast(0) : c.plain(0);
  if (input.rank < 2) throw new GlimpseError(`[${input.shape}] has no axis of channels`);
  const layout = nhwc ? 'nhwc' : 'nchw';
  const order = nhwc ? 'nhwc' : 'file';
  if (!c.model.training) return { tensor: ops.batchNormEval(input, gamma, beta, mean, variance, eps, layout), order };
  const result = ops.batchNormTrain(input, gamma, beta, eps, layout);
  c.model.updateRunning(c.node, result.mean, result.variance, input.size / gamma.size);
  return { tensor: result.y, order };
}

function softmax(c: Context, log: boolean): Value {
  const x = c.plain(0);
  const axis = normalizeAxis(c.number('axis', c.opset >= 13 ? -1 : 1), x.shape, c.node.op);
  if (c.opset < 13) {
    const rows = ops.reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))]);
    return plain(ops.reshape(ops.softmax(rows, log), x.shape));
  }
  if (axis === x.rank - 1) return plain(ops.softmax(x, log));
  const order = x.shape.map((_, i) => (i === axis ? x.rank - 1 : i === x.rank - 1 ? axis : i)); // its own inverse
  return plain(ops.transpose(ops.softmax(ops.transpose(x, order), log), order));
}

const axisOnly = { inputs: [1, 1] as const, attributes: { axis: int } };

export const MATRIX: Operators = {
  Gemm: {
    inputs: (opset) => [opset >= 11 ? 2 : 3, 3],
    attributes: { alpha: float, beta: float, transA: flag, transB: flag, broadcast: attribute('flag', { until: 6 }) },
    device: gemm,
  },
  MatMul: { inputs: [2, 2], attributes: {}, device: matmul },
  BatchNormalization: {
    inputs: [5, 5],
    outputs: [1, 5],
    attributes: {
      ...CONSUMED,
      epsilon: float,
      momentum: float,
      spatial: attribute('flag', { until: 8 }),
      is_test: attribute('flag', { until: 6 }),
      training_mode: attribute('flag', { since: 14 }),
    },
    check: checkBatchNorm,
    device: batchNormalization,
  },
  Softmax: { ...axisOnly, device: (c) => softmax(c, false) },
  LogSoftmax: { ...axisOnly, device: (c) => softmax(c, true) },
};
