/**
 * While a promise of Dawn is pending, its Node bindings poll through the global `setImmediate` in a hot loop. On a
 * software adapter that loop takes most of a core from the driver's own threads. Letting each poll sleep 0.2 ms first
 * nearly doubled the speed of matmul there (21–31 → 41–52 GF/s at 1024³). Longer waits are polled less often, down to once
 * per millisecond. That makes waits of 100 ms another 5 to 10 % shorter. Only Dawn's own callback (native code, no name)
 * is delayed; other users of `setImmediate` see no change.
 */
const SHORTEST_MS = 0.15;
const LONGEST_MS = 1;
/** The length of the next sleep, as a share of the time waited so far. */
const SHARE = 0.05;
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
  let started = 0;
  let polling = false;
  const throttled = (callback: (...args: unknown[]) => void, ...args: unknown[]): NodeJS.Immediate => {
    if (callback !== native && !isNative(callback)) return original(callback, ...args);
    native = callback;
    if (!polling) started = performance.now(); // a call from outside a poll begins a new wait
    Atomics.wait(clock, 0, 0, Math.min(LONGEST_MS, Math.max(SHORTEST_MS, SHARE * (performance.now() - started))));
    return original(() => {
      polling = true;
      try {
        callback(...args);
      } finally {
        polling = false;
      }
    });
  };
  globalThis.setImmediate = Object.assign(throttled, original) as typeof setImmediate;
}
