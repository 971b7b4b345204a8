/** Graphs that are odd but valid give ONNX's numbers: constants of every kind, shared weights, old opsets, whole numbers that wrap. */
import { expect, test } from 'vitest';
import { field, floatTensor, intTensor, node, type OnnxParts, onnxBytes, rawTensor } from '../bench/peers/onnx_writer.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel, type OnnxOptions } from '../src/model/onnx/run.ts';
import type { HostTensor } from '../src/model/onnx/values.ts';
import { scope, Tensor, tensor } from '../src/tensor/tensor.ts';
import { numbers } from './onnx_graphs.ts';
import { useGpu } from './support.ts';

useGpu();

type Given = Record<string, { shape: number[]; data: ArrayLike<number>; type?: string }>;

/** The outputs of a graph: their shapes and values. Inputs with a type are whole numbers. */
async function outputsOf(parts: OnnxParts, given: Given, options: OnnxOptions = {}): Promise<{ shape: number[]; data: number[] }[]> {
  using _s = scope();
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)), options);
  const inputs = Object.fromEntries(
    Object.entries(given).map(([name, { shape, data, type }]): [string, Tensor | HostTensor] => [
      name,
      type ? { kind: 'int', type, shape, data: Array.from(data) } : tensor(Float32Array.from(data), shape),
    ]),
  );
  const results = noGrad(() => model.compute(inputs)) as (Tensor | HostTensor)[];
  const found = await Promise.all(
    results.map(async (result) => ({ shape: [...result.shape], data: Array.from(result instanceof Tensor ? await result.data() : result.data) })),
  );
  model.dispose();
  return found;
}

const x = (...shape: number[]) => ({ name: 'x', shape });
const one = { x: { shape: [1], data: [1] } };
const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];

interface Case {
  parts: OnnxParts;
  given?: Given;
  shape: number[];
  data: number[];
}

const floats = (name: string, values: number[], shape = [values.length]) => floatTensor(name, shape, values);
/** y = x + c, where c is what the nodes make of constants. */
const plus = (nodes: Buffer[], initializers: Buffer[], shape: number[], data: number[]): Case => ({
  parts: { nodes: [...nodes, node('Add', ['x', 'c'], ['y'])], initializers, inputs: [x(1)], outputs: ['y'] },
  given: { x: { shape: [1], data: [0] } },
  shape,
  data,
});
const wholeCase = (op: string, type: [number, string], a: number[], b: number[], data: number[]): Case => ({
  parts: {
    nodes: [node(op, ['a', 'b'], ['y'])],
    inputs: [
      { name: 'a', shape: [a.length], type: type[0] },
      { name: 'b', shape: [b.length], type: type[0] },
    ],
    outputs: ['y'],
  },
  given: { a: { shape: [a.length], data: a, type: type[1] }, b: { shape: [b.length], data: b, type: type[1] } },
  shape: [data.length],
  data,
});
const reduced = (op: string, opset: number, axes: number[] | null, attributes: Record<string, number>, shape: number[], data: number[]): Case => ({
  parts: {
    opset,
    nodes: [opset >= 18 ? node(op, axes ? ['x', 'axes'] : ['x'], ['y'], attributes) : node(op, ['x'], ['y'], { ...attributes, ...(axes ? { axes } : {}) })],
    initializers: axes && opset >= 18 ? [intTensor('axes', [axes.length], axes)] : [],
    inputs: [x(2, 2)],
    outputs: ['y'],
  },
  given: { x: { shape: [2, 2], data: [1, 2, 3, 6] } },
  shape,
  data,
});
/** Before opset 7 the second operand of a sum lies in the first as attributes say. */
const legacy = (b: number[], attributes: Record<string, number>, data: number[]): Case => ({
  parts: { opset: 6, nodes: [node('Add', ['x', 'b'], ['y'], attributes)], initializers: [floats('b', b)], inputs: [x(2, 2)], outputs: ['y'] },
  given: { x: { shape: [2, 2], data: [1, 2, 3, 4] } },
  shape: [2, 2],
  data,
});
const moved = (
  op: string,
  inputs: Buffer[],
  shape: number[],
  data: number[],
  attributes = {},
  given: Given['x'] = { shape: [2, 3], data: [1, 2, 3, 4, 5, 6] },
): Case => ({
  parts: {
    nodes: [node(op, ['x', ...inputs.map((_, i) => `i${i}`)], ['y'], attributes)],
    initializers: inputs,
    inputs: [{ name: 'x', shape: given.shape, type: given.type ? 7 : 1 }],
    outputs: ['y'],
  },
  given: { x: given },
  shape,
  data,
});
const whole = (i: number, ...values: number[]) => intTensor(`i${i}`, [values.length], values);
const matmul = (a: number[], b: number[], shape: number[], data: number[]): Case => ({
  parts: { nodes: [node('MatMul', ['x', 'b'], ['y'])], initializers: [floatTensor('b', b, counted(b))], inputs: [x(...a)], outputs: ['y'] },
  given: { x: { shape: a, data: counted(a) } },
  shape,
  data,
});
const counted = (shape: number[]): number[] => Array.from({ length: shape.reduce((size, extent) => size * extent, 1) }, (_, i) => i + 1);
const INT64_TYPE = 'int64';

