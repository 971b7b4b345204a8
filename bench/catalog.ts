/** The benchmarks by name: what is timed at which sizes, what it costs, and which kernel family's versions it can compare. */
import { UsageError } from '../src/errors.ts';
import { type AttentionShape, type ConvShape, type OpWork, outSize, type VitShape, type Work } from './work.ts';

export interface Benchmark {
  name: string;
  shape: string;
  work: Work;
  /** Kernel family whose versions --versions times side by side; null for whole models. */
  family: string | null;
  /** False where peers have nothing to compare. */
  peers: boolean;
  flops: number;
  /** Least memory traffic: every operand once. */
  bytes: number;
  /** A size for real GPUs, which would take a software adapter minutes. There, it is timed only if --only or --shape gives its whole shape. */
  large?: true;
}

function matmul(m: number, k: number, n: number, layout: 'NN' | 'NT' | 'TN' = 'NN'): Benchmark {
  return {
    name: 'matmul',
    shape: `${m}×${k}×${n} ${layout}`,
    work: { kind: 'matmul', m, k, n, transA: layout[0] === 'T', transB: layout[1] === 'T' },
    family: 'matmul',
    peers: true,
    flops: 2 * m * n * k,
    bytes: 4 * (m * k + k * n + m * n),
  };
}

/** The ten convolutions that make up ResNet-50: channels in and out, size in, kernel, stride. */
const RESNET_CONVOLUTIONS = [
  [3, 64, 224, 7, 2],
  [64, 64, 56, 3, 1],
  [64, 256, 56, 1, 1],
  [128, 128, 28, 3, 1],
  [128, 512, 28, 1, 1],
  [256, 256, 14, 3, 1],
  [256, 1024, 14, 1, 1],
  [512, 512, 7, 3, 1],
  [512, 2048, 7, 1, 1],
  [1024, 2048, 14, 1, 2],
] as const;

const GRADIENT_CONVOLUTIONS = [
  [256, 256, 14, 3, 1],
  [256, 1024, 14, 1, 1],
  [512, 512, 7, 3, 1],
  [512, 2048, 7, 1, 1],
] as const;

/** Primes throughout. */
const RAGGED_CONVOLUTION = [61, 127, 29, 3, 1] as const;

type ConvKind = 'conv' | 'convGradInput' | 'convGradWeight';
const CONV_NAMES: Record<ConvKind, string> = { conv: 'conv', convGradInput: 'conv-grad-input', convGradWeight: 'conv-grad-weight' };

const CONV_FAMILIES: Record<ConvKind, string> = { conv: 'conv2d', convGradInput: 'conv2d_grad_input', convGradWeight: 'conv2d_grad_weight' };

function convolution(kind: ConvKind, [channels, outChannels, size, kernel, stride]: readonly number[], images = 1): Benchmark {
  const geometry: ConvShape = { images, height: size, width: size, channels, outChannels, kernel, stride, pad: (kernel - 1) / 2 };
  const out = outSize(size, geometry);
  return {
    name: CONV_NAMES[kind],
    shape: `${kernel}×${kernel}${stride > 1 ? ` s${stride}` : ''} ${channels}→${outChannels} @${size}${images > 1 ? `, ${images} pictures` : ''}`,
    work: { kind, ...geometry },
    family: CONV_FAMILIES[kind],
    peers: true,
    flops: 2 * images * kernel * kernel * channels * outChannels * out * out,
    bytes: 4 * (images * channels * size * size + kernel * kernel * channels * outChannels + images * outChannels * out * out),
  };
}

function rows(kind: 'softmax' | 'crossEntropyGrad', count: number, columns: number): Benchmark {
  return {
    name: kind === 'softmax' ? 'softmax' : 'cross-entropy',
    shape: `${count}×${columns}`,
    work: { kind, rows: count, columns },
    family: kind === 'softmax' ? 'softmax' : 'cross_entropy',
    peers: true,
    flops: 5 * count * columns,
    bytes: 8 * count * columns,
  };
}

