/** Graphs that contradict themselves, or ask for more than their file holds, are refused by node and reason, at once. */
import { expect, test } from 'vitest';
import { type Attributes, field, floatTensor, intTensor, node, type OnnxParts, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel, UnsupportedOnnx } from '../src/model/onnx/run.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { computedMs, useGpu } from './support.ts';

const device = useGpu();

const x = { name: 'x', shape: [1, 2, 5, 5] };
const kernel = floatTensor('w', [4, 2, 3, 3], new Float32Array(72).fill(1));

const load = (parts: OnnxParts): OnnxModel => OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));

/** What a graph says when it is loaded. */
function refusal(parts: OnnxParts): string {
  try {
    load(parts).dispose();
  } catch (error) {
    return String(error);
  }
  return 'loaded';
}

const conv = (attributes: Attributes, w = kernel, b?: Buffer): OnnxParts => ({
  nodes: [node('Conv', ['x', 'w', ...(b ? ['b'] : [])], ['y'], attributes)],
  initializers: [w, ...(b ? [b] : [])],
  inputs: [x],
  outputs: ['y'],
});
const single = (op: string, attributes: Attributes, opset = 13, inputs = ['x']): OnnxParts => ({
  ...{ opset, nodes: [node(op, inputs, ['y'], attributes)], inputs: [x], outputs: ['y'] },
});
const pool = (attributes: Attributes) => single('MaxPool', attributes);
const nodes = (...list: Buffer[]): OnnxParts => ({ nodes: list, inputs: [x], outputs: ['y'] });

