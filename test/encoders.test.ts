/** What an encoder takes: named values of a graph in any order of axes, preprocessing from a file, several files under one hash. */
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { field, floatTensor, intTensor, node, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { loadImage } from '../src/data/images.ts';
import { described, normalized, PREPROCESSINGS, preprocessingOf, resizedAndNormalized, type SaidPreprocessing, seenPart } from '../src/data/preprocessing.ts';
import { readPreprocessorConfig } from '../src/data/preprocessor_config.ts';
import { leadingTokens } from '../src/model/encoder/backbone.ts';
import { ImageEncoder } from '../src/model/encoder/encoder.ts';
import type { EncoderOptions } from '../src/model/encoder/network.ts';
import { readPixels } from '../src/plot/heat_map.ts';
import { Random } from '../src/random.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();
const folder = temporaryFolder();
const goldens = join(import.meta.dirname, 'goldens/vit');

const SQUARE = 'edges to 8 by bilinear, crop 8, rgb / 255, mean 0 0 0, deviation 1 1 1';

const normals = (random: Random, count: number) => Array.from({ length: count }, () => random.normal());

/** Patches of 2 × 2 pixels as 5 channels [N, 5, 4, 4], and the same values in other orders of axes. */
function graph(name: string): string {
  const path = join(folder, name);
  const random = new Random(3, 'weights of a graph');
  const conv = { kernel_shape: [2, 2], strides: [2, 2], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 };
  writeOnnx(path, {
    nodes: [
      node('Conv', ['x', 'w'], ['conv'], conv),
      node('BatchNormalization', ['conv', 'one', 'zero', 'zero', 'one'], ['normed']),
      node('Relu', ['normed'], ['nchw']),
      node('Transpose', ['nchw'], ['nhwc'], { perm: [0, 2, 3, 1] }),
      node('Reshape', ['nhwc', 'tokens of a picture'], ['tokens']),
      node('Concat', ['class', 'tokens'], ['with class'], { axis: 1 }),
      node('Concat', ['tokens', 'tokens'], ['twice'], { axis: 1 }),
      node('Transpose', ['nchw'], ['nhcw'], { perm: [0, 2, 1, 3] }),
      node('Conv', ['nchw', 'w4'], ['cube'], { ...conv, kernel_shape: [1, 1], strides: [1, 1] }),
      node('GlobalAveragePool', ['nchw'], ['pooled']),
    ],
    initializers: [
      floatTensor('w', [5, 3, 2, 2], normals(random, 60)),
      floatTensor('w4', [4, 5, 1, 1], normals(random, 20)),
      floatTensor('one', [5], [1, 1, 1, 1, 1]),
      floatTensor('zero', [5], [0, 0, 0, 0, 0]),
      floatTensor('class', [1, 1, 5], [9, 9, 9, 9, 9]),
      intTensor('tokens of a picture', [3], [1, 16, 5]),
    ],
    inputs: [{ name: 'x', shape: [-1, 3, 8, 8] }],
    outputs: ['pooled', 'with class', 'twice', 'nhcw', 'cube', 'conv'],
  });
  return path;
}

const picture = Float32Array.from({ length: 192 }, (_, i) => Math.sin(i));

async function featuresOf(o: EncoderOptions): Promise<{ values: Float32Array; regions: number; width: number; identity: ImageEncoder['identity'] }> {
  const encoder = await ImageEncoder.open(graph('model.onnx'), { preprocessing: SQUARE, ...o });
  const { values, regions, width } = await encoder.features([picture]);
  const { identity } = encoder;
  encoder.dispose();
  return { values, regions, width, identity };
}

describe('a named value of a graph', () => {
  test.each<[string, EncoderOptions, object]>([
    ['nchw', {}, { layout: 'NCHW' }],
    ['nhwc', {}, { layout: 'NHWC' }],
    ['tokens', {}, { layout: 'NTC', dropped: 0 }],
    ['with class', {}, { layout: 'NTC', dropped: 1 }],
    ['with class', { layout: 'NTC' }, { layout: 'NTC', dropped: 1 }],
  ])('%s %o has the regions of the last feature map', async (feature, o, place) => {
    const last = await featuresOf({});
    expect(last).toMatchObject({ regions: 16, width: 5, identity: { featureMap: 'nchw' } });
    expect(last.identity).not.toHaveProperty('layout');
    const named = await featuresOf({ feature, ...o });
    expect(named).toMatchObject({ regions: 16, width: 5, identity: { featureMap: feature, ...place } });
    expect([...named.values]).toEqual([...last.values]);
    expect(named.values.some((value) => value > 0)).toBe(true);
  });

  test('which one node computes with others is there too', async () => {
    const [before, after] = [await featuresOf({ feature: 'normed' }), await featuresOf({ feature: 'nchw' })];
    expect(before.values.some((value) => value < 0)).toBe(true);
    for (const [i, value] of before.values.entries()) expect(Math.max(0, value)).toBeCloseTo(after.values[i], 5);
  });

  test('whose axes are not told by its shape needs --layout', async () => {
    await expect(featuresOf({ feature: 'cube' })).rejects.toThrow(/"cube" \[1,4,4,4\] may be \[N, C, H, W\] or \[N, H, W, C\]: say which with --layout/);
    const [first, last] = [await featuresOf({ feature: 'cube', layout: 'NCHW' }), await featuresOf({ feature: 'cube', layout: 'NHWC' })];
    expect(first).toMatchObject({ regions: 16, width: 4 });
    expect([...last.values].sort()).toEqual([...first.values].sort());
    expect(last.values).not.toEqual(first.values);
  });

  test.each<[string, EncoderOptions, RegExp]>([
    ['nothing', {}, /makes no value called "nothing"; some of its values are "pooled", "with class"/],
    ['x', {}, /makes no value called "x"/],
    ['twice', {}, /"twice" \[1,32,5\] has 32 tokens: neither these nor those without 1, 2, 5 leading ones are a square grid/],
    ['nhcw', {}, /"nhcw" \[1,4,5,4\] is no feature map with a square of regions/],
    ['nchw', { layout: 'NHWC' }, /has no square of regions as NHWC/],
    ['nchw', { layout: 'NTC' }, /is no feature map: \[N, C, H, W\], \[N, H, W, C\] or \[N, T, C\] is expected/],
    ['tokens', { layout: 'NCHW' }, /has three axes, \[N, T, C\]; --layout NCHW has four/],
  ])('%s %o is refused', async (feature, o, message) => {
    await expect(featuresOf({ feature, ...o })).rejects.toThrow(message);
  });

  test('is found again by the identity', async () => {
    const { identity, values } = await featuresOf({ feature: 'with class' });
    const again = await ImageEncoder.reopen(identity, identity.path, 'is another');
    expect(again.identity).toEqual(identity);
    expect((await again.features([picture])).values).toEqual(values);
    again.dispose();
  });
});

test.each([
  [16, 0],
  [17, 1],
  [197, 1],
  [198, 2],
  [261, 5],
  [50, 1],
])('of %i tokens, %i are before the patches', (tokens, dropped) => {
  expect(leadingTokens('x', tokens)).toBe(dropped);
});

test('layers over tokens behind the last convolution: what is pooled is taken, and without pooling a name is asked for', async () => {
  const random = new Random(5, 'weights of tokens');
  const write = (name: string, head: Buffer[], outputs: string[]) => {
    const path = join(folder, name);
    writeOnnx(path, {
      nodes: [
        node('Conv', ['x', 'w'], ['patches'], { kernel_shape: [2, 2], strides: [2, 2], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 }),
        node('Reshape', ['patches', 'shape'], ['flat']),
        node('Transpose', ['flat'], ['tokens'], { perm: [0, 2, 1] }),
        node('LayerNormalization', ['tokens', 'gamma', 'beta'], ['normed'], { axis: -1 }),
        ...head,
      ],
      initializers: [
        floatTensor('w', [6, 3, 2, 2], normals(random, 72)),
        floatTensor('gamma', [6], normals(random, 6)),
        floatTensor('beta', [6], normals(random, 6)),
        intTensor('shape', [3], [1, 6, 16]),
        intTensor('first', [1], [0]),
      ],
      inputs: [{ name: 'x', shape: [1, 3, 8, 8] }],
      outputs,
    });
    return path;
  };
  const pooled = await ImageEncoder.open(write('pooled.onnx', [node('ReduceMean', ['normed'], ['y'], { axes: [1], keepdims: 0 })], ['y']), {
    preprocessing: SQUARE,
  });
  expect(pooled.identity).toMatchObject({ featureMap: 'normed', layout: 'NTC', dropped: 0 });
  expect(await pooled.features([picture])).toMatchObject({ regions: 16, width: 6 });
  pooled.dispose();
  const open = ImageEncoder.open(write('plain.onnx', [node('Relu', ['normed'], ['y'])], ['y']), { preprocessing: SQUARE });
  await expect(open).rejects.toThrow(
    /layers over tokens behind its last convolution, and no pooling of them: name its features with --feature; it has "y", "normed"/,
  );
});

describe('networks of torchvision, as PyTorch exports them', () => {
  const wanted: Record<string, { shape: [number, number]; values: string }> = JSON.parse(readFileSync(join(goldens, 'onnx.json'), 'utf8'));
  const preprocessing = 'edges to 32 by bilinear, crop 32, rgb / 255, mean 0 0 0, deviation 1 1 1';
  const pixels = Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => Math.sin(i));

  test.each<[string, number, EncoderOptions, object]>([
    ['mobilenet', 0, {}, { layout: undefined }],
    ['convnext', 0, {}, { layout: 'NCHW' }],
    ['swin', 0, {}, { layout: 'NCHW' }],
    ['torchvision_vit', 1, { feature: '/encoder/ln/Add_1_output_0' }, { layout: 'NTC', dropped: 1 }],
  ])('%s', async (name, dropped, o, place) => {
    const { shape, values } = wanted[name];
    const all = new Float32Array(new Uint8Array(Buffer.from(values, 'base64')).buffer);
    const encoder = await ImageEncoder.open(join(goldens, `${name}.onnx.gz`), { preprocessing, ...o });
    const found = await encoder.features([pixels]);
    expect([found.regions, found.width]).toEqual([shape[0] - dropped, shape[1]]);
    const expected = all.subarray(dropped * shape[1]);
    const largest = Math.max(...expected.map(Math.abs));
    const error = Math.max(...found.values.map((value, i) => Math.abs(value - expected[i])));
    expect(error / largest).toBeLessThan(1e-4);
    expect({ layout: undefined, ...encoder.identity }).toMatchObject(place);
    encoder.dispose();
  });

  test('a vision transformer without a name for its features is told the names of values', async () => {
    const open = ImageEncoder.open(join(goldens, 'torchvision_vit.onnx.gz'), { preprocessing });
    await expect(open).rejects.toThrow(/no pooling of them: name its features with --feature; it has "scores", .*"\/encoder\/ln\/Add_1_output_0"/);
  });
});

