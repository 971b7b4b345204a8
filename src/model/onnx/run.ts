/**
 * Loads an ONNX graph and runs it. A graph is checked and rewritten once; its weights then stay on the GPU, and each run walks the
 * nodes (operators.ts).
 */
import * as ops from '../../autograd/ops/index.ts';
import { isTracked, noGrad } from '../../autograd/tape.ts';
import type { ByteSource } from '../../data/bytes.ts';
import { nonFinite, nonFiniteFault } from '../../data/finite.ts';
import { FileError, GlimpseError, messageOf } from '../../errors.ts';
import { currentGpu } from '../../gpu/gpu.ts';
import { Parameters } from '../../nn/parameters.ts';
import { MAX_RANK, sizeOf } from '../../tensor/shape.ts';
import { readTensors, Scope, scope, scoped, Tensor, type TypedArray, tensor } from '../../tensor/tensor.ts';
import { claimOf, MAX_ELEMENTS } from './elements.ts';
import { inlineFunctions } from './functions.ts';
import { takeGradients } from './gradients.ts';
import { checkGraph } from './graph_check.ts';
import { transposed } from './host.ts';
import { Budget, Context, labelOf, NotOnDevice, type Reading, type Results, type Surroundings, TO_FILE, TO_LAST, TooLargeForHost } from './operator.ts';
import { OPERATORS, runOnHost, runsOnHost } from './operators/index.ts';
import { rewriteForInference } from './passes/index.ts';
import { type AxisOrder, allNodes, type OnnxGraph, type OnnxNode, type OnnxTensor, readOnnx, UnsupportedOnnx } from './proto.ts';
import { capturedBy, graphsOf, readsOf } from './subgraphs.ts';
import {
  checkExtents,
  type Device,
  drop,
  type HostTensor,
  type HostText,
  isDevice,
  isHost,
  type Optional,
  onHost,
  type Sequence,
  SHORT,
  shapeOfValue,
  shared,
  sizeOfValue,
  tensorsOf,
  typeName,
  typeOf,
  type Value,
} from './values.ts';
import { reasonShown, shown } from './wire.ts';

export { UnsupportedOnnx } from './proto.ts';

export interface OnnxOptions {
  /** Initializers to keep as trainable parameters: neither folded nor fused. */
  trainable?: (name: string, shape: readonly number[]) => boolean;
  /** Inputs whose initializer is only a default, and for which every run gives values. */
  given?: readonly string[];
  /** Passes that are left out, by their names (passes/index.ts): to compare. */
  without?: readonly string[];
  /** Refuse weights of which one is NaN. In a graph of other people's, a NaN may be meant. */
  refuseNaN?: boolean;
}

/** What a run is given, and what it gives: tensors of floats on the GPU; other values as they are. */
export type Given = Tensor | HostTensor | HostText | Sequence | Optional;

/** Values by name while a graph runs, within the graphs around it. */
class Frame {
  readonly values = new Map<string, Value>();
  /** How often each value will be read. */
  readonly remaining = new Map<string, number>();

  constructor(
    readonly outer: Frame | null,
    /** Constants of the graph itself, where it is within a node. */
    private readonly constants?: ReadonlyMap<string, Value>,
  ) {}

  find(name: string): Value | undefined {
    return this.values.get(name) ?? this.constants?.get(name) ?? this.outer?.find(name);
  }
}

/** An error that says which node is at fault. */
class NodeError extends GlimpseError {}

