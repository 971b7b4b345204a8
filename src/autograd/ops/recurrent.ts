/** The fused LSTM and GRU cells and fused additive attention, one step each. The captioner's loop uses the same kernels. */
import { ShapeError } from '../../errors.ts';
import { matmul as matmulKernel } from '../../kernels/matmul.ts';
import {
  additiveAttentionGrad,
  additiveAttention as attentionKernel,
  gruCellGrad,
  gruCell as gruKernel,
  lstmCellGrad,
  lstmCell as lstmKernel,
  type Score,
} from '../../kernels/recurrent.ts';
import { type Shape, sizeOf } from '../../tensor/shape.ts';
import { empty, type Tensor, zeros } from '../../tensor/tensor.ts';
import { expectRank, type Op, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';
import { reduceOf } from './reduce.ts';

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const EXP = { rtol: 1e-5, atol: 5e-6, why: 'sigmoid and tanh go through exp, good to 4e-6 on software drivers' };

/** [i|f|g|o] = gx + gh; c' = f c + i g; h' = o tanh(c'). gx, gh [B, 4H], c [B, H] → h', c' [B, H]. */
export const lstmCellOp: Op<null> = {
  name: 'lstmCell',
  doc: {
    equation: '[i | f | g | o] = gx + gh; c′ = σ(f) c + σ(i) tanh(g); h′ = σ(o) tanh(c′)',
    gradient:
      'with i, f, g, o after σ and tanh: dc′ ← dc′ + dh′ o (1 − tanh² c′); di = dc′ g i (1 − i), df = dc′ c f (1 − f), dg = dc′ i (1 − g²), do = dh′ tanh(c′) o (1 − o); dgx = dgh = [di | df | dg | do]; dc = dc′ f',
    tensors: {
      gx: '[B, 4H]: share of the input in the gates',
      gh: '[B, 4H]: share of the state',
      c: '[B, H]: the cell before',
      hNew: '[B, H]: the state after, h of the result',
      cNew: '[B, H]: the cell after, c of the result',
    },
    example: 'ops.lstmCell(tensor([1, 1, 1, 1], [1, 4]), zeros([1, 4]), tensor([0.5], [1, 1]))',
    refused: ['ops.lstmCell(zeros([2, 12]), zeros([2, 8]), zeros([2, 3]))'],
  },
  inputs: ['gx', 'gh', 'c'],
  outputs: ['hNew', 'cNew'],
  gradientOutputs: 2,
  shape: ([gx, gh, c]) => {
    expectRank('lstmCell', 'c', c, 2);
    for (const g of [gx, gh])
      if (g.length !== 2 || g[0] !== c[0] || g[1] !== 4 * c[1])
        throw new ShapeError(`lstmCell: gates [${g}] do not fit the cell [${c}], expected [${c[0]},${4 * c[1]}]`);
    return [c, c];
  },
  forward: ({ gpu, inputs: [gx, gh, c], outputs: [hNew, cNew], label, training, save }) => {
    const gates = empty(training ? gx.shape : [1], 'f32', label);
    const kept = { gates: gates.slice, keepGates: training };
    const sizes = { rows: c.shape[0], hidden: c.shape[1] };
    lstmKernel(gpu, { gx: gx.slice, gh: gh.slice, c: c.slice, ...kept, cNew: cNew.slice, hNew: hNew.slice, ...sizes }, label);
    save('gates', gates);
  },
  saves: ['c', 'cNew'],
  backward: ({ gpu, saved: { gates, c, cNew }, grads: [dh, dc], label }) => {
    let results: [Tensor, Tensor] | null = null;
    const both = () => {
      if (!results) {
        results = [empty(gates.shape, 'f32', label), empty(c.shape, 'f32', label)];
        const [dgates, carry] = results;
        gpu.copy(dc.slice, carry.slice, carry.size * 4);
        lstmCellGrad(
          gpu,
          { dh: dh.slice, gates: gates.slice, c: c.slice, cNew: cNew.slice, dcCarry: carry.slice, dgates: dgates.slice, rows: c.shape[0], hidden: c.shape[1] },
          label,
        );
      }
      return results;
    };
    return [() => both()[0], () => both()[0].alias(), () => both()[1]];
  },
  reference: ([gx, gh, c]) => {
    const hidden = c.shape[1];
    const gate = (i: number, which: number) => {
      const at = Math.floor(i / hidden) * 4 * hidden + which * hidden + (i % hidden);
      return gx.data[at] + gh.data[at];
    };
    const cell = reference(c.shape, (i) => sigmoid(gate(i, 1)) * c.data[i] + sigmoid(gate(i, 0)) * Math.tanh(gate(i, 2)));
    return [reference(c.shape, (i) => sigmoid(gate(i, 3)) * Math.tanh(cell.data[i])), cell];
  },
  family: 'lstm_cell',
  gradientFamilies: ['lstm_cell_grad'],
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 30),
  cases: [
    {
      name: 'more units than lanes',
      shapes: [
        [5, 4 * 71],
        [5, 4 * 71],
        [5, 71],
      ],
      attrs: null,
    },
    {
      name: 'outliers',
      shapes: [
        [3, 4 * 8],
        [3, 4 * 8],
        [3, 8],
      ],
      attrs: null,
      draw: ['outliers', 'normal', 'normal'],
    },
    {
      name: 'gates far beyond saturation',
      shapes: [
        [3, 4 * 8],
        [3, 4 * 8],
        [3, 8],
      ],
      attrs: null,
      draw: ['normal plus 100', 'normal', 'normal'],
    },
    {
      name: 'one unit',
      shapes: [
        [1, 4],
        [1, 4],
        [1, 1],
      ],
      attrs: null,
    },
  ],
  tolerance: EXP,
};

