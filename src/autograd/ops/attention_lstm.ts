/**
 * The recurrent heart of the captioner as one op: attention, the optional gate, LSTM 1 on the context, LSTM 2, at every step.
 *
 * Forward, t = 1 … T. The state s makes the query: it is h2 or h1, by the attribute `query`. `score` puts ReLU in tanh's place.
 *
 *   q_t = s_{t−1} W2 + b2;   m_i = K_i + q_t;   u_i = tanh m_i;   α_t = softmax_i(vᵀ u_i);   z_t = Σ_i α_t,i a_i
 *   β_t = σ(s_{t−1} · w_g + b_g);   ẑ_t = β_t z_t                                     with `gate`, else ẑ_t = z_t
 *   p_t = xe_t + ẑ_t Wz + h1_{t−1} U1;          h1_t, c1_t = cell(p_t, c1_{t−1})
 *   r_t = h1_t W + b + h2_{t−1} U2;             h2_t, c2_t = cell(r_t, c2_{t−1})
 *   cell, with [i|f|g|o] = (σ|σ|tanh|σ) of p:   c_t = f c_{t−1} + i g;   h_t = o tanh c_t
 *
 * What does not depend on a state is computed outside, for all steps at once: the keys K [B, P, A] and xe [T, B, 4H]. xe is what
 * the embedded words add to the gates of LSTM 1, its bias included. The op returns h2, α, ẑ, h1, c1 and c2 of all steps.
 *
 * Packed rows. Captions differ in length. With `active`, the rows are sorted by length, and step t computes the first active[t] of
 * them only: those that go on. xe and the results are [R, ·] then, the rows of step 1, those of step 2 and so on, R = Σ active. Padding
 * costs nothing so. cuDNN packs sequences in the same way. Without `active` each step has B rows, and [R, ·] is [T, B, ·].
 *
 * Backward, t = T … 1. dh2, dẑ and dα begin with the gradients from outside, where there are any; all else begins with 0. The
 * cells' gradients dc1 and dc2 [B, H] are carried from step to step.
 *
 *   LSTM 2     dc2 += dh2_t o (1 − tanh² c2_t)
 *              dr_t = [dc2 g i(1 − i) | dc2 c2_{t−1} f(1 − f) | dc2 i (1 − g²) | dh2_t tanh(c2_t) o(1 − o)];   dc2 ← dc2 f
 *              dh1_t += dr_t Wᵀ;   dh2_{t−1} += dr_t U2ᵀ
 *   LSTM 1     dp_t and dc1 in the same way from dh1_t, which is complete now
 *              dh1_{t−1} += dp_t U1ᵀ;   dẑ_t += dp_t Wzᵀ
 *   gate       dπ_t = (dẑ_t · z_t) β_t(1 − β_t);   dz_t = β_t dẑ_t;   ds_{t−1} += dπ_t w_g
 *   attention  dα_i += dz_t · a_i;   de_i = α_i (dα_i − Σ_j α_j dα_j);   dm_i = de_i v (1 − u_i²), for ReLU de_i v where u_i > 0
 *              dK_i += dm_i;   dv += Σ_i de_i u_i;   dq_t = Σ_i dm_i;   ds_{t−1} += dq_t W2ᵀ
 *
 * What must be sequential. dr_t needs dh2_t, which needs dr_{t+1} and, for the query h2, dq_{t+1}. dq_t needs dz_t, which needs
 * dp_t, which needs dr_t. So the five products with Wᵀ, U2ᵀ, U1ᵀ, Wzᵀ and W2ᵀ run at every step, with B rows each. The same holds
 * of the five forward products: h2_t needs h1_t, which needs ẑ_t, which needs q_t, which needs s_{t−1}.
 *
 * What can wait. The gradient of a weight is a sum over the steps, and no step reads it. After the loop it is one product,
 * because stacking the steps makes the sum over t part of the sum over the inner dimension:
 *
 *   dU1 = Σ_t h1_{t−1}ᵀ dp_t = [h1_0; …; h1_{T−1}]ᵀ [dp_1; …; dp_T]           [H, R] × [R, 4H], K = R
 *   dWz = ẑᵀ dp;   dW = h1ᵀ dr;   dU2 = h2₋₁ᵀ dr;   dW2 = s₋₁ᵀ dq;   dw_g = s₋₁ᵀ dπ           (₋₁: the states one step earlier)
 *   db, db2, db_g are the sums over the R rows of dr, dq, dπ;   dxe = dp
 *   da_i = Σ_t α_t,i dz_t, one product per picture with K = T
 *
 * A product at every step would have K = B. It would read and write the whole weight gradient T times, for B multiply-adds an
 * element each time. Sequences are time-major, so h_t is stacked as it stands. h_{t−1} of the rows that go on is copied, once.
 *
 * Kept from the forward pass: q, z, ẑ, β, α, the gates i, f, g, o of both cells, all h and c. Computed again: tanh c_t, and
 * u [T, B, P, A], which would take P times the memory of q. dK and dv are summed in the loop, because u is not kept.
 */
