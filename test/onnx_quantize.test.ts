/** ONNX's quantized numbers: one node at a time beside onnxruntime, and models whose weights are whole numbers with scales. */
import { expect, test } from 'vitest';
import { floatTensor, node, type OnnxParts, onnxBytes, rawTensor } from '../bench/peers/onnx_writer.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { type Call, expectedOf, floats, type Operand, of, ort, outputsOf, TYPES } from './onnx_operator.ts';
import { useGpu } from './support.ts';

useGpu();

const random = new Random(20261126, 'quantize');
const drawn = (count: number, low: number, high: number) => Array.from({ length: count }, () => Math.fround(random.uniform(low, high)));
const whole = (type: string, shape: number[], low = type === 'int8' ? -128 : 0, high = type === 'int8' ? 127 : 255): Operand =>
  of(
    type,
    Array.from({ length: shape.reduce((product, extent) => product * extent, 1) }, () => low + random.integer(high - low + 1)),
    shape,
  );
const scalar = (value: number) => floats([value], []);
const zero = (type: string, value: number) => of(type, [value], []);
const scale = (count: number) => floats(drawn(count, 0.01, 0.1));

/** Multiples of a half of the scale: ties go to the even number. */
const TIES = floats([0.25, 0.75, 1.25, -0.25, -0.75, 1000, -1000, 0]);

