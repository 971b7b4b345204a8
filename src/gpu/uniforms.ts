/**
 * Parameters of dispatches: one uniform buffer, used as a ring of 256-byte slots with dynamic offsets. Recording a dispatch
 * fills the host's copy, which is uploaded once per submit.
 */
import { GpuError } from '../errors.ts';
import type { Kernel } from './pipelines.ts';

/** A number, several numbers, or a function that every replay calls again (for a step's number or a learning rate). */
export type ParamValue = number | readonly number[] | (() => number);
/** The fields of a shader’s `Params`, by name; all of them, and no others. */
export type ParamValues = Record<string, ParamValue>;

/** The parameters that are single numbers, at their present values. */
export function scalarParams(params: ParamValues): Record<string, number> {
  const scalars: Record<string, number> = {};
  for (const [name, value] of Object.entries(params)) if (typeof value !== 'object') scalars[name] = typeof value === 'function' ? value() : value;
  return scalars;
}

const RING_BYTES = 1 << 18;
/** WebGPU's guaranteed alignment of dynamic offsets. */
const SLOT_BYTES = 256;

export class UniformRing {
  readonly layout: GPUBindGroupLayout;
  readonly group: GPUBindGroup;
  private readonly buffer: GPUBuffer;
  private readonly bytes = new ArrayBuffer(RING_BYTES);
  private readonly views = { u32: new Uint32Array(this.bytes), i32: new Int32Array(this.bytes), f32: new Float32Array(this.bytes) };
  private used = 0;

  constructor(private readonly device: GPUDevice) {
    this.layout = device.createBindGroupLayout({
      label: 'params',
      entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform', hasDynamicOffset: true } }],
    });
    this.buffer = device.createBuffer({ label: 'uniform ring', size: RING_BYTES, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.group = device.createBindGroup({
      label: 'uniform ring',
      layout: this.layout,
      entries: [{ binding: 0, resource: { buffer: this.buffer, size: SLOT_BYTES } }],
    });
  }

  /** Whether the parameters of one more dispatch of this kernel fit before the next submit. */
  hasRoom({ shader: { paramWords } }: Kernel): boolean {
    return this.used + this.slotBytes(paramWords) <= RING_BYTES;
  }

  private slotBytes(words: number): number {
    return Math.ceil((words * 4) / SLOT_BYTES) * SLOT_BYTES;
  }

  /** Writes the parameters by name into the next slot. Returns its offset in bytes. Throws on a missing or unknown name. */
  write(kernel: Kernel, values: ParamValues): number {
    const { params, paramWords } = kernel.shader;
    const offset = this.used;
    this.used += this.slotBytes(paramWords);
    let given = 0;
    for (const { name, type, count, offset: word } of params) {
      const value = values[name];
      if (value === undefined) throw new GpuError('internal', kernel.name, `parameter ${name} is missing`);
      given++;
      const view = this.views[type];
      const at = offset / 4 + word;
      if (typeof value !== 'object') {
        view[at] = typeof value === 'function' ? value() : value;
        continue;
      }
      if (value.length > count) throw new GpuError('internal', kernel.name, `parameter ${name} takes ${count} numbers, got ${value.length}`);
      for (let i = 0; i < value.length; i++) view[at + i] = value[i];
      for (let i = value.length; i < count; i++) view[at + i] = 0;
    }
    if (given !== Object.keys(values).length) {
      const unknown = Object.keys(values).filter((name) => !params.some((p) => p.name === name));
      throw new GpuError('internal', kernel.name, `has no parameter ${unknown.join(', ')}`);
    }
    return offset;
  }

  /** Uploads what was written since the last submit and empties the ring. */
  upload(): void {
    if (this.used > 0) this.device.queue.writeBuffer(this.buffer, 0, this.bytes, 0, this.used);
    this.used = 0;
  }

  /** Empties the ring without uploading, because its commands are lost. */
  discard(): void {
    this.used = 0;
  }
}
