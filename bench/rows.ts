/** Rows of a benchmark's result. This file imports no engine, so that reports and pages can read rows alone. */
import type { PeerRow } from './peers/row.ts';
import type { Ratio } from './ratio.ts';
import type { Timing } from './sampling.ts';
import type { Work } from './work.ts';

export interface Named {
  name: string;
  shape: string;
  version: string;
}

export interface TimedRow extends Named, Timing {
  /** The sizes as numbers. */
  work: Work | null;
  /** Largest error of the last timed run, as a share of the largest number; null where only words were compared. */
  maxError: number | null;
  /** How many numbers or words were compared, and with what. */
  checked: number;
  checkedAgainst: string;
  /** Until every command is handed to the driver: JavaScript's share. */
  hostMs: number | null;
  /** On the device, with the copies that the version needs. */
  gpuMedianMs: number | null;
  gflops: number | null;
  gigabytesPerSecond: number | null;
  /** Floating-point operations per byte. */
  intensity: number | null;
  /** Share of what the roofs around this benchmark allow at this intensity. */
  roofShare: number | null;
  /** Why the roofs around this benchmark cannot be trusted: they moved. */
  roofsMoved: string | null;
  peakBytes: number | null;
  /** What a run includes besides the kernel. */
  includes: string | null;
  /** Its time over that of the fastest version of ours; null for that version itself. */
  ratio: (Ratio & { to: string }) | null;
  /** On the row of our fastest version. */
  peers: PeerRow[];
}

/** A version that cannot run here, and why. */
export interface SkippedRow extends Named {
  skipped: string;
}

export type Row = TimedRow | SkippedRow;

export const isTimed = (row: Row): row is TimedRow => !('skipped' in row);

/** What gave a wrong result and therefore has no row. */
export type WrongRow = Named & { problem: string };
