/** Decoders by the options of training: built, trained, resumed; or refused. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test.each([
  [['--decoder', 'transformer', '--layers', '1', '--heads', '4'], { decoder: 'transformer', layers: 1, heads: 4, gate: false }],
  [
    ['--decoder', 'show-attend-tell', '--cell', 'gru', '--attention', 'hard', '--context-to-output', '--score', 'relu'],
    { decoder: 'show-attend-tell', cell: 'gru', attention: 'hard', contextToOutput: true, score: 'relu', gate: true },
  ],
])('a decoder built with %j trains, stops, goes on bit for bit, and captions', async (own, options) => {
  const { images, data, store, trainArgs } = await made.features();
  const [out, halves] = [join(folder, `built ${own.length}`), join(folder, `halves ${own.length}`)];
  const args = [...trainArgs, ...own, '--rate', '0.001', '--quiet'];
  const whole = await glimpse(...args, '--out', out, '--epochs', '2', '--json');
  expect(whole).toMatchObject({ code: 0 });
  expect(JSON.parse(whole.stdout).config).toMatchObject({ options });
  expect((await glimpse(...args, '--out', halves, '--epochs', '1')).code).toBe(0);
  expect((await glimpse(...args, '--out', halves, '--epochs', '2', '--resume')).code).toBe(0);
  const last = (path: string) => readFileSync(join(path, 'checkpoints', 'epoch-002.safetensors')).subarray(-100_000);
  expect(last(halves).equals(last(out))).toBe(true);
  const said = await glimpse('caption', out, join(images, '15.jpg'), '--beam', '2', '--json');
  expect(said).toMatchObject({ code: 0 });
  if (!own.includes('hard')) return;
  const critical = await glimpse('train', '--objective', 'scst', '--start', out, '--data', data, '--features', store, '--out', join(folder, 'refused'));
  expect(critical).toMatchObject({ code: 2, stderr: expect.stringMatching(/soft attention/) });
});

test.each([
  [['--decoder', 'transformer', '--cell', 'gru'], /--cell belongs to recurrent decoders/],
  [['--layers', '3'], /--layers belongs to --decoder transformer/],
  [['--decoder', 'up-down', '--query', 'h1'], /--query belongs to --decoder stacked/],
  [['--decoder', 'transformer', '--heads', '7'], /--heads must divide the width of 512, got 7/],
  [['--start', 'run', '--cell', 'gru'], /--cell builds a new model/],
  [['--start', 'run', '--no-gate'], /--no-gate builds a new model/],
])('a decoder that cannot be built as %j is refused', async (own, message) => {
  const { trainArgs } = await made.pictures();
  expect(await glimpse(...trainArgs, ...own, '--out', join(folder, 'refused'))).toMatchObject({ code: 2, stderr: expect.stringMatching(message) });
});
