/**
 * Runs an ONNX graph with the engine's ops. Pictures are channels-last inside and are transposed back only where a node needs the
 * file's order of axes. Arithmetic on shapes (Shape, Gather, Concat, …) runs on the host, not on the GPU.
 */

import { type ConvAttrs, type ConvOptions, conv2dOp } from '../../autograd/ops/conv.ts';
import * as ops from '../../autograd/ops/index.ts';
import type { ByteSource } from '../../data/bytes.ts';
import { FileError, GlimpseError, messageOf } from '../../errors.ts';
import { Parameters } from '../../nn/parameters.ts';
import { normalizeAxis, sameShape, sizeOf } from '../../tensor/shape.ts';
import { Scope, scope, Tensor, tensor } from '../../tensor/tensor.ts';
import { foldForInference } from './fold.ts';
import { type AttributeValue, type HostTensor, type OnnxGraph, type OnnxNode, type OnnxTensor, readOnnx } from './proto.ts';

/** A value on the GPU. With `nhwc`, the tensor's axes are N, H, W, C, while the graph means N, C, H, W. */
interface Device {
  tensor: Tensor;
  nhwc: boolean;
}
type Value = Device | HostTensor;

const isDevice = (value: Value): value is Device => 'tensor' in value;

/** Thrown for an operator or attribute that this importer does not know. `glimpse onnx check` counts these apart from failures. */
export class UnsupportedOnnx extends FileError {}

export interface OnnxOptions {
  /** Initializers to keep as trainable parameters: neither folded nor fused. */
  trainable?: (name: string, shape: readonly number[]) => boolean;
}

class Context {
  constructor(
    readonly model: OnnxModel,
    readonly node: OnnxNode,
    readonly inputs: (Value | null)[],
  ) {}

  unsupported(reason: string): never {
    throw new UnsupportedOnnx(this.model.graph.path, `node "${this.node.name}" (${this.node.op}): ${reason}`);
  }

  has(i: number): boolean {
    return this.inputs[i] != null;
  }

  private value(i: number): Value {
    const value = this.inputs[i];
    if (!value) this.unsupported(`input ${i} is missing`);
    return value;
  }

  isHost(i: number): boolean {
    return this.has(i) && !isDevice(this.value(i));
  }

  raw(i: number): Value {
    return this.value(i);
  }

  host(i: number): HostTensor {
    const value = this.value(i);
    if (isDevice(value)) this.unsupported(`input ${i} ("${this.node.inputs[i]}") must be a constant, or follow from constants and shapes`);
    return value;
  }

  /** Input i as a tensor, in the file's order of axes. */
  plain(i: number): Tensor {
    const value = this.value(i);
    if (!isDevice(value)) return toTensor(value);
    return value.nhwc ? ops.transpose(value.tensor, [0, 3, 1, 2]) : value.tensor;
  }

  channelsLast(i: number): Tensor {
    const value = this.value(i);
    if (isDevice(value) && value.nhwc) return value.tensor;
    return ops.transpose(this.plain(i), [0, 2, 3, 1]);
  }

  attribute(name: string, otherwise: number): number;
  attribute(name: string, otherwise: string): string;
  attribute(name: string, otherwise: number[]): number[];
  attribute(name: string, otherwise: AttributeValue): AttributeValue {
    const value = this.node.attributes.get(name) ?? otherwise;
    if (typeof value !== typeof otherwise) this.unsupported(`attribute ${name} is of another type than expected`);
    return value;
  }

  optionalInts(name: string): number[] | null {
    const value = this.node.attributes.get(name);
    return Array.isArray(value) ? value : null;
  }
}

function toTensor(host: HostTensor): Tensor {
  return tensor(host.data instanceof Float32Array ? host.data : Float32Array.from(host.data), host.shape);
}

/** Longest list on the host. Shapes are short; this refuses a damaged graph that doubles a list again and again. */
const MAX_HOST_ELEMENTS = 1 << 20;

const last = (x: Tensor): Device => ({ tensor: x, nhwc: true });
const plain = (x: Tensor): Device => ({ tensor: x, nhwc: false });
const ints = (shape: number[], data: number[]): HostTensor => ({ kind: 'int', shape, data });