import { ShapeError } from '../../errors.ts';
import { stridedCopy } from '../../kernels/elementwise.ts';
import { type MatmulProblem, matmul as matmulKernel } from '../../kernels/matmul.ts';
import { additiveAttention, additiveAttentionGrad, contextGate, contextGateGrad, lstmCell, lstmCellGrad, type Score } from '../../kernels/recurrent.ts';
import { reduce } from '../../kernels/reduce.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor, zeros } from '../../tensor/tensor.ts';
import { type BackwardContext, type Op, type Reference, reference, type Thunk } from '../op.ts';
import { apply } from '../tape.ts';
import { additiveAttentionOp, lstmCellOp } from './recurrent.ts';

/** How the recurrent loop attends. */
export interface AttentionLstmAttrs {
  /** A scalar gate on the context; the inputs `gateW` and `gateB` are read only then. */
  gate: boolean;
  score: Score;
  /** Whose state before the step makes the query. */
  query: 'h1' | 'h2';
  /** Rows that each step computes, the first ones: B at the first step, and never more than at the step before. Null: B at each. */
  active: readonly number[] | null;
}

const NAMES = [
  'values',
  'keys',
  'xe',
  'w2',
  'b2',
  'v',
  'wz',
  'u1',
  'lstm2W',
  'lstm2U',
  'lstm2B',
  'h1Start',
  'c1Start',
  'h2Start',
  'c2Start',
  'gateW',
  'gateB',
] as const;
/** The inputs of `attentionLstm` by name; their shapes stand with the op. */
export type AttentionLstmInputs = Record<Exclude<(typeof NAMES)[number], 'gateW' | 'gateB'>, Tensor> & { gateW?: Tensor; gateB?: Tensor };

interface Sizes {
  steps: number;
  batch: number;
  /** Rows of each step, and how many rows the steps before it have. */
  active: readonly number[];
  places: readonly number[];
  /** R = Σ active. */
  rows: number;
  regions: number;
  /** Widths: D of values, A of keys, H of the states. */
  d: number;
  a: number;
  h: number;
}

function sizes(shapes: readonly Shape[], { gate, active: packed }: AttentionLstmAttrs): Sizes {
  const [values, keys, xe, , , , wz] = shapes;
  const [batch, regions, d] = values;
  const a = keys[2];
  const h = wz[1] / 4;
  if (packed && (packed[0] !== batch || !packed.every((count, t) => Number.isInteger(count) && count > 0 && count <= (packed[t - 1] ?? batch))))
    throw new ShapeError(`attentionLstm: the active rows are [${packed}], expected ${batch} at the first step and never more than at the step before`);
  const active = packed ?? new Array<number>(xe[0]).fill(batch);
  const places: number[] = [];
  let rows = 0;
  for (const count of active) {
    places.push(rows);
    rows += count;
  }
  const expected: Shape[] = [
    [batch, regions, d],
    [batch, regions, a],
    packed ? [rows, 4 * h] : [xe[0], batch, 4 * h],
    [h, a],
    [a],
    [a],
    [d, 4 * h],
    [h, 4 * h],
    [h, 4 * h],
    [h, 4 * h],
    [4 * h],
    [batch, h],
    [batch, h],
    [batch, h],
    [batch, h],
  ];
  if (gate) expected.push([h], [1]);
  if (shapes.length !== expected.length) throw new ShapeError(`attentionLstm: ${expected.length} inputs are expected, got ${shapes.length}`);
  expected.forEach((shape, i) => {
    if (sizeOf(shape) !== sizeOf(shapes[i])) throw new ShapeError(`attentionLstm: ${NAMES[i]} is [${shapes[i]}], expected [${shape}]`);
  });
  return { steps: active.length, batch, active, places, rows, regions, d, a, h };
}

