/**
 * A step of the captioner and its gradient, equation by equation, as the device computed them. Each has its tensors, its kernel, the
 * version and why, workgroups, time, cost, and the error against float64. Each dispatch is compared twice: with float64 on the inputs that it had
 * (its own error), and with float64 since the start (what has gathered).
 */
import { backward, gradOf, noGrad, zeroGrad } from '../autograd/tape.ts';
import { START } from '../data/words.ts';
import { GlimpseError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice, PooledBuffer } from '../gpu/pool.ts';
import { Profiler, type Span } from '../gpu/profiler.ts';
import type { Dispatch, Watcher } from '../gpu/recorder.ts';
import { costOf } from '../kernels/costs.ts';
import type { MatmulProblem } from '../kernels/matmul.ts';
import type { AttentionStep, AttentionStepGrad, LstmStep, LstmStepGrad } from '../kernels/recurrent.ts';
import { Captioner } from '../model/captioner/captioner.ts';
import { scope, type Tensor, tensor } from '../tensor/tensor.ts';
import { type Equation, equationOf, LINES, PRODUCTS } from './equations.ts';
import { type Memory, numbersOf, runInFloat64 } from './float64.ts';
import type { TensorReport } from './numbers.ts';
import { type AdapterRoofs, measureRoofs, roofShareOf } from './profile.ts';

/** What a trace is taken of: features [B, P, F], and time-major words [T, B] with their targets. */
export interface TraceInput {
  features: Float32Array;
  ids: Uint32Array;
  targets: Uint32Array;
  /** Weight of each word's loss, [T, B]. */
  weights: Float32Array;
  batch: number;
  steps: number;
}

/** The largest difference from float64, and in units of the last place of the largest number. */
export interface ErrorReport {
  maxAbs: number;
  ulp: number;
  /** As a share of the largest number. */
  relative: number;
}

/** One picture with its caption, END included: what a trace of it is taken of. */
export function captionInput(features: Float32Array, said: readonly number[]): TraceInput {
  return {
    features,
    ids: Uint32Array.from([START, ...said.slice(0, -1)]),
    targets: Uint32Array.from(said),
    weights: new Float32Array(said.length).fill(1 / said.length),
    ...{ batch: 1, steps: said.length },
  };
}

/** An equation at a step, as it ran. */
export interface TraceNode {
  key: string;
  phase: Equation['phase'];
  tex: string;
  says: string;
  /** From 1; null outside of the loop. */
  step: number | null;
  gradients: readonly string[];
  tensors: TensorReport[];
  kernel: string;
  /** The file of kernels/wgsl, or the user's. */
  shader: string;
  /** The line that computes it, from 1. */
  line: number | null;
  version: string | null;
  why: string;
  workgroups: readonly number[];
  constants: Record<string, number>;
  ms: number | null;
  flops: number;
  bytes: number;
  /** Floating-point operations per byte, the rate, and the share of the roof there. */
  roofline: { intensity: number; gflops: number; share: number } | null;
  /** Null where float64 is not known for the kernel. */
  local: ErrorReport | null;
  accumulated: ErrorReport | null;
  ok: boolean;
}

/** Σ_t beside the one product: the parts of a weight's gradient by step, and how far their sum is from the product. */
export interface WeightSum {
  key: string;
  tex: string;
  parts: { step: number; norm: number }[];
  norm: number;
  /** ‖Σ_t parts − product‖ / ‖product‖, in float64 from the traced tensors. */
  difference: number;
}

export interface Trace {
  adapter: string;
  software: boolean;
  roofs: AdapterRoofs;
  sizes: Captioner['sizes'];
  batch: number;
  steps: number;
  loss: number | null;
  nodes: TraceNode[];
  weightSums: WeightSum[];
  /** α by step, [B, P] each, and its sum. */
  alpha: number[][];
  /** Names of gradients, with their values, as the tape has them. */
  gradients: { name: string; shape: number[]; values: Float32Array }[];
  logits: Float32Array;
  /** Dispatches that belong to no equation: copies of another order, sums of gradients. */
  others: number;
  /** Of all dispatches, equations or not: those whose own error is too large, and those that float64 does not know. */
  wrong: string[];
  unknown: string[];
}

