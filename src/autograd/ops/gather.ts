/**
 * Ops that pick and place elements by index: gather and scatter along an axis, by elements, and by whole places. Sums over repeated
 * indices are always taken in the same order: the indices are sorted first, in n log² n steps for n of them.
 */
import { GlimpseError, ShapeError } from '../../errors.ts';
import {
  gatherRows,
  gatherRowsGrad,
  type ScatterReduction,
  type Selection,
  scatterRows,
  scatterRowsGradUpdates,
  scatterRowsGradX,
} from '../../kernels/gather.ts';
import { normalizeAxis, placeOf, type Shape, sameShape, sizeOf, stridesOf } from '../../tensor/shape.ts';
import { empty, type Tensor } from '../../tensor/tensor.ts';
import { type Cost, type Op, type OpCase, type Reference, reference, streamingCost } from '../op.ts';
import { apply } from '../tape.ts';

const IDS = 'Ids from the host that are not are refused';

/** How an op selects: the rows as the kernels take them, and for one element of what is selected, its place in x (the reference). */
interface Selector<A> {
  selection(x: Shape, ids: Shape, attrs: A): Selection;
  /** The element of x that belongs to element i of the result of a gather, or of the updates of a scatter; −1 if there is none. */
  source(x: Shape, ids: Reference, attrs: A, i: number): number;
  /** The largest extent that an id of this op counts in. */
  below(x: Shape, ids: Shape, attrs: A): number;
}

interface AxisAttrs {
  axis: number;
}

const alongAxis: Selector<AxisAttrs> = {
  selection: (x, ids, { axis }) => ({
    shape: [sizeOf(x.slice(0, axis)), sizeOf(ids)],
    baseStrides: [x[axis], 0],
    idStrides: [0, 1],
    extents: [x[axis]],
    steps: [1],
    width: sizeOf(x.slice(axis + 1)),
  }),
  source: (x, ids, { axis }, i) => {
    const inner = sizeOf(x.slice(axis + 1));
    const id = ids.data[Math.floor(i / inner) % ids.data.length];
    return id < x[axis] ? (Math.floor(i / inner / ids.data.length) * x[axis] + id) * inner + (i % inner) : -1;
  },
  below: (x, _ids, { axis }) => x[axis],
};

/** Each index selects the element of x that stands at its own place, but for the axis. */
export function elementSelection(x: Shape, ids: Shape, axis: number): Selection {
  const strides = stridesOf(x);
  return { shape: ids, baseStrides: strides.with(axis, 0), idStrides: stridesOf(ids), extents: [x[axis]], steps: [strides[axis]], width: 1 };
}

const byElement: Selector<AxisAttrs> = {
  selection: (x, ids, { axis }) => elementSelection(x, ids, axis),
  source: (x, ids, { axis }, i) => {
    const place = placeOf(i, ids.shape).with(axis, ids.data[i]);
    return ids.data[i] < x[axis] ? place.reduce((at, index, k) => at * x[k] + index, 0) : -1;
  },
  below: (x, _ids, { axis }) => x[axis],
};

interface PlaceAttrs {
  batchDims: number;
}

const byPlace: Selector<PlaceAttrs> = {
  selection: (x, ids, { batchDims }) => {
    const components = ids[ids.length - 1];
    const extents = x.slice(batchDims, batchDims + components);
    const [batch, places] = [sizeOf(ids.slice(0, batchDims)), sizeOf(ids.slice(batchDims, -1))];
    return {
      shape: [batch, places],
      baseStrides: [sizeOf(extents), 0],
      idStrides: [places * components, components],
      extents,
      steps: stridesOf(extents),
      width: sizeOf(x.slice(batchDims + components)),
    };
  },
  source: (x, ids, { batchDims }, i) => {
    const components = ids.shape[ids.shape.length - 1];
    const width = sizeOf(x.slice(batchDims + components));
    const row = Math.floor(i / width);
    const place = [...ids.data.subarray(row * components, (row + 1) * components)];
    if (place.some((id, k) => id >= x[batchDims + k])) return -1;
    const batch = placeOf(row, ids.shape.slice(0, -1)).slice(0, batchDims);
    return [...batch, ...place].reduce((at, index, k) => at * x[k] + index, 0) * width + (i % width);
  },
  below: (x, ids, { batchDims }) => Math.max(...x.slice(batchDims, batchDims + ids[ids.length - 1])),
};

