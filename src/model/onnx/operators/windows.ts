/** Windows that move over pictures: convolution and pooling. */
import { type ConvAttrs, type ConvOptions, conv2dOp } from '../../../autograd/ops/conv.ts';
import * as ops from '../../../autograd/ops/index.ts';
import { poolOps } from '../../../autograd/ops/pool.ts';
import { GlimpseError } from '../../../errors.ts';
import { broadcastShapes, type Shape, sameShape, sizeOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { attribute, type Check, type Context, flag, int, ints, last, listOf as list, type Operators, plain, text, wordOf as word } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { inFileOrder, shapeOfValue, type Value } from '../values.ts';
import { shown } from '../wire.ts';

const WINDOW = { auto_pad: text, pads: ints, strides: ints };
const LARGEST = 2 ** 31 - 1;

/** A list of `count` whole numbers, each at least `least`. */
function checkList(node: OnnxNode, name: string, count: number, least: number, c: Check): void {
  const values = list(node, name);
  if (!values) return;
  if (values.length !== count) c.fail(`${name} has ${values.length} numbers, ${count} are expected`);
  const wrong = values.find((value) => value < least || value > LARGEST);
  if (wrong !== undefined) c.fail(`${name} [${values}] has ${wrong}, at least ${least} is expected`);
}

const AUTO = ['NOTSET', 'VALID', 'SAME_UPPER', 'SAME_LOWER'];

/** Windows that move over pictures: everything about them that a node says. */
function checkWindow(node: OnnxNode, kernel: readonly number[] | null, c: Check): void {
  const axes = kernel?.length ?? 2;
  if (axes !== 2) c.unsupported(`${axes}-dimensional windows; 2 are supported`);
  checkList(node, 'kernel_shape', 2, 1, c);
  checkList(node, 'strides', 2, 1, c);
  checkList(node, 'dilations', 2, 1, c);
  checkList(node, 'pads', 4, 0, c);
  const auto = word(node, 'auto_pad', 'NOTSET');
  if (!AUTO.includes(auto)) c.fail(`auto_pad is "${shown(auto)}", one of ${AUTO.join(', ')} is expected`);
  if (auto !== 'NOTSET' && list(node, 'pads')?.some((pad) => pad !== 0)) c.fail(`auto_pad ${auto} and pads [${list(node, 'pads')}] contradict each other`);
}

function checkConv(node: OnnxNode, c: Check): void {
  const weight = c.constant(node.inputs[1])?.shape;
  const kernel = list(node, 'kernel_shape');
  if (weight && weight.length !== 4) c.unsupported(`the weight "${shown(node.inputs[1])}" [${weight}] has ${weight.length} axes; 4 are supported`);
  checkWindow(node, kernel ?? weight?.slice(2) ?? null, c);
  const group = (node.attributes.get('group') as number | undefined) ?? 1;
  if (!(group >= 1 && group <= LARGEST)) c.fail(`group is ${group}, at least 1 is expected`);
  if (!weight) return;
  if (kernel && kernel.join() !== weight.slice(2).join()) c.fail(`kernel_shape [${kernel}] contradicts the weight "${shown(node.inputs[1])}" [${weight}]`);
  if (weight.includes(0)) c.fail(`the weight "${shown(node.inputs[1])}" [${weight}] is empty`);
  if (weight[0] % group !== 0) c.fail(`group ${group} does not divide the ${weight[0]} channels of the weight [${weight}]`);
  const bias = c.constant(node.inputs[2])?.shape;
  if (bias && bias.join() !== String(weight[0])) c.fail(`the bias "${shown(node.inputs[2])}" [${bias}] does not fit the ${weight[0]} channels of the weight`);
}

function checkPool(node: OnnxNode, c: Check): void {
  const kernel = list(node, 'kernel_shape') ?? [];
  checkWindow(node, kernel, c);
  if (list(node, 'dilations')?.some((dilation) => dilation !== 1)) c.unsupported('dilated pooling');
  if (node.attributes.get('storage_order') === 1) c.unsupported('storage_order 1');
  const wide = list(node, 'pads')?.findIndex((pad, i) => pad >= kernel[i % 2]) ?? -1;
  if (wide >= 0) c.fail(`pads [${list(node, 'pads')}] are not smaller than the window [${kernel}]: a window would hold padding only`);
}

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

/** The mean over all places of pictures. */
export function averaged(c: Context, keep: boolean): Value {
  const pooled = ops.globalAveragePool(c.channelsLast(0), 'nhwc');
  return plain(keep ? ops.reshape(pooled, [...pooled.shape, 1, 1]) : pooled);
}

function globalAverage(c: Context): Value {
  const shape = c.shape(0);
  if (shape.length === 4) return averaged(c, true);
  if (shape.length < 3) throw new GlimpseError(`[${shape}] has no places to average over`);
  const mean = ops.mean(ops.reshape(c.plain(0), [shape[0], shape[1], sizeOf(shape.slice(2))]), 2);
  return plain(ops.reshape(mean, [shape[0], shape[1], ...shape.slice(2).map(() => 1)]));
}

export const WINDOWS: Operators = {
  Conv: { inputs: [2, 3], attributes: { ...WINDOW, kernel_shape: ints, dilations: ints, group: int }, check: checkConv, device: convolution },
  MaxPool: {
    inputs: [1, 1],
    attributes: {
      ...WINDOW,
      kernel_shape: attribute('ints', { required: true }),
      storage_order: attribute('flag', { since: 8 }),
      ceil_mode: attribute('flag', { since: 10 }),
      dilations: attribute('ints', { since: 10 }),
    },
    check: checkPool,
    device: (c) => pooling(c, 'maxPool2d'),
  },
  AveragePool: {
    inputs: [1, 1],
    attributes: {
      ...WINDOW,
      kernel_shape: attribute('ints', { required: true }),
      count_include_pad: attribute('flag', { since: 7 }),
      ceil_mode: attribute('flag', { since: 10 }),
      dilations: attribute('ints', { since: 19 }),
    },
    check: checkPool,
    device: (c) => pooling(c, 'avgPool2d'),
  },
  GlobalAveragePool: { inputs: [1, 1], attributes: {}, device: globalAverage },
  // Made by the fusion passes, never read from a file.
  FusedConv: { inputs: [2, 4], attributes: { ...WINDOW, kernel_shape: ints, dilations: ints, group: int, relu: flag }, device: convolution },
};
