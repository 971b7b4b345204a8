/** Operators of ONNX that choose and write elements, against onnxruntime, on the GPU and on the host; what is refused. */
import { expect, test } from 'vitest';
import { agreesWithOrt, bool, counted, f32, f64, floats, gives, i32, i64, list, type NodeCase, one, type Result, refusalOf, texts, u8 } from './onnx_cases.ts';
import { ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
const words = texts([2, 3], ['a', 'b', 'c', 'd', 'e', 'f']);
const COUNT = { makes: ['int64' as const] };

/** Boxes of corners, y before x, some turned round; of two batches. */
const BOXES = f32(
  [2, 6, 4],
  [
    ...[0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, -0.1, 1, 0.9, 0, 10, 1, 11, 1, 10.1, 0, 11.1, 0, 100, 1, 101],
    ...[0, 0, 2, 2, 0, 0, 2, 2, 1, 1, 3, 3, 5, 5, 5, 5, 1.9, 1.9, 0, 0, -3, -3, -1, -1],
  ],
);
const SCORES = f32([2, 2, 6], [0.9, 0.75, 0.6, 0.95, 0.5, 0.3, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.5, 0.5, 0.7, 0.2, 0.9, 0.4, 0.3, 0.8, 0.1, 0.9, 0.2, 0.6]);
const number = (value: number) => f32([1], [value]);

const AS_ORT: Record<string, NodeCase> = {
  'gather columns, from the end too': one('Gather', [counted(3, 4, 2), i64([2, 2], [0, -1, 3, -4])], { axis: 1 }),
  'gather by one index': one('Gather', [counted(3, 4), i32([], [-1])]),
  'gather nothing': one('Gather', [counted(3, 4), i64([0], [])]),
  'gather elements': one('GatherElements', [counted(3, 4), i64([3, 2], [0, -1, 2, 3, 1, 1])], { axis: 1 }),
  'gather elements of a shorter first axis': one('GatherElements', [counted(4, 3), i32([2, 3], [3, 0, -4, 1, 1, 2])]),
  'gather elements of whole numbers': one('GatherElements', [i64([2, 2], [1, 2, 3, 2 ** 50]), i64([1, 2], [1, 1])]),
  'gather elements of texts': one('GatherElements', [words, i64([1, 3], [1, 0, -1])]),
  'gather places': one('GatherND', [counted(3, 4, 2), i64([2, 2], [0, -1, 2, 0])]),
  'gather single elements': one('GatherND', [counted(3, 4), i64([2, 2, 2], [0, 0, 1, -1, 2, 3, -3, -4])]),
  'gather in batches': one('GatherND', [counted(2, 3, 4), i64([2, 2, 1], [0, -1, 2, 1])], { batch_dims: 1 }),
  'gather places of texts': one('GatherND', [words, i64([2, 2], [0, 1, -1, -1])]),
  'scatter elements': one('ScatterElements', [counted(3, 4), i64([2, 2], [0, -1, 2, 1]), f32([2, 2], [-1, -2, -3, -4])], { axis: 1 }),
  'scatter, added': one('ScatterElements', [counted(3, 3), i64([2, 3], [0, 0, 2, 0, -1, 2]), f32([2, 3], [1, 10, 100, 1000, 10000, 0.5])], {
    reduction: 'add',
  }),
  'scatter, multiplied': one('ScatterElements', [counted(1, 3), i64([1, 2], [1, 1]), f32([1, 2], [2, 3])], { axis: 1, reduction: 'mul' }),
  'scatter, the largest': one('ScatterElements', [floats(3, 5), i64([2, 5], [0, 1, 2, 0, 1, 0, 0, 1, 2, -1]), floats(2, 5)], { reduction: 'max' }),
  'scatter, the smallest': one('ScatterElements', [floats(3, 5), i64([2, 5], [0, 1, 2, 0, 1, 0, 0, 1, 2, -1]), floats(2, 5)], { reduction: 'min' }),
  'scatter whole numbers, added': one('ScatterElements', [i32([3], [1, 2, 3]), i64([3], [0, 0, -1]), i32([3], [5, 5, 7])], { reduction: 'add' }),
  'scatter bytes, multiplied': one('ScatterElements', [u8([2], [100, 3]), i64([2], [0, 1]), u8([2], [3, 3])], { reduction: 'mul' }),
  'scatter rows': one('ScatterND', [counted(4, 3), i64([2, 1], [1, -1]), f32([2, 3], [-1, -2, -3, -4, -5, -6])]),
  'scatter places, added': one('ScatterND', [counted(3, 3), i64([3, 2], [0, 0, 2, -1, 0, 0]), f32([3], [10, 20, 30])], { reduction: 'add' }),
  'scatter places of whole numbers': one('ScatterND', [i64([3], [1, 2, 3]), i64([2, 1], [2, 0]), i64([2], [9, 8])]),
  'scatter, as it was called': one('Scatter', [counted(3, 3), i64([1, 3], [2, 0, 1]), f32([1, 3], [-1, -2, -3])], {}, { opset: 10 }),
  'compress rows': one('Compress', [counted(3, 2), bool([3], [1, 0, 1])], { axis: 0 }),
  'compress columns, by a shorter condition': one('Compress', [counted(3, 4), bool([2], [0, 1])], { axis: -1 }),
  'compress all': one('Compress', [counted(2, 3), bool([5], [0, 1, 0, 0, 1])]),
  'compress to nothing': one('Compress', [counted(2, 3), bool([2], [0, 0])], { axis: 0 }),
  'places that are not 0': one('NonZero', [f32([2, 3], [0, 1, nan, -0, 0, -2])], {}, { hostOnly: true, ...COUNT }),
  'places of truth values': one('NonZero', [bool([2, 2], [0, 1, 1, 0])], {}, COUNT),
  'none that is not 0': one('NonZero', [f32([3], [0, 0, 0])], {}, { hostOnly: true, ...COUNT }),
  'one-hot': one('OneHot', [i64([3], [0, -1, 7]), i64([1], [3]), f32([2], [-1, 2])], {}, { hostOnly: true, makes: ['float'] }),
  'the largest': one('TopK', [floats(3, 7), list(4)], {}, { outputs: 2, makes: ['float', 'int64'] }),
  'the smallest, of the first axis': one('TopK', [floats(7, 3), list(7)], { axis: 0, largest: 0 }, { outputs: 2, makes: ['float', 'int64'] }),
  'the largest of equal ones': one('TopK', [f32([6], [1, 3, 3, 2, 3, -inf]), list(5)], {}, { outputs: 2, makes: ['float', 'int64'] }),
  'the largest of a middle axis, of whole numbers': one('TopK', [i64([2, 3, 2], [5, 1, 5, 9, 2, 9, 0, -1, 7, 7, 7, -3]), list(2)], { axis: 1 }, { outputs: 2 }),
  'the largest, k by an attribute': one('TopK', [floats(2, 5)], { k: 3 }, { opset: 9, outputs: 2, makes: ['float', 'int64'] }),
  'the 0 largest': one('TopK', [floats(2, 5), list(0)], {}, { outputs: 2, makes: ['float', 'int64'], hostOnly: true }),
  'distinct elements': one(
    'Unique',
    [f32([2, 4], [2, 1, 1, 3, 4, 3, 2, -inf])],
    {},
    { outputs: 4, makes: ['float', 'int64', 'int64', 'int64'], hostOnly: true },
  ),
  'distinct elements in their order': one('Unique', [i64([6], [2, 1, 1, 3, 4, 3])], { sorted: 0 }, { outputs: 4 }),
  'distinct rows': one(
    'Unique',
    [f32([4, 2], [1, 0, 0, 1, 1, 0, 0, 0])],
    { axis: 0 },
    { outputs: 4, makes: ['float', 'int64', 'int64', 'int64'], hostOnly: true },
  ),
  'distinct columns in their order': one(
    'Unique',
    [f32([2, 3], [5, 1, 5, 2, 0, 2])],
    { axis: 1, sorted: 0 },
    { outputs: 4, makes: ['float', 'int64', 'int64', 'int64'], hostOnly: true },
  ),
  'distinct texts': one('Unique', [texts([5], ['b', 'a', 'b', '', 'a'])], {}, { outputs: 4, makes: ['string', 'int64', 'int64', 'int64'] }),
  'distinct doubles': one('Unique', [f64([3], [1 / 3, 1, 1 / 3])], {}, { outputs: 4, makes: ['double', 'int64', 'int64', 'int64'] }),
  'boxes, all kept': one('NonMaxSuppression', [BOXES, SCORES, list(9), number(1)], {}, { hostOnly: true, ...COUNT }),
  'boxes that do not overlap': one('NonMaxSuppression', [BOXES, SCORES, list(3), number(0.5)], {}, { hostOnly: true, ...COUNT }),
  'boxes with a floor of scores': one('NonMaxSuppression', [BOXES, SCORES, list(9), number(0.3), number(0.4)], {}, { hostOnly: true, ...COUNT }),
  'boxes about centers': one('NonMaxSuppression', [BOXES, SCORES, list(4), number(0.4)], { center_point_box: 1 }, { hostOnly: true, ...COUNT }),
  'no boxes asked for': one('NonMaxSuppression', [BOXES, SCORES], {}, { hostOnly: true, ...COUNT }),
};

test.skipIf(!ort).each(Object.entries(AS_ORT))('as onnxruntime: %s', (name, each) => agreesWithOrt(name, each));

const KNOWN: Record<string, [NodeCase, Result[]]> = {
  'a NaN is before all numbers': [
    one('TopK', [f32([4], [1, nan, inf, 2]), list(2)], {}, { outputs: 2 }),
    [
      { shape: [2], data: [nan, inf] },
      { shape: [2], data: [1, 2] },
    ],
  ],
  'and from the other end': [
    one('TopK', [f32([4], [1, nan, inf, 2]), list(2)], { largest: 0 }, { outputs: 2 }),
    [
      { shape: [2], data: [nan, 1] },
      { shape: [2], data: [1, 0] },
    ],
  ],
  'rows of texts': [one('Gather', [words, list(1, 0)]), [{ shape: [2, 3], data: ['d', 'e', 'f', 'a', 'b', 'c'] }]],
  'one-hot along the first axis, of whole numbers': [
    one('OneHot', [i32([2, 2], [0, 1, 2, -3]), i64([1], [3]), i64([2], [5, 9])], { axis: 0 }, COUNT),
    [{ shape: [3, 2, 2], data: [9, 5, 5, 9, 5, 9, 5, 5, 5, 5, 9, 5] }],
  ],
  'one-hot of floats': [
    one('OneHot', [f32([2], [1, 0]), f32([1], [2]), i64([2], [0, 1])], { axis: -2 }, { hostOnly: true, ...COUNT }),
    [{ shape: [2, 2], data: [0, 1, 1, 0] }],
  ],
  'scattered texts': [one('ScatterElements', [texts([3], ['a', 'b', 'c']), i64([1], [-1]), texts([1], ['z'])]), [{ shape: [3], data: ['a', 'b', 'z'] }]],
  'a place by no coordinates': [one('GatherND', [counted(2), i64([1, 0], [])], {}, { hostOnly: true }), [{ shape: [1, 2], data: [0, 1] }]],
};

test.each(Object.entries(KNOWN))('%s', (name, [each, expected]) => gives(name, each, expected));

test('a one-hot code that is too large for the host', async () => {
  const ids = Array.from({ length: 1100 }, (_, i) => (i * 7) % 1300);
  const each = one('OneHot', [i64([1100], ids), i64([1], [1000]), f32([2], [0, 1])], {}, { makes: ['float'], hostOnly: true });
  const data = ids.flatMap((id) => Array.from({ length: 1000 }, (_, k) => Number(k === id)));
  await gives('large', each, [{ shape: [1100, 1000], data }]);
});

const REFUSED: Record<string, [NodeCase, RegExp]> = {
  'an index outside': [one('Gather', [counted(3), list(3)]), /index 3 of 3 places/],
  'an index outside, from the end': [one('GatherElements', [counted(3), list(-4)]), /index -4 of 3 places/],
  'a coordinate outside': [one('GatherND', [counted(3, 2), i64([1, 2], [0, 2])]), /index 2 of 2 places/],
  'batches that differ': [one('GatherND', [counted(3, 2), i64([2, 1, 1], [0, 0])], { batch_dims: 1 }), /after 1 batch axes/],
  'too many coordinates': [one('GatherND', [counted(3), i64([1, 2], [0, 0])]), /indices \[1,2\] of \[3\]/],
  'indices wider than the data': [one('GatherElements', [counted(2, 2), i64([1, 3], [0, 0, 0])]), /indices \[1,3\]/],
  'updates of another shape': [one('ScatterND', [counted(3, 2), i64([1, 1], [0]), f32([1], [1])]), /\[1,2\]/],
  'a reduction of a later opset': [
    one('ScatterND', [counted(3), i64([1, 1], [0]), f32([1], [1])], { reduction: 'max' }, { opset: 17 }),
    /reduction "max" in opset 17/,
  ],
  'texts added': [one('ScatterElements', [texts([1], ['a']), list(0), texts([1], ['b'])], { reduction: 'add' }), /reduction add of string/],
  'a condition that is too long': [one('Compress', [counted(2), bool([3], [1, 1, 1])], { axis: 0 }), /at most as many truth values/],
  'a negative depth': [one('OneHot', [list(0), i64([1], [-1]), f32([2], [0, 1])]), /a depth of \[-1\]/],
  'one value for off and on': [one('OneHot', [list(0), i64([1], [2]), f32([1], [0])]), /off and on are expected/],
  'more than there are': [one('TopK', [counted(3), list(4)], {}, { outputs: 2 }), /the 4 first of 3 places/],
  'boxes and scores that differ': [one('NonMaxSuppression', [BOXES, floats(2, 2, 5), list(1)]), /\[N, M, 4\] and \[N, classes, M\]/],
  'an overlap beyond 1': [one('NonMaxSuppression', [BOXES, SCORES, list(1), number(1.5)]), /iou_threshold of 1.5/],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_name, [each, message]) => {
  expect(await refusalOf(each)).toMatch(message);
});
