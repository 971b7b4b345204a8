/** Training that is killed or interrupted goes on bit for bit. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Random } from '../src/random.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, program, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test('killed with SIGKILL again and again and resumed, a run equals an unbroken one', async () => {
  const { run, trainArgs } = await made.trained();
  const out = join(folder, 'killed');
  const args = [...trainArgs, '--out', out, '--epochs', '6', '--save-every', '1', '--quiet'];
  const random = new Random(7, 'kills');
  let kills = 0;
  for (let attempt = 0; attempt < 12; attempt++) {
    // What a kill within the write of a checkpoint leaves behind; the next attempt removes it.
    if (existsSync(join(out, 'checkpoints'))) writeFileSync(join(out, 'checkpoints', 'paused.safetensors.1.tmp'), 'half');
    const resume = attempt > 0 && existsSync(join(out, 'checkpoints')) ? ['--resume'] : [];
    const child = spawn(process.execPath, [program, ...args, ...resume], { stdio: 'ignore' });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    // First once the log has begun, however quick the machine is; then at any moment, checkpoint writes included.
    const log = join(out, 'log.jsonl');
    const begun = attempt === 0 ? setInterval(() => existsSync(log) && statSync(log).size > 0 && child.kill('SIGKILL'), 5) : undefined;
    const timer = attempt === 0 ? undefined : setTimeout(() => child.kill('SIGKILL'), random.uniform(1200, 4500) + (attempt > 6 ? 60_000 : 0));
    const code = await ended;
    clearInterval(begun);
    clearTimeout(timer);
    if (code === 0) break;
    kills++;
  }
  expect(kills).toBeGreaterThan(0);
  const last = (path: string) => readFileSync(join(path, 'checkpoints', 'epoch-006.safetensors')).subarray(-100_000);
  expect(last(out).equals(last(run))).toBe(true); // bit for bit
  const untimed = (path: string) =>
    readFileSync(join(path, 'log.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => ({ ...JSON.parse(line), tokensPerSecond: 0, seconds: 0 }));
  expect(untimed(out)).toEqual(untimed(run));
  expect(readdirSync(join(out, 'checkpoints')).filter((name) => name.endsWith('.tmp'))).toEqual([]);
}, 180_000);

test('an interrupt saves within the epoch, and what goes on from there equals an unbroken run', async () => {
  const { run, trainArgs } = await made.trained();
  const out = join(folder, 'interrupted');
  const args = [...trainArgs, '--out', out, '--epochs', '6'];
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  await new Promise<void>((resolve) => child.stderr.on('data', (text) => String(text).includes('epoch 2:') && resolve()));
  child.kill('SIGINT');
  expect(await ended).toBe(0);
  const saved = readdirSync(join(out, 'checkpoints'));
  expect(saved.filter((name) => name.includes('tmp'))).toEqual([]);
  if (!saved.includes('epoch-006.safetensors')) expect(saved).toContain('paused.safetensors');
  expect((await glimpse(...args, '--resume', '--quiet')).code).toBe(0);
  expect(readdirSync(join(out, 'checkpoints'))).not.toContain('paused.safetensors');
  const last = (path: string) => readFileSync(join(path, 'checkpoints', 'epoch-006.safetensors')).subarray(-100_000);
  expect(last(out).equals(last(run))).toBe(true); // bit for bit
});
