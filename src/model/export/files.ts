/** The files of an exported model, for each format, and the folder that they are written to. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { copyFileAtomic, makeFolder, onFile, removeAbandoned, renameLasting, sync, temporaryName, writeFileAtomic } from '../../data/atomic_file.ts';
import { openFile } from '../../data/file_source.ts';
import { preprocessingOf } from '../../data/preprocessing.ts';
import { FileError } from '../../errors.ts';
import { printable } from '../../printable.ts';
import { EXPORTED, saveModel } from '../training/checkpoint.ts';
import { configFile, type Exported, onnxCard, PREPROCESSING_FILE, preprocessingFile, safetensorsCard, suppressOf, VOCABULARY_FILE, webCard } from './card.ts';
import { decoderModels, type ExportedGraph } from './decoder_models.ts';
import { encoderModel, otherFilesOf } from './encoder_model.ts';

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

/** `encoderFile` is the encoder's file, unpacked. Throws a GlimpseError for a model or an encoder that cannot be exported. */
export function onnxFiles(o: Exported, encoderFile: string): ExportedFile[] {
  const { config, weights, encoder, encoderWeights } = o.checkpoint;
  const { sizes, options } = config;
  if (encoder.layout !== undefined && encoder.layout !== 'NCHW')
    throw new FileError(
      encoderFile,
      `its features "${printable(encoder.featureMap)}" are ${encoder.layout}; only maps [N, C, H, W] are written as ONNX; export safetensors`,
    );
  const decoder = decoderModels({ sizes, options, weights }, { suppress: suppressOf(o.checkpoint), version: o.version });
  const { size: side } = preprocessingOf(encoder.preprocessing);
  const made = encoderModel(openFile(encoderFile), { featureMap: encoder.featureMap, features: sizes.features, side, tuned: encoderWeights });
  const first: ExportedGraph = {
    ...{ name: 'encoder', doc: 'Prepared pictures → feature maps, as the decoder takes them', bytes: made.bytes },
    inputs: [{ name: made.input, type: 'float', shape: ['pictures', 3, side, side], doc: 'prepared pictures' }],
    outputs: [{ name: made.output, type: 'float', shape: ['pictures', 'regions', sizes.features], doc: 'feature maps' }],
  };
  const models = [first, ...decoder];
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

/** `given` is the encoder's file as it was, `encoderFile` the same unpacked. */
export function webFiles(o: Exported, given: string, encoderFile: string): ExportedFile[] {
  const [other] = otherFilesOf(openFile(encoderFile));
  if (other !== undefined) throw new FileError(encoderFile, `has weights in another file, "${other}", which a page cannot read; export it as onnx`);
  const name = given.endsWith('.gz') ? 'encoder.onnx.gz' : 'encoder.onnx';
  return [model(o, name), { name, write: (path) => copyFileAtomic(given, path) }, text('README.md', webCard(o, name))];
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
