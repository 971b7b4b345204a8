/** Operators that run the graphs they hold: branches, loops, scans, and a graph for every element of a sequence. */
import { normalizeAxis } from '../../../tensor/shape.ts';
import { elementType } from '../elements.ts';
import { attribute, type Context, fail, NEWEST, numberOf, type Operators, type Reading, type Results, type RunGraph } from '../operator.ts';
import type { OnnxGraph, OnnxInput } from '../proto.ts';
import { drop, isDevice, isHost, onHost, shapeOfValue, shared, sizeOfValue, typeName, typeOf, type Value } from '../values.ts';
import { placeOf, stacked } from './composed.ts';

const graphOf = (c: Context, name: string): OnnxGraph => c.node.attributes.get(name) as OnnxGraph;

/** Gets a value's numbers to the host. It is refused in a run that does not wait. */
function* fetched(c: Context, value: Value): Reading<Value> {
  if (!isDevice(value)) return value;
  const [values] = yield [value.tensor];
  if (!values) return c.unsupported('it needs values on the host that the GPU computes: computeAsync() waits for them');
  return onHost(value, values, shapeOfValue(value));
}

/** A condition: one truth value. */
function* isTrue(c: Context, value: Value): Reading<boolean> {
  const given = yield* fetched(c, value);
  if (isDevice(given) || !isHost(given) || typeOf(given).name !== 'bool' || given.data.length !== 1)
    return fail(`its condition is ${typeName(given)}${isHost(given) ? ` [${given.shape}]` : ''}, one truth value is expected`);
  return given.data[0] !== 0;
}

/** An output of no turns: its extents are what the graph declares, 0 where it leaves them open. */
function nothingOf(declared: OnnxInput | undefined, axis: number): Value {
  const shape = declared?.shape.map((extent) => Math.max(0, extent)) ?? [];
  const at = axis < 0 ? axis + shape.length + 1 : axis;
  if (!(at >= 0 && at <= shape.length)) fail(`axis ${axis} of an output of ${shape.length + 1} axes`);
  const whole = shape.toSpliced(at, 0, 0);
  if (declared?.kind === 'text') return { kind: 'text', shape: whole, data: [] };
  const type = elementType(declared?.type ?? '') ?? fail('no turn was taken, and its graph does not declare the type of its output');
  if (type.kind === 'int') return { kind: 'int', type: type.name, shape: whole, data: [] };
  return { kind: 'float', type: type.name, shape: whole, data: type.name === 'double' ? new Float64Array(0) : new Float32Array(0) };
}

/** Values that turns gave, along a new axis. They are dropped. */
function* gathered(c: Context, values: Value[], declared: OnnxInput | undefined, axis: number): Reading<Value> {
  if (values.length === 0) return nothingOf(declared, axis);
  const isWhole = (value: Value) => isDevice(value) && typeOf(value).kind === 'int';
  const isMixed = values.some(isWhole) && !values.every(isDevice);
  const settled: Value[] = [];
  for (const value of values) settled.push(isMixed ? yield* fetched(c, value) : value);
  const out = stacked(c, settled, axis);
  values.forEach(drop);
  return out;
}

/** What a value takes beyond its numbers, counted in numbers. */
const OVERHEAD = 64;

/** What turns keep for later: it must fit, as what nodes make must. */
class Kept {
  private size = 0;
  readonly lists: Value[][];

  constructor(
    private readonly c: Context,
    count: number,
  ) {
    this.lists = Array.from({ length: count }, () => []);
  }

  add(values: readonly Value[]): void {
    for (const [i, value] of values.entries()) {
      this.size += OVERHEAD + sizeOfValue(value);
      this.lists[i].push(value);
    }
    this.c.model.budget.expect([this.size]);
  }
}

function* branch(c: Context, run: RunGraph): Reading<Results> {
  const graph = graphOf(c, (yield* isTrue(c, c.value(0))) ? 'then_branch' : 'else_branch');
  if (graph.outputs.length !== c.node.outputs.length) fail(`its branch has ${graph.outputs.length} outputs, the node ${c.node.outputs.length}`);
  return yield* run(graph, []);
}