/** Throws a ShapeError if the indices do not fit beside x: as many axes, and no longer than x but along the axis. */
function expectBeside(op: string, x: Shape, ids: Shape, axis: number): void {
  if (ids.length !== x.length || ids.some((extent, i) => i !== axis && extent > x[i]))
    throw new ShapeError(`${op} along axis ${axis}: indices [${ids}] have other axes than x [${x}], or reach beyond it elsewhere`);
}

/** The shape of what is selected by places [...batch, ..., K]. */
function placedShape(op: string, x: Shape, ids: Shape, batchDims: number): number[] {
  const components = ids[ids.length - 1] ?? 0;
  const isWhole = Number.isSafeInteger(batchDims) && batchDims >= 0 && batchDims < ids.length;
  if (!isWhole || components < 1 || batchDims + components > x.length || !sameShape(ids.slice(0, batchDims), x.slice(0, batchDims)))
    throw new ShapeError(`${op}: indices [${ids}] are no places in x [${x}]${batchDims ? ` behind ${batchDims} axes of both` : ''}`);
  return [...ids.slice(0, -1), ...x.slice(batchDims + components)];
}

interface Says {
  equation: string;
  gradient: string;
  ids: string;
  y: string;
  example: string;
  refused: readonly string[];
}

function gatherOp<A>(name: string, selector: Selector<A>, shape: (x: Shape, ids: Shape, attrs: A) => number[], says: Says, cases: readonly OpCase<A>[]): Op<A> {
  return {
    name,
    doc: {
      equation: says.equation,
      gradient: says.gradient,
      tensors: {
        x: 'any shape, any type',
        indices: `${says.ids}. ${IDS}; one made on the device gives NaN and no gradient`,
        y: `${says.y}, of the type of x; the NaN of whole numbers is 2143289344`,
      },
      example: says.example,
      refused: says.refused,
    },
    anyType: true,
    inputs: ['x', 'indices'],
    inputTypes: ['f32', 'u32'],
    ids: { indices: { below: ([x, ids], attrs) => selector.below(x, ids, attrs) } },
    outputs: ['y'],
    shape: ([x, ids], attrs) => [shape(x, ids, attrs)],
    forward: ({ gpu, inputs: [x, ids], outputs: [y], attrs, label }) =>
      gatherRows(gpu, x.slice, ids.slice, y.slice, selector.selection(x.shape, ids.shape, attrs), label),
    saves: ['indices'],
    backward: ({ gpu, saved: { indices }, grads: [dy], inputShapes: [x, ids], attrs, label }) => [
      () => {
        const dx = empty(x, 'f32', label);
        gatherRowsGrad(gpu, dy.slice, indices.slice, dx.slice, selector.selection(x, ids, attrs), label);
        return dx;
      },
      null,
    ],
    reference: ([x, ids], attrs) => [
      reference(shape(x.shape, ids.shape, attrs), (i) => {
        const at = selector.source(x.shape, ids, attrs, i);
        return at < 0 ? Number.NaN : x.data[at];
      }),
    ],
    cost: ([, ids], outputs): Cost => ({ flops: 0, bytes: 4 * sizeOf(ids) + 8 * sizeOf(outputs[0]) }),
    cases,
  };
}

