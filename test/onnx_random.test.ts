/** Random graphs, written here, run here and by onnxruntime: both must say the same. The seed is printed; ONNX_SEED tries another. */
import { expect, test } from 'vitest';
import { type Attributes, constantNode, floatTensor, intTensor, node, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { oracle } from '../scripts/third_party.js';
import { compare } from '../src/autograd/check.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { broadcastShapes, sizeOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const SEED = Number(process.env.ONNX_SEED ?? 20261126);
const GRAPHS = 100;
const OPSETS = [7, 9, 11, 13, 17, 18];
/** Elements of a value, at most: the graphs are about structure. */
const MOST = 3000;

interface Value {
  name: string;
  shape: number[];
}

/** A graph that grows node by node, from values that it has. */
class Grower {
  readonly nodes: Buffer[] = [];
  readonly initializers: Buffer[] = [];
  readonly inputs: Value[] = [];
  readonly values: Value[] = [];
  readonly ops: string[] = [];
  private readonly weights: Value[] = [];
  private count = 0;
  readonly opset: number;

  constructor(readonly random: Random) {
    this.opset = this.one(OPSETS);
    for (let i = this.upTo(1, 2); i > 0; i--) {
      const shape = [this.upTo(1, 2), this.one([1, 2, 3, 4, 8]), this.upTo(3, 9), this.upTo(3, 9)];
      const input = { name: `x${i}`, shape };
      this.inputs.push(input);
      this.values.push(input);
    }
  }

  upTo(low: number, high: number): number {
    return low + this.random.integer(high - low + 1);
  }

  one<T>(list: readonly T[]): T {
    return list[this.random.integer(list.length)];
  }

  chance(p: number): boolean {
    return this.random.uniform() < p;
  }

  fresh(): string {
    return `v${this.count++}`;
  }

  numbers(count: number, low = -1, high = 1): Float32Array {
    return Float32Array.from({ length: count }, () => this.random.uniform(low, high));
  }

  /** A constant: an initializer, a Constant node, or one of these under another name or in another shape. */
  constant(shape: number[], low = -1, high = 1): string {
    const shared = this.weights.filter((each) => each.shape.join() === shape.join());
    if (low === -1 && shared.length > 0 && this.chance(0.4)) return this.one(shared).name;
    const name = this.fresh();
    const values = this.numbers(sizeOf(shape), low, high);
    const kind = this.upTo(0, 9);
    if (kind < 5) this.initializers.push(floatTensor(name, shape, values));
    else if (kind < 7) this.nodes.push(constantNode(name, floatTensor('', shape, values)));
    else if (kind < 8) {
      this.initializers.push(floatTensor(`${name} flat`, [values.length], values));
      this.nodes.push(node('Reshape', [`${name} flat`, this.whole(shape)], [name]));
    } else if (kind < 9) {
      this.initializers.push(floatTensor(`${name} first`, shape, values));
      this.nodes.push(node('Identity', [`${name} first`], [name]));
    } else {
      const order = shape.map((_, i) => shape.length - 1 - i);
      this.initializers.push(floatTensor(`${name} turned`, [...shape].reverse(), values));
      this.nodes.push(node('Transpose', [`${name} turned`], [name], { perm: order }));
    }
    if (low === -1) this.weights.push({ name, shape });
    return name;
  }

  whole(values: readonly number[]): string {
    const name = this.fresh();
    const body = intTensor(this.chance(0.5) ? name : '', [values.length], [...values]);
    if (this.chance(0.5)) this.initializers.push(intTensor(name, [values.length], [...values]));
    else this.nodes.push(constantNode(name, body));
    return name;
  }

  add(op: string, inputs: string[], shape: number[], attributes: Attributes = {}): Value {
    const value = { name: this.fresh(), shape };
    this.nodes.push(node(op, inputs, [value.name], attributes));
    this.ops.push(`${op} [${shape}]`);
    return value;
  }

  /** A node whose axes are an attribute before an opset, an input from then on. */
  withAxes(op: string, x: Value, axes: number[], since: number, shape: number[], attributes: Attributes = {}): Value {
    return this.opset >= since ? this.add(op, [x.name, this.whole(axes)], shape, attributes) : this.add(op, [x.name], shape, { ...attributes, axes });
  }

  /** The axis, sometimes counted from the end. */
  axis(axis: number, rank: number): number {
    return this.opset >= 11 && this.chance(0.3) ? axis - rank : axis;
  }
}

type Rule = (g: Grower, x: Value) => Value | null;

/** Pads of two axes as ONNX writes them, and the extents that windows then give; null if none fits. */
function windows(g: Grower, x: Value, kernel: number[], dilation: number[], ceil: boolean) {
  const stride = [g.upTo(1, 2), g.upTo(1, 2)];
  const pads = [0, 1, 0, 1].map((axis) => g.upTo(0, Math.min(1, kernel[axis] - 1)));
  const out = [0, 1].map((axis) => {
    const room = (x.shape[2 + axis] + pads[axis] + pads[2 + axis] - (kernel[axis] - 1) * dilation[axis] - 1) / stride[axis];
    const count = (ceil ? Math.ceil(room) : Math.floor(room)) + 1;
    // A last window that would start in the padding is left out. The shapes that onnxruntime infers do not know that.
    return ceil && (count - 1) * stride[axis] >= x.shape[2 + axis] + pads[axis] ? 0 : count;
  });
  return out.every((extent) => extent >= 1) ? { stride, pads, out } : null;
}

const conv: Rule = (g, x) => {
  if (x.shape.length !== 4) return null;
  const [n, channels] = x.shape;
  const group = channels % 2 === 0 && g.chance(0.3) ? g.one([2, channels]) : 1;
  const out = group * g.upTo(1, Math.max(1, Math.floor(8 / group)));
  const kernel = [g.upTo(1, 3), g.upTo(1, 3)];
  const dilation = [g.upTo(1, 2), g.upTo(1, 2)];
  const w = windows(g, x, kernel, dilation, false);
  if (!w || n * out * sizeOf(w.out) > MOST) return null;
  const weight = g.constant([out, channels / group, ...kernel]);
  const attributes = {
    ...(g.chance(0.7) ? { kernel_shape: kernel } : {}),
    ...{ strides: w.stride, dilations: dilation, group, pads: w.pads },
  };
  return g.add('Conv', [x.name, weight, ...(g.chance(0.5) ? [g.constant([out])] : [])], [n, out, ...w.out], attributes);
};

const pool: Rule = (g, x) => {
  if (x.shape.length !== 4) return null;
  const kernel = [g.upTo(1, 3), g.upTo(1, 3)];
  const ceil = g.opset >= 10 && g.chance(0.3);
  const w = windows(g, x, kernel, [1, 1], ceil);
  if (!w) return null;
  const shape = [...x.shape.slice(0, 2), ...w.out];
  const common = { kernel_shape: kernel, strides: w.stride, pads: w.pads, ...(ceil ? { ceil_mode: 1 } : {}) };
  if (g.chance(0.5)) return g.add('MaxPool', [x.name], shape, common);
  return g.add('AveragePool', [x.name], shape, { ...common, ...(!ceil && g.chance(0.5) ? { count_include_pad: 1 } : {}) });
};

const batchNorm: Rule = (g, x) => {
  if (x.shape.length !== 4 && x.shape.length !== 3) return null;
  const c = [x.shape[1]];
  const parameters = [g.constant(c), g.constant(c), g.constant(c), g.constant(c, 0.5, 2)];
  return g.add('BatchNormalization', [x.name, ...parameters], x.shape, { epsilon: { float: 1e-3 } });
};

const unary: Rule = (g, x) => {
  const op = g.one(['Relu', 'LeakyRelu', 'Sigmoid', 'Tanh', 'Neg', 'Abs', 'Identity', 'Dropout', 'Cast', 'Clip', 'Relu']);
  if (op === 'Cast') return g.add(op, [x.name], x.shape, { to: 1 });
  if (op !== 'Clip') return g.add(op, [x.name], x.shape, op === 'LeakyRelu' ? { alpha: { float: 0.2 } } : {});
  if (g.opset < 11) return g.add(op, [x.name], x.shape, { min: { float: -0.4 }, max: { float: 0.6 } });
  const [low, high] = [g.constant([], -0.6, -0.1), g.constant([], 0.1, 0.6)];
  return g.add(op, g.one([[x.name, low, high], [x.name, low], [x.name, '', high], [x.name]]), x.shape);
};

/** With another value, or with a constant: both sides broadcast. */
const binary: Rule = (g, x) => {
  const op = g.one(['Add', 'Add', 'Sub', 'Mul', 'Div']);
  const fits = (other: Value): boolean => {
    try {
      return sizeOf(broadcastShapes(x.shape, other.shape, op)) <= MOST;
    } catch {
      return false;
    }
  };
  const others = g.values.filter(fits);
  const isConstant = op === 'Div' || others.length === 0 || g.chance(0.4);
  const small = x.shape.slice(g.upTo(0, x.shape.length)).map((extent) => (g.chance(0.4) ? 1 : extent));
  const other = isConstant ? { name: op === 'Div' ? g.constant(small, 0.5, 2) : g.constant(small), shape: small } : g.one(others);
  const pair = op !== 'Div' && g.chance(0.5) ? [other.name, x.name] : [x.name, other.name];
  return g.add(op, pair, broadcastShapes(x.shape, other.shape, op));
};

const sum: Rule = (g, x) => {
  const same = g.values.filter(({ shape }) => shape.join() === x.shape.join());
  return g.add('Sum', [x.name, ...Array.from({ length: g.upTo(0, 2) }, () => g.one(same).name)], x.shape);
};

const concat: Rule = (g, x) => {
  if (x.shape.length === 0) return null;
  const axis = g.upTo(0, x.shape.length - 1);
  const fitting = g.values.filter(({ shape }) => shape.length === x.shape.length && shape.every((extent, i) => i === axis || extent === x.shape[i]));
  const parts = [x, ...Array.from({ length: g.upTo(0, 2) }, () => g.one(fitting))];
  if (g.chance(0.3)) {
    const shape = x.shape.with(axis, g.upTo(1, 3));
    parts.push({ name: g.constant(shape), shape });
  }
  const shape = x.shape.with(
    axis,
    parts.reduce((total, part) => total + part.shape[axis], 0),
  );
  if (sizeOf(shape) > MOST) return null;
  return g.add(
    'Concat',
    parts.map(({ name }) => name),
    shape,
    { axis: g.axis(axis, shape.length) },
  );
};

/** By a constant with 0 and −1 in it, or by a shape that is computed as exporters do it. */
const reshape: Rule = (g, x) => {
  const size = sizeOf(x.shape);
  const divisors = Array.from({ length: size }, (_, i) => i + 1).filter((each) => size % each === 0);
  const first = g.one(divisors);
  const rest = size / first;
  const second = g.one(divisors.filter((each) => rest % each === 0));
  const shape = g.one([[first, rest], [size], [first, second, rest / second]]);
  if (x.shape.length > 1 && g.chance(0.3)) {
    // [x.size(0), −1]
    const [shapeName, n] = [g.fresh(), g.fresh()];
    g.nodes.push(node('Shape', [x.name], [shapeName]));
    g.initializers.push(intTensor(`${n} zero`, [1], [0]));
    g.nodes.push(node('Gather', [shapeName, `${n} zero`], [n]));
    const target = g.fresh();
    g.nodes.push(node('Concat', [n, g.whole([-1])], [target], { axis: 0 }));
    return g.add('Reshape', [x.name, target], [x.shape[0], sizeOf(x.shape.slice(1))]);
  }
  const written = [...shape];
  const open = g.upTo(-1, shape.length - 1);
  if (open >= 0) written[open] = -1;
  written.forEach((extent, i) => {
    if (extent > 0 && extent === x.shape[i] && g.chance(0.5)) written[i] = 0;
  });
  return g.add('Reshape', [x.name, g.whole(written)], shape);
};

const flatten: Rule = (g, x) => {
  const axis = g.upTo(0, x.shape.length);
  return g.add('Flatten', [x.name], [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))], { axis });
};

