/**
 * Capture and replay: a piece of work runs once and leaves a list of its commands. The list can be recorded again without
 * the JavaScript of tensors, ops and tape.
 */
import { GpuError } from '../errors.ts';
import type { BufferPool } from './pool.ts';

/** Commands of a captured piece of work. Its buffers stay reserved until `dispose`. */
export interface Replay {
  /** Records the same commands again. They read what their buffers hold now. */
  run(): void;
  dispose(): void;
}

export class Captures {
  /** Commands of the capture under way. */
  private commands: (() => void)[] | null = null;

  constructor(private readonly pool: BufferPool) {}

  get underWay(): boolean {
    return this.commands !== null;
  }

  /** Adds a command to the capture under way, if there is one. */
  note(command: () => void): void {
    this.commands?.push(command);
  }

  /** Runs work without adding its commands to the capture under way. */
  without(work: () => void): void {
    const { commands } = this;
    this.commands = null;
    try {
      work();
    } finally {
      this.commands = commands;
    }
  }

  capture<T>(work: () => T): { result: T; replay: Replay } {
    if (this.commands) throw new GpuError('internal', 'capture', 'another capture is under way');
    const commands: (() => void)[] = [];
    this.commands = commands;
    this.pool.beginCapture();
    let result: T;
    try {
      result = work();
    } catch (error) {
      this.pool.endCapture();
      this.pool.forgetCapture();
      throw error;
    } finally {
      this.commands = null;
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
}

/** Work that is captured when it first runs, with the tensors that it reads. */
export interface Captured {
  dispose(): void;
}

/**
 * Captures of one kind of work, found by everything that is baked into them. `make` gets these values and nothing else. So the
 * type `B` declares what the work reads, besides what lies in buffers and what is given as a function.
 */
export class CaptureCache<B extends object, C extends Captured> {
  private readonly made = new Map<string, C>();

  /** At most `most` captures stay. Each one costs the buffers that it does not share with the others. */
  constructor(
    private readonly most: number,
    private readonly make: (baked: B) => C,
  ) {}

  get isEmpty(): boolean {
    return this.made.size === 0;
  }

  /** Uses the capture of these values, which is made if there is none yet. A capture whose use fails is dropped, also if it fails later. */
  use<R>(baked: B, work: (captured: C) => R): R {
    const key = JSON.stringify(baked);
    let captured = this.made.get(key);
    if (captured)
      this.made.delete(key); // moves to the end, so that the first key is the least recently used
    else {
      if (this.made.size >= this.most) this.forget(this.made.keys().next().value as string);
      captured = this.make(baked);
    }
    this.made.set(key, captured);
    const fail = (error: unknown): never => {
      this.forget(key);
      throw error;
    };
    try {
      const result = work(captured);
      return result instanceof Promise ? (result.catch(fail) as R) : result;
    } catch (error) {
      return fail(error);
    }
  }

  private forget(key: string): void {
    this.made.get(key)?.dispose();
    this.made.delete(key);
  }

  dispose(): void {
    for (const key of [...this.made.keys()]) this.forget(key);
  }
}
