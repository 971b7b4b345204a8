/**
 * Tables of the fastest versions, one for each adapter, made by `glimpse tune`. The host hands them in, from files, a bundle,
 * or a browser's storage. A user's table counts for a family only while the family's shaders are those that were measured.
 * Nothing is ever measured during an ordinary run.
 */
import type { Gpu } from '../gpu/gpu.ts';
import { fingerprint } from '../random.ts';

/** A tuning table: which version is fastest for each class of problems, measured on one adapter. */
export interface TuningTable {
  version: 2;
  adapter: string;
  driver: string;
  /** The processor of the machine that measured. */
  host: string;
  date: string;
  /** Fingerprints of the measured shaders, by family. */
  shaders: Record<string, string>;
  problems: TunedProblem[];
}

export interface TunedProblem {
  family: string;
  key: string;
  shape: string;
  /** Median milliseconds of every version that could run and agreed with the reference. */
  medianMs?: Record<string, number>;
  /** Versions, fastest first, by reasoning; for the generic GPU, where nothing was measured. The key `*` stands for every class. */
  order?: string[];
}

/** Checks that parsed JSON is a table. Throws an Error that names the first wrong field. */
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
  /** Where the tuning comes from, for `glimpse doctor`. */
  readonly source: string;
  /** Versions by family and class of problem, fastest first. */
  order: ReadonlyMap<string, readonly string[]>;
}

function ordered(table: TuningTable, fresh: (family: string) => boolean): Map<string, readonly string[]> {
  const byTime = (medianMs: Record<string, number>) => Object.keys(medianMs).sort((a, b) => medianMs[a] - medianMs[b]);
  return new Map(
    table.problems.filter(({ family }) => fresh(family)).map(({ family, key, medianMs = {}, order }) => [`${family} ${key}`, order ?? byTime(medianMs)]),
  );
}

/** The fingerprint of some shader files, as this program has them. */
export function shadersFingerprint(gpu: Gpu, shaders: readonly string[]): string {
  return fingerprint(shaders.map((file) => gpu.host.shaderSource(file)).join('\0'));
}

/** `fresh` tells whether a family's shaders are those that the table was measured with. `stale` lists measured families that are not. */
function freshness(gpu: Gpu, table: TuningTable, shadersOf: (family: string) => readonly string[]): { fresh: (family: string) => boolean; stale: string[] } {
  const fresh = (family: string) => table.shaders[family] === shadersFingerprint(gpu, shadersOf(family));
  const measured = new Set(table.problems.flatMap(({ family, medianMs }) => (medianMs ? [family] : [])));
  return { fresh, stale: [...measured].filter((family) => !fresh(family)) };
}

const staleNote = (stale: readonly string[]) => (stale.length > 0 ? `; shaders of ${stale.join(', ')} have changed since: run \`glimpse tune\` again` : '');

/**
 * Merges the committed table and the user's own. The user's goes first for every family whose shaders are unchanged since.
 * A committed table whose shaders have changed still gives the order, because there must be one; `source` says so.
 */
export function tuningFrom(
  gpu: Gpu,
  shadersOf: (family: string) => readonly string[],
  committed: TuningTable,
  own: { name: string; table: TuningTable } | null,
): Tuning {
  const defaults = ordered(committed, () => true);
  if (own) {
    const { fresh, stale } = freshness(gpu, own.table, shadersOf);
    const order = new Map([...defaults, ...ordered(own.table, fresh)]);
    return { source: `${own.name}, made ${own.table.date} on ${own.table.host}${staleNote(stale)}`, order };
  }
  if (gpu.kind === 'generic') return { source: 'committed defaults for any GPU, by reasoning: run `glimpse tune` once', order: defaults };
  return {
    // Read by `doctor` only, so no other run hashes the shaders.
    get source() {
      return `committed defaults for ${gpu.kind}, made ${committed.date} on ${committed.host}${staleNote(freshness(gpu, committed, shadersOf).stale)}`;
    },
    order: defaults,
  };
}

const UNTUNED: Tuning = { source: 'none', order: new Map() };
const tunings = new WeakMap<Gpu, () => Tuning>();

/** Sets the function that loads a device's tuning. It is called when the tuning is first needed. */
export function useTuning(gpu: Gpu, load: () => Tuning): void {
  let tuning: Tuning | undefined;
  tunings.set(gpu, () => (tuning ??= load()));
}

/** The tuning that a device uses, loaded at its first use. */
export function tuningOf(gpu: Gpu): Tuning {
  return tunings.get(gpu)?.() ?? UNTUNED;
}

/** Versions for this class of problems, fastest first. A class that no table has is taken for the wider one without its last word; empty if there is none. */
export function tunedOrder(gpu: Gpu, family: string, key: string): readonly string[] {
  const { order } = tuningOf(gpu);
  for (let wider = key; wider !== ''; wider = wider.slice(0, Math.max(0, wider.lastIndexOf(' ')))) {
    const found = order.get(`${family} ${wider}`);
    if (found) return found;
  }
  return order.get(`${family} *`) ?? [];
}

/** The versions that are fastest for some class of a family's problems. */
export function tunedFirsts(gpu: Gpu, family: string): string[] {
  return [...new Set([...tuningOf(gpu).order].filter(([key]) => key.startsWith(`${family} `)).map(([, [first]]) => first))];
}
