/** The ONNX importer: right on small graphs, safe on hostile files, trainable, and equal to onnxruntime on ResNet-50. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { askOnnxruntime, FEATURE_MAP, photographs, sample } from '../scripts/resnet_golden.js';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { FileError } from '../src/errors.ts';
import { unpackedModel } from '../src/model/encoder/encoder.ts';
import { checkModelFolder } from '../src/model/onnx/check.ts';
import { readOnnx } from '../src/model/onnx/proto.ts';
import { OnnxModel, UnsupportedOnnx } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { field, floatTensor, intTensor, node, type OnnxParts, onnxBytes, writeOnnx } from './onnx_writer.ts';
import { dataFolder, temporaryFolder, useGpu } from './support.ts';

useGpu();
const folder = temporaryFolder();
const random = new Random(3, 'onnx');
const numbers = (count: number, scale = 0.5) => Float32Array.from({ length: count }, () => scale * random.normal());
const positive = (count: number) => Float32Array.from({ length: count }, () => random.uniform(0.5, 2));
let files = 0;

function save(parts: OnnxParts): string {
  const path = join(folder, `${files++}`, 'model.onnx');
  writeOnnx(path, parts);
  return path;
}

/** A residual block as torchvision exports it: conv, norm, relu, conv, norm, add, relu, pool, classifier. */
function residualBlock(): OnnxParts {
  const conv = (name: string) => floatTensor(name, [8, 8, 3, 3], numbers(576, 0.2));
  const norm = (name: string) => [
    floatTensor(`${name}.gamma`, [8], positive(8)),
    floatTensor(`${name}.beta`, [8], numbers(8)),
    floatTensor(`${name}.mean`, [8], numbers(8)),
    floatTensor(`${name}.var`, [8], positive(8)),
  ];
  const same = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1], dilations: [1, 1], group: 1 };
  const normInputs = (x: string, name: string) => [x, `${name}.gamma`, `${name}.beta`, `${name}.mean`, `${name}.var`];
  return {
    nodes: [
      node('Conv', ['x', 'w1'], ['c1'], same),
      node('BatchNormalization', normInputs('c1', 'n1'), ['b1'], { epsilon: { float: 1e-5 } }),
      node('Relu', ['b1'], ['r1']),
      node('Conv', ['r1', 'w2'], ['c2'], same),
      node('BatchNormalization', normInputs('c2', 'n2'), ['b2'], { epsilon: { float: 1e-5 } }),
      node('Add', ['b2', 'x'], ['s']),
      node('Relu', ['s'], ['y']),
      node('GlobalAveragePool', ['y'], ['p']),
      node('Shape', ['p'], ['shape']),
      node('Gather', ['shape', 'zero'], ['n']),
      node('Unsqueeze', ['n', 'axis0'], ['n1d']),
      node('Concat', ['n1d', 'rest'], ['flat'], { axis: 0 }),
      node('Reshape', ['p', 'flat'], ['f']),
      node('Gemm', ['f', 'fc.w', 'fc.b'], ['out'], { transB: 1 }),
    ],
    initializers: [
      conv('w1'),
      conv('w2'),
      ...norm('n1'),
      ...norm('n2'),
      intTensor('zero', [], [0]),
      intTensor('axis0', [1], [0]),
      intTensor('rest', [1], [-1]),
      floatTensor('fc.w', [5, 8], numbers(40)),
      floatTensor('fc.b', [5], numbers(5)),
    ],
    inputs: [{ name: 'x', shape: [-1, 8, 7, 5] }],
    outputs: ['out'],
  };
}

test('folded and fused, a residual block gives what its parts give', async () => {
  using _s = scope();
  const path = save(residualBlock());
  const fused = OnnxModel.load(path);
  const plain = OnnxModel.load(path, { trainable: (name) => /^w\d|^n\d/.test(name) });
  expect(fused.graph.nodes.map((n) => n.op)).toEqual(['FusedConv', 'FusedConv', 'GlobalAveragePool', 'Reshape', 'Gemm']);
  expect(plain.graph.nodes.map((n) => n.op)).toContain('BatchNormalization');
  expect(fused.featureMapName).toBe('y');
  const x = tensor(numbers(2 * 8 * 7 * 5), [2, 8, 7, 5]);
  const [a, map] = fused.run({ x }, ['out', 'y']);
  const [b] = noGrad(() => plain.run({ x }));
  expect(map.shape).toEqual([2, 8, 7, 5]);
  expect(fused.run({ x }, ['y'], true)[0].shape).toEqual([2, 7, 5, 8]);
  const [left, right] = [await a.data(), await b.data()];
  left.forEach((value, i) => {
    expect(value).toBeCloseTo(right[i], 4);
  });
  fused.dispose();
  plain.dispose();
});

