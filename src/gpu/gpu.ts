/**
 * The device that tensors live on, in any host. It is made from a `GPUDevice` and what the host hands in. It joins the parts
 * that compile, record, capture, prepare and read back; each has a file of its own.
 */
import { GpuError, type GpuErrorKind, messageOf } from '../errors.ts';
import { type AdapterKind, hasHalfMatrices, isSoftware, kindOf, namesOf } from './adapter.ts';
import { BindGroups } from './bindings.ts';
import { Captures, type Replay } from './capture.ts';
import { Faults } from './faults.ts';
import { type Kernel, Pipelines } from './pipelines.ts';
import { BufferPool, type BufferSlice, type MemoryReport } from './pool.ts';
import { PreparedWeights } from './prepared.ts';
import type { Profiler } from './profiler.ts';
import { Readback } from './readback.ts';
import { type Choice, checkLaunch, type Dispatch, type Grid, Recorder, type Watcher } from './recorder.ts';
import type { ShaderVariant } from './shader.ts';
import { type TexelLayout, TexelPool, type TexelSlice, texelLayout } from './texels.ts';
import { type ParamValues, UniformRing } from './uniforms.ts';
import { Uploads } from './uploads.ts';
import type { Adapter, AdapterInfo, Device } from './webgpu_types.ts';

/** What the engine needs from the host it runs on. */
export interface GpuHost {
  /** What the adapter says about itself, its features, and why it was chosen. */
  adapter: { info: AdapterInfo; features: ReadonlySet<string>; reason: string };
  /** Features of WGSL itself (`gpu.wgslLanguageFeatures`). */
  languageFeatures: ReadonlySet<string>;
  /** The text of a file of kernels/wgsl, by its name without the ending. */
  shaderSource(file: string): string;
  /** Bytes that buffers and textures together may take. */
  budgetBytes: number;
  /** True where faults are reported after the failing call, as in browsers. */
  lateFaults: boolean;
  /** The host's advice for a kind of fault; empty for none. */
  advice(kind: GpuErrorKind): string;
}

/** WGSL's name for reading a storage texture. Kernels that read texels need this. */
const TEXELS_FEATURE = 'readonly_and_readwrite_storage_textures';

/** A device: compiles kernels, records their dispatches, submits and reads back. `openGpu` makes one. */
export class Gpu {
  /** Whether the adapter computes on the processor. */
  readonly software: boolean;
  /** The adapter, as it names itself. */
  readonly adapterName: string;
  /** The driver and its version. */
  readonly driverName: string;
  /** The committed tuning table that fits this adapter. */
  readonly kind: AdapterKind;
  /** The storages of tensors. */
  readonly pool: BufferPool;
  /** Lanes of a subgroup if every kernel has the same number, else 0. */
  readonly subgroupWidth: number;
  /** Whether kernels can use subgroup matrices: blocks of 16 × 16 halves, added in float32, by subgroups of 32. */
  readonly hasSubgroupMatrix: boolean;

  /** When set, sees every command. */
  watcher: Watcher | null = null;
  /** Set while a trace is made: products then read their own operands, which the trace shows, and no copies of them. */
  isTraced = false;

  private readonly faults: Faults;
  private readonly texels: TexelPool;
  private readonly pipelines: Pipelines;
  private readonly recorder: Recorder;
  private readonly captures: Captures;
  private readonly prepared: PreparedWeights;
  private readonly readback: Readback;

  constructor(
    readonly device: Device,
    readonly host: GpuHost,
  ) {
    const { info } = host.adapter;
    this.software = isSoftware(info);
    this.kind = kindOf(info);
    ({ adapter: this.adapterName, driver: this.driverName } = namesOf(info));
    this.subgroupWidth = device.features.has('subgroups') && info.subgroupMinSize === info.subgroupMaxSize ? info.subgroupMinSize : 0;
    this.hasSubgroupMatrix = device.features.has(SUBGROUP_MATRIX) && this.subgroupWidth === 32 && hasHalfMatrices(info);
    this.faults = new Faults(device, host.lateFaults, (kind) => host.advice(kind));
    this.pool = new BufferPool(device, host.budgetBytes, () => this.flush(), this.faults);
    this.texels = new TexelPool(device, this.pool, this.faults);
    this.captures = new Captures(this.pool);
    this.prepared = new PreparedWeights(this.pool, this.captures);
    const bindGroups = new BindGroups(device);
    const uniforms = new UniformRing(device);
    this.pipelines = new Pipelines(device, this.faults, (file) => host.shaderSource(file), uniforms.layout);
    const uploads = new Uploads(device, !this.software && !host.lateFaults);
    this.recorder = new Recorder(device, this.faults, uniforms, bindGroups, this.texels, uploads);
    this.recorder.onLoss = () => {
      this.texels.distrust();
      this.prepared.distrust();
    };
    this.readback = new Readback(device);
    this.pool.onRelease = (buffer) => {
      this.texels.forget(buffer);
      this.prepared.forget(buffer.id);
    };
    this.pool.onDestroy = (buffer) => {
      bindGroups.forget(buffer.id);
      this.texels.forget(buffer); // a replay may have copied it since its release
    };
    this.pool.others = { trim: () => this.texels.trim(({ id }) => bindGroups.forget(id)), bytes: () => this.texels.bytes };
    this.check('opening the device');
  }

