/**
 * GPU time of every dispatch and every copy, from timestamp queries around each. Every dispatch gets a pass of its own, so the
 * sum is larger than the time of a normal run. Use it to see where time goes, never to state a speed.
 */
import type { Dispatch } from './recorder.ts';
import { scalarParams } from './uniforms.ts';
import type { Device } from './webgpu_types.ts';

/** What took the time: a kernel; a copy between buffers; one into a texture; a clear; an upload, timed on the host. */
export type SpanKind = 'kernel' | 'copy' | 'texels' | 'clear' | 'upload';

/** One timed piece of work. */
export interface Span {
  kind: SpanKind;
  /** The kernel's name; for other kinds, the kind. */
  kernel: string;
  family: string | null;
  version: string | null;
  /** The operation and its shapes. */
  label: string;
  /** The step of a recurrent loop, from 1; null outside of one. */
  step: number | null;
  groups: readonly number[] | null;
  /** The kernel's parameters: sizes, starts, strides. */
  shapes: Record<string, number>;
  flops: number;
  bytes: number;
  startNs: number;
  endNs: number;
}

/** The time of one kernel, version and operation: milliseconds over all its calls, and its share of the whole. */
export interface ProfileRow {
  kind: SpanKind;
  kernel: string;
  version: string | null;
  label: string;
  calls: number;
  totalMs: number;
  share: number;
  flops: number;
  bytes: number;
}

const CAPACITY = 2048;
/** Spans that one dispatch may add: its own, and a copy for each operand. */
const MARGIN = 8;
const STEP = /, t = (\d+)$/;

type Described = Omit<Span, 'startNs' | 'endNs'>;

/** Times kernels: assign one to `gpu.profiler`, run the work, then read `table()`. It needs the feature timestamp-query. */
export class Profiler {
  private readonly done: Span[] = [];
  private querySet: GPUQuerySet | null = null;
  private open: Described[] = [];
  private readonly pending: Promise<void>[] = [];

  /** `costOf` tells what a dispatch costs, for rates; without it flops and bytes of kernels are 0. */
  constructor(
    private readonly device: Device,
    private readonly costOf: (dispatch: Dispatch) => { flops: number; bytes: number } | null = () => null,
  ) {}

  /** Whether the batch holds as many timestamps as it can. */
  get full(): boolean {
    return this.open.length >= CAPACITY / 2 - MARGIN;
  }

  private slot(span: Described): number {
    this.querySet ??= this.device.createQuerySet({ type: 'timestamp', count: CAPACITY });
    this.open.push(span);
    return 2 * (this.open.length - 1);
  }

  /** Where the pass of a dispatch writes its two timestamps. @internal */
  begin(dispatch: Dispatch): GPUComputePassTimestampWrites {
    const { kernel, choice, label, groups, params } = dispatch;
    const { flops, bytes } = this.costOf(dispatch) ?? { flops: 0, bytes: 0 };
    const [family, version] = [choice?.family ?? null, choice?.version ?? null];
    const slot = this.slot({ kind: 'kernel', kernel: kernel.name, family, version, ...stepOf(label), groups, shapes: scalarParams(params), flops, bytes });
    return { querySet: this.querySet as GPUQuerySet, beginningOfPassWriteIndex: slot, endOfPassWriteIndex: slot + 1 };
  }

  /** Records commands outside a pass between two empty passes, which take the time. @internal */
  around(encoder: GPUCommandEncoder, kind: SpanKind, label: string, bytes: number, commands: () => void): void {
    const slot = this.slot({ kind, kernel: kind, family: null, version: null, ...stepOf(label), groups: null, shapes: {}, flops: 0, bytes });
    const querySet = this.querySet as GPUQuerySet;
    encoder.beginComputePass({ label: `before ${kind}`, timestampWrites: { querySet, endOfPassWriteIndex: slot } }).end();
    commands();
    encoder.beginComputePass({ label: `after ${kind}`, timestampWrites: { querySet, beginningOfPassWriteIndex: slot + 1 } }).end();
  }

  /** An upload, which is done by the queue outside of any batch: its time on the host. @internal */
  upload(label: string, bytes: number, ms: number): void {
    const { endNs: last = 0 } = this.done[this.done.length - 1] ?? {};
    this.done.push({
      ...{ kind: 'upload', kernel: 'upload', family: null, version: null, label, step: null, groups: null, shapes: {}, flops: 0, bytes },
      ...{ startNs: last, endNs: last + ms * 1e6 },
    });
  }

