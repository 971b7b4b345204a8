/** The roofline chart: what was reached, below what the adapter can do at each arithmetic intensity. */
import { chartSvg } from '../src/plot/chart.ts';
import type { Roofs } from './roofs.ts';
import { isTimed, type Row, type TimedRow } from './rows.ts';

/** `labelOf` gives the text beside a point; without it, shape and, where several were timed, version. */
export function roofline(rows: readonly Row[], roofs: Roofs, adapter: string, labelOf?: (row: TimedRow) => string): string {
  const ridge = roofs.fmaGflops / roofs.copyGBs;
  const placed = rows.filter(isTimed).filter((r) => r.intensity !== null && r.gflops !== null);
  const low = Math.min(ridge / 4, ...placed.map((r) => r.intensity as number)) / 2;
  const high = Math.max(ridge * 4, ...placed.map((r) => r.intensity as number)) * 2;
  const names = [...new Set(placed.map((r) => r.name))];
  const byShape = (r: TimedRow, list: readonly TimedRow[]) =>
    list.filter((other) => other.shape === r.shape).length > 1 ? `${r.shape}, ${r.version}` : r.shape;
  return chartSvg({
    title: `Roofline: ${adapter}`,
    xLabel: 'floating-point operations per byte',
    yLabel: 'GFLOP/s',
    xLog: true,
    yLog: true,
    series: [
      {
        name: `roof: ${roofs.fmaGflops.toFixed(0)} GFLOP/s, ${roofs.copyGBs.toFixed(1)} GB/s, measured`,
        points: [
          [low, low * roofs.copyGBs],
          [ridge, roofs.fmaGflops],
          [high, roofs.fmaGflops],
        ],
      },
      ...names.map((name) => {
        const list = placed.filter((r) => r.name === name);
        return {
          name,
          marks: true,
          points: list.map((r) => [r.intensity as number, r.gflops as number] as const),
          labels: list.map((r) => labelOf?.(r) ?? byShape(r, list)),
        };
      }),
    ],
  });
}