const CASES: Record<string, Case> = {
  // Constants keep their type.
  'value_float, divided': plus(
    [node('Constant', [], ['a'], { value_float: { float: 1 } }), node('Constant', [], ['b'], { value_float: { float: 4 } }), node('Div', ['a', 'b'], ['c'])],
    [],
    [1],
    [0.25],
  ),
  value_floats: plus([node('Constant', [], ['c'], { value_floats: { floats: [0.5, 1.5] } })], [], [2], [0.5, 1.5]),
  'value_int and value_ints': {
    parts: {
      nodes: [node('Constant', [], ['a'], { value_int: 7 }), node('Constant', [], ['b'], { value_ints: [2, -2] }), node('Div', ['a', 'b'], ['y'])],
      inputs: [x(1)],
      outputs: ['y'],
    },
    shape: [2],
    data: [3, -3],
  },
  'floats that are gathered, sliced and joined': plus(
    [node('Gather', ['t', 'i'], ['g']), node('Slice', ['t', 'from', 'to'], ['s']), node('Concat', ['g', 's'], ['c'], { axis: 0 })],
    [floats('t', [0.5, 1.5, 2.5]), intTensor('i', [1], [-1]), intTensor('from', [1], [0]), intTensor('to', [1], [2])],
    [3],
    [2.5, 0.5, 1.5],
  ),
  'halves that are cast': plus([node('Cast', ['h'], ['c'], { to: 1 })], [rawTensor('h', 10, [2], Uint16Array.of(0x3c00, 0xb800))], [2], [1, -0.5]),
  'bfloat16 that is cast': plus([node('Cast', ['h'], ['c'], { to: 1 })], [rawTensor('h', 16, [2], Uint16Array.of(0x3f80, 0xbf00))], [2], [1, -0.5]),
  'floats that a cast rounds to halves': plus(
    [node('Cast', ['t'], ['h'], { to: 10 }), node('Cast', ['h'], ['c'], { to: 1 })],
    [floats('t', [1.0004, 1e6])],
    [2],
    [1, inf],
  ),
  'truth values that are cast': plus([node('Cast', ['t'], ['b'], { to: 9 }), node('Cast', ['b'], ['c'], { to: 1 })], [floats('t', [0.5, 0])], [2], [1, 0]),
  'a sparse initializer': {
    parts: {
      nodes: [node('Add', ['x', 'w'], ['y'])],
      sparse: [Buffer.concat([field(1, floats('w', [5, 7])), field(2, intTensor('', [2, 2], [0, 1, 1, 2])), field(3, 2), field(3, 3)])],
      inputs: [x(1)],
      outputs: ['y'],
    },
    given: one,
    shape: [2, 3],
    data: [1, 6, 1, 1, 1, 8],
  },
  // Arithmetic with constants broadcasts as any other.
  '3×1 with 1×3': plus(
    [node('Add', ['a', 'b'], ['c'])],
    [floats('a', [1, 2, 3], [3, 1]), floats('b', [10, 20, 30], [1, 3])],
    [3, 3],
    [11, 21, 31, 12, 22, 32, 13, 23, 33],
  ),
  'ranks that differ': plus([node('Mul', ['a', 'b'], ['c'])], [floats('a', [2], [1, 1]), floats('b', [1, 2, 3])], [1, 3], [2, 4, 6]),
  'a shape with 0': plus(
    [node('Reshape', ['t', 's'], ['c'])],
    [floats('t', [1, 2, 3, 4, 5, 6], [2, 3]), intTensor('s', [2], [0, -1])],
    [2, 3],
    [1, 2, 3, 4, 5, 6],
  ),
  'a sum of three constants': plus([node('Sum', ['a', 'b', 'a'], ['c'])], [floats('a', [1, 2]), floats('b', [10])], [2], [12, 14]),
  // Whole numbers.
  'uint8 wraps': wholeCase('Add', [2, 'uint8'], [200, 255], [100, 1], [44, 0]),
  'int8 wraps': wholeCase('Sub', [3, 'int8'], [-100, 5], [100, 7], [56, -2]),
  'int32 wraps': wholeCase('Mul', [6, 'int32'], [65536, -7], [65537, 3], [65536, -21]),
  'uint32 wraps': wholeCase('Mul', [12, 'uint32'], [0xffffffff], [2], [0xfffffffe]),
  'int64 is exact beyond float32': wholeCase('Add', [7, INT64_TYPE], [2 ** 40], [1], [2 ** 40 + 1]),
  'whole numbers divide towards 0': wholeCase('Div', [7, INT64_TYPE], [-7, 7], [2, -2], [-3, -3]),
  // Old broadcasting.
  'opset 6, from axis 0': legacy([10, 20], { broadcast: 1, axis: 0 }, [11, 12, 23, 24]),
  'opset 6, from the last axis': legacy([10, 20], { broadcast: 1 }, [11, 22, 13, 24]),
  'opset 6, one number': legacy([10], { broadcast: 1, axis: 0 }, [11, 12, 13, 14]),
  // Axes that are empty or left out.
  'opset 13, no axes: all': reduced('ReduceMean', 13, null, { keepdims: 1 }, [1, 1], [3]),
  'opset 13, empty axes: all': reduced('ReduceMean', 13, [], { keepdims: 0 }, [], [3]),
  'opset 18, no axes: all': reduced('ReduceSum', 18, null, { keepdims: 0 }, [], [12]),
  'opset 18, empty axes: all': reduced('ReduceMean', 18, [], { keepdims: 1 }, [1, 1], [3]),
  'opset 18, empty axes and no-op: as it was': reduced('ReduceMean', 18, [], { noop_with_empty_axes: 1 }, [2, 2], [1, 2, 3, 6]),
  'opset 18, no axes and no-op: as it was': reduced('ReduceMax', 18, null, { noop_with_empty_axes: 1 }, [2, 2], [1, 2, 3, 6]),
  'opset 18, the last axis': reduced('ReduceMin', 18, [-1], { keepdims: 0 }, [2], [1, 3]),
  // Movement.
  'every second, from behind': moved('Slice', [whole(0, -1), whole(1, -100), whole(2, 1), whole(3, -2)], [2, 2], [3, 1, 6, 4]),
  'every second, of whole numbers': moved(
    'Slice',
    [whole(0, 0), whole(1, 9), whole(2, 1), whole(3, 2)],
    [2, 2],
    [1, 3, 4, 6],
    {},
    { shape: [2, 3], data: counted([2, 3]), type: INT64_TYPE },
  ),
  'gathered columns': moved('Gather', [whole(0, 2, 0, 2)], [2, 3], [3, 1, 3, 6, 4, 6], { axis: 1 }),
  'one gathered row': moved('Gather', [intTensor('i0', [], [-1])], [3], [4, 5, 6]),
  'whole numbers turned': moved('Transpose', [], [3, 2], [1, 4, 2, 5, 3, 6], {}, { shape: [2, 3], data: counted([2, 3]), type: INT64_TYPE }),
  // Matrices.
  'a row times a matrix': matmul([2], [2, 3], [3], [9, 12, 15]),
  'a matrix times a column': matmul([2, 3], [3], [2], [14, 32]),
  'a row times a column': matmul([3], [3], [], [14]),
  'batches that broadcast': matmul([2, 1, 1, 2], [1, 2, 2, 1], [2, 2, 1, 1], [5, 11, 11, 25]),
  'a matrix times batches': matmul([1, 2], [2, 2, 1], [2, 1, 1], [5, 11]),
  // Bounds that are left out do not bound.
  'clip from below only': {
    parts: { nodes: [node('Clip', ['x', 'low'], ['y'])], initializers: [floats('low', [0], [])], inputs: [x(3)], outputs: ['y'] },
    given: { x: { shape: [3], data: [-inf, 3.402e38, inf] } },
    shape: [3],
    data: [0, Math.fround(3.402e38), inf],
  },
  'infinities and NaN through a product': {
    parts: { nodes: [node('Mul', ['x', 'one'], ['y'])], initializers: [floats('one', [1])], inputs: [x(3)], outputs: ['y'] },
    given: { x: { shape: [3], data: [inf, -inf, nan] } },
    shape: [3],
    data: [inf, -inf, nan],
  },
  // Graphs without nodes.
  'an input that is the output': { parts: { nodes: [], inputs: [x(2)], outputs: ['x'] }, given: { x: { shape: [2], data: [1, 2] } }, shape: [2], data: [1, 2] },
  'an initializer that is the output': { parts: { nodes: [], initializers: [floats('w', [1, 2])], inputs: [x(1)], outputs: ['w'] }, shape: [2], data: [1, 2] },
  'a Constant that is the output': {
    parts: { nodes: [node('Constant', [], ['c'], { value_float: { float: 0.5 } })], inputs: [x(1)], outputs: ['c'] },
    shape: [],
    data: [0.5],
  },
  'a part of a shape': {
    parts: { opset: 15, nodes: [node('Shape', ['x'], ['y'], { start: -2, end: 99 })], inputs: [x(2, 3, 4)], outputs: ['y'] },
    given: { x: { shape: [2, 3, 4], data: counted([2, 3, 4]) } },
    shape: [2],
    data: [3, 4],
  },
  'padding that is worked out': {
    parts: {
      nodes: [node('Conv', ['x', 'w'], ['y'], { auto_pad: 'SAME_UPPER', strides: [2, 2] })],
      initializers: [floatTensor('w', [1, 1, 2, 2], [1, 1, 1, 1])],
      inputs: [x(1, 1, 3, 3)],
      outputs: ['y'],
    },
    given: { x: { shape: [1, 1, 3, 3], data: counted([3, 3]) } },
    shape: [1, 1, 2, 2],
    data: [12, 9, 15, 9],
  },
};

