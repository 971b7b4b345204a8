/** Damaged and hostile ONNX files are refused with their name. */

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { field, node, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { openFile } from '../src/data/file_source.ts';
import { FileError } from '../src/errors.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { residualBlock } from './onnx_graphs.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();
const folder = temporaryFolder();

const good = onnxBytes(residualBlock());

const attempt = (bytes: Buffer): unknown => {
  const path = join(folder, 'hostile.onnx');
  writeFileSync(path, bytes);
  try {
    OnnxModel.load(openFile(path)).dispose();
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

test('external data stays within the folder', async () => {
  const external = (location: string) =>
    Buffer.concat([field(1, 2), field(2, 1), field(8, 'w'), field(13, Buffer.concat([field(1, 'location'), field(2, location)])), field(14, 1)]);
  const graph = (location: string) =>
    field(7, Buffer.concat([field(1, node('Add', ['x', 'w'], ['y'])), field(5, external(location)), field(11, field(1, 'x')), field(12, field(1, 'y'))]));
  for (const location of ['../secret.bin', '/etc/passwd', 'a/../../b']) expect(String(attempt(graph(location)))).toMatch(/lies outside the model's folder/);
  writeFileSync(join(folder, 'weights.bin'), Buffer.from(new Float32Array([1, 2]).buffer));
  expect(attempt(graph('weights.bin'))).toBeNull();
  writeFileSync(join(folder, 'short.bin'), Buffer.alloc(7));
  expect(String(attempt(graph('short.bin')))).toMatch(/short.bin: at byte 0: 8 bytes are claimed, the file has 7/);
  expect(String(attempt(graph('absent.bin')))).toMatch(/absent.bin: no such file/);
  mkdirSync(join(folder, 'inner'), { recursive: true });
  expect(String(attempt(graph('inner')))).toMatch(/inner: is a folder, not an ordinary file/);
  if (process.platform === 'win32') return;
  // As in the cache of Hugging Face: the model is a link to a blob, and so is its data.
  const snapshot = join(folder, 'snapshots', 'rev');
  mkdirSync(snapshot, { recursive: true });
  mkdirSync(join(folder, 'blobs'));
  writeFileSync(join(folder, 'blobs', 'aa'), graph('model.onnx_data'));
  writeFileSync(join(folder, 'blobs', 'bb'), Buffer.from(new Float32Array([3, 4]).buffer));
  symlinkSync('../../blobs/aa', join(snapshot, 'model.onnx'));
  symlinkSync('../../blobs/bb', join(snapshot, 'model.onnx_data'));
  const model = OnnxModel.load(openFile(join(snapshot, 'model.onnx')));
  expect(await model.weight('w').data()).toEqual(Float32Array.of(3, 4));
  model.dispose();
});

test('messages that nest without end', () => {
  let bytes: Buffer = Buffer.alloc(0);
  for (let i = 0; i < 100; i++) bytes = field(7, bytes);
  expect(attempt(bytes)).toBeInstanceOf(FileError);
});
