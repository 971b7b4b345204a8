/**
 * Draws the pictures of docs/course: `npx tsx scripts/course_pictures.ts`. A test compares the files with what this makes, so that a
 * picture cannot fall behind its script.
 */
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const BLUE = '#0072b2';
const ORANGE = '#d55e00';
const GREEN = '#009e73';
const PALE = { [BLUE]: '#cfe5f2', [ORANGE]: '#f9dccb', [GREEN]: '#cdeee2' };

const svg = (width: number, height: number, body: string[]): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" role="img"><style>text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#555}</style><defs>${[
    ['blue', BLUE],
    ['orange', ORANGE],
    ['gray', '#555'],
  ]
    .map(
      ([name, color]) =>
        `<marker id="${name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="${color}"/></marker>`,
    )
    .join('')}</defs><rect width="100%" height="100%" fill="#fff"/>${body.join('')}</svg>\n`;
const text = (x: number, y: number, body: string, more = '') => `<text x="${x}" y="${y}" ${more}>${body}</text>`;
const middle = 'text-anchor="middle"';
const box = (x: number, y: number, width: number, height: number, fill: string, stroke = '#888') =>
  `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${fill}" stroke="${stroke}"/>`;
const arrow = (x1: number, y1: number, x2: number, y2: number, name: 'blue' | 'orange' | 'gray', dashed = false) => {
  const color = { blue: BLUE, orange: ORANGE, gray: '#555' }[name];
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${color}" stroke-width="1.6"${dashed ? ' stroke-dasharray="5 3"' : ''} marker-end="url(#${name})"/>`;
};

/** Which numbers a tile of C needs. */
function tile(): string {
  const cells: string[] = [];
  const [unit, n] = [14, 12];
  const grid = (x0: number, y0: number, color: (row: number, column: number) => string) => {
    for (let r = 0; r < n; r++) for (let c = 0; c < n; c++) cells.push(box(x0 + c * unit, y0 + r * unit, unit, unit, color(r, c), '#ccc'));
  };
  const inside = (i: number, from: number) => i >= from && i < from + 4;
  grid(20, 200, (r, c) => (inside(r, 4) ? (inside(c, 4) ? BLUE : PALE[BLUE]) : '#fff'));
  grid(220, 20, (r, c) => (inside(c, 8) ? (inside(r, 4) ? ORANGE : PALE[ORANGE]) : '#fff'));
  grid(220, 200, (r, c) => (inside(r, 4) && inside(c, 8) ? GREEN : '#fff'));
  return svg(740, 390, [
    ...cells,
    text(104, 386, 'A', middle),
    text(304, 14, 'B', middle),
    text(304, 386, 'C = A B', middle),
    text(420, 60, 'a workgroup owns the green tile of C'),
    text(420, 84, 'it walks along k: the dark tiles are loaded'),
    text(420, 108, 'into workgroup memory, the pale ones come'),
    text(420, 132, 'before and after'),
    text(420, 230, 'each number of the blue tile serves a row'),
    text(420, 254, 'of the green one, each number of the orange'),
    text(420, 278, 'tile a column: a tile of T × T needs 2 T²'),
    text(420, 302, 'loads for T³ multiply-adds'),
  ]);
}

/** A reduction tree over eight lanes. */
function tree(): string {
  const body: string[] = [];
  const x = (lane: number) => 60 + lane * 66;
  for (let level = 0; level <= 3; level++) {
    const lanes = 8 >> level;
    const y = 40 + level * 76;
    for (let lane = 0; lane < 8; lane++) {
      const isLive = lane < lanes;
      body.push(box(x(lane) - 22, y - 14, 44, 28, isLive ? PALE[BLUE] : '#f4f4f4', isLive ? BLUE : '#ddd'));
      if (isLive) body.push(text(x(lane), y + 4, level === 0 ? `p${lane}` : level === 3 ? 'Σ' : `Σ ${8 / lanes}`, middle));
      if (level < 3 && lane < lanes / 2) {
        body.push(arrow(x(lane), y + 15, x(lane), y + 60, 'gray'));
        body.push(arrow(x(lane + lanes / 2), y + 15, x(lane) + 8, y + 60, 'gray'));
      }
    }
    if (level < 3) body.push(text(596, y + 42, 'barrier', 'class="small"'));
  }
  return svg(660, 300, body);
}

/** Three steps of the decoder, forward and backward. */
function unrolled(): string {
  const body: string[] = [];
  const x = (t: number) => 110 + t * 190;
  for (let t = 0; t < 3; t++) {
    const rows = [
      ['attention', 300],
      ['LSTM 1', 220],
      ['LSTM 2', 140],
      [`word ${t + 1}`, 60],
    ] as const;
    for (const [name, y] of rows) {
      body.push(box(x(t) - 48, y - 18, 96, 36, y === 60 ? '#fff' : PALE[BLUE], y === 60 ? '#888' : BLUE), text(x(t), y + 4, name, middle));
    }
    for (const y of [300, 220, 140])
      body.push(arrow(x(t) - 10, y - 18, x(t) - 10, y - 61, 'blue'), arrow(x(t) + 10, y - 61, x(t) + 10, y - 19, 'orange', true));
    body.push(text(x(t), 352, `t = ${t + 1}`, middle));
    if (t < 2) {
      for (const y of [220, 140])
        body.push(arrow(x(t) + 48, y - 6, x(t + 1) - 49, y - 6, 'blue'), arrow(x(t + 1) - 49, y + 8, x(t) + 49, y + 8, 'orange', true));
      body.push(arrow(x(t) + 48, 154, x(t + 1) - 49, 288, 'blue'), arrow(x(t + 1) - 49, 304, x(t) + 36, 160, 'orange', true));
    }
  }
  return svg(660, 372, [
    ...body,
    text(20, 24, 'forward: solid, t = 1 … T', `fill="${BLUE}"`),
    text(330, 24, 'backward: dashed, t = T … 1', `fill="${ORANGE}"`),
  ]);
}

/** T products of B rows, and one of T · B. */
function oneProduct(): string {
  const body: string[] = [];
  for (let t = 0; t < 4; t++) {
    const y = 60 + t * 62;
    body.push(box(30, y, 22, 44, PALE[BLUE], BLUE), text(41, y - 5, `h${t}ᵀ`, `${middle} class="small"`));
    body.push(box(64, y + 11, 70, 22, PALE[ORANGE], ORANGE), text(99, y + 6, `dp${t + 1}`, `${middle} class="small"`));
    body.push(text(146, y + 27, '='), box(162, y, 70, 44, PALE[GREEN], GREEN));
    if (t < 3) body.push(text(197, y + 57, '+', middle));
  }
  body.push(text(150, 24, 'T products: dU is written T times', middle));
  body.push(text(290, 180, '='));
  for (let t = 0; t < 4; t++) {
    body.push(box(330 + t * 22, 158, 22, 44, PALE[BLUE], BLUE), text(341 + t * 22, 153, `h${t}ᵀ`, `${middle} class="small"`));
    body.push(box(440, 136 + t * 22, 70, 22, PALE[ORANGE], ORANGE), text(475, 152 + t * 22, `dp${t + 1}`, `${middle} class="small"`));
  }
  body.push(text(524, 184, '='), box(542, 158, 70, 44, PALE[GREEN], GREEN), text(577, 184, 'dU', middle));
  body.push(text(480, 110, 'one product with K = T · B', middle));
  return svg(680, 310, body);
}

/** File → its text. */
export const PICTURES: Readonly<Record<string, string>> = {
  'tile.svg': tile(),
  'tree.svg': tree(),
  'unrolled.svg': unrolled(),
  'one_product.svg': oneProduct(),
};

if (import.meta.url === pathToFileURL(process.argv[1]).href)
  for (const [name, picture] of Object.entries(PICTURES)) writeFileSync(new URL(`../docs/course/${name}`, import.meta.url), picture);
