/**
 * What a timed run must have written, in float64. Layouts are those of work.ts. Every element is compared, and takes about a second
 * at most, which is little beside the timing. Sizes for real GPUs would take minutes: of them, whole rows are computed.
 */
import { type Op, reference } from '../src/autograd/op.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { adamOp } from '../src/autograd/ops/optimizer.ts';
import { additiveAttentionOp, lstmCellOp } from '../src/autograd/ops/recurrent.ts';
import { placeOf } from '../src/tensor/shape.ts';
import {
  ADAM,
  adamInputs,
  attentionInputs,
  type ConvShape,
  cellInputs,
  convInputs,
  dotProductInputs,
  type InputSet,
  matmulInputs,
  opInputs,
  outSize,
  rowInputs,
  softmaxGradInputs,
  type Work,
} from './work.ts';

export interface Expected {
  /** Of the result's rows, or of those of `rows`, one behind the other. */
  values: ArrayLike<number>;
  shape: readonly number[];
  /** The rows that were computed, along the first axis; without it, all. */
  rows?: readonly number[];
  /** Largest error allowed, as a share of the largest number. */
  tolerance: number;
  /** What the values come from. */
  against: string;
}

/** How a result compared with what it must be. */
export interface Check {
  against: string;
  /** How many numbers or words were compared. */
  checked: number;
  /** The largest error, as a share of the largest number. */
  maxError: number;
  /** Null for a result that is right; else what is wrong with it, beginning with "is off" or the like. */
  wrong: string | null;
}

/** What float32 sums may be off by. */
const SUMS = 1e-4;
/** The largest number of this gradient is 1 − p of a target, a thousand times the others: they too must be right. */
const CROSS_ENTROPY = 1e-6;

/** Multiply-adds from which only some rows are computed. */
const MOST = 2 ** 30;

/** All rows if that takes no more than MOST multiply-adds; else as many as do, from the first to the last. Null for all. */
function rowsToCheck(rows: number, multiplyAdds: number): number[] | null {
  if (multiplyAdds <= MOST) return null;
  const count = Math.max(2, Math.floor((rows * MOST) / multiplyAdds));
  return Array.from({ length: count }, (_, i) => Math.round((i * (rows - 1)) / (count - 1)));
}

/** c [m, n] = a [m, k] · b [k, n], four rows of b at a time, so that c is read and written a quarter as often. */
function product(a: Float64Array, b: Float64Array, m: number, k: number, n: number): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    const row = c.subarray(i * n, (i + 1) * n);
    let p = 0;
    for (; p + 4 <= k; p += 4) {
      const [at, b0] = [i * k + p, p * n];
      const [b1, b2, b3] = [b0 + n, b0 + 2 * n, b0 + 3 * n];
      const [a0, a1, a2, a3] = [a[at], a[at + 1], a[at + 2], a[at + 3]];
      for (let j = 0; j < n; j++) row[j] += a0 * b[b0 + j] + a1 * b[b1 + j] + a2 * b[b2 + j] + a3 * b[b3 + j];
    }
    for (; p < k; p++) for (let j = 0; j < n; j++) row[j] += a[i * k + p] * b[p * n + j];
  }
  return c;
}

function transposed(a: Float64Array, rows: number, columns: number): Float64Array {
  const t = new Float64Array(a.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) t[j * rows + i] = a[i * columns + j];
  return t;
}

/** Calls `visit` for every tap that meets a pixel: its place in the columns [C · K · K, OH · OW], and in a picture [C, H, W]. */
function forTaps({ channels, height, width, kernel, stride, pad, ...rest }: ConvShape, visit: (column: number, pixel: number) => void): void {
  const [oh, ow] = [height, width].map((size) => outSize(size, { channels, height, width, kernel, stride, pad, ...rest }));
  for (let c = 0; c < channels; c++)
    for (let ky = 0; ky < kernel; ky++)
      for (let kx = 0; kx < kernel; kx++)
        for (let oy = 0; oy < oh; oy++)
          for (let ox = 0; ox < ow; ox++) {
            const [y, x] = [oy * stride + ky - pad, ox * stride + kx - pad];
            if (y < 0 || x < 0 || y >= height || x >= width) continue;
            visit((((c * kernel + ky) * kernel + kx) * oh + oy) * ow + ox, (c * height + y) * width + x);
          }
}