export const gatherOps = {
  gather: gatherOp<AxisAttrs>(
    'gather',
    alongAxis,
    (x, ids, { axis }) => [...x.slice(0, axis), ...ids, ...x.slice(axis + 1)],
    {
      equation: 'y[…, j…, …] = x[…, indices[j…], …], the index along the axis',
      gradient: 'dx[…, v, …] = Σ dy over the places whose index is v',
      ids: 'any shape, each below the extent of the axis',
      y: 'as x, with the axes of the indices in place of the axis',
      example: 'ops.gather(tensor([1, 2, 3, 4, 5, 6], [2, 3]), tensor(new Uint32Array([2, 0])), 1)',
      refused: ['ops.gather(zeros([2, 3]), tensor(new Uint32Array([0, 3])), 1)', 'ops.gather(zeros([2, 3]), zeros([2], "u32"), 2)'],
    },
    [
      {
        name: 'middle axis, repeated',
        shapes: [
          [3, 11, 7],
          [5, 13],
        ],
        attrs: { axis: 1 },
        draw: ['normal', 'ids:11'],
      },
      { name: 'rows', shapes: [[37, 67], [19]], attrs: { axis: 0 }, draw: ['normal', 'ids:37'] },
      { name: 'last axis, more indices than a block sorts', shapes: [[3, 29], [683]], attrs: { axis: 1 }, draw: ['normal', 'ids:29'] },
      { name: 'one number, no axis of its own', shapes: [[3, 5], []], attrs: { axis: 0 }, draw: ['normal', 'ids:3'] },
    ],
  ),
  gatherElements: gatherOp<AxisAttrs>(
    'gatherElements',
    byElement,
    (x, ids, { axis }) => {
      expectBeside('gatherElements', x, ids, axis);
      return [...ids];
    },
    {
      equation: 'y[…, j, …] = x[…, indices[…, j, …], …], the index along the axis',
      gradient: 'dx = the sum of dy over the places that took each element',
      ids: 'as many axes as x and no longer but along the axis, each below the extent of the axis',
      y: 'as the indices',
      example: 'ops.gatherElements(tensor([1, 2, 3, 4], [2, 2]), tensor(new Uint32Array([0, 0, 1, 0]), [2, 2]), 1)',
      refused: ['ops.gatherElements(zeros([2, 3]), zeros([3, 3], "u32"), 1)', 'ops.gatherElements(zeros([2, 3]), zeros([2], "u32"), 0)'],
    },
    [
      {
        name: 'middle axis',
        shapes: [
          [3, 11, 7],
          [3, 23, 7],
        ],
        attrs: { axis: 1 },
        draw: ['normal', 'ids:11'],
      },
      {
        name: 'first axis, shorter elsewhere',
        shapes: [
          [17, 41],
          [31, 37],
        ],
        attrs: { axis: 0 },
        draw: ['normal', 'ids:17'],
      },
      {
        name: 'last axis',
        shapes: [
          [5, 3],
          [5, 2],
        ],
        attrs: { axis: 1 },
        draw: ['normal', 'ids:3'],
      },
    ],
  ),
  gatherNd: gatherOp<PlaceAttrs>(
    'gatherNd',
    byPlace,
    (x, ids, { batchDims }) => placedShape('gatherNd', x, ids, batchDims),
    {
      equation: 'y[b…, j…] = x[b…, indices[b…, j…]]: the last axis of the indices is a place in x behind the batch',
      gradient: 'dx[b…, place] = Σ dy over the indices that name the place',
      ids: '[…batch, …, K]: K indices a place, each below its extent of x',
      y: '[…batch, …, what x has behind the place]',
      example: 'ops.gatherNd(tensor([1, 2, 3, 4], [2, 2]), tensor(new Uint32Array([1, 0, 0, 1]), [2, 2]))',
      refused: ['ops.gatherNd(zeros([2, 3]), zeros([4, 3], "u32"))', 'ops.gatherNd(zeros([2, 3]), zeros([3, 1], "u32"), 1)'],
    },
    [
      {
        name: 'whole places',
        shapes: [
          [7, 5, 7],
          [83, 3],
        ],
        attrs: { batchDims: 0 },
        draw: ['normal', 'ids:5'],
      },
      {
        name: 'rows behind a batch',
        shapes: [
          [3, 7, 5, 11],
          [3, 13, 2],
        ],
        attrs: { batchDims: 1 },
        draw: ['normal', 'ids:5'],
      },
      { name: 'one place', shapes: [[3, 4], [1]], attrs: { batchDims: 0 }, draw: ['normal', 'ids:3'] },
    ],
  ),
};

