/**
 * Holds a graph against what each operator accepts, before anything is computed. So a model that contradicts itself, or asks for what
 * is not done here, is refused by node and reason.
 */
import { FileError } from '../../errors.ts';
import { type Check, labelOf, NEWEST, type Operator } from './operator.ts';
import { OPERATORS } from './operators/index.ts';
import { tensorOfConstant } from './operators/moves.ts';
import { type OnnxGraph, type OnnxNode, type OnnxTensor, UnsupportedOnnx } from './proto.ts';
import { graphsOf, readsOf } from './subgraphs.ts';
import { reasonShown, shown } from './wire.ts';

function checkAttributes(node: OnnxNode, form: Operator, c: Check): void {
  const { opset } = node;
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

/** The names that a graph knows, and those of the graphs around it. */
class Names {
  private readonly own = new Set<string>();
  private readonly constants = new Map<string, OnnxTensor>();

  constructor(
    private readonly outer: Names | null,
    /** Every name of the file. */
    private readonly all: Set<string>,
  ) {}

  has(name: string): boolean {
    return this.own.has(name) || (this.outer?.has(name) ?? false);
  }

  add(name: string): void {
    this.own.add(name);
    this.all.add(name);
  }

  constant(name: string): OnnxTensor | undefined {
    return this.constants.get(name) ?? (this.own.has(name) ? undefined : this.outer?.constant(name));
  }

  define(name: string, value: OnnxTensor): void {
    this.constants.set(name, value);
  }
}

/** Refuses a graph that is no graph (names that nothing makes, or twice), or whose nodes contradict themselves. Reads no weights. */
export function checkGraph(graph: OnnxGraph): void {
  graph.names = new Set();
  checkWithin(graph, null, readsOf(graph), graph.names);
}

function checkWithin(graph: OnnxGraph, outer: Names | null, read: ReadonlySet<string>, all: Set<string>): void {
  const names = new Names(outer, all);
  const fail = (problem: string): never => {
    throw new FileError(graph.path, problem);
  };
  for (const name of [...graph.inputs.map((input) => input.name), ...graph.initializers.keys()]) {
    if (names.has(name))
      fail(
        outer?.has(name) ? `a graph within a node has the input "${shown(name)}", which is there already` : `has two inputs of the same name, "${shown(name)}"`,
      );
    names.add(name);
  }
  for (const [name, initializer] of graph.initializers) names.define(name, initializer);
  for (const node of graph.nodes) {
    const label = labelOf(node);
    const c: Check = {
      graph,
      constant: (name) => names.constant(name ?? ''),
      fail: (reason) => fail(`${label}: ${reasonShown(reason)}`),
      unsupported: (reason) => {
        throw new UnsupportedOnnx(graph.path, `${label}: ${reasonShown(reason)}`);
      },
    };
    const form = Object.hasOwn(OPERATORS, node.op) && !node.op.startsWith('Fused') ? OPERATORS[node.op] : null;
    if (!form)
      throw new UnsupportedOnnx(graph.path, `node "${shown(node.name)}": the operator ${shown(node.op)} is not supported (docs/onnx.md lists those that are)`);
    const [fewest, most] = typeof form.inputs === 'function' ? form.inputs(node.opset) : form.inputs;
    while (node.inputs.at(-1) === '') node.inputs.pop(); // an optional input that is left out
    const { length } = node.inputs;
    if (length > most || length < fewest)
      c.fail(`has ${length} inputs, ${fewest === most ? fewest : most === NEWEST ? `at least ${fewest}` : `${fewest} to ${most}`} are expected`);
    const missing = node.inputs.findIndex((name, i) => (name === '' ? i < fewest : !names.has(name)));
    if (missing >= 0)
      c.fail(node.inputs[missing] === '' ? `input ${missing} is missing` : `no node before it makes its input "${shown(node.inputs[missing])}"`);
    if (!node.outputs.some((name) => name !== '')) c.fail('has no output');
    const made = form.outputs?.[1] ?? 1;
    for (const [i, name] of node.outputs.entries()) {
      if (i === 0 || read.has(name)) continue;
      node.outputs[i] = ''; // nobody reads it
    }
    while (node.outputs.length > made && node.outputs.at(-1) === '') node.outputs.pop(); // those that are computed say how many parts there are
    if (node.outputs.length > made)
      c.unsupported(`its output ${made} ("${shown(node.outputs[made])}") is read; only ${made === 1 ? 'the first is' : `${made} are`} computed`);
    const [reference] = node.references ?? [];
    if (reference) c.fail(`attribute "${shown(reference[0])}" takes that of a function, but the node stands in none`);
    checkAttributes(node, form, c);
    for (const inner of graphsOf(node)) checkWithin(inner, names, read, all);
    form.check?.(node, c);
    if (node.op === 'Constant') names.define(node.outputs[0], tensorOfConstant(node));
    for (const name of node.outputs) {
      if (name === '') continue;
      if (names.has(name)) c.fail(`makes "${shown(name)}", which is there already`);
      names.add(name);
    }
  }
  const unmade = graph.outputs.find((name) => !names.has(name));
  if (unmade !== undefined) fail(`no node makes the output "${shown(unmade)}"`);
}
