/** `glimpse gallery`: declared. */
import { FEATURES } from '../../data/feature_options.ts';
import { type Condition, choice, FLAG, type OptionsOf, text, whole, withOption } from '../../options.ts';
import { command, DEVICE, ENCODING, LINKS, OUTPUT } from '../command.ts';
import { decodingOptions } from './decoding_options.ts';

const arePictures = ({ pictures }: Readonly<Record<string, unknown>>) => Array.isArray(pictures) && pictures.length > 0;
const PICTURES: Condition = { to: 'picture files', why: '--data and --features bring their own', holds: arePictures };
const NO_PICTURES: Condition = { to: 'a call without picture files', holds: (values) => !arePictures(values) };
const SPLIT: Condition = { ...NO_PICTURES, to: '--data and --features', why: 'picture files are captioned as they are given' };
const SCORED: Condition = {
  to: '--references, or --data and --features',
  why: 'without references there are no scores, and all pictures are shown',
  holds: (values) => !arePictures(values) || values.references !== undefined,
};

const options = {
  ...decodingOptions(3),
  references: { values: text('file'), belongsTo: [PICTURES], help: 'COCO annotations of the pictures, found by the longest matching path' },
  encoding: { ...ENCODING.encoding, belongsTo: [withOption('references')] },
  skipBad: { values: FLAG, belongsTo: [PICTURES], help: 'leave out pictures that cannot be read' },
  encoder: { values: text('file'), belongsTo: [PICTURES], help: 'the encoder’s file, if it is no longer where the features were made' },
  data: { values: text('file'), belongsTo: [NO_PICTURES, withOption('features')], help: 'dataset made by prepare' },
  features: { ...FEATURES.features, belongsTo: [NO_PICTURES, withOption('data')] },
  allowMissing: { ...FEATURES.allowMissing, belongsTo: [SPLIT] },
  split: { values: choice('name', ['train', 'val', 'test']), default: 'val', belongsTo: [SPLIT], help: 'split to caption' },
  limit: { values: whole('count', { atLeast: 1 }), default: 200, belongsTo: [SPLIT], help: 'pictures of the split at most' },
  followLinks: { ...LINKS.followLinks, belongsTo: [SPLIT] },
  count: { values: whole('count', { atLeast: 1 }), default: 8, belongsTo: [SCORED], help: 'pictures to show of the best, of the worst, and at random' },
  seed: { values: whole('number', { atLeast: 0 }), default: 0, belongsTo: [SCORED], help: 'random seed of those at random' },
  out: { values: text('folder'), default: 'out/gallery', help: 'folder of the page and its PNGs' },
  ...DEVICE,
  ...OUTPUT,
} as const;
export type GalleryOptions = OptionsOf<typeof options>;

export const gallery = command({
  name: 'gallery',
  description: 'show what a model says of pictures and where it looks at each word: a page, and a PNG per picture',
  arguments: { '<model>': 'checkpoint file or the folder of a run', '[pictures...]': 'picture files, or folders of them; or give --data and --features' },
  options,
  run: async () => (await import('../gallery.ts')).gallery,
});
