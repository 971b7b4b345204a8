// node --import preload.mjs: counts the calls that change files, and makes a fault at one of them.
//   GLIMPSE_FAULT=kill:N    SIGKILL right after the N-th call
//   GLIMPSE_FAULT=ENOSPC:N  the N-th call fails with this error (or EIO)
//   GLIMPSE_FAULT=short:N   from the N-th call on, writes take only a part of the bytes
//   GLIMPSE_FAULT=count     nothing; the number of calls is written to the file GLIMPSE_FAULT_COUNT at the end
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { constants } from 'node:os';

const [kind, number] = (process.env.GLIMPSE_FAULT ?? 'count').split(':');
const at = Number(number);
let calls = 0;

function failing(name) {
  const error = new Error(`${kind}: made by a test, ${name}`);
  error.code = kind;
  error.errno = -(constants.errno[kind] ?? 5);
  error.syscall = name.replace('Sync', '');
  return error;
}

const isTerminal = (file) => file === 1 || file === 2;

for (const name of ['writeSync', 'fsyncSync', 'renameSync', 'ftruncateSync']) {
  const real = fs[name];
  fs[name] = (...args) => {
    if (isTerminal(args[0])) return real(...args);
    calls++;
    if ((kind === 'ENOSPC' || kind === 'EIO') && calls === at) throw failing(name);
    if (kind === 'short' && calls >= at && name === 'writeSync' && typeof args[1] !== 'string') {
      const [file, bytes, offset = 0, length = bytes.byteLength - offset, position = null] = args;
      return real(file, bytes, offset, Math.max(1, Math.floor(length / 2)), position);
    }
    const result = real(...args);
    if (kind === 'kill' && calls === at) process.kill(process.pid, 'SIGKILL');
    return result;
  };
}
syncBuiltinESMExports();
const { writeFileSync } = fs;
process.on('exit', () => {
  if (process.env.GLIMPSE_FAULT_COUNT) writeFileSync(process.env.GLIMPSE_FAULT_COUNT, String(calls));
});
