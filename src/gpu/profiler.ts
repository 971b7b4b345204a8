/**
 * GPU time per kernel, from timestamp queries around each dispatch. Every dispatch gets a pass of its own, so the sum is
 * larger than the time of a normal run. Use it to see where time goes, never to state a speed.
 */
import type { Device } from './webgpu_types.ts';

/** The time of one kernel: milliseconds on the GPU over all its calls, and its share of the whole. */
export interface ProfileRow {
  kernel: string;
  calls: number;
  totalMs: number;
  share: number;
}

const CAPACITY = 2048;

/** Times kernels: assign one to `gpu.profiler`, run the work, then read `table()`. It needs the feature timestamp-query. */
export class Profiler {
  private readonly spans: { kernel: string; startNs: number; endNs: number }[] = [];
  private querySet: GPUQuerySet | null = null;
  private names: string[] = [];
  private readonly pending: Promise<void>[] = [];

  constructor(private readonly device: Device) {}

  /** Whether the batch holds as many timestamps as it can. */
  get full(): boolean {
    return this.names.length >= CAPACITY / 2;
  }

  /** Where the next dispatch's pass writes its two timestamps. @internal */
  begin(kernel: string): GPUComputePassTimestampWrites {
    this.querySet ??= this.device.createQuerySet({ type: 'timestamp', count: CAPACITY });
    const slot = 2 * this.names.length;
    this.names.push(kernel);
    return { querySet: this.querySet, beginningOfPassWriteIndex: slot, endOfPassWriteIndex: slot + 1 };
  }

  /** Records the copy of this batch's timestamps; call the result after the batch was submitted. @internal */
  resolve(encoder: GPUCommandEncoder): () => void {
    const { names, querySet } = this;
    if (!querySet || names.length === 0) return () => {};
    this.names = [];
    this.querySet = null;
    const size = 16 * names.length;
    const resolved = this.device.createBuffer({ label: 'timestamps', size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    const staging = this.device.createBuffer({ label: 'timestamps', size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    encoder.resolveQuerySet(querySet, 0, 2 * names.length, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
    return () => {
      this.pending.push(
        staging.mapAsync(GPUMapMode.READ).then(() => {
          const times = new BigInt64Array(staging.getMappedRange());
          names.forEach((kernel, i) => {
            this.spans.push({ kernel, startNs: Number(times[2 * i]), endNs: Number(times[2 * i + 1]) });
          });
          for (const owned of [staging, resolved, querySet]) owned.destroy();
        }),
      );
    };
  }

  /** Kernels by falling time. */
  async table(): Promise<ProfileRow[]> {
    await Promise.all(this.pending);
    const rows = new Map<string, ProfileRow>();
    let total = 0;
    for (const { kernel, startNs, endNs } of this.spans) {
      const row = rows.get(kernel) ?? { kernel, calls: 0, totalMs: 0, share: 0 };
      const ms = Math.max(0, endNs - startNs) / 1e6;
      row.calls++;
      row.totalMs += ms;
      total += ms;
      rows.set(kernel, row);
    }
    for (const row of rows.values()) row.share = total > 0 ? row.totalMs / total : 0;
    return [...rows.values()].sort((a, b) => b.totalMs - a.totalMs);
  }

  /** The spans in Chrome's trace format, as JSON (open it in chrome://tracing or Perfetto). */
  async chromeTrace(): Promise<string> {
    await Promise.all(this.pending);
    const origin = this.spans.reduce((least, span) => Math.min(least, span.startNs), Number.POSITIVE_INFINITY);
    const traceEvents = this.spans.map(({ kernel, startNs, endNs }) => ({
      name: kernel,
      ph: 'X',
      pid: 1,
      tid: 1,
      ts: (startNs - origin) / 1e3,
      dur: (endNs - startNs) / 1e3,
    }));
    return JSON.stringify({ traceEvents, displayTimeUnit: 'ms' });
  }
}

/** The rows as a table for a terminal. */
export function formatProfile(rows: ProfileRow[]): string {
  const width = Math.max(6, ...rows.map((row) => row.kernel.length));
  const lines = rows.map(
    (r) => `${r.kernel.padEnd(width)} ${String(r.calls).padStart(7)} ${r.totalMs.toFixed(2).padStart(10)} ${(100 * r.share).toFixed(1).padStart(6)}`,
  );
  return [`${'kernel'.padEnd(width)} ${'calls'.padStart(7)} ${'GPU ms'.padStart(10)} ${'%'.padStart(6)}`, ...lines].join('\n');
}
