/** The demo. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

test('demo: a page, a report, and its contract (a few batches only)', async () => {
  const out = join(folder, 'demo');
  const { code, stdout } = await glimpse('demo', '--out', out, '--scenes', '128', '--epochs', '1', '--json');
  expect(code).toBe(1); // far from 90 % after four batches: the exit code says so
  const report = JSON.parse(stdout);
  expect(report).toMatchObject({ testScenes: 256, epochs: 1, exactMatch: expect.any(Number), pointing: expect.any(Number) });
  const page = readFileSync(join(out, 'index.html'), 'utf8');
  expect(page).toContain('data:image/png;base64,');
  expect(page).not.toMatch(/src="http|href="http/); // self-contained
  expect(existsSync(join(out, 'report.json'))).toBe(true);
  expect(statSync(join(out, 'index.html')).size).toBeGreaterThan(20_000);
});
