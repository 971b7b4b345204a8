/**
 * Turns photographs into numbers: decode (EXIF applied, alpha flattened, sRGB), scale, and normalize for the encoder. All commands
 * read pictures here, so that they agree on which ones are sound, and a bad one is told with its cause.
 */
import { stat } from 'node:fs/promises';
import sharp, { type Sharp } from 'sharp';
import { FileError } from '../errors.ts';
import { decodes, headOf, pictureFormat } from './picture_format.ts';
import { normalized, type Preprocessing, resizedAndNormalized, saysResize } from './preprocessing.ts';
import { problemOf } from './validation.ts';

const MAX_PIXELS = 100_000_000;
/** The most bytes of a picture's file that are read. */
export const MAX_BYTES = 512 * 2 ** 20;

/** Opens a picture file as a viewer shows it: turned by EXIF, without transparency, in sRGB. Reading it may still throw. */
function openPicture(picture: string | Uint8Array): Sharp {
  return sharp(picture, { failOn: 'error', limitInputPixels: MAX_PIXELS }).autoOrient().flatten({ background: '#fff' }).toColourspace('srgb').removeAlpha();
}

/** The last line tells the cause where a decoder tells several; its path is that of the error already. */
const decoderProblem = (error: unknown) => problemOf(error instanceof Error ? new Error(error.message.trim().split('\n').pop()) : error);

/** The cause, and what helps. */
async function causeOf(picture: string | Uint8Array, error: unknown): Promise<string> {
  const format = pictureFormat(typeof picture === 'string' ? await headOf(picture) : picture);
  if (format === null) return 'it is no picture in a format that is known here (JPEG, PNG, WebP, GIF, TIFF, AVIF); convert it, e.g. to JPEG';
  if (!decodes(format)) return `${format} cannot be decoded here; convert it, e.g. to JPEG`;
  const problem = decoderProblem(error);
  if (!/exceeds pixel limit/.test(problem)) return `its ${format} is damaged or of a kind that is not decoded: ${problem}`;
  const { width, height } = await sharp(picture, { limitInputPixels: false }).metadata();
  return `it has ${width} × ${height} pixels, and ${MAX_PIXELS / 1e6} million are the most that is read; scale it down`;
}

const KINDS = [
  ['isDirectory', 'it is a folder'],
  ['isFIFO', 'it is a named pipe'],
  ['isSocket', 'it is a socket'],
  ['isCharacterDevice', 'it is a device'],
  ['isBlockDevice', 'it is a device'],
] as const;

/** Why a file cannot be a picture, before it is opened; null if it may be one. A named pipe would wait for ever. */
async function refusedUnopened(path: string): Promise<string | null> {
  try {
    const file = await stat(path);
    const kind = KINDS.find(([is]) => file[is]());
    if (kind) return `${kind[1]}; a picture file is expected`;
    if (file.size === 0) return 'the file is empty';
    return file.size > MAX_BYTES ? `it has ${Math.ceil(file.size / 2 ** 20)} MiB, and ${MAX_BYTES / 2 ** 20} are the most that is read; scale it down` : null;
  } catch (error) {
    return problemOf(error);
  }
}

/** A picture's file by its path, or the bytes of one with what errors call it. */
export type PictureFile = string | { name: string; bytes: Uint8Array };

/** What errors call a picture. */
export const pictureName = (picture: PictureFile): string => (typeof picture === 'string' ? picture : picture.name);

/** Decodes a picture from its file, or from the bytes of one. Throws a FileError with the cause and what helps. */
export async function decodePicture<T>(picture: PictureFile, decode: (picture: Sharp) => Promise<T>): Promise<T> {
  const path = pictureName(picture);
  const source = typeof picture === 'string' ? picture : picture.bytes;
  const refused = typeof source === 'string' ? await refusedUnopened(source) : source.length === 0 ? 'the file is empty' : null;
  if (refused !== null) throw new FileError(path, `cannot be read as a picture: ${refused}`);
  try {
    return await decode(openPicture(source));
  } catch (error) {
    throw new FileError(path, `cannot be read as a picture: ${await causeOf(source, error).catch(() => decoderProblem(error))}`);
  }
}

/** One photograph as float32 [3, size, size], from its file or from the bytes of one. Throws a FileError that names it. */
export async function loadImage(picture: PictureFile, p: Preprocessing): Promise<Float32Array> {
  const path = pictureName(picture);
  if (saysResize(p)) {
    const { data, info } = await decodePicture(picture, (opened) => opened.raw().toBuffer({ resolveWithObject: true }));
    if (info.channels !== 3) throw new FileError(path, `decoded to ${info.channels} channels, 3 are expected`);
    return resizedAndNormalized({ data, width: info.width, height: info.height }, p);
  }
  const pixels = await decodePicture(picture, (opened) => opened.resize(p.size, p.size, { fit: 'fill' }).raw().toBuffer());
  if (pixels.length !== 3 * p.size ** 2) throw new FileError(path, `decoded to ${pixels.length} bytes, ${3 * p.size ** 2} are expected`);
  return normalized(pixels, p);
}

/** The error that `loadImage` would throw for a picture, or null. All of it is decoded: damage may stand at its end. */
export async function inspectPicture(picture: PictureFile): Promise<FileError | null> {
  try {
    await decodePicture(picture, (opened) => opened.resize(8, 8, { fit: 'fill' }).raw().toBuffer());
    return null;
  } catch (error) {
    if (error instanceof FileError) return error;
    throw error;
  }
}
