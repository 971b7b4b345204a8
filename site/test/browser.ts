/** A real browser with WebGPU on a software adapter, and the built site under a path that is not the root. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize, resolve } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe } from 'vitest';
import { installedBrowser } from '../../test/support.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const BUILT = join(ROOT, 'dist/site');
/** Where a person looks at what the pages look like. */
export const SCREENSHOTS = join(ROOT, 'out/site');
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
};
const QUIET = ['--no-sandbox', '--no-first-run', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** An installed browser, else the one of the npm package; null if there is neither. */
async function executable(): Promise<string | null> {
  const installed = process.env.GLIMPSE_NPM_CHROMIUM ? null : installedBrowser(); // the variable asks for the npm package's all the same
  if (installed) return installed;
  try {
    process.env.AWS_EXECUTION_ENV ??= 'AWS_Lambda_nodejs20.x'; // makes the package unpack the libraries that a bare system lacks, and use them
    const { default: embedded } = (await import('@sparticuz/chromium' as string)) as { default: { executablePath(): Promise<string> } };
    return await embedded.executablePath();
  } catch {
    return null;
  }
}

const path = await executable();
if (!path) console.warn('SKIPPED: no Chromium is installed, and the npm package @sparticuz/chromium is not there: the site was not opened in a browser');

/** Tests that need a browser. */
export const inBrowser = describe.skipIf(!path);

export interface Site {
  /** With a slash at its end. */
  url: string;
  browser: Browser;
  /** A new page, and what it complained about: errors of its scripts, its console, requests to other hosts. */
  open(
    hash: string,
    o?: { width?: number; search?: string; wait?: (page: Page) => Promise<unknown>; before?: (page: Page) => Promise<unknown>; worker?: string | null },
  ): Promise<{ page: Page; complaints: string[] }>;
}

export const HEIGHT = 900;

/** Serves the built site, and opens a browser, for one file of tests. Without `webgpu`, the browser offers no adapter. */
export function useSite({ webgpu = true } = {}): Site {
  let server: Server;
  let browser: Browser | undefined;
  const site = {} as Site;
  beforeAll(async () => {
    if (!path) return;
    server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? '/', 'http://localhost');
      const name = normalize(pathname.replace(/^\/some\/path\//, ''));
      const file = join(BUILT, name === '/' || name === '.' ? 'index.html' : name);
      if (!pathname.startsWith('/some/path/') || !file.startsWith(BUILT) || !existsSync(file)) {
        response.statusCode = 404;
        response.end();
        return;
      }
      response.setHeader('Content-Type', TYPES[extname(file)] ?? 'application/octet-stream');
      response.end(readFileSync(file));
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    site.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/some/path/`;
    browser = await chromium.launch({ executablePath: path, headless: true, args: [...QUIET, ...(webgpu ? WEBGPU : [])] });
    site.browser = browser;
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });
  site.open = async (hash, { width = 1280, search = '', before, worker } = {}) => {
    const page = await site.browser.newPage({ viewport: { width, height: HEIGHT } });
    const complaints: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(`${message.type()}: ${message.text()}`);
    });
    page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
    page.on('request', (request) => {
      if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(site.url)) complaints.push(`a request to ${request.url()}`);
    });
    await before?.(page);
    // A text stands before the worker's script; null takes the script away.
    if (worker !== undefined)
      await page.route('**/assets/worker-*.js', async (route) => {
        if (worker === null) return route.fulfill({ status: 404 });
        const response = await route.fetch();
        return route.fulfill({ response, body: `${worker}\n${await response.text()}` });
      });
    await page.goto(`${site.url}${search}${hash}`);
    return { page, complaints };
  };
  return site;
}
