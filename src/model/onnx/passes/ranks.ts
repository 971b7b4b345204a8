/** How many axes values have, as far as that is certain before a run. */
import { listOf, numberOf } from '../operator.ts';
import { OPERATORS } from '../operators/index.ts';
import type { OnnxNode } from '../proto.ts';

/** No number: it is equal to none, neither less nor more, and what is computed with it is unknown too. */
export const UNKNOWN = Number.NaN;

/** Operators whose first result has as many axes as their first input, beside those that have a layout. */
const KEEP_RANK = ['Slice', 'Resize', 'Upsample', 'Softmax', 'LogSoftmax', 'LayerNormalization', 'InstanceNormalization', 'ConvTranspose', 'FusedMatMul'];

/** How many axes the outputs of a node have. `ranks`: those of its inputs. `list`: whole numbers that an input holds, if it is a constant. */
export function ranksAfter(node: OnnxNode, ranks: readonly number[], list: (input: number) => readonly number[] | null): number[] {
  const { op, opset } = node;
  const { layout } = OPERATORS[op];
  const [first = UNKNOWN] = ranks;
  const named = listOf(node, 'axes')?.length ?? list(1)?.length ?? UNKNOWN;
  if (op === 'DynamicQuantizeLinear') return [first, 0, 0];
  if (op === 'Gemm' || op === 'Flatten') return [2];
  if (op === 'Transpose') return [listOf(node, 'perm')?.length ?? first];
  if (op === 'Reshape') return [list(1)?.length ?? UNKNOWN];
  if (op === 'Unsqueeze') return [first + named];
  if (op === 'MatMul') return [Math.min(...ranks) >= 2 ? Math.max(...ranks) : UNKNOWN];
  if (layout === 'elementwise') return [opset < 7 ? first : Math.max(...ranks)]; // in older opsets the first does not repeat
  if (layout === 'axes') return [numberOf(node, 'keepdims', 1) === 1 ? first : first - named];
  return [(layout && layout !== 'shape') || KEEP_RANK.includes(op) ? first : UNKNOWN];
}
