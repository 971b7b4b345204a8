/**
 * What each operator accepts: inputs, outputs and attributes, by opset. A graph is held against it before anything is computed. So
 * a model that contradicts itself, or asks for what is not done here, is refused by node and reason.
 */
import { FileError } from '../../errors.ts';
import { type AttributeKind, type OnnxGraph, type OnnxNode, type OnnxTensor, UnsupportedOnnx } from './proto.ts';
import { shown } from './wire.ts';

/** `node "conv1" (Conv)`, as every message names a node. */
export const labelOf = ({ name, op }: OnnxNode): string => `node "${shown(name)}" (${op === 'FusedConv' ? 'Conv' : shown(op)})`;

/** A name that no value of the graph has. */
export function freshName(graph: OnnxGraph, wish: string): string {
  let name = wish;
  while (graph.names.has(name)) name += "'";
  graph.names.add(name);
  return name;
}

/** An attribute: its kind, and the opsets that know it. A flag is an int that is 0 or 1. */
interface Attribute {
  kind: AttributeKind | 'flag';
  since: number;
  until: number;
  required: boolean;
}

const NEWEST = Number.POSITIVE_INFINITY;
const attribute = (kind: Attribute['kind'], o: Partial<Attribute> = {}): Attribute => ({ since: 1, until: NEWEST, required: false, ...o, kind });
const [int, flag, ints, float, text] = (['int', 'flag', 'ints', 'float', 'string'] as const).map((kind) => attribute(kind));
/** Names of buffers that operators before opset 6 could overwrite. It means nothing here. */
const CONSUMED = { consumed_inputs: attribute('ints', { until: 5 }) };
const WINDOW = { auto_pad: text, pads: ints, strides: ints };

type Checker = (node: OnnxNode, at: Check) => void;

/** What the checks of a node may ask. */
interface Check {
  graph: OnnxGraph;
  /** A constant of the file: an initializer, or what a Constant node holds. */
  constant(name: string | undefined): OnnxTensor | undefined;
  fail(reason: string): never;
  unsupported(reason: string): never;
}

interface Form {
  /** Fewest and most inputs; by opset where that matters. */
  inputs: readonly [number, number] | ((opset: number) => readonly [number, number]);
  attributes: Readonly<Record<string, Attribute>>;
  check?: Checker;
}

function list(node: OnnxNode, name: string): number[] | null {
  const value = node.attributes.get(name);
  return Array.isArray(value) ? value : null;
}

const word = (node: OnnxNode, name: string, otherwise: string): string => String(node.attributes.get(name) ?? otherwise);

const LARGEST = 2 ** 31 - 1;

/** A list of `count` whole numbers, each at least `least`. */
function listOf(node: OnnxNode, name: string, count: number, least: number, c: Check): void {
  const values = list(node, name);
  if (!values) return;
  if (values.length !== count) c.fail(`${name} has ${values.length} numbers, ${count} are expected`);
  const wrong = values.find((value) => value < least || value > LARGEST);
  if (wrong !== undefined) c.fail(`${name} [${values}] has ${wrong}, at least ${least} is expected`);
}

const AUTO = ['NOTSET', 'VALID', 'SAME_UPPER', 'SAME_LOWER'];

/** Windows that move over pictures: everything about them that a node says. */
function checkWindow(node: OnnxNode, kernel: readonly number[] | null, c: Check): void {
  const axes = kernel?.length ?? 2;
  if (axes !== 2) c.unsupported(`${axes}-dimensional windows; 2 are supported`);
  listOf(node, 'kernel_shape', 2, 1, c);
  listOf(node, 'strides', 2, 1, c);
  listOf(node, 'dilations', 2, 1, c);
  listOf(node, 'pads', 4, 0, c);
  const auto = word(node, 'auto_pad', 'NOTSET');
  if (!AUTO.includes(auto)) c.fail(`auto_pad is "${shown(auto)}", one of ${AUTO.join(', ')} is expected`);
  if (auto !== 'NOTSET' && list(node, 'pads')?.some((pad) => pad !== 0)) c.fail(`auto_pad ${auto} and pads [${list(node, 'pads')}] contradict each other`);
}