test.each([false, true])('gradients flow through a residual block (training %s)', async (training) => {
  using _s = scope();
  const model = OnnxModel.load(save(residualBlock()), { trainable: (name) => /^w\d|^n\d\.(gamma|beta)$/.test(name) });
  model.training = training;
  const x = tensor(numbers(4 * 8 * 7 * 5), [4, 8, 7, 5]);
  const weights = tensor(numbers(20), [4, 5]);
  const loss = (): Tensor => ops.sum(ops.mul(model.run({ x })[0], weights));
  backward(loss());
  expect([...model.parameters.all.keys()].sort()).toEqual(['n1.beta', 'n1.gamma', 'n2.beta', 'n2.gamma', 'w1', 'w2']);
  for (const [name, parameter] of model.parameters.all) {
    const gradient = (await (gradOf(parameter) as Tensor).data()) as Float32Array;
    const before = (await parameter.data()) as Float32Array;
    // Along the gradient itself the change of the loss is largest against float32's noise.
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    const h = 2e-3;
    const at = async (sign: number) => {
      parameter.write(before.map((value, i) => value + (sign * h * gradient[i]) / norm));
      return noGrad(() => loss()).item();
    };
    const slope = ((await at(1)) - (await at(-1))) / (2 * h);
    parameter.write(before);
    expect(Math.abs(slope - norm), name).toBeLessThan(0.02 * norm + 2e-3);
  }
  model.dispose();
});

test('what is trained may lie before what is frozen', async () => {
  using _s = scope();
  const model = OnnxModel.load(save(residualBlock()), { trainable: (name) => name === 'w1' });
  backward(ops.sum(model.run({ x: tensor(numbers(280), [1, 8, 7, 5]) })[0]));
  const gradient = (await (gradOf(model.parameters.get('w1')) as Tensor).data()) as Float32Array;
  expect(gradient.some((g) => g !== 0)).toBe(true);
  model.dispose();
});

test('in training the running statistics move towards the batch, in evaluation they stay', async () => {
  using _s = scope();
  const model = OnnxModel.load(save(residualBlock()), { trainable: (name) => name.startsWith('n1') || name.startsWith('w') });
  const x = tensor(numbers(4 * 8 * 7 * 5), [4, 8, 7, 5]);
  const before = await model.weight('n2.mean', 'plain').data();
  noGrad(() => model.run({ x }));
  expect(await model.weight('n2.mean', 'plain').data()).toEqual(before);
  model.training = true;
  noGrad(() => model.run({ x }));
  expect(await model.weight('n2.mean', 'plain').data()).not.toEqual(before);
  model.dispose();
});

