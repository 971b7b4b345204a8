/** `glimpse trace`: declared. */
import { choice, FLAG, type OptionsOf, text, whole, withoutOption } from '../../options.ts';
import { command, DEVICE, OUTPUT, SHADER } from '../command.ts';

const options = {
  word: { values: whole('number', { atLeast: 1 }), help: 'show the equations of this word’s step only, from 1' },
  train: { values: FLAG, belongsTo: [withoutOption('golden', 'a run; a golden has its gradients')], help: 'the gradient too, of the caption’s cross-entropy' },
  golden: { values: text('file'), help: 'trace the captioner of a golden (safetensors) and compare with its logits, attention and gradients' },
  values: { values: choice('which', ['first', 'all']), default: 'first', help: 'values of each tensor to write down; all: but the weights, which the run has' },
  json: { values: text('file'), help: 'write everything as JSON; - for stdout, instead of the text' },
  html: { values: text('file'), help: 'write a page: the picture with attention, equations with their kernels and gradients' },
  ...SHADER,
  ...DEVICE,
  quiet: OUTPUT.quiet,
} as const;
export type TraceOptions = OptionsOf<typeof options>;

export const trace = command({
  name: 'trace',
  description: 'one caption through the captioner equation by equation: tensors, kernels, time, and the error against float64',
  arguments: { '[run]': 'checkpoint file or the folder of a run', '[picture]': 'a picture to caption' },
  options,
  run: async () => (await import('../trace.ts')).traceCommand,
});
