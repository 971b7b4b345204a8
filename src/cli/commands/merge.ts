/** `glimpse merge`: declared. */
import { command, OUTPUT } from '../command.ts';

export const merge = command({
  name: 'merge',
  description: 'join feature stores, such as the shards of several machines',
  arguments: { '<out>': 'the store to make, or to complete', '<stores...>': 'finished stores of the same encoder' },
  options: OUTPUT,
  run: async () => (await import('../features.ts')).merge,
});
