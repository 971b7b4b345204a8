/** The optimizers' updates and the global norm as entries of the table, so that they are checked like everything else. */
import { bfloatOf } from '../../data/bfloat.ts';
import { present } from '../../kernels/elementwise.ts';
import { type Accumulation, type AdamUpdate, accumulate, adam, globalNorm, type SgdUpdate, sgd } from '../../kernels/optimizer.ts';
import { sizeOf } from '../../tensor/shape.ts';
import { type Op, type Reference, reference, streamingCost } from '../op.ts';

const NO_GRADIENT = 'an update of parameters, not a function to be differentiated';

function clipped(gradient: Float64Array, norm: Reference, maxNorm: number): Float64Array {
  const scale = maxNorm > 0 ? Math.min(1, maxNorm / (norm.data[0] + 1e-6)) : 1;
  return gradient.map((g) => g * scale);
}

const adamCase: AdamUpdate = { rate: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, decoupled: false, maxNorm: 0, step: 3 };

/** Kingma and Ba 2015; with `decoupled`, Loshchilov and Hutter 2019. Returns new p, m, v. */
export const adamOp: Op<AdamUpdate> = {
  name: 'adam',
  family: 'adam',
  doc: {
    equation:
      'g ← g min(1, maxNorm / (norm + 1e-6)), if maxNorm > 0; m′ = β₁ m + (1 − β₁) g; v′ = β₂ v + (1 − β₂) g²; p′ = p − rate (m′ / (1 − β₁ᵗ)) / (√(v′ / (1 − β₂ᵗ)) + ε), t = step. Weight decay adds weightDecay p to g, or, decoupled (AdamW), takes rate weightDecay p from p.',
    runBy: '[Optimizer](#optimizer)',
    tensors: {
      p: 'any shape: parameters',
      g: 'as p: their gradient',
      m: 'as p: first moment',
      v: 'as p: second moment',
      norm: '[1]: global norm of all gradients',
      pNew: 'as p',
      mNew: 'as p',
      vNew: 'as p',
    },
    example:
      "apply(entry('adam'), [tensor([1]), tensor([0.5]), zeros([1]), zeros([1]), tensor([0.5])], { rate: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, decoupled: false, maxNorm: 0, step: 1 })",
  },
  inputs: ['p', 'g', 'm', 'v', 'norm'],
  outputs: ['pNew', 'mNew', 'vNew'],
  shape: ([p]) => [p, p, p],
  forward: ({ gpu, inputs: [p, g, m, v, norm], outputs, attrs, label }) => {
    [p, m, v].forEach((before, i) => {
      gpu.copy(before.slice, outputs[i].slice, before.size * 4);
    });
    adam(gpu, outputs[0].slice, g.slice, outputs[1].slice, outputs[2].slice, norm.slice, p.size, attrs, label);
  },
  backward: NO_GRADIENT,
  reference: ([p, g, m, v, norm], u) => {
    const gradient = clipped(g.data, norm, u.maxNorm);
    const out = [reference(p.shape), reference(p.shape), reference(p.shape)];
    p.data.forEach((before, i) => {
      const parameter = u.decoupled ? before - present(u.rate) * u.weightDecay * before : before;
      const slope = gradient[i] + (u.decoupled ? 0 : u.weightDecay * before);
      const first = u.beta1 * m.data[i] + (1 - u.beta1) * slope;
      const second = u.beta2 * v.data[i] + (1 - u.beta2) * slope * slope;
      out[0].data[i] =
        parameter - ((present(u.rate) / (1 - u.beta1 ** present(u.step))) * first) / (Math.sqrt(second / (1 - u.beta2 ** present(u.step))) + u.eps);
      out[1].data[i] = first;
      out[2].data[i] = second;
    });
    return out;
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 5),
  cases: [
    { name: 'Adam', shapes: [[331], [331], [331], [331], [1]], attrs: adamCase, draw: ['normal', 'normal', 'normal', 'positive', 'positive'] },
    {
      name: 'Adam, decay, clipped',
      shapes: [[29, 11], [29, 11], [29, 11], [29, 11], [1]],
      attrs: { ...adamCase, weightDecay: 0.1, maxNorm: 0.4, eps: 0.05 },
      draw: ['normal', 'normal', 'normal', 'positive', 'positive'],
    },
    {
      name: 'Adam, within the bound of clipping',
      shapes: [[41], [41], [41], [41], [1]],
      attrs: { ...adamCase, maxNorm: 3 },
      draw: ['normal', 'normal', 'normal', 'positive', 'positive'],
    },
    {
      name: 'AdamW',
      shapes: [[271], [271], [271], [271], [1]],
      attrs: { ...adamCase, weightDecay: 0.1, decoupled: true },
      draw: ['normal', 'normal', 'normal', 'positive', 'positive'],
    },
    {
      name: 'AdamW, clipped at next to nothing',
      shapes: [[7], [7], [7], [7], [1]],
      attrs: { ...adamCase, decoupled: true, maxNorm: 5e-7, eps: 0.05 },
      draw: ['normal', 'normal', 'normal', 'positive', 'ids:1'],
    },
    {
      name: 'Adam, first step, large gradients',
      shapes: [[331], [331], [331], [331], [1]],
      attrs: { ...adamCase, step: 1 },
      draw: ['normal', 'outliers', 'ids:1', 'ids:1', 'positive'],
    },
  ],
  tolerance: { rtol: 2e-6, atol: 1e-6, why: 'closer than usual: 1 − β2 taken in float32 is off by 1.3e-5' },
};

