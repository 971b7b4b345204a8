/** All peers of a run: each does the same work in turn, and its result must be right too. */
import type { Benchmark } from '../catalog.ts';
import type { Expectations } from '../measure.ts';
import { compare } from '../reference.ts';
import type { SamplingOptions, Timing } from '../sampling.ts';
import { CPU_PEERS, PeerProcess, WEBGPU_PEERS } from './process.ts';

export interface PeerRow {
  name: string;
  /** With the polling treatment that our engine gives itself; null when the peer cannot do it or failed. */
  medianMs: number | null;
  minMs: number | null;
  /** As it comes. */
  stockMedianMs: number | null;
  /** Its time over ours. */
  ratio: number | null;
  /** Largest error as a share of the largest number; null where its result cannot be compared, as its weights are its own. */
  maxError: number | null;
  peakBytes: number | null;
  note?: string;
}

/** A timing whose result was compared, or why there is none. */
type Answer = { timing: Timing; peakBytes: number; maxError: number | null } | { error: string };

export class Peers {
  private readonly processes: { throttled: PeerProcess; stock: PeerProcess | null }[];

  constructor(adapter: string) {
    this.processes = [...WEBGPU_PEERS, ...CPU_PEERS].map((name) => ({
      throttled: new PeerProcess(name, adapter, false),
      // Native code does not poll through JavaScript, nor does WebAssembly: there is no second way to run them.
      stock: ['tfjs-webgpu', 'onnxruntime-web', 'jax-js'].includes(name) ? new PeerProcess(name, adapter, true) : null,
    }));
  }

  /** `between` is called after each peer, for our own turn. */
  async time(b: Benchmark, sampling: SamplingOptions, expected: Expectations, note: (name: string) => void, between: () => Promise<void>): Promise<PeerRow[]> {
    const rows: PeerRow[] = [];
    for (const { throttled, stock } of this.processes) {
      note(throttled.name);
      const answer = await this.ask(throttled, b, sampling, expected);
      if (answer === null) continue;
      const as = stock && 'timing' in answer ? await this.ask(stock, b, sampling, expected) : answer;
      const timing = 'timing' in answer ? answer.timing : null;
      rows.push({
        name: throttled.name,
        medianMs: timing?.medianMs ?? null,
        minMs: timing?.minMs ?? null,
        stockMedianMs: as && 'timing' in as ? as.timing.medianMs : null,
        ratio: null,
        maxError: 'timing' in answer ? answer.maxError : null,
        peakBytes: 'timing' in answer ? answer.peakBytes : null,
        ...('error' in answer ? { note: answer.error.split('\n')[0].slice(0, 200) } : {}),
      });
      await between();
    }
    return rows;
  }

  /** Null when the peer has no such work. */
  private async ask(peer: PeerProcess, b: Benchmark, sampling: SamplingOptions, expected: Expectations): Promise<Answer | null> {
    const answer = await peer.time(b.work, sampling).catch((error: Error) => ({ error: error.message }));
    if ('unable' in answer) return null;
    if ('error' in answer) return answer;
    const values = answer.result && (await expected(answer.set));
    if (!answer.result || !values) return { ...answer, maxError: null };
    const { wrong, maxError } = compare(answer.result, values);
    return wrong === null ? { ...answer, maxError } : { error: `its result ${wrong}; its time is not reported` };
  }

  close(): void {
    for (const { throttled, stock } of this.processes) {
      throttled.close();
      stock?.close();
    }
  }
}
