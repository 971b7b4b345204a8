/** Every page opens, in light and dark, wide and narrow, without an error, and asks no other host for anything. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { inBrowser, SCREENSHOTS, useSite } from './browser.ts';

/** What a page shows once it is ready. */
const PAGES: Readonly<Record<string, { hash: string; ready: string }>> = {
  front: { hash: '', ready: 'figure.described canvas' },
  kernels: { hash: '#/kernels?op=lstmCell', ready: '.gradient .code .line' },
  model: { hash: '#/model?step=3', ready: '.tensor canvas' },
  caption: { hash: '#/caption', ready: '#pictures' },
  bench: { hash: '#/bench', ready: '.checks input' },
  selftest: { hash: '#/selftest', ready: '#run' },
  course: { hash: '#/course/8-bptt', ready: '.panel .begin' },
};

inBrowser('pages', () => {
  const site = useSite();

  test.each(Object.entries(PAGES))('%s', async (name, { hash, ready }) => {
    for (const width of [1280, 390]) {
      const { page, complaints } = await site.open(hash, { width });
      await page.emulateMedia({ colorScheme: width === 390 ? 'dark' : 'light', reducedMotion: 'reduce' });
      await page.waitForSelector(ready, { timeout: 60_000 });
      await page.screenshot({ path: join(SCREENSHOTS, `${name}-${width}.png`), fullPage: true });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      expect(wide, `${name} is wider than a window of ${width}`).toBeLessThanOrEqual(width);
      expect(complaints).toEqual([]);
      await page.close();
    }
  });

  test('a page that there is not; a chapter, an op, an exercise, a shader that there are not', async () => {
    for (const [hash, says] of [
      ['#/nothing', 'No such page'],
      ['#/constructor', 'No such page'],
      ['#/kernels?shader=constructor', 'There is no shader called "constructor"'],
      ['#/course/100%', 'There is no chapter called "100%"'],
      ['#/course/99-nothing', 'There is no chapter'],
      ['#/kernels?op=nothing', 'There is no op called "nothing"'],
      ['#/kernels?exercise=99', 'There is no exercise 99'],
      ['#/kernels?shader=nothing', 'There is no shader called "nothing"'],
      ['#/kernels?op=softmax&edit=%21%21&of=forward', 'the link holds no text that can be read'],
      ['#/kernels?op=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E', 'There is no op called "<img src=x onerror=alert(1)>"'],
    ]) {
      const { page, complaints } = await site.open(hash);
      await page.waitForFunction((text) => document.querySelector('main')?.textContent?.includes(text), says, { timeout: 30_000 });
      expect(complaints).toEqual([]);
      await page.close();
    }
  });

  test('any equation, its kernel, its gradient with its kernel: two clicks; time goes forward and back', async () => {
    const { page, complaints } = await site.open('#/model');
    await page.waitForSelector('.box');
    await page.click('.box[data-key="h1, c1 = cell(xe + p, c1)"]');
    await page.waitForSelector('#equation[data-key="h1, c1 = cell(xe + p, c1)"]');
    await page.waitForSelector('.code .marked');
    expect(await page.textContent('.code .marked')).toContain('let cell = f * c[at] + i * g;');
    await page.click('#gradients button');
    await page.waitForSelector('#equation[data-key="dp, dc1"]');
    expect(await page.textContent('.code .marked')).toContain('let d_cell = dc_carry[at]');
    const at = () => page.evaluate(() => Number(new URLSearchParams(location.hash.split('?')[1]).get('step') ?? 1));
    await page.click('#later');
    await page.click('#later');
    expect(await at()).toBe(3);
    await page.click('#earlier');
    expect(await at()).toBe(2);
    expect(await page.getAttribute('#equation', 'data-key')).toBe('dp, dc1');
    await page.focus('.tensor canvas');
    await page.keyboard.press('ArrowRight');
    expect(await page.textContent('.tensor output')).toMatch(/number 1 is -?[\d.]+/);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('two versions side by side, with what only one has marked; the choice is in the address', async () => {
    const { page, complaints } = await site.open('#/kernels?op=matmul&right=matmul.workgroup');
    await page.waitForSelector('.compare .code .marked');
    const heads = () => page.$$eval('.compare small', (all) => all.map((each) => each.textContent?.split('.')[0]));
    expect(await heads()).toEqual(['matmul_naive', 'matmul_workgroup']);
    await page.selectOption('.compare select >> nth=0', { label: 'matmul register' });
    await page.waitForFunction(() => document.querySelector('.compare small')?.textContent?.startsWith('matmul_register'));
    expect(page.url()).toContain('left=matmul.register');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('the skip link leads to the page, and the address stays', async () => {
    const { page } = await site.open('#/kernels?op=tanh');
    await page.waitForSelector('.forward .code .line');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');
    expect(page.url()).toContain('op=tanh');
    await page.close();
  });

  test('the policy lets no script of a page’s text run', async () => {
    const { page } = await site.open('#/selftest');
    await page.waitForSelector('#run');
    const policy = await page.getAttribute('meta[http-equiv="Content-Security-Policy"]', 'content');
    expect(policy).toMatch(/script-src 'self';/);
    const ran = await page.evaluate(() => {
      const script = document.createElement('script');
      script.textContent = 'window.ran = true';
      document.body.append(script);
      return 'ran' in window;
    });
    expect(ran).toBe(false);
    await page.close();
  });
});
