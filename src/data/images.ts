/** Turns photographs into numbers: decode (EXIF applied, alpha flattened, sRGB), scale, and normalize for the encoder. */
import sharp, { type Sharp } from 'sharp';
import { FileError, messageOf } from '../errors.ts';
import { normalized, type Preprocessing } from './preprocessing.ts';

const MAX_PIXELS = 100_000_000;

/** Opens a picture file as a viewer shows it: turned by EXIF, without transparency, in sRGB. Reading it may still throw. */
export function openPicture(picture: string | Uint8Array): Sharp {
  return sharp(picture, { failOn: 'error', limitInputPixels: MAX_PIXELS }).autoOrient().flatten({ background: '#fff' }).toColourspace('srgb').removeAlpha();
}

/** The error for a picture that cannot be read. */
export function pictureFault(path: string, error: unknown): FileError {
  return new FileError(path, `cannot be read as a picture: ${messageOf(error)}`);
}

/** One photograph as float32 [3, size, size], from its file or from the bytes of one. Throws a FileError that names it. */
export async function loadImage(path: string, p: Preprocessing, bytes?: Uint8Array): Promise<Float32Array> {
  let pixels: Buffer;
  try {
    pixels = await openPicture(bytes ?? path)
      .resize(p.size, p.size, { fit: 'fill' })
      .raw()
      .toBuffer();
  } catch (error) {
    throw pictureFault(path, error);
  }
  if (pixels.length !== 3 * p.size ** 2) throw new FileError(path, `decoded to ${pixels.length} bytes, ${3 * p.size ** 2} are expected`);
  return normalized(pixels, p);
}
