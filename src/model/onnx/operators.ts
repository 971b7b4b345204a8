/**
 * Operators with the engine's ops. Pictures are channels-last inside and are transposed back only where a node needs the file's
 * order of axes. What has all its inputs on the host (constants, shapes, whole numbers) is computed there (host.ts).
 */
import { type ConvAttrs, type ConvOptions, conv2dOp } from '../../autograd/ops/conv.ts';
import { poolOps } from '../../autograd/ops/pool.ts';
import * as ops from '../../autograd/ops/index.ts';
import { GlimpseError } from '../../errors.ts';
import { broadcastShapes, MAX_RANK, normalizeAxis, type Shape, sameShape, sizeOf } from '../../tensor/shape.ts';
import { type Tensor, tensor } from '../../tensor/tensor.ts';
import {
  aligned,
  axesOf,
  castTarget,
  concatenatedTo,
  flattenedTo,
  indicesOf,
  orderOf,
  rangesOf,
  reshapedTo,
  resizedTo,
  runOnHost,
  runsOnHost,
  shapeOf,
  TooLargeForHost,
  typeOf,
} from './host.ts';
import { labelOf } from './operator_forms.ts';
import { type HostTensor, type OnnxNode, UnsupportedOnnx } from './proto.ts';
import { shown } from './wire.ts';

/**
 * A value on the GPU. The graph means pictures as N, C, H, W and convolution weights as O, I, H, W; `order` says when the tensor's
 * axes lie in the kernels' order instead.
 */
export interface Device {
  tensor: Tensor;
  order: 'file' | 'nhwc' | 'hwio';
}
export type Value = Device | HostTensor;

export const isDevice = (value: Value): value is Device => 'tensor' in value;

/** The axes of the file, found in the tensor. */
const AXES = { nhwc: [0, 3, 1, 2], hwio: [3, 2, 0, 1] };

/** The tensor with its axes in the file's order. */
export const inFileOrder = ({ tensor, order }: Device): Tensor => (order === 'file' ? tensor : ops.transpose(tensor, AXES[order]));

/** The shape that the graph means. */
export const shapeOfValue = (value: Value): readonly number[] => {
  if (!isDevice(value)) return value.shape;
  return value.order === 'file' ? value.tensor.shape : AXES[value.order].map((axis) => value.tensor.shape[axis]);
};

/** Longest list of floats that is kept on the host too, where nodes may compute with it at once. */
export const SHORT = 1024;

/** What of a model its operators need. */
export interface Surroundings {
  path: string;
  opset: number;
  training: boolean;
  budget: Budget;
  /** An initializer on the GPU. */
  weight(name: string): Device | null;
  /** Takes a batch's statistics into the running ones of a BatchNormalization. */
  updateRunning(node: OnnxNode, mean: Tensor, variance: Tensor, n: number): void;
}

/**
 * What one run may hold and compute, in numbers. Otherwise a small file could ask for any memory and any time: lists that double
 * again and again, wide padding, outer products. The bounds follow from what the file and the inputs hold.
 */
export class Budget {
  private live = 0;
  private done = 0;
  private readonly mostLive: number;
  private readonly mostWork: number;

  /** `held`: the numbers in the file and in the inputs of the run. */
  constructor(held: number) {
    this.mostLive = Math.max(2 ** 26, 1024 * held);
    this.mostWork = Math.max(2 ** 31, 2 ** 20 * held);
  }

  /** Throws a GlimpseError if a value of this shape, each element from so many products, would go beyond the bounds. */
  expect(shape: Shape, taps = 1): void {
    const size = sizeOf(shape);
    if (!(this.live + size <= this.mostLive))
      throw new GlimpseError(
        `[${shape}] would be ${size} numbers, with ${this.live} there; a file and inputs of this size may hold ${this.mostLive} at a time`,
      );
    if (!(this.done + size * Math.max(1, taps) <= this.mostWork))
      throw new GlimpseError(
        `[${shape}], each of ${taps} products, would be more work than the ${this.mostWork} that a file and inputs of this size may ask for`,
      );
    this.done += size * (taps - 1);
  }