function* loop(c: Context, run: RunGraph): Reading<Results> {
  const body = graphOf(c, 'body');
  const limit = c.host(0);
  if (limit && limit.data.length !== 1) fail(`its number of turns is [${limit.shape}], one number is expected`);
  const most = limit?.data[0] ?? NEWEST;
  let goesOn = c.has(1) ? yield* isTrue(c, c.value(1)) : true;
  const initial = c.inputs.slice(2).map((value, i) => value ?? fail(`input ${2 + i} is missing`));
  const count = initial.length;
  const scans = body.outputs.length - 1 - count;
  if (scans < 0 || c.node.outputs.length > count + scans || body.inputs.length !== 2 + count)
    fail(`its graph has ${body.inputs.length} inputs and ${body.outputs.length} outputs for ${count} values that it carries`);
  const kept = new Kept(c, scans);
  let carried = initial.map(shared);
  let condition: Value = { kind: 'int', type: 'bool', shape: [], data: [1] };
  for (let turn = 0; turn < most && goesOn; turn++) {
    c.model.budget.walk();
    const results = yield* run(body, [{ kind: 'int', type: 'int64', shape: [], data: [turn] }, condition, ...carried]);
    carried.forEach(drop);
    carried = results.slice(1, 1 + count);
    kept.add(results.slice(1 + count));
    goesOn = yield* isTrue(c, results[0]);
    drop(results[0]);
    condition = { kind: 'int', type: 'bool', shape: [], data: [1] };
  }
  const outputs: Value[] = [...carried];
  for (const [k, values] of kept.lists.entries()) outputs.push(yield* gathered(c, values, body.declared[1 + count + k], 0));
  return outputs;
}

interface ScanForm {
  body: OnnxGraph;
  states: readonly Value[];
  scans: readonly Value[];
  axes: readonly number[];
  reversed: readonly number[];
  outAxes: readonly number[];
  outReversed: readonly number[];
}

/** A list of an attribute, one for each of `count`; 0 where the node does not say. */
function eachOf(c: Context, name: string, count: number): number[] {
  const list = c.list(name) ?? new Array<number>(count).fill(0);
  return list.length === count ? list : fail(`${name} [${list}] for ${count}`);
}

function* scanned(c: Context, run: RunGraph, form: ScanForm): Reading<Value[]> {
  const { body, states, scans, reversed, outAxes, outReversed } = form;
  const axes = scans.map((value, i) => normalizeAxis(form.axes[i], shapeOfValue(value), c.node.op));
  const extents = scans.map((value, i) => shapeOfValue(value)[axes[i]]);
  const odd = extents.find((extent) => extent !== extents[0]);
  if (odd !== undefined) fail(`it goes along axes of ${extents[0]} and ${odd} places`);
  c.model.budget.expectTurns(extents[0], body.nodes.length);
  const kept = new Kept(c, outAxes.length);
  let carried = states.map(shared);
  for (let turn = 0; turn < extents[0]; turn++) {
    c.model.budget.walk();
    const slices = scans.map((value, i) => placeOf(c, value, axes[i], reversed[i] === 1 ? extents[0] - 1 - turn : turn));
    const results = yield* run(body, [...carried, ...slices]);
    slices.forEach(drop);
    carried.forEach(drop);
    carried = results.slice(0, states.length);
    kept.add(results.slice(states.length));
  }
  const outputs: Value[] = [...carried];
  for (const [k, values] of kept.lists.entries())
    outputs.push(yield* gathered(c, outReversed[k] === 1 ? values.reverse() : values, body.declared[states.length + k], outAxes[k]));
  return outputs;
}

