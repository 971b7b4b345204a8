/** `glimpse plot`: declared. */
import { type OptionsOf, text } from '../../options.ts';
import { command, OUTPUT } from '../command.ts';

const options = {
  out: { values: text('file'), defaultNote: 'curves.html in the run', help: 'page (.html), or the loss curve alone (.svg)' },
  ...OUTPUT,
};
export type PlotOptions = OptionsOf<typeof options>;

export const plot = command({
  name: 'plot',
  description: 'draw the curves of a training run',
  arguments: { '<runs...>': 'the folder of a run, or of several that started one from the other' },
  options,
  run: async () => (await import('../plot.ts')).plot,
});
