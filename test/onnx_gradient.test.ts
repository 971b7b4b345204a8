/** The operator Gradient: derivatives against finite differences, tfjs and known numbers; what it names; what is refused. */
import { expect, test } from 'vitest';
import { constantNode, field, floatTensor, intTensor, node, type OnnxParts, onnxBytes, rawTensor } from '../bench/peers/onnx_writer.ts';
import { oracle } from '../scripts/third_party.js';
import { compare } from '../src/autograd/check.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { type Given, OnnxModel } from '../src/model/onnx/run.ts';
import { surveyOf } from '../src/model/onnx/survey.ts';
import type { HostTensor } from '../src/model/onnx/values.ts';
import { graphMessage, type ValueInfo } from '../src/model/onnx/writer.ts';
import { Random } from '../src/random.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { memory, scope, scoped, Tensor, tensor } from '../src/tensor/tensor.ts';
import { numbers } from './onnx_graphs.ts';
import { computedMs, useGpu } from './support.ts';

useGpu();

const [FLOAT, INT64, BOOL, DOUBLE] = [1, 7, 9, 11];
const DOMAIN = 'ai.onnx.preview.training';
const IMPORT = field(8, Buffer.concat([field(1, DOMAIN), field(2, 1)]));

const strings = (name: string, values: readonly string[]): Buffer =>
  field(5, Buffer.concat([field(1, name), ...values.map((each) => field(9, each)), field(20, 8)]));

interface Named {
  xs: string[];
  zs?: string[];
  y: string;
  /** The values that are given; those that are named if it is left out. */
  at?: string[];
}

const gradient = ({ xs, zs, y, at = [...xs, ...(zs ?? [])] }: Named, outputs: string[]): Buffer =>
  Buffer.concat([node('Gradient', at, outputs, { y }), strings('xs', xs), ...(zs ? [strings('zs', zs)] : []), field(7, DOMAIN)]);

const load = (parts: OnnxParts, options = {}): OnnxModel => OnnxModel.load(bytesAsSource('model', Buffer.concat([onnxBytes(parts), IMPORT])), options);

const info = (name: string, type = FLOAT): ValueInfo => ({ name, type });
const graph = (nodes: Buffer[], inputs: ValueInfo[], outputs: ValueInfo[], initializers: Buffer[] = []) => ({
  graph: graphMessage({ name: 'body', nodes: nodes.map((each) => [each]), initializers: initializers.map((each) => [each]), inputs, outputs }),
});

const weights = (name: string, shape: number[], scale = 0.5): Buffer => floatTensor(name, shape, numbers(name, sizeOf(shape), scale));
const given = (name: string, shape: number[]): HostTensor => ({ kind: 'float', type: 'float', shape, data: numbers(name, sizeOf(shape)) });
const listed = async (value: Given): Promise<number[]> => Array.from(value instanceof Tensor ? await value.data() : ((value as HostTensor).data as number[]));

/** Runs a model, and gives its outputs as lists. */
async function outputsOf(parts: OnnxParts, inputs: Record<string, Given>): Promise<number[][]> {
  return scoped(async () => {
    const model = load(parts);
    try {
      return await Promise.all((await model.computeAsync(inputs)).map(listed));
    } finally {
      model.dispose();
    }
  });
}

interface Case {
  nodes: Buffer[];
  xs: Record<string, number[]>;
  zs?: Record<string, HostTensor>;
  initializers?: Buffer[];
  opset?: number;
}

const [perm, weight] = [[0, 2, 1], weights('w', [4, 3])];

