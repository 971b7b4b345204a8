/**
 * Weights in another order, made once and again only after the weights were written. This is worth while only for weights
 * that were not written since the same kernels last read them; `isSteady` tells.
 */
import type { Captures } from './capture.ts';
import type { BufferPool, BufferSlice } from './pool.ts';

interface Prepared {
  from: BufferSlice;
  to: BufferSlice;
  /** The source's number of writes when it was prepared; −1 if it must be prepared again. */
  writes: number;
}

export class PreparedWeights {
  /** By source and name. */
  private readonly prepared = new Map<string, Prepared>();
  /** By buffer and kernel family: the buffer's number of writes when a launch last read it. */
  private readonly writesWhenRead = new WeakMap<BufferSlice['buffer'], Record<string, number>>();

  constructor(
    private readonly pool: BufferPool,
    private readonly captures: Captures,
  ) {}

  /** As `Gpu.prepare`. */
  prepare(from: BufferSlice, name: string, bytes: number, fill: (to: BufferSlice) => void, use: (made: BufferSlice) => void): void {
    const make = () => ({ buffer: this.pool.acquire(bytes, `${name} of ${from.buffer.label}`), offset: 0, bytes });
    if (from.buffer.captured) {
      const once = make(); // each replay computes the source anew
      fill(once);
      use(once);
      this.pool.release(once.buffer);
      return;
    }
    const key = `${from.buffer.id},${from.offset},${name}`;
    // It outlives a capture that first asks for it, so its buffer must not be one that other replays write.
    const known = this.prepared.get(key) ?? { from, to: this.pool.lasting(make), writes: -1 };
    this.prepared.set(key, known);
    const refresh = () => {
      if (known.writes === from.buffer.writes) return;
      this.captures.without(() => fill(known.to)); // a replay calls `refresh` itself, which decides again
      known.writes = from.buffer.writes;
    };
    this.captures.note(refresh);
    refresh();
    use(known.to);
  }

  /** Whether a storage was not written since a launch of this family last read it, and is none that replays write. Changes nothing. */
  isSteady({ buffer }: BufferSlice, family: string): boolean {
    return !buffer.captured && this.writesWhenRead.get(buffer)?.[family] === buffer.writes;
  }

  /** Notes that a launch of this family reads the storage. */
  noteRead({ buffer }: BufferSlice, family: string): void {
    const reads = this.writesWhenRead.get(buffer) ?? {};
    this.writesWhenRead.set(buffer, reads);
    reads[family] = buffer.writes;
  }

  /** Releases what was made from a buffer. Called when nobody uses the buffer any longer. */
  forget(id: number): void {
    for (const [key, { from, to }] of this.prepared) {
      if (from.buffer.id !== id) continue;
      this.prepared.delete(key);
      this.pool.release(to.buffer);
    }
  }

  /** Makes all weights be prepared again. Called when commands were lost, because some of them may have prepared weights. */
  distrust(): void {
    for (const known of this.prepared.values()) known.writes = -1;
  }
}