test.each(Object.entries(CASES))('%s', async (_name, { parts, given = one, shape, data }) => {
  expect(await outputsOf(parts, given)).toEqual([{ shape, data }]);
});

/** A 1×1 convolution whose weight other nodes read too, before it and after it, and that is made in several ways. */
const weight = [1, 2, 3, 4, 5, 6];
const W: Record<string, { nodes: Buffer[]; initializers: Buffer[] }> = {
  'an initializer': { nodes: [], initializers: [floatTensor('w', [2, 3, 1, 1], weight)] },
  'a Reshape of one': {
    nodes: [node('Reshape', ['flat', 'extents'], ['w'])],
    initializers: [floatTensor('flat', [6], weight), intTensor('extents', [4], [2, 3, 1, 1])],
  },
  'a Transpose of one': {
    nodes: [node('Transpose', ['t'], ['w'], { perm: [1, 0, 2, 3] })],
    initializers: [floatTensor('t', [3, 2, 1, 1], [1, 4, 2, 5, 3, 6])],
  },
  'halves that are cast': {
    nodes: [node('Cast', ['h'], ['w'], { to: 1 })],
    initializers: [rawTensor('h', 10, [2, 3, 1, 1], Uint16Array.of(0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600))],
  },
  'computed from an input': { nodes: [node('Mul', ['half', 'x1'], ['w'])], initializers: [floatTensor('half', [2, 3, 1, 1], weight)] },
};

