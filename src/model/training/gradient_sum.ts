/**
 * The gradient of an update is the sum of those of its micro-batches. One process adds them up on the device. Several processes
 * exchange them, in buckets: one is read back from the device while another travels and a third is added up. A bucket is read as
 * soon as the backward pass has filled it. All but the last micro-batches' gradients travel while the next one is computed.
 *
 * `ordered` adds them in the order of the micro-batches. Process r gets part r of each gradient (all-to-all) and adds them one after
 * the other. Then all get the parts of the sum (all-gather). So the sum has the same bits for any number of processes, one
 * included. `fast` leaves the order to MPI_Allreduce.
 */
import { bfloatOf, fromBfloat } from '../../data/bfloat.ts';
import type { Gpu } from '../../gpu/gpu.ts';
import type { BufferSlice } from '../../gpu/pool.ts';
import type { Optimizer } from '../../nn/optimizer.ts';
import type { Block, Mpi } from '../../platform/node/mpi.ts';
import type { Tensor } from '../../tensor/tensor.ts';

export type Reduction = 'ordered' | 'fast';

/** Where the time of an update went, in milliseconds. */
export interface ExchangeTimes {
  /** From its start until this process has computed the gradients of its own micro-batches. */
  compute: number;
  /** Waiting for other processes that are not as far. */
  wait: number;
  /** Taking what was read from the device. */
  read: number;
  /** Messages under way, and additions. */
  reduce: number;
  /** Copying the sum to the device. */
  upload: number;
  /** What of all but `compute` came after it. The rest was hidden behind it. */
  exposed: number;
}

const NO_TIMES: ExchangeTimes = { compute: 0, wait: 0, read: 0, reduce: 0, upload: 0, exposed: 0 };

export interface GradientSum {
  /** To be called when an update begins. */
  begin(): void;
  /** Takes the gradient of micro-batch `index` of `of`, which the device was told to compute. */
  add(index: number, of: number): void;
  /** Resolves when the sum is where the optimizers take it from. */
  finish(of: number): Promise<void>;
  /** Of the last update; null in one process. */
  readonly times: ExchangeTimes | null;
}

/** In one process. With one micro-batch an update, there is nothing to add. */
export class LocalSum implements GradientSum {
  readonly times = null;

  constructor(
    private readonly optimizers: readonly Optimizer[],
    private readonly most: number,
    private readonly bits16: boolean,
  ) {}

  begin(): void {}

  add(index: number, of: number): void {
    if (this.most === 1) return;
    for (const optimizer of this.optimizers) optimizer.accumulate({ first: index === 0, last: index === of - 1, bits16: this.bits16 });
  }

  async finish(): Promise<void> {}
}

/** Numbers of a bucket at most: 4 MiB. */
const BUCKET = 1 << 20;
/** The least normal number of float32. Adapters differ in what they do with smaller ones, so these count as zero: see accumulate.wgsl. */
const LEAST_NORMAL = 2 ** -126;

const normal = (x: number) => (x < LEAST_NORMAL && x > -LEAST_NORMAL ? 0 : x);

/** sum ← x, or sum + x, for numbers of float32. Exported for its test. */
export function addPart(sum: Float32Array, x: Float32Array, first: boolean): void {
  if (first) for (let i = 0; i < sum.length; i++) sum[i] = normal(x[i]);
  else for (let i = 0; i < sum.length; i++) sum[i] = normal(Math.fround(sum[i] + normal(x[i])));
}

/** The numbers as bfloat16; subnormal ones count as zero. Exported for its test. */
export function toBits16(values: Float32Array, halves: Uint16Array): void {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    halves[i] = (word & 0x7f800000) === 0 ? 0 : bfloatOf(word);
  }
}

/** A part of the gradients that travels as one message. */
interface Bucket {
  /** Where the gradient is read, and where the sum goes. */
  slice: BufferSlice;
  /** Numbers that each process adds up. */
  each: number;
  /** [size · each]: what goes out, and the whole sum afterwards. */
  out: Block;
  /** [size · each]: what comes in. */
  received: Block;
  /** [each]: this process's part of the sum. */
  own: Float32Array;
  /** [each]: that part, as it goes out. */
  part: Block;
  /** Gradients of parameters that lie in it, and how many of them are not yet complete. */
  gradients: number;
  open: number;
  /** What is read of it during the backward pass. */
  early: Promise<ArrayBuffer[]> | null;
}