function cell(kind: 'lstmCell' | 'lstmCellGrad', batch: number, hidden: number): Benchmark {
  const [flops, words] = kind === 'lstmCell' ? [30, 11] : [27, 13]; // without the gates that only a gradient needs
  return {
    name: kind === 'lstmCell' ? 'lstm-cell' : 'lstm-cell-grad',
    shape: `${batch}×${hidden}`,
    work: { kind, rows: batch, hidden },
    family: kind === 'lstmCell' ? 'lstm_cell' : 'lstm_cell_grad',
    peers: true,
    flops: flops * batch * hidden,
    bytes: 4 * words * batch * hidden,
  };
}

function attention(kind: 'attention' | 'attentionGrad', batch: number, regions: number, keys: number, values: number): Benchmark {
  const shape: AttentionShape = { batch, regions, keys, values };
  const forward = batch * regions * (4 * keys + 2 * values + 5);
  const read = batch * (regions * (keys + values) + keys) + keys;
  return {
    name: kind === 'attention' ? 'attention' : 'attention-grad',
    shape: `${batch}×${regions}, A ${keys}, D ${values}`,
    work: { kind, ...shape },
    family: kind === 'attention' ? 'attention' : 'attention_grad',
    peers: true,
    flops: kind === 'attention' ? forward : batch * regions * (9 * keys + 2 * values + 4),
    bytes:
      4 * (kind === 'attention' ? read + batch * (values + regions) : read + batch * (values + 2 * regions) + 2 * batch * regions * keys + 3 * batch * keys),
  };
}

/** Both kernels of the gradient run; the versions timed are those of the first. */
function scoresGradient(batch: number, regions: number, keys: number, values: number): Benchmark {
  return { ...attention('attentionGrad', batch, regions, keys, values), name: 'attention-scores-grad', family: 'attention_scores_grad' };
}

function adamUpdate(count: number): Benchmark {
  return { name: 'adam', shape: `${count}`, work: { kind: 'adam', count }, family: 'adam', peers: true, flops: 14 * count, bytes: 28 * count };
}

function softmaxGradient(count: number, columns: number): Benchmark {
  const size = count * columns;
  return {
    ...{ name: 'softmax-grad', shape: `${count}×${columns}`, work: { kind: 'softmaxGrad', rows: count, columns } },
    ...{ family: 'softmax_grad', peers: true, flops: 4 * size, bytes: 12 * size },
  };
}

/** Sums of rows, a row added to all rows, a scaled sum in place, the likeliest token, the k largest: an op of the table, forward. */
function ofOp(name: string, family: string, op: OpWork['op'], shapes: number[][], attrs: OpWork['attrs'], flops: number): Benchmark {
  const size = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);
  const read = shapes.reduce((sum, shape) => sum + size(shape), 0);
  const written = op === 'add' || op === 'axpby' ? size(shapes[0]) : 2 * shapes[0][0];
  return {
    ...{ name, family, shape: shapes[0].join('×'), work: { kind: 'op', op, shapes, attrs }, peers: op === 'sum' || op === 'add' },
    ...{ flops: flops * size(shapes[0]), bytes: 4 * (read + written) },
  };
}

const rowSums = (count: number, columns: number) => ofOp('reduce', 'reduce', 'sum', [[count, columns]], { first: 1, end: 2, keepDims: false }, 1);
const biasRows = (count: number, columns: number) => ofOp('bias-rows', 'binary_rows', 'add', [[count, columns], [columns]], null, 1);
const scaledSum = (count: number) => ofOp('axpby', 'axpby', 'axpby', [[count], [count]], { alpha: 0.5, beta: 0.25 }, 3);
const likeliest = (count: number, columns: number) => ofOp('argmax-token', 'argmax_token', 'argmaxToken', [[count, columns]], { skipBelow: 0 }, 3);
const largest = (count: number, columns: number, k: number) => ofOp('top-k', 'top_k', 'topK', [[count, columns]], { k, skipBelow: 0 }, k);

/** Attention of each of `batch` pictures and `heads` heads, forward. */
function scaledDotProduct(batch: number, heads: number, queries: number, keys: number, width: number): Benchmark {
  const rows = (count: number) => [batch, heads, count, width];
  const shapes = [rows(queries), rows(keys), rows(keys)];
  return {
    ...{ name: 'scaled-dot-product', family: 'scaled_dot_product', shape: `${batch}×${heads}, T ${queries}, S ${keys}, D ${width}` },
    ...{ work: { kind: 'op', op: 'scaledDotProductAttention', shapes, attrs: { scale: 1 / Math.sqrt(width), causal: false } }, peers: false },
    ...{ flops: batch * heads * queries * keys * (4 * width + 5), bytes: 8 * batch * heads * width * (queries + keys) },
  };
}