/** Scratch of the forward pass; all of it is what the backward pass reads. */
interface States {
  q: Tensor;
  z: Tensor;
  gated: Tensor;
  beta: Tensor;
  gates1: Tensor;
  gates2: Tensor;
}

/** A cell reads one slot and writes the next, which WebGPU allows only in different buffers: a tensor per slot. */
const cellName = (layer: 1 | 2, slot: number) => `c${layer}.${slot}`;

/** Labels of the loop's commands: the equation of the file's head that a command computes, and its step. Profiles and traces show them. */
function namer(gradient: boolean, { steps, batch }: Sizes): (equation: string, t?: number) => string {
  const op = `${gradient ? 'gradient of ' : ''}attentionLstm [${steps},${batch}]`;
  return (equation, t) => `${op}: ${equation}${t === undefined ? '' : `, t = ${t + 1}`}`;
}

function forward({ gpu, inputs, outputs, attrs, label, training, save }: Parameters<Op<AttentionLstmAttrs>['forward']>[0]): void {
  const named = Object.fromEntries(NAMES.map((name, i) => [name, inputs[i]])) as unknown as AttentionLstmInputs;
  const extents = sizes(
    inputs.map((t) => t.shape),
    attrs,
  );
  const { steps, batch, active, places, rows, regions, d, a, h } = extents;
  const at = namer(false, extents);
  const make = (...shape: number[]) => empty(shape, 'f32', label, gpu);
  const [h2, alpha, contextOut, h1, c1Out, c2Out] = outputs;
  const s: States = {
    q: make(rows, a),
    z: attrs.gate ? make(rows, d) : contextOut.alias(),
    gated: contextOut.alias(),
    beta: make(rows),
    gates1: make(training ? rows : batch, 4 * h),
    gates2: make(training ? rows : batch, 4 * h),
  };
  const cells = { 1: [named.c1Start.alias()], 2: [named.c2Start.alias()] };
  for (let t = 0; t < steps; t++) for (const layer of [1, 2] as const) cells[layer].push(make(active[t], h));
  const sum1 = make(batch, 4 * h);
  const sum2 = make(batch, 4 * h);
  const sum2h = make(batch, 4 * h);
  for (let t = 0; t < steps; t++) {
    const count = active[t];
    const place = places[t];
    // States before the step: those of the step before, of which the first rows go on.
    const from = t === 0 ? 0 : places[t - 1] * h;
    const h1Before = t === 0 ? named.h1Start.slice : h1.slice;
    const h2Before = t === 0 ? named.h2Start.slice : h2.slice;
    const asking = attrs.query === 'h1' ? h1Before : h2Before;
    const product = (equation: string, p: Omit<MatmulProblem, 'm' | 'label'>) => matmulKernel(gpu, { m: count, label: at(equation, t), ...p });
    product('q = s W2 + b2', { a: asking, aStart: from, b: named.w2.slice, bias: named.b2.slice, c: s.q.slice, cStart: place * a, n: a, k: h });
    additiveAttention(
      gpu,
      {
        keys: named.keys.slice,
        query: s.q.slice,
        v: named.v.slice,
        values: named.values.slice,
        context: s.z.slice,
        alpha: alpha.slice,
        ...{ batch: count, regions, keysWidth: a, valuesWidth: d, score: attrs.score },
        queryStart: place * a,
        contextStart: place * d,
        alphaStart: place * regions,
      },
      at('α = softmax(vᵀ f(K + q)), z = Σ α a', t),
    );
    if (attrs.gate && named.gateW && named.gateB) {
      const gate = { hidden: asking, w: named.gateW.slice, b: named.gateB.slice, context: s.z.slice, gated: s.gated.slice, beta: s.beta.slice };
      contextGate(
        gpu,
        { ...gate, batch: count, hiddenWidth: h, width: d, hiddenStart: from, contextStart: place * d, betaStart: place },
        at('β = σ(s w + b), ẑ = β z', t),
      );
    }
    product('p = ẑ Wz', { a: s.gated.slice, aStart: place * d, b: named.wz.slice, c: sum1.slice, n: 4 * h, k: d });
    product('p += h1 U1', { a: h1Before, aStart: from, b: named.u1.slice, c: sum1.slice, n: 4 * h, k: h, addToC: true });
    const cell = { rows: count, hidden: h, hStart: place * h, gatesStart: training ? 4 * place * h : 0, keepGates: training };
    lstmCell(
      gpu,
      {
        gx: named.xe.slice,
        gxStart: 4 * place * h,
        gh: sum1.slice,
        c: cells[1][t].slice,
        gates: s.gates1.slice,
        cNew: cells[1][t + 1].slice,
        hNew: h1.slice,
        ...cell,
      },
      at('h1, c1 = cell(xe + p, c1)', t),
    );
    product('r = h1 W + b', { a: h1.slice, aStart: place * h, b: named.lstm2W.slice, bias: named.lstm2B.slice, c: sum2.slice, n: 4 * h, k: h });
    product('r2 = h2 U2', { a: h2Before, aStart: from, b: named.lstm2U.slice, c: sum2h.slice, n: 4 * h, k: h });
    lstmCell(
      gpu,
      { gx: sum2.slice, gh: sum2h.slice, c: cells[2][t].slice, gates: s.gates2.slice, cNew: cells[2][t + 1].slice, hNew: h2.slice, ...cell },
      at('h2, c2 = cell(r + r2, c2)', t),
    );
    gpu.copy(cells[1][t + 1].slice, c1Out.slice, count * h * 4, 0, place * h * 4);
    gpu.copy(cells[2][t + 1].slice, c2Out.slice, count * h * 4, 0, place * h * 4);
  }
  for (const temporary of [sum1, sum2, sum2h]) temporary.dispose();
  for (const [name, tensor] of Object.entries(s)) save(name, tensor);
  for (const layer of [1, 2] as const) for (const [slot, cell] of cells[layer].entries()) save(cellName(layer, slot), cell);
}

