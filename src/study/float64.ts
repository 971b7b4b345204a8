/**
 * Every kernel of the captioner's step once more, in float64 loops over host memory: what a dispatch must have written, given what
 * its buffers held. A trace runs each dispatch here twice. On the float32 inputs that the device had, it tells the kernel's own
 * error. On float64 results all along, it tells what has gathered since the start.
 */
import type { BufferSlice } from '../gpu/pool.ts';
import type { Dispatch } from '../gpu/recorder.ts';
import { scalarParams } from '../gpu/uniforms.ts';
import type { MatmulProblem } from '../kernels/matmul.ts';
import type { AttentionStep, AttentionStepGrad, LstmStep, LstmStepGrad } from '../kernels/recurrent.ts';

/** Numbers of buffers, by their ids. Whole numbers of u32 buffers stand here as they are. */
export interface Memory {
  /** All numbers of a buffer. */
  of(buffer: BufferSlice['buffer']): Float64Array;
}

type Params = Record<string, number>;
type View = (index: number) => Float64Array;

/** The numbers of a slice, as a view: writing to it writes to the memory. */
export function numbersOf(memory: Memory, { buffer, offset, bytes }: BufferSlice): Float64Array {
  return memory.of(buffer).subarray(offset / 4, (offset + bytes) / 4);
}

const listOf = (dispatch: Dispatch, name: string): number[] => [...(dispatch.params[name] as readonly number[])];
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
/** 1 where x is above the bound, else 0; NaN for a NaN, as everywhere. */
const above = (x: number, bound: number): number => (Number.isNaN(x) ? x : x > bound ? 1 : 0);
const squashOf = (score: AttentionStep['score']) => (score === 'relu' ? (x: number) => Math.max(x, 0) : Math.tanh);
const slopeOf = (score: AttentionStep['score']) => (score === 'relu' ? (t: number) => above(t, 0) : (t: number) => 1 - t * t);

/** C = op(A) op(B) (+ bias) (ReLU) (+ C). */
function matmul(memory: Memory, p: MatmulProblem): void {
  const { m, n, k, transA = false, transB = false, batch = 1 } = p;
  const [a, b, c] = [p.a, p.b, p.c].map((slice) => numbersOf(memory, slice));
  const bias = p.bias ? numbersOf(memory, p.bias) : null;
  for (let z = 0; z < batch; z++) {
    const [a0, b0, c0] = [(p.aStart ?? 0) + z * (p.aStride ?? m * k), (p.bStart ?? 0) + z * (p.bStride ?? k * n), (p.cStart ?? 0) + z * (p.cStride ?? m * n)];
    const row = new Float64Array(n);
    for (let i = 0; i < m; i++) {
      row.fill(0);
      if (transB) {
        for (let j = 0; j < n; j++) for (let q = 0; q < k; q++) row[j] += a[a0 + (transA ? q * m + i : i * k + q)] * b[b0 + j * k + q];
      } else {
        for (let q = 0; q < k; q++) {
          const value = a[a0 + (transA ? q * m + i : i * k + q)];
          if (value !== 0) for (let j = 0; j < n; j++) row[j] += value * b[b0 + q * n + j];
        }
      }
      for (let j = 0; j < n; j++) {
        const at = c0 + i * n + j;
        const sum = row[j] + (bias ? bias[j] : 0);
        c[at] = (p.relu ? Math.max(sum, 0) : sum) + (p.addToC ? c[at] : 0);
      }
    }
  }
}