function checkConv(node: OnnxNode, c: Check): void {
  const weight = c.constant(node.inputs[1])?.shape;
  const kernel = list(node, 'kernel_shape');
  if (weight && weight.length !== 4) c.unsupported(`the weight "${shown(node.inputs[1])}" [${weight}] has ${weight.length} axes; 4 are supported`);
  checkWindow(node, kernel ?? weight?.slice(2) ?? null, c);
  const group = (node.attributes.get('group') as number | undefined) ?? 1;
  if (!(group >= 1 && group <= LARGEST)) c.fail(`group is ${group}, at least 1 is expected`);
  if (!weight) return;
  if (kernel && kernel.join() !== weight.slice(2).join()) c.fail(`kernel_shape [${kernel}] contradicts the weight "${shown(node.inputs[1])}" [${weight}]`);
  if (weight.includes(0)) c.fail(`the weight "${shown(node.inputs[1])}" [${weight}] is empty`);
  if (weight[0] % group !== 0) c.fail(`group ${group} does not divide the ${weight[0]} channels of the weight [${weight}]`);
  const bias = c.constant(node.inputs[2])?.shape;
  if (bias && bias.join() !== String(weight[0])) c.fail(`the bias "${shown(node.inputs[2])}" [${bias}] does not fit the ${weight[0]} channels of the weight`);
}

function checkPool(node: OnnxNode, c: Check): void {
  const kernel = list(node, 'kernel_shape') ?? [];
  checkWindow(node, kernel, c);
  if (list(node, 'dilations')?.some((dilation) => dilation !== 1)) c.unsupported('dilated pooling');
  if (node.attributes.get('storage_order') === 1) c.unsupported('storage_order 1');
  const wide = list(node, 'pads')?.findIndex((pad, i) => pad >= kernel[i % 2]) ?? -1;
  if (wide >= 0) c.fail(`pads [${list(node, 'pads')}] are not smaller than the window [${kernel}]: a window would hold padding only`);
}

function checkBatchNorm(node: OnnxNode, c: Check): void {
  if (node.attributes.get('training_mode') === 1) c.unsupported('training_mode 1');
  if (node.attributes.get('spatial') === 0) c.unsupported('spatial 0');
  const shapes = node.inputs.slice(1).map((name) => c.constant(name)?.shape ?? null);
  const first = shapes.find((shape) => shape !== null);
  shapes.forEach((shape, i) => {
    if (shape && (shape.length !== 1 || shape.join() !== first?.join()))
      c.fail(`"${shown(node.inputs[i + 1])}" is [${shape}], every parameter has one number a channel, here [${first}]`);
  });
}

function checkDropout(node: OnnxNode, c: Check): void {
  const { opset } = c.graph;
  if (opset < 7 && node.attributes.get('is_test') !== 1) c.unsupported('training (is_test 0)');
  const mode = node.inputs[2];
  if (!mode) return;
  const constant = c.constant(mode);
  if (!constant || constant.shape.length > 1 || (constant.shape[0] ?? 1) !== 1) c.unsupported(`training_mode "${shown(mode)}" is no constant of the file`);
  else if (constant.load().data[0] !== 0) c.unsupported('training');
}

const CONSTANTS = ['value', 'sparse_value', 'value_int', 'value_ints', 'value_float', 'value_floats', 'value_string', 'value_strings'];

function checkConstant(node: OnnxNode, c: Check): void {
  const given = CONSTANTS.filter((name) => node.attributes.has(name));
  if (given.length !== 1) c.fail(`has ${given.length === 0 ? 'no value' : `the values ${given.join(' and ')}, one is expected`}`);
  if (['sparse_value', 'value_string', 'value_strings'].includes(given[0])) c.unsupported(`a constant by ${given[0]}`);
}

/** What a Constant node holds, as a constant like any other. */
export function tensorOfConstant(node: OnnxNode): OnnxTensor {
  const [[kind, value]] = node.attributes;
  const name = node.outputs[0];
  if (typeof value === 'object' && 'load' in value) return { ...value, name };
  const shape = Array.isArray(value) ? [value.length] : [];
  const values = Array.isArray(value) ? value : [Number(value)];
  if (kind.startsWith('value_float')) return { ...{ name, kind: 'float', shape }, load: () => ({ kind: 'float', shape, data: Float32Array.from(values) }) };
  return { ...{ name, kind: 'int', shape }, load: () => ({ kind: 'int', shape, data: values }) };
}

function checkPermutation(node: OnnxNode, c: Check): void {
  const order = list(node, 'perm');
  if (order && [...order].sort((a, b) => a - b).some((axis, i) => axis !== i)) c.fail(`perm [${order}] is no permutation of axes`);
}

