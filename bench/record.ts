/** What a run of the benchmarks leaves behind as JSON: where and with what it ran, every sample, every check. */
import { z } from 'zod';
import { problemOf } from '../src/data/validation.ts';
import { FileError } from '../src/errors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { shadersFingerprint, tuningOf } from '../src/kernels/tuning.ts';
import { fingerprint } from '../src/random.ts';
import type { Roofs } from './roofs.ts';
import type { Row, WrongRow } from './rows.ts';

export const SCHEMA = 2;

/** Where it ran. */
export interface ReportHost {
  /** Of this checkout; null outside of one. `+` stands behind it where files were changed. */
  commit: string | null;
  /** Versions: this package, Node, and the npm package with Dawn in it; in a page, the browser's name for itself, and nothing. */
  version: string;
  node: string;
  dawn: string;
  cpu: string;
  cores: number;
  os: string;
}

export interface Report extends ReportHost {
  schema: typeof SCHEMA;
  date: string;
  adapter: string;
  driver: string;
  software: boolean;
  /** Where the order of versions comes from. */
  tuning: string;
  options: Record<string, unknown>;
  /** Fingerprints of the families' shaders, and of the user's. */
  shaders: Record<string, string>;
  /** Before the first benchmark. */
  roofs: Roofs;
  rows: Row[];
  /** What gave a wrong result and therefore has no row. */
  wrong: WrongRow[];
}

/** Everything about a run but its rows. */
export function newReport(
  gpu: Gpu,
  host: ReportHost,
  options: Record<string, unknown>,
  roofs: Roofs,
  own: readonly { family: string; text: { source: string } }[],
): Report {
  const shaders = Object.fromEntries(Object.entries(FAMILIES).map(([name, { shaders: files }]) => [name, shadersFingerprint(gpu, files)]));
  for (const { family, text } of own) shaders[`user:${family}`] = fingerprint(text.source);
  return {
    schema: SCHEMA,
    date: new Date().toISOString(),
    ...host,
    ...{ adapter: gpu.adapterName, driver: gpu.driverName, software: gpu.software, tuning: tuningOf(gpu).source },
    options: Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== false)),
    ...{ shaders, roofs, rows: [], wrong: [] },
  };
}

const samples = z.array(z.number().positive()).min(1);
const timed = z.looseObject({
  ...{ name: z.string(), shape: z.string(), version: z.string(), medianMs: z.number().positive(), samplesMs: samples },
  ...{ gflops: z.number().nullable(), intensity: z.number().nullable(), peers: z.array(z.looseObject({ name: z.string(), samplesMs: z.array(z.number()) })) },
});
const skipped = z.looseObject({ name: z.string(), shape: z.string(), version: z.string(), skipped: z.string() });
const schema = z.looseObject({
  schema: z.literal(SCHEMA),
  ...{ date: z.string(), commit: z.string().nullable(), cpu: z.string(), adapter: z.string(), driver: z.string(), software: z.boolean() },
  roofs: z.object({ fmaGflops: z.number().positive(), copyGBs: z.number().positive() }),
  rows: z.array(z.union([skipped, timed])),
  wrong: z.array(z.looseObject({ name: z.string(), shape: z.string(), version: z.string(), problem: z.string() })),
});

/** A report from its text. Throws a FileError of `path` that names the first wrong field; `where` stands before it. */
export function parseReport(path: string, text: string, where: string): Report {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new FileError(path, `${where}is no JSON (${problemOf(error, text)}); \`glimpse bench --json\` writes it`);
  }
  const { error } = schema.safeParse(json);
  if (error) throw new FileError(path, `${where}is no result of \`glimpse bench --json\` of schema ${SCHEMA}: ${problemOf(error, json)}`);
  return json as Report;
}
