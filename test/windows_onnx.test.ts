/** Convolution, pooling, padding and resizing of every kind against onnxruntime: one node each, many attributes. */
import { expect, test } from 'vitest';
import { type Attributes, floatTensor, intTensor, node, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { compare } from '../src/autograd/check.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { Random } from '../src/random.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { readTensors, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { type Ort, ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

/** A node of one operator, and the same by an op. `w`: further inputs, drawn; `constants`: initializers as they are. */
interface Case {
  name: string;
  op: string;
  opset: number;
  x: number[];
  w?: number[][];
  /** Names of the inputs behind x and w; '' for one that is left out. */
  constants?: { name: string; bytes: Buffer | null }[];
  attributes: Attributes;
  /** Outputs of the node (default 1). */
  outputs?: number;
  run(x: Tensor, ...w: Tensor[]): Tensor[];
}

const floats = (name: string, values: number[]) => ({ name, bytes: floatTensor(name, [values.length], values) });
const wholes = (name: string, values: number[]) => ({ name, bytes: intTensor(name, [values.length], values) });
const absent = { name: '', bytes: null };
const say = (o: object) => JSON.stringify(o).replaceAll('"', '');

const conv = (x: number[], w: number[], o: { strides: number[]; pads: number[]; dilations: number[]; group: number }): Case => ({
  ...{ name: `Conv [${x}] [${w}] ${say(o)}`, op: 'Conv', opset: 13, x, w: [w, [w[0]]], attributes: { ...o, kernel_shape: w.slice(2) } },
  run: (a, b, c) => {
    const common = { groups: o.group };
    const [stride, dilation] = [o.strides as [number, number], o.dilations as [number, number]];
    if (x.length === 3) return [ops.conv1d(a, b, c, { ...common, stride: stride[0], pad: o.pads as [number, number], dilation: dilation[0] })];
    if (x.length === 5) {
      type Triple = [number, number, number];
      return [ops.conv3d(a, b, c, { ...common, stride: o.strides as unknown as Triple, pad: o.pads, dilation: o.dilations as unknown as Triple })];
    }
    return [ops.conv2d(a, b, c, { ...common, stride, pad: o.pads as [number, number, number, number], dilation })];
  },
});

const convTranspose = (
  x: number[],
  w: number[],
  o: { strides: number[]; pads: number[]; dilations: number[]; group: number; output_padding: number[] },
): Case => ({
  ...{ name: `ConvTranspose [${x}] [${w}] ${say(o)}`, op: 'ConvTranspose', opset: 11, x, w: [w, [w[1] * o.group]] },
  attributes: { ...o, kernel_shape: w.slice(2) },
  run: (a, b, c) => {
    const options = { stride: o.strides, pad: o.pads, dilation: o.dilations, groups: o.group, outputPadding: o.output_padding };
    return [(x.length === 3 ? ops.convTranspose1d : x.length === 5 ? ops.convTranspose3d : ops.convTranspose2d)(a, b, c, options)];
  },
});

interface PoolNode {
  kernel_shape: number[];
  strides: number[];
  pads: number[];
  dilations?: number[];
  ceil_mode?: number;
  count_include_pad?: number;
  p?: number;
}

const pool = (op: 'MaxPool' | 'AveragePool' | 'LpPool', x: number[], o: PoolNode, opset = 19): Case => ({
  ...{ name: `${op} ${opset} [${x}] ${say(o)}`, op, opset, x, attributes: { ...o }, outputs: op === 'MaxPool' ? 2 : 1 },
  run: (a) => {
    const options = {
      ...{ kernel: o.kernel_shape, stride: o.strides, pad: o.pads, dilation: o.dilations ?? 1, ceil: o.ceil_mode === 1 },
      ...{ countPadding: o.count_include_pad === 1, ...(op === 'LpPool' ? { power: o.p ?? 2 } : {}) },
    };
    if (op !== 'MaxPool') return [ops.pool(`${op === 'LpPool' ? 'lp' : 'avg'}Pool${(x.length - 2) as 1 | 2}d` as 'avgPool2d', a, options)];
    const { y, indices } = ops.maxPoolWithIndices(a, options);
    const plain = ops.pool(`maxPool${(x.length - 2) as 1 | 2 | 3}d`, a, options);
    return [y, indices, plain, ops.maxUnpool(y, indices, x)];
  },
});

const pad = (x: number[], pads: number[], mode: 'constant' | 'reflect' | 'edge' | 'wrap', opset = 19): Case => ({
  ...{ name: `Pad ${mode} [${x}] [${pads}]`, op: 'Pad', opset, x, attributes: { mode } },
  constants: [wholes('pads', pads), { name: 'value', bytes: floatTensor('value', [], [mode === 'constant' ? 1.5 : 0]) }],
  run: (a) => [ops.pad(a, pads.slice(0, x.length), pads.slice(x.length), mode, 1.5)],
});

interface ResizeNode extends Omit<ops.ResizeOptions, 'sizes' | 'scales'> {
  sizes?: number[];
  scales?: number[];
}

/** The sizes or scales of the axes that are resized; the others stay. */
const resize = (x: number[], o: ResizeNode, opset = 18): Case => {
  const axes = o.axes ?? [2, 3];
  const spread = (list: readonly number[], rest: number[]) => rest.map((value, axis) => (axes.includes(axis) ? list[axes.indexOf(axis)] : value));
  const ones = x.map(() => 1);
  const roi = o.roi && [
    ...spread(
      o.roi.slice(0, axes.length),
      x.map(() => 0),
    ),
    ...spread(o.roi.slice(axes.length), ones),
  ];
  return {
    ...{ name: `Resize [${x}] ${say(o)}`, op: 'Resize', opset, x },
    constants: [
      roi ? floats('roi', roi) : absent,
      o.scales ? floats('scales', spread(o.scales, ones)) : absent,
      ...(o.sizes ? [wholes('sizes', spread(o.sizes, x))] : []),
    ],
    attributes: {
      ...{ mode: o.mode, coordinate_transformation_mode: o.coordinates ?? 'half_pixel', nearest_mode: o.rounding ?? 'round_prefer_floor' },
      ...{ cubic_coeff_a: { float: o.cubicA ?? -0.75 }, exclude_outside: o.excludeOutside ? 1 : 0, extrapolation_value: { float: o.extrapolation ?? 0 } },
      ...(opset >= 18 ? { antialias: o.antialias ? 1 : 0 } : {}),
    },
    run: (a) => [ops.resize(a, o)],
  };
};

const CONV: Case[] = [
  conv([2, 4, 13], [6, 2, 3], { strides: [2], pads: [2, 1], dilations: [2], group: 2 }),
  conv([1, 3, 17], [5, 3, 4], { strides: [1], pads: [0, 3], dilations: [1], group: 1 }),
  conv([1, 6, 9, 11], [12, 1, 3, 5], { strides: [1, 2], pads: [1, 2, 0, 2], dilations: [1, 1], group: 6 }),
  conv([2, 8, 11, 9], [8, 1, 7, 7], { strides: [1, 1], pads: [3, 3, 3, 3], dilations: [1, 1], group: 8 }),
  conv([1, 12, 9, 7], [12, 3, 3, 3], { strides: [2, 1], pads: [2, 0, 1, 2], dilations: [2, 1], group: 4 }),
  conv([1, 3, 5, 7, 9], [4, 3, 2, 3, 3], { strides: [1, 2, 1], pads: [1, 1, 0, 0, 1, 2], dilations: [1, 1, 2], group: 1 }),
  conv([2, 4, 7, 6, 5], [8, 2, 3, 2, 1], { strides: [2, 1, 2], pads: [2, 1, 0, 1, 0, 0], dilations: [2, 1, 1], group: 2 }),
  conv([1, 4, 3, 5, 5], [4, 1, 3, 3, 3], { strides: [1, 1, 1], pads: [1, 1, 1, 1, 1, 1], dilations: [1, 1, 1], group: 4 }),
];

const CONV_TRANSPOSE: Case[] = [
  convTranspose([2, 3, 7], [3, 4, 5], { strides: [3], pads: [1, 2], dilations: [1], group: 1, output_padding: [2] }),
  convTranspose([1, 5, 6, 7], [5, 4, 4, 4], { strides: [2, 2], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1, output_padding: [0, 0] }),
  convTranspose([2, 4, 5, 3], [4, 3, 3, 2], { strides: [2, 3], pads: [0, 1, 2, 0], dilations: [2, 1], group: 2, output_padding: [1, 2] }),
  convTranspose([1, 6, 4, 5], [6, 1, 3, 3], { strides: [1, 2], pads: [1, 0, 1, 1], dilations: [1, 2], group: 6, output_padding: [0, 1] }),
  convTranspose([1, 3, 3, 4, 5], [3, 2, 3, 2, 3], { strides: [2, 1, 2], pads: [1, 0, 1, 0, 0, 1], dilations: [1, 2, 1], group: 1, output_padding: [1, 0, 1] }),
  convTranspose([1, 4, 2, 3, 3], [4, 2, 2, 2, 2], { strides: [2, 2, 2], pads: [0, 0, 0, 0, 0, 0], dilations: [1, 1, 1], group: 2, output_padding: [0, 0, 0] }),
];

const POOL: Case[] = [
  pool('MaxPool', [2, 3, 13], { kernel_shape: [3], strides: [2], pads: [1, 0], dilations: [2] }),
  pool('MaxPool', [2, 3, 9, 11], { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1], dilations: [2, 3] }),
  pool('MaxPool', [1, 2, 8, 7], { kernel_shape: [3, 3], strides: [2, 3], pads: [1, 1, 0, 1], ceil_mode: 1 }),
  pool('MaxPool', [1, 3, 5, 6, 7], { kernel_shape: [2, 3, 3], strides: [1, 2, 2], pads: [1, 1, 0, 0, 1, 1], dilations: [2, 1, 1] }),
  pool('AveragePool', [2, 3, 13], { kernel_shape: [4], strides: [3], pads: [1, 2], count_include_pad: 1 }),
  pool('AveragePool', [2, 3, 8, 9], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 0, 1, 1], ceil_mode: 1 }),
  pool('AveragePool', [1, 2, 8, 11], { kernel_shape: [3, 4], strides: [3, 2], pads: [1, 2, 1, 1], ceil_mode: 1, count_include_pad: 1 }),
  pool('AveragePool', [1, 2, 9, 11], { kernel_shape: [2, 3], strides: [2, 1], pads: [0, 1, 1, 2], dilations: [2, 3], count_include_pad: 1 }),
  pool('AveragePool', [1, 2, 9, 11], { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 1], dilations: [2, 2] }),
  pool('AveragePool', [1, 2, 8, 11], { kernel_shape: [3, 4], strides: [3, 2], pads: [1, 2, 1, 1], ceil_mode: 1, count_include_pad: 1 }, 11),
  pool('LpPool', [2, 3, 9, 8], { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 1], dilations: [2, 3], ceil_mode: 1, p: 2 }, 18),
  pool('LpPool', [2, 3, 9, 8], { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 1], p: 2 }, 18),
  pool('LpPool', [1, 2, 7, 9], { kernel_shape: [2, 3], strides: [1, 2], pads: [0, 1, 1, 0], p: 1 }, 18),
  pool('LpPool', [1, 2, 7, 9], { kernel_shape: [2, 3], strides: [1, 2], pads: [0, 1, 1, 0], p: 3 }, 18),
];

