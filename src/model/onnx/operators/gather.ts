/** Operators that choose elements by index or by value, and those that write them: gathering, scattering, sorting, suppressing. */
import * as ops from '../../../autograd/ops/index.ts';
import { MAX_RANK, normalizeAxis, type Shape, sizeOf, stridesOf } from '../../../tensor/shape.ts';
import { tensor } from '../../../tensor/tensor.ts';
import { type ElementType, wrapped } from '../elements.ts';
import { bounded, chosen, ints as intsOf, like, movedTexts, oneType, roomFor, taken } from '../host.ts';
import {
  attribute,
  type Check,
  type Context,
  type Count,
  fail,
  flag,
  type HostCall,
  indicesOf,
  int,
  MAX_HOST_ELEMENTS,
  NotOnDevice,
  numberOf,
  type Operators,
  plain,
  type Results,
  wordOf,
} from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { type HostTensor, type HostText, isDevice, typeOf, type Value } from '../values.ts';
import { shown } from '../wire.ts';
import { floatWords } from './moves.ts';

/** Most steps that one node may take on the host where they are not bounded by its inputs and outputs. */
const MOST_STEPS = 1 << 26;

/** Counts the steps of sorting so many numbers in lines of so many. Throws a GlimpseError for too many. */
function sorting(call: HostCall, size: number, extent: number): void {
  const steps = Math.ceil(size * Math.log2(extent + 2));
  if (steps > MOST_STEPS) fail(`sorting ${size} numbers on the host takes more than ${MOST_STEPS} steps`);
  call.spend?.(steps);
}

const axisOf = (node: OnnxNode, shape: Shape, otherwise = 0): number => normalizeAxis(numberOf(node, 'axis', otherwise), shape, node.op);

function gather({ node, inputs }: HostCall): HostTensor {
  const [x, indices] = inputs as HostTensor[];
  const axis = axisOf(node, x.shape);
  const shape = bounded([...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)]);
  const places = indicesOf(indices, x.shape[axis]);
  const inner = sizeOf(x.shape.slice(axis + 1));
  const at = new Int32Array(sizeOf(shape));
  for (let outer = 0, k = 0; k < at.length; outer++)
    for (const index of places) for (let i = 0; i < inner; i++) at[k++] = (outer * x.shape[axis] + index) * inner + i;
  return taken(x, shape, at);
}

function gathering(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  const axis = axisOf(c.node, x.shape);
  const indices = c.indices(1, x.shape[axis]);
  const shape = [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)];
  if (shape.length > MAX_RANK) throw new NotOnDevice(`[${shape}] has ${shape.length} axes; at most ${MAX_RANK} are supported`);
  c.model.budget.expect(shape);
  return plain(ops.gather(x, indices, axis), type);
}

/** The places in x of each element of indices, which name its place along the axis. */
function elementPlaces(node: OnnxNode, x: Shape, indices: HostTensor): Int32Array {
  const axis = axisOf(node, x);
  const { shape } = indices;
  if (shape.length !== x.length || shape.some((extent, i) => i !== axis && extent > x[i])) fail(`indices [${shape}] for [${x}] along axis ${axis}`);
  bounded(shape);
  const chosenPlaces = indicesOf(indices, x[axis]);
  const [own, strides] = [stridesOf(shape), stridesOf(x)];
  return Int32Array.from(chosenPlaces, (index, i) =>
    strides.reduce((at, stride, k) => at + stride * (k === axis ? index : Math.floor(i / own[k]) % shape[k]), 0),
  );
}

function gatherElements({ node, inputs }: HostCall): HostTensor {
  const [x, indices] = inputs as HostTensor[];
  return taken(x, indices.shape, elementPlaces(node, x.shape, indices));
}

function gatheringElements(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  const axis = axisOf(c.node, x.shape);
  const indices = c.indices(1, x.shape[axis]);
  c.model.budget.expect(indices.shape);
  return plain(ops.gatherElements(x, indices, axis), type);
}

