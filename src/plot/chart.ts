/**
 * Charts as SVG text: lines and points over linear or logarithmic axes. d3 makes scales, ticks and line paths; this file only
 * places them. Training curves and the roofline use it.
 */
import { scaleLinear, scaleLog } from 'd3-scale';
import { line } from 'd3-shape';
import escapeHtml from 'escape-html';
import { printable } from '../printable.ts';

export interface Series {
  name: string;
  points: readonly (readonly [number, number])[];
  /** Draws single points instead of a line through them. */
  marks?: boolean;
  /** A text for each point, with `marks`. */
  labels?: readonly string[];
  dashed?: boolean;
}

export interface Chart {
  title: string;
  xLabel: string;
  yLabel: string;
  series: readonly Series[];
  xLog?: boolean;
  yLog?: boolean;
  /** Draws the points of lines too. */
  dots?: boolean;
}

/** People who cannot tell red from green can tell these apart (Okabe and Ito). */
const COLORS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#555555'];
const WIDTH = 760;
const HEIGHT = 420;
const EDGE = { right: 24, bottom: 52, left: 70 };

function extent(values: readonly number[], log: boolean): [number, number] {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (usable.length === 0) return log ? [0.1, 1] : [0, 1];
  const [low, high] = [Math.min(...usable), Math.max(...usable)];
  if (log) return [low / 1.3, high * 1.3];
  const pad = (high - low || Math.abs(high) || 1) * 0.05;
  return [low - pad, high + pad];
}

/** Width and height of a label, roughly: its letters are not measured here. */
const LETTER = { width: 5.6, height: 10 };

/** A place beside a point where its label hides no other; null if there is none. A pointer over the point still shows it. */
function freePlace(
  boxes: { left: number; right: number; top: number; bottom: number }[],
  px: number,
  py: number,
  label: string,
): { x: number; y: number } | null {
  const width = label.length * LETTER.width;
  const places = [
    [px + 6, py - 5],
    [px + 6, py + 11],
    [px - 6 - width, py - 5],
    [px - 6 - width, py + 11],
    [px - width / 2, py - 9],
    [px - width / 2, py + 17],
  ];
  for (const [x, y] of places) {
    const box = { left: x, right: x + width, top: y - LETTER.height, bottom: y + 2 };
    if (box.right > WIDTH || box.left < 0) continue;
    if (boxes.some((other) => box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom)) continue;
    boxes.push(box);
    return { x, y };
  }
  return null;
}

/** The chart as one self-contained `<svg>` element. */
export function chartSvg(chart: Chart): string {
  const { xLog = false, yLog = false, series } = chart;
  const margin = { ...EDGE, top: 48 + 16 * series.length }; // the legend is between title and plot
  const all = series.flatMap(({ points }) => points);
  const axis = (log: boolean) => (log ? scaleLog() : scaleLinear());
  const x = axis(xLog)
    .domain(
      extent(
        all.map(([value]) => value),
        xLog,
      ),
    )
    .range([margin.left, WIDTH - margin.right]);
  const y = axis(yLog)
    .domain(
      extent(
        all.map(([, value]) => value),
        yLog,
      ),
    )
    .range([HEIGHT - margin.bottom, margin.top]);
  const usable = ([px, py]: readonly [number, number]) => Number.isFinite(px) && Number.isFinite(py) && (!xLog || px > 0) && (!yLog || py > 0);
  const text = (px: number, py: number, body: string, more = '') =>
    `<text x="${px.toFixed(1)}" y="${py.toFixed(1)}" ${more}>${escapeHtml(printable(body))}</text>`;
  const xFormat = x.tickFormat(8);
  const yFormat = y.tickFormat(6);
  const parts: string[] = [];
  for (const tick of x.ticks(8)) {
    const at = x(tick);
    parts.push(`<line class="grid" x1="${at.toFixed(1)}" x2="${at.toFixed(1)}" y1="${margin.top}" y2="${HEIGHT - margin.bottom}"/>`);
    parts.push(text(at, HEIGHT - margin.bottom + 18, xFormat(tick), 'text-anchor="middle"'));
  }
  for (const tick of y.ticks(6)) {
    const at = y(tick);
    parts.push(`<line class="grid" x1="${margin.left}" x2="${WIDTH - margin.right}" y1="${at.toFixed(1)}" y2="${at.toFixed(1)}"/>`);
    parts.push(text(margin.left - 8, at + 4, yFormat(tick), 'text-anchor="end"'));
  }
  const path = line<readonly [number, number]>()
    .x(([value]) => x(value))
    .y(([, value]) => y(value));
  const boxes: { left: number; right: number; top: number; bottom: number }[] = [];
  series.forEach(({ points, marks, labels, dashed }, i) => {
    const color = COLORS[i % COLORS.length];
    if (!marks) {
      parts.push(`<path fill="none" stroke="${color}" stroke-width="1.8"${dashed ? ' stroke-dasharray="6 4"' : ''} d="${path(points.filter(usable)) ?? ''}"/>`);
      if (chart.dots)
        for (const [px, py] of points.filter(usable)) parts.push(`<circle cx="${x(px).toFixed(1)}" cy="${y(py).toFixed(1)}" r="2.5" fill="${color}"/>`);
      return;
    }
    points.forEach((point, j) => {
      if (!usable(point)) return;
      const [px, py] = [x(point[0]), y(point[1])];
      const label = labels?.[j] ?? '';
      parts.push(`<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="4" fill="${color}"><title>${escapeHtml(printable(label))}</title></circle>`);
      const place = label ? freePlace(boxes, px, py, label) : null;
      if (place) parts.push(text(place.x, place.y, label, 'class="label"'));
    });
  });
  // Entries of the legend are below one another, so that long names do not overlap.
  series.forEach(({ name }, i) => {
    const at = 46 + 16 * i;
    parts.push(`<rect x="${margin.left + 10}" y="${at - 8}" width="14" height="4" fill="${COLORS[i % COLORS.length]}"/>`);
    parts.push(text(margin.left + 30, at - 2, name));
  });
  parts.push(text(WIDTH / 2, 22, chart.title, 'text-anchor="middle" class="title"'));
  parts.push(text((margin.left + WIDTH - margin.right) / 2, HEIGHT - 12, chart.xLabel, 'text-anchor="middle"'));
  parts.push(
    text(
      16,
      (margin.top + HEIGHT - margin.bottom) / 2,
      chart.yLabel,
      `text-anchor="middle" transform="rotate(-90 16 ${(margin.top + HEIGHT - margin.bottom) / 2})"`,
    ),
  );
  const style = 'text{font:12px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}.label{font-size:10px;fill:#555}.grid{stroke:#e3e3e3}';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" role="img"><style>${style}</style><rect width="100%" height="100%" fill="#fff"/>${parts.join('')}</svg>`;
}

/** Charts below one another on a self-contained HTML page. */
export function chartPage(title: string, lead: string, charts: readonly string[]): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeHtml(printable(title))}</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:800px;margin:2rem auto;padding:0 1rem;color:#222}svg{max-width:100%;height:auto;margin:.5rem 0 1.5rem}</style></head>
<body><h1>${escapeHtml(printable(title))}</h1><p>${escapeHtml(lead)}</p>
${charts.join('\n')}
</body></html>
`;
}
