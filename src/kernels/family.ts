/**
 * A family of kernels: one job, done by several versions. A version is one row of a table and one shader file. Lists of
 * versions, tuning keys, files to hash, tests and reports are all derived from the rows.
 *
 * Four rules choose the version for a problem, in this order:
 *
 * 1. the version that a test, the self-test or the benchmark forces;
 * 2. a shader of the user's that stands in for the built-in versions (user_shader.ts);
 * 3. the fastest version in the adapter's table (tuning.ts) that can serve the problem;
 * 4. the first row that can serve it.
 */
import { GpuError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import type { Choice, Grid } from '../gpu/recorder.ts';
import type { ShaderVariant } from '../gpu/shader.ts';
import type { TexelSlice } from '../gpu/texels.ts';
import type { ParamValues } from '../gpu/uniforms.ts';
import { tunedOrder } from './tuning.ts';
import type { UserShader } from './user_shader.ts';

export interface Version<P> {
  /** Says the idea, not a number. */
  readonly name: string;
  /** How the work is shared out: what it changes of an earlier row. docs/kernels.md shows it. */
  readonly idea: string;
  /** The file of kernels/wgsl, without the ending. */
  readonly shader: string;
  /** Other shader files that it runs. */
  readonly uses?: readonly string[];
  /** It runs several kernels one after the other, so no single shader can stand in for it. */
  readonly composed?: true;
  /** The user's text that takes the place of `shader`. */
  readonly user?: UserShader;
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
  private own: V | null = null;
  private last: V | null = null;
  private problem: P | null = null;
  private why = 'only version';
  /** Dispatches launched so far. */
  launches = 0;

  /** `classOf` names the class of a problem: one version serves all problems of a class. */
  constructor(
    readonly name: string,
    private readonly rows: readonly V[],
    private readonly classOf: (problem: P) => string,
  ) {}

  /** The rows of the table and, behind them, a shader of the user's that is in use. */
  get versions(): readonly V[] {
    return this.own ? [...this.rows, this.own] : this.rows;
  }

  get names(): string[] {
    return this.versions.map(({ name }) => name);
  }

  /** Every shader file that a version of this family runs. */
  get shaders(): string[] {
    return [...new Set(this.versions.flatMap(({ shader, uses = [] }) => [shader, ...uses]))];
  }

  named(name: string): V {
    const found = this.versions.find((version) => version.name === name);
    if (!found) throw new GpuError('internal', this.name, `has no version ${name} (${this.names.join(', ')})`);
    return found;
  }

  /** Makes one version serve every problem, or lets the table decide again (null). */
  force(name: string | null): void {
    this.forced = name === null ? null : this.named(name);
  }

  /** True if this version is forced, or a shader like it. Prepared weights are then made even if they are used only once. */
  isForced(name: string): boolean {
    return this.forced?.name === name || this.forced?.user?.like === name;
  }

  /** The version that is forced, else a shader of the user's that is in use, else null. */
  get bound(): V | null {
    return this.forced ?? this.own;
  }

  /** The version that served the family's last problem. */
  get chosen(): string | undefined {
    return this.last?.name;
  }

  /** Puts a shader of the user's in the place of all rows, or takes it out again (null). It runs as the version that it is `like`. */
  useOwn(own: { like: string; change: Partial<V> } | null): void {
    this.own = own && { ...this.named(own.like), ...own.change };
  }

  choose(gpu: Gpu, problem: P): V {
    this.problem = problem;
    this.last = this.forced ? this.checked(this.forced, gpu, problem) : this.best(gpu, problem);
    if (this.forced) this.why = 'forced';
    return this.last;
  }

  /** The version of the first row, whatever is forced or tuned. */
  chooseFirst(problem: P, why: string): V {
    this.problem = problem;
    [this.last] = this.rows;
    this.why = why;
    return this.last;
  }

  /** Records a dispatch of the version that was chosen last: its shader file, or the user's text in its place. */
  launch(
    gpu: Gpu,
    variant: Omit<ShaderVariant, 'file' | 'source'>,
    slices: readonly (BufferSlice | TexelSlice)[],
    params: ParamValues,
    groups: Grid,
    label: string,
  ): void {
    const { name: family } = this;
    const version = this.last as V;
    const { user, shader: file } = version;
    this.launches++;
    const choice: Choice = { family, version: version.name, shader: file, groups, why: this.why, problem: this.problem };
    if (user) gpu.dispatch(gpu.kernel(user.variant(variant)), slices, params, user.grid(params, groups), label, choice);
    else gpu.dispatch(gpu.kernel({ file, ...variant }), slices, params, groups, label, choice);
  }

  private best(gpu: Gpu, problem: P): V {
    const { own } = this;
    if (own && own.unable(gpu, problem) === null) {
      this.why = 'your shader';
      return own;
    }
    return this.fastest(gpu, problem);
  }

  private checked(version: V, gpu: Gpu, problem: P): V {
    const reason = version.unable(gpu, problem);
    if (reason !== null) throw new VersionNotApplicable(this.name, version.name, reason);
    return version;
  }

  private fastest(gpu: Gpu, problem: P): V {
    // A trace compares each dispatch with its whole problem, so it wants one kernel for one problem.
    const isAble = (version: V) => version.unable(gpu, problem) === null && !(gpu.isTraced && version.composed);
    const name = this.classOf(problem);
    for (const [place, tuned] of tunedOrder(gpu, this.name, name).entries()) {
      const version = this.rows.find((row) => row.name === tuned); // none if the table is older than a renaming
      if (!version || !isAble(version)) continue;
      this.why = place === 0 ? `fastest in the tuning table for ${name}` : `fastest able one in the tuning table for ${name}`;
      return version;
    }
    const first = this.rows.find(isAble);
    this.why = this.rows.length === 1 ? 'only version' : 'first able version; no tuning table has its class';
    if (!first)
      throw new GpuError(
        'limit',
        this.name,
        `no version can serve this problem here (${this.rows.map((v) => `${v.name}: ${v.unable(gpu, problem)}`).join('; ')})`,
      );
    return first;
  }
}

/** For versions that serve every problem everywhere. */
export const always = (): null => null;

/** A kernel that has one version so far. It is a family so that a shader of the user's can take its place. */
export function soleVersion(name: string, idea: string): Family<unknown> {
  return new Family<unknown>(name, [{ name: 'invocation', idea, shader: name, unable: always }], () => 'any');
}

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
