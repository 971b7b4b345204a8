/** How the pixels of a picture become the numbers of an encoder. It decodes nothing, so that every host prepares pixels alike. */
import { UsageError } from '../errors.ts';
import { FILTER_NAMES, type Filter, type Part, type Rgb, resampled } from './resample.ts';

/** How an encoder expects its pixels. It is never guessed: the user or a file says it, and it is stored with the features. */
export interface Preprocessing {
  /** Side of the square that the encoder gets, in pixels. */
  size: number;
  /**
   * How a picture becomes that square: both edges or the shortest one are scaled to so many pixels, by Pillow's filter. Then the middle
   * is cut out. Without it, the host scales both edges to `size` by Lanczos.
   */
  resize?: { edge: 'both' | 'shortest'; to: number; filter: Filter };
  order: 'rgb' | 'bgr';
  /** value = (pixel / divisor − mean) / deviation, per channel in `order`. */
  divisor: number;
  mean: readonly [number, number, number];
  deviation: readonly [number, number, number];
}

/** A preprocessing that says how pictures are scaled. */
export type SaidPreprocessing = Preprocessing & Required<Pick<Preprocessing, 'resize'>>;

export const PREPROCESSINGS: Readonly<Record<string, Preprocessing>> = {
  /** torchvision and MXNet's model zoo. */
  imagenet: { size: 224, order: 'rgb', divisor: 255, mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] },
  /** Keras' ResNet50 and Caffe's models. */
  caffe: { size: 224, order: 'bgr', divisor: 1, mean: [103.939, 116.779, 123.68], deviation: [1, 1, 1] },
  /** TensorFlow's Inception-style models: −1 … 1. */
  tensorflow: { size: 224, order: 'rgb', divisor: 127.5, mean: [1, 1, 1], deviation: [1, 1, 1] },
};

/** Sides of a square that are taken. */
const MOST_PIXELS = 2048;

const NUMBER = '(-?[\\d.]+(?:e[+-]?\\d+)?)';
const DESCRIBED = new RegExp(
  `^(shortest edge|edges) to (\\d+) by (${FILTER_NAMES.join('|')}), crop (\\d+), (rgb|bgr) / ${NUMBER}, mean ${NUMBER} ${NUMBER} ${NUMBER}, deviation ${NUMBER} ${NUMBER} ${NUMBER}$`,
);
const EXAMPLE = 'shortest edge to 256 by bicubic, crop 224, rgb / 255, mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225';

/** The text that `preprocessingOf` reads: what files without a name for their preprocessing are stored with. */
export function described({ size, resize: { edge, to, filter }, order, divisor, mean, deviation }: SaidPreprocessing): string {
  const scaled = `${edge === 'shortest' ? 'shortest edge' : 'edges'} to ${to} by ${filter}, crop ${size}`;
  return `${scaled}, ${order} / ${divisor}, mean ${mean.join(' ')}, deviation ${deviation.join(' ')}`;
}

/** What is wrong with a preprocessing; null if nothing is. */
export function preprocessingFault({ size, resize, divisor, mean, deviation }: Preprocessing): string | null {
  const to = resize?.to ?? size;
  if (!(size >= 1 && to <= MOST_PIXELS)) return `squares of ${size} pixels from pictures scaled to ${to}; 1 to ${MOST_PIXELS} are taken`;
  if (size > to) return `a crop of ${size} pixels does not fit pictures that are scaled to ${to}`;
  if (!(divisor > 0 && Number.isFinite(divisor))) return `pixels cannot be divided by ${divisor}`;
  if (![...mean, ...deviation].every(Number.isFinite) || deviation.some((value) => !(value > 0))) return `a mean of ${mean} with a deviation of ${deviation}`;
  return null;
}