const transpose: Rule = (g, x) => {
  const order = g.random.permutation(x.shape.length);
  return g.add(
    'Transpose',
    [x.name],
    Array.from(order, (axis) => x.shape[axis]),
    { perm: [...order] },
  );
};

const matmul: Rule = (g, x) => {
  if (x.shape.length < 1) return null;
  const k = x.shape[x.shape.length - 1];
  const n = g.upTo(1, 6);
  if ((sizeOf(x.shape) / k) * n > MOST || k * n > MOST) return null;
  const kind = g.upTo(0, 3);
  if (kind === 0) return g.add('MatMul', [x.name, g.constant([k])], x.shape.slice(0, -1));
  if (kind === 1 && x.shape.length > 2) return g.add('MatMul', [x.name, g.constant([...x.shape.slice(0, -2), k, n])], [...x.shape.slice(0, -1), n]);
  if (kind === 2 && x.shape.length === 2) {
    const [transB, transA] = [g.upTo(0, 1), 0];
    const attributes = { transA, transB, alpha: { float: 0.5 }, beta: { float: 2 } };
    const c = g.constant(g.one([[n], [1, n], [x.shape[0], 1], [1], [x.shape[0], n]]));
    return g.add('Gemm', [x.name, g.constant(transB ? [n, k] : [k, n]), c], [x.shape[0], n], attributes);
  }
  return g.add('MatMul', [x.name, g.constant([k, n])], [...x.shape.slice(0, -1), n]);
};

