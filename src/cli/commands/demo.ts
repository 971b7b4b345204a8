/** `glimpse demo`: declared. */
import { type OptionsOf, text, whole } from '../../options.ts';
import { command, DEVICE, OUTPUT } from '../command.ts';

const options = {
  out: { values: text('folder'), default: 'out/demo', help: 'folder of the page and its report' },
  scenes: { values: whole('count', { atLeast: 64 }), default: 3072, help: 'training scenes' },
  epochs: { values: whole('count', { atLeast: 1 }), default: 6, help: 'epochs at most' },
  seed: { values: whole('number', { atLeast: 0 }), default: 7, help: 'random seed' },
  save: { values: text('file'), help: 'write the trained weights here, as safetensors; the site can begin with them' },
  ...DEVICE,
  ...OUTPUT,
};
export type DemoCommandOptions = OptionsOf<typeof options>;

export const demo = command({
  name: 'demo',
  description: 'make captioned scenes, train encoder and captioner on them, caption unseen ones, write a page',
  options,
  run: async () => (await import('../demo.ts')).demo,
});
