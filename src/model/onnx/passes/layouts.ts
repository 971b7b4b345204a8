/**
 * Decides for the whole graph where pictures are channels-last, [N, H, W, C], as convolutions compute them. The operators say what they
 * can do with such (operator.ts). Where orders meet, Transpose nodes are put in. A Transpose of the file's becomes none, if it turns
 * what lies turned already.
 */
import { sizeOf } from '../../../tensor/shape.ts';
import { transposed } from '../host.ts';
import { freshName, listOf, numberOf, TO_FILE, TO_LAST } from '../operator.ts';
import { OPERATORS } from '../operators/index.ts';
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../proto.ts';
import { capturedBy, graphsOf, renamedWithin } from '../subgraphs.ts';
import { type Known, knownAfter, NOTHING } from './ranks.ts';

type Keep = (name: string) => boolean;

/** Where each axis of the file lies in pictures that are channels-last. */
const PLACES = TO_FILE.nhwc;
const TO_KERNEL = [2, 3, 1, 0];

export function layOut(graph: OnnxGraph, keep: Keep): void {
  new Layouts(graph, keep, null).walk();
}

/** One graph. What it reads of the graphs around it has the file's order. */
class Layouts {
  private readonly nodes: OnnxNode[] = [];
  /** What is certain of values, by their names. */
  private readonly known = new Map<string, Known>();
  /** Values that a node reads which can do with channels-last pictures. */
  private readonly welcome = new Set<string>();
  /** Values in another order of axes, by name and order. */
  private readonly forms = new Map<string, string>();

  constructor(
    private readonly graph: OnnxGraph,
    private readonly keep: Keep,
    private readonly outer: Layouts | null,
  ) {
    if (!outer) for (const { name, shape } of graph.inputs) if (shape.length > 0) this.known.set(name, { ...NOTHING, rank: shape.length });
    for (const { op, inputs } of graph.nodes) if (OPERATORS[op].layout && OPERATORS[op].layout !== 'shape') for (const name of inputs) this.welcome.add(name);
  }

  walk(): void {
    const { graph } = this;
    if (!this.outer) this.layKernels();
    for (const node of graph.nodes) this.add(node);
    if (this.outer) graph.outputs = graph.outputs.map((name) => this.inFileOrder(name)); // a run turns those of the model itself
    graph.nodes = this.nodes;
  }

  /** Weights that convolutions of pictures read are laid down as these read them, once. */
  private layKernels(): void {
    for (const { op, inputs } of this.graph.nodes) {
      const weight = op === 'Conv' || op === 'FusedConv' ? this.graph.initializers.get(inputs[1]) : undefined;
      if (weight?.kind === 'float' && weight.type !== 'double' && weight.shape.length === 4) this.graph.orders.set(inputs[1], 'hwio');
    }
  }

  private constant(name: string): OnnxTensor | undefined {
    return this.graph.initializers.get(name) ?? this.outer?.constant(name);
  }

  private knownOf(name: string): Known {
    const constant = this.graph.initializers.get(name);
    if (constant) return { rank: constant.shape.length, length: constant.shape.length === 1 ? constant.shape[0] : NOTHING.length };
    return this.known.get(name) ?? this.outer?.knownOf(name) ?? NOTHING;
  }

  private rank(name: string): number {
    return this.knownOf(name).rank;
  }

  private isLast(name: string): boolean {
    return this.graph.orders.get(name) === 'nhwc';
  }

  private fresh(wish: string): string {
    return this.outer ? this.outer.fresh(wish) : freshName(this.graph, wish);
  }

  /** The value with its axes in another order, made once for all who read it. */
  private turned(name: string, order: readonly number[], what: string): string {
    const key = `${name} ${what}`;
    const known = this.forms.get(key);
    if (known) return known;
    const made = this.fresh(`${name}/${what}`);
    const node = { op: '', name: made, inputs: [], outputs: [made], opset: 13, attributes: new Map(), kinds: new Map() };
    this.push(transposing(node, name, order));
    this.forms.set(key, made);
    this.graph.turned.set(made, name);
    return made;
  }

