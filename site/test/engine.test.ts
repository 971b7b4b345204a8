/** The engine in the page: the whole self-test, also with the limits that the standard guarantees; training; a lost device; none. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseReport } from '../../bench/record.ts';
import { inBrowser, SCREENSHOTS, useSite } from './browser.ts';

/** Kills the GPU process of the browser that this test started, as a fault of a driver does. */
function killGpuProcess(): void {
  const found = readdirSync('/proc').flatMap((pid) => {
    try {
      const parent = Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]);
      return [{ pid: Number(pid), parent, isGpu: readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('--type=gpu-process') }];
    } catch {
      return []; // no process, or one that has just ended
    }
  });
  const isOurs = (pid: number): boolean => pid === process.pid || found.some((each) => each.pid === pid && isOurs(each.parent));
  const [gpu] = found.filter(({ pid, isGpu }) => isGpu && isOurs(pid));
  if (!gpu) throw new Error('the browser has no GPU process');
  process.kill(gpu.pid, 'SIGKILL');
}

inBrowser('engine', () => {
  const site = useSite();

  test.each([
    ['with all that the adapter has', ''],
    ['with the limits that the standard guarantees', '?limits=guaranteed'],
  ])('the whole self-test, %s', async (name, search) => {
    const { page, complaints } = await site.open('#/selftest', { search });
    await page.click('#run');
    await page.waitForSelector('[data-passed]', { timeout: 280_000 });
    const count = async (what: string) => Number(await page.getAttribute('[data-passed]', `data-${what}`));
    const [passed, failed, skipped] = [await count('passed'), await count('failed'), await count('skipped')];
    console.log(`${name}: ${passed} passed, ${failed} failed, ${skipped} cannot run there`);
    expect(await page.$$eval('.error', (all) => all.map((each) => each.textContent))).toEqual([]);
    expect(failed).toBe(0);
    expect(passed).toBeGreaterThan(700);
    if (search) expect(await page.textContent('.adapter')).toContain('guaranteed limits');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('the demo trains, pauses, goes on, and learns; another job has its turn within', async () => {
    const { page, complaints } = await site.open('#/?epochs=2');
    expect(await page.inputValue('#epochs')).toBe('2');
    await page.click('#train');
    await page.waitForFunction(() => Number(document.querySelector('progress')?.value) > 4, undefined, { timeout: 60_000 });
    await page.click('#pause');
    await page.waitForFunction(() => document.querySelector('#pause')?.textContent === 'Go on');
    const steps = () => page.evaluate(() => document.querySelector('progress')?.value ?? 0);
    const paused = await steps();
    await page.waitForTimeout(3000);
    const at = await steps();
    expect(at).toBeLessThanOrEqual(paused + 1); // the step that was under way ends
    await page.waitForTimeout(1000);
    expect(await steps()).toBe(at);
    const before = await page.textContent('#captions');
    await page.click('button:has-text("Other scenes")'); // while it is paused, the engine captions
    await page.waitForFunction((text) => document.querySelector('#captions')?.textContent !== text, before, { timeout: 30_000 });
    await page.click('#pause');
    await page.waitForSelector('tr.epoch', { timeout: 120_000 });
    await page.screenshot({ path: join(SCREENSHOTS, 'training-1280.png'), fullPage: true });
    await page.waitForSelector('#exact', { timeout: 200_000 });
    const exact = Number(await page.getAttribute('#exact', 'data-exact'));
    const rows = await page.$$eval('tr.epoch', (all) => all.map((row) => Number(row.children[1].textContent)));
    console.log(`two epochs in the page: losses ${rows.join(', ')}, ${(100 * exact).toFixed(1)} % of unseen scenes right`);
    expect(rows).toHaveLength(2);
    expect(rows[1]).toBeLessThan(rows[0] / 2);
    expect(exact).toBeGreaterThan(0.02); // of thousands of captions that the grammar has
    expect(await page.$$eval('#training figure.described', (all) => all.length)).toBeGreaterThan(0);
    await page.screenshot({ path: join(SCREENSHOTS, 'trained-1280.png'), fullPage: true });
    await page.click('a:has-text("Look into this model")');
    await page.waitForSelector('.tensor canvas', { timeout: 60_000 });
    expect(await page.textContent('main')).toContain('trained in this tab');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('a training that is ended says so, and another one can begin', async () => {
    const { page } = await site.open('');
    await page.fill('#scenes', '64');
    await page.fill('#epochs', '50');
    await page.click('#train');
    await page.waitForFunction(() => Number(document.querySelector('progress')?.value) > 1, undefined, { timeout: 60_000 });
    await page.click('#end');
    await page.waitForFunction(() => document.querySelector('#training .status')?.textContent === 'Ended.');
    await page.fill('#epochs', '1');
    await page.click('#train');
    await page.waitForSelector('#exact', { timeout: 60_000 });
    await page.close();
  });

  test('a tab in the background goes on, shows how far it is, and tells of it afterwards', async () => {
    const { page } = await site.open('');
    await page.fill('#scenes', '640');
    await page.fill('#epochs', '3');
    await page.click('#train');
    await page.waitForFunction(() => Number(document.querySelector('progress')?.value) > 1, undefined, { timeout: 60_000 });
    const hide = (hidden: boolean) =>
      page.evaluate((value) => {
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
    await hide(true);
    await page.waitForFunction(() => /^\d+ %, Glimpse/.test(document.title), undefined, { timeout: 10_000 });
    await hide(false);
    await page.waitForSelector('#notice .note');
    expect(await page.textContent('#notice')).toMatch(/in the background for \d+ s\. Training went on/);
    await page.click('#end');
    await page.close();
  });

  test('without Symbol.dispose, as in Safari, everything runs', async () => {
    // The symbol itself cannot be deleted, so the worker gets a Symbol that has none until one is set.
    const worker = `{ const [real, own] = [Symbol, {}]; globalThis.Symbol = new Proxy(function () {}, {
      get: (_of, name) => (/^(dispose|asyncDispose)$/.test(String(name)) ? own[name] : real[name]),
      set: (_of, name, value) => ((own[name] = value), true),
      apply: (_of, _this, given) => real(...given) }); }`;
    const { page, complaints } = await site.open('#/kernels?op=softmax', { worker });
    await page.waitForSelector('#check');
    await page.click('#check');
    await page.waitForSelector('[data-failed]', { timeout: 120_000 });
    expect(await page.getAttribute('[data-failed]', 'data-failed')).toBe('0');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('an engine that cannot be loaded is told of once, and is no matter of WebGPU', async () => {
    const { page } = await site.open('', { worker: null });
    await page.waitForSelector('#no-engine');
    expect(await page.$$eval('#no-webgpu', (all) => all.length)).toBe(0);
    await page.close();
  });

  test('an endless loop in a program of the visitor’s ends, and the engine starts again', async () => {
    const { page } = await site.open('#/kernels?exercise=12');
    await page.click('button:has-text("Begin")');
    await page.click('.cm-content');
    await page.keyboard.press('Control+A');
    await page.keyboard.type('export function recurrentWeightGradient() { for (;;) {} }');
    await page.click('.run-own');
    await page.waitForSelector('.verdict .error', { timeout: 60_000 });
    expect(await page.textContent('.verdict .error')).toContain('is there an endless loop?');
    await page.click('#lost button');
    await page.waitForFunction(() => document.querySelector('.adapter')?.textContent?.includes('swiftshader'));
    await page.waitForSelector('button:has-text("Go on with yours")'); // the page is drawn anew
    await page.evaluate(() => {
      location.hash = '#/kernels?op=relu';
    });
    await page.click('#check');
    await page.waitForSelector('[data-failed="0"]', { timeout: 60_000 });
    await page.close();
  });

  test('a benchmark’s file is one that `glimpse bench compare` takes', async () => {
    const { page, complaints } = await site.open('#/bench?names=lstm-cell');
    await page.waitForSelector('#run');
    await page.click('#run');
    const save = await page.waitForSelector('#save', { timeout: 200_000 });
    const [file] = await Promise.all([page.waitForEvent('download'), save.click()]);
    const report = parseReport('the download', readFileSync(await file.path(), 'utf8'), '');
    expect(report.rows.map(({ name }) => name)).toEqual(['lstm-cell', 'lstm-cell']);
    expect(report.software).toBe(true);
    expect(report.wrong).toEqual([]);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('a device that is lost while it trains ends the training with its reason; another one runs on the new device', async () => {
    const { page } = await site.open('');
    await page.fill('#scenes', '640');
    await page.click('#train');
    await page.waitForFunction(() => Number(document.querySelector('progress')?.value) > 2, undefined, { timeout: 60_000 });
    killGpuProcess();
    await page.waitForSelector('#lost');
    await page.waitForSelector('#training .status .wrong', { timeout: 60_000 });
    await page.click('#lost button');
    await page.waitForFunction(() => document.querySelector('#lost') === null);
    await page.waitForSelector('#captions figure.described');
    await page.fill('#scenes', '64');
    await page.fill('#epochs', '1');
    await page.click('#train');
    await page.waitForSelector('#exact', { timeout: 60_000 });
    await page.close();
  });

  test('a device that is lost is told of, and opened again', async () => {
    const { page } = await site.open('#/selftest');
    await page.waitForSelector('#run');
    await page.waitForFunction(() => document.querySelector('.adapter')?.textContent?.includes('swiftshader'));
    await page.click('#run');
    killGpuProcess();
    await page.waitForSelector('#lost', { timeout: 60_000 });
    await page.screenshot({ path: join(SCREENSHOTS, 'lost-1280.png') });
    await page.waitForFunction(() => !(document.querySelector('#run') as HTMLButtonElement).disabled, undefined, { timeout: 60_000 }); // nothing hangs
    await page.click('#lost button');
    await page.waitForFunction(() => document.querySelector('#lost') === null);
    await page.evaluate(() => {
      location.hash = '#/kernels?op=relu';
    });
    await page.waitForSelector('#check');
    await page.click('#check');
    await page.waitForSelector('[data-failed="0"]', { timeout: 60_000 });
    await page.close();
  });
});

inBrowser('without a device', () => {
  const site = useSite({ webgpu: false });

  test.each([
    ['no adapter', ''],
    ['no navigator.gpu', 'delete Navigator.prototype.gpu'],
  ])('%s: what is missing, how to switch it on, and what was recorded', async (name, script) => {
    const { page, complaints } = await site.open('', { before: (fresh) => (script ? fresh.addInitScript(script) : Promise.resolve()) });
    await page.waitForSelector('#no-webgpu');
    expect(await page.textContent('#no-webgpu')).toMatch(script ? /navigator\.gpu is missing/ : /offers no adapter/);
    expect(await page.textContent('#no-webgpu')).toContain('enable-unsafe-webgpu');
    await page.waitForSelector('figure.described');
    expect(await page.textContent('#first')).toMatch(/^Recorded on .* because there is no WebGPU here/);
    await page.screenshot({ path: join(SCREENSHOTS, `${name.replaceAll(/\W/g, '-')}-1280.png`), fullPage: true });
    for (const [hash, ready] of [
      ['#/kernels?op=softmax', '.gradient .code .line'],
      ['#/course/3-softmax', '.panel .begin'],
      ['#/bench', '.checks input'],
      ['#/model', '.status a'],
    ]) {
      await page.evaluate((to) => {
        location.hash = to;
      }, hash);
      await page.waitForSelector(ready);
    }
    expect(complaints.filter((each) => !each.includes('No available adapters'))).toEqual([]);
    await page.close();
  });
});
