/**
 * While a promise of Dawn is pending, its Node bindings poll through the global `setImmediate` in a hot loop. On a
 * software adapter that loop takes most of a core from the driver's own threads: letting each poll sleep 0.2 ms first
 * nearly doubled matmul there (21–31 → 41–52 GF/s at 1024³). Only Dawn's own callback (native code, no name) is
 * delayed, so every other user of `setImmediate` sees no change.
 */
const POLL_INTERVAL_MS = 0.2;
let installed = false;

function isNative(callback: unknown): boolean {
  return typeof callback === 'function' && callback.name === '' && Function.prototype.toString.call(callback).includes('[native code]');
}

/** Installs the throttle once per process; call it only for software adapters. */
export function throttlePolling(): void {
  if (installed) return;
  installed = true;
  const original = globalThis.setImmediate;
  const clock = new Int32Array(new SharedArrayBuffer(4));
  let native: unknown = null;
  const throttled = (callback: (...args: unknown[]) => void, ...args: unknown[]): NodeJS.Immediate => {
    if (callback === native || isNative(callback)) {
      native = callback;
      Atomics.wait(clock, 0, 0, POLL_INTERVAL_MS);
    }
    return original(callback, ...args);
  };
  globalThis.setImmediate = Object.assign(throttled, original) as typeof setImmediate;
}
