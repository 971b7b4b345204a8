/** Exported encoders: onnxruntime makes of pictures the features that we make of them, and so do we when we read the file again. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { constantNode, externalTensor, floatTensor, intTensor, node, type OnnxParts, onnxBytes, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { photographs } from '../scripts/resnet_golden.js';
import { openFile } from '../src/data/file_source.ts';
import { ImageEncoder, unpackedModel } from '../src/model/encoder/encoder.ts';
import { visionFiles } from '../src/model/encoder/hugging_face.ts';
import { packed } from '../src/model/encoder/network.ts';
import { encoderModel } from '../src/model/export/encoder_model.ts';
import { visionModel } from '../src/model/export/vision_model.ts';
import { field, lengthOf } from '../src/model/onnx/writer.ts';
import type { NamedArray } from '../src/nn/parameters.ts';
import { Random } from '../src/random.ts';
import { CHECKER, expectClose, feed, ort, pythonWithOnnx, sessionOf } from './exported.ts';
import { numbers } from './onnx_graphs.ts';
import { dataFolder, temporaryFolder, useGpu } from './support.ts';

useGpu();

const folder = temporaryFolder();
const python = pythonWithOnnx();
const WIDTH = 6;

const conv = (inputs: string[], output: string) =>
  node('Conv', inputs, [output], { kernel_shape: [16, 16], strides: [16, 16], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 });
const second = (inputs: string[], output: string) =>
  node('Conv', inputs, [output], { kernel_shape: [2, 2], strides: [2, 2], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 });
const [first, kernel] = [numbers('first', 4 * 3 * 256, 0.05), numbers('second', WIDTH * 4 * 4, 0.3)];
const initializers = [floatTensor('stem.w', [4, 3, 16, 16], first), floatTensor('layer1.w', [WIDTH, 4, 2, 2], kernel)];
const classifier = floatTensor('fc.w', [WIDTH, 5], numbers('fc', 5 * WIDTH));
const head = [node('GlobalAveragePool', ['y'], ['p']), node('Flatten', ['p'], ['f']), node('MatMul', ['f', 'fc.w'], ['out'])];
const body = [conv(['x', 'stem.w'], 'c'), node('Relu', ['c'], ['r']), second(['r', 'layer1.w'], 'd'), node('Relu', ['d'], ['y'])];
const plain: OnnxParts = {
  nodes: [...body, ...head],
  initializers: [...initializers, classifier],
  inputs: [{ name: 'x', shape: [1, 3, 224, 224] }],
  outputs: ['out'],
};

/** The bytes of a file of old times: initializers are inputs, too. */
function oldStyle(): Buffer {
  const inputs = [
    ...plain.inputs,
    { name: 'stem.w', shape: [4, 3, 16, 16] },
    { name: 'layer1.w', shape: [WIDTH, 4, 2, 2] },
    { name: 'fc.w', shape: [WIDTH, 5] },
  ];
  return onnxBytes({ ...plain, inputs, opset: 9 });
}

/** `stem.w` lies in the file "weights" beside the model, after 64 bytes. */
function withExternal(path: string): void {
  const external = externalTensor('stem.w', [4, 3, 16, 16], 'weights', 64);
  writeOnnx(path, { ...plain, initializers: [external, ...(plain.initializers as Buffer[]).slice(1)] });
  writeFileSync(join(path, '../weights'), Buffer.concat([Buffer.alloc(64), Buffer.from(first.buffer, first.byteOffset, first.byteLength)]));
}