test.each(Object.entries(W))('a convolution whose weight is %s, and is read by others', async (_name, { nodes, initializers }) => {
  const parts: OnnxParts = {
    nodes: [
      node('ReduceSum', ['x', 'all'], ['s'], { keepdims: 0 }),
      node('Div', ['s', 's'], ['x1']), // 1
      ...nodes,
      node('Add', ['w', 'x1'], ['before']),
      node('Conv', ['x', 'w'], ['y']),
      node('Reshape', ['w', 'rows'], ['r']),
      node('MatMul', ['r', 'column'], ['after']),
    ],
    initializers: [...initializers, intTensor('all', [4], [0, 1, 2, 3]), intTensor('rows', [2], [2, 3]), floatTensor('column', [3, 1], [1, 10, 100])],
    inputs: [x(1, 3, 1, 2)],
    outputs: ['before', 'y', 'after'],
  };
  expect(await outputsOf(parts, { x: { shape: [1, 3, 1, 2], data: [1, 0, 0, 1, 2, 0] } })).toEqual([
    { shape: [2, 3, 1, 1], data: [2, 3, 4, 5, 6, 7] },
    { shape: [1, 2, 1, 2], data: [7, 2, 16, 5] },
    { shape: [2, 1], data: [321, 654] },
  ]);
});

