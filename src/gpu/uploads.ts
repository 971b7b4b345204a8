/**
 * Large uploads through buffers that stay mapped. For each `writeBuffer` of some megabytes Dawn makes a new buffer of pinned memory. For
 * 26 MB that took 9 ms on an H200, where copying the bytes into a buffer that is used again takes 3.
 */

/** Uploads of fewer bytes go through `writeBuffer`, which keeps a ring for them. */
const LARGE = 1 << 20;
/** Buffers kept for the next uploads: one is filled while the device still reads the others. */
const KEPT = 4;

export class Uploads {
  /** Mapped, and so ready to be filled. */
  private readonly free: GPUBuffer[] = [];

  /** With `staged` false, every upload is a `writeBuffer`. */
  constructor(
    private readonly device: GPUDevice,
    private readonly staged: boolean,
  ) {}

  /** Takes effect as `writeBuffer` does: behind what was submitted, and before what was not. */
  write(to: GPUBuffer, offset: number, data: ArrayBufferView): void {
    const { byteLength } = data;
    if (!this.staged || byteLength < LARGE || byteLength % 4 !== 0) {
      this.device.queue.writeBuffer(to, offset, data.buffer as ArrayBuffer, data.byteOffset, byteLength);
      return;
    }
    const staging = this.stagingFor(byteLength);
    new Uint8Array(staging.getMappedRange(0, byteLength)).set(new Uint8Array(data.buffer, data.byteOffset, byteLength));
    staging.unmap();
    const encoder = this.device.createCommandEncoder({ label: 'upload' });
    encoder.copyBufferToBuffer(staging, 0, to, offset, byteLength);
    this.device.queue.submit([encoder.finish()]);
    staging.mapAsync(GPUMapMode.WRITE).then(
      () => {
        if (this.free.length < KEPT) this.free.push(staging);
        else staging.destroy();
      },
      () => staging.destroy(), // the device is gone; whoever uses it next is told
    );
  }

  private stagingFor(bytes: number): GPUBuffer {
    const found = this.free.findIndex(({ size }) => size >= bytes && size <= 2 * bytes);
    if (found >= 0) return this.free.splice(found, 1)[0];
    if (this.free.length === KEPT) this.free.shift()?.destroy(); // of a size that is no longer asked for
    return this.device.createBuffer({ label: 'upload', size: bytes, usage: GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC, mappedAtCreation: true });
  }
}
