/** The image encoder: an ONNX network up to its last feature map, with the preprocessing that it was trained with. */
import { createHash, webcrypto } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import * as ops from '../../autograd/ops/index.ts';
import { noGrad } from '../../autograd/tape.ts';
import type { EncoderIdentity } from '../../data/feature_store.ts';
import { loadImage, PREPROCESSINGS, type Preprocessing, preprocessingOf } from '../../data/images.ts';
import { FileError, GlimpseError, messageOf, UsageError } from '../../errors.ts';
import type { NamedArray, Parameters } from '../../nn/parameters.ts';
import { cacheFolder } from '../../platform/node/cache.ts';
import { scope, type Tensor, tensor } from '../../tensor/tensor.ts';
import { OnnxModel } from '../onnx/run.ts';
import type { Checkpoint } from '../training/checkpoint.ts';
import { weightsHash } from '../training/weights_hash.ts';

/** Published files whose preprocessing is known, by the SHA-256 of the ONNX file. */
const KNOWN: Record<string, string> = {
  f3f18da07b67cfa62d64d866322370937fb9e28f8460b9763ec45159f16e7268: 'imagenet',
};

/** Files up to this size are hashed in one piece, on another thread. */
const HASHED_WHOLE = 1 << 30;

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    if (statSync(path).size <= HASHED_WHOLE) return Buffer.from(await webcrypto.subtle.digest('SHA-256', readFileSync(path))).toString('hex');
    await pipeline(createReadStream(path), hash);
  } catch (error) {
    throw new FileError(path, messageOf(error));
  }
  return hash.digest('hex');
}

/** No encoder is larger. The limit guards against a small archive that unpacks to a huge file. */
const MAX_MODEL_BYTES = 4 * 2 ** 30;

/** The path of the model. An `.onnx.gz` is unpacked once into the cache; any other file is used where it is. */
export async function unpackedModel(path: string): Promise<string> {
  if (!path.endsWith('.gz')) return path;
  if (!existsSync(path)) throw new FileError(path, 'no such file');
  const { size, mtimeMs } = statSync(path);
  const key = createHash('sha256')
    .update(`${resolve(path)} ${size} ${mtimeMs}`)
    .digest('hex')
    .slice(0, 16);
  const target = join(cacheFolder(), 'models', `${key}.onnx`);
  if (existsSync(target)) return target;
  mkdirSync(join(cacheFolder(), 'models'), { recursive: true });
  const temporary = `${target}.${process.pid}.tmp`;
  try {
    let bytes = 0;
    const bounded = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        bytes += chunk.length;
        done(bytes > MAX_MODEL_BYTES ? new Error(`unpacks to more than ${MAX_MODEL_BYTES / 2 ** 30} GiB`) : null, chunk);
      },
    });
    await pipeline(createReadStream(path), createGunzip(), bounded, createWriteStream(temporary));
    renameSync(temporary, target);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new FileError(path, `cannot be unpacked: ${messageOf(error)}`);
  }
  return target;
}

/** ResNets reduce the sides of pictures by this factor. */
const REDUCTION = 32;

/** How an encoder prepares pictures, and what of it is trained. */
export interface EncoderOptions {
  /** May be left out only for known files; it is never guessed. */
  preprocessing?: string;
  /** Number of regions along a side. The default follows from the picture size of the preprocessing. */
  grid?: number;
  /** Layers whose convolutions are trained, by the beginnings of their initializers' names. `weights` replace those of the file. */
  tuned?: { layers: readonly string[]; weights?: ReadonlyMap<string, NamedArray> };
}

const isIn = (layers: readonly string[], name: string) => layers.some((layer) => name === layer || name.startsWith(`${layer}.`));

/** A convolutional network from an ONNX file, up to its last feature map. */
export class ImageEncoder {
  private constructor(
    private readonly model: OnnxModel,
    readonly identity: EncoderIdentity,
    private readonly preprocessing: Preprocessing,
  ) {}

