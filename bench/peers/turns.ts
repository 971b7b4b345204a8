/** Peers as participants: each takes its turns in a process of its own, and its result must be right too. */
import { GlimpseError } from '../../src/errors.ts';
import type { Expectations } from '../measure.ts';
import { compare } from '../reference.ts';
import type { Participant } from '../sampling.ts';
import type { Work } from '../work.ts';
import { CPU_PEERS, PeerProcess, WEBGPU_PEERS } from './process.ts';

/** Peers that poll through JavaScript: they run with and without our treatment. The others have no second way to run. */
const POLLING: readonly string[] = ['tfjs-webgpu', 'onnxruntime-web', 'jax-js'];

/** One process, for one benchmark. A peer that fails takes no more turns; its error is kept. */
class PeerTurns implements Participant {
  error: string | null = null;
  cold: { coldMs: number; runsPerSample: number; includes: string | null } | null = null;

  constructor(
    readonly name: string,
    private readonly process: PeerProcess,
    private readonly work: Work,
  ) {}

  /** False when the peer has no such work. */
  async start(): Promise<boolean> {
    const answer = await this.process.ask({ kind: 'prepare', work: this.work }).catch((error: Error) => ({ kind: 'error' as const, error: error.message }));
    if (answer.kind === 'unable') return false;
    if (answer.kind === 'prepared') this.cold = answer;
    else this.error = answer.kind === 'error' ? answer.error : `it answered "${answer.kind}"`;
    return true;
  }

  async prepare(): Promise<{ coldMs: number; runsPerSample: number }> {
    if (!this.cold) throw new GlimpseError(`${this.name} is not ready`);
    return this.cold;
  }

  async sample(): Promise<number> {
    if (this.error !== null) return Number.NaN;
    const answer = await this.process.ask({ kind: 'sample' });
    if (answer.kind === 'sampled') return answer.ms;
    this.error = answer.kind === 'error' ? answer.error : `it answered "${answer.kind}"`;
    return Number.NaN;
  }

  /** The run that is compared: its error and memory; null if it failed or was wrong. */
  async finish(expected: Expectations): Promise<{ maxError: number | null; peakBytes: number } | null> {
    if (this.error !== null) return null;
    const answer = await this.process.ask({ kind: 'finish' });
    if (answer.kind !== 'finished') {
      this.error = answer.kind === 'error' ? answer.error : `it answered "${answer.kind}"`;
      return null;
    }
    const values = answer.result && (await expected(answer.set));
    if (!answer.result || !values) return { maxError: null, peakBytes: answer.peakBytes };
    const { wrong, maxError } = compare(answer.result, values);
    if (wrong === null) return { maxError, peakBytes: answer.peakBytes };
    this.error = `its result ${wrong}; its time is not reported`;
    return null;
  }
}

/** A peer that takes turns in a benchmark, and the same without our polling treatment. */
export interface PlayingPeer {
  throttled: PeerTurns;
  stock: PeerTurns | null;
}

export class Peers {
  private readonly processes: { name: string; throttled: PeerProcess; stock: PeerProcess | null }[];

  constructor(adapter: string) {
    this.processes = [...WEBGPU_PEERS, ...CPU_PEERS].map((name) => ({
      name,
      throttled: new PeerProcess(name, adapter, false),
      stock: POLLING.includes(name) ? new PeerProcess(name, adapter, true) : null,
    }));
  }

  /** Those that have such work, ready for their turns. */
  async start(work: Work, note: (name: string) => void): Promise<PlayingPeer[]> {
    const playing: PlayingPeer[] = [];
    for (const { name, throttled, stock } of this.processes) {
      note(name);
      const turns = new PeerTurns(name, throttled, work);
      if (!(await turns.start())) continue;
      const asItComes = stock && turns.error === null ? new PeerTurns(`${name}, stock`, stock, work) : null;
      if (asItComes) await asItComes.start();
      playing.push({ throttled: turns, stock: asItComes });
    }
    return playing;
  }

  close(): void {
    for (const { throttled, stock } of this.processes) {
      throttled.close();
      stock?.close();
    }
  }
}
