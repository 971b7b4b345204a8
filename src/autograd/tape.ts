/**
 * Reverse-mode differentiation. An op that runs on a tensor that needs a gradient leaves a node. `backward` walks the nodes from
 * the loss, newest first, without recursion. It adds to the gradients of variables (`+=`) and frees a node's saved tensors as
 * soon as the node has run. Nodes are reference-counted by their outputs and successors. A graph that is never walked is
 * therefore freed with its tensors.
 */
import { Context } from '../context.ts';
import { GlimpseError, ShapeError } from '../errors.ts';
import { axpby } from '../kernels/elementwise.ts';
import { placeOf, type Shape, sameShape, sizeOf } from '../tensor/shape.ts';
import { empty, full, Scope, scope, type Tensor, zeros } from '../tensor/tensor.ts';
import { type BackwardContext, FLAT, type Op } from './op.ts';

/** Thrown for a derivative that no op computes. */
export class NoGradient extends GlimpseError {}

let nextOrder = 1;
const paused = new Context<boolean>();

/** The tape's record of a variable. It holds the gradient, which is a sum over all uses. */
class Leaf {
  grad: Tensor | null = null;
  /** True if the next gradient replaces the old one instead of adding to it. */
  fresh = true;

  constructor(readonly shape: Shape) {}

  accumulate(gradient: Tensor): void {
    if (!this.grad) {
      this.grad = Scope.release(empty(this.shape, 'f32', 'gradient', gradient.gpu));
      this.fresh = true;
    }
    if (this.fresh) gradient.gpu.copy(gradient.slice, this.grad.slice, sizeOf(this.shape) * 4);
    else axpby(gradient.gpu, 1, gradient.slice, 1, this.grad.slice, sizeOf(this.shape), 'accumulate gradient');
    this.fresh = false;
  }

  dispose(): void {
    this.grad?.dispose();
    this.grad = null;
  }
}

/** An op that ran. */
class Node {
  readonly order = nextOrder++;
  references = 0;
  spent = false;
  grads: (Tensor | null)[] = [];

  constructor(
    readonly op: Op,
    readonly attrs: unknown,
    readonly label: string,
    readonly parents: readonly (Edge | Leaf | null)[],
    readonly saved: Record<string, Tensor>,
    readonly inputShapes: readonly Shape[],
    readonly outputShapes: readonly Shape[],
  ) {
    for (const parent of parents) if (parent instanceof Edge) parent.node.references++;
  }

  freeSaved(): void {
    for (const tensor of Object.values(this.saved)) tensor.dispose();
    for (const grad of this.grads) grad?.dispose();
    this.grads = [];
  }
}

/** The tape's record of a node's output. It is disposed with the tensor. */
class Edge {
  constructor(
    readonly node: Node,
    readonly output: number,
  ) {
    node.references++;
  }

  dispose(): void {
    const released: Node[] = [this.node];
    for (let node = released.pop(); node; node = released.pop()) {
      if (--node.references > 0) continue;
      node.freeSaved();
      for (const parent of node.parents) if (parent instanceof Edge) released.push(parent.node);
    }
  }
}

function sourceOf(tensor: Tensor): Edge | Leaf | null {
  const { attachment } = tensor;
  return attachment instanceof Edge || attachment instanceof Leaf ? attachment : null;
}

/** Makes the tensor a variable, so that `backward` computes its gradient. Returns the tensor. Throws if it is not f32. */
export function variable(tensor: Tensor): Tensor {
  if (tensor.dtype !== 'f32') throw new GlimpseError(`variable: ${tensor.label} is ${tensor.dtype}, gradients are f32`);
  tensor.attachment ??= new Leaf(tensor.shape);
  return tensor;
}

/** Makes a constant of a variable: no gradient is computed for it any more. */
export function constantOf(tensor: Tensor): Tensor {
  leafOf(tensor).grad?.dispose();
  tensor.attachment = null;
  return tensor;
}

function leafOf(tensor: Tensor): Leaf {
  if (!(tensor.attachment instanceof Leaf)) throw new GlimpseError(`${tensor.label} [${tensor.shape}] is no variable`);
  return tensor.attachment;
}

