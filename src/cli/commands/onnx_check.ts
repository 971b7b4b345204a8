/** `glimpse onnx check`: declared. */
import { number, type OptionsOf } from '../../options.ts';
import { command, DEVICE, OUTPUT } from '../command.ts';

const options = {
  rtol: { values: number('number', { atLeast: 0 }), default: 1e-3, help: 'relative tolerance' },
  atol: { values: number('number', { atLeast: 0 }), default: 1e-5, help: 'absolute tolerance' },
  ...DEVICE,
  ...OUTPUT,
};
export type OnnxCheckOptions = OptionsOf<typeof options>;

export const onnxCheck = command({
  name: 'onnx check',
  within: 'ONNX models',
  description: 'run models on their own test data and compare',
  arguments: { '<folders...>': 'folders with model.onnx and test_data_set_*/' },
  options,
  run: async () => (await import('../onnx.ts')).check,
});