type Reducing<A> = A & { reduction: ScatterReduction };
const JOIN: Record<ScatterReduction, (old: number, update: number) => number> = {
  none: (_old, update) => update,
  add: (old, update) => old + update,
  mul: (old, update) => old * update,
  max: Math.max,
  min: Math.min,
};

function scatterOp<A>(
  name: string,
  selector: Selector<A>,
  shape: (shapes: readonly Shape[], attrs: A) => number[],
  kinds: readonly ScatterReduction[],
  says: Pick<Says, 'ids' | 'example' | 'refused'> & { updates: string },
  cases: readonly OpCase<Reducing<A>>[],
): Op<Reducing<A>> {
  const overwrites = kinds.includes('none');
  return {
    name,
    doc: {
      equation: overwrites
        ? 'y = x, but where indices name an element: there its last update, or for `add` x and the sum of its updates'
        : 'y = x, but where indices name an element: there the product, the largest or the smallest of x and its updates',
      ...(overwrites
        ? { gradient: 'none: dupdates = dy at the last update of each element, dx = dy at the others; add: dx = dy, dupdates = dy[indices]' }
        : {}),
      tensors: {
        x: `any shape${overwrites ? '; any type, for `none`' : ''}`,
        indices: `${says.ids}. ${IDS}; with one made on the device all of y is NaN, and there is no gradient`,
        updates: says.updates,
        y: `as x${overwrites ? ', of its type' : ''}`,
      },
      example: says.example,
      refused: says.refused,
    },
    anyType: overwrites,
    inputs: ['x', 'indices', 'updates'],
    inputTypes: ['f32', 'u32', 'f32'],
    ids: { indices: { below: ([x, ids], attrs) => selector.below(x, ids, attrs) } },
    outputs: ['y'],
    shape: (shapes, attrs) => [shape(shapes, attrs)],
    forward: ({ gpu, inputs: [x, ids, updates], outputs: [y], attrs, label }) => {
      if (attrs.reduction !== 'none' && x.dtype !== 'f32') throw new GlimpseError(`${name}: ${attrs.reduction} joins f32, x is ${x.dtype}`);
      scatterRows(gpu, x.slice, ids.slice, updates.slice, y.slice, x.size, selector.selection(x.shape, ids.shape, attrs), attrs.reduction, label);
    },
    ...(overwrites ? { saves: ['indices'] } : {}),
    backward: overwrites
      ? ({ gpu, saved: { indices }, grads: [dy], inputShapes: [x, ids, updates], attrs, label }) => {
          const selection = () => selector.selection(x, ids, attrs);
          const added = attrs.reduction === 'add';
          return [
            () => {
              const dx = empty(x, 'f32', label);
              scatterRowsGradX(gpu, dy.slice, indices.slice, dx.slice, dy.size, selection(), added, label);
              return dx;
            },
            null,
            () => {
              const dupdates = empty(updates, 'f32', label);
              scatterRowsGradUpdates(gpu, dy.slice, indices.slice, dupdates.slice, selection(), added, label);
              return dupdates;
            },
          ];
        }
      : 'a product would need the product of all others, and equal extremes would share one slope; use `add` or `none` where a gradient is wanted',
    reference: ([x, ids, updates], attrs) => {
      const out = reference(x.shape, (i) => x.data[i]);
      let isKnown = true;
      updates.data.forEach((update, i) => {
        const at = selector.source(x.shape, ids, attrs, i);
        if (at < 0) isKnown = false;
        else out.data[at] = JOIN[attrs.reduction](out.data[at], update);
      });
      return [isKnown ? out : reference(x.shape, () => Number.NaN)];
    },
    cost: (shapes, outputs) => ({ ...streamingCost(shapes, outputs, 0), flops: sizeOf(shapes[2]) }),
    cases,
  };
}

