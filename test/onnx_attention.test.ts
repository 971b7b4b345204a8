/** ONNX's operator Attention (opset 23), as torch.onnx.export writes it from opset 23 on, against onnxruntime; what is refused. */
import { expect, test } from 'vitest';
import { agreesWithOrt, bool, f32, floats, gives, type NodeCase, one, refusalOf } from './onnx_cases.ts';
import { ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

/** Two pictures; 3 heads, or 4 over 2; 5 queries, 7 keys; widths 4 and 6. */
const [q, k, v] = [floats(2, 3, 5, 4), floats(2, 3, 7, 4), floats(2, 3, 7, 6)];
const close = { opset: 23, rtol: 1e-5, atol: 1e-5 };
const every = (n: number, length: number) => Array.from({ length }, (_, i) => (i % n === 0 ? 1 : 0));

const AS_ORT: Record<string, NodeCase> = {
  'heads apart': one('Attention', [q, k, v], {}, close),
  'a scale': one('Attention', [q, k, v], { scale: { float: 0.3 } }, close),
  'heads side by side': one('Attention', [floats(2, 5, 12), floats(2, 7, 12), floats(2, 7, 18)], { q_num_heads: 3, kv_num_heads: 3 }, close),
  'two heads of queries for one of keys': one('Attention', [floats(2, 4, 5, 4), floats(2, 2, 7, 4), floats(2, 2, 7, 4)], {}, close),
  'the same, side by side': one('Attention', [floats(2, 5, 16), floats(2, 7, 8), floats(2, 7, 8)], { q_num_heads: 4, kv_num_heads: 2 }, close),
  'a mask that is added': one('Attention', [q, k, v, floats(5, 7)], {}, close),
  'a mask of each picture and head': one('Attention', [q, k, v, floats(2, 3, 5, 7)], {}, close),
  'a mask of truth values': one('Attention', [q, k, v, bool([5, 7], every(2, 35))], {}, close),
  causal: one('Attention', [floats(2, 3, 7, 4), k, v], { is_causal: 1 }, close),
  'causal, with a mask': one('Attention', [floats(2, 3, 7, 4), k, v, floats(7, 7)], { is_causal: 1 }, close),
  'causal, more keys than queries': one('Attention', [q, k, v], { is_causal: 1 }, close),
  'keys and values of earlier calls': one('Attention', [q, k, v, null, floats(2, 3, 2, 4), floats(2, 3, 2, 6)], {}, { ...close, outputs: 3 }),
  'causal, after earlier calls': one(
    'Attention',
    [q, floats(2, 3, 5, 4), floats(2, 3, 5, 6), null, floats(2, 3, 2, 4), floats(2, 3, 2, 6)],
    { is_causal: 1 },
    { ...close, outputs: 3 },
  ),
};

test.skipIf(!ort).each(Object.entries(AS_ORT))('%s', agreesWithOrt);

test('a query that sees no key gets zeros, as in PyTorch', async () => {
  const mask = bool([2, 2], [0, 0, 1, 0]);
  const each = one('Attention', [floats(1, 1, 2, 3), floats(1, 1, 2, 3), f32([1, 1, 2, 2], [1, 2, 3, 4]), mask], {}, close);
  await gives('no key', each, [{ shape: [1, 1, 2, 2], data: [0, 0, 1, 2] }]);
});

const REFUSED: Record<string, [NodeCase, RegExp]> = {
  'a soft cap': [one('Attention', [q, k, v], { softcap: { float: 2 } }, close), /node "Attention of y0".*softcap/],
  'scores as an output': [one('Attention', [q, k, v], {}, { ...close, outputs: 4 }), /scores as an output/],
  'keys without values': [one('Attention', [q, k, v, null, floats(2, 3, 2, 4)], {}, close), /one of past_key and past_value/],
  'no number of heads': [one('Attention', [floats(2, 5, 12), floats(2, 7, 12), floats(2, 7, 18)], {}, close), /q_num_heads is 0/],
  'heads that do not divide': [one('Attention', [q, floats(2, 2, 7, 4), floats(2, 2, 7, 6)], {}, close), /do not divide those of queries/],
  'a mask of other keys': [one('Attention', [q, k, v, floats(5, 6)], {}, close), /mask/],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_name, [each, reason]) => {
  expect(await refusalOf(each)).toMatch(reason);
});
