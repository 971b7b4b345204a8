/** Weights in panels of columns, for the kernels that read them as texels; see column_panels.wgsl. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import type { TexelLayout, TexelSlice } from '../gpu/texels.ts';

/** How a kernel reads its weights: from a copy as texels, or from panels of columns as texels. */
export type WeightsRead = 'texels' | 'panels';

/** Columns of a panel: four for each lane of a subgroup. */
const columnsOfPanel = (gpu: Gpu): number => 4 * gpu.subgroupWidth;

/** How the panels of weights [rows, columns] are read as texels: those of one panel after those of another; null if they can't be. */
function panelLayout(gpu: Gpu, rows: number, columns: number): TexelLayout | null {
  const width = columnsOfPanel(gpu);
  return gpu.texelLayout(Math.ceil(columns / width) * rows, width);
}

/**
 * Why kernels of a family should not read panels of weights [rows, columns]; null where they may. Only what is used again is
 * worth them, unless they are `forced`.
 */
export function withoutPanels(gpu: Gpu, family: string, forced: boolean, weights: BufferSlice, rows: number, columns: number): string | null {
  if (panelLayout(gpu, rows, columns) === null) return 'its panels of weights cannot be read as texels here';
  return forced || gpu.isSteady(weights, family) ? null : 'the weights were written since they were last read';
}

/** The panels of weights [rows, columns], unless `withoutPanels`, that begin at element `start`: made once, and anew after the weights were written. */
export function columnPanels(gpu: Gpu, weights: BufferSlice, start: number, rows: number, columns: number): TexelSlice {
  const width = columnsOfPanel(gpu);
  const panels = Math.ceil(columns / width);
  const bytes = 4 * panels * rows * width;
  const made = gpu.prepare(weights, `panels ${rows}×${columns} from ${start}`, bytes, (to) => {
    const kernel = gpu.kernel({ file: 'column_panels', tune: { WIDTH: gpu.subgroupWidth } });
    const groups: [number, number, number] = [Math.ceil((rows * gpu.subgroupWidth) / 64), panels, 1];
    gpu.dispatch(kernel, [weights, to], { rows, columns: columns / 4, start: start / 4 }, groups, `panels of ${weights.buffer.label}`);
  });
  return { ...made, layout: panelLayout(gpu, rows, columns) as TexelLayout };
}
