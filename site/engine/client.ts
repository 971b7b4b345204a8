/** The engine as the page sees it: jobs that are asked for and answered. It lives in one worker, so that the page stays quick. */
import { CANCELLED, type Failure, type FromEngine, GUARANTEED, type JobName, type Jobs, type ToEngine } from './protocol.ts';

/** A job failed: the engine's own words. */
export class EngineError extends Error {
  override readonly name: string;
  readonly kind: string | undefined;
  constructor({ name, message, kind }: Failure) {
    super(message);
    this.name = name;
    this.kind = kind;
  }

  get isCancelled(): boolean {
    return this.name === CANCELLED;
  }
}

export interface Running<K extends JobName> {
  result: Promise<Jobs[K]['result']>;
  pause(on: boolean): void;
  cancel(): void;
}

interface Waiting {
  onStart?: () => void;
  onProgress?: (progress: never) => void;
  resolve(result: never): void;
  reject(error: EngineError): void;
}

export class Engine {
  /** Started by the first job, and again by the first job after it broke. */
  private worker: Worker | null = null;
  /** Whether a worker ever answered: one that never does cannot be loaded, and is not tried again. */
  private hasAnswered = false;
  private broken: Failure | null = null;
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;
  constructor(private readonly guaranteed: boolean) {}

  /** Called when the device is gone, with the reason. */
  onLost: (reason: string) => void = () => {};
  /** Called when the worker broke: whatever it held, such as a trained model, is gone. */
  onBroken: () => void = () => {};

  private start(): Worker {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: this.guaranteed ? GUARANTEED : 'glimpse' });
    worker.onmessage = ({ data }: MessageEvent<FromEngine>) => {
      this.hasAnswered = true;
      this.receive(data);
    };
    worker.onerror = (event) => this.stop(`the engine stopped: ${event.message || 'its script could not be loaded; reload the page'}`);
    return worker;
  }

  /** Ends the worker: nothing that waits will be answered. */
  private stop(message: string): void {
    this.worker?.terminate();
    this.worker = null;
    const failure = { name: 'Error', message };
    if (!this.hasAnswered) this.broken = failure;
    for (const { reject } of this.waiting.values()) reject(new EngineError(failure));
    this.waiting.clear();
    this.onBroken();
    if (this.hasAnswered) this.onLost(message);
  }

  private receive(message: FromEngine): void {
    if ('lost' in message) {
      this.onLost(message.lost);
      return;
    }
    const waiting = this.waiting.get(message.id);
    if (!waiting) return;
    if ('started' in message) {
      waiting.onStart?.();
      return;
    }
    if ('progress' in message) {
      waiting.onProgress?.(message.progress as never);
      return;
    }
    this.waiting.delete(message.id);
    if ('failure' in message) waiting.reject(new EngineError(message.failure));
    else waiting.resolve(message.result as never);
  }

  private send(message: ToEngine): void {
    this.worker?.postMessage(message);
  }

  /** Starts a job behind those that wait already. */
  begin<K extends JobName>(job: K, input: Jobs[K]['input'], onProgress?: (progress: Jobs[K]['progress']) => void, onStart?: () => void): Running<K> {
    const id = ++this.last;
    const broken = this.broken;
    const result = new Promise<Jobs[K]['result']>((resolve, reject) => {
      if (broken) reject(new EngineError(broken));
      else this.waiting.set(id, { onStart, onProgress: onProgress as Waiting['onProgress'], resolve, reject });
    });
    if (!broken) {
      this.worker ??= this.start();
      this.send({ id, job, input });
    }
    return { result, pause: (on) => this.send({ pause: id, on }), cancel: () => this.send({ cancel: id }) };
  }

  /** Does a job, and waits for what comes of it. With `mostMs`, a job that takes longer ends the worker: its own code hangs. */
  async run<K extends JobName>(
    job: K,
    input: Jobs[K]['input'],
    onProgress?: (progress: Jobs[K]['progress']) => void,
    mostMs: number | null = null,
  ): Promise<Jobs[K]['result']> {
    let timer = 0;
    const stop = () => this.stop(`it did not end within ${(mostMs ?? 0) / 1000} s, so the engine was stopped: is there an endless loop?`);
    const onStart = mostMs === null ? undefined : () => (timer = window.setTimeout(stop, mostMs)); // waiting for others does not count
    return this.begin(job, input, onProgress, onStart).result.finally(() => clearTimeout(timer));
  }
}