function pads(c: Context, kernel: readonly number[]): readonly [number, number, number, number] {
  const auto = c.attribute('auto_pad', 'NOTSET');
  if (auto !== 'NOTSET' && auto !== 'VALID') c.unsupported(`auto_pad ${auto}; only explicit pads are supported`);
  if (kernel.length !== 2) c.unsupported(`${kernel.length}-dimensional windows; 2 are supported`);
  const [top, left, bottom, right] = c.attribute('pads', [0, 0, 0, 0]);
  return [top, left, bottom, right];
}

const CONV_DEFAULTS = { layout: 'nhwc', relu: false };

function convolution(c: Context): Value {
  const weights = c.model.weight(c.node.inputs[1], 'hwio');
  const geometry: ConvOptions = {
    stride: c.attribute('strides', [1, 1]) as unknown as [number, number],
    dilation: c.attribute('dilations', [1, 1]) as unknown as [number, number],
    groups: c.attribute('group', 1),
    pad: pads(c, weights.shape.slice(0, 2)),
    layout: 'nhwc',
  };
  const bias = c.node.inputs[2] ? c.model.weight(c.node.inputs[2], 'plain') : null;
  const x = c.channelsLast(0);
  if (c.node.op === 'Conv') return last(ops.conv2d(x, weights, bias, geometry));
  const addend = c.has(3) ? c.channelsLast(3) : null;
  const relu = c.attribute('relu', 0) === 1;
  const out = conv2dOp.shape([x.shape, weights.shape], { ...CONV_DEFAULTS, ...geometry } as ConvAttrs)[0];
  if (addend && !sameShape(addend.shape, out)) {
    // The addend broadcasts, but the fused kernel adds equal shapes only.
    const sum = ops.add(ops.conv2d(x, weights, bias, geometry), addend);
    return last(relu ? ops.relu(sum) : sum);
  }
  const zeroBias = bias ?? tensor(new Float32Array(weights.shape[3]));
  return last(ops.convBlock(x, weights, zeroBias, addend, relu, geometry));
}

function pooling(c: Context, kind: 'maxPool2d' | 'avgPool2d'): Value {
  const kernel = c.attribute('kernel_shape', [] as number[]);
  const pad = pads(c, kernel);
  if (c.attribute('dilations', [1, 1]).some((d) => d !== 1)) c.unsupported('dilated pooling');
  const ceil = c.attribute('ceil_mode', 0) === 1;
  const countPadding = c.attribute('count_include_pad', 0) === 1;
  const options = {
    kernel: kernel as unknown as [number, number],
    stride: c.attribute('strides', [1, 1]) as unknown as [number, number],
    pad,
    layout: 'nhwc' as const,
    ceil,
    countPadding,
  };
  return last(ops.pool(kind, c.channelsLast(0), options));
}

function elementwise(c: Context, onDevice: (a: Tensor, b: Tensor) => Tensor, onHost: (a: number, b: number) => number): Value {
  if (c.isHost(0) && c.isHost(1)) {
    const [a, b] = [c.host(0), c.host(1)];
    if (a.data.length !== b.data.length && a.data.length !== 1 && b.data.length !== 1) c.unsupported('broadcasting of constants');
    const [longer] = a.data.length >= b.data.length ? [a] : [b];
    const whole = a.kind === 'int' && b.kind === 'int'; // integer division truncates
    const data = Array.from(longer.data, (_, i) => {
      const value = onHost(a.data[a.data.length === 1 ? 0 : i], b.data[b.data.length === 1 ? 0 : i]);
      return whole ? Math.trunc(value) : value;
    });
    return !whole ? { kind: 'float', shape: longer.shape, data: Float32Array.from(data) } : ints(longer.shape, data);
  }
  const [a, b] = [c.raw(0), c.raw(1)];
  if (isDevice(a) && isDevice(b) && a.nhwc && b.nhwc) return last(onDevice(a.tensor, b.tensor));
  return plain(onDevice(c.plain(0), c.plain(1)));
}

function unary(c: Context, f: (x: Tensor) => Tensor): Value {
  const x = c.raw(0);
  return isDevice(x) ? { tensor: f(x.tensor), nhwc: x.nhwc } : plain(f(toTensor(x)));
}