function attention(memory: Memory, p: AttentionStep): void {
  const { batch, regions: P, keysWidth: A, valuesWidth: D } = p;
  const [keys, query, v, values, context, alpha] = [p.keys, p.query, p.v, p.values, p.context, p.alpha].map((slice) => numbersOf(memory, slice));
  const squash = squashOf(p.score);
  for (let b = 0; b < batch; b++) {
    const e = new Float64Array(P);
    const q0 = (p.queryStart ?? 0) + b * A;
    for (let i = 0; i < P; i++) for (let j = 0; j < A; j++) e[i] += v[j] * squash(keys[(b * P + i) * A + j] + query[q0 + j]);
    const largest = e.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY);
    const total = e.reduce((sum, value) => sum + Math.exp(value - largest), 0);
    const [z0, a0] = [(p.contextStart ?? 0) + b * D, (p.alphaStart ?? 0) + b * P];
    context.fill(0, z0, z0 + D);
    for (let i = 0; i < P; i++) {
      alpha[a0 + i] = Math.exp(e[i] - largest) / total;
      for (let d = 0; d < D; d++) context[z0 + d] += alpha[a0 + i] * values[(b * P + i) * D + d];
    }
  }
}

/** dα = dz · a (+ dalpha); de = α (dα − Σ α dα). */
function attentionScoresGrad(memory: Memory, p: AttentionStepGrad): void {
  const { batch, regions: P, valuesWidth: D } = p;
  const [dz, values, alpha, de] = [p.dcontext, p.values, p.alpha, p.de].map((slice) => numbersOf(memory, slice));
  const more = p.dalpha ? numbersOf(memory, p.dalpha) : null;
  for (let b = 0; b < batch; b++) {
    const [z0, a0] = [(p.contextStart ?? 0) + b * D, (p.alphaStart ?? 0) + b * P];
    const d = new Float64Array(P);
    let sum = 0;
    for (let i = 0; i < P; i++) {
      if (more) d[i] = more[a0 + i];
      for (let j = 0; j < D; j++) d[i] += dz[z0 + j] * values[(b * P + i) * D + j];
      sum += alpha[a0 + i] * d[i];
    }
    for (let i = 0; i < P; i++) de[a0 + i] = alpha[a0 + i] * (d[i] - sum);
  }
}

/** dK += de v f′; dq = Σ_i of the same; dv += Σ_i de f. */
function attentionGrad(memory: Memory, p: AttentionStepGrad): void {
  const { batch, regions: P, keysWidth: A } = p;
  const [keys, query, v, de, dkeys, dquery, dv] = [p.keys, p.query, p.v, p.de, p.dkeys, p.dquery, p.dvRows].map((slice) => numbersOf(memory, slice));
  const [squash, slope] = [squashOf(p.score), slopeOf(p.score)];
  for (let b = 0; b < batch; b++) {
    const [q0, a0] = [(p.queryStart ?? 0) + b * A, (p.alphaStart ?? 0) + b * P];
    for (let j = 0; j < A; j++) {
      let dq = 0;
      for (let i = 0; i < P; i++) {
        const at = (b * P + i) * A + j;
        const t = squash(keys[at] + query[q0 + j]);
        const dk = de[a0 + i] * v[j] * slope(t);
        dkeys[at] += dk;
        dq += dk;
        dv[b * A + j] += de[a0 + i] * t;
      }
      dquery[q0 + j] = dq;
    }
  }
}

function lstmCell(memory: Memory, p: LstmStep): void {
  const { rows, hidden: H } = p;
  const [gx, gh, c, cNew, hNew] = [p.gx, p.gh, p.c, p.cNew, p.hNew].map((slice) => numbersOf(memory, slice));
  const gates = p.keepGates ? numbersOf(memory, p.gates) : null;
  for (let row = 0; row < rows; row++)
    for (let unit = 0; unit < H; unit++) {
      const [at, first] = [row * H + unit, row * 4 * H + unit];
      const sum = (which: number) => gx[(p.gxStart ?? 0) + first + which * H] + gh[(p.ghStart ?? 0) + first + which * H];
      const all = [sigmoid(sum(0)), sigmoid(sum(1)), Math.tanh(sum(2)), sigmoid(sum(3))];
      const [i, f, g, o] = all;
      const cell = f * c[at] + i * g;
      if (gates) for (const [which, value] of all.entries()) gates[(p.gatesStart ?? 0) + first + which * H] = value;
      cNew[at] = cell;
      hNew[(p.hStart ?? 0) + at] = o * Math.tanh(cell);
    }
}

