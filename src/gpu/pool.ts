/**
 * Storage buffers, reference-counted and reused by size class (four classes per power of two, so at most a quarter is
 * wasted). Each storage has a buffer of its own: WebGPU forbids binding one buffer for reading and for writing in one
 * dispatch, even on disjoint ranges. A byte budget stands in for the out-of-memory error that lavapipe never gives.
 */
import { GpuError } from '../errors.ts';
import type { Faults } from './faults.ts';
import type { Buffer } from './webgpu_types.ts';

/** A range of a GPU buffer. Several storages may share one buffer, as the parameters of an optimizer do. */
export interface BufferSlice {
  buffer: PooledBuffer;
  /** In bytes, a multiple of 256. */
  offset: number;
  bytes: number;
}

export interface PooledBuffer {
  readonly gpuBuffer: Buffer;
  readonly id: number;
  readonly capacity: number;
  /** Name and shape of its contents now, for error messages. */
  label: string;
  references: number;
  /** The recorder's batch that last used it: an upload to it must wait for that batch. */
  batch: number;
  /** Number of recorded writes. Copies and prepared weights are valid while this number is unchanged. */
  writes: number;
  /** True if its contents belong to a capture. Every replay may overwrite it. */
  captured: boolean;
}

/** Bytes and buffers of the pool. */
export interface MemoryReport {
  /** Held by living storages. */
  bytesInUse: number;
  /** In use plus free buffers kept for reuse. */
  bytesAllocated: number;
  peakBytes: number;
  buffersInUse: number;
  buffersFree: number;
  budgetBytes: number;
  /** Held by copies of storages for reading as texels, part of bytesAllocated. */
  texelBytes: number;
}

/**
 * A capture takes a free buffer that is at most so many times as large as it needs. The first one, which the others should fit into, is
 * more careful. Over the shapes of two epochs on Flickr8k these were the best of eight pairs: 598 MiB, where no limit made it 651.
 */
const MOST_TOO_LARGE = { first: 2, others: 8 };

export function sizeClass(bytes: number): number {
  return bytes <= 1024 ? Math.max(256, Math.ceil(bytes / 256) * 256) : quarterClass(bytes);
}

/** The next of four numbers per power of two, so that at most a quarter is added. */
export function quarterClass(count: number): number {
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(count - 1)) - 2));
  return Math.ceil(count / step) * step;
}

export class BufferPool {
  private readonly free = new Map<number, PooledBuffer[]>();
  /** Free buffers that captures share among themselves. Nobody else may get one, because a replay overwrites it. */
  private readonly capturedFree = new Map<number, PooledBuffer[]>();
  private captures = 0;
  private capturing = false;
  private nextId = 1;
  private inUse = 0;
  private allocated = 0;
  private peak = 0;
  private count = 0;

  /** `flush` submits what is recorded. A buffer may be destroyed only after that. @internal */
  constructor(
    private readonly device: GPUDevice,
    readonly budgetBytes: number,
    private readonly flush: () => void,
    private readonly faults: Faults,
  ) {}

  /** Bytes of the largest buffer that a shader can read whole. */
  get largest(): number {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    return Math.min(maxBufferSize, maxStorageBufferBindingSize);
  }

  acquire(bytes: number, label: string): PooledBuffer {
    const capacity = sizeClass(bytes);
    const buffer = this.kept(capacity) ?? this.create(capacity, label);
    buffer.references = 1;
    buffer.captured = this.capturing;
    buffer.label = label;
    this.inUse += buffer.capacity;
    this.count++;
    this.peak = Math.max(this.peak, this.inUse);
    return buffer;
  }

  /**
   * A free buffer of this capacity. In a capture it may be larger, the least of those. Captures of a loop differ in length and run one
   * after another, so a short one fits into the buffers of a long one. Much larger ones are left to those who need them.
   */
  private kept(capacity: number): PooledBuffer | undefined {
    if (!this.capturing) return this.free.get(capacity)?.pop();
    let best = this.capturedFree.get(capacity)?.length ? capacity : Number.POSITIVE_INFINITY;
    const most = this.captures === 1 ? MOST_TOO_LARGE.first : MOST_TOO_LARGE.others;
    if (best > capacity)
      for (const [size, list] of this.capturedFree) if (size > capacity && size <= most * capacity && size < best && list.length > 0) best = size;
    return this.capturedFree.get(best)?.pop();
  }