function reshapeTo(x: Tensor, wanted: readonly number[], allowZero: boolean): Tensor {
  const shape = wanted.map((extent, i) => (extent === 0 && !allowZero ? x.shape[i] : extent));
  const open = shape.indexOf(-1);
  if (open >= 0) shape[open] = x.size / shape.reduce((product, extent, i) => (i === open ? product : product * extent), 1);
  return ops.reshape(x, shape);
}

/** The axes, given as an attribute (older opsets) or as an input (newer ones). */
function axesOf(c: Context, input: number): number[] | null {
  return c.optionalInts('axes') ?? (c.has(input) ? Array.from(c.host(input).data) : null);
}

function reduceMean(c: Context): Value {
  const axes = axesOf(c, 1);
  const x = c.raw(0);
  const keep = c.attribute('keepdims', 1) === 1;
  const rank = isDevice(x) ? x.tensor.rank : x.shape.length;
  const wanted = (axes ?? Array.from({ length: rank }, (_, i) => i)).map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
  if (rank === 4 && wanted.join() === '2,3') return globalPool(c, keep);
  let out = c.plain(0);
  for (const axis of wanted.reverse()) out = ops.mean(out, axis, keep);
  return plain(out);
}

function globalPool(c: Context, keep: boolean): Value {
  const pooled = ops.globalAveragePool(c.channelsLast(0), 'nhwc');
  return plain(keep ? ops.reshape(pooled, [...pooled.shape, 1, 1]) : pooled);
}

function gemm(c: Context): Value {
  const transA = c.attribute('transA', 0) === 1;
  const transB = c.attribute('transB', 0) === 1;
  const alpha = c.attribute('alpha', 1);
  const beta = c.attribute('beta', 1);
  let product = ops.matmul(c.plain(0), c.model.operand(c, 1), { transA, transB });
  if (alpha !== 1) product = ops.scale(product, alpha);
  if (!c.has(2)) return plain(product);
  const addend = c.model.operand(c, 2);
  return plain(ops.add(product, beta === 1 ? addend : ops.scale(addend, beta)));
}

function gather(c: Context): Value {
  const [data, indices] = [c.host(0), c.host(1)];
  if (data.shape.length !== 1) c.unsupported('gathering from other than a list of constants');
  const n = data.data.length;
  const picked = Array.from(indices.data, (i) => data.data[i < 0 ? i + n : i]);
  if (picked.some((value) => value === undefined)) c.unsupported(`an index outside a list of ${n}`);
  return ints(indices.shape, picked);
}

function slicing(c: Context): Value {
  const starts = c.optionalInts('starts') ?? Array.from(c.host(1).data);
  const ends = c.optionalInts('ends') ?? Array.from(c.host(2).data);
  const axes = c.optionalInts('axes') ?? (c.has(3) ? Array.from(c.host(3).data) : starts.map((_, i) => i));
  if (c.has(4) && Array.from(c.host(4).data).some((s) => s !== 1)) c.unsupported('steps other than 1');
  const clamp = (value: number, extent: number) => Math.max(0, Math.min(extent, value < 0 ? value + extent : value));
  if (c.isHost(0)) {
    const x = c.host(0);
    if (x.shape.length !== 1) c.unsupported('slices of constants with several axes');
    const part = Array.from(x.data).slice(clamp(starts[0], x.data.length), clamp(ends[0], x.data.length));
    return ints([part.length], part);
  }
  const x = c.plain(0);
  const start = x.shape.map(() => 0);
  const size = [...x.shape];
  axes.forEach((axis, i) => {
    const k = normalizeAxis(axis, x.shape, 'Slice');
    start[k] = clamp(starts[i], x.shape[k]);
    size[k] = Math.max(0, clamp(ends[i], x.shape[k]) - start[k]);
  });
  return plain(ops.slice(x, start, size));
}

function concatenation(c: Context): Value {
  const axis = c.attribute('axis', 0);
  const all = c.inputs.map((_, i) => i);
  if (all.every((i) => c.isHost(i) && c.host(i).shape.length <= 1)) {
    const parts = all.map((i) => c.host(i));
    const joined = parts.flatMap((part) => Array.from(part.data));
    if (joined.length > MAX_HOST_ELEMENTS) c.unsupported(`a list of ${joined.length} constants`);
    return parts.some((part) => part.kind === 'float')
      ? { kind: 'float', shape: [joined.length], data: Float32Array.from(joined) }
      : ints([joined.length], joined);
  }
  return plain(
    ops.concat(
      all.map((i) => c.plain(i)),
      axis,
    ),
  );
}