/** Tensors that hold natural logarithms. */
const NATS = new Set([String.raw`\ell`, 'L_t', 'e_t']);

/** Allowed error of a dispatch, as a share of its largest number: sums of thousands of terms. */
const TOLERANCE = 1e-4;
const SHOWN = 8;

/** A command that was recorded, with the contents of buffers around it by their keys. */
type Event =
  | { kind: 'dispatch'; dispatch: Dispatch; operands: { slice: BufferSlice; before: string }[]; after: string[] }
  | { kind: 'clear'; slice: BufferSlice; after: string }
  | { kind: 'copy'; from: BufferSlice; to: BufferSlice; bytes: number; fromOffset: number; toOffset: number; before: string; after: string }
  | { kind: 'upload'; slice: BufferSlice; after: string };

/** What a dispatch reads and writes. A product may bind copies of its operands in another order; these are the originals. */
function operandSlices({ slices, choice }: Dispatch): BufferSlice[] {
  if (choice?.family !== 'matmul') return [...slices];
  const { a, b, bias, c } = choice.problem as MatmulProblem;
  return [a, b, bias ?? b, c];
}

/** Keeps a copy of every buffer's contents, once for each time that it was written. */
class Recording implements Watcher {
  readonly events: Event[] = [];
  private readonly snapshots = new Map<string, BufferSlice>();
  /** Operands of a dispatch that is being recorded. */
  private readonly pending = new Map<Dispatch, { slice: BufferSlice; before: string }[]>();
  private asleep = false;

  constructor(private readonly gpu: Gpu) {}

  private keep(buffer: PooledBuffer): string {
    const key = `${buffer.id}@${buffer.writes}`;
    if (!this.snapshots.has(key)) {
      const bytes = buffer.capacity;
      const slice = { buffer: this.gpu.pool.acquire(bytes, `snapshot of ${buffer.label}`), offset: 0, bytes };
      this.asleep = true;
      this.gpu.copy({ buffer, offset: 0, bytes }, slice);
      this.asleep = false;
      this.snapshots.set(key, slice);
    }
    return key;
  }

  before(dispatch: Dispatch): void {
    this.pending.set(
      dispatch,
      operandSlices(dispatch).map((slice) => ({ slice, before: this.keep(slice.buffer) })),
    );
  }

  after(dispatch: Dispatch): void {
    const operands = this.pending.get(dispatch) ?? [];
    this.pending.delete(dispatch);
    this.events.push({ kind: 'dispatch', dispatch, operands, after: dispatch.slices.map(({ buffer }) => this.keep(buffer)) });
  }

  cleared(slice: BufferSlice): void {
    if (!this.asleep) this.events.push({ kind: 'clear', slice, after: this.keep(slice.buffer) });
  }

  copied(from: BufferSlice, to: BufferSlice, bytes: number, fromOffset: number, toOffset: number): void {
    if (this.asleep) return;
    this.events.push({ kind: 'copy', from, to, bytes, fromOffset, toOffset, before: this.keep(from.buffer), after: this.keep(to.buffer) });
  }

  uploaded(slice: BufferSlice): void {
    this.events.push({ kind: 'upload', slice, after: this.keep(slice.buffer) });
  }

  /** The contents of a buffer; float32, or u32 where `whole` says so. */
  async read(key: string, whole: boolean): Promise<Float32Array | Uint32Array> {
    const found = this.snapshots.get(key);
    if (!found) throw new GlimpseError(`a trace has no contents ${key}`);
    const [bytes] = await this.gpu.read([found]);
    return whole ? new Uint32Array(bytes) : new Float32Array(bytes);
  }

  dispose(): void {
    for (const { buffer } of this.snapshots.values()) this.gpu.pool.release(buffer);
    this.snapshots.clear();
  }
}

/** Slices of whole numbers, by kernel and place. */
const WHOLE: Readonly<Record<string, readonly number[]>> = { embedding: [1], embedding_grad: [1, 2, 3], embedding_links: [0, 1, 2], cross_entropy: [1] };
const isWhole = ({ kernel, choice }: Dispatch, place: number) => WHOLE[choice?.family ?? kernel.name]?.includes(place) ?? false;

