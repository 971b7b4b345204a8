/** How many axes values have, as far as that is certain before a run. */
import { listOf, numberOf } from '../operator.ts';
import { OPERATORS } from '../operators/index.ts';
import type { OnnxNode } from '../proto.ts';

/** No number: it is equal to none, neither less nor more, and what is computed with it is unknown too. */
export const UNKNOWN = Number.NaN;

/** What is certain of a value. */
export interface Known {
  /** How many axes it has. */
  rank: number;
  /** How many numbers it holds, if it has one axis. */
  length: number;
}

export const NOTHING: Known = { rank: UNKNOWN, length: UNKNOWN };

/** Operators whose first result has as many axes as their first input, beside those that have a layout. */
const KEEP_RANK = ['Slice', 'Resize', 'Upsample', 'Softmax', 'LogSoftmax', 'LayerNormalization', 'InstanceNormalization', 'ConvTranspose', 'FusedMatMul'];

/** What is certain of the first output of a node; `inputs` tells what is of its inputs. */
export function knownAfter(node: OnnxNode, inputs: readonly Known[]): Known {
  const { op, opset, attributes } = node;
  const { layout } = OPERATORS[op];
  const [{ rank: first, length }, { rank: second, length: count }] = [inputs[0] ?? NOTHING, inputs[1] ?? NOTHING];
  const named = listOf(node, 'axes')?.length ?? count;
  const ofRank = (rank: number): Known => ({ rank, length: UNKNOWN });
  if (op === 'Shape') return { rank: 1, length: attributes.has('start') || attributes.has('end') ? UNKNOWN : first };
  if (op === 'Concat') return { rank: first, length: inputs.reduce((sum, each) => sum + each.length, 0) };
  if (op === 'Unsqueeze') return { rank: first + named, length: first + named === 1 ? 1 : UNKNOWN };
  if (op === 'Reshape') return ofRank(listOf(node, 'shape')?.length ?? count);
  if (op === 'Expand') return ofRank(Math.max(first, count));
  if (op === 'Gather') return ofRank(first + second - 1);
  if (op === 'Gemm' || op === 'Flatten') return ofRank(2);
  if (op === 'Transpose') return ofRank(listOf(node, 'perm')?.length ?? first);
  if (op === 'MatMul') return ofRank(first >= 2 && second >= 2 ? Math.max(first, second) : UNKNOWN);
  if (layout === 'elementwise') return ofRank(opset < 7 ? first : inputs.reduce((most, { rank }) => Math.max(most, rank), 0)); // in older opsets the first does not repeat
  if (layout === 'axes') {
    const isWhole = !attributes.has('axes') && !node.inputs[1] && numberOf(node, 'noop_with_empty_axes', 0) === 0;
    return ofRank(numberOf(node, 'keepdims', 1) === 1 ? first : isWhole ? 0 : first - named);
  }
  if (layout === 'first') return { rank: first, length };
  return ofRank((layout && layout !== 'shape') || KEEP_RANK.includes(op) ? first : UNKNOWN);
}
