/** Staging buffers for reading results back: one copy and one wait for any number of ranges. */
import type { BufferSlice } from './pool.ts';

/** Staging buffers kept for the next readbacks. */
const KEPT = 8;
const PAGE = 4096;

/** Ranges on their way to the host. */
export interface Pending {
  staging: GPUBuffer;
  sizes: readonly number[];
  total: number;
}

const roundUp = (bytes: number, to: number) => Math.ceil(bytes / to) * to;

export class Readback {
  private readonly free: GPUBuffer[] = [];

  constructor(private readonly device: GPUDevice) {}

  /** Records the copies; call `take` after they were submitted. */
  record(encoder: GPUCommandEncoder, slices: readonly BufferSlice[]): Pending {
    const sizes = slices.map((slice) => roundUp(slice.bytes, 4));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const staging = this.stagingFor(total);
    let at = 0;
    slices.forEach((slice, i) => {
      if (sizes[i] > 0) encoder.copyBufferToBuffer(slice.buffer.gpuBuffer, slice.offset, staging, at, sizes[i]);
      at += sizes[i];
    });
    return { staging, sizes, total };
  }

  private stagingFor(total: number): GPUBuffer {
    const found = this.free.findIndex((buffer) => buffer.size >= total && buffer.size <= 4 * total + PAGE);
    if (found >= 0) return this.free.splice(found, 1)[0];
    return this.device.createBuffer({ label: 'readback', size: roundUp(total, PAGE), usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  }

  /** Waits for the copies; rejects as `mapAsync` does. */
  async wait({ staging, total }: Pending): Promise<void> {
    await staging.mapAsync(GPUMapMode.READ, 0, total);
  }

  /** The bytes of each range, after `wait`. */
  take({ staging, sizes, total }: Pending, slices: readonly BufferSlice[]): ArrayBuffer[] {
    const bytes = staging.getMappedRange(0, total);
    let at = 0;
    const results = slices.map((slice, i) => {
      const copy = bytes.slice(at, at + slice.bytes);
      at += sizes[i];
      return copy;
    });
    staging.unmap();
    if (this.free.length < KEPT) this.free.push(staging);
    else staging.destroy();
    return results;
  }
}
