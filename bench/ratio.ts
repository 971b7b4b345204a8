/** How many times as long: two medians beside each other, as bootstrapRatio (sampling.ts) finds it. */

/** A ratio of two medians and its 95 % interval. */
export interface Ratio {
  ratio: number;
  low: number;
  high: number;
  /** Whether the interval leaves out 1. */
  verdict: 'slower' | 'faster' | 'not distinguishable';
}

/** A ratio with its interval, or that there is none to be told. `times` stands behind the ratio. */
export function ratioText({ ratio, low, high, verdict }: Ratio, times = ' ×'): string {
  if (verdict === 'not distinguishable') return `not distinguishable (${low.toFixed(2)}–${high.toFixed(2)})`;
  return `${ratio.toFixed(2)}${times} (${low.toFixed(2)}–${high.toFixed(2)})`;
}
