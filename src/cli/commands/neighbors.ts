/** `glimpse neighbors`: declared. */
import { FEATURES } from '../../data/feature_options.ts';
import { type OptionsOf, text } from '../../options.ts';
import { command, DEVICE, OUTPUT } from '../command.ts';

const options = {
  data: { values: text('file'), required: true, help: 'dataset made by prepare' },
  features: { ...FEATURES.features, required: true },
  allowMissing: FEATURES.allowMissing,
  out: { values: text('file'), required: true, help: 'file to write' },
  ...DEVICE,
  ...OUTPUT,
} as const;
export type NeighborsOptions = OptionsOf<typeof options>;

export const neighbors = command({
  name: 'neighbors',
  description: 'gather what --neighbors needs: a vector of every training picture, and its captions',
  options,
  run: async () => (await import('../neighbors.ts')).neighbors,
});
