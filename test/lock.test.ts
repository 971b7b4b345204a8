/** One writer per folder: who holds a lock, which locks are stale, and many processes that want one at once. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockFolder } from '../src/data/lock.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();

function fresh(name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  return path;
}

const namespace = process.platform === 'linux' ? readlinkSync('/proc/self/ns/pid') : null;

/** Leaves a lock as a process would have left it that was killed. */
function leave(path: string, holder: Record<string, unknown>): string {
  const file = join(path, 'writer.0123456789ab.lock');
  writeFileSync(file, JSON.stringify({ pid: process.pid, host: hostname(), since: '2026-01-02T03:04:05.000Z', began: null, namespace, ...holder }));
  return file;
}

const locksIn = (path: string) => readdirSync(path).filter((name) => name.endsWith('.lock'));

test('the second writer is refused with the name of the first, until that releases', () => {
  const path = fresh('two');
  const first = lockFolder(path);
  expect(() => lockFolder(path)).toThrow(new RegExp(`two is in use by process ${process.pid} on `));
  expect(locksIn(path)).toHaveLength(1);
  first.release();
  lockFolder(path).release();
  expect(readdirSync(path)).toEqual([]);
});

test('the lock of a process that is gone is removed, also where another process has its number by now', () => {
  const { pid } = spawnSync(process.execPath, ['--version']);
  const path = fresh('stale');
  leave(path, { pid });
  lockFolder(path).release();
  if (process.platform === 'linux') {
    leave(path, { began: '1' });
    lockFolder(path).release();
  }
  expect(readdirSync(path)).toEqual([]);
});

test('a lock of another machine stands, and the message says how to end it; one that cannot be read is refused by name', () => {
  const path = fresh('elsewhere');
  const container = leave(path, { namespace: 'pid:[1]', pid: 999_999_999 });
  expect(() => lockFolder(path)).toThrow(`If that process is gone, remove ${container}.`);
  const file = leave(path, { host: 'another.example', pid: 1 });
  expect(() => lockFolder(path)).toThrow(`in use by process 1 on another.example since 2026-01-02 03:04:05 UTC\n  If that process is gone, remove ${file}.`);
  writeFileSync(file, 'half');
  expect(() => lockFolder(path)).toThrow(`${file}: is no lock`);
  expect(locksIn(path)).toEqual(['writer.0123456789ab.lock']);
});

test('of many processes that want the same folder, one at a time has it, and a killed one blocks nobody', async () => {
  const path = fresh('many');
  const counter = join(path, 'counter');
  writeFileSync(counter, '0');
  // Each adds 1 twice, with a pause between reading and writing; without the lock, additions would be lost.
  const source = `
    import { readFileSync, writeFileSync } from 'node:fs';
    import { lockFolder } from ${JSON.stringify(new URL('../src/data/lock.ts', import.meta.url).href)};
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    for (let done = 0; done < 2; ) {
      let lock;
      try { lock = lockFolder(${JSON.stringify(path)}); } catch (error) {
        if (!/is in use by process/.test(error.message)) throw error;
        await pause(10);
        continue;
      }
      const value = Number(readFileSync(${JSON.stringify(counter)}, 'utf8'));
      await pause(5);
      writeFileSync(${JSON.stringify(counter)}, String(value + 1));
      done++;
      if (process.argv[1] === 'killed') process.kill(process.pid, 'SIGKILL');
      lock.release();
      await pause(5);
    }`;
  const run = (...args: string[]) =>
    new Promise<number | null>((resolve) => {
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', source, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
      child.on('close', resolve);
    });
  const codes = await Promise.all([run(), run('killed'), run(), run(), run('killed')]);
  expect(codes).toEqual([0, null, 0, 0, null]);
  expect(readFileSync(counter, 'utf8')).toBe('8');
}, 60_000);
