/** Attention of opset 23: all heads of a layer as one node, with masks, and with the keys and values of earlier calls. */
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { broadcastShapes, sameShape } from '../../../tensor/shape.ts';
import { full, type Tensor, tensor } from '../../../tensor/tensor.ts';
import { type Check, type Context, flag, float, int, type Operators, plain, type Results } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { isDevice, isHost, typeOf } from '../values.ts';

const DOUBLE = 11;

function checkAttention(node: OnnxNode, c: Check): void {
  if ((node.attributes.get('softcap') ?? 0) !== 0) c.unsupported('softcap: versions of the standard differ on whether the mask is added before it');
  if (node.outputs[3]) c.unsupported('scores as an output (qk_matmul_output)');
  if (node.inputs[6]) c.unsupported('nonpad_kv_seqlen');
  if (node.attributes.get('softmax_precision') === DOUBLE) c.unsupported('softmax_precision double; the GPU computes in float32');
  if (!node.inputs[4] !== !node.inputs[5]) c.fail('has one of past_key and past_value, both or none are expected');
}

/** Input i as [B, H, T, D]. One of three axes has its heads side by side: [B, T, H · D]. */
function headsOf(c: Context, i: number, attribute: string): Tensor {
  const x = c.plain(i);
  if (x.rank === 4) return x;
  const heads = c.number(attribute, 0);
  if (x.rank !== 3) throw new GlimpseError(`${c.what(i)} is [${x.shape}]; 3 or 4 axes are expected`);
  if (!(heads >= 1) || x.shape[2] % heads !== 0) throw new GlimpseError(`${c.what(i)} is [${x.shape}], ${attribute} is ${heads}`);
  return ops.transpose(ops.reshape(x, [x.shape[0], x.shape[1], heads, x.shape[2] / heads]), [0, 2, 1, 3]);
}

/** Each head of keys or values serves so many heads of queries in turn; Ainslie et al. 2023. */
function repeated(x: Tensor, times: number): Tensor {
  if (times === 1) return x;
  const [batch, heads, ...rest] = x.shape;
  return ops.reshape(ops.broadcastTo(ops.reshape(x, [batch, heads, 1, ...rest]), [batch, heads, times, ...rest]), [batch, heads * times, ...rest]);
}

/** What is added to the scores; a mask of truth values says which keys are seen. */
function maskOf(c: Context): Tensor | undefined {
  if (!c.has(3)) return undefined;
  const value = c.value(3);
  if ((isDevice(value) || isHost(value)) && typeOf(value).name === 'bool') return ops.where(c.truth(3), full([1], 0), full([1], Number.NEGATIVE_INFINITY));
  return c.plain(3);
}

function attention(c: Context): Results {
  const [q, newKeys, newValues] = [headsOf(c, 0, 'q_num_heads'), headsOf(c, 1, 'kv_num_heads'), headsOf(c, 2, 'kv_num_heads')];
  const joined = (past: number, now: Tensor): Tensor => {
    if (!c.has(past)) return now;
    c.model.budget.expect(now.shape.with(2, now.shape[2] + (c.shape(past)[2] ?? 0)));
    return ops.concat([c.plain(past), now], 2);
  };
  const [k, v] = [joined(4, newKeys), joined(5, newValues)];
  const [batch, heads, queries, width] = q.shape;
  const [, groups, keys] = k.shape;
  const told = `queries [${q.shape}], keys [${k.shape}], values [${v.shape}]`;
  if (!(groups >= 1) || heads % groups !== 0 || v.shape[1] !== groups)
    throw new GlimpseError(`${told}: the heads of keys and values do not divide those of queries`);
  const times = heads / groups;
  const scores = [batch, heads, queries, keys];
  c.model.budget.expect(scores, width + v.shape[3]);
  c.model.budget.expect([batch, heads, keys, width + v.shape[3]]);
  const mask = maskOf(c);
  if (mask && (mask.rank > 4 || !sameShape(broadcastShapes(mask.shape, scores, 'the mask'), scores)))
    throw new GlimpseError(`${told}: the mask [${mask.shape}] does not repeat to the scores [${scores}]`);
  const isCausal = c.number('is_causal', 0) === 1;
  // The first query sees the keys of earlier calls, and one more. Our op lets the last query see all keys: that is the same if there is a key for each query.
  const past = keys - newKeys.shape[2];
  const isSquare = newKeys.shape[2] === queries;
  let added = mask;
  if (isCausal && !isSquare) {
    c.model.budget.expect([queries, keys]);
    const seen = Float32Array.from({ length: queries * keys }, (_, at) => (at % keys <= Math.floor(at / keys) + past ? 0 : Number.NEGATIVE_INFINITY));
    const triangle = tensor(seen, [queries, keys]);
    added = mask ? ops.add(mask, triangle) : triangle;
  }
  const scale = c.number('scale', 1 / Math.sqrt(Math.max(1, width)));
  const y = ops.scaledDotProductAttention(q, repeated(k, times), repeated(v, times), {
    ...{ scale, causal: isCausal && isSquare },
    ...(added ? { mask: added } : {}),
  });
  const isFlat = c.shape(0).length === 3;
  const out = isFlat ? ops.reshape(ops.transpose(y, [0, 2, 1, 3]), [batch, queries, heads * v.shape[3]]) : y;
  const own = (x: Tensor): Tensor => ops.reshape(x, x.shape);
  return [plain(out), c.wants(1) ? plain(own(k)) : null, c.wants(2) ? plain(own(v)) : null];
}

export const ATTENTION: Operators = {
  Attention: {
    inputs: (opset) => [3, opset >= 24 ? 7 : 6],
    outputs: [1, 4],
    attributes: { is_causal: flag, kv_num_heads: int, q_num_heads: int, qk_matmul_output_mode: int, scale: float, softcap: float, softmax_precision: int },
    check: checkAttention,
    device: attention,
  },
};
