/**
 * The exercises of the course: kernels with a hole, and six kernels with a bug. They are judged as any shader of a user's is, through
 * the op table. One exercise is TypeScript, about backpropagation through time. An exercise is a file and a row here. The file is the
 * solution; what stands between `// @hole` and `// @end` is taken out for the student.
 */
import { checkUserShader } from '../autograd/check.ts';
import * as ops from '../autograd/ops/index.ts';
import { noGrad } from '../autograd/tape.ts';
import { messageOf, UsageError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { Dispatch } from '../gpu/recorder.ts';
import { FAMILIES, familyOf, forceVersion, useShader } from '../kernels/families.ts';
import { type Family, VersionNotApplicable } from '../kernels/family.ts';
import type { MatmulProblem } from '../kernels/matmul.ts';
import { additiveAttentionGrad, lstmCellGrad } from '../kernels/recurrent.ts';
import { softmaxGrad } from '../kernels/rows.ts';
import { Random } from '../random.ts';
import { empty, scope, type Tensor, tensor, zeros } from '../tensor/tensor.ts';

/** A file of an exercise, and the family that it stands in for; null for the one of TypeScript. */
export interface ExercisePart {
  file: string;
  family: string | null;
}

export interface Exercise {
  /** Two digits; b1 … b6 for the bugs. */
  number: string;
  title: string;
  /** Chapter of docs/course. */
  chapter: number;
  parts: readonly ExercisePart[];
  /** Shown beside the first wrong element. */
  hint: string;
  /** Work to time it in, of a family; what it makes belongs to the scope around. */
  timed?: (gpu: Gpu) => () => void;
}

const numbers = (...shape: number[]): Tensor => {
  const random = new Random(3, 'exercise');
  const count = shape.reduce((product, extent) => product * extent, 1);
  return tensor(
    Float32Array.from({ length: count }, () => random.normal()),
    shape,
  );
};

function product(): () => void {
  const [a, b] = [numbers(256, 256), numbers(256, 256)];
  return () => void ops.matmul(a, b);
}

function attentionGradient(gpu: Gpu): () => void {
  const [batch, regions, keysWidth, valuesWidth] = [16, 49, 512, 256];
  const [keys, query, v, values] = [numbers(batch, regions, keysWidth), numbers(batch, keysWidth), numbers(keysWidth), numbers(batch, regions, valuesWidth)];
  const [alpha, dcontext] = [numbers(batch, regions), numbers(batch, valuesWidth)];
  const [de, dkeys, dquery, dvRows] = [empty([batch, regions]), zeros([batch, regions, keysWidth]), empty([batch, keysWidth]), zeros([batch, keysWidth])];
  const inputs = { keys: keys.slice, query: query.slice, v: v.slice, values: values.slice, alpha: alpha.slice, dcontext: dcontext.slice, dalpha: null };
  const outputs = { de: de.slice, dkeys: dkeys.slice, dquery: dquery.slice, dvRows: dvRows.slice };
  return () => additiveAttentionGrad(gpu, { ...inputs, ...outputs, batch, regions, keysWidth, valuesWidth, score: 'tanh' }, 'exercise');
}

const part = (file: string, family: string | null): ExercisePart => ({ file, family });

export const EXERCISES: readonly Exercise[] = [
  {
    ...{ number: '01', title: 'a map with a guard', chapter: 1, parts: [part('01_axpby.wgsl', 'axpby')] },
    hint: 'y_i is read and written: alpha scales x_i, beta scales the old y_i. Write only where i < count.',
    timed: () => {
      const [x, y] = [numbers(1 << 20), numbers(1 << 20)];
      return () => ops.blendInto(y, x, 0.5, 0.5);
    },
  },
  {
    ...{ number: '02', title: 'a bias over rows', chapter: 1, parts: [part('02_bias_over_rows.wgsl', 'binary_rows')] },
    hint: 'Element (row, column) of a and c is number row · n + column. b has one row only, so its index is the column.',
    timed: () => {
      const [x, b] = [numbers(1024, 1024), numbers(1024)];
      return () => void ops.add(x, b);
    },
  },
  {
    ...{ number: '03', title: 'a row sum by a tree', chapter: 2, parts: [part('03_row_sum_tree.wgsl', 'reduce')] },
    hint: 'The barrier comes before each read of what other lanes wrote, in every round, and outside of the if. The first round joins 32 lanes with the other 32.',
    timed: () => {
      const x = numbers(1024, 2048);
      return () => void ops.sum(x, 1);
    },
  },
  {
    ...{ number: '04', title: 'a log-softmax that does not overflow', chapter: 3, parts: [part('04_log_softmax.wgsl', 'softmax')] },
    hint: 'Subtract the largest number of the row everywhere: in the sum and in the result. With LOG, subtract the logarithm of the sum after that.',
    timed: () => {
      const x = numbers(640, 5000);
      return () => void ops.softmax(x, true);
    },
  },
  {
    ...{ number: '05', title: 'its gradient', chapter: 3, parts: [part('05_log_softmax_gradient.wgsl', 'softmax_grad')] },
    hint: 'With LOG, y is a logarithm: the probability is exp(y), and the sum is of dy alone. Without it, the sum is of dy · y.',
    timed: (gpu) => {
      const [y, dy, dx] = [numbers(640, 5000), numbers(640, 5000), empty([640, 5000])];
      return () => softmaxGrad(gpu, y.slice, dy.slice, dx.slice, 640, 5000, true, 'exercise');
    },
  },
  {
    ...{ number: '06', title: 'the matrix product as it is defined', chapter: 4, parts: [part('06_matmul_naive.wgsl', 'matmul')] },
    hint: 'A stored matrix lies row after row. Transposed, op(A)[row, k] is A[k, row], and a row of A has M numbers. The sum runs over all k.',
    timed: product,
  },
  {
    ...{ number: '07', title: 'the product in registers', chapter: 4, parts: [part('07_matmul_register.wgsl', 'matmul')] },
    hint: 'Row r of the block is acc[r]. It grows by A[row0 + r, k] times the four numbers of B. Rows beyond M − 1 repeat the last one.',
    timed: product,
  },
  {
    ...{ number: '08', title: 'the product through workgroup memory', chapter: 5, parts: [part('08_matmul_workgroup.wgsl', 'matmul')] },
    hint: 'Two barriers: after loading, and after using. What lies beyond an edge counts as 0, or the sum takes numbers of another row.',
    timed: product,
  },
  {
    ...{ number: '09', title: 'the LSTM cell', chapter: 6, parts: [part('09_lstm_cell.wgsl', 'lstm_cell')] },
    hint: 'The order is i, f, g, o, H numbers each. g is a tanh, the others are sigmoids. The new cell comes before the new state.',
    timed: () => {
      const [gx, gh, c] = [numbers(64, 2048), numbers(64, 2048), numbers(64, 512)];
      return () => void ops.lstmCell(gx, gh, c);
    },
  },
  {
    ...{ number: '10', title: 'the LSTM cell backward, with the carry', chapter: 6, parts: [part('10_lstm_cell_gradient.wgsl', 'lstm_cell_grad')] },
    hint: 'The carry adds to what comes through the state. do uses dh′, not dc′. df uses the cell before the step. Overwrite the carry last.',
    timed: (gpu) => {
      const [dh, gates, c, cNew, carry, dgates] = [
        numbers(64, 512),
        numbers(64, 2048),
        numbers(64, 512),
        numbers(64, 512),
        numbers(64, 512),
        empty([64, 2048]),
      ];
      const slices = { dh: dh.slice, gates: gates.slice, c: c.slice, cNew: cNew.slice, dcCarry: carry.slice, dgates: dgates.slice };
      return () => lstmCellGrad(gpu, { ...slices, rows: 64, hidden: 512 }, 'exercise');
    },
  },
  {
    ...{ number: '11', title: 'additive attention backward: the scores, then the keys over t', chapter: 7 },
    parts: [part('11a_attention_scores_gradient.wgsl', 'attention_scores_grad'), part('11b_attention_keys_gradient.wgsl', 'attention_grad')],
    hint: 'de is the gradient of a softmax: α (dα − Σ α dα). The keys served every word, so dkeys and dv_rows gather with +=; dquery is one word’s.',
    timed: attentionGradient,
  },
  {
    ...{ number: '12', title: 'T small products become one', chapter: 8, parts: [part('12_bptt_one_product.ts', null)] },
    hint: 'The states before the steps are slots 0 … T − 1 of h. Merge the first two axes of both, and multiply with the first one transposed.',
  },
];

/** A kernel with one bug: a piece of a built-in version, changed. */
export interface Bug {
  number: string;
  family: string;
  version: string;
  /** What the kernel does wrong, without saying where. */
  symptom: string;
  find: string;
  replace: string;
}

export const BUGS: readonly Bug[] = [
  {
    ...{ number: 'b1', family: 'softmax', version: 'workgroup', symptom: 'right for rows of up to 64 numbers' },
    ...{ find: 'var half = LANES / 2u; half > 0u', replace: 'var half = LANES / 4u; half > 0u' },
  },
  {
    ...{ number: 'b2', family: 'matmul', version: 'register', symptom: 'right for square matrices' },
    ...{ find: 'select(row * params.k + k, k * params.m + row, TRANS_A)', replace: 'select(row * params.k + k, k * params.k + row, TRANS_A)' },
  },
  {
    ...{ number: 'b3', family: 'lstm_cell_grad', version: 'invocation', symptom: 'learns at first, then does not' },
    ...{ find: 'd_cell * c[at] * f * (1.0 - f)', replace: 'd_cell * c_new[at] * f * (1.0 - f)' },
  },
  {
    ...{ number: 'b4', family: 'attention_grad', version: 'scalar', symptom: 'right for a caption of one word' },
    ...{ find: 'dkeys[at] += dk;', replace: 'dkeys[at] = dk + 0.0 * dkeys[at];' },
  },
  {
    ...{ number: 'b5', family: 'adam', version: 'invocation', symptom: 'converges, but never to where the book does' },
    ...{ find: 'sqrt(second / params.correction2) + params.eps', replace: 'sqrt(second / params.correction2 + params.eps)' },
  },
  {
    ...{ number: 'b6', family: 'cross_entropy', version: 'invocation', symptom: 'the loss is right' },
    ...{ find: 'exp(x[base + j] - largest) / sum - wanted', replace: 'exp(x[base + j] - largest) / sum + wanted' },
  },
];

const HOLE = /^([ \t]*)\/\/ @hole: (.*)\n[\s\S]*?^[ \t]*\/\/ @end\n/gm;

/** The text as the student gets it: holes instead of what stands in them. */
export function withHoles(solution: string): string {
  return solution.replace(HOLE, (_all, indent: string, task: string) => `${indent}// Your lines here: ${task}.\n`);
}

/** The text without the marks of its holes. */
export function solved(solution: string): string {
  return solution.replace(/^[ \t]*\/\/ @(hole: .*|end)\n/gm, '');
}

/** The bugs as exercises. */
export const HUNTS: readonly Exercise[] = BUGS.map(({ number, family, symptom }) => ({
  ...{ number, title: `find the bug: ${symptom}`, chapter: 9, parts: [{ file: `${number}_${family}.wgsl`, family }] },
  hint: 'Read the equation in the header, then the line that computes it. What is the first wrong element next to?',
}));

/** A part with its texts. */
export interface Sheet extends ExercisePart {
  start: string;
  solution: string;
}

/**
 * The parts of an exercise with their texts. `textOf` reads a file of the exercises, `shaderOf` a shader; `startOf` gives a version as
 * a shader of one's own, called by a file's name.
 */
export function sheets(
  { parts }: Exercise,
  textOf: (file: string) => string,
  startOf: (family: Family<never>, version: string, file: string) => string,
  shaderOf: (shader: string) => string,
): Sheet[] {
  return parts.map((part) => {
    const bug = BUGS.find(({ number }) => part.file.startsWith(`${number}_`));
    if (bug) {
      const { shader } = FAMILIES[bug.family].named(bug.version);
      if (shaderOf(shader).split(bug.find).length !== 2) throw new Error(`${bug.number}: "${bug.find}" stands not once in ${shader}`);
      const solution = startOf(FAMILIES[bug.family], bug.version, part.file);
      return { ...part, solution, start: solution.replace(bug.find, () => bug.replace) };
    }
    const text = textOf(part.file);
    return { ...part, solution: solved(text), start: withHoles(text) };
  });
}

export interface Verdict {
  right: boolean;
  /** How many cases passed, or the first wrong element. */
  says: string;
}

/** Judges one part of an exercise. */
async function judgeShader(gpu: Gpu, family: string, name: string, source: string): Promise<Verdict> {
  try {
    await useShader(gpu, family, { name, source });
    const cases = await checkUserShader(family);
    const failed = cases.filter(({ status }) => status === 'failed');
    const passed = cases.filter(({ status }) => status === 'passed').length;
    if (failed.length === 0 && passed > 0) return { right: true, says: `${passed} cases passed` };
    const [first] = failed;
    return {
      right: false,
      says: `${failed.length} of ${passed + failed.length} cases are wrong; ${first.op}, ${first.case}: ${first.reason ?? `off by ${first.maxAbs.toExponential(1)}`}`,
    };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { right: false, says: error.message };
  } finally {
    await useShader(gpu, family, null);
  }
}

type OneProduct = (tensorOps: typeof ops, h: Tensor, dp: Tensor) => Tensor;

/** T, B and H to try: primes, one of each, more than a tile. */
const RECURRENCES = [
  [5, 3, 7],
  [1, 2, 5],
  [11, 1, 16],
  [7, 4, 33],
] as const;

/** Judges the exercise of TypeScript: the right dU, and by one product over all steps. */
async function judgeOneProduct(gpu: Gpu, name: string, source: string): Promise<Verdict> {
  let work: OneProduct;
  try {
    const text = encodeURIComponent(source);
    const module = (await import(/* @vite-ignore */ `data:text/javascript,${text}`)) as { recurrentWeightGradient?: OneProduct };
    if (typeof module.recurrentWeightGradient !== 'function') return { right: false, says: `${name} exports no function recurrentWeightGradient` };
    work = module.recurrentWeightGradient;
  } catch (error) {
    return { right: false, says: `${name}: ${messageOf(error)}` };
  }
  for (const [T, B, H] of RECURRENCES) {
    using _case = scope();
    const [h, dp] = [numbers(T + 1, B, H), numbers(T, B, 4 * H)];
    const seen: Dispatch[] = [];
    gpu.trace = (dispatch) => seen.push(dispatch);
    let made: Tensor;
    try {
      made = noGrad(() => work(ops, h, dp));
    } catch (error) {
      return { right: false, says: `T = ${T}, B = ${B}, H = ${H}: ${messageOf(error)}` };
    } finally {
      gpu.trace = null;
    }
    const where = `T = ${T}, B = ${B}, H = ${H}`;
    if (!made || !('shape' in made) || made.shape.join() !== `${H},${4 * H}`)
      return {
        right: false,
        says: `${where}: it gives ${made && 'shape' in made ? `a tensor [${made.shape.join(', ')}]` : String(made)}, must give [${H}, ${4 * H}]`,
      };
    const [states, gradients, got] = [await h.data(), await dp.data(), await made.data()];
    for (let i = 0; i < H; i++)
      for (let j = 0; j < 4 * H; j++) {
        let wanted = 0;
        for (let row = 0; row < T * B; row++) wanted += states[row * H + i] * gradients[row * 4 * H + j];
        const came = got[i * 4 * H + j];
        if (!(Math.abs(came - wanted) <= 1e-4 * Math.max(1, Math.abs(wanted))))
          return { right: false, says: `${where}: dU[${i}, ${j}] is ${came}, must be ${Math.fround(wanted)}` };
      }
    const products = seen.filter(({ choice }) => choice?.family === 'matmul').map(({ choice }) => (choice?.problem as MatmulProblem).k);
    if (products.length !== 1 || products[0] !== T * B)
      return {
        right: false,
        says: `${where}: the numbers are right, by ${products.length} products with K = ${products.join(', ')}; one with K = ${T * B} does it`,
      };
  }
  return { right: true, says: `${RECURRENCES.length} cases passed, each by one product` };
}

/** Judges a text. `name` is what errors call it. */
export function judgePart(gpu: Gpu, { family }: ExercisePart, name: string, source: string): Promise<Verdict> {
  return family === null ? judgeOneProduct(gpu, name, source) : judgeShader(gpu, family, name, source);
}

const ROUNDS = 9;

/** Times a right shader among the versions of its family, in turn: medians in milliseconds, fastest first. */
export async function placeAmongVersions(
  gpu: Gpu,
  { timed }: Exercise,
  family: string,
  name: string,
  source: string,
): Promise<{ version: string; ms: number }[]> {
  if (!timed) return [];
  using _timing = scope();
  const run = timed(gpu);
  await useShader(gpu, family, { name, source });
  try {
    const samples = new Map<string, number[]>();
    for (let round = 0; round <= ROUNDS; round++)
      for (const version of familyOf(family).names) {
        forceVersion(family, version);
        using _run = scope();
        try {
          const start = performance.now();
          noGrad(run);
          await gpu.idle();
          if (round > 0) samples.set(version, [...(samples.get(version) ?? []), performance.now() - start]); // the first compiles
        } catch (error) {
          if (!(error instanceof VersionNotApplicable)) throw error;
        } finally {
          forceVersion(family, null);
        }
      }
    const median = (list: number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
    return [...samples].map(([version, list]) => ({ version, ms: median(list) })).sort((a, b) => a.ms - b.ms);
  } finally {
    await useShader(gpu, family, null);
  }
}