  private inFileOrder(name: string): string {
    const order = this.graph.orders.get(name);
    return order ? this.turned(name, TO_FILE[order], 'in order') : name;
  }

  private channelsLast(name: string): string {
    return this.isLast(name) ? name : this.turned(this.inFileOrder(name), TO_LAST, 'channels last');
  }

  /** A constant that repeats to pictures, as it does if these are channels-last. `shape`: the shape in which it repeats to others. */
  private lastConstant(constant: OnnxTensor, shape: readonly number[]): string {
    const key = `${constant.name} beside [${shape}]`;
    const known = this.forms.get(key);
    if (known) return known;
    const name = this.fresh(`${constant.name}/channels last`);
    const whole = [...new Array<number>(4 - shape.length).fill(1), ...shape];
    const load = () => transposed({ ...constant.load(), shape: whole }, TO_LAST);
    this.graph.initializers.set(name, { ...constant, name, shape: TO_LAST.map((axis) => whole[axis]), load });
    this.forms.set(key, name);
    return name;
  }

  private add(node: OnnxNode): void {
    if (!this.addLast(node)) this.addPlain(node);
  }

  /** A node with pictures that are channels-last, as its first outputs are. */
  private emit(node: OnnxNode, pictures: number): void {
    this.push(node);
    for (const name of node.outputs.slice(0, pictures).filter(Boolean)) {
      this.graph.orders.set(name, 'nhwc');
      this.known.set(name, { ...NOTHING, rank: 4 });
    }
  }

  private push(node: OnnxNode): void {
    const [first, ...others] = node.outputs;
    const known = node.inputs.map((name) => this.knownOf(name));
    if (first) this.known.set(first, knownAfter(node, known));
    if (node.op === 'Split') for (const name of others) this.known.set(name, { ...NOTHING, rank: known[0].rank });
    if (node.op === 'DynamicQuantizeLinear') for (const name of others) this.known.set(name, { ...NOTHING, rank: 0 });
    this.nodes.push(node);
  }

  /** A node that takes and gives the file's order of axes. */
  private addPlain(node: OnnxNode): void {
    const captured = capturedBy(node).filter((name) => this.graph.orders.has(name));
    const inner = captured.length > 0 ? renamedWithin(node, new Map(captured.map((name) => [name, this.inFileOrder(name)]))) : node;
    for (const graph of graphsOf(inner)) new Layouts(graph, this.keep, this).walk();
    this.push({ ...inner, inputs: node.inputs.map((name) => this.inFileOrder(name)) });
  }

  /** A node of which pictures are channels-last; false, and nothing is done, if it has none, or cannot do with them. */
  private addLast(node: OnnxNode): boolean {
    const { layout } = OPERATORS[node.op];
    if (node.op === 'Transpose') return this.addTranspose(node);
    if (layout === 'windows') return this.addWindows(node);
    if (layout === 'elementwise') return this.addElementwise(node);
    const [first, ...others] = node.inputs;
    if (!layout || (!this.isLast(first) && node.op !== 'Concat')) return false;
    if (layout === 'axes') return this.addReduction(node);
    if (layout === 'pads') return this.addPadding(node);
    if (typeof layout === 'object') return this.addAlong(node, numberOf(node, 'axis', layout.axis));
    const inputs = [first, ...(node.op === 'CastLike' ? others : others.map((name) => this.inFileOrder(name)))]; // CastLike reads a type
    this.emit({ ...node, inputs, isChannelsLast: layout !== 'first' }, layout === 'shape' ? 0 : layout === 'channels' ? 1 : node.outputs.length);
    return true;
  }

  /** A Transpose of what lies turned, or of what another order turns: no element may have to move. */
  private addTranspose(node: OnnxNode): boolean {
    const [first] = node.inputs;
    const axes = listOf(node, 'perm');
    if (axes?.length !== 4) return false;
    const order = axes.map((axis) => (this.isLast(first) ? PLACES[axis] : axis));
    const toLast = TO_LAST.map((axis) => order[axis]);
    if (toLast.every((axis, i) => axis === i)) this.emit(transposing(node, this.isLast(first) ? first : this.inFileOrder(first), toLast), 1);
    else if (!this.isLast(first)) return false;
    else this.push(transposing(node, first, order));
    return true;
  }

