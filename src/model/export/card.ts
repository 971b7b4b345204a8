/** What an exported model says of itself, for programs (`config.json`) and for people (`README.md`). Nothing in it is made up. */
import { basename } from 'node:path';
import { type Preprocessing, preprocessingOf } from '../../data/preprocessing.ts';
import { END, PAD, START, UNKNOWN } from '../../data/words.ts';
import type { CaptionerOptions } from '../captioner/captioner.ts';
import { isTransformer } from '../captioner/transformer.ts';
import type { Checkpoint } from '../training/checkpoint.ts';
import type { ExportedGraph } from './decoder_models.ts';
import { OPSET, type Port } from './graph.ts';

export const VOCABULARY_FILE = 'vocabulary.json';
export const PREPROCESSING_FILE = 'preprocessing.json';

/** What an epoch of training came to, from the run's log. */
export interface LoggedEpoch {
  epoch: number;
  trainLoss: number;
  valLoss: number | null;
  cider: number | null;
}

/** What is exported, and what is known of it. */
export interface Exported {
  checkpoint: Checkpoint;
  /** The log's entry of the checkpoint's epoch; null where there is none. */
  logged: LoggedEpoch | null;
  /** Of glimpse. */
  version: string;
}

/** The basic preset may say every word, special ones too. */
export const suppressOf = ({ config }: Checkpoint): boolean => config.preset === 'recommended';

/** Most words of a caption where nothing else is said, endseq included: that of the training captions. */
const longestOf = ({ config }: Checkpoint): number => config.maxLength - 1;

/** The options that the decoder of this kind has. */
function architectureOf({ decoder, cell, score, query, attention, contextToOutput, gate, learnedStart, layers, heads, pictureAs }: CaptionerOptions) {
  if (decoder === 'transformer') return { decoder, layers, heads };
  if (decoder === 'gpt2') return { decoder, layers, heads, pictureAs };
  return { decoder, cell, score, ...(decoder === 'stacked' ? { query } : {}), attention, contextToOutput, gate, learnedStart };
}

export function preprocessingFile({ encoder }: Checkpoint): object {
  const { size, resize, order, divisor, mean, deviation } = preprocessingOf(encoder.preprocessing);
  return {
    name: encoder.preprocessing,
    ...{ size, resize: resize ?? 'lanczos3, to a square; proportions change' },
    ...{ layout: 'pictures, channels, rows, columns', order, divisor, mean, deviation },
    value: '(pixel / divisor − mean) / deviation, per channel, pixels 0 to 255 in sRGB',
  };
}

const described = (ports: readonly Port[]) => ports.map(({ name, type, shape }) => ({ name, type, shape }));