/** What one operand is: its numbers, where they begin in its slice, and their shape. */
interface Operand {
  place: number;
  start: number;
  shape: number[];
}

/** The operands of a dispatch, in the order of its bindings: the part that this step reads or writes. */
function operandsOf({ slices, choice, params }: Dispatch): Operand[] {
  const problem = choice?.problem;
  switch (choice?.family) {
    case 'matmul': {
      const p = problem as MatmulProblem;
      const { m, n, k, transA, transB, batch = 1 } = p;
      const many = batch > 1 ? [batch] : [];
      return [
        { place: 0, start: p.aStart ?? 0, shape: [...many, ...(transA ? [k, m] : [m, k])] },
        { place: 1, start: p.bStart ?? 0, shape: [...many, ...(transB ? [n, k] : [k, n])] },
        ...(p.bias ? [{ place: 2, start: 0, shape: [n] }] : [{ place: 2, start: 0, shape: [] }]),
        { place: 3, start: p.cStart ?? 0, shape: [...many, m, n] },
      ];
    }
    case 'attention':
    case 'attention_scores_grad':
    case 'attention_grad': {
      const p = problem as AttentionStep & AttentionStepGrad;
      const { batch: b, regions, keysWidth: a, valuesWidth: d } = p;
      const [query, context, alpha] = [p.queryStart ?? 0, p.contextStart ?? 0, p.alphaStart ?? 0];
      const all = { keys: [b, regions, a], query: [b, a], v: [a], values: [b, regions, d], context: [b, d], alpha: [b, regions] };
      if (choice.family === 'attention')
        return [
          { place: 0, start: 0, shape: all.keys },
          { place: 1, start: query, shape: all.query },
          { place: 2, start: 0, shape: all.v },
          { place: 3, start: 0, shape: all.values },
          { place: 4, start: context, shape: all.context },
          { place: 5, start: alpha, shape: all.alpha },
        ];
      if (choice.family === 'attention_scores_grad')
        return [
          { place: 0, start: context, shape: all.context },
          { place: 1, start: 0, shape: all.values },
          { place: 2, start: alpha, shape: all.alpha },
          { place: 3, start: alpha, shape: all.alpha },
          { place: 4, start: alpha, shape: all.alpha },
        ];
      return [
        { place: 0, start: 0, shape: all.keys },
        { place: 1, start: query, shape: all.query },
        { place: 2, start: 0, shape: all.v },
        { place: 3, start: alpha, shape: all.alpha },
        { place: 4, start: 0, shape: all.keys },
        { place: 5, start: query, shape: all.query },
        { place: 6, start: 0, shape: all.query },
      ];
    }
    case 'lstm_cell': {
      const p = problem as LstmStep;
      const [state, gates] = [
        [p.rows, p.hidden],
        [p.rows, 4 * p.hidden],
      ];
      return [
        { place: 0, start: p.gxStart ?? 0, shape: gates },
        { place: 1, start: p.ghStart ?? 0, shape: gates },
        { place: 2, start: 0, shape: state },
        { place: 3, start: p.gatesStart ?? 0, shape: p.keepGates ? gates : [] },
        { place: 4, start: 0, shape: state },
        { place: 5, start: p.hStart ?? 0, shape: state },
      ];
    }
    case 'lstm_cell_grad': {
      const p = problem as LstmStepGrad;
      const [state, gates] = [
        [p.rows, p.hidden],
        [p.rows, 4 * p.hidden],
      ];
      return [
        { place: 0, start: p.dhStart ?? 0, shape: state },
        { place: 1, start: p.gatesStart ?? 0, shape: gates },
        { place: 2, start: 0, shape: state },
        { place: 3, start: 0, shape: state },
        { place: 4, start: 0, shape: state },
        { place: 5, start: p.gatesStart ?? 0, shape: gates },
      ];
    }
    case 'reduce':
      return [
        { place: 0, start: 0, shape: [Number(params.outer) * Number(params.n), Number(params.inner ?? 1)] },
        { place: 1, start: 0, shape: [slices[1].bytes / 4] },
      ];
    case 'cross_entropy': {
      const { rows, n } = params as Record<string, number>;
      return [[rows, n], [rows], [rows], [rows], [rows, n]].map((shape, place) => ({ place, start: 0, shape }));
    }
    default: {
      const p = params as Record<string, number>;
      const starts: Record<string, number[]> = {
        context_gate: [p.hidden_start, 0, 0, p.context_start, p.context_start, p.beta_start],
        context_gate_grad: [0, p.context_start, p.beta_start, 0, p.context_start, p.hidden_start, p.beta_start],
      };
      return slices
        .map(({ bytes }, place) => ({ place, start: 0, shape: [bytes / 4] }))
        .map((operand, i) => {
          const start = starts[Object.keys(starts).find((name) => name in p) ?? '']?.[i] ?? 0;
          return { ...operand, start };
        });
    }
  }
}

