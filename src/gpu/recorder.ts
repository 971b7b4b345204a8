/**
 * Records commands into one encoder and one open pass. It submits them when a value is read, when an upload would overtake
 * them, or when there are enough to keep the driver busy.
 */
import { GpuError } from '../errors.ts';
import type { BindGroups } from './bindings.ts';
import type { Faults } from './faults.ts';
import type { Kernel } from './pipelines.ts';
import type { BufferSlice } from './pool.ts';
import type { Profiler, SpanKind } from './profiler.ts';
import type { TexelCopy, TexelPool, TexelSlice } from './texels.ts';
import type { ParamValues, UniformRing } from './uniforms.ts';
import type { Uploads } from './uploads.ts';

const MAX_GROUPS_PER_DIMENSION = 65535;
/** Dispatches after which a batch is submitted, so that the driver works while JavaScript records the next. */
const BATCH = 48;

/** Workgroups in x, y, z. */
export type Grid = readonly [number, number, number];

/** The version of a kernel family that a dispatch belongs to, and the rule that chose it. Profiles and traces show it. */
export interface Choice {
  readonly family: string;
  readonly version: string;
  /** The shader file; for a shader of the user's, that of the version that it is like. */
  readonly shader: string;
  /** Workgroups that the built-in version has. */
  readonly groups: Grid;
  readonly why: string;
  /** What the launcher was asked for, as its family defines it. */
  readonly problem: unknown;
}

/** A dispatch, as it is recorded. */
export interface Dispatch {
  kernel: Kernel;
  slices: readonly (BufferSlice | TexelSlice)[];
  params: ParamValues;
  groups: Grid;
  /** The operation and its shapes. */
  label: string;
  /** Null for a kernel that belongs to no family. */
  choice: Choice | null;
}

/** Sees every command before and after it is recorded, and may record commands of its own. Traces are made with it. */
export interface Watcher {
  before(dispatch: Dispatch): void;
  after(dispatch: Dispatch): void;
  cleared(slice: BufferSlice): void;
  copied(from: BufferSlice, to: BufferSlice, bytes: number, fromOffset: number, toOffset: number): void;
  uploaded(slice: BufferSlice, byteOffset: number, data: ArrayBufferView): void;
}

export class Recorder {
  profiler: Profiler | null = null;
  /** Dispatches and submits so far. */
  dispatches = 0;
  submits = 0;
  /** When set, called with each dispatch as it is recorded. */
  trace: ((dispatch: Dispatch) => void) | null = null;
  /** Called when commands were lost. Copies that they should have made must not be trusted. */
  onLoss: () => void = () => {};

  private encoder: GPUCommandEncoder | null = null;
  private pass: GPUComputePassEncoder | null = null;
  private batch = 0;
  private recorded = 0;
  /** Labels of the open batch's commands, for the message of a failing submit. */
  private labels: string[] = [];

  constructor(
    private readonly device: GPUDevice,
    private readonly faults: Faults,
    private readonly uniforms: UniformRing,
    private readonly bindGroups: BindGroups,
    private readonly texels: TexelPool,
    private readonly uploads: Uploads,
  ) {}

  /** The open batch's encoder, outside a pass. */
  private command(): GPUCommandEncoder {
    this.pass?.end();
    this.pass = null;
    return this.begin();
  }

  private begin(): GPUCommandEncoder {
    this.encoder ??= this.device.createCommandEncoder({ label: `batch ${this.batch}` });
    return this.encoder;
  }

  /** Records commands outside a pass. A profiler takes their time. */
  private outside(kind: SpanKind, label: () => string, bytes: number, commands: (encoder: GPUCommandEncoder) => void): void {
    const encoder = this.command();
    if (this.profiler) this.profiler.around(encoder, kind, label(), bytes, () => commands(encoder));
    else commands(encoder);
  }

  private touch(slice: BufferSlice, writes: boolean): void {
    slice.buffer.batch = this.batch;
    if (writes) slice.buffer.writes++;
  }

  private note(label: string): void {
    this.recorded++;
    this.labels.push(label);
    if (this.faults.found) this.fail();
    if (this.profiler?.full) this.flush();
  }

  /** Throws the error of recording the last command. The encoder stays invalid after it, so its commands are dropped. */
  private fail(): void {
    const operation = this.labels[this.labels.length - 1];
    this.abandon();
    this.faults.check(operation);
  }

  /** Drops all commands that are recorded but not submitted. */
  abandon(): void {
    this.onLoss();
    this.encoder = null;
    this.pass = null;
    this.uniforms.discard();
    this.recorded = 0;
    this.labels = [];
    this.batch++;
  }

