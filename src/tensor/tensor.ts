/**
 * A tensor: a shape, an element type and a range of a GPU buffer, always dense and row-major. It knows nothing of
 * gradients. The floor above keeps its records in `attachment`, which is disposed with the tensor.
 */
import { Context } from '../context.ts';
import { GlimpseError, ShapeError } from '../errors.ts';
import { currentGpu, type Gpu } from '../gpu/gpu.ts';
import type { BufferSlice, MemoryReport } from '../gpu/pool.ts';
import { checkShape, type Shape, sizeOf } from './shape.ts';

/** Types of elements: 32-bit floats, signed and unsigned whole numbers. */
export type DType = 'f32' | 'i32' | 'u32';

const ARRAYS = { f32: Float32Array, i32: Int32Array, u32: Uint32Array };
/** Values on the host. */
export type TypedArray = Float32Array | Int32Array | Uint32Array;

let living = 0;

/** Safari and older Chromes have no `Symbol.dispose`. What compilers make of `using` looks for this one then. */
(Symbol as { dispose?: symbol }).dispose ??= Symbol.for('Symbol.dispose');

/** A shape, an element type and a range of a GPU buffer. Make one with `tensor`, `zeros`, `full`, or an op. */
export class Tensor {
  private live = true;
  /** The autograd floor's record of this tensor. */
  attachment: { dispose(): void } | null = null;
  /** The largest of the u32 that the host wrote, where it stands, and how often the buffer was written by then. */
  private written: { value: number; index: number; writes: number } | null = null;

  /** Takes over one reference to `slice.buffer`. */
  constructor(
    readonly gpu: Gpu,
    readonly shape: Shape,
    readonly dtype: DType,
    private storage: BufferSlice,
    readonly label: string,
  ) {
    living++;
    Scope.add(this);
  }

  /** Elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Axes. */
  get rank(): number {
    return this.shape.length;
  }

  /** Whether `dispose` was called: its values are gone. */
  get isDisposed(): boolean {
    return !this.live;
  }

  /** The storage, for launchers. Throws after `dispose`. */
  get slice(): BufferSlice {
    if (!this.live)
      throw new GlimpseError(`tensor ${this.label} [${this.shape}] is used after dispose(); hand it out of its scope with scope.keep() if it must live longer`);
    return this.storage;
  }

  /** Another tensor on the same storage. Each is disposed on its own. Throws a ShapeError if the sizes differ. */
  alias(shape: Shape = this.shape, label = this.label): Tensor {
    if (sizeOf(shape) !== this.size) throw new ShapeError(`reshape: [${this.shape}] has ${this.size} elements, [${shape}] would have ${sizeOf(shape)}`);
    return this.part(0, shape, label);
  }

  /** Another tensor on the part of the storage from element `start` on. `startsPart(start)` must hold. */
  part(start: number, shape: Shape, label = this.label): Tensor {
    checkShape(shape, label);
    const { buffer, offset } = this.slice;
    this.gpu.pool.retain(buffer);
    const part = new Tensor(this.gpu, [...shape], this.dtype, { buffer, offset: offset + 4 * start, bytes: Math.max(4, 4 * sizeOf(shape)) }, label);
    if (part.size === this.size) part.written = this.written;
    return part;
  }

  /** Moves this tensor to another storage of at least the same size. Optimizers gather parameters in one buffer this way. */
  moveTo(slice: BufferSlice): void {
    if (slice.bytes < this.size * 4) throw new ShapeError(`moving ${this.label} [${this.shape}] into ${slice.bytes} bytes`);
    this.gpu.copy(this.slice, slice, this.size * 4);
    this.gpu.pool.retain(slice.buffer);
    this.gpu.pool.release(this.storage.buffer);
    this.storage = slice;
    this.written = null;
  }

  /** The values, row-major. Submits what is recorded and waits for it. */
  async data(): Promise<TypedArray> {
    return (await readTensors([this]))[0];
  }

  /** The value of a tensor with one element. */
  async item(): Promise<number> {
    if (this.size !== 1) throw new ShapeError(`item: ${this.label} [${this.shape}] has ${this.size} elements, not one`);
    return (await this.data())[0];
  }