/** The content of `config.json`. `models` are the ONNX files, where there are any. */
export function configFile(o: Exported, models: readonly Pick<ExportedGraph, 'name' | 'inputs' | 'outputs'>[] = []): object {
  const { config, encoder, encoderWeights } = o.checkpoint;
  return {
    ...{ format: 'glimpse model 1', madeWith: `glimpse ${o.version}` },
    ...{ architecture: architectureOf(config.options), sizes: config.sizes },
    ...(config.words ? { words: config.words } : {}),
    specialWords: { pad: PAD, unknown: UNKNOWN, start: START, end: END },
    ...{ suppressSpecialWords: suppressOf(o.checkpoint), maxLength: longestOf(o.checkpoint) },
    ...{ vocabulary: VOCABULARY_FILE, preprocessing: PREPROCESSING_FILE },
    encoder: {
      ...{ file: basename(encoder.path), sha256: encoder.sha256, featureMap: encoder.featureMap, preprocessing: encoder.preprocessing },
      ...(encoder.layout ? { layout: encoder.layout, leadingTokensLeftOut: encoder.dropped ?? 0 } : {}),
      ...{ trainedWeights: encoder.tuned, trainedLayers: encoderWeights.size > 0 ? config.encoderLayers : [] },
    },
    ...(models.length > 0
      ? { models: Object.fromEntries(models.map(({ name, inputs, outputs }) => [`${name}.onnx`, { inputs: described(inputs), outputs: described(outputs) }])) }
      : {}),
  };
}

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`);

const counted = (count: number, what: string): string => `${count.toLocaleString('en-US')} ${what}${count === 1 ? '' : 's'}`;

function whatItIs({ checkpoint, version }: Exported): string[] {
  const { config, weights, vocabulary, encoder, encoderWeights } = checkpoint;
  const { options: o, sizes } = config;
  const parameters = [...weights.values()].reduce((sum, { data }) => sum + data.length, 0);
  const layers = {
    stacked: 'attention and two recurrent layers, stacked',
    'show-attend-tell': 'attention and one recurrent layer (Xu and others 2015)',
    'up-down': 'attention between two recurrent layers (Anderson and others 2018)',
    transformer: `a transformer of ${counted(o.layers, 'layer')} with ${counted(o.heads, 'head')}`,
    gpt2: `GPT-2 (Radford and others 2019) of ${counted(o.layers, 'layer')} with ${counted(o.heads, 'head')}, which sees the picture ${o.pictureAs === 'prefix' ? 'as tokens before the words' : 'by cross-attention'}`,
  }[o.decoder];
  const details = isTransformer(o)
    ? []
    : [
        `cells: ${o.cell.toUpperCase()}`,
        `${o.attention} additive attention, scored by ${o.score}`,
        o.gate ? 'a gate on the context' : 'no gate on the context',
      ];
  return [
    `An image captioner, made with glimpse ${version}: ${layers}${details.length > 0 ? `; ${details.join('; ')}` : ''}.`,
    '',
    `- ${counted(parameters, 'parameter')} without the encoder, ${counted(vocabulary.length, 'word')}, feature maps of ${sizes.regions} × ${sizes.features}`,
    `- encoder: \`${basename(encoder.path)}\`, SHA-256 \`${encoder.sha256}\`, feature map \`${encoder.featureMap}\`, preprocessing \`${encoder.preprocessing}\``,
    ...(encoderWeights.size > 0 ? [`- trained layers of the encoder: ${config.encoderLayers.join(', ')}`] : []),
  ];
}

function training({ checkpoint, logged }: Exported): string[] {
  const { config, progress, trainedOn } = checkpoint;
  const known = (name: string, value: string | number | null | undefined): string[][] => (value === null || value === undefined ? [] : [[name, String(value)]]);
  const rows = [
    ['preset', config.preset],
    ['loss', config.objective],
    ['epochs, updates', `${progress.epoch}, ${progress.updates}`],
    ['dropout', String(config.options.dropout)],
    ['seed', String(config.seed)],
    ...known('hash of the training pictures and captions', config.trainingSet),
    ...known('started from weights', config.start),
    ...known('word vectors', config.wordVectors),
    ...known('language model', config.languageModel),
    ...known('trained on', trainedOn && `${trainedOn.adapter}, glimpse ${trainedOn.version}`),
  ];
  const scores = logged
    ? [
        [`loss of the training in epoch ${logged.epoch}`, logged.trainLoss.toFixed(4)],
        ...(logged.valLoss === null ? [] : [['loss of the validation, nats per word', logged.valLoss.toFixed(4)]]),
        ...(logged.cider === null ? [] : [['CIDEr-D of greedy captions, validation', logged.cider.toFixed(4)]]),
      ]
    : progress.bestScore === null
      ? []
      : [['best CIDEr-D of greedy captions in the run until then, validation', progress.bestScore.toFixed(4)]];
  return [
    ...['## Training', '', ...table(['', ''], rows), ''],
    ...['## Scores', ''],
    ...(scores.length > 0 ? table(['', ''], scores) : ['The run has no scores.']),
    ...['', '## License', '', 'Whoever publishes this model states its license here, with that of the pictures, captions and encoder.'],
  ];
}

const shapeText = ({ type, shape }: Port): string => `${type} [${(shape ?? []).join(', ')}]`;