/** A loaded model. Its weights are prepared once and stay on the GPU. */
export class OnnxModel {
  /** The trainable parameters, by the name of their initializer. */
  readonly parameters = new Parameters();
  /** Called after each node with its results: to look at shapes, at sizes, at what runs. */
  watch: ((node: OnnxNode, results: readonly (Value | null)[]) => void) | null = null;
  /** Batch normalization uses the batch's statistics and updates the running ones. */
  training = false;
  /** Initializers on the GPU; those that convolutions read as kernels are HWIO. */
  private readonly weights = new Map<string, Device>();
  private readonly constants = new Map<string, HostTensor | HostText>();
  /** Constants of the graphs within nodes. */
  private readonly inner = new Map<OnnxGraph, ReadonlyMap<string, Value>>();
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
      inlineFunctions(graph);
      takeGradients(graph);
      checkGraph(graph);
      const trainable = (name: string) => options.trainable?.(name, graph.initializers.get(name)?.shape ?? []) ?? false;
      const model = new OnnxModel(graph, trainable, rewriteForInference(graph, trainable, options.without ?? [], bindingLimit()), options.refuseNaN ?? false);
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
    const { nodes, initializers, orders } = this.graph;
    this.held = this.graph.size / 4;
    for (const name of readsOf(this.graph)) {
      const initializer = initializers.get(name);
      if (initializer) this.prepare(name, initializer, orders.get(name) === 'hwio');
    }
    for (const node of allNodes(nodes)) for (const inner of graphsOf(node)) this.inner.set(inner, this.constantsWithin(inner));
  }

  /** Loads the constants of a graph within a node. Long lists of floats go to the GPU. */
  private constantsWithin(graph: OnnxGraph): ReadonlyMap<string, Value> {
    const constants = new Map<string, Value>();
    for (const [name, initializer] of graph.initializers) {
      const value = initializer.texts?.() ?? this.loaded(name, initializer);
      if (value.kind === 'text' || staysOnHost(value)) constants.set(name, value);
      else constants.set(name, { tensor: Scope.release(tensor(this.float32(name, value), value.shape, 'f32', name)), type: value.type });
    }
    return constants;
  }

  private loaded(name: string, initializer: OnnxTensor): HostTensor {
    const host = initializer.load();
    if (!(claimOf(host.shape) <= MAX_ELEMENTS))
      // a constant that nodes made
      throw new FileError(this.graph.path, `"${shown(name)}" [${host.shape}] has more than ${MAX_ELEMENTS} elements, its extents of 0 aside`);
    this.held += host.data.length;
    if (this.refuseNaN && host.data instanceof Float32Array && nonFinite(host.data) && host.data.some(Number.isNaN))
      throw new FileError(this.graph.path, `the weights "${shown(name)}" cannot be used: ${nonFiniteFault(host.data)}`);
    return host;
  }

  /** Weights as the GPU holds them. Throws a FileError for a number that is beyond float32. */
  private float32(name: string, host: HostTensor): Float32Array {
    const data = host.data instanceof Float32Array ? host.data : Float32Array.from(host.data);
    const lost = data === host.data ? -1 : data.findIndex((value, i) => !Number.isFinite(value) && Number.isFinite(host.data[i]));
    if (lost >= 0) throw new FileError(this.graph.path, `the weights "${shown(name)}" hold ${host.data[lost]}, which is beyond float32`);
    return data;
  }

  private prepare(name: string, initializer: OnnxTensor, isKernel: boolean): void {
    if (initializer.texts) {
      this.constants.set(name, initializer.texts());
      return;
    }
    const given = this.loaded(name, initializer);
    const host = isKernel ? toHwio(given) : given;
    if (staysOnHost(host) && (host.kind === 'int' || !this.trainable(name))) this.constants.set(name, host);
    if (host.kind === 'int' || host.shape.length > MAX_RANK || 4 * host.data.length > bindingLimit()) return;
    if (host.data instanceof Float64Array && this.constants.has(name)) return;
    const data = this.float32(name, host);
    const weight = this.trainable(name) ? this.parameters.add(name, host.shape, data) : Scope.release(tensor(data, host.shape, 'f32', name));
    this.weights.set(name, { tensor: weight, type: host.type });
  }

  /** A constant of the file as a tensor. Weights of convolutions are HWIO. */
  weight(name: string): Tensor {
    const found = this.weights.get(name);
    if (!found) throw new UnsupportedOnnx(this.graph.path, `the parameter "${shown(name)}" is no constant of the file`);
    return found.tensor;
  }

  /** running ← momentum running + (1 − momentum) batch, with the unbiased variance, as in ONNX and PyTorch. */
  updateRunning(node: OnnxNode, mean: Tensor, variance: Tensor, n: number): void {
    const momentum = (node.attributes.get('momentum') as number | undefined) ?? 0.9;
    ops.blendInto(this.weight(node.inputs[3]), mean, 1 - momentum, momentum);
    ops.blendInto(this.weight(node.inputs[4]), variance, ((1 - momentum) * n) / Math.max(1, n - 1), momentum);
  }

  /** Name of the last feature map: the input of the pooling after the last convolution. With `channelsLast` it is [N, H, W, C]. */
  get featureMapName(): string {
    const { nodes } = this.graph;
    const lastConv = nodes.findLastIndex((node) => node.op === 'Conv' || node.op === 'FusedConv');
    const pool = nodes.slice(lastConv + 1).find((node) => ['GlobalAveragePool', 'AveragePool', 'ReduceMean', 'Flatten', 'Reshape'].includes(node.op));
    if (lastConv < 0 || !pool) throw new FileError(this.graph.path, 'has no convolution followed by pooling: no spatial feature map to take');
    return this.graph.turned.get(pool.inputs[0]) ?? pool.inputs[0];
  }

  /**
   * Runs the nodes that the wanted values need. Inputs and results have the file's order of axes. With `channelsLast`, results of
   * 4 axes are [N, H, W, C] instead. Whole numbers come as i32. The caller owns the results. Throws a GlimpseError that names the
   * node at fault, also where a node needs values of the GPU on the host: `computeAsync` waits for them.
   */
  run(inputs: Readonly<Record<string, Given>>, wanted: readonly string[] = this.graph.outputs, channelsLast = false): Tensor[] {
    return this.compute(inputs, wanted, channelsLast).map((value, i) => (value instanceof Tensor ? value : this.uploaded(value, wanted[i])));
  }

  private uploaded(value: Exclude<Given, Tensor>, name: string): Tensor {
    if (!isHost(value)) throw new GlimpseError(`${this.graph.path}: "${shown(name)}" is ${typeName(value)}; compute() gives it`);
    const { kind, shape, data } = value;
    if (kind === 'float') return tensor(data instanceof Float32Array ? data : Float32Array.from(data), shape);
    const large = Array.from(data).find((each) => each !== (each | 0));
    if (large !== undefined) throw new GlimpseError(`${this.graph.path}: "${shown(name)}" holds ${large}, which is beyond i32; compute() gives it on the host`);
    return tensor(Int32Array.from(data), shape);
  }

  /** As `run`, but what is computed on the host stays there: whole numbers, which are exact up to 2⁵³, and what follows from constants. */
  compute(inputs: Readonly<Record<string, Given>>, wanted: readonly string[] = this.graph.outputs, channelsLast = false): Given[] {
    const running = this.computing(inputs, wanted, channelsLast, false);
    for (;;) {
      const step = running.next([]);
      if (step.done) return step.value;
    }
  }

  /** As `compute`, but it waits where a node needs values of the GPU on the host. Whole numbers and truth values come on the host. */
  async computeAsync(inputs: Readonly<Record<string, Given>>, wanted: readonly string[] = this.graph.outputs, channelsLast = false): Promise<Given[]> {
    return scoped(async (own) => {
      const running = this.computing(inputs, wanted, channelsLast, true);
      let step = running.next([]);
      while (!step.done) {
        let values: TypedArray[];
        try {
          values = await readTensors(step.value);
        } catch (error) {
          step = running.throw(error);
          continue;
        }
        step = running.next(values);
      }
      for (const value of step.value) for (const each of value instanceof Tensor ? [value] : tensorsOf(value)) own.keep(each);
      return step.value;
    });
  }

  private *computing(inputs: Readonly<Record<string, Given>>, wanted: readonly string[], channelsLast: boolean, canRead: boolean): Reading<Given[]> {
    using running = scope();
    const needed = nodesFor(this.graph.nodes, wanted);
    const frame = new Frame(null);
    for (const [name, value] of this.inputsOf(inputs, wanted, needed)) frame.values.set(name, value);
    let given = this.held;
    for (const value of frame.values.values()) {
      checkExtents(value);
      given += sizeOfValue(value);
    }
    const { graph } = this;
    const surroundings: Surroundings = {
      ...{ path: graph.path, training: this.training, isDifferentiated: false, budget: new Budget(given) },
      weight: (name) => this.weights.get(name) ?? null,
      updateRunning: (...args) => this.updateRunning(...args),
    };
    yield* this.walk(needed, wanted, frame, surroundings, canRead, new Set(Object.keys(inputs)));
    const results: Given[] = [];
    for (const name of wanted) {
      const found = frame.find(name) ?? this.constantOf(name);
      const isPicture = channelsLast && isHost(found) && found.kind === 'float' && found.shape.length === 4;
      const value: Value = isPicture ? { tensor: this.uploaded(found, name) } : found;
      const order = this.graph.orders.get(name);
      if (!isDevice(value)) {
        for (const each of tensorsOf(value)) running.keep(each);
        const isTensor = isHost(value) || value.kind === 'text';
        results.push(order && isTensor ? transposed(value, TO_FILE[order]) : value);
        continue;
      }
      const { tensor } = value;
      if (canRead && typeOf(value).kind === 'int') {
        const out = order ? ops.transpose(tensor, TO_FILE[order]) : tensor;
        const [values] = yield [out];
        results.push(onHost(value, values, out.shape));
        continue;
      }
      const asked: AxisOrder | undefined = channelsLast && tensor.rank === 4 ? 'nhwc' : undefined;
      let out = ops.reshape(tensor, tensor.shape);
      if (order && order !== asked) out = ops.transpose(out, TO_FILE[order]);
      if (asked && order !== asked) out = ops.transpose(out, TO_LAST);
      results.push(running.keep(out));
    }
    return results;
  }

  /** Runs nodes in order. Values that nobody reads any more are disposed on the way, but for those in `lasting`. */
  private *walk(
    nodes: readonly OnnxNode[],
    wanted: readonly string[],
    frame: Frame,
    model: Surroundings,
    canRead: boolean,
    lasting: ReadonlySet<string>,
  ): Reading<void> {
    const reads = nodes.map((node) => [...node.inputs, ...capturedBy(node)]);
    const { remaining, values } = frame;
    for (const names of reads) for (const name of names) remaining.set(name, (remaining.get(name) ?? 0) + 1);
    for (const name of wanted) remaining.set(name, Number.POSITIVE_INFINITY);
    for (const [i, node] of nodes.entries()) {
      let results: readonly (Value | null)[];
      try {
        let held = STEPS_A_NAME * (reads[i].length + node.outputs.length);
        for (const name of node.inputs) {
          const value = name === '' ? undefined : frame.find(name);
          if (value && !isDevice(value)) held += value.kind === 'sequence' ? value.elements.length : sizeOfValue(value);
        }
        model.budget.walk(held);
        results = yield* this.runNode(node, frame, model, canRead);
        if (model.isDifferentiated) {
          const given = reads[i].map((name) => frame.find(name));
          results = this.withGradients(node, given, results);
        }
        this.watch?.(node, results);
        for (const [k, value] of results.entries()) if (value && !node.outputs[k]) drop(value); // nobody reads it
        for (const [k, name] of node.outputs.entries()) {
          if (name === '') continue;
          const value = results[k];
          if (!value) throw new GlimpseError(`output ${k} ("${shown(name)}") is not computed`);
          checkExtents(value);
          model.budget.made(sizeOfValue(value));
          values.set(name, value);
        }
      } catch (error) {
        if (error instanceof UnsupportedOnnx || error instanceof NodeError || !(error instanceof GlimpseError || error instanceof RangeError)) throw error;
        throw new NodeError(`${this.graph.path}: ${labelOf(node)}: ${reasonShown(messageOf(error))}`);
      }
      for (const name of reads[i]) {
        const left = (remaining.get(name) ?? 0) - 1;
        remaining.set(name, left);
        const value = values.get(name);
        if (left > 0 || !value || lasting.has(name)) continue;
        const tensors = tensorsOf(value);
        if (tensors.some(({ attachment }) => attachment)) continue; // a gradient may need it
        for (const each of tensors) each.dispose();
        model.budget.freed(sizeOfValue(value));
        values.delete(name);
      }
    }
  }

  /** What a node made of these values, on its way to be differentiated. It is refused if it has lost their gradient. */
  private withGradients(node: OnnxNode, given: readonly (Value | undefined)[], results: readonly (Value | null)[]): readonly (Value | null)[] {
    if (!given.some((value) => value && hasGradient(value))) return results;
    return results.map((value, i) => {
      if (!value) return value;
      // Whole numbers do not change where floats change a little: what comes of them is a constant.
      if (!isDifferentiable(value)) return hasGradient(value) ? noGrad(() => shared(value)) : value;
      // A node that runs graphs loses none: the nodes of these were looked at on their own.
      if (hasGradient(value) || OPERATORS[node.op].control || CHOOSING.includes(node.op) || sizeOfValue(value) === 0) return value;
      throw new UnsupportedOnnx(this.graph.path, `${labelOf(node)}: no gradient of its output ${i} ("${shown(node.outputs[i])}") is computed for these inputs`);
    });
  }

  private *runNode(node: OnnxNode, frame: Frame, model: Surroundings, canRead: boolean): Reading<readonly (Value | null)[]> {
    const operator = OPERATORS[node.op];
    const inputs = node.inputs.map((name) => (name === '' ? null : (frame.find(name) ?? this.constantOf(name))));
    /** Gets inputs to the host. */
    const read = function* (chosen: readonly number[]): Reading<void> {
      const devices = chosen.filter((i) => inputs[i] && isDevice(inputs[i]));
      if (devices.length === 0) return;
      if (!canRead)
        throw new UnsupportedOnnx(
          model.path,
          `${labelOf(node)}: input ${devices[0]} ("${shown(node.inputs[devices[0]])}") is needed on the host, but the GPU computes it`,
        );
      using step = scope();
      const found = yield devices.map((i) => (inputs[i] as Device).tensor);
      devices.forEach((i, k) => {
        const value = inputs[i] as Device;
        inputs[i] = onHost(value, found[k], shapeOfValue(value));
      });
      step[Symbol.dispose]();
    };
    const all = inputs.map((_, i) => i);
    const spend = (steps: number): void => model.budget.spend(steps);
    const early = [...(operator.where ?? []), ...(operator.read ?? [])];
    const lost = model.isDifferentiated ? early.find((i) => inputs[i] && isDifferentiable(inputs[i]) && hasGradient(inputs[i])) : undefined;
    if (lost !== undefined)
      throw new UnsupportedOnnx(model.path, `${labelOf(node)}: no gradient for its input ${lost} ("${shown(node.inputs[lost])}"), which is read on the host`);
    yield* read(early);
    const c = new Context(model, node, inputs);
    const asAny = () => {
      if (!operator.any) return null;
      let isDone = false;
      try {
        const results = stepped(() => {
          const found = operator.any?.(c) ?? null;
          isDone = found !== null;
          return found ?? [];
        });
        return isDone ? results : null;
      } catch (error) {
        if (error instanceof NotOnDevice) throw new UnsupportedOnnx(model.path, `${labelOf(node)}: ${messageOf(error)}`);
        throw error;
      }
    };
    if (operator.control)
      return listed(
        yield* operator.control(c, (graph, given, isDifferentiated) =>
          this.within(graph, given, frame, isDifferentiated ? { ...model, isDifferentiated, updateRunning: () => {} } : model, canRead),
        ),
      );
    const found = asAny();
    if (found) return found;
    if (inputs.every(staysOnHost)) {
      const call = { node, opset: node.opset, inputs: inputs as (HostTensor | null)[], spend };
      if (runsOnHost(call)) {
        try {
          return runOnHost(call);
        } catch (error) {
          if (!(error instanceof TooLargeForHost) || !operator.device) throw error;
        }
      }
    }
    let reason: string | null = null;
    if (operator.device) {
      try {
        return stepped(() => operator.device?.(c) ?? []);
      } catch (error) {
        if (!(error instanceof NotOnDevice)) throw error;
        reason = messageOf(error);
      }
    }
    reason ??= `${node.op} of ${inputs.map((value) => (value ? typeName(value) : 'nothing')).join(', ')} is not supported`;
    const isLost = !canRead && inputs.some((value) => value && isDevice(value));
    const isOdd = inputs.some((value) => value && !isDevice(value) && !isHost(value));
    if (!operator.host || isLost || (isOdd && !operator.any)) throw new UnsupportedOnnx(model.path, `${labelOf(node)}: ${reasonShown(reason)}`);
    yield* read(all);
    const late = asAny();
    if (late) return late;
    if (isOdd) throw new UnsupportedOnnx(model.path, `${labelOf(node)}: ${reasonShown(reason)}`);
    const call = { node, opset: node.opset, inputs: inputs as (HostTensor | null)[], spend };
    if (!runsOnHost(call)) throw new UnsupportedOnnx(model.path, `${labelOf(node)}: ${reasonShown(reason)}`);
    return runOnHost(call);
  }

  /** Runs a graph that a node holds. Its results are tensors of their own. */
  private *within(graph: OnnxGraph, given: readonly Value[], outer: Frame, model: Surroundings, canRead: boolean): Reading<Value[]> {
    const frame = new Frame(outer, this.inner.get(graph));
    if (given.length !== graph.inputs.length)
      throw new GlimpseError(
        `its graph has ${graph.inputs.length} inputs (${graph.inputs.map(({ name }) => shown(name)).join(', ')}), but gets ${given.length}`,
      );
    model.budget.spend(STEPS_A_NAME * (graph.inputs.length + graph.outputs.length));
    for (const [i, { name }] of graph.inputs.entries()) {
      frame.values.set(name, shared(given[i]));
      model.budget.made(sizeOfValue(given[i]));
    }
    yield* this.walk(graph.nodes, graph.outputs, frame, model, canRead, new Set());
    const results = graph.outputs.map((name) => shared(frame.find(name) ?? this.constantOf(name)));
    for (const value of frame.values.values()) {
      drop(value);
      model.budget.freed(sizeOfValue(value));
    }
    return results;
  }

  /** What the caller gives, checked against what the file declares. */
  private inputsOf(inputs: Readonly<Record<string, Given>>, wanted: readonly string[], needed: readonly OnnxNode[]): Map<string, Value> {
    const { path, outputs, defaults } = this.graph;
    const values = new Map<string, Value>();
    // Convolutions take pictures of any size, so a feature map does too. The layers after the map do not.
    const anySize = !wanted.some((name) => outputs.includes(name));
    const fail = (name: string, problem: string): never => {
      throw new GlimpseError(`${path}: input "${shown(name)}" ${problem}`);
    };
    for (const { name, shape, kind, type } of this.graph.inputs) {
      const value = Object.hasOwn(inputs, name) ? inputs[name] : fail(name, `[${shape}] was not given`);
      const given = value instanceof Tensor ? (value.dtype === 'f32' ? 'float' : value.dtype) : value.kind;
      if (given !== kind)
        fail(
          name,
          kind === 'int' ? `is of whole numbers, which are given on the host ({ kind: 'int', shape, data }), got ${given}` : `is of ${kind}s, got ${given}`,
        );
      if (!(value instanceof Tensor) && (value.kind === 'sequence' || value.kind === 'optional')) {
        values.set(name, value);
        continue;
      }
      const fits = value.shape.length === shape.length && shape.every((extent, i) => extent < 0 || i === 0 || (anySize && i >= 2) || extent === value.shape[i]);
      if (shape.length > 0 && !fits) fail(name, `expects [${shape}], got [${value.shape}]`);
      const isResized = shape.some((extent, i) => i > 0 && extent >= 0 && extent !== value.shape[i]);
      const bound = isResized ? needed.find((node) => node.inputs.some((each) => this.stated.has(each))) : undefined;
      if (bound) fail(name, `is [${value.shape}], but ${labelOf(bound)} is bound to the [${shape}] that the file states`);
      if (value instanceof Tensor) {
        values.set(name, { tensor: value, type });
        continue;
      }
      if (sizeOf(value.shape) !== value.data.length) fail(name, `[${value.shape}] has ${value.data.length} values`);
      if (value.kind === 'int' && value.type && type && value.type !== type) fail(name, `is of ${type}, got ${value.type}`);
      // Long lists go to the GPU once, not once for every node that reads them.
      if (value.kind === 'float' && !staysOnHost(value)) values.set(name, { tensor: tensor(Float32Array.from(value.data), value.shape), type });
      else values.set(name, value.kind === 'text' ? value : { ...value, type: type ?? value.type });
    }
    const unknown = Object.keys(inputs).find((name) => !values.has(name));
    if (unknown === undefined) return values;
    const isDefault = defaults.some(({ name }) => name === unknown);
    return fail(unknown, isDefault ? 'has an initializer; to give it other values, name it under `given` when the model is loaded' : 'is none of the model');
  }

  /** The shape that the file means of a value with this name. */
  shapeOf(name: string, value: Device | HostTensor): readonly number[] {
    const [order, shape] = [this.graph.orders.get(name), shapeOfValue(value)];
    return order ? TO_FILE[order].map((axis) => shape[axis]) : shape;
  }

  private constantOf(name: string): Value {
    const found = this.constants.get(name) ?? this.weights.get(name);
    if (!found) throw new GlimpseError(`${this.graph.path}: no node makes "${shown(name)}"`);
    return found;
  }

  dispose(): void {
    for (const { tensor } of this.weights.values()) tensor.dispose();
    for (const constants of this.inner.values()) for (const value of constants.values()) for (const each of tensorsOf(value)) each.dispose();
    this.inner.clear();
    this.weights.clear();
  }
}