  /** Overwrites the values from the host. Throws a ShapeError if their number differs, and a GlimpseError if their type does. */
  write(data: TypedArray): void {
    if (data.length !== this.size) throw new ShapeError(`write: ${this.label} [${this.shape}] holds ${this.size} elements, got ${data.length}`);
    if (!(data instanceof ARRAYS[this.dtype]))
      throw new GlimpseError(`write: ${this.label} [${this.shape}] is ${this.dtype}, got a ${(data as TypedArray).constructor.name}`);
    if (data.length > 0) this.gpu.upload(this.slice, data);
    this.written = data instanceof Uint32Array ? { ...largestOf(data), writes: this.storage.buffer.writes } : null;
  }

  /** The largest value and its place, of u32 that the host wrote and nothing has overwritten since; else null. */
  get largestWritten(): { value: number; index: number } | null {
    return this.written?.writes === this.slice.buffer.writes ? this.written : null;
  }

  dispose(): void {
    if (!this.live) return;
    this.live = false;
    living--;
    this.gpu.pool.release(this.storage.buffer);
    this.attachment?.dispose();
    this.attachment = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function largestOf(values: Uint32Array): { value: number; index: number } {
  let index = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[index]) index = i;
  return { value: values[index] ?? 0, index };
}

/** The values of several tensors, with one copy and one wait. */
export async function readTensors(tensors: readonly Tensor[]): Promise<TypedArray[]> {
  if (tensors.length === 0) return [];
  const buffers = await tensors[0].gpu.read(tensors.map((t) => ({ ...t.slice, bytes: t.size * 4 })));
  return buffers.map((buffer, i) => new ARRAYS[tensors[i].dtype](buffer));
}

/** Whether a storage can be bound from this element on: WebGPU binds at multiples of 256 bytes. */
export const startsPart = (element: number): boolean => element % 64 === 0;

/** A tensor with undefined contents, for a launcher to fill. */
export function empty(shape: Shape, dtype: DType = 'f32', label = 'tensor', gpu: Gpu = currentGpu()): Tensor {
  checkShape(shape, label);
  const bytes = Math.max(4, sizeOf(shape) * 4);
  return new Tensor(gpu, [...shape], dtype, { buffer: gpu.pool.acquire(bytes, `${label} [${shape}]`), offset: 0, bytes }, label);
}

/** A tensor of zeros. */
export function zeros(shape: Shape, dtype: DType = 'f32', label = 'zeros'): Tensor {
  const out = empty(shape, dtype, label);
  out.gpu.clear(out.slice);
  return out;
}

/** The values in an array of this type. Throws a GlimpseError for one that i32 or u32 cannot hold: it would be cut or wrapped around. */
function converted(values: TypedArray | readonly number[], type: DType, label: string): TypedArray {
  if (values instanceof ARRAYS[type]) return values;
  const data = new ARRAYS[type](values);
  if (type === 'f32') return data;
  const index = data.findIndex((value, i) => value !== values[i]);
  if (index < 0) return data;
  const range = type === 'i32' ? '-2147483648 to 2147483647' : '0 to 4294967295';
  throw new GlimpseError(`${label}: value ${index} is ${values[index]}; ${type} holds whole numbers from ${range}`);
}

/**
 * A tensor from host values, row-major. A typed array keeps its type unless `dtype` says otherwise; plain numbers become `dtype`
 * (default f32). Without `shape` it has one axis. Throws a ShapeError if the number of values does not fit the shape, and a
 * GlimpseError for a value that i32 or u32 cannot hold.
 */
export function tensor(values: TypedArray | readonly number[], shape?: Shape, dtype?: DType, label = 'tensor'): Tensor {
  const type = dtype ?? (values instanceof Int32Array ? 'i32' : values instanceof Uint32Array ? 'u32' : 'f32');
  const data = converted(values, type, label);
  const size = shape ? sizeOf(shape) : data.length;
  if (size !== data.length) throw new ShapeError(`${label}: [${shape}] needs ${size} values, got ${data.length}`);
  const out = empty(shape ?? [data.length], type, label);
  out.write(data);
  return out;
}

/** A tensor whose elements are all of one value. Throws a GlimpseError if i32 or u32 cannot hold it. */
export function full(shape: Shape, value: number, dtype: DType = 'f32'): Tensor {
  const [held] = converted([value], dtype, 'full');
  return tensor(new ARRAYS[dtype](sizeOf(shape)).fill(held), shape, dtype, 'full');
}

/** Where a flow of control stands: its innermost scope, and how many of the tensors made while it was opened this flow knows of. */
interface Place {
  scope: Scope;
  made: number;
}

const scopes = new Context<Place | null>();

/** Counts the runs of code between two awaits, as far as scopes are opened in them. */
let turn = 0;
let turnEnds = false;

function endTurnLater(): void {
  if (turnEnds) return;
  turnEnds = true;
  queueMicrotask(() => {
    turn++;
    turnEnds = false;
  });
}

/**
 * Disposes every tensor made while it is the innermost scope, except those kept. Open one with `using s = scope()`. It may
 * span awaits. In Node, scopes of concurrent async functions do not see each other (src/context.ts).
 *
 * An async function runs within its caller up to its first await. A scope that it opens there is the caller's too, until the
 * caller awaits something itself. Tensors that the caller makes meanwhile must outlive the scope. So each flow counts the tensors
 * of that time: one that goes on after an await disposes only those which were made before it.
 */
export class Scope {
  /** Each tensor with its number among those made before the first await, or the number that its flow knew of. */
  private tensors = new Map<Tensor, number>();
  private isOpen = true;
  private readonly before: Place | null;
  private readonly place: Place = { scope: this, made: 0 };
  private readonly opened = turn;
  private made = 0;

