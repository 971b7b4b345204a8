/** What page and engine say to each other: a job with its input, what it tells as it goes on, and what comes of it. */
import type { Report } from '../../bench/record.ts';
import type { CaseResult } from '../../src/autograd/check.ts';
import type { OpDoc } from '../../src/autograd/op.ts';
import type { TuningTable } from '../../src/kernels/tuning.ts';
import type { ShaderText } from '../../src/kernels/user_shader.ts';
import type { DemoReport, DescribedScene } from '../../src/model/demo/demo.ts';
import type { Scene } from '../../src/model/demo/scenes.ts';
import type { Sheet, Verdict } from '../../src/study/exercises.ts';
import type { Trace } from '../../src/study/trace.ts';

/** The device that the engine opened. */
export interface AdapterFacts {
  description: string;
  features: string[];
  limits: Record<string, number>;
  tuning: string;
  /** Opened with the limits that the standard guarantees, and without features. */
  guaranteed: boolean;
}

export interface VersionFacts {
  name: string;
  idea: string;
  shader: string;
  /** It runs several kernels, so no single shader can take its place. */
  composed: boolean;
}

export interface FamilyFacts {
  name: string;
  versions: VersionFacts[];
  /** The numbers that its benchmark takes, such as MxKxN; null if it has none of its own. */
  benchmark: { name: string; numbers: string; example: string } | null;
}

export interface OpFacts {
  name: string;
  doc: OpDoc;
  inputs: readonly string[];
  outputs: readonly string[];
  family: string | null;
  gradientFamilies: readonly string[];
  /** Why there is no gradient. */
  withoutGradient: string | null;
  cases: { name: string; shapes: number[][]; attrs: unknown; draw: string[] | null }[];
}

export interface ExerciseFacts {
  number: string;
  title: string;
  chapter: number;
  hint: string;
  parts: Sheet[];
}

/** What the visitor asks a benchmark for: an op at sizes of theirs, or a kernel of the catalog. */
export type RunWhat =
  | { kind: 'op'; op: string; shapes: number[][]; attrs: Record<string, unknown> | null; draw: string[] | null }
  | { kind: 'kernel'; name: string; shape: string }
  | { kind: 'catalog'; names: string[] };

export type WhichModel = 'bundled' | 'trained';

export interface TrainInput {
  scenes: number;
  epochs: number;
  seed: number;
}

export type TrainProgress =
  | { kind: 'step'; done: number; total: number; loss: number; wordsPerSecond: number; secondsLeft: number | null }
  | { kind: 'epoch'; epoch: number; loss: number; exact: number; seconds: number; described: DescribedScene[] };

export interface SelftestProgress {
  op: string;
  done: number;
  total: number;
}

/** By name: what a job is given, what it tells as it goes on, and what it gives. */
export interface Jobs {
  open: { input: null; progress: never; result: AdapterFacts };
  table: { input: null; progress: never; result: { ops: OpFacts[]; families: FamilyFacts[]; exercises: ExerciseFacts[]; benchmarks: string[] } };
  train: { input: TrainInput; progress: TrainProgress; result: { report: DemoReport; described: DescribedScene[] } };
  describe: { input: { model: WhichModel; seed: number; first: number; count: number }; progress: never; result: DescribedScene[] };
  trace: { input: { model: WhichModel; seed: number; scene: number }; progress: never; result: { trace: Trace; words: string[]; scene: Scene } };
  check: { input: { op: string }; progress: never; result: CaseResult[] };
  selftest: { input: null; progress: SelftestProgress; result: { passed: number; skipped: number; failed: CaseResult[] } };
  bench: {
    input: { what: RunWhat; versions: boolean; own: { family: string; text: ShaderText } | null; samples: number; seconds: number };
    progress: { text: string; done: number; total: number };
    result: Report;
  };
  loadRun: { input: RunFiles; progress: { text: string }; result: RunFacts };
  captionPicture: { input: { picture: Blob; name: string; beam: number }; progress: never; result: CaptionedPicture };
  judge: { input: { family: string | null; text: ShaderText }; progress: never; result: Verdict };
  tune: { input: null; progress: { text: string; done: number; total: number }; result: { table: TuningTable; kept: string | null } };
}

/** A run's files: those that the visitor chose, or addresses of a server that has them. */
export interface RunFiles {
  checkpoint: Blob | string;
  encoder: Blob | string;
  names: { checkpoint: string; encoder: string };
}

export interface RunFacts {
  vocabulary: number;
  parameters: number;
  regions: number;
  preprocessing: string;
  epoch: number;
}

export interface CaptionedPicture {
  /** Best first. */
  captions: { text: string; logProb: number; words: { word: string; probability: number; alpha: Float32Array }[] }[];
  /** The picture, scaled down, RGB. */
  pixels: Uint8Array;
  width: number;
  height: number;
  ms: { decode: number; encode: number; caption: number };
}

export type JobName = keyof Jobs;

export type ToEngine = { id: number; job: JobName; input: unknown } | { pause: number; on: boolean } | { cancel: number };

export interface Failure {
  name: string;
  message: string;
  /** Of a GpuError: why the device failed. */
  kind?: string;
}

export type FromEngine =
  | { id: number; started: true }
  | { id: number; progress: unknown }
  | { id: number; result: unknown }
  | { id: number; failure: Failure }
  | { lost: string };

/** The name of the error of a job that the visitor ended. */
export const CANCELLED = 'Cancelled';

/** The name of a worker that opens its device with the limits that the standard guarantees. */
export const GUARANTEED = 'glimpse, guaranteed limits';
