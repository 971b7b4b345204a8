/**
 * Loads an ONNX graph and runs it. A graph is checked and rewritten once; its weights then stay on the GPU, and each run walks the
 * nodes (operators.ts).
 */
import * as ops from '../../autograd/ops/index.ts';
import type { ByteSource } from '../../data/bytes.ts';
import { nonFinite, nonFiniteFault } from '../../data/finite.ts';
import { FileError, GlimpseError, messageOf } from '../../errors.ts';
import { Parameters } from '../../nn/parameters.ts';
import { MAX_RANK, sizeOf } from '../../tensor/shape.ts';
import { Scope, scope, Tensor, tensor } from '../../tensor/tensor.ts';
import { foldForInference } from './fold.ts';
import { checkGraph, labelOf } from './operator_forms.ts';
import { Budget, Context, type Device, inFileOrder, isDevice, runNode, SHORT, type Surroundings, type Value } from './operators.ts';
import { type HostTensor, type OnnxGraph, type OnnxNode, type OnnxTensor, readOnnx, UnsupportedOnnx } from './proto.ts';
import { shown } from './wire.ts';

export { UnsupportedOnnx } from './proto.ts';

export interface OnnxOptions {
  /** Initializers to keep as trainable parameters: neither folded nor fused. */
  trainable?: (name: string, shape: readonly number[]) => boolean;
  /** Inputs whose initializer is only a default, and for which every run gives values. */
  given?: readonly string[];
  /** Refuse weights of which one is NaN. In a graph of other people's, a NaN may be meant. */
  refuseNaN?: boolean;
}

/** A loaded model. Its weights are prepared once and stay on the GPU. */
export class OnnxModel {
  /** The trainable parameters, by the name of their initializer. */
  readonly parameters = new Parameters();
  /** Batch normalization uses the batch's statistics and updates the running ones. */
  training = false;
  /** Initializers on the GPU; those that convolutions read as kernels are HWIO. */
  private readonly weights = new Map<string, Device>();
  private readonly constants = new Map<string, HostTensor>();
  /** Numbers in the file and in its weights. */
  private held = 0;

  private constructor(
    readonly graph: OnnxGraph,
    private readonly trainable: (name: string) => boolean,
    /** Constants that hold extents of inputs as the file states them. */
    private readonly stated: ReadonlySet<string>,
    private readonly refuseNaN: boolean,
  ) {}

  /**
   * Reads an ONNX file, and closes it. Before anything is computed, it throws a FileError that names the node at fault, if the graph
   * contradicts itself. That is an UnsupportedOnnx if an operator or an attribute is not supported.
   */
  static load(source: ByteSource, options: OnnxOptions = {}): OnnxModel {
    const { graph, close } = readOnnx(source);
    try {
      for (const name of options.given ?? []) takeAsInput(graph, name);
      checkGraph(graph);
      const trainable = (name: string) => options.trainable?.(name, graph.initializers.get(name)?.shape ?? []) ?? false;
      const model = new OnnxModel(graph, trainable, foldForInference(graph, trainable), options.refuseNaN ?? false);
      try {
        model.loadWeights();
      } catch (error) {
        model.dispose();
        throw error;
      }
      return model;
    } finally {
      close();
    }
  }

  /** Loads every initializer that is read. Convolution weights become HWIO on the GPU; whole numbers stay on the host. */
  private loadWeights(): void {
    const { nodes, outputs, initializers } = this.graph;
    const kernels = new Set(nodes.flatMap(({ op, inputs }) => (op === 'Conv' || op === 'FusedConv' ? [inputs[1]] : [])));
    this.held = this.graph.size / 4;
    for (const name of new Set([...nodes.flatMap(({ inputs }) => inputs), ...outputs])) {
      const initializer = initializers.get(name);
      if (initializer) this.prepare(name, initializer, kernels.has(name));
    }
  }

  private prepare(name: string, initializer: OnnxTensor, isKernel: boolean): void {
    const host = initializer.load();
    this.held += host.data.length;
    if (host.kind === 'int' || host.shape.length > MAX_RANK) {
      this.constants.set(name, host);
      return;
    }
    const data = host.data as Float32Array;
    if (this.refuseNaN && nonFinite(data) && data.some(Number.isNaN))
      throw new FileError(this.graph.path, `the weights "${shown(name)}" cannot be used: ${nonFiniteFault(data)}`);
    const hwio = isKernel && host.shape.length === 4;
    const shape = hwio ? [host.shape[2], host.shape[3], host.shape[1], host.shape[0]] : host.shape;
    const values = hwio ? toHwio(data, host.shape) : data;
    const weight = this.trainable(name) ? this.parameters.add(name, shape, values) : Scope.release(tensor(values, shape, 'f32', name));
    this.weights.set(name, { tensor: weight, order: hwio ? 'hwio' : 'file' });
    if (data.length <= SHORT && !this.trainable(name)) this.constants.set(name, host);
  }