const FILES: Record<string, (path: string) => void> = {
  'initializers and a classifier': (path) => writeOnnx(path, plain),
  'opset 9, initializers that are inputs': (path) => writeFileSync(path, oldStyle()),
  'constants in place of initializers': (path) =>
    writeOnnx(path, {
      ...plain,
      nodes: [constantNode('stem.w', initializers[0]), constantNode('layer1.w', initializers[1]), ...plain.nodes],
      initializers: [classifier],
    }),
  'weights that pass through an Identity': (path) =>
    writeOnnx(path, {
      ...plain,
      nodes: [node('Identity', ['layer1.w'], ['passed']), ...body.slice(0, 2), second(['r', 'passed'], 'd'), body[3], ...head],
    }),
  'weights in another file': withExternal,
  'values that are called features already': (path) =>
    writeOnnx(path, {
      ...plain,
      nodes: [conv(['x', 'stem.w'], 'c'), node('Relu', ['c'], ['features']), second(['features', 'layer1.w'], 'd'), node('Relu', ['d'], ['y']), ...head],
    }),
};

/** Pictures in the layout of an encoder, and not of the size in its file. */
function pictures(count: number, side: number): Float32Array[] {
  const random = new Random(5, `pictures ${side}`);
  return Array.from({ length: count }, () => Float32Array.from({ length: 3 * side * side }, () => random.normal()));
}

const TUNED = new Map<string, NamedArray>([['layer1.w', { shape: [2, 2, 4, WIDTH], data: numbers('tuned', kernel.length, 0.3) }]]);

let files = 0;
function written(write: (path: string) => void): string {
  const path = join(folder, `${files++}`, 'model.onnx');
  mkdirSync(join(path, '..'), { recursive: true });
  write(path);
  return path;
}

describe.each(Object.entries(FILES))('%s', (_name, write) => {
  test.each([
    ['as the file has it', 7, false],
    ['at twice the size', 14, false],
    ['with trained weights', 7, true],
  ] as const)('%s', async (_what, grid, isTuned) => {
    const path = written(write);
    const tuned = isTuned ? { tuned: { layers: ['layer1'], weights: TUNED } } : {};
    const encoder = await ImageEncoder.open(path, { preprocessing: 'imagenet', grid, ...tuned });
    const images = pictures(2, encoder.size);
    const expected = await encoder.features(images);
    const { featureMap } = encoder.identity;
    const { bytes, input, output } = encoderModel(openFile(path), {
      featureMap,
      layout: 'NCHW',
      dropped: 0,
      features: WIDTH,
      side: encoder.size,
      tuned: isTuned ? TUNED : new Map(),
    });
    expect(expected.values.some((value) => value > 0.1)).toBe(true);
    expect(Buffer.concat(bytes).includes('fc.w')).toBe(false); // the classifier stays behind
    if (ort) {
      const session = await sessionOf(bytes);
      const result = (await session.run({ [input]: feed(packed(images), [2, 3, encoder.size, encoder.size]) }))[output];
      expect(result.dims).toEqual([2, grid * grid, WIDTH]);
      expectClose(result.data as Float32Array, expected.values, 'features in onnxruntime');
    }
    const copy = join(path, '../exported.onnx');
    writeFileSync(copy, Buffer.concat(bytes));
    if (python) expect(execFileSync(python, ['-c', CHECKER, copy], { encoding: 'utf8' }).trim()).toBe(copy);
    const again = await ImageEncoder.open(copy, { preprocessing: 'imagenet', grid });
    expect(again.identity.featureMap).toBe(featureMap);
    expect((await again.features(images)).values).toEqual(expected.values);
    encoder.dispose();
    again.dispose();
  });
});

const EXPORT = { featureMap: 'y', layout: 'NCHW' as const, dropped: 0, features: WIDTH, side: 224, tuned: new Map<string, NamedArray>() };

