/** The files of an exported model, for each format, and the folder that they are written to. */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { copyFileAtomic, makeFolder, onFile, removeAbandoned, renameLasting, sync, temporaryName, writeFileAtomic } from '../../data/atomic_file.ts';
import { openFile } from '../../data/file_source.ts';
import { preprocessingOf } from '../../data/preprocessing.ts';
import { FileError } from '../../errors.ts';
import { visionFiles } from '../encoder/hugging_face.ts';
import { EXPORTED, saveModel } from '../training/checkpoint.ts';
import { configFile, type Exported, onnxCard, PREPROCESSING_FILE, preprocessingFile, safetensorsCard, suppressOf, VOCABULARY_FILE, webCard } from './card.ts';
import { decoderModels, type ExportedGraph } from './decoder_models.ts';
import { encoderModel, otherFilesOf } from './encoder_model.ts';
import { visionModel } from './vision_model.ts';

/** A file by its name, and what writes it at a path. */
export interface ExportedFile {
  name: string;
  write(path: string): void;
}

const text = (name: string, content: string): ExportedFile => ({ name, write: (path) => writeFileAtomic(path, [content]) });
const json = (name: string, content: unknown): ExportedFile => text(name, `${JSON.stringify(content, null, 2)}\n`);

const described = ({ checkpoint }: Exported): ExportedFile[] => [
  json(VOCABULARY_FILE, checkpoint.vocabulary),
  json(PREPROCESSING_FILE, preprocessingFile(checkpoint)),
];

/** The encoder as a model that ends with its regions. */
function encoderOf({ checkpoint, version }: Exported, encoderFile: string): ExportedGraph {
  const { encoder, encoderWeights: tuned, config } = checkpoint;
  const { featureMap, layout = 'NCHW', dropped = 0 } = encoder;
  const { size: side } = preprocessingOf(encoder.preprocessing);
  const said = { name: 'encoder', doc: 'Prepared pictures → feature maps, as the decoder takes them' };
  const files = visionFiles(encoderFile);
  if (files) {
    const { bytes, input, output } = visionModel(files, { featureMap, side, tuned, version });
    return { ...said, bytes, inputs: [input], outputs: [output] };
  }
  const { features } = config.sizes;
  const { bytes, input, output } = encoderModel(openFile(encoderFile), { featureMap, layout, dropped, features, side, tuned });
  return {
    ...{ ...said, bytes },
    inputs: [{ name: input, type: 'float', shape: ['pictures', 3, side, side], doc: 'prepared pictures' }],
    outputs: [{ name: output, type: 'float', shape: ['pictures', 'regions', features], doc: 'feature maps' }],
  };
}

/** Name of an encoder that was made one file. */
const ONE_FILE = 'encoder.onnx';

/** `encoderFile` is the encoder's file, unpacked, or the folder of a vision transformer. Throws a GlimpseError for a model or an encoder that cannot be exported. */
export function onnxFiles(o: Exported, encoderFile: string): ExportedFile[] {
  const { config, weights } = o.checkpoint;
  const { sizes, options } = config;
  const decoder = decoderModels({ sizes, options, weights }, { suppress: suppressOf(o.checkpoint), version: o.version });
  const models = [encoderOf(o, encoderFile), ...decoder];
  return [
    ...models.map(({ name, bytes }): ExportedFile => ({ name: `${name}.onnx`, write: (path) => writeFileAtomic(path, bytes) })),
    ...described(o),
    json('config.json', configFile(o, models)),
    text('README.md', onnxCard(o, models)),
  ];
}

const model = ({ checkpoint }: Exported, encoder: string): ExportedFile => ({
  name: EXPORTED,
  // The folder may go to other machines and to other people: no path of this one goes along.
  write: (path) => saveModel(path, { ...checkpoint, encoder: { ...checkpoint.encoder, path: encoder } }),
});

/** The last part of a path of this or of another system. */
const lastPart = (path: string): string => path.split(/[/\\]/).pop() as string;

export function safetensorsFiles(o: Exported): ExportedFile[] {
  return [model(o, lastPart(o.checkpoint.encoder.path)), ...described(o), json('config.json', configFile(o)), text('README.md', safetensorsCard(o))];
}

/**
 * `given` is the encoder's file as it was, `encoderFile` the same unpacked. A page reads one file. So a vision transformer is written as
 * one, and a graph with weights in other files, too. It ends with the regions and has the trained weights.
 */
export function webFiles(o: Exported, given: string, encoderFile: string): ExportedFile[] {
  if (visionFiles(encoderFile) || otherFilesOf(openFile(encoderFile)).length > 0) {
    const { bytes, outputs } = encoderOf(o, encoderFile);
    const sha256 = createHash('sha256');
    for (const part of bytes) sha256.update(part);
    const { preprocessing } = o.checkpoint.encoder;
    const encoder = {
      path: ONE_FILE,
      sha256: sha256.digest('hex'),
      featureMap: outputs[0].name,
      layout: 'NTC',
      dropped: 0,
      preprocessing,
      tuned: null,
    } as const;
    return [
      { name: EXPORTED, write: (path) => saveModel(path, { ...o.checkpoint, encoder, encoderWeights: new Map() }) },
      { name: ONE_FILE, write: (path) => writeFileAtomic(path, bytes) },
      text('README.md', webCard(o, ONE_FILE, true)),
    ];
  }
  const name = given.endsWith('.gz') ? 'encoder.onnx.gz' : 'encoder.onnx';
  return [model(o, name), { name, write: (path) => copyFileAtomic(given, path) }, text('README.md', webCard(o, name, false))];
}

const isEmpty = (folder: string): boolean => readdirSync(folder).length === 0;

/** Whether something would be overwritten in a folder. Throws a FileError if the path is no folder. */
export function isTaken(out: string): boolean {
  return onFile(out, () => {
    const there = statSync(out, { throwIfNoEntry: false });
    if (there && !there.isDirectory()) throw new FileError(out, 'is a file; a folder is expected');
    return there !== undefined && !isEmpty(out);
  });
}

/**
 * Writes the files into a folder, which is made. A new folder comes into being whole. In one that is there, each file is whole, and
 * files of other names stay. Returns names and sizes.
 */
export function writeFiles(out: string, files: readonly ExportedFile[]): { name: string; bytes: number }[] {
  const folder = resolve(out);
  const temporary = temporaryName(folder);
  return onFile(out, () => {
    makeFolder(dirname(folder));
    removeAbandoned(folder);
    mkdirSync(temporary);
    try {
      for (const { name, write } of files) write(join(temporary, name));
      const sizes = files.map(({ name }) => ({ name, bytes: statSync(join(temporary, name)).size }));
      sync(temporary);
      if (!existsSync(folder) || isEmpty(folder)) {
        rmSync(folder, { force: true, recursive: true });
        renameLasting(temporary, folder);
      } else {
        for (const { name } of files) renameSync(join(temporary, name), join(folder, name));
        sync(folder);
      }
      return sizes;
    } finally {
      rmSync(temporary, { force: true, recursive: true });
    }
  });
}
