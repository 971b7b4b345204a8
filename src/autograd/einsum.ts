/**
 * Einstein's summation: products and sums of tensors, told by the labels of their axes. It runs no kernel of its own. Diagonals are
 * slices, and two operands are joined by a batched matrix product, or by an elementwise one where nothing is summed.
 */
import { ShapeError } from '../errors.ts';
import { broadcastShapes, MAX_RANK, sameShape, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { binaryOf } from './ops/elementwise.ts';
import { matmul } from './ops/matmul.ts';
import { reduceOf } from './ops/reduce.ts';
import { reshape, slice, transpose } from './ops/shape.ts';

/** A tensor, and the label of each axis: a letter, or `...` and a number, counted from the last axis that an ellipsis stands for. */
interface Labeled {
  x: Tensor;
  labels: readonly string[];
}

/** The labels of one term; at most one of them is `...`. */
function labelsOf(term: string, where: string): string[] {
  const labels = term.match(/\.\.\.|./gs) ?? [];
  for (const label of labels)
    if (label !== '...' && !/^[a-z]$/i.test(label)) throw new ShapeError(`${where}: "${label}" in "${term}" is no letter and no "..."`);
  if (labels.filter((label) => label === '...').length > 1) throw new ShapeError(`${where}: "${term}" has more than one "..."`);
  return labels;
}

/** The labels that `...` stands for, of so many axes. */
const ellipsis = (axes: number): string[] => Array.from({ length: axes }, (_, i) => `...${axes - 1 - i}`);
const spread = (labels: readonly string[], axes: number): string[] => labels.flatMap((label) => (label === '...' ? ellipsis(axes) : [label]));

/** x with an axis for each of the labels, in their order. It must have these labels. */
function ordered({ x, labels }: Labeled, wanted: readonly string[]): Tensor {
  if (labels.join() === wanted.join()) return x;
  return transpose(
    x,
    wanted.map((label) => labels.indexOf(label)),
  );
}

/** Axes of one label become one, their diagonal. */
function withoutRepeats({ x, labels }: Labeled): Labeled {
  const first = labels.findIndex((label, i) => labels.indexOf(label, i + 1) >= 0);
  if (first < 0) return { x, labels };
  const second = labels.indexOf(labels[first], first + 1);
  const rest = [...labels.keys()].filter((axis) => axis !== first && axis !== second);
  const n = x.shape[first];
  const lines = sizeOf(rest.map((axis) => x.shape[axis]));
  const squares = reshape(transpose(x, [...rest, first, second]), [lines, n * n]);
  const diagonal = slice(squares, [0, 0], [lines, n], [1, n + 1]);
  return withoutRepeats({ x: reshape(diagonal, [...rest.map((axis) => x.shape[axis]), n]), labels: [...rest.map((axis) => labels[axis]), labels[first]] });
}

/** Sums over the axes whose labels are not kept. */
function summed({ x, labels }: Labeled, kept: ReadonlySet<string>): Labeled {
  let sum = x;
  for (let axis = labels.length - 1; axis >= 0; axis--) if (!kept.has(labels[axis])) sum = reduceOf('sum', sum, axis);
  return { x: sum, labels: labels.filter((label) => kept.has(label)) };
}

/** The product of two, summed over the labels that both have and that are not kept. */
function joined(a: Labeled, b: Labeled, kept: ReadonlySet<string>, where: string): Labeled {
  const both = a.labels.filter((label) => b.labels.includes(label));
  const [batch, inner] = [both.filter((label) => kept.has(label)), both.filter((label) => !kept.has(label))];
  const [rows, columns] = [a.labels.filter((label) => !both.includes(label)), b.labels.filter((label) => !both.includes(label))];
  const labels = [...batch, ...rows, ...columns];
  if (labels.length > MAX_RANK)
    throw new ShapeError(
      `${where}: joining operands gives ${labels.length} axes, ${labels.join(' ')}; at most ${MAX_RANK} are supported, so give them in another order`,
    );
  const extentOf = (label: string) => (a.labels.includes(label) ? a.x.shape[a.labels.indexOf(label)] : b.x.shape[b.labels.indexOf(label)]);
  const size = (list: readonly string[]) => sizeOf(list.map(extentOf));
  const shape = labels.map(extentOf);
  if (inner.length > 0 && rows.length + columns.length > 0) {
    const left = reshape(ordered(a, [...batch, ...rows, ...inner]), [size(batch), size(rows), size(inner)]);
    const right = reshape(ordered(b, [...batch, ...inner, ...columns]), [size(batch), size(inner), size(columns)]);
    return { x: reshape(matmul(left, right), shape), labels };
  }
  const left = reshape(ordered(a, [...batch, ...inner, ...rows]), [size(batch), size(inner), size(rows), 1]);
  const right = reshape(ordered(b, [...batch, ...inner, ...columns]), [size(batch), size(inner), 1, size(columns)]);
  const product = binaryOf('mul', left, right);
  return { x: reshape(inner.length > 0 ? reduceOf('sum', product, 1) : product, shape), labels };
}

/** The operands with their labels, each label once an operand. Throws a ShapeError for a rank or an extent that does not fit. */
function operandsOf(terms: readonly string[], tensors: readonly Tensor[], where: string): { operands: Labeled[]; axes: number } {
  const written = terms.map((term) => labelsOf(term, where));
  const free = written.map((labels, i) => {
    const named = labels.filter((label) => label !== '...').length;
    const hidden = tensors[i].rank - named;
    if (hidden < 0 || (hidden > 0 && !labels.includes('...')))
      throw new ShapeError(`${where}: "${terms[i]}" labels ${named} axes, operand ${i + 1} [${tensors[i].shape}] has ${tensors[i].rank}`);
    return hidden;
  });
  const axes = Math.max(0, ...free);
  const all = tensors.map((x, i) => ({ x, labels: spread(written[i], free[i]) }));
  // What ellipses stand for broadcasts: an axis of extent 1 beside a longer one is left out, which repeats it.
  const hidden = all
    .map(({ x, labels }) => x.shape.filter((_, axis) => labels[axis].startsWith('...')))
    .reduce<readonly number[]>((shape, next) => broadcastShapes(shape, next, `${where}: what "..." stands for`), []);
  const squeezed = all.map(({ x, labels }) => {
    const repeats = (axis: number) => labels[axis].startsWith('...') && x.shape[axis] === 1 && hidden[hidden.length - 1 - Number(labels[axis].slice(3))] !== 1;
    const kept = [...labels.keys()].filter((axis) => !repeats(axis));
    const shape = kept.map((axis) => x.shape[axis]);
    return { x: sameShape(shape, x.shape) ? x : reshape(x, shape), labels: kept.map((axis) => labels[axis]) };
  });
  const found = new Map<string, { extent: number; operand: number }>();
  squeezed.forEach(({ x, labels }, i) => {
    labels.forEach((label, axis) => {
      const before = found.get(label);
      const extent = x.shape[axis];
      if (before && before.extent !== extent)
        throw new ShapeError(
          `${where}: label ${label} is ${before.extent} in operand ${before.operand + 1} [${tensors[before.operand].shape}] and ${extent} in operand ${i + 1} [${tensors[i].shape}]`,
        );
      found.set(label, before ?? { extent, operand: i });
    });
  });
  return { operands: squeezed.map(withoutRepeats), axes };
}

/** The labels of the result: those behind the arrow, or without one all that occur once, in the order of the alphabet. */
function resultOf(output: string | undefined, terms: readonly string[], axes: number, where: string): string[] {
  const named = terms.flatMap((term) => labelsOf(term, where)).filter((label) => label !== '...');
  if (output === undefined) return [...ellipsis(axes), ...named.filter((label) => named.indexOf(label) === named.lastIndexOf(label)).sort()];
  const wanted = labelsOf(output, where);
  for (const label of wanted) {
    if (label !== '...' && !named.includes(label)) throw new ShapeError(`${where}: label ${label} of the result is in no operand`);
    if (wanted.indexOf(label) !== wanted.lastIndexOf(label)) throw new ShapeError(`${where}: label ${label} comes twice in the result`);
  }
  return spread(wanted, axes);
}

/**
 * Products and sums of tensors by the labels of their axes, as NumPy's einsum: `ij,jk->ik` is the matrix product. A letter names an axis.
 * Labels that the result lacks are summed over. A label that comes twice in one operand takes the diagonal. `...` stands for
 * the axes that no letter names; they broadcast, and are summed over if the result lacks them. Without `->` the result has the
 * labels that occur once, in the order of the alphabet, behind those of `...`. Operands are joined from left to right, each step
 * with at most six axes. Throws a ShapeError that names the label or the operand that does not fit.
 */
export function einsum(equation: string, tensors: readonly Tensor[]): Tensor {
  const where = `einsum "${equation}"`;
  const [inputs, output, ...more] = equation.replace(/\s/g, '').split('->');
  if (more.length > 0) throw new ShapeError(`${where}: has more than one "->"`);
  const terms = inputs.split(',');
  if (terms.length !== tensors.length) throw new ShapeError(`${where}: describes ${terms.length} operands, got ${tensors.length}`);
  const { operands, axes } = operandsOf(terms, tensors, where);
  const wanted = resultOf(output, terms, axes, where);
  const keptFrom = (next: number) => new Set([...wanted, ...operands.slice(next).flatMap(({ labels }) => labels)]);
  let result = operands[0];
  for (let next = 1; next < operands.length; next++) {
    const alone = summed(result, new Set([...keptFrom(next + 1), ...operands[next].labels]));
    const other = summed(operands[next], new Set([...keptFrom(next + 1), ...alone.labels]));
    result = joined(alone, other, keptFrom(next + 1), where);
  }
  const y = ordered(summed(result, new Set(wanted)), wanted);
  return tensors.includes(y) ? reshape(y, y.shape) : y; // a tensor of its own: whoever disposes it must not dispose an operand
}
