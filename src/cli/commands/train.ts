/** `glimpse train`: declared. Its options are those of the schema of training. */
import { decidingValues, TRAINING_OPTIONS } from '../../model/training/options.ts';
import { type OptionsOf, withOption } from '../../options.ts';
import { command, DEVICE, ENCODING, OUTPUT, SHADER } from '../command.ts';

const options = { ...TRAINING_OPTIONS, encoding: { ...ENCODING.encoding, belongsTo: [withOption('wordVectors')] }, ...SHADER, ...DEVICE, ...OUTPUT };
export type TrainOptions = OptionsOf<typeof options>;

export const train = command({
  name: 'train',
  description: 'train the captioner on stored features',
  options,
  deciding: (values) => decidingValues(values, values.start === undefined ? values.preset : undefined),
  run: async () => (await import('../train.ts')).trainCommand,
});
