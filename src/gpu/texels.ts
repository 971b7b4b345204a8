/**
 * Copies of storage in textures, which some drivers read faster than buffers. Lavapipe loads a texel for all lanes of a
 * subgroup at once, but the elements of a buffer one lane after the other.
 *
 * A copy lives for one dispatch. The next dispatch can use its texture again, because the driver keeps their order. A storage
 * that is copied a second time unchanged, such as weights at each step, keeps its copy until it is written.
 */
import type { Faults } from './faults.ts';
import { type BufferPool, type BufferSlice, type PooledBuffer, quarterClass } from './pool.ts';

const TEXEL_BYTES = 16;
/** On lavapipe, the rows of a texture begin at multiples of a cache line. */
const LINE_TEXELS = 4;
/** `copyBufferToTexture` wants rows of a multiple of this. */
const COPY_TEXELS = 16;
const LINEAR_ROW = 4096;
/** Beyond this, kept copies are dropped, the least recently used first. */
const MAX_KEPT_BYTES = 256 << 20;

/**
 * How a matrix lies in a texture. It has `rows` stored rows, each of `row` texels; a texel is four numbers. A row of the texture
 * holds `together` whole rows, as few as the limits of textures and copies allow. With `together` 0 the texels follow one
 * another without regard to rows. Whole rows take an odd number of cache lines, because kernels read many rows at once. Rows
 * that are a power of two apart would push one another out of the cache.
 */
export interface TexelLayout {
  rows: number;
  row: number;
  together: number;
  width: number;
  height: number;
}

/** An operand that a kernel reads as texels. */
export interface TexelSlice extends BufferSlice {
  layout: TexelLayout;
}

/** The layout for `rows` rows of `row` texels; null if no texture is large enough. */
export function texelLayout({ limits }: GPUDevice, rows: number, row: number): TexelLayout | null {
  const most = limits.maxTextureDimension2D;
  let together = 1;
  while ((together * row) % COPY_TEXELS !== 0 || rows > most * together) together *= 2;
  const lines = Math.ceil((together * row) / LINE_TEXELS);
  const width = LINE_TEXELS * (lines | 1);
  if (width <= most) return { rows, row, together, width, height: Math.ceil(rows / together) };
  const height = Math.ceil((rows * row) / LINEAR_ROW);
  return height <= most ? { rows, row, together: 0, width: LINEAR_ROW, height } : null;
}

/**
 * The parameters with which shaders find texels. Vec4 `i` of stored row `r` is this texel:
 *
 *   (x & x_mask, (r >> row_shift) + (x >> x_shift))   with   x = (r & row_mask) · row + i
 */
export function texelParams(operand: string, { row, together }: TexelLayout): Record<string, number> {
  const [rowMask, rowShift, xMask, xShift] =
    together > 0 ? [together - 1, Math.log2(together), 0xffffffff, 31] : [0xffffffff, 31, LINEAR_ROW - 1, Math.log2(LINEAR_ROW)];
  return {
    [`${operand}_row`]: row,
    [`${operand}_row_mask`]: rowMask,
    [`${operand}_row_shift`]: rowShift,
    [`${operand}_x_mask`]: xMask,
    [`${operand}_x_shift`]: xShift,
  };
}

export interface TexelCopy {
  texture: GPUTexture;
  view: GPUTextureView;
  id: number;
}

/** A free texture is taken for a copy if it is at most so many times as high as the copy needs. One for a dispatch is soon free again. */
const MOST_TOO_HIGH = { kept: 2, forOneDispatch: 8 };

const bytesOf = ({ texture }: TexelCopy) => texture.width * texture.height * TEXEL_BYTES;
const keyOf = ({ buffer, offset, bytes, layout }: TexelSlice) => `${buffer.id},${offset},${bytes},${layout.width},${layout.row}`;

export class TexelPool {
  /** By width. */
  private readonly free = new Map<number, TexelCopy[]>();
  /** By slice, the least recently used first. `writes` is the buffer's number of writes when it was copied. */
  private readonly kept = new Map<string, { copy: TexelCopy; writes: number; buffer: PooledBuffer }>();
  /** By buffer: the slices that were copied since it was last written. */
  private readonly copied = new Map<number, { writes: number; keys: Set<string> }>();
  /** Handed out and not released yet: the dispatch that reads them is not recorded. */
  private readonly lent = new Set<TexelCopy>();
  private keptBytes = 0;
  private freeBytes = 0;
  private nextId = 1;

  constructor(
    private readonly device: GPUDevice,
    private readonly pool: BufferPool,
    private readonly faults: Faults,
  ) {}

  get bytes(): number {
    return this.keptBytes + this.freeBytes;
  }

