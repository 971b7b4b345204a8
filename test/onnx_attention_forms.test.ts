/** Attention as today's exporters write it: it becomes one node, what only looks like it does not, and the numbers stay. */
import { expect, test } from 'vitest';
import { floatTensor, intTensor, node, type OnnxParts, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { compare } from '../src/autograd/check.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { PASS_NAMES } from '../src/model/onnx/passes/index.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { scope } from '../src/tensor/tensor.ts';
import { numbers, resultsOf } from './onnx_graphs.ts';
import { useGpu } from './support.ts';

useGpu();

/** Four pictures, or two of two windows; three heads; 5 queries, 7 keys; widths 4 and 6. */
const [B, H, T, S, D, E] = [4, 3, 5, 7, 4, 6];
const Q = { name: 'q', shape: [B, H, T, D] };
const K = { name: 'k', shape: [B, H, S, D] };
const V = { name: 'v', shape: [B, H, S, E] };
const INPUTS = [Q, K, V];

const number = (name: string, value: number, shape: number[] = []) => floatTensor(name, shape, [value]);
const weight = (name: string, ...shape: number[]) => floatTensor(name, shape, numbers(name, sizeOf(shape)));
const list = (name: string, ...values: number[]) => intTensor(name, [values.length], values);

const TURNED = [node('Transpose', ['k'], ['kt'], { perm: [0, 1, 3, 2] })];
const SCORES = node('MatMul', ['q', 'kt'], ['s']);
const OUT = [node('Softmax', ['s2'], ['w'], { axis: -1 }), node('MatMul', ['w', 'v'], ['y'])];
const safe = (scores: string): Buffer[] => [
  node('Softmax', [scores], ['w'], { axis: -1 }),
  node('IsNaN', ['w'], ['odd']),
  node('Where', ['odd', 'zero', 'w'], ['w2']),
  node('MatMul', ['w2', 'v'], ['y']),
];

/** torch.onnx.export(…, dynamo=True): the keys are turned between two reshapes, and both sides are multiplied by the root of the scale. */
const dynamo = (flat: string, shape: string, change: { perm?: number[]; end?: Buffer[] } = {}): Buffer[] => [
  node('Reshape', ['k', flat], ['k1']),
  node('Transpose', ['k1'], ['k2'], { perm: change.perm ?? [0, 2, 1] }),
  node('Reshape', ['k2', shape], ['k3']),
  node('Mul', ['q', 'root'], ['qs']),
  node('Mul', ['k3', 'root'], ['ks']),
  node('MatMul', ['qs', 'ks'], ['s2']),
  ...(change.end ?? OUT),
];
const STATIC = [list('flat', -1, S, D), list('back', B, H, D, S), number('root', 0.6, [1])];
/** The same where the number of pictures is open: the shapes follow from that of the keys. */
const OPEN = [
  node('Shape', ['k'], ['shape'], { start: 0 }),
  node('Slice', ['shape', 'minus1', 'end'], ['d']),
  node('Slice', ['shape', 'minus2', 'minus1'], ['n']),
  node('Slice', ['shape', 'begin', 'minus2'], ['first']),
  node('Concat', ['minus1', 'n', 'd'], ['flat'], { axis: 0 }),
  node('Concat', ['first', 'd', 'n'], ['back'], { axis: 0 }),
];
const ENDS = [list('minus1', -1), list('minus2', -2), list('end', 2 ** 40), list('begin', -(2 ** 40)), number('root', 0.6)];

/** Liu et al. 2021: a bias of all windows, and a mask of each window of a picture. */
const windows = (first: Buffer[], bias = 's1'): Buffer[] => [
  ...TURNED,
  node('Mul', ['q', 'root'], ['qs']),
  node('MatMul', ['qs', 'kt'], ['s']),
  ...first,
  node('Reshape', [bias, 'apart'], ['s3']),
  node('Add', ['s3', 'mask'], ['s4']),
  node('Reshape', ['s4', 'together'], ['s2']),
  ...OUT,
];
const WINDOWS = [list('apart', -1, 2, H, T, S), list('together', -1, H, T, S), number('root', 0.6), weight('bias', 1, H, T, S)];

const simple = (nodes: Buffer[], initializers: Buffer[], inputs = INPUTS): OnnxParts => ({ nodes, initializers, inputs, outputs: ['y'], opset: 20 });

interface Case {
  parts: OnnxParts;
  /** How many nodes of an operator remain; every other Softmax, MatMul and Where must be gone. */
  left?: Record<string, number>;
}

const UNFUSED = { Softmax: 1, MatMul: 2 };

const CASES: Record<string, Case> = {
  'dynamo, shapes in numbers': { parts: simple(dynamo('flat', 'back'), STATIC) },
  'dynamo, an open number of pictures': { parts: simple([...OPEN, ...dynamo('flat', 'back')], ENDS) },
  'dynamo: the extents are not exchanged': {
    parts: simple(
      dynamo('flat', 'same'),
      [list('flat', -1, S, D), list('same', B, H, S, D), number('root', 0.6)],
      [{ name: 'q', shape: [B, H, T, S] }, K, { name: 'v', shape: [B, H, D, E] }],
    ),
    left: UNFUSED,
  },
  'dynamo: a mask, and zeros where no key is seen': {
    parts: simple(dynamo('flat', 'back', { end: [node('Add', ['s2', 'mask'], ['m']), ...safe('m')] }), [
      ...STATIC,
      number('zero', 0),
      floatTensor(
        'mask',
        [T, S],
        Float32Array.from({ length: T * S }, (_, i) => (Math.floor(i / S) === 2 || i % 3 === 0 ? -Infinity : i / 20)),
      ),
    ]),
  },
  'ones where no key is seen': {
    parts: simple([...TURNED, node('MatMul', ['q', 'kt'], ['s2']), ...safe('s2')], [number('zero', 1)]),
    left: { ...UNFUSED, Where: 1 },
  },
  'a number on the queries': {
    parts: simple([...TURNED, node('Div', ['q', 'root'], ['qs']), node('MatMul', ['qs', 'kt'], ['s2']), ...OUT], [number('root', 0.6)]),
  },
  'a number on the keys that only a run knows': {
    parts: simple(
      [
        ...TURNED,
        node('Shape', ['q'], ['shape'], { start: 0 }),
        node('Slice', ['shape', 'minus1', 'end'], ['d']),
        node('Cast', ['d'], ['df'], { to: 1 }),
        node('Sqrt', ['df'], ['dr']),
        node('Mul', ['kt', 'dr'], ['ks']),
        node('MatMul', ['q', 'ks'], ['s2']),
        ...OUT,
      ],
      ENDS,
    ),
  },
  'a number for each head, and a bias': {
    parts: simple(
      [...TURNED, SCORES, node('Mul', ['s', 'heads'], ['s1']), node('Add', ['bias', 's1'], ['s2']), ...OUT],
      [weight('heads', H, 1, 1), weight('bias', H, T, S)],
    ),
  },
  'a number for each query stays': { parts: simple([...TURNED, SCORES, node('Mul', ['s', 'rows'], ['s2']), ...OUT], [weight('rows', T, 1)]), left: UNFUSED },
  'a factor after the mask stays': {
    parts: simple(
      [...TURNED, SCORES, node('Add', ['s', 'bias'], ['s1']), node('Mul', ['s1', 'root'], ['s2']), ...OUT],
      [weight('bias', T, S), number('root', 0.6)],
    ),
    left: UNFUSED,
  },
  'two masks': {
    parts: simple(
      [...TURNED, SCORES, node('Add', ['s', 'bias'], ['s1']), node('Add', ['s1', 'mask'], ['s2']), ...OUT],
      [weight('bias', H, T, S), weight('mask', B, 1, 1, S)],
    ),
  },
  'the scores are read elsewhere': {
    parts: { ...simple([...TURNED, node('MatMul', ['q', 'kt'], ['s2']), ...OUT], []), outputs: ['y', 's2'] },
    left: UNFUSED,
  },
  'windows with a bias': { parts: simple(windows([node('Add', ['s', 'bias'], ['s1'])]), [...WINDOWS, weight('mask', 1, 2, 1, T, S)]) },
  'windows without a bias': { parts: simple(windows([], 's'), [...WINDOWS, weight('mask', 2, H, T, S)]) },
  'windows, a bias of every picture': {
    parts: simple(windows([node('Add', ['s', 'each'], ['s1'])]), [...WINDOWS, weight('mask', 1, 2, 1, T, S), weight('each', B, 1, T, S)]),
  },
  'windows, a mask of every picture': { parts: simple(windows([node('Add', ['s', 'bias'], ['s1'])]), [...WINDOWS, weight('mask', 2, 2, 1, T, S)]) },
  'windows of other heads stay': {
    parts: simple(windows([], 's'), [list('apart', 2, 2, T, H, S), list('together', -1, H, T, S), number('root', 0.6), weight('mask', 1, 2, 1, 1, S)]),
    left: UNFUSED,
  },
};

test.each(Object.entries(CASES))('%s', async (_name, { parts, left = { FusedAttention: 1 } }) => {
  const [plain, after] = [await resultsOf(parts, PASS_NAMES), await resultsOf(parts, [])];
  const found = Object.fromEntries(
    ['FusedAttention', 'MatMul', 'Softmax', 'Where']
      .map((op) => [op, after.ops.filter((each) => each === op).length] as const)
      .filter(([, count]) => count > 0),
  );
  expect(found).toEqual(left);
  expect(after.shapes).toEqual(plain.shapes);
  for (const [i, values] of after.values.entries()) expect(compare(values, plain.values[i], 1e-5, 1e-5)).toMatchObject({ ok: true });
});

test('long chains in front of a softmax are looked at only so far', () => {
  const chain = (op: string, from: string, to: string, both: boolean) =>
    Array.from({ length: 5000 }, (_, i) => {
      const before = i === 0 ? from : `${to}${i}`;
      return node(op, [before, both ? before : 'root'], [i === 4999 ? to : `${to}${i + 1}`]);
    });
  const nodes = [
    ...TURNED,
    ...chain('Mul', 'heads', 'odd', true),
    node('Mul', ['kt', 'odd'], ['ks']),
    ...chain('Mul', 'q', 'qs', false),
    node('MatMul', ['qs', 'ks'], ['s']),
    ...chain('Add', 's', 's2', false),
    ...OUT,
  ];
  const parts = simple(nodes, [number('root', 1)], [...INPUTS, { name: 'heads', shape: [1] }]);
  using _s = scope();
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
  expect(model.graph.nodes.filter(({ op }) => op === 'Softmax').length).toBe(1);
  model.dispose();
});