/** The gradient of a variable, summed since `zeroGrad`; null before the first `backward`. The variable owns it: do not dispose it. */
export function gradOf(tensor: Tensor): Tensor | null {
  return leafOf(tensor).grad;
}

/** Gives the variable a tensor for its gradient. Optimizers gather gradients in one buffer this way. */
export function setGradStorage(tensor: Tensor, grad: Tensor): void {
  const leaf = leafOf(tensor);
  if (!sameShape(grad.shape, tensor.shape)) throw new ShapeError(`gradient [${grad.shape}] of a variable [${tensor.shape}]`);
  leaf.grad?.dispose();
  leaf.grad = Scope.release(grad);
  leaf.fresh = true;
}

/** Sets the gradients of variables to zero. The next `backward` starts new sums. */
export function zeroGrad(tensors: Iterable<Tensor>): void {
  for (const tensor of tensors) {
    startGradient(tensor);
    const { grad } = leafOf(tensor);
    if (grad) grad.gpu.clear(grad.slice);
  }
}

/** Makes the next gradient replace the old one. Does not clear the storage: an optimizer clears a whole buffer at once. */
export function startGradient(tensor: Tensor): void {
  leafOf(tensor).fresh = true;
}

/** Runs `work` without recording on the tape, also across its awaits. Other work that runs meanwhile is still recorded. */
export function noGrad<T>(work: () => T): T {
  return paused.run(true, work);
}

/** Ids that the host wrote are looked at here, where the error can still name them. */
function refuseUnknownIds<A>(op: Op<A>, inputs: readonly Tensor[], shapes: readonly Shape[], attrs: A): void {
  for (const [name, { below, masked }] of Object.entries(op.ids ?? {})) {
    const ids = inputs[op.inputs.indexOf(name)];
    const largest = masked ? null : ids.largestWritten;
    if (largest && largest.value >= below(shapes, attrs))
      throw new GlimpseError(
        `${op.name}: ${name}[${placeOf(largest.index, ids.shape).join(', ')}] is ${largest.value}, ids are below ${below(shapes, attrs)} here`,
      );
  }
}

/** Runs an op of the table. Throws a GlimpseError for a wrong element type or id, and a ShapeError for shapes that do not fit. */
export function apply<A>(op: Op<A>, inputs: readonly Tensor[], attrs: A): Tensor[] {
  const inputShapes = inputs.map((t) => t.shape);
  inputs.forEach((input, i) => {
    const wanted =
      op.anyType && !op.ids?.[op.inputs[i]] ? inputs[0].dtype : (op.inputTypes?.[i] ?? (op.inputTypes ? op.inputTypes[op.inputTypes.length - 1] : 'f32'));
    if (input.dtype !== wanted && !op.view) throw new GlimpseError(`${op.name}: ${op.inputs[i] ?? `input ${i}`} is ${input.dtype}, expected ${wanted}`);
  });
  const outputShapes = op.shape(inputShapes, attrs);
  refuseUnknownIds(op, inputs, inputShapes, attrs);
  const label = `${op.name} ${inputShapes.map((s) => `[${s}]`).join(' ')}`;
  const { gpu } = inputs[0];
  const shared = op.view?.(inputShapes, attrs) ?? null;
  const outputs =
    shared !== null
      ? [inputs[0].part(shared, outputShapes[0], op.name)]
      : outputShapes.map((shape, i) => empty(shape, op.anyType ? inputs[0].dtype : (op.outputTypes?.[i] ?? 'f32'), op.name, gpu));
  const sources = inputs.map(sourceOf);
  const tracked = !paused.get() && sources.some((source) => source !== null);
  const training = tracked && typeof op.backward === 'function';
  const saved: Record<string, Tensor> = {};
  if (shared === null)
    op.forward({
      gpu,
      inputs,
      outputs,
      attrs,
      label,
      training,
      save: (name, tensor) => {
        if (training) saved[name] = Scope.release(tensor);
        else tensor.dispose();
      },
    });
  if (tracked) {
    if (training) {
      for (const name of op.saves ?? []) {
        const input = op.inputs.indexOf(name);
        const tensor = input >= 0 ? inputs[input] : outputs[op.outputs.indexOf(name)];
        if (tensor) saved[name] = Scope.release(tensor.alias(tensor.shape, name));
      }
    }
    const node = new Node(op, attrs, label, sources, saved, inputShapes, outputShapes);
    outputs.forEach((output, i) => {
      output.attachment = new Edge(node, i);
    });
  }
  return outputs;
}

