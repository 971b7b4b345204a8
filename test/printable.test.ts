/** What files, names and checkpoints say reaches no terminal and no page as a command: controls are shown as U+FFFD. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import sharp from 'sharp';
import { expect, test, vi } from 'vitest';
import { result, say } from '../src/cli/output.ts';
import { inPage } from '../src/cli/page.ts';
import { FileError } from '../src/errors.ts';
import { contactSheet } from '../src/plot/heat_map.ts';
import { printable, printableLines } from '../src/printable.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const EVIL = 'a\u001b[31m\u0007\nb\u009b\u202ec\u2066\u2028d\u0085\u007f';
const SHOWN = 'a\ufffd[31m\ufffd\ufffdb\ufffd\ufffdc\ufffd\ufffdd\ufffd\ufffd';

test('controls, marks of direction and line feeds of names become U+FFFD; other scripts stay', () => {
  expect(printable(EVIL)).toBe(SHOWN);
  expect(printableLines(EVIL)).toBe(SHOWN.replace('\ufffdb', '\nb'));
  expect(printable('\ud800 \ufffe')).toBe('\ufffd \ufffd');
  for (const text of ['größer 猫 🐈', 'שלום', 'می‌خواهم']) expect(printable(text)).toBe(text);
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(printable(text)).not.toMatch(/[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/u);
    }),
  );
  expect(new FileError(EVIL, 'is bad').message).toBe(`${SHOWN}: is bad`);
  expect(inPage('<b>\u0001')).toBe('&lt;b&gt;\ufffd');
});

test('text passes printable on its way out, JSON stays exact', () => {
  const written: string[] = [];
  const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  const err = vi.spyOn(process.stderr, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  try {
    result({}, {}, () => [EVIL, 'second']);
    result({}, {}, () => 'first\nsecond\u001b');
    result({ json: true }, { name: EVIL }, () => []);
    say({}, `${EVIL}\n  Do this.`);
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
  expect(written).toEqual([`${SHOWN}\nsecond\n`, 'first\nsecond\ufffd\n', `${JSON.stringify({ name: EVIL })}\n`, `${SHOWN}\n  Do this.\n`]);
});

test('a sheet of maps is drawn whatever its words hold', async () => {
  const pixels = { data: new Uint8Array(8 * 8 * 3), width: 8, height: 8 };
  const png = await contactSheet([{ pixels, label: '\u0001\u001b & <b> \ufffe' }], 1);
  expect((await sharp(png).metadata()).format).toBe('png');
});

test('names of pictures with controls, from a table to the terminal', async () => {
  const images = join(folder, 'pictures');
  mkdirSync(images);
  writeFileSync(join(folder, 't.csv'), `image,caption\n"a${'\u001b'}[31m\nb.jpg",a dog\n`);
  const { code, stderr } = await glimpse('prepare', '--table', join(folder, 't.csv'), '--images', images, '--out', join(folder, 'd.json'));
  expect(code).toBe(1);
  expect(stderr).toMatch(/a\ufffd\[31m/);
  expect(stderr).not.toContain('\u001b');
});
