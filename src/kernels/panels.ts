/** Weights in panels of columns, for kernels that read them as texels. column_panels.wgsl shows the layout. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import type { TexelLayout, TexelSlice } from '../gpu/texels.ts';

/** How a kernel reads its weights: as texels of a plain copy, or of panels of columns. */
export type WeightsRead = 'texels' | 'panels';

/** Columns of a panel: four for each lane of a subgroup. */
const columnsOfPanel = (gpu: Gpu): number => 4 * gpu.subgroupWidth;

/** How the panels of weights [rows, columns] are read as texels, one panel after the other; null if they cannot be. */
function panelLayout(gpu: Gpu, rows: number, columns: number): TexelLayout | null {
  const width = columnsOfPanel(gpu);
  return gpu.texelLayout(Math.ceil(columns / width) * rows, width);
}

/**
 * Why kernels of a family should not read panels of weights [rows, columns]; null if they should. Panels are worth making only
 * for what is used again, or often enough within the one product (`anyway`).
 */
export function withoutPanels(gpu: Gpu, family: string, anyway: boolean, weights: BufferSlice, rows: number, columns: number): string | null {
  if (panelLayout(gpu, rows, columns) === null) return 'its panels of weights cannot be read as texels here';
  return anyway || gpu.isSteady(weights, family) ? null : 'the weights were written since they were last read';
}

/**
 * Gives `use` the panels of the weights [rows, columns] that begin at element `start`. They are made once, and again after the weights
 * were written. Call this only if `withoutPanels` gives null.
 */
export function withPanels(gpu: Gpu, weights: BufferSlice, start: number, rows: number, columns: number, use: (panels: TexelSlice) => void): void {
  const width = columnsOfPanel(gpu);
  const panels = Math.ceil(columns / width);
  const fill = (to: BufferSlice) => {
    const kernel = gpu.kernel({ file: 'column_panels', tune: { WIDTH: gpu.subgroupWidth } });
    const groups: [number, number, number] = [Math.ceil((rows * gpu.subgroupWidth) / 64), panels, 1];
    gpu.dispatch(kernel, [weights, to], { rows, columns: columns / 4, start: start / 4 }, groups, `panels of ${weights.buffer.label}`);
  };
  const layout = panelLayout(gpu, rows, columns) as TexelLayout;
  gpu.prepare(weights, `panels ${rows}×${columns} from ${start}`, 4 * panels * rows * width, fill, (made) => use({ ...made, layout }));
}
