/** A scene with its caption: the picture, and at each word the place that attention looked at. */

import { SCENE_SIZE, type Scene } from '../../../src/model/demo/scenes.ts';
import { glow, weightBytes } from '../../../src/plot/glow.ts';
import { el, reducedMotion } from '../dom.ts';

/** A scene that was described, as the engine tells it or as it was recorded. */
export interface Described {
  scene: Scene;
  words: string[];
  wordProbs: number[];
  alpha: ArrayLike<number>[];
  exact: boolean;
}

/** Milliseconds that a word's map is shown. */
const WORD_MS = 650;

/** Draws RGB pixels, laid over with a map of square regions where one is given. */
export function drawPicture(canvas: HTMLCanvasElement, pixels: Uint8Array, width: number, height: number, alpha: ArrayLike<number> | null): void {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true }) as CanvasRenderingContext2D;
  const picture = context.createImageData(width, height);
  let weights: Uint8ClampedArray | null = null;
  if (alpha) {
    const regions = Math.sqrt(alpha.length);
    const small = new ImageData(regions, regions);
    for (const [i, value] of weightBytes(alpha).entries()) small.data.set([value, value, value, 255], 4 * i);
    const map = el('canvas', { width: regions, height: regions });
    (map.getContext('2d') as CanvasRenderingContext2D).putImageData(small, 0, 0);
    context.imageSmoothingQuality = 'high';
    context.drawImage(map, 0, 0, width, height);
    weights = context.getImageData(0, 0, width, height).data;
  }
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      const value = pixels[3 * i + c];
      picture.data[4 * i + c] = weights ? glow(value, c, weights[4 * i] / 255) : value;
    }
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

/** A figure whose map moves with the words. A word can be chosen by pointer and keyboard; then the map stays. */
export function sceneFigure({ scene, words, wordProbs, alpha, exact }: Described): HTMLElement {
  const canvas = el('canvas', { class: 'scene', role: 'img', 'aria-label': `a scene: ${words.join(' ')}` });
  let at = -1;
  let held = false;
  const buttons = words.map((word, i) =>
    el(
      'button',
      {
        class: 'word',
        title: `${(100 * wordProbs[i]).toFixed(0)} % likely`,
        click: () => choose(i),
        pointerenter: () => choose(i),
        focus: () => choose(i),
        pointerleave: () => (held = false),
      },
      word,
    ),
  );
  const show = (i: number) => {
    at = i;
    drawPicture(canvas, scene.pixels, SCENE_SIZE, SCENE_SIZE, alpha[i] ?? null);
    for (const [k, button] of buttons.entries()) button.classList.toggle('on', k === i);
  };
  const choose = (i: number) => {
    held = true;
    show(i);
  };
  show(reducedMotion() ? -1 : 0);
  if (!reducedMotion()) {
    const timer = setInterval(() => {
      if (!canvas.isConnected) clearInterval(timer);
      else if (!held && !document.hidden) show(at + 1 >= words.length ? -1 : at + 1);
    }, WORD_MS);
  }
  const verdict = exact
    ? el('span', { class: 'right', title: 'right in every word' }, '✓')
    : el('span', { class: 'wrong', title: `it is: ${scene.caption.join(' ')}` }, '✗');
  return el(
    'figure',
    { class: 'described' },
    canvas,
    el(
      'figcaption',
      {},
      buttons.map((button) => [button, ' ']),
      verdict,
    ),
  );
}
