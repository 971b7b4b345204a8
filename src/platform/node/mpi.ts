/**
 * The few functions of MPI that training on several processes needs. They are called in the library that the cluster has: Open MPI,
 * MPICH and its kin, or one with the standard ABI of MPI 5. Operations are non-blocking and are tested for completion on Node's own
 * thread. So the event loop goes on, the device is polled, and a process that waits neither spins nor falls silent.
 */
import { fstatSync } from 'node:fs';
import { createRequire } from 'node:module';
import { GlimpseError, messageOf } from '../../errors.ts';
import type { Launched } from './launcher.ts';

/** What is used of the package koffi. Pointers are bigints. */
interface Koffi {
  load(path: string, options: { global: boolean }): { func(prototype: string): (...args: unknown[]) => unknown; symbol(name: string): bigint };
  alloc(type: string, count: number): bigint;
  free(pointer: bigint): void;
  view(pointer: bigint, bytes: number): ArrayBuffer;
}

type Handle = bigint | number;
type Library = ReturnType<Koffi['load']>;

/** How a kind of MPI library names what the standard calls MPI_COMM_WORLD and so on. */
interface Abi {
  /** The C type of handles. */
  handle: 'intptr_t' | 'int';
  /** MPI_THREAD_FUNNELED and MPI_IN_PLACE. */
  funneled: number;
  inPlace: number;
  handles(library: Library): Record<'world' | 'byte' | 'float' | 'double' | 'sum', Handle>;
}

/** Its handles are addresses of objects in the library. */
const OPEN_MPI: Abi = {
  ...{ handle: 'intptr_t', funneled: 1, inPlace: 1 },
  handles: (library) => ({
    world: library.symbol('ompi_mpi_comm_world'),
    byte: library.symbol('ompi_mpi_byte'),
    float: library.symbol('ompi_mpi_float'),
    double: library.symbol('ompi_mpi_double'),
    sum: library.symbol('ompi_mpi_op_sum'),
  }),
};

/** MPICH, Intel MPI, MVAPICH, ParaStation: their common ABI of 2013, whose handles are numbers. */
const MPICH: Abi = {
  ...{ handle: 'int', funneled: 1, inPlace: -1 },
  handles: () => ({ world: 0x44000000, byte: 0x4c00010d, float: 0x4c00040a, double: 0x4c00080b, sum: 0x58000003 }),
};

/** MPI 5.0, chapter 20: handles of the size of a pointer, with fixed values. */
const STANDARD: Abi = {
  ...{ handle: 'intptr_t', funneled: 1024, inPlace: 1 },
  handles: () => ({ world: 0x101, byte: 0x247, float: 0x210, double: 0x214, sum: 0x21 }),
};

function abiOf(name: string, library: Library): Abi {
  if (/mpi_abi[^/]*$/.test(name)) return STANDARD;
  try {
    library.symbol('ompi_mpi_comm_world');
    return OPEN_MPI;
  } catch {
    return MPICH;
  }
}

const OPEN_MPI_FILES = ['libmpi.so.40', 'libmpi.40.dylib'];
/** Debian calls MPICH's library libmpich. */
const MPICH_FILES = ['libmpi.so.12', 'libmpich.so.12', 'libmpi.12.dylib'];
const STANDARD_FILES = ['libmpi_abi.so.1', 'libmpi_abi.so.0'];

/** The libraries to try, those that the launcher belongs to first. */
const FILES: Record<Launched['by'], readonly string[]> = {
  'Open MPI': [...OPEN_MPI_FILES, ...STANDARD_FILES, ...MPICH_FILES],
  MPICH: [...MPICH_FILES, ...STANDARD_FILES, ...OPEN_MPI_FILES],
  Slurm: [...OPEN_MPI_FILES, ...MPICH_FILES, ...STANDARD_FILES],
};

/** Memory that does not move while MPI works on it. */
export interface Block {
  readonly pointer: bigint;
  readonly floats: Float32Array;
  /** The same memory. */
  readonly halves: Uint16Array;
}

/** Time without progress until each look at operations is followed by a pause, and that pause. */
const HURRY_MS = 2;
const PAUSE_MS = 0.1;
/** Time until operations that wait for other processes are looked at less often, and the time between these looks. */
const PATIENT_MS = 20;
const WAITING_MS = 1;
const CLOCK = new Int32Array(new SharedArrayBuffer(4));
/** Time between signs of life, and without one after which a process counts as silent. */
const BEAT_MS = 5_000;
const SILENT_SECONDS = 60;
const BEAT = 1;
const LAST_BEAT = 2;
const BEAT_TAG = 71;

