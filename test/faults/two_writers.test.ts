/** Two processes that write the same store, run or merged store at the same time: each ends well or is refused, and the result is right. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FeatureStore } from '../../src/data/feature_store.ts';
import { captionerRun } from '../captioner_run.ts';
import { glimpse, type Outcome, temporaryFolder } from '../support.ts';
import { tensorsOf } from './faulty_process.ts';
import { counted, isWhole, randomFor, trial, trials } from './trials.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Starts both, the second a little later. */
async function together(commands: readonly string[][], gap: number): Promise<Outcome[]> {
  const first = glimpse(...commands[0]);
  await pause(gap);
  return Promise.all([first, glimpse(...commands[1])]);
}

function expectRefusals(outcomes: readonly Outcome[]): void {
  for (const { code, stderr } of outcomes)
    if (code !== 0) expect([code, stderr]).toEqual([1, expect.stringMatching(/ is in use by process \d+ on | holds shard \d\/2 of the /)]);
  expect(outcomes.some(({ code }) => code === 0)).toBe(true);
}

test('two shards into one store', async () => {
  const record = counted('two processes at once', 'features');
  const random = randomFor('two shards');
  const { data, encoder, store } = await made.features();
  const right = await FeatureStore.open(store);
  for (let i = 0; i < trials(3, 20); i++)
    await trial(record, async () => {
      const out = join(folder, 'shared store');
      rmSync(out, { recursive: true, force: true });
      const command = (shard: string) => {
        const common = ['features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--skip-bad', '--batch', '1', '--quiet'];
        return [...common, '--shard', shard, '--out', out];
      };
      const outcomes = await together([command('1/2'), command('2/2')], random.uniform(0, 300));
      expectRefusals(outcomes);
      const found = await FeatureStore.open(out);
      for (const file of found.files()) expect(await found.readBytes(file)).toEqual(await right.readBytes(file));
      await found.close();
    });
  await right.close();
});

/** Takes minutes, so only `npm run test:faults` does it. */
const onlyWhole = isWhole ? test : () => {};

onlyWhole('two trainings into one run, and two merges into one store', async () => {
  const record = counted('two processes at once', 'train, merge');
  const random = randomFor('two trainings');
  const { trainArgs, store } = await made.features();
  const train = (out: string) => [...trainArgs, '--epochs', '1', '--quiet', '--out', out];
  const alone = join(folder, 'alone');
  expect((await glimpse(...train(alone))).code).toBe(0);
  for (let i = 0; i < 10; i++)
    await trial(record, async () => {
      const out = join(folder, 'shared run');
      rmSync(out, { recursive: true, force: true });
      const outcomes = await together([train(out), train(out)], random.uniform(0, 1000));
      for (const { code, stderr } of outcomes) if (code !== 0) expect(stderr).toMatch(/is in use by process|already holds a run/);
      expect(outcomes.some(({ code }) => code === 0)).toBe(true);
      const last = (run: string) => tensorsOf(join(run, 'checkpoints', 'epoch-001.safetensors'));
      expect(last(out)).toEqual(last(alone));
      const merged = join(folder, 'shared merge');
      rmSync(merged, { recursive: true, force: true });
      expectRefusals(
        await together(
          [
            ['merge', merged, store],
            ['merge', merged, store],
          ],
          random.uniform(0, 100),
        ),
      );
      const found = await FeatureStore.open(merged);
      for (const file of found.files()) await found.readBytes(file);
      await found.close();
    });
});
