/** Tells picture formats by their first bytes, so that a message can name what a file is, whatever its name says. */
import { open } from 'node:fs/promises';

const HEAD_BYTES = 64;

/** Formats with the pattern of their first bytes (as Latin-1), and whether they are decoded here; the first that fits counts. */
const FORMATS: readonly (readonly [name: string, decoded: boolean, head: RegExp])[] = [
  ['JPEG', true, /^\xff\xd8\xff/],
  ['PNG', true, /^\x89PNG/],
  ['GIF', true, /^GIF8/],
  ['WebP', true, /^RIFF[\s\S]{4}WEBP/],
  ['TIFF', true, /^(II[*+]\0|MM\0[*+])/],
  ['AVIF', true, /^[\s\S]{4}ftyp[\s\S]{0,32}avi[fs]/],
  ['SVG', true, /^(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--[\s\S]*|<!DOCTYPE svg[\s\S]*)?<svg\b/],
  ['HEIC', false, /^[\s\S]{4}ftyp(hei[cxms]|hev[cmxs]|mif1|msf1)/],
  ['BMP', false, /^BM[\s\S]{4}\0\0\0\0/],
  ['JPEG XL', false, /^(\xff\n|[\s\S]{4}JXL )/],
  ['JPEG 2000', false, /^([\s\S]{4}jP {2}|\xff\x4f\xff\x51)/],
  ['Photoshop’s PSD', false, /^8BPS/],
  ['an icon file', false, /^\0\0[^\0]\0[^\0]\0/],
  ['PDF', false, /^%PDF/],
  ['a camera’s raw file', false, /^([\s\S]{4}ftypcrx |FUJIFILM|IIU\0|IIRO)/],
  ['a video', false, /^([\s\S]{4}ftyp|[\s\S]E\xdf\xa3|RIFF[\s\S]{4}AVI )/],
  ['a web page', false, /^\s*<(!DOCTYPE html|html)/i],
  ['a pointer of Git LFS', false, /^version https:\/\/git-lfs/],
];

/** The name of the format that the first bytes tell; null for an unknown one. */
export function pictureFormat(head: Uint8Array): string | null {
  const text = Buffer.from(head.subarray(0, HEAD_BYTES)).toString('latin1');
  return FORMATS.find(([, , pattern]) => pattern.test(text))?.[0] ?? null;
}

/** Whether pictures of a format are decoded here. */
export const decodes = (format: string): boolean => FORMATS.some(([name, decoded]) => name === format && decoded);

/** The first bytes of a file. */
export async function headOf(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