const NODES: Record<string, Call & { gpu?: true }> = {
  'QuantizeLinear to uint8': { op: 'QuantizeLinear', inputs: [TIES, scalar(0.5), zero('uint8', 128)], makes: ['uint8'], gpu: true },
  'QuantizeLinear to int8': { op: 'QuantizeLinear', inputs: [TIES, scalar(0.5), zero('int8', -3)], makes: ['int8'], gpu: true },
  'QuantizeLinear without a zero point': { op: 'QuantizeLinear', inputs: [TIES, scalar(0.5)], makes: ['uint8'], gpu: true },
  'QuantizeLinear to 16 bits': { op: 'QuantizeLinear', opset: 21, inputs: [TIES, scalar(0.01), zero('int16', 5)], makes: ['int16'], gpu: true },
  'QuantizeLinear of an axis': {
    ...{ op: 'QuantizeLinear', inputs: [floats(drawn(24, -5, 5), [2, 3, 4]), floats([0.5, 0.25, 1]), of('uint8', [3, 128, 200])] },
    ...{ makes: ['uint8'], gpu: true },
  },
  'QuantizeLinear of the last axis': {
    ...{ op: 'QuantizeLinear', inputs: [floats(drawn(24, -5, 5), [2, 3, 4]), floats([0.5, 0.25, 1, 2]), of('int8', [3, 12, -20, 0])] },
    ...{ attributes: { axis: -1 }, makes: ['int8'], gpu: true },
  },
  'QuantizeLinear in blocks': {
    ...{ op: 'QuantizeLinear', opset: 21, inputs: [floats(drawn(12, -5, 5), [2, 6]), floats([0.5, 0.25, 1, 2], [2, 2]), of('int8', [3, 12, -20, 0], [2, 2])] },
    ...{ attributes: { axis: 1, block_size: 3 }, makes: ['int8'], gpu: true },
  },
  'DequantizeLinear of uint8': { op: 'DequantizeLinear', inputs: [whole('uint8', [7]), scalar(0.03), zero('uint8', 117)], makes: ['float'], gpu: true },
  'DequantizeLinear without a zero point': { op: 'DequantizeLinear', inputs: [whole('int8', [7]), scalar(0.03)], makes: ['float'], gpu: true },
  'DequantizeLinear of an axis': {
    ...{ op: 'DequantizeLinear', inputs: [whole('int8', [3, 4]), scale(4), whole('int8', [4])], attributes: { axis: 1 }, makes: ['float'] },
    gpu: true,
  },
  'DequantizeLinear in blocks': {
    ...{ op: 'DequantizeLinear', opset: 21, inputs: [whole('int8', [4, 2]), floats(drawn(4, 0.1, 1), [2, 2]), whole('int8', [2, 2])] },
    ...{ attributes: { axis: 0, block_size: 2 }, makes: ['float'], gpu: true },
  },
  'DequantizeLinear of a bias': { op: 'DequantizeLinear', inputs: [of('int32', [2 ** 30 + 1, -5]), scalar(0.03)], makes: ['float'] },
  DynamicQuantizeLinear: { op: 'DynamicQuantizeLinear', inputs: [floats([0, 2, -3, -2.5, 1.34, 0.5])], makes: ['uint8', 'float', 'uint8'], gpu: true },
  'DynamicQuantizeLinear above 0': { op: 'DynamicQuantizeLinear', inputs: [floats([1, 2.1, 1.3, 2.5])], makes: ['uint8', 'float', 'uint8'], gpu: true },
  'DynamicQuantizeLinear of zeros': { op: 'DynamicQuantizeLinear', inputs: [floats([0, 0])], makes: ['uint8', 'float', 'uint8'], gpu: true },
  MatMulInteger: { op: 'MatMulInteger', inputs: [whole('uint8', [5, 7]), whole('uint8', [7, 3]), zero('uint8', 12), zero('uint8', 77)], makes: ['int32'] },
  'MatMulInteger without zero points': { op: 'MatMulInteger', inputs: [whole('uint8', [2, 5, 7]), whole('int8', [7, 3])], makes: ['int32'] },
  'MatMulInteger, a zero point a column': {
    ...{ op: 'MatMulInteger', inputs: [whole('uint8', [5, 7]), whole('int8', [7, 3]), zero('uint8', 12), whole('int8', [3])] },
    makes: ['int32'],
  },
  QLinearMatMul: {
    op: 'QLinearMatMul',
    inputs: [
      ...[whole('uint8', [5, 7]), scalar(0.02), zero('uint8', 110), whole('uint8', [7, 3]), scalar(0.03), zero('uint8', 140)],
      ...[scalar(0.4), zero('uint8', 120)],
    ],
    makes: ['uint8'],
  },
  'QLinearMatMul, a scale a column': {
    op: 'QLinearMatMul',
    inputs: [
      ...[whole('uint8', [2, 5, 7]), scalar(0.02), zero('uint8', 110), whole('int8', [7, 3]), scale(3), of('int8', [0, 0, 0])],
      ...[scalar(0.6), zero('uint8', 120)],
    ],
    makes: ['uint8'],
  },
  ConvInteger: {
    ...{ op: 'ConvInteger', inputs: [whole('uint8', [2, 3, 7, 5]), whole('uint8', [4, 3, 3, 3]), zero('uint8', 100), zero('uint8', 20)] },
    ...{ attributes: { pads: [1, 0, 1, 2], strides: [2, 1] }, makes: ['int32'] },
  },
  'ConvInteger in groups, dilated': {
    ...{ op: 'ConvInteger', inputs: [whole('uint8', [1, 4, 7, 8]), whole('uint8', [6, 2, 3, 2]), zero('uint8', 100)] },
    ...{ attributes: { group: 2, dilations: [1, 2], pads: [0, 1, 2, 1] }, makes: ['int32'] },
  },
  'ConvInteger, padded by itself': {
    ...{ op: 'ConvInteger', inputs: [whole('uint8', [1, 1, 6, 7]), whole('uint8', [1, 1, 3, 2]), zero('uint8', 100)] },
    ...{ attributes: { auto_pad: 'SAME_LOWER', strides: [2, 1] }, makes: ['int32'] },
  },
  'QLinearConv with a bias and a scale a channel': {
    op: 'QLinearConv',
    inputs: [
      ...[whole('uint8', [2, 3, 7, 5]), scalar(0.02), zero('uint8', 110), whole('int8', [4, 3, 3, 3]), scale(4), of('int8', [0, 0, 0, 0])],
      ...[scalar(0.9), zero('uint8', 120), of('int32', [1000, -2000, 5, 0])],
    ],
    attributes: { pads: [1, 1, 1, 1] },
    makes: ['uint8'],
  },
  'QLinearConv of a sequence': {
    op: 'QLinearConv',
    inputs: [
      ...[whole('uint8', [1, 3, 9]), scalar(0.02), zero('uint8', 110), whole('uint8', [2, 3, 3]), scalar(0.05), zero('uint8', 99)],
      ...[scalar(0.9), zero('uint8', 120)],
    ],
    attributes: { strides: [2] },
    makes: ['uint8'],
  },
};