function convolution(kind: 'conv' | 'convGradInput' | 'convGradWeight', s: ConvShape, set: InputSet): Omit<Expected, 'against'> {
  const [oh, ow] = [outSize(s.height, s), outSize(s.width, s)];
  const [pixels, places, taps] = [s.channels * s.height * s.width, oh * ow, s.channels * s.kernel ** 2];
  const inputs = convInputs(s, set);
  const [x, w, dy] = [inputs.x, inputs.w, inputs.dy].map((values) => new Float64Array(values));
  const shapes = {
    conv: [s.images, s.outChannels, oh, ow],
    convGradInput: [s.images, s.channels, s.height, s.width],
    convGradWeight: [s.outChannels, s.channels, s.kernel, s.kernel],
  };
  const shape = shapes[kind];
  const rows = kind === 'convGradWeight' ? null : rowsToCheck(s.images, s.images * s.outChannels * taps * places);
  const size = shape.slice(1).reduce((product, extent) => product * extent, 1);
  const values = new Float64Array((rows?.length ?? shape[0]) * size);
  for (const [i, n] of (rows ?? Array.from({ length: s.images }, (_, each) => each)).entries()) {
    const picture = x.subarray(n * pixels, (n + 1) * pixels);
    const gradient = dy.subarray(n * s.outChannels * places, (n + 1) * s.outChannels * places);
    if (kind === 'convGradInput') {
      const columns = product(transposed(w, s.outChannels, taps), gradient, taps, s.outChannels, places);
      forTaps(s, (column, pixel) => {
        values[i * pixels + pixel] += columns[column];
      });
      continue;
    }
    const columns = new Float64Array(taps * places);
    forTaps(s, (column, pixel) => {
      columns[column] = picture[pixel];
    });
    if (kind === 'conv') values.set(product(w, columns, s.outChannels, taps, places), i * s.outChannels * places);
    else {
      const part = product(gradient, transposed(columns, taps, places), s.outChannels, places, taps);
      for (let j = 0; j < part.length; j++) values[j] += part[j];
    }
  }
  return { values, shape, tolerance: SUMS, ...(rows ? { rows } : {}) };
}

/** softmax, or the gradient of the summed cross-entropy: softmax − 1 at the target. */
function rowWise(work: Extract<Work, { kind: 'softmax' | 'crossEntropyGrad' }>, set: InputSet): Omit<Expected, 'against'> {
  const { rows, columns } = work;
  const { x, targets } = rowInputs(work, set);
  const values = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    const row = x.subarray(r * columns, (r + 1) * columns);
    const largest = row.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY);
    let sum = 0;
    for (let j = 0; j < columns; j++) sum += values[r * columns + j] = Math.exp(row[j] - largest);
    for (let j = 0; j < columns; j++) values[r * columns + j] /= sum;
    if (work.kind === 'crossEntropyGrad') values[r * columns + targets[r]] -= 1;
  }
  return { values, shape: [rows, columns], tolerance: work.kind === 'softmax' ? SUMS : CROSS_ENTROPY };
}

function matrixProduct(work: Extract<Work, { kind: 'matmul' }>, set: InputSet): Omit<Expected, 'against'> {
  const { m, n, k, transA, transB } = work;
  const inputs = matmulInputs(work, set);
  const [stored, b] = [new Float64Array(inputs.a), new Float64Array(inputs.b)];
  const whole = transA ? transposed(stored, k, m) : stored;
  const rows = rowsToCheck(m, m * n * k);
  const a = rows ? Float64Array.from({ length: rows.length * k }, (_, i) => whole[rows[Math.floor(i / k)] * k + (i % k)]) : whole;
  const values = product(a, transB ? transposed(b, n, k) : b, rows?.length ?? m, k, n);
  return { values, shape: [m, n], tolerance: SUMS, ...(rows ? { rows } : {}) };
}

const asReference = (data: Float32Array, ...shape: number[]) => reference(shape, (i) => data[i]);

/** Results one behind the other, as the engines give them. */
function joined(parts: readonly ArrayLike<number>[]): Omit<Expected, 'against'> {
  const values = Float64Array.from(parts.flatMap((part) => Array.from(part)));
  return { values, shape: [values.length], tolerance: SUMS };
}

