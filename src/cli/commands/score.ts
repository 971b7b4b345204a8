/** `glimpse score`: declared. */
import { type OptionsOf, text, whole } from '../../options.ts';
import { command, ENCODING, OUTPUT } from '../command.ts';

export const BOOTSTRAP = { values: whole('count', { atLeast: 0 }), default: 1000, help: 'resamples for the 95 % intervals; 0 gives none' } as const;
export const DOCUMENT_FREQUENCIES = {
  values: text('file'),
  help: 'COCO annotations of a collection whose document frequencies CIDEr-D takes, in the place of the references’ own',
} as const;

const options = {
  references: { values: text('file'), required: true, help: 'COCO annotations' },
  candidates: { values: text('file'), required: true, help: 'COCO results: [{"image_id", "caption"}]' },
  documentFrequencies: DOCUMENT_FREQUENCIES,
  bootstrap: BOOTSTRAP,
  ...ENCODING,
  ...OUTPUT,
} as const;
export type ScoreOptions = OptionsOf<typeof options>;

export const score = command({
  name: 'score',
  description: 'score captions against references: BLEU, METEOR, ROUGE-L, CIDEr-D, per corpus and picture',
  options,
  run: async () => (await import('../score.ts')).score,
});