/** Among several processes: micro-batch i is computed by process i mod size. */
export class WorldSum implements GradientSum {
  times: ExchangeTimes = NO_TIMES;
  private readonly buckets: readonly Bucket[];
  /** The rounds of the update under way, one after the other. In a round, each process brings one gradient or none. */
  private rounds: Promise<void> = Promise.resolve();
  private begun = 0;
  /** When the update began, and when its own gradients were computed. */
  private started = 0;
  private computed = 0;
  private readonly gpu: Gpu;

  constructor(
    private readonly mpi: Mpi,
    private readonly optimizers: readonly Optimizer[],
    private readonly reduction: Reduction,
    private readonly bits16: boolean,
  ) {
    this.gpu = optimizers[0].norm.gpu;
    const fast = reduction === 'fast';
    this.buckets = optimizers.flatMap((optimizer) => {
      const targets = fast ? optimizer.sums : optimizer.gradients;
      return targets.flatMap((slice) => this.bucketsOf(slice));
    });
    for (const gradient of optimizers.flatMap((optimizer) => optimizer.gradientTensors)) for (const bucket of this.bucketsWith(gradient)) bucket.gradients++;
    for (const bucket of this.buckets) bucket.open = bucket.gradients;
  }

  private bucketsOf(slice: BufferSlice): Bucket[] {
    const buckets: Bucket[] = [];
    const { size } = this.mpi;
    for (let at = 0; at < slice.bytes; at += BUCKET * 4) {
      const bytes = Math.min(BUCKET * 4, slice.bytes - at);
      const part: BufferSlice = { buffer: slice.buffer, offset: slice.offset + at, bytes };
      const each = Math.ceil(bytes / 4 / size);
      const [out, received] = [this.mpi.block(each * size), this.mpi.block(each * size)];
      buckets.push({ slice: part, each, out, received, own: new Float32Array(each), part: this.mpi.block(each), gradients: 0, open: 0, early: null });
    }
    return buckets;
  }

  private bucketsWith({ slice: { buffer, offset, bytes } }: Tensor): Bucket[] {
    return this.buckets.filter(
      (bucket) => bucket.slice.buffer === buffer && bucket.slice.offset < offset + bytes && offset < bucket.slice.offset + bucket.slice.bytes,
    );
  }

  /** Reads the buckets that this gradient completes. To be called as the backward pass goes on. */
  complete(gradient: Tensor): void {
    for (const bucket of this.bucketsWith(gradient)) if (--bucket.open === 0) bucket.early = this.read(bucket);
  }

  private read({ slice }: Bucket): Promise<ArrayBuffer[]> {
    const read = this.gpu.read([slice]);
    read.catch(() => {}); // an error is thrown where this is awaited
    return read;
  }

  /** Own micro-batches among the first `of`. */
  private ownOf(of: number): number {
    return Math.ceil(Math.max(0, of - this.mpi.rank) / this.mpi.size);
  }

  add(index: number, of: number): void {
    const nth = Math.floor(index / this.mpi.size);
    if (this.reduction === 'fast') {
      const last = nth === this.ownOf(of) - 1;
      for (const optimizer of this.optimizers) optimizer.accumulate({ first: nth === 0, last: false, bits16: false });
      if (last) this.exchange(true, this.mpi.size, true, true);
      return;
    }
    this.round(nth, of, true);
  }

  begin(): void {
    this.rounds = Promise.resolve();
    this.begun = 0;
    this.times = { ...NO_TIMES };
    this.started = performance.now();
    this.computed = this.started;
  }

  async finish(of: number): Promise<void> {
    if (this.reduction === 'fast') {
      if (this.ownOf(of) === 0) this.exchange(false, this.mpi.size, true, true);
    } else {
      const all = Math.ceil(of / this.mpi.size);
      if (this.begun < all) this.round(all - 1, of, false);
    }
    await this.rounds;
    this.times.compute = this.computed - this.started;
    this.times.exposed = performance.now() - this.computed;
  }