test('a large weight too, that is on the GPU only', async () => {
  const [w, values] = [numbers('w', 32 * 36), numbers('x', 32)];
  const parts: OnnxParts = {
    nodes: [
      node('Conv', ['x', 'w'], ['y']),
      node('Reshape', ['w', 'flat'], ['r']),
      node('Identity', ['w'], ['again']),
      node('Mul', ['again', 'one'], ['same']),
    ],
    initializers: [floatTensor('w', [36, 32, 1, 1], w), intTensor('flat', [1], [-1]), floats('one', [1])],
    inputs: [x(1, 32, 1, 1)],
    outputs: ['r', 'same', 'w'],
  };
  const found = await outputsOf(parts, { x: { shape: [1, 32, 1, 1], data: values } });
  for (const { data } of found) expect(data).toEqual(Array.from(w));
});

/** Conv, Add and Relu are one kernel where the shapes are equal; the others broadcast. */
test.each([
  [[2], [101, 202, 103, 204]],
  [[], [101, 102, 103, 104]],
  [
    [1, 2, 1],
    [101, 102, 203, 204],
  ],
  [
    [1, 1, 2, 2],
    [101, 202, 303, 404],
  ],
  [
    [2, 1, 1],
    [101, 102, 103, 104, 201, 202, 203, 204],
  ],
  [
    [1, 1, 1, 2, 2],
    [101, 202, 303, 404],
  ],
])('a sum with a convolution broadcasts [%s]', async (shape: number[], data: number[]) => {
  const parts: OnnxParts = {
    nodes: [node('Neg', ['b'], ['m']), node('Neg', ['m'], ['c']), node('Conv', ['x', 'w'], ['k']), node('Add', ['c', 'k'], ['s']), node('Relu', ['s'], ['y'])],
    initializers: [floatTensor('w', [1, 1, 1, 1], [1])],
    inputs: [x(1, 1, 2, 2), { name: 'b', shape }],
    outputs: ['y'],
  };
  const size = shape.reduce((product, extent) => product * extent, 1);
  const [found] = await outputsOf(parts, { x: { shape: [1, 1, 2, 2], data: [1, 2, 3, 4] }, b: { shape, data: [100, 200, 300, 400].slice(0, size) } });
  const wide = shape[0] === 2 && shape.length === 3 ? [1, 2, 2, 2] : [...new Array(Math.max(0, shape.length - 4)).fill(1), 1, 1, 2, 2];
  expect(found).toEqual({ shape: wide, data });
});