const softmax: Rule = (g, x) => {
  if (x.shape.length < 1) return null;
  return g.add(g.one(['Softmax', 'LogSoftmax']), [x.name], x.shape, { axis: g.axis(g.upTo(0, x.shape.length - 1), x.shape.length) });
};

const reduce: Rule = (g, x) => {
  const rank = x.shape.length;
  if (rank === 0) return null;
  const op = g.one(['ReduceMean', 'ReduceSum', 'ReduceMax', 'ReduceMin']);
  const axes = Array.from(g.random.permutation(rank)).slice(0, g.upTo(1, rank));
  const keepdims = g.upTo(0, 1);
  const shape = keepdims ? x.shape.map((extent, i) => (axes.includes(i) ? 1 : extent)) : x.shape.filter((_, i) => !axes.includes(i));
  const since = op === 'ReduceSum' ? 13 : 18;
  if (axes.length === rank && g.chance(0.5)) return g.add(op, [x.name], shape, { keepdims });
  return g.withAxes(
    op,
    x,
    axes.map((axis) => g.axis(axis, rank)),
    since,
    shape,
    { keepdims },
  );
};

const globalPool: Rule = (g, x) =>
  x.shape.length < 3
    ? null
    : g.add(
        'GlobalAveragePool',
        [x.name],
        x.shape.map((extent, i) => (i < 2 ? extent : 1)),
      );