const PAD: Case[] = [
  pad([2, 3, 5, 7], [0, 1, 2, 0, 1, 0, 3, 4], 'constant'),
  pad([3, 5, 7], [0, -1, 2, 1, 3, -4], 'constant'),
  pad([2, 3, 5, 7], [0, 0, 4, 1, 0, 2, 3, 6], 'reflect'),
  pad([2, 3, 5], [1, 0, 9, 0, 2, 3], 'edge'),
  pad([2, 3, 5], [1, 2, 3, 0, 1, 5], 'wrap'),
];

const COORDINATES: ops.ResizeCoordinates[] = ['half_pixel', 'half_pixel_symmetric', 'pytorch_half_pixel', 'align_corners', 'asymmetric'];
const ROUNDINGS: ops.ResizeRounding[] = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'];

const RESIZE: Case[] = [
  ...COORDINATES.flatMap((coordinates) => [
    resize([1, 2, 5, 7], { mode: 'linear', coordinates, sizes: [11, 4] }, 19),
    resize([2, 1, 7, 6], { mode: 'linear', coordinates, scales: [1.7, 0.55] }, 19),
    resize([1, 1, 5, 7], { mode: 'cubic', coordinates, sizes: [9, 13] }, 19),
    resize([1, 1, 8, 7], { mode: 'cubic', coordinates, scales: [0.6, 2.3], excludeOutside: true, cubicA: -0.5 }, 19),
    ...ROUNDINGS.map((rounding) => resize([1, 2, 5, 7], { mode: 'nearest', coordinates, rounding, scales: [2.3, 0.61] }, 19)),
    ...ROUNDINGS.map((rounding) => resize([1, 2, 6, 4], { mode: 'nearest', coordinates, rounding, sizes: [4, 8] }, 19)),
  ]),
  resize([1, 1, 5, 1], { mode: 'linear', coordinates: 'pytorch_half_pixel', sizes: [1, 3] }),
  resize([1, 1, 5, 3], { mode: 'linear', coordinates: 'align_corners', sizes: [1, 3] }),
  ...(['linear', 'nearest', 'cubic'] as const).map((mode) =>
    resize([1, 2, 7, 9], { mode, coordinates: 'tf_crop_and_resize', roi: [-0.2, 0.3, 0.9, 1.4], extrapolation: 2.5, sizes: [5, 11] }),
  ),
  resize([2, 3, 4, 5, 3], { mode: 'linear', sizes: [7, 3, 5], axes: [2, 3, 4] }),
  resize([1, 1, 13, 17], { mode: 'linear', antialias: true, sizes: [5, 6] }),
  resize([1, 1, 13, 17], { mode: 'cubic', antialias: true, sizes: [4, 9], cubicA: -0.5 }),
  resize([1, 1, 13, 17], { mode: 'linear', antialias: true, scales: [0.4, 0.7] }),
  resize([1, 1, 13, 11], { mode: 'cubic', antialias: true, excludeOutside: true, sizes: [5, 15] }),
];

