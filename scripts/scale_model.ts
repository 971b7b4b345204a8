/**
 * A model of data-parallel training: how long an update takes by the number of processes and the network, with constants that the log of
 * a run gives (`exchange` in its log.jsonl). It is what docs/scale.md shows; put in your own numbers.
 *
 *   npx tsx scripts/scale_model.ts --gradient-mb 20 --micro-batch-ms 1000 --read-gb-s 1 --add-gb-s 2 --write-gb-s 1
 */
import { parseArgs } from 'node:util';

export interface Machine {
  /** Bytes of the gradients. */
  gradientBytes: number;
  /** Computing the gradient of one micro-batch, in seconds. */
  microBatch: number;
  /** Bytes a second: device to host, additions on the host, host to device. */
  read: number;
  add: number;
  write: number;
}

export interface Network {
  name: string;
  /** Bytes a second of one process in each direction, and seconds until a message begins to arrive. */
  bandwidth: number;
  latency: number;
}

/** What programs reach on such networks: about nine tenths of the line, and the delay of their usual software. */
export const NETWORKS: readonly Network[] = [
  { name: '10 GbE', bandwidth: 1.1e9, latency: 40e-6 },
  { name: '25 GbE', bandwidth: 2.8e9, latency: 30e-6 },
  { name: '100 GbE', bandwidth: 11e9, latency: 20e-6 },
  { name: 'InfiniBand 200', bandwidth: 23e9, latency: 3e-6 },
];

const BUCKET_BYTES = 4 << 20;

/**
 * Seconds of an update of `accumulate` micro-batches in `processes` processes, summed in order. Gradients of all but the last round
 * travel behind the computation of the next one. Of the last, nothing is counted as hidden, though buckets are read during the
 * backward pass: an upper bound.
 */
export function updateSeconds(
  { gradientBytes: g, microBatch, read, add, write }: Machine,
  { bandwidth, latency }: Network,
  processes: number,
  accumulate: number,
): number {
  const rounds = accumulate / processes;
  if (processes === 1) return rounds * microBatch;
  const others = (processes - 1) / processes;
  const buckets = Math.ceil(g / BUCKET_BYTES);
  const message = (others * g) / bandwidth + buckets * Math.log2(processes) * latency;
  const round = g / read + message + g / add; // all-to-all; each process adds its part of every gradient
  const hidden = Math.max(0, rounds - 1) * Math.max(microBatch, round);
  return hidden + microBatch + round + message + g / write; // and the all-gather
}

/** Share of the ideal speed: 1 if N processes train N times as fast as one. */
export function efficiency(machine: Machine, network: Network, processes: number, accumulate: number): number {
  return updateSeconds(machine, network, 1, accumulate) / updateSeconds(machine, network, processes, accumulate) / processes;
}

const COUNTS = [1, 2, 4, 8, 16, 32, 64];

/** A table in Markdown: share of the ideal speed, by network and number of processes, with `perProcess` micro-batches of an update each. */
export function table(machine: Machine, perProcess: number): string {
  const head = `| network | ${COUNTS.map((n) => `N = ${n}`).join(' | ')} |\n|---|${COUNTS.map(() => '---').join('|')}|`;
  const rows = NETWORKS.map((network) => {
    const shares = COUNTS.map((n) => `${Math.round(100 * efficiency(machine, network, n, n * perProcess))} %`);
    return `| ${network.name} | ${shares.join(' | ')} |`;
  });
  return [head, ...rows].join('\n');
}

function main(): void {
  const number = (text: string, name: string) => {
    const value = Number(text);
    if (!(value > 0)) throw new Error(`--${name}: expected a positive number, got "${text}"`);
    return value;
  };
  const { values } = parseArgs({
    options: {
      'gradient-mb': { type: 'string', default: '20.4' },
      'micro-batch-ms': { type: 'string', default: '1000,100,20' },
      'per-process': { type: 'string', default: '1,4' },
      'read-gb-s': { type: 'string', default: '1' },
      'add-gb-s': { type: 'string', default: '1' },
      'write-gb-s': { type: 'string', default: '1' },
    },
  });
  const given = (name: keyof typeof values) => number(values[name] as string, name);
  const list = (name: keyof typeof values) => (values[name] as string).split(',').map((text) => number(text, name));
  for (const ms of list('micro-batch-ms'))
    for (const perProcess of list('per-process')) {
      const machine = {
        ...{ gradientBytes: given('gradient-mb') * 1e6, microBatch: ms / 1000 },
        ...{ read: given('read-gb-s') * 1e9, add: given('add-gb-s') * 1e9, write: given('write-gb-s') * 1e9 },
      };
      console.log(`A micro-batch of ${ms} ms, ${perProcess} of an update in each process:\n\n${table(machine, perProcess)}\n`);
    }
}

if (process.argv[1]?.endsWith('scale_model.ts')) main();