describe('pictures as Pillow scales them', () => {
  const cases: {
    width: number;
    height: number;
    edge: 'both' | 'shortest';
    to: number;
    filter: 'bilinear' | 'bicubic' | 'lanczos';
    crop: number;
    pixels: string;
    result: string;
  }[] = JSON.parse(readFileSync(join(goldens, 'pictures.json'), 'utf8'));

  test.each(cases)('$width × $height, $edge edge to $to by $filter, crop $crop', async ({ width, height, edge, to, filter, crop, pixels, result }) => {
    const p: SaidPreprocessing = { size: crop, resize: { edge, to, filter }, order: 'rgb', divisor: 255, mean: [0.5, 0.25, 0.125], deviation: [0.5, 0.75, 1] };
    const data = Buffer.from(pixels, 'base64');
    const wanted = normalized(Buffer.from(result, 'base64'), p);
    expect(resizedAndNormalized({ data, width, height }, p)).toEqual(wanted);
    const path = join(folder, `${width}x${height}.png`);
    await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toFile(path);
    expect(await loadImage(path, p)).toEqual(wanted);
    expect(preprocessingOf(described(p))).toEqual(p);
  });

  test('maps cover the part that is seen', () => {
    const p: SaidPreprocessing = { ...PREPROCESSINGS.imagenet, resize: { edge: 'shortest', to: 256, filter: 'bicubic' } };
    expect(seenPart(640, 480, p)).toEqual({ left: 109, top: 30, width: 420, height: 420 });
    expect(seenPart(256, 1024, p)).toEqual({ left: 16, top: 400, width: 224, height: 224 });
    expect(seenPart(640, 480, PREPROCESSINGS.imagenet)).toEqual({ left: 0, top: 0, width: 640, height: 480 });
  });
});

