/** Signals: discrete Fourier transforms as products with tables of cosines and sines, windows, and mel filters. */
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { normalizeAxis, sizeOf } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { ELEMENT_TYPES } from '../elements.ts';
import { bounded, rounded } from '../host.ts';
import { attribute, type Context, fail, flag, type HostCall, int, numberOf, type Operator, type Operators, plain } from '../operator.ts';
import type { HostTensor, Value } from '../values.ts';

/** One whole number of an input on the host; null if it is left out. */
function wholeOf(c: Context, i: number): number | null {
  const given = c.host(i);
  return given && (given.data.length === 1 ? given.data[0] : fail(`${c.what(i)} is [${given.shape}], one number is expected`));
}

/** cos and sin of 2π k j / length, [n, bins]. */
function tables(n: number, bins: number, length: number): { cos: Tensor; sin: Tensor } {
  bounded([n, bins]);
  const [cos, sin] = [new Float32Array(n * bins), new Float32Array(n * bins)];
  for (let j = 0; j < n; j++)
    for (let k = 0; k < bins; k++) {
      const angle = (2 * Math.PI * ((j * k) % length)) / length;
      cos[j * bins + k] = Math.cos(angle);
      sin[j * bins + k] = Math.sin(angle);
    }
  return { cos: tensor(cos, [n, bins]), sin: tensor(sin, [n, bins]) };
}

/** The transform of rows [rows, n, parts], parts being real, or real and imaginary. Returns [rows, bins, 2]. */
function transformed(c: Context, x: Tensor, length: number, isInverse: boolean, isOneSided: boolean): Tensor {
  const [rows, n, parts] = x.shape;
  const used = Math.min(n, length); // what is beyond the length is cut, what is missing is 0
  const bins = isOneSided ? Math.floor(length / 2) + 1 : length;
  c.model.budget.expect([rows, bins, 2], 2 * used);
  const { cos, sin } = tables(used, bins, length);
  const part = (k: number): Tensor => ops.reshape(ops.slice(x, [0, 0, k], [rows, used, 1]), [rows, used]);
  const sign = isInverse ? 1 : -1;
  const real = part(0);
  let [re, im] = [ops.matmul(real, cos), ops.scale(ops.matmul(real, sin), sign)];
  if (parts === 2) {
    const imaginary = part(1);
    re = ops.sub(re, ops.scale(ops.matmul(imaginary, sin), sign));
    im = ops.add(im, ops.matmul(imaginary, cos));
  }
  const out = ops.concat([ops.reshape(re, [rows, bins, 1]), ops.reshape(im, [rows, bins, 1])], 2);
  return isInverse ? ops.scale(out, 1 / length) : out;
}

function fourier(c: Context): Value {
  const x = c.plain(0);
  const parts = x.shape[x.rank - 1];
  if (x.rank < 2 || (parts !== 1 && parts !== 2)) throw new GlimpseError(`[${x.shape}] has no last axis of 1 or 2 parts`);
  const axis = normalizeAxis(c.opset >= 20 ? (wholeOf(c, 2) ?? -2) : c.number('axis', 1), x.shape, 'DFT');
  if (axis === x.rank - 1) throw new GlimpseError('the axis of the parts is not transformed');
  const length = wholeOf(c, 1) ?? x.shape[axis];
  if (!(length >= 1)) throw new GlimpseError(`a transform of length ${length}`);
  const [isInverse, isOneSided] = [c.number('inverse', 0) === 1, c.number('onesided', 0) === 1];
  if (isOneSided && (isInverse || parts === 2)) c.unsupported('onesided of an inverse, or of complex numbers');
  // The axis goes beside the parts: it and the one there change places.
  const order = x.shape.map((_, i) => (i === axis ? x.rank - 2 : i === x.rank - 2 ? axis : i));
  const moved = ops.transpose(x, order);
  const outer = moved.shape.slice(0, -2);
  const out = transformed(c, ops.reshape(moved, [sizeOf(outer), x.shape[axis], parts]), length, isInverse, isOneSided);
  return plain(ops.transpose(ops.reshape(out, [...outer, out.shape[1], 2]), order));
}

