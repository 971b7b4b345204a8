/** The image encoder from its file, and pictures from theirs. */
import { createHash, webcrypto } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { makeFolder, onFile, removeAbandoned, renameLasting, sync, temporaryName, writeFileAtomic } from '../../data/atomic_file.ts';
import type { EncoderIdentity } from '../../data/encoder_identity.ts';
import { openFile } from '../../data/file_source.ts';
import { loadImage, type PictureFile } from '../../data/images.ts';
import { described, preprocessingOf } from '../../data/preprocessing.ts';
import { PREPROCESSOR_CONFIG, readPreprocessorConfig } from '../../data/preprocessor_config.ts';
import { problemOf } from '../../data/validation.ts';
import { FileError, GlimpseError, UsageError } from '../../errors.ts';
import { cacheFolder } from '../../platform/node/cache.ts';
import { otherFilesOf } from '../export/encoder_model.ts';
import type { Checkpoint } from '../training/checkpoint.ts';
import { weightsHash } from '../training/weights_hash.ts';
import { openVision, readVisionConfig, type VisionFiles, visionFiles } from './hugging_face.ts';
import { EncoderNetwork, type EncoderOptions, optionsOf, settledPreprocessing } from './network.ts';
import type { VisionConfig } from './vit.ts';

export type { EncoderOptions } from './network.ts';

/** Files up to this size are hashed in one piece, on another thread. */
const HASHED_WHOLE = 1 << 30;

/** The SHA-256 of a file, or of several one after the other. */
async function sha256(...paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) {
    try {
      if (paths.length === 1 && statSync(path).size <= HASHED_WHOLE)
        return Buffer.from(await webcrypto.subtle.digest('SHA-256', readFileSync(path))).toString('hex');
      for await (const piece of createReadStream(path, { highWaterMark: 1 << 22 })) hash.update(piece as Buffer);
    } catch (error) {
      throw new FileError(path, problemOf(error));
    }
  }
  return hash.digest('hex');
}

/** No encoder is larger. The limit guards against a small archive that unpacks to a huge file. */
const MAX_MODEL_BYTES = 4 * 2 ** 30;

/** Throws a FileError if the path leads to no ordinary file, or to one that is too large. */
function checkSize(path: string): void {
  const source = openFile(path);
  source.close();
  if (source.size > MAX_MODEL_BYTES) throw new FileError(path, `has ${source.size} bytes; a model has at most ${MAX_MODEL_BYTES / 2 ** 30} GiB`);
}

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
  checkSize(path);
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

/** The preprocessing that a file beside the encoder says; null without one. */
function saidPreprocessing(folder: string, modelType?: string): string | null {
  const path = join(folder, PREPROCESSOR_CONFIG);
  return existsSync(path) ? described(readPreprocessorConfig(path, modelType)) : null;
}

/** Refuses a preprocessing that is given where a file says another one. */
function checkSaid(path: string, said: string | null, { preprocessing }: EncoderOptions): void {
  if (said === null || preprocessing === undefined || preprocessing === said) return;
  throw new UsageError(
    `${path}: the ${PREPROCESSOR_CONFIG} beside it says "${said}", --preprocess says "${preprocessing}"; leave the option out, or move the file`,
  );
}

/** An encoder from its files. It reads pictures from files, too. */
export class ImageEncoder extends EncoderNetwork {
  /**
   * Opens an .onnx or .onnx.gz file; or a vision transformer of Hugging Face, by its folder or the .safetensors file in it. A
   * `preprocessor_config.json` beside the file says how pixels are prepared. Throws a UsageError if neither it nor `preprocessing` does and
   * the file is not known, or if both do and differ.
   */
  static async open(path: string, o: EncoderOptions = {}): Promise<ImageEncoder> {
    const files = visionFiles(path);
    if (files) {
      const { config, modelType } = readVisionConfig(files.config);
      const said = saidPreprocessing(files.folder, modelType);
      checkSaid(path, said, o);
      return ImageEncoder.ofVision(path, files, config, said === null ? o : { ...o, preprocessing: said });
    }
    const said = saidPreprocessing(dirname(path));
    checkSaid(path, said, o);
    return ImageEncoder.ofGraph(path, said === null ? o : { ...o, preprocessing: said });
  }

  /**
   * Opens the encoder of an identity, at its old path or at another one, with the same preprocessing and features. Throws a GlimpseError
   * that begins with `otherwise` if it is another one.
   */
  static async reopen(identity: EncoderIdentity, path: string, otherwise: string, tuned?: EncoderOptions['tuned']): Promise<ImageEncoder> {
    const o = optionsOf(identity, tuned);
    const files = visionFiles(path);
    const encoder = await (files
      ? ImageEncoder.ofVision(path, files, readVisionConfig(files.config).config, o)
      : ImageEncoder.ofGraph(path, o, identity.sha256));
    if (encoder.identity.sha256 === identity.sha256) return encoder;
    encoder.dispose();
    throw new GlimpseError(`${path} ${otherwise}`);
  }

