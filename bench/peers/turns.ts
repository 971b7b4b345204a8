/** Peers as participants: each takes its turns in a process of its own, and its result must be right too. */
import { GlimpseError } from '../../src/errors.ts';
import type { Expectations } from '../measure.ts';
import { compare } from '../reference.ts';
import { bootstrapRatio, median, type Participant, type Ratio } from '../sampling.ts';
import type { Work } from '../work.ts';
import { CPU_PEERS, PeerProcess, WEBGPU_PEERS } from './process.ts';

export interface PeerRow {
  name: string;
  /** With the polling treatment that our engine gives itself; null when the peer failed. */
  medianMs: number | null;
  minMs: number | null;
  coldMs: number | null;
  runsPerSample: number | null;
  samplesMs: number[];
  /** As it comes. */
  stockMedianMs: number | null;
  stockSamplesMs: number[];
  /** Its time over ours. */
  ratio: Ratio | null;
  /** Largest error as a share of the largest number; null where its result cannot be compared, as its weights are its own. */
  maxError: number | null;
  peakBytes: number | null;
  /** What its runs include besides the work, such as a readback. */
  includes: string | null;
  note?: string;
}

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

/** The row of a peer, after its turns. `ours` are our samples of the same rounds. */
export async function peerRow(
  { throttled, stock }: PlayingPeer,
  samples: { throttled: number[]; stock: number[] },
  ours: readonly number[],
  expected: Expectations,
): Promise<PeerRow> {
  const end = await throttled.finish(expected);
  const stockEnd = (await stock?.finish(expected)) ?? null;
  const [own, asItComes] = [end ? samples.throttled : [], stockEnd ? samples.stock : []];
  const error = throttled.error;
  return {
    name: throttled.name,
    medianMs: end ? median(own) : null,
    minMs: end ? Math.min(...own) : null,
    coldMs: throttled.cold?.coldMs ?? null,
    runsPerSample: throttled.cold?.runsPerSample ?? null,
    samplesMs: own.map((ms) => Number(ms.toPrecision(6))),
    stockMedianMs: stock ? (stockEnd ? median(asItComes) : null) : end ? median(own) : null,
    stockSamplesMs: asItComes.map((ms) => Number(ms.toPrecision(6))),
    ratio: end ? bootstrapRatio(own, ours, true) : null,
    maxError: end?.maxError ?? null,
    peakBytes: end?.peakBytes ?? null,
    includes: throttled.cold?.includes ?? null,
    ...(error === null ? {} : { note: error.split('\n')[0].slice(0, 200) }),
  };
}
