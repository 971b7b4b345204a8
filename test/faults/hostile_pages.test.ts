/** Hostile text in the words of a model, in captions, and in the names of pictures: pages show it, and no script of it runs in a browser. */

import { execFile } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { readSafetensors, writeSafetensors } from '../../src/data/safetensors.ts';
import { captionerRun } from '../captioner_run.ts';
import { browserPath, glimpse, temporaryFolder } from '../support.ts';
import { counted, isWhole, trial } from './trials.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);

/** Each would set the title of the page, if it ran. */
const HOSTILE = [
  '<script>document.title="ran"</script>',
  '<img src=x onerror=document.title="ran">',
  '"onmouseover="document.title=\'ran\'"autofocus onfocus="document.title=\'ran\'',
  "</title></style></textarea></script><svg onload=document.title='ran'>",
  'javascript:document.title="ran"',
  '\u0001\u001b[31m\u202e\u0000\ud800',
];

/** The run with a vocabulary whose words are hostile. */
function withWords(run: string, word: (i: number) => string): string {
  const { metadata, tensors } = readSafetensors(join(run, 'checkpoints', 'best.safetensors'));
  const words: string[] = JSON.parse(metadata.vocabulary);
  const path = join(folder, 'hostile.safetensors');
  writeSafetensors(path, tensors, { ...metadata, vocabulary: JSON.stringify(words.map((each, i) => (i < 4 ? each : word(i)))) });
  return path;
}

test('the gallery of a model with hostile words, captions and names', async () => {
  const record = counted('hostile text in pages', 'gallery, in Chromium');
  const { run, images } = await made.trained();
  const browser = browserPath('the pages were not opened');
  for (const [n, text] of HOSTILE.entries()) {
    if (!isWhole && n % 5 !== 0) continue;
    const model = withWords(run, (i) => `${text}${i}`);
    const picture = join(folder, `${text.replaceAll(/[/\0\ud800]/g, '')}.jpg`);
    copyFileSync(join(images, '0.jpg'), picture);
    const out = join(folder, `gallery${n}`);
    const references = join(folder, 'hostile.json');
    writeFileSync(
      references,
      JSON.stringify({ images: [{ id: 1, file_name: picture.slice(folder.length + 1) }], annotations: [{ id: 1, image_id: 1, caption: text }] }),
    );
    await trial(record, async () => {
      const { code, stderr } = await glimpse('gallery', model, picture, '--references', references, '--min-length', '3', '--out', out, '--quiet');
      expect([code, stderr], text).toEqual([0, expect.any(String)]);
      const page = join(out, 'index.html');
      const html = readFileSync(page, 'utf8');
      expect(html, text).not.toMatch(/(?![\t\n\r])[\p{Cc}\u202a-\u202e]/u);
      if (!browser) return;
      const options = ['--headless', '--no-sandbox', '--disable-gpu', `--user-data-dir=${join(folder, 'browser')}`, '--dump-dom', pathToFileURL(page).href];
      const { stdout } = await promisify(execFile)(browser, options, { maxBuffer: 1 << 28, timeout: 60_000 });
      expect(/<title>(.*?)<\/title>/.exec(stdout)?.[1], text).not.toBe('ran');
      expect(stdout.length, text).toBeGreaterThan(500);
    });
  }
});