function elementShape(name: string): (shapes: readonly Shape[], attrs: AxisAttrs) => number[] {
  return ([x, ids, updates], { axis }) => {
    expectBeside(name, x, ids, axis);
    if (!sameShape(ids, updates)) throw new ShapeError(`${name}: indices [${ids}] and updates [${updates}] differ`);
    return [...x];
  };
}

function rowShape(name: string): (shapes: readonly Shape[], attrs: PlaceAttrs) => number[] {
  return ([x, ids, updates], { batchDims }) => {
    const wanted = placedShape(name, x, ids, batchDims);
    if (!sameShape(wanted, updates)) throw new ShapeError(`${name}: updates [${updates}] of x [${x}] at indices [${ids}] must be [${wanted}]`);
    return [...x];
  };
}

const ELEMENTS = { ids: 'as many axes as x and no longer but along the axis, each below the extent of the axis', updates: 'as the indices' };
const PLACES = { ids: '[…, K]: K indices a place, each below its extent of x', updates: '[…, what x has behind the place]' };
const elements = (reduction: ScatterReduction, name: string, x: Shape, ids: Shape, axis: number): OpCase<Reducing<AxisAttrs>> => ({
  ...{ name: `${reduction}, ${name}`, shapes: [x, ids, ids], attrs: { axis, reduction } },
  draw: ['normal', `ids:${x[axis]}`, 'normal'],
});
const places = (reduction: ScatterReduction, name: string, x: Shape, ids: Shape, bound: number): OpCase<Reducing<PlaceAttrs>> => ({
  ...{ name: `${reduction}, ${name}`, shapes: [x, ids, [...ids.slice(0, -1), ...x.slice(ids[ids.length - 1])]], attrs: { batchDims: 0, reduction } },
  draw: ['normal', `ids:${bound}`, 'normal'],
});

export const scatterOps = {
  scatterElements: scatterOp<AxisAttrs>(
    'scatterElements',
    byElement,
    elementShape('scatterElements'),
    ['none', 'add'],
    {
      ...ELEMENTS,
      example: 'ops.scatterElements(zeros([1, 4]), tensor(new Uint32Array([2, 0, 2]), [1, 3]), tensor([5, 6, 7], [1, 3]), 1)',
      refused: ['ops.scatterElements(zeros([2, 3]), zeros([2, 2], "u32"), zeros([2, 3]), 1)'],
    },
    [
      elements('none', 'middle axis', [3, 41, 5], [3, 67, 5], 1),
      elements('none', 'first axis, shorter elsewhere', [7, 5], [3, 4], 0),
      elements('add', 'first axis', [19, 37], [29, 31], 0),
      elements('add', 'one element, again and again', [2, 1], [2, 41], 1),
    ],
  ),
  scatterNd: scatterOp<PlaceAttrs>(
    'scatterNd',
    byPlace,
    rowShape('scatterNd'),
    ['none', 'add'],
    {
      ...PLACES,
      example: 'ops.scatterNd(zeros([2, 3]), tensor(new Uint32Array([1]), [1, 1]), tensor([5, 6, 7], [1, 3]))',
      refused: ['ops.scatterNd(zeros([2, 3]), zeros([4, 1], "u32"), zeros([4, 2]))', 'ops.scatterNd(zeros([2, 3]), zeros([4, 3], "u32"), zeros([4]))'],
    },
    [places('none', 'rows', [13, 7, 71], [5, 3, 2], 7), places('none', 'places', [5, 7], [17, 2], 5), places('add', 'rows', [11, 67], [43, 1], 11)],
  ),
  scatterElementsReduce: scatterOp<AxisAttrs>(
    'scatterElementsReduce',
    byElement,
    elementShape('scatterElementsReduce'),
    ['mul', 'max', 'min'],
    {
      ...ELEMENTS,
      example: 'ops.scatterElements(zeros([1, 4]), tensor(new Uint32Array([2, 0, 2]), [1, 3]), tensor([5, 6, 7], [1, 3]), 1, "max")',
      refused: ['ops.scatterElements(zeros([2, 3]), zeros([2, 2], "u32"), zeros([2, 3]), 1, "min")'],
    },
    [
      elements('mul', 'middle axis', [3, 41, 5], [3, 67, 5], 1),
      elements('max', 'first axis', [7, 5], [11, 4], 0),
      elements('min', 'last axis', [7, 5], [7, 9], 1),
    ],
  ),
  scatterNdReduce: scatterOp<PlaceAttrs>(
    'scatterNdReduce',
    byPlace,
    rowShape('scatterNdReduce'),
    ['mul', 'max', 'min'],
    {
      ...PLACES,
      example: 'ops.scatterNd(tensor([1, 2, 3, 4]), tensor(new Uint32Array([1, 1]), [2, 1]), tensor([5, 6]), "mul")',
      refused: ['ops.scatterNd(zeros([2, 3]), zeros([4, 1], "u32"), zeros([4, 2]), "max")'],
    },
    [places('mul', 'rows', [11, 67], [43, 1], 11), places('max', 'places', [5, 7], [37, 2], 5), places('min', 'places', [5, 7], [37, 2], 5)],
  ),
};

