/** The parent's side of a peer: starts its process on first use, asks it for one thing at a time, ends it. */
import { type ChildProcess, fork } from 'node:child_process';
import type { PeerAnswer, PeerRequest } from './host.ts';

/** WebGPU engines first: the best of them is the one to beat. */
export const WEBGPU_PEERS = ['tfjs-webgpu', 'onnxruntime-web', 'onnxruntime-node-webgpu', 'jax-js'] as const;
export const CPU_PEERS = ['tfjs-wasm', 'onnxruntime-cpu'] as const;

/** A peer that takes longer than this for one answer is given up. */
const PATIENCE_MS = 180_000;

/** Children alive. One that rests cannot see that we are gone, so none may outlive us. */
const living = new Set<ChildProcess>();

function endAll(): void {
  for (const child of living) child.kill('SIGKILL');
}

function endAllWithUs(): void {
  process.once('exit', endAll);
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      endAll();
      process.kill(process.pid, signal); // what it would have done without us
    });
}

export class PeerProcess {
  private child: ChildProcess | null = null;

  constructor(
    readonly name: string,
    private readonly adapter: string,
    readonly stock: boolean,
  ) {}

  async ask(request: PeerRequest): Promise<PeerAnswer> {
    this.child ??= await this.start();
    const { child } = this;
    return new Promise<PeerAnswer>((resolve) => {
      const finish = (answer: PeerAnswer) => {
        clearTimeout(timer);
        this.rest();
        child.off('message', finish);
        child.off('exit', onExit);
        resolve(answer);
      };
      const onExit = (code: number | null, signal: string | null) => {
        this.child = null;
        finish({ kind: 'error', error: `the process of ${this.name} ended (${signal ?? code})` });
      };
      const timer = setTimeout(() => {
        this.close();
        finish({ kind: 'error', error: `no answer in ${PATIENCE_MS / 1000} s` });
      }, PATIENCE_MS);
      child.on('message', finish);
      child.on('exit', onExit);
      this.wake();
      child.send(request);
    });
  }

  /** A peer that is not asked gets no processor time: some poll or compile on in the background. */
  private rest(): void {
    if (process.platform !== 'win32') this.child?.kill('SIGSTOP');
  }

  private wake(): void {
    if (process.platform !== 'win32') this.child?.kill('SIGCONT');
  }

  private async start(): Promise<ChildProcess> {
    const child = fork(new URL('./host.ts', import.meta.url), [this.name, this.adapter, this.stock ? 'stock' : 'throttled'], {
      execArgv: ['--import', import.meta.resolve('tsx')], // not from where the command was given
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      serialization: 'advanced', // results come as they are, not as text
    });
    if (!process.listeners('exit').includes(endAll)) endAllWithUs();
    living.add(child);
    child.once('close', () => living.delete(child));
    let stderr = '';
    child.stderr?.on('data', (chunk) => {
      stderr = (stderr + chunk).slice(-2000);
    });
    return new Promise((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`${this.name} could not start (${code}): ${stderr}`)));
      child.once('message', () => {
        child.removeAllListeners('exit');
        resolve(child);
      });
    });
  }

  close(): void {
    this.child?.kill('SIGKILL');
    this.child = null;
  }
}
