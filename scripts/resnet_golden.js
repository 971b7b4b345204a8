// What onnxruntime's CPU makes of ResNet-50 on eight photographs: all logits, and a sample of the last feature map.
//
//   npx tsx scripts/resnet_golden.js DATA    writes test/goldens/resnet50.json (needs `npm run oracles` first)
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadImage } from '../src/data/images.ts';
import { PREPROCESSINGS } from '../src/data/preprocessing.ts';
import { unpackedModel } from '../src/model/encoder/encoder.ts';
import { oracle } from './third_party.js';

export const FEATURE_MAP = 'layer4.2.out';
const PHOTOGRAPHS = 8;
const STEP = 997;

/** Every 997th value: enough to see any fault of layout, small enough to keep. */
export function sample(values) {
  return values.filter((_, i) => i % STEP === 0);
}

export async function photographs(data) {
  const folder = join(data, 'coco', 'images');
  const files = readdirSync(folder).sort().slice(0, PHOTOGRAPHS);
  return { files, pixels: await Promise.all(files.map((file) => loadImage(join(folder, file), PREPROCESSINGS.imagenet))) };
}

/** Logits and feature map per photograph, or null when onnxruntime is not installed. */
export async function askOnnxruntime(data, pixels) {
  const ort = oracle('onnxruntime-node');
  if (!ort) return null;
  const model = readFileSync(await unpackedModel(join(data, 'resnet50', 'resnet50.onnx.gz')));
  // A message that occurs twice is merged: this second graph field (7) only adds an output (12) with a name (1).
  const name = Buffer.from(FEATURE_MAP);
  const info = Buffer.concat([Buffer.from([0x0a, name.length]), name]);
  const output = Buffer.concat([Buffer.from([0x62, info.length]), info]);
  const session = await ort.InferenceSession.create(Buffer.concat([model, Buffer.from([0x3a, output.length]), output]), { intraOpNumThreads: 2 });
  const results = [];
  for (const values of pixels) {
    const out = await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', values, [1, 3, 224, 224]) });
    results.push({ logits: out[session.outputNames.find((n) => n !== FEATURE_MAP)].data, features: out[FEATURE_MAP].data });
  }
  return results;
}

if (process.argv[1]?.endsWith('resnet_golden.js')) {
  const data = process.argv[2] ?? '../shared/data';
  const { files, pixels } = await photographs(data);
  const results = await askOnnxruntime(data, pixels);
  if (!results) throw new Error('install the oracles first: npm run oracles');
  const short = (values) => [...values].map((value) => Number(value.toPrecision(7)));
  const golden = files.map((file, i) => ({ file, logits: short(results[i].logits), features: short(sample(results[i].features)) }));
  writeFileSync(new URL('../test/goldens/resnet50.json', import.meta.url), `${JSON.stringify(golden)}\n`);
}