function resized(c: Context, change: (shape: number[], axes: number[]) => number[]): Value {
  const axes = axesOf(c, 1) ?? [];
  if (c.isHost(0)) {
    const x = c.host(0);
    return { ...x, shape: change(x.shape, axes) };
  }
  const x = c.plain(0);
  return plain(ops.reshape(x, change([...x.shape], axes)));
}

function squeezed(shape: number[], axes: number[]): number[] {
  const gone = new Set(axes.map((axis) => (axis < 0 ? axis + shape.length : axis)));
  return shape.filter((extent, i) => (axes.length > 0 ? !gone.has(i) : extent !== 1));
}

function unsqueezed(shape: number[], axes: number[]): number[] {
  const rank = shape.length + axes.length;
  const out = [...shape];
  for (const axis of axes.map((a) => (a < 0 ? a + rank : a)).sort((a, b) => a - b)) out.splice(axis, 0, 1);
  return out;
}

/** The input under a second name. Its tensor is a second one on the same storage, because each is disposed on its own. */
function passed(c: Context): Value {
  const x = c.raw(0);
  return isDevice(x) ? { ...x, tensor: ops.reshape(x.tensor, x.tensor.shape) } : x;
}

function cast(c: Context): Value {
  const to = c.attribute('to', 1);
  if (!c.isHost(0)) return to === 1 ? passed(c) : c.unsupported('casts of pictures to other than float');
  const { shape, data } = c.host(0);
  if (to === 6 || to === 7) return ints(shape, Array.from(data, Math.trunc));
  if (to === 1) return { kind: 'float', shape, data: Float32Array.from(data) };
  return c.unsupported(`cast to element type ${to}`);
}

function batchNormalization(c: Context): Value {
  if (c.attribute('training_mode', 0) !== 0) c.unsupported('training_mode 1');
  if (c.attribute('spatial', 1) !== 1) c.unsupported('spatial 0');
  const [gamma, beta, mean, variance] = [1, 2, 3, 4].map((i) => c.model.weight(c.node.inputs[i], 'plain'));
  const eps = c.attribute('epsilon', 1e-5);
  const x = c.raw(0);
  const nhwc = isDevice(x) && x.nhwc;
  const input = nhwc ? x.tensor : c.plain(0);
  const layout = nhwc ? 'nhwc' : 'nchw';
  if (!c.model.training) return { tensor: ops.batchNormEval(input, gamma, beta, mean, variance, eps, layout), nhwc };
  const result = ops.batchNormTrain(input, gamma, beta, eps, layout);
  c.model.updateRunning(c.node, result.mean, result.variance, input.size / gamma.size);
  return { tensor: result.y, nhwc };
}

function flatten(c: Context): Value {
  const x = c.plain(0);
  const axis = c.attribute('axis', 1);
  const split = axis < 0 ? axis + x.rank : axis;
  return plain(ops.reshape(x, [sizeOf(x.shape.slice(0, split)), sizeOf(x.shape.slice(split))]));
}

function softmaxNode(c: Context, log: boolean): Value {
  const x = c.plain(0);
  const axis = normalizeAxis(c.attribute('axis', c.model.graph.opset >= 13 ? -1 : 1), x.shape, c.node.op);
  if (c.model.graph.opset < 13)
    return plain(ops.reshape(ops.softmax(ops.reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))]), log), x.shape));
  if (axis !== x.rank - 1) c.unsupported(`axis ${axis} of ${x.rank}; the last is supported`);
  return plain(ops.softmax(x, log));
}

function clip(c: Context): Value {
  const bound = (name: string, input: number, otherwise: number) =>
    c.node.attributes.has(name) ? c.attribute(name, otherwise) : c.has(input) ? c.host(input).data[0] : otherwise;
  const [low, high] = [bound('min', 1, -3.4e38), bound('max', 2, 3.4e38)];
  return unary(c, (x) => ops.minimum(ops.maximum(x, tensor([low], [])), tensor([high], [])));
}