function loadKoffi(by: string): Koffi {
  const failures: string[] = [];
  // From the packages of whoever uses glimpse; in a checkout, from a folder with a lock file of its own.
  for (const from of [import.meta.url, new URL('../../../mpi/package.json', import.meta.url), new URL('../../../../mpi/package.json', import.meta.url)]) {
    try {
      return createRequire(from)('koffi') as Koffi;
    } catch (error) {
      failures.push(messageOf(error).split('\n')[0]);
    }
  }
  throw new GlimpseError(
    `${by} started this process as one of several, but the package koffi, which calls MPI, is not installed (${failures[0]})\n  Install it: npm install koffi@3, or npm run mpi in a checkout.`,
  );
}

export class Mpi {
  readonly rank: number;
  readonly size: number;
  /** What the library says of itself, in one line. */
  readonly version: string;
  private readonly pending: { request: bigint; done: () => void }[] = [];
  private readonly idleRequests: bigint[] = [];
  private pump: NodeJS.Timeout | NodeJS.Immediate | null = null;
  /** Above 0 while all processes are known to take part: looking often is then what ends operations soonest. */
  private hurrying = 0;
  /** When an operation was last completed or begun. */
  private advanced = 0;
  private readonly flag: { pointer: bigint; value: Int32Array };
  private readonly status: bigint;

  private constructor(
    private readonly koffi: Koffi,
    private readonly call: (name: string, ...args: unknown[]) => void,
    private readonly abi: Abi,
    private readonly handles: ReturnType<Abi['handles']>,
    private readonly comm: Handle,
    private readonly lifeComm: Handle,
    { rank, size, version }: { rank: number; size: number; version: string },
  ) {
    this.rank = rank;
    this.size = size;
    this.version = version;
    const pointer = koffi.alloc('int', 2);
    this.flag = { pointer, value: new Int32Array(koffi.view(pointer, 8)) };
    this.status = koffi.alloc('int64_t', 8);
  }

  /** Loads the library and starts MPI. Throws a GlimpseError that says what is missing, or that launcher and library do not fit. */
  static open({ by, size, mpi }: Launched): Mpi {
    if (!mpi)
      throw new GlimpseError(`${by} started ${size} processes without MPI; start them with \`srun --mpi=pmix\` (\`srun --mpi=list\` shows what it has)`);
    if (by !== 'Open MPI') checkManager();
    const koffi = loadKoffi(by);
    const files = process.env.GLIMPSE_MPI ? [process.env.GLIMPSE_MPI] : FILES[by];
    const failures: string[] = [];
    for (const name of files) {
      let library: Library;
      try {
        library = koffi.load(name, { global: true }); // its plug-ins look for the library's own symbols
      } catch (error) {
        failures.push(`${name}: ${messageOf(error).trim()}`);
        continue;
      }
      return Mpi.start(koffi, library, { by, size, name });
    }
    throw new GlimpseError(
      `${by} started this process as one of ${size}, but no MPI library can be loaded; GLIMPSE_MPI names one by its path:\n    ${failures.join('\n    ')}`,
    );
  }

  private static start(koffi: Koffi, library: Library, { by, size, name }: { by: string; size: number; name: string }): Mpi {
    const abi = abiOf(name, library);
    const handles = abi.handles(library);
    const H = abi.handle;
    const prototypes: Record<string, string> = {
      MPI_Init_thread: 'void*, void*, int, _Out_ int*',
      MPI_Comm_rank: `${H}, _Out_ int*`,
      MPI_Comm_size: `${H}, _Out_ int*`,
      MPI_Comm_dup: `${H}, _Out_ ${H}*`,
      MPI_Get_library_version: 'void*, _Out_ int*',
      MPI_Ibarrier: `${H}, void*`,
      MPI_Ibcast: `void*, int, ${H}, int, ${H}, void*`,
      MPI_Ialltoall: `void*, int, ${H}, void*, int, ${H}, ${H}, void*`,
      MPI_Iallgather: `void*, int, ${H}, void*, int, ${H}, ${H}, void*`,
      MPI_Iallreduce: `intptr_t, void*, int, ${H}, ${H}, ${H}, void*`,
      MPI_Isend: `void*, int, ${H}, int, int, ${H}, void*`,
      MPI_Irecv: `void*, int, ${H}, int, int, ${H}, void*`,
      MPI_Test: 'void*, void*, void*',
      MPI_Abort: `${H}, int`,
      MPI_Finalize: '',
    };
    const functions = new Map(Object.entries(prototypes).map(([f, args]) => [f, library.func(`int ${f}(${args})`)]));
    const call = (f: string, ...args: unknown[]) => {
      const code = functions.get(f)?.(...args);
      if (code !== 0) throw new GlimpseError(`${f} failed with the code ${code} (${name})`);
    };
    const provided = [0];
    call('MPI_Init_thread', null, null, abi.funneled, provided); // all calls come from Node's own thread
    if (provided[0] < abi.funneled) throw new GlimpseError(`${name} has no support for processes with several threads (MPI_THREAD_FUNNELED)`);
    const [rank, count] = [[0], [0]];
    call('MPI_Comm_rank', handles.world, rank);
    call('MPI_Comm_size', handles.world, count);
    const text = koffi.alloc('char', 8192);
    const length = [0];
    call('MPI_Get_library_version', text, length);
    const version = Buffer.from(koffi.view(text, 8192)).toString('latin1', 0, length[0]).split(/[\n,]/)[0].replace(/\s+/g, ' ').trim();
    koffi.free(text);
    if (count[0] !== size)
      throw new GlimpseError(
        `${by} started ${size} processes, but in ${name} (${version}) this is one of ${count[0]}: launcher and library are of different kinds\n  Use the mpirun of that library, or name the launcher's own library with GLIMPSE_MPI.`,
      );
    const [own, life]: [Handle[], Handle[]] = [[0], [0]];
    call('MPI_Comm_dup', handles.world, own);
    call('MPI_Comm_dup', handles.world, life);
    return new Mpi(koffi, call, abi, handles, own[0], life[0], { rank: rank[0], size, version });
  }

