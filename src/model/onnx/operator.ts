/**
 * What an operator of ONNX is to this importer. One entry says which inputs, outputs and attributes it has, by opset. It also says how
 * the operator is computed: on the host, with the engine's ops on the GPU, or both. Operators are listed in operators/, by subject.
 */
import { GlimpseError } from '../../errors.ts';
import { MAX_RANK, type Shape, sizeOf } from '../../tensor/shape.ts';
import { type Tensor, type TypedArray, tensor } from '../../tensor/tensor.ts';
import { claimOf, MAX_ELEMENTS } from './elements.ts';
import { type AttributeKind, type AttributeValue, type OnnxGraph, type OnnxNode, type OnnxTensor, UnsupportedOnnx } from './proto.ts';
import { type Device, type HostTensor, type HostText, isDevice, isHost, shapeOfValue, typeName, typeOf, type Value } from './values.ts';
import { reasonShown, shown } from './wire.ts';

/** `node "conv1" (Conv)`, as every message names a node. */
export const labelOf = ({ name, op }: OnnxNode): string => `node "${shown(name)}" (${shown(op.startsWith('Fused') ? op.slice('Fused'.length) : op)})`;

/** A name that no value of the graph has. */
export function freshName(graph: OnnxGraph, wish: string): string {
  let name = wish;
  while (graph.names.has(name)) name += "'";
  graph.names.add(name);
  return name;
}

/** An attribute: its kind, and the opsets that know it. A flag is an int that is 0 or 1. */
export interface Attribute {
  kind: AttributeKind | 'flag';
  since: number;
  until: number;
  required: boolean;
}

/** No bound: of opsets, or of the number of inputs. */
export const NEWEST = Number.POSITIVE_INFINITY;
export const attribute = (kind: Attribute['kind'], o: Partial<Attribute> = {}): Attribute => ({ since: 1, until: NEWEST, required: false, ...o, kind });
export const [int, flag, ints, float, text] = (['int', 'flag', 'ints', 'float', 'string'] as const).map((kind) => attribute(kind));
/** Names of buffers that operators before opset 6 could overwrite. It means nothing here. */
export const CONSUMED = { consumed_inputs: attribute('ints', { until: 5 }) };

/** What the checks of a node may ask. */
export interface Check {
  graph: OnnxGraph;
  /** A constant of the file: an initializer, or what a Constant node holds. */
  constant(name: string | undefined): OnnxTensor | undefined;
  fail(reason: string): never;
  unsupported(reason: string): never;
}

/** Fewest and most. */
export type Count = readonly [number, number];

/** A node with its inputs, all of them numbers on the host; null for one that is left out. */
export interface HostCall {
  node: OnnxNode;
  opset: number;
  inputs: readonly (HostTensor | null)[];
  /** Counts steps, such as products, beyond the numbers that are read and made. Throws a GlimpseError for too many. */
  spend?(steps: number): void;
}

/** What is computed on the host. */
export type Made = HostTensor | HostText;

/**
 * What an operator does with pictures whose channels are last: [N, H, W, C] in the place of [N, C, H, W] (passes/layouts.ts).
 * - `windows`: it asks for such pictures, and gives such, where its windows have two axes. Input 0 holds the pictures.
 * - `channels`: input 0 may be such, then output 0 is. `Context.layout` tells it where the channels are.
 * - `first`: input 0 may be such, then all outputs are.
 * - `elementwise`: its inputs repeat to each other, in any order of axes that all of them have.
 * - `axis`: as `first`, along the axis that an attribute names, or along this one. Concat joins pictures; others have one.
 * - `axes`: it reduces the axes that are named.
 * - `pads`: it adds to each axis of input 0 what is said for it.
 * - `shape`: it reads the shape of input 0 only. `Context.layout` tells it how to understand the shape.
 */
export type Layout = 'windows' | 'channels' | 'first' | 'elementwise' | { axis: number } | 'axes' | 'pads' | 'shape';

/** Permutations of axes: of pictures in the file's order to channels last, and from each other order to that of the file. */
export const TO_LAST = [0, 2, 3, 1];
export const TO_FILE = { nhwc: [0, 3, 1, 2], hwio: [3, 2, 0, 1] } as const;