/** What GatherND and ScatterND address: rows of x by `depth` coordinates, after `batch` axes that both have. */
function rowsOf(x: Shape, indices: Shape, batch: number): { depth: number; shape: number[] } {
  const depth = indices.at(-1) ?? 0;
  const isBatched = x.slice(0, batch).join() === indices.slice(0, batch).join();
  if (indices.length === 0 || !(batch >= 0 && batch < indices.length && batch + depth <= x.length) || !isBatched)
    fail(`indices [${indices}] of [${x}] after ${batch} batch axes`);
  return { depth, shape: [...indices.slice(0, -1), ...x.slice(batch + depth)] };
}

/** Coordinates from 0; negative ones count from the end of their own axis. */
function coordinatesOf(indices: HostTensor, extents: Shape): number[] {
  if (indices.kind !== 'int') fail('indices are whole numbers');
  return Array.from(indices.data, (value, i) => {
    const extent = extents[i % extents.length];
    const at = value < 0 ? value + extent : value;
    return at >= 0 && at < extent ? at : fail(`index ${value} of ${extent} places`);
  });
}

/** Where each addressed row of x begins, and how long it is. */
function rowPlaces(x: Shape, indices: HostTensor, batch: number): { starts: number[]; width: number } {
  const { depth } = rowsOf(x, indices.shape, batch);
  const coordinates = depth === 0 ? [] : coordinatesOf(indices, x.slice(batch, batch + depth));
  const strides = stridesOf(x);
  const count = sizeOf(indices.shape.slice(0, -1));
  const perBatch = sizeOf(indices.shape.slice(batch, -1));
  const outer = sizeOf(x.slice(batch));
  const starts = Array.from({ length: count }, (_, row) => {
    let at = Math.floor(row / perBatch) * outer;
    for (let k = 0; k < depth; k++) at += coordinates[row * depth + k] * strides[batch + k];
    return at;
  });
  return { starts, width: sizeOf(x.slice(batch + depth)) };
}

function gatherNd({ node, inputs }: HostCall): HostTensor {
  const [x, indices] = inputs as HostTensor[];
  const batch = numberOf(node, 'batch_dims', 0);
  const shape = bounded(rowsOf(x.shape, indices.shape, batch).shape);
  bounded(indices.shape);
  if (sizeOf(shape) === 0) return taken(x, shape, []);
  const { starts, width } = rowPlaces(x.shape, indices, batch);
  const at = new Int32Array(sizeOf(shape));
  for (let i = 0; i < at.length; i++) at[i] = starts[Math.floor(i / width)] + (i % width);
  return taken(x, shape, at);
}

/** Input 1 as coordinates on the GPU. */
function coordinates(c: Context, extents: Shape): ReturnType<typeof tensor> {
  const value = c.value(1);
  if (isDevice(value)) return c.indices(1, 0); // made on the GPU: they are none below 0
  const given = c.host(1) as HostTensor;
  return tensor(Uint32Array.from(coordinatesOf(given, extents)), given.shape);
}

function gatheringNd(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  const batch = c.number('batch_dims', 0);
  const { depth, shape } = rowsOf(x.shape, c.shape(1), batch);
  if (depth === 0 || Math.max(shape.length, c.shape(1).length) > MAX_RANK) throw new NotOnDevice(`[${shape}] by ${depth} coordinates`);
  c.model.budget.expect(shape);
  return plain(ops.gatherNd(x, coordinates(c, x.shape.slice(batch, batch + depth)), batch), type);
}

type Reduction = 'none' | 'add' | 'mul' | 'max' | 'min';
const REDUCTIONS: Record<Exclude<Reduction, 'none'>, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  mul: (a, b) => a * b,
  max: Math.max,
  min: Math.min,
};
const reductionOf = (node: OnnxNode): Reduction => wordOf(node, 'reduction', 'none') as Reduction;

function checkScatter(node: OnnxNode, c: Check): void {
  const known = ['none', 'add', 'mul', ...(node.opset >= 18 ? ['max', 'min'] : [])];
  const word = reductionOf(node);
  if (!known.includes(word)) c.fail(`reduction "${shown(word)}" in opset ${node.opset}; ${known.join(', ')} are known`);
}

