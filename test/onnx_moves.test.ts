/** Operators of ONNX that move elements, against onnxruntime, on the GPU and on the host; casts; what is refused. */
import { expect, test } from 'vitest';
import { type Attributes, floatTensor, intTensor, node, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { agreesWithOrt, bool, counted, f32, f64, floats, gives, i32, i64, list, type NodeCase, one, type Result, refusalOf, texts, u8 } from './onnx_cases.ts';
import { ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
const words = texts([2, 3], ['a', 'b', '', 'Ä', 'e', 'f']);

const AS_ORT: Record<string, NodeCase> = {
  'split in equal parts': one('Split', [counted(6, 2)], {}, { opset: 13, outputs: 3 }),
  'split by an attribute': one('Split', [counted(2, 5)], { axis: -1, split: [2, 0, 3] }, { opset: 11, outputs: 3 }),
  'split by an input': one('Split', [counted(2, 7), list(4, 3)], { axis: 1 }, { opset: 13, outputs: 2 }),
  'split into a shorter last part': one('Split', [counted(7, 3)], { num_outputs: 3 }, { outputs: 3 }),
  'split of nothing': one('Split', [counted(0, 4)], { axis: 1 }, { opset: 13, outputs: 2 }),
  'split of texts': one('Split', [words], { axis: 1 }, { opset: 13, outputs: 3 }),
  'split of truth values': one('Split', [bool([4], [1, 0, 0, 1])], {}, { opset: 13, outputs: 2 }),
  'expand both ways': one('Expand', [counted(3, 1), list(2, 1, 5)]),
  'expand one number': one('Expand', [f32([], [7]), list(2, 3)]),
  'expand to nothing': one('Expand', [counted(3, 1), list(3, 0)]),
  'expand whole numbers': one('Expand', [i32([1, 2], [-1, 5]), list(3, 2)]),
  tile: one('Tile', [counted(2, 3), list(2, 3)]),
  'tile nothing': one('Tile', [counted(2, 3), list(0, 1)]),
  'tile whole numbers': one('Tile', [u8([2], [255, 1]), list(3)]),
  'pad with a value': one('Pad', [counted(2, 3), list(1, 0, 0, 2), f32([], [-1.5])]),
  'pad and crop': one('Pad', [counted(4, 5), list(-1, 2, 1, -2)]),
  'pad some axes': one('Pad', [counted(2, 3, 4), list(1, 2), null, list(-1)]),
  'pad by an attribute': one('Pad', [counted(2, 3)], { pads: [0, 1, 1, 0], value: { float: 2 } }, { opset: 10 }),
  'pad by reflection': one('Pad', [counted(3, 4), list(2, 3, 1, 2)], { mode: 'reflect' }),
  'pad by the edge': one('Pad', [counted(3, 4), list(2, 3, 1, 5)], { mode: 'edge' }),
  'pad around': one('Pad', [counted(3, 4), list(2, 3, 1, 4)], { mode: 'wrap' }, { opset: 19 }),
  'pad whole numbers': one('Pad', [i64([2, 2], [1, 2, 3, 2 ** 40]), list(0, 1, 1, 0), i64([], [9])]),
  'depth to space, DCR': one('DepthToSpace', [counted(2, 8, 2, 3)], { blocksize: 2 }),
  'depth to space, CRD': one('DepthToSpace', [counted(1, 18, 1, 2)], { blocksize: 3, mode: 'CRD' }),
  'space to depth': one('SpaceToDepth', [counted(2, 3, 4, 6)], { blocksize: 2 }),
  size: one('Size', [counted(3, 5)], {}, { hostOnly: true, makes: ['int64'] }),
  'the upper triangle': one('Trilu', [floats(2, 4, 5), i64([], [1])]),
  'the lower triangle': one('Trilu', [floats(5, 3), i64([], [-2])], { upper: 0 }),
  'the upper triangle, of whole numbers': one('Trilu', [i64([3, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9])]),
  'the upper triangle, of infinities': one('Trilu', [f32([3, 3], new Array(9).fill(-inf)), i64([], [1])]),
  'reversed in time': one('ReverseSequence', [counted(4, 3, 2), list(4, 0, 2)]),
  'reversed along the second axis': one('ReverseSequence', [counted(3, 4), list(1, 3, 4)], { time_axis: 1, batch_axis: 0 }),
  'cropped and padded about the center': one('CenterCropPad', [counted(5, 4, 3), list(2, 7)], { axes: [0, -2] }),
  'padded about the center': one('CenterCropPad', [counted(2, 3), list(5, 4)]),
  'columns to a picture': one('Col2Im', [floats(2, 3 * 4, 12), list(4, 5), list(2, 2)], {}, { rtol: 1e-6, atol: 1e-6, hostOnly: true }),
  'columns to a picture, in every way': one(
    'Col2Im',
    [floats(1, 2 * 6, 8), list(7, 5), list(3, 2)],
    { dilations: [2, 1], strides: [2, 1], pads: [0, 0, 0, 0] },
    { rtol: 1e-6, atol: 1e-6, hostOnly: true },
  ),
  'columns to three axes': one('Col2Im', [floats(1, 8, 8), list(3, 3, 3), list(2, 2, 2)], {}, { rtol: 1e-6, atol: 1e-6, hostOnly: true }),
  'texts in another shape': one('Reshape', [words, list(3, -1)]),
  'texts turned': one('Transpose', [words]),
  'texts joined': one('Concat', [words, words], { axis: 1 }),
  'texts squeezed': one('Squeeze', [texts([1, 2], ['a', 'b']), list(0)]),
  'texts sliced': one('Slice', [words, list(-1), list(-9), list(1), list(-1)]),
  'texts expanded': one('Expand', [texts([2, 1], ['a', 'b']), list(2, 2)]),
  'texts tiled': one('Tile', [texts([2], ['a', 'b']), list(2)]),
  'slices of steps from behind': one('Slice', [counted(7, 5), list(5, 4), list(-99, 0), list(0, 1), list(-2, -3)]),
  'slices of nothing': one('Slice', [counted(7, 5), list(5), list(2), list(0), list(1)]),
  'slices of an axis without places': one('Slice', [counted(0, 3), list(-1), list(-9), list(0), list(-1)]),
  'joined with nothing': one('Concat', [counted(2, 0), counted(2, 3)], { axis: -1 }),
  'floats to whole numbers': one('Cast', [f32([4], [-1.9, 2.9, 0, 200])], { to: 7 }, { hostOnly: true, makes: ['int64'] }),
  'floats to truth values': one('Cast', [f32([4], [-0.1, 0, nan, 1e-30])], { to: 9 }, { hostOnly: true, makes: ['bool'] }),
  'doubles to floats': one('Cast', [f64([3], [1 / 3, 1e300, -0])], { to: 1 }, { makes: ['float'] }),
  'whole numbers that wrap': one('Cast', [i64([4], [300, -1, 128, 2 ** 33 + 5])], { to: 2 }, { makes: ['uint8'] }),
  'whole numbers to signed bytes': one('Cast', [i32([3], [200, -129, 127])], { to: 3 }, { makes: ['int8'] }),
  'truth values to floats': one('Cast', [bool([2], [1, 0])], { to: 1 }, { makes: ['float'] }),
  'whole numbers to texts': one('Cast', [i64([3], [-7, 0, 2 ** 40])], { to: 8 }, { makes: ['string'] }),
  'texts to whole numbers': one('Cast', [texts([3], ['-7', '12', '0'])], { to: 7 }, { makes: ['int64'] }),
  'texts to floats': one('Cast', [texts([5], ['1.5', '-2e3', 'INF', '-INF', 'NaN'])], { to: 1 }, { makes: ['float'] }),
  'the type of another': one('CastLike', [f32([2], [1.7, -1.7]), i32([1], [0])], {}, { opset: 15, hostOnly: true, makes: ['int32'] }),
};

test.skipIf(!ort).each(Object.entries(AS_ORT))('as onnxruntime: %s', (name, each) => agreesWithOrt(name, each));

const KNOWN: Record<string, [NodeCase, Result[]]> = {
  // onnxruntime gives "%.8g", ONNX's own tests the fewest digits.
  'floats to texts': [
    one('Cast', [f32([6], [0.1, -3, 1e20, inf, -inf, nan])], { to: 8 }, { hostOnly: true }),
    [{ shape: [6], data: ['0.1', '-3', '100000000000000000000', 'INF', '-INF', 'NaN'] }],
  ],
  'floats to halves': [
    one('Cast', [f32([5], [1.0004, -1e6, 65519, 1e-8, nan])], { to: 10 }, { hostOnly: true }),
    [{ shape: [5], data: [1, -inf, 65504, 0, nan] }],
  ],
  'a dropout and its mask': [
    one('Dropout', [counted(2, 2)], {}, { opset: 13, outputs: 2 }),
    [
      { shape: [2, 2], data: [0, 1, 2, 3] },
      { shape: [2, 2], data: [1, 1, 1, 1] },
    ],
  ],
  'a dropout in training that drops nothing': [
    one('Dropout', [counted(3), f32([], [0]), bool([], [1])], {}, { opset: 13, outputs: 2 }),
    [
      { shape: [3], data: [0, 1, 2] },
      { shape: [3], data: [1, 1, 1] },
    ],
  ],
  'tile of opset 1': [one('Tile', [counted(1, 2), i64([1], [3]), i64([1], [1])], {}, { opset: 5 }), [{ shape: [1, 6], data: [0, 1, 0, 1, 0, 1] }]],
  'pad of opset 1': [one('Pad', [counted(1, 2)], { paddings: [0, 1, 0, 0] }, { opset: 1 }), [{ shape: [1, 3], data: [0, 0, 1] }]],
  'a reflection beyond the other end': [
    one('Pad', [counted(3), list(5, 4)], { mode: 'reflect' }, { hostOnly: true }),
    [{ shape: [12], data: [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2] }],
  ],
  'texts padded with nothing': [one('Pad', [texts([2], ['a', 'b']), list(1, 0)]), [{ shape: [3], data: ['', 'a', 'b'] }]],
};

test.each(Object.entries(KNOWN))('%s', (name, [each, expected]) => gives(name, each, expected));

test('casts to truth values and back stay on the GPU', async () => {
  using _s = scope();
  const bytes = onnxBytes({
    nodes: [node('Cast', ['x'], ['b'], { to: 9 }), node('Cast', ['b'], ['y'], { to: 1 })],
    inputs: [{ name: 'x', shape: [4] }],
    outputs: ['y'],
  });
  const model = OnnxModel.load(bytesAsSource('model', bytes));
  const [y] = noGrad(() => model.compute({ x: tensor([0, -0.1, nan, 1e-30]) })) as Tensor[]; // it does not wait for values
  expect(Array.from(await y.data())).toEqual([0, 1, 1, 1]);
  model.dispose();
});

const REFUSED: Record<string, [NodeCase, RegExp]> = {
  'a split that does not divide': [one('Split', [counted(5)], {}, { opset: 13, outputs: 2 }), /5 places are not divided by 2 outputs/],
  'a split of too much': [one('Split', [counted(5), list(2, 4)], {}, { outputs: 2 }), /parts of \[2,4\] do not divide 5 places/],
  'an expansion that does not fit': [one('Expand', [counted(3), list(4)]), /\[3\] and \[4\]/],
  'an expansion to half the memory': [one('Expand', [counted(1), list(2 ** 20, 2 ** 20)]), /numbers/],
  'repeats for other axes': [one('Tile', [counted(2, 2), list(2)]), /repeats \[2\] for \[2,2\]/],
  'padding of more than there is': [one('Pad', [counted(2), list(-2, -1)]), /leaves less than nothing of \[2\]/],
  'an axis padded twice': [one('Pad', [counted(2, 2), list(1, 1, 1, 1), null, list(0, -2)]), /for axes \[0,0\]/],
  'a reflection of nothing': [one('Pad', [counted(0, 2), list(1, 0, 0, 0)], { mode: 'reflect' }), /nothing to repeat along axis 0/],
  'an unknown mode': [one('Pad', [counted(2), list(1, 1)], { mode: 'wrap' }), /mode "wrap" in opset 18; constant, reflect, edge are supported/],
  'a fill of another type': [one('Pad', [i64([1], [1]), list(1, 1), i32([], [0])]), /int64 and int32 differ in type/],
  'blocks that do not divide': [one('SpaceToDepth', [counted(1, 1, 3, 2)], { blocksize: 2 }), /blocks of 2 do not divide/],
  'lengths beyond the time': [one('ReverseSequence', [counted(2, 2), list(3, 1)]), /lengths \[3,1\] for 2 sequences of 2 places/],
  'windows that do not fit': [one('Col2Im', [counted(1, 4, 5), list(3, 3), list(2, 2)]), /\[N, C × 4, 4\] is expected/],
  'texts and numbers joined': [one('Concat', [texts([1], ['a']), i64([1], [1])], { axis: 0 }), /string and int64 differ in type/],
  'a float that no byte holds': [one('Cast', [f32([1], [300])], { to: 2 }), /a cast of 300 to uint8, which cannot hold it/],
  'a text that is no number': [one('Cast', [texts([1], ['1,5'])], { to: 1 }), /"1,5" is no number/],
  'a type that is not known': [one('Cast', [f32([1], [1])], { to: 17 }, { opset: 19 }), /element type 17 is not supported/],
  'a dropout in training': [one('Dropout', [counted(3), f32([], [0.5]), bool([], [1])], {}, { opset: 13 }), /training/],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_name, [each, message]) => {
  expect(await refusalOf(each)).toMatch(message);
});

/** Nodes that change nothing: on the GPU each makes a tensor of its own, because inputs are disposed once nobody reads them. */
const UNCHANGED: Record<string, [inputs: (Buffer | null)[], attributes?: Attributes, opset?: number]> = {
  Tile: [[intTensor('a', [4], [1, 1, 1, 1])]],
  Expand: [[intTensor('a', [4], [1, 1, 1, 1])]],
  Slice: [[intTensor('a', [1], [0]), intTensor('b', [1], [9])]],
  Pad: [[intTensor('a', [8], [0, 0, 0, 0, 0, 0, 0, 0])]],
  Transpose: [[], { perm: [0, 1, 2, 3] }],
  Reshape: [[intTensor('a', [4], [0, 0, 0, 0])]],
  Resize: [[null, floatTensor('a', [4], [1, 1, 1, 1])], { mode: 'nearest' }],
  Concat: [[], { axis: 1 }],
  Split: [[], { axis: 1, num_outputs: 1 }],
  Sum: [[]],
  Mean: [[]],
  Max: [[]],
  Clip: [[]],
  Cast: [[], { to: 1 }],
  Einsum: [[], { equation: 'abcd->abcd' }],
  ReduceSum: [[], { noop_with_empty_axes: 1 }],
  ReduceMean: [[intTensor('a', [1], [1])]],
  DepthToSpace: [[], { blocksize: 1 }],
  SpaceToDepth: [[], { blocksize: 1 }],
  AveragePool: [[], { kernel_shape: [1, 1] }],
  MaxPool: [[], { kernel_shape: [1, 1] }],
  GlobalAveragePool: [[]],
  Dropout: [[]],
  Mul: [[floatTensor('a', [1], [1])]],
  Add: [[floatTensor('a', [1], [0])]],
  Pow: [[floatTensor('a', [1], [1])]],
};

test.each(Object.entries(UNCHANGED))('%s that changes nothing makes a tensor of its own', async (op, [constants, attributes = {}, opset = 18]) => {
  using _s = scope();
  const shape = op === 'GlobalAveragePool' ? [2, 6, 1, 1] : [2, 1, 2, 3];
  const names = constants.map((each, i) => (each === null ? '' : ['a', 'b'][constants.slice(0, i).filter((before) => before !== null).length]));
  const nodes = [node('Relu', ['x'], ['r']), node(op, ['r', ...names], ['m'], attributes), node('Neg', ['m'], ['n']), node('Abs', ['n'], ['y'])];
  const initializers = constants.filter((each) => each !== null);
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes({ nodes, initializers, inputs: [{ name: 'x', shape }], outputs: ['y'], opset })));
  const values = Float32Array.from({ length: 12 }, (_, i) => i - 3);
  for (let run = 0; run < 2; run++) {
    const [y] = noGrad(() => model.run({ x: tensor(values, shape) })) as Tensor[];
    expect([...(await y.data())]).toEqual([...values].map((value) => Math.max(0, value)));
  }
  model.dispose();
});
