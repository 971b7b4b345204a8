/**
 * The one device of this process: opens it, records dispatches into one encoder and pass, caches pipelines and bind
 * groups, turns everything Dawn reports into a `GpuError`, and reads results back. Commands are only submitted when a
 * value is read, when an upload would overtake them, or when enough have gathered to keep the driver busy.
 */
import { freemem } from 'node:os';
import { GpuError, type GpuErrorKind, messageOf } from '../errors.ts';
import { type FoundAdapter, findAdapter, isSoftware } from '../platform/node/driver.ts';
import { throttlePolling } from '../platform/node/polling.ts';
import { BufferPool, type BufferSlice, type MemoryReport } from './pool.ts';
import type { Profiler } from './profiler.ts';
import { type LoadedShader, loadShader, type ShaderVariant } from './shader.ts';
import { type TexelCopy, type TexelLayout, TexelPool, type TexelSlice, texelLayout } from './texels.ts';

/** A number, several, or one that is asked for anew at every replay (a step's number, a learning rate). */
export type ParamValue = number | readonly number[] | (() => number);
export type ParamValues = Record<string, ParamValue>;

/** Commands of a captured piece of work. Its buffers stay reserved until `dispose`. */
export interface Replay {
  /** Records the same commands again, on what the same buffers hold now. */
  run(): void;
  dispose(): void;
}

/** A compiled shader with what is needed to bind and launch it. */
export interface Kernel {
  name: string;
  shader: LoadedShader;
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
  readsTexels: boolean;
}

/** Bytes of the uniform ring; each dispatch takes one or more 256-byte slots of it. */
const RING_BYTES = 1 << 18;
const MAX_GROUPS_PER_DIMENSION = 65535;
/** Dispatches after which a batch is submitted, so that the driver works while JavaScript records the next. */
const BATCH = 48;
const MAX_BIND_GROUPS = 8192;

export class Gpu {
  readonly software: boolean;
  readonly adapterName: string;
  readonly driverName: string;
  readonly pool: BufferPool;
  /** Width of a subgroup when it is the same for every kernel, else 0. */
  readonly subgroupWidth: number;
  profiler: Profiler | null = null;
  /** Dispatches and submits so far, for tests and for the host-time report. */
  dispatches = 0;
  submits = 0;
  /** When set, called with each kernel's name as it is recorded. */
  trace: ((kernel: string, label: string) => void) | null = null;

  private readonly texels: TexelPool;
  /** By source and name: storages made of others, and the source's count of writes when they were. */
  private readonly prepared = new Map<string, { from: BufferSlice; to: BufferSlice; writes: number }>();
  /** By buffer and family of kernels: its count of writes when `isSteady` was last asked. */
  private readonly writesWhenAsked = new WeakMap<BufferSlice['buffer'], Record<string, number>>();
  private readonly kernels = new Map<string, Kernel>();
  private readonly bindLayouts = new Map<string, GPUBindGroupLayout>();
  private readonly bindGroups = new Map<string, GPUBindGroup>();
  private readonly groupsOfBuffer = new Map<number, string[]>();
  private readonly uniformLayout: GPUBindGroupLayout;
  private readonly ring: { buffer: GPUBuffer; group: GPUBindGroup };
  private readonly ringBytes = new ArrayBuffer(RING_BYTES);
  private readonly ringU32 = new Uint32Array(this.ringBytes);
  private readonly ringI32 = new Int32Array(this.ringBytes);
  private readonly ringF32 = new Float32Array(this.ringBytes);
  private ringUsed = 0;
  private encoder: GPUCommandEncoder | null = null;
  private pass: GPUComputePassEncoder | null = null;
  private batch = 0;
  private recorded = 0;
  /** What the open batch holds, for the message of a failing submit. */
  private labels: string[] = [];
  private readonly staging: GPUBuffer[] = [];
  /** Commands of the capture under way. */
  private capturing: (() => void)[] | null = null;
  private error: { error: unknown; kind: GpuErrorKind } | null = null;
  private closed = false;