function reachable(start: Node): Node[] {
  const seen = new Set<Node>([start]);
  const open = [start];
  for (let node = open.pop(); node; node = open.pop()) {
    for (const parent of node.parents) {
      if (parent instanceof Edge && !seen.has(parent.node)) {
        seen.add(parent.node);
        open.push(parent.node);
      }
    }
  }
  return [...seen].sort((a, b) => b.order - a.order);
}

/**
 * Adds d loss / d variable to the gradient of every variable that the loss depends on. The loss must have one element. It frees
 * what the forward pass saved, so it runs once per forward pass. Throws a GlimpseError if it cannot run. `onComplete` is told of each
 * gradient when all that is added to it was recorded.
 */
export function backward(loss: Tensor, onComplete?: (gradient: Tensor) => void): void {
  if (loss.size !== 1) throw new ShapeError(`backward: the loss [${loss.shape}] has ${loss.size} elements, not one`);
  void loss.slice; // throws when disposed
  const source = sourceOf(loss);
  if (!source) throw new GlimpseError('backward: the loss depends on no variable, or was computed under noGrad');
  if (source instanceof Leaf) throw new GlimpseError('backward: the loss is itself a variable');
  walkBack(source, loss, reachable(source.node), (parent) => parent !== null, onComplete);
}

/** Whether the gradient of what a node read is wanted. */
type Wants = (parent: Edge | Leaf | null) => boolean;

function walkBack(source: Edge, of: Tensor, nodes: readonly Node[], wants: Wants, onComplete?: (gradient: Tensor) => void): void {
  for (const node of nodes) {
    if (node.spent) throw new GlimpseError(`backward: it already ran through ${node.label}, whose saved tensors are freed; run the forward pass again`);
  }
  noGrad(() => {
    using _scope = scope();
    const seed = full(of.shape, 1);
    source.node.grads[source.output] = Scope.release(seed);
    const open = onComplete ? usesOf(nodes) : null;
    for (const node of nodes) {
      runNode(node, of.size === 1 ? seed : null, wants);
      for (const parent of node.parents) {
        if (!open || !(parent instanceof Leaf)) continue;
        const left = (open.get(parent) ?? 0) - 1;
        open.set(parent, left);
        if (left === 0 && parent.grad) onComplete?.(parent.grad);
      }
    }
  });
}

/** How often nodes read each variable. */
function usesOf(nodes: readonly Node[]): Map<Leaf, number> {
  const uses = new Map<Leaf, number>();
  for (const { parents } of nodes) for (const parent of parents) if (parent instanceof Leaf) uses.set(parent, (uses.get(parent) ?? 0) + 1);
  return uses;
}

/** Whether a result does not change where what it was computed from changes a little: whole numbers, steps and comparisons. */
function isFlat({ node: { op }, output }: Edge): boolean {
  return (op.outputTypes?.[output] ?? 'f32') !== 'f32' || op.backward === FLAT.step || op.backward === FLAT.comparison;
}

/** Whether ops are recorded: false under `noGrad`. */
export const isRecording = (): boolean => !paused.get();

/** Whether the tape knows which variables a tensor was computed from. */
export const isTracked = (tensor: Tensor): boolean => sourceOf(tensor) !== null;

/** Takes the steps of a generator, each of them recorded on the tape, also within `noGrad`. What runs between the steps is not concerned. */
export function* recorded<Y, R, N>(work: Generator<Y, R, N>): Generator<Y, R, N> {
  const stepped = (take: () => IteratorResult<Y, R>): IteratorResult<Y, R> => {
    const before = paused.get() ?? false;
    paused.enter(false);
    try {
      return take();
    } finally {
      paused.leave(false, before);
    }
  };
  let step = stepped(() => work.next());
  while (!step.done) {
    let sent: N;
    try {
      sent = yield step.value;
    } catch (error) {
      step = stepped(() => work.throw(error));
      continue;
    }
    step = stepped(() => work.next(sent));
  }
  return step.value;
}

