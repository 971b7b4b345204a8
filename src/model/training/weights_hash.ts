/** Names a set of weights by their values: what a run started from, and which encoder made its features. */
import { createHash } from 'node:crypto';
import type { NamedArray } from '../../nn/parameters.ts';

/** Names weights by their values, first 16 digits. */
export function weightsHash(weights: ReadonlyMap<string, NamedArray>): string {
  const hash = createHash('sha256');
  for (const [name, { data }] of [...weights].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex').slice(0, 16);
}
