/** `glimpse onnx inspect`, `onnx run` and `onnx profile`: declared. */
import { UsageError } from '../../errors.ts';
import { FLAG, type OptionsOf, repeated, text, withoutOption } from '../../options.ts';
import { command, DEVICE, OUTPUT } from '../command.ts';

const named =
  (what: string) =>
  (given: string, flag: string): readonly [name: string, value: string] => {
    const at = given.lastIndexOf('=');
    if (at < 1 || at === given.length - 1) throw new UsageError(`${flag} takes ${what}, got "${given}"`);
    return [given.slice(0, at), given.slice(at + 1)];
  };

const dim = {
  values: repeated('name=extent', (given, flag): readonly [string, number] => {
    const [name, extent] = named('NAME=EXTENT, such as N=4')(given, flag);
    if (!/^\d{1,9}$/.test(extent) || Number(extent) < 1) throw new UsageError(`${flag} ${name}: "${extent}" is no extent from 1`);
    return [name, Number(extent)];
  }),
  help: 'an extent that the file leaves open, by its name there; those not given are 1; repeatable',
};

const input = {
  values: repeated('name=file', named('NAME=FILE.pb, such as x=input_0.pb')),
  help: 'values of an input, from a file with one ONNX tensor; inputs not given are random floats, or whole numbers of 0; repeatable',
};

const inspectOptions = {
  structure: { values: FLAG, help: 'read the file only; without it the model runs once, for shapes, work and memory' },
  nodes: { values: FLAG, belongsTo: [withoutOption('structure', 'a model that runs')], help: 'list every node that runs, with the shapes that it makes' },
  dim: { ...dim, belongsTo: [withoutOption('structure', 'a model that runs')] },
  input: { ...input, belongsTo: [withoutOption('structure', 'a model that runs')] },
  ...DEVICE,
  ...OUTPUT,
} as const;
export type OnnxInspectOptions = OptionsOf<typeof inspectOptions>;

export const onnxInspect = command({
  name: 'onnx inspect',
  within: 'ONNX models',
  description: 'show what a model is made of: inputs, operators, shapes, work, memory, and what would not be supported',
  arguments: { '<file>': 'the model' },
  options: inspectOptions,
  run: async () => (await import('../onnx_model.ts')).inspect,
});

const runOptions = {
  input,
  dim,
  out: { values: text('folder'), help: 'write every output there, as output_0.pb, output_1.pb, … with one ONNX tensor each' },
  ...DEVICE,
  ...OUTPUT,
} as const;
export type OnnxRunOptions = OptionsOf<typeof runOptions>;

export const onnxRun = command({
  name: 'onnx run',
  within: 'ONNX models',
  description: 'run a model, and print or write its outputs',
  arguments: { '<file>': 'the model' },
  options: runOptions,
  run: async () => (await import('../onnx_model.ts')).run,
});

const profileOptions = {
  input,
  dim,
  chrome: { values: text('file'), help: 'write every dispatch as a trace for chrome://tracing or Perfetto' },
  ...DEVICE,
  ...OUTPUT,
} as const;
export type OnnxProfileOptions = OptionsOf<typeof profileOptions>;

export const onnxProfile = command({
  name: 'onnx profile',
  within: 'ONNX models',
  description: 'show where the time of a model goes: kernel by version by operation',
  arguments: { '<file>': 'the model' },
  options: profileOptions,
  run: async () => (await import('../onnx_model.ts')).profile,
});
