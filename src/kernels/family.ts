/**
 * A family of kernels: one job, done by several versions. A version is one row of a table and one shader file. Lists of
 * versions, tuning keys, files to hash, tests and reports are all derived from the rows.
 *
 * Three rules choose the version for a problem, in this order:
 *
 * 1. the version that a test, the self-test or the benchmark forces;
 * 2. the fastest version in the adapter's table (tuning.ts) that can serve the problem;
 * 3. the first row that can serve it.
 */
import { GpuError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { tunedOrder } from './tuning.ts';

export interface Version<P> {
  /** Says the idea, not a number. */
  readonly name: string;
  /** How the work is shared out: what it changes of an earlier row. docs/kernels.md shows it. */
  readonly idea: string;
  /** The file of kernels/wgsl, without the ending. */
  readonly shader: string;
  /** Other shader files that it runs. */
  readonly uses?: readonly string[];
  /** Null if it can serve the problem on this adapter, else why not. Changes nothing. */
  unable(gpu: Gpu, problem: P): string | null;
}

/** Thrown when a forced version cannot serve the problem; the self-test counts it as skipped. */
export class VersionNotApplicable extends GpuError {
  constructor(
    family: string,
    version: string,
    readonly reason: string,
  ) {
    super('limit', family, `version ${version} cannot serve this problem here: ${reason}`);
  }
}

export class Family<P, V extends Version<P> = Version<P>> {
  private forced: V | null = null;
  private last: V | null = null;

  /** `classOf` names the class of a problem: one version serves all problems of a class. */
  constructor(
    readonly name: string,
    readonly versions: readonly V[],
    private readonly classOf: (problem: P) => string,
  ) {}

  get names(): string[] {
    return this.versions.map(({ name }) => name);
  }

  /** Every shader file that a version of this family runs. */
  get shaders(): string[] {
    return [...new Set(this.versions.flatMap(({ shader, uses = [] }) => [shader, ...uses]))];
  }

  private named(name: string): V {
    const found = this.versions.find((version) => version.name === name);
    if (!found) throw new GpuError('internal', this.name, `has no version ${name} (${this.names.join(', ')})`);
    return found;
  }

  /** Makes one version serve every problem, or lets the table decide again (null). */
  force(name: string | null): void {
    this.forced = name === null ? null : this.named(name);
  }

  /** True if this version is forced. Prepared weights are then made even if they are used only once. */
  isForced(name: string): boolean {
    return this.forced?.name === name;
  }

  /** The version that served the family's last problem. */
  get chosen(): string | undefined {
    return this.last?.name;
  }

  choose(gpu: Gpu, problem: P): V {
    this.last = this.forced ? this.checked(this.forced, gpu, problem) : this.fastest(gpu, problem);
    return this.last;
  }

  private checked(version: V, gpu: Gpu, problem: P): V {
    const reason = version.unable(gpu, problem);
    if (reason !== null) throw new VersionNotApplicable(this.name, version.name, reason);
    return version;
  }

  private fastest(gpu: Gpu, problem: P): V {
    const isAble = (version: V) => version.unable(gpu, problem) === null;
    for (const name of tunedOrder(gpu, this.name, this.classOf(problem))) {
      const tuned = this.versions.find((version) => version.name === name); // none if the table is older than a renaming
      if (tuned && isAble(tuned)) return tuned;
    }
    const first = this.versions.find(isAble);
    if (!first)
      throw new GpuError(
        'limit',
        this.name,
        `no version can serve this problem here (${this.versions.map((v) => `${v.name}: ${v.unable(gpu, problem)}`).join('; ')})`,
      );
    return first;
  }
}

/** For versions that serve every problem everywhere. */
export const always = (): null => null;

/** Why shaders for subgroups of 4 or 8 lanes, as software drivers have, cannot run here; null if they can. */
export function withoutFixedSubgroup(gpu: Gpu): string | null {
  if (gpu.subgroupWidth === 4 || gpu.subgroupWidth === 8) return null;
  return gpu.subgroupWidth === 0
    ? 'the adapter has no subgroups of one known width'
    : `it is written for subgroups of 4 or 8 lanes, this adapter has ${gpu.subgroupWidth}`;
}

/** The class of a size: `≤` the first bound that holds it, or `>` the last bound. One version serves all sizes of a class. */
export function sizeRange(value: number, ...bounds: number[]): string {
  const bound = bounds.find((limit) => value <= limit);
  return bound === undefined ? `>${bounds[bounds.length - 1]}` : `≤${bound}`;
}