async function agrees(c: Case, random: Random): Promise<void> {
  const drawn = (shape: number[]) => Float32Array.from({ length: sizeOf(shape) }, () => random.uniform(-2, 2));
  const shapes = [c.x, ...(c.w ?? [])];
  const values = shapes.map(drawn);
  const names = shapes.map((_, i) => (i === 0 ? 'x' : `w${i}`));
  const outputs = Array.from({ length: c.outputs ?? 1 }, (_, i) => `y${i}`);
  const constants = c.constants ?? [];
  const { dilations: _d, ceil_mode: _c, ...windows } = c.attributes; // MaxUnpool knows neither
  const bytes = onnxBytes({
    nodes: [
      node(c.op, [...names, ...constants.map(({ name }) => name)], outputs, c.attributes),
      // Indices are int64; as floats they are exact here.
      ...(c.op === 'MaxPool' ? [node('Cast', ['y1'], ['indices'], { to: 1 }), node('MaxUnpool', ['y0', 'y1', 'shape'], ['back'], windows)] : []),
    ],
    initializers: [...constants.flatMap(({ bytes: each }) => (each ? [each] : [])), ...(c.op === 'MaxPool' ? [intTensor('shape', [c.x.length], c.x)] : [])],
    inputs: names.map((name, i) => ({ name, shape: shapes[i] })),
    ...{ outputs: c.op === 'MaxPool' ? ['y0', 'indices', 'back'] : ['y0'], opset: c.opset },
  });
  const session = await (ort as Ort).InferenceSession.create(bytes, { logSeverityLevel: 3, graphOptimizationLevel: 'disabled' });
  const expected = await session.run(Object.fromEntries(names.map((name, i) => [name, new (ort as Ort).Tensor('float32', values[i], shapes[i])])));
  using _s = scope();
  const found = c.run(...(names.map((_, i) => tensor(values[i], shapes[i])) as [Tensor]));
  const data = await readTensors(found);
  const { data: wanted, dims } = expected.y0;
  expect(found[0].shape).toEqual([...dims]);
  expect(compare(data[0], wanted as Float32Array, 1e-4, 2e-5)).toMatchObject({ ok: true, first: null });
  if (c.op === 'MaxPool') {
    expect(data[2]).toEqual(data[0]);
    expect([...data[1]]).toEqual(Array.from(expected.indices.data));
    expect(data[3]).toEqual(expected.back.data);
  }
}

for (const [what, cases] of Object.entries({ CONV, CONV_TRANSPOSE, POOL, PAD, RESIZE }))
  test.skipIf(!ort).each(cases.map((c) => [c.name, c] as const))(`${what.toLowerCase()}: %s`, async (name, c) => agrees(c, new Random(7, name)));