/** Each makes y; it is differentiated by every x. */
const CASES: Record<string, Case> = {
  'add and mul': { nodes: [node('Add', ['a', 'b'], ['c']), node('Mul', ['c', 'a'], ['y'])], xs: { a: [], b: [] } },
  'a perceptron': {
    nodes: [
      ...[node('MatMul', ['x', 'w1'], ['h']), node('Add', ['h', 'b1'], ['s']), node('Relu', ['s'], ['r']), node('MatMul', ['r', 'w2'], ['o'])],
      ...[node('Sigmoid', ['o'], ['p']), node('ReduceMean', ['p'], ['y'], { keepdims: 0 })],
    ],
    xs: { x: [5, 7], w1: [7, 11], b1: [11], w2: [11, 3] },
  },
  'convolutions, pooled and classified': {
    nodes: [
      ...[node('Conv', ['x', 'k1', 'b1'], ['c1'], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }), node('Relu', ['c1'], ['r1'])],
      ...[node('Conv', ['r1', 'k2'], ['c2'], { kernel_shape: [3, 3], strides: [2, 2] }), node('Add', ['c2', 'per channel'], ['s2'])],
      ...[node('GlobalAveragePool', ['s2'], ['g']), node('Flatten', ['g'], ['f']), node('Gemm', ['f', 'fc', 'bias'], ['o'], { transB: 1 })],
      ...[node('Softmax', ['o'], ['p'], { axis: -1 }), node('Log', ['p'], ['l']), node('Mul', ['l', 'target'], ['y'])],
    ],
    xs: { x: [2, 3, 9, 7], k1: [6, 3, 3, 3], b1: [6] },
    initializers: [weights('k2', [5, 6, 3, 3]), weights('per channel', [5, 1, 1]), weights('fc', [4, 5]), weights('bias', [4]), weights('target', [2, 4])],
  },
  'the weights of a folded norm': {
    nodes: [
      ...[node('Conv', ['pictures', 'k'], ['c'], { kernel_shape: [1, 1] }), node('BatchNormalization', ['c', 'gamma', 'beta', 'mean', 'variance'], ['n'])],
      ...[node('Relu', ['n'], ['r']), node('MaxPool', ['r'], ['y'], { kernel_shape: [2, 2] })],
    ],
    xs: { k: [3, 2, 1, 1], gamma: [3] },
    initializers: [...[weights('pictures', [1, 2, 4, 6], 2), weights('beta', [3]), weights('mean', [3])], floatTensor('variance', [3], [0.5, 1, 2])],
  },
  'shapes are moved': {
    nodes: [
      ...[node('Shape', ['x'], ['shape']), node('Gather', ['shape', 'zero'], ['n']), node('Concat', ['n', 'rest'], ['to'], { axis: 0 })],
      ...[node('Reshape', ['x', 'to'], ['r']), node('Transpose', ['r'], ['t'], { perm }), node('Slice', ['t', 'zero', 'two', 'one'], ['s'])],
      ...[node('Split', ['s'], ['s1', 's2'], { axis: 1 }), node('Concat', ['s2', 's1', 's2'], ['j'], { axis: 2 }), node('Tanh', ['j'], ['y'])],
    ],
    xs: { x: [3, 8] },
    initializers: [intTensor('zero', [1], [0]), intTensor('one', [1], [1]), intTensor('two', [1], [2]), intTensor('rest', [2], [4, -1])],
  },
  'a choice, and steps that are flat': {
    nodes: [
      ...[node('Greater', ['x', 'b'], ['more']), node('Exp', ['x'], ['e']), node('Where', ['more', 'e', 'b'], ['c']), node('Floor', ['x'], ['f'])],
      ...[
        node('Cast', ['more'], ['m'], { to: FLOAT }),
        node('Mul', ['f', 'x'], ['fx']),
        node('Mul', ['m', 'x'], ['mx']),
        node('Sum', ['fx', 'mx', 'c'], ['y']),
      ],
    ],
    xs: { x: [4, 5], b: [5] },
  },
  'normalized, and a loss of labels': {
    nodes: [
      node('LayerNormalization', ['x', 'scale', 'shift'], ['n']),
      node('Gather', ['n', 'rows'], ['g']),
      node('Einsum', ['g', 'w'], ['o'], { equation: 'ni,io->no' }),
      node('SoftmaxCrossEntropyLoss', ['o', 'labels'], ['y']),
    ],
    xs: { x: [3, 4], scale: [4], w: [4, 5] },
    zs: { labels: { kind: 'int', type: 'int64', shape: [4], data: [2, 0, 4, 1] } },
    initializers: [weights('shift', [4]), intTensor('rows', [4], [2, 0, 0, 1])],
    opset: 17,
  },
  'a recurrent layer': {
    nodes: [node('LSTM', ['x', 'w', 'r'], ['all', 'y'], { hidden_size: 3 })],
    xs: { x: [4, 2, 5], w: [1, 12, 5], r: [1, 12, 3] },
    opset: 14,
  },
  'a scan': {
    nodes: [
      node('Scan', ['x', 'x'], ['last', 'y'], {
        body: graph(
          [node('Mul', ['state', 'part'], ['product']), node('Add', ['product', 'b'], ['next']), node('Sin', ['next'], ['out'])],
          [info('state'), info('part')],
          [info('next'), info('out')],
        ),
        num_scan_inputs: 1,
        scan_input_axes: [0],
      }),
    ],
    xs: { x: [3, 3], b: [3] },
    opset: 16,
  },
  'a branch of the values': {
    nodes: [
      ...[node('ReduceSum', ['x'], ['sum'], { keepdims: 0 }), node('Less', ['sum', 'limit'], ['is less'])],
      node('If', ['is less'], ['y'], {
        then_branch: graph([node('Mul', ['x', 'w'], ['product'])], [], [info('product')], [weight]),
        else_branch: graph([node('Neg', ['x'], ['negative'])], [], [info('negative')]),
      }),
    ],
    xs: { x: [4, 3] },
    initializers: [floatTensor('limit', [], [1e9])],
    opset: 16,
  },
};