/**
 * The derivatives of the sum of all elements of y by each of the variables. Null for a variable on which y does not depend, or only
 * through steps, comparisons and whole numbers. Gradients that the variables already have are dropped. Those of other variables stay as they are; `alone` refuses a y that depends on one.
 * Frees what the forward pass saved on the way to the variables. The caller owns the results; no derivative of them is computed.
 */
export function gradientsOf(y: Tensor, variables: readonly Tensor[], alone: boolean): (Tensor | null)[] {
  const leaves = variables.map(leafOf);
  for (const leaf of leaves) leaf.dispose();
  const source = sourceOf(y);
  const wanted = new Set<Edge | Leaf>(leaves);
  const refuse = () => {
    throw new NoGradient('y also depends on a variable that is none of these, so that a derivative of these derivatives may be asked for; run it under noGrad');
  };
  if (source instanceof Leaf) {
    if (alone && !wanted.has(source)) refuse();
    return leaves.map((leaf) => (leaf === source ? full(y.shape, 1) : null));
  }
  if (!source) return leaves.map(() => null);
  const all = reachable(source.node);
  // From the oldest on: a node leads to the variables if it reads one, or what a node made that leads to them.
  const leading = new Set<Node>();
  const leads: Wants = (parent) => parent !== null && (parent instanceof Edge ? leading.has(parent.node) && !isFlat(parent) : wanted.has(parent));
  for (const node of all.toReversed()) {
    if (node.parents.some(leads)) leading.add(node);
    if (alone && node.parents.some((parent) => parent instanceof Leaf && !wanted.has(parent))) refuse();
  }
  if (!leads(source)) return leaves.map(() => null);
  for (const { op, label, parents } of leading) {
    const constant = op.inputs.find((name, i) => op.constants?.includes(name) && leads(parents[i]));
    if (constant) throw new NoGradient(`${label} has no gradient for its ${constant}`);
  }
  walkBack(
    source,
    y,
    all.filter((node) => leading.has(node)),
    leads,
  );
  return leaves.map((leaf) => {
    const { grad } = leaf;
    leaf.grad = null;
    return grad;
  });
}

function runNode(node: Node, seed: Tensor | null, wants: Wants): void {
  const flowed = node.outputShapes.map((_, i) => !!node.grads[i]);
  node.spent = true;
  if (flowed.some(Boolean)) {
    if (typeof node.op.backward === 'string') throw new NoGradient(`backward: ${node.label} has no gradient: ${node.op.backward}`);
    const odd = flowed.lastIndexOf(true);
    if (odd >= (node.op.gradientOutputs ?? 1)) throw new NoGradient(`backward: ${node.label} has no gradient of its ${node.op.outputs[odd]}`);
    using _inner = scope();
    const grads = node.outputShapes.map((shape, i) => node.grads[i] ?? zeros(shape));
    const context: BackwardContext<unknown> = {
      gpu: grads[0].gpu,
      attrs: node.attrs,
      label: `gradient of ${node.label}`,
      inputShapes: node.inputShapes,
      outputShapes: node.outputShapes,
      saved: node.saved,
      grads,
      flowed,
      unit: grads[0] === seed,
      needs: (input) => wants(node.parents[input] ?? null),
    };
    const thunks = node.op.backward(context);
    node.parents.forEach((parent, i) => {
      const thunk = wants(parent) ? thunks[i] : null;
      if (!thunk || !parent) return;
      const gradient = thunk();
      if (!sameShape(gradient.shape, node.inputShapes[i])) {
        throw new ShapeError(`${context.label}: for ${node.op.inputs[i]} [${node.inputShapes[i]}] it gave [${gradient.shape}]`);
      }
      if (parent instanceof Leaf) {
        parent.accumulate(gradient);
        return;
      }
      const before = parent.node.grads[parent.output];
      if (!before) {
        parent.node.grads[parent.output] = Scope.release(gradient.alias());
        return;
      }
      const sum = Scope.release(empty(gradient.shape, 'f32', 'gradient', gradient.gpu));
      gradient.gpu.copy(before.slice, sum.slice, sum.size * 4);
      axpby(gradient.gpu, 1, gradient.slice, 1, sum.slice, sum.size, 'add gradients');
      before.dispose();
      parent.node.grads[parent.output] = sum;
    });
  }
  node.freeSaved();
}
