/** The model of data-parallel training in docs/scale.md: its limits, and one case by hand. */
import { expect, test } from 'vitest';
import { efficiency, type Machine, NETWORKS, updateSeconds } from '../scripts/scale_model.ts';

const machine: Machine = { gradientBytes: 4 << 20, microBatch: 0.1, read: 1e9, add: 1e9, write: 1e9 };
const network = { name: 'one', bandwidth: 1e9, latency: 0 };

test('two processes with a micro-batch each, by hand', () => {
  const g = (4 << 20) / 1e9;
  // The gradient, then: read, half of it out and half in, add, half of the sum round, write.
  expect(updateSeconds(machine, network, 2, 2)).toBeCloseTo(0.1 + g + g / 2 + g + g / 2 + g, 9);
});

test('one process has nothing to exchange, more processes are never ideal, better networks never worse', () => {
  for (const n of [1, 2, 4, 8, 64]) {
    const shares = NETWORKS.map((each) => efficiency(machine, each, n, n));
    if (n === 1) expect(shares).toEqual(NETWORKS.map(() => 1));
    else for (const share of shares) expect(share).toBeGreaterThan(0);
    expect(shares.every((share, i) => share <= 1 && (i === 0 || share >= shares[i - 1]))).toBe(true);
  }
});

test('more micro-batches a process hide more of the exchange', () => {
  expect(efficiency(machine, network, 4, 16)).toBeGreaterThan(efficiency(machine, network, 4, 4));
});