function ulpOf(value: number): number {
  const magnitude = Math.max(Math.abs(value), 2 ** -126);
  return 2 ** (Math.floor(Math.log2(magnitude)) - 23);
}

/** Float32 numbers beside float64 ones. */
function errorOf(got: ArrayLike<number>, wanted: ArrayLike<number>): ErrorReport {
  let [maxAbs, largest] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    const difference = Math.abs(got[i] - wanted[i]);
    maxAbs = Math.max(maxAbs, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
    largest = Math.max(largest, Math.abs(wanted[i]));
  }
  return { maxAbs, ulp: maxAbs / ulpOf(largest), relative: largest > 0 ? maxAbs / largest : maxAbs };
}

function worst(errors: readonly ErrorReport[]): ErrorReport {
  return errors.reduce((a, b) => (b.relative > a.relative ? b : a), { maxAbs: 0, ulp: 0, relative: 0 });
}

function reportOf(name: string, role: 'in' | 'out', shape: number[], data: ArrayLike<number>, gates: boolean, all: boolean): TensorReport {
  const count = data.length;
  let [min, max, sum, squares, saturated] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0, 0];
  const quarter = shape[shape.length - 1] / 4;
  for (let i = 0; i < count; i++) {
    const value = data[i];
    min = Math.min(min, value);
    max = Math.max(max, value);
    sum += value;
    squares += value * value;
    if (!gates) continue;
    const isTanh = Math.floor((i % (4 * quarter)) / quarter) === 2;
    if (isTanh ? Math.abs(value) > 0.95 : value < 0.05 || value > 0.95) saturated++;
  }
  const mean = sum / count;
  return {
    ...{ name, role, unit: NATS.has(name) ? 'nat' : '1', shape, min, max, mean },
    std: Math.sqrt(Math.max(0, squares / count - mean * mean)),
    norm: Math.sqrt(squares),
    saturated: gates ? saturated / count : null,
    values: Array.from({ length: all ? count : Math.min(SHOWN, count) }, (_, i) => Number(data[i].toPrecision(9))), // float32 has no more digits
  };
}

/** The parameter that a slice is, or is a part of. Parameters may share a buffer, as those of an optimizer do. */
function parameterOf(model: Captioner, { buffer, offset }: BufferSlice): string | null {
  for (const [name, { slice }] of model.parameters.all)
    if (slice.buffer === buffer && offset >= slice.offset && offset < slice.offset + slice.bytes) return name;
  return null;
}

/** Which equation a dispatch computes; null for glue, such as sums of gradients. Products outside of the loop go by their parameter. */
class Naming {
  /** Labels of products outside of the loop → the parameter. */
  private readonly products = new Map<string, string>();
  private lastProduct: string | null = null;

  constructor(private readonly model: Captioner) {}

