/**
 * The problems that the tuner times: one for every class that a launcher distinguishes (`matmulClass`, `convClass`, …).
 * Shapes are those of ResNet-50 and of the captioner.
 */
import * as ops from '../autograd/ops/index.ts';
import { scaledDotProductGradKeys, scaledDotProductGradQuery } from '../kernels/attention.ts';
import { type ConvGeometry, conv2dGradInput, conv2dGradWeight } from '../kernels/conv.ts';
import { additiveAttentionGrad } from '../kernels/recurrent.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import { Scope, type Tensor, tensor } from '../tensor/tensor.ts';

export interface TuningProblem {
  family: string;
  key: string;
  shape: string;
  /** Makes the inputs. Each `run` records the work once. */
  prepare(): { run(): void; dispose(): void };
}

function made(shape: Shape, value: (i: number) => number = (i) => ((i * 7919) % 1009) / 1009 - 0.5): Tensor {
  return Scope.release(
    tensor(
      Float32Array.from({ length: sizeOf(shape) }, (_, i) => value(i)),
      shape,
    ),
  );
}

/** The first `fresh` inputs are activations and count as written before each run. The others are weights; copies of them may be kept. */
function problem(family: string, key: string, shape: string, shapes: readonly Shape[], run: (...inputs: Tensor[]) => unknown, fresh = 1): TuningProblem {
  return {
    family,
    key,
    shape,
    prepare() {
      const inputs = shapes.map((each) => made(each));
      return {
        run: () => {
          for (const { slice } of inputs.slice(0, fresh)) slice.buffer.writes++;
          run(...inputs);
        },
        dispose: () => {
          for (const input of inputs) input.dispose();
        },
      };
    },
  };
}

function matmul(layout: 'NN' | 'NT' | 'TN', key: string, m: number, k: number, n: number): TuningProblem {
  const [transA, transB] = [layout[0] === 'T', layout[1] === 'T'];
  const shapes = [transA ? [k, m] : [m, k], transB ? [n, k] : [k, n]];
  // A weight gradient (TN) is the product of two activations.
  return problem('matmul', `${layout} ${key}`, `${m}×${k}×${n}`, shapes, (a, b) => ops.matmul(a, b, { transA, transB }), transA ? 2 : 1);
}

function conv(key: string, size: number, kernel: number, channels: number, out: number, pictures = 1): TuningProblem {
  return problem(
    'conv2d',
    key,
    `${kernel}×${kernel} ${channels}→${out} @${size}${pictures > 1 ? `, ${pictures} pictures` : ''}`,
    [
      [pictures, size, size, channels],
      [kernel, kernel, channels, out],
    ],
    (x, w) => ops.conv2d(x, w, null, { pad: (kernel - 1) / 2, layout: 'nhwc' }),
  );
}

/** A convolution of MobileNet, with a filter per channel. */
const depthwise = (size: number, kernel: number, channels: number) =>
  problem(
    'conv2d',
    'depthwise',
    `${kernel}×${kernel} depthwise ${channels} @${size}`,
    [
      [1, size, size, channels],
      [kernel, kernel, 1, channels],
    ],
    (x, w) => ops.conv2d(x, w, null, { pad: (kernel - 1) / 2, groups: channels, layout: 'nhwc' }),
  );

/** One gradient of a convolution. */
function convGrad(of: 'input' | 'weight', key: string, size: number, kernel: number, channels: number, out: number): TuningProblem {
  const pad = (kernel - 1) / 2;
  const geometry: ConvGeometry = {
    ...{ images: 1, height: size, width: size, channels, outHeight: size, outWidth: size, outChannels: out, groups: 1 },
    ...{ kernel: [kernel, kernel], stride: [1, 1], pad: [pad, pad], dilation: [1, 1] },
  };
  const [picture, gradient, weights] = [
    [1, size, size, channels],
    [1, size, size, out],
    [kernel, kernel, channels, out],
  ];
  const shape = `gradient of the ${of}, ${kernel}×${kernel} ${channels}→${out} @${size}`;
  if (of === 'input')
    return problem('conv2d_grad_input', key, shape, [gradient, weights, picture], (dy, w, dx) =>
      conv2dGradInput(dy.gpu, geometry, dy.slice, w.slice, dx.slice, 'tuning'),
    );
  const run = (x: Tensor, dy: Tensor, dw: Tensor) => conv2dGradWeight(x.gpu, geometry, x.slice, dy.slice, dw.slice, 'tuning');
  return problem('conv2d_grad_weight', key, shape, [picture, gradient, weights], run, 2);
}