function lstmCellGrad(memory: Memory, p: LstmStepGrad): void {
  const { rows, hidden: H } = p;
  const [dh, gates, c, cNew, carry, dgates] = [p.dh, p.gates, p.c, p.cNew, p.dcCarry, p.dgates].map((slice) => numbersOf(memory, slice));
  for (let row = 0; row < rows; row++)
    for (let unit = 0; unit < H; unit++) {
      const at = row * H + unit;
      const first = (p.gatesStart ?? 0) + row * 4 * H + unit;
      const [i, f, g, o] = [0, 1, 2, 3].map((which) => gates[first + which * H]);
      const squashed = Math.tanh(cNew[at]);
      const dHidden = dh[(p.dhStart ?? 0) + at];
      const dCell = carry[at] + dHidden * o * (1 - squashed * squashed);
      dgates[first] = dCell * g * i * (1 - i);
      dgates[first + H] = dCell * c[at] * f * (1 - f);
      dgates[first + 2 * H] = dCell * i * (1 - g * g);
      dgates[first + 3 * H] = dHidden * squashed * o * (1 - o);
      carry[at] = dCell * f;
    }
}

/** x [outer, n, inner] → y [outer, pieces, inner], pieces of `chunk`. */
function reduce(at: View, { outer, n, inner = 1, chunk = n, scale }: Params, kind: number): void {
  const [x, y] = [at(0), at(1)];
  const pieces = Math.ceil(n / chunk);
  for (let o = 0; o < outer; o++)
    for (let piece = 0; piece < pieces; piece++)
      for (let i = 0; i < inner; i++) {
        let acc = kind === 2 ? Number.NEGATIVE_INFINITY : kind === 3 ? Number.POSITIVE_INFINITY : 0;
        for (let j = piece * chunk; j < Math.min(n, (piece + 1) * chunk); j++) {
          const value = x[(o * n + j) * inner + i];
          acc = kind === 0 ? acc + value : kind === 1 ? acc + value * value : kind === 2 ? Math.max(acc, value) : Math.min(acc, value);
        }
        y[(o * pieces + piece) * inner + i] = acc * scale;
      }
}

function crossEntropy(at: View, { rows, n, with_gradient: withGradient, smoothing }: Params): void {
  const [x, target, weight, loss, dx] = [0, 1, 2, 3, 4].map(at);
  for (let r = 0; r < rows; r++) {
    if (withGradient) dx.fill(0, r * n, (r + 1) * n);
    loss[r] = 0;
    if (weight[r] === 0) continue;
    const row = x.subarray(r * n, (r + 1) * n);
    const largest = row.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY);
    const total = row.reduce((sum, value) => sum + Math.exp(value - largest), 0);
    const everywhere = smoothing > 0 ? (smoothing * row.reduce((sum, value) => sum + value, 0)) / n : 0; // 0 · (−∞) is no number
    loss[r] = weight[r] * (largest + Math.log(total) - (1 - smoothing) * row[target[r]] - everywhere);
    if (!withGradient) continue;
    for (let j = 0; j < n; j++) {
      const q = (j === target[r] ? 1 - smoothing : 0) + smoothing / n;
      dx[r * n + j] = weight[r] * (Math.exp(row[j] - largest) / total - q);
    }
  }
}

function contextGate(at: View, dispatch: Dispatch, p: Params): void {
  const [hidden, w, b, context, gated, beta] = [0, 1, 2, 3, 4, 5].map(at);
  for (let picture = 0; picture < dispatch.groups[0]; picture++) {
    let sum = b[0];
    for (let j = 0; j < p.hidden; j++) sum += hidden[p.hidden_start + picture * p.hidden + j] * w[j];
    beta[p.beta_start + picture] = sigmoid(sum);
    for (let d = 0; d < p.width; d++) {
      const place = p.context_start + picture * p.width + d;
      gated[place] = beta[p.beta_start + picture] * context[place];
    }
  }
}

