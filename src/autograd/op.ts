/**
 * What the table knows of an op. One entry holds everything: the shape rule, the launch, what the gradient needs, a thunk
 * per input, the definition in plain f64 loops (the lesson and the oracle), its cost, and the cases that every version
 * must pass. Tests, self-test and benchmark walk the table.
 */
import { ShapeError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import type { DType, Tensor } from '../tensor/tensor.ts';

/** A tensor in float64 on the host, for references. */
export interface Reference {
  shape: Shape;
  data: Float64Array;
}

export function reference(shape: Shape, fill?: (index: number) => number): Reference {
  const data = new Float64Array(sizeOf(shape));
  if (fill) for (let i = 0; i < data.length; i++) data[i] = fill(i);
  return { shape: [...shape], data };
}

export interface ForwardContext<A> {
  gpu: Gpu;
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  attrs: A;
  /** Op and shapes, for every error. */
  label: string;
  /** True when a gradient will be wanted. */
  training: boolean;
  /** Keeps a tensor for the gradient, under a name. The context owns it from here. */
  save(name: string, tensor: Tensor): void;
}

export interface BackwardContext<A> {
  gpu: Gpu;
  attrs: A;
  label: string;
  inputShapes: readonly Shape[];
  outputShapes: readonly Shape[];
  /** By the names in `saves`, and those given to `save`. */
  saved: Readonly<Record<string, Tensor>>;
  /** The gradient of each output; zero-filled when nothing flowed into it. */
  grads: readonly Tensor[];
  /** Whether anything flowed into an output's gradient. */
  flowed: readonly boolean[];
  /** True when the gradient is the 1 that backward() starts from. */
  unit: boolean;
  needs(input: number): boolean;
}

export type Thunk = () => Tensor;

export interface Tolerance {
  rtol: number;
  atol: number;
  /** Why the default of 1e-5 and 1e-6 cannot hold. */
  why: string;
}

export interface OpCase<A> {
  name: string;
  shapes: readonly Shape[];
  attrs: A;
  /**
   * How to draw each input (default `normal`): `positive` in (0.5, 2), `unit` in (0, 1), `distinct` (no two closer than
   * 0.01), `ids:N` whole numbers below N, `mask` 0 or positive, `outliers` normal with a few values of ± 30. After a kind,
   * `plus NUMBER` is added to all values, and `with NUMBER` puts one value among them: `normal plus 100000 with -Infinity`.
   */
  draw?: readonly string[];
}

export interface Cost {
  flops: number;
  bytes: number;
}

export interface Op<A = any> {
  name: string;
  inputs: readonly string[];
  outputs: readonly string[];
  outputTypes?: readonly DType[];
  inputTypes?: readonly DType[];
  /** Output shapes; throws a ShapeError that carries the shapes given. */
  shape(shapes: readonly Shape[], attrs: A): Shape[];
  forward(context: ForwardContext<A>): void;
  /** Moves words of any type: every input and output has the type of the first input. */
  anyType?: boolean;
  /** The element of the input's storage from which on the output shares it, or null when it needs its own; then `forward` runs. */
  view?(shapes: readonly Shape[], attrs: A): number | null;
  /** Names of inputs and outputs that the gradient reads. */
  saves?: readonly string[];
  /** A thunk per input (null: none flows there), or the reason why there is no gradient. */
  backward: ((context: BackwardContext<A>) => (Thunk | null)[]) | string;
  /** Inputs that are constants of the op: no gradient flows there. Whole-number inputs need not be named. */
  constants?: readonly string[];
  /** How many of the outputs, from the first, may carry a gradient (default 1). */
  gradientOutputs?: number;
  reference(inputs: readonly Reference[], attrs: A): Reference[];
  cost(shapes: readonly Shape[], outputs: readonly Shape[], attrs: A): Cost;
  cases: readonly OpCase<A>[];
  /** The kernel family whose versions each case runs through. */
  family?: string;
  /** The family of the gradient's kernels, where that is another than the op's own. */
  gradientFamily?: string;
  tolerance?: Tolerance;
}

export function expectRank(op: string, name: string, shape: Shape, rank: number): void {
  if (shape.length !== rank) throw new ShapeError(`${op}: ${name} [${shape}] has ${shape.length} axes, ${rank} are expected`);
}

/** Bytes read and written when every tensor passes once, and `flopsPerOutput` operations each. */
export function streamingCost(shapes: readonly Shape[], outputs: readonly Shape[], flopsPerOutput = 1): Cost {
  const words = [...shapes, ...outputs].reduce((sum, shape) => sum + sizeOf(shape), 0);
  return { flops: flopsPerOutput * outputs.reduce((sum, shape) => sum + sizeOf(shape), 0), bytes: 4 * words };
}
