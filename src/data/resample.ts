/**
 * Scales pictures as Pillow does, bit for bit, since Hugging Face's image processors scale with it. It goes first along the rows, then
 * along the columns, each to 8 bits. The filter is widened where a picture gets smaller. Every host scales alike with it.
 */

/** Filters by Pillow's names, with the distance from the center at which they end. */
const FILTERS = {
  bilinear: { support: 1, at: (x: number) => (x < 1 ? 1 - x : 0) },
  bicubic: { support: 2, at: (x: number) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0) },
  lanczos: { support: 3, at: (x: number) => (x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};
export type Filter = keyof typeof FILTERS;
export const FILTER_NAMES = Object.keys(FILTERS) as Filter[];

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Bits behind the point of a weight. */
const PRECISION = 22;

/** Weights of the source pixels for target pixels `from` … `from + count − 1` of `to`; the source has `length` pixels. */
function weightsOf(filter: Filter, length: number, to: number, from: number, count: number): { first: number; weights: Int32Array }[] {
  const { support, at } = FILTERS[filter];
  const scale = length / to;
  const widened = Math.max(1, scale);
  const reach = support * widened;
  return Array.from({ length: count }, (_, i) => {
    const center = (from + i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const end = Math.min(length, Math.trunc(center + reach + 0.5));
    const raw = Array.from({ length: end - first }, (_, x) => at(Math.abs((x + first - center + 0.5) / widened)));
    const sum = raw.reduce((total, weight) => total + weight, 0);
    return { first, weights: Int32Array.from(raw, (weight) => Math.trunc((weight / sum) * 2 ** PRECISION + (weight < 0 ? -0.5 : 0.5))) };
  });
}

const clipped = (sum: number) => Math.min(255, Math.max(0, sum >> PRECISION));

/** A picture in RGB, row by row. */
export interface Rgb {
  data: ArrayLike<number>;
  width: number;
  height: number;
}

/** Where a part lies in a picture, in pixels. */
export interface Part {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** The part of the picture scaled to toWidth × toHeight pixels, RGB row by row. Only what the part needs is computed. */
export function resampled({ data, width, height }: Rgb, filter: Filter, toWidth: number, toHeight: number, part: Part): Uint8Array<ArrayBuffer> {
  // As Pillow, a pass that would change no length is left out.
  const rows = toHeight === height ? null : weightsOf(filter, height, toHeight, part.top, part.height);
  const firstRow = rows ? rows[0].first : part.top;
  const lastRow = rows ? Math.max(...rows.map(({ first, weights }) => first + weights.length)) : part.top + part.height;
  const across = new Uint8Array(3 * part.width * (lastRow - firstRow));
  const columns = toWidth === width ? null : weightsOf(filter, width, toWidth, part.left, part.width);
  for (let y = firstRow; y < lastRow; y++) {
    const target = 3 * part.width * (y - firstRow);
    for (let x = 0; x < part.width; x++) {
      let [r, g, b] = [1 << (PRECISION - 1), 1 << (PRECISION - 1), 1 << (PRECISION - 1)];
      if (columns) {
        const { first, weights } = columns[x];
        let at = 3 * (y * width + first);
        for (let i = 0; i < weights.length; i++, at += 3) {
          r += weights[i] * data[at];
          g += weights[i] * data[at + 1];
          b += weights[i] * data[at + 2];
        }
        across[target + 3 * x] = clipped(r);
        across[target + 3 * x + 1] = clipped(g);
        across[target + 3 * x + 2] = clipped(b);
      } else for (let c = 0; c < 3; c++) across[target + 3 * x + c] = data[3 * (y * width + part.left + x) + c];
    }
  }
  if (!rows) return across;
  const out = new Uint8Array(3 * part.width * part.height);
  const line = 3 * part.width;
  for (let y = 0; y < part.height; y++) {
    const { first, weights } = rows[y];
    for (let x = 0; x < line; x++) {
      let sum = 1 << (PRECISION - 1);
      for (let i = 0, at = line * (first - firstRow) + x; i < weights.length; i++, at += line) sum += weights[i] * across[at];
      out[line * y + x] = clipped(sum);
    }
  }
  return out;
}