  private addWindows(node: OnnxNode): boolean {
    const [first, ...others] = node.inputs;
    const weight = { Conv: 1, FusedConv: 1, ConvInteger: 1, QLinearConv: 3 }[node.op];
    const weightRank = weight === undefined ? 4 : this.rank(node.inputs[weight]);
    const axes = listOf(node, 'kernel_shape')?.length ?? weightRank - 2;
    if (axes !== 2 || isOther(weightRank) || isOther(this.rank(first)) || node.outputs[1]) return false; // indices count in the file's order
    const residual = node.op === 'FusedConv' && node.inputs[3] ? this.operand(node, 3) : undefined;
    if (residual === null) {
      this.addApart(node);
      return true;
    }
    const isFloat = node.op === 'Conv' || node.op === 'FusedConv';
    const inputs = [this.channelsLast(first)];
    for (const [i, name] of others.entries()) inputs.push(i === 0 && isFloat ? this.kernel(name) : i === 2 && residual ? residual() : this.inFileOrder(name));
    this.emit({ ...node, inputs, isChannelsLast: true }, 1);
    return true;
  }

  private kernel(name: string): string {
    return this.graph.orders.get(name) === 'hwio' ? name : this.turned(this.inFileOrder(name), TO_KERNEL, 'as kernel');
  }

  /** A convolution with a sum of which too little is known, as the nodes that it was made of. */
  private addApart(node: OnnxNode): void {
    const [x, w, bias, addend] = node.inputs;
    const [output] = node.outputs;
    const attributes = new Map(node.attributes);
    const hasRelu = attributes.get('relu') === 1;
    attributes.delete('relu');
    const [conv, sum] = [this.fresh(`${output}/convolution`), hasRelu ? this.fresh(`${output}/sum`) : output];
    this.add({ ...node, op: 'Conv', inputs: [x, w, bias], outputs: [conv], attributes });
    this.add({ ...node, op: 'Add', inputs: [conv, addend], outputs: [sum], attributes: new Map(), opset: 13 });
    if (hasRelu) this.add({ ...node, op: 'Relu', inputs: [sum], outputs: [output], attributes: new Map(), opset: 13 });
  }

  private addElementwise(node: OnnxNode): boolean {
    if (!node.inputs.some((name) => this.isLast(name))) return false;
    const operands = node.inputs.map((_, i) => this.operand(node, i));
    if (!operands.every((operand) => operand !== null)) return false;
    const inputs = operands.map((operand) => operand());
    // A second operand that repeats from an axis on, as in older opsets, has its axes now.
    const isOld = repeatsFromAxis(node);
    const attributes = new Map([...node.attributes].filter(([name]) => !isOld || (name !== 'axis' && name !== 'broadcast')));
    this.emit({ ...node, inputs, ...(isOld ? { attributes, opset: 7 } : {}) }, 1);
    return true;
  }

  /** Makes the operand of pictures that are channels-last; null if it is not known how the operand repeats to them. */
  private operand(node: OnnxNode, i: number): (() => string) | null {
    const name = node.inputs[i];
    if (this.isLast(name)) return () => name;
    const constant = this.keep(name) ? undefined : this.constant(name);
    if (constant && constant.kind !== 'text') {
      const shape = shapeBeside(node, i, constant.shape);
      if (!shape || shape.length > 4) return null;
      return () => (sizeOf(shape) === 1 ? name : this.lastConstant(constant, shape));
    }
    if (this.rank(name) === 0) return () => name;
    return this.rank(name) === 4 ? () => this.channelsLast(name) : null;
  }