  /** A constant of the file as a tensor, in the file's order of axes; or as convolutions have their weights. */
  weight(name: string, form: 'hwio' | 'plain'): Tensor {
    const found = this.weights.get(name);
    if (!found) throw new UnsupportedOnnx(this.graph.path, `the parameter "${shown(name)}" is no constant of the file`);
    if (form === found.order) return found.tensor;
    const plain = inFileOrder(found);
    return form === 'plain' ? plain : ops.transpose(plain, [2, 3, 1, 0]);
  }

  /** running ← momentum running + (1 − momentum) batch, with the unbiased variance, as in ONNX and PyTorch. */
  updateRunning(node: OnnxNode, mean: Tensor, variance: Tensor, n: number): void {
    const momentum = (node.attributes.get('momentum') as number | undefined) ?? 0.9;
    ops.blendInto(this.weight(node.inputs[3], 'plain'), mean, 1 - momentum, momentum);
    ops.blendInto(this.weight(node.inputs[4], 'plain'), variance, ((1 - momentum) * n) / Math.max(1, n - 1), momentum);
  }

  /** Name of the last feature map: the input of the pooling after the last convolution. With `channelsLast` it is [N, H, W, C]. */
  get featureMapName(): string {
    const { nodes } = this.graph;
    const lastConv = nodes.findLastIndex((node) => node.op === 'Conv' || node.op === 'FusedConv');
    const pool = nodes.slice(lastConv + 1).find((node) => ['GlobalAveragePool', 'AveragePool', 'ReduceMean', 'Flatten', 'Reshape'].includes(node.op));
    if (lastConv < 0 || !pool) throw new FileError(this.graph.path, 'has no convolution followed by pooling: no spatial feature map to take');
    return pool.inputs[0];
  }

  /**
   * Runs the nodes that the wanted values need. Inputs and results have the file's order of axes. With `channelsLast`, results of
   * 4 axes are [N, H, W, C] instead. Whole numbers come as i32. The caller owns the results. Throws a GlimpseError that names the
   * node at fault.
   */
  run(inputs: Readonly<Record<string, Tensor | HostTensor>>, wanted: readonly string[] = this.graph.outputs, channelsLast = false): Tensor[] {
    return this.compute(inputs, wanted, channelsLast).map((value, i) => (value instanceof Tensor ? value : this.uploaded(value, wanted[i])));
  }

  private uploaded({ kind, shape, data }: HostTensor, name: string): Tensor {
    if (kind === 'float') return tensor(data as Float32Array, shape);
    const large = (data as number[]).find((value) => value !== (value | 0));
    if (large !== undefined) throw new GlimpseError(`${this.graph.path}: "${shown(name)}" holds ${large}, which is beyond i32; compute() gives it on the host`);
    return tensor(Int32Array.from(data), shape);
  }

  /** As `run`, but what is computed on the host stays there: whole numbers, which are exact up to 2⁵³, and what follows from constants. */
  compute(
    inputs: Readonly<Record<string, Tensor | HostTensor>>,
    wanted: readonly string[] = this.graph.outputs,
    channelsLast = false,
  ): (Tensor | HostTensor)[] {
    using running = scope();
    const needed = this.nodesFor(wanted);
    const values = this.inputsOf(inputs, wanted, needed);
    let given = this.held;
    for (const value of values.values()) given += isDevice(value) ? value.tensor.size : value.data.length;
    const { graph } = this;
    const surroundings: Surroundings = {
      ...{ path: graph.path, opset: graph.opset, training: this.training, budget: new Budget(given) },
      weight: (name) => this.weights.get(name) ?? null,
      updateRunning: (...args) => this.updateRunning(...args),
    };
    const remaining = new Map<string, number>();
    for (const node of needed) for (const input of node.inputs) remaining.set(input, (remaining.get(input) ?? 0) + 1);
    for (const name of wanted) remaining.set(name, Number.POSITIVE_INFINITY);
    for (const node of needed) {
      using step = scope();
      const c = new Context(
        surroundings,
        node,
        node.inputs.map((name) => (name === '' ? null : (values.get(name) ?? this.constantOf(name)))),
      );
      let result: Value;
      try {
        result = runNode(c);
        if (isDevice(result)) step.keep(result.tensor);
        surroundings.budget.made(sizeOfValue(result));
      } catch (error) {
        if (error instanceof UnsupportedOnnx) throw error;
        throw new GlimpseError(`${graph.path}: ${labelOf(node)}: ${messageOf(error)}`);
      }
      values.set(node.outputs[0], result);
      for (const name of node.inputs) {
        const left = (remaining.get(name) ?? 0) - 1;
        remaining.set(name, left);
        const value = values.get(name);
        if (left > 0 || !value || Object.hasOwn(inputs, name)) continue;
        // A gradient may need it.
        if (isDevice(value) && value.tensor.attachment) continue;
        if (isDevice(value)) value.tensor.dispose();
        surroundings.budget.freed(sizeOfValue(value));
        values.delete(name);
      }
    }
    return wanted.map((name) => {
      const found = values.get(name) ?? this.constantOf(name);
      const isPicture = channelsLast && !isDevice(found) && found.kind === 'float' && found.shape.length === 4;
      const value: Value = isPicture ? { tensor: this.uploaded(found, name), order: 'file' } : found;
      if (!isDevice(value)) return value;
      const { tensor, order } = value;
      if (order === 'nhwc' && channelsLast) return running.keep(ops.reshape(tensor, tensor.shape));
      const out = inFileOrder(value);
      if (channelsLast && out.rank === 4) return running.keep(ops.transpose(out, [0, 2, 3, 1]));
      return running.keep(out === tensor ? ops.reshape(out, out.shape) : out);
    });
  }

