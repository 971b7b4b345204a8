/** Vision transformers with Hugging Face's weights, against PyTorch's float64 (goldens/vit/make.py): features, gradients, and refused files. */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, noGrad } from '../src/autograd/tape.ts';
import { readSafetensors, writeSafetensors } from '../src/data/safetensors.ts';
import { ImageEncoder } from '../src/model/encoder/encoder.ts';
import type { EncoderOptions } from '../src/model/encoder/network.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();
const folder = temporaryFolder();
const goldens = join(import.meta.dirname, 'goldens/vit');

/** Largest error, over the largest magnitude; over `atLeast` where that is larger. */
function relative(got: ArrayLike<number>, wanted: ArrayLike<number>, atLeast = 0): number {
  expect(got.length).toBe(wanted.length);
  let [error, largest] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    error = Math.max(error, Math.abs(got[i] - wanted[i]));
    largest = Math.max(largest, Math.abs(wanted[i]));
  }
  return error / Math.max(largest, atLeast);
}

function golden(family: string) {
  const { tensors } = readSafetensors(join(goldens, family, 'golden.safetensors'));
  const get = (name: string) => {
    const found = tensors.get(name);
    if (!found) throw new Error(`the golden has no ${name}`);
    return { shape: found.shape, data: found.data as Float32Array };
  };
  /** Tokens [pictures, T, width] without the first `dropped`. */
  const regions = (name: string, dropped: number) => {
    const { shape, data } = get(name);
    const [count, tokens, width] = shape;
    return Float32Array.from({ length: count }, (_, n) => n).reduce<number[]>(
      (all, n) => all.concat(...data.subarray((n * tokens + dropped) * width, (n + 1) * tokens * width)),
      [],
    );
  };
  return { get, regions, names: [...tensors.keys()] };
}

const FAMILIES = [
  { family: 'vit', dropped: 1, prefix: 'vit.', layer: 'encoder.layer.1', unused: '2 tensors of the file are not used: classifier (2)' },
  {
    family: 'deit',
    dropped: 2,
    prefix: 'deit.',
    layer: 'encoder.layer.1',
    unused: '2 tensors of the file are not used: cls_classifier (1), distillation_classifier (1)',
  },
  { family: 'dinov2', dropped: 1, prefix: '', layer: 'encoder.layer.1', unused: '1 tensor of the file is not used: embeddings.mask_token (1)' },
  {
    family: 'clip',
    dropped: 1,
    prefix: 'vision_model.',
    layer: 'encoder.layers.1',
    unused: '6 tensors of the file are not used: post_layernorm (2), logit_scale (1), text_model (1), visual_projection (1), embeddings.position_ids (1)',
  },
];

describe.each(FAMILIES)('$family', ({ family, dropped, prefix, layer, unused }) => {
  const { get, regions, names } = golden(family);
  const { shape, data } = get('pixels');

  test.each(['last_hidden_state', 'hidden_states.1'])('%s equals PyTorch’s', async (feature) => {
    const encoder = await ImageEncoder.open(join(goldens, family), { feature });
    using _s = scope();
    const got = encoder.encode(tensor(data, shape));
    expect(got.shape).toEqual([shape[0], 16, 14]);
    expect(relative(await got.data(), regions(feature, dropped))).toBeLessThan(1e-5);
    expect(encoder.identity).toMatchObject({ featureMap: feature, layout: 'NTC', dropped });
    if (feature === 'last_hidden_state') expect(encoder.notes).toEqual([unused]);
    encoder.dispose();
  });

  test.each([layer, 'last:1'])('the gradients of %s equal PyTorch’s', async (tuned) => {
    const encoder = await ImageEncoder.open(join(goldens, family), { tuned: { layers: [tuned] } });
    const wanted = names.filter((name) => name.startsWith('grad.')).map((name) => name.slice('grad.'.length));
    expect([...encoder.parameters.all.keys()].map((name) => prefix + name).sort()).toEqual(wanted.sort());
    using _s = scope();
    const pictures = tensor(data, shape);
    const weight = tensor(Float32Array.from(regions('loss_weight', dropped)), [shape[0], 16, 14]);
    backward(ops.sum(ops.mul(encoder.encode(pictures), weight)));
    for (const [name, parameter] of encoder.parameters.all) {
      // Softmax does not change with a bias of the keys: that gradient is 0, and rounding is left of it.
      const { shape: held, data: gradient } = get(`grad.${prefix}${name}`);
      const got = (await gradOf(parameter)?.data()) as Float32Array;
      const turned = held.length === 2 ? Float32Array.from(got, (_, i) => got[(i % held[1]) * held[0] + Math.floor(i / held[1])]) : got;
      expect(relative(turned, gradient, 1), name).toBeLessThan(1e-4);
    }
    encoder.dispose();
  });
});

