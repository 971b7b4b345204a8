/**
 * Builds an ONNX graph node by node, with the few operators that captioners need. Everything is of opset 13, which onnxruntime reads
 * since version 1.6. What later opsets brought (LayerNormalization) is composed.
 */
import { type Attributes, type Chunks, ELEMENT, type ElementName, type Extent, graphMessage, nodeMessage, tensorMessage } from '../onnx/writer.ts';

export const OPSET = 13;
/** The version of the file format that belongs to the opset. */
export const IR_VERSION = 7;

/** Who made the models, as they say themselves. */
export const PRODUCER = 'glimpse';

/** A value of a graph, by its name. */
export type Value = string;

/** An input or an output of a model. An extent that a run decides has a name. */
export interface Port {
  name: string;
  type: ElementName;
  shape?: readonly Extent[];
  doc?: string;
}

const declared = ({ type, ...port }: Port) => ({ ...port, type: ELEMENT[type] });

export class GraphBuilder {
  private readonly nodes: Chunks[] = [];
  private readonly initializers: Map<Value, Chunks>;
  private readonly taken: Set<Value>;

  /** The body of a loop reads the values of the graph around it, whose names it must not take. */
  constructor(outer: GraphBuilder | null = null) {
    this.initializers = outer?.initializers ?? new Map();
    this.taken = outer?.taken ?? new Set();
  }

  /** A name for a value that nobody has yet. */
  fresh(hint: string): Value {
    let name = hint;
    for (let i = 1; this.taken.has(name); i++) name = `${hint}_${i}`;
    this.taken.add(name);
    return name;
  }

  /** Keeps a name for an input or an output. */
  reserve({ name }: Pick<Port, 'name'>): Value {
    this.taken.add(name);
    return name;
  }

  /** Adds a node with several outputs. */
  nodeOf(op: string, inputs: readonly Value[], hints: readonly string[], attributes: Attributes = {}): Value[] {
    const outputs = hints.map((hint) => this.fresh(hint));
    this.nodes.push(nodeMessage(op, inputs, outputs, attributes));
    return outputs;
  }

  node(op: string, inputs: readonly Value[], attributes: Attributes = {}, hint = op.toLowerCase()): Value {
    return this.nodeOf(op, inputs, [hint], attributes)[0];
  }

  /** A constant of the model; the same name is added once. */
  private constant(name: Value, type: ElementName, shape: readonly number[], data: ArrayBufferView): Value {
    if (!this.initializers.has(name)) {
      this.taken.add(name);
      this.initializers.set(name, tensorMessage(name, ELEMENT[type], shape, data));
    }
    return name;
  }

  weight(name: string, shape: readonly number[], data: Float32Array): Value {
    return this.constant(`weight.${name}`, 'float', shape, data);
  }

  float(value: number): Value {
    return this.constant(`float ${value}`, 'float', [], Float32Array.of(value));
  }

  doubles(name: string, values: readonly number[]): Value {
    return this.constant(name, 'double', [values.length], Float64Array.from(values));
  }

  /** A whole number, without axes. */
  whole(value: number): Value {
    return this.constant(`int64 ${value}`, 'int64', [], BigInt64Array.of(BigInt(value)));
  }

  /** A list of whole numbers. */
  wholes(values: readonly number[]): Value {
    return this.constant(`int64 [${values}]`, 'int64', [values.length], BigInt64Array.from(values, BigInt));
  }

  truth(value: boolean): Value {
    return this.constant(`bool ${value}`, 'bool', [], Uint8Array.of(Number(value)));
  }

  add = (x: Value, y: Value): Value => this.node('Add', [x, y]);
  mul = (x: Value, y: Value): Value => this.node('Mul', [x, y]);
  matmul = (x: Value, y: Value): Value => this.node('MatMul', [x, y]);
  relu = (x: Value): Value => this.node('Relu', [x]);
  tanh = (x: Value): Value => this.node('Tanh', [x]);
  sigmoid = (x: Value): Value => this.node('Sigmoid', [x]);
  softmax = (x: Value): Value => this.node('Softmax', [x], { axis: -1 });
  concat = (list: readonly Value[], axis: number): Value => this.node('Concat', list, { axis });
  transpose = (x: Value, perm: readonly number[]): Value => this.node('Transpose', [x], { perm });
  /** An extent of 0 stays as it is; −1 takes what is left. */
  reshape = (x: Value, shape: readonly number[]): Value => this.node('Reshape', [x, this.wholes(shape)]);
  squeeze = (x: Value, axis: number): Value => this.node('Squeeze', [x, this.wholes([axis])]);
  unsqueeze = (x: Value, axis: number): Value => this.node('Unsqueeze', [x, this.wholes([axis])]);
  mean = (x: Value, axis: number, keep = false): Value => this.node('ReduceMean', [x], { axes: [axis], keepdims: Number(keep) });
  cast = (x: Value, type: ElementName): Value => this.node('Cast', [x], { to: ELEMENT[type] });
  where = (condition: Value, x: Value, y: Value): Value => this.node('Where', [condition, x, y]);
  /** The extent of an axis, [1]. */
  extent = (x: Value, axis: number): Value => this.node('Gather', [this.node('Shape', [x]), this.wholes([axis])]);

  /** Parts of the last axis, which are equally wide. */
  parts(x: Value, hints: readonly string[], width: number): Value[] {
    return this.nodeOf('Split', [x, this.wholes(hints.map(() => width))], hints, { axis: -1 });
  }

  /** A tensor of a shape that a run decides, [extents], with the same number everywhere. */
  filled(shape: Value, type: ElementName, value: number): Value {
    const data = { float: Float32Array.of(value), double: Float64Array.of(value), int64: BigInt64Array.of(BigInt(value)), bool: Uint8Array.of(value) }[type];
    return this.node('ConstantOfShape', [shape], { value: { tensor: tensorMessage('value', ELEMENT[type], [1], data) } }, 'filled');
  }

  /** y = gamma (x − mean) / √(variance + ε) + beta, over the last axis. */
  layerNorm(x: Value, gamma: Value, beta: Value, eps = 1e-5): Value {
    const centered = this.node('Sub', [x, this.mean(x, -1, true)]);
    const variance = this.mean(this.mul(centered, centered), -1, true);
    const normal = this.node('Div', [centered, this.node('Sqrt', [this.add(variance, this.float(eps))])]);
    return this.add(this.mul(normal, gamma), beta);
  }

  /** 0.5 x (1 + tanh(√(2 / π) (x + 0.044715 x³))) */
  geluTanh(x: Value): Value {
    const cube = this.mul(this.mul(x, x), x);
    const inner = this.mul(this.add(x, this.mul(cube, this.float(0.044715))), this.float(Math.sqrt(2 / Math.PI)));
    return this.mul(this.mul(x, this.float(0.5)), this.add(this.tanh(inner), this.float(1)));
  }

  /** Gives a value the name of an output, which is reserved. */
  output(value: Value, { name }: Pick<Port, 'name'>): void {
    this.nodes.push(nodeMessage('Identity', [value], [name]));
  }

  /** The graph, or with `isBody` that of a loop: the constants then stand in the graph around it. */
  message(name: string, inputs: readonly Port[], outputs: readonly Port[], isBody = false): Chunks {
    const initializers = isBody ? [] : [...this.initializers.values()];
    return graphMessage({ name, nodes: this.nodes, initializers, inputs: inputs.map(declared), outputs: outputs.map(declared) });
  }
}
