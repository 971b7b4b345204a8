/** `glimpse features`: declared. */

import { LAYOUTS } from '../../data/feature_layout.ts';
import { UsageError } from '../../errors.ts';
import { type Condition, choice, FLAG, list, type OptionsOf, text, whole, withOption } from '../../options.ts';
import { command, DEVICE, LINKS, OUTPUT } from '../command.ts';

const FRESH_ENCODER: Condition = {
  to: '--encoder without --model',
  why: '--model brings its own preprocessing and grid',
  holds: ({ model }) => model === undefined,
};

function checkShard(given: string, flag: string): void {
  const [, number, of] = /^(\d+)\/(\d+)$/.exec(given) ?? [];
  if (!(Number(number) >= 1 && Number(number) <= Number(of))) throw new UsageError(`${flag} is a number of a count, as 2/5; got "${given}"`);
}

const options = {
  data: { values: text('file'), required: true, help: 'dataset made by prepare' },
  encoder: {
    values: text('file'),
    help: 'network as .onnx or .onnx.gz, or a folder of Hugging Face with a ViT, DeiT, DINOv2 or CLIP as config.json and model.safetensors',
  },
  model: { values: text('model'), help: 'run or checkpoint file whose encoder to take, as training left it; --encoder says where its file is now' },
  out: {
    values: text('folder'),
    required: true,
    help: 'feature store to write; each process of mpirun or srun writes a shard of its own below it, which train and merge take together',
  },
  preprocess: {
    values: text('name'),
    belongsTo: [FRESH_ENCODER],
    help: 'how pixels are prepared: imagenet, caffe or tensorflow; needed unless a preprocessor_config.json beside the encoder says it, or the file is a known one',
  },
  feature: {
    values: text('name'),
    belongsTo: [FRESH_ENCODER],
    help: 'value of the network whose regions are the features: [N, C, H, W], [N, H, W, C] or tokens [N, T, C]; the default is its last feature map, or last_hidden_state',
  },
  layout: {
    values: choice('axes', LAYOUTS),
    belongsTo: [FRESH_ENCODER, withOption('feature')],
    help: 'order of the axes of that value, where its shape leaves it open',
  },
  split: { values: list('names', ['train', 'val', 'test']), help: 'splits to take instead of all' },
  limit: { values: whole('count', { atLeast: 1 }), help: 'pictures per split at most' },
  shard: {
    values: text('i/n', checkShard),
    help: 'take only part i of n of the pictures, also under mpirun or srun; train takes the stores of all parts, and `glimpse merge` joins them',
  },
  precision: { values: choice('type', ['f32', 'f16']), default: 'f32', help: 'type of the stored numbers' },
  grid: {
    values: whole('regions', { atLeast: 1, atMost: 64 }),
    belongsTo: [FRESH_ENCODER],
    help: 'regions a side: pictures are encoded at 32 times as many pixels',
  },
  batch: { values: whole('count', { atLeast: 1 }), default: 8, help: 'pictures to encode at a time' },
  skipBad: { values: FLAG, help: 'leave out pictures that cannot be read' },
  ...LINKS,
  ...DEVICE,
  ...OUTPUT,
} as const;
export type FeaturesOptions = OptionsOf<typeof options>;

export const features = command({
  name: 'features',
  description: 'run the image encoder over a dataset’s pictures into a packed store; goes on where it stopped',
  options,
  run: async () => (await import('../features.ts')).features,
});
