/** `glimpse new-kernel`: declared. */
import { type OptionsOf, text } from '../../options.ts';
import { command, OUTPUT } from '../command.ts';

const options = {
  like: { values: text('version'), defaultNote: 'the plainest', help: 'version of the family to begin with' },
  ...OUTPUT,
};
export type NewKernelOptions = OptionsOf<typeof options>;

export const newKernel = command({
  name: 'new-kernel',
  description: 'write a shader to begin a kernel of your own with: a version of the family, and what may be changed',
  arguments: { '<family>': 'a kernel family, such as matmul or softmax', '[file]': 'file to write (default: FAMILY.wgsl here)' },
  options,
  run: async () => (await import('../new_kernel.ts')).newKernel,
});
