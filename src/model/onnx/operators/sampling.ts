/** Operators that read pictures between their pixels: at the points of a grid, or in boxes. They are computed on the host. */
import { sizeOf, stridesOf } from '../../../tensor/shape.ts';
import { bounded, like, oneType } from '../host.ts';
import { attribute, type Check, fail, flag, float, type HostCall, int, numberOf, type Operators, text, wordOf } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { type HostTensor, typeOf } from '../values.ts';
import { shown } from '../wire.ts';

/** Most pixels that one node may read. */
const MOST_STEPS = 1 << 27;

/** Counts pixels that are about to be read. Throws a GlimpseError for too many. */
function reading(call: HostCall, before: number, count: number): number {
  if (!(before + count <= MOST_STEPS)) fail(`it reads ${before + count} pixels, at most ${MOST_STEPS} are supported`);
  call.spend?.(count);
  return before + count;
}

/** Modes by their names in either form of the operator. */
const MODES: Record<string, 'linear' | 'nearest' | 'cubic'> = { bilinear: 'linear', bicubic: 'cubic', linear: 'linear', nearest: 'nearest', cubic: 'cubic' };

function checkGrid(node: OnnxNode, c: Check): void {
  const isOld = node.opset < 20;
  const [mode, padding] = [wordOf(node, 'mode', isOld ? 'bilinear' : 'linear'), wordOf(node, 'padding_mode', 'zeros')];
  const known = isOld ? ['bilinear', 'nearest', 'bicubic'] : ['linear', 'nearest', 'cubic'];
  if (!known.includes(mode)) c.fail(`mode "${shown(mode)}"; ${known.join(', ')} are known`);
  if (!['zeros', 'border', 'reflection'].includes(padding)) c.fail(`padding_mode "${shown(padding)}"; zeros, border, reflection are known`);
}

/** A coordinate mirrored at two borders until it lies between them. */
function mirrored(x: number, low: number, high: number): number {
  const range = high - low;
  if (!(range > 0)) return low;
  const beyond = x < low ? low - x : x > high ? x - high : 0;
  if (beyond === 0) return x;
  const times = Math.floor(beyond / range);
  const rest = beyond - times * range;
  return x < low === (times % 2 === 0) ? low + rest : high - rest;
}

/** The nearest whole number, the even one of two. */
const nearest = (x: number): number => {
  const low = Math.floor(x);
  const rest = x - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
};

/** The weights of four places for a cubic between the inner two, as Keys's with a = −0.75. */
function cubic(t: number): number[] {
  const a = -0.75;
  const near = (x: number) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x: number) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return [far(t + 1), near(t), near(1 - t), far(2 - t)];
}

/** Places and their weights along one axis; place −1 is 0. */
interface Taps {
  places: number[];
  weights: number[];
}

/** x [N, C, ...extents] at the points of the grid [N, ...out, axes], whose last coordinate goes along the first axis. */
function gridSample(call: HostCall): HostTensor {
  const { node, inputs } = call;
  const [x, grid] = inputs as HostTensor[];
  const axes = x.shape.length - 2;
  if (typeOf(x).kind !== 'float' || grid.kind !== 'float') fail(`${typeOf(x).name} at points of ${typeOf(grid).name}; floats are supported`);
  const mode = MODES[wordOf(node, 'mode', 'linear')];
  if (axes < 1 || (node.opset < 20 && axes !== 2) || grid.shape.length !== axes + 2 || grid.shape[0] !== x.shape[0] || grid.shape.at(-1) !== axes)
    fail(`[${x.shape}] at points of [${grid.shape}]: [N, C, ...] and [N, ..., ${axes}] are expected`);
  if (mode === 'cubic' && axes !== 2) fail(`cubic sampling along ${axes} axes, 2 are supported`);
  const padding = wordOf(node, 'padding_mode', 'zeros');
  const isAligned = numberOf(node, 'align_corners', 0) === 1;
  const extents = x.shape.slice(2);
  const [n, channels] = x.shape;
  const out = grid.shape.slice(1, -1);
  const shape = bounded([n, channels, ...out]);
  if (extents.includes(0) && sizeOf(shape) > 0) fail(`[${x.shape}] has no pixels`);
  const each = { nearest: 1, linear: 2, cubic: 4 }[mode] ** axes;
  reading(call, 0, n * sizeOf(out) * Math.max(1, channels) * each);
  const strides = stridesOf(x.shape);
  const points = sizeOf(out);

  const placeAt = (i: number, extent: number): number => {
    if (i >= 0 && i < extent) return i;
    if (padding === 'border') return Math.max(0, Math.min(extent - 1, i));
    return padding === 'reflection' ? Math.trunc(mirrored(i, isAligned ? 0 : -0.5, isAligned ? extent - 1 : extent - 0.5)) : -1;
  };
  const tapsAt = (value: number, extent: number): Taps => {
    let at = isAligned ? ((value + 1) / 2) * (extent - 1) : ((value + 1) * extent - 1) / 2;
    if (mode === 'nearest') at = nearest(at);
    const [low, high] = isAligned ? [0, extent - 1] : [-0.5, extent - 0.5];
    // The places of a cubic are bounded one by one, as PyTorch and onnxruntime do it.
    if (mode !== 'cubic' && (at < low || at > high)) {
      if (padding === 'border') at = Math.max(0, Math.min(extent - 1, at));
      else if (padding === 'reflection') at = mirrored(at, low, high);
    }
    if (mode === 'nearest') return { places: [placeAt(Math.trunc(at), extent)], weights: [1] };
    const first = Math.floor(at);
    const t = at - first;
    const from = mode === 'linear' ? [first, first + 1] : [first - 1, first, first + 1, first + 2];
    return { places: from.map((i) => placeAt(i, extent)), weights: mode === 'linear' ? [1 - t, t] : cubic(t) };
  };

  const data = new Float64Array(sizeOf(shape));
  for (let batch = 0; batch < n; batch++)
    for (let point = 0; point < points; point++) {
      const start = (batch * points + point) * axes;
      const taps = extents.map((extent, axis) => tapsAt(grid.data[start + axes - 1 - axis], extent));
      let [offsets, weights] = [[0], [1]];
      for (const [axis, { places, weights: own }] of taps.entries()) {
        const [next, scaled]: [number[], number[]] = [[], []];
        for (const [i, offset] of offsets.entries())
          for (const [k, place] of places.entries()) {
            if (place < 0) continue;
            next.push(offset + place * strides[2 + axis]);
            scaled.push(weights[i] * own[k]);
          }
        [offsets, weights] = [next, scaled];
      }
      for (let channel = 0; channel < channels; channel++) {
        const from = batch * strides[0] + channel * strides[1];
        let sum = 0;
        for (let k = 0; k < offsets.length; k++) sum += weights[k] * x.data[from + offsets[k]];
        data[(batch * channels + channel) * points + point] = sum;
      }
    }
  return like(x, shape, data);
}

