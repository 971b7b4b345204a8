/** Windows that move over sequences, pictures and volumes: convolution and pooling. */
import { type ConvAttrs, type ConvOptions, conv2dOp } from '../../../autograd/ops/conv.ts';
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { broadcastShapes, sameShape, sizeOf, stridesOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { bounded, ints as intTensor, roomFor } from '../host.ts';
import {
  attribute,
  type Check,
  type Context,
  fail,
  flag,
  type HostCall,
  int,
  ints,
  listOf as list,
  NotOnDevice,
  numberOf,
  type Operators,
  plain,
  type Results,
  text,
  wordOf as word,
} from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import type { HostTensor, Value } from '../values.ts';
import { shown } from '../wire.ts';

type Sides = [number, number, number, number];

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

/** Windows that move over sequences, pictures or volumes: everything about them that a node says. Returns the number of axes. */
function checkWindow(node: OnnxNode, kernel: readonly number[] | null, c: Check): number {
  const axes = kernel?.length ?? list(node, 'strides')?.length ?? list(node, 'dilations')?.length ?? 2;
  if (axes < 1 || axes > 3) c.unsupported(`${axes}-dimensional windows; 1 to 3 are supported`);
  checkList(node, 'kernel_shape', axes, 1, c);
  checkList(node, 'strides', axes, 1, c);
  checkList(node, 'dilations', axes, 1, c);
  checkList(node, 'pads', 2 * axes, 0, c);
  checkPadding(node, c);
  return axes;
}

/** Padding is said once: by name, or by numbers. */
export function checkPadding(node: OnnxNode, c: Check): void {
  const auto = word(node, 'auto_pad', 'NOTSET');
  if (!AUTO.includes(auto)) c.fail(`auto_pad is "${shown(auto)}", one of ${AUTO.join(', ')} is expected`);
  if (auto !== 'NOTSET' && list(node, 'pads')?.some((pad) => pad !== 0)) c.fail(`auto_pad ${auto} and pads [${list(node, 'pads')}] contradict each other`);
}

/** `outputs`: the axis of the weight that counts output channels; 1 for a transposed convolution, which has those of one group. */
function checkConv(node: OnnxNode, c: Check, outputs: 0 | 1 = 0): void {
  const weight = c.constant(node.inputs[1])?.shape;
  const kernel = list(node, 'kernel_shape');
  if (weight && (weight.length < 3 || weight.length > 5))
    c.unsupported(`the weight "${shown(node.inputs[1])}" [${weight}] has ${weight.length} axes; 3 to 5 are supported`);
  checkWindow(node, kernel ?? weight?.slice(2) ?? null, c);
  const group = (node.attributes.get('group') as number | undefined) ?? 1;
  if (!(group >= 1 && group <= LARGEST)) c.fail(`group is ${group}, at least 1 is expected`);
  if (!weight) return;
  if (kernel && kernel.join() !== weight.slice(2).join()) c.fail(`kernel_shape [${kernel}] contradicts the weight "${shown(node.inputs[1])}" [${weight}]`);
  if (weight.includes(0)) c.fail(`the weight "${shown(node.inputs[1])}" [${weight}] is empty`);
  if (weight[0] % group !== 0) c.fail(`group ${group} does not divide the ${weight[0]} channels of the weight [${weight}]`);
  const channels = outputs === 0 ? weight[0] : weight[1] * group;
  const bias = c.constant(node.inputs[2])?.shape;
  if (bias && bias.join() !== String(channels)) c.fail(`the bias "${shown(node.inputs[2])}" [${bias}] does not fit the ${channels} channels of the weight`);
}

function checkPool(node: OnnxNode, c: Check): void {
  const kernel = list(node, 'kernel_shape') ?? [];
  const axes = checkWindow(node, kernel, c);
  const dilations = list(node, 'dilations') ?? kernel.map(() => 1);
  const wide = list(node, 'pads')?.findIndex((pad, i) => pad >= (kernel[i % axes] - 1) * dilations[i % axes] + 1) ?? -1;
  if (wide >= 0) c.fail(`pads [${list(node, 'pads')}] are not smaller than the window [${kernel}]: a window would hold padding only`);
}

/** The padding around an input with these extents: before every axis, then behind every axis. */
export function padsOf(
  node: OnnxNode,
  extents: readonly number[],
  kernel: readonly number[],
  stride: readonly number[],
  dilation: readonly number[],
): number[] {
  const auto = word(node, 'auto_pad', 'NOTSET');
  if (!auto.startsWith('SAME')) return list(node, 'pads') ?? [...extents, ...extents].map(() => 0);
  const sides = extents.map((extent, axis) => {
    const total = Math.max(0, (Math.ceil(extent / stride[axis]) - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1 - extent);
    const less = Math.floor(total / 2);
    return auto === 'SAME_UPPER' ? [less, total - less] : [total - less, less];
  });
  return [...sides.map(([before]) => before), ...sides.map(([, behind]) => behind)];
}

/** A list with a number for every axis of the window. */
const perAxis = (c: Context, name: string, axes: number): number[] => c.list(name) ?? new Array<number>(axes).fill(1);

/** What windows move over: the extents of the places, and how many channels there are. Axes of the channels stand first, or last. */
function placesIn(c: Context, x: Tensor): { places: number[]; channels: number } {
  const isLast = c.layout === 'nhwc';
  return { places: isLast ? x.shape.slice(1, -1) : x.shape.slice(2), channels: x.shape[isLast ? x.rank - 1 : 1] };
}

/** Sequences and volumes. */
function plainConvolution(c: Context): Value {
  const [x, w] = [c.plain(0), c.plain(1)];
  const axes = w.rank - 2;
  if (x.rank !== w.rank) throw new GlimpseError(`[${x.shape}] and the weight [${w.shape}] differ in their axes`);
  const kernel = w.shape.slice(2);
  const [stride, dilation] = [perAxis(c, 'strides', axes), perAxis(c, 'dilations', axes)];
  const pad = padsOf(c.node, x.shape.slice(2), kernel, stride, dilation);
  const bias = c.has(2) ? c.plain(2) : null;
  const out = x.shape
    .slice(2)
    .map((extent, i) => Math.max(0, Math.floor((extent + pad[i] + pad[axes + i] - (kernel[i] - 1) * dilation[i] - 1) / stride[i]) + 1));
  c.model.budget.expect([x.shape[0], w.shape[0], ...out], sizeOf(w.shape.slice(1)));
  const groups = c.number('group', 1);
  if (axes === 1) return plain(ops.conv1d(x, w, bias, { stride: stride[0], dilation: dilation[0], pad: [pad[0], pad[1]], groups }));
  const triple = ([a, b, d]: number[]): [number, number, number] => [a, b, d];
  return plain(ops.conv3d(x, w, bias, { stride: triple(stride), dilation: triple(dilation), pad, groups }));
}

function convolution(c: Context): Value {
  const rank = c.shape(1).length;
  if (c.node.op === 'Conv' && (rank === 3 || rank === 5)) return plainConvolution(c);
  const [x, weights, layout] = [c.plain(0), c.plain(1), c.layout];
  if (rank !== 4) c.unsupported(`the weight "${shown(c.node.inputs[1])}" is [${weights.shape}]; 3 to 5 axes are supported`);
  if (x.rank !== 4) c.unsupported(`input 0 is [${x.shape}]; pictures of 4 axes are supported`);
  const [stride, dilation] = [perAxis(c, 'strides', 2), perAxis(c, 'dilations', 2)] as [number, number][];
  const kernel = layout === 'nhwc' ? weights.shape.slice(0, 2) : weights.shape.slice(2);
  const stated = c.list('kernel_shape');
  if (stated && stated.join() !== kernel.join()) throw new GlimpseError(`kernel_shape [${stated}] contradicts the weight's [${kernel}]`);
  if (weights.size === 0) throw new GlimpseError('the weight is empty');
  const geometry: ConvOptions = {
    stride,
    dilation,
    groups: c.number('group', 1),
    pad: padsOf(c.node, placesIn(c, x).places, kernel, stride, dilation) as Sides,
    layout,
  };
  const bias = c.has(2) ? c.plain(2) : null;
  const shapes = bias ? [x.shape, weights.shape, bias.shape] : [x.shape, weights.shape];
  const [out] = conv2dOp.shape(shapes, { ...geometry, relu: false } as ConvAttrs);
  const channels = out[layout === 'nhwc' ? 3 : 1];
  c.model.budget.expect(out, weights.size / channels);
  if (c.node.op === 'Conv') return plain(ops.conv2d(x, weights, bias, geometry));
  const relu = c.number('relu', 0) === 1;
  const addend = c.has(3) ? c.plain(3) : null;
  if (!addend || sameShape(addend.shape, out)) return plain(ops.convBlock(x, weights, bias ?? tensor(new Float32Array(channels)), addend, relu, geometry));
  // The addend repeats, or the convolution does; the fused kernel adds equal shapes only.
  c.model.budget.expect(broadcastShapes(out, addend.shape, 'Add'));
  const sum = ops.add(ops.conv2d(x, weights, bias, geometry), addend);
  return plain(relu ? ops.relu(sum) : sum);
}

/** Pooling of sequences, pictures or volumes. */
function pooling(c: Context, kind: 'maxPool' | 'avgPool' | 'lpPool'): Results {
  const kernel = c.list('kernel_shape') as number[];
  const axes = kernel.length;
  const x = c.plain(0);
  if (x.rank !== axes + 2) throw new GlimpseError(`[${x.shape}] under a window [${kernel}]`);
  const { places: extents, channels } = placesIn(c, x);
  const [stride, dilation] = [perAxis(c, 'strides', axes), perAxis(c, 'dilations', axes)];
  const pad = padsOf(c.node, extents, kernel, stride, dilation);
  if (extents.includes(0)) throw new GlimpseError(`[${[x.shape[0], channels, ...extents]}] has no places`);
  const [ceil, countPadding] = [c.number('ceil_mode', 0) === 1, c.number('count_include_pad', 0) === 1];
  const out = extents.map((extent, i) => Math.max(0, Math.ceil((extent + pad[i] + pad[axes + i] - (kernel[i] - 1) * dilation[i] - 1) / stride[i]) + 1));
  c.model.budget.expect([x.shape[0], channels, ...out], sizeOf(kernel));
  const options = { kernel, stride, pad, dilation, layout: c.layout, ceil, ...(kind === 'avgPool' ? { countPadding } : {}) };
  if (kind === 'maxPool' && c.wants(1)) {
    if (c.number('storage_order', 0) === 1) throw new NotOnDevice('indices that go down the columns first');
    const { y, indices } = ops.maxPoolWithIndices(x, options);
    return [plain(y), plain(indices, 'int64')];
  }
  if (kind === 'lpPool') {
    const power = c.number('p', 2);
    if (axes === 3) throw new NotOnDevice('norms of volumes');
    return plain(ops.pool(axes === 1 ? 'lpPool1d' : 'lpPool2d', x, { ...options, power }));
  }
  return plain(ops.pool(`${kind}${axes as 1 | 2 | 3}d`, x, options));
}

/** The largest of every window of any numbers, and where they stand; no padding takes part. */
function maxPoolOnHost({ node, inputs }: HostCall): (HostTensor | null)[] {
  const x = inputs[0] as HostTensor;
  const kernel = list(node, 'kernel_shape') as number[];
  const axes = kernel.length;
  if (x.shape.length !== axes + 2) return fail(`[${x.shape}] under a window [${kernel}]`);
  const numbers = (name: string) => list(node, name) ?? kernel.map(() => 1);
  const [stride, dilation] = [numbers('strides'), numbers('dilations')];
  const extents = x.shape.slice(2);
  const pad = padsOf(node, extents, kernel, stride, dilation);
  const rounding = numberOf(node, 'ceil_mode', 0) === 1 ? Math.ceil : Math.floor;
  const out = extents.map((extent, i) => {
    const places = rounding((extent + pad[i] + pad[axes + i] - (kernel[i] - 1) * dilation[i] - 1) / stride[i]) + 1;
    // The last window must begin within the input or the padding before it.
    return Math.max(0, rounding === Math.ceil && (places - 1) * stride[i] >= extent + pad[i] ? places - 1 : places);
  });
  const shape = bounded([...x.shape.slice(0, 2), ...out]);
  if (!(sizeOf(shape) * sizeOf(kernel) <= MOST_TAPS)) return fail(`[${shape}] with windows [${kernel}] would be too much work on the host`);
  const strides = stridesOf(x.shape);
  const columns = numberOf(node, 'storage_order', 0) === 1;
  const counted = columns ? [strides[0], strides[1], ...extents.map((_, i) => sizeOf(extents.slice(0, i)))] : strides;
  const data = roomFor(x, sizeOf(shape));
  const indices = new Array<number>(sizeOf(shape)).fill(0);
  const own = stridesOf(shape);
  for (let at = 0; at < data.length; at++) {
    const place = shape.map((extent, axis) => Math.floor(at / own[axis]) % extent);
    let best = Number.NEGATIVE_INFINITY;
    let found = -1;
    for (let tap = 0; tap < sizeOf(kernel); tap++) {
      let rest = tap;
      let from = place[0] * strides[0] + place[1] * strides[1];
      let index = place[0] * counted[0] + place[1] * counted[1];
      let isInside = true;
      for (let axis = axes - 1; axis >= 0; axis--) {
        const k = rest % kernel[axis];
        rest = Math.floor(rest / kernel[axis]);
        const along = place[2 + axis] * stride[axis] - pad[axis] + k * dilation[axis];
        isInside &&= along >= 0 && along < extents[axis];
        from += along * strides[2 + axis];
        index += along * counted[2 + axis];
      }
      if (!isInside || (found >= 0 && !(x.data[from] > best) && !Number.isNaN(x.data[from]))) continue;
      if (Number.isNaN(best)) break;
      best = x.data[from];
      found = index;
    }
    data[at] = best;
    indices[at] = found;
  }
  if (x.kind === 'int' && indices.includes(-1)) return fail('a window holds padding only');
  return [{ ...x, shape, data }, intTensor([...shape], indices)];
}

/** Most windows × taps on the host. */
const MOST_TAPS = 2 ** 26;

function unpooling(c: Context): Value {
  const x = c.plain(0);
  const kernel = c.list('kernel_shape') as number[];
  const axes = kernel.length;
  if (x.rank !== axes + 2) throw new GlimpseError(`[${x.shape}] under a window [${kernel}]`);
  const [stride, pad] = [perAxis(c, 'strides', axes), c.list('pads') ?? new Array<number>(2 * axes).fill(0)];
  const usual = [...x.shape.slice(0, 2), ...x.shape.slice(2).map((extent, i) => (extent - 1) * stride[i] + kernel[i] - pad[i] - pad[axes + i])];
  const shape = c.host(2) ? Array.from((c.host(2) as HostTensor).data) : usual;
  if (shape.length !== x.rank || shape.some((extent) => !(extent >= 0))) throw new GlimpseError(`output_shape [${shape}] for [${x.shape}]`);
  c.model.budget.expect(shape);
  // The indices count places of the usual shape, which may be smaller than the one asked for.
  const out = ops.maxUnpool(x, c.indices(1, sizeOf(usual)), usual);
  if (sameShape(shape, usual)) return plain(out);
  const behind = shape.map((extent, i) => extent - usual[i]);
  return plain(
    ops.pad(
      out,
      shape.map(() => 0),
      behind,
    ),
  );
}

/** Dumoulin & Visin 2016: the gradient of a convolution with respect to its input. */
function transposedConvolution(c: Context): Value {
  const [x, w] = [c.plain(0), c.plain(1)];
  const axes = w.rank - 2;
  if (x.rank !== w.rank || axes < 1 || axes > 3) throw new GlimpseError(`[${x.shape}] and the weight [${w.shape}]`);
  const kernel = w.shape.slice(2);
  const groups = c.number('group', 1);
  const stated = c.list('kernel_shape');
  if (stated && stated.join() !== kernel.join()) throw new GlimpseError(`kernel_shape [${stated}] contradicts the weight's [${kernel}]`);
  const [stride, dilation] = [perAxis(c, 'strides', axes), perAxis(c, 'dilations', axes)];
  const more = c.list('output_padding') ?? kernel.map(() => 0);
  if (more.length !== axes) throw new GlimpseError(`output_padding [${more}] for ${axes} axes`);
  const auto = word(c.node, 'auto_pad', 'NOTSET');
  const wanted = c.list('output_shape') ?? (auto.startsWith('SAME') ? x.shape.slice(2).map((extent, i) => extent * stride[i]) : null);
  if (wanted && wanted.length !== axes && wanted.length !== axes + 2) throw new GlimpseError(`output_shape [${wanted}] for ${axes} axes`);
  const full = x.shape.slice(2).map((extent, i) => stride[i] * (extent - 1) + more[i] + (kernel[i] - 1) * dilation[i] + 1);
  let pad = c.list('pads') ?? new Array<number>(2 * axes).fill(0);
  if (wanted) {
    const totals = wanted.slice(-axes).map((extent, i) => full[i] - extent);
    const less = totals.map((total) => Math.floor(total / 2));
    const rest = totals.map((total, i) => total - less[i]);
    pad = auto === 'SAME_UPPER' ? [...less, ...rest] : [...rest, ...less];
  }
  const out = full.map((extent, i) => extent - pad[i] - pad[axes + i]);
  if (out.some((extent) => !(extent >= 0))) throw new GlimpseError(`pads [${pad}] leave nothing of [${full}]`);
  c.model.budget.expect([x.shape[0], w.shape[1] * groups, ...full], sizeOf([x.shape[1] / groups, ...kernel]));
  const bias = c.has(2) ? c.plain(2) : null;
  // What is asked for beyond the whole is zeros, to which the bias is added.
  const cut = pad.map((each) => Math.max(0, each));
  const [before, behind] = [pad.slice(0, axes).map((each) => Math.max(0, -each)), pad.slice(axes).map((each) => Math.max(0, -each))];
  const grows = [...before, ...behind].some((each) => each > 0);
  // Without a larger stride or dilation, padding of the output is such zeros, too.
  const isOdd = more.some((each, i) => each >= Math.max(stride[i], dilation[i]));
  const own = isOdd ? more.map(() => 0) : more;
  const beyond = behind.map((each, i) => each + (isOdd ? more[i] : 0));
  const transposed = (x: Tensor, with_: Tensor | null): Tensor => {
    const options = { stride, dilation, pad: cut, outputPadding: own, groups };
    if (axes === 1) return ops.convTranspose1d(x, w, with_, options);
    return axes === 2 ? ops.convTranspose2d(x, w, with_, options) : ops.convTranspose3d(x, w, with_, options);
  };
  if (!grows && !isOdd) return plain(transposed(x, bias));
  const zero = [0, 0];
  const y = ops.pad(transposed(x, null), [...zero, ...before], [...zero, ...beyond]);
  return plain(bias ? ops.add(y, ops.reshape(bias, [bias.size, ...kernel.map(() => 1)])) : y);
}

/** One number a channel: the mean, the largest, or the norm, of all places. */
function overAllPlaces(c: Context, f: (x: Tensor, layout: 'nchw' | 'nhwc') => Tensor): Value {
  const x = c.plain(0);
  if (x.rank < 3) throw new GlimpseError(`[${x.shape}] has no places`);
  const { places, channels } = placesIn(c, x);
  if (places.includes(0)) throw new GlimpseError(`[${[x.shape[0], channels, ...places]}] has no places`);
  const ones = places.map(() => 1);
  return plain(ops.reshape(f(x, c.layout), c.layout === 'nhwc' ? [x.shape[0], ...ones, channels] : [x.shape[0], channels, ...ones]));
}

const KERNEL = attribute('ints', { required: true });

export const WINDOWS: Operators = {
  Conv: {
    inputs: [2, 3],
    attributes: { ...WINDOW, kernel_shape: ints, dilations: ints, group: int },
    layout: 'windows',
    check: checkConv,
    device: convolution,
  },
  ConvTranspose: {
    inputs: [2, 3],
    attributes: { ...WINDOW, kernel_shape: ints, dilations: ints, group: int, output_padding: ints, output_shape: ints },
    check: (node, c) => checkConv(node, c, 1),
    device: transposedConvolution,
  },
  MaxPool: {
    inputs: [1, 1],
    outputs: [1, 2],
    attributes: {
      ...WINDOW,
      kernel_shape: KERNEL,
      storage_order: attribute('flag', { since: 8 }),
      ceil_mode: attribute('flag', { since: 10 }),
      dilations: attribute('ints', { since: 10 }),
    },
    layout: 'windows',
    check: checkPool,
    host: maxPoolOnHost,
    hosts: ({ node, inputs }) => inputs[0]?.kind === 'int' || inputs[0]?.type === 'double' || node.outputs.length > 1,
    device: (c) => pooling(c, 'maxPool'),
  },
  AveragePool: {
    inputs: [1, 1],
    attributes: {
      ...WINDOW,
      kernel_shape: KERNEL,
      count_include_pad: attribute('flag', { since: 7 }),
      ceil_mode: attribute('flag', { since: 10 }),
      dilations: attribute('ints', { since: 19 }),
    },
    layout: 'windows',
    check: checkPool,
    device: (c) => pooling(c, 'avgPool'),
  },
  LpPool: {
    inputs: [1, 1],
    attributes: { ...WINDOW, kernel_shape: KERNEL, p: int, ceil_mode: attribute('flag', { since: 18 }), dilations: attribute('ints', { since: 18 }) },
    layout: 'windows',
    check: checkPool,
    device: (c) => pooling(c, 'lpPool'),
  },
  MaxUnpool: { inputs: [2, 3], attributes: { kernel_shape: KERNEL, pads: ints, strides: ints }, check: checkPool, where: [2], device: unpooling },
  GlobalAveragePool: { inputs: [1, 1], attributes: {}, layout: 'channels', device: (c) => overAllPlaces(c, ops.globalAveragePool) },
  GlobalMaxPool: { inputs: [1, 1], attributes: {}, layout: 'channels', device: (c) => overAllPlaces(c, ops.globalMaxPool) },
  GlobalLpPool: {
    inputs: [1, 1],
    attributes: { p: int },
    layout: 'channels',
    device: (c) => overAllPlaces(c, (x, layout) => ops.globalLpPool(x, c.number('p', 2), layout)),
  },
  // Made by the passes, never read from a file.
  FusedConv: { inputs: [2, 4], attributes: { ...WINDOW, kernel_shape: ints, dilations: ints, group: int, relu: flag }, layout: 'windows', device: convolution },
};