  made(size: number): void {
    this.live += size;
    this.done += size;
  }

  freed(size: number): void {
    this.live -= size;
  }
}

/** A node in a run, with its inputs. */
export class Context {
  constructor(
    readonly model: Surroundings,
    readonly node: OnnxNode,
    readonly inputs: readonly (Value | null)[],
  ) {}

  unsupported(reason: string): never {
    throw new UnsupportedOnnx(this.model.path, `${labelOf(this.node)}: ${reason}`);
  }

  has(i: number): boolean {
    return this.inputs[i] != null;
  }

  value(i: number): Value {
    return this.inputs[i] ?? this.unsupported(`input ${i} is missing`);
  }

  /** An input that must be whole numbers on the host: a shape, axes, indices. Null if it is left out. */
  host(i: number): HostTensor | null {
    const value = this.inputs[i] ?? null;
    const what = `input ${i} ("${shown(this.node.inputs[i] ?? '')}")`;
    if (value && isDevice(value)) return this.unsupported(`${what} must be a constant, or follow from constants and shapes`);
    if (value?.kind === 'float') throw new GlimpseError(`${what} holds floats, whole numbers are expected`);
    return value;
  }

  private device(i: number): Device {
    const value = this.value(i);
    if (isDevice(value)) return value;
    if (value.kind === 'int') return this.unsupported(`input ${i} ("${shown(this.node.inputs[i])}") holds ${typeOf(value).name}; floats are supported`);
    const weight = this.model.weight(this.node.inputs[i]);
    if (weight) return weight;
    if (value.shape.length > MAX_RANK) return this.unsupported(`input ${i} has ${value.shape.length} axes; at most ${MAX_RANK} are supported`);
    return { tensor: tensor(value.data as Float32Array, value.shape), order: 'file' };
  }

  /** Input i as floats on the GPU, in the file's order of axes. */
  plain(i: number): Tensor {
    return inFileOrder(this.device(i));
  }

  /** Input i as pictures, channels last. */
  channelsLast(i: number): Tensor {
    const value = this.device(i);
    if (value.order === 'nhwc') return value.tensor;
    const x = inFileOrder(value);
    if (x.rank !== 4) this.unsupported(`input ${i} is [${x.shape}]; pictures of 4 axes are supported`);
    return ops.transpose(x, [0, 2, 3, 1]);
  }

  /** Input i as the weight of a convolution: height, width, input channels of a group, output channels. */
  kernel(i: number): Tensor {
    const value = this.device(i);
    if (value.order === 'hwio') return value.tensor;
    const w = inFileOrder(value);
    if (w.rank !== 4) this.unsupported(`the weight "${shown(this.node.inputs[i])}" is [${w.shape}]; 4 axes are supported`);
    return ops.transpose(w, [2, 3, 1, 0]);
  }

  isNhwc(i: number): boolean {
    const value = this.value(i);
    return isDevice(value) && value.order === 'nhwc';
  }

  number(name: string, otherwise: number): number {
    return (this.node.attributes.get(name) as number | undefined) ?? otherwise;
  }

  list(name: string): number[] | null {
    return (this.node.attributes.get(name) as number[] | undefined) ?? null;
  }
}

const last = (x: Tensor): Device => ({ tensor: x, order: 'nhwc' });
const plain = (x: Tensor): Device => ({ tensor: x, order: 'file' });