/** [h′, c′], or for the gradient [d(gx), dc]: lstm_cell_grad.wgsl has the equations. */
function cell(work: Extract<Work, { kind: 'lstmCell' | 'lstmCellGrad' }>, set: InputSet): Omit<Expected, 'against'> {
  const { rows, hidden } = work;
  const { gx, gh, c, dh, dc } = cellInputs(work, set);
  const [hNew, cNew] = lstmCellOp.reference([asReference(gx, rows, 4 * hidden), asReference(gh, rows, 4 * hidden), asReference(c, rows, hidden)], null);
  if (work.kind === 'lstmCell') return joined([hNew.data, cNew.data]);
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const dgates = new Float64Array(4 * rows * hidden);
  const carry = new Float64Array(rows * hidden);
  for (let row = 0; row < rows; row++)
    for (let unit = 0; unit < hidden; unit++) {
      const [at, first] = [row * hidden + unit, row * 4 * hidden + unit];
      const gate = (which: number) => gx[first + which * hidden] + gh[first + which * hidden];
      const [i, f, g, o] = [sigmoid(gate(0)), sigmoid(gate(1)), Math.tanh(gate(2)), sigmoid(gate(3))];
      const squashed = Math.tanh(cNew.data[at]);
      const dCell = dc[at] + dh[at] * o * (1 - squashed * squashed);
      [dCell * g * i * (1 - i), dCell * c[at] * f * (1 - f), dCell * i * (1 - g * g), dh[at] * squashed * o * (1 - o)].forEach((value, which) => {
        dgates[first + which * hidden] = value;
      });
      carry[at] = dCell * f;
    }
  return joined([dgates, carry]);
}

/** [context, α], or for the gradient [dkeys, dquery, dv by picture]: the two shaders of the gradient have the equations. */
function attention(work: Extract<Work, { kind: 'attention' | 'attentionGrad' }>, set: InputSet): Omit<Expected, 'against'> {
  const { batch, regions, keys: a, values: d } = work;
  const { keys, query, v, values, dcontext } = attentionInputs(work, set);
  const inputs = [asReference(keys, batch, regions, a), asReference(query, batch, a), asReference(v, a), asReference(values, batch, regions, d)];
  const [context, alpha] = additiveAttentionOp.reference(inputs, { score: 'tanh' });
  if (work.kind === 'attention') return joined([context.data, alpha.data]);
  const [dkeys, dquery, dv] = [new Float64Array(batch * regions * a), new Float64Array(batch * a), new Float64Array(batch * a)];
  for (let b = 0; b < batch; b++) {
    const dalpha = Array.from({ length: regions }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < d; j++) sum += dcontext[b * d + j] * values[(b * regions + i) * d + j];
      return sum;
    });
    const mean = dalpha.reduce((sum, value, i) => sum + alpha.data[b * regions + i] * value, 0);
    for (let i = 0; i < regions; i++) {
      const de = alpha.data[b * regions + i] * (dalpha[i] - mean);
      for (let j = 0; j < a; j++) {
        const t = Math.tanh(keys[(b * regions + i) * a + j] + query[b * a + j]);
        const dk = de * v[j] * (1 - t * t);
        dkeys[(b * regions + i) * a + j] = dk;
        dquery[b * a + j] += dk;
        dv[b * a + j] += de * t;
      }
    }
  }
  return joined([dkeys, dquery, dv]);
}

/** [p, m, v] after one update. */
function adam(work: Extract<Work, { kind: 'adam' }>, set: InputSet): Omit<Expected, 'against'> {
  const { p, g, m, v } = adamInputs(work, set);
  const inputs = [...[p, g, m, v].map((values) => asReference(values, work.count)), reference([1], () => 1)];
  const settings = { ...ADAM, weightDecay: 0, decoupled: false, maxNorm: 0 };
  return joined(adamOp.reference(inputs, settings).map(({ data }) => data));
}

/** dx = dy − exp(y) Σ dy, row by row. */
function softmaxGradient(work: Extract<Work, { kind: 'softmaxGrad' }>, set: InputSet): Omit<Expected, 'against'> {
  const { rows, columns } = work;
  const { y, dy } = softmaxGradInputs(work, set);
  const values = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    let sum = 0;
    for (let j = 0; j < columns; j++) sum += dy[r * columns + j];
    for (let j = 0; j < columns; j++) values[r * columns + j] = dy[r * columns + j] - Math.exp(y[r * columns + j]) * sum;
  }
  return { values, shape: [rows, columns], tolerance: SUMS };
}