/** One gradient of that attention, from what the forward pass kept of each query. */
function scaledDotProductGradient(of: 'query' | 'keys', batch: number, heads: number, queries: number, keys: number, width: number): Benchmark {
  const products = of === 'query' ? 3 : 4;
  return {
    ...{ name: `scaled-dot-product-grad-${of}`, family: `scaled_dot_product_grad_${of}`, shape: `${batch}×${heads}, T ${queries}, S ${keys}, D ${width}` },
    ...{ work: { kind: 'scaledDotProductGrad', of, batch, heads, queries, keys, width }, peers: false },
    ...{ flops: batch * heads * queries * keys * (2 * products * width + 5) },
    bytes: 4 * batch * heads * (of === 'query' ? width * (3 * queries + 2 * keys) + 4 * queries : width * (2 * queries + 4 * keys) + 4 * queries),
  };
}

/** Multiply-adds of ResNet-50 at 224² (4.09 G), two operations each. */
const RESNET_FLOPS = 8.18e9;
/** Those of ViT-B/16 at 224² (17.6 G). */
const VIT_FLOPS = 35.2e9;
const VIT_B: VitShape = { blocks: 12, width: 768, heads: 12, hidden: 3072, classes: 1000 };

function decoder(kind: 'trainStep' | 'greedy', batch: number, replayed: boolean): Benchmark {
  const shape = { batch, steps: 20, regions: 49, features: 2048, vocabulary: 5000, replayed };
  const [project, attention, hidden, embedding] = [256, 512, 512, 256];
  const perPicture = 2 * shape.regions * (shape.features * project + project * attention);
  const attend = 2 * shape.regions * (2 * attention + project);
  const perWord = 2 * (hidden * attention + 4 * hidden * (project + embedding + 3 * hidden) + hidden * shape.vocabulary) + attend;
  const forward = batch * (perPicture + shape.steps * perWord);
  return {
    name: kind === 'trainStep' ? 'train-step' : 'greedy',
    shape: `${batch}×${shape.steps} words, ${shape.regions}×${shape.features}, V ${shape.vocabulary}${replayed ? '' : kind === 'greedy' ? ', a readback per word' : ', op by op'}`,
    work: { kind, ...shape },
    family: null,
    peers: replayed && batch > 1,
    flops: kind === 'trainStep' ? 3 * forward - 2 * batch * shape.regions * shape.features * project : forward, // the features need no gradient
    bytes: 4 * (batch * shape.regions * shape.features + 9e6 * (kind === 'trainStep' ? 8 : shape.steps)),
  };
}

/** Benchmarks of models from files, by the names of the command. */
export const MODELS = ['resnet50', 'vit-b-16'] as const;
export type ModelName = (typeof MODELS)[number];

export interface ModelFile {
  name: ModelName;
  path: string;
  /** Pictures that it takes at a time; null where any number of them. */
  images: number | null;
}

/** Pictures at a time, where the file leaves that open. */
const BATCHES: Readonly<Record<ModelName, readonly number[]>> = { resnet50: [1, 8], 'vit-b-16': [1] };

function model({ name, path }: ModelFile, images: number): Benchmark {
  const common = { name, shape: `batch ${images}`, family: null, peers: true };
  return name === 'resnet50'
    ? { ...common, work: { kind: 'resnet50', images, model: path }, flops: images * RESNET_FLOPS, bytes: 4 * (25.6e6 + images * 22e6) }
    : { ...common, work: { kind: 'vit', images, model: path, ...VIT_B }, flops: images * VIT_FLOPS, bytes: 4 * (86.6e6 + images * 50e6) };
}

/** Pictures at a time on a real GPU. */
const LARGE_BATCH = 64;