/** Top, left, bottom, right of the padding around pictures [N, H, W, C]. */
function pads(c: Context, x: Shape, kernel: readonly number[], stride: readonly number[], dilation: readonly number[]): [number, number, number, number] {
  const auto = (c.node.attributes.get('auto_pad') as string | undefined) ?? 'NOTSET';
  if (!auto.startsWith('SAME')) return (c.list('pads') as [number, number, number, number] | null) ?? [0, 0, 0, 0];
  const [down, across] = [0, 1].map((axis) => {
    const extent = x[1 + axis];
    const total = Math.max(0, (Math.ceil(extent / stride[axis]) - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1 - extent);
    const less = Math.floor(total / 2);
    return auto === 'SAME_UPPER' ? [less, total - less] : [total - less, less];
  });
  return [down[0], across[0], down[1], across[1]];
}

const pair = (c: Context, name: string): [number, number] => (c.list(name) as [number, number] | null) ?? [1, 1];

function convolution(c: Context): Value {
  const weights = c.kernel(1);
  const x = c.channelsLast(0);
  const [stride, dilation] = [pair(c, 'strides'), pair(c, 'dilations')];
  const kernel = weights.shape.slice(0, 2);
  const stated = c.list('kernel_shape');
  if (stated && stated.join() !== kernel.join()) throw new GlimpseError(`kernel_shape [${stated}] contradicts the weight's [${kernel}]`);
  if (weights.size === 0) throw new GlimpseError('the weight is empty');
  const geometry: ConvOptions = { stride, dilation, groups: c.number('group', 1), pad: pads(c, x.shape, kernel, stride, dilation), layout: 'nhwc' };
  const bias = c.has(2) ? c.plain(2) : null;
  const shapes = bias ? [x.shape, weights.shape, bias.shape] : [x.shape, weights.shape];
  const [out] = conv2dOp.shape(shapes, { ...geometry, relu: false } as ConvAttrs);
  c.model.budget.expect(out, sizeOf(weights.shape.slice(0, 3)));
  const relu = c.number('relu', 0) === 1;
  const convolved = () => ops.conv2d(x, weights, bias, geometry);
  if (c.node.op === 'Conv') return last(convolved());
  if (!c.has(3)) return last(ops.convBlock(x, weights, bias ?? tensor(new Float32Array(out[3])), null, relu, geometry));
  const addend = addendOf(c);
  if (addend && sameShape(addend.shape, out)) return last(ops.convBlock(x, weights, bias ?? tensor(new Float32Array(out[3])), addend, relu, geometry));
  // The addend broadcasts, or the convolution does; the fused kernel adds equal shapes only.
  const sum = addend ? last(added(c, convolved(), addend)) : plain(added(c, inFileOrder(last(convolved())), c.plain(3)));
  return relu ? { ...sum, tensor: ops.relu(sum.tensor) } : sum;
}

function added(c: Context, a: Tensor, b: Tensor): Tensor {
  c.model.budget.expect(broadcastShapes(a.shape, b.shape, 'Add'));
  return ops.add(a, b);
}

/** What is added to pictures, channels last too; null if it has more axes than pictures. */
function addendOf(c: Context): Tensor | null {
  if (c.isNhwc(3)) return c.channelsLast(3);
  const addend = c.plain(3);
  if (addend.rank > 4) return null;
  return ops.transpose(ops.reshape(addend, [...new Array<number>(4 - addend.rank).fill(1), ...addend.shape]), [0, 2, 3, 1]);
}

function pooling(c: Context, kind: 'maxPool2d' | 'avgPool2d'): Value {
  const x = c.channelsLast(0);
  const kernel = c.list('kernel_shape') as [number, number];
  const stride = pair(c, 'strides');
  const pad = pads(c, x.shape, kernel, stride, [1, 1]);
  const [ceil, countPadding] = [c.number('ceil_mode', 0) === 1, c.number('count_include_pad', 0) === 1];
  const options = { kernel, stride, pad, layout: 'nhwc' as const, ceil, countPadding };
  if (x.shape[1] === 0 || x.shape[2] === 0) throw new GlimpseError(`pictures [${shapeOfValue(last(x))}] have no places`);
  const [out] = poolOps[kind].shape([x.shape], options);
  c.model.budget.expect(out, kernel[0] * kernel[1]);
  const hangsOver = [0, 1].some((axis) => (out[1 + axis] - 1) * stride[axis] + kernel[axis] > x.shape[1 + axis] + pad[axis] + pad[axis + 2]);
  if (kind === 'avgPool2d' && countPadding && hangsOver) c.unsupported('count_include_pad with windows that hang over the padding (ceil_mode)');
  return last(ops.pool(kind, x, options));
}

function elementwise(c: Context, f: (a: Tensor, b: Tensor) => Tensor): Value {
  const { node, model } = c;
  const [first, second] = [shapeOfValue(c.value(0)), shapeOfValue(c.value(1))];
  const { second: shape, out } = aligned(node, model.opset, first, second);
  model.budget.expect(out);
  if (c.isNhwc(0) && c.isNhwc(1)) return last(f(c.channelsLast(0), c.channelsLast(1)));
  // One number fits in any order of axes.
  if (c.isNhwc(0) && sizeOf(second) === 1 && out.length === 4) return last(f(c.channelsLast(0), ops.reshape(c.plain(1), [])));
  if (c.isNhwc(1) && sizeOf(first) === 1 && out.length === 4 && sameShape(second, out)) return last(f(ops.reshape(c.plain(0), []), c.channelsLast(1)));
  return plain(f(c.plain(0), sameShape(shape, second) ? c.plain(1) : ops.reshape(c.plain(1), shape)));
}

function sum(c: Context): Value {
  const shapes = c.inputs.map((_, i) => shapeOfValue(c.value(i)));
  const odd = shapes.find((shape) => !sameShape(shape, shapes[0]));
  if (c.model.opset < 8 && odd) throw new GlimpseError(`[${shapes[0]}] and [${odd}] differ`);
  c.model.budget.expect(shapes.reduce((out, shape) => broadcastShapes(out, shape, 'Sum')));
  if (c.inputs.length === 1) return passed(c);
  const nhwc = c.inputs.every((_, i) => c.isNhwc(i));
  const term = (i: number) => (nhwc ? c.channelsLast(i) : c.plain(i));
  let total = ops.add(term(0), term(1));
  for (let i = 2; i < c.inputs.length; i++) {
    const before = total;
    total = ops.add(before, term(i));
    if (!total.attachment) before.dispose(); // a sum of thousands would hold all partial sums
  }
  return nhwc ? last(total) : plain(total);
}

function unary(c: Context, f: (x: Tensor) => Tensor): Value {
  return c.isNhwc(0) ? last(f(c.channelsLast(0))) : plain(f(c.plain(0)));
}

/** The input under a second name. Its tensor is a second one on the same storage, because each is disposed on its own. */
function passed(c: Context): Value {
  return unary(c, (x) => ops.reshape(x, x.shape));
}

type Reduction = (x: Tensor, axis: number, keepDims: boolean) => Tensor;

function reduction(c: Context, reduce: Reduction): Value {
  const shape = shapeOfValue(c.value(0));
  const named = axesOf(c.node, c.host(1), shape.length) ?? [];
  if (named.length === 0 && c.number('noop_with_empty_axes', 0) === 1) return passed(c);
  const axes = named.length > 0 ? named : shape.map((_, axis) => axis);
  if (axes.length === 0) return passed(c);
  const keep = c.number('keepdims', 1) === 1;
  if (reduce === ops.mean && shape.length === 4 && axes.join() === '2,3') return averaged(c, keep);
  return plain(axes.toReversed().reduce((x, axis) => reduce(x, axis, keep), c.plain(0)));
}

/** The mean over all places of pictures. */
function averaged(c: Context, keep: boolean): Value {
  const pooled = ops.globalAveragePool(c.channelsLast(0), 'nhwc');
  return plain(keep ? ops.reshape(pooled, [...pooled.shape, 1, 1]) : pooled);
}

function globalAverage(c: Context): Value {
  const shape = shapeOfValue(c.value(0));
  if (shape.length === 4) return averaged(c, true);
  if (shape.length < 3) throw new GlimpseError(`[${shape}] has no places to average over`);
  const mean = ops.mean(ops.reshape(c.plain(0), [shape[0], shape[1], sizeOf(shape.slice(2))]), 2);
  return plain(ops.reshape(mean, [shape[0], shape[1], ...shape.slice(2).map(() => 1)]));
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
  const fits = c.model.opset >= 7 || c.number('broadcast', 0) === 1 ? sameShape(broadcastShapes(addend.shape, out, 'Gemm'), out) : sameShape(addend.shape, out);
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
  const axis = normalizeAxis(c.number('axis', c.model.opset >= 13 ? -1 : 1), x.shape, c.node.op);
  if (c.model.opset < 13) {
    const rows = ops.reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))]);
    return plain(ops.reshape(ops.softmax(rows, log), x.shape));
  }
  if (axis === x.rank - 1) return plain(ops.softmax(x, log));
  const order = x.shape.map((_, i) => (i === axis ? x.rank - 1 : i === x.rank - 1 ? axis : i)); // its own inverse
  return plain(ops.transpose(ops.softmax(ops.transpose(x, order), log), order));
}