function gradients({ gpu, attrs, saved, grads, flowed, inputShapes, label }: BackwardContext<AttentionLstmAttrs>): Record<string, Tensor> {
  const extents = sizes(inputShapes, attrs);
  const { steps, batch, active, places, rows, regions, d, a, h } = extents;
  const at = namer(true, extents);
  const s = saved as unknown as States & Record<(typeof NAMES)[number] | 'alpha' | 'h1' | 'h2', Tensor>;
  const make = (...shape: number[]) => empty(shape, 'f32', label, gpu);
  // Gradients of the states, those of the start first: what flows in from outside, then what each step adds.
  const dh1 = zeros([batch + rows, h]);
  const dh2 = zeros([batch + rows, h]);
  if (flowed[0]) gpu.copy(grads[0].slice, dh2.slice, rows * h * 4, 0, batch * h * 4);
  const dc1 = zeros([batch, h]);
  const dc2 = zeros([batch, h]);
  const dgates1 = make(rows, 4 * h);
  const dgates2 = make(rows, 4 * h);
  const dq = make(rows, a);
  const dz = make(rows, d);
  const ofContext = flowed[2]; // a gradient of the context from outside: each step adds to it
  if (ofContext && !attrs.gate) gpu.copy(grads[2].slice, dz.slice, rows * d * 4);
  const dgated = make(batch, d);
  const dasking = attrs.query === 'h1' ? dh1 : dh2;
  const dpre = make(rows);
  const de = make(rows, regions);
  const dkeys = zeros([batch, regions, a]);
  const dvRows = zeros([batch, a]);
  for (let t = steps - 1; t >= 0; t--) {
    const count = active[t];
    const place = places[t];
    const own = (batch + place) * h; // where the gradients of the states after the step are, and those before it
    const before = t === 0 ? 0 : (batch + places[t - 1]) * h;
    const product = (equation: string, p: Omit<MatmulProblem, 'm' | 'label'>) => matmulKernel(gpu, { m: count, label: at(equation, t), ...p });
    const cell = { rows: count, hidden: h, dhStart: own, gatesStart: 4 * place * h };
    const gatesAt = { aStart: 4 * place * h, k: 4 * h, transB: true, addToC: true };
    lstmCellGrad(
      gpu,
      {
        dh: dh2.slice,
        gates: s.gates2.slice,
        c: saved[cellName(2, t)].slice,
        cNew: saved[cellName(2, t + 1)].slice,
        dcCarry: dc2.slice,
        dgates: dgates2.slice,
        ...cell,
      },
      at('dr, dc2', t),
    );
    product('dh1 += dr Wᵀ', { a: dgates2.slice, ...gatesAt, b: s.lstm2W.slice, c: dh1.slice, cStart: own, n: h });
    product('dh2 += dr U2ᵀ', { a: dgates2.slice, ...gatesAt, b: s.lstm2U.slice, c: dh2.slice, cStart: before, n: h });
    lstmCellGrad(
      gpu,
      {
        dh: dh1.slice,
        gates: s.gates1.slice,
        c: saved[cellName(1, t)].slice,
        cNew: saved[cellName(1, t + 1)].slice,
        dcCarry: dc1.slice,
        dgates: dgates1.slice,
        ...cell,
      },
      at('dp, dc1', t),
    );
    product('dh1 += dp U1ᵀ', { a: dgates1.slice, ...gatesAt, b: s.u1.slice, c: dh1.slice, cStart: before, n: h });
    const intoContext = { a: dgates1.slice, ...gatesAt, addToC: ofContext, b: s.wz.slice, n: d };
    if (attrs.gate) {
      if (ofContext) gpu.copy(grads[2].slice, dgated.slice, count * d * 4, place * d * 4);
      product('dẑ = dp Wzᵀ', { ...intoContext, c: dgated.slice });
      const gate = {
        dgated: dgated.slice,
        context: s.z.slice,
        beta: s.beta.slice,
        w: s.gateW.slice,
        dcontext: dz.slice,
        dhidden: dasking.slice,
        dpre: dpre.slice,
      };
      contextGateGrad(
        gpu,
        { ...gate, batch: count, hiddenWidth: h, width: d, hiddenStart: before, contextStart: place * d, betaStart: place },
        at('dπ, dz, ds += dπ w', t),
      );
    } else {
      product('dẑ = dp Wzᵀ', { ...intoContext, c: dz.slice, cStart: place * d });
    }
    additiveAttentionGrad(
      gpu,
      {
        keys: s.keys.slice,
        query: s.q.slice,
        v: s.v.slice,
        values: s.values.slice,
        alpha: s.alpha.slice,
        dcontext: dz.slice,
        dalpha: flowed[1] ? grads[1].slice : null,
        de: de.slice,
        dkeys: dkeys.slice,
        dquery: dq.slice,
        dvRows: dvRows.slice,
        ...{ batch: count, regions, keysWidth: a, valuesWidth: d, score: attrs.score },
        queryStart: place * a,
        contextStart: place * d,
        alphaStart: place * regions,
      },
      at('de; dK += de v f′, dq = Σ dK, dv', t),
    );
    product('ds += dq W2ᵀ', { a: dq.slice, aStart: place * a, b: s.w2.slice, transB: true, c: dasking.slice, cStart: before, n: h, k: a, addToC: true });
  }

  // One product per weight, over all steps.
  const weight = (equation: string, x: Tensor, m: number, dy: Tensor, n: number): Tensor => {
    const out = make(m, n);
    matmulKernel(gpu, { a: x.slice, transA: true, b: dy.slice, c: out.slice, m, n, k: rows, label: at(equation) });
    return out;
  };
  const columnSums = (equation: string, x: Tensor, outer: number, n: number): Tensor => {
    const out = make(n);
    reduce(gpu, { kind: 'sum', x: x.slice, y: out.slice, outer: 1, n: outer, inner: n, label: at(equation) });
    return out;
  };
  const ofStart = (x: Tensor): Tensor => {
    const out = make(batch, h);
    gpu.copy(x.slice, out.slice, batch * h * 4);
    return out;
  };
  /** The states before each step, of the rows that the step computes. */
  const stackedBefore = (start: Tensor, after: Tensor): Tensor => {
    const out = make(rows, h);
    gpu.copy(start.slice, out.slice, batch * h * 4);
    if (attrs.active) for (let t = 1; t < steps; t++) gpu.copy(after.slice, out.slice, active[t] * h * 4, places[t - 1] * h * 4, places[t] * h * 4);
    else if (steps > 1) gpu.copy(after.slice, out.slice, (rows - batch) * h * 4, 0, batch * h * 4);
    return out;
  };
  const batchMajor = (x: Tensor, width: number): Tensor => {
    const out = attrs.active ? zeros([batch, steps, width]) : make(batch, steps, width); // rows that have ended add nothing
    const to = { slice: out.slice, strides: [steps * width, width, 1] };
    const label = at('pictures first');
    if (!attrs.active) stridedCopy(gpu, { slice: x.slice, strides: [width, batch * width, 1] }, to, [batch, steps, width], label);
    else
      for (let t = 0; t < steps; t++)
        stridedCopy(gpu, { slice: x.slice, start: places[t] * width, strides: [width, 0, 1] }, { ...to, start: t * width }, [active[t], 1, width], label);
    return out;
  };
  const dvalues = make(batch, regions, d); // Σ_t α_t ⊗ dz_t, one small product per picture
  matmulKernel(gpu, {
    a: batchMajor(s.alpha, regions).slice,
    transA: true,
    b: batchMajor(dz, d).slice,
    c: dvalues.slice,
    m: regions,
    n: d,
    k: steps,
    batch,
    label: at('da = Σ α dz'),
  });
  const h1Before = stackedBefore(s.h1Start, s.h1);
  const h2Before = stackedBefore(s.h2Start, s.h2);
  const asking = attrs.query === 'h1' ? h1Before : h2Before;
  return {
    values: dvalues,
    keys: dkeys,
    xe: dgates1,
    w2: weight('dW2 = sᵀ dq', asking, h, dq, a),
    b2: columnSums('db2 = Σ dq', dq, rows, a),
    v: columnSums('dv = Σ', dvRows, batch, a),
    wz: weight('dWz = ẑᵀ dp', s.gated, d, dgates1, 4 * h),
    u1: weight('dU1 = h1ᵀ dp', h1Before, h, dgates1, 4 * h),
    lstm2W: weight('dW = h1ᵀ dr', s.h1, h, dgates2, 4 * h),
    lstm2U: weight('dU2 = h2ᵀ dr', h2Before, h, dgates2, 4 * h),
    lstm2B: columnSums('db = Σ dr', dgates2, rows, 4 * h),
    h1Start: ofStart(dh1),
    c1Start: dc1,
    h2Start: ofStart(dh2),
    c2Start: dc2,
    ...(attrs.gate ? { gateW: weight('dw = sᵀ dπ', asking, h, dpre, 1), gateB: columnSums('dbg = Σ dπ', dpre, rows, 1) } : {}),
  };
}