describe('graphs', () => {
  const run = async (parts: OnnxParts, inputs: Record<string, Tensor>): Promise<number[]> => {
    const model = OnnxModel.load(save(parts));
    const [out] = model.run(inputs);
    const values = [...(await out.data())];
    model.dispose();
    return values;
  };

  test('an MXNet-style head: norm, pool, flatten, classifier', async () => {
    using _s = scope();
    const parts = residualBlock();
    parts.nodes = [
      ...parts.nodes.slice(0, 4),
      node('Add', ['c2', 'x'], ['s']),
      node('BatchNormalization', ['s', 'n2.gamma', 'n2.beta', 'n2.mean', 'n2.var'], ['bn'], {}),
      node('Relu', ['bn'], ['y']),
      node('GlobalAveragePool', ['y'], ['p']),
      node('Flatten', ['p'], ['f']),
      node('Gemm', ['f', 'fc.w', 'fc.b'], ['out'], { transB: 1 }),
    ];
    const model = OnnxModel.load(save(parts));
    expect(model.featureMapName).toBe('y');
    expect(model.run({ x: tensor(numbers(280), [1, 8, 7, 5]) })[0].shape).toEqual([1, 5]);
    model.dispose();
  });

  test('ReduceMean over places, Sub, Mul, Clip', async () => {
    using _s = scope();
    const parts = {
      nodes: [node('ReduceMean', ['x'], ['m'], { axes: [2, 3], keepdims: 0 }), node('Mul', ['m', 'two'], ['d']), node('Clip', ['d', 'low', 'high'], ['y'])],
      initializers: [floatTensor('two', [1], [2]), floatTensor('low', [], [0]), floatTensor('high', [], [3])],
      inputs: [{ name: 'x', shape: [1, 2, 2, 2] }],
      outputs: ['y'],
    };
    expect(await run(parts, { x: tensor([1, 2, 3, 4, -1, -2, -3, -4], [1, 2, 2, 2]) })).toEqual([3, 0]);
  });

  test('Slice, Transpose, Concat and Softmax', async () => {
    using _s = scope();
    const parts = {
      nodes: [
        node('Slice', ['x', 'from', 'to', 'axis'], ['a']),
        node('Transpose', ['a'], ['t'], { perm: [1, 0] }),
        node('Concat', ['t', 't'], ['c'], { axis: 1 }),
        node('Softmax', ['c'], ['y'], { axis: -1 }),
      ],
      initializers: [intTensor('from', [1], [1]), intTensor('to', [1], [Number.MAX_SAFE_INTEGER]), intTensor('axis', [1], [1])],
      inputs: [{ name: 'x', shape: [1, 3] }],
      outputs: ['y'],
    };
    expect(await run(parts, { x: tensor([1, 2, 3], [1, 3]) })).toEqual([0.5, 0.5, 0.5, 0.5]);
  });

  test('Constant, Identity and whole-number arithmetic, as exporters write them', async () => {
    using _s = scope();
    const constant = (output: string, body: Buffer) =>
      Buffer.concat([node('Constant', [], [output]), field(5, Buffer.concat([field(1, 'value'), field(5, body), field(20, 4)]))]);
    const parts = {
      nodes: [
        constant('two', intTensor('', [1], [2])),
        constant('weight', floatTensor('', [1, 2, 1, 1], [10, 1])),
        node('Identity', ['weight'], ['same weight']),
        node('Shape', ['x'], ['shape']),
        node('Slice', ['shape', 'from', 'to'], ['height']),
        node('Div', ['height', 'two'], ['half']), // 5 / 2 = 2
        node('Concat', ['minus one', 'half'], ['target'], { axis: 0 }),
        node('Identity', ['x'], ['again']),
        node('Add', ['x', 'again'], ['doubled']),
        node('Conv', ['doubled', 'same weight'], ['c'], { kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1], dilations: [1, 1], group: 1 }),
        node('Reshape', ['c', 'target'], ['y']),
      ],
      initializers: [intTensor('from', [1], [2]), intTensor('to', [1], [3]), intTensor('minus one', [1], [-1])],
      inputs: [{ name: 'x', shape: [1, 2, 5, 2] }],
      outputs: ['y'],
    };
    const model = OnnxModel.load(save(parts));
    for (let i = 0; i < 2; i++) {
      const [y] = model.run({
        x: tensor(
          Float32Array.from({ length: 20 }, (_, k) => k),
          [1, 2, 5, 2],
        ),
      });
      expect(y.shape).toEqual([5, 2]);
      expect((await y.data())[0]).toBe(2 * (0 * 10 + 10));
    }
    // The file states the height, so the whole target is known at import.
    expect(model.graph.nodes.map(({ op }) => op)).toEqual(['Add', 'Conv', 'Reshape']);
    model.dispose();
  });

  test('norms without names fold apart', async () => {
    using _s = scope();
    const norm = (scale: number, i: number) => [floatTensor(`g${i}`, [1], [scale]), floatTensor(`zero${i}`, [1], [0]), floatTensor(`one${i}`, [1], [1])];
    const conv = { kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1], dilations: [1, 1], group: 1 };
    const unnamed = (buffer: Buffer, name: string) =>
      Buffer.from(buffer.toString('latin1').replace(`BatchNormalization of ${name}`, 'BatchNormalization of nn'), 'latin1');
    const parts = {
      nodes: [
        node('Conv', ['x', 'w1'], ['c1'], conv),
        unnamed(node('BatchNormalization', ['c1', 'g1', 'zero1', 'zero1', 'one1'], ['b1'], { epsilon: { float: 0 } }), 'b1'),
        node('Conv', ['b1', 'w2'], ['c2'], conv),
        unnamed(node('BatchNormalization', ['c2', 'g2', 'zero2', 'zero2', 'one2'], ['b2'], { epsilon: { float: 0 } }), 'b2'),
      ],
      initializers: [floatTensor('w1', [1, 1, 1, 1], [1]), floatTensor('w2', [1, 1, 1, 1], [1]), ...norm(2, 1), ...norm(5, 2)],
      inputs: [{ name: 'x', shape: [1, 1, 2, 2] }],
      outputs: ['b2'],
    };
    expect(await run(parts, { x: tensor([1, 2, 3, 4], [1, 1, 2, 2]) })).toEqual([10, 20, 30, 40]);
  });

  test('an unsupported operator is named with its node', () => {
    expect(() => OnnxModel.load(save({ nodes: [node('Einsum', ['x'], ['y'])], inputs: [{ name: 'x', shape: [1] }], outputs: ['y'] }))).toThrow(
      /node "Einsum of y": the operator Einsum is not supported/,
    );
  });

  test('an input of another shape is refused', () => {
    using _s = scope();
    const model = OnnxModel.load(save(residualBlock()));
    expect(() => model.run({ x: tensor(numbers(3), [1, 3]) })).toThrow(/input "x" expects \[-1,8,7,5\], got \[1,3\]/);
    expect(() => model.run({})).toThrow(/input "x".*was not given/);
    model.dispose();
  });
});

