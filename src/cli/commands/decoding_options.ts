/** The options of decoding, which `caption`, `eval` and `gallery` share. */
import { type Condition, choice, FLAG, number, text, whenAtLeast, whole, withOption, withoutOption } from '../../options.ts';

const SEARCHED = whenAtLeast('beam', 2);
const GROUPED = whenAtLeast('groups', 2);

/** `sampled`: what decides that captions are sampled, and not searched for. */
export const decodingOptions = (beam: number, sampled: readonly Condition[] = []) =>
  ({
    beam: { values: whole('width', { atLeast: 1, atMost: 10 }), default: beam, belongsTo: sampled, help: 'hypotheses to keep; 1 is greedy decoding' },
    penalty: {
      values: choice('name', ['none', 'average', 'wu']),
      default: 'average',
      belongsTo: [SEARCHED],
      help: 'how hypotheses of different lengths compare: by their sum, by their mean, or by the rule of Wu and others',
    },
    groups: { values: whole('count', { atLeast: 1 }), default: 1, belongsTo: [SEARCHED], help: 'groups of a diverse beam search, which share the beam evenly' },
    diversity: { values: number('number', { atLeast: 0 }), default: 0.5, belongsTo: [GROUPED], help: 'what a token costs for each earlier group that took it' },
    consensus: {
      values: FLAG,
      belongsTo: [SEARCHED, withoutOption('neighbors', 'a search without --neighbors')],
      help: 'say the hypothesis that agrees best with the others, and not the likeliest',
    },
    neighbors: {
      values: text('file'),
      belongsTo: [SEARCHED],
      help: 'say the hypothesis that is most like what people said of similar training pictures; `glimpse neighbors` makes the file',
    },
    samples: {
      values: whole('count', { atLeast: 0, atMost: 100 }),
      default: 40,
      belongsTo: [withOption('neighbors')],
      help: 'captions to sample besides the beam, as further hypotheses',
    },
    minLength: { values: whole('words', { atLeast: 0 }), default: 0, help: 'shortest caption, its end included' },
    maxLength: { values: whole('words', { atLeast: 1 }), defaultNote: 'that of the training captions', help: 'longest caption' },
    noRepeat: { values: whole('words', { atLeast: 0 }), default: 0, help: 'length of the runs of words that may not come twice; 0 allows all' },
  }) as const;
