/** Self-critical training by its command. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test('self-critical training goes on from a trained model and raises what it is rewarded for', async () => {
  const { data, store, run } = await made.trained();
  const out = join(folder, 'scst');
  const start = join(run, 'checkpoints', 'epoch-004.safetensors');
  const args = [
    'train',
    '--objective',
    'scst',
    '--data',
    data,
    '--features',
    store,
    '--out',
    out,
    '--rate',
    '0.003',
    '--samples',
    '4',
    '--sample-length',
    '8',
    '--batch-images',
    '10',
  ];
  expect(await glimpse(...args)).toMatchObject({ code: 2, stderr: expect.stringContaining('--start') });
  const { code, stdout } = await glimpse(...args, '--start', start, '--epochs', '12', '--json');
  expect(code).toBe(0);
  const { epochs, config } = JSON.parse(stdout);
  expect(config).toMatchObject({
    objective: 'scst',
    options: { dropout: 0, attentionPenalty: 0 },
    selfCritical: { samples: 4, mix: 0.05, baseline: 'others', normalize: true },
  });
  expect(-epochs[11].trainLoss).toBeGreaterThan(-epochs[0].trainLoss); // the mean reward
  const [step] = readFileSync(join(out, 'log.jsonl'), 'utf8').split('\n');
  expect(JSON.parse(step).rollout).toMatchObject({ reward: expect.any(Number), endInFunctionWord: expect.any(Number), entropy: expect.any(Number) });
  const greedy = [...args, '--start', start, '--baseline', 'greedy', '--no-normalize-advantage', '--mix', '0'];
  expect((await glimpse(...greedy.map((arg) => (arg === out ? join(folder, 'sc') : arg)), '--epochs', '1')).code).toBe(0);
  expect((await glimpse('plot', out)).code).toBe(0);
  expect(readFileSync(join(out, 'curves.html'), 'utf8')).toMatch(/Reward/);
  const other = await glimpse(...args, '--start', join(run, 'checkpoints', 'epoch-005.safetensors'), '--resume');
  expect(other.stderr).toMatch(/another configuration[^:]*:\s+start/);
});