const OPERATORS: Record<string, (c: Context) => Value> = {
  Conv: convolution,
  FusedConv: convolution,
  BatchNormalization: batchNormalization,
  Relu: (c) => unary(c, ops.relu),
  LeakyRelu: (c) => unary(c, (x) => ops.leakyRelu(x, c.attribute('alpha', 0.01))),
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
  Add: (c) => elementwise(c, ops.add, (a, b) => a + b),
  Sub: (c) => elementwise(c, ops.sub, (a, b) => a - b),
  Mul: (c) => elementwise(c, ops.mul, (a, b) => a * b),
  Div: (c) => elementwise(c, ops.div, (a, b) => a / b),
  Sum: (c) => (c.inputs.length === 2 ? elementwise(c, ops.add, (a, b) => a + b) : c.unsupported('sums of other than two inputs')),
  MaxPool: (c) => pooling(c, 'maxPool2d'),
  AveragePool: (c) => pooling(c, 'avgPool2d'),
  GlobalAveragePool: (c) => globalPool(c, true),
  ReduceMean: reduceMean,
  Flatten: flatten,
  Reshape: (c) => {
    const shape = Array.from(c.host(1).data);
    if (c.isHost(0)) return { ...c.host(0), shape: shape.map((extent) => (extent === -1 ? c.host(0).data.length : extent)) };
    return plain(reshapeTo(c.plain(0), shape, c.attribute('allowzero', 0) === 1));
  },
  Transpose: (c) => {
    const x = c.plain(0);
    return plain(
      ops.transpose(
        x,
        c.attribute(
          'perm',
          x.shape.map((_, i) => x.rank - 1 - i),
        ),
      ),
    );
  },
  Gemm: gemm,
  MatMul: (c) => plain(ops.matmul(c.plain(0), c.model.operand(c, 1))),
  Softmax: (c) => softmaxNode(c, false),
  LogSoftmax: (c) => softmaxNode(c, true),
  Constant: (c) => {
    const value = c.node.attributes.get('value');
    if (value && typeof value === 'object' && 'load' in value) return value.load();
    const number = c.node.attributes.get('value_int') ?? c.node.attributes.get('value_float');
    if (typeof number === 'number') return ints([], [number]);
    const list = c.node.attributes.get('value_ints');
    if (Array.isArray(list)) return ints([list.length], list);
    return c.unsupported('a constant of this kind');
  },
  Shape: (c) => {
    const x = c.raw(0);
    const shape = !isDevice(x) ? x.shape : x.nhwc ? [0, 3, 1, 2].map((axis) => x.tensor.shape[axis]) : [...x.tensor.shape];
    const part = shape.slice(c.attribute('start', 0), c.node.attributes.has('end') ? c.attribute('end', 0) : undefined);
    return ints([part.length], part);
  },
  Gather: gather,
  Slice: slicing,
  Concat: concatenation,
  Squeeze: (c) => resized(c, squeezed),
  Unsqueeze: (c) => resized(c, unsqueezed),
};

/** A loaded model. Its weights are prepared once and stay on the GPU. */
export class OnnxModel {
  /** The trainable parameters, by the name of their initializer. */
  readonly parameters = new Parameters();
  /** Batch normalization uses the batch's statistics and updates the running ones. */
  training = false;
  private readonly weights = new Map<string, Tensor>();
  private readonly constants = new Map<string, HostTensor>();

  private constructor(
    readonly graph: OnnxGraph,
    private readonly trainable: (name: string) => boolean,
  ) {}

  /** Reads an ONNX file. Throws a FileError that names the node if an operator is not supported. */
  static load(source: ByteSource, options: OnnxOptions = {}): OnnxModel {
    const { name: path } = source;
    const { graph, close } = readOnnx(source);
    try {
      for (const node of graph.nodes) {
        if (!Object.hasOwn(OPERATORS, node.op))
          throw new UnsupportedOnnx(
            path,
            `node "${node.name}": the operator ${node.op} is not supported (${Object.keys(OPERATORS)
              .filter((op) => op !== 'FusedConv')
              .join(', ')} are)`,
          );
      }
      const trainable = (name: string) => options.trainable?.(name, graph.initializers.get(name)?.shape ?? []) ?? false;
      foldForInference(graph, trainable);
      const model = new OnnxModel(graph, trainable);
      model.loadWeights();
      return model;
    } finally {
      close();
    }
  }