test.skipIf(!ort).each(Object.entries(NODES))('%s as onnxruntime has it', async (_name, { gpu, ...call }) => {
  const expected = await expectedOf(call);
  for (const on of gpu ? (['host', 'gpu'] as const) : (['host'] as const)) {
    const found = await outputsOf(call, on);
    for (const [i, { shape, data }] of expected.entries()) {
      expect(found[i].shape, on).toEqual(shape);
      if (call.makes?.[i] === 'float') for (const [k, value] of data.entries()) expect(Number(found[i].data[k]), on).toBeCloseTo(Number(value), 5);
      else expect(found[i].data, on).toEqual(data);
    }
  }
});

const REFUSED: Record<string, [Call, RegExp]> = {
  'a NaN': [{ op: 'QuantizeLinear', inputs: [floats([Number.NaN]), scalar(1)], makes: ['uint8'] }, /QuantizeLinear.*NaN has no uint8/],
  'scales for another axis': [
    { op: 'QuantizeLinear', inputs: [floats([1, 2, 3, 4], [2, 2]), floats([1, 2, 3])], makes: ['uint8'] },
    /scales are \[3\], one number or \[2\]/,
  ],
  'a zero point for each scale': [
    { op: 'DequantizeLinear', inputs: [whole('int8', [2, 2]), scale(2), whole('int8', [1])], makes: ['float'] },
    /zero points are \[1\], the scales \[2\]/,
  ],
  'a zero point of another type': [
    { op: 'DequantizeLinear', inputs: [whole('int8', [2]), scalar(1), zero('uint8', 1)], makes: ['float'] },
    /uint8, int8 is expected/,
  ],
  'blocks that do not fit': [
    { op: 'DequantizeLinear', opset: 21, inputs: [whole('int8', [4, 2]), floats([1, 2], [1, 2])], attributes: { axis: 0, block_size: 2 }, makes: ['float'] },
    /\[2,2\] is expected for blocks of 2/,
  ],
  'floats that are dequantized': [{ op: 'DequantizeLinear', inputs: [floats([1]), scalar(1)] }, /DequantizeLinear.*quantized whole numbers are expected/],
  'matrices that do not fit': [
    { op: 'MatMulInteger', inputs: [whole('uint8', [2, 3]), whole('uint8', [2, 3])], makes: ['int32'] },
    /inner extents 3 and 2 differ/,
  ],
  'groups that do not fit': [
    { op: 'ConvInteger', inputs: [whole('uint8', [1, 3, 4, 4]), whole('uint8', [2, 3, 1, 1])], attributes: { group: 2 }, makes: ['int32'] },
    /do not fit 2 groups/,
  ],
  'a kernel that contradicts its weight': [
    { op: 'ConvInteger', inputs: [whole('uint8', [1, 1, 4, 4]), whole('uint8', [1, 1, 1, 1])], attributes: { kernel_shape: [2, 2] }, makes: ['int32'] },
    /kernel_shape \[2,2\] contradicts/,
  ],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_name, [call, reason]) => {
  await expect(outputsOf(call, 'host')).rejects.toThrow(reason);
});

const raw = (name: string, type: string, shape: number[], values: ArrayBufferView) => rawTensor(name, TYPES[type], shape, values);

/** The numbers of a graph with one input and one output. */
async function numbersOf(parts: OnnxParts, x: Float32Array): Promise<{ data: number[]; operators: string[] }> {
  using _s = scope();
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
  try {
    const [y] = noGrad(() => model.compute({ x: tensor(x, parts.inputs[0].shape) })) as Tensor[];
    return { data: [...(await y.data())], operators: model.graph.nodes.map(({ op }) => op) };
  } finally {
    model.dispose();
  }
}

