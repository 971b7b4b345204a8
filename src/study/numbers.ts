/** Numbers of a traced tensor, and how they are shown. Pages read these without the engine. */

/** Numbers about a tensor, and some of its values. */
export interface TensorReport {
  /** TeX. */
  name: string;
  role: 'in' | 'out';
  /** nat for scores and losses, which are logarithms; 1 for all others. */
  unit: 'nat' | '1';
  shape: number[];
  min: number;
  max: number;
  mean: number;
  std: number;
  norm: number;
  /** Of the gates of a cell: the share within 0.05 of the ends of their range. */
  saturated: number | null;
  /** The first values, or all of them. */
  values: number[];
}

/** A number as the page and the terminal show it. */
export const short = (value: number) => (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5) ? value.toFixed(4) : value.toExponential(2));