  private static async ofVision(path: string, files: VisionFiles, config: VisionConfig, o: EncoderOptions): Promise<ImageEncoder> {
    if (o.grid !== undefined)
      throw new UsageError(`${path} makes a grid of ${config.side / config.patch} × ${config.side / config.patch} regions; --grid cannot change it`);
    if (o.layout !== undefined && o.layout !== 'NTC') throw new UsageError(`${path} gives tokens, [N, T, C]; --layout ${o.layout} does not fit`);
    const { weights } = files;
    checkSize(weights);
    const hashing = sha256(files.config, weights); // runs while the weights are read below
    hashing.catch(() => {}); // an error is thrown where this is awaited
    const name = resolve(path);
    const { size } = preprocessingOf(settledPreprocessing(name, o)); // before the weights are read
    const tuned = o.tuned?.weights ? weightsHash(o.tuned.weights) : null;
    const encoder = new ImageEncoder({ name, backbone: openVision(files, config, o, size) }, '', o, tuned);
    encoder.identity.sha256 = await hashing;
    return encoder;
  }

  /** `known` is the hash of an identity. Those of older versions do not cover data in files beside the graph. */
  private static async ofGraph(path: string, o: EncoderOptions, known?: string): Promise<ImageEncoder> {
    const { file, sha256: recorded } = await modelFile(path);
    const hashing = recorded ? Promise.resolve(recorded) : sha256(file); // runs while the file is imported below
    hashing.catch(() => {}); // an error is thrown where this is awaited
    const tuned = o.tuned?.weights ? weightsHash(o.tuned.weights) : null;
    const hash = o.preprocessing ? '' : await hashing; // without a name for the preprocessing, the hash must tell it
    const source = openFile(file);
    const beside = new Set<string>();
    const watched = {
      ...source,
      name: resolve(path),
      beside(location: string) {
        const other = source.beside(location);
        beside.add(other.name);
        return other;
      },
    };
    const encoder = new ImageEncoder(watched, hash, o, tuned);
    const ofFile = await hashing;
    encoder.identity.sha256 = beside.size === 0 || ofFile === known ? ofFile : await sha256(file, ...beside);
    return encoder;
  }

  /** Reads a picture file and prepares its pixels: [3 · size · size]. Throws a FileError if it cannot be read. */
  async load(picture: PictureFile | Promise<PictureFile>): Promise<Float32Array> {
    return loadImage(await picture, this.preprocessing);
  }

  /** As `load`, of a picture whose file is in memory; errors call it `name`. */
  loadBytes(name: string, bytes: Uint8Array): Promise<Float32Array> {
    return loadImage({ name, bytes }, this.preprocessing);
  }

  /** As `load`, but returns the error of a bad picture, so that other pictures loaded with it are not lost. */
  async attempt(picture: PictureFile | (() => Promise<PictureFile>)): Promise<Float32Array | FileError> {
    try {
      return await this.load(typeof picture === 'function' ? picture() : picture);
    } catch (error) {
      if (error instanceof FileError) return error;
      throw error;
    }
  }
}

const OTHER = 'is not the encoder this model was trained with (its SHA-256 differs); give that file with --encoder';

/**
 * The file of the encoder that a model was trained with, unpacked, or its folder. It lies at its old path or at `path`. Throws a
 * GlimpseError for another encoder.
 */
export async function encoderFileOf({ encoder }: Checkpoint, path = encoder.path): Promise<string> {
  const files = visionFiles(path);
  if (files) {
    if ((await sha256(files.config, files.weights)) === encoder.sha256) return path;
    throw new GlimpseError(`${path} ${OTHER}`);
  }
  const { file, sha256: known } = await modelFile(path);
  if ((known ?? (await sha256(file))) === encoder.sha256) return file;
  const beside = filesBeside(file);
  if (beside && (await sha256(file, ...beside)) === encoder.sha256) return file;
  throw new GlimpseError(`${path} ${OTHER}`);
}

/** The files in which other weights of a graph lie; null for a file that is no graph, or names one that cannot be read. */
function filesBeside(path: string): string[] | null {
  const source = openFile(path);
  try {
    return otherFilesOf(openFile(path)).map((location) => {
      const other = source.beside(location);
      other.close();
      return other.name;
    });
  } catch (error) {
    if (error instanceof FileError) return null;
    throw error;
  } finally {
    source.close();
  }
}

/** Opens the encoder that a model was trained with, at its old path or at another one. Throws a GlimpseError for another file. */
export function openEncoderOf({ encoder, config, encoderWeights }: Checkpoint, path = encoder.path): Promise<ImageEncoder> {
  const tuned = encoderWeights.size > 0 ? { layers: config.encoderLayers, weights: encoderWeights } : undefined;
  return ImageEncoder.reopen(encoder, path, OTHER, tuned);
}