const MINIMUM = [1, 1] as const;
const unary: Form = { inputs: MINIMUM, attributes: CONSUMED };
const arithmetic: Form = {
  inputs: [2, 2],
  attributes: { ...CONSUMED, axis: attribute('int', { until: 6 }), broadcast: attribute('flag', { until: 6 }) },
};
const reduction = (axesSince: number): Form => ({
  inputs: (opset) => [1, opset >= axesSince ? 2 : 1],
  attributes: { axes: attribute('ints', { until: axesSince - 1 }), keepdims: flag, noop_with_empty_axes: attribute('flag', { since: axesSince }) },
});
const resizing: Form = { inputs: (opset) => [1, opset >= 13 ? 2 : 1], attributes: { axes: attribute('ints', { until: 12 }) } };
const axisOnly: Form = { inputs: MINIMUM, attributes: { axis: int } };

/** Every operator that is supported. */
export const OPERATOR_FORMS: Readonly<Record<string, Form>> = {
  Conv: { inputs: [2, 3], attributes: { ...WINDOW, kernel_shape: ints, dilations: ints, group: int }, check: checkConv },
  BatchNormalization: {
    inputs: [5, 5],
    attributes: {
      ...CONSUMED,
      epsilon: float,
      momentum: float,
      spatial: attribute('flag', { until: 8 }),
      is_test: attribute('flag', { until: 6 }),
      training_mode: attribute('flag', { since: 14 }),
    },
    check: checkBatchNorm,
  },
  Relu: unary,
  LeakyRelu: { inputs: MINIMUM, attributes: { ...CONSUMED, alpha: float } },
  Sigmoid: unary,
  Tanh: unary,
  Exp: unary,
  Log: unary,
  Sqrt: unary,
  Neg: unary,
  Abs: unary,
  Reciprocal: unary,
  Clip: {
    inputs: (opset) => [1, opset >= 11 ? 3 : 1],
    attributes: { ...CONSUMED, min: attribute('float', { until: 10 }), max: attribute('float', { until: 10 }) },
  },
  Identity: { inputs: MINIMUM, attributes: {} },
  Dropout: {
    inputs: (opset) => [1, opset >= 12 ? 3 : 1],
    attributes: { ...CONSUMED, ratio: attribute('float', { until: 11 }), is_test: attribute('flag', { until: 6 }), seed: attribute('int', { since: 12 }) },
    check: checkDropout,
  },
  Cast: {
    inputs: MINIMUM,
    attributes: { to: attribute('int', { required: true }), saturate: attribute('flag', { since: 19 }), round_mode: attribute('string', { since: 24 }) },
  },
  Add: arithmetic,
  Sub: arithmetic,
  Mul: arithmetic,
  Div: arithmetic,
  Sum: { inputs: [1, NEWEST], attributes: CONSUMED },
  MaxPool: {
    inputs: MINIMUM,
    attributes: {
      ...WINDOW,
      kernel_shape: attribute('ints', { required: true }),
      storage_order: attribute('flag', { since: 8 }),
      ceil_mode: attribute('flag', { since: 10 }),
      dilations: attribute('ints', { since: 10 }),
    },
    check: checkPool,
  },
  AveragePool: {
    inputs: MINIMUM,
    attributes: {
      ...WINDOW,
      kernel_shape: attribute('ints', { required: true }),
      count_include_pad: attribute('flag', { since: 7 }),
      ceil_mode: attribute('flag', { since: 10 }),
      dilations: attribute('ints', { since: 19 }),
    },
    check: checkPool,
  },
  GlobalAveragePool: { inputs: MINIMUM, attributes: {} },
  ReduceMean: reduction(18),
  ReduceMax: reduction(18),
  ReduceMin: reduction(18),
  ReduceSum: reduction(13),
  Flatten: axisOnly,
  Reshape: {
    inputs: (opset) => (opset >= 5 ? [2, 2] : MINIMUM),
    attributes: { ...CONSUMED, shape: attribute('ints', { until: 4, required: true }), allowzero: attribute('flag', { since: 14 }) },
  },
  Transpose: { inputs: MINIMUM, attributes: { perm: ints }, check: checkPermutation },
  Gemm: {
    inputs: (opset) => [opset >= 11 ? 2 : 3, 3],
    attributes: { alpha: float, beta: float, transA: flag, transB: flag, broadcast: attribute('flag', { until: 6 }) },
  },
  MatMul: { inputs: [2, 2], attributes: {} },
  Softmax: axisOnly,
  LogSoftmax: axisOnly,
  Constant: {
    inputs: [0, 0],
    attributes: {
      value: attribute('tensor'),
      sparse_value: attribute('other', { since: 11 }),
      value_int: attribute('int', { since: 12 }),
      value_ints: attribute('ints', { since: 12 }),
      value_float: attribute('float', { since: 12 }),
      value_floats: attribute('floats', { since: 12 }),
      value_string: attribute('string', { since: 12 }),
      value_strings: attribute('other', { since: 12 }),
    },
    check: checkConstant,
  },
  Shape: { inputs: MINIMUM, attributes: { start: attribute('int', { since: 15 }), end: attribute('int', { since: 15 }) } },
  Gather: { inputs: [2, 2], attributes: { axis: int } },
  Slice: {
    inputs: (opset) => (opset >= 10 ? [3, 5] : MINIMUM),
    attributes: {
      axes: attribute('ints', { until: 9 }),
      starts: attribute('ints', { until: 9, required: true }),
      ends: attribute('ints', { until: 9, required: true }),
    },
  },
  Concat: { inputs: [1, NEWEST], attributes: { axis: attribute('int', { since: 4, required: true }) } },
  Squeeze: resizing,
  Unsqueeze: { inputs: (opset) => (opset >= 13 ? [2, 2] : MINIMUM), attributes: { axes: attribute('ints', { until: 12, required: true }) } },
};

