/** Where tests find data that is not in the project, and how they say that it is absent. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll } from 'vitest';
import { type Gpu, openGpu } from '../src/gpu/device.ts';

/** The data folder, or null; says aloud what is skipped without it. */
export function dataFolder(what: string): string | null {
  const folder = resolve(process.env.GLIMPSE_DATA ?? join(import.meta.dirname, '../../shared/data'));
  if (existsSync(folder)) return folder;
  console.warn(`SKIPPED: ${what} needs the data folder (looked in ${folder}; set GLIMPSE_DATA)`);
  return null;
}

/** Opens the device for a test file and closes it afterwards. */
export function useGpu(): { readonly gpu: Gpu } {
  let gpu: Gpu | null = null;
  beforeAll(async () => {
    gpu = await openGpu();
  });
  afterAll(async () => {
    await gpu?.close();
  });
  return {
    get gpu(): Gpu {
      if (!gpu) throw new Error('the device is not open yet');
      return gpu;
    },
  };
}

/** A folder that is removed after the test file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'glimpse-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const program = join(import.meta.dirname, '../bin/glimpse.js');

/** What a command of the program came to. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

export async function glimpse(...args: string[]): Promise<Outcome> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [program, ...args], { maxBuffer: 1 << 26 });
    return { code: 0, stdout, stderr };
  } catch (error) {
    const failed = error as { code: number; stdout: string; stderr: string };
    return { code: failed.code, stdout: failed.stdout, stderr: failed.stderr };
  }
}
