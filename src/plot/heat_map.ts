/** Attention drawn on its picture: the map is scaled up smoothly, and the picture is dark where the model does not look. */
import escapeHtml from 'escape-html';
import sharp, { type Sharp } from 'sharp';
import { decodePicture, type PictureFile } from '../data/images.ts';
import { type Preprocessing, saysResize, seenPart } from '../data/preprocessing.ts';
import { GlimpseError } from '../errors.ts';
import { printable } from '../printable.ts';
import { glow, weightBytes } from './glow.ts';

/** RGB, row by row. */
export interface Pixels {
  data: Uint8Array;
  width: number;
  height: number;
}

/** A picture file scaled to a height: all of it, or the part that the encoder of this preprocessing sees. */
export async function readPixels(file: PictureFile, height: number, seenBy?: Preprocessing): Promise<Pixels> {
  return decodePicture(file, async (picture) => {
    let shown = picture;
    if (seenBy && saysResize(seenBy)) {
      const whole = await picture.raw().toBuffer({ resolveWithObject: true });
      const { width, height: rows, channels } = whole.info;
      shown = sharp(whole.data, { raw: { width, height: rows, channels } }).extract(seenPart(width, rows, seenBy));
    }
    const { data, info } = await shown.resize({ height }).raw().toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`it has ${info.channels} channels`);
    return { data, width: info.width, height: info.height };
  });
}

/**
 * Draws alpha [regions] on the picture. Its regions are a square grid in row order that covers all of the pixels. The picture is
 * dark at the smallest weight and bright at the largest. Throws a GlimpseError if the grid is not square.
 */
export async function heatMap(picture: Pixels, alpha: Float32Array): Promise<Pixels> {
  const side = Math.sqrt(alpha.length);
  if (!Number.isInteger(side)) throw new GlimpseError(`a map of ${alpha.length} regions is no square grid`);
  const { width, height } = picture;
  const map = weightBytes(alpha);
  const smooth = await sharp(map, { raw: { width: side, height: side, channels: 1 } })
    .resize(width, height, { kernel: 'cubic', fit: 'fill' })
    .toColourspace('b-w')
    .raw()
    .toBuffer();
  const data = Uint8Array.from(picture.data, (value, i) => glow(value, i % 3, smooth[Math.floor(i / 3)] / 255));
  return { data, width, height };
}

function encoder({ data, width, height }: Pixels): Sharp {
  return sharp(data, { raw: { width, height, channels: 3 } });
}

/** The pixels as a data URL for a page. Photographs are smaller as JPEG, drawings as PNG. */
export async function dataUrl(pixels: Pixels, format: 'jpeg' | 'png', scaledTo?: number): Promise<string> {
  const scaled = scaledTo ? encoder(pixels).resize(scaledTo, scaledTo, { kernel: 'cubic' }) : encoder(pixels);
  const bytes = await (format === 'png' ? scaled.png() : scaled.jpeg({ quality: 82 })).toBuffer();
  return `data:image/${format};base64,${bytes.toString('base64')}`;
}

const GAP = 6;
const LABEL = 22;
/** A label of one long word needs this width. */
const LEAST_CELL = 128;

/** The pictures in one PNG, at most `perRow` in a row, each with its label below it. */
export async function contactSheet(cells: readonly { pixels: Pixels; label: string }[], perRow: number): Promise<Buffer> {
  const { width, height } = cells[0].pixels;
  const cell = Math.max(width, LEAST_CELL);
  const columns = Math.min(perRow, cells.length);
  const rows = Math.ceil(cells.length / perRow);
  const size = { width: columns * (cell + GAP) + GAP, height: rows * (height + LABEL + GAP) + GAP };
  const place = (i: number) => ({ left: GAP + (i % perRow) * (cell + GAP), top: GAP + Math.floor(i / perRow) * (height + LABEL + GAP) });
  const labels = cells.map(({ label }, i) => {
    const { left, top } = place(i);
    return `<text x="${left + cell / 2}" y="${top + height + 16}" text-anchor="middle" font-family="sans-serif" font-size="14" fill="#202124">${escapeHtml(printable(label))}</text>`;
  });
  const text = Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${size.width}" height="${size.height}">${labels.join('')}</svg>`);
  const pictures = await Promise.all(
    cells.map(async ({ pixels }, i) => ({
      input: await encoder(pixels).png().toBuffer(),
      top: place(i).top,
      left: place(i).left + Math.floor((cell - width) / 2),
    })),
  );
  return sharp({ create: { ...size, channels: 3, background: '#fff' } })
    .composite([...pictures, { input: text, left: 0, top: 0 }])
    .png()
    .toBuffer();
}