/** Refused before anything is computed. */
const CONTRADICTIONS: Record<string, [OnnxParts, RegExp]> = {
  'dilation 0': [conv({ dilations: [0, 0] }), /node "Conv of y" \(Conv\): dilations \[0,0\] has 0, at least 1 is expected/],
  'stride 0': [conv({ strides: [1, 0] }), /strides \[1,0\] has 0/],
  'a negative stride': [conv({ strides: [-1, 1] }), /strides \[-1,1\] has -1/],
  'strides of one axis': [conv({ strides: [1] }), /strides has 1 numbers, 2 are expected/],
  'dilations of three axes': [conv({ dilations: [1, 1, 1] }), /dilations has 3 numbers, 2 are expected/],
  'pads of one side': [conv({ pads: [1, 1] }), /pads has 2 numbers, 4 are expected/],
  'no pads at all': [conv({ pads: [] }), /pads has 0 numbers, 4 are expected/],
  'negative pads': [conv({ pads: [-1, 0, 0, 0] }), /pads \[-1,0,0,0\] has -1, at least 0 is expected/],
  'pads beyond 31 bits': [conv({ pads: [2 ** 40, 0, 0, 0] }), /pads .* has 1099511627776/],
  'a kernel that is no kernel of the weight': [conv({ kernel_shape: [5, 5] }), /kernel_shape \[5,5\] contradicts the weight "w" \[4,2,3,3\]/],
  'a kernel of four axes': [conv({ kernel_shape: [3, 3, 3, 3] }), /4-dimensional windows; 1 to 3 are supported/],
  'group 0': [conv({ group: 0 }), /group is 0/],
  'a group that does not divide': [conv({ group: 3 }), /group 3 does not divide the 4 channels/],
  'a bias of other channels': [conv({}, kernel, floatTensor('b', [3], [0, 0, 0])), /the bias "b" \[3\] does not fit the 4 channels/],
  'an empty weight': [conv({}, floatTensor('w', [4, 2, 0, 3], [])), /the weight "w" \[4,2,0,3\] is empty/],
  'a weight of six axes': [conv({}, floatTensor('w', [4, 2, 1, 1, 1, 1], new Float32Array(8))), /has 6 axes; 3 to 5 are supported/],
  'padding said twice': [conv({ auto_pad: 'SAME_UPPER', pads: [1, 1, 1, 1] }), /auto_pad SAME_UPPER and pads \[1,1,1,1\] contradict/],
  'unknown padding': [conv({ auto_pad: 'same' }), /auto_pad is "same", one of NOTSET/],
  'a float for whole numbers': [conv({ group: { float: 1 } }), /attribute group holds float, int is expected/],
  'an attribute that does not exist': [conv({ padding: 1 }), /attribute "padding" is not known in opset 13/],
  'an attribute of another opset': [single('Add', { axis: 1, broadcast: 1 }, 13, ['x', 'x']), /attribute "axis" is not known in opset 13/],
  'a flag that is 2': [single('ReduceMean', { keepdims: 2 }), /attribute keepdims is 2, 0 or 1 is expected/],
  'no window': [pool({}), /attribute kernel_shape is missing/],
  'a window of 0': [pool({ kernel_shape: [0, 2] }), /kernel_shape \[0,2\] has 0/],
  'windows that hold padding only': [pool({ kernel_shape: [2, 2], pads: [2, 0, 0, 0] }), /pads \[2,0,0,0\] are not smaller than the window \[2,2\]/],
  'a dilation of 0 in pooling': [pool({ kernel_shape: [2, 2], dilations: [0, 1] }), /dilations \[0,1\] has 0/],
  'a permutation that is none': [single('Transpose', { perm: [0, 0, 1, 2] }), /perm \[0,0,1,2\] is no permutation/],
  'statistics of a norm that only applies them': [
    {
      nodes: [node('BatchNormalization', ['x', 'g', 'g', 'g', 'g'], ['y', 'mean', 'variance']), node('Relu', ['mean'], ['z'])],
      initializers: [floatTensor('g', [2], [1, 1])],
      inputs: [{ name: 'x', shape: [1, 2, 3, 3] }],
      outputs: ['y', 'z'],
    },
    /\(BatchNormalization\): statistics as outputs/,
  ],
  'norms of other channels': [
    {
      ...single('BatchNormalization', {}, 13, ['x', 'g', 'g', 'h', 'g']),
      initializers: [floatTensor('g', [2], [1, 1]), floatTensor('h', [3], [1, 1, 1])],
    },
    /"h" is \[3\], every parameter has one number a channel, here \[2\]/,
  ],
  'dropout in training': [
    { ...single('Dropout', {}, 13, ['x', '', 't']), initializers: [Buffer.concat([field(2, 9), field(8, 't'), field(9, Buffer.of(1))])] },
    /\(Dropout\): training/,
  ],
  'dropout before opset 7, in training': [single('Dropout', {}, 6), /training \(is_test 0\)/],
  'a constant of two values': [
    nodes(node('Constant', [], ['c'], { value_int: 1, value_float: { float: 1 } }), node('Add', ['x', 'c'], ['y'])),
    /values value_int and value_float/,
  ],
  'a constant of none': [nodes(node('Constant', [], ['c']), node('Add', ['x', 'c'], ['y'])), /\(Constant\): has no value/],
  'an input too many': [single('Relu', {}, 13, ['x', 'x']), /has 2 inputs, 1 are expected/],
  'an input too few': [single('Add', {}), /has 1 inputs, 2 are expected/],
  'an input left out': [single('Add', {}, 13, ['', 'x']), /input 0 is missing/],
  'a cycle': [
    nodes(node('Add', ['x', 'b'], ['a']), node('Relu', ['a'], ['b']), node('Relu', ['b'], ['y'])),
    /node "Add of a" \(Add\): no node before it makes its input "b"/,
  ],
  'a name that nothing makes': [single('Relu', {}, 13, ['z']), /no node before it makes its input "z"/],
  'a name that is made twice': [nodes(node('Relu', ['x'], ['y']), node('Neg', ['x'], ['y'])), /node "Neg of y" \(Neg\): makes "y", which is there already/],
  'an output that nothing makes': [{ ...nodes(node('Relu', ['x'], ['z'])) }, /no node makes the output "y"/],
  'a second output that is read': [
    nodes(node('Relu', ['x'], ['p', 'i']), node('Relu', ['i'], ['y'])),
    /its output 1 \("i"\) is read; only the first is computed/,
  ],
  'two initializers of a name': [{ ...conv({}), initializers: [kernel, kernel] }, /two initializers are called "w"/],
  'a whole number divided by 0': [
    { ...nodes(node('Div', ['a', 'b'], ['y'])), initializers: [intTensor('a', [1], [1]), intTensor('b', [1], [0])] },
    /node "Div of y" \(Div\): a whole number is divided by 0/,
  ],
  'a shape with two open extents': [
    { ...nodes(node('Reshape', ['a', 's'], ['y'])), initializers: [intTensor('a', [4], [1, 2, 3, 4]), intTensor('s', [2], [-1, -1])] },
    /\(Reshape\): \[-1,-1\] for \[4\]: one extent may be −1/,
  ],
  'an index outside': [
    { ...nodes(node('Gather', ['a', 'i'], ['y'])), initializers: [floatTensor('a', [2], [1, 2]), intTensor('i', [1], [2])] },
    /node "Gather of y" \(Gather\): index 2 of 2 places/,
  ],
  'elements that a file does not hold': [
    { ...nodes(node('Add', ['x', 'w'], ['y'])), initializers: [Buffer.concat([field(1, 2 ** 28), field(2, 1), field(8, 'w')])] },
    /tensor "w" \[268435456\] needs 268435456 values, it has 0/,
  ],
  'raw bytes that are too few': [
    { ...nodes(node('Add', ['x', 'w'], ['y'])), initializers: [Buffer.concat([field(1, 4), field(2, 1), field(8, 'w'), field(9, Buffer.alloc(8))])] },
    /tensor "w" \[4\] of float needs 16 bytes, it has 8/,
  ],
  'extents whose product overflows': [
    { ...nodes(node('Add', ['x', 'w'], ['y'])), initializers: [Buffer.concat([field(1, 2 ** 40), field(1, 2 ** 40), field(2, 1), field(8, 'w')])] },
    /tensor "w" .* has more than 536870912 elements/,
  ],
  'values twice': [
    {
      ...nodes(node('Add', ['x', 'w'], ['y'])),
      initializers: [Buffer.concat([field(1, 1), field(2, 7), field(8, 'w'), field(9, Buffer.alloc(8)), field(7, 1)])],
    },
    /tensor "w" holds its values more than once/,
  ],
  'values of another type': [
    { ...nodes(node('Add', ['x', 'w'], ['y'])), initializers: [Buffer.concat([field(1, 1), field(2, 1), field(8, 'w'), field(7, 1)])] },
    /tensor "w" of float holds values of another type/,
  ],
  'a sparse tensor with a value outside': [
    {
      ...nodes(node('Add', ['x', 'w'], ['y'])),
      sparse: [Buffer.concat([field(1, floatTensor('w', [1], [5])), field(2, intTensor('', [1], [6])), field(3, 6)])],
    },
    /sparse tensor "w" \[6\] has a value outside/,
  ],
  'a sparse tensor that is written out to more than its file holds': [
    {
      ...nodes(node('Add', ['x', 'w'], ['y'])),
      sparse: [Buffer.concat([field(1, floatTensor('w', [1], [5])), field(2, intTensor('', [1], [0])), field(3, 2 ** 28)])],
    },
    /sparse tensors have more than 4194304 elements/,
  ],
};