function contextGateGrad(at: View, dispatch: Dispatch, p: Params): void {
  const [dgated, context, beta, w, dcontext, dhidden, dpre] = [0, 1, 2, 3, 4, 5, 6].map(at);
  for (let picture = 0; picture < dispatch.groups[0]; picture++) {
    const value = beta[p.beta_start + picture];
    let sum = 0;
    for (let d = 0; d < p.width; d++) {
      const row = picture * p.width + d;
      sum += dgated[row] * context[p.context_start + row];
      dcontext[p.context_start + row] = value * dgated[row];
    }
    dpre[p.beta_start + picture] = sum * value * (1 - value);
    for (let j = 0; j < p.hidden; j++) dhidden[p.hidden_start + picture * p.hidden + j] += dpre[p.beta_start + picture] * w[j];
  }
}

function stridedCopy(at: View, dispatch: Dispatch, { count, rank, from_start, to_start }: Params): void {
  const [from, to] = [at(0), at(1)];
  const [shape, fromStrides, toStrides] = ['shape', 'from_strides', 'to_strides'].map((name) => listOf(dispatch, name));
  for (let i = 0; i < count; i++) {
    let [rest, a, b] = [i, from_start, to_start];
    for (let axis = rank - 1; axis >= 0; axis--) {
      const index = rest % shape[axis];
      rest = Math.floor(rest / shape[axis]);
      a += index * fromStrides[axis];
      b += index * toStrides[axis];
    }
    to[b] = from[a];
  }
}

/** Elementwise expressions of the step, as the op table writes them, and what they mean. */
const UNARY: Readonly<Record<string, (x: number, alpha: number) => number>> = {
  'tanh(clamp(x, vec4f(-10.0), vec4f(10.0)))': Math.tanh,
  'select(vec4f(), vec4f(1.0), x > vec4f(alpha))': above,
  'x * x': (x) => x * x,
  'x * alpha': (x, alpha) => x * alpha,
  'x + alpha': (x, alpha) => x + alpha,
  '-x': (x) => -x,
};
const UNARY_GRAD: Readonly<Record<string, (x: number, y: number, dy: number, alpha: number) => number>> = {
  'dy * (1.0 - y * y)': (_x, y, dy) => dy * (1 - y * y),
  'dy * alpha': (_x, _y, dy, alpha) => dy * alpha,
  'dy * 2.0 * x': (x, _y, dy) => dy * 2 * x,
  dy: (_x, _y, dy) => dy,
  '-dy': (_x, _y, dy) => -dy,
};
const BINARY: Readonly<Record<string, (a: number, b: number) => number>> = {
  'a + b': (a, b) => a + b,
  'a - b': (a, b) => a - b,
  'a * b': (a, b) => a * b,
};

