/** Photographs captioned in the page, word for word as in the terminal; with a server, and under load. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';
import { resolveCheckpoint } from '../../src/model/training/checkpoint.ts';
import { captionerRun } from '../../test/captioner_run.ts';
import { dataFolder, glimpse, program, temporaryFolder } from '../../test/support.ts';
import { inBrowser, SCREENSHOTS, useSite } from './browser.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);
const data = dataFolder('captions of COCO photographs in the page');

/** A picture with fine structure, so that a fault of scaling shows. */
async function structured(path: string): Promise<void> {
  const [width, height] = [301, 197];
  const pixels = Buffer.alloc(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    pixels.set([128 + 100 * Math.sin(x / 3), (255 * y) / height, 128 + 100 * Math.cos((x * y) / 900)], 3 * i);
  }
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .jpeg()
    .toFile(path);
}

async function captioned(run: string, pictures: readonly string[], beam = '3'): Promise<string[]> {
  const { code, stdout, stderr } = await glimpse('caption', run, ...pictures, '--beam', beam, '--json');
  if (code !== 0) throw new Error(stderr);
  return (JSON.parse(stdout) as { caption: string }[]).map(({ caption }) => caption);
}

const servers: ChildProcess[] = [];
afterAll(() => {
  for (const server of servers) server.kill('SIGKILL');
});

/** `glimpse serve` on a free port; what it printed at the end comes with `ended`. */
async function served(run: string, ...args: string[]): Promise<{ url: string; server: ChildProcess; ended: Promise<{ code: number | null; stderr: string }> }> {
  const server = spawn(process.execPath, [program, 'serve', run, '--port', '0', '--json', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  servers.push(server);
  let [stdout, stderr] = ['', ''];
  server.stderr.on('data', (part) => {
    stderr += part;
  });
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) => server.on('close', (code) => resolve({ code, stderr })));
  const url = await new Promise<string>((resolve, reject) => {
    server.stdout.on('data', (part) => {
      stdout += part;
      if (stdout.includes('\n')) resolve((JSON.parse(stdout) as { url: string }).url);
    });
    void ended.then(() => reject(new Error(`it ended: ${stderr}`)));
  });
  return { url, server, ended };
}

const post = (url: string, body: Uint8Array | string, headers: Record<string, string> = {}) =>
  fetch(`${url}caption`, { method: 'POST', body: body as BodyInit, headers });

test('POST /caption: 200 pictures, 8 at a time, batched; the words of the terminal; what is refused; a graceful end', async () => {
  const { run, images } = await made.trained();
  const names = readdirSync(images).filter((name) => name !== '9.jpg');
  const wanted = new Map(
    (
      await captioned(
        run,
        names.map((name) => join(images, name)),
        '1',
      )
    ).map((caption, i) => [names[i], caption]),
  );
  const { url, server, ended } = await served(run, '--max-mb', '1');
  const answers: { name: string; caption: string; batch: number }[] = [];
  let next = 0;
  const client = async () => {
    while (next < 208) {
      const name = names[next++ % names.length];
      const response = await post(url, readFileSync(join(images, name)));
      expect(response.status).toBe(200);
      answers.push({ name, ...((await response.json()) as { caption: string; batch: number }) });
    }
  };
  await Promise.all(Array.from({ length: 8 }, client));
  expect(answers).toHaveLength(208);
  for (const { name, caption } of answers) expect(caption).toBe(wanted.get(name));
  expect(Math.max(...answers.map(({ batch }) => batch))).toBeGreaterThan(1);

  const refused = async (body: Uint8Array | string, headers: Record<string, string> = {}) => {
    const response = await post(url, body, headers);
    return { status: response.status, error: ((await response.json()) as { error: string }).error };
  };
  expect(await refused('this is no picture')).toMatchObject({ status: 415, error: expect.stringContaining('cannot be read as a picture') });
  expect(await refused('')).toMatchObject({ status: 400 });
  expect(await refused(new Uint8Array(2 ** 21))).toMatchObject({ status: 413, error: expect.stringContaining('larger than 1.0 MB') });
  expect(await refused('x', { 'Content-Type': 'multipart/form-data; boundary=x' })).toMatchObject({
    status: 415,
    error: expect.stringContaining('--data-binary'),
  });
  expect(await refused('x', { Origin: 'http://elsewhere.example' })).toMatchObject({ status: 403 });
  expect((await fetch(`${url}caption`)).status).toBe(405);
  expect((await fetch(`${url}run/nothing`)).status).toBe(404);
  expect((await fetch(`${url}..%2f..%2fpackage.json`)).status).toBe(404);
  expect((await post(url, readFileSync(join(images, names[0])))).status).toBe(200); // still there

  const last = post(url, readFileSync(join(images, names[0])));
  await new Promise((resolve) => setTimeout(resolve, 30));
  server.kill('SIGTERM');
  expect((await last).status).toBe(200); // what was asked is answered
  expect(await ended).toMatchObject({ code: 0, stderr: expect.stringMatching(/210 pictures were captioned, [2-8] together at most/) });
});

test('serve: a queue that is full, a time that is over, a port that is taken', async () => {
  const { run, images } = await made.trained();
  const picture = readFileSync(join(images, '0.jpg'));
  const small = await served(run, '--queue', '1', '--batch', '1');
  const statuses = await Promise.all(Array.from({ length: 12 }, async () => (await post(small.url, picture)).status));
  expect(statuses).toContain(200);
  expect(statuses).toContain(503);
  const port = new URL(small.url).port;
  expect(await glimpse('serve', run, '--port', port)).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot listen at 127.0.0.1') });
  small.server.kill('SIGINT');
  expect((await small.ended).code).toBe(0);
  const hasty = await served(run, '--timeout', '0.001');
  expect((await post(hasty.url, picture)).status).toBeGreaterThanOrEqual(408);
  hasty.server.kill('SIGINT');
  expect((await hasty.ended).code).toBe(0);
});