/** Transforms of frames of the signal [N, L, parts], each under the window. */
function shortTime(c: Context): Value {
  const signal = c.plain(0);
  if (signal.rank !== 3 || ![1, 2].includes(signal.shape[2])) throw new GlimpseError(`[${signal.shape}]; [N, L, 1] or [N, L, 2] is expected`);
  const [count, long, parts] = signal.shape;
  const step = wholeOf(c, 1) ?? fail('frame_step is missing');
  const window = c.has(2) ? c.plain(2) : null;
  const length = wholeOf(c, 3) ?? window?.size ?? fail('neither a window nor frame_length is given');
  if (!(step >= 1 && length >= 1 && length <= long)) throw new GlimpseError(`frames of ${length} every ${step} of a signal of ${long}`);
  if (window && window.size !== length) throw new GlimpseError(`a window of ${window.size} for frames of ${length}`);
  const frames = Math.floor((long - length) / step) + 1;
  c.model.budget.expect([count, frames, length, parts]);
  bounded([frames, length]);
  const places = Uint32Array.from({ length: frames * length }, (_, i) => Math.floor(i / length) * step + (i % length));
  const table = ops.reshape(ops.transpose(signal, [1, 0, 2]), [long, count * parts]);
  const cut = ops.reshape(ops.embedding(table, tensor(places)), [frames, length, count, parts]);
  const rows = ops.reshape(ops.transpose(cut, [2, 0, 1, 3]), [count * frames, length, parts]);
  const shaded = window ? ops.mul(rows, ops.reshape(window, [length, 1])) : rows;
  const out = transformed(c, shaded, length, false, c.number('onesided', 1) === 1);
  return plain(ops.reshape(out, [count, frames, out.shape[1], 2]));
}

/** Σ aₖ cos(2π k n / N); N is one less if the window is not periodic. */
const window = (terms: readonly number[]): Operator => ({
  inputs: [1, 1],
  attributes: { output_datatype: int, periodic: flag },
  where: [0],
  host: ({ node, inputs }: HostCall): HostTensor => {
    const size = inputs[0]?.data[0] ?? 0;
    if (!(size >= 0)) fail(`a window of ${size}`);
    const shape = bounded([size]);
    const type = ELEMENT_TYPES[numberOf(node, 'output_datatype', 1)];
    if (type?.kind !== 'float') return fail(`output_datatype ${node.attributes.get('output_datatype')}; a float type is expected`);
    const steps = numberOf(node, 'periodic', 1) === 1 ? size : size - 1;
    const at = (n: number): number => terms.reduce((sum, term, k) => sum + term * Math.cos((2 * Math.PI * k * n) / Math.max(1, steps)), 0);
    return {
      kind: 'float',
      type: type.name,
      shape,
      data: rounded(
        type,
        Float64Array.from({ length: size }, (_, n) => at(n)),
      ),
    };
  },
});

/** Triangular filters that are evenly spaced in mel: [bins of the transform, mel bins]. */
function melWeights({ node, inputs }: HostCall): HostTensor {
  const [melBins, length, rate, low, high] = inputs.map((each) => each?.data[0] ?? Number.NaN);
  if (!(melBins >= 1 && length >= 2 && rate > 0 && low >= 0 && high > low))
    fail(`${melBins} mel bins of a transform of ${length} at ${rate} Hz, ${low} to ${high} Hz`);
  const bins = Math.floor(length / 2) + 1;
  const shape = bounded([bins, melBins]);
  const type = ELEMENT_TYPES[numberOf(node, 'output_datatype', 1)];
  if (type?.kind !== 'float') return fail(`output_datatype ${node.attributes.get('output_datatype')}; a float type is expected`);
  const mel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
  const spacing = (mel(high) - mel(low)) / (melBins + 2);
  const edge = (i: number): number => Math.floor(((length + 1) * 700 * (10 ** ((i * spacing + mel(low)) / 2595) - 1)) / rate);
  const data = new Float64Array(sizeOf(shape));
  for (let m = 0; m < melBins; m++) {
    const [left, center, right] = [edge(m), edge(m + 1), edge(m + 2)];
    if (left === center) {
      if (center < bins) data[center * melBins + m] = 1;
    } else for (let k = left; k <= Math.min(center, bins - 1); k++) data[k * melBins + m] = (k - left) / (center - left);
    if (right > center) for (let k = center; k < Math.min(right, bins); k++) data[k * melBins + m] = (right - k) / (right - center);
  }
  return { kind: 'float', type: type.name, shape, data: rounded(type, data) };
}

export const SIGNAL: Operators = {
  DFT: {
    inputs: (opset) => [1, opset >= 20 ? 3 : 2],
    attributes: { axis: attribute('int', { until: 19 }), inverse: flag, onesided: flag },
    where: [1, 2],
    device: fourier,
  },
  STFT: { inputs: [2, 4], attributes: { onesided: flag }, where: [1, 3], device: shortTime },
  HannWindow: window([0.5, -0.5]),
  HammingWindow: window([25 / 46, -21 / 46]),
  BlackmanWindow: window([0.42, -0.5, 0.08]),
  MelWeightMatrix: { inputs: [5, 5], attributes: { output_datatype: int }, read: [0, 1, 2, 3, 4], host: melWeights },
};
