/** Named parameters of a model: made from initializers or values, in a fixed order, read and written as a whole. */
import { variable } from '../autograd/tape.ts';
import { GlimpseError } from '../errors.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import { readTensors, Scope, type Tensor, tensor } from '../tensor/tensor.ts';
import type { Initializer } from './initializers.ts';

export interface NamedArray {
  shape: readonly number[];
  data: Float32Array;
}

export class Parameters {
  private readonly tensors = new Map<string, Tensor>();

  add(name: string, shape: Shape, data: Float32Array): Tensor {
    if (this.tensors.has(name)) throw new GlimpseError(`there are two parameters called ${name}`);
    if (data.length !== sizeOf(shape)) throw new GlimpseError(`parameter ${name} [${shape}] got ${data.length} values`);
    const parameter = variable(Scope.release(tensor(data, shape, 'f32', name)));
    this.tensors.set(name, parameter);
    return parameter;
  }

  init(name: string, shape: Shape, initializer: Initializer, seed: number): Tensor {
    return this.add(name, shape, initializer(shape, seed, name));
  }

  get(name: string): Tensor {
    const found = this.tensors.get(name);
    if (!found) throw new GlimpseError(`no parameter is called ${name}`);
    return found;
  }

  get all(): ReadonlyMap<string, Tensor> {
    return this.tensors;
  }

  get count(): number {
    let count = 0;
    for (const parameter of this.tensors.values()) count += parameter.size;
    return count;
  }

  async read(): Promise<Map<string, NamedArray>> {
    const names = [...this.tensors.keys()];
    const arrays = await readTensors([...this.tensors.values()]);
    return new Map(names.map((name, i) => [name, { shape: this.get(name).shape, data: arrays[i] as Float32Array }]));
  }

  /** Overwrites every parameter; names and shapes must match exactly. */
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