test.skipIf(!ort)('a convolution between quantized pictures runs on the GPU, its weights as floats', async () => {
  const weight = Int8Array.from(whole('int8', [8, 3, 3, 3]).data.map(Number));
  const parts: OnnxParts = {
    opset: 13,
    nodes: [
      node('QuantizeLinear', ['x', 'sx', 'zx'], ['qx']),
      node('DequantizeLinear', ['qx', 'sx', 'zx'], ['dx']),
      node('DequantizeLinear', ['w', 'sw', 'zw'], ['dw'], { axis: 0 }),
      node('DequantizeLinear', ['b', 'sb'], ['db']),
      node('Conv', ['dx', 'dw', 'db'], ['c'], { pads: [1, 1, 1, 1] }),
      node('Relu', ['c'], ['r']),
      node('QuantizeLinear', ['r', 'sy', 'zy'], ['qy']),
      node('DequantizeLinear', ['qy', 'sy', 'zy'], ['y']),
    ],
    initializers: [
      floatTensor('sx', [], [0.02]),
      raw('zx', 'uint8', [], Uint8Array.of(128)),
      raw('w', 'int8', [8, 3, 3, 3], weight),
      floatTensor('sw', [8], drawn(8, 0.005, 0.02)),
      raw('zw', 'int8', [8], new Int8Array(8)),
      raw('b', 'int32', [8], Int32Array.of(100, -200, 300, 0, 5, 6, 7, 8)),
      floatTensor('sb', [], [0.001]),
      floatTensor('sy', [], [0.05]),
      raw('zy', 'uint8', [], Uint8Array.of(0)),
    ],
    inputs: [{ name: 'x', shape: [2, 3, 9, 7] }],
    outputs: ['y'],
  };
  const x = Float32Array.from(drawn(2 * 3 * 9 * 7, -2, 2));
  const { data, operators } = await numbersOf(parts, x);
  // One Conv, which takes the Relu in; what is quantized is so in every run.
  expect(operators).toEqual(['QuantizeLinear', 'DequantizeLinear', 'Transpose', 'FusedConv', 'QuantizeLinear', 'DequantizeLinear']);
  const { InferenceSession, Tensor: OrtTensor } = ort as NonNullable<typeof ort>;
  const session = await InferenceSession.create(onnxBytes(parts), { logSeverityLevel: 4, graphOptimizationLevel: 'disabled' });
  const { y } = await session.run({ x: new OrtTensor('float32', x, [2, 3, 9, 7]) });
  const expected = Array.from(y.data as Float32Array);
  expect(data.length).toBe(expected.length);
  // A sum that lies between two steps may be rounded to either: a step is 0.05.
  const off = data.filter((value, i) => Math.abs(value - expected[i]) > 1e-5);
  expect(off.length).toBeLessThan(0.01 * data.length);
  expect(Math.max(...data.map((value, i) => Math.abs(value - expected[i])))).toBeLessThan(0.0501);
});

/** Quantized pictures and rows from the GPU: whole numbers from −100 to 155, which a scale of 1 keeps. */
const quantizedRows = (size: number) => Float32Array.from({ length: size }, (_, i) => (i === 0 ? -100 : i === 1 ? 155 : random.integer(256) - 100));

interface Products {
  nodes: Buffer[];
  initializers: Buffer[];
  shape: number[];
  /** What is left of the nodes. */
  operators: string[];
}

const LONG = 701;
const weights = (type: 'int8' | 'uint8', shape: number[]) =>
  raw('w', type, shape, (type === 'int8' ? Int8Array : Uint8Array).from(whole(type, shape).data.map(Number)));
const fixed = node('QuantizeLinear', ['x', 'one', 'z'], ['q']);
const fixedScales = [floatTensor('one', [], [1]), raw('z', 'uint8', [], Uint8Array.of(100))];
const result = [floatTensor('sy', [], [0.7]), raw('zy', 'uint8', [], Uint8Array.of(120)), floatTensor('sb', [], [0.01])];