const sgdCase: SgdUpdate = { rate: 0.1, momentum: 0.9, weightDecay: 1e-2, maxNorm: 0 };

export const sgdOp: Op<SgdUpdate> = {
  name: 'sgd',
  doc: {
    equation: 'g ← g min(1, maxNorm / (norm + 1e-6)), if maxNorm > 0; m′ = momentum m + g + weightDecay p; p′ = p − rate m′',
    runBy: '[Optimizer](#optimizer)',
    tensors: {
      p: 'any shape: parameters',
      g: 'as p: their gradient',
      m: 'as p: the momentum so far',
      norm: '[1]: global norm of all gradients',
      pNew: 'as p',
      mNew: 'as p',
    },
    example: "apply(entry('sgd'), [tensor([1]), tensor([0.5]), tensor([1]), tensor([0.5])], { rate: 0.1, momentum: 0.9, weightDecay: 0, maxNorm: 0 })",
  },
  inputs: ['p', 'g', 'm', 'norm'],
  outputs: ['pNew', 'mNew'],
  shape: ([p]) => [p, p],
  forward: ({ gpu, inputs: [p, g, m, norm], outputs, attrs, label }) => {
    gpu.copy(p.slice, outputs[0].slice, p.size * 4);
    gpu.copy(m.slice, outputs[1].slice, m.size * 4);
    sgd(gpu, outputs[0].slice, g.slice, outputs[1].slice, norm.slice, p.size, attrs, label);
  },
  backward: NO_GRADIENT,
  reference: ([p, g, m, norm], u) => {
    const gradient = clipped(g.data, norm, u.maxNorm);
    const velocity = reference(p.shape, (i) => u.momentum * m.data[i] + gradient[i] + u.weightDecay * p.data[i]);
    return [reference(p.shape, (i) => p.data[i] - present(u.rate) * velocity.data[i]), velocity];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 6),
  cases: [
    { name: 'momentum', shapes: [[331], [331], [331], [1]], attrs: sgdCase, draw: ['normal', 'normal', 'normal', 'positive'] },
    { name: 'clipped', shapes: [[29, 11], [29, 11], [29, 11], [1]], attrs: { ...sgdCase, maxNorm: 0.3 }, draw: ['normal', 'normal', 'normal', 'positive'] },
    {
      name: 'within the bound of clipping',
      shapes: [[41], [41], [41], [1]],
      attrs: { ...sgdCase, maxNorm: 3 },
      draw: ['normal', 'normal', 'normal', 'positive'],
    },
    { name: 'clipped at next to nothing', shapes: [[7], [7], [7], [1]], attrs: { ...sgdCase, maxNorm: 5e-7 }, draw: ['normal', 'normal', 'normal', 'ids:1'] },
  ],
};