function referenceProduct(x: Reference, w: Reference, bias?: Reference): Reference {
  const [k, n] = w.shape;
  return reference([x.shape[0], n], (i) => {
    let sum = bias ? bias.data[i % n] : 0;
    for (let p = 0; p < k; p++) sum += x.data[Math.floor(i / n) * k + p] * w.data[p * n + (i % n)];
    return sum;
  });
}

const plus = (x: Reference, y: Reference): Reference => reference(x.shape, (i) => x.data[i] + y.data[i]);

const SMALL = [
  { steps: 3, batch: 2, regions: 5, d: 7, a: 3, h: 5 },
  { steps: 2, batch: 3, regions: 9, d: 8, a: 12, h: 16 },
];

type Case = { name: string; shapes: Shape[]; attrs: AttentionLstmAttrs };

function cases(settings: Partial<AttentionLstmAttrs>, list = SMALL): Case[] {
  const attrs: AttentionLstmAttrs = { gate: false, score: 'tanh', query: 'h2', active: null, ...settings };
  const { gate, active } = attrs;
  return list.map(({ steps, batch, regions, d, a, h }) => ({
    name: `${active ? `${active.join(' + ')} rows` : `${steps} steps, ${batch}`}×${regions}×${d}, A ${a}, H ${h}${gate ? ', gated' : ''}${attrs.query === 'h1' ? ', asked by h1' : ''}${attrs.score === 'relu' ? ', rectified' : ''}`,
    shapes: [
      [batch, regions, d],
      [batch, regions, a],
      active ? [active.reduce((sum, count) => sum + count, 0), 4 * h] : [steps, batch, 4 * h],
      [h, a],
      [a],
      [a, 1],
      [d, 4 * h],
      [h, 4 * h],
      [h, 4 * h],
      [h, 4 * h],
      [4 * h],
      [batch, h],
      [batch, h],
      [batch, h],
      [batch, h],
      ...(gate ? [[h, 1], [1]] : []),
    ],
    attrs,
  }));
}

