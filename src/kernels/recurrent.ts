/** Launchers of the fused LSTM and GRU cells and of fused additive attention. Starts select a step in buffers of a sequence. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { type TexelLayout, texelParams } from '../gpu/texels.ts';
import { grid, rowGrid } from './elementwise.ts';
import { always, Family, soleVersion, type Version, withoutFixedSubgroup } from './family.ts';
import { withScratch } from './scratch.ts';

export interface LstmStep {
  gx: BufferSlice;
  gh: BufferSlice;
  c: BufferSlice;
  /** Written only if `keepGates`, because only a gradient needs them. */
  gates: BufferSlice;
  keepGates: boolean;
  cNew: BufferSlice;
  hNew: BufferSlice;
  rows: number;
  hidden: number;
  /** First elements within those buffers. */
  gxStart?: number;
  ghStart?: number;
  hStart?: number;
  gatesStart?: number;
}

export const lstmCellFamily = soleVersion('lstm_cell', 'one invocation owns one unit of one row, with all four gates');

export function lstmCell(gpu: Gpu, p: LstmStep, label: string): void {
  const { rows, hidden } = p;
  const starts = { gx_start: p.gxStart ?? 0, gh_start: p.ghStart ?? 0, h_start: p.hStart ?? 0, gates_start: p.gatesStart ?? 0 };
  const variant = { constants: { KEEP_GATES: p.keepGates ? 1 : 0 } };
  lstmCellFamily.choose(gpu, p);
  lstmCellFamily.launch(gpu, variant, [p.gx, p.gh, p.c, p.gates, p.cNew, p.hNew], { rows, hidden, ...starts }, rowGrid(rows, hidden), label);
}

export interface LstmStepGrad {
  dh: BufferSlice;
  gates: BufferSlice;
  c: BufferSlice;
  cNew: BufferSlice;
  dcCarry: BufferSlice;
  dgates: BufferSlice;
  rows: number;
  hidden: number;
  dhStart?: number;
  gatesStart?: number;
}

export const lstmCellGradFamily = soleVersion('lstm_cell_grad', 'one invocation owns one unit of one row, with all four gates');

export function lstmCellGrad(gpu: Gpu, p: LstmStepGrad, label: string): void {
  const { rows, hidden } = p;
  const starts = { dh_start: p.dhStart ?? 0, gates_start: p.gatesStart ?? 0 };
  lstmCellGradFamily.choose(gpu, p);
  lstmCellGradFamily.launch(gpu, {}, [p.dh, p.gates, p.c, p.cNew, p.dcCarry, p.dgates], { rows, hidden, ...starts }, rowGrid(rows, hidden), label);
}

export interface GruStep {
  gx: BufferSlice;
  gh: BufferSlice;
  h: BufferSlice;
  gates: BufferSlice;
  hNew: BufferSlice;
  rows: number;
  hidden: number;
}

export function gruCell(gpu: Gpu, p: GruStep, label: string): void {
  const count = p.rows * p.hidden;
  gpu.dispatch(gpu.kernel({ file: 'gru_cell' }), [p.gx, p.gh, p.h, p.gates, p.hNew], { count, hidden: p.hidden }, grid(count), label);
}

export interface GruStepGrad {
  dh: BufferSlice;
  gates: BufferSlice;
  gh: BufferSlice;
  h: BufferSlice;
  dgx: BufferSlice;
  dgh: BufferSlice;
  dhBefore: BufferSlice;
  rows: number;
  hidden: number;
}

export function gruCellGrad(gpu: Gpu, p: GruStepGrad, label: string): void {
  const count = p.rows * p.hidden;
  const slices = [p.dh, p.gates, p.gh, p.h, p.dgx, p.dgh, p.dhBefore];
  gpu.dispatch(gpu.kernel({ file: 'gru_cell_grad' }), slices, { count, hidden: p.hidden }, grid(count), label);
}

/** The function of key + query in the score: e = vᵀ f(key + query). */
export type Score = 'tanh' | 'relu';

export interface AttentionStep {
  score: Score;
  keys: BufferSlice;
  query: BufferSlice;
  v: BufferSlice;
  values: BufferSlice;
  context: BufferSlice;
  alpha: BufferSlice;
  batch: number;
  regions: number;
  keysWidth: number;
  valuesWidth: number;
  queryStart?: number;
  contextStart?: number;
  alphaStart?: number;
}

/** Most vec4 of the keys' columns that a lane of the subgroup version owns. It limits the width of keys. */
const MOST_PER_LANE = 32;

type AttentionSizes = Pick<AttentionStep, 'batch' | 'regions' | 'keysWidth' | 'valuesWidth' | 'queryStart' | 'contextStart'>;

/** How keys and values are read as texels. A stored row is a region. */
function regionLayouts(gpu: Gpu, { batch, regions, keysWidth, valuesWidth }: AttentionSizes): (TexelLayout | null)[] {
  return [gpu.texelLayout(batch * regions, keysWidth), gpu.texelLayout(batch * regions, valuesWidth)];
}

