/**
 * Copies of storage in textures, for kernels that read them faster so: lavapipe loads a texel for all lanes of a subgroup
 * at once, but a buffer's elements one lane after the other. Vec4 i of the storage is texel (i mod ROW, i / ROW). A copy
 * lives for one dispatch; its texture is used again by the next, since the driver keeps their order.
 */
import type { BufferPool, BufferSlice } from './pool.ts';

/** Texels in a row; shaders hold the same number. */
export const TEXEL_ROW = 4096;
const TEXEL_BYTES = 16;

export interface TexelCopy {
  texture: GPUTexture;
  view: GPUTextureView;
  id: number;
  rows: number;
}

export class TexelPool {
  private readonly free = new Map<number, TexelCopy[]>();
  private nextId = 1;

  constructor(
    private readonly device: GPUDevice,
    private readonly pool: BufferPool,
  ) {}

  /** Whether the storage fits one texture, in whole texels. */
  static fits(device: GPUDevice, bytes: number): boolean {
    return bytes <= device.limits.maxTextureDimension2D * TEXEL_ROW * TEXEL_BYTES;
  }

  /** Records the copy. Call `release` once the dispatch that reads it is recorded. */
  copy(encoder: GPUCommandEncoder, slice: BufferSlice): TexelCopy {
    const texels = Math.ceil(slice.bytes / TEXEL_BYTES);
    const needed = Math.ceil(texels / TEXEL_ROW);
    const rows = needed <= 4 ? needed : Math.min(2 ** Math.ceil(Math.log2(needed)), this.device.limits.maxTextureDimension2D);
    const copy = this.free.get(rows)?.pop() ?? this.create(rows, slice.buffer.label);
    const whole = Math.floor(texels / TEXEL_ROW);
    const bytesPerRow = TEXEL_ROW * TEXEL_BYTES;
    const buffer = slice.buffer.gpuBuffer;
    if (whole > 0) encoder.copyBufferToTexture({ buffer, offset: slice.offset, bytesPerRow }, copy, [TEXEL_ROW, whole]);
    const rest = texels - whole * TEXEL_ROW;
    if (rest > 0)
      encoder.copyBufferToTexture({ buffer, offset: slice.offset + whole * bytesPerRow, bytesPerRow }, { texture: copy.texture, origin: [0, whole] }, [
        rest,
        1,
      ]);
    return copy;
  }

  private create(rows: number, label: string): TexelCopy {
    const bytes = rows * TEXEL_ROW * TEXEL_BYTES;
    this.pool.reserve(bytes, `copy of ${label} for reading as texels`);
    const texture = this.device.createTexture({
      label: `texels of ${label}`,
      size: [TEXEL_ROW, rows],
      format: 'rgba32float',
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST,
    });
    return { texture, view: texture.createView(), id: -this.nextId++, rows };
  }

  release(copy: TexelCopy): void {
    const list = this.free.get(copy.rows);
    if (list) list.push(copy);
    else this.free.set(copy.rows, [copy]);
  }

  /** Destroys all textures; returns the bytes they held. */
  trim(onDestroy: (copy: TexelCopy) => void): number {
    let bytes = 0;
    for (const list of this.free.values()) {
      for (const copy of list) {
        onDestroy(copy);
        copy.texture.destroy();
        bytes += copy.rows * TEXEL_ROW * TEXEL_BYTES;
      }
    }
    this.free.clear();
    return bytes;
  }
}
