/** Named parameters of a model: made from initializers or values, in a fixed order, read and written as a whole. */
import { constantOf, variable } from '../autograd/tape.ts';
import { GlimpseError } from '../errors.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import { readTensors, Scope, type Tensor, tensor } from '../tensor/tensor.ts';
import type { Initializer } from './initializers.ts';

/** Values on the host with their shape. */
export interface NamedArray {
  shape: readonly number[];
  data: Float32Array;
}

/** Variables by name, in the order in which they were added. They live until `dispose`. */
export class Parameters {
  private readonly tensors = new Map<string, Tensor>();
  private readonly frozen = new Set<string>();

  /** A variable with these values. Throws a GlimpseError if the name is taken or the values do not fill the shape. */
  add(name: string, shape: Shape, data: Float32Array): Tensor {
    if (this.tensors.has(name)) throw new GlimpseError(`there are two parameters called ${name}`);
    if (data.length !== sizeOf(shape)) throw new GlimpseError(`parameter ${name} [${shape}] got ${data.length} values`);
    const parameter = variable(Scope.release(tensor(data, shape, 'f32', name)));
    this.tensors.set(name, parameter);
    return parameter;
  }

  /** A variable with initial values that depend on the random seed and the name only. */
  init(name: string, shape: Shape, initializer: Initializer, seed: number): Tensor {
    return this.add(name, shape, initializer(shape, seed, name));
  }

  /** The variable of this name; throws a GlimpseError if there is none. */
  get(name: string): Tensor {
    const found = this.tensors.get(name);
    if (!found) throw new GlimpseError(`no parameter is called ${name}`);
    return found;
  }

  /** All by name. */
  get all(): ReadonlyMap<string, Tensor> {
    return this.tensors;
  }

  /** Leaves the parameters of these names as they are: no gradient is computed for them any more. Must come before an optimizer is made. */
  freeze(isFrozen: (name: string) => boolean): void {
    for (const [name, parameter] of this.tensors) {
      if (!isFrozen(name) || this.frozen.has(name)) continue;
      constantOf(parameter);
      this.frozen.add(name);
    }
  }

  /** Those that are not frozen, of the names that are chosen, for an optimizer. */
  trained(isChosen: (name: string) => boolean = () => true): { all: ReadonlyMap<string, Tensor> } {
    return { all: new Map([...this.tensors].filter(([name]) => !this.frozen.has(name) && isChosen(name))) };
  }

  /** Numbers in all variables together. */
  get count(): number {
    let count = 0;
    for (const parameter of this.tensors.values()) count += parameter.size;
    return count;
  }

  /** The values of all, with one wait. */
  async read(): Promise<Map<string, NamedArray>> {
    const names = [...this.tensors.keys()];
    const arrays = await readTensors([...this.tensors.values()]);
    return new Map(names.map((name, i) => [name, { shape: this.get(name).shape, data: arrays[i] as Float32Array }]));
  }

  /** Overwrites every parameter. Throws a GlimpseError if a name is missing or a shape differs. */
  write(values: ReadonlyMap<string, NamedArray>): void {
    for (const [name, parameter] of this.tensors) {
      const value = values.get(name);
      if (!value) throw new GlimpseError(`the weights have no "${name}"`);
      if (value.shape.join() !== parameter.shape.join())
        throw new GlimpseError(`"${name}" is [${value.shape}] in the weights, [${parameter.shape}] in the model`);
      parameter.write(value.data);
    }
  }

  dispose(): void {
    for (const parameter of this.tensors.values()) parameter.dispose();
    this.tensors.clear();
  }
}
