/** How attention is laid over a picture: dark where the model does not look, warm where it does. Pages and files draw it alike. */

const GLOW = [255, 210, 80];

/** Alpha as bytes: 0 at the smallest weight, 255 at the largest. */
export function weightBytes(alpha: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < alpha.length; i++) {
    least = Math.min(least, alpha[i]);
    most = Math.max(most, alpha[i]);
  }
  const range = Math.max(1e-12, most - least);
  return Uint8Array.from(alpha, (value) => Math.round((255 * (value - least)) / range));
}

/** A channel (0 to 2) of a pixel under a weight from 0 to 1. */
export function glow(value: number, channel: number, weight: number): number {
  return Math.round(value * (0.25 + 0.45 * weight) + 0.3 * weight * GLOW[channel]);
}
