/** Initial weights, drawn on the host from counter-based numbers. The same seed and name give the same tensor on any machine. */
import { Random } from '../random.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';

/** Makes the initial values of a parameter: the same seed and name give the same values. */
export type Initializer = (shape: Shape, seed: number, name: string) => Float32Array;

/** All 0. */
export const zerosInit: Initializer = (shape) => new Float32Array(sizeOf(shape));

/** All of one value. */
export function constant(value: number): Initializer {
  return (shape) => new Float32Array(sizeOf(shape)).fill(value);
}

/** Uniform in [low, high). */
export function uniform(low: number, high: number): Initializer {
  return (shape, seed, name) => {
    const random = new Random(seed, `init ${name}`);
    return Float32Array.from({ length: sizeOf(shape) }, () => random.uniform(low, high));
  };
}

/** Glorot and Bengio 2010: U(−r, r), r = √(6 / (fan_in + fan_out)), of a matrix [fan_in, fan_out]. */
export const glorotUniform: Initializer = (shape, seed, name) => {
  const radius = Math.sqrt(6 / (shape[0] + (shape[1] ?? 1)));
  return uniform(-radius, radius)(shape, seed, name);
};

/** The values of another initializer, times a factor. */
export function scaled(initializer: Initializer, factor: number): Initializer {
  return factor === 1 ? initializer : (shape, seed, name) => initializer(shape, seed, name).map((value) => factor * value);
}

/** He et al. 2015 for a convolution [KH, KW, C, O] before a ReLU: N(0, 2 / (KH KW C)). */
export const heNormal: Initializer = (shape, seed, name) => {
  const random = new Random(seed, `init ${name}`);
  const deviation = Math.sqrt(2 / (sizeOf(shape) / shape[shape.length - 1]));
  return Float32Array.from({ length: sizeOf(shape) }, () => deviation * random.normal());
};

/** Rows of a block that are taken off a row at once, so that sums do not wait for one another. */
const TOGETHER = 4;

/** Takes off the row at `at` what lies along the `count` orthonormal rows of length `length` at the start (Gram–Schmidt). */
function project(rows: Float64Array, at: number, count: number, length: number): void {
  let a = 0;
  for (; a + TOGETHER * length <= count * length; a += TOGETHER * length) {
    const [b, c, d] = [a + length, a + 2 * length, a + 3 * length];
    let [da, db, dc, dd] = [0, 0, 0, 0];
    for (let k = 0; k < length; k++) {
      const value = rows[at + k];
      da += value * rows[a + k];
      db += value * rows[b + k];
      dc += value * rows[c + k];
      dd += value * rows[d + k];
    }
    for (let k = 0; k < length; k++) rows[at + k] -= da * rows[a + k] + db * rows[b + k] + dc * rows[c + k] + dd * rows[d + k];
  }
  for (; a < count * length; a += length) {
    let dot = 0;
    for (let k = 0; k < length; k++) dot += rows[at + k] * rows[a + k];
    for (let k = 0; k < length; k++) rows[at + k] -= dot * rows[a + k];
  }
}

function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

/**
 * Saxe et al. 2014, for recurrent weights [H, G H]: each H × H block is orthogonal, by Gram–Schmidt in float64. A row that lost nine
 * tenths of its length is projected again, as rounding then shows (Parlett, The Symmetric Eigenvalue Problem, section 6.9).
 */
export const orthogonalBlocks: Initializer = ([rows, columns], seed, name) => {
  const random = new Random(seed, `init ${name}`);
  const out = new Float32Array(rows * columns);
  for (let first = 0; first < columns; first += rows) {
    const block = Float64Array.from({ length: rows * rows }, () => random.normal());
    for (let i = 0; i < rows; i++) {
      const row = block.subarray(i * rows, (i + 1) * rows);
      let before: number;
      do {
        before = norm(row);
        project(block, i * rows, i, rows);
      } while (norm(row) < before / 10);
      const length = norm(row);
      for (let k = 0; k < rows; k++) row[k] /= length;
      out.set(row.subarray(0, columns - first), i * columns + first);
    }
  }
  return out;
};