/** r, z = σ(gx + gh); n = tanh(gx + r gh); h' = (1 − z) n + z h. gx, gh [B, 3H] (r, z, n), h [B, H] → h': gru_cell.wgsl. */
export const gruCellOp: Op<null> = {
  name: 'gruCell',
  doc: {
    equation: 'r, z = σ(gx + gh); n = tanh(gx + r gh); h′ = (1 − z) n + z h. The reset gate r acts on the product, as in cuDNN.',
    gradient: 'dn = dh′ (1 − z) (1 − n²); dz = dh′ (h − n) z (1 − z); dr = dn ghₙ r (1 − r); dgx = [dr | dz | dn], dgh = [dr | dz | r dn], dh = dh′ z',
    tensors: {
      gx: '[B, 3H]: share of the input in r, z, n',
      gh: '[B, 3H]: share of the state',
      h: '[B, H]: the state before',
      hNew: '[B, H]: the state after',
    },
    example: 'ops.gruCell(tensor([1, 1, 1], [1, 3]), zeros([1, 3]), tensor([0.5], [1, 1]))',
    refused: ['ops.gruCell(zeros([2, 8]), zeros([2, 9]), zeros([2, 3]))'],
  },
  inputs: ['gx', 'gh', 'h'],
  outputs: ['hNew'],
  shape: ([gx, gh, h]) => {
    expectRank('gruCell', 'h', h, 2);
    for (const g of [gx, gh])
      if (g.length !== 2 || g[0] !== h[0] || g[1] !== 3 * h[1])
        throw new ShapeError(`gruCell: gates [${g}] do not fit the state [${h}], expected [${h[0]},${3 * h[1]}]`);
    return [h];
  },
  forward: ({ gpu, inputs: [gx, gh, h], outputs: [hNew], label, save }) => {
    const gates = empty(gx.shape, 'f32', label);
    const [rows, hidden] = h.shape;
    gruKernel(gpu, { gx: gx.slice, gh: gh.slice, h: h.slice, gates: gates.slice, hNew: hNew.slice, rows, hidden }, label);
    save('gates', gates);
  },
  saves: ['gh', 'h'],
  backward: ({ gpu, saved: { gates, gh, h }, grads: [dh], label }) => {
    let results: [Tensor, Tensor, Tensor] | null = null;
    const all = () => {
      if (!results) {
        results = [empty(gates.shape, 'f32', label), empty(gates.shape, 'f32', label), empty(h.shape, 'f32', label)];
        const [dgx, dgh, dhBefore] = results.map((t) => t.slice);
        const [rows, hidden] = h.shape;
        gruCellGrad(gpu, { dh: dh.slice, gates: gates.slice, gh: gh.slice, h: h.slice, dgx, dgh, dhBefore, rows, hidden }, label);
      }
      return results;
    };
    return [() => all()[0], () => all()[1], () => all()[2]];
  },
  reference: ([gx, gh, h]) => {
    const hidden = h.shape[1];
    return [
      reference(h.shape, (i) => {
        const at = (which: number) => Math.floor(i / hidden) * 3 * hidden + which * hidden + (i % hidden);
        const [r, z] = [0, 1].map((which) => sigmoid(gx.data[at(which)] + gh.data[at(which)]));
        return (1 - z) * Math.tanh(gx.data[at(2)] + r * gh.data[at(2)]) + z * h.data[i];
      }),
    ];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 25),
  cases: [
    {
      name: 'more units than lanes',
      shapes: [
        [5, 3 * 71],
        [5, 3 * 71],
        [5, 71],
      ],
      attrs: null,
    },
    {
      name: 'outliers',
      shapes: [
        [3, 3 * 8],
        [3, 3 * 8],
        [3, 8],
      ],
      attrs: null,
      draw: ['outliers', 'normal', 'normal'],
    },
    {
      name: 'gates far beyond saturation',
      shapes: [
        [3, 3 * 8],
        [3, 3 * 8],
        [3, 8],
      ],
      attrs: null,
      draw: ['normal plus 100', 'normal', 'normal'],
    },
  ],
  tolerance: EXP,
};