/** x with updates written at places, one after the other. */
function written(node: OnnxNode, x: HostTensor, updates: HostTensor, count: number, place: (i: number) => number): HostTensor {
  const type: ElementType = oneType([x, updates]);
  const reduction = reductionOf(node);
  if (reduction !== 'none' && (x.type === 'string' || (type.name === 'bool' && (reduction === 'add' || reduction === 'mul'))))
    fail(`reduction ${reduction} of ${x.type ?? type.name}`);
  bounded(x.shape);
  const data = roomFor(x, x.data.length);
  for (let i = 0; i < data.length; i++) data[i] = x.data[i];
  if (reduction === 'none') for (let i = 0; i < count; i++) data[place(i)] = updates.data[i];
  else {
    const joined = REDUCTIONS[reduction];
    for (let i = 0; i < count; i++) {
      const at = place(i);
      const value = type.bytes === 4 && type.kind === 'int' && reduction === 'mul' ? Math.imul(data[at], updates.data[i]) : joined(data[at], updates.data[i]);
      data[at] = type.kind === 'float' ? value : (wrapped(type, value + 0) ?? fail(`${value}, which ${type.name} holds beyond 2^53 only`));
    }
  }
  return x.kind === 'float' && reduction !== 'none' ? like(x, x.shape, data) : { ...x, data };
}

function scatterElements({ node, inputs }: HostCall): HostTensor {
  const [x, indices, updates] = inputs as HostTensor[];
  if (indices.shape.join() !== updates.shape.join()) fail(`indices [${indices.shape}] and updates [${updates.shape}] differ`);
  const at = elementPlaces(node, x.shape, indices);
  return written(node, x, updates, at.length, (i) => at[i]);
}

function scatteringElements(c: Context): Value {
  const { tensor: x, type } = floatWords(c, 0);
  const axis = axisOf(c.node, x.shape);
  const { tensor: updates, type: other } = floatWords(c, 2);
  if (reductionOf(c.node) !== 'none' && typeOf(plain(x, type)).kind === 'int') throw new NotOnDevice(`a reduction of ${type}`); // they wrap round
  if ((type === 'bool') !== (other === 'bool')) fail('data and updates differ in type');
  c.model.budget.expect(x.shape);
  return plain(ops.scatterElements(x, c.indices(1, x.shape[axis]), updates, axis, reductionOf(c.node)), type);
}

function scatterNd({ node, inputs }: HostCall): HostTensor {
  const [x, indices, updates] = inputs as HostTensor[];
  const { shape } = rowsOf(x.shape, indices.shape, 0);
  if (shape.join() !== updates.shape.join()) fail(`updates [${updates.shape}] for indices [${indices.shape}] of [${x.shape}]: [${shape}] is expected`);
  bounded(shape);
  bounded(indices.shape);
  const { starts, width } = rowPlaces(x.shape, indices, 0);
  return written(node, x, updates, sizeOf(shape), (i) => starts[Math.floor(i / width)] + (i % width));
}

function scatteringNd(c: Context): Value {
  const { tensor: x, type } = floatWords(c, 0);
  const { depth } = rowsOf(x.shape, c.shape(1), 0);
  if (depth === 0 || c.shape(1).length > MAX_RANK) throw new NotOnDevice(`indices of [${c.shape(1)}]`);
  const { tensor: updates, type: other } = floatWords(c, 2);
  if (reductionOf(c.node) !== 'none' && typeOf(plain(x, type)).kind === 'int') throw new NotOnDevice(`a reduction of ${type}`); // they wrap round
  if ((type === 'bool') !== (other === 'bool')) fail('data and updates differ in type');
  c.model.budget.expect(x.shape);
  return plain(ops.scatterNd(x, coordinates(c, x.shape.slice(0, depth)), updates, reductionOf(c.node)), type);
}

