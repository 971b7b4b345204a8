/** `glimpse average`: declared. */
import type { OptionsOf } from '../../options.ts';
import { command, OUTPUT } from '../command.ts';

const options = { ...OUTPUT } as const;
export type AverageOptions = OptionsOf<typeof options>;

export const average = command({
  name: 'average',
  description: 'make one model of the mean of several checkpoints’ weights, such as the last ones of a run',
  arguments: {
    '<out>': 'checkpoint file to write, ending in .safetensors',
    '<models...>': 'checkpoint files or folders of runs, of models that are built alike',
  },
  options,
  run: async () => (await import('../average.ts')).average,
});
