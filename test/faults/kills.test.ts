/** Training that is killed at any moment, again and again, over its settings: what goes on from there equals an unbroken run, bit for bit. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captionerRun } from '../captioner_run.ts';
import { glimpse, temporaryFolder } from '../support.ts';
import { callsOf, glimpseWith, tensorsOf } from './faulty_process.ts';
import { counted, isWhole, randomFor, trial, trials, whole } from './trials.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);

const TAUGHT = ['--captions', '2', '--dropout', '0.3'];
const SETTINGS: Record<string, { args: string[]; half?: boolean; start?: boolean }> = {
  'several batches per update, half precision': { args: [...TAUGHT, '--accumulate', '2'], half: true },
  'self-critical': { args: ['--objective', 'scst', '--samples', '3', '--mix', '0.2'], start: true },
  'a trained encoder': { args: [...TAUGHT, '--fine-tune', 'w', '--accumulate', '3'] },
  'the transformer, with scheduled sampling': { args: [...TAUGHT, '--decoder', 'transformer', '--scheduled-sampling', '0.3'] },
  'hard attention': { args: [...TAUGHT, '--attention', 'hard'] },
  'a falling rate that waits for validation': { args: [...TAUGHT, '--schedule', 'plateau', '--patience', '2', '--accumulate', '2'] },
  'the basic preset': { args: ['--captions', '2', '--preset', 'basic'] },
};
/** Which settings a short run tries. */
const FEW = 2;

const untimed = (run: string) =>
  readFileSync(join(run, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => ({ ...JSON.parse(line), tokensPerSecond: 0, seconds: 0 }));

test.each(Object.entries(SETTINGS).slice(0, isWhole ? undefined : FEW))('%s', async (name, { args, half = false, start = false }) => {
  const record = counted('killed in training (SIGKILL)', name);
  const random = randomFor(`kills, ${name}`);
  const { data, store, encoder, run } = await (start ? made.trained() : made.features());
  const features = half ? `${store}-f16` : store;
  if (half) {
    const halved = ['features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--skip-bad', '--precision', 'f16', '--out', features];
    expect((await glimpse(...halved, '--quiet')).code).toBe(0);
  }
  const common = ['train', '--data', data, '--features', features, '--batch-images', '5', '--rate', '0.005', '--epochs', '3', '--save-every', '1', '--quiet'];
  common.push(...args, ...(start ? ['--start', run] : []));
  const unbroken = join(folder, `whole ${name}`);
  const calls = await callsOf([...common, '--out', unbroken], folder);
  const broken = join(folder, `broken ${name}`);
  let kills = 0;
  for (const most = trials(2, 16); kills < most; ) {
    const fault = `kill:${whole(random, 1, Math.max(2, Math.ceil(calls / (isWhole ? 6 : 2))))}`;
    const resume = existsSync(join(broken, 'checkpoints')) && readdirSync(join(broken, 'checkpoints')).some((each) => each.endsWith('.safetensors'));
    const { code } = await glimpseWith(fault, [...common, '--out', broken, ...(resume ? ['--resume'] : [])]);
    if (code === 0) break; // the run ended before its kill
    expect(code, fault).toBe(null);
    kills++;
    record.tries++;
  }
  expect(kills).toBeGreaterThan(0);
  record.tries--;
  await trial(record, async () => {
    const { code, stderr } = await glimpse(...common, '--out', broken, '--resume');
    expect(code, stderr).toBe(0);
    const last = (path: string) => tensorsOf(join(path, 'checkpoints', 'epoch-003.safetensors'));
    expect(last(broken)).toEqual(last(unbroken));
    expect(untimed(broken)).toEqual(untimed(unbroken));
    for (const path of [broken, join(broken, 'checkpoints')]) expect(readdirSync(path).filter((each) => /\.(tmp|lock)$/.test(each))).toEqual([]);
  });
});
