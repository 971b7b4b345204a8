/** A small ViT and a small CNN as PyTorch's exporters write them (scripts/timm_onnx.py --tiny): PyTorch's outputs, and which nodes are left. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { compare } from '../src/autograd/check.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { PASS_NAMES } from '../src/model/onnx/passes/index.ts';
import { readValueFile } from '../src/model/onnx/proto.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import type { HostTensor } from '../src/model/onnx/values.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const FOLDER = join(import.meta.dirname, 'goldens/dynamo');
const unpacked = (name: string, file: string) => bytesAsSource(`${name}/${file}`, gunzipSync(readFileSync(join(FOLDER, name, `${file}.gz`))));
const golden = (name: string, file: string) => readValueFile(unpacked(name, file), 'float').value as HostTensor;

/** What is left of a ViT's two blocks and of the CNN, whoever wrote it; nodes that only move elements aside. */
const VIT = { Conv: 1, LayerNormalization: 5, FusedAttention: 2, FusedMatMul: 8, Gelu: 2, Mul: 4, Gemm: 1 };
const CNN = { Conv: 4, FusedConv: 1, HardSwish: 1, HardSigmoid: 1, MaxPool: 1, Gemm: 1 };
const LEFT: Record<string, Record<string, number>> = {
  vit: VIT,
  'vit-dyn': VIT,
  'vit-legacy': { ...VIT, Mul: 8 }, // the scale follows from a shape: it stays, on both sides
  'vit-o23': { ...VIT, FusedAttention: 0, Attention: 2 },
  cnn: CNN,
  'cnn-dyn': CNN,
};

test('the folder holds these models', () => {
  expect(readdirSync(FOLDER).sort()).toEqual(Object.keys(LEFT).sort());
});

test.each(Object.entries(LEFT))('%s', async (name, left) => {
  const [x, expected] = [golden(name, 'input_0.pb'), golden(name, 'output_0.pb')];
  for (const without of [[], PASS_NAMES]) {
    using _s = scope();
    const model = OnnxModel.load(unpacked(name, 'model.onnx'), { without });
    const [y] = noGrad(() => model.run({ x: tensor(Float32Array.from(x.data), x.shape) })) as Tensor[];
    expect(y.shape).toEqual(expected.shape);
    expect(compare(await y.data(), expected.data as Float32Array, 2e-5, 2e-6)).toMatchObject({ ok: true });
    if (without.length === 0) {
      const count = (op: string) => model.graph.nodes.filter((each) => each.op === op).length;
      expect(Object.fromEntries(Object.keys(left).map((op) => [op, count(op)]))).toEqual(left);
      expect(count('Softmax') + count('BatchNormalization')).toBe(0);
    }
    model.dispose();
  }
});
