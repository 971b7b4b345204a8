/**
 * Which version suits which problem on which adapter: a table per adapter, made by `glimpse tune`. The host hands tables in
 * (from files, a bundle, or a browser's storage). A table counts for a family only while the shaders that the family runs are
 * those that were measured. Nothing is ever measured during an ordinary run.
 */
import type { Gpu } from '../gpu/gpu.ts';
import { fingerprint } from '../random.ts';

export interface TuningTable {
  version: 2;
  adapter: string;
  driver: string;
  /** The machine that measured: its processor. */
  host: string;
  date: string;
  /** A fingerprint of each family's shaders as they were measured. */
  shaders: Record<string, string>;
  problems: TunedProblem[];
}

export interface TunedProblem {
  family: string;
  key: string;
  shape: string;
  /** Median milliseconds of every version that agreed with the reference and could run. */
  medianMs?: Record<string, number>;
  /** Fastest first by reasoning, where nothing was measured (the generic GPU); the key `*` stands for every class. */
  order?: string[];
}

/** Checks that parsed JSON is a table; throws with the first field that is not what it must be. */
export function parseTuningTable(json: unknown): TuningTable {
  const expect = (holds: boolean, field: string, what: string) => {
    if (!holds) throw new Error(`${field} is not ${what}`);
  };
  const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
  const allOf = (value: unknown, type: 'string' | 'number') => isRecord(value) && Object.values(value).every((each) => typeof each === type);
  if (!isRecord(json)) throw new Error('it is no object');
  expect(json.version === 2, 'version', '2, that of this program');
  for (const field of ['adapter', 'driver', 'host', 'date']) expect(typeof json[field] === 'string', field, 'a text');
  expect(allOf(json.shaders, 'string'), 'shaders', 'a record of texts');
  expect(Array.isArray(json.problems), 'problems', 'a list');
  for (const [i, problem] of (json.problems as unknown[]).entries()) {
    const at = `problems[${i}]`;
    if (!isRecord(problem)) throw new Error(`${at} is no object`);
    for (const field of ['family', 'key', 'shape']) expect(typeof problem[field] === 'string', `${at}.${field}`, 'a text');
    if (problem.medianMs !== undefined) expect(allOf(problem.medianMs, 'number'), `${at}.medianMs`, 'a record of numbers');
    if (problem.order !== undefined)
      expect(Array.isArray(problem.order) && problem.order.every((name) => typeof name === 'string'), `${at}.order`, 'a list of names');
    expect(problem.medianMs !== undefined || problem.order !== undefined, at, 'measured or ordered');
  }
  return json as unknown as TuningTable;
}

export interface Tuning {
  /** Where it comes from, for `doctor`. */
  source: string;
  /** Versions by family and class of problem, fastest first. */
  order: ReadonlyMap<string, readonly string[]>;
}

function ordered(table: TuningTable, fresh: (family: string) => boolean): Map<string, readonly string[]> {
  const byTime = (medianMs: Record<string, number>) => Object.keys(medianMs).sort((a, b) => medianMs[a] - medianMs[b]);
  return new Map(
    table.problems.filter(({ family }) => fresh(family)).map(({ family, key, medianMs = {}, order }) => [`${family} ${key}`, order ?? byTime(medianMs)]),
  );
}

/** The fingerprint of the shaders that a family runs, as this program has them. */
export function shadersFingerprint(gpu: Gpu, shaders: readonly string[]): string {
  return fingerprint(shaders.map((file) => gpu.host.shaderSource(file)).join('\0'));
}

/** The committed table, and before it the user's own for every family whose shaders are unchanged since. */
export function tuningFrom(
  gpu: Gpu,
  shadersOf: (family: string) => readonly string[],
  committed: TuningTable,
  own: { name: string; table: TuningTable } | null,
): Tuning {
  const defaults = ordered(committed, () => true);
  const source = `committed defaults for ${gpu.kind === 'generic' ? 'any GPU, by reasoning' : `${gpu.kind}, made ${committed.date} on ${committed.host}`}`;
  if (!own) return { source, order: defaults };
  const { table, name } = own;
  const fresh = (family: string) => table.shaders[family] === shadersFingerprint(gpu, shadersOf(family));
  const stale = [...new Set(table.problems.map(({ family }) => family))].filter((family) => !fresh(family));
  const note = stale.length > 0 ? `; shaders of ${stale.join(', ')} have changed since: run \`glimpse tune\` again` : '';
  return { source: `${name}, made ${table.date}${note}`, order: new Map([...defaults, ...ordered(table, fresh)]) };
}

const UNTUNED: Tuning = { source: 'none', order: new Map() };
const loaders = new WeakMap<Gpu, () => Tuning>();
const tunings = new WeakMap<Gpu, Tuning>();

/** Hands in how a device's tuning is loaded; that is done when it is first needed. */
export function useTuning(gpu: Gpu, load: () => Tuning): void {
  loaders.set(gpu, load);
  tunings.delete(gpu);
}

export function tuningOf(gpu: Gpu): Tuning {
  let tuning = tunings.get(gpu);
  if (!tuning) {
    tuning = loaders.get(gpu)?.() ?? UNTUNED;
    tunings.set(gpu, tuning);
  }
  return tuning;
}

/** Versions for this class of problems, fastest first; empty where no table says anything. */
export function tunedOrder(gpu: Gpu, family: string, key: string): readonly string[] {
  const { order } = tuningOf(gpu);
  return order.get(`${family} ${key}`) ?? order.get(`${family} *`) ?? [];
}