const byFours = (p: AttentionSizes) =>
  [p.keysWidth, p.valuesWidth, p.queryStart ?? 0, p.contextStart ?? 0].every((value) => value % 4 === 0)
    ? null
    : 'widths and starts are not all multiples of 4';

function withoutSubgroup(gpu: Gpu, p: AttentionSizes): string | null {
  if (p.keysWidth > 4 * MOST_PER_LANE * gpu.subgroupWidth) return `keys of ${p.keysWidth} columns do not fit the registers of a subgroup`;
  return regionLayouts(gpu, p).every((layout) => layout !== null) ? null : 'keys or values cannot be read as texels here';
}

/** Regions that a workgroup of the split versions owns, and vec4 of the context. */
const SPLIT = { regions: 8, columns: 64 };

export const attentionFamily = new Family<AttentionSizes, Version<AttentionSizes> & { reads?: 'texels' | 'scores' }>(
  'attention',
  [
    {
      ...{ name: 'scalar', shader: 'additive_attention', unable: always },
      idea: 'one workgroup owns one picture; its lanes share the regions, then the columns of the context',
    },
    {
      ...{ name: 'vec4', shader: 'additive_attention_vec4' },
      idea: 'as `scalar`, with four numbers a load',
      unable: (_gpu, p) => byFours(p),
    },
    {
      ...{ name: 'subgroup', shader: 'additive_attention_subgroup', reads: 'texels' },
      idea: 'as `vec4`; one subgroup owns one picture, its lanes share the columns of the keys, and keys and values are read as texels',
      unable: (gpu, p) => byFours(p) ?? withoutFixedSubgroup(gpu) ?? withoutSubgroup(gpu, p),
    },
    {
      ...{ name: 'split', shader: 'additive_attention_scores', uses: ['additive_attention_context'], composed: true, reads: 'scores' },
      idea: 'several workgroups share a picture: first its regions, for the scores, then the columns of its context. Neighbors load neighbors',
      unable: (_gpu, p) => byFours(p),
    },
  ],
  () => 'any',
);

/** The first half of the gradient: from the context and α to the scores. */
export const attentionScoresGradFamily = new Family<AttentionSizes, Version<AttentionSizes> & { split?: true }>(
  'attention_scores_grad',
  [
    {
      ...{ name: 'scalar', shader: 'additive_attention_scores_grad', unable: always },
      idea: 'one workgroup owns one picture; its lanes share the regions, and each sums the whole row again',
    },
    {
      ...{ name: 'split', shader: 'additive_attention_shares', uses: ['additive_attention_shares_grad'], composed: true, split: true },
      idea: 'several workgroups share the regions of a picture, and the lanes the columns of a region. Neighbors load neighbors',
      unable: (_gpu, p) => byFours(p),
    },
  ],
  () => 'any',
);

/** The second half of the gradient: from the scores to keys, query and v. */
export const attentionGradFamily = new Family<AttentionSizes, Version<AttentionSizes> & { per: number }>(
  'attention_grad',
  [
    {
      ...{ name: 'scalar', shader: 'additive_attention_grad', per: 1, unable: always },
      idea: 'one invocation owns one column of the keys of one picture and walks the regions',
    },
    {
      ...{ name: 'vec4', shader: 'additive_attention_grad_vec4', per: 4 },
      idea: 'as `scalar`, with four columns an invocation',
      unable: (_gpu, p) => byFours(p),
    },
  ],
  () => 'any',
);

/** Values of the subgroup version's `@tune` constants for keys of this width. */
function lanes(gpu: Gpu, keysWidth: number): Record<string, number> {
  const perLane = Math.ceil(keysWidth / 4 / gpu.subgroupWidth);
  return { WIDTH: gpu.subgroupWidth, PER_LANE: 2 ** Math.ceil(Math.log2(perLane)) };
}

/** Regions that workgroup memory is reserved for, in steps of 64. Few pipelines then serve many sizes. */
const roundedRegions = (regions: number) => Math.ceil(regions / 64) * 64;

export function additiveAttention(gpu: Gpu, p: AttentionStep, label: string): void {
  const { reads } = attentionFamily.choose(gpu, p);
  if (reads === 'scores') {
    splitAttention(gpu, p, label);
    return;
  }
  const params = {
    regions: p.regions,
    keys_width: p.keysWidth,
    values_width: p.valuesWidth,
    query_start: p.queryStart ?? 0,
    context_start: p.contextStart ?? 0,
    alpha_start: p.alphaStart ?? 0,
  };
  const constants = { REGIONS: roundedRegions(p.regions), RELU: p.score === 'relu' ? 1 : 0 };
  const groups = [p.batch, 1, 1] as const;
  if (reads === 'texels') {
    const [keys, values] = regionLayouts(gpu, p) as [TexelLayout, TexelLayout];
    const slices = [{ ...p.keys, layout: keys }, p.query, p.v, { ...p.values, layout: values }, p.context, p.alpha];
    const found = { ...texelParams('keys', keys), ...texelParams('values', values) };
    attentionFamily.launch(gpu, { tune: lanes(gpu, p.keysWidth), constants }, slices, { ...params, ...found }, groups, label);
    return;
  }
  attentionFamily.launch(gpu, { constants }, [p.keys, p.query, p.v, p.values, p.context, p.alpha], params, groups, label);
}

