/** `glimpse profile`: declared. */
import { type Condition, type OptionsOf, text, whole } from '../../options.ts';
import { command, DEVICE, OUTPUT, SHADER } from '../command.ts';

const SYNTHETIC: Condition = {
  to: 'train-step and greedy, and to a run without a picture',
  why: 'a picture has features of its own, and its caption a length',
  holds: ({ picture }) => picture === undefined,
};

const TRAINING: Condition = {
  to: 'train-step, and to a run without a picture',
  why: 'greedy decoding makes one caption of a picture',
  holds: ({ what, picture }) => what !== 'greedy' && picture === undefined,
};

const options = {
  pictures: { values: whole('count', { atLeast: 1 }), default: 4, belongsTo: [SYNTHETIC], help: 'pictures of a step' },
  words: { values: whole('count', { atLeast: 1 }), default: 6, belongsTo: [SYNTHETIC], help: 'words of a caption' },
  captions: {
    values: whole('count', { atLeast: 1 }),
    default: 1,
    belongsTo: [TRAINING],
    help: 'captions per picture; of several, the shortest has half the words',
  },
  chrome: { values: text('file'), help: 'write every dispatch as a trace for chrome://tracing or Perfetto' },
  ...SHADER,
  ...DEVICE,
  ...OUTPUT,
} as const;
export type ProfileOptions = OptionsOf<typeof options>;

export const profile = command({
  name: 'profile',
  description: 'show where the time of a step goes: kernel by version by operation, copies, uploads, JavaScript',
  arguments: {
    '<what>': 'train-step, greedy, or a run: its training step or, with a picture, captioning that',
    '[picture]': 'a picture to caption with the run',
  },
  options,
  run: async () => (await import('../profile.ts')).profileCommand,
});
