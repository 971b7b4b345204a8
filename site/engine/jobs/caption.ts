/** A photograph captioned with a run's own files, all in the visitor's browser: nothing is uploaded. */
import Pica from 'pica';
import { bytesAsSource } from '../../../src/data/bytes.ts';
import { normalized, type Preprocessing, resizedAndNormalized, saysResize, seenPart } from '../../../src/data/preprocessing.ts';
import type { Vocabulary } from '../../../src/data/words.ts';
import { FileError, GlimpseError, messageOf, UsageError } from '../../../src/errors.ts';
import type { Gpu } from '../../../src/gpu/gpu.ts';
import { WU_ALPHA } from '../../../src/kernels/beam.ts';
import { Captioner } from '../../../src/model/captioner/captioner.ts';
import { EncoderNetwork, optionsOf } from '../../../src/model/encoder/network.ts';
import { type Checkpoint, parseCheckpoint, vocabularyOf } from '../../../src/model/training/checkpoint_format.ts';
import { scope, tensor } from '../../../src/tensor/tensor.ts';
import type { Jobs, RunFiles } from '../protocol.ts';
import { gathered } from '../stream.ts';
import type { JobContext } from '../worker.ts';

interface LoadedRun {
  gpu: Gpu;
  checkpoint: Checkpoint;
  encoder: EncoderNetwork;
  model: Captioner;
  vocabulary: Vocabulary;
}

let run: LoadedRun | null = null;

/** Pictures of more pixels are refused, as in the terminal. */
const MAX_PIXELS = 100_000_000;
/** No encoder is larger; guards against a small archive that unpacks to a huge file. */
const MAX_MODEL_BYTES = 2 ** 31;
/** Height of the picture that is shown. */
const SHOWN = 320;

async function bytesOf(from: Blob | string, name: string, tell: (text: string) => void): Promise<Uint8Array<ArrayBuffer>> {
  let stream: ReadableStream<Uint8Array>;
  let total: number;
  if (typeof from === 'string') {
    const answer = await fetch(from);
    if (!answer.ok || !answer.body) throw new FileError(name, `the server does not give it: ${answer.status} ${answer.statusText}`);
    stream = answer.body;
    total = Number(answer.headers.get('Content-Length') ?? 0);
  } else {
    stream = from.stream();
    total = from.size;
  }
  const unpacked = name.endsWith('.gz') ? stream.pipeThrough(new DecompressionStream('gzip') as unknown as TransformStream<Uint8Array, Uint8Array>) : stream;
  const of = total > 0 && !name.endsWith('.gz') ? ` of ${(total / 2 ** 20).toFixed(0)}` : '';
  try {
    return await gathered(unpacked, MAX_MODEL_BYTES, `has more than ${MAX_MODEL_BYTES} bytes`, (length) =>
      tell(`${name}: ${(length / 2 ** 20).toFixed(0)}${of} MiB`),
    );
  } catch (error) {
    throw new FileError(name, `cannot be read: ${messageOf(error)}`);
  }
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function forget(): void {
  if (run && !run.gpu.isLost) {
    run.encoder.dispose();
    run.model.dispose();
  }
  run = null;
}

export async function loadRun(
  gpu: Gpu,
  { checkpoint: from, encoder: network, names }: RunFiles,
  context: JobContext<'loadRun'>,
): Promise<Jobs['loadRun']['result']> {
  const tell = (text: string) => context.tell({ text });
  const checkpoint = parseCheckpoint(bytesAsSource(names.checkpoint, await bytesOf(from, names.checkpoint, tell)));
  const bytes = await bytesOf(network, names.encoder, tell);
  tell(`${names.encoder}: its hash`);
  const hash = await sha256(bytes);
  if (hash !== checkpoint.encoder.sha256)
    throw new GlimpseError(
      `${names.encoder} is not the encoder that ${names.checkpoint} was trained with: the checkpoint names ${checkpoint.encoder.path}, and the SHA-256 differs`,
    );
  tell('weights go to the device');
  forget();
  const { config, encoderWeights } = checkpoint;
  const tuned = encoderWeights.size > 0 ? { layers: config.encoderLayers, weights: encoderWeights } : undefined;
  const encoder = new EncoderNetwork(bytesAsSource(names.encoder, bytes), hash, optionsOf(checkpoint.encoder, tuned), checkpoint.encoder.tuned);
  const model = Captioner.fromWeights(config.sizes, config.options, checkpoint.weights);
  await gpu.idle();
  run = { gpu, checkpoint, encoder, model, vocabulary: vocabularyOf(checkpoint) };
  return {
    ...{ vocabulary: checkpoint.vocabulary.length, parameters: model.parameters.count, regions: config.sizes.regions },
    ...{ preprocessing: checkpoint.encoder.preprocessing, epoch: checkpoint.progress.epoch },
  };
}

const pica = new Pica({
  features: ['js'],
  createCanvas: (width: number, height: number) => new OffscreenCanvas(width, height) as unknown as HTMLCanvasElement,
});

interface Decoded {
  rgba: Uint8ClampedArray;
  width: number;
  height: number;
}

/** A picture as a viewer shows it: turned by EXIF, white where it is transparent. */
async function decoded(picture: Blob, name: string): Promise<Decoded> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(picture, { imageOrientation: 'from-image' });
  } catch (error) {
    throw new FileError(name, `cannot be read as a picture: ${messageOf(error)}`);
  }
  try {
    const { width, height } = bitmap;
    if (width * height > MAX_PIXELS) throw new FileError(name, `has ${width} × ${height} pixels, at most ${MAX_PIXELS} are read`);
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (!context) throw new GlimpseError('the browser gives no canvas to read pixels from');
    context.fillStyle = '#fff';
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    return { rgba: context.getImageData(0, 0, width, height).data, width, height };
  } finally {
    bitmap.close();
  }
}

