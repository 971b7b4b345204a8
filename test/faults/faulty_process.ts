/** Runs the program with a fault made in it (preload.mjs). */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { readSafetensors } from '../../src/data/safetensors.ts';
import { type Outcome, program } from '../support.ts';

const PRELOAD = pathToFileURL(join(import.meta.dirname, 'preload.mjs')).href;

/** As `glimpse` does, with GLIMPSE_FAULT set. The code is null if a signal ended it. */
export function glimpseWith(
  fault: string,
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<Omit<Outcome, 'code'> & { code: number | null }> {
  return new Promise((resolve) => {
    const env = { ...process.env, ...environment, GLIMPSE_FAULT: fault };
    execFile(process.execPath, ['--import', PRELOAD, program, ...args], { env, maxBuffer: 1 << 26, timeout: 120_000 }, (error, stdout, stderr) => {
      const code = error ? ((error.code as unknown as number | null) ?? null) : 0;
      resolve({ code, stdout, stderr });
    });
  });
}

/** How many calls that change files a command makes when nothing goes wrong. */
export async function callsOf(args: readonly string[], scratch: string): Promise<number> {
  const file = join(scratch, 'calls');
  const { code, stderr } = await glimpseWith('count', args, { GLIMPSE_FAULT_COUNT: file });
  if (code !== 0) throw new Error(`glimpse ${args.join(' ')} ended with ${code}: ${stderr}`);
  return Number(readFileSync(file, 'utf8'));
}

/** The tensors of a checkpoint by their hashes, which are quick to compare. The metadata holds times, which differ. */
export function tensorsOf(path: string): Record<string, string> {
  return Object.fromEntries([...readSafetensors(path).tensors].map(([name, { data }]) => [name, createHash('sha256').update(data).digest('hex').slice(0, 16)]));
}