test('DINOv2 interpolates its position embeddings for pictures of another size, as PyTorch does', async () => {
  const path = join(folder, 'larger');
  cpSync(join(goldens, 'dinov2'), path, { recursive: true });
  const file = join(path, 'preprocessor_config.json');
  const said = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...said, size: { shortest_edge: 28 }, crop_size: { height: 24, width: 24 } }));
  const encoder = await ImageEncoder.open(path);
  const { get, regions } = golden('dinov2');
  const { shape, data } = get('larger.pixels');
  using _s = scope();
  const got = encoder.encode(tensor(data, shape));
  expect(got.shape).toEqual([1, 36, 14]);
  expect(relative(await got.data(), regions('larger.last_hidden_state', 1))).toBeLessThan(1e-5);
  expect(encoder.notes).toContain('position embeddings of 4 × 4 patches are interpolated to 6 × 6');
  encoder.dispose();
  writeFileSync(file, JSON.stringify({ ...said, size: { shortest_edge: 28 }, crop_size: { height: 25, width: 25 } }));
  await expect(ImageEncoder.open(path)).rejects.toThrow(/patches of 4 pixels do not divide pictures of 25/);
});

type Weights = Map<string, { shape: readonly number[]; data: Float32Array }>;

/** A copy of the ViT whose weights, files and configuration were changed. */
function changed(name: string, change: (weights: Weights, config: Record<string, unknown>, path: string) => void): string {
  const path = join(folder, name.replace(/\W/g, '_'));
  cpSync(join(goldens, 'vit'), path, { recursive: true });
  const weights = readSafetensors(join(path, 'model.safetensors')).tensors as unknown as Weights;
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  writeFileSync(join(path, 'config.json'), '');
  change(weights, config, path);
  if (existsSync(join(path, 'config.json'))) writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  if (existsSync(join(path, 'model.safetensors'))) writeSafetensors(join(path, 'model.safetensors'), weights);
  return path;
}

