/** The image encoder from its file, and pictures from theirs. */
import { createHash, webcrypto } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { openFile } from '../../data/file_source.ts';
import { loadImage } from '../../data/images.ts';
import { problemOf } from '../../data/validation.ts';
import { FileError, GlimpseError } from '../../errors.ts';
import { cacheFolder } from '../../platform/node/cache.ts';
import type { Checkpoint } from '../training/checkpoint.ts';
import { weightsHash } from '../training/weights_hash.ts';
import { EncoderNetwork, type EncoderOptions } from './network.ts';

export type { EncoderOptions } from './network.ts';

/** Files up to this size are hashed in one piece, on another thread. */
const HASHED_WHOLE = 1 << 30;

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    if (statSync(path).size <= HASHED_WHOLE) return Buffer.from(await webcrypto.subtle.digest('SHA-256', readFileSync(path))).toString('hex');
    await pipeline(createReadStream(path), hash);
  } catch (error) {
    throw new FileError(path, problemOf(error));
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
    throw new FileError(path, `cannot be unpacked: ${problemOf(error)}`);
  }
  return target;
}

/** An encoder from its file. It reads pictures from files, too. */
export class ImageEncoder extends EncoderNetwork {
  /** Opens an .onnx or .onnx.gz file. Throws a UsageError if its preprocessing is neither known nor given. */
  static async open(path: string, o: EncoderOptions = {}): Promise<ImageEncoder> {
    const file = await unpackedModel(path);
    const hashing = sha256(file); // runs while the file is imported below
    hashing.catch(() => {}); // an error is thrown where this is awaited
    const tuned = o.tuned?.weights ? weightsHash(o.tuned.weights) : null;
    const hash = o.preprocessing ? '' : await hashing; // without a name for the preprocessing, the hash must tell it
    const encoder = new ImageEncoder({ ...openFile(file), name: resolve(path) }, hash, o, tuned);
    encoder.identity.sha256 = await hashing;
    return encoder;
  }

  /** Reads a picture file and prepares its pixels: [3 · size · size]. Throws a FileError if it cannot be read. */
  load(path: string): Promise<Float32Array> {
    return loadImage(path, this.preprocessing);
  }

  /** As `load`, of a picture whose file is in memory; errors call it `name`. */
  loadBytes(name: string, bytes: Uint8Array): Promise<Float32Array> {
    return loadImage(name, this.preprocessing, bytes);
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
}

/** Opens the encoder that a model was trained with, at its old path or at another one. Throws a GlimpseError for another file. */
export async function openEncoderOf({ encoder: trainedWith, config, encoderWeights }: Checkpoint, path = trainedWith.path): Promise<ImageEncoder> {
  const tuned = encoderWeights.size > 0 ? { layers: config.encoderLayers, weights: encoderWeights } : undefined;
  const encoder = await ImageEncoder.open(path, { preprocessing: trainedWith.preprocessing, ...(tuned ? { tuned } : {}) });
  if (encoder.identity.sha256 === trainedWith.sha256) return encoder;
  encoder.dispose();
  throw new GlimpseError(`${path} is not the encoder this model was trained with (its SHA-256 differs); give that file with --encoder`);
}