const partsOf = ({ nodes, xs, zs = {}, initializers = [], opset = 13 }: Case): OnnxParts => {
  const names = Object.keys(xs);
  return {
    ...{ opset, initializers },
    nodes: [
      ...nodes,
      gradient(
        { xs: names, zs: Object.keys(zs), y: 'y' },
        names.map((name) => `d ${name}`),
      ),
    ],
    inputs: [...Object.entries(xs).map(([name, shape]) => ({ name, shape })), ...Object.entries(zs).map(([name, { shape }]) => ({ name, shape, type: INT64 }))],
    outputs: ['y', ...names.map((name) => `d ${name}`)],
  };
};

test.each(Object.entries(CASES))('finite differences: %s', { timeout: 60_000 }, async (said, each) => {
  using own = scope();
  const model = load(partsOf(each));
  const at: Record<string, HostTensor> = { ...Object.fromEntries(Object.entries(each.xs).map(([name, shape]) => [name, given(name, shape)])), ...each.zs };
  /** The sum of y. On the host it is exact. */
  const valueAt = async (inputs: Record<string, HostTensor>): Promise<number> =>
    (await listed((await model.computeAsync(inputs, ['y']))[0])).reduce((sum, value) => sum + value, 0);
  const random = new Random(5, said);
  for (const [name, shape] of Object.entries(each.xs)) {
    const [found] = await model.computeAsync(at, [`d ${name}`]);
    expect((found as Tensor).shape).toEqual(shape);
    const derivative = await listed(found);
    const { data } = at[name];
    const norm = Math.hypot(...derivative);
    expect(norm).toBeGreaterThan(0);
    const random1 = derivative.map(() => random.normal());
    for (const direction of [derivative.map((value) => value / norm), random1.map((value) => value / Math.hypot(...random1))]) {
      const h = 4e-3;
      const moved = (by: number) => valueAt({ ...at, [name]: { ...at[name], data: Float32Array.from(data, (value, i) => value + by * direction[i]) } });
      const slope = ((await moved(h)) - (await moved(-h))) / (2 * h);
      const expected = derivative.reduce((sum, value, i) => sum + value * direction[i], 0);
      expect(Math.abs(slope - expected), `${said}, ${name}: slope ${slope}, derivative ${expected}`).toBeLessThan(0.01 * norm + 1e-3);
    }
  }
  model.dispose();
  own[Symbol.dispose]();
});

const tf = oracle('@tensorflow/tfjs');
if (!tf) console.warn('SKIPPED: derivatives against tfjs; install it with `npm run oracles`');

test.skipIf(!tf)('tfjs has the same derivatives', async () => {
  await tf.setBackend('cpu');
  const variables = (shapes: Record<string, number[]>) => Object.entries(shapes).map(([name, shape]) => tf.tensor(numbers(name, sizeOf(shape)), shape));
  const inputsOf = (shapes: Record<string, number[]>) => Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, given(name, shape)]));
  const check = async (name: string, f: (...xs: any[]) => unknown) => {
    const each = CASES[name];
    const expected = tf.grads(f)(variables(each.xs));
    const [, ...found] = await outputsOf(partsOf(each), inputsOf(each.xs));
    for (const [i, values] of found.entries()) expect(compare(values, expected[i].dataSync(), 2e-4, 2e-5), `${name}, ${i}`).toMatchObject({ ok: true });
  };
  await check('a perceptron', (x, w1, b1, w2) => tf.mean(tf.sigmoid(tf.matMul(tf.relu(tf.add(tf.matMul(x, w1), b1)), w2))));
  const constant = (name: string, shape: number[]) => tf.tensor(numbers(name, sizeOf(shape)), shape);
  await check('convolutions, pooled and classified', (x, k1, b1) => {
    const last = tf.transpose(x, [0, 2, 3, 1]);
    const c1 = tf.relu(tf.add(tf.conv2d(last, tf.transpose(k1, [2, 3, 1, 0]), 1, 'same'), b1));
    const c2 = tf.add(tf.conv2d(c1, tf.transpose(constant('k2', [5, 6, 3, 3]), [2, 3, 1, 0]), 2, 'valid'), constant('per channel', [5]));
    const o = tf.add(tf.matMul(tf.mean(c2, [1, 2]), constant('fc', [4, 5]), false, true), constant('bias', [4]));
    return tf.sum(tf.mul(tf.logSoftmax(o), constant('target', [2, 4])));
  });
});

const x3 = { name: 'x', shape: [3] };
const values: HostTensor = { kind: 'float', type: 'float', shape: [3], data: Float32Array.of(1, 2, -3) };
const cube: Buffer[] = [node('Mul', ['x', 'x'], ['q']), node('Mul', ['q', 'x'], ['y'])];
const parts = (nodes: Buffer[], outputs: string[], more: Partial<OnnxParts> = {}): OnnxParts => ({ nodes, inputs: [x3], outputs, ...more });
/** The same nodes in a function f(x) = d. */
const calling = (nodes: Buffer[]): Buffer =>
  Buffer.concat([
    onnxBytes(parts([Buffer.concat([node('F', ['x'], ['d']), field(7, 'my')])], ['d'])),
    ...[IMPORT, field(8, Buffer.concat([field(1, 'my'), field(2, 1)]))],
    field(
      25,
      Buffer.concat([
        field(1, 'F'),
        field(4, 'x'),
        field(5, 'd'),
        ...nodes.map((each) => field(7, each)),
        field(9, Buffer.concat([field(1, ''), field(2, 13)])),
        field(10, 'my'),
      ]),
    ),
  ]);