function clip(c: Context): Value {
  const bound = (name: string, i: number): Tensor | null => {
    if (c.node.attributes.has(name)) return tensor([c.number(name, 0)], []);
    if (!c.has(i)) return null;
    const given = c.plain(i);
    return given.size === 1 ? ops.reshape(given, []) : c.unsupported(`${name} is [${given.shape}], one number is expected`);
  };
  const [low, high] = [bound('min', 1), bound('max', 2)];
  if (!low && !high) return passed(c);
  return unary(c, (x) => {
    const raised = low ? ops.maximum(x, low) : x;
    return high ? ops.minimum(raised, high) : raised;
  });
}

/** The places of an axis that have these indices, in their order. */
function taken(c: Context, x: Tensor, axis: number, indices: readonly number[], shape: Shape): Tensor {
  const front = x.shape.map((_, i) => (i === 0 ? axis : i <= axis ? i - 1 : i));
  const moved = axis === 0 ? x : ops.transpose(x, front);
  const rest = moved.shape.slice(1);
  c.model.budget.expect([indices.length, ...rest]);
  const rows = ops.embedding(ops.reshape(moved, [x.shape[axis], sizeOf(rest)]), tensor(Uint32Array.from(indices), [indices.length]));
  const out = ops.reshape(rows, [indices.length, ...rest]);
  const back = x.shape.map((_, i) => (i === axis ? 0 : i < axis ? i + 1 : i));
  const turned = axis === 0 ? out : ops.transpose(out, back);
  return ops.reshape(turned, [...x.shape.slice(0, axis), ...shape, ...x.shape.slice(axis + 1)]);
}