  of({ label, choice, kernel }: Dispatch): { key: string; step: number | null } | null {
    const [, loop, step] = /attentionLstm \[\d+,\d+\]: (.*?)(?:, t = (\d+))?$/.exec(label) ?? [];
    if (loop !== undefined) {
      const key = choice?.family === 'attention_scores_grad' ? 'de' : loop.replace(/^de; /, '');
      return equationOf(key) ? { key, step: step === undefined ? null : Number(step) } : null;
    }
    const found = (key: string | null) => (key === null ? null : { key, step: null });
    if (choice?.family === 'matmul') {
      const p = choice.problem as MatmulProblem;
      const parameter = parameterOf(this.model, p.b);
      if (!label.startsWith('gradient of ')) {
        if (!parameter || !(parameter in PRODUCTS)) return null;
        this.products.set(label, parameter);
        return found(PRODUCTS[parameter].forward);
      }
      const product = this.products.get(label.slice('gradient of '.length));
      if (!product) return null;
      this.lastProduct = product;
      return found(p.transA ? PRODUCTS[product].weight : PRODUCTS[product].input);
    }
    if (choice?.family === 'reduce' && label.startsWith('sum [') && this.lastProduct) return found(PRODUCTS[this.lastProduct].bias);
    if (choice?.family === 'reduce' && label.startsWith('mean [')) return found('mean');
    if (choice?.family === 'cross_entropy') return found('L');
    if (kernel.name === 'embedding') return found('Emb');
    if (kernel.name === 'embedding_grad') return found('dEmb');
    return null;
  }
}

