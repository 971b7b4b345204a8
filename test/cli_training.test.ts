/** The command that trains: logs, checkpoints, options, plots. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test('train: log, checkpoints, resume equal to an unbroken run', async () => {
  const { data, run, outcome: whole, trainArgs } = await made.trained();
  expect(whole.stderr).toMatch(/tokens\/s/);
  expect(whole.code).toBe(0);
  const report = JSON.parse(whole.stdout);
  expect(report.epochs).toHaveLength(6);
  expect(report.epochs[5].trainLoss).toBeLessThan(report.epochs[0].trainLoss);
  expect(readdirSync(join(run, 'checkpoints')).sort()).toEqual(['best.safetensors', 'epoch-004.safetensors', 'epoch-005.safetensors', 'epoch-006.safetensors']);
  const log = readFileSync(join(run, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(log.filter(({ kind }) => kind === 'epoch')).toHaveLength(6);

  const broken = join(folder, 'broken');
  expect((await glimpse(...trainArgs, '--out', broken, '--epochs', '3', '--quiet')).code).toBe(0);
  const again = await glimpse(...trainArgs, '--out', broken, '--epochs', '6');
  expect(again.code).toBe(1);
  expect(again.stderr).toMatch(/already holds a run of 3 epochs; go on with --resume/);
  const other = await glimpse(...trainArgs, '--out', broken, '--resume', '--seed', '43');
  expect(other.code).toBe(1);
  expect(other.stderr).toMatch(/another configuration[^:]*:\s+seed: 42, 43/);
  const changed = JSON.parse(readFileSync(data, 'utf8'));
  changed.images[0].ids.reverse();
  const otherData = join(folder, 'changed.json');
  writeFileSync(otherData, JSON.stringify(changed));
  const elsewhere = await glimpse(...trainArgs.map((arg) => (arg === data ? otherData : arg)), '--out', broken, '--resume');
  expect(elsewhere.stderr).toMatch(/another configuration[^:]*:\s+trainingSet/);
  expect((await glimpse(...trainArgs, '--out', broken, '--epochs', '6', '--resume', '--quiet')).code).toBe(0);
  const weights = (path: string) => readFileSync(join(path, 'checkpoints', 'epoch-006.safetensors')).subarray(-100_000);
  expect(weights(broken).equals(weights(run))).toBe(true); // bit for bit
  const losses = (path: string) =>
    readFileSync(join(path, 'log.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter(({ kind }) => kind === 'step')
      .map(({ lossPerToken }) => lossPerToken);
  expect(losses(broken)).toEqual(losses(run));
});

test('plot draws the run', async () => {
  const { run } = await made.trained();
  const out = join(folder, 'curves.html');
  expect((await glimpse('plot', run, '--out', out)).code).toBe(0);
  expect(readFileSync(out, 'utf8')).toMatch(/nats per token.*CIDEr-D.*Learning rate/s);
  expect(await glimpse('plot', join(folder, 'nothing'))).toMatchObject({ code: 1, stderr: expect.stringContaining('log.jsonl') });
});

test('the basic preset trains too and prints the loss per slot', async () => {
  const { data, store } = await made.features();
  const outcome = await glimpse(
    'train',
    '--preset',
    'basic',
    '--data',
    data,
    '--features',
    store,
    '--out',
    join(folder, 'basic'),
    '--epochs',
    '1',
    '--validation',
    '0',
  );
  expect(outcome.code).toBe(0);
  expect(outcome.stderr).toMatch(/per slot \d/);
});

test('every option at once: another decoder, word vectors, smoothing, the model’s own words, a schedule, several batches per update', async () => {
  const { images, trainArgs } = await made.features();
  const out = join(folder, 'options');
  const vectors = join(folder, 'vectors.txt');
  writeFileSync(vectors, 'red 0.1 0.2 0.3 0.4\nunheard 1 1 1 1\ngreen -0.1 0 0.1 0\n');
  const own = ['--decoder', 'up-down', '--word-vectors', vectors, '--label-smoothing', '0.1', '--scheduled-sampling', '0.3', '--schedule', 'cosine'];
  const more = ['--warmup', '3', '--accumulate', '2', '--attention-penalty', '0.5', '--no-gate', '--save-every', '1'];
  const args = [...trainArgs, ...own, ...more, '--out', out, '--epochs', '3'];
  const { code, stdout, stderr } = await glimpse(...args, '--json');
  expect(stderr).toMatch(/vectors of 4 numbers for 2 of 11 words/);
  expect(code).toBe(0);
  const { config } = JSON.parse(stdout);
  expect(config).toMatchObject({
    sizes: { embedding: 4 },
    options: { decoder: 'up-down', gate: false, attentionPenalty: 0.5 },
    schedule: 'cosine',
    horizon: 3,
  });
  const steps = readFileSync(join(out, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ kind }) => kind === 'step');
  const rates = steps.map(({ rate }) => rate);
  expect(rates[0]).toBeCloseTo(0.005 / 3, 6); // warming up
  expect(rates[rates.length - 1]).toBeLessThan(0.005 / 2); // falling
  const refused = await glimpse(...args.filter((arg) => arg !== '--no-gate'), '--resume');
  expect(refused.stderr).toMatch(/another configuration[^:]*:\s+options\.gate: false, true/);
  const longer = await glimpse(...args, '--epochs', '5', '--resume');
  expect(longer.stderr).toMatch(/horizon: 3, 5\s+the horizon is --epochs, over which the learning rate falls; go on with --epochs 3/);
  expect((await glimpse('caption', out, join(images, '15.jpg'), '--beam', '2', '--n-best', '2')).code).toBe(0);
  writeFileSync(vectors, 'red 0.1 0.2\ngreen 0.1\nblue 0.3 0.4\n');
  const bad = await glimpse(...trainArgs, '--word-vectors', vectors, '--out', join(folder, 'none'));
  expect(bad).toMatchObject({ code: 1, stderr: expect.stringMatching(/vectors\.txt.*line 2 has 1 numbers, 2 are expected/) });
});