const PRODUCTS: Record<string, Products> = {
  'a dynamic layer, its sums longer than float32 holds at once': {
    nodes: [
      node('DynamicQuantizeLinear', ['x'], ['q', 'sx', 'zx']),
      node('MatMulInteger', ['q', 'w', 'zx', 'zw'], ['p']),
      node('Cast', ['p'], ['f'], { to: 1 }),
      node('Mul', ['f', 'sx'], ['y']),
    ],
    initializers: [weights('int8', [LONG, 5]), raw('zw', 'int8', [5], Int8Array.of(3, 0, -7, 12, 1))],
    shape: [2, 3, LONG],
    operators: ['DynamicQuantizeLinear', 'MatMulInteger', 'Mul'],
  },
  'a dynamic convolution': {
    nodes: [
      node('DynamicQuantizeLinear', ['x'], ['q', 'sx', 'zx']),
      node('ConvInteger', ['q', 'w', 'zx'], ['p'], { pads: [1, 1, 0, 2], strides: [2, 1] }),
      node('Cast', ['p'], ['f'], { to: 1 }),
      node('Mul', ['f', 'sx'], ['y']),
    ],
    initializers: [weights('uint8', [6, 40, 3, 3])],
    shape: [2, 40, 7, 5],
    operators: ['DynamicQuantizeLinear', 'Transpose', 'ConvInteger', 'Mul'],
  },
  'short sums as int32': {
    nodes: [
      ...[fixed, node('MatMulInteger', ['q', 'w', 'z'], ['p'])],
      ...[node('Cast', ['p'], ['f'], { to: 1 }), node('Cast', ['p'], ['g'], { to: 1 }), node('Add', ['f', 'g'], ['y'])],
    ],
    initializers: [...fixedScales, weights('int8', [31, 5])],
    shape: [3, 31],
    operators: ['QuantizeLinear', 'MatMulInteger', 'Cast', 'Cast', 'Add'],
  },
  QLinearMatMul: {
    nodes: [fixed, node('QLinearMatMul', ['q', 'one', 'z', 'w', 'sw', 'zw', 'sy', 'zy'], ['p']), node('DequantizeLinear', ['p', 'sy', 'zy'], ['y'])],
    initializers: [
      ...fixedScales,
      ...result,
      weights('int8', [LONG, 3]),
      floatTensor('sw', [3], [0.001, 0.0007, 0.002]),
      raw('zw', 'int8', [3], new Int8Array(3)),
    ],
    shape: [4, LONG],
    operators: ['QuantizeLinear', 'QLinearMatMul', 'DequantizeLinear'],
  },
  'QLinearConv, twice': {
    nodes: [
      fixed,
      node('QLinearConv', ['q', 'one', 'z', 'w', 'sw', 'zw', 'sy', 'zy', 'b'], ['p'], { pads: [1, 1, 1, 1], group: 2 }),
      node('QLinearConv', ['p', 'sy', 'zy', 'v', 'sb', 'zv', 'sy', 'zy'], ['r'], { dilations: [2, 1] }),
      node('DequantizeLinear', ['r', 'sy', 'zy'], ['y']),
    ],
    initializers: [
      ...[
        ...fixedScales,
        ...result,
        weights('int8', [4, 3, 3, 3]),
        floatTensor('sw', [4], [0.01, 0.007, 0.02, 0.01]),
        raw('zw', 'int8', [4], new Int8Array(4)),
      ],
      ...[raw('b', 'int32', [4], Int32Array.of(1000, -2000, 5, 0)), raw('zv', 'uint8', [], Uint8Array.of(128))],
      raw('v', 'uint8', [2, 4, 2, 2], Uint8Array.from(whole('uint8', [2, 4, 2, 2]).data.map(Number))),
    ],
    shape: [2, 6, 7, 5],
    operators: ['QuantizeLinear', 'Transpose', 'QLinearConv', 'QLinearConv', 'DequantizeLinear'],
  },
};