/** The places that a Compress keeps along its axis; without one, those of all elements in a row. */
function keptOf(node: OnnxNode, given: HostTensor | null | undefined, shape: Shape): { axis: number | null; kept: number[] } {
  const axis = node.attributes.has('axis') ? axisOf(node, shape) : null;
  const extent = axis === null ? sizeOf(shape) : shape[axis];
  if (given?.shape.length !== 1 || typeOf(given).name !== 'bool' || given.data.length > extent)
    return fail(
      `a condition of ${given ? `${typeOf(given).name} [${given.shape}]` : 'nothing'} for ${extent} places; at most as many truth values are expected`,
    );
  const kept: number[] = [];
  for (let i = 0; i < given.data.length; i++) if (given.data[i] !== 0) kept.push(i);
  return { axis, kept };
}

function compress({ node, inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const { axis, kept } = keptOf(node, inputs[1], x.shape);
  if (axis === null) return taken(x, [kept.length], kept);
  return chosen(x, x.shape.with(axis, kept.length), (each, i) => (each === axis ? kept[i] : i));
}

function compressing(c: Context): Value {
  const { tensor: x, type } = c.words(0);
  const { axis, kept } = keptOf(c.node, c.host(1), x.shape);
  const from = axis === null ? ops.reshape(x, [x.size]) : x;
  return plain(ops.gather(from, tensor(Uint32Array.from(kept)), axis ?? 0), type);
}

/** The places of what is not 0: one row an axis, one column an element. */
function nonZero({ inputs }: HostCall): HostTensor {
  const x = inputs[0] as HostTensor;
  const found: number[] = [];
  for (let i = 0; i < x.data.length; i++) if (x.data[i] !== 0) found.push(i);
  const strides = stridesOf(x.shape);
  const shape = bounded([x.shape.length, found.length]);
  return intsOf(
    shape,
    x.shape.flatMap((extent, axis) => found.map((i) => Math.floor(i / strides[axis]) % extent)),
  );
}

interface OneHot {
  axis: number;
  depth: number;
  shape: number[];
}

function oneHotOf(node: OnnxNode, indices: Shape, depths: HostTensor | null | undefined): OneHot {
  const depth = Math.trunc(depths?.data[0] ?? 0);
  if (depths?.data.length !== 1 || !(depth >= 0)) fail(`a depth of [${depths ? Array.from(depths.data).slice(0, 4) : ''}], one number is expected`);
  const given = numberOf(node, 'axis', -1);
  const axis = given < 0 ? given + indices.length + 1 : given;
  if (!(axis >= 0 && axis <= indices.length)) fail(`axis ${given} of the result of [${indices}]`);
  return { axis, depth, shape: indices.toSpliced(axis, 0, depth) };
}

/** The off and the on value. */
const pairIn = (values: HostTensor): [number, number] =>
  values.data.length === 2 && values.shape.length === 1 ? [values.data[0], values.data[1]] : fail(`values [${values.shape}], off and on are expected`);

function oneHot({ node, inputs }: HostCall): HostTensor {
  const [indices, depths, values] = inputs as HostTensor[];
  const { axis, depth, shape } = oneHotOf(node, indices.shape, depths);
  bounded(shape);
  const [off, on] = pairIn(values);
  const data = roomFor(values, sizeOf(shape)).fill(off);
  const inner = sizeOf(indices.shape.slice(axis));
  for (let i = 0; i < indices.data.length; i++) {
    const index = Math.trunc(indices.data[i]);
    const at = index < 0 ? index + depth : index;
    if (at >= 0 && at < depth) data[(Math.floor(i / inner) * depth + at) * inner + (i % inner)] = on; // a place outside is off everywhere
  }
  return { ...values, shape, data };
}

/** A code of floats. That of an index outside is off everywhere. */
function oneHotting(c: Context): Value {
  const indices = c.value(0);
  const values = c.numbers(2) as HostTensor;
  if (typeOf(values).kind === 'int' || (isDevice(indices) && indices.tensor.dtype !== 'u32')) throw new NotOnDevice(`a one-hot code of ${typeOf(values).name}`);
  const { axis, depth, shape } = oneHotOf(c.node, c.shape(0), c.numbers(1));
  const [off, on] = pairIn(values);
  if (shape.length > MAX_RANK) throw new NotOnDevice(`[${shape}] has ${shape.length} axes; at most ${MAX_RANK} are supported`);
  c.model.budget.expect(shape);
  if (isDevice(indices)) {
    if (Number.isNaN(on) || Number.isNaN(off)) throw new NotOnDevice('a one-hot code of NaN');
    const code = ops.oneHot(c.indices(0, depth), depth, { axis, on, off });
    return plain(ops.where(ops.isNan(code), tensor([off], []), code), values.type); // the engine's code of an index outside is NaN
  }
  const given = c.numbers(0) as HostTensor;
  const places = Uint32Array.from(given.data, (value) => {
    const index = Math.trunc(value);
    const at = index < 0 ? index + depth : index;
    return at >= 0 && at < depth ? at : depth; // one place too many takes what is on nowhere
  });
  const wide = ops.oneHot(tensor(places, given.shape), depth + 1, { axis, on, off });
  return plain(
    ops.slice(
      wide,
      shape.map(() => 0),
      shape,
    ),
    values.type,
  );
}

/** Numbers in rising order; NaN counts as the largest. */
const rising = (a: number, b: number): number => (Number.isNaN(a) ? (Number.isNaN(b) ? 0 : 1) : Number.isNaN(b) ? -1 : a - b || (a === b ? 0 : a < b ? -1 : 1));

interface TopK {
  axis: number;
  k: number;
  isLargest: boolean;
  shape: number[];
}

function topKOf(node: OnnxNode, given: HostTensor | null | undefined, shape: Shape): TopK {
  const axis = axisOf(node, shape, -1);
  if (given && given.data.length !== 1) fail(`k is [${given.shape}], one number is expected`);
  const k = given?.data[0] ?? numberOf(node, 'k', 0);
  if (!(k >= 0 && k <= shape[axis])) fail(`the ${k} first of ${shape[axis]} places`);
  return { axis, k, isLargest: numberOf(node, 'largest', 1) === 1, shape: shape.with(axis, k) };
}

/** The k largest or smallest along an axis, and where they are. Of equal ones the first comes first, a NaN before all numbers. */
function topK(call: HostCall): HostTensor[] {
  const { node, inputs } = call;
  const x = inputs[0] as HostTensor;
  const { axis, k, isLargest, shape } = topKOf(node, inputs[1], x.shape);
  bounded(shape);
  const extent = x.shape[axis];
  const inner = sizeOf(x.shape.slice(axis + 1));
  const outer = sizeOf(x.shape.slice(0, axis));
  sorting(call, x.data.length, extent);
  const better = (a: number, b: number) => Number(Number.isNaN(b)) - Number(Number.isNaN(a)) || (isLargest ? rising(b, a) : rising(a, b));
  const at = new Int32Array(sizeOf(shape));
  const indices = new Array<number>(at.length).fill(0);
  if (at.length > 0)
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        const start = o * extent * inner + i;
        const order = Array.from({ length: extent }, (_, j) => j).sort((a, b) => better(x.data[start + a * inner], x.data[start + b * inner]) || a - b);
        for (let j = 0; j < k; j++) {
          const to = (o * k + j) * inner + i;
          at[to] = start + order[j] * inner;
          indices[to] = order[j];
        }
      }
  return [taken(x, [...shape], at), intsOf([...shape], indices)];
}

