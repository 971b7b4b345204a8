/** A tensor as a picture and as numbers. Blue is below zero, red above, and the middle is zero; NaN is drawn in green. */
import { short, type TensorReport } from '../../../src/study/numbers.ts';
import { el, fill } from '../dom.ts';
import { math } from '../math.ts';

const WIDEST = 64;
const SCALE = { most: 220, least: 3 };

/** Rows and columns of a picture of a tensor: its last axis across; a single row is broken where it is long. */
export function layoutOf(shape: readonly number[]): [rows: number, columns: number] {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const last = shape[shape.length - 1] ?? 1;
  const columns = last === count && count > WIDEST ? WIDEST : Math.max(1, last);
  return [Math.ceil(count / columns), columns];
}

function paint(canvas: HTMLCanvasElement, values: readonly number[], rows: number, columns: number): void {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  const picture = context.createImageData(columns, rows);
  const most = values.reduce((largest, value) => (Number.isFinite(value) ? Math.max(largest, Math.abs(value)) : largest), 1e-30);
  values.forEach((value, i) => {
    const share = Math.max(-1, Math.min(1, value / most));
    const fade = Math.round(255 * (1 - Math.abs(share)));
    const [r, g, b] = Number.isNaN(value) ? [0, 200, 0] : share > 0 ? [255, fade, fade] : [fade, fade, 255];
    picture.data.set([r, g, b, 255], 4 * i);
  });
  context.putImageData(picture, 0, 0);
}

export function tensorView({ name, role, shape, min, max, mean, std, values, saturated }: TensorReport): HTMLElement {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const caption = el('figcaption', {}, role === 'in' ? '→ ' : '← ', math(name), ` [${shape.join(', ')}]`);
  const facts = el(
    'div',
    { class: 'dim' },
    `${short(min)} … ${short(max)}, mean ${short(mean)}, σ ${short(std)}${saturated === null ? '' : `, ${(100 * saturated).toFixed(0)} % saturated`}`,
  );
  if (values.length < count)
    return el('figure', { class: 'tensor' }, caption, facts, el('div', {}, 'a weight: ', values.slice(0, 4).map(short).join(', '), ' …'));
  const [rows, columns] = layoutOf(shape);
  const canvas = el('canvas', { role: 'img', tabindex: 0, 'aria-label': `values of a tensor of ${shape.join(' by ')}` });
  paint(canvas, values, rows, columns);
  const scale = Math.max(SCALE.least, Math.min(14, Math.floor(SCALE.most / Math.max(rows, columns))));
  canvas.style.width = `${columns * scale}px`;
  canvas.style.height = `${rows * scale}px`;
  const under = el('output', { class: 'dim' }, 'a pointer shows a number');
  let at = 0;
  const tell = () => fill(under, `number ${at} is ${short(values[at])}`);
  canvas.addEventListener('pointermove', (event) => {
    const box = canvas.getBoundingClientRect();
    const [column, row] = [Math.floor(((event.clientX - box.left) / box.width) * columns), Math.floor(((event.clientY - box.top) / box.height) * rows)];
    at = Math.max(0, Math.min(count - 1, row * columns + column));
    tell();
  });
  canvas.addEventListener('keydown', (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    at = Math.max(0, Math.min(count - 1, at + by));
    tell();
  });
  return el('figure', { class: 'tensor' }, caption, canvas, facts, under);
}