/** Graphs of an input x = [1, 2, −3], and their outputs. */
const KNOWN: Record<string, [OnnxParts, number[][]]> = {
  'of a power': [parts([...cube, gradient({ xs: ['x'], y: 'y' }, ['d'])], ['d']), [[3, 12, 27]]],
  'at other values, of another shape': [
    parts([...cube, gradient({ xs: ['x'], y: 'y', at: ['other'] }, ['d'])], ['d', 'y'], { initializers: [floatTensor('other', [2, 1], [10, -1])] }),
    [
      [300, 3],
      [1, 8, -27],
    ],
  ],
  'by a value between': [parts([...cube, gradient({ xs: ['q'], y: 'y' }, ['d'])], ['d']), [[1, 2, -3]]],
  'by a value between, at another one; x is held': [
    parts(
      [node('Mul', ['x', 'x'], ['q']), node('Mul', ['q', 'q'], ['p']), node('Mul', ['p', 'x'], ['y']), gradient({ xs: ['q'], y: 'y', at: ['x'] }, ['d'])],
      ['d'],
    ),
    [[2, 8, 18]],
  ],
  'zeros where y does not depend on it': [
    parts([...cube, node('Exp', ['x'], ['e']), gradient({ xs: ['e', 'q'], y: 'y', at: ['e', 'q'] }, ['de', 'dq'])], ['de', 'dq']),
    [
      [0, 0, 0],
      [1, 2, -3],
    ],
  ],
  'of a constant': [parts([gradient({ xs: ['x'], y: 'c' }, ['d'])], ['d'], { initializers: [floatTensor('c', [2], [1, 2])] }), [[0, 0, 0]]],
  'of the value itself': [parts([gradient({ xs: ['x'], y: 'x' }, ['d'])], ['d']), [[1, 1, 1]]],
  'by a constant of the file': [
    parts([node('Mul', ['x', 'c'], ['y']), gradient({ xs: ['c'], zs: ['x'], y: 'y' }, ['d'])], ['d'], { initializers: [floatTensor('c', [1], [5])] }),
    [[0]],
  ],
  'where outputs are left out': [
    parts([...cube, node('Add', ['y', 'b'], ['s']), node('Mul', ['s', 'b'], ['t']), gradient({ xs: ['x', 'b'], y: 't', at: ['x', 'b'] }, ['', 'd'])], ['d'], {
      initializers: [floatTensor('b', [], [2])],
    }),
    [[1 + 8 - 27 + 3 * 4]],
  ],
  'constants and passes between': [
    parts(
      [
        ...[node('Identity', ['x'], ['i']), node('Dropout', ['i'], ['o']), constantNode('two', floatTensor('two', [], [2]))],
        ...[node('Mul', ['two', 'two'], ['four']), node('Mul', ['o', 'four'], ['m']), node('Identity', ['m'], ['y'])],
        ...[gradient({ xs: ['x'], y: 'y' }, ['d']), gradient({ xs: ['m'], y: 'y' }, ['e'])],
      ],
      ['d', 'e'],
    ),
    [
      [4, 4, 4],
      [1, 1, 1],
    ],
  ],
  'a node that stands before what it names': [
    parts([gradient({ xs: ['x'], y: 'y' }, ['d']), constantNode('two', floatTensor('two', [], [2])), node('Pow', ['x', 'two'], ['y'])], ['d']),
    [[2, 4, -6]],
  ],
  'nodes that a file repeats': [
    parts([...cube, gradient({ xs: ['x'], y: 'y' }, ['d']), gradient({ xs: ['x'], y: 'y' }, ['e']), node('Add', ['d', 'e'], ['s'])], ['s']),
    [[6, 24, 54]],
  ],
  'a derivative that a held value has': [
    parts(
      [
        ...[...cube, gradient({ xs: ['x'], y: 'y' }, ['d']), node('Mul', ['d', 'b'], ['t']), node('Mul', ['t', 'b'], ['s'])],
        gradient({ xs: ['b'], zs: ['x'], y: 's', at: ['b', 'other'] }, ['e']),
      ],
      ['e'],
      { initializers: [floatTensor('b', [], [2]), floatTensor('other', [1], [1])] },
    ),
    [[12]],
  ],
  'steps of descent in a loop': [
    parts(
      [
        node('Loop', ['turns', '', 'x'], ['end'], {
          body: graph(
            [
              ...[node('Identity', ['going'], ['on']), node('Sub', ['at', 'aim'], ['off']), node('Mul', ['off', 'off'], ['square'])],
              ...[gradient({ xs: ['at'], y: 'square' }, ['d']), node('Mul', ['d', 'rate'], ['step']), node('Sub', ['at', 'step'], ['next'])],
            ],
            [info('turn', INT64), info('going', BOOL), info('at')],
            [info('on', BOOL), info('next')],
          ),
        }),
      ],
      ['end'],
      { initializers: [intTensor('turns', [], [3]), floatTensor('aim', [3], [1, 0, 1]), floatTensor('rate', [], [0.25])], opset: 16 },
    ),
    [[1, 0.25, 0.5]],
  ],
  'derivatives of derivatives by other values, three deep': [
    parts(
      [0, 1, 2].flatMap((i) => [
        ...[node('Mul', [i === 0 ? 'x' : `d${i - 1}`, `b${i}`], [`t${i}`]), node('Mul', [`t${i}`, 'x'], [`y${i}`])],
        gradient({ xs: [`b${i}`], zs: ['x'], y: `y${i}` }, [`d${i}`]),
      ]),
      ['d0', 'd1', 'd2'],
      { initializers: [0, 1, 2].map((i) => floatTensor(`b${i}`, [3], [5, 6, 7])) },
    ),
    [
      [1, 4, 9],
      [1, 8, -27],
      [1, 16, 81],
    ],
  ],
  'what is flat has the derivative 0': [
    parts(
      [
        ...[node('Hardmax', ['x'], ['h']), node('Mul', ['h', 'x'], ['m']), node('Shrink', ['x'], ['s'], { lambd: { float: 1.5 }, bias: { float: 0.5 } })],
        ...[node('Sign', ['x'], ['sign']), node('EyeLike', ['m2'], ['eye']), node('ArgMax', ['x'], ['place']), node('Cast', ['place'], ['p'], { to: FLOAT })],
        ...[node('Sum', ['m', 's', 'sign', 'eye', 'p'], ['y']), gradient({ xs: ['x', 'm2'], y: 'y' }, ['d', 'e'])],
      ],
      ['d', 'e'],
      { initializers: [floatTensor('m2', [1, 3], [1, 2, 3])] },
    ),
    [
      [0, 2, 1],
      [0, 0, 0],
    ],
  ],
  'elements of a sequence': [
    parts(
      [
        ...[node('Mul', ['x', 'x'], ['q']), node('SequenceConstruct', ['q', 'b', 'x'], ['s']), constantNode('one', intTensor('one', [], [1]))],
        ...[node('SequenceErase', ['s', 'one'], ['r']), node('ConcatFromSequence', ['r'], ['c'], { axis: 0 }), node('SequenceAt', ['s', 'one'], ['same'])],
        ...[node('ReduceSum', ['same'], ['factor']), node('Mul', ['c', 'factor'], ['y']), gradient({ xs: ['x'], y: 'y' }, ['d'])],
      ],
      ['d'],
      { initializers: [floatTensor('b', [2], [1, 2])] },
    ),
    [[9, 15, -15]],
  ],
  'one in each branch, of the same names': [
    parts(
      [
        ...[node('ReduceSum', ['x'], ['sum']), node('Less', ['sum', 'limit'], ['is less']), node('Not', ['is less'], ['not'])],
        ...['is less', 'not'].map((ask, i) =>
          node('If', [ask], [`r${i}`], {
            then_branch: graph([...cube, gradient({ xs: ['x'], y: 'y' }, ['d'])], [], [info('d')]),
            else_branch: graph([node('Mul', ['x', 'x'], ['q']), gradient({ xs: ['x'], y: 'q' }, ['d'])], [], [info('d')]),
          }),
        ),
      ],
      ['r0', 'r1'],
      { initializers: [floatTensor('limit', [], [1e9])] },
    ),
    [
      [3, 12, 27],
      [2, 4, -6],
    ],
  ],
  'nothing has no derivative': [
    parts([...cube, gradient({ xs: ['x'], y: 'y', at: ['none'] }, ['d'])], ['d'], { initializers: [floatTensor('none', [0], [])] }),
    [[]],
  ],
};

