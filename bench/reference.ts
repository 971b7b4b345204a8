/** The first numbers of each kernel's result in float64, so that nothing wrong is ever timed. Layouts as in work.ts. */
import { type ConvShape, numbers, outSize, SAMPLE, type Work, words } from './work.ts';

function convolution(kind: 'conv' | 'convGradInput' | 'convGradWeight', s: ConvShape): number[] {
  const [oh, ow] = [outSize(s.height, s), outSize(s.width, s)];
  const x = numbers(s.images * s.channels * s.height * s.width, 1);
  const w = numbers(s.outChannels * s.channels * s.kernel ** 2, 2);
  const xAt = (n: number, c: number, iy: number, ix: number) =>
    iy < 0 || ix < 0 || iy >= s.height || ix >= s.width ? 0 : x[((n * s.channels + c) * s.height + iy) * s.width + ix];
  const wAt = (o: number, c: number, ky: number, kx: number) => w[((o * s.channels + c) * s.kernel + ky) * s.kernel + kx];
  const taps = Array.from({ length: s.kernel ** 2 }, (_, i) => [Math.floor(i / s.kernel), i % s.kernel]);
  if (kind === 'conv') {
    return Array.from({ length: Math.min(SAMPLE, oh * ow) }, (_, i) => {
      let sum = 0;
      for (let c = 0; c < s.channels; c++)
        for (const [ky, kx] of taps) sum += xAt(0, c, Math.floor(i / ow) * s.stride + ky - s.pad, (i % ow) * s.stride + kx - s.pad) * wAt(0, c, ky, kx);
      return sum;
    });
  }
  const dy = numbers(s.images * s.outChannels * oh * ow, 3);
  const dyAt = (o: number, oy: number, ox: number) => dy[(o * oh + oy) * ow + ox];
  if (kind === 'convGradInput') {
    return Array.from({ length: Math.min(SAMPLE, s.height * s.width) }, (_, i) => {
      let sum = 0;
      for (let o = 0; o < s.outChannels; o++)
        for (const [ky, kx] of taps) {
          const [oy, ox] = [(Math.floor(i / s.width) + s.pad - ky) / s.stride, ((i % s.width) + s.pad - kx) / s.stride];
          if (Number.isInteger(oy) && Number.isInteger(ox) && oy >= 0 && ox >= 0 && oy < oh && ox < ow) sum += dyAt(o, oy, ox) * wAt(o, 0, ky, kx);
        }
      return sum;
    });
  }
  return Array.from({ length: Math.min(SAMPLE, s.channels * taps.length) }, (_, i) => {
    const [c, [ky, kx]] = [Math.floor(i / taps.length), taps[i % taps.length]];
    let sum = 0;
    for (let oy = 0; oy < oh; oy++) for (let ox = 0; ox < ow; ox++) sum += dyAt(0, oy, ox) * xAt(0, c, oy * s.stride + ky - s.pad, ox * s.stride + kx - s.pad);
    return sum;
  });
}

/** Null for whole models: their correctness is shown by goldens, in tests. */
export function expectedSample(work: Work): number[] | null {
  switch (work.kind) {
    case 'matmul': {
      const { m, n, k, transA, transB } = work;
      const [a, b] = [numbers(m * k, 1), numbers(k * n, 2)];
      return Array.from({ length: Math.min(SAMPLE, n) }, (_, j) => {
        let sum = 0;
        for (let p = 0; p < k; p++) sum += a[transA ? p * m : p] * b[transB ? j * k + p : p * n + j];
        return sum;
      });
    }
    case 'conv':
    case 'convGradInput':
    case 'convGradWeight':
      return convolution(work.kind, work);
    case 'softmax':
    case 'crossEntropyGrad': {
      const row = numbers(work.rows * work.columns, 1, 4).subarray(0, work.columns);
      const largest = row.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY);
      const sum = row.reduce((total, value) => total + Math.exp(value - largest), 0);
      const target = work.kind === 'crossEntropyGrad' ? words(work.rows, 2, work.columns)[0] : -1;
      return Array.from(row.subarray(0, SAMPLE), (value, j) => Math.exp(value - largest) / sum - (j === target ? 1 : 0));
    }
    default:
      return null;
  }
}

/** Throws when a sample is off by more than float32 sums may be: 1e-4 of the largest number. */
export function checkSample(who: string, what: string, got: readonly number[], expected: readonly number[]): void {
  const scale = Math.max(...expected.map(Math.abs));
  const worst = Math.max(...expected.map((value, i) => Math.abs((got[i] ?? Number.NaN) - value)));
  if (!(worst <= 1e-4 * scale)) throw new Error(`${who}: the result of ${what} is off by ${worst} (largest number ${scale}); it is not timed`);
}
