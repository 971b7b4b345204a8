/** `glimpse serve`: declared. */
import { number, type OptionsOf, text, whole } from '../../options.ts';
import { command, DEVICE, OUTPUT } from '../command.ts';
import { decodingOptions } from './decoding_options.ts';

const options = {
  host: { values: text('address'), default: '127.0.0.1', help: 'address to listen at; any other than this machine’s own opens it to others' },
  port: { values: whole('number', { atLeast: 0, atMost: 65535 }), default: 8080, help: 'port to listen at; 0 takes a free one' },
  batch: { values: whole('count', { atLeast: 1, atMost: 64 }), default: 8, help: 'pictures that are captioned together, at most' },
  queue: { values: whole('count', { atLeast: 1 }), default: 64, help: 'pictures that may wait; more are refused with 503' },
  maxMb: { values: number('MB', { above: 0 }), default: 20, help: 'largest picture' },
  timeout: { values: number('seconds', { above: 0, atMost: 86400 }), default: 30, help: 'longest time until an answer' },
  ...decodingOptions(1),
  encoder: { values: text('file'), help: 'the encoder’s file, if it is no longer where the features were made' },
  ...DEVICE,
  ...OUTPUT,
} as const;
export type ServeOptions = OptionsOf<typeof options>;

export const serve = command({
  name: 'serve',
  description: 'serve the site with a trained run loaded, and POST /caption for programs',
  arguments: { '<model>': 'checkpoint file or the folder of a run' },
  options,
  run: async () => (await import('../serve.ts')).serve,
});
