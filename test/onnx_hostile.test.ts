/** Hostile ONNX files are refused by name. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileError } from '../src/errors.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { field, floatTensor, intTensor, node, type OnnxParts, onnxBytes } from './onnx_writer.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();

const folder = temporaryFolder();

const random = new Random(3, 'onnx');

const numbers = (count: number, scale = 0.5) => Float32Array.from({ length: count }, () => scale * random.normal());

const positive = (count: number) => Float32Array.from({ length: count }, () => random.uniform(0.5, 2));

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
