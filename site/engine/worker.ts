/**
 * The engine's worker. Browsers cannot keep the scopes of concurrent async functions apart, so jobs run one after the other. A long
 * job comes to places where no scope of its own is open; there the jobs that wait have their turn, also while it is paused.
 */
import { GpuError, messageOf } from '../../src/errors.ts';
import type { Gpu } from '../../src/gpu/gpu.ts';
import { openGpu } from '../../src/platform/web/open.ts';
import { JOBS } from './jobs.ts';
import { CANCELLED, type Failure, type FromEngine, GUARANTEED, type JobName, type Jobs, type ToEngine } from './protocol.ts';

class Cancelled extends Error {
  override name = CANCELLED;
}

/** What a job is given besides its input. */
export interface JobContext<K extends JobName> {
  /** The device; opened at its first use, and again after it was lost. */
  gpu(): Promise<Gpu>;
  /** Whether the device is opened with no more than the standard guarantees. */
  guaranteed: boolean;
  tell(progress: Jobs[K]['progress']): void;
  /** Lets the jobs that wait have their turn, and waits while this one is paused. Call it where no scope is open. Throws if the job was ended. */
  turn(): Promise<void>;
}

interface Entry {
  id: number;
  job: JobName;
  input: unknown;
  paused: boolean;
  cancelled: boolean;
}

const post = (message: FromEngine) => self.postMessage(message);

let device: Gpu | null = null;
/** The page names its worker by the limits that it wants, so that a worker that is started again opens the same device. */
const guaranteed = self.name === GUARANTEED;
const waiting: Entry[] = [];
const entries = new Map<number, Entry>();
/** Wakes a job that is paused. */
let wake: () => void = () => {};
let isRunning = false;

async function open(): Promise<Gpu> {
  if (device && !device.isLost) return device;
  const gpu = await openGpu({ guaranteedLimits: guaranteed });
  device = gpu;
  void gpu.device.lost.then(({ reason, message }) => {
    if (reason !== 'destroyed') post({ lost: message || 'the browser gave no reason' });
  });
  return gpu;
}

function failureOf(error: unknown): Failure {
  const name = error instanceof Error ? error.name : 'Error';
  return { name, message: messageOf(error), ...(error instanceof GpuError ? { kind: error.kind } : {}) };
}

async function execute(entry: Entry): Promise<void> {
  const { id, job, input } = entry;
  const context: JobContext<JobName> = {
    gpu: open,
    guaranteed,
    tell: (progress) => post({ id, progress }),
    turn: async () => {
      await new Promise((resolve) => setTimeout(resolve, 0)); // so that messages come in
      do {
        if (entry.cancelled) throw new Cancelled('ended by the visitor');
        await executeWaiting();
        if (entry.paused && !entry.cancelled)
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      } while (entry.paused || entry.cancelled);
    },
  };
  try {
    if (entry.cancelled) throw new Cancelled('ended by the visitor');
    post({ id, started: true });
    post({ id, result: await JOBS[job](input as never, context as never) });
  } catch (error) {
    post({ id, failure: failureOf(error) });
  } finally {
    entries.delete(id);
  }
}

async function executeWaiting(): Promise<void> {
  for (let next = waiting.shift(); next; next = waiting.shift()) await execute(next);
}

async function pump(): Promise<void> {
  if (isRunning) return;
  isRunning = true;
  await executeWaiting();
  isRunning = false;
}

self.onmessage = ({ data }: MessageEvent<ToEngine>) => {
  if ('job' in data) {
    const entry = { ...data, paused: false, cancelled: false };
    entries.set(data.id, entry);
    waiting.push(entry);
    void pump();
  } else {
    const entry = entries.get('pause' in data ? data.pause : data.cancel);
    if (entry && 'pause' in data) entry.paused = data.on;
    else if (entry) entry.cancelled = true;
  }
  wake();
};