function parsed(text: string): SaidPreprocessing | null {
  const [matched, edge, to, filter, size, order, ...numbers] = DESCRIBED.exec(text) ?? [];
  if (matched === undefined) return null;
  const [divisor, ...rest] = numbers.map(Number);
  const channels = (first: number) => rest.slice(first, first + 3) as [number, number, number];
  const resize = { edge: edge === 'edges' ? ('both' as const) : ('shortest' as const), to: Number(to), filter: filter as Filter };
  return { size: Number(size), resize, order: order as 'rgb' | 'bgr', divisor, mean: channels(0), deviation: channels(3) };
}

/**
 * The preprocessing of a name such as "imagenet". "imagenet@448" is the same with squares of 448 pixels: a network that reduces
 * by 32 then makes a grid of 14 × 14 regions instead of 7 × 7. It may also be described in full, as `described` writes it. Throws a
 * UsageError for an unknown name, a bad size, or numbers that cannot be.
 */
export function preprocessingOf(name: string): Preprocessing {
  const own = parsed(name);
  if (own) {
    const fault = preprocessingFault(own);
    if (fault) throw new UsageError(`"${name}": ${fault}`);
    return own;
  }
  const [base, size] = name.split('@');
  const known = Object.hasOwn(PREPROCESSINGS, base) ? PREPROCESSINGS[base] : null;
  if (!known) throw new UsageError(`there is no preprocessing called "${base}" (${Object.keys(PREPROCESSINGS).join(', ')}, or in full: "${EXAMPLE}")`);
  if (size === undefined) return known;
  if (!/^\d{2,4}$/.test(size) || Number(size) < 32 || Number(size) > MOST_PIXELS) throw new UsageError(`"${name}": the size of the pictures is 32 to 2048`);
  return { ...known, size: Number(size) };
}

/** A picture's size once it is scaled, and the square that is cut out of it, in pixels of that size. */
function scaledTo(width: number, height: number, { size, resize }: Preprocessing): { width: number; height: number; square: Part } {
  const to = resize?.to ?? size;
  const long = (a: number, b: number) => (resize?.edge === 'shortest' ? Math.max(to, Math.floor((to * a) / b)) : to);
  const scaled = { width: long(width, Math.min(width, height)), height: long(height, Math.min(width, height)) };
  const square = { left: Math.floor((scaled.width - size) / 2), top: Math.floor((scaled.height - size) / 2), width: size, height: size };
  return { ...scaled, square };
}

/** The part of a picture that its encoder sees, in pixels of a picture of this size. Maps of regions cover this part. */
export function seenPart(width: number, height: number, p: Preprocessing): Part {
  const { square, ...scaled } = scaledTo(width, height, p);
  const [left, top] = [Math.round((square.left * width) / scaled.width), Math.round((square.top * height) / scaled.height)];
  const extent = (length: number, from: number, of: number, start: number) => Math.max(1, Math.min(length - start, Math.round((from * length) / of)));
  return { left, top, width: extent(width, square.width, scaled.width, left), height: extent(height, square.height, scaled.height, top) };
}

/** RGB, row by row, size · size pixels → float32 [3, size, size]. */
export function normalized(pixels: ArrayLike<number>, p: Preprocessing): Float32Array<ArrayBuffer> {
  const plane = p.size * p.size;
  const out = new Float32Array(3 * plane);
  for (let c = 0; c < 3; c++) {
    const source = p.order === 'rgb' ? c : 2 - c;
    for (let i = 0; i < plane; i++) out[c * plane + i] = (pixels[3 * i + source] / p.divisor - p.mean[c]) / p.deviation[c];
  }
  return out;
}

/** A decoded picture → float32 [3, size, size], where the preprocessing says how it is scaled (`resize`). */
export function resizedAndNormalized(picture: Rgb, p: SaidPreprocessing): Float32Array<ArrayBuffer> {
  const { width, height, square } = scaledTo(picture.width, picture.height, p);
  return normalized(resampled(picture, p.resize.filter, width, height, square), p);
}

/** Whether the preprocessing says how pictures are scaled; else the host does it. */
export function saysResize(p: Preprocessing): p is SaidPreprocessing {
  return p.resize !== undefined;
}
