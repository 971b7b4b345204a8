/** `glimpse merge`: declared. */
import { FLAG, type OptionsOf } from '../../options.ts';
import { command, OUTPUT } from '../command.ts';

const options = {
  allowMissing: { values: FLAG, help: 'merge also if shards are missing; which ones is told' },
  ...OUTPUT,
} as const;
export type MergeOptions = OptionsOf<typeof options>;

export const merge = command({
  name: 'merge',
  description: 'join feature stores, such as the shards of several machines',
  arguments: {
    '<out>': 'the store to make, or to complete',
    '<stores...>': 'finished stores of the same encoder, or folders in which several lie side by side',
  },
  options,
  run: async () => (await import('../features.ts')).merge,
});