  /** Loads every initializer that a node reads. Convolution weights become HWIO on the GPU; whole numbers stay on the host. */
  private loadWeights(): void {
    for (const node of this.graph.nodes) {
      node.inputs.forEach((name, i) => {
        const initializer = this.graph.initializers.get(name);
        if (!initializer || this.weights.has(name) || this.constants.has(name)) return;
        const isKernel = (node.op === 'Conv' || node.op === 'FusedConv') && i === 1;
        this.prepare(name, initializer, isKernel);
      });
    }
  }

  private prepare(name: string, initializer: OnnxTensor, isKernel: boolean): void {
    const host = initializer.load();
    if (host.kind === 'int') {
      this.constants.set(name, host);
      return;
    }
    if (isKernel && host.shape.length !== 4)
      throw new UnsupportedOnnx(this.graph.path, `convolution weight "${name}" [${host.shape}] has ${host.shape.length} axes; 4 are supported`);
    const data = host.data as Float32Array;
    const shape = isKernel ? [host.shape[2], host.shape[3], host.shape[1], host.shape[0]] : host.shape;
    const values = isKernel ? toHwio(data, host.shape) : data;
    this.weights.set(name, this.trainable(name) ? this.parameters.add(name, shape, values) : Scope.release(tensor(values, shape, 'f32', name)));
    if (host.data.length <= 1024 && !this.trainable(name)) this.constants.set(name, host);
  }

  /** A constant of the file as a tensor, convolution weights as HWIO. */
  weight(name: string, form: 'hwio' | 'plain'): Tensor {
    const found = this.weights.get(name);
    if (!found) throw new UnsupportedOnnx(this.graph.path, `the ${form === 'hwio' ? 'convolution weight' : 'parameter'} "${name}" is no constant of the file`);
    return found;
  }

  /** Input i: the weight of the file if it is one, else the computed value. */
  operand(c: Context, i: number): Tensor {
    return this.weights.get(c.node.inputs[i]) ?? c.plain(i);
  }

  /** running ← momentum running + (1 − momentum) batch, with the unbiased variance, as in ONNX and PyTorch. */
  updateRunning(node: OnnxNode, mean: Tensor, variance: Tensor, n: number): void {
    const momentum = (node.attributes.get('momentum') as number | undefined) ?? 0.9;
    ops.blendInto(this.weight(node.inputs[3], 'plain'), mean, 1 - momentum, momentum);
    ops.blendInto(this.weight(node.inputs[4], 'plain'), variance, ((1 - momentum) * n) / Math.max(1, n - 1), momentum);
  }

  /** Name of the last feature map: the input of the pooling after the last convolution. With `channelsLast` it is [N, H, W, C]. */
  get featureMapName(): string {
    const { nodes } = this.graph;
    const lastConv = nodes.findLastIndex((node) => node.op === 'Conv' || node.op === 'FusedConv');
    const pool = nodes.slice(lastConv + 1).find((node) => ['GlobalAveragePool', 'AveragePool', 'ReduceMean', 'Flatten', 'Reshape'].includes(node.op));
    if (lastConv < 0 || !pool) throw new FileError(this.graph.path, 'has no convolution followed by pooling: no spatial feature map to take');
    return pool.inputs[0];
  }

