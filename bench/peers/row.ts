/** What a benchmark says of a peer after its turns. It starts no process, so that a page can show such rows too. */
import type { Expectations } from '../measure.ts';
import type { Ratio } from '../ratio.ts';
import { bootstrapRatio, median } from '../sampling.ts';
import type { PlayingPeer } from './turns.ts';

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