test('a picture is shown as its encoder sees it: maps of regions cover the middle that is cut out', async () => {
  const path = join(folder, 'halves.png');
  const data = Uint8Array.from({ length: 3 * 40 * 20 }, (_, i) => (Math.floor(i / 3) % 40 >= 10 && Math.floor(i / 3) % 40 < 30 ? 200 : 0));
  await sharp(data, { raw: { width: 40, height: 20, channels: 3 } })
    .png()
    .toFile(path);
  const whole = await readPixels(path, 20);
  expect([whole.width, whole.height]).toEqual([40, 20]);
  const seen = await readPixels(path, 20, preprocessingOf('shortest edge to 16 by bicubic, crop 16, rgb / 255, mean 0 0 0, deviation 1 1 1'));
  expect([seen.width, seen.height]).toEqual([20, 20]);
  expect(new Set(seen.data)).toEqual(new Set([200]));
});

describe('preprocessor_config.json', () => {
  const MEAN = { image_mean: [0.1, 0.2, 0.3], image_std: [0.4, 0.5, 0.6] };
  const end = 'rgb / 255, mean 0.1 0.2 0.3, deviation 0.4 0.5 0.6';
  const read = (config: object, modelType?: string) => {
    mkdirSync(join(folder, 'configs'), { recursive: true });
    const path = join(folder, 'configs', 'preprocessor_config.json');
    writeFileSync(path, JSON.stringify(config));
    return described(readPreprocessorConfig(path, modelType));
  };

  test.each<[string, object, string]>([
    [
      'ViT, square',
      { image_processor_type: 'ViTImageProcessor', size: { height: 224, width: 224 }, resample: 2, ...MEAN },
      `edges to 224 by bilinear, crop 224, ${end}`,
    ],
    ['an old ViT', { feature_extractor_type: 'ViTFeatureExtractor', size: 224, ...MEAN }, `edges to 224 by bilinear, crop 224, ${end}`],
    ['a new fast one', { image_processor_type: 'ViTImageProcessorFast', size: { height: 64, width: 64 }, ...MEAN }, `edges to 64 by bilinear, crop 64, ${end}`],
    [
      'DeiT',
      { image_processor_type: 'DeiTImageProcessor', size: { height: 256, width: 256 }, crop_size: { height: 224, width: 224 }, ...MEAN },
      `edges to 256 by bicubic, crop 224, ${end}`,
    ],
    [
      'an old CLIP',
      { feature_extractor_type: 'CLIPFeatureExtractor', size: 224, crop_size: 224, resample: 3, ...MEAN },
      `shortest edge to 224 by bicubic, crop 224, ${end}`,
    ],
    [
      'DINOv2',
      {
        image_processor_type: 'BitImageProcessor',
        size: { shortest_edge: 256 },
        crop_size: { height: 224, width: 224 },
        do_center_crop: true,
        resample: 3,
        rescale_factor: 0.00392156862745098,
        ...MEAN,
      },
      `shortest edge to 256 by bicubic, crop 224, ${end}`,
    ],
    [
      'ConvNeXt below 384',
      { feature_extractor_type: 'ConvNextFeatureExtractor', size: 224, crop_pct: 0.875, resample: 3, ...MEAN },
      `shortest edge to 256 by bicubic, crop 224, ${end}`,
    ],
    [
      'ConvNeXt from 384',
      { image_processor_type: 'ConvNextImageProcessor', size: { shortest_edge: 384 }, crop_pct: 0.875, resample: 3, ...MEAN },
      `edges to 384 by bicubic, crop 384, ${end}`,
    ],
    [
      'no normalization',
      { image_processor_type: 'ViTImageProcessor', size: 32, do_normalize: false, do_rescale: false },
      'edges to 32 by bilinear, crop 32, rgb / 1, mean 0 0 0, deviation 1 1 1',
    ],
    [
      'a processor that is not known, all said',
      { image_processor_type: 'OtherImageProcessor', size: { shortest_edge: 40 }, crop_size: 32, do_center_crop: true, resample: 1, ...MEAN },
      `shortest edge to 40 by lanczos, crop 32, ${end}`,
    ],
  ])('%s', (_, config, wanted) => {
    expect(read(config)).toBe(wanted);
  });

  test('a file without a name has the defaults of its model', () => {
    expect(read({ size: 32, ...MEAN }, 'vit')).toBe(`edges to 32 by bilinear, crop 32, ${end}`);
  });

  test.each<[string, object, RegExp]>([
    ['no size', { resample: 2 }, /preprocessor_config\.json: is no configuration of an image processor: size/],
    ['a rectangle', { size: { height: 224, width: 192 }, resample: 2, ...MEAN }, /size: 224 × 192 pixels; only squares are taken/],
    ['no crop of the shortest edge', { size: { shortest_edge: 224 }, resample: 2, ...MEAN }, /scales the shortest edge and crops nothing/],
    [
      'a crop that is larger',
      { size: { shortest_edge: 32 }, crop_size: 48, do_center_crop: true, resample: 2, ...MEAN },
      /a crop of 48 pixels does not fit pictures that are scaled to 32/,
    ],
    ['a filter that is not there', { size: { height: 8, width: 8 }, resample: 0, ...MEAN }, /resample 0 \(nearest\) is not done here/],
    ['no filter', { size: { height: 8, width: 8 }, ...MEAN }, /has no resample, and names no image processor/],
    [
      'one number of an unknown processor',
      { size: 8, resample: 2, image_processor_type: 'XImageProcessor', ...MEAN },
      /has no size as an object, and the default of "XImageProcessor" is not known here/,
    ],
    ['no resizing', { size: { height: 8, width: 8 }, do_resize: false, resample: 2, ...MEAN }, /do_resize is false/],
    ['a step that is not done', { size: { height: 8, width: 8 }, do_pad: true, resample: 2, ...MEAN }, /asks for "do_pad", which is not done here/],
    ['no mean', { size: { height: 8, width: 8 }, resample: 2 }, /has no image_mean/],
    ['a deviation of 0', { size: { height: 8, width: 8 }, resample: 2, image_mean: [0, 0, 0], image_std: [0, 1, 1] }, /with a deviation of 0,1,1/],
  ])('%s is refused', (_, config, message) => {
    expect(() => read(config)).toThrow(message);
  });

  test('beside an ONNX file says how its pixels are prepared; another one that is given is refused', async () => {
    const beside = join(folder, 'beside');
    mkdirSync(beside);
    cpSync(graph('model.onnx'), join(beside, 'model.onnx'));
    writeFileSync(join(beside, 'preprocessor_config.json'), JSON.stringify({ size: { height: 8, width: 8 }, resample: 3, ...MEAN }));
    const encoder = await ImageEncoder.open(join(beside, 'model.onnx'));
    expect(encoder.identity.preprocessing).toBe(`edges to 8 by bicubic, crop 8, ${end}`);
    encoder.dispose();
    await expect(ImageEncoder.open(join(beside, 'model.onnx'), { preprocessing: SQUARE })).rejects.toThrow(
      /beside it says "edges to 8 by bicubic.*leave the option out, or move the file/,
    );
    await expect(ImageEncoder.open(join(beside, 'model.onnx'), { grid: 14 })).rejects.toThrow(/--grid sets the size of pictures to 32 times the grid/);
  });
});