const slice: Rule = (g, x) => {
  if (x.shape.length === 0) return null;
  const axes = Array.from(g.random.permutation(x.shape.length)).slice(0, g.upTo(1, Math.min(2, x.shape.length)));
  const ranges = axes.map((axis) => {
    const start = g.upTo(0, x.shape[axis] - 1);
    const end = g.upTo(start + 1, x.shape[axis]);
    const step = g.opset >= 10 ? g.one([1, 1, 2, -1]) : 1;
    if (step < 0) return { start: end - 1, end: start === 0 ? -1000 : start - 1, step, count: end - start };
    return { start, end: end === x.shape[axis] && g.chance(0.5) ? Number.MAX_SAFE_INTEGER : end, step, count: Math.ceil((end - start) / step) };
  });
  const shape = x.shape.map((extent, i) => ranges[axes.indexOf(i)]?.count ?? extent);
  const [starts, ends, steps] = [ranges.map((r) => r.start), ranges.map((r) => r.end), ranges.map((r) => r.step)];
  if (g.opset < 10) return g.add('Slice', [x.name], shape, { axes, starts, ends });
  return g.add('Slice', [x.name, g.whole(starts), g.whole(ends), g.whole(axes), g.whole(steps)], shape);
};

const gather: Rule = (g, x) => {
  if (x.shape.length === 0) return null;
  const axis = g.upTo(0, x.shape.length - 1);
  const extent = x.shape[axis];
  const indices = Array.from({ length: g.upTo(1, 3) }, () => g.upTo(g.opset >= 11 ? -extent : 0, extent - 1));
  if (g.chance(0.3)) {
    const name = g.fresh();
    g.initializers.push(intTensor(name, [], [indices[0]]));
    return g.add('Gather', [x.name, name], x.shape.toSpliced(axis, 1), { axis });
  }
  return g.add('Gather', [x.name, g.whole(indices)], x.shape.with(axis, indices.length), { axis });
};

