/**
 * The processes that train a run together: data-parallel training on MPI. Each computes other micro-batches of an update; their
 * gradients are summed. A process that no launcher started is a world of one, for which neither MPI nor what calls it is loaded.
 */
import { hostname } from 'node:os';
import { GlimpseError, messageOf } from '../../errors.ts';
import { launchedAs } from '../../platform/node/launcher.ts';
import type { Mpi } from '../../platform/node/mpi.ts';

/** Thrown in every process when one of them cannot begin. The first process says why; the others end without a word. */
export class NotAgreed extends GlimpseError {
  override name = 'NotAgreed';

  constructor(
    message: string,
    override readonly exitCode: 1 | 2,
  ) {
    super(message);
  }
}

export class World {
  private readonly signs: { close(): Promise<void> } | null;

  private constructor(
    readonly mpi: Mpi | null,
    readonly localRank: number,
    /** What the launcher is. */
    readonly by: string,
    onSilence: (text: string) => void,
    private readonly processes: readonly { host: string; pid: number }[],
  ) {
    this.signs =
      mpi?.watch((rank, seconds) =>
        onSilence(
          seconds === null
            ? `${this.nameOf(rank)} answers again`
            : `${this.nameOf(rank)} has given no sign of life for ${Math.round(seconds)} s: it is stopped, or its machine or network is; the others wait for it`,
        ),
      ) ?? null;
  }

  static readonly ALONE = new World(null, 0, '', () => {}, [{ host: hostname(), pid: process.pid }]);

  /** The world that a launcher started, or the world of one. Throws a GlimpseError if MPI cannot be used. */
  static async open(onSilence: (text: string) => void): Promise<World> {
    const launched = launchedAs();
    if (!launched) return World.ALONE;
    const { Mpi } = await import('../../platform/node/mpi.ts');
    const mpi = Mpi.open(launched);
    const processes = await gather(mpi, { host: hostname(), pid: process.pid });
    return new World(mpi, launched.localRank, `${launched.by} (${mpi.version})`, onSilence, processes);
  }

  get rank(): number {
    return this.mpi?.rank ?? 0;
  }

  get size(): number {
    return this.mpi?.size ?? 1;
  }

  /** Whether this process writes the log and the checkpoints, and says how it goes. */
  get isFirst(): boolean {
    return this.rank === 0;
  }

  /** "rank 2 (process 71 on node-b)" */
  nameOf(rank: number): string {
    const { host, pid } = this.processes[rank];
    return `rank ${rank} (process ${pid} on ${host})`;
  }

  /** Sums of numbers over all processes, in place. */
  async sum(values: Float64Array): Promise<void> {
    await this.mpi?.sum(values);
  }

  /** What the first process says, to all. */
  async share<T>(value: T): Promise<T> {
    if (!this.mpi) return value;
    return parsed<T>(await this.mpi.broadcast(this.isFirst ? text(value) : null, 0));
  }

  /** Bytes that the first process has, to all; null if it has none. */
  async shareBytes(bytes: Uint8Array | null): Promise<Uint8Array | null> {
    if (!this.mpi) return bytes;
    const has = await this.share(bytes !== null);
    return has ? this.mpi.broadcast(this.isFirst ? bytes : null, 0) : null;
  }

  /** What each process says, in the order of the ranks. */
  async gather<T>(value: T): Promise<T[]> {
    return this.mpi ? gather(this.mpi, value) : [value];
  }

  /** Does what every process must do before they can begin. If it fails in some, all throw a NotAgreed that says where and why. */
  async agreed<T>(work: () => T | Promise<T>): Promise<T> {
    if (!this.mpi) return work();
    let result: { value: T } | null = null;
    let failure: { message: string; exitCode: 1 | 2 } | null = null;
    try {
      result = { value: await work() };
    } catch (error) {
      failure = { message: messageOf(error), exitCode: error instanceof GlimpseError ? error.exitCode : 1 };
    }
    const failures = await this.gather(failure);
    const failed = failures.flatMap((each, rank) => (each ? [{ ...each, rank }] : []));
    if (failed.length === 0) return (result as { value: T }).value;
    const [first] = failed;
    const same = failed.length === this.size && failed.every(({ message }) => message === first.message);
    const message = same ? first.message : failed.map((each) => `${this.nameOf(each.rank)}: ${each.message}`).join('\n  ');
    throw new NotAgreed(message, first.exitCode);
  }

  /** Throws a NotAgreed if the processes cannot share out updates of so many micro-batches evenly. */
  requireEven(accumulate: number): void {
    const { size } = this;
    if (accumulate % size === 0) return;
    const pictures = accumulate === 1 ? '; --batch-images is then the pictures of each of them' : '';
    throw new NotAgreed(
      `${size} processes cannot share out updates of ${accumulate} micro-batch${accumulate === 1 ? '' : 'es'} evenly: give --accumulate ${Math.ceil(accumulate / size) * size} or another multiple of ${size}${pictures}`,
      2,
    );
  }

  /** Throws a NotAgreed that names the processes which say something else than the first one, and about what. */
  async requireSame(facts: Readonly<Record<string, string>>): Promise<void> {
    const all = await this.gather(facts);
    const lines = all.flatMap((theirs, rank) => {
      const differing = Object.keys(facts).filter((name) => theirs[name] !== all[0][name]);
      return differing.length > 0 ? [`${this.nameOf(rank)} has ${differing.map((name) => `another ${name} (${theirs[name]})`).join(', ')}`] : [];
    });
    if (lines.length === 0) return;
    const names = Object.keys(facts).filter((name) => all.some((theirs) => theirs[name] !== all[0][name]));
    const first = names.map((name) => `${name} ${all[0][name]}`);
    throw new NotAgreed(
      `the processes would not train the same run\n  ${lines.slice(0, 8).join('\n  ')}${lines.length > 8 ? `\n  and ${lines.length - 8} more` : ''}\n  ${this.nameOf(0)} has ${first.join(', ')}`,
      1,
    );
  }

  /** Ends the processes' work together; every process must come here. */
  async close(): Promise<void> {
    await this.signs?.close();
    this.mpi?.finish();
  }

  /** Ends all processes at once, after an error in this one. */
  abort(code: number): void {
    this.mpi?.abort(code);
  }
}

const text = (value: unknown) => Buffer.from(JSON.stringify(value ?? null));
const parsed = <T>(bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as T;

async function gather<T>(mpi: Mpi, value: T): Promise<T[]> {
  const own = text(value);
  const all: T[] = [];
  for (let rank = 0; rank < mpi.size; rank++) all.push(parsed<T>(await mpi.broadcast(rank === mpi.rank ? own : null, rank)));
  return all;
}
