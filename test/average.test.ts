/** The mean of checkpoints: weights that are means, and models that have none refused by what differs. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { averaged } from '../src/model/training/average.ts';
import { loadCheckpoint } from '../src/model/training/checkpoint.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);

test('average: a model of means, which eval and caption take', async () => {
  const { images, data, store, run } = await made.trained();
  const checkpoints = join(run, 'checkpoints');
  const paths = readdirSync(checkpoints)
    .filter((name) => name.startsWith('epoch-'))
    .map((name) => join(checkpoints, name));
  expect(paths.length).toBeGreaterThan(1);
  const out = join(folder, 'mean.safetensors');
  expect(await glimpse('average', out, ...paths, '--json')).toMatchObject({ code: 0, stdout: expect.stringContaining('"models"') });
  const loaded = paths.map((path) => loadCheckpoint(path));
  const mean = loadCheckpoint(out);
  expect(mean.moments.size).toBe(0);
  expect([...mean.weights.keys()]).toEqual([...loaded[0].weights.keys()]);
  for (const [name, { data: values }] of mean.weights)
    for (let i = 0; i < values.length; i += 7) {
      const each = loaded.map(({ weights }) => (weights.get(name) as { data: Float32Array }).data[i]);
      expect(values[i]).toBe(Math.fround(each.reduce((sum, value) => sum + value, 0) / each.length));
    }
  const both = await glimpse('eval', out, run, '--data', data, '--features', store, '--bootstrap', '0', '--json');
  expect(JSON.parse(both.stdout)).toMatchObject({ images: 3, decoding: { models: [out, run] } });
  expect(await glimpse('caption', out, join(images, '15.jpg'), '--json')).toMatchObject({ code: 0 });
  expect(await glimpse('average', out, ...paths)).toMatchObject({ code: 2, stderr: expect.stringContaining('is there already') });
  expect(await glimpse('average', join(folder, 'mean'), ...paths)).toMatchObject({ code: 2, stderr: expect.stringContaining('ends in .safetensors') });
  const alone = join(folder, 'alone.safetensors');
  expect(await glimpse('average', alone, run)).toMatchObject({ code: 1, stderr: expect.stringContaining('two models at least, got 1') });
  expect(existsSync(alone)).toBe(false);
});

test('models that are built in different ways have no mean', async () => {
  const { run } = await made.trained();
  const own = () => structuredClone(loadCheckpoint(join(run, 'checkpoints', 'best.safetensors')));
  const changed = (change: (model: ReturnType<typeof own>) => void) => {
    const model = own();
    change(model);
    return () => averaged([own(), own(), model]);
  };
  expect(
    changed((model) => {
      model.config.options.score = 'relu';
    }),
  ).toThrow('models 1 and 3 have no mean: score is tanh and relu');
  expect(
    changed((model) => {
      model.vocabulary = model.vocabulary.toReversed();
    }),
  ).toThrow('models 1 and 3 have no mean: their words differ');
  expect(
    changed((model) => {
      model.encoder.preprocessing = 'caffe';
    }),
  ).toThrow(/models 1 and 3 have no mean: encoder\.preprocessing/);
  expect(
    changed((model) => {
      model.weights.delete('v');
    }),
  ).toThrow('models 1 and 3 have no mean: their weights have other names or shapes');
  // Regularization belongs to training: the mean of a run with and one without it is a model.
  expect(
    changed((model) => {
      model.config.options.dropout = 0.125;
    })().config.options.dropout,
  ).toBe(0.125);
});
