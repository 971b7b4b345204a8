/**
 * An entry of the op table. It holds everything about an op: the shape rule, the launch, the tensors that the gradient needs, and
 * the gradient as a thunk per input. It defines the op in plain f64 loops, which are the lesson and the oracle. It also has the
 * cost, and the cases that every version must pass. Tests, self-test and benchmark walk the table.
 */
import { ShapeError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import type { DType, Tensor } from '../tensor/tensor.ts';

/** A tensor in float64 on the host, for the reference of an op. */
export interface Reference {
  shape: Shape;
  data: Float64Array;
}

/** Why steps and comparisons have no `backward`. A derivative through them is 0. */
export const FLAT = { step: 'a step is flat everywhere', comparison: 'a comparison is flat everywhere' } as const;

/** A float64 tensor on the host, filled by index in row-major order; zeros without `fill`. */
export function reference(shape: Shape, fill?: (index: number) => number): Reference {
  const data = new Float64Array(sizeOf(shape));
  if (fill) for (let i = 0; i < data.length; i++) data[i] = fill(i);
  return { shape: [...shape], data };
}

/** What an op is given to run: its outputs are allocated, not yet written. */
export interface ForwardContext<A> {
  gpu: Gpu;
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  attrs: A;
  /** Op and shapes, for error messages. */
  label: string;
  /** True if a gradient may be asked for later. */
  training: boolean;
  /** Keeps a tensor for the gradient, under a name. The context owns the tensor from then on. */
  save(name: string, tensor: Tensor): void;
}

/** What the gradient of an op is given. */
export interface BackwardContext<A> {
  gpu: Gpu;
  attrs: A;
  label: string;
  inputShapes: readonly Shape[];
  outputShapes: readonly Shape[];
  /** Saved tensors, by the names in `saves` and those given to `save`. */
  saved: Readonly<Record<string, Tensor>>;
  /** The gradient of each output; zeros if the loss does not depend on the output. */
  grads: readonly Tensor[];
  /** Whether the loss depends on each output. */
  flowed: readonly boolean[];
  /** True if the gradient of the first output is the 1 that backward() starts from. */
  unit: boolean;
  /** Whether the gradient of an input is wanted. */
  needs(input: number): boolean;
}

/** Computes the gradient of one input, in the shape of that input. It is called only if that gradient is needed. */
export type Thunk = () => Tensor;

/** How far results may lie from the float64 reference: |difference| ≤ atol + rtol |expected|. */
export interface Tolerance {
  rtol: number;
  atol: number;
  /** Why the default (rtol 1e-5, atol 1e-6) cannot hold. */
  why: string;
}

/** Operands that every version of the kernels is checked on. */
export interface OpCase<A> {
  name: string;
  shapes: readonly Shape[];
  attrs: A;
  /**
   * How to draw each input. The default is `normal`.
   *
   * - `positive` is in (0.5, 2), `unit` in (0, 1), `mask` is 0 or positive.
   * - `distinct`: no two values are closer than 0.01.
   * - `ids:N`: whole numbers below N. `halves`: words of two finite half-precision numbers.
   * - `outliers`: normal, with a few values of ± 30.
   *
   * After a kind, `plus NUMBER` adds the number to all values, and `with NUMBER` replaces one value by it. An example is
   * `normal plus 100000 with -Infinity`.
   */
  draw?: readonly string[];
}

/** What an op costs at the least: floating-point operations, and bytes read and written once each. */
export interface Cost {
  flops: number;
  bytes: number;
}

/** What docs/api.md says of an op. Its errors, kernels and printed numbers are not written here: they come from running it. */
export interface OpDoc {
  /** The outputs as functions of the inputs, by their names. */
  equation: string;
  /** The gradients of the inputs; left out where `backward` says why there is none. */
  gradient?: string;
  /** Shape and meaning of each input and output, by name. */
  tensors: Readonly<Record<string, string>>;
  /** What runs the op, if it is no function of `ops`: a link within the page. */
  runBy?: string;
  /** A call whose outputs are printed. */
  example: string;
  /** Calls that the shape rule refuses; their errors are printed. */
  refused?: readonly string[];
}

/** Everything that is known of an op. `apply` runs it, `checkOp` checks it. */
export interface Op<A = any> {
  name: string;
  /** Needed in the table only. */
  doc?: OpDoc;
  inputs: readonly string[];
  outputs: readonly string[];
  outputTypes?: readonly DType[];
  inputTypes?: readonly DType[];
  /**
   * The inputs that are ids, and below which number each must be. `apply` refuses ids from the host that are not. Ids made on the
   * device are not looked at: one that is too large makes NaN of all that it selects. `masked`: some rows may be left out, whose
   * ids may be anything, so that only the NaN tells.
   */
  ids?: Readonly<Record<string, { below(shapes: readonly Shape[], attrs: A): number; masked?: true }>>;
  /** The output shapes. Throws a ShapeError with the given shapes if they do not fit. */
  shape(shapes: readonly Shape[], attrs: A): Shape[];
  forward(context: ForwardContext<A>): void;
  /** The op only moves 32-bit words. Inputs but ids have the type of the first one, which may be any, and every output has it. */
  anyType?: boolean;
  /** The element of the input's storage where the output begins, if it can share that storage. Null if not; then `forward` runs. */
  view?(shapes: readonly Shape[], attrs: A): number | null;
  /** Names of inputs and outputs that the gradient reads. */
  saves?: readonly string[];
  /** A thunk per input, null if the input has no gradient; or the reason why the op has none. */
  backward: ((context: BackwardContext<A>) => (Thunk | null)[]) | string;
  /** The gradient goes as it is to the elements that were chosen: to a NaN where there is one. None comes of a NaN then. */
  routes?: boolean;
  /** Inputs that never get a gradient. Inputs of whole numbers need not be named. */
  constants?: readonly string[];
  /** How many outputs, counted from the first, may have a gradient (default 1). */
  gradientOutputs?: number;
  reference(inputs: readonly Reference[], attrs: A): Reference[];
  cost(shapes: readonly Shape[], outputs: readonly Shape[], attrs: A): Cost;
  cases: readonly OpCase<A>[];
  /** The kernel family of the op. Each case runs with all its versions. */
  family?: string;
  /** The kernel families of the gradient, if they are others. */
  gradientFamilies?: readonly string[];
  /** Kernel families that it also runs, among others. Its cases check a shader of the user's in their place. */
  runs?: readonly string[];
  tolerance?: Tolerance;
}

export function expectRank(op: string, name: string, shape: Shape, rank: number): void {
  if (shape.length !== rank) throw new ShapeError(`${op}: ${name} [${shape}] has ${shape.length} axes, ${rank} are expected`);
}

/** The cost if every tensor is read or written once and each output element takes `flopsPerOutput` operations. */
export function streamingCost(shapes: readonly Shape[], outputs: readonly Shape[], flopsPerOutput = 1): Cost {
  const words = [...shapes, ...outputs].reduce((sum, shape) => sum + sizeOf(shape), 0);
  return { flops: flopsPerOutput * outputs.reduce((sum, shape) => sum + sizeOf(shape), 0), bytes: 4 * words };
}
