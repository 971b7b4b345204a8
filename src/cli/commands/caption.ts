/** `glimpse caption`: declared. */
import { FLAG, number, type OptionsOf, text, whenAtLeast, whole, withOption, withoutOption } from '../../options.ts';
import { command, DEVICE, OUTPUT, SHADER } from '../command.ts';
import { decodingOptions } from './decoding_options.ts';

const options = {
  ...decodingOptions(1, [withoutOption('sample', 'a search without --sample')]),
  encoder: { values: text('file'), help: 'the encoder’s file, if it is no longer where the features were made' },
  nBest: { values: whole('count', { atLeast: 1 }), default: 1, belongsTo: [whenAtLeast('beam', 2)], help: 'hypotheses to print per picture' },
  batch: { values: whole('count', { atLeast: 1 }), default: 8, help: 'pictures to caption at a time' },
  sample: { values: FLAG, help: 'sample the words at random instead of searching' },
  temperature: { values: number('number', { above: 0 }), default: 1, belongsTo: [withOption('sample')], help: 'softmax temperature' },
  topK: { values: whole('count', { atLeast: 0 }), default: 0, belongsTo: [withOption('sample')], help: 'sample among the k likeliest words; 0 takes all' },
  topP: {
    values: number('share', { above: 0, atMost: 1 }),
    default: 1,
    belongsTo: [withOption('sample')],
    help: 'sample among the likeliest words that make up this probability together',
  },
  seed: { values: whole('number', { atLeast: 0 }), default: 0, belongsTo: [withOption('sample')], help: 'random seed' },
  skipBad: { values: FLAG, help: 'leave out pictures that cannot be read' },
  ...SHADER,
  ...DEVICE,
  ...OUTPUT,
} as const;
export type CaptionOptions = OptionsOf<typeof options>;

export const caption = command({
  name: 'caption',
  description: 'caption pictures with a trained model',
  arguments: { '<model>': 'checkpoint file or the folder of a run', '<pictures...>': 'picture files, or folders of them' },
  options,
  run: async () => (await import('../caption.ts')).caption,
});