/** The outputs of a node, or its only one. */
export type Results = Value | readonly (Value | null)[];

export interface Operator {
  /** By opset where that matters. */
  inputs: Count | ((opset: number) => Count);
  /** One if it is left out. */
  outputs?: Count;
  attributes: Readonly<Record<string, Attribute>>;
  /** What a node says of itself is held against this before anything is computed. */
  check?(node: OnnxNode, at: Check): void;
  /** What it does with pictures whose channels are last. It takes and gives the file's order if this is left out. */
  layout?: Layout;
  /** Inputs that say where, not what (shapes, axes, a number of elements): whole numbers that are needed on the host. */
  where?: readonly number[];
  /** Other inputs that are needed on the host, of any numbers. */
  read?: readonly number[];
  /** Computes it of numbers on the host. Throws TooLargeForHost before it takes memory beyond the host's bound. */
  host?(call: HostCall): Made | readonly (Made | null)[];
  /** False for inputs that `host` does not take. It takes all if this is left out. */
  hosts?(call: HostCall): boolean;
  /** Computes it with the engine's ops. Throws NotOnDevice, before anything else, for inputs that it does not take. */
  device?(c: Context): Results;
  /**
   * Computes it of any values: texts, sequences, optional values. It stands before `host` and `device`; they are asked where it returns
   * null. It is asked once more if the inputs were read back for the host.
   */
  any?(c: Context): Results | null;
  /** Computes it by running the graphs that the node holds. Inputs named by `where` are on the host. */
  control?(c: Context, run: RunGraph): Reading<Results>;
}

/** A computation that stops where it needs values of tensors on the host: it gives the tensors, and gets their values. */
export type Reading<T> = Generator<readonly Tensor[], T, readonly TypedArray[]>;

/**
 * Runs a graph of the node with these inputs, by position. What it returns is the caller's to dispose. `isDifferentiated`: refuses nodes
 * that would lose a gradient.
 */
export type RunGraph = (graph: OnnxGraph, inputs: readonly Value[], isDifferentiated?: boolean) => Reading<Value[]>;

/** Operators of one subject, by name. */
export type Operators = Readonly<Record<string, Operator>>;

/** Thrown where an operator cannot run on the GPU with these inputs. The host may compute it then. */
export class NotOnDevice extends GlimpseError {}

/** Most elements that a node may make on the host. */
export const MAX_HOST_ELEMENTS = 1 << 20;

/** Thrown for a result that is too large for the host. Floats may go to the GPU. */
export class TooLargeForHost extends GlimpseError {}

/** Throws a GlimpseError: the node at fault is named by who catches it. */
export const fail = (reason: string): never => {
  throw new GlimpseError(reason);
};

/** What of a model its operators need. */
export interface Surroundings {
  path: string;
  training: boolean;
  /** What is computed will be differentiated: a node on the way may not lose the gradient of what it reads. */
  isDifferentiated: boolean;
  budget: Budget;
  /** An initializer on the GPU. */
  weight(name: string): Device | null;
  /** Takes a batch's statistics into the running ones of a BatchNormalization. */
  updateRunning(node: OnnxNode, mean: Tensor, variance: Tensor, n: number): void;
}

/** Most nodes that one run may walk over, those of loops counted each time. */
const MOST_NODES = 1 << 22;

/** Most steps of one run on the host: it takes a minute, not a day, whatever the file holds. */
const MOST_HOST_STEPS = 2 ** 33;

/**
 * What one run may hold and compute, in numbers. Otherwise a small file could ask for any memory and any time: lists that double
 * again and again, wide padding, outer products, endless loops. The bounds follow from what the file and the inputs hold.
 */
export class Budget {
  private live = 0;
  private done = 0;
  private nodes = 0;
  private steps = 0;
  private readonly mostLive: number;
  private readonly mostWork: number;

  /** `held`: the numbers in the file and in the inputs of the run. */
  constructor(held: number) {
    this.mostLive = Math.max(2 ** 26, 1024 * held);
    this.mostWork = Math.max(2 ** 31, 2 ** 20 * held);
  }