  /** Whether the device is gone: every call throws then. */
  get isLost(): boolean {
    return this.faults.isLost;
  }

  /** One line for logs: the adapter, whether it is a software one, and the driver. */
  get description(): string {
    return `${this.adapterName}${this.software ? ' (software adapter)' : ''}, ${this.driverName}`;
  }

  /** Dispatches so far. */
  get dispatches(): number {
    return this.recorder.dispatches;
  }

  /** Submits so far. */
  get submits(): number {
    return this.recorder.submits;
  }

  /** When set, every dispatch is timed in a pass of its own. */
  get profiler(): Profiler | null {
    return this.recorder.profiler;
  }

  set profiler(profiler: Profiler | null) {
    this.recorder.profiler = profiler;
  }

  /** When set, called with each dispatch as it is recorded. */
  get trace(): ((dispatch: Dispatch) => void) | null {
    return this.recorder.trace;
  }

  set trace(trace: ((dispatch: Dispatch) => void) | null) {
    this.recorder.trace = trace;
  }

  /** Throws a fault that the device reported since the last check. The error names the operation at fault. */
  check(operation: string): void {
    this.faults.check(operation);
  }

  /**
   * The compiled kernel of a shader variant, from the cache after its first use. Throws a GpuError of the kind `shader`, with
   * the compiler's message and the numbered text, when it does not compile.
   */
  kernel(variant: ShaderVariant): Kernel {
    return this.pipelines.kernel(variant);
  }

  /**
   * Forgets all compiled kernels, to time a first call with its compilation. Call the result after it: it brings back those that
   * were not compiled anew. Kernels that a capture holds live on.
   */
  forgetKernels(): () => void {
    return this.pipelines.forget();
  }

  /** The compiler's errors for a shader's text as it stands, by line; none if it compiles. */
  compilerErrors(source: string): Promise<{ line: number; column: number; message: string }[]> {
    return this.pipelines.compilerErrors(source);
  }

  /** Every message of compiling a variant. This works on the null backend too. */
  compileMessages(variant: ShaderVariant): Promise<string[]> {
    return this.pipelines.compileMessages(variant);
  }

  /** How a matrix of `rows` stored rows of `columns` numbers (a multiple of 4) is read as texels; null if that is impossible here. */
  texelLayout(rows: number, columns: number): TexelLayout | null {
    return this.host.languageFeatures.has(TEXELS_FEATURE) ? texelLayout(this.device, rows, columns / 4) : null;
  }

  /**
   * Records one dispatch. `slices` are in the order of the shader's bindings; `groups` are workgroups in x, y, z.
   * `label` names the operation and shapes in every error. `choice` names the version of a family, for profiles and traces.
   */
  dispatch(
    kernel: Kernel,
    slices: readonly (BufferSlice | TexelSlice)[],
    params: ParamValues,
    groups: Grid,
    label = kernel.name,
    choice: Choice | null = null,
  ): void {
    if (!checkLaunch(kernel, slices.length, groups, label)) return;
    this.captures.note(() => this.dispatch(kernel, slices, params, groups, label, choice));
    const dispatch = { kernel, slices, params, groups, label, choice };
    this.watcher?.before(dispatch);
    this.recorder.dispatch(dispatch);
    this.watcher?.after(dispatch);
  }

  /** Sets bytes to zero. */
  clear(slice: BufferSlice): void {
    this.captures.note(() => this.clear(slice));
    this.recorder.clear(slice);
    this.watcher?.cleared(slice);
  }

  /** Copies bytes; offsets are in bytes, multiples of 4. */
  copy(from: BufferSlice, to: BufferSlice, bytes = from.bytes, fromOffset = 0, toOffset = 0): void {
    this.captures.note(() => this.copy(from, to, bytes, fromOffset, toOffset));
    this.recorder.copy(from, to, bytes, fromOffset, toOffset);
    this.watcher?.copied(from, to, bytes, fromOffset, toOffset);
  }

