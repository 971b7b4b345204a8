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

/** Saxe et al. 2014, for recurrent weights [H, G H]: each H × H block is orthogonal (modified Gram–Schmidt, twice). */
export const orthogonalBlocks: Initializer = ([rows, columns], seed, name) => {
  const random = new Random(seed, `init ${name}`);
  const out = new Float32Array(rows * columns);
  for (let first = 0; first < columns; first += rows) {
    const block = Array.from({ length: rows }, () => Float64Array.from({ length: rows }, () => random.normal()));
    block.forEach((row, i) => {
      for (let pass = 0; pass < 2; pass++) {
        for (let j = 0; j < i; j++) {
          const other = block[j];
          let dot = 0;
          for (let k = 0; k < rows; k++) dot += row[k] * other[k];
          for (let k = 0; k < rows; k++) row[k] -= dot * other[k];
        }
      }
      const norm = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
      for (let k = 0; k < rows; k++) row[k] /= norm;
      for (let k = 0; k < rows && first + k < columns; k++) out[i * columns + first + k] = row[k];
    });
  }
  return out;
};
