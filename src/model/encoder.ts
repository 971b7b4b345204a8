/** The image encoder: an ONNX network up to its last feature map, with the preprocessing it was trained with. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { loadImage, PREPROCESSINGS, type Preprocessing, preprocessingOf } from '../data/images.ts';
import { FileError, GlimpseError, messageOf, UsageError } from '../errors.ts';
import { cacheFolder } from '../gpu/embedded_driver.ts';
import { scope, tensor } from '../tensor/tensor.ts';
import { OnnxModel } from './onnx/run.ts';

/** Published files whose preprocessing is known, by the SHA-256 of the ONNX file. */
const KNOWN: Record<string, string> = {
  f3f18da07b67cfa62d64d866322370937fb9e28f8460b9763ec45159f16e7268: 'imagenet',
};

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(path), hash);
  } catch (error) {
    throw new FileError(path, messageOf(error));
  }
  return hash.digest('hex');
}

/** No encoder is larger; a small archive may unpack to anything. */
const MAX_MODEL_BYTES = 4 * 2 ** 30;

/** An `.onnx.gz` is unpacked once into the cache; anything else is used where it is. */
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

export interface EncoderIdentity {
  path: string;
  sha256: string;
  featureMap: string;
  preprocessing: string;
}

/** ResNets reduce pictures by this. */
const REDUCTION = 32;

export class ImageEncoder {
  private constructor(
    private readonly model: OnnxModel,
    readonly identity: EncoderIdentity,
    private readonly preprocessing: Preprocessing,
  ) {}

  /** `preprocessing` may be left out only for files that are known; it is never guessed. `grid` asks for so many places a side. */
  static async open(path: string, preprocessing?: string, grid?: number): Promise<ImageEncoder> {
    const file = await unpackedModel(path);
    const hash = await sha256(file);
    const base = preprocessing ?? KNOWN[hash];
    const name = base && grid ? `${base.split('@')[0]}@${REDUCTION * grid}` : base;
    if (!name) throw new UsageError(`${path} is no known file: say how its pixels are prepared with --preprocess (${Object.keys(PREPROCESSINGS).join(', ')})`);
    const prepared = preprocessingOf(name);
    const model = OnnxModel.load(file);
    return new ImageEncoder(model, { path: resolve(path), sha256: hash, featureMap: model.featureMapName, preprocessing: name }, prepared);
  }

  /** The encoder that a model was trained with, where it was or at another path; another file is refused. */
  static async openFor(trainedWith: EncoderIdentity, path = trainedWith.path): Promise<ImageEncoder> {
    const encoder = await ImageEncoder.open(path, trainedWith.preprocessing);
    if (encoder.identity.sha256 === trainedWith.sha256) return encoder;
    encoder.dispose();
    throw new GlimpseError(`${path} is not the encoder this model was trained with (its SHA-256 differs); give that file with --encoder`);
  }

  load(path: string): Promise<Float32Array> {
    return loadImage(path, this.preprocessing);
  }

  /** A picture of zeros, to learn the size of the map. */
  blank(): Float32Array {
    return new Float32Array(3 * this.preprocessing.size ** 2);
  }

  /** Loaded pictures → their feature maps, each [P · F] with places in row order: all in one array, and picture by picture on the same memory. */
  async features(pictures: readonly Float32Array[]): Promise<{ values: Float32Array; records: Float32Array[]; places: number; width: number }> {
    using _encoding = scope();
    const { size } = this.preprocessing;
    const pixels = new Float32Array(pictures.length * 3 * size * size);
    pictures.forEach((picture, i) => {
      pixels.set(picture, i * picture.length);
    });
    const input = tensor(pixels, [pictures.length, 3, size, size]);
    const [map] = this.model.run({ [this.model.graph.inputs[0].name]: input }, [this.identity.featureMap], true);
    const [, height, wide, width] = map.shape;
    const values = (await map.data()) as Float32Array;
    const per = height * wide * width;
    return { values, records: pictures.map((_, i) => values.subarray(i * per, (i + 1) * per)), places: height * wide, width };
  }

  dispose(): void {
    this.model.dispose();
  }
}