function topKing(c: Context): Results {
  const { tensor: x, type } = floatWords(c, 0);
  const { axis, k, isLargest } = topKOf(c.node, c.host(1), x.shape);
  if (k === 0 || x.size === 0) throw new NotOnDevice('the first 0 places');
  c.model.budget.expect(x.shape, Math.ceil(Math.log2(x.shape[axis] + 1)) ** 2);
  const { values, indices } = ops.topK(x, k, 0, { axis, smallest: !isLargest });
  return [plain(values, type), plain(indices, 'int64')];
}

/** Distinct elements, or slices along an axis: where each is first, the number of each of the inputs, and how often each comes. */
function unique(
  call: HostCall,
  shape: number[],
  compare: (a: number, b: number) => number,
): { at: number[]; inverse: number[]; counts: number[]; axis: number | null } {
  const { node } = call;
  const axis = node.attributes.has('axis') ? axisOf(node, shape) : null;
  const extent = axis === null ? sizeOf(shape) : shape[axis];
  const [outer, inner] = axis === null ? [1, 1] : [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis + 1))];
  sorting(call, sizeOf(shape), extent);
  const slices = (a: number, b: number): number => {
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        const found = compare((o * extent + a) * inner + i, (o * extent + b) * inner + i);
        if (found !== 0) return found;
      }
    return 0;
  };
  const order = Array.from({ length: extent }, (_, i) => i).sort((a, b) => slices(a, b) || a - b);
  const groups: number[][] = [];
  for (const [k, place] of order.entries()) {
    if (k > 0 && slices(order[k - 1], place) === 0) groups[groups.length - 1].push(place);
    else groups.push([place]);
  }
  if (numberOf(node, 'sorted', 1) === 0) groups.sort((a, b) => a[0] - b[0]);
  const inverse = new Array<number>(extent).fill(0);
  for (const [k, group] of groups.entries()) for (const place of group) inverse[place] = k;
  return { at: groups.map((group) => group[0]), inverse, counts: groups.map((group) => group.length), axis };
}