test.skipIf(!ort).each(Object.entries(PRODUCTS))('on the GPU: %s', async (_name, { nodes, initializers, shape, operators: left }) => {
  const parts: OnnxParts = { opset: 13, nodes, initializers, inputs: [{ name: 'x', shape }], outputs: ['y'] };
  const x = quantizedRows(shape.reduce((product, extent) => product * extent, 1));
  const { data, operators } = await numbersOf(parts, x);
  expect(operators).toEqual(left);
  const { InferenceSession, Tensor: OrtTensor } = ort as NonNullable<typeof ort>;
  const session = await InferenceSession.create(onnxBytes(parts), { logSeverityLevel: 4, graphOptimizationLevel: 'disabled' });
  const { y } = await session.run({ x: new OrtTensor('float32', x, shape) });
  expect(data).toEqual(Array.from(y.data as Float32Array));
});

test('a large weight of int8 becomes floats once, at import, through fake quantization too', async () => {
  const [rows, columns] = [1201, 1009];
  const weight = Int8Array.from({ length: rows * columns }, (_, i) => ((i * 7919) % 255) - 127);
  const floatsOf = Float32Array.from(weight, (value) => value * 0.5);
  const x = Float32Array.from(drawn(rows, -1, 1));
  const expected = Array.from({ length: columns }, (_, j) => x.reduce((sum, value, i) => sum + value * floatsOf[i * columns + j], 0));
  const parts = (nodes: Buffer[], initializers: Buffer[]): OnnxParts => ({
    nodes: [...nodes, node('MatMul', ['x', 'w'], ['y'])],
    initializers: [floatTensor('s', [], [0.5]), ...initializers],
    inputs: [{ name: 'x', shape: [1, rows] }],
    outputs: ['y'],
  });
  const forms: [Buffer[], Buffer[]][] = [
    [[node('DequantizeLinear', ['q', 's'], ['w'])], [raw('q', 'int8', [rows, columns], weight)]],
    [
      [node('QuantizeLinear', ['f', 's', 'z'], ['q']), node('DequantizeLinear', ['q', 's', 'z'], ['w'])],
      [floatTensor('f', [rows, columns], floatsOf), raw('z', 'int8', [], Int8Array.of(0))],
    ],
  ];
  for (const [nodes, initializers] of forms) {
    const { data, operators } = await numbersOf(parts(nodes, initializers), x);
    expect(operators).toEqual(['MatMul']);
    for (const [j, value] of data.entries()) expect(Math.abs(value - expected[j])).toBeLessThan(0.05);
  }
});

test('a contradiction in a weight is named when the model is loaded', () => {
  const parts: OnnxParts = {
    nodes: [node('DequantizeLinear', ['q', 's'], ['w']), node('MatMul', ['x', 'w'], ['y'])],
    initializers: [raw('q', 'int8', [2, 3], new Int8Array(6)), floatTensor('s', [2], [1, 1])],
    inputs: [{ name: 'x', shape: [1, 2] }],
    outputs: ['y'],
  };
  expect(() => OnnxModel.load(bytesAsSource('model', onnxBytes(parts)))).toThrow(
    /model: node "DequantizeLinear of w" \(DequantizeLinear\): the scales are \[2\]/,
  );
});

test('a large weight that many nodes dequantize becomes floats once, so that a small file asks for no more', () => {
  const size = (1 << 20) + 1;
  const names = ['w0', 'w1', 'w2'];
  const parts: OnnxParts = {
    nodes: [...names.map((name) => node('DequantizeLinear', ['q', 's'], [name])), node('Sum', ['x', ...names], ['y'])],
    initializers: [raw('q', 'int8', [size], new Int8Array(size)), floatTensor('s', [], [1])],
    inputs: [{ name: 'x', shape: [1] }],
    outputs: ['y'],
  };
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
  expect(names.filter((name) => model.graph.initializers.has(name))).toEqual(['w0']);
  model.dispose();
});