  /** Opens an .onnx or .onnx.gz file. Throws a UsageError if its preprocessing is neither known nor given. */
  static async open(path: string, o: EncoderOptions = {}): Promise<ImageEncoder> {
    const file = await unpackedModel(path);
    const hashing = sha256(file); // runs while the file is imported below
    hashing.catch(() => {}); // an error is thrown where this is awaited
    const base = o.preprocessing ?? KNOWN[await hashing];
    const name = base && o.grid ? `${base.split('@')[0]}@${REDUCTION * o.grid}` : base;
    if (!name) throw new UsageError(`${path} is no known file: say how its pixels are prepared with --preprocess (${Object.keys(PREPROCESSINGS).join(', ')})`);
    const prepared = preprocessingOf(name);
    const layers = o.tuned?.layers ?? [];
    // Batch normalization keeps its parameters and statistics. Batches of a few pictures would only disturb it.
    const model = OnnxModel.load(file, layers.length > 0 ? { trainable: (weight, shape) => shape.length === 4 && isIn(layers, weight) } : {});
    const unknown = layers.find((layer) => ![...model.parameters.all.keys()].some((weight) => isIn([layer], weight)));
    if (unknown !== undefined) {
      const known = new Set([...model.graph.initializers.keys()].flatMap((weight) => (weight.includes('.') ? [weight.split('.')[0]] : [])));
      throw new UsageError(`${path} has no convolution in a layer called "${unknown}" (its weights begin with ${[...known].join(', ')})`);
    }
    if (o.tuned?.weights) model.parameters.write(o.tuned.weights);
    const tuned = o.tuned?.weights ? weightsHash(o.tuned.weights) : null;
    return new ImageEncoder(model, { path: resolve(path), sha256: await hashing, featureMap: model.featureMapName, preprocessing: name, tuned }, prepared);
  }

  /** The parameters that are trained. */
  get parameters(): Parameters {
    return this.model.parameters;
  }

  /** Side of the square that pictures are scaled to, in pixels. */
  get size(): number {
    return this.preprocessing.size;
  }

  /** Reads a picture file and prepares its pixels: [3 · size · size]. Throws a FileError if it cannot be read. */
  load(path: string): Promise<Float32Array> {
    return loadImage(path, this.preprocessing);
  }

  /** As `load`, but returns the error of a bad picture, so that other pictures loaded with it are not lost. */
  async attempt(path: string): Promise<Float32Array | FileError> {
    try {
      return await this.load(path);
    } catch (error) {
      if (error instanceof FileError) return error;
      throw error;
    }
  }

  /** A picture of zeros, for finding the size of the feature map. */
  blank(): Float32Array {
    return new Float32Array(3 * this.size ** 2);
  }

  /** Prepared pictures [N, 3, size, size] → their feature maps [N, P, F], regions in row order. Gradients reach the trained parameters. */
  encode(pixels: Tensor): Tensor {
    const [map] = this.model.run({ [this.model.graph.inputs[0].name]: pixels }, [this.identity.featureMap], true);
    const [count, height, wide, width] = map.shape;
    return ops.reshape(map, [count, height * wide, width]);
  }

  /** Loaded pictures → their feature maps, [P · F] each. `values` holds all of them; `records` are views of it, one per picture. */
  async features(pictures: readonly Float32Array[]): Promise<{ values: Float32Array; records: Float32Array[]; regions: number; width: number }> {
    using _encoding = scope();
    const map = noGrad(() => this.encode(tensor(packed(pictures), [pictures.length, 3, this.size, this.size])));
    const [, regions, width] = map.shape;
    const values = (await map.data()) as Float32Array;
    const per = regions * width;
    return { values, records: pictures.map((_, i) => values.subarray(i * per, (i + 1) * per)), regions, width };
  }

  dispose(): void {
    this.model.dispose();
  }
}

/** One array with all values of the arrays, in order. */
export function packed(arrays: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

/** Opens the encoder that a model was trained with, at its old path or at another one. Throws a GlimpseError for another file. */
export async function openEncoderOf({ encoder: trainedWith, config, encoderWeights }: Checkpoint, path = trainedWith.path): Promise<ImageEncoder> {
  const tuned = encoderWeights.size > 0 ? { layers: config.encoderLayers, weights: encoderWeights } : undefined;
  const encoder = await ImageEncoder.open(path, { preprocessing: trainedWith.preprocessing, ...(tuned ? { tuned } : {}) });
  if (encoder.identity.sha256 === trainedWith.sha256) return encoder;
  encoder.dispose();
  throw new GlimpseError(`${path} is not the encoder this model was trained with (its SHA-256 differs); give that file with --encoder`);
}