test.each(Object.entries(CONTRADICTIONS))('%s', (_name, [parts, reason]) => {
  const started = computedMs();
  const { bytesInUse } = device.gpu.memory();
  expect(refusal(parts)).toMatch(reason);
  expect(computedMs() - started).toBeLessThan(2000);
  expect(device.gpu.memory().bytesInUse).toBe(bytesInUse); // nothing is left on the GPU
});

test('what only this importer lacks is told apart from what is wrong', () => {
  const kind = (parts: OnnxParts) => {
    try {
      load(parts);
    } catch (error) {
      return error instanceof UnsupportedOnnx ? 'unsupported' : 'failed';
    }
    return 'loaded';
  };
  expect([single('NoSuch', {}), conv({ kernel_shape: [3, 3, 3, 3] }), single('Dropout', {}, 6)].map(kind)).toEqual(new Array(3).fill('unsupported'));
  expect([conv({ dilations: [0, 0] }), single('Relu', {}, 13, ['z'])].map(kind)).toEqual(new Array(2).fill('failed'));
});

const chain = (length: number, first: string, of: (from: string, to: string) => Buffer): Buffer[] =>
  Array.from({ length }, (_, i) => of(i === 0 ? first : `v${i - 1}`, i === length - 1 ? 'y' : `v${i}`));
