/** `glimpse tune`: declared. */
import { list, type OptionsOf, text } from '../../options.ts';
import { command, DEVICE, OUTPUT } from '../command.ts';

const options = {
  family: { values: list('names'), help: 'kernel families to tune instead of all' },
  out: { values: text('file'), help: 'file to write the table to, instead of the cache' },
  ...DEVICE,
  ...OUTPUT,
};
export type TuneOptions = OptionsOf<typeof options>;

export const tune = command({
  name: 'tune',
  description: 'find the fastest version of every kernel on this adapter and keep the table for later runs',
  options,
  run: async () => (await import('../tune.ts')).tuneCommand,
});