  /** What the caller gives, checked against what the file declares. */
  private inputsOf(inputs: Readonly<Record<string, Tensor | HostTensor>>, wanted: readonly string[], needed: readonly OnnxNode[]): Map<string, Value> {
    const { path, outputs, defaults } = this.graph;
    const values = new Map<string, Value>();
    // Convolutions take pictures of any size, so a feature map does too. The layers after the map do not.
    const anySize = !wanted.some((name) => outputs.includes(name));
    const fail = (name: string, problem: string): never => {
      throw new GlimpseError(`${path}: input "${shown(name)}" ${problem}`);
    };
    for (const { name, shape, kind } of this.graph.inputs) {
      const value = Object.hasOwn(inputs, name) ? inputs[name] : fail(name, `[${shape}] was not given`);
      const fits = value.shape.length === shape.length && shape.every((extent, i) => extent < 0 || i === 0 || (anySize && i >= 2) || extent === value.shape[i]);
      if (shape.length > 0 && !fits) fail(name, `expects [${shape}], got [${value.shape}]`);
      const isResized = shape.some((extent, i) => i > 0 && extent >= 0 && extent !== value.shape[i]);
      const bound = isResized ? needed.find((node) => node.inputs.some((each) => this.stated.has(each))) : undefined;
      if (bound) fail(name, `is [${value.shape}], but ${labelOf(bound)} is bound to the [${shape}] that the file states`);
      const given = value instanceof Tensor ? (value.dtype === 'f32' ? 'float' : value.dtype) : value.kind;
      if (given !== kind)
        fail(
          name,
          kind === 'int' ? `is of whole numbers, which are given on the host ({ kind: 'int', shape, data }), got ${given}` : `is of floats, got ${given}`,
        );
      if (!(value instanceof Tensor) && sizeOf(value.shape) !== value.data.length) fail(name, `[${value.shape}] has ${value.data.length} values`);
      values.set(name, value instanceof Tensor ? { tensor: value, order: 'file' } : value);
    }
    const unknown = Object.keys(inputs).find((name) => !values.has(name));
    if (unknown === undefined) return values;
    const isDefault = defaults.some(({ name }) => name === unknown);
    return fail(unknown, isDefault ? 'has an initializer; to give it other values, name it under `given` when the model is loaded' : 'is none of the model');
  }

  private constantOf(name: string): Value {
    const found = this.constants.get(name) ?? this.weights.get(name);
    if (!found) throw new GlimpseError(`${this.graph.path}: no node makes "${shown(name)}"`);
    return found;
  }

  private nodesFor(wanted: readonly string[]): OnnxNode[] {
    const need = new Set(wanted);
    const chosen: OnnxNode[] = [];
    for (let i = this.graph.nodes.length - 1; i >= 0; i--) {
      const node = this.graph.nodes[i];
      if (!node.outputs.some((output) => need.has(output))) continue;
      for (const input of node.inputs) need.add(input);
      chosen.push(node);
    }
    return chosen.reverse();
  }

  dispose(): void {
    for (const { tensor } of this.weights.values()) tensor.dispose();
    this.weights.clear();
  }
}

const sizeOfValue = (value: Value): number => (isDevice(value) ? value.tensor.size : value.data.length);

/** Makes an input of a run out of one that has an initializer. */
function takeAsInput(graph: OnnxGraph, name: string): void {
  const input = graph.defaults.find((each) => each.name === name);
  if (!input) throw new FileError(graph.path, `has no input "${shown(name)}" with an initializer`);
  graph.defaults = graph.defaults.filter((each) => each !== input);
  graph.inputs.push(input);
  graph.initializers.delete(name);
}

/** Output and input channels that `toHwio` reorders at a time. */
const BLOCK = 32;

function toHwio(data: Float32Array, [o, i, h, w]: readonly number[]): Float32Array {
  const out = new Float32Array(data.length);
  const taps = h * w;
  // It goes block by block, so that rows of one array stay in the cache while columns of the other are read.
  for (let k0 = 0; k0 < o; k0 += BLOCK)
    for (let c0 = 0; c0 < i; c0 += BLOCK)
      for (let k = k0; k < Math.min(o, k0 + BLOCK); k++)
        for (let c = c0; c < Math.min(i, c0 + BLOCK); c++) {
          const from = (k * i + c) * taps;
          for (let tap = 0; tap < taps; tap++) out[(tap * i + c) * o + k] = data[from + tap];
        }
  return out;
}