/** RGB of the picture at another size, by Lanczos, as the terminal scales pictures. */
async function scaled({ rgba, width, height }: Decoded, toWidth: number, toHeight: number): Promise<Uint8Array<ArrayBuffer>> {
  const made = await pica.resizeBuffer({ src: rgba as unknown as Uint8Array, width, height, toWidth, toHeight, filter: 'lanczos3' });
  const rgb = new Uint8Array(3 * toWidth * toHeight);
  for (let i = 0; i < toWidth * toHeight; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = made[4 * i + c];
  return rgb;
}

/** RGB without the fourth channel. */
function rgbOf({ rgba, width, height }: Decoded): { data: Uint8Array; width: number; height: number } {
  const data = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) data[3 * i + c] = rgba[4 * i + c];
  return { data, width, height };
}

/** The part of a picture that the encoder sees. Maps of regions cover it. */
function seen({ rgba, width, height }: Decoded, p: Preprocessing): Decoded {
  const part = seenPart(width, height, p);
  const cut = new Uint8ClampedArray(4 * part.width * part.height);
  for (let y = 0; y < part.height; y++) {
    const from = 4 * ((part.top + y) * width + part.left);
    cut.set(rgba.subarray(from, from + 4 * part.width), 4 * part.width * y);
  }
  return { rgba: cut, width: part.width, height: part.height };
}

export async function captionPicture(gpu: Gpu, { picture, name, beam: width }: Jobs['captionPicture']['input']): Promise<Jobs['captionPicture']['result']> {
  if (!run || run.gpu !== gpu) throw new UsageError('no run is loaded on this device: choose its files again');
  const { encoder, model, vocabulary, checkpoint } = run;
  const { maxLength, preset } = checkpoint.config;
  const begun = performance.now();
  const whole = await decoded(picture, name);
  const { preprocessing, size } = encoder;
  const input = saysResize(preprocessing) ? resizedAndNormalized(rgbOf(whole), preprocessing) : normalized(await scaled(whole, size, size), preprocessing);
  const decodedAt = performance.now();
  using _caption = scope();
  const { values, regions, width: features } = await encoder.features([input]);
  const encodedAt = performance.now();
  const beam = { width, penalty: 'average' as const, alpha: WU_ALPHA, groups: 1, diversity: 0, minLength: 0, noRepeat: 0, suppress: preset === 'recommended' };
  const [found] = await model.decoding.ranked(tensor(values, [1, regions, features]), maxLength - 1, beam, true);
  const ms = { decode: decodedAt - begun, encode: encodedAt - decodedAt, caption: performance.now() - encodedAt };
  const part = seen(whole, preprocessing);
  const height = Math.min(SHOWN, part.height);
  const shown = Math.max(1, Math.round((part.width * height) / part.height));
  return {
    captions: found.map(({ tokens, logProb, logProbs, alpha }) => ({
      ...{ text: vocabulary.decode(tokens), logProb },
      words: tokens.map((id, t) => ({ word: vocabulary.word(id), probability: Math.exp(logProbs[t]), alpha: alpha[t] })),
    })),
    ...{ pixels: await scaled(part, shown, height), width: shown, height, ms },
  };
}