  /** A node along an axis. */
  private addAlong(node: OnnxNode, given: number): boolean {
    const place = PLACES[given < 0 ? given + 4 : given];
    const isJoin = node.op === 'Concat';
    const pictures = isJoin ? node.inputs : node.inputs.slice(0, 1);
    const others = isJoin ? [] : node.inputs.slice(1);
    const turned = pictures.filter((name) => this.isLast(name)).length;
    const isWelcome = node.outputs.some((name) => this.welcome.has(name));
    if (turned === 0 || 2 * turned < pictures.length + (isWelcome ? 0 : 1) || pictures.some((name) => this.rank(name) !== 4)) return false;
    if (place === undefined || others.some((name) => name !== '' && !(this.rank(name) < 2))) return false; // scales of blocks have more axes
    const inputs = [...pictures.map((name) => this.channelsLast(name)), ...others.map((name) => this.inFileOrder(name))];
    this.emit({ ...node, inputs, attributes: new Map([...node.attributes, ['axis', place]]) }, node.outputs.length);
    return true;
  }

  private addReduction(node: OnnxNode): boolean {
    const [first, second] = node.inputs;
    const axes = (listOf(node, 'axes') ?? this.list(second) ?? []).map((axis) => PLACES[axis < 0 ? axis + 4 : axis]);
    const keeps = numberOf(node, 'keepdims', 1) === 1;
    const left = PLACES.filter((axis) => !axes.includes(axis)); // in the file's order
    if (axes.length === 0 || axes.includes(undefined as never) || (!keeps && left.some((axis, i) => axis < left[i - 1]))) return false;
    this.emit(this.saying(node, [first, second], 'axes', axes), keeps ? 1 : 0);
    return true;
  }

  private addPadding(node: OnnxNode): boolean {
    const [first, second, fill = '', axes] = node.inputs;
    const amounts = listOf(node, 'pads') ?? this.list(second);
    if (axes || amounts?.length !== 8) return false;
    const laid = [...TO_LAST.map((axis) => amounts[axis]), ...TO_LAST.map((axis) => amounts[4 + axis])];
    this.emit(this.saying(node, [first, second, this.inFileOrder(fill)], 'pads', laid), 1);
    return true;
  }

  /** Whole numbers of a constant. */
  private list(name: string | undefined): number[] | null {
    const constant = name ? this.constant(name) : undefined;
    return constant?.kind === 'int' && constant.shape.length === 1 && constant.shape[0] <= 8 ? Array.from(constant.load().data) : null;
  }

  /** A node that says other numbers: by its second input if it has one, else by an attribute. */
  private saying(node: OnnxNode, [first, second, ...others]: readonly string[], attribute: string, numbers: number[]): OnnxNode {
    if (!second) return { ...node, inputs: [first], attributes: new Map([...node.attributes, [attribute, numbers]]) };
    const name = this.fresh(`${second}/channels last`);
    const shape = [numbers.length];
    this.graph.initializers.set(name, { name, kind: 'int', shape, load: () => ({ kind: 'int', shape, data: numbers }) });
    return { ...node, inputs: [first, name, ...others] };
  }
}

/** Whether pictures certainly do not have this many axes. */
const isOther = (rank: number): boolean => rank < 4 || rank > 4;

const transposing = (node: OnnxNode, input: string, order: readonly number[]): OnnxNode => ({
  ...{ ...node, op: 'Transpose', inputs: [input] },
  attributes: new Map([['perm', [...order]]]),
});

/** Operators of many operands, which do not repeat before opset 8. */
const MANY = ['Sum', 'Max', 'Min', 'Mean'];

/** Whether the second operand repeats from an axis of the first on, as before opset 7. */
const repeatsFromAxis = ({ op, opset, attributes }: OnnxNode): boolean => opset < 7 && (op === 'PRelu' || attributes.get('broadcast') === 1);

/** The shape in which a constant operand repeats to pictures as in newer opsets; null if it does not, or if they do not say. */
function shapeBeside(node: OnnxNode, i: number, shape: readonly number[]): readonly number[] | null {
  if (i === 1 && repeatsFromAxis(node)) {
    const isSlope = node.op === 'PRelu';
    const axis = isSlope && shape.length === 1 ? 1 : numberOf(node, 'axis', 4 - shape.length);
    const behind = 4 - (axis < 0 ? axis + 4 : axis) - shape.length;
    return behind < 0 ? null : [...shape, ...new Array<number>(behind).fill(1)];
  }
  return node.opset >= (MANY.includes(node.op) ? 8 : 7) || shape.length === 4 ? shape : null;
}
