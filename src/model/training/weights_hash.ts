/** A hash of weights. It tells which weights a run started from, and which encoder made its features. */
import { createHash } from 'node:crypto';
import type { NamedArray } from '../../nn/parameters.ts';

/** The first 16 digits of the SHA-256 of the weights' names and values. */
export function weightsHash(weights: ReadonlyMap<string, NamedArray>): string {
  const hash = createHash('sha256');
  for (const [name, { data }] of [...weights].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex').slice(0, 16);
}
