/**
 * Bind groups, cached by what they bind. Making one costs more than recording its dispatch, and on lavapipe each leaks some
 * kilobytes. A group is dropped when one of its buffers or textures is destroyed.
 */
import type { Kernel } from './pipelines.ts';
import type { BufferSlice } from './pool.ts';
import type { TexelCopy } from './texels.ts';

const MAX_BIND_GROUPS = 8192;

/** A storage, or a texture that holds a copy of one. */
export type Bound = BufferSlice | TexelCopy;

const idOf = (bound: Bound): number => ('view' in bound ? bound.id : bound.buffer.id);

export class BindGroups {
  private readonly groups = new Map<string, GPUBindGroup>();
  private readonly keysOf = new Map<number, string[]>();

  constructor(private readonly device: GPUDevice) {}

  /** The group of a kernel's bindings; `label` names it in the device's messages. */
  of(kernel: Kernel, bound: readonly Bound[], label: string): GPUBindGroup {
    let key = kernel.shader.bindings.length === 0 ? '' : kernel.layout.label;
    for (const each of bound) key += 'view' in each ? `|${each.id}` : `|${each.buffer.id},${each.offset},${each.bytes}`;
    return this.groups.get(key) ?? this.make(key, kernel, bound, label);
  }

  private make(key: string, kernel: Kernel, bound: readonly Bound[], label: string): GPUBindGroup {
    if (this.groups.size >= MAX_BIND_GROUPS) {
      this.groups.clear();
      this.keysOf.clear();
    }
    const group = this.device.createBindGroup({
      label,
      layout: kernel.layout,
      entries: bound.map((each, binding) => ({
        binding,
        resource: 'view' in each ? each.view : { buffer: each.buffer.gpuBuffer, offset: each.offset, size: Math.max(16, Math.ceil(each.bytes / 16) * 16) },
      })),
    });
    this.groups.set(key, group);
    for (const each of bound) {
      const keys = this.keysOf.get(idOf(each));
      if (keys) keys.push(key);
      else this.keysOf.set(idOf(each), [key]);
    }
    return group;
  }

  /** Drops the groups that bind a buffer or texture. */
  forget(id: number): void {
    for (const key of this.keysOf.get(id) ?? []) this.groups.delete(key);
    this.keysOf.delete(id);
  }
}