  private round(nth: number, of: number, hasPart: boolean): void {
    const { size } = this.mpi;
    this.exchange(hasPart, Math.min(size, of - nth * size), nth === 0, (nth + 1) * size >= of);
  }

  /**
   * Appends a round. Its gradients are copied from the device before what is recorded later; all else waits for the round before.
   * `parts` processes, from rank 0 on, bring a gradient.
   */
  private exchange(hasPart: boolean, parts: number, first: boolean, last: boolean): void {
    this.begun++;
    const reads = hasPart ? this.buckets.map((bucket) => bucket.early ?? this.read(bucket)) : null;
    for (const bucket of this.buckets) Object.assign(bucket, { early: null, open: bucket.gradients });
    const before = this.rounds;
    const computed = Promise.all(reads ?? []).then(() => {
      if (reads) this.computed = performance.now();
    });
    computed.catch(() => {});
    this.rounds = (async () => {
      await before;
      if (reads) await Promise.race(reads);
      const arrived = performance.now();
      await this.mpi.together(() => {
        this.times.wait += performance.now() - arrived;
        return this.exchanged(reads, parts, first, last);
      });
      await computed;
    })();
    this.rounds.catch(() => {});
  }

  private async exchanged(reads: readonly Promise<ArrayBuffer[]>[] | null, parts: number, first: boolean, last: boolean): Promise<void> {
    const { mpi, buckets, times } = this;
    const reduced = this.reduction === 'fast' && !this.bits16; // MPI has no sum of bfloat16 numbers
    const bytes = this.bits16 ? 2 : 4;
    let since = performance.now();
    /** Counts the time since the last call. */
    const count = (what: keyof ExchangeTimes) => {
      const now = performance.now();
      times[what] += now - since;
      since = now;
    };
    const sent: Promise<void>[] = [];
    const gathered: Promise<void>[] = [];
    /** Adds up a bucket that came in; with the last round, the sums go round. */
    const add = async (b: number) => {
      await sent[b];
      const { each, received, own, part, out } = buckets[b];
      for (let rank = 0; rank < parts; rank++) {
        const [from, to] = [rank * each, (rank + 1) * each];
        const x = this.bits16 ? new Float32Array(each) : received.floats.subarray(from, to);
        if (this.bits16) fromBfloat(received.halves.subarray(from, to), x);
        addPart(own, x, first && rank === 0);
      }
      if (!last) return;
      if (this.bits16) toBits16(own, part.halves);
      else part.floats.set(own);
      gathered[b] = mpi.allGather(part, out, each * bytes);
    };
    const upload = async (b: number) => {
      await gathered[b];
      count('reduce');
      const { out, slice } = buckets[b];
      let values = out.floats.subarray(0, slice.bytes / 4);
      if (this.bits16) {
        values = new Float32Array(slice.bytes / 4);
        fromBfloat(out.halves, values);
      }
      this.gpu.upload(slice, values);
      count('upload');
    };
    // The same order in all processes: bucket b goes out, b − 1 is added and goes round, b − 2 arrives.
    for (let b = 0; b < buckets.length + 2; b++) {
      if (b < buckets.length) {
        const { out, received, each } = buckets[b];
        const [read] = (await reads?.[b]) ?? [];
        since = performance.now(); // waiting for the device is no part of the exchange
        const values = read ? new Float32Array(read) : null;
        if (this.bits16) values ? toBits16(values, out.halves) : out.halves.fill(0);
        else values ? out.floats.set(values) : out.floats.fill(0);
        count('read');
        if (reduced) gathered[b] = mpi.allReduce(out, each * mpi.size);
        else sent[b] = mpi.allToAll(out, received, each * bytes);
      }
      const adding = b - 1;
      if (!reduced && adding >= 0 && adding < buckets.length) await add(adding);
      count('reduce');
      const arriving = b - 2;
      if (last && arriving >= 0) await upload(arriving);
    }
  }
}
