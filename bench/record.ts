/** What a run of the benchmarks leaves behind as JSON: where and with what it ran, every sample, every check. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, release, type } from 'node:os';
import { z } from 'zod';
import { FileError, messageOf } from '../src/errors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { shadersFingerprint, tuningOf } from '../src/kernels/tuning.ts';
import { fingerprint } from '../src/random.ts';
import type { Row, WrongRow } from './measure.ts';
import type { Roofs } from './roofs.ts';

export const SCHEMA = 2;

export interface Report {
  schema: typeof SCHEMA;
  date: string;
  /** Of this checkout; null outside of one. `+` stands behind it where files were changed. */
  commit: string | null;
  /** Versions: this package, Node, and the npm package with Dawn in it. */
  version: string;
  node: string;
  dawn: string;
  cpu: string;
  cores: number;
  os: string;
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

function commitHere(): string | null {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: new URL('..', import.meta.url), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    const commit = git('rev-parse', '--short=12', 'HEAD');
    return git('status', '--porcelain', '--untracked-files=no') === '' ? commit : `${commit}+`;
  } catch {
    return null; // an installed package, or no git
  }
}

function versionOf(path: URL | string): string {
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}

/** Everything about a run but its rows. */
export function newReport(gpu: Gpu, options: Record<string, unknown>, roofs: Roofs, own: readonly { family: string; text: { source: string } }[]): Report {
  const processors = cpus();
  const shaders = Object.fromEntries(Object.entries(FAMILIES).map(([name, { shaders: files }]) => [name, shadersFingerprint(gpu, files)]));
  for (const { family, text } of own) shaders[`user:${family}`] = fingerprint(text.source);
  return {
    schema: SCHEMA,
    date: new Date().toISOString(),
    commit: commitHere(),
    version: versionOf(new URL('../package.json', import.meta.url)),
    node: process.version,
    dawn: versionOf(createRequire(import.meta.url).resolve('webgpu/package.json')),
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    os: `${type()} ${release()}`,
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

function parsed(path: string, text: string, where: string): Report {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new FileError(path, `${where}is no JSON (${messageOf(error)}); \`glimpse bench --json\` writes it`);
  }
  const { error } = schema.safeParse(json);
  if (error) {
    const [{ path: at, message }] = error.issues;
    throw new FileError(path, `${where}is no result of \`glimpse bench --json\` of schema ${SCHEMA}: ${at.join('.') || 'it'}: ${message}`);
  }
  return json as Report;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new FileError(path, messageOf(error));
  }
}

/** Reads what `glimpse bench --json` wrote. Throws a FileError that names the first wrong field. */
export function readReport(path: string): Report {
  return parsed(path, read(path), '');
}

/** Reads what `--append` gathered, oldest first: a run per line. */
export function readHistory(path: string): Report[] {
  const lines = read(path).split('\n');
  const reports = lines.flatMap((line, i) => (line.trim() === '' ? [] : [parsed(path, line, `line ${i + 1} `)]));
  if (reports.length === 0) throw new FileError(path, 'holds no run; gather some with `glimpse bench --append`');
  return reports.sort((a, b) => a.date.localeCompare(b.date));
}