/** What a dispatch does, in float64; null for a kernel that is not part of the captioner's step. */
function evaluatorOf(dispatch: Dispatch): ((memory: Memory, at: View, params: Params) => void) | null {
  const { kernel, choice } = dispatch;
  const problem = choice?.problem;
  const { expressions = {}, constants = {} } = kernel.variant;
  switch (choice?.family ?? kernel.name) {
    case 'matmul':
      return (memory) => matmul(memory, problem as MatmulProblem);
    case 'attention':
      return (memory) => attention(memory, problem as AttentionStep);
    case 'attention_scores_grad':
      return (memory) => attentionScoresGrad(memory, problem as AttentionStepGrad);
    case 'attention_grad':
      return (memory) => attentionGrad(memory, problem as AttentionStepGrad);
    case 'lstm_cell':
      return (memory) => lstmCell(memory, problem as LstmStep);
    case 'lstm_cell_grad':
      return (memory) => lstmCellGrad(memory, problem as LstmStepGrad);
    case 'reduce':
      return (_memory, at, p) => reduce(at, p, constants.KIND);
    case 'cross_entropy':
      return (_memory, at, p) => crossEntropy(at, p);
    case 'context_gate':
      return (_memory, at, p) => contextGate(at, dispatch, p);
    case 'context_gate_grad':
      return (_memory, at, p) => contextGateGrad(at, dispatch, p);
    case 'strided_copy':
      return (_memory, at, p) => stridedCopy(at, dispatch, p);
    case 'axpby':
      return (_memory, at, { count, alpha, beta }) => {
        const [x, y] = [at(0), at(1)];
        for (let i = 0; i < count; i++) y[i] = alpha * x[i] + beta * y[i];
      };
    case 'embedding':
      return (_memory, at, { rows, width }) => {
        const [table, ids, y] = [at(0), at(1), at(2)];
        for (let r = 0; r < rows; r++) for (let j = 0; j < width; j++) y[r * width + j] = table[ids[r] * width + j];
      };
    case 'embedding_links':
      return () => {}; // only tells the next kernel in which order to add
    case 'embedding_grad':
      return (_memory, at, { rows, width }) => {
        const [dy, ids, dtable] = [at(0), at(1), at(4)];
        for (let r = 0; r < rows; r++) for (let j = 0; j < width; j++) dtable[ids[r] * width + j] += dy[r * width + j];
      };
    case 'unary': {
      const f = UNARY[expressions.f];
      return f
        ? (_memory, at, { count4, alpha }) => {
            const [x, y] = [at(0), at(1)];
            for (let i = 0; i < Math.min(4 * count4, y.length); i++) y[i] = f(x[i], alpha);
          }
        : null;
    }
    case 'unary_grad': {
      const g = UNARY_GRAD[expressions.g];
      return g
        ? (_memory, at, { count4, alpha }) => {
            const [x, y, dy, dx] = [at(0), at(1), at(2), at(3)];
            for (let i = 0; i < Math.min(4 * count4, dx.length); i++) dx[i] = g(x[i], y[i], dy[i], alpha);
          }
        : null;
    }
    case 'binary': {
      const f = BINARY[expressions.f];
      return f
        ? (_memory, at, { count4 }) => {
            const [a, b, c] = [at(0), at(1), at(2)];
            for (let i = 0; i < Math.min(4 * count4, c.length); i++) c[i] = f(a[i], b[i]);
          }
        : null;
    }
    case 'rows_to_fours':
      return (_memory, at, p) => rowsToFours(at, p);
    case 'rows_from_fours':
      return (_memory, at, p) => rowsFromFours(at, p);
    case 'column_panels':
      return () => {}; // another order of the same weights; the product reads them where they were
    default:
      return null;
  }
}

function rowsToFours(at: (index: number) => Float64Array, p: Record<string, number>): void {
  const [x, y] = [at(0), at(1)];
  const width = 4 * p.out_columns;
  for (let i = 0; i < 4 * p.count; i++) {
    const [column, r, z] = [i % width, Math.floor(i / width) % p.out_rows, Math.floor(i / width / p.out_rows)];
    y[i] = r < p.rows && column < p.columns ? x[p.start + z * p.stride + r * p.columns + column] : 0;
  }
}

function rowsFromFours(at: (index: number) => Float64Array, p: Record<string, number>): void {
  const [x, bias, c] = [at(0), at(1), at(2)];
  const width = 4 * p.in_columns;
  for (let i = 0; i < 4 * p.count; i++) {
    const [column, r, z] = [i % width, Math.floor(i / width) % p.rows, Math.floor(i / width / p.rows)];
    if (column >= p.columns) continue;
    const place = p.start + z * p.stride + r * p.columns + column;
    const value = x[(z * p.in_rows + r) * width + column] + (p.has_bias ? bias[column] : 0);
    c[place] = (p.relu ? Math.max(value, 0) : value) + (p.add_to_c ? c[place] : 0);
  }
}

/** Runs a dispatch in float64 on a memory. False for a kernel that is not known here. */
export function runInFloat64(dispatch: Dispatch, memory: Memory): boolean {
  const evaluate = evaluatorOf(dispatch);
  if (!evaluate) return false;
  evaluate(memory, (index) => numbersOf(memory, dispatch.slices[index]), scalarParams(dispatch.params));
  return true;
}