  /** Records the copy of this batch's timestamps; call the result after the batch was submitted. @internal */
  resolve(encoder: GPUCommandEncoder): () => void {
    const { open, querySet } = this;
    if (!querySet || open.length === 0) return () => {};
    this.open = [];
    this.querySet = null;
    const size = 16 * open.length;
    const resolved = this.device.createBuffer({ label: 'timestamps', size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    const staging = this.device.createBuffer({ label: 'timestamps', size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    encoder.resolveQuerySet(querySet, 0, 2 * open.length, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
    return () => {
      this.pending.push(
        staging.mapAsync(GPUMapMode.READ).then(() => {
          const times = new BigInt64Array(staging.getMappedRange());
          for (const [i, span] of open.entries()) this.done.push({ ...span, startNs: Number(times[2 * i]), endNs: Number(times[2 * i + 1]) });
          for (const owned of [staging, resolved, querySet]) owned.destroy();
        }),
      );
    };
  }

  /** Every span so far, in the order of recording. */
  async spans(): Promise<readonly Span[]> {
    await Promise.all(this.pending);
    return this.done;
  }

  /** Kernel by version by operation, by falling time; the steps of a recurrent loop are one row. */
  async table(): Promise<ProfileRow[]> {
    const rows = new Map<string, ProfileRow>();
    let total = 0;
    for (const { kind, kernel, version, label, startNs, endNs, flops, bytes } of await this.spans()) {
      const key = `${kernel}|${version}|${label}`;
      const row = rows.get(key) ?? { kind, kernel, version, label, calls: 0, totalMs: 0, share: 0, flops: 0, bytes: 0 };
      const ms = Math.max(0, endNs - startNs) / 1e6;
      row.calls++;
      row.totalMs += ms;
      row.flops += flops;
      row.bytes += bytes;
      total += ms;
      rows.set(key, row);
    }
    for (const row of rows.values()) row.share = total > 0 ? row.totalMs / total : 0;
    return [...rows.values()].sort((a, b) => b.totalMs - a.totalMs);
  }

  /** The spans in Chrome's trace format, as JSON (open it in chrome://tracing or Perfetto). */
  async chromeTrace(): Promise<string> {
    const spans = await this.spans();
    const origin = spans.reduce((least, { kind, startNs }) => (kind === 'upload' ? least : Math.min(least, startNs)), Number.POSITIVE_INFINITY);
    const traceEvents = spans.map(({ kind, kernel, family, version, label, step, groups, shapes, flops, bytes, startNs, endNs }) => ({
      name: version ? `${kernel} (${version})` : kernel,
      ...{ cat: kind, ph: 'X', pid: 1, tid: kind === 'upload' ? 2 : 1 },
      ts: Math.max(0, startNs - origin) / 1e3,
      dur: Math.max(0, endNs - startNs) / 1e3,
      args: { label, family, version, step, workgroups: groups, shapes, flops, bytes },
    }));
    return JSON.stringify({ traceEvents, displayTimeUnit: 'ms' });
  }
}

/** The label without the step of its loop, and that step. */
function stepOf(label: string): { label: string; step: number | null } {
  const found = STEP.exec(label);
  return found ? { label: label.slice(0, found.index), step: Number(found[1]) } : { label, step: null };
}

/** Letters of an operation that a terminal shows. */
const SHOWN = 72;

/** The rows as a table for a terminal; with the share of the roof where it is known. */
export function formatProfile(rows: readonly (ProfileRow & { roofShare?: number | null })[]): string {
  const nameOf = ({ kernel, version }: ProfileRow) => (version && version !== 'invocation' ? `${kernel} (${version})` : kernel);
  const width = Math.max(6, ...rows.map((row) => nameOf(row).length));
  const rate = (amount: number, ms: number) => (amount > 0 && ms > 0 ? (amount / ms / 1e6).toFixed(1) : '–').padStart(8);
  const lines = rows.map(
    (r) =>
      `${nameOf(r).padEnd(width)} ${String(r.calls).padStart(7)} ${r.totalMs.toFixed(2).padStart(10)} ${(100 * r.share).toFixed(1).padStart(6)} ${rate(r.flops, r.totalMs)} ${rate(r.bytes, r.totalMs)} ${(r.roofShare == null ? '–' : (100 * r.roofShare).toFixed(0)).padStart(6)}  ${r.label.length > SHOWN ? `${r.label.slice(0, SHOWN - 1)}…` : r.label}`,
  );
  return [
    `${'kernel'.padEnd(width)} ${'calls'.padStart(7)} ${'GPU ms'.padStart(10)} ${'%'.padStart(6)} ${'GFLOP/s'.padStart(8)} ${'GB/s'.padStart(8)} ${'% roof'.padStart(6)}  operation`,
    ...lines,
  ].join('\n');
}