  constructor(
    readonly device: GPUDevice,
    readonly found: FoundAdapter,
    budgetBytes: number,
  ) {
    const info = found.adapter.info;
    this.software = isSoftware(info);
    this.adapterName = info.device || info.description || 'unknown';
    this.driverName = info.description || info.vendor || 'unknown';
    this.subgroupWidth = device.features.has('subgroups') && info.subgroupMinSize === info.subgroupMaxSize ? info.subgroupMinSize : 0;
    device.addEventListener('uncapturederror', (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      const kind =
        error.constructor.name === 'GPUOutOfMemoryError' ? 'out-of-memory' : error.constructor.name === 'GPUValidationError' ? 'validation' : 'internal';
      this.error ??= { error, kind };
    });
    void device.lost.then((lost) => {
      if (!this.closed) this.error ??= { error: new Error(lost.message || `device lost (${lost.reason})`), kind: 'lost' };
      this.closed = true;
    });
    this.pool = new BufferPool(
      device,
      budgetBytes,
      () => this.flush(),
      (operation) => this.check(operation),
    );
    this.texels = new TexelPool(device, this.pool);
    this.pool.onRelease = (buffer) => {
      this.texels.forget(buffer);
      this.forgetPrepared(buffer.id);
    };
    this.pool.onDestroy = (buffer) => {
      this.forgetBindGroups(buffer.id);
      this.texels.forget(buffer); // a replay may have copied it since its release
    };
    this.pool.others = { trim: () => this.texels.trim(({ id }) => this.forgetBindGroups(id)), bytes: () => this.texels.bytes };
    this.uniformLayout = device.createBindGroupLayout({
      label: 'params',
      entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform', hasDynamicOffset: true } }],
    });
    const buffer = device.createBuffer({ label: 'uniform ring', size: RING_BYTES, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.ring = {
      buffer,
      group: device.createBindGroup({ label: 'uniform ring', layout: this.uniformLayout, entries: [{ binding: 0, resource: { buffer, size: 256 } }] }),
    };
    this.check('opening the device');
  }

  get isLost(): boolean {
    return this.closed;
  }

  /** One line for every log: which adapter, and that it is a software one. */
  get description(): string {
    return `${this.adapterName}${this.software ? ' (software adapter)' : ''}, ${this.driverName}`;
  }

  /** Throws what Dawn reported since the last check, naming the operation. */
  check(operation: string): void {
    if (this.error) {
      const { error, kind } = this.error;
      if (kind !== 'lost') this.error = null;
      throw new GpuError(kind, operation, `${kind === 'lost' ? 'the device is lost: ' : ''}${messageOf(error)}`, adviceFor(kind));
    }
    if (this.closed) throw new GpuError('lost', operation, 'the device is closed', 'Open a new one with openGpu().');
  }

  /** The compiled kernel of a shader variant, from the cache after its first use. */
  kernel(variant: ShaderVariant): Kernel {
    const key = `${variant.file}|${JSON.stringify(variant.tune ?? 0)}|${JSON.stringify(variant.constants ?? 0)}|${JSON.stringify(variant.expressions ?? 0)}`;
    let kernel = this.kernels.get(key);
    if (!kernel) {
      kernel = this.compile(variant);
      this.kernels.set(key, kernel);
    }
    return kernel;
  }

  private compile(variant: ShaderVariant): Kernel {
    const { file } = variant;
    this.check(`compiling ${file}`);
    const shader = loadShader(variant);
    if (shader.needsSubgroups && !this.device.features.has('subgroups')) {
      throw new GpuError('limit', file, 'needs the feature "subgroups", which this adapter lacks');
    }
    const accessKey = shader.bindings.map((b) => (b.access === 'read' ? 'r' : b.access === 'texels' ? 't' : 'w')).join('');
    let layout = this.bindLayouts.get(accessKey);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        label: accessKey,
        entries: shader.bindings.map(({ access }, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          ...(access === 'texels'
            ? { storageTexture: { access: 'read-only' as const, format: 'rgba32float' as const } }
            : { buffer: { type: access === 'read' ? ('read-only-storage' as const) : ('storage' as const) } }),
        })),
      });
      this.bindLayouts.set(accessKey, layout);
    }
    let pipeline: GPUComputePipeline;
    try {
      const module = this.device.createShaderModule({ label: file, code: shader.code });
      pipeline = this.device.createComputePipeline({
        label: file,
        layout: this.device.createPipelineLayout({ label: file, bindGroupLayouts: shader.params.length ? [layout, this.uniformLayout] : [layout] }),
        compute: { module, entryPoint: 'main', constants: variant.constants },
      });
      this.check(file);
    } catch (error) {
      throw new GpuError('shader', `compiling ${file}`, `${messageOf(error)}\n${numbered(shader.code)}`);
    }
    return { name: file, shader, pipeline, layout, readsTexels: accessKey.includes('t') };
  }

  /** Compiles on the null backend or any other and returns every message, for the test that needs no driver. */
  async compileMessages(variant: ShaderVariant): Promise<string[]> {
    const module = this.device.createShaderModule({ label: variant.file, code: loadShader(variant).code });
    const { messages } = await module.getCompilationInfo();
    return messages.map((m) => `${m.type} ${variant.file}:${m.lineNum}:${m.linePos} ${m.message}`);
  }

  private slot(words: number): number {
    const bytes = Math.ceil((words * 4) / 256) * 256;
    if (this.ringUsed + bytes > RING_BYTES) this.flush();
    const offset = this.ringUsed;
    this.ringUsed += bytes;
    return offset;
  }

  private writeParams(kernel: Kernel, values: ParamValues): number {
    const { params, paramWords } = kernel.shader;
    const offset = this.slot(paramWords);
    let given = 0;
    for (const { name, type, count, offset: word } of params) {
      const value = values[name];
      if (value === undefined) throw new GpuError('internal', kernel.name, `parameter ${name} is missing`);
      given++;
      const view = type === 'f32' ? this.ringF32 : type === 'i32' ? this.ringI32 : this.ringU32;
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

  private bindGroup(kernel: Kernel, slices: readonly (BufferSlice | TexelCopy)[], label: string): GPUBindGroup {
    let key = kernel.shader.bindings.length === 0 ? '' : kernel.layout.label;
    for (const slice of slices) key += 'view' in slice ? `|${slice.id}` : `|${slice.buffer.id},${slice.offset},${slice.bytes}`;
    let group = this.bindGroups.get(key);
    if (!group) {
      if (this.bindGroups.size >= MAX_BIND_GROUPS) {
        this.bindGroups.clear();
        this.groupsOfBuffer.clear();
      }
      group = this.device.createBindGroup({
        label,
        layout: kernel.layout,
        entries: slices.map((slice, binding) => ({
          binding,
          resource:
            'view' in slice ? slice.view : { buffer: slice.buffer.gpuBuffer, offset: slice.offset, size: Math.max(16, Math.ceil(slice.bytes / 16) * 16) },
        })),
      });
      this.bindGroups.set(key, group);
      for (const slice of slices) {
        const id = 'view' in slice ? slice.id : slice.buffer.id;
        const keys = this.groupsOfBuffer.get(id);
        if (keys) keys.push(key);
        else this.groupsOfBuffer.set(id, [key]);
      }
    }
    return group;
  }

  private forgetBindGroups(id: number): void {
    for (const key of this.groupsOfBuffer.get(id) ?? []) this.bindGroups.delete(key);
    this.groupsOfBuffer.delete(id);
  }

  private touch(slice: BufferSlice, writes: boolean): void {
    slice.buffer.batch = this.batch;
    if (writes) slice.buffer.writes++;
  }

  private begin(): GPUCommandEncoder {
    this.encoder ??= this.device.createCommandEncoder({ label: `batch ${this.batch}` });
    return this.encoder;
  }

  private endPass(): void {
    this.pass?.end();
    this.pass = null;
  }

  /**
   * Records one dispatch. `slices` in the order of the shader's bindings; `groups` are workgroups in x, y, z.
   * `label` names the operation and shapes in every error.
   */
  dispatch(
    kernel: Kernel,
    slices: readonly (BufferSlice | TexelSlice)[],
    params: ParamValues,
    groups: readonly [number, number, number],
    label = kernel.name,
  ): void {
    if (slices.length !== kernel.shader.bindings.length) {
      throw new GpuError('internal', label, `${kernel.name} binds ${kernel.shader.bindings.length} buffers, got ${slices.length}`);
    }
    for (let i = 0; i < 3; i++) {
      if (!(groups[i] >= 0 && groups[i] <= MAX_GROUPS_PER_DIMENSION))
        throw new GpuError('limit', label, `needs ${groups.join(' × ')} workgroups, at most ${MAX_GROUPS_PER_DIMENSION} go in one dimension`);
    }
    if (groups[0] * groups[1] * groups[2] === 0) return;
    this.capturing?.push(() => this.dispatch(kernel, slices, params, groups, label));
    // In this order: room for a copy may have to be made, and for parameters too, by submitting what is recorded.
    const bound = kernel.readsTexels ? this.copyTexels(kernel, slices) : slices;
    const offset = kernel.shader.params.length ? this.writeParams(kernel, params) : 0;
    const encoder = this.begin();
    const group = this.bindGroup(kernel, bound, label);
    if (this.profiler) this.endPass();
    this.pass ??= encoder.beginComputePass({ label, timestampWrites: this.profiler?.begin(kernel.name) });
    const { pass } = this;
    pass.setPipeline(kernel.pipeline);
    pass.setBindGroup(0, group);
    if (kernel.shader.params.length) pass.setBindGroup(1, this.ring.group, [offset]);
    pass.dispatchWorkgroups(groups[0], groups[1], groups[2]);
    for (let i = 0; i < slices.length; i++) {
      const each = bound[i];
      if ('view' in each) this.texels.release(each, slices[i] as TexelSlice);
      this.touch(slices[i], kernel.shader.bindings[i].access === 'read_write');
    }
    this.dispatches++;
    this.labels.push(label);
    this.trace?.(kernel.name, label);
    if (this.error) this.fail();
    if (++this.recorded >= BATCH || this.profiler?.full) this.flush();
  }

  /** How a matrix of `rows` stored rows of `columns` numbers (a multiple of 4) is read as texels here; null if it can't be. */
  texelLayout(rows: number, columns: number): TexelLayout | null {
    return texelLayout(this.device, rows, columns / 4);
  }

  /** Puts what the kernel reads as texels into textures. */
  private copyTexels(kernel: Kernel, slices: readonly (BufferSlice | TexelSlice)[]): (BufferSlice | TexelCopy)[] {
    const encoder = () => {
      this.endPass();
      return this.begin();
    };
    const copies = new Map<TexelSlice, TexelCopy>();
    try {
      return slices.map((slice, i) => {
        if (kernel.shader.bindings[i].access !== 'texels') return slice;
        if (!('layout' in slice))
          throw new GpuError('internal', kernel.name, `reads ${kernel.shader.bindings[i].name} as texels, of which no layout was given`);
        const copy = copies.get(slice) ?? this.texels.copy(encoder, slice);
        copies.set(slice, copy);
        return copy;
      });
    } catch (error) {
      for (const [slice, copy] of copies) this.texels.release(copy, slice);
      throw error;
    }
  }

  /**
   * What `make` makes of a storage (weights in another order): done once, and again only after the storage was written, also
   * when a capture is replayed. It lives as long as the storage.
   */
  prepare(from: BufferSlice, name: string, bytes: number, make: (to: BufferSlice) => void): BufferSlice {
    const key = `${from.buffer.id},${from.offset},${name}`;
    const known = this.prepared.get(key) ?? { from, to: { buffer: this.pool.acquire(bytes, `${name} of ${from.buffer.label}`), offset: 0, bytes }, writes: -1 };
    this.prepared.set(key, known);
    const refresh = () => {
      if (known.writes === from.buffer.writes) return;
      const { capturing } = this;
      this.capturing = null; // a replay calls this function, which knows whether there is anything to do
      try {
        make(known.to);
      } finally {
        this.capturing = capturing;
      }
      known.writes = from.buffer.writes;
    };
    this.capturing?.push(refresh);
    refresh();
    return known.to;
  }

  /** Whether a storage holds what it held when the kernels of this family last asked: such are worth preparing. */
  isSteady({ buffer }: BufferSlice, family: string): boolean {
    const asked = this.writesWhenAsked.get(buffer) ?? {};
    this.writesWhenAsked.set(buffer, asked);
    const before = asked[family];
    asked[family] = buffer.writes;
    return before === buffer.writes;
  }

  private forgetPrepared(id: number): void {
    for (const [key, { from, to }] of this.prepared) {
      if (from.buffer.id !== id) continue;
      this.prepared.delete(key);
      this.pool.release(to.buffer);
    }
  }

  /** Throws the error that recording the last command met. */
  private fail(): void {
    const operation = this.labels[this.labels.length - 1];
    this.abandonBatch();
    this.check(operation);
  }

  /** Commands were lost, those that made copies perhaps among them: all are made anew. */
  private distrustCopies(): void {
    this.texels.distrust();
    for (const known of this.prepared.values()) known.writes = -1;
  }

  /** An encoder that Dawn found invalid stays invalid: what it holds is lost, and later work starts on a new one. */
  private abandonBatch(): void {
    this.distrustCopies();
    this.encoder = null;
    this.pass = null;
    this.ringUsed = 0;
    this.recorded = 0;
    this.labels = [];
    this.batch++;
  }

  /** Sets bytes to zero. */
  clear(slice: BufferSlice): void {
    this.capturing?.push(() => this.clear(slice));
    const encoder = this.begin();
    this.endPass();
    encoder.clearBuffer(slice.buffer.gpuBuffer, slice.offset, Math.ceil(slice.bytes / 4) * 4);
    this.touch(slice, true);
    this.recorded++;
    this.labels.push(`clear ${slice.buffer.label}`);
    if (this.error) this.fail();
  }

  copy(from: BufferSlice, to: BufferSlice, bytes = from.bytes, fromOffset = 0, toOffset = 0): void {
    this.capturing?.push(() => this.copy(from, to, bytes, fromOffset, toOffset));
    const encoder = this.begin();
    this.endPass();
    encoder.copyBufferToBuffer(from.buffer.gpuBuffer, from.offset + fromOffset, to.buffer.gpuBuffer, to.offset + toOffset, bytes);
    this.touch(from, false);
    this.touch(to, true);
    this.recorded++;
    this.labels.push(`copy of ${bytes} bytes from ${from.buffer.label} to ${to.buffer.label}`);
    if (this.error) this.fail();
  }

  /**
   * Writes host data. `writeBuffer` takes effect before commands that are recorded but not submitted, so they are
   * submitted first when any of them uses this buffer.
   */
  upload(slice: BufferSlice, data: ArrayBufferView, byteOffset = 0): void {
    const operation = `upload of ${data.byteLength} bytes to ${slice.buffer.label}`;
    this.check(operation);
    if (this.capturing) {
      const kept = new Uint8Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) as ArrayBuffer);
      this.capturing.push(() => this.upload(slice, kept, byteOffset));
    }
    if (slice.buffer.batch === this.batch) this.flush();
    this.device.queue.writeBuffer(slice.buffer.gpuBuffer, slice.offset + byteOffset, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    slice.buffer.writes++;
    if (this.error) this.check(operation);
  }

  /**
   * Does the work once and keeps its commands, to run them again without the JavaScript of tensors, ops and tape. What varies
   * between runs must come in through buffers that outlive the capture, or through parameters given as functions.
   */
  capture<T>(work: () => T): { result: T; replay: Replay } {
    if (this.capturing) throw new GpuError('internal', 'capture', 'one is under way already');
    const commands: (() => void)[] = [];
    this.capturing = commands;
    this.pool.beginCapture();
    let result: T;
    try {
      result = work();
    } catch (error) {
      this.pool.endCapture();
      this.pool.forgetCapture();
      throw error;
    } finally {
      this.capturing = null;
    }
    this.pool.endCapture();
    let live = true;
    const replay: Replay = {
      run: () => {
        if (!live) throw new GpuError('internal', 'replay', 'was disposed');
        for (const command of commands) command();
      },
      dispose: () => {
        if (live) this.pool.forgetCapture();
        live = false;
        commands.length = 0;
      },
    };
    return { result, replay };
  }

  /** Submits what is recorded. */
  flush(): void {
    if (!this.encoder) return;
    this.endPass();
    const resolved = this.profiler?.resolve(this.encoder);
    if (this.ringUsed > 0) this.device.queue.writeBuffer(this.ring.buffer, 0, this.ringBytes, 0, this.ringUsed);
    const commands = this.encoder.finish({ label: `batch ${this.batch}` });
    this.encoder = null;
    this.ringUsed = 0;
    this.recorded = 0;
    const { labels } = this;
    this.labels = [];
    this.batch++;
    this.submits++;
    this.device.queue.submit([commands]);
    resolved?.();
    if (this.error) {
      this.distrustCopies();
      this.check(`submitting ${labels.length} commands, the last: ${labels.slice(-4).join('; ')}`);
    }
  }

  /** Waits until all submitted work is done. */
  async idle(): Promise<void> {
    this.flush();
    try {
      await this.device.queue.onSubmittedWorkDone();
    } catch (error) {
      this.check('waiting for the device');
      throw new GpuError('internal', 'waiting for the device', messageOf(error));
    }
    this.check('waiting for the device');
  }

  /** Reads ranges back with one copy and one wait. */
  async read(slices: readonly BufferSlice[]): Promise<ArrayBuffer[]> {
    const operation = `readback of ${slices.map((slice) => slice.buffer.label).join(', ')}`;
    if (this.capturing) throw new GpuError('internal', operation, 'a capture cannot wait for results; read them after it');
    this.check(operation);
    const sizes = slices.map((slice) => Math.ceil(slice.bytes / 4) * 4);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    if (total === 0) return slices.map(() => new ArrayBuffer(0));
    const found = this.staging.findIndex((buffer) => buffer.size >= total && buffer.size <= 4 * total + 4096);
    const staging =
      found >= 0
        ? this.staging.splice(found, 1)[0]
        : this.device.createBuffer({ label: 'readback', size: Math.ceil(total / 4096) * 4096, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = this.begin();
    this.endPass();
    let at = 0;
    slices.forEach((slice, i) => {
      if (sizes[i] > 0) encoder.copyBufferToBuffer(slice.buffer.gpuBuffer, slice.offset, staging, at, sizes[i]);
      at += sizes[i];
    });
    this.flush();
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, total);
    } catch (error) {
      this.check(operation);
      throw new GpuError(this.closed ? 'lost' : 'internal', operation, messageOf(error));
    }
    this.check(operation);
    const bytes = staging.getMappedRange(0, total);
    at = 0;
    const results = slices.map((slice, i) => {
      const copy = bytes.slice(at, at + slice.bytes);
      at += sizes[i];
      return copy;
    });
    staging.unmap();
    if (this.staging.length < 8) this.staging.push(staging);
    else staging.destroy();
    return results;
  }

  memory(): MemoryReport {
    return this.pool.report();
  }

  /** Frees everything. Dawn crashes when its root object goes first, so this waits until the device is gone. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.encoder = null;
    this.pass = null;
    try {
      await this.device.queue.onSubmittedWorkDone();
    } catch {
      // A device that is already lost has no work left.
    }
    this.device.destroy();
    await this.device.lost;
    this.found.release();
    if (current === this) current = null;
  }
}

function adviceFor(kind: GpuErrorKind): string {
  switch (kind) {
    case 'out-of-memory':
      return 'Use a smaller batch, or lower GLIMPSE_MEMORY_MB so that the pool refuses earlier.';
    case 'lost':
      return 'The driver gave up on the device: run again, and try --adapter swiftshader if it persists.';
    default:
      return '';
  }
}

function numbered(code: string): string {
  return code
    .split('\n')
    .map((line, i) => `${String(i + 1).padStart(4)} | ${line}`)
    .join('\n');
}

let current: Gpu | null = null;

export interface OpenOptions {
  /** One of `ADAPTER_CHOICES` or a part of an adapter's name. Default: `GLIMPSE_ADAPTER`, else auto. */
  adapter?: string;
  /** Take the null backend too (it only compiles). */
  allowNull?: boolean;
  /** Byte budget of the pool. Default: `GLIMPSE_MEMORY_MB`, else 60 % of the memory free now on a software adapter. */
  budgetBytes?: number;
}

