/**
 * Adam, AdamW and SGD. The constructor moves parameters and gradients into shared buffers ("arenas"). An update is then one
 * dispatch per arena, for any number of parameters. Zeroing and the global norm also work per arena.
 */
import { gradOf, setGradStorage, startGradient } from '../autograd/tape.ts';
import { GlimpseError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { type Accumulation, accumulate, adam, globalNorm, sgd } from '../kernels/optimizer.ts';
import { empty, readTensors, Scope, Tensor } from '../tensor/tensor.ts';
import type { NamedArray, Parameters } from './parameters.ts';

/** The rule of an update and its constants; see `adam` and `sgd` among the ops. `adamw` decouples the decay. */
export interface OptimizerOptions {
  kind: 'adam' | 'adamw' | 'sgd';
  /** Learning rate, positive. */
  rate: number;
  /** Decay of the first moment of Adam (default 0.9). */
  beta1?: number;
  /** Decay of the second moment of Adam (default 0.999). */
  beta2?: number;
  /** ε of Adam (default 1e-8). */
  eps?: number;
  /** Momentum of SGD (default 0). */
  momentum?: number;
  /** Weight decay λ (default 0): λ p is added to the gradient; `adamw` takes rate λ p from the parameter instead. */
  weightDecay?: number;
  /** The global gradient norm is clipped at this; 0 or none clips nothing. */
  maxNorm?: number;
}

interface Arena {
  /** Parameters, gradients, and the first and second moment (SGD has no second). */
  p: BufferSlice;
  g: BufferSlice;
  /** The sum of the gradients of several backward passes, where they are added up; an update then takes it. */
  sum: BufferSlice | null;
  moments: BufferSlice[];
  members: { name: string; parameter: Tensor; offset: number }[];
}

/** First and second moment, by Adam's names; SGD's momentum is a first moment. */
const MOMENTS = ['m', 'v'];

const MAX_ARENA_BYTES = 64 << 20;
const align = (bytes: number) => Math.ceil(bytes / 256) * 256;

/**
 * Updates parameters from their gradients. Call `zeroGrad()`, `backward(loss)` and `step()` for each update.
 * It throws a GlimpseError if the rate is not positive or there are no parameters.
 */
export class Optimizer {
  /** Updates done so far. */
  steps = 0;
  /** The learning rate of the next update. */
  rate: number;
  /** The global gradient norm of the last update, before clipping. */
  readonly norm: Tensor;
  private readonly arenas: Arena[] = [];
  private readonly gpu: Gpu;

  constructor(
    parameters: Pick<Parameters, 'all'>,
    readonly options: OptimizerOptions,
  ) {
    if (!(options.rate > 0)) throw new GlimpseError(`optimizer: the learning rate is ${options.rate}, it must be positive`);
    this.rate = options.rate;
    const members = [...parameters.all];
    if (members.length === 0) throw new GlimpseError('optimizer: there are no parameters');
    this.gpu = members[0][1].gpu;
    this.norm = Scope.release(empty([1], 'f32', 'gradient norm', this.gpu));
    let run: [string, Tensor][] = [];
    let bytes = 0;
    for (const member of members) {
      const size = align(member[1].size * 4);
      if (run.length > 0 && bytes + size > MAX_ARENA_BYTES) {
        this.addArena(run, bytes);
        [run, bytes] = [[], 0];
      }
      run.push(member);
      bytes += size;
    }
    this.addArena(run, bytes);
  }

  private addArena(members: [string, Tensor][], bytes: number): void {
    const slice = (label: string): BufferSlice => {
      const made = { buffer: this.gpu.pool.acquire(bytes, label), offset: 0, bytes };
      this.gpu.clear(made);
      return made;
    };
    const moments = Array.from({ length: this.options.kind === 'sgd' ? 1 : 2 }, (_, i) => slice(`optimizer moment ${MOMENTS[i]}`));
    const arena: Arena = { p: slice('parameters'), g: slice('gradients'), sum: null, moments, members: [] };
    let offset = 0;
    for (const [name, parameter] of members) {
      const own = (of: BufferSlice): BufferSlice => ({ buffer: of.buffer, offset, bytes: parameter.size * 4 });
      parameter.moveTo(own(arena.p));
      this.gpu.pool.retain(arena.g.buffer);
      setGradStorage(parameter, new Tensor(this.gpu, parameter.shape, 'f32', own(arena.g), `gradient of ${name}`));
      arena.members.push({ name, parameter, offset });
      offset += align(parameter.size * 4);
    }
    this.arenas.push(arena);
  }

  /** Sets all gradients to zero, with one clear per arena. */
  zeroGrad(): void {
    for (const { g, members } of this.arenas) {
      for (const { parameter } of members) startGradient(parameter);
      this.gpu.clear(g);
    }
  }

  /** Where the gradients lie, in one range per arena, padding included. */
  get gradients(): readonly BufferSlice[] {
    return this.arenas.map(({ g }) => g);
  }

  /** The gradient of each parameter, within those ranges. */
  get gradientTensors(): readonly Tensor[] {
    return this.arenas.flatMap(({ members }) => members.flatMap(({ parameter }) => gradOf(parameter) ?? []));
  }

  /** Where the sums of gradients lie, which updates take from now on. */
  get sums(): readonly BufferSlice[] {
    return this.arenas.map((arena) => {
      arena.sum ??= { buffer: this.gpu.pool.acquire(arena.g.bytes, 'sums of gradients'), offset: 0, bytes: arena.g.bytes };
      return arena.sum;
    });
  }

  /** Adds the gradients to their sums. Processes that train together get the same bits by adding on the host. */
  accumulate(how: Accumulation): void {
    for (const [i, sum] of this.sums.entries()) accumulate(this.gpu, sum, this.arenas[i].g, sum.bytes / 4, how);
  }

  /** Counts one more update and does it. */
  step(): void {
    this.steps++;
    this.update();
  }

  /**
   * Records the commands of an update without counting it. The global norm goes into `norm`, always, so that it can be logged.
   * Then every parameter is updated. A replay of a capture uses the `rate` and `steps` of the time of the replay.
   */
  update(): void {
    const { kind, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, momentum = 0, weightDecay = 0, maxNorm = 0 } = this.options;
    const rate = () => this.rate;
    globalNorm(
      this.gpu,
      this.arenas.map(({ g, sum }) => ({ slice: sum ?? g, count: g.bytes / 4 })),
      this.norm.slice,
    );
    for (const { p, g: own, sum, moments } of this.arenas) {
      const g = sum ?? own;
      const count = p.bytes / 4;
      if (kind === 'sgd') sgd(this.gpu, p, g, moments[0], this.norm.slice, count, { rate, momentum, weightDecay, maxNorm });
      else
        adam(this.gpu, p, g, moments[0], moments[1], this.norm.slice, count, {
          rate,
          beta1,
          beta2,
          eps,
          weightDecay,
          decoupled: kind === 'adamw',
          maxNorm,
          step: () => this.steps,
        });
    }
  }

  private momentTensors(): { name: string; tensor: Tensor }[] {
    return this.arenas.flatMap(({ moments, members }) =>
      members.flatMap(({ name, parameter, offset }) =>
        moments.map((moment, i) => {
          this.gpu.pool.retain(moment.buffer);
          return {
            name: `${MOMENTS[i]}.${name}`,
            tensor: Scope.release(new Tensor(this.gpu, parameter.shape, 'f32', { buffer: moment.buffer, offset, bytes: parameter.size * 4 }, name)),
          };
        }),
      ),
    );
  }

  /** The moments, by the names `m.NAME` and `v.NAME`, for a checkpoint. */
  async read(): Promise<Map<string, NamedArray>> {
    const moments = this.momentTensors();
    const arrays = await readTensors(moments.map((m) => m.tensor));
    for (const { tensor } of moments) tensor.dispose();
    return new Map(moments.map(({ name, tensor }, i) => [name, { shape: tensor.shape, data: arrays[i] as Float32Array }]));
  }

  /** Overwrites the moments, as `read` gave them, and the number of updates. Throws a GlimpseError if one is missing or misshaped. */
  write(values: ReadonlyMap<string, NamedArray>, steps: number): void {
    for (const { name, tensor } of this.momentTensors()) {
      const value = values.get(name);
      if (!value || value.data.length !== tensor.size) throw new GlimpseError(`the checkpoint has no fitting "${name}"`);
      tensor.write(value.data);
      tensor.dispose();
    }
    this.steps = steps;
  }

  dispose(): void {
    this.norm.dispose();
    for (const { p, g, sum, moments } of this.arenas) for (const { buffer } of [p, g, ...(sum ? [sum] : []), ...moments]) this.gpu.pool.release(buffer);
    this.arenas.length = 0;
  }
}
