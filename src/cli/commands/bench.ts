/** `glimpse bench`: declared. bench/command.ts does the work. */
import { type Condition, choice, FLAG, number, type OptionsOf, repeated, text, whole, withOption, withoutOption } from '../../options.ts';
import { command, DEVICE, OUTPUT, SHADER, WATCH } from '../command.ts';

const chosen = ({ names }: Readonly<Record<string, unknown>>): readonly string[] => (Array.isArray(names) && !names.includes('all') ? names : []);
const includes = (...names: string[]): Condition => ({
  to: `the benchmark ${names.join(' or ')}`,
  holds: (values) => chosen(values).length === 0 || names.some((name) => chosen(values).includes(name)),
});
const MODELS = ['train-step', 'greedy', 'resnet50', 'vit-b-16', 'first-caption'];
const KERNELS: Condition = {
  to: 'benchmarks of kernels',
  why: 'whole models have no versions',
  holds: (values) => chosen(values).length === 0 || chosen(values).some((name) => !MODELS.includes(name)),
};
const TIMED: Condition = {
  to: 'benchmarks other than first-caption',
  why: 'it has one size and no peer, and starts a fresh process a fixed number of times',
  holds: (values) => chosen(values).length === 0 || chosen(values).some((name) => name !== 'first-caption'),
};

const options = {
  peers: { values: FLAG, belongsTo: [TIMED], help: 'time other engines on the same work too; `npm run oracles` installs them' },
  versions: { values: FLAG, belongsTo: [KERNELS], help: 'time every version of the kernels side by side' },
  shape: { values: text('numbers'), belongsTo: [KERNELS], help: 'a size of your own for one benchmark, such as 777x333x555 for matmul (M, K, N)' },
  layout: { values: choice('layout', ['NN', 'NT', 'TN']), default: 'NN', belongsTo: [withOption('shape')], help: 'which operands of matmul are transposed' },
  only: { values: text('text'), belongsTo: [TIMED, withoutOption('shape', 'the sizes of the catalog')], help: 'take only sizes whose name holds this text' },
  model: {
    values: repeated('file', (given) => given),
    belongsTo: [includes('resnet50', 'vit-b-16')],
    help: 'ResNet-50 or ViT-B/16 as .onnx or .onnx.gz, told apart by its graph; repeatable, one file for each',
  },
  run: { values: text('folder'), belongsTo: [includes('first-caption'), withOption('picture')], help: 'a trained run' },
  picture: { values: text('file'), belongsTo: [includes('first-caption'), withOption('run')], help: 'a picture' },
  samples: { values: whole('count', { atLeast: 3 }), default: 15, belongsTo: [TIMED], help: 'timed runs of each benchmark at least' },
  seconds: { values: number('number', { atLeast: 0 }), default: 2, belongsTo: [TIMED], help: 'seconds for one measurement' },
  chart: { values: text('file'), help: 'write a roofline chart (.svg or .html)' },
  report: { values: text('file'), help: 'write the table as Markdown' },
  worklog: { values: text('file'), help: 'write the worklog of matmul as Markdown: every version, what it changes, and what that gave' },
  append: { values: text('file'), help: 'append the result as a line of JSON, for `bench plot`' },
  ...SHADER,
  ...WATCH,
  ...DEVICE,
  ...OUTPUT,
} as const;
export type BenchOptions = OptionsOf<typeof options>;

export const bench = command({
  name: 'bench',
  description: 'time kernels and models, beside the roofs of this adapter and, if asked, beside other engines',
  arguments: {
    '[names...]':
      'matmul, conv, conv-grad-input, conv-grad-weight, softmax, cross-entropy, lstm-cell, lstm-cell-grad, attention, attention-grad, attention-scores-grad, adam, softmax-grad, reduce, bias-rows, axpby, argmax-token, top-k, train-step, greedy, resnet50, vit-b-16, first-caption, or all',
  },
  options,
  run: async () => (await import('../../../bench/command.ts')).bench,
});

const page = { out: { values: text('file'), defaultNote: 'beside the input', help: 'page to write (.html)' }, ...OUTPUT };

export const benchCompare = command({
  name: 'bench compare',
  description: 'compare two results of `bench --json`; exit 1 if anything became slower beyond its interval',
  arguments: { '<before>': 'a JSON file', '<after>': 'another' },
  options: OUTPUT,
  run: async () => (await import('../../../bench/history.ts')).compareRuns,
});

export const benchPlot = command({
  name: 'bench plot',
  description: 'draw the medians of many runs, gathered by `bench --append`',
  arguments: { '<history>': 'the file of lines' },
  options: page,
  run: async () => (await import('../../../bench/history.ts')).plotHistory,
});

export const benchReport = command({
  name: 'bench report',
  description: 'make one self-contained page of a result of `bench --json`: roofline, versions, peers',
  arguments: { '<result>': 'a JSON file' },
  options: page,
  run: async () => (await import('../../../bench/page.ts')).writeReport,
});