/** Sizes for real GPUs: the products that benchmarks of GPUs use, a batch of ResNet-50's layers, and batches that training takes. */
const LARGE: readonly Benchmark[] = [
  matmul(2048, 2048, 2048),
  matmul(4096, 4096, 4096),
  matmul(4096, 4096, 4096, 'NT'),
  matmul(4096, 4096, 4096, 'TN'),
  ...[0, 1, 2, 5, 6, 7].map((i) => convolution('conv', RESNET_CONVOLUTIONS[i], LARGE_BATCH)),
  rows('softmax', 20480, 5000),
  rows('crossEntropyGrad', 20480, 5000),
  decoder('trainStep', 64, true),
  decoder('trainStep', 256, true),
  decoder('greedy', 512, true),
].map((each) => ({ ...each, large: true }));

/** All benchmarks; those of models need their files. */
export function catalog(files: readonly ModelFile[] = []): Benchmark[] {
  return [
    matmul(512, 512, 512),
    matmul(1024, 1024, 1024),
    matmul(64, 512, 5000),
    matmul(320, 512, 5000),
    matmul(64, 512, 5000, 'TN'),
    matmul(320, 512, 5000, 'TN'),
    matmul(64, 512, 5000, 'NT'),
    matmul(320, 512, 5000, 'NT'),
    matmul(317, 509, 4999), // primes: nothing is a multiple of a tile or of 4
    ...RESNET_CONVOLUTIONS.map((shape) => convolution('conv', shape)),
    convolution('conv', RAGGED_CONVOLUTION),
    ...GRADIENT_CONVOLUTIONS.map((shape) => convolution('convGradInput', shape)),
    convolution('convGradInput', RAGGED_CONVOLUTION),
    ...GRADIENT_CONVOLUTIONS.map((shape) => convolution('convGradWeight', shape)),
    convolution('convGradWeight', RAGGED_CONVOLUTION),
    rows('softmax', 2240, 5000),
    rows('softmax', 2237, 4999),
    rows('crossEntropyGrad', 2240, 5000),
    rows('crossEntropyGrad', 2237, 4999),
    cell('lstmCell', 64, 512),
    cell('lstmCell', 61, 509),
    cell('lstmCellGrad', 64, 512),
    cell('lstmCellGrad', 61, 509),
    attention('attention', 16, 49, 512, 256),
    attention('attention', 13, 47, 509, 251),
    attention('attentionGrad', 16, 49, 512, 256),
    attention('attentionGrad', 13, 47, 509, 251),
    scoresGradient(16, 49, 512, 256),
    scoresGradient(13, 47, 509, 251),
    scaledDotProduct(16, 8, 20, 49, 64),
    scaledDotProduct(13, 7, 19, 47, 61),
    scaledDotProductGradient('query', 16, 8, 20, 49, 64),
    scaledDotProductGradient('query', 13, 7, 19, 47, 61),
    scaledDotProductGradient('keys', 16, 8, 20, 49, 64),
    scaledDotProductGradient('keys', 13, 7, 19, 47, 61),
    softmaxGradient(640, 5000),
    softmaxGradient(641, 4999),
    rowSums(5000, 512),
    rowSums(4999, 509),
    biasRows(2048, 512),
    biasRows(2039, 509),
    scaledSum(4_000_000),
    scaledSum(1_000_003),
    likeliest(64, 5000),
    likeliest(61, 4999),
    largest(64, 5000, 3),
    largest(61, 4999, 3),
    adamUpdate(8_962_697), // the captioner's parameters
    adamUpdate(1_000_003),
    decoder('trainStep', 16, true),
    decoder('trainStep', 16, false),
    decoder('greedy', 64, true),
    decoder('greedy', 64, false),
    decoder('greedy', 1, true),
    decoder('greedy', 1, false),
    ...MODELS.flatMap((name) => files.filter((file) => file.name === name)).flatMap((file) =>
      (file.images === null ? BATCHES[file.name] : [file.images]).map((images) => model(file, images)),
    ),
    ...LARGE,
    ...files.filter(({ images }) => images === null).map((file): Benchmark => ({ ...model(file, LARGE_BATCH), large: true })),
  ];
}

