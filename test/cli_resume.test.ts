/** Training that is asked to end goes on bit for bit; so does one whose log was removed. Kills are in test/faults. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captionerRun } from './captioner_run.ts';
import { glimpse, program, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
  ['SIGUSR2', 140],
] as const)('%s saves within the epoch and ends with %i; what goes on from there equals an unbroken run', async (signal, code) => {
  const { run, trainArgs } = await made.trained();
  const out = join(folder, signal);
  const args = [...trainArgs, '--out', out, '--epochs', '6'];
  const child = spawn(process.execPath, [program, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  let printed = '';
  child.stdout.on('data', (text) => {
    printed += text;
  });
  await new Promise<void>((resolve) => child.stderr.on('data', (text) => String(text).includes('epoch 2:') && resolve()));
  child.kill(signal);
  if (signal !== 'SIGINT') child.kill(signal); // shells and npm send the same signal twice
  expect(await ended).toBe(code);
  expect(JSON.parse(printed)).toMatchObject({ stopped: true, signal });
  const saved = readdirSync(join(out, 'checkpoints'));
  expect(saved.filter((name) => name.includes('tmp'))).toEqual([]);
  expect(saved).toContain('paused.safetensors');
  expect(readdirSync(out).filter((name) => name.endsWith('.lock'))).toEqual([]);
  expect((await glimpse(...args, '--resume', '--quiet')).code).toBe(0);
  expect(readdirSync(join(out, 'checkpoints'))).not.toContain('paused.safetensors');
  const last = (path: string) => readFileSync(join(path, 'checkpoints', 'epoch-006.safetensors')).subarray(-100_000);
  expect(last(out).equals(last(run))).toBe(true); // bit for bit
});

test('a second process is refused while a run goes on, and a removed log ends it with what was done saved', async () => {
  const { trainArgs } = await made.trained();
  const out = join(folder, 'shared');
  const args = [...trainArgs, '--out', out, '--epochs', '40', '--save-every', '1'];
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (text) => {
    said += text;
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  while (!said.includes('epoch 1:')) await new Promise((resolve) => setTimeout(resolve, 50));
  const second = await glimpse(...args, '--resume', '--quiet');
  expect(second.code).toBe(1);
  expect(second.stderr).toMatch(new RegExp(`shared is in use by process ${child.pid} on `));
  unlinkSync(join(out, 'log.jsonl'));
  expect(await ended).toBe(1);
  expect(said).toMatch(/log\.jsonl: was removed or replaced[\s\S]*what was done until then is saved; go on with --resume/);
  expect(said).not.toMatch(/unexpected failure/);
  const again = await glimpse(...trainArgs, '--out', out, '--epochs', '2', '--resume');
  expect(again.code).toBe(0);
  expect(again.stderr).toMatch(/log\.jsonl lacks \d+ bytes that the checkpoint counts/);
});