function uniqueOf(call: HostCall, compare?: (a: number, b: number) => number): HostTensor[] {
  const x = call.inputs[0] as HostTensor;
  bounded(x.shape);
  const { at, inverse, counts, axis } = unique(call, x.shape, compare ?? ((a, b) => rising(x.data[a], x.data[b])));
  const values = axis === null ? taken(x, [at.length], at) : chosen(x, x.shape.with(axis, at.length), (each, i) => (each === axis ? at[i] : i));
  return [values, intsOf([at.length], at), intsOf([inverse.length], inverse), intsOf([counts.length], counts)];
}

function uniqueTexts(c: Context): Results | null {
  const x = c.value(0);
  if (isDevice(x) || x.kind !== 'text') return null;
  const places: HostTensor = { kind: 'int', shape: x.shape, data: x.data.map((_, i) => i) };
  const [values, ...rest] = uniqueOf({ node: c.node, opset: c.opset, inputs: [places], spend: (steps) => c.model.budget.spend(steps) }, (a, b) =>
    x.data[a] < x.data[b] ? -1 : x.data[a] > x.data[b] ? 1 : 0,
  );
  const texts: HostText = { kind: 'text', shape: values.shape, data: Array.from(values.data, (place) => x.data[place]) };
  return [texts, ...rest];
}

/** The part that two boxes share of what they cover together. */
function overlap(boxes: ArrayLike<number>, a: number, b: number): number {
  const shared = (low: number, high: number) => Math.max(0, Math.min(boxes[a + high], boxes[b + high]) - Math.max(boxes[a + low], boxes[b + low]));
  const area = (box: number) => (boxes[box + 2] - boxes[box]) * (boxes[box + 3] - boxes[box + 1]);
  const common = shared(0, 2) * shared(1, 3);
  const [first, second] = [area(a), area(b)];
  return first <= 0 || second <= 0 || common <= 0 ? 0 : common / (first + second - common);
}

