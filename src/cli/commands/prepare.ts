/** `glimpse prepare`: declared. */
import { parseColumns } from '../../data/table_columns.ts';
import { RENAMED_WORD_RULES, WORD_RULES } from '../../data/words.ts';
import { type Condition, choice, FLAG, list, number, type OptionsOf, SWITCH, text, whenOption, whole, withOption } from '../../options.ts';
import { command, ENCODING, LINKS, OUTPUT } from '../command.ts';

/** Flickr's lists and Karpathy's file name a split for every picture, and so does `--coco-val`. */
const OPEN_SPLITS: Condition = {
  to: '--table, --shards or --coco-train',
  why: 'the other sources name every picture’s split',
  holds: ({ table, shards, cocoTrain }) => table !== undefined || shards !== undefined || cocoTrain !== undefined,
};
const WITH_COLUMNS: Condition = { to: '--table or --shards', holds: ({ table, shards }) => table !== undefined || shards !== undefined };
const IN_FOLDER: Condition = { to: 'sources other than --shards', why: 'shards hold their pictures', holds: ({ shards }) => shards === undefined };
const DRAWN: Condition = {
  to: '--fraction below 1, --val-share or --test-share',
  why: 'nothing else is drawn at random',
  holds: ({ fraction, valShare, testShare }) => Number(fraction) < 1 || Number(valShare) > 0 || Number(testShare) > 0,
};

const options = {
  images: { values: text('folder'), belongsTo: [IN_FOLDER], help: 'folder of the pictures; needed unless shards hold them' },
  out: { values: text('file'), required: true, help: 'dataset to write (JSON)' },
  flickr: { values: text('file'), help: 'Flickr8k or Flickr30k token file' },
  trainList: { values: text('file'), belongsTo: [withOption('flickr')], help: 'file names of the training split' },
  valList: { values: text('file'), belongsTo: [withOption('flickr')], help: 'file names of the validation split' },
  testList: { values: text('file'), belongsTo: [withOption('flickr')], help: 'file names of the test split' },
  cocoTrain: { values: text('file'), help: 'COCO captions JSON of the training split' },
  cocoVal: { values: text('file'), help: 'COCO captions JSON of the validation split' },
  karpathy: { values: text('file'), help: 'Karpathy’s split JSON (dataset_coco.json, dataset_flickr8k.json, …)' },
  table: { values: text('file'), help: 'pictures of your own: .csv, .tsv, .txt, .jsonl or .parquet with image, caption and perhaps split' },
  shards: {
    values: list('paths'),
    help: 'files that hold pictures and captions, or folders of them: .tar of WebDataset, .parquet with a column of pictures',
  },
  valShards: { values: list('paths'), belongsTo: [withOption('shards')], help: 'shards of the validation split' },
  testShards: { values: list('paths'), belongsTo: [withOption('shards')], help: 'shards of the test split' },
  columns: {
    values: text('names', parseColumns),
    belongsTo: [WITH_COLUMNS],
    help: 'columns of a table, or endings and JSON fields in tar shards, where they have other names: image=NAME,caption=NAME,split=NAME',
  },
  ...ENCODING,
  fraction: { values: number('share', { above: 0, atMost: 1 }), default: 1, help: 'share of the training pictures to keep, drawn at random' },
  valShare: {
    values: number('share', { atLeast: 0, below: 1 }),
    default: 0,
    belongsTo: [OPEN_SPLITS],
    help: 'share of the pictures without a split that become validation',
  },
  testShare: {
    values: number('share', { atLeast: 0, below: 1 }),
    default: 0,
    belongsTo: [OPEN_SPLITS],
    help: 'share of the pictures without a split that become test',
  },
  seed: { values: whole('number', { atLeast: 0 }), default: 42, belongsTo: [DRAWN], help: 'random seed of splits and fraction' },
  words: {
    values: choice('rule', WORD_RULES, { what: 'word rule', names: RENAMED_WORD_RULES }),
    default: 'ascii',
    help: 'how captions become words: ascii keeps a–z and digits, ptb makes the tokens of the scores, unicode keeps letters and digits of any script, byte-pairs makes the tokens of a language model',
  },
  tokenizer: {
    values: text('folder'),
    belongsTo: [whenOption('words', 'byte-pairs')],
    help: 'folder of the language model, with vocab.json and merges.txt',
  },
  vocabulary: { values: whole('size', { atLeast: 5 }), default: 5000, help: 'most frequent words to keep, special words included' },
  minCount: { values: whole('count', { atLeast: 1 }), default: 1, help: 'occurrences below which a word becomes <unk>' },
  maxLength: { values: whole('words', { atLeast: 3 }), default: 35, help: 'longest caption, startseq and endseq included' },
  decode: { values: SWITCH, default: true, help: 'decode every picture once, to know that all are sound' },
  skipBad: { values: FLAG, help: 'leave out pictures that are missing, unreadable, or have no caption' },
  ...LINKS,
  ...OUTPUT,
} as const;
export type PrepareOptions = OptionsOf<typeof options>;

export const prepare = command({
  name: 'prepare',
  description: 'turn captions and split lists into a dataset: vocabulary, word ids, a report of faults',
  options,
  run: async () => (await import('../prepare.ts')).prepare,
});