test('a trained weight that others read too has the order of the file there', async () => {
  using _s = scope();
  const parts: OnnxParts = {
    nodes: [node('Conv', ['x', 'w'], ['y']), node('Reshape', ['w', 'flat'], ['r'])],
    initializers: [floatTensor('w', [2, 3, 1, 1], weight), intTensor('flat', [1], [-1])],
    inputs: [x(1, 3, 1, 1)],
    outputs: ['y', 'r'],
  };
  expect(await outputsOf(parts, { x: { shape: [1, 3, 1, 1], data: [1, 0, 0] } }, { trainable: () => true })).toEqual([
    { shape: [1, 2, 1, 1], data: [1, 4] },
    { shape: [6], data: weight },
  ]);
});

test('names of the file do not meet names that the fold makes', async () => {
  const parts: OnnxParts = {
    nodes: [
      node('Conv', ['x', 'w'], ['c']),
      node('BatchNormalization', ['c', 'g', 'zero', 'zero', 'g'], ['n'], { epsilon: { float: 0 } }),
      node('Mul', ['n', 'n/folded weight'], ['y']),
    ],
    initializers: [floatTensor('w', [1, 1, 1, 1], [2]), floats('g', [1]), floats('zero', [0]), floats('n/folded weight', [10])],
    inputs: [x(1, 1, 1, 1)],
    outputs: ['y'],
  };
  expect(await outputsOf(parts, { x: { shape: [1, 1, 1, 1], data: [3] } })).toEqual([{ shape: [1, 1, 1, 1], data: [60] }]);
});

test('initializers that are inputs: their values, others if they were named, or a refusal', async () => {
  const parts: OnnxParts = {
    nodes: [node('Conv', ['x', 'w'], ['y'])],
    initializers: [floatTensor('w', [1, 1, 1, 1], [2])],
    inputs: [x(1, 1, 1, 1), { name: 'w', shape: [1, 1, 1, 1] }],
    outputs: ['y'],
  };
  const given: Given = { x: { shape: [1, 1, 1, 1], data: [3] } };
  const both: Given = { ...given, w: { shape: [1, 1, 1, 1], data: [5] } };
  expect((await outputsOf(parts, given))[0].data).toEqual([6]);
  expect((await outputsOf(parts, both, { given: ['w'] }))[0].data).toEqual([15]);
  await expect(outputsOf(parts, both)).rejects.toThrow(/input "w" has an initializer; to give it other values, name it under `given`/);
  await expect(outputsOf(parts, { ...given, z: given.x })).rejects.toThrow(/input "z" is none of the model/);
  await expect(outputsOf(parts, given, { given: ['z'] })).rejects.toThrow(/has no input "z" with an initializer/);
});

test('channels last, what is computed on the host too', async () => {
  using _s = scope();
  const parts: OnnxParts = {
    nodes: [node('Relu', ['x'], ['r']), node('Identity', ['w'], ['y'])],
    initializers: [floatTensor('w', [1, 2, 1, 2], [1, 2, 3, 4])],
    inputs: [x(1, 2, 1, 2)],
    outputs: ['r', 'y'],
  };
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
  const results = model.run({ x: tensor([1, 2, 3, 4], [1, 2, 1, 2]) }, ['r', 'y'], true);
  expect(results.map(({ shape }) => [...shape])).toEqual(new Array(2).fill([1, 1, 2, 2]));
  for (const result of results) expect(Array.from(await result.data())).toEqual([1, 3, 2, 4]);
  model.dispose();
});

test('whole numbers of a run are i32, and refused where i32 ends', () => {
  using _s = scope();
  const parts: OnnxParts = { nodes: [node('Identity', ['a'], ['y'])], inputs: [{ name: 'a', shape: [1], type: 7 }], outputs: ['y'] };
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
  expect(model.run({ a: { kind: 'int', shape: [1], data: [7] } })[0].dtype).toBe('i32');
  expect(() => model.run({ a: { kind: 'int', shape: [1], data: [2 ** 31] } })).toThrow(/"y" holds 2147483648, which is beyond i32/);
  expect(() => model.run({ a: tensor([1]) })).toThrow(/input "a" is of whole numbers, which are given on the host/);
  model.dispose();
});