test.each(Object.entries(KNOWN))('known numbers: %s', async (_, [each, expected]) => {
  const found = await outputsOf(each, each.inputs.length > 0 ? { x: values } : {});
  expect(found.map((list) => list.map((value) => Math.fround(value)))).toEqual(expected);
});

test('within a function it names values of the function', async () => {
  const bytes = calling([...cube, gradient({ xs: ['x'], y: 'y' }, ['d'])]);
  await scoped(async () => {
    const model = OnnxModel.load(bytesAsSource('model', bytes));
    expect(await listed((await model.computeAsync({ x: values }))[0])).toEqual([3, 12, 27]);
    model.dispose();
  });
  expect(surveyOf(bytesAsSource('model', bytes)).problem).toBeNull();
});

test('a run without awaits, and one under noGrad, find the same; pass by pass', () => {
  const each = partsOf(CASES['the weights of a folded norm']);
  return scoped(async () => {
    const found: number[][][] = [];
    for (const without of [[], ['batch norm', 'convolution'], ['layouts']]) {
      const model = load(each, { without });
      const inputs = { k: given('k', [3, 2, 1, 1]), gamma: given('gamma', [3]) };
      found.push(await Promise.all(model.compute(inputs).map(listed)));
      found.push(await Promise.all(noGrad(() => model.compute(inputs)).map(listed)));
      found.push(await Promise.all((await noGrad(() => model.computeAsync(inputs))).map(listed)));
      model.dispose();
    }
    for (const lists of found) for (const [i, list] of lists.entries()) expect(compare(list, found[0][i], 1e-5, 1e-6)).toMatchObject({ ok: true });
  });
});