  /** Throws a GlimpseError if a value of this shape, each element from so many products, would go beyond the bounds. */
  expect(shape: Shape, taps = 1): void {
    const size = sizeOf(shape);
    if (size === 0 && !(claimOf(shape) <= MAX_ELEMENTS)) fail(`[${shape}] has more than ${MAX_ELEMENTS} elements, its extents of 0 aside`);
    if (!(this.live + size <= this.mostLive))
      throw new GlimpseError(
        `[${shape}] would be ${size} numbers, with ${this.live} there; a file and inputs of this size may hold ${this.mostLive} at a time`,
      );
    if (!(this.done + size * Math.max(1, taps) <= this.mostWork))
      throw new GlimpseError(
        `[${shape}], each of ${taps} products, would be more work than the ${this.mostWork} that a file and inputs of this size may ask for`,
      );
    this.done += size * (taps - 1);
  }

  /**
   * Counts nodes, or turns of a loop, that are about to run and read so many numbers on the host. Throws a GlimpseError for one too
   * many.
   */
  walk(read = 0, nodes = 1): void {
    this.nodes += nodes;
    if (!(this.nodes <= MOST_NODES)) throw new GlimpseError(`more than ${MOST_NODES} nodes were run: a loop does not end`);
    this.spend(read);
  }

  /** Throws a GlimpseError if so many turns of so many nodes would be too many. They are counted as they run. */
  expectTurns(turns: number, nodes: number): void {
    if (!(this.nodes + turns * (1 + nodes) <= MOST_NODES)) fail(`${turns} turns of ${nodes} nodes; at most ${MOST_NODES} nodes may be run`);
  }

  /** Counts steps of work on the host that is about to be done. Throws a GlimpseError for more than the bounds allow. */
  spend(steps: number): void {
    this.done += steps;
    this.steps += steps;
    if (!(this.steps <= MOST_HOST_STEPS))
      throw new GlimpseError(`more than ${MOST_HOST_STEPS} steps on the host: ${steps} at once, or a loop that does not end`);
    if (!(this.done <= this.mostWork))
      throw new GlimpseError(
        `more work than the ${this.mostWork} that a file and inputs of this size may ask for: ${steps} steps at once, or a loop that does not end`,
      );
  }

  made(size: number): void {
    this.live += size;
    this.done += size;
  }

  freed(size: number): void {
    this.live -= size;
  }
}

/** A node in a run, with its inputs. */
export class Context {
  constructor(
    readonly model: Surroundings,
    readonly node: OnnxNode,
    readonly inputs: readonly (Value | null)[],
  ) {}

  get opset(): number {
    return this.node.opset;
  }

  /** The order of the axes of the pictures that the node takes and gives. */
  get layout(): 'nchw' | 'nhwc' {
    return this.node.isChannelsLast ? 'nhwc' : 'nchw';
  }

  unsupported(reason: string): never {
    throw new UnsupportedOnnx(this.model.path, `${labelOf(this.node)}: ${reasonShown(reason)}`);
  }

  has(i: number): boolean {
    return this.inputs[i] != null;
  }

  /** Whether the node names this output. */
  wants(output: number): boolean {
    return (this.node.outputs[output] ?? '') !== '';
  }

  value(i: number): Value {
    return this.inputs[i] ?? this.unsupported(`input ${i} is missing`);
  }

  /** The shape of input i. */
  shape(i: number): readonly number[] {
    return shapeOfValue(this.value(i));
  }

  /** An input that must be whole numbers on the host: a shape, axes, indices. Null if it is left out. It is one of `where`. */
  host(i: number): HostTensor | null {
    const value = this.numbers(i);
    if (value?.kind === 'float') throw new GlimpseError(`${this.what(i)} holds floats, whole numbers are expected`);
    return value;
  }

  /** An input that must be numbers on the host. Null if it is left out. It is one of `where`. */
  numbers(i: number): HostTensor | null {
    const value = this.inputs[i] ?? null;
    if (!value) return null;
    if (isHost(value)) return value;
    return isDevice(value)
      ? this.unsupported(`${this.what(i)} must be a constant, or follow from constants and shapes`)
      : fail(`${this.what(i)} is ${typeName(value)}, numbers are expected`);
  }