  /** Memory for `floats` numbers, zeros at first. It lasts until the process ends. */
  block(floats: number): Block {
    const pointer = this.koffi.alloc('float', Math.max(1, floats));
    const memory = this.koffi.view(pointer, floats * 4);
    new Uint8Array(memory).fill(0);
    return { pointer, floats: new Float32Array(memory), halves: new Uint16Array(memory) };
  }

  /** Starts an operation; resolves when it is complete here. All processes must start their operations in the same order. */
  private begin(name: string, ...args: unknown[]): Promise<void> {
    const request = this.idleRequests.pop() ?? this.koffi.alloc('int64_t', 1);
    this.call(name, ...args, request);
    return new Promise((done) => {
      this.pending.push({ request, done });
      this.advanced = performance.now();
      this.look();
    });
  }

  private look(): void {
    if (this.pump) return;
    const again = () => {
      this.pump = null;
      for (let i = 0; i < this.pending.length; ) {
        const { request, done } = this.pending[i];
        if (!this.test(request)) {
          i++;
          continue;
        }
        this.pending.splice(i, 1);
        this.advanced = performance.now();
        this.idleRequests.push(request);
        done();
      }
      if (this.pending.length > 0) this.look();
    };
    const waited = performance.now() - this.advanced;
    if (waited > PATIENT_MS && this.hurrying === 0) {
      this.pump = setTimeout(again, WAITING_MS);
      return;
    }
    if (waited > HURRY_MS) Atomics.wait(CLOCK, 0, 0, PAUSE_MS); // leaves the core to the driver's threads
    this.pump = setImmediate(again);
  }

  private test(request: bigint): boolean {
    this.call('MPI_Test', request, this.flag.pointer, this.status);
    return this.flag.value[0] !== 0;
  }

  /** Waits until every process has come here, then runs `work`, whose operations are looked at often until they are complete. */
  async together<T>(work: () => Promise<T>): Promise<T> {
    await this.begin('MPI_Ibarrier', this.comm);
    this.hurrying++;
    try {
      return await work();
    } finally {
      this.hurrying--;
    }
  }

  /** Sends part r of `send` to rank r, and has part r of `receive` from rank r. A part has `each` bytes. */
  allToAll(send: Block, receive: Block, each: number): Promise<void> {
    const { byte } = this.handles;
    return this.begin('MPI_Ialltoall', send.pointer, each, byte, receive.pointer, each, byte, this.comm);
  }

  /** Part r of `all` is what rank r has in `own`: `each` bytes. */
  allGather(own: Block, all: Block, each: number): Promise<void> {
    const { byte } = this.handles;
    return this.begin('MPI_Iallgather', own.pointer, each, byte, all.pointer, each, byte, this.comm);
  }

  /** Sums of float32 numbers over all processes, in place. The order of the additions is the library's. */
  allReduce(values: Block, count: number): Promise<void> {
    return this.begin('MPI_Iallreduce', this.abi.inPlace, values.pointer, count, this.handles.float, this.handles.sum, this.comm);
  }

  /** Sums of float64 numbers over all processes, in place. */
  async sum(values: Float64Array): Promise<void> {
    const pointer = this.koffi.alloc('double', Math.max(1, values.length));
    const shared = new Float64Array(this.koffi.view(pointer, values.length * 8));
    shared.set(values);
    await this.together(() => this.begin('MPI_Iallreduce', this.abi.inPlace, pointer, values.length, this.handles.double, this.handles.sum, this.comm));
    values.set(shared);
    this.koffi.free(pointer);
  }