function gather(c: Context): Value {
  const x = c.plain(0);
  const axis = normalizeAxis(c.number('axis', 0), x.shape, 'Gather');
  const indices = c.host(1) as HostTensor;
  return plain(taken(c, x, axis, indicesOf(indices, x.shape[axis]), indices.shape));
}

function slicing(c: Context): Value {
  const x = c.plain(0);
  const inputs = c.inputs.map((_, i) => (i === 0 ? null : c.host(i)));
  const ranges = rangesOf(c.node, inputs, x.shape);
  const isWhole = ({ step }: { step: number }) => step === 1;
  const start = ranges.map((range) => (isWhole(range) ? range.start : 0));
  const size = ranges.map((range, axis) => (isWhole(range) ? range.count : x.shape[axis]));
  return plain(
    ranges.reduce(
      (part, range, axis) => {
        if (isWhole(range)) return part;
        const indices = Array.from({ length: range.count }, (_, i) => range.start + i * range.step);
        return taken(c, part, axis, indices, [indices.length]);
      },
      ops.slice(x, start, size),
    ),
  );
}

function concatenation(c: Context): Value {
  const shapes = c.inputs.map((_, i) => shapeOfValue(c.value(i)));
  const { axis, shape } = concatenatedTo(c.node, shapes);
  c.model.budget.expect(shape);
  if (c.inputs.length === 1) return passed(c);
  if (c.inputs.every((_, i) => c.isNhwc(i)))
    return last(
      ops.concat(
        c.inputs.map((_, i) => c.channelsLast(i)),
        [0, 3, 1, 2][axis],
      ),
    );
  return plain(
    ops.concat(
      c.inputs.map((_, i) => c.plain(i)),
      axis,
    ),
  );
}

