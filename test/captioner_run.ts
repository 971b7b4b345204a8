/**
 * What tests of the command line start from: pictures of one color with captions and a tiny encoder, the dataset, its features,
 * a trained run. Each is made when a test first asks for it, once per test file, so that every test runs alone.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { externalTensor, floatTensor, node, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { Random } from '../src/random.ts';
import { glimpse, type Outcome } from './support.ts';

export const COLORS = { red: '#d22', green: '#2a4', blue: '#24d' };

interface Paths {
  images: string;
  encoder: string;
  data: string;
  store: string;
  run: string;
  /** `train` on the features, with all but --out and what a test varies. */
  trainArgs: string[];
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make();
    return made;
  };
}

/** Runs a command that must succeed. */
async function succeed(...args: string[]): Promise<Outcome> {
  const outcome = await glimpse(...args);
  if (outcome.code !== 0) throw new Error(`glimpse ${args.join(' ')} ended with ${outcome.code}: ${outcome.stderr}`);
  return outcome;
}

async function makePictures(folder: string, { images, encoder }: Paths): Promise<void> {
  mkdirSync(images);
  const captions: { image_id: number; caption: string }[] = [];
  const list: { id: number; file_name: string; split: string }[] = [];
  for (let i = 0; i < 18; i++) {
    const [name, color] = Object.entries(COLORS)[i % 3];
    await sharp({ create: { width: 40 + i, height: 30, channels: 3, background: color } })
      .jpeg()
      .toFile(join(images, `${i}.jpg`));
    list.push({ id: i, file_name: `${i}.jpg`, split: i < 15 ? 'train' : 'val' });
    captions.push({ image_id: i, caption: `A ${name} picture.` }, { image_id: i, caption: `${name} all over` });
  }
  writeFileSync(join(folder, 'coco.json'), JSON.stringify({ images: list, annotations: captions }));
  writeTinyEncoder(encoder);
}

/** Writes an encoder of one convolution with random weights, which may lie in a file beside it. It tells the colors apart. */
export function writeTinyEncoder(path: string, beside: string | null = null): void {
  const random = new Random(1, 'encoder');
  const weights = Float32Array.from({ length: 8 * 3 * 1024 }, () => 0.03 * random.normal());
  writeOnnx(path, {
    nodes: [
      node('Conv', ['x', 'w'], ['c'], { kernel_shape: [32, 32], strides: [32, 32], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 }),
      node('Relu', ['c'], ['y']),
      node('GlobalAveragePool', ['y'], ['p']),
    ],
    initializers: [beside ? externalTensor('w', [8, 3, 32, 32], beside) : floatTensor('w', [8, 3, 32, 32], weights)],
    inputs: [{ name: 'x', shape: [-1, 3, 224, 224] }],
    outputs: ['p'],
  });
  if (beside) writeFileSync(join(dirname(path), beside), weights);
}

export function captionerRun(folder: string) {
  const [data, store] = [join(folder, 'dataset.json'), join(folder, 'features')];
  const paths: Paths = {
    ...{ images: join(folder, 'images'), encoder: join(folder, 'encoder', 'model.onnx'), data, store, run: join(folder, 'run') },
    trainArgs: [
      'train',
      '--data',
      data,
      '--features',
      store,
      '--batch-images',
      '5',
      '--captions',
      '2',
      '--rate',
      '0.005',
      '--dropout',
      '0',
      '--schedule',
      'constant',
    ],
  };
  const pictures = once(async () => {
    await makePictures(folder, paths);
    return paths;
  });
  const dataset = once(async () => {
    await pictures();
    await succeed('prepare', '--coco-train', join(folder, 'coco.json'), '--images', paths.images, '--out', data, '--quiet');
    return paths;
  });
  /** One training picture is damaged, and left out. */
  const features = once(async () => {
    await dataset();
    const damaged = join(paths.images, '9.jpg');
    writeFileSync(damaged, readFileSync(damaged).subarray(0, 200));
    await succeed('features', '--data', data, '--encoder', paths.encoder, '--out', store, '--batch', '4', '--preprocess', 'imagenet', '--skip-bad', '--quiet');
    return paths;
  });
  const trained = once(async () => {
    await features();
    return { ...paths, outcome: await succeed(...paths.trainArgs, '--out', paths.run, '--epochs', '6', '--json') };
  });
  return { pictures, dataset, features, trained };
}
