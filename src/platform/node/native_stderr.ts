/**
 * Dawn's native code prints warnings straight to file descriptor 2: about limits that it lowers, on every start on lavapipe.
 * They are meant for Dawn's developers, and a newcomer would see them first. This points the descriptor elsewhere for a while.
 *
 * Node cannot duplicate a descriptor, but on Linux a terminal or a pipe can be opened once more by its path, and the lowest
 * free number is what `open` gives. Where that is not so (files, sockets, other systems), the warnings stay.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';

const STDERR = 2;

/** A second descriptor of the same terminal or pipe, or null where there can be none. */
function another(): number | null {
  if (process.platform !== 'linux') return null;
  try {
    const stat = fstatSync(STDERR);
    if (!stat.isFIFO() && !stat.isCharacterDevice()) return null;
    return openSync(`/proc/self/fd/${STDERR}`, constants.O_WRONLY);
  } catch {
    return null;
  }
}

/** Closes descriptor 2 and opens `path` in its place; false when another thread took the number first. */
function replaceStderr(path: string): boolean {
  closeSync(STDERR);
  const opened = openSync(path, constants.O_WRONLY);
  if (opened === STDERR) return true;
  closeSync(opened);
  return false;
}

let active = 0;

/** Runs work while what native code prints to stderr goes nowhere. JavaScript should print nothing meanwhile. */
export async function withoutNativeStderr<T>(work: () => Promise<T>): Promise<T> {
  const kept = active === 0 ? another() : null;
  if (kept === null) return work();
  active++;
  const replaced = replaceStderr('/dev/null');
  try {
    return await work();
  } finally {
    if (replaced) replaceStderr(`/proc/self/fd/${kept}`);
    closeSync(kept);
    active--;
  }
}