  what(i: number): string {
    return `input ${i} ("${shown(this.node.inputs[i] ?? '')}")`;
  }

  /** Input i as floats on the GPU. Throws NotOnDevice for anything else. */
  private device(i: number): Device {
    const value = this.value(i);
    if (!isDevice(value) && !isHost(value)) return fail(`${this.what(i)} is ${typeName(value)}, numbers are expected`);
    const type = typeOf(value);
    if (type.kind === 'int') throw new NotOnDevice(`${this.what(i)} holds ${type.name}; floats are supported`);
    return isDevice(value) ? value : this.uploaded(i, value);
  }

  private uploaded(i: number, value: HostTensor): Device {
    const weight = this.model.weight(this.node.inputs[i]);
    if (weight) return weight;
    if (value.shape.length > MAX_RANK) throw new NotOnDevice(`${this.what(i)} has ${value.shape.length} axes; at most ${MAX_RANK} are supported`);
    const floats = value.data instanceof Float32Array ? value.data : Float32Array.from(value.data);
    const lost = floats === value.data ? -1 : floats.findIndex((each, k) => !Number.isFinite(each) && Number.isFinite(value.data[k]));
    if (lost >= 0) throw new NotOnDevice(`${this.what(i)} holds ${value.data[lost]}, which is beyond float32`);
    return { tensor: tensor(floats, value.shape), type: value.type };
  }

  /** Input i as floats on the GPU. */
  plain(i: number): Tensor {
    return this.device(i).tensor;
  }

  /** Input i as it is on the GPU, floats or truth values, for operators that only move elements. Throws NotOnDevice for others. */
  words(i: number): Device {
    const value = this.value(i);
    if (isDevice(value)) return value;
    if (isHost(value) && typeOf(value).name === 'bool') return { ...this.uploaded(i, value), type: 'bool' };
    return { tensor: this.plain(i), type: (value as HostTensor).type };
  }

  /** Input i as truth values on the GPU: f32 of 0 and 1. Throws NotOnDevice for others. */
  truth(i: number): Tensor {
    const value = this.value(i);
    if ((isDevice(value) || isHost(value)) && typeOf(value).name !== 'bool')
      throw new NotOnDevice(`${this.what(i)} holds ${typeName(value)}, bool is expected`);
    return this.words(i).tensor;
  }

  /** Input i as indices into so many places, u32 on the GPU; negative ones count from the end. Throws a GlimpseError for one outside. */
  indices(i: number, extent: number): Tensor {
    const value = this.value(i);
    if (isDevice(value) && value.tensor.dtype === 'u32') return value.tensor;
    if (!isHost(value)) throw new NotOnDevice(`${this.what(i)} holds ${typeName(value)}, whole numbers are expected`);
    return tensor(Uint32Array.from(indicesOf(value, extent)), value.shape);
  }

  number(name: string, otherwise: number): number {
    return numberOf(this.node, name, otherwise);
  }

  list(name: string): number[] | null {
    return listOf(this.node, name);
  }
}

/** A tensor on the GPU as a value. */
export const plain = (x: Tensor, type?: string): Device => ({ tensor: x, type });

/** An attribute that is a number, or what it is where the node does not say. */
export const numberOf = (node: OnnxNode, name: string, otherwise: number): number => (node.attributes.get(name) as number | undefined) ?? otherwise;

/** An attribute that is a list of numbers; null where the node does not say. */
export function listOf(node: OnnxNode, name: string): number[] | null {
  const value: AttributeValue | undefined = node.attributes.get(name);
  return Array.isArray(value) && value.every((each) => typeof each === 'number') ? (value as number[]) : null;
}

/** An attribute that is a text, or what it is where the node does not say. */
export const wordOf = (node: OnnxNode, name: string, otherwise: string): string => String(node.attributes.get(name) ?? otherwise);

/** Indices from 0; a negative one counts from the end. */
export function indicesOf(indices: HostTensor, extent: number): number[] {
  if (indices.kind !== 'int') fail('indices are whole numbers');
  return Array.from(indices.data, (i) => {
    const at = i < 0 ? i + extent : i;
    return at >= 0 && at < extent ? at : fail(`index ${i} of ${extent} places`);
  });
}