const CONV_SIZES = [
  ['1×1 ≤64', 7, 1, 512, 2048],
  ['1×1 ≤512', 14, 1, 256, 1024],
  ['1×1 >512', 56, 1, 64, 256],
  ['k×k ≤64', 7, 3, 512, 512],
  ['k×k ≤512', 14, 3, 256, 256],
  ['k×k >512', 56, 3, 64, 64],
] as const;

/** The gradient of attention in a step of the captioner, both halves: batch 16, 49 regions, keys 512 wide, values 256 wide. */
function attentionGrad(family: 'attention_scores_grad' | 'attention_grad'): TuningProblem {
  const [batch, regions, keysWidth, valuesWidth] = [16, 49, 512, 256];
  const [keyShape, queryShape, alphaShape] = [
    [batch, regions, keysWidth],
    [batch, keysWidth],
    [batch, regions],
  ];
  const shapes = [
    queryShape,
    [batch, valuesWidth],
    alphaShape,
    keyShape,
    [keysWidth],
    [batch, regions, valuesWidth],
    alphaShape,
    keyShape,
    queryShape,
    queryShape,
  ];
  return problem(family, 'any', '16×49, A 512, D 256', shapes, (query, dcontext, alpha, keys, v, values, de, dkeys, dquery, dvRows) =>
    additiveAttentionGrad(
      query.gpu,
      {
        ...{ keys: keys.slice, query: query.slice, v: v.slice, values: values.slice, alpha: alpha.slice, dcontext: dcontext.slice, dalpha: null },
        ...{ de: de.slice, dkeys: dkeys.slice, dquery: dquery.slice, dvRows: dvRows.slice },
        ...{ batch, regions, keysWidth, valuesWidth, score: 'tanh' as const },
      },
      'tuning',
    ),
  );
}

/** Attention with 8 heads 64 wide, and its gradients: 16 captions of `queries` words, `keys` words or regions. */
function scaledDotProduct(family: string, key: string, queries: number, keys: number): TuningProblem {
  const [batch, heads, width] = [16, 8, 64];
  const [q, k, rows] = [queries, keys, queries].map((count, i) => [batch, heads, count, i === 2 ? 4 : width]);
  const sizes = { batch: batch * heads, heads, queries, keys, width, valuesWidth: width };
  const shape = `16×8, T ${queries}, S ${keys}, D 64`;
  const given = (a: Tensor, b: Tensor, v: Tensor) => ({
    ...{ ...sizes, q: a.slice, k: b.slice, v: v.slice, mask: null, scale: 0.125, causal: false, label: 'tuning' },
  });
  if (family === 'scaled_dot_product') return problem(family, key, shape, [q, k, k], (a, b, v) => ops.scaledDotProductAttention(a, b, v), 3);
  if (family === 'scaled_dot_product_grad_query')
    return problem(family, key, shape, [q, k, k, q, rows, q], (a, b, v, dy, known, dq) =>
      scaledDotProductGradQuery(a.gpu, given(a, b, v), dy.slice, known.slice, dq.slice),
    );
  return problem(family, key, shape, [q, k, k, q, rows, k, k], (a, b, v, dy, known, dk, dv) =>
    scaledDotProductGradKeys(a.gpu, given(a, b, v), dy.slice, known.slice, dk.slice, dv.slice),
  );
}

const softmax = (key: string, rows: number, n: number) => problem('softmax', key, `${rows}×${n}`, [[rows, n]], (x) => ops.softmax(x));
const argmaxToken = (key: string, rows: number, n: number) => problem('argmax_token', key, `${rows}×${n}`, [[rows, n]], (x) => ops.argmaxToken(x));
const topK = (key: string, rows: number, n: number) => problem('top_k', key, `${rows}×${n}`, [[rows, n]], (x) => ops.topK(x, 1));

