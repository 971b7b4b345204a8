/** ResNet-50 equals onnxruntime on photographs, from committed numbers and live. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { askOnnxruntime, FEATURE_MAP, photographs, sample } from '../scripts/resnet_golden.js';
import { openFile } from '../src/data/file_source.ts';
import { unpackedModel } from '../src/model/encoder/encoder.ts';
import { readOnnx } from '../src/model/onnx/proto.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { dataFolder, useGpu } from './support.ts';

useGpu();

const data = dataFolder('ResNet-50 on photographs');

test.skipIf(!data)('logits and features of ResNet-50 agree with onnxruntime to 1e-4 on eight photographs', async () => {
  const golden: { file: string; logits: number[]; features: number[] }[] = JSON.parse(
    readFileSync(new URL('./goldens/resnet50.json', import.meta.url), 'utf8'),
  );
  const { files: names, pixels } = await photographs(data as string);
  expect(names).toEqual(golden.map(({ file }) => file));
  const live = await askOnnxruntime(data as string, pixels);
  if (!live) console.warn('SKIPPED: live onnxruntime comparison; install it with `npm run oracles`. The committed numbers decide.');
  const model = OnnxModel.load(openFile(await unpackedModel(join(data as string, 'resnet50', 'resnet50.onnx.gz'))));
  expect(model.featureMapName).toBe(FEATURE_MAP);
  expect(readOnnx(openFile(model.graph.path)).graph.opset).toBe(13);
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
