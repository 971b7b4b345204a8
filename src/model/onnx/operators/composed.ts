/** Operators that others are made of: they compute with values as a node of the graph would. */
import { scope } from '../../../tensor/tensor.ts';
import { Context, fail, type Operator, type Results, TooLargeForHost } from '../operator.ts';
import type { AttributeValue, OnnxNode } from '../proto.ts';
import { type HostTensor, isHost, shapeOfValue, tensorsOf, type Value } from '../values.ts';
import { GATHER } from './gather.ts';
import { MOVES } from './moves.ts';

const listed = (results: Results): readonly (Value | null)[] => (Array.isArray(results) ? results : [results as Value]);

function results(operator: Operator, c: Context): readonly (Value | null)[] {
  const early = operator.any?.(c) ?? null;
  if (early) return listed(early);
  if (operator.host && c.inputs.every((value) => value === null || isHost(value))) {
    const call = { node: c.node, opset: c.opset, inputs: c.inputs as readonly (HostTensor | null)[], spend: (steps: number) => c.model.budget.spend(steps) };
    try {
      return listed(operator.host(call));
    } catch (error) {
      if (!(error instanceof TooLargeForHost) || !operator.device) throw error;
    }
  }
  return listed(operator.device?.(c) ?? fail(`${c.node.op} of these inputs is not supported`));
}

/** The first output of an operator, computed within the node of c. The caller owns it. */
function applied(c: Context, operator: Operator, op: string, inputs: readonly Value[], attributes: Record<string, AttributeValue>): Value {
  const node: OnnxNode = {
    ...{ op, name: c.node.name, inputs: inputs.map(() => ''), outputs: [c.node.outputs.find(Boolean) ?? ''], opset: 13 },
    ...{ attributes: new Map(Object.entries(attributes)), kinds: new Map() },
  };
  using step = scope();
  const [value] = results(operator, new Context(c.model, node, inputs));
  if (!value) return fail(`${op} gives nothing`);
  for (const each of tensorsOf(value)) step.keep(each);
  return value;
}

/** One place of an axis, without the axis. */
export const placeOf = (c: Context, x: Value, axis: number, place: number): Value =>
  applied(c, GATHER.Gather, 'Gather', [x, { kind: 'int', shape: [], data: [place] }], { axis });

/** Places of an axis from `start` to before `end`. */
export const partOf = (c: Context, x: Value, axis: number, start: number, end: number): Value =>
  applied(c, MOVES.Slice, 'Slice', [x], { axes: [axis], starts: [start], ends: [end] });

/** Values one after the other along an axis that they have. */
export const joined = (c: Context, values: readonly Value[], axis: number): Value => applied(c, MOVES.Concat, 'Concat', values, { axis });

/** Values one after the other along a new axis. */
export function stacked(c: Context, values: readonly Value[], axis: number): Value {
  using step = scope();
  const wide = values.map((value) => applied(c, MOVES.Unsqueeze, 'Unsqueeze', [value], { axes: [axis] }));
  const rank = shapeOfValue(wide[0]).length;
  const out = joined(c, wide, axis < 0 ? axis + rank : axis);
  for (const each of tensorsOf(out)) step.keep(each);
  return out;
}