  /**
   * Runs the nodes that the wanted values need. Inputs and results have the file's order of axes. With `channelsLast`, results of
   * 4 axes are [N, H, W, C] instead. The caller owns the results. Throws a GlimpseError that names the node at fault.
   */
  run(inputs: Readonly<Record<string, Tensor | HostTensor>>, wanted: readonly string[] = this.graph.outputs, channelsLast = false): Tensor[] {
    using running = scope();
    const values = new Map<string, Value>();
    for (const [name, value] of Object.entries(inputs)) values.set(name, value instanceof Tensor ? plain(value) : value);
    // Convolutions take pictures of any size, so a feature map does too. The layers after the map do not.
    const anySize = !wanted.some((name) => this.graph.outputs.includes(name));
    for (const { name, shape } of this.graph.inputs) {
      const value = inputs[name];
      if (!value) throw new GlimpseError(`${this.graph.path}: input "${name}" [${shape}] was not given`);
      const fits = value.shape.length === shape.length && shape.every((extent, i) => extent < 0 || i === 0 || (anySize && i >= 2) || extent === value.shape[i]);
      if (shape.length > 0 && !fits) throw new GlimpseError(`${this.graph.path}: input "${name}" expects [${shape}], got [${value.shape}]`);
    }
    const needed = this.nodesFor(wanted);
    const remaining = new Map<string, number>();
    for (const node of needed) for (const input of node.inputs) remaining.set(input, (remaining.get(input) ?? 0) + 1);
    for (const name of wanted) remaining.set(name, Number.POSITIVE_INFINITY);
    for (const node of needed) {
      using step = scope();
      const c = new Context(
        this,
        node,
        node.inputs.map((name) => (name === '' ? null : (values.get(name) ?? this.constantOf(name)))),
      );
      let result: Value;
      try {
        result = OPERATORS[node.op](c);
      } catch (error) {
        if (error instanceof UnsupportedOnnx) throw error;
        throw new GlimpseError(`${this.graph.path}: node "${node.name}" (${node.op}): ${messageOf(error)}`);
      }
      if (isDevice(result)) step.keep(result.tensor);
      values.set(node.outputs[0], result);
      for (const name of node.inputs) this.release(name, remaining, values, inputs, result);
    }
    return wanted.map((name) => {
      const value = values.get(name) ?? this.constantOf(name);
      if (!value) throw new GlimpseError(`${this.graph.path}: no node makes "${name}"`);
      const out = !isDevice(value)
        ? toTensor(value)
        : value.nhwc && !channelsLast
          ? ops.transpose(value.tensor, [0, 3, 1, 2])
          : !value.nhwc && channelsLast && value.tensor.rank === 4
            ? ops.transpose(value.tensor, [0, 2, 3, 1])
            : ops.reshape(value.tensor, value.tensor.shape);
      return running.keep(out);
    });
  }

  /** Frees a value after its last use, unless a gradient may need it or another owner has it. */
  private release(name: string, remaining: Map<string, number>, values: Map<string, Value>, inputs: Readonly<Record<string, unknown>>, result: Value): void {
    const left = (remaining.get(name) ?? 1) - 1;
    remaining.set(name, left);
    const value = values.get(name);
    if (left > 0 || !value || !isDevice(value) || name in inputs || value.tensor.attachment) return;
    if (isDevice(result) && result.tensor === value.tensor) return;
    value.tensor.dispose();
    values.delete(name);
  }

  private constantOf(name: string): Value {
    const host = this.constants.get(name);
    if (host) return host;
    const weight = this.weights.get(name);
    if (weight) return plain(weight);
    throw new GlimpseError(`${this.graph.path}: "${name}" is used before anything makes it`);
  }

  private nodesFor(wanted: readonly string[]): OnnxNode[] {
    const need = new Set(wanted);
    const chosen: OnnxNode[] = [];
    for (let i = this.graph.nodes.length - 1; i >= 0; i--) {
      const node = this.graph.nodes[i];
      if (!node.outputs.some((output) => need.has(output))) continue;
      for (const input of node.inputs) need.add(input);
      chosen.push(node);
    }
    return chosen.reverse();
  }

  dispose(): void {
    for (const weight of this.weights.values()) weight.dispose();
    this.weights.clear();
  }
}

/** Output and input channels that `toHwio` reorders at a time. */
const BLOCK = 32;

function toHwio(data: Float32Array, [o, i, h, w]: readonly number[]): Float32Array {
  const out = new Float32Array(data.length);
  const taps = h * w;
  // It goes block by block, so that rows of one array stay in the cache while columns of the other are read.
  for (let k0 = 0; k0 < o; k0 += BLOCK)
    for (let c0 = 0; c0 < i; c0 += BLOCK)
      for (let k = k0; k < Math.min(o, k0 + BLOCK); k++)
        for (let c = c0; c < Math.min(i, c0 + BLOCK); c++) {
          const from = (k * i + c) * taps;
          for (let tap = 0; tap < taps; tap++) out[(tap * i + c) * o + k] = data[from + tap];
        }
  return out;
}
