/**
 * Weights in another order, made once and again only after the weights were written; and the question that decides whether
 * that is worth while: do they hold what they held when the same kernels last read them?
 */
import type { Captures } from './capture.ts';
import type { BufferPool, BufferSlice } from './pool.ts';

interface Prepared {
  from: BufferSlice;
  to: BufferSlice;
  /** The source's count of writes when it was prepared; −1 when it must be done anew. */
  writes: number;
}

export class PreparedWeights {
  /** By source and name. */
  private readonly prepared = new Map<string, Prepared>();
  /** By buffer and family of kernels: its count of writes when a launch last read it. */
  private readonly writesWhenRead = new WeakMap<BufferSlice['buffer'], Record<string, number>>();

  constructor(
    private readonly pool: BufferPool,
    private readonly captures: Captures,
  ) {}

  /** As `Gpu.prepare`. */
  prepare(from: BufferSlice, name: string, bytes: number, make: (to: BufferSlice) => void): BufferSlice {
    const key = `${from.buffer.id},${from.offset},${name}`;
    const known = this.prepared.get(key) ?? { from, to: { buffer: this.pool.acquire(bytes, `${name} of ${from.buffer.label}`), offset: 0, bytes }, writes: -1 };
    this.prepared.set(key, known);
    const refresh = () => {
      if (known.writes === from.buffer.writes) return;
      this.captures.without(() => make(known.to)); // a replay calls this function, which knows whether there is anything to do
      known.writes = from.buffer.writes;
    };
    this.captures.note(refresh);
    refresh();
    return known.to;
  }

  /** Whether a storage holds what it held when a launch of this family last read it. Asking changes nothing. */
  isSteady({ buffer }: BufferSlice, family: string): boolean {
    return this.writesWhenRead.get(buffer)?.[family] === buffer.writes;
  }

  /** A launch of this family reads the storage. */
  noteRead({ buffer }: BufferSlice, family: string): void {
    const reads = this.writesWhenRead.get(buffer) ?? {};
    this.writesWhenRead.set(buffer, reads);
    reads[family] = buffer.writes;
  }

  /** Lets go of what was made of a buffer that holds nothing any more. */
  forget(id: number): void {
    for (const [key, { from, to }] of this.prepared) {
      if (from.buffer.id !== id) continue;
      this.prepared.delete(key);
      this.pool.release(to.buffer);
    }
  }

  /** Commands were lost, those that prepared weights perhaps among them: all are made anew. */
  distrust(): void {
    for (const known of this.prepared.values()) known.writes = -1;
  }
}