/** Boxes of the best scores, class by class, none of which covers too much of a better one. */
function nonMaxSuppression(call: HostCall): HostTensor {
  const { node, inputs } = call;
  const [boxes, scores] = inputs as HostTensor[];
  const number = (i: number) => {
    const given = inputs[i];
    if (given && given.data.length !== 1) fail(`input ${i} is [${given.shape}], one number is expected`);
    return given?.data[0];
  };
  const [most, least, floor] = [number(2) ?? 0, number(3) ?? 0, number(4)];
  const [batches, count, four] = boxes.shape;
  const classes = scores.shape[1];
  if (boxes.shape.length !== 3 || four !== 4 || scores.shape.join() !== [batches, classes, count].join())
    fail(`boxes [${boxes.shape}] and scores [${scores.shape}]; [N, M, 4] and [N, classes, M] are expected`);
  if (!(least >= 0 && least <= 1)) fail(`an iou_threshold of ${least}, 0 to 1 is expected`);
  const isCenter = numberOf(node, 'center_point_box', 0) === 1;
  // y1, x1, y2, x2, the smaller ones first
  const corners = Float32Array.from({ length: boxes.data.length }, (_, i) => {
    const start = i - (i % 4);
    const side = i % 4;
    if (isCenter) {
      // x, y, width, height
      const [center, extent] = side % 2 === 0 ? [boxes.data[start + 1], boxes.data[start + 3]] : [boxes.data[start], boxes.data[start + 2]];
      return side < 2 ? center - extent / 2 : center + extent / 2;
    }
    const [a, b] = [boxes.data[start + (side % 2)], boxes.data[start + 2 + (side % 2)]];
    return side < 2 ? Math.min(a, b) : Math.max(a, b);
  });
  const found: number[] = [];
  let steps = 0;
  for (let batch = 0; count > 0 && batch < batches; batch++)
    for (let of = 0; of < classes; of++) {
      const score = (batch * classes + of) * count;
      const order: number[] = [];
      for (let i = 0; i < count; i++) if (floor === undefined || scores.data[score + i] > floor) order.push(i);
      order.sort((a, b) => scores.data[score + b] - scores.data[score + a] || a - b);
      const kept: number[] = [];
      for (const box of order) {
        if (kept.length >= most) break;
        steps += kept.length + 1;
        if (steps > MOST_STEPS) fail(`more than ${MOST_STEPS} pairs of boxes to compare`);
        call.spend?.(kept.length + 1);
        if (kept.every((other) => overlap(corners, 4 * (batch * count + other), 4 * (batch * count + box)) <= least)) kept.push(box);
      }
      for (const box of kept) found.push(batch, of, box);
      if (found.length > MAX_HOST_ELEMENTS) fail(`more than ${MAX_HOST_ELEMENTS / 3} boxes`);
    }
  return intsOf([found.length / 3, 3], found);
}

const TWO: Count = [2, 2];
const THREE: Count = [3, 3];
const scattering = { inputs: THREE, check: checkScatter, any: movedTexts(scatterElements), host: scatterElements, device: scatteringElements };

export const GATHER: Operators = {
  Gather: { inputs: TWO, attributes: { axis: int }, any: movedTexts(gather), host: gather, device: gathering },
  GatherElements: { inputs: TWO, attributes: { axis: int }, any: movedTexts(gatherElements), host: gatherElements, device: gatheringElements },
  GatherND: { inputs: TWO, attributes: { batch_dims: attribute('int', { since: 12 }) }, any: movedTexts(gatherNd), host: gatherNd, device: gatheringNd },
  Scatter: { ...scattering, attributes: { axis: int } },
  ScatterElements: { ...scattering, attributes: { axis: int, reduction: attribute('string', { since: 16 }) } },
  ScatterND: {
    inputs: THREE,
    attributes: { reduction: attribute('string', { since: 16 }) },
    check: checkScatter,
    any: movedTexts(scatterNd),
    host: scatterNd,
    device: scatteringNd,
  },
  Compress: { inputs: TWO, attributes: { axis: int }, read: [1], any: movedTexts(compress), host: compress, device: compressing },
  NonZero: { inputs: [1, 1], attributes: {}, host: nonZero },
  OneHot: { inputs: THREE, attributes: { axis: int }, read: [1, 2], host: oneHot, device: oneHotting },
  TopK: {
    inputs: (opset) => (opset >= 10 ? TWO : [1, 1]),
    outputs: TWO,
    attributes: {
      axis: int,
      k: attribute('int', { until: 9, required: true }),
      largest: attribute('flag', { since: 11 }),
      sorted: attribute('flag', { since: 11 }),
    },
    where: [1],
    host: topK,
    device: topKing,
  },
  Unique: { inputs: [1, 1], outputs: [1, 4], attributes: { axis: int, sorted: flag }, any: uniqueTexts, host: (call) => uniqueOf(call) },
  NonMaxSuppression: { inputs: [2, 5], attributes: { center_point_box: flag }, host: nonMaxSuppression },
};
