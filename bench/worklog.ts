/**
 * `bench matmul --worklog FILE`: the matrix product from the definition to the fastest version, one change at a time: what a
 * multiply-add has to load, what was measured, and why. docs/matmul-worklog.md is made by it.
 */
import { matmulFamily } from '../src/kernels/matmul.ts';
import { ratioText } from './ratio.ts';
import type { Report } from './record.ts';
import { isTimed, type TimedRow } from './rows.ts';
import { bootstrapRatio } from './sampling.ts';

/** Why each version does what it does. A version without a paragraph here fails a test. */
export const REASONS: Readonly<Record<string, string>> = {
  naive:
    'The definition as it stands in a book. Neighboring invocations read the same row of A and neighboring columns of B, so a cache serves most loads. But each load is still an instruction, and there are two for every multiply-add.',
  register:
    'An invocation keeps a block of sums in registers. A number of A then serves a whole row of the block, a number of B a whole column. The loads per multiply-add fall with the sides of the block, and registers bound its size.',
  workgroup:
    'Invocations of a workgroup need the same numbers. They load a tile of each operand into workgroup memory together, wait at a barrier, and read it from there. On a GPU that memory is fast and main memory is far: this is the classic. A software driver has no such memory, and pays for each barrier.',
  workgroup_vec4:
    'A load of four numbers costs a GPU as much as one of one number, so all memory is read by fours. The numbers of the next tile are on their way into registers while one is computed with, so the wait for memory is hidden.',
  workgroup_wide:
    'An invocation owns eight times as much of the result. What a workgroup loads serves twice as often, and what an invocation reads of the tiles almost three times as often. Its sums alone take 128 registers, and workgroups are few: it wants large results.',
  workgroup_split:
    'Few tiles leave most of a GPU idle, as with the 64 rows of a batch. So the inner axis is cut into pieces, which other workgroups sum at the same time. Their results go through memory once more. It is the only version that adds in another order.',
  subgroup:
    'Lanes of a subgroup can hand each other registers without memory or barrier. Each lane loads a part of the rows of A, and passes it on by shuffles of a known lane. Rows are written out, because a register cannot be indexed by a variable.',
  subgroup_pairs: 'Steps of two k instead of four: half the loop body. It suits narrow subgroups, whose compilers run out of registers.',
  subgroup_rows:
    'Wide subgroups would need tiles of 4 × 32 or 4 × 64 rows, more than any register file holds. Sixteen rows are shared by shuffles, whatever the width.',
  subgroup_texels:
    'A software driver loads a buffer lane by lane, but fetches a texel of four numbers for all lanes at once. Operands are copied into textures first. The copy is part of the time, unless the operand is a weight that did not change.',
  subgroup_texels_wide: 'Two blocks of columns side by side: a row of A that was loaded and shuffled serves both.',
  subgroup_texels_half: 'Half the rows: products of few rows fill fewer tiles with nothing.',
  subgroup_panels:
    'B lies in panels of as many columns as a tile has. A tile then reads memory in one run, which the processor fetches ahead. Panels are made once for weights that do not change.',
  subgroup_panels_half: 'Panels of B, with half the rows, for products of few rows.',
  subgroup_matrix:
    'Matrix units do in one instruction what takes a subgroup hundreds, but with numbers of 11 bits. So a float32 is split into two of them and a power of two. Three products of halves give what one of float32 gives, to 22 bits. Dawn offers these units only to those who ask for experiments.',
};

/** Numbers loaded from buffers or textures per multiply-add: the sides of the block that shares them, over its area. */
export function loadsPerMultiplyAdd(version: string, width: number): number {
  const { shares, tile } = matmulFamily.named(version);
  const [rows, columns] = (shares ?? tile)(width);
  return (rows + columns) / (rows * columns);
}

/** The page. Its ratios are speeds: how many times as fast as the version before, and as the first. */
export function worklog(report: Report, command: string, width: number): string {
  const rows = report.rows.filter(({ name }) => name === 'matmul');
  const shapes = [...new Set(rows.map(({ shape }) => shape))];
  const sections = shapes.map((shape) => {
    const of = rows.filter((row) => row.shape === shape);
    const first = of.find(isTimed);
    let before: TimedRow | null = null;
    const lines = of.map((row) => {
      const loads = loadsPerMultiplyAdd(row.version, width).toPrecision(2);
      if (!isTimed(row)) return `| \`${row.version}\` | ${loads} | cannot run: ${row.skipped} | – | – | – |`;
      const faster = (than: TimedRow | null | undefined) => (than && than !== row ? ratioText(bootstrapRatio(than.samplesMs, row.samplesMs, true), '') : '–');
      const cells = [`\`${row.version}\``, loads, row.medianMs.toFixed(2), row.gflops?.toFixed(1) ?? '–', faster(before), faster(first)];
      before = row;
      return `| ${cells.join(' | ')} |`;
    });
    const moved = of.filter(isTimed).find(({ roofsMoved }) => roofsMoved)?.roofsMoved;
    return [
      `### ${shape}`,
      '',
      '| version | loads per multiply-add | median ms | GFLOP/s | times as fast as the one before (95 %) | as the first (95 %) |',
      '|---|---|---|---|---|---|',
      ...lines,
      ...(moved ? ['', `The roofs moved while this was measured: ${moved}.`] : []),
      '',
    ].join('\n');
  });
  const reasons = matmulFamily.versions.map(({ name, idea }) => `**\`${name}\`**: ${idea}. ${REASONS[name] ?? ''}`.trim());
  return [
    '# Worklog of the matrix product',
    '',
    'From the definition to the fastest version, one change at a time. This page is made by one command; the numbers are of one run on one machine.',
    '',
    '```sh',
    command,
    '```',
    '',
    `${report.date.slice(0, 10)}, commit ${report.commit ?? '–'}; ${report.cpu}, ${report.cores} cores; ${report.adapter}${report.software ? ' (a software adapter: no GPU’s speed)' : ''}, ${report.driver}.`,
    `Roofs: ${report.roofs.fmaGflops.toFixed(1)} GFLOP/s of multiply-adds, ${report.roofs.copyGBs.toFixed(1)} GB/s copied. Subgroups have ${width} lanes. Versions took turns; every element of each result was compared with float64.`,
    '',
    '## One change at a time',
    '',
    ...reasons.flatMap((reason) => [reason, '']),
    '## Measured',
    '',
    '“Loads” are numbers from buffers or textures per multiply-add: (rows + columns) / (rows · columns) of the block that shares them. A version',
    'that is slower with fewer loads pays elsewhere: for barriers, for workgroup memory, or for copies. Median ms include those copies.',
    '',
    ...sections,
  ].join('\n');
}
