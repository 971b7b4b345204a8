/** This engine, through the same door as its peers: its kernels here, whole models in models.ts. */
import type { Op } from '../src/autograd/op.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { apply, noGrad } from '../src/autograd/tape.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { scaledDotProductGradKeys, scaledDotProductGradQuery } from '../src/kernels/attention.ts';
import { type ConvGeometry, conv2dGradInput, conv2dGradWeight } from '../src/kernels/conv.ts';
import { adam } from '../src/kernels/optimizer.ts';
import { additiveAttention, additiveAttentionGrad, lstmCell, lstmCellGrad } from '../src/kernels/recurrent.ts';
import { crossEntropy, softmaxGrad } from '../src/kernels/rows.ts';
import { empty, full, readTensors, Scope, scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { greedy, trainStep } from './models.ts';
import {
  ADAM,
  adamInputs,
  attentionInputs,
  type ConvShape,
  cellInputs,
  convInputs,
  dotProductInputs,
  type Engine,
  type InputSet,
  matmulInputs,
  opInputs,
  outSize,
  type Prepared,
  rowInputs,
  softmaxGradInputs,
  type Work,
} from './work.ts';

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

/** Without `resnet`, which reads files, that model cannot be prepared. */
export function openOurs(gpu: Gpu, resnet?: (gpu: Gpu, images: number, model: string) => Promise<Prepared>): Engine {
  /**
   * `launch` makes tensors, which stay until the next run, to be compared: their values one behind the other. Activations count as
   * written before every run: no copy of them that was kept for reading as texels may serve. Weights stay what they were.
   */
  function repeatParts(launch: () => Tensor[], activations: readonly Activation[], weights: readonly Tensor[], more: Partial<Prepared> = {}): Prepared {
    let last: Tensor[] = [];
    const drop = () => {
      for (const each of last) each.dispose();
    };
    return {
      async load(set) {
        for (const { tensor: to, values } of activations) to.write(values(set));
        await gpu.idle();
      },
      async run(times = 1) {
        for (let i = 0; i < times; i++) {
          drop();
          for (const { tensor: written } of activations) written.slice.buffer.writes++;
          using _run = scope();
          last = noGrad(launch).map((each) => Scope.release(each));
        }
        await gpu.idle();
      },
      async result() {
        const parts = await readTensors(last);
        return parts.length === 1 ? parts[0] : parts.flatMap((values) => Array.from(values));
      },
      dispose() {
        drop();
        for (const each of [...activations.map((a) => a.tensor), ...weights]) each.dispose();
      },
      ...more,
    };
  }

  /** As `repeatParts`, of one tensor; `order` puts its axes in that of the peers. */
  function repeat(launch: () => Tensor, activations: readonly Activation[], weights: readonly Tensor[], order?: readonly number[]): Prepared {
    let shape: readonly number[] = [];
    const prepared = repeatParts(
      () => {
        const made = launch();
        shape = made.shape;
        return [made];
      },
      activations,
      weights,
    );
    return order ? { ...prepared, result: async () => permuted((await prepared.result?.()) ?? [], shape, order) } : prepared;
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

  function cell(work: Extract<Work, { kind: 'lstmCell' | 'lstmCellGrad' }>): Prepared {
    const { rows, hidden } = work;
    const input = (name: 'gx' | 'gh' | 'c' | 'dh' | 'dc', width: number) => activation([rows, width], (set) => cellInputs(work, set)[name]);
    const [gx, gh, c] = [input('gx', 4 * hidden), input('gh', 4 * hidden), input('c', hidden)];
    const forward = (keepGates: boolean) => {
      const [cNew, hNew, gates] = [empty([rows, hidden]), empty([rows, hidden]), empty(keepGates ? [rows, 4 * hidden] : [1])];
      const slices = { gx: gx.tensor.slice, gh: gh.tensor.slice, c: c.tensor.slice, gates: gates.slice, cNew: cNew.slice, hNew: hNew.slice };
      lstmCell(gpu, { ...slices, keepGates, rows, hidden }, 'bench');
      return { cNew, hNew, gates };
    };
    if (work.kind === 'lstmCell')
      return repeatParts(
        () => {
          const { hNew, cNew } = forward(false);
          return [hNew, cNew];
        },
        [gx, gh, c],
        [],
      );
    const [dh, dc] = [input('dh', hidden), input('dc', hidden)];
    let kept: { gates: Tensor; cNew: Tensor } | null = null;
    const launch = () => {
      if (!kept) return [];
      const [dgates, carry] = [empty([rows, 4 * hidden]), empty([rows, hidden])];
      gpu.copy(dc.tensor.slice, carry.slice);
      const slices = { dh: dh.tensor.slice, gates: kept.gates.slice, c: c.tensor.slice, cNew: kept.cNew.slice, dcCarry: carry.slice, dgates: dgates.slice };
      lstmCellGrad(gpu, { ...slices, rows, hidden }, 'bench');
      return [dgates, carry];
    };
    const all = [gx, gh, c, dh, dc];
    const prepared = repeatParts(launch, all, [], { includes: 'the copy of dc, which is changed in place' });
    const forget = () => {
      for (const each of kept ? [kept.gates, kept.cNew] : []) each.dispose();
    };
    return {
      ...prepared,
      async load(set) {
        await prepared.load?.(set);
        forget();
        using _load = scope();
        const { gates, cNew } = forward(true);
        kept = { gates: Scope.release(gates), cNew: Scope.release(cNew) };
        await gpu.idle();
      },
      dispose() {
        forget();
        prepared.dispose();
      },
    };
  }

  function attention(work: Extract<Work, { kind: 'attention' | 'attentionGrad' }>): Prepared {
    const { batch, regions, keys: keysWidth, values: valuesWidth } = work;
    const input = (name: 'keys' | 'query' | 'values' | 'dcontext', shape: number[]) => activation(shape, (set) => attentionInputs(work, set)[name]);
    const keys = input('keys', [batch, regions, keysWidth]);
    const query = input('query', [batch, keysWidth]);
    const values = input('values', [batch, regions, valuesWidth]);
    const dcontext = input('dcontext', [batch, valuesWidth]);
    const v = Scope.release(tensor(attentionInputs(work, 0).v, [keysWidth]));
    const sizes = { batch, regions, keysWidth, valuesWidth, score: 'tanh' as const };
    const operands = () => ({ keys: keys.tensor.slice, query: query.tensor.slice, v: v.slice, values: values.tensor.slice });
    const forward = () => {
      const [context, alpha] = [empty([batch, valuesWidth]), empty([batch, regions])];
      additiveAttention(gpu, { ...operands(), ...sizes, context: context.slice, alpha: alpha.slice }, 'bench');
      return { context, alpha };
    };
    if (work.kind === 'attention') {
      const launch = () => {
        const { context, alpha } = forward();
        return [context, alpha];
      };
      const prepared = repeatParts(launch, [query], [v, keys.tensor, values.tensor, dcontext.tensor]); // keys and values are those of the picture
      return {
        ...prepared,
        async load(set) {
          for (const each of [keys, values]) each.tensor.write(each.values(set));
          await prepared.load?.(set);
        },
      };
    }
    let alpha: Tensor | null = null;
    const launch = () => {
      const [de, dkeys, dquery, dvRows] = [empty([batch, regions]), zeros([batch, regions, keysWidth]), empty([batch, keysWidth]), zeros([batch, keysWidth])];
      if (!alpha) return [];
      const gradients = { de: de.slice, dkeys: dkeys.slice, dquery: dquery.slice, dvRows: dvRows.slice };
      additiveAttentionGrad(gpu, { ...operands(), ...sizes, alpha: alpha.slice, dcontext: dcontext.tensor.slice, dalpha: null, ...gradients }, 'bench');
      return [dkeys, dquery, dvRows];
    };
    const prepared = repeatParts(launch, [keys, query, values, dcontext], [v], { includes: 'clearing the sums over t, and both kernels of the gradient' });
    return {
      ...prepared,
      async load(set) {
        await prepared.load?.(set);
        alpha?.dispose();
        using _load = scope();
        alpha = Scope.release(forward().alpha);
        await gpu.idle();
      },
      dispose() {
        alpha?.dispose();
        prepared.dispose();
      },
    };
  }

  function adamUpdate(work: Extract<Work, { kind: 'adam' }>): Prepared {
    const input = (name: 'p' | 'g' | 'm' | 'v') => activation([work.count], (set) => adamInputs(work, set)[name]);
    const [p, g, m, v] = [input('p'), input('g'), input('m'), input('v')];
    const norm = Scope.release(full([1], 1));
    const settings = { ...ADAM, weightDecay: 0, decoupled: false, maxNorm: 0 };
    const update = () => {
      adam(gpu, p.tensor.slice, g.tensor.slice, m.tensor.slice, v.tensor.slice, norm.slice, work.count, settings, 'bench');
      return [];
    };
    const result = async () => (await readTensors([p.tensor, m.tensor, v.tensor])).flatMap((values) => Array.from(values));
    return repeatParts(update, [p, g, m, v], [norm], { inPlace: true, result });
  }

  function softmaxGradient(work: Extract<Work, { kind: 'softmaxGrad' }>): Prepared {
    const { rows, columns } = work;
    const input = (name: 'y' | 'dy') => activation([rows, columns], (set) => softmaxGradInputs(work, set)[name]);
    const [y, dy] = [input('y'), input('dy')];
    const launch = () => {
      const dx = empty([rows, columns]);
      softmaxGrad(gpu, y.tensor.slice, dy.tensor.slice, dx.slice, rows, columns, true, 'bench');
      return dx;
    };
    return repeat(launch, [y, dy], []);
  }

  function dotProductGradient(work: Extract<Work, { kind: 'scaledDotProductGrad' }>): Prepared {
    const { batch, heads, queries, keys, width } = work;
    const input = (name: 'q' | 'k' | 'v' | 'dy' | 'rows', count: number, columns = width) =>
      activation([batch, heads, count, columns], (set) => dotProductInputs(work, set)[name]);
    const [q, k, v, dy, rows] = [input('q', queries), input('k', keys), input('v', keys), input('dy', queries), input('rows', queries, 4)];
    const sizes = { batch: batch * heads, heads, queries, keys, width, valuesWidth: width, mask: null, scale: 1 / Math.sqrt(width), causal: false };
    const launch = () => {
      const given = { ...sizes, q: q.tensor.slice, k: k.tensor.slice, v: v.tensor.slice, label: 'bench' };
      const results = (work.of === 'query' ? [q] : [k, v]).map(({ tensor: of }) => empty(of.shape));
      if (work.of === 'query') scaledDotProductGradQuery(gpu, given, dy.tensor.slice, rows.tensor.slice, results[0].slice);
      else scaledDotProductGradKeys(gpu, given, dy.tensor.slice, rows.tensor.slice, results[0].slice, results[1].slice);
      return results;
    };
    return repeatParts(launch, [q, k, v, dy, rows], []);
  }

  function ofOp(work: Extract<Work, { kind: 'op' }>): Prepared {
    const op = OPS.find(({ name }) => name === work.op) as Op;
    const inputs = work.shapes.map((shape, i) => {
      const isWhole = (op.inputTypes?.[i] ?? 'f32') !== 'f32';
      return activation(shape, (set) => (isWhole ? Uint32Array.from(opInputs(work, set)[i]) : opInputs(work, set)[i]));
    });
    const launch = () =>
      apply(
        op,
        inputs.map((input) => input.tensor),
        work.attrs,
      );
    return repeatParts(launch, inputs, [], work.op === 'axpby' ? { includes: 'the copy of y, which is changed in place' } : {});
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
      case 'lstmCell':
      case 'lstmCellGrad':
        return cell(work);
      case 'attention':
      case 'attentionGrad':
        return attention(work);
      case 'adam':
        return adamUpdate(work);
      case 'softmaxGrad':
        return softmaxGradient(work);
      case 'scaledDotProductGrad':
        return dotProductGradient(work);
      case 'op':
        return ofOp(work);
      case 'resnet50':
      case 'vit':
        return resnet?.(gpu, work.images, work.model) ?? null;
      case 'trainStep':
        return trainStep(work);
      case 'greedy':
        return greedy(gpu, work);
    }
  }
  return { name: 'glimpse', prepare };
}
