/**
 * Requests to end: Ctrl-C, the SIGTERM of a scheduler, a terminal that closes. A command that asks for them finishes the piece under
 * way, saves, and ends with the exit code of the signal. A second Ctrl-C ends at once; shells and npm send the same signal twice.
 * SIGUSR2 is for mpirun, which kills soon after a SIGTERM but only passes SIGUSR2 on. Node itself takes SIGUSR1.
 */
import { constants } from 'node:os';

/** A signal that comes again within this time is the same request. */
const TWICE_MS = 500;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2'] as const;

export interface EndRequest {
  /** The signal that came first; null while none came. */
  readonly signal: (typeof SIGNALS)[number] | null;
  /** 128 and the signal's number, as shells have it; 0 while none came. */
  readonly exitCode: number;
  [Symbol.dispose](): void;
}

/** Watches for requests to end until it is disposed. `onRequest` is called once, with the signal's name. */
export function endRequest(onRequest: (signal: string) => void): EndRequest {
  let came: (typeof SIGNALS)[number] | null = null;
  let since = 0;
  const handler = (signal: NodeJS.Signals) => {
    if (came === null) {
      came = signal as (typeof SIGNALS)[number];
      since = performance.now();
      onRequest(signal);
    } else if (signal === 'SIGINT' && performance.now() - since > TWICE_MS) process.exit(128 + constants.signals.SIGINT);
  };
  const stop = () => {
    for (const signal of SIGNALS) process.off(signal, handler);
  };
  for (const signal of SIGNALS) process.on(signal, handler);
  return {
    get signal() {
      return came;
    },
    get exitCode() {
      return came ? 128 + constants.signals[came] : 0;
    },
    [Symbol.dispose]: stop,
  };
}