test('the gradients of trained parameters stay as they are; under noGrad it runs, otherwise it is refused', async () => {
  const each = parts([node('Mul', ['x', 'w'], ['p']), node('Mul', ['p', 'x'], ['y']), gradient({ xs: ['x'], y: 'y' }, ['d'])], ['y', 'd'], {
    initializers: [floatTensor('w', [1200], new Float32Array(1200).fill(3))],
    inputs: [{ name: 'x', shape: [1] }],
  });
  using _s = scope();
  const model = load(each, { trainable: () => true });
  const x = tensor([2], [1]);
  const [d] = noGrad(() => model.run({ x }, ['d']));
  expect(await d.data()).toEqual(Float32Array.of(2 * 3 * 2 * 1200));
  expect(() => model.run({ x }, ['d'])).toThrow(/node ".*" \(.*Gradient\): y also depends on a variable that is none of these/);
  expect(() => backward(d)).toThrow('depends on no variable');
  const w = model.parameters.get('w');
  backward(ops.sum(model.run({ x }, ['y'])[0]));
  expect(await gradOf(w)?.data()).toEqual(new Float32Array(1200).fill(4));
  noGrad(() => model.run({ x }, ['d']));
  expect(await gradOf(w)?.data()).toEqual(new Float32Array(1200).fill(4));
  model.dispose();
});

test('in training a norm takes the statistics of its batch, and moves the running ones once', async () => {
  const each = {
    ...parts(
      [node('BatchNormalization', ['x', 'g', 'b', 'm', 'v'], ['n']), node('Mul', ['n', 'w'], ['y']), gradient({ xs: ['x'], y: 'y' }, ['d'])],
      ['y', 'd'],
    ),
    inputs: [{ name: 'x', shape: [4, 2] }],
    initializers: [...['g', 'b', 'm'].map((name) => weights(name, [2])), floatTensor('v', [2], [1, 2]), weights('w', [4, 2])],
  };
  using _s = scope();
  const found: number[][] = [];
  for (const wanted of [['y'], ['y', 'd']]) {
    const model = load(each);
    model.training = true;
    const results = model.run({ x: tensor(numbers('x', 8), [4, 2]) }, wanted);
    found.push(Array.from(await model.weight('m').data()));
    // What adds to all of a batch changes nothing: the derivatives of each channel add up to 0.
    const d = results[1] ? Array.from(await results[1].data()) : [0];
    expect(Math.hypot(...d) > 0).toBe(wanted.length > 1);
    for (const channel of [0, 1]) expect(d.filter((_, i) => i % 2 === channel).reduce((sum, value) => sum + value, 0)).toBeCloseTo(0, 5);
    model.dispose();
  }
  expect(found[1]).toEqual(found[0]);
});

test('a loop of derivatives keeps no tensor', async () => {
  const each = KNOWN['steps of descent in a loop'][0];
  const turning = { ...each, initializers: [intTensor('turns', [], [40]), ...(each.initializers as Buffer[]).slice(1)] };
  const before = memory().tensors;
  const model = load(turning);
  await scoped(async () => {
    const held = memory().tensors;
    const [end] = await model.computeAsync({ x: values });
    expect((await listed(end))[2]).toBeCloseTo(1);
    expect(memory().tensors).toBeLessThanOrEqual(held + 2);
  });
  model.dispose();
  expect(memory().tensors).toBe(before);
});

const bare = (attributes: Buffer[], inputs: string[] = ['x'], outputs: string[] = ['d']): Buffer =>
  Buffer.concat([node('Gradient', inputs, outputs), ...attributes, field(7, DOMAIN)]);
const y = field(5, Buffer.concat([field(1, 'y'), field(4, 'y'), field(20, 3)]));
const doubles: HostTensor = { kind: 'float', type: 'double', shape: [3], data: Float64Array.of(1, 2, 3) };
const wholes: HostTensor = { kind: 'int', type: 'int64', shape: [3], data: [1, 2, 3] };

