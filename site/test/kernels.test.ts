/** A kernel in the page: run on sizes of one's own, edited, refused with its line, found wrong, found right and timed. */

import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { inBrowser, useSite } from './browser.ts';

/** Puts a text in the place of what the editor holds. */
async function type(page: Page, text: string): Promise<void> {
  await page.click('.forward .cm-content');
  await page.keyboard.press('Control+A');
  await page.evaluate((given) => {
    const data = new DataTransfer();
    data.setData('text/plain', given);
    document.querySelector('.forward .cm-content')?.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
  }, text);
}

const verdict = async (page: Page): Promise<{ is: string | null; says: string }> => {
  await page.waitForFunction(() => document.querySelector('.forward [data-verdict], .forward .verdict .error'), undefined, { timeout: 120_000 });
  return { is: await page.getAttribute('.forward [data-verdict]', 'data-verdict'), says: (await page.textContent('.forward .says')) ?? '' };
};

inBrowser('kernels', () => {
  const site = useSite();

  test('run on sizes of one’s own: every version right, with intervals and a roofline', async () => {
    const { page, complaints } = await site.open('#/kernels?op=matmul&shapes=61,67;67,71;71');
    await page.waitForSelector('#run');
    await page.click('#run');
    await page.waitForSelector('.panel .results tbody tr[data-version]', { timeout: 120_000 });
    const versions = await page.$$eval('.results tr[data-version]', (rows) => rows.map((row) => row.getAttribute('data-version')));
    expect(versions).toContain('naive');
    expect(versions.length).toBeGreaterThanOrEqual(3);
    expect(await page.$$eval('.results .wrong', (cells) => cells.length)).toBe(0);
    expect(await page.$$eval('.timing .chart svg', (charts) => charts.length)).toBe(1);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('sizes that do not fit are told with the shapes; every case can be checked', async () => {
    const { page, complaints } = await site.open('#/kernels?op=matmul&shapes=3,4;5,6;6');
    await page.waitForSelector('#run');
    await page.click('#run');
    await page.waitForSelector('.timing .error', { timeout: 60_000 });
    expect(await page.textContent('.timing .error')).toMatch(/3,4.*5,6/);
    await page.click('#check');
    await page.waitForSelector('[data-failed]', { timeout: 120_000 });
    expect(await page.getAttribute('[data-failed]', 'data-failed')).toBe('0');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('edited: a compile error at its line, a wrong kernel with its element, a right one with its time; the link brings it back', async () => {
    const { page, complaints } = await site.open('#/kernels?op=softmax&version=softmax.invocation');
    await page.waitForSelector('.forward .edit');
    await page.click('.forward .edit');
    await page.waitForSelector('.forward .cm-content');
    const start = await page.evaluate(() => [...document.querySelectorAll('.forward .cm-line')].map((line) => line.textContent).join('\n'));
    expect(start).toContain('// @like invocation');
    const full = await page.evaluate(async () => {
      const parts = new URLSearchParams(location.hash.split('?')[1]);
      return parts.get('version');
    });
    expect(full).toBe('softmax.invocation');
    const source = (await import('node:fs')).readFileSync(new URL('../../src/kernels/wgsl/softmax.wgsl', import.meta.url), 'utf8');
    const own = (change: (text: string) => string) => `// @like invocation\n${change(source)}`;

    await type(
      page,
      own((text) => text.replace('return value;', 'return u33(value);')),
    );
    await page.click('.forward .run-own');
    const broken = await verdict(page);
    expect(broken).toMatchObject({ is: 'wrong', says: expect.stringMatching(/yours\.wgsl:\d+:\d+: .*u33/) });
    await page.waitForSelector('.forward .cm-lint-marker-error');

    await type(
      page,
      own((text) => text.replaceAll('/ sum', '/ (sum + 1.0)')),
    );
    expect(own((text) => text.replaceAll('/ sum', '/ (sum + 1.0)'))).not.toBe(own((text) => text));
    await page.click('.forward .run-own');
    await page.waitForFunction(() => document.querySelector('.forward .says')?.textContent?.includes('must be'), undefined, { timeout: 120_000 });
    expect(await verdict(page)).toMatchObject({ is: 'wrong', says: expect.stringMatching(/y\[.*\] of \[.*\] is .*, must be/) });

    await type(
      page,
      own((text) => text),
    );
    await page.click('.forward .run-own');
    await page.waitForSelector('.forward [data-verdict="right"]', { timeout: 120_000 });
    await page.waitForSelector('.forward .results tr[data-version="user:yours.wgsl"]', { timeout: 120_000 });
    expect(complaints).toEqual([]);

    await page.waitForFunction(() => location.hash.includes('edit='));
    const link = page.url();
    const again = await site.browser.newPage();
    await again.goto(link);
    await again.waitForSelector('.forward .cm-content');
    expect(await again.textContent('.forward .cm-content')).toContain('// @like invocation');
    await again.close();
    await page.close();
  });

  test('an exercise in its chapter: the hole is wrong, the solution right', async () => {
    const { page, complaints } = await site.open('#/course/1-map');
    await page.waitForSelector('#exercise-01 .begin');
    await page.click('#exercise-01 .begin');
    await page.waitForSelector('#exercise-01 .run-own');
    await page.click('#exercise-01 .run-own');
    await page.waitForSelector('#exercise-01 [data-verdict="wrong"]', { timeout: 60_000 });
    expect(await page.textContent('#exercise-01 .verdict')).toContain('Hint:');
    await page.click('#exercise-01 button:has-text("Show the solution")');
    await page.waitForFunction(() => document.querySelector('#exercise-01 [data-verdict]') === null);
    await page.waitForSelector('#exercise-01 .run-own');
    await page.click('#exercise-01 .run-own');
    await page.waitForSelector('#exercise-01 [data-verdict="right"]', { timeout: 60_000 });
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('the exercise in JavaScript is judged, too', async () => {
    const { page } = await site.open('#/kernels?exercise=12');
    await page.waitForSelector('button:has-text("Show the solution")');
    await page.click('button:has-text("Show the solution")');
    await page.waitForSelector('.run-own');
    await page.click('.run-own');
    await page.waitForSelector('[data-verdict="right"]', { timeout: 60_000 });
    expect(await page.textContent('.says')).toContain('each by one product');
    await page.close();
  });
});
