/** Where tests find data that is not in the project, and how they say that it is absent. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { afterAll, beforeAll } from 'vitest';
import type { Gpu } from '../src/gpu/gpu.ts';
import { openGpu } from '../src/platform/node/open.ts';

/** The data folder, or null; says aloud what is skipped without it. */
export function dataFolder(what: string): string | null {
  const folder = resolve(process.env.GLIMPSE_DATA ?? join(import.meta.dirname, '../../shared/data'));
  if (existsSync(folder)) return folder;
  console.warn(`SKIPPED: ${what} needs the data folder (looked in ${folder}; set GLIMPSE_DATA)`);
  return null;
}

/** Opens a device for a test file, or for the tests of a block, and closes it afterwards. */
export function useGpu(adapter?: string): { readonly gpu: Gpu } {
  let gpu: Gpu | null = null;
  beforeAll(async () => {
    gpu = await openGpu({ adapter });
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

/** Milliseconds of CPU that this process has used. Unlike the time of day, they leave out what else the machine does. */
export function computedMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** A folder that is removed after the test file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'glimpse-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/google-chrome-stable', process.env.CHROME_PATH ?? ''];

/** Where an installed browser is, or null. */
export const installedBrowser = (): string | null => BROWSERS.find((path) => path !== '' && existsSync(path)) ?? null;

/** Where an installed browser is, or null; says aloud what `skipped` means then. */
export function browserPath(skipped: string): string | null {
  const browser = installedBrowser();
  if (browser) return browser;
  console.warn(`SKIPPED: no browser is installed (CHROME_PATH names one); ${skipped}`);
  return null;
}

/**
 * Opens a page in a real browser: every picture (or drawing) on it must decode and have a size, and what is seen must not be one color.
 * Says aloud when there is no browser.
 */
export async function shownByBrowser(page: string, scratch: string, what: 'img' | 'svg' = 'img'): Promise<void> {
  const browser = browserPath('the page was not opened');
  if (!browser) return;
  const probe = `<script>addEventListener('load', () => { const all = [...document.querySelectorAll('${what}')]; document.title = 'shown ' + all.filter((i) => (i.naturalWidth ?? 2) > 1 && i.getBoundingClientRect().height > 20).length + ' of ' + all.length; });</script>`;
  const copy = join(scratch, 'opened.html');
  writeFileSync(copy, readFileSync(page, 'utf8').replace('</body>', `${probe}</body>`));
  const picture = join(scratch, 'opened.png');
  const options = ['--headless', '--no-sandbox', '--disable-gpu', '--window-size=1200,1600', `--user-data-dir=${join(scratch, 'browser')}`];
  const url = pathToFileURL(copy).href;
  const run = promisify(execFile);
  const { stdout } = await run(browser, [...options, '--dump-dom', url], { maxBuffer: 1 << 28, timeout: 60_000 });
  const [, shown, of] = /<title>shown (\d+) of (\d+)<\/title>/.exec(stdout) ?? [];
  if (!(Number(of) > 0) || shown !== of) throw new Error(`${page}: the browser shows ${shown} of ${of} pictures`);
  await run(browser, [...options, `--screenshot=${picture}`, url], { timeout: 60_000 });
  const { channels } = await sharp(picture).stats();
  if (channels.every(({ stdev }) => stdev < 5)) throw new Error(`${page}: the browser shows an empty page`);
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
