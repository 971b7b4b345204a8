/** `glimpse export`: declared. */
import { type Condition, choice, FLAG, type OptionsOf, text } from '../../options.ts';
import { command, OUTPUT } from '../command.ts';

const WITH_ENCODER: Condition = {
  to: '--format onnx or web',
  why: 'safetensors hold the captioner alone, and name its encoder',
  holds: ({ format }) => format !== 'safetensors',
};

const options = {
  format: {
    values: choice('name', ['onnx', 'safetensors', 'web']),
    required: true,
    help: 'ONNX models of encoder and decoder, the parameters with a configuration, or the files that the site’s caption page takes',
  },
  out: { values: text('folder'), required: true, help: 'folder to write' },
  encoder: { values: text('file'), belongsTo: [WITH_ENCODER], help: 'the encoder’s file, if it is no longer where the features were made' },
  force: { values: FLAG, help: 'write into a folder that is not empty; files of the same names are replaced' },
  ...OUTPUT,
} as const;
export type ExportOptions = OptionsOf<typeof options>;

export const exportModel = command({
  name: 'export',
  description: 'write a trained model as files for other programs, or for the browser',
  arguments: { '<model>': 'checkpoint file or the folder of a run' },
  options,
  run: async () => (await import('../export.ts')).exportCommand,
});
