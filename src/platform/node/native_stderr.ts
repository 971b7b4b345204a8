/**
 * Dawn's native code prints warnings straight to file descriptor 2, such as those about lowered limits at every start on lavapipe.
 * They are meant for Dawn's developers, and a newcomer would see them first. This points the descriptor elsewhere for a while.
 *
 * Node cannot duplicate a descriptor. But on Linux, a terminal or a pipe can be opened again by its path, and `open` gives the
 * lowest free number. The warnings stay for files, for sockets, and on other systems.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';

const STDERR = 2;

/** A second descriptor of the same terminal or pipe, or null if that is impossible. */
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

/** Closes descriptor 2 and opens `path` in its place. False if another thread took the number first. */
function replaceStderr(path: string): boolean {
  closeSync(STDERR);
  const opened = openSync(path, constants.O_WRONLY);
  if (opened === STDERR) return true;
  closeSync(opened);
  return false;
}

let active = 0;

/** Runs work and, where possible, discards all that is printed to stderr meanwhile. JavaScript should print nothing then. */
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