test.each([
  ['edges to 8 by bilinear, crop 9, rgb / 255, mean 0 0 0, deviation 1 1 1', /a crop of 9 pixels does not fit/],
  ['edges to 4096 by bilinear, crop 9, rgb / 255, mean 0 0 0, deviation 1 1 1', /1 to 2048 are taken/],
  ['edges to 8 by bilinear, crop 8, rgb / 0, mean 0 0 0, deviation 1 1 1', /cannot be divided by 0/],
  ['edges to 8 by nearest, crop 8, rgb / 255, mean 0 0 0, deviation 1 1 1', /there is no preprocessing called/],
])('the preprocessing "%s" is refused', (text, message) => {
  expect(() => preprocessingOf(text)).toThrow(message);
});

test('data beside the graph is a part of the encoder’s hash; hashes of older versions are still known', async () => {
  const path = join(folder, 'external.onnx');
  const external = Buffer.concat([
    ...[5, 3, 2, 2].map((extent) => field(1, extent)),
    ...[field(2, 1), field(8, 'w'), field(14, 1)],
    field(13, Buffer.concat([field(1, 'location'), field(2, 'external.data')])),
  ]);
  writeOnnx(path, {
    nodes: [
      node('Conv', ['x', 'w'], ['y'], { kernel_shape: [2, 2], strides: [2, 2], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 }),
      node('GlobalAveragePool', ['y'], ['p']),
    ],
    initializers: [external],
    inputs: [{ name: 'x', shape: [-1, 3, 8, 8] }],
    outputs: ['p'],
  });
  const hashWith = async (value: number) => {
    writeFileSync(join(folder, 'external.data'), new Float32Array(60).fill(value));
    const encoder = await ImageEncoder.open(path, { preprocessing: SQUARE });
    encoder.dispose();
    return encoder.identity;
  };
  const [first, second] = [await hashWith(1), await hashWith(2)];
  expect(first.sha256).not.toBe(second.sha256);
  await expect(ImageEncoder.reopen(first, path, 'is another')).rejects.toThrow(/is another$/);
  const old = { ...second, sha256: createHash('sha256').update(readFileSync(path)).digest('hex') };
  const reopened = await ImageEncoder.reopen(old, path, 'is another');
  expect(reopened.identity).toEqual(old);
  reopened.dispose();
});