  /** Writes host data. Recorded commands that use the buffer are submitted first. */
  upload(slice: BufferSlice, data: ArrayBufferView, byteOffset = 0): void {
    const operation = `upload of ${data.byteLength} bytes to ${slice.buffer.label}`;
    this.check(operation);
    if (this.captures.underWay) {
      const kept = new Uint8Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) as ArrayBuffer);
      this.captures.note(() => this.upload(slice, kept, byteOffset));
    }
    this.recorder.upload(slice, data, byteOffset, operation);
    this.watcher?.uploaded(slice, byteOffset, data);
  }

  /**
   * Runs the work once and keeps its commands. `replay.run()` records them again without the JavaScript of tensors, ops and tape.
   * Values that vary between runs must come from buffers that outlive the capture, or from parameters given as functions.
   */
  capture<T>(work: () => T): { result: T; replay: Replay } {
    return this.captures.capture(work);
  }

  /** Within a capture: something that the host does at this place of each replay. It is not done now. */
  atReplay(action: () => void): void {
    this.captures.note(action);
  }

  /**
   * Gives `use` a buffer that `fill` fills from a storage, such as weights in another order. `fill` runs once, and again only after the
   * storage was written, also when a capture is replayed. The buffer lives as long as the storage. What a capture computes is new in
   * each replay, so its buffer is filled for this one use. `use` may record commands on it, and must not hand it on.
   */
  prepare(from: BufferSlice, name: string, bytes: number, fill: (to: BufferSlice) => void, use: (made: BufferSlice) => void): void {
    this.prepared.prepare(from, name, bytes, fill, use);
  }

  /** Whether a storage was not written since a launch of this family last read it. Such weights are worth preparing. Changes nothing. */
  isSteady(slice: BufferSlice, family: string): boolean {
    return this.prepared.isSteady(slice, family);
  }

  /** Notes that this family reads a storage that it may prepare. Called once per launch. */
  noteRead(slice: BufferSlice, family: string): void {
    this.prepared.noteRead(slice, family);
  }

  /** Submits what is recorded. */
  flush(): void {
    this.recorder.flush();
  }

  /** Waits until all submitted work is done. */
  async idle(): Promise<void> {
    const operation = 'waiting for the device';
    this.flush();
    try {
      await this.device.queue.onSubmittedWorkDone();
    } catch (error) {
      this.check(operation);
      throw new GpuError('internal', operation, messageOf(error));
    }
    await this.settle(operation);
  }

  /** Waits for late reports and throws them. */
  private async settle(operation: string): Promise<void> {
    await this.faults.settle();
    if (this.host.lateFaults && this.faults.found) this.recorder.abandon();
    this.check(operation);
  }

  /** Reads ranges back with one copy and one wait. */
  async read(slices: readonly BufferSlice[]): Promise<ArrayBuffer[]> {
    const operation = `readback of ${slices.map((slice) => slice.buffer.label).join(', ')}`;
    if (this.captures.underWay) throw new GpuError('internal', operation, 'a capture cannot wait for results; read them after it');
    this.check(operation);
    if (slices.every(({ bytes }) => bytes === 0)) return slices.map(() => new ArrayBuffer(0));
    const pending = this.recorder.record((encoder) => this.readback.record(encoder, slices));
    this.flush();
    try {
      await this.readback.wait(pending);
    } catch (error) {
      await this.settle(operation);
      throw new GpuError(this.isLost ? 'lost' : 'internal', operation, messageOf(error));
    }
    await this.settle(operation);
    return this.readback.take(pending, slices);
  }

  /** What the pool holds. */
  memory(): MemoryReport {
    return this.pool.report();
  }

  /** Frees everything, and waits until the device is gone. */
  async close(): Promise<void> {
    if (this.isLost) return;
    this.faults.expectLoss();
    try {
      await this.device.queue.onSubmittedWorkDone();
    } catch {
      // A device that is already lost has no work left.
    }
    this.device.destroy();
    await this.device.lost;
    if (current === this) current = null;
  }
}

let current: Gpu | null = null;

/** Makes a device the one that tensors are made on. */
export function makeCurrent(gpu: Gpu): Gpu {
  current = gpu;
  return gpu;
}

/** The device opened last. */
export function currentGpu(): Gpu {
  if (!current) throw new GpuError('no-adapter', 'tensor', 'no device is open', 'Call `await openGpu()` first.');
  return current;
}

/** WebGPU's name of the matrix units. Dawn offers it only to those who ask it for experiments. */
export const SUBGROUP_MATRIX = 'chromium-experimental-subgroup-matrix';
/** Features that are requested where the adapter has them. Kernels that need one are offered only then. */
const WANTED_FEATURES = ['subgroups', 'timestamp-query', 'shader-f16', SUBGROUP_MATRIX] as const;
/** Limits that are raised to the adapter's own. All others stay at what the standard guarantees. */
const RAISED_LIMITS = ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxStorageBuffersPerShaderStage'] as const;

/** Opens a device with the features and limits of the adapter that the engine can use. */
export function requestDevice(adapter: Adapter): Promise<Device> {
  return adapter.requestDevice({
    label: 'glimpse',
    requiredFeatures: WANTED_FEATURES.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[],
    requiredLimits: Object.fromEntries(RAISED_LIMITS.map((name) => [name, adapter.limits[name]])),
  });
}