  constructor() {
    this.before = Scope.here();
    if (!scopes.shared) endTurnLater();
    scopes.enter(this.place);
  }

  /** The first open place, outwards. */
  private static open(place: Place | null | undefined): Place | null {
    let found = place ?? null;
    while (found && !found.scope.isOpen) found = found.scope.before;
    return found;
  }

  /** The place of the innermost open scope. @internal */
  static here(): Place | null {
    return Scope.open(scopes.get());
  }

  /** The innermost open scope, or null. */
  static current(): Scope | null {
    return Scope.here()?.scope ?? null;
  }

  /** Takes a new tensor into the innermost open scope, if there is one: it is disposed with the scope. */
  static add(tensor: Tensor): void {
    const here = Scope.here();
    if (!here) return;
    const { scope } = here;
    if (scopes.shared || scope.opened !== turn) {
      scope.tensors.set(tensor, here.made);
      return;
    }
    scope.tensors.set(tensor, ++scope.made);
    scopes.enter({ scope, made: scope.made });
  }

  /** Hands the tensor to the enclosing scope, or to the caller when there is none. */
  keep<T extends Tensor>(tensor: T): T {
    for (let scope: Scope | undefined = this; scope; scope = scope.before?.scope) {
      if (scope.tensors.delete(tensor)) {
        const outside = Scope.open(scope.before);
        outside?.scope.tensors.set(tensor, outside.made);
        break;
      }
    }
    return tensor;
  }

  /** Takes the tensor out of every scope. It then lives until `dispose()`. */
  static release<T extends Tensor>(tensor: T): T {
    for (let scope = Scope.current() ?? undefined; scope; scope = scope.before?.scope) scope.tensors.delete(tensor);
    return tensor;
  }

  [Symbol.dispose](): void {
    const here = scopes.get();
    const own = here?.scope === this && !scopes.shared ? here.made : Number.POSITIVE_INFINITY;
    this.isOpen = false;
    const outside = Scope.open(this.before);
    for (const [tensor, number] of this.tensors) {
      if (number <= own) tensor.dispose();
      else outside?.scope.tensors.set(tensor, outside.made);
    }
    this.tensors.clear();
    scopes.leave(this.place, this.before);
  }
}

/** Opens a scope: `using s = scope()`. `scoped` does the same without `using`. */
export function scope(): Scope {
  return new Scope();
}

/**
 * Runs `work` in a scope of its own, also across its awaits, and disposes the scope whatever happens. It does what
 * `using s = scope()` does, where `using` is not to be had (Node 20).
 */
export function scoped<T>(work: (scope: Scope) => T): T {
  // In a flow of its own, so that what follows the call is not in the scope while `work` waits.
  return scopes.run(Scope.here(), () => {
    const own = new Scope();
    const end = () => own[Symbol.dispose]();
    let result: T;
    try {
      result = work(own);
    } catch (error) {
      end();
      throw error;
    }
    if (result instanceof Promise) return result.finally(end) as T;
    end();
    return result;
  });
}

/** The number of live tensors, and the memory of the buffer pool in bytes. */
export function memory(): MemoryReport & { tensors: number } {
  return { tensors: living, ...currentGpu().memory() };
}