function portsTable(models: readonly ExportedGraph[]): string[] {
  return models.flatMap(({ name, doc, inputs, outputs }) => [
    ...[`### ${name}.onnx`, '', `${doc}.`, ''],
    ...table(
      ['', 'name', 'shape', ''],
      [
        ...inputs.map((port) => ['input', `\`${port.name}\``, shapeText(port), port.doc ?? '']),
        ...outputs.map((port) => ['output', `\`${port.name}\``, shapeText(port), port.doc ?? '']),
      ],
    ),
    '',
  ]);
}

/** Lines of Python that scale a picture as its encoder's preprocessing says. */
function pythonResize({ size, resize }: Preprocessing): string {
  if (!resize) return `picture = picture.resize((p['size'], p['size']), Image.LANCZOS)`;
  const { edge, to, filter } = resize;
  const sides = edge === 'both' ? `[${to}, ${to}]` : `[max(${to}, int(${to} * side / min(picture.size))) for side in picture.size]`;
  return `sides = ${sides}
left, top = ((side - ${size}) // 2 for side in sides)
picture = picture.resize(sides, Image.${filter.toUpperCase()}).crop((left, top, left + ${size}, top + ${size}))`;
}

/** How pictures are scaled, in words. */
function resizeText({ size, resize }: Preprocessing): string {
  if (!resize) return 'Pictures are whole: scaled to a square by Lanczos';
  return `Pictures are scaled by ${resize.filter}, ${resize.edge === 'both' ? 'both edges' : 'the shortest edge'} to ${resize.to} pixels; the middle ${size} × ${size} are taken, once they are`;
}

const hasTokens = ({ checkpoint }: Exported): boolean => checkpoint.config.words === 'byte-pairs';

const wordsText = (o: Exported): string => (hasTokens(o) ? 'the tokens by their ids, a character for each byte as GPT-2 has them' : 'the words by their ids');

/** Lines of Python that print the words of a caption. */
const pythonText = (o: Exported): string =>
  hasTokens(o)
    ? `text = ''.join(vocabulary[i] for i in words[0] if i not in (special['end'], special['pad']))
seen = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
hidden = iter(range(256, 512))
byte = {chr(b if b in seen else next(hidden)): b for b in range(256)}
print(bytes(byte[character] for character in text).decode(errors='replace'))`
    : `print(' '.join(vocabulary[i] for i in words[0] if i not in (special['end'], special['pad'])))`;

/** Captions a picture in Python, with what the folder holds. The inputs are those of the encoder and of decoder_greedy. */
const python = (o: Exported, preprocessing: Preprocessing, pixels: string, features: string): string => `import json
import numpy as np
import onnxruntime
from PIL import Image

config, p, vocabulary = (json.load(open(name)) for name in ('config.json', 'preprocessing.json', 'vocabulary.json'))
picture = Image.open('photograph.jpg').convert('RGB')
${pythonResize(preprocessing)}
pixels = np.asarray(picture, np.float32)[:, :, :: 1 if p['order'] == 'rgb' else -1]
x = ((pixels / p['divisor'] - p['mean']) / p['deviation']).transpose(2, 0, 1)[None].astype(np.float32)

encoder, decoder = (onnxruntime.InferenceSession(f'{name}.onnx') for name in ('encoder', 'decoder_greedy'))
[features] = encoder.run(None, {${JSON.stringify(pixels)}: x})
length = np.array(config['maxLength'], np.int64)
words, log_probs, attention = decoder.run(None, {${JSON.stringify(features)}: features, 'max_length': length})
special = config['specialWords']
${pythonText(o)}`;

