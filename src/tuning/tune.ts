/**
 * The tuner. It times the versions of every kernel family that agree with the float64 reference on the op table's cases.
 * Each round times all versions in turn, so that a slow phase of the machine affects them alike.
 */
import { checkOp } from '../autograd/check.ts';
import { opsOf } from '../autograd/ops/index.ts';
import { noGrad } from '../autograd/tape.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { Profiler } from '../gpu/profiler.ts';
import { FAMILIES, familyOf, forceVersion } from '../kernels/families.ts';
import { VersionNotApplicable } from '../kernels/family.ts';
import { shadersFingerprint, type TunedProblem, type TuningTable } from '../kernels/tuning.ts';
import { scope } from '../tensor/tensor.ts';
import { PROBLEMS, type TuningProblem } from './problems.ts';

/** What `tune` reports as it goes on. */
export interface TuneHooks {
  /** Called for a version that is left out because it disagreed with its reference. */
  onRefused(family: string, version: string, reason: string): void;
  /** Tuning waits for what it returns. No scope is open then, so that other work may have its turn; it ends tuning by throwing. */
  onProblem(problem: TuningProblem, done: number, total: number): void | Promise<void>;
}

/**
 * Runs of one sample on a real GPU. Its kernels take far less time than a wait for them. So they are timed by timestamps, several at a
 * time, and it does not rest between them.
 */
const RUNS_ON_GPU = 8;
const ROUNDS = 15;
/** A problem that has taken `ms` milliseconds gets no round beyond the first `rounds`. */
const ENOUGH = { rounds: 7, ms: 4000 };
/** A version this much slower than the best after the first round is not timed further. */
const HOPELESS = 4;
/** So is one whose first run, with compiling, takes so many times as long as the best so far, and so many milliseconds. The last rows are tried first. */
const ALSO_HOPELESS = { times: 20, ms: 1000 };

/** The family's versions that do not fail in any case of the ops that use it. */
async function agreeing(family: string, hooks: TuneHooks): Promise<string[]> {
  const failed = new Map<string, string>();
  for (const op of opsOf(family)) {
    for (const result of await checkOp(op))
      if (result.status === 'failed' && result.family === family)
        failed.set(result.version, `${op.name}, ${result.case}: off by ${result.maxAbs.toExponential(1)}`);
  }
  for (const [version, reason] of failed) hooks.onRefused(family, version, reason);
  return FAMILIES[family].names.filter((version) => !failed.has(version));
}

async function timeVersions(gpu: Gpu, problem: TuningProblem, versions: readonly string[]): Promise<Record<string, number>> {
  const { run, dispose } = problem.prepare();
  const waited = async (): Promise<number> => {
    const start = performance.now();
    noGrad(run);
    await gpu.idle();
    return performance.now() - start;
  };
  const stamped = async (): Promise<number> => {
    const profiler = new Profiler(gpu.device);
    gpu.profiler = profiler;
    try {
      for (let i = 0; i < RUNS_ON_GPU; i++) noGrad(run);
      await gpu.idle();
    } finally {
      gpu.profiler = null;
    }
    const spans = await profiler.table();
    return spans.reduce((sum, { kind, totalMs }) => sum + (kind === 'upload' ? 0 : totalMs), 0) / RUNS_ON_GPU;
  };
  const sample = !gpu.software && gpu.device.features.has('timestamp-query') ? stamped : waited;
  const once = async (version: string): Promise<number> => {
    using _run = scope();
    forceVersion(problem.family, version);
    try {
      return await sample();
    } finally {
      forceVersion(problem.family, null);
    }
  };
  const times = new Map<string, number[]>();
  let fastest = Number.POSITIVE_INFINITY;
  for (const version of versions.toReversed()) {
    try {
      const first = await once(version); // compiles, too
      const second = first > ALSO_HOPELESS.times * fastest + ALSO_HOPELESS.ms ? first : await once(version);
      times.set(version, [second]);
      fastest = Math.min(fastest, second);
    } catch (error) {
      if (!(error instanceof VersionNotApplicable)) throw error;
    }
  }
  const best = Math.min(...[...times.values()].map(([first]) => first));
  const hopeful = [...times.keys()].filter((version) => (times.get(version) as number[])[0] <= HOPELESS * best + 1);
  const start = performance.now();
  for (let round = 1; round < ROUNDS && (round < ENOUGH.rounds || performance.now() - start < ENOUGH.ms); round++)
    for (const version of hopeful) times.get(version)?.push(await once(version));
  dispose();
  const median = (list: number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
  return Object.fromEntries([...times].map(([version, list]) => [version, Number(median(list).toFixed(4))]));
}

/** Times the given families and returns their table. `host` names the machine's processor. */
export async function tune(gpu: Gpu, host: string, families: readonly string[], hooks: TuneHooks): Promise<TuningTable> {
  const agree = new Map<string, string[]>();
  for (const family of families) agree.set(family, await agreeing(family, hooks));
  const chosen = PROBLEMS.filter(({ family }) => families.includes(family));
  const problems: TunedProblem[] = [];
  for (const [i, problem] of chosen.entries()) {
    await hooks.onProblem(problem, i, chosen.length);
    const medianMs = await timeVersions(gpu, problem, agree.get(problem.family) as string[]);
    problems.push({ family: problem.family, key: problem.key, shape: problem.shape, medianMs });
    gpu.pool.trim();
  }
  return {
    version: 2,
    adapter: gpu.adapterName,
    driver: gpu.driverName,
    host,
    date: new Date().toISOString().slice(0, 10),
    shaders: Object.fromEntries(families.map((family) => [family, shadersFingerprint(gpu, familyOf(family).shaders)])),
    problems,
  };
}