/** Steps on the host that finding a value by its name counts as. */
const STEPS_A_NAME = 64;

/** Bytes that a kernel may bind on this adapter. */
const bindingLimit = (): number => currentGpu().device.limits.maxStorageBufferBindingSize;

/** Whether a value stays on the host: whole numbers, short lists of floats, doubles, and what no tensor can be. */
function staysOnHost(value: Value | null): boolean {
  if (value === null) return true;
  if (!isHost(value)) return false;
  const { kind, data, shape } = value;
  return kind === 'int' || data.length <= SHORT || data instanceof Float64Array || shape.length > MAX_RANK || 4 * data.length > bindingLimit();
}

/** Operators that lose no gradient: they choose among the elements of a sequence, or ask for a shape. */
const CHOOSING = ['SequenceAt', 'SequenceErase', 'SequenceInsert', 'EyeLike'];

/** Whether the tape knows from which variables a value was computed. */
const hasGradient = (value: Value): boolean => tensorsOf(value).some(isTracked);

/** Whether a value holds floats. */
function isDifferentiable(value: Value): boolean {
  if (isDevice(value) || isHost(value)) return typeOf(value).kind === 'float';
  if (value.kind === 'sequence') return value.elements.some(isDifferentiable);
  return value.kind === 'optional' && value.value !== null && isDifferentiable(value.value);
}

const listed = (results: Results): readonly (Value | null)[] => (Array.isArray(results) ? results : [results as Value]);

/** Runs what makes tensors, and disposes all but its results. */
function stepped(work: () => Results): readonly (Value | null)[] {
  using step = scope();
  const results = listed(work());
  for (const value of results) if (value) for (const each of tensorsOf(value)) step.keep(each);
  return results;
}

function nodesFor(nodes: readonly OnnxNode[], wanted: readonly string[]): OnnxNode[] {
  const need = new Set(wanted);
  const chosen: OnnxNode[] = [];
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((output) => output !== '' && need.has(output))) continue;
    for (const input of node.inputs) need.add(input);
    for (const name of capturedBy(node)) need.add(name);
    chosen.push(node);
  }
  return chosen.reverse();
}

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

function toHwio(weights: HostTensor): HostTensor {
  const { data } = weights;
  const [o, i, h, w] = weights.shape;
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
  return { ...weights, shape: [h, w, i, o], data: out };
}
