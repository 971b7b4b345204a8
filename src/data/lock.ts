/**
 * One writer per folder. Two processes that write one run or one store would corrupt it. Node has no file locks of the system, so a
 * writer leaves a file that names it, and then looks for those of others. Each writer makes its file before it looks. So
 * of two, at least one sees the other. Source of this flag principle: Lamport 1974, "A new solution of Dijkstra's … problem".
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { FileError, GlimpseError } from '../errors.ts';
import { isAlive, onFile, removeAbandoned, writeFileAtomic } from './atomic_file.ts';

/** The process that a lock belongs to. */
interface Holder {
  pid: number;
  host: string;
  /** When the lock was made. */
  since: string;
  /** When the process began, as the system counts it; null where the system does not tell. A later process may get the same number. */
  began: string | null;
  /** The namespace that the number belongs to: containers may share a host's name, and count processes apart. */
  namespace: string | null;
}

const NAME = /^writer\.[0-9a-f]{12}\.lock$/;
const TRIES = 4;

const held = new Set<string>();

const NAMESPACE = namespaceOfNumbers();

function namespaceOfNumbers(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return null; // not on Linux
  }
}

/** When a process began, in ticks since the machine started; null where the system does not tell (proc(5), /proc/PID/stat, field 22). */
function beganAt(pid: number): string | null {
  try {
    return (
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[19] ?? null
    );
  } catch {
    return null;
  }
}

function isGone({ host, pid, began, namespace }: Holder): boolean {
  if (host !== hostname() || namespace !== NAMESPACE) return false; // that cannot be seen from here
  const now = beganAt(pid);
  return !isAlive(pid) || (began !== null && now !== null && began !== now);
}

/** The holder that a file names; null if the file is gone. */
function holderOf(path: string): Holder | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    const { pid, host, since, began = null, namespace = null } = JSON.parse(text);
    if (Number.isInteger(pid) && pid > 0 && typeof host === 'string' && typeof since === 'string') return { pid, host, since, began, namespace };
  } catch {
    // Told below.
  }
  throw new FileError(path, 'is no lock of this version of glimpse; remove it if no other process writes here');
}

/** The lock of another writer that lives, or may live. Removes those of processes that are gone. */
function otherWriter(folder: string, own: string): { holder: Holder; path: string } | null {
  removeAbandoned(own, 'writer.'); // a kill may come while a lock is written
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (!NAME.test(name) || path === own) continue;
    const holder = holderOf(path);
    if (holder && !isGone(holder)) return { holder, path };
    rmSync(path, { force: true });
  }
  return null;
}

/** The right to write into a folder, until `release` or the end of the process. */
export interface Lock {
  release(): void;
}

/** Takes the right to write into a folder. Throws a GlimpseError that names the process which has it. */
export function lockFolder(folder: string): Lock {
  return onFile(folder, () => {
    for (let tried = 1; ; tried++) {
      const own = join(folder, `writer.${randomBytes(6).toString('hex')}.lock`);
      writeFileAtomic(own, [
        JSON.stringify({ pid: process.pid, host: hostname(), since: new Date().toISOString(), began: beganAt(process.pid), namespace: NAMESPACE }),
      ]);
      if (held.size === 0) process.once('exit', releaseAll);
      held.add(own);
      const release = () => {
        held.delete(own);
        rmSync(own, { force: true });
        if (held.size === 0) process.off('exit', releaseAll);
      };
      let other: ReturnType<typeof otherWriter>;
      try {
        other = otherWriter(folder, own);
      } catch (error) {
        release();
        throw error;
      }
      if (!other) return { release };
      release();
      if (tried === TRIES) throw inUse(folder, other);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20 + Math.random() * 60); // of two that saw each other, one comes first
    }
  });
}

function inUse(folder: string, { holder: { pid, host, since, namespace }, path }: { holder: Holder; path: string }): GlimpseError {
  const elsewhere = host === hostname() && namespace === NAMESPACE ? '' : `\n  If that process is gone, remove ${path}.`;
  return new GlimpseError(`${folder} is in use by process ${pid} on ${host} since ${since.slice(0, 19).replace('T', ' ')} UTC${elsewhere}`);
}

function releaseAll(): void {
  for (const path of held) rmSync(path, { force: true });
}