  /** A texture with the slice's contents. Records a copy unless one is kept. Call `release` once the dispatch that reads it is recorded. */
  copy(outside: (label: string, bytes: number, commands: (encoder: GPUCommandEncoder) => void) => void, slice: TexelSlice): TexelCopy {
    const key = keyOf(slice);
    const { buffer } = slice;
    const known = this.kept.get(key);
    if (known) {
      this.kept.delete(key);
      this.kept.set(key, known);
      this.lent.add(known.copy);
      if (known.writes === buffer.writes) return known.copy;
    }
    const keeps = !known && this.isCopiedAgain(key, buffer);
    const copy = known?.copy ?? this.take(slice, keeps ? MOST_TOO_HIGH.kept : MOST_TOO_HIGH.forOneDispatch);
    this.lent.add(copy);
    outside(buffer.label, 2 * slice.bytes, (encoder) => this.record(encoder, slice, copy));
    if (known) known.writes = buffer.writes;
    else if (keeps) this.keep(key, copy, buffer);
    return copy;
  }

  /**
   * Whether a slice was copied before and not written since; notes that it is copied now. What a capture computes does not count. It is
   * read a few times within a replay, and each captured shape would keep copies of its own.
   */
  private isCopiedAgain(key: string, { id, writes, captured }: PooledBuffer): boolean {
    if (captured) return false;
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

  /** Frees a kept copy's texture for other uses, unless it is lent. */
  private drop(key: string): void {
    const known = this.kept.get(key);
    if (!known || this.lent.has(known.copy)) return;
    this.kept.delete(key);
    this.keptBytes -= bytesOf(known.copy);
    this.toFree(known.copy);
  }

  /** Makes all kept copies be copied again. Called when commands were lost, because some of them may have made copies. */
  distrust(): void {
    for (const known of this.kept.values()) known.writes = -1;
  }

  /** Drops the copies of a buffer that nobody uses any longer. */
  forget({ id }: PooledBuffer): void {
    if (!this.copied.delete(id)) return; // never copied, so nothing is kept
    for (const [key, { buffer }] of this.kept) if (buffer.id === id) this.drop(key);
  }

  /** A texture of the layout's width, which tells the distance of rows, and at least its height: no shader asks how high it is. */
  private take({ layout, buffer }: TexelSlice, most: number): TexelCopy {
    const { width, height } = layout;
    const list = this.free.get(width) ?? [];
    let best = -1;
    for (const [i, { texture }] of list.entries())
      if (texture.height >= height && texture.height <= most * height && (best < 0 || texture.height < list[best].texture.height)) best = i;
    if (best < 0) return this.create(width, Math.min(quarterClass(height), this.device.limits.maxTextureDimension2D), buffer.label);
    const [copy] = list.splice(best, 1);
    this.freeBytes -= bytesOf(copy);
    return copy;
  }

  private record(encoder: GPUCommandEncoder, slice: TexelSlice, { texture }: TexelCopy): void {
    const { layout, offset } = slice;
    const texels = layout.rows * layout.row;
    const row = layout.together * layout.row || LINEAR_ROW;
    const [whole, rest] = [Math.floor(texels / row), texels % row];
    const source = { buffer: slice.buffer.gpuBuffer, offset, bytesPerRow: row * TEXEL_BYTES };
    if (whole > 0) encoder.copyBufferToTexture(source, { texture }, [row, whole]);
    if (rest > 0) encoder.copyBufferToTexture({ ...source, offset: offset + whole * source.bytesPerRow }, { texture, origin: [0, whole] }, [rest, 1]);
  }

  private create(width: number, height: number, label: string): TexelCopy {
    const operation = `copy of ${label} for reading as texels`;
    this.pool.reserve(width * height * TEXEL_BYTES, operation);
    const usage = GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST;
    const texture = this.faults.guard(operation, () =>
      this.device.createTexture({ label: `texels of ${label}`, size: [width, height], format: 'rgba32float', usage }),
    );
    return { texture, view: texture.createView(), id: -this.nextId++ };
  }

  private toFree(copy: TexelCopy): void {
    this.freeBytes += bytesOf(copy);
    const { width } = copy.texture;
    const list = this.free.get(width);
    if (list) list.push(copy);
    else this.free.set(width, [copy]);
  }

  /** Takes back a texture of `copy`, unless it is kept. A second call, for a second operand on the same storage, does nothing. */
  release(copy: TexelCopy, slice: TexelSlice): void {
    if (this.lent.delete(copy) && this.kept.get(keyOf(slice))?.copy !== copy) this.toFree(copy);
  }

  /** Destroys all textures that are not lent. Returns their bytes. */
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