/** Benchmarks of kernels, with the numbers of their `--shape` in order; those in brackets may be left out. */
const SHAPES: Readonly<Record<string, { numbers: string; example: string; make(given: readonly number[], layout: 'NN' | 'NT' | 'TN'): Benchmark }>> = {
  matmul: { numbers: 'MxKxN', example: '256x256x256', make: ([m, k, n], layout) => matmul(m, k, n, layout) },
  conv: {
    numbers: 'CxSIZExFILTERSxKERNEL[xSTRIDE[xPICTURES]]',
    example: '64x28x64x3',
    make: ([c, size, out, kernel, stride = 1, pictures = 1]) => convolution('conv', [c, out, size, kernel, stride], pictures),
  },
  'conv-grad-input': {
    numbers: 'CxSIZExFILTERSxKERNEL[xSTRIDE]',
    example: '64x14x64x3',
    make: ([c, size, out, kernel, stride = 1]) => convolution('convGradInput', [c, out, size, kernel, stride]),
  },
  'conv-grad-weight': {
    numbers: 'CxSIZExFILTERSxKERNEL[xSTRIDE]',
    example: '64x14x64x3',
    make: ([c, size, out, kernel, stride = 1]) => convolution('convGradWeight', [c, out, size, kernel, stride]),
  },
  softmax: { numbers: 'ROWSxCOLUMNS', example: '640x1000', make: ([count, columns]) => rows('softmax', count, columns) },
  'cross-entropy': { numbers: 'ROWSxCOLUMNS', example: '640x1000', make: ([count, columns]) => rows('crossEntropyGrad', count, columns) },
  'lstm-cell': { numbers: 'BATCHxUNITS', example: '64x512', make: ([batch, hidden]) => cell('lstmCell', batch, hidden) },
  'lstm-cell-grad': { numbers: 'BATCHxUNITS', example: '64x512', make: ([batch, hidden]) => cell('lstmCellGrad', batch, hidden) },
  attention: {
    numbers: 'BATCHxREGIONSxKEYSxVALUES',
    example: '16x49x256x256',
    make: ([batch, regions, keys, values]) => attention('attention', batch, regions, keys, values),
  },
  'attention-grad': {
    numbers: 'BATCHxREGIONSxKEYSxVALUES',
    example: '16x49x256x256',
    make: ([batch, regions, keys, values]) => attention('attentionGrad', batch, regions, keys, values),
  },
  'attention-scores-grad': {
    numbers: 'BATCHxREGIONSxKEYSxVALUES',
    example: '16x49x256x256',
    make: ([batch, regions, keys, values]) => scoresGradient(batch, regions, keys, values),
  },
  adam: { numbers: 'COUNT', example: '1000003', make: ([count]) => adamUpdate(count) },
  'softmax-grad': { numbers: 'ROWSxCOLUMNS', example: '640x1000', make: ([count, columns]) => softmaxGradient(count, columns) },
  'scaled-dot-product': {
    numbers: 'BATCHxHEADSxQUERIESxKEYSxWIDTH',
    example: '16x8x20x49x64',
    make: ([b, heads, queries, keys, width]) => scaledDotProduct(b, heads, queries, keys, width),
  },
  'scaled-dot-product-grad-query': {
    numbers: 'BATCHxHEADSxQUERIESxKEYSxWIDTH',
    example: '16x8x20x49x64',
    make: ([b, heads, queries, keys, width]) => scaledDotProductGradient('query', b, heads, queries, keys, width),
  },
  'scaled-dot-product-grad-keys': {
    numbers: 'BATCHxHEADSxQUERIESxKEYSxWIDTH',
    example: '16x8x20x49x64',
    make: ([b, heads, queries, keys, width]) => scaledDotProductGradient('keys', b, heads, queries, keys, width),
  },
  reduce: { numbers: 'ROWSxCOLUMNS', example: '2048x512', make: ([count, columns]) => rowSums(count, columns) },
  'bias-rows': { numbers: 'ROWSxCOLUMNS', example: '1024x512', make: ([count, columns]) => biasRows(count, columns) },
  axpby: { numbers: 'COUNT', example: '1000003', make: ([count]) => scaledSum(count) },
  'argmax-token': { numbers: 'ROWSxCOLUMNS', example: '64x5000', make: ([count, columns]) => likeliest(count, columns) },
  'top-k': { numbers: 'ROWSxCOLUMNSxK', example: '64x5000x3', make: ([count, columns, k]) => largest(count, columns, k) },
};