function checkAttributes(node: OnnxNode, form: Form, c: Check): void {
  const { opset } = c.graph;
  for (const [name, kind] of node.kinds) {
    const known = form.attributes[name];
    if (!known || !Object.hasOwn(form.attributes, name) || opset < known.since || opset > known.until)
      c.unsupported(`attribute "${shown(name)}" is not known in opset ${opset}`);
    const isFlag = known.kind === 'flag';
    if (kind !== (isFlag ? 'int' : known.kind)) c.fail(`attribute ${name} holds ${kind}, ${known.kind} is expected`);
    const value = node.attributes.get(name);
    if (isFlag && value !== 0 && value !== 1) c.fail(`attribute ${name} is ${value}, 0 or 1 is expected`);
  }
  for (const [name, { required, since, until }] of Object.entries(form.attributes))
    if (required && opset >= since && opset <= until && !node.attributes.has(name)) c.fail(`attribute ${name} is missing`);
}

/** Refuses a graph that is no graph (names that nothing makes, or twice), or whose nodes contradict themselves. Reads no weights. */
export function checkGraph(graph: OnnxGraph): void {
  const constants = new Map(graph.initializers);
  const known = new Set([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys()]);
  const read = new Set([...graph.outputs, ...graph.nodes.flatMap(({ inputs }) => inputs)]);
  const fail = (problem: string): never => {
    throw new FileError(graph.path, problem);
  };
  if (known.size !== graph.inputs.length + graph.initializers.size) fail('has two inputs of the same name');
  for (const node of graph.nodes) {
    const label = labelOf(node);
    const c: Check = {
      graph,
      constant: (name) => constants.get(name ?? ''),
      fail: (reason) => fail(`${label}: ${reason}`),
      unsupported: (reason) => {
        throw new UnsupportedOnnx(graph.path, `${label}: ${reason}`);
      },
    };
    const form = Object.hasOwn(OPERATOR_FORMS, node.op) ? OPERATOR_FORMS[node.op] : null;
    if (!form)
      throw new UnsupportedOnnx(
        graph.path,
        `node "${shown(node.name)}": the operator ${shown(node.op)} is not supported (${Object.keys(OPERATOR_FORMS).join(', ')} are)`,
      );
    const [fewest, most] = typeof form.inputs === 'function' ? form.inputs(graph.opset) : form.inputs;
    while (node.inputs.at(-1) === '') node.inputs.pop(); // an optional input that is left out
    const { length } = node.inputs;
    if (length > most || length < fewest)
      c.fail(`has ${length} inputs, ${fewest === most ? fewest : most === NEWEST ? `at least ${fewest}` : `${fewest} to ${most}`} are expected`);
    const missing = node.inputs.findIndex((name, i) => (name === '' ? i < fewest : !known.has(name)));
    if (missing >= 0)
      c.fail(node.inputs[missing] === '' ? `input ${missing} is missing` : `no node before it makes its input "${shown(node.inputs[missing])}"`);
    if (!node.outputs[0]) c.fail('has no output');
    checkAttributes(node, form, c);
    form.check?.(node, c);
    if (node.op === 'Constant') constants.set(node.outputs[0], tensorOfConstant(node));
    node.outputs.forEach((name, i) => {
      if (name === '') return;
      if (known.has(name)) c.fail(`makes "${shown(name)}", which is there already`);
      if (i > 0 && read.has(name)) c.unsupported(`its output ${i} ("${shown(name)}") is read; only the first is computed`);
      known.add(name);
    });
  }
  graph.names = known;
  const unmade = graph.outputs.find((name) => !known.has(name));
  if (unmade !== undefined) fail(`no node makes the output "${shown(unmade)}"`);
}