describe('hostile files', () => {
  const good = onnxBytes(residualBlock());
  const attempt = (bytes: Buffer): unknown => {
    const path = join(folder, 'hostile.onnx');
    writeFileSync(path, bytes);
    try {
      OnnxModel.load(path).dispose();
      return null;
    } catch (error) {
      return error;
    }
  };

  test('cut anywhere, a file is refused with its name', () => {
    for (let at = 0; at < good.length - 1; at += Math.max(1, Math.floor(good.length / 60)))
      expect(attempt(good.subarray(0, at)), `cut at ${at}`).toBeInstanceOf(FileError);
  });

  test('random damage never does worse than a named refusal', () => {
    const flips = new Random(9, 'flips');
    for (let i = 0; i < 150; i++) {
      const bytes = Buffer.from(good);
      for (let k = 0; k < 4; k++) bytes[flips.integer(bytes.length)] = flips.integer(256);
      const error = attempt(bytes);
      if (error !== null)
        expect(error, String((error as Error).stack)).toMatchObject({ name: expect.stringMatching(/FileError|GlimpseError|ShapeError|GpuError/) });
    }
  });

  test('a tensor that claims more than the file has, or more than memory', () => {
    const graph = (tensorBytes: Buffer) =>
      Buffer.concat([
        field(
          7,
          Buffer.concat([field(1, node('Relu', ['x'], ['y'])), field(1, node('Add', ['y', 'w'], ['z'])), field(5, tensorBytes), field(12, field(1, 'z'))]),
        ),
      ]);
    const shape = (...extents: number[]) => extents.map((extent) => field(1, extent));
    expect(String(attempt(graph(Buffer.concat([...shape(4), field(2, 1), field(8, 'w'), field(9, Buffer.alloc(8))]))))).toMatch(
      /at byte \d+: tensor "w" \[4\] of float needs 16 bytes, it has 8/,
    );
    expect(String(attempt(graph(Buffer.concat([...shape(1 << 20, 1 << 20), field(2, 1), field(8, 'w')]))))).toMatch(/more than 536870912 elements/);
    expect(String(attempt(graph(Buffer.concat([...shape(-5), field(2, 1), field(8, 'w')]))))).toMatch(/extent of -5/);
  });

  test('external data stays within the folder', () => {
    const external = (location: string) =>
      Buffer.concat([field(1, 2), field(2, 1), field(8, 'w'), field(13, Buffer.concat([field(1, 'location'), field(2, location)])), field(14, 1)]);
    const graph = (location: string) =>
      field(7, Buffer.concat([field(1, node('Add', ['x', 'w'], ['y'])), field(5, external(location)), field(11, field(1, 'x')), field(12, field(1, 'y'))]));
    for (const location of ['../secret.bin', '/etc/passwd', 'a/../../b']) expect(String(attempt(graph(location)))).toMatch(/lies outside the model's folder/);
    writeFileSync(join(folder, 'weights.bin'), Buffer.from(new Float32Array([1, 2]).buffer));
    expect(attempt(graph('weights.bin'))).toBeNull();
  });

  test('messages that nest without end', () => {
    let bytes: Buffer = Buffer.alloc(0);
    for (let i = 0; i < 100; i++) bytes = field(7, bytes);
    expect(attempt(bytes)).toBeInstanceOf(FileError);
  });
});

test('onnx check counts passes, failures and unsupported cases apart', async () => {
  const base = join(folder, 'check');
  const write = (name: string, op: string, output: number[]) => {
    writeOnnx(join(base, name, 'model.onnx'), { nodes: [node(op, ['x'], ['y'])], inputs: [{ name: 'x', shape: [3] }], outputs: ['y'] });
    mkdirSync(join(base, name, 'test_data_set_0'), { recursive: true });
    writeFileSync(join(base, name, 'test_data_set_0', 'input_0.pb'), floatTensor('x', [3], [-1, 0, 2]));
    writeFileSync(join(base, name, 'test_data_set_0', 'output_0.pb'), floatTensor('y', [output.length], output));
  };
  write('good', 'Relu', [0, 0, 2]);
  write('wrong', 'Relu', [0, 0, 3]);
  write('shape', 'Relu', [0, 0]);
  write('unknown', 'Hardmax', [0, 0, 1]);
  const status = async (name: string) => (await checkModelFolder(join(base, name), 1e-3, 1e-5)).map((c) => c.status);
  expect(await status('good')).toEqual(['passed']);
  expect(await status('wrong')).toEqual(['failed']);
  expect(await status('shape')).toEqual(['failed']);
  expect(await status('unknown')).toEqual(['unsupported']);
  expect(await status('absent')).toEqual(['failed']);
  expect(new UnsupportedOnnx('a', 'b')).toBeInstanceOf(FileError);
});

const data = dataFolder('ResNet-50 on photographs');
describe.skipIf(!data)('ResNet-50 on eight photographs', () => {
  test('logits and features agree with onnxruntime to 1e-4', async () => {
    const golden: { file: string; logits: number[]; features: number[] }[] = JSON.parse(
      readFileSync(new URL('./goldens/resnet50.json', import.meta.url), 'utf8'),
    );
    const { files: names, pixels } = await photographs(data as string);
    expect(names).toEqual(golden.map(({ file }) => file));
    const live = await askOnnxruntime(data as string, pixels);
    if (!live) console.warn('SKIPPED: live onnxruntime comparison; install it with `npm run oracles`. The committed numbers decide.');
    const model = OnnxModel.load(await unpackedModel(join(data as string, 'resnet50', 'resnet50.onnx.gz')));
    expect(model.featureMapName).toBe(FEATURE_MAP);
    expect(readOnnx(model.graph.path).graph.opset).toBe(13);
    const relative = (actual: ArrayLike<number>, expected: ArrayLike<number>) => {
      let [difference, norm] = [0, 0];
      for (let i = 0; i < expected.length; i++) {
        difference += (actual[i] - expected[i]) ** 2;
        norm += expected[i] ** 2;
      }
      return Math.sqrt(difference / norm);
    };
    for (const [i, values] of pixels.entries()) {
      using _photo = scope();
      const [logits, features] = model.run({ input: tensor(values, [1, 3, 224, 224]) }, ['logits', FEATURE_MAP]);
      const [l, f] = [await logits.data(), await features.data()];
      expect(relative(l, golden[i].logits), names[i]).toBeLessThan(1e-4);
      expect(relative(sample(f), golden[i].features), names[i]).toBeLessThan(1e-4);
      if (!live) continue;
      expect(relative(l, live[i].logits), names[i]).toBeLessThan(1e-4);
      expect(relative(f, live[i].features), names[i]).toBeLessThan(1e-4);
    }
    model.dispose();
  });
});