function crossEntropy(key: string, rows: number, n: number): TuningProblem {
  const whole = problem('cross_entropy', key, `${rows}×${n}`, [[rows, n]], () => {});
  return {
    ...whole,
    prepare() {
      const logits = made([rows, n]);
      const weights = made([rows], () => 1);
      const targets = Scope.release(
        tensor(
          Uint32Array.from({ length: rows }, (_, i) => i % n),
          [rows],
        ),
      );
      return {
        run: () => void ops.crossEntropy(logits, targets, weights),
        dispose: () => {
          for (const input of [logits, weights, targets]) input.dispose();
        },
      };
    },
  };
}

export const PROBLEMS: readonly TuningProblem[] = [
  matmul('NN', '≤8', 4, 512, 2048),
  matmul('NN', '≤32', 16, 512, 2048),
  matmul('NN', '≤128', 64, 512, 5000),
  matmul('NN', '>128', 320, 512, 5000),
  matmul('NT', '≤8', 4, 2048, 512),
  matmul('NT', '≤32', 16, 2048, 512),
  matmul('NT', '≤128', 64, 512, 5000),
  matmul('NT', '>128', 320, 5000, 512),
  matmul('TN', '≤8', 512, 320, 4),
  matmul('TN', '≤32', 512, 320, 16),
  matmul('TN', '≤128', 64, 512, 5000),
  matmul('TN', '>128', 512, 320, 2048),
  matmul('TN', '>128 deep', 512, 1536, 2048),
  matmul('NN', '>128 many', 2048, 256, 2048),
  matmul('NT', '>128 many', 2048, 256, 2048),
  matmul('TN', '>128 many', 2048, 256, 2048),
  matmul('NN', '>128 many deep', 2048, 1280, 2048),
  matmul('NT', '>128 many deep', 2048, 1280, 2048),
  matmul('TN', '>128 many deep', 2048, 1280, 2048),
  ...CONV_SIZES.map(([key, size, kernel, channels, out]) => conv(key, size, kernel, channels, out)),
  conv('1×1 >512 many', 14, 1, 256, 1024, 32),
  conv('k×k >512 many', 28, 3, 128, 128, 42),
  depthwise(28, 3, 192),
  ...CONV_SIZES.map(([key, size, kernel, channels, out]) => convGrad('input', key, size, kernel, channels, out)),
  ...CONV_SIZES.map(([key, size, kernel, channels, out]) => convGrad('weight', key, size, kernel, channels, out)),
  softmax('≤256', 784, 49),
  softmax('≤2048', 320, 1000),
  softmax('>2048', 320, 5000),
  crossEntropy('≤256', 784, 100),
  crossEntropy('≤2048', 320, 1000),
  crossEntropy('>2048', 320, 5000),
  argmaxToken('≤256', 64, 100),
  argmaxToken('≤2048', 64, 1000),
  argmaxToken('>2048', 64, 5000),
  topK('≤256', 64, 100),
  topK('≤2048', 64, 1000),
  topK('>2048', 64, 5000),
  problem('reduce', 'rows ≤64', 'sums of 16 rows of 25088', [[16, 25088]], (x) => ops.sum(x, 1)),
  problem('reduce', 'rows >64', 'sums of 5000 rows of 512', [[5000, 512]], (x) => ops.sum(x, 1)),
  problem('reduce', 'columns', 'sums of 2048 columns of 320', [[320, 2048]], (x) => ops.sum(x, 0)),
  problem(
    'attention',
    'any',
    '16×49, A 512, D 256',
    [
      [16, 49, 512],
      [16, 512],
      [512, 1],
      [16, 49, 256],
    ],
    (keys, query, v, values) => ops.additiveAttention(keys, query, v, values),
  ),
  attentionGrad('attention_scores_grad'),
  attentionGrad('attention_grad'),
  ...['scaled_dot_product', 'scaled_dot_product_grad_query', 'scaled_dot_product_grad_keys'].flatMap((family) => [
    scaledDotProduct(family, '≤8', 1, 49),
    scaledDotProduct(family, '>8', 20, 49),
  ]),
];