/** The nearest number of 8 significant bits, ties to even: bfloat16. */
function rounded16(x: number): number {
  const [word] = new Uint32Array(Float32Array.of(x).buffer);
  return new Float32Array(Uint32Array.of(bfloatOf(word) << 16).buffer)[0];
}

/** Gradients of micro-batches, added up one after the other in float32; with `bits16`, parts and last sum are rounded to bfloat16. */
export const gradientSumOp: Op<Accumulation> = {
  name: 'gradientSum',
  doc: {
    equation: 'sumNew = x if it is the first part, else sum + x; with bits16, x and the last sum are rounded to bfloat16',
    runBy: '[Optimizer](#optimizer)',
    tensors: { sum: 'any shape: the sum so far', x: 'as sum: the gradient of a micro-batch', sumNew: 'as sum' },
    example: "apply(entry('gradientSum'), [tensor([1, 2]), tensor([0.5, 1])], { first: false, last: true, bits16: false })",
  },
  inputs: ['sum', 'x'],
  outputs: ['sumNew'],
  shape: ([sum]) => [sum],
  forward: ({ gpu, inputs: [sum, x], outputs: [out], attrs }) => {
    gpu.copy(sum.slice, out.slice, sum.size * 4);
    accumulate(gpu, out.slice, x.slice, sum.size, attrs);
  },
  backward: NO_GRADIENT,
  reference: ([sum, x], { first, last, bits16 }) => {
    const part = (value: number) => (bits16 ? rounded16(value) : value);
    return [
      reference(sum.shape, (i) => {
        const result = first ? part(x.data[i]) : Math.fround(sum.data[i] + part(x.data[i]));
        return last ? part(result) : result;
      }),
    ];
  },
  cost: (shapes, outputs) => streamingCost(shapes, outputs, 1),
  cases: [
    { name: 'a later part', shapes: [[331], [331]], attrs: { first: false, last: false, bits16: false } },
    {
      name: 'the first part',
      shapes: [
        [29, 11],
        [29, 11],
      ],
      attrs: { first: true, last: false, bits16: false },
    },
    { name: 'beyond one workgroup, rounded', shapes: [[1031], [1031]], attrs: { first: false, last: true, bits16: true } },
    { name: 'a part alone, rounded', shapes: [[7], [7]], attrs: { first: true, last: true, bits16: true } },
    {
      name: 'a rounded part of a sum that is not',
      shapes: [
        [13, 5],
        [13, 5],
      ],
      attrs: { first: false, last: false, bits16: true },
    },
  ],
};

/** √ Σ over both tensors of the sum of squares. */
export const globalNormOp: Op<null> = {
  name: 'globalNorm',
  doc: {
    equation: 'norm = √(Σ a² + Σ b²), over all tensors given',
    runBy: '[Optimizer](#optimizer)',
    tensors: {
      a: 'any shape',
      b: 'any shape; more may follow',
      norm: '[1]',
    },
    example: "apply(entry('globalNorm'), [tensor([3]), tensor([4])], null)",
  },
  inputs: ['a', 'b'],
  outputs: ['norm'],
  shape: () => [[1]],
  forward: ({ gpu, inputs, outputs: [norm] }) =>
    globalNorm(
      gpu,
      inputs.map((t) => ({ slice: t.slice, count: t.size })),
      norm.slice,
    ),
  backward: 'clipping is not differentiated',
  reference: (inputs) => [reference([1], () => Math.sqrt(inputs.reduce((sum, x) => sum + x.data.reduce((s, value) => s + value * value, 0), 0)))],
  cost: (shapes) => ({ flops: 2 * shapes.reduce((sum, shape) => sum + sizeOf(shape), 0), bytes: streamingCost(shapes, []).bytes }),
  cases: [{ name: 'two tensors', shapes: [[41, 97], [7]], attrs: null }],
};