/** Refused when the file is loaded, or in a run. */
const REFUSED: Record<string, [OnnxParts, RegExp, HostTensor?]> = {
  'an x that is not there': [parts([...cube, gradient({ xs: ['v'], y: 'y', at: ['x'] }, ['d'])], ['d']), /Gradient\): no node makes "v"/],
  'a z that is not there': [parts([...cube, gradient({ xs: ['x'], zs: ['v'], y: 'y', at: ['x', 'x'] }, ['d'])], ['d']), /Gradient\): no node makes "v"/],
  'a y that is not there': [parts([...cube, gradient({ xs: ['x'], y: 'v' }, ['d'])], ['d']), /Gradient\): no node makes "v"/],
  'no x': [parts([...cube, gradient({ xs: [], zs: ['x'], y: 'y' }, ['d'])], ['d']), /Gradient\): xs names no value/],
  'xs left out': [parts([...cube, bare([y])], ['d']), /attribute xs is missing/],
  'y left out': [parts([...cube, bare([strings('xs', ['x'])])], ['d']), /attribute y is missing/],
  'xs of whole numbers': [
    parts([...cube, Buffer.concat([node('Gradient', ['x'], ['d'], { xs: [1, 2], y: 'y' }), field(7, DOMAIN)])], ['d']),
    /attribute xs holds ints, strings/,
  ],
  'a graph from the file': [
    parts(
      [...cube, Buffer.concat([node('Gradient', ['x'], ['d'], { y: 'y', body: graph([], [], [info('x')]) }), strings('xs', ['x']), field(7, DOMAIN)])],
      ['d'],
    ),
    /attribute "body" is not known/,
  ],
  'fewer inputs than names': [parts([...cube, gradient({ xs: ['x', 'q'], y: 'y', at: ['x'] }, ['d'])], ['d']), /has 1 inputs, but xs and zs name 2 values/],
  'more outputs than names': [parts([...cube, gradient({ xs: ['x'], y: 'y' }, ['d', 'e'])], ['d', 'e']), /has 2 outputs, but xs names 1 values/],
  'a name that comes twice': [parts([...cube, gradient({ xs: ['x'], zs: ['x'], y: 'y' }, ['d'])], ['d']), /name "x" twice/],
  'a value that follows from another one': [parts([...cube, gradient({ xs: ['q', 'x'], y: 'y' }, ['d', 'e'])], ['d', 'e']), /"q" follows from "x"; none may/],
  'its own output': [parts([...cube, gradient({ xs: ['x'], y: 'd' }, ['d'])], ['d']), /y "d" follows from the node itself/],
  'a cycle of two': [
    parts([gradient({ xs: ['x'], y: 'e' }, ['d']), node('Mul', ['d', 'x'], ['m']), gradient({ xs: ['x'], y: 'm' }, ['e'])], ['d', 'e']),
    /follows from node "Gradient of e".*, a Gradient that stands behind it/,
  ],
  'a branch behind it that holds another one': [
    parts(
      [
        gradient({ xs: ['x'], y: 'y' }, ['d']),
        node('If', ['yes'], ['y'], {
          then_branch: graph([node('Mul', ['x', 'x'], ['q']), gradient({ xs: ['x'], y: 'q' }, ['e'])], [], [info('e')]),
          else_branch: graph([node('Neg', ['x'], ['n'])], [], [info('n')]),
        }),
      ],
      ['d'],
      { initializers: [rawTensor('yes', BOOL, [], Uint8Array.of(1))] },
    ),
    /follows from node "If of y" \(If\), a Gradient that stands behind it/,
  ],
  'the loop that holds it': [
    parts(
      [
        node('Loop', ['turns', '', 'x'], ['end'], {
          body: graph(
            [node('Identity', ['going'], ['on']), gradient({ xs: ['x'], y: 'end' }, ['next'])],
            [info('turn', INT64), info('going', BOOL), info('at')],
            [info('on', BOOL), info('next')],
          ),
        }),
      ],
      ['end'],
      { initializers: [intTensor('turns', [], [3])], opset: 16 },
    ),
    /follows from the node itself, or from one that holds it/,
  ],
  'a second derivative': [
    parts([...cube, gradient({ xs: ['x'], y: 'y' }, ['d']), gradient({ xs: ['x'], y: 'd' }, ['e'])], ['e']),
    /Gradient\): a derivative of a derivative, which is not computed/,
  ],
  'a step without gradient': [
    parts([node('Det', ['m'], ['y']), gradient({ xs: ['m'], y: 'y' }, ['d'])], ['d'], {
      initializers: [floatTensor('m', [2, 2], [1, 2, 3, 4])],
    }),
    /\(Det\): no gradient of its output 0/,
  ],
  'an input that is read on the host': [
    parts([node('OneHot', ['i', 'depth', 'x2'], ['y']), gradient({ xs: ['x2'], y: 'y' }, ['d'])], ['d'], {
      initializers: [intTensor('i', [2], [0, 1]), intTensor('depth', [], [3]), floatTensor('x2', [2], [0, 1])],
    }),
    /\(OneHot\): no gradient for its input 2 .*, which is read on the host/,
  ],
  'a constant of an op': [
    parts([node('BatchNormalization', ['p', 'x', 'x', 'm', 'v'], ['y']), gradient({ xs: ['m'], y: 'y' }, ['d'])], ['d'], {
      initializers: [weights('p', [1, 3, 2, 2]), floatTensor('m', [3], [1, 2, 3]), floatTensor('v', [3], [1, 2, 3])],
    }),
    /Gradient\): batchNormEval .* has no gradient for its mean/,
  ],
  'whole numbers': [
    parts([node('Mul', ['x', 'x'], ['y']), gradient({ xs: ['x'], y: 'y' }, ['d'])], ['d'], { inputs: [{ ...x3, type: INT64 }] }),
    /Gradient\): input 0 \("x"\) holds int64, of which nothing can be differentiated/,
    wholes,
  ],
  'a y of whole numbers': [
    parts([node('Cast', ['x'], ['y'], { to: INT64 }), gradient({ xs: ['x'], y: 'y' }, ['d'])], ['d']),
    /Gradient\): y is int64, floats are expected/,
  ],
  doubles: [
    parts([node('Mul', ['x', 'x'], ['y']), gradient({ xs: ['x'], y: 'y' }, ['d'])], ['d'], { inputs: [{ ...x3, type: DOUBLE }] }),
    /Gradient\): input 0 \("x"\) holds double; derivatives are computed in float32/,
    doubles,
  ],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_, [each, message, x = values]) => {
  await expect(outputsOf(each, { x })).rejects.toThrow(message);
});

