/** `glimpse eval`: declared. */
import { FEATURES } from '../../data/feature_options.ts';
import { choice, type OptionsOf, text, whole } from '../../options.ts';
import { command, DEVICE, OUTPUT } from '../command.ts';
import { decodingOptions } from './decoding_options.ts';
import { BOOTSTRAP, DOCUMENT_FREQUENCIES } from './score.ts';

const options = {
  data: { values: text('file'), required: true, help: 'dataset made by prepare' },
  features: { ...FEATURES.features, required: true },
  allowMissing: FEATURES.allowMissing,
  ...decodingOptions(3),
  split: { values: choice('name', ['train', 'val', 'test']), default: 'val', help: 'split to caption' },
  limit: { values: whole('count', { atLeast: 1 }), help: 'pictures at most' },
  batch: { values: whole('count', { atLeast: 1 }), default: 32, help: 'pictures to caption at a time' },
  documentFrequencies: DOCUMENT_FREQUENCIES,
  bootstrap: BOOTSTRAP,
  out: { values: text('file'), help: 'write the captions as COCO results' },
  ...DEVICE,
  ...OUTPUT,
} as const;
export type EvalOptions = OptionsOf<typeof options>;

export const evaluate = command({
  name: 'eval',
  description: 'caption a split with a trained model, or with several as an ensemble, and score the captions',
  arguments: { '<models...>': 'checkpoint files or folders of runs; the mean of the probabilities of several decides' },
  options,
  run: async () => (await import('../score.ts')).evaluate,
});