export const attentionLstmOp: Op<AttentionLstmAttrs> = {
  name: 'attentionLstm',
  runs: ['matmul', 'attention', 'attention_scores_grad', 'attention_grad', 'lstm_cell', 'lstm_cell_grad'],
  doc: {
    equation:
      'for t = 0 … T − 1: q = h2 w2 + b2 (h1 in place of h2 with query h1); context, alpha = additiveAttention(keys, q, v, values); context ← σ(h2 gateW + gateB) context, if there is a gate; h1, c1 = lstmCell(xe[t], context wz + h1 u1, c1); h2, c2 = lstmCell(h1 lstm2W + lstm2B, h2 lstm2U, c2)',
    gradient:
      'backpropagation through time of h2, alpha and context; the equations stand at the head of `src/autograd/ops/attention_lstm.ts`. Each gradient of a weight is one product over all steps, after the loop. The other states are for reading.',
    tensors: {
      values: '[B, P, D]',
      keys: '[B, P, A]',
      xe: '[T, B, 4H]: share of each word in the gates of LSTM 1, bias included. With active: [R, 4H], and the outputs are [R, …]',
      w2: '[H, A]',
      b2: '[A]',
      v: '[A] or [A, 1]',
      wz: '[D, 4H]',
      u1: '[H, 4H]',
      lstm2W: '[H, 4H]',
      lstm2U: '[H, 4H]',
      lstm2B: '[4H]',
      h1Start: '[B, H]',
      c1Start: '[B, H]',
      h2Start: '[B, H]',
      c2Start: '[B, H]',
      gateW: '[H] or [H, 1], only with a gate',
      gateB: '[1], only with a gate',
      h2: '[T, B, H]',
      alpha: '[T, B, P]: attention weights',
      context: '[T, B, D], gated',
      h1: '[T, B, H]',
      c1: '[T, B, H]',
      c2: '[T, B, H]',
    },
    example:
      'ops.attentionLstm({ values: full([1, 2, 1], 1), keys: zeros([1, 2, 1]), xe: full([2, 1, 4], 1), w2: full([1, 1], 1), b2: zeros([1]), v: full([1], 1), wz: full([1, 4], 0.5), u1: full([1, 4], 0.5), lstm2W: full([1, 4], 0.5), lstm2U: full([1, 4], 0.5), lstm2B: zeros([4]), h1Start: zeros([1, 1]), c1Start: zeros([1, 1]), h2Start: zeros([1, 1]), c2Start: zeros([1, 1]) })',
    refused: [
      'ops.attentionLstm({ values: zeros([1, 2, 1]), keys: zeros([1, 2, 1]), xe: zeros([2, 1, 4]), w2: zeros([1, 2]), b2: zeros([1]), v: zeros([1]), wz: zeros([1, 4]), u1: zeros([1, 4]), lstm2W: zeros([1, 4]), lstm2U: zeros([1, 4]), lstm2B: zeros([4]), h1Start: zeros([1, 1]), c1Start: zeros([1, 1]), h2Start: zeros([1, 1]), c2Start: zeros([1, 1]) })',
    ],
  },
  inputs: NAMES,
  outputs: ['h2', 'alpha', 'context', 'h1', 'c1', 'c2'],
  gradientOutputs: 3,
  shape: (shapes, attrs) => {
    const { steps, batch, rows, regions, d, h } = sizes(shapes, attrs);
    return [h, regions, d, h, h, h].map((width) => (attrs.active ? [rows, width] : [steps, batch, width]));
  },
  forward,
  saves: ['values', 'keys', 'w2', 'v', 'wz', 'u1', 'lstm2W', 'lstm2U', 'h1Start', 'h2Start', 'gateW', 'h2', 'alpha', 'h1'],
  backward: (context) => {
    if (context.flowed.slice(3).some(Boolean))
      throw new ShapeError('attentionLstm: gradients flow through h2, alpha and context; the other states are for reading');
    let all: Record<string, Tensor> | null = null;
    return context.inputShapes.map((shape, i): Thunk => {
      return () => {
        all ??= gradients(context);
        return all[NAMES[i]].alias(shape);
      };
    });
  },
  reference: (inputs, attrs) => {
    const extents = sizes(
      inputs.map((x) => x.shape),
      attrs,
    );
    const x = Object.fromEntries(NAMES.map((name, i) => [name, inputs[i]])) as Record<(typeof NAMES)[number], Reference>;
    let [h1, c1, h2, c2] = [x.h1Start, x.c1Start, x.h2Start, x.c2Start];
    const { rows, h } = extents;
    const out = attentionLstmOp
      .shape(
        inputs.map((each) => each.shape),
        attrs,
      )
      .map((shape) => reference(shape));
    for (const [t, count] of extents.active.entries()) {
      const first = (y: Reference): Reference => ({ shape: [count, ...y.shape.slice(1)], data: y.data.subarray(0, (y.data.length / y.shape[0]) * count) });
      [h1, c1, h2, c2] = [h1, c1, h2, c2].map(first);
      const before = attrs.query === 'h1' ? h1 : h2;
      const query = referenceProduct(before, x.w2, x.b2);
      const [context, alpha] = additiveAttentionOp.reference([first(x.keys), query, x.v, first(x.values)], { score: attrs.score });
      if (attrs.gate) {
        const width = context.shape[1];
        context.data = context.data.map((value, i) => {
          let sum = x.gateB.data[0];
          for (let j = 0; j < h; j++) sum += before.data[Math.floor(i / width) * h + j] * x.gateW.data[j];
          return value / (1 + Math.exp(-sum));
        });
      }
      const place = extents.places[t];
      const part = { shape: [count, 4 * h], data: x.xe.data.subarray(place * 4 * h, (place + count) * 4 * h) };
      [h1, c1] = lstmCellOp.reference([part, plus(referenceProduct(context, x.wz), referenceProduct(h1, x.u1)), c1], null);
      [h2, c2] = lstmCellOp.reference([referenceProduct(h1, x.lstm2W, x.lstm2B), referenceProduct(h2, x.lstm2U), c2], null);
      [h2, alpha, context, h1, c1, c2].forEach((value, k) => {
        out[k].data.set(value.data, (place * out[k].data.length) / rows);
      });
    }
    return out;
  },
  cost: (shapes, _outputs, attrs) => {
    const { rows, regions, d, a, h } = sizes(shapes, attrs);
    return { flops: 2 * rows * (h * a + regions * (2 * a + d) + d * 4 * h + 12 * h * h), bytes: 4 * shapes.reduce((sum, shape) => sum + sizeOf(shape), 0) };
  },
  cases: [
    ...cases({}),
    ...cases({ gate: true }),
    ...cases({ score: 'relu', query: 'h1' }),
    ...cases({ gate: true, query: 'h1' }),
    ...cases({ gate: true }, [{ steps: 2, batch: 2, regions: 5, d: 67, a: 66, h: 70 }]), // more units than lanes
    ...cases({ gate: true, active: [5, 3, 3, 1] }, [{ steps: 4, batch: 5, regions: 7, d: 8, a: 12, h: 16 }]),
    ...cases({ query: 'h1', active: [3, 2] }, [{ steps: 2, batch: 3, regions: 5, d: 7, a: 3, h: 5 }]),
  ],
  // Here, and not in the op of one step, do versions meet the starts of steps in buffers of a sequence.
  family: 'attention',
  gradientFamilies: ['attention_scores_grad', 'attention_grad'],
  tolerance: { rtol: 2e-5, atol: 1e-5, why: 'errors of exp add up over the steps' },
};

/** Shapes as in the file's header; h2 and the other states [T, B, H], alpha [T, B, P], context (gated) [T, B, D]; with `active` [R, ·]. */
export function attentionLstm(
  inputs: AttentionLstmInputs,
  { score = 'tanh', query = 'h2', active = null }: Partial<AttentionLstmAttrs> = {},
): { h2: Tensor; alpha: Tensor; context: Tensor; h1: Tensor; c1: Tensor; c2: Tensor } {
  const gate = inputs.gateW !== undefined;
  const list = NAMES.map((name) => inputs[name]).filter((t): t is Tensor => t !== undefined);
  const [h2, alpha, context, h1, c1, c2] = apply(attentionLstmOp, list, { gate, score, query, active });
  return { h2, alpha, context, h1, c1, c2 };
}