/** The benchmarks of kernels: the numbers that `--shape` takes, a size to begin with, and the family that they time. */
export const KERNEL_BENCHMARKS: readonly { name: string; numbers: string; example: string; family: string | null }[] = Object.entries(SHAPES).map(
  ([name, { numbers, example, make }]) => ({ name, numbers, example, family: make(example.split('x').map(Number), 'NN').family }),
);

/** Names of benchmarks that take `--shape`. */
export const KERNELS: readonly string[] = Object.keys(SHAPES);

export const NAMES = [...KERNELS, 'train-step', 'greedy', ...MODELS, 'first-caption'];

/** A benchmark at a size that is given as numbers with x between them. Throws a UsageError that names the numbers expected. */
export function customBenchmark(name: string, shape: string, layout: 'NN' | 'NT' | 'TN'): Benchmark {
  const { numbers, make } = SHAPES[name];
  const given = shape.split(/[x×]/);
  const most = numbers.replaceAll(/[[\]]/g, '').split('x').length;
  const least = numbers.replace(/\[.*\]/, '').split('x').length;
  const sizes = given.map(Number);
  if (given.length < least || given.length > most || !given.every((text) => /^[1-9]\d*$/.test(text)))
    throw new UsageError(`--shape ${shape}: ${name} takes ${numbers}, whole numbers from 1`);
  if (!sizes.every((size) => size <= 2 ** 24) || sizes.reduce((product, size) => product * size, 1) > 2 ** 36)
    throw new UsageError(`--shape ${shape}: is more than a benchmark can check in float64 on the host`);
  return make(sizes, layout);
}

/** No kernel and no model alone: a process of its own, which captions one picture. */
export const FIRST_CAPTION = { name: 'first-caption', shape: 'one picture, fresh process' };

export interface Selection {
  benchmarks: Benchmark[];
  firstCaption: boolean;
  /** Of what the names ask for, what cannot be done, and what it needs. */
  leftOut: string[];
}

/**
 * The benchmarks of these names (none: all) whose shape holds the text `only`. `canCaption` is whether there are a run and a picture.
 * Throws UsageError where a model that is named has no file, where a file would not be used, and where nothing is selected, naming
 * the shapes there are.
 */
export function select(names: readonly string[], only: string | undefined, files: readonly ModelFile[], canCaption: boolean): Selection {
  const wanted = (name: string) => names.length === 0 || names.includes(name) || names.includes('all');
  const fileOf = (name: ModelName) => files.find((file) => file.name === name);
  const given = files.map(({ path, name }) => `\n  ${path} is of ${name}`).join('');
  for (const name of MODELS) if (names.includes(name) && !fileOf(name)) throw new UsageError(`${name} needs --model FILE (.onnx or .onnx.gz)${given}`);
  for (const { name, path } of files) if (!wanted(name)) throw new UsageError(`--model ${path}: is of ${name}, which is not asked for`);
  const leftOut = [
    ...MODELS.filter(wanted).flatMap((name) => {
      const file = fileOf(name);
      if (!file) return [`${name} (it needs --model FILE)`];
      if (file.images === null) return [];
      return BATCHES[name].filter((images) => images !== file.images).map((images) => `${name} batch ${images} (${file.path} takes ${file.images} at a time)`);
    }),
    ...(!canCaption && wanted('first-caption') ? ['first-caption (it needs --run FOLDER and --picture FILE)'] : []),
  ];
  const there = catalog(files).filter(({ name }) => wanted(name));
  const fits = ({ shape }: { shape: string }) => !only || shape.includes(only);
  const selection = { benchmarks: there.filter(fits), firstCaption: canCaption && wanted('first-caption') && fits(FIRST_CAPTION), leftOut };
  if (selection.benchmarks.length > 0 || selection.firstCaption) return selection;
  const all = [...there, ...(canCaption && wanted('first-caption') ? [FIRST_CAPTION] : [])].map(({ name, shape }) => `  ${name} ${shape}`);
  throw new UsageError([`--only ${only}: no shape holds "${only}"; there are`, ...all, ...leftOut.map((each) => `  left out: ${each}`)].join('\n'));
}
