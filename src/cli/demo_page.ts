/** The demo's page: pictures, captions, and for each word the map that attention drew, in one self-contained file. */
import escapeHtml from 'escape-html';
import type { DemoReport, DescribedScene } from '../model/demo/demo.ts';
import { SCENE_SIZE } from '../model/demo/scenes.ts';
import { dataUrl, heatMap, type Pixels } from '../plot/heat_map.ts';
import { figure, PAGE_STYLE } from './page.ts';

const SHOWN = 128;
const asPixels = (data: Uint8Array): Pixels => ({ data, width: SCENE_SIZE, height: SCENE_SIZE });

async function card(d: DescribedScene): Promise<string> {
  const words = await Promise.all(
    d.words.map(async (word, t) =>
      figure(await dataUrl(await heatMap(asPixels(d.scene.pixels), d.alpha[t]), 'png', SHOWN), `attention at the word ${word}`, word, d.wordProbs[t]),
    ),
  );
  const verdict = d.exact ? '<span class="right">right</span>' : `<span class="wrong">wrong</span>, it is “${escapeHtml(d.scene.caption.join(' '))}”`;
  return `<section><h2>${escapeHtml(d.words.join(' '))}</h2><p>${verdict}</p><div class="row">${figure(await dataUrl(asPixels(d.scene.pixels), 'png', SHOWN), 'the scene', 'the scene')}${words.join('')}</div></section>`;
}

function lossCurve(losses: readonly number[]): string {
  const [width, height] = [640, 120];
  const top = Math.max(...losses);
  const points = losses
    .map((loss, i) => `${((i / Math.max(1, losses.length - 1)) * width).toFixed(1)},${(height - (loss / top) * (height - 8)).toFixed(1)}`)
    .join(' ');
  return `<svg viewBox="0 0 ${width} ${height + 18}" role="img" aria-label="loss per word over the batches"><polyline points="${points}" fill="none" stroke="#4aa3ff" stroke-width="1.5"/><line x1="0" y1="${height}" x2="${width}" y2="${height}" stroke="#667"/><text x="0" y="${height + 14}">batch 1: ${losses[0].toFixed(2)} nats a word</text><text x="${width}" y="${height + 14}" text-anchor="end">batch ${losses.length}: ${losses[losses.length - 1].toFixed(3)}</text></svg>`;
}

export async function demoPage(described: readonly DescribedScene[], report: DemoReport, adapter: string): Promise<string> {
  const cards = await Promise.all(described.map(card));
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Glimpse: scenes never seen, described</title>
<style>${PAGE_STYLE}</style></head><body>
<h1>Scenes never seen, described word by word</h1>
<p>A convolutional encoder and an attention decoder were trained together, from random weights. Under each word stands the attention map of its step, with the word’s probability.</p>
<dl><dt>right in every word</dt><dd>${percent(report.exactMatch)} of ${report.testScenes} scenes</dd><dt>looks at what it names</dt><dd>${percent(report.pointing)} (chance ${percent(report.pointingByChance)})</dd><dt>training</dt><dd>${report.epochs} epochs of ${report.trainScenes} scenes in ${report.seconds.toFixed(0)} s, ${report.parameters} parameters</dd><dt>adapter</dt><dd>${escapeHtml(adapter)}</dd></dl>
${lossCurve(report.lossCurve)}
${cards.join('\n')}
</body></html>
`;
}
