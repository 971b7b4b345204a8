/** `glimpse selftest`: declared. */
import { list, type OptionsOf, text, withoutOption } from '../../options.ts';
import { command, DEVICE, OUTPUT, SHADER, WATCH } from '../command.ts';

const options = {
  op: {
    values: list('name'),
    belongsTo: [withoutOption('golden', 'the check of single ops without --golden'), withoutOption('shader', 'the check of ops without --shader')],
    help: 'ops to check instead of all',
  },
  golden: { values: text('file'), help: 'check the whole captioner against a golden (safetensors), instead of single ops' },
  ...SHADER,
  ...WATCH,
  ...DEVICE,
  ...OUTPUT,
};
export type SelftestOptions = OptionsOf<typeof options>;

export const selftest = command({
  name: 'selftest',
  description: 'check every kernel version and gradient against its float64 reference on this adapter',
  options,
  run: async () => (await import('../selftest.ts')).selftest,
});
