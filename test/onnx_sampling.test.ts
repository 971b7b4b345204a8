/** Grids and boxes over pictures, made tensors, texts and random numbers: against onnxruntime where it has them; what is refused. */
import { expect, test } from 'vitest';
import { intTensor, rawTensor } from '../bench/peers/onnx_writer.ts';
import { agreesWithOrt, bool, counted, f32, f64, floats, gives, i32, i64, list, type NodeCase, one, type Result, refusalOf, texts } from './onnx_cases.ts';
import { ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

const CLOSE = { rtol: 1e-4, atol: 1e-5, hostOnly: true };
/** Points within the picture, at its border, and far outside. */
const grid = f32(
  [2, 3, 4, 2],
  Array.from({ length: 48 }, (_, i) => Math.sin(i * 1.7) * (i % 5 === 0 ? 2.6 : 1.05)),
);
const picture = floats(2, 3, 5, 4);
const [modes, paddings] = [
  ['bilinear', 'nearest', 'bicubic'],
  ['zeros', 'border', 'reflection'],
];
const grids = modes.flatMap((mode) =>
  paddings.flatMap((padding) =>
    [0, 1].map((align): [string, NodeCase] => [
      `${mode}, ${padding}${align ? ', aligned corners' : ''}`,
      one('GridSample', [picture, grid], { mode, padding_mode: padding, align_corners: align }, { opset: 16, ...CLOSE }),
    ]),
  ),
);

const boxes = f32([4, 4], [0, 0, 3, 4, 1.3, 0.2, 2.9, 4.4, -2, -3, 9, 8, 2, 2, 2.2, 2.1]);
const owners = i64([4], [0, 1, 1, 0]);
const rois = f32([3, 5], [0, 0, 0, 3, 3, 1, 1, 2, 6, 9, 1, -4, 0, 2, 1]);

const AS_ORT: Record<string, NodeCase> = {
  ...Object.fromEntries(grids),
  'a grid over a volume': one(
    'GridSample',
    [
      floats(1, 2, 3, 4, 5),
      f32(
        [1, 2, 2, 2, 3],
        Array.from({ length: 24 }, (_, i) => Math.cos(i * 2.3) * 1.2),
      ),
    ],
    { mode: 'linear', padding_mode: 'border' },
    { opset: 20, ...CLOSE },
  ),
  'one pixel': one('GridSample', [floats(1, 1, 1, 1), f32([1, 1, 3, 2], [0, 0, 0.7, -0.7, -3, 0])], { padding_mode: 'reflection' }, { opset: 16, ...CLOSE }),
  'boxes, means': one(
    'RoiAlign',
    [picture, boxes, owners],
    { output_height: 3, output_width: 2, sampling_ratio: 2, spatial_scale: { float: 0.7 } },
    { opset: 16, ...CLOSE },
  ),
  'boxes, as many points as they need': one('RoiAlign', [picture, boxes, owners], { output_height: 2, output_width: 2 }, { opset: 16, ...CLOSE }),
  'boxes, the largest': one(
    'RoiAlign',
    [picture, boxes, owners],
    { mode: 'max', output_height: 2, output_width: 3, sampling_ratio: 3 },
    { opset: 16, ...CLOSE },
  ),
  'boxes of whole pixels': one(
    'RoiAlign',
    [picture, boxes, owners],
    { output_height: 2, output_width: 2, sampling_ratio: 2, coordinate_transformation_mode: 'output_half_pixel' },
    { opset: 16, ...CLOSE },
  ),
  'boxes of opset 10': one('RoiAlign', [picture, boxes, owners], { output_height: 2, output_width: 2, sampling_ratio: 1 }, { opset: 10, ...CLOSE }),
  'the largest pixels of boxes': one('MaxRoiPool', [picture, rois], { pooled_shape: [2, 3], spatial_scale: { float: 0.8 } }, { opset: 13, hostOnly: true }),
  'a constant of a shape': one('ConstantOfShape', [list(2, 0, 3)], {}, { makes: ['float'] }),
  'a constant of a shape, of whole numbers': one('ConstantOfShape', [list(2, 3)], { value: { tensor: [intTensor('', [1], [-7])] } }, { makes: ['int64'] }),
  'a constant of a shape, on the GPU': one(
    'ConstantOfShape',
    [list(50, 41)],
    { value: { tensor: [rawTensor('', 1, [1], Float32Array.of(2.5))] } },
    { makes: ['float'] },
  ),
  'a truth value of no axes': one('ConstantOfShape', [list()], { value: { tensor: [rawTensor('', 9, [1], Uint8Array.of(1))] } }, { makes: ['bool'] }),
  'a range': one('Range', [i64([], [3]), i64([], [-8]), i64([], [-4])]),
  'a range of floats': one('Range', [f32([], [0.1]), f32([], [2]), f32([], [0.3])], {}, { hostOnly: true, rtol: 1e-6 }),
  'a range of doubles': one('Range', [f64([], [1]), f64([], [2]), f64([], [0.125])]),
  'a range of nothing': one('Range', [i32([], [3]), i32([], [3]), i32([], [1])]),
  'a diagonal': one('EyeLike', [counted(3, 5)], { k: 2 }, { hostOnly: true }),
  'a diagonal below, of whole numbers': one('EyeLike', [counted(4, 2)], { k: -1, dtype: 7 }, { hostOnly: true, makes: ['int64'] }),
  'a diagonal outside': one('EyeLike', [i32([2, 2], [9, 9, 9, 9])], { k: 5 }),
  'texts side by side': one('StringConcat', [texts([2, 1], ['a', '']), texts([3], ['x', 'y', 'zz'])], {}, { opset: 20 }),
  'texts between commas': one('StringSplit', [texts([3], ['a,b,,c', 'x', ',d'])], { delimiter: ',' }, { opset: 20, outputs: 2, makes: ['string', 'int64'] }),
  'texts between spaces': one('StringSplit', [texts([2, 2], [' a  b ', 'one', 'x y z', ''])], {}, { opset: 20, outputs: 2, makes: ['string', 'int64'] }),
  'texts, cut once': one('StringSplit', [texts([2], ['a b c', 'd  e f'])], { maxsplit: 1 }, { opset: 20, outputs: 2, makes: ['string', 'int64'] }),
  'n-grams of whole numbers, weighted': one(
    'TfIdfVectorizer',
    [i64([2, 6], [1, 2, 3, 1, 2, 9, 3, 3, 2, 1, 4, 3])],
    {
      ...{ mode: 'TFIDF', min_gram_length: 1, max_gram_length: 2, max_skip_count: 2 },
      ...{ ngram_counts: [0, 3], ngram_indexes: [4, 0, 1, 2, 3], pool_int64s: [1, 3, 9, 1, 2, 3, 3], weights: { floats: [0.5, 2, 3, 1.5, 7] } },
    },
    { makes: ['float'] },
  ),
  'n-grams of texts that are there': one(
    'TfIdfVectorizer',
    [texts([5], ['to', 'be', 'or', 'to', 'be'])],
    {
      ...{ mode: 'IDF', min_gram_length: 2, max_gram_length: 2, max_skip_count: 1 },
      ...{ ngram_counts: [0, 0], ngram_indexes: [0, 1, 2], pool_strings: { strings: ['to', 'be', 'to', 'or', 'or', 'or'] } },
    },
    { makes: ['float'] },
  ),
};

test.skipIf(!ort).each(Object.entries(AS_ORT))('as onnxruntime: %s', (name, each) => agreesWithOrt(name, each));

const KNOWN: Record<string, [NodeCase, Result[]]> = {
  'means of boxes': [
    one('RoiAlign', [f32([1, 1, 2, 2], [1, 2, 3, 4]), f32([1, 4], [0, 0, 2, 2]), i64([1], [0])], { sampling_ratio: 2 }, CLOSE),
    [{ shape: [1, 1, 1, 1], data: [2.5] }],
  ],
  'texts in lower case, without some': [
    one(
      'StringNormalizer',
      [texts([4], ['Monday', 'TUESDAY', 'monday', 'Écru'])],
      { case_change_action: 'LOWER', is_case_sensitive: 1, stopwords: { strings: ['monday'] }, locale: 'en_US' },
      { opset: 10 },
    ),
    [{ shape: [3], data: ['monday', 'tuesday', 'écru'] }],
  ],
  'texts without all': [
    one('StringNormalizer', [texts([1, 2], ['a', 'A'])], { is_case_sensitive: 0, stopwords: { strings: ['a'] } }, { opset: 10 }),
    [{ shape: [1, 1], data: [''] }],
  ],
  // As Python: an empty text is one part, but has no words.
  'an empty text between commas': [
    one('StringSplit', [texts([1], [''])], { delimiter: ',' }, { opset: 20, outputs: 2, makes: ['string', 'int64'] }),
    [
      { shape: [1, 1], data: [''] },
      { shape: [1], data: [1] },
    ],
  ],
  'impossible and certain': [one('Bernoulli', [f32([4], [0, 1, 0, 1])], {}, { hostOnly: true }), [{ shape: [4], data: [0, 1, 0, 1] }]],
  'the only possible class': [
    one('Multinomial', [f32([2, 3], [-1e9, 0, -1e9, 5, -1e9, -1e9])], { sample_size: 2 }, { hostOnly: true }),
    [{ shape: [2, 2], data: [1, 1, 0, 0] }],
  ],
};

test.each(Object.entries(KNOWN))('%s', (name, [each, expected]) => gives(name, each, expected));

const REFUSED: Record<string, [NodeCase, RegExp]> = {
  'a grid for other pictures': [one('GridSample', [picture, floats(1, 3, 4, 2)], {}, { opset: 16 }), /\[N, C, ...\] and \[N, ..., 2\] are expected/],
  'an unknown way between pixels': [
    one('GridSample', [picture, grid], { mode: 'linear' }, { opset: 16 }),
    /mode "linear"; bilinear, nearest, bicubic are known/,
  ],
  'boxes of a picture that is not there': [one('RoiAlign', [picture, boxes, i64([4], [0, 2, 1, 0])]), /box 1 is of picture 2 of 2/],
  'boxes of endless points': [one('RoiAlign', [picture, f32([1, 4], [0, 0, 1e6, 1e6]), i64([1], [0])]), /it reads \d+ pixels/],
  'a range without end': [one('Range', [i64([], [0]), i64([], [1]), i64([], [0])]), /from 0 to 1 in steps of 0/],
  'a range of too much': [one('Range', [i64([], [0]), i64([], [2 ** 40]), i64([], [1])]), /more than 1048576 elements/],
  'a negative extent': [one('ConstantOfShape', [list(-1)], {}, { makes: ['float'] }), /a shape of \[-1\]/],
  'texts that are numbers': [one('StringConcat', [texts([1], ['a']), list(1)], {}, { opset: 20 }), /holds int64, texts are expected/],
  'a pattern': [one('RegexFullMatch', [texts([1], ['a'])], { pattern: 'a+' }, { opset: 20, makes: ['bool'] }), /the operator RegexFullMatch is not supported/],
  'two pools': [
    one('TfIdfVectorizer', [list(1)], {
      ...{ mode: 'TF', min_gram_length: 1, max_gram_length: 1, max_skip_count: 0, ngram_counts: [0], ngram_indexes: [0], pool_int64s: [1] },
      pool_strings: { strings: ['a'] },
    }),
    /has no pool of n-grams, or two/,
  ],
  'truth values of a mean': [one('Bernoulli', [bool([1], [1])]), /probabilities of bool; floats are expected/],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_name, [each, message]) => {
  expect(await refusalOf(each)).toMatch(message);
});