inBrowser('caption a picture', () => {
  const site = useSite();

  test('with files of one’s own: word for word; names are text; what is wrong is told', async () => {
    const { run, encoder, images } = await made.trained();
    const picture = join(folder, '<img src=x onerror=alert(1)>.jpg');
    await structured(picture);
    const { page, complaints } = await site.open('#/caption');
    await page.setInputFiles('#checkpoint', join(run, 'checkpoints', 'best.safetensors'));
    expect(await page.textContent('.status')).toContain('Still needed: the encoder');
    const other = join(folder, 'other.onnx');
    writeFileSync(other, readFileSync(encoder).subarray(0, 1000));
    await page.setInputFiles('#encoder', other);
    await page.waitForFunction(() => document.querySelector('.status')?.textContent?.includes('is not the encoder that'));
    await page.setInputFiles('#encoder', encoder);
    await page.waitForSelector('[data-loaded="yes"]');
    const files = [picture, join(images, '15.jpg'), join(images, '16.jpg')];
    const wanted = await captioned(run, files);
    await page.setInputFiles('#pictures', files);
    await page.waitForFunction((count) => document.querySelectorAll('.captioned').length === count, files.length, { timeout: 60_000 });
    const got = await page.$$eval('.captioned .caption', (all) => all.map((each) => each.textContent)); // the last one first
    expect(got.reverse()).toEqual(wanted);
    expect(await page.$$eval('.captioned img', (all) => all.length)).toBe(0);
    expect(await page.$$eval('#out > div:first-child .hypothesis', (all) => all.length)).toBe(3);
    const broken = join(folder, 'broken.jpg');
    writeFileSync(broken, 'no picture');
    await page.setInputFiles('#pictures', broken);
    await page.waitForSelector('.error');
    expect(await page.textContent('.error')).toContain('broken.jpg: cannot be read as a picture');
    await page.screenshot({ path: join(SCREENSHOTS, 'caption-1280.png'), fullPage: true });
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('served: the run is there at once', async () => {
    const { run, images } = await made.trained();
    const { url, server, ended } = await served(run);
    const page = await site.browser.newPage();
    const complaints: string[] = [];
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    await page.goto(`${url}#/caption`);
    await page.waitForSelector('[data-loaded="yes"]', { timeout: 60_000 });
    await page.setInputFiles('#pictures', join(images, '17.jpg'));
    await page.waitForSelector('.captioned', { timeout: 60_000 });
    expect(await page.textContent('.captioned .caption')).toBe((await captioned(run, [join(images, '17.jpg')]))[0]);
    expect(complaints).toEqual([]);
    await page.close();
    server.kill('SIGTERM');
    expect((await ended).code).toBe(0);
  });

  test.skipIf(!data)('COCO photographs through ResNet-50: word for word', async () => {
    const source = join(data as string, 'coco', 'images');
    const resnet = join(data as string, 'resnet50', 'resnet50.onnx.gz');
    const names = readdirSync(source).sort().slice(0, 14);
    const own = join(folder, 'coco');
    if (!existsSync(own)) mkdirSync(own);
    const table = join(own, 'captions.csv');
    writeFileSync(
      table,
      [
        'image,caption,split',
        ...names.map(
          (name, i) =>
            `${name},a picture of number ${'one two three four five six seven'.split(' ')[i % 7]} ${i < 7 ? 'here' : 'there'},${i < 12 ? 'train' : 'val'}`,
        ),
      ].join('\n'),
    );
    const succeed = async (...args: string[]) => {
      const outcome = await glimpse(...args, '--quiet');
      if (outcome.code !== 0) throw new Error(`${args[0]}: ${outcome.stderr}`);
    };
    const [dataset, features, run] = ['dataset.json', 'features', 'run'].map((name) => join(own, name));
    await succeed('prepare', '--table', table, '--images', source, '--out', dataset, '--min-count', '1');
    await succeed('features', '--data', dataset, '--encoder', resnet, '--out', features);
    await succeed(
      'train',
      '--data',
      dataset,
      '--features',
      features,
      '--out',
      run,
      '--epochs',
      '40',
      '--rate',
      '0.003',
      '--schedule',
      'constant',
      '--batch-images',
      '6',
      '--captions',
      '1',
      '--dropout',
      '0',
      '--validation',
      '0',
    );
    const photographs = names.slice(0, 4).map((name) => join(source, name));
    const wanted = await captioned(run, photographs);
    const { page, complaints } = await site.open('#/caption');
    await page.setInputFiles('#checkpoint', resolveCheckpoint(run));
    await page.setInputFiles('#encoder', resnet);
    await page.waitForSelector('[data-loaded="yes"]', { timeout: 120_000 });
    await page.setInputFiles('#pictures', photographs);
    await page.waitForFunction((count) => document.querySelectorAll('.captioned').length === count, photographs.length, { timeout: 120_000 });
    const got = (await page.$$eval('.captioned .caption', (all) => all.map((each) => each.textContent))).reverse();
    console.log(`photographs in the page: ${got.join('; ')}`);
    expect(new Set(wanted).size).toBeGreaterThan(1);
    expect(got).toEqual(wanted);
    expect(complaints).toEqual([]);
    await page.screenshot({ path: join(SCREENSHOTS, 'photographs-1280.png'), fullPage: true });
    await page.close();
  });
});