/**
 * The slices of x along the axis that the indices name, u32 of any shape: y has their axes in place of the axis. Throws a GlimpseError for
 * an index from the host that is not below the extent. One made on the device gives NaN, and adds to no gradient.
 */
export function gather(x: Tensor, indices: Tensor, axis = 0): Tensor {
  return apply(gatherOps.gather, [x, indices], { axis: normalizeAxis(axis, x.shape, 'gather') })[0];
}

/** Of each place of the indices, u32, the element of x there, but with the index as its place along the axis. Errors as of `gather`. */
export function gatherElements(x: Tensor, indices: Tensor, axis = 0): Tensor {
  return apply(gatherOps.gatherElements, [x, indices], { axis: normalizeAxis(axis, x.shape, 'gatherElements') })[0];
}

/**
 * What stands in x at the places that the last axis of the indices names, u32 [...batch, ..., K]. The first `batchDims` axes are
 * common to both. Errors as of `gather`; an index that is below the largest extent, but not below its own, gives NaN, too.
 */
export function gatherNd(x: Tensor, indices: Tensor, batchDims = 0): Tensor {
  return apply(gatherOps.gatherNd, [x, indices], { batchDims })[0];
}

const hasGradient = (reduction: ScatterReduction): boolean => reduction === 'none' || reduction === 'add';

/**
 * x, with the updates written at the places of the indices, u32, but with the index as the place along the axis. Of several updates of one
 * element the last one counts; with a reduction they are joined with x in their order. `none` and `add` have gradients, and `none` takes
 * any type. Throws a GlimpseError for an index from the host that is not below the extent. With one made on the device y is NaN.
 */
export function scatterElements(x: Tensor, indices: Tensor, updates: Tensor, axis = 0, reduction: ScatterReduction = 'none'): Tensor {
  const op = hasGradient(reduction) ? scatterOps.scatterElements : scatterOps.scatterElementsReduce;
  return apply(op, [x, indices, updates], { axis: normalizeAxis(axis, x.shape, 'scatterElements'), reduction })[0];
}

/** x, with the updates written at the places that the last axis of the indices names, u32 [..., K]; otherwise as `scatterElements`. */
export function scatterNd(x: Tensor, indices: Tensor, updates: Tensor, reduction: ScatterReduction = 'none'): Tensor {
  return apply(hasGradient(reduction) ? scatterOps.scatterNd : scatterOps.scatterNdReduce, [x, indices, updates], { batchDims: 0, reduction })[0];
}