test.each<[string, (path: string) => void, Partial<typeof EXPORT>, RegExp]>([
  ['no such feature map', FILES['initializers and a classifier'], { featureMap: 'z' }, /model\.onnx: has no node that makes "z", the feature map of the model/],
  [
    'trained weights that the file does not have',
    FILES['initializers and a classifier'],
    { tuned: new Map([['layer9.w', { shape: [1], data: Float32Array.of(1) }]]) },
    /has no weights "layer9.w" before its feature map, which the model trained/,
  ],
  [
    'trained weights of another shape',
    FILES['initializers and a classifier'],
    { tuned: new Map([['layer1.w', { shape: [1, 1, 4, WIDTH], data: new Float32Array(4 * WIDTH) }]]) },
    /has weights "layer1.w" \[6,4,2,2\] of element type 1, the trained ones are float \[6,4,1,1\]/,
  ],
  [
    'two inputs',
    (path) =>
      writeOnnx(path, {
        ...plain,
        nodes: [node('Add', ['x', 'z'], ['s']), conv(['s', 'stem.w'], 'c'), ...body.slice(1), ...head],
        inputs: [...plain.inputs, { name: 'z', shape: [1, 3, 224, 224] }],
      }),
    {},
    /takes 2 inputs, one is expected: pictures/,
  ],
  [
    'pictures in half precision',
    (path) => writeOnnx(path, { ...plain, inputs: [{ name: 'x', shape: [1, 3, 224, 224], type: 10 }] }),
    {},
    /takes pictures of element type float16; only encoders of float pictures are exported/,
  ],
  ['no graph', (path) => writeFileSync(path, Buffer.concat(field(1, 8))), {}, /holds 0 ONNX graphs, 1 is expected/],
  ['half a file', (path) => writeFileSync(path, onnxBytes(plain).subarray(0, 2000)), {}, /model\.onnx: at byte \d+/],
  [
    'weights in a file that ends early',
    (path) => {
      withExternal(path);
      writeFileSync(join(path, '../weights'), Buffer.alloc(100));
    },
    {},
    /weights: at byte 64: 12288 bytes are claimed, the file has 100/,
  ],
])('refused: %s', (_name, write, change, message) => {
  const path = written(write);
  expect(() => encoderModel(openFile(path), { ...EXPORT, ...change })).toThrow(message);
});

describe.each([
  ['NHWC', 'last', 0],
  ['NTC', 'tokens', 0],
  ['NTC', 'tokens', 2],
] as const)('features that are %s, without the first %i tokens', (layout, featureMap, dropped) => {
  test.skipIf(!ort).each([9, 13])('of opset %i', async (opset) => {
    const path = written((to) =>
      writeFileSync(
        to,
        onnxBytes({
          ...plain,
          opset,
          nodes: [
            ...body,
            node('Transpose', ['y'], ['last'], { perm: [0, 2, 3, 1] }),
            node('Reshape', ['last', 'rows'], ['grid']),
            node('Concat', ['grid', 'grid'], ['tokens'], { axis: 1 }),
            ...head,
          ],
          initializers: [...initializers, classifier, intTensor('rows', [3], [0, -1, WIDTH])],
        }),
      ),
    );
    const images = pictures(2, 224);
    const run = async (bytes: readonly Uint8Array[], name: string) =>
      (await (await sessionOf(bytes)).run({ x: feed(packed(images), [2, 3, 224, 224]) }))[name].data as Float32Array;
    const { bytes, output } = encoderModel(openFile(path), { ...EXPORT, featureMap, layout, dropped });
    const found = await run(bytes, output);
    const map = encoderModel(openFile(path), EXPORT);
    const once = await run(map.bytes, map.output);
    const regions = once.length / 2 / WIDTH;
    const tokens = Array.from({ length: 2 }, (_, n) => Array.from(once.subarray(n * regions * WIDTH, (n + 1) * regions * WIDTH)));
    expectClose(
      found,
      tokens.flatMap((own) => (layout === 'NTC' ? [...own.slice(dropped * WIDTH), ...own] : own)),
      'features',
    );
  });
});