function splitAttention(gpu: Gpu, p: AttentionStep, label: string): void {
  withScratch(gpu, [p.batch * p.regions], `${label} (scores)`, ([scores]) => {
    attentionFamily.launch(
      gpu,
      { constants: { RELU: p.score === 'relu' ? 1 : 0 } },
      [p.keys, p.query, p.v, scores],
      { regions: p.regions, keys_width: p.keysWidth, query_start: p.queryStart ?? 0 },
      [Math.ceil(p.regions / SPLIT.regions), p.batch, 1],
      label,
    );
    gpu.dispatch(
      gpu.kernel({ file: 'additive_attention_context', constants: { REGIONS: roundedRegions(p.regions) } }),
      [scores, p.values, p.context, p.alpha],
      { regions: p.regions, values_width: p.valuesWidth, context_start: p.contextStart ?? 0, alpha_start: p.alphaStart ?? 0 },
      [Math.ceil(p.valuesWidth / 4 / SPLIT.columns), p.batch, 1],
      `${label} (context)`,
    );
  });
}

export interface AttentionStepGrad extends Omit<AttentionStep, 'context'> {
  dcontext: BufferSlice;
  dalpha: BufferSlice | null;
  /** Scratch and result: gradient of the scores, laid out like alpha. */
  de: BufferSlice;
  /** += */
  dkeys: BufferSlice;
  dquery: BufferSlice;
  /** +=, [B, A]. Its sum over the rows is dv. */
  dvRows: BufferSlice;
}

export function additiveAttentionGrad(gpu: Gpu, p: AttentionStepGrad, label: string): void {
  const starts = { context_start: p.contextStart ?? 0, alpha_start: p.alphaStart ?? 0 };
  const inputs = [p.dcontext, p.values, p.alpha, p.dalpha ?? p.alpha];
  const params = { regions: p.regions, values_width: p.valuesWidth, ...starts, has_dalpha: p.dalpha ? 1 : 0 };
  if (attentionScoresGradFamily.choose(gpu, p).split)
    withScratch(gpu, [p.batch * p.regions], `${label} (shares)`, ([shares]) => {
      const groups = [Math.ceil(p.regions / SPLIT.regions), p.batch, 1] as const;
      attentionScoresGradFamily.launch(gpu, {}, [...inputs, shares], params, groups, label);
      const through = { count: p.batch * p.regions, regions: p.regions, alpha_start: starts.alpha_start };
      const kernel = gpu.kernel({ file: 'additive_attention_shares_grad' });
      gpu.dispatch(kernel, [shares, p.alpha, p.de], through, grid(through.count), `${label} (through the softmax)`);
    });
  else attentionScoresGradFamily.launch(gpu, { constants: { REGIONS: roundedRegions(p.regions) } }, [...inputs, p.de], params, [p.batch, 1, 1], label);
  const { per } = attentionGradFamily.choose(gpu, p); // columns of the keys that an invocation owns
  const count = (p.batch * p.keysWidth) / per;
  attentionGradFamily.launch(
    gpu,
    { constants: { RELU: p.score === 'relu' ? 1 : 0 } },
    [p.keys, p.query, p.v, p.de, p.dkeys, p.dquery, p.dvRows],
    { count, regions: p.regions, keys_width: p.keysWidth, query_start: p.queryStart ?? 0, alpha_start: p.alphaStart ?? 0 },
    grid(count),
    label,
  );
}

export interface GateStep {
  w: BufferSlice;
  context: BufferSlice;
  beta: BufferSlice;
  batch: number;
  hiddenWidth: number;
  width: number;
  hiddenStart: number;
  contextStart: number;
  betaStart: number;
}

const gateParams = (p: GateStep) => ({
  hidden: p.hiddenWidth,
  width: p.width,
  hidden_start: p.hiddenStart,
  context_start: p.contextStart,
  beta_start: p.betaStart,
});

export function contextGate(gpu: Gpu, p: GateStep & { hidden: BufferSlice; b: BufferSlice; gated: BufferSlice }, label: string): void {
  gpu.dispatch(gpu.kernel({ file: 'context_gate' }), [p.hidden, p.w, p.b, p.context, p.gated, p.beta], gateParams(p), [p.batch, 1, 1], label);
}

/** Adds to dhidden (+=); overwrites dcontext and dpre. */
export function contextGateGrad(
  gpu: Gpu,
  p: GateStep & { dgated: BufferSlice; dcontext: BufferSlice; dhidden: BufferSlice; dpre: BufferSlice },
  label: string,
): void {
  gpu.dispatch(
    gpu.kernel({ file: 'context_gate_grad' }),
    [p.dgated, p.context, p.beta, p.w, p.dcontext, p.dhidden, p.dpre],
    gateParams(p),
    [p.batch, 1, 1],
    label,
  );
}