export function onnxCard(o: Exported, models: readonly ExportedGraph[]): string {
  const [encoder, greedy] = [models[0], models[models.length - 1]];
  const { preprocessing: said, layout } = o.checkpoint.encoder;
  const feature = layout && layout !== 'NCHW' ? ` --feature ${encoder.outputs[0].name}` : ''; // the last feature map would not be found
  const preprocessing = preprocessingOf(said);
  return page([
    ...['# Image captioner, as ONNX', '', ...whatItIs(o), ''],
    ...['## Files', ''],
    ...table(
      ['file', ''],
      [
        ...models.map(({ name, doc }) => [`\`${name}.onnx\``, doc]),
        ['`vocabulary.json`', wordsText(o)],
        ['`preprocessing.json`', 'how pixels become the encoder’s input'],
        ['`config.json`', 'sizes, special words, inputs and outputs'],
      ],
    ),
    '',
    `The decoder is of opset ${OPSET}. ${resizeText(preprocessing)}, turned as their EXIF says, on white where they are transparent.`,
    suppressOf(o.checkpoint)
      ? 'Greedy decoding never says pad, unknown or startseq, as the model was trained to be used.'
      : 'Greedy decoding may say every word, also special ones, as the model was trained to be used.',
    '',
    ...['With onnxruntime:', '', '```python', python(o, preprocessing, encoder.inputs[0].name, greedy.inputs[0].name), '```', ''],
    'To choose words by another rule, run `decoder_start` once. Then run `decoder_step` for each word: its `next_…` outputs are the next step’s states.',
    'The first word is startseq.',
    ...[
      '',
      `Glimpse reads the encoder again: \`glimpse features --encoder ${encoder.name}.onnx${feature} --preprocess ${preprocessing.resize ? `'${said}'` : said.split('@')[0]} …\`.`,
      '',
    ],
    ...['## Inputs and outputs', '', ...portsTable(models)],
    ...training(o),
  ]);
}

export function safetensorsCard(o: Exported): string {
  const { encoderWeights, encoder } = o.checkpoint;
  const name = basename(encoder.path);
  return page([
    ...['# Image captioner, as safetensors', '', ...whatItIs(o), ''],
    ...['## Files', ''],
    ...table(
      ['file', ''],
      [
        ['`model.safetensors`', `the parameters, float32: \`weight.NAME\` of the captioner${encoderWeights.size > 0 ? ', `encoder.NAME` of the encoder' : ''}`],
        ['`vocabulary.json`', wordsText(o)],
        ['`preprocessing.json`', 'how pixels become the encoder’s input'],
        ['`config.json`', 'kind of decoder, sizes, special words, encoder'],
      ],
    ),
    '',
    'Matrices are [inputs, outputs]. Gates of an LSTM are in the order input, forget, candidate, output; those of a GRU reset, update, candidate.',
    ...(encoderWeights.size > 0 ? ['Kernels of the encoder’s convolutions are [rows, columns, inputs, outputs].'] : []),
    '',
    'The metadata of `model.safetensors` repeats all that captioning needs. So the folder can stand in the place of a checkpoint:',
    ...['', '```sh', 'glimpse caption FOLDER photograph.jpg', '```', ''],
    `The encoder is looked for beside it, as \`${name}\`; \`--encoder\` names another place. Training goes on with \`glimpse train --start FOLDER\`.`,
    '',
    ...training(o),
  ]);
}

/** `isMade` tells that the encoder's file was made for the page. */
export function webCard(o: Exported, encoder: string, isMade: boolean): string {
  return page([
    ...['# Image captioner, for the browser', '', ...whatItIs(o), ''],
    ...['## Files', ''],
    ...table(
      ['file', ''],
      [
        ['`model.safetensors`', 'the captioner, with its vocabulary and configuration in the metadata'],
        [
          `\`${encoder}\``,
          isMade ? 'the encoder that it was trained with, as one file that ends with its regions' : 'the encoder that it was trained with, as it was',
        ],
      ],
    ),
    '',
    'Drop both files on the caption page of the study site. They are read in the browser, and nothing is uploaded. Or serve the page with the model loaded:',
    ...['', '```sh', 'glimpse serve FOLDER', 'glimpse caption FOLDER photograph.jpg', '```', ''],
    ...training(o),
  ]);
}

const page = (lines: readonly string[]): string => `${lines.join('\n').replace(/\n{3,}/g, '\n\n')}\n`;