const GOLDENS = join(import.meta.dirname, 'goldens/vit');
describe.skipIf(!ort)('vision transformers of Hugging Face', () => {
  test.each([
    ['vit', 'last_hidden_state', 16],
    ['vit', 'hidden_states.1', 16],
    ['deit', 'last_hidden_state', 16],
    ['clip', 'last_hidden_state', 16],
    ['dinov2', 'last_hidden_state', 16],
    ['dinov2', 'last_hidden_state', 24],
  ])('%s, %s, pictures of %i: onnxruntime makes the features that we make, and so do we of the model', async (family, featureMap, side) => {
    const path = join(folder, `${family} of ${side}`);
    cpSync(join(GOLDENS, family), path, { recursive: true });
    const config = join(path, 'preprocessor_config.json');
    if (side !== 16) writeFileSync(config, readFileSync(config, 'utf8').replaceAll(': 16', `: ${side}`).replace(': 18', `: ${side}`));
    const open = await ImageEncoder.open(path, { feature: featureMap });
    expect(open.size).toBe(side);
    const images = pictures(2, open.size);
    const { values, regions, width } = await open.features(images);
    const files = visionFiles(path);
    if (!files) throw new Error(`${path} has no vision transformer`);
    const { bytes, input, output } = visionModel(files, { featureMap, side, tuned: new Map(), version: '0' });
    const result = (await (await sessionOf(bytes)).run({ [input.name]: feed(packed(images), [2, 3, open.size, open.size]) }))[output.name];
    expect(result.dims).toEqual([2, regions, width]);
    expectClose(result.data as Float32Array, values, 'features in onnxruntime');
    const written = join(folder, `${family}-${featureMap}-${side}.onnx`);
    writeFileSync(written, Buffer.concat(bytes));
    const again = await ImageEncoder.open(written, { preprocessing: open.identity.preprocessing, feature: output.name });
    expectClose((await again.features(images)).values, values, 'features of the model');
    for (const each of [open, again]) each.dispose();
  });

  test('trained weights take the place of the file’s; one that is not there is named', () => {
    const files = visionFiles(join(GOLDENS, 'vit'));
    if (!files) throw new Error('no vision transformer');
    const name = 'encoder.layer.1.output.dense.bias';
    const own = { featureMap: 'last_hidden_state', side: 16, version: '0' };
    const mark = Float32Array.from({ length: 14 }, (_, i) => 1000 + i);
    const { bytes } = visionModel(files, { ...own, tuned: new Map([[name, { shape: [14], data: mark }]]) });
    expect(Buffer.concat(bytes).includes(Buffer.from(mark.buffer))).toBe(true);
    const strange = new Map([['encoder.layer.9.output.dense.bias', { shape: [14], data: mark }]]);
    expect(() => visionModel(files, { ...own, tuned: strange })).toThrow(/encoder\.layer\.9\.output\.dense\.bias/);
  });
});

const data = dataFolder('ResNet-50, exported');

test.skipIf(!data || !ort)('ResNet-50: features of photographs in onnxruntime agree with ours to 1e-4', { timeout: 120_000 }, async () => {
  const path = await unpackedModel(join(data as string, 'resnet50', 'resnet50.onnx.gz'));
  const encoder = await ImageEncoder.open(path);
  const { pixels } = await photographs(data as string);
  const two = pixels.slice(0, 2);
  const { values, regions, width } = await encoder.features(two);
  const { bytes, input, output } = encoderModel(openFile(path), {
    ...{ featureMap: encoder.identity.featureMap, layout: 'NCHW', dropped: 0, features: width, side: encoder.size, tuned: new Map() },
  });
  expect(lengthOf(bytes)).toBeLessThan(readFileSync(path).length);
  const result = (await (await sessionOf(bytes)).run({ [input]: feed(packed(two), [2, 3, 224, 224]) }))[output];
  expect(result.dims).toEqual([2, regions, width]);
  let [difference, norm] = [0, 0];
  for (const [i, value] of values.entries()) {
    difference += (value - (result.data as Float32Array)[i]) ** 2;
    norm += value * value;
  }
  expect(Math.sqrt(difference / norm)).toBeLessThan(1e-4);
  encoder.dispose();
});