/** The line of a shader that computes its equation, from 1; null if it cannot be told. */
export function lineOf(shader: string, source: string): number | null {
  const piece = LINES[shader];
  if (!piece) return null;
  const lines = source.split('\n');
  const main = lines.findIndex((line) => /\bfn main\(/.test(line));
  const found = lines.findIndex((line, i) => i > main && !/^\s*\/\//.test(line) && line.includes(piece));
  return found < 0 ? null : found + 1;
}

/** What a trace can be taken of. */
function checkTraceable({ decoder, cell, query, attention, contextToOutput }: Captioner['options']): void {
  if (`${decoder} ${cell} ${attention} ${contextToOutput}` !== 'stacked lstm soft false' || query !== 'h2')
    throw new GlimpseError(
      `a trace follows the stacked LSTM decoder with soft attention, asked by h2; this run has ${decoder}, ${cell}, ${attention}, query ${query}${contextToOutput ? ', context to the output' : ''}`,
    );
}

/**
 * Traces one teacher-forced pass; with `train` its gradient too, of the weighted cross-entropy alone. `all` keeps all values of
 * every tensor but the weights. `focus` are the steps whose equations are kept, or all of them (null).
 */
export async function trace(
  gpu: Gpu,
  given: Captioner,
  input: TraceInput,
  { train, all, focus }: { train: boolean; all: boolean; focus: number | null },
): Promise<Trace> {
  checkTraceable(given.options);
  const { sizes } = given;
  const model = new Captioner(sizes, { ...given.options, attentionPenalty: 0 }, given.parameters); // the penalty is no part of the step
  const { batch, steps } = input;
  const roofs = await measureRoofs(gpu);
  using _trace = scope();
  const features = tensor(input.features, [batch, sizes.regions, sizes.features]);
  const [ids, targets] = [tensor(input.ids, [steps, batch]), tensor(input.targets, [steps, batch])];
  const weights = tensor(input.weights, [steps, batch]);
  let logits: Tensor | null = null;
  let loss: Tensor | null = null;
  const run = () => {
    if (train) {
      zeroGrad(model.parameters.all.values());
      loss = model.loss(features, ids, targets, weights).loss;
      backward(loss);
    } else logits = noGrad(() => model.forward(features, ids)).logits;
  };
  const recording = new Recording(gpu);
  let spans: Span[] = [];
  gpu.isTraced = true;
  try {
    run(); // so that the versions for weights that do not change are chosen
    run();
    await gpu.idle();
    gpu.watcher = recording;
    run();
    gpu.watcher = null;
    await gpu.idle();
    if (gpu.device.features.has('timestamp-query')) {
      const profiler = new Profiler(gpu.device, costOf);
      gpu.profiler = profiler;
      run();
      await gpu.idle();
      gpu.profiler = null;
      spans = (await profiler.spans()).filter(({ kind, kernel }) => kind === 'kernel' && kernel !== 'column_panels');
    }
  } finally {
    gpu.watcher = null;
    gpu.profiler = null;
    gpu.isTraced = false;
  }
  try {
    return await new Account(gpu, model, input, roofs, recording, spans, { train, all, focus }).give(loss, logits);
  } finally {
    recording.dispose();
  }
}

/** Goes through a recording, and writes down what each dispatch did. */
class Account {
  private readonly nodes: TraceNode[] = [];
  private readonly wrong: string[] = [];
  private readonly unknown: string[] = [];
  private others = 0;
  /** Float64 since the start, by buffer. */
  private readonly shadow = new Map<number, Float64Array>();
  private readonly contents = new Map<string, Float64Array>();
  /** Tensors that later sums need, by key and step: what is multiplied with what. */
  private readonly factors = new Map<string, Map<number, Float64Array>>();
  private readonly products = new Map<string, Float64Array>();
  private logits: Float32Array = new Float32Array(0);
  private readonly alpha: number[][] = [];

  constructor(
    private readonly gpu: Gpu,
    private readonly model: Captioner,
    private readonly input: TraceInput,
    private readonly roofs: AdapterRoofs,
    private readonly recording: Recording,
    private readonly spans: readonly Span[],
    private readonly o: { train: boolean; all: boolean; focus: number | null },
  ) {}

  private async load(key: string, whole: boolean): Promise<Float64Array> {
    const name = `${key}${whole ? ' whole' : ''}`;
    const known = this.contents.get(name);
    if (known) return known;
    const read = Float64Array.from(await this.recording.read(key, whole));
    if (this.contents.size > 256) this.contents.clear(); // they can be read again
    this.contents.set(name, read);
    return read;
  }

  private async shadowOf(buffer: PooledBuffer, key: string, whole: boolean): Promise<Float64Array> {
    const known = this.shadow.get(buffer.id);
    if (known && !whole) return known;
    const fresh = Float64Array.from(await this.load(key, whole));
    this.shadow.set(buffer.id, fresh);
    return fresh;
  }

  async give(loss: Tensor | null, logits: Tensor | null): Promise<Trace> {
    const naming = new Naming(this.model);
    let span = 0;
    for (const event of this.recording.events) {
      if (event.kind === 'dispatch') {
        const isPanels = event.dispatch.kernel.name === 'column_panels';
        await this.dispatched(event, naming, isPanels ? null : (this.spans[span++] ?? null));
      } else await this.moved(event);
    }
    const { batch, steps } = this.input;
    const gradients: Trace['gradients'] = [];
    if (this.o.train)
      for (const [name, parameter] of this.model.parameters.all) {
        const gradient = gradOf(parameter);
        if (gradient) gradients.push({ name, shape: [...gradient.shape], values: (await gradient.data()) as Float32Array });
      }
    return {
      ...{ adapter: this.gpu.description, software: this.gpu.software, roofs: this.roofs, sizes: this.model.sizes, batch, steps },
      loss: loss ? await loss.item() : null,
      nodes: this.nodes,
      weightSums: this.weightSums(),
      ...{ alpha: this.alpha, gradients, logits: logits ? ((await logits.data()) as Float32Array) : this.logits },
      ...{ others: this.others, wrong: this.wrong, unknown: this.unknown },
    };
  }

  /** Copies, clears and uploads do the same to the float64 memory. */
  private async moved(event: Exclude<Event, { kind: 'dispatch' }>): Promise<void> {
    if (event.kind === 'copy') {
      const from = await this.shadowOf(event.from.buffer, event.before, false);
      const to = await this.shadowOf(event.to.buffer, event.after, false);
      const [first, target] = [(event.from.offset + event.fromOffset) / 4, (event.to.offset + event.toOffset) / 4];
      to.set(from.subarray(first, first + event.bytes / 4), target);
      return;
    }
    const { slice, after } = event;
    const numbers = await this.shadowOf(slice.buffer, after, false);
    const [from, to] = [slice.offset / 4, (slice.offset + slice.bytes) / 4];
    if (event.kind === 'clear') numbers.fill(0, from, to);
    else numbers.set((await this.load(after, false)).subarray(from, to), from);
  }

  private async dispatched({ dispatch, operands: given, after }: Extract<Event, { kind: 'dispatch' }>, naming: Naming, span: Span | null): Promise<void> {
    const { kernel, slices, choice, label, groups } = dispatch;
    const named = naming.of(dispatch);
    const equation = named ? equationOf(named.key) : null;
    const written = slices.flatMap((_, place) => (kernel.shader.bindings[place].access === 'read_write' ? [place] : []));
    // Its own error: float64 on copies of what the device had before.
    const local = new Map<number, Float64Array>();
    const original = new Map<number, Float64Array>();
    for (const [place, { slice, before }] of given.entries()) {
      const { buffer } = slice;
      const contents = await this.load(before, isWhole(dispatch, place));
      if (written.includes(place)) local.set(buffer.id, Float64Array.from(contents));
      else if (!local.has(buffer.id)) local.set(buffer.id, contents);
      original.set(place, contents);
    }
    const operands = given.map(({ slice }) => slice);
    const memoryOf = (numbers: ReadonlyMap<number, Float64Array>): Memory => ({
      of: (buffer) => numbers.get(buffer.id) ?? new Float64Array(buffer.capacity / 4),
    });
    const isKnown = runInFloat64(dispatch, memoryOf(local));
    for (const [place, { slice, before }] of given.entries()) await this.shadowOf(slice.buffer, before, isWhole(dispatch, place) && !written.includes(place));
    runInFloat64(dispatch, memoryOf(this.shadow));
    const results = new Map<number, Float64Array>();
    for (const place of written) results.set(place, await this.load(after[place], isWhole(dispatch, place)));
    const floats = written.filter((place) => !isWhole(dispatch, place));
    const errorsIn = (numbers: ReadonlyMap<number, Float64Array>) =>
      floats.map((place) => {
        const { buffer, offset, bytes } = slices[place];
        const range = [offset / 4, (offset + bytes) / 4] as const;
        return errorOf(
          (results.get(place) as Float64Array).subarray(...range),
          numbersOf(memoryOf(numbers), { buffer, offset, bytes }).subarray(0, range[1] - range[0]),
        );
      });
    const skipsCheck = kernel.name === 'column_panels' || kernel.name === 'embedding_links';
    const own = isKnown && !skipsCheck ? worst(errorsIn(local)) : null;
    const gathered = isKnown && !skipsCheck ? worst(errorsIn(this.shadow)) : null;
    const name = `${named ? named.key : label}${named?.step ? `, t = ${named.step}` : ''}`;
    const ok = own === null || own.relative <= TOLERANCE || own.maxAbs <= 1e-9;
    if (!ok)
      this.wrong.push(
        `${name} (${kernel.name}${choice ? `, ${choice.version}` : ''}): off by ${own?.maxAbs.toExponential(2)}, ${own?.relative.toExponential(1)} of its largest number`,
      );
    if (!isKnown) {
      this.unknown.push(`${name} (${kernel.name})`);
      for (const place of floats) this.shadow.set(slices[place].buffer.id, Float64Array.from(results.get(place) as Float64Array)); // float64 begins anew
    }
    if (!named || !equation) {
      if (!skipsCheck) this.others++;
      return;
    }
    const parts = operandsOf(dispatch).map((operand) => {
      const slice = operands[operand.place];
      const isOut = written.includes(operand.place);
      const contents = isOut ? (results.get(operand.place) as Float64Array) : (original.get(operand.place) as Float64Array);
      const count = operand.shape.reduce((product, extent) => product * extent, 1);
      const from = slice.offset / 4 + operand.start;
      return { ...operand, isOut, data: contents.subarray(from, from + count) };
    });
    this.remember(named, parts);
    if (this.o.focus !== null && named.step !== null && named.step !== this.o.focus) return;
    const tensors = parts.flatMap(({ place, shape, data, isOut }) => {
      const tex = equation.names[place];
      if (tex == null || shape.length === 0 || isWhole(dispatch, place)) return [];
      const isWeight = parameterOf(this.model, operands[place]) !== null; // the checkpoint has its values
      return [reportOf(tex, isOut ? 'out' : 'in', shape, data, equation.gates === true && tex.startsWith('[i'), this.o.all && !isWeight)];
    });
    const cost = costOf(dispatch) ?? { flops: 0, bytes: 0 };
    const ms = span ? (span.endNs - span.startNs) / 1e6 : null;
    const shader = choice?.shader ?? kernel.name;
    const share = ms === null ? null : roofShareOf(cost, ms, this.roofs);
    this.nodes.push({
      ...{ key: named.key, phase: equation.phase, tex: equation.tex, says: equation.says, step: named.step, gradients: equation.gradients ?? [], tensors },
      ...{ kernel: kernel.name, shader, line: lineOf(shader, kernel.variant.source ?? this.gpu.host.shaderSource(shader)) },
      ...{ version: choice?.version ?? null, why: choice?.why ?? 'only kernel', workgroups: groups },
      constants: { ...kernel.variant.constants, ...kernel.variant.tune },
      ...{ ms, ...cost },
      roofline: ms && share !== null ? { intensity: cost.flops / cost.bytes, gflops: cost.flops / ms / 1e6, share } : null,
      ...{ local: own, accumulated: gathered, ok },
    });
  }

  /** Keeps what the sums over steps are made of, α, and the logits. */
  private remember({ key, step }: { key: string; step: number | null }, parts: readonly { place: number; data: Float64Array }[]): void {
    const data = (place: number) => Float64Array.from(parts.find((part) => part.place === place)?.data ?? []);
    const at = (name: string, t: number, values: Float64Array) => {
      const list = this.factors.get(name) ?? new Map<number, Float64Array>();
      list.set(t, values);
      this.factors.set(name, list);
    };
    if (key === 'logits') this.logits = Float32Array.from(data(3));
    if (step !== null) {
      if (key === 'α = softmax(vᵀ f(K + q)), z = Σ α a') this.alpha.push([...data(5)]);
      if (key === 'q = s W2 + b2') at('h2 before', step, data(0));
      if (key === 'p = ẑ Wz') at('ẑ', step, data(0));
      if (key === 'p += h1 U1') at('h1 before', step, data(0));
      if (key === 'r = h1 W + b') at('h1', step, data(0));
      if (key === 'dr, dc2') at('dr', step, data(5));
      if (key === 'dp, dc1') at('dp', step, data(5));
      if (key === 'dK += de v f′, dq = Σ dK, dv') at('dq', step, data(5));
    } else if (key in SUMS) this.products.set(key, data(3));
  }

  private weightSums(): WeightSum[] {
    return Object.entries(SUMS).flatMap(([key, [left, right]]): WeightSum[] => {
      const product = this.products.get(key);
      const [lefts, rights] = [this.factors.get(left), this.factors.get(right)];
      if (!product || !lefts || !rights) return [];
      const { batch, steps } = this.input;
      const sum = new Float64Array(product.length);
      const parts: { step: number; norm: number }[] = [];
      for (let t = steps; t >= 1; t--) {
        const [x, dy] = [lefts.get(t) as Float64Array, rights.get(t) as Float64Array];
        const [m, n] = [x.length / batch, dy.length / batch];
        let squares = 0;
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++) {
            let value = 0;
            for (let b = 0; b < batch; b++) value += x[b * m + i] * dy[b * n + j];
            sum[i * n + j] += value;
            squares += value * value;
          }
        parts.push({ step: t, norm: Math.sqrt(squares) });
      }
      const norm = Math.sqrt(product.reduce((total, value) => total + value * value, 0));
      const off = Math.sqrt(sum.reduce((total, value, i) => total + (value - product[i]) ** 2, 0));
      return [{ key, tex: equationOf(key)?.tex ?? key, parts, norm, difference: norm > 0 ? off / norm : off }];
    });
  }
}

/** Gradients of weights as sums over the steps: what is multiplied with what. */
const SUMS: Readonly<Record<string, readonly [string, string]>> = {
  'dW2 = sᵀ dq': ['h2 before', 'dq'],
  'dWz = ẑᵀ dp': ['ẑ', 'dp'],
  'dU1 = h1ᵀ dp': ['h1 before', 'dp'],
  'dW = h1ᵀ dr': ['h1', 'dr'],
  'dU2 = h2ᵀ dr': ['h2 before', 'dr'],
};
