/** How the pixels of a picture become the numbers of an encoder. It decodes nothing, so that every host prepares pixels alike. */
import { UsageError } from '../errors.ts';

/** How an encoder expects its pixels. It is never guessed: the user names it, and it is stored with the features. */
export interface Preprocessing {
  /** Pictures are scaled to a square with this side, in pixels. Their proportions change. */
  size: number;
  order: 'rgb' | 'bgr';
  /** value = (pixel / divisor − mean) / deviation, per channel in `order`. */
  divisor: number;
  mean: readonly [number, number, number];
  deviation: readonly [number, number, number];
}

export const PREPROCESSINGS: Readonly<Record<string, Preprocessing>> = {
  /** torchvision and MXNet's model zoo. */
  imagenet: { size: 224, order: 'rgb', divisor: 255, mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] },
  /** Keras' ResNet50 and Caffe's models. */
  caffe: { size: 224, order: 'bgr', divisor: 1, mean: [103.939, 116.779, 123.68], deviation: [1, 1, 1] },
  /** TensorFlow's Inception-style models: −1 … 1. */
  tensorflow: { size: 224, order: 'rgb', divisor: 127.5, mean: [1, 1, 1], deviation: [1, 1, 1] },
};

/**
 * The preprocessing of a name such as "imagenet". "imagenet@448" is the same with squares of 448 pixels: a network that reduces
 * by 32 then makes a grid of 14 × 14 regions instead of 7 × 7. Throws a UsageError for an unknown name or a bad size.
 */
export function preprocessingOf(name: string): Preprocessing {
  const [base, size] = name.split('@');
  const known = Object.hasOwn(PREPROCESSINGS, base) ? PREPROCESSINGS[base] : null;
  if (!known) throw new UsageError(`there is no preprocessing called "${base}" (${Object.keys(PREPROCESSINGS).join(', ')})`);
  if (size === undefined) return known;
  if (!/^\d{2,4}$/.test(size) || Number(size) < 32 || Number(size) > 2048) throw new UsageError(`"${name}": the size of the pictures is 32 to 2048`);
  return { ...known, size: Number(size) };
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
