/** This engine, through the same door as its peers: its kernels here, whole models in models.ts. */
import * as ops from '../src/autograd/ops/index.ts';
import { noGrad } from '../src/autograd/tape.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { type ConvGeometry, conv2dGradInput, conv2dGradWeight } from '../src/kernels/conv.ts';
import { crossEntropy } from '../src/kernels/rows.ts';
import { empty, full, Scope, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { greedy, resnet, trainStep } from './models.ts';
import { type ConvShape, convInputs, type Engine, type InputSet, matmulInputs, outSize, type Prepared, rowInputs, type Work } from './work.ts';

type Values = Float32Array | Uint32Array;

/** An operand that every run of a model finds newly written, and what is written there. */
interface Activation {
  tensor: Tensor;
  values(set: InputSet): Values;
}

function activation(shape: readonly number[], values: (set: InputSet) => Values): Activation {
  return { tensor: Scope.release(tensor(values(0), [...shape])), values };
}

/** The axes of a four-dimensional array in another order. */
function permuted(values: ArrayLike<number>, shape: readonly number[], order: readonly number[]): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((size, extent) => size * extent, 1));
  const [d0, d1, d2, d3] = order.map((axis) => shape[axis]);
  const [s0, s1, s2, s3] = order.map((axis) => strides[axis]);
  const out = new Float32Array(values.length);
  let at = 0;
  for (let i = 0; i < d0; i++)
    for (let j = 0; j < d1; j++)
      for (let k = 0; k < d2; k++) for (let l = 0, from = i * s0 + j * s1 + k * s2; l < d3; l++, from += s3) out[at++] = values[from];
  return out;
}

export function openOurs(gpu: Gpu): Engine {
  /**
   * `work` makes a tensor, which stays until the next run, to be compared. Activations count as written before every run: no
   * copy of them that was kept for reading as texels may serve. Weights stay what they were.
   */
  function repeat(work: () => Tensor, activations: readonly Activation[], weights: readonly Tensor[], order?: readonly number[]): Prepared {
    let last: Tensor | null = null;
    return {
      async load(set) {
        for (const { tensor: to, values } of activations) to.write(values(set));
        await gpu.idle();
      },
      async run() {
        last?.dispose();
        for (const { tensor: written } of activations) written.slice.buffer.writes++;
        using _run = scope();
        last = Scope.release(noGrad(work));
        await gpu.idle();
      },
      async result() {
        if (!last) return [];
        const values = await last.data();
        return order ? permuted(values, last.shape, order) : values;
      },
      dispose() {
        for (const each of [...activations.map((a) => a.tensor), ...weights, last]) each?.dispose();
      },
    };
  }

  function convolution(kind: 'conv' | 'convGradInput' | 'convGradWeight', s: ConvShape): Prepared {
    const [outHeight, outWidth] = [outSize(s.height, s), outSize(s.width, s)];
    const pictures = (name: 'x' | 'dy', channels: number, height: number, width: number) =>
      activation([s.images, height, width, channels], (set) => permuted(convInputs(s, set)[name], [s.images, channels, height, width], [0, 2, 3, 1]));
    const x = pictures('x', s.channels, s.height, s.width);
    const shape = [s.kernel, s.kernel, s.channels, s.outChannels];
    const w = Scope.release(tensor(permuted(convInputs(s, 0).w, [s.outChannels, s.channels, s.kernel, s.kernel], [2, 3, 1, 0]), shape));
    if (kind === 'conv') {
      const options = { stride: s.stride, pad: s.pad, layout: 'nhwc' as const };
      return repeat(() => ops.conv2d(x.tensor, w, null, options), [x], [w], [0, 3, 1, 2]);
    }
    const dy = pictures('dy', s.outChannels, outHeight, outWidth);
    const geometry: ConvGeometry = {
      ...{ images: s.images, height: s.height, width: s.width, channels: s.channels, outHeight, outWidth, outChannels: s.outChannels, groups: 1 },
      kernel: [s.kernel, s.kernel],
      stride: [s.stride, s.stride],
      pad: [s.pad, s.pad],
      dilation: [1, 1],
    };
    if (kind === 'convGradInput') {
      const work = () => {
        const dx = empty(x.tensor.shape);
        conv2dGradInput(gpu, geometry, dy.tensor.slice, w.slice, dx.slice, 'bench');
        return dx;
      };
      return repeat(work, [x, dy], [w], [0, 3, 1, 2]);
    }
    const work = () => {
      const dw = empty(shape);
      conv2dGradWeight(gpu, geometry, x.tensor.slice, dy.tensor.slice, dw.slice, 'bench');
      return dw;
    };
    return repeat(work, [x, dy], [w], [3, 2, 0, 1]);
  }

  function rowWise(work: Extract<Work, { kind: 'softmax' | 'crossEntropyGrad' }>): Prepared {
    const { rows, columns } = work;
    const x = activation([rows, columns], (set) => rowInputs(work, set).x);
    if (work.kind === 'softmax') return repeat(() => ops.softmax(x.tensor), [x], []);
    const targets = activation([rows], (set) => rowInputs(work, set).targets);
    const weights = Scope.release(full([rows], 1));
    const launch = () => {
      const [rowLoss, dlogits] = [empty([rows]), empty([rows, columns])];
      const slices = { logits: x.tensor.slice, targets: targets.tensor.slice, weights: weights.slice, rowLoss: rowLoss.slice, dlogits: dlogits.slice };
      crossEntropy(gpu, { ...slices, unused: rowLoss.slice, rows, n: columns, label: 'bench' });
      return dlogits;
    };
    return repeat(launch, [x, targets], [weights]);
  }

  async function prepare(work: Work): Promise<Prepared | null> {
    switch (work.kind) {
      case 'matmul': {
        const { m, n, k, transA, transB } = work;
        const a = activation(transA ? [k, m] : [m, k], (set) => matmulInputs(work, set).a);
        const b = activation(transB ? [n, k] : [k, n], (set) => matmulInputs(work, set).b);
        const product = () => ops.matmul(a.tensor, b.tensor, { transA, transB });
        return transA ? repeat(product, [a, b], []) : repeat(product, [a], [b.tensor]); // a gradient of weights has no weights
      }
      case 'conv':
      case 'convGradInput':
      case 'convGradWeight':
        return convolution(work.kind, work);
      case 'softmax':
      case 'crossEntropyGrad':
        return rowWise(work);
      case 'resnet50':
        return resnet(gpu, work.images, work.model);
      case 'trainStep':
        return trainStep(work);
      case 'greedy':
        return greedy(gpu, work);
    }
  }
  return { name: 'glimpse', prepare };
}