const doubled = (a: string, b: string) => node('Concat', [a, a], [b], { axis: 0 });
const ones = (name: string, ...shape: number[]) => floatTensor(name, shape, new Float32Array(shape.reduce((size, extent) => size * extent, 1)).fill(1));

/** Refused by the time they would take memory, if not before. */
const GROWTH: Record<string, [OnnxParts, RegExp]> = {
  'a picture that doubles': [nodes(...chain(40, 'x', doubled)), /node "Concat of v\d+" \(Concat\): /],
  'a constant that doubles': [{ ...nodes(...chain(40, 'c', doubled)), initializers: [ones('c', 4)] }, /node "Concat of v\d+" \(Concat\): /],
  'a shape that doubles': [
    nodes(node('Shape', ['x'], ['c']), ...chain(40, 'c', doubled)),
    /node "Concat of v\d+" \(Concat\): \[\d+\] has more than 1048576 elements/,
  ],
  'wide padding': [conv({ pads: [1e5, 1e5, 1e5, 1e5] }), /node "Conv of y" \(Conv\): .* would be \d+ numbers/],
  'the widest padding': [conv({ pads: new Array(4).fill(2 ** 31 - 1) }), /node "Conv of y" \(Conv\): .* would be \d+ numbers/],
  'large windows': [pool({ kernel_shape: [3000, 3000], pads: [2999, 2999, 2999, 2999] }), /node "MaxPool of y" \(MaxPool\): .* would be more work/],
  'an outer product': [
    { ...nodes(node('MatMul', ['a', 'b'], ['y'])), initializers: [ones('a', 30_000, 1), ones('b', 1, 30_000)] },
    /\(MatMul\): \[30000,30000\] would be/,
  ],
  'an outer sum': [
    { ...nodes(node('Add', ['a', 'b'], ['y'])), initializers: [ones('a', 30_000, 1), ones('b', 1, 30_000)] },
    /\(Add\): \[30000,30000\] would be/,
  ],
  'rows gathered again and again': [
    {
      ...nodes(node('Gather', ['a', 'i'], ['b']), node('Gather', ['b', 'i'], ['y'])),
      initializers: [ones('a', 1, 1000), intTensor('i', [100_000], new Array(100_000).fill(0))],
    },
    /node "Gather of b" \(Gather\)/,
  ],
  'many at the same time': [
    {
      ...conv({}),
      nodes: [
        ...Array.from({ length: 60 }, (_, i) => node('Conv', ['x', 'w'], [`c${i}`], { pads: [500, 500, 500, 500] })),
        node(
          'Sum',
          Array.from({ length: 60 }, (_, i) => `c${i}`),
          ['y'],
        ),
      ],
    },
    /node "Conv of c\d+" \(Conv\): .* with \d+ there/,
  ],
  'axes without end': [
    { ...nodes(...chain(2000, 'x', (a, b) => node('Unsqueeze', [a, 'zero'], [b]))), initializers: [intTensor('zero', [1], [0])] },
    /\(Unsqueeze\): .* has 7 axes/,
  ],
};

test.each(Object.entries(GROWTH))('growth: %s', (_name, [parts, reason]) => {
  using _s = scope();
  const started = computedMs();
  const before = process.memoryUsage().rss;
  expect(() => {
    const model = load(parts);
    try {
      noGrad(() => model.run({ x: tensor(new Float32Array(50), [1, 2, 5, 5]) }));
    } finally {
      model.dispose();
    }
  }).toThrow(reason);
  expect(computedMs() - started).toBeLessThan(2000);
  expect(process.memoryUsage().rss - before).toBeLessThan(512 * 2 ** 20);
  device.gpu.pool.trim();
});