test.each([
  ['a head of convolutions behind the pooling', [node('Conv', ['pooled', 'w2'], ['h']), node('HardSwish', ['h'], ['s']), node('Flatten', ['s'], ['y'])], 'map'],
  ['a gate of channels behind the pooling', [node('Conv', ['pooled', 'w2'], ['h']), node('Mul', ['map', 'h'], ['s']), node('Flatten', ['s'], ['y'])], 's'],
  ['no convolution behind the pooling', [node('Flatten', ['pooled'], ['y'])], 'map'],
])('the last feature map: %s', async (name, head, featureMap) => {
  const random = new Random(6, 'weights of a head');
  const path = join(folder, `${name}.onnx`);
  writeOnnx(path, {
    nodes: [
      node('Conv', ['x', 'w'], ['patches'], { kernel_shape: [2, 2], strides: [2, 2] }),
      node('Relu', ['patches'], ['map']),
      node('ReduceMean', ['map'], ['pooled'], { axes: [2, 3], keepdims: 1 }),
      ...head,
    ],
    initializers: [floatTensor('w', [6, 3, 2, 2], normals(random, 72)), floatTensor('w2', [6, 6, 1, 1], normals(random, 36))],
    inputs: [{ name: 'x', shape: [1, 3, 8, 8] }],
    outputs: ['y'],
    opset: 14,
  });
  const encoder = await ImageEncoder.open(path, { preprocessing: SQUARE });
  expect(encoder.identity).toMatchObject({ featureMap });
  expect(await encoder.features([picture])).toMatchObject({ regions: 16, width: 6 });
  encoder.dispose();
});
