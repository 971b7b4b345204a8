/** The engine as the page sees it: jobs that are asked for and answered. It lives in one worker, so that the page stays quick. */
import { CANCELLED, type Failure, type FromEngine, type JobName, type Jobs, type ToEngine } from './protocol.ts';

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
  onProgress?: (progress: never) => void;
  resolve(result: never): void;
  reject(error: EngineError): void;
}

export class Engine {
  private worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;
  /** Called when the device is gone, with the reason. */
  onLost: (reason: string) => void = () => {};

  constructor() {
    this.worker = this.start();
  }

  private start(): Worker {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'glimpse' });
    worker.onmessage = ({ data }: MessageEvent<FromEngine>) => this.receive(data);
    worker.onerror = (event) => {
      // The worker itself broke: nothing that waits will be answered.
      const failure = { name: 'Error', message: `the engine stopped: ${event.message || 'its script could not be loaded'}` };
      for (const { reject } of this.waiting.values()) reject(new EngineError(failure));
      this.waiting.clear();
      worker.terminate();
      this.worker = this.start();
      this.onLost(failure.message);
    };
    return worker;
  }

  private receive(message: FromEngine): void {
    if ('lost' in message) {
      this.onLost(message.lost);
      return;
    }
    const waiting = this.waiting.get(message.id);
    if (!waiting) return;
    if ('progress' in message) {
      waiting.onProgress?.(message.progress as never);
      return;
    }
    this.waiting.delete(message.id);
    if ('failure' in message) waiting.reject(new EngineError(message.failure));
    else waiting.resolve(message.result as never);
  }

  private send(message: ToEngine): void {
    this.worker.postMessage(message);
  }

  /** Starts a job behind those that wait already. */
  begin<K extends JobName>(job: K, input: Jobs[K]['input'], onProgress?: (progress: Jobs[K]['progress']) => void): Running<K> {
    const id = ++this.last;
    const result = new Promise<Jobs[K]['result']>((resolve, reject) => {
      this.waiting.set(id, { onProgress: onProgress as Waiting['onProgress'], resolve, reject });
    });
    this.send({ id, job, input });
    return { result, pause: (on) => this.send({ pause: id, on }), cancel: () => this.send({ cancel: id }) };
  }

  /** Does a job, and waits for what comes of it. */
  run<K extends JobName>(job: K, input: Jobs[K]['input'], onProgress?: (progress: Jobs[K]['progress']) => void): Promise<Jobs[K]['result']> {
    return this.begin(job, input, onProgress).result;
  }
}