function cast(c: Context): Value {
  const to = castTarget(c.node);
  if (to?.name === 'float' || to?.name === 'double') return passed(c);
  return c.unsupported(`casts of computed floats to ${to?.name ?? `element type ${c.node.attributes.get('to')}`}`);
}

/** A view of the same elements in another shape. */
function reshaped(c: Context, to: (shape: Shape) => number[]): Value {
  const shape = to(shapeOfValue(c.value(0)));
  if (shape.length > MAX_RANK) c.unsupported(`[${shape}] has ${shape.length} axes; at most ${MAX_RANK} are supported`);
  return plain(ops.reshape(c.plain(0), shape));
}

const OPERATORS: Readonly<Record<string, (c: Context) => Value>> = {
  Conv: convolution,
  FusedConv: convolution,
  BatchNormalization: batchNormalization,
  Relu: (c) => unary(c, ops.relu),
  LeakyRelu: (c) => unary(c, (x) => ops.leakyRelu(x, c.number('alpha', 0.01))),
  Sigmoid: (c) => unary(c, ops.sigmoid),
  Tanh: (c) => unary(c, ops.tanh),
  Exp: (c) => unary(c, ops.exp),
  Log: (c) => unary(c, ops.log),
  Sqrt: (c) => unary(c, ops.sqrt),
  Neg: (c) => unary(c, ops.neg),
  Abs: (c) => unary(c, ops.abs),
  Reciprocal: (c) => unary(c, ops.reciprocal),
  Clip: clip,
  Identity: passed,
  Dropout: passed,
  Cast: cast,
  Add: (c) => elementwise(c, ops.add),
  Sub: (c) => elementwise(c, ops.sub),
  Mul: (c) => elementwise(c, ops.mul),
  Div: (c) => elementwise(c, ops.div),
  Sum: sum,
  MaxPool: (c) => pooling(c, 'maxPool2d'),
  AveragePool: (c) => pooling(c, 'avgPool2d'),
  GlobalAveragePool: globalAverage,
  ReduceMean: (c) => reduction(c, ops.mean),
  ReduceSum: (c) => reduction(c, ops.sum),
  ReduceMax: (c) => reduction(c, ops.max),
  ReduceMin: (c) => reduction(c, ops.min),
  Flatten: (c) => reshaped(c, (shape) => flattenedTo(c.node, shape)),
  Reshape: (c) => reshaped(c, (shape) => reshapedTo(shape, c.list('shape') ?? Array.from(c.host(1)?.data ?? []), c.number('allowzero', 0) === 1)),
  Transpose: (c) => plain(ops.transpose(c.plain(0), orderOf(c.node, shapeOfValue(c.value(0)).length))),
  Gemm: gemm,
  MatMul: matmul,
  Softmax: (c) => softmax(c, false),
  LogSoftmax: (c) => softmax(c, true),
  Shape: (c) => shapeOf(c.node, shapeOfValue(c.value(0))),
  Gather: gather,
  Slice: slicing,
  Concat: concatenation,
  Squeeze: (c) => reshaped(c, (shape) => resizedTo(c.node, c.host(1), shape)),
  Unsqueeze: (c) => reshaped(c, (shape) => resizedTo(c.node, c.host(1), shape)),
};

/** Whether a value stays on the host: whole numbers, short lists of floats, and what no tensor can be. */
const staysOnHost = (value: Value | null): boolean =>
  value === null || (!isDevice(value) && (value.kind === 'int' || value.data.length <= SHORT || value.shape.length > MAX_RANK));

/** Runs a node: on the host if all its inputs are there and it can, else with the engine's ops. */
export function runNode(c: Context): Value {
  const { node, inputs, model } = c;
  const hosts = inputs as (HostTensor | null)[];
  if (inputs.every(staysOnHost) && runsOnHost(node, hosts)) {
    try {
      return runOnHost({ node, opset: model.opset, inputs: hosts });
    } catch (error) {
      if (!(error instanceof TooLargeForHost) || hosts[0]?.kind !== 'float') throw error;
    }
  }
  return OPERATORS[node.op](c);
}
