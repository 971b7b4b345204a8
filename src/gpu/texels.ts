/**
 * Copies of storage in textures, for kernels that read them faster so: lavapipe loads a texel for all lanes of a subgroup
 * at once, but a buffer's elements one lane after the other. Vec4 i of the storage is texel (i mod ROW, i / ROW).
 *
 * A copy lives for one dispatch, and its texture is used again by the next, since the driver keeps their order. But what is
 * copied a second time unchanged (weights, step after step) is kept: such a copy serves until its buffer is written.
 */
import type { BufferPool, BufferSlice, PooledBuffer } from './pool.ts';

/** Texels in a row; shaders hold the same number. */
export const TEXEL_ROW = 4096;
const TEXEL_BYTES = 16;
/** Kept copies beyond this give way, the one used longest ago first. */
const MAX_KEPT_BYTES = 256 << 20;

export interface TexelCopy {
  texture: GPUTexture;
  view: GPUTextureView;
  id: number;
  rows: number;
}

const bytesOf = ({ rows }: TexelCopy) => rows * TEXEL_ROW * TEXEL_BYTES;
const keyOf = ({ buffer, offset, bytes }: BufferSlice) => `${buffer.id},${offset},${bytes}`;

export class TexelPool {
  private readonly free = new Map<number, TexelCopy[]>();
  /** By slice, the one used longest ago first; `writes` is the buffer's count when it was copied. */
  private readonly kept = new Map<string, { copy: TexelCopy; writes: number; buffer: PooledBuffer }>();
  /** Each buffer's slices that were copied since it was last written. */
  private readonly copied = new Map<number, { writes: number; keys: Set<string> }>();
  /** Handed out and not released: the dispatch that reads them is not recorded yet. */
  private readonly lent = new Set<TexelCopy>();
  private keptBytes = 0;
  private freeBytes = 0;
  private nextId = 1;

  constructor(
    private readonly device: GPUDevice,
    private readonly pool: BufferPool,
  ) {}

  /** Whether the storage fits one texture, in whole texels. */
  static fits(device: GPUDevice, bytes: number): boolean {
    return bytes <= device.limits.maxTextureDimension2D * TEXEL_ROW * TEXEL_BYTES;
  }

  get bytes(): number {
    return this.keptBytes + this.freeBytes;
  }

  /** A texture with what the slice holds; records a copy unless one is kept. Call `release` once the dispatch that reads it is recorded. */
  copy(encoder: () => GPUCommandEncoder, slice: BufferSlice): TexelCopy {
    const key = keyOf(slice);
    const { buffer } = slice;
    const known = this.kept.get(key);
    if (known) {
      this.kept.delete(key);
      this.kept.set(key, known);
      this.lent.add(known.copy);
      if (known.writes === buffer.writes) return known.copy;
    }
    const copy = known?.copy ?? this.take(slice);
    this.lent.add(copy);
    this.record(encoder(), slice, copy);
    if (known) known.writes = buffer.writes;
    else if (this.seenBefore(key, buffer)) this.keep(key, copy, buffer);
    return copy;
  }

  private seenBefore(key: string, { id, writes }: PooledBuffer): boolean {
    const seen = this.copied.get(id);
    if (seen?.writes === writes) {
      if (seen.keys.has(key)) return true;
      seen.keys.add(key);
    } else this.copied.set(id, { writes, keys: new Set([key]) });
    return false;
  }

  private keep(key: string, copy: TexelCopy, buffer: PooledBuffer): void {
    const bytes = bytesOf(copy);
    if (bytes > MAX_KEPT_BYTES) return;
    this.kept.set(key, { copy, writes: buffer.writes, buffer });
    this.keptBytes += bytes;
    for (const oldest of this.kept.keys()) {
      if (this.keptBytes <= MAX_KEPT_BYTES) break;
      this.drop(oldest);
    }
  }

  /** Lets a kept copy's texture go to others, unless it is lent. */
  private drop(key: string): void {
    const known = this.kept.get(key);
    if (!known || this.lent.has(known.copy)) return;
    this.kept.delete(key);
    this.keptBytes -= bytesOf(known.copy);
    this.toFree(known.copy);
  }

  /** Commands were lost, those that made kept copies perhaps among them: all are made anew. */
  distrust(): void {
    for (const known of this.kept.values()) known.writes = -1;
  }

  /** Lets go of the copies of a buffer that holds nothing any more. */
  forget({ id }: PooledBuffer): void {
    if (!this.copied.delete(id)) return; // never copied, so nothing is kept
    for (const [key, { buffer }] of this.kept) if (buffer.id === id) this.drop(key);
  }

  private take(slice: BufferSlice): TexelCopy {
    const needed = Math.ceil(slice.bytes / TEXEL_BYTES / TEXEL_ROW);
    const rows = needed <= 4 ? needed : Math.min(2 ** Math.ceil(Math.log2(needed)), this.device.limits.maxTextureDimension2D);
    const free = this.free.get(rows)?.pop();
    if (!free) return this.create(rows, slice.buffer.label);
    this.freeBytes -= bytesOf(free);
    return free;
  }

  private record(encoder: GPUCommandEncoder, slice: BufferSlice, copy: TexelCopy): void {
    const texels = Math.ceil(slice.bytes / TEXEL_BYTES);
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
  }

  private create(rows: number, label: string): TexelCopy {
    this.pool.reserve(rows * TEXEL_ROW * TEXEL_BYTES, `copy of ${label} for reading as texels`);
    const texture = this.device.createTexture({
      label: `texels of ${label}`,
      size: [TEXEL_ROW, rows],
      format: 'rgba32float',
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST,
    });
    return { texture, view: texture.createView(), id: -this.nextId++, rows };
  }

  private toFree(copy: TexelCopy): void {
    this.freeBytes += bytesOf(copy);
    const list = this.free.get(copy.rows);
    if (list) list.push(copy);
    else this.free.set(copy.rows, [copy]);
  }

  /** Takes back what `copy` gave, unless it is kept; once more for a second operand that is the same storage changes nothing. */
  release(copy: TexelCopy, slice: BufferSlice): void {
    if (this.lent.delete(copy) && this.kept.get(keyOf(slice))?.copy !== copy) this.toFree(copy);
  }

  /** Destroys all textures that are not lent; returns the bytes they held. */
  trim(onDestroy: (copy: TexelCopy) => void): number {
    for (const key of [...this.kept.keys()]) this.drop(key);
    const bytes = this.freeBytes;
    for (const list of this.free.values()) {
      for (const copy of list) {
        onDestroy(copy);
        copy.texture.destroy();
      }
    }
    this.free.clear();
    this.copied.clear();
    this.freeBytes = 0;
    return bytes;
  }
}