function checkRoi(node: OnnxNode, c: Check): void {
  const [mode, form] = [wordOf(node, 'mode', 'avg'), wordOf(node, 'coordinate_transformation_mode', 'half_pixel')];
  if (mode !== 'avg' && mode !== 'max') c.fail(`mode "${shown(mode)}"; avg or max is expected`);
  if (form !== 'half_pixel' && form !== 'output_half_pixel')
    c.fail(`coordinate_transformation_mode "${shown(form)}"; half_pixel or output_half_pixel is expected`);
}

/** A point between pixels: four offsets, and their weights. It counts nothing where it lies more than a pixel outside. */
function between(y: number, x: number, height: number, width: number): { offsets: number[]; weights: number[] } {
  if (!(y >= -1 && y <= height && x >= -1 && x <= width)) return { offsets: [0, 0, 0, 0], weights: [0, 0, 0, 0] };
  const axis = (at: number, extent: number) => {
    const inside = Math.max(0, at);
    const low = Math.min(Math.floor(inside), extent - 1);
    return low === extent - 1 ? { low, high: low, part: 0 } : { low, high: low + 1, part: inside - low };
  };
  const [row, column] = [axis(y, height), axis(x, width)];
  return {
    offsets: [row.low * width + column.low, row.low * width + column.high, row.high * width + column.low, row.high * width + column.high],
    weights: [(1 - row.part) * (1 - column.part), (1 - row.part) * column.part, row.part * (1 - column.part), row.part * column.part],
  };
}