/** Small files that ask for much. */
const chained = (count: number): Buffer[] => Array.from({ length: count }, (_, i) => node('Neg', [i === 0 ? 'x' : `y${i}`], [`y${i + 1}`]));
const HOSTILE: Record<string, [() => OnnxParts, RegExp]> = {
  'many nodes Gradient over a long chain': [
    () => parts([...chained(3000), ...Array.from({ length: 3000 }, (_, i) => gradient({ xs: ['x'], y: 'y3000' }, [`d${i}`]))], ['d0']),
    /more than \d+ nodes, \d+ names/,
  ],
  'many nodes Gradient that follow from each other': [
    () =>
      parts(
        Array.from({ length: 200 }, (_, i) => {
          const last = i === 0 ? 'x' : `d${i - 1}`;
          return [node('Mul', [last, 'b'], [`y${i}`]), gradient({ xs: ['b'], zs: ['x'], y: `y${i}` }, [`d${i}`])];
        }).flat(),
        ['d199'],
        { initializers: [floatTensor('b', [3], [1, 2, 3])] },
      ),
    /follow from each other more than 16 deep/,
  ],
  'many nodes Gradient of one name': [
    () => parts([...cube, ...Array.from({ length: 40_000 }, () => gradient({ xs: ['x'], y: 'y' }, ['d']))], ['d']),
    /makes "d", which is there already/,
  ],
  'a list of names that nobody gave': [
    () => parts([...cube, gradient({ xs: Array.from({ length: 300_000 }, (_, i) => `n${i}`), y: 'y', at: ['x'] }, ['d'])], ['d']),
    /has 1 inputs, but xs and zs name 300000 values/,
  ],
  'constants that are copied with a branch': [
    () =>
      parts(
        [
          node('If', ['yes'], ['y'], {
            then_branch: graph(
              [node('ReduceSum', ['large'], ['s']), node('Mul', ['s', 'x'], ['t'])],
              [],
              [info('t')],
              [floatTensor('large', [1 << 18], new Float32Array(1 << 18))],
            ),
            else_branch: graph([node('Neg', ['x'], ['u'])], [], [info('u')]),
          }),
          ...Array.from({ length: 100 }, (_, i) => gradient({ xs: ['x'], y: 'y' }, [`d${i}`])),
        ],
        ['d0'],
        { initializers: [rawTensor('yes', BOOL, [], Uint8Array.of(1))], opset: 16 },
      ),
    /bytes of constants lie between/,
  ],
  'zeros for many names of one large value': [
    () => {
      const names = Array.from({ length: 2000 }, (_, i) => `c${i}`);
      return parts(
        [
          ...[node('Expand', ['x1', 'shape'], ['large']), ...names.map((name) => node('Neg', ['x1'], [name]))],
          ...[
            node('Neg', ['x1'], ['y']),
            gradient(
              { xs: names, y: 'y', at: names.map(() => 'large') },
              names.map((name) => `d${name}`),
            ),
          ],
          node(
            'Sum',
            names.map((name) => `d${name}`),
            ['s'],
          ),
        ],
        ['s'],
        { initializers: [floatTensor('x1', [1], [1]), intTensor('shape', [1], [1 << 20])] },
      );
    },
    /would be \d+ numbers/,
  ],
};

test.each(Object.entries(HOSTILE))('refused at once: %s', { timeout: 60_000 }, async (_, [make, message]) => {
  const each = make();
  const start = computedMs();
  await expect(outputsOf(each, { x: values })).rejects.toThrow(message);
  expect(computedMs() - start).toBeLessThan(15_000);
});