  /** The bytes that `root` has, to all. Only the root gives some. */
  async broadcast(bytes: Uint8Array | null, root: number): Promise<Uint8Array> {
    const length = new Float64Array([bytes?.length ?? 0]);
    await this.sum(length);
    const whole = new Uint8Array(length[0]);
    if (bytes) whole.set(bytes);
    // Pieces, because MPI counts bytes in 31 bits.
    const pointer = this.koffi.alloc('char', Math.max(1, Math.min(whole.length, PIECE)));
    const piece = new Uint8Array(this.koffi.view(pointer, Math.min(whole.length, PIECE)));
    await this.together(async () => {
      for (let at = 0; at < whole.length; at += PIECE) {
        const part = whole.subarray(at, at + PIECE);
        piece.set(part);
        await this.begin('MPI_Ibcast', pointer, part.length, this.handles.byte, root, this.comm);
        part.set(piece.subarray(0, part.length));
      }
    });
    this.koffi.free(pointer);
    return whole;
  }

  /**
   * Signs of life: each process sends them to its right neighbor. When none came from the left one for a minute, `onSilence` is
   * told, and again when it is back. `close` ends it.
   */
  watch(onSilence: (rank: number, seconds: number | null) => void): { close(): Promise<void> } {
    const silentMs = silentSeconds() * 1000;
    const left = (this.rank + this.size - 1) % this.size;
    const right = (this.rank + 1) % this.size;
    const cell = () => {
      const pointer = this.koffi.alloc('int', 2);
      return { pointer, value: new Int32Array(this.koffi.view(pointer, 8)), request: this.koffi.alloc('int64_t', 1) };
    };
    const [sent, heard] = [cell(), cell()];
    let sending = false;
    let ended = false; // the left neighbor sends no more
    let last = performance.now();
    let told = false;
    const listen = () => this.call('MPI_Irecv', heard.pointer, 4, this.handles.byte, left, BEAT_TAG, this.lifeComm, heard.request);
    const send = (kind: number) => {
      sent.value[0] = kind;
      this.call('MPI_Isend', sent.pointer, 4, this.handles.byte, right, BEAT_TAG, this.lifeComm, sent.request);
      sending = true;
    };
    const hear = () => {
      while (!ended && this.test(heard.request)) {
        last = performance.now();
        if (told) onSilence(left, null);
        told = false;
        if (heard.value[0] === LAST_BEAT) ended = true;
        else listen();
      }
    };
    const delivered = () => {
      if (sending && this.test(sent.request)) sending = false;
      return !sending;
    };
    let looked = performance.now();
    const beat = () => {
      hear();
      if (delivered()) send(BEAT);
      // A process that was itself stopped must first look again before it says that another is silent.
      const awake = performance.now() - looked < 2 * BEAT_MS;
      looked = performance.now();
      if (awake && !ended && !told && performance.now() - last > silentMs) {
        told = true;
        onSilence(left, (performance.now() - last) / 1000);
      }
    };
    listen();
    const timer = setInterval(beat, Math.min(BEAT_MS, silentMs / 4));
    return {
      close: async () => {
        clearInterval(timer);
        const soon = () => new Promise((done) => setTimeout(done, WAITING_MS));
        while (!delivered()) await soon();
        send(LAST_BEAT);
        for (hear(); !delivered() || !ended; hear()) await soon();
      },
    };
  }

  /** Ends all processes of the world now. */
  abort(code: number): never {
    this.call('MPI_Abort', this.handles.world, code);
    return process.exit(code);
  }

  /** Ends MPI; every process must come here. */
  finish(): void {
    this.call('MPI_Finalize');
  }
}

/** MPICH's launcher leaves each process an open socket, PMI_FD. `npx` closes it: it starts another process. */
function checkManager(): void {
  const { PMI_FD: number } = process.env;
  if (!number) return;
  try {
    if (fstatSync(Number(number)).isSocket()) return;
  } catch {
    // Told below.
  }
  throw new GlimpseError(
    `the socket to the launcher (PMI_FD=${number}) is not open in this process: a program between them, such as npx, closed it\n  Start node itself: mpiexec -n 4 node node_modules/.bin/glimpse train …, or node bin/glimpse.js in a checkout.`,
  );
}

/** GLIMPSE_SILENT_SECONDS, or a minute. */
function silentSeconds(): number {
  const text = process.env.GLIMPSE_SILENT_SECONDS;
  if (!text) return SILENT_SECONDS;
  if (!(Number(text) > 0)) throw new GlimpseError(`GLIMPSE_SILENT_SECONDS: expected a positive number of seconds, got "${text}"`);
  return Number(text);
}

/** Bytes of one broadcast. */
const PIECE = 64 << 20;