function budgetFromEnvironment(): number | undefined {
  const text = process.env.GLIMPSE_MEMORY_MB;
  if (!text) return undefined;
  const value = Number(text);
  if (!(value > 0)) throw new GpuError('limit', 'GLIMPSE_MEMORY_MB', `expected a positive number of MiB, got "${text}"`);
  return value * 2 ** 20;
}

function openDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  const { limits } = adapter;
  const wanted: GPUFeatureName[] = ['subgroups', 'timestamp-query', 'shader-f16'].filter((f) => adapter.features.has(f)) as GPUFeatureName[];
  return adapter.requestDevice({
    label: 'glimpse',
    requiredFeatures: wanted,
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
    },
  });
}

/** Opens the device that tensors are made on, and makes it the current one. */
export async function openGpu(options: OpenOptions = {}): Promise<Gpu> {
  const { device, ...found } = await findAdapter(options.adapter, options.allowNull, openDevice);
  const { adapter } = found;
  if (isSoftware(adapter.info)) throttlePolling();
  const budget = options.budgetBytes ?? budgetFromEnvironment() ?? (isSoftware(adapter.info) ? Math.floor(0.6 * freemem()) : 2 ** 36);
  current = new Gpu(device, found, budget);
  return current;
}

/** The device opened last. */
export function currentGpu(): Gpu {
  if (!current) throw new GpuError('no-adapter', 'tensor', 'no device is open', 'Call `await openGpu()` first.');
  return current;
}