const long = 6000;
/** Long graphs: each node costs the same. `left`: the operators that are run. */
const LONG: Record<string, [OnnxParts, number]> = {
  'a chain of ReLUs': [nodes(...chain(long, 'x', (a, b) => node('Relu', [a], [b]))), long],
  'a chain that reads everything twice': [nodes(...chain(long, 'x', (a, b) => node('Mul', [a, a], [b]))), long],
  'a chain of names': [nodes(...chain(long, 'x', (a, b) => node('Identity', [a], [b]))), 1],
  'a chain of constants': [{ ...nodes(...chain(long, 'c', (a, b) => node('Add', [a, 'c'], [b]))), initializers: [ones('c', 3)] }, 0],
  'a sum that reads one name again and again': [nodes(node('Sum', new Array(long).fill('x'), ['y'])), 1],
  'a list of many parts': [
    {
      ...nodes(
        ...Array.from({ length: long }, (_, i) => node('Neg', ['x'], [`n${i}`])),
        node(
          'Concat',
          Array.from({ length: long }, (_, i) => `n${i}`),
          ['y'],
          { axis: 0 },
        ),
      ),
    },
    long + 1,
  ],
  'extents of the run that nobody reads': [
    {
      nodes: [
        node('Shape', ['x'], ['s']),
        node('Gather', ['s', 'zero'], ['e']),
        ...chain(long, 'e', (a, b) => (Number(b.slice(1)) % 2 === 0 ? node('Unsqueeze', [a, 'axis'], [b]) : node('Squeeze', [a, 'axis'], [b]))).slice(0, -1),
        node('Relu', ['x'], ['y']),
      ],
      initializers: [intTensor('zero', [], [0]), intTensor('axis', [1], [0])],
      inputs: [{ ...x, shape: [-1, 2, 5, 5] }],
      outputs: ['y'],
    },
    1,
  ],
};

test.each(Object.entries(LONG))('long: %s', (_name, [parts, left]) => {
  using _s = scope();
  const started = computedMs();
  const model = load(parts);
  expect(model.graph.nodes.length).toBe(left);
  noGrad(() => model.run({ x: tensor(new Float32Array(50), [1, 2, 5, 5]) }));
  model.dispose();
  expect(computedMs() - started).toBeLessThan(10_000); // it was minutes
});

test('pictures of another size do not meet extents that the file states', async () => {
  using _s = scope();
  const parts: OnnxParts = {
    nodes: [
      node('Shape', ['x'], ['s']),
      node('Gather', ['s', 'two'], ['h']),
      node('Cast', ['h'], ['hf'], { to: 1 }),
      node('Conv', ['x', 'w'], ['k']),
      node('Mul', ['k', 'hf'], ['m']),
      node('Conv', ['x', 'w'], ['map']),
      node('GlobalAveragePool', ['map'], ['y']),
      node('GlobalAveragePool', ['m'], ['z']),
    ],
    initializers: [kernel, intTensor('two', [1], [2])],
    inputs: [x],
    outputs: ['y', 'z'],
  };
  const model = load(parts);
  const large = tensor(new Float32Array(98).fill(1), [1, 2, 7, 7]);
  expect(model.run({ x: large }, ['map'])[0].shape).toEqual([1, 4, 5, 5]);
  expect(() => model.run({ x: large }, ['m'])).toThrow(
    /input "x" is \[1,2,7,7\], but node "Mul of m" \(Mul\) is bound to the \[1,2,5,5\] that the file states/,
  );
  expect(await model.run({ x: tensor(new Float32Array(50).fill(1), [1, 2, 5, 5]) }, ['z'])[0].data()).toEqual(new Float32Array(4).fill(90));
  model.dispose();
});