export interface AttentionAttrs {
  score: Score;
}

function attentionSizes([keys, query, v, values]: readonly Shape[]): { batch: number; regions: number; keysWidth: number; valuesWidth: number } {
  expectRank('additiveAttention', 'keys', keys, 3);
  expectRank('additiveAttention', 'values', values, 3);
  const [batch, regions, keysWidth] = keys;
  const fits = query.length === 2 && query[0] === batch && query[1] === keysWidth && sizeOf(v) === keysWidth && values[0] === batch && values[1] === regions;
  if (!fits) throw new ShapeError(`additiveAttention: keys [${keys}], query [${query}], v [${v}], values [${values}] do not fit [B,P,A], [B,A], [A], [B,P,D]`);
  return { batch, regions, keysWidth, valuesWidth: values[2] };
}

/** e = vᵀ tanh(keys + query), or vᵀ ReLU(…); α = softmax(e); context = Σ α values. Bahdanau, Cho and Bengio 2015, equation 6. */
export const additiveAttentionOp: Op<AttentionAttrs> = {
  name: 'additiveAttention',
  doc: {
    equation:
      'e[b, p] = vᵀ tanh(keys[b, p] + query[b]), or vᵀ max(…, 0) with the score relu; alpha = softmax(e) over p; context[b] = Σₚ alpha[b, p] values[b, p]',
    gradient:
      'dalpha += dcontext · values; de = alpha (dalpha − Σ alpha dalpha); with t = tanh(keys + query): dkeys = de v (1 − t²), dquery = Σₚ dkeys, dv = Σ de t, dvalues = alpha dcontext',
    tensors: {
      keys: '[B, P, A]',
      query: '[B, A]',
      v: '[A] or [A, 1]',
      values: '[B, P, D]',
      context: '[B, D]',
      alpha: '[B, P]: attention weights',
    },
    example: 'ops.additiveAttention(tensor([1, -1], [1, 2, 1]), zeros([1, 1]), tensor([1]), tensor([10, 20], [1, 2, 1]))',
    refused: ['ops.additiveAttention(zeros([2, 5, 4]), zeros([2, 3]), zeros([4]), zeros([2, 5, 6]))'],
  },
  inputs: ['keys', 'query', 'v', 'values'],
  outputs: ['context', 'alpha'],
  gradientOutputs: 2,
  shape: (shapes) => {
    const { batch, regions, valuesWidth } = attentionSizes(shapes);
    return [
      [batch, valuesWidth],
      [batch, regions],
    ];
  },
  forward: ({ gpu, inputs: [keys, query, v, values], outputs: [context, alpha], attrs, label }) => {
    const sizes = attentionSizes([keys.shape, query.shape, v.shape, values.shape]);
    attentionKernel(
      gpu,
      { keys: keys.slice, query: query.slice, v: v.slice, values: values.slice, context: context.slice, alpha: alpha.slice, ...sizes, ...attrs },
      label,
    );
  },
  saves: ['keys', 'query', 'v', 'values', 'alpha'],
  backward: ({ gpu, saved: { keys, query, v, values, alpha }, grads: [dcontext, dalpha], flowed, inputShapes, attrs, label }) => {
    const sizes = attentionSizes(inputShapes);
    const { batch, regions, keysWidth, valuesWidth } = sizes;
    let results: { dkeys: Tensor; dquery: Tensor; dvRows: Tensor } | null = null;
    const joint = () => {
      if (!results) {
        results = { dkeys: zeros(keys.shape), dquery: empty(query.shape, 'f32', label), dvRows: zeros([batch, keysWidth]) };
        const de = empty(alpha.shape, 'f32', label);
        additiveAttentionGrad(
          gpu,
          {
            ...sizes,
            ...attrs,
            keys: keys.slice,
            query: query.slice,
            v: v.slice,
            values: values.slice,
            alpha: alpha.slice,
            dcontext: dcontext.slice,
            dalpha: flowed[1] ? dalpha.slice : null,
            de: de.slice,
            dkeys: results.dkeys.slice,
            dquery: results.dquery.slice,
            dvRows: results.dvRows.slice,
          },
          label,
        );
      }
      return results;
    };
    return [
      () => joint().dkeys,
      () => joint().dquery,
      () => reduceOf('sum', joint().dvRows, 0).alias(inputShapes[2]),
      () => {
        const dvalues = empty(values.shape, 'f32', label); // α ⊗ dcontext
        matmulKernel(gpu, { a: alpha.slice, b: dcontext.slice, c: dvalues.slice, m: regions, n: valuesWidth, k: 1, batch, label });
        return dvalues;
      },
    ];
  },
  reference: ([keys, query, v, values], { score }) => {
    const squash = score === 'relu' ? (x: number) => Math.max(x, 0) : Math.tanh;
    const { batch, regions, keysWidth, valuesWidth } = attentionSizes([keys.shape, query.shape, v.shape, values.shape]);
    const alpha = reference([batch, regions]);
    for (let b = 0; b < batch; b++) {
      const e = Array.from({ length: regions }, (_, i) => {
        let sum = 0;
        for (let a = 0; a < keysWidth; a++) sum += v.data[a] * squash(keys.data[(b * regions + i) * keysWidth + a] + query.data[b * keysWidth + a]);
        return sum;
      });
      const largest = Math.max(...e);
      const sum = e.reduce((total, value) => total + Math.exp(value - largest), 0);
      e.forEach((value, i) => {
        alpha.data[b * regions + i] = Math.exp(value - largest) / sum;
      });
    }
    const context = reference([batch, valuesWidth], (k) => {
      const [b, d] = [Math.floor(k / valuesWidth), k % valuesWidth];
      let sum = 0;
      for (let i = 0; i < regions; i++) sum += alpha.data[b * regions + i] * values.data[(b * regions + i) * valuesWidth + d];
      return sum;
    });
    return [context, alpha];
  },
  cost: (shapes, outputs) => {
    const { batch, regions, keysWidth, valuesWidth } = attentionSizes(shapes);
    return { flops: batch * regions * (4 * keysWidth + 2 * valuesWidth), bytes: streamingCost(shapes, outputs).bytes };
  },
  cases: [
    { name: 'primes', shapes: [[5, 49, 41], [5, 41], [41], [5, 49, 33]], attrs: { score: 'tanh' } },
    { name: 'multiples of 4', shapes: [[3, 9, 12], [3, 12], [12], [3, 9, 8]], attrs: { score: 'tanh' } },
    { name: 'more regions and columns than lanes', shapes: [[4, 67, 68], [4, 68], [68], [4, 67, 264]], attrs: { score: 'tanh' } },
    {
      name: 'scores beyond the reach of exp',
      shapes: [[2, 5, 8], [2, 8], [8], [2, 5, 4]],
      attrs: { score: 'tanh' },
      draw: ['normal', 'normal', 'normal with 300', 'normal'],
    },
    { name: 'more columns of keys than lanes', shapes: [[2, 9, 140], [2, 140], [140], [2, 9, 8]], attrs: { score: 'tanh' } },
    { name: 'one region', shapes: [[2, 1, 3], [2, 3], [3], [2, 1, 5]], attrs: { score: 'tanh' } },
    { name: 'primes, rectified', shapes: [[5, 47, 43], [5, 43], [43], [5, 47, 31]], attrs: { score: 'relu' } },
    { name: 'multiples of 4, rectified', shapes: [[3, 11, 16], [3, 16], [16], [3, 11, 20]], attrs: { score: 'relu' } },
  ],
  family: 'attention',
  gradientFamilies: ['attention_scores_grad', 'attention_grad'],
  tolerance: EXP,
};

export function lstmCell(gx: Tensor, gh: Tensor, c: Tensor): { h: Tensor; c: Tensor } {
  const [hNew, cNew] = apply(lstmCellOp, [gx, gh, c], null);
  return { h: hNew, c: cNew };
}

export function gruCell(gx: Tensor, gh: Tensor, h: Tensor): Tensor {
  return apply(gruCellOp, [gx, gh, h], null)[0];
}

export function additiveAttention(keys: Tensor, query: Tensor, v: Tensor, values: Tensor, score: Score = 'tanh'): { context: Tensor; alpha: Tensor } {
  const [context, alpha] = apply(additiveAttentionOp, [keys, query, v, values], { score });
  return { context, alpha };
}