/** p = exp(s − m) / l and ds = p (dy · v − Δ), with m, 1 / l and Δ as given; dq = scale ds k, or dk = scale dsᵀ q and dv = pᵀ dy. */
function dotProductGradient(work: Extract<Work, { kind: 'scaledDotProductGrad' }>, set: InputSet): Omit<Expected, 'against'> {
  const { batch, heads, queries, keys, width } = work;
  const { q, k, v, dy, rows } = dotProductInputs(work, set);
  const scale = 1 / Math.sqrt(width);
  const [dq, dk, dv] = [queries, keys, keys].map((count) => new Float64Array(batch * heads * count * width));
  for (let z = 0; z < batch * heads; z++)
    for (let i = 0; i < queries; i++)
      for (let j = 0; j < keys; j++) {
        const [row, key] = [(z * queries + i) * width, (z * keys + j) * width];
        let [s, dp] = [0, 0];
        for (let d = 0; d < width; d++) {
          s += scale * q[row + d] * k[key + d];
          dp += dy[row + d] * v[key + d];
        }
        const [most, inverse, delta] = rows.subarray(4 * (z * queries + i));
        const p = Math.exp(s - most) * inverse;
        const ds = scale * p * (dp - delta);
        for (let d = 0; d < width; d++) {
          dq[row + d] += ds * k[key + d];
          dk[key + d] += ds * q[row + d];
          dv[key + d] += p * dy[row + d];
        }
      }
  return joined(work.of === 'query' ? [dq] : [dk, dv]);
}

function ofOp(work: Extract<Work, { kind: 'op' }>, set: InputSet): Omit<Expected, 'against'> {
  const op = OPS.find(({ name }) => name === work.op) as Op;
  const inputs = opInputs(work, set).map((values, i) => asReference(values, ...work.shapes[i]));
  return joined(op.reference(inputs, work.attrs).map(({ data }) => data));
}

/** Null for whole models, which no formula gives. */
export function expectedResult(work: Work, set: InputSet): Expected | null {
  switch (work.kind) {
    case 'matmul':
      return { ...matrixProduct(work, set), against: 'float64' };
    case 'conv':
    case 'convGradInput':
    case 'convGradWeight':
      return { ...convolution(work.kind, work, set), against: 'float64' };
    case 'softmax':
    case 'crossEntropyGrad':
      return { ...rowWise(work, set), against: 'float64' };
    case 'lstmCell':
    case 'lstmCellGrad':
      return { ...cell(work, set), against: 'float64' };
    case 'attention':
    case 'attentionGrad':
      return { ...attention(work, set), against: 'float64' };
    case 'adam':
      return { ...adam(work, set), against: 'float64' };
    case 'softmaxGrad':
      return { ...softmaxGradient(work, set), against: 'float64' };
    case 'scaledDotProductGrad':
      return { ...dotProductGradient(work, set), against: 'float64' };
    case 'op':
      return { ...ofOp(work, set), against: 'float64' };
    default:
      return null;
  }
}

/** Compares every element that was computed. */
export function compare(got: ArrayLike<number>, { values, shape, rows, tolerance, against }: Expected): Check {
  const checked = values.length;
  const size = shape.reduce((product, extent) => product * extent, 1);
  if (got.length !== size) return { against, checked, maxError: Number.POSITIVE_INFINITY, wrong: `has ${got.length} numbers, not ${size}` };
  const width = size / (shape[0] ?? 1);
  /** Where the result has element i of the values. */
  const placed = (i: number) => (rows ? rows[Math.floor(i / width)] * width + (i % width) : i);
  let largest = 0;
  for (let i = 0; i < checked; i++) largest = Math.max(largest, Math.abs(values[i]));
  let [worst, count, first] = [0, 0, 0];
  for (let i = 0; i < checked; i++) {
    const difference = Math.abs(got[placed(i)] - values[i]);
    const error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (error > worst) worst = error;
    if (!(error <= tolerance * largest) && count++ === 0) first = i; // not >, for a reference of NaN allows nothing
  }
  const maxError = worst / (largest || 1);
  const wrong =
    count === 0
      ? null
      : `is off by ${maxError.toExponential(1)} of its largest number: ${count} of ${checked} numbers differ from ${against} by more than ${tolerance} of it, ` +
        `the first at [${placeOf(placed(first), shape).join(', ')}] of [${shape.join(', ')}], where ${got[placed(first)]} came and ${values[first]} must come`;
  return { against, checked, maxError, wrong };
}
