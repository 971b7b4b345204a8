/**
 * Times the parts of a gradient exchange by themselves: MPI's operations on a bucket, a small sum, and additions on the host. Medians,
 * in the first process.
 *
 *   mpirun -np 2 --bind-to none npx tsx scripts/mpi_exchange.ts
 */
import { fromBfloat } from '../src/data/bfloat.ts';
import { addPart, toBits16 } from '../src/model/training/gradient_sum.ts';
import { launchedAs } from '../src/platform/node/launcher.ts';
import { Mpi } from '../src/platform/node/mpi.ts';

const COUNT = 1 << 20;
const TRIALS = 21;

function median(times: number[]): number {
  return times.sort((a, b) => a - b)[times.length >> 1];
}

async function timed(work: () => Promise<void> | void): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < TRIALS; i++) {
    const started = performance.now();
    await work();
    times.push(performance.now() - started);
  }
  return median(times);
}

const launched = launchedAs();
if (!launched) throw new Error('start it with mpirun -np 2');
const mpi = Mpi.open(launched);
const say = (what: string, ms: number) => {
  if (mpi.rank === 0) console.log(`${what}: ${ms.toFixed(2)} ms`);
};
const gbs = (ms: number) => `${((COUNT * 4) / 1e6 / ms).toFixed(2)} GB/s`;
const each = COUNT / mpi.size;
const [out, received, own] = [mpi.block(COUNT), mpi.block(COUNT), mpi.block(Math.ceil(each))];
const bytes = Math.floor(each) * 4;
const operations: [string, () => Promise<void>][] = [
  ['all-to-all', () => mpi.allToAll(out, received, bytes)],
  ['all-gather', () => mpi.allGather(own, received, bytes)],
  ['MPI_Allreduce', () => mpi.allReduce(out, COUNT)],
];
if (mpi.rank === 0) console.log(`${mpi.size} processes, ${mpi.version}, a bucket of 4 MiB`);
for (const [name, begin] of operations) {
  const times: number[] = [];
  for (let i = 0; i < TRIALS; i++) await mpi.together(async () => void times.push(await timedOnce(begin)));
  say(name, median(times));
}
say('a sum of 9 numbers', await timed(() => mpi.sum(new Float64Array(9))));
if (mpi.rank === 0) {
  const [x, sum, halves] = [Float32Array.from({ length: COUNT }, (_, i) => Math.sin(i)), new Float32Array(COUNT), new Uint16Array(COUNT)];
  console.log(`adding on the host: ${gbs(await timed(() => addPart(sum, x, false)))}`);
  console.log(`to bfloat16: ${gbs(await timed(() => toBits16(x, halves)))}, from it: ${gbs(await timed(() => fromBfloat(halves, sum)))}`);
}
mpi.finish();

async function timedOnce(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