/** The mean, or the largest weighted pixel, of points in the bins of boxes: [N, C, H, W] and boxes [R, 4] → [R, C, rows, columns]. */
function roiAlign(call: HostCall): HostTensor {
  const { node, opset, inputs } = call;
  const [x, boxes, owners] = inputs as HostTensor[];
  if (oneType([x, boxes]).kind !== 'float' || owners.kind !== 'int') fail('pictures and boxes are floats, their batches whole numbers');
  const [rows, columns] = [numberOf(node, 'output_height', 1), numberOf(node, 'output_width', 1)];
  const [n, channels, height, width] = x.shape;
  const [count, four] = boxes.shape;
  if (x.shape.length !== 4 || boxes.shape.length !== 2 || four !== 4 || owners.shape.join() !== String(count) || !(rows >= 1 && columns >= 1))
    fail(`pictures [${x.shape}], boxes [${boxes.shape}] and batches [${owners.shape}]: [N, C, H, W], [R, 4] and [R] are expected`);
  const isHalf = opset >= 16 && wordOf(node, 'coordinate_transformation_mode', 'half_pixel') === 'half_pixel';
  const isMean = wordOf(node, 'mode', 'avg') === 'avg';
  const [scale, ratio] = [numberOf(node, 'spatial_scale', 1), numberOf(node, 'sampling_ratio', 0)];
  bounded([count, Math.max(1, channels), rows, columns]);
  const shape = [count, channels, rows, columns];
  if (sizeOf(shape) > 0 && height * width === 0) fail(`[${x.shape}] has no pixels`);
  const data = new Float64Array(sizeOf(shape));
  let read = 0;
  for (let box = 0; box < count; box++) {
    const owner = owners.data[box];
    if (!(owner >= 0 && owner < n)) fail(`box ${box} is of picture ${owner} of ${n}`);
    const [left, top, right, bottom] = [0, 1, 2, 3].map((i) => boxes.data[4 * box + i] * scale - (isHalf ? 0.5 : 0));
    const [tall, wide] = [bottom - top, right - left].map((extent) => (isHalf ? extent : Math.max(1, extent)));
    const [binTall, binWide] = [tall / rows, wide / columns];
    const [down, across] = ratio > 0 ? [ratio, ratio] : [Math.max(0, Math.ceil(binTall)), Math.max(0, Math.ceil(binWide))];
    read = reading(call, read, rows * columns * Math.max(1, down) * Math.max(1, across) * Math.max(1, channels) * 4);
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const points: ReturnType<typeof between>[] = [];
        for (let i = 0; i < down; i++)
          for (let k = 0; k < across; k++) {
            const y = top + row * binTall + ((i + 0.5) * binTall) / down;
            points.push(between(y, left + column * binWide + ((k + 0.5) * binWide) / across, height, width));
          }
        for (let channel = 0; channel < channels; channel++) {
          const from = (owner * channels + channel) * height * width;
          let [sum, most] = [0, Number.NEGATIVE_INFINITY];
          for (const { offsets, weights } of points)
            for (let k = 0; k < 4; k++) {
              const part = weights[k] * x.data[from + offsets[k]];
              sum += part;
              most = Math.max(most, part);
            }
          const value = isMean ? sum / Math.max(1, points.length) : points.length > 0 ? most : 0;
          data[((box * channels + channel) * rows + row) * columns + column] = value;
        }
      }
  }
  return like(x, shape, data);
}

/** The largest pixel in each bin of boxes: [N, C, H, W] and boxes [R, 5], of which the first number is the picture. */
function maxRoiPool(call: HostCall): HostTensor {
  const { node, inputs } = call;
  const [x, boxes] = inputs as HostTensor[];
  const pooled = node.attributes.get('pooled_shape') as number[];
  const [n, channels, height, width] = x.shape;
  if (
    oneType([x, boxes]).kind !== 'float' ||
    x.shape.length !== 4 ||
    boxes.shape.length !== 2 ||
    boxes.shape[1] !== 5 ||
    pooled.length !== 2 ||
    pooled.some((extent) => !(extent >= 1))
  )
    fail(`pictures [${x.shape}] and boxes [${boxes.shape}] in bins of [${pooled}]: [N, C, H, W], [R, 5] and 2 extents are expected`);
  const [rows, columns] = pooled;
  const scale = numberOf(node, 'spatial_scale', 1);
  const count = boxes.shape[0];
  bounded([count, Math.max(1, channels), rows, columns]);
  const shape = [count, channels, rows, columns];
  const data = new Float64Array(sizeOf(shape));
  const away = (value: number) => Math.sign(value) * Math.floor(Math.abs(value) + 0.5);
  let read = 0;
  for (let box = 0; box < count; box++) {
    const owner = boxes.data[5 * box];
    if (!(Number.isInteger(owner) && owner >= 0 && owner < n)) fail(`box ${box} is of picture ${owner} of ${n}`);
    const [left, top, right, bottom] = [1, 2, 3, 4].map((i) => away(boxes.data[5 * box + i] * scale));
    const [binTall, binWide] = [Math.max(1, bottom - top + 1) / rows, Math.max(1, right - left + 1) / columns];
    const part = (from: number, i: number, bin: number, extent: number) =>
      [Math.floor(i * bin), Math.ceil((i + 1) * bin)].map((at) => Math.max(0, Math.min(extent, at + from)));
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const [y0, y1] = part(top, row, binTall, height);
        const [x0, x1] = part(left, column, binWide, width);
        read = reading(call, read, Math.max(1, y1 - y0) * Math.max(1, x1 - x0) * Math.max(1, channels));
        for (let channel = 0; channel < channels; channel++) {
          const from = (owner * channels + channel) * height * width;
          let most = y1 > y0 && x1 > x0 ? Number.NEGATIVE_INFINITY : 0;
          for (let y = y0; y < y1; y++) for (let k = x0; k < x1; k++) most = Math.max(most, x.data[from + y * width + k]);
          data[((box * channels + channel) * rows + row) * columns + column] = most;
        }
      }
  }
  return like(x, shape, data);
}

export const SAMPLING: Operators = {
  GridSample: { inputs: [2, 2], attributes: { align_corners: flag, mode: text, padding_mode: text }, check: checkGrid, host: gridSample },
  RoiAlign: {
    inputs: [3, 3],
    attributes: {
      ...{ mode: text, output_height: int, output_width: int, sampling_ratio: int, spatial_scale: float },
      coordinate_transformation_mode: attribute('string', { since: 16 }),
    },
    where: [2],
    check: checkRoi,
    host: roiAlign,
  },
  MaxRoiPool: { inputs: [2, 2], attributes: { pooled_shape: attribute('ints', { required: true }), spatial_scale: float }, host: maxRoiPool },
};
