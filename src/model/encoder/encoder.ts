/** The image encoder from its file, and pictures from theirs. */
import { createHash, webcrypto } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { makeFolder, onFile, removeAbandoned, renameLasting, sync, temporaryName, writeFileAtomic } from '../../data/atomic_file.ts';
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

/** A model's file, and the SHA-256 of its bytes where that is known. */
interface ModelFile {
  file: string;
  sha256: string | null;
}

/** The hash that stands beside an unpacked model; null if it cannot be read. */
function recordedHash(path: string): string | null {
  try {
    return /^[0-9a-f]{64}$/.exec(readFileSync(path, 'utf8'))?.[0] ?? null;
  } catch {
    return null;
  }
}

/**
 * The model to read. An `.onnx.gz` is unpacked once into the cache, and again if what lies there is damaged; any other file is used
 * where it is. Throws a FileError if it is no ordinary file, is too large or cannot be unpacked. A path may come from a checkpoint, so
 * nothing is read before this.
 */
async function modelFile(path: string): Promise<ModelFile> {
  const source = openFile(path);
  source.close();
  if (source.size > MAX_MODEL_BYTES) throw new FileError(path, `has ${source.size} bytes; a model has at most ${MAX_MODEL_BYTES / 2 ** 30} GiB`);
  if (!path.endsWith('.gz')) return { file: path, sha256: null };
  const { size, mtimeMs } = statSync(path);
  const key = createHash('sha256')
    .update(`${resolve(path)} ${size} ${mtimeMs}`)
    .digest('hex')
    .slice(0, 16);
  const file = join(cacheFolder(), 'models', `${key}.onnx`);
  const beside = `${file}.sha256`;
  const known = recordedHash(beside);
  if (known && existsSync(file) && (await sha256(file)) === known) return { file, sha256: known };
  const temporary = temporaryName(file);
  onFile(file, () => {
    makeFolder(dirname(file));
    removeAbandoned(file);
  });
  try {
    const hash = createHash('sha256');
    let bytes = 0;
    const bounded = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        bytes += chunk.length;
        hash.update(chunk);
        done(bytes > MAX_MODEL_BYTES ? new Error(`unpacks to more than ${MAX_MODEL_BYTES / 2 ** 30} GiB`) : null, chunk);
      },
    });
    await pipeline(createReadStream(path), createGunzip(), bounded, createWriteStream(temporary, { flags: 'wx' }));
    const found = hash.digest('hex');
    sync(temporary);
    rmSync(beside, { force: true }); // a hash stands only beside the file that it is of
    renameLasting(temporary, file);
    writeFileAtomic(beside, [found]);
    return { file, sha256: found };
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new FileError(path, `cannot be unpacked into ${file}: ${problemOf(error)}`);
  }
}

/** The path of a model's file, unpacked if it is an `.onnx.gz`. Throws as `ImageEncoder.open` does. */
export async function unpackedModel(path: string): Promise<string> {
  return (await modelFile(path)).file;
}

/** An encoder from its file. It reads pictures from files, too. */
export class ImageEncoder extends EncoderNetwork {
  /** Opens an .onnx or .onnx.gz file. Throws a UsageError if its preprocessing is neither known nor given. */
  static async open(path: string, o: EncoderOptions = {}): Promise<ImageEncoder> {
    const { file, sha256: known } = await modelFile(path);
    const hashing = known ? Promise.resolve(known) : sha256(file); // runs while the file is imported below
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
  async attempt(path: string | (() => string)): Promise<Float32Array | FileError> {
    try {
      return await this.load(typeof path === 'string' ? path : path());
    } catch (error) {
      if (error instanceof FileError) return error;
      throw error;
    }
  }
}

function refuseOther({ encoder: trainedWith }: Checkpoint, path: string, hash: string): void {
  if (hash === trainedWith.sha256) return;
  throw new GlimpseError(`${path} is not the encoder this model was trained with (its SHA-256 differs); give that file with --encoder`);
}

/** The file of the encoder that a model was trained with, unpacked, at its old path or at another one. Throws a GlimpseError for another file. */
export async function encoderFileOf(checkpoint: Checkpoint, path = checkpoint.encoder.path): Promise<string> {
  const { file, sha256: known } = await modelFile(path);
  refuseOther(checkpoint, path, known ?? (await sha256(file)));
  return file;
}

/** Opens the encoder that a model was trained with, at its old path or at another one. Throws a GlimpseError for another file. */
export async function openEncoderOf(checkpoint: Checkpoint, path = checkpoint.encoder.path): Promise<ImageEncoder> {
  const { encoder: trainedWith, config, encoderWeights } = checkpoint;
  const tuned = encoderWeights.size > 0 ? { layers: config.encoderLayers, weights: encoderWeights } : undefined;
  const encoder = await ImageEncoder.open(path, { preprocessing: trainedWith.preprocessing, ...(tuned ? { tuned } : {}) });
  try {
    refuseOther(checkpoint, path, encoder.identity.sha256);
  } catch (error) {
    encoder.dispose();
    throw error;
  }
  return encoder;
}