  dispatch(dispatch: Dispatch): void {
    const { kernel, slices, params, groups, label } = dispatch;
    // The order matters: copying texels and making room for parameters may both submit what is recorded so far.
    const bound = kernel.readsTexels ? this.copyTexels(kernel, slices) : slices;
    const { length: paramCount } = kernel.shader.params;
    if (paramCount > 0 && !this.uniforms.hasRoom(kernel)) this.flush();
    const offset = paramCount > 0 ? this.uniforms.write(kernel, params) : 0;
    const group = this.faults.guard(label, () => this.bindGroups.of(kernel, bound, label));
    const encoder = this.profiler ? this.command() : this.begin(); // a profiled dispatch has a pass of its own
    this.pass ??= encoder.beginComputePass({ label, timestampWrites: this.profiler?.begin(dispatch) });
    const { pass } = this;
    pass.setPipeline(kernel.pipeline);
    pass.setBindGroup(0, group);
    if (paramCount > 0) pass.setBindGroup(1, this.uniforms.group, [offset]);
    pass.dispatchWorkgroups(groups[0], groups[1], groups[2]);
    for (let i = 0; i < slices.length; i++) {
      const each = bound[i];
      if ('view' in each) this.texels.release(each, slices[i] as TexelSlice);
      this.touch(slices[i], kernel.shader.bindings[i].access === 'read_write');
    }
    this.dispatches++;
    this.trace?.(dispatch);
    this.note(label);
    if (this.recorded >= BATCH) this.flush();
  }

  /** Copies the operands that the kernel reads as texels into textures. */
  private copyTexels(kernel: Kernel, slices: readonly (BufferSlice | TexelSlice)[]): (BufferSlice | TexelCopy)[] {
    const copies = new Map<TexelSlice, TexelCopy>();
    try {
      return slices.map((slice, i) => {
        if (kernel.shader.bindings[i].access !== 'texels') return slice;
        if (!('layout' in slice))
          throw new GpuError('internal', kernel.name, `reads ${kernel.shader.bindings[i].name} as texels, but no layout was given for it`);
        const copy = copies.get(slice) ?? this.texels.copy((label, bytes, commands) => this.outside('texels', () => label, bytes, commands), slice);
        copies.set(slice, copy);
        return copy;
      });
    } catch (error) {
      for (const [slice, copy] of copies) this.texels.release(copy, slice);
      throw error;
    }
  }

  clear(slice: BufferSlice): void {
    const [label, bytes] = [`clear ${slice.buffer.label}`, Math.ceil(slice.bytes / 4) * 4];
    this.outside(
      'clear',
      () => label,
      bytes,
      (encoder) => encoder.clearBuffer(slice.buffer.gpuBuffer, slice.offset, bytes),
    );
    this.touch(slice, true);
    this.note(label);
  }

  copy(from: BufferSlice, to: BufferSlice, bytes: number, fromOffset: number, toOffset: number): void {
    this.outside(
      'copy',
      () => `${from.buffer.label} to ${to.buffer.label}`,
      2 * bytes,
      (encoder) => encoder.copyBufferToBuffer(from.buffer.gpuBuffer, from.offset + fromOffset, to.buffer.gpuBuffer, to.offset + toOffset, bytes),
    );
    this.touch(from, false);
    this.touch(to, true);
    this.note(`copy of ${bytes} bytes from ${from.buffer.label} to ${to.buffer.label}`);
  }

  /** An upload takes effect before commands that are not submitted yet. If some of them use this buffer, they are submitted first. */
  upload(slice: BufferSlice, data: ArrayBufferView, byteOffset: number, operation: string): void {
    if (slice.buffer.batch === this.batch) this.flush();
    const start = performance.now();
    this.faults.guard(operation, () => this.uploads.write(slice.buffer.gpuBuffer, slice.offset + byteOffset, data));
    this.profiler?.upload(slice.buffer.label, data.byteLength, performance.now() - start);
    slice.buffer.writes++;
    if (this.faults.found) this.faults.check(operation);
  }

  /** Records commands that the caller makes, such as copies to staging buffers. */
  record<T>(commands: (encoder: GPUCommandEncoder) => T): T {
    return commands(this.command());
  }

  /** Submits what is recorded. */
  flush(): void {
    if (!this.encoder) return;
    const encoder = this.command();
    const resolved = this.profiler?.resolve(encoder);
    const { labels, batch } = this;
    this.encoder = null;
    this.recorded = 0;
    this.labels = [];
    this.batch++;
    this.submits++;
    const operation = `submitting ${labels.length} commands, the last: ${labels.slice(-4).join('; ')}`;
    this.faults.guard(operation, () => {
      this.uniforms.upload();
      this.device.queue.submit([encoder.finish({ label: `batch ${batch}` })]);
    });
    resolved?.();
    if (this.faults.found) {
      this.onLoss();
      this.faults.check(operation);
    }
  }
}

/** Throws if the number of bindings is wrong or there are too many workgroups. False if there is no workgroup to launch. */
export function checkLaunch(kernel: Kernel, bindings: number, groups: Grid, label: string): boolean {
  if (bindings !== kernel.shader.bindings.length)
    throw new GpuError('internal', label, `${kernel.name} binds ${kernel.shader.bindings.length} buffers, got ${bindings}`);
  for (const count of groups) {
    if (!(count >= 0 && count <= MAX_GROUPS_PER_DIMENSION))
      throw new GpuError('limit', label, `needs ${groups.join(' × ')} workgroups, at most ${MAX_GROUPS_PER_DIMENSION} go in one dimension`);
  }
  return groups[0] * groups[1] * groups[2] > 0;
}