const resize: Rule = (g, x) => {
  const ones = x.shape.flatMap((extent, axis) => (extent === 1 ? [axis] : []));
  if (ones.length > 0 && g.chance(0.6)) {
    const axis = g.one(ones);
    return g.withAxes('Squeeze', x, [g.axis(axis, x.shape.length)], 13, x.shape.toSpliced(axis, 1));
  }
  if (x.shape.length > 4) return null;
  const axis = g.upTo(0, x.shape.length);
  return g.withAxes('Unsqueeze', x, [g.axis(axis, x.shape.length + 1)], 13, x.shape.toSpliced(axis, 0, 1));
};

const RULES: Rule[] = [
  ...[conv, conv, conv, conv, batchNorm, batchNorm, unary, unary, unary, binary, binary, binary, pool, sum, concat, reshape, flatten],
  ...[transpose, matmul, softmax, reduce, globalPool, slice, gather, resize],
];

function grown(random: Random): Grower {
  const g = new Grower(random);
  const nodes = g.upTo(4, 18);
  for (let made = 0, tries = 0; made < nodes && tries < 200; tries++) {
    // Mostly what was made last, so that chains grow that the fold and the fusion see.
    const x = g.chance(0.6) ? g.values[g.values.length - 1] : g.one(g.values);
    const value = g.one(RULES)(g, x);
    if (!value) continue;
    g.values.push(value);
    made++;
  }
  return g;
}

interface Ort {
  InferenceSession: {
    create(bytes: Uint8Array, options: object): Promise<{ run(feeds: object): Promise<Record<string, { data: Float32Array; dims: readonly number[] }>> }>;
  };
  Tensor: new (type: string, data: Float32Array, shape: readonly number[]) => object;
}

const ort = oracle('onnxruntime-node') as Ort | null;
if (!ort) console.warn('SKIPPED: random graphs against onnxruntime; install it with `npm run oracles`');
else console.log(`random graphs: seed ${SEED} (ONNX_SEED sets another)`);

test.skipIf(!ort).each(Array.from({ length: GRAPHS / 10 }, (_, i) => 10 * i))(
  'random graphs from %i on agree with onnxruntime',
  { timeout: 60_000 },
  async (from) => {
    for (let i = from; i < from + 10; i++) {
      const g = grown(new Random(SEED, `graph ${i}`));
      // Everything that was computed is looked at, but only what nobody reads and a few others are outputs: the rest may be fused.
      const outputs = g.values.slice(g.inputs.length).filter((_, k, all) => k === all.length - 1 || g.chance(0.25));
      const bytes = onnxBytes({ nodes: g.nodes, initializers: g.initializers, inputs: g.inputs, outputs: outputs.map(({ name }) => name), opset: g.opset });
      const said = `seed ${SEED}, graph ${i}, opset ${g.opset}: ${g.ops.join(' → ')}`;
      const data = g.inputs.map(({ shape }) => g.numbers(sizeOf(shape), -2, 2));
      // With its fusions on, onnxruntime 1.30 disagrees with itself: on a Transpose before a MatMul with a vector.
      const session = await (ort as Ort).InferenceSession.create(bytes, { logSeverityLevel: 3, graphOptimizationLevel: 'disabled' }).catch((error) => {
        throw new Error(`onnxruntime does not load ${said}: ${error}`);
      });
      const feeds = Object.fromEntries(g.inputs.map(({ name, shape }, k) => [name, new (ort as Ort).Tensor('float32', data[k], shape)]));
      const expected = await session.run(feeds);
      using _graph = scope();
      const model = OnnxModel.load(bytesAsSource(said, bytes));
      const results = noGrad(() => model.run(Object.fromEntries(g.inputs.map(({ name, shape }, k) => [name, tensor(data[k], shape)])))) as Tensor[];
      for (const [k, { name, shape }] of outputs.entries()) {
        expect(results[k].shape, said).toEqual([...expected[name].dims]);
        expect(results[k].shape, said).toEqual(shape);
        const scale = expected[name].data.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
        expect(compare(await results[k].data(), expected[name].data, 1e-3, 1e-5 * scale), `${said}, output ${name}`).toMatchObject({ ok: true, first: null });
      }
      model.dispose();
    }
  },
);