const KEY = 'vit.encoder.layer.0.attention.attention.key.weight';
const REFUSED: [string, Parameters<typeof changed>[1], RegExp, EncoderOptions?][] = [
  ['a tensor is missing', (w) => w.delete(KEY), /model\.safetensors: has no tensor "vit\.encoder\.layer\.0\.attention\.attention\.key\.weight" \[14,14\]/],
  [
    'a tensor has another shape',
    (w) => w.set(KEY, { shape: [7, 28], data: new Float32Array(196) }),
    /key\.weight" is \[7,28\]; by the configuration it is \[14,14\]/,
  ],
  [
    'a tensor is not known',
    (w) => w.set('vit.encoder.layer.2.x', { shape: [1], data: Float32Array.of(1) }),
    /has a tensor "vit\.encoder\.layer\.2\.x", which a vit of 2 layers has not/,
  ],
  ['a weight is NaN', (w) => (w.get(KEY) as { data: Float32Array }).data.fill(Number.NaN, 3, 5), /key\.weight" cannot be used: 2 of 196 numbers are NaN/],
  [
    'another model_type',
    (_, c) => Object.assign(c, { model_type: 'beit' }),
    /config\.json: model_type "beit" is not read directly \(vit, deit, .*export the model as ONNX/,
  ],
  ['another activation', (_, c) => Object.assign(c, { hidden_act: 'silu' }), /hidden_act "silu" is not known \(gelu, .*gelu_pytorch_tanh\)/],
  ['heads that do not divide the width', (_, c) => Object.assign(c, { num_attention_heads: 3 }), /3 attention heads do not share a width of 14/],
  ['patches that do not divide the picture', (_, c) => Object.assign(c, { patch_size: 5 }), /patches of 5 pixels do not divide pictures of 16/],
  [
    'a size that is no number',
    (_, c) => Object.assign(c, { hidden_size: 'wide' }),
    /config\.json: is no configuration of a vision transformer: hidden_size: expected number/,
  ],
  ['layers without end', (_, c) => Object.assign(c, { num_hidden_layers: 1e9 }), /num_hidden_layers: expected at most 1024/],
  ['no config.json', (_w, _c, path) => rmSync(join(path, 'config.json')), /has no config\.json beside model\.safetensors/],
  [
    'a pickle',
    (_w, _c, path) => {
      rmSync(join(path, 'model.safetensors'));
      writeFileSync(join(path, 'pytorch_model.bin'), '');
    },
    /a Python pickle, which is not read/,
  ],
  [
    'an ONNX file in the folder',
    (_w, _c, path) => {
      rmSync(join(path, 'model.safetensors'));
      writeFileSync(join(path, 'm.onnx'), '');
    },
    /give the ONNX file itself: "m\.onnx"/,
  ],
  [
    'a preprocessing that contradicts the file',
    () => {},
    /preprocessor_config\.json beside it says "edges to 16 by bilinear.*--preprocess says "imagenet"/,
    { preprocessing: 'imagenet' },
  ],
  [
    'pictures of another size',
    (_w, _c, path) => rmSync(join(path, 'preprocessor_config.json')),
    /takes pictures of 16 × 16 pixels.*by "imagenet" they are 224 × 224/,
    { preprocessing: 'imagenet' },
  ],
  ['no preprocessing', (_w, _c, path) => rmSync(join(path, 'preprocessor_config.json')), /say how its pixels are prepared with --preprocess/],
  ['a grid', () => {}, /makes a grid of 4 × 4 regions; --grid cannot change it/, { grid: 7 }],
  [
    'a feature that is not there',
    () => {},
    /--feature pooler_output: its features are last_hidden_state, and hidden_states\.0 to hidden_states\.2/,
    { feature: 'pooler_output' },
  ],
  [
    'a layer that is not there',
    () => {},
    /no layer called "layer4" before its features \(last:1, or encoder\.layer\.0 to encoder\.layer\.1\)/,
    { tuned: { layers: ['layer4'] } },
  ],
  ['more last layers than there are', () => {}, /its features pass 2 layers; "last:3" asks for 3/, { tuned: { layers: ['last:3'] } }],
  [
    'a layer behind the features',
    () => {},
    /no layer called "encoder\.layer\.1" before/,
    { feature: 'hidden_states.1', tuned: { layers: ['encoder.layer.1'] } },
  ],
];

test.each(REFUSED)('refused: %s', async (name, change, message, options) => {
  await expect(ImageEncoder.open(changed(name, change), options)).rejects.toThrow(message);
});

test('a file that is cut off is refused with its tensor', async () => {
  const path = join(folder, 'cut');
  cpSync(join(goldens, 'vit'), path, { recursive: true });
  const file = join(path, 'model.safetensors');
  writeFileSync(file, readFileSync(file).subarray(0, -100));
  await expect(ImageEncoder.open(path)).rejects.toThrow(/model\.safetensors: tensor ".*" \[.*\] claims bytes/);
});

test('a folder and the weights in it are one encoder, which is opened again by its identity; another configuration is another encoder', async () => {
  const [byFolder, byFile] = [await ImageEncoder.open(join(goldens, 'vit')), await ImageEncoder.open(join(goldens, 'vit/model.safetensors'))];
  expect({ ...byFile.identity, path: '' }).toEqual({ ...byFolder.identity, path: '' });
  const { identity } = byFolder;
  const again = await ImageEncoder.reopen(identity, identity.path, 'is another');
  expect(again.identity).toEqual(identity);
  const other = changed('another configuration', (_, config) => Object.assign(config, { layer_norm_eps: 1e-5 }));
  await expect(ImageEncoder.reopen(identity, other, 'is another')).rejects.toThrow(/is another$/);
  for (const encoder of [byFolder, byFile, again]) encoder.dispose();
});

test('gradients of both layers equal central differences along them', async () => {
  const encoder = await ImageEncoder.open(join(goldens, 'vit'), { tuned: { layers: ['last:2'] } });
  const { get, regions } = golden('vit');
  const { shape, data } = get('pixels');
  using _s = scope();
  const [pictures, weight] = [tensor(data, shape), tensor(Float32Array.from(regions('loss_weight', 1)), [2, 16, 14])];
  const loss = () => ops.sum(ops.mul(encoder.encode(pictures), weight));
  backward(loss());
  const values = await encoder.parameters.read();
  for (const [name, parameter] of encoder.parameters.all) {
    const gradient = (await gradOf(parameter)?.data()) as Float32Array;
    const own = (values.get(name) as { data: Float32Array }).data;
    const norm = Math.hypot(...gradient);
    const step = 0.02;
    const sides: number[] = [];
    for (const sign of [1, -1]) {
      using _side = scope();
      parameter.write(own.map((value, i) => value + (sign * step * gradient[i]) / norm));
      sides.push(await noGrad(loss).item());
    }
    parameter.write(own);
    // The bias of the keys has a gradient of 0, of which rounding is left.
    expect(Math.abs((sides[0] - sides[1]) / (2 * step) - norm), name).toBeLessThan(0.01 + 0.01 * norm);
  }
  encoder.dispose();
});