  private create(capacity: number, label: string): PooledBuffer {
    const limit = this.largest;
    if (capacity > limit) {
      throw new GpuError(
        'limit',
        label,
        `needs one buffer of ${mib(capacity)}, this adapter binds at most ${mib(limit)}`,
        'Use a smaller batch, or split the tensor.',
      );
    }
    this.reserve(capacity, label);
    const operation = `${label}: allocating ${mib(capacity)}`;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const gpuBuffer = this.faults.guard(operation, () => this.device.createBuffer({ label, size: capacity, usage }));
    this.faults.check(operation);
    return { gpuBuffer, id: this.nextId++, capacity, label, references: 0, batch: -1, writes: 0, captured: false };
  }

  /** Counts bytes against the budget before they are allocated. */
  reserve(bytes: number, label: string): void {
    if (this.allocated + bytes > this.budgetBytes) this.trim();
    if (this.allocated + bytes > this.budgetBytes) {
      throw new GpuError(
        'out-of-memory',
        label,
        `needs ${mib(bytes)} more, ${mib(this.inUse)} of the budget of ${mib(this.budgetBytes)} are in use`,
        'Use a smaller batch, or raise GLIMPSE_MEMORY_MB.',
      );
    }
    this.allocated += bytes;
  }

  retain(buffer: PooledBuffer): void {
    buffer.references++;
  }

  release(buffer: PooledBuffer): void {
    if (buffer.references <= 0) throw new GpuError('internal', 'buffer pool', `buffer ${buffer.id} was released more often than it was retained`);
    if (--buffer.references > 0) return;
    this.inUse -= buffer.capacity;
    this.count--;
    this.onRelease(buffer);
    const free = buffer.captured && this.captures > 0 ? this.capturedFree : this.free;
    const list = free.get(buffer.capacity);
    if (list) list.push(buffer);
    else free.set(buffer.capacity, [buffer]);
  }

  beginCapture(): void {
    this.captures++;
    this.capturing = true;
  }

  endCapture(): void {
    this.capturing = false;
  }

  /**
   * Runs work whose buffers captures do not share, also while a capture is under way: what lies in them lasts from replay to replay.
   * They must live as long as the capture, since its replays write them.
   */
  lasting<T>(work: () => T): T {
    const { capturing } = this;
    this.capturing = false;
    try {
      return work();
    } finally {
      this.capturing = capturing;
    }
  }

  /** Ends the life of one capture. After the last one, the buffers of captures are free for all. */
  forgetCapture(): void {
    if (--this.captures > 0) return;
    for (const [capacity, list] of this.capturedFree) this.free.set(capacity, [...(this.free.get(capacity) ?? []), ...list]);
    this.capturedFree.clear();
  }

  /** Called with each buffer whose last reference was released. */
  onRelease: (buffer: PooledBuffer) => void = () => {};

  /** Called with each buffer before it is destroyed, so that cached bind groups can be dropped. */
  onDestroy: (buffer: PooledBuffer) => void = () => {};

  /** Textures that others made within the budget. `trim` destroys them and returns their bytes. */
  others = { trim: () => 0, bytes: () => 0 };

  /** Destroys all free buffers. Commands that use them are submitted first. */
  trim(): void {
    this.flush();
    for (const list of this.free.values()) {
      for (const buffer of list) {
        this.onDestroy(buffer);
        buffer.gpuBuffer.destroy();
        this.allocated -= buffer.capacity;
      }
    }
    this.free.clear();
    this.allocated -= this.others.trim();
    this.device.queue.submit([]); // Dawn frees destroyed buffers only when a submit advances the queue
  }

  resetPeak(): void {
    this.peak = this.inUse;
  }

  report(): MemoryReport {
    let buffersFree = 0;
    for (const list of [...this.free.values(), ...this.capturedFree.values()]) buffersFree += list.length;
    return {
      bytesInUse: this.inUse,
      bytesAllocated: this.allocated,
      peakBytes: this.peak,
      buffersInUse: this.count,
      buffersFree,
      budgetBytes: this.budgetBytes,
      texelBytes: this.others.bytes(),
    };
  }
}

function mib(bytes: number): string {
  return bytes < 2 ** 20 ? `${bytes} bytes` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