function* scan(c: Context, run: RunGraph): Reading<Results> {
  const body = graphOf(c, 'body');
  const isOld = c.opset < 9;
  if (isOld && c.has(0)) c.unsupported('lengths of sequences');
  const given = c.inputs.slice(isOld ? 1 : 0).map((value, i) => value ?? fail(`input ${i} is missing`));
  const count = numberOf(c.node, 'num_scan_inputs', 0);
  const first = given.length - count;
  const outs = body.outputs.length - first;
  if (!(count >= 1 && first >= 0 && outs >= 0) || c.node.outputs.length > first + outs || body.inputs.length !== given.length)
    fail(`its graph has ${body.inputs.length} inputs and ${body.outputs.length} outputs for ${given.length} inputs, ${count} of them scanned`);
  const [states, scans] = [given.slice(0, first), given.slice(first)];
  if (!isOld)
    return yield* scanned(c, run, {
      ...{ body, states, scans, axes: eachOf(c, 'scan_input_axes', count), reversed: eachOf(c, 'scan_input_directions', count) },
      ...{ outAxes: eachOf(c, 'scan_output_axes', outs), outReversed: eachOf(c, 'scan_output_directions', outs) },
    });
  // Before opset 9 the first axis of all values is the batch: each of its places is scanned on its own.
  const batches = shapeOfValue(given[0])[0] ?? fail('its inputs have no axis for the batch');
  if (given.some((value) => shapeOfValue(value)[0] !== batches)) fail('its inputs differ in their number of batches');
  const zeros = new Array<number>(outs).fill(0);
  const kept = new Kept(c, first + outs);
  c.model.budget.walk(0, batches);
  for (let batch = 0; batch < batches; batch++) {
    const own = given.map((value) => placeOf(c, value, 0, batch));
    const form = { body, states: own.slice(0, first), scans: own.slice(first), axes: new Array<number>(count).fill(0) };
    kept.add(yield* scanned(c, run, { ...form, reversed: eachOf(c, 'directions', count), outAxes: zeros, outReversed: zeros }));
    own.forEach(drop);
  }
  const outputs: Value[] = [];
  for (const [k, values] of kept.lists.entries()) outputs.push(yield* gathered(c, values, body.declared[k], 0));
  return outputs;
}

function* sequenceMap(c: Context, run: RunGraph): Reading<Results> {
  const body = graphOf(c, 'body');
  const inputs = c.inputs.map((_, i) => c.value(i));
  const listIn = (value: Value): readonly Value[] | null => (!isDevice(value) && value.kind === 'sequence' ? value.elements : null);
  const elements = listIn(inputs[0]) ?? fail(`${c.what(0)} is ${typeName(inputs[0])}, a sequence is expected`);
  const odd = inputs.findIndex((value) => (listIn(value)?.length ?? elements.length) !== elements.length);
  if (odd >= 0) fail(`${c.what(odd)} has ${listIn(inputs[odd])?.length} elements, the first input ${elements.length}`);
  if (c.node.outputs.length !== body.outputs.length) fail(`its graph has ${body.outputs.length} outputs, the node ${c.node.outputs.length}`);
  const kept = new Kept(c, body.outputs.length);
  for (const i of elements.keys()) {
    c.model.budget.walk();
    kept.add(
      yield* run(
        body,
        inputs.map((value) => listIn(value)?.[i] ?? value),
      ),
    );
  }
  return kept.lists.map((values): Value => ({ kind: 'sequence', elements: values }));
}

const body = attribute('graph', { required: true });

export const CONTROL: Operators = {
  If: { inputs: [1, 1], outputs: [1, NEWEST], attributes: { then_branch: body, else_branch: body }, read: [0], control: branch },
  Loop: {
    inputs: [0, NEWEST], // both may be left out
    outputs: [1, NEWEST],
    attributes: { body },
    where: [0],
    read: [1],
    control: loop,
  },
  Scan: {
    inputs: [0, NEWEST], // the lengths may be left out
    outputs: [1, NEWEST],
    attributes: {
      ...{ body, num_scan_inputs: attribute('int', { required: true }), directions: attribute('ints', { until: 8 }) },
      ...{ scan_input_axes: attribute('ints', { since: 9 }), scan_input_directions: attribute('ints', { since: 9 }) },
      ...{ scan_output_axes: attribute('ints', { since: 9 }), scan_output_directions: attribute('ints', { since: 9 }) },
    },
    control: scan,
  },
  SequenceMap: { inputs: [1, NEWEST], outputs: [1, NEWEST], attributes: { body }, control: sequenceMap },
};
