/** The demo's page: pictures, captions, and for each word the map that attention drew, in one self-contained file. */
import escapeHtml from 'escape-html';
import sharp from 'sharp';
import type { DemoReport, DescribedScene } from '../model/demo.ts';
import { SCENE_GRID, SCENE_SIZE } from '../model/scenes.ts';

const SHOWN = 128;

async function png(pixels: Uint8Array): Promise<string> {
  const bytes = await sharp(pixels, { raw: { width: SCENE_SIZE, height: SCENE_SIZE, channels: 3 } })
    .resize(SHOWN, SHOWN, { kernel: 'cubic' })
    .png()
    .toBuffer();
  return `data:image/png;base64,${bytes.toString('base64')}`;
}

/** The picture darkened where attention is not, the map scaled smoothly; brightest at the map's own maximum. */
async function heatMap(pixels: Uint8Array, alpha: Float32Array): Promise<string> {
  const peak = alpha.reduce((largest, value) => Math.max(largest, value), 0);
  const map = Uint8Array.from(alpha, (value) => Math.round((255 * value) / peak));
  const smooth = await sharp(map, { raw: { width: SCENE_GRID, height: SCENE_GRID, channels: 1 } })
    .resize(SCENE_SIZE, SCENE_SIZE, { kernel: 'cubic' })
    .toColourspace('b-w')
    .raw()
    .toBuffer();
  const mixed = Uint8Array.from(pixels, (value, i) => {
    const weight = smooth[Math.floor(i / 3)] / 255;
    const glow = [255, 210, 80][i % 3];
    return Math.round(value * (0.25 + 0.45 * weight) + 0.3 * weight * glow);
  });
  return png(mixed);
}

async function card(d: DescribedScene): Promise<string> {
  const words = await Promise.all(
    d.words.map(
      async (word, t) =>
        `<figure><img src="${await heatMap(d.scene.pixels, d.alpha[t])}" alt="attention at the word ${escapeHtml(word)}"><figcaption>${escapeHtml(word)} <small>${(100 * d.wordProbs[t]).toFixed(0)} %</small></figcaption></figure>`,
    ),
  );
  const verdict = d.exact ? '<span class="right">right</span>' : `<span class="wrong">wrong</span>, it is “${escapeHtml(d.scene.caption.join(' '))}”`;
  return `<section><h2>${escapeHtml(d.words.join(' '))}</h2><p>${verdict}</p><div class="row"><figure><img src="${await png(d.scene.pixels)}" alt="the scene"><figcaption>the scene</figcaption></figure>${words.join('')}</div></section>`;
}

function lossCurve(losses: readonly number[]): string {
  const [width, height] = [640, 120];
  const top = Math.max(...losses);
  const points = losses
    .map((loss, i) => `${((i / Math.max(1, losses.length - 1)) * width).toFixed(1)},${(height - (loss / top) * (height - 8)).toFixed(1)}`)
    .join(' ');
  return `<svg viewBox="0 0 ${width} ${height + 18}" role="img" aria-label="loss per word over the batches"><polyline points="${points}" fill="none" stroke="#4aa3ff" stroke-width="1.5"/><line x1="0" y1="${height}" x2="${width}" y2="${height}" stroke="#667"/><text x="0" y="${height + 14}">batch 1: ${losses[0].toFixed(2)} nats a word</text><text x="${width}" y="${height + 14}" text-anchor="end">batch ${losses.length}: ${losses[losses.length - 1].toFixed(3)}</text></svg>`;
}

export async function galleryPage(described: readonly DescribedScene[], report: DemoReport, adapter: string): Promise<string> {
  const cards = await Promise.all(described.map(card));
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Glimpse: scenes never seen, described</title>
<style>
body{background:#14171c;color:#e8eaed;font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:84rem;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.05rem;margin:0 0 .2rem}section{background:#1c2027;border-radius:.6rem;padding:1rem;margin:1rem 0}
p{margin:.2rem 0 .6rem}.row{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0;text-align:center}img{width:96px;height:96px;border-radius:.3rem;display:block}
figcaption{font-size:.85rem}small{color:#9aa3ad}.right{color:#6fd08c}.wrong{color:#ff8a7a}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem}dt{color:#9aa3ad}dd{margin:0}svg{width:100%;max-width:640px}text{fill:#9aa3ad;font-size:11px}
</style></head><body>
<h1>Scenes never seen, described word by word</h1>
<p>A convolutional encoder and an attention decoder, trained together from nothing. Under each word: where attention looked when it was written, and how sure the model was.</p>
<dl><dt>right in every word</dt><dd>${percent(report.exactMatch)} of ${report.testScenes} scenes</dd><dt>looks at what it names</dt><dd>${percent(report.pointing)} (chance ${percent(report.pointingByChance)})</dd><dt>training</dt><dd>${report.epochs} epochs of ${report.trainScenes} scenes in ${report.seconds.toFixed(0)} s, ${report.parameters} parameters</dd><dt>adapter</dt><dd>${escapeHtml(adapter)}</dd></dl>
${lossCurve(report.lossCurve)}
${cards.join('\n')}
</body></html>
`;
}
